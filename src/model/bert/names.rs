//! The names that checkpoints of the BERT family give to the same tensors, made one: those of today's
//! `BertForMaskedLM`.

use crate::error::Result;
use crate::model::Weights;
use crate::model::renaming::{WRAPPERS, renamed, without_copied_decoder};

const WORDS: &str = "bert.embeddings.word_embeddings.weight";
const BIAS: &str = "cls.predictions.bias";
/// Tensors that have a row a token.
pub(in super::super) const OVER_VOCABULARY: [&str; 2] = [WORDS, BIAS];
/// A decoder of its own, where it is not the word table.
pub(in super::super) const DECODER: &str = "cls.predictions.decoder.";

/// Parts that stand before the model's own names: the key of a dictionary around the weights, or the field of a class
/// around the model. They are taken off only where the family's own names come out: `encoder.layer` is a BERT's own,
/// `encoder.embeddings` is not.
const FRONTS: [&str; 13] = [
    "state",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "bert_model",
    "base_model",
    "auto_model",
    "backbone",
    "encoder",
    "transformer",
];
/// First parts of names as the family has them, with and without their prefix.
const OWN: [&str; 12] = [
    "bert",
    "distilbert",
    "cls",
    "embeddings",
    "encoder",
    "pooler",
    "transformer",
    "vocab_transform",
    "vocab_layer_norm",
    "vocab_projector",
    "classifier",
    "pre_classifier",
];
/// What follows `bert.` or `distilbert.` where that is the field of a class around the model, not the model's own
/// prefix.
const MODELS: [&str; 9] = [
    "bert",
    "distilbert",
    "cls",
    "vocab_transform",
    "vocab_layer_norm",
    "vocab_projector",
    "classifier",
    "pre_classifier",
    "model",
];

/// A tensor's name as the family has it, and what a wrapping had put before or into it. A name of another kind stays as
/// it is.
pub(in super::super) fn unwrapped(name: &str) -> (String, String) {
    let all = name.split('.');
    let inner: Vec<&str> = all.clone().filter(|part| !WRAPPERS.contains(part)).collect();
    let is_front = |at: &usize| match (inner[*at], inner.get(at + 1)) {
        ("bert" | "distilbert", Some(next)) => MODELS.contains(next),
        (part, Some(next)) => FRONTS.contains(&part) && (OWN.contains(next) || FRONTS.contains(next)),
        (_, None) => false,
    };
    let fronts = (0..inner.len()).take_while(is_front).count();
    if !inner.get(fronts).is_some_and(|first| OWN.contains(first)) {
        return (name.to_owned(), String::new());
    }
    let (mut left, mut taken) = (fronts, String::new());
    for part in all {
        let is_front = !WRAPPERS.contains(&part) && left > 0;
        left -= usize::from(is_front);
        if is_front || WRAPPERS.contains(&part) {
            taken += &format!("{part}.");
        }
    }
    (inner[fronts..].join("."), taken)
}

/// The tensors under the names of `BertForMaskedLM`. Wrappings of the names are taken off; old layer norms (`gamma`,
/// `beta`), encoders saved without their prefix and DistilBERT are renamed; a decoder that is the word table's copy is
/// left out.
///
/// # Errors
/// When two different tensors come to the same name.
pub(in super::super) fn rename(found: Weights) -> Result<Weights> {
    let mut out = renamed(found, canonical)?;
    let decoder = |leaf: &str| format!("{DECODER}{leaf}");
    without_copied_decoder(&mut out, &decoder("weight"), WORDS);
    // Two names of one parameter in `transformers`; a file has either or both.
    if let Some(bias) = out.remove(&decoder("bias")) {
        match out.get(BIAS) {
            Some(other) if *other != bias => out.insert(&decoder("bias"), bias),
            _ => out.insert(BIAS, bias),
        }
    }
    Ok(out)
}

/// The present name of a tensor; a name that this family doesn't know stays as it is.
pub(in super::super) fn canonical(name: &str) -> String {
    let (name, _) = unwrapped(name);
    let name = name.as_str();
    let name = match name.strip_prefix("distilbert.").or(name.strip_prefix("transformer.layer.").map(|_| name)) {
        Some(inner) => of_distilbert(inner),
        None => of_distilbert_head(name).unwrap_or_else(|| name.to_owned()),
    };
    let name = match name.rsplit_once('.') {
        Some((module, "gamma")) => format!("{module}.weight"),
        Some((module, "beta")) => format!("{module}.bias"),
        _ => name,
    };
    let starts_bare = ["embeddings.", "encoder.", "pooler."].iter().any(|module| name.starts_with(module));
    if starts_bare { format!("bert.{name}") } else { name }
}

/// A name of DistilBERT's encoder, without its prefix.
fn of_distilbert(inner: &str) -> String {
    let Some((layer, part)) = inner.strip_prefix("transformer.layer.").and_then(|rest| rest.split_once('.')) else {
        return format!("bert.{inner}");
    };
    let (module, leaf) = part.rsplit_once('.').unwrap_or((part, ""));
    let module = match module {
        "attention.q_lin" => "attention.self.query",
        "attention.k_lin" => "attention.self.key",
        "attention.v_lin" => "attention.self.value",
        "attention.out_lin" => "attention.output.dense",
        "sa_layer_norm" => "attention.output.LayerNorm",
        "ffn.lin1" => "intermediate.dense",
        "ffn.lin2" => "output.dense",
        "output_layer_norm" => "output.LayerNorm",
        other => other,
    };
    format!("bert.encoder.layer.{layer}.{module}.{leaf}")
}

fn of_distilbert_head(name: &str) -> Option<String> {
    let (module, leaf) = name.rsplit_once('.')?;
    let module = match (module, leaf) {
        ("vocab_transform", _) => "cls.predictions.transform.dense",
        ("vocab_layer_norm", _) => "cls.predictions.transform.LayerNorm",
        ("vocab_projector", "weight") => "cls.predictions.decoder",
        ("vocab_projector", _) => "cls.predictions",
        _ => return None,
    };
    Some(format!("{module}.{leaf}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::HostTensor;
    use crate::model::renaming;

    #[test]
    fn every_dialect_comes_to_todays_names() {
        for (theirs, ours) in [
            ("bert.encoder.layer.3.output.LayerNorm.gamma", "bert.encoder.layer.3.output.LayerNorm.weight"),
            ("cls.predictions.transform.LayerNorm.beta", "cls.predictions.transform.LayerNorm.bias"),
            ("encoder.layer.0.attention.self.query.weight", "bert.encoder.layer.0.attention.self.query.weight"),
            ("embeddings.LayerNorm.weight", "bert.embeddings.LayerNorm.weight"),
            ("pooler.dense.bias", "bert.pooler.dense.bias"),
            ("distilbert.embeddings.word_embeddings.weight", "bert.embeddings.word_embeddings.weight"),
            ("distilbert.transformer.layer.5.attention.k_lin.bias", "bert.encoder.layer.5.attention.self.key.bias"),
            ("transformer.layer.0.sa_layer_norm.weight", "bert.encoder.layer.0.attention.output.LayerNorm.weight"),
            ("distilbert.transformer.layer.0.ffn.lin2.weight", "bert.encoder.layer.0.output.dense.weight"),
            ("vocab_projector.weight", "cls.predictions.decoder.weight"),
            ("vocab_projector.bias", "cls.predictions.bias"),
            ("vocab_layer_norm.weight", "cls.predictions.transform.LayerNorm.weight"),
            ("classifier.weight", "classifier.weight"),
        ] {
            assert_eq!(canonical(theirs), ours);
            assert_eq!(canonical(ours), ours, "a present name stays");
        }
    }

    #[test]
    fn wrappings_are_taken_off_and_told() {
        for (theirs, ours, taken) in [
            ("module.bert.embeddings.LayerNorm.weight", "bert.embeddings.LayerNorm.weight", "module."),
            ("_orig_mod.module.bert.pooler.dense.bias", "bert.pooler.dense.bias", "_orig_mod.module."),
            ("state_dict.model.embeddings.LayerNorm.gamma", "bert.embeddings.LayerNorm.weight", "state_dict.model."),
            ("model_state_dict.cls.predictions.bias", "cls.predictions.bias", "model_state_dict."),
            ("state.model.module.pooler.dense.bias", "bert.pooler.dense.bias", "state.model.module."),
            ("bert.bert.encoder.layer.0.output.dense.bias", "bert.encoder.layer.0.output.dense.bias", "bert."),
            ("bert.cls.predictions.bias", "cls.predictions.bias", "bert."),
            ("encoder.encoder.layer.1.output.dense.bias", "bert.encoder.layer.1.output.dense.bias", "encoder."),
            ("bert._orig_mod.encoder.layer.1.output.dense.bias", "bert.encoder.layer.1.output.dense.bias", "_orig_mod."),
            ("model.distilbert.transformer.layer.0.ffn.lin1.bias", "bert.encoder.layer.0.intermediate.dense.bias", "model."),
            ("model.classifier.weight", "classifier.weight", "model."),
            ("model.optimizer.state", "model.optimizer.state", ""),
            ("roberta.embeddings.LayerNorm.weight", "roberta.embeddings.LayerNorm.weight", ""),
        ] {
            assert_eq!((canonical(theirs).as_str(), unwrapped(theirs).1.as_str()), (ours, taken), "{theirs}");
        }
        let names = ["module.bert.pooler.dense.bias", "module.cls.predictions.bias", "epoch"];
        assert_eq!(
            renaming::wrappings(names.into_iter(), |name| unwrapped(name).1),
            ["the names of 2 tensors are wrapped: `module.` is taken off"]
        );
    }

    fn tensor(value: f32) -> HostTensor {
        HostTensor { shape: vec![1], values: vec![value] }
    }

    fn names(found: &[(&str, f32)]) -> Vec<String> {
        let mut weights = Weights::default();
        found.iter().for_each(|&(name, value)| weights.insert(name, tensor(value)));
        rename(weights).unwrap().iter().map(|(name, _)| name.to_owned()).collect()
    }

    #[test]
    fn a_decoder_is_left_out_where_it_is_the_word_table() {
        let words = ("embeddings.word_embeddings.weight", 1.0);
        assert_eq!(names(&[words, ("cls.predictions.decoder.weight", 1.0)]), [WORDS]);
        assert_eq!(names(&[words, ("cls.predictions.decoder.weight", 2.0)]), [WORDS, "cls.predictions.decoder.weight"]);
        assert_eq!(names(&[("cls.predictions.decoder.bias", 3.0)]), [BIAS]);
        assert_eq!(names(&[("cls.predictions.decoder.bias", 3.0), (BIAS, 3.0)]), [BIAS]);
        assert_eq!(names(&[("cls.predictions.decoder.bias", 3.0), (BIAS, 4.0)]), [BIAS, "cls.predictions.decoder.bias"]);
    }

    #[test]
    fn a_padded_table_is_cut_to_the_vocabulary() {
        let mut weights = Weights::default();
        weights.insert(WORDS, HostTensor { shape: vec![3, 2], values: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0] });
        weights.insert(BIAS, HostTensor { shape: vec![3], values: vec![7.0, 8.0, 9.0] });
        let cut = weights.with_vocabulary(2);
        assert_eq!(cut.get(WORDS).unwrap(), &HostTensor { shape: vec![2, 2], values: vec![1.0, 2.0, 3.0, 4.0] });
        assert_eq!(cut.get(BIAS).unwrap(), &HostTensor { shape: vec![2], values: vec![7.0, 8.0] });
        assert_eq!(cut.clone().with_vocabulary(5), cut);
    }

    #[test]
    fn two_tensors_of_one_name_are_refused() {
        let mut found = Weights::default();
        found.insert("bert.embeddings.LayerNorm.gamma", tensor(1.0));
        found.insert("embeddings.LayerNorm.weight", tensor(2.0));
        insta::assert_snapshot!(rename(found).unwrap_err(), @"
        the file holds bert.embeddings.LayerNorm.weight twice, and differing: as `bert.embeddings.LayerNorm.gamma` and as `embeddings.LayerNorm.weight`
        help: it mixes two models: save the one that is meant by itself
        ");
    }
}
