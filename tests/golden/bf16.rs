//! Products in bf16 are those of PyTorch's `autocast`: goldens by tests/golden/bf16.py.

use burn::tensor::{Device, Tensor, TensorData, bf16};
use serde::Deserialize;
use upstill::device::{Compute, Kernels, Precision};
use upstill::kernels::{Dense, dense};

use super::{golden, host};

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    n: usize,
    d: usize,
    f: usize,
    /// Inputs are whole numbers of 2^-10.
    x_nd: Vec<f32>,
    weight_df: Vec<f32>,
    above_nf: Vec<f32>,
    value_nf: Vec<f32>,
    of_x_nd: Vec<f32>,
    of_weight_df: Vec<f32>,
}

#[test]
fn products_in_bf16_are_pytorchs() {
    let device = Device::flex();
    let compute = Compute::of(&device).by(Kernels::Fused).in_dtype(Precision::Bf16);
    for case in golden::<Cases>("bf16.json").cases {
        let Case { n, d, f, .. } = case;
        let tensor = |values: &[f32], shape: [usize; 2], device: &Device| {
            let values: Vec<f32> = values.iter().map(|whole| whole / 1024.0).collect();
            Tensor::<2>::from_data(TensorData::new(values, shape), device)
        };
        let tracked = device.clone().autodiff();
        let x_nd = tensor(&case.x_nd, [n, d], &tracked).require_grad();
        let weight_df = tensor(&case.weight_df, [d, f], &tracked).require_grad();
        let bias_f = Tensor::<1>::zeros([f], &tracked).require_grad();
        let value_nf = dense(x_nd.clone(), &Dense { weight_df: weight_df.clone(), bias_f: bias_f.clone() }, &compute);
        let gradients = (value_nf.clone() * tensor(&case.above_nf, [n, f], &device)).sum().backward();
        let by = |x: &Tensor<2>| host(x.grad(&gradients).unwrap());
        hold(&host(value_nf), &case.value_nf);
        hold(&by(&x_nd), &case.of_x_nd);
        hold(&by(&weight_df), &case.of_weight_df);
        let of_bias = (0..f).map(|column| case.above_nf.iter().skip(column).step_by(f).sum::<f32>() / 1024.0);
        assert_eq!(host(bias_f.grad(&gradients).unwrap()), of_bias.collect::<Vec<f32>>(), "sums of few bits are exact");
    }
}

/// PyTorch's results are rounded to bf16 once more. Sums of up to 35 terms below 4, added in another order, are off by
/// up to 2^-19, which may tip a tie.
fn hold(found: &[f32], wanted: &[f32]) {
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(wanted) {
        let near = [found - 2e-6, *found, found + 2e-6].map(|sum| bf16::from_f32(sum).to_f32());
        assert!(near.contains(wanted), "{found} and {wanted}");
    }
}
