//! A whole step of distillation, batch to optimizer, in each form and beside PyTorch's.

use std::time::Instant;

use burn::tensor::{FloatDType, Tensor};
use serde::Serialize;

use super::meter::{Taken, measure, memory_and_seconds};
use super::peer::Peer;
use super::sizes::StepSize;
use super::{Row, against_peer, median};
use crate::batch::{BatchOptions, Batches, Masking, Objective, Split};
use crate::config::{Pass, Plan, Rows, RunFile};
use crate::device::{Compute, Device, DeviceKind, Kernels, Precision, Traits, make_room};
use crate::error::Result;
use crate::kernels::dwt_loss::spread;
use crate::kernels::{Dense, Spent, dense, spent};
use crate::methods::{Dwt, LmData, ModelTeacher};
use crate::model::TrainedModel;
use crate::tokens::{Shards, Tokenizer};
use crate::train::{FitOptions, Flow, Learner, Worker, fit_ahead, plan_on};

/// What `upstill bench step` measures.
#[derive(Debug, Clone)]
pub struct StepBenchOptions<'a> {
    /// Sizes, one after another.
    pub sizes: Vec<StepSize>,
    /// Times that each form has its turn, after one that warms up.
    pub rounds: usize,
    /// Numbers of our products; each form takes part in each.
    pub precisions: Vec<Precision>,
    /// Forms that take part.
    pub forms: Vec<Kernels>,
    /// A Python that may have PyTorch.
    pub python: Option<&'a str>,
}

/// One measurement of `upstill bench step`.
#[derive(Debug, Clone, Serialize)]
pub struct StepRow {
    /// The student, its teacher, the vocabulary and the batch.
    pub size: String,
    /// A form of ours, or how PyTorch was used.
    pub form: String,
    /// The device.
    pub device: String,
    /// Numbers of the products.
    pub precision: &'static str,
    /// Real tokens trained on a second: the median over the rounds.
    pub tokens_per_s: f64,
    /// PyTorch's at its best on the same batch, in the same rounds.
    pub pytorch_tokens_per_s: Option<f64>,
    /// `tokens_per_s` over PyTorch's: the median over the rounds of each round's ratio.
    pub ratio: Option<f64>,
    /// The lowest and the highest of the rounds.
    pub ratio_range: Option<[f64; 2]>,
    /// FLOPs that real tokens need, a second.
    pub flops_per_s: f64,
    /// `flops_per_s` over `peak_flops_per_s`.
    pub mfu: f64,
    /// The device's peak: as its maker says, or what a product of square matrices reaches on it in the same run.
    pub peak_flops_per_s: f64,
    /// `published` or `product`.
    pub peak: &'static str,
    /// Where the time of more steps went, where operations are our own. On a GPU they were waited for, one by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spent: Option<StepSpent>,
    /// Memory over what was held between steps, at its highest, where the system says; of a GPU, all that was taken.
    pub peak_bytes: Option<u64>,
}

/// Where a step's time goes.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct StepSpent {
    /// The step.
    pub step_s: f64,
    /// Operations of our own in it; what they leave is burn's and the loop's.
    #[serde(flatten)]
    pub spent: Spent,
    /// What making a batch takes; a thread does it meanwhile.
    pub batch_s: f64,
}

/// A step of each size, each form in turn with PyTorch's, `rounds` times after one that warms up. On the CPU PyTorch's
/// numbers are both f32 and bf16, whatever ours are: its best is the faster.
///
/// # Errors
/// When a size is impossible, or the device doesn't have the precision.
pub fn bench_step(options: &StepBenchOptions, device: &Device, mut note: impl FnMut(String)) -> Result<Vec<StepRow>> {
    options.precisions.iter().try_for_each(|precision| device.must_have(*precision))?;
    let theirs = if device.kind == DeviceKind::Cpu { vec![Precision::F32, Precision::Bf16] } else { options.precisions.clone() };
    let mut pytorch = Vec::new();
    for precision in theirs.into_iter().filter(|_| options.python.is_some()) {
        match Peer::pytorch(options.python.unwrap_or_default(), device, precision, steps_a_turn(device)) {
            Ok(found) => {
                note(format!("against {} in {precision}", found.about));
                pytorch.push((precision, found));
            }
            Err(why) => {
                note(format!("NOTE: no PyTorch to compare with: {why}; --python names one that has it"));
                break;
            }
        }
    }
    let mut rows = Vec::new();
    for size in &options.sizes {
        rows.extend(in_turn(*size, options, device, &mut pytorch, &mut note)?);
    }
    Ok(rows)
}

/// Steps that are timed together: a GPU is given several before their numbers are waited for, as in a run.
fn steps_a_turn(device: &Device) -> usize {
    if device.kind == DeviceKind::Cuda { 8 } else { 1 }
}

/// PyTorch's ways, and what they are called.
const WAYS: [(&str, &str); 4] = [
    ("eager", "pytorch"),
    ("compiled", "pytorch compiled"),
    ("trimmed", "pytorch compiled, last layer on slots"),
    ("plain", AS_WRITTEN),
];

const AS_WRITTEN: &str = "pytorch as written";

fn in_turn(
    size: StepSize,
    options: &StepBenchOptions,
    device: &Device,
    pytorch: &mut [(Precision, Peer)],
    note: &mut impl FnMut(String),
) -> Result<Vec<StepRow>> {
    let rounds = options.rounds;
    let benches = options.precisions.iter().map(|precision| StepBench::new(size, rounds as u64 + 3, *precision, device));
    let benches = benches.collect::<Result<Vec<_>>>()?;
    let mut ours: Vec<(&StepBench, Runner)> =
        benches.iter().flat_map(|bench| options.forms.iter().map(move |&form| (bench, bench.runner(form)))).collect();
    let request = benches[0].request();
    let mut ways: Vec<Way> = Vec::new();
    for (of, (precision, _)) in pytorch.iter().enumerate() {
        ways.extend(WAYS.into_iter().map(|(way, name)| Way { of, precision: *precision, way, name, taken: Vec::new() }));
    }
    let mut peaks: Vec<(Precision, Vec<f64>)> = Vec::new();
    for round in 0..=rounds + 1 {
        for (bench, runner) in &mut ours {
            let taken = bench.step(runner, round)?;
            (round > 0).then(|| runner.taken.push(taken));
        }
        ways.retain_mut(|way| match pytorch[way.of].1.measure(round, &format!("step {} {request}", way.way)) {
            Ok(taken) => {
                (round > 0).then(|| way.taken.push(taken));
                true
            }
            Err(why) => {
                note(format!("NOTE: {} in {}, {}: {why}", way.name, way.precision, size.name()));
                false
            }
        });
        for precision in options.precisions.iter().copied().chain(pytorch.iter().map(|(precision, _)| *precision)) {
            let found = product_flops_per_s(device, precision);
            match peaks.iter_mut().find(|(of, _)| *of == precision) {
                Some((_, all)) => all.push(found),
                None => peaks.push((precision, vec![found])),
            }
        }
    }
    let mut measured = Vec::new();
    for (bench, runner) in &mut ours {
        let spent = bench.spent(runner, rounds + 2)?;
        measured.push(Measured::new(runner.form.word(), bench.precision, &runner.taken, spent));
    }
    measured.extend(ways.iter().map(|way| Measured::new(way.name, way.precision, &way.taken, None)));
    let peak = |precision: Precision| match published_flops_per_s(&device.name, precision) {
        Some(published) => (published, "published"),
        None => (peaks.iter().find(|(of, _)| *of == precision).map_or(f64::NAN, |(_, all)| median(all.clone())), "product"),
    };
    let theirs = best_of_theirs(&measured, rounds);
    Ok(measured.into_iter().map(|one| one.row(&benches[0], device, &theirs, peak(one.precision))).collect())
}

/// A way to write the step in PyTorch, in the numbers of one of the PyTorchs that were started.
struct Way {
    of: usize,
    precision: Precision,
    way: &'static str,
    name: &'static str,
    taken: Vec<Taken>,
}

/// What the rounds of a form, or of one of PyTorch's ways, came to.
struct Measured {
    form: &'static str,
    precision: Precision,
    peak_bytes: Option<u64>,
    seconds: Vec<f64>,
    spent: Option<StepSpent>,
}

impl Measured {
    fn new(form: &'static str, precision: Precision, taken: &[Taken], spent: Option<StepSpent>) -> Self {
        let (peak_bytes, seconds) = memory_and_seconds(taken);
        Self { form, precision, peak_bytes, seconds, spent }
    }

    fn row(&self, bench: &StepBench, device: &Device, theirs: &[f64], (peak, of): (f64, &'static str)) -> StepRow {
        let seconds = median(self.seconds.clone());
        let mut ratios: Vec<f64> = theirs.iter().zip(&self.seconds).map(|(theirs, ours)| theirs / ours).collect();
        ratios.sort_by(f64::total_cmp);
        let flops_per_s = bench.flops() / seconds;
        StepRow {
            size: bench.size.name(),
            form: self.form.to_owned(),
            device: device.to_string(),
            precision: self.precision.word(),
            tokens_per_s: bench.tokens() / seconds,
            pytorch_tokens_per_s: (!theirs.is_empty()).then(|| bench.tokens() / median(theirs.to_vec())),
            ratio: (!ratios.is_empty()).then(|| median(ratios.clone())),
            ratio_range: ratios.first().zip(ratios.last()).map(|(low, high)| [*low, *high]),
            flops_per_s,
            mfu: flops_per_s / peak,
            peak_flops_per_s: peak,
            peak: of,
            spent: self.spent,
            peak_bytes: self.peak_bytes,
        }
    }
}

/// The seconds of PyTorch's fastest way in each round, in whatever numbers.
fn best_of_theirs(measured: &[Measured], rounds: usize) -> Vec<f64> {
    let is_at_best = |form: &str| WAYS.iter().any(|(_, way)| *way == form && *way != AS_WRITTEN);
    let best = |round: usize| measured.iter().filter(|one| is_at_best(one.form)).map(|one| one.seconds[round]).reduce(f64::min);
    (0..rounds).filter_map(best).collect()
}

/// Tokens a second of one size, each form in turn.
///
/// # Errors
/// When the size is impossible.
pub fn bench_step_forms(size: StepSize, rounds: usize, device: &Device) -> Result<Vec<Row>> {
    let row = |row: StepRow| Row {
        what: "step",
        size: row.size,
        form: Kernels::WORDS.iter().copied().find(|word| *word == row.form).unwrap_or("fused"),
        device: row.device,
        seconds: 0.0,
        tokens_per_s: Some(row.tokens_per_s),
        fewest_bytes: None,
        copy_share: None,
        peak_bytes: row.peak_bytes,
        peer: "",
        ratio: None,
    };
    let options = StepBenchOptions {
        sizes: vec![size],
        rounds,
        precisions: vec![Precision::F32],
        forms: Traits::of(&device.handle).kernels.to_vec(),
        python: None,
    };
    let rows = bench_step(&options, device, |_| ())?;
    let tokens = StepBench::new(size, 1, Precision::F32, device)?.tokens();
    let with_time = |mut row: Row| {
        row.seconds = tokens / row.tokens_per_s.unwrap_or(f64::NAN);
        row
    };
    Ok(against_peer(rows.into_iter().map(row).map(with_time).collect()))
}

/// One size, ready to run.
pub(super) struct StepBench {
    size: StepSize,
    plan: Plan,
    data: LmData,
    precision: Precision,
    device: Device,
}

impl StepBench {
    pub(super) fn new(size: StepSize, turns: u64, precision: Precision, device: &Device) -> Result<Self> {
        let (shards, plan) = made_up(size.vocab, size.texts(), turns * steps_a_turn(device) as u64)?;
        let options = BatchOptions {
            layout: Rows::Packed,
            length: size.length,
            batch: size.batch,
            seed: 1,
            objective: Objective::of_family(size.family, Masking::default()),
        };
        let data = LmData {
            train: Batches::new(&shards, Split::Train, options)?,
            held_out: Batches::new(&shards, Split::HeldOut, options)?,
            evaluate_rows: 1,
            compute: Compute::of(&device.handle).in_dtype(precision),
        };
        Ok(Self { size, plan, data, precision, device: device.clone() })
    }

    pub(super) fn runner(&self, form: Kernels) -> Runner {
        let data = LmData { compute: self.data.compute.clone().by(form), ..self.data.clone() };
        make_room(&self.device.handle, 4 * self.size.batch * self.data.train.slots() * self.size.vocab);
        let teacher = ModelTeacher::new(self.size.shape(self.size.teacher_layers).init(2, 0.02, &self.device.handle));
        let teacher = teacher.for_products(&data.compute);
        let steps = self.plan.train.steps;
        let model = self.size.shape(self.size.layers).init(1, 0.02, &self.device.handle.clone().autodiff());
        let student = Learner::new(model, &self.plan.train, self.size.family.dropout(), 1).for_precision(self.precision);
        Runner {
            form,
            method: Dwt::new(data, self.plan.distill.clone(), steps, Box::new(teacher)),
            student: vec![student],
            taken: Vec::new(),
        }
    }

    /// A turn: a step of training, or several whose mean counts; the batches of all steps are alike.
    pub(super) fn step(&self, runner: &mut Runner, round: usize) -> Result<Taken> {
        self.step_among(runner, round, None)
    }

    /// A turn of one of several workers, which all take it together.
    pub(super) fn step_among(&self, runner: &mut Runner, round: usize, worker: Option<&Worker>) -> Result<Taken> {
        let train = &self.plan.train;
        let steps = steps_a_turn(&self.device);
        let options = FitOptions { train, micro_batch: self.size.batch, done: (round * steps) as u64, evaluated: None, worker };
        let mut seconds = 0.0;
        let student = std::mem::take(&mut runner.student);
        let mut result = Ok(Vec::new());
        let taken = measure(round, || {
            result = fit_ahead(&runner.method, student, &options, steps, |records, _| {
                let tokens: f64 = records.iter().map(|record| self.tokens_of(record.step)).sum();
                seconds = tokens / records[0].tokens_per_s / records.len() as f64;
                Ok(Flow::Stop)
            });
        });
        runner.student = result?;
        let of_gpu = if self.device.kind == DeviceKind::Cpu { None } else { self.device.handle.memory_pool_usage() };
        Ok(Taken { seconds, peak_bytes: of_gpu.map(|usage| usage.bytes_reserved).or(taken.peak_bytes) })
    }

    /// Where the time of further steps goes, each of our operations waited for; none where they don't run.
    fn spent(&self, runner: &mut Runner, round: usize) -> Result<Option<StepSpent>> {
        if runner.form == Kernels::Composed || (self.device.kind == DeviceKind::Cpu && self.precision == Precision::F16) {
            return Ok(None);
        }
        let (taken, spent) = spent(|| self.step(runner, round));
        let clock = Instant::now();
        self.data.train.at(round as u64);
        let spent = spent.over(steps_a_turn(&self.device));
        Ok(Some(StepSpent { step_s: taken?.seconds, spent, batch_s: clock.elapsed().as_secs_f64() }))
    }

    fn tokens_of(&self, step: u64) -> f64 {
        self.data.train.at(step).tokens as f64
    }

    pub(super) fn tokens(&self) -> f64 {
        self.tokens_of(0)
    }

    /// FLOPs that the real tokens of a step need: forward and backward of the student, forward of the teacher.
    pub(super) fn flops(&self) -> f64 {
        let batch = self.data.train.at(0);
        let (tokens, masked) = (batch.tokens as f64, batch.asked.count as f64);
        let sentences: f64 = batch.segments_bs.chunks(batch.length).map(|row| f64::from(*row.iter().max().unwrap_or(&0))).sum();
        let pass = Pass { positions: tokens, attended: tokens / sentences.max(1.0), head_rows: masked };
        let forward = |layers| self.size.shape(layers).forward_flops(&pass);
        3.0 * forward(self.size.layers) + forward(self.size.teacher_layers)
    }

    /// The size and its first batch, for PyTorch.
    pub(super) fn request(&self) -> String {
        let batch = self.data.train.at(0);
        let asked = &batch.asked;
        let used: Vec<usize> = (0..asked.weights_bm.len()).filter(|&slot| asked.weights_bm[slot] > 0.0).collect();
        let place = |slot: &usize| slot / asked.slots * batch.length + asked.places_bm[*slot] as usize;
        let sizes = self.size.shape(self.size.layers).keys();
        let intermediate = sizes.iter().find(|size| size.key == "intermediate").map(|size| size.value);
        serde_json::json!({
            "family": self.size.family.word(), "window": self.size.window, "layers": self.size.layers, "teacher_layers": self.size.teacher_layers,
            "hidden": self.size.hidden, "intermediate": intermediate, "vocab": self.size.vocab, "length": batch.length,
            "ids": batch.input_ids_bs, "positions": batch.positions_bs, "segments": batch.segments_bs,
            "slots": used.iter().map(place).collect::<Vec<_>>(),
            "labels": used.iter().map(|&slot| asked.labels_bm[slot]).collect::<Vec<_>>(),
        })
        .to_string()
    }
}

/// A form, its student, and what its steps took.
pub(super) struct Runner {
    form: Kernels,
    method: Dwt,
    student: Vec<Learner<TrainedModel>>,
    taken: Vec<Taken>,
}

/// FLOPs a second of a product of two square matrices, the better of two.
fn product_flops_per_s(device: &Device, precision: Precision) -> f64 {
    let side: usize = if device.kind == DeviceKind::Cuda { 8192 } else { 1536 };
    let compute = Compute::of(&device.handle).in_dtype(precision);
    let x = compute.factor(Tensor::<2>::ones([side, side], &device.handle));
    let bias = Tensor::<1>::zeros([side], &device.handle);
    let multiplied = || match (device.kind, precision) {
        // Its own product, which rounds factors itself.
        (DeviceKind::Cpu, Precision::Bf16) => dense(x.clone(), &Dense { weight_df: x.clone(), bias_f: bias.clone() }, &compute),
        _ => x.clone().matmul(x.clone()),
    };
    let product = || multiplied().narrow(0, 0, 1).narrow(1, 0, 1).cast(FloatDType::F32).into_scalar::<f32>();
    let seconds = [(); 2].map(|()| measure(0, || assert!(product() > 0.0)).seconds);
    2.0 * (side as f64).powi(3) / seconds[0].min(seconds[1])
}

/// What NVIDIA's data sheets say of dense products (TF32 for f32), for the GPUs that training is mostly done on.
fn published_flops_per_s(name: &str, precision: Precision) -> Option<f64> {
    let tera = match precision {
        Precision::F32 if name.contains("A100") => 156.0,
        Precision::Bf16 | Precision::F16 if name.contains("A100") => 312.0,
        // The SXM parts; a PCIe H100 has less, and says so in its name.
        Precision::F32 if name.contains("H200") || name.contains("H100 80GB HBM3") => 494.0,
        Precision::Bf16 | Precision::F16 if name.contains("H200") || name.contains("H100 80GB HBM3") => 989.0,
        _ => return None,
    };
    Some(tera * 1e12)
}

/// Texts without meaning over a vocabulary of the size wanted, of `fewest` tokens and up to `more` more; and a plan for
/// them.
pub(super) fn made_up(vocab: usize, [fewest, more]: [usize; 2], steps: u64) -> Result<(Shards, Plan)> {
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned);
    let words = (special.len()..vocab).map(|id| format!("w{id}"));
    let tokenizer = Tokenizer::from_vocab(special.iter().cloned().chain(words).collect())?;
    let id = |x: &f32| 5 + ((x + 3.0) / 6.0 * (vocab - 6) as f32) as u32;
    let sentence = |seed: u64| spread(fewest + seed as usize % (more + 1), seed).iter().map(id).collect();
    let shards = Shards::from_sentences(tokenizer, (0..2000).map(sentence).collect(), (2000..2100).map(sentence).collect());
    // The last step would evaluate.
    let steps = steps + 10;
    let text = format!(
        "preset = \"dwt-normal\"\n[teacher]\nfrom = \"uniform\"\n[distill]\nsoft = 4.0\n[data]\nshards = \"in memory\"\n\
         [train]\nsteps = {steps}\nevaluate_every = {0}\ncheckpoint_every = {0}",
        2 * steps
    );
    let file = RunFile::parse(&text, "the benchmark")?;
    let plan = plan_on(&file, &shards)?;
    Ok((shards, plan))
}
