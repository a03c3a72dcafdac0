//! Run files of models that are no BERTs, and of models that go on.

use insta::assert_snapshot;

use super::*;
use crate::config::{Family, ModernBertShape};

const MODERN: &str = r#"
    method = "dwt"
    teacher.from = "runs/teacher-4l"
    data.shards = "data/wiki-books"
    [model]
    family = "modernbert"
    layers = 4
    hidden = 256
"#;

fn resolved(text: &str, sets: &[&str], facts: &Facts) -> Plan {
    let mut file = run_file(text);
    sets.iter().for_each(|assignment| file.set(assignment));
    file.resolve(facts).unwrap()
}

fn refused(text: &str, sets: &[&str], facts: &Facts) -> String {
    let mut file = run_file(text);
    sets.iter().for_each(|assignment| file.set(assignment));
    file.resolve(facts).unwrap_err().what().to_owned()
}

/// A teacher that is a ModernBERT.
fn modern_teacher() -> Facts {
    let shape = ModernBertShape { local_theta: 160_000, ..ModernBertShape::new(30522, 384, 10, 6, 7999) };
    Facts { teacher: Some(Ok(TeacherFacts { shape: shape.into(), ..teacher() })), ..facts() }
}

#[test]
fn a_modernbert_has_its_familys_defaults_and_its_plan_is_read_back() {
    let plan = resolved(MODERN, &[], &facts());
    let toml = plan.to_toml();
    assert_snapshot!(&toml[toml.find("[model]").unwrap()..toml.find("[teacher]").unwrap()], @r#"
    [model]
    family = "modernbert"
    layers = 4
    hidden = 256
    heads = 4
    intermediate = 384
    max_positions = 512
    vocab_size = 30522
    global_every = 3
    window = 128
    global_theta = 160000
    local_theta = 10000
    dropout = 0.0
    initializer_range = 0.02
    "#);
    let read: Plan = toml::from_str(&toml).unwrap();
    assert_eq!(read, plan);
    assert_ne!(plan.hash(), resolved(MODERN, &["model.window=64"], &facts()).hash());
    let taught = resolved(MODERN, &[], &modern_teacher());
    assert_eq!(
        toml::from_str::<Plan>(&taught.to_toml()).unwrap().teacher.unwrap().model.unwrap().shape.family(),
        Family::ModernBert
    );
}

#[test]
fn a_decoder_has_the_sizes_of_its_twin_and_its_plan_is_read_back() {
    let set = ["model.family=modernbert-decoder", "method=standalone", "model.window=64"];
    let mut file = run_file(&MODERN.replace("teacher.from = \"runs/teacher-4l\"", ""));
    set.iter().for_each(|assignment| file.set(assignment));
    let plan = file.resolve(&Facts { teacher: None, ..facts() }).unwrap();
    let shape = ModernBertShape { window: 64, is_causal: true, ..ModernBertShape::new(30522, 256, 4, 4, 512) };
    assert_eq!(plan.model.shape, shape.clone().into());
    assert_eq!((plan.model.shape.family(), plan.model.dropout), (Family::ModernBertDecoder, 0.0));
    assert_eq!(toml::from_str::<Plan>(&plan.to_toml()).unwrap(), plan);
    let written = serde_json::to_value(crate::config::Shape::from(shape.clone())).unwrap();
    assert_eq!(serde_json::from_value::<crate::config::Shape>(written).unwrap(), shape.into());
}

#[test]
fn models_of_several_families_train_together() {
    let text = r#"
        method = "cotrain"
        data.shards = "data/wiki-books"
        model.hidden = 256
        [models.old]
        layers = 4
        [models.new]
        family = "modernbert"
        layers = 6
    "#;
    let plan = resolved(text, &[], &Facts { teacher: None, ..facts() });
    let of = |name: &str| plan.models.iter().find(|model| model.name == name).unwrap();
    assert_eq!([of("old"), of("new")].map(|model| model.model.shape.family()), [Family::Bert, Family::ModernBert]);
    assert_eq!([of("old"), of("new")].map(|model| model.model.dropout), [0.1, 0.0]);
    assert_eq!(of("new").model.shape.widest(), 768);
}

#[test]
fn what_is_another_familys_or_cannot_be_is_said() {
    let modern = |sets: &[&str]| refused(MODERN, sets, &facts());
    let has = |found: String, wanted: &[&str]| wanted.iter().for_each(|part| assert!(found.contains(part), "{part}: {found}"));
    has(
        modern(&["model.token_types=2", "model.window=0", "model.heads=3"]),
        &[
            "model.token_types",
            "is a size of bert, and the model is a modernbert",
            "model.window",
            "is 0",
            "3 heads do not divide",
        ],
    );
    let decoder = |sets: &[&str]| modern(&[&["model.family=modernbert-decoder"], sets].concat());
    has(
        decoder(&["model.window=1"]),
        &["model.window", "is 1", "write 2 or more", "the teacher is a bert, which predicts masked tokens"],
    );
    has(
        decoder(&["model.rope_theta=9", "model.token_types=2"]),
        &[
            "is a size of llama, and the model is a modernbert-decoder",
            "is a size of bert, and the model is a modernbert-decoder",
        ],
    );
    assert!(!decoder(&["model.window=64", "model.global_every=2"]).contains("is a size of"));
    has(modern(&["model.hidden=36", "model.heads=4"]), &["4 heads are 9 wide, and rotary positions turn pairs of numbers"]);
    has(modern(&["model.family=roberta"]), &["model.family", "\"bert\" or \"modernbert\" or \"llama\""]);
    has(
        refused(DWT, &["model.window=64", "model.global_theta=10000"], &facts()),
        &["model.window", "model.global_theta", "is a size of modernbert, and the model is a bert", "family = \"modernbert\""],
    );
    has(modern(&["distill.start=remap"]), &["distill.start", "the teacher is a bert, the student a modernbert"]);
    let of_modern = refused(MODERN, &["distill.start=remap", "model.hidden=384", "model.max_positions=7999"], &modern_teacher());
    has(of_modern, &["model.local_theta", "local_theta is 10000 here and 160000 in the teacher"]);
    has(modern(&["data.held_out_mask_rate=1.5"]), &["data.held_out_mask_rate", "is 1.5"]);
}

#[test]
fn a_model_that_goes_on_is_its_teacher() {
    let text = "preset = 'continue'\nteacher.from = 'models/ettin'\ndata.shards = 'data/mine'\n";
    let plan = resolved(text, &["data.length=1024"], &modern_teacher());
    assert_eq!((plan.model.shape.layers(), plan.model.shape.max_positions(), plan.model.dropout), (10, 7999, 0.0));
    assert_eq!((plan.distill.soft.as_constant(), plan.data.length), (Some(0.0), 1024));
    let wanted = run_file(&text.replace("data.shards", "data.length = 1024\ndata.shards")).wanted();
    assert_eq!(wanted.length, 1024, "rows are cut as long as they are asked for");
    let bert = resolved(text, &["model.layers=4"], &facts());
    assert_eq!(bert.model.shape, teacher().shape);
    let found = refused(text, &["model.layers=3", "model.family=bert"], &modern_teacher());
    assert!(found.contains("layers is 3 here and 10 there") && found.contains("it is a modernbert"), "{found}");
}
