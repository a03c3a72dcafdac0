//! What the masked-language-model methods share: their batches, and their evaluation.

use burn::module::Module;
use burn::tensor::Device;

use super::BatchSize;
use super::evaluate::evaluate;
use crate::batch::{Batches, MaskedBatch};
use crate::error::Result;
use crate::model::BertForMaskedLm;

/// Batches of masked rows to train on and to be scored on, and where to put them.
#[derive(Clone)]
pub struct MaskedLm {
    /// The training split.
    pub train: Batches,
    /// The held-out split.
    pub held_out: Batches,
    /// Held-out rows to evaluate on.
    pub evaluate_rows: usize,
    /// Where the models are, without autodiff.
    pub device: Device,
}

impl MaskedLm {
    pub(super) fn batches(&self, from: u64, to: u64) -> Box<dyn Iterator<Item = MaskedBatch>> {
        const AHEAD: usize = 4;
        Box::new(self.train.clone().prefetch(from, to, AHEAD))
    }

    pub(super) fn size(batch: &MaskedBatch) -> BatchSize {
        BatchSize { targets: batch.masked, tokens: batch.tokens }
    }

    pub(super) fn held_out_loss(&self, model: &BertForMaskedLm) -> Result<f64> {
        Ok(evaluate(&model.valid(), &self.held_out, self.evaluate_rows, None, &self.device)?.held_out_loss)
    }
}
