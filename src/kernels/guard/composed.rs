//! The guard of the next step in burn's operations.

use burn::tensor::Tensor;

/// See [`next_guard`](super::next_guard).
pub(super) fn next_guard(before: &Tensor<1>, totals: &Tensor<1>, squares: &Tensor<1>, clips: &Tensor<1>) -> Tensor<1> {
    // Not an infinity and not a NaN, which no comparison holds for.
    let is_finite = |x: &Tensor<1>| x.clone().abs().lower_equal_elem(super::LARGEST).all().float();
    let alive = before.clone().narrow(0, 0, 1) * is_finite(totals) * is_finite(squares);
    let norms = squares.clone().sqrt();
    let clips_them = norms.clone().greater(clips.clone()).bool_and(clips.clone().greater_elem(0.0));
    let factors = norms.ones_like().mask_where(clips_them, clips.clone() / norms);
    Tensor::cat(vec![alive, factors], 0)
}
