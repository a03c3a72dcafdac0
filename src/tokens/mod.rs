//! Text to tokens: WordPiece and byte-level BPE vocabularies, and memory-mapped shards.
//!
//! [`Tokenizer`] turns text into ids; [`build`] turns files of text into a data folder; [`Shards`] reads one.
//!
//! A data folder holds `manifest.json` (a [`Manifest`]: what went in, with which options, and what came out),
//! `tokenizer.json` and (of WordPiece) `vocab.txt`, `token-counts.bin` (how often each id occurs in the train split,
//! 64-bit numbers in id order) and the shards `train-00000.tok`, ... and `held-out-00000.tok`, ... . Every number is
//! little-endian. It appears whole or not at all, and [`Shards::open`] checks each byte of it.
//!
//! # A shard, byte by byte
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `upstill` and a zero byte |
//! | 8 | 4 | version of this layout: 1 |
//! | 12 | 4 | width of an id in bytes: 2 where the vocabulary has at most 65,536 entries, else 4 |
//! | 16 | 32 | the tokenizer's hash ([`Tokenizer::hash`]) |
//! | 48 | 8 | n, the number of sentences |
//! | 56 | 8 | t, the number of ids, below 2^32 |
//! | 64 | 32 | BLAKE3 of all that follows byte 128 |
//! | 96 | 32 | BLAKE3 of the 96 bytes before |
//! | 128 | 4 (n + 1) | where each sentence starts among the ids, and at last t |
//! | | 0 or 4 | zeros up to a multiple of 8 |
//! | | t x width | the ids, sentence after sentence, without special tokens |

mod build;
mod folder;
mod frame;
mod manifest;
mod open;
mod options;
mod pipelines;
mod pocket;
mod settings;
mod shard;
mod shards;
mod special;
mod tokenizer;
mod train;
mod train_bpe;
mod vocab;
mod words;

pub use self::build::{Progress, Watch, build, without_output};
pub(crate) use self::manifest::percent;
pub use self::manifest::{Counts, HeldOutBy, Manifest, ShardRecord, SplitRecord};
pub use self::options::BuildOptions;
pub(crate) use self::pipelines::Pipeline;
pub use self::pocket::pocket_shards;
pub use self::shards::{Sentences, Shards};
pub use self::special::{Normalization, SPECIAL_TOKENS, Special};
pub use self::tokenizer::Tokenizer;
pub use self::train::{Coverage, TrainOptions};
pub use self::train_bpe::BpeOptions;
pub use self::words::Words;
