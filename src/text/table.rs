//! Tables: `.tsv` and `.csv`, one column or more of which are text.

use std::io::{self, BufRead, Read};

use csv::ByteRecord;

use super::gathered::Gathered;
use super::options::ReadOptions;
use super::source::Source;
use super::stream::{broken, utf8};
use super::{Document, Documents, Row, Wanted};
use crate::error::{Error, Result};

/// A row with more columns is refused: it is no table, and each costs memory.
const MOST_COLUMNS: usize = 1 << 20;

/// What to do where a table's column of text is not there.
pub(super) const NAME_IT: &str = "name the column that holds the text with --column";

type Table = csv::Reader<Watched>;

/// One document a row: the text in `options.column`. Tabs separate without quoting; commas with.
pub(super) fn documents(
    stream: Box<dyn BufRead + Send>,
    source: &Source,
    options: &ReadOptions,
    delimiter: u8,
) -> Result<Documents> {
    let mut table = open(stream, source, options, delimiter, true);
    let names = names(&mut table, source)?;
    // A file of no bytes has no header; it holds no documents, which is no error of its own.
    let column = match names.is_empty() {
        true => 0,
        false => wanted(&options.column).find(&names).map_err(|error| error.at(source.path.display()))?[0],
    };
    let (source, lossy, mut record) = (source.clone(), options.lossy, ByteRecord::new());
    Ok(Box::new(std::iter::from_fn(move || next_row(&mut table, &source, column, lossy, &mut record).transpose())))
}

/// The one column that holds the text of documents.
pub(super) fn wanted(column: &String) -> Wanted<'_> {
    Wanted { columns: std::slice::from_ref(column), help: NAME_IT }
}

fn next_row(table: &mut Table, source: &Source, column: usize, lossy: bool, record: &mut ByteRecord) -> Result<Option<Document>> {
    while table.read_byte_record(record).map_err(|error| unreadable(source, error))? {
        let place = || place(source, record);
        let field = record.get(column).ok_or_else(|| {
            let what = format!("the row has {} columns, and the text is in column {}", record.len(), column + 1);
            Error::new(what).at(place()).help("mend the row, or choose another column with --column")
        })?;
        let text = utf8(field, lossy).map_err(|error| error.at(place()))?;
        if !text.trim().is_empty() {
            return Ok(Some(Document { text }));
        }
    }
    Ok(None)
}

/// The wanted columns of every row.
pub(super) fn rows(
    stream: Box<dyn BufRead + Send>,
    source: &Source,
    wanted: &Wanted,
    options: &ReadOptions,
    delimiter: u8,
    has_header: bool,
    rows: &mut Gathered<Row>,
) -> Result<()> {
    let mut table = open(stream, source, options, delimiter, has_header);
    let mut columns = names(&mut table, source)?;
    if !has_header {
        columns = (0..columns.len()).map(|at| at.to_string()).collect();
    }
    let chosen = wanted.find(&columns).map_err(|error| error.at(source.path.display()))?;
    let mut record = ByteRecord::new();
    while table.read_byte_record(&mut record).map_err(|error| unreadable(source, error))? {
        let text = |field: &[u8]| utf8(field, options.lossy).map_err(|error| error.at(place(source, &record)));
        let fields = chosen.iter().map(|&at| record.get(at).map(text).transpose()).collect::<Result<_>>()?;
        rows.push(Row { line: line(&record), fields }).map_err(|error| error.at(place(source, &record)))?;
    }
    Ok(())
}

fn open(stream: Box<dyn BufRead + Send>, source: &Source, options: &ReadOptions, delimiter: u8, has_header: bool) -> Table {
    let quoting = delimiter == b',';
    let watch = Watch::new(delimiter, quoting, source, options);
    let mut builder = csv::ReaderBuilder::new();
    builder.delimiter(delimiter).quoting(quoting).flexible(true).has_headers(has_header);
    builder.from_reader(Watched { stream, watch })
}

/// The fields of the first row.
fn names(table: &mut Table, source: &Source) -> Result<Vec<String>> {
    let first = table.byte_headers().map_err(|error| unreadable(source, error))?;
    Ok(first.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect())
}

fn line(record: &ByteRecord) -> u64 {
    record.position().map_or(0, csv::Position::line)
}

fn place(source: &Source, record: &ByteRecord) -> String {
    format!("{}:{}", source.path.display(), line(record))
}

fn unreadable(source: &Source, error: csv::Error) -> Error {
    let said = error.to_string();
    match error.into_kind() {
        csv::ErrorKind::Io(error) => broken(source, &error),
        _ => Error::new(format!("the table can't be read: {said}")).at(source.path.display()),
    }
}

/// The stream of a table, which ends in an error where a row is too long or a quote is never closed: the parser after
/// it takes any bytes for a table, and one quote for the rest of a file.
struct Watched {
    stream: Box<dyn BufRead + Send>,
    watch: Watch,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        let seen = if read > 0 || buffer.is_empty() { self.watch.see(&buffer[..read]) } else { self.watch.end() };
        seen.map(|()| read).map_err(io::Error::other)
    }
}

/// Where in a row a byte is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum At {
    /// A field's first byte.
    Start,
    /// In a field without quotes, where quotes are text.
    Plain,
    Quoted,
    /// After a quote within quotes: the field's end, or a quote that is text when another one follows.
    Closing,
}

/// Follows a table's bytes as the parser does.
struct Watch {
    delimiter: u8,
    quoting: bool,
    options: ReadOptions,
    path: String,
    at: At,
    /// The line at hand, those in which the row and the last quote began, from 1.
    line: u64,
    row: u64,
    quote: u64,
    /// Bytes and columns of the row so far.
    bytes: usize,
    columns: usize,
}

impl Watch {
    fn new(delimiter: u8, quoting: bool, source: &Source, options: &ReadOptions) -> Self {
        let (options, path) = (options.clone(), source.path.display().to_string());
        let (line, row, quote) = (1, 1, 1);
        Self { delimiter, quoting, options, path, at: At::Start, line, row, quote, bytes: 0, columns: 1 }
    }

    fn see(&mut self, bytes: &[u8]) -> Result<()> {
        for &byte in bytes {
            self.bytes += 1;
            self.at = match (self.at, byte) {
                (At::Quoted, b'"') => At::Closing,
                (At::Quoted, _) => {
                    self.line += u64::from(byte == b'\n');
                    At::Quoted
                }
                (At::Closing, b'"') => At::Quoted,
                (At::Start, b'"') if self.quoting => {
                    self.quote = self.line;
                    At::Quoted
                }
                (_, b'\n' | b'\r') => {
                    self.line += u64::from(byte == b'\n');
                    (self.row, self.bytes, self.columns) = (self.line, 0, 1);
                    At::Start
                }
                (_, delimiter) if delimiter == self.delimiter => {
                    self.columns += 1;
                    At::Start
                }
                // Within a line this is a field of two parts; over several, the quote that closes was meant to open.
                (At::Closing, _) if self.line > self.quote => return Err(self.unclosed()),
                // A byte order mark is no part of the first field.
                (At::Start, 0xef | 0xbb | 0xbf) if self.row == 1 && self.bytes <= 3 => At::Start,
                _ => At::Plain,
            };
            if self.bytes > self.options.longest_line || self.columns > MOST_COLUMNS {
                return Err(self.too_long());
            }
        }
        Ok(())
    }

    fn end(&self) -> Result<()> {
        if self.at == At::Quoted { Err(self.unclosed()) } else { Ok(()) }
    }

    fn unclosed(&self) -> Error {
        Error::new("a quote is opened in this line and not closed: all that follows would be one field")
            .at(format!("{}:{}", self.path, self.quote))
            .help("close the quote, or write it twice within a quoted field (\"a \"\"word\"\"\") where it is text")
    }

    fn too_long(&self) -> Error {
        let place = |line: u64| format!("{}:{line}", self.path);
        if self.columns > MOST_COLUMNS {
            return Error::new(format!("the row has more than {MOST_COLUMNS} columns")).at(place(self.row));
        }
        if self.at == At::Quoted && self.line > self.quote {
            return self
                .options
                .too_long("the field that a quote opens in this line")
                .at(place(self.quote))
                .help("the quote is probably never closed; if the file is right, read longer ones with --longest-line MB");
        }
        self.options.too_long("the row that begins in this line").at(place(self.row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a table, and in which line; nothing where nothing is.
    fn wrong(text: &str, longest_line: usize) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        std::fs::write(&path, text).unwrap();
        let source = super::super::find(&[path.to_str().unwrap().to_owned()]).unwrap().remove(0);
        let options = ReadOptions { longest_line, ..ReadOptions::default() };
        let said = |step: usize| {
            let mut watch = Watch::new(b',', true, &source, &options);
            let seen = text.as_bytes().chunks(step).try_for_each(|chunk| watch.see(chunk)).and_then(|()| watch.end());
            seen.map_or_else(|error| error.to_string(), |()| String::new())
        };
        assert_eq!(said(1), said(7), "wherever a buffer ends");
        let (what, place) = said(64)
            .lines()
            .take(2)
            .map(str::to_owned)
            .collect::<Vec<_>>()
            .split_first()
            .map_or_else(Default::default, |(what, rest)| (what.clone(), rest[0].rsplit(':').next().unwrap().to_owned()));
        if what.is_empty() { what } else { format!("{place}: {what}") }
    }

    #[test]
    fn a_quote_without_its_end_is_named_by_its_line() {
        const OPEN: &str = "a quote is opened in this line and not closed: all that follows would be one field";
        for (text, line) in [
            ("a,b\n1,\"x\n2,y\n", 3 - 1),
            ("\"a,b\n1,x\n", 1),
            ("\u{feff}\"a,b\n1,x\n", 1),
            // The next quote was meant to open.
            ("a,b\n\"x,1\n\"y\",2\n", 2),
            ("a,b\r\n1,\"x\r\n2,\"y\"\r\n", 2),
            ("a,b\n1,\"p\nq\"\n2,\"x\n", 4),
            ("a,b\n1,\"x \"\"\n2,y\n", 2),
        ] {
            assert_eq!(wrong(text, 1 << 20), format!("{line}: {OPEN}"), "{text:?}");
        }
        for fine in [
            "a,b\n1,\"x\ny\"\n",
            "a,b\n1,\"x \"\"q\"\" y\"\n",
            "a,b\n1,x \"y\n2,5\" wide\n",
            "a,b\n1,\"x\" y\n",
            "a,b\n1,\"\"\n",
            "a,b\n1,\"x\"",
            "\u{feff}\"a\",b\n",
        ] {
            assert_eq!(wrong(fine, 1 << 20), "", "{fine:?}");
        }
    }

    #[test]
    fn rows_without_end_are_refused_and_named() {
        assert_eq!(wrong("a,b\nlong,enough\n", 12), "");
        assert_eq!(wrong("a,b\nlong,enough\n", 8), "2: the row that begins in this line is longer than 8 bytes");
        assert_eq!(wrong("a\n\"x\ny\ny\ny\ny\n\"\n", 8), "2: the field that a quote opens in this line is longer than 8 bytes");
        assert_eq!(wrong(&",".repeat(MOST_COLUMNS), 1 << 30), format!("1: the row has more than {MOST_COLUMNS} columns"));
    }
}
