//! Parquet: one string column, some hundred rows at a time; and Zstandard.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parquet::basic::Type as Physical;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;

use super::Document;
use super::lines::NOT_UTF8_HELP;
use super::reader::{Documents, Meter, ReadOptions, broken};
use super::rows::Row;
use super::source::Source;
use super::table::no_column;
use crate::error::{Error, IoContext, Result};

/// Rows decoded at a time; the page they come from is held anyway.
const ROWS: usize = 256;

/// One document a row: the text in `options.column`; a null is passed over.
pub(super) fn documents(source: &Source, options: &ReadOptions, meter: &Arc<Meter>) -> Result<Documents> {
    meter.hash_file(&source.path)?;
    let file = File::open(&source.path).doing("open", &source.path)?;
    let reader = guarded(source, || SerializedFileReader::new(file))?;
    let column = find_column(&reader, source, &options.column)?;
    let rows = Rows {
        reader,
        column,
        source: source.clone(),
        lossy: options.lossy,
        meter: meter.clone(),
        group: 0,
        pages: None,
        row: 0,
        batch: Vec::new().into_iter(),
    };
    Ok(Box::new(rows))
}

/// The stream within a Zstandard file.
pub(super) fn unpack_zstd(packed: impl BufRead + Send + 'static, source: &Source) -> Result<Box<dyn BufRead + Send>> {
    let decoder = zstd::Decoder::with_buffer(packed).map_err(|error| broken(source, &error))?;
    Ok(Box::new(BufReader::with_capacity(1 << 18, decoder)))
}

fn find_column(reader: &SerializedFileReader<File>, source: &Source, name: &str) -> Result<usize> {
    let schema = reader.metadata().file_metadata().schema_descr();
    let names: Vec<_> = schema.columns().iter().map(|column| column.path().string()).collect();
    let Some(index) = names.iter().position(|found| found == name) else {
        return Err(no_column(name, &names).at(source.path.display()));
    };
    let column = schema.column(index);
    if column.physical_type() != Physical::BYTE_ARRAY || column.max_rep_level() > 0 {
        let what = format!("the column `{name}` does not hold one string a row");
        return Err(Error::new(what).at(source.path.display()).help("name the column that holds the text with --column"));
    }
    Ok(index)
}

struct Rows {
    reader: SerializedFileReader<File>,
    column: usize,
    source: Source,
    lossy: bool,
    meter: Arc<Meter>,
    /// The row group to open next.
    group: usize,
    pages: Option<ColumnReaderImpl<ByteArrayType>>,
    /// How many non-null values were returned.
    row: u64,
    batch: std::vec::IntoIter<ByteArray>,
}

impl Rows {
    fn step(&mut self) -> Result<Option<Document>> {
        loop {
            while let Some(value) = self.batch.next() {
                self.row += 1;
                let text = self.decode(value.data())?;
                if !text.trim().is_empty() {
                    return Ok(Some(Document { text }));
                }
            }
            if !self.read_batch()? && !self.open_group()? {
                return Ok(None);
            }
        }
    }

    /// Decodes the next rows of the open row group; false at its end.
    fn read_batch(&mut self) -> Result<bool> {
        let Some(pages) = &mut self.pages else { return Ok(false) };
        let (mut values, mut levels) = (Vec::new(), Vec::new());
        let (rows, ..) = guarded(&self.source, || pages.read_records(ROWS, Some(&mut levels), None, &mut values))?;
        self.batch = values.into_iter();
        if rows == 0 {
            self.pages = None;
        }
        Ok(rows > 0)
    }

    fn open_group(&mut self) -> Result<bool> {
        if self.group == self.reader.num_row_groups() {
            return Ok(false);
        }
        let opened = guarded(&self.source, || {
            let group = self.reader.get_row_group(self.group)?;
            Ok((group.get_column_reader(self.column)?, group.metadata().compressed_size()))
        })?;
        self.meter.count(u64::try_from(opened.1).unwrap_or(0));
        let ColumnReader::ByteArrayColumnReader(pages) = opened.0 else {
            return Err(damaged(&self.source, "its row groups disagree with its schema"));
        };
        self.pages = Some(pages);
        self.group += 1;
        Ok(true)
    }

    fn decode(&self, bytes: &[u8]) -> Result<String> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) if self.lossy => Ok(String::from_utf8_lossy(bytes).into_owned()),
            Err(error) => {
                let byte = bytes[error.valid_up_to()];
                let place = format!("{}, value {}", self.source.path.display(), self.row);
                Err(Error::new(format!("the text is not UTF-8: byte 0x{byte:02x}")).at(place).help(NOT_UTF8_HELP))
            }
        }
    }
}

impl Iterator for Rows {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

/// Runs the decoder, whose panics on damaged pages become errors like its others.
pub(super) fn guarded<T>(source: &Source, decode: impl FnOnce() -> std::result::Result<T, ParquetError>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(Ok(decoded)) => Ok(decoded),
        Ok(Err(error)) => Err(damaged(source, &error.to_string())),
        Err(_) => Err(damaged(source, "its content is damaged")),
    }
}

fn damaged(source: &Source, reason: &str) -> Error {
    Error::new(format!("a broken parquet file: {reason}")).at(source.path.display()).help("fetch or write the file again")
}

/// The rows of a file, the chosen columns as text: see [`read_rows`](super::read_rows).
pub(super) fn rows(source: &Source, choose: impl FnOnce(&[String]) -> Result<Vec<usize>>) -> Result<Vec<Row>> {
    let file = File::open(&source.path).map_err(|error| Error::io("open", &source.path, &error))?;
    let reader = guarded(source, || SerializedFileReader::new(file))?;
    let columns: Vec<String> =
        reader.metadata().file_metadata().schema().get_fields().iter().map(|field| field.name().to_owned()).collect();
    let chosen = choose(&columns).map_err(|error| error.at(source.path.display()))?;
    guarded(source, || {
        let mut rows = Vec::new();
        for (line, row) in (1..).zip(reader.get_row_iter(None)?) {
            let row = row?;
            let values: Vec<&Field> = row.get_column_iter().map(|(_, value)| value).collect();
            rows.push(Row { line, fields: chosen.iter().map(|&at| plain(values[at])).collect() });
        }
        Ok(rows)
    })
}

fn plain(value: &Field) -> Option<String> {
    match value {
        Field::Null => None,
        Field::Str(text) => Some(text.clone()),
        // A string column that doesn't say so.
        Field::Bytes(bytes) => Some(String::from_utf8_lossy(bytes.data()).into_owned()),
        other => Some(other.to_string()),
    }
}
