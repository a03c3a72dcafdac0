//! Scores of predictions, with scikit-learn's and SciPy's definitions.

use std::collections::BTreeSet;

/// A score of predictions against the truth; higher is better, 1 is perfect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(not(target_family = "wasm"), derive(clap::ValueEnum))]
pub enum Metric {
    /// The share of right answers.
    Accuracy,
    /// The harmonic mean of precision and recall of the second of two classes; 0 where there is nothing to count.
    F1,
    /// Another name of f1, as scikit-learn has it.
    F1Binary,
    /// The mean of the classes' f1, of those that occur.
    F1Macro,
    /// The f1 of all answers together, which is their accuracy.
    F1Micro,
    /// The mean of the classes' f1, weighted by how often each is the truth.
    F1Weighted,
    /// The Matthews correlation of predicted and true classes, of any number; 0 where undefined.
    Matthews,
    /// The linear correlation of predicted and true scores; 0 where either is constant.
    Pearson,
    /// The linear correlation of their ranks, ties having their average rank.
    Spearman,
}

impl Metric {
    /// Its name in reports and options: "accuracy", "f1-macro".
    pub fn name(self) -> &'static str {
        match self {
            Metric::Accuracy => "accuracy",
            Metric::F1 => "f1",
            Metric::F1Binary => "f1-binary",
            Metric::F1Macro => "f1-macro",
            Metric::F1Micro => "f1-micro",
            Metric::F1Weighted => "f1-weighted",
            Metric::Matthews => "matthews",
            Metric::Pearson => "pearson",
            Metric::Spearman => "spearman",
        }
    }

    /// The score of `predicted` against `truth`, lists of equal length; classes stand as their indices.
    pub fn of(self, predicted: &[f64], truth: &[f64]) -> f64 {
        let classes = |labels: &[f64]| labels.iter().map(|&label| label as usize).collect::<Vec<usize>>();
        match self {
            // Every answer is of one class: a false positive of one is a false negative of another.
            Metric::Accuracy | Metric::F1Micro => accuracy(&classes(predicted), &classes(truth)),
            Metric::F1 | Metric::F1Binary => f1(&classes(predicted), &classes(truth), 1),
            Metric::F1Macro => f1_mean(&classes(predicted), &classes(truth), |_| 1.0),
            Metric::F1Weighted => f1_mean(&classes(predicted), &classes(truth), |occurs| occurs),
            Metric::Matthews => matthews(&classes(predicted), &classes(truth)),
            Metric::Pearson => pearson(predicted, truth),
            Metric::Spearman => spearman(predicted, truth),
        }
    }
}

/// The share of right answers among classes of equal number.
pub fn accuracy(predicted: &[usize], truth: &[usize]) -> f64 {
    ratio(count(predicted, truth, |p, t| p == t), truth.len() as f64)
}

/// F1 of one class: `2 tp / (2 tp + fp + fn)`, and 0 where that is 0 / 0.
pub fn f1(predicted: &[usize], truth: &[usize], class: usize) -> f64 {
    let hits = count(predicted, truth, |p, t| p == class && t == class);
    let misses = count(predicted, truth, |p, t| (p == class) != (t == class));
    ratio(2.0 * hits, 2.0 * hits + misses)
}

/// The mean of the F1 of every class that is an answer or the truth, weighted by a function of how often it is the
/// truth.
fn f1_mean(predicted: &[usize], truth: &[usize], weight: impl Fn(f64) -> f64) -> f64 {
    let classes: BTreeSet<usize> = predicted.iter().chain(truth).copied().collect();
    let (mut sum, mut weights) = (0.0, 0.0);
    for class in classes {
        let own = weight(count(predicted, truth, |_, t| t == class));
        sum += own * f1(predicted, truth, class);
        weights += own;
    }
    ratio(sum, weights)
}

/// The Matthews correlation of any number of classes (Gorodkin 2004), 0 where undefined.
pub fn matthews(predicted: &[usize], truth: &[usize]) -> f64 {
    let n = truth.len() as f64;
    let classes = predicted.iter().chain(truth).max().map_or(0, |&most| most + 1);
    let tally = |labels: &[usize]| {
        let mut tally = vec![0.0; classes];
        labels.iter().for_each(|&class| tally[class] += 1.0);
        tally
    };
    let (p, t) = (tally(predicted), tally(truth));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let right = count(predicted, truth, |p, t| p == t);
    ratio(right * n - dot(&p, &t), ((n * n - dot(&p, &p)) * (n * n - dot(&t, &t))).sqrt())
}

/// The linear correlation of two lists of equal length; 0 where either is constant or not finite: it then says nothing.
pub fn pearson(a: &[f64], b: &[f64]) -> f64 {
    let says_nothing = |x: &[f64]| x.windows(2).all(|pair| pair[0] == pair[1]) || !x.iter().all(|v| v.is_finite());
    if says_nothing(a) || says_nothing(b) {
        return 0.0;
    }
    let centred = |x: &[f64]| {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        x.iter().map(|v| v - mean).collect::<Vec<f64>>()
    };
    let (a, b) = (centred(a), centred(b));
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    ratio(dot(&a, &b), dot(&a, &a).sqrt() * dot(&b, &b).sqrt()).clamp(-1.0, 1.0)
}

/// The linear correlation of the ranks of two lists of equal length; 0 as [`pearson`].
pub fn spearman(a: &[f64], b: &[f64]) -> f64 {
    if !a.iter().chain(b).all(|v| v.is_finite()) {
        return 0.0;
    }
    pearson(&ranks(a), &ranks(b))
}

/// Ranks from 1; equal values share the average of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut below = 0;
    for tied in order.chunk_by(|&i, &j| values[i] == values[j]) {
        let rank = below as f64 + (tied.len() + 1) as f64 / 2.0;
        tied.iter().for_each(|&i| ranks[i] = rank);
        below += tied.len();
    }
    ranks
}

fn count(predicted: &[usize], truth: &[usize], matches: impl Fn(usize, usize) -> bool) -> f64 {
    predicted.iter().zip(truth).filter(|&(&p, &t)| matches(p, t)).count() as f64
}

fn ratio(over: f64, under: f64) -> f64 {
    if under == 0.0 { 0.0 } else { over / under }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goldens by tests/golden/metrics.py.
    #[test]
    fn classes_score_as_in_scikit_learn() {
        for (predicted, truth, want) in [
            (
                vec![1, 0, 1, 1, 0, 0, 1, 0, 1, 1],
                vec![1, 0, 0, 1, 0, 1, 1, 0, 1, 0],
                [0.7, 0.7272727272727273, 0.408248290463863, 0.696969696969697, 0.7, 0.696969696969697],
            ),
            (
                vec![0, 1, 2, 2, 1, 0, 2, 1, 0, 1],
                vec![0, 2, 2, 1, 1, 0, 2, 0, 0, 1],
                [0.7, 0.5714285714285714, 0.5606060606060606, 0.6984126984126983, 0.7, 0.7142857142857142],
            ),
            (vec![1, 1, 1, 1], vec![1, 0, 1, 0], [0.5, 0.6666666666666666, 0.0, 0.3333333333333333, 0.5, 0.3333333333333333]),
            (vec![0, 0, 0, 0], vec![1, 0, 1, 0], [0.5, 0.0, 0.0, 0.3333333333333333, 0.5, 0.3333333333333333]),
            // A class that is never the truth, and one that is never the answer.
            (
                vec![0, 1, 3, 3, 1, 0],
                vec![0, 2, 0, 1, 1, 2],
                [0.3333333333333333, 0.5, 0.16666666666666666, 0.25, 0.3333333333333333, 0.3333333333333333],
            ),
            (vec![2, 0, 1, 2], vec![2, 0, 1, 2], [1.0; 6]),
        ] {
            let numbers = |classes: &[usize]| classes.iter().map(|&class| class as f64).collect::<Vec<f64>>();
            let (predicted, truth) = (numbers(&predicted), numbers(&truth));
            let metrics = [Metric::Accuracy, Metric::F1, Metric::Matthews, Metric::F1Macro, Metric::F1Micro, Metric::F1Weighted];
            let ours = metrics.map(|metric| metric.of(&predicted, &truth));
            assert_eq!(Metric::F1Binary.of(&predicted, &truth), ours[1]);
            assert!(ours.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12), "{ours:?} against {want:?}");
        }
    }

    /// Goldens by tests/golden/metrics.py.
    #[test]
    fn scores_correlate_as_in_scipy() {
        for (predicted, truth, want) in [
            (vec![0.1, 2.5, 3.3, 4.0, 1.2, 4.9], vec![0.0, 2.0, 4.0, 3.5, 1.0, 5.0], [0.9726278825642729, 0.942857142857143]),
            (
                vec![1.0, 1.0, 2.0, 3.0, 3.0, 3.0, 0.5],
                vec![0.0, 1.0, 1.0, 2.5, 5.0, 2.5, 2.5],
                [0.5903514643711392, 0.5392156862745098],
            ),
            (vec![5.0, 4.0, 3.0, 2.5], vec![0.0, 1.0, 2.0, 5.0], [-0.9046557008309875, -1.0]),
            (vec![0.1, 0.1, 0.1], vec![0.0, 1.0, 2.0], [0.0, 0.0]),
        ] {
            let ours = [pearson(&predicted, &truth), spearman(&predicted, &truth)];
            assert!(ours.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12), "{ours:?} against {want:?}");
        }
    }

    #[test]
    fn answers_that_are_no_numbers_score_0() {
        for metric in [Metric::Pearson, Metric::Spearman] {
            assert_eq!(metric.of(&[1.0, f64::NAN, 3.0], &[1.0, 2.0, 3.0]), 0.0);
        }
    }
}
