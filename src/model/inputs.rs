//! A [`Batch`] on a device.

use burn::tensor::{Int, Tensor, TensorData};

use crate::batch::{Batch, TokenOrder};
use crate::device::Compute;
use crate::kernels::{Places, Sight};

/// What a model reads: the input side of a batch, on a device and outside any autodiff graph.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// Token ids.
    pub ids_bs: Tensor<2, Int>,
    /// The token ids, flattened to `[b * s]`: rows of the word table.
    pub ids: Places,
    /// Position of each token within its own sentence, as rows of the position table.
    pub positions: Places,
    /// Token types (first or second text of a pair), likewise; `None` when all are 0.
    pub types: Option<Places>,
    /// Who sees whom.
    pub sight: Sight,
    /// How the model's operations run.
    pub compute: Compute,
}

impl Inputs {
    /// Uploads ids, positions and segments, each of `rows * length`, row after row. A position sees the positions of
    /// its own segment, which lie next to each other; segment 0 is padding.
    pub fn new(ids: &[i32], positions: &[i32], segments: &[i32], rows: usize, compute: &Compute) -> Self {
        let (length, device) = (ids.len() / rows.max(1), &compute.device);
        let ids = Places::new(ids, device);
        Self {
            ids_bs: ids.at_n().reshape([rows, length]),
            ids,
            positions: Places::new(positions, device),
            types: None,
            sight: Sight::new(segments, length),
            compute: compute.clone(),
        }
    }

    /// Rows of ids and token types, padded to the longest of them.
    pub fn padded(rows: &[(&[i32], &[i32])], pad: i32, compute: &Compute) -> Self {
        let length = rows.iter().map(|(ids, _)| ids.len()).max().unwrap_or(1);
        let places = || rows.iter().flat_map(|row| (0..length).map(move |i| (row, i)));
        let ids: Vec<i32> = places().map(|((ids, _), i)| ids.get(i).copied().unwrap_or(pad)).collect();
        let types: Vec<i32> = places().map(|((_, types), i)| types.get(i).copied().unwrap_or(0)).collect();
        let positions: Vec<i32> = places().map(|(_, i)| i as i32).collect();
        let segments: Vec<i32> = places().map(|((ids, _), i)| i32::from(i < ids.len())).collect();
        Self::new(&ids, &positions, &segments, rows.len(), compute).with_types(&types)
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

    /// These rows, where a position sees those of its segment in this order alone.
    #[must_use]
    pub fn in_order(self, order: TokenOrder) -> Self {
        Self { sight: self.sight.in_order(order), ..self }
    }

    /// These rows with a token type for each position.
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
    /// Where it is asked, of the flattened `[b * s]` positions; `n = b * m`.
    pub slots: Places,
    /// The true token of each slot.
    pub labels_n: Tensor<1, Int>,
    /// 1 for a used slot, 0 for an unused one.
    pub weights_n: Tensor<1>,
    /// 1 for a slot where a student is to listen to its teacher, 0 for others; none where nobody has chosen them.
    pub open_n: Option<Tensor<1>>,
    /// 1 for a real token, 0 for padding: `[b * s]`.
    pub real_bs: Tensor<1>,
}

impl BatchTensors {
    /// Uploads a batch.
    pub fn new(batch: &Batch, compute: &Compute) -> Self {
        let (device, asked) = (&compute.device, &batch.asked);
        let n = batch.rows * asked.slots;
        let slots: Vec<i32> =
            asked.places_bm.iter().enumerate().map(|(slot, &at)| (slot / asked.slots * batch.length) as i32 + at).collect();
        let real: Vec<f32> = batch.segments_bs.iter().map(|&segment| if segment > 0 { 1.0 } else { 0.0 }).collect();
        let count = real.len();
        Self {
            inputs: Inputs::new(&batch.input_ids_bs, &batch.positions_bs, &batch.segments_bs, batch.rows, compute)
                .in_order(batch.order),
            slots: Places::new(&slots, device),
            labels_n: Tensor::from_data(TensorData::new(asked.labels_bm.clone(), [n]), device),
            weights_n: Tensor::from_data(TensorData::new(asked.weights_bm.clone(), [n]), device),
            open_n: asked.open_bm.clone().map(|open_bm| Tensor::from_data(TensorData::new(open_bm, [n]), device)),
            real_bs: Tensor::from_data(TensorData::new(real, [count]), device),
        }
    }
}
