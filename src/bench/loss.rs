//! The distillation loss, alone and with the language-model head, forward and backward: composed, fused, PyTorch's and,
//! on CUDA, Liger's.

use burn::tensor::{Int, Tensor, TensorData};

use super::meter::{Taken, measure, memory_and_seconds};
use super::peer::Peer;
use super::{Row, against_peer, median};
use crate::device::{Compute, Device, DeviceKind, Kernels, Precision, Traits, is_cpu};
use crate::kernels::dwt_loss::{BOTH, spread};
use crate::kernels::{Logits, Targets};
use crate::loss::dwt_loss;

/// A size to measure.
#[derive(Debug, Clone, Copy)]
pub struct LossSize {
    /// Slots, `m`.
    pub slots: usize,
    /// Vocabulary, `v`.
    pub vocab: usize,
    /// Width of hidden states, `d`, of student and teacher.
    pub width: usize,
}

/// Measures the loss and the head with the loss, `rounds` times each in turn. `note` is told what is not there.
pub fn bench_loss(size: LossSize, rounds: usize, device: &Device, python: &str, mut note: impl FnMut(String)) -> Vec<Row> {
    let mut pytorch = match Peer::pytorch(python, device, Precision::F32, 1) {
        Ok(pytorch) => {
            note(pytorch.about.clone());
            Some(pytorch)
        }
        Err(why) => {
            note(format!("NOTE: no PyTorch to compare with: {why}; --python names one that has it"));
            None
        }
    };
    let LossSize { slots: m, vocab: v, width: d } = size;
    let forms = Traits::of(&device.handle).kernels;
    let loss_request = |how: &str| format!("loss {how} {m} {v}");
    let head_request = |how: &str| format!("head {how} {m} {d} {v}");
    let loss_work = Work::new(device, m, v, None);
    let mut rows = in_turn("loss", &format!("[{m}, {v}]"), &loss_work, forms, rounds, &mut pytorch, loss_request, &mut note);
    drop(loss_work);
    let head_work = Work::new(device, m, v, Some(d));
    let head_size = format!("[{m}, {d}] x [{d}, {v}]");
    rows.extend(in_turn("head and loss", &head_size, &head_work, forms, rounds, &mut pytorch, head_request, &mut note));
    rows
}

#[expect(clippy::too_many_arguments, reason = "one caller; a struct would only name them again")]
fn in_turn(
    what: &'static str,
    size: &str,
    work: &Work,
    forms: &[Kernels],
    rounds: usize,
    pytorch: &mut Option<Peer>,
    request: impl Fn(&str) -> String,
    note: &mut impl FnMut(String),
) -> Vec<Row> {
    let mut taken: Vec<(&'static str, Vec<Taken>)> = Vec::new();
    let mut add = |form: &'static str, one: Taken| match taken.iter_mut().find(|(known, _)| *known == form) {
        Some((_, all)) => all.push(one),
        None => taken.push((form, vec![one])),
    };
    let mut copies = Vec::new();
    let mut theirs = vec![("pytorch", "eager"), ("pytorch compiled", "compiled")];
    if work.device.kind == DeviceKind::Cuda {
        theirs.push(("liger", "liger"));
    }
    for round in 0..=rounds + 1 {
        for form in forms {
            let one = measure(round, || work.run(*form));
            (round > 0).then(|| add(form.word(), one));
        }
        if let Some(pytorch) = pytorch {
            theirs.retain(|(name, how)| match pytorch.measure(round, &request(how)) {
                Ok(one) => {
                    (round > 0).then(|| add(name, one));
                    true
                }
                Err(why) => {
                    note(format!("NOTE: {name}, {what}: {why}"));
                    false
                }
            });
        }
        if let Some(bytes) = work.fewest_bytes {
            copies.push(copy_bytes_per_s(bytes, &work.device));
        }
    }
    let row = |(form, taken): (&'static str, Vec<Taken>)| {
        let (peak_bytes, seconds) = memory_and_seconds(&taken);
        let seconds = median(seconds);
        let share = |bytes: u64| bytes as f64 / seconds / median(copies.clone());
        Row {
            what,
            size: size.to_owned(),
            form,
            device: work.device.to_string(),
            seconds,
            tokens_per_s: None,
            fewest_bytes: work.fewest_bytes,
            copy_share: work.fewest_bytes.map(share),
            peak_bytes,
            peer: "",
            ratio: None,
        }
    };
    against_peer(taken.into_iter().map(row).collect())
}

/// What is measured, with its inputs.
struct Work {
    device: Device,
    student: Logits,
    teacher: Logits,
    targets: Targets,
    fewest_bytes: Option<u64>,
}

impl Work {
    /// Logits of `m` slots over `v` tokens; with a width, as factors.
    fn new(device: &Device, m: usize, v: usize, width: Option<usize>) -> Self {
        let handle = &device.handle;
        let labels: Vec<i32> = (0..m).map(|slot| (slot * 7919 % v) as i32).collect();
        let logits = |seed| match width {
            None => Logits::Whole(Tensor::from_data(TensorData::new(spread(m * v, seed), [m, v]), handle)),
            Some(d) => Logits::Factors {
                hidden_md: Tensor::from_data(TensorData::new(spread(m * d, seed), [m, d]), handle) * 0.1,
                words_vd: Tensor::from_data(TensorData::new(spread(v * d, seed + 1), [v, d]), handle) * 0.1,
                bias_v: Tensor::zeros([v], handle),
            },
        };
        Self {
            device: device.clone(),
            student: logits(10),
            teacher: logits(20),
            targets: Targets {
                labels_m: Tensor::<1, Int>::from_data(TensorData::new(labels, [m]), handle),
                weights_m: Tensor::ones([m], handle),
                count: m,
            },
            fewest_bytes: width.is_none().then_some(3 * 4 * (m * v) as u64),
        }
    }

    /// Forward and backward.
    fn run(&self, form: Kernels) {
        let compute = Compute::of(&self.device.handle).by(form);
        fn leaf<const D: usize>(x: &Tensor<D>) -> Tensor<D> {
            x.clone().autodiff().require_grad()
        }
        fn wait<const D: usize>(x: Option<Tensor<D>>) {
            // Reading a number back waits for a GPU.
            let _ = x.expect("a gradient").flatten::<1>(0, D - 1).narrow(0, 0, 1).into_scalar::<f32>();
        }
        match &self.student {
            Logits::Whole(logits_mv) => {
                let logits_mv = leaf(logits_mv);
                let total =
                    dwt_loss(Logits::Whole(logits_mv.clone()), Some(self.teacher.clone()), &self.targets, &BOTH, &compute).total;
                wait(logits_mv.grad(&total.backward()));
            }
            Logits::Factors { hidden_md, words_vd, bias_v } => {
                let (hidden_md, words_vd, bias_v) = (leaf(hidden_md), leaf(words_vd), leaf(bias_v));
                let student = Logits::Factors { hidden_md, words_vd: words_vd.clone(), bias_v };
                let total = dwt_loss(student, Some(self.teacher.clone()), &self.targets, &BOTH, &compute).total;
                wait(words_vd.grad(&total.backward()));
            }
        }
    }
}

/// Bytes a second that going through `bytes / 2` once moves, reads and writes both counted: a copy on all threads, or
/// one multiplication on a GPU.
fn copy_bytes_per_s(bytes: u64, device: &Device) -> f64 {
    if !is_cpu(&device.handle) {
        let from = Tensor::<1>::ones([bytes as usize / 8], &device.handle);
        let wait = |x: Tensor<1>| x.narrow(0, 0, 1).into_scalar::<f32>();
        wait(from.clone());
        return bytes as f64 / measure(0, || assert_eq!(wait(from * 2.0), 2.0)).seconds;
    }
    use rayon::prelude::*;
    const PART: usize = 1 << 20;
    let from = vec![1u8; bytes as usize / 2];
    let mut to = vec![0u8; from.len()];
    to.fill(2);
    let taken = measure(0, || to.par_chunks_mut(PART).zip(from.par_chunks(PART)).for_each(|(to, from)| to.copy_from_slice(from)));
    std::hint::black_box(&to);
    bytes as f64 / taken.seconds
}
