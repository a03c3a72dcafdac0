//! What is damaged on disk is found, or does no harm: a bit that turns, a file that is cut or gone, in every file of
//! every kind of folder that is written and read again.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::tempdir;
use upstill::config::{Plan, RunFile, TransferPlan, Vector};
use upstill::device::Device;
use upstill::log::Console;
use upstill::model::{BertShape, ModelFolder, Weights};
use upstill::study::report::write_report;
use upstill::tasks::{Example, PocketSizes, SplitOptions, Task, TransferTask, Unlabelled, draw_pocket_task, split_for_transfer};
use upstill::text::pocket::words;
use upstill::tokens::{Shards, Tokenizer};
use upstill::train::transfer::{TransferOptions, TransferSummary, ready_teacher, teacher_outputs, train_transfer};
use upstill::train::{FinetuneOptions, Finetuning, Pretrained, model_card};

use crate::common::{plan, run, run_on, shards, steps, weights};

fn cpu() -> Device {
    Device::cpu("test")
}

/// Every file below a folder, by its path there; not TensorBoard's, which nothing here reads.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false if path.to_string_lossy().contains("tfevents") => {}
                false => found.push(path.strip_prefix(folder).unwrap().to_owned()),
            }
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    for file in files(from) {
        fs::create_dir_all(to.join(&file).parent().unwrap()).unwrap();
        fs::copy(from.join(&file), to.join(&file)).unwrap();
    }
}

/// One way to damage a file's bytes.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Turned(usize),
    CutTo(usize),
}

impl Damage {
    /// Of a file of so many bytes: `turns` bits, drawn, and three cuts.
    fn drawn(length: usize, turns: usize, salt: u64) -> Vec<Self> {
        let mut state = salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below.max(1)
        };
        let turned = (0..turns).map(|_| Damage::Turned(next(8 * length)));
        turned.chain([Damage::CutTo(0), Damage::CutTo(length / 2), Damage::CutTo(length - 1)]).collect()
    }

    fn done_to(self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        match self {
            Damage::Turned(bit) => bytes[bit / 8] ^= 1 << (bit % 8),
            Damage::CutTo(length) => bytes.truncate(length),
        }
        bytes
    }
}

/// Damages each file of a copy of `whole` in turn, and looks at it: `look` gives an error's words where it finds
/// something, and else what it read, which must be what it read of the whole folder. Gives how often it was found and
/// how often it did no harm.
fn campaign<T: PartialEq + std::fmt::Debug>(
    whole: &Path,
    copied: &Path,
    look: impl Fn(&Path) -> Result<T, String>,
) -> [usize; 2] {
    copy(whole, copied);
    let wanted = look(copied).unwrap();
    let mut counts = [0, 0];
    for (number, file) in files(whole).iter().enumerate() {
        let bytes = fs::read(whole.join(file)).unwrap();
        for damage in Damage::drawn(bytes.len(), 6, number as u64 + 1) {
            copy(whole, copied);
            fs::write(copied.join(file), damage.done_to(&bytes)).unwrap();
            match look(copied) {
                Err(said) => {
                    assert!(said.contains("help: "), "{}, {damage:?}: what to do is not said: {said}", file.display());
                    counts[0] += 1;
                }
                Ok(found) => {
                    assert!(found == wanted, "{}, {damage:?}: other content, and nothing was said", file.display());
                    counts[1] += 1;
                }
            }
        }
    }
    counts
}

/// Four steps with a checkpoint each, seen to be exact elsewhere.
fn short(shards: &Shards) -> Plan {
    let set = ["preset=standalone", "model.layers=1", "train.steps=4", "train.evaluate_every=2", "train.checkpoint_every=1"];
    plan(shards, &[&set[..], &["train.keep_checkpoints=4"]].concat())
}

#[test]
fn a_run_that_goes_on_from_a_damaged_folder_ends_as_it_would_or_not_at_all() {
    let (shards, dir) = (shards(), tempdir().unwrap());
    let (whole, cut, copied) = (dir.path().join("whole"), dir.path().join("cut"), dir.path().join("copied"));
    let plan = short(&shards);
    run(&plan, &shards, &whole);
    copy(&whole, &cut);
    for gone in ["checkpoints/step-0000004", "checkpoints/step-0000001", "model"] {
        let _ = fs::remove_dir_all(cut.join(gone));
    }
    fs::remove_file(cut.join("summary.json")).unwrap();
    let losses = |dir: &Path| steps(dir).into_iter().map(|record| (record.step, record.loss.to_bits())).collect::<Vec<_>>();
    let [found, harmless] = campaign(&cut, &copied, |dir| {
        run_on(&cpu(), &plan, &shards, dir, true).map_err(|error| error.to_string())?;
        Ok((losses(dir), weights(dir)))
    });
    // A checkpoint that is damaged is passed over for the one before.
    assert!(found > 10 && harmless > 10, "{found} found, {harmless} without harm");
    assert_eq!(losses(&copied), losses(&whole));
}

#[test]
fn a_finished_run_is_read_as_it_was_written_or_not_at_all() {
    let (shards, dir) = (shards(), tempdir().unwrap());
    let (whole, copied) = (dir.path().join("whole"), dir.path().join("copied"));
    let plan = short(&shards);
    run(&plan, &shards, &whole);
    fs::remove_dir_all(whole.join("checkpoints")).unwrap();
    let [found, _] = campaign(&whole, &copied, |dir| {
        let look = || -> upstill::Result<_> {
            let model = ModelFolder::open(dir)?;
            let card = model_card(&model)?;
            write_report(&[dir.to_owned()], &dir.join("report.html"))?;
            let report = fs::read_to_string(dir.join("report.html")).unwrap();
            let summary = run_on(&cpu(), &plan, &shards, dir, true)?;
            Ok((model.weights()?, model.tokenizer()?.hash().to_owned(), card, report, format!("{summary:?}")))
        };
        look().map_err(|error| error.to_string())
    });
    assert!(found > 40, "{found} found");
}

#[test]
fn checkpoints_as_teachers_and_exports_are_what_was_written() {
    let (shards, dir) = (shards(), tempdir().unwrap());
    let (whole, copied) = (dir.path().join("whole"), dir.path().join("copied"));
    run(&short(&shards), &shards, &whole);
    let exported = dir.path().join("exported");
    let model = ModelFolder::open(&whole).unwrap();
    fs::create_dir(&exported).unwrap();
    ModelFolder::export_into(&exported, &model.load(&cpu().handle).unwrap(), &model.tokenizer().unwrap(), "a card").unwrap();
    for folder in [whole.join("checkpoints/step-0000004"), exported.clone()] {
        let [found, _] = campaign(&folder, &copied, |dir| {
            let look = || -> upstill::Result<_> {
                let model = ModelFolder::open(dir)?;
                Ok((model.weights()?, model.shape.clone(), model.tokenizer()?.hash().to_owned()))
            };
            look().map_err(|error| error.to_string())
        });
        assert!(found > 20, "{found} found");
    }
    // What a person changed on purpose can be said to be so.
    fs::write(exported.join("README.md"), "mine").unwrap();
    ModelFolder::open(&exported).unwrap();
    let config = fs::read_to_string(exported.join("config.json")).unwrap();
    fs::write(exported.join("config.json"), config.replacen('{', "{ ", 1)).unwrap();
    let error = ModelFolder::open(&exported).unwrap_err().to_string();
    assert!(error.contains("config.json is altered") && error.contains("delete checksums.json"), "{error}");
    fs::remove_file(exported.join("checksums.json")).unwrap();
    ModelFolder::open(&exported).unwrap();
}

#[test]
fn a_data_folder_is_what_was_written() {
    let (shards, dir) = (shards(), tempdir().unwrap());
    let (whole, copied) = (dir.path().join("whole"), dir.path().join("copied"));
    upstill::files::write_files(&whole, &shards.files().unwrap()).unwrap();
    let [found, _] = campaign(&whole, &copied, |dir| {
        let shards = Shards::open(dir).map_err(|error| error.to_string())?;
        let shown = upstill::tokens::Manifest::read(dir).map_err(|error| error.to_string())?.to_string();
        Ok((shards.hash().to_owned(), shards.token_counts().to_vec(), shown))
    });
    assert!(found > 20, "{found} found");
}

fn pretrained() -> Pretrained {
    let tokenizer = Tokenizer::train(words().into_iter().map(str::to_owned), 1024, 1).unwrap();
    let shape = BertShape::new(tokenizer.vocab_size(), 16, 1, 2, 32);
    let weights = Weights::of(&shape.init(3, 0.1, &cpu().handle));
    Pretrained { shape: shape.into(), weights, tokenizer, initializer_range: 0.02 }
}

fn pocket(train: usize) -> Task {
    draw_pocket_task("pocket-acceptability", 0, PocketSizes { train, dev: 20 }).unwrap()
}

#[test]
fn scores_that_were_kept_are_what_was_written() {
    let dir = tempdir().unwrap();
    let (whole, copied) = (dir.path().join("whole"), dir.path().join("copied"));
    let (pretrained, mut task, device, console) = (pretrained(), pocket(32), cpu(), Console::silent());
    task.test = task.dev.clone();
    let options = FinetuneOptions { lr: 1e-3, epochs: 1.0, ..FinetuneOptions::default() };
    let tuning = Finetuning::new(&pretrained, &task, &options, &device, &console).unwrap();
    tuning.run_seeds(1, Some(&whole)).unwrap();
    // What is made again is made of the same seed.
    let timeless =
        |scores: Vec<upstill::train::SeedScores>| scores.into_iter().map(|s| (s.seed, s.scores, s.confusion)).collect::<Vec<_>>();
    let [found, _] = campaign(&whole, &copied, |dir| {
        let look = || -> upstill::Result<_> {
            let scores = timeless(tuning.run_seeds(1, Some(dir))?);
            let model = ModelFolder::open(&dir.join("pocket-acceptability/model"))?;
            let files: Vec<PathBuf> =
                files(dir).into_iter().filter(|name| name.extension().is_some_and(|end| end == "tsv")).collect();
            let predictions: Vec<String> = files.iter().map(|name| fs::read_to_string(dir.join(name)).unwrap()).collect();
            Ok((scores, model.tensors()?, predictions))
        };
        look().map_err(|error| error.to_string())
    });
    assert!(found > 20, "{found} found");
}

fn divided() -> TransferTask {
    let options = SplitOptions { per_class: Some(12), validation: 0.2, transfer: Some(24), test: None, seed: 1 };
    split_for_transfer(&pocket(80), &[], &options).unwrap()
}

fn transfer_plan(teacher: &Path) -> TransferPlan {
    let text = format!(
        "method = \"transfer\"\nseed = 1\n[model]\nwords = 8\nhidden = 8\n[teacher]\nfrom = {teacher:?}\nlr = 1e-3\nepochs = 1.0\n\
         [data]\ntask = \"pocket-acceptability\"\nper_class = 12\nlength = 24\n[train]\nbatch = 16\nrounds = 2\nround_steps = 3\noptimizer = \"adam\"\n"
    );
    RunFile::parse(&text, "the test").unwrap().resolve_transfer().unwrap()
}

fn train(plan: &TransferPlan, dir: &Path, shared: &Path, stop: &dyn Fn() -> bool) -> upstill::Result<TransferSummary> {
    let (device, console) = (cpu(), Console::silent());
    let options = TransferOptions { dir, shared, name: "test", console: &console, device: &device, stop };
    train_transfer(plan, &divided(), &options)
}

#[test]
fn a_transfer_run_its_teacher_and_what_that_said_are_what_was_written() {
    let dir = tempdir().unwrap();
    let model = pretrained();
    let from = dir.path().join("pretrained");
    ModelFolder::write(&from, &model.weights.load_into(model.shape.init(0, 0.0, &cpu().handle)).unwrap(), &model.tokenizer)
        .unwrap();
    let plan = transfer_plan(&from);
    let (whole, copied) = (dir.path().join("whole"), dir.path().join("copied"));

    // The teacher and its outputs: what is damaged is made again, to the bit.
    let (device, console, task) = (cpu(), Console::silent(), divided());
    let texts: Vec<Example> = task.all_transfer().map(Unlabelled::hidden).collect();
    let ask = |shared: &Path| -> upstill::Result<_> {
        let teacher = ready_teacher(&plan, plan.teacher.as_ref().unwrap(), &task, shared, &device, &console)?;
        Ok((teacher.hash.clone(), teacher_outputs(&teacher, &texts, 24, Vector::Pooled, shared, &device, &|| false)?.classified))
    };
    ask(&whole).unwrap();
    let [found, harmless] = campaign(&whole, &copied, |shared| ask(shared).map_err(|error| error.to_string()));
    assert!(found == 0 && harmless > 20, "{found} found, {harmless} made again");

    // Cut off in the middle of a phase.
    let (cut, shared) = (dir.path().join("cut"), dir.path().join("shared"));
    let asked = std::cell::Cell::new(0);
    let stopped = train(&plan, &cut, &shared, &|| asked.replace(asked.get() + 1) == 4).unwrap_err();
    assert!(stopped.is_interrupted(), "{stopped}");
    let student = |dir: &Path| Weights::read(&dir.join("model/model.safetensors")).unwrap();
    let [found, _] = campaign(&cut, &copied, |dir| {
        let summary = train(&plan, dir, &shared, &|| false).map_err(|error| error.to_string())?;
        Ok((summary.accuracy.to_bits(), student(dir)))
    });
    assert!(found > 20, "{found} found");

    // And finished.
    let done = dir.path().join("done");
    train(&plan, &done, &shared, &|| false).unwrap();
    let [found, _] = campaign(&done, &copied, |dir| {
        let look = || -> upstill::Result<_> {
            let summary = train(&plan, dir, &shared, &|| false)?;
            let texts = &divided().test.examples;
            Ok((format!("{summary:?}"), upstill::train::transfer::answer(dir, texts, &cpu())?))
        };
        look().map_err(|error| error.to_string())
    });
    assert!(found > 20, "{found} found");
}

#[test]
fn what_a_damaged_run_says_leads_on() {
    let (shards, dir) = (shards(), tempdir().unwrap());
    let (whole, run_dir) = (dir.path().join("whole"), dir.path().join("run"));
    let plan = short(&shards);
    run(&plan, &shards, &whole);
    copy(&whole, &run_dir);
    let resumed = || run_on(&cpu(), &plan, &shards, &run_dir, true).map_err(|error| error.to_string());
    // A model that turned: its run is found finished no more, and is written again.
    let model = run_dir.join("model/model.safetensors");
    let mut bytes = fs::read(&model).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&model, bytes).unwrap();
    for said in [resumed().unwrap_err(), ModelFolder::open(&run_dir).unwrap_err().to_string()] {
        assert!(said.contains("model/model.safetensors is altered") && said.contains("delete summary.json"), "{said}");
    }
    fs::remove_file(run_dir.join("summary.json")).unwrap();
    resumed().unwrap();
    assert_eq!(weights(&run_dir), weights(&whole));
    // A summary and a record of the run that were cut.
    for name in ["summary.json", "run.json"] {
        let text = fs::read_to_string(run_dir.join(name)).unwrap();
        if name == "run.json" {
            fs::remove_file(run_dir.join("summary.json")).unwrap();
        }
        fs::write(run_dir.join(name), &text[..text.len() / 2]).unwrap();
        let said = resumed().unwrap_err();
        assert!(said.contains("cut short") && said.contains(name) && said.contains("delete it"), "{said}");
        fs::remove_file(run_dir.join(name)).unwrap();
        resumed().unwrap();
        assert_eq!(weights(&run_dir), weights(&whole));
    }
    // Records behind the checkpoint.
    fs::remove_file(run_dir.join("summary.json")).unwrap();
    let lines = fs::read_to_string(run_dir.join("steps.jsonl")).unwrap();
    let two: String = lines.split_inclusive('\n').take(2).collect();
    fs::write(run_dir.join("steps.jsonl"), &two).unwrap();
    let said = resumed().unwrap_err();
    assert!(said.contains("the record of step 3 is missing") && said.contains("delete the checkpoints after step 2"), "{said}");
    assert_eq!(fs::read_to_string(run_dir.join("steps.jsonl")).unwrap(), two, "nothing was lost over it");
    for step in [3, 4] {
        fs::remove_dir_all(run_dir.join(format!("checkpoints/step-000000{step}"))).unwrap();
    }
    resumed().unwrap();
    assert_eq!((steps(&run_dir), weights(&run_dir)), (steps(&whole), weights(&whole)));
}
