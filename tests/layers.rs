//! The fused operations of an encoder layer, the CPU's and a GPU's, against their composed forms: values and every
//! gradient.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use upstill::batch::TokenOrder;
use upstill::device::{Compute, DeviceKind, Kernels, Precision};
use upstill::kernels::dwt_loss::spread;
use upstill::kernels::{
    Dense, Dropout, Norm, Places, Sight, dense, dense_gelu, dense_norm, look_up, norm_of_sum, self_attention,
};
use upstill::model::{BertShape, Inputs};
use upstill::optim::global_norm;

use crate::close::{Kind, close};

pub(crate) fn leaf<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
    let values = spread(shape.iter().product(), seed);
    Tensor::from_data(TensorData::new(values, shape), &device.clone().autodiff()).require_grad()
}

pub(crate) fn host<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_to_vec().unwrap()
}

/// The value of `run`, and the gradients of its product with a matrix of other numbers. The operation is used twice, so
/// that gradients add up.
pub(crate) fn value_and_gradients<const A: usize>(
    leaves: [Tensor<2>; A],
    vectors: &[Tensor<1>],
    weights: &[f32],
    run: impl Fn([Tensor<2>; A]) -> Tensor<2>,
) -> Vec<Vec<f32>> {
    let out = run(leaves.clone());
    let weights = Tensor::<2>::from_data(TensorData::new(weights.to_vec(), out.dims()), &out.device().inner());
    let value = host(out.clone() * weights.clone());
    let total = (out * weights.clone()).sum() + (run(leaves.clone()) * weights).sum() * 0.5;
    let gradients = total.backward();
    let mut all = vec![value];
    all.extend(leaves.iter().map(|leaf| host(leaf.grad(&gradients).unwrap())));
    all.extend(vectors.iter().map(|leaf| host(leaf.grad(&gradients).unwrap())));
    all
}

/// Where fused kernels are held to burn's operations on the CPU.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    Cpu,
    Gpu,
}

/// Holds fused kernels to the composed ones.
pub(crate) fn compare(side: Side, run: impl Fn(&Compute) -> Vec<Vec<f32>>) {
    let cpu = Compute::of(&Device::flex());
    let wanted = run(&cpu.clone().by(Kernels::Composed));
    let (fused, kind) = match side {
        Side::Cpu => (cpu, Kind::GradientOfFactors),
        Side::Gpu => {
            let gpu = crate::common::gpu();
            let is_cuda = gpu.kind == DeviceKind::Cuda;
            (Compute::of(&gpu.handle), if is_cuda { Kind::LayerThroughTf32 } else { Kind::ParametersGradientGpu })
        }
    };
    hold(&run(&fused.by(Kernels::Fused)), &wanted, kind);
}

/// A test on the CPU, and one on a GPU that is ignored unless asked for.
macro_rules! on_both_sides {
    ($($check:ident),+ $(,)?) => {
        $(mod $check {
            #[test]
            fn on_the_cpu() {
                super::$check(super::Side::Cpu);
            }

            #[test]
            #[ignore = "needs a GPU: UPSTILL_TEST_GPU=software cargo test -- --ignored gpu"]
            fn on_a_gpu() {
                super::$check(super::Side::Gpu);
            }
        })+
    };
}

pub(crate) use on_both_sides;

on_both_sides!(
    a_dense_layer_is_a_product_and_a_bias_with_or_without_gelu,
    the_norm_of_a_sum_is_dropout_a_sum_and_a_norm,
    attention_by_segments_is_attention_with_the_others_ruled_out,
    rows_of_a_table_are_looked_up_and_their_gradients_added_up,
    hidden_states_at_some_positions_are_those_among_all,
);

fn hold(found: &[Vec<f32>], wanted: &[Vec<f32>], kind: Kind) {
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(wanted) {
        close(found, wanted, kind);
    }
}

/// Rows, width in, width out: odd sizes, one of each, more than a thread's part, and with one or two more whole fours,
/// which GPUs take at once, a few of them a lane.
const SIZES: [(usize, usize, usize); 6] = [(1, 1, 1), (3, 5, 7), (130, 48, 33), (70, 64, 300), (9, 767, 12), (5, 126, 8)];

fn a_dense_layer_is_a_product_and_a_bias_with_or_without_gelu(side: Side) {
    for ((n, d, f), has_gelu) in SIZES.into_iter().flat_map(|size| [(size, false), (size, true)]) {
        let run = |compute: &Compute| {
            let device = &compute.device;
            let (x_nd, weight_df, bias_f) = (leaf([n, d], 1, device), leaf([d, f], 2, device), leaf([f], 3, device));
            let bias = bias_f.clone();
            value_and_gradients([x_nd, weight_df], &[bias_f], &spread(n * f, 4), move |[x, weight_df]| {
                let layer = Dense { weight_df, bias_f: bias.clone() };
                if has_gelu { dense_gelu(x, &layer, compute) } else { dense(x, &layer, compute) }
            })
        };
        compare(side, run);
    }
}

fn the_norm_of_a_sum_is_dropout_a_sum_and_a_norm(side: Side) {
    for ((n, d, f), rate) in SIZES.into_iter().flat_map(|size| [(size, 0.0), (size, 0.3)]) {
        // The norm of one number is 0 whatever it is.
        let d = d + 1;
        // Of a part of a batch: where rows don't end with a word of four, kernels leave the masks to the host.
        let dropout = || Dropout::new(rate, 9).of_rows(1..1 + n);
        let run = |compute: &Compute| {
            let device = &compute.device;
            let (gamma_d, beta_d) = (leaf([d], 3, device), leaf([d], 4, device));
            let norm = Norm { gamma_d: gamma_d.clone(), beta_d: beta_d.clone(), epsilon: 1e-12 };
            value_and_gradients(
                [leaf([n, d], 1, device), leaf([n, d], 2, device)],
                &[gamma_d, beta_d],
                &spread(n * d, 5),
                move |[x, r]| norm_of_sum(x, Some(r), &norm, &mut dropout(), compute),
            )
        };
        compare(side, run);
        let alone = |compute: &Compute| {
            let device = &compute.device;
            let (gamma_d, beta_d) = (leaf([d], 3, device), leaf([d], 4, device));
            let norm = Norm { gamma_d: gamma_d.clone(), beta_d: beta_d.clone(), epsilon: 1e-5 };
            value_and_gradients([leaf([n, d], 1, device)], &[gamma_d, beta_d], &spread(n * d, 5), move |[x]| {
                norm_of_sum(x, None, &norm, &mut Dropout::new(rate, 9), compute)
            })
        };
        compare(side, alone);
        // A norm of two numbers gives -1 and 1 whatever they are: gradients would be rounding alone.
        let d = d + 1;
        let of_dense = |compute: &Compute| {
            let device = &compute.device;
            let [gamma_d, beta_d, bias_d] = [3, 4, 6].map(|seed| leaf([d], seed, device));
            let norm = Norm { gamma_d: gamma_d.clone(), beta_d: beta_d.clone(), epsilon: 1e-12 };
            let bias = bias_d.clone();
            value_and_gradients(
                [leaf([n, f], 1, device), leaf([n, d], 2, device), leaf([f, d], 7, device)],
                &[gamma_d, beta_d, bias_d],
                &spread(n * d, 5),
                move |[x, r, weight_df]| {
                    dense_norm(x, &Dense { weight_df, bias_f: bias.clone() }, r, &norm, &mut dropout(), compute)
                },
            )
        };
        compare(side, of_dense);
    }
}

fn attention_by_segments_is_attention_with_the_others_ruled_out(side: Side) {
    // Two rows of 12: segments of 1, 5 and 4 and padding; one of 12.
    let segments_bs = [[1, 2, 2, 2, 2, 2, 3, 3, 3, 3, 0, 0], [1; 12]].concat();
    for (heads, width, rate) in [(1, 1, 0.0), (2, 8, 0.0), (3, 5, 0.2), (2, 40, 0.2)] {
        let (n, d) = (24, heads * width);
        // What padding gets is nobody's concern: no weight, no gradient.
        let mut weights = spread(n * d, 7);
        (0..n).filter(|&at| segments_bs[at] == 0).for_each(|at| weights[at * d..][..d].fill(0.0));
        let run = |compute: &Compute, limit: fn(Sight) -> Sight| {
            let device = &compute.device;
            let sight = limit(Sight::new(&segments_bs, 12));
            // One leaf of three: the key's bias has no gradient but rounding, as it adds the same to all scores of a
            // query.
            let biases = leaf([3 * d], 4, device);
            let of_layers = biases.clone();
            let leaves = [leaf([n, d], 1, device), leaf([d, d], 2, device), leaf([d, d], 3, device), leaf([d, d], 8, device)];
            value_and_gradients(leaves, &[biases], &weights, move |[x, query, key, value]| {
                let [a, b, c] = [0, 1, 2].map(|which| of_layers.clone().narrow(0, which * d, d));
                // Weights as they are in a model: scores in the thousands would make softmax a choice.
                let layers = [(query, a), (key, b), (value, c)]
                    .map(|(weight_df, bias_f)| Dense { weight_df: weight_df / d as f32, bias_f });
                self_attention(x, &layers, heads, &sight, &mut Dropout::new(rate, 5).of_rows(1..3), compute)
            })
        };
        let limits: [fn(Sight) -> Sight; 5] = [
            |all| all,
            |all| all.in_order(TokenOrder::Causal),
            |all| all.within(3),
            |all| all.within(100),
            |all| all.in_order(TokenOrder::Causal).within(2),
        ];
        for limit in limits {
            compare(side, |compute| run(compute, limit));
        }
    }
}

fn rows_of_a_table_are_looked_up_and_their_gradients_added_up(side: Side) {
    // One row often, one never, more columns than a cube has invocations; then more rows than a thread takes, the last
    // ones never.
    let few: Vec<i32> = (0..70).map(|i| if i % 3 == 0 { 4 } else { i % 4 }).collect();
    let many: Vec<i32> = [149, 63, 64, 65, 0, 127, 128].repeat(2);
    for (rows, v, d) in [(few, 6, 300), (many, 300, 5)] {
        let run = |compute: &Compute| {
            let device = &compute.device;
            let (places, weights) = (Places::new(&rows, device), spread(rows.len() * d, 2));
            value_and_gradients([leaf([v, d], 1, device)], &[], &weights, move |[table]| look_up(table, &places, compute))
        };
        compare(side, run);
    }
}

#[test]
#[ignore = "needs a GPU: UPSTILL_TEST_GPU=software cargo test -- --ignored gpu"]
fn a_gpu_draws_the_hosts_dropout_masks() {
    let gpu = crate::common::gpu();
    for (count, row) in [(1, 0), (7, 0), (1027, 0), (1027, 3), (1027, 4)] {
        let drawn = |device: &Device| {
            let ones = Tensor::<1>::ones([count], device);
            let mut dropout = Dropout::new(0.3, 0x0123_4567_89ab_cdef).of_rows(row..row + 1);
            // The second site.
            dropout.apply(ones.clone());
            host(dropout.apply(ones))
        };
        assert_eq!(drawn(&gpu.handle), drawn(&Device::flex()));
    }
}

/// The rounding of numbers with 8 bits, and what it comes to, in burn's operations and our own.
#[test]
fn layers_in_bf16_are_those_in_f32_but_for_rounding() {
    for kernels in [Kernels::Composed, Kernels::Fused] {
        layers_in_bf16(kernels);
    }
}

fn layers_in_bf16(kernels: Kernels) {
    let device = Device::flex();
    let in_precision = |precision| {
        let compute = Compute::of(&device).by(kernels).in_dtype(precision);
        let (gamma, beta, bias) = (leaf([64], 3, &device), leaf([64], 4, &device), leaf([64], 6, &device));
        let sight = Sight::new(&[1; 48], 24);
        let vectors = [gamma.clone(), beta.clone(), bias.clone()];
        value_and_gradients(
            [leaf([48, 64], 1, &device), leaf([64, 64], 2, &device)],
            &vectors,
            &spread(48 * 64, 5),
            move |[x, w]| {
                // Weights as they are in a model: scores in the thousands would make softmax a choice.
                let layer = Dense { weight_df: w * 0.05, bias_f: bias.clone() };
                let wide = dense_gelu(x.clone(), &layer, &compute);
                let layers = [(); 3].map(|()| layer.clone());
                let context = self_attention(wide, &layers, 4, &sight, &mut Dropout::off(), &compute);
                let norm = Norm { gamma_d: gamma.clone(), beta_d: beta.clone(), epsilon: 1e-12 };
                norm_of_sum(context, Some(x), &norm, &mut Dropout::off(), &compute)
            },
        )
    };
    let (bf16, f32) = (in_precision(Precision::Bf16), in_precision(Precision::F32));
    assert_ne!(bf16[0], f32[0], "the values were rounded");
    for (found, wanted) in bf16.iter().zip(&f32) {
        assert!(found.iter().all(|x| x.is_finite()));
        let (mut off, mut all) = (0.0, 0.0);
        for (found, wanted) in found.iter().zip(wanted) {
            off += f64::from(found - wanted).powi(2);
            all += f64::from(*wanted).powi(2);
        }
        // A factor is off by up to 2^-9 = 0.2 %; half a dozen roundings follow each other here.
        assert!((off / all).sqrt() < 2.5e-2, "off by {} of the norm", (off / all).sqrt());
    }
}

/// Half of the sum of the squares of all parameters: each one's gradient is its value.
struct HalfSquares(Option<Tensor<1>>);

impl ModuleVisitor for HalfSquares {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let half = param.val().square().sum() * 0.5;
        self.0 = Some(self.0.take().map_or(half.clone(), |sum| sum + half));
    }
}

#[test]
#[ignore = "needs a GPU: UPSTILL_TEST_GPU=software cargo test -- --ignored gpu"]
fn the_norm_of_all_gradients_is_the_same_on_a_gpu() {
    let gpu = crate::common::gpu();
    // 24 tensors of 1 to 30,000 elements; the longest takes more than a cube's share.
    let norm = |device: &Device| {
        let model = BertShape::new(3001, 10, 1, 2, 7).init(5, 0.5, &device.clone().autodiff());
        let mut half = HalfSquares(None);
        model.visit(&mut half);
        let gradients = GradientsParams::from_grads(half.0.unwrap().backward(), &model);
        global_norm(&model, &gradients)
    };
    let (found, wanted) = (norm(&gpu.handle), norm(&Device::flex()));
    close(&[found], &[wanted], Kind::ParametersGradientGpu);
}

fn hidden_states_at_some_positions_are_those_among_all(side: Side) {
    // Of two rows, out of order and one of them twice; what padding sees is left open.
    let at = [6, 0, 6, 3, 8, 12];
    for layers in [1, 3] {
        let of = |compute: &Compute, is_picked: bool| {
            let device = &compute.device;
            let model = BertShape::new(50, 24, layers, 2, 8).init(5, 0.3, &device.clone().autodiff());
            let ids: Vec<i32> = (0..16).map(|i| i * 3 % 50).collect();
            let positions: Vec<i32> = (0..8).chain(0..8).collect();
            let segments = [1, 1, 1, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 0, 0, 0];
            let inputs = Inputs::new(&ids, &positions, &segments, 2, compute);
            let (at, mut off) = (Places::new(&at, device), Dropout::off());
            let found_md = match is_picked {
                true => model.bert.hidden_at(&inputs, &at, &mut off),
                false => look_up(model.bert.hidden(&inputs, &mut off), &at, compute),
            };
            let weights = Tensor::<2>::from_data(TensorData::new(spread(6 * 24, 2), [6, 24]), device);
            let gradients = (found_md.clone() * weights).sum().backward();
            let (first, last) = (&model.bert.encoder.layer[0], &model.bert.encoder.layer[layers - 1]);
            let of_parameters = [
                &model.bert.embeddings.word_embeddings.weight,
                &first.attention.self_.key.weight,
                &first.intermediate.dense.weight,
                &last.attention.output.dense.weight,
                &last.output.dense.weight,
            ]
            .map(|param| host(param.val().grad(&gradients).unwrap()));
            std::iter::once(host(found_md)).chain(of_parameters).collect::<Vec<_>>()
        };
        let composed = Compute::of(&Device::flex()).by(Kernels::Composed);
        let wanted = of(&composed, false);
        hold(&of(&composed, true), &wanted, Kind::GradientOfFactors);
        compare(side, |compute| if compute.kernels == Kernels::Composed { wanted.clone() } else { of(compute, true) });
    }
}

/// As many of each row: a part of a batch has its rows of the batch's masks, in the last layer too.
#[test]
fn dropout_at_some_positions_does_not_depend_on_how_a_batch_is_cut() {
    let device = Device::flex();
    let model = BertShape::new(50, 24, 2, 2, 8).init(5, 0.3, &device);
    let of = |rows: std::ops::Range<usize>| {
        let count = rows.len();
        let ids: Vec<i32> = (rows.start as i32 * 8..rows.end as i32 * 8).map(|i| i % 50).collect();
        let positions: Vec<i32> = (0..count).flat_map(|_| 0..8).collect();
        let at: Vec<i32> = (0..count as i32).flat_map(|row| [8 * row + 2, 8 * row + 5]).collect();
        let inputs = Inputs::new(&ids, &positions, &vec![1; count * 8], count, &Compute::of(&device));
        let mut dropout = Dropout::new(0.3, 11).of_rows(rows);
        host(model.bert.hidden_at(&inputs, &Places::new(&at, &device), &mut dropout))
    };
    let whole = of(0..5);
    assert_eq!([of(0..2), of(2..5)].concat(), whole);
}
