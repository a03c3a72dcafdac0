//! Each kernel on this device: the loss against its definition in f64, the others against burn's operations on the CPU.

mod layers;

use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::Serialize;
use upstill::device::{Compute, Kernels, Traits};
use upstill::kernels::dwt_loss::{Case, cases};
use upstill::kernels::{Logits, Targets};
use upstill::loss::dwt_loss;
use upstill::{Error, Result};

/// One form of a kernel over all cases: the largest excess of a number over what is allowed; 1 is the limit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// The kernel and its form.
    pub name: String,
    /// Cases held to the definition.
    pub cases: usize,
    /// The largest difference, in units of what is allowed.
    pub excess: f64,
    /// The case that it is in.
    pub worst: String,
}

/// Checks every form of each kernel that the device has, values and gradients.
///
/// # Errors
/// When the device can't be read.
pub async fn check_kernels(device: &Device) -> Result<Vec<Check>> {
    let mut out = Vec::new();
    // Large cases take a software GPU minutes, and find nothing that the small ones don't; without slots nothing is
    // launched.
    let cases: Vec<Case> = cases().into_iter().filter(|case| case.m > 0 && case.m * case.v <= 4096).collect();
    for &form in Traits::of(device).kernels {
        let mut check =
            Check { name: format!("distillation loss, {}", form.word()), cases: cases.len(), excess: 0.0, worst: String::new() };
        for case in &cases {
            let excess = excess_of(case, form, device).await?;
            if excess > check.excess || excess.is_nan() {
                (check.excess, check.worst) = (excess, case.name.to_string());
            }
        }
        out.push(check);
    }
    out.extend(layers::check_layers(device).await?);
    Ok(out)
}

async fn excess_of(case: &Case, form: Kernels, device: &Device) -> Result<f64> {
    let wanted = case.reference();
    let shape = [case.m, case.v];
    let upload = |values: &[f32], device: &Device| Tensor::<2>::from_data(TensorData::new(values.to_vec(), shape), device);
    let student_mv = upload(&case.student_mv, &device.clone().autodiff()).require_grad();
    let teacher = case.loss.alpha_soft.map(|_| Logits::Whole(upload(&case.teacher_mv, device)));
    let targets = Targets {
        labels_m: Tensor::<1, Int>::from_data(TensorData::new(case.labels_m.clone(), [case.m]), device),
        weights_m: Tensor::from_data(TensorData::new(case.weights_m.clone(), [case.m]), device),
        count: 1,
    };
    let loss = dwt_loss(Logits::Whole(student_mv.clone()), teacher, &targets, &case.loss, &Compute::of(device).by(form));
    let gradient_mv = student_mv.grad(&loss.total.clone().backward()).ok_or_else(|| Error::new("the loss has no gradient"))?;
    let total = read(loss.total.inner()).await?;
    let found = read(gradient_mv).await?;
    let total_wanted = case.loss.hard_factor() * wanted.hard + case.loss.soft_factor() * wanted.soft;
    // As `tests/close.rs` allows on a GPU, where burn adds up slots one after another in f32 and WGSL's exp is off by 3
    // + 2 |x| units in the last place.
    let of_loss = (f64::from(total[0]) - total_wanted).abs() / (1e-5 + 1e-4 * total_wanted.abs());
    let largest = wanted.gradient_mv.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
    let allowed = 1e-6 + 1e-5 * largest;
    let off = found.iter().zip(&wanted.gradient_mv).map(|(&found, wanted)| (f64::from(found) - wanted).abs());
    let of_gradient = off.fold(0.0f64, |worst, off| if off.is_nan() { f64::NAN } else { worst.max(off) }) / allowed;
    Ok(layers::worse(of_loss, of_gradient))
}

async fn read<const D: usize>(x: Tensor<D>) -> Result<Vec<f32>> {
    let data = x.into_data_async().await.map_err(|error| Error::new(format!("the device could not be read: {error:?}")))?;
    data.convert::<f32>().try_to_vec().map_err(|error| Error::new(format!("no numbers: {error:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_passes_and_says_of_what() {
        let checks = pollster::block_on(check_kernels(&Device::flex())).unwrap();
        let names: Vec<&str> = checks.iter().map(|check| check.name.as_str()).collect();
        assert_eq!(names[..3], ["distillation loss, composed", "distillation loss, fused", "dense layer and GELU, composed"]);
        assert_eq!(names.len(), 10, "{names:?}");
        for check in checks {
            assert!(check.excess <= 1.0 && check.cases > 0, "{check:?}");
        }
    }
}
