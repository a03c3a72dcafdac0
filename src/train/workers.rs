//! Workers: copies of the models that share each batch, a thread and a device each, in one process or in several
//! ([`Peers`]).
//!
//! All take the same steps of the same batches, each on rows of its own. Once a step, however many micro-batches it
//! has, their gradients and losses are summed; then each makes the same update, so that weights stay alike and are
//! never sent. The first worker alone evaluates, logs and saves.
//!
//! Clipping, the guard and the loss scale are decided by each worker from the same bits of the sum, so that nothing
//! else is ever sent. When one worker ends, with an error or a panic, all end: they meet on the host before each sum,
//! before NCCL's too, which can't be called back. burn's own data parallelism would sum each parameter in every
//! backward pass, micro-batches included.

use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use burn::tensor::{Tensor, TensorData};

use super::peers::{Peers, asked_for_host};
use crate::device::{Device, DeviceKind, failed};
use crate::error::{Error, Result};

/// One of several that share each batch. The others stop waiting for it when it is dropped.
#[derive(Debug)]
pub struct Worker {
    place: usize,
    team: Arc<Team>,
}

#[derive(Debug)]
struct Team {
    devices: Vec<Device>,
    /// The processes, each with as many workers as this one.
    peers: Option<Peers>,
    /// Whether GPUs of this process sum among themselves.
    on_gpus: bool,
    table: Mutex<Table>,
    changed: Condvar,
}

/// Where workers meet.
#[derive(Debug, Default)]
struct Table {
    /// What each has brought to this round.
    brought: Vec<Option<Vec<f32>>>,
    /// What the last round came to.
    sum: Arc<Vec<f32>>,
    rounds: u64,
    first_gone: Option<usize>,
}

/// Runs a worker on each device: `first` on this thread, and `other` for each further one on a thread and a rayon pool
/// of its own, with as many threads as this one's. On one device of one process there is no worker, and nothing to sum.
/// Of several processes each calls this with its own devices, of which all have as many.
///
/// However a worker ends, the others end with it; what it ended with is the answer, its panic too.
///
/// # Errors
/// The first worker's, or that of the worker which failed before it.
pub fn together<T>(
    devices: &[Device],
    peers: Option<&Peers>,
    first: impl FnOnce(Option<&Worker>) -> Result<T>,
    other: impl Fn(&Worker) -> Result<()> + Sync,
) -> Result<T> {
    if devices.len() < 2 && peers.is_none() {
        return first(None);
    }
    let (team, threads, other) = (Arc::new(Team::new(devices, peers)), rayon::current_num_threads(), &other);
    thread::scope(|scope| {
        let start = |place: usize| {
            let worker = Worker { place, team: team.clone() };
            // What a panic is told by.
            let name = format!("upstill-worker-{place}");
            let named = rayon::ThreadPoolBuilder::new().thread_name({
                let name = name.clone();
                move |_| name.clone()
            });
            let pool = named.num_threads(threads).build();
            let pool = pool.map_err(|error| Error::new(format!("could not start {threads} threads: {error}")))?;
            let work = move || pool.install(|| other(&worker));
            let thread = thread::Builder::new().name(name).spawn_scoped(scope, work);
            thread.map_err(|error| Error::new(format!("could not start worker {place}: {error}")))
        };
        let others = (1..devices.len()).map(start).collect::<Result<Vec<_>>>()?;
        let worker = Worker { place: 0, team: team.clone() };
        let found = first(Some(&worker));
        drop(worker);
        let mut ended: Vec<_> = others.into_iter().map(thread::ScopedJoinHandle::join).collect();
        // Those that were waiting for one which failed know only that it did.
        match (found, team.table().first_gone) {
            (Err(error), Some(place)) if place > 0 => match ended.swap_remove(place - 1) {
                Err(panic) => resume_unwind(panic),
                Ok(ended) => Err(ended.err().unwrap_or(error)),
            },
            (found, _) => found,
        }
    })
}

impl Worker {
    /// Whether it is the one that evaluates, logs and saves.
    pub fn is_first(&self) -> bool {
        self.place == 0 && self.team.peers.as_ref().is_none_or(|peers| peers.ranks().is_first())
    }

    /// What it runs on.
    pub fn device(&self) -> &Device {
        &self.team.devices[self.place]
    }

    /// How often the workers have summed so far.
    pub fn sums(&self) -> u64 {
        self.team.table().rounds
    }

    /// Its share of a batch of so many rows, next to those of its neighbours.
    ///
    /// # Errors
    /// When there are more workers than rows.
    pub fn share(&self, rows: usize) -> Result<Range<usize>> {
        let here = self.team.devices.len();
        let (rank, ranks) = self.team.peers.as_ref().map_or((0, 1), |peers| (peers.ranks().rank(), peers.ranks().size()));
        let (place, workers) = (rank * here + self.place, ranks * here);
        if rows < workers {
            return Err(Error::new(format!("{workers} workers can't share a batch of {rows} rows"))
                .help("write fewer [runtime] workers, start fewer processes, or write a larger train.batch"));
        }
        Ok(place * rows / workers..(place + 1) * rows / workers)
    }

    /// Waits until all workers of all processes are here. What the first one brings is the answer for all: whether
    /// there is more to do.
    ///
    /// # Errors
    /// When another worker has ended.
    pub fn all_go_on(&self, goes_on: bool) -> Result<bool> {
        let brought = f32::from(u8::from(goes_on && self.is_first()));
        Ok(self.meet(vec![brought])?.iter().any(|sum| *sum > 0.0))
    }

    /// Sums a value over all workers (all-reduce). Lengths must agree, and every worker receives the same bits. The sum
    /// is taken in the workers' order on the host, in NCCL's among CUDA's GPUs, be they of one process or one a
    /// process, and otherwise, over processes, in the ranks' order of each one's sum.
    ///
    /// # Errors
    /// When another worker has ended, or the device fails.
    pub(super) async fn sum(&self, values: Tensor<1>) -> Result<Tensor<1>> {
        if self.team.on_gpus {
            // A GPU waits for its peers where nothing can call it back: they all come, or none begins.
            self.meet(Vec::new())?;
            return Ok(sum_on_gpus(values, &self.team.devices));
        }
        if let Some(peers) = self.team.peers.as_ref().filter(|peers| peers.are_gpus()) {
            self.meet(Vec::new())?;
            return peers.sum_on_gpus(values).await;
        }
        let device = values.device();
        let data = values.into_data_async().await.map_err(|error| failed("the gradients", &error))?;
        let values = data.try_to_vec().map_err(|error| Error::new(format!("gradients are f32: {error:?}")))?;
        let sum = self.meet(values)?;
        Ok(Tensor::from_data(TensorData::new(sum.to_vec(), [sum.len()]), &device))
    }

    /// Waits until all workers are here; gives the sum of what they brought.
    fn meet(&self, values: Vec<f32>) -> Result<Arc<Vec<f32>>> {
        let ended = || Error::new("another worker has ended");
        let mut table = self.team.table();
        if table.first_gone.is_some() {
            return Err(ended());
        }
        table.brought[self.place] = Some(values);
        if table.brought.iter().all(Option::is_some) {
            let brought: Vec<Vec<f32>> = table.brought.iter_mut().filter_map(Option::take).collect();
            let here = in_order(brought)?;
            table.sum = Arc::new(match &self.team.peers {
                Some(peers) => peers.sum(&here),
                None => here,
            });
            table.rounds += 1;
            self.team.changed.notify_all();
            return Ok(table.sum.clone());
        }
        let round = table.rounds;
        while table.rounds == round && table.first_gone.is_none() {
            table = self.team.changed.wait(table).unwrap_or_else(PoisonError::into_inner);
        }
        if table.rounds == round { Err(ended()) } else { Ok(table.sum.clone()) }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.team.table().first_gone.get_or_insert(self.place);
        self.team.changed.notify_all();
    }
}

impl Team {
    fn new(devices: &[Device], peers: Option<&Peers>) -> Self {
        let table = Table { brought: vec![None; devices.len()], ..Table::default() };
        Self {
            // burn's sum knows the GPUs of one process; how those of several sum, the ranks have agreed on.
            on_gpus: devices.iter().all(|device| device.kind == DeviceKind::Cuda) && !asked_for_host() && peers.is_none(),
            devices: devices.to_vec(),
            peers: peers.cloned(),
            table: Mutex::new(table),
            changed: Condvar::new(),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Elementwise, the first worker's first.
fn in_order(brought: Vec<Vec<f32>>) -> Result<Vec<f32>> {
    let mut brought = brought.into_iter();
    let mut sum = brought.next().unwrap_or_default();
    for values in brought {
        if values.len() != sum.len() {
            return Err(Error::new(format!("workers have {} and {} gradients and losses", sum.len(), values.len())));
        }
        sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
    }
    Ok(sum)
}

/// All-reduce through NCCL, on a stream of its own that the device's next operation waits for.
#[cfg(feature = "cuda")]
fn sum_on_gpus(values: Tensor<1>, devices: &[Device]) -> Tensor<1> {
    use burn::tensor::distributed::{ReduceOperation, all_reduce};
    let devices = devices.iter().map(|device| device.handle.clone()).collect();
    all_reduce(values, ReduceOperation::Sum, devices).resolve()
}

#[cfg(not(feature = "cuda"))]
fn sum_on_gpus(_values: Tensor<1>, _devices: &[Device]) -> Tensor<1> {
    unreachable!("this build has no CUDA, so no worker is on it")
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::device::wait;

    /// Each worker of `count` brings its number, `rounds` times; what `last` does instead of a worker's last round is
    /// up to it.
    fn run(count: usize, rounds: u64, last: impl Fn(&Worker) -> Result<()> + Sync) -> Result<(Vec<f32>, u64)> {
        let work = |worker: &Worker| {
            let mut found = Vec::new();
            for round in 0..rounds {
                if round + 1 == rounds {
                    last(worker)?;
                }
                // In another order the last would not come to 0.
                let own = [worker.place as f32 + 1.0, round as f32, [1e8, 1.0, -1e8][worker.place]];
                let own = Tensor::from_floats(own, &worker.device().handle);
                found = wait(worker.sum(own))?.into_data().try_to_vec().unwrap();
            }
            Ok(found)
        };
        let devices = vec![Device::cpu("test"); count];
        together(&devices, None, |worker| Ok((work(worker.unwrap())?, worker.unwrap().sums())), |worker| work(worker).map(drop))
    }

    #[test]
    fn sums_are_in_the_workers_order_and_shares_cover_the_batch() {
        assert_eq!(run(2, 5, |_| Ok(())).unwrap(), (vec![3.0, 8.0, 1e8], 5));
        assert_eq!(run(3, 5, |_| Ok(())).unwrap(), (vec![6.0, 12.0, 0.0], 5));
        let devices = vec![Device::cpu("test"); 3];
        let shares = |rows: usize| {
            let all = Mutex::new(vec![0..0; 3]);
            let share = |worker: &Worker| -> Result<()> {
                let share = worker.share(rows)?;
                all.lock().unwrap()[worker.place] = share;
                Ok(())
            };
            together(&devices, None, |worker| share(worker.unwrap()), share)?;
            Ok::<_, Error>(all.into_inner().unwrap())
        };
        assert_eq!(shares(8).unwrap(), [0..2, 2..5, 5..8]);
        assert_eq!(shares(3).unwrap(), [0..1, 1..2, 2..3]);
        assert!(shares(2).unwrap_err().to_string().contains("3 workers can't share a batch of 2 rows"));
        assert!(together(&devices[..1], None, |worker| Ok(worker.is_none()), |_| unreachable!()).unwrap());
    }

    #[test]
    fn a_worker_that_fails_ends_the_others_with_its_error() {
        for failing in 0..3 {
            let fail = |worker: &Worker| match worker.place == failing {
                true => Err(Error::new(format!("worker {failing} fails"))),
                false => Ok(()),
            };
            assert_eq!(run(3, 4, fail).unwrap_err().what(), format!("worker {failing} fails"));
            let panics = |worker: &Worker| match worker.place == failing {
                true => panic!("worker {failing} panics"),
                false => Ok(()),
            };
            let panic = catch_unwind(AssertUnwindSafe(|| run(3, 4, panics))).unwrap_err();
            assert_eq!(*panic.downcast::<String>().unwrap(), format!("worker {failing} panics"));
        }
    }

    #[test]
    fn a_first_worker_that_is_done_ends_the_others_and_one_that_goes_on_is_not_ended_by_them() {
        let devices = vec![Device::cpu("test"); 2];
        let endless = |worker: &Worker| loop {
            wait(worker.sum(Tensor::ones([1], &worker.device().handle)))?;
        };
        let rounds = |worker: Option<&Worker>| (0..3).try_for_each(|_| worker.unwrap().meet(vec![0.0]).map(drop));
        together(&devices, None, rounds, endless).unwrap();
        // The other is done long before.
        let slowly = |worker: Option<&Worker>| {
            rounds(worker)?;
            thread::sleep(std::time::Duration::from_millis(50));
            Ok(())
        };
        together(&devices, None, slowly, |worker| rounds(Some(worker))).unwrap();
    }
}
