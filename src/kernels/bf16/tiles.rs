//! Factors in tiles, and the walk over a product's blocks.

use std::cell::RefCell;
use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::super::matrix::{Matrix, add_columns};
use super::super::vector::on_vectors;
use super::block::{Block, TILE, WIDE};
use super::{BLOCK, Second, Side, Unit};
#[cfg(target_arch = "x86_64")]
use super::{amx, avx512, avx512 as lay_out};
#[cfg(target_arch = "aarch64")]
use super::{lay_out, neon};

/// A tile's row: what a line of the cache holds.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u16; WIDE]);

/// A factor in tiles: panels of 16 outer rows (a right factor's columns), an even number of them; in a panel, a tile
/// for each 32 inner values, at least one. What is past the factor's sizes is 0.
pub(super) struct Tiled {
    lines: Vec<Line>,
    /// Lines there are in the end.
    count: usize,
    outer: usize,
    inner_tiles: usize,
}

/// The tiles of a factor, each to be written by one thread.
#[derive(Clone, Copy)]
struct Writer {
    to: *mut u16,
    inner_tiles: usize,
}

// SAFETY: each thread writes tiles of its own alone.
unsafe impl Sync for Writer {}

impl Writer {
    /// # Safety
    /// There is such a tile.
    unsafe fn tile(&self, panel: usize, inner: usize) -> *mut u16 {
        // SAFETY: as above.
        unsafe { self.to.add((panel * self.inner_tiles + inner) * TILE) }
    }
}

impl Tiled {
    /// Rounds a factor into tiles.
    ///
    /// # Panics
    /// Without the instructions, or when neither rows nor columns lie side by side.
    pub(super) fn new(x: Matrix, side: Side) -> Self {
        assert!(lay_out::is_there(), "tiles are made by the processor's instructions");
        let x = if side == Side::Left { x } else { x.transposed() };
        assert!(x.row_stride == 1 || x.column_stride == 1, "rows or columns lie side by side");
        let mut tiled = Self::empty(x.rows, x.columns);
        let panel = 16 * tiled.inner_tiles;
        // Parts of 64 KiB at least.
        let panels = 1024usize.div_ceil(panel);
        tiled.room().par_chunks_mut(panels * panel).enumerate().for_each(|(part, lines)| {
            for (at, panel) in lines.chunks_mut(panel).enumerate() {
                // SAFETY: the instructions are there.
                unsafe { fill_panel(x, side, (part * panels + at) * 16, panel) };
            }
        });
        // SAFETY: each was just written.
        unsafe { tiled.lines.set_len(tiled.count) };
        tiled
    }

    /// Room for a factor.
    fn empty(outer: usize, inner: usize) -> Self {
        let inner_tiles = inner.div_ceil(WIDE).max(1);
        let count = outer.div_ceil(BLOCK) * 2 * 16 * inner_tiles;
        Self { lines: Vec::with_capacity(count), count, outer, inner_tiles }
    }

    /// All its lines, to be written.
    fn room(&mut self) -> &mut [MaybeUninit<Line>] {
        &mut self.lines.spare_capacity_mut()[..self.count]
    }

    fn writer(&mut self) -> Writer {
        Writer { to: self.room().as_mut_ptr().cast(), inner_tiles: self.inner_tiles }
    }

    /// The first tile of a panel, from an inner tile on.
    fn tile(&self, panel: usize, inner: usize) -> *const u16 {
        self.lines[16 * (panel * self.inner_tiles + inner)..].as_ptr().cast()
    }
}

/// A left factor of `x` times `factors`, row after row of `columns`, one at least; a second factor; and the sums of the
/// columns.
pub(super) fn two_of(x: &[f32], factors: Option<&[f32]>, columns: usize, second: Second) -> ([Tiled; 2], Vec<f32>) {
    /// Columns that a thread takes at a time.
    const PART: usize = 64 * BLOCK;
    assert!(lay_out::is_there(), "tiles are made by the processor's instructions");
    let rows = x.len() / columns;
    assert!(rows > 0 && rows * columns == x.len() && factors.is_none_or(|factors| factors.len() == x.len()), "whole rows");
    let mut both = [[rows, columns], [columns, rows]].map(|[outer, inner]| Tiled::empty(outer, inner));
    let [left, turned] = both.each_mut().map(Tiled::writer);
    let (down, along) = (rows.div_ceil(BLOCK), columns.div_ceil(PART));
    let mut sums_bf = vec![0.0f32; down * columns];
    let of_sums = Place { to: sums_bf.as_mut_ptr(), adds: false };
    (0..down * along).into_par_iter().for_each(|at| {
        let (block, from) = (at / along, at % along * PART);
        for column in (from..columns.min(from + PART)).step_by(BLOCK) {
            let start = block * BLOCK * columns + column;
            let (rows, columns_here) = (BLOCK.min(rows - block * BLOCK), BLOCK.min(columns - column));
            let (of_sums, panel) = (&of_sums, column / BLOCK * 2);
            // SAFETY: the instructions are there; rows and columns are within `x` and what has its shape; each block
            // has tiles and sums of its own.
            unsafe {
                let (x, factors) = (x.as_ptr().add(start), factors.map(|factors| factors.as_ptr().add(start)));
                let sums = of_sums.to.add(block * columns + column);
                let tiles = [0, 1].map(|half| left.tile(2 * block + half, column / BLOCK));
                lay_out::square(x, factors, columns, [rows, columns_here], tiles, sums);
                for half in 0..2 {
                    let to = turned.tile(panel + half, block);
                    lay_out::turn(tiles.map(<*mut u16>::cast_const), half, second == Second::Turned, to);
                }
            }
        }
        lay_out::fence();
    });
    let mut total_f = vec![0.0; columns];
    add_columns(&mut total_f, &sums_bf);
    // SAFETY: each line of both was just written: blocks cover all panels and inner tiles.
    both.iter_mut().for_each(|tiled| unsafe { tiled.lines.set_len(tiled.count) });
    (both, total_f)
}

/// The panel whose first outer row is `from`; rows of `x` are outer.
///
/// # Safety
/// The instructions are there.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx512bf16,avx512bw"))]
unsafe fn fill_panel(x: Matrix, side: Side, from: usize, panel: &mut [MaybeUninit<Line>]) {
    let outer = x.rows.saturating_sub(from).min(16);
    for (at, lines) in panel.chunks_exact_mut(16).enumerate() {
        let to: *mut u16 = lines.as_mut_ptr().cast();
        let inner = x.columns.saturating_sub(at * WIDE).min(WIDE);
        if outer == 0 || inner == 0 {
            lines.fill(MaybeUninit::new(Line([0; WIDE])));
            continue;
        }
        // SAFETY: a `Matrix` lies within its slice, so `outer` rows and `inner` columns from here on can be read; a
        // tile is 16 lines.
        unsafe {
            let first = x.data.as_ptr().add(from * x.row_stride + at * WIDE * x.column_stride);
            match x.column_stride == 1 {
                true => lay_out::rows(first, x.row_stride, [outer, inner], to),
                false => lay_out::pairs(first, x.column_stride, [inner, outer], to),
            }
            // Rows as they lie are a left factor's, pairs a right one's.
            if (x.column_stride == 1) != (side == Side::Left) {
                lay_out::transpose(to);
            }
        }
    }
}

/// Where a product goes, row after row.
pub(super) enum Out<'a> {
    Unwritten(&'a mut [MaybeUninit<f32>]),
    Replaced(&'a mut [f32]),
    AddedTo(&'a mut [f32]),
}

/// [`Out`], for blocks that don't overlap.
#[derive(Clone, Copy)]
struct Place {
    to: *mut f32,
    adds: bool,
}

// SAFETY: each thread writes rows and columns of its own block alone.
unsafe impl Sync for Place {}
// SAFETY: as above.
unsafe impl Send for Place {}

/// Inner tiles that are summed before the next panels: a panel of two stays in the nearest cache.
const INNER: usize = 512 / WIDE;
/// The largest block that a thread sums up: what it reads of both factors stays in the second cache.
const LARGEST: usize = 256;

/// The product, finished by `each`, which is given a row, its first column, and the sums there with N - 1 more rows of
/// room, in which anything may be; all N go to `outs`.
pub(super) fn product<const N: usize>(
    unit: Unit,
    left: &Tiled,
    right: &Tiled,
    outs: [Out; N],
    each: &(impl Fn(usize, usize, [&mut [f32]; N]) + Sync),
) {
    let (m, n) = (left.outer, right.outer);
    assert_eq!(left.inner_tiles, right.inner_tiles, "shapes of a product");
    let places = outs.map(|out| {
        let (place, length) = match out {
            Out::Unwritten(out) => (Place { to: out.as_mut_ptr().cast(), adds: false }, out.len()),
            Out::Replaced(out) => (Place { to: out.as_mut_ptr(), adds: false }, out.len()),
            Out::AddedTo(out) => (Place { to: out.as_mut_ptr(), adds: true }, out.len()),
        };
        assert_eq!(length, m * n, "shapes of a product");
        place
    });
    if m == 0 || n == 0 {
        return;
    }
    let (rows, columns) = block_sizes(m, n);
    let down = m.div_ceil(rows);
    (0..down * n.div_ceil(columns)).into_par_iter().with_max_len(1).for_each(|at| {
        let (row, column) = (at % down * rows, at / down * columns);
        let (rows_here, columns_here) = (rows.min(m - row), columns.min(n - column));
        with_room(N * rows * columns, |room| {
            let mut matrices = room.chunks_exact_mut(rows * columns);
            let mut matrices: [&mut [f32]; N] = std::array::from_fn(|_| matrices.next().expect("a matrix of room each"));
            sum_up(unit, left, right, [row, column], [rows_here, columns_here], matrices[0], columns);
            on_vectors(|| {
                for r in 0..rows_here {
                    let mut values = matrices.each_mut().map(|sums| &mut sums[r * columns..][..columns_here]);
                    each(row + r, column, values.each_mut().map(|values| &mut **values));
                    for (values, place) in values.iter().zip(&places) {
                        // SAFETY: as long as all rows and columns, which was just asserted; nobody else has these.
                        unsafe { write(values, place.to.add((row + r) * n + column), place.adds) };
                    }
                }
            });
        });
    });
}

/// So much room of the thread's own, with anything in it: zeros would have to be written each time.
fn with_room(length: usize, work: impl FnOnce(&mut [f32])) {
    thread_local! {
        static ROOM: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    }
    ROOM.with_borrow_mut(|room| {
        room.resize(room.len().max(length), 0.0);
        work(&mut room[..length]);
    });
}

/// # Safety
/// `to` can be written, and read where it is added to.
#[inline(always)]
unsafe fn write(values: &[f32], to: *mut f32, adds: bool) {
    for (at, value) in values.iter().enumerate() {
        // SAFETY: as above.
        unsafe {
            let to = to.add(at);
            to.write(if adds { to.read() + value } else { *value });
        }
    }
}

/// Large blocks, but a few for each thread.
fn block_sizes(m: usize, n: usize) -> (usize, usize) {
    // All about as large.
    let size = |all: usize| all.div_ceil(all.div_ceil(LARGEST)).next_multiple_of(BLOCK);
    let (mut rows, mut columns) = (size(m), size(n));
    while m.div_ceil(rows) * n.div_ceil(columns) < 4 * rayon::current_num_threads() && rows.max(columns) > BLOCK {
        let larger = if rows >= columns { &mut rows } else { &mut columns };
        *larger = (*larger / 2).next_multiple_of(BLOCK);
    }
    (rows, columns)
}

/// The sums of the block at a row and a column, into `sums`, rows `row_stride` apart.
fn sum_up(
    unit: Unit,
    left: &Tiled,
    right: &Tiled,
    [row, column]: [usize; 2],
    [rows, columns]: [usize; 2],
    sums: &mut [f32],
    row_stride: usize,
) {
    assert!(rows.next_multiple_of(BLOCK) * row_stride <= sums.len() && columns.next_multiple_of(BLOCK) <= row_stride);
    // SAFETY: a unit is made where its instructions are.
    let multiply = unsafe { multiplier(unit) };
    for from in (0..left.inner_tiles).step_by(INNER) {
        let inner = INNER.min(left.inner_tiles - from);
        for r in (0..rows).step_by(BLOCK) {
            for c in (0..columns).step_by(BLOCK) {
                let (above, beside) = ((row + r) / 16, (column + c) / 16);
                let block = Block {
                    left: [above, above + 1].map(|panel| left.tile(panel, from)),
                    right: [beside, beside + 1].map(|panel| right.tile(panel, from)),
                    inner,
                    sums: sums[r * row_stride + c..].as_mut_ptr(),
                    row_stride,
                    adds: from > 0,
                };
                // Tiles and sums are there, by the assertion and by what a `Tiled` is.
                multiply(block);
            }
        }
    }
}

/// Multiplies a thread's blocks; each must say the truth.
///
/// # Safety
/// The unit's instructions are there.
#[cfg(target_arch = "x86_64")]
unsafe fn multiplier(unit: Unit) -> impl Fn(Block) {
    // SAFETY: as above.
    let registers = (unit == Unit::Amx).then(|| unsafe { amx::Tiles::take() });
    move |block| match &registers {
        Some(registers) => registers.block(block),
        // SAFETY: as above.
        None => unsafe { avx512::block(block) },
    }
}

/// As above, by the one unit that there is.
#[cfg(target_arch = "aarch64")]
unsafe fn multiplier(_: Unit) -> impl Fn(Block) {
    // SAFETY: as above.
    |block| unsafe { neon::block(block) }
}
