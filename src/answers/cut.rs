//! From a teacher's logits at a slot to what is kept of them.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::block::Slots;
use crate::config::{AnswersHeader, AnswersKind};

/// A slot by its row's number in the endless sequence and its place within the row: what its draws are keyed by.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The row.
    pub row: u64,
    /// The used slot within it.
    pub slot: usize,
}

/// What is kept of one slot's logits `[v]`, none of them NaN or infinite: a function of the header, the place and the
/// logits.
pub fn cut(logits_v: &[f32], label: usize, place: Place, header: &AnswersHeader) -> Slots {
    let highest = f64::from(logits_v.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let log_sum = |tau: f64| logits_v.iter().map(|&z| ((f64::from(z) - highest) / tau).exp()).sum::<f64>().ln();
    let log_sum_exp = highest + log_sum(1.0);
    let tau = header.temperature;
    let softened = log_sum(tau);
    let log_r = |id: usize| (f64::from(logits_v[id]) - highest) / tau - softened;
    let r_v: Vec<f64> = (0..logits_v.len()).map(|id| log_r(id).exp()).collect();
    let entropy = -r_v.iter().enumerate().map(|(id, r)| if *r > 0.0 { r * log_r(id) } else { 0.0 }).sum::<f64>();
    let (named, rest) = match header.kind {
        AnswersKind::TopK => likeliest(logits_v, &r_v, header.count),
        AnswersKind::Draws => (drawn(&r_v, header.count, header.seed, place), 0.0),
    };
    Slots {
        log_sum_exp: vec![log_sum_exp as f32],
        entropy: vec![entropy as f32],
        label_loss: vec![(log_sum_exp - f64::from(logits_v[label])) as f32],
        rest: vec![rest as f32],
        named: vec![named.len() as u16],
        ids: named.iter().map(|(id, _)| *id).collect(),
        shares: named.iter().map(|(_, share)| *share).collect(),
    }
}

/// The `k` likeliest tokens, the likeliest first and of equal ones the lowest, and the mass of all others.
fn likeliest(logits_v: &[f32], r_v: &[f64], k: usize) -> (Vec<(u32, f32)>, f64) {
    let mut order: Vec<u32> = (0..logits_v.len() as u32).collect();
    let before = |a: &u32, b: &u32| logits_v[*b as usize].total_cmp(&logits_v[*a as usize]).then(a.cmp(b));
    if k < order.len() {
        order.select_nth_unstable_by(k, before);
    }
    // Added up by itself: as what the others leave of 1 it would be rounding alone where the teacher is sure.
    let rest = order[k..].iter().map(|&id| r_v[id as usize]).sum();
    order.truncate(k);
    order.sort_unstable_by(before);
    (order.into_iter().map(|id| (id, r_v[id as usize] as f32)).collect(), rest)
}

/// How often each token was drawn, of `n` draws with replacement.
fn drawn(r_v: &[f64], n: usize, seed: u64, place: Place) -> Vec<(u32, f32)> {
    let mut key = [0; 32];
    for (part, value) in key.chunks_mut(8).zip([seed, place.row, place.slot as u64, u64::from_le_bytes(*b"draws   ")]) {
        part.copy_from_slice(&value.to_le_bytes());
    }
    let mut rng = ChaCha8Rng::from_seed(key);
    let total: f64 = r_v.iter().sum();
    let mut draws: Vec<f64> = (0..n).map(|_| (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * total).collect();
    draws.sort_unstable_by(f64::total_cmp);
    let (mut out, mut reached, mut at): (Vec<(u32, f32)>, f64, usize) = (Vec::new(), 0.0, 0);
    for (id, r) in r_v.iter().enumerate() {
        reached += r;
        let from = at;
        // The last token takes what rounding leaves beyond the sum.
        while at < n && (draws[at] < reached || id + 1 == r_v.len()) {
            at += 1;
        }
        if at > from {
            out.push((id as u32, (at - from) as f32));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::block::tests::header;
    use super::*;

    const LOGITS: [f32; 5] = [1.0, 3.0, -2.0, 3.0, 0.0];

    #[test]
    fn the_likeliest_tokens_and_what_is_left() {
        let header = AnswersHeader { temperature: 1.0, ..header(AnswersKind::TopK, 2, 5) };
        let slots = cut(&LOGITS, 4, Place { row: 0, slot: 0 }, &header);
        let sum: f64 = LOGITS.iter().map(|&z| f64::from(z).exp()).sum();
        let p = LOGITS.map(|z| f64::from(z).exp() / sum);
        let near = |found: f32, wanted: f64| assert!((f64::from(found) - wanted).abs() < 1e-6, "{found} {wanted}");
        assert_eq!((slots.named, slots.ids), (vec![2], vec![1, 3]));
        near(slots.shares[0], p[1]);
        near(slots.rest[0], p[0] + p[2] + p[4]);
        near(slots.log_sum_exp[0], sum.ln());
        near(slots.label_loss[0], -p[4].ln());
        near(slots.entropy[0], -p.iter().map(|p| p * p.ln()).sum::<f64>());
        let whole = cut(&LOGITS, 4, Place { row: 0, slot: 0 }, &AnswersHeader { count: 5, ..header });
        assert_eq!((whole.ids, whole.rest), (vec![1, 3, 0, 4, 2], vec![0.0]));
    }

    #[test]
    fn draws_are_of_the_softened_distribution_and_a_function_of_their_place() {
        let header = header(AnswersKind::Draws, 40, 5);
        let softened: f64 = LOGITS.iter().map(|&z| (f64::from(z) / 2.0).exp()).sum();
        let mut counts = [0.0f64; 5];
        let rows = 2_000;
        for row in 0..rows {
            let slots = cut(&LOGITS, 0, Place { row, slot: 1 }, &header);
            assert_eq!(slots.shares.iter().sum::<f32>(), 40.0);
            slots.ids.iter().zip(&slots.shares).for_each(|(&id, &count)| counts[id as usize] += f64::from(count));
        }
        let draws = 40.0 * rows as f64;
        for (count, z) in counts.into_iter().zip(LOGITS) {
            let p = (f64::from(z) / 2.0).exp() / softened;
            assert!((count / draws - p).abs() < 4.5 * (p * (1.0 - p) / draws).sqrt(), "{} {p}", count / draws);
        }
        let at = |row, slot| cut(&LOGITS, 0, Place { row, slot }, &header);
        assert_eq!(at(7, 1), at(7, 1));
        assert_ne!(at(7, 1), at(7, 2));
        assert_ne!(at(7, 1), at(8, 1));
    }
}
