//! The processes that share each batch with this one, and how their sums are taken: on the hosts, by MPI, or on the
//! GPUs, by NCCL.
//!
//! All ranks choose alike: each says what it has, and any one of them can rule NCCL out. The sum on the hosts needs
//! nothing but MPI and is always there.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::interrupted;
use super::nccl::{self, Gpus};
use super::ranks::Ranks;
use crate::config::SumDtype;
use crate::device::{Device, DeviceKind};
use crate::error::Result;

/// The other processes, and how sums are taken with them.
#[derive(Debug, Clone)]
pub struct Peers {
    ranks: Arc<Ranks>,
    dtype: SumDtype,
    gpus: Option<Arc<Gpus>>,
}

/// Whether `UPSTILL_SUM=host` is set, for a machine whose NCCL does not work, and to compare.
pub(super) fn asked_for_host() -> bool {
    std::env::var("UPSTILL_SUM").is_ok_and(|word| word == "host")
}

impl Peers {
    /// Sums on the hosts, whatever the devices are. Values are sent in `dtype`.
    pub fn on_hosts(ranks: &Arc<Ranks>, dtype: SumDtype) -> Self {
        Self { ranks: ranks.clone(), dtype, gpus: None }
    }

    /// Sums on the GPUs where all ranks can, else on the hosts. All ranks call it together, each with the devices of
    /// its workers. Gives a sentence on what was chosen and why, too.
    pub(super) fn agreed(ranks: &Arc<Ranks>, dtype: SumDtype, devices: &[Device]) -> (Self, String) {
        let on_hosts = Self::on_hosts(ranks, dtype);
        let because = |why: String| format!("ranks sum on their hosts, through MPI: {why}");
        let said = ranks.all_say(&has(devices, ranks.machine()));
        if let Some(why) = objection(&said) {
            return (on_hosts, because(why));
        }
        // Every rank goes on to the end of this, so that all know how each fared.
        let id = if ranks.is_first() { nccl::new_id() } else { Ok(Vec::new()) };
        let sent = ranks.from_first(id.as_deref().unwrap_or_default());
        let joined = id.and_then(|_| Gpus::join(&devices[0], &sent, (ranks.rank(), ranks.size())));
        let failed = ranks.all_say(joined.as_ref().err().map_or("", |why| why));
        match (joined, failed.iter().position(|why| !why.is_empty())) {
            (Ok(gpus), None) => {
                let version = said[0].split(TAB).nth(1).unwrap_or_default();
                let how = format!("ranks sum on their GPUs, through NCCL {version} (with UPSTILL_SUM=host through MPI)");
                (Self { gpus: Some(Arc::new(gpus)), ..on_hosts }, how)
            }
            (_, at) => {
                let rank = at.unwrap_or_default();
                (on_hosts, because(format!("rank {rank} could not join NCCL: {}", failed[rank])))
            }
        }
    }

    /// The processes.
    pub(super) fn ranks(&self) -> &Ranks {
        &self.ranks
    }

    /// Whether GPUs sum among themselves.
    pub(super) fn are_gpus(&self) -> bool {
        self.gpus.is_some()
    }

    /// The sum over all ranks by way of the hosts. Without values they only meet: all are here, or none goes on, and
    /// all have heard of a wish to stop.
    pub(super) fn sum(&self, values: &[f32]) -> Vec<f32> {
        self.ranks.sum(values, self.dtype, interrupted())
    }

    /// The sum over all ranks on their GPUs, after they have met.
    ///
    /// # Errors
    /// When the GPU or NCCL fails. The other ranks then wait in their sums until this one ends them.
    pub(super) async fn sum_on_gpus(&self, values: Tensor<1>) -> Result<Tensor<1>> {
        match &self.gpus {
            Some(gpus) => gpus.sum(values, self.dtype).await,
            None => unreachable!("asked of ranks whose GPUs have not joined"),
        }
    }
}

/// Between the parts of what a rank says.
const TAB: char = '\t';
/// The first word of a rank that could sum through NCCL; any other text is why it can't.
const ABLE: &str = "able";

/// What this rank says of itself: that it can sum through NCCL, which version, its GPU and its machine; or why not.
fn has(devices: &[Device], machine: &str) -> String {
    if asked_for_host() {
        return "UPSTILL_SUM=host asks for it".to_owned();
    }
    match devices {
        [device] if device.kind == DeviceKind::Cuda => match nccl::able(device) {
            Ok((version, gpu)) => [ABLE, &version, &gpu, machine].join("\t"),
            Err(why) => why,
        },
        [device] => format!("NCCL is for CUDA, and the device is {}", device.kind.word()),
        several => format!("it has {} workers, and NCCL takes one GPU a rank", several.len()),
    }
}

/// Why these ranks can't sum through NCCL, from what each says; none where they can.
fn objection(said: &[String]) -> Option<String> {
    let unable = |said: &String| said.split(TAB).next() != Some(ABLE);
    let all_alike = said.iter().all(|other| *other == said[0]);
    if let Some(rank) = said.iter().position(unable) {
        return Some(if all_alike { said[0].clone() } else { format!("rank {rank}: {}", said[rank]) });
    }
    let part = |rank: usize, at: usize| said[rank].split(TAB).nth(at).unwrap_or_default();
    for rank in 1..said.len() {
        if part(rank, 1) != part(0, 1) {
            return Some(format!("rank {rank} has NCCL {} and rank 0 {}", part(rank, 1), part(0, 1)));
        }
        if let Some(other) = (0..rank).find(|other| (2..4).all(|at| part(*other, at) == part(rank, at))) {
            return Some(format!("ranks {other} and {rank} share a GPU, and NCCL wants one for each"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(said: &[&str]) -> Option<String> {
        objection(&said.iter().map(|said| (*said).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn one_rank_that_can_not_rules_nccl_out_for_all() {
        let (one, two) = ("able\t2.27.3\tGPU-1\tnode", "able\t2.27.3\tGPU-2\tnode");
        assert_eq!(why(&[one, two]), None);
        assert_eq!(why(&[one, "able\t2.27.3\tGPU-1\tanother node"]), None);
        assert_eq!(why(&[one, two, "libnccl is not there"]).unwrap(), "rank 2: libnccl is not there");
        assert_eq!(why(&["libnccl is not there"; 2]).unwrap(), "libnccl is not there");
        assert_eq!(why(&[one, two, one]).unwrap(), "ranks 0 and 2 share a GPU, and NCCL wants one for each");
        assert_eq!(why(&[one, "able\t2.18.1\tGPU-2\tnode"]).unwrap(), "rank 1 has NCCL 2.18.1 and rank 0 2.27.3");
    }

    #[test]
    fn a_rank_without_one_gpu_of_cuda_says_so() {
        let device = Device::cpu("test");
        assert_eq!(has(std::slice::from_ref(&device), "node"), "NCCL is for CUDA, and the device is cpu");
        assert_eq!(has(&[device.clone(), device], "node"), "it has 2 workers, and NCCL takes one GPU a rank");
    }
}
