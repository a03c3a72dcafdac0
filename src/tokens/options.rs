//! How text becomes shards.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::text::ReadOptions;

/// The usual number of tokens in a shard: 32 MiB of 16-bit ids.
pub(super) const SHARD_TOKENS: u64 = 16 << 20;

/// How text becomes shards; all of it decides what the shards hold, and is kept in the manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildOptions {
    /// Keep one sentence of every so many consecutive ones; 1 keeps all.
    pub keep_one_of: usize,
    /// Drop sentences with fewer tokens.
    pub min_tokens: usize,
    /// Split sentences with more tokens.
    pub max_tokens: usize,
    /// The share of documents that is held out, 0 to 1; at 1 nothing is trained on, and all is scored.
    pub held_out: f64,
    /// Take each line as one sentence, and as one document where no empty line parts documents.
    pub lines: bool,
    /// Decides which sentences are kept.
    pub seed: u64,
    /// A shard is full at so many tokens.
    pub shard_tokens: u64,
    /// Where the text is within the files.
    pub read: ReadOptions,
}

impl Default for BuildOptions {
    fn default() -> Self {
        BuildOptions {
            keep_one_of: 4,
            min_tokens: 5,
            max_tokens: 510,
            held_out: 0.01,
            lines: false,
            seed: 0,
            shard_tokens: SHARD_TOKENS,
            read: ReadOptions::default(),
        }
    }
}

impl BuildOptions {
    /// Refuses what can't be, all of it in one message.
    pub(super) fn check(&self) -> Result<()> {
        let wrong = [
            (self.keep_one_of == 0, "keep-one-of is 0: 1 keeps every sentence, 4 one of four"),
            (self.max_tokens == 0, "max-tokens is 0: no sentence could be kept"),
            (self.min_tokens > self.max_tokens, "min-tokens is above max-tokens"),
            (!(0.0..=1.0).contains(&self.held_out), "held-out is a share of the documents: from 0, for none, to 1, for all"),
            (self.shard_tokens == 0 || self.shard_tokens > 1 << 31, "a shard holds between 1 and 2^31 tokens"),
        ];
        let wrong: Vec<_> = wrong.iter().filter(|(wrong, _)| *wrong).map(|(_, what)| *what).collect();
        if wrong.is_empty() { Ok(()) } else { Err(Error::new(wrong.join("; "))) }
    }
}
