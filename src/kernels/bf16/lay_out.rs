//! Rounding into tiles in plain Rust: what AVX-512's way is held to, and the way of processors that have none.
//!
//! Functions have the names and arguments of those in `avx512.rs`.

use super::block::WIDE;
use super::plain::round;

/// A number's bf16, the nearest, ties to even.
fn bf16(x: f32) -> u16 {
    (round(x).to_bits() >> 16) as u16
}

/// Writes 16 rows of 32 numbers that lie beside each other, as a tile of 16 rows; what is past `rows` and `columns` is
/// 0.
///
/// # Safety
/// `from` can be read as so many rows and columns, rows `stride` apart; the tile can be written.
pub(super) unsafe fn rows(from: *const f32, stride: usize, [rows, columns]: [usize; 2], tile: *mut u16) {
    for row in 0..16 {
        let mut line = [0; WIDE];
        if row < rows {
            for (column, out) in line.iter_mut().enumerate().take(columns) {
                // SAFETY: a row and a column that are there.
                *out = bf16(unsafe { *from.add(row * stride + column) });
            }
        }
        // SAFETY: a tile has 16 rows.
        unsafe { tile.add(row * WIDE).copy_from_nonoverlapping(line.as_ptr(), WIDE) };
    }
}

/// Writes 32 rows of 16 numbers that lie beside each other, as a tile of 16 rows of pairs: of two rows each.
///
/// # Safety
/// As [`rows`].
pub(super) unsafe fn pairs(from: *const f32, stride: usize, [rows, columns]: [usize; 2], tile: *mut u16) {
    for pair in 0..16 {
        let mut line = [[0; 2]; WIDE / 2];
        for (column, both) in line.iter_mut().enumerate().take(columns) {
            for (of_pair, out) in both.iter_mut().enumerate().take(rows.saturating_sub(2 * pair)) {
                // SAFETY: a row and a column that are there.
                *out = bf16(unsafe { *from.add((2 * pair + of_pair) * stride + column) });
            }
        }
        // SAFETY: a tile has 16 rows.
        unsafe { tile.add(pair * WIDE).copy_from_nonoverlapping(line.as_flattened().as_ptr(), WIDE) };
    }
}

/// Transposes a tile's words of two numbers where it lies.
///
/// # Safety
/// The tile can be read and written.
pub(super) unsafe fn transpose(tile: *mut u16) {
    let word = |row: usize, column: usize| tile.wrapping_add(row * WIDE + 2 * column).cast::<[u16; 2]>();
    for row in 0..16 {
        for column in 0..row {
            // SAFETY: a tile has 16 rows of 16 words; these are two of them.
            unsafe { std::ptr::swap(word(row, column), word(column, row)) };
        }
    }
}

/// 32 rows of 32 numbers that lie beside each other, times `factors` that lie alike where there are any, as the rows of
/// two tiles; what is past `rows` and `columns` is 0. The sums of the columns go to `sums`.
///
/// # Safety
/// As [`rows`], and `factors` likewise; so many columns of `sums`, and both tiles, can be written.
pub(super) unsafe fn square(
    from: *const f32,
    factors: Option<*const f32>,
    stride: usize,
    [rows, columns]: [usize; 2],
    tiles: [*mut u16; 2],
    sums: *mut f32,
) {
    let mut totals = [0.0; WIDE];
    for row in 0..2 * 16 {
        let mut line = [0; WIDE];
        if row < rows {
            for (column, (out, total)) in line.iter_mut().zip(&mut totals).enumerate().take(columns) {
                let at = row * stride + column;
                // SAFETY: a row and a column that are there.
                let value = unsafe { *from.add(at) * factors.map_or(1.0, |factors| *factors.add(at)) };
                *total += value;
                *out = bf16(value);
            }
        }
        // SAFETY: a tile has 16 rows.
        unsafe { tiles[row / 16].add(row % 16 * WIDE).copy_from_nonoverlapping(line.as_ptr(), WIDE) };
    }
    // SAFETY: so many columns can be written.
    unsafe { sums.copy_from_nonoverlapping(totals.as_ptr(), columns.min(WIDE)) };
}

/// Writes the tile of pairs of a square's rows, which two tiles hold: of its first 16 columns or of the others; or that
/// tile transposed.
///
/// # Safety
/// Both tiles can be read and `to` be written.
pub(super) unsafe fn turn(tiles: [*const u16; 2], half: usize, transposes: bool, to: *mut u16) {
    for row in 0..2 * 16 {
        for column in 0..16 {
            let (pair, place) = if transposes { (column, row / 2) } else { (row / 2, column) };
            // SAFETY: a tile has 16 rows.
            unsafe {
                let value = *tiles[row / 16].add(row % 16 * WIDE + 16 * half + column);
                to.add(pair * WIDE + 2 * place + row % 2).write(value);
            }
        }
    }
}

/// Nothing is written past the caches.
#[cfg(target_arch = "aarch64")]
pub(super) fn fence() {}

/// It takes no instructions of its own.
#[cfg(target_arch = "aarch64")]
pub(super) fn is_there() -> bool {
    true
}
