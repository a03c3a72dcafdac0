//! The sign-flip test: what else the mean difference could have been, had chance alone said which arm is which.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Up to here every assignment of signs is counted.
const EXACT_UP_TO: usize = 20;

/// Assignments that are drawn beyond.
const DRAWS: u64 = 100_000;

/// The p-value of a sign-flip test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SignFlip {
    /// Two-sided.
    pub p: f64,
    /// Assignments drawn at random; none where all were counted.
    pub draws: Option<u64>,
}

/// The share of all assignments of signs to `differences` whose mean is as far from zero as theirs, or further: of all
/// 2^n up to 20 differences, else of seeded draws (then the observed one counts too). None under two differences, or
/// where one is not a number.
pub fn sign_flip(differences: &[f64]) -> Option<SignFlip> {
    if differences.len() < 2 || differences.iter().any(|d| !d.is_finite()) {
        return None;
    }
    let size: f64 = differences.iter().map(|d| d.abs()).sum();
    // Sums of equal size may differ by rounding.
    let least = differences.iter().sum::<f64>().abs() - 1e-13 * size;
    if differences.len() > EXACT_UP_TO {
        return Some(SignFlip { p: drawn(differences, least, DRAWS), draws: Some(DRAWS) });
    }
    // The first sign may stay: all signs turned give a sum of the same size.
    let extreme = count(&differences[1..], differences[0], least);
    Some(SignFlip { p: extreme as f64 / (1_u64 << (differences.len() - 1)) as f64, draws: None })
}

/// How many assignments of signs to `rest` bring the sum to `least` or further from zero.
fn count(rest: &[f64], sum: f64, least: f64) -> u64 {
    match rest {
        [] => u64::from(sum.abs() >= least),
        [first, rest @ ..] => count(rest, sum + first, least) + count(rest, sum - first, least),
    }
}

fn drawn(differences: &[f64], least: f64, draws: u64) -> f64 {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut is_extreme = || {
        let signed = |chunk: &[f64]| -> f64 {
            let signs = rng.next_u64();
            chunk.iter().enumerate().map(|(i, d)| if signs >> i & 1 == 1 { *d } else { -*d }).sum()
        };
        differences.chunks(64).map(signed).sum::<f64>().abs() >= least
    };
    let extreme = (0..draws).filter(|_| is_extreme()).count();
    (extreme + 1) as f64 / (draws + 1) as f64
}

#[cfg(test)]
mod tests {
    use super::super::tests::{A, B, D, close};
    use super::*;

    #[test]
    fn every_assignment_is_counted_as_scipy_does() {
        let ab: Vec<f64> = A.iter().zip(B).map(|(a, b)| a - b).collect();
        // All four have one sign: 2 of 16.
        assert_eq!(sign_flip(&ab), Some(SignFlip { p: 0.125, draws: None }));
        close(sign_flip(&D).unwrap().p, 0.1015625);
        // Several assignments have the observed sum, but for rounding.
        close(sign_flip(&[0.01, 0.02, -0.01, 0.01, 0.03]).unwrap().p, 0.25);
        let twenty: Vec<f64> = (0..20).map(|i| f64::from(i * 7 % 11 - 3) / 100.0).collect();
        let found = sign_flip(&twenty).unwrap();
        close(found.p, 0.024322509765625);
        assert_eq!(found.draws, None);
        assert_eq!(sign_flip(&[0.0, 0.0]).unwrap().p, 1.0);
    }

    #[test]
    fn too_few_or_broken_differences_have_no_test() {
        assert_eq!(sign_flip(&[1.0]), None);
        assert_eq!(sign_flip(&[1.0, f64::NAN]), None);
    }

    #[test]
    fn draws_agree_with_the_count() {
        let exact = sign_flip(&D).unwrap().p;
        let least = D.iter().sum::<f64>().abs() * (1.0 - 1e-13);
        // Four standard errors of a share over 100,000 draws.
        let tolerance = 4.0 * (exact * (1.0 - exact) / DRAWS as f64).sqrt();
        assert!((drawn(&D, least, DRAWS) - exact).abs() < tolerance, "{} {exact}", drawn(&D, least, DRAWS));
        let many: Vec<f64> = (0..70).map(|i| f64::from(i % 7) - 2.0).collect();
        let found = sign_flip(&many).unwrap();
        assert_eq!(found.draws, Some(DRAWS));
        assert_eq!(sign_flip(&many), Some(found), "the same on every call");
    }
}
