//! Products of matrices on GPUs. Small ones where WGSL is taken are `shaders/matmul.wgsl`, one short kernel for all
//! shapes, where burn compiles a long one for each.
//!
//! burn's kernel is specialised to each shape and unrolled. That is faster on large products, and takes a browser or a
//! software GPU one to two seconds to compile for each shape. Products of more than some 10^8 multiplications are left
//! to burn.

use burn::tensor::{DType, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul as burns};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

use crate::device::Kernels;
use crate::kernels::gpu::{GpuBackward, MOST_CUBES, Wgsl, with_gradient};
use crate::kernels::graph::{Parent, inner};
use crate::kernels::spent::Part;

const MATMUL: Wgsl = Wgsl { source: super::WGSL, workgroup: 64 };
/// Rows and columns that a workgroup makes.
const TILE: usize = 32;
/// Multiplications above which burn's kernels are worth what compiling them takes: here a GPU of 1 TFLOP/s is busy for
/// a quarter of a millisecond.
const SMALL: usize = 1 << 27;

/// `a b` over the last two dimensions, in `numbers`; those before them are equal. One short kernel where it is a small
/// product of f32 on a GPU that takes WGSL and the kernels are the fused ones, else burn's. Contiguous.
pub(in crate::kernels) fn product(a: &CubeTensor, b: &CubeTensor, numbers: DType, kernels: Kernels) -> CubeTensor {
    let is_f32 = [a.dtype, b.dtype, numbers] == [DType::F32; 3];
    if kernels == Kernels::Fused && is_f32 && is_small(a, b) && Wgsl::runs_on(&a.client) {
        return small(a, b);
    }
    let (a, b, out) = (a.clone(), b.clone(), empty_product(a, b, numbers));
    burns(a, b, Some(out), MatmulStrategy::default(), numbers).expect("factors that fit each other")
}

fn empty_product(a: &CubeTensor, b: &CubeTensor, numbers: DType) -> CubeTensor {
    let (mut shape, rank) = (a.meta.shape().clone(), a.meta.num_dims());
    shape[rank - 1] = b.meta.shape()[rank - 1];
    empty_device_contiguous_dtype(a.client.clone(), a.device.clone(), shape, numbers)
}

/// The transposed matrix; nothing is copied.
pub(in crate::kernels) fn transposed(x: &CubeTensor) -> CubeTensor {
    let (mut x, rank) = (x.clone(), x.meta.num_dims());
    x.meta.swap(rank - 2, rank - 1);
    x
}

/// [`product`], with its gradient.
pub(super) fn matmul<const D: usize>(a: Tensor<D>, b: Tensor<D>, kernels: Kernels) -> Tensor<D> {
    let [left, right] = [&a, &b].map(|x| inner(x.clone()).try_into_primitive::<CubeBackend>().expect("a GPU's tensor"));
    let out = product(&left, &right, left.dtype, kernels);
    with_gradient(out, [a, b].map(Parent::of), Saved { left, right, kernels })
}

/// The factors: each is half of the other's gradient.
#[derive(Debug)]
struct Saved {
    left: CubeTensor,
    right: CubeTensor,
    kernels: Kernels,
}

impl GpuBackward<2> for Saved {
    fn part(&self) -> Part {
        Part::Dense
    }

    fn backward(&self, above: CubeTensor, [wants_left, wants_right]: [bool; 2]) -> [Option<CubeTensor>; 2] {
        let Self { left, right, kernels } = self;
        let of_left = wants_left.then(|| product(&above, &transposed(right), left.dtype, *kernels));
        let of_right = wants_right.then(|| product(&transposed(left), &above, right.dtype, *kernels));
        [of_left, of_right]
    }
}

/// Rows, columns, and what is summed over.
fn sizes(a: &CubeTensor, b: &CubeTensor) -> [usize; 3] {
    let (a, b) = (a.meta.shape(), b.meta.shape());
    let rank = a.num_dims();
    [a[rank - 2], b[rank - 1], a[rank - 1]]
}

fn is_small(a: &CubeTensor, b: &CubeTensor) -> bool {
    let (rank, [m, n, k]) = (a.meta.num_dims(), sizes(a, b));
    let pairs: usize = a.meta.shape()[..rank - 2].iter().product();
    let fits = pairs <= MOST_CUBES as usize && m.max(n) <= MOST_CUBES as usize * TILE;
    rank <= 4 && fits && (1..=SMALL).contains(&(pairs * m * n * k))
}

fn small(a: &CubeTensor, b: &CubeTensor) -> CubeTensor {
    // A layout that strides don't describe is copied into one that they do.
    let [a, b] = [a, b].map(|x| if x.meta.is_tiled() { into_contiguous(x.clone()) } else { x.clone() });
    let [m, n, k] = sizes(&a, &b);
    let (rank, out) = (a.meta.num_dims(), empty_product(&a, &b, DType::F32));
    let [batch, heads] = [4, 3].map(|from_end| if rank < from_end { 1 } else { a.meta.shape()[rank - from_end] });
    let strides = |x: &CubeTensor| -> [usize; 4] {
        std::array::from_fn(|at| if at + rank < 4 { 0 } else { x.meta.strides()[at + rank - 4] })
    };
    let params: Vec<[u8; 4]> =
        [[m, n, k, heads], strides(&a), strides(&b)].as_flattened().iter().map(|&x| (x as u32).to_le_bytes()).collect();
    MATMUL.launch([n.div_ceil(TILE), m.div_ceil(TILE), batch * heads], [&a, &b, &out], &params);
    out
}
