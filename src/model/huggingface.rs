//! A model's folder as `transformers` writes and reads it: `config.json`, the weights, the tokenizer's files.
//!
//! Read: BERT and what has its shape (MiniLM, DistilBERT), ModernBERT, Llama (SmolLM2, Qwen3, SmolLM3), GPT-2, one
//! weight file or several, safetensors or PyTorch's, with or without pooler, head, token types, prefix and wrappings;
//! and one file of llama.cpp's in place of a folder (`src/model/gguf/`). One rule for all that read: the body is whole
//! and of the sizes that `config.json` says, or the model is refused; only heads may be missing, where they are not
//! needed. Written: the family's language model in one `model.safetensors`.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde_json::{Value, json};

use super::family::AnyModel;
use super::gguf::{Gguf, is_gguf};
use super::language_model::{Config, LanguageModel};
use super::weight_files::{self, Headers};
use super::weights::{Shapes, Weights, not_floats};
use crate::config::{Family, ObjectiveKind, Shape};
use crate::error::{Error, Result, note};
use crate::files::manifest::{check, write_checksums};
use crate::files::{Files, write_files, write_folder, write_text};
use crate::tokens::Tokenizer;

/// A folder that holds a model: its shape is read, its weights are not yet.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    /// Where `config.json` lies; of a GGUF file the file.
    pub path: PathBuf,
    /// What it says of sizes, in its family's terms.
    pub shape: Shape,
    /// The architecture that it is of: `model_type`.
    pub architecture: &'static str,
    config: Config,
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
    has_head: bool,
    has_own_decoder: bool,
}

impl Inventory {
    /// Whether the masked-language-model head is whole.
    pub fn has_head(&self) -> bool {
        self.has_head
    }

    /// Whether the head has a decoder of its own, which upstill has not.
    pub fn has_own_decoder(&self) -> bool {
        self.has_own_decoder
    }
}

impl ModelFolder {
    /// Finds the model in a run directory (its `model/`), a checkpoint, a Hugging Face folder, or a GGUF file.
    ///
    /// # Errors
    /// When there is none, or its `config.json` is of another architecture (named) or can't be obeyed.
    pub fn open(path: &Path) -> Result<Self> {
        if is_gguf(path) {
            let found = Gguf::open(path)?.config().and_then(|config| Config::parse(&config));
            return Ok(Self::of(path.to_owned(), found.map_err(|error| error.at(path.display()))?));
        }
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
                "give a run directory that has finished, a checkpoint, a folder with config.json and model.safetensors, or a .gguf file",
            ));
        }
        check(&folder)?;
        let json: Value = weight_files::read_json(&config, "the JSON of a config.json")?;
        let found = Config::parse(&json).map_err(|error| error.at(config.display()))?;
        found.notes.iter().for_each(|line| note(format!("{}: {line}", folder.display())));
        Ok(Self::of(folder, found))
    }

    fn of(path: PathBuf, config: Config) -> Self {
        Self { path, shape: config.shape.clone(), architecture: config.architecture, config }
    }

    /// Refuses a folder whose files don't hold the whole body of its `config.json`'s model, in the sizes that it says.
    /// Files are asked for names and sizes alone, so that nothing of a size that is claimed wrongly is ever made.
    ///
    /// # Errors
    /// When no weights are there, a part is missing or broken, or the tensors are not those of the shape (all of them
    /// are listed).
    pub fn check(&self) -> Result<()> {
        self.headers().map(drop)
    }

    fn headers(&self) -> Result<Headers> {
        let headers = weight_files::headers(&self.path, &self.shape)?;
        if let Some((name, held)) = headers.others.iter().find(|(name, _)| self.shape.is_body(name)) {
            return Err(not_floats(name, held).at(self.path.display()));
        }
        self.shape.must_have_body(&headers.shapes).map_err(|error| error.at(self.path.display()))?;
        headers.notes.iter().for_each(|line| note(format!("{}: {line}", self.path.display())));
        Ok(headers)
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

    /// Every tensor of the folder under the names of `BertForMaskedLM`, a pooler and other heads included. The
    /// embeddings and the encoder are whole and finite.
    ///
    /// # Errors
    /// When no weights are there, a part of them is missing, a file is broken, the tensors are not those of the shape,
    /// or values of the model's own are NaN or infinite.
    pub fn tensors(&self) -> Result<Weights> {
        self.check()?;
        let tensors = weight_files::read(&self.path, &self.shape)?;
        let is_own = |name: &str| {
            self.shape.is_body(name)
                || self.shape.is_head(name)
                || ["bert.pooler.", "classifier."].iter().any(|own| name.starts_with(own))
        };
        tensors.must_be_finite(is_own).map_err(|error| error.at(self.path.display()))?;
        Ok(tensors)
    }

    /// Its encoder and its masked-language-model head, as far as they are there.
    ///
    /// # Errors
    /// As [`ModelFolder::tensors`].
    pub fn weights(&self) -> Result<Weights> {
        Ok(self.tensors()?.only(|name| self.shape.is_body(name) || self.shape.is_head(name)))
    }

    /// Its encoder and its masked-language-model head, both whole.
    ///
    /// # Errors
    /// As [`ModelFolder::tensors`]; when the head is missing, in part or in all, or has a decoder of its own.
    pub fn whole(&self) -> Result<Weights> {
        let weights = self.weights()?;
        self.must_predict(&weights)?;
        Ok(weights)
    }

    /// Refuses weights of this folder without a whole masked-language-model head that is tied to the word table.
    ///
    /// # Errors
    /// One that says what keeps it from predicting words.
    pub fn must_predict(&self, weights: &Weights) -> Result<()> {
        let has_own_decoder =
            || Ok(self.headers()?.shapes.keys().any(|name| self.shape.is_own_decoder(name) && name.ends_with("weight")));
        let predicts = self.shape.must_predict(weights, self.config.tied, has_own_decoder);
        predicts.map_err(|error| error.at(self.path.display()))
    }

    /// What of `tensors` a masked language model of this shape uses, lacks, and has no place for.
    pub fn inventory(&self, tensors: &Weights) -> Inventory {
        let wanted: Shapes = self.shape.body().into_iter().chain(self.shape.head()).collect();
        let found = || tensors.iter().map(|(name, _)| name.to_owned());
        let missing: Vec<String> = wanted.keys().filter(|name| tensors.get(name).is_none()).cloned().collect();
        let left_over: Vec<String> = found().filter(|name| !wanted.contains_key(name)).collect();
        Inventory {
            used: found().filter(|name| wanted.contains_key(name)).collect(),
            has_head: !missing.iter().any(|name| self.shape.is_head(name)),
            has_own_decoder: left_over.iter().any(|name| self.shape.is_own_decoder(name)),
            missing,
            left_over,
        }
    }

    /// Standard deviation of the weights of heads that are drawn anew, as its `config.json` names it.
    pub fn initializer_range(&self) -> f64 {
        self.config.initializer_range
    }

    /// The dropout that its `config.json` names, where it is one and the same everywhere.
    pub fn dropout(&self) -> Option<f64> {
        let [hidden, attention, classifier] = self.config.dropout;
        (hidden == attention && hidden == classifier).then_some(hidden)
    }

    /// The names of the weight files.
    ///
    /// # Errors
    /// When there are none, or a part is missing.
    pub fn weight_files(&self) -> Result<Vec<String>> {
        weight_files::find(&self.path)
    }

    /// Its tokenizer, every id of which has a row in the word table.
    ///
    /// # Errors
    /// When there is none in the folder, or it has more tokens than the word table has rows.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let tokenizer = if is_gguf(&self.path) { Gguf::open(&self.path)?.tokenizer()? } else { Tokenizer::load(&self.path)? };
        self.shape.must_hold(&tokenizer).map_err(|error| error.at(self.path.display()))?;
        Ok(tokenizer)
    }

    /// The model on a device. A pooler and heads of other kinds are left where they are.
    ///
    /// # Errors
    /// As [`ModelFolder::whole`].
    pub fn load(&self, device: &Device) -> Result<AnyModel> {
        self.whole()?.load_into(self.shape.init(0, 0.0, device)).map_err(|error| error.at(self.path.display()))
    }

    /// Writes the model's files and its card into a folder, as `transformers` wants them.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn export_into(folder: &Path, model: &impl LanguageModel, tokenizer: &Tokenizer, card: &str) -> Result<()> {
        let (shape, weights) = model.shape().for_transformers(Weights::of(model));
        write_files(folder, &Self::files(&shape, &weights, tokenizer)?)?;
        write_text(&folder.join("README.md"), card)?;
        write_checksums(folder)
    }

    /// Writes a folder that [`ModelFolder::open`] and `transformers` read, whole or not at all.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(path: &Path, model: &impl LanguageModel, tokenizer: &Tokenizer) -> Result<()> {
        write_folder(path, |inside| {
            Self::write_into(inside, model, tokenizer)?;
            write_checksums(inside)
        })
    }

    /// Writes the model's files into a folder that is there.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_into(folder: &Path, model: &impl LanguageModel, tokenizer: &Tokenizer) -> Result<()> {
        write_files(folder, &Self::files(&model.shape(), &Weights::of(model), tokenizer)?)
    }

    /// What [`ModelFolder::write_into`] writes.
    ///
    /// # Errors
    /// As [`Tokenizer::files`].
    pub fn files(shape: &Shape, weights: &Weights, tokenizer: &Tokenizer) -> Result<Files> {
        let mut files = tokenizer.files()?;
        // Over the tokenizer's own, which knows no model.
        let settings = settings_for(tokenizer, shape);
        let config = shape.config(&tokenizer.special());
        for (name, value) in [("config.json", config), ("tokenizer_config.json", settings)] {
            files.insert(name.to_owned(), (pretty(&value) + "\n").into_bytes());
        }
        files.insert("model.safetensors".to_owned(), weights.to_bytes());
        Ok(files)
    }
}

/// What `tokenizer_config.json` says beside a model.
pub(super) fn settings_for(tokenizer: &Tokenizer, shape: &Shape) -> Value {
    let mut settings = tokenizer.settings();
    settings["model_max_length"] = json!(shape.max_positions());
    if shape.family() != Family::Bert {
        // They have no token types, which `transformers` would make otherwise.
        settings["model_input_names"] = json!(["input_ids", "attention_mask"]);
    }
    if shape.family().objective() == ObjectiveKind::Causal {
        let [_, _, opens, ends, _] = tokenizer.special_names();
        for (key, name) in [("bos_token", opens), ("eos_token", ends)] {
            if let Some(name) = name {
                settings[key] = json!(name);
            }
        }
    }
    settings
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
