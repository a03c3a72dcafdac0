//! A model's folder as `transformers` reads it: `config.json`, `model.safetensors`, the tokenizer's files.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde_json::{Value, json};

use super::bert::{BertForMaskedLm, BertShape};
use super::weights::Weights;
use crate::error::{Error, IoContext, Result};
use crate::files::{write_folder, write_text};
use crate::tokens::Tokenizer;

/// A folder that holds a model: its shape is read, its weights are not yet.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    /// Where `config.json` lies.
    pub path: PathBuf,
    /// What it says.
    pub shape: BertShape,
}

impl ModelFolder {
    /// Finds the model in a run directory (its `model/`), a checkpoint, or a Hugging Face folder.
    ///
    /// # Errors
    /// When there is none, or its `config.json` is of another architecture (named).
    pub fn open(path: &Path) -> Result<Self> {
        let inside = path.join("model");
        let folder = if path.join("config.json").exists() { path.to_owned() } else { inside };
        let config = folder.join("config.json");
        if !config.exists() {
            return Err(Error::new(format!("there is no model in {}", path.display())).help(
                "give a run directory that has finished, a checkpoint, or a folder with config.json and model.safetensors",
            ));
        }
        let text = std::fs::read_to_string(&config).doing("read", &config)?;
        let shape = parse_config(&text).map_err(|error| error.at(config.display()))?;
        Ok(Self { path: folder, shape })
    }

    /// Its weights.
    ///
    /// # Errors
    /// When `model.safetensors` is missing or broken.
    pub fn weights(&self) -> Result<Weights> {
        Weights::read(&self.path.join("model.safetensors"))
    }

    /// Its tokenizer.
    ///
    /// # Errors
    /// When there is none in the folder.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        Tokenizer::load(&self.path)
    }

    /// The model on a device.
    ///
    /// # Errors
    /// As [`ModelFolder::weights`], or when they don't fit the shape.
    pub fn load(&self, device: &Device) -> Result<BertForMaskedLm> {
        self.weights()?.load_into(self.shape.init(0, 0.0, device)).map_err(|error| error.at(self.path.display()))
    }

    /// Writes a folder that [`ModelFolder::open`] and `transformers` read, whole or not at all.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(path: &Path, model: &BertForMaskedLm, tokenizer: &Tokenizer) -> Result<()> {
        write_folder(path, |inside| Self::write_into(inside, model, tokenizer))
    }

    /// Writes the model's files into a folder that is there.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_into(folder: &Path, model: &BertForMaskedLm, tokenizer: &Tokenizer) -> Result<()> {
        write_text(&folder.join("config.json"), &(pretty(&config(model.shape(), tokenizer)) + "\n"))?;
        tokenizer.save(folder)?;
        // Over the tokenizer's own, which does not know the model's longest row.
        let mut settings = tokenizer.settings();
        settings["model_max_length"] = json!(model.shape().max_positions);
        write_text(&folder.join("tokenizer_config.json"), &(pretty(&settings) + "\n"))?;
        Weights::of(model).write(&folder.join("model.safetensors"))
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("a JSON value in memory can be written")
}

fn config(shape: &BertShape, tokenizer: &Tokenizer) -> Value {
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
        "pad_token_id": tokenizer.special().pad,
        "tie_word_embeddings": true,
    })
}

fn parse_config(text: &str) -> Result<BertShape> {
    let config: Value = serde_json::from_str(text).map_err(|error| Error::new(format!("config.json is not JSON: {error}")))?;
    let model_type = config.get("model_type").and_then(Value::as_str).unwrap_or("none");
    if model_type != "bert" {
        return Err(Error::new(format!("the model's architecture is {model_type:?}, and this version reads \"bert\"")));
    }
    if let Some(act) = config.get("hidden_act").and_then(Value::as_str).filter(|act| *act != "gelu") {
        return Err(Error::new(format!(
            "the model's activation is {act:?}, and this version has \"gelu\" (by the error function)"
        )));
    }
    let number = |key: &str| {
        let value = config.get(key).and_then(Value::as_u64).map(|value| value as usize);
        value.ok_or_else(|| Error::new(format!("config.json has no whole number {key:?}")))
    };
    Ok(BertShape {
        vocab_size: number("vocab_size")?,
        hidden: number("hidden_size")?,
        layers: number("num_hidden_layers")?,
        heads: number("num_attention_heads")?,
        intermediate: number("intermediate_size")?,
        max_positions: number("max_position_embeddings")?,
        token_types: number("type_vocab_size").unwrap_or(2),
        norm_epsilon: config.get("layer_norm_eps").and_then(Value::as_f64).unwrap_or(1e-12),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_architecture_is_named() {
        let error = parse_config(r#"{"model_type": "gpt2"}"#).unwrap_err().to_string();
        assert!(error.contains("\"gpt2\""), "{error}");
        assert!(parse_config("{").unwrap_err().to_string().contains("not JSON"));
        assert!(parse_config(r#"{"model_type": "bert"}"#).unwrap_err().to_string().contains("vocab_size"));
    }
}
