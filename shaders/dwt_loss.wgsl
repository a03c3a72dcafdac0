// The distillation loss of masked language modelling and its gradient. `dwt_loss.rs` beside this file is the definition.
//
//   hard = - sum_i u_i log p_i          p = softmax(z),  u_i = (1 - e) [i = y] + e / v
//   soft =   sum_i r_i log (r_i / q_i)  q = softmax(z / tau),  r = softmax(t / tau)
//   gradient_i = weight * (hard_factor (p_i - u_i) + soft_factor / tau (q_i - r_i))
//
// Shapes: m slots, v vocabulary: logits and gradient [m, v], labels and weights [m], losses [m, 2] (hard, soft; times weight).
//
// One workgroup a slot, at most 65,535 of them. Invocation k takes the tokens k, k + 256, ... Two passes over the logits:
//   1. the largest logit and the sums of exponentials, in one pass (Milakov & Gimelshein 2018, algorithm 3): a larger
//      logit scales down what was summed before; pairs (largest, sum) merge in a tree;
//   2. the gradient, and the sums that need the first pass's: the divergence and, for label smoothing, the mean.
// Reads 4 v floats a slot and writes v; without a soft loss reads 2 v.
//
// Numerics: f32; every exponential is of a number <= 0 bounded from below, so that -inf counts as a token ruled out and no
// infinity or NaN is relied on. Divergence terms are p times differences from the largest logits, free of their size.
//
// Limits: 256 invocations, 5 KiB of workgroup memory, 7 storage buffers; no subgroups, no f16. All bindings are read_write
// because the runtime may cut several tensors from one buffer. Barriers are in uniform control flow: a weight of 0, read from
// a buffer, selects values and does not branch around a barrier.

const WORKGROUP_SIZE: u32 = 256u;
const LOWEST: f32 = -3.4e38;

struct Params {
    vocabulary: u32,
    // 1: there is a hard loss.
    has_hard: u32,
    // 1: there is a soft loss, and the teacher is read.
    has_soft: u32,
    hard_factor: f32,
    // Divided by the temperature already.
    soft_factor: f32,
    // 1 / temperature.
    cooling: f32,
    smoothing: f32,
}

@group(0) @binding(0) var<storage, read_write> student_mv: array<f32>;
@group(0) @binding(1) var<storage, read_write> teacher_mv: array<f32>;
@group(0) @binding(2) var<storage, read_write> labels_m: array<i32>;
@group(0) @binding(3) var<storage, read_write> weights_m: array<f32>;
@group(0) @binding(4) var<storage, read_write> gradient_mv: array<f32>;
@group(0) @binding(5) var<storage, read_write> losses_m2: array<f32>;
@group(0) @binding(6) var<storage, read_write> params: Params;

// The student's largest logit, and the sums at temperature 1 and tau; the teacher's likewise.
var<workgroup> z_max: array<f32, WORKGROUP_SIZE>;
var<workgroup> p_sum: array<f32, WORKGROUP_SIZE>;
var<workgroup> q_sum: array<f32, WORKGROUP_SIZE>;
var<workgroup> t_max: array<f32, WORKGROUP_SIZE>;
var<workgroup> r_sum: array<f32, WORKGROUP_SIZE>;

// e^x for x <= 0, and 0 for what is too small for f32.
fn falling_exp(x: f32) -> f32 {
    return select(exp(max(x, -87.0)), 0.0, x < -87.0);
}

// A difference of logits, at least -1e30: differences of such can still be multiplied.
fn below(x: f32, largest: f32) -> f32 {
    return max(x - largest, -1e30);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let slot = group.x;
    let v = params.vocabulary;
    let start = slot * v;
    let cooling = params.cooling;
    let has_hard = params.has_hard == 1u;
    let has_soft = params.has_soft == 1u;

    // Pass 1.
    var z_largest = LOWEST;
    var p_total = 0.0;
    var q_total = 0.0;
    var t_largest = LOWEST;
    var r_total = 0.0;
    for (var i = lane; i < v; i += WORKGROUP_SIZE) {
        let z = student_mv[start + i];
        if z > z_largest {
            let fall = below(z_largest, z);
            p_total *= falling_exp(fall);
            q_total *= falling_exp(fall * cooling);
            z_largest = z;
        }
        p_total += falling_exp(below(z, z_largest));
        if has_soft {
            q_total += falling_exp(below(z, z_largest) * cooling);
            let t = teacher_mv[start + i];
            if t > t_largest {
                r_total *= falling_exp(below(t_largest, t) * cooling);
                t_largest = t;
            }
            r_total += falling_exp(below(t, t_largest) * cooling);
        }
    }
    z_max[lane] = z_largest;
    p_sum[lane] = p_total;
    q_sum[lane] = q_total;
    t_max[lane] = t_largest;
    r_sum[lane] = r_total;
    for (var half = WORKGROUP_SIZE / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            let other = lane + half;
            let z_both = max(z_max[lane], z_max[other]);
            let mine = below(z_max[lane], z_both);
            let theirs = below(z_max[other], z_both);
            p_sum[lane] = p_sum[lane] * falling_exp(mine) + p_sum[other] * falling_exp(theirs);
            q_sum[lane] = q_sum[lane] * falling_exp(mine * cooling) + q_sum[other] * falling_exp(theirs * cooling);
            z_max[lane] = z_both;
            let t_both = max(t_max[lane], t_max[other]);
            r_sum[lane] = r_sum[lane] * falling_exp(below(t_max[lane], t_both) * cooling)
                + r_sum[other] * falling_exp(below(t_max[other], t_both) * cooling);
            t_max[lane] = t_both;
        }
    }
    workgroupBarrier();
    z_largest = z_max[0];
    t_largest = t_max[0];
    p_total = p_sum[0];
    q_total = q_sum[0];
    r_total = r_sum[0];
    // Every invocation has read them before pass 2's sums take their place.
    workgroupBarrier();

    // Pass 2.
    let weight = weights_m[slot];
    let label = u32(labels_m[slot]);
    let by_p = select(0.0, weight * params.hard_factor / p_total, has_hard);
    let by_q = select(0.0, weight * params.soft_factor / q_total, has_soft);
    let by_r = select(0.0, weight * params.soft_factor / r_total, has_soft);
    let spread = select(0.0, weight * params.hard_factor * params.smoothing / f32(v), has_hard);
    let at_label = select(0.0, weight * params.hard_factor * (1.0 - params.smoothing), has_hard);
    let log_ratio = log(max(q_total, 1e-30)) - log(max(r_total, 1e-30));
    var divergence = 0.0;
    var shifted = 0.0;
    for (var i = lane; i < v; i += WORKGROUP_SIZE) {
        let z = below(student_mv[start + i], z_largest);
        shifted += z;
        var gradient = by_p * falling_exp(z) - spread - select(0.0, at_label, i == label);
        if has_soft {
            let t = below(teacher_mv[start + i], t_largest) * cooling;
            let q = falling_exp(z * cooling);
            let r = falling_exp(t);
            gradient += by_q * q - by_r * r;
            divergence += select(0.0, r * (t - z * cooling + log_ratio), r > 0.0);
        }
        gradient_mv[start + i] = select(gradient, 0.0, weight == 0.0);
    }
    p_sum[lane] = divergence;
    q_sum[lane] = shifted;
    for (var half = WORKGROUP_SIZE / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            p_sum[lane] += p_sum[lane + half];
            q_sum[lane] += q_sum[lane + half];
        }
    }
    workgroupBarrier();
    if lane == 0u {
        let log_sum = log(p_total);
        let from_label = log_sum - below(student_mv[start + label], z_largest);
        let from_mean = select(0.0, params.smoothing * (log_sum - q_sum[0] / f32(v)), params.smoothing != 0.0);
        let hard = (1.0 - params.smoothing) * from_label + from_mean;
        // Not below 0 but for rounding.
        let soft = max(p_sum[0] / max(r_total, 1e-30), 0.0);
        losses_m2[2u * slot] = select(0.0, weight * hard, has_hard && weight != 0.0);
        losses_m2[2u * slot + 1u] = select(0.0, weight * soft, has_soft && weight != 0.0);
    }
}
