//! One file as a stream of UTF-8: unpacked, counted and hashed as it is read.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
#[cfg(not(target_family = "wasm"))]
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::gzip::Members;
use super::options::ReadOptions;
use super::source::{Packing, Source};
use super::{packed, utf16};
use crate::error::{Error, IoContext, Result};

const BUFFER: usize = 1 << 18;

/// What to do about bytes that are no text.
pub(super) const NOT_UTF8_HELP: &str = "convert the file (`iconv -t UTF-8`), or read on with --lossy";

/// The text of a file that is not read by columns.
pub(super) fn open(source: &Source, options: &ReadOptions, meter: &Arc<Meter>) -> Result<Box<dyn BufRead + Send>> {
    let file = File::open(&source.path).doing("open", &source.path)?;
    let metered = BufReader::with_capacity(BUFFER, Metered { file, meter: meter.clone() });
    let unpacked: io::Result<Box<dyn BufRead + Send>> = match source.packing {
        Packing::Plain => Ok(Box::new(metered)),
        Packing::Gzip => Ok(Box::new(BufReader::with_capacity(BUFFER, Members::new(metered, source.path.clone())))),
        Packing::Zstd => packed::zstd(metered, &source.path),
        Packing::Bzip2 => packed::bzip2(metered, &source.path),
        Packing::Xz => packed::xz(metered, &source.path),
    };
    unpacked.and_then(|stream| utf16::as_utf8(stream, source, options)).map_err(|error| broken(source, &error))
}

/// A failure to read `source`: what one of our own readers said, else the file system's, else the packing's.
pub(super) fn broken(source: &Source, error: &io::Error) -> Error {
    if let Some(said) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        return said.clone();
    }
    if source.packing == Packing::Plain || error.raw_os_error().is_some() {
        return Error::io("read", &source.path, error);
    }
    let (name, said) = (source.packing.name(), error.to_string());
    if said.contains("memory") {
        return Error::new(format!("there is not enough memory to unpack the {name} file ({said})"))
            .at(source.path.display())
            .help("pack it anew with a smaller window or dictionary (zstd without --long, xz -9), or unpack it first");
    }
    let cut = if error.kind() == io::ErrorKind::UnexpectedEof { "it ends too early" } else { "its content is damaged" };
    Error::new(format!("a broken {name} file: {cut} ({said})")).at(source.path.display()).help("fetch or pack the file again")
}

/// A text from bytes that should be UTF-8. The error has no place yet.
pub(super) fn utf8(bytes: &[u8], is_lossy: bool) -> Result<String> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) if is_lossy => Ok(String::from_utf8_lossy(bytes).into_owned()),
        Err(error) => {
            let byte = bytes[error.valid_up_to()];
            Err(Error::new(format!("the text is not UTF-8: byte 0x{byte:02x}")).help(NOT_UTF8_HELP))
        }
    }
}

/// Counts and hashes the bytes of one file as they are read.
#[derive(Default)]
pub(super) struct Meter {
    total: Arc<AtomicU64>,
    hasher: Mutex<blake3::Hasher>,
}

impl Meter {
    /// A meter that adds to `total`.
    pub(super) fn new(total: Arc<AtomicU64>) -> Self {
        Self { total, hasher: Mutex::default() }
    }

    pub(super) fn hash(&self) -> String {
        self.hasher.lock().unwrap_or_else(PoisonError::into_inner).finalize().to_hex().to_string()
    }

    pub(super) fn count(&self, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Hashes a file that is not read from front to back.
    #[cfg(not(target_family = "wasm"))]
    pub(super) fn hash_file(&self, path: &Path) -> Result<()> {
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
