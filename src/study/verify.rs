//! Repeats cells of a study and says whether they come to what was written.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::Serialize;

use super::cells::{CellLine, Ledger, ModelLine};
use super::planner::{Cell, Planner};
use super::runner::{StudyOptions, Work, device_text};
use super::spec::StudySpec;
use crate::error::{Error, IoContext, Result};
use crate::tokens::Shards;

/// Nats by which a repeated cell's losses may differ on another processor or with another number of threads: sums may
/// then be taken in another order, and training carries that on. Burn's operations in place of ours move a run of 900
/// steps on the pocket language by up to 0.008 on its way and 0.005 at its end.
pub const ROUNDING: f64 = 0.02;

/// A repeated cell.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verified {
    /// The arm's name and the seed.
    pub name: String,
    /// The plan's hash.
    pub cell: String,
    /// The largest difference of any held-out loss, in nats.
    pub difference: f64,
    /// The largest that is allowed: 0 on a processor of the same kind with as many threads.
    pub allowed: f64,
}

impl Verified {
    /// Whether it is what was written.
    pub fn agrees(&self) -> bool {
        self.difference <= self.allowed
    }
}

/// Runs up to `count` of the study's finished cells again, chosen by chance, in a folder that is deleted afterwards.
/// Losses are compared; scores follow from the same weights.
///
/// # Errors
/// When no cell is finished, or one can't be run.
pub fn verify(spec: &StudySpec, shards: &Shards, options: &StudyOptions, count: usize) -> Result<Vec<Verified>> {
    let ledger = Ledger::open(options.dir, &spec.title, options.cells)?;
    let mut planner = Planner::new(spec, shards, options.dir);
    planner.chosen = ledger.chosen(&spec.title);
    let (teachers, students) = planner.results()?;
    let mut finished: Vec<(Cell, CellLine)> = teachers
        .into_iter()
        .chain(students)
        .filter_map(|cell| Some((ledger.of(&cell)?, cell)))
        .map(|(line, cell)| (cell, line))
        .collect();
    if finished.is_empty() {
        return Err(Error::new("no cell of this study is finished").at(options.dir.display()).help("run the study first"));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
    let mut chance = ChaCha8Rng::seed_from_u64(now);
    let named = |number: u32| options.dir.join(format!("verify-{}-{number}", std::process::id()));
    // What was left of a process that was killed stays where it is.
    let folder = (0..).map(named).find(|folder| !folder.exists()).unwrap_or_else(|| named(0));
    let count = count.min(finished.len());
    let picked: Vec<(Cell, CellLine)> =
        (0..count).map(|_| finished.swap_remove((chance.next_u64() % finished.len() as u64) as usize)).collect();
    options.console.expect(picked.iter().map(|(cell, _)| (cell.name.clone(), cell.flops())));
    let result = picked.into_iter().map(|(cell, line)| repeat(spec, shards, options, &folder, cell, &line)).collect();
    if folder.exists() {
        std::fs::remove_dir_all(&folder).doing("delete", &folder)?;
    }
    result
}

/// Runs a cell again in another folder, with as many threads as it had.
fn repeat(
    spec: &StudySpec,
    shards: &Shards,
    options: &StudyOptions,
    folder: &Path,
    cell: Cell,
    line: &CellLine,
) -> Result<Verified> {
    let options = StudyOptions { dir: folder, cells: &[], ..*options };
    std::fs::create_dir_all(folder).doing("create", folder)?;
    let work = Work::new(spec, shards, &[], &options)?;
    let again = cell.in_folder(folder);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(line.threads.max(1)).build();
    let pool = pool.map_err(|error| Error::new(format!("could not start {} threads: {error}", line.threads)))?;
    let found = pool.install(|| work.run(&again))?;
    options.console.cell_done(&cell.name, false);
    let is_alike = line.device == device_text(options.device) && line.threads == found.threads;
    // Numbers that were read back from JSON may be off by their last bit.
    let allowed = if is_alike { 1e-12 } else { ROUNDING };
    Ok(Verified { name: cell.name, cell: cell.id, difference: difference(line, &found), allowed })
}

/// The largest difference of a loss; infinite where one has what the other lacks.
fn difference(a: &CellLine, b: &CellLine) -> f64 {
    let of_models = |(a, b): (&ModelLine, &ModelLine)| {
        let ends = a.held_out_loss.unwrap_or(f64::INFINITY) - b.held_out_loss.unwrap_or(f64::NEG_INFINITY);
        let same_steps = a.curve.iter().map(|(step, _)| step).eq(b.curve.iter().map(|(step, _)| step));
        let between = a.curve.iter().zip(&b.curve).map(|((_, a), (_, b))| (a - b).abs()).fold(0.0, f64::max);
        if same_steps { between.max(ends.abs()) } else { f64::INFINITY }
    };
    match a.models.keys().eq(b.models.keys()) {
        true => a.models.values().zip(b.models.values()).map(of_models).fold(0.0, f64::max),
        false => f64::INFINITY,
    }
}
