//! Tables: `.tsv` and `.csv`, one column of which is text.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use csv::ByteRecord;

use super::Document;
use super::lines::NOT_UTF8_HELP;
use super::reader::{Documents, ReadOptions, broken};
use super::source::Source;
use crate::error::{Error, Result};

/// A longer row is refused: it is nearly always a quote that was never closed, and would swallow the file.
const ROW_BYTES: u64 = 64 << 20;

pub(super) type Table = csv::Reader<Guarded>;

/// One document a row: the text in `options.column`. Tabs separate without quoting; commas with.
pub(super) fn documents(
    stream: Box<dyn BufRead + Send>,
    source: &Source,
    options: &ReadOptions,
    delimiter: u8,
) -> Result<Documents> {
    let (mut table, row) = open(stream, delimiter, true);
    let column = find_column(&mut table, source, &options.column)?;
    let (source, lossy, mut record) = (source.clone(), options.lossy, ByteRecord::new());
    Ok(Box::new(std::iter::from_fn(move || next_row(&mut table, &source, column, lossy, &mut record, &row).transpose())))
}

/// A reader of rows, and how much of the stream the row at hand has taken: to be set to 0 before each row.
pub(super) fn open(stream: Box<dyn BufRead + Send>, delimiter: u8, has_header: bool) -> (Table, Arc<AtomicU64>) {
    let row = Arc::new(AtomicU64::new(0));
    let guarded = Guarded { stream, row: row.clone() };
    let mut builder = csv::ReaderBuilder::new();
    builder.delimiter(delimiter).quoting(delimiter == b',').flexible(true).has_headers(has_header);
    (builder.from_reader(guarded), row)
}

fn find_column(table: &mut Table, source: &Source, name: &str) -> Result<usize> {
    let header = table.byte_headers().map_err(|error| unreadable(source, &error))?;
    let names: Vec<_> = header.iter().map(String::from_utf8_lossy).collect();
    match names.iter().position(|found| found == name) {
        Some(column) => Ok(column),
        // A file of no bytes has no header; it holds no documents, which is no error of its own.
        None if names.is_empty() => Ok(0),
        None => Err(no_column(name, &names).at(source.path.display())),
    }
}

/// The error for a column that isn't there.
pub(super) fn no_column<S: AsRef<str>>(name: &str, there: &[S]) -> Error {
    let there: Vec<_> = there.iter().map(|name| format!("`{}`", name.as_ref())).collect();
    Error::new(format!("there is no column `{name}`; there is {}", there.join(", ")))
        .help("name the column that holds the text with --column")
}

fn next_row(
    table: &mut Table,
    source: &Source,
    column: usize,
    lossy: bool,
    record: &mut ByteRecord,
    row: &AtomicU64,
) -> Result<Option<Document>> {
    loop {
        row.store(0, Ordering::Relaxed);
        if !table.read_byte_record(record).map_err(|error| unreadable(source, &error))? {
            return Ok(None);
        }
        let line = record.position().map_or(0, csv::Position::line);
        let place = || format!("{}:{line}", source.path.display());
        let field = record.get(column).ok_or_else(|| {
            let what = format!("the row has {} columns, and the text is in column {}", record.len(), column + 1);
            Error::new(what).at(place()).help("mend the row, or choose another column with --column")
        })?;
        let text = match std::str::from_utf8(field) {
            Ok(text) => text.to_owned(),
            Err(_) if lossy => String::from_utf8_lossy(field).into_owned(),
            Err(error) => {
                let byte = field[error.valid_up_to()];
                return Err(Error::new(format!("the text is not UTF-8: byte 0x{byte:02x}")).at(place()).help(NOT_UTF8_HELP));
            }
        };
        if !text.trim().is_empty() {
            return Ok(Some(Document { text }));
        }
    }
}

pub(super) fn unreadable(source: &Source, error: &csv::Error) -> Error {
    match error.kind() {
        csv::ErrorKind::Io(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            let what = format!("a row is longer than {} MiB", ROW_BYTES >> 20);
            Error::new(what).at(source.path.display()).help("a quote is probably not closed")
        }
        csv::ErrorKind::Io(error) => broken(source, error),
        _ => Error::new(format!("the table can't be read: {error}")).at(source.path.display()),
    }
}

/// A stream that ends in an error when one row takes too much of it.
pub(super) struct Guarded {
    stream: Box<dyn BufRead + Send>,
    row: Arc<AtomicU64>,
}

impl Read for Guarded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        if self.row.fetch_add(read as u64, Ordering::Relaxed) > ROW_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(read)
    }
}
