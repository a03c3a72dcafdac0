//! Some columns of a table, row after row, as text, and objects of JSON: what labelled data is read from.

use std::path::Path;
use std::sync::Arc;

use super::gathered::Gathered;
use super::options::ReadOptions;
use super::source::{Format, named};
use super::stream::{self, Meter};
use super::{Object, Row, Wanted, columnar, json, table};
use crate::device::memory_bytes;
use crate::error::{Error, Result};

/// The rows of a `.tsv`, `.csv`, `.jsonl`, `.json` (each also packed) or `.parquet` file, of each the wanted columns. A
/// `.tsv` or `.csv` without a header has the columns "0", "1", ...; JSON has those of any of its objects. Numbers and
/// truth values become text, as Python writes them: `0.0`, `true`. Tabs separate without quoting; commas with.
///
/// # Errors
/// When the file is missing, of another kind or broken, a column is missing, or the rows take more than a quarter of
/// the memory that there is.
pub fn read_rows(path: &Path, has_header: bool, wanted: &Wanted, options: &ReadOptions) -> Result<Vec<Row>> {
    read_up_to(path, has_header, wanted, options, most_bytes())
}

/// The objects of a `.jsonl` or `.json` file (each also packed), of each the fields of these names, whatever they hold.
///
/// # Errors
/// When the file is missing, of another kind or broken, an object is longer than `options` allow, or they take more
/// than a quarter of the memory that there is.
pub fn read_objects(path: &Path, wanted: &[String], options: &ReadOptions) -> Result<Vec<Object>> {
    let source = named(path)?;
    if !matches!(source.format, Format::JsonLines | Format::Json) {
        return Err(Error::new("the file is no JSON").at(path.display()).help("give a .jsonl or .json file, packed or not"));
    }
    let mut objects = Gathered::up_to(most_bytes());
    json::objects(stream::open(&source, options, &Arc::new(Meter::default()))?, &source, wanted, options, &mut objects)?;
    Ok(objects.into_items())
}

/// Bytes that may be gathered.
fn most_bytes() -> u64 {
    memory_bytes().map_or(u64::MAX, |bytes| bytes / SHARE)
}

/// [`read_rows`], up to so many bytes of them.
fn read_up_to(path: &Path, has_header: bool, wanted: &Wanted, options: &ReadOptions, most: u64) -> Result<Vec<Row>> {
    let source = named(path)?;
    let mut rows = Gathered::up_to(most);
    if source.format == Format::Parquet {
        columnar::rows(&source, wanted, options, &mut rows)?;
        return Ok(rows.into_items());
    }
    let stream = stream::open(&source, options, &Arc::new(Meter::default()))?;
    match source.format {
        Format::Tsv => table::rows(stream, &source, wanted, options, b'\t', has_header, &mut rows)?,
        Format::Csv => table::rows(stream, &source, wanted, options, b',', has_header, &mut rows)?,
        Format::JsonLines | Format::Json => json::rows(stream, &source, wanted, options, &mut rows)?,
        Format::Text | Format::Parquet => {
            return Err(Error::new("a text file has no columns")
                .at(path.display())
                .help("give a .tsv, .csv, .jsonl or .parquet file"));
        }
    }
    Ok(rows.into_items())
}

/// Rows may take this share of the memory: what is made of them, examples and their tokens, takes as much again.
const SHARE: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_without_end_are_refused_by_the_memory_that_they_take() {
        let dir = tempfile::tempdir().unwrap();
        let columns = ["a".to_owned()];
        let wanted = Wanted { columns: &columns, help: "" };
        for (name, text) in [
            ("a.csv", format!("a\n{}", "x\n".repeat(1000))),
            ("a.tsv", format!("a\n{}", "x\n".repeat(1000))),
            ("a.jsonl", "{\"a\": \"x\"}\n".repeat(1000)),
            ("a.json", "{\"a\": \"x\"}\n".repeat(1000)),
        ] {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            let read = |most| read_up_to(&path, true, &wanted, &ReadOptions::default(), most);
            assert_eq!(read(1 << 20).unwrap().len(), 1000);
            let said = read(1 << 14).unwrap_err().to_string();
            assert!(said.contains("a quarter of the memory") && said.contains(&format!("{name}:")), "{said}");
        }
    }
}
