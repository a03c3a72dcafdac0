//! Some columns of a table, row after row, as text: what labelled data is read from.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use csv::ByteRecord;
use serde_json::Value;

use super::lines::Lines;
use super::reader::{Meter, ReadOptions, unpack};
use super::source::{Format, Source, find};
use super::{columnar, table};
use crate::error::{Error, Result};

/// A row of a table: the chosen columns, in the order in which they were chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its line in the file, from 1; of Parquet, the row.
    pub line: u64,
    /// None where the row is too short or the value is null.
    pub fields: Vec<Option<String>>,
}

/// The rows of a `.tsv`, `.csv`, `.jsonl` (each also `.gz` or `.zst`) or `.parquet` file. `choose` is told the columns' names, and
/// says by index which to read. A `.tsv` or `.csv` without a header has the columns "0", "1", ...; a `.jsonl` file those of its
/// first object. Numbers and truth values become text. Tabs separate without quoting; commas with.
///
/// # Errors
/// When the file is missing, of another kind or broken, and what `choose` says.
pub fn read_rows(path: &Path, has_header: bool, choose: impl FnOnce(&[String]) -> Result<Vec<usize>>) -> Result<Vec<Row>> {
    if !path.is_file() {
        return Err(Error::new(format!("there is no file {}", path.display())).help("check the path"));
    }
    let source = find(&[path.display().to_string()])?.swap_remove(0);
    match source.format {
        Format::Tsv => separated(&source, b'\t', has_header, choose),
        Format::Csv => separated(&source, b',', has_header, choose),
        Format::JsonLines => objects(&source, choose),
        Format::Parquet => columnar::rows(&source, choose),
        Format::Text => {
            Err(Error::new("a text file has no columns").at(path.display()).help("give a .tsv, .csv, .jsonl or .parquet file"))
        }
    }
}

fn separated(
    source: &Source,
    delimiter: u8,
    has_header: bool,
    choose: impl FnOnce(&[String]) -> Result<Vec<usize>>,
) -> Result<Vec<Row>> {
    let (mut table, taken) = table::open(unpack(source, &Arc::new(Meter::default()))?, delimiter, has_header);
    let first = table.byte_headers().map_err(|error| table::unreadable(source, &error))?;
    let columns: Vec<String> = match has_header {
        true => first.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect(),
        false => (0..first.len()).map(|at| at.to_string()).collect(),
    };
    let chosen = choose(&columns).map_err(|error| error.at(source.path.display()))?;
    let (mut rows, mut record) = (Vec::new(), ByteRecord::new());
    loop {
        taken.store(0, Ordering::Relaxed);
        if !table.read_byte_record(&mut record).map_err(|error| table::unreadable(source, &error))? {
            return Ok(rows);
        }
        let line = record.position().map_or(0, csv::Position::line);
        let text = |field: &[u8]| match std::str::from_utf8(field) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => {
                let what = format!("the text is not UTF-8: byte 0x{:02x}", field[error.valid_up_to()]);
                Err(Error::new(what).at(format!("{}:{line}", source.path.display())).help("convert the file: `iconv -t UTF-8`"))
            }
        };
        let fields = chosen.iter().map(|&at| record.get(at).map(text).transpose()).collect::<Result<_>>()?;
        rows.push(Row { line, fields });
    }
}

fn objects(source: &Source, choose: impl FnOnce(&[String]) -> Result<Vec<usize>>) -> Result<Vec<Row>> {
    let stream = unpack(source, &Arc::new(Meter::default()))?;
    let mut lines = Lines::of_objects(stream, source, &ReadOptions::default());
    let mut object = lines.next_object()?;
    let columns: Vec<String> = object.iter().flat_map(|object| object.keys().cloned()).collect();
    let chosen = choose(&columns).map_err(|error| error.at(source.path.display()))?;
    let mut rows = Vec::new();
    while let Some(there) = object {
        let text = |&at: &usize| match there.get(&columns[at]) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Array(_) | Value::Object(_)) => {
                Err(Error::new(format!("the field `{}` is not a plain value", columns[at])).at(lines.place()))
            }
            Some(plain) => Ok(Some(plain.to_string())),
        };
        let fields = chosen.iter().map(text).collect::<Result<_>>()?;
        rows.push(Row { line: lines.number, fields });
        object = lines.next_object()?;
    }
    Ok(rows)
}
