//! BERT for classifying or scoring a text or a pair: pooler and classifier on `[CLS]`, as Hugging Face's
//! `BertForSequenceClassification`.

use std::path::Path;

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::activation::tanh;
use burn::tensor::{Device, Tensor};
use serde_json::{Map, Value, json};

use super::fit::must_have_body;
use super::{Bert, Pooler, config_json};
use crate::config::Shape;
use crate::error::{Error, Result};
use crate::files::write_text;
use crate::kernels::Dropout;
use crate::model::init::Init;
use crate::model::{Inputs, ModelFolder, Weights};
use crate::tokens::Tokenizer;

const OTHERWISE: &str = "fine-tune it first (`upstill finetune`), or take a BertForSequenceClassification";

/// BERT with a pooler and a classifier.
#[derive(Module, Debug)]
pub struct BertClassifier {
    /// Embeddings, encoder, pooler.
    pub bert: Bert,
    /// `[d, outputs]`.
    pub classifier: Linear,
}

impl BertClassifier {
    /// Puts a new pooler and classifier, drawn from `seed`, on a pre-trained model's weights; its language-model head
    /// is left out. `outputs` is the number of classes, or 1 for a score; `range` the standard deviation of what is
    /// drawn.
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
        let Shape::Bert(shape) = shape;
        must_have_body(shape, &pretrained.shapes())?;
        let init = Init::new(seed, range, device);
        let mut bert = shape.init(seed, 0.0, device).bert;
        bert.pooler = Some(Pooler { dense: init.linear("bert.pooler.dense.weight", shape.hidden, shape.hidden) });
        let fresh = Self { bert, classifier: init.linear("classifier.weight", shape.hidden, outputs) };
        let mut weights = Weights::of(&fresh);
        for (name, tensor) in pretrained.iter().filter(|(name, _)| name.starts_with("bert.")) {
            weights.insert(name, tensor.clone());
        }
        weights.load_into(fresh)
    }

    /// A fine-tuned classifier's folder: ours, or any `BertForSequenceClassification`; a language-model head is left
    /// out.
    ///
    /// # Errors
    /// When the folder's weights can't be read or don't fit their shape, or it holds no classifier on a pooler.
    pub fn load(folder: &ModelFolder, device: &Device) -> Result<Self> {
        let refused = |what: String| Err(Error::new(what).at(folder.path.display()).help(OTHERWISE));
        let tensors = folder.tensors()?;
        if tensors.get("pre_classifier.weight").is_some() {
            return refused(
                "the model's classifier is DistilBERT's (pre_classifier), and upstill reads BERT's, which stands on a pooler"
                    .to_owned(),
            );
        }
        let tensors = tensors.only(|name| name.starts_with("bert.") || name.starts_with("classifier."));
        let Some(classifier) = tensors.get("classifier.weight") else { return refused("the model has no classifier".to_owned()) };
        if tensors.get("bert.pooler.dense.weight").is_none() {
            return refused("the model's classifier stands on no pooler, so it answers for tokens, not for texts".to_owned());
        }
        let Shape::Bert(shape) = &folder.shape;
        let outputs = match classifier.shape[..] {
            [outputs, width] if outputs > 0 && width == shape.hidden => outputs,
            _ => return refused(format!("the classifier is {:?}, and the model {} wide", classifier.shape, shape.hidden)),
        };
        let init = Init::new(0, 0.0, device);
        let mut bert = shape.init(0, 0.0, device).bert;
        bert.pooler = Some(Pooler { dense: init.linear("", shape.hidden, shape.hidden) });
        let fresh = Self { bert, classifier: init.linear("", shape.hidden, outputs) };
        tensors.load_into(fresh).map_err(|error| error.at(folder.path.display()))
    }

    /// Logits, or one score, of each row: `[b, outputs]`. Dropout acts on the pooled output too.
    pub fn logits(&self, inputs: &Inputs, dropout: &mut Dropout) -> Tensor<2> {
        let pooled_bd = self.pooled(self.first(inputs, dropout));
        self.classifier.forward(dropout.apply(pooled_bd))
    }

    /// The last layer's states of each row's `[CLS]`: `[b, d]`.
    pub fn first(&self, inputs: &Inputs, dropout: &mut Dropout) -> Tensor<2> {
        self.bert.hidden_at(inputs, &inputs.first(), dropout)
    }

    /// The pooler's output on `[CLS]` states; the states themselves where there is no pooler: `[b, d]`.
    pub fn pooled(&self, first_bd: Tensor<2>) -> Tensor<2> {
        match &self.bert.pooler {
            Some(pooler) => tanh(pooler.dense.forward(first_bd)),
            None => first_bd,
        }
    }

    /// Number of classes; 1 for a score.
    pub fn outputs(&self) -> usize {
        self.classifier.weight.dims()[1]
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
        // Over the tokenizer's own, which does not know the model's longest row.
        let mut settings = tokenizer.settings();
        settings["model_max_length"] = json!(shape.max_positions());
        write_text(&folder.join("tokenizer_config.json"), &pretty(settings))?;
        Weights::of(self).write(&folder.join("model.safetensors"))
    }
}

fn config(Shape::Bert(shape): &Shape, labels: &[String], tokenizer: &Tokenizer) -> Value {
    let names: Vec<String> = if labels.is_empty() { vec!["score".to_owned()] } else { labels.to_vec() };
    let by_id: Map<String, Value> = names.iter().enumerate().map(|(id, name)| (id.to_string(), json!(name))).collect();
    let by_name: Map<String, Value> = names.iter().enumerate().map(|(id, name)| (name.clone(), json!(id))).collect();
    let mut config = config_json::write(shape, tokenizer.special().pad);
    config["architectures"] = json!(["BertForSequenceClassification"]);
    config["problem_type"] = json!(if labels.is_empty() { "regression" } else { "single_label_classification" });
    config["id2label"] = json!(by_id);
    config["label2id"] = json!(by_name);
    config
}
