//! A model's folder as `transformers` writes and reads it: `config.json`, the weights, the tokenizer's files.
//!
//! Read: BERT and what has its shape (MiniLM, DistilBERT), one weight file or several, safetensors or PyTorch's, with
//! or without pooler, head, token types, prefix and wrappings. One rule for all that read: the body is whole and of the
//! sizes that `config.json` says, or the model is refused; only heads may be missing, where they are not needed.
//! Written: `BertForMaskedLM` in one `model.safetensors`.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde_json::{Value, json};

use super::bert::{BertForMaskedLm, BertShape};
use super::config_json::{self, Config};
use super::fit::{Shapes, body, head, is_body, is_head, must_have_body, must_have_head};
use super::names::DECODER;
use super::weight_files::{self, Headers};
use super::weights::{HostTensor, Weights, not_floats};
use crate::error::{Error, Result, note};
use crate::files::manifest::{check, write_checksums};
use crate::files::{Files, write_files, write_folder, write_text};
use crate::tokens::Tokenizer;

/// A folder that holds a model: its shape is read, its weights are not yet.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    /// Where `config.json` lies.
    pub path: PathBuf,
    /// What it says, in BERT's terms.
    pub shape: BertShape,
    /// The architecture that it is of: "bert" or "distilbert".
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
}

impl BertShape {
    /// Refuses a tokenizer that has ids without a row in the word table. A table may have more rows: those stand for
    /// nothing.
    ///
    /// # Errors
    /// One that says how many there are of both.
    pub fn must_hold(&self, tokenizer: &Tokenizer) -> Result<()> {
        let (tokens, rows) = (tokenizer.vocab_size(), self.vocab_size);
        match tokens > rows {
            true => Err(Error::new(format!("the tokenizer has {tokens} tokens, and the model's word table {rows} rows"))
                .help("tokens were added without rows for them: save the model after `resize_token_embeddings`, or take the tokenizer that it was trained with")),
            false => Ok(()),
        }
    }

    /// Refuses rows that have no room for a text, and pairs of texts where the model can't tell the second from the
    /// first.
    ///
    /// # Errors
    /// One that says what the model has.
    pub fn must_read(&self, length: usize, pairs: bool) -> Result<()> {
        if length < 3 {
            return Err(Error::new(format!("rows of {length} tokens have no room for a text between [CLS] and [SEP]"))
                .help("take longer rows, or a model with more positions"));
        }
        match pairs && self.token_types == 1 {
            true => Err(Error::new("the model knows one type of token (type_vocab_size 1), and pairs of texts have two")
                .help("take a model with 2 token types, or with none, as DistilBERT")),
            false => Ok(()),
        }
    }
}

impl Inventory {
    /// Whether the masked-language-model head is whole.
    pub fn has_head(&self) -> bool {
        !self.missing.iter().any(|name| is_head(name))
    }

    /// Whether the head has a decoder of its own, which upstill has not.
    pub fn has_own_decoder(&self) -> bool {
        self.left_over.iter().any(|name| name.starts_with(DECODER))
    }
}

impl ModelFolder {
    /// Finds the model in a run directory (its `model/`), a checkpoint, or a Hugging Face folder.
    ///
    /// # Errors
    /// When there is none, or its `config.json` is of another architecture (named) or can't be obeyed.
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
        check(&folder)?;
        let json: Value = weight_files::read_json(&config, "the JSON of a config.json")?;
        let found = config_json::parse(&json).map_err(|error| error.at(config.display()))?;
        found.notes.iter().for_each(|line| note(format!("{}: {line}", folder.display())));
        Ok(Self { path: folder, shape: found.shape.clone(), architecture: found.architecture, config: found })
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
        let headers = weight_files::headers(&self.path)?;
        if let Some((name, held)) = headers.others.iter().find(|(name, _)| is_body(name)) {
            return Err(not_floats(name, held).at(self.path.display()));
        }
        must_have_body(&self.shape, &headers.shapes).map_err(|error| error.at(self.path.display()))?;
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
        let tensors = weight_files::read(&self.path)?;
        let is_own = |name: &str| name.starts_with("bert.") || is_head(name) || name.starts_with("classifier.");
        tensors.must_be_finite(is_own).map_err(|error| error.at(self.path.display()))?;
        Ok(tensors)
    }

    /// Its encoder and its masked-language-model head, as far as they are there.
    ///
    /// # Errors
    /// As [`ModelFolder::tensors`].
    pub fn weights(&self) -> Result<Weights> {
        Ok(self.tensors()?.only(|name| is_body(name) || is_head(name)))
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
        self.predicts(weights).map_err(|error| error.at(self.path.display()))
    }

    fn predicts(&self, weights: &Weights) -> Result<()> {
        const OTHERWISE: &str = "it can be fine-tuned (`upstill finetune`); to predict, teach or be scored, take a model for masked language modelling";
        let Inventory { left_over, .. } = self.inventory(weights);
        if !weights.iter().any(|(name, _)| is_head(name)) {
            return Err(Error::new("the model has no masked-language-model head, so it predicts no words").help(OTHERWISE));
        }
        if let Some(own) = left_over.iter().find(|name| name.starts_with(DECODER)) {
            let tied = if own.ends_with("bias") { "cls.predictions.bias" } else { "bert.embeddings.word_embeddings.weight" };
            return Err(Error::new(format!(
                "the model's decoder is not tied: {own} differs from {tied}, and upstill's decoder is the word table"
            ))
            .help(format!("{OTHERWISE} whose decoder is tied (tie_word_embeddings)")));
        }
        if !self.config.tied && !self.headers()?.shapes.contains_key("cls.predictions.decoder.weight") {
            return Err(Error::new("config.json says that the decoder is not tied (tie_word_embeddings is false), and cls.predictions.decoder.weight is missing")
                .help("save the model again with its decoder; or, if the decoder is the word table, write tie_word_embeddings = true"));
        }
        must_have_head(&self.shape, &weights.shapes())
    }

    /// What of `tensors` a masked language model of this shape uses, lacks, and has no place for.
    pub fn inventory(&self, tensors: &Weights) -> Inventory {
        let wanted: Shapes = body(&self.shape).into_iter().chain(head(&self.shape)).collect();
        let found = || tensors.iter().map(|(name, _)| name.to_owned());
        Inventory {
            used: found().filter(|name| wanted.contains_key(name)).collect(),
            missing: wanted.keys().filter(|name| tensors.get(name).is_none()).cloned().collect(),
            left_over: found().filter(|name| !wanted.contains_key(name)).collect(),
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
        let tokenizer = Tokenizer::load(&self.path)?;
        self.shape.must_hold(&tokenizer).map_err(|error| error.at(self.path.display()))?;
        Ok(tokenizer)
    }

    /// The model on a device. A pooler and heads of other kinds are left where they are.
    ///
    /// # Errors
    /// As [`ModelFolder::whole`].
    pub fn load(&self, device: &Device) -> Result<BertForMaskedLm> {
        self.whole()?.load_into(self.shape.init(0, 0.0, device)).map_err(|error| error.at(self.path.display()))
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
        write_text(&folder.join("README.md"), card)?;
        write_checksums(folder)
    }

    /// Writes a folder that [`ModelFolder::open`] and `transformers` read, whole or not at all.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(path: &Path, model: &BertForMaskedLm, tokenizer: &Tokenizer) -> Result<()> {
        write_folder(path, |inside| {
            Self::write_into(inside, model, tokenizer)?;
            write_checksums(inside)
        })
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
