//! Packings that a browser leaves out: Zstandard, bzip2 and xz.

use std::io::{self, BufRead, BufReader};
use std::path::Path;

use super::peek::Peek;
use crate::error::note;

/// Frames with a window of up to 2^31 bytes are unpacked, as `zstd --long=31` makes them.
const WINDOW_LOG: u32 = 31;
/// A note says what memory a larger window takes: what zstd itself unpacks without being told to.
const USUAL_WINDOW: u64 = 1 << 27;
const BUFFER: usize = 1 << 18;

/// The stream within a Zstandard file.
pub(super) fn zstd(packed: impl BufRead + Send + 'static, path: &Path) -> io::Result<Box<dyn BufRead + Send>> {
    let mut packed = Peek::new(packed);
    if let Some(window) = window(packed.peek(6)?).filter(|window| (USUAL_WINDOW + 1..=1 << WINDOW_LOG).contains(window)) {
        note(format!("{}: unpacking takes {} MiB of memory (it was packed with zstd --long)", path.display(), window >> 20));
    }
    let mut decoder = zstd::Decoder::with_buffer(packed)?;
    decoder.window_log_max(WINDOW_LOG)?;
    Ok(Box::new(BufReader::with_capacity(BUFFER, decoder)))
}

/// The window that a frame's header asks for, in bytes (RFC 8878, 3.1.1.1); none where the content says its own size.
fn window(header: &[u8]) -> Option<u64> {
    let [0x28, 0xb5, 0x2f, 0xfd, descriptor, window] = *header.first_chunk()? else { return None };
    let is_single_segment = descriptor & 0x20 != 0;
    let base = 1u64 << (10 + (window >> 3));
    (!is_single_segment).then(|| base + base / 8 * u64::from(window & 7))
}

/// The most memory that unpacking an xz file may take, in KiB: dictionaries of up to 2^31 bytes, beyond any that xz
/// makes.
const XZ_MEMORY_KIB: u32 = (1 << 21) + (1 << 10);

/// The stream within an xz file of any number of streams.
pub(super) fn xz(packed: impl BufRead + Send + 'static, _: &Path) -> io::Result<Box<dyn BufRead + Send>> {
    Ok(Box::new(BufReader::with_capacity(BUFFER, lzma_rust2::XzReader::new_mem_limit(packed, true, XZ_MEMORY_KIB))))
}

/// The stream within a bzip2 file of any number of streams.
pub(super) fn bzip2(packed: impl BufRead + Send + 'static, _: &Path) -> io::Result<Box<dyn BufRead + Send>> {
    Ok(Box::new(BufReader::with_capacity(BUFFER, bzip2::bufread::MultiBzDecoder::new(packed))))
}
