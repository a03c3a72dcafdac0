//! A whole step of distillation, data to optimizer, with the loss in each form.

use super::{Row, against_peer, median};
use crate::batch::{BatchOptions, Batches, Masking, Split};
use crate::config::{Plan, Rows, RunFile};
use crate::device::Device;
use crate::error::Result;
use crate::kernels::Form;
use crate::kernels::dwt_loss::spread;
use crate::methods::{Dwt, MaskedLm, ModelTeacher};
use crate::model::BertShape;
use crate::tokens::{Shards, Tokenizer};
use crate::train::{FitOptions, Flow, Learner, find_facts, fit};

/// A student and its batch; the teacher has 2 layers of the same width.
#[derive(Debug, Clone, Copy)]
pub struct StepSize {
    /// Encoder layers.
    pub layers: usize,
    /// Width.
    pub hidden: usize,
    /// Vocabulary.
    pub vocab: usize,
    /// Rows a step, of 64 tokens.
    pub batch: usize,
}

/// What `upstill bench loss` measures.
pub const STEP_SIZES: [StepSize; 2] =
    [StepSize { layers: 2, hidden: 128, vocab: 30522, batch: 32 }, StepSize { layers: 4, hidden: 256, vocab: 30522, batch: 32 }];

const LENGTH: usize = 64;

/// Tokens a second of one size, each form in turn.
///
/// # Errors
/// When the size is impossible.
pub fn bench_step_forms(size: StepSize, rounds: usize, device: &Device) -> Result<Vec<Row>> {
    let (shards, plan) = made_up(size)?;
    let mut forms = vec![("composed", Form::Composed)];
    if Form::is_fused_on(&device.handle) {
        forms.push(("fused", Form::Fused));
    }
    let mut tokens_per_s = vec![Vec::new(); forms.len()];
    for _ in 0..rounds {
        for ((_, form), tokens_per_s) in forms.iter().zip(&mut tokens_per_s) {
            tokens_per_s.push(second_step(size, &shards, &plan, device, *form)?);
        }
    }
    let row = |((form, _), speeds): (&(&'static str, Form), Vec<f64>)| {
        let speed = median(speeds);
        let StepSize { layers, hidden, vocab, batch } = size;
        Row {
            what: "step",
            size: format!("{layers} x {hidden}, {vocab}, {batch} x {LENGTH}"),
            form,
            device: device.to_string(),
            seconds: (batch * LENGTH) as f64 / speed,
            tokens_per_s: Some(speed),
            fewest_bytes: None,
            copy_share: None,
            peak_bytes: None,
            peer: "",
            ratio: None,
        }
    };
    Ok(against_peer(forms.iter().zip(tokens_per_s).map(row).collect()))
}

/// Tokens a second of the second step of a run; the first warms up.
fn second_step(size: StepSize, shards: &Shards, plan: &Plan, device: &Device, form: Form) -> Result<f64> {
    let masking = Masking::default();
    let options = BatchOptions { layout: Rows::Packed, length: LENGTH, batch: size.batch, seed: 1, masking };
    let data = MaskedLm {
        train: Batches::new(shards, Split::Train, options)?,
        held_out: Batches::new(shards, Split::HeldOut, options)?,
        evaluate_rows: 1,
        device: device.handle.clone(),
    };
    let shape = |layers| BertShape::new(size.vocab, size.hidden, layers, size.hidden / 64, LENGTH);
    let teacher = ModelTeacher::new(shape(2).init(2, 0.02, &device.handle));
    let method = Dwt::new(data, plan.distill.clone(), plan.train.steps, Box::new(teacher)).with_form(form);
    let student = Learner::new(shape(size.layers).init(1, 0.02, &device.handle.clone().autodiff()), &plan.train, 0.1, 1);
    let fit_options = FitOptions { train: &plan.train, micro_batch: size.batch, done: 0 };
    let mut speed = 0.0;
    fit(&method, vec![student], &fit_options, |record, _| {
        speed = record.tokens_per_s;
        Ok(if record.step == 1 { Flow::Stop } else { Flow::Continue })
    })?;
    Ok(speed)
}

/// Sentences without meaning over a vocabulary of the size wanted, and a plan for them.
fn made_up(size: StepSize) -> Result<(Shards, Plan)> {
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned);
    let words = (special.len()..size.vocab).map(|id| format!("w{id}"));
    let tokenizer = Tokenizer::from_vocab(special.iter().cloned().chain(words).collect())?;
    let id = |x: &f32| 5 + ((x + 3.0) / 6.0 * (size.vocab - 6) as f32) as u32;
    let sentence = |seed: u64| spread(8 + seed as usize % 20, seed).iter().map(id).collect();
    let shards = Shards::from_sentences(tokenizer, (0..2000).map(sentence).collect(), (2000..2100).map(sentence).collect());
    let text = "preset = \"dwt-normal\"\n[teacher]\nfrom = \"uniform\"\n[data]\nshards = \"in memory\"\n[train]\nsteps = 10\nevaluate_every = 100";
    let file = RunFile::parse(text, "the benchmark")?;
    let facts = find_facts(&file.wanted(), &Ok(shards.clone()));
    let plan = file.resolve(&facts)?;
    Ok((shards, plan))
}
