//! A study's arms share what a teacher says: asked once for each seed and teacher, read by every run.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use crate::config::{AnswersHeader, AnswersKind, AnswersPlan, Plan};
use crate::device::Device;
use crate::error::Result;
use crate::files::manifest;
use crate::log::{Console, clock};
use crate::tokens::Shards;
use crate::train::{Asking, TeachOptions, interrupted};

/// What sharing has come to so far.
#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<Count>);

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    made: u64,
    found: u64,
    bytes: u64,
    seconds: f64,
}

impl Shared {
    /// The folder, within a study's, with the answers that `planned` reads, the plan with its teacher in memory being
    /// `live`; what is not there is asked now. None for plans that read none.
    ///
    /// # Errors
    /// As [`Asking::run`].
    pub fn answers(
        &self,
        planned: &Plan,
        live: &Plan,
        shards: &Shards,
        (study, device): (&Path, &Device),
    ) -> Result<Option<PathBuf>> {
        let Some(AnswersPlan { kind, count, .. }) = planned.teacher.as_ref().and_then(|teacher| teacher.answers.clone()) else {
            return Ok(None);
        };
        let out = folder(study, live, kind, count);
        let stop = || interrupted();
        // Runs have bars of their own; of this, what it came to is told at the end.
        let console = Console::silent();
        let ask = TeachOptions { out: &out, kind, count, steps: None, console: &console, device, stop: &stop };
        let began = Instant::now();
        let taught = Asking::new(live, shards, &ask)?.run()?;
        let mut so_far = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        so_far.found += taught.found;
        so_far.made += taught.made;
        so_far.bytes += taught.bytes;
        so_far.seconds += if taught.made > 0 { began.elapsed().as_secs_f64() } else { 0.0 };
        Ok(Some(out))
    }

    /// What it saved, in words; none where nobody was asked.
    pub fn words(&self) -> Option<String> {
        let Count { made, found, bytes, seconds } = *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if made == 0 {
            return (found > 0).then(|| format!("teachers' answers: {found} blocks were read, and nobody had to be asked"));
        }
        let saved = std::time::Duration::from_secs_f64(seconds * found as f64 / made as f64);
        Some(format!(
            "teachers' answers: {made} blocks ({:.1} MB) were asked for once, in {}, and {found} times one was there already, which \
             saved about {}",
            bytes as f64 / 1e6,
            clock(std::time::Duration::from_secs_f64(seconds)),
            clock(saved)
        ))
    }
}

/// Where answers lie: a folder for each teacher, seed and what else they depend on.
fn folder(study: &Path, live: &Plan, kind: AnswersKind, count: usize) -> PathBuf {
    let teacher = live.teacher.as_ref().and_then(|teacher| teacher.model.as_ref()).map_or("", |model| &model.content_hash);
    let header = AnswersHeader {
        temperature: live.taught_temperature().unwrap_or(0.0),
        ..AnswersHeader::of(live, teacher, kind, count, 1)
    };
    let text = serde_json::to_string(&header).expect("a header in memory can be written");
    study.join("answers").join(&manifest::hash(text.as_bytes())[..16])
}
