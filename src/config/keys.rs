//! Every key of a run file, in one table: name, type, default and what it means.

use std::fmt::Write as _;

use toml::Value;

use super::bounds::Bounds::{self, AtLeast, Inside, Positive, Rate, Share, Temperature, Weight};
use super::schedule::EXAMPLES;
use super::{DivergenceKind, Family, GateKind, MIN_LENGTH, Method, OptimizerKind, Positions, Rows, Schedule, Start, SumDtype};
use crate::device::{Kernels, PrecisionChoice};

/// A key of a run file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Key {
    /// Section and name: `distill.soft`. A part in capitals stands for any name: `models.NAME.layers`.
    pub path: &'static str,
    /// What may be written.
    pub kind: Kind,
    /// What holds when nothing is written.
    pub default: Fallback,
    /// Which values it may have by itself.
    pub bounds: Bounds,
    /// One line for a reader.
    pub doc: &'static str,
}

/// What may be written for a key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Any text.
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number from 0.
    Whole,
    /// A number.
    Number,
    /// `true` or `false`.
    Flag,
    /// A [`Schedule`].
    Schedule,
}

/// What holds when nothing is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fallback {
    /// This, as TOML.
    Value(&'static str),
    /// Worked out from other keys, as these words say.
    Rule(&'static str),
}

/// The words of `runtime.kernels`.
const KERNELS: &[&str] = &["auto", Kernels::WORDS[0], Kernels::WORDS[1], Kernels::WORDS[2]];

/// A value of the right type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Setting {
    Text(String),
    Whole(u64),
    Number(f64),
    Flag(bool),
    Schedule(Schedule),
}

impl Setting {
    /// As a plan has it.
    pub(super) fn into_value(self) -> Value {
        match self {
            Setting::Text(text) => Value::String(text),
            // A browser's numbers end at 2^32.
            Setting::Whole(number) => Value::Integer(number.min(usize::MAX as u64) as i64),
            Setting::Number(number) => Value::Float(number),
            Setting::Flag(set) => Value::Boolean(set),
            Setting::Schedule(schedule) => Value::try_from(schedule).expect("a schedule is a number or text"),
        }
    }

    /// A number twice, or the lowest and the highest of a schedule; none of what is no number.
    pub(super) fn range(&self) -> Option<(f64, f64)> {
        match self {
            Setting::Whole(number) => Some((*number as f64, *number as f64)),
            Setting::Number(number) => Some((*number, *number)),
            Setting::Schedule(schedule) => Some(schedule.bounds()),
            Setting::Text(_) | Setting::Flag(_) => None,
        }
    }
}

use Fallback::{Rule, Value as Is};
use Kind::{Flag, Number, Text, Whole, Word};

pub(super) const fn key(path: &'static str, kind: Kind, default: Fallback, doc: &'static str) -> Key {
    Key { path, kind, default, bounds: Bounds::Any, doc }
}

impl Key {
    /// With bounds on its values.
    pub(super) const fn within(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
    }
}

/// Every key, in the order of the reference listing.
pub const KEYS: &[Key] = &[
    key("preset", Text, Rule("none"), "a named set of keys to start from; keys of the file go over it"),
    key("method", Word(Method::WORDS), Rule("required"), "what trains what"),
    key("seed", Whole, Is("0"), "decides initial weights, order, masks and dropout"),
    key("model.family", Word(Family::WORDS), Is("\"bert\""), "what its layers are, and what it predicts"),
    key("model.layers", Whole, Is("6"), "encoder layers of the student"),
    key("model.hidden", Whole, Is("768"), "width"),
    key("model.heads", Whole, Rule("hidden / 64"), "attention heads; they divide hidden"),
    key("model.intermediate", Whole, Rule("4 hidden; modernbert 1.5, llama 8/3"), "width of the feed-forward layer"),
    key("model.max_positions", Whole, Is("512"), "longest row; of bert and gpt2, rows of the position table"),
    key("model.token_types", Whole, Is("2"), "bert: rows of the token-type table; 0 leaves it out"),
    key("model.global_every", Whole, Rule("3"), "modernbert: layers 0, 3, 6, ... attend to the whole text"),
    key("model.window", Whole, Rule("128"), "modernbert: the other layers see half of it to each side, a decoder half of it"),
    key("model.global_theta", Whole, Rule("160000"), "modernbert: base of the rotary angles in global layers"),
    key("model.local_theta", Whole, Rule("10000"), "modernbert: base of the rotary angles in the others"),
    key("model.kv_heads", Whole, Rule("heads"), "llama: heads of keys and values; they divide heads"),
    key("model.head_dim", Whole, Rule("hidden / heads"), "llama: width of a head"),
    key("model.rope_theta", Whole, Rule("10000"), "llama: base of the rotary angles"),
    key("model.tied", Flag, Rule("true"), "llama: the decoder is the word table"),
    key("model.qk_norm", Flag, Rule("false"), "llama: queries and keys are normed (Qwen3)"),
    key("model.no_rope_every", Whole, Rule("0"), "llama: each such layer has no rotary positions (SmolLM3: 4)"),
    key("model.dropout", Number, Rule("0.1; 0 for modernbert and llama"), "dropout probability").within(Share),
    key("model.initializer_range", Number, Is("0.02"), "standard deviation of the initial weights").within(Positive("0.02")),
    key("teacher.from", Text, Rule("none"), "a run directory, Hugging Face folder or cache; or \"uniform\", a control"),
    key("teacher.command", Text, Rule("none"), "a program to ask in place of a folder: on its standard input and output"),
    key("teacher.timeout_s", Number, Rule("60, of a program"), "seconds that the program may take to answer"),
    key("teacher.weight", Number, Rule("1, of an ensemble"), "what its logits weigh in the mean of an ensemble")
        .within(Positive("1.0")),
    key("data.shards", Text, Rule("required"), "a folder made by `upstill data build`; or \"pocket\", the embedded language"),
    key("data.rows", Word(Rows::WORDS), Is("\"sentence\""), "one sentence a row, or several packed with the same losses"),
    key("data.length", Whole, Is("128"), "tokens of a row, [CLS] and [SEP] included").within(AtLeast(MIN_LENGTH as f64)),
    key("data.mask_rate", Kind::Schedule, Is("0.15"), "share of real tokens predicted").within(Inside("0.15")),
    key("data.held_out_mask_rate", Number, Rule("mask_rate"), "share of held-out tokens predicted").within(Inside("0.15")),
    key("data.whole_word", Flag, Is("false"), "mask all pieces of a word together"),
    key("data.rarity", Number, Is("0.0"), "mask rare tokens more: P ~ count^-rarity (DistilBERT: 0.7)").within(AtLeast(0.0)),
    key("held_out.NAME", Text, Rule("none"), "more shards whose held-out split the trained model is scored on"),
    key("distill.hard", Kind::Schedule, Is("1.0"), "weight of the hard loss").within(Weight),
    key("distill.soft", Kind::Schedule, Is("1.0"), "weight of the soft loss").within(Weight),
    key("distill.temperature", Kind::Schedule, Is("2.0"), "temperature of the soft loss").within(Temperature),
    key("distill.tau_squared", Flag, Is("false"), "multiply the soft loss by the temperature squared"),
    key("distill.divergence", Word(DivergenceKind::WORDS), Is("\"kl\""), "how far the student is from its teacher"),
    key("distill.beta", Number, Rule("0.5, of jensen-shannon"), "the teacher's share of the mixture of jensen-shannon"),
    key("distill.fade", Number, Rule("none"), "nats below its teacher's held-out loss at which the soft weight is 0")
        .within(Positive("0.1")),
    key("distill.gate", Word(GateKind::WORDS), Is("\"none\""), "at which slots the soft loss is taken"),
    key("distill.gate_share", Number, Rule("0.2, of lowest-entropy"), "share of a batch's slots where the gate is open"),
    key("distill.switch", Flag, Is("false"), "take the hard loss only where the gate is closed"),
    key("distill.cosine", Kind::Schedule, Rule("none"), "weight of 1 - cosine between last layers (DistilBERT)").within(Weight),
    key("distill.hidden", Kind::Schedule, Rule("none"), "weight of the mean square between layers, projected (TinyBERT)")
        .within(Weight),
    key("distill.hidden_layers", Text, Rule("spread evenly"), "which: STUDENT:TEACHER, 0 the embeddings: \"0:0, 2:1, 4:2\""),
    key("distill.relations", Kind::Schedule, Rule("none"), "weight of the loss between attention relations (MiniLMv2)")
        .within(Weight),
    key("distill.relation_layers", Text, Rule("last:last"), "of which layers: \"4:2\""),
    key("distill.relation_heads", Whole, Rule("the student's heads"), "heads that relations are divided into"),
    key("distill.early", Kind::Schedule, Rule("none"), "weight of 1 - cosine of an early layer, projected, and the last (LET)")
        .within(Weight),
    key("distill.early_layers", Text, Rule("a third of the depth:last"), "which: \"2:4\""),
    key("distill.positions", Word(Positions::WORDS), Is("\"masked\""), "where the soft loss is taken"),
    key(
        "distill.start",
        Word(Start::WORDS),
        Is("\"fresh\""),
        "random weights, the teacher's remapped, or the teacher itself with its sizes",
    ),
    key("distill.label_smoothing", Number, Is("0.0"), "share of the hard target spread over the vocabulary").within(Share),
    key("train.epochs", Number, Is("20.0"), "passes over the training sentences").within(Positive("1.0")),
    key("train.steps", Whole, Rule("from epochs"), "optimizer steps, in place of epochs").within(AtLeast(1.0)),
    key("train.batch", Kind::Schedule, Is("128"), "rows an optimizer step, over all devices"),
    key("train.lr", Kind::Schedule, Is("\"0 -> 5e-4 over 5%, then -> 0 linear\""), "learning rate").within(Rate),
    key("train.optimizer", Word(OptimizerKind::WORDS), Is("\"adam\""), "update rule"),
    key("train.beta1", Number, Is("0.9"), "Adam's decay of the first moment").within(Share),
    key("train.beta2", Number, Is("0.98"), "Adam's decay of the second moment").within(Share),
    key("train.epsilon", Number, Rule("1e-6; 1e-7 for adadelta-keras"), "added to the root of the second moment")
        .within(Positive("1e-6")),
    key("train.weight_decay", Number, Is("0.0"), "weight decay; never on biases and layer norms").within(AtLeast(0.0)),
    key("train.clip", Number, Is("5.0"), "largest global gradient norm; 0 does not clip").within(AtLeast(0.0)),
    key("train.evaluate_every", Whole, Rule("steps / 10"), "steps between held-out evaluations").within(AtLeast(1.0)),
    key("train.evaluate_rows", Whole, Is("1024"), "held-out rows an evaluation, at most").within(AtLeast(1.0)),
    key("train.evaluate_after", Whole, Is("0"), "held-out rows before those, which are left out"),
    key("train.checkpoint_every", Whole, Rule("steps / 10"), "steps between checkpoints").within(AtLeast(1.0)),
    key("train.keep_checkpoints", Whole, Is("2"), "checkpoints kept besides the best").within(AtLeast(1.0)),
    key("runtime.device", Text, Is("\"auto\""), "auto, cpu, cuda or wgpu; never changes results beyond rounding"),
    key("runtime.precision", Word(PrecisionChoice::WORDS), Is("\"f32\""), "number format of the forward and backward pass"),
    key("runtime.kernels", Word(KERNELS), Is("\"auto\""), "form of the operations that have several: what measured best"),
    key("runtime.micro_batch", Whole, Rule("batch, or what fits memory"), "rows at once on one device").within(AtLeast(1.0)),
    key("runtime.workers", Whole, Is("1"), "copies of the models that share each batch, a GPU each").within(AtLeast(1.0)),
    key("runtime.threads", Whole, Is("0"), "CPU threads, of all workers together; 0 takes all"),
    key(
        "runtime.sum_dtype",
        Word(SumDtype::WORDS),
        Is("\"f32\""),
        "numbers in which several processes send each other gradients",
    ),
    key("teachers.NAME.from", Text, Rule("none"), "one more teacher: a run directory or Hugging Face folder"),
    key("teachers.NAME.weight", Number, Rule("1"), "what its logits weigh in the mean of the ensemble").within(Positive("1.0")),
    key(
        "models.NAME.family",
        Word(Family::WORDS),
        Rule("model.family"),
        "what the layers of one of the models of a cotrain run are",
    ),
    key("models.NAME.layers", Whole, Rule("model.layers"), "encoder layers of one of the models of a cotrain run"),
    key("models.NAME.hidden", Whole, Rule("model.hidden"), "its width"),
    key("models.NAME.heads", Whole, Rule("model.heads"), "its attention heads"),
    key("models.NAME.intermediate", Whole, Rule("model.intermediate"), "width of its feed-forward layer"),
    key("models.NAME.dropout", Number, Rule("model.dropout"), "its dropout probability").within(Share),
    key("models.NAME.seed", Whole, Rule("seed"), "decides its initial weights and its dropout"),
    key("models.NAME.hard", Kind::Schedule, Rule("distill.hard"), "weight of its hard loss").within(Weight),
    key("models.NAME.lr", Kind::Schedule, Rule("train.lr"), "its learning rate").within(Rate),
    key("models.NAME.optimizer", Word(OptimizerKind::WORDS), Rule("train.optimizer"), "its update rule"),
    key("models.NAME.weight_decay", Number, Rule("train.weight_decay"), "its weight decay").within(AtLeast(0.0)),
    key("models.NAME.clip", Number, Rule("train.clip"), "its largest global gradient norm").within(AtLeast(0.0)),
    key(
        "models.NAME.from.OTHER.soft",
        Kind::Schedule,
        Rule("distill.soft"),
        "weight of what it learns from another model, or from `teacher`; 0 drops it",
    )
    .within(Weight),
    key("models.NAME.from.OTHER.temperature", Kind::Schedule, Rule("distill.temperature"), "temperature of that soft loss")
        .within(Temperature),
];

/// The key of this name in a table.
pub(super) fn find(table: &'static [Key], path: &str) -> Option<&'static Key> {
    table.iter().find(|key| key.path.split('.').count() == path.split('.').count() && begins(key.path, path))
}

/// Whether keys stand below this path: `model`, `models`, `models.large.from`.
pub(super) fn is_section(table: &[Key], path: &str) -> bool {
    table.iter().any(|key| key.path.split('.').count() > path.split('.').count() && begins(key.path, path))
}

/// Whether a key begins with the parts of a path, names standing for the key's capitals.
fn begins(key: &str, path: &str) -> bool {
    key.split('.').zip(path.split('.')).all(|(key, part)| key == part || is_any(key) && !part.is_empty())
        && key.split('.').count() >= path.split('.').count()
}

/// Whether a part of a key stands for any name.
fn is_any(part: &str) -> bool {
    part.starts_with(|c: char| c.is_ascii_uppercase())
}

/// A key with a path's names in the place of its capitals, when they have equally many parts.
fn named_as(key: &str, path: &str) -> Option<String> {
    (key.split('.').count() == path.split('.').count()).then(|| {
        let parts = key.split('.').zip(path.split('.')).map(|(key, part)| if is_any(key) { part } else { key });
        parts.collect::<Vec<_>>().join(".")
    })
}

/// Section and name of a path; the section of a top-level key is empty.
pub(super) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('.').unwrap_or(("", path))
}

/// Names of a section's keys, in order.
pub(super) fn section(table: &'static [Key], name: &str) -> Vec<&'static str> {
    let within = |section: &str| named_as(section, name).is_some_and(|section| section == name);
    table.iter().map(|key| split(key.path)).filter(|(section, _)| within(section)).map(|(_, leaf)| leaf).collect()
}

/// The name that was probably meant: within the section first, then the same name elsewhere, then anywhere alike.
pub(super) fn nearest(table: &'static [Key], path: &str) -> Option<String> {
    let (section, leaf) = split(path);
    let alike = |a: &str, b: &str| strsim::normalized_damerau_levenshtein(a, b);
    let best = |keys: &mut dyn Iterator<Item = (String, f64)>| {
        keys.filter(|(_, score)| *score >= 0.6).max_by(|a, b| a.1.total_cmp(&b.1)).map(|(path, _)| path)
    };
    // A key of one of several models is meant only by a path of as many parts.
    let (of_models, plain): (Vec<&str>, Vec<&str>) =
        table.iter().map(|key| key.path).partition(|path| path.split('.').any(is_any));
    let paths = || {
        of_models
            .iter()
            .filter(|key| !is_any(split(key).1)) // any name is right there
            .filter_map(|key| named_as(key, path))
            .chain(plain.iter().map(|&key| key.to_owned()))
            .filter(|key| key != path)
    };
    best(&mut paths().filter(|path| split(path).0 == section).map(|path| (path.clone(), alike(split(&path).1, leaf))))
        .or_else(|| paths().find(|path| split(path).1 == leaf))
        .or_else(|| best(&mut paths().map(|known| (known.clone(), alike(&known, path)))))
}

impl Kind {
    /// What is wanted, in words.
    pub(super) fn wanted(self) -> String {
        match self {
            Text => "text in quotes".into(),
            Word(words) => words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" or "),
            Whole => "a whole number from 0".into(),
            Number => "a number".into(),
            Flag => "true or false".into(),
            Kind::Schedule => format!("a schedule: {EXAMPLES}"),
        }
    }

    /// Takes a TOML value for what it is, or says what is wrong with it.
    pub(super) fn read(self, value: &Value) -> Result<Setting, String> {
        let found = || Err(format!("found {}", describe(value)));
        match (self, value) {
            (Text, Value::String(text)) => Ok(Setting::Text(text.clone())),
            (Word(words), Value::String(text)) if words.contains(&text.as_str()) => Ok(Setting::Text(text.clone())),
            (Whole, Value::Integer(number)) => u64::try_from(*number).map(Setting::Whole).or_else(|_| found()),
            (Number, Value::Float(number)) if number.is_finite() => Ok(Setting::Number(*number)),
            (Number, Value::Integer(number)) => Ok(Setting::Number(*number as f64)),
            (Flag, Value::Boolean(flag)) => Ok(Setting::Flag(*flag)),
            (Kind::Schedule, Value::Float(number)) if number.is_finite() => Ok(Setting::Schedule((*number).into())),
            (Kind::Schedule, Value::Integer(number)) => Ok(Setting::Schedule((*number as f64).into())),
            (Kind::Schedule, Value::String(text)) => {
                text.parse().map(Setting::Schedule).map_err(|error: crate::Error| error.what().into())
            }
            _ => found(),
        }
    }
}

/// A value as a mistake quotes it: its type and its text.
fn describe(value: &Value) -> String {
    let kind = match value {
        Value::String(_) => "the text",
        Value::Integer(_) | Value::Float(_) => "the number",
        Value::Boolean(_) => "the flag",
        Value::Datetime(_) => "the date",
        Value::Array(_) => "the list",
        Value::Table(_) => return "a section".into(),
    };
    format!("{kind} {value}")
}

impl Key {
    /// The default as a setting; `None` for a rule.
    pub(super) fn default_setting(&self) -> Option<Setting> {
        let Is(text) = self.default else { return None };
        let table: toml::Table = format!("x = {text}").parse().ok()?;
        self.kind.read(table.get("x")?).ok()
    }
}

/// Every key of a run file with its default and meaning, as a run file: defaults that are a rule stand in a comment.
pub fn reference(table: &[Key]) -> String {
    let mut out = String::new();
    let mut last_section = "";
    for key in table {
        let (section, leaf) = split(key.path);
        if section != last_section {
            // A section of capitals is a pattern, not a section of its own.
            let _ = writeln!(out, "\n{}[{section}]", if section.split('.').any(is_any) { "# " } else { "" });
            last_section = section;
        }
        let line = match key.default {
            Is(text) => format!("{leaf} = {text}"),
            Rule(words) => format!("# {leaf}: {words}"),
        };
        let words = if let Word(words) = key.kind { format!(" ({})", words.join(" | ")) } else { String::new() };
        let _ = writeln!(out, "{line:<32} # {}{words}", key.doc);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_can_be_written_in_a_run_file() {
        for key in KEYS.iter().chain(crate::config::TRANSFER_KEYS) {
            assert!(matches!(key.default, Rule(_)) || key.default_setting().is_some(), "{}", key.path);
            assert!(!key.doc.is_empty() && !key.doc.ends_with('.'), "{}", key.path);
        }
    }

    #[test]
    fn nearest_looks_in_the_section_first() {
        for (written, meant) in [
            ("distill.temprature", "distill.temperature"),
            ("model.batch", "train.batch"),
            ("layers", "model.layers"),
            ("distil.soft", "distill.soft"),
            ("models.large.layer", "models.large.layers"),
            ("model.large.hidden", "models.large.hidden"),
            ("models.large.form.small.soft", "models.large.from.small.soft"),
        ] {
            assert_eq!(nearest(KEYS, written).as_deref(), Some(meant));
        }
        assert_eq!(nearest(KEYS, "train.xyzzy"), None);
    }

    #[test]
    fn capitals_stand_for_any_name() {
        assert_eq!(find(KEYS, "models.large.from.small.soft").unwrap().path, "models.NAME.from.OTHER.soft");
        assert!(find(KEYS, "models.large.from.small").is_none() && find(KEYS, "models..layers").is_none());
        assert!(is_section(KEYS, "models") && is_section(KEYS, "models.a.from.b") && is_section(KEYS, "train"));
        assert!(!is_section(KEYS, "train.lr") && !is_section(KEYS, "models.a.layers") && !is_section(KEYS, "modelz"));
        assert_eq!(section(KEYS, "models.a.from.b"), ["soft", "temperature"]);
    }
}
