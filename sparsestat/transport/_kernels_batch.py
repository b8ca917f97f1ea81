"""Sinkhorn's iteration on many transport problems of one shape, one problem after the other.

The plan of a problem is P_ij = exp(u_i + v_j - S_ij). It is stored as a kernel whose rows and
columns are scaled; a pass over it scales the rows, and adds up the columns while the rows are
still near the processor. Scales that have grown large are absorbed by u and v (Schmitzer,
2019). Rows and columns without weight have the potential ``NOTHING``.
"""

import math

import numpy as np

from sparsestat.transport._kernels import (
    SUM_FASTMATH,
    add_four,
    add_scaled,
    dot,
    four_dots,
)
from sparsestat.utils._kernels import EXP_FASTMATH, fast_exp
from sparsestat.utils._numba import jit

NOTHING = -1e30

# Beyond these, a sum of exponentials may consist of clipped terms.
_TINY, _HUGE = 1e-290, 1e290
_ABSORB = math.exp(30.0)
_POLISHING = 20
_NEAR, _NEAR_ONE, _WINDOW = 0.2, 0.1, 3


@jit(fastmath=EXP_FASTMATH)
def _plan_row(costs, u, v, out):
    for j in range(out.shape[0]):
        out[j] = fast_exp(u + v[j] - costs[j])


@jit(fastmath=SUM_FASTMATH)
def _largest(costs, v):
    largest = NOTHING * 4.0
    for j in range(v.shape[0]):
        largest = max(largest, v[j] - costs[j])
    return largest


@jit(fastmath=SUM_FASTMATH)
def _sum(x):
    s = 0.0
    for j in range(x.shape[0]):
        s += x[j]
    return s


@jit(fastmath=SUM_FASTMATH)
def _raise_to(costs, u, largest):
    for j in range(largest.shape[0]):
        largest[j] = max(largest[j], u - costs[j])


@jit(fastmath=EXP_FASTMATH)
def _add_exponentials(costs, u, largest, sums):
    for j in range(sums.shape[0]):
        sums[j] += fast_exp(u - costs[j] - largest[j])


@jit
def _log_sweep(S, a, b, u, v, buffer, largest):
    """Update rows and columns with the largest exponent subtracted, whatever their size."""
    n, m = S.shape
    for i in range(n):
        if a[i] > 0.0:
            top = _largest(S[i], v)
            _plan_row(S[i], -top, v, buffer)
            u[i] = math.log(a[i]) - top - math.log(_sum(buffer))
    for j in range(m):
        largest[j] = NOTHING * 4.0
        buffer[j] = 0.0
    for i in range(n):
        _raise_to(S[i], u[i], largest)
    for i in range(n):
        _add_exponentials(S[i], u[i], largest, buffer)
    for j in range(m):
        if b[j] > 0.0:
            v[j] = math.log(b[j]) - largest[j] - math.log(buffer[j])


@jit
def _relaxed(ratio, omega):
    """About ``ratio ** omega`` for ratios near one; others stay as they are."""
    x = ratio - 1.0
    return 1.0 + omega * x * (1.0 + 0.5 * (omega - 1.0) * x) if abs(x) < _NEAR_ONE else ratio


@jit
def _rescale(s, a, omega, scale, i):
    """Scale row ``i`` towards its weight; returns how far off it is, or inf for an underflow."""
    if a == 0.0:
        scale[i] = 0.0
        return 0.0
    if not _TINY < s < _HUGE:
        return np.inf
    scale[i] *= _relaxed(a / (s * scale[i]), omega)
    return abs(scale[i] * s - a)


@jit
def _kernel_sweep(K, a, b, omega, row_scale, column_scale, columns):
    """Scale the rows, and add up the columns. Returns the error, inf for an underflow."""
    n, m = K.shape
    error = 0.0
    for j in range(m):
        columns[j] = 0.0
    i = np.int64(0)
    while i + 4 <= n:
        s0, s1, s2, s3 = four_dots(K, i, column_scale)
        error += _rescale(s0, a[i], omega, row_scale, i)
        error += _rescale(s1, a[i + 1], omega, row_scale, i + 1)
        error += _rescale(s2, a[i + 2], omega, row_scale, i + 2)
        error += _rescale(s3, a[i + 3], omega, row_scale, i + 3)
        add_four(row_scale, K, i, columns)
        i += 4
    while i < n:
        error += _rescale(dot(K[i], column_scale), a[i], omega, row_scale, i)
        add_scaled(row_scale[i], K[i], columns)
        i += 1
    for j in range(m):
        if b[j] > 0.0:
            if not _TINY < columns[j] < _HUGE:
                return np.inf
            error += abs(columns[j] * column_scale[j] - b[j])
    return error


@jit
def _scale_columns(b, omega, columns, column_scale):
    for j in range(b.shape[0]):
        if b[j] > 0.0:
            column_scale[j] *= _relaxed(b[j] / (columns[j] * column_scale[j]), omega)
        else:
            column_scale[j] = 0.0


@jit
def _better_relaxation(omega, error, middle, first):
    """The factor for the next sweeps, from errors that are ``_WINDOW`` sweeps apart.

    The rule is that of ``_relaxation.py``, with a window that does not grow.
    """
    if error >= first:
        return 1.0
    mu, before = (error / middle) ** (1.0 / _WINDOW), (middle / first) ** (1.0 / _WINDOW)
    excess = omega - 1.0
    settled = mu < 1.0 and abs(mu - before) < 0.2 * (1.0 - mu)
    if error > _NEAR or not settled or mu <= 1.02 * excess:
        return omega
    eta = min((mu + excess) ** 2 / (omega**2 * mu), 1.0)
    wanted = min(2.0 / (1.0 + math.sqrt(1.0 - eta)), 1.98)
    return wanted if wanted > omega + 0.02 else omega


@jit
def _is_large(scale):
    largest, smallest = 1.0, 1.0
    for i in range(scale.shape[0]):
        x = scale[i] if scale[i] > 0.0 else 1.0
        largest, smallest = max(largest, x), min(smallest, x)
    return largest > _ABSORB or smallest * _ABSORB < 1.0


@jit
def _absorb(scale, potential):
    for i in range(scale.shape[0]):
        if scale[i] > 0.0:
            potential[i] += math.log(scale[i])
        scale[i] = 1.0


@jit
def _error(S, a, b, u, v, buffer, columns):
    error = 0.0
    for j in range(columns.shape[0]):
        columns[j] = 0.0
    for i in range(u.shape[0]):
        _plan_row(S[i], u[i], v, buffer)
        error += abs(_sum(buffer) - a[i])
        add_scaled(1.0, buffer, columns)
    for j in range(columns.shape[0]):
        error += abs(columns[j] - b[j])
    return error


@jit
def _solve(S, a, b, u, v, tol, sweeps, K, row_scale, column_scale, columns, buffer):
    """Iterate on one problem. Returns the number of sweeps, and whether the aim was met."""
    done = 0
    rebuild = True
    omega, since, first, middle = 1.0, 0, 0.0, 0.0
    while done < sweeps:
        if rebuild:
            for i in range(u.shape[0]):
                row_scale[i] = 1.0
                _plan_row(S[i], u[i], v, K[i])
            for j in range(v.shape[0]):
                column_scale[j] = 1.0
            rebuild = False
        # A sweep that underflows leaves the rows half done, which the log sweep does anew.
        error = _kernel_sweep(K, a, b, omega, row_scale, column_scale, columns)
        done += 1
        if error == np.inf:
            _absorb(column_scale, v)
            _log_sweep(S, a, b, u, v, buffer, columns)
            rebuild = True
        elif error <= tol:
            _absorb(row_scale, u)
            _absorb(column_scale, v)
            for _ in range(_POLISHING):
                if _error(S, a, b, u, v, buffer, columns) <= tol:
                    return done, True
                if done >= sweeps:
                    break
                _log_sweep(S, a, b, u, v, buffer, columns)
                done += 1
            rebuild = True
        else:
            _scale_columns(b, omega, columns, column_scale)
            if _is_large(row_scale) or _is_large(column_scale):
                _absorb(row_scale, u)
                _absorb(column_scale, v)
                rebuild = True
            if since % _WINDOW == 0:
                if since >= 2 * _WINDOW:
                    wanted = _better_relaxation(omega, error, middle, first)
                    if wanted != omega:
                        omega, since = wanted, 0
                first, middle = middle, error
            since += 1
    if not rebuild:
        _absorb(row_scale, u)
        _absorb(column_scale, v)
    return done, _error(S, a, b, u, v, buffer, columns) <= tol


@jit
def advance(S, a, b, u, v, tol, max_iter, start, stop, work, iterations, K, row_scale, buffers):
    """Iterate on the problems from ``start`` on, for about ``work`` entries of their kernels.

    Returns the first problem that is not finished.
    """
    entries = S.shape[1] * S.shape[2]
    for p in range(start, stop):
        while iterations[p] < max_iter:
            sweeps = min(max_iter - iterations[p], max(2, work // entries))
            done, converged = _solve(
                S[p],
                a[p],
                b[p],
                u[p],
                v[p],
                tol,
                sweeps,
                K,
                row_scale,
                buffers[0],
                buffers[1],
                buffers[2],
            )
            iterations[p] += done
            work -= done * entries
            if converged:
                break
            if work <= 0 and iterations[p] < max_iter:
                return p
        if work <= 0:
            return p + 1
    return stop


@jit
def marginals(S, u, v, start, stop, buffer, rows, columns, costs):
    """Sums of rows and columns of the plans, and of ``S`` times the plans."""
    for p in range(start, stop):
        costs[p] = 0.0
        for j in range(columns.shape[1]):
            columns[p, j] = 0.0
        for i in range(rows.shape[1]):
            _plan_row(S[p, i], u[p, i], v[p], buffer)
            rows[p, i] = _sum(buffer)
            costs[p] += dot(buffer, S[p, i])
            add_scaled(1.0, buffer, columns[p])
