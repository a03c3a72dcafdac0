//! ModernBERT for classifying or scoring a text or a pair: its head and a classifier on the first token or on the mean
//! of all, as Hugging Face's `ModernBertForSequenceClassification`.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};
use serde_json::{Value, json};

use super::config_json;
use super::fit::{head, must_have_body};
use super::names::DECODER;
use super::{ModernBert, PredictionHead};
use crate::config::ModernBertShape;
use crate::error::{Error, Result};
use crate::model::init::Init;
use crate::model::{ModelFolder, Weights};
use crate::tokens::Special;

/// ModernBERT with its head and a classifier.
#[derive(Module, Debug)]
pub struct ModernBertClassifier {
    /// Embeddings and layers.
    pub model: ModernBert,
    /// Dense, GELU, norm.
    pub head: PredictionHead,
    /// `[d, outputs]`.
    pub classifier: Linear,
}

impl ModernBertClassifier {
    /// Puts a new classifier, drawn from `seed` with N(0, 1 / d) as its authors do, on a pre-trained model's body and
    /// head; where there is no head, one is drawn. `outputs` is the number of classes, or 1 for a score.
    ///
    /// # Errors
    /// When the weights are not the whole body of the shape: nothing of it is ever drawn anew.
    pub(in super::super) fn start_from(
        pretrained: &Weights,
        shape: &ModernBertShape,
        outputs: usize,
        range: f64,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        must_have_body(shape, &pretrained.shapes())?;
        let fresh = Self::fresh(shape, outputs, range, seed, device);
        let mut weights = Weights::of(&fresh);
        for (name, tensor) in pretrained.iter().filter(|(name, _)| weights_of_classifier(name)) {
            weights.insert(name, tensor.clone());
        }
        weights.load_into(fresh)
    }

    /// A fine-tuned classifier's folder; a decoder is left out.
    ///
    /// # Errors
    /// When the folder's weights can't be read or don't fit their shape, or it holds no classifier.
    pub(in super::super) fn load(folder: &ModelFolder, shape: &ModernBertShape, device: &Device) -> Result<Self> {
        let refused = |what: String| {
            let otherwise = "fine-tune it first (`upstill finetune`), or take a ModernBertForSequenceClassification";
            Err(Error::new(what).at(folder.path.display()).help(otherwise))
        };
        let tensors = folder.tensors()?.only(|name| weights_of_classifier(name) || name.starts_with("classifier."));
        let Some(classifier) = tensors.get("classifier.weight") else { return refused("the model has no classifier".to_owned()) };
        if let Some(missing) = head(shape).keys().find(|name| !name.starts_with(DECODER) && tensors.get(name).is_none()) {
            return refused(format!("the model's classifier stands on no head: {missing} is missing"));
        }
        let outputs = match classifier.shape[..] {
            [outputs, width] if outputs > 0 && width == shape.hidden => outputs,
            _ => return refused(format!("the classifier is {:?}, and the model {} wide", classifier.shape, shape.hidden)),
        };
        tensors.load_into(Self::fresh(shape, outputs, 0.0, 0, device)).map_err(|error| error.at(folder.path.display()))
    }

    fn fresh(shape: &ModernBertShape, outputs: usize, range: f64, seed: u64, device: &Device) -> Self {
        let deviation = (shape.hidden as f64).sqrt().recip();
        let init = Init::new(seed, if range > 0.0 { deviation } else { 0.0 }, device);
        let weight = init.cut_normal("classifier.weight", [shape.hidden, outputs], 1.0);
        let drawn = shape.init(seed, range, device);
        Self { model: drawn.model, head: drawn.head, classifier: Linear { weight, bias: Some(init.zeros(outputs)) } }
    }

    /// The head on what stands for each row, `[b, d]`: what the classifier reads.
    pub(in super::super) fn pooled(&self, first_bd: Tensor<2>, compute: &crate::device::Compute) -> Tensor<2> {
        self.head.forward(first_bd, compute)
    }
}

/// Whether a pre-trained model's tensor goes into a classifier.
fn weights_of_classifier(name: &str) -> bool {
    name.starts_with("model.") || name.starts_with("head.")
}

/// The `config.json` of a classifier, but for its classes.
pub(in super::super) fn config(shape: &ModernBertShape, special: &Special) -> Value {
    let mut config = config_json::write(shape, special);
    config["architectures"] = json!(["ModernBertForSequenceClassification"]);
    config
}
