//! The run file of `method = "transfer"`: its keys, and the plan that they come to.

use serde::{Deserialize, Serialize};

use super::keys::{
    Fallback::{Rule, Value as Is},
    Key, Kind, key,
};
use super::mistakes::Mistakes;
use super::plan::words;
use super::schedule::number;
use super::{Method, OptimizerKind, RunFile};
use crate::error::Result;
use crate::files::write_text;

words! {
    /// What a student reads texts with.
    EncoderKind {
        /// Word vectors and an LSTM in each direction.
        BiLstm = "bilstm",
        /// A smaller BERT.
        Bert = "bert",
    }
}
words! {
    /// What a student's tokens are.
    TokenKind {
        /// The teacher's pieces of words.
        Pieces = "pieces",
        /// Words in lower case, split at white space.
        Words = "words",
    }
}
words! {
    /// How an LSTM's states become one vector.
    States {
        /// The largest of each unit over time.
        Max = "max",
        /// The last ones.
        Last = "last",
    }
}
words! {
    /// Whether the BiLSTM reads padding.
    Padding {
        /// It does not.
        LeftOut = "left-out",
        /// It does, up to the row's length, as in the authors' code.
        Seen = "seen",
    }
}
words! {
    /// Which of the teacher's vectors the student comes close to.
    Vector {
        /// The pooler's output (the authors' code).
        Pooled = "pooled",
        /// The last layer's `[CLS]` (the paper's words).
        Cls = "cls",
    }
}
words! {
    /// What the student takes from the teacher.
    Targets {
        /// Nothing: it learns from the labels alone.
        None = "none",
        /// The likeliest class.
        Hard = "hard",
        /// Logits and representation.
        Soft = "soft",
    }
}
words! {
    /// In which order the losses are taken (section 5).
    TransferSchedule {
        /// All at once, equation 8.
        Joint = "joint",
        /// The representation first; then logits and labels, layers unfrozen from the top.
        Stagewise = "stagewise",
        /// Representation and logits first; then labels, layers unfrozen from the top.
        DistilOnce = "distil-once",
    }
}
words! {
    /// What the logit loss's targets are.
    LogitTargets {
        /// log(p / (1 - p)), as the paper writes.
        LogOdds = "log-odds",
        /// The teacher's logits as they are.
        Raw = "raw",
    }
}
words! {
    /// How the squares of equations 5 and 7 become a row's loss.
    ElementKind {
        /// Their mean.
        Mean = "mean",
        /// Half their sum.
        Sum = "sum",
    }
}

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
    /// Where it runs; not part of the hash.
    pub device: String,
}

/// The student's dimensions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferModel {
    /// BiLSTM or BERT.
    pub encoder: EncoderKind,
    /// What it reads.
    pub tokens: TokenKind,
    /// Words at most, where it reads words.
    pub vocabulary: usize,
    /// Width of a word vector.
    pub words: usize,
    /// Units of a direction, or a BERT's width.
    pub hidden: usize,
    /// A BERT's layers.
    pub layers: usize,
    /// A BERT's heads.
    pub heads: usize,
    /// A pre-trained BERT to start from.
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
    /// Of what the LSTMs read.
    pub input_dropout: f64,
    /// Of their states.
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
    /// In which order.
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

/// Every key of a transfer run file.
pub const TRANSFER_KEYS: &[Key] = &[
    key("method", Kind::Word(Method::WORDS), Rule("required"), "\"transfer\""),
    key("seed", Kind::Whole, Is("0"), "decides the split, initial weights, order and dropout"),
    key("model.encoder", Kind::Word(EncoderKind::WORDS), Is("\"bilstm\""), "what the student reads texts with"),
    key("model.tokens", Kind::Word(TokenKind::WORDS), Is("\"pieces\""), "the teacher's pieces, or words split at white space"),
    key("model.vocabulary", Kind::Whole, Is("30000"), "words at most, where it reads words"),
    key("model.words", Kind::Whole, Is("300"), "width of a word vector"),
    key("model.hidden", Kind::Whole, Is("600"), "units of a direction, or a BERT's width"),
    key("model.layers", Kind::Whole, Is("2"), "a BERT's layers"),
    key("model.heads", Kind::Whole, Rule("hidden / 64"), "a BERT's attention heads"),
    key("model.from", Kind::Text, Rule("none"), "a pre-trained BERT to start the student from"),
    key("model.glove", Kind::Text, Rule("none"), "word vectors: a GloVe text file of model.words numbers a line"),
    key("model.states", Kind::Word(States::WORDS), Is("\"max\""), "how the states of all steps become one vector"),
    key(
        "model.padding",
        Kind::Word(Padding::WORDS),
        Is("\"left-out\""),
        "whether the BiLSTM reads padding (the authors' code does)",
    ),
    key("model.projection", Kind::Whole, Rule("the teacher's width"), "width of the projection; 0 leaves it out"),
    key("model.dropout", Kind::Number, Is("0.4"), "dropout after every layer; 0 switches all dropout off"),
    key("model.input_dropout", Kind::Number, Is("0.2"), "dropout of what the LSTMs read"),
    key("model.recurrent_dropout", Kind::Number, Is("0.2"), "dropout of their states"),
    key(
        "teacher.from",
        Kind::Text,
        Rule("none"),
        "a fine-tuned classifier, or a pre-trained model to fine-tune on the labelled rows",
    ),
    key("teacher.representation", Kind::Word(Vector::WORDS), Is("\"pooled\""), "the vector that the student comes close to"),
    key("teacher.lr", Kind::Number, Is("2e-5"), "rate of fine-tuning"),
    key("teacher.epochs", Kind::Number, Is("3.0"), "passes of fine-tuning"),
    key("teacher.batch", Kind::Whole, Is("32"), "rows a step of fine-tuning"),
    key("data.task", Kind::Text, Rule("required"), "a pocket task, or what the files' task is called"),
    key("data.train", Kind::Text, Rule("none"), "a labelled .tsv, .csv, .jsonl or .parquet file"),
    key("data.test", Kind::Text, Rule("none"), "a labelled file to be scored on at the end"),
    key(
        "data.unlabelled",
        Kind::Text,
        Rule("none"),
        "texts without labels: a table with the text's column, or text with one a line",
    ),
    key("data.text", Kind::Text, Is("\"text\""), "the column of the text"),
    key("data.text2", Kind::Text, Rule("none"), "the column of a pair's second text"),
    key("data.label", Kind::Text, Is("\"label\""), "the column of the label"),
    key(
        "data.per_class",
        Kind::Whole,
        Is("500"),
        "rows of each class that keep their label; the others join the transfer set; 0 keeps all",
    ),
    key("data.transfer", Kind::Whole, Is("0"), "transfer rows at most; 0 takes all"),
    key("data.test_rows", Kind::Whole, Is("0"), "test rows at most, drawn; 0 takes all"),
    key("data.validation", Kind::Number, Is("0.1"), "share of labelled and transfer rows that early stopping looks at"),
    key("data.length", Kind::Whole, Is("128"), "longest row in tokens"),
    key("distill.targets", Kind::Word(Targets::WORDS), Is("\"soft\""), "what the student takes from the teacher"),
    key("distill.schedule", Kind::Word(TransferSchedule::WORDS), Is("\"joint\""), "in which order the losses are taken"),
    key("distill.alpha", Kind::Number, Is("10.0"), "weight of the cross-entropy"),
    key("distill.beta", Kind::Number, Is("10.0"), "weight of the representation loss"),
    key("distill.gamma", Kind::Number, Is("1.0"), "weight of the logit loss"),
    key("distill.logits", Kind::Word(LogitTargets::WORDS), Is("\"log-odds\""), "log(p / (1 - p)), or logits as they are"),
    key("distill.largest_logit", Kind::Number, Is("13.8"), "log-odds are cut here; 13.8 is p = 0.999999"),
    key("distill.elements", Kind::Word(ElementKind::WORDS), Is("\"mean\""), "mean of squares, or half their sum as printed"),
    key("distill.new_heads", Kind::Flag, Is("false"), "draw new heads for the stages with labels (the authors' code)"),
    key("train.batch", Kind::Whole, Is("64"), "rows a step; half labelled, half transfer, where both are read"),
    key("train.rounds", Kind::Whole, Is("200"), "rounds of a phase at most; a round is a pass, or round_steps"),
    key("train.patience", Kind::Whole, Is("5"), "rounds without a better validation loss before a phase ends"),
    key("train.round_steps", Kind::Whole, Is("20"), "steps of a round at least"),
    key("train.lr", Kind::Number, Rule("1 for Adadelta, 1e-3 else"), "learning rate"),
    key("train.optimizer", Kind::Word(OptimizerKind::WORDS), Is("\"adadelta-keras\""), "update rule"),
    key("train.clip", Kind::Number, Is("0.0"), "largest global gradient norm; 0 does not clip"),
    key("runtime.device", Kind::Text, Is("\"auto\""), "auto, cpu or wgpu"),
];

impl RunFile {
    /// A transfer run's plan.
    ///
    /// # Errors
    /// One error with every mistake.
    pub fn resolve_transfer(&self) -> Result<TransferPlan> {
        let plan = draft(self);
        match check(self, &plan).into_error(self.place()) {
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

fn check(file: &RunFile, plan: &TransferPlan) -> Mistakes {
    let mut out = file.mistakes.clone();
    let TransferPlan { model, teacher, data, distill, train, .. } = plan;
    let needs_teacher = distill.targets != Targets::None || model.tokens == TokenKind::Pieces;
    if teacher.is_none() && needs_teacher && !out.names("teacher.from") {
        out.add(
            "teacher.from",
            "is missing: the student takes its targets or its tokens from a teacher",
            "name a fine-tuned classifier's or a pre-trained model's folder; or write targets = \"none\" and tokens = \"words\"",
        );
    }
    if data.task.is_empty() && !out.names("data.task") {
        out.add("data.task", "is missing", "name a pocket task (\"pocket-sentiment\"), or call the files' task something");
    }
    if data.train.is_some() != data.test.is_some() {
        let key = if data.train.is_some() { "data.test" } else { "data.train" };
        out.add(key, "is missing", "files of a task are two at least: data.train and data.test");
    }
    for (key, value) in [
        ("model.words", model.words),
        ("model.hidden", model.hidden),
        ("model.layers", model.layers),
        ("model.heads", model.heads),
        ("model.vocabulary", model.vocabulary),
        ("train.batch", train.batch),
        ("train.rounds", train.rounds as usize),
        ("train.patience", train.patience as usize),
        ("train.round_steps", train.round_steps as usize),
    ] {
        if value == 0 {
            out.add(key, "is 0", "write 1 or more");
        }
    }
    if data.length < 3 {
        out.add("data.length", format!("is {}", data.length), "write 3 or more");
    }
    if train.batch == 1 && distill.targets != Targets::None {
        out.add("train.batch", "is 1, and half of a batch is labelled", "write 2 or more");
    }
    if model.encoder == EncoderKind::Bert {
        bert(model, &mut out);
    }
    for (key, share) in [
        ("model.dropout", model.dropout),
        ("model.input_dropout", model.input_dropout),
        ("model.recurrent_dropout", model.recurrent_dropout),
    ] {
        if !(0.0..1.0).contains(&share) {
            out.add(key, format!("is {}", number(share)), "write a number from 0 to below 1");
        }
    }
    if !(data.validation > 0.0 && data.validation < 1.0) {
        out.add("data.validation", format!("is {}", number(data.validation)), "write a number between 0 and 1, such as 0.1");
    }
    for (key, weight) in [("distill.alpha", distill.alpha), ("distill.beta", distill.beta), ("distill.gamma", distill.gamma)] {
        if weight < 0.0 {
            out.add(key, format!("a weight of {} is negative", number(weight)), "write weights of 0 or more");
        }
    }
    if distill.alpha == 0.0 && (distill.targets != Targets::Soft || distill.beta == 0.0 && distill.gamma == 0.0) {
        out.add("distill.alpha", "is 0: there is nothing to learn", "write alpha = 10.0");
    }
    let rates = [("train.lr", train.lr), ("distill.largest_logit", distill.largest_logit)];
    let tuning = teacher.iter().flat_map(|teacher| [("teacher.lr", teacher.lr), ("teacher.epochs", teacher.epochs)]);
    for (key, value) in rates.into_iter().chain(tuning) {
        if value <= 0.0 {
            out.add(key, format!("is {}", number(value)), "write a number above 0");
        }
    }
    if model.projection == Some(0) && distill.targets == Targets::Soft && distill.beta > 0.0 {
        out.add(
            "model.projection",
            "is 0, and the representation loss wants the teacher's width",
            "leave it out, or write distill.beta = 0.0",
        );
    }
    out
}

fn bert(model: &TransferModel, out: &mut Mistakes) {
    if model.heads > 0 && !model.hidden.is_multiple_of(model.heads) {
        out.add(
            "model.heads",
            format!("{} heads do not divide the width, model.hidden = {}", model.heads, model.hidden),
            "write another number of heads",
        );
    }
    if model.tokens == TokenKind::Words {
        out.add("model.tokens", "a BERT student reads the teacher's pieces", "write tokens = \"pieces\"");
    }
    if model.glove.is_some() {
        out.add("model.glove", "word vectors are for a BiLSTM student", "leave it out");
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
    pub fn save(&self, path: &std::path::Path) -> Result<()> {
        write_text(path, &format!("# Everything about this run, resolved; written by upstill.\n{}", self.to_toml()))
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
