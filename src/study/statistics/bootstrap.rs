//! The bootstrap over items, for scores that are means over many of them.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::Interval;

/// Samples that are drawn.
pub const BOOTSTRAP_DRAWS: usize = 2000;

/// 95 % interval of the mean over groups of the means of their items, over other items of their kind: the 2.5th and
/// 97.5th percentile over seeded samples with replacement from each group. For two models give the differences, item by
/// item. None without a group of two items, or where a group is empty or an item not a number.
pub fn bootstrap_95(groups: &[Vec<f64>]) -> Option<Interval> {
    let is_whole = |group: &Vec<f64>| !group.is_empty() && group.iter().all(|item| item.is_finite());
    if !groups.iter().all(is_whole) || !groups.iter().any(|group| group.len() > 1) {
        return None;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut sample = |items: &[f64]| {
        let mut pick = || items[((u64::from(rng.next_u32()) * items.len() as u64) >> 32) as usize];
        (0..items.len()).map(|_| pick()).sum::<f64>() / items.len() as f64
    };
    let mut one = || groups.iter().map(|group| sample(group)).sum::<f64>() / groups.len() as f64;
    let mut means: Vec<f64> = (0..BOOTSTRAP_DRAWS).map(|_| one()).collect();
    means.sort_by(f64::total_cmp);
    Some(Interval { low: percentile(&means, 0.025), high: percentile(&means, 0.975) })
}

/// Between neighbours of a sorted list linearly, as numpy does.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let at = share * (sorted.len() - 1) as f64;
    let below = at.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (at - below as f64) * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_scipys_within_what_draws_differ_by() {
        let items: Vec<f64> = (0..200).map(|i| f64::from(i * i % 17) / 17.0).collect();
        let found = bootstrap_95(std::slice::from_ref(&items)).unwrap();
        // scipy's, from 200,000 draws; the ends of 2,000 draws have a standard error of 0.0014.
        assert!((found.low - 0.425).abs() < 0.005 && (found.high - 0.51735).abs() < 0.005, "{found:?}");
        assert_eq!(bootstrap_95(&[items]), Some(found), "the same on every call");
    }

    #[test]
    fn groups_count_alike_whatever_their_size() {
        let sure = vec![1.0; 300];
        let found = bootstrap_95(&[sure, vec![0.0, 1.0]]).unwrap();
        assert_eq!((found.low, found.high), (0.5, 1.0), "half of the mean is two items that are drawn again and again");
    }

    #[test]
    fn few_or_broken_items_have_no_interval() {
        assert_eq!(bootstrap_95(&[]), None);
        assert_eq!(bootstrap_95(&[vec![1.0]]), None);
        assert_eq!(bootstrap_95(&[vec![1.0, 2.0], vec![]]), None);
        assert_eq!(bootstrap_95(&[vec![1.0, f64::INFINITY]]), None);
        assert_eq!(bootstrap_95(&[vec![2.0, 2.0]]), Some(Interval { low: 2.0, high: 2.0 }));
    }

    #[test]
    fn percentiles_are_numpys() {
        assert_eq!(percentile(&[1.0, 2.0, 4.0], 0.5), 2.0);
        assert_eq!(percentile(&[1.0, 2.0, 4.0], 0.75), 3.0);
        assert_eq!(percentile(&[1.0, 2.0, 4.0], 1.0), 4.0);
    }
}
