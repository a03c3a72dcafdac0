//! Reading sentences of tokens: from a data folder through the page cache, or from memory.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use super::Tokenizer;
use super::folder::{COUNTS, MANIFEST};
use super::manifest::{Manifest, ShardRecord, SplitRecord, rebuild};
use super::options::{BuildOptions, SHARD_TOKENS};
use super::shard::{Bytes, Packer, Shard, Width};
use crate::error::{Error, IoContext, Result};
use crate::files::Files;

/// Sentences as tokens, in two splits, with the tokenizer that made them; cheap to clone.
///
/// ```
/// use upstill::{Shards, Tokenizer};
///
/// let text = ["a cat sat on a mat", "a dog ran to a cat"];
/// let tokenizer = Tokenizer::train(text.iter().map(|line| (*line).to_owned()), 40, 1)?;
/// let [train, held_out] = text.map(|line| tokenizer.encode(line));
/// let shards = Shards::from_sentences(tokenizer, vec![train?], vec![held_out?]);
/// assert_eq!((shards.train().len(), shards.held_out().len()), (1, 1));
/// # Ok::<(), upstill::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Shards {
    tokenizer: Tokenizer,
    train: Sentences,
    held_out: Sentences,
    token_counts: Arc<Vec<u64>>,
    hash: Arc<str>,
}

impl Shards {
    /// Opens a data folder, memory-mapped, after checking every byte of it: the sizes, checksums and ids of the shards,
    /// the tokenizer's hash, and the manifest. The folder must not change while it is open.
    ///
    /// # Errors
    /// When anything is missing or not as it was written, naming the file.
    pub fn open(folder: &Path) -> Result<Self> {
        let manifest = Manifest::read(folder)?;
        let tokenizer = Tokenizer::load(folder)?;
        if tokenizer.hash() != manifest.tokenizer {
            let what = format!(
                "the tokenizer is not the one that the data was made with ({}, not {})",
                short(tokenizer.hash()),
                short(&manifest.tokenizer)
            );
            return Err(Error::new(what).at(folder.display()).help(rebuild(folder)));
        }
        let train = open_split(folder, &manifest.train, &tokenizer)?;
        let held_out = open_split(folder, &manifest.held_out, &tokenizer)?;
        let token_counts = open_counts(folder, &manifest)?;
        let shards = Self::new(tokenizer, train, held_out, token_counts);
        if shards.hash() != manifest.hash {
            return Err(Error::new("the manifest's hash is not its shards'").at(folder.display()).help(rebuild(folder)));
        }
        Ok(shards)
    }

    /// Sentences in memory; each is ids without special tokens around it.
    ///
    /// # Panics
    /// When an id isn't in the vocabulary.
    pub fn from_sentences(tokenizer: Tokenizer, train: Vec<Vec<u32>>, held_out: Vec<Vec<u32>>) -> Self {
        let mut token_counts = vec![0; tokenizer.vocab_size()];
        train.iter().flatten().for_each(|id| token_counts[*id as usize] += 1);
        let [train, held_out] = [train, held_out].map(|sentences| Sentences::from_memory(&sentences, &tokenizer));
        Self::new(tokenizer, train, held_out, token_counts)
    }

    /// What a data folder of these sentences holds. Its manifest names no input: where the text came from is not known
    /// here.
    ///
    /// # Errors
    /// As [`Tokenizer::files`].
    pub fn files(&self) -> Result<Files> {
        let mut files = self.tokenizer.files()?;
        let mut manifest = Manifest::new(&self.tokenizer, BuildOptions::default());
        for (name, sentences, record) in
            [("train", &self.train, &mut manifest.train), ("held-out", &self.held_out, &mut manifest.held_out)]
        {
            for (number, shard) in sentences.shards.iter().enumerate() {
                let file = format!("{name}-{number:05}.tok");
                record.add(ShardRecord {
                    file: file.clone(),
                    bytes: shard.bytes().len() as u64,
                    sentences: shard.sentences() as u64,
                    tokens: shard.tokens(),
                    blake3: shard.checksum.to_hex().to_string(),
                });
                files.insert(file, shard.bytes().to_vec());
            }
        }
        let counts: Vec<u8> = self.token_counts.iter().flat_map(|count| count.to_le_bytes()).collect();
        manifest.token_counts = blake3::hash(&counts).to_hex().to_string();
        manifest.hash = self.hash.to_string();
        files.insert(COUNTS.to_owned(), counts);
        files.insert(MANIFEST.to_owned(), manifest.to_json().into_bytes());
        Ok(files)
    }

    /// Sentences from what [`Shards::files`] gives, every shard checked.
    ///
    /// # Errors
    /// When a file is missing or damaged.
    pub fn from_files(files: &Files) -> Result<Self> {
        let file = |name: &str| files.get(name).ok_or_else(|| Error::new("a file of the data is missing").at(name));
        let tokenizer =
            Tokenizer::from_json(file("tokenizer.json")?, file("tokenizer_config.json")?, Path::new("tokenizer.json"))?;
        let split = |name: &str| -> Result<Sentences> {
            let named = files.iter().filter(|(file, _)| file.starts_with(name) && file.ends_with(".tok"));
            let shard = |(file, bytes): (&String, &Vec<u8>)| {
                let shard = Shard::check(Bytes::Memory(bytes.clone()), tokenizer.vocab_size());
                let shard = shard.and_then(|shard| match shard.tokenizer == tokenizer_hash(&tokenizer) {
                    true => Ok(shard),
                    false => Err(Error::new("the shard was made with another tokenizer")),
                });
                shard.map_err(|error| error.at(file))
            };
            Ok(Sentences::new(named.map(shard).collect::<Result<_>>()?))
        };
        let (train, held_out) = (split("train-")?, split("held-out-")?);
        let (mut token_counts, mut ids) = (vec![0; tokenizer.vocab_size()], Vec::new());
        for at in 0..train.len() {
            train.read(at, &mut ids);
            ids.iter().for_each(|id| token_counts[*id as usize] += 1);
        }
        Ok(Self::new(tokenizer, train, held_out, token_counts))
    }

    fn new(tokenizer: Tokenizer, train: Sentences, held_out: Sentences, token_counts: Vec<u64>) -> Self {
        let checksums = train.checksums().chain(held_out.checksums());
        let hash = content_hash(&tokenizer, checksums).into();
        Shards { tokenizer, train, held_out, token_counts: Arc::new(token_counts), hash }
    }

    /// The tokenizer that made the ids.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// What models are trained on.
    pub fn train(&self) -> &Sentences {
        &self.train
    }

    /// What they are evaluated on.
    pub fn held_out(&self) -> &Sentences {
        &self.held_out
    }

    /// How often each id occurs in the train split.
    pub fn token_counts(&self) -> &[u64] {
        &self.token_counts
    }

    /// BLAKE3, in hexadecimal, of the tokenizer's hash and the checksums of the shards.
    pub fn hash(&self) -> &str {
        &self.hash
    }
}

/// The hash that names a data folder's content.
pub(super) fn content_hash(tokenizer: &Tokenizer, checksums: impl Iterator<Item = blake3::Hash>) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("upstill data, 1");
    hasher.update(tokenizer.hash().as_bytes());
    for checksum in checksums {
        hasher.update(checksum.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// The tokenizer's hash as bytes, for headers.
pub(super) fn tokenizer_hash(tokenizer: &Tokenizer) -> blake3::Hash {
    blake3::Hash::from_hex(tokenizer.hash()).expect("a tokenizer's hash is BLAKE3 in hexadecimal")
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

fn open_split(folder: &Path, split: &SplitRecord, tokenizer: &Tokenizer) -> Result<Sentences> {
    let shards: Vec<Shard> =
        split.shards.par_iter().map(|record| open_shard(folder, record, tokenizer)).collect::<Result<_>>()?;
    Ok(Sentences::new(shards))
}

fn open_shard(folder: &Path, record: &ShardRecord, tokenizer: &Tokenizer) -> Result<Shard> {
    let path = folder.join(&record.file);
    let named = |error: Error| error.at(path.display()).help(rebuild(folder));
    if !path.is_file() {
        return Err(named(Error::new("a shard that the manifest names is missing")));
    }
    let file = File::open(&path).doing("open", &path)?;
    if file.metadata().doing("read", &path)?.len() != record.bytes {
        let size = file.metadata().doing("read", &path)?.len();
        return Err(named(Error::new(format!(
            "the shard is cut or grown: it has {size} bytes, and was written with {}",
            record.bytes
        ))));
    }
    // SAFETY: the documented condition of `Shards::open`: nobody writes to the folder while it is open. upstill itself
    // never writes into a data folder, it only replaces whole ones, and a replaced file lives on for who has it mapped.
    let map = unsafe { memmap2::Mmap::map(&file) }.doing("map", &path)?;
    let shard = Shard::check(Bytes::Mapped(map), tokenizer.vocab_size()).map_err(named)?;
    if shard.tokenizer != tokenizer_hash(tokenizer) {
        return Err(named(Error::new("the shard was made with another tokenizer")));
    }
    if shard.checksum.to_hex().as_str() != record.blake3 {
        return Err(named(Error::new("the shard is whole, but not the one that the manifest names")));
    }
    Ok(shard)
}

fn open_counts(folder: &Path, manifest: &Manifest) -> Result<Vec<u64>> {
    let path = folder.join(COUNTS);
    let bytes = std::fs::read(&path).doing("read", &path)?;
    if blake3::hash(&bytes).to_hex().as_str() != manifest.token_counts || bytes.len() != 8 * manifest.vocab_size {
        return Err(Error::new("the token counts are damaged: they don't have the checksum that they were written with")
            .at(path.display())
            .help(rebuild(folder)));
    }
    Ok(bytes.chunks_exact(8).map(|count| u64::from_le_bytes(count.try_into().expect("the chunk has 8 bytes"))).collect())
}

/// The sentences of one split; `Send`, `Sync` and cheap to clone.
#[derive(Clone)]
pub struct Sentences {
    shards: Arc<Vec<Shard>>,
    /// The index of each shard's first sentence, and at last the number of all.
    firsts: Arc<Vec<usize>>,
}

impl std::fmt::Debug for Sentences {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sentences").field("len", &self.len()).field("tokens", &self.tokens()).finish()
    }
}

impl Sentences {
    fn new(shards: Vec<Shard>) -> Self {
        let mut firsts = vec![0];
        firsts.extend(shards.iter().scan(0, |sum, shard| {
            *sum += shard.sentences();
            Some(*sum)
        }));
        Sentences { shards: Arc::new(shards), firsts: Arc::new(firsts) }
    }

    fn from_memory(sentences: &[Vec<u32>], tokenizer: &Tokenizer) -> Self {
        let width = Width::of(tokenizer.vocab_size());
        let mut shards = Vec::new();
        let mut packer = Packer::new(width);
        for (i, ids) in sentences.iter().enumerate() {
            packer.push(ids);
            if packer.tokens() >= SHARD_TOKENS || i + 1 == sentences.len() {
                let mut bytes = Vec::new();
                let packed = std::mem::replace(&mut packer, Packer::new(width)).finish(&tokenizer_hash(tokenizer));
                packed.write(&mut bytes).expect("memory takes every byte");
                shards.push(Shard::check(Bytes::Memory(bytes), tokenizer.vocab_size()).expect("a shard just packed is whole"));
            }
        }
        Self::new(shards)
    }

    fn checksums(&self) -> impl Iterator<Item = blake3::Hash> {
        self.shards.iter().map(|shard| shard.checksum)
    }

    /// How many sentences there are.
    pub fn len(&self) -> usize {
        self.firsts.last().copied().unwrap_or(0)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many tokens there are, without special ones.
    pub fn tokens(&self) -> u64 {
        self.shards.iter().map(Shard::tokens).sum()
    }

    /// How many tokens sentence `i` has.
    ///
    /// # Panics
    /// When `i` is not below [`Self::len`].
    pub fn length_of(&self, i: usize) -> usize {
        let (shard, i) = self.locate(i);
        shard.span(i).len()
    }

    /// Puts the tokens of sentence `i` into `out`, in place of what it held.
    ///
    /// # Panics
    /// When `i` is not below [`Self::len`].
    pub fn read(&self, i: usize, out: &mut Vec<u32>) {
        let (shard, i) = self.locate(i);
        out.clear();
        out.extend(shard.ids_in(shard.span(i)));
    }

    fn locate(&self, i: usize) -> (&Shard, usize) {
        assert!(i < self.len(), "sentence {i} of {}", self.len());
        let shard = self.firsts.partition_point(|first| *first <= i) - 1;
        (&self.shards[shard], i - self.firsts[shard])
    }
}
