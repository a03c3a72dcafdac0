//! How fast a plan would go here: one part of its first batch, forward and backward, and no weight moves.

use std::time::Instant;

use super::learners::set_out;
use crate::config::{Plan, Speed};
use crate::device::{Device, DeviceKind, wait};
use crate::error::Result;
use crate::model::{Dropout, LanguageModel};
use crate::tokens::Shards;

/// FLOPs that a trial may cost; on a slow CPU about a second.
const FLOPS: f64 = 2e10;

/// Real tokens a second of a plan's training step on this device, from one timed part of a batch after one that warms
/// up. The optimizer's own time is left out: it is small beside a whole batch's.
///
/// # Errors
/// When the teacher can't be loaded.
pub fn trial_speed(plan: &Plan, shards: &Shards, device: &Device) -> Result<Speed> {
    let work = plan.estimate().computed;
    let step_flops = (work.student + work.teacher).max(1.0);
    let rows = ((plan.train.batch as f64 * FLOPS / step_flops) as usize).clamp(1, plan.rows_at_once());
    // Those of one CPU share its threads; what summing their gradients takes is left out.
    let workers = if device.kind == DeviceKind::Cpu { 1 } else { plan.runtime.workers };
    let (learners, method) = set_out(plan, shards, None, &device.handle)?;
    let models: Vec<_> = learners.iter().map(|learner| &learner.model).collect();
    let at = method.settings(0);
    let mut tokens_per_s = 0.0;
    for batch in method.batches(0, 2) {
        let part = method.part(&batch, 0..rows.min(method.size(&batch).rows));
        let size = method.size(&part);
        let started = Instant::now();
        let part = wait(method.complete(&part, &at, rows))?.unwrap_or(part);
        let mut dropout: Vec<Dropout> = learners.iter().map(|learner| Dropout::new(learner.dropout, 0)).collect();
        for (model, loss) in models.iter().zip(method.losses(&models, &part, &at, size, &mut dropout)?) {
            let gradients = loss.total.backward();
            // Reading one gradient back waits for all of the backward pass.
            let words = model.lm.words().grad(&gradients);
            let _ = words.map(|words| words.sum().into_scalar::<f32>());
        }
        tokens_per_s = (workers * size.tokens) as f64 / started.elapsed().as_secs_f64().max(1e-9);
    }
    Ok(Speed::Tokens(tokens_per_s))
}
