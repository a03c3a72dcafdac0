//! Rows shared out among invocations, and what these find together.
//!
//! A thread handles four elements: one read, one draw of dropout and one division of an index serve four. On CUDA one
//! warp handles a row: what a thread has of the row stays in its registers, and sums over a warp need neither shared
//! memory nor barriers. WebGPU promises no subgroups, so that a workgroup handles a row there. Without a CUDA device,
//! instruction counts of the emulated one decided (`tests/cuda/step.py`): these kernels were bound by instructions, not
//! by memory.

use cubecl::prelude::*;

use super::{WIDE, arranged};
use crate::device::Traits;

/// Elements of a row that an invocation holds at most, in vectors.
const MOST_VECTORS: usize = 16;
/// Threads of a warp on CUDA, where one warp handles a row.
const PLANE: u32 = 32;

/// A row's invocations, along x; a cube has as many rows along y as it has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::kernels) struct Lanes {
    /// A power of two.
    pub count: u32,
    /// Whether they are one warp, which needs no workgroup memory and no barrier. WebGPU promises no warps.
    pub is_plane: bool,
    /// Vectors of a row that each takes, the last may have none.
    pub each: u32,
}

impl Lanes {
    /// For rows of so many vectors: cubes for `rows` of them, a cube's shape, and the lanes.
    pub fn of(rows: usize, vectors: usize, client: &Client) -> (CubeCount, CubeDim, Self) {
        let is_plane = Traits::of_runtime(client.name()).has_warps && vectors <= MOST_VECTORS * PLANE as usize;
        let count = if is_plane { PLANE } else { (vectors.next_power_of_two() as u32).clamp(PLANE, WIDE) };
        let rows_of_a_cube = if is_plane { WIDE / PLANE } else { 1 };
        let cubes = rows.div_ceil(rows_of_a_cube as usize) as u32;
        let each = vectors.div_ceil(count as usize) as u32;
        (arranged(cubes), CubeDim::new_2d(count, rows_of_a_cube), Self { count, is_plane, each })
    }
}

/// The row of this invocation.
#[cube]
pub(in crate::kernels) fn row() -> usize {
    CUBE_POS * CUBE_DIM_Y as usize + UNIT_POS_Y as usize
}

/// Where this lane's vector number `k` is in its row.
#[cube]
pub(in crate::kernels) fn place(k: usize, #[comptime] lanes: Lanes) -> usize {
    UNIT_POS_X as usize + k * lanes.count as usize
}

/// The sum of a vector's elements.
#[cube]
pub(in crate::kernels) fn within<W: Size>(x: Vector<f32, W>) -> f32 {
    let mut total = x.extract(0usize);
    #[unroll]
    for lane in 1..W::value() {
        total += x.extract(lane);
    }
    total
}

/// The largest of a vector's elements.
#[cube]
pub(in crate::kernels) fn largest_within<W: Size>(x: Vector<f32, W>) -> f32 {
    let mut most = x.extract(0usize);
    #[unroll]
    for lane in 1..W::value() {
        most = max(most, x.extract(lane));
    }
    most
}

/// The sum of every lane's value. Each use has memory of its own.
#[cube]
pub(in crate::kernels) fn sum(value: f32, #[comptime] lanes: Lanes) -> f32 {
    if comptime!(lanes.is_plane) { plane_sum(value) } else { sum_of_cube(value, lanes.count) }
}

/// The largest of every lane's value, likewise.
#[cube]
pub(in crate::kernels) fn largest(value: f32, #[comptime] lanes: Lanes) -> f32 {
    if comptime!(lanes.is_plane) { plane_max(value) } else { largest_of_cube(value, lanes.count) }
}

/// The sum of the values of a cube's invocations, of which there are `units`, a power of two.
#[cube]
pub(in crate::kernels) fn sum_of_cube(value: f32, #[comptime] units: u32) -> f32 {
    let lane = UNIT_POS as usize;
    let mut parts = Shared::<[f32]>::new_slice(units as usize);
    parts[lane] = value;
    let levels = comptime!(units.ilog2());
    #[unroll]
    for level in 0..levels {
        sync_cube();
        let half = comptime!((units >> (level + 1)) as usize);
        if lane < half {
            parts[lane] += parts[lane + half];
        }
    }
    sync_cube();
    parts[0]
}

/// [`sum_of_cube`] of four values, between the same barriers.
#[cube]
pub(in crate::kernels) fn sums_of_cube(a: f32, b: f32, c: f32, d: f32, #[comptime] units: u32) -> (f32, f32, f32, f32) {
    let lane = UNIT_POS as usize;
    let all = comptime!(units as usize);
    let mut parts = Shared::<[f32]>::new_slice(4 * all);
    parts[lane] = a;
    parts[lane + all] = b;
    parts[lane + 2 * all] = c;
    parts[lane + 3 * all] = d;
    let levels = comptime!(units.ilog2());
    #[unroll]
    for level in 0..levels {
        sync_cube();
        let half = comptime!((units >> (level + 1)) as usize);
        if lane < half {
            #[unroll]
            for which in 0..4usize {
                let at = lane + which * all;
                parts[at] += parts[at + half];
            }
        }
    }
    sync_cube();
    (parts[0], parts[all], parts[2 * all], parts[3 * all])
}

/// The largest of the values of a cube's invocations.
#[cube]
pub(in crate::kernels) fn largest_of_cube(value: f32, #[comptime] units: u32) -> f32 {
    let lane = UNIT_POS as usize;
    let mut parts = Shared::<[f32]>::new_slice(units as usize);
    parts[lane] = value;
    let levels = comptime!(units.ilog2());
    #[unroll]
    for level in 0..levels {
        sync_cube();
        let half = comptime!((units >> (level + 1)) as usize);
        if lane < half {
            parts[lane] = max(parts[lane], parts[lane + half]);
        }
    }
    sync_cube();
    parts[0]
}
