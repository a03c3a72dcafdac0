//! `config.json`, as `transformers` writes it for GPT-2, and reads it of older files.

use serde_json::{Value, json};

use crate::config::Gpt2Shape;
use crate::error::{Error, Result};
use crate::model::config_keys::{DEEPEST, LARGEST, epsilon, flag, given, refuse_other_kinds, share, whole};
use crate::model::language_model::Config;
use crate::tokens::Special;

/// What `transformers` calls it.
pub(in super::super) const MODEL_TYPE: &str = "gpt2";

/// The standard deviation of initial weights, where nothing says otherwise.
const RANGE: f64 = 0.02;

/// What a `config.json` says.
///
/// # Errors
/// When it asks for something that upstill has not, or its sizes are missing, out of all bounds or don't fit together.
pub(in super::super) fn parse(config: &Value) -> Result<Config> {
    refuse_what_is_not_here(config)?;
    let number = |key: &str, least: usize, most: usize| whole(config, key, least, most);
    let hidden = number("n_embd", 1, LARGEST)?;
    let usual = hidden.saturating_mul(4);
    let shape = Gpt2Shape {
        vocab_size: number("vocab_size", 1, LARGEST)?,
        hidden,
        layers: number("n_layer", 1, DEEPEST)?,
        heads: number("n_head", 1, LARGEST)?,
        intermediate: given(config, "n_inner").map_or(Ok(usual), |_| number("n_inner", 1, LARGEST))?,
        // What opens a text, a token, what ends it.
        max_positions: number("n_positions", 3, LARGEST)?,
        norm_epsilon: epsilon(config, "layer_norm_epsilon", 1e-5)?,
    };
    if !hidden.is_multiple_of(shape.heads) {
        return Err(Error::new(format!("config.json has n_head = {}, which do not divide n_embd = {hidden}", shape.heads)));
    }
    let [hidden, attention, embeddings] = ["resid_pdrop", "attn_pdrop", "embd_pdrop"].map(|key| share(config, key, 0.1));
    let dropout = [hidden?, attention?, embeddings?];
    let initializer_range = share(config, "initializer_range", RANGE)?;
    Ok(Config { architecture: MODEL_TYPE, shape: shape.into(), tied: true, dropout, initializer_range, notes: Vec::new() })
}

/// What upstill computes in one way only, or not at all.
fn refuse_what_is_not_here(config: &Value) -> Result<()> {
    refuse_other_kinds(config)?;
    let known = ["gelu_new", "gelu_pytorch_tanh"];
    if let Some(found) = given(config, "activation_function").filter(|found| !known.iter().any(|known| *found == known)) {
        return Err(Error::new(format!(
            "the model's activation_function is {found}, and upstill's GPT-2 has \"gelu_new\" (GELU by the hyperbolic tangent)"
        )));
    }
    for (key, ours) in [("scale_attn_weights", true), ("scale_attn_by_inverse_layer_idx", false), ("tie_word_embeddings", true)] {
        if let Some(found) = flag(config, key)?.filter(|found| *found != ours) {
            return Err(Error::new(format!("config.json has {key} = {found}, and upstill's GPT-2 has {ours}"))
                .help("take a model as GPT-2 was published"));
        }
    }
    let (context, positions) = (given(config, "n_ctx"), given(config, "n_positions"));
    match context.filter(|context| Some(*context) != positions) {
        Some(context) if positions.is_some() => {
            Err(Error::new(format!("config.json has n_ctx = {context}, and n_positions = {}", positions.unwrap_or(&Value::Null)))
                .help("the table has one row a position: write one number for both"))
        }
        _ => Ok(()),
    }
}

/// The `config.json` of a model, for `GPT2LMHeadModel`.
pub(in super::super) fn write(shape: &Gpt2Shape, special: &Special) -> Value {
    json!({
        "architectures": ["GPT2LMHeadModel"],
        "model_type": MODEL_TYPE,
        "vocab_size": shape.vocab_size,
        "n_embd": shape.hidden,
        "n_layer": shape.layers,
        "n_head": shape.heads,
        "n_inner": shape.intermediate,
        "n_positions": shape.max_positions,
        "n_ctx": shape.max_positions,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": shape.norm_epsilon,
        "resid_pdrop": 0.1,
        "embd_pdrop": 0.1,
        "attn_pdrop": 0.1,
        "initializer_range": RANGE,
        "pad_token_id": special.pad,
        "bos_token_id": special.cls,
        "eos_token_id": special.sep,
        "tie_word_embeddings": true,
        "use_cache": true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECIAL: Special = Special { pad: 0, unk: None, cls: 2, sep: 2, mask: None };

    #[test]
    fn what_is_written_is_read_and_what_is_left_out_is_gpt2s() {
        let shape = Gpt2Shape { intermediate: 20, norm_epsilon: 1e-6, ..Gpt2Shape::new(40, 12, 2, 3, 16) };
        let mut json = write(&shape, &SPECIAL);
        let read = parse(&json).unwrap();
        assert_eq!((read.shape, read.dropout, read.tied), (shape.into(), [0.1; 3], true));
        for key in ["n_inner", "layer_norm_epsilon", "n_ctx", "activation_function", "resid_pdrop"] {
            json.as_object_mut().unwrap().remove(key);
        }
        assert_eq!(parse(&json).unwrap().shape, Gpt2Shape::new(40, 12, 2, 3, 16).into());
    }

    #[test]
    fn what_is_not_here_is_refused_by_its_key() {
        let good = write(&Gpt2Shape::new(40, 12, 2, 3, 16), &SPECIAL);
        for (key, value) in [
            ("activation_function", json!("relu")),
            ("scale_attn_weights", json!(false)),
            ("scale_attn_by_inverse_layer_idx", json!(true)),
            ("tie_word_embeddings", json!(false)),
            ("add_cross_attention", json!(true)),
            ("n_ctx", json!(8)),
            ("n_head", json!(5)),
            ("n_positions", json!(2)),
            ("n_embd", json!(null)),
            ("layer_norm_epsilon", json!("1e-5")),
        ] {
            let mut json = good.clone();
            json[key] = value;
            let error = parse(&json).unwrap_err().to_string();
            assert!(error.contains(key), "{key}: {error}");
        }
    }
}
