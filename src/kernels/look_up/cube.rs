//! Rows of a table looked up, with a gradient that adds up each row's by itself: no two invocations write one place, so
//! that it is the same every time and needs no atomics. burn 0.22's goes through all looked-up rows one after another.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::Tensor;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::Places;
use crate::kernels::gpu::{GpuBackward, WIDE, arranged, empty_of, ints_on_gpu, on_gpu, with_gradient};
use crate::kernels::graph::{Parent, inner};
use crate::kernels::spent::{self, Part};

/// A cube adds up the gradients of one row of the table: those at `order[starts[row]..starts[row + 1]]`, of the first
/// `named` rows; the gradient of every other row is zero.
#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "buffers are bound one by one")]
fn sum_rows_kernel<F: Float>(
    gradient_nd: &[F],
    order_n: &[i32],
    starts: &[i32],
    out_vd: &mut [F],
    d: u32,
    rows: u32,
    named: u32,
    #[define(F)] _dtype: ElemType,
) {
    let row = CUBE_POS;
    if row >= rows as usize {
        terminate!();
    }
    let d = d as usize;
    let mut from = 0usize;
    let mut to = 0usize;
    if row < named as usize {
        from = starts[row] as usize;
        to = starts[row + 1] as usize;
    }
    let units = CUBE_DIM as usize;
    let mut column = UNIT_POS as usize;
    while column < d {
        let mut sum = f32::new(0.0);
        let mut i = from;
        while i < to {
            sum += f32::cast_from(gradient_nd[order_n[i] as usize * d + column]);
            i += 1;
        }
        out_vd[row * d + column] = F::cast_from(sum);
        column += units;
    }
}

/// See [`look_up`](super::look_up()).
pub(super) fn look_up(table_vd: Tensor<2>, places: &Places) -> Tensor<2> {
    let plain = inner(table_vd.clone());
    let [v, d] = plain.dims();
    let found_nd = spent::on_gpu(Part::LookUp, &on_gpu(&plain), || plain.clone().select(0, places.at_n()));
    with_gradient(on_gpu(&found_nd), [Parent::of(table_vd)], Saved { places: places.clone(), v, d })
}

/// What the backward pass needs.
#[derive(Debug)]
struct Saved {
    places: Places,
    v: usize,
    d: usize,
}

impl GpuBackward<1> for Saved {
    fn part(&self) -> Part {
        Part::LookUp
    }

    fn backward(&self, above_nd: CubeTensor, _: [bool; 1]) -> [Option<CubeTensor>; 1] {
        let [order, starts] = self.places.sorted_on_device();
        let named = starts.dims()[0] - 1;
        let [order, starts] = [order, starts].map(|list| ints_on_gpu(&list).into_buffer_arg());
        let out_vd = empty_of([self.v, self.d], above_nd.dtype, &above_nd);
        let numbers = dtype_to_storage_type(above_nd.dtype);
        sum_rows_kernel::launch(
            &out_vd.client,
            arranged(self.v as u32),
            CubeDim::new_1d(WIDE),
            above_nd.into_buffer_arg(),
            order,
            starts,
            out_vd.clone().into_buffer_arg(),
            self.d as u32,
            self.v as u32,
            named as u32,
            numbers,
        );
        [Some(out_vd)]
    }
}
