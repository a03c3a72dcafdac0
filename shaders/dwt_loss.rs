//! The distillation loss of masked language modelling and its gradient: the definition, and the cases that every form
//! of it must agree on. The forms: [`reference`](fn@reference) here; in `src/kernels/loss/` `composed.rs` (burn
//! operations), `row.rs` (CPU) and `cube.rs` (CubeCL); `dwt_loss.wgsl` beside this file (WebGPU).
//!
//! For a slot with student logits z, teacher logits t, label y and weight w, over a vocabulary of v tokens:
//!
//! ```text
//! hard = - sum_i u_i log p_i        p = softmax(z),  u_i = (1 - e) [i = y] + e / v         Lee et al. 2023, equation 1
//! soft =   sum_i r_i log (r_i/q_i)  q = softmax(z / tau),  r = softmax(t / tau)            equation 2
//! total = alpha_hard * hard + alpha_soft * f * soft      f = tau^2 if tau_squared, else 1  equation 3
//! d total / d z_i = alpha_hard (p_i - u_i) + alpha_soft f / tau (q_i - r_i)
//! ```
//!
//! with e the label smoothing and 0 log 0 = 0. A batch's losses are the sums over its slots, each times w; the gradient
//! of a slot of weight 0 is 0, whatever its logits.
//!
//! Shapes: `m` slots, `v` vocabulary; everything row after row.

/// The kernel for WebGPU.
pub const WGSL: &str = include_str!("dwt_loss.wgsl");

/// What is added up, and how it weighs in the total (equation 3).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DwtLoss {
    /// Weight of the hard loss; `None`: not computed.
    pub alpha_hard: Option<f64>,
    /// Weight of the soft loss; `None`: not computed, and the teacher is not read.
    pub alpha_soft: Option<f64>,
    /// Temperature of the soft loss, above 0.
    pub temperature: f64,
    /// Share of the hard target spread over the vocabulary (Szegedy et al. 2016).
    pub smoothing: f64,
    /// Whether the total has the soft loss times the temperature squared (Hinton et al. 2015).
    pub tau_squared: bool,
}

impl DwtLoss {
    /// The hard loss alone: masked language modelling.
    pub fn hard(alpha_hard: f64, smoothing: f64) -> Self {
        Self { alpha_hard: Some(alpha_hard), alpha_soft: None, temperature: 1.0, smoothing, tau_squared: false }
    }

    /// What the total has the hard loss times; 0 when there is none.
    pub fn hard_factor(&self) -> f64 {
        self.alpha_hard.unwrap_or(0.0)
    }

    /// What the total has the soft loss times, tau^2 included; 0 when there is none.
    pub fn soft_factor(&self) -> f64 {
        self.alpha_soft.unwrap_or(0.0) * if self.tau_squared { self.temperature * self.temperature } else { 1.0 }
    }
}

/// What [`reference()`] gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// Weighted sum of the hard losses, in nats; 0 when not computed.
    pub hard: f64,
    /// Weighted sum of the soft losses, in nats, without tau^2.
    pub soft: f64,
    /// Gradient of the total with respect to the student's logits, `[m, v]`.
    pub gradient_mv: Vec<f64>,
}

/// The definition: plain loops, 64-bit arithmetic.
///
/// Shapes: logits `[m, v]`, `labels_m [m]`, `weights_m [m]`. `teacher_mv` is read when there is a soft loss.
pub fn reference(student_mv: &[f32], teacher_mv: &[f32], labels_m: &[i32], weights_m: &[f32], loss: &DwtLoss) -> Reference {
    let v = student_mv.len() / labels_m.len().max(1);
    let mut out = Reference { hard: 0.0, soft: 0.0, gradient_mv: vec![0.0; student_mv.len()] };
    for (row, (&label, &weight)) in labels_m.iter().zip(weights_m).enumerate().filter(|(_, (_, weight))| **weight != 0.0) {
        let weight = f64::from(weight);
        let z_v = &student_mv[row * v..][..v];
        let gradient_v = &mut out.gradient_mv[row * v..][..v];
        if loss.alpha_hard.is_some() {
            let log_p_v = log_softmax(z_v, 1.0);
            for i in 0..v {
                let target = loss.smoothing / v as f64 + if i == label as usize { 1.0 - loss.smoothing } else { 0.0 };
                if target > 0.0 {
                    out.hard -= weight * target * log_p_v[i];
                }
                gradient_v[i] += weight * loss.hard_factor() * (log_p_v[i].exp() - target);
            }
        }
        if loss.alpha_soft.is_some() {
            let log_q_v = log_softmax(z_v, loss.temperature);
            let log_r_v = log_softmax(&teacher_mv[row * v..][..v], loss.temperature);
            for i in 0..v {
                let r = log_r_v[i].exp();
                if r > 0.0 {
                    out.soft += weight * r * (log_r_v[i] - log_q_v[i]);
                }
                gradient_v[i] += weight * loss.soft_factor() / loss.temperature * (log_q_v[i].exp() - r);
            }
        }
    }
    out
}

/// Logarithms of the probabilities that a slot's logits `[v]` are at a temperature: `log softmax(z / tau)`.
pub fn log_softmax(logits_v: &[f32], temperature: f64) -> Vec<f64> {
    let largest = f64::from(logits_v.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let scaled_v: Vec<f64> = logits_v.iter().map(|&logit| (f64::from(logit) - largest) / temperature).collect();
    let log_sum = scaled_v.iter().map(|x| x.exp()).sum::<f64>().ln();
    scaled_v.into_iter().map(|x| x - log_sum).collect()
}

/// One case for every form.
#[derive(Debug, Clone)]
pub struct Case {
    /// What is special about it.
    pub name: String,
    /// Slots.
    pub m: usize,
    /// Vocabulary.
    pub v: usize,
    /// `[m, v]`.
    pub student_mv: Vec<f32>,
    /// `[m, v]`.
    pub teacher_mv: Vec<f32>,
    /// `[m]`.
    pub labels_m: Vec<i32>,
    /// `[m]`.
    pub weights_m: Vec<f32>,
    /// What is added up.
    pub loss: DwtLoss,
}

impl Case {
    /// What the definition says of it.
    pub fn reference(&self) -> Reference {
        reference(&self.student_mv, &self.teacher_mv, &self.labels_m, &self.weights_m, &self.loss)
    }

    /// Logits spread over about -3 to 3, labels spread over the vocabulary, every third weight 0 unless there is one
    /// slot.
    pub fn new(name: &str, m: usize, v: usize, loss: DwtLoss) -> Self {
        let weight = |row: usize| if m > 1 && row % 3 == 1 { 0.0 } else { 0.5 + (row % 4) as f32 * 0.25 };
        Self {
            name: format!("{name}, [{m}, {v}]"),
            m,
            v,
            student_mv: spread(m * v, 1),
            teacher_mv: spread(m * v, 2),
            labels_m: (0..m).map(|row| ((row * 7919 + v / 2) % v) as i32).collect(),
            weights_m: (0..m).map(weight).collect(),
            loss,
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// Numbers between -3 and 3 with no order to them: a function of `seed` and the place alone.
pub fn spread(count: usize, seed: u64) -> Vec<f32> {
    let mixed = |i: u64| {
        let x = (i ^ (seed << 40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40
    };
    (0..count as u64).map(|i| mixed(i) as f32 / (1 << 24) as f32 * 6.0 - 3.0).collect()
}

/// The loss most cases have: both parts, the paper's temperature.
pub const BOTH: DwtLoss =
    DwtLoss { alpha_hard: Some(1.0), alpha_soft: Some(4.0), temperature: 2.0, smoothing: 0.0, tau_squared: false };

/// The case table.
pub fn cases() -> Vec<Case> {
    let mut out = Vec::new();
    for v in [1, 31, 32, 33, 255, 256, 257, 1757, 30522, 50257] {
        out.push(Case::new("vocabulary", 3, v, BOTH));
    }
    for m in [0, 1, 1099, 1100] {
        out.push(Case::new("slots", m, 33, BOTH));
    }
    out.push(Case::new("slots", 70_000, 3, BOTH));
    for temperature in [0.05, 0.5, 1.0, 100.0] {
        out.push(Case::new(&format!("temperature {temperature}"), 5, 257, DwtLoss { temperature, ..BOTH }));
    }
    let both = |name: &str| Case::new(name, 4, 257, BOTH);
    out.push(both("tau squared").with(|case| case.loss.tau_squared = true));
    out.push(both("smoothing").with(|case| case.loss.smoothing = 0.1));
    out.push(both("hard only").with(|case| case.loss = DwtLoss::hard(0.7, 0.1)));
    out.push(both("soft only").with(|case| case.loss.alpha_hard = None));
    out.push(both("hard told, not trained on").with(|case| case.loss.alpha_hard = Some(0.0)));
    out.push(both("equal logits").with(|case| (case.student_mv, case.teacher_mv) = (vec![2.5; 4 * 257], vec![-1.0; 4 * 257])));
    out.push(both("teacher = student").with(|case| case.teacher_mv.clone_from(&case.student_mv)));
    out.push(both("weights 0").with(|case| case.weights_m = vec![0.0; 4]));
    out.push(both("labels at both ends").with(|case| case.labels_m = vec![0, 256, 0, 256]));
    let large = |logits: &[f32]| logits.iter().map(|x| x * 1e4 / 3.0).collect::<Vec<_>>();
    out.push(
        both("logits to 1e4")
            .with(|case| (case.student_mv, case.teacher_mv) = (large(&case.student_mv), large(&case.teacher_mv))),
    );
    out.push(both("the teacher's to 1e4, cold").with(|case| {
        case.teacher_mv = large(&case.teacher_mv);
        case.loss.temperature = 0.05;
    }));
    out.push(
        both("all alike but for an offset of 1e4").with(|case| case.student_mv.iter_mut().for_each(|x| *x = x.round() + 1e4)),
    );
    out.push(both("the teacher rules a token out").with(|case| case.teacher_mv[3] = f32::NEG_INFINITY));
    out.push(both("both rule a token out").with(|case| {
        (case.student_mv[3], case.teacher_mv[3]) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
    }));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_is_the_slope() {
        for loss in [BOTH, DwtLoss { tau_squared: true, smoothing: 0.2, ..BOTH }, DwtLoss { alpha_hard: None, ..BOTH }] {
            let case = Case::new("slope", 3, 7, loss);
            let total = |student_mv: &[f32]| {
                let found = reference(student_mv, &case.teacher_mv, &case.labels_m, &case.weights_m, &loss);
                loss.hard_factor() * found.hard + loss.soft_factor() * found.soft
            };
            let gradient_mv = case.reference().gradient_mv;
            for i in 0..21 {
                let at = |step: f32| {
                    let mut moved = case.student_mv.clone();
                    moved[i] += step;
                    (total(&moved), f64::from(moved[i]))
                };
                let ((up, right), (down, left)) = (at(1e-3), at(-1e-3));
                let slope = (up - down) / (right - left);
                // Central differences: off by the third derivative times 1e-6 / 6, with weights up to 5.
                assert!((slope - gradient_mv[i]).abs() < 2e-6, "{slope} {}", gradient_mv[i]);
            }
        }
    }

    #[test]
    fn what_holds_for_any_logits() {
        for case in cases() {
            let found = case.reference();
            assert!(found.soft >= 0.0, "{}: {}", case.name, found.soft);
            for (row, gradient_v) in found.gradient_mv.chunks(case.v).enumerate() {
                let sum: f64 = gradient_v.iter().sum();
                assert!(sum.abs() < 1e-9, "{}: row {row} sums to {sum}", case.name);
            }
            // Adding a number to all logits of a slot changes nothing; a power of two keeps sums of small floats exact
            // enough.
            let moved: Vec<f32> = case.student_mv.iter().map(|z| z + 8.0).collect();
            let shifted = reference(&moved, &case.teacher_mv, &case.labels_m, &case.weights_m, &case.loss);
            let rounding = 1e-5 * found.hard.abs().max(found.soft).max(1.0);
            assert!((shifted.hard - found.hard).abs() <= rounding, "{}", case.name);
        }
        let same = cases().into_iter().find(|case| case.name.starts_with("teacher = student")).unwrap();
        assert!(same.reference().soft.abs() < 1e-12);
    }
}
