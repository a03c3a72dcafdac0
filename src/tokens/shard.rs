//! One shard: its bytes made, checked and read. The layout is documented in [`super`].

use std::io::{self, Write};
use std::ops::{Deref, Range};

use crate::error::{Error, Result};

pub(super) const MAGIC: &[u8; 8] = b"upstill\0";
const VERSION: u32 = 1;
const HEADER: usize = 128;

/// How many bytes an id takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    Two,
    Four,
}

impl Width {
    /// The narrowest width that holds every id of a vocabulary.
    pub(super) fn of(vocab_size: usize) -> Self {
        if vocab_size <= 1 << 16 { Width::Two } else { Width::Four }
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            Width::Two => 2,
            Width::Four => 4,
        }
    }
}

/// Collects sentences until they are written as one shard.
pub(super) struct Packer {
    width: Width,
    starts: Vec<u32>,
    ids: Vec<u8>,
}

impl Packer {
    pub(super) fn new(width: Width) -> Self {
        Packer { width, starts: vec![0], ids: Vec::new() }
    }

    pub(super) fn sentences(&self) -> u64 {
        self.starts.len() as u64 - 1
    }

    pub(super) fn tokens(&self) -> u64 {
        (self.ids.len() / self.width.bytes()) as u64
    }

    pub(super) fn push(&mut self, ids: &[u32]) {
        for id in ids {
            let bytes = id.to_le_bytes();
            debug_assert!(self.width == Width::Four || bytes[2..] == [0, 0], "the id {id} needs more than 16 bits");
            self.ids.extend_from_slice(&bytes[..self.width.bytes()]);
        }
        self.starts.push(u32::try_from(self.tokens()).expect("the caller keeps a shard below 2^32 ids"));
    }

    /// The shard's header and body, in parts that follow each other.
    pub(super) fn finish(self, tokenizer: &blake3::Hash) -> Packed {
        let mut starts: Vec<u8> = self.starts.iter().flat_map(|start| start.to_le_bytes()).collect();
        starts.resize(starts.len().next_multiple_of(8), 0);
        let body = *blake3::Hasher::new().update(&starts).update(&self.ids).finalize().as_bytes();
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&(self.width.bytes() as u32).to_le_bytes());
        header.extend_from_slice(tokenizer.as_bytes());
        header.extend_from_slice(&self.sentences().to_le_bytes());
        header.extend_from_slice(&self.tokens().to_le_bytes());
        header.extend_from_slice(&body);
        header.extend_from_slice(blake3::hash(&header).as_bytes());
        Packed { header, starts, ids: self.ids, checksum: blake3::Hash::from_bytes(body) }
    }
}

/// A shard's bytes, ready to write.
pub(super) struct Packed {
    header: Vec<u8>,
    starts: Vec<u8>,
    ids: Vec<u8>,
    /// BLAKE3 of the body.
    pub(super) checksum: blake3::Hash,
}

impl Packed {
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        [&self.header, &self.starts, &self.ids].iter().try_for_each(|part| out.write_all(part))
    }

    pub(super) fn bytes(&self) -> u64 {
        (self.header.len() + self.starts.len() + self.ids.len()) as u64
    }
}

/// What holds a shard's bytes.
pub(super) enum Bytes {
    Mapped(memmap2::Mmap),
    Memory(Vec<u8>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Memory(bytes) => bytes,
        }
    }
}

/// A shard whose bytes were checked.
pub(super) struct Shard {
    bytes: Bytes,
    width: Width,
    sentences: usize,
    ids: Range<usize>,
    pub(super) tokenizer: blake3::Hash,
    pub(super) checksum: blake3::Hash,
}

impl Shard {
    /// Checks all that can be wrong with a shard's bytes.
    pub(super) fn check(bytes: Bytes, vocab_size: usize) -> Result<Self> {
        let shard = Self::read_header(bytes)?;
        if blake3::hash(&shard.bytes[HEADER..]) != shard.checksum {
            return Err(Error::new("the shard is damaged: its content doesn't have the checksum that it was written with"));
        }
        shard.check_content(vocab_size)?;
        Ok(shard)
    }

    fn read_header(bytes: Bytes) -> Result<Self> {
        if bytes.len() < HEADER || &bytes[..8] != MAGIC {
            return Err(Error::new("not a shard: it doesn't start as one"));
        }
        let version = u32::from_le_bytes(array(&bytes, 8));
        if version != VERSION {
            return Err(Error::new(format!("the shard has layout version {version}, and this upstill reads {VERSION}")));
        }
        if blake3::hash(&bytes[..96]) != blake3::Hash::from_bytes(array(&bytes, 96)) {
            return Err(Error::new("the shard is damaged: its header doesn't have the checksum that it was written with"));
        }
        let width = if u32::from_le_bytes(array(&bytes, 12)) == 2 { Width::Two } else { Width::Four };
        let (sentences, tokens) = (u64::from_le_bytes(array(&bytes, 48)), u64::from_le_bytes(array(&bytes, 56)));
        // In 128 bits no header, however hostile, overflows.
        let ids_at = HEADER as u128 + (4 * (u128::from(sentences) + 1)).next_multiple_of(8);
        let end = ids_at + u128::from(tokens) * width.bytes() as u128;
        if bytes.len() as u128 != end {
            return Err(Error::new(format!(
                "the shard is cut or grown: it has {} bytes, and was written with {end}",
                bytes.len()
            )));
        }
        let (tokenizer, checksum) = (array(&bytes, 16).into(), array(&bytes, 64).into());
        Ok(Shard { bytes, width, sentences: sentences as usize, ids: ids_at as usize..end as usize, tokenizer, checksum })
    }

    /// A right checksum doesn't make the numbers right: another program may have written them.
    fn check_content(&self, vocab_size: usize) -> Result<()> {
        let tokens = self.ids.len() / self.width.bytes();
        let rising = (0..self.sentences).all(|i| self.start(i) <= self.start(i + 1));
        if self.start(0) != 0 || !rising || self.start(self.sentences) != tokens {
            return Err(Error::new("the shard's sentences don't follow each other"));
        }
        match self.ids_in(0..tokens).max() {
            Some(id) if id as usize >= vocab_size => {
                Err(Error::new(format!("the shard holds the id {id}, and the vocabulary ends at {}", vocab_size - 1)))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn sentences(&self) -> usize {
        self.sentences
    }

    /// All of it, header first.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn tokens(&self) -> u64 {
        (self.ids.len() / self.width.bytes()) as u64
    }

    pub(super) fn span(&self, i: usize) -> Range<usize> {
        assert!(i < self.sentences, "sentence {i} of {}", self.sentences);
        self.start(i)..self.start(i + 1)
    }

    fn start(&self, i: usize) -> usize {
        u32::from_le_bytes(array(&self.bytes, HEADER + 4 * i)) as usize
    }

    pub(super) fn ids_in(&self, span: Range<usize>) -> impl Iterator<Item = u32> {
        let width = self.width.bytes();
        let bytes = &self.bytes[self.ids.start + span.start * width..self.ids.start + span.end * width];
        bytes.chunks_exact(width).map(move |id| match id {
            [low, high] => u32::from(u16::from_le_bytes([*low, *high])),
            wide => u32::from_le_bytes(array(wide, 0)),
        })
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the slice has N bytes")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn image(sentences: &[Vec<u32>], vocab_size: usize) -> Vec<u8> {
        let mut packer = Packer::new(Width::of(vocab_size));
        sentences.iter().for_each(|ids| packer.push(ids));
        let packed = packer.finish(&blake3::hash(b"tokenizer"));
        let mut bytes = Vec::new();
        packed.write(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, packed.bytes());
        bytes
    }

    fn what(bytes: Vec<u8>, vocab_size: usize) -> String {
        Shard::check(Bytes::Memory(bytes), vocab_size).err().expect("an error").to_string()
    }

    #[test]
    fn the_layout_is_as_documented() {
        let bytes = image(&[vec![1, 2], vec![3]], 10);
        assert_eq!(&bytes[..8], b"upstill\0");
        assert_eq!(bytes[8..16], [1, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(bytes[48..64], [2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[128..], [0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 3, 0]);
    }

    #[test]
    fn an_altered_shard_is_refused_whatever_was_altered() {
        let good = image(&[vec![1, 2], vec![3, 4, 5]], 10);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            what(bad, 10);
        }
        for length in 0..good.len() {
            what(good[..length].to_vec(), 10);
        }
        insta::assert_snapshot!(what(good[..good.len() - 1].to_vec(), 10), @"the shard is cut or grown: it has 153 bytes, and was written with 154");
        insta::assert_snapshot!(what(image(&[vec![12]], 100), 10), @"the shard holds the id 12, and the vocabulary ends at 9");
    }

    proptest! {
        #[test]
        fn sentences_come_back(
            sentences in prop::collection::vec(prop::collection::vec(0u32..70_000, 0..9), 0..20),
            wide in any::<bool>(),
        ) {
            let vocab_size = if wide { 70_000 } else { 60_000 };
            let sentences: Vec<Vec<u32>> = sentences.iter().map(|ids| ids.iter().map(|id| id % vocab_size as u32).collect()).collect();
            let shard = Shard::check(Bytes::Memory(image(&sentences, vocab_size)), vocab_size).unwrap();
            let back: Vec<Vec<u32>> = (0..shard.sentences()).map(|i| shard.ids_in(shard.span(i)).collect()).collect();
            prop_assert_eq!(back, sentences);
        }
    }
}
