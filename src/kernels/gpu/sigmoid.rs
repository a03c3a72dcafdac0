//! The logistic function, as gates and GELU by the hyperbolic tangent have it.

use cubecl::prelude::*;

/// `1 / (1 + e^-x)`; below -87, where the exponential leaves f32's range, what it is there.
#[cube]
pub(in crate::kernels) fn sigmoid<W: Size>(x: Vector<f32, W>) -> Vector<f32, W> {
    let one = Vector::<f32, W>::new(1.0f32);
    let fall = Vector::<f32, W>::new(0.0f32) - max(x, Vector::new(-87.0f32));
    one / (one + fall.exp())
}
