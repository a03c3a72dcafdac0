//! Gradients and losses in one piece, summed over workers, and cut up again.

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use super::numbers::Parts;
use super::workers::Worker;
use crate::error::Result;

/// The sums over all workers of every model's losses and gradients: one sum, whatever there is to add up.
///
/// # Errors
/// When another worker has ended, or the device fails.
pub(super) async fn over_workers<M: Module>(
    worker: &Worker,
    models: &[&M],
    losses: Vec<Parts>,
    gradients: Vec<GradientsParams>,
) -> Result<(Vec<Parts>, Vec<GradientsParams>)> {
    let losses: Vec<Parts> = losses.into_iter().map(Parts::merged).collect();
    let mut pieces: Vec<Tensor<1>> = losses.iter().flat_map(Parts::flat).collect();
    let mut owners: Vec<Vec<ParamId>> = Vec::new();
    for (model, gradients) in models.iter().zip(gradients) {
        let mut join = Join { gradients, pieces, owners: Vec::new() };
        model.visit(&mut join);
        owners.push(join.owners);
        pieces = join.pieces;
    }
    let sum = worker.sum(Tensor::cat(pieces, 0)).await?;

    let mut at = 0;
    let mut next = |length: usize| {
        at += length;
        sum.clone().narrow(0, at - length, length)
    };
    let losses = losses.into_iter().map(|parts| parts.with(|| next(1))).collect();
    let cut = |(model, owners): (&&M, Vec<ParamId>)| {
        let mut cut = Cut { owners, gradients: GradientsParams::new(), next: &mut next };
        model.visit(&mut cut);
        cut.gradients
    };
    Ok((losses, models.iter().zip(owners).map(cut).collect()))
}

/// Takes a model's gradients in the order of its parameters.
struct Join {
    gradients: GradientsParams,
    pieces: Vec<Tensor<1>>,
    owners: Vec<ParamId>,
}

impl ModuleVisitor for Join {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            self.pieces.push(gradient.flatten(0, D - 1));
            self.owners.push(param.id);
        }
    }
}

/// Gives them back to those that had them.
struct Cut<F> {
    owners: Vec<ParamId>,
    gradients: GradientsParams,
    next: F,
}

impl<F: FnMut(usize) -> Tensor<1>> ModuleVisitor for Cut<F> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.owners.contains(&param.id) {
            let shape = param.dims();
            self.gradients.register(param.id, (self.next)(shape.iter().product()).reshape(shape));
        }
    }
}
