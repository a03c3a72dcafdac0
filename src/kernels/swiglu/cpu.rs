//! The gate in plain Rust.

use burn::tensor::Tensor;

use crate::kernels::graph::Parent;
use crate::kernels::host::{HostBackward, HostTensor, host, slice, with_gradient};
use crate::kernels::matrix::made;
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
        let slope = |[a, b, above]: [f32; 3]| {
            let share = sigmoid(a);
            above * b * share * (1.0 + a * (1.0 - share))
        };
        let of_a = each_of([slice(&self.a), slice(&self.b), above_nf], slope);
        let of_b = each_of([slice(&self.a), slice(&self.b), above_nf], |[a, _, above]| above * a * sigmoid(a));
        [Some(of_a), Some(of_b)]
    }
}

/// What `each` makes of three equally long lists' numbers.
fn each_of([a, b, c]: [&[f32]; 3], each: impl Fn([f32; 3]) -> f32 + Sync) -> Vec<f32> {
    made(a.len(), PART, |at, out| {
        let (a, b, c) = (&a[at * PART..], &b[at * PART..], &c[at * PART..]);
        on_vectors(|| {
            for (((out, a), b), c) in out.iter_mut().zip(a).zip(b).zip(c) {
                *out = each([*a, *b, *c]);
            }
        });
    })
}
