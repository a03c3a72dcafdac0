//! The names that checkpoints of the BERT family give to the same tensors, made one: those of today's `BertForMaskedLM`.

use super::weights::{HostTensor, Weights};
use crate::error::{Error, Result};

const WORDS: &str = "bert.embeddings.word_embeddings.weight";
const BIAS: &str = "cls.predictions.bias";

/// The same tensors under the names of `BertForMaskedLM`. Old layer norms (`gamma`, `beta`), encoders saved without their
/// prefix and DistilBERT are renamed; a decoder that is the word table's copy is left out.
///
/// # Errors
/// When two tensors come to the same name, or the decoder is a matrix of its own.
pub(super) fn rename(found: Weights) -> Result<Weights> {
    let mut out = Weights::default();
    let mut decoder = None;
    for (name, tensor) in found.into_iter() {
        match canonical(&name).as_str() {
            "cls.predictions.decoder.weight" => decoder = Some(tensor),
            // Two names of one parameter in `transformers`; a file has either or both.
            "cls.predictions.decoder.bias" if out.get(BIAS).is_some_and(|bias| *bias == tensor) => {}
            "cls.predictions.decoder.bias" => insert(&mut out, BIAS, tensor)?,
            canonical => insert(&mut out, canonical, tensor)?,
        }
    }
    match (decoder, out.get(WORDS)) {
        (Some(decoder), Some(words)) if decoder != *words => Err(Error::new(
            "the model's decoder is a matrix of its own, and upstill's is the word table (tie_word_embeddings)",
        )
        .help("take a model whose decoder is tied, as every BERT's and DistilBERT's published for masked language modelling is")),
        _ => Ok(out),
    }
}

fn insert(weights: &mut Weights, name: &str, tensor: HostTensor) -> Result<()> {
    if weights.get(name).is_some_and(|already| *already != tensor) {
        return Err(Error::new(format!("two different tensors of the file are {name} under its present name"))
            .help("the file mixes two models: export it again"));
    }
    weights.insert(name, tensor);
    Ok(())
}

/// The present name of a tensor; a name that this family doesn't know stays as it is.
fn canonical(name: &str) -> String {
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

    fn tensor(value: f32) -> HostTensor {
        HostTensor { shape: vec![1], values: vec![value] }
    }

    #[test]
    fn a_decoder_must_be_the_word_table() {
        let with_decoder = |value| {
            let mut found = Weights::default();
            found.insert("cls.predictions.decoder.weight", tensor(value));
            found.insert("embeddings.word_embeddings.weight", tensor(1.0));
            rename(found)
        };
        assert_eq!(with_decoder(1.0).unwrap().iter().map(|(name, _)| name).collect::<Vec<_>>(), [WORDS]);
        assert!(with_decoder(2.0).unwrap_err().to_string().contains("tied"));
    }

    #[test]
    fn two_tensors_of_one_name_are_refused() {
        let mut found = Weights::default();
        found.insert("bert.embeddings.LayerNorm.gamma", tensor(1.0));
        found.insert("embeddings.LayerNorm.weight", tensor(2.0));
        assert!(rename(found).unwrap_err().to_string().contains("bert.embeddings.LayerNorm.weight"));
    }
}
