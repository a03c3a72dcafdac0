//! A block's bytes.

use half::f16;

use crate::config::{AnswersHeader, AnswersKind};

/// What every block begins with.
const MAGIC: &[u8; 8] = b"answers1";

/// The answers to the rows of a block.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Its number: its rows begin at `number * block_rows`.
    pub number: u64,
    /// Used slots of each row.
    pub used: Vec<u16>,
    /// What was said at each of them.
    pub slots: Slots,
}

/// What a teacher said at `n` slots.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Slots {
    /// Log-sum-exp of its logits, `[n]`.
    pub log_sum_exp: Vec<f32>,
    /// Entropy of its distribution at the cache's temperature, `[n]`, in nats.
    pub entropy: Vec<f32>,
    /// Its own hard loss, `[n]`, in nats.
    pub label_loss: Vec<f32>,
    /// The share of all tokens that are not named, `[n]`; 0 of draws.
    pub rest: Vec<f32>,
    /// How many tokens are named at each slot, `[n]`.
    pub named: Vec<u16>,
    /// The named tokens of all slots.
    pub ids: Vec<u32>,
    /// Their shares: probabilities, or how often they were drawn.
    pub shares: Vec<f32>,
}

impl Slots {
    /// Adds those of `more` at the end.
    pub fn extend(&mut self, more: Slots) {
        self.log_sum_exp.extend(more.log_sum_exp);
        self.entropy.extend(more.entropy);
        self.label_loss.extend(more.label_loss);
        self.rest.extend(more.rest);
        self.named.extend(more.named);
        self.ids.extend(more.ids);
        self.shares.extend(more.shares);
    }
}

/// Bytes of an id.
fn id_bytes(vocabulary: usize) -> usize {
    match vocabulary {
        0..=0x100 => 1,
        0x101..=0x1_0000 => 2,
        _ => 3,
    }
}

/// Bytes of a count of draws.
fn count_bytes(draws: usize) -> usize {
    if draws <= 255 { 1 } else { 2 }
}

/// Bytes of a slot, of which so many tokens are named on average.
pub(super) fn bytes_a_slot(header: &AnswersHeader, named: f64) -> f64 {
    let id = id_bytes(header.vocabulary) as f64;
    8.0 + 2.0
        + match header.kind {
            AnswersKind::TopK => named * (id + 2.0),
            AnswersKind::Draws => named * (id + count_bytes(header.count) as f64),
        }
}

impl Block {
    /// The file; `key` is the CRC-32 of the cache's `cache.json`.
    pub fn to_bytes(&self, header: &AnswersHeader, key: u32) -> Vec<u8> {
        let (slots, id) = (&self.slots, id_bytes(header.vocabulary));
        let mut out = MAGIC.to_vec();
        out.extend(key.to_le_bytes());
        out.extend(self.number.to_le_bytes());
        out.extend(self.used.iter().flat_map(|used| used.to_le_bytes()));
        out.extend(slots.log_sum_exp.iter().flat_map(|x| x.to_le_bytes()));
        let mut halves = |values: &[f32]| out.extend(values.iter().flat_map(|&x| to_f16(x).to_le_bytes()));
        halves(&slots.entropy);
        halves(&slots.label_loss);
        if header.kind == AnswersKind::TopK {
            halves(&slots.rest);
        } else {
            out.extend(slots.named.iter().flat_map(|named| named.to_le_bytes()));
        }
        slots.ids.iter().for_each(|tokens| out.extend(&tokens.to_le_bytes()[..id]));
        match header.kind {
            AnswersKind::TopK => out.extend(slots.shares.iter().flat_map(|&share| to_f16(share).to_le_bytes())),
            AnswersKind::Draws => {
                let count = |share: f32| (share.round() as u16).to_le_bytes();
                slots.shares.iter().for_each(|&share| out.extend(&count(share)[..count_bytes(header.count)]));
            }
        }
        out.extend(crc32fast::hash(&out).to_le_bytes());
        out
    }

    /// Reads a file. Shares of a slot then add up to 1.
    ///
    /// # Errors What is wrong with it, in words: the bytes are not those that were written, they belong to another
    /// cache or place, or their writer did not keep to the format.
    pub fn from_bytes(bytes: &[u8], header: &AnswersHeader, key: u32, number: u64) -> Result<Self, String> {
        let Some((bytes, sum)) = bytes.split_last_chunk::<4>() else { return Err("it is cut short".into()) };
        if crc32fast::hash(bytes) != u32::from_le_bytes(*sum) {
            return Err("its checksum is another: it was altered or cut short".into());
        }
        let mut left = Left(bytes);
        if left.take(8)? != MAGIC {
            return Err("it does not begin with the bytes `answers1`".into());
        }
        if left.array::<4, u32>(1, u32::from_le_bytes)?[0] != key {
            return Err("it was written with another cache.json".into());
        }
        let found = left.array::<8, u64>(1, u64::from_le_bytes)?[0];
        if found != number {
            return Err(format!("it is block {found}"));
        }
        let used = left.array::<2, u16>(header.block_rows as usize, u16::from_le_bytes)?;
        let n = used.iter().map(|&used| usize::from(used)).sum();
        let slots = left.slots(n, header)?;
        if !left.0.is_empty() {
            return Err(format!("{} bytes are left over", left.0.len()));
        }
        check(&slots, header)?;
        Ok(Self { number, used, slots: normalized(slots) })
    }
}

/// What is not read yet.
struct Left<'a>(&'a [u8]);

impl Left<'_> {
    fn take(&mut self, count: usize) -> Result<&[u8], String> {
        let (taken, left) = self.0.split_at_checked(count).ok_or("it has fewer bytes than it says")?;
        self.0 = left;
        Ok(taken)
    }

    fn array<const N: usize, T>(&mut self, count: usize, read: impl Fn([u8; N]) -> T) -> Result<Vec<T>, String> {
        let bytes = self.take(count.checked_mul(N).ok_or("it has fewer bytes than it says")?)?;
        Ok(bytes.as_chunks::<N>().0.iter().map(|&bytes| read(bytes)).collect())
    }

    fn halves(&mut self, count: usize) -> Result<Vec<f32>, String> {
        self.array::<2, f32>(count, |bytes| f16::from_le_bytes(bytes).to_f32())
    }

    fn slots(&mut self, n: usize, header: &AnswersHeader) -> Result<Slots, String> {
        let log_sum_exp = self.array::<4, f32>(n, f32::from_le_bytes)?;
        let (entropy, label_loss) = (self.halves(n)?, self.halves(n)?);
        let (rest, named) = match header.kind {
            AnswersKind::TopK => (self.halves(n)?, vec![header.count as u16; n]),
            AnswersKind::Draws => (vec![0.0; n], self.array::<2, u16>(n, u16::from_le_bytes)?),
        };
        let tokens = named.iter().map(|&named| usize::from(named)).sum();
        let ids = match id_bytes(header.vocabulary) {
            1 => self.array::<1, u32>(tokens, |[a]| u32::from(a))?,
            2 => self.array::<2, u32>(tokens, |bytes| u32::from(u16::from_le_bytes(bytes)))?,
            _ => self.array::<3, u32>(tokens, |[a, b, c]| u32::from_le_bytes([a, b, c, 0]))?,
        };
        let shares = match (header.kind, count_bytes(header.count)) {
            (AnswersKind::TopK, _) => self.halves(tokens)?,
            (AnswersKind::Draws, 1) => self.array::<1, f32>(tokens, |[count]| f32::from(count))?,
            (AnswersKind::Draws, _) => self.array::<2, f32>(tokens, |bytes| f32::from(u16::from_le_bytes(bytes)))?,
        };
        Ok(Slots { log_sum_exp, entropy, label_loss, rest, named, ids, shares })
    }
}

/// What a writer must keep to, slot by slot.
fn check(slots: &Slots, header: &AnswersHeader) -> Result<(), String> {
    let mut from = 0;
    for (slot, &named) in slots.named.iter().enumerate() {
        let tokens = from..from + usize::from(named);
        from = tokens.end;
        let (ids, shares) = (&slots.ids[tokens.clone()], &slots.shares[tokens]);
        let wrong = |what: String| Err(format!("its writer did not keep to the format: at used slot {slot}, {what}"));
        if let Some(id) = ids.iter().find(|&&id| id as usize >= header.vocabulary) {
            return wrong(format!("token {id} is beyond the vocabulary of {}", header.vocabulary));
        }
        let mut sorted = ids.to_vec();
        sorted.sort_unstable();
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return wrong(format!("token {} is named twice", twice[0]));
        }
        let numbers = [slots.log_sum_exp[slot], slots.entropy[slot], slots.label_loss[slot], slots.rest[slot]];
        if !numbers.iter().chain(shares).all(|x| x.is_finite()) || shares.iter().chain([&slots.rest[slot]]).any(|&x| x < 0.0) {
            return wrong("a number is not finite, or a share is below 0".into());
        }
        let sum: f64 = shares.iter().map(|&share| f64::from(share)).sum::<f64>() + f64::from(slots.rest[slot]);
        match header.kind {
            // Each of them is rounded by 1 in 2,048 at most.
            AnswersKind::TopK if (sum - 1.0).abs() > 2e-3 => return wrong(format!("probabilities add up to {sum:.4}")),
            AnswersKind::Draws if sum != header.count as f64 => {
                return wrong(format!("{sum} draws are counted, not {}", header.count));
            }
            _ => {}
        }
    }
    Ok(())
}

/// With shares that add up to 1 in each slot.
fn normalized(mut slots: Slots) -> Slots {
    let mut from = 0;
    for (slot, &named) in slots.named.iter().enumerate() {
        let shares = &mut slots.shares[from..from + usize::from(named)];
        from += usize::from(named);
        let sum = shares.iter().map(|&share| f64::from(share)).sum::<f64>() + f64::from(slots.rest[slot]);
        shares.iter_mut().for_each(|share| *share = (f64::from(*share) / sum) as f32);
        slots.rest[slot] = (f64::from(slots.rest[slot]) / sum) as f32;
    }
    slots
}

/// The nearest number of 16 bits, none of them infinite.
fn to_f16(x: f32) -> f16 {
    f16::from_f32(x.clamp(f16::MIN.to_f32(), f16::MAX.to_f32()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::{ANSWERS_FORMAT, Positions, Rows};

    pub fn header(kind: AnswersKind, count: usize, vocabulary: usize) -> AnswersHeader {
        AnswersHeader {
            format: ANSWERS_FORMAT,
            teacher: "a test".into(),
            kind,
            count,
            temperature: 2.0,
            vocabulary,
            shards: "0".repeat(64),
            seed: 1,
            rows: Rows::Sentence,
            length: 16,
            mask_rate: 0.15,
            whole_word: false,
            rarity: 0.0,
            positions: Positions::Masked,
            block_rows: 3,
        }
    }

    /// Three rows of 2, 0 and 1 used slots.
    pub fn block(header: &AnswersHeader, number: u64) -> Block {
        let last = header.vocabulary as u32 - 1;
        let slots = match header.kind {
            AnswersKind::TopK => Slots {
                rest: vec![0.25, 0.0, 1e-4],
                named: vec![2; 3],
                ids: vec![0, last, 3, 1, 2, 0],
                shares: vec![0.5, 0.25, 0.75, 0.25, 0.9999, 0.0],
                ..Slots::default()
            },
            AnswersKind::Draws => Slots {
                rest: vec![0.0; 3],
                named: vec![2, 1, 3],
                ids: vec![0, last, 3, 1, 2, 0],
                shares: vec![4.0, 1.0, 5.0, 2.0, 2.0, 1.0],
                ..Slots::default()
            },
        };
        let (log_sum_exp, entropy, label_loss) = (vec![7.25, -3.5, 0.1], vec![1.5, 0.25, 0.0], vec![3.0, 0.5, 9.0]);
        Block { number, used: vec![2, 0, 1], slots: Slots { log_sum_exp, entropy, label_loss, ..slots } }
    }

    #[test]
    fn what_is_read_is_what_was_written_and_adds_up_to_one() {
        for (kind, count) in [(AnswersKind::TopK, 2), (AnswersKind::Draws, 5)] {
            for vocabulary in [256, 257, 65_536, 70_000] {
                let header = header(kind, count, vocabulary);
                let block = block(&header, 9);
                let bytes = block.to_bytes(&header, 77);
                let read = Block::from_bytes(&bytes, &header, 77, 9).unwrap();
                assert_eq!((&read.used, &read.slots.ids, &read.slots.named), (&block.used, &block.slots.ids, &block.slots.named));
                assert_eq!((&read.slots.log_sum_exp, &read.slots.entropy), (&block.slots.log_sum_exp, &block.slots.entropy));
                let mut from = 0;
                for (slot, &named) in read.slots.named.iter().enumerate() {
                    let sum = read.slots.shares[from..][..usize::from(named)].iter().sum::<f32>() + read.slots.rest[slot];
                    from += usize::from(named);
                    assert!((sum - 1.0).abs() < 1e-6, "{sum}");
                }
                assert!((read.slots.rest[2] / block.slots.rest[2] - 1.0).abs() < 1.0 / 1024.0 || kind == AnswersKind::Draws);
                assert!(Block::from_bytes(&bytes, &header, 78, 9).unwrap_err().contains("another cache.json"));
                assert!(Block::from_bytes(&bytes, &header, 77, 8).unwrap_err().contains("it is block 9"));
                let named = block.slots.ids.len() as f64 / 3.0;
                assert_eq!(bytes.len() as f64, 20.0 + 6.0 + 3.0 * bytes_a_slot(&header, named) + 4.0);
            }
        }
    }

    #[test]
    fn every_byte_that_is_flipped_or_cut_is_found() {
        for (kind, count) in [(AnswersKind::TopK, 2), (AnswersKind::Draws, 5)] {
            let header = header(kind, count, 1757);
            let bytes = block(&header, 0).to_bytes(&header, 1);
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut other = bytes.clone();
                    other[at] ^= 1 << bit;
                    assert!(Block::from_bytes(&other, &header, 1, 0).is_err(), "bit {bit} of byte {at}");
                }
                assert!(Block::from_bytes(&bytes[..at], &header, 1, 0).is_err(), "cut at {at}");
                let without = [&bytes[..at], &bytes[at + 1..]].concat();
                assert!(Block::from_bytes(&without, &header, 1, 0).is_err(), "without byte {at}");
            }
        }
    }

    #[test]
    fn a_writer_that_does_not_keep_to_the_format_is_told() {
        let why = |kind, count, change: &dyn Fn(&mut Slots)| {
            let header = header(kind, count, 1757);
            let mut block = block(&header, 0);
            change(&mut block.slots);
            Block::from_bytes(&block.to_bytes(&header, 1), &header, 1, 0).unwrap_err()
        };
        let top = |change: &dyn Fn(&mut Slots)| why(AnswersKind::TopK, 2, change);
        insta::assert_snapshot!(
            [
                top(&|slots| slots.ids[1] = 1757),
                top(&|slots| slots.ids[1] = 0),
                top(&|slots| slots.shares[2] = 0.5),
                top(&|slots| slots.entropy[1] = f32::NAN),
                why(AnswersKind::Draws, 5, &|slots| slots.shares[2] = 4.0),
            ]
            .join("\n"),
            @"
        its writer did not keep to the format: at used slot 0, token 1757 is beyond the vocabulary of 1757
        its writer did not keep to the format: at used slot 0, token 0 is named twice
        its writer did not keep to the format: at used slot 1, probabilities add up to 0.7500
        its writer did not keep to the format: at used slot 1, a number is not finite, or a share is below 0
        its writer did not keep to the format: at used slot 1, 4 draws are counted, not 5
        "
        );
    }
}
