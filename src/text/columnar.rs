//! Parquet: one string column, some hundred rows at a time.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};

use parquet::basic::Type as Physical;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, FileReader, Length, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::Type;

use super::options::{ReadOptions, mebibytes};
use super::source::Source;
use super::stream::{Meter, utf8};
use super::{Document, Documents, Row, Wanted, table};
use crate::error::{Error, IoContext, Result, quietly};

/// Rows decoded at a time; the page they come from is held anyway.
const ROWS: usize = 256;

/// One document a row: the text in `options.column`; a null is passed over.
pub(super) fn documents(source: &Source, options: &ReadOptions, meter: &Arc<Meter>) -> Result<Documents> {
    meter.hash_file(&source.path)?;
    let reader = open(source, options)?;
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

fn open(source: &Source, options: &ReadOptions) -> Result<SerializedFileReader<Pages>> {
    let file = File::open(&source.path).doing("open", &source.path)?;
    let pages = Pages { file, path: source.path.display().to_string(), longest: options.longest_page(), header: Arc::default() };
    guarded(source, || SerializedFileReader::new(pages))
}

fn find_column(reader: &SerializedFileReader<Pages>, source: &Source, name: &String) -> Result<usize> {
    let schema = reader.metadata().file_metadata().schema_descr();
    let names: Vec<_> = schema.columns().iter().map(|column| column.path().string()).collect();
    let index = table::wanted(name).find(&names).map_err(|error| error.at(source.path.display()))?[0];
    let column = schema.column(index);
    if column.physical_type() != Physical::BYTE_ARRAY || column.max_rep_level() > 0 {
        let what = format!("the column `{name}` does not hold one string a row");
        return Err(Error::new(what).at(source.path.display()).help(table::NAME_IT));
    }
    Ok(index)
}

struct Rows {
    reader: SerializedFileReader<Pages>,
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
                let text = utf8(value.data(), self.lossy)
                    .map_err(|error| error.at(format!("{}, value {}", self.source.path.display(), self.row)))?;
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
}

impl Iterator for Rows {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

/// Runs the decoder, whose panics on damaged pages become errors like its others.
fn guarded<T>(source: &Source, decode: impl FnOnce() -> Result<T, ParquetError>) -> Result<T> {
    match quietly(decode) {
        Ok(Ok(decoded)) => Ok(decoded),
        Ok(Err(ParquetError::External(said))) if said.is::<Error>() => {
            Err(*said.downcast::<Error>().unwrap_or_else(|_| unreachable!("it is one")))
        }
        Ok(Err(error)) => Err(damaged(source, &error.to_string())),
        Err(_) => Err(damaged(source, "its content is damaged")),
    }
}

fn damaged(source: &Source, reason: &str) -> Error {
    Error::new(format!("a broken parquet file: {reason}")).at(source.path.display()).help("fetch or write the file again")
}

/// The wanted columns of every row: see [`read_rows`](super::read_rows). No other column is decoded.
pub(super) fn rows(source: &Source, wanted: &Wanted, options: &ReadOptions) -> Result<Vec<Row>> {
    let reader = open(source, options)?;
    let schema = reader.metadata().file_metadata().schema();
    let there: Vec<&str> = schema.get_fields().iter().map(|field| field.name()).collect();
    let chosen = wanted.find(&there).map_err(|error| error.at(source.path.display()))?;
    let mut in_file = chosen.clone();
    in_file.sort_unstable();
    in_file.dedup();
    let place: Vec<usize> = chosen.iter().map(|at| in_file.partition_point(|other| other < at)).collect();
    let read = guarded(source, || {
        let fields = in_file.iter().map(|&at| schema.get_fields()[at].clone()).collect();
        let projection = Type::group_type_builder(schema.name()).with_fields(fields).build()?;
        let mut rows = Vec::new();
        for (line, row) in (1..).zip(reader.get_row_iter(Some(projection))?) {
            let row = row?;
            let values: Vec<&Field> = row.get_column_iter().map(|(_, value)| value).collect();
            let fields: Vec<Result<Option<String>>> = place.iter().map(|&at| plain(values[at], options.lossy)).collect();
            rows.push((line, fields));
        }
        Ok(rows)
    })?;
    let row = |(line, fields): (u64, Vec<Result<Option<String>>>)| {
        let fields: Result<_> = fields.into_iter().collect();
        let fields = fields.map_err(|error| error.at(format!("{}, row {line}", source.path.display())))?;
        Ok(Row { line, fields })
    };
    read.into_iter().map(row).collect()
}

/// A value as text, numbers as Python writes them; what is no number is missing. The error has no place yet.
fn plain(value: &Field, is_lossy: bool) -> Result<Option<String>> {
    Ok(match value {
        Field::Null => None,
        Field::Str(text) => Some(text.clone()),
        // A string column that doesn't say so.
        Field::Bytes(bytes) => Some(utf8(bytes.data(), is_lossy)?),
        Field::Float(number) => (!number.is_nan()).then(|| format!("{number:?}")),
        Field::Double(number) => (!number.is_nan()).then(|| format!("{number:?}")),
        Field::Float16(number) => (!number.is_nan()).then(|| format!("{:?}", number.to_f32())),
        Field::Group(_) | Field::ListInternal(_) | Field::MapInternal(_) => {
            return Err(
                Error::new("the value is a list or a group, and no plain value").help("name columns that hold one value a row")
            );
        }
        other => Some(other.to_string()),
    })
}

/// A file whose pages are refused before they are unpacked where they say that they are too long. The decoder takes a
/// page's header from a stream, then its bytes; what it took from the stream says how long the page becomes.
struct Pages {
    file: File,
    path: String,
    longest: usize,
    header: Arc<Mutex<Vec<u8>>>,
}

/// A stream that keeps its first bytes: a page's header.
struct Header {
    stream: BufReader<File>,
    kept: Arc<Mutex<Vec<u8>>>,
    is_new: bool,
}

/// More than three numbers take.
const HEADER: usize = 32;

impl Length for Pages {
    fn len(&self) -> u64 {
        Length::len(&self.file)
    }
}

impl ChunkReader for Pages {
    type T = Header;

    fn get_read(&self, start: u64) -> Result<Header, ParquetError> {
        Ok(Header { stream: self.file.get_read(start)?, kept: self.header.clone(), is_new: true })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<bytes::Bytes, ParquetError> {
        let header = page_sizes(&self.header.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some((unpacked, packed)) = header
            && packed == length as u64
            && unpacked > self.longest as u64
        {
            let what = format!("a page of {}, and at most {} are read", bytes_of(unpacked), mebibytes(self.longest));
            return Err(ParquetError::External(Box::new(
                Error::new(what)
                    .at(&self.path)
                    .help("if the file is right, read longer ones with --longest-line MB, a quarter of a page"),
            )));
        }
        self.file.get_bytes(start, length)
    }
}

impl Read for Header {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut self.is_new) {
            kept.clear();
        }
        let room = HEADER.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..read.min(room)]);
        Ok(read)
    }
}

fn bytes_of(bytes: u64) -> String {
    mebibytes(usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// The first numbers of a page's header (Thrift's compact protocol): its kind, its unpacked and its packed size.
fn page_sizes(header: &[u8]) -> Option<(u64, u64)> {
    let mut bytes = header.iter();
    let mut numbers = [0u64; 3];
    for number in &mut numbers {
        // The next field, an i32.
        (*bytes.next()? == 0x15).then_some(())?;
        let mut shift = 0;
        loop {
            let byte = *bytes.next()?;
            *number |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
            (shift < 63).then_some(())?;
        }
        // Zigzag; sizes are not negative.
        *number >>= 1;
    }
    Some((numbers[1], numbers[2]))
}
