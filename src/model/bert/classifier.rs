//! BERT for classifying or scoring a text or a pair: pooler and classifier on `[CLS]`, as Hugging Face's
//! `BertForSequenceClassification`.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::activation::tanh;
use burn::tensor::{Device, Tensor};
use serde_json::{Value, json};

use super::fit::must_have_body;
use super::{Bert, Pooler, config_json};
use crate::config::BertShape;
use crate::error::{Error, Result};
use crate::kernels::Dropout;
use crate::model::init::Init;
use crate::model::{Inputs, ModelFolder, Weights};
use crate::tokens::Special;

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
    pub(in super::super) fn start_from(
        pretrained: &Weights,
        shape: &BertShape,
        outputs: usize,
        range: f64,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
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
    pub(in super::super) fn load(folder: &ModelFolder, shape: &BertShape, device: &Device) -> Result<Self> {
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

    /// The last layer's states of each row's `[CLS]`: `[b, d]`.
    pub(in super::super) fn first(&self, inputs: &Inputs, dropout: &mut Dropout) -> Tensor<2> {
        self.bert.hidden_at(inputs, &inputs.first(), dropout)
    }

    /// The pooler's output on `[CLS]` states; the states themselves where there is no pooler: `[b, d]`.
    pub(in super::super) fn pooled(&self, first_bd: Tensor<2>) -> Tensor<2> {
        match &self.bert.pooler {
            Some(pooler) => tanh(pooler.dense.forward(first_bd)),
            None => first_bd,
        }
    }
}

/// The `config.json` of a classifier, but for its classes.
pub(in super::super) fn config(shape: &BertShape, special: &Special) -> Value {
    let mut config = config_json::write(shape, special);
    config["architectures"] = json!(["BertForSequenceClassification"]);
    config
}
