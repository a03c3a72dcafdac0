//! Small products of matrices on GPUs that take WGSL: `shaders/matmul.wgsl`, one short kernel for all shapes, where burn compiles a
//! long one for each.

use burn::tensor::{DType, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::cube::{GpuBackward, MOST_CUBES, PARENTS, empty, with_gradient};
use super::inner;
use super::wgsl::Wgsl;

const MATMUL: Wgsl = Wgsl { source: super::matmul::WGSL, workgroup: 64 };
/// Rows and columns that a workgroup makes.
const TILE: usize = 32;
/// Multiplications above which burn's kernels are worth what compiling them takes: here a GPU of 1 TFLOP/s is busy for a quarter of a
/// millisecond.
const SMALL: usize = 1 << 27;

/// `a b` over the last two dimensions, where it is a small product of f32 on a GPU that takes WGSL; those before them are equal.
pub(super) fn small_matmul<const D: usize>(a: &Tensor<D>, b: &Tensor<D>) -> Option<Tensor<D>> {
    let is_f32 = a.dtype() == DType::F32 && b.dtype() == DType::F32;
    let (shape, [m, n, k]) = (a.dims(), sizes(a.dims(), b.dims()));
    let pairs: usize = shape[..D - 2].iter().product();
    let is_small = pairs * m * n * k <= SMALL && pairs <= MOST_CUBES as usize && m.max(n) <= MOST_CUBES as usize * TILE;
    if !is_f32 || !is_small || D > 4 || pairs * m * n * k == 0 {
        return None;
    }
    let [left, right] = [a, b].map(|x| inner(x.clone()).try_into_primitive::<CubeBackend>().expect("a GPU's tensor"));
    if !Wgsl::runs_on(&left.client) {
        return None;
    }
    let out = product::<D>(&left, &right);
    let parents = [Some(a.clone().into_dispatch()), Some(b.clone().into_dispatch()), None, None];
    Some(with_gradient(out, parents, Saved::<D> { left, right }))
}

fn sizes<const D: usize>(a: [usize; D], b: [usize; D]) -> [usize; 3] {
    [a[D - 2], b[D - 1], a[D - 1]]
}

/// The factors: each is half of the other's gradient.
#[derive(Debug)]
struct Saved<const D: usize> {
    left: CubeTensor,
    right: CubeTensor,
}

impl<const D: usize> GpuBackward for Saved<D> {
    fn backward(&self, above: CubeTensor, wanted: [bool; PARENTS]) -> [Option<CubeTensor>; PARENTS] {
        let transposed = |x: &CubeTensor| {
            let mut x = x.clone();
            x.meta.swap(D - 2, D - 1);
            x
        };
        let of_left = wanted[0].then(|| product::<D>(&above, &transposed(&self.right)));
        let of_right = wanted[1].then(|| product::<D>(&transposed(&self.left), &above));
        [of_left, of_right, None, None]
    }
}

fn product<const D: usize>(a: &CubeTensor, b: &CubeTensor) -> CubeTensor {
    // A layout that strides don't describe is copied into one that they do.
    let [a, b] = [a, b].map(|x| if x.meta.is_tiled() { into_contiguous(x.clone()) } else { x.clone() });
    let dims = |x: &CubeTensor| -> [usize; D] { std::array::from_fn(|at| x.meta.shape()[at]) };
    let [m, n, k] = sizes(dims(&a), dims(&b));
    let mut shape = dims(&a);
    shape[D - 1] = n;
    let out = empty(shape, &a);
    let heads = if D > 2 { shape[D - 3] } else { 1 };
    let batch = if D > 3 { shape[0] } else { 1 };
    let strides =
        |x: &CubeTensor| -> [usize; 4] { std::array::from_fn(|at| if at + D < 4 { 0 } else { x.meta.strides()[at + D - 4] }) };
    let params: Vec<[u8; 4]> =
        [[m, n, k, heads], strides(&a), strides(&b)].as_flattened().iter().map(|&x| (x as u32).to_le_bytes()).collect();
    MATMUL.launch([n.div_ceil(TILE), m.div_ceil(TILE), batch * heads], [&a, &b, &out], &params);
    out
}
