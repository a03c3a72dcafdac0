//! Files of text to a data folder: reader thread, all cores, writer thread, each a bounded step ahead of the next.

use std::ops::AddAssign;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use rayon::prelude::*;

use super::folder::{COUNTS, holds_data_only};
use super::manifest::{Counts, HeldOutBy, Manifest, ShardRecord, SplitRecord};
use super::options::BuildOptions;
use super::shard::{Packer, Width};
use super::shards::{content_hash, tokenizer_hash};
use super::tokenizer::Tokenizer;
use crate::error::{Error, IoContext, Result, note};
use crate::files::{Target, is_free, write_whole};
use crate::text::{Document, Input, ReadOptions, Reader, Source, find, fingerprint, is_held_out, sample};

/// Text handed to the cores in one go.
const ROUND_BYTES: usize = 8 << 20;

/// How far a build is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read from disk.
    pub bytes: u64,
    /// Bytes to read.
    pub total_bytes: u64,
    /// Sentences made into tokens.
    pub sentences: u64,
}

/// How a build talks to whoever waits for it, and what it may use. Nothing here changes what is written.
pub struct Watch<'a> {
    /// Cores to use; 0 for all.
    pub threads: usize,
    /// Asked before each document and sentence; true stops the build, leaving nothing behind.
    pub stop: &'a (dyn Fn() -> bool + Sync),
    /// Called after each round of some megabytes.
    pub progress: &'a (dyn Fn(Progress) + Sync),
}

/// Builds the data folder `out` from the files, folders and globs in `inputs`. The same input and options give the same
/// bytes, whatever the number of threads. With `force`, a data folder that is already there is replaced, once the new
/// one is whole; anything else there is refused. Files of the input that lie in `out` are left out.
///
/// Documents are held out by their content. Where they are so few that none is held out, or all are, sentences are, by
/// theirs: a text without empty lines is one document, unless each line is one ([`BuildOptions::lines`]).
///
/// # Errors
/// For options or input that can't be used, a full disk, or a stop; then `out` is as it was.
pub fn build(
    inputs: &[String],
    out: &Path,
    force: bool,
    tokenizer: &Tokenizer,
    options: &BuildOptions,
    watch: &Watch,
) -> Result<Manifest> {
    options.check()?;
    // Rows are opened: what is trained on them goes on with texts that are.
    let tokenizer = &tokenizer.opening()?;
    let accept = |found: &Path| check_out(found, force);
    let target = Target::take(out, &accept)?;
    let sources = without_output(find(inputs)?, out)?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(watch.threads).build();
    let pool = pool.map_err(|error| Error::new(format!("could not start {} threads: {error}", watch.threads)))?;
    let mut manifest = Manifest::new(tokenizer, options.clone());
    target.write(|folder| {
        let read = ReadOptions { each_line: options.lines, ..options.read.clone() };
        let make = |by| run(folder, Reader::new(sources.clone(), read.clone()), tokenizer, options, by, watch, &pool);
        let (mut written, mut inputs) = make(HeldOutBy::Document)?;
        let (train, held_out) = (&written.train.record, &written.held_out.record);
        let few = 0.0 < options.held_out && options.held_out < 1.0 && (train.sentences == 0) != (held_out.sentences == 0);
        if few && train.sentences + held_out.sentences > 1 {
            for shard in train.shards.iter().chain(&held_out.shards) {
                let file = folder.join(&shard.file);
                std::fs::remove_file(&file).doing("replace", &file)?;
            }
            (written, inputs) = make(HeldOutBy::Sentence)?;
            // Where not one sentence is held out either, the folder is what it was.
            if written.held_out.record.sentences > 0 {
                manifest.held_out_by = HeldOutBy::Sentence;
            }
        }
        if let Some(error) = nothing_left(&written, options) {
            return Err(error);
        }
        let checksums = written.train.checksums.iter().chain(&written.held_out.checksums).copied();
        manifest.hash = content_hash(tokenizer, checksums);
        manifest.inputs = inputs;
        manifest.counts = written.counts;
        manifest.token_counts = write_counts(folder, &written.token_counts)?;
        (manifest.train, manifest.held_out) = (written.train.record, written.held_out.record);
        tokenizer.save(folder)?;
        manifest.write(folder)
    })?;
    Ok(manifest)
}

fn check_out(out: &Path, force: bool) -> Result<()> {
    if is_free(out)? {
        return Ok(());
    }
    let (what, help) = match (holds_data_only(out), force) {
        (true, true) => return Ok(()),
        (true, false) => ("the output folder already holds data", "choose another with --out, or replace it with --force"),
        (false, _) => ("the output folder already holds something that is not upstill's data", "choose another with --out"),
    };
    Err(Error::new(what).at(out.display()).help(help))
}

/// The input without what lies in the folder that is written: what an earlier build left there is no text.
pub fn without_output(mut sources: Vec<Source>, out: &Path) -> Result<Vec<Source>> {
    let Ok(out) = out.canonicalize() else { return Ok(sources) };
    let all = sources.len();
    sources.retain(|source| !source.path.canonicalize().is_ok_and(|path| path.starts_with(&out)));
    match (all - sources.len(), sources.is_empty()) {
        (0, _) => {}
        (_, true) => {
            return Err(Error::new("all of the input lies in the folder that is to be written")
                .at(out.display())
                .help("choose another --out"));
        }
        (left_out, false) => note(format!("{left_out} files of the input lie in {}, and are left out", out.display())),
    }
    Ok(sources)
}

fn nothing_left(written: &Written, options: &BuildOptions) -> Option<Error> {
    let counts = &written.counts;
    if counts.sentences == 0 {
        return Some(Error::new("the corpus is empty: there is not one sentence in it").help("check that the input holds text"));
    }
    let (wanted, purpose) = match options.held_out < 1.0 {
        true => (&written.train.record, "train on"),
        false => (&written.held_out.record, "score"),
    };
    (wanted.sentences == 0).then(|| {
        let what = format!(
            "nothing is left to {purpose}: of {} sentences, sampling kept {}, of which {} have fewer than {} tokens; {} of {} documents are held out",
            counts.sentences, counts.sampled, counts.dropped_short, options.min_tokens, counts.documents_held_out, counts.documents
        );
        Error::new(what).help("give it more text, or change --keep-one-of, --min-tokens or --held-out")
    })
}

/// One document's sentences as tokens.
struct Prepared {
    /// Each with whether it is held out.
    sentences: Vec<(bool, Vec<u32>)>,
    counts: Counts,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.documents += other.documents;
        self.documents_held_out += other.documents_held_out;
        self.sentences += other.sentences;
        self.sampled += other.sampled;
        self.dropped_short += other.dropped_short;
        self.split_long += other.split_long;
        self.unknown = Some(self.unknown.unwrap_or(0) + other.unknown.unwrap_or(0));
    }
}

type Round = Result<Vec<Document>>;

fn run(
    folder: &Path,
    reader: Reader,
    tokenizer: &Tokenizer,
    options: &BuildOptions,
    by: HeldOutBy,
    watch: &Watch,
    pool: &rayon::ThreadPool,
) -> Result<(Written, Vec<Input>)> {
    let (bytes, total_bytes) = (reader.bytes_read(), reader.total_bytes());
    // A literal "[MASK]" in a corpus is text about masks, not a mask.
    let encoder = tokenizer.without_special();
    let prepare = |document: &Document| prepare(document, &encoder, options, by, watch.stop);
    let (rounds_in, rounds) = sync_channel(1);
    let (prepared, prepared_out) = sync_channel(1);
    thread::scope(|scope| {
        let reading = scope.spawn(move || read(reader, &rounds_in));
        let writing = scope.spawn(move || write(folder, &prepared_out, tokenizer, options));
        let prepare = &prepare;
        let worked = pool.install(move || work(rounds, &prepared, prepare, watch, &bytes, total_bytes));
        let inputs = reading.join().expect("the reader returns its errors");
        let written = writing.join().expect("the writer returns its errors");
        // The writer's error is the cause when both failed: a full disk stops the work.
        let written = written?;
        worked?;
        Ok((written, inputs))
    })
}

/// Reads rounds of documents until the end, an error, or until nobody wants them.
fn read(mut reader: Reader, rounds: &SyncSender<Round>) -> Vec<Input> {
    loop {
        let (mut round, mut bytes, mut ended) = (Vec::new(), 0, false);
        while bytes < ROUND_BYTES && !ended {
            match reader.next() {
                Some(Ok(document)) => {
                    bytes += document.text.len();
                    round.push(document);
                }
                Some(Err(error)) => {
                    let _ = rounds.send(Err(error));
                    return reader.finished();
                }
                None => ended = true,
            }
        }
        if rounds.send(Ok(round)).is_err() || ended {
            return reader.finished();
        }
    }
}

fn work(
    rounds: Receiver<Round>,
    prepared: &SyncSender<Vec<Prepared>>,
    prepare: &(impl Fn(&Document) -> Result<Prepared> + Sync),
    watch: &Watch,
    bytes: &AtomicU64,
    total_bytes: u64,
) -> Result<()> {
    let mut sentences = 0;
    for round in rounds {
        let done: Vec<Prepared> = round?.par_iter().map(prepare).collect::<Result<_>>()?;
        sentences += done.iter().map(|document| document.sentences.len() as u64).sum::<u64>();
        if prepared.send(done).is_err() {
            break;
        }
        (watch.progress)(Progress { bytes: bytes.load(Ordering::Relaxed), total_bytes, sentences });
    }
    Ok(())
}

fn prepare(
    document: &Document,
    encoder: &Tokenizer,
    options: &BuildOptions,
    by: HeldOutBy,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Prepared> {
    let go_on = || if stop() { Err(Error::interrupted("nothing was written")) } else { Ok(()) };
    let encode = |sentence| go_on().and_then(|()| encoder.encode(sentence));
    go_on()?;
    let print = document.fingerprint();
    let all = document.sentences(options.lines);
    let kept = sample(all.len(), options.keep_one_of, options.seed, &print);
    let encoded: Vec<Vec<u32>> = kept.par_iter().with_min_len(32).map(|i| encode(all[*i])).collect::<Result<_>>()?;
    let whole = is_held_out(&print, options.held_out);
    let mut counts = Counts {
        documents: 1,
        documents_held_out: u64::from(by == HeldOutBy::Document && whole),
        sentences: all.len() as u64,
        sampled: kept.len() as u64,
        ..Counts::default()
    };
    let unk = encoder.special().unk;
    let (mut sentences, mut unknown) = (Vec::with_capacity(encoded.len()), 0);
    for (i, ids) in kept.iter().zip(encoded) {
        let held_out = match by {
            HeldOutBy::Document => whole,
            HeldOutBy::Sentence => is_held_out(&fingerprint(all[*i]), options.held_out),
        };
        if ids.len() < options.min_tokens.max(1) {
            counts.dropped_short += 1;
            continue;
        }
        unknown += ids.iter().filter(|id| Some(**id) == unk).count() as u64;
        if ids.len() > options.max_tokens {
            counts.split_long += 1;
            sentences.extend(pieces(&ids, options.max_tokens, encoder).map(|piece| (held_out, piece.to_vec())));
        } else {
            sentences.push((held_out, ids));
        }
    }
    counts.unknown = Some(unknown);
    Ok(Prepared { sentences, counts })
}

/// A long sentence as pieces of at most `longest` tokens and about equal length, cut between words where it can be.
fn pieces<'a>(ids: &'a [u32], longest: usize, tokenizer: &'a Tokenizer) -> impl Iterator<Item = &'a [u32]> {
    let mut rest = ids;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let even = rest.len().div_ceil(rest.len().div_ceil(longest));
        let word = (1..=even).rev().find(|at| rest.get(*at).is_none_or(|id| !tokenizer.continues_word(*id)));
        // A cut that would leave less than half is not worth a whole word.
        let at = word.filter(|at| *at > even / 2).unwrap_or(even);
        let (piece, tail) = rest.split_at(at);
        rest = tail;
        Some(piece)
    })
}

/// What the writer made.
struct Written {
    train: Split,
    held_out: Split,
    token_counts: Vec<u64>,
    counts: Counts,
}

fn write(folder: &Path, prepared: &Receiver<Vec<Prepared>>, tokenizer: &Tokenizer, options: &BuildOptions) -> Result<Written> {
    let split = |name| Split::new(name, tokenizer);
    let mut written = Written {
        train: split("train"),
        held_out: split("held-out"),
        token_counts: vec![0; tokenizer.vocab_size()],
        counts: Counts::default(),
    };
    for document in prepared.iter().flatten() {
        written.counts += document.counts;
        for (held_out, ids) in &document.sentences {
            let split = if *held_out { &mut written.held_out } else { &mut written.train };
            split.push(ids, folder, options.shard_tokens)?;
            if !held_out {
                ids.iter().for_each(|id| written.token_counts[*id as usize] += 1);
            }
        }
    }
    written.train.flush(folder)?;
    written.held_out.flush(folder)?;
    Ok(written)
}

/// One split on its way to disk.
struct Split {
    name: &'static str,
    width: Width,
    tokenizer: blake3::Hash,
    packer: Packer,
    checksums: Vec<blake3::Hash>,
    record: SplitRecord,
}

impl Split {
    fn new(name: &'static str, tokenizer: &Tokenizer) -> Self {
        let width = Width::of(tokenizer.vocab_size());
        let (packer, tokenizer) = (Packer::new(width), tokenizer_hash(tokenizer));
        Split { name, width, tokenizer, packer, checksums: Vec::new(), record: SplitRecord::default() }
    }

    fn push(&mut self, ids: &[u32], folder: &Path, shard_tokens: u64) -> Result<()> {
        self.packer.push(ids);
        if self.packer.tokens() >= shard_tokens { self.flush(folder) } else { Ok(()) }
    }

    /// Writes what was collected as the next shard.
    fn flush(&mut self, folder: &Path) -> Result<()> {
        let packer = std::mem::replace(&mut self.packer, Packer::new(self.width));
        let (sentences, tokens) = (packer.sentences(), packer.tokens());
        if sentences == 0 {
            return Ok(());
        }
        let packed = packer.finish(&self.tokenizer);
        let file = format!("{}-{:05}.tok", self.name, self.checksums.len());
        write_whole(&folder.join(&file), |out| packed.write(out))?;
        let blake3 = packed.checksum.to_hex().to_string();
        self.checksums.push(packed.checksum);
        self.record.add(ShardRecord { file, bytes: packed.bytes(), sentences, tokens, blake3 });
        Ok(())
    }
}

fn write_counts(folder: &Path, counts: &[u64]) -> Result<String> {
    let bytes: Vec<u8> = counts.iter().flat_map(|count| count.to_le_bytes()).collect();
    write_whole(&folder.join(COUNTS), |out| std::io::Write::write_all(out, &bytes))?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}
