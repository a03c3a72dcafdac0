//! What a study's models are scored on beside their own held-out text and its tasks: other held-out sets, and minimal
//! pairs. Neither moves a weight, so neither is part of a plan: a set that is added later is scored on the models that
//! are there.

use std::collections::BTreeMap;
use std::path::Path;

use super::spec::StudySpec;
use crate::config::Plan;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::methods::{Pll, encode_pairs, score_pairs};
use crate::model::ModelFolder;
use crate::tasks::{MinimalPair, pocket_pairs, read_pairs};
use crate::tokens::Tokenizer;
use crate::train::{HeldOutSet, held_out_options, interrupted, open_held_out_sets};

/// Held-out sets and minimal pairs, opened.
#[derive(Default)]
pub struct Measures {
    held_out: Vec<HeldOutSet>,
    pairs: Vec<(String, Vec<MinimalPair>)>,
}

/// What a model came to on them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measured {
    /// Held-out losses in nats a token, by the name of the set.
    pub held_out: BTreeMap<String, f64>,
    /// Accuracies (the mean over paradigms), by the name of the pairs.
    pub pairs: BTreeMap<String, f64>,
}

impl Measures {
    /// Opens what a study names.
    ///
    /// # Errors
    /// When something can't be read, or a set's vocabulary is not that of the study's data, whose `tokenizer` it is and
    /// which lie at `data`.
    pub fn open(spec: &StudySpec, tokenizer: &Tokenizer, data: &str) -> Result<Self> {
        let held_out = open_held_out_sets(&spec.held_out)?;
        held_out.iter().try_for_each(|set| set.must_fit(tokenizer, data))?;
        let read = |(name, from): (&String, &String)| {
            Ok((name.clone(), if from == "pocket" { pocket_pairs() } else { read_pairs(from)? }))
        };
        let pairs = spec.pairs.iter().map(read).collect::<Result<Vec<_>>>()?;
        Ok(Self { held_out, pairs })
    }

    /// # Errors
    /// When models of this plan can't read all pairs: before anything is trained.
    pub fn must_fit(&self, plan: &Plan, tokenizer: &Tokenizer) -> Result<()> {
        self.pairs.iter().try_for_each(|(_, pairs)| encode_pairs(tokenizer, pairs, plan.model.shape.max_positions()).map(drop))
    }

    /// Whether there is nothing to score.
    pub fn is_empty(&self) -> bool {
        self.held_out.is_empty() && self.pairs.is_empty()
    }

    /// What is scored, by content, in words: scores that were made with other words are made again.
    pub fn words(&self) -> String {
        let sets = self.held_out.iter().map(|set| format!("held-out {} {}", set.name, &set.shards.hash()[..16]));
        let pairs = self.pairs.iter().map(|(name, pairs)| {
            let mut hasher = blake3::Hasher::new();
            for pair in pairs {
                for text in [&pair.paradigm, &pair.good, &pair.bad] {
                    hasher.update(text.as_bytes()).update(b"\0");
                }
            }
            format!("pairs {name} {}", &hasher.finalize().to_hex()[..16])
        });
        sets.chain(pairs).collect::<Vec<_>>().join(", ")
    }

    /// Scores the model in a folder, on as many held-out rows of each set as the run's own evaluations take.
    ///
    /// # Errors
    /// When it can't be loaded or scored; after Ctrl-C an [interrupted](Error::is_interrupted) one.
    pub fn score(&self, folder: &Path, plan: &Plan, device: &Device) -> Result<Measured> {
        let mut out = Measured::default();
        if self.is_empty() {
            return Ok(out);
        }
        let stop = || match interrupted() {
            true => Err(Error::interrupted("the study was stopped; every run is saved").help("the same command goes on")),
            false => Ok(()),
        };
        let folder = ModelFolder::open(folder)?;
        let (model, tokenizer) = (folder.load(&device.handle)?, folder.tokenizer()?);
        let options = held_out_options(Some(plan), None, &folder.shape);
        for set in &self.held_out {
            stop()?;
            let found = set.score(&model, options, plan.train.evaluate_rows, &device.handle)?;
            out.held_out.insert(set.name.clone(), found.held_out_loss);
        }
        for (name, pairs) in &self.pairs {
            let mut tick = |_, _| stop();
            let found = score_pairs(&model, &tokenizer, pairs, Pll::Original, &device.handle, &mut tick)?;
            out.pairs.insert(name.clone(), found.accuracy);
        }
        Ok(out)
    }
}
