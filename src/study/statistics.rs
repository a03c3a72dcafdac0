//! Means, their spread, and what two arms differ by: equal to scipy's (tests/golden/t_tests.py).

use std::f64::consts::PI;

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
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    fn around(centre: f64, standard_error: f64, freedom: f64) -> Self {
        let half = if standard_error > 0.0 { t_quantile_975(freedom) * standard_error } else { 0.0 };
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
}

/// Compares two arms' `(seed, value)`: seed by seed where both have the same seeds, else by Welch's test; none when an arm has
/// fewer than two values.
pub fn difference(a: &[(u64, f64)], b: &[(u64, f64)]) -> Option<Difference> {
    let of_seed = |seed| b.iter().find(|other| other.0 == seed).map(|other| other.1);
    let pairs: Vec<f64> = a.iter().filter_map(|&(seed, value)| Some(value - of_seed(seed)?)).collect();
    if pairs.len() == a.len() && a.len() == b.len() { paired(&pairs) } else { welch(&values(a), &values(b)) }
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
    Difference { mean, interval: Interval::around(mean, standard_error, freedom), p, paired }
}

/// P(|T| >= |t|) for Student's t.
fn t_two_sided(t: f64, freedom: f64) -> f64 {
    incomplete_beta(freedom / 2.0, 0.5, freedom / (freedom + t * t))
}

/// The t that 97.5 % of Student's distribution lies below, by bisection.
fn t_quantile_975(freedom: f64) -> f64 {
    let (mut low, mut high) = (1.0, 1e9);
    // Halving in the exponent: 100 halvings reach the last bit from anywhere in the range.
    for _ in 0..100 {
        let middle = f64::sqrt(low * high);
        if t_two_sided(middle, freedom) > 0.05 { low = middle } else { high = middle }
    }
    f64::sqrt(low * high)
}

/// Regularised incomplete beta function, by Lentz's continued fraction (Numerical Recipes, 6.4).
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(b, a, 1.0 - x);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp() / a;
    let away_from_zero = |v: f64| if v.abs() < 1e-300 { 1e-300 } else { v };
    let (mut c, mut d) = (1.0, 1.0 / away_from_zero(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    for m in 1..10_000 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let before = fraction;
        for term in [even, odd] {
            d = 1.0 / away_from_zero(1.0 + term * d);
            c = away_from_zero(1.0 + term / c);
            fraction *= c * d;
        }
        if (fraction / before - 1.0).abs() < 1e-15 {
            break;
        }
    }
    front * fraction
}

/// Lanczos' approximation (g = 7, n = 9), good to 1e-14 for x > 0.
fn ln_gamma(x: f64) -> f64 {
    const COEFFICIENTS: [f64; 8] = [
        676.5203681218851,
        -1259.1392167224028,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507343278686905,
        -0.13857109526572012,
        9.984_369_578_019_572e-6,
        1.5056327351493116e-7,
    ];
    if x < 0.5 {
        return (PI / (PI * x).sin()).ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let sum: f64 = COEFFICIENTS.iter().zip(1..).map(|(c, i)| c / (x + f64::from(i))).sum();
    let t = x + 7.5;
    0.5 * (2.0 * PI).ln() + (x + 0.5) * t.ln() - t + (0.999_999_999_999_809_9 + sum).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [f64; 4] = [3.912, 3.905, 3.921, 3.899];
    const B: [f64; 4] = [3.951, 3.948, 3.967, 3.940];
    const C: [f64; 3] = [3.90, 3.99, 3.85];

    fn seeded(values: &[f64]) -> Vec<(u64, f64)> {
        (1..).zip(values.iter().copied()).collect()
    }

    #[track_caller]
    fn close(ours: f64, scipys: f64) {
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
    }

    #[test]
    fn equal_values_differ_by_nothing() {
        let same = difference(&[(1, 2.0), (2, 2.0)], &[(1, 2.0), (2, 2.0)]).unwrap();
        assert_eq!((same.mean, same.p, same.interval), (0.0, 1.0, Interval { low: 0.0, high: 0.0 }));
        assert_eq!(difference(&[(1, 2.0), (2, 2.0)], &[(1, 3.0), (2, 3.0)]).unwrap().p, 0.0);
    }

    #[test]
    fn the_t_distribution_is_scipys() {
        let p = [
            (0.0, 1.0, 1.0),
            (1.0, 1.0, 0.5),
            (2.5, 3.0, 0.08770664700806556),
            (12.7, 2.0, 0.006142941599595777),
            (0.01, 30.5, 0.9920864120731607),
            (40.0, 5.0, 1.8411962171772954e-07),
            (1.96, 1e6, 0.04999606758526985),
            (3.0, 0.7, 0.2833713393010258),
        ];
        p.into_iter().for_each(|(t, freedom, p)| close(t_two_sided(t, freedom), p));
        let quantiles =
            [(1.0, 12.706204736174694), (2.0, 4.302652729749462), (4.37, 2.6861481000408847), (29.0, 2.045229642132703)];
        quantiles.into_iter().for_each(|(freedom, t)| close(t_quantile_975(freedom), t));
    }
}
