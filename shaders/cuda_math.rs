//! The functions that an NVIDIA GPU has no instruction for, as CubeCL's CUDA kernels call them: in f32, by their names
//! in NVIDIA's libdevice, which comes with the CUDA toolkit alone. Where a machine has no toolkit, `src/device/cuda.rs`
//! puts these in its place.
//!
//! Plain arithmetic with fused multiply-add: the same bits on every device. Polynomials are least squares at
//! Chebyshev's nodes. `tests/cuda_math.rs` holds each to f64: within 2 units in the last place. `shaders/cuda_math.sh`
//! compiles this file into `cuda_math.bc`, LLVM bitcode for any target.

const LOG2_E: f32 = core::f32::consts::LOG2_E;
/// ln 2 in two parts; the first has zeros at its end, so that small integers times it are exact.
const LN_2_HIGH: f32 = 6.931_457_5e-1;
const LN_2_LOW: f32 = 1.428_606_8e-6;

/// The nearest integer, as a float and as an integer, for |x| < 2^22: what is left of x at the end of a float of 1.5 *
/// 2^23.
#[inline(always)]
fn nearest(x: f32) -> (f32, i32) {
    let shifted = x + 12_582_912.0;
    (shifted - 12_582_912.0, shifted.to_bits().wrapping_sub(0x4b40_0000) as i32)
}

/// c0 + c1 x + c2 x^2 + ...
#[inline(always)]
fn polynomial<const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut sum = coefficients[N - 1];
    let mut i = N - 1;
    while i > 0 {
        i -= 1;
        sum = sum.mul_add(x, coefficients[i]);
    }
    sum
}

/// y 2^k, by two factors so that results below the smallest normal number are reached.
#[inline(always)]
fn times_power_of_2(y: f32, k: i32) -> f32 {
    let half = k >> 1;
    let power = |k: i32| f32::from_bits((k.wrapping_add(127) as u32) << 23);
    y * power(half) * power(k.wrapping_sub(half))
}

/// e^r for |r| <= ln(2) / 2.
#[inline(always)]
fn exp_near_0(r: f32) -> f32 {
    let q = polynomial(r, [0.5, 0.166_666_67, 0.041_666_467, 0.008_333_298, 0.001_393_364_4, 0.000_198_992_76]);
    (r * r).mul_add(q, r) + 1.0
}

#[inline(always)]
fn exp(x: f32) -> f32 {
    let (k, power) = nearest(x * LOG2_E);
    let r = k.mul_add(-LN_2_LOW, k.mul_add(-LN_2_HIGH, x));
    if x > 88.722_84 {
        f32::INFINITY
    } else if x < -103.972_08 {
        0.0
    } else {
        times_power_of_2(exp_near_0(r), power)
    }
}

/// The exponent k and ln(m) of x = 2^k m, with m from sqrt(1/2) to sqrt(2), for finite x > 0.
#[inline(always)]
fn log_parts(x: f32) -> (f32, f32) {
    let small = x < f32::MIN_POSITIVE;
    let bits = (if small { x * 8_388_608.0 } else { x }).to_bits().wrapping_add(0x3f80_0000 - 0x3f35_04f3);
    let k = (bits >> 23) as i32 - 127 - if small { 23 } else { 0 };
    let f = f32::from_bits((bits & 0x007f_ffff) + 0x3f35_04f3) - 1.0;
    let q = polynomial(
        f,
        [
            -0.5,
            0.333_333_22,
            -0.249_999_91,
            0.200_014_52,
            -0.166_685_82,
            0.142_330_14,
            -0.124_027_5,
            0.117_889_06,
            -0.116_565_79,
            0.069_419_72,
        ],
    );
    (k as f32, (f * f).mul_add(q, f))
}

/// What a logarithm gives where it is not a number that can be worked out.
#[inline(always)]
fn log_or(x: f32, logarithm: f32) -> f32 {
    if x > 0.0 && x < f32::INFINITY {
        logarithm
    } else if x == 0.0 {
        f32::NEG_INFINITY
    } else if x > 0.0 {
        x
    } else {
        f32::NAN
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn __nv_expf(x: f32) -> f32 {
    exp(x)
}

#[unsafe(no_mangle)]
pub extern "C" fn __nv_exp2f(x: f32) -> f32 {
    let (k, power) = nearest(x);
    if x >= 128.0 {
        f32::INFINITY
    } else if x < -150.0 {
        0.0
    } else {
        times_power_of_2(exp_near_0((x - k) * core::f32::consts::LN_2), power)
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn __nv_logf(x: f32) -> f32 {
    let (k, log_m) = log_parts(x);
    log_or(x, k.mul_add(LN_2_HIGH, k.mul_add(LN_2_LOW, log_m)))
}

#[unsafe(no_mangle)]
pub extern "C" fn __nv_log2f(x: f32) -> f32 {
    let (k, log_m) = log_parts(x);
    log_or(x, log_m.mul_add(LOG2_E, k))
}

#[unsafe(no_mangle)]
pub extern "C" fn __nv_tanhf(x: f32) -> f32 {
    let (size, z) = (x.abs(), x * x);
    if size < 0.6 {
        let q = polynomial(z, [-0.333_333_34, 0.133_333_13, -0.053_961_653, 0.021_789_107, -0.008_412_554, 0.002_373_515_2]);
        (x * z).mul_add(q, x)
    } else if size > 9.1 {
        1.0_f32.copysign(x)
    } else {
        (1.0 - 2.0 / (exp(2.0 * size) + 1.0)).copysign(x)
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn __nv_erff(x: f32) -> f32 {
    let (size, z) = (x.abs(), x * x);
    if size < 0.93 {
        // erf(x) / x - 1.
        let q = polynomial(
            z,
            [0.128_379_17, -0.376_126_32, 0.112_836_86, -0.026_858_88, 0.005_199_771_4, -0.000_812_863_9, 8.311_534_5e-5],
        );
        x.mul_add(q, x)
    } else if size > 4.0 {
        1.0_f32.copysign(x)
    } else {
        // -ln(1 - erf(x)).
        let p = polynomial(
            size,
            [
                -0.000_166_008_69,
                1.129_465_2,
                0.633_469_5,
                0.108_110_52,
                -0.024_975_587,
                0.004_094_495_4,
                -0.000_409_502_27,
                1.654_171_7e-5,
                3.557_007e-7,
            ],
        );
        (1.0 - exp(-p)).copysign(x)
    }
}

/// log2(x) in f64 for finite x > 0: within 1e-12.
#[inline(always)]
fn log2_wide(x: f32) -> f64 {
    let bits = f64::from(x).to_bits().wrapping_add(0x3ff0_0000_0000_0000 - 0x3fe6_a09e_0000_0000);
    let k = (bits >> 52) as i32 - 1023;
    let m = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) + 0x3fe6_a09e_0000_0000);
    let s = (m - 1.0) / (m + 1.0);
    // ln(m) = 2 (s + s^3 / 3 + s^5 / 5 + ...), |s| <= 0.172.
    let z = s * s;
    let mut sum = 0.0;
    let mut odd = 15.0;
    while odd > 0.0 {
        sum = z.mul_add(sum, 1.0 / odd);
        odd -= 2.0;
    }
    (2.0 * core::f64::consts::LOG2_E * s).mul_add(sum, f64::from(k))
}

/// 2^t in f64, for |t| <= 200: within 1e-11 of itself.
#[inline(always)]
fn exp2_wide(t: f64) -> f64 {
    let shifted = t + 6_755_399_441_055_744.0;
    let k = shifted - 6_755_399_441_055_744.0;
    let r = (t - k) * core::f64::consts::LN_2;
    // The sum of r^n / n!.
    let mut sum = 1.0;
    let mut n = 11.0;
    while n > 0.0 {
        sum = (sum * r).mul_add(1.0 / n, 1.0);
        n -= 1.0;
    }
    let power = shifted.to_bits().wrapping_sub(0x4338_0000_0000_0000);
    sum * f64::from_bits(power.wrapping_add(1023) << 52)
}

/// As C's pow: of 0, infinities and negative numbers too.
#[unsafe(no_mangle)]
pub extern "C" fn __nv_powf(x: f32, y: f32) -> f32 {
    let (base, exponent) = (x.abs(), y.abs());
    let is_whole = exponent >= 8_388_608.0 || (exponent + 8_388_608.0) - 8_388_608.0 == exponent;
    let is_odd = is_whole && exponent < 16_777_216.0 && (exponent as i32) & 1 == 1;
    if x == 1.0 || y == 0.0 || (base == 1.0 && exponent == f32::INFINITY) {
        return 1.0;
    }
    if x.is_nan() || y.is_nan() || (x < 0.0 && base < f32::INFINITY && !is_whole) {
        return f32::NAN;
    }
    let size = if base == 0.0 || base == f32::INFINITY {
        if (base == 0.0) == (y < 0.0) { f32::INFINITY } else { 0.0 }
    } else {
        let t = f64::from(y) * log2_wide(base);
        exp2_wide(t.clamp(-200.0, 200.0)) as f32
    };
    if is_odd && x.is_sign_negative() { -size } else { size }
}
