//! The normal distribution, as GELU has it.

use cubecl::prelude::*;

/// exp(-x^2 / 2), which the normal distribution's density and its integral have in common; 0 below exp's range.
#[cube]
pub(in crate::kernels) fn bell<W: Size>(x: Vector<f32, W>) -> Vector<f32, W> {
    max(Vector::new(-0.5f32) * x * x, Vector::new(-87.0f32)).exp()
}

/// The normal distribution's integral up to x, of the same x's bell: 1 less half of it times a polynomial, from 0 on
/// (Abramowitz and Stegun 1964, 7.1.26, within 7.5e-8), and what is left of 1 below 0.
#[cube]
pub(in crate::kernels) fn below<W: Size>(x: Vector<f32, W>, bell: Vector<f32, W>) -> Vector<f32, W> {
    let one = Vector::<f32, W>::new(1.0f32);
    let t = one / (one + Vector::new(0.231_641_9f32) * x.abs());
    let mut sum = Vector::new(0.530_702_7f32) * t + Vector::new(-0.726_576f32);
    sum = sum * t + Vector::new(0.710_706_9f32);
    sum = sum * t + Vector::new(-0.142_248_37f32);
    sum = sum * t + Vector::new(0.127_414_8f32);
    let beyond = sum * t * bell;
    select_many(x.less_than(&Vector::new(0.0f32)), beyond, one - beyond)
}
