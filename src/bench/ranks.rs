//! How a step scales from one process or worker to several, each with one thread: ours by workers and by ranks (MPI),
//! PyTorch's by DistributedDataParallel over gloo.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use serde::Serialize;

use super::median;
use super::meter::{MEMORY_ROUND, Taken};
use super::peer::Peer;
use super::sizes::StepSize;
use super::step::StepBench;
use crate::config::SumDtype;
use crate::device::{Device, Kernels, Precision};
use crate::error::{Error, Result};
use crate::train::{Peers, Ranks, Worker, together};

/// What `upstill bench step --ranks N` measures.
#[derive(Debug, Clone)]
pub struct RanksBenchOptions<'a> {
    /// Sizes, one after another.
    pub sizes: &'a [StepSize],
    /// How many processes, or workers of one process, share a step.
    pub ranks: usize,
    /// Turns of each after one that warms up.
    pub rounds: usize,
    /// A Python that may have PyTorch.
    pub python: Option<&'a str>,
    /// This command; one that was built with MPI can start ranks.
    pub upstill: &'a Path,
}

/// One measurement of `upstill bench step --ranks N`.
#[derive(Debug, Clone, Serialize)]
pub struct RanksRow {
    /// The student, its teacher, the vocabulary and the batch.
    pub size: String,
    /// Who shares the step, and how.
    pub form: String,
    /// How many threads in all, one for each process or worker.
    pub threads: usize,
    /// Real tokens trained on a second: the median over the rounds.
    pub tokens_per_s: f64,
    /// `tokens_per_s` over that of one thread of the same kind: the median over the rounds of each round's ratio.
    pub scaling: f64,
    /// `tokens_per_s` over PyTorch's with as many threads, likewise.
    pub ratio: Option<f64>,
}

/// One of those that take turns.
struct Turn {
    form: String,
    threads: usize,
    /// Whether it is PyTorch.
    is_theirs: bool,
    /// One is asked in the words of each of these; the fastest counts.
    ways: &'static [&'static str],
    peer: Peer,
    seconds: Vec<f64>,
}

/// A step of each size on one thread and on several, ours and PyTorch's in turn.
///
/// # Errors
/// When this command can't be started again, or a turn fails.
pub fn bench_ranks(options: &RanksBenchOptions, mut note: impl FnMut(String)) -> Result<Vec<RanksRow>> {
    let mut rows = Vec::new();
    for (at, size) in options.sizes.iter().enumerate() {
        rows.extend(of_size(*size, at, options, &mut note)?);
    }
    Ok(rows)
}

fn of_size(size: StepSize, at: usize, options: &RanksBenchOptions, note: &mut impl FnMut(String)) -> Result<Vec<RanksRow>> {
    let data = StepBench::new(size, 1, Precision::F32, &Device::cpu("the benchmark's data"))?;
    let request = data.request();
    let mut turns = started(at, size, options, note)?;
    for round in 0..=options.rounds + 1 {
        for turn in &mut turns {
            let found = turn.ways.iter().map(|way| turn.peer.measure(round, &format!("step {way} {request}")));
            let found = found.collect::<std::result::Result<Vec<Taken>, String>>();
            let found = found.map_err(|why| Error::new(format!("{}, {}: {why}", turn.form, size.name())))?;
            if round > MEMORY_ROUND {
                turn.seconds.push(found.iter().map(|taken| taken.seconds).fold(f64::INFINITY, f64::min));
            }
        }
    }
    let find = |is_theirs: bool, threads: usize| turns.iter().find(|turn| turn.is_theirs == is_theirs && turn.threads == threads);
    let over =
        |turn: &Turn, other: &Turn| median(other.seconds.iter().zip(&turn.seconds).map(|(other, own)| other / own).collect());
    let row = |turn: &Turn| RanksRow {
        size: size.name(),
        form: turn.form.clone(),
        threads: turn.threads,
        tokens_per_s: data.tokens() / median(turn.seconds.clone()),
        scaling: find(turn.is_theirs, 1).map_or(f64::NAN, |one| over(turn, one)),
        ratio: find(true, turn.threads).map(|theirs| over(turn, theirs)),
    };
    Ok(turns.iter().map(row).collect())
}

/// The processes of one size, the `at`-th.
fn started(at: usize, size: StepSize, options: &RanksBenchOptions, note: &mut impl FnMut(String)) -> Result<Vec<Turn>> {
    let RanksBenchOptions { ranks, python, upstill, .. } = *options;
    let ours = |workers: usize| {
        let mut command = Command::new(upstill);
        command.args(["bench", "step", "--device", "cpu", "--sizes", &(at + 1).to_string(), "--answers", &workers.to_string()]);
        command.args(["--family", size.family.word()]).env("RAYON_NUM_THREADS", "1");
        command
    };
    let turn = |form: String, threads: usize, is_theirs: bool, peer: Peer| {
        let ways: &[&str] = if is_theirs { &["eager", "compiled"] } else { &["fused"] };
        Turn { form, threads, is_theirs, ways, peer, seconds: Vec::new() }
    };
    let own = |command: Command| {
        Peer::start(command).map_err(|why| {
            Error::new(format!("{} could not be started as one of several{why}", upstill.display()))
                .help("start the benchmark with the installed command")
        })
    };
    let mut turns = vec![
        turn("upstill".into(), 1, false, own(ours(1))?),
        turn(format!("upstill, {ranks} workers"), ranks, false, own(ours(ranks))?),
    ];
    match Peer::start(among_ranks(&ours(1), ranks)) {
        Ok(peer) => turns.push(turn(format!("upstill, {ranks} ranks (MPI)"), ranks, false, peer)),
        Err(why) => note(format!("NOTE: no ranks{why}: they need mpirun, and an upstill that was built with --features mpi")),
    }
    for threads in [1, ranks] {
        let form = if threads == 1 { "pytorch".to_owned() } else { format!("pytorch, {threads} processes (gloo)") };
        match python.map(|python| Peer::pytorch_processes(python, threads)) {
            Some(Ok(peer)) => turns.push(turn(form, threads, true, peer)),
            Some(Err(why)) => note(format!("NOTE: no PyTorch to compare with: {why}; --python names one that has it")),
            None => {}
        }
    }
    Ok(turns)
}

/// A command started by `mpirun` so many times on this machine, as root too and on fewer cores than processes.
fn among_ranks(command: &Command, ranks: usize) -> Command {
    let mut mpirun = Command::new("mpirun");
    mpirun.args(["--bind-to", "none", "-n", &ranks.to_string()]).arg(command.get_program()).args(command.get_args());
    mpirun.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    for name in ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "OMPI_MCA_rmaps_base_oversubscribe"] {
        mpirun.env(name, "1");
    }
    mpirun
}

/// What each of the processes does that [`bench_ranks`] starts: steps of `size` among `workers` of this process, and
/// those of the other ranks. `next` is told the seconds of the last step, none before the first, and says whether
/// another is wanted; the first worker of all asks it.
///
/// # Errors
/// When a worker fails.
pub fn answer_steps(
    size: StepSize,
    workers: usize,
    ranks: Option<&Arc<Ranks>>,
    mut next: impl FnMut(Option<f64>) -> bool,
) -> Result<()> {
    let device = Device::cpu("a benchmark's");
    let devices = device.several(workers)?;
    let peers = ranks.map(|ranks| Peers::on_hosts(ranks, SumDtype::F32));
    let steps = |worker: Option<&Worker>, next: &mut dyn FnMut(Option<f64>) -> bool| {
        let bench = StepBench::new(size, 1, Precision::F32, &device)?;
        let (mut runner, mut seconds) = (bench.runner(Kernels::Fused), None);
        for round in 0.. {
            let goes_on = worker.is_none_or(Worker::is_first) && next(seconds);
            if !worker.map_or(Ok(goes_on), |worker| worker.all_go_on(goes_on))? {
                break;
            }
            seconds = Some(bench.step_among(&mut runner, round, worker)?.seconds);
        }
        Ok(())
    };
    together(&devices, peers.as_ref(), |worker| steps(worker, &mut next), |worker| steps(Some(worker), &mut |_| false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::STEP_SIZES;

    #[test]
    fn workers_take_each_step_together_until_no_more_is_wanted() {
        let size = StepSize { layers: 1, teacher_layers: 1, hidden: 64, vocab: 100, batch: 4, length: 32, ..STEP_SIZES[0] };
        for workers in [1, 2] {
            let mut told = Vec::new();
            let next = |seconds| {
                told.push(seconds);
                told.len() < 4
            };
            answer_steps(size, workers, None, next).unwrap();
            assert!(told.len() == 4 && told[0].is_none(), "{workers}: {told:?}");
            assert!(told[1..].iter().all(|seconds| seconds.is_some_and(|seconds| seconds > 0.0)), "{workers}: {told:?}");
        }
    }
}
