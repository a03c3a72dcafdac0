//! Dropout's factors drawn on the GPU: the same bits as `dropout.rs` draws on the host, so that nothing of a mask is uploaded.

use burn::tensor::{Device, Tensor};
use cubecl::ir::{ElemType, UIntKind};
use cubecl::prelude::*;

use super::super::dropout::Mask;

/// SplitMix64's finaliser, as on the host.
#[cube]
pub(super) fn mix(x: u64) -> u64 {
    let x = x + 0x9e37_79b9_7f4a_7c15u64;
    let x = (x ^ (x >> 30u64)) * 0xbf58_476d_1ce4_e5b9u64;
    let x = (x ^ (x >> 27u64)) * 0x94d0_49bb_1331_11ebu64;
    x ^ (x >> 31u64)
}

/// The bits of four elements, 16 each.
#[cube]
pub(super) fn bits(key_low: u32, key_high: u32, word: usize) -> u64 {
    let key = (key_high as u64) << 32u64 | key_low as u64;
    mix(key + word as u64 * 0x9e37_79b9_7f4a_7c15u64)
}

/// The factor of one element.
#[cube]
pub(super) fn factor(key_low: u32, key_high: u32, at: usize, dropped_below: u32, kept: f32) -> f32 {
    let drawn = bits(key_low, key_high, at / 4usize);
    let draw = (drawn >> (16u64 * (at % 4usize) as u64)) as u32 & 0xffffu32;
    select(draw < dropped_below, 0.0f32, kept)
}

/// A unit draws the four elements of a word.
#[cube(launch)]
fn factors_kernel(out: &mut [f32], key_low: u32, key_high: u32, dropped_below: u32, kept: f32) {
    let first = ABSOLUTE_POS * 4usize;
    if first >= out.len() {
        terminate!();
    }
    let drawn = bits(key_low, key_high, ABSOLUTE_POS);
    let low = drawn as u32;
    let high = (drawn >> 32u64) as u32;
    #[unroll]
    for lane in 0..4u32 {
        let at = first + lane as usize;
        if at < out.len() {
            let half = if comptime!(lane < 2) { low } else { high };
            let draw = if comptime!(lane % 2 == 0) { half & 0xffffu32 } else { half >> 16u32 };
            out[at] = select(draw < dropped_below, 0.0f32, kept);
        }
    }
}

/// Whether kernels of the device can draw: it has numbers of 64 bits, as browsers don't.
pub(in super::super) fn can_draw(device: &Device) -> bool {
    let any = super::on_gpu(&Tensor::<1>::empty([1], device));
    any.client.properties().supports_type(ElemType::UInt(UIntKind::U64))
}

/// The factors of elements from 0 on, in any shape; `None` where kernels can't draw, and the host does.
pub(in super::super) fn factors<const D: usize>(mask: Mask, shape: [usize; D], device: &Device) -> Option<Tensor<D>> {
    let out = super::empty(shape, &super::on_gpu(&Tensor::<1>::empty([1], device)));
    if !out.client.properties().supports_type(ElemType::UInt(UIntKind::U64)) {
        return None;
    }
    let (count, dim) = super::cubes(shape.iter().product::<usize>().div_ceil(4));
    let client = out.client.clone();
    let (key, dropped_below, kept) = mask.parts();
    let (low, high) = (key as u32, (key >> 32) as u32);
    factors_kernel::launch(&client, count, dim, out.clone().into_buffer_arg(), low, high, u32::from(dropped_below), kept);
    Some(super::tensor(out))
}
