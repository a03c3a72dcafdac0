//! The names that checkpoints of the family give to the same tensors, made one: those of `GPT2LMHeadModel`.

use crate::error::Result;
use crate::model::Weights;
use crate::model::renaming::{self, renamed, without_copied_decoder};

/// The word table.
pub(super) const WORDS: &str = "transformer.wte.weight";
/// The decoder, which is the word table: files need not hold it.
pub(in super::super) const DECODER: &str = "lm_head.";
/// Tensors that have a row a token.
pub(in super::super) const OVER_VOCABULARY: [&str; 2] = [WORDS, "lm_head.weight"];

/// First parts of the names of a `GPT2Model`, which a `GPT2LMHeadModel` has below `transformer.`: as OpenAI's own files
/// have them.
const BARE: [&str; 4] = ["wte", "wpe", "h", "ln_f"];

/// Ends of names under which old files keep what the sizes say: which positions see which, and by how much others are
/// not seen.
const BUFFERS: [&str; 2] = [".attn.bias", ".attn.masked_bias"];

/// A tensor's name as the family has it, and what a wrapping had put before or into it; one that this family doesn't
/// know stays as it is.
pub(in super::super) fn unwrapped(name: &str) -> (String, String) {
    renaming::unwrapped(name, "transformer", &BARE, &["lm_head"])
}

/// Whether a name is no weight.
pub(super) fn is_buffer(name: &str) -> bool {
    BUFFERS.iter().any(|buffer| name.ends_with(buffer))
}

/// The tensors under the names of `GPT2LMHeadModel`. Wrappings of the names are taken off; bodies saved without their
/// prefix get it; a decoder that is the word table's copy is left out.
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

    #[test]
    fn every_wrapping_comes_to_todays_names() {
        for (theirs, ours, taken) in [
            ("transformer.h.3.attn.c_attn.weight", "transformer.h.3.attn.c_attn.weight", ""),
            ("h.0.mlp.c_fc.bias", "transformer.h.0.mlp.c_fc.bias", ""),
            ("wte.weight", WORDS, ""),
            ("module._orig_mod.transformer.ln_f.bias", "transformer.ln_f.bias", "module._orig_mod."),
            ("state_dict.lm_head.weight", "lm_head.weight", "state_dict."),
            ("model.norm.weight", "model.norm.weight", ""),
        ] {
            assert_eq!(unwrapped(theirs), (ours.to_owned(), taken.to_owned()), "{theirs}");
        }
        assert!(is_buffer("transformer.h.0.attn.bias") && !is_buffer("transformer.h.0.attn.c_attn.bias"));
    }
}
