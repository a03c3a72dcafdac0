//! Gzip files of any number of members, read as gzip(1) reads them.

use std::io::{self, BufRead, Read};
use std::path::PathBuf;

use flate2::bufread::GzDecoder;

use super::peek::Peek;
use crate::error::note;

/// The first bytes of a member.
const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The members of a file, one after the other. Zeros after a member are padding (of tapes, and of tar), and passed
/// over; what else follows the last one is no part of the text, and a note says so.
pub(super) struct Members<R> {
    member: Option<GzDecoder<Peek<R>>>,
    path: PathBuf,
}

impl<R: BufRead> Members<R> {
    pub(super) fn new(packed: R, path: PathBuf) -> Self {
        Self { member: Some(GzDecoder::new(Peek::new(packed))), path }
    }

    /// Goes to the next member; false at the end of the file, to which everything has been read then.
    fn open_next(&mut self, ended: GzDecoder<Peek<R>>) -> io::Result<bool> {
        let mut rest = ended.into_inner();
        loop {
            let buffer = rest.fill_buf()?;
            let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
            if zeros == 0 {
                break;
            }
            rest.consume(zeros);
        }
        if rest.peek(MAGIC.len())?.starts_with(&MAGIC) {
            self.member = Some(GzDecoder::new(rest));
            return Ok(true);
        }
        let garbage = io::copy(&mut rest, &mut io::sink())?;
        if garbage > 0 {
            note(format!("{}: {garbage} bytes after the end of the gzip data are ignored", self.path.display()));
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let read = member.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            if let Some(ended) = self.member.take() {
                self.open_next(ended)?;
            }
        }
        Ok(0)
    }
}
