//! GELU by the hyperbolic tangent in plain Rust.

use burn::tensor::Tensor;

use super::{CUBE, TWICE_SCALE};
use crate::kernels::graph::Parent;
use crate::kernels::host::{HostBackward, HostTensor, host, slice, with_gradient};
use crate::kernels::matrix::made;
use crate::kernels::spent::Part;
use crate::kernels::vector::{on_vectors, sigmoid};

/// Numbers that a thread takes at a time.
const PART: usize = 16 << 10;

/// See [`tanh_gelu`](super::tanh_gelu).
pub(super) fn tanh_gelu(x_nf: Tensor<2>) -> Tensor<2> {
    let (shape, x) = (x_nf.dims(), host(&x_nf));
    let out_nf = made(shape[0] * shape[1], PART, |at, out| {
        let x = &slice(&x)[at * PART..];
        on_vectors(|| out.iter_mut().zip(x).for_each(|(out, x)| *out = x * share(*x)));
    });
    with_gradient(out_nf, shape, [Parent::of(x_nf)], Saved { x })
}

/// What of `x` goes through.
#[inline(always)]
fn share(x: f32) -> f32 {
    sigmoid((x * x * CUBE + 1.0) * x * TWICE_SCALE)
}

/// What the backward pass needs: the slope is worked out again.
#[derive(Debug)]
struct Saved {
    x: HostTensor,
}

impl HostBackward<1> for Saved {
    fn part(&self) -> Part {
        Part::Dense
    }

    fn backward(&self, above_nf: &[f32], _: [bool; 1]) -> [Option<Vec<f32>>; 1] {
        let x = slice(&self.x);
        let slope = |x: f32| {
            let share = share(x);
            share + x * share * (1.0 - share) * (x * x * (3.0 * CUBE) + 1.0) * TWICE_SCALE
        };
        [Some(made(x.len(), PART, |at, out| {
            let (x, above) = (&x[at * PART..], &above_nf[at * PART..]);
            on_vectors(|| out.iter_mut().zip(x.iter().zip(above)).for_each(|(out, (x, above))| *out = above * slope(*x)));
        }))]
    }
}
