//! A product of matrices, batched: the definition, and the cases that `matmul.wgsl` beside this file must agree on.

/// The kernel for WebGPU.
pub const WGSL: &str = include_str!("matmul.wgsl");

/// A product `a b` of `batch x heads` pairs: `a [m, k]`, `b [k, n]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// Pairs, in two dimensions.
    pub batch: usize,
    /// The second of them.
    pub heads: usize,
    /// Rows of `a`.
    pub m: usize,
    /// Columns of `a`, rows of `b`.
    pub k: usize,
    /// Columns of `b`.
    pub n: usize,
    /// Whether `a` lies in memory as `[k, m]`.
    pub a_transposed: bool,
    /// Whether `b` lies in memory as `[n, k]`.
    pub b_transposed: bool,
}

/// The definition: plain loops, 64-bit arithmetic. `a [batch heads, m, k]`, `b [batch heads, k, n]`, neither transposed
/// in memory.
pub fn reference(case: &Case, a: &[f32], b: &[f32]) -> Vec<f64> {
    let Case { m, k, n, .. } = *case;
    let mut out = Vec::with_capacity(case.batch * case.heads * m * n);
    for pair in 0..case.batch * case.heads {
        let (a_mk, b_kn) = (&a[pair * m * k..], &b[pair * k * n..]);
        for (row, column) in (0..m).flat_map(|row| (0..n).map(move |column| (row, column))) {
            out.push((0..k).map(|i| f64::from(a_mk[row * k + i]) * f64::from(b_kn[i * n + column])).sum());
        }
    }
    out
}

/// One, edges of a tile of 32 and of a vector of 4, long and flat ones; pairs as attention has them.
pub fn cases() -> Vec<Case> {
    let sizes = [(1, 1, 1), (31, 33, 32), (32, 32, 32), (33, 31, 65), (4, 100, 3), (3, 5, 130), (130, 64, 7), (5, 2, 6)];
    let plain = sizes.map(|(m, k, n)| Case { batch: 1, heads: 1, m, k, n, a_transposed: false, b_transposed: false });
    let several = [(2, 3, 17, 8, 17), (3, 2, 12, 12, 5), (1, 4, 40, 33, 1)];
    let several = several.map(|(batch, heads, m, k, n)| Case { batch, heads, m, k, n, a_transposed: false, b_transposed: false });
    let each = plain.into_iter().chain(several);
    let ways = [(false, false), (true, false), (false, true), (true, true)];
    each.flat_map(|case| ways.map(|(a_transposed, b_transposed)| Case { a_transposed, b_transposed, ..case })).collect()
}
