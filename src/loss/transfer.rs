//! The losses of Mukherjee and Awadallah 2019, each by its equation's number and a row: equations 2 and 3 are
//! [`super::hard_loss`] on class logits.
//!
//! Shapes: `b` rows, `c` classes, `d` width of the representations.

use burn::tensor::Tensor;

/// How the squares of a row's elements become its loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elements {
    /// Their mean: the text's "element-wise mean-squared error", and Keras's `mse` in the authors' code.
    Mean,
    /// Half their sum: equations 5 and 7 as they are printed.
    Sum,
}

impl Elements {
    fn of(self, difference_bd: Tensor<2>) -> Tensor<1> {
        let squares_bd = difference_bd.square();
        match self {
            Elements::Mean => squares_bd.mean_dim(1).squeeze_dim(1),
            Elements::Sum => squares_bd.sum_dim(1).squeeze_dim::<1>(1) * 0.5,
        }
    }
}

/// Equations 4 and 5, the logit loss: the student's scores `r` against the teacher's logits, both `[b, c]`; out `[b]`.
pub fn logit_loss(scores_bc: Tensor<2>, teacher_bc: Tensor<2>, elements: Elements) -> Tensor<1> {
    elements.of(scores_bc - teacher_bc)
}

/// Equations 6 and 7, the representation loss: the student's projected representation against the teacher's, both
/// `[b, d]`; out `[b]`.
pub fn representation_loss(student_bd: Tensor<2>, teacher_bd: Tensor<2>, elements: Elements) -> Tensor<1> {
    elements.of(student_bd - teacher_bd)
}

/// The weights of equation 8's terms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct JointWeights {
    /// Alpha, of the cross-entropy against labels.
    pub alpha: f64,
    /// Beta, of the representation loss.
    pub beta: f64,
    /// Gamma, of the logit loss.
    pub gamma: f64,
}

impl JointWeights {
    /// Equation 8: the weighted sum of the three means, the first over labelled rows and the others over transfer rows.
    pub fn joint(&self, cross_entropy: Tensor<1>, representation: Tensor<1>, logits: Tensor<1>) -> Tensor<1> {
        cross_entropy * self.alpha + representation * self.beta + logits * self.gamma
    }
}

/// The teacher's targets for the logit loss: `logit(p) = log(p / (1 - p))` of each class's probability
/// `p = softmax(z)`, worked out from the logits `z` (so that it is exact where p rounds to 1), and cut to
/// `-largest..=largest`.
///
/// For two classes these are `z_1 - z_2` and its negative.
pub fn log_odds(z_c: &[f32], largest: f64) -> Vec<f32> {
    let others = |at: usize| z_c.iter().enumerate().filter(move |(other, _)| *other != at).map(|(_, &z)| f64::from(z));
    let log_sum = |at: usize| {
        let most = others(at).fold(f64::NEG_INFINITY, f64::max);
        most + others(at).map(|z| (z - most).exp()).sum::<f64>().ln()
    };
    (0..z_c.len()).map(|at| (f64::from(z_c[at]) - log_sum(at)).clamp(-largest, largest) as f32).collect()
}

/// How confident a teacher is (table 9): the variance of a row's class probabilities, and the mean of that over rows of
/// logits. The largest possible is [`largest_variance`].
pub fn confidence<'a>(rows: impl ExactSizeIterator<Item = &'a [f32]>) -> f64 {
    let count = rows.len().max(1) as f64;
    let variance = |z_c: &[f32]| {
        let most = z_c.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let shares: Vec<f64> = z_c.iter().map(|z| f64::from(z - most).exp()).collect();
        let (sum, c) = (shares.iter().sum::<f64>(), z_c.len() as f64);
        shares.iter().map(|share| (share / sum - 1.0 / c).powi(2)).sum::<f64>() / c
    };
    rows.map(variance).sum::<f64>() / count
}

/// The variance of a one-hot prediction over `classes`.
pub fn largest_variance(classes: usize) -> f64 {
    let c = classes.max(1) as f64;
    (c - 1.0) / (c * c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_odds_are_exact_where_probabilities_round() {
        // p = 0.8 and 0.2: log 4.
        let found = log_odds(&[4f32.ln(), 0.0], 20.0);
        assert!((found[0] - 4f32.ln()).abs() < 1e-6 && (found[1] + 4f32.ln()).abs() < 1e-6, "{found:?}");
        // 1 - p is 2e-9: far below what f32 tells from 0 beside 1.
        assert_eq!(log_odds(&[20.0, 0.0], 30.0), [20.0, -20.0]);
        assert_eq!(log_odds(&[20.0, 0.0], 10.0), [10.0, -10.0]);
        // Three equal classes: p = 1/3, p / (1 - p) = 1/2.
        assert!(log_odds(&[7.0; 3], 20.0).iter().all(|x| (x + 2f32.ln()).abs() < 1e-6));
    }

    #[test]
    fn the_largest_variances_are_the_papers() {
        for (classes, printed) in [(2, 0.250), (4, 0.188), (14, 0.066)] {
            assert!((largest_variance(classes) - printed).abs() < 6e-4, "{classes}");
            let mut sure = vec![0.0f32; classes];
            sure[1] = 1e4;
            assert!((confidence([&sure[..]].into_iter()) - largest_variance(classes)).abs() < 1e-12);
        }
        assert_eq!(confidence([&[3.0f32; 4][..]].into_iter()), 0.0);
    }
}
