//! A [`MaskedBatch`] on a device.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::batch::MaskedBatch;
use crate::kernels::{Compute, Places, Segments};

/// What a model reads: the input side of a batch, on a device and outside any autodiff graph.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// Token ids.
    pub ids_bs: Tensor<2, Int>,
    /// The same flattened, as rows of the word table.
    pub ids: Places,
    /// Position of each token within its own sentence, as rows of the position table.
    pub positions: Places,
    /// Token types (first or second text of a pair), likewise; `None` when all are 0.
    pub types: Option<Places>,
    /// Who sees whom.
    pub segments: Segments,
    /// How the model's operations run.
    pub compute: Compute,
}

impl Inputs {
    /// Uploads ids, positions and segments, each of `rows * length`, row after row. A position sees the positions of
    /// its own segment, which lie next to each other; segment 0 is padding.
    pub fn new(ids: &[i32], positions: &[i32], segments: &[i32], rows: usize, device: &Device) -> Self {
        let length = ids.len() / rows.max(1);
        let ids = Places::new(ids, device);
        Self {
            ids_bs: ids.at_n().reshape([rows, length]),
            ids,
            positions: Places::new(positions, device),
            types: None,
            segments: Segments::new(segments, length),
            compute: Compute::of(device),
        }
    }

    /// Rows of ids and token types, padded to the longest of them.
    pub fn padded(rows: &[(&[i32], &[i32])], pad: i32, device: &Device) -> Self {
        let length = rows.iter().map(|(ids, _)| ids.len()).max().unwrap_or(1);
        let places = || rows.iter().flat_map(|row| (0..length).map(move |i| (row, i)));
        let ids: Vec<i32> = places().map(|((ids, _), i)| ids.get(i).copied().unwrap_or(pad)).collect();
        let types: Vec<i32> = places().map(|((_, types), i)| types.get(i).copied().unwrap_or(0)).collect();
        let positions: Vec<i32> = places().map(|(_, i)| i as i32).collect();
        let segments: Vec<i32> = places().map(|((ids, _), i)| i32::from(i < ids.len())).collect();
        Self::new(&ids, &positions, &segments, rows.len(), device).with_types(&types)
    }

    /// Each row's first position, `[CLS]`: `b` of the flattened ones.
    pub fn first(&self) -> Places {
        let [b, s] = self.ids_bs.dims();
        Places::new(&(0..b).map(|row| (row * s) as i32).collect::<Vec<_>>(), &self.ids_bs.device())
    }

    /// Every position.
    pub fn everywhere(&self) -> Places {
        let [b, s] = self.ids_bs.dims();
        Places::new(&(0..(b * s) as i32).collect::<Vec<_>>(), &self.ids_bs.device())
    }

    /// The same rows with a token type for each position.
    #[must_use]
    pub fn with_types(mut self, types: &[i32]) -> Self {
        self.types = Some(Places::new(types, &self.ids_bs.device()));
        self
    }
}

/// A batch on a device: what the model reads, and what it is asked.
#[derive(Debug, Clone)]
pub struct BatchTensors {
    /// The input side.
    pub inputs: Inputs,
    /// Masked slots, of the flattened `[b * s]` positions; `n = b * m`.
    pub slots: Places,
    /// The true token of each slot.
    pub labels_n: Tensor<1, Int>,
    /// 1 for a used slot, 0 for an unused one.
    pub weights_n: Tensor<1>,
    /// 1 for a real token, 0 for padding: `[b * s]`.
    pub real_bs: Tensor<1>,
    /// Used slots, as counted on the host.
    pub masked: usize,
    /// Real tokens, as counted on the host.
    pub tokens: usize,
}

impl BatchTensors {
    /// Uploads a batch.
    pub fn new(batch: &MaskedBatch, device: &Device) -> Self {
        let n = batch.rows * batch.slots;
        let slots: Vec<i32> =
            batch.masked_bm.iter().enumerate().map(|(slot, &at)| (slot / batch.slots * batch.length) as i32 + at).collect();
        let real: Vec<f32> = batch.segments_bs.iter().map(|&segment| if segment > 0 { 1.0 } else { 0.0 }).collect();
        let count = real.len();
        Self {
            inputs: Inputs::new(&batch.input_ids_bs, &batch.positions_bs, &batch.segments_bs, batch.rows, device),
            slots: Places::new(&slots, device),
            labels_n: Tensor::from_data(TensorData::new(batch.labels_bm.clone(), [n]), device),
            weights_n: Tensor::from_data(TensorData::new(batch.weights_bm.clone(), [n]), device),
            real_bs: Tensor::from_data(TensorData::new(real, [count]), device),
            masked: batch.masked,
            tokens: batch.tokens,
        }
    }

    /// The same, with the model's operations run as the caller chooses.
    #[must_use]
    pub fn with_compute(mut self, compute: Compute) -> Self {
        self.inputs.compute = compute;
        self
    }
}
