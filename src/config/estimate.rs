//! What a plan will cost: parameters, memory, work, time.

use serde::Serialize;

use super::listening::GateKind;
use super::plan::{LearnerPlan, Plan, Positions, TEACHER};
use super::shape::{Kept, ObjectiveKind, Parameters, Pass, Shape};
use crate::device::{Kernels, PrecisionChoice, Traits};

/// What a plan will cost.
///
/// Parameters, the work of a forward pass and what a layer keeps are the family's: see [`Sizes`](super::Sizes) of each.
///
/// **Work** counts multiplications and additions of the matrix products, backward as twice forward. The teacher's
/// forward pass is counted apart. Of several models that train together each has such a step. With `h` rows that the
/// head runs on (the masked positions, or every one for `positions = "all"`), a vocabulary V and a width d, each
/// direction takes `2 h V d` more, to multiply out what the model learns from. Each direction of a model after its
/// first also takes `6 h V d`, to multiply out and differentiate the model's own logits again.
///
/// **Memory** is an estimate too, and all of it is of one worker:
///
/// | what | bytes |
/// |---|---|
/// | a student's parameter (weight, gradient, two moments, a new weight beside the old) | 20; on a CPU 22, as freed memory is kept in pieces |
/// | the same with several workers, whose gradients are in one piece | 4 more |
/// | a teacher's parameter | 4 |
/// | the program | 60 MB; on a CPU, with what was read of the shards, 100 MB |
/// | logits | a chunk of them ([`Traits`]): through CUDA the student's, the teacher's and the gradient; else six times, without a teacher three |
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// Parameters of the student (of several models, of the first), and without its head.
    pub student: Parameters,
    /// Parameters of the teacher, where it is a model.
    pub teacher: Option<Parameters>,
    /// Real tokens of the run, `[CLS]` and `[SEP]` included.
    pub tokens: f64,
    /// Positions of the run, padding included.
    pub positions: f64,
    /// FLOPs of a step that real tokens need: what MFU counts.
    pub useful: Work,
    /// FLOPs of a step as computed, padding and unused slots included: what takes time.
    pub computed: Work,
    /// Optimizer steps.
    pub steps: u64,
    /// Bytes on the device.
    pub memory: Memory,
}

/// FLOPs of one step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Work {
    /// Forward and backward pass of the student, or of all models that train.
    pub student: f64,
    /// The teacher's forward pass; of models that train together, also what directions take.
    pub teacher: f64,
}

/// Bytes, by what they hold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Memory {
    /// Weights, gradients and moments of the student, or of all models that train.
    pub student: u64,
    /// The teacher's weights.
    pub teacher: u64,
    /// Values kept for the backward pass.
    pub activations: u64,
    /// Logits of student and teacher, and what the losses make of them.
    pub logits: u64,
    /// The backward pass's own values for a moment, and the program.
    pub passing: u64,
}

/// A measured speed, to tell the time by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// Real tokens a second.
    Tokens(f64),
    /// FLOPs a second, as computed.
    Flops(f64),
}

impl Plan {
    /// What this plan will cost.
    pub fn estimate(&self) -> Estimate {
        let data = &self.data;
        // Of a step on average.
        let (rows, asked_rate) = (self.mean_rows(), self.mean_asked_rate());
        let teachers: Vec<_> = self.teacher.iter().flat_map(|teacher| teacher.models()).collect();
        let (real, length) = (rows * data.tokens_per_row, data.length as f64);
        let sentence = (data.tokens as f64 / data.sentences.max(1) as f64 + 2.0).min(length);
        let learners = self.learners();
        // Which slots have the lowest entropy is known once the teacher was asked about all of them.
        let asked = if self.distill.gate.kind == GateKind::LowestEntropy { 2.0 } else { 1.0 };
        let work = |positions: f64, masked: f64, attended: f64| {
            let head_rows = if self.distill.positions == Positions::All { positions } else { masked };
            let pass = Pass { positions, attended, head_rows };
            let forward = |shape: &Shape| shape.forward_flops(&pass);
            Work {
                student: learners.iter().map(|learner| 3.0 * forward(&learner.model.shape)).sum(),
                teacher: asked * teachers.iter().map(|model| forward(&model.shape)).sum::<f64>()
                    + head_rows * self.directions(&learners),
            }
        };
        Estimate {
            student: self.model.shape.parameters(),
            teacher: teachers.first().map(|model| model.shape.parameters()),
            tokens: real * self.train.steps as f64,
            positions: rows * length * self.train.steps as f64,
            useful: work(real, real * asked_rate, sentence),
            computed: work(rows * length, rows * data.slots as f64, length),
            steps: self.train.steps,
            memory: self.memory(&learners, teachers.iter().map(|model| model.parameters).sum()),
        }
    }

    /// Rows of a step, on average where they change.
    fn mean_rows(&self) -> f64 {
        match &self.train.batch_schedule {
            None => self.train.batch as f64,
            Some(_) => self.train.all_rows() / self.train.steps.max(1) as f64,
        }
    }

    /// Share of the tokens that is asked, on average where it changes: of a causal model next to all.
    fn mean_asked_rate(&self) -> f64 {
        if self.objective() == ObjectiveKind::Causal {
            return 1.0;
        }
        let rates = self.data.mask_schedule.as_ref();
        rates.map_or(self.data.mask_rate, |rates| rates.mean(self.train.steps))
    }

    /// FLOPs a head row of what models take from each other; see [`Estimate`]. The teacher's own forward has its head
    /// once.
    fn directions(&self, learners: &[LearnerPlan]) -> f64 {
        let product = |hidden: usize| 2.0 * self.model.shape.vocab_size() as f64 * hidden as f64;
        let taught = self.teacher.as_ref().and_then(|teacher| teacher.model.as_ref()).map_or(0, |model| model.shape.hidden());
        let width = |name: &str| match learners.iter().find(|learner| learner.name == name) {
            Some(learner) => learner.model.shape.hidden(),
            None => taught,
        };
        let of_learner = |learner: &LearnerPlan| {
            let heard: f64 = learner.from.iter().map(|source| product(width(&source.name))).sum();
            heard + 3.0 * product(learner.model.shape.hidden()) * learner.from.len().saturating_sub(1) as f64
        };
        let asks_teacher = learners.iter().flat_map(|learner| &learner.from).any(|source| source.name == TEACHER);
        // Behind a gate the soft loss takes a pass over the vocabulary of its own.
        let gated = if self.distill.gate.is_open() { 0.0 } else { 3.0 * product(self.model.shape.hidden()) };
        learners.iter().map(of_learner).sum::<f64>() + gated - if asks_teacher { product(taught) } else { 0.0 }
    }

    /// Rows at once that so many bytes hold.
    pub(super) fn rows_in(&self, bytes: u64) -> u64 {
        let (memory, rows) = (self.estimate().memory, self.rows_at_once() as u64);
        let in_passing = memory.passing - self.program_bytes();
        let a_row = (memory.activations.saturating_add(memory.logits).saturating_add(in_passing) / rows).max(1);
        let fixed = memory.student.saturating_add(memory.teacher).saturating_add(self.program_bytes());
        bytes.saturating_sub(fixed) / a_row
    }

    /// Rows at once where the run file leaves it open: the whole batch, or a worker's share of it, or as many as fit
    /// nine tenths of the memory, in equal parts.
    pub(super) fn rows_that_fit(&self, memory_bytes: Option<u64>) -> usize {
        let share = self.train.batch.div_ceil(self.runtime.workers.max(1));
        let room = memory_bytes.map_or(u64::MAX, |bytes| bytes / 10 * 9);
        match self.rows_in(room) {
            0 => share, // what is wrong is told with the other mistakes
            rows if rows >= share as u64 => share,
            rows => share.div_ceil(share.div_ceil(rows as usize)),
        }
    }

    fn memory(&self, learners: &[LearnerPlan], teacher: u64) -> Memory {
        let value = self.value_bytes();
        let (rows, length) = (self.rows_at_once() as f64, self.data.length as f64);
        let a_parameter =
            if self.gpu_kernels().is_some() { 20.0 } else { 22.0 } + if self.runtime.workers > 1 { 4.0 } else { 0.0 };
        let slots = rows * self.head_rows();
        let sentence = (self.data.tokens as f64 / self.data.sentences.max(1) as f64 + 2.0).min(length);
        let kernels = self.gpu_kernels();
        let mut memory =
            Memory { student: 0, teacher: teacher.saturating_mul(4), activations: 0, logits: 0, passing: self.program_bytes() };
        for learner in learners {
            let shape = &learner.model.shape;
            let kept = Kept { gpu: kernels, value_bytes: value, length, has_dropout: learner.model.dropout > 0.0 };
            let pass = Pass { positions: rows * length, attended: sentence, head_rows: slots };
            let passing = pass.positions * shape.passing_bytes(&kept);
            let is_taught = self.teacher.is_some() || !learner.from.is_empty();
            let times = match (self.traits().reuses_logits, is_taught) {
                (true, _) => 1.0 + f64::from(is_taught) + value / 4.0,
                (false, true) => 6.0,
                (false, false) => 3.0,
            };
            let add = |sum: &mut u64, bytes: f64| *sum = sum.saturating_add(bytes as u64);
            add(&mut memory.student, shape.parameters().total as f64 * a_parameter);
            add(&mut memory.activations, shape.kept_bytes(&pass, &kept));
            add(&mut memory.logits, self.logits_bytes(slots, shape.vocab_size()) * times);
            memory.passing = memory.passing.max(self.program_bytes().saturating_add(passing as u64));
        }
        memory
    }

    /// Bytes of the batches on the host: the one that is trained on, and those prepared ahead. A row has three numbers
    /// a token and three a masked position, of 4 bytes each.
    pub(super) fn batches_bytes(&self) -> u64 {
        const AT_ONCE: u64 = 4;
        let a_row = 12 * (self.data.length as u64 + self.data.slots as u64);
        (self.train.batch as u64).saturating_mul(a_row).saturating_mul(AT_ONCE)
    }

    /// Bytes of the largest value that a step makes, which memory is better asked for first: see
    /// [`crate::device::make_room`].
    pub(crate) fn largest_value_bytes(&self) -> usize {
        let (rows, length) = (self.rows_at_once() as f64, self.data.length as f64);
        let slots = rows * self.head_rows();
        let of_learner = |learner: LearnerPlan| {
            let shape = &learner.model.shape;
            let words = shape.vocab_size() as f64 * shape.hidden() as f64 * 4.0;
            let widest = rows * length * shape.widest() as f64 * self.value_bytes();
            self.logits_bytes(slots, shape.vocab_size()).max(words).max(widest)
        };
        self.learners().into_iter().map(of_learner).fold(0.0, f64::max) as usize
    }

    /// Bytes of a chunk of logits of one model in f32.
    fn logits_bytes(&self, slots: f64, vocab_size: usize) -> f64 {
        let chunk = match self.gpu_kernels() {
            Some(Kernels::Composed) => f64::INFINITY,
            _ => self.traits().logits_chunk_bytes as f64,
        };
        (slots * vocab_size as f64 * 4.0).min(chunk)
    }

    /// Resident before a run has begun.
    fn program_bytes(&self) -> u64 {
        if self.gpu_kernels().is_some() { 60_000_000 } else { 100_000_000 }
    }

    /// Positions of a row that the head runs on.
    fn head_rows(&self) -> f64 {
        (if self.distill.positions == Positions::All { self.data.length } else { self.data.slots }) as f64
    }

    /// Bytes of a number of products. The CPU has f32 between products in bf16.
    fn value_bytes(&self) -> f64 {
        match self.runtime.precision {
            PrecisionChoice::F16 => 2.0,
            PrecisionChoice::Bf16 if !self.traits().is_cpu => 2.0,
            _ => 4.0,
        }
    }

    fn traits(&self) -> &'static Traits {
        Traits::of_word(&self.runtime.device)
    }

    /// The kernels where the run is known to be on a GPU.
    fn gpu_kernels(&self) -> Option<Kernels> {
        (!self.traits().is_cpu).then_some(self.runtime.kernels.unwrap_or(Kernels::Fused))
    }
}

impl Work {
    /// Student and teacher.
    pub fn total(self) -> f64 {
        self.student + self.teacher
    }
}

impl Memory {
    /// All of it.
    pub fn total(self) -> u64 {
        [self.teacher, self.activations, self.logits, self.passing].into_iter().fold(self.student, u64::saturating_add)
    }
}

impl Estimate {
    /// Seconds the run will take at a speed.
    pub fn seconds(&self, speed: Speed) -> f64 {
        match speed {
            Speed::Tokens(tokens_per_s) => self.tokens / tokens_per_s,
            Speed::Flops(flops_per_s) => self.computed.total() * self.steps as f64 / flops_per_s,
        }
    }
}
