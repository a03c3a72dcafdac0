//! What a teacher said, on disk: written once, read by any number of runs that ask the same.
//!
//! A batch's rows are a function of (shards, seed, masking) and of their number in the endless sequence of epochs,
//! `step * batch + row`. So a cache is addressed by row and slot, serves any batch size, micro-batch and number of
//! workers, and nothing has to be aligned. It is a folder:
//!
//! ```text
//! CACHE/cache.json             whom it has answers of, to what, how they are kept: config::AnswersHeader
//! CACHE/blocks/00000007.answers   the answers to rows 7 * block_rows up to 8 * block_rows
//! CACHE/locks/                 which process makes what
//! ```
//!
//! A block is there whole or not at all, so any number of processes may add to a cache at the same time, and one that
//! is stopped goes on. A block is these arrays, one after another, all little-endian, without gaps:
//!
//! | array | what |
//! |---|---|
//! | 8 bytes | `answers1` |
//! | u32 | CRC-32 (that of gzip; `zlib.crc32`) of `cache.json` as it is on disk: a block of another cache is none of this one |
//! | u64 | the block's number |
//! | u16 `[block_rows]` | used slots of each row; n is their sum |
//! | f32 `[n]` | log-sum-exp of the teacher's logits |
//! | f16 `[n]` | entropy of the distribution that was cut down or drawn from (at the cache's temperature), in nats |
//! | f16 `[n]` | the teacher's own hard loss: minus the log-probability of the true token at temperature 1, in nats |
//!
//! and of `top-k`:
//!
//! | array | what |
//! |---|---|
//! | f16 `[n]` | the probability of all other tokens together |
//! | id `[n, k]` | the likeliest tokens, the likeliest first |
//! | f16 `[n, k]` | their probabilities |
//!
//! or of `draws`:
//!
//! | array | what |
//! |---|---|
//! | u16 `[n]` | different tokens of each slot, d; D is their sum |
//! | id `[D]` | the tokens |
//! | u8 `[D]`, u16 above 255 draws | how often each was drawn |
//!
//! and at last a u32, the CRC-32 of all before it. An id takes 1 byte for a vocabulary of up to 256, 2 up to 65,536,
//! else 3. Slots are in the order of rows, and within a row in that of its masked tokens.
//! `examples/teacher_in_transformers.py` writes it.
//!
//! f16 rounds a probability by up to 1 in 2,048 of itself; what is left over is kept by itself, so it is as exact where
//! the teacher is all but sure, and what is read adds up to 1 again.

mod block;
mod cache;
mod cut;
mod reader;

pub use block::{Block, Slots};
pub use cache::Cache;
pub use cut::{Place, cut};
pub use reader::{Reader, SlotAnswers};
