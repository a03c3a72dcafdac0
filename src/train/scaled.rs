//! A step's losses, gradients and their norms; with loss scaling, where products are f16.

use std::ops::Range;

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Tensor;

use super::Learner;
use super::numbers::{Norms, Parts};
use super::reduce::over_workers;
use super::workers::Worker;
use crate::device::Compute;
use crate::error::Result;
use crate::methods::{BatchSize, Method, Settings};
use crate::model::Dropout;
use crate::optim::{global_norm, scale, squared_norm};

/// What is worked out of a step.
pub(super) struct Share<'a, B> {
    /// The whole step's batch, and what it counts.
    pub batch: &'a B,
    pub whole: BatchSize,
    /// The rows that go at once, one part after another.
    pub parts: Vec<Range<usize>>,
    pub at: &'a [Settings],
    pub step: u64,
    /// Whose share it is, where several workers share the batch.
    pub worker: Option<&'a Worker>,
}

/// These rows in parts of at most `at_once`, in order.
pub(super) fn parts(rows: Range<usize>, at_once: usize) -> Vec<Range<usize>> {
    let end = rows.end;
    rows.step_by(at_once.max(1)).map(|first| first..end.min(first + at_once.max(1))).collect()
}

/// Losses, gradients and the norms of these, of every model over the parts of a batch; gradients are summed, over all
/// workers too.
///
/// Scaled gradients that overflow are worked out again with half the factor, from the same batch and masks: no step is
/// lost, and a run stays a function of its plan. Those of a loss that is not finite are given as they are, once no
/// smaller factor is left.
///
/// # Errors
/// When the device fails, or another worker.
pub(super) async fn gradients<M: Method + ?Sized>(
    method: &M,
    learners: &mut [Learner<M::Model>],
    share: &Share<'_, M::Batch>,
) -> Result<(Vec<Parts>, Vec<GradientsParams>, Norms)> {
    loop {
        let keyed = |learner: &Learner<M::Model>| Dropout::new(learner.dropout, learner.seed ^ share.step.rotate_left(32));
        let dropout: Vec<Dropout> = learners.iter().map(keyed).collect();
        let factor = |learner: &Learner<M::Model>| learner.optimizer.loss_scale().map(|scale| scale.factor());
        let factors: Vec<Option<f64>> = learners.iter().map(factor).collect();
        let models: Vec<&M::Model> = learners.iter().map(|learner| &learner.model).collect();
        let (mut losses, mut gradients) = accumulate(method, &models, share, &dropout, &factors)?;
        if let Some(worker) = share.worker {
            (losses, gradients) = over_workers(worker, &models, losses, gradients).await?;
        }
        if factors.iter().all(Option::is_none) {
            let norms = norms(method.compute(), &models, &gradients);
            return Ok((losses, gradients, norms));
        }
        let unscaled = |((model, gradients), factor): ((&&M::Model, GradientsParams), &Option<f64>)| match factor {
            Some(factor) => scale(*model, gradients, 1.0 / factor),
            None => gradients,
        };
        let gradients: Vec<GradientsParams> = models.iter().zip(gradients).zip(&factors).map(unscaled).collect();
        let norms = norms(method.compute(), &models, &gradients).read().await?;
        let are_finite: Vec<bool> = norms.iter().map(|norm| norm.is_finite()).collect();
        let mut is_taken = are_finite.iter().all(|is_finite| *is_finite);
        // A step that is not taken counts for those alone whose gradients overflowed.
        let all_finite = is_taken;
        for (learner, is_finite) in learners.iter_mut().zip(are_finite).filter(|(_, is_finite)| all_finite || !is_finite) {
            match learner.optimizer.loss_scale().and_then(|scale| scale.after(is_finite)) {
                Some(scale) => learner.optimizer.set_loss_scale(scale),
                None => is_taken = true,
            }
        }
        if is_taken {
            return Ok((losses, gradients, Norms::Host(norms)));
        }
    }
}

/// Of all models' gradients: known at once on a CPU, on their way elsewhere.
fn norms<M: Module>(compute: &Compute, models: &[&M], gradients: &[GradientsParams]) -> Norms {
    let each = models.iter().zip(gradients);
    match compute.traits.is_cpu {
        true => Norms::Host(each.map(|(model, gradients)| global_norm(*model, gradients)).collect()),
        false => {
            Norms::Squares(Tensor::cat(each.map(|(model, gradients)| squared_norm(*model, gradients, compute)).collect(), 0))
        }
    }
}

/// Each loss is multiplied by its model's factor before its backward pass.
fn accumulate<M: Method + ?Sized>(
    method: &M,
    models: &[&M::Model],
    share: &Share<M::Batch>,
    dropout: &[Dropout],
    factors: &[Option<f64>],
) -> Result<(Vec<Parts>, Vec<GradientsParams>)> {
    let mut sums: Vec<Parts> = models.iter().map(|_| Parts::default()).collect();
    let mut accumulators: Vec<_> = models.iter().map(|_| GradientsAccumulator::<M::Model>::new()).collect();
    for rows in &share.parts {
        let part = method.part(share.batch, rows.clone());
        let mut dropout: Vec<Dropout> = dropout.iter().map(|dropout| dropout.clone().of_rows(rows.clone())).collect();
        let losses = method.losses(models, &part, share.at, share.whole, &mut dropout)?;
        for ((((model, loss), sum), accumulator), factor) in
            models.iter().zip(losses).zip(&mut sums).zip(&mut accumulators).zip(factors)
        {
            let total = match factor {
                Some(factor) => loss.total.clone() * *factor,
                None => loss.total.clone(),
            };
            sum.add(loss);
            accumulator.accumulate(model, GradientsParams::from_grads(total.backward(), *model));
        }
    }
    Ok((sums, accumulators.iter_mut().map(GradientsAccumulator::grads).collect()))
}
