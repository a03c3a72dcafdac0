"""Goldens of src/study/statistics/, from scipy and statsmodels. Needs: pip install scipy statsmodels"""

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

A = [3.912, 3.905, 3.921, 3.899]
B = [3.951, 3.948, 3.967, 3.940]
C = [3.90, 3.99, 3.85]
D = [-0.021, -0.013, 0.004, -0.030, -0.008, 0.011, -0.017, -0.002]

print("sd", repr(np.std(A, ddof=1)), "se", repr(stats.sem(A)))
print("interval", stats.t.interval(0.95, len(A) - 1, np.mean(A), stats.sem(A)))
paired = stats.ttest_rel(A, B)
print("paired", repr(paired.statistic), repr(paired.pvalue), paired.confidence_interval(0.95))
welch = stats.ttest_ind(A, C, equal_var=False)
print("welch", repr(welch.statistic), repr(welch.df), repr(welch.pvalue), welch.confidence_interval(0.95))
for t, df in [(0.0, 1), (1.0, 1), (2.5, 3), (12.7, 2), (0.01, 30.5), (40.0, 5), (1.96, 1e6), (3.0, 0.7)]:
    print("p", t, df, repr(2 * stats.t.sf(t, df)))
for p, df in [(0.975, 1), (0.975, 2), (0.975, 4.37), (0.975, 29), (0.975, 1e6)]:
    print("q", p, df, repr(stats.t.ppf(p, df)))

for d in [D, [a - b for a, b in zip(A, B)], [0.01, 0.02, -0.01, 0.01, 0.03], [(i * 7 % 11 - 3) / 100 for i in range(20)]]:
    # Exact: as many resamples as there are assignments of signs.
    test = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf)
    print("sign flip", len(d), repr(float(test.pvalue)))

for p in [[0.01, 0.04, 0.03, 0.005], [0.9, 0.2, 0.2, 0.001, 0.06], [0.5, 0.6, 0.7]]:
    print("holm", p, [float(v) for v in multipletests(p, method="holm")[1]])

zero = np.zeros(len(D))
for a, b, margin in [(A, B, 0.05), (A, B, 0.04), (D, zero, 0.02), (D, zero, 0.01)]:
    print("tost", margin, repr(float(ttost_paired(np.array(a), np.array(b), -margin, margin)[0])))

for effect, n, alpha in [(0.5, 10, 0.05), (1.0, 8, 0.01), (0.1, 200, 0.05), (5.0, 3, 0.05), (2.0, 2, 0.05)]:
    print("power", effect, n, alpha, repr(float(TTestPower().power(effect, n, alpha))))
for margin, sd, alpha in [(0.01, 0.0105, 0.05), (0.01, 0.0179, 0.05), (0.01, 0.0157, 0.0125), (0.01, 0.002, 0.05), (0.001, 0.02, 0.05)]:
    n = TTestPower().solve_power(effect_size=margin / sd, alpha=alpha, power=0.8, alternative="two-sided")
    print("needed", margin, sd, alpha, n)

items = np.array([i * i % 17 for i in range(200)]) / 17
drawn = stats.bootstrap((items,), np.mean, method="percentile", n_resamples=200_000, rng=1, batch=1000)
print("bootstrap", drawn.confidence_interval, "standard error", drawn.standard_error)
