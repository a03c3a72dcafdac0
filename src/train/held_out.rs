//! Held-out text beside a run's own: named sets of shards that a model is scored on.

use std::collections::BTreeMap;

use burn::tensor::Device;

use super::open_shards;
use crate::batch::{BatchOptions, Batches, Masking, Objective, Split};
use crate::config::{Plan, Rows, Shape};
use crate::error::{Error, Result};
use crate::methods::{Evaluation, evaluate};
use crate::model::LanguageModel;
use crate::tokens::{Shards, Tokenizer};

/// A named set of shards whose held-out split models are scored on.
#[derive(Clone)]
pub struct HeldOutSet {
    /// What it is called in results.
    pub name: String,
    /// The shards.
    pub shards: Shards,
}

impl HeldOutSet {
    /// Opens a data folder (or `pocket`) as a set.
    ///
    /// # Errors
    /// When it can't be opened or holds nothing out.
    pub fn open(name: &str, folder: &str) -> Result<Self> {
        let shards = open_shards(folder)?;
        if shards.held_out().is_empty() {
            return Err(Error::new(format!("the set {name:?} holds no sentence out"))
                .at(folder)
                .help("build it again with a larger share, up to --held-out 0.99, or from more documents"));
        }
        Ok(Self { name: name.to_owned(), shards })
    }

    /// # Errors
    /// When the set was built with another vocabulary than a model's; `model` names that one.
    pub fn must_fit(&self, tokenizer: &Tokenizer, model: &str) -> Result<()> {
        must_share_vocabulary(&self.shards, &self.name, tokenizer, model)
    }

    /// Scores a model, on a device without autodiff, on the first `rows` held-out rows, with masks that are the same
    /// for every model.
    ///
    /// # Errors
    /// As [`evaluate`].
    pub fn score(&self, model: &impl LanguageModel, options: BatchOptions, rows: usize, device: &Device) -> Result<Evaluation> {
        let held_out = Batches::new(&self.shards, Split::HeldOut, options).map_err(|error| error.at(&self.name))?;
        evaluate(model, &held_out, rows, None, device).map_err(|error| error.at(&self.name))
    }
}

/// The sets of a table of names and folders, in the order of the names.
///
/// # Errors
/// When one can't be opened.
pub fn open_held_out_sets(folders: &BTreeMap<String, String>) -> Result<Vec<HeldOutSet>> {
    folders.iter().map(|(name, folder)| HeldOutSet::open(name, folder)).collect()
}

/// # Errors
/// When shards (named `data`) and a model (named `model`) have different vocabularies.
pub fn must_share_vocabulary(shards: &Shards, data: &str, tokenizer: &Tokenizer, model: &str) -> Result<()> {
    if tokenizer.hash() == shards.tokenizer().hash() {
        return Ok(());
    }
    Err(Error::new(format!("the model's vocabulary is not the one that {data} was built with"))
        .at(model)
        .help(format!("build shards for it: upstill data build TEXT --out DIR --tokenizer {model}")))
}

/// How a model reads held-out text: as its run's plan says, or a sentence a row of at most 128 tokens, masked as
/// BERT's where its family is masked; never longer than it reads.
pub fn held_out_options(plan: Option<&Plan>, length: Option<usize>, shape: &Shape) -> BatchOptions {
    let objective = plan.map_or_else(|| Objective::of_family(shape.family(), Masking::default()), Objective::of_held_out);
    BatchOptions {
        layout: plan.map_or(Rows::Sentence, |plan| plan.data.rows),
        length: length.or(plan.map(|plan| plan.data.length)).unwrap_or(128).min(shape.max_positions()),
        batch: 32,
        seed: 0,
        objective,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(more: &str) -> Shards {
        let words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", more];
        let tokenizer = Tokenizer::from_vocab(words.map(str::to_owned).to_vec()).unwrap();
        Shards::from_sentences(tokenizer, vec![vec![5, 6]], vec![vec![6, 5]])
    }

    #[test]
    fn another_vocabulary_is_refused() {
        let (own, other) = (shards("sat"), shards("mat"));
        let set = HeldOutSet { name: "imdb".into(), shards: own.clone() };
        set.must_fit(own.tokenizer(), "runs/x").unwrap();
        insta::assert_snapshot!(set.must_fit(other.tokenizer(), "runs/x").unwrap_err(), @"
        the model's vocabulary is not the one that imdb was built with
          in: runs/x
        help: build shards for it: upstill data build TEXT --out DIR --tokenizer runs/x
        ");
    }
}
