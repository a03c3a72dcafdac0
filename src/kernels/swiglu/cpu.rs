//! The gate in plain Rust.

use burn::tensor::Tensor;

use crate::kernels::graph::Parent;
use crate::kernels::host::{HostBackward, HostTensor, host, slice, with_gradient};
use crate::kernels::matrix::{made, made_together};
use crate::kernels::spent::Part;
use crate::kernels::vector::{on_vectors, sigmoid};

/// Numbers that a thread takes at a time.
const PART: usize = 16 << 10;

/// See [`silu_gate`](super::silu_gate).
pub(super) fn silu_gate(a_nf: Tensor<2>, b_nf: Tensor<2>) -> Tensor<2> {
    let (shape, a, b) = (a_nf.dims(), host(&a_nf), host(&b_nf));
    let out_nf = made(shape[0] * shape[1], PART, |at, out| {
        let (a, b) = (&slice(&a)[at * PART..], &slice(&b)[at * PART..]);
        on_vectors(|| out.iter_mut().zip(a.iter().zip(b)).for_each(|(out, (a, b))| *out = a * sigmoid(*a) * b));
    });
    with_gradient(out_nf, shape, [a_nf, b_nf].map(Parent::of), Saved { a, b })
}

/// What the backward pass needs: SiLU and its slope are worked out again.
#[derive(Debug)]
struct Saved {
    a: HostTensor,
    b: HostTensor,
}

impl HostBackward<2> for Saved {
    fn part(&self) -> Part {
        Part::Dense
    }

    fn backward(&self, above_nf: &[f32], _: [bool; 2]) -> [Option<Vec<f32>>; 2] {
        let (a, b) = (slice(&self.a), slice(&self.b));
        let both = made_together(a.len(), PART, |at, [of_a, of_b]| {
            let [a, b, above] = [a, b, above_nf].map(|x| &x[at * PART..]);
            on_vectors(|| {
                for ((of_a, of_b), ((a, b), above)) in of_a.iter_mut().zip(of_b).zip(a.iter().zip(b).zip(above)) {
                    let share = sigmoid(*a);
                    *of_a = above * b * share * (1.0 + a * (1.0 - share));
                    *of_b = above * a * share;
                }
            });
        });
        both.map(Some)
    }
}
