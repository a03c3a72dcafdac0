//! The names that checkpoints of the family give to the same tensors, made one: those of `LlamaForCausalLM`.

use crate::error::Result;
use crate::model::Weights;
use crate::model::renaming::{self, renamed, without_copied_decoder};

/// The word table.
pub(super) const WORDS: &str = "model.embed_tokens.weight";
/// The decoder; a model whose decoder is the word table has none.
pub(in super::super) const DECODER: &str = "lm_head.";
/// Tensors that have a row a token.
pub(in super::super) const OVER_VOCABULARY: [&str; 2] = [WORDS, "lm_head.weight"];

/// First parts of the names of a `LlamaModel`, which a `LlamaForCausalLM` has below `model.`.
const BARE: [&str; 3] = ["embed_tokens", "layers", "norm"];

/// A tensor's name as the family has it, and what a wrapping had put before or into it; one that this family doesn't
/// know stays as it is.
pub(in super::super) fn unwrapped(name: &str) -> (String, String) {
    renaming::unwrapped(name, "model", &BARE, &["lm_head"])
}

/// The tensors under the names of `LlamaForCausalLM`. Wrappings of the names are taken off; bodies saved without their
/// prefix get it; of a model whose decoder is the word table, a decoder that is its copy is left out.
///
/// # Errors
/// When two different tensors come to the same name.
pub(in super::super) fn rename(found: Weights, is_tied: bool) -> Result<Weights> {
    let mut out = renamed(found, |name| unwrapped(name).0)?;
    if is_tied {
        without_copied_decoder(&mut out, &format!("{DECODER}weight"), WORDS);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::HostTensor;

    #[test]
    fn every_wrapping_comes_to_todays_names() {
        for (theirs, ours, taken) in [
            ("model.layers.3.self_attn.q_proj.weight", "model.layers.3.self_attn.q_proj.weight", ""),
            ("layers.0.mlp.gate_proj.weight", "model.layers.0.mlp.gate_proj.weight", ""),
            ("embed_tokens.weight", WORDS, ""),
            ("norm.weight", "model.norm.weight", ""),
            ("module._orig_mod.model.norm.weight", "model.norm.weight", "module._orig_mod."),
            ("state_dict.lm_head.weight", "lm_head.weight", "state_dict."),
            ("bert.encoder.layer.0.output.dense.bias", "bert.encoder.layer.0.output.dense.bias", ""),
        ] {
            assert_eq!(unwrapped(theirs), (ours.to_owned(), taken.to_owned()), "{theirs}");
        }
    }

    #[test]
    fn a_decoder_is_left_out_where_it_is_tied_and_the_word_tables_copy() {
        let tensor = |value: f32| HostTensor { shape: vec![1], values: vec![value] };
        let names = |decoder: f32, is_tied: bool| {
            let mut weights = Weights::default();
            weights.insert(WORDS, tensor(1.0));
            weights.insert("lm_head.weight", tensor(decoder));
            rename(weights, is_tied).unwrap().iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(1.0, true), [WORDS]);
        assert_eq!(names(2.0, true), ["lm_head.weight", WORDS]);
        assert_eq!(names(1.0, false), ["lm_head.weight", WORDS]);
    }
}
