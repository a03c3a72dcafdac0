//! The norm in plain Rust.

use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::kernels::graph::Parent;
use crate::kernels::host::{HostBackward, HostTensor, host, slice, with_gradient};
use crate::kernels::matrix::zeros;
use crate::kernels::spent::Part;
use crate::kernels::vector::on_vectors;

/// Numbers that a thread takes at a time, up to whole norms; sums are added up by such parts, whoever took them.
const PART: usize = 16 << 10;

/// See [`rms_norm`](super::rms_norm).
pub(super) fn rms_norm(x_ne: &Tensor<2>, gamma_w: &Tensor<1>, epsilon: f32) -> Tensor<2> {
    let ([n, e], [w]) = (x_ne.dims(), gamma_w.dims());
    let (x, gamma) = (host(x_ne), host(gamma_w));
    let (mut out_ne, mut scale_k) = (zeros(n * e), vec![0.0; n * e / w.max(1)]);
    let norms = (PART / w.max(1)).max(1);
    let parts = out_ne.par_chunks_mut(norms * w).zip(slice(&x).par_chunks(norms * w)).zip(scale_k.par_chunks_mut(norms));
    parts.for_each(|((out, x), scale)| {
        on_vectors(|| {
            for ((out_w, x_w), scale) in out.chunks_mut(w).zip(x.chunks(w)).zip(scale) {
                *scale = 1.0 / (along(x_w, x_w) / w as f32 + epsilon).sqrt();
                for ((out, x), gamma) in out_w.iter_mut().zip(x_w).zip(slice(&gamma)) {
                    *out = gamma * (x * *scale);
                }
            }
        });
    });
    let parents = [Parent::of(x_ne.clone()), Parent::of(gamma_w.clone())];
    with_gradient(out_ne, [n, e], parents, Saved { x, gamma, scale_k })
}

/// The sum of products of two rows' numbers, in 16 lanes, which the compiler may not make of a plain one.
#[inline(always)]
fn along(a_w: &[f32], b_w: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0.0f32; LANES];
    let whole = a_w.len() / LANES * LANES;
    for (a, b) in a_w[..whole].chunks_exact(LANES).zip(b_w[..whole].chunks_exact(LANES)) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_w[whole..].iter().zip(&b_w[whole..]).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + rest
}

/// What the backward pass needs.
#[derive(Debug)]
struct Saved {
    x: HostTensor,
    gamma: HostTensor,
    /// What the numbers of each norm were multiplied by.
    scale_k: Vec<f32>,
}

impl HostBackward<2> for Saved {
    fn part(&self) -> Part {
        Part::Norm
    }

    fn backward(&self, above_ne: &[f32], _: [bool; 2]) -> [Option<Vec<f32>>; 2] {
        let (x_ne, gamma_w) = (slice(&self.x), slice(&self.gamma));
        let w = gamma_w.len();
        let norms = (PART / w.max(1)).max(1);
        let mut of_x_ne = zeros(x_ne.len());
        let sums: Vec<Vec<f32>> = of_x_ne
            .par_chunks_mut(norms * w)
            .zip(x_ne.par_chunks(norms * w).zip(above_ne.par_chunks(norms * w)).zip(self.scale_k.par_chunks(norms)))
            .map(|(of_x, ((x, above), scale))| {
                let mut of_gamma = vec![0.0f32; w];
                on_vectors(|| {
                    for (((of_x_w, x_w), above_w), &scale) in of_x.chunks_mut(w).zip(x.chunks(w)).zip(above.chunks(w)).zip(scale)
                    {
                        for i in 0..w {
                            of_gamma[i] += above_w[i] * (x_w[i] * scale);
                            of_x_w[i] = above_w[i] * gamma_w[i];
                        }
                        let mean = along(of_x_w, x_w) * scale * scale / w as f32;
                        of_x_w.iter_mut().zip(x_w).for_each(|(of_x, x)| *of_x = scale * (*of_x - x * mean));
                    }
                });
                of_gamma
            })
            .collect();
        let mut of_gamma = vec![0.0; w];
        sums.iter().for_each(|part| of_gamma.iter_mut().zip(part).for_each(|(total, x)| *total += x));
        [Some(of_x_ne), Some(of_gamma)]
    }
}
