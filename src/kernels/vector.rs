//! Vector instructions, and functions that compile to them: no branches, no tables, and the same result on every CPU.

/// Runs `work` compiled for the widest vectors that the CPU has.
///
/// `pulp::Arch::dispatch` does so too, as fast and with the same bits, in 16 lines less. But it would take a feature of
/// that crate (`x86-v3`) which `gemm`, that is built on it, does without, and so change what products are made by.
#[inline(always)]
pub(super) fn on_vectors<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f")]
        fn avx512<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        #[target_feature(enable = "avx2")]
        fn avx2<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the CPU has the instructions, as just asked.
            return unsafe { avx512(work) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: as above.
            return unsafe { avx2(work) };
        }
    }
    work()
}

/// Below this, [`exp`] is 0.
pub(super) const LOWEST: f32 = -87.3;

/// e^x for x <= 0, within 2e-7 of itself; 0 below [`LOWEST`]; NaN for NaN: x = k ln 2 + r, and the polynomial of
/// Cephes' `expf` (Moshier 1984) for e^r.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Adding this rounds to a whole number, which is then in the lowest bits.
    const ROUNDER: f32 = 12_582_912.0;
    // ln 2 in two parts; the first has few bits, so that k times it is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let bounded = if x < LOWEST { LOWEST } else { x };
    let rounded = bounded * std::f32::consts::LOG2_E + ROUNDER;
    let k = rounded - ROUNDER;
    let r = bounded - k * LN_2_HIGH - k * LN_2_LOW;
    let mut series = 1.987_569_2e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        series = series * r + coefficient;
    }
    let power_of_two = f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23));
    let y = (series * r * r + r + 1.0) * power_of_two;
    if x < LOWEST { 0.0 } else { y }
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    // The fast exponential is for numbers up to 0.
    let small = exp(-x.abs());
    let of_positive = 1.0 / (1.0 + small);
    if x < 0.0 { small * of_positive } else { of_positive }
}

/// The error function, within 5e-7: an odd polynomial over an even one on [-4, 4], beyond which it is 1 to rounding.
#[inline(always)]
pub(super) fn erf(x: f32) -> f32 {
    // Not `clamp`: a NaN must stay one.
    let x = if x > 4.0 { 4.0 } else { x };
    let x = if x < -4.0 { -4.0 } else { x };
    let square = x * x;
    let mut odd = -2.726_142_3e-10;
    for coefficient in [2.770_681_4e-8, -2.101_024e-6, -5.692_506_6e-5, -7.349_906e-4, -2.954_6e-3, -1.609_603_3e-2] {
        odd = odd * square + coefficient;
    }
    let mut even = -1.456_607_2e-5;
    for coefficient in [-2.133_740_5e-4, -1.682_827e-3, -7.373_329e-3, -1.426_474e-2] {
        even = even * square + coefficient;
    }
    x * odd / even
}

/// Lanes of a sum: what the widest vector registers hold.
const LANES: usize = 16;
/// Elements that are summed in f32 before an f64 takes over.
const BLOCK: usize = 1024;

#[expect(clippy::needless_range_loop, reason = "one place in several rows at a time")]
/// Replaces the elements of `rows`, taken together, by the first part of what `each` gives, and adds up the second.
#[inline(always)]
pub(super) fn sweep<const N: usize, const K: usize>(
    rows: [&mut [f32]; N],
    each: impl Fn([f32; N]) -> ([f32; N], [f32; K]),
) -> [f64; K] {
    let length = rows[0].len();
    assert!(rows.iter().all(|row| row.len() == length), "rows of one length");
    let mut sums = [0.0; K];
    let mut from = 0;
    while from < length {
        let to = length.min(from + BLOCK);
        let mut lanes = [[0.0f32; LANES]; K];
        let whole = from + (to - from) / LANES * LANES;
        for at in (from..whole).step_by(LANES) {
            let mut values = [[0.0f32; LANES]; N];
            for n in 0..N {
                values[n].copy_from_slice(&rows[n][at..at + LANES]);
            }
            for lane in 0..LANES {
                let (new, terms) = each(std::array::from_fn(|n| values[n][lane]));
                for n in 0..N {
                    values[n][lane] = new[n];
                }
                for k in 0..K {
                    lanes[k][lane] += terms[k];
                }
            }
            for n in 0..N {
                rows[n][at..at + LANES].copy_from_slice(&values[n]);
            }
        }
        for at in whole..to {
            let (new, terms) = each(std::array::from_fn(|n| rows[n][at]));
            for n in 0..N {
                rows[n][at] = new[n];
            }
            for k in 0..K {
                lanes[k][0] += terms[k];
            }
        }
        for k in 0..K {
            sums[k] += lanes[k].iter().map(|&lane| f64::from(lane)).sum::<f64>();
        }
        from = to;
    }
    sums
}

#[inline(always)]
pub(super) fn largest(row: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder().iter().copied().fold(f32::NEG_INFINITY, larger);
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = larger(chunk[lane], lanes[lane]);
        }
    }
    lanes.into_iter().fold(rest, larger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_exponential_is_one() {
        let mut worst = 0.0f64;
        for i in 0..2_000_000 {
            let x = i as f32 * (LOWEST / 2e6);
            let wanted = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) - wanted).abs() / wanted);
        }
        // Three roundings of 6e-8 each.
        assert!(worst < 2e-7, "{worst:e}");
        assert_eq!(exp(0.0), 1.0);
        assert_eq!((exp(-88.0), exp(f32::NEG_INFINITY)), (0.0, 0.0));
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn the_fast_error_function_is_one() {
        // Midpoint sums of the definition's integral: off by less than 1e-9 at this width.
        let width = 1e-4;
        let (mut integral, mut worst) = (0.0f64, 0.0f64);
        for i in 0..60_000 {
            let middle = (f64::from(i) + 0.5) * width;
            integral += (-middle * middle).exp() * width * std::f64::consts::FRAC_2_SQRT_PI;
            let x = ((f64::from(i) + 1.0) * width) as f32;
            worst = worst.max((f64::from(erf(x)) - integral).abs());
            assert_eq!(erf(-x), -erf(x));
        }
        // Eight roundings of 6e-8 each: seven terms and a quotient.
        assert!(worst < 5e-7, "{worst:e}");
        assert_eq!(erf(0.0), 0.0);
        assert!(erf(f32::NAN).is_nan());
    }
}
