//! A cache's folder.

use std::fs;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::block::{Block, bytes_a_slot};
use crate::config::{ANSWERS_FORMAT, AnswersFacts, AnswersHeader, AnswersKind};
use crate::error::{Error, IoContext, Result};
use crate::files::{Busy, Lock, is_by_the_way, is_free, make_folder, manifest, write_text, write_whole};

const HEADER: &str = "cache.json";
const BLOCKS: &str = "blocks";
const ENDING: &str = ".answers";

/// A folder with a teacher's answers.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
    header: AnswersHeader,
    /// `cache.json` as it is on disk.
    text: String,
}

impl Cache {
    /// Whether a path is such a folder.
    pub fn is_at(path: &Path) -> bool {
        path.join(HEADER).is_file()
    }

    /// Opens one.
    ///
    /// # Errors
    /// When there is none, its `cache.json` is no header or one of another version, or says what can't be.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(HEADER);
        let text = fs::read_to_string(&path).doing("read", &path)?;
        let parsed = serde_json::from_str::<AnswersHeader>(&text)
            .map_err(|error| Error::new(format!("this is not the header of a cache of answers: {error}")));
        let header = parsed.and_then(|header| check(&header).map(|()| header)).map_err(|error| {
            error.at(path.display()).help("copy the cache again, or have the teacher answer into another folder: `upstill teach`")
        })?;
        Ok(Self { folder: folder.to_owned(), header, text })
    }

    /// The cache in a folder, or a new one with this header where the folder holds nothing. Of one that is there the
    /// rows of a block are its own. `each` is called a few times a second while another process makes it.
    ///
    /// # Errors
    /// When the folder holds something else or other answers, which are left as they are, or can't be written.
    pub fn take(folder: &Path, header: AnswersHeader, each: &mut dyn FnMut(Busy) -> Result<()>) -> Result<Self> {
        check(&header)?;
        if !Self::is_at(folder) {
            if !(is_free(folder)? || folder.is_dir() && is_half_made(folder)?) {
                return Err(Error::new("this folder holds something else than a cache of answers; it was left as it is")
                    .at(folder.display())
                    .help("name another with --out"));
            }
            let _lock = Lock::wait_file(&folder.join("locks").join("header"), each)?;
            if !Self::is_at(folder) {
                make_folder(&folder.join(BLOCKS))?;
                let text = serde_json::to_string_pretty(&header).expect("a header in memory can be written");
                write_text(&folder.join(HEADER), &(text + "\n"))?;
            }
        }
        let there = Self::open(folder)?;
        let wanted = AnswersHeader { block_rows: there.header.block_rows, ..header };
        match differences(&there.header, &wanted) {
            differences if differences.is_empty() => Ok(there),
            differences => {
                Err(Error::new(format!("this folder has other answers; it was left as it is:\n  {}", differences.join("\n  ")))
                    .at(folder.display())
                    .help("name another folder with --out, or ask as its answers were asked for"))
            }
        }
    }

    /// What it says of itself.
    pub fn header(&self) -> &AnswersHeader {
        &self.header
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// blake3 of its header.
    pub fn content_hash(&self) -> String {
        manifest::hash(self.text.as_bytes())
    }

    fn key(&self) -> u32 {
        crc32fast::hash(self.text.as_bytes())
    }

    /// What a plan wants to know of it.
    ///
    /// # Errors
    /// When its blocks can't be listed.
    pub fn facts(&self) -> Result<AnswersFacts> {
        let mut numbers = self.blocks()?;
        numbers.sort_unstable();
        let mut rows: Vec<Range<u64>> = Vec::new();
        for number in numbers {
            let Range { start, end } = self.rows_of(number);
            match rows.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => rows.push(start..end),
            }
        }
        Ok(AnswersFacts { header: self.header.clone(), content_hash: self.content_hash(), rows })
    }

    /// The numbers of the blocks that are there, in no order.
    fn blocks(&self) -> Result<Vec<u64>> {
        let folder = self.folder.join(BLOCKS);
        if !folder.is_dir() {
            return Ok(Vec::new());
        }
        let mut out = Vec::new();
        for entry in fs::read_dir(&folder).doing("read", &folder)? {
            let name = entry.doing("read", &folder)?.file_name();
            out.extend(name.to_string_lossy().strip_suffix(ENDING).and_then(|number| number.parse::<u64>().ok()));
        }
        Ok(out)
    }

    /// The rows of a block.
    pub fn rows_of(&self, number: u64) -> Range<u64> {
        let rows = self.header.block_rows;
        number.saturating_mul(rows)..number.saturating_add(1).saturating_mul(rows)
    }

    /// Where a block is, or would be.
    pub fn path_of(&self, number: u64) -> PathBuf {
        self.folder.join(BLOCKS).join(format!("{number:08}{ENDING}"))
    }

    /// The lock of a block that is being made.
    pub fn lock_of(&self, number: u64) -> PathBuf {
        self.folder.join("locks").join(format!("{number:08}"))
    }

    /// Reads a block.
    ///
    /// # Errors
    /// When it is not there, damaged, or of another cache.
    pub fn read(&self, number: u64) -> Result<Block> {
        let path = self.path_of(number);
        let Range { start, end } = self.rows_of(number);
        if !path.is_file() {
            return Err(Error::new(format!("the cache has no answers for rows {start} to {}", end - 1))
                .at(path.display())
                .help(format!("`upstill teach RUN.toml --out {}` adds them", self.folder.display())));
        }
        let bytes = fs::read(&path).doing("read", &path)?;
        Block::from_bytes(&bytes, &self.header, self.key(), number).map_err(|why| {
            Error::new(format!("the block with the answers for rows {start} to {} is damaged: {why}", end - 1))
                .at(path.display())
                .help(format!("`upstill teach RUN.toml --out {}` makes it again; or copy the cache again", self.folder.display()))
        })
    }

    /// Writes a block, whole or not at all; gives its bytes.
    ///
    /// # Errors
    /// As the file system says.
    pub fn write(&self, block: &Block) -> Result<u64> {
        let bytes = block.to_bytes(&self.header, self.key());
        write_whole(&self.path_of(block.number), |out| out.write_all(&bytes))?;
        Ok(bytes.len() as u64)
    }

    /// Bytes of a used slot, of which so many tokens are named on average.
    pub fn bytes_a_slot(&self, named: f64) -> f64 {
        bytes_a_slot(&self.header, named)
    }
}

/// Whether a folder holds what a cache does, and nothing else: another process is making it, or was ended while it did.
fn is_half_made(folder: &Path) -> Result<bool> {
    for entry in fs::read_dir(folder).doing("read", folder)? {
        let name = entry.doing("read", folder)?.file_name();
        if !is_by_the_way(&name) && ![HEADER, BLOCKS, "locks"].iter().any(|own| name == *own) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What can't be, in a header.
fn check(header: &AnswersHeader) -> Result<()> {
    let AnswersHeader { format, kind, count, vocabulary, temperature, block_rows, .. } = header;
    let wrong = |what: String, help: &str| Err(Error::new(what).help(help));
    if *format != ANSWERS_FORMAT {
        return wrong(
            format!("a cache of format {format}, and this version reads {ANSWERS_FORMAT}"),
            "take the version that wrote it",
        );
    }
    match kind {
        AnswersKind::TopK if !(1..=*vocabulary).contains(count) => wrong(
            format!("top-k {count} of a vocabulary of {vocabulary}"),
            "give a k from 1 up to the vocabulary; 12 or 50 is usual",
        ),
        AnswersKind::TopK | AnswersKind::Draws if *count > usize::from(u16::MAX) || *count == 0 => {
            wrong(format!("{kind} of {count}"), "give a number from 1 to 65535; 50 draws are usual")
        }
        _ if !(*temperature > 0.0 && temperature.is_finite()) => {
            wrong(format!("a temperature of {temperature}"), "give one above 0, such as 2.0")
        }
        _ if *vocabulary > 1 << 24 || *vocabulary == 0 => {
            wrong(format!("a vocabulary of {vocabulary}"), "ids have at most 3 bytes")
        }
        _ if !(1..=1 << 20).contains(block_rows) => wrong(format!("blocks of {block_rows} rows"), "give 1 to 1048576"),
        _ => Ok(()),
    }
}

/// In what a cache that is there is another than the one wanted, a line each.
fn differences(there: &AnswersHeader, wanted: &AnswersHeader) -> Vec<String> {
    let mut out: Vec<String> = there
        .asked_otherwise(wanted)
        .into_iter()
        .map(|(key, there, wanted)| format!("{key}: {there} there, {wanted} here"))
        .collect();
    let mut more = |what: &str, there: String, wanted: String| {
        if there != wanted {
            out.push(format!("{what}: {there} there, {wanted} here"));
        }
    };
    let short = |name: &str| name.chars().take(12).collect::<String>();
    more("the teacher", short(&there.teacher), short(&wanted.teacher));
    more("kept", there.kept(), wanted.kept());
    more("distill.temperature", there.temperature.to_string(), wanted.temperature.to_string());
    out
}
