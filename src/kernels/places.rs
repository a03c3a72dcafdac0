//! Where rows of a table are looked up: token ids, positions, masked slots.

use std::sync::{Arc, OnceLock};

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::{Compute, Form, cube};
use crate::device::is_cpu;

/// Numbers of rows, on a device and on the host.
#[derive(Debug, Clone)]
pub struct Places {
    host: Arc<[i32]>,
    at_n: Tensor<1, Int>,
    sorted: Arc<OnceLock<Sorted>>,
}

/// Places by the row that they name.
#[derive(Debug)]
#[cfg_attr(not(feature = "gpu"), allow(dead_code, reason = "GPUs alone need it"))]
pub(super) struct Sorted {
    /// Places, those of one row next to each other.
    pub order: Vec<i32>,
    /// Where each row's begin in `order`, and the end of the last.
    pub starts: Vec<i32>,
    /// The rows that are named, each once.
    pub rows: Vec<i32>,
}

impl Places {
    /// Uploads row numbers from 0.
    pub fn new(rows: &[i32], device: &Device) -> Self {
        let at_n = Tensor::from_data(TensorData::new(rows.to_vec(), [rows.len()]), device);
        Self { host: rows.into(), at_n, sorted: Arc::default() }
    }

    /// The rows, on the device.
    pub fn at_n(&self) -> Tensor<1, Int> {
        self.at_n.clone()
    }

    /// The places by row, worked out once.
    #[cfg_attr(not(feature = "gpu"), allow(dead_code, reason = "GPUs alone need it"))]
    pub(super) fn sorted(&self) -> &Sorted {
        self.sorted.get_or_init(|| sort(&self.host))
    }
}

/// By counting: linear in places and rows.
fn sort(rows_n: &[i32]) -> Sorted {
    let highest = rows_n.iter().copied().max().unwrap_or(0).max(0) as usize;
    let mut counts = vec![0; highest + 2];
    rows_n.iter().for_each(|&row| counts[row as usize + 1] += 1);
    for row in 0..=highest {
        counts[row + 1] += counts[row];
    }
    let rows: Vec<i32> = (0..=highest).filter(|&row| counts[row + 1] > counts[row]).map(|row| row as i32).collect();
    let starts = rows.iter().map(|&row| counts[row as usize]).chain([rows_n.len() as i32]).collect();
    let (mut next, mut order) = (counts, vec![0; rows_n.len()]);
    for (place, &row) in (0..).zip(rows_n) {
        let at = &mut next[row as usize];
        order[*at as usize] = place;
        *at += 1;
    }
    Sorted { order, starts, rows }
}

/// Rows of a table: `[v, d]` to `[n, d]`.
pub fn look_up(table_vd: Tensor<2>, places: &Places, compute: impl Into<Compute>) -> Tensor<2> {
    match compute.into().form != Form::Composed && !is_cpu(&table_vd.device()) {
        true => cube::rows(table_vd, places),
        false => table_vd.select(0, places.at_n()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_gathered_by_row_and_keep_their_order() {
        let Sorted { order, starts, rows } = sort(&[4, 0, 4, 2, 0, 4]);
        assert_eq!((rows, starts, order), (vec![0, 2, 4], vec![0, 2, 3, 6], vec![1, 4, 3, 0, 2, 5]));
        let nothing = sort(&[]);
        assert_eq!((nothing.rows.len(), nothing.starts, nothing.order.len()), (0, vec![0], 0));
    }
}
