//! The operations of causal models: the CPU's fused ones and a GPU's against their composed forms, values and every
//! gradient, at sizes that are too large for definitions (`tests/definitions.rs`); and a token at a time.

use burn::tensor::{Device, Tensor, TensorData};
use upstill::batch::TokenOrder;
use upstill::config::RopeScaling;
use upstill::device::{Compute, Kernels};
use upstill::kernels::dwt_loss::spread;
use upstill::kernels::{
    Dropout, Heads, Places, Rotary, Sight, grouped_attention, linear, next_attention, rms_norm, silu_gate, tanh_gelu,
};

use crate::close::{Kind, close};
use crate::definitions::layers::{self as definition, Sees};
use crate::layers::{Side, compare, host, leaf, on_both_sides, value_and_gradients};
use crate::modern::rows_of;

on_both_sides!(
    a_gate_is_silu_of_one_times_the_other,
    gelu_by_the_tangent_follows_a_product_without_a_bias,
    a_norm_divides_by_the_root_of_the_mean_square_of_rows_and_of_heads,
    attention_of_shared_keys_is_attention_of_repeated_ones_in_order,
);

const SIZES: [(usize, usize); 5] = [(1, 1), (3, 7), (130, 48), (70, 300), (2, 9000)];

fn a_gate_is_silu_of_one_times_the_other(side: Side) {
    for (n, f) in SIZES {
        let run = |compute: &Compute| {
            let leaves = [leaf([n, f], 1, &compute.device), leaf([n, f], 2, &compute.device)];
            value_and_gradients(leaves, &[], &spread(n * f, 4), move |[a, b]| silu_gate(a, b, compute))
        };
        compare(side, run);
    }
}

fn gelu_by_the_tangent_follows_a_product_without_a_bias(side: Side) {
    for (n, f) in SIZES {
        let run = |compute: &Compute| {
            let leaves = [leaf([n, 5], 1, &compute.device), leaf([5, f], 2, &compute.device)];
            value_and_gradients(leaves, &[], &spread(n * f, 4), move |[x, weight_df]| {
                tanh_gelu(linear(x, weight_df, compute), compute)
            })
        };
        compare(side, run);
    }
}

fn a_norm_divides_by_the_root_of_the_mean_square_of_rows_and_of_heads(side: Side) {
    for ((n, width), heads) in SIZES.into_iter().flat_map(|size| [(size, 1), (size, 3)]) {
        let run = |compute: &Compute| {
            let gamma = leaf([width], 3, &compute.device);
            let scale = gamma.clone();
            let leaves = [leaf([n, heads * width], 1, &compute.device)];
            value_and_gradients(leaves, &[gamma], &spread(n * heads * width, 4), move |[x]| {
                rms_norm(x, scale.clone(), 1e-3, compute)
            })
        };
        compare(side, run);
    }
}

fn attention_of_shared_keys_is_attention_of_repeated_ones_in_order(side: Side) {
    for (length, order, window, [queries, keys], width, rate, is_rotary) in [
        (12, TokenOrder::Causal, None, [2, 2], 8, 0.0, true),
        (12, TokenOrder::Causal, None, [4, 2], 4, 0.2, false),
        (150, TokenOrder::Causal, None, [4, 1], 2, 0.0, true),
        (200, TokenOrder::Causal, None, [6, 2], 6, 0.2, true),
        (150, TokenOrder::Causal, Some(9), [2, 1], 4, 0.0, true),
        (150, TokenOrder::Bidirectional, None, [4, 2], 4, 0.0, false),
        // In vectors of four, of which a GPU leaves out tiles.
        (200, TokenOrder::Causal, None, [6, 2], 8, 0.2, true),
        (152, TokenOrder::Bidirectional, Some(9), [4, 1], 4, 0.2, false),
        (152, TokenOrder::Causal, Some(40), [2, 2], 36, 0.0, true),
    ] {
        let (segments_bs, positions) = rows_of(length);
        let (n, d, k) = (2 * length, queries * width, keys * width);
        // What padding gets is nobody's concern: no weight, no gradient.
        let mut weights = spread(n * d, 7);
        (0..n).filter(|&at| segments_bs[at] == 0).for_each(|at| weights[at * d..][..d].fill(0.0));
        let run = |compute: &Compute| {
            let sight = Sight::new(&segments_bs, length).in_order(order);
            let sight = if let Some(window) = window { sight.within(window) } else { sight };
            let rotary = is_rotary.then(|| Rotary::new(&Places::new(&positions, &compute.device), width, 100.0));
            let device = &compute.device;
            let leaves = [leaf([n, d], 1, device), leaf([n, k], 2, device), leaf([n, k], 3, device)];
            value_and_gradients(leaves, &[], &weights, move |inputs| {
                let mut dropout = Dropout::new(rate, 5).of_rows(1..3);
                grouped_attention(inputs, Heads { queries, keys }, &sight, rotary.as_ref(), &mut dropout, compute)
            })
        };
        compare(side, run);
    }
}

#[test]
fn attention_of_shared_keys_is_its_definition_at_once_and_a_token_at_a_time() {
    let (length, heads, width) = (80, [6, 2], 4);
    let segments: Vec<i32> = (0..length as i32).map(|at| if at < 70 { 1 } else { 2 }).collect();
    let values = |heads: usize, seed: u64| spread(length * heads * width, seed);
    let [q, k, v] = [values(heads[0], 1), values(heads[1], 2), values(heads[1], 3)];
    let (device, sizes) = (Device::flex(), Heads { queries: heads[0], keys: heads[1] });
    let of = |x: &[f32], rows: std::ops::Range<usize>, heads: usize| {
        let part = x[rows.start * heads * width..rows.end * heads * width].to_vec();
        Tensor::<2>::from_data(TensorData::new(part, [rows.len(), heads * width]), &device)
    };
    let all =
        |rows: std::ops::Range<usize>| [of(&q, rows.clone(), heads[0]), of(&k, rows.clone(), heads[1]), of(&v, rows, heads[1])];
    let exact = |x: &[f32]| -> Vec<f64> { x.iter().map(|&x| f64::from(x)).collect() };
    let shared = |x: &[f32]| definition::shared(&exact(x), width, heads[0] / heads[1]);
    for window in [None, Some(1), Some(2), Some(6), Some(100)] {
        let sees = Sees { segments: &segments, length, is_causal: true, window };
        let wanted = definition::attention(&exact(&q), &shared(&k), &shared(&v), heads[0], &sees);
        for form in [Kernels::Composed, Kernels::Fused] {
            let compute = Compute::of(&device).by(form);
            let sight = Sight::new(&segments, length).in_order(TokenOrder::Causal);
            let sight = if let Some(window) = window { sight.within(window) } else { sight };
            let found = grouped_attention(all(0..length), sizes, &sight, None, &mut Dropout::off(), &compute);
            close(&host(found), &wanted, Kind::GradientOfFactors);
            // The first segment in parts that follow each other.
            let (mut past, mut found) = (None, Vec::new());
            for (from, to) in [(0, 5), (5, 6), (6, 7), (7, 40), (40, 70)] {
                found.extend(host(next_attention(all(from..to), sizes, None, window, &mut past, &compute)));
            }
            close(&found, &wanted[..70 * heads[0] * width], Kind::GradientOfFactors);
            let kept = past.map_or(0, |[keys, _]| keys.dims()[0]);
            assert_eq!(kept, window.map_or(70, |window| 70.min(window - 1)), "no more than later ones see: {window:?}");
        }
    }
}

/// `transformers`' `_compute_llama3_parameters`, in f64: a query and a key that are turned have the score of their
/// distance.
#[test]
fn angles_are_scaled_as_llama_3_has_them() {
    let scaling = RopeScaling { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_max_positions: 64 };
    let (width, theta, device) = (16, 10_000f64, Device::flex());
    let scaled = |i: usize| {
        let own = 1.0 / theta.powf(2.0 * i as f64 / width as f64);
        let length = std::f64::consts::TAU / own;
        if length < 64.0 / 4.0 {
            return own;
        }
        if length > 64.0 {
            return own / 8.0;
        }
        let smooth = (64.0 / length - 1.0) / (4.0 - 1.0);
        (1.0 - smooth) * own / 8.0 + smooth * own
    };
    let kinds: Vec<bool> = (0..8).map(|i| scaled(i) == 1.0 / theta.powf(2.0 * i as f64 / width as f64)).collect();
    assert!(kinds.contains(&true) && kinds.contains(&false), "slow and fast frequencies are in this test");
    // Two positions: the shares of the second tell the angle between them.
    let distance = 5;
    let rotary = Rotary::scaled(&Places::new(&[0, distance], &device), width, theta, Some(scaling));
    let sight = Sight::new(&[1, 1], 2).in_order(TokenOrder::Causal);
    for i in 0..width / 2 {
        let mut one = vec![0.0f32; 2 * width];
        (one[i], one[width + i]) = (2.0, 2.0);
        let mut value = vec![0.0f32; 2 * width];
        value[0] = 1.0;
        let tensor = |x: &[f32]| Tensor::<2>::from_data(TensorData::new(x.to_vec(), [2, width]), &device);
        let inputs = [tensor(&one), tensor(&one), tensor(&value)];
        let out = grouped_attention(
            inputs,
            Heads { queries: 1, keys: 1 },
            &sight,
            Some(&rotary),
            &mut Dropout::off(),
            &Compute::of(&device),
        );
        let angle = f64::from(distance) * scaled(i);
        // Scores 4 cos(angle) / 4 of the first, and 4 / 4 of itself.
        let wanted = angle.cos().exp() / (angle.cos().exp() + 1f64.exp());
        let found = f64::from(host(out)[width]);
        assert!((found - wanted).abs() < 1e-6, "{i}: {found} {wanted}");
    }
}
