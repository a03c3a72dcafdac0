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
use crate::kernels::attention::cube::{Attended, Sizes, side_by_side};
use crate::kernels::dropout::Mask;
use crate::kernels::gpu::{GpuBackward, cubes, empty_of, ints_on_gpu, on_gpu, tensor, vector_size, with_gradient};
use crate::kernels::graph::Parent;
use crate::kernels::spent::{self, Part};

/// `[n, 3 d]` to query, key and value, `[b, heads, s, width]` each, of which the first two are turned. An invocation
/// has a vector of the first half of a head and its partner of the second, of each of the three; `vectors` is how many
/// there are, `half` those of half a head. `angles_pw` has each position's cosines, then its sines.
#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "a kernel has buffers and numbers, no structs of them")]
fn split_turned_kernel<F: Float, W: Size>(
    joined: &[Vector<F, W>],
    angles_pw: &[Vector<f32, W>],
    positions_n: &[i32],
    query: &mut [Vector<F, W>],
    key: &mut [Vector<F, W>],
    value: &mut [Vector<F, W>],
    vectors: u32,
    s: u32,
    heads: u32,
    half: u32,
    #[define(F)] _dtype: ElemType,
) {
    let i = ABSOLUTE_POS;
    if i >= vectors as usize {
        terminate!();
    }
    let half = half as usize;
    let width = 2 * half;
    let d = heads as usize * width;
    let to = i / half * width + i % half;
    let at = side_by_side(to, s as usize, heads as usize, width, 3 * d);
    let angle = positions_n[at / (3 * d)] as usize * width + i % half;
    let cosine = angles_pw[angle];
    let sine = angles_pw[angle + half];
    let x = Vector::<f32, W>::cast_from(joined[at]);
    let y = Vector::<f32, W>::cast_from(joined[at + half]);
    query[to] = Vector::cast_from(x * cosine - y * sine);
    query[to + half] = Vector::cast_from(y * cosine + x * sine);
    let x = Vector::<f32, W>::cast_from(joined[at + d]);
    let y = Vector::<f32, W>::cast_from(joined[at + d + half]);
    key[to] = Vector::cast_from(x * cosine - y * sine);
    key[to + half] = Vector::cast_from(y * cosine + x * sine);
    value[to] = joined[at + 2 * d];
    value[to + half] = joined[at + 2 * d + half];
}

/// Gradients of the three back to `[n, 3 d]`, the first two turned by the opposite angles.
#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "a kernel has buffers and numbers, no structs of them")]
fn join_turned_kernel<F: Float, W: Size>(
    query: &[Vector<F, W>],
    key: &[Vector<F, W>],
    value: &[Vector<F, W>],
    angles_pw: &[Vector<f32, W>],
    positions_n: &[i32],
    joined: &mut [Vector<F, W>],
    vectors: u32,
    s: u32,
    heads: u32,
    half: u32,
    #[define(F)] _dtype: ElemType,
) {
    let i = ABSOLUTE_POS;
    if i >= vectors as usize {
        terminate!();
    }
    let half = half as usize;
    let width = 2 * half;
    let d = heads as usize * width;
    let from = i / half * width + i % half;
    let at = side_by_side(from, s as usize, heads as usize, width, 3 * d);
    let angle = positions_n[at / (3 * d)] as usize * width + i % half;
    let cosine = angles_pw[angle];
    let sine = angles_pw[angle + half];
    let x = Vector::<f32, W>::cast_from(query[from]);
    let y = Vector::<f32, W>::cast_from(query[from + half]);
    joined[at] = Vector::cast_from(x * cosine + y * sine);
    joined[at + half] = Vector::cast_from(y * cosine - x * sine);
    let x = Vector::<f32, W>::cast_from(key[from]);
    let y = Vector::<f32, W>::cast_from(key[from + half]);
    joined[at + d] = Vector::cast_from(x * cosine + y * sine);
    joined[at + d + half] = Vector::cast_from(y * cosine - x * sine);
    joined[at + 2 * d] = value[from];
    joined[at + 2 * d + half] = value[from + half];
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
        let angles_pw = on_gpu(&rotary.on(&tensor::<2>(of.clone()).device()));
        let turn = Turn { angles_pw, positions_n: ints_on_gpu(&rotary.positions.at_n()), sizes };
        let parts = turn.split(&cast(of.clone(), compute.dtype()));
        let (out, attended) = Attended::of(parts, sizes, sight, mask, compute.kernels);
        (out, Saved { attended, turn, came_in: of.dtype })
    };
    let (out, saved) = spent::on_gpu(Part::Attention, &of, forward);
    with_gradient(out, [Parent::of(qkv_ne)], saved)
}

/// What turns queries and keys, and by how much.
#[derive(Debug)]
struct Turn {
    angles_pw: CubeTensor,
    positions_n: CubeTensor,
    sizes: Sizes,
}

impl Turn {
    /// Elements of a vector, vectors of the first halves of all heads, and for a kernel positions, heads, and vectors
    /// of half a head.
    fn in_vectors(&self) -> (usize, usize, [u32; 3]) {
        let Sizes { b, s, heads, width } = self.sizes;
        let half = width / 2;
        let size = vector_size(half);
        (size, b * s * heads * half / size, [s, heads, half / size].map(|size| size as u32))
    }

    fn split(&self, joined: &CubeTensor) -> [CubeTensor; 3] {
        let Sizes { b, s, heads, width } = self.sizes;
        let out: [CubeTensor; 3] = std::array::from_fn(|_| empty_of([b, heads, s, width], joined.dtype, joined));
        let (size, vectors, [s, heads, half]) = self.in_vectors();
        let (count, dim) = cubes(vectors);
        let [from, angles, positions] =
            [joined, &self.angles_pw, &self.positions_n].map(|tensor| tensor.clone().into_buffer_arg());
        let [query, key, value] = out.clone().map(CubeTensor::into_buffer_arg);
        let (vectors, dtype) = (vectors as u32, dtype_to_storage_type(joined.dtype));
        split_turned_kernel::launch(
            &joined.client,
            count,
            dim,
            size,
            from,
            angles,
            positions,
            query,
            key,
            value,
            vectors,
            s,
            heads,
            half,
            dtype,
        );
        out
    }

    fn join(&self, parts: [CubeTensor; 3]) -> CubeTensor {
        let Sizes { b, s, heads, width } = self.sizes;
        let joined = empty_of([b * s, 3 * heads * width], parts[0].dtype, &parts[0]);
        let (size, vectors, [s, heads, half]) = self.in_vectors();
        let (count, dim) = cubes(vectors);
        let [query, key, value] = parts.map(CubeTensor::into_buffer_arg);
        let [angles, positions, to] =
            [&self.angles_pw, &self.positions_n, &joined].map(|tensor| tensor.clone().into_buffer_arg());
        let (vectors, dtype) = (vectors as u32, dtype_to_storage_type(joined.dtype));
        join_turned_kernel::launch(
            &joined.client,
            count,
            dim,
            size,
            query,
            key,
            value,
            angles,
            positions,
            to,
            vectors,
            s,
            heads,
            half,
            dtype,
        );
        joined
    }
}

/// What the backward pass needs.
#[derive(Debug)]
struct Saved {
    attended: Attended,
    turn: Turn,
    came_in: DType,
}

impl GpuBackward<1> for Saved {
    fn part(&self) -> Part {
        Part::Attention
    }

    fn backward(&self, above: CubeTensor, _: [bool; 1]) -> [Option<CubeTensor>; 1] {
        [Some(cast(self.turn.join(self.attended.backward(above)), self.came_in))]
    }
}
