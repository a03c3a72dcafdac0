//! The sum of the squares of many tensors, several a launch: a model has a gradient for each of its parameters, and
//! most are small.

use burn::tensor::Tensor;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::kernels::gpu::reduce::sum_of_cube;
use crate::kernels::gpu::{empty, on_gpu, tensor};
use crate::kernels::spent::{self, Part};

/// Invocations a cube.
const UNITS: u32 = 256;
/// Tensors a launch: with the result and what CubeCL adds, the eight buffers that every WebGPU device grants.
const TENSORS: usize = 6;
/// Elements that an invocation adds up by itself, where there are as many.
const SHARE: usize = 32;
/// Cubes a tensor at most.
const MOST: usize = 512;

/// A tensor's elements.
#[derive(CubeType, CubeLaunch)]
struct Flat {
    values: Box<[f32]>,
}

/// A cube's sum at `parts[from + ...]`: tensors along y, their parts along x.
#[cube(launch)]
fn squares_kernel(tensors: &Sequence<Flat>, parts: &mut [f32], from: u32) {
    let step = (CUBE_COUNT_X * UNITS) as usize;
    let mut total = f32::new(0.0);
    #[unroll]
    for which in 0..tensors.len() {
        let of = tensors.index(which);
        if CUBE_POS_Y as usize == which {
            let mut i = (CUBE_POS_X * UNITS + UNIT_POS) as usize;
            while i < of.values.len() {
                total += of.values[i] * of.values[i];
                i += step;
            }
        }
    }
    let total = sum_of_cube(total, UNITS);
    if UNIT_POS == 0 {
        parts[(from + CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X) as usize] = total;
    }
}

/// See [`squares`](super::squares).
pub(super) fn squares(tensors: &[Tensor<1>]) -> Tensor<1> {
    let tensors: Vec<CubeTensor> = tensors.iter().map(on_gpu).collect();
    spent::on_gpu(Part::Optimizer, &tensors[0], || add_up(&tensors))
}

fn add_up(tensors: &[CubeTensor]) -> Tensor<1> {
    let length = |x: &CubeTensor| x.meta.shape().num_elements();
    let cubes = |some: &[CubeTensor]| {
        let longest = some.iter().map(length).max().unwrap_or(0);
        longest.div_ceil(UNITS as usize * SHARE).clamp(1, MOST)
    };
    let groups: Vec<&[CubeTensor]> = tensors.chunks(TENSORS).collect();
    let parts = empty([groups.iter().map(|some| some.len() * cubes(some)).sum()], &tensors[0]);
    let mut from = 0;
    for some in groups {
        // As many in every launch, so that there is one kernel to compile.
        let of = |at: usize| FlatLaunch::new(some.get(at).unwrap_or(&some[0]).clone().into_buffer_arg());
        let count = CubeCount::Static(cubes(some) as u32, some.len() as u32, 1);
        let to = parts.clone().into_buffer_arg();
        squares_kernel::launch(&parts.client, count, CubeDim::new_1d(UNITS), (0..TENSORS).map(of).collect(), to, from as u32);
        from += some.len() * cubes(some);
    }
    tensor::<1>(parts).sum()
}
