//! The tokenizer that such a file holds: byte-level byte-pair merges (`tokenizer.ggml.model` = "gpt2"), split into
//! words as `tokenizer.ggml.pre` names it.

use serde_json::{Map, Value as Json, json};

use super::container::{Container, Value};
use super::{AGAIN, refused};
use crate::error::Result;
use crate::tokens::{Pipeline, Tokenizer};

/// What `tokenizer.ggml.token_type` says of a token.
const CONTROL: [i64; 2] = [2, 3];
const USER_DEFINED: i64 = 4;
const UNUSED: i64 = 5;

/// Llama 3's, before whose texts llama.cpp puts what opens one, unless the file says otherwise.
const OPENED: [&str; 3] = ["llama-bpe", "llama3", "llama-v3"];

/// The tokenizer.
///
/// # Errors
/// When there is none, it is of another kind or split in an unknown way (both are named), or it makes no sense.
pub(super) fn tokenizer(file: &Container) -> Result<Tokenizer> {
    let (json, settings, is_opened) = parts(file).map_err(|error| error.at(file.path().display()))?;
    let read = Tokenizer::from_json(json.to_string().as_bytes(), settings.to_string().as_bytes(), file.path())?;
    if is_opened { read.opening() } else { Ok(read) }
}

/// What `transformers` would have in `tokenizer.json` and in `tokenizer_config.json`, and whether what opens a text is
/// put before one.
fn parts(file: &Container) -> Result<(Json, Json, bool)> {
    let key = |name: &str| file.keys.get(&format!("tokenizer.ggml.{name}"));
    let text = |name: &str| match key(name) {
        Some(Value::Text(text)) => Ok(text.as_str()),
        _ => Err(refused(format!("there is no tokenizer.ggml.{name} that is a text")).help(AGAIN)),
    };
    match text("model")? {
        "gpt2" => {}
        other => {
            return Err(refused(format!(
                "the tokenizer is of the kind {other:?} (tokenizer.ggml.model), and upstill reads \"gpt2\": merges of bytes"
            ))
            .help("take a model with such a tokenizer, as SmolLM2, Llama 3 and Qwen3 have it"));
        }
    }
    let pre = text("pre")?;
    let Some(Pipeline { normalizer, pre_tokenizer, ignores_merges }) = Pipeline::named(pre) else {
        return Err(refused(format!(
            "the tokenizer splits text in the way {pre:?} (tokenizer.ggml.pre), and upstill knows {}",
            Pipeline::NAMES.join(", ")
        ))
        .help("ids would be wrong without it: take another model"));
    };
    let (Some(Value::Texts(tokens)), Some(Value::Texts(merges))) = (key("tokens"), key("merges")) else {
        return Err(refused("there are no tokenizer.ggml.tokens and tokenizer.ggml.merges, or they are no texts").help(AGAIN));
    };
    let kinds = match key("token_type") {
        None => vec![1; tokens.len()],
        Some(Value::Wholes(kinds)) if kinds.len() == tokens.len() => kinds.clone(),
        Some(_) => return Err(refused("tokenizer.ggml.token_type does not say a number of each token").help(AGAIN)),
    };
    // Rows of the table that stand for nothing have made-up tokens at the end.
    let known = kinds.iter().rposition(|&kind| kind != UNUSED).map_or(0, |last| last + 1);
    let is_whole = |kind: i64| CONTROL.contains(&kind) || kind == USER_DEFINED;
    // Tokens that are found whole in a text and stand last are no pieces of words.
    let pieces = kinds[..known].iter().rposition(|&kind| !is_whole(kind)).map_or(0, |last| last + 1);
    let mut vocab = Map::new();
    for (id, token) in tokens[..pieces].iter().enumerate() {
        if vocab.insert(token.clone(), json!(id)).is_some() {
            return Err(refused(format!("the vocabulary holds {token:?} twice")).help(AGAIN));
        }
    }
    let added = |(id, token): (usize, &String)| {
        let is_special = CONTROL.contains(&kinds[id]);
        is_whole(kinds[id]).then(|| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
                   "special": is_special})
        })
    };
    let added: Vec<Json> = tokens[..known].iter().enumerate().filter_map(added).collect();
    let pair = |merge: &String| match merge.split_once(' ') {
        Some(pair) => Ok(json!([pair.0, pair.1])),
        None => Err(refused(format!("the merge {merge:?} is no pair")).help(AGAIN)),
    };
    let model = json!({
        "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "", "end_of_word_suffix": "",
        "fuse_unk": false, "byte_fallback": false, "ignore_merges": ignores_merges, "vocab": vocab,
        "merges": merges.iter().map(pair).collect::<Result<Vec<_>>>()?,
    });
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let whole = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": bytes, "model": model,
    });
    let truth = |name: &str, usual: bool| match key(name) {
        None => Ok(usual),
        Some(Value::Truth(truth)) => Ok(*truth),
        Some(other) => Err(refused(format!("tokenizer.ggml.{name} is {other:?}, and not a truth")).help(AGAIN)),
    };
    if truth("add_space_prefix", false)? {
        return Err(refused("tokenizer.ggml.add_space_prefix is true, which upstill does not do before bytes").help(AGAIN));
    }
    Ok((whole, settings(file, &tokens[..known])?, truth("add_bos_token", OPENED.contains(&pre))?))
}

/// Which tokens do what.
fn settings(file: &Container, tokens: &[String]) -> Result<Json> {
    let key = |name: &str| file.keys.get(&format!("tokenizer.ggml.{name}"));
    let mut out = json!({"tokenizer_class": "PreTrainedTokenizerFast"});
    for (ours, theirs) in [("bos_token", "bos"), ("eos_token", "eos"), ("unk_token", "unknown"), ("pad_token", "padding")] {
        let name = format!("{theirs}_token_id");
        let Some(value) = key(&name) else { continue };
        let token = match value {
            Value::Whole(id) => usize::try_from(*id).ok().and_then(|id| tokens.get(id)),
            _ => None,
        };
        let token =
            token.ok_or_else(|| refused(format!("tokenizer.ggml.{name} is {value:?}, which is no token's id")).help(AGAIN))?;
        out[ours] = json!(token);
    }
    Ok(out)
}
