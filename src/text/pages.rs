//! Pages of Parquet, bounded: by what they become, whatever their headers say.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use parquet::basic::{Compression, Encoding};
use parquet::bloom_filter::Sbbf;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{ChunkReader, Length, RowGroupReader};
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;

use super::options::mebibytes;
use crate::error::{Error, IoContext, Result};

/// A row group whose pages are looked at once they are unpacked: how many values a page of differences has stands
/// within it, and the decoder makes room for them before it reads one.
pub(super) struct Group<'a> {
    group: Box<dyn RowGroupReader + 'a>,
    longest: usize,
}

impl<'a> Group<'a> {
    /// Of a row group; no page of it makes the decoder keep more than `longest` bytes of lengths.
    pub(super) fn new(group: Box<dyn RowGroupReader + 'a>, longest: usize) -> Self {
        Self { group, longest }
    }

    /// Whether the file says that values of a column are written as what differs from the one before.
    pub(super) fn has_prefixes(&self, column: usize) -> bool {
        self.group.metadata().column(column).encodings().any(|encoding| encoding == Encoding::DELTA_BYTE_ARRAY)
    }
}

impl RowGroupReader for Group<'_> {
    fn metadata(&self) -> &RowGroupMetaData {
        self.group.metadata()
    }

    fn num_columns(&self) -> usize {
        self.group.num_columns()
    }

    fn get_column_page_reader(&self, column: usize) -> Result<Box<dyn PageReader>, ParquetError> {
        let schema = self.group.metadata().schema_descr().column(column);
        let levels = [schema.max_rep_level(), schema.max_def_level()].into_iter().filter(|level| *level > 0).count();
        let pages = self.group.get_column_page_reader(column)?;
        Ok(Box::new(Unpacked { pages, levels, has_prefixes: self.has_prefixes(column), most: self.longest as u64 / COUNT }))
    }

    fn get_column_bloom_filter(&self, _: usize) -> Option<&Sbbf> {
        None
    }

    fn get_row_iter(&self, projection: Option<Type>) -> Result<RowIter<'_>, ParquetError> {
        RowIter::from_row_group(projection, self)
    }
}

/// Bytes that the decoder keeps for the length of each value.
const COUNT: u64 = 4;

/// Pages as they are unpacked, refused where they hold too many values to make room for.
struct Unpacked {
    pages: Box<dyn PageReader>,
    /// How many kinds of levels stand before the values of a page of the first version.
    levels: usize,
    has_prefixes: bool,
    most: u64,
}

impl Unpacked {
    fn check(&self, page: Page) -> Result<Page, ParquetError> {
        let deltas = [Encoding::DELTA_BINARY_PACKED, Encoding::DELTA_LENGTH_BYTE_ARRAY, Encoding::DELTA_BYTE_ARRAY];
        if !deltas.contains(&page.encoding()) {
            return Ok(page);
        }
        if page.encoding() == Encoding::DELTA_BYTE_ARRAY && !self.has_prefixes {
            return Err(ParquetError::General("a page is encoded in a way that the file does not name".to_owned()));
        }
        let values = values_from(&page, self.levels).and_then(|from| page.buffer().get(from..));
        let has_two = page.encoding() == Encoding::DELTA_BYTE_ARRAY;
        let counts = values.and_then(|values| delta_counts(values, has_two));
        match counts.filter(|counts| counts.iter().all(|count| *count <= self.most)) {
            Some(_) => Ok(page),
            None => Err(ParquetError::General(format!("a page says that it has more than {} values", self.most))),
        }
    }
}

/// Where the values of a page begin.
fn values_from(page: &Page, levels: usize) -> Option<usize> {
    match page {
        Page::DataPageV2 { def_levels_byte_len, rep_levels_byte_len, .. } => {
            usize::try_from(def_levels_byte_len.checked_add(*rep_levels_byte_len)?).ok()
        }
        _ => (0..levels).try_fold(0usize, |at, _| {
            let length = page.buffer().get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)?;
            at.checked_add(4)?.checked_add(length as usize)
        }),
    }
}

/// How many values the differences at the start of a page say that they have, and with `has_two` the differences behind
/// them too (lengths of prefixes, then of suffixes); none where they end early.
fn delta_counts(values: &[u8], has_two: bool) -> Option<[u64; 2]> {
    let mut differences = Thrift { rest: values };
    let first = differences.pass_differences(has_two)?;
    let second = if has_two { differences.pass_differences(false)? } else { 0 };
    Some([first, second])
}

impl Iterator for Unpacked {
    type Item = Result<Page, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Unpacked {
    fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
        let page = self.pages.get_next_page()?;
        page.map(|page| self.check(page)).transpose()
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<(), ParquetError> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool, ParquetError> {
        self.pages.at_record_boundary()
    }
}

/// A file whose pages are refused where they would become too long, whatever their headers say. The decoder takes a
/// page's header from a stream, then its bytes: what it took says how long the page is to become, and a packing that is
/// not held to that by the decoder is unpacked once before, into nothing.
pub(super) struct Pages {
    file: File,
    path: String,
    longest: usize,
    /// By where a header begins, what was taken of it.
    headers: Arc<Mutex<BTreeMap<u64, Taken>>>,
    /// The packings that the file's columns name; none before they are known, when no page has been read.
    packings: Arc<OnceLock<Vec<Compression>>>,
}

/// What the decoder took from the stream of a page's header.
#[derive(Default)]
struct Taken {
    /// The first [`HEADER`] bytes.
    kept: Vec<u8>,
    bytes: u64,
}

/// A stream that keeps its first bytes: a page's header.
pub(super) struct Header {
    stream: BufReader<File>,
    start: u64,
    headers: Arc<Mutex<BTreeMap<u64, Taken>>>,
}

/// No header is longer, however long the smallest and largest value are that it holds.
const HEADER: usize = 1 << 16;

impl Length for Pages {
    fn len(&self) -> u64 {
        Length::len(&self.file)
    }
}

impl ChunkReader for Pages {
    type T = Header;

    fn get_read(&self, start: u64) -> Result<Header, ParquetError> {
        Ok(Header { stream: self.file.get_read(start)?, start, headers: self.headers.clone() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<bytes::Bytes, ParquetError> {
        if start.saturating_add(length as u64) > Length::len(&self.file) {
            return Err(ParquetError::EOF("the file ends within a page".to_owned()));
        }
        let Some(packings) = self.packings.get() else { return self.file.get_bytes(start, length) };
        let external = |error: Error| ParquetError::External(Box::new(error.at(&self.path)));
        let page = self.page_at(start).ok_or_else(|| ParquetError::General("the header of a page can't be read".to_owned()))?;
        if page.unpacked > self.longest as u64 {
            return Err(external(too_long(&format!("a page of {}", bytes_of(page.unpacked)), self.longest)));
        }
        if page.values > page.unpacked {
            return Err(ParquetError::General("a dictionary says that it has more values than its bytes can hold".to_owned()));
        }
        let bytes = self.file.get_bytes(start, length)?;
        let packed = bytes.get(page.levels..).unwrap_or_default();
        packings.iter().try_for_each(|packing| self.check_unpacked(*packing, packed, &page)).map_err(external)?;
        Ok(bytes)
    }
}

impl Pages {
    /// Opens a file; the second value is for the packings that its columns turn out to name.
    pub(super) fn open(path: &Path, longest: usize) -> Result<(Self, Arc<OnceLock<Vec<Compression>>>)> {
        let file = File::open(path).doing("open", path)?;
        let packings = Arc::new(OnceLock::new());
        let path = path.display().to_string();
        Ok((Self { file, path, longest, headers: Arc::default(), packings: packings.clone() }, packings))
    }

    /// What the header says that ends where a page's bytes start.
    fn page_at(&self, start: u64) -> Option<PageSizes> {
        let mut headers = self.headers.lock().unwrap_or_else(PoisonError::into_inner);
        let (&from, taken) = headers.range(..start).next_back()?;
        let sizes = (from + taken.bytes == start && taken.bytes <= HEADER as u64).then(|| page_sizes(&taken.kept)).flatten();
        headers.remove(&from);
        sizes
    }

    /// Refuses what a page becomes where that is more than its header says, before the decoder unpacks it without a
    /// bound.
    fn check_unpacked(&self, packing: Compression, packed: &[u8], page: &PageSizes) -> Result<()> {
        let most = match packing {
            // Deflate's best is 258 bytes for two bits.
            Compression::GZIP(_) => (packed.len() as u64).saturating_mul(1032),
            Compression::BROTLI(_) => u64::MAX,
            // The oldest of three layouts is a frame, which says no size either; 255 bytes for one are LZ4's best.
            Compression::LZ4 if packed.starts_with(&LZ4_FRAME) => (packed.len() as u64).saturating_mul(255),
            // The decoder gives them as much room as the header says.
            _ => 0,
        };
        if most <= self.longest as u64 || !page.is_packed {
            return Ok(());
        }
        let room = page.unpacked.saturating_sub(page.levels as u64);
        let unpacked = match packing {
            Compression::GZIP(_) => count(flate2::read::MultiGzDecoder::new(packed), room),
            Compression::BROTLI(_) => count(brotli::Decompressor::new(packed, 1 << 16), room),
            _ => {
                return Err(too_long(
                    &format!("a page that may become {} (LZ4 frames say no size)", bytes_of(most)),
                    self.longest,
                ));
            }
        };
        match unpacked > room {
            true => Err(Error::new(format!("a page that says it holds {}, and holds more", bytes_of(page.unpacked)))
                .help("the file is damaged, or made to fill a memory: fetch or write it again")),
            false => Ok(()),
        }
    }
}

/// The first bytes of an LZ4 frame.
const LZ4_FRAME: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];

fn too_long(what: &str, longest: usize) -> Error {
    Error::new(format!("{what}, and at most {} are read", mebibytes(longest)))
        .help("if the file is right, read longer ones with --longest-line MB, a quarter of a page")
}

/// How many bytes a stream has, counted up to one more than `most`; of a broken one, those before the break, which the
/// decoder finds.
fn count(stream: impl Read, most: u64) -> u64 {
    let (mut stream, mut buffer, mut bytes) = (stream.take(most.saturating_add(1)), vec![0; 1 << 16], 0);
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        bytes += read as u64;
    }
    bytes
}

impl Read for Header {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        let mut headers = self.headers.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = headers.entry(self.start).or_default();
        let room = HEADER.saturating_sub(taken.kept.len());
        taken.kept.extend_from_slice(&buffer[..read.min(room)]);
        taken.bytes += read as u64;
        Ok(read)
    }
}

fn bytes_of(bytes: u64) -> String {
    mebibytes(usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// What a page's header says of its sizes, in bytes.
#[derive(Debug, Default, PartialEq)]
struct PageSizes {
    unpacked: u64,
    /// Levels before the packed part; of pages of the second version.
    levels: usize,
    is_packed: bool,
    /// How many values a dictionary has: the decoder makes room for them before it reads one.
    values: u64,
}

/// Reads a page's header (Thrift's compact protocol), in which fields may come in any order; none where it is no
/// header.
fn page_sizes(header: &[u8]) -> Option<PageSizes> {
    let mut sizes = PageSizes { is_packed: true, ..PageSizes::default() };
    Thrift { rest: header }.fields(0, &mut |field, kind, thrift| {
        match (field, kind) {
            (2, Thrift::I32) => sizes.unpacked = thrift.size()?,
            (7, Thrift::STRUCT) => thrift.fields(1, &mut |field, kind, thrift| {
                match (field, kind) {
                    (1, Thrift::I32) => sizes.values = thrift.size()?,
                    _ => thrift.skip(kind, 1)?,
                }
                Some(())
            })?,
            (8, Thrift::STRUCT) => thrift.fields(1, &mut |field, kind, thrift| {
                match (field, kind) {
                    (5 | 6, Thrift::I32) => sizes.levels = sizes.levels.checked_add(thrift.size()?.try_into().ok()?)?,
                    (7, Thrift::TRUE | Thrift::FALSE) => sizes.is_packed = kind == Thrift::TRUE,
                    _ => thrift.skip(kind, 1)?,
                }
                Some(())
            })?,
            _ => thrift.skip(kind, 0)?,
        }
        Some(())
    })?;
    Some(sizes)
}

/// Bytes of Thrift's compact protocol.
struct Thrift<'a> {
    rest: &'a [u8],
}

impl Thrift<'_> {
    // Kinds of fields.
    const TRUE: u8 = 1;
    const FALSE: u8 = 2;
    const I32: u8 = 5;
    const STRUCT: u8 = 12;
    /// Structs within structs beyond any header's.
    const DEEPEST: usize = 16;

    fn bytes(&mut self, count: usize) -> Option<&[u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.bytes(1).map(|taken| taken[0])
    }

    fn number(&mut self) -> Option<u64> {
        let (mut number, mut shift) = (0u64, 0);
        loop {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(number);
            }
            shift += 7;
        }
    }

    /// A number that is not negative.
    fn size(&mut self) -> Option<u64> {
        self.number().and_then(|zigzag| (zigzag & 1 == 0).then_some(zigzag >> 1))
    }

    /// Takes the header of Parquet's DELTA_BINARY_PACKED, which has the numbers of this protocol, and says how many
    /// values follow; with `whole` takes those too, block by block. The last block ends where the last value does.
    fn pass_differences(&mut self, whole: bool) -> Option<u64> {
        let [block, parts, count, _first] = [self.number()?, self.number()?, self.number()?, self.number()?];
        let values_of_part = block.checked_div(parts)?;
        let mut left = if whole { count.saturating_sub(1) } else { 0 };
        while left > 0 {
            (values_of_part > 0).then_some(())?;
            let _least = self.number()?;
            let widths = self.bytes(parts.try_into().ok()?)?.to_vec();
            for width in widths {
                if left > 0 {
                    self.bytes((u64::from(width).checked_mul(values_of_part)? / 8).try_into().ok()?)?;
                    left = left.saturating_sub(values_of_part);
                }
            }
        }
        Some(count)
    }

    /// Gives each field of a struct to `each`, which takes it, with its number and its kind.
    fn fields(&mut self, depth: usize, each: &mut dyn FnMut(u64, u8, &mut Self) -> Option<()>) -> Option<()> {
        let mut field = 0;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Some(());
            }
            field = if head >> 4 == 0 { self.size()? } else { field + u64::from(head >> 4) };
            (depth < Self::DEEPEST).then_some(())?;
            each(field, head & 0x0f, self)?;
        }
    }

    /// Passes over a field; none where its kind is not one of a header's.
    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        match kind {
            Self::TRUE | Self::FALSE => Some(()),
            3 => self.byte().map(drop),
            4..=6 => self.number().map(drop),
            7 => self.bytes(8).map(drop),
            8 => {
                let length = self.number()?.try_into().ok()?;
                self.bytes(length).map(drop)
            }
            Self::STRUCT => self.fields(depth + 1, &mut |_, kind, thrift| thrift.skip(kind, depth + 1)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three equal lengths in blocks of 128 and four parts, of which none takes a byte, then another block's header.
    fn lengths(second_count: &[u8]) -> Vec<u8> {
        let first = [0x80, 0x01, 4, 3, 0, 0, 0, 0, 0, 0];
        [&first, &[0x80, 0x01, 4][..], second_count, &[0]].concat()
    }

    fn page(values: Vec<u8>) -> Page {
        Page::DataPageV2 {
            buf: values.into(),
            num_values: 3,
            encoding: Encoding::DELTA_BYTE_ARRAY,
            num_nulls: 0,
            num_rows: 3,
            def_levels_byte_len: 0,
            rep_levels_byte_len: 0,
            is_compressed: false,
            statistics: None,
        }
    }

    struct Nothing;

    impl Iterator for Nothing {
        type Item = Result<Page, ParquetError>;

        fn next(&mut self) -> Option<Self::Item> {
            None
        }
    }

    impl PageReader for Nothing {
        fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
            Ok(None)
        }

        fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
            Ok(None)
        }

        fn skip_next_page(&mut self) -> Result<(), ParquetError> {
            Ok(())
        }
    }

    #[test]
    fn lengths_of_suffixes_are_counted_behind_those_of_prefixes() {
        assert_eq!(delta_counts(&lengths(&[3]), true), Some([3, 3]));
        assert_eq!(delta_counts(&lengths(&[3]), false), Some([3, 0]));
        // 64 values of two bits in two parts of 32, and a third part that nothing reads, whatever its width.
        let wide = [&[0x80, 0x01, 4, 65, 0, 0, 2, 2, 200, 200][..], &[0; 16], &[0x80, 0x01, 4, 7, 0]].concat();
        assert_eq!(delta_counts(&wide, true), Some([65, 7]));
        assert_eq!(delta_counts(&wide[..20], true), None);
        assert_eq!(delta_counts(&[0x80, 0x01, 0, 3, 0], true), None);
    }

    #[test]
    fn a_page_that_says_more_suffixes_than_there_is_room_for_is_refused() {
        let unpacked = Unpacked { pages: Box::new(Nothing), levels: 0, has_prefixes: true, most: 1 << 20 };
        assert!(unpacked.check(page(lengths(&[3]))).is_ok());
        let error = unpacked.check(page(lengths(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x20]))).unwrap_err();
        assert!(error.to_string().contains("more than 1048576 values"), "{error}");
    }
}
