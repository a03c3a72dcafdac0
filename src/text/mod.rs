//! Text: readers, sentences, sampling, and the pocket language.
//!
//! A corpus is documents, a document is paragraphs, a paragraph is sentences. [`Reader`] streams the documents of
//! files, folders and globs; [`Document::sentences`] splits them; [`sample`] keeps one sentence of every `k`, and
//! [`is_held_out`] puts a fixed share of the documents aside. The last two are functions of a document's content alone,
//! so that neither the order of the files nor the number of threads changes what is chosen.

pub mod pocket;

#[cfg(not(target_family = "wasm"))]
mod columnar;
#[cfg(target_family = "wasm")]
#[path = "columnar_absent.rs"]
mod columnar;
mod gathered;
mod gzip;
mod json;
mod lines;
mod options;
#[cfg(not(target_family = "wasm"))]
mod packed;
#[cfg(target_family = "wasm")]
#[path = "packed_absent.rs"]
mod packed;
#[cfg(not(target_family = "wasm"))]
mod pages;
mod peek;
mod reader;
mod row;
mod rows;
mod sample;
mod sentences;
mod source;
mod stream;
mod table;
mod utf16;

pub use self::options::{LONGEST_LINE, ReadOptions};
pub use self::reader::{Input, Reader};
pub use self::row::{Object, Row, Wanted};
pub use self::rows::{read_objects, read_rows};
pub use self::sample::{is_held_out, sample};
pub use self::sentences::sentences;
pub use self::source::{Source, find};
use crate::error::Result;

/// A document longer than this many bytes is read as several, cut between paragraphs: memory stays bounded when a file
/// has no empty lines.
pub const DOCUMENT_BYTES: usize = 1 << 20;

/// The documents of one file.
type Documents = Box<dyn Iterator<Item = Result<Document>> + Send>;

/// Paragraphs that belong together: an article, a chapter, a row of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The paragraphs, a line each.
    pub text: String,
}

/// BLAKE3 of a text.
pub fn fingerprint(text: &str) -> [u8; 32] {
    *blake3::hash(text.as_bytes()).as_bytes()
}

impl Document {
    /// BLAKE3 of the text: what decides the document's split and which of its sentences are kept.
    pub fn fingerprint(&self) -> [u8; 32] {
        fingerprint(&self.text)
    }

    /// The document's sentences in order; with `lines`, each line is one sentence as it stands.
    pub fn sentences(&self, lines: bool) -> Vec<&str> {
        let paragraphs = self.text.lines().map(str::trim).filter(|line| !line.is_empty());
        if lines { paragraphs.collect() } else { paragraphs.flat_map(sentences).collect() }
    }
}
