//! Students of Mukherjee and Awadallah 2019: an encoder (two LSTMs, a small BERT or ModernBERT), a projection to the
//! teacher's width, and two heads on it: one for classes, one for the teacher's logits.
//!
//! ```text
//! tokens ─► encoder ─► z [b, l] ─► projection, GELU ─► z~ [b, d] ─► classifier  (equation 1)
//!                                                       │      └──► regression  (equation 4)
//!                                                       └─ meets the teacher's representation (equation 6)
//! ```
//! The heads stand on z~, as in the authors' code: unfreezing from the top then goes heads, projection, encoder, words.

mod bilstm;
mod glove;

use burn::module::{Module, ModuleMapper, Param};
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

pub use bilstm::{BiLstm, BiLstmShape, Pooling};
pub use glove::Glove;

use super::bert::{self, Bert};
use super::fit::{linear, must_be};
use super::init::Init;
use super::inputs::Inputs;
use super::modernbert::{self, ModernBert};
use super::weights::{ModulePath, Shapes, Weights};
use crate::config::{BertShape, ModernBertShape};
use crate::device::Compute;
use crate::error::Result;
use crate::kernels::{Dropout, erf_gelu};

/// One text as a student reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct TextRow {
    /// Token ids; one at least.
    pub ids: Vec<i32>,
    /// 0 in the first text, 1 in a pair's second; a BERT reads it, LSTMs don't.
    pub types: Vec<i32>,
}

/// What a student is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudentShape {
    /// Tokens to one vector a text.
    pub encoder: EncoderShape,
    /// Width of the projection, the teacher's; 0 leaves it out.
    pub projection: usize,
    /// Classes.
    pub classes: usize,
}

/// The encoder of a student.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EncoderShape {
    /// Word vectors and an LSTM in each direction.
    BiLstm(BiLstmShape),
    /// A BERT, of which `[CLS]` is read.
    Bert(BertShape),
    /// A ModernBERT, of which the first token or the mean of all is read, as its configuration says.
    ModernBert(ModernBertShape),
}

impl StudentShape {
    /// Width of what the encoder gives.
    pub fn encoded(&self) -> usize {
        match &self.encoder {
            EncoderShape::BiLstm(shape) => shape.hidden.saturating_mul(2),
            EncoderShape::Bert(shape) => shape.hidden,
            EncoderShape::ModernBert(shape) => shape.hidden,
        }
    }

    /// A student of this shape with these weights. Their names and sizes are compared before anything of the shape's
    /// sizes is made.
    ///
    /// # Errors
    /// When they are not those of the shape (all that differs is listed), or not finite.
    pub fn load(&self, weights: &Weights, device: &Device) -> Result<Student> {
        let layers = match &self.encoder {
            EncoderShape::ModernBert(shape) => modernbert::layers(shape),
            EncoderShape::Bert(_) | EncoderShape::BiLstm(_) => bert::LAYERS,
        };
        must_be(&self.tensors(), &weights.shapes(), layers)?;
        weights.must_be_finite(|_| true)?;
        weights.load_into(self.init(0, device))
    }

    /// Names and shapes of its parameters.
    fn tensors(&self) -> Shapes {
        let mut out = match &self.encoder {
            EncoderShape::Bert(shape) => bert::body(shape),
            EncoderShape::ModernBert(shape) => modernbert::body(shape),
            EncoderShape::BiLstm(shape) => shape.tensors(),
        };
        let encoded = self.encoded();
        let width = if self.projection > 0 { self.projection } else { encoded };
        let projection = (self.projection > 0).then_some(("projection", encoded, width));
        for (name, from, to) in
            projection.into_iter().chain([("classifier", width, self.classes), ("regression", width, self.classes)])
        {
            linear(&mut out, name, from, to);
        }
        out
    }

    /// Draws a student from `seed` and each parameter's name.
    pub fn init(&self, seed: u64, device: &Device) -> Student {
        let init = Init::new(seed, 0.02, device);
        let width = if self.projection > 0 { self.projection } else { self.encoded() };
        // Glorot and Bengio's uniform draw, Keras's default.
        let linear = |name: &str, from: usize, to: usize| Linear {
            weight: init.uniform(name, [from, to], (6.0 / (from + to) as f64).sqrt()),
            bias: Some(init.zeros(to)),
        };
        let (mut bilstm, mut bert, mut model) = (None, None, None);
        match &self.encoder {
            EncoderShape::BiLstm(shape) => bilstm = Some(BiLstm::init(shape, &init)),
            EncoderShape::Bert(shape) => bert = Some(shape.init(seed, 0.02, device).bert),
            EncoderShape::ModernBert(shape) => model = Some(shape.init(seed, 0.02, device).model),
        }
        Student {
            bilstm,
            bert,
            model,
            projection: (self.projection > 0).then(|| linear("projection.weight", self.encoded(), self.projection)),
            classifier: linear("classifier.weight", width, self.classes),
            regression: linear("regression.weight", width, self.classes),
            shape: self.clone(),
        }
    }
}

/// A student. Exactly one of its encoders is there.
#[derive(Module, Debug)]
pub struct Student {
    /// Words and LSTMs.
    pub bilstm: Option<BiLstm>,
    /// A BERT without its head.
    pub bert: Option<Bert>,
    /// A ModernBERT without its head, under Hugging Face's name for it.
    pub model: Option<ModernBert>,
    /// W^f and b^f of equation 6.
    pub projection: Option<Linear>,
    /// W^s of equation 1.
    pub classifier: Linear,
    /// W^r and b^r of equation 4.
    pub regression: Linear,
    #[module(skip)]
    shape: StudentShape,
}

impl Student {
    /// What it is made of.
    pub fn shape(&self) -> &StudentShape {
        &self.shape
    }

    /// Representations z~ of some texts, `[b, d]` (equation 6's left side; z itself without a projection). LSTMs want
    /// the longest first.
    pub fn represent(&self, rows: &[&TextRow], pad: i32, compute: &Compute, dropout: &mut Dropout) -> Tensor<2> {
        let inputs = || {
            let padded: Vec<(&[i32], &[i32])> = rows.iter().map(|row| (&row.ids[..], &row.types[..])).collect();
            Inputs::padded(&padded, pad, compute)
        };
        let encoded_bl = match (&self.bilstm, &self.bert, &self.model) {
            (Some(bilstm), ..) => bilstm.encode(rows, pad, compute, dropout),
            (_, Some(bert), _) => {
                let inputs = inputs();
                bert.hidden_at(&inputs, &inputs.first(), dropout)
            }
            (.., Some(modernbert)) => modernbert.of_rows(&inputs(), dropout),
            (None, None, None) => unreachable!("a student is made with an encoder"),
        };
        let encoded_bl = dropout.apply(encoded_bl);
        match &self.projection {
            Some(projection) => erf_gelu(projection.forward(encoded_bl)),
            None => encoded_bl,
        }
    }

    /// Equation 1's logits, before the softmax, on representations: `[b, classes]`.
    pub fn classify(&self, represented_bd: Tensor<2>) -> Tensor<2> {
        self.classifier.forward(represented_bd)
    }

    /// Equation 4's scores r, which meet the teacher's logits: `[b, classes]`.
    pub fn regress(&self, represented_bd: Tensor<2>) -> Tensor<2> {
        self.regression.forward(represented_bd)
    }

    /// Its layers from the top, each by the beginnings of its parameters' names: the order of gradual unfreezing.
    pub fn layers(&self) -> Vec<Vec<String>> {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let mut layers = vec![names(&["classifier.", "regression."])];
        layers.extend(self.projection.as_ref().map(|_| names(&["projection."])));
        let each = |count: usize, prefix: &str| (0..count).rev().map(|at| vec![format!("{prefix}{at}.")]).collect::<Vec<_>>();
        match &self.shape.encoder {
            EncoderShape::Bert(shape) => {
                layers.extend(each(shape.layers, bert::LAYERS.prefix));
                layers.push(names(&["bert.embeddings."]));
            }
            EncoderShape::ModernBert(shape) => {
                let mut of_encoder = each(shape.layers, modernbert::layers(shape).prefix);
                of_encoder.push(names(&["model.embeddings."]));
                // The norm after the last layer moves with it.
                of_encoder[0].push("model.final_norm.".to_owned());
                layers.extend(of_encoder);
            }
            EncoderShape::BiLstm(_) => {
                layers.extend([names(&["bilstm.forward.", "bilstm.backward."]), names(&["bilstm.words."])])
            }
        }
        layers
    }

    /// The student with its top `unfrozen` layers trainable and all below frozen.
    #[must_use]
    pub fn with_unfrozen(self, unfrozen: usize) -> Self {
        let trainable: Vec<String> = self.layers().into_iter().take(unfrozen).flatten().collect();
        self.map(&mut Freeze { path: ModulePath::default(), trainable })
    }

    /// The student with new heads, drawn from `seed`.
    ///
    /// # Errors
    /// None: the heads have the shapes of those they replace.
    pub fn with_new_heads(self, seed: u64, device: &Device) -> Result<Self> {
        let drawn = Weights::of(&self.shape.init(seed, device));
        let mut weights = Weights::of(&self);
        for (name, tensor) in drawn.iter().filter(|(name, _)| name.starts_with("classifier.") || name.starts_with("regression."))
        {
            weights.insert(name, tensor.clone());
        }
        weights.load_into(self)
    }

    /// Parameters in all, and those of them that are word vectors.
    pub fn parameters(&self) -> (u64, u64) {
        let count = |wanted: &dyn Fn(&str) -> bool| {
            Weights::of(self).iter().filter(|(name, _)| wanted(name)).map(|(_, tensor)| tensor.values.len() as u64).sum()
        };
        let words = match &self.shape.encoder {
            EncoderShape::BiLstm(_) => "bilstm.words.weight",
            EncoderShape::Bert(_) => "bert.embeddings.word_embeddings.weight",
            EncoderShape::ModernBert(_) => "model.embeddings.tok_embeddings.weight",
        };
        (count(&|_| true), count(&|name| name == words))
    }
}

struct Freeze {
    path: ModulePath,
    trainable: Vec<String>,
}

impl ModuleMapper for Freeze {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = self.path.name();
        param.set_require_grad(self.trainable.iter().any(|start| name.starts_with(start)))
    }
}
