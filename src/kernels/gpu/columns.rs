//! Sums over the rows of a matrix, of many columns at once: what biases, scales and shifts get. In the same order every
//! time.

use burn::backend::cubecl::dtype_to_storage_type;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

/// Rows that one invocation adds up.
pub(in crate::kernels) const ROWS: u32 = 64;
/// Columns of a cube that adds up parts, and its invocations a column.
const COLUMNS: u32 = 32;
const LANES: u32 = 8;

/// An invocation a vector of columns, of which there are `k`.
#[cube(launch)]
fn columns_kernel<F: Float, W: Size>(
    x_nk: &[Vector<F, W>],
    parts_pk: &mut [Vector<f32, W>],
    n: u32,
    k: u32,
    parts: u32,
    #[define(F)] _dtype: ElemType,
) {
    let k = k as usize;
    let part = ABSOLUTE_POS / k;
    if part >= parts as usize {
        terminate!();
    }
    let column = ABSOLUTE_POS % k;
    let mut row = part * ROWS as usize;
    let end = min(row + ROWS as usize, n as usize);
    let mut total = Vector::<f32, W>::new(0.0f32);
    while row < end {
        total += Vector::<f32, W>::cast_from(x_nk[row * k + column]);
        row += 1;
    }
    parts_pk[ABSOLUTE_POS] = total;
}

/// Column `i` of `parts_pk` goes to place `i % d` of the `i / d`th of `a`, `b` and `c`.
#[cube(launch)]
fn add_up_kernel(parts_pk: &[f32], a: &mut [f32], b: &mut [f32], c: &mut [f32], parts: u32, k: u32, d: u32) {
    let lane = UNIT_POS / COLUMNS;
    let column = CUBE_POS * COLUMNS as usize + (UNIT_POS % COLUMNS) as usize;
    let k = k as usize;
    let d = d as usize;
    let mut totals = Shared::<[f32]>::new_slice((COLUMNS * LANES) as usize);
    let mut total = f32::new(0.0);
    if column < k {
        let mut part = lane;
        while part < parts {
            total += parts_pk[part as usize * k + column];
            part += LANES;
        }
    }
    totals[UNIT_POS as usize] = total;
    sync_cube();
    if lane == 0 && column < k {
        let mut total = f32::new(0.0);
        #[unroll]
        for lane in 0..LANES {
            total += totals[(lane * COLUMNS + UNIT_POS) as usize];
        }
        let at = column % d;
        if column < d {
            a[at] = total;
        } else if column < 2 * d {
            b[at] = total;
        } else {
            c[at] = total;
        }
    }
}

/// How many sums of [`ROWS`] rows `n` rows come to.
pub(in crate::kernels) fn parts(n: usize) -> usize {
    n.div_ceil(ROWS as usize)
}

/// The sums of the columns of `[n, N d]`, whatever its dtype: N times `[d]` in f32.
pub(in crate::kernels) fn columns<const N: usize>(x_nk: &CubeTensor) -> [CubeTensor; N] {
    let [n, k] = [x_nk.meta.shape()[0], x_nk.meta.shape()[1]];
    let (parts, size) = (parts(n), super::vector_size(k));
    let parts_pk = super::empty([parts, k], x_nk);
    let (count, dim) = super::cubes(parts * k / size);
    let dtype = dtype_to_storage_type(x_nk.dtype);
    let (x, out) = (x_nk.clone().into_buffer_arg(), parts_pk.clone().into_buffer_arg());
    columns_kernel::launch(&x_nk.client, count, dim, size, x, out, n as u32, (k / size) as u32, parts as u32, dtype);
    add_up(&parts_pk)
}

/// The sums of the columns of `[parts, N d]` in f32, as N tensors `[d]`; N is 1, 2 or 3.
pub(in crate::kernels) fn add_up<const N: usize>(parts_pk: &CubeTensor) -> [CubeTensor; N] {
    const { assert!(N > 0 && N <= 3) };
    let [parts, k] = [parts_pk.meta.shape()[0], parts_pk.meta.shape()[1]];
    let out: [CubeTensor; N] = std::array::from_fn(|_| super::empty([k / N], parts_pk));
    let [a, b, c] =
        std::array::from_fn(|at| out.get(at).cloned().unwrap_or_else(|| super::like_a_vector(parts_pk)).into_buffer_arg());
    add_up_kernel::launch(
        &parts_pk.client,
        super::arranged(k.div_ceil(COLUMNS as usize) as u32),
        CubeDim::new_1d(COLUMNS * LANES),
        parts_pk.clone().into_buffer_arg(),
        a,
        b,
        c,
        parts as u32,
        k as u32,
        (k / N) as u32,
    );
    out
}
