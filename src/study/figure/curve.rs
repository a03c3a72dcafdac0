//! Curves before they are drawn: smoothed, averaged over seeds, thinned.

use std::collections::BTreeMap;

/// x (a step) and y.
pub type Point = (f64, f64);

/// x, and a range of y.
pub type Band = (f64, f64, f64);

/// Exponential moving average over about `window` points, unbiased at the start (as Adam's moments are).
pub fn ema(points: &[Point], window: f64) -> Vec<Point> {
    let keep = 1.0 - 1.0 / window.max(1.0);
    let (mut sum, mut weight) = (0.0, 0.0);
    let smooth = |&(x, y): &Point| {
        if y.is_finite() {
            sum = keep * sum + (1.0 - keep) * y;
            weight = keep * weight + (1.0 - keep);
        }
        (x, if weight > 0.0 { sum / weight } else { f64::NAN })
    };
    points.iter().map(smooth).collect()
}

/// Mean over runs (one list of points a seed), at every x that all of them have.
pub fn mean_over(runs: &[Vec<Point>]) -> Vec<Point> {
    common(runs).into_iter().map(|(x, ys)| (x, ys.iter().sum::<f64>() / ys.len() as f64)).collect()
}

/// Lowest to highest over runs, at every x that all of them have; nothing for a single run.
pub fn band_over(runs: &[Vec<Point>]) -> Vec<Band> {
    if runs.len() < 2 {
        return Vec::new();
    }
    let range = |ys: &[f64]| ys.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), y| (l.min(*y), h.max(*y)));
    common(runs).into_iter().map(|(x, ys)| (x, range(&ys).0, range(&ys).1)).collect()
}

fn common(runs: &[Vec<Point>]) -> Vec<(f64, Vec<f64>)> {
    // Steps are whole numbers, so their bits sort as they do.
    let mut by_x: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for &(x, y) in runs.iter().flatten().filter(|point| point.0 >= 0.0 && point.1.is_finite()) {
        by_x.entry(x.to_bits()).or_default().push(y);
    }
    by_x.into_iter().filter(|(_, ys)| ys.len() == runs.len()).map(|(x, ys)| (f64::from_bits(x), ys)).collect()
}

/// At most about `wanted` points that keep every extreme: the first, lowest, highest and last of each stretch of x.
pub fn downsample(points: &[Point], wanted: usize) -> Vec<Point> {
    let stretches = (wanted / 4).max(1);
    if points.len() <= wanted {
        return points.to_vec();
    }
    let mut kept = Vec::with_capacity(wanted);
    for chunk in points.chunks(points.len().div_ceil(stretches)) {
        let by_y = |a: &usize, b: &usize| chunk[*a].1.total_cmp(&chunk[*b].1);
        let indices = || (0..chunk.len()).filter(|i| chunk[*i].1.is_finite());
        let mut picks = vec![0, chunk.len() - 1];
        picks.extend(indices().min_by(by_y));
        picks.extend(indices().max_by(by_y));
        picks.sort_unstable();
        picks.dedup();
        kept.extend(picks.into_iter().map(|i| chunk[i]));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn smoothing_has_no_pull_to_zero_and_steps_over_gaps() {
        let flat: Vec<Point> = (0..50).map(|x| (f64::from(x), if x == 7 { f64::NAN } else { 3.0 })).collect();
        assert!(ema(&flat, 10.0).iter().all(|(_, y)| (y - 3.0).abs() < 1e-12));
        assert_eq!(ema(&[(0.0, 1.0), (1.0, 2.0)], 1.0), [(0.0, 1.0), (1.0, 2.0)]);
    }

    #[test]
    fn seeds_are_averaged_where_all_have_a_value() {
        let runs = [vec![(0.0, 1.0), (10.0, 2.0), (20.0, 3.0)], vec![(0.0, 3.0), (20.0, 4.0)]];
        assert_eq!(mean_over(&runs), [(0.0, 2.0), (20.0, 3.5)]);
        assert_eq!(band_over(&runs), [(0.0, 1.0, 3.0), (20.0, 3.0, 4.0)]);
        assert_eq!(band_over(&runs[..1]), []);
    }

    proptest! {
        #[test]
        fn thinning_keeps_ends_and_extremes(ys in prop::collection::vec(-5.0..5.0, 1..900), wanted in 4_usize..200) {
            let points: Vec<Point> = ys.iter().enumerate().map(|(x, &y)| (x as f64, y)).collect();
            let thin = downsample(&points, wanted);
            let extreme = |points: &[Point], up: f64| points.iter().map(|p| p.1 * up).fold(f64::NEG_INFINITY, f64::max);
            prop_assert!(thin.len() <= wanted.max(4));
            prop_assert_eq!((thin.first(), thin.last()), (points.first(), points.last()));
            prop_assert_eq!((extreme(&thin, 1.0), extreme(&thin, -1.0)), (extreme(&points, 1.0), extreme(&points, -1.0)));
            prop_assert!(thin.is_sorted_by(|a, b| a.0 < b.0));
        }
    }
}
