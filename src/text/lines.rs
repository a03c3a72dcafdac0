//! Files of lines, and plain text.

use std::io::{BufRead, Read};

use super::options::ReadOptions;
use super::source::Source;
use super::stream::{NOT_UTF8_HELP, broken};
use super::{DOCUMENT_BYTES, Document, Documents};
use crate::error::{Error, Result};

/// A longer paragraph is read as several, cut at white space.
const PARAGRAPH_BYTES: usize = DOCUMENT_BYTES;

/// The lines of a stream, at most `limit` bytes at a time.
pub(super) struct Lines {
    stream: Box<dyn BufRead + Send>,
    source: Source,
    lossy: bool,
    limit: usize,
    /// The number of the line last returned, from 1.
    pub(super) number: u64,
    /// Where that line (or part of a line) starts in the unpacked stream.
    start: u64,
    bytes: Vec<u8>,
    /// The rest of a line longer than `limit`.
    carry: Vec<u8>,
}

/// A line without its end, or a part of one.
pub(super) struct Line {
    pub(super) text: String,
    /// Whether the line goes on.
    pub(super) goes_on: bool,
}

impl Lines {
    pub(super) fn new(stream: Box<dyn BufRead + Send>, source: &Source, options: &ReadOptions, limit: usize) -> Self {
        let source = source.clone();
        Lines { stream, source, lossy: options.lossy, limit, number: 0, start: 0, bytes: Vec::new(), carry: Vec::new() }
    }

    pub(super) fn next(&mut self) -> Result<Option<Line>> {
        if self.carry.is_empty() {
            self.number += 1;
        }
        self.start += self.bytes.len() as u64;
        self.bytes.clear();
        self.bytes.append(&mut self.carry);
        let room = (self.limit - self.bytes.len()) as u64;
        let read = (&mut self.stream).take(room).read_until(b'\n', &mut self.bytes);
        read.map_err(|error| broken(&self.source, &error))?;
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let goes_on = self.bytes.len() == self.limit && !self.bytes.ends_with(b"\n");
        if goes_on {
            self.carry = self.bytes.split_off(cut(&self.bytes));
        }
        let text = self.decode()?;
        Ok(Some(Line { text, goes_on }))
    }

    fn decode(&self) -> Result<String> {
        let mut bytes = self.bytes.as_slice();
        if self.start == 0 {
            bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        }
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) if self.lossy => String::from_utf8_lossy(bytes).into_owned(),
            Err(error) => return Err(self.not_utf8(error.valid_up_to() + self.bytes.len() - bytes.len())),
        };
        Ok(text.trim_end_matches(['\n', '\r']).to_owned())
    }

    fn not_utf8(&self, within: usize) -> Error {
        let at = self.start + within as u64;
        Error::new(format!("the text is not UTF-8: byte 0x{:02x} at offset {at}", self.bytes[within]))
            .at(self.place())
            .help(NOT_UTF8_HELP)
    }

    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.source.path.display(), self.number)
    }
}

/// Where to cut a part of a long line: after its last white space, else between characters.
fn cut(bytes: &[u8]) -> usize {
    let space = bytes.iter().rposition(u8::is_ascii_whitespace).map(|at| at + 1);
    let character = bytes.iter().rposition(|byte| byte & 0xc0 != 0x80).filter(|at| *at > 0);
    space.or(character).unwrap_or(bytes.len())
}

/// Documents of plain text: an empty line ends one. With [`ReadOptions::each_line`], in a file without empty lines
/// between others each line is one.
pub(super) fn documents(stream: Box<dyn BufRead + Send>, source: &Source, options: &ReadOptions) -> Documents {
    let lines = Lines::new(stream, source, options, PARAGRAPH_BYTES);
    let mut texts = Texts { lines, each_line: options.each_line, next: None, single: Vec::new().into_iter() };
    Box::new(std::iter::from_fn(move || texts.document().transpose()))
}

struct Texts {
    lines: Lines,
    /// Whether a line is a document: until an empty line comes.
    each_line: bool,
    /// The line after the empty ones.
    next: Option<Line>,
    /// Lines that are documents.
    single: std::vec::IntoIter<String>,
}

impl Texts {
    fn document(&mut self) -> Result<Option<Document>> {
        if let Some(text) = self.single.next() {
            return Ok(Some(Document { text }));
        }
        let (mut text, mut is_parted) = (String::new(), false);
        while let Some(line) = self.next.take().map_or_else(|| self.lines.next(), |line| Ok(Some(line)))? {
            let blank = line.text.trim().is_empty();
            match (blank, text.is_empty()) {
                (true, false) if !line.goes_on => {
                    is_parted = true;
                    break;
                }
                (true, _) => {}
                (false, _) => {
                    text.push_str(&line.text);
                    text.push('\n');
                }
            }
            if text.len() >= DOCUMENT_BYTES {
                break;
            }
        }
        // Empty lines at the end part nothing.
        while self.each_line && is_parted && self.next.is_none() {
            let Some(line) = self.lines.next()? else { break };
            self.next = Some(line).filter(|line| !line.text.trim().is_empty());
        }
        self.each_line &= self.next.is_none();
        if text.is_empty() {
            return Ok(None);
        }
        if !self.each_line {
            return Ok(Some(Document { text }));
        }
        self.single = text.split_inclusive('\n').map(str::to_owned).collect::<Vec<_>>().into_iter();
        self.document()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(bytes: &[u8], limit: usize) -> Vec<(String, u64)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        std::fs::write(&path, bytes).unwrap();
        let source = super::super::find(&[path.to_str().unwrap().to_owned()]).unwrap().remove(0);
        let stream = Box::new(std::io::Cursor::new(bytes.to_vec()));
        let mut lines = Lines::new(stream, &source, &ReadOptions::default(), limit);
        std::iter::from_fn(|| lines.next().unwrap().map(|line| (line.text, lines.number))).collect()
    }

    #[test]
    fn long_lines_are_cut_at_white_space_and_characters_stay_whole() {
        let expected = [("one ", 1), ("two ", 1), ("three", 1), ("x", 2)].map(|(text, n)| (text.to_owned(), n));
        assert_eq!(parts(b"one two three\r\nx", 7), expected);
        let accents: String = parts("ééééééé".as_bytes(), 5).into_iter().map(|(text, _)| text).collect();
        assert_eq!(accents, "ééééééé");
    }

    #[test]
    fn each_line_is_a_document_where_no_empty_line_parts_them() {
        let read = |text: &str| -> Vec<String> {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.txt");
            std::fs::write(&path, text).unwrap();
            let source = super::super::find(&[path.to_str().unwrap().to_owned()]).unwrap().remove(0);
            let options = ReadOptions { each_line: true, ..ReadOptions::default() };
            let stream = Box::new(std::io::Cursor::new(text.as_bytes().to_vec()));
            documents(stream, &source, &options).map(|document| document.unwrap().text).collect()
        };
        assert_eq!(read("a\nb\nc"), ["a\n", "b\n", "c\n"]);
        assert_eq!(read("\n\na\nb\n\n \n"), ["a\n", "b\n"], "empty lines around them part nothing");
        assert_eq!(read("a\nb\n\nc\nd\n"), ["a\nb\n", "c\nd\n"]);
        assert_eq!(read("a\n\n\nb\n\nc\nd"), ["a\n", "b\n", "c\nd\n"]);
        assert!(read("\n \n").is_empty());
        let long = "word\n".repeat(DOCUMENT_BYTES / 5 + 10);
        assert_eq!(read(&long).len(), DOCUMENT_BYTES / 5 + 10);
    }

    #[test]
    fn a_byte_order_mark_is_no_text() {
        assert_eq!(parts("\u{feff}a\nb".as_bytes(), 64), [("a".to_owned(), 1), ("b".to_owned(), 2)]);
    }
}
