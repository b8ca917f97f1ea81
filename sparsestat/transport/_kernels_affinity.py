"""Row sums of a symmetric scaling of a Gaussian kernel, P_ij = exp(u_i + u_j - D_ij / epsilon).

Only the upper triangle is read and only its exponentials are computed; what a row adds to its
own sum, it adds to those of the columns as well.
"""

import math

import numpy as np

from sparsestat.utils._kernels import EXP_FASTMATH, fast_exp
from sparsestat.utils._numba import jit

# Beyond these, a sum of exponentials may consist of clipped terms.
_TINY, _HUGE = 1e-290, 1e290
_SUM_FASTMATH = {"reassoc", "contract", "nnan", "ninf", "nsz"}


@jit(fastmath=EXP_FASTMATH)
def _entry(distance, u, v, inverse_epsilon):
    """One entry of P; without reassociation, which would lose digits of the exponent."""
    return fast_exp(u + v - distance * inverse_epsilon)


@jit(fastmath=_SUM_FASTMATH)
def _add_row(row, u, v, inverse_epsilon, sums):
    s = 0.0
    for j in range(row.shape[0]):
        p = _entry(row[j], u, v[j], inverse_epsilon)
        sums[j] += p
        s += p
    return s


@jit
def _log_sum(D, inverse_epsilon, u, i, with_diagonal):
    """Logarithm of the sum of row i, whatever the size of the exponents."""
    row = D[i]
    largest = -np.inf
    for j in range(u.shape[0]):
        if j != i or with_diagonal:
            largest = max(largest, u[j] - row[j] * inverse_epsilon)
    s = 0.0
    for j in range(u.shape[0]):
        if j != i or with_diagonal:
            s += math.exp(u[j] - row[j] * inverse_epsilon - largest)
    return u[i] + largest + math.log(s)


@jit
def log_row_sums(D, inverse_epsilon, u, with_diagonal, out):
    """Write the logarithms of the row sums of P to ``out``.

    ``D`` is symmetric with a diagonal of zeros. Without the diagonal, P_ii counts as zero.
    """
    n = u.shape[0]
    for i in range(n):
        out[i] = math.exp(2.0 * u[i]) if with_diagonal else 0.0
    for i in range(n):
        out[i] += _add_row(D[i, i + 1 :], u[i], u[i + 1 :], inverse_epsilon, out[i + 1 :])
    for i in range(n):
        if _TINY < out[i] < _HUGE:
            out[i] = math.log(out[i])
        else:
            out[i] = _log_sum(D, inverse_epsilon, u, i, with_diagonal)
