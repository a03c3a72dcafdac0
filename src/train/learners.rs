//! A run's models and its method, from its plan: before step 1, or as a checkpoint has them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use burn::tensor::Device;

use super::Learner;
use crate::answers::Reader;
use crate::batch::{Batch, BatchOptions, Batches, Objective, Split};
use crate::config::{LearnerPlan, MODEL, MemberPlan, Method as MethodName, ModelPlan, Plan, Start, TeacherPlan};
use crate::device::{Compute, Precision, make_room};
use crate::error::{Error, Result, note};
use crate::methods::{
    CommandTeacher, Cotrain, Dwt, Ensemble, LmData, Method, ModelTeacher, Source, Teacher, UniformTeacher, standalone,
};
use crate::model::{AnyModel, ModelFolder, Projections, Shape, TrainedModel, Weights, remap};
use crate::optim::Optimizer;
use crate::tokens::Shards;

/// Any method over language models.
pub type LmMethod = dyn Method<Model = TrainedModel, Batch = Batch>;

/// Where a model of this name lies, in its run's folder and in each checkpoint: `model`, or `model/NAME` of several.
pub fn model_folder(name: &str) -> PathBuf {
    if name == MODEL { PathBuf::from(MODEL) } else { Path::new(MODEL).join(name) }
}

/// The run and the name of a model that lies at `RUN/model/NAME`.
pub fn model_of_run(path: &Path) -> Option<(PathBuf, String)> {
    let (name, models) = (path.file_name()?.to_str()?, path.parent()?);
    let run = if models.file_name()? == MODEL { models.parent()? } else { return None };
    run.join("plan.toml").is_file().then(|| (run.to_owned(), name.to_owned()))
}

/// Where a model's optimizer has its state in a checkpoint.
pub(super) fn optimizer_file(name: &str) -> PathBuf {
    model_folder(name).with_file_name(format!("{name}.optimizer.safetensors"))
}

/// Where the projections that a model learns beside itself lie in a checkpoint, where it has any.
pub(super) fn projections_file(name: &str) -> PathBuf {
    model_folder(name).with_file_name(format!("{name}.projections.safetensors"))
}

/// A teacher that is given, and not read from the folder that its plan names.
#[derive(Debug, Clone)]
pub struct GivenTeacher {
    /// Its shape.
    pub shape: Shape,
    /// Its weights, head included.
    pub weights: Weights,
}

/// A plan's models before step 1 and its method, on a device without autodiff. A teacher that isn't given is read from
/// its folder.
///
/// # Errors
/// When the teacher can't be read or does not fit.
pub fn set_out(
    plan: &Plan,
    shards: &Shards,
    given: Option<&GivenTeacher>,
    device: &Device,
) -> Result<(Vec<Learner<TrainedModel>>, Box<LmMethod>)> {
    make_room(device, plan.largest_value_bytes());
    let compute = Compute::of_run(device, plan.runtime.kernels, plan.runtime.precision)?;
    let learners = learners(plan, given, compute.precision, &device.clone().autodiff())?;
    Ok((learners, method(plan, shards, given, compute)?))
}

/// The plan's models before step 1, each with its own optimizer, rate, clipping and dropout.
fn learners(
    plan: &Plan,
    given: Option<&GivenTeacher>,
    precision: Precision,
    device: &Device,
) -> Result<Vec<Learner<TrainedModel>>> {
    let learner = |own: LearnerPlan| {
        let train = own.train(&plan.train);
        Ok(Learner {
            model: TrainedModel { lm: initial(plan, &own, given, device)?, projections: projections(plan, &own, device) },
            optimizer: Optimizer::new(&train).for_precision(precision),
            lr: own.lr,
            clip: own.clip,
            dropout: own.model.dropout,
            seed: own.seed,
            name: own.name,
        })
    };
    plan.learners().into_iter().map(learner).collect()
}

/// Learners as a checkpoint has them; `read` gives the weights in one of its files.
pub(super) fn restored(
    learners: Vec<Learner<TrainedModel>>,
    read: impl Fn(&Path) -> Result<Weights>,
) -> Result<Vec<Learner<TrainedModel>>> {
    let restored = |mut learner: Learner<TrainedModel>| {
        let weights = read(&model_folder(&learner.name).join("model.safetensors"))?;
        learner.model.lm = weights.load_into(learner.model.lm)?;
        if !learner.model.projections.is_empty() {
            learner.model.projections = read(&projections_file(&learner.name))?.load_into(learner.model.projections)?;
        }
        let state = read(&optimizer_file(&learner.name))?;
        learner.optimizer.load_state(&learner.model, &state)?;
        Ok(learner)
    };
    learners.into_iter().map(restored).collect()
}

impl GivenTeacher {
    /// Reads a folder whose model predicts words.
    ///
    /// # Errors
    /// As [`ModelFolder::whole`].
    fn read(folder: &str) -> Result<Self> {
        let folder = ModelFolder::open(Path::new(folder))?;
        Ok(Self { weights: folder.whole()?, shape: folder.shape })
    }

    /// The teacher for a vocabulary: where its word table is padded beyond it, the spare rows stand for nothing, and a
    /// softmax is over the vocabulary alone.
    fn for_vocabulary(self, tokens: usize) -> Self {
        let rows = self.shape.vocab_size();
        let vocab_size = rows.min(tokens);
        if vocab_size < rows {
            note(format!("the teacher's word table has {rows} rows for {tokens} tokens: the spare rows are left out"));
        }
        Self { weights: self.weights.with_vocabulary(vocab_size), shape: self.shape.with_vocabulary(vocab_size) }
    }
}

/// A model before step 1: drawn from its seed, or the teacher's weights remapped.
fn initial(plan: &Plan, own: &LearnerPlan, given: Option<&GivenTeacher>, device: &Device) -> Result<AnyModel> {
    let ModelPlan { shape, initializer_range, .. } = &own.model;
    match (&plan.teacher, plan.distill.start) {
        (Some(teacher), Start::Remap | Start::Continue) => {
            let teacher =
                given.cloned().map_or_else(|| GivenTeacher::read(&teacher.from), Ok)?.for_vocabulary(shape.vocab_size());
            // With its weights the student takes the norms that they were trained with: else it would not be its
            // teacher.
            let shape = shape.with_norms_of(&teacher.shape);
            remap(&teacher.weights, &teacher.shape, &shape)?.load_into(shape.init(own.seed, *initializer_range, device))
        }
        _ => Ok(shape.init(own.seed, *initializer_range, device)),
    }
}

/// The projections that a plan's losses between layers learn, drawn from the model's seed.
fn projections(plan: &Plan, own: &LearnerPlan, device: &Device) -> Projections {
    let Some(teacher) = plan.teacher.as_ref().and_then(|teacher| teacher.model.as_ref()) else { return Projections::default() };
    let widths = [own.model.shape.hidden(), teacher.shape.hidden()];
    Projections::init(plan.distill.layers.projections(), widths, own.seed, own.model.initializer_range, device)
}

fn method(plan: &Plan, shards: &Shards, given: Option<&GivenTeacher>, compute: Compute) -> Result<Box<LmMethod>> {
    let (distill, steps) = (plan.distill.clone(), plan.train.steps);
    let teacher = teacher(plan, given, &compute)?;
    let source = elsewhere(plan)?;
    let data = lm_data(plan, shards, compute)?;
    if let Some(source) = source {
        return Ok(match plan.method {
            MethodName::Cotrain => Box::new(Cotrain::new(data, distill, plan.models.clone(), steps, None).with_source(source)),
            _ => Box::new(Dwt::from_source(data, distill, steps, source)),
        });
    }
    Ok(match (plan.method, teacher) {
        (MethodName::Cotrain, teacher) => Box::new(Cotrain::new(data, distill, plan.models.clone(), steps, teacher)),
        (MethodName::Dwt, Some(teacher)) => Box::new(Dwt::new(data, distill, steps, teacher)),
        _ => Box::new(standalone(data, distill, steps)),
    })
}

/// The cache or the program that the plan's teacher is, where it is one.
fn elsewhere(plan: &Plan) -> Result<Option<Source>> {
    let Some(TeacherPlan { from, answers, timeout_s, .. }) = &plan.teacher else { return Ok(None) };
    if let Some(timeout_s) = timeout_s {
        let timeout = Duration::from_secs_f64(*timeout_s);
        return CommandTeacher::start(from, plan.model.shape.vocab_size(), timeout).map(|program| Some(Source::Command(program)));
    }
    let Some(known) = answers else { return Ok(None) };
    let reader = Reader::open(Path::new(from))?;
    if reader.cache().content_hash() != known.content_hash {
        return Err(Error::new("the cache of the teacher's answers is another than when this run was planned")
            .at(from)
            .help("put it back; or start a run of its own with it, in another folder"));
    }
    Ok(Some(Source::Answers(reader)))
}

/// The teacher of a plan, in memory; none where there is none, its answers are on disk, or it is a program.
pub(super) fn teacher(plan: &Plan, given: Option<&GivenTeacher>, compute: &Compute) -> Result<Option<Box<dyn Teacher>>> {
    let Some(teacher) = plan.teacher.as_ref().filter(|teacher| teacher.is_in_memory()) else { return Ok(None) };
    if teacher.model.is_none() {
        return Ok(Some(Box::new(UniformTeacher { vocab_size: plan.model.shape.vocab_size() })));
    }
    let in_memory = |whole: GivenTeacher| -> Result<Box<dyn Teacher>> {
        let GivenTeacher { weights, shape } = whole.for_vocabulary(plan.model.shape.vocab_size());
        weights.must_be_finite(|_| true)?;
        let model = weights.load_into(shape.init(0, 0.0, &compute.device))?;
        Ok(Box::new(ModelTeacher::new(model).for_products(compute)))
    };
    let first = in_memory(given.cloned().map_or_else(|| GivenTeacher::read(&teacher.from), Ok)?)?;
    if teacher.others.is_empty() {
        return Ok(Some(first));
    }
    let other = |other: &MemberPlan| Ok((other.weight, in_memory(GivenTeacher::read(&other.from)?)?));
    let others = teacher.others.iter().map(other).collect::<Result<Vec<_>>>()?;
    Ok(Some(Box::new(Ensemble::new([(teacher.weight, first)].into_iter().chain(others).collect()))))
}

/// The batches of a plan.
fn lm_data(plan: &Plan, shards: &Shards, compute: Compute) -> Result<LmData> {
    let options = BatchOptions {
        layout: plan.data.rows,
        length: plan.data.length,
        batch: plan.train.batch,
        seed: plan.seed,
        objective: Objective::of(plan),
    };
    // Held-out rows come in small batches that fit wherever training fits; how they are batched changes nothing.
    let held_out = BatchOptions { batch: plan.rows_at_once(), objective: Objective::of_held_out(plan), ..options };
    Ok(LmData {
        train: Batches::new(shards, Split::Train, options)?.scheduled_by(plan),
        held_out: Batches::new(shards, Split::HeldOut, held_out)?.after(plan.train.evaluate_after)?,
        evaluate_rows: plan.train.evaluate_rows,
        compute,
    })
}
