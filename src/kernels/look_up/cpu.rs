//! Rows of a table copied in plain Rust, and their gradients added up.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::places::{Places, Sorted};
use crate::kernels::graph::Parent;
use crate::kernels::host::{HostBackward, host, slice, with_gradient};
use crate::kernels::matrix::zeros;
use crate::kernels::spent::Part;

/// Rows that a thread takes at a time.
const ROWS: usize = 64;

/// See [`look_up`](super::look_up()).
pub(super) fn look_up(table_vd: &Tensor<2>, places: &Places) -> Tensor<2> {
    let [v, d] = table_vd.dims();
    let table = host(table_vd);
    let mut out_nd = zeros(places.count() * d);
    out_nd.par_chunks_mut((ROWS * d).max(1)).zip(places.rows().par_chunks(ROWS)).for_each(|(out_nd, rows_n)| {
        for (out_d, &row) in out_nd.chunks_mut(d).zip(rows_n) {
            out_d.copy_from_slice(&slice(&table)[row as usize * d..][..d]);
        }
    });
    let saved = Saved { places: places.clone(), v, d };
    with_gradient(out_nd, [places.count(), d], [Parent::of(table_vd.clone())], saved)
}

/// What the backward pass needs.
#[derive(Debug)]
struct Saved {
    places: Places,
    v: usize,
    d: usize,
}

impl HostBackward<1> for Saved {
    fn part(&self) -> Part {
        Part::LookUp
    }

    /// Each row's gradients are added up by one thread, in the places' order.
    fn backward(&self, above_nd: &[f32], _: [bool; 1]) -> [Option<Vec<f32>>; 1] {
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
        [Some(of_table_vd)]
    }
}
