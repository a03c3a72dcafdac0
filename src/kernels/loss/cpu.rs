//! The distillation loss on burn's CPU backend, with the language-model head where the logits come as factors.
//!
//! Slots go in chunks that fit the cache. A chunk's logits are multiplied out, turned into their gradient where they
//! lie, and multiplied back into the gradients of hidden states, decoder and bias: memory is that of a chunk, however
//! many slots.

use burn::tensor::{Device, Int, Tensor, TensorData};
use rayon::prelude::*;

use super::definition::DwtLoss;
use super::row::{RowLoss, row};
use super::{Found, Targets};
use crate::device::Compute;
use crate::kernels::bf16::{self, Factor, Second};
use crate::kernels::form::Form;
use crate::kernels::host::{HostTensor, host, slice};
use crate::kernels::logits::Logits;
use crate::kernels::matrix::{Matrix, add_columns, add_product, zeros};

/// See [`dwt_loss`](super::dwt_loss()); the student is outside any graph here.
pub(super) fn dwt_loss(
    student: &Logits,
    teacher: Option<&Logits>,
    targets: &Targets,
    loss: &DwtLoss,
    compute: &Compute,
    wants_gradient: bool,
) -> Found {
    let [m, v] = student.dims();
    let teacher = loss.alpha_soft.map(|_| teacher.expect("a soft loss has a teacher"));
    assert!(teacher.is_none_or(|teacher| teacher.dims() == [m, v]), "student and teacher have the same slots and vocabulary");
    let teacher = teacher.map(Host::new);
    let teacher = teacher.as_ref().map(Host::rows);
    let teacher = match compute.form() == Form::CpuBf16 {
        true => teacher.map(|teacher| teacher.in_bf16(v, false)),
        false => teacher,
    };
    let mut teacher_cv = zeros(if teacher.is_some() { slots_at_once(compute, m, v) * v } else { 0 });
    by_chunks(student, targets, compute, wants_gradient, |chunk| {
        let teacher_cv = match &teacher {
            Some(teacher) => {
                let teacher_cv = &mut teacher_cv[..chunk.slots.len() * v];
                teacher.fill(chunk.slots, v, teacher_cv);
                teacher_cv
            }
            None => &mut [],
        };
        rows(chunk.student_cv, teacher_cv, chunk.slots, v, loss, chunk.labels_m, chunk.weight)
    })
}

/// Slots whose logits fit the cache, of `m`.
fn slots_at_once(compute: &Compute, m: usize, v: usize) -> usize {
    let chunk = (compute.traits.logits_chunk_bytes / (4 * v.max(1))).max(1);
    // Whole blocks of rows, which the product works out anyway.
    if compute.form() == Form::CpuBf16 { chunk.next_multiple_of(bf16::BLOCK) } else { chunk }.min(m)
}

/// Some slots that are worked on together.
pub(in crate::kernels) struct Chunk<'a> {
    /// Which.
    pub slots: &'a [usize],
    /// The student's logits there, `[c, v]`; to become the gradient of the total with respect to them.
    pub student_cv: &'a mut [f32],
    /// The label of every slot, `[m]`.
    pub labels_m: &'a [i64],
    /// What a slot's loss is multiplied by, the count it is divided by included.
    pub weight: &'a (dyn Fn(usize) -> f64 + Sync),
}

/// Multiplies out the student's logits chunk by chunk, has `each` turn them into losses and their gradient, and adds
/// both up.
pub(in crate::kernels) fn by_chunks(
    student: &Logits,
    targets: &Targets,
    compute: &Compute,
    wants_gradient: bool,
    mut each: impl FnMut(Chunk) -> Vec<RowLoss>,
) -> Found {
    let [m, v] = student.dims();
    let labels_m: Vec<i64> = targets.labels_m.clone().into_data().iter::<i64>().collect();
    let weights_m: Vec<f32> = targets.weights_m.clone().into_data().iter::<f32>().collect();
    assert!(labels_m.len() == m && weights_m.len() == m, "a label and a weight a slot");

    let student = Host::new(student);
    let student = match compute.form() == Form::CpuBf16 {
        true => student.rows().in_bf16(v, wants_gradient),
        false => student.rows(),
    };
    // Unused slots of a head are left out before anything is multiplied.
    let is_used = |slot: &usize| matches!(student, Rows::Whole { .. }) || weights_m[*slot] != 0.0;
    let slots: Vec<usize> = (0..m).filter(is_used).collect();
    let mut gradient = wants_gradient.then(|| Gradient::zeros(&student, m, v));
    let chunk = slots_at_once(compute, slots.len(), v);
    let is_in_place = matches!(gradient, Some(Gradient::Whole { .. }));
    let mut spare_cv = zeros(if is_in_place { 0 } else { chunk * v });
    let weight = |slot: usize| f64::from(weights_m[slot]) / targets.count.max(1) as f64;
    let (mut hard, mut soft) = (0.0, 0.0);

    for slots in slots.chunks(chunk.max(1)) {
        let student_cv = match &mut gradient {
            // A whole gradient is worked out where it stays; whole slots are all used, so they lie side by side.
            Some(Gradient::Whole { logits_mv }) => &mut logits_mv[slots[0] * v..][..slots.len() * v],
            _ => &mut spare_cv[..slots.len() * v],
        };
        student.fill(slots, v, student_cv);
        let losses = each(Chunk { slots, student_cv, labels_m: &labels_m, weight: &weight });
        for (slot, loss) in slots.iter().zip(losses) {
            hard += weight(*slot) * loss.hard;
            soft += weight(*slot) * loss.soft;
        }
        if let Some(Gradient::Factors { hidden_md, words_vd, bias_v }) = &mut gradient {
            student.add_gradient(slots, &spare_cv[..slots.len() * v], v, [hidden_md, words_vd, bias_v]);
        }
    }
    if let (Rows::Factors { words_vd, .. }, Some(Gradient::Factors { words_vd: of_words_vd, .. })) = (&student, &mut gradient)
        && of_words_vd.is_empty()
    {
        // No slot was used.
        *of_words_vd = zeros(words_vd.len());
    }
    let scalar = |x: f64| Tensor::<1>::from_floats([x as f32], &Device::flex());
    Found { hard: scalar(hard), soft: scalar(soft), gradient: gradient.map(|gradient| gradient.upload(m, v)) }
}

/// Minus the log-probability of each slot's label.
pub(super) fn hard_losses(logits: &Logits, labels_m: &Tensor<1, Int>, compute: &Compute) -> Tensor<1> {
    let [m, v] = logits.dims();
    let labels_m: Vec<i64> = labels_m.clone().into_data().iter::<i64>().collect();
    assert_eq!(labels_m.len(), m, "a label a slot");
    let host = Host::new(logits);
    let slots: Vec<usize> = (0..m).collect();
    let chunk = (compute.traits.logits_chunk_bytes / (4 * v.max(1))).clamp(1, m.max(1));
    let mut logits_cv = zeros(chunk * v);
    let mut losses: Vec<f32> = Vec::with_capacity(m);
    for slots in slots.chunks(chunk) {
        let logits_cv = &mut logits_cv[..slots.len() * v];
        host.rows().fill(slots, v, logits_cv);
        let found = rows(logits_cv, &mut [], slots, v, &DwtLoss::hard(1.0, 0.0), &labels_m, |_| 1.0);
        losses.extend(found.iter().map(|loss| loss.hard as f32));
    }
    Tensor::from_data(TensorData::new(losses, [m]), &Device::flex())
}

/// [`row`] on every row of a chunk; slots of weight 0 are not read.
fn rows(
    student_cv: &mut [f32],
    teacher_cv: &mut [f32],
    slots: &[usize],
    v: usize,
    loss: &DwtLoss,
    labels_m: &[i64],
    weight: impl Fn(usize) -> f64 + Sync,
) -> Vec<RowLoss> {
    let has_teacher = !teacher_cv.is_empty();
    let teacher_rows: Vec<&mut [f32]> = match has_teacher {
        true => teacher_cv.chunks_mut(v).collect(),
        false => slots.iter().map(|_| &mut [] as &mut [f32]).collect(),
    };
    let spare = || vec![0.0f32; if has_teacher && loss.alpha_hard.is_some() { v } else { 0 }];
    let each = |spare_v: &mut Vec<f32>, ((student_v, teacher_v), &slot): ((&mut [f32], &mut [f32]), &usize)| match weight(slot) {
        0.0 => {
            student_v.fill(0.0);
            RowLoss::default()
        }
        weight => row(student_v, teacher_v, spare_v, labels_m[slot] as usize, weight, loss),
    };
    student_cv.par_chunks_mut(v).zip(teacher_rows).zip(slots).map_init(spare, each).collect()
}

#[expect(clippy::large_enum_variant, reason = "two of them a step, never in a list")]
/// [`Logits`] as the CPU backend has them: what [`Rows`] borrows from.
enum Host {
    Whole(HostTensor),
    Factors { hidden_md: HostTensor, words_vd: HostTensor, bias_v: HostTensor },
}

impl Host {
    fn new(logits: &Logits) -> Self {
        match logits {
            Logits::Whole(logits_mv) => Host::Whole(host(logits_mv)),
            Logits::Factors { hidden_md, words_vd, bias_v } => {
                Host::Factors { hidden_md: host(hidden_md), words_vd: host(words_vd), bias_v: host(bias_v) }
            }
        }
    }

    fn rows(&self) -> Rows<'_> {
        match self {
            Host::Whole(logits_mv) => Rows::Whole { logits_mv: slice(logits_mv) },
            Host::Factors { hidden_md, words_vd, bias_v } => {
                Rows::Factors { hidden_md: slice(hidden_md), words_vd: slice(words_vd), bias_v: slice(bias_v), rounded: None }
            }
        }
    }
}

/// [`Logits`] as slices.
enum Rows<'a> {
    Whole { logits_mv: &'a [f32] },
    Factors { hidden_md: &'a [f32], words_vd: &'a [f32], bias_v: &'a [f32], rounded: Option<RoundedWords> },
}

/// The decoder in bf16, as both of its products read it, for all chunks.
struct RoundedWords {
    words_dv: Factor,
    /// For the gradient of hidden states.
    words_vd: Option<Factor>,
}

impl Rows<'_> {
    /// With products in bf16, where there are any.
    fn in_bf16(self, v: usize, wants_gradient: bool) -> Self {
        match self {
            Rows::Factors { hidden_md, words_vd, bias_v, .. } => {
                let words = Matrix::new(words_vd, words_vd.len() / v);
                let rounded = RoundedWords {
                    words_dv: Factor::right(words.transposed()),
                    words_vd: wants_gradient.then(|| Factor::right(words)),
                };
                Rows::Factors { hidden_md, words_vd, bias_v, rounded: Some(rounded) }
            }
            whole => whole,
        }
    }

    /// Multiplies out the logits of some slots.
    fn fill(&self, slots: &[usize], v: usize, out_cv: &mut [f32]) {
        match self {
            Rows::Whole { logits_mv } => {
                out_cv.par_chunks_mut(v).zip(slots).for_each(|(out_v, slot)| out_v.copy_from_slice(&logits_mv[slot * v..][..v]));
            }
            Rows::Factors { hidden_md, words_vd, bias_v, rounded: Some(rounded) } => {
                let d = words_vd.len() / v;
                let hidden_cd = gather(hidden_md, slots, d);
                bf16::fill(out_cv, &Factor::left(Matrix::new(&hidden_cd, d)), &rounded.words_dv, |_, column, [sums]| {
                    sums.iter_mut().zip(&bias_v[column..]).for_each(|(sum, bias)| *sum += bias);
                });
            }
            Rows::Factors { hidden_md, words_vd, bias_v, rounded: None } => {
                let d = words_vd.len() / v;
                out_cv.par_chunks_mut(v).for_each(|out_v| out_v.copy_from_slice(bias_v));
                let hidden_cd = gather(hidden_md, slots, d);
                add_product(out_cv, Matrix::new(&hidden_cd, d), Matrix::new(words_vd, d).transposed());
            }
        }
    }

    /// Adds what a chunk's gradient with respect to the logits comes to, by hidden states, decoder and bias.
    fn add_gradient(
        &self,
        slots: &[usize],
        gradient_cv: &[f32],
        v: usize,
        [hidden_md, of_words_vd, of_bias_v]: [&mut Vec<f32>; 3],
    ) {
        let Rows::Factors { hidden_md: x_md, words_vd, rounded, .. } = self else {
            unreachable!("the gradient has the student's form")
        };
        let d = words_vd.len() / v;
        let x_cd = gather(x_md, slots, d);
        let hidden_cd = match rounded {
            Some(RoundedWords { words_vd, .. }) => {
                let ([gradient_cv, gradient_vc], sums_v) = Factor::two(gradient_cv, None, v, Second::Turned);
                of_bias_v.iter_mut().zip(sums_v).for_each(|(of_bias, sum)| *of_bias += sum);
                let x_cd = Factor::right(Matrix::new(&x_cd, d));
                match of_words_vd.is_empty() {
                    true => *of_words_vd = bf16::multiply(&gradient_vc, &x_cd),
                    false => bf16::add_product(of_words_vd, &gradient_vc, &x_cd),
                }
                bf16::multiply(&gradient_cv, words_vd.as_ref().expect("a gradient is wanted"))
            }
            None => {
                let mut hidden_cd = vec![0.0; slots.len() * d];
                add_product(&mut hidden_cd, Matrix::new(gradient_cv, v), Matrix::new(words_vd, d));
                add_product(of_words_vd, Matrix::new(gradient_cv, v).transposed(), Matrix::new(&x_cd, d));
                add_columns(of_bias_v, gradient_cv);
                hidden_cd
            }
        };
        for (row_d, slot) in hidden_cd.chunks(d).zip(slots) {
            hidden_md[slot * d..][..d].copy_from_slice(row_d);
        }
    }
}

/// The rows of `slots`, one after another.
fn gather(x_md: &[f32], slots: &[usize], d: usize) -> Vec<f32> {
    slots.iter().flat_map(|slot| &x_md[slot * d..][..d]).copied().collect()
}

/// The gradient, as far as it is added up.
enum Gradient {
    Whole { logits_mv: Vec<f32> },
    Factors { hidden_md: Vec<f32>, words_vd: Vec<f32>, bias_v: Vec<f32> },
}

impl Gradient {
    fn zeros(student: &Rows, m: usize, v: usize) -> Self {
        match student {
            // Zeros of the system: the threads that fill it touch it first.
            Rows::Whole { .. } => Gradient::Whole { logits_mv: vec![0.0; m * v] },
            Rows::Factors { hidden_md, words_vd, rounded, .. } => {
                // In bf16 the first chunk's is the first value.
                let words_vd = if rounded.is_some() { Vec::new() } else { zeros(words_vd.len()) };
                Gradient::Factors { hidden_md: vec![0.0; hidden_md.len()], words_vd, bias_v: vec![0.0; v] }
            }
        }
    }

    fn upload(self, m: usize, v: usize) -> Logits {
        fn upload<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
            Tensor::from_data(TensorData::new(values, shape), &Device::flex())
        }
        match self {
            Gradient::Whole { logits_mv } => Logits::Whole(upload(logits_mv, [m, v])),
            Gradient::Factors { hidden_md, words_vd, bias_v } => {
                let d = words_vd.len() / v;
                Logits::Factors {
                    hidden_md: upload(hidden_md, [m, d]),
                    words_vd: upload(words_vd, [v, d]),
                    bias_v: upload(bias_v, [v]),
                }
            }
        }
    }
}
