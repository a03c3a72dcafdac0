//! Where rows of a table are looked up: token ids, positions, masked slots.

use std::sync::{Arc, OnceLock};

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use rayon::prelude::*;

use super::host::{HostBackward, PARENTS, host, slice, with_gradient};
use super::matrix::zeros;
use super::spent::{self, Part};
use super::{Compute, Kernels, cube};

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
struct Sorted {
    /// Places, those of one row next to each other.
    order: Vec<i32>,
    /// Where each row's begin in `order`, up to the highest row that is named, and the end.
    starts: Vec<i32>,
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
    pub(super) fn rows(&self) -> &[i32] {
        &self.host
    }

    fn sorted(&self) -> &Sorted {
        self.sorted.get_or_init(|| sort(&self.host))
    }

    /// The places, those of one row next to each other, and where each row's begin; uploaded once.
    #[cfg_attr(not(feature = "gpu"), allow(dead_code, reason = "GPUs alone need it"))]
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

/// Rows of a table: `[v, d]` to `[n, d]`.
pub fn look_up(table_vd: Tensor<2>, places: &Places, compute: &Compute) -> Tensor<2> {
    match (compute.kernels, compute.traits.is_cpu) {
        (Kernels::Fused, true) if table_vd.dtype() == DType::F32 => spent::on(Part::LookUp, || fused(&table_vd, places)),
        (Kernels::Composed, _) | (_, true) => table_vd.select(0, places.at_n()),
        (_, false) => cube::rows(table_vd, places),
    }
}

/// Rows that a thread takes at a time.
const ROWS: usize = 64;

fn fused(table_vd: &Tensor<2>, places: &Places) -> Tensor<2> {
    let [v, d] = table_vd.dims();
    let table = host(table_vd);
    let mut out_nd = zeros(places.count() * d);
    out_nd.par_chunks_mut((ROWS * d).max(1)).zip(places.host.par_chunks(ROWS)).for_each(|(out_nd, rows_n)| {
        for (out_d, &row) in out_nd.chunks_mut(d).zip(rows_n) {
            out_d.copy_from_slice(&slice(&table)[row as usize * d..][..d]);
        }
    });
    let parents = [Some(table_vd.clone().into_dispatch()), None, None, None];
    with_gradient(out_nd, [places.count(), d], parents, Saved { places: places.clone(), v, d })
}

/// What the backward pass needs.
#[derive(Debug)]
struct Saved {
    places: Places,
    v: usize,
    d: usize,
}

impl HostBackward for Saved {
    fn part(&self) -> Part {
        Part::LookUp
    }

    /// Each row's gradients are added up by one thread, in the places' order.
    fn backward(&self, above_nd: &[f32], _wanted: [bool; PARENTS]) -> [Vec<f32>; PARENTS] {
        let Self { places, v, d } = self;
        let Sorted { order, starts } = places.sorted();
        let mut of_table_vd = zeros(v * d);
        of_table_vd.par_chunks_mut((ROWS * d).max(1)).enumerate().for_each(|(part, out_vd)| {
            // A row's places end where the next one's begin: one start more than rows, and none for rows after the last
            // named.
            let from = (part * ROWS).min(starts.len());
            let starts = &starts[from..(from + ROWS + 1).min(starts.len())];
            for (out_d, range) in out_vd.chunks_mut(*d).zip(starts.windows(2)) {
                for &place in &order[range[0] as usize..range[1] as usize] {
                    out_d.iter_mut().zip(&above_nd[place as usize * d..]).for_each(|(sum, x)| *sum += x);
                }
            }
        });
        [of_table_vd, Vec::new(), Vec::new(), Vec::new()]
    }
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
