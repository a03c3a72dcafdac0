//! Which sentences are kept and which documents are held out: functions of the content and the seed.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// The indices kept of a document's `count` sentences: one of every `k` consecutive ones, chosen uniformly (Lee et al.
/// 2023: "uniformly selecting one sentence out of every four").
///
/// Every sentence is kept with probability `1 / k`, those of a last, incomplete group too: its choice may fall beyond
/// the end, and then keeps none of it. The choice depends on `seed`, the document's `fingerprint` and the group.
pub fn sample(count: usize, k: usize, seed: u64, fingerprint: &[u8; 32]) -> Vec<usize> {
    if k <= 1 {
        return (0..count).collect();
    }
    let mut key = blake3::Hasher::new_derive_key("upstill sampling of sentences, 1");
    key.update(&seed.to_le_bytes()).update(fingerprint);
    let mut rng = ChaCha8Rng::from_seed(*key.finalize().as_bytes());
    let chosen = (0..count).step_by(k).map(|start| start + below(k, &mut rng));
    chosen.filter(|index| *index < count).collect()
}

/// Uniform in `0..k`; for a `k` this small the bias of the multiplication is below 2^-50.
fn below(k: usize, rng: &mut impl RngCore) -> usize {
    ((u128::from(rng.next_u64()) * k as u128) >> 64) as usize
}

/// Whether the document of this `fingerprint` is in the held-out share (0 to 1). The answer depends on nothing else: it
/// stays when files are added, and a larger share holds all that a smaller one did. A share of 1 holds all.
pub fn is_held_out(fingerprint: &[u8; 32], share: f64) -> bool {
    if share >= 1.0 {
        return true;
    }
    let first = fingerprint[..8].try_into().expect("a fingerprint has 32 bytes");
    (u64::from_le_bytes(first) as f64) < share * 2f64.powi(64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(i: u64) -> [u8; 32] {
        *blake3::hash(&i.to_le_bytes()).as_bytes()
    }

    #[test]
    fn one_of_each_group_and_every_place_alike() {
        let mut places = [0; 4];
        for i in 0..2000 {
            let kept = sample(20, 4, 1, &fingerprint(i));
            assert_eq!(kept.iter().map(|index| index / 4).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
            kept.iter().for_each(|index| places[index % 4] += 1);
        }
        // 10,000 draws: a place's count has mean 2,500 and standard deviation 43.
        assert!(places.iter().all(|count| (2300..2700).contains(count)), "{places:?}");
    }

    #[test]
    fn short_documents_are_kept_at_the_same_rate() {
        let kept: usize = (0..4000).map(|i| sample(1, 4, 1, &fingerprint(i)).len()).sum();
        assert!((850..1150).contains(&kept), "{kept}");
    }

    #[test]
    fn the_choice_depends_on_seed_and_document_only() {
        let a = sample(400, 4, 1, &fingerprint(1));
        assert_eq!(a, sample(400, 4, 1, &fingerprint(1)));
        assert_ne!(a, sample(400, 4, 2, &fingerprint(1)));
        assert_ne!(a, sample(400, 4, 1, &fingerprint(2)));
        assert_eq!(sample(3, 1, 1, &fingerprint(1)), [0, 1, 2]);
    }

    #[test]
    fn a_larger_share_holds_out_all_that_a_smaller_one_did() {
        let held = |share| (0..5000).filter(|i| is_held_out(&fingerprint(*i), share)).collect::<Vec<_>>();
        let (small, large) = (held(0.02), held(0.1));
        assert!((60..140).contains(&small.len()), "{}", small.len());
        assert!(small.iter().all(|i| large.contains(i)));
        assert!(held(0.0).is_empty());
        // The largest fingerprint rounds up to 2^64.
        assert!(is_held_out(&[0xff; 32], 1.0) && !is_held_out(&[0xff; 32], 0.999));
    }
}
