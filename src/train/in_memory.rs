//! A run in memory: what [`train_run`](super::train_run) is for folders, for places that have no files and may not
//! wait.
//!
//! It has the plan, the step, the records and the files of a run in a folder, to the bit (`tests/memory.rs`): what
//! native code writes to disk is made by functions that give [`Files`], bytes by path.

use burn::module::Module;
use web_time::Instant;

use super::learners::{GivenTeacher, LmMethod, model_folder, optimizer_file, projections_file, restored, set_out};
use super::numbers::refuse_broken_weights;
use super::written::{RunInfo, scored};
use super::{FitOptions, Learner, Steps};
use crate::checkpoint::{CHECKPOINTS, Reached, folder_name, last_of_files, with_state};
use crate::config::{MODEL, Plan};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::files::Files;
use crate::files::manifest::{SUMMARY, hash, hashes_of, to_json};
use crate::log::{Resume, STEPS, StepRecord, Summary, steps_before};
use crate::model::{AnyModel, LanguageModel, ModelFolder, TrainedModel, Weights};
use crate::tokens::Shards;

/// A run in memory, step by step, by one worker whatever the plan says. Its [files](MemoryRun::files) are those of a
/// run's folder: `upstill train --resume` goes on with them, and [`MemoryRun::open`] with that command's.
pub struct MemoryRun {
    plan: Plan,
    shards: Shards,
    device: Device,
    method: Box<LmMethod>,
    learners: Vec<Learner<TrainedModel>>,
    steps: Steps,
    done: u64,
    records: Vec<StepRecord>,
    info: RunInfo,
    session: (f64, f64),
}

impl MemoryRun {
    /// Before step 1. The losses of up to `ahead` steps are read at once.
    ///
    /// # Errors
    /// When the teacher does not fit.
    pub fn new(plan: Plan, shards: &Shards, teacher: Option<&GivenTeacher>, device: &Device, ahead: usize) -> Result<Self> {
        let (learners, method) = set_out(&plan, shards, teacher, &device.handle)?;
        let mut info = RunInfo::new(&plan);
        info.start(vec!["page".into()], device.to_string(), 0);
        Ok(Self {
            plan,
            shards: shards.clone(),
            device: device.clone(),
            steps: Steps::new(method.as_ref(), &learners, ahead),
            method,
            learners,
            done: 0,
            records: Vec::new(),
            info,
            session: (0.0, 0.0),
        })
    }

    /// Goes on where a run's files end: with its last checkpoint and the records before it.
    ///
    /// # Errors
    /// When the files are another plan's, or damaged.
    pub fn open(
        files: &Files,
        plan: Plan,
        shards: &Shards,
        teacher: Option<&GivenTeacher>,
        device: &Device,
        ahead: usize,
    ) -> Result<Self> {
        let mut run = Self::new(plan, shards, teacher, device, ahead)?;
        let Some((state, checkpoint)) = last_of_files(files)? else { return Ok(run) };
        if state.reached.plan_hash != run.plan.hash() {
            return Err(
                Error::new("these files are a run of another plan").help("open them with the settings they were saved with")
            );
        }
        run.learners = restored(run.learners, |file| {
            let name = file.to_string_lossy().replace('\\', "/");
            let bytes = checkpoint.get(&name).ok_or_else(|| Error::new(format!("the checkpoint has no {name}")))?;
            Weights::from_bytes(bytes)
        })?;
        run.done = state.reached.step;
        let from = Resume { step: run.done, records: state.reached.records.as_deref() };
        run.records = steps_before(files.get(STEPS).map_or(&[][..], Vec::as_slice), from)?;
        if let Some(info) = files.get("run.json") {
            run.info = RunInfo::parse(&String::from_utf8_lossy(info)).map_err(|error| error.at("run.json"))?;
        }
        run.info.start(vec!["page".into()], device.to_string(), run.done);
        Ok(run)
    }

    /// Takes a step; its record is among the [records](MemoryRun::records) once it is read.
    ///
    /// # Errors
    /// When a step isn't finite, or the device fails. Nothing can be done with the run then but to open what was saved.
    pub async fn step(&mut self) -> Result<()> {
        let Some(batch) = self.method.batches(self.done, self.done + 1).next().filter(|_| !self.is_done()) else {
            return Ok(());
        };
        let started = Instant::now();
        let train = &self.plan.train;
        let evaluated = self.records.iter().rfind(|record| record.held_out_loss.is_some());
        let options = FitOptions { train, micro_batch: self.plan.rows_at_once(), done: self.done, evaluated, worker: None };
        let read = self.steps.take(self.method.as_ref(), &mut self.learners, &options, self.done, &batch).await?;
        self.done += 1;
        self.records.extend(read);
        self.session.0 += started.elapsed().as_secs_f64();
        self.session.1 += batch.tokens as f64;
        self.info.reach(self.done, self.session.0, Some(self.session.1));
        Ok(())
    }

    /// Whether the plan's last step is taken.
    pub fn is_done(&self) -> bool {
        self.done >= self.plan.train.steps
    }

    /// Steps taken.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Every step that was read; saving reads those that were not.
    pub fn records(&self) -> &[StepRecord] {
        &self.records
    }

    /// The model as it is, outside any autodiff graph.
    pub fn model(&self) -> AnyModel {
        self.learners[0].model.lm.valid()
    }

    /// What it runs on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The model as a teacher for another run.
    pub async fn as_teacher(&self) -> GivenTeacher {
        let model = &self.learners[0].model.lm;
        GivenTeacher { shape: model.shape(), weights: Weights::read_back(model).await }
    }

    /// The files of a run's folder: the plan, the records, a checkpoint of this very step, and, at the end, model and
    /// summary.
    ///
    /// # Errors
    /// When steps that aren't read yet turn out not to be finite.
    pub async fn files(&mut self) -> Result<Files> {
        self.records.extend(self.steps.read(self.method.as_ref(), &self.learners, false).await?);
        let mut checkpoint = Files::new();
        let tokenizer = self.shards.tokenizer();
        for learner in &self.learners {
            refuse_broken_weights(&learner.model, &learner.name, &format!("step {}", self.done)).await?;
            let weights = Weights::read_back(&learner.model.lm).await;
            let folder = model_folder(&learner.name);
            for (name, bytes) in ModelFolder::files(&learner.model.lm.shape(), &weights, tokenizer)? {
                checkpoint.insert(format!("{}/{name}", folder.display()), bytes);
            }
            let state = learner.optimizer.read_state(&learner.model).await;
            checkpoint.insert(optimizer_file(&learner.name).display().to_string(), state.to_bytes());
            let projections = &learner.model.projections;
            if !projections.is_empty() {
                let weights = Weights::read_back(projections).await;
                checkpoint.insert(projections_file(&learner.name).display().to_string(), weights.to_bytes());
            }
        }
        let line = |record: &StepRecord| serde_json::to_string(record).expect("a record in memory can be written") + "\n";
        let lines = self.records.iter().map(line).collect::<String>().into_bytes();
        let records = hash(&lines);
        let mut files = Files::from([(STEPS.to_owned(), lines)]);
        let last = self.records.last();
        if self.is_done() {
            let models = checkpoint.iter().filter(|(name, _)| name.starts_with(&format!("{MODEL}/")));
            files.extend(models.map(|(name, bytes)| (name.clone(), bytes.clone())));
            let summary = Summary { files: hashes_of(&files), ..self.info.summary(&self.plan, last, "page") };
            files.insert(SUMMARY.into(), to_json(&summary).into_bytes());
        }
        if self.done > 0 {
            let loss = last.filter(|record| record.step + 1 == self.done).and_then(scored);
            let reached = Reached { step: self.done, plan_hash: self.plan.hash(), held_out_loss: loss, records: Some(records) };
            let checkpoint = with_state(checkpoint, reached);
            let folder = format!("{CHECKPOINTS}/{}", folder_name(self.done));
            files.extend(checkpoint.into_iter().map(|(name, bytes)| (format!("{folder}/{name}"), bytes)));
        }
        files.insert("run.json".into(), self.info.to_json().into_bytes());
        files.insert("plan.toml".into(), self.plan.to_file().into_bytes());
        Ok(files)
    }
}
