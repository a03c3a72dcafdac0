//! The plan: everything about a run, resolved and checked.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::differences::differences;
use super::features::{FeatureKind, LayerLosses};
use super::kept::AnswersPlan;
use super::listening::{Divergence, Gate, MemberPlan, is_unit_weight, is_zero, unit_weight};
use super::shape::{ModelPlan, TeacherModel};
use super::{Parameters, Schedule};
use crate::device::{Kernels, PrecisionChoice};
use crate::error::{Error, Result};
use crate::files::manifest::{read_toml, sealed_toml};
use crate::files::write_text;
use crate::words::words;

/// Rows shorter than this hold next to nothing between `[CLS]` and `[SEP]`.
pub(super) const MIN_LENGTH: usize = 8;

/// The name of the one model that most methods train.
pub const MODEL: &str = "model";

/// What the one teacher that isn't trained is called among those that a model learns from.
pub const TEACHER: &str = "teacher";

/// The name of the teacher that is the uniform distribution.
pub const UNIFORM: &str = "uniform";

/// Everything about a run, resolved: printed before step 1, saved as `plan.toml`, and all that is needed to run again.
///
/// ```
/// use upstill::{RunFile, plan_on, tokens::pocket_shards};
///
/// let file = RunFile::preset("standalone")?.with("data.shards", "pocket").with("model.hidden", 64).with("model.heads", 2);
/// let plan = plan_on(&file, &pocket_shards()?)?;
/// println!("{}", plan.describe(None)); // sizes, steps, memory, work
/// assert!(plan.estimate().student.total > 100_000);
/// # Ok::<(), upstill::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Plan {
    /// What trains what.
    pub method: Method,
    /// Decides initial weights, order, masks and dropout.
    pub seed: u64,
    /// The student; of several models that train together, the largest.
    pub model: ModelPlan,
    /// Whose predictions are the soft targets; `None` for a standalone run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<TeacherPlan>,
    /// The models of a co-training run, the largest first; none of other methods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<LearnerPlan>,
    /// The text and its rows.
    pub data: DataPlan,
    /// More shards whose held-out split the trained models are scored on, by a name for each; they move no weight.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held_out: BTreeMap<String, String>,
    /// The loss: weights, temperature, positions, start. A standalone run has `soft = 0`.
    pub distill: DistillPlan,
    /// Steps, batch and optimizer.
    pub train: TrainPlan,
    /// Where and how fast; never part of the results beyond rounding.
    pub runtime: RuntimePlan,
}

impl Serialize for Plan {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Plan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let mut plan = Self::deserialize(deserializer)?;
        // Not written twice: the teacher's vocabulary is the student's.
        let vocab_size = plan.model.shape.vocab_size();
        if let Some(TeacherPlan { model, others, .. }) = &mut plan.teacher {
            for model in model.iter_mut().chain(others.iter_mut().map(|other| &mut other.model)) {
                model.shape = model.shape.clone().with_vocabulary(vocab_size);
            }
        }
        Ok(plan)
    }
}

/// The teacher: a trained model, what one said earlier, a program, or (none of them, `from = "uniform"`) the uniform
/// distribution as a control.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherPlan {
    /// A run directory, a checkpoint or a Hugging Face folder; a cache of answers; a command line; or `uniform`.
    pub from: String,
    /// The model that was found there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<TeacherModel>,
    /// The answers that were found there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<AnswersPlan>,
    /// Seconds that a command may take to answer; of others none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<f64>,
    /// What its logits weigh in the mean of an ensemble; 1 where it is the only teacher.
    #[serde(default = "unit_weight", skip_serializing_if = "is_unit_weight")]
    pub weight: f64,
    /// The other models of an ensemble, in the order of their names; none where it is the only teacher.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<MemberPlan>,
}

impl TeacherPlan {
    /// Whether it is the uniform distribution.
    pub fn is_uniform(&self) -> bool {
        self.model.is_none() && self.is_in_memory()
    }

    /// Its models, those of an ensemble all of them; none where it is no model.
    pub fn models(&self) -> impl Iterator<Item = &TeacherModel> {
        self.model.iter().chain(self.others.iter().map(|other| &other.model))
    }

    /// Names what it says: the hash of its weights, or of an ensemble's weights of both kinds; none where it is no
    /// model.
    pub fn content(&self) -> Option<String> {
        let model = self.model.as_ref()?;
        if self.others.is_empty() {
            return Some(model.content_hash.clone());
        }
        let mut text = format!("{} {}", model.content_hash, self.weight);
        self.others.iter().for_each(|other| text += &format!("\n{} {}", other.model.content_hash, other.weight));
        Some(blake3::hash(text.as_bytes()).to_hex().to_string())
    }

    /// What it is where it is no model, in words.
    pub(crate) fn no_model(&self) -> Option<&'static str> {
        match self {
            Self { answers: Some(_), .. } => Some("a cache of answers"),
            Self { timeout_s: Some(_), .. } => Some("a program"),
            Self { from, .. } if from == UNIFORM => Some("the uniform distribution"),
            _ => None,
        }
    }

    /// Whether it is in memory while a student trains: neither answers on disk nor a program.
    pub fn is_in_memory(&self) -> bool {
        self.answers.is_none() && self.timeout_s.is_none()
    }
}

/// A model that a run trains: its shape, its loss, its optimizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearnerPlan {
    /// What it is called in folders, logs and reports.
    pub name: String,
    /// Decides its initial weights and its dropout.
    pub seed: u64,
    /// Weight of its hard loss.
    pub hard: Schedule,
    /// Learning rate.
    pub lr: Schedule,
    /// Update rule.
    pub optimizer: OptimizerKind,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Weight decay; never on biases and layer norms.
    pub weight_decay: f64,
    /// Largest global gradient norm; 0 does not clip.
    pub clip: f64,
    /// Whom it learns from; a direction whose weight is always 0 is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<SourcePlan>,
    /// Its sizes, and how its weights are drawn.
    #[serde(rename = "shape")]
    pub model: ModelPlan,
}

/// Whom a model learns from: another model of the run, or the fixed [`TEACHER`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourcePlan {
    /// Whose predictions are the soft targets.
    pub name: String,
    /// Weight of this soft loss.
    pub soft: Schedule,
    /// Temperature of both softmaxes of this soft loss.
    pub temperature: Schedule,
}

impl LearnerPlan {
    /// Its parameters, and those without its head.
    pub fn parameters(&self) -> Parameters {
        self.model.shape.parameters()
    }

    /// The run's training plan with this model's optimizer, rate and clipping.
    pub fn train(&self, run: &TrainPlan) -> TrainPlan {
        TrainPlan {
            lr: self.lr.clone(),
            optimizer: self.optimizer,
            epsilon: self.epsilon,
            weight_decay: self.weight_decay,
            clip: self.clip,
            ..run.clone()
        }
    }
}

/// The text and how it becomes rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataPlan {
    /// A folder of shards, or `pocket` for the embedded language.
    pub shards: String,
    /// blake3 of the shards' content.
    pub shards_hash: String,
    /// Hash of the tokenizer.
    pub tokenizer_hash: String,
    /// Sentences in the training split.
    pub sentences: u64,
    /// Their tokens, without special tokens.
    pub tokens: u64,
    /// Tokens of the longest one, without special tokens.
    pub longest_sentence: usize,
    /// One sentence a row, or several.
    pub rows: Rows,
    /// Tokens in a row, `[CLS]`, `[SEP]` and padding included.
    pub length: usize,
    /// Rows of one pass over the training split.
    pub rows_per_epoch: u64,
    /// Real tokens of a row on average, `[CLS]` and `[SEP]` included.
    pub tokens_per_row: f64,
    /// Share of real tokens that are predicted; where it changes, the highest, which decides slots and packing. 0 of
    /// causal models, from which nothing is hidden.
    pub mask_rate: f64,
    /// The share at each step, where it changes. Left out of `plan.toml` elsewhere, as in plans from before this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_schedule: Option<Schedule>,
    /// That of held-out rows, where it is another. Left out of `plan.toml` elsewhere, as in plans from before this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out_mask_rate: Option<f64>,
    /// Slots of a row that are asked; unused ones have weight 0.
    pub slots: usize,
    /// Whether a word's pieces are masked together.
    pub whole_word: bool,
    /// Exponent r of masking by rarity, P(token) ~ count^-r; 0 is uniform.
    pub rarity: f64,
}

/// The objective: equation 3 of the paper, `hard * H + soft * S`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistillPlan {
    /// Weight of the hard loss, alpha_h.
    pub hard: Schedule,
    /// Weight of the soft loss, alpha_s; 0 for a standalone run.
    pub soft: Schedule,
    /// Temperature tau of both softmaxes of the soft loss.
    pub temperature: Schedule,
    /// Whether the soft loss is multiplied by tau^2 (Hinton et al. 2015); the paper's equation has no such factor.
    pub tau_squared: bool,
    /// How far the student is from its teacher.
    #[serde(default, skip_serializing_if = "Divergence::is_kl")]
    pub divergence: Divergence,
    /// At which slots it is taken.
    #[serde(default, skip_serializing_if = "Gate::is_open")]
    pub gate: Gate,
    /// How far below its teacher's held-out loss a student's is, in nats, when the soft weight has faded to 0; 0 where
    /// it does not fade.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fade: f64,
    /// Weight of the loss between last layers, 1 minus the cosine; none where there is no such loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cosine: Option<Schedule>,
    /// The losses between other layers.
    #[serde(default, skip_serializing_if = "LayerLosses::is_empty")]
    pub layers: LayerLosses,
    /// Where the soft loss is taken, and the one between last layers.
    pub positions: Positions,
    /// How the student starts.
    pub start: Start,
    /// Share of the hard target that is spread evenly over the vocabulary; 0 is the paper's.
    pub label_smoothing: f64,
}

impl DistillPlan {
    /// The weights of losses between layers.
    pub fn features(&self) -> impl Iterator<Item = (FeatureKind, &Schedule)> {
        let cosine = self.cosine.iter().map(|weight| (FeatureKind::Cosine, weight));
        cosine.chain(self.layers.iter().map(|(kind, plan)| (kind, &plan.weight)))
    }
}

/// Steps, batch and optimizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainPlan {
    /// Optimizer steps.
    pub steps: u64,
    /// Rows an optimizer step, over all devices and micro-batches; where they change, the most.
    pub batch: usize,
    /// Rows of each step, to be rounded, where they change. Left out of `plan.toml` elsewhere, as in plans from before
    /// this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_schedule: Option<Schedule>,
    /// Learning rate.
    pub lr: Schedule,
    /// Update rule.
    pub optimizer: OptimizerKind,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Weight decay; never on biases and layer norms.
    pub weight_decay: f64,
    /// Largest global gradient norm; 0 does not clip.
    pub clip: f64,
    /// Steps between two held-out evaluations; the last step is always evaluated.
    pub evaluate_every: u64,
    /// Held-out rows an evaluation.
    pub evaluate_rows: usize,
    /// Held-out rows that come before those and are left out: rows for choosing settings are then others than rows for
    /// results.
    #[serde(default, skip_serializing_if = "is_none_left_out")]
    pub evaluate_after: usize,
    /// Steps between two checkpoints; the last step always has one.
    pub checkpoint_every: u64,
    /// Checkpoints kept besides the best one.
    pub keep_checkpoints: usize,
    /// Steps done at which there is a checkpoint too, which is kept: where other runs go on from this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep_at: Vec<u64>,
}

impl DataPlan {
    /// Share of real tokens that is predicted of held-out rows.
    pub fn held_out_rate(&self) -> f64 {
        self.held_out_mask_rate.unwrap_or(self.mask_rate)
    }
}

impl TrainPlan {
    /// Whether there is a checkpoint when so many steps are done.
    pub fn has_checkpoint(&self, done: u64) -> bool {
        done == self.steps
            || self.keep_at.contains(&done)
            || self.checkpoint_every > 0 && done.is_multiple_of(self.checkpoint_every)
    }
}

/// Where and how fast: may change speed, never results beyond rounding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimePlan {
    /// `auto`, `cpu`, `wgpu`, ... as written; the device room reads it.
    pub device: String,
    /// Number format of the forward and backward pass.
    pub precision: PrecisionChoice,
    /// Which kernels run where there are several; `None` for those that measured best on the device. Left out of
    /// `plan.toml` then, whose hash is that of plans from before this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernels: Option<Kernels>,
    /// Rows at once on one device; a batch, or a worker's share of it, is split into these.
    pub micro_batch: usize,
    /// Copies of the models that share each batch, a GPU each.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub workers: usize,
    /// CPU threads, of all workers together; 0 takes all.
    pub threads: usize,
    /// The numbers in which several processes send each other gradients.
    #[serde(default, skip_serializing_if = "SumDtype::is_f32")]
    pub sum_dtype: SumDtype,
}

fn is_none_left_out(rows: &usize) -> bool {
    *rows == 0
}

fn one() -> usize {
    1
}

fn is_one(workers: &usize) -> bool {
    *workers == 1
}

impl Plan {
    /// Passes over the training split.
    pub fn epochs(&self) -> f64 {
        self.train.all_rows() / self.data.rows_per_epoch.max(1) as f64
    }

    /// The plan of each of so many processes that share its batches: no more rows at once than a worker's share.
    #[must_use]
    pub fn shared_by(&self, ranks: usize) -> Self {
        let mut plan = self.clone();
        let workers = self.runtime.workers.max(1) * ranks.max(1);
        plan.runtime.micro_batch = self.runtime.micro_batch.min(self.train.batch.div_ceil(workers)).max(1);
        plan
    }

    /// Rows at once on a device: no more than the largest share of a batch.
    pub fn rows_at_once(&self) -> usize {
        self.runtime.micro_batch.min(self.train.batch.div_ceil(self.runtime.workers.max(1))).max(1)
    }

    /// Writes `plan.toml`, whole or not at all.
    ///
    /// # Errors
    /// As the file system says.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_text(path, &self.to_file())
    }

    /// The text of `plan.toml`.
    pub fn to_file(&self) -> String {
        sealed_toml(&self.to_toml())
    }

    /// Reads a `plan.toml`.
    ///
    /// # Errors
    /// A file that can't be read, was altered, or is not a plan.
    pub fn load(path: &Path) -> Result<Self> {
        read_plan(path, "a plan", "a plan.toml is written by `upstill train`; start again from the run file")
    }

    /// The plan as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a plan is tables of numbers and text, which TOML has")
    }

    /// Names a study's cell: 16 hex digits over everything that changes results.
    ///
    /// Left out are `[runtime]`, checkpoints, `[held_out]`, and paths: teacher and shards count by their content.
    pub fn hash(&self) -> String {
        blake3::hash(self.counted().to_toml().as_bytes()).to_hex()[..16].to_owned()
    }

    /// What makes this plan another than `there`, of all that the hash counts: a line a key.
    pub fn differences(&self, there: &Self) -> Vec<String> {
        let table = |plan: &Self| plan.counted().to_toml().parse().expect("a plan's own text is TOML");
        differences(&table(there), &table(self))
    }

    /// This plan without what its hash leaves out.
    fn counted(&self) -> Self {
        let mut plan = self.clone();
        plan.runtime = RuntimePlan {
            device: String::new(),
            precision: PrecisionChoice::F32,
            kernels: None,
            micro_batch: 0,
            workers: 1,
            threads: 0,
            sum_dtype: SumDtype::F32,
        };
        (plan.train.checkpoint_every, plan.train.keep_checkpoints) = (0, 0);
        plan.train.keep_at.clear();
        plan.data.shards.clear();
        plan.held_out.clear();
        if let Some(teacher) = &mut plan.teacher {
            // What a command line says is all that is known of its program.
            if teacher.model.is_some() || teacher.answers.is_some() {
                teacher.from.clear();
            }
            teacher.timeout_s = teacher.timeout_s.map(|_| 0.0);
            teacher.others.iter_mut().for_each(|other| (other.name, other.from) = (String::new(), String::new()));
        }
        plan
    }
}

/// A plan read from its `plan.toml`, checked against its checksum where it has one: `what` it should be, and what to do
/// where it is something else.
pub(super) fn read_plan<P: DeserializeOwned>(path: &Path, what: &str, help: &str) -> Result<P> {
    let text = read_toml(path).map_err(|error| {
        error.help("put the file back as it was; if it was changed on purpose, delete its first line, the checksum")
    })?;
    toml::from_str(&text).map_err(|error| {
        Error::new(format!("this is not {what}: {}", error.to_string().trim_end())).at(path.display()).help(help)
    })
}

words! {
    /// What trains what.
    Method {
        /// Masked language modelling alone.
        Standalone = "standalone",
        /// Distillation from a weak teacher (Lee et al. 2023).
        Dwt = "dwt",
        /// A small and a large model that teach each other (Lee et al. 2023b).
        Cotrain = "cotrain",
        /// A fine-tuned BERT into a BiLSTM over a transfer set (Mukherjee & Awadallah 2019).
        Transfer = "transfer",
    }
}

words! {
    /// How sentences become rows.
    Rows {
        /// One sentence a row, padded (the paper).
        Sentence = "sentence",
        /// Several sentences a row, each attending only to itself with positions from 0: the same losses, less padding.
        Packed = "packed",
    }
}

words! {
    /// Where the soft loss is taken.
    Positions {
        /// At the masked tokens; of a causal model, wherever it is asked.
        Masked = "masked",
        /// At every real token.
        All = "all",
    }
}

words! {
    /// How a student starts.
    Start {
        /// Random weights.
        Fresh = "fresh",
        /// The teacher's weights, layer by layer (the paper's A.3).
        Remap = "remap",
        /// The teacher itself, with its sizes: what is trained goes on from there.
        Continue = "continue",
    }
}

words! {
    /// Update rule.
    OptimizerKind {
        /// Adam (weight decay, if any, joins the gradient).
        Adam = "adam",
        /// Adam with decoupled weight decay.
        AdamW = "adamw",
        /// Adadelta with Keras's rho 0.95 and epsilon 1e-7.
        AdadeltaKeras = "adadelta-keras",
        /// Adadelta with PyTorch's rho 0.9 and epsilon 1e-6.
        AdadeltaPyTorch = "adadelta-pytorch",
        /// AdamW whose rate falls where a gradient is larger than expected (Wortsman et al. 2023).
        StableAdamW = "stable-adamw",
        /// Orthogonal momentum for hidden matrices, AdamW for tables and vectors (Jordan et al. 2024; Liu et al. 2025).
        Muon = "muon",
    }
}

words! {
    /// In which numbers several processes send each other gradients and losses.
    #[derive(Default)]
    SumDtype {
        /// As they are.
        #[default]
        F32 = "f32",
        /// Rounded to bfloat16 before they are sent, summed in 32 bits, and rounded once more: half of the bytes.
        Bf16 = "bf16",
    }
}

impl SumDtype {
    /// Left out of `plan.toml`, as in plans from before this key.
    fn is_f32(&self) -> bool {
        *self == SumDtype::F32
    }

    /// Bytes of a number.
    pub fn bytes(self) -> usize {
        match self {
            SumDtype::F32 => 4,
            SumDtype::Bf16 => 2,
        }
    }
}

impl OptimizerKind {
    /// Adadelta's decay of both its means; none of rules that have betas.
    pub fn rho(self) -> Option<f64> {
        match self {
            Self::Adam | Self::AdamW | Self::StableAdamW | Self::Muon => None,
            Self::AdadeltaKeras => Some(0.95),
            Self::AdadeltaPyTorch => Some(0.9),
        }
    }

    /// What is added to the root of the second moment unless a run says otherwise.
    pub fn epsilon(self) -> f64 {
        if self == Self::AdadeltaKeras { 1e-7 } else { 1e-6 }
    }
}
