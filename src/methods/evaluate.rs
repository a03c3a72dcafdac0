//! Scoring a masked language model on held-out rows.

use burn::tensor::{Bool, Device, Int, Tensor};
use serde::{Deserialize, Serialize};

use super::teacher::Teacher;
use crate::batch::{Batch, Batches, TokenOrder};
use crate::device::{Compute, read_scalars, wait};
use crate::error::{Error, Result};
use crate::kernels::{DwtLoss, Logits, Targets};
use crate::loss::{dwt_loss, entropy, hard_losses};
use crate::model::{BatchTensors, Dropout, LanguageModel};

/// A model's scores on held-out rows; every run is scored on the same rows with the same masks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Hard loss, in nats a token: a masked one, or of a causal model any.
    pub held_out_loss: f64,
    /// Its exponential.
    pub perplexity: f64,
    /// Share of asked tokens whose most likely candidate is right.
    pub masked_accuracy: f64,
    /// Tokens scored: masked ones, or of a causal model all.
    pub masked_tokens: u64,
    /// Of a causal model: what the text costs with the ends of its sentences, in bits, over the text's bytes. Models of
    /// different vocabularies compare by it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bits_per_byte: Option<f64>,
    /// Share of asked tokens where the teacher's most likely candidate is the same.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub teacher_agreement: Option<f64>,
}

/// Several models' scores on the same rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Together {
    /// Each model's.
    pub scores: Vec<Evaluation>,
    /// Share of asked tokens where two models' most likely candidates are the same: (first, second, share).
    pub agreement: Vec<(usize, usize, f64)>,
}

/// Scores `model`, on a device without autodiff, on the first `rows` rows.
///
/// # Errors
/// When nothing is masked there, or the loss is no number.
///
/// ```
/// use upstill::batch::{BatchOptions, Batches, Masking, Split};
/// use upstill::model::BertShape;
/// use upstill::{Device, config::Rows, evaluate, tokens::pocket_shards};
///
/// let (shards, device) = (pocket_shards()?, Device::cpu("an example").handle);
/// let options = BatchOptions { layout: Rows::Packed, length: 32, batch: 4, seed: 1, objective: Masking::default().into() };
/// let held_out = Batches::new(&shards, Split::HeldOut, options)?;
/// let untrained = BertShape::new(shards.tokenizer().vocab_size(), 16, 1, 1, 32).init(1, 0.02, &device);
/// let found = evaluate(&untrained, &held_out, 4, None, &device)?;
/// assert!((found.perplexity / shards.tokenizer().vocab_size() as f64 - 1.0).abs() < 0.2, "it knows nothing");
/// # Ok::<(), upstill::Error>(())
/// ```
pub fn evaluate(
    model: &impl LanguageModel,
    held_out: &Batches,
    rows: usize,
    teacher: Option<&dyn Teacher>,
    device: &Device,
) -> Result<Evaluation> {
    let found = wait(evaluate_together(&[model], held_out, rows, teacher, &Compute::of(device)))?.scores.swap_remove(0);
    must_be_numbers([found.held_out_loss].into_iter(), "the held-out loss")?;
    let bytes = held_out.text_bytes(rows) as f64;
    let bits = found.held_out_loss * found.masked_tokens as f64 / std::f64::consts::LN_2;
    let is_causal = held_out.objective().order() == TokenOrder::Causal;
    Ok(Evaluation { bits_per_byte: (is_causal && bytes > 0.0).then(|| bits / bytes), ..found })
}

/// Refuses what a model says where its weights are numbers, and what they come to is not: `what` names it.
pub(super) fn must_be_numbers(mut values: impl Iterator<Item = f64>, what: &str) -> Result<()> {
    match values.find(|value| !value.is_finite()) {
        None => Ok(()),
        Some(value) => {
            Err(Error::not_finite(format!("{what} is {value}: the model's weights are numbers, and what they come to is not"))
                .help("take an earlier checkpoint; train it anew with a lower learning rate, or clip harder"))
        }
    }
}

/// Logits in bytes that are multiplied out at once; what [`evaluate_together`] needs beyond a batch's hidden states.
const LOGITS_BYTES: usize = 64 << 20;

/// Scores `models`, on a device without autodiff, on the first `rows` rows, without blocking; each makes one pass over
/// them, and logits exist some slots at a time.
///
/// # Errors
/// When nothing is masked there.
pub async fn evaluate_together(
    models: &[&impl LanguageModel],
    held_out: &Batches,
    rows: usize,
    teacher: Option<&dyn Teacher>,
    compute: &Compute,
) -> Result<Together> {
    let pairs: Vec<(usize, usize)> = (0..models.len()).flat_map(|a| (a + 1..models.len()).map(move |b| (a, b))).collect();
    let mut unread: Vec<Tensor<1>> = Vec::new();
    let (mut batches, mut masked) = (0, 0);
    for host in scored(held_out, rows) {
        let batch = BatchTensors::new(&host, compute);
        let count = |same_n: Tensor<1, Bool>| (same_n.float() * batch.weights_n.clone()).sum();
        let taught = teacher.map(|teacher| {
            let logits = teacher.signal(&batch.inputs, &batch.slots).logits();
            most_probable(&logits, compute)
        });
        let mut candidates = Vec::new();
        for model in models {
            let logits = model.head(model.hidden(&batch.inputs, Some(&batch.slots), &mut Dropout::off()), compute);
            let mut losses = Vec::new();
            let best_n = in_parts(&logits, LOGITS_BYTES, compute, |from, part_nv| {
                let slots = part_nv.dims()[0];
                let targets = Targets {
                    labels_m: batch.labels_n.clone().narrow(0, from, slots),
                    weights_m: batch.weights_n.clone().narrow(0, from, slots),
                    count: 1,
                };
                losses.push(dwt_loss(part_nv.clone().into(), None, &targets, &DwtLoss::hard(1.0, 0.0), compute).hard);
                best(part_nv)
            });
            let best_n = Tensor::cat(best_n, 0);
            unread.push(count(best_n.clone().equal(batch.labels_n.clone())));
            unread.extend(taught.as_ref().map(|taught_n| count(best_n.clone().equal(taught_n.clone()))));
            unread.extend(losses.into_iter().reduce(|sum, loss| sum + loss));
            candidates.push(best_n);
        }
        unread.extend(pairs.iter().map(|&(a, b)| count(candidates[a].clone().equal(candidates[b].clone()))));
        batches += 1;
        masked += host.asked.count;
    }
    if masked == 0 {
        return Err(nothing_masked());
    }
    // In the order in which they were asked for, batch after batch.
    let mut tallies = vec![Tally::default(); models.len()];
    let mut together = vec![0.0; pairs.len()];
    let mut numbers = read_scalars(unread).await?.into_iter();
    let mut next = || numbers.next().expect("a number for each scalar that was asked for");
    for _ in 0..batches {
        for tally in &mut tallies {
            tally.right += next();
            if teacher.is_some() {
                tally.agreeing += next();
            }
            tally.loss += next();
        }
        together.iter_mut().for_each(|same| *same += next());
    }
    let n = masked as f64;
    let score = |tally: &Tally| Evaluation {
        held_out_loss: tally.loss / n,
        perplexity: (tally.loss / n).exp(),
        masked_accuracy: tally.right / n,
        masked_tokens: masked as u64,
        bits_per_byte: None,
        teacher_agreement: teacher.map(|_| tally.agreeing / n),
    };
    let agreement = pairs.iter().zip(together).map(|(&(a, b), same)| (a, b, same / n)).collect();
    Ok(Together { scores: tallies.iter().map(score).collect(), agreement })
}

/// The first `rows` held-out rows, in batches; those in which nothing is asked are left out.
fn scored(held_out: &Batches, rows: usize) -> impl Iterator<Item = Batch> {
    let mut rows_left = rows.min(held_out.rows_per_epoch());
    let steps = 0..held_out.steps_per_epoch() as u64;
    let batches = steps.map_while(move |step| {
        let whole = (rows_left > 0).then(|| held_out.at(step))?;
        let part = whole.part(0..rows_left.min(whole.rows));
        rows_left -= part.rows;
        Some(part)
    });
    batches.filter(|batch| batch.asked.count > 0)
}

fn nothing_masked() -> Error {
    Error::new("there is nothing to evaluate on: no held-out token is masked")
        .help("hold out a larger share when building the data (--held-out)")
}

/// The hard loss of a teacher on the first `rows` rows, in nats a token, as [`evaluate_together`] has a model's.
///
/// # Errors
/// When nothing is masked there, or the device fails.
pub(super) async fn teacher_loss(teacher: &dyn Teacher, held_out: &Batches, rows: usize, compute: &Compute) -> Result<f64> {
    let (mut unread, mut masked) = (Vec::new(), 0);
    for host in scored(held_out, rows) {
        let batch = BatchTensors::new(&host, compute);
        let logits = teacher.signal(&batch.inputs, &batch.slots).logits();
        unread.push((hard_losses(logits, batch.labels_n, compute) * batch.weights_n).sum());
        masked += host.asked.count;
    }
    if masked == 0 {
        return Err(nothing_masked());
    }
    Ok(read_scalars(unread).await?.into_iter().sum::<f64>() / masked as f64)
}

/// Sums over asked tokens.
#[derive(Clone, Default)]
struct Tally {
    loss: f64,
    right: f64,
    agreeing: f64,
}

/// The most probable token of each slot, `[n]`; logits exist some slots at a time.
pub(super) fn most_probable(logits: &Logits, compute: &Compute) -> Tensor<1, Int> {
    Tensor::cat(in_parts(logits, LOGITS_BYTES, compute, |_, part_nv| best(part_nv)), 0)
}

/// Entropy of each slot's distribution at temperature `tau`, `[n]`, in nats; logits exist some slots at a time.
pub(super) fn entropies(logits: &Logits, tau: f64, compute: &Compute) -> Tensor<1> {
    Tensor::cat(in_parts(logits, LOGITS_BYTES, compute, |_, part_nv| entropy(part_nv, tau)), 0)
}

/// What `each` makes of the logits, of which so many bytes are multiplied out at a time; it is told the first slot.
fn in_parts<T>(logits: &Logits, bytes: usize, compute: &Compute, mut each: impl FnMut(usize, Tensor<2>) -> T) -> Vec<T> {
    let [n, v] = logits.dims();
    let slots = (bytes / (4 * v)).max(1);
    (0..n).step_by(slots).map(|from| each(from, logits.narrow(from, slots.min(n - from)).whole(compute))).collect()
}

fn best(logits_nv: Tensor<2>) -> Tensor<1, Int> {
    logits_nv.argmax(1).squeeze_dim(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;

    #[test]
    fn slots_in_parts_are_slots_at_once() {
        let device = Device::flex();
        let tensor = |values: Vec<f32>, shape: [usize; 2]| Tensor::<2>::from_data(TensorData::new(values, shape), &device);
        let wave = |count: usize| (0..count).map(|at| (at as f32 * 0.7).sin()).collect::<Vec<f32>>();
        let logits = Logits::Factors {
            hidden_md: tensor(wave(7 * 4), [7, 4]),
            words_vd: tensor(wave(9 * 4), [9, 4]),
            bias_v: Tensor::from_floats(wave(9).as_slice(), &device),
        };
        let mut seen = Vec::new();
        let mut found = |bytes| {
            let best_n = in_parts(&logits, bytes, &Compute::of(&device), |from, part_nv| {
                seen.push((from, part_nv.dims()[0]));
                best(part_nv)
            });
            Tensor::cat(best_n, 0).into_data().iter::<i64>().collect::<Vec<_>>()
        };
        let at_once = found(1 << 20);
        assert_eq!(found(3 * 9 * 4 + 1), at_once);
        assert_eq!(found(0), at_once, "a slot at a time, however little room there is");
        assert_eq!(seen[..4], [(0, 7), (0, 3), (3, 3), (6, 1)]);
    }
}
