//! Sums and maxima over the invocations of a cube, through workgroup memory: browsers need not have subgroups.

use cubecl::prelude::*;

/// The sum of every invocation's value, for each of `units` of them, a power of two. Each use has memory of its own.
#[cube]
pub(super) fn sum(value: f32, #[comptime] units: u32) -> f32 {
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

/// The largest of every invocation's value, likewise.
#[cube]
pub(super) fn largest(value: f32, #[comptime] units: u32) -> f32 {
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
