//! Where soft targets come from: a teacher that is asked batch by batch, or what one said earlier.

use burn::tensor::{Int, Tensor, TensorData};

use super::command::CommandTeacher;
use super::evaluate::entropies;
use super::teacher::Teacher;
use crate::answers::{Reader, SlotAnswers};
use crate::batch::Batch;
use crate::config::Positions;
use crate::device::{Compute, failed};
use crate::error::{Error, Result};
use crate::kernels::{Logits, Outcomes};
use crate::model::{BatchTensors, Inside};

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
    /// A few of its outcomes, and what else was kept.
    Outcomes(Outcomes, Said),
}

/// What a teacher says of a batch.
pub(super) struct Heard {
    pub signal: Signal,
    /// Its last layer's hidden states where soft losses are taken, `[n, d]`; of models in memory alone.
    pub hidden_nd: Option<Tensor<2>>,
    /// What was wanted from inside it, likewise.
    pub inside: Inside,
}

/// What was kept of a teacher's distribution at each slot, beside outcomes.
#[derive(Clone)]
pub(super) struct Said {
    /// The first token that is named, `[n]`: of the likeliest ones, the likeliest.
    pub first_n: Tensor<1, Int>,
    /// The teacher's own hard loss, `[n]`, in nats.
    pub label_loss_n: Tensor<1>,
}

impl Source {
    /// What it says where soft losses are taken, and what is wanted from inside it, where it is a model in memory.
    ///
    /// # Errors
    /// When answers are not there, or damaged, or a program doesn't give them.
    pub(super) fn ask(&self, batch: &Batch, on_device: &BatchTensors, positions: Positions, mut inside: Inside) -> Result<Heard> {
        let BatchTensors { inputs, slots, .. } = on_device;
        let alone = |signal| Ok(Heard { signal, hidden_nd: None, inside: Inside::default() });
        match (self, positions) {
            (Source::Asked(teacher), positions) => {
                let said = match positions {
                    Positions::Masked => teacher.signal_and(inputs, slots, &mut inside),
                    Positions::All => teacher.signal_and(inputs, &inputs.everywhere(), &mut inside),
                };
                Ok(Heard { hidden_nd: said.hidden(), signal: Signal::Logits(said.logits()), inside })
            }
            (Source::Answers(reader), Positions::Masked) => {
                let SlotAnswers { ids_nk, shares_nk, rest_n, constant_n, label_loss_n, .. } = reader.at(batch)?;
                let (device, n) = (&inputs.compute.device, rest_n.len());
                let k = (ids_nk.len() / n.max(1)).max(1);
                let first: Vec<i32> = ids_nk.iter().step_by(k).copied().collect();
                let said = Said {
                    first_n: Tensor::from_data(TensorData::new(first, [n]), device),
                    label_loss_n: Tensor::from_data(TensorData::new(label_loss_n, [n]), device),
                };
                alone(Signal::Outcomes(Outcomes::new(ids_nk, shares_nk, rest_n, constant_n, device), said))
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
                alone(Signal::Logits(program.logits(batch, &at, &inputs.compute.device)?.into()))
            }
            (Source::Answers(_), Positions::All) => Err(Error::new("a cache has a teacher's answers at masked positions alone")
                .help("write distill.positions = \"masked\", or name the teacher itself")),
        }
    }

    /// Entropy of what it says at a batch's masked positions, at temperature `tau`, in nats, one for each slot. A cache
    /// has it; a teacher in memory and a program are asked for it, at most `rows_at_once` rows at a time.
    ///
    /// # Errors
    /// As [`Source::ask`].
    pub(super) async fn entropies(&self, batch: &Batch, tau: f64, rows_at_once: usize, compute: &Compute) -> Result<Vec<f32>> {
        if let Source::Answers(reader) = self {
            return Ok(reader.at(batch)?.entropy_n);
        }
        let mut parts = Vec::new();
        for from in (0..batch.rows).step_by(rows_at_once.max(1)) {
            let part = batch.part(from..batch.rows.min(from + rows_at_once.max(1)));
            let heard = self.ask(&part, &BatchTensors::new(&part, compute), Positions::Masked, Inside::default())?;
            if let Signal::Logits(logits) = heard.signal {
                parts.push(entropies(&logits, tau, compute));
            }
        }
        let data = Tensor::cat(parts, 0).into_data_async().await.map_err(|error| failed("the teacher's entropies", &error))?;
        Ok(data.iter::<f32>().collect())
    }

    /// The teacher, where it is in memory.
    pub(super) fn teacher(&self) -> Option<&dyn Teacher> {
        match self {
            Source::Asked(teacher) => Some(teacher.as_ref()),
            Source::Answers(_) | Source::Command(_) => None,
        }
    }
}
