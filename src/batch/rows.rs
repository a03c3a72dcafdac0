//! What a step trains on: rows, and what is asked of them.

use std::ops::Range;

use super::objective::TokenOrder;
use crate::tokens::Special;

/// A batch of rows and what is asked of them, as flat row-major vectors ready for tensors of `i32` and `f32`.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Rows, b.
    pub rows: usize,
    /// The number of the first one, of the endless sequence of epochs or of the held-out order: with the shards, the
    /// seed and the masking it says what they are, whatever the batch.
    pub first_row: u64,
    /// Tokens in a row, s.
    pub length: usize,
    /// What the model sees, `[b, s]`: masked tokens replaced, padding `[PAD]`.
    pub input_ids_bs: Vec<i32>,
    /// Which of the row's sentences a token belongs to, `[b, s]`, from 1; 0 is padding. Tokens attend within their
    /// segment.
    pub segments_bs: Vec<i32>,
    /// Place within the sentence, `[b, s]`: 0 at its `[CLS]` and on padding.
    pub positions_bs: Vec<i32>,
    /// Which tokens of its segment a token attends to.
    pub order: TokenOrder,
    /// What is to be predicted.
    pub asked: Asked,
    /// Real tokens, `[CLS]` and `[SEP]` included.
    pub tokens: usize,
}

/// What a batch asks of a model: a token at each used slot.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// Slots of a row, m, as many of each.
    pub slots: usize,
    /// Where in the row each slot asks, `[b, m]`, `0..s`; 0 on unused slots.
    pub places_bm: Vec<i32>,
    /// The true ids, `[b, m]`; 0 on unused slots.
    pub labels_bm: Vec<i32>,
    /// 1 on used slots, 0 on unused ones, `[b, m]`.
    pub weights_bm: Vec<f32>,
    /// 1 on slots where a student is to listen to its teacher, 0 elsewhere, `[b, m]`; none where nobody has chosen
    /// them. A method that chooses among all slots of a batch does so before it is divided.
    pub open_bm: Option<Vec<f32>>,
    /// The used slots.
    pub count: usize,
}

impl Batch {
    /// Rows of padding.
    pub(super) fn empty(rows: usize, length: usize, slots: usize, order: TokenOrder, pad: i32) -> Self {
        let (places_bm, labels_bm, weights_bm) = (vec![0; rows * slots], vec![0; rows * slots], vec![0.0; rows * slots]);
        Self {
            rows,
            first_row: 0,
            length,
            input_ids_bs: vec![pad; rows * length],
            segments_bs: vec![0; rows * length],
            positions_bs: vec![0; rows * length],
            order,
            asked: Asked { slots, places_bm, labels_bm, weights_bm, open_bm: None, count: 0 },
            tokens: 0,
        }
    }

    /// Some of the batch's rows, in its order.
    ///
    /// # Panics
    /// When there are no such rows.
    pub fn part(&self, rows: Range<usize>) -> Self {
        let s = rows.start * self.length..rows.end * self.length;
        let segments_bs = self.segments_bs[s.clone()].to_vec();
        Self {
            rows: rows.len(),
            first_row: self.first_row + rows.start as u64,
            length: self.length,
            input_ids_bs: self.input_ids_bs[s.clone()].to_vec(),
            positions_bs: self.positions_bs[s].to_vec(),
            order: self.order,
            asked: self.asked.part(rows),
            tokens: segments_bs.iter().filter(|&&segment| segment > 0).count(),
            segments_bs,
        }
    }

    pub(super) fn row_mut(&mut self, row: usize) -> RowMut<'_> {
        let Asked { slots, places_bm, labels_bm, weights_bm, .. } = &mut self.asked;
        let (s, m) = (row * self.length..(row + 1) * self.length, row * *slots..(row + 1) * *slots);
        RowMut {
            input_ids: &mut self.input_ids_bs[s.clone()],
            segments: &mut self.segments_bs[s.clone()],
            positions: &mut self.positions_bs[s],
            places: &mut places_bm[m.clone()],
            labels: &mut labels_bm[m.clone()],
            weights: &mut weights_bm[m],
        }
    }
}

impl Asked {
    fn part(&self, rows: Range<usize>) -> Self {
        let m = rows.start * self.slots..rows.end * self.slots;
        let weights_bm = self.weights_bm[m.clone()].to_vec();
        Self {
            slots: self.slots,
            places_bm: self.places_bm[m.clone()].to_vec(),
            labels_bm: self.labels_bm[m.clone()].to_vec(),
            open_bm: self.open_bm.as_ref().map(|open_bm| open_bm[m].to_vec()),
            count: weights_bm.iter().filter(|&&weight| weight > 0.0).count(),
            weights_bm,
        }
    }
}

/// One row, to be written.
pub(super) struct RowMut<'a> {
    input_ids: &'a mut [i32],
    segments: &'a mut [i32],
    positions: &'a mut [i32],
    places: &'a mut [i32],
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
    pub fn ask_masked(&mut self, slot: usize, at: usize, input: u32) {
        let label = std::mem::replace(&mut self.input_ids[at], input as i32);
        self.ask(slot, at, label);
    }

    /// Asks the token at `at` which one comes next.
    pub fn ask_next(&mut self, slot: usize, at: usize) {
        self.ask(slot, at, self.input_ids[at + 1]);
    }

    fn ask(&mut self, slot: usize, at: usize, label: i32) {
        (self.places[slot], self.labels[slot], self.weights[slot]) = (at as i32, label, 1.0);
    }
}
