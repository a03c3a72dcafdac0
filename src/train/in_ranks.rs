//! A run among several processes: what ranks compare before and while they train, and the ranks that only take part.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::learners::{model_folder, optimizer_file, projections_file, restored, set_out};
use super::peers::Peers;
use super::ranks::Ranks;
use super::workers::{Worker, together};
use super::{FitOptions, Flow, Learner, fit_ahead};
use crate::checkpoint::verify;
use crate::config::{Plan, RuntimePlan};
use crate::device::{Compute, Device, Traits};
use crate::error::{Error, IoContext, Result};
use crate::files::Files;
use crate::files::manifest::hash;
use crate::log::{StepRecord, Summary};
use crate::model::{TrainedModel, Weights};
use crate::tokens::Shards;

/// What rank 0 found in the run's directory.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Begun {
    /// What the run came to, where it is finished already.
    summary: Option<Summary>,
    /// Steps done.
    done: u64,
    /// The last record with an evaluation before.
    evaluated: Option<StepRecord>,
    /// The checkpoint's files that follow, by their names.
    files: Vec<String>,
}

/// Refuses ranks that were not started alike.
///
/// # Errors
/// Names a rank, and what it has otherwise than rank 0.
pub(super) fn agree_on_start(ranks: &Ranks, plan: &Plan, device: &Device) -> Result<()> {
    let RuntimePlan { precision, kernels, workers, sum_dtype, .. } = &plan.runtime;
    let compute = Compute::of_run(&device.handle, *kernels, *precision)?;
    let version = format!("{} ({})", env!("CARGO_PKG_VERSION"), env!("UPSTILL_COMMIT"));
    let facts = [
        ("upstill", version),
        ("kind of device", device.kind.word().to_owned()),
        ("runtime.precision", compute.precision.to_string()),
        ("runtime.kernels", kernels.map_or("auto".to_owned(), |kernels| kernels.to_string())),
        ("runtime.workers", workers.to_string()),
        ("runtime.sum_dtype", sum_dtype.to_string()),
    ];
    let facts = facts.map(|(name, value)| (name.to_owned(), value));
    ranks.must_agree(&facts, "start the same upstill with the same run file and options on every rank")?;

    let first = ranks.from_first(plan.to_toml().as_bytes());
    let first: Plan = toml::from_str(&String::from_utf8_lossy(&first))
        .map_err(|error| Error::new(format!("rank 0 sent a plan that can't be read: {}", error.to_string().trim_end())))?;
    let said = ranks.all_say(&plan.differences(&first).join("\n  "));
    match said.iter().enumerate().find(|(_, differences)| !differences.is_empty()) {
        Some((rank, differences)) => Err(Error::new(format!("rank {rank} has another plan than rank 0:\n  {differences}"))
            .help("every rank needs the same run file, shards, tokenizer and teacher; their folders may lie elsewhere")),
        None => Ok(()),
    }
}

/// Refuses to go on where the ranks' weights are not the same to the bit.
///
/// # Errors
/// Names a rank, the tensor and the model.
pub(super) fn agree_on_weights(ranks: &Ranks, learners: &[Learner<TrainedModel>], done: u64) -> Result<()> {
    let mut facts = Vec::new();
    for learner in learners {
        for (name, tensor) in Weights::of(&learner.model).iter() {
            let bytes: Vec<u8> = tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let what = format!("{name} of the {} after {done} steps", learner.name);
            facts.push((what, hash(&bytes)[..16].to_owned()));
        }
    }
    ranks.must_agree(
        &facts,
        "the weights of all ranks must stay the same: use machines of one kind, each with as many threads; --resume goes on from the \
         last checkpoint",
    )
}

/// Tells the other ranks that the run is finished.
pub(super) fn tell_finished(ranks: Option<&Arc<Ranks>>, summary: &Summary) {
    if let Some(ranks) = ranks {
        ranks.from_first(&json(&Begun { summary: Some(summary.clone()), ..Begun::default() }));
    }
}

/// Sends the other ranks what they begin with: the checkpoint in a folder, or nothing.
///
/// # Errors
/// When the checkpoint can't be read, or is no longer whole.
pub(super) fn send_checkpoint(
    ranks: &Ranks,
    plan: &Plan,
    folder: Option<&Path>,
    done: u64,
    evaluated: Option<&StepRecord>,
) -> Result<()> {
    let files = folder.map_or(Vec::new(), |_| files_of(plan));
    ranks.from_first(&json(&Begun { summary: None, done, evaluated: evaluated.cloned(), files: files.clone() }));
    if let Some(folder) = folder {
        verify(folder)?;
        for name in files {
            let path = folder.join(name);
            ranks.from_first(&std::fs::read(&path).doing("read", &path)?);
        }
    }
    Ok(())
}

/// The files of a checkpoint that training goes on from.
fn files_of(plan: &Plan) -> Vec<String> {
    let has_projections = plan.distill.layers.projections().contains(&true);
    let all = |name: &str| {
        let both = [model_folder(name).join("model.safetensors"), optimizer_file(name)];
        both.into_iter().chain(has_projections.then(|| projections_file(name)))
    };
    let files = plan.learners().into_iter().flat_map(|own| all(&own.name));
    files.map(|path| path.to_string_lossy().replace('\\', "/")).collect()
}

fn json(begun: &Begun) -> Vec<u8> {
    serde_json::to_vec(begun).expect("what a rank says can be written")
}

/// Takes part in a run as a rank that is not the first: the same steps from the same checkpoint. It writes nothing.
///
/// # Errors
/// As [`train_run_in_ranks`](super::train_run_in_ranks).
pub(super) fn follow(plan: &Plan, shards: &Shards, devices: &[Device], ranks: &Arc<Ranks>) -> Result<Summary> {
    let begun: Begun = heard(&ranks.from_first(&[]))?;
    if let Some(summary) = begun.summary {
        return Ok(summary);
    }
    let files: Files = begun.files.into_iter().map(|name| (name, ranks.from_first(&[]))).collect();
    let begin = |device: &Device| -> Result<_> {
        let (learners, method) = set_out(plan, shards, None, &device.handle)?;
        let read = |file: &Path| {
            let name = file.to_string_lossy().replace('\\', "/");
            Weights::from_bytes(files.get(&name).ok_or_else(|| Error::new(format!("rank 0 sent no {name}")))?)
        };
        Ok((if files.is_empty() { learners } else { restored(learners, read)? }, method))
    };
    let options = FitOptions {
        train: &plan.train,
        micro_batch: plan.runtime.micro_batch,
        done: begun.done,
        evaluated: begun.evaluated.as_ref(),
        worker: None,
    };
    let ahead = Traits::of(&devices[0].handle).steps_ahead;
    let mut reached = begun.done;
    let (learners, method) = begin(&devices[0])?;
    agree_on_weights(ranks, &learners, begun.done)?;
    let observe = |records: &[StepRecord], learners: &[Learner<TrainedModel>]| {
        reached = records.last().map_or(reached, |record| record.step + 1);
        let stops = ranks.must_stop() && reached < plan.train.steps;
        if plan.train.has_checkpoint(reached) || stops {
            agree_on_weights(ranks, learners, reached)?;
        }
        Ok(if stops { Flow::Stop } else { Flow::Continue })
    };
    let first = |worker: Option<&Worker>| fit_ahead(method.as_ref(), learners, &FitOptions { worker, ..options }, ahead, observe);
    let other = |worker: &Worker| {
        let (learners, method) = begin(worker.device())?;
        let options = FitOptions { worker: Some(worker), ..options };
        fit_ahead(method.as_ref(), learners, &options, ahead, |_, _| Ok(Flow::Continue)).map(drop)
    };
    let (peers, _) = Peers::agreed(ranks, plan.runtime.sum_dtype, devices);
    let trained = together(devices, Some(&peers), first, other)?;
    if reached < plan.train.steps {
        return Err(Error::interrupted(format!("stopped at step {reached} of {}", plan.train.steps)));
    }
    agree_on_weights(ranks, &trained, reached)?;
    let Begun { summary, .. } = heard(&ranks.from_first(&[]))?;
    summary.ok_or_else(|| Error::new("rank 0 did not say what the run came to"))
}

fn heard(bytes: &[u8]) -> Result<Begun> {
    serde_json::from_slice(bytes).map_err(|error| Error::new(format!("what rank 0 said can't be read: {error}")))
}
