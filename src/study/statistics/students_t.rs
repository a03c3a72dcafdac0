//! Student's t distribution, and the power of its test.

use libm::lgamma;

/// P(|T| >= |t|) for Student's t.
pub(super) fn t_two_sided(t: f64, freedom: f64) -> f64 {
    incomplete_beta(freedom / 2.0, 0.5, freedom / (freedom + t * t))
}

/// P(T >= t) for Student's t.
pub(super) fn t_above(t: f64, freedom: f64) -> f64 {
    let half = t_two_sided(t, freedom) / 2.0;
    if t > 0.0 { half } else { 1.0 - half }
}

/// The t with P(|T| >= t) = `outside`, by bisection.
pub(super) fn t_quantile(outside: f64, freedom: f64) -> f64 {
    let (mut low, mut high) = (1e-9, 1e15);
    // Halving in the exponent: 100 halvings reach the last bit from anywhere in the range.
    for _ in 0..100 {
        let middle = f64::sqrt(low * high);
        if t_two_sided(middle, freedom) > outside { low = middle } else { high = middle }
    }
    f64::sqrt(low * high)
}

/// P(|T| >= `critical`) for the noncentral t with noncentrality `shift`: what a two-sided test's power is. Its square
/// is noncentral F with one degree of freedom above, a mixture of central ones with Poisson's weights.
pub(super) fn power_two_sided(critical: f64, freedom: f64, shift: f64) -> f64 {
    /// Above it, the mixture would have too many terms, and the power is 1 for any test that is in use.
    const LARGEST: f64 = 140.0;
    let mean = shift.abs().min(LARGEST).powi(2) / 2.0;
    if mean == 0.0 {
        return t_two_sided(critical, freedom);
    }
    // Nothing lies further from the mean than this.
    let reach = 12.0 * mean.sqrt() + 40.0;
    let below = freedom / (freedom + critical * critical);
    let terms = (mean - reach).max(0.0) as u64..=(mean + reach) as u64;
    let weight = |j: f64| (j * mean.ln() - mean - lgamma(j + 1.0)).exp();
    terms.map(|j| weight(j as f64) * incomplete_beta(freedom / 2.0, j as f64 + 0.5, below)).sum::<f64>().min(1.0)
}

/// Regularised incomplete beta function, by Lentz's continued fraction (Numerical Recipes, 6.4). That of the crate
/// `statrs` stops after 140 terms, which is 6e-9 off at a million degrees of freedom; this one is good to 1e-13 there.
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(b, a, 1.0 - x);
    }
    let front = (lgamma(a + b) - lgamma(a) - lgamma(b) + a * x.ln() + b * (-x).ln_1p()).exp() / a;
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

#[cfg(test)]
mod tests {
    use super::super::tests::close;
    use super::*;

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
        quantiles.into_iter().for_each(|(freedom, t)| close(t_quantile(0.05, freedom), t));
        close(t_above(-1.0, 1.0), 0.75);
        close(t_above(1.0, 1.0), 0.25);
    }

    #[test]
    fn power_is_statsmodels() {
        let powers = [
            (0.5, 10.0, 0.05, 0.2931756065140767),
            (1.0, 8.0, 0.01, 0.34781135813831976),
            (0.1, 200.0, 0.05, 0.29065761766148046),
            (5.0, 3.0, 0.05, 0.9754622687331688),
            (2.0, 2.0, 0.05, 0.17570741109776003),
        ];
        for (effect, n, alpha, power) in powers {
            close(power_two_sided(t_quantile(alpha, n - 1.0), n - 1.0, effect * f64::sqrt(n)), power);
        }
    }

    #[test]
    fn power_has_its_limits() {
        close(power_two_sided(t_quantile(0.05, 7.0), 7.0, 0.0), 0.05);
        close(power_two_sided(t_quantile(0.05, 7.0), 7.0, 1e9), 1.0);
    }
}
