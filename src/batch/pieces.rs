//! Sentences cut to fit a row. Most are one piece, so only the others are written down.

use std::ops::Range;

use crate::error::{Error, Result};

/// A sentence, or one of the parts that a long one is cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub sentence: usize,
    pub part: u32,
    pub parts: u32,
}

impl Piece {
    /// Which of the sentence's `tokens` it holds: parts of equal length, to one token.
    pub fn range(&self, tokens: usize) -> Range<usize> {
        let bound = |part: u32| (tokens as u64 * u64::from(part) / u64::from(self.parts)) as usize;
        bound(self.part)..bound(self.part + 1)
    }
}

/// The pieces of all sentences, in order.
pub(super) struct Pieces {
    len: usize,
    /// Sentences that are not one piece: several, or none as they are empty.
    irregular: Vec<Irregular>,
}

struct Irregular {
    first_piece: u32,
    sentence: u32,
    parts: u32,
}

impl Pieces {
    /// Cuts sentences of the given lengths into pieces of at most `longest` tokens, and tells `each` the pieces'
    /// lengths.
    pub fn cut(lengths: impl Iterator<Item = usize>, longest: usize, mut each: impl FnMut(usize)) -> Result<Self> {
        let (mut len, mut irregular) = (0usize, Vec::new());
        for (sentence, tokens) in lengths.enumerate() {
            let parts = tokens.div_ceil(longest);
            if parts != 1 {
                irregular.push(Irregular { first_piece: index(len)?, sentence: index(sentence)?, parts: index(parts)? });
            }
            (0..parts as u32).for_each(|part| each(Piece { sentence, part, parts: parts as u32 }.range(tokens).len()));
            len += parts;
        }
        index(len)?;
        Ok(Self { len, irregular })
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// The piece of this number, below [`Pieces::len`].
    pub fn get(&self, piece: usize) -> Piece {
        let before = self.irregular.partition_point(|irregular| irregular.first_piece as usize <= piece);
        let Some(last) = before.checked_sub(1).map(|i| &self.irregular[i]) else {
            return Piece { sentence: piece, part: 0, parts: 1 };
        };
        let past = (piece - last.first_piece as usize) as u32;
        match past.checked_sub(last.parts) {
            None => Piece { sentence: last.sentence as usize, part: past, parts: last.parts },
            Some(further) => Piece { sentence: last.sentence as usize + 1 + further as usize, part: 0, parts: 1 },
        }
    }
}

/// Four bytes a sentence are what keeps a large corpus' tables small.
fn index(n: usize) -> Result<u32> {
    u32::try_from(n).map_err(|_| {
        Error::new("the split has more than 2^32 sentences").help("build several data folders and train on one after the other")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_token_is_in_one_piece(lengths in prop::collection::vec(0usize..40, 0..60), longest in 1usize..12) {
            let mut told = Vec::new();
            let pieces = Pieces::cut(lengths.iter().copied(), longest, |tokens| told.push(tokens)).unwrap();
            let cut: Vec<Piece> = (0..pieces.len()).map(|i| pieces.get(i)).collect();
            prop_assert_eq!(told.len(), cut.len());
            let mut seen: Vec<Vec<usize>> = vec![Vec::new(); lengths.len()];
            for (piece, tokens) in cut.iter().zip(told) {
                let range = piece.range(lengths[piece.sentence]);
                prop_assert!((1..=longest).contains(&range.len()) && range.len() == tokens);
                seen[piece.sentence].extend(range);
            }
            for (tokens, seen) in lengths.into_iter().zip(seen) {
                prop_assert!(seen.into_iter().eq(0..tokens));
            }
        }
    }
}
