//! The distillation loss against a few outcomes of a teacher, and its gradient: the definition, and the cases that
//! every form of it must agree on. The forms: [`reference`](fn@reference) here; in `src/kernels/outcomes/`
//! `composed.rs` (burn operations), `cpu.rs` and `cube.rs` (GPUs).
//!
//! A slot's teacher is k tokens with shares r_i and the share o of all other tokens together, "OTHER"; a share of 0
//! stands for nothing. With S the tokens whose share is above 0, q = softmax(z / tau) and q_o the sum of q outside S:
//!
//! ```text
//! soft = c - sum over S of r_i log q_i - o log q_o
//! d soft / d z_j = (R q_j - r_j) / tau             in S        R = o + sum over S of r_i, which is 1 of a distribution
//!                = (R q_j - o q_j / q_o) / tau     outside S
//! ```
//!
//! c has no part in the gradient. Two kinds of teachers come as such outcomes:
//!
//! * **top-k and OTHER**: the teacher's k likeliest tokens; o is what is left, and c = sum r_i log r_i + o log o. Then
//!   `soft` is the KL divergence over k + 1 outcomes, which is never above that over the vocabulary (log-sum
//!   inequality; Cover and Thomas 2006, theorem 2.7.1), and equal to it when k is the vocabulary.
//! * **draws**: n draws with replacement from the teacher's distribution; r_i is how often a token was drawn over n, o
//!   = 0, and c = -H, the teacher's entropy (Anshumann et al. 2025, "Sparse Logit Sampling", arXiv 2503.16870, section
//!   3). In expectation over the draws `soft` and its gradient are those of the whole distribution; of a single slot
//!   `soft` may be below 0.
//!
//! The hard loss, the weights and the total are those of `dwt_loss.rs`. Shapes: `m` slots, `v` vocabulary, `k` places
//! for tokens of a slot; everything row after row. Tokens of one slot that have a share are different.

use super::dwt_loss::{BOTH, Case, DwtLoss, Reference, log_softmax, reference as dense};

/// The definition: plain loops, 64-bit arithmetic.
pub fn reference(case: &OutcomesCase) -> Reference {
    let Case { v, student_mv, labels_m, weights_m, loss, .. } = &case.dense;
    let (v, k, tau) = (*v, case.k, loss.temperature);
    let hard = DwtLoss { alpha_soft: None, ..*loss };
    let mut out = dense(student_mv, &[], labels_m, weights_m, &hard);
    for (slot, &weight) in weights_m.iter().enumerate().filter(|(_, weight)| **weight != 0.0 && loss.alpha_soft.is_some()) {
        let weight = f64::from(weight);
        let log_q_v = log_softmax(&student_mv[slot * v..][..v], tau);
        let mut shares_v = vec![0.0; v];
        for (&id, &share) in case.ids_mk[slot * k..][..k].iter().zip(&case.shares_mk[slot * k..][..k]).filter(|(_, s)| **s > 0.0)
        {
            shares_v[id as usize] += f64::from(share);
        }
        let rest = f64::from(case.rest_m[slot]);
        let log_rest =
            log_q_v.iter().zip(&shares_v).filter(|(_, share)| **share == 0.0).map(|(log_q, _)| log_q.exp()).sum::<f64>().ln();
        out.soft += weight * f64::from(case.constant_m[slot]);
        if rest > 0.0 {
            out.soft -= weight * rest * log_rest;
        }
        let all = rest + shares_v.iter().sum::<f64>();
        for (i, (&log_q, &share)) in log_q_v.iter().zip(&shares_v).enumerate() {
            if share > 0.0 {
                out.soft -= weight * share * log_q;
            }
            let target = match (share > 0.0, rest > 0.0) {
                (true, _) => share,
                (false, true) => rest * (log_q - log_rest).exp(),
                (false, false) => 0.0,
            };
            out.gradient_mv[slot * v + i] += weight * loss.soft_factor() / tau * (all * log_q.exp() - target);
        }
    }
    out
}

/// One case for every form.
#[derive(Debug, Clone)]
pub struct OutcomesCase {
    /// Student, labels, weights and loss; its teacher is where the outcomes come from.
    pub dense: Case,
    /// Places for tokens of a slot.
    pub k: usize,
    /// Tokens, `[m, k]`.
    pub ids_mk: Vec<i32>,
    /// Their shares, `[m, k]`; 0 where a place is not used.
    pub shares_mk: Vec<f32>,
    /// The share of all other tokens, `[m]`.
    pub rest_m: Vec<f32>,
    /// What is added to a slot's loss, `[m]`.
    pub constant_m: Vec<f32>,
}

impl OutcomesCase {
    /// The k likeliest tokens of a case's teacher, and OTHER.
    pub fn top(dense: Case, k: usize) -> Self {
        let (v, tau) = (dense.v, dense.loss.temperature);
        let mut out = Self { k, ids_mk: vec![], shares_mk: vec![], rest_m: vec![], constant_m: vec![], dense };
        for teacher_v in out.dense.teacher_mv.chunks(v) {
            let r_v: Vec<f64> = log_softmax(teacher_v, tau).into_iter().map(f64::exp).collect();
            let mut order: Vec<usize> = (0..v).collect();
            order.sort_by(|&a, &b| r_v[b].total_cmp(&r_v[a]).then(a.cmp(&b)));
            let rest: f64 = order[k..].iter().map(|&i| r_v[i]).sum();
            let term = |share: f64| if share > 0.0 { share * share.ln() } else { 0.0 };
            out.ids_mk.extend(order[..k].iter().map(|&i| i as i32));
            out.shares_mk.extend(order[..k].iter().map(|&i| r_v[i] as f32));
            out.rest_m.push(rest as f32);
            out.constant_m.push((order[..k].iter().map(|&i| term(r_v[i])).sum::<f64>() + term(rest)) as f32);
        }
        out
    }

    /// Some tokens drawn `n` times in all, with places to spare; the constant is any number.
    pub fn drawn(dense: Case, n: usize) -> Self {
        let (m, v, k) = (dense.m, dense.v, n + 2);
        let mut out = Self { k, ids_mk: vec![], shares_mk: vec![], rest_m: vec![0.0; m], constant_m: vec![-1.25; m], dense };
        for slot in 0..m {
            let mut counts = std::collections::BTreeMap::new();
            (0..n).for_each(|i| *counts.entry((slot * 31 + i * i * 17 + i % 3) % v).or_insert(0usize) += 1);
            let mut places: Vec<(i32, f32)> =
                counts.into_iter().map(|(id, count)| (id as i32, count as f32 / n as f32)).collect();
            places.resize(k, (0, 0.0));
            out.ids_mk.extend(places.iter().map(|place| place.0));
            out.shares_mk.extend(places.iter().map(|place| place.1));
        }
        out
    }

    fn named(mut self, name: &str) -> Self {
        self.dense.name = format!("{name}, k {}: {}", self.k, self.dense.name);
        self
    }
}

/// The case table.
pub fn cases() -> Vec<OutcomesCase> {
    let top = |m, v, k, loss| OutcomesCase::top(Case::new("", m, v, loss), k).named("top-k");
    let mut out = Vec::new();
    for (v, k) in [(1, 1), (31, 4), (32, 32), (257, 12), (1757, 50), (30522, 128), (257, 257)] {
        out.push(top(3, v, k, BOTH));
    }
    for m in [0, 1, 1100] {
        out.push(top(m, 33, 5, BOTH));
    }
    for temperature in [0.05, 0.5, 1.0, 100.0] {
        out.push(top(5, 257, 12, DwtLoss { temperature, ..BOTH }));
    }
    for loss in [
        DwtLoss { tau_squared: true, ..BOTH },
        DwtLoss { smoothing: 0.1, ..BOTH },
        DwtLoss { alpha_hard: None, ..BOTH },
        DwtLoss { alpha_hard: Some(0.0), temperature: 1.0, ..BOTH },
    ] {
        out.push(top(4, 257, 12, loss));
        out.push(OutcomesCase::drawn(Case::new("", 4, 257, loss), 50).named("drawn"));
    }
    let mut large = top(4, 257, 12, BOTH);
    large.dense.student_mv.iter_mut().for_each(|z| *z *= 1e4 / 3.0);
    out.push(large.named("logits to 1e4"));
    let mut nothing_left = top(4, 257, 12, BOTH);
    nothing_left.rest_m.fill(0.0);
    out.push(nothing_left.named("no share is left for the rest"));
    let mut unused = top(4, 257, 12, BOTH);
    unused.dense.weights_m.fill(0.0);
    out.push(unused.named("weights 0"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The total that the gradient belongs to.
    fn total(case: &OutcomesCase, student_mv: &[f32]) -> f64 {
        let mut moved = case.clone();
        moved.dense.student_mv = student_mv.to_vec();
        let (found, loss) = (reference(&moved), case.dense.loss);
        loss.hard_factor() * found.hard + loss.soft_factor() * found.soft
    }

    #[test]
    fn the_gradient_is_the_slope() {
        let dense = || Case::new("slope", 3, 7, BOTH);
        for case in [OutcomesCase::top(dense(), 3), OutcomesCase::top(dense(), 7), OutcomesCase::drawn(dense(), 5)] {
            let gradient_mv = reference(&case).gradient_mv;
            for i in 0..21 {
                let at = |step: f32| {
                    let mut moved = case.dense.student_mv.clone();
                    moved[i] += step;
                    (total(&case, &moved), f64::from(moved[i]))
                };
                let ((up, right), (down, left)) = (at(1e-3), at(-1e-3));
                let slope = (up - down) / (right - left);
                // Central differences: off by the third derivative times 1e-6 / 6, with weights up to 5.
                assert!((slope - gradient_mv[i]).abs() < 2e-6, "{slope} {}", gradient_mv[i]);
            }
        }
    }

    #[test]
    fn all_tokens_are_the_dense_loss_and_fewer_are_a_lower_bound() {
        for loss in [BOTH, DwtLoss { temperature: 1.0, alpha_hard: None, ..BOTH }] {
            let dense = Case::new("dense", 5, 97, loss);
            let wanted = dense.reference();
            let mut before = -1e-9;
            for k in [1, 2, 4, 12, 50, 96, 97] {
                let found = reference(&OutcomesCase::top(dense.clone(), k));
                // Merging outcomes never adds information, so the bound grows with k; shares are f32.
                assert!(found.soft >= before - 1e-6 && found.soft <= wanted.soft + 1e-6, "k {k}: {} {}", found.soft, wanted.soft);
                before = found.soft;
                if k >= 96 {
                    // One token left over is an outcome of its own.
                    assert!((found.soft - wanted.soft).abs() < 1e-5, "{} {}", found.soft, wanted.soft);
                    for (found, wanted) in found.gradient_mv.iter().zip(&wanted.gradient_mv) {
                        assert!((found - wanted).abs() < 1e-6, "{found} {wanted}");
                    }
                }
            }
            assert!(reference(&OutcomesCase::top(dense.clone(), 4)).soft < 0.9 * wanted.soft, "the bound is one");
        }
    }
}
