//! `config.json`, as `transformers` writes it for Llama, Qwen3 and SmolLM3: with `rope_theta` and `rope_scaling`, as
//! checkpoints were published, or with `rope_parameters`, as `transformers` 5 has it. Both are read, and must agree
//! where both are there; both are written.

use serde_json::{Value, json};

use crate::config::{LlamaShape, RopeScaling};
use crate::error::{Error, Result};
use crate::model::config_keys::{DEEPEST, LARGEST, epsilon, flag, given, refuse_other_kinds, share, whole};
use crate::model::language_model::Config;
use crate::tokens::Special;

/// What `transformers` calls them: Llama's own, and those of the switches.
pub(in super::super) const MODEL_TYPES: [&str; 3] = ["llama", QWEN, SMOL];

/// Norms of queries and keys.
const QWEN: &str = "qwen3";
/// Layers without rotary positions.
const SMOL: &str = "smollm3";

/// The standard deviation of initial weights, where nothing says otherwise.
const RANGE: f64 = 0.02;

/// What a `config.json` says.
///
/// # Errors
/// When it asks for something that upstill has not, its two dialects disagree, or its sizes are missing, out of all
/// bounds or don't fit together.
pub(in super::super) fn parse(config: &Value) -> Result<Config> {
    let kind = MODEL_TYPES.into_iter().find(|kind| config["model_type"] == *kind).unwrap_or(MODEL_TYPES[0]);
    refuse_what_is_not_here(config)?;
    let number = |key: &str, least: usize, most: usize| whole(config, key, least, most);
    let or = |key: &str, otherwise: usize| given(config, key).map_or(Ok(otherwise), |_| number(key, 1, LARGEST));
    let (layers, hidden, heads) = (
        number("num_hidden_layers", 1, DEEPEST)?,
        number("hidden_size", 1, LARGEST)?,
        number("num_attention_heads", 1, LARGEST)?,
    );
    let (rope_theta, rope_scaling) = rope(config)?;
    // As the classes of `transformers` have them where the file is silent: SmolLM3 is tied.
    let tied = flag(config, "tie_word_embeddings")?.unwrap_or(kind == SMOL);
    let shape = LlamaShape {
        vocab_size: number("vocab_size", 1, LARGEST)?,
        hidden,
        layers,
        heads,
        kv_heads: or("num_key_value_heads", heads)?,
        head_dim: head_dim(config, kind, hidden, heads)?,
        intermediate: number("intermediate_size", 1, LARGEST)?,
        // What opens a text, a token, what ends it.
        max_positions: number("max_position_embeddings", 3, LARGEST)?,
        rope_theta,
        tied,
        qk_norm: kind == QWEN,
        no_rope_every: if kind == SMOL { no_rope_every(config, layers)? } else { 0 },
        attention_bias: flag(config, "attention_bias")?.unwrap_or(false),
        // Qwen3 has none, whatever its file says.
        mlp_bias: kind != QWEN && flag(config, "mlp_bias")?.unwrap_or(false),
        norm_epsilon: epsilon(config, "rms_norm_eps", 1e-6)?,
        rope_scaling,
    };
    heads_must_fit(&shape)?;
    // Hidden states and classifiers have no dropout in `transformers`' classes.
    let dropout = share(config, "attention_dropout", 0.0)?;
    let initializer_range = share(config, "initializer_range", RANGE)?;
    Ok(Config { architecture: kind, shape: shape.into(), tied, dropout: [dropout; 3], initializer_range, notes: Vec::new() })
}

/// Llama's and SmolLM3's is a share of the width where the file is silent; Qwen3's class has 128.
fn head_dim(config: &Value, kind: &str, hidden: usize, heads: usize) -> Result<usize> {
    match given(config, "head_dim") {
        Some(_) => whole(config, "head_dim", 1, LARGEST),
        None if kind == QWEN => Ok(128),
        None if hidden.is_multiple_of(heads) => Ok(hidden / heads),
        None => Err(Error::new(format!(
            "config.json has num_attention_heads = {heads}, which do not divide hidden_size = {hidden}, and no head_dim"
        ))),
    }
}

fn heads_must_fit(shape: &LlamaShape) -> Result<()> {
    let LlamaShape { heads, kv_heads, head_dim, .. } = *shape;
    if !heads.is_multiple_of(kv_heads) {
        return Err(Error::new(format!(
            "config.json has num_key_value_heads = {kv_heads}, which do not divide num_attention_heads = {heads}"
        )));
    }
    match head_dim.is_multiple_of(2) {
        true => Ok(()),
        false => Err(Error::new(format!(
            "config.json has heads {head_dim} wide: rotary positions turn pairs of numbers, and the width is odd"
        ))),
    }
}

/// What upstill computes in one way only, or not at all.
fn refuse_what_is_not_here(config: &Value) -> Result<()> {
    refuse_other_kinds(config)?;
    if let Some(found) = given(config, "hidden_act").filter(|found| *found != "silu" && *found != "swish") {
        return Err(Error::new(format!(
            "the model's hidden_act is {found}, and upstill has \"silu\" in its feed-forward layers"
        )));
    }
    if flag(config, "use_sliding_window")? == Some(true) {
        return Err(Error::new(
            "the model attends within a window (use_sliding_window is true), and upstill's Llama to all that comes before",
        ));
    }
    let is_windowed = |types: &&Value| types.as_array().is_none_or(|types| types.iter().any(|kind| kind != "full_attention"));
    if let Some(types) = given(config, "layer_types").filter(is_windowed) {
        return Err(Error::new(format!(
            "config.json has layer_types = {types}, and upstill's Llama has \"full_attention\" in every layer"
        )));
    }
    match given(config, "pretraining_tp").filter(|parts| **parts != json!(1)) {
        Some(parts) => Err(Error::new(format!(
            "the model's pretraining_tp is {parts}: its products are cut into parts, which upstill's are not"
        ))
        .help("write 1: the results differ in rounding alone")),
        None => Ok(()),
    }
}

/// Of each so many layers the last has no rotary positions, from the list or from the interval.
fn no_rope_every(config: &Value, layers: usize) -> Result<usize> {
    let said = match given(config, "no_rope_layer_interval") {
        Some(_) => whole(config, "no_rope_layer_interval", 1, LARGEST)?,
        None => 4,
    };
    let Some(list) = given(config, "no_rope_layers") else { return Ok(if said > layers { 0 } else { said }) };
    let wrong = || Error::new(format!("config.json has no_rope_layers = {list}, and not a list of 1 and 0 for {layers} layers"));
    let of = |turned: &Value| match turned.as_u64() {
        Some(turned @ 0..=1) => Some(turned == 1),
        _ => None,
    };
    let turned: Option<Vec<bool>> = list.as_array().and_then(|list| list.iter().map(of).collect());
    let turned = turned.filter(|turned| turned.len() >= layers).ok_or_else(wrong)?;
    let every = turned.iter().take(layers).position(|turned| !turned).map_or(0, |at| at + 1);
    let is_every =
        |n: usize| turned.iter().take(layers).enumerate().all(|(layer, &turned)| turned == (n == 0 || (layer + 1) % n != 0));
    match is_every(every) {
        true => Ok(every),
        false => Err(Error::new(format!(
            "config.json has no_rope_layers = {list}, and upstill has models in which the last of each n layers has no rotary positions"
        ))),
    }
}

/// The base of the rotary angles and how they are scaled, from either dialect.
fn rope(config: &Value) -> Result<(usize, Option<RopeScaling>)> {
    let (old, new) = (given(config, "rope_scaling"), given(config, "rope_parameters"));
    let scalings = [(old, "rope_scaling"), (new, "rope_parameters")];
    let mut found: Vec<(usize, Option<RopeScaling>)> = Vec::new();
    let old_theta = given(config, "rope_theta");
    for (place, key) in scalings {
        let Some(place) = place else { continue };
        let theta = given(place, "rope_theta").or(old_theta);
        found.push((base(theta, key)?, scaling(place, key)?));
    }
    match (&found[..], old_theta) {
        ([], None) => Err(Error::new("config.json has neither rope_theta nor rope_parameters.rope_theta")
            .help("a base that is guessed gives other positions than the model was trained with: write it there")),
        ([], Some(_)) => Ok((base(old_theta, "rope_theta")?, None)),
        ([first, others @ ..], theta) => {
            let says_other = theta.map(|_| base(theta, "rope_theta")).transpose()?.is_some_and(|theta| theta != first.0);
            match says_other || others.iter().any(|other| other != first) {
                true => Err(Error::new(format!(
                    "config.json says two things of rotary positions: rope_theta = {}, rope_scaling = {}, rope_parameters = {}",
                    theta.unwrap_or(&Value::Null),
                    old.unwrap_or(&Value::Null),
                    new.unwrap_or(&Value::Null)
                ))
                .help("take away the one that is wrong, or fetch the model's config.json again")),
                false => Ok(*first),
            }
        }
    }
}

/// A base of angles: a whole number.
fn base(value: Option<&Value>, key: &str) -> Result<usize> {
    let Some(value) = value else {
        return Err(Error::new(format!("config.json has {key} without a rope_theta, in it or beside it"))
            .help("a base that is guessed gives other positions than the model was trained with: write it there"));
    };
    match value.as_f64().filter(|base| *base > 1.0 && base.fract() == 0.0 && *base <= LARGEST as f64 * 1e6) {
        Some(base) => Ok(base as usize),
        None => Err(Error::new(format!("config.json has rope_theta = {value}, and not a whole number above 1"))),
    }
}

/// Llama 3's scaling, or none.
fn scaling(rope: &Value, key: &str) -> Result<Option<RopeScaling>> {
    let kind = given(rope, "rope_type").or(given(rope, "type"));
    let kind = kind.map_or(Some("default"), Value::as_str);
    let all = ["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"];
    let known = |(name, value): &(&String, &Value)| match name.as_str() {
        "rope_theta" | "rope_type" | "type" => true,
        "partial_rotary_factor" => value.as_f64() == Some(1.0) || value.is_null(),
        name => value.is_null() || kind == Some("llama3") && all.contains(&name),
    };
    let is_known = kind == Some("default") || kind == Some("llama3");
    if let Some((name, value)) = rope.as_object().into_iter().flatten().find(|entry| !known(entry)).filter(|_| is_known) {
        return Err(Error::new(format!("config.json has {key}.{name} = {value}, which upstill does not know there")));
    }
    match kind {
        Some("default") => Ok(None),
        Some("llama3") => {
            let number = |name: &str| {
                let value = given(rope, name).and_then(Value::as_f64).filter(|value| *value > 0.0 && value.is_finite());
                value.ok_or_else(|| {
                    Error::new(format!("config.json has {key} of Llama 3's kind without a number above 0 for {name}"))
                })
            };
            let scaling = RopeScaling {
                factor: number(all[0])?,
                low_freq_factor: number(all[1])?,
                high_freq_factor: number(all[2])?,
                original_max_positions: whole(rope, all[3], 1, LARGEST)?,
            };
            match scaling.high_freq_factor > scaling.low_freq_factor {
                true => Ok(Some(scaling)),
                false => {
                    Err(Error::new(format!("config.json has a {key} whose high_freq_factor is not above its low_freq_factor")))
                }
            }
        }
        _ => Err(Error::new(format!(
            "config.json has {key}.rope_type = {}, and upstill has \"default\" and \"llama3\"",
            given(rope, "rope_type").or(given(rope, "type")).unwrap_or(&Value::Null)
        ))),
    }
}

/// The `config.json` of a model, for `LlamaForCausalLM`, `Qwen3ForCausalLM` or `SmolLM3ForCausalLM`.
pub(in super::super) fn write(shape: &LlamaShape, special: &Special) -> Value {
    let (kind, class) = match (shape.qk_norm, shape.no_rope_every) {
        (true, _) => (QWEN, "Qwen3ForCausalLM"),
        (false, 0) => (MODEL_TYPES[0], "LlamaForCausalLM"),
        (false, _) => (SMOL, "SmolLM3ForCausalLM"),
    };
    let mut rope = match shape.rope_scaling {
        None => json!({"rope_type": "default"}),
        Some(RopeScaling { factor, low_freq_factor, high_freq_factor, original_max_positions }) => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            "original_max_position_embeddings": original_max_positions,
        }),
    };
    let scaling = shape.rope_scaling.map(|_| rope.clone());
    rope["rope_theta"] = json!(shape.rope_theta as f64);
    let mut config = json!({
        "architectures": [class],
        "model_type": kind,
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "intermediate_size": shape.intermediate,
        "max_position_embeddings": shape.max_positions,
        "hidden_act": "silu",
        "rms_norm_eps": shape.norm_epsilon,
        "rope_theta": shape.rope_theta as f64,
        "rope_parameters": rope,
        "attention_bias": shape.attention_bias,
        "attention_dropout": 0.0,
        "initializer_range": RANGE,
        "pad_token_id": special.pad,
        "bos_token_id": special.cls,
        "eos_token_id": special.sep,
        "tie_word_embeddings": shape.tied,
        "use_cache": true,
    });
    if let Some(scaling) = scaling {
        config["rope_scaling"] = scaling;
    }
    if kind != QWEN {
        config["mlp_bias"] = json!(shape.mlp_bias);
    }
    if kind == SMOL {
        let turned: Vec<u8> = (0..shape.layers).map(|layer| u8::from(shape.is_rotary(layer))).collect();
        config["no_rope_layers"] = json!(turned);
        config["no_rope_layer_interval"] = json!(shape.no_rope_every);
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECIAL: Special = Special { pad: 0, unk: Some(1), cls: 2, sep: 3, mask: None };

    fn shape() -> LlamaShape {
        LlamaShape { kv_heads: 2, norm_epsilon: 1e-5, rope_theta: 500_000, ..LlamaShape::new(11, 16, 8, 4, 64) }
    }

    fn scaled() -> LlamaShape {
        let scaling = RopeScaling { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_max_positions: 32 };
        LlamaShape { rope_scaling: Some(scaling), ..shape() }
    }

    /// What is written of a shape, with some keys changed; null takes one away.
    fn with(shape: &LlamaShape, changes: &[(&str, Value)]) -> Value {
        let mut config = write(shape, &SPECIAL);
        for (key, value) in changes {
            config[*key] = value.clone();
        }
        config
    }

    #[test]
    fn what_is_written_is_read_back_in_either_dialect() {
        let shapes = [
            shape(),
            scaled(),
            LlamaShape { tied: false, head_dim: 6, attention_bias: true, mlp_bias: true, ..shape() },
            LlamaShape { qk_norm: true, head_dim: 128, ..shape() },
            LlamaShape { no_rope_every: 4, ..shape() },
            LlamaShape { no_rope_every: 3, tied: false, ..scaled() },
        ];
        for shape in shapes {
            let old = with(&shape, &[("rope_parameters", json!(null))]);
            let new = with(&shape, &[("rope_theta", json!(null)), ("rope_scaling", json!(null))]);
            for config in [write(&shape, &SPECIAL), old, new] {
                let found = parse(&config).unwrap();
                assert_eq!((found.shape, found.tied, found.dropout), (shape.clone().into(), shape.tied, [0.0; 3]));
            }
        }
    }

    #[test]
    fn what_a_file_leaves_out_is_as_transformers_has_it() {
        let silent = |shape: &LlamaShape, keys: &[&str]| {
            let changes: Vec<_> = keys.iter().map(|&key| (key, json!(null))).collect();
            let Ok(Config { shape: crate::config::Shape::Llama(found), .. }) = parse(&with(shape, &changes)) else { panic!() };
            found
        };
        let keys = ["num_key_value_heads", "head_dim", "tie_word_embeddings", "rms_norm_eps", "mlp_bias", "no_rope_layers"];
        let llama = silent(&LlamaShape { kv_heads: 4, ..shape() }, &keys);
        assert_eq!(llama, LlamaShape { kv_heads: 4, head_dim: 4, tied: false, norm_epsilon: 1e-6, ..shape() });
        let qwen = silent(&LlamaShape { qk_norm: true, ..shape() }, &keys);
        assert_eq!((qwen.head_dim, qwen.tied, qwen.no_rope_every), (128, false, 0));
        let smol = silent(&LlamaShape { no_rope_every: 4, ..shape() }, &keys);
        assert_eq!((smol.head_dim, smol.tied, smol.no_rope_every), (4, true, 4));
    }

    /// Changes of a file, and what its refusal says.
    type Case<'a> = (&'a [(&'a str, Value)], &'a [&'a str]);

    #[test]
    fn what_cannot_be_done_is_named() {
        let smol = LlamaShape { no_rope_every: 4, ..shape() };
        let cases: [Case; 16] = [
            (&[("num_key_value_heads", json!(3))], &["num_key_value_heads = 3", "do not divide num_attention_heads = 4"]),
            (&[("head_dim", json!(5))], &["5 wide", "the width is odd"]),
            (&[("head_dim", json!(null)), ("num_attention_heads", json!(6))], &["do not divide hidden_size = 16", "no head_dim"]),
            (&[("hidden_act", json!("gelu"))], &["hidden_act is \"gelu\""]),
            (&[("rope_theta", json!(10_000.0))], &["says two things", "rope_theta = 10000.0"]),
            (&[("rope_theta", json!(null)), ("rope_parameters", json!(null))], &["neither rope_theta nor rope_parameters"]),
            (
                &[("rope_parameters", json!({"rope_type": "yarn", "rope_theta": 500_000.0, "factor": 4.0}))],
                &["rope_type = \"yarn\""],
            ),
            (&[("rope_scaling", json!({"type": "linear", "factor": 2.0}))], &["rope_scaling.rope_type = \"linear\""]),
            (
                &[("rope_scaling", json!({"rope_type": "llama3", "factor": 2.0}))],
                &["without a number above 0 for low_freq_factor"],
            ),
            (&[("rope_parameters", json!({"rope_theta": 500_000.0, "factor": 4.0}))], &["rope_parameters.factor = 4.0"]),
            (&[("use_sliding_window", json!(true))], &["use_sliding_window"]),
            (&[("layer_types", json!(["full_attention", "sliding_attention"]))], &["layer_types"]),
            (&[("pretraining_tp", json!(2))], &["pretraining_tp is 2"]),
            (&[("no_rope_layers", json!([1, 0, 1, 1, 0, 1, 1, 1]))], &["the last of each n layers has no rotary positions"]),
            (&[("no_rope_layers", json!([1, 0]))], &["not a list of 1 and 0 for 8 layers"]),
            (&[("vocab_size", json!(-3))], &["\"vocab_size\""]),
        ];
        for (changes, wanted) in cases {
            let found = parse(&with(&smol, changes)).unwrap_err().to_string();
            wanted.iter().for_each(|part| assert!(found.contains(part), "{part}: {found}"));
        }
    }
}
