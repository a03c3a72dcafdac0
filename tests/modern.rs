//! ModernBERT's operations: the fused ones, a CPU's and a GPU's, against their composed forms, values and every
//! gradient, at sizes that are too large for definitions (`tests/definitions.rs`), and to the edge of a window.

use burn::tensor::{Device, Tensor, TensorData};
use upstill::batch::TokenOrder::{Bidirectional, Causal};
use upstill::device::{Compute, Kernels};
use upstill::kernels::dwt_loss::spread;
use upstill::kernels::{Dense, Dropout, Places, Rotary, Sight, dense, dense_sum, gelu_gate, linear, rotary_attention};

use crate::close::{Kind, close};
use crate::definitions::layers::{self as definition, Sees};
use crate::layers::{Side, compare, host, leaf, on_both_sides, value_and_gradients};

on_both_sides!(
    a_gate_is_gelu_of_one_half_times_the_other,
    a_product_without_a_bias_is_a_dense_layer_of_zeros,
    what_is_added_to_the_residual_is_dropout_of_a_product,
    turned_attention_within_a_window_is_attention_with_the_others_ruled_out,
);

/// Rows, width in, width out: odd sizes, one of each, more than a thread's part.
const SIZES: [(usize, usize, usize); 4] = [(1, 1, 1), (3, 5, 7), (130, 48, 33), (70, 64, 300)];

fn a_gate_is_gelu_of_one_half_times_the_other(side: Side) {
    for (n, f, _) in SIZES {
        let run = |compute: &Compute| {
            let leaves = [leaf([n, 2 * f], 1, &compute.device)];
            value_and_gradients(leaves, &[], &spread(n * f, 4), move |[x]| gelu_gate(x, compute))
        };
        compare(side, run);
    }
}

fn a_product_without_a_bias_is_a_dense_layer_of_zeros(side: Side) {
    for (n, d, f) in SIZES {
        let run = |compute: &Compute| {
            let device = &compute.device;
            let leaves = [leaf([n, d], 1, device), leaf([d, f], 2, device)];
            value_and_gradients(leaves, &[], &spread(n * f, 4), move |[x, weight_df]| match compute.kernels {
                Kernels::Composed => dense(x, &Dense { weight_df, bias_f: Tensor::zeros([f], device) }, compute),
                _ => linear(x, weight_df, compute),
            })
        };
        compare(side, run);
    }
}

fn what_is_added_to_the_residual_is_dropout_of_a_product(side: Side) {
    for ((n, f, d), rate) in SIZES.into_iter().flat_map(|size| [(size, 0.0), (size, 0.3)]) {
        let run = |compute: &Compute| {
            let device = &compute.device;
            let leaves = [leaf([n, f], 1, device), leaf([f, d], 2, device), leaf([n, d], 3, device)];
            value_and_gradients(leaves, &[], &spread(n * d, 4), move |[x, weight, residual]| {
                dense_sum(x, weight, residual, &mut Dropout::new(rate, 9).of_rows(1..1 + n), compute)
            })
        };
        compare(side, run);
    }
}

/// Two rows of a length: segments of some lengths and padding, and one segment all along. Positions start at 0 in each.
pub(crate) fn rows_of(length: usize) -> (Vec<i32>, Vec<i32>) {
    let ends = [length / 10, length / 2, length - length / 8];
    let segment = |at: usize| if at < ends[2] { ends.iter().filter(|end| at >= **end).count() as i32 + 1 } else { 0 };
    let segments: Vec<i32> = (0..length).map(segment).chain((0..length).map(|_| 1)).collect();
    let start = |at: usize| ends.iter().copied().filter(|end| at >= *end).max().unwrap_or(0);
    let positions = (0..length).map(|at| (at - start(at)) as i32).chain(0..length as i32).collect();
    (segments, positions)
}

fn turned_attention_within_a_window_is_attention_with_the_others_ruled_out(side: Side) {
    for (length, window, order, heads, width, rate) in [
        (12, None, Bidirectional, 2, 8, 0.0),
        (12, Some(3), Bidirectional, 1, 2, 0.2),
        (150, Some(1), Bidirectional, 2, 4, 0.0),
        (150, Some(65), Bidirectional, 2, 8, 0.2),
        (200, Some(9), Bidirectional, 3, 6, 0.0),
        (40, Some(100), Bidirectional, 2, 32, 0.0),
        (13, None, Causal, 2, 6, 0.0),
        (150, None, Causal, 2, 8, 0.2),
        (150, Some(9), Causal, 3, 4, 0.0),
    ] {
        let (segments_bs, positions) = rows_of(length);
        let (n, d) = (2 * length, heads * width);
        // What padding gets is nobody's concern: no weight, no gradient.
        let mut weights = spread(n * d, 7);
        (0..n).filter(|&at| segments_bs[at] == 0).for_each(|at| weights[at * d..][..d].fill(0.0));
        let run = |compute: &Compute| {
            let sight = Sight::new(&segments_bs, length).in_order(order);
            let sight = if let Some(window) = window { sight.within(window) } else { sight };
            let rotary = Rotary::new(&Places::new(&positions, &compute.device), width, 100.0);
            let leaves = [leaf([n, 3 * d], 1, &compute.device)];
            value_and_gradients(leaves, &[], &weights, move |[qkv]| {
                let mut dropout = Dropout::new(rate, 5).of_rows(1..3);
                rotary_attention(qkv, heads, &sight, &rotary, &mut dropout, compute)
            })
        };
        compare(side, run);
    }
}

/// The window's edge to the token: a distance of `reach` is seen, one more is not.
#[test]
fn attention_is_its_definition_up_to_the_windows_edge() {
    let (length, width, theta) = (80, 6, 50.0);
    let (segments, positions) = rows_of(length);
    let (segments, positions) = (&segments[..length], &positions[..length]);
    let qkv: Vec<f32> = spread(length * 3 * width, 3).iter().map(|x| x * 0.5).collect();
    let part = |which: usize| -> Vec<f64> {
        qkv.chunks(3 * width).flat_map(|row| row[which * width..][..width].iter().map(|&x| f64::from(x))).collect()
    };
    let turned = |which: usize| definition::turned(&part(which), positions, 1, theta);
    let defined = |reach: usize| {
        let sees = Sees { segments, length, is_causal: false, window: Some(reach + 1) };
        definition::attention(&turned(0), &turned(1), &part(2), 1, &sees)
    };
    let device = Device::flex();
    for (reach, form) in [1, 4, 20].into_iter().flat_map(|reach| [Kernels::Composed, Kernels::Fused].map(|form| (reach, form))) {
        let sight = Sight::new(segments, length).within(reach + 1);
        let rotary = Rotary::new(&Places::new(positions, &device), width, theta);
        let x = Tensor::<2>::from_data(TensorData::new(qkv.clone(), [length, 3 * width]), &device);
        let found = host(rotary_attention(x, 1, &sight, &rotary, &mut Dropout::off(), &Compute::of(&device).by(form)));
        let wanted = defined(reach);
        let real = segments.iter().filter(|&&segment| segment > 0).count() * width;
        eprintln!("{reach} to each side, {form}");
        close(&found[..real], &wanted[..real], Kind::GradientOfFactors);
        let further = defined(reach + 1);
        assert!(wanted.iter().zip(&further).any(|(a, b)| (a - b).abs() > 1e-2), "the edge matters in this test");
    }
}
