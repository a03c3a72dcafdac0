//! Stands in for `cube/` in a build without GPUs, where no tensor is on one.

use burn::tensor::{Device, Tensor};

use super::attention::Sight;
use super::dropout::Mask;
use super::places::Places;
use super::update::AdamStep;
use super::{Compute, Dense, Norm};

const NONE: &str = "this build has no GPU, so no tensor is on one";

pub(super) fn factors<const D: usize>(_: Mask, _: [usize; D], _: &Device) -> Option<Tensor<D>> {
    None
}

pub(super) fn can_draw(_: &Device) -> bool {
    false
}

pub(super) fn dense(_: Tensor<2>, _: &Dense, _: bool, _: &Compute) -> Tensor<2> {
    unreachable!("{NONE}")
}

pub(super) fn self_attention(_: Tensor<2>, _: &[Dense; 3], _: usize, _: &Sight, _: Option<Mask>, _: &Compute) -> Tensor<2> {
    unreachable!("{NONE}")
}

pub(super) fn norm_of_sum(_: Tensor<2>, _: Option<Tensor<2>>, _: &Norm, _: Option<Mask>) -> Tensor<2> {
    unreachable!("{NONE}")
}

pub(super) fn dense_norm(_: Tensor<2>, _: &Dense, _: Tensor<2>, _: &Norm, _: Option<Mask>, _: &Compute) -> Tensor<2> {
    unreachable!("{NONE}")
}

pub(super) fn rows(_: Tensor<2>, _: &Places) -> Tensor<2> {
    unreachable!("{NONE}")
}

pub(crate) struct GuardedAdam;

impl GuardedAdam {
    pub fn new(_: &Tensor<1>, _: usize) -> Self {
        unreachable!("{NONE}")
    }

    pub fn step<const D: usize>(
        &mut self,
        _: &Tensor<D>,
        _: &Tensor<D>,
        _: [Tensor<D>; 2],
        _: &AdamStep,
    ) -> (Tensor<D>, [Tensor<D>; 2]) {
        unreachable!("{NONE}")
    }

    pub fn launch(self) {
        unreachable!("{NONE}")
    }
}

pub(crate) fn guard(_: &Tensor<1>, _: &Tensor<1>, _: &Tensor<1>, _: &Tensor<1>) -> Tensor<1> {
    unreachable!("{NONE}")
}

pub(crate) fn squares(_: &[Tensor<1>]) -> Tensor<1> {
    unreachable!("{NONE}")
}
