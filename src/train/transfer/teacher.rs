//! The teacher of a transfer run: fine-tuned where it is not yet, and its outputs on texts, worked out once and kept.
//!
//! `SHARED/teachers/KEY/model` is a fine-tuned teacher, `SHARED/outputs/KEY/00000.safetensors` and so on its outputs, a
//! file for [`CHUNK`] texts (`logits [n, classes]`, `representations [n, d]`). A key is the hash of all that the
//! content depends on: of the teacher's weights, the texts and the settings. So nothing stale is ever found, and an
//! interrupted run goes on where it was.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use crate::config::{TransferPlan, TransferTeacher, Vector};
use crate::device::Device;
use crate::error::{Error, IoContext, Result};
use crate::files::manifest::{check, write_checksums};
use crate::files::{Lock, make_folder, write_folder, write_whole};
use crate::log::Console;
use crate::methods::{Classified, Representation, TextTokens, classify};
use crate::model::{Classifier, HostTensor, ModelFolder, Shape, TextRow, Weights};
use crate::tasks::{Example, TransferTask};
use crate::tokens::Tokenizer;
use crate::train::{FinetuneOptions, Finetuning, Pretrained, waiting};

/// Texts of one file of the cache: what an interruption can lose.
pub const CHUNK: usize = 256;

/// A classifier that is ready to teach.
pub struct TransferTeacherModel {
    /// The model, on a device without autodiff.
    pub model: Classifier,
    /// Its shape.
    pub shape: Shape,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Hash of its weights.
    pub hash: String,
}

/// The teacher of a plan, for the task's classes: read where its folder holds a classifier, else fine-tuned on the
/// labelled rows alone (validation and test rows are not looked at) and kept in `shared`.
///
/// # Errors
/// When the folder holds no model, its classifier has other classes than the task, or fine-tuning fails.
pub fn ready_teacher(
    plan: &TransferPlan,
    teacher: &TransferTeacher,
    task: &TransferTask,
    shared: &Path,
    device: &Device,
    console: &Console,
) -> Result<TransferTeacherModel> {
    let folder = ModelFolder::open(Path::new(&teacher.from))?;
    let pretrained = Pretrained::read(&folder)?;
    if pretrained.weights.get("classifier.weight").is_some() {
        return load(&folder, task, device);
    }
    let options = FinetuneOptions {
        lr: teacher.lr,
        batch: teacher.batch,
        length: plan.data.length,
        epochs: teacher.epochs,
        warmup: 0.1,
        dropout: folder.dropout().unwrap_or(FinetuneOptions::default().dropout),
        ..FinetuneOptions::default()
    };
    let labelled = task.labelled_task();
    let key = key(&[&pretrained.weights.hash(), &labelled.fingerprint(), &options.to_string(), &plan.seed.to_string()]);
    let kept = shared.join("teachers").join(&key).join("model");
    // Runs that share a teacher wait for the one that makes it.
    let _lock = Lock::wait_file(&shared.join("locks").join(format!("teacher-{key}")), &mut waiting(console, "the teacher"))?;
    let is_there = kept.join("config.json").exists();
    let is_whole = check(&kept);
    if let (true, Err(error)) = (is_there, &is_whole) {
        console.note(&format!("the teacher is fine-tuned again: {}: {}", kept.display(), error.what()));
    }
    if !is_there || is_whole.is_err() {
        let tuned = Finetuning::new(&pretrained, &labelled, &options, device, console)?.run(plan.seed)?;
        write_folder(&kept, |inside| {
            tuned.model.write_into(inside, &pretrained.shape, &task.classes, &pretrained.tokenizer)?;
            write_checksums(inside)
        })?;
    }
    load(&ModelFolder::open(&kept)?, task, device)
}

fn load(folder: &ModelFolder, task: &TransferTask, device: &Device) -> Result<TransferTeacherModel> {
    let model = Classifier::load(folder, &device.handle)?;
    if model.outputs() != task.classes.len() {
        return Err(Error::new(format!(
            "the teacher has {} classes, and {} has {}: {}",
            model.outputs(),
            task.name,
            task.classes.len(),
            task.classes.join(", ")
        ))
        .at(folder.path.display())
        .help("take a teacher that was fine-tuned on this task, or a pre-trained model without a classifier"));
    }
    let config = config(folder)?;
    if config.get("problem_type").and_then(serde_json::Value::as_str) == Some("multi_label_classification") {
        return Err(Error::new("the teacher answers for each class by itself (problem_type is multi_label_classification)")
            .at(folder.path.display())
            .help("take a teacher that says one class of a text"));
    }
    if let Some(names) = class_names(&config).filter(|names| *names != task.classes) {
        let mut sorted = [names.clone(), task.classes.clone()];
        sorted.iter_mut().for_each(|names| names.sort());
        if sorted[0] == sorted[1] {
            return Err(Error::new(format!(
                "the teacher has the task's classes in another order: {}, and the task {}",
                names.join(", "),
                task.classes.join(", ")
            ))
            .at(folder.path.display())
            .help("fine-tune the teacher on this task's files"));
        }
    }
    folder.shape.must_read(folder.shape.max_positions(), task.pair).map_err(|error| error.at(folder.path.display()))?;
    let hash = Weights::of(&model).hash();
    Ok(TransferTeacherModel { model, shape: folder.shape.clone(), tokenizer: folder.tokenizer()?, hash })
}

fn config(folder: &ModelFolder) -> Result<serde_json::Value> {
    let path = folder.path.join("config.json");
    let text = fs::read_to_string(&path).doing("read", &path)?;
    Ok(serde_json::from_str(&text).unwrap_or_default())
}

/// The names of the classes, where `config.json` has them.
fn class_names(config: &serde_json::Value) -> Option<Vec<String>> {
    let names = config.get("id2label")?.as_object()?;
    (0..names.len()).map(|id| Some(names.get(&id.to_string())?.as_str()?.to_owned())).collect()
}

/// Outputs, and how many of their chunks were found and made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outputs {
    /// The outputs, in the texts' order.
    pub classified: Classified,
    /// Chunks that were there.
    pub found: usize,
    /// Chunks that were worked out now.
    pub made: usize,
}

/// A teacher's outputs on texts, from the cache as far as they are there. `stop` is asked before each chunk is made.
///
/// # Errors
/// When a file can't be written; an [interrupted](Error::is_interrupted) error when `stop` says so: what was made is
/// kept.
pub fn teacher_outputs(
    teacher: &TransferTeacherModel,
    texts: &[Example],
    length: usize,
    representation: Vector,
    shared: &Path,
    device: &Device,
    stop: &dyn Fn() -> bool,
) -> Result<Outputs> {
    let length = length.min(teacher.shape.max_positions());
    let mut hasher = blake3::Hasher::new();
    for text in texts {
        hasher.update(format!("{:?} {:?}\n", text.first, text.second).as_bytes());
    }
    let texts_hash = hasher.finalize().to_hex().to_string();
    let key = key(&[&teacher.hash, teacher.tokenizer.hash(), &texts_hash, &length.to_string(), representation.word()]);
    let folder = shared.join("outputs").join(&key);
    let stopped = || Error::interrupted("stopped while another process asks the teacher").help("the same command goes on");
    let _lock = Lock::wait_file(&shared.join("locks").join(format!("outputs-{key}")), &mut |_| match stop() {
        true => Err(stopped()),
        false => Ok(()),
    })?;
    make_folder(&folder)?;
    let tokens = TextTokens::Pieces(teacher.tokenizer.clone());
    let kind = match representation {
        Vector::Pooled => Representation::Pooled,
        Vector::Cls => Representation::Cls,
    };
    let mut out = Outputs::default();
    for (number, chunk) in texts.chunks(CHUNK).enumerate() {
        let (path, place) = (folder.join(format!("{number:05}.safetensors")), format!("{key} {number}"));
        let part = match read_chunk(&path, &place, chunk.len()) {
            Some(part) => {
                out.found += 1;
                part
            }
            None if stop() => {
                return Err(Error::interrupted(format!(
                    "stopped after {} of the teacher's outputs",
                    out.classified.logits.len()
                ))
                .help("the same command goes on from there"));
            }
            None => {
                let rows = tokens.rows(chunk, length)?;
                let rows: Vec<&TextRow> = rows.iter().collect();
                let part = classify(&teacher.model, &rows, kind, tokens.pad(), 32, &device.handle);
                refuse_broken_outputs(&part, number * CHUNK)?;
                write_chunk(&path, &place, &part)?;
                out.made += 1;
                part
            }
        };
        out.classified.logits.extend(part.logits);
        out.classified.representations.extend(part.representations);
    }
    Ok(out)
}

/// Outputs that are no numbers would teach nothing, and are not kept; `from` is the first text's place.
fn refuse_broken_outputs(part: &Classified, from: usize) -> Result<()> {
    let is_broken = |row: &Vec<f32>| row.iter().any(|value| !value.is_finite());
    match part.logits.iter().zip(&part.representations).position(|(logits, states)| is_broken(logits) || is_broken(states)) {
        None => Ok(()),
        Some(at) => Err(Error::new(format!("the teacher's outputs on text {} are not finite", from + at)).help(
            "texts count from 0, training texts before those for validation; take another teacher, or fine-tune it with a \
             lower teacher.lr",
        )),
    }
}

/// Texts that a teacher answers a second, tokens not counted, on the first of some texts.
pub(super) fn texts_per_s(teacher: &TransferTeacherModel, texts: &[Example], length: usize, device: &Device) -> Result<f64> {
    let tokens = TextTokens::Pieces(teacher.tokenizer.clone());
    let rows = tokens.rows(&texts[..texts.len().min(2 * CHUNK)], length.min(teacher.shape.max_positions()))?;
    let rows: Vec<&TextRow> = rows.iter().collect();
    let clock = Instant::now();
    classify(&teacher.model, &rows, Representation::Pooled, tokens.pad(), 64, &device.handle);
    Ok(rows.len() as f64 / clock.elapsed().as_secs_f64().max(1e-9))
}

fn key(parts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part.as_bytes()).update(b"\n");
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// `place` is in the file's hash: a chunk of other texts is no chunk of these.
fn write_chunk(path: &Path, place: &str, part: &Classified) -> Result<()> {
    let mut weights = Weights::default();
    for (name, rows) in [("logits", &part.logits), ("representations", &part.representations)] {
        let shape = vec![rows.len(), rows.first().map_or(0, Vec::len)];
        weights.insert(name, HostTensor { shape, values: rows.concat() });
    }
    write_whole(path, |out| out.write_all(&weights.sealed(place)))
}

/// A chunk that is there and whole; a damaged one is made again, and so is one of an older version, which had no hash.
fn read_chunk(path: &Path, place: &str, texts: usize) -> Option<Classified> {
    let weights = Weights::of_sealed(&fs::read(path).ok()?, place)?;
    let rows = |name: &str| {
        let tensor = weights.get(name).filter(|tensor| tensor.shape.len() == 2 && tensor.shape[0] == texts)?;
        Some(tensor.values.chunks(tensor.shape[1].max(1)).map(<[f32]>::to_vec).collect::<Vec<_>>())
    };
    Some(Classified { logits: rows("logits")?, representations: rows("representations")? })
}
