//! The answers to a batch.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::block::Block;
use super::cache::Cache;
use crate::batch::Batch;
use crate::config::AnswersKind;
use crate::error::{Error, Result};

/// Blocks that stay in memory: a batch's parts, and the next batch, mostly go on where the one before ended.
const KEPT: usize = 4;

/// Reads the answers to batches, each block once as long as it is in use.
pub struct Reader {
    cache: Cache,
    kept: Mutex<Vec<Arc<Block>>>,
}

/// What a teacher said at the slots of a batch, `n = b * m`, as many places for tokens in each; unused slots have none.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotAnswers {
    /// Tokens, `[n, k]`.
    pub ids_nk: Vec<i32>,
    /// Their shares, `[n, k]`; 0 where a place is not used.
    pub shares_nk: Vec<f32>,
    /// The share of all other tokens together, `[n]`.
    pub rest_n: Vec<f32>,
    /// What is added to a slot's soft loss, `[n]`: minus the entropy of the outcomes (top-k), or of the distribution
    /// (draws).
    pub constant_n: Vec<f32>,
    /// Entropy of the teacher's distribution, `[n]`, in nats.
    pub entropy_n: Vec<f32>,
    /// The teacher's own hard loss, `[n]`, in nats.
    pub label_loss_n: Vec<f32>,
}

impl Reader {
    /// Opens a cache.
    ///
    /// # Errors
    /// As [`Cache::open`].
    pub fn open(folder: &Path) -> Result<Self> {
        Ok(Self { cache: Cache::open(folder)?, kept: Mutex::default() })
    }

    /// The cache.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    fn block(&self, number: u64) -> Result<Arc<Block>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = kept.iter().position(|block| block.number == number) {
            let block = kept.remove(at);
            kept.push(block.clone());
            return Ok(block);
        }
        let block = Arc::new(self.cache.read(number)?);
        if kept.len() == KEPT {
            kept.remove(0);
        }
        kept.push(block.clone());
        Ok(block)
    }

    /// What was said at a batch's slots.
    ///
    /// # Errors
    /// When rows have no answers, a block is damaged, or a row's masked tokens are not as many as there were.
    pub fn at(&self, batch: &Batch) -> Result<SlotAnswers> {
        let header = self.cache.header();
        let (n, m, block_rows) = (batch.rows * batch.asked.slots, batch.asked.slots, header.block_rows);
        let mut found = Vec::with_capacity(batch.rows);
        for row in batch.first_row..batch.first_row + batch.rows as u64 {
            found.push((self.block(row / block_rows)?, (row % block_rows) as usize));
        }
        let most = |block: &Arc<Block>| block.slots.named.iter().copied().max().unwrap_or(0);
        let k = usize::from(found.iter().map(|(block, _)| most(block)).max().unwrap_or(0)).max(1);
        let mut out = SlotAnswers {
            ids_nk: vec![0; n * k],
            shares_nk: vec![0.0; n * k],
            rest_n: vec![0.0; n],
            constant_n: vec![0.0; n],
            entropy_n: vec![0.0; n],
            label_loss_n: vec![0.0; n],
        };
        for (row, (block, within)) in found.iter().enumerate() {
            let used = batch.asked.weights_bm[row * m..][..m].iter().filter(|&&weight| weight > 0.0).count();
            if usize::from(block.used[*within]) != used {
                return Err(Error::new(format!(
                    "row {} has {used} masked tokens, and the cache has answers for {}",
                    batch.first_row + row as u64,
                    block.used[*within]
                ))
                .at(self.cache.path_of(block.number).display())
                .help("it was written for other masks: have the teacher answer again, with this version of upstill"));
            }
            out.fill(row * m, k, block, *within, header.kind);
        }
        Ok(out)
    }
}

impl SlotAnswers {
    /// Takes over a block's row; its slots begin at `slot` here.
    fn fill(&mut self, slot: usize, k: usize, block: &Block, row: usize, kind: AnswersKind) {
        let slots = &block.slots;
        let first: usize = block.used[..row].iter().map(|&used| usize::from(used)).sum();
        let mut from: usize = slots.named[..first].iter().map(|&named| usize::from(named)).sum();
        for i in 0..usize::from(block.used[row]) {
            let (here, there) = (slot + i, first + i);
            let named = usize::from(slots.named[there]);
            let shares = &slots.shares[from..from + named];
            let ids = self.ids_nk[here * k..][..named].iter_mut();
            ids.zip(&slots.ids[from..from + named]).for_each(|(out, &id)| *out = id as i32);
            self.shares_nk[here * k..][..named].copy_from_slice(shares);
            (self.rest_n[here], self.entropy_n[here]) = (slots.rest[there], slots.entropy[there]);
            self.label_loss_n[here] = slots.label_loss[there];
            let term = |share: f32| if share > 0.0 { f64::from(share) * f64::from(share).ln() } else { 0.0 };
            self.constant_n[here] = match kind {
                AnswersKind::TopK => shares.iter().copied().chain([slots.rest[there]]).map(term).sum::<f64>() as f32,
                AnswersKind::Draws => -slots.entropy[there],
            };
            from += named;
        }
    }
}
