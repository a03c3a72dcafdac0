//! How causal models' tokenizers over bytes normalise text and split it into words, by the names that files have for
//! it.

use serde_json::{Value, json};

use super::settings::{Class, Settings};
use crate::error::{Result, note};

/// GPT-2's words (Radford et al. 2019) are in the library's pattern of bytes; Llama 3's and Qwen's are patterns of
/// their own, which differ in how many digits stand together.
const LLAMA3: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The keys of a `tokenizer.json` that say how text becomes words.
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    /// `normalizer`: null for none.
    pub normalizer: Value,
    /// `pre_tokenizer`.
    pub pre_tokenizer: Value,
    /// Whether a word that is a token is that one, whatever its merges say: `model.ignore_merges`.
    pub ignores_merges: bool,
}

impl Pipeline {
    /// That of a name in GGUF's `tokenizer.ggml.pre`; nothing for one that is not known.
    pub fn named(name: &str) -> Option<Self> {
        let digits = json!({"type": "Digits", "individual_digits": true});
        let (normalizer, words, ignores_merges) = match name {
            "gpt-2" => (json!(null), bytes(true, false), false),
            "smollm" => (json!(null), json!({"type": "Sequence", "pretokenizers": [digits, bytes(true, false)]}), false),
            "llama-bpe" | "llama3" | "llama-v3" => (json!(null), pattern(LLAMA3), true),
            "qwen2" => (json!({"type": "NFC"}), pattern(QWEN2), false),
            _ => return None,
        };
        Some(Self { normalizer, pre_tokenizer: words, ignores_merges })
    }

    /// The names that [`Pipeline::named`] knows.
    pub const NAMES: [&str; 6] = ["gpt-2", "smollm", "llama-bpe", "llama3", "llama-v3", "qwen2"];
}

/// Bytes as letters, split into GPT-2's words first or as they come.
fn bytes(has_words: bool, has_prefix_space: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": has_prefix_space, "trim_offsets": true, "use_regex": has_words})
}

fn pattern(words: &str) -> Value {
    let split = json!({"type": "Split", "pattern": {"Regex": words}, "behavior": "Isolated", "invert": false});
    json!({"type": "Sequence", "pretokenizers": [split, bytes(false, false)]})
}

/// Looks whether a `tokenizer.json` splits text as the class that its settings name does. `transformers` 5 takes the
/// class's way whatever the file says; the file's is what the model was trained with, and is taken here, which is said.
///
/// # Errors
/// When the class stands for SentencePiece's pieces: a Llama's whose file has no bytes.
pub(super) fn compare(class: Class, inner: &tokenizers::Tokenizer, settings: &Settings) -> Result<()> {
    let own = |value: Value| without_offsets(value);
    let (normalizer, words) = (own(json!(inner.get_normalizer())), own(json!(inner.get_pre_tokenizer())));
    let (theirs, name) = match class {
        Class::Gpt2 => ((json!(null), own(bytes(true, settings.has_prefix_space()?))), "GPT2Tokenizer"),
        Class::Qwen2 => ((json!({"type": "NFC"}), own(pattern(QWEN2))), "Qwen2Tokenizer"),
        _ if words.to_string().contains("\"ByteLevel\"") => return Ok(()),
        _ => {
            let what = "is a Llama's with pieces of SentencePiece, and upstill reads those over bytes (Llama 3's)";
            return Err(settings.refuse("tokenizer_class", what, "take a model whose tokenizer is byte-level BPE"));
        }
    };
    if theirs != (normalizer, words) {
        note(format!(
            "{} names {name}, as which `transformers` 5 splits text whatever tokenizer.json says; it says otherwise, and is obeyed. \
             Write PreTrainedTokenizerFast there, and both read it alike",
            settings.file()
        ));
    }
    Ok(())
}

/// Without what moves offsets alone.
fn without_offsets(mut value: Value) -> Value {
    match &mut value {
        Value::Object(map) => {
            map.remove("trim_offsets");
            map.values_mut().for_each(|inner| *inner = without_offsets(inner.take()));
        }
        Value::Array(list) => list.iter_mut().for_each(|inner| *inner = without_offsets(inner.take())),
        _ => {}
    }
    value
}
