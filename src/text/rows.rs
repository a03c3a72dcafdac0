//! Some columns of a table, row after row, as text: what labelled data is read from.

use std::path::Path;
use std::sync::Arc;

use super::options::ReadOptions;
use super::source::{Format, named};
use super::stream::{self, Meter};
use super::{Row, Wanted, columnar, json, table};
use crate::error::{Error, Result};

/// The rows of a `.tsv`, `.csv`, `.jsonl`, `.json` (each also packed) or `.parquet` file, of each the wanted columns. A
/// `.tsv` or `.csv` without a header has the columns "0", "1", ...; JSON has those of any of its objects. Numbers and
/// truth values become text, as Python writes them: `0.0`, `true`. Tabs separate without quoting; commas with.
///
/// # Errors
/// When the file is missing, of another kind or broken, or a column is missing.
pub fn read_rows(path: &Path, has_header: bool, wanted: &Wanted, options: &ReadOptions) -> Result<Vec<Row>> {
    let source = named(path)?;
    if source.format == Format::Parquet {
        return columnar::rows(&source, wanted, options);
    }
    let stream = stream::open(&source, options, &Arc::new(Meter::default()))?;
    match source.format {
        Format::Tsv => table::rows(stream, &source, wanted, options, b'\t', has_header),
        Format::Csv => table::rows(stream, &source, wanted, options, b',', has_header),
        Format::JsonLines | Format::Json => json::rows(stream, &source, wanted, options),
        Format::Text | Format::Parquet => {
            Err(Error::new("a text file has no columns").at(path.display()).help("give a .tsv, .csv, .jsonl or .parquet file"))
        }
    }
}
