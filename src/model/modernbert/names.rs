//! The names that checkpoints of the family give to the same tensors, made one: those of `ModernBertForMaskedLM`, or of
//! `ModernBertDecoderForCausalLM`.

use crate::error::Result;
use crate::model::Weights;
use crate::model::renaming::{self, renamed, without_copied_decoder};

/// The word table.
pub(super) const WORDS: &str = "model.embeddings.tok_embeddings.weight";
/// The decoder's bias.
pub(super) const BIAS: &str = "decoder.bias";
/// The decoder; its matrix is the word table.
pub(in super::super) const DECODER: &str = "decoder.";
/// Tensors that have a row a token.
pub(in super::super) const OVER_VOCABULARY: [&str; 2] = [WORDS, BIAS];

/// How names begin of what stands before the decoder: of an encoder, or of a causal model.
pub(super) fn head(is_causal: bool) -> &'static str {
    if is_causal { "lm_head." } else { "head." }
}

/// First parts of the names of a `ModernBertModel`, which a `ModernBertForMaskedLM` has below `model.`.
const BARE: [&str; 3] = ["embeddings", "layers", "final_norm"];

/// A tensor's name as the family has it, and what a wrapping had put before or into it; one that this family doesn't
/// know stays as it is.
pub(in super::super) fn unwrapped(name: &str) -> (String, String) {
    renaming::unwrapped(name, "model", &BARE, &["head", "lm_head", "decoder", "classifier"])
}

/// The tensors under the family's names. Wrappings of the names are taken off; bodies saved without
/// their prefix get it; a decoder that is the word table's copy is left out.
///
/// # Errors
/// When two different tensors come to the same name.
pub(in super::super) fn rename(found: Weights) -> Result<Weights> {
    let mut out = renamed(found, |name| unwrapped(name).0)?;
    without_copied_decoder(&mut out, &format!("{DECODER}weight"), WORDS);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::HostTensor;

    #[test]
    fn every_wrapping_comes_to_todays_names() {
        for (theirs, ours, taken) in [
            ("model.layers.3.attn.Wqkv.weight", "model.layers.3.attn.Wqkv.weight", ""),
            ("layers.0.mlp.Wi.weight", "model.layers.0.mlp.Wi.weight", ""),
            ("embeddings.tok_embeddings.weight", WORDS, ""),
            ("final_norm.weight", "model.final_norm.weight", ""),
            ("module._orig_mod.model.final_norm.weight", "model.final_norm.weight", "module._orig_mod."),
            ("model.layers.0._orig_mod.mlp.Wi.weight", "model.layers.0.mlp.Wi.weight", "_orig_mod."),
            ("state_dict.head.dense.weight", "head.dense.weight", "state_dict."),
            ("decoder.bias", "decoder.bias", ""),
            ("module.lm_head.dense.weight", "lm_head.dense.weight", "module."),
            ("bert.encoder.layer.0.output.dense.bias", "bert.encoder.layer.0.output.dense.bias", ""),
        ] {
            assert_eq!(unwrapped(theirs), (ours.to_owned(), taken.to_owned()), "{theirs}");
        }
    }

    #[test]
    fn a_decoder_is_left_out_where_it_is_the_word_table() {
        let tensor = |value: f32| HostTensor { shape: vec![1], values: vec![value] };
        let names = |decoder: f32| {
            let mut weights = Weights::default();
            weights.insert(WORDS, tensor(1.0));
            weights.insert("decoder.weight", tensor(decoder));
            rename(weights).unwrap().iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(1.0), [WORDS]);
        assert_eq!(names(2.0), ["decoder.weight", WORDS]);
    }

    #[test]
    fn two_tensors_of_one_name_are_refused() {
        let tensor = |value: f32| HostTensor { shape: vec![1], values: vec![value] };
        let mut found = Weights::default();
        found.insert("final_norm.weight", tensor(1.0));
        found.insert("model.final_norm.weight", tensor(2.0));
        let error = rename(found).unwrap_err().to_string();
        assert!(error.contains("model.final_norm.weight twice"), "{error}");
    }
}
