//! What operations on GPUs share: tensors as kernels take them, how work is cut into cubes, and how an operation takes
//! part in autodiff. The kernels are in CubeCL, for every GPU runtime: CUDA, Vulkan, Metal, WebGPU; an operation's
//! `cube.rs` has its kernels, their launches, and its gradient.
//!
//! On a GPU an operation is fused as far as nothing else reads what lies inside: self-attention from its input to the
//! heads' results, a dense layer with the norm after it. Within one, a value has the dtype of its next use, a bias is
//! added by the pass that follows, and no launch only converts or copies where another could do it: the host's time for
//! a step grows with the number of launches. Tests hold each to its composed form.

pub(super) mod columns;
mod link;
pub(super) mod normal;
pub(super) mod reduce;
pub(super) mod sigmoid;
mod wgsl;

use burn::tensor::{DType, Int, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::{CubeCount, CubeDim};

use super::graph::inner;
pub(super) use link::{GpuBackward, with_gradient};
pub(super) use wgsl::Wgsl;

/// Invocations of a cube; WebGPU has at least as many.
pub(super) const WIDE: u32 = 256;
/// Cubes that every WebGPU device can launch in one dimension.
pub(super) const MOST_CUBES: u32 = 65_535;

/// A tensor's values on the GPU, contiguous and outside any graph.
pub(super) fn on_gpu<const D: usize>(x: &Tensor<D>) -> CubeTensor {
    exact(into_contiguous(inner(x.clone()).try_into_primitive::<CubeBackend>().expect("a GPU's tensor")))
}

/// [`on_gpu`] for a tensor of whole numbers.
pub(super) fn ints_on_gpu(x: &Tensor<1, Int>) -> CubeTensor {
    exact(into_contiguous(x.clone().try_into_primitive::<CubeBackend>().expect("a GPU's tensor")))
}

/// Trims the buffer to the tensor's own length: CUDA pads uploads to rows of up to 512 bytes, and a kernel takes the
/// length of its list from the buffer.
fn exact(x: CubeTensor) -> CubeTensor {
    let used = (x.meta.num_elements() * x.dtype.size()) as u64;
    match x.handle.size_in_used().saturating_sub(used) {
        0 => x,
        padding => CubeTensor { handle: x.handle.clone().offset_end(padding), ..x },
    }
}

/// Contiguous memory to be written, f32, on the device of `like`.
pub(super) fn empty<const D: usize>(shape: [usize; D], like: &CubeTensor) -> CubeTensor {
    empty_of(shape, DType::F32, like)
}

/// [`empty`] in a dtype of its own.
pub(super) fn empty_of<const D: usize>(shape: [usize; D], dtype: DType, like: &CubeTensor) -> CubeTensor {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape.into(), dtype)
}

/// Memory of the shape and dtype of another tensor.
pub(super) fn like(x: &CubeTensor) -> CubeTensor {
    empty_device_contiguous_dtype(x.client.clone(), x.device.clone(), x.meta.shape().clone(), x.dtype)
}

/// Memory for one vector, in the dtype of another tensor: stands for a buffer that a kernel doesn't use.
pub(super) fn like_a_vector(x: &CubeTensor) -> CubeTensor {
    empty_of([4], x.dtype, x)
}

pub(super) fn tensor<const D: usize>(x: CubeTensor) -> Tensor<D> {
    Tensor::from_primitive::<CubeBackend>(x)
}

/// How an operation element by element goes through a tensor, a vector an invocation: cubes, a cube's shape, elements
/// of a vector, and how many vectors there are.
pub(super) fn vectors_of(x: &CubeTensor) -> (CubeCount, CubeDim, usize, u32) {
    let elements = x.meta.num_elements();
    let size = vector_size(elements);
    let (count, dim) = cubes(elements / size);
    (count, dim, size, (elements / size) as u32)
}

/// Cubes for this many units of work, in an arrangement that every device can launch, and units a cube.
pub(super) fn cubes(units: usize) -> (CubeCount, CubeDim) {
    let cubes = u32::try_from(units.div_ceil(WIDE as usize)).expect("a tensor has fewer elements").max(1);
    (arranged(cubes), CubeDim::new_1d(WIDE))
}

/// Elements that an invocation takes at once of rows of `length`: four next to each other, which are one read and one
/// draw of dropout, or as many as rows have whole ones of.
pub(super) fn vector_size(length: usize) -> usize {
    [4, 2].into_iter().find(|size| length.is_multiple_of(*size)).unwrap_or(1)
}

/// As many cubes, or a few more.
pub(super) fn arranged(cubes: u32) -> CubeCount {
    let rows = cubes.div_ceil(MOST_CUBES).max(1);
    CubeCount::Static(cubes.div_ceil(rows), rows, 1)
}
