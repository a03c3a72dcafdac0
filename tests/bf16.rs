//! Products of bf16 inside the CPU's operations, and what `precision = "auto"` comes to.

use burn::tensor::{Device, Int, Tensor, TensorData};
use upstill::device::{Bf16Unit, Compute, Kernels, Precision, PrecisionChoice};
use upstill::kernels::dwt_loss::{BOTH, spread};
use upstill::kernels::{Logits, Targets};
use upstill::loss::dwt_loss;

use crate::close::{Kind, close};

fn host<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_to_vec().unwrap()
}

/// Losses, and the gradients by hidden states, words and bias.
fn of_head([m, d, v]: [usize; 3], precision: Precision, used: fn(usize) -> bool) -> ([f32; 2], [Vec<f32>; 3]) {
    let device = Device::flex();
    // Exact in bf16, so that forward products are those of f32.
    let exact = |count: usize, seed: u64| spread(count, seed).iter().map(|x| (x * 16.0).round() / 64.0).collect::<Vec<f32>>();
    let leaf = |shape: [usize; 2], seed: u64| {
        let data = TensorData::new(exact(shape.iter().product(), seed), shape);
        Tensor::<2>::from_data(data, &device.clone().autodiff()).require_grad()
    };
    let (hidden_md, words_vd) = (leaf([m, d], 1), leaf([v, d], 2));
    let bias_v = Tensor::<1>::from_data(TensorData::new(exact(v, 3), [v]), &device.clone().autodiff()).require_grad();
    let student = Logits::Factors { hidden_md: hidden_md.clone(), words_vd: words_vd.clone(), bias_v: bias_v.clone() };
    let teacher =
        Logits::Factors { hidden_md: leaf([m, d], 4).inner(), words_vd: leaf([v, d], 5).inner(), bias_v: bias_v.clone().inner() };
    let labels: Vec<i32> = (0..m).map(|slot| (slot * 37 % v) as i32).collect();
    let weights: Vec<f32> = (0..m).map(|slot| if used(slot) { 1.0 } else { 0.0 }).collect();
    let targets = Targets {
        labels_m: Tensor::<1, Int>::from_data(TensorData::new(labels, [m]), &device),
        weights_m: Tensor::from_data(TensorData::new(weights, [m]), &device),
        count: m,
    };
    let compute = Compute::of(&device).by(Kernels::Fused).in_dtype(precision);
    let loss = dwt_loss(student, Some(teacher), &targets, &BOTH, &compute);
    let gradients = loss.total.backward();
    let losses = [loss.hard, loss.soft.unwrap()].map(|loss| loss.into_scalar::<f32>());
    let by = |x: &Tensor<2>| host(x.grad(&gradients).unwrap());
    (losses, [by(&hidden_md), by(&words_vd), host(bias_v.grad(&gradients).unwrap())])
}

#[test]
fn the_loss_with_its_head_in_bf16_is_that_in_f32_but_for_the_rounding_of_its_gradient() {
    type IsUsed = fn(usize) -> bool;
    let cases: [([usize; 3], IsUsed); 4] = [
        ([1, 1, 2], |_| true),
        ([37, 20, 300], |slot| slot % 3 != 0),
        // Several chunks of slots.
        ([170, 8, 30_522], |slot| slot != 5),
        ([3, 4, 5], |_| false),
    ];
    for (sizes, used) in cases {
        let (wanted, found) = (of_head(sizes, Precision::F32, used), of_head(sizes, Precision::Bf16, used));
        close(&found.0, &wanted.0, Kind::LossOfSlots);
        for (at, (found, wanted)) in found.1.iter().zip(&wanted.1).enumerate() {
            assert_eq!(found.len(), wanted.len());
            let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            let off = norm(&mut found.iter().zip(wanted).map(|(found, wanted)| found - wanted));
            let whole = norm(&mut wanted.iter().copied());
            // The bias's is a sum of numbers that are not rounded; the others multiply a gradient that is, by up to
            // 2^-8 of each number, which is less than half of that in the norm.
            let allowed = if at == 2 { 1e-5 } else { 1.0 / 512.0 };
            assert!(off <= allowed * whole, "{sizes:?}, {at}: off by {off}, of {whole}");
            assert_eq!(whole > 0.0, used(1), "there is a gradient where a slot is used");
        }
    }
}

#[test]
fn auto_is_bf16_where_a_cpu_has_instructions_for_it_and_they_are_used() {
    let cpu = Device::flex();
    let (best, words) = match Bf16Unit::here() {
        Bf16Unit::Rounded => (Precision::F32, "auto (f32)"),
        _ => (Precision::Bf16, "auto (bf16 by A"),
    };
    let of = |kernels| Compute::of_run(&cpu, Some(kernels), PrecisionChoice::Auto).unwrap().precision;
    assert_eq!((of(Kernels::Fused), of(Kernels::Composed)), (best, Precision::F32));
    for (choice, wanted) in [
        (PrecisionChoice::F32, Precision::F32),
        (PrecisionChoice::Bf16, Precision::Bf16),
        (PrecisionChoice::F16, Precision::F16),
        (PrecisionChoice::Auto, best),
    ] {
        assert_eq!(choice.on(&cpu, Kernels::Fused), wanted);
    }
    assert_eq!(PrecisionChoice::Auto.words("cuda"), "auto (f32)");
    assert!(PrecisionChoice::Auto.words("cpu").starts_with(words), "{}", PrecisionChoice::Auto.words("cpu"));
    assert!(PrecisionChoice::Bf16.words("cpu").starts_with("bf16 (on the CPU "));
}
