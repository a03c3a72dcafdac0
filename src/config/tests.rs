use insta::assert_snapshot;

use super::*;
use crate::error::Error;

fn data() -> DataFacts {
    DataFacts {
        shards_hash: "5ha2d5".into(),
        tokenizer_hash: "70ken".into(),
        vocab_size: 30522,
        sentences: 30_000_000,
        tokens: 750_000_000,
        held_out_sentences: 60_000,
        longest_sentence: 480,
        rows_per_epoch: 30_000_000,
        tokens_per_row: 27.0,
        slots: 20,
    }
}

fn teacher() -> TeacherFacts {
    TeacherFacts {
        layers: 4,
        hidden: 768,
        heads: 12,
        intermediate: 3072,
        max_positions: 512,
        token_types: 2,
        vocab_size: 30522,
        parameters: 52_811_322,
        tokenizer_hash: "70ken".into(),
        content_hash: "c0n7en7".into(),
        has_head: true,
        first_differing_tokens: Vec::new(),
    }
}

fn facts() -> Facts {
    Facts { data: Ok(data()), teacher: Some(Ok(teacher())), memory_bytes: None }
}

const DWT: &str = "preset = 'dwt-decay'\nteacher.from = 'runs/teacher-4l'\ndata.shards = 'data/wiki-books'\n";

fn run_file(text: &str) -> RunFile {
    RunFile::parse(text, "run.toml").unwrap()
}

fn plan() -> Plan {
    run_file(DWT).resolve(&facts()).unwrap()
}

fn with(sets: &[&str]) -> RunFile {
    let mut file = run_file(DWT);
    sets.iter().for_each(|assignment| file.set(assignment));
    file
}

fn mistakes(sets: &[&str], facts: &Facts) -> String {
    with(sets).resolve(facts).unwrap_err().what().to_owned()
}

/// The mistakes of one setting, without the line that counts them.
fn mistake(assignment: &str) -> String {
    mistakes(&[assignment], &facts()).split_once('\n').unwrap().1.to_owned()
}

#[test]
fn the_design_s_run_file_resolves_to_the_defaults_of_the_paper() {
    let text = r#"
        method = "dwt"
        seed   = 7
        [model]
        layers = 6
        hidden = 768
        heads  = 12
        [teacher]
        from   = "runs/teacher-4l"
        [data]
        shards = "data/wiki-books"
        rows   = "packed"
        length = 128
        [distill]
        hard        = 1.0
        soft        = "4 -> 1 linear"
        temperature = 2.0
        positions   = "masked"
        start       = "fresh"
        [train]
        epochs = 20
        batch  = 128
        lr     = "0 -> 5e-4 over 5%, then -> 0 linear"
        optimizer = "adam"
        [runtime]
        device    = "auto"
        precision = "bf16"
        micro_batch = 64
    "#;
    let plan = run_file(text).resolve(&facts()).unwrap();
    assert_eq!(plan.train.steps, 4_687_500);
    assert_eq!(plan.epochs(), 20.0);
    assert_snapshot!(plan.to_toml(), @"");
}

#[test]
fn a_plan_in_words() {
    assert_snapshot!(plan().describe(Some(Speed::Tokens(720_000.0))), @"");
    let alone = run_file("method = 'standalone'\ndata.shards = 'pocket'\ntrain.steps = 300\nmodel.layers = 2\nmodel.hidden = 64");
    let small =
        DataFacts { vocab_size: 600, sentences: 20_000, tokens: 180_000, rows_per_epoch: 20_000, longest_sentence: 19, ..data() };
    let facts = Facts { data: Ok(small), teacher: None, memory_bytes: Some(8 << 30) };
    assert_snapshot!(alone.resolve(&facts).unwrap().describe(Some(Speed::Flops(4e10))), @"");
}

#[test]
fn every_mistake_comes_in_one_message() {
    let text = r#"
        method = "dwt"
        [model]
        heads = 7
        layers = "six"
        [teacher]
        from = "runs/teacher-4l"
        [data]
        shards = "data/wiki-books"
        length = 4
        [distil]
        soft = 4
        [distill]
        hard = -1
        temprature = 3.0
        temperature = 0
        soft = "4 -> 1 linar"
        [train]
        steps = 100
        batch = 0
        lr = "0 -> 5e-4 over 200 steps, then -> 0"
    "#;
    let other = TeacherFacts {
        vocab_size: 28996,
        tokenizer_hash: "0the2".into(),
        first_differing_tokens: vec![(104, "[unused99]".into(), "!".into()), (105, "[unused100]".into(), "\"".into())],
        ..teacher()
    };
    let facts = Facts { teacher: Some(Ok(other)), ..facts() };
    assert_snapshot!(run_file(text).resolve(&facts).unwrap_err(), @"");
}

#[test]
fn facts_that_could_not_be_found_join_the_mistakes() {
    let missing = |path: &str| Error::new(format!("could not open {path}: no such file")).help("check the path");
    let facts =
        Facts { data: Err(missing("data/wiki-books")), teacher: Some(Err(missing("runs/teacher-4l"))), memory_bytes: None };
    assert_snapshot!(mistakes(&["model.dropout=1"], &facts), @"");
}

#[test]
fn values_that_can_not_be() {
    let all: Vec<_> = [
        "model.heads=5",
        "model.hidden=0",
        "model.dropout=-0.1",
        "model.initializer_range=0",
        "data.mask_rate=1",
        "data.rarity=-1",
        "data.length=1024",
        "distill.soft=1 -> -1",
        "distill.temperature=2 -> 0",
        "distill.label_smoothing=1",
        "train.steps=0",
        "train.epochs=0",
        "train.batch=0",
        "train.lr=0",
        "train.lr=-1e-3",
        "train.beta2=1",
        "train.epsilon=0",
        "train.clip=-1",
        "train.evaluate_every=0",
        "runtime.micro_batch=0",
        "runtime.micro_batch=256",
        "method=cotrain",
    ]
    .into_iter()
    .map(|set| format!("{set}\n{}", mistake(set)))
    .collect();
    assert_snapshot!(all.join("\n"), @"");
}

#[test]
fn keys_and_types_that_are_wrong() {
    let all: Vec<_> = [
        "model.layer=4",
        "distil.soft=4",
        "layers=4",
        "train.warmup=0.05",
        "xyzzy=1",
        "model=3",
        "seed=-1",
        "train.batch=12.5",
        "data.whole_word=yes",
        "data.rows=padded",
        "data.mask_rate=high",
        "distill.soft=[1, 2]",
        "distill.soft=4 ->",
        "preset=dwt-weak",
        "train.batch",
    ]
    .into_iter()
    .map(|set| format!("{set}\n{}", mistake(set)))
    .collect();
    assert_snapshot!(all.join("\n"), @"");
}

#[test]
fn methods_and_their_teachers() {
    let lone = |text: &str| run_file(text).resolve(&Facts { teacher: None, ..facts() }).unwrap_err().what().to_owned();
    assert_snapshot!(lone(""), @"");
    assert_snapshot!(lone("method = 'dwt'\ndata.shards = 'pocket'"), @"");
    assert_snapshot!(lone("method = 'standalone'\nteacher.from = 'a'\ndata.shards = 'pocket'\n[distill]\nsoft = 1\nstart = 'remap'"), @"");
    assert_snapshot!(mistakes(&["distill.hard=0", "distill.soft=0"], &facts()), @"");
    assert_snapshot!(mistakes(&["teacher.from=uniform", "distill.start=remap"], &Facts { teacher: None, ..facts() }), @"");
}

#[test]
fn teachers_that_do_not_fit() {
    let of = |teacher: TeacherFacts, sets: &[&str]| mistakes(sets, &Facts { teacher: Some(Ok(teacher)), ..facts() });
    assert_snapshot!(of(TeacherFacts { has_head: false, max_positions: 64, ..teacher() }, &[]), @"");
    assert_snapshot!(of(TeacherFacts { hidden: 512, heads: 8, token_types: 0, ..teacher() }, &["distill.start=remap"]), @"");
    assert_snapshot!(of(TeacherFacts { tokenizer_hash: "cased".into(), ..teacher() }, &[]), @"");
}

#[test]
fn a_remap_to_other_depths_and_a_larger_teacher_are_allowed() {
    let facts = Facts { teacher: Some(Ok(TeacherFacts { layers: 12, parameters: 109_514_298, ..teacher() })), ..facts() };
    let plan = with(&["distill.start=remap"]).resolve(&facts).unwrap();
    assert!(plan.notes().iter().any(|note| note.contains("conventional distillation")), "{:?}", plan.notes());
}

#[test]
fn too_little_memory_names_the_rows_that_fit() {
    let small = |bytes| Facts { memory_bytes: Some(bytes), ..facts() };
    assert_snapshot!(mistakes(&[], &small(4 << 30)), @"");
    assert_snapshot!(mistakes(&[], &small(1 << 20)), @"");
    with(&["runtime.micro_batch=8"]).resolve(&small(4 << 30)).unwrap();
}

#[test]
fn steps_and_epochs() {
    let steps = |sets: &[&str]| with(sets).resolve(&facts()).unwrap().train.steps;
    assert_eq!(steps(&["train.epochs=1", "train.batch=1000"]), 30_000);
    assert_eq!(steps(&["train.epochs=0.5", "train.batch=7"]), 2_142_858);
    assert_eq!(steps(&["train.epochs=2", "train.steps=9"]), 9, "the last set counts");
    let both = format!("{DWT}[train]\nsteps = 5\nepochs = 1");
    assert_snapshot!(run_file(&both).resolve(&facts()).unwrap_err().what(), @"");
}

#[test]
fn presets_resolve_and_files_go_over_them() {
    let text = |plan: &Plan| format!("{} {} {} {}", plan.method, plan.distill.hard, plan.distill.soft, plan.distill.tau_squared);
    let all: Vec<_> = RunFile::preset_names()
        .map(|name| {
            let mut file = RunFile::preset(name).unwrap();
            file.set("data.shards=pocket");
            if name != "standalone" {
                file.set("teacher.from=runs/t");
            }
            format!("{name}: {}", text(&file.resolve(&facts()).unwrap()))
        })
        .collect();
    assert_snapshot!(all.join("\n"), @"");
    assert_eq!(with(&["distill.soft=2"]).resolve(&facts()).unwrap().distill.soft, Schedule::constant(2.0));
    assert_eq!(with(&["preset=dwt-strong"]).resolve(&facts()).unwrap().distill.soft, Schedule::constant(4.0));
    assert_snapshot!(RunFile::preset("dwt-weak").unwrap_err(), @"");
}

#[test]
fn what_to_look_up_survives_mistakes() {
    let wanted = with(&["data.length=2", "data.mask_rate=7", "train.batch=0"]).wanted();
    assert_eq!((wanted.length, wanted.mask_rate, wanted.batch), (128, 0.15, 1));
    assert_eq!((wanted.shards.as_deref(), wanted.teacher.as_deref()), (Some("data/wiki-books"), Some("runs/teacher-4l")));
    assert_eq!(with(&["teacher.from=uniform"]).wanted().teacher, None);
}

#[test]
fn a_plan_survives_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.toml");
    plan().save(&path).unwrap();
    let read = Plan::load(&path).unwrap();
    assert_eq!(read, plan());
    assert_eq!(read.hash(), plan().hash());
    let uniform = with(&["teacher.from=uniform"]).resolve(&Facts { teacher: None, ..facts() }).unwrap();
    uniform.save(&path).unwrap();
    assert_eq!(Plan::load(&path).unwrap(), uniform);
    std::fs::write(&path, "method = 'dwt'").unwrap();
    assert!(Plan::load(&path).unwrap_err().to_string().contains("not a plan"));
}

#[test]
fn files_that_are_no_run_files() {
    assert_snapshot!(RunFile::parse("method = dwt\n", "run.toml").unwrap_err(), @"");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.toml");
    assert!(RunFile::load(&path).unwrap_err().what().contains("could not read"));
    std::fs::write(&path, b"a = '\xff'").unwrap();
    assert_snapshot!(RunFile::load(&path).unwrap_err().what(), @"");
}

#[test]
fn the_hash_sees_all_that_changes_results_and_nothing_else() {
    let base = plan().hash();
    let hash = |sets: &[&str]| with(sets).resolve(&facts()).unwrap().hash();
    for same in
        ["runtime.device=cpu", "runtime.precision=bf16", "runtime.micro_batch=4", "runtime.threads=3", "train.keep_checkpoints=9"]
    {
        assert_eq!(hash(&[same]), base, "{same}");
    }
    for same in ["data.shards=elsewhere", "teacher.from=elsewhere", "train.checkpoint_every=9", "distill.soft=4 -> 1"] {
        assert_eq!(hash(&[same]), base, "{same}");
    }
    let mut seen = vec![base];
    for other in [
        "seed=1",
        "model.layers=5",
        "model.heads=6",
        "model.intermediate=9",
        "model.token_types=0",
        "model.dropout=0",
        "model.initializer_range=0.01",
        "model.max_positions=256",
        "data.rows=packed",
        "data.length=64",
        "data.mask_rate=0.2",
        "data.whole_word=true",
        "data.rarity=0.7",
        "distill.hard=2",
        "distill.soft=3",
        "distill.temperature=1",
        "distill.tau_squared=true",
        "distill.positions=all",
        "distill.start=remap",
        "distill.label_smoothing=0.1",
        "train.steps=77",
        "train.batch=64",
        "train.lr=1e-3",
        "train.optimizer=adamw",
        "train.beta1=0.8",
        "train.beta2=0.999",
        "train.epsilon=1e-8",
        "train.weight_decay=0.01",
        "train.clip=1",
        "train.evaluate_every=10",
        "train.evaluate_rows=10",
    ] {
        let hash = hash(&[other]);
        assert!(!seen.contains(&hash), "{other}");
        seen.push(hash);
    }
    let retrained = Facts { teacher: Some(Ok(TeacherFacts { content_hash: "0the2".into(), ..teacher() })), ..facts() };
    assert!(!seen.contains(&run_file(DWT).resolve(&retrained).unwrap().hash()));
    let rebuilt = Facts { data: Ok(DataFacts { shards_hash: "0the2".into(), ..data() }), ..facts() };
    assert!(!seen.contains(&run_file(DWT).resolve(&rebuilt).unwrap().hash()));
}

#[test]
fn a_standalone_plan_has_nothing_of_distillation() {
    let alone = |preset: &str| {
        let mut file = run_file(&format!("preset = '{preset}'\ndata.shards = 'pocket'"));
        file.set("method=standalone");
        file.resolve(&Facts { teacher: None, ..facts() }).unwrap()
    };
    assert_eq!(alone("dwt-strong"), alone("standalone"));
    assert_eq!(alone("dwt-strong").distill.soft, Schedule::constant(0.0));
}

#[test]
fn the_reference_lists_every_key() {
    let text = reference();
    assert_snapshot!(text, @"");
}
