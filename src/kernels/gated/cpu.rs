//! A gate in plain Rust.

use burn::tensor::Tensor;

use crate::kernels::gelu::normal;
use crate::kernels::graph::Parent;
use crate::kernels::host::{HostBackward, HostTensor, host, slice, with_gradient};
use crate::kernels::matrix::made;
use crate::kernels::spent::Part;
use crate::kernels::vector::on_vectors;

/// Rows that a thread takes at a time.
const ROWS: usize = 16;

/// See [`gelu_gate`](super::gelu_gate).
pub(super) fn gelu_gate(x_ng: Tensor<2>) -> Tensor<2> {
    let [n, g] = x_ng.dims();
    let (f, x) = (g / 2, host(&x_ng));
    let out_nf = made(n * f, ROWS * f, |at, out_nf| {
        let x_ng = &slice(&x)[at * ROWS * g..];
        on_vectors(|| {
            for (out_f, x_g) in out_nf.chunks_mut(f).zip(x_ng.chunks(g)) {
                let (a_f, b_f) = x_g.split_at(f);
                out_f.iter_mut().zip(a_f.iter().zip(b_f)).for_each(|(out, (a, b))| *out = a * normal(*a).0 * b);
            }
        });
    });
    with_gradient(out_nf, [n, f], [Parent::of(x_ng)], Saved { x, f })
}

/// What the backward pass needs: GELU and its slope are worked out again.
#[derive(Debug)]
struct Saved {
    x: HostTensor,
    f: usize,
}

impl HostBackward<1> for Saved {
    fn part(&self) -> Part {
        Part::Dense
    }

    fn backward(&self, above_nf: &[f32], _: [bool; 1]) -> [Option<Vec<f32>>; 1] {
        let (f, g, x_ng) = (self.f, 2 * self.f, slice(&self.x));
        let of_x_ng = made(x_ng.len(), ROWS * g, |at, of_x_ng| {
            let (x_ng, above_nf) = (&x_ng[at * ROWS * g..], &above_nf[at * ROWS * f..]);
            on_vectors(|| {
                for ((of_x_g, x_g), above_f) in of_x_ng.chunks_mut(g).zip(x_ng.chunks(g)).zip(above_nf.chunks(f)) {
                    let ((of_a_f, of_b_f), (a_f, b_f)) = (of_x_g.split_at_mut(f), x_g.split_at(f));
                    for (((of_a, of_b), (a, b)), above) in of_a_f.iter_mut().zip(of_b_f).zip(a_f.iter().zip(b_f)).zip(above_f) {
                        let (below, density) = normal(*a);
                        *of_a = above * b * (below + density);
                        *of_b = above * a * below;
                    }
                }
            });
        });
        [Some(of_x_ng)]
    }
}
