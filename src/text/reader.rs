//! The documents of many files, one after the other, in bounded memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::source::{Format, Packing, Source};
use super::{Document, columnar, lines, table};
use crate::error::{Error, IoContext, Result};

/// What a reader has to be told beyond the file names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadOptions {
    /// The field of `.jsonl` objects that holds the text.
    pub field: String,
    /// The column of `.tsv`, `.csv` and `.parquet` files that holds the text.
    pub column: String,
    /// Reads on where bytes are not UTF-8, with the replacement character in their place.
    pub lossy: bool,
}

impl Default for ReadOptions {
    fn default() -> Self {
        ReadOptions { field: "text".into(), column: "text".into(), lossy: false }
    }
}

/// One file that was read to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Where it was.
    pub path: String,
    /// Its size on disk.
    pub bytes: u64,
    /// BLAKE3 of its bytes on disk.
    pub blake3: String,
    /// How many documents it held.
    pub documents: u64,
}

/// The documents of one file.
pub(super) type Documents = Box<dyn Iterator<Item = Result<Document>> + Send>;

/// The documents of all sources in order: an iterator that ends after its first error.
pub struct Reader {
    sources: std::vec::IntoIter<Source>,
    options: ReadOptions,
    current: Option<Open>,
    done: Vec<Input>,
    bytes: Arc<AtomicU64>,
    total_bytes: u64,
    failed: bool,
}

/// The file being read.
struct Open {
    source: Source,
    documents: Documents,
    meter: Arc<Meter>,
    count: u64,
}

impl Reader {
    /// A reader of `sources`; nothing is opened before the first document is asked for.
    pub fn new(sources: Vec<Source>, options: ReadOptions) -> Self {
        let total_bytes = sources.iter().map(|source| source.bytes).sum();
        Reader {
            sources: sources.into_iter(),
            options,
            current: None,
            done: Vec::new(),
            bytes: Arc::default(),
            total_bytes,
            failed: false,
        }
    }

    /// How many bytes on disk were read so far; it counts on while the reader is in use elsewhere.
    pub fn bytes_read(&self) -> Arc<AtomicU64> {
        self.bytes.clone()
    }

    /// How many bytes on disk there are to read.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// The files that were read to their ends.
    pub fn finished(self) -> Vec<Input> {
        self.done
    }

    fn step(&mut self) -> Result<Option<Document>> {
        loop {
            if let Some(open) = &mut self.current {
                if let Some(document) = open.documents.next().transpose()? {
                    open.count += 1;
                    return Ok(Some(document));
                }
                let hash = open.meter.hash();
                let path = open.source.path.display().to_string();
                self.done.push(Input { path, bytes: open.source.bytes, blake3: hash, documents: open.count });
            }
            let Some(source) = self.sources.next() else { return Ok(None) };
            let meter = Arc::new(Meter { total: self.bytes.clone(), hasher: Mutex::default() });
            let documents = open(&source, &self.options, &meter)?;
            self.current = Some(Open { source, documents, meter, count: 0 });
        }
    }
}

impl Iterator for Reader {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.step().transpose();
        self.failed = !matches!(next, Some(Ok(_)));
        next
    }
}

fn open(source: &Source, options: &ReadOptions, meter: &Arc<Meter>) -> Result<Documents> {
    if source.format == Format::Parquet {
        return columnar::documents(source, options, meter);
    }
    let stream = unpack(source, meter)?;
    Ok(match source.format {
        Format::JsonLines => lines::json_documents(stream, source, options),
        Format::Tsv => table::documents(stream, source, options, b'\t')?,
        Format::Csv => table::documents(stream, source, options, b',')?,
        Format::Text | Format::Parquet => lines::text_documents(stream, source, options),
    })
}

pub(super) fn unpack(source: &Source, meter: &Arc<Meter>) -> Result<Box<dyn BufRead + Send>> {
    let file = File::open(&source.path).doing("open", &source.path)?;
    let metered = BufReader::with_capacity(1 << 18, Metered { file, meter: meter.clone() });
    Ok(match source.packing {
        Packing::Plain => Box::new(metered),
        Packing::Gzip => Box::new(BufReader::with_capacity(1 << 18, flate2::bufread::MultiGzDecoder::new(metered))),
        Packing::Zstd => columnar::unpack_zstd(metered, source)?,
    })
}

/// A failure to read `source`: the file system's, or the packing's when the system had nothing to say.
pub(super) fn broken(source: &Source, error: &io::Error) -> Error {
    if source.packing == Packing::Plain || error.raw_os_error().is_some() {
        return Error::io("read", &source.path, error);
    }
    let cut = if error.kind() == io::ErrorKind::UnexpectedEof { "it ends too early" } else { "its content is damaged" };
    Error::new(format!("a broken {} file: {cut} ({error})", source.packing.name()))
        .at(source.path.display())
        .help("fetch or pack the file again")
}

/// Counts and hashes the bytes of one file as they are read.
#[derive(Default)]
pub(super) struct Meter {
    total: Arc<AtomicU64>,
    hasher: Mutex<blake3::Hasher>,
}

impl Meter {
    pub(super) fn hash(&self) -> String {
        self.hasher.lock().unwrap_or_else(PoisonError::into_inner).finalize().to_hex().to_string()
    }

    pub(super) fn count(&self, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Hashes a file that is not read from front to back.
    #[cfg(not(target_family = "wasm"))]
    pub(super) fn hash_file(&self, path: &std::path::Path) -> Result<()> {
        let file = File::open(path).doing("open", path)?;
        let mut hasher = self.hasher.lock().unwrap_or_else(PoisonError::into_inner);
        hasher.update_reader(file).doing("read", path)?;
        Ok(())
    }
}

struct Metered {
    file: File,
    meter: Arc<Meter>,
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.meter.count(read as u64);
        self.meter.hasher.lock().unwrap_or_else(PoisonError::into_inner).update(&buffer[..read]);
        Ok(read)
    }
}
