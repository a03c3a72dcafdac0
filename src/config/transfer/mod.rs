//! The run file of `method = "transfer"`: its keys, and the plan that they come to.

mod check;
mod keys;
mod words;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use keys::TRANSFER_KEYS;
pub use words::{ElementKind, EncoderKind, LogitTargets, Padding, States, Targets, TokenKind, TransferSchedule, Vector};

use super::differences::differences;
use super::plan::read_plan;
use super::{Method, OptimizerKind, RunFile};
use crate::error::Result;
use crate::files::manifest::sealed_toml;
use crate::files::write_text;

/// Everything about a transfer run, resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferPlan {
    /// `transfer`.
    pub method: Method,
    /// Decides the split, initial weights, order and dropout.
    pub seed: u64,
    /// The student.
    pub model: TransferModel,
    /// The teacher; a student of words without targets needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<TransferTeacher>,
    /// The task and its texts.
    pub data: TransferData,
    /// The losses.
    pub distill: TransferDistill,
    /// Steps and optimizer.
    pub train: TransferTrain,
    /// The device it runs on; no part of the hash.
    pub device: String,
}

/// The student's dimensions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferModel {
    /// BiLSTM, BERT or ModernBERT.
    pub encoder: EncoderKind,
    /// What it reads.
    pub tokens: TokenKind,
    /// Words at most, where it reads words.
    pub vocabulary: usize,
    /// Width of a word vector.
    pub words: usize,
    /// Units of a direction, or a BERT's or ModernBERT's width.
    pub hidden: usize,
    /// A BERT's or ModernBERT's layers.
    pub layers: usize,
    /// Its attention heads.
    pub heads: usize,
    /// A pre-trained model of the encoder's family to start from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// A GloVe text file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glove: Option<String>,
    /// States to one vector.
    pub states: States,
    /// Whether padding is read.
    pub padding: Padding,
    /// Width of the projection: the teacher's unless written; 0 leaves it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projection: Option<usize>,
    /// Dropout after every layer.
    pub dropout: f64,
    /// Dropout of the LSTMs' inputs.
    pub input_dropout: f64,
    /// Dropout of the LSTMs' recurrent states.
    pub recurrent_dropout: f64,
}

/// The teacher, and how it is fine-tuned where it is not yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferTeacher {
    /// A fine-tuned classifier's folder, or a pre-trained model's.
    pub from: String,
    /// What stands for a text.
    pub representation: Vector,
    /// Rate of fine-tuning.
    pub lr: f64,
    /// Passes of fine-tuning.
    pub epochs: f64,
    /// Rows a step of fine-tuning.
    pub batch: usize,
}

/// The task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferData {
    /// A pocket task's name, or what the files' task is called.
    pub task: String,
    /// Labelled rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<String>,
    /// Rows that are scored at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<String>,
    /// Text without labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlabelled: Option<String>,
    /// The column of the text.
    pub text: String,
    /// The column of a pair's second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text2: Option<String>,
    /// The column of the label.
    pub label: String,
    /// Labelled rows of each class; 0 keeps all labels.
    pub per_class: usize,
    /// Transfer rows at most; 0 takes all.
    pub transfer: usize,
    /// Test rows at most; 0 takes all.
    pub test_rows: usize,
    /// Share for validation.
    pub validation: f64,
    /// Longest row in tokens.
    pub length: usize,
}

/// Equation 8 and its schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferDistill {
    /// What is taken from the teacher.
    pub targets: Targets,
    /// The order in which the losses are taken.
    pub schedule: TransferSchedule,
    /// Weight of the cross-entropy, also of the teacher's hard labels.
    pub alpha: f64,
    /// Weight of the representation loss.
    pub beta: f64,
    /// Weight of the logit loss.
    pub gamma: f64,
    /// What its targets are.
    pub logits: LogitTargets,
    /// Log-odds are cut to this size.
    pub largest_logit: f64,
    /// How squares become losses.
    pub elements: ElementKind,
    /// Whether the stage on labels draws new heads (the authors' code).
    pub new_heads: bool,
}

/// Steps, early stopping and the optimizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferTrain {
    /// Rows a step.
    pub batch: usize,
    /// Rounds of a phase at most.
    pub rounds: u64,
    /// Rounds without a better validation loss before a phase ends.
    pub patience: u64,
    /// Steps of a round at least: with few labels a pass is a step or two.
    pub round_steps: u64,
    /// Learning rate.
    pub lr: f64,
    /// Update rule; its state is new in each phase.
    pub optimizer: OptimizerKind,
    /// Largest gradient norm; 0 does not clip.
    pub clip: f64,
}

impl RunFile {
    /// A transfer run's plan.
    ///
    /// # Errors
    /// One error with every mistake.
    pub fn resolve_transfer(&self) -> Result<TransferPlan> {
        let plan = draft(self);
        match self.error(check::mistakes(self, &plan)) {
            Some(error) => Err(error),
            None => Ok(plan),
        }
    }
}

fn draft(file: &RunFile) -> TransferPlan {
    let whole = |path| file.whole(path) as usize;
    let optimizer = file.word("train.optimizer", OptimizerKind::from_word, OptimizerKind::AdadeltaKeras);
    let is_adadelta = matches!(optimizer, OptimizerKind::AdadeltaKeras | OptimizerKind::AdadeltaPyTorch);
    let hidden = whole("model.hidden");
    TransferPlan {
        method: Method::Transfer,
        seed: file.whole("seed"),
        model: TransferModel {
            encoder: file.word("model.encoder", EncoderKind::from_word, EncoderKind::BiLstm),
            tokens: file.word("model.tokens", TokenKind::from_word, TokenKind::Pieces),
            vocabulary: whole("model.vocabulary"),
            words: whole("model.words"),
            hidden,
            layers: whole("model.layers"),
            heads: file.try_whole("model.heads").map_or((hidden / 64).max(1), |heads| heads as usize),
            from: file.text("model.from"),
            glove: file.text("model.glove"),
            states: file.word("model.states", States::from_word, States::Max),
            padding: file.word("model.padding", Padding::from_word, Padding::LeftOut),
            projection: file.try_whole("model.projection").map(|width| width as usize),
            dropout: file.number("model.dropout"),
            input_dropout: file.number("model.input_dropout"),
            recurrent_dropout: file.number("model.recurrent_dropout"),
        },
        teacher: file.text("teacher.from").map(|from| TransferTeacher {
            from,
            representation: file.word("teacher.representation", Vector::from_word, Vector::Pooled),
            lr: file.number("teacher.lr"),
            epochs: file.number("teacher.epochs"),
            batch: whole("teacher.batch"),
        }),
        data: TransferData {
            task: file.text("data.task").unwrap_or_default(),
            train: file.text("data.train"),
            test: file.text("data.test"),
            unlabelled: file.text("data.unlabelled"),
            text: file.text("data.text").unwrap_or_default(),
            text2: file.text("data.text2"),
            label: file.text("data.label").unwrap_or_default(),
            per_class: whole("data.per_class"),
            transfer: whole("data.transfer"),
            test_rows: whole("data.test_rows"),
            validation: file.number("data.validation"),
            length: whole("data.length"),
        },
        distill: TransferDistill {
            targets: file.word("distill.targets", Targets::from_word, Targets::Soft),
            schedule: file.word("distill.schedule", TransferSchedule::from_word, TransferSchedule::Joint),
            alpha: file.number("distill.alpha"),
            beta: file.number("distill.beta"),
            gamma: file.number("distill.gamma"),
            logits: file.word("distill.logits", LogitTargets::from_word, LogitTargets::LogOdds),
            largest_logit: file.number("distill.largest_logit"),
            elements: file.word("distill.elements", ElementKind::from_word, ElementKind::Mean),
            new_heads: file.flag("distill.new_heads"),
        },
        train: TransferTrain {
            batch: whole("train.batch"),
            rounds: file.whole("train.rounds"),
            patience: file.whole("train.patience"),
            round_steps: file.whole("train.round_steps"),
            lr: file.try_number("train.lr").unwrap_or(if is_adadelta { 1.0 } else { 1e-3 }),
            optimizer,
            clip: file.number("train.clip"),
        },
        device: file.text("runtime.device").unwrap_or_default(),
    }
}

impl TransferPlan {
    /// The plan as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a plan is tables of numbers and text, which TOML has")
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
    /// A file that can't be read, was altered, or is no transfer run's plan.
    pub fn load(path: &Path) -> Result<Self> {
        read_plan(path, "the plan of a transfer run", "choose another --out")
    }

    /// What makes this plan another than `there`, the device aside: a line a key.
    pub fn differences(&self, there: &Self) -> Vec<String> {
        let of = |plan: &Self| {
            let plan = Self { device: String::new(), ..plan.clone() };
            plan.to_toml().parse().expect("a plan's own text is TOML")
        };
        differences(&of(there), &of(self))
    }

    /// Names a study's cell: 16 hex digits over the plan without its device, and what the paths in it hold by content.
    pub fn hash(&self, contents: &str) -> String {
        let mut plan = self.clone();
        plan.device.clear();
        for path in
            [&mut plan.data.train, &mut plan.data.test, &mut plan.data.unlabelled, &mut plan.model.from, &mut plan.model.glove]
        {
            *path = path.as_ref().map(|_| String::new());
        }
        if let Some(teacher) = &mut plan.teacher {
            teacher.from.clear();
        }
        blake3::hash(format!("{}{contents}", plan.to_toml()).as_bytes()).to_hex()[..16].to_owned()
    }
}
