//! Looks up what a run file needs to know: its shards, its teacher, the machine's memory.

use std::path::Path;

use super::GivenTeacher;
use crate::answers::Cache;
use crate::batch::{BatchOptions, Batches, Masking, Objective, Split};
use crate::config::{DataFacts, Facts, Family, Plan, RunFile, TeacherFacts, Wanted};
use crate::device::{auto_is, memory_of};
use crate::error::{Error, Result};
use crate::model::{ModelFolder, Shape, Weights};
use crate::tokens::{Shards, Tokenizer, pocket_shards};

/// A run file's plan and the shards it trains on. Nothing is trained and nothing is written.
///
/// # Errors
/// One error with every mistake of the run file, and of what it names.
pub fn plan_run(file: &RunFile) -> Result<(Plan, Shards)> {
    let wanted = file.wanted();
    let shards = match &wanted.shards {
        Some(name) => open_shards(name),
        None => Err(Error::new("no shards are named")),
    };
    let plan = file.resolve(&find_facts(&wanted, shards.as_ref()))?;
    Ok((plan, shards?))
}

/// A run file's plan on shards that are open already, whatever the file calls them; its teacher is looked up. Nothing
/// is trained and nothing is written.
///
/// # Errors
/// One error with every mistake of the run file, and of the teacher that it names.
///
/// ```
/// use upstill::{RunFile, plan_on};
///
/// let shards = upstill::tokens::pocket_shards()?;
/// let file = RunFile::preset("standalone")?.with("data.shards", "pocket").with("model.layers", 2).with("train.steps", 100);
/// let plan = plan_on(&file, &shards)?;
/// assert_eq!((plan.train.steps, plan.model.shape.layers()), (100, 2));
/// # Ok::<(), upstill::Error>(())
/// ```
pub fn plan_on(file: &RunFile, shards: &Shards) -> Result<Plan> {
    file.resolve(&find_facts(&file.wanted(), Ok(shards)))
}

/// A run file's plan on shards and with a teacher that are at hand; whatever the file names them, they are not opened.
///
/// # Errors
/// One error with every mistake of the run file.
pub fn plan_in_memory(file: &RunFile, shards: &Shards, teacher: Option<&GivenTeacher>) -> Result<Plan> {
    let data = data_facts(&file.wanted(), shards, teacher.map(|teacher| teacher.shape.family()));
    let teacher = teacher.map(|teacher| Ok(facts_of(&teacher.shape, &teacher.weights, shards.tokenizer())));
    file.resolve(&Facts { data, teacher, others: Vec::new(), answers: None, memory_bytes: None, auto: None })
}

/// Opens a data folder, or makes the pocket language for the name `pocket`.
///
/// # Errors
/// As [`Shards::open`].
pub fn open_shards(name: &str) -> Result<Shards> {
    match name {
        "pocket" => pocket_shards(),
        folder => Shards::open(Path::new(folder)),
    }
}

/// The facts for a run file's wants, on shards that may have failed to open.
pub(crate) fn find_facts(wanted: &Wanted, shards: Result<&Shards, &Error>) -> Facts {
    let tokenizer = shards.ok().map(Shards::tokenizer);
    let from = wanted.teacher.as_ref().map(Path::new);
    let (answers, teacher) = match from.filter(|from| Cache::is_at(from)) {
        Some(cache) => match Cache::open(cache).and_then(|cache| cache.facts()) {
            Ok(found) => (Some(found), None),
            Err(error) => (None, Some(Err(error))),
        },
        None => (None, from.map(|from| teacher_facts(from, tokenizer))),
    };
    let other = |(name, from): &(String, String)| (name.clone(), teacher_facts(Path::new(from), tokenizer));
    let others = wanted.others.iter().map(other).collect();
    let taught = teacher.as_ref().and_then(|found| Some(found.as_ref().ok()?.shape.family()));
    let data = shards.map_err(Clone::clone).and_then(|shards| data_facts(wanted, shards, taught));
    Facts { data, teacher, others, answers, memory_bytes: memory_of(&wanted.device), auto: auto_is() }
}

/// A model that goes on is of its teacher's family.
fn data_facts(wanted: &Wanted, shards: &Shards, teacher: Option<Family>) -> Result<DataFacts> {
    let family = wanted.family.or(teacher).unwrap_or_default();
    let masking = Masking { rate: wanted.mask_rate, whole_word: wanted.whole_word, rarity: wanted.rarity };
    let options = BatchOptions {
        layout: wanted.rows,
        length: wanted.length,
        batch: wanted.batch,
        seed: wanted.seed,
        objective: Objective::of_family(family, masking),
    };
    let train = Batches::new(shards, Split::Train, options)?;
    let sentences = shards.train();
    Ok(DataFacts {
        shards_hash: shards.hash().to_owned(),
        tokenizer_hash: shards.tokenizer().hash().to_owned(),
        vocab_size: shards.tokenizer().vocab_size(),
        sentences: sentences.len() as u64,
        tokens: sentences.tokens(),
        held_out_sentences: shards.held_out().len() as u64,
        longest_sentence: (0..sentences.len()).map(|i| sentences.length_of(i)).max().unwrap_or(0),
        rows_per_epoch: train.rows_per_epoch() as u64,
        tokens_per_row: train.tokens_per_row(),
        slots: train.slots(),
    })
}

fn teacher_facts(from: &Path, student: Option<&Tokenizer>) -> Result<TeacherFacts> {
    let folder = ModelFolder::open(from)?;
    let (tokenizer, weights) = (folder.tokenizer()?, folder.weights()?);
    let inventory = folder.inventory(&weights);
    let has_head = inventory.has_head();
    if has_head || inventory.has_own_decoder() {
        folder.must_predict(&weights)?;
    }
    let differing = student.map_or_else(Vec::new, |student| differing(student.vocab(), tokenizer.vocab()));
    Ok(TeacherFacts { has_head, first_differing_tokens: differing, ..facts_of(&folder.shape, &weights, &tokenizer) })
}

/// A whole teacher's, with the data's own tokenizer. Rows of its word table beyond the vocabulary are left out when it
/// teaches.
fn facts_of(shape: &Shape, weights: &Weights, tokenizer: &Tokenizer) -> TeacherFacts {
    TeacherFacts {
        shape: shape.clone().with_vocabulary(shape.vocab_size().min(tokenizer.vocab_size())),
        tokenizer_hash: tokenizer.hash().to_owned(),
        content_hash: weights.hash(),
        has_head: true,
        first_differing_tokens: Vec::new(),
    }
}

/// The first few ids whose tokens differ: (id, in the data, in the teacher).
fn differing(data: &[String], teacher: &[String]) -> Vec<(usize, String, String)> {
    const SHOWN: usize = 5;
    let token = |vocab: &[String], id: usize| vocab.get(id).map_or("(none)".to_owned(), Clone::clone);
    let ids = (0..data.len().max(teacher.len())).filter(|&id| data.get(id) != teacher.get(id));
    ids.take(SHOWN).map(|id| (id, token(data, id), token(teacher, id))).collect()
}
