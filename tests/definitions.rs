//! Every form of a layer's operation against its definition in plain loops, `shaders/layers.rs`: values, and gradients
//! by all that it reads.

#[path = "../shaders/layers.rs"]
pub(crate) mod layers;

use burn::tensor::{Device, Tensor, TensorData};
use upstill::batch::TokenOrder;
use upstill::device::{Compute, Kernels};
use upstill::kernels::dwt_loss::spread;
use upstill::kernels::{
    Dense, Direction, Dropout, Heads, Norm, Places, Rotary, Sight, bilstm, dense, dense_gelu, dense_norm, dense_sum, gelu_gate,
    grouped_attention, linear, look_up, norm_of_sum, rms_norm, rotary_attention, self_attention, silu_gate, tanh_gelu,
};

use self::layers::Sees;
use crate::close::{Kind, close};
use crate::layers::{Side, host, on_both_sides};

on_both_sides!(
    dense_layers_are_products_and_biases,
    norms_are_of_sums,
    attention_is_over_what_a_position_sees,
    rotary_attention_turns_queries_and_keys,
    what_a_pre_norm_layer_adds_is_a_gated_product,
    what_a_causal_layer_has_of_its_own_is_a_norm_and_a_gate,
    grouped_attention_shares_keys_and_values,
    rows_of_a_table_are_looked_up,
    lstms_go_on_as_long_as_their_rows,
);

/// An operation's inputs: rows and columns, and their numbers.
struct Input(usize, usize, Vec<f32>);

/// `[rows, columns]` of numbers from -3 to 3, times a scale.
fn input(rows: usize, columns: usize, seed: u64, scale: f32) -> Input {
    Input(rows, columns, spread(rows * columns, seed).into_iter().map(|x| x * scale).collect())
}

/// Holds every form on a side to the definition, for a weighted sum of what it gives. `leaves_out` are numbers of the
/// output that the definition leaves open.
fn hold(
    side: Side,
    inputs: &[Input],
    leaves_out: impl Fn(usize) -> bool,
    define: impl Fn(&[Vec<f64>]) -> Vec<f64>,
    run: impl Fn(&[Tensor<2>], &Compute) -> Tensor<2>,
) {
    let plain: Vec<Vec<f64>> = inputs.iter().map(|Input(.., values)| values.iter().map(|&x| f64::from(x)).collect()).collect();
    let wanted = define(&plain);
    let mut weights = spread(wanted.len(), 77);
    weights.iter_mut().enumerate().filter(|(at, _)| leaves_out(*at)).for_each(|(_, weight)| *weight = 0.0);
    let exact: Vec<f64> = weights.iter().map(|&weight| f64::from(weight)).collect();
    let gradients = layers::differences(&plain, &exact, &define);
    let values: Vec<f64> = wanted.iter().zip(&exact).map(|(value, weight)| value * weight).collect();
    let (computes, kind) = match side {
        Side::Cpu => {
            let cpu = Compute::of(&Device::flex());
            (vec![cpu.clone().by(Kernels::Composed), cpu.by(Kernels::Fused)], Kind::GradientOfFactors)
        }
        Side::Gpu => (vec![Compute::of(&crate::common::gpu().handle).by(Kernels::Fused)], Kind::ParametersGradientGpu),
    };
    for compute in computes {
        let device = compute.device.clone().autodiff();
        let leaf = |Input(rows, columns, values): &Input| {
            Tensor::<2>::from_data(TensorData::new(values.clone(), [*rows, *columns]), &device).require_grad()
        };
        let leaves: Vec<Tensor<2>> = inputs.iter().map(leaf).collect();
        let out = run(&leaves, &compute);
        let weighted = out.clone() * Tensor::from_data(TensorData::new(weights.clone(), out.dims()), &compute.device);
        close(&host(weighted.clone()), &values, kind);
        let found = weighted.sum().backward();
        for (leaf, wanted) in leaves.iter().zip(&gradients) {
            close(&host(leaf.grad(&found).unwrap()), wanted, kind);
        }
    }
}

fn everywhere(_: usize) -> bool {
    false
}

fn vector(x: &Tensor<2>) -> Tensor<1> {
    x.clone().squeeze_dim(0)
}

fn dense_layers_are_products_and_biases(side: Side) {
    for (n, d, f) in [(1, 1, 1), (3, 5, 7), (9, 12, 8)] {
        let inputs = [input(n, d, 1, 1.0), input(d, f, 2, 0.3), input(1, f, 3, 1.0)];
        let layer = |x: &[Tensor<2>]| Dense { weight_df: x[1].clone(), bias_f: vector(&x[2]) };
        hold(
            side,
            &inputs,
            everywhere,
            |x| layers::dense(&x[0], &x[1], &x[2]),
            |x, compute| dense(x[0].clone(), &layer(x), compute),
        );
        let define = |x: &[Vec<f64>]| layers::dense(&x[0], &x[1], &x[2]).into_iter().map(layers::gelu).collect();
        hold(side, &inputs, everywhere, define, |x, compute| dense_gelu(x[0].clone(), &layer(x), compute));
        let define = |x: &[Vec<f64>]| layers::dense(&x[0], &x[1], &vec![0.0; f]);
        hold(side, &inputs[..2], everywhere, define, |x, compute| linear(x[0].clone(), x[1].clone(), compute));
    }
}

fn norms_are_of_sums(side: Side) {
    for (n, d, f) in [(1, 3, 2), (5, 8, 3), (4, 13, 6)] {
        let norm = |gamma: &Tensor<2>, beta: &Tensor<2>, epsilon| Norm { gamma_d: vector(gamma), beta_d: vector(beta), epsilon };
        let sum = |a: &[f64], b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a + b).collect() };
        let inputs = [input(n, d, 1, 1.0), input(1, d, 2, 1.0), input(1, d, 3, 1.0)];
        let define = |x: &[Vec<f64>]| layers::norm(&x[0], &x[1], &x[2], 1e-5);
        hold(side, &inputs, everywhere, define, |x, compute| {
            norm_of_sum(x[0].clone(), None, &norm(&x[1], &x[2], 1e-5), &mut Dropout::off(), compute)
        });
        let inputs = [inputs, [input(n, d, 4, 1.0), input(n, f, 5, 1.0), input(f, d, 6, 0.5)]];
        let inputs: Vec<Input> = inputs.into_iter().flatten().collect();
        let define = |x: &[Vec<f64>]| {
            let product = layers::dense(&x[4], &x[5], &x[2]);
            layers::norm(&sum(&sum(&x[0], &x[3]), &product), &x[1], &x[2], 1e-12)
        };
        hold(side, &inputs, everywhere, define, |x, compute| {
            let layer = Dense { weight_df: x[5].clone(), bias_f: vector(&x[2]) };
            let residual = x[0].clone() + x[3].clone();
            dense_norm(x[4].clone(), &layer, residual, &norm(&x[1], &x[2], 1e-12), &mut Dropout::off(), compute)
        });
    }
}

/// Two rows of 8 positions: segments of 1, 4 and 2 and padding; one of 8.
const SEGMENTS: [i32; 16] = [1, 2, 2, 2, 2, 3, 3, 0, 1, 1, 1, 1, 1, 1, 1, 1];
const POSITIONS: [i32; 16] = [0, 0, 1, 2, 3, 0, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7];

/// Every kind of sight, and its definition.
fn sights() -> Vec<(Sight, Sees<'static>)> {
    let all = || Sight::new(&SEGMENTS, 8);
    let sees = Sees { segments: &SEGMENTS, length: 8, is_causal: false, window: None };
    vec![
        (all(), sees),
        (all().in_order(TokenOrder::Causal), Sees { is_causal: true, ..sees }),
        (all().within(3), Sees { window: Some(3), ..sees }),
        (all().within(20), Sees { window: Some(20), ..sees }),
        (all().in_order(TokenOrder::Causal).within(2), Sees { is_causal: true, window: Some(2), ..sees }),
    ]
}

fn attention_is_over_what_a_position_sees(side: Side) {
    for (heads, width) in [(1, 3), (2, 4)] {
        let d = heads * width;
        for (sight, sees) in sights() {
            let matrices = (2..5).map(|seed| input(d, d, seed, 0.2));
            let inputs: Vec<Input> = [input(16, d, 1, 1.0)].into_iter().chain(matrices).collect();
            let define = |x: &[Vec<f64>]| {
                let of = |which: usize| layers::dense(&x[0], &x[which], &vec![0.1; d]);
                layers::attention(&of(1), &of(2), &of(3), heads, &sees)
            };
            hold(
                side,
                &inputs,
                |at| SEGMENTS[at / d] == 0,
                define,
                |x, compute| {
                    let bias = || Tensor::full([d], 0.1, &x[1].device());
                    let layers = [1, 2, 3].map(|which| Dense { weight_df: x[which].clone(), bias_f: bias() });
                    self_attention(x[0].clone(), &layers, heads, &sight, &mut Dropout::off(), compute)
                },
            );
        }
    }
}

fn rotary_attention_turns_queries_and_keys(side: Side) {
    let (heads, d, theta) = (2, 8, 100.0);
    for (sight, sees) in sights() {
        let define = |x: &[Vec<f64>]| {
            let part = |which: usize| -> Vec<f64> { x[0].chunks(3 * d).flat_map(|row| row[which * d..][..d].to_vec()).collect() };
            let turned = |which: usize| layers::turned(&part(which), &POSITIONS, heads, theta);
            layers::attention(&turned(0), &turned(1), &part(2), heads, &sees)
        };
        hold(
            side,
            &[input(16, 3 * d, 1, 0.5)],
            |at| SEGMENTS[at / d] == 0,
            define,
            |x, compute| {
                let rotary = Rotary::new(&Places::new(&POSITIONS, &compute.device), d / heads, theta);
                rotary_attention(x[0].clone(), heads, &sight, &rotary, &mut Dropout::off(), compute)
            },
        );
    }
}

fn what_a_pre_norm_layer_adds_is_a_gated_product(side: Side) {
    for (n, f, d) in [(1, 1, 1), (5, 6, 3), (4, 9, 8)] {
        let define = |x: &[Vec<f64>]| layers::gelu_gate(&x[0], f);
        hold(side, &[input(n, 2 * f, 1, 1.0)], everywhere, define, |x, compute| gelu_gate(x[0].clone(), compute));
        let inputs = [input(n, f, 1, 1.0), input(f, d, 2, 0.3), input(n, d, 3, 1.0)];
        let define = |x: &[Vec<f64>]| {
            let product = layers::dense(&x[0], &x[1], &vec![0.0; d]);
            product.iter().zip(&x[2]).map(|(product, residual)| product + residual).collect()
        };
        hold(side, &inputs, everywhere, define, |x, compute| {
            dense_sum(x[0].clone(), x[1].clone(), x[2].clone(), &mut Dropout::off(), compute)
        });
    }
}

fn what_a_causal_layer_has_of_its_own_is_a_norm_and_a_gate(side: Side) {
    for (n, heads, w) in [(1, 1, 1), (5, 1, 8), (3, 2, 7)] {
        let inputs = [input(n, heads * w, 1, 1.0), input(1, w, 2, 1.0)];
        let define = |x: &[Vec<f64>]| layers::rms_norm(&x[0], &x[1], 1e-3);
        hold(side, &inputs, everywhere, define, |x, compute| rms_norm(x[0].clone(), vector(&x[1]), 1e-3, compute));
        let inputs = [input(n, heads * w, 1, 1.0), input(n, heads * w, 2, 1.0)];
        let define = |x: &[Vec<f64>]| layers::silu_gate(&x[0], &x[1]);
        hold(side, &inputs, everywhere, define, |x, compute| silu_gate(x[0].clone(), x[1].clone(), compute));
        let define = |x: &[Vec<f64>]| layers::tanh_gelu(&x[0]);
        hold(side, &[input(n, heads * w, 1, 2.0)], everywhere, define, |x, compute| tanh_gelu(x[0].clone(), compute));
    }
}

fn grouped_attention_shares_keys_and_values(side: Side) {
    let (queries, keys, w, theta) = (4, 2, 4, 100.0);
    for (sight, sees) in sights() {
        let inputs = [input(16, queries * w, 1, 0.5), input(16, keys * w, 2, 0.5), input(16, keys * w, 3, 0.5)];
        let define = |x: &[Vec<f64>]| {
            let query = layers::turned(&x[0], &POSITIONS, queries, theta);
            let key = layers::shared(&layers::turned(&x[1], &POSITIONS, keys, theta), w, queries / keys);
            layers::attention(&query, &key, &layers::shared(&x[2], w, queries / keys), queries, &sees)
        };
        hold(
            side,
            &inputs,
            |at| SEGMENTS[at / (queries * w)] == 0,
            define,
            |x, compute| {
                let rotary = Rotary::new(&Places::new(&POSITIONS, &compute.device), w, theta);
                let inputs = [0, 1, 2].map(|which| x[which].clone());
                grouped_attention(inputs, Heads { queries, keys }, &sight, Some(&rotary), &mut Dropout::off(), compute)
            },
        );
    }
}

fn rows_of_a_table_are_looked_up(side: Side) {
    let rows = [3, 0, 3, 3, 1, 4];
    for d in [1, 6, 9] {
        hold(
            side,
            &[input(6, d, 1, 1.0)],
            everywhere,
            |x| layers::look_up(&x[0], &rows, d),
            |x, compute| look_up(x[0].clone(), &Places::new(&rows, &compute.device), compute),
        );
    }
}

fn lstms_go_on_as_long_as_their_rows(side: Side) {
    let active = [3, 3, 2, 1];
    for h in [1, 3] {
        let inputs: Vec<Input> = [1, 2]
            .into_iter()
            .map(|seed| input(12, 4 * h, seed, 0.5))
            .chain([3, 4].map(|seed| input(h, 4 * h, seed, 0.4)))
            .collect();
        let define = |x: &[Vec<f64>]| [layers::lstm(&x[0], &x[2], h, &active), layers::lstm(&x[1], &x[3], h, &active)].concat();
        hold(side, &inputs, everywhere, define, |x, compute| {
            let direction =
                |which: usize| Direction { gates_ng: x[which].clone(), recurrent_hg: x[2 + which].clone(), keep_bh: None };
            bilstm([direction(0), direction(1)], &active, compute).reshape([2 * 4 * 3, h])
        });
    }
}
