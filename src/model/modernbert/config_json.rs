//! `config.json`, as `transformers` writes it for ModernBERT and its decoders: in the dialect that checkpoints were published in
//! (`global_attn_every_n_layers`, `global_rope_theta`, `local_rope_theta`), and in that of `transformers` 5
//! (`layer_types`, `rope_parameters`). Both are read, and must agree where both are there; both are written.

use serde_json::{Value, json};

use crate::config::ModernBertShape;
use crate::error::{Error, Result};
use crate::model::config_keys::{DEEPEST, LARGEST, epsilon, flag, given, refuse_other_kinds, share, whole};
use crate::model::language_model::Config;
use crate::tokens::Special;

/// What `transformers` calls an encoder, and a decoder.
pub(in super::super) const MODEL_TYPES: [&str; 2] = ["modernbert", "modernbert-decoder"];

/// The standard deviation of ModernBERT's initial weights, where nothing says otherwise.
const RANGE: f64 = 0.02;

/// The word for a global layer.
const GLOBAL: &str = "full_attention";
/// The word for a local layer.
const LOCAL: &str = "sliding_attention";

/// What a `config.json` says.
///
/// # Errors
/// When it asks for something that upstill has not, its two dialects disagree, or its sizes are missing, out of all
/// bounds or don't fit together.
pub(in super::super) fn parse(config: &Value) -> Result<Config> {
    refuse_what_is_not_here(config)?;
    let number = |key: &str, least: usize, most: usize| whole(config, key, least, most);
    let layers = number("num_hidden_layers", 1, DEEPEST)?;
    let [global_theta, local_theta] = thetas(config)?;
    let is_causal = config["model_type"] == MODEL_TYPES[1];
    let shape = ModernBertShape {
        vocab_size: number("vocab_size", 1, LARGEST)?,
        hidden: number("hidden_size", 1, LARGEST)?,
        layers,
        heads: number("num_attention_heads", 1, LARGEST)?,
        intermediate: number("intermediate_size", 1, LARGEST)?,
        // `[CLS]`, a token, `[SEP]`.
        max_positions: number("max_position_embeddings", 3, LARGEST)?,
        global_every: global_every(config, layers)?,
        // Half of it holds a decoder's own position.
        window: window(config, if is_causal { 2 } else { 1 })?,
        global_theta,
        local_theta,
        norm_epsilon: epsilon(config, "norm_eps", 1e-5)?,
        decoder_bias: flag(config, "decoder_bias")?.unwrap_or(true),
        pools_mean: match given(config, "classifier_pooling") {
            None => false,
            Some(word) if word == "cls" => false,
            Some(word) if word == "mean" => true,
            Some(other) => {
                return Err(Error::new(format!("config.json has classifier_pooling = {other}, and not \"cls\" or \"mean\"")));
            }
        },
        is_causal,
    };
    heads_must_fit(&shape)?;
    let tied = flag(config, "tie_word_embeddings")?.unwrap_or(true);
    let dropout = dropout(config)?;
    let initializer_range = share(config, "initializer_range", RANGE)?;
    let architecture = MODEL_TYPES[usize::from(is_causal)];
    Ok(Config { architecture, shape: shape.into(), tied, dropout, initializer_range, notes: Vec::new() })
}

fn heads_must_fit(shape: &ModernBertShape) -> Result<()> {
    let ModernBertShape { hidden, heads, .. } = *shape;
    if !hidden.is_multiple_of(heads) {
        return Err(Error::new(format!(
            "config.json has num_attention_heads = {heads}, which do not divide hidden_size = {hidden}"
        )));
    }
    match (hidden / heads).is_multiple_of(2) {
        true => Ok(()),
        false => Err(Error::new(format!(
            "config.json has num_attention_heads = {heads}, each {} wide of hidden_size = {hidden}: rotary positions turn pairs of \
             numbers, and the width is odd",
            hidden / heads
        ))),
    }
}

/// What upstill computes in one way only, or not at all.
fn refuse_what_is_not_here(config: &Value) -> Result<()> {
    refuse_other_kinds(config)?;
    for (key, meaning) in [("hidden_activation", "its feed-forward layers"), ("classifier_activation", "its head")] {
        if let Some(found) = given(config, key).filter(|found| *found != "gelu") {
            return Err(Error::new(format!(
                "the model's {key} is {found}, and upstill has \"gelu\" (by the error function) in {meaning}"
            )));
        }
    }
    for (key, of) in [
        ("norm_bias", "layer norms"),
        ("attention_bias", "attention"),
        ("mlp_bias", "feed-forward layers"),
        ("classifier_bias", "the head's dense layer"),
    ] {
        if flag(config, key)? == Some(true) {
            return Err(Error::new(format!(
                "the model has biases in {of} ({key} is true), and upstill's ModernBERT has none there"
            ))
            .help("take a model without: all published ModernBERT and Ettin models are"));
        }
    }
    match given(config, "rope_scaling") {
        Some(scaling) => {
            Err(Error::new(format!("the model's rope_scaling is {scaling}, and upstill does not scale rotary angles")))
        }
        None => Ok(()),
    }
}

/// `local_attention`, or twice `sliding_window`.
fn window(config: &Value, least: usize) -> Result<usize> {
    let Some(_) = given(config, "sliding_window") else { return whole(config, "local_attention", least, LARGEST) };
    let sliding = whole(config, "sliding_window", 1, LARGEST)?;
    if given(config, "local_attention").is_none() {
        return Ok(2 * sliding);
    }
    let local = whole(config, "local_attention", least, LARGEST)?;
    match local / 2 == sliding {
        true => Ok(local),
        false => Err(disagree(&format!("local_attention = {local}"), &format!("sliding_window = {sliding}"), "half of it")),
    }
}

/// Every how many layers one is global, from either dialect.
fn global_every(config: &Value, layers: usize) -> Result<usize> {
    const KEY: &str = "global_attn_every_n_layers";
    let said = given(config, KEY).map(|_| whole(config, KEY, 1, LARGEST)).transpose()?;
    let Some(types) = given(config, "layer_types") else {
        return said.ok_or_else(|| {
            Error::new(format!("config.json has neither {KEY} nor layer_types: which layers are global is not said"))
                .help("write global_attn_every_n_layers: 3 in every published ModernBERT")
        });
    };
    let wrong = || {
        Error::new(format!("config.json has layer_types = {types}, and not a list of {layers} of \"{GLOBAL}\" and \"{LOCAL}\""))
    };
    let of = |kind: &Value| match kind.as_str() {
        Some(GLOBAL) => Some(true),
        Some(LOCAL) => Some(false),
        _ => None,
    };
    let kinds: Option<Vec<bool>> = types.as_array().and_then(|types| types.iter().map(of).collect());
    let kinds = kinds.filter(|kinds| kinds.len() == layers).ok_or_else(wrong)?;
    let is_every = |n: usize| kinds.iter().enumerate().all(|(layer, &is_global)| is_global == layer.is_multiple_of(n));
    if let Some(said) = said {
        return match is_every(said) {
            true => Ok(said),
            false => Err(disagree(&format!("{KEY} = {said}"), &format!("layer_types = {types}"), "every such layer")),
        };
    }
    let second = kinds.iter().skip(1).position(|&is_global| is_global).map_or(layers, |at| at + 1);
    match is_every(second) {
        true => Ok(second),
        false => Err(Error::new(format!(
            "config.json has layer_types = {types}, and upstill has models whose layers 0, n, 2n, ... are global"
        ))),
    }
}

/// The bases of the rotary angles of global and of local layers, from either dialect.
fn thetas(config: &Value) -> Result<[usize; 2]> {
    let theta = |key: &str, kind: &str| {
        let old = given(config, key).map(|value| (key.to_owned(), value));
        let parameters = given(config, "rope_parameters").and_then(|all| given(all, kind));
        if let Some(parameters) = parameters {
            refuse_scaling(parameters, kind)?;
        }
        let new = parameters.and_then(|all| given(all, "rope_theta"));
        let new = new.map(|value| (format!("rope_parameters.{kind}.rope_theta"), value));
        let whole = |(key, value): (String, &Value)| match value.as_f64().filter(|base| *base > 1.0 && base.fract() == 0.0) {
            Some(base) if base <= LARGEST as f64 * 1e6 => Ok((key, base as usize)),
            _ => Err(Error::new(format!("config.json has {key} = {value}, and not a whole number above 1"))),
        };
        match (old.map(whole).transpose()?, new.map(whole).transpose()?) {
            (Some((old_key, old)), Some((new_key, new))) if old != new => {
                Err(disagree(&format!("{old_key} = {old}"), &format!("{new_key} = {new}"), "the same"))
            }
            (Some((_, theta)), _) | (None, Some((_, theta))) => Ok(theta),
            (None, None) => Err(Error::new(format!("config.json has neither {key} nor rope_parameters.{kind}.rope_theta"))
                .help("a base that is guessed gives other positions than the model was trained with: write it there")),
        }
    };
    Ok([theta("global_rope_theta", GLOBAL)?, theta("local_rope_theta", LOCAL)?])
}

/// Rotary angles are `position / theta^(2 i / width)` over a head's whole width, and nothing else.
fn refuse_scaling(parameters: &Value, kind: &str) -> Result<()> {
    let known = |(key, value): &(&String, &Value)| match key.as_str() {
        "rope_theta" => true,
        "rope_type" => *value == "default" || value.is_null(),
        "partial_rotary_factor" => value.as_f64() == Some(1.0) || value.is_null(),
        _ => value.is_null(),
    };
    match parameters.as_object().into_iter().flatten().find(|entry| !known(entry)) {
        None => Ok(()),
        Some((key, value)) => Err(Error::new(format!(
            "config.json has rope_parameters.{kind}.{key} = {value}, and upstill has plain rotary positions (rope_type \"default\")"
        ))),
    }
}

fn disagree(old: &str, new: &str, wanted: &str) -> Error {
    Error::new(format!("config.json says two things: {old}, and {new}, which should be {wanted}"))
        .help("take away the one that is wrong, or fetch the model's config.json again")
}

/// Dropout of hidden states, of attention and before a classifier. The first stands for two keys, which upstill has one
/// rate for.
fn dropout(config: &Value) -> Result<[f64; 3]> {
    let of = |key: &str| share(config, key, 0.0);
    let (embeddings, feed_forward) = (of("embedding_dropout")?, of("mlp_dropout")?);
    Ok([embeddings.max(feed_forward), of("attention_dropout")?, of("classifier_dropout")?])
}

/// The `config.json` of a model, for `ModernBertForMaskedLM` or `ModernBertDecoderForCausalLM`.
pub(in super::super) fn write(shape: &ModernBertShape, special: &Special) -> Value {
    let kinds: Vec<&str> = (0..shape.layers).map(|layer| if shape.is_global(layer) { GLOBAL } else { LOCAL }).collect();
    let rope = |theta: usize| json!({"rope_type": "default", "rope_theta": theta as f64});
    let class = if shape.is_causal { "ModernBertDecoderForCausalLM" } else { "ModernBertForMaskedLM" };
    let mut config = json!({
        "architectures": [class],
        "model_type": MODEL_TYPES[usize::from(shape.is_causal)],
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.intermediate,
        "max_position_embeddings": shape.max_positions,
        "hidden_activation": "gelu",
        "norm_eps": shape.norm_epsilon,
        "norm_bias": false,
        "attention_bias": false,
        "mlp_bias": false,
        "decoder_bias": shape.decoder_bias,
        "classifier_bias": false,
        "classifier_activation": "gelu",
        "classifier_pooling": if shape.pools_mean { "mean" } else { "cls" },
        "classifier_dropout": 0.0,
        "embedding_dropout": 0.0,
        "attention_dropout": 0.0,
        "mlp_dropout": 0.0,
        "local_attention": shape.window,
        "global_attn_every_n_layers": shape.global_every,
        "global_rope_theta": shape.global_theta as f64,
        "local_rope_theta": shape.local_theta as f64,
        "layer_types": kinds,
        "rope_parameters": {GLOBAL: rope(shape.global_theta), LOCAL: rope(shape.local_theta)},
        "initializer_range": RANGE,
        "initializer_cutoff_factor": 2.0,
        "pad_token_id": special.pad,
        "cls_token_id": special.cls,
        "bos_token_id": special.cls,
        "sep_token_id": special.sep,
        "eos_token_id": special.sep,
        "tie_word_embeddings": true,
    });
    if let (true, Some(keys)) = (shape.is_causal, config.as_object_mut()) {
        keys.shift_remove("classifier_pooling");
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECIAL: Special = Special { pad: 0, unk: Some(1), cls: 2, sep: 3, mask: Some(4) };

    fn shape() -> ModernBertShape {
        ModernBertShape { local_theta: 160_000, pools_mean: true, ..ModernBertShape::new(11, 8, 5, 2, 64) }
    }

    /// What is written, with one key changed; null takes it away.
    fn with(changes: &[(&str, Value)]) -> Value {
        let mut config = write(&shape(), &SPECIAL);
        for (key, value) in changes {
            config[*key] = value.clone();
        }
        config
    }

    #[test]
    fn what_is_written_is_read_back_in_either_dialect() {
        let both = write(&shape(), &SPECIAL);
        let old = with(&[("layer_types", json!(null)), ("rope_parameters", json!(null))]);
        let keys = ["global_attn_every_n_layers", "global_rope_theta", "local_rope_theta"];
        let new = with(&keys.map(|key| (key, json!(null))));
        for config in [both, old, new] {
            let found = parse(&config).unwrap();
            assert_eq!((found.shape, found.tied, found.dropout), (shape().into(), true, [0.0; 3]));
        }
        let decoder = ModernBertShape { is_causal: true, pools_mean: false, ..shape() };
        let written = write(&decoder, &SPECIAL);
        let found = parse(&written).unwrap();
        assert_eq!((found.architecture, found.shape), ("modernbert-decoder", decoder.into()));
        assert_eq!(
            (&written["architectures"][0], written.get("classifier_pooling")),
            (&json!("ModernBertDecoderForCausalLM"), None)
        );
        let without_bias = ModernBertShape { decoder_bias: false, global_every: 1, ..shape() };
        assert_eq!(parse(&write(&without_bias, &SPECIAL)).unwrap().shape, without_bias.into());
    }

    /// Changes of a file, and what its refusal says.
    type Case<'a> = (&'a [(&'a str, Value)], &'a [&'a str]);

    #[test]
    fn what_cannot_be_done_is_named() {
        let rope = |full: Value| json!({GLOBAL: full, LOCAL: {"rope_type": "default", "rope_theta": 160_000.0}});
        let none = || json!(null);
        let decoder = || ("model_type", json!("modernbert-decoder"));
        let cases: [Case; 26] = [
            (&[decoder(), ("local_attention", json!(1))], &["no whole number of 2 or more for \"local_attention\""]),
            (&[decoder(), ("sliding_window", json!(32))], &["local_attention = 128", "sliding_window = 32"]),
            (&[("local_attention", json!(0))], &["no whole number of 1 or more for \"local_attention\""]),
            (&[("local_attention", json!(-1))], &["\"local_attention\""]),
            (&[("sliding_window", json!(32))], &["local_attention = 128", "sliding_window = 32"]),
            (
                &[("global_rope_theta", none()), ("rope_parameters", none())],
                &["neither global_rope_theta nor rope_parameters.full_attention"],
            ),
            (
                &[("local_rope_theta", json!(10_000.0))],
                &["local_rope_theta = 10000", "rope_parameters.sliding_attention.rope_theta = 160000"],
            ),
            (&[("local_rope_theta", json!("high"))], &["local_rope_theta = \"high\""]),
            (
                &[("rope_parameters", rope(json!({"rope_type": "yarn", "rope_theta": 160_000.0})))],
                &["full_attention.rope_type = \"yarn\""],
            ),
            (&[("rope_parameters", rope(json!({"rope_theta": 160_000.0, "factor": 4.0})))], &["full_attention.factor = 4.0"]),
            (&[("rope_scaling", json!({"type": "linear"}))], &["rope_scaling"]),
            (&[("global_attn_every_n_layers", json!(2))], &["global_attn_every_n_layers = 2", "layer_types"]),
            (
                &[("global_attn_every_n_layers", none()), ("layer_types", none())],
                &["neither global_attn_every_n_layers nor layer_types"],
            ),
            (&[("layer_types", json!(["full_attention"]))], &["not a list of 5"]),
            (
                &[("global_attn_every_n_layers", none()), ("layer_types", json!([LOCAL, GLOBAL, LOCAL, LOCAL, GLOBAL]))],
                &["layers 0, n, 2n, ... are global"],
            ),
            (&[("num_attention_heads", json!(3))], &["num_attention_heads = 3", "do not divide hidden_size = 8"]),
            (&[("num_attention_heads", json!(8))], &["num_attention_heads = 8", "the width is odd"]),
            (&[("norm_bias", json!(true))], &["norm_bias is true"]),
            (&[("attention_bias", json!(true))], &["attention_bias is true"]),
            (&[("mlp_bias", json!("yes"))], &["mlp_bias = \"yes\""]),
            (&[("hidden_activation", json!("gelu_new"))], &["hidden_activation is \"gelu_new\""]),
            (&[("classifier_pooling", json!("max"))], &["classifier_pooling = \"max\""]),
            (&[("norm_eps", json!(0))], &["norm_eps = 0"]),
            (&[("is_decoder", json!(true))], &["a decoder (is_decoder)"]),
            (&[("tie_word_embeddings", json!("no"))], &["tie_word_embeddings = \"no\""]),
            (&[("vocab_size", json!(-3))], &["\"vocab_size\""]),
        ];
        for (changes, wanted) in cases {
            let found = parse(&with(changes)).unwrap_err().to_string();
            wanted.iter().for_each(|part| assert!(found.contains(part), "{part}: {found}"));
        }
    }
}
