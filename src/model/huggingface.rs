//! A model's folder as `transformers` writes and reads it: `config.json`, the weights, the tokenizer's files.
//!
//! Read: BERT and what has its shape (MiniLM, DistilBERT), one weight file or several, safetensors or PyTorch's, with or without
//! pooler, head, token types and prefix. Written: `BertForMaskedLM` in one `model.safetensors`.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde_json::{Value, json};

use super::bert::{BertForMaskedLm, BertShape};
use super::config_json;
use super::weight_files;
use super::weights::{HostTensor, Weights};
use crate::error::{Error, IoContext, Result};
use crate::files::{Files, write_files, write_folder, write_text};
use crate::tokens::Tokenizer;

/// A folder that holds a model: its shape is read, its weights are not yet.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    /// Where `config.json` lies.
    pub path: PathBuf,
    /// What it says, in BERT's terms.
    pub shape: BertShape,
    /// The `model_type` that it names: "bert" or "distilbert".
    pub architecture: &'static str,
}

/// What of a folder's tensors a `BertForMaskedLM` of its shape has a place for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// Tensors that have their place.
    pub used: Vec<String>,
    /// Tensors that the model needs and the files lack.
    pub missing: Vec<String>,
    /// Tensors that the model has no place for: a pooler, a classifier, another head.
    pub left_over: Vec<String>,
}

impl Inventory {
    /// Whether the masked-language-model head is whole.
    pub fn has_head(&self) -> bool {
        !self.missing.iter().any(|name| is_head(name))
    }
}

/// Whether a tensor belongs to the masked-language-model head.
fn is_head(name: &str) -> bool {
    name.starts_with("cls.predictions.")
}

/// Whether a tensor belongs to the encoder or the embeddings; the pooler is neither.
fn is_encoder(name: &str) -> bool {
    name.starts_with("bert.") && !name.starts_with("bert.pooler.")
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
            for place in [path, &folder] {
                let names = models_within(place);
                if let [first, ..] = &names[..] {
                    return Err(Error::new(format!("there are several models in {}: {}", place.display(), names.join(", ")))
                        .help(format!("name one of them: {}", place.join(first).display())));
                }
            }
            return Err(Error::new(format!("there is no model in {}", path.display())).help(
                "give a run directory that has finished, a checkpoint, or a folder with config.json and model.safetensors",
            ));
        }
        let text = std::fs::read_to_string(&config).doing("read", &config)?;
        let (architecture, shape) = config_json::parse(&text).map_err(|error| error.at(config.display()))?;
        Ok(Self { path: folder, shape, architecture })
    }

    /// What to call it: its folder's name, or its run's.
    pub fn name(&self) -> String {
        let folder = if self.path.ends_with("model") { self.path.parent().unwrap_or(&self.path) } else { &self.path };
        folder
            .canonicalize()
            .ok()
            .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .unwrap_or("model".into())
    }

    /// Every tensor of the folder under the names of `BertForMaskedLM`, a pooler and other heads included.
    ///
    /// # Errors
    /// When no weights are there, a part of them is missing, or a file is broken.
    pub fn tensors(&self) -> Result<Weights> {
        weight_files::read(&self.path)
    }

    /// Its encoder and its masked-language-model head, as far as they are there.
    ///
    /// # Errors
    /// As [`ModelFolder::tensors`].
    pub fn weights(&self) -> Result<Weights> {
        Ok(self.tensors()?.only(|name| is_encoder(name) || is_head(name)))
    }

    /// What of `tensors` a masked language model of this shape uses, lacks, and has no place for.
    pub fn inventory(&self, tensors: &Weights) -> Inventory {
        let wanted = Weights::of(&self.shape.init(0, 0.0, &Device::flex()));
        let names = |weights: &Weights, keep: &dyn Fn(&str) -> bool| {
            weights.iter().map(|(name, _)| name.to_owned()).filter(|name| keep(name)).collect::<Vec<_>>()
        };
        Inventory {
            used: names(tensors, &|name| wanted.get(name).is_some()),
            missing: names(&wanted, &|name| tensors.get(name).is_none()),
            left_over: names(tensors, &|name| wanted.get(name).is_none()),
        }
    }

    /// The names of the weight files.
    ///
    /// # Errors
    /// When there are none, or a part is missing.
    pub fn weight_files(&self) -> Result<Vec<String>> {
        weight_files::find(&self.path)
    }

    /// Its tokenizer.
    ///
    /// # Errors
    /// When there is none in the folder.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        Tokenizer::load(&self.path)
    }

    /// The model on a device. A pooler and heads of other kinds are left where they are.
    ///
    /// # Errors
    /// As [`ModelFolder::tensors`]; when they don't fit the shape, or the masked-language-model head is missing.
    pub fn load(&self, device: &Device) -> Result<BertForMaskedLm> {
        let weights = self.weights()?;
        if !weights.iter().any(|(name, _)| is_head(name)) {
            return Err(Error::new("the model has no masked-language-model head, so it predicts no words")
                .at(self.path.display())
                .help("it can be fine-tuned (`upstill finetune`); to predict, teach or be scored, take a model for masked language modelling"));
        }
        weights.load_into(self.shape.init(0, 0.0, device)).map_err(|error| error.at(self.path.display()))
    }

    /// Writes the model's files and its card into a folder, as `transformers` wants them even where the model has no token types:
    /// `BertForMaskedLM` always adds a row of that table, so it gets one of zeros.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn export_into(folder: &Path, model: &BertForMaskedLm, tokenizer: &Tokenizer, card: &str) -> Result<()> {
        const TYPES: usize = 2;
        let mut shape = model.shape().clone();
        let mut weights = Weights::of(model);
        if shape.token_types == 0 {
            let zeros = HostTensor { shape: vec![TYPES, shape.hidden], values: vec![0.0; TYPES * shape.hidden] };
            weights.insert("bert.embeddings.token_type_embeddings.weight", zeros);
            shape.token_types = TYPES;
        }
        let model = weights.load_into(shape.init(0, 0.0, &Device::flex()))?;
        Self::write_into(folder, &model, tokenizer)?;
        write_text(&folder.join("README.md"), card)
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
        write_files(folder, &Self::files(model.shape(), &Weights::of(model), tokenizer)?)
    }

    /// What [`ModelFolder::write_into`] writes.
    ///
    /// # Errors
    /// As [`Tokenizer::files`].
    pub fn files(shape: &BertShape, weights: &Weights, tokenizer: &Tokenizer) -> Result<Files> {
        let mut files = tokenizer.files()?;
        // Over the tokenizer's own, which does not know the model's longest row.
        let mut settings = tokenizer.settings();
        settings["model_max_length"] = json!(shape.max_positions);
        let config = config_json::write(shape, tokenizer.special().pad);
        for (name, value) in [("config.json", config), ("tokenizer_config.json", settings)] {
            files.insert(name.to_owned(), (pretty(&value) + "\n").into_bytes());
        }
        files.insert("model.safetensors".to_owned(), weights.to_bytes());
        Ok(files)
    }
}

/// The names of the models in a folder that is none itself, as training several at once leaves them.
fn models_within(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let inside = entries.flatten().map(|entry| entry.path()).filter(|path| path.join("config.json").exists());
    let mut names: Vec<String> = inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect();
    names.sort();
    names
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("a JSON value in memory can be written")
}
