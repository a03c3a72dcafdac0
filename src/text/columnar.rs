//! Parquet: one string column, some hundred rows at a time.

use std::sync::Arc;

use parquet::basic::{Compression, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::record::Field;
use parquet::record::reader::TreeBuilder;
use parquet::schema::types::{SchemaDescriptor, Type};

use super::gathered::Gathered;
use super::options::ReadOptions;
use super::pages::{Group, Pages};
use super::source::Source;
use super::stream::{Meter, utf8};
use super::{Document, Documents, Row, Wanted, table};
use crate::error::{Error, Result, quietly};

/// Rows decoded at a time; the page they come from is held anyway.
const ROWS: usize = 256;
/// Of values that are written as what differs from the one before, each may be as long as the page, whatever it holds.
const PREFIXED_ROWS: usize = 1;

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
        longest: options.longest_page(),
        group: 0,
        at_once: ROWS,
        pages: None,
        row: 0,
        batch: Vec::new().into_iter(),
    };
    Ok(Box::new(rows))
}

fn open(source: &Source, options: &ReadOptions) -> Result<SerializedFileReader<Pages>> {
    let (pages, packings) = Pages::open(&source.path, options.longest_page())?;
    let reader = guarded(source, || SerializedFileReader::new(pages))?;
    let mut named: Vec<Compression> = Vec::new();
    for column in reader.metadata().row_groups().iter().flat_map(|group| group.columns()) {
        if !named.contains(&column.compression()) {
            named.push(column.compression());
        }
    }
    let _ = packings.set(named);
    Ok(reader)
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
    longest: usize,
    /// The row group to open next.
    group: usize,
    /// Rows of it that are decoded at a time.
    at_once: usize,
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
        let (rows, ..) = guarded(&self.source, || pages.read_records(self.at_once, Some(&mut levels), None, &mut values))?;
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
        let (column, bytes, at_once) = guarded(&self.source, || {
            let group = Group::new(self.reader.get_row_group(self.group)?, self.longest);
            let at_once = if group.has_prefixes(self.column) { PREFIXED_ROWS } else { ROWS };
            Ok((group.get_column_reader(self.column)?, group.metadata().compressed_size(), at_once))
        })?;
        self.meter.count(u64::try_from(bytes).unwrap_or(0));
        self.at_once = at_once;
        let ColumnReader::ByteArrayColumnReader(pages) = column else {
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
pub(super) fn rows(source: &Source, wanted: &Wanted, options: &ReadOptions, rows: &mut Gathered<Row>) -> Result<()> {
    let reader = open(source, options)?;
    let schema = reader.metadata().file_metadata().schema();
    let there: Vec<&str> = schema.get_fields().iter().map(|field| field.name()).collect();
    let chosen = wanted.find(&there).map_err(|error| error.at(source.path.display()))?;
    let mut in_file = chosen.clone();
    in_file.sort_unstable();
    in_file.dedup();
    let place: Vec<usize> = chosen.iter().map(|at| in_file.partition_point(|other| other < at)).collect();
    guarded(source, || {
        let fields = in_file.iter().map(|&at| schema.get_fields()[at].clone()).collect();
        let projection = SchemaDescriptor::new(Arc::new(Type::group_type_builder(schema.name()).with_fields(fields).build()?));
        let projection = Arc::new(projection);
        let mut line = 0;
        for group in 0..reader.num_row_groups() {
            let group = Group::new(reader.get_row_group(group)?, options.longest_page());
            let is_prefixed = (0..group.num_columns()).any(|column| group.has_prefixes(column));
            let at_once = if is_prefixed { PREFIXED_ROWS } else { ROWS };
            for row in TreeBuilder::new().with_batch_size(at_once).as_iter(projection.clone(), &group)? {
                line += 1;
                let row = row?;
                let values: Vec<&Field> = row.get_column_iter().map(|(_, value)| value).collect();
                let fields: Result<_> = place.iter().map(|&at| plain(values[at], options.lossy)).collect();
                let gathered = fields.and_then(|fields| rows.push(Row { line, fields }));
                let at_row = |error: Error| error.at(format!("{}, row {line}", source.path.display()));
                gathered.map_err(|error| ParquetError::External(Box::new(at_row(error))))?;
            }
        }
        Ok(())
    })
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
