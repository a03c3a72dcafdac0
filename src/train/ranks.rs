//! Ranks: processes that share each batch, on one machine or on many, as MPI starts them.
//!
//! All ranks take the same steps and say the same things to each other in the same order: a sum a step, and at the
//! start, at each checkpoint and at the end a comparison of what must be alike. Rank 0 alone evaluates, logs and saves.
//!
//! GPUs sum among themselves where all can (`src/train/peers.rs`). Else each rank sums one part of the gradients, in
//! the ranks' order, and sends it to the others: the bits are those of as many workers in one process, and a rank
//! sends 2 (n - 1) / n of the bytes. A wish to stop travels with the sum, or with the meeting before that of the GPUs,
//! so that all stop after the same step. Only the first rank knows the folder. Every wait polls, with a limit; an error
//! ends all ranks through `MPI_Abort`. The link is a trait, so that tests run ranks as threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(feature = "mpi")]
use std::time::Duration;

use burn::tensor::bf16;

use super::link::Link;
use crate::config::SumDtype;
use crate::error::{Error, Result};
use crate::files::manifest::hash;

/// One of several processes that share each batch.
#[derive(Debug)]
pub struct Ranks {
    link: Box<dyn Link>,
    stops: AtomicBool,
    local_rank: usize,
    sharing_cores: usize,
    machine: String,
}

impl Ranks {
    /// The ranks that this process was started with: by `mpirun`, `srun` or whatever else starts MPI's processes; none
    /// where it was started alone. Once a process.
    ///
    /// # Errors
    /// When it was started as one of several by a build without MPI: each would train the whole run.
    pub fn join() -> Result<Option<Arc<Self>>> {
        let variable = |name: &str| std::env::var(name).ok();
        let size = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"].into_iter().find_map(variable);
        let is_started = ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"].into_iter().any(|name| variable(name).is_some());
        #[cfg(feature = "mpi")]
        if is_started {
            let mpi = super::mpi::Mpi::join(patience()?)?;
            let machine = mpi.machine();
            return Ok((mpi.size() > 1).then(|| Arc::new(Self::new(Box::new(mpi), &machine))));
        }
        let is_one_of_several = size.is_some_and(|size| size.trim().parse().is_ok_and(|size: usize| size > 1));
        match is_one_of_several && (is_started || cfg!(not(feature = "mpi"))) {
            true => Err(Error::new("this process was started as one of several, and this upstill was built without MPI")
                .help("build it with --features mpi; or start it once, with [runtime] workers for several GPUs of a machine")),
            false => Ok(None),
        }
    }

    /// Over a link that joins two ranks or more, of which this one is on a machine of this name. All ranks call it
    /// together.
    pub fn new(link: Box<dyn Link>, machine: &str) -> Self {
        let mut ranks =
            Self { link, stops: AtomicBool::new(false), local_rank: 0, sharing_cores: 1, machine: machine.to_owned() };
        let said = ranks.all_say(&format!("{machine}\t{}", allowed_cores()));
        let own = said[ranks.rank()].clone();
        let machine_of = |said: &str| said.split_once('\t').map_or(String::new(), |(machine, _)| machine.to_owned());
        ranks.local_rank = said[..ranks.rank()].iter().filter(|other| machine_of(other) == machine_of(&own)).count();
        ranks.sharing_cores = said.iter().filter(|other| **other == own).count();
        ranks
    }

    /// How many ranks before this one are on its machine: the number of its GPU there.
    pub fn local_rank(&self) -> usize {
        self.local_rank
    }

    /// How many ranks may run on the cores that this one may run on, itself included: one where `mpirun` gave each its
    /// own.
    pub fn sharing_cores(&self) -> usize {
        self.sharing_cores
    }

    /// The machine that this rank is on.
    pub fn machine(&self) -> &str {
        &self.machine
    }

    /// This process's number, from 0.
    pub fn rank(&self) -> usize {
        self.link.rank()
    }

    /// How many processes there are.
    pub fn size(&self) -> usize {
        self.link.size()
    }

    /// Whether it is the one that evaluates, logs and saves.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// Ends all ranks at once with an error.
    pub fn abort(&self, error: &Error) -> ! {
        self.link.abort(error)
    }

    /// Whether some rank was asked to stop before the last sum: all of them stop after that step.
    pub fn must_stop(&self) -> bool {
        self.stops.load(Ordering::SeqCst)
    }

    /// The sum of what all ranks bring, in the ranks' order, to the bit the same on each; `stop` tells the others that
    /// this one was asked to stop. Each rank sums one part and sends it to the others, so that a rank sends 2 (n - 1) /
    /// n times the values, however many ranks there are.
    pub fn sum(&self, values: &[f32], dtype: SumDtype, stop: bool) -> Vec<f32> {
        let (rank, size) = (self.rank(), self.size());
        let mut values = values.to_vec();
        values.push(f32::from(u8::from(stop)));
        let part = |rank: usize| rank * values.len() / size..(rank + 1) * values.len() / size;
        let packed: Vec<Vec<u8>> = (0..size).map(|to| pack(&values[part(to)], dtype)).collect();
        let mine = packed[rank].clone();
        let outgoing: Vec<&[u8]> = (0..size).map(|to| if to == rank { &[][..] } else { &packed[to][..] }).collect();
        let lengths: Vec<usize> = (0..size).map(|from| if from == rank { 0 } else { mine.len() }).collect();
        let mut brought = self.link.exchange(&outgoing, &lengths);
        brought[rank] = mine;
        let mut sum = unpack(&brought[0], dtype);
        for bytes in &brought[1..] {
            sum.iter_mut().zip(unpack(bytes, dtype)).for_each(|(sum, value)| *sum += value);
        }

        let mine = pack(&sum, dtype);
        let outgoing: Vec<&[u8]> = (0..size).map(|to| if to == rank { &[][..] } else { &mine[..] }).collect();
        let lengths: Vec<usize> = (0..size).map(|from| if from == rank { 0 } else { packed[from].len() }).collect();
        let mut parts = self.link.exchange(&outgoing, &lengths);
        parts[rank] = mine;
        let mut whole: Vec<f32> = parts.iter().flat_map(|bytes| unpack(bytes, dtype)).collect();
        if whole.pop().is_some_and(|asked| asked > 0.0) {
            self.stops.store(true, Ordering::SeqCst);
        }
        whole
    }

    /// What every rank says, in the ranks' order.
    pub fn all_say(&self, own: &str) -> Vec<String> {
        let (rank, size) = (self.rank(), self.size());
        let to_others = |bytes: &[u8], lengths: &[usize]| {
            let outgoing: Vec<&[u8]> = (0..size).map(|to| if to == rank { &[][..] } else { bytes }).collect();
            let lengths: Vec<usize> = (0..size).map(|from| if from == rank { 0 } else { lengths[from] }).collect();
            self.link.exchange(&outgoing, &lengths)
        };
        let length = (own.len() as u64).to_le_bytes();
        let said = to_others(&length, &vec![length.len(); size]);
        let lengths: Vec<usize> = said.iter().map(|bytes| number(bytes)).collect();
        let mut said = to_others(own.as_bytes(), &lengths);
        said[rank] = own.as_bytes().to_vec();
        said.into_iter().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
    }

    /// What rank 0 has, sent to all; `own` is read there alone.
    pub fn from_first(&self, own: &[u8]) -> Vec<u8> {
        let (rank, size) = (self.rank(), self.size());
        let from_first = |bytes: &[u8], length: usize| {
            let outgoing: Vec<&[u8]> = (0..size).map(|to| if rank == 0 && to > 0 { bytes } else { &[][..] }).collect();
            let lengths: Vec<usize> = (0..size).map(|from| if rank > 0 && from == 0 { length } else { 0 }).collect();
            self.link.exchange(&outgoing, &lengths).swap_remove(0)
        };
        let length = from_first(&(own.len() as u64).to_le_bytes(), 8);
        let bytes = from_first(own, number(&length));
        if rank == 0 { own.to_vec() } else { bytes }
    }

    /// Refuses to go on where a rank has something else than rank 0 has. Each of `facts` is a name and its value.
    ///
    /// # Errors
    /// Names the ranks, and what differs first.
    pub fn must_agree(&self, facts: &[(String, String)], help: &str) -> Result<()> {
        let all = facts.iter().map(|(name, value)| format!("{name}\t{value}\n")).collect::<String>();
        let hashes = self.all_say(&hash(all.as_bytes()));
        if hashes.iter().all(|other| *other == hashes[0]) {
            return Ok(());
        }
        let said = self.all_say(&all);
        for (rank, other) in said.iter().enumerate() {
            let Some((first, own)) = said[0].lines().zip(other.lines()).find(|(first, own)| first != own) else { continue };
            let (name, first) = first.split_once('\t').unwrap_or((first, ""));
            let own = own.split_once('\t').map_or(own, |(_, value)| value);
            return Err(Error::new(format!("rank {rank} has another {name} than rank 0: {own}, not {first}")).help(help));
        }
        Err(Error::new("ranks have different numbers of things to compare")
            .help("start the same upstill with the same arguments on every rank"))
    }
}

fn pack(values: &[f32], dtype: SumDtype) -> Vec<u8> {
    match dtype {
        SumDtype::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        SumDtype::Bf16 => values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
    }
}

fn unpack(bytes: &[u8], dtype: SumDtype) -> Vec<f32> {
    match dtype {
        SumDtype::F32 => bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect(),
        SumDtype::Bf16 => bytes.chunks_exact(2).map(|two| bf16::from_le_bytes([two[0], two[1]]).to_f32()).collect(),
    }
}

/// Names the seconds that a rank waits for another one.
#[cfg(feature = "mpi")]
const WAIT: &str = "UPSTILL_RANKS_WAIT";

/// How long a rank waits for another one: long enough for rank 0's evaluations.
///
/// # Errors
/// When the variable says something else than seconds.
#[cfg(feature = "mpi")]
pub(super) fn patience() -> Result<Duration> {
    let Ok(text) = std::env::var(WAIT) else { return Ok(Duration::from_secs(1800)) };
    match text.trim().parse() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err(Error::new(format!("{WAIT} is {text:?}")).help("give seconds above 0, as in 1800")),
    }
}

/// The cores that this process may run on, as Linux lists them; the same text for all of a machine elsewhere.
fn allowed_cores() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default().trim().to_owned()
}

/// A length that was sent; 0 where nothing was.
fn number(bytes: &[u8]) -> usize {
    bytes.try_into().map_or(0, |bytes| u64::from_le_bytes(bytes) as usize)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread;

    use super::*;

    /// Ranks that are threads.
    #[derive(Debug)]
    struct Threads {
        rank: usize,
        to: Vec<Sender<Vec<u8>>>,
        from: Mutex<Vec<Receiver<Vec<u8>>>>,
    }

    impl Link for Threads {
        fn rank(&self) -> usize {
            self.rank
        }

        fn size(&self) -> usize {
            self.to.len()
        }

        fn exchange(&self, outgoing: &[&[u8]], lengths: &[usize]) -> Vec<Vec<u8>> {
            for (to, bytes) in self.to.iter().zip(outgoing).filter(|(_, bytes)| !bytes.is_empty()) {
                to.send(bytes.to_vec()).unwrap();
            }
            let from = self.from.lock().unwrap();
            let receive = |(from, &length): (&Receiver<Vec<u8>>, &usize)| {
                let bytes = if length == 0 { Vec::new() } else { from.recv().unwrap() };
                assert_eq!(bytes.len(), length);
                bytes
            };
            from.iter().zip(lengths).map(receive).collect()
        }

        fn abort(&self, error: &Error) -> ! {
            panic!("{error}")
        }
    }

    /// What each of `size` ranks comes to.
    fn among<T: Send>(size: usize, work: impl Fn(&Ranks) -> T + Sync) -> Vec<T> {
        let mut to: Vec<Vec<Sender<Vec<u8>>>> = (0..size).map(|_| Vec::new()).collect();
        let mut from: Vec<Vec<Receiver<Vec<u8>>>> = (0..size).map(|_| Vec::new()).collect();
        for sender in &mut to {
            for receiver in &mut from {
                let (into, out) = channel();
                sender.push(into);
                receiver.push(out);
            }
        }
        let links = to.into_iter().zip(from).enumerate().map(|(rank, (to, from))| Threads { rank, to, from: Mutex::new(from) });
        let (links, work): (Vec<Threads>, _) = (links.collect(), &work);
        thread::scope(|scope| {
            // Two ranks a machine.
            let start = |link: Threads| {
                scope.spawn(move || {
                    let machine = format!("machine {}", link.rank / 2);
                    work(&Ranks::new(Box::new(link), &machine))
                })
            };
            let started: Vec<_> = links.into_iter().map(start).collect();
            started.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn ranks_know_their_neighbours() {
        let found = among(3, |ranks| (ranks.local_rank(), ranks.sharing_cores()));
        assert_eq!(found, [(0, 2), (1, 2), (0, 1)]);
    }

    /// Numbers that come to another sum in another order.
    fn brought(rank: usize, length: usize) -> Vec<f32> {
        (0..length).map(|at| [1e8, 1.0, -1e8, 0.25, 3.0][(rank + at) % 5] * (1.0 + at as f32)).collect()
    }

    #[test]
    fn sums_are_in_the_ranks_order_and_the_same_on_each() {
        for size in 2..=5 {
            for length in [0, 1, 2, 7, 1000] {
                let mut wanted = brought(0, length);
                for rank in 1..size {
                    wanted.iter_mut().zip(brought(rank, length)).for_each(|(sum, value)| *sum += value);
                }
                let found = among(size, |ranks| ranks.sum(&brought(ranks.rank(), length), SumDtype::F32, false));
                found.iter().for_each(|found| assert_eq!(*found, wanted, "{size} ranks, {length} values"));
            }
        }
    }

    #[test]
    fn bf16_is_rounded_on_the_way_out_and_on_the_way_back() {
        let found = among(2, |ranks| ranks.sum(&[1.0 + 1.0 / 512.0, 3.0, 1e-3], SumDtype::Bf16, false));
        let rounded = |value: f32| bf16::from_f32(value).to_f32();
        let wanted: Vec<f32> = [1.0, 3.0, rounded(1e-3)].iter().map(|value| rounded(2.0 * value)).collect();
        assert_eq!(found, [wanted.clone(), wanted]);
    }

    #[test]
    fn one_that_is_asked_to_stop_stops_all_after_the_same_sum() {
        let found = among(3, |ranks| {
            let after = |step: usize| {
                ranks.sum(&[1.0], SumDtype::F32, step == 1 && ranks.rank() == 2);
                ranks.must_stop()
            };
            [after(0), after(1)]
        });
        assert_eq!(found, [[false, true]; 3]);
    }

    #[test]
    fn what_one_says_all_hear() {
        let words = ["", "one", "two words"];
        let found = among(3, |ranks| (ranks.all_say(words[ranks.rank()]), ranks.from_first(b"from the first")));
        found.iter().for_each(|(said, first)| assert!(*said == words && first == b"from the first"));
    }

    #[test]
    fn a_rank_that_differs_is_named_and_what_it_differs_in() {
        let fact = |name: &str, value: usize| (name.to_owned(), value.to_string());
        let agreed = among(3, |ranks| ranks.must_agree(&[fact("plan", 7), fact("shards", 8)], "").is_ok());
        assert_eq!(agreed, [true; 3]);
        let odd = Arc::new(2);
        let found = among(3, |ranks| {
            let shards = if ranks.rank() == *odd { 9 } else { 8 };
            ranks.must_agree(&[fact("plan", 7), fact("shards", shards)], "").unwrap_err().what().to_owned()
        });
        assert_eq!(found, ["rank 2 has another shards than rank 0: 9, not 8"; 3]);
    }
}
