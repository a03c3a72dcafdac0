//! Stands in for `cube/` in a build without GPUs, where no tensor is on one.

use burn::tensor::{Device, Int, Tensor};

use super::dropout::Mask;
use super::places::Places;
use super::update::AdamStep;

const NONE: &str = "this build has no GPU, so no tensor is on one";

pub(super) fn factors<const D: usize>(_: Mask, _: [usize; D], _: &Device) -> Option<Tensor<D>> {
    None
}

pub(super) fn can_draw(_: &Device) -> bool {
    false
}

pub(super) fn gelu<const D: usize>(_: Tensor<D>) -> Tensor<D> {
    unreachable!("{NONE}")
}

pub(super) fn norm(_: Tensor<2>, _: Option<Tensor<2>>, _: Tensor<1>, _: Tensor<1>, _: f64, _: Option<Mask>) -> Tensor<2> {
    unreachable!("{NONE}")
}

pub(super) fn shares(_: Tensor<4>, _: &Tensor<1, Int>, _: f64, _: Option<Mask>) -> Tensor<4> {
    unreachable!("{NONE}")
}

pub(super) fn rows(_: Tensor<2>, _: &Places) -> Tensor<2> {
    unreachable!("{NONE}")
}

pub(crate) fn adam<const D: usize>(
    _: &Tensor<D>,
    _: &Tensor<D>,
    _: [Tensor<D>; 2],
    _: &AdamStep,
    _: (&Tensor<1>, usize),
) -> (Tensor<D>, [Tensor<D>; 2]) {
    unreachable!("{NONE}")
}

pub(crate) fn guard(_: &Tensor<1>, _: &Tensor<1>, _: &Tensor<1>, _: &Tensor<1>) -> Tensor<1> {
    unreachable!("{NONE}")
}

pub(crate) fn squares(_: &[Tensor<1>]) -> Tensor<1> {
    unreachable!("{NONE}")
}
