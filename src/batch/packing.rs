//! Packing: which sentences share a row.
//!
//! Sentences in a row attend only to themselves, so that which ones share it changes nothing about the losses. The
//! partition is therefore made once, from lengths alone, and only the order of the rows is drawn anew in every epoch.
//!
//! The pieces are taken in a shuffled order, so that a document's neighbours spread, and each goes to the open row that
//! it fills best: best fit with two capacities, tokens and masked slots. Pieces above a third of a row go first, while
//! there is room to choose: rows of 128 then are 98.9 % full and not 98.6 %, rows of 64 97.8 % and not 96.7 %. (Krell
//! et al. 2021, "Efficient sequence packing without cross-contamination", pack from a histogram of lengths alone; the
//! shuffle keeps rows alike in what they mix.)
//!
//! Open rows lie in stacks by their free tokens and slots, so that a piece is placed in a few steps whatever their
//! number.

use super::order::Order;

/// [CLS] and [SEP], which every piece brings.
pub(super) const SPECIALS: usize = 2;

/// The shuffle is part of the format of a packed epoch: the same for every run.
const SHUFFLE_SEED: u64 = 0x7061_636b_696e_6721;

const NONE: u32 = u32::MAX;

/// Rows of pieces: row `r` holds `pieces[starts[r]..starts[r + 1]]`, in the order of the text.
pub(super) struct Packed {
    starts: Vec<u32>,
    pieces: Vec<u32>,
}

impl Packed {
    /// Packs pieces of the given lengths (tokens, without special ones) into rows of `length` tokens and `slots` masked
    /// positions; `count` says how many positions a length has masked.
    pub fn pack(lengths: &[u16], length: usize, slots: usize, count: impl Fn(usize) -> usize) -> Self {
        let counts: Vec<usize> = (0..length).map(count).collect();
        let mut open = OpenRows::new(length, slots);
        let mut row_of = vec![NONE; lengths.len()];
        let shuffle = Order::new(lengths.len() as u64, SHUFFLE_SEED, 0);
        let mut place = |piece: usize| {
            let tokens = lengths[piece] as usize;
            row_of[piece] = open.place(tokens + SPECIALS, counts[tokens]);
        };
        let mut short = Vec::new();
        for piece in (0..lengths.len() as u64).map(|i| shuffle.at(i) as usize) {
            match lengths[piece] as usize + SPECIALS > length / 3 {
                true => place(piece),
                false => short.push(piece as u32),
            }
        }
        short.into_iter().for_each(|piece| place(piece as usize));
        group(&row_of, open.next.len())
    }

    pub fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// The pieces of a row below [`Packed::rows`].
    pub fn row(&self, row: usize) -> &[u32] {
        &self.pieces[self.starts[row] as usize..self.starts[row + 1] as usize]
    }
}

/// Counting sort of the pieces by row.
fn group(row_of: &[u32], rows: usize) -> Packed {
    let mut starts = vec![0u32; rows + 1];
    row_of.iter().for_each(|&row| starts[row as usize + 1] += 1);
    (0..rows).for_each(|row| starts[row + 1] += starts[row]);
    let mut pieces = vec![0u32; row_of.len()];
    for (piece, &row) in row_of.iter().enumerate() {
        pieces[starts[row as usize] as usize] = piece as u32;
        starts[row as usize] += 1;
    }
    // Filling moved each start to its row's end, which is the next row's start.
    starts.rotate_right(1);
    starts[0] = 0;
    Packed { starts, pieces }
}

/// Rows that still take pieces, stacked by what is free. The stacks lie in one line, by free tokens and then by free
/// slots.
struct OpenRows {
    length: usize,
    slots: usize,
    /// The top row of each stack, and under each row the next one: lists without allocation.
    top: Vec<u32>,
    next: Vec<u32>,
    /// The stacks that hold a row.
    filled: Bits,
}

impl OpenRows {
    fn new(length: usize, slots: usize) -> Self {
        let stacks = (length + 1) * (slots + 1);
        Self { length, slots, top: vec![NONE; stacks], next: Vec::new(), filled: Bits::new(stacks) }
    }

    fn stack(&self, tokens: usize, slots: usize) -> usize {
        tokens * (self.slots + 1) + slots
    }

    /// Puts a piece into the row that it fills best, or into a new one; says which.
    fn place(&mut self, tokens: usize, slots: usize) -> u32 {
        let (row, free_tokens, free_slots) = match self.best(tokens, slots) {
            Some(stack) => (self.pop(stack), stack / (self.slots + 1), stack % (self.slots + 1)),
            None => {
                self.next.push(NONE);
                (self.next.len() as u32 - 1, self.length, self.slots)
            }
        };
        self.push(row, free_tokens - tokens, free_slots - slots);
        row
    }

    /// The stack with the fewest free tokens that suffice, and among these with the fewest slots.
    fn best(&self, tokens: usize, slots: usize) -> Option<usize> {
        let mut from = self.stack(tokens, slots);
        loop {
            let stack = self.filled.next(from)?;
            if stack % (self.slots + 1) >= slots {
                return Some(stack);
            }
            from = self.stack(stack / (self.slots + 1), slots);
        }
    }

    fn pop(&mut self, stack: usize) -> u32 {
        let row = self.top[stack];
        self.top[stack] = self.next[row as usize];
        if self.top[stack] == NONE {
            self.filled.clear(stack);
        }
        row
    }

    /// A row that is too full for the shortest piece is not kept.
    fn push(&mut self, row: u32, tokens: usize, slots: usize) {
        if tokens > SPECIALS && slots > 0 {
            let stack = self.stack(tokens, slots);
            self.next[row as usize] = self.top[stack];
            self.top[stack] = row;
            self.filled.set(stack);
        }
    }
}

/// A set of small numbers in which the next member is found quickly: a bit for each, and a bit for each word of those.
struct Bits {
    words: Vec<u64>,
    summary: Vec<u64>,
}

impl Bits {
    fn new(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(64)], summary: vec![0; len.div_ceil(64 * 64)] }
    }

    fn set(&mut self, i: usize) {
        self.words[i / 64] |= 1 << (i % 64);
        self.summary[i / 64 / 64] |= 1 << (i / 64 % 64);
    }

    fn clear(&mut self, i: usize) {
        self.words[i / 64] &= !(1 << (i % 64));
        if self.words[i / 64] == 0 {
            self.summary[i / 64 / 64] &= !(1 << (i / 64 % 64));
        }
    }

    /// The first member from `from` on.
    fn next(&self, from: usize) -> Option<usize> {
        let word = from / 64;
        let here = self.words.get(word)? & (!0 << (from % 64));
        if here != 0 {
            return Some(word * 64 + here.trailing_zeros() as usize);
        }
        let word = first_from(&self.summary, word + 1)?;
        Some(word * 64 + self.words[word].trailing_zeros() as usize)
    }
}

/// The first bit that is set from `from` on.
fn first_from(words: &[u64], from: usize) -> Option<usize> {
    let mut keep = !0 << (from % 64);
    for (i, word) in words.iter().enumerate().skip(from / 64) {
        if word & keep != 0 {
            return Some(i * 64 + (word & keep).trailing_zeros() as usize);
        }
        keep = !0;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Masking, pieces::Pieces};
    use proptest::prelude::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{RngCore, SeedableRng};

    /// Lengths like those of sentences of books and encyclopaedias in word pieces: log-normal around 21, cut to fit.
    fn natural(n: usize, longest: usize) -> Vec<u16> {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut unit = || (f64::from(rng.next_u32()) + 1.0) / 4_294_967_297.0;
        let mut normal = move || (-2.0 * unit().ln()).sqrt() * (std::f64::consts::TAU * unit()).cos();
        let sentences = (0..n).map(|_| ((21f64.ln() + 0.6 * normal()).exp().round() as usize).max(3));
        let mut lengths = Vec::new();
        Pieces::cut(sentences, longest, |tokens| lengths.push(tokens as u16)).unwrap();
        lengths
    }

    proptest! {
        #[test]
        fn every_piece_is_in_one_row_and_no_row_overflows(
            lengths in prop::collection::vec(1u16..30, 0..300), length in 32usize..80, rate in 0.01f64..1.0, extra in 0usize..3,
        ) {
            let masking = Masking { rate, ..Masking::default() };
            let slots = masking.count(length - SPECIALS) + extra;
            let packed = Packed::pack(&lengths, length, slots, |tokens| masking.count(tokens));
            let mut seen = Vec::new();
            for row in 0..packed.rows() {
                let tokens = packed.row(row).iter().map(|&piece| lengths[piece as usize] as usize);
                prop_assert!(tokens.clone().map(|tokens| tokens + SPECIALS).sum::<usize>() <= length);
                prop_assert!(tokens.map(|tokens| masking.count(tokens)).sum::<usize>() <= slots);
                prop_assert!(!packed.row(row).is_empty());
                seen.extend_from_slice(packed.row(row));
            }
            seen.sort_unstable();
            prop_assert!(seen.into_iter().eq(0..lengths.len() as u32));
        }
    }

    #[test]
    fn rows_of_natural_text_are_full() {
        for (length, slots, rate) in [(128, 20, 0.15), (512, 77, 0.15), (64, 10, 0.15), (128, 39, 0.3)] {
            let lengths = natural(100_000, length - SPECIALS);
            let masking = Masking { rate, ..Masking::default() };
            assert_eq!(slots, masking.count(length - SPECIALS) + 1);
            let packed = Packed::pack(&lengths, length, slots, |tokens| masking.count(tokens));
            let tokens: usize = lengths.iter().map(|&tokens| tokens as usize + SPECIALS).sum();
            let fill = tokens as f64 / (packed.rows() * length) as f64;
            assert!(fill > 0.97, "length {length}: {fill}");
        }
    }

    #[test]
    fn neighbours_in_the_text_spread() {
        let lengths = natural(20_000, 126);
        let packed = Packed::pack(&lengths, 128, 20, |tokens| Masking::default().count(tokens));
        let pairs = (0..packed.rows()).flat_map(|row| packed.row(row).windows(2));
        let near = pairs.filter(|pair| pair[1] - pair[0] < 10).count();
        assert!(near < 150, "{near} neighbours share a row");
    }
}
