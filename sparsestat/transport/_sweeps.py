"""Sinkhorn's iteration: scale the rows, then the columns, until both sums are right.

After a sweep over the rows these have their sums exactly, so that the error of the plan is the
error of the column sums, which the same pass over the matrix adds up.
"""

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from sparsestat.transport._progress import IterationRecord
from sparsestat.transport._relaxation import Relaxation

# Below this, a sum over a column may consist of clipped exponentials.
_TINY = 1e-280
# Scalings within exp(-tau) and exp(tau) neither overflow nor need entries that are too small to
# be stored: those stay below exp(2 tau) times the smallest number.
_ABSORB = {"float64": 200.0, "float32": 15.0}
# Here a wide range keeps more entries, a narrow one collects them more often.
_ABSORB_TRUNCATED = 30.0
# The error of a plan whose kernel is stored with 24 bits.
_FLOAT32_FLOOR = 5e-9
# Share of the wanted error that all entries left out of a truncated kernel may have.
_TRUNCATION = 1e-3


class Marginals(NamedTuple):
    """The sums of rows and columns, all positive, and their logarithms."""

    a: Any
    b: Any
    log_a: Any
    log_b: Any


def start(costs, marginals, v=None):
    """Potentials to begin with: the weights, unless those of the columns are given."""
    u = marginals.log_a + 0.0
    return u, (marginals.log_b + 0.0 if v is None else v)


def column_update(costs, columns, log_b, epsilon, u, v, *, power=1.0, relaxation=1.0):
    """The potentials of the columns that follow from their sums."""
    if costs.on_host and columns.min() < _TINY:
        return log_b - power * costs.column_log_sums(1.0 / epsilon, u)
    new = log_b - power * (costs.xp.log(columns) - v)
    return new if relaxation == 1.0 else v + relaxation * (new - v)


def column_error(costs, columns, b):
    """Distance of the column sums from ``b`` in the l1 norm."""
    return float(costs.xp.sum(costs.xp.abs(columns - b)))


def log_sweeps(
    costs, marginals, epsilon, u, v, *, tol, progress, max_sweeps=math.inf, relaxation=1.0
):
    """Sweep with one exponential for each entry, whatever the range of the costs.

    Returns the potentials and the error.
    """
    relaxation = Relaxation(relaxation)
    n = 0
    while True:
        columns, _, error = costs.sweep(
            1.0 / epsilon, u, v, marginals.log_a, relaxation=relaxation.omega
        )
        error += column_error(costs, columns, marginals.b)
        progress.add(IterationRecord("log", epsilon, error), u, v)
        n += 1
        if error <= tol or n >= max_sweeps or progress.exhausted:
            return u, v, error
        v = column_update(
            costs, columns, marginals.log_b, epsilon, u, v, relaxation=relaxation.omega
        )
        relaxation.observe(error)


def kernel_sweeps(
    costs,
    marginals,
    epsilon,
    u,
    v,
    *,
    tol,
    progress,
    max_sweeps=math.inf,
    relaxation=1.0,
    storage_dtype=None,
):
    """Sweep over a stored kernel, into which large scalings are absorbed.

    With float32 storage the last digits come from sweeps with exponentials.
    """
    dtype = costs.xp.float64 if storage_dtype is None else storage_dtype
    single = dtype == costs.xp.float32
    bound = _ABSORB["float32" if single else "float64"]
    kernel_tol = max(tol, _FLOAT32_FLOOR) if single else tol

    def build(u, v):
        K = costs.gibbs_kernel(1.0 / epsilon, u, v, dtype)
        return functools.partial(costs.kernel_sweep, K)

    limits = (kernel_tol, progress, max_sweeps)
    u, v, error = _scaling_sweeps(
        costs, marginals, epsilon, u, v, limits, relaxation, "kernel", bound, build
    )
    if single and error > tol and not progress.exhausted:
        u, v, error = log_sweeps(
            costs, marginals, epsilon, u, v, tol=tol, progress=progress, relaxation=relaxation
        )
    return u, v, error


def truncated_sweeps(costs, marginals, epsilon, u, v, *, tol, progress, relaxation=1.0):
    """Sweep over the entries of the kernel that matter, kept in compressed rows.

    An entry is left out if it stays below theta while the scalings stay within
    exp(-tau) and exp(tau); all of them together are then below n m theta.
    """
    bound = _ABSORB_TRUNCATED
    theta = _TRUNCATION * tol / (costs.n * costs.m)
    threshold = theta * math.exp(-2.0 * bound)
    low_a, low_b = np.full(costs.n, threshold), np.full(costs.m, threshold)

    def build(u, v):
        entries = costs.large_entries(1.0 / epsilon, u, v, low_a, low_b)
        return functools.partial(costs.kernel_sweep_sparse, entries)

    limits = (tol, progress, math.inf)
    return _scaling_sweeps(
        costs, marginals, epsilon, u, v, limits, relaxation, "truncated", bound, build
    )


def _scaling_sweeps(costs, marginals, epsilon, u, v, limits, relaxation, stage, bound, build):
    tol, progress, max_sweeps = limits
    last = len(progress.history) + max_sweeps
    xp = costs.xp
    relaxation = Relaxation(relaxation)
    while True:
        sweep = build(u, v)
        rows, columns = costs.zeros(costs.n) + 1.0, costs.zeros(costs.m) + 1.0
        while True:
            omega = relaxation.omega
            before = rows + 0.0
            sums, error = sweep(rows, columns, marginals.a, omega)
            sums *= columns
            error += column_error(costs, sums, marginals.b)
            new_columns = columns * (marginals.b / sums) ** omega
            span = max(_largest_log(xp, rows), _largest_log(xp, new_columns))
            if not (math.isfinite(error) and math.isfinite(span)):
                # Entries too small for the storage, or steps too far: the exponents know better.
                relaxation.restart()
                u, v, error = log_sweeps(
                    costs,
                    marginals,
                    epsilon,
                    u + xp.log(before),
                    v + xp.log(columns),
                    tol=tol,
                    progress=progress,
                    max_sweeps=2,
                )
                break
            progress.add(IterationRecord(stage, epsilon, error), u, v, (rows, columns))
            relaxation.observe(error)
            done = error <= tol or progress.exhausted or len(progress.history) >= last
            if not done:
                columns = new_columns
            if done or span > bound:
                u, v = u + xp.log(rows), v + xp.log(columns)
                break
        if error <= tol or progress.exhausted or len(progress.history) >= last:
            return u, v, error


def _largest_log(xp, scale):
    low, high = float(xp.min(scale)), float(xp.max(scale))
    return max(math.log(high), -math.log(low)) if low > 0.0 and high < math.inf else math.inf
