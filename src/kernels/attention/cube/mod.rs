//! Self-attention on a GPU, from what goes into query, key and value to the heads' results side by side: one product
//! for all three, one pass that adds their biases and parts the heads, and back.

mod products;
mod shares;
mod tiles;

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Tensor};
use burn_cubecl::tensor::CubeTensor;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

use super::Sight;
use crate::device::{Compute, Kernels};
use crate::kernels::dense::{Dense, Factors};
use crate::kernels::dropout::Mask;
use crate::kernels::gpu::columns::columns;
use crate::kernels::gpu::{GpuBackward, cubes, empty_of, on_gpu, tensor, vector_size, with_gradient};
use crate::kernels::graph::Parent;
use crate::kernels::spent::{self, Part};
use products::Products;
use shares::Shares;

/// Three matrices `[d, f]` next to each other, cast to another dtype: `[d, 3 f]`, of so many `vectors`; `f` counts
/// vectors.
#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "buffers are bound one by one")]
fn join_kernel<I: Float, O: Float, W: Size>(
    a_df: &[Vector<I, W>],
    b_df: &[Vector<I, W>],
    c_df: &[Vector<I, W>],
    out: &mut [Vector<O, W>],
    vectors: u32,
    f: u32,
    #[define(I)] _from: ElemType,
    #[define(O)] _to: ElemType,
) {
    if ABSOLUTE_POS >= vectors as usize {
        terminate!();
    }
    let f = f as usize;
    let column = ABSOLUTE_POS % (3 * f);
    let at = ABSOLUTE_POS / (3 * f) * f + column % f;
    let x = if column < f {
        a_df[at]
    } else if column < 2 * f {
        b_df[at]
    } else {
        c_df[at]
    };
    out[ABSOLUTE_POS] = Vector::cast_from(x);
}

/// Divides the joined rows into queries, keys and values again: each thread moves a vector of each of the three.
#[cube(launch)]
fn part_kernel<F: Float, W: Size>(
    joined: &[Vector<F, W>],
    a_df: &mut [Vector<F, W>],
    b_df: &mut [Vector<F, W>],
    c_df: &mut [Vector<F, W>],
    vectors: u32,
    f: u32,
    #[define(F)] _dtype: ElemType,
) {
    let i = ABSOLUTE_POS;
    if i >= vectors as usize {
        terminate!();
    }
    let f = f as usize;
    let at = i / f * 3 * f + i % f;
    a_df[i] = joined[at];
    b_df[i] = joined[at + f];
    c_df[i] = joined[at + 2 * f];
}

/// Sizes of `[b, heads, s, width]` as a kernel takes them.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(in crate::kernels) struct Parted {
    /// Invocations that have work.
    pub vectors: u32,
    pub s: u32,
    pub heads: u32,
    /// In vectors.
    pub width: u32,
}

/// Where element `i` of `[b, heads, s, width]` is in `[b * s, parts d]`, whose first columns are the heads side by
/// side.
#[cube]
pub(in crate::kernels) fn side_by_side(i: usize, of: &Parted, #[comptime] parts: usize) -> usize {
    let (width, s, heads) = (of.width as usize, of.s as usize, of.heads as usize);
    let position = i / width % s;
    let head = i / (width * s) % heads;
    let row = i / (width * s * heads);
    (row * s + position) * parts * heads * width + head * width + i % width
}

/// `[n, 3 d]` and three biases to query, key and value, `[b, heads, s, width]` each.
#[cube(launch)]
#[expect(clippy::too_many_arguments, reason = "buffers are bound one by one")]
fn split_heads_kernel<F: Float, W: Size>(
    joined: &[Vector<F, W>],
    bias_of_query: &[Vector<f32, W>],
    bias_of_key: &[Vector<f32, W>],
    bias_of_value: &[Vector<f32, W>],
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
    let d = (of.heads * of.width) as usize;
    let at = side_by_side(i, &of, 3usize);
    let column = at % (3 * d);
    query[i] = Vector::cast_from(Vector::<f32, W>::cast_from(joined[at]) + bias_of_query[column]);
    key[i] = Vector::cast_from(Vector::<f32, W>::cast_from(joined[at + d]) + bias_of_key[column]);
    value[i] = Vector::cast_from(Vector::<f32, W>::cast_from(joined[at + 2 * d]) + bias_of_value[column]);
}

/// Back to `[n, 3 d]`.
#[cube(launch)]
fn join_heads_kernel<F: Float, W: Size>(
    query: &[Vector<F, W>],
    key: &[Vector<F, W>],
    value: &[Vector<F, W>],
    joined: &mut [Vector<F, W>],
    of: Parted,
    #[define(F)] _dtype: ElemType,
) {
    let i = ABSOLUTE_POS;
    if i >= of.vectors as usize {
        terminate!();
    }
    let d = (of.heads * of.width) as usize;
    let at = side_by_side(i, &of, 3usize);
    joined[at] = query[i];
    joined[at + d] = key[i];
    joined[at + 2 * d] = value[i];
}

/// See [`self_attention`](super::self_attention).
pub(super) fn self_attention(
    x_nd: Tensor<2>,
    layers: &[Dense; 3],
    heads: usize,
    sight: &Sight,
    mask: Option<Mask>,
    compute: &Compute,
) -> Tensor<2> {
    let of = on_gpu(&x_nd);
    let (out, saved) = spent::on_gpu(Part::Attention, &of, || forward(&of, layers, heads, sight, mask, compute));
    let [query, key, value] = layers.clone();
    let [w_query, w_key, w_value] = [query.weight_df, key.weight_df, value.weight_df].map(Parent::of);
    let [b_query, b_key, b_value] = [query.bias_f, key.bias_f, value.bias_f].map(Parent::of);
    with_gradient(out, [Parent::of(x_nd), w_query, w_key, w_value, b_query, b_key, b_value], saved)
}

fn forward(
    x_nd: &CubeTensor,
    layers: &[Dense; 3],
    heads: usize,
    sight: &Sight,
    mask: Option<Mask>,
    compute: &Compute,
) -> (CubeTensor, Saved) {
    let sizes = Sizes::of(x_nd.meta.shape()[0], layers[0].bias_f.dims()[0], heads, sight);
    let joined_weight = join(layers.each_ref().map(|layer| on_gpu(&layer.weight_df)), compute.dtype());
    let factors = Factors::new(x_nd.clone(), joined_weight, compute).with_gradient_in(layers[0].weight_df.dtype());
    let parts = sizes.split(&factors.product(), layers.each_ref().map(|layer| on_gpu(&layer.bias_f)));
    let (out, attended) = Attended::of(parts, sizes, sight, mask, compute.kernels);
    (out, Saved { factors, attended })
}

/// What attention between queries, keys and values, `[b, heads, s, width]` each, needs for its backward pass. Keys and
/// values may have fewer heads: as many of queries, next to each other, share one.
#[derive(Debug)]
pub(in crate::kernels) struct Attended {
    query: CubeTensor,
    key: CubeTensor,
    value: CubeTensor,
    shares: Shares,
    products: Products,
    sizes: Sizes,
}

impl Attended {
    /// It, and the heads' results side by side, `[b * s, d]`.
    pub fn of(
        [query, key, value]: [CubeTensor; 3],
        sizes: Sizes,
        sight: &Sight,
        mask: Option<Mask>,
        kernels: Kernels,
    ) -> (CubeTensor, Self) {
        let products = Products::of(&query, &key, sizes, sight, kernels);
        let scores = products.of_pairs(&query, &key);
        let shares = Shares::of(scores, &products, 1.0 / (sizes.width as f32).sqrt(), mask);
        let context = products.over_keys(&shares.dropped_bhss, &value);
        (sizes.heads_together(context), Self { query, key, value, shares, products, sizes })
    }

    /// The gradients of queries, keys and values, from that of the heads' results.
    pub fn backward(&self, above_nd: CubeTensor) -> [CubeTensor; 3] {
        let above = self.sizes.heads_apart(above_nd);
        let of_value = self.products.over_queries(&self.shares.dropped_bhss, &above);
        let of_scores = self.shares.backward(self.products.of_pairs(&above, &self.value), &self.products);
        [self.products.over_keys(&of_scores, &self.key), self.products.over_queries(&of_scores, &self.query), of_value]
    }
}

/// Rows, positions of a row, heads, and the width of one.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernels) struct Sizes {
    pub b: usize,
    pub s: usize,
    pub heads: usize,
    pub width: usize,
}

impl Sizes {
    /// Of `n` positions in all, `d` wide.
    pub fn of(n: usize, d: usize, heads: usize, sight: &Sight) -> Self {
        Self { b: n / sight.length.max(1), s: sight.length, heads, width: d / heads }
    }

    /// For vectors of `size` elements, `each` of them to an invocation: cubes, invocations of one, and the sizes for a
    /// kernel.
    pub fn cut(self, size: usize, each: usize) -> (CubeCount, CubeDim, PartedLaunch) {
        let Self { b, s, heads, width } = self;
        let vectors = b * s * heads * width / size / each;
        let (count, dim) = cubes(vectors);
        let [vectors, s, heads, width] = [vectors, s, heads, width / size].map(|size| size as u32);
        (count, dim, PartedLaunch::new(vectors, s, heads, width))
    }

    fn split(self, joined: &CubeTensor, biases: [CubeTensor; 3]) -> [CubeTensor; 3] {
        let Self { b, s, heads, width } = self;
        let out: [CubeTensor; 3] = std::array::from_fn(|_| empty_of([b, heads, s, width], joined.dtype, joined));
        let size = vector_size(width);
        let (count, dim, of) = self.cut(size, 1);
        let [of_query, of_key, of_value] = biases.map(CubeTensor::into_buffer_arg);
        let [query, key, value] = out.clone().map(CubeTensor::into_buffer_arg);
        split_heads_kernel::launch(
            &joined.client,
            count,
            dim,
            size,
            joined.clone().into_buffer_arg(),
            of_query,
            of_key,
            of_value,
            query,
            key,
            value,
            of,
            dtype_to_storage_type(joined.dtype),
        );
        out
    }

    fn join(self, parts: [CubeTensor; 3]) -> CubeTensor {
        let Self { b, s, heads, width } = self;
        let (dtype, joined) = (parts[0].dtype, empty_of([b * s, 3 * heads * width], parts[0].dtype, &parts[0]));
        let size = vector_size(width);
        let (count, dim, of) = self.cut(size, 1);
        let [query, key, value] = parts.map(|part| part.into_buffer_arg());
        join_heads_kernel::launch(
            &joined.client,
            count,
            dim,
            size,
            query,
            key,
            value,
            joined.clone().into_buffer_arg(),
            of,
            dtype_to_storage_type(dtype),
        );
        joined
    }

    /// `[b, heads, s, width]` to `[n, d]`.
    pub fn heads_together(self, x: CubeTensor) -> CubeTensor {
        let Self { b, s, heads, width } = self;
        on_gpu(&tensor::<4>(x).swap_dims(1, 2).reshape([b * s, heads * width]))
    }

    /// From `[b * s, d]` to `[b, heads, s, width]`: each head's part of a row on an axis of its own.
    pub fn heads_apart(self, x: CubeTensor) -> CubeTensor {
        let Self { b, s, heads, width } = self;
        on_gpu(&tensor::<2>(x).reshape([b, s, heads, width]).swap_dims(1, 2))
    }
}

fn join(parts: [CubeTensor; 3], numbers: DType) -> CubeTensor {
    let [d, f] = [parts[0].meta.shape()[0], parts[0].meta.shape()[1]];
    let out = empty_of([d, 3 * f], numbers, &parts[0]);
    let size = vector_size(f);
    let vectors = 3 * d * f / size;
    let (count, dim) = cubes(vectors);
    let (from, to) = (dtype_to_storage_type(parts[0].dtype), dtype_to_storage_type(numbers));
    let [a, b, c] = parts.map(CubeTensor::into_buffer_arg);
    let joined = out.clone().into_buffer_arg();
    join_kernel::launch(&out.client, count, dim, size, a, b, c, joined, vectors as u32, (f / size) as u32, from, to);
    out
}

fn part(joined: &CubeTensor) -> [CubeTensor; 3] {
    let [d, f] = [joined.meta.shape()[0], joined.meta.shape()[1] / 3];
    let out: [CubeTensor; 3] = std::array::from_fn(|_| empty_of([d, f], joined.dtype, joined));
    let size = vector_size(f);
    let vectors = d * f / size;
    let (count, dim) = cubes(vectors);
    let [a, b, c] = out.clone().map(CubeTensor::into_buffer_arg);
    let from = joined.clone().into_buffer_arg();
    let dtype = dtype_to_storage_type(joined.dtype);
    part_kernel::launch(&joined.client, count, dim, size, from, a, b, c, vectors as u32, (f / size) as u32, dtype);
    out
}

/// What the backward pass needs.
#[derive(Debug)]
struct Saved {
    factors: Factors,
    attended: Attended,
}

impl GpuBackward<7> for Saved {
    fn part(&self) -> Part {
        Part::Attention
    }

    fn backward(
        &self,
        above: CubeTensor,
        [wants_x, w_query, w_key, w_value, b_query, b_key, b_value]: [bool; 7],
    ) -> [Option<CubeTensor>; 7] {
        let joined = self.attended.sizes.join(self.attended.backward(above));
        let [of_x, of_weights] = self.factors.gradients(&joined, [wants_x, w_query || w_key || w_value]);
        let [w_query, w_key, w_value] = of_weights.map_or([None, None, None], |of_weights| part(&of_weights).map(Some));
        let [b_query, b_key, b_value] = match b_query || b_key || b_value {
            true => columns(&joined).map(Some),
            false => [None, None, None],
        };
        [of_x, w_query, w_key, w_value, b_query, b_key, b_value]
    }
}
