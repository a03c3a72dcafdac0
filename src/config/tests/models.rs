//! Run files of several models that train together.

use insta::assert_snapshot;

use super::*;

const COTRAIN: &str = r#"
    method = "cotrain"
    [data]
    shards = "data/wiki-books"
    [model]
    hidden = 768
    [models.small]
    layers = 4
    lr = "0 -> 1e-3 over 5%, then -> 0 linear"
    clip = 1.0
    [models.large]
    layers = 6
    [models.large.from.small]
    soft = "4 -> 1 linear"
"#;

fn without_teacher() -> Facts {
    Facts { teacher: None, ..facts() }
}

fn resolved(sets: &[&str]) -> Plan {
    let mut file = run_file(COTRAIN);
    sets.iter().for_each(|assignment| file.set(assignment));
    file.resolve(&without_teacher()).unwrap()
}

fn refused(text: &str, sets: &[&str], facts: &Facts) -> String {
    let mut file = run_file(text);
    sets.iter().for_each(|assignment| file.set(assignment));
    file.resolve(facts).unwrap_err().what().to_owned()
}

#[test]
fn models_take_what_they_do_not_say_from_the_shared_sections() {
    let plan = resolved(&[]);
    let [large, small] = &plan.models[..] else { panic!("two models") };
    assert_eq!((large.name.as_str(), small.name.as_str()), ("large", "small"), "the largest first");
    assert_eq!(plan.model, large.shape);
    assert_eq!((large.shape.layers, small.shape.layers, small.shape.hidden, small.shape.heads), (6, 4, 768, 12));
    assert_eq!((large.clip, small.clip, &large.lr), (5.0, 1.0, &plan.train.lr));
    assert_eq!(large.from[0].soft.to_string(), "4 -> 1 linear");
    assert_eq!((small.from[0].name.as_str(), small.from[0].soft.to_string().as_str()), ("large", "1"));
    assert_eq!(small.from[0].temperature, 2.0.into());

    let one_way = resolved(&["models.small.from.large.soft=0"]);
    assert!(one_way.models[1].from.is_empty(), "a direction of weight 0 is none");
    let narrow = resolved(&["models.small.hidden=128"]);
    assert_eq!((narrow.models[1].shape.heads, narrow.models[1].shape.intermediate), (2, 512), "rules follow the model's own width");
    let adadelta = resolved(&["models.small.optimizer=adadelta-keras"]);
    assert_eq!((adadelta.models[0].epsilon, adadelta.models[1].epsilon), (1e-6, 1e-7));
}

#[test]
fn a_fixed_teacher_is_one_more_to_learn_from() {
    let mut file = run_file(COTRAIN);
    ["teacher.from=runs/t", "models.small.from.teacher.soft=0"].iter().for_each(|set| file.set(set));
    assert_eq!(file.wanted().teacher.as_deref(), Some("runs/t"));
    let plan = file.resolve(&facts()).unwrap();
    let sources = |own: &LearnerPlan| own.from.iter().map(|from| from.name.clone()).collect::<Vec<_>>();
    assert_eq!((sources(&plan.models[0]), sources(&plan.models[1])), (vec!["small".into(), TEACHER.into()], vec!["large".into()]));
}

#[test]
fn several_models_in_words_and_in_a_file() {
    let plan = resolved(&["models.twin.layers=4", "models.small.from.twin.soft=0"]);
    assert_snapshot!(plan.describe(None), @"");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.toml");
    plan.save(&path).unwrap();
    let read = Plan::load(&path).unwrap();
    assert_eq!((&read, read.hash()), (&plan, plan.hash()));
    let text = resolved(&[]).to_toml();
    let (from, to) = (text.find("[[models]]").unwrap(), text.find("[data]").unwrap());
    assert_snapshot!(text[from..to], @"");
}

#[test]
fn the_hash_sees_what_is_a_model_s_own() {
    let mut seen = vec![resolved(&[]).hash()];
    for other in [
        "models.small.layers=3",
        "models.small.hidden=64",
        "models.small.heads=6",
        "models.small.intermediate=9",
        "models.small.dropout=0",
        "models.small.seed=1",
        "models.small.hard=2",
        "models.small.lr=1e-3",
        "models.small.optimizer=adamw",
        "models.small.weight_decay=0.1",
        "models.small.clip=2",
        "models.small.from.large.soft=2",
        "models.small.from.large.temperature=1",
        "models.tiny.layers=1",
    ] {
        let hash = resolved(&[other]).hash();
        assert!(!seen.contains(&hash), "{other}");
        seen.push(hash);
    }
    // What all models say themselves, [model] need not.
    assert_eq!(resolved(&["model.layers=9"]).hash(), seen[0]);
}

#[test]
fn work_is_the_models_and_what_they_hear() {
    let alone = |sets: &[&str]| {
        let text = "method = 'standalone'\ndata.shards = 'x'\nmodel.hidden = 768";
        let mut file = run_file(text);
        sets.iter().for_each(|set| file.set(set));
        file.resolve(&without_teacher()).unwrap().estimate()
    };
    let (large, small) = (alone(&["model.layers=6"]), alone(&["model.layers=4"]));
    let apart = resolved(&["models.small.from.large.soft=0", "models.large.from.small.soft=0"]).estimate();
    assert_eq!(apart.computed.student, large.computed.student + small.computed.student);
    assert_eq!((apart.computed.teacher, apart.memory.student), (0.0, large.memory.student + small.memory.student));
    // Each direction multiplies out the other's logits: 2 V d for each of 20 slots of 128 rows.
    let both = resolved(&[]).estimate();
    assert_eq!(both.computed.teacher, 2.0 * 20.0 * 128.0 * 2.0 * 30522.0 * 768.0);
}

#[test]
fn models_that_can_not_be_are_told_in_one_message() {
    let hostile = r#"
        method = "cotrain"
        [data]
        shards = "data/wiki-books"
        [distill]
        start = "remap"
        [models.large]
        layers = 0
        heads = 7
        lr = 0
        clip = -1
        dropout = 1.0
        hard = -1
        sead = 3
        [models.large.from.large]
        soft = 1
        [models.large.from.smal]
        soft = 1
        [models.large.from.teacher]
        soft = 1
        [models.large.from.small]
        soft = -2
        temperature = 0
        [models.model]
        layers = 2
        [models."a b"]
        lr = "0 -> 1 over 9999999999 steps, then -> 0"
        [models.small]
        layers = "four"
        hard = 0
        from.large.soft = 0
        from.model.soft = 0
        from."a b".soft = 0
    "#;
    assert_snapshot!(refused(hostile, &[], &without_teacher()), @"");
    let one = "method = 'cotrain'\ndata.shards = 'x'\nmodels = 2";
    let more = [
        refused(one, &[], &without_teacher()),
        refused(one, &["models.large=3"], &without_teacher()),
        refused(one, &["models.large.layers=3", "models.large.from.x=1", "models..layers=1"], &without_teacher()),
        refused(COTRAIN, &["method=standalone"], &without_teacher()),
        refused(COTRAIN, &["model.dropout=1", "model.heads=0", "model.hidden=99999999999"], &without_teacher()),
        refused("[[models]]\nname = 'a'", &[], &without_teacher()),
        refused("[models.large]\n", &["method=dwt"], &facts()),
    ];
    assert_snapshot!(more.join("\n\n"), @"");
}
