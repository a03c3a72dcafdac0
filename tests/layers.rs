//! The CPU's fused operations of an encoder layer against their composed forms: values and every gradient.

use burn::tensor::{Device, Tensor, TensorData};
use upstill::kernels::dwt_loss::spread;
use upstill::kernels::{Dropout, Form, Segments, attention, dense, dense_gelu, norm_of_sum};

use crate::close::{Kind, close};

fn leaf<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<D> {
    let values = spread(shape.iter().product(), seed);
    Tensor::from_data(TensorData::new(values, shape), &Device::flex().autodiff()).require_grad()
}

fn host<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_to_vec().unwrap()
}

/// The value of `run`, and the gradients of its product with a matrix of other numbers. The operation is used twice, so that
/// gradients add up.
fn value_and_gradients<const A: usize>(
    leaves: [Tensor<2>; A],
    vectors: &[Tensor<1>],
    weights: &[f32],
    run: impl Fn([Tensor<2>; A]) -> Tensor<2>,
) -> Vec<Vec<f32>> {
    let out = run(leaves.clone());
    let weights = Tensor::<2>::from_data(TensorData::new(weights.to_vec(), out.dims()), &Device::flex());
    let value = host(out.clone() * weights.clone());
    let total = (out * weights.clone()).sum() + (run(leaves.clone()) * weights).sum() * 0.5;
    let gradients = total.backward();
    let mut all = vec![value];
    all.extend(leaves.iter().map(|leaf| host(leaf.grad(&gradients).unwrap())));
    all.extend(vectors.iter().map(|leaf| host(leaf.grad(&gradients).unwrap())));
    all
}

fn compare(found: &[Vec<f32>], wanted: &[Vec<f32>]) {
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(wanted) {
        close(found, wanted, Kind::GradientOfFactors);
    }
}

/// Rows, width in, width out: odd sizes, one of each, and more than a thread's part.
const SIZES: [(usize, usize, usize); 4] = [(1, 1, 1), (3, 5, 7), (130, 48, 33), (70, 64, 300)];

#[test]
fn a_dense_layer_is_a_product_and_a_bias() {
    for (n, d, f) in SIZES {
        let run = |form| {
            let (x_nd, weight_df, bias_f) = (leaf([n, d], 1), leaf([d, f], 2), leaf([f], 3));
            let bias = bias_f.clone();
            value_and_gradients([x_nd, weight_df], &[bias_f], &spread(n * f, 4), move |[x, w]| dense(x, w, bias.clone(), form))
        };
        compare(&run(Form::Fused), &run(Form::Composed));
    }
}

#[test]
fn a_dense_layer_with_gelu_is_one_and_then_gelu() {
    for (n, d, f) in SIZES {
        let run = |form| {
            let (x_nd, weight_df, bias_f) = (leaf([n, d], 1), leaf([d, f], 2), leaf([f], 3));
            let bias = bias_f.clone();
            value_and_gradients([x_nd, weight_df], &[bias_f], &spread(n * f, 4), move |[x, w]| {
                dense_gelu(x, w, bias.clone(), form)
            })
        };
        compare(&run(Form::Fused), &run(Form::Composed));
    }
}

#[test]
fn the_norm_of_a_sum_is_dropout_a_sum_and_a_norm() {
    for ((n, d, _), rate) in SIZES.into_iter().flat_map(|size| [(size, 0.0), (size, 0.3)]) {
        // The norm of one number is 0 whatever it is.
        let d = d + 1;
        let run = |form| {
            let (gamma_d, beta_d) = (leaf([d], 3), leaf([d], 4));
            let (gamma, beta) = (gamma_d.clone(), beta_d.clone());
            value_and_gradients([leaf([n, d], 1), leaf([n, d], 2)], &[gamma_d, beta_d], &spread(n * d, 5), move |[x, r]| {
                let mut dropout = Dropout::new(rate, 9);
                norm_of_sum(x, Some(r), gamma.clone(), beta.clone(), 1e-12, &mut dropout, form)
            })
        };
        compare(&run(Form::Fused), &run(Form::Composed));
        let alone = |form| {
            let (gamma_d, beta_d) = (leaf([d], 3), leaf([d], 4));
            let (gamma, beta) = (gamma_d.clone(), beta_d.clone());
            value_and_gradients([leaf([n, d], 1)], &[gamma_d, beta_d], &spread(n * d, 5), move |[x]| {
                norm_of_sum(x, None, gamma.clone(), beta.clone(), 1e-5, &mut Dropout::new(rate, 9), form)
            })
        };
        compare(&alone(Form::Fused), &alone(Form::Composed));
    }
}

#[test]
fn attention_by_segments_is_attention_with_the_others_ruled_out() {
    // Two rows of 12: segments of 1, 5 and 4 and padding; one of 12.
    let segments_bs = [[1, 2, 2, 2, 2, 2, 3, 3, 3, 3, 0, 0], [1; 12]].concat();
    for (heads, width, rate) in [(1, 1, 0.0), (2, 8, 0.0), (3, 5, 0.2)] {
        let (n, d) = (24, heads * width);
        // What padding gets is nobody's concern: no weight, no gradient.
        let mut weights = spread(n * d, 7);
        (0..n).filter(|&at| segments_bs[at] == 0).for_each(|at| weights[at * d..][..d].fill(0.0));
        let run = |form| {
            let segments = Segments::new(&segments_bs, 12);
            value_and_gradients([leaf([n, d], 1), leaf([n, d], 2), leaf([n, d], 3)], &[], &weights, move |inputs| {
                attention(inputs, heads, &segments, &mut Dropout::new(rate, 5), form)
            })
        };
        compare(&run(Form::Fused), &run(Form::Composed));
    }
}
