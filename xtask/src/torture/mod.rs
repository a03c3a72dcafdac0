//! `cargo xtask torture`: does anything that goes wrong around the command give a wrong result in silence?
//!
//! Every trial is drawn from a seed and printed when it fails, so that it can be repeated. Trials:
//! processes killed at random moments and at every call that changes a file; such calls that fail as a full or broken
//! disk makes them; bits flipped in every kind of folder that is read again; several processes at once; readers given
//! damaged input under a memory limit.

mod damage;
mod random;
mod readers;
mod scene;
mod trials;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use random::Random;
use scene::Scene;
pub use trials::Outcome;

use crate::Result;

const HELP: &str = "\
Kills, broken disks, flipped bits, races and damaged input: what survives them.

  cargo xtask torture [--minutes N] [--seed N] [--only KIND] [--command FILE]

  --minutes N     how long in all; 3 unless given
  --seed N        decides every trial; 1 unless given
  --only KIND     kills, calls, disk, bits, races, input or readers
  --command FILE  the upstill to try; target/release/upstill unless given
  --tests FILE    the compiled tests/all.rs to give readers damaged files with; cargo is asked for it unless given";

/// A kind of trial: its name, and one of it.
type Kind = (&'static str, fn(&Scene, &mut Random) -> Result<Outcome>);

const KINDS: [Kind; 6] = [
    ("kills", trials::kill),
    ("calls", trials::kill_at_call),
    ("disk", trials::fail_at_call),
    ("bits", trials::flip),
    ("races", trials::race),
    ("input", trials::damage_input),
];

#[derive(Default)]
struct Count {
    tried: u32,
    survived: u32,
    wrong: u32,
    panics: u32,
    stuck: u32,
}

impl Count {
    /// Counts how a trial ended; gives what to say of one that did not end well.
    fn add(&mut self, outcome: Outcome) -> Option<String> {
        self.tried += 1;
        let (sum, said) = match outcome {
            Outcome::Survived => (&mut self.survived, None),
            Outcome::Wrong(what) => (&mut self.wrong, Some(format!("wrong in silence: {what}"))),
            Outcome::Panic(what) => (&mut self.panics, Some(format!("panic: {what}"))),
            Outcome::Stuck(what) => (&mut self.stuck, Some(format!("stuck: {what}"))),
        };
        *sum += 1;
        said
    }

    fn print(&self, name: &str) {
        let Count { tried, survived, wrong, panics, stuck } = self;
        println!("{name:<8}{tried:>8}{survived:>10}{wrong:>18}{panics:>8}{stuck:>8}");
    }
}

/// Runs the campaign; an error when anything was wrong in silence, panicked or could not go on.
pub fn torture(args: impl Iterator<Item = String>) -> Result<()> {
    let mut args = args;
    let (mut minutes, mut seed, mut only, mut command) = (3.0, 1u64, None, crate::target_folder().join("release/upstill"));
    let mut tests = None;
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value\n\n{HELP}"));
        match arg.as_str() {
            "--minutes" => minutes = value()?.parse::<f64>()?,
            "--seed" => seed = value()?.parse()?,
            "--only" => only = Some(value()?),
            "--command" => command = PathBuf::from(value()?),
            "--tests" => tests = Some(PathBuf::from(value()?)),
            _ => return Err(format!("unknown argument {arg}\n\n{HELP}").into()),
        }
    }
    let kinds: Vec<&Kind> = KINDS.iter().filter(|(name, _)| only.as_deref().is_none_or(|only| only == *name)).collect();
    let reads = only.as_deref().is_none_or(|only| only == readers::NAME);
    if kinds.is_empty() && !reads {
        return Err(format!("no such kind of trial\n\n{HELP}").into());
    }
    let scene = Scene::prepare(&command)?;
    trials::must_read_whole(&scene)?;
    if !scene.has_shim() {
        println!("SKIPPED: calls and disk, as there is no C compiler to make what is preloaded");
    }
    println!("{:<8}{:>8}{:>10}{:>18}{:>8}{:>8}", "kind", "tried", "survived", "wrong in silence", "panics", "stuck");
    let share = Duration::from_secs_f64(minutes * 60.0 / (kinds.len() + usize::from(reads)) as f64);
    let mut bad = 0;
    for (name, trial) in kinds {
        if !scene.has_shim() && ["calls", "disk"].contains(name) {
            continue;
        }
        let (started, mut random, mut count) = (Instant::now(), Random::new(seed), Count::default());
        while count.tried == 0 || started.elapsed() < share {
            let outcome = trial(&scene, &mut random)?;
            if let Some(what) = count.add(outcome) {
                bad += 1;
                println!("  {name}, trial {} of seed {seed}: {what}", count.tried);
            }
        }
        count.print(name);
    }
    if reads {
        let count = readers::read_damaged(tests.as_deref(), share, seed)?;
        bad += count.wrong + count.panics + count.stuck;
        count.print(readers::NAME);
    }
    scene.remove();
    if bad == 0 { Ok(()) } else { Err(format!("{bad} trials did not end well").into()) }
}
