"""Goldens of src/study/statistics.rs, from scipy. Needs: pip install scipy"""

import numpy as np
from scipy import stats

A = [3.912, 3.905, 3.921, 3.899]
B = [3.951, 3.948, 3.967, 3.940]
C = [3.90, 3.99, 3.85]

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
