//! Ranks over MPI, as `mpirun`, `srun` and Kubernetes' MPI jobs start them.

use std::sync::Mutex;
use std::thread::{sleep, yield_now};
use std::time::{Duration, Instant};

use mpi::environment::{Universe, processor_name};
use mpi::request::{Request, Scope, scope};
use mpi::topology::{Communicator, SimpleCommunicator};
use mpi::traits::{Destination, Source};
use mpi::{Threading, initialize_with_threading};

use super::link::Link;
use crate::error::{Error, Result};

/// Bytes a message: MPI counts in 32 bits.
const MESSAGE: usize = 1 << 30;

/// A wait that lasts longer than this polls less often, and leaves the processor to others.
const BUSY: Duration = Duration::from_millis(2);

/// Processes that MPI started.
pub struct Mpi {
    world: Mutex<SimpleCommunicator>,
    rank: usize,
    size: usize,
    limit: Duration,
    /// MPI ends with it.
    _universe: Universe,
}

// SAFETY: MPI was initialised for calls from any thread, one at a time (`MPI_THREAD_SERIALIZED`), and every call after
// that goes through the lock around the communicator. The universe is only kept; it is dropped on the thread that owns
// this value.
unsafe impl Send for Mpi {}
// SAFETY: as above: shared references reach MPI through the lock alone.
unsafe impl Sync for Mpi {}

impl std::fmt::Debug for Mpi {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "rank {} of {}", self.rank, self.size)
    }
}

impl Mpi {
    /// Joins the ranks that were started with this process; each wait for another one has a limit.
    ///
    /// # Errors
    /// When MPI was joined before, or can't be called from several threads in turn.
    pub fn join(limit: Duration) -> Result<Self> {
        let (universe, threading) = initialize_with_threading(Threading::Serialized)
            .ok_or_else(|| Error::new("MPI was initialised before").help("join the ranks once a process"))?;
        if threading < Threading::Serialized {
            return Err(Error::new(format!("this MPI gives {threading:?} where calls from several threads in turn are needed"))
                .help("use an MPI that was built with MPI_THREAD_SERIALIZED; OpenMPI and MPICH are"));
        }
        let world = universe.world();
        let (rank, size) = (world.rank() as usize, world.size() as usize);
        Ok(Self { world: Mutex::new(world), rank, size, limit, _universe: universe })
    }

    /// The name of the machine that this rank is on.
    pub fn machine(&self) -> String {
        processor_name().unwrap_or_default()
    }
}

impl Link for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn exchange(&self, outgoing: &[&[u8]], lengths: &[usize]) -> Vec<Vec<u8>> {
        let world = self.world.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut incoming: Vec<Vec<u8>> = lengths.iter().map(|&length| vec![0; length]).collect();
        scope(|scope| {
            let mut waited: Vec<(usize, Request<[u8], _>)> = Vec::new();
            for (rank, bytes) in incoming.iter_mut().enumerate() {
                let from = world.process_at_rank(rank as i32);
                waited.extend(bytes.chunks_mut(MESSAGE).map(|piece| (rank, from.immediate_receive_into(scope, piece))));
            }
            for (rank, bytes) in outgoing.iter().enumerate() {
                let to = world.process_at_rank(rank as i32);
                waited.extend(bytes.chunks(MESSAGE).map(|piece| (rank, to.immediate_send(scope, piece))));
            }
            if let Err(silent) = wait_for(waited, self.limit) {
                drop(world);
                self.abort(&unheard(&silent, self.limit));
            }
        });
        incoming
    }

    fn abort(&self, error: &Error) -> ! {
        // Where all ranks meet the same error, rank 0 says it, and ends the others before they can.
        if self.rank > 0 {
            sleep(Duration::from_millis(500));
        }
        eprintln!("rank {}: error: {error}", self.rank);
        // Not locked: another thread may wait inside, and nothing comes after this.
        mpi::topology::SimpleCommunicator::world().abort(error.exit_code().into())
    }
}

/// Waits until all requests are done, and gives the ranks that nothing was heard of within the limit.
///
/// A request that isn't done can't be dropped: the process must end then.
fn wait_for<'a, S: Scope<'a>>(mut waited: Vec<(usize, Request<'a, [u8], S>)>, limit: Duration) -> Result<(), Vec<usize>> {
    let started = Instant::now();
    while !waited.is_empty() {
        let before = waited.len();
        let test = |(rank, request): (usize, Request<'a, [u8], S>)| request.test().err().map(|request| (rank, request));
        waited = waited.into_iter().filter_map(test).collect();
        if waited.len() < before {
            continue;
        }
        match started.elapsed() {
            waited_so_far if waited_so_far > limit => {
                let mut silent: Vec<usize> = waited.iter().map(|(rank, _)| *rank).collect();
                silent.sort_unstable();
                silent.dedup();
                waited.into_iter().for_each(std::mem::forget);
                return Err(silent);
            }
            waited_so_far if waited_so_far < BUSY => yield_now(),
            _ => sleep(Duration::from_micros(50)),
        }
    }
    Ok(())
}

fn unheard(silent: &[usize], limit: Duration) -> Error {
    let names: Vec<String> = silent.iter().take(8).map(usize::to_string).collect();
    let more = if silent.len() > 8 { format!(" and {} more", silent.len() - 8) } else { String::new() };
    let ranks = if silent.len() == 1 { "rank" } else { "ranks" };
    Error::new(format!("waited {} s for {ranks} {}{more}", limit.as_secs(), names.join(", "))).help(
        "that process hangs, or is much slower; UPSTILL_RANKS_WAIT sets the seconds; --resume goes on from the last checkpoint",
    )
}
