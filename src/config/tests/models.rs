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
    assert_eq!(plan.model, large.model);
    assert_eq!(
        [&large.model.shape, &small.model.shape].map(|shape| shape.words()),
        ["6 layers, width 768, 12 heads, feed-forward 3072", "4 layers, width 768, 12 heads, feed-forward 3072"]
    );
    assert_eq!((large.clip, small.clip, &large.lr), (5.0, 1.0, &plan.train.lr));
    assert_eq!(large.from[0].soft.to_string(), "4 -> 1 linear");
    assert_eq!((small.from[0].name.as_str(), small.from[0].soft.to_string().as_str()), ("large", "1"));
    assert_eq!(small.from[0].temperature, 2.0.into());

    let one_way = resolved(&["models.small.from.large.soft=0"]);
    assert!(one_way.models[1].from.is_empty(), "a direction of weight 0 is none");
    let narrow = resolved(&["models.small.hidden=128"]);
    assert_eq!(
        (narrow.models[1].model.shape.heads(), narrow.models[1].model.shape.widest()),
        (2, 512),
        "rules follow the model's own width"
    );
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
    assert_eq!(
        (sources(&plan.models[0]), sources(&plan.models[1])),
        (vec!["small".into(), TEACHER.into()], vec!["large".into()])
    );
}

#[test]
fn several_models_in_words_and_in_a_file() {
    let plan = resolved(&["models.twin.layers=4", "models.small.from.twin.soft=0"]);
    assert_snapshot!(plan.describe(None), @"
    cotrain: 3 models train together, plan 40c1b6b7a98bfdf0
      large      6 layers, width 768, 12 heads, feed-forward 3072, dropout 0.1; 67.0 million parameters, 66.4 million without the head
                 hard 1; soft 4 -> 1 linear from small, temperature 2; soft 1 from twin, temperature 2
      small      4 layers, width 768, 12 heads, feed-forward 3072, dropout 0.1; 52.8 million parameters, 52.2 million without the head
                 hard 1; soft 1 from large, temperature 2
                 its own: rate 0 -> 0.001 linear over 5%, then -> 0 linear, clipped at 1
      twin       4 layers, width 768, 12 heads, feed-forward 3072, dropout 0.1; 52.8 million parameters, 52.2 million without the head
                 hard 1; soft 1 from large, temperature 2; soft 1 from small, temperature 2
      data       data/wiki-books: 30,000,000 sentences, 750 million tokens (the longest 480), vocabulary 30,522
      rows       128 tokens, a sentence each, 21 % filled; 30,000,000 an epoch
      masking    15 % of the tokens, 80/10/10; 20 slots a row
      loss       hard and soft as above; soft at masked positions
      start      fresh
      training   4,687,500 steps of 128 rows, 20 epochs, 16.2 billion tokens
      rate       0 -> 5e-4 linear over 5%, then -> 0 linear
      optimizer  adam, betas (0.9, 0.98), epsilon 1e-6, weight decay 0, gradients clipped at 5
      held out   1,024 rows every 468,750 steps
      runtime    device auto, f32, 128 rows at once, all threads
      memory     about 14.5 GB: models and optimizers 3.8 GB, activations 9.9 GB, logits 302 MB, in passing 503 MB
      work       52.1 EFLOP: models 45.9 EFLOP, what they take from each other 6.2 EFLOP
    notes
      - only the abstract of co-training (Lee et al. 2023b) is public to us: what follows is chosen here
      - weights of the soft losses: small to large 4 -> 1 linear, twin to large 1, large to small 1, large to twin 1, small to twin 1
      - soft losses at masked positions, without a factor of the temperature
      - one forward pass a model a batch: partners hear what a model trains on, dropout included
      - small and twin start from the same weights: a seed of its own would tell one from the other
      - betas (0.9, 0.98), weight decay 0 and clipping at 5, unless a model has its own
      - rows of at most 128 tokens; 15 % of the tokens masked, 80/10/10
    ");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.toml");
    plan.save(&path).unwrap();
    let read = Plan::load(&path).unwrap();
    assert_eq!((&read, read.hash()), (&plan, plan.hash()));
    let text = resolved(&[]).to_toml();
    let (from, to) = (text.find("[[models]]").unwrap(), text.find("[data]").unwrap());
    assert_snapshot!(text[from..to], @r#"
    [[models]]
    name = "large"
    seed = 0
    hard = 1.0
    lr = "0 -> 5e-4 linear over 5%, then -> 0 linear"
    optimizer = "adam"
    epsilon = 0.000001
    weight_decay = 0.0
    clip = 5.0

    [[models.from]]
    name = "small"
    soft = "4 -> 1 linear"
    temperature = 2.0

    [models.shape]
    layers = 6
    hidden = 768
    heads = 12
    intermediate = 3072
    max_positions = 512
    vocab_size = 30522
    token_types = 2
    dropout = 0.1
    initializer_range = 0.02

    [[models]]
    name = "small"
    seed = 0
    hard = 1.0
    lr = "0 -> 0.001 linear over 5%, then -> 0 linear"
    optimizer = "adam"
    epsilon = 0.000001
    weight_decay = 0.0
    clip = 1.0

    [[models.from]]
    name = "large"
    soft = 1.0
    temperature = 2.0

    [models.shape]
    layers = 4
    hidden = 768
    heads = 12
    intermediate = 3072
    max_positions = 512
    vocab_size = 30522
    token_types = 2
    dropout = 0.1
    initializer_range = 0.02
    "#);
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
    assert_snapshot!(refused(hostile, &[], &without_teacher()), @r#"
    the run file has 18 mistakes
     1. models.large.sead: no such key
          did you mean `models.large.seed`?
     2. models.small.layers: found the text "four"
          write a whole number from 0
     3. models.large.clip: is -1
          write 0 or more
     4. models.large.dropout: is 1
          write a number from 0 to below 1
     5. models.large.from.small.soft: a weight of -2 is negative
          write weights of 0 or more
     6. models.large.from.small.temperature: reaches 0
          write temperatures above 0, such as 2.0
     7. models.large.hard: a weight of -1 is negative
          write weights of 0 or more
     8. models.large.lr: is 0 throughout: nothing would be learnt
          write a rate above 0, such as 5e-4
     9. models.a b: is no name for a model: its folder and its keys bear it
          write at most 32 letters, digits, - and _
    10. models.model: "model" has another meaning
          call the model something else
    11. distill.start: models that train together start with random weights
          write start = "fresh"
    12. models.large.from.large: a model does not learn from itself
          remove it, or name another model
    13. models.large.from.smal: there is no model "smal"
          the models are: a b, large, model, small
    14. models.large.from.teacher: there is no teacher
          write [teacher] from = "runs/..."
    15. models.a b.lr: `0 -> 1 linear over 9999999999 steps` ends at step 9999999999, but the run has 4687500 steps
          make the piece shorter or the run longer; `over 5%` follows the run's length
    16. models.small.hard: no weight is ever above 0: there is nothing for it to learn
          write hard = 1.0, or a partner to learn from
    17. models.large.layers: is 0
          write 1 or more
    18. models.large.heads: 7 heads do not divide the width, models.large.hidden = 768
          write 6, 8, 12, 16, 24, 32, 48
    "#);
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
    assert_snapshot!(more.join("\n\n"), @r#"
    the run file has a mistake
      models: is a section, not a key
        write the sections [models.NAME], one for each

    the run file has 2 mistakes
     1. models: is a section, not a key
          write the sections [models.NAME], one for each
     2. models.large: is a section, not a key
          write [models.large] on a line of its own, then its keys: family, layers, hidden, heads, intermediate, dropout, seed, hard, lr, optimizer, weight_decay, clip

    the run file has 3 mistakes
     1. models: is a section, not a key
          write the sections [models.NAME], one for each
     2. models.large.from.x: is a section, not a key
          write [models.large.from.x] on a line of its own, then its keys: soft, temperature
     3. models..layers: no such key
          did you mean `model.layers`?

    the run file has a mistake
      models: a standalone run trains one model, [model], and here large, small are named too
        write method = "cotrain", or remove their sections

    the run file has 5 mistakes
     1. model.dropout: is 1
          write a number from 0 to below 1
     2. model.hidden: is 99999999999
          write at most 16777216
     3. model.heads: is 0
          write 1 or more
     4. models.large.intermediate: is 399999999996
          write at most 16777216
     5. models.small.intermediate: is 399999999996
          write at most 16777216

    the run file has 3 mistakes
     1. models: is a section, not a key
          write the sections [models.NAME], one for each
     2. method: is missing
          write method = "dwt" or "standalone", or preset = "dwt-normal"
     3. data.shards: is missing
          write a folder made by `upstill data build`, or "pocket"

    the run file has 3 mistakes
     1. teacher.from: a dwt run needs a teacher
          write [teacher] from = "runs/...", or method = "standalone"
     2. models: a dwt run trains one model, [model], and here large is named too
          write method = "cotrain", or remove their sections
     3. data.shards: is missing
          write a folder made by `upstill data build`, or "pocket"
    "#);
}
