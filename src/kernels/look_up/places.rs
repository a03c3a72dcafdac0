//! Where rows of a table are looked up: token ids, positions, masked slots.

use std::sync::{Arc, OnceLock};

use burn::tensor::{Device, Int, Tensor, TensorData};

/// Numbers of rows, on a device and on the host.
#[derive(Debug, Clone)]
pub struct Places {
    host: Arc<[i32]>,
    at_n: Tensor<1, Int>,
    sorted: Arc<OnceLock<Sorted>>,
    sorted_on_device: Arc<OnceLock<[Tensor<1, Int>; 2]>>,
}

/// Places by the row that they name.
#[derive(Debug, PartialEq)]
pub(super) struct Sorted {
    /// Places, those of one row next to each other.
    pub order: Vec<i32>,
    /// Where each row's begin in `order`, up to the highest row that is named, and the end.
    pub starts: Vec<i32>,
}

impl Places {
    /// Uploads row numbers from 0.
    pub fn new(rows: &[i32], device: &Device) -> Self {
        let at_n = Tensor::from_data(TensorData::new(rows.to_vec(), [rows.len()]), device);
        Self { host: rows.into(), at_n, sorted: Arc::default(), sorted_on_device: Arc::default() }
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.host.len()
    }

    /// The rows, on the device.
    pub fn at_n(&self) -> Tensor<1, Int> {
        self.at_n.clone()
    }

    /// The rows, on the host.
    pub(in crate::kernels) fn rows(&self) -> &[i32] {
        &self.host
    }

    pub(super) fn sorted(&self) -> &Sorted {
        self.sorted.get_or_init(|| sort(&self.host))
    }

    /// The places, those of one row next to each other, and where each row's begin; uploaded once.
    #[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "GPUs alone need them"))]
    pub(super) fn sorted_on_device(&self) -> [Tensor<1, Int>; 2] {
        let Sorted { order, starts } = self.sorted();
        let upload = |list: &Vec<i32>| Tensor::from_data(TensorData::new(list.clone(), [list.len()]), &self.at_n.device());
        self.sorted_on_device.get_or_init(|| [order, starts].map(upload)).clone()
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
    let (mut next, mut order) = (counts.clone(), vec![0; rows_n.len()]);
    for (place, &row) in (0..).zip(rows_n) {
        let at = &mut next[row as usize];
        order[*at as usize] = place;
        *at += 1;
    }
    Sorted { order, starts: counts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_gathered_by_row_and_keep_their_order() {
        let sorted = |order: &[i32], starts: &[i32]| Sorted { order: order.to_vec(), starts: starts.to_vec() };
        assert_eq!(sort(&[4, 0, 4, 2, 0, 4]), sorted(&[1, 4, 3, 0, 2, 5], &[0, 2, 2, 3, 3, 6]));
        assert_eq!(sort(&[]), sorted(&[], &[0, 0]));
    }
}
