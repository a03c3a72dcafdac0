//! What a plan will cost: parameters, memory, work, time.

use serde::Serialize;

use super::learner::{LearnerPlan, TEACHER};
use super::plan::{Kernels, ModelPlan, Plan, Positions, Precision, TeacherModel};

/// What a plan will cost.
///
/// **Parameters** of a BERT with vocabulary V, width d, feed-forward i, P positions, T token types and L layers:
/// `V d + P d + T d + 2 d` for the embeddings, `4 (d^2 + d) + 2 d i + i + d + 4 d` a layer, `d^2 + d + 2 d + V` for the head (its
/// decoder is the word table).
///
/// **Work** counts multiplications and additions of the matrix products, backward as twice forward:
/// `6 n N + 12 n L s d + 6 h (M + d^2 + V d)` for a student step over n positions, where `M = d^2 + 2 d i` is what a layer does after
/// attention, `N = 3 L d^2 + (L - 1) M`, s is how many positions attend to each other, and h is the number of rows that the head
/// and the last layer after its attention run on: the masked ones, or every one for `positions = "all"`. The teacher's forward is a third of that with its own sizes, counted apart. Of several models that train together each has such a
/// step, and for each direction `2 h V d` more to multiply out what the model learns from; for each direction of a model
/// after its first, also `6 h V d` to multiply out and differentiate its own logits again.
///
/// **Memory** is an estimate too. A student parameter takes 20 bytes (weight, gradient, two moments, and a new weight or a clipped
/// gradient beside the old; on a CPU 22, as freed memory is kept in pieces), of several workers 4 more (gradients in one piece), a teacher's 4. All is of one worker. Each position
/// of a micro-batch keeps, a layer, on a CPU `3 d` values and for each head the shares of the positions it sees, those of its
/// sentence, and after attention `5 d + 2 i`; on a GPU `4 d` values in the product's numbers and for each head the whole row's shares,
/// with dropout twice, and then `2 d + 2 i`, with `2 d` in f32; with burn's own operations there `6 d + 3 heads s` and `6 d + 3 i`; of the
/// last layer the second part for head rows alone. In passing there are two values of the feed-forward layer for
/// each position, on a GPU `10 d` bytes besides, and the program itself, 60 MB, on a CPU with what was read of the shards 100 MB. Logits are made a chunk at a time: 512 MB through
/// CUDA, there the student's, the teacher's and the gradient; else what a binding or a cache holds, six times or, without a teacher,
/// three.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// Parameters of the student (of several models, of the first), and without its head.
    pub student: Parameters,
    /// Of the teacher, when it is a model.
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

/// Numbers of parameters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Parameters {
    /// All, the tied decoder counted once.
    pub total: u64,
    /// Without the masked-language-model head, as the paper counts.
    pub without_head: u64,
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

/// Sizes that parameters and work depend on.
#[derive(Clone, Copy)]
struct Sizes {
    layers: f64,
    hidden: f64,
    intermediate: f64,
    max_positions: f64,
    token_types: f64,
    vocab: f64,
}

impl Plan {
    /// What this plan will cost.
    pub fn estimate(&self) -> Estimate {
        let (data, rows) = (&self.data, self.train.batch as f64);
        let student = Sizes::student(&self.model);
        let teacher_model = self.teacher.as_ref().and_then(|teacher| teacher.model.as_ref());
        let teacher = teacher_model.map(|model| Sizes::teacher(model, self.model.vocab_size));
        let (real, length) = (rows * data.tokens_per_row, data.length as f64);
        let sentence = (data.tokens as f64 / data.sentences.max(1) as f64 + 2.0).min(length);
        let learners = self.learners();
        let work = |positions: f64, masked: f64, attended: f64| {
            let head_rows = if self.distill.positions == Positions::All { positions } else { masked };
            let forward = |sizes: Sizes| sizes.forward(positions, attended, head_rows);
            Work {
                student: learners.iter().map(|learner| 3.0 * forward(Sizes::student(&learner.shape))).sum(),
                teacher: teacher.map_or(0.0, forward) + head_rows * self.directions(&learners),
            }
        };
        Estimate {
            student: student.parameters(),
            teacher: teacher.map(Sizes::parameters),
            tokens: real * self.train.steps as f64,
            positions: rows * length * self.train.steps as f64,
            useful: work(real, real * data.mask_rate, sentence),
            computed: work(rows * length, rows * data.slots as f64, length),
            steps: self.train.steps,
            memory: self.memory(&learners, teacher_model.map_or(0, |model| model.parameters)),
        }
    }

    /// FLOPs a head row of what models take from each other; see [`Estimate`]. The teacher's own forward has its head once.
    fn directions(&self, learners: &[LearnerPlan]) -> f64 {
        let product = |hidden: usize| 2.0 * self.model.vocab_size as f64 * hidden as f64;
        let taught = self.teacher.as_ref().and_then(|teacher| teacher.model.as_ref()).map_or(0, |model| model.hidden);
        let width = |name: &str| match learners.iter().find(|learner| learner.name == name) {
            Some(learner) => learner.shape.hidden,
            None => taught,
        };
        let of_learner = |learner: &LearnerPlan| {
            let heard: f64 = learner.from.iter().map(|source| product(width(&source.name))).sum();
            heard + 3.0 * product(learner.shape.hidden) * learner.from.len().saturating_sub(1) as f64
        };
        let asks_teacher = learners.iter().flat_map(|learner| &learner.from).any(|source| source.name == TEACHER);
        learners.iter().map(of_learner).sum::<f64>() - if asks_teacher { product(taught) } else { 0.0 }
    }

    /// Rows at once that so many bytes hold.
    pub(super) fn rows_in(&self, bytes: u64) -> u64 {
        let (memory, rows) = (self.estimate().memory, self.rows_at_once() as u64);
        let in_passing = memory.passing - self.program_bytes();
        let a_row = (memory.activations.saturating_add(memory.logits).saturating_add(in_passing) / rows).max(1);
        let fixed = memory.student.saturating_add(memory.teacher).saturating_add(self.program_bytes());
        bytes.saturating_sub(fixed) / a_row
    }

    /// Rows at once where the run file leaves it open: the whole batch, or a worker's share of it, or as many as fit nine tenths of the memory, in equal parts.
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
        let a_parameter = if self.gpu_form().is_some() { 20.0 } else { 22.0 } + if self.runtime.workers > 1 { 4.0 } else { 0.0 };
        let slots = rows * self.head_rows();
        let sentence = (self.data.tokens as f64 / self.data.sentences.max(1) as f64 + 2.0).min(length);
        let form = self.gpu_form();
        let mut memory =
            Memory { student: 0, teacher: teacher.saturating_mul(4), activations: 0, logits: 0, passing: self.program_bytes() };
        for learner in learners {
            let ModelPlan { layers, hidden, heads, intermediate, vocab_size, dropout, .. } = learner.shape;
            let (d, i, heads) = (hidden as f64, intermediate as f64, heads as f64);
            let shares = heads * length * if dropout > 0.0 { 2.0 } else { 1.0 };
            let (to_attention, after_it) = match form {
                Some(Kernels::Composed) => ((6.0 * d + 3.0 * heads * length) * value, (6.0 * d + 3.0 * i) * value),
                Some(_) => ((4.0 * d + shares) * value, (2.0 * d + 2.0 * i) * value + 2.0 * d * 4.0),
                None => ((3.0 * d + heads * sentence) * value, (d + 2.0 * i) * value + 4.0 * d * 4.0),
            };
            let (layers, positions) = (layers as f64, rows * length);
            let kept = positions * layers * to_attention + (positions * (layers - 1.0).max(0.0) + slots) * after_it;
            let passing = if form.is_some() { 2.0 * i * value + 10.0 * d } else { 2.0 * i * 4.0 };
            let is_taught = self.teacher.is_some() || !learner.from.is_empty();
            let times = match (self.is_cuda(), is_taught) {
                (true, _) => 1.0 + f64::from(is_taught) + value / 4.0,
                (false, true) => 6.0,
                (false, false) => 3.0,
            };
            let add = |sum: &mut u64, bytes: f64| *sum = sum.saturating_add(bytes as u64);
            add(&mut memory.student, parameters(&learner.shape).total as f64 * a_parameter);
            add(&mut memory.activations, kept);
            add(&mut memory.logits, self.logits_bytes(slots, vocab_size) * times);
            memory.passing = memory.passing.max(self.program_bytes().saturating_add((positions * passing) as u64));
        }
        memory
    }

    /// Bytes of the batches on the host: the one that is trained on, and those prepared ahead. A row has three numbers a token and
    /// three a masked position, of 4 bytes each.
    pub(super) fn batches_bytes(&self) -> u64 {
        const AT_ONCE: u64 = 4;
        let a_row = 12 * (self.data.length as u64 + self.data.slots as u64);
        (self.train.batch as u64).saturating_mul(a_row).saturating_mul(AT_ONCE)
    }

    /// Bytes of the largest value that a step makes, which memory is better asked for first: see [`crate::device::make_room`].
    pub(crate) fn largest_value_bytes(&self) -> usize {
        let (rows, length) = (self.rows_at_once() as f64, self.data.length as f64);
        let slots = rows * self.head_rows();
        let of_learner = |learner: LearnerPlan| {
            let ModelPlan { hidden, intermediate, vocab_size, .. } = learner.shape;
            let words = vocab_size as f64 * hidden as f64 * 4.0;
            self.logits_bytes(slots, vocab_size).max(words).max(rows * length * intermediate as f64 * self.value_bytes())
        };
        self.learners().into_iter().map(of_learner).fold(0.0, f64::max) as usize
    }

    /// Bytes of a chunk of logits of one model in f32.
    fn logits_bytes(&self, slots: f64, vocab_size: usize) -> f64 {
        let chunk = match (self.is_cuda(), self.gpu_form()) {
            (_, Some(Kernels::Composed)) => f64::INFINITY,
            (true, _) => 512e6,
            (false, Some(_)) => 128e6,
            (false, None) => 16e6,
        };
        (slots * vocab_size as f64 * 4.0).min(chunk)
    }

    /// Resident before a run has begun.
    fn program_bytes(&self) -> u64 {
        if self.gpu_form().is_some() { 60_000_000 } else { 100_000_000 }
    }

    /// Positions of a row that the head runs on.
    fn head_rows(&self) -> f64 {
        (if self.distill.positions == Positions::All { self.data.length } else { self.data.slots }) as f64
    }

    /// Bytes of a number of products.
    fn value_bytes(&self) -> f64 {
        if self.runtime.precision == Precision::F32 { 4.0 } else { 2.0 }
    }

    fn is_cuda(&self) -> bool {
        self.runtime.device.starts_with("cuda")
    }

    /// The form of kernels where the run is known to be on a GPU.
    fn gpu_form(&self) -> Option<Kernels> {
        let is_gpu = self.is_cuda() || self.runtime.device.starts_with("wgpu");
        is_gpu.then_some(self.runtime.kernels)
    }
}

/// Numbers of parameters of a model of these dimensions.
pub(super) fn parameters(model: &ModelPlan) -> Parameters {
    Sizes::student(model).parameters()
}

impl Sizes {
    fn student(model: &ModelPlan) -> Self {
        Sizes {
            layers: model.layers as f64,
            hidden: model.hidden as f64,
            intermediate: model.intermediate as f64,
            max_positions: model.max_positions as f64,
            token_types: model.token_types as f64,
            vocab: model.vocab_size as f64,
        }
    }

    fn teacher(model: &TeacherModel, vocab_size: usize) -> Self {
        Sizes {
            layers: model.layers as f64,
            hidden: model.hidden as f64,
            intermediate: model.intermediate as f64,
            max_positions: model.max_positions as f64,
            token_types: model.token_types as f64,
            vocab: vocab_size as f64,
        }
    }

    // In f64: exact up to 2^53, and absurd sizes stay numbers.
    fn parameters(self) -> Parameters {
        let Sizes { layers, hidden: d, intermediate: i, max_positions, token_types, vocab } = self;
        let embeddings = (vocab + max_positions + token_types + 2.0) * d;
        let layer = 4.0 * (d * d + d) + 2.0 * d * i + i + d + 4.0 * d;
        let without_head = embeddings + layers * layer;
        Parameters { total: (without_head + d * d + 3.0 * d + vocab) as u64, without_head: without_head as u64 }
    }

    fn forward(self, positions: f64, attended: f64, head_rows: f64) -> f64 {
        let Sizes { layers, hidden: d, intermediate: i, vocab, .. } = self;
        forward_flops([layers, d, i, vocab], positions, attended, head_rows)
    }
}

/// Multiplications and additions of a forward pass of a model of `layers`, `d`, `i` and `V`; see [`Estimate`].
pub(crate) fn forward_flops([layers, d, i, vocab]: [f64; 4], positions: f64, attended: f64, head_rows: f64) -> f64 {
    let to_attention = 2.0 * 3.0 * d * d + 4.0 * attended * d;
    let after_it = 2.0 * (d * d + 2.0 * d * i);
    let layers_after = positions * (layers - 1.0).max(0.0) + head_rows;
    positions * layers * to_attention + layers_after * after_it + head_rows * 2.0 * (d * d + vocab * d)
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

/// `1.2 GB`, in powers of 1000.
pub(super) fn bytes_text(bytes: u64) -> String {
    format!("{}B", super::describe::scaled(bytes as f64, &["", "k", "M", "G", "T", "P"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distilbert(layers: f64) -> Sizes {
        Sizes { layers, hidden: 768.0, intermediate: 3072.0, max_positions: 512.0, token_types: 0.0, vocab: 30522.0 }
    }

    /// `DistilBertModel` and `DistilBertForMaskedLM`, as `transformers` counts them, and the paper's sizes of its teachers.
    #[test]
    fn parameters_are_those_of_transformers_and_of_the_paper() {
        let student = distilbert(6.0).parameters();
        assert_eq!(student, Parameters { total: 66_985_530, without_head: 66_362_880 });
        let ratio = |layers| distilbert(layers).parameters().without_head as f64 / student.without_head as f64;
        let percent = [4.0, 2.0, 1.0].map(|layers| (ratio(layers) * 100.0) as u64);
        assert_eq!(percent, [78, 57, 46]);
        let bert_base = Sizes { layers: 12.0, token_types: 2.0, ..distilbert(0.0) }.parameters();
        assert_eq!(bert_base.total, 109_514_298, "BertForMaskedLM, bert-base-uncased");
    }

    /// The cost of the paper's run by `6 N tokens` would be about 341 MFLOP a token for a 6-layer student and a 4-layer teacher. Of the last
    /// layers, 85 % of what comes after attention is never asked for.
    #[test]
    fn work_is_that_of_the_formula() {
        let (student, teacher) = (distilbert(6.0), distilbert(4.0));
        let m = 768.0 * 768.0 + 2.0 * 768.0 * 3072.0;
        let n = 6.0 * 3.0 * 768.0 * 768.0 + 5.0 * m;
        let head = 0.15 * (m + 768.0 * 768.0 + 30522.0 * 768.0);
        let found = 3.0 * student.forward(1.0, 27.0, 0.15);
        assert!((found / (6.0 * n + 12.0 * 6.0 * 27.0 * 768.0 + 6.0 * head) - 1.0).abs() < 1e-12, "{found}");
        let token = found + teacher.forward(1.0, 27.0, 0.15);
        let (everywhere, spared) = (341e6, 0.85 * 8.0 * m);
        assert!((token - (everywhere - spared)).abs() < 3e6, "{token}");
        assert_eq!(
            student.forward(1.0, 27.0, 1.0),
            2.0 * (6.0 * (3.0 * 768.0 * 768.0 + m) + 768.0 * 768.0 + 30522.0 * 768.0) + 4.0 * 6.0 * 27.0 * 768.0
        );
    }
}
