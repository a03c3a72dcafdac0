//! Rows of a table looked up, with a gradient that adds up each row's by itself: no two invocations write one place, so that it is
//! the same every time and needs no atomics. burn 0.22's goes through all looked-up rows one after another.

use burn::tensor::Tensor;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::super::places::{Places, Sorted};
use super::link::{GpuBackward, PARENTS, with_gradient};

/// A cube adds up the gradients of one row of the table: those at `order[starts[part]..starts[part + 1]]`.
#[cube(launch)]
fn sum_rows_kernel(
    gradient_nd: &[f32],
    order_n: &[i32],
    starts_u: &[i32],
    rows_u: &[i32],
    out_vd: &mut [f32],
    d: u32,
    parts: u32,
) {
    let part = CUBE_POS;
    if part >= parts as usize {
        terminate!();
    }
    let d = d as usize;
    let from = starts_u[part] as usize;
    let to = starts_u[part + 1] as usize;
    let row = rows_u[part] as usize;
    let units = CUBE_DIM as usize;
    let mut column = UNIT_POS as usize;
    while column < d {
        let mut sum = f32::new(0.0);
        let mut i = from;
        while i < to {
            sum += gradient_nd[order_n[i] as usize * d + column];
            i += 1;
        }
        out_vd[row * d + column] = sum;
        column += units;
    }
}

/// `table_vd[places]`, `[n, d]`.
pub(in super::super) fn rows(table_vd: Tensor<2>, places: &Places) -> Tensor<2> {
    let is_tracked = table_vd.device().is_autodiff();
    let inner = if is_tracked { table_vd.clone().inner() } else { table_vd.clone() };
    let [v, d] = inner.dims();
    let found_nd = inner.select(0, places.at_n());
    if !is_tracked {
        return found_nd;
    }
    with_gradient(super::on_gpu(&found_nd), [table_vd.into_dispatch()], Saved { places: places.clone(), v, d })
}

/// What the backward pass needs.
#[derive(Debug)]
struct Saved {
    places: Places,
    v: usize,
    d: usize,
}

impl GpuBackward for Saved {
    fn backward(&self, above_nd: CubeTensor, _: [bool; PARENTS]) -> Vec<Option<CubeTensor>> {
        let device = self.places.at_n().device();
        let Sorted { order, starts, rows } = self.places.sorted();
        let out_vd = super::on_gpu(&Tensor::<2>::zeros([self.v, self.d], &device));
        let lists = [order, starts, rows].map(|list| super::ints_on_gpu(&super::upload(list, &device)));
        let client = out_vd.client.clone();
        let [order, starts, rows_of] = lists.map(CubeTensor::into_buffer_arg);
        sum_rows_kernel::launch(
            &client,
            super::arranged(rows.len() as u32),
            CubeDim::new_1d(super::WIDE),
            above_nd.into_buffer_arg(),
            order,
            starts,
            rows_of,
            out_vd.clone().into_buffer_arg(),
            self.d as u32,
            rows.len() as u32,
        );
        vec![Some(out_vd)]
    }
}
