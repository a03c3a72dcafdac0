//! The student of a transfer run before step 1, and its folder after the last.

use std::path::Path;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::TransferOptions;
use super::teacher::{TransferTeacherModel, ready_teacher};
use crate::config::{EncoderKind, Padding, States, Targets, TokenKind, TransferPlan};
use crate::error::{Error, IoContext, Result};
use crate::files::manifest::check;
use crate::files::write_text;
use crate::methods::{Head, TextTokens};
use crate::model::{
    BertShape, BiLstmShape, EncoderShape, Glove, ModelFolder, ModernBertShape, Pooling, Shape, Student, StudentShape, Weights,
};
use crate::tasks::TransferTask;
use crate::tokens::{Tokenizer, Words};

/// What training starts from.
pub(super) struct Prepared {
    /// The teacher; `None` where the student takes nothing from it.
    pub teacher: Option<TransferTeacherModel>,
    pub tokens: TextTokens,
    pub student: Student,
}

/// The teacher (fine-tuned if need be), the student's tokens, and the student, on a device with autodiff.
pub(super) fn prepare(plan: &TransferPlan, task: &TransferTask, options: &TransferOptions) -> Result<Prepared> {
    let distils = plan.distill.targets != Targets::None;
    // A student that learns from labels alone takes its teacher's pieces and width, for a fair comparison, and nothing
    // else.
    let (teacher, pieces, width) = match &plan.teacher {
        Some(settings) if distils => {
            let teacher = ready_teacher(plan, settings, task, options.shared, options.device, options.console)?;
            let (tokenizer, width) = (teacher.tokenizer.clone(), teacher.shape.hidden());
            (Some(teacher), Some(tokenizer), width)
        }
        Some(settings) => {
            let folder = ModelFolder::open(Path::new(&settings.from))?;
            (None, Some(folder.tokenizer()?), folder.shape.hidden())
        }
        None => (None, None, 0),
    };
    let tokens = match (plan.model.tokens, pieces) {
        (TokenKind::Pieces, Some(tokenizer)) => TextTokens::Pieces(tokenizer),
        (TokenKind::Pieces, None) => {
            return Err(Error::new("the student reads its teacher's pieces, and there is no teacher").help("name teacher.from"));
        }
        (TokenKind::Words, _) => TextTokens::Words(count_words(task, plan.model.vocabulary)),
    };
    let projection = plan.model.projection.unwrap_or(width);
    if distils && plan.distill.targets == Targets::Soft && plan.distill.beta > 0.0 && projection != width {
        return Err(Error::new(format!("the projection is {projection} wide, and the teacher's representation {width}"))
            .help("leave model.projection out, or write distill.beta = 0.0"));
    }
    let shape = StudentShape { encoder: encoder(plan, &tokens)?, projection, classes: task.classes.len() };
    let student = shape.init(plan.seed, &options.device.handle.clone().autodiff());
    let student = started(plan, student, &tokens, options)?;
    Ok(Prepared { teacher, tokens, student })
}

/// Of the rows that are learnt from: neither validation nor test rows are looked at.
fn count_words(task: &TransferTask, most: usize) -> Words {
    let labelled = task.labelled.iter().flat_map(|row| std::iter::once(&row.first).chain(&row.second));
    let transfer = task.transfer.iter().flat_map(|row| std::iter::once(&row.first).chain(&row.second));
    Words::count(labelled.chain(transfer).map(String::as_str), most)
}

fn encoder(plan: &TransferPlan, tokens: &TextTokens) -> Result<EncoderShape> {
    let model = &plan.model;
    Ok(match (model.encoder, &model.from) {
        (EncoderKind::BiLstm, _) => EncoderShape::BiLstm(BiLstmShape {
            vocab_size: tokens.vocab().len(),
            words: model.words,
            hidden: model.hidden,
            pooling: match model.states {
                States::Max => Pooling::Max,
                States::Last => Pooling::Last,
            },
            input_dropout: model.input_dropout,
            recurrent_dropout: model.recurrent_dropout,
        }),
        (kind, Some(from)) => {
            let folder = ModelFolder::open(Path::new(from))?;
            // Before anything of the sizes that it claims is made.
            folder.check()?;
            let found = folder.shape.family();
            let (positions, vocab_size) = (folder.shape.max_positions(), folder.shape.vocab_size());
            if positions < plan.data.length || vocab_size < tokens.vocab().len() {
                return Err(Error::new(format!(
                    "the student has {positions} positions and {vocab_size} tokens; rows have up to {}, and the teacher {} tokens",
                    plan.data.length,
                    tokens.vocab().len()
                ))
                .at(from)
                .help("shorten data.length, or take a model with the teacher's vocabulary"));
            }
            match (kind, folder.shape) {
                (EncoderKind::Bert, Shape::Bert(shape)) => EncoderShape::Bert(shape),
                (EncoderKind::ModernBert, Shape::ModernBert(shape)) if !shape.is_causal => EncoderShape::ModernBert(shape),
                _ => {
                    return Err(Error::new(format!("model.from is a {found}, and model.encoder = \"{kind}\""))
                        .at(from)
                        .help("a student of a transfer run is a \"bilstm\", \"bert\" or \"modernbert\": write the one that the folder holds"));
                }
            }
        }
        (EncoderKind::Bert, None) => {
            EncoderShape::Bert(BertShape::new(tokens.vocab().len(), model.hidden, model.layers, model.heads, plan.data.length))
        }
        (EncoderKind::ModernBert, None) => EncoderShape::ModernBert(ModernBertShape::new(
            tokens.vocab().len(),
            model.hidden,
            model.layers,
            model.heads,
            plan.data.length,
        )),
    })
}

/// The student with what it starts from: word vectors, or a pre-trained encoder.
fn started(plan: &TransferPlan, student: Student, tokens: &TextTokens, options: &TransferOptions) -> Result<Student> {
    if let Some(path) = &plan.model.glove {
        let glove = Glove::read(Path::new(path), plan.model.words, tokens.vocab())?;
        options.console.note(&format!("{path}: vectors for {} of {} words", glove.len(), tokens.vocab().len()));
        return glove.put_into(student);
    }
    let Some(from) = plan.model.from.as_ref().filter(|_| plan.model.encoder != EncoderKind::BiLstm) else { return Ok(student) };
    let mut weights = Weights::of(&student);
    for (name, tensor) in ModelFolder::open(Path::new(from))?.weights()?.iter() {
        // Its body: heads are the student's own.
        if name.starts_with("bert.") || name.starts_with("model.") {
            weights.insert(name, tensor.clone());
        }
    }
    weights.load_into(student)
}

/// `config.json` of a student's folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudentSettings {
    /// `upstill-student`.
    pub model_type: String,
    /// What it is made of.
    pub shape: StudentShape,
    /// The classes' names, in the outputs' order.
    pub classes: Vec<String>,
    /// Longest row in tokens.
    pub length: usize,
    /// Whether padding is read.
    pub padding: Padding,
    /// Whether it answers with equation 4's head.
    pub answers_by_regression: bool,
}

/// The name that a student's `config.json` has for what it is.
const MODEL_TYPE: &str = "upstill-student";
/// The words of a student that reads words, a line each.
const WORDS: &str = "words.txt";

pub(super) fn write_student(
    folder: &Path,
    student: &Student,
    plan: &TransferPlan,
    tokens: &TextTokens,
    classes: &[String],
    head: Head,
) -> Result<()> {
    let settings = StudentSettings {
        model_type: MODEL_TYPE.to_owned(),
        shape: student.shape().clone(),
        classes: classes.to_vec(),
        length: plan.data.length,
        padding: plan.model.padding,
        answers_by_regression: head == Head::Regression,
    };
    match tokens {
        TextTokens::Pieces(tokenizer) => tokenizer.save(folder)?,
        TextTokens::Words(words) => write_text(&folder.join(WORDS), &(words.vocab().join("\n") + "\n"))?,
    }
    let text = serde_json::to_string_pretty(&settings).expect("settings in memory can be written") + "\n";
    write_text(&folder.join("config.json"), &text)?;
    Weights::of(student).write(&folder.join("model.safetensors"))
}

/// A student's folder (or its run's): the student on a device, what it reads, and its settings.
///
/// # Errors
/// When there is none, or its files don't belong together.
pub fn read_student(folder: &Path, device: &Device) -> Result<(Student, TextTokens, StudentSettings)> {
    let inside = folder.join("model");
    let folder = if folder.join("config.json").exists() { folder } else { &inside };
    check(folder)?;
    let path = folder.join("config.json");
    let text = std::fs::read_to_string(&path).doing("read", &path)?;
    let settings: StudentSettings = serde_json::from_str(&text).map_err(|error| {
        Error::new(format!("this is no student's config.json: {error}"))
            .at(path.display())
            .help("a student's folder is written by a run file with method = \"transfer\"")
    })?;
    let words = folder.join(WORDS);
    let tokens = match words.exists() {
        true => TextTokens::Words(Words::new(
            std::fs::read_to_string(&words).doing("read", &words)?.lines().map(str::to_owned).collect(),
        )),
        false => TextTokens::Pieces(Tokenizer::load(folder)?),
    };
    let weights = Weights::read(&folder.join("model.safetensors"))?;
    let student = settings.shape.load(&weights, device).map_err(|error| error.at(folder.display()))?;
    Ok((student, tokens, settings))
}
