//! What a difference that was not found is worth: a test of equivalence, and how many seeds would have shown it.

use super::Difference;
use super::students_t::{power_two_sided, t_above, t_quantile};

/// The chance of seeing a true difference that [`seeds_needed`] asks for.
pub const POWER: f64 = 0.8;

/// P-value of a difference of `margin` or more, either way: two one-sided t-tests (TOST), the larger p.
pub fn equivalence(found: &Difference, margin: f64) -> f64 {
    if found.standard_error == 0.0 {
        return if found.mean.abs() < margin { 0.0 } else { 1.0 };
    }
    let above = t_above((found.mean + margin) / found.standard_error, found.freedom);
    let below = t_above((margin - found.mean) / found.standard_error, found.freedom);
    above.max(below)
}

/// The smallest margin for which [`equivalence`] would be below `alpha`: no difference is larger than this.
pub fn bound(found: &Difference, alpha: f64) -> f64 {
    match found.standard_error {
        0.0 => found.mean.abs(),
        error => found.mean.abs() + t_quantile(2.0 * alpha, found.freedom) * error,
    }
}

/// Pairs that a two-sided paired t-test at level `alpha` takes to see a true difference of `margin` with a power of
/// [`POWER`], where differences have the standard deviation `sd`; none above a million.
pub fn seeds_needed(margin: f64, sd: f64, alpha: f64) -> Option<u64> {
    const MOST: u64 = 1_000_000;
    let is_enough = |n: u64| {
        let freedom = (n - 1) as f64;
        power_two_sided(t_quantile(alpha, freedom), freedom, margin / sd * (n as f64).sqrt()) >= POWER
    };
    if sd == 0.0 || is_enough(2) {
        return Some(2);
    }
    // Too few, and enough: halved until they are neighbours.
    let (mut few, mut enough) = (2, 4);
    while !is_enough(enough) {
        (few, enough) = (enough, enough * 2);
        if few >= MOST {
            return None;
        }
    }
    while enough - few > 1 {
        let middle = u64::midpoint(few, enough);
        if is_enough(middle) { enough = middle } else { few = middle }
    }
    Some(enough)
}

#[cfg(test)]
mod tests {
    use super::super::difference;
    use super::super::tests::{A, B, D, close, seeded};
    use super::*;

    fn of_zero(differences: &[f64]) -> Difference {
        difference(&seeded(differences), &seeded(&vec![0.0; differences.len()])).unwrap()
    }

    #[test]
    fn equivalence_is_statsmodels() {
        let ab = difference(&seeded(&A), &seeded(&B)).unwrap();
        close(equivalence(&ab, 0.05), 0.006943296359048703);
        close(equivalence(&ab, 0.04), 0.8855440072449424);
        close(equivalence(&of_zero(&D), 0.02), 0.03212437935194519);
        close(equivalence(&of_zero(&D), 0.01), 0.45985153966756676);
    }

    #[test]
    fn the_bound_is_the_margin_that_just_passes() {
        let found = of_zero(&D);
        close(equivalence(&found, bound(&found, 0.05)), 0.05);
        let none = of_zero(&[0.01, 0.01]);
        assert_eq!((equivalence(&none, 0.02), equivalence(&none, 0.005), bound(&none, 0.05)), (0.0, 1.0, 0.01));
    }

    #[test]
    fn the_number_of_seeds_is_statsmodels() {
        // statsmodels solves for a fraction of a pair: 10.73, 27.13, 30.66, 2.48 and 3141.47.
        assert_eq!(seeds_needed(0.01, 0.0105, 0.05), Some(11));
        assert_eq!(seeds_needed(0.01, 0.0179, 0.05), Some(28));
        assert_eq!(seeds_needed(0.01, 0.0157, 0.0125), Some(31));
        assert_eq!(seeds_needed(0.01, 0.002, 0.05), Some(3));
        assert_eq!(seeds_needed(0.001, 0.02, 0.05), Some(3142));
        assert_eq!(seeds_needed(0.01, 0.0, 0.05), Some(2));
        assert_eq!(seeds_needed(1e3, 1e-3, 0.05), Some(2));
        assert_eq!(seeds_needed(1e-6, 1.0, 0.05), None);
    }
}
