//! The operations of layers: their definitions, and the cases that every form of them must agree on.
//!
//! Plain loops in 64-bit arithmetic over rows one after another. A definition has no gradient of its own: a form's is
//! held to differences of the definition ([`differences`]), which are good for ten digits.

/// `x W + b`: `x [n, d]`, `w [d, f]`, `b [f]` to `[n, f]`.
pub fn dense(x: &[f64], w: &[f64], b: &[f64]) -> Vec<f64> {
    let f = b.len();
    let d = w.len() / f;
    let column = |row: &[f64], j: usize| b[j] + (0..d).map(|i| row[i] * w[i * f + j]).sum::<f64>();
    x.chunks(d).flat_map(|row| (0..f).map(move |j| column(row, j))).collect()
}

/// `x Phi(x)`, with the distribution of a normal variable (Hendrycks and Gimpel 2016).
pub fn gelu(x: f64) -> f64 {
    x * 0.5 * (1.0 + erf(x / std::f64::consts::SQRT_2))
}

/// The error function, by a series whose terms all have one sign, so that none cancel.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-18 * sum.abs() {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}

/// `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))` (Hendrycks and Gimpel 2016).
pub fn tanh_gelu(x: &[f64]) -> Vec<f64> {
    let tangent = |x: f64| ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh();
    x.iter().map(|&x| x / 2.0 * (1.0 + tangent(x))).collect()
}

/// `gelu(a) * b` of rows `[a, b]` (Shazeer 2020): `[n, 2 f]` to `[n, f]`.
pub fn gelu_gate(x: &[f64], f: usize) -> Vec<f64> {
    x.chunks(2 * f).flat_map(|row| (0..f).map(move |i| gelu(row[i]) * row[f + i])).collect()
}

/// `silu(a) * b` with `silu(x) = x / (1 + e^-x)` (Shazeer 2020).
pub fn silu_gate(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a / (1.0 + (-a).exp()) * b).collect()
}

/// `gamma x / sqrt(mean(x^2) + epsilon)` over each row, or each part of one that is as long as `gamma` (Zhang and
/// Sennrich 2019).
pub fn rms_norm(x: &[f64], gamma: &[f64], epsilon: f64) -> Vec<f64> {
    let each = |part: &[f64]| -> Vec<f64> {
        let root = (part.iter().map(|x| x * x).sum::<f64>() / part.len() as f64 + epsilon).sqrt();
        part.iter().zip(gamma).map(|(x, gamma)| gamma * x / root).collect()
    };
    x.chunks(gamma.len()).flat_map(each).collect()
}

/// Each head of width `w` as often as queries share it, next to each other (Ainslie et al. 2023): what grouped
/// attention makes of keys and values before it is [`attention`].
pub fn shared(x: &[f64], w: usize, sharing: usize) -> Vec<f64> {
    x.chunks(w).flat_map(|head| head.repeat(sharing)).collect()
}

/// `gamma (x - mean) / sqrt(variance + epsilon) + beta` over each row (Ba et al. 2016).
pub fn norm(x: &[f64], gamma: &[f64], beta: &[f64], epsilon: f64) -> Vec<f64> {
    let d = gamma.len();
    let each = |row: &[f64]| -> Vec<f64> {
        let mean = row.iter().sum::<f64>() / d as f64;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / d as f64;
        (0..d).map(|i| gamma[i] * (row[i] - mean) / (variance + epsilon).sqrt() + beta[i]).collect()
    };
    x.chunks(d).flat_map(each).collect()
}

/// Who sees whom in rows of `length` positions.
#[derive(Debug, Clone, Copy)]
pub struct Sees<'a> {
    /// The segment of each position, 0 for padding; a position sees its own segment.
    pub segments: &'a [i32],
    /// Positions of a row.
    pub length: usize,
    /// Whether it sees nothing that comes after it.
    pub is_causal: bool,
    /// How near a position must be: nearer than this.
    pub window: Option<usize>,
}

impl Sees<'_> {
    fn sees(&self, query: usize, key: usize) -> bool {
        query / self.length == key / self.length
            && self.segments[query] == self.segments[key]
            && (!self.is_causal || key <= query)
            && self.window.is_none_or(|window| query.abs_diff(key) < window)
    }
}

/// `softmax(q k^T / sqrt(w)) v` in heads of width `w`, over the positions that a query sees (Vaswani et al. 2017):
/// `[n, d]` each to `[n, d]`. Padding gives 0.
pub fn attention(q: &[f64], k: &[f64], v: &[f64], heads: usize, sees: &Sees) -> Vec<f64> {
    let n = sees.segments.len();
    let d = q.len() / n;
    let w = d / heads;
    let mut out = vec![0.0; n * d];
    for (query, head) in (0..n).flat_map(|query| (0..heads).map(move |head| (query, head))) {
        if sees.segments[query] == 0 {
            continue;
        }
        let keys: Vec<usize> = (0..n).filter(|&key| sees.sees(query, key)).collect();
        let of = |x: &[f64], at: usize, i: usize| x[at * d + head * w + i];
        let score = |key: usize| (0..w).map(|i| of(q, query, i) * of(k, key, i)).sum::<f64>() / (w as f64).sqrt();
        let scores: Vec<f64> = keys.iter().map(|&key| score(key)).collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
        for i in 0..w {
            let terms = keys.iter().zip(&scores).map(|(&key, score)| (score - largest).exp() / sum * of(v, key, i));
            out[query * d + head * w + i] = terms.sum();
        }
    }
    out
}

/// Numbers `i` and `i + w / 2` of each head of width `w` turned by `p / theta^(2 i / w)` at position `p` (Su et al.
/// 2021): `[n, d]` to `[n, d]`.
pub fn turned(x: &[f64], positions: &[i32], heads: usize, theta: f64) -> Vec<f64> {
    let d = x.len() / positions.len();
    let w = d / heads;
    let mut out = x.to_vec();
    for (at, head, i) in
        (0..positions.len()).flat_map(|at| (0..heads).flat_map(move |head| (0..w / 2).map(move |i| (at, head, i))))
    {
        let (first, second) = (at * d + head * w + i, at * d + head * w + i + w / 2);
        let angle = f64::from(positions[at]) / theta.powf(2.0 * i as f64 / w as f64);
        out[first] = x[first] * angle.cos() - x[second] * angle.sin();
        out[second] = x[second] * angle.cos() + x[first] * angle.sin();
    }
    out
}

/// Rows of a table: `[v, d]` to `[rows, d]`.
pub fn look_up(table: &[f64], rows: &[i32], d: usize) -> Vec<f64> {
    rows.iter().flat_map(|&row| table[row as usize * d..][..d].to_vec()).collect()
}

/// The states of one direction of an LSTM at every step, `[t, b, h]` (Hochreiter and Schmidhuber 1997), as
/// `src/kernels/lstm/mod.rs` writes it: `gates [t b, 4 h]`, `u [h, 4 h]`; 0 from a row's end on.
pub fn lstm(gates: &[f64], u: &[f64], h: usize, active: &[usize]) -> Vec<f64> {
    let b = gates.len() / (4 * h) / active.len();
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let mut out = vec![0.0; active.len() * b * h];
    for row in 0..b {
        let (mut state, mut cell) = (vec![0.0; h], vec![0.0; h]);
        for step in (0..active.len()).filter(|&step| row < active[step]) {
            let gate = |which: usize, unit: usize| {
                let column = which * h + unit;
                let recurrent = (0..h).map(|from| state[from] * u[from * 4 * h + column]).sum::<f64>();
                gates[(step * b + row) * 4 * h + column] + recurrent
            };
            let next: Vec<(f64, f64)> = (0..h)
                .map(|unit| {
                    let cell = sigmoid(gate(1, unit)) * cell[unit] + sigmoid(gate(0, unit)) * gate(2, unit).tanh();
                    (cell, sigmoid(gate(3, unit)) * cell.tanh())
                })
                .collect();
            (cell, state) = next.into_iter().unzip();
            out[(step * b + row) * h..][..h].copy_from_slice(&state);
        }
    }
    out
}

/// The gradient of `sum(weights * f(inputs))` by each input, by central differences.
pub fn differences(inputs: &[Vec<f64>], weights: &[f64], f: impl Fn(&[Vec<f64>]) -> Vec<f64>) -> Vec<Vec<f64>> {
    const STEP: f64 = 1e-5;
    let total = |inputs: &[Vec<f64>]| f(inputs).iter().zip(weights).map(|(out, weight)| out * weight).sum::<f64>();
    let mut inputs = inputs.to_vec();
    let mut all = Vec::new();
    for which in 0..inputs.len() {
        let mut gradient = Vec::new();
        for at in 0..inputs[which].len() {
            let value = inputs[which][at];
            let [up, down] = [value + STEP, value - STEP].map(|moved| {
                inputs[which][at] = moved;
                total(&inputs)
            });
            inputs[which][at] = value;
            gradient.push((up - down) / (2.0 * STEP));
        }
        all.push(gradient);
    }
    all
}
