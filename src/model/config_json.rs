//! `config.json`, as `transformers` writes it for the BERT family.

use serde_json::{Value, json};

use super::bert::BertShape;
use crate::error::{Error, Result};

/// Where an architecture of the family keeps a BERT's sizes.
struct Dialect {
    model_type: &'static str,
    hidden: &'static str,
    layers: &'static str,
    heads: &'static str,
    intermediate: &'static str,
    activation: &'static str,
    /// Token types where the file doesn't say.
    token_types: usize,
}

const DIALECTS: [Dialect; 2] = [
    Dialect {
        model_type: "bert",
        hidden: "hidden_size",
        layers: "num_hidden_layers",
        heads: "num_attention_heads",
        intermediate: "intermediate_size",
        activation: "hidden_act",
        token_types: 2,
    },
    Dialect {
        model_type: "distilbert",
        hidden: "dim",
        layers: "n_layers",
        heads: "n_heads",
        intermediate: "hidden_dim",
        activation: "activation",
        token_types: 0,
    },
];

/// The architecture's name and the shape that a `config.json` describes.
///
/// # Errors
/// When it is not JSON, is of another architecture (named), or its sizes are missing or don't fit together.
pub(super) fn parse(text: &str) -> Result<(&'static str, BertShape)> {
    let config: Value = serde_json::from_str(text).map_err(|error| Error::new(format!("config.json is not JSON: {error}")))?;
    let text_of = |key: &str| config.get(key).and_then(Value::as_str);
    let model_type = text_of("model_type").unwrap_or("none");
    let Some(dialect) = DIALECTS.iter().find(|dialect| dialect.model_type == model_type) else {
        return Err(Error::new(format!(
            "the model's architecture is {model_type:?}, and upstill reads \"bert\" and \"distilbert\""
        ))
        .help("take a model of the BERT family: BERT, DistilBERT, MiniLM"));
    };
    for (key, wanted, meaning) in [
        (dialect.activation, "gelu", "its activation (\"gelu\" is GELU by the error function)"),
        ("position_embedding_type", "absolute", "how it knows positions"),
    ] {
        if let Some(found) = text_of(key).filter(|found| *found != wanted) {
            return Err(Error::new(format!("the model's {key} is {found:?}, and upstill has {wanted:?}: {meaning}")));
        }
    }
    if config.get("is_decoder").and_then(Value::as_bool) == Some(true) {
        return Err(Error::new("the model is a decoder (is_decoder), and upstill trains encoders"));
    }
    let number = |key: &str| {
        let value =
            config.get(key).and_then(Value::as_u64).and_then(|value| usize::try_from(value).ok()).filter(|&value| value > 0);
        value.ok_or_else(|| Error::new(format!("config.json has no whole number above 0 for {key:?}")))
    };
    let shape = BertShape {
        vocab_size: number("vocab_size")?,
        hidden: number(dialect.hidden)?,
        layers: number(dialect.layers)?,
        heads: number(dialect.heads)?,
        intermediate: number(dialect.intermediate)?,
        max_positions: number("max_position_embeddings")?,
        token_types: config.get("type_vocab_size").and_then(Value::as_u64).map_or(dialect.token_types, |types| types as usize),
        norm_epsilon: config.get("layer_norm_eps").and_then(Value::as_f64).unwrap_or(1e-12),
    };
    if !shape.hidden.is_multiple_of(shape.heads) {
        return Err(Error::new(format!("config.json has {} heads, which do not divide the width {}", shape.heads, shape.hidden)));
    }
    Ok((dialect.model_type, shape))
}

/// The `config.json` of a model, for `BertForMaskedLM`.
pub(super) fn write(shape: &BertShape, pad: u32) -> Value {
    json!({
        "architectures": ["BertForMaskedLM"],
        "model_type": "bert",
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.intermediate,
        "max_position_embeddings": shape.max_positions,
        "type_vocab_size": shape.token_types,
        "hidden_act": "gelu",
        "layer_norm_eps": shape.norm_epsilon,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "pad_token_id": pad,
        "tie_word_embeddings": true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let shape = BertShape { norm_epsilon: 1e-5, intermediate: 24, ..BertShape::new(11, 8, 3, 2, 6) };
        assert_eq!(parse(&write(&shape, 0).to_string()).unwrap(), ("bert", shape));
    }

    #[test]
    fn distilberts_words_are_known() {
        let text = r#"{"model_type": "distilbert", "vocab_size": 9, "dim": 8, "n_layers": 6, "n_heads": 2, "hidden_dim": 32,
                       "max_position_embeddings": 16, "activation": "gelu", "sinusoidal_pos_embds": false}"#;
        let (_, shape) = parse(text).unwrap();
        assert_eq!(shape, BertShape { token_types: 0, ..BertShape::new(9, 8, 6, 2, 16) });
    }

    #[test]
    fn what_is_no_bert_is_named() {
        let of = |text: &str| parse(text).unwrap_err().to_string();
        let bert = |key: &str, value: &str| {
            let mut config = write(&BertShape::new(11, 8, 3, 2, 6), 0);
            config[key] = value.parse().unwrap();
            of(&config.to_string())
        };
        insta::assert_snapshot!(
            [
                of("{"),
                of("[]"),
                of(r#"{"model_type": "gpt2"}"#),
                bert("hidden_act", "\"gelu_new\""),
                bert("position_embedding_type", "\"relative_key\""),
                bert("is_decoder", "true"),
                bert("vocab_size", "-3"),
                bert("num_hidden_layers", "0"),
                bert("num_attention_heads", "3"),
            ]
            .join("\n"),
            @r#"
        config.json is not JSON: EOF while parsing an object at line 1 column 1
        the model's architecture is "none", and upstill reads "bert" and "distilbert"
        help: take a model of the BERT family: BERT, DistilBERT, MiniLM
        the model's architecture is "gpt2", and upstill reads "bert" and "distilbert"
        help: take a model of the BERT family: BERT, DistilBERT, MiniLM
        the model's hidden_act is "gelu_new", and upstill has "gelu": its activation ("gelu" is GELU by the error function)
        the model's position_embedding_type is "relative_key", and upstill has "absolute": how it knows positions
        the model is a decoder (is_decoder), and upstill trains encoders
        config.json has no whole number above 0 for "vocab_size"
        config.json has no whole number above 0 for "num_hidden_layers"
        config.json has 3 heads, which do not divide the width 8
        "#
        );
    }
}
