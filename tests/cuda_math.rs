//! The functions that CUDA's kernels call where there is no toolkit, as a CPU computes them: the same arithmetic, so
//! the same bits.

#[path = "../shaders/cuda_math.rs"]
mod math;

use math::{__nv_erff, __nv_exp2f, __nv_expf, __nv_log2f, __nv_logf, __nv_powf, __nv_tanhf};

/// 2 e^(-x^2) / sqrt(pi) times the sum of 2^n x^(2n+1) / (2n+1)!!: all terms of one sign, so exact to f64's rounding.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return 1_f64.copysign(x);
    }
    let (mut term, mut sum, mut odd) = (x, x, 1.0);
    while term.abs() > 1e-18 * sum.abs() {
        odd += 2.0;
        term *= 2.0 * x * x / odd;
        sum += term;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}

/// The distance of `found` from `wanted` in units of an f32's last place there.
fn ulps(found: f32, wanted: f64) -> f64 {
    let nearest = wanted as f32;
    if nearest.is_nan() || nearest.is_infinite() {
        return if found.to_bits() == nearest.to_bits() || (found.is_nan() && nearest.is_nan()) { 0.0 } else { f64::INFINITY };
    }
    let size = nearest.abs().max(f32::MIN_POSITIVE);
    let unit = f64::from(size) - f64::from(f32::from_bits(size.to_bits() - 1));
    (f64::from(found) - wanted).abs() / unit
}

type Function = (&'static str, extern "C" fn(f32) -> f32, fn(f64) -> f64);

const FUNCTIONS: [Function; 6] = [
    ("exp", __nv_expf, f64::exp),
    ("exp2", __nv_exp2f, f64::exp2),
    ("log", __nv_logf, f64::ln),
    ("log2", __nv_log2f, f64::log2),
    ("tanh", __nv_tanhf, f64::tanh),
    ("erf", __nv_erff, erf),
];

#[test]
fn every_function_is_within_two_units_in_the_last_place() {
    for (name, found, wanted) in FUNCTIONS {
        // One f32 in 9,973, a prime: all exponents, both signs, infinities and NaNs.
        for x in (0..=u32::MAX).step_by(9_973).map(f32::from_bits) {
            let off = if x.is_nan() { ulps(found(x), f64::NAN) } else { ulps(found(x), wanted(f64::from(x))) };
            // Every 97th f32 gave 1.7 at most, log2 near 1.4.
            assert!(off <= 2.0, "{name}({x:e}) is off by {off} units");
        }
    }
}

#[test]
fn every_function_holds_at_the_ends() {
    let ends =
        [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -1.0, 1e-45, -1e-45, f32::MAX, f32::MIN, 88.722_83, -103.98];
    for (name, found, wanted) in FUNCTIONS {
        for x in ends {
            let (found, wanted) = (found(x), wanted(f64::from(x)));
            assert!(ulps(found, wanted) <= 2.0, "{name}({x:e}) gave {found:e} for {wanted:e}");
        }
    }
}

#[test]
fn powers_are_within_a_unit_in_the_last_place() {
    let some = [0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 0.5, -0.5, 1e-45, -1e-40, 1e30, -1e30, 16_777_215.0, 33_554_432.0];
    let ends = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN_POSITIVE];
    let random = (0..=u32::MAX).step_by(9_973_001).map(f32::from_bits);
    let values: Vec<f32> = some.into_iter().chain(ends).chain(random).collect();
    for &x in &values {
        for &y in values.iter().chain(&[0.1, 0.999, 7.5, -13.25]) {
            let (found, wanted) = (__nv_powf(x, y), f64::from(x).powf(f64::from(y)));
            assert!(ulps(found, wanted) <= 1.0, "{x:e} to the {y:e} gave {found:e} for {wanted:e}");
            assert!(wanted.is_nan() || wanted.is_sign_negative() == found.is_sign_negative(), "{x:e} to the {y:e}: {found:e}");
        }
    }
}

#[test]
fn the_bitcode_has_every_function() {
    let bitcode = include_bytes!("../shaders/cuda_math.bc");
    assert_eq!(&bitcode[..4], b"BC\xc0\xde", "not LLVM bitcode: run shaders/cuda_math.sh");
    for name in FUNCTIONS.map(|(name, ..)| name).into_iter().chain(["pow"]) {
        let symbol = format!("__nv_{name}f");
        assert!(bitcode.windows(symbol.len()).any(|bytes| bytes == symbol.as_bytes()), "run shaders/cuda_math.sh: no {symbol}");
    }
}
