//! A fine-tuned model of any family: it classifies or scores a text or a pair.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde_json::{Map, Value, json};

use super::bert::{self, BertClassifier};
use super::huggingface::settings_for;
use super::modernbert::{self, ModernBertClassifier};
use super::{Dropout, Inputs, ModelFolder, Weights};
use crate::config::{ObjectiveKind, Shape};
use crate::error::{Error, Result};
use crate::files::write_text;
use crate::tokens::Tokenizer;

/// A classifier on a model of any family.
#[derive(Module, Debug)]
pub enum Classifier {
    /// On BERT's pooler.
    Bert(BertClassifier),
    /// On ModernBERT's head.
    ModernBert(ModernBertClassifier),
}

impl Classifier {
    /// Refuses a folder whose family no classifier is made of.
    ///
    /// # Errors
    /// One that says what to take.
    pub fn must_be_of(folder: &ModelFolder) -> Result<()> {
        match folder.shape.family().objective() {
            ObjectiveKind::Masked => Ok(()),
            ObjectiveKind::Causal => Err(of_causal().at(folder.path.display())),
        }
    }

    /// Puts a new classifier, drawn from `seed`, on a pre-trained model's weights, with what stands between them in its
    /// family. `outputs` is the number of classes, or 1 for a score; `range` the standard deviation of what is drawn
    /// between.
    ///
    /// # Errors
    /// When the weights are not the whole body of the shape: nothing of it is ever drawn anew.
    pub fn start_from(
        pretrained: &Weights,
        shape: &Shape,
        outputs: usize,
        range: f64,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        Ok(match shape {
            Shape::Bert(shape) => Classifier::Bert(BertClassifier::start_from(pretrained, shape, outputs, range, seed, device)?),
            Shape::ModernBert(shape) if !shape.is_causal => {
                Classifier::ModernBert(ModernBertClassifier::start_from(pretrained, shape, outputs, range, seed, device)?)
            }
            Shape::ModernBert(_) | Shape::Llama(_) | Shape::Gpt2(_) => return Err(of_causal()),
        })
    }

    /// A fine-tuned classifier's folder: ours, or any that `transformers` has for its family; a language-model head is
    /// left out.
    ///
    /// # Errors
    /// When the folder's weights can't be read or don't fit their shape, or it holds no classifier of texts.
    pub fn load(folder: &ModelFolder, device: &Device) -> Result<Self> {
        Ok(match &folder.shape {
            Shape::Bert(shape) => Classifier::Bert(BertClassifier::load(folder, shape, device)?),
            Shape::ModernBert(shape) if !shape.is_causal => {
                Classifier::ModernBert(ModernBertClassifier::load(folder, shape, device)?)
            }
            Shape::ModernBert(_) | Shape::Llama(_) | Shape::Gpt2(_) => return Err(of_causal().at(folder.path.display())),
        })
    }

    /// Logits, or one score, of each row: `[b, outputs]`. Dropout acts on the pooled output too.
    pub fn logits(&self, inputs: &Inputs, dropout: &mut Dropout) -> Tensor<2> {
        let pooled_bd = self.pooled(self.first(inputs, dropout), inputs);
        self.classify(dropout.apply(pooled_bd))
    }

    /// What stands for each row: the last layer's state of its first token, or the mean of all where the model was made
    /// so: `[b, d]`.
    pub fn first(&self, inputs: &Inputs, dropout: &mut Dropout) -> Tensor<2> {
        match self {
            Classifier::Bert(model) => model.first(inputs, dropout),
            Classifier::ModernBert(model) => model.model.of_rows(inputs, dropout),
        }
    }

    /// What is between those of `inputs` and the classifier: `[b, d]` to `[b, d]`.
    pub fn pooled(&self, first_bd: Tensor<2>, inputs: &Inputs) -> Tensor<2> {
        match self {
            Classifier::Bert(model) => model.pooled(first_bd),
            Classifier::ModernBert(model) => model.pooled(first_bd, &inputs.compute),
        }
    }

    /// Logits, or scores, of what was pooled: `[b, d]` to `[b, outputs]`.
    pub fn classify(&self, pooled_bd: Tensor<2>) -> Tensor<2> {
        self.classifier().forward(pooled_bd)
    }

    /// Number of classes; 1 for a score.
    pub fn outputs(&self) -> usize {
        self.classifier().weight.dims()[1]
    }

    fn classifier(&self) -> &burn::nn::Linear {
        match self {
            Classifier::Bert(model) => &model.classifier,
            Classifier::ModernBert(model) => &model.classifier,
        }
    }

    /// Writes a folder that `transformers`' `AutoModelForSequenceClassification` reads, into a folder that is there.
    /// `labels` are the classes' names in the order of the outputs; none for a score.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_into(&self, folder: &Path, shape: &Shape, labels: &[String], tokenizer: &Tokenizer) -> Result<()> {
        let pretty = |value: Value| serde_json::to_string_pretty(&value).expect("a JSON value in memory can be written") + "\n";
        write_text(&folder.join("config.json"), &pretty(config(shape, labels, tokenizer)))?;
        tokenizer.save(folder)?;
        // Over the tokenizer's own, which knows no model.
        write_text(&folder.join("tokenizer_config.json"), &pretty(settings_for(tokenizer, shape)))?;
        Weights::of(self).write(&folder.join("model.safetensors"))
    }
}

fn of_causal() -> Error {
    Error::new("the model is a causal one, and upstill fine-tunes encoders")
        .help("take a BERT or a ModernBERT; a causal model is scored by its loss (`upstill eval`)")
}

fn config(shape: &Shape, labels: &[String], tokenizer: &Tokenizer) -> Value {
    let names: Vec<String> = if labels.is_empty() { vec!["score".to_owned()] } else { labels.to_vec() };
    let by_id: Map<String, Value> = names.iter().enumerate().map(|(id, name)| (id.to_string(), json!(name))).collect();
    let by_name: Map<String, Value> = names.iter().enumerate().map(|(id, name)| (name.clone(), json!(id))).collect();
    let special = tokenizer.special();
    let mut config = match shape {
        Shape::Bert(shape) => bert::classifier_config(shape, &special),
        Shape::ModernBert(shape) if !shape.is_causal => modernbert::classifier_config(shape, &special),
        Shape::ModernBert(_) | Shape::Llama(_) | Shape::Gpt2(_) => unreachable!("no classifier is made of a causal model"),
    };
    config["problem_type"] = json!(if labels.is_empty() { "regression" } else { "single_label_classification" });
    config["id2label"] = json!(by_id);
    config["label2id"] = json!(by_name);
    config
}
