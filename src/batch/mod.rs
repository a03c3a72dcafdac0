//! Order, masking, packing: a batch is a pure function of (shards, seed, step).
//!
//! ```text
//! sentences ──► pieces ──► rows ──► an epoch's order ──► masks ──► Batch
//!               cut to    one or    a permutation      by (seed,
//!               length    several   entered anywhere    epoch,
//!                         each                          sentence)
//! ```
//!
//! A sentence has the same mask in an epoch whether it stands alone in a row or shares one, so `rows = "sentence"` and
//! `rows = "packed"` give the same losses. Nothing here holds state between batches: resuming at a step is asking for
//! it.

mod cut;
mod masking;
mod objective;
mod order;
mod packing;
mod pieces;
mod prefetch;
mod rows;
mod schedules;
mod show;

use std::sync::Arc;

pub use masking::Masking;
pub use objective::{Objective, TokenOrder};
pub use order::Order;
pub use rows::{Asked, Batch};

use crate::config::{Plan, Rows};
use crate::error::{Error, Result};
use crate::tokens::{Sentences, Shards, Special, Tokenizer};
use cut::Cut;
use masking::{Masker, Scratch};
use packing::SPECIALS;
use pieces::Piece;
use rows::RowMut;
use schedules::Schedules;

/// Seeds the held-out order and masks of every run alike, so that all runs are scored on the same ones.
const HELD_OUT_SEED: u64 = 0x6865_6c64_206f_7574;

/// Which sentences of a data folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Those trained on: every epoch has its own order and masks.
    Train,
    /// Those scored on: one pass in a fixed order with masks that are the same for every seed and run.
    HeldOut,
}

/// How sentences become batches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchOptions {
    /// One sentence a row, or several.
    pub layout: Rows,
    /// Tokens in a row, s: `[CLS]`, `[SEP]` and padding included. Longer sentences are cut into pieces; no token is
    /// lost.
    pub length: usize,
    /// Rows in a batch, b.
    pub batch: usize,
    /// Decides the order of rows and, in the training split, the masks.
    pub seed: u64,
    /// What is asked of them.
    pub objective: Objective,
}

/// Every batch of a split, each made when it is asked for. Cheap to clone; any thread gets the same batches.
///
/// ```
/// use upstill::batch::{BatchOptions, Batches, Masking, Split};
/// use upstill::config::Rows;
///
/// let shards = upstill::tokens::pocket_shards()?;
/// let options = BatchOptions { layout: Rows::Packed, length: 64, batch: 4, seed: 1, objective: Masking::default().into() };
/// let batches = Batches::new(&shards, Split::Train, options)?;
/// assert_eq!(batches.at(7), batches.at(7)); // a function of shards, seed and step
/// println!("{}", batches.at(7).show(shards.tokenizer(), 2));
/// # Ok::<(), upstill::Error>(())
/// ```
#[derive(Clone)]
pub struct Batches {
    inner: Arc<Inner>,
    /// Held-out rows that are left out at the start of the order.
    left_out: usize,
    schedules: Arc<Schedules>,
}

struct Inner {
    sentences: Sentences,
    split: Split,
    options: BatchOptions,
    tokenizer: Tokenizer,
    special: Special,
    /// Draws the masks; `None` where nothing is masked.
    masker: Option<Masker>,
    cut: Arc<Cut>,
    slots: usize,
}

impl Batches {
    /// Cuts and packs a split's sentences, from their lengths alone.
    ///
    /// Packing needs 4 bytes a sentence and 4 a row (and 10 a sentence more while it runs); what was packed last is
    /// kept, and found again.
    ///
    /// # Errors
    /// An empty split, a length below 3 or above 65536, a batch of 0 rows, a masking rate that is no share, or a
    /// vocabulary without `[MASK]` where tokens are masked.
    pub fn new(shards: &Shards, split: Split, options: BatchOptions) -> Result<Self> {
        check(&options)?;
        let masker = match options.objective {
            Objective::Masked(masking) => Some(Masker::new(shards, masking)?),
            Objective::Causal => None,
        };
        let sentences = match split {
            Split::Train => shards.train().clone(),
            Split::HeldOut => shards.held_out().clone(),
        };
        let cut = Cut::of(shards, split, &sentences, &options)?;
        if cut.pieces.len() == 0 {
            return Err(empty(split));
        }
        let tokenizer = shards.tokenizer().clone();
        let special = tokenizer.special();
        Ok(Self {
            inner: Arc::new(Inner { sentences, split, options, tokenizer, special, masker, cut, slots: slots(&options) }),
            left_out: 0,
            schedules: Arc::default(),
        })
    }

    /// Held out, without the first `rows` of the order: no row of these batches is among the first `rows` of the whole.
    ///
    /// # Errors
    /// When none is left.
    pub fn after(self, rows: usize) -> Result<Self> {
        match (self.inner.split, self.inner.cut.rows()) {
            (_, _) if rows == 0 => Ok(self),
            (Split::HeldOut, there) if rows < there => Ok(Self { left_out: rows, ..self }),
            (Split::HeldOut, there) => Err(Error::new(format!("there are {there} held-out rows, and {rows} are to be left out"))
                .help("lower train.evaluate_after, or hold out a larger share when building the data")),
            (Split::Train, _) => Err(Error::new("rows of the training split are not left out")),
        }
    }

    /// Training batches with what a plan changes from step to step: the rows of a batch, and the share of tokens that
    /// is masked. The rows' order, slots and packing stay those of the options, whose rate should be the highest.
    #[must_use]
    pub fn scheduled_by(self, plan: &Plan) -> Self {
        Self { schedules: Arc::new(Schedules::of(plan)), ..self }
    }

    /// Rows of one pass over the split.
    pub fn rows_per_epoch(&self) -> usize {
        self.inner.cut.rows() - self.left_out
    }

    /// Slots of a row, m.
    pub fn slots(&self) -> usize {
        self.inner.slots
    }

    /// Steps that see every row once; in the training split the last of them may reach into the next epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.rows_per_epoch().div_ceil(self.inner.options.batch)
    }

    /// Real tokens of a row on average, `[CLS]` and `[SEP]` included.
    pub fn tokens_per_row(&self) -> f64 {
        self.inner.cut.real_tokens as f64 / self.inner.cut.rows() as f64
    }

    /// The split's sentences.
    pub fn sentences(&self) -> &Sentences {
        &self.inner.sentences
    }

    /// The batch of a step, in constant time.
    ///
    /// Training: rows `step * batch ..` of the endless sequence of epochs, so that an epoch's last batch goes on into
    /// the next epoch, with its order and its masks: no row is lost, and shapes are static. Held out: one pass in an
    /// order that is the same for ever and shuffled, so that the first batches are a fair sample; the last one is
    /// filled up with empty rows (segments and weights 0), and steps beyond it start over.
    pub fn at(&self, step: u64) -> Batch {
        let BatchOptions { batch, length, objective, .. } = self.inner.options;
        let ((first_row, rows), rate) = (self.schedules.rows(step, batch), self.schedules.rate(step));
        let mut batch = Batch::empty(rows, length, self.inner.slots, objective.order(), self.inner.special.pad as i32);
        batch.first_row = first_row;
        let mut scratch = RowScratch::default();
        for i in 0..rows {
            if let Some((epoch, row)) = self.inner.place(step, first_row.wrapping_add(i as u64), i, self.left_out) {
                let (tokens, asked) = self.inner.write_row(epoch, row, rate, batch.row_mut(i), &mut scratch);
                batch.tokens += tokens;
                batch.asked.count += asked;
            }
        }
        batch
    }

    /// What each row of a step's batch holds: the row's number in the split, and its sentences'; none for rows that are
    /// empty.
    pub fn rows_of(&self, step: u64) -> Vec<(usize, Vec<usize>)> {
        let (first_row, rows) = self.schedules.rows(step, self.inner.options.batch);
        let rows = (0..rows).filter_map(|i| self.inner.place(step, first_row.wrapping_add(i as u64), i, self.left_out));
        rows.map(|(_, row)| (row, self.inner.pieces_of(row).map(|piece| piece.sentence).collect())).collect()
    }

    /// Bytes of the text of the first `rows` held-out rows, as [`Tokenizer::text_bytes`] counts them.
    pub fn text_bytes(&self, rows: usize) -> usize {
        let (mut ids, mut bytes, mut left) = (Vec::new(), 0, rows);
        for step in 0..self.steps_per_epoch() as u64 {
            let in_step = self.schedules.rows(step, self.inner.options.batch).1.min(left);
            left -= in_step;
            for i in 0..in_step {
                let Some((_, row)) = self.inner.place(step, i as u64, i, self.left_out) else { return bytes };
                for piece in self.inner.pieces_of(row) {
                    self.inner.sentences.read(piece.sentence, &mut ids);
                    bytes += self.inner.tokenizer.text_bytes(&ids[piece.range(ids.len())]);
                }
            }
        }
        bytes
    }

    /// What is asked of the rows.
    pub fn objective(&self) -> Objective {
        self.inner.options.objective
    }

    /// Batches `from..to`, made by one background thread that keeps up to `ahead` of them ready. Where threads can't be
    /// started (a browser) they are made when asked for. Dropping the iterator ends the thread.
    ///
    /// # Panics
    /// A panic of the thread goes on in `next`.
    pub fn prefetch(self, from: u64, to: u64, ahead: usize) -> impl Iterator<Item = Batch> + Send {
        prefetch::Prefetch::start(move |step| self.at(step), from..to, ahead)
    }
}

/// Space that is used again for every row of a batch.
#[derive(Default)]
struct RowScratch {
    ids: Vec<u32>,
    masking: Scratch,
}

impl Inner {
    /// Which row stands at place `i` of a step's batch, number `index` of the endless sequence of epochs, and in which
    /// epoch; `None` beyond the held-out rows.
    fn place(&self, step: u64, index: u64, i: usize, left_out: usize) -> Option<(u64, usize)> {
        let (rows, batch) = (self.cut.rows() as u64, self.options.batch as u64);
        match self.split {
            Split::Train => {
                let epoch = index / rows;
                Some((epoch, Order::new(rows, self.options.seed, epoch).at(index % rows) as usize))
            }
            Split::HeldOut => {
                let left = rows - left_out as u64;
                let index = left_out as u64 + step % left.div_ceil(batch) * batch + i as u64;
                (index < rows).then(|| (0, Order::new(rows, HELD_OUT_SEED, 0).at(index) as usize))
            }
        }
    }

    /// The pieces of a row.
    fn pieces_of(&self, row: usize) -> impl Iterator<Item = Piece> {
        let packed = self.cut.packed.as_ref().map(|packed| packed.row(row));
        let pieces = packed.map_or(1, <[u32]>::len);
        (0..pieces).map(move |i| self.cut.pieces.get(packed.map_or(row, |pieces| pieces[i] as usize)))
    }

    /// Writes a row's sentences, each `[CLS] ids [SEP]`, with the options' share of tokens masked unless there is
    /// another `rate`; returns its real tokens and its used slots.
    fn write_row(&self, epoch: u64, row: usize, rate: Option<f64>, mut out: RowMut, scratch: &mut RowScratch) -> (usize, usize) {
        let mask_seed = match self.split {
            Split::Train => self.options.seed,
            Split::HeldOut => HELD_OUT_SEED,
        };
        let (mut tokens, mut slot) = (0, 0);
        for (segment, piece) in self.pieces_of(row).enumerate() {
            self.sentences.read(piece.sentence, &mut scratch.ids);
            let ids = &scratch.ids[piece.range(scratch.ids.len())];
            out.write_sentence(tokens, segment as i32 + 1, ids, &self.special);
            match &self.masker {
                Some(masker) => {
                    let mut rng = masking::generator(mask_seed, epoch, &piece);
                    for masked in masker.mask(&mut rng, rate, ids, &mut scratch.masking) {
                        out.ask_masked(slot, tokens + 1 + masked.at, masked.input);
                        slot += 1;
                    }
                }
                None => {
                    for at in tokens..tokens + ids.len() + 1 {
                        out.ask_next(slot, at);
                        slot += 1;
                    }
                }
            }
            tokens += ids.len() + SPECIALS;
        }
        (tokens, slot)
    }
}

/// Slots of a row. Masked: what the longest sentence needs, and one more for packed rows, whose sentences each round
/// up; at length 128 and 15 % that is BERT's own `max_predictions_per_seq`, 20. Causal: every token but a sentence's
/// last.
fn slots(options: &BatchOptions) -> usize {
    let longest = options.objective.count(options.length - SPECIALS);
    match (options.objective, options.layout) {
        (Objective::Masked(_), Rows::Packed) => longest + 1,
        (Objective::Masked(_), Rows::Sentence) | (Objective::Causal, _) => longest,
    }
}

fn check(options: &BatchOptions) -> Result<()> {
    if !(SPECIALS + 1..=1 << 16).contains(&options.length) {
        return Err(Error::new(format!("a row of {} tokens", options.length))
            .help("give a length from 3, for [CLS], a token and [SEP], to 65536"));
    }
    if options.batch == 0 {
        return Err(Error::new("a batch of 0 rows").help("give at least 1"));
    }
    Ok(())
}

fn empty(split: Split) -> Error {
    match split {
        Split::Train => {
            Error::new("there are no sentences to train on").help("build the data from more text, or hold out a smaller share")
        }
        Split::HeldOut => {
            Error::new("there are no held-out sentences").help("build the data from more documents, or hold out a larger share")
        }
    }
}
