//! NEON's `bfdot`: products of pairs added to 4 sums at a time. Rust's intrinsic for it is not stable, so the one
//! instruction is written as assembly.

use std::arch::aarch64::*;
use std::arch::asm;

use super::BLOCK;
use super::block::{Block, TILE, WIDE};

/// Rows whose sums are in registers at a time, with two registers each: with their factors 26 of 32.
const ROWS: usize = 8;
/// Numbers of a row of left factors that a register holds: four pairs.
const HELD: usize = 8;

/// Adds to each of four sums the product of its pair and the pair of a row with this number.
macro_rules! add_pairs {
    ($sums:expr, $columns:expr, $row:expr, $pair:literal) => {
        asm!(
            concat!("bfdot {sums:v}.4s, {columns:v}.8h, {row:v}.2h[", $pair, "]"),
            sums = inout(vreg) $sums,
            columns = in(vreg) $columns,
            row = in(vreg) $row,
            options(pure, nomem, nostack, preserves_flags),
        )
    };
}

/// The product of 32 rows and 32 columns; see [`Block`].
///
/// # Safety
/// The instruction is there.
#[target_feature(enable = "bf16")]
pub(super) unsafe fn block(block: Block) {
    for from in (0..BLOCK).step_by(ROWS) {
        for column in (0..BLOCK).step_by(8) {
            // SAFETY: a `Block` says that its tiles can be read and its sums written.
            unsafe { part(block, from, column) };
        }
    }
}

/// Eight rows and eight columns of it.
///
/// # Safety
/// As [`block`].
#[target_feature(enable = "bf16")]
unsafe fn part(block: Block, from: usize, column: usize) {
    let Block { left, right, inner, sums, row_stride, adds } = block;
    let (left, right) = (left[from / 16].wrapping_add(from % 16 * WIDE), right[column / 16].wrapping_add(column % 16 * 2));
    // SAFETY: as above.
    unsafe {
        let place = |r: usize, half: usize| sums.add((from + r) * row_stride + column + 4 * half);
        let mut totals = [[vdupq_n_f32(0.0); 2]; ROWS];
        if adds {
            for (r, totals) in totals.iter_mut().enumerate() {
                *totals = [vld1q_f32(place(r, 0)), vld1q_f32(place(r, 1))];
            }
        }
        for at in 0..inner {
            let (left, right) = (left.add(at * TILE), right.add(at * TILE));
            for held in 0..WIDE / HELD {
                let rows: [uint16x8_t; ROWS] = std::array::from_fn(|r| vld1q_u16(left.add(r * WIDE + held * HELD)));
                macro_rules! pair {
                    ($pair:literal) => {
                        let line = right.add((held * HELD / 2 + $pair) * WIDE);
                        let columns = [vld1q_u16(line), vld1q_u16(line.add(8))];
                        for (totals, row) in totals.iter_mut().zip(rows) {
                            add_pairs!(totals[0], columns[0], row, $pair);
                            add_pairs!(totals[1], columns[1], row, $pair);
                        }
                    };
                }
                pair!(0);
                pair!(1);
                pair!(2);
                pair!(3);
            }
        }
        for (r, totals) in totals.into_iter().enumerate() {
            vst1q_f32(place(r, 0), totals[0]);
            vst1q_f32(place(r, 1), totals[1]);
        }
    }
}
