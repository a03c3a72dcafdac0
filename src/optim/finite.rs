//! Whether all of a model's weights are numbers.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

use crate::device::failed;
use crate::error::Result;
use crate::model::Weights;

/// The names of the tensors that hold something that is not a finite number; none of a healthy model. One pass on the
/// device and one number a tensor back.
///
/// # Errors
/// When the device fails.
pub async fn not_finite<M: Module>(model: &M) -> Result<Vec<String>> {
    let mut sums = Sums::default();
    model.visit(&mut sums);
    if sums.0.is_empty() {
        return Ok(Vec::new());
    }
    let sums = Tensor::cat(sums.0, 0).into_data_async().await.map_err(|error| failed("the weights", &error))?;
    if sums.iter::<f32>().all(f32::is_finite) {
        return Ok(Vec::new());
    }
    // A sum overflows too where its terms are huge but finite: the values themselves decide.
    let weights = Weights::read_back(model).await;
    let is_broken = |values: &[f32]| values.iter().any(|value| !value.is_finite());
    Ok(weights.iter().filter(|(_, tensor)| is_broken(&tensor.values)).map(|(name, _)| name.to_owned()).collect())
}

/// Each tensor's sum of absolute values, which is finite only if all of them are.
#[derive(Default)]
struct Sums(Vec<Tensor<1>>);

impl ModuleVisitor for Sums {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let value = if value.device().is_autodiff() { value.inner() } else { value };
        self.0.push(value.abs().sum());
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::device::wait;
    use crate::model::BertShape;

    #[test]
    fn a_weight_that_is_no_number_is_named_wherever_it_is() {
        let device = Device::flex();
        let shape = BertShape::new(11, 8, 1, 2, 6);
        let model = shape.init(1, 0.02, &device);
        assert!(wait(not_finite(&model)).unwrap().is_empty());
        let names: Vec<String> = Weights::of(&model).iter().map(|(name, _)| name.to_owned()).collect();
        for (at, name) in names.iter().enumerate() {
            let mut weights = Weights::of(&model);
            let mut tensor = weights.get(name).unwrap().clone();
            let last = tensor.values.len() - 1;
            tensor.values[at % (last + 1)] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][at % 3];
            weights.insert(name, tensor.clone());
            let broken = weights.load_into(shape.init(1, 0.0, &device.clone().autodiff())).unwrap();
            assert_eq!(wait(not_finite(&broken)).unwrap(), std::slice::from_ref(name));
            // Huge is not broken.
            tensor.values.fill(f32::MAX);
            weights.insert(name, tensor);
            let huge = weights.load_into(shape.init(1, 0.0, &device)).unwrap();
            assert!(wait(not_finite(&huge)).unwrap().is_empty());
        }
    }
}
