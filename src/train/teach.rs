//! A teacher is asked about a run's batches, and what it says is kept: [`answers`](crate::answers) has the format.

use std::io::Write;
use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;

use super::interrupt::waiting;
use super::learners::teacher;
use crate::answers::{Block, Cache, Place, Slots, cut};
use crate::batch::{Batch, BatchOptions, Batches, Objective, Split};
use crate::config::{AnswersHeader, AnswersKind, Plan, Positions};
use crate::device::{Compute, Device, PrecisionChoice, make_room};
use crate::error::{Error, Result};
use crate::files::{Lock, write_text, write_whole};
use crate::kernels::Places;
use crate::log::Console;
use crate::methods::{Teacher, integers};
use crate::model::BatchTensors;
use crate::tokens::Shards;

/// How a teacher is asked.
pub struct TeachOptions<'a> {
    /// The cache's folder.
    pub out: &'a Path,
    /// What is kept of a distribution.
    pub kind: AnswersKind,
    /// How many tokens of it, or draws.
    pub count: usize,
    /// The steps whose batches it is asked about; those at which the run listens to it unless given.
    pub steps: Option<Range<u64>>,
    /// Where progress goes.
    pub console: &'a Console,
    /// What it runs on.
    pub device: &'a Device,
    /// Asked between blocks: whether to stop there.
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

/// What is to be asked, before a teacher is.
#[derive(Debug, Clone, PartialEq)]
pub struct Teaching {
    /// Rows, whole blocks of them.
    pub rows: u64,
    /// Masked tokens of so many rows, about.
    pub slots: u64,
    /// Bytes of a masked token; of draws, whose tokens are not known yet, at most.
    pub bytes_a_slot: f64,
}

/// What a cache has of it afterwards.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Taught {
    /// Blocks that were there.
    pub found: u64,
    /// Blocks that were made now.
    pub made: u64,
    /// Blocks that were there and damaged, and are among those made.
    pub mended: u64,
    /// Masked tokens of the blocks made.
    pub slots: u64,
    /// Bytes of the blocks made.
    pub bytes: u64,
}

/// Fewest rows of a block: what an interruption can lose.
const LEAST_ROWS: u64 = 256;
/// Blocks that a cache of one run has at most, up to [`MOST_ROWS`] rows each.
const MANY_BLOCKS: u64 = 4096;
const MOST_ROWS: u64 = 4096;

/// A teacher that is about to be asked about a run's batches.
pub struct Asking<'a> {
    plan: &'a Plan,
    options: &'a TeachOptions<'a>,
    cache: Cache,
    batches: Batches,
    /// The numbers of the blocks that are wanted, in order.
    blocks: Vec<u64>,
}

impl<'a> Asking<'a> {
    /// Takes or makes the cache's folder, and says what is to come. No teacher is loaded yet.
    ///
    /// # Errors When the plan has no teacher in a folder, its temperature changes, it listens elsewhere than at masked
    /// positions, or the folder holds something else.
    pub fn new(plan: &'a Plan, shards: &Shards, options: &'a TeachOptions<'a>) -> Result<Self> {
        let header = header(plan, options)?;
        let steps = match &options.steps {
            Some(steps) => vec![steps.clone()],
            None => plan.taught_steps(),
        };
        if steps.iter().all(Range::is_empty) {
            return Err(Error::new("there is no step at which the run listens to its teacher")
                .help("raise distill.soft, or name the steps with --steps A..B"));
        }
        let cache = Cache::take(options.out, header, &mut waiting(options.console, "the cache"))?;
        let (block_rows, batch) = (cache.header().block_rows, plan.train.batch as u64);
        let mut blocks: Vec<u64> = Vec::new();
        for steps in steps {
            let from = blocks.last().map_or(0, |last| last + 1);
            let more = blocks_of(steps, batch, block_rows);
            blocks.extend(more.start.max(from)..more.end);
        }
        let batches = in_blocks(plan, shards, block_rows)?;
        Ok(Self { plan, options, cache, batches, blocks })
    }

    /// What is to come.
    pub fn expects(&self) -> Teaching {
        let header = self.cache.header();
        let rows = self.blocks.len() as u64 * header.block_rows;
        let first = self.batches.at(self.blocks[0]);
        let slots = (first.asked.count as f64 / first.rows as f64 * rows as f64) as u64;
        Teaching { rows, slots, bytes_a_slot: self.cache.bytes_a_slot(header.count as f64) }
    }

    /// Asks the teacher about every block that is not there yet and whole. Blocks that another process is asking about
    /// are left to it, and waited for at the end.
    ///
    /// # Errors
    /// When the teacher can't be loaded or says what is no number, or a block can't be written; an
    /// [interrupted](Error::is_interrupted) error when a stop was asked for: every block that was made is kept.
    pub fn run(&self) -> Result<Taught> {
        let Self { plan, options, cache, .. } = self;
        make_room(&options.device.handle, plan.largest_value_bytes());
        let compute = Compute::of_run(&options.device.handle, plan.runtime.kernels, PrecisionChoice::F32)?;
        let mut teacher_in_memory: Option<Box<dyn Teacher>> = None;
        let mut taught = Taught::default();
        let mut progress = options.console.run("teach", self.blocks.len() as u64, 0);
        let mut others: Vec<u64> = Vec::new();
        let mut left = self.blocks.iter().map(|&number| (number, false)).collect::<std::collections::VecDeque<_>>();
        while let Some((number, waits)) = left.pop_front() {
            if (options.stop)() {
                let done = taught.found + taught.made;
                return Err(Error::interrupted(format!("stopped after {done} of {} blocks; they are kept", self.blocks.len()))
                    .at(cache.folder().display())
                    .help("the same command goes on from there"));
            }
            let lock = match waits {
                true => Some(Lock::wait_file(&cache.lock_of(number), &mut waiting(options.console, "a block"))?),
                false => Lock::try_file(&cache.lock_of(number))?,
            };
            match lock {
                None => others.push(number),
                Some(_lock) => {
                    let is_there = cache.path_of(number).is_file();
                    match is_there.then(|| cache.read(number)) {
                        Some(Ok(_)) => taught.found += 1,
                        damaged => {
                            if let Some(Err(error)) = damaged {
                                options.console.note(&format!("asked again: {error}"));
                                taught.mended += 1;
                            }
                            let asked = match &mut teacher_in_memory {
                                Some(teacher) => teacher,
                                none => none.insert(teacher(plan, None, &compute)?.ok_or_else(no_teacher)?),
                            };
                            let block = self.block(number, asked.as_ref(), &compute)?;
                            taught.slots += block.slots.named.len() as u64;
                            taught.bytes += cache.write(&block)?;
                            taught.made += 1;
                        }
                    }
                }
            }
            progress.reach(taught.found + taught.made);
            if left.is_empty() {
                left.extend(others.drain(..).map(|number| (number, true)));
            }
        }
        progress.finish(&format!("done: {} blocks made, {} were there", taught.made, taught.found));
        Ok(taught)
    }

    /// What the teacher says of a block's rows.
    fn block(&self, number: u64, teacher: &dyn Teacher, compute: &Compute) -> Result<Block> {
        let batch = self.batches.at(number);
        let used = used_slots(&batch);
        let at_once = self.plan.rows_at_once().max(1);
        let mut slots = Slots::default();
        for from in (0..batch.rows).step_by(at_once) {
            let part = batch.part(from..(from + at_once).min(batch.rows));
            slots.extend(self.part(&part, teacher, compute)?);
        }
        Ok(Block { number, used, slots })
    }

    /// What it says of some of them.
    fn part(&self, batch: &Batch, teacher: &dyn Teacher, compute: &Compute) -> Result<Slots> {
        let (header, m) = (self.cache.header(), batch.asked.slots);
        let used: Vec<usize> = (0..batch.rows * m).filter(|&slot| batch.asked.weights_bm[slot] > 0.0).collect();
        let mut out = Slots::default();
        if used.is_empty() {
            return Ok(out);
        }
        let at: Vec<i32> = used.iter().map(|&slot| (slot / m * batch.length) as i32 + batch.asked.places_bm[slot]).collect();
        let tensors = BatchTensors::new(batch, compute);
        let logits = teacher.signal(&tensors.inputs, &Places::new(&at, &compute.device)).logits();
        let v = header.vocabulary;
        let chunk = (compute.traits.logits_chunk_bytes / (4 * v)).max(16);
        for (from, slots) in (0..used.len()).step_by(chunk).zip(used.chunks(chunk)) {
            let logits_cv = logits.narrow(from, slots.len()).whole(compute).into_data();
            let logits_cv: Vec<f32> =
                logits_cv.try_to_vec().map_err(|error| Error::new(format!("the teacher's logits: {error:?}")))?;
            if let Some(bad) = logits_cv.iter().position(|z| !z.is_finite()) {
                let row = batch.first_row + (slots[bad / v] / m) as u64;
                return Err(Error::not_finite(format!(
                    "the teacher's logits at row {row} of the training split's sequence are not finite"
                ))
                .help("take another teacher, or an earlier checkpoint of it"));
            }
            let each = |(logits_v, &slot): (&[f32], &usize)| {
                let place = Place { row: batch.first_row + (slot / m) as u64, slot: slot % m };
                cut(logits_v, batch.asked.labels_bm[slot] as usize, place, header)
            };
            let said: Vec<Slots> = logits_cv.par_chunks(v).zip(slots).map(each).collect();
            said.into_iter().for_each(|slot| out.extend(slot));
        }
        Ok(out)
    }
}

/// The numbers of the blocks with the rows of these steps.
fn blocks_of(steps: Range<u64>, batch: u64, block_rows: u64) -> Range<u64> {
    steps.start * batch / block_rows..(steps.end * batch).div_ceil(block_rows)
}

/// A plan's rows, as many at once as a block has: batch number i is block number i.
fn in_blocks(plan: &Plan, shards: &Shards, block_rows: u64) -> Result<Batches> {
    let options = BatchOptions {
        layout: plan.data.rows,
        length: plan.data.length,
        batch: block_rows as usize,
        seed: plan.seed,
        objective: Objective::of(plan),
    };
    Batches::new(shards, Split::Train, options)
}

/// Rows of a block of a cache that holds the rows of so many steps.
fn rows_of_a_block(plan: &Plan, steps: u64) -> u64 {
    (steps * plan.train.batch as u64 / MANY_BLOCKS).next_power_of_two().clamp(LEAST_ROWS, MOST_ROWS)
}

/// Writes what a teacher elsewhere is asked in these steps into a new folder, which is there: `asked.json`, a cache's
/// `cache.json` but for the teacher's part, and for each block a safetensors file of i32: `input_ids`, `segments` (0 at
/// padding) and `positions` `[rows, s]`, `slots` (places within the row) and `labels` `[rows, m]`, and `used` `[rows]`,
/// how many of the slots are asked. Gives the number of blocks.
///
/// # Errors
/// When a file can't be written; an [interrupted](Error::is_interrupted) error when `stop` says so.
pub fn dump_asked(plan: &Plan, shards: &Shards, steps: Range<u64>, folder: &Path, stop: &dyn Fn() -> bool) -> Result<u64> {
    plan.must_ask_alike()?;
    let block_rows = rows_of_a_block(plan, steps.end);
    let batches = in_blocks(plan, shards, block_rows)?;
    let header = AnswersHeader::of(plan, "", AnswersKind::TopK, 1, block_rows);
    let text = serde_json::to_string_pretty(&header).expect("a header in memory can be written");
    write_text(&folder.join("asked.json"), &(text + "\n"))?;
    let blocks = blocks_of(steps, plan.train.batch as u64, block_rows);
    for number in blocks.clone() {
        if stop() {
            return Err(Error::interrupted("stopped while the batches were written").help("the same command begins again"));
        }
        let batch = batches.at(number);
        let (rows, s, m) = (batch.rows, batch.length, batch.asked.slots);
        let used: Vec<i32> = used_slots(&batch).into_iter().map(i32::from).collect();
        let bytes = integers(&[
            ("input_ids", &[rows, s], &batch.input_ids_bs),
            ("labels", &[rows, m], &batch.asked.labels_bm),
            ("positions", &[rows, s], &batch.positions_bs),
            ("segments", &[rows, s], &batch.segments_bs),
            ("slots", &[rows, m], &batch.asked.places_bm),
            ("used", &[rows], &used),
        ])?;
        write_whole(&folder.join(format!("{number:08}.safetensors")), |out| out.write_all(&bytes))?;
    }
    Ok(blocks.end - blocks.start)
}

/// Used slots of each row: they are the first ones.
fn used_slots(batch: &Batch) -> Vec<u16> {
    let rows = batch.asked.weights_bm.chunks(batch.asked.slots.max(1));
    rows.map(|weights| weights.iter().filter(|&&weight| weight > 0.0).count() as u16).collect()
}

fn no_teacher() -> Error {
    Error::new("the run has no teacher to ask").help("write [teacher] from = \"runs/...\"")
}

/// The header of the answers that are asked for.
fn header(plan: &Plan, options: &TeachOptions) -> Result<AnswersHeader> {
    plan.must_ask_alike()?;
    let teacher = plan.teacher.as_ref().ok_or_else(no_teacher)?;
    let Some(content) = teacher.content() else {
        let what = teacher.no_model().unwrap_or("no model");
        return Err(Error::new(format!("the run's teacher is {what}, which is not asked"))
            .help("name the teacher's own folder: --set teacher.from=runs/teacher"));
    };
    if plan.distill.positions != Positions::Masked {
        return Err(Error::new("answers are kept at masked positions alone, and the run listens at all real tokens")
            .help("--set distill.positions=masked"));
    }
    let Some(temperature) = plan.taught_temperature() else {
        return Err(Error::new("the run's temperature changes while it listens, and answers are kept at one")
            .help("--set distill.temperature=2, or another number"));
    };
    let block_rows = rows_of_a_block(plan, options.steps.as_ref().map_or(plan.train.steps, |steps| steps.end));
    let header = AnswersHeader::of(plan, &content, options.kind, options.count, block_rows);
    Ok(AnswersHeader { temperature, ..header })
}
