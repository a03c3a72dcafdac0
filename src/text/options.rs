//! What a reader has to be told beyond the file names.

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The longest line of JSON, row of a table or field that is read unless more is asked for, in bytes.
pub const LONGEST_LINE: usize = 64 << 20;

#[cfg(not(target_family = "wasm"))]
/// A page of Parquet holds many rows, and DuckDB's come to 100 MiB: it may be this many times as long as a line.
const PAGE: usize = 4;

/// How files are read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadOptions {
    /// The field of JSON objects that holds the text.
    pub field: String,
    /// The column of `.tsv`, `.csv` and `.parquet` files that holds the text.
    pub column: String,
    /// Reads on where bytes are not UTF-8, with the replacement character in their place.
    pub lossy: bool,
    /// In plain text each line is a document, unless empty lines part documents. What builds data by lines says so
    /// itself.
    #[serde(skip)]
    pub each_line: bool,
    /// A longer line of JSON, row of a table or (four times this) page of Parquet is refused, in bytes: a small packed
    /// file can hold one that no memory is enough for. Plain text has no such bound. Not kept in a manifest: it changes
    /// no text.
    #[serde(skip, default = "longest_line")]
    pub longest_line: usize,
}

impl Default for ReadOptions {
    fn default() -> Self {
        ReadOptions { field: "text".into(), column: "text".into(), lossy: false, each_line: false, longest_line: LONGEST_LINE }
    }
}

fn longest_line() -> usize {
    LONGEST_LINE
}

impl ReadOptions {
    #[cfg(not(target_family = "wasm"))]
    /// The longest page of Parquet, in bytes.
    pub(super) fn longest_page(&self) -> usize {
        self.longest_line.saturating_mul(PAGE)
    }

    /// The error for a line, a row or an object that is too long; `what` says which.
    pub(super) fn too_long(&self, what: &str) -> Error {
        Error::new(format!("{what} is longer than {}", mebibytes(self.longest_line)))
            .help("if the file is right, read longer ones with --longest-line MB, where the command has it")
    }
}

/// A number of bytes as people write it: "64 MiB".
pub(super) fn mebibytes(bytes: usize) -> String {
    match bytes >> 20 {
        0 => format!("{bytes} bytes"),
        whole => format!("{whole} MiB"),
    }
}

/// A number of bytes as people write a memory: "5.9 GiB".
pub(super) fn gibibytes(bytes: u64) -> String {
    match bytes >> 30 {
        0 => mebibytes(bytes as usize),
        _ => format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64),
    }
}

/// Names for a message, at most 20 of them: a hostile file has millions.
pub(super) fn listed<S: AsRef<str>>(names: &[S], more: usize) -> String {
    let shown: Vec<String> = names.iter().take(LISTED).map(|name| format!("`{}`", name.as_ref())).collect();
    match names.len() - shown.len() + more {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// How many names a message has at most.
pub(super) const LISTED: usize = 20;
