//! What a step trains on.

use std::ops::Range;

use crate::tokens::Special;

/// A batch of rows with some tokens masked, as flat row-major vectors ready for tensors of `i32` and `f32`.
#[derive(Debug, Clone, PartialEq)]
pub struct MaskedBatch {
    /// Rows, b.
    pub rows: usize,
    /// Tokens in a row, s.
    pub length: usize,
    /// Masked slots of a row, m.
    pub slots: usize,
    /// What the model sees, `[b, s]`: masked tokens replaced, padding `[PAD]`.
    pub input_ids_bs: Vec<i32>,
    /// Which of the row's sentences a token belongs to, `[b, s]`, from 1; 0 is padding. Tokens attend within their segment.
    pub segments_bs: Vec<i32>,
    /// Place within the sentence, `[b, s]`: 0 at its `[CLS]` and on padding.
    pub positions_bs: Vec<i32>,
    /// Where in the row the masked tokens are, `[b, m]`, `0..s`; 0 on unused slots.
    pub masked_bm: Vec<i32>,
    /// The ids that were there, `[b, m]`; 0 on unused slots.
    pub labels_bm: Vec<i32>,
    /// 1 on used slots, 0 on unused ones, `[b, m]`.
    pub weights_bm: Vec<f32>,
    /// Real tokens, `[CLS]` and `[SEP]` included.
    pub tokens: usize,
    /// Masked tokens: the used slots.
    pub masked: usize,
}

impl MaskedBatch {
    /// Rows of padding.
    pub(super) fn empty(rows: usize, length: usize, slots: usize, pad: i32) -> Self {
        Self {
            rows,
            length,
            slots,
            input_ids_bs: vec![pad; rows * length],
            segments_bs: vec![0; rows * length],
            positions_bs: vec![0; rows * length],
            masked_bm: vec![0; rows * slots],
            labels_bm: vec![0; rows * slots],
            weights_bm: vec![0.0; rows * slots],
            tokens: 0,
            masked: 0,
        }
    }

    /// Some of the batch's rows, in its order.
    ///
    /// # Panics
    /// When there are no such rows.
    pub fn part(&self, rows: Range<usize>) -> MaskedBatch {
        let [s, m] = [self.length, self.slots].map(|width| rows.start * width..rows.end * width);
        let (segments_bs, weights_bm) = (self.segments_bs[s.clone()].to_vec(), self.weights_bm[m.clone()].to_vec());
        MaskedBatch {
            rows: rows.len(),
            length: self.length,
            slots: self.slots,
            input_ids_bs: self.input_ids_bs[s.clone()].to_vec(),
            positions_bs: self.positions_bs[s].to_vec(),
            masked_bm: self.masked_bm[m.clone()].to_vec(),
            labels_bm: self.labels_bm[m].to_vec(),
            tokens: segments_bs.iter().filter(|&&segment| segment > 0).count(),
            masked: weights_bm.iter().filter(|&&weight| weight > 0.0).count(),
            segments_bs,
            weights_bm,
        }
    }

    pub(super) fn row_mut(&mut self, row: usize) -> RowMut<'_> {
        let (s, m) = (row * self.length..(row + 1) * self.length, row * self.slots..(row + 1) * self.slots);
        RowMut {
            input_ids: &mut self.input_ids_bs[s.clone()],
            segments: &mut self.segments_bs[s.clone()],
            positions: &mut self.positions_bs[s],
            masked: &mut self.masked_bm[m.clone()],
            labels: &mut self.labels_bm[m.clone()],
            weights: &mut self.weights_bm[m],
        }
    }
}

/// One row, to be written.
pub(super) struct RowMut<'a> {
    input_ids: &'a mut [i32],
    segments: &'a mut [i32],
    positions: &'a mut [i32],
    masked: &'a mut [i32],
    labels: &'a mut [i32],
    weights: &'a mut [f32],
}

impl RowMut<'_> {
    /// Writes `[CLS] ids [SEP]` from `start` on.
    pub fn write_sentence(&mut self, start: usize, segment: i32, ids: &[u32], special: &Special) {
        let end = start + ids.len() + 1;
        self.input_ids[start] = special.cls as i32;
        self.input_ids[start + 1..end].iter_mut().zip(ids).for_each(|(out, &id)| *out = id as i32);
        self.input_ids[end] = special.sep as i32;
        self.segments[start..=end].fill(segment);
        self.positions[start..=end].iter_mut().zip(0..).for_each(|(out, position)| *out = position);
    }

    /// Hides the token at `at` behind `input`: what was there becomes the slot's label.
    pub fn write_masked(&mut self, slot: usize, at: usize, input: u32) {
        self.masked[slot] = at as i32;
        self.labels[slot] = std::mem::replace(&mut self.input_ids[at], input as i32);
        self.weights[slot] = 1.0;
    }
}
