//! What decides about an update while its losses are still on the device.

mod composed;
#[cfg(feature = "gpu")]
mod cube;

use burn::tensor::Tensor;

/// The largest loss, and squared norm of a gradient, that count as finite.
const LARGEST: f32 = 3.0e38;

/// From the guard before, each model's loss and squared gradient norm of this step, and its largest norm (0 does not
/// clip): whether this step and all before were finite, 1 or 0, and each model's clipping factor, `[1 + models]`.
pub(crate) fn next_guard(before: &Tensor<1>, totals: &Tensor<1>, squares: &Tensor<1>, clips: &Tensor<1>) -> Tensor<1> {
    #[cfg(feature = "gpu")]
    if !crate::device::is_cpu(&before.device()) {
        return cube::next_guard(before, totals, squares, clips);
    }
    composed::next_guard(before, totals, squares, clips)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn a_step_that_is_not_finite_ends_all_and_norms_above_the_largest_are_clipped() {
        let device = Device::flex();
        let next = |alive: f32, totals: [f32; 3], squares: [f32; 3]| -> Vec<f32> {
            let of = |values: &[f32]| Tensor::<1>::from_floats(values, &device);
            let before = of(&[alive, 9.0, 9.0, 9.0]);
            next_guard(&before, &of(&totals), &of(&squares), &of(&[1.0, 0.0, 5.0])).into_data().try_to_vec().unwrap()
        };
        assert_eq!(next(1.0, [2.0; 3], [4.0, 4.0, 4.0]), [1.0, 0.5, 1.0, 1.0]);
        assert_eq!(next(0.0, [2.0; 3], [4.0, 4.0, 4.0])[0], 0.0, "it stays ended");
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(next(1.0, [2.0, bad, 2.0], [4.0; 3])[0], 0.0, "a loss of {bad}");
        }
        for bad in [f32::NAN, f32::INFINITY] {
            assert_eq!(next(1.0, [2.0; 3], [4.0, 4.0, bad])[0], 0.0, "a norm of {bad}");
        }
    }
}
