//! UTF-16 and UTF-32, told by their first bytes.

use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;

use super::options::ReadOptions;
use super::peek::Peek;
use super::source::Source;
use crate::error::{Error, note};

const BUFFER: usize = 1 << 16;

/// The stream as UTF-8: one that begins with UTF-16's byte order mark is decoded, any other is left as it is.
pub(super) fn as_utf8(
    stream: Box<dyn BufRead + Send>,
    source: &Source,
    options: &ReadOptions,
) -> io::Result<Box<dyn BufRead + Send>> {
    let mut stream = Peek::new(stream);
    let path = source.path.display();
    let from = |name: &str| format!("convert the file: `iconv -f {name} -t UTF-8`");
    let is_big = match stream.peek(4)? {
        [0xff, 0xfe, 0, 0] | [0, 0, 0xfe, 0xff] => {
            return Err(io::Error::other(Error::new("the text is UTF-32").at(path).help(from("UTF-32"))));
        }
        [0xff, 0xfe, ..] => false,
        [0xfe, 0xff, ..] => true,
        [a, 0, b, 0] if *a != 0 && *b != 0 => return Err(unmarked(source, from("UTF-16LE"))),
        [0, a, 0, b] if *a != 0 && *b != 0 => return Err(unmarked(source, from("UTF-16BE"))),
        _ => return Ok(Box::new(stream)),
    };
    note(format!("{path}: read as UTF-16, as its byte order mark says"));
    stream.consume(2);
    let decoder = Decoder {
        stream,
        path: source.path.clone(),
        is_big,
        is_lossy: options.lossy,
        read: 2,
        odd: None,
        high: None,
        text: Vec::new(),
        taken: 0,
    };
    Ok(Box::new(BufReader::with_capacity(BUFFER, decoder)))
}

fn unmarked(source: &Source, help: String) -> io::Error {
    let what = "the text looks like UTF-16 without a byte order mark: every other byte is 0";
    io::Error::other(Error::new(what).at(source.path.display()).help(help))
}

/// UTF-16 to UTF-8.
struct Decoder<R> {
    stream: R,
    path: PathBuf,
    is_big: bool,
    is_lossy: bool,
    /// Bytes read so far, the mark included.
    read: u64,
    /// The first byte of a unit whose second is still to come.
    odd: Option<u8>,
    /// The first half of a pair whose second is still to come.
    high: Option<u16>,
    /// Text that is decoded, and how much of it was taken.
    text: Vec<u8>,
    taken: usize,
}

impl<R: BufRead> Decoder<R> {
    /// Decodes what the stream has ready; false at its end.
    fn fill(&mut self) -> io::Result<bool> {
        self.text.clear();
        self.taken = 0;
        let bytes = self.stream.fill_buf()?.to_vec();
        self.stream.consume(bytes.len());
        for &byte in &bytes {
            self.read += 1;
            match self.odd.take() {
                None => self.odd = Some(byte),
                Some(first) => {
                    let unit = if self.is_big { [first, byte] } else { [byte, first] };
                    self.push(u16::from_be_bytes(unit))?;
                }
            }
        }
        if bytes.is_empty() && (self.odd.take().is_some() || self.high.take().is_some()) {
            self.alone("it ends within a character")?;
        }
        Ok(!bytes.is_empty())
    }

    fn push(&mut self, unit: u16) -> io::Result<()> {
        if let Some(high) = self.high.take() {
            if let Some(Ok(pair)) = char::decode_utf16([high, unit]).next() {
                self.text.extend_from_slice(pair.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            self.alone("half of a surrogate pair stands alone")?;
        }
        match char::from_u32(u32::from(unit)) {
            Some(character) => self.text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            None if unit < 0xdc00 => self.high = Some(unit),
            None => self.alone("half of a surrogate pair stands alone")?,
        }
        Ok(())
    }

    /// What is no character: U+FFFD where losses are allowed.
    fn alone(&mut self, what: &str) -> io::Result<()> {
        if self.is_lossy {
            self.text.extend_from_slice("\u{fffd}".as_bytes());
            return Ok(());
        }
        let what = format!("the text is not UTF-16: {what} before offset {}", self.read);
        Err(io::Error::other(Error::new(what).at(self.path.display()).help("mend the file, or read on with --lossy")))
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.text.len() {
            // At the end of the stream, what was left of it may have become text.
            if !self.fill()? && self.text.is_empty() {
                return Ok(0);
            }
        }
        let read = (&self.text[self.taken..]).read(buffer)?;
        self.taken += read;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(units: &[u16], is_big: bool, is_lossy: bool, buffer: usize) -> io::Result<String> {
        let bytes: Vec<u8> = units.iter().flat_map(|unit| if is_big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect();
        let stream = BufReader::with_capacity(buffer, &bytes[..]);
        let mut decoder = Decoder {
            stream,
            path: "a.txt".into(),
            is_big,
            is_lossy,
            read: 2,
            odd: None,
            high: None,
            text: Vec::new(),
            taken: 0,
        };
        let mut text = String::new();
        decoder.read_to_string(&mut text).map(|_| text)
    }

    #[test]
    fn characters_stay_whole_wherever_a_buffer_ends() {
        let text = "Straße, 你好, 🙂\r\nend";
        let units: Vec<u16> = text.encode_utf16().collect();
        for buffer in 1..9 {
            assert_eq!(decoded(&units, false, false, buffer).unwrap(), text);
            assert_eq!(decoded(&units, true, false, buffer).unwrap(), text);
        }
    }

    #[test]
    fn half_a_pair_is_an_error_or_a_replacement_character() {
        for (units, lossy) in [(&[0x61, 0xd83d, 0x62][..], "a\u{fffd}b"), (&[0x61, 0xde42], "a\u{fffd}"), (&[0xd83d], "\u{fffd}")]
        {
            let error = decoded(units, false, false, 64).unwrap_err().to_string();
            assert!(error.contains("not UTF-16") && error.contains("--lossy"), "{error}");
            assert_eq!(decoded(units, false, true, 64).unwrap(), lossy);
        }
    }
}
