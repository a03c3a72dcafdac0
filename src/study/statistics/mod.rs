//! Means, their spread, and what two arms differ by: equal to scipy's and statsmodels' (tests/golden/t_tests.py).

mod bootstrap;
mod equivalence;
mod holm;
mod sign_flip;
mod students_t;

pub use bootstrap::{BOOTSTRAP_DRAWS, bootstrap_95};
pub use equivalence::{POWER, bound, equivalence, seeds_needed};
pub use holm::holm;
pub use sign_flip::{SignFlip, sign_flip};

use students_t::{t_quantile, t_two_sided};

/// Arithmetic mean; none of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Sample standard deviation (over n - 1); none under two values.
pub fn standard_deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values).filter(|_| values.len() > 1)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

/// Standard error of the mean; none under two values.
pub fn standard_error(values: &[f64]) -> Option<f64> {
    standard_deviation(values).map(|sd| sd / (values.len() as f64).sqrt())
}

/// A range that holds the true value in 95 of 100 repetitions.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    fn around(centre: f64, standard_error: f64, freedom: f64) -> Self {
        let half = if standard_error > 0.0 { t_quantile(0.05, freedom) * standard_error } else { 0.0 };
        Self { low: centre - half, high: centre + half }
    }
}

/// 95 % interval of the mean (Student's t); none under two values.
pub fn interval_95(values: &[f64]) -> Option<Interval> {
    Some(Interval::around(mean(values)?, standard_error(values)?, (values.len() - 1) as f64))
}

/// What one arm's values are above another's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// Mean of the first less mean of the second.
    pub mean: f64,
    /// 95 % interval of that.
    pub interval: Interval,
    /// Two-sided p-value of no difference.
    pub p: f64,
    /// Whether values were compared seed by seed (paired t-test) or as two samples (Welch's t-test).
    pub paired: bool,
    /// Standard error of the mean.
    pub standard_error: f64,
    /// Degrees of freedom of Student's distribution.
    pub freedom: f64,
}

/// Compares two arms' `(seed, value)`: seed by seed where both have the same seeds, else by Welch's test; none when an
/// arm has fewer than two values, or one that is not a number.
pub fn difference(a: &[(u64, f64)], b: &[(u64, f64)]) -> Option<Difference> {
    let found = match paired_differences(a, b) {
        Some(pairs) => paired(&pairs),
        None => welch(&values(a), &values(b)),
    };
    found.filter(|found| found.mean.is_finite() && found.standard_error.is_finite())
}

/// Seed by seed, what the first value is above the second; none unless both have the same seeds.
pub fn paired_differences(a: &[(u64, f64)], b: &[(u64, f64)]) -> Option<Vec<f64>> {
    let of_seed = |seed| b.iter().find(|other| other.0 == seed).map(|other| other.1);
    let pairs: Vec<f64> = a.iter().filter_map(|&(seed, value)| Some(value - of_seed(seed)?)).collect();
    (pairs.len() == a.len() && a.len() == b.len()).then_some(pairs)
}

fn values(seeded: &[(u64, f64)]) -> Vec<f64> {
    seeded.iter().map(|&(_, value)| value).collect()
}

fn paired(differences: &[f64]) -> Option<Difference> {
    let (mean, error) = (mean(differences)?, standard_error(differences)?);
    Some(test(mean, error, (differences.len() - 1) as f64, true))
}

fn welch(a: &[f64], b: &[f64]) -> Option<Difference> {
    let (va, vb) = (standard_error(a)?.powi(2), standard_error(b)?.powi(2));
    let (na, nb) = (a.len() as f64, b.len() as f64);
    // Satterthwaite's degrees of freedom.
    let freedom = (va + vb).powi(2) / (va.powi(2) / (na - 1.0) + vb.powi(2) / (nb - 1.0));
    Some(test(mean(a)? - mean(b)?, (va + vb).sqrt(), freedom, false))
}

fn test(mean: f64, standard_error: f64, freedom: f64, paired: bool) -> Difference {
    let p = match standard_error {
        0.0 if mean == 0.0 => 1.0,
        0.0 => 0.0,
        _ => t_two_sided(mean / standard_error, freedom),
    };
    Difference { mean, interval: Interval::around(mean, standard_error, freedom), p, paired, standard_error, freedom }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const A: [f64; 4] = [3.912, 3.905, 3.921, 3.899];
    pub(super) const B: [f64; 4] = [3.951, 3.948, 3.967, 3.940];
    const C: [f64; 3] = [3.90, 3.99, 3.85];
    /// Differences of eight seeds: some of either sign.
    pub(super) const D: [f64; 8] = [-0.021, -0.013, 0.004, -0.030, -0.008, 0.011, -0.017, -0.002];

    pub(super) fn seeded(values: &[f64]) -> Vec<(u64, f64)> {
        (1..).zip(values.iter().copied()).collect()
    }

    #[track_caller]
    pub(super) fn close(ours: f64, scipys: f64) {
        assert!((ours - scipys).abs() <= 1e-9 * scipys.abs() + 1e-12, "{ours} is not {scipys}");
    }

    #[test]
    fn spread_is_scipys() {
        close(standard_deviation(&A).unwrap(), 0.009464847243000394);
        close(standard_error(&A).unwrap(), 0.004732423621500197);
        let interval = interval_95(&A).unwrap();
        close(interval.low, 3.8941893159307193);
        close(interval.high, 3.924310684069281);
    }

    #[test]
    fn equal_seeds_are_paired() {
        let found = difference(&seeded(&A), &seeded(&B)).unwrap();
        assert!(found.paired);
        close(found.p, 9.688475034359158e-05);
        close(found.interval.low, -0.04700151773998671);
        close(found.interval.high, -0.03749848226001353);
        let mut turned = seeded(&B);
        turned.reverse();
        assert_eq!(difference(&seeded(&A), &turned), Some(found));
    }

    #[test]
    fn unequal_seeds_are_two_samples() {
        let found = difference(&seeded(&A), &seeded(&C)).unwrap();
        assert!(!found.paired);
        close(found.p, 0.9299368856749811);
        close(found.interval.low, -0.17713824316338136);
        close(found.interval.high, 0.1689715764967145);
    }

    #[test]
    fn too_few_values_have_no_spread() {
        assert_eq!(mean(&[]), None);
        assert_eq!(standard_deviation(&[1.0]), None);
        assert_eq!(difference(&[(1, 2.0)], &[(1, 3.0)]), None);
        assert_eq!(difference(&[], &[]), None);
        assert_eq!(difference(&[(1, f64::NAN), (2, 1.0)], &[(1, 3.0), (2, 3.0)]), None);
    }

    #[test]
    fn equal_values_differ_by_nothing() {
        let same = difference(&[(1, 2.0), (2, 2.0)], &[(1, 2.0), (2, 2.0)]).unwrap();
        assert_eq!((same.mean, same.p, same.interval), (0.0, 1.0, Interval { low: 0.0, high: 0.0 }));
        assert_eq!(difference(&[(1, 2.0), (2, 2.0)], &[(1, 3.0), (2, 3.0)]).unwrap().p, 0.0);
    }
}
