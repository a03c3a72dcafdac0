//! The system of Mukherjee and Awadallah 2019 from end to end, on a small scale: what moves in which phase, what is
//! seen by whom, what an interruption keeps, and what bad input says.

use std::cell::Cell;
use std::fs;
use std::path::Path;

use upstill::config::{RunFile, TransferPlan, Vector};
use upstill::device::{Compute, Device};
use upstill::log::Console;
use upstill::model::{
    BertShape, BiLstmShape, Classifier, EncoderShape, Glove, ModelFolder, ModernBertShape, Pooling, Student, StudentShape,
    Weights,
};
use upstill::tasks::{
    Example, Label, PocketSizes, SplitOptions, Task, TransferTask, Unlabelled, draw_pocket_task, split_for_transfer,
};
use upstill::text::pocket::words;
use upstill::tokens::Tokenizer;
use upstill::train::transfer::{
    CHUNK, TransferOptions, TransferSummary, answer, phases, ready_teacher, teacher_outputs, train_transfer,
};

fn device() -> Device {
    Device::cpu("test")
}

/// A pre-trained model's folder (of random weights: what it knows is not the point here).
fn teacher(folder: &Path) -> String {
    let tokenizer = Tokenizer::train(words().into_iter().map(str::to_owned), 1024, 1).unwrap();
    let shape = BertShape::new(tokenizer.vocab_size(), 16, 1, 2, 32);
    let path = folder.join("pretrained");
    ModelFolder::write(&path, &shape.init(3, 0.1, &device().handle), &tokenizer).unwrap();
    path.display().to_string()
}

fn pocket(seed: u64) -> Task {
    draw_pocket_task("pocket-acceptability", seed, PocketSizes { train: 120, dev: 40 }).unwrap()
}

fn options(per_class: usize) -> SplitOptions {
    SplitOptions { per_class: Some(per_class), validation: 0.1, transfer: None, test: None, seed: 1 }
}

fn divided(task: &Task) -> TransferTask {
    split_for_transfer(task, &[], &options(20)).unwrap()
}

fn plan(teacher: &str, set: &[&str]) -> TransferPlan {
    let text = format!(
        "method = \"transfer\"\nseed = 1\n[model]\nwords = 8\nhidden = 8\ndropout = 0.1\n[teacher]\nfrom = {teacher:?}\nlr = 1e-3\n\
         [data]\ntask = \"pocket-acceptability\"\nper_class = 20\nlength = 24\n[train]\nbatch = 16\nrounds = 2\nround_steps = 3\noptimizer = \"adam\"\n"
    );
    let mut file = RunFile::parse(&text, "the test").unwrap();
    set.iter().for_each(|assignment| file.set(assignment));
    file.resolve_transfer().unwrap()
}

fn train(plan: &TransferPlan, task: &TransferTask, dir: &Path, shared: &Path) -> upstill::Result<TransferSummary> {
    train_until(plan, task, dir, shared, &|| false)
}

fn train_until(
    plan: &TransferPlan,
    task: &TransferTask,
    dir: &Path,
    shared: &Path,
    stop: &dyn Fn() -> bool,
) -> upstill::Result<TransferSummary> {
    let (device, console) = (device(), Console::silent());
    train_transfer(plan, task, &TransferOptions { dir, shared, name: "test", console: &console, device: &device, stop })
}

fn weights(dir: &Path) -> Weights {
    Weights::read(&dir.join("model/model.safetensors")).unwrap()
}

#[test]
fn no_test_row_is_seen_in_training_or_selection() {
    let dir = tempfile::tempdir().unwrap();
    let teacher = teacher(dir.path());
    let task = divided(&pocket(0));
    // The same but for the test set, whose texts and labels are all others.
    let mut other = task.clone();
    other.test = divided(&pocket(5)).test;
    other.test.examples.iter_mut().for_each(|example| example.label = Label::Class(0));
    let plan = plan(&teacher, &["distill.schedule=stagewise"]);
    let [one, two] = ["one", "two"].map(|name| dir.path().join(name));
    let summaries = [(&task, &one), (&other, &two)].map(|(task, dir)| train(&plan, task, dir, &dir.join("../shared")).unwrap());
    assert_eq!(weights(&one), weights(&two), "the test set changed what was learnt");
    assert_eq!(summaries[0].phases.len(), summaries[1].phases.len());
    for (a, b) in summaries[0].phases.iter().zip(&summaries[1].phases) {
        assert_eq!((a.steps, a.validation_loss), (b.steps, b.validation_loss));
    }
    assert_ne!(summaries[0].accuracy, summaries[1].accuracy, "and it is the test set that is scored");
}

#[test]
fn rows_of_the_test_set_are_left_out_of_training() {
    let mut task = pocket(0);
    let tested = task.dev[0].examples[0].clone();
    task.train.push(tested.clone());
    let unlabelled = [Unlabelled::from(&tested), Unlabelled { first: "a new text".into(), second: None }];
    let found = split_for_transfer(&task, &unlabelled, &options(20)).unwrap();
    let test: Vec<Unlabelled> = found.test.examples.iter().map(Unlabelled::from).collect();
    let labelled = found.labelled.iter().chain(&found.labelled_validation).map(Unlabelled::from);
    let seen: Vec<Unlabelled> = labelled.chain(found.all_transfer().cloned()).collect();
    assert!(seen.iter().all(|text| !test.contains(text)));
    assert_eq!(found.notes, ["left out of training because their text is in the test set: 2"]);
    // Every other row is somewhere, once.
    assert_eq!(seen.len(), 120 + 1);
    assert_eq!(found.labelled.len() + found.labelled_validation.len(), 40);
    let classes = |rows: &[Example]| [0, 1].map(|class| rows.iter().filter(|row| row.label == Label::Class(class)).count());
    assert_eq!((classes(&found.labelled), classes(&found.labelled_validation)), ([18, 18], [2, 2]));
    // Another seed keeps other labels.
    let other = split_for_transfer(&task, &unlabelled, &SplitOptions { seed: 2, ..options(20) }).unwrap();
    assert_ne!(other.labelled, found.labelled);
    assert_eq!(split_for_transfer(&task, &unlabelled, &options(20)).unwrap(), found);
}

#[test]
fn labels_of_the_transfer_set_do_not_leak() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, rows: &dyn Fn(usize) -> String| {
        let path = dir.path().join(name);
        fs::write(&path, (0..30).fold("text\tlabel\n".to_owned(), |text, at| text + &rows(at) + "\n")).unwrap();
        path.display().to_string()
    };
    let train = write("train.tsv", &|at| format!("labelled text {at}\t{}", at % 2));
    let test = write("test.tsv", &|at| format!("test text {at}\t{}", at % 2));
    let divide = |labels: &dyn Fn(usize) -> usize| {
        let unlabelled = write("more.tsv", &|at| format!("more text {at}\t{}", labels(at)));
        let text = format!(
            "method = \"transfer\"\n[teacher]\nfrom = \"t\"\n[data]\ntask = \"x\"\ntrain = {train:?}\ntest = {test:?}\nunlabelled = {unlabelled:?}\nper_class = 5\n"
        );
        let plan = RunFile::parse(&text, "the test").unwrap().resolve_transfer().unwrap();
        upstill::train::transfer::transfer_task(&plan.data, 3).unwrap()
    };
    let (one, other) = (divide(&|at| at % 2), divide(&|_| 7));
    assert_eq!(one, other, "a label of the transfer set was read");
    assert_eq!((one.labelled.len() + one.labelled_validation.len(), one.all_transfer().count()), (10, 50));
    assert!(one.all_transfer().all(|text| text.hidden().label == Label::Hidden));
}

#[test]
fn a_modernbert_is_unfrozen_from_the_top() {
    let modernbert =
        StudentShape { encoder: EncoderShape::ModernBert(ModernBertShape::new(9, 8, 2, 2, 8)), projection: 4, classes: 2 };
    let of_modernbert: Vec<Vec<String>> = modernbert.init(1, &device().handle).layers();
    assert_eq!(
        of_modernbert,
        [
            vec!["classifier.", "regression."],
            vec!["projection."],
            vec!["model.layers.1.", "model.final_norm."],
            vec!["model.layers.0."],
            vec!["model.embeddings."]
        ]
    );
}

#[test]
fn each_phase_moves_its_layers_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let from = teacher(dir.path());
    let bilstm = StudentShape {
        encoder: EncoderShape::BiLstm(BiLstmShape {
            vocab_size: 9,
            words: 4,
            hidden: 4,
            pooling: Pooling::Max,
            input_dropout: 0.0,
            recurrent_dropout: 0.0,
        }),
        projection: 16,
        classes: 2,
    };
    let layers = bilstm.init(1, &device().handle).layers();
    assert_eq!(
        layers,
        [
            vec!["classifier.", "regression."],
            vec!["projection."],
            vec!["bilstm.forward.", "bilstm.backward."],
            vec!["bilstm.words."]
        ]
    );
    let bert = StudentShape { encoder: EncoderShape::Bert(BertShape::new(9, 8, 2, 2, 8)), projection: 0, classes: 2 };
    let of_bert: Vec<String> = bert.init(1, &device().handle).layers().concat();
    assert_eq!(of_bert, ["classifier.", "regression.", "bert.encoder.layer.1.", "bert.encoder.layer.0.", "bert.embeddings."]);

    // A schedule of one round a phase; what each phase's student has that the one before had not.
    let plan = plan(&from, &["distill.schedule=distil-once", "train.rounds=1", "train.patience=1"]);
    let steps = phases(&plan.distill, 4);
    assert_eq!(steps.iter().map(|phase| phase.unfrozen).collect::<Vec<_>>(), [4, 1, 2, 3, 4]);
    use upstill::methods::{LabelledRow, Transfer, TransferRow, TransferRows};
    use upstill::model::TextRow;
    use upstill::train::{FitOptions, Flow, Learner, fit};
    let text = |at: usize| TextRow { ids: vec![1 + (at % 8) as i32, 2, 3 + (at % 5) as i32], types: vec![0; 3] };
    let rows = TransferRows {
        labelled: (0..8).map(|at| LabelledRow { text: text(at), class: at % 2 }).collect(),
        transfer: (0..8)
            .map(|at| TransferRow { text: text(at), logits: vec![1.0, -1.0], representation: vec![0.1; 16], class: at % 2 })
            .collect(),
    };
    let tracked = device().handle.autodiff();
    let mut student: Student = bilstm.init(1, &tracked);
    for phase in &steps {
        let method = Transfer {
            train: &rows,
            validation: &rows,
            loss: phase.loss,
            batch: 8,
            seed: 1,
            pad: 0,
            compute: Compute::of(&device().handle),
        };
        let train = train_plan();
        let before = Weights::of(&student);
        let learner = Learner::new(student.with_unfrozen(phase.unfrozen), &train, 0.0, 1);
        let options = FitOptions { train: &train, micro_batch: 8, done: 0, evaluated: None, worker: None };
        student = fit(&method, vec![learner], &options, |_, _| Ok(Flow::Continue)).unwrap().remove(0).model;
        let after = Weights::of(&student);
        let unfrozen: Vec<&String> = layers[..phase.unfrozen].iter().flatten().collect();
        for (name, tensor) in after.iter() {
            let may_move = unfrozen.iter().any(|start| name.starts_with(start.as_str()));
            // The head that a phase's loss does not read has no gradient.
            let idle = if phase.loss.reads_labels() { "regression." } else { "classifier." };
            let moved = before.get(name) != Some(tensor);
            assert_eq!(moved, may_move && !name.starts_with(idle), "{name} in {:?}", phase.name);
        }
    }
}

fn train_plan() -> upstill::config::TrainPlan {
    upstill::config::TrainPlan {
        steps: 3,
        batch: 8,
        batch_schedule: None,
        lr: 0.5.into(),
        optimizer: upstill::config::OptimizerKind::AdadeltaKeras,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-7,
        weight_decay: 0.0,
        clip: 0.0,
        evaluate_every: 0,
        evaluate_rows: 0,
        evaluate_after: 0,
        checkpoint_every: 0,
        keep_checkpoints: 0,
        keep_at: Vec::new(),
    }
}

#[test]
fn an_interrupted_cache_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let task = divided(&pocket(0));
    let plan = plan(&teacher(dir.path()), &[]);
    let (device, console) = (device(), Console::silent());
    let teacher = ready_teacher(&plan, plan.teacher.as_ref().unwrap(), &task, dir.path(), &device, &console).unwrap();
    let texts: Vec<Example> =
        (0..3 * CHUNK + 5).map(|at| Unlabelled { first: format!("text {at}"), second: None }.hidden()).collect();
    let ask = |texts: &[Example], stop: &dyn Fn() -> bool| {
        teacher_outputs(&teacher, texts, 24, Vector::Pooled, dir.path(), &device, stop)
    };
    let asked = Cell::new(0);
    let stopped = ask(&texts, &|| asked.replace(asked.get() + 1) == 2).unwrap_err();
    assert!(stopped.is_interrupted() && stopped.exit_code() == 130, "{stopped}");
    let whole = ask(&texts, &|| false).unwrap();
    assert_eq!((whole.found, whole.made), (2, 2));
    let again = ask(&texts, &|| panic!("nothing is left to make")).unwrap();
    assert_eq!((again.found, again.made, &again.classified), (4, 0, &whole.classified));
    // A damaged file is made again; other texts have a place of their own.
    let folder = fs::read_dir(dir.path().join("outputs")).unwrap().next().unwrap().unwrap().path();
    let chunk = folder.join("00001.safetensors");
    let bytes = fs::read(&chunk).unwrap();
    fs::write(&chunk, &bytes[..bytes.len() / 2]).unwrap();
    let mended = ask(&texts, &|| false).unwrap();
    assert_eq!((mended.found, mended.made, &mended.classified), (3, 1, &whole.classified));
    assert_eq!(ask(&texts[1..], &|| false).unwrap().found, 0);
    // It does not matter how a text's neighbours are batched.
    let alone = ask(&texts[700..701], &|| false).unwrap();
    let far = alone.classified.logits[0].iter().zip(&whole.classified.logits[700]).any(|(a, b)| (a - b).abs() > 1e-5);
    assert!(!far, "sums of another length round otherwise, and no more");
}

#[test]
fn a_student_cut_off_anywhere_goes_on_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let from = teacher(dir.path());
    let task = divided(&pocket(0));
    let plan = plan(&from, &["distill.schedule=stagewise", "distill.new_heads=true", "train.rounds=3"]);
    let whole = train(&plan, &task, &dir.path().join("whole"), dir.path()).unwrap();
    let cut = dir.path().join("cut");
    let mut times = 0;
    let summary = loop {
        // Now in the middle of a round, now at its end, now in the next phase.
        let asked = Cell::new(0);
        match train_until(&plan, &task, &cut, dir.path(), &|| asked.replace(asked.get() + 1) == 4 + times % 3) {
            Ok(summary) => break summary,
            Err(error) => assert!(error.is_interrupted(), "{error}"),
        }
        times += 1;
    };
    assert!(times > 3, "{times}");
    let numbers = |summary: &TransferSummary| {
        let phases: Vec<_> =
            summary.phases.iter().map(|phase| (phase.name.clone(), phase.steps, phase.validation_loss)).collect();
        (summary.accuracy, phases)
    };
    assert_eq!(numbers(&summary), numbers(&whole));
    assert!(weights(&cut) == weights(&dir.path().join("whole")), "the student that was cut off ended elsewhere");
    let losses = |run: &str| {
        let records = upstill::log::read_steps(&dir.path().join(run).join("steps.jsonl")).unwrap();
        records.into_iter().map(|record| (record.step, record.loss.to_bits())).collect::<Vec<_>>()
    };
    assert_eq!(losses("cut"), losses("whole"));
    assert!(!cut.join("checkpoints").exists(), "a finished run keeps its student alone");
}

#[test]
fn what_changed_under_a_student_that_was_cut_off_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let task = divided(&pocket(0));
    let plan = plan(&teacher(dir.path()), &["distill.targets=none"]);
    let (cut, asked) = (dir.path().join("cut"), Cell::new(0));
    let stopped = train_until(&plan, &task, &cut, dir.path(), &|| asked.replace(asked.get() + 1) == 1).unwrap_err();
    assert!(stopped.is_interrupted(), "{stopped}");
    let error = train(&plan, &divided(&pocket(7)), &cut, dir.path()).unwrap_err().to_string();
    assert!(error.contains("has changed since it was cut off"), "{error}");
    assert_eq!(train(&plan, &task, &cut, dir.path()).unwrap().labelled, task.labelled.len());
}

#[test]
fn a_finished_run_is_found_and_its_student_answers() {
    let dir = tempfile::tempdir().unwrap();
    let from = teacher(dir.path());
    let task = divided(&pocket(0));
    for set in [
        &["distill.targets=hard"][..],
        &["model.tokens=words", "model.states=last"],
        &["model.encoder=bert", "model.hidden=16", "model.layers=1"],
        &["model.encoder=modernbert", "model.hidden=16", "model.layers=2", "model.heads=2"],
        &["model.padding=seen", "distill.alpha=0"],
    ] {
        let plan = plan(&from, set);
        let run = dir.path().join(set.join("-"));
        let summary = train(&plan, &task, &run, dir.path()).unwrap();
        let answers = answer(&run, &task.test.examples, &device()).unwrap();
        let right = answers.iter().zip(&task.test.examples).filter(|(class, row)| row.label == Label::Class(**class)).count();
        assert_eq!(right as f64 / answers.len() as f64, summary.accuracy, "{set:?}");
        let written = fs::metadata(run.join("summary.json")).unwrap().modified().unwrap();
        assert_eq!(train(&plan, &task, &run, dir.path()).unwrap().phases[0].steps, summary.phases[0].steps);
        assert_eq!(
            fs::metadata(run.join("summary.json")).unwrap().modified().unwrap(),
            written,
            "a finished run is not repeated"
        );
        let error = train(&TransferPlan { seed: 9, ..plan }, &task, &run, dir.path()).unwrap_err().to_string();
        assert!(error.contains("another plan"), "{error}");
    }
}

#[test]
fn a_student_starts_from_a_folder_of_its_encoders_family() {
    let dir = tempfile::tempdir().unwrap();
    let from = teacher(dir.path());
    let tokenizer = Tokenizer::load(Path::new(&from)).unwrap();
    let shape = ModernBertShape { pools_mean: true, ..ModernBertShape::new(tokenizer.vocab_size(), 16, 2, 2, 32) };
    let folder = dir.path().join("modern");
    ModelFolder::write(&folder, &shape.init(5, 0.1, &device().handle), &tokenizer).unwrap();
    let model_from = format!("model.from={}", folder.display());
    let set = ["model.encoder=modernbert", &model_from, "distill.targets=hard", "train.rounds=1", "train.lr=1e-12"];
    let (task, run) = (divided(&pocket(0)), dir.path().join("run"));
    train(&plan(&from, &set), &task, &run, dir.path()).unwrap();
    let (pretrained, trained) = (Weights::read(&folder.join("model.safetensors")).unwrap(), weights(&run));
    let body = || pretrained.iter().filter(|(name, _)| name.starts_with("model."));
    assert_eq!(body().count(), 1 + 1 + 2 * 6 - 1 + 1);
    for (name, tensor) in body() {
        let found = &trained.get(name).unwrap().values;
        assert!(found.iter().zip(&tensor.values).all(|(found, wanted)| (found - wanted).abs() < 1e-6), "{name}");
    }
    // A folder of the other family is refused by both names.
    let set = [&["model.encoder=bert"], &set[1..]].concat();
    let error = train(&plan(&from, &set), &task, &dir.path().join("other"), dir.path()).unwrap_err().to_string();
    assert!(error.contains("model.from is a modernbert, and model.encoder = \"bert\""), "{error}");
}

#[test]
fn bad_input_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let from = teacher(dir.path());
    let task = divided(&pocket(0));
    // Nothing to transfer.
    let empty = TransferTask { transfer: vec![], transfer_validation: vec![], ..task.clone() };
    let error = train(&plan(&from, &[]), &empty, &dir.path().join("empty"), dir.path()).unwrap_err();
    insta::assert_snapshot!(error, @"
    the transfer set is empty: there is nothing for the teacher to label
    help: name data.unlabelled, or lower data.per_class so that labelled rows are left over
    ");
    // A teacher of three classes.
    let folder = ModelFolder::open(Path::new(&from)).unwrap();
    let classifier = Classifier::start_from(&folder.tensors().unwrap(), &folder.shape, 3, 0.02, 1, &device().handle).unwrap();
    let three = dir.path().join("three");
    fs::create_dir(&three).unwrap();
    let names = ["a", "b", "c"].map(str::to_owned);
    classifier.write_into(&three, &folder.shape, &names, &folder.tokenizer().unwrap()).unwrap();
    let error = train(&plan(&three.display().to_string(), &[]), &task, &dir.path().join("run"), dir.path()).unwrap_err();
    let text = error.to_string().replace(&dir.path().display().to_string(), "DIR");
    insta::assert_snapshot!(text, @"
    the teacher has 3 classes, and pocket-acceptability has 2: unacceptable, acceptable
      in: DIR/three
    help: take a teacher that was fine-tuned on this task, or a pre-trained model without a classifier
    ");
    // Too few rows of a class; a score.
    insta::assert_snapshot!(split_for_transfer(&pocket(0), &[], &options(61)).unwrap_err(), @r#"
    61 labelled rows of the class "unacceptable" are wanted, and there are 60 (2 at least: one to learn from, one for validation)
    help: write another data.per_class, or give more labelled rows
    "#);
    let score = draw_pocket_task("pocket-similarity", 0, PocketSizes { train: 12, dev: 6 }).unwrap();
    insta::assert_snapshot!(split_for_transfer(&score, &[], &options(2)).unwrap_err(), @"
    pocket-similarity asks for scores, and a teacher's labels are classes
    help: choose a task with classes
    ");
    // A run file with every kind of mistake.
    let text = "method = \"transfer\"\n[model]\nhiden = 3\ndropout = 1.0\n[data]\ntrain = \"x.tsv\"\nvalidation = 0\n[distill]\ntargets = \"sofd\"\nbeta = -1\n[train]\nbatch = 0\n";
    insta::assert_snapshot!(RunFile::parse(text, "bad.toml").unwrap().resolve_transfer().unwrap_err(), @r#"
    the run file has 9 mistakes
     1. distill.targets: found the text "sofd"
          write "none" or "hard" or "soft"
     2. model.hiden: no such key
          did you mean `model.hidden`?
     3. data.validation: is 0
          write a number between 0 and 1, such as 0.1
     4. distill.beta: a weight of -1 is negative
          write weights of 0 or more
     5. model.dropout: is 1
          write a number from 0 to below 1
     6. train.batch: is 0
          write 1 or more
     7. teacher.from: is missing: the student takes its targets or its tokens from a teacher
          name a fine-tuned classifier's or a pre-trained model's folder; or write targets = "none" and tokens = "words"
     8. data.task: is missing
          name a pocket task ("pocket-sentiment"), or call the files' task something
     9. data.test: is missing
          files of a task are two at least: data.train and data.test
      in: bad.toml
    help: mend these; `upstill plan` checks a run file without training
    "#);
}

#[test]
fn word_vectors_are_read_and_broken_lines_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("glove.txt");
    let vocab = ["[PAD]", "cat", "sat", "a b"].map(str::to_owned);
    let read = |text: &str, width: usize| {
        fs::write(&path, text).unwrap();
        Glove::read(&path, width, &vocab).map_err(|error| error.to_string().replace(&dir.path().display().to_string(), "DIR"))
    };
    let good = read("3 2\ncat 1 2\ndog 3 4\na b 5 6\ncat 7 8\n", 2).unwrap();
    assert_eq!(good.len(), 2);
    let shape =
        BiLstmShape { vocab_size: 4, words: 2, hidden: 2, pooling: Pooling::Max, input_dropout: 0.0, recurrent_dropout: 0.0 };
    let shape = StudentShape { encoder: EncoderShape::BiLstm(shape), projection: 0, classes: 2 };
    let before = shape.init(1, &device().handle);
    let drawn = Weights::of(&before).get("bilstm.words.weight").unwrap().values.clone();
    assert!(drawn.iter().all(|x| x.abs() <= 0.1));
    let table = Weights::of(&good.put_into(before.clone()).unwrap()).get("bilstm.words.weight").unwrap().values.clone();
    assert_eq!((&table[2..4], &table[6..]), (&[1.0, 2.0][..], &[5.0, 6.0][..]));
    assert_eq!((&table[..2], &table[4..6]), (&drawn[..2], &drawn[4..6]));
    insta::assert_snapshot!(read("cat 1 2 3\n", 2).unwrap_err(), @"
    the line has 3 numbers, and a word vector 2
      in: DIR/glove.txt:1
    help: write model.words = 3 if all lines are like it, else mend or remove the line
    ");
    insta::assert_snapshot!(read("dog 1 2\ncat 1\n", 2).unwrap_err(), @"
    the line has 1 numbers, and a word vector 2
      in: DIR/glove.txt:2
    help: write model.words = 1 if all lines are like it, else mend or remove the line
    ");
    insta::assert_snapshot!(read("dog 1 2\ncat 1 x\n", 2).unwrap_err(), @r#"
    "x" is no number
      in: DIR/glove.txt:2
    help: mend or remove the line
    "#);
    insta::assert_snapshot!(read("cat 1 2\n", 2).unwrap().put_into(wider()).unwrap_err(), @"
    the vectors are 2 wide, and the student's words 3
    help: write model.words = 2
    ");
}

fn wider() -> Student {
    let shape =
        BiLstmShape { vocab_size: 4, words: 3, hidden: 2, pooling: Pooling::Max, input_dropout: 0.0, recurrent_dropout: 0.0 };
    StudentShape { encoder: EncoderShape::BiLstm(shape), projection: 0, classes: 2 }.init(1, &device().handle)
}
