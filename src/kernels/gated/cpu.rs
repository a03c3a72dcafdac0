//! A gated feed-forward layer's middle (Shazeer 2020, GEGLU): what goes through GELU times its gate.

use burn::tensor::Tensor;

use super::dense::normal;
use super::host::{HostBackward, HostTensor, PARENTS, host, slice, with_gradient};
use super::matrix::made;
use super::spent::{self, Part};
use super::vector::on_vectors;
use super::{Compute, erf_gelu, in_f32};

/// `gelu(a) * b` of `[a, b]` side by side, with the error function's GELU: `[n, 2 f]` to `[n, f]`, in the product's
/// numbers.
pub fn gelu_gate(x_ng: Tensor<2>, compute: &Compute) -> Tensor<2> {
    if compute.is_fused_on_cpu() {
        return spent::on(Part::Dense, || fused(x_ng));
    }
    let f = x_ng.dims()[1] / 2;
    let x_ng = in_f32(x_ng);
    compute.factor(erf_gelu(x_ng.clone().narrow(1, 0, f)) * x_ng.narrow(1, f, f))
}

/// Rows that a thread takes at a time.
const ROWS: usize = 16;

fn fused(x_ng: Tensor<2>) -> Tensor<2> {
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
    with_gradient(out_nf, [n, f], [Some(x_ng.into_dispatch()), None, None, None], Saved { x, f })
}

/// What the backward pass needs: GELU and its slope are worked out again.
#[derive(Debug)]
struct Saved {
    x: HostTensor,
    f: usize,
}

impl HostBackward for Saved {
    fn part(&self) -> Part {
        Part::Dense
    }

    fn backward(&self, above_nf: &[f32], _wanted: [bool; PARENTS]) -> [Vec<f32>; PARENTS] {
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
        [of_x_ng, Vec::new(), Vec::new(), Vec::new()]
    }
}
