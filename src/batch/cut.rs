//! A split's sentences cut and packed, from their lengths alone: kept, as a plan and its run, and the runs of a study,
//! want the same.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::packing::{Packed, SPECIALS};
use super::pieces::Pieces;
use super::{BatchOptions, Objective, Split, slots};
use crate::config::Rows;
use crate::error::Result;
use crate::tokens::{Sentences, Shards};

/// What an epoch's rows hold.
pub(super) struct Cut {
    pub pieces: Pieces,
    /// `None` with a piece a row.
    pub packed: Option<Packed>,
    /// `[CLS]` and `[SEP]` included.
    pub real_tokens: u64,
}

/// All that it depends on; not the order, the batch or the masks.
#[derive(PartialEq)]
struct Key {
    shards: String,
    split: Split,
    layout: Rows,
    length: usize,
    rate_bits: Option<u64>,
}

/// The train and the held-out split of the data last used.
const KEPT: usize = 2;
static LAST: Mutex<VecDeque<(Key, Arc<Cut>)>> = Mutex::new(VecDeque::new());

impl Cut {
    /// A split of these shards, as `options` cut and pack it.
    pub fn of(shards: &Shards, split: Split, sentences: &Sentences, options: &BatchOptions) -> Result<Arc<Self>> {
        let BatchOptions { layout, length, objective, .. } = *options;
        let rate_bits = match objective {
            Objective::Masked(masking) => Some(masking.rate.to_bits()),
            Objective::Causal => None,
        };
        let key = Key { shards: shards.hash().to_owned(), split, layout, length, rate_bits };
        let mut kept = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, cut)) = kept.iter().find(|(known, _)| *known == key) {
            return Ok(cut.clone());
        }
        // Whoever wants the same meanwhile waits, and finds it.
        let cut = Arc::new(Self::new(sentences, options)?);
        kept.push_front((key, cut.clone()));
        kept.truncate(KEPT);
        Ok(cut)
    }

    fn new(sentences: &Sentences, options: &BatchOptions) -> Result<Self> {
        let (mut lengths, mut real_tokens) = (Vec::new(), 0);
        let of_sentences = (0..sentences.len()).map(|i| sentences.length_of(i));
        let pieces = Pieces::cut(of_sentences, options.length - SPECIALS, |tokens| {
            real_tokens += (tokens + SPECIALS) as u64;
            if options.layout == Rows::Packed {
                lengths.push(tokens as u16);
            }
        })?;
        let count = |tokens| options.objective.count(tokens);
        let packed = (options.layout == Rows::Packed).then(|| Packed::pack(&lengths, options.length, slots(options), count));
        Ok(Self { pieces, packed, real_tokens })
    }

    pub fn rows(&self) -> usize {
        self.packed.as_ref().map_or(self.pieces.len(), Packed::rows)
    }
}
