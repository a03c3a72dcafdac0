//! The documents of many files, one after the other, in bounded memory.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use serde::{Deserialize, Serialize};

use super::options::ReadOptions;
use super::source::{Format, Source};
use super::stream::{self, Meter};
use super::{Document, Documents, columnar, json, lines, table};
use crate::error::Result;

/// One file that was read to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// The path that it was read from.
    pub path: String,
    /// Its size on disk.
    pub bytes: u64,
    /// BLAKE3 of its bytes on disk.
    pub blake3: String,
    /// How many documents it held.
    pub documents: u64,
}

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
            let meter = Arc::new(Meter::new(self.bytes.clone()));
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
    let stream = stream::open(source, options, meter)?;
    Ok(match source.format {
        Format::JsonLines | Format::Json => json::documents(stream, source, options),
        Format::Tsv => table::documents(stream, source, options, b'\t')?,
        Format::Csv => table::documents(stream, source, options, b',')?,
        Format::Text | Format::Parquet => lines::documents(stream, source, options),
    })
}
