//! Where soft targets come from: a teacher that is asked batch by batch, or what one said earlier.

use super::command::CommandTeacher;
use super::teacher::Teacher;
use crate::answers::{Reader, SlotAnswers};
use crate::batch::Batch;
use crate::config::Positions;
use crate::error::{Error, Result};
use crate::kernels::{Logits, Outcomes};
use crate::model::BatchTensors;

/// Who answers for a batch.
pub enum Source {
    /// A teacher in memory.
    Asked(Box<dyn Teacher>),
    /// Answers on disk.
    Answers(Reader),
    /// A program.
    Command(CommandTeacher),
}

/// What a model's soft loss is taken against.
#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "a few of them a step: handles of tensors, not numbers")]
pub(super) enum Signal {
    /// A distribution over the vocabulary, as logits.
    Logits(Logits),
    /// A few of its outcomes.
    Outcomes(Outcomes),
}

impl Source {
    /// What it says where soft losses are taken.
    ///
    /// # Errors
    /// When answers are not there, or damaged, or a program doesn't give them.
    pub(super) fn ask(&self, batch: &Batch, on_device: &BatchTensors, positions: Positions) -> Result<Signal> {
        let BatchTensors { inputs, slots, .. } = on_device;
        match (self, positions) {
            (Source::Asked(teacher), Positions::Masked) => Ok(Signal::Logits(teacher.signal(inputs, slots).logits())),
            (Source::Asked(teacher), Positions::All) => Ok(Signal::Logits(teacher.signal(inputs, &inputs.everywhere()).logits())),
            (Source::Answers(reader), Positions::Masked) => {
                let SlotAnswers { ids_nk, shares_nk, rest_n, constant_n, .. } = reader.at(batch)?;
                let device = &inputs.compute.device;
                Ok(Signal::Outcomes(Outcomes::new(ids_nk, shares_nk, rest_n, constant_n, device)))
            }
            (Source::Command(program), positions) => {
                let (m, s) = (batch.asked.slots, batch.length);
                let at: Vec<i32> = match positions {
                    Positions::Masked => {
                        let places = batch.asked.places_bm.iter().enumerate();
                        places.map(|(slot, &place)| (slot / m * s) as i32 + place).collect()
                    }
                    Positions::All => (0..(batch.rows * s) as i32).collect(),
                };
                Ok(Signal::Logits(program.logits(batch, &at, &inputs.compute.device)?.into()))
            }
            (Source::Answers(_), Positions::All) => Err(Error::new("a cache has a teacher's answers at masked positions alone")
                .help("write distill.positions = \"masked\", or name the teacher itself")),
        }
    }

    /// The teacher, where it is in memory.
    pub(super) fn teacher(&self) -> Option<&dyn Teacher> {
        match self {
            Source::Asked(teacher) => Some(teacher.as_ref()),
            Source::Answers(_) | Source::Command(_) => None,
        }
    }
}
