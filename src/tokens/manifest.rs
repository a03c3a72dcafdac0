//! What a data folder says about itself.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::folder::{FORMAT, MANIFEST, holds_data_only};
use super::options::BuildOptions;
use crate::error::{Error, Result};
use crate::files::manifest::{Json, to_json};
use crate::files::{is_free, write_text};
use crate::text::Input;
use crate::words::grouped;

const VERSION: u32 = 1;

/// What a data folder was made of, how, and what came out. It holds no dates and no machine's name: the same input and
/// options give the same bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Always "upstill data".
    pub format: String,
    /// The version of the folder's layout.
    pub version: u32,
    /// The version of upstill that made it.
    pub upstill: String,
    /// BLAKE3 of the tokenizer's hash and the shards' checksums: names the content.
    pub hash: String,
    /// The tokenizer's hash.
    pub tokenizer: String,
    /// How many tokens the vocabulary has.
    pub vocab_size: usize,
    /// How it was made.
    pub options: BuildOptions,
    /// What it was made of.
    pub inputs: Vec<Input>,
    /// What was kept and what was dropped.
    pub counts: Counts,
    /// What was held out one by one.
    #[serde(default, skip_serializing_if = "HeldOutBy::is_document")]
    pub held_out_by: HeldOutBy,
    /// What models are trained on.
    pub train: SplitRecord,
    /// What they are evaluated on.
    pub held_out: SplitRecord,
    /// BLAKE3 of `token-counts.bin`.
    pub token_counts: String,
}

/// What is put into the held-out split one by one, each by its own content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldOutBy {
    /// Documents.
    #[default]
    Document,
    /// Sentences: there were too few documents.
    Sentence,
}

impl HeldOutBy {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it so")]
    fn is_document(&self) -> bool {
        *self == HeldOutBy::Document
    }
}

/// What was kept and what was dropped on the way from text to shards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Documents read.
    pub documents: u64,
    /// Documents in the held-out split.
    pub documents_held_out: u64,
    /// Sentences found in them.
    pub sentences: u64,
    /// Sentences that sampling kept.
    pub sampled: u64,
    /// Of those, dropped as too short.
    pub dropped_short: u64,
    /// Of those, longer than `max_tokens` and split into pieces.
    pub split_long: u64,
    /// How many tokens of both splits are `[UNK]`; nothing where it was not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<u64>,
}

/// One split's shards.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitRecord {
    /// Sentences in all shards.
    pub sentences: u64,
    /// Tokens in all shards, without special ones.
    pub tokens: u64,
    /// The shards in order.
    pub shards: Vec<ShardRecord>,
}

/// One shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardRecord {
    /// The file's name within the folder.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// How many sentences it holds.
    pub sentences: u64,
    /// How many tokens they have.
    pub tokens: u64,
    /// BLAKE3 of its body.
    pub blake3: String,
}

impl Manifest {
    /// A manifest of this version, still without `hash`.
    pub(super) fn new(tokenizer: &super::Tokenizer, options: BuildOptions) -> Self {
        Manifest {
            format: FORMAT.into(),
            version: VERSION,
            upstill: env!("CARGO_PKG_VERSION").into(),
            hash: String::new(),
            tokenizer: tokenizer.hash().into(),
            vocab_size: tokenizer.vocab_size(),
            options,
            inputs: Vec::new(),
            counts: Counts::default(),
            held_out_by: HeldOutBy::default(),
            train: SplitRecord::default(),
            held_out: SplitRecord::default(),
            token_counts: String::new(),
        }
    }

    /// Reads a data folder's manifest.
    ///
    /// # Errors
    /// When there is none, it is damaged, or of another version.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        if !folder.is_dir() {
            return Err(Error::new("there is no such data folder").at(folder.display()).help(rebuild(folder)));
        }
        if !path.is_file() {
            let what = "the folder has no manifest.json: it is no data folder, or its build did not finish";
            return Err(Error::new(what).at(folder.display()).help(rebuild(folder)));
        }
        let json = Json::read(&path).map_err(|error| error.help(rebuild(folder)))?;
        let manifest: Manifest = serde_json::from_str(&json.text).map_err(|error| {
            Error::new(format!("the manifest can't be read: {error}")).at(path.display()).help(rebuild(folder))
        })?;
        if manifest.format != FORMAT || manifest.version != VERSION {
            let what = format!(
                "the manifest is of `{}` version {}, and this upstill reads `{FORMAT}` version {VERSION}",
                manifest.format, manifest.version
            );
            return Err(Error::new(what).at(path.display()).help(rebuild(folder)));
        }
        Ok(manifest)
    }

    /// The share of all tokens that are `[UNK]`, 0 to 1; nothing where it was not counted.
    pub fn unknown_share(&self) -> Option<f64> {
        let tokens = self.train.tokens + self.held_out.tokens;
        self.counts.unknown.map(|unknown| unknown as f64 / tokens.max(1) as f64)
    }

    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        write_text(&folder.join(MANIFEST), &self.to_json())
    }

    /// The file's text, with a checksum of its own.
    pub(super) fn to_json(&self) -> String {
        to_json(self)
    }
}

impl SplitRecord {
    /// One more shard.
    pub(super) fn add(&mut self, shard: ShardRecord) {
        self.sentences += shard.sentences;
        self.tokens += shard.tokens;
        self.shards.push(shard);
    }
}

/// What to do about a folder that can't be used: `--force` is for what a build made.
pub(super) fn rebuild(folder: &Path) -> String {
    let build = |rest: &str| format!("`upstill data build INPUT... --tokenizer DIR --out {rest}`");
    let here = folder.display().to_string();
    match (is_free(folder).unwrap_or(false), holds_data_only(folder)) {
        (true, _) => format!("check the path, or build it: {}", build(&here)),
        (false, true) => format!("build it again: {}", build(&format!("{here} --force"))),
        (false, false) => format!("name a data folder, or build one elsewhere: {}", build("DIR")),
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        writeln!(f, "{} {}, made by upstill {}", self.format, &self.hash[..12.min(self.hash.len())], self.upstill)?;
        writeln!(
            f,
            "  vocabulary  {} tokens ({})",
            grouped(self.vocab_size as u64),
            &self.tokenizer[..12.min(self.tokenizer.len())]
        )?;
        match self.held_out_by {
            HeldOutBy::Document => {
                writeln!(
                    f,
                    "  documents   {}, of which {} held out",
                    grouped(counts.documents),
                    grouped(counts.documents_held_out)
                )?;
            }
            HeldOutBy::Sentence => writeln!(f, "  documents   {}; sentences are held out", grouped(counts.documents))?,
        }
        writeln!(
            f,
            "  sentences   {}, one of every {} kept: {}",
            grouped(counts.sentences),
            self.options.keep_one_of,
            grouped(counts.sampled)
        )?;
        let short = format!("{} under {} tokens dropped", grouped(counts.dropped_short), self.options.min_tokens);
        writeln!(f, "              {short}, {} over {} split", grouped(counts.split_long), self.options.max_tokens)?;
        for (name, split) in [("train", &self.train), ("held out", &self.held_out)] {
            let mean = split.tokens as f64 / split.sentences.max(1) as f64;
            let (sentences, tokens) = (grouped(split.sentences), grouped(split.tokens));
            writeln!(
                f,
                "  {name:<11} {sentences} sentences, {tokens} tokens ({mean:.1} a sentence), {} files",
                split.shards.len()
            )?;
        }
        if let (Some(unknown), Some(share)) = (counts.unknown, self.unknown_share()) {
            writeln!(f, "  unknown     {} tokens are [UNK], {}", grouped(unknown), percent(share))?;
        }
        write!(
            f,
            "  from        {} files, {} bytes",
            self.inputs.len(),
            grouped(self.inputs.iter().map(|input| input.bytes).sum())
        )
    }
}

/// A share in percent, never rounded up to all or down to nothing.
pub(crate) fn percent(share: f64) -> String {
    let shown = format!("{:.1}", share * 100.0);
    match shown.as_str() {
        "100.0" if share < 1.0 => "over 99.9 %".to_owned(),
        "0.0" if share > 0.0 => "under 0.1 %".to_owned(),
        _ => format!("{} %", shown.strip_suffix(".0").unwrap_or(&shown)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_nothing_or_all_only_when_it_is() {
        let shares = [0.0, 1e-9, 0.0123, 0.5, 0.99999, 1.0].map(percent);
        assert_eq!(shares, ["0 %", "under 0.1 %", "1.2 %", "50 %", "over 99.9 %", "100 %"]);
    }
}
