//! The operations of an encoder layer and the optimizer's update on this device, against burn's own operations on the
//! CPU.

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use upstill::config::{RunFile, TrainPlan};
use upstill::device::{Compute, Kernels, Traits};
use upstill::kernels::dwt_loss::spread;
use upstill::kernels::{Dense, Dropout, Norm, Places, Sight, dense_gelu, dense_norm, look_up, self_attention};
use upstill::model::BertShape;
use upstill::optim::{Guard, Optimizer, global_norm, scale, squared_norm};
use upstill::tokens::pocket_shards;
use upstill::train::plan_in_memory;
use upstill::{Error, Result};

use super::{Check, read};
use crate::settings::{Role, Settings};

/// Every form of each operation that the device has: values and all gradients.
///
/// # Errors
/// When the device can't be read.
pub(super) async fn check_layers(device: &Device) -> Result<Vec<Check>> {
    let cpu = Device::flex();
    let mut out = Vec::new();
    for (name, run) in OPERATIONS {
        let wanted = read_all(run(&Compute::of(&cpu).by(Kernels::Composed))).await?;
        for &form in Traits::of(device).kernels {
            let found = read_all(run(&Compute::of(device).by(form))).await?;
            out.push(Check {
                name: format!("{name}, {}", form.word()),
                cases: 1,
                excess: found.iter().zip(&wanted).map(|(found, wanted)| excess(found, wanted)).fold(0.0, worse),
                worst: name.to_owned(),
            });
        }
    }
    if *device != cpu {
        out.push(check_update(device).await?);
    }
    Ok(out)
}

/// The larger, or infinity where one is no number.
pub(super) fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::INFINITY } else { a.max(b) }
}

/// In units of what is allowed: `ParametersGradientGpu` of `tests/close.rs`.
fn excess(found: &[f32], wanted: &[f32]) -> f64 {
    let largest = wanted.iter().fold(0.0f64, |largest, x| largest.max(f64::from(x.abs())));
    let off = found.iter().zip(wanted).map(|(found, wanted)| (f64::from(*found) - f64::from(*wanted)).abs());
    off.fold(0.0, worse) / (1e-6 + 2e-5 * largest)
}

type Outcome = Vec<Tensor<1>>;
type Run = fn(&Compute) -> Outcome;

const OPERATIONS: [(&str, Run); 4] = [
    ("dense layer and GELU", |compute| {
        let device = &compute.device;
        let bias_f = leaf::<1>([33], 3, device);
        let inputs = [leaf([70, 48], 1, device), leaf([48, 33], 2, device)];
        outcome(&inputs, std::slice::from_ref(&bias_f), 4, |[x, weight_df]| {
            dense_gelu(x, &Dense { weight_df, bias_f: bias_f.clone() }, compute)
        })
    }),
    ("dense layer and norm of a sum", |compute| {
        let device = &compute.device;
        let [bias_f, gamma_d, beta_d] = [3, 4, 6].map(|seed| leaf::<1>([49], seed, device));
        let vectors = [bias_f.clone(), gamma_d.clone(), beta_d.clone()];
        let norm = Norm { gamma_d, beta_d, epsilon: 1e-12 };
        let inputs = [leaf([70, 33], 1, device), leaf([70, 49], 2, device), leaf([33, 49], 7, device)];
        outcome(&inputs, &vectors, 5, |[x, r, weight_df]| {
            dense_norm(x, &Dense { weight_df, bias_f: bias_f.clone() }, r, &norm, &mut Dropout::new(0.3, 9), compute)
        })
    }),
    ("attention", |compute| {
        let device = &compute.device;
        let sight = Sight::new(&[[1, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3], [1; 12]].concat(), 12);
        // One leaf of three: the key's bias has no gradient but rounding.
        let biases = leaf::<1>([48], 4, device);
        let inputs = [leaf([24, 16], 1, device), leaf([16, 16], 2, device), leaf([16, 16], 3, device), leaf([16, 16], 8, device)];
        outcome(&inputs, std::slice::from_ref(&biases), 7, |[x, query, key, value]| {
            let [a, b, c] = [0, 16, 32].map(|from| biases.clone().narrow(0, from, 16));
            let layers =
                [(query, a), (key, b), (value, c)].map(|(weight_df, bias_f)| Dense { weight_df: weight_df / 16.0, bias_f });
            self_attention(x, &layers, 2, &sight, &mut Dropout::new(0.2, 5), compute)
        })
    }),
    ("rows of a table", |compute| {
        let device = &compute.device;
        let rows: Vec<i32> = (0..70).map(|i| if i % 3 == 0 { 4 } else { i % 4 }).collect();
        let places = Places::new(&rows, device);
        outcome(&[leaf([6, 64], 1, device)], &[], 2, |[table]| look_up(table, &places, compute))
    }),
];

fn leaf<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
    let values = spread(shape.iter().product(), seed);
    Tensor::from_data(TensorData::new(values, shape), &device.clone().autodiff()).require_grad()
}

/// The value of `run`, and the gradients of its product with other numbers.
fn outcome<const A: usize>(
    leaves: &[Tensor<2>; A],
    vectors: &[Tensor<1>],
    seed: u64,
    run: impl Fn([Tensor<2>; A]) -> Tensor<2>,
) -> Outcome {
    let out = run(leaves.clone());
    let shape = out.dims();
    let weights = TensorData::new(spread(shape[0] * shape[1], seed), shape);
    let gradients = (out.clone() * Tensor::from_data(weights, &out.device().inner())).sum().backward();
    let value = out.inner().flatten(0, 1);
    let of_leaves = leaves.iter().filter_map(|leaf| Some(leaf.grad(&gradients)?.flatten(0, 1)));
    let of_vectors = vectors.iter().filter_map(|leaf| leaf.grad(&gradients));
    std::iter::once(value).chain(of_leaves).chain(of_vectors).collect()
}

async fn read_all(tensors: Outcome) -> Result<Vec<Vec<f32>>> {
    let mut out = Vec::new();
    for tensor in tensors {
        out.push(read(tensor).await?);
    }
    Ok(out)
}

/// Three clipped updates that obey a guard, against the CPU's.
async fn check_update(device: &Device) -> Result<Check> {
    let train = train_plan()?;
    let cpu = Device::flex();
    let of = |device: &Device| BertShape::new(8, 4, 1, 2, 4).init(1, 0.5, &device.clone().autodiff());
    let (mut here, mut there) = (of(device), of(&cpu));
    let (mut rule_here, mut rule_there) = (Optimizer::new(&train), Optimizer::new(&train));
    let mut guard = Guard::new(device, &[0.5]);
    for _ in 0..3 {
        let gradients = |model: &upstill::model::BertForMaskedLm| {
            let loss = model.bert.embeddings.word_embeddings.weight.val().powf_scalar(2.0).sum() * 0.5;
            GradientsParams::from_grads(loss.backward(), model)
        };
        let (of_here, of_there) = (gradients(&here), gradients(&there));
        guard = guard.after(&Tensor::ones([1], device), &squared_norm(&here, &of_here, &Compute::of(device)));
        here = rule_here.step(1e-2, here, of_here, Some(guard.model(0)));
        let norm = global_norm(&there, &of_there);
        let of_there = scale(&there, of_there, 0.5 / norm.max(0.5));
        there = rule_there.step(1e-2, there, of_there, None);
    }
    let table = |model: &upstill::model::BertForMaskedLm| model.bert.embeddings.word_embeddings.weight.val().inner();
    let (found, wanted) = (read(table(&here)).await?, read(table(&there)).await?);
    // `WeightsAfterSteps` of `tests/close.rs`.
    let off = |(found, wanted): (&f32, &f32)| f64::from((found - wanted).abs()) / (1e-5 + 1e-5 * f64::from(wanted.abs()));
    let excess = found.iter().zip(&wanted).map(off).fold(0.0, worse);
    Ok(Check { name: "update, guarded".into(), cases: 3, excess, worst: "three clipped steps".into() })
}

fn train_plan() -> Result<TrainPlan> {
    let file = RunFile::parse(&Settings::default().run_file(Role::Alone, "pocket"), "the check")?;
    let plan =
        plan_in_memory(&file, &pocket_shards()?, None).map_err(|error| Error::new(format!("the check's plan: {error}")))?;
    Ok(plan.train)
}
