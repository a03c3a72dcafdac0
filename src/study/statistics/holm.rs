//! Several tests at once.

/// Holm's step-down correction: each p-value as large as it must be for the chance of a single false finding among all
/// of them to stay below the level it is compared with.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let (mut out, mut largest) = (vec![0.0; p_values.len()], 0.0_f64);
    for (rank, &at) in order.iter().enumerate() {
        largest = largest.max((p_values.len() - rank) as f64 * p_values[at]).min(1.0);
        out[at] = largest;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::tests::close;
    use super::*;

    #[test]
    fn the_correction_is_statsmodels() {
        let goldens: [(&[f64], &[f64]); 3] = [
            (&[0.01, 0.04, 0.03, 0.005], &[0.03, 0.06, 0.06, 0.02]),
            (&[0.9, 0.2, 0.2, 0.001, 0.06], &[0.9, 0.6, 0.6, 0.005, 0.24]),
            (&[0.5, 0.6, 0.7], &[1.0, 1.0, 1.0]),
        ];
        for (p_values, corrected) in goldens {
            holm(p_values).into_iter().zip(corrected).for_each(|(ours, theirs)| close(ours, *theirs));
        }
        assert_eq!(holm(&[0.03]), [0.03]);
        assert!(holm(&[]).is_empty());
    }
}
