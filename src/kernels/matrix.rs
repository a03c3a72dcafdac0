//! Matrices over slices of host memory, and their products.

use std::mem::MaybeUninit;

use rayon::prelude::*;

/// A matrix over a slice, with any strides.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub data: &'a [f32],
    pub rows: usize,
    pub columns: usize,
    pub row_stride: usize,
    pub column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Row after row of `columns`.
    pub fn new(data: &'a [f32], columns: usize) -> Self {
        let rows = data.len() / columns.max(1);
        assert_eq!(rows * columns, data.len(), "whole rows");
        Self { data, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// `rows` rows of `columns`, the first at the start of `data`, each `row_stride` after the last.
    pub fn strided(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(rows == 0 || (rows - 1) * row_stride + columns <= data.len(), "a matrix lies within its slice");
        Self { data, rows, columns, row_stride, column_stride: 1 }
    }

    pub fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }
}

/// Who multiplies.
#[derive(Clone, Copy)]
pub(super) enum Threads {
    One,
    /// Where two products run side by side.
    Half,
    All,
}

impl Threads {
    fn parallelism(self) -> gemm::Parallelism {
        match (self, rayon::current_num_threads() / 2) {
            (Threads::All, _) => gemm::Parallelism::Rayon(0),
            (Threads::Half, several @ 2..) => gemm::Parallelism::Rayon(several),
            _ => gemm::Parallelism::None,
        }
    }
}

/// `out = factor * a b`, or `out += factor * a b`; rows of `out` are `row_stride` apart.
pub(super) fn product(out: &mut [f32], row_stride: usize, add: bool, factor: f32, a: Matrix, b: Matrix, threads: Threads) {
    assert!(a.columns == b.rows && row_stride >= b.columns, "shapes of a product");
    assert!(a.rows == 0 || (a.rows - 1) * row_stride + b.columns <= out.len(), "a product lies within its slice");
    // SAFETY: the product lies within `out`, as just asserted, whose values may be read.
    unsafe { product_at(out.as_mut_ptr(), row_stride, add, factor, a, b, threads) }
}

/// [`product`] at a place in memory.
///
/// # Safety
/// Every element of the product, rows `row_stride` apart, may be written there; with `add` each may be read too.
unsafe fn product_at(out: *mut f32, row_stride: usize, add: bool, factor: f32, a: Matrix, b: Matrix, threads: Threads) {
    // SAFETY: a `Matrix` lies within its slice, transposed or not; of `out` the caller says so. Without `add` nothing
    // of `out` is read.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out,
            1,
            row_stride as isize,
            add,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            factor,
            false,
            false,
            false,
            threads.parallelism(),
        );
    }
}

/// `out += a b` on all threads, `out` row after row.
pub(super) fn add_product(out: &mut [f32], a: Matrix, b: Matrix) {
    add_product_on(Threads::All, out, a, b);
}

/// `out += a b`, `out` row after row.
pub(super) fn add_product_on(threads: Threads, out: &mut [f32], a: Matrix, b: Matrix) {
    assert_eq!(out.len(), a.rows * b.columns, "shapes of a product");
    product(out, b.columns, true, 1.0, a, b, threads);
}

/// Zeros that all threads write: memory is slow to be written by one.
pub(super) fn zeros(count: usize) -> Vec<f32> {
    const PART: usize = 64 << 10;
    let mut out = Vec::with_capacity(count);
    out.spare_capacity_mut()[..count].par_chunks_mut(PART).for_each(|part| {
        part.fill(MaybeUninit::new(0.0));
    });
    // SAFETY: the first `count` were just written.
    unsafe { out.set_len(count) };
    out
}

/// `count` numbers, in parts of `part` that a thread makes at a time from zeros: `make` has a part's number and the
/// part, which is in the cache still.
pub(super) fn made(count: usize, part: usize, make: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let [out] = made_together(count, part, |at, [out]| make(at, out));
    out
}

/// N lists of `count` numbers, of which a thread makes a part each at a time; see [`made`].
pub(super) fn made_together<const N: usize>(
    count: usize,
    part: usize,
    make: impl Fn(usize, [&mut [f32]; N]) + Sync,
) -> [Vec<f32>; N] {
    let part = part.max(1);
    let mut outs: [Vec<f32>; N] = std::array::from_fn(|_| Vec::with_capacity(count));
    let mut parts = outs.each_mut().map(|out| out.spare_capacity_mut()[..count].chunks_mut(part));
    let parts: Vec<_> = (0..count.div_ceil(part)).map(|_| parts.each_mut().map(|parts| parts.next().expect("a part"))).collect();
    parts.into_par_iter().enumerate().for_each(|(at, parts)| {
        let parts = parts.map(|part| {
            part.fill(MaybeUninit::new(0.0));
            // SAFETY: the part was just written as a whole.
            unsafe { &mut *(std::ptr::from_mut(part) as *mut [f32]) }
        });
        make(at, parts);
    });
    // SAFETY: all parts were written.
    outs.iter_mut().for_each(|out| unsafe { out.set_len(count) });
    outs
}

/// `a b` on all threads.
pub(super) fn multiply(a: Matrix, b: Matrix) -> Vec<f32> {
    let count = a.rows * b.columns;
    if a.columns == 0 {
        return zeros(count);
    }
    assert!(a.columns == b.rows, "shapes of a product");
    let mut out = Vec::with_capacity(count);
    // SAFETY: there is room for the product, row after row, and all of it is written.
    unsafe {
        product_at(out.as_mut_ptr(), b.columns, false, 1.0, a, b, Threads::All);
        out.set_len(count);
    }
    out
}

/// Adds the sums of the columns of `x_nf` to `sums_f`.
pub(super) fn add_columns(sums_f: &mut [f32], x_nf: &[f32]) {
    const COLUMNS: usize = 4096;
    let f = sums_f.len();
    let columns = COLUMNS.min(f.div_ceil(rayon::current_num_threads()).next_multiple_of(16));
    sums_f.par_chunks_mut(columns).enumerate().for_each(|(block, sums)| {
        for row_f in x_nf.chunks(f) {
            sums.iter_mut().zip(&row_f[block * columns..]).for_each(|(sum, x)| *sum += x);
        }
    });
}
