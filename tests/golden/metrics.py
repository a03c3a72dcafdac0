"""Makes the goldens of src/tasks/metrics.rs: pip install scikit-learn scipy; python tests/golden/metrics.py"""

from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

CLASSES = {
    "two classes": ([1, 0, 1, 1, 0, 0, 1, 0, 1, 1], [1, 0, 0, 1, 0, 1, 1, 0, 1, 0]),
    "three classes": ([0, 1, 2, 2, 1, 0, 2, 1, 0, 1], [0, 2, 2, 1, 1, 0, 2, 0, 0, 1]),
    "one answer for all": ([1, 1, 1, 1], [1, 0, 1, 0]),
    "never the positive class": ([0, 0, 0, 0], [1, 0, 1, 0]),
    "a class that is never the truth, and one that is never the answer": ([0, 1, 3, 3, 1, 0], [0, 2, 0, 1, 1, 2]),
    "all right": ([2, 0, 1, 2], [2, 0, 1, 2]),
}
AVERAGES = ["macro", "micro", "weighted"]
SCORES = {
    "no ties": ([0.1, 2.5, 3.3, 4.0, 1.2, 4.9], [0.0, 2.0, 4.0, 3.5, 1.0, 5.0]),
    "ties": ([1.0, 1.0, 2.0, 3.0, 3.0, 3.0, 0.5], [0.0, 1.0, 1.0, 2.5, 5.0, 2.5, 2.5]),
    "against": ([5.0, 4.0, 3.0, 2.5], [0.0, 1.0, 2.0, 5.0]),
}

for name, (predicted, truth) in CLASSES.items():
    f1 = f1_score(truth, predicted, labels=[1], average="macro", zero_division=0)
    averages = [float(f1_score(truth, predicted, average=average, zero_division=0)) for average in AVERAGES]
    print(f"{name}: f1 {AVERAGES} {averages!r}")
    print(f"{name}: accuracy {accuracy_score(truth, predicted)!r} f1 {f1!r} matthews {matthews_corrcoef(truth, predicted)!r}")
for name, (predicted, truth) in SCORES.items():
    print(f"{name}: pearson {pearsonr(predicted, truth)[0]!r} spearman {spearmanr(predicted, truth)[0]!r}")
