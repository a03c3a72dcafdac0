//! Every form of a fused operation against its definition, over the case table.

use burn::tensor::{Device, Int, Tensor, TensorData};
use upstill::device::{Compute, Kernels, Precision};
use upstill::kernels::dwt_loss::{BOTH, Case, DwtLoss, cases, spread};
use upstill::kernels::{self, Logits, Outcomes, Targets, few_outcomes, matmul};
use upstill::loss::{StepLoss, dwt_loss, outcomes_loss};

use crate::close::{Kind, close};

fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

fn targets(case: &Case, device: &Device) -> Targets {
    let labels = TensorData::new(case.labels_m.clone(), [case.m]);
    Targets {
        labels_m: Tensor::<1, Int>::from_data(labels, device),
        weights_m: tensor(&case.weights_m, [case.m], device),
        count: 1,
    }
}

fn on_cpu(kernels: Kernels) -> Compute {
    Compute::of(&Device::flex()).by(kernels)
}

fn value(x: Tensor<1>) -> f64 {
    f64::from(x.into_scalar::<f32>())
}

/// Losses of whole logits and the gradient with respect to the student's, by one form.
fn run(case: &Case, form: Kernels, device: &Device) -> (StepLoss, Vec<f32>) {
    let (plain, compute) = (device.clone(), Compute::of(device).by(form));
    let student_mv = tensor(&case.student_mv, [case.m, case.v], &device.clone().autodiff()).require_grad();
    let teacher = case.loss.alpha_soft.map(|_| Logits::Whole(tensor(&case.teacher_mv, [case.m, case.v], &plain)));
    let loss = dwt_loss(Logits::Whole(student_mv.clone()), teacher, &targets(case, &plain), &case.loss, &compute);
    let gradient = student_mv.grad(&loss.total.clone().backward());
    (loss, gradient.map_or_else(Vec::new, |gradient| gradient.into_data().try_to_vec().unwrap()))
}

fn hold_to_the_reference(form: Kernels, device: &Device, cases: &[Case], losses: Kind, gradients: Kind) {
    for case in cases {
        let wanted = case.reference();
        let (loss, gradient_mv) = run(case, form, device);
        println!("{form:?}: {}", case.name);
        if case.loss.alpha_hard.is_some() {
            close(&[value(loss.hard)], &[wanted.hard], losses);
        }
        if case.loss.alpha_soft.is_some() {
            close(&[value(loss.soft.unwrap())], &[wanted.soft], losses);
        }
        let total = case.loss.hard_factor() * wanted.hard + case.loss.soft_factor() * wanted.soft;
        close(&[value(loss.total)], &[total], losses);
        close(&gradient_mv, &wanted.gradient_mv, gradients);
    }
}

#[test]
fn the_composed_form_is_the_reference() {
    hold_to_the_reference(Kernels::Composed, &Device::flex(), &cases(), Kind::LossOfSlots, Kind::GradientCpu);
}

#[test]
fn the_fused_cpu_form_is_the_reference() {
    hold_to_the_reference(Kernels::Fused, &Device::flex(), &cases(), Kind::LossOfSlots, Kind::GradientCpu);
}

/// Losses and the gradients of hidden states, decoder and bias, when the logits come as factors.
fn run_factors(case: &Case, d: usize, compute: &Compute) -> (f64, [Vec<f32>; 3]) {
    let (plain, tracked) = (compute.device.clone(), compute.device.clone().autodiff());
    let factors = |seed: u64, device: &Device| {
        // Numbers that 16 bits hold too.
        let part = |seed, rows| spread(rows * d, seed).into_iter().map(|x| (x * 0.3 * 256.0).round() / 256.0).collect::<Vec<_>>();
        (
            tensor(&part(seed, case.m), [case.m, d], device),
            tensor(&part(seed + 1, case.v), [case.v, d], device),
            tensor(&spread(case.v, seed + 2), [case.v], device),
        )
    };
    let (hidden_md, words_vd, bias_v) = factors(10, &tracked);
    let (hidden_md, words_vd, bias_v) = (hidden_md.require_grad(), words_vd.require_grad(), bias_v.require_grad());
    let logits = |(hidden_md, words_vd, bias_v): (Tensor<2>, Tensor<2>, Tensor<1>)| Logits::Factors {
        hidden_md: compute.factor(hidden_md),
        words_vd: compute.factor(words_vd),
        bias_v,
    };
    let student = logits((hidden_md.clone(), words_vd.clone(), bias_v.clone()));
    let teacher = logits(factors(20, &plain));
    // A loss that is used twice and scaled: what comes from above reaches the gradients.
    let loss = dwt_loss(student, Some(teacher), &targets(case, &plain), &case.loss, compute).total * 0.5;
    let gradients = loss.clone().backward();
    fn vec<const D: usize>(x: Tensor<D>) -> Vec<f32> {
        x.into_data().try_to_vec().unwrap()
    }
    let found = [
        vec(hidden_md.grad(&gradients).unwrap()),
        vec(words_vd.grad(&gradients).unwrap()),
        vec(bias_v.grad(&gradients).unwrap()),
    ];
    (value(loss), found)
}

#[test]
fn head_and_loss_together_are_the_head_and_then_the_loss() {
    // The last one goes in several chunks, the last of them short.
    for (m, v) in [(1, 31), (7, 257), (1100, 33), (300, 30522)] {
        let case = Case::new("factors", m, v, DwtLoss { smoothing: 0.1, ..BOTH });
        let (composed, composed_gradients) = run_factors(&case, 24, &on_cpu(Kernels::Composed));
        let (fused, fused_gradients) = run_factors(&case, 24, &on_cpu(Kernels::Fused));
        close(&[fused], &[composed], Kind::LossOfSlots);
        for (fused, composed) in fused_gradients.iter().zip(&composed_gradients) {
            close(fused, composed, Kind::GradientOfFactors);
        }
    }
}

#[test]
#[ignore = "needs a GPU: UPSTILL_TEST_GPU=software cargo test -- --ignored gpu"]
fn the_forms_of_a_software_gpu_are_the_reference() {
    let gpu = crate::common::gpu();
    for form in [Kernels::Fused, Kernels::CubeCl] {
        hold_on_a_gpu(form, &gpu.handle);
    }
}

fn hold_on_a_gpu(form: Kernels, gpu: &Device) {
    // Without slots there is nothing to launch.
    let cases: Vec<Case> = cases().into_iter().filter(|case| case.m > 0).collect();
    hold_to_the_reference(form, gpu, &cases, Kind::LossOfSlotsGpu, Kind::GradientGpu);
    for (m, v) in [(1, 31), (70, 257)] {
        let case = Case::new("factors", m, v, DwtLoss { smoothing: 0.1, ..BOTH });
        let (composed, composed_gradients) = run_factors(&case, 24, &on_cpu(Kernels::Composed));
        let (fused, fused_gradients) = run_factors(&case, 24, &Compute::of(gpu).by(form));
        close(&[fused], &[composed], Kind::LossOfSlots);
        for (fused, composed) in fused_gradients.iter().zip(&composed_gradients) {
            close(fused, composed, Kind::GradientOfFactors);
        }
    }
}

/// WGSL has f16 where a device offers it: losses are worked out in f32 from f16 factors, and gradients leave in f16.
#[test]
#[ignore = "needs a GPU: UPSTILL_TEST_GPU=software cargo test -- --ignored gpu"]
fn f16_factors_on_a_software_gpu_give_the_losses_and_gradients_of_f32_but_for_rounding() {
    let gpu = crate::common::gpu();
    if let Err(why) = gpu.must_have(Precision::F16) {
        assert!(why.to_string().contains("does not compute in f16"), "{why}");
        eprintln!("SKIPPED: f16, as this device does not compute in it");
        return;
    }
    for ((m, v), form) in
        [(1, 31), (70, 257), (300, 1757)].into_iter().flat_map(|size| [(size, Kernels::Fused), (size, Kernels::CubeCl)])
    {
        let case = Case::new("factors", m, v, DwtLoss { smoothing: 0.1, ..BOTH });
        let (wanted, wanted_gradients) = run_factors(&case, 24, &on_cpu(Kernels::Composed));
        let compute = Compute::of(&gpu.handle).by(form).in_dtype(Precision::F16);
        let (found, found_gradients) = run_factors(&case, 24, &compute);
        assert!((found - wanted).abs() < 1e-4 * wanted, "{form:?}, {m} x {v}: a loss of {found} for {wanted}");
        for (found, wanted) in found_gradients.iter().zip(&wanted_gradients) {
            let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            let off = norm(&mut found.iter().zip(wanted).map(|(a, b)| a - b)) / norm(&mut wanted.iter().copied());
            // The gradient of a logit is rounded by up to 2^-12, a sum over many by less; the smallest of 1757 lose
            // bits.
            assert!(off < 1e-3, "{form:?}, {m} x {v}: a gradient is off by {off} of its norm");
        }
    }
}

#[test]
fn the_same_numbers_come_out_every_time() {
    let case = Case::new("twice", 300, 1757, BOTH);
    let run = || run_factors(&case, 24, &on_cpu(Kernels::Fused));
    assert_eq!(run(), run());
}

#[test]
fn a_slot_of_weight_0_is_not_read() {
    let mut case = Case::new("unused", 3, 33, BOTH);
    case.student_mv[33] = f32::NAN;
    case.teacher_mv[40] = f32::NAN;
    let (loss, gradient_mv) = run(&case, Kernels::Fused, &Device::flex());
    assert!(value(loss.total).is_finite() && gradient_mv[33..66].iter().all(|&x| x == 0.0));
}

#[test]
fn without_autodiff_there_are_losses_alone() {
    let (case, device) = (Case::new("plain", 5, 33, BOTH), Device::flex());
    let logits = |values: &[f32]| Logits::Whole(tensor(values, [5, 33], &device));
    let loss = dwt_loss(
        logits(&case.student_mv),
        Some(logits(&case.teacher_mv)),
        &targets(&case, &device),
        &BOTH,
        &on_cpu(Kernels::Fused),
    );
    close(&[value(loss.hard)], &[case.reference().hard], Kind::LossOfSlots);
    assert!(!loss.total.device().is_autodiff());
}

/// A product by one form, of factors that lie in memory as the case says, and the gradients of both.
fn multiplied(case: &matmul::Case, form: Kernels, device: &Device) -> [Vec<f32>; 3] {
    let matmul::Case { batch, heads, m, k, n, .. } = *case;
    let leaf = |rows, columns, seed, is_transposed| {
        let values = spread(batch * heads * rows * columns, seed);
        let leaf = tensor(&values, [batch, heads, rows, columns], &device.clone().autodiff());
        // A copy that lies the other way round.
        let leaf = if is_transposed { leaf.swap_dims(2, 3).mul_scalar(1.0).swap_dims(2, 3) } else { leaf };
        leaf.detach().require_grad()
    };
    let (a, b) = (leaf(m, k, 1, case.a_transposed), leaf(k, n, 2, case.b_transposed));
    let out = kernels::matmul(a.clone(), b.clone(), &Compute::of(device).by(form));
    let above = tensor(&spread(batch * heads * m * n, 3), [batch, heads, m, n], device);
    let gradients = (out.clone() * above).sum().backward();
    [Some(out.inner()), a.grad(&gradients), b.grad(&gradients)].map(|x| x.unwrap().into_data().try_to_vec().unwrap())
}

#[test]
#[ignore = "needs a GPU: UPSTILL_TEST_GPU=software cargo test -- --ignored gpu"]
fn software_gpu_products_are_the_reference() {
    let gpu = crate::common::gpu();
    for case in matmul::cases() {
        println!("{case:?}");
        let matmul::Case { batch, heads, m, k, n, .. } = case;
        let found = multiplied(&case, Kernels::Fused, &gpu.handle);
        let values = |rows, columns, seed| spread(batch * heads * rows * columns, seed);
        close(&found[0], &matmul::reference(&case, &values(m, k, 1), &values(k, n, 2)), Kind::GradientOfFactors);
        let by_burn = multiplied(&case, Kernels::Composed, &Device::flex());
        for (found, wanted) in found[1..].iter().zip(&by_burn[1..]) {
            close(found, wanted, Kind::GradientOfFactors);
        }
    }
}

/// Losses against a few outcomes and the gradient with respect to the student's logits, by one form.
fn hold_outcomes_to_the_reference(form: Kernels, device: &Device, losses: Kind, gradients: Kind) {
    // Without slots there is nothing to launch on a GPU.
    let is_cpu = losses == Kind::LossOfSlots;
    for case in few_outcomes::cases().into_iter().filter(|case| is_cpu || case.dense.m > 0) {
        let wanted = few_outcomes::reference(&case);
        println!("{form:?}: {}", case.dense.name);
        let (m, v, loss) = (case.dense.m, case.dense.v, case.dense.loss);
        let student_mv = tensor(&case.dense.student_mv, [m, v], &device.clone().autodiff()).require_grad();
        let (targets, compute) = (targets(&case.dense, device), Compute::of(device).by(form));
        let outcomes = Outcomes::new(case.ids_mk, case.shares_mk, case.rest_m, case.constant_m, device);
        let found = outcomes_loss(Logits::Whole(student_mv.clone()), &outcomes, &targets, &loss, &compute);
        let gradient = student_mv.grad(&found.total.clone().backward());
        let gradient_mv: Vec<f32> = gradient.map_or_else(Vec::new, |gradient| gradient.into_data().try_to_vec().unwrap());
        if loss.alpha_hard.is_some() {
            close(&[value(found.hard)], &[wanted.hard], losses);
        }
        close(&[value(found.soft.unwrap())], &[wanted.soft], losses);
        let total = loss.hard_factor() * wanted.hard + loss.soft_factor() * wanted.soft;
        close(&[value(found.total)], &[total], losses);
        close(&gradient_mv, &wanted.gradient_mv, gradients);
    }
}

#[test]
fn both_forms_of_the_loss_against_outcomes_are_the_reference() {
    for form in [Kernels::Composed, Kernels::Fused] {
        hold_outcomes_to_the_reference(form, &Device::flex(), Kind::LossOfSlots, Kind::GradientCpu);
    }
}

/// The loss against a few outcomes and the gradients of hidden states, decoder and bias, when the logits come as
/// factors.
fn outcomes_of_factors(m: usize, v: usize, compute: &Compute) -> (f64, [Vec<f32>; 3]) {
    let case = few_outcomes::OutcomesCase::top(Case::new("factors", m, v, DwtLoss { smoothing: 0.1, ..BOTH }), 12);
    let (plain, d) = (&compute.device, 24);
    let tracked = plain.clone().autodiff();
    let hidden_md = tensor(&spread(m * d, 10), [m, d], &tracked).require_grad();
    let words_vd = tensor(&spread(v * d, 11), [v, d], &tracked).require_grad();
    let bias_v = tensor(&spread(v, 12), [v], &tracked).require_grad();
    let (words, bias) = (words_vd.clone() * 0.1, bias_v.clone() * 1.0);
    let student = Logits::Factors { hidden_md: hidden_md.clone(), words_vd: words, bias_v: bias };
    let (targets, loss) = (targets(&case.dense, plain), case.dense.loss);
    let outcomes = Outcomes::new(case.ids_mk, case.shares_mk, case.rest_m, case.constant_m, plain);
    let total = outcomes_loss(student, &outcomes, &targets, &loss, compute).total * 0.5;
    let gradients = total.clone().backward();
    let vec = |x: Tensor<2>| x.into_data().try_to_vec::<f32>().unwrap();
    let of_bias: Vec<f32> = bias_v.grad(&gradients).unwrap().into_data().try_to_vec().unwrap();
    (value(total), [vec(hidden_md.grad(&gradients).unwrap()), vec(words_vd.grad(&gradients).unwrap()), of_bias])
}

fn hold_outcomes_of_factors(m: usize, v: usize, fused: &Compute, losses: Kind) {
    let (composed, composed_gradients) = outcomes_of_factors(m, v, &on_cpu(Kernels::Composed));
    let (fused, fused_gradients) = outcomes_of_factors(m, v, fused);
    close(&[fused], &[composed], losses);
    for (fused, composed) in fused_gradients.iter().zip(&composed_gradients) {
        close(fused, composed, Kind::GradientOfFactors);
    }
}

#[test]
fn head_and_loss_against_outcomes_together_are_the_head_and_then_the_loss() {
    for (m, v) in [(7, 257), (300, 30522)] {
        hold_outcomes_of_factors(m, v, &on_cpu(Kernels::Fused), Kind::LossOfSlots);
    }
}

#[test]
#[ignore = "needs a GPU: UPSTILL_TEST_GPU=software cargo test -- --ignored gpu"]
fn every_form_of_the_loss_against_outcomes_on_a_software_gpu_is_the_reference() {
    let gpu = crate::common::gpu();
    for form in [Kernels::Composed, Kernels::Fused] {
        hold_outcomes_to_the_reference(form, &gpu.handle, Kind::LossOfSlotsGpu, Kind::GradientGpu);
    }
    // The last one goes in two chunks, of which the second is short.
    let chunk = Compute::of(&gpu.handle).traits.logits_chunk_bytes / (4 * 30522);
    for (m, v) in [(1, 31), (70, 257), (chunk + 3, 30522)] {
        hold_outcomes_of_factors(m, v, &Compute::of(&gpu.handle).by(Kernels::Fused), Kind::LossOfSlotsGpu);
    }
}
