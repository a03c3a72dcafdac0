//! Products of bf16 factors with f32 sums on the CPU, by the processor's own instructions where it has them.
//!
//! The factors are f32 and are rounded to bf16 on the way into tiles, to the nearest, ties to even; sums, and what is
//! made of them, are f32. That is what a product in bf16 is on a GPU and in PyTorch's `autocast`, except that values
//! between products stay f32 here.
//!
//! Tiles are those of AMX, and AVX512-BF16 and NEON read the same: 16 rows of 64 bytes, one after another. In a left
//! factor's tile a row is 32 inner values of one outer row; in a right factor's, 16 outer columns of a pair of inner
//! values. Either is the other one with its 32-bit words transposed. Sizes are filled up with zeros, so that no
//! instruction knows of edges.
//!
//! A block of the product is summed up in a scratch matrix that stays in the cache, is finished there by the caller
//! (bias, GELU, ...), and is written once: where products take no time, writing is what takes it.
//!
//! A processor without the instructions multiplies the rounded factors in f32, so that bf16 means the same numbers
//! everywhere, but for the order of sums. The instructions read and write numbers below 2^-126 as 0.
//!
//! # What was tried
//!
//! * The `gemm` crate, which multiplies our f32, has no bf16 (0.19: f16, f32, f64 and complex).
//! * oneDNN is a C++ library of several hundred thousand lines; its crates build it from source by CMake, which is
//!   longer than all of upstill's own build on two cores, or want it installed. Neither was taken, and it was not timed
//!   by itself: PyTorch's bf16 is oneDNN, and `upstill bench step` compares with that.
//! * AVX512-BF16 on an Intel Xeon of 2023: 77 GFLOP/s a core, where `gemm` reaches 160 in f32 and AMX 480 to 620, its
//!   factors' rounding included (`upstill bench`'s documentation has the table). Without AMX such a processor is
//!   therefore given f32.
//! * Rust's intrinsics for AMX and for NEON's bf16 are not stable; the instructions are written as assembly. NEON's
//!   `bfdot` was held to the definition under qemu alone, and its speed was seen nowhere. It reads the tiles as they
//!   are; `bfmmla`, which does twice as much where it is, would want others.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod block;
#[cfg(any(all(test, target_arch = "x86_64"), target_arch = "aarch64"))]
mod lay_out;
#[cfg(target_arch = "aarch64")]
mod neon;
mod plain;
#[cfg(test)]
mod tests;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod tiles;

use super::matrix::{Matrix, add_columns, zeros};
use crate::device::Bf16Unit as Unit;

/// Rows, and columns, of the smallest block of a product: two tiles by two.
pub(super) const BLOCK: usize = 32;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// What is made of a matrix beside its left factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Second {
    /// It as a right factor.
    Right,
    /// Its transposed as a left factor.
    Turned,
}

/// A factor of a product, rounded to bf16 and laid out for whoever multiplies: to be used in any number of products.
pub(super) struct Factor {
    unit: Unit,
    /// Rows of a left factor, columns of a right one.
    outer: usize,
    /// What is summed over.
    inner: usize,
    values: Values,
}

enum Values {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    Tiled(tiles::Tiled),
    Rounded(plain::Rounded),
}

impl Factor {
    /// A product's left factor: its columns are summed over.
    pub(super) fn left(x: Matrix) -> Self {
        Self::by(Unit::here(), x, Side::Left)
    }

    /// A product's right factor: its rows are summed over.
    pub(super) fn right(x: Matrix) -> Self {
        Self::by(Unit::here(), x, Side::Right)
    }

    /// Two factors of one reading of a matrix `x`, row after row of `columns`, or of its product with `times` place by
    /// place: it as a left factor, and what `second` says; and the sums of its columns, before they are rounded.
    pub(super) fn two(x: &[f32], times: Option<&[f32]>, columns: usize, second: Second) -> ([Self; 2], Vec<f32>) {
        Self::two_by(Unit::here(), x, times, columns, second)
    }

    fn two_by(unit: Unit, x: &[f32], times: Option<&[f32]>, columns: usize, second: Second) -> ([Self; 2], Vec<f32>) {
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        if unit != Unit::Rounded && !x.is_empty() {
            let sizes = [x.len() / columns, columns];
            let ([left, other], sums) = tiles::two_of(x, times, columns, second);
            let [left, other] = [(left, sizes), (other, [sizes[1], sizes[0]])].map(|(tiled, [outer, inner])| Self {
                unit,
                outer,
                inner,
                values: Values::Tiled(tiled),
            });
            return ([left, other], sums);
        }
        let product;
        let x = match times {
            None => x,
            Some(times) => {
                product = plain::times(x, times);
                &product
            }
        };
        let mut sums = vec![0.0; columns];
        add_columns(&mut sums, x);
        let x = Matrix::new(x, columns);
        let other = match second {
            Second::Right => Self::by(unit, x, Side::Right),
            Second::Turned => Self::by(unit, x.transposed(), Side::Left),
        };
        ([Self::by(unit, x, Side::Left), other], sums)
    }

    fn by(unit: Unit, x: Matrix, side: Side) -> Self {
        let (outer, inner) = if side == Side::Left { (x.rows, x.columns) } else { (x.columns, x.rows) };
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        if unit != Unit::Rounded {
            return Self { unit, outer, inner, values: Values::Tiled(tiles::Tiled::new(x, side)) };
        }
        Self { unit, outer, inner, values: Values::Rounded(plain::Rounded::new(x)) }
    }
}

/// # Panics
/// When the factors don't fit each other, or are laid out for different instructions.
fn assert_fit(left: &Factor, right: &Factor) {
    assert_eq!(left.inner, right.inner, "shapes of a product");
    assert_eq!(left.unit, right.unit, "factors of one unit");
}

/// The product, row after row, finished by `each` where it lies in the cache: that is given a row, a column, the sums
/// from there on, and N - 1 times as much room for what else is to be found out. All N are returned.
///
/// # Panics
/// When the factors don't fit each other.
pub(super) fn finished<const N: usize>(
    left: &Factor,
    right: &Factor,
    each: impl Fn(usize, usize, [&mut [f32]; N]) + Sync,
) -> [Vec<f32>; N] {
    assert_fit(left, right);
    let (m, n) = (left.outer, right.outer);
    match (&left.values, &right.values) {
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        (Values::Tiled(a), Values::Tiled(b)) => {
            let mut out: [Vec<f32>; N] = std::array::from_fn(|_| Vec::with_capacity(m * n));
            let outs = out.each_mut().map(|out| tiles::Out::Unwritten(&mut out.spare_capacity_mut()[..m * n]));
            tiles::product(left.unit, a, b, outs, &each);
            // SAFETY: all of them were just written.
            out.iter_mut().for_each(|out| unsafe { out.set_len(m * n) });
            out
        }
        (Values::Rounded(a), Values::Rounded(b)) => {
            let mut sums = Some(plain::product(a, b));
            let mut out: [Vec<f32>; N] = std::array::from_fn(|_| sums.take().unwrap_or_else(|| zeros(m * n)));
            plain::finish(out.each_mut().map(|out| &mut out[..]), n, &each);
            out
        }
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        _ => unreachable!("factors of one unit"),
    }
}

/// The product, over what is in `out`, finished as by [`finished`].
///
/// # Panics
/// When shapes don't fit each other.
pub(super) fn fill(out: &mut [f32], left: &Factor, right: &Factor, each: impl Fn(usize, usize, [&mut [f32]; 1]) + Sync) {
    assert_fit(left, right);
    match (&left.values, &right.values) {
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        (Values::Tiled(a), Values::Tiled(b)) => tiles::product(left.unit, a, b, [tiles::Out::Replaced(out)], &each),
        (Values::Rounded(a), Values::Rounded(b)) => {
            plain::fill(out, a, b);
            plain::finish([out], right.outer, &each);
        }
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        _ => unreachable!("factors of one unit"),
    }
}

/// The product, row after row.
pub(super) fn multiply(left: &Factor, right: &Factor) -> Vec<f32> {
    let [out] = finished(left, right, |_, _, [_]| ());
    out
}

/// `out += left right`, row after row.
///
/// # Panics
/// When shapes don't fit each other.
pub(super) fn add_product(out: &mut [f32], left: &Factor, right: &Factor) {
    assert_fit(left, right);
    match (&left.values, &right.values) {
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        (Values::Tiled(a), Values::Tiled(b)) => {
            tiles::product(left.unit, a, b, [tiles::Out::AddedTo(out)], &|_, _, [_]| ());
        }
        (Values::Rounded(a), Values::Rounded(b)) => plain::add_product(out, a, b),
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        _ => unreachable!("factors of one unit"),
    }
}
