//! What wrong run files are told.

use insta::assert_snapshot;

use super::*;
use crate::error::Error;

fn mistakes(sets: &[&str], facts: &Facts) -> String {
    with(sets).resolve(facts).unwrap_err().what().to_owned()
}

/// The mistakes of one setting, without the line that counts them.
fn mistake(assignment: &str) -> String {
    mistakes(&[assignment], &facts()).split_once('\n').unwrap().1.to_owned()
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
        shape: teacher().shape.with_vocabulary(28996),
        tokenizer_hash: "0the2".into(),
        first_differing_tokens: vec![(104, "[unused99]".into(), "!".into()), (105, "[unused100]".into(), "\"".into())],
        ..teacher()
    };
    let facts = Facts { teacher: Some(Ok(other)), ..facts() };
    assert_snapshot!(run_file(text).resolve(&facts).unwrap_err(), @r#"
    the run file has 11 mistakes
     1. distil.soft: no such key
          did you mean `distill.soft`?
     2. distill.soft: expected linear, cosine, exponential, `over` or `until`, found `linar` (column 8 of "4 -> 1 linar")
          write a schedule: 2.0, "4 -> 1 linear", "1 -> 0.1 cosine over 60%", "4 until 50%, then 1", "0 -> 5e-4 over 200 steps, then -> 0 linear"
     3. distill.temprature: no such key
          did you mean `distill.temperature`?
     4. model.layers: found the text "six"
          write a whole number from 0
     5. data.length: is 4
          write 8 or more
     6. distill.hard: a weight of -1 is negative
          write weights of 0 or more
     7. distill.temperature: reaches 0
          write temperatures above 0, such as 2.0
     8. model.heads: 7 heads do not divide the width, model.hidden = 768
          write 6, 8, 12, 16, 24, 32, 48
     9. train.batch: is 0
          write 1 or more
    10. train.lr: `0 -> 5e-4 linear over 200 steps` ends at step 200, but the run has 100 steps
          make the piece shorter or the run longer; `over 5%` follows the run's length
    11. teacher.from: the teacher's vocabulary is not the data's: 28996 tokens, not 30522
            id 104: `[unused99]` in the data, `!` in the teacher
            id 105: `[unused100]` in the data, `"` in the teacher
          build the shards with the teacher's own tokenizer: `upstill data build --tokenizer TEACHER ...`
      in: run.toml
    help: mend these; `upstill plan` checks a run file without training
    "#);
}

#[test]
fn facts_that_could_not_be_found_join_the_mistakes() {
    let missing = |path: &str| Error::new(format!("could not open {path}: no such file")).help("check the path");
    let facts = Facts {
        data: Err(missing("data/wiki-books")),
        teacher: Some(Err(missing("runs/teacher-4l"))),
        others: Vec::new(),
        answers: None,
        memory_bytes: None,
        auto: None,
    };
    assert_snapshot!(mistakes(&["model.dropout=1"], &facts), @r#"
    the run file has 3 mistakes
     1. model.dropout: is 1
          write a number from 0 to below 1
     2. data.shards: could not open data/wiki-books: no such file
          help: check the path
          make the shards with `upstill data build`, or write "pocket"
     3. teacher.from: could not open runs/teacher-4l: no such file
          help: check the path
          name a run directory or a Hugging Face folder
    "#);
}

#[test]
fn a_mistake_names_the_line_of_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.toml");
    let text = "preset = \"standalone\"\n\n[model]\nlayers = 0\nwidth = 4\n[data]\nshards = \"wiki\"\n";
    std::fs::write(&path, text).unwrap();
    let mut file = RunFile::load(&path).unwrap();
    let facts = Facts { teacher: None, ..facts() };
    let said = file.resolve(&facts).unwrap_err().to_string();
    assert!(said.contains(" 1. model.width (line 5): no such key\n"), "{said}");
    assert!(said.contains(" 2. model.layers (line 4): is 0\n"), "{said}");
    // The command line's word is on no line.
    file.set("model.layers=0");
    let said = file.resolve(&facts).unwrap_err().to_string();
    assert!(said.contains(" 2. model.layers: is 0\n"), "{said}");
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
        "train.epochs=1e300",
        "train.lr=0 -> 1 over 99999999 steps, then -> 0",
        "train.batch=0",
        "train.lr=0",
        "train.lr=-1e-3",
        "train.beta2=1",
        "train.epsilon=0",
        "train.clip=-1",
        "train.evaluate_every=0",
        "runtime.micro_batch=0",
        "runtime.micro_batch=256",
        "runtime.workers=0",
        "runtime.workers=129",
        "method=cotrain",
    ]
    .into_iter()
    .map(|set| format!("{set}\n{}", mistake(set)))
    .collect();
    assert_snapshot!(all.join("\n"), @"
    model.heads=5
      model.heads: 5 heads do not divide the width, model.hidden = 768
        write 6, 8, 12, 16, 24, 32, 48
    model.hidden=0
      model.hidden: is 0
        write 1 or more
    model.dropout=-0.1
      model.dropout: is -0.1
        write a number from 0 to below 1
    model.initializer_range=0
      model.initializer_range: is 0
        write a number above 0, such as 0.02
    data.mask_rate=1
      data.mask_rate: is 1
        write a number between 0 and 1, such as 0.15
    data.rarity=-1
      data.rarity: is -1
        write 0 or more
    data.length=1024
     1. data.length: is 1024, but the student has model.max_positions = 512
          shorten the rows or raise max_positions
     2. data.length: the teacher takes rows of at most 512 tokens, but data.length = 1024
          write 512 or less
    distill.soft=1 -> -1
      distill.soft: a weight of -1 is negative
        write weights of 0 or more
    distill.temperature=2 -> 0
      distill.temperature: reaches 0
        write temperatures above 0, such as 2.0
    distill.label_smoothing=1
      distill.label_smoothing: is 1
        write a number from 0 to below 1
    train.steps=0
      train.steps: is 0
        write 1 or more
    train.epochs=0
      train.epochs: is 0
        write a number above 0, such as 1.0
    train.epochs=1e300
      train.epochs: comes to more than 9007199254740992 steps
        write fewer epochs
    train.lr=0 -> 1 over 99999999 steps, then -> 0
      train.lr: `0 -> 1 linear over 99999999 steps` ends at step 99999999, but the run has 4687500 steps
        make the piece shorter or the run longer; `over 5%` follows the run's length
    train.batch=0
      train.batch: is 0
        write 1 or more
    train.lr=0
      train.lr: is 0 throughout: nothing would be learnt
        write a rate above 0, such as 5e-4
    train.lr=-1e-3
      train.lr: a learning rate of -0.001 is negative
        write rates of 0 or more
    train.beta2=1
      train.beta2: is 1
        write a number from 0 to below 1
    train.epsilon=0
      train.epsilon: is 0
        write a number above 0, such as 1e-6
    train.clip=-1
      train.clip: is -1
        write 0 or more
    train.evaluate_every=0
      train.evaluate_every: is 0
        write 1 or more
    runtime.micro_batch=0
      runtime.micro_batch: is 0
        write 1 or more
    runtime.micro_batch=256
      runtime.micro_batch: is 256, more than train.batch = 128
        write 128 or less
    runtime.workers=0
      runtime.workers: is 0
        write 1 or more
    runtime.workers=129
      runtime.workers: is 129, but train.batch = 128, and each takes a row at least
        write 128 or less, or a larger train.batch
    method=cotrain
      models: a cotrain run trains two models or more, and there are none
        write [models.large] and [models.small], each with its layers and its width
    ");
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
    assert_snapshot!(all.join("\n"), @r#"
    model.layer=4
      model.layer: no such key
        did you mean `model.layers`?
    distil.soft=4
      distil.soft: no such key
        did you mean `distill.soft`?
    layers=4
      layers: no such key
        did you mean `model.layers`?
    train.warmup=0.05
      train.warmup: no such key
        [train] has: epochs, steps, batch, lr, optimizer, beta1, beta2, epsilon, weight_decay, clip, evaluate_every, evaluate_rows, evaluate_after, checkpoint_every, keep_checkpoints
    xyzzy=1
      xyzzy: no such key
        the sections are: model, teacher, data, held_out, distill, train, runtime, teachers.NAME, models.NAME, models.NAME.from.OTHER
    model=3
      model: is a section, not a key
        write [model] on a line of its own, then its keys: family, layers, hidden, heads, intermediate, max_positions, token_types, global_every, window, global_theta, local_theta, kv_heads, head_dim, rope_theta, tied, qk_norm, no_rope_every, dropout, initializer_range
    seed=-1
      seed: found the number -1
        write a whole number from 0
    train.batch=12.5
      train.batch: is 12.5
        write a whole number of rows
    data.whole_word=yes
      data.whole_word: found the text "yes"
        write true or false
    data.rows=padded
      data.rows: found the text "padded"
        write "sentence" or "packed"
    data.mask_rate=high
      data.mask_rate: expected a number, found `high` (column 1 of "high")
        write a schedule: 2.0, "4 -> 1 linear", "1 -> 0.1 cosine over 60%", "4 until 50%, then 1", "0 -> 5e-4 over 200 steps, then -> 0 linear"
    distill.soft=[1, 2]
      distill.soft: found the list [1, 2]
        write a schedule: 2.0, "4 -> 1 linear", "1 -> 0.1 cosine over 60%", "4 until 50%, then 1", "0 -> 5e-4 over 200 steps, then -> 0 linear"
    distill.soft=4 ->
      distill.soft: expected a number after `->`, found the end (column 5 of "4 ->")
        write a schedule: 2.0, "4 -> 1 linear", "1 -> 0.1 cosine over 60%", "4 until 50%, then 1", "0 -> 5e-4 over 200 steps, then -> 0 linear"
    preset=dwt-weak
      preset: there is no preset `dwt-weak`
        the presets are: standalone, dwt-normal, dwt-strong, dwt-decay, inherit, salt, lu-liu, switch, let, minilmv2, distilbert, continue
    train.batch
      train.batch: not `key=value`
        for example: --set train.batch=64
    "#);
}

#[test]
fn methods_and_their_teachers() {
    let lone = |text: &str| run_file(text).resolve(&Facts { teacher: None, ..facts() }).unwrap_err().what().to_owned();
    assert_snapshot!(lone(""), @r#"
    the run file has 2 mistakes
     1. method: is missing
          write method = "dwt" or "standalone", or preset = "dwt-normal"
     2. data.shards: is missing
          write a folder made by `upstill data build`, or "pocket"
    "#);
    assert_snapshot!(lone("method = 'dwt'\ndata.shards = 'pocket'"), @r#"
    the run file has a mistake
      teacher.from: a dwt run needs a teacher
        write [teacher] from = "runs/...", or method = "standalone"
    "#);
    assert_snapshot!(lone("method = 'standalone'\nteacher.from = 'a'\ndata.shards = 'pocket'\n[distill]\nsoft = 1\nstart = 'remap'"), @r#"
    the run file has 3 mistakes
     1. teacher.from: a standalone run has no teacher
          remove it, or write method = "dwt"
     2. distill.soft: a standalone run has no soft loss
          remove it, or write method = "dwt"
     3. distill.start: a standalone run has no soft loss
          remove it, or write method = "dwt"
    "#);
    assert_snapshot!(mistakes(&["distill.hard=0", "distill.soft=0"], &facts()), @"
    the run file has a mistake
      distill.hard: no weight is ever above 0: there is nothing to learn
        write hard = 1.0
    ");
    assert_snapshot!(mistakes(&["teacher.from=uniform", "distill.start=remap"], &Facts { teacher: None, ..facts() }), @r#"
    the run file has a mistake
      distill.start: the uniform teacher has no layers to start from
        write start = "fresh"
    "#);
}

#[test]
fn teachers_that_do_not_fit() {
    let of = |teacher: TeacherFacts, sets: &[&str]| mistakes(sets, &Facts { teacher: Some(Ok(teacher)), ..facts() });
    assert_snapshot!(of(TeacherFacts { has_head: false, shape: BertShape::new(30522, 768, 4, 12, 64).into(), ..teacher() }, &[]), @"
    the run file has 2 mistakes
     1. teacher.from: the teacher has no masked-language-model head
          name a model pre-trained by masked language modelling
     2. data.length: the teacher takes rows of at most 64 tokens, but data.length = 128
          write 64 or less
    ");
    let narrow = BertShape { intermediate: 3072, token_types: 0, ..BertShape::new(30522, 512, 4, 8, 512) };
    assert_snapshot!(of(TeacherFacts { shape: narrow.into(), ..teacher() }, &["distill.start=remap"]), @r#"
    the run file has 3 mistakes
     1. model.hidden: start = "remap" copies the teacher's layers, but hidden is 768 here and 512 in the teacher
          write hidden = 512, or start = "fresh"
     2. model.heads: start = "remap" copies the teacher's layers, but heads is 12 here and 8 in the teacher
          write heads = 8, or start = "fresh"
     3. model.token_types: start = "remap" copies the teacher's layers, but token_types is 2 here and 0 in the teacher
          write token_types = 0, or start = "fresh"
    "#);
    assert_snapshot!(of(TeacherFacts { tokenizer_hash: "cased".into(), ..teacher() }, &[]), @"
    the run file has a mistake
      teacher.from: the teacher's vocabulary is not the data's: the tokens are the same, but not the text normalisation
        build the shards with the teacher's own tokenizer: `upstill data build --tokenizer TEACHER ...`
    ");
}

#[test]
fn too_little_memory_names_the_rows_that_fit() {
    let small = |bytes| Facts { memory_bytes: Some(bytes), ..facts() };
    assert_snapshot!(mistakes(&["runtime.micro_batch=128"], &small(4 << 30)), @"
    the run file has a mistake
      runtime.micro_batch: 128 rows at once need about 6.7 GB, but the device has 4.3 GB
        write micro_batch = 65 or less; the result stays the same
    ");
    assert_snapshot!(mistakes(&[], &small(1 << 20)), @"
    the run file has a mistake
      runtime.micro_batch: 128 rows at once need about 6.7 GB, but the device has 1.0 MB
        not even one row fits: make the model or data.length smaller, or use another device
    ");
    with(&["runtime.micro_batch=8"]).resolve(&small(4 << 30)).unwrap();
    // Left open, it is what fits nine tenths of the memory, in equal parts.
    assert_eq!(with(&[]).resolve(&small(4 << 30)).unwrap().runtime.micro_batch, 43);
    assert_eq!(with(&[]).resolve(&small(64 << 30)).unwrap().runtime.micro_batch, 128);
    // Of three workers each has 43 rows of 128, or equal parts of these; its memory is that of what it has at once.
    let shared = |set: &[&str], bytes| with(&[&["runtime.workers=3"], set].concat()).resolve(&small(bytes)).unwrap();
    assert_eq!(shared(&[], 64 << 30).runtime.micro_batch, 43);
    assert_eq!(shared(&[], 3 << 30).runtime.micro_batch, 15);
    let (left_open, written) = (shared(&[], 64 << 30), shared(&["runtime.micro_batch=128"], 64 << 30));
    assert_eq!((written.rows_at_once(), written.estimate()), (43, left_open.estimate()));
}

#[test]
fn sizes_beyond_any_machine_are_refused_before_anything_is_made() {
    let small = Facts { memory_bytes: Some(8 << 30), ..facts() };
    let said = |set: &[&str]| mistakes(set, &small);
    assert!(said(&["train.batch=1000000000"]).contains("write at most 16777216"));
    assert!(said(&["train.batch=8000000"]).contains("batches of 8000000 rows that are prepared ahead take"));
    assert!(said(&["runtime.workers=1000000", "train.batch=2000000"]).contains("write at most 1024"));
    assert!(said(&["train.epochs=1e-9"]).contains("less than one of the"));
    let models: String = (0..3000).map(|i| format!("[models.m{i}]\nlayers = 1\n")).collect();
    let error = RunFile::parse(&format!("method = \"cotrain\"\n{models}"), "run.toml").unwrap().resolve(&small).unwrap_err();
    assert!(error.to_string().contains("there are more than 64 models"), "{error}");
}

#[test]
fn files_that_are_no_run_files() {
    assert_snapshot!(RunFile::parse("method = dwt\n", "run.toml").unwrap_err(), @"
    the run file is not TOML
    TOML parse error at line 1, column 10
      |
    1 | method = dwt
      |          ^^^
    string values must be quoted, expected literal string
      in: run.toml
    help: a line is `key = value`, a section is `[name]`, text is in quotes
    ");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.toml");
    assert!(RunFile::load(&path).unwrap_err().what().contains("could not read"));
    std::fs::write(&path, b"a = '\xff'").unwrap();
    assert_snapshot!(RunFile::load(&path).unwrap_err().what(), @"the run file is not UTF-8 from byte 5 on");
}
