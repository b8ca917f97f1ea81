"""Compiled loops for coefficients that enter and leave by rows, one row for each feature.

The penalty is ``sum_k thresholds[k] ||B_k||``.  ``B[:m]`` are the rows of the
working set, ``G[:m, :m]`` is its Gram matrix, ``Q[:m]`` its correlations with the
residuals of all targets.  Every buffer belongs to the caller.
"""

import numpy as np

from sparsestat.solvers._kernels import SUMS
from sparsestat.utils._numba import jit


@jit(fastmath=SUMS)
def cd_gram_rows(thresholds, G, Q, B, m, row, support, max_epochs, tol, price):
    """Cyclic block coordinate descent, mostly over the rows that are not zero.

    A row of correlations that is wrong by d relative to its threshold costs the
    duality gap about ``d * price``.  Returns the number of epochs and whether the last
    one went over everything and left, by the size of its changes, a gap of at most
    about ``tol``.
    """
    targets = B.shape[1]
    size = -1
    for epoch in range(1, max_epochs + 1):
        decrease = 0.0
        excess = 0.0
        everything = size < 0
        for i in range(m if everything else size):
            k = i if everything else support[i]
            diagonal = G[k, k]
            if diagonal <= 0.0:
                continue
            norm = 0.0
            for t in range(targets):
                row[t] = B[k, t] + Q[k, t] / diagonal
                norm += row[t] * row[t]
            norm = np.sqrt(norm)
            shrunk = norm - thresholds[k] / diagonal
            factor = shrunk / norm if shrunk > 0.0 else 0.0
            moved = 0.0
            for t in range(targets):
                row[t] = factor * row[t] - B[k, t]
                moved += row[t] * row[t]
            if moved == 0.0:
                continue
            for t in range(targets):
                B[k, t] += row[t]
            for j in range(m):
                entry = G[k, j]
                for t in range(targets):
                    Q[j, t] -= entry * row[t]
            decrease += 0.5 * moved * diagonal
            if thresholds[k] > 0.0:
                excess = max(excess, np.sqrt(moved) * diagonal / thresholds[k])
        if decrease + excess * price <= tol:
            if everything:
                return epoch, True
            size = -1
        elif everything:
            size = 0
            for k in range(m):
                for t in range(targets):
                    if B[k, t] != 0.0:
                        support[size] = k
                        size += 1
                        break
    return max_epochs, False
