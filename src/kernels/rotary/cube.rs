//! Rotary attention on a GPU: queries and keys are turned by the pass that parts the heads, and their gradients turned
//! back by the one that joins them again.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Tensor};
use burn_cubecl::kernel::cast;
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::Rotary;
use crate::device::Compute;
use crate::kernels::attention::Sight;
use crate::kernels::attention::cube::{Attended, Parted, Sizes, side_by_side};
use crate::kernels::dropout::Mask;
use crate::kernels::gpu::{GpuBackward, empty_of, ints_on_gpu, on_gpu, tensor, vector_size, with_gradient};
use crate::kernels::graph::Parent;
use crate::kernels::spent::{self, Part};

/// Moves a vector of the first half of a head and its partner of the second, turned by an angle.
#[cube]
fn turn<I: Float, O: Float, W: Size>(
    from: &[Vector<I, W>],
    at: usize,
    to: &mut [Vector<O, W>],
    place: usize,
    half: usize,
    cosine: Vector<f32, W>,
    sine: Vector<f32, W>,
) {
    let x = Vector::<f32, W>::cast_from(from[at]);
    let y = Vector::<f32, W>::cast_from(from[at + half]);
    to[place] = Vector::cast_from(x * cosine - y * sine);
    to[place + half] = Vector::cast_from(y * cosine + x * sine);
}

/// `[n, 3 d]` to query, key and value, `[b, heads, s, width]` each, of which the first two are turned. An invocation
/// has a vector of the first half of a head and its partner of the second, of each of the three. `angles_pw` has each
/// position's cosines, then its sines.
#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "buffers are bound one by one")]
fn split_turned_kernel<F: Float, W: Size>(
    joined: &[Vector<F, W>],
    angles_pw: &[Vector<f32, W>],
    positions_n: &[i32],
    query: &mut [Vector<F, W>],
    key: &mut [Vector<F, W>],
    value: &mut [Vector<F, W>],
    of: Parted,
    #[define(F)] _dtype: ElemType,
) {
    let i = ABSOLUTE_POS;
    if i >= of.vectors as usize {
        terminate!();
    }
    let (width, d) = (of.width as usize, (of.heads * of.width) as usize);
    let half = width / 2;
    let to = i / half * width + i % half;
    let at = side_by_side(to, &of, 3usize);
    let angle = positions_n[at / (3 * d)] as usize * width + i % half;
    let cosine = angles_pw[angle];
    let sine = angles_pw[angle + half];
    turn(joined, at, query, to, half, cosine, sine);
    turn(joined, at + d, key, to, half, cosine, sine);
    value[to] = joined[at + 2 * d];
    value[to + half] = joined[at + 2 * d + half];
}

/// Gradients of the three back to `[n, 3 d]`, the first two turned by the opposite angles.
#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "buffers are bound one by one")]
fn join_turned_kernel<F: Float, W: Size>(
    query: &[Vector<F, W>],
    key: &[Vector<F, W>],
    value: &[Vector<F, W>],
    angles_pw: &[Vector<f32, W>],
    positions_n: &[i32],
    joined: &mut [Vector<F, W>],
    of: Parted,
    #[define(F)] _dtype: ElemType,
) {
    let i = ABSOLUTE_POS;
    if i >= of.vectors as usize {
        terminate!();
    }
    let (width, d) = (of.width as usize, (of.heads * of.width) as usize);
    let half = width / 2;
    let from = i / half * width + i % half;
    let at = side_by_side(from, &of, 3usize);
    let angle = positions_n[at / (3 * d)] as usize * width + i % half;
    let cosine = angles_pw[angle];
    let sine = Vector::<f32, W>::new(0.0f32) - angles_pw[angle + half];
    turn(query, from, joined, at, half, cosine, sine);
    turn(key, from, joined, at + d, half, cosine, sine);
    joined[at + 2 * d] = value[from];
    joined[at + 2 * d + half] = value[from + half];
}

/// Heads side by side, `[b * s, heads w]`, to `[b, heads, s, w]`, turned, or from there back by the opposite angles; an
/// invocation has a vector of the first half of a head and its partner of the second.
#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "buffers are bound one by one")]
fn turned_heads_kernel<I: Float, O: Float, W: Size>(
    from: &[Vector<I, W>],
    angles_pw: &[Vector<f32, W>],
    positions_n: &[i32],
    to: &mut [Vector<O, W>],
    of: Parted,
    #[comptime] is_back: bool,
    #[define(I)] _came_in: ElemType,
    #[define(O)] _numbers: ElemType,
) {
    let i = ABSOLUTE_POS;
    if i >= of.vectors as usize {
        terminate!();
    }
    let (width, d) = (of.width as usize, (of.heads * of.width) as usize);
    let half = width / 2;
    let apart = i / half * width + i % half;
    let beside = side_by_side(apart, &of, 1usize);
    let angle = positions_n[beside / d] as usize * width + i % half;
    let cosine = angles_pw[angle];
    let sine = angles_pw[angle + half];
    if is_back {
        turn(from, apart, to, beside, half, cosine, Vector::<f32, W>::new(0.0f32) - sine);
    } else {
        turn(from, beside, to, apart, half, cosine, sine);
    }
}

/// See [`rotary_attention`](super::rotary_attention).
pub(super) fn rotary_attention(
    qkv_ne: Tensor<2>,
    heads: usize,
    sight: &Sight,
    rotary: &Rotary,
    mask: Option<Mask>,
    compute: &Compute,
) -> Tensor<2> {
    let of = on_gpu(&qkv_ne);
    let forward = || {
        let [n, e] = [of.meta.shape()[0], of.meta.shape()[1]];
        let sizes = Sizes::of(n, e / 3, heads, sight);
        let turn = Turn::of(rotary, &of);
        let parts = turn.split(&cast(of.clone(), compute.dtype()), sizes);
        let (out, attended) = Attended::of(parts, sizes, sight, mask, compute.kernels);
        (out, Saved { attended, turn, sizes, came_in: of.dtype })
    };
    let (out, saved) = spent::on_gpu(Part::Attention, &of, forward);
    with_gradient(out, [Parent::of(qkv_ne)], saved)
}

/// By how much positions are turned.
#[derive(Debug)]
pub(in crate::kernels) struct Turn {
    angles_pw: CubeTensor,
    positions_n: CubeTensor,
}

impl Turn {
    /// On the device of `like`.
    pub fn of(rotary: &Rotary, like: &CubeTensor) -> Self {
        let angles_pw = on_gpu(&rotary.on(&tensor::<2>(like.clone()).device()));
        Self { angles_pw, positions_n: ints_on_gpu(&rotary.positions.at_n()) }
    }

    fn split(&self, joined: &CubeTensor, sizes: Sizes) -> [CubeTensor; 3] {
        let Sizes { b, s, heads, width } = sizes;
        let out: [CubeTensor; 3] = std::array::from_fn(|_| empty_of([b, heads, s, width], joined.dtype, joined));
        let size = vector_size(width / 2);
        let (count, dim, of) = sizes.cut(size, 2);
        let [from, angles, positions] =
            [joined, &self.angles_pw, &self.positions_n].map(|tensor| tensor.clone().into_buffer_arg());
        let [query, key, value] = out.clone().map(CubeTensor::into_buffer_arg);
        let dtype = dtype_to_storage_type(joined.dtype);
        split_turned_kernel::launch(&joined.client, count, dim, size, from, angles, positions, query, key, value, of, dtype);
        out
    }

    fn join(&self, parts: [CubeTensor; 3], sizes: Sizes) -> CubeTensor {
        let Sizes { b, s, heads, width } = sizes;
        let joined = empty_of([b * s, 3 * heads * width], parts[0].dtype, &parts[0]);
        let size = vector_size(width / 2);
        let (count, dim, of) = sizes.cut(size, 2);
        let [query, key, value] = parts.map(CubeTensor::into_buffer_arg);
        let [angles, positions, to] =
            [&self.angles_pw, &self.positions_n, &joined].map(|tensor| tensor.clone().into_buffer_arg());
        let dtype = dtype_to_storage_type(joined.dtype);
        join_turned_kernel::launch(&joined.client, count, dim, size, query, key, value, angles, positions, to, of, dtype);
        joined
    }

    /// Heads side by side, turned: `[b * s, heads w]` to `[b, heads, s, w]`, in `numbers`.
    pub fn apart(&self, x: CubeTensor, sizes: Sizes, numbers: DType) -> CubeTensor {
        let Sizes { b, s, heads, width } = sizes;
        self.moved(x, empty_of([b, heads, s, width], numbers, &self.angles_pw), sizes, false)
    }

    /// From there back, by the opposite angles.
    pub fn together(&self, x: CubeTensor, sizes: Sizes, numbers: DType) -> CubeTensor {
        let Sizes { b, s, heads, width } = sizes;
        self.moved(x, empty_of([b * s, heads * width], numbers, &self.angles_pw), sizes, true)
    }

    fn moved(&self, x: CubeTensor, out: CubeTensor, sizes: Sizes, is_back: bool) -> CubeTensor {
        let size = vector_size(sizes.width / 2);
        let (count, dim, of) = sizes.cut(size, 2);
        let (from, to) = (dtype_to_storage_type(x.dtype), dtype_to_storage_type(out.dtype));
        let [x, angles, positions, moved] =
            [&x, &self.angles_pw, &self.positions_n, &out].map(|tensor| tensor.clone().into_buffer_arg());
        turned_heads_kernel::launch(&out.client, count, dim, size, x, angles, positions, moved, of, is_back, from, to);
        out
    }
}

/// What the backward pass needs.
#[derive(Debug)]
struct Saved {
    attended: Attended,
    turn: Turn,
    sizes: Sizes,
    came_in: DType,
}

impl GpuBackward<1> for Saved {
    fn part(&self) -> Part {
        Part::Attention
    }

    fn backward(&self, above: CubeTensor, _: [bool; 1]) -> [Option<CubeTensor>; 1] {
        [Some(cast(self.turn.join(self.attended.backward(above), self.sizes), self.came_in))]
    }
}
