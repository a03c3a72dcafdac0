//! What of a model's tensors is missing, wrong and left over: told from names and shapes alone, whatever the family.

use std::collections::BTreeMap;

use super::weights::Shapes;
use crate::config::{ObjectiveKind, Shape};
use crate::error::{Error, Result};

/// How a family's names speak of its layers.
#[derive(Clone, Copy)]
pub(super) struct Layers {
    /// How they begin, up to the layer's number.
    pub prefix: &'static str,
    /// Tensors of a layer.
    pub tensors: usize,
}

/// What a linear layer from `from` to `to` has.
pub(super) fn linear(out: &mut Shapes, name: &str, from: usize, to: usize) {
    out.insert(format!("{name}.weight"), vec![to, from]);
    out.insert(format!("{name}.bias"), vec![to]);
}

/// Refuses anything that is not exactly what is wanted.
///
/// # Errors
/// One that lists all of it.
pub(super) fn must_be(wanted: &Shapes, found: &Shapes, layers: Layers) -> Result<()> {
    let faults = faults(wanted, found, layers, |_| true);
    if faults.is_empty() { Ok(()) } else { Err(misfit("the model", &faults)) }
}

/// Refuses a part of a model of some shape that has faults.
///
/// # Errors
/// One that lists all of them.
pub(super) fn refuse(what: &str, shape: &Shape, faults: &[String]) -> Result<()> {
    match faults.is_empty() {
        true => Ok(()),
        false => {
            let (layers, hidden, vocab_size) = (shape.layers(), shape.hidden(), shape.vocab_size());
            Err(misfit(&format!("{what} ({layers} layers, width {hidden}, vocabulary {vocab_size} by its config.json)"), faults))
        }
    }
}

/// A family's body, for what is said of tensors that are not one.
pub(super) struct Body {
    /// "BERT", with its article.
    pub family: &'static str,
    /// What its word table is called.
    pub words: &'static str,
    /// What its layers are called.
    pub layers: Layers,
    /// Whether a tensor of this name belongs to a body.
    pub has: fn(&str) -> bool,
}

/// Refuses tensors that lack some of `wanted`, which a shape's body has, have them in other sizes, or hold more of
/// them.
///
/// # Errors
/// One that lists all of it.
pub(super) fn must_have_body(body: &Body, shape: &Shape, wanted: &Shapes, found: &Shapes) -> Result<()> {
    if found.keys().any(|name| (body.has)(name)) {
        return refuse("the body of the model", shape, &faults(wanted, found, body.layers, body.has));
    }
    let mut some: Vec<&str> = found.keys().map(String::as_str).collect();
    // What tells most comes first: the name under which a foreign model has its words.
    some.sort_by_key(|name| (!name.ends_with("word_embeddings.weight"), !name.ends_with("embeddings.weight")));
    some.truncate(3);
    let (count, Body { family, words, .. }) = (wanted.len(), body);
    Err(Error::new(format!("none of the body's {count} tensors is there; what is: {}", listed(&some)))
        .help(format!("the names must be those of {family} as `transformers` saves them: {words}")))
}

/// Refuses weights that do not predict words as upstill does: by a head, of a model of this objective, whose decoder is
/// the word table. `own` is a tensor of a decoder that is not the table, and what it should equal; `decoder` is the
/// decoder's name.
///
/// # Errors
/// One that says what keeps the model from it.
pub(super) fn must_be_tied(
    objective: ObjectiveKind,
    has_head: bool,
    own: Option<(&str, &str)>,
    is_tied: bool,
    decoder: &str,
    has_own_decoder: impl FnOnce() -> Result<bool>,
) -> Result<()> {
    let (head, otherwise) = match objective {
        ObjectiveKind::Masked => (
            "masked-language-model head",
            "it can be fine-tuned (`upstill finetune`); to predict, teach or be scored, take a model for masked language modelling",
        ),
        ObjectiveKind::Causal => {
            ("language-model head", "to predict, teach or be scored, take a model for causal language modelling")
        }
    };
    if !has_head {
        return Err(Error::new(format!("the model has no {head}, so it predicts no words")).help(otherwise));
    }
    if let Some((own, tied)) = own {
        return Err(Error::new(format!(
            "the model's decoder is not tied: {own} differs from {tied}, and upstill's decoder is the word table"
        ))
        .help(format!("{otherwise} whose decoder is tied (tie_word_embeddings)")));
    }
    if !is_tied && !has_own_decoder()? {
        return Err(Error::new(format!(
            "config.json says that the decoder is not tied (tie_word_embeddings is false), and {decoder} is missing"
        ))
        .help("save the model again with its decoder; or, if the decoder is the word table, write tie_word_embeddings = true"));
    }
    Ok(())
}

fn misfit(what: &str, faults: &[String]) -> Error {
    const SHOWN: usize = 24;
    let mut lines = faults.iter().take(SHOWN).fold(String::new(), |text, line| text + "\n  " + line);
    if faults.len() > SHOWN {
        lines += &format!("\n  and {} more", faults.len() - SHOWN);
    }
    Error::new(format!("the weights are not those of {what}:{lines}"))
        .help("config.json and the weights must belong together and be whole: fetch or save both again")
}

/// A line on each tensor of `wanted` that isn't found or has another shape, and on each that is found, is `theirs`, and
/// not wanted. A layer that is missing or left over as a whole is one line.
pub(super) fn faults(wanted: &Shapes, found: &Shapes, layers: Layers, theirs: impl Fn(&str) -> bool) -> Vec<String> {
    let missing = wanted.keys().filter(|name| !found.contains_key(*name)).map(String::as_str).collect();
    let left_over = found.keys().filter(|name| theirs(name) && !wanted.contains_key(*name)).map(String::as_str).collect();
    let differing = wanted.iter().filter_map(|(name, wanted)| {
        let found = found.get(name).filter(|found| *found != wanted)?;
        Some(format!("{name}: found {found:?}, wanted {wanted:?}"))
    });
    let mut lines = Vec::new();
    lines.extend(by_layer(missing, layers).into_iter().map(|line| format!("missing: {line}")));
    lines.extend(differing);
    lines.extend(by_layer(left_over, layers).into_iter().map(|line| format!("left over: {line}")));
    lines
}

/// Names in their order, those of a whole layer put together.
fn by_layer(names: Vec<&str>, Layers { prefix, tensors }: Layers) -> Vec<String> {
    let layer = |name: &str| Some(name.strip_prefix(prefix)?.split_once('.')?.0.to_owned());
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    names.iter().filter_map(|name| layer(name)).for_each(|layer| *counts.entry(layer).or_default() += 1);
    let mut lines: Vec<String> = Vec::new();
    for name in names {
        let line = match layer(name).filter(|layer| counts[layer] == tensors) {
            Some(layer) => format!("{prefix}{layer} (all its {tensors} tensors)"),
            None => name.to_owned(),
        };
        if lines.last() != Some(&line) {
            lines.push(line);
        }
    }
    lines
}

/// Names in a line.
fn listed(names: &[&str]) -> String {
    if names.is_empty() { "no tensor at all".to_owned() } else { names.join(", ") }
}
