//! Dropout's factors drawn on the GPU: the same bits as are drawn on the host, so that nothing of a mask is uploaded.

use burn::tensor::{Device, Tensor};
use cubecl::ir::{ElemType, UIntKind};
use cubecl::prelude::*;

use super::Mask;
use crate::kernels::gpu::{cubes, empty, on_gpu, tensor, vector_size};

/// SplitMix64's finaliser, as on the host.
#[cube]
fn mix(x: u64) -> u64 {
    let x = x + 0x9e37_79b9_7f4a_7c15u64;
    let x = (x ^ (x >> 30u64)) * 0xbf58_476d_1ce4_e5b9u64;
    let x = (x ^ (x >> 27u64)) * 0x94d0_49bb_1331_11ebu64;
    x ^ (x >> 31u64)
}

/// A mask as a kernel takes it.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(in crate::kernels) struct Drawn {
    key_low: u32,
    key_high: u32,
    dropped_below: u32,
    kept: f32,
    /// Whether there is one; else nothing of it is compiled in.
    #[cube(comptime)]
    pub is_any: bool,
}

impl DrawnLaunch {
    pub fn of(mask: Option<Mask>) -> Self {
        let (key, dropped_below, kept) = mask.map_or((0, 0, 1.0), Mask::parts);
        Self::new(key as u32, (key >> 32) as u32, u32::from(dropped_below), kept, mask.is_some())
    }
}

/// The bits of four elements, 16 each.
#[cube]
fn bits(drawn: &Drawn, word: usize) -> u64 {
    let key = (drawn.key_high as u64) << 32u64 | drawn.key_low as u64;
    mix(key + word as u64 * 0x9e37_79b9_7f4a_7c15u64)
}

/// The factors of a vector of elements from `at` on, which are in one word.
#[cube]
pub(in crate::kernels) fn factors_of<W: Size>(drawn: &Drawn, at: usize) -> Vector<f32, W> {
    let size = W::value().comptime();
    let word = bits(drawn, at / 4usize);
    let own = if comptime!(size < 4) { word >> (16u64 * (at % 4usize) as u64) } else { word };
    let low = own as u32;
    let high = (own >> 32u64) as u32;
    let mut factors = Vector::<f32, W>::empty();
    #[unroll]
    for lane in 0..size {
        let half = if comptime!(lane < 2) { low } else { high };
        let draw = if comptime!(lane % 2 == 0) { half & 0xffffu32 } else { half >> 16u32 };
        factors.insert(lane, select(draw < drawn.dropped_below, 0.0f32, drawn.kept));
    }
    factors
}

#[cube(launch)]
fn factors_kernel<W: Size>(out: &mut [Vector<f32, W>], vectors: u32, drawn: Drawn) {
    if ABSOLUTE_POS >= vectors as usize {
        terminate!();
    }
    out[ABSOLUTE_POS] = factors_of(&drawn, ABSOLUTE_POS * W::value());
}

/// Whether kernels of the device can draw: it has numbers of 64 bits, as browsers don't.
pub(in crate::kernels) fn can_draw(device: &Device) -> bool {
    let any = on_gpu(&Tensor::<1>::empty([1], device));
    any.client.properties().supports_type(ElemType::UInt(UIntKind::U64))
}

/// The factors of elements from 0 on, in any shape; `None` where kernels can't draw, and the host does.
pub(super) fn factors<const D: usize>(mask: Mask, shape: [usize; D], device: &Device) -> Option<Tensor<D>> {
    let out = empty(shape, &on_gpu(&Tensor::<1>::empty([1], device)));
    if !out.client.properties().supports_type(ElemType::UInt(UIntKind::U64)) {
        return None;
    }
    let elements: usize = shape.iter().product();
    let (size, client) = (vector_size(elements), out.client.clone());
    let vectors = elements / size;
    let (count, dim) = cubes(vectors);
    let to = out.clone().into_buffer_arg();
    factors_kernel::launch(&client, count, dim, size, to, vectors as u32, DrawnLaunch::of(Some(mask)));
    Some(tensor(out))
}
