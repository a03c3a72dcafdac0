//! Models in one file of llama.cpp's, GGUF: those of Llama's family (`general.architecture` = "llama" or "qwen3"),
//! whose numbers are F32, F16, BF16, Q8_0, Q4_0 or Q4_1, with their tokenizer. Every other architecture, type and
//! tokenizer is refused by its name.
//!
//! What is in it becomes what a folder of `transformers` has, a `config.json` and its names for tensors, and is checked
//! as that is. A file is read twice at most: its keys and where tensors lie, then the tensors.

mod blocks;
mod container;
mod tokenizer;

use std::path::Path;

use serde_json::{Value as Json, json};

use self::container::{Container, Value};
use super::weights::{HostTensor, Shapes, Weights};
use crate::error::{Error, Result};
use crate::tokens::Tokenizer;

/// Llama, whose rows of queries and keys stand in another order there.
const LLAMA: &str = "llama";
/// Llama with norms of queries and keys.
const QWEN: &str = "qwen3";

/// What rotary frequencies are divided by, a number each.
const DIVISORS: &str = "rope_freqs.weight";

const AGAIN: &str = "fetch the file again, or take the model's safetensors";

/// The name of each layer's tensors there, and in `transformers`.
const PARTS: [(&str, &str); 11] = [
    ("attn_norm", "input_layernorm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// Whether a path is such a file, by its name.
pub(super) fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")) && !path.is_dir()
}

/// A file with a model; its tensors are not read yet.
#[derive(Debug)]
pub(super) struct Gguf {
    file: Container,
    architecture: &'static str,
    heads: usize,
    kv_heads: usize,
}

fn refused(what: impl Into<String>) -> Error {
    Error::new(what)
}

impl Gguf {
    /// Reads a file's keys and what it says of its tensors.
    ///
    /// # Errors
    /// When it can't be read, is no whole GGUF file, or holds a model of another architecture, which is named.
    pub fn open(path: &Path) -> Result<Self> {
        let file = Container::open(path)?;
        Self::of(file).map_err(|error| error.at(path.display()))
    }

    fn of(file: Container) -> Result<Self> {
        let architecture = match file.keys.get("general.architecture") {
            Some(Value::Text(name)) => [LLAMA, QWEN].into_iter().find(|known| known == name).ok_or_else(|| {
                refused(format!(
                    "the GGUF file holds a model of the architecture {name:?}, and upstill reads {LLAMA:?} and {QWEN:?}"
                ))
                .help("take a model of Llama's family, or its safetensors")
            })?,
            _ => return Err(refused("the file has no general.architecture").help(AGAIN)),
        };
        let mut out = Self { file, architecture, heads: 0, kv_heads: 0 };
        out.heads = out.whole("attention.head_count")?;
        out.kv_heads = out.maybe_whole("attention.head_count_kv")?.unwrap_or(out.heads);
        Ok(out)
    }

    fn key(&self, name: &str) -> (String, Option<&Value>) {
        let name = format!("{}.{name}", self.architecture);
        let value = self.file.keys.get(&name);
        (name, value)
    }

    fn maybe_whole(&self, name: &str) -> Result<Option<usize>> {
        match self.key(name) {
            (_, None) => Ok(None),
            (name, Some(value)) => match value {
                Value::Whole(number) if (1..=1 << 40).contains(number) => Ok(Some(*number as usize)),
                other => Err(refused(format!("{name} is {other:?}, and not a whole number above 0")).help(AGAIN)),
            },
        }
    }

    fn whole(&self, name: &str) -> Result<usize> {
        let found = self.maybe_whole(name)?;
        found.ok_or_else(|| refused(format!("the file has no {}.{name}", self.architecture)).help(AGAIN))
    }

    fn float(&self, name: &str) -> Result<Option<f64>> {
        match self.key(name) {
            (_, None) => Ok(None),
            (_, Some(Value::Float(number))) if number.is_finite() => Ok(Some(*number)),
            (name, Some(other)) => Err(refused(format!("{name} is {other:?}, and not a number")).help(AGAIN)),
        }
    }

    fn needed_float(&self, name: &str) -> Result<f64> {
        let found = self.float(name)?;
        found.ok_or_else(|| refused(format!("the file has no {}.{name}", self.architecture)).help(AGAIN))
    }

    /// What `config.json` would say.
    ///
    /// # Errors
    /// When it asks for something that upstill has not, or sizes are missing.
    pub fn config(&self) -> Result<Json> {
        self.must_be_plain()?;
        let (hidden, heads) = (self.whole("embedding_length")?, self.heads);
        let words = self.file.tensors.get("token_embd.weight");
        let [rows, _] = words.map_or(&[][..], |words| &words.shape)[..] else {
            return Err(refused("the file has no token_embd.weight with a row a token").help(AGAIN));
        };
        let head_dim = match self.maybe_whole("attention.key_length")? {
            Some(length) => length,
            None => self.maybe_whole("rope.dimension_count")?.unwrap_or(hidden / heads),
        };
        for name in ["rope.dimension_count", "attention.value_length"] {
            if let Some(other) = self.maybe_whole(name)?.filter(|other| *other != head_dim) {
                return Err(refused(format!("heads are {head_dim} wide, and {}.{name} is {other}", self.architecture))
                    .help("upstill turns whole heads, and has values as wide as keys: take another model"));
            }
        }
        let id = |name: &str| match self.file.keys.get(&format!("tokenizer.ggml.{name}_token_id")) {
            Some(Value::Whole(id)) => json!(u32::try_from(*id).ok()),
            _ => json!(null),
        };
        let theta = self.float("rope.freq_base")?.unwrap_or(10_000.0);
        let scaling = self.rope_scaling(head_dim, theta)?;
        Ok(json!({
            "model_type": self.architecture,
            "vocab_size": rows,
            "hidden_size": hidden,
            "num_hidden_layers": self.whole("block_count")?,
            "num_attention_heads": heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": head_dim,
            "intermediate_size": self.whole("feed_forward_length")?,
            "max_position_embeddings": self.whole("context_length")?,
            "rms_norm_eps": self.needed_float("attention.layer_norm_rms_epsilon")?,
            "rope_theta": theta,
            "rope_scaling": scaling,
            "attention_bias": self.file.tensors.contains_key("blk.0.attn_q.bias"),
            "mlp_bias": self.file.tensors.contains_key("blk.0.ffn_gate.bias"),
            "tie_word_embeddings": !self.file.tensors.contains_key("output.weight"),
            "bos_token_id": id("bos"),
            "eos_token_id": id("eos"),
            "pad_token_id": id("padding"),
        }))
    }

    /// Refuses what changes what a model computes and is not computed here.
    fn must_be_plain(&self) -> Result<()> {
        for name in ["rope.scaling.type", "attention.sliding_window", "expert_count", "attention.scale", "logit_scale"] {
            match self.key(name) {
                (_, None) => {}
                (_, Some(Value::Text(none))) if none == "none" => {}
                (_, Some(Value::Whole(0))) => {}
                (name, Some(value)) => {
                    return Err(refused(format!("{name} is {value:?}, and upstill's Llama has no such thing"))
                        .help("take a model without it, or its safetensors"));
                }
            }
        }
        Ok(())
    }

    /// How the rotary angles were stretched, as `config.json` says it: Llama 3.1's and later files hold what each
    /// frequency is divided by, which must be what Meta's settings come to with some factor. Null where there is no
    /// such table.
    fn rope_scaling(&self, head_dim: usize, theta: f64) -> Result<Json> {
        const LOW: f64 = 1.0;
        const HIGH: f64 = 4.0;
        const ORIGINAL: f64 = 8192.0;
        if !self.file.tensors.contains_key(DIVISORS) {
            return Ok(json!(null));
        }
        let found = self.file.tensor(DIVISORS)?.values;
        let factor = f64::from(found.last().copied().unwrap_or_default());
        let divisor = |at: usize| {
            let turns = ORIGINAL / (std::f64::consts::TAU * theta.powf(2.0 * at as f64 / head_dim as f64));
            let smooth = ((turns - LOW) / (HIGH - LOW)).clamp(0.0, 1.0);
            1.0 / ((1.0 - smooth) / factor + smooth)
        };
        let is_it = |(at, &found): (usize, &f32)| (f64::from(found) / divisor(at) - 1.0).abs() < 1e-4;
        match found.len() == head_dim / 2 && found.iter().enumerate().all(is_it) {
            true => Ok(json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": LOW,
                "high_freq_factor": HIGH,
                "original_max_position_embeddings": ORIGINAL as usize,
            })),
            false => Err(refused(format!("{DIVISORS} scales rotary angles otherwise than Llama 3.1 and later do"))
                .help("take the model's safetensors, whose config.json says how they are scaled")),
        }
    }

    /// The tensors that are weights.
    fn weight_names(&self) -> impl Iterator<Item = &String> {
        self.file.tensors.keys().filter(|name| *name != DIVISORS)
    }

    /// Names and sizes of its tensors, by `transformers`' names.
    pub fn shapes(&self) -> Shapes {
        self.weight_names().map(|name| (renamed(name), self.file.tensors[name].shape.clone())).collect()
    }

    /// Its tensors, by `transformers`' names and in its order of rows.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn weights(&self) -> Result<Weights> {
        let mut out = Weights::default();
        for name in self.weight_names() {
            let (ours, mut tensor) = (renamed(name), self.file.tensor(name)?);
            let heads = match () {
                () if self.architecture != LLAMA => None,
                () if ours.contains(".q_proj.") => Some(self.heads),
                () if ours.contains(".k_proj.") => Some(self.kv_heads),
                () => None,
            };
            if let Some(heads) = heads {
                tensor = halves_apart(tensor, heads);
            }
            out.insert(&ours, tensor);
        }
        Ok(out)
    }

    /// Its tokenizer.
    ///
    /// # Errors
    /// When there is none, it is of another kind or split in an unknown way (both are named), or it makes no sense.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        tokenizer::tokenizer(&self.file)
    }
}

/// A tensor's name in `transformers`; one that is not known stays as it is, of a layer's below the layer, where nothing
/// of that name is wanted.
fn renamed(name: &str) -> String {
    match name {
        "token_embd.weight" => return "model.embed_tokens.weight".to_owned(),
        "output_norm.weight" => return "model.norm.weight".to_owned(),
        "output.weight" => return "lm_head.weight".to_owned(),
        _ => {}
    }
    let Some((layer, rest)) = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) else { return name.to_owned() };
    let (part, end) = rest.rsplit_once('.').unwrap_or((rest, ""));
    let part = PARTS.iter().find(|(theirs, _)| *theirs == part).map_or(part, |(_, ours)| ours);
    format!("model.layers.{layer}.{part}.{end}")
}

/// Rotary positions turn pairs of numbers: here those half a head apart, as `transformers` has them, there neighbours.
/// The rows of each head in `transformers`' order.
fn halves_apart(tensor: HostTensor, heads: usize) -> HostTensor {
    let HostTensor { shape, values } = &tensor;
    let rows = shape[0];
    // Sizes that don't fit are told by whoever compares them with the shape.
    if !rows.is_multiple_of(heads) || !(rows / heads).is_multiple_of(2) || values.is_empty() {
        return tensor;
    }
    let (width, half) = (values.len() / rows, rows / heads / 2);
    let mut out = Vec::with_capacity(values.len());
    for row in 0..rows {
        let (head, at) = (row / (2 * half), row % (2 * half));
        let from = head * 2 * half + 2 * (at % half) + at / half;
        out.extend_from_slice(&values[from * width..][..width]);
    }
    HostTensor { shape: shape.clone(), values: out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_rows_become_transformers() {
        assert_eq!(renamed("blk.12.attn_k.weight"), "model.layers.12.self_attn.k_proj.weight");
        assert_eq!(renamed("blk.0.ffn_gate_exps.weight"), "model.layers.0.ffn_gate_exps.weight");
        assert_eq!(renamed("output_norm.weight"), "model.norm.weight");
        let tensor = HostTensor { shape: vec![8, 1], values: (0..8).map(|row| row as f32).collect() };
        assert_eq!(halves_apart(tensor.clone(), 2).values, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
        assert_eq!(halves_apart(tensor, 1).values, [0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0]);
    }
}
