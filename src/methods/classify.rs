//! What a fine-tuned classifier says of texts: logits, and the representation that a student is to come close to.

use burn::tensor::{Device, Tensor};
use rayon::prelude::*;

use super::finetune::encode;
use crate::device::Compute;
use crate::error::Result;
use crate::model::{Classifier, Dropout, Inputs, TextRow};
use crate::tasks::Example;
use crate::tokens::{Tokenizer, Words};

/// Which of a teacher's vectors stands for a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Representation {
    /// The pooler's output (the authors' code).
    Pooled,
    /// The last layer's `[CLS]` (the paper's words).
    Cls,
}

/// A classifier's outputs on some texts, in their order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Classified {
    /// One logit a class.
    pub logits: Vec<Vec<f32>>,
    /// As wide as the classifier.
    pub representations: Vec<Vec<f32>>,
}

/// Runs a classifier, without dropout, on texts: those of like length go together.
pub fn classify(
    model: &Classifier,
    texts: &[&TextRow],
    representation: Representation,
    pad: i32,
    batch: usize,
    device: &Device,
) -> Classified {
    let compute = Compute::of(device);
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|&at| texts[at].ids.len());
    let empty = || vec![Vec::new(); texts.len()];
    let mut out = Classified { logits: empty(), representations: empty() };
    for chunk in order.chunks(batch.max(1)) {
        let rows: Vec<(&[i32], &[i32])> = chunk.iter().map(|&at| (&texts[at].ids[..], &texts[at].types[..])).collect();
        let inputs = Inputs::padded(&rows, pad, &compute);
        let first_bd = model.first(&inputs, &mut Dropout::off());
        let pooled_bd = model.pooled(first_bd.clone(), &inputs);
        let logits_bc = model.classify(pooled_bd.clone());
        let represented_bd = if representation == Representation::Cls { first_bd } else { pooled_bd };
        for ((&at, logits), represented) in chunk.iter().zip(host_rows(logits_bc)).zip(host_rows(represented_bd)) {
            (out.logits[at], out.representations[at]) = (logits, represented);
        }
    }
    out
}

fn host_rows(x_bd: Tensor<2>) -> Vec<Vec<f32>> {
    let width = x_bd.dims()[1];
    let flat: Vec<f32> = x_bd.into_data().try_to_vec().expect("outputs are f32");
    flat.chunks(width).map(<[f32]>::to_vec).collect()
}

/// What a student (or a teacher) reads texts as.
#[derive(Debug, Clone)]
pub enum TextTokens {
    /// A teacher's pieces, between `[CLS]` and `[SEP]`.
    Pieces(Tokenizer),
    /// Words in lower case, split at white space.
    Words(Words),
}

impl TextTokens {
    /// Texts as rows of at most `length` tokens.
    ///
    /// # Errors
    /// When a text can't be encoded.
    pub fn rows(&self, examples: &[Example], length: usize) -> Result<Vec<TextRow>> {
        examples.par_iter().map(|example| self.row(example, length)).collect()
    }

    fn row(&self, example: &Example, length: usize) -> Result<TextRow> {
        match self {
            TextTokens::Pieces(tokenizer) => {
                let row = encode(example, tokenizer, length)?;
                Ok(TextRow { ids: row.ids, types: row.types })
            }
            TextTokens::Words(words) => {
                let mut ids = words.encode(&example.first);
                if let Some(second) = &example.second {
                    ids.push(words.separator());
                    ids.extend(words.encode(second));
                }
                ids.truncate(length);
                if ids.is_empty() {
                    ids.push(words.separator());
                }
                Ok(TextRow { types: vec![0; ids.len()], ids: ids.into_iter().map(|id| id as i32).collect() })
            }
        }
    }

    /// Every token, in the numbers' order.
    pub fn vocab(&self) -> &[String] {
        match self {
            TextTokens::Pieces(tokenizer) => tokenizer.vocab(),
            TextTokens::Words(words) => words.vocab(),
        }
    }

    /// The number that fills rows up.
    pub fn pad(&self) -> i32 {
        match self {
            TextTokens::Pieces(tokenizer) => tokenizer.special().pad as i32,
            TextTokens::Words(words) => words.pad() as i32,
        }
    }
}
