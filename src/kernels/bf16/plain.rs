//! What a product in bf16 is, in plain Rust, and how a processor without its instructions comes by it.

use rayon::prelude::*;

use super::super::matrix::{self, Matrix, Threads, multiply, zeros};
use super::super::vector::on_vectors;

/// To bf16, the nearest, ties to even, and back; what is larger than the largest becomes infinite, and a NaN stays one.
#[inline(always)]
pub(super) fn round(x: f32) -> f32 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000;
    f32::from_bits(if x.is_nan() { bits | 0x0040_0000 } else { nearest })
}

/// A rounded factor, laid out as it came.
pub(super) struct Rounded {
    values: Vec<f32>,
    shape: [usize; 2],
    strides: [usize; 2],
}

impl Rounded {
    pub(super) fn new(x: Matrix) -> Self {
        let mut values = zeros(x.data.len());
        values.par_chunks_mut(PART).zip(x.data.par_chunks(PART)).for_each(|(out, x)| {
            on_vectors(|| out.iter_mut().zip(x).for_each(|(out, x)| *out = round(*x)));
        });
        Self { values, shape: [x.rows, x.columns], strides: [x.row_stride, x.column_stride] }
    }

    fn matrix(&self) -> Matrix<'_> {
        let [rows, columns] = self.shape;
        let [row_stride, column_stride] = self.strides;
        Matrix { data: &self.values, rows, columns, row_stride, column_stride }
    }
}

/// Elements that a thread takes at a time.
const PART: usize = 16 << 10;

/// Products place by place.
pub(super) fn times(a: &[f32], b: &[f32]) -> Vec<f32> {
    let mut out = zeros(a.len());
    out.par_chunks_mut(PART).zip(a.par_chunks(PART).zip(b.par_chunks(PART))).for_each(|(out, (a, b))| {
        out.iter_mut().zip(a.iter().zip(b)).for_each(|(out, (a, b))| *out = a * b);
    });
    out
}

/// The product of rounded factors, row after row.
pub(super) fn product(left: &Rounded, right: &Rounded) -> Vec<f32> {
    multiply(left.matrix(), right.matrix())
}

/// `out += left right`.
pub(super) fn add_product(out: &mut [f32], left: &Rounded, right: &Rounded) {
    matrix::add_product(out, left.matrix(), right.matrix());
}

/// The product, over what is in `out`.
pub(super) fn fill(out: &mut [f32], left: &Rounded, right: &Rounded) {
    let columns = right.matrix().columns;
    matrix::product(out, columns, false, 1.0, left.matrix(), right.matrix(), Threads::All);
}

/// Hands rows to whoever finishes them.
pub(super) fn finish<const N: usize>(
    out: [&mut [f32]; N],
    columns: usize,
    each: &(impl Fn(usize, usize, [&mut [f32]; N]) + Sync),
) {
    let rows = out[0].len() / columns.max(1);
    let mut left = out.map(|out| out.chunks_mut(columns.max(1)));
    let all: Vec<[&mut [f32]; N]> =
        (0..rows).map(|_| left.each_mut().map(|rows| rows.next().expect("as many rows of each"))).collect();
    all.into_par_iter().enumerate().for_each(|(row, values)| on_vectors(|| each(row, 0, values)));
}
