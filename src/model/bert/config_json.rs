//! `config.json`, as `transformers` writes it for the BERT family.

use serde_json::{Value, json};

use crate::config::{BertShape, NORM_EPSILON as EPSILON};
use crate::error::{Error, Result};
use crate::model::config_keys::{
    DEEPEST, LARGEST, epsilon as epsilon_of, flag, given, refuse_other_kinds as other_kinds, share, whole,
};
use crate::model::language_model::Config;
use crate::tokens::Special;

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
    /// Whether the file has a say in the layer norms' epsilon; `transformers` has DistilBERT's written into its code.
    has_epsilon: bool,
    /// Dropout of hidden states, of attention and before a classifier.
    dropout: [&'static str; 3],
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
        has_epsilon: true,
        dropout: ["hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"],
    },
    Dialect {
        model_type: "distilbert",
        hidden: "dim",
        layers: "n_layers",
        heads: "n_heads",
        intermediate: "hidden_dim",
        activation: "activation",
        token_types: 0,
        has_epsilon: false,
        dropout: ["dropout", "attention_dropout", "seq_classif_dropout"],
    },
];

/// The standard deviation of BERT's initial weights, where nothing says otherwise.
pub(super) const RANGE: f64 = 0.02;

/// Keys of other architectures whose `config.json` has a BERT's sizes too.
const FOREIGN: [&str; 11] = [
    "local_attention",
    "global_attn_every_n_layers",
    "rope_parameters",
    "embedding_size",
    "num_hidden_groups",
    "relative_attention",
    "position_biased_input",
    "attention_window",
    "block_size",
    "intra_bottleneck_size",
    "adapter_reduction_factor",
];

/// What a `config.json` says.
///
/// # Errors
/// When it is of another architecture (named), asks for something that upstill has not, or its sizes are missing, out
/// of all bounds or don't fit together.
pub(in super::super) fn parse(config: &Value) -> Result<Config> {
    let mut notes = Vec::new();
    let dialect = dialect(config, &mut notes)?;
    refuse_other_kinds(config, dialect)?;
    let number = |key: &str, least: usize, most: usize| whole(config, key, least, most);
    let shape = BertShape {
        vocab_size: number("vocab_size", 1, LARGEST)?,
        hidden: number(dialect.hidden, 1, LARGEST)?,
        layers: number(dialect.layers, 1, DEEPEST)?,
        heads: number(dialect.heads, 1, LARGEST)?,
        intermediate: number(dialect.intermediate, 1, LARGEST)?,
        // `[CLS]`, a token, `[SEP]`.
        max_positions: number("max_position_embeddings", 3, LARGEST)?,
        token_types: match given(config, "type_vocab_size") {
            Some(_) => number("type_vocab_size", 0, LARGEST)?,
            None => dialect.token_types,
        },
        norm_epsilon: epsilon(config, dialect)?,
    };
    if !shape.hidden.is_multiple_of(shape.heads) {
        return Err(Error::new(format!("config.json has {} heads, which do not divide the width {}", shape.heads, shape.hidden)));
    }
    let tied = flag(config, "tie_word_embeddings")?.unwrap_or(true);
    let (dropout, initializer_range) = (dropout(config, dialect)?, share(config, "initializer_range", RANGE)?);
    Ok(Config { architecture: dialect.model_type, shape: shape.into(), tied, dropout, initializer_range, notes })
}

/// By `model_type`, or, where that is missing, by the keys.
fn dialect(config: &Value, notes: &mut Vec<String>) -> Result<&'static Dialect> {
    let other = |named: &str| {
        Error::new(format!("the model's architecture is {named}, and upstill reads \"bert\", \"distilbert\" and \"modernbert\""))
            .help("take an encoder of these: BERT, DistilBERT, MiniLM, ModernBERT, Ettin")
    };
    if let Some(named) = given(config, "model_type") {
        return DIALECTS.iter().find(|dialect| named == dialect.model_type).ok_or_else(|| other(&named.to_string()));
    }
    let keys = |dialect: &Dialect| {
        [dialect.hidden, dialect.layers, dialect.heads, dialect.intermediate, "vocab_size", "max_position_embeddings"]
            .iter()
            .all(|key| given(config, key).is_some())
    };
    let classes = given(config, "architectures").and_then(Value::as_array);
    let is_of = |dialect: &Dialect| {
        let starts = |class: &Value| class.as_str().is_some_and(|class| class.to_lowercase().starts_with(dialect.model_type));
        classes.is_none_or(|classes| classes.iter().all(starts))
    };
    let found = DIALECTS.iter().find(|dialect| keys(dialect) && is_of(dialect));
    let foreign = FOREIGN.iter().any(|key| given(config, key).is_some());
    let dialect = found.filter(|_| !foreign).ok_or_else(|| other("not named (config.json has no model_type)"))?;
    notes.push(format!("config.json has no model_type; its keys are those of {:?}, and it is read as such", dialect.model_type));
    Ok(dialect)
}

/// What upstill computes in one way only, or not at all.
fn refuse_other_kinds(config: &Value, dialect: &Dialect) -> Result<()> {
    for (key, known, meaning) in [
        (dialect.activation, &["gelu", "gelu_python"][..], "its activation (\"gelu\" is GELU by the error function)"),
        ("position_embedding_type", &["absolute"], "how it knows positions"),
    ] {
        if let Some(found) = given(config, key).filter(|found| !known.iter().any(|known| *found == known)) {
            return Err(Error::new(format!("the model's {key} is {found}, and upstill has {:?}: {meaning}", known[0])));
        }
    }
    other_kinds(config)
}

fn epsilon(config: &Value, dialect: &Dialect) -> Result<f64> {
    match epsilon_of(config, "layer_norm_eps", EPSILON)? {
        epsilon if !dialect.has_epsilon && epsilon != EPSILON => Err(Error::new(format!(
            "config.json has layer_norm_eps = {epsilon:e}, and a {} has {EPSILON:e} whatever it says",
            dialect.model_type
        ))),
        epsilon => Ok(epsilon),
    }
}

fn dropout(config: &Value, dialect: &Dialect) -> Result<[f64; 3]> {
    let [hidden, attention, classifier] = dialect.dropout;
    let hidden = share(config, hidden, 0.1)?;
    Ok([hidden, share(config, attention, 0.1)?, share(config, classifier, hidden)?])
}

/// The `config.json` of a model, for `BertForMaskedLM`.
pub(in super::super) fn write(shape: &BertShape, special: &Special) -> Value {
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
        "pad_token_id": special.pad,
        "tie_word_embeddings": true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECIAL: Special = Special { pad: 0, unk: Some(1), cls: 2, sep: 3, mask: Some(4) };

    #[test]
    fn what_is_written_is_read_back() {
        let shape = BertShape { norm_epsilon: 1e-5, intermediate: 24, ..BertShape::new(11, 8, 3, 2, 6) };
        let found = parse(&write(&shape, &SPECIAL)).unwrap();
        assert_eq!(
            found,
            Config {
                architecture: "bert",
                shape: shape.into(),
                tied: true,
                dropout: [0.1; 3],
                initializer_range: RANGE,
                notes: Vec::new()
            }
        );
    }

    #[test]
    fn without_a_model_type_the_keys_say_what_it_is() {
        let mut config = write(&BertShape::new(11, 8, 3, 2, 6), &SPECIAL);
        config.as_object_mut().unwrap().remove("model_type");
        let found = parse(&config).unwrap();
        assert_eq!((found.architecture, found.shape), ("bert", BertShape::new(11, 8, 3, 2, 6).into()));
        insta::assert_snapshot!(found.notes.join("\n"), @r#"config.json has no model_type; its keys are those of "bert", and it is read as such"#);
        for (key, value) in
            [("architectures", json!(["RobertaForMaskedLM"])), ("embedding_size", json!(8)), ("hidden_size", json!(null))]
        {
            let mut other = config.clone();
            other[key] = value;
            assert!(parse(&other).unwrap_err().to_string().contains("no model_type"), "{key}");
        }
    }

    #[test]
    fn what_a_file_says_of_dropout_and_tying_is_told() {
        let mut config = write(&BertShape::new(11, 8, 3, 2, 6), &SPECIAL);
        config["hidden_dropout_prob"] = json!(0);
        config["classifier_dropout"] = json!(0.3);
        config["tie_word_embeddings"] = json!(false);
        let found = parse(&config).unwrap();
        assert_eq!((found.dropout, found.tied), ([0.0, 0.1, 0.3], false));
    }

    #[test]
    fn distilberts_words_are_known() {
        let text = r#"{"model_type": "distilbert", "vocab_size": 9, "dim": 8, "n_layers": 6, "n_heads": 2, "hidden_dim": 32,
                       "max_position_embeddings": 16, "activation": "gelu", "sinusoidal_pos_embds": false}"#;
        let found = parse(&serde_json::from_str(text).unwrap()).unwrap();
        assert_eq!(found.dropout, [0.1, 0.1, 0.1]);
        assert_eq!(found.shape, BertShape { token_types: 0, ..BertShape::new(9, 8, 6, 2, 16) }.into());
    }

    #[test]
    fn what_is_no_bert_is_named() {
        let of = |config: &Value| parse(config).unwrap_err().to_string();
        let bert = |key: &str, value: Value| {
            let mut config = write(&BertShape::new(11, 8, 3, 2, 6), &SPECIAL);
            config[key] = value;
            of(&config)
        };
        insta::assert_snapshot!(
            [
                of(&json!([])),
                of(&json!({"model_type": "gpt2"})),
                bert("hidden_act", json!("gelu_new")),
                bert("hidden_act", json!(3)),
                bert("position_embedding_type", json!("relative_key")),
                bert("is_decoder", json!(true)),
                bert("add_cross_attention", json!(true)),
                bert("pruned_heads", json!({"0": [1]})),
                bert("quantization_config", json!({"load_in_8bit": true})),
                bert("tie_word_embeddings", json!("no")),
                bert("layer_norm_eps", json!(0)),
                bert("layer_norm_eps", json!("small")),
                bert("hidden_dropout_prob", json!(1.5)),
                bert("vocab_size", json!(-3)),
                bert("num_hidden_layers", json!(0)),
                bert("type_vocab_size", json!(-1)),
                bert("max_position_embeddings", json!(2)),
                bert("hidden_size", json!(1_000_000_000)),
                bert("num_attention_heads", json!(3)),
                of(&json!({"model_type": "distilbert", "vocab_size": 9, "dim": 8, "n_layers": 6, "n_heads": 2, "hidden_dim": 32,
                           "max_position_embeddings": 16, "layer_norm_eps": 1e-5})),
            ]
            .join("\n"),
            @r#"
        the model's architecture is not named (config.json has no model_type), and upstill reads "bert", "distilbert" and "modernbert"
        help: take an encoder of these: BERT, DistilBERT, MiniLM, ModernBERT, Ettin
        the model's architecture is "gpt2", and upstill reads "bert", "distilbert" and "modernbert"
        help: take an encoder of these: BERT, DistilBERT, MiniLM, ModernBERT, Ettin
        the model's hidden_act is "gelu_new", and upstill has "gelu": its activation ("gelu" is GELU by the error function)
        the model's hidden_act is 3, and upstill has "gelu": its activation ("gelu" is GELU by the error function)
        the model's position_embedding_type is "relative_key", and upstill has "absolute": how it knows positions
        the model is a decoder (is_decoder), and upstill trains encoders
        the model is a decoder with cross-attention (add_cross_attention), and upstill trains encoders
        the model's config.json has pruned_heads: some of its attention heads are cut out, which upstill doesn't read
        help: take the model as it was before
        the model's config.json has quantization_config: it is quantised, which upstill doesn't read
        help: take the model as it was before
        config.json has tie_word_embeddings = "no", and not true or false
        config.json has layer_norm_eps = 0, and not a number between 0 and 1
        config.json has layer_norm_eps = "small", and not a number between 0 and 1
        config.json has hidden_dropout_prob = 1.5, and not a number from 0 to below 1
        config.json has no whole number of 1 or more for "vocab_size"
        config.json has no whole number of 1 or more for "num_hidden_layers"
        config.json has no whole number of 0 or more for "type_vocab_size"
        config.json has no whole number of 3 or more for "max_position_embeddings"
        config.json has hidden_size = 1000000000, more than any model has
        help: fetch the model's config.json again
        config.json has 3 heads, which do not divide the width 8
        config.json has layer_norm_eps = 1e-5, and a distilbert has 1e-12 whatever it says
        "#
        );
    }
}
