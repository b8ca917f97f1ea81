"""What the potentials of one side say about any point of the other.

Given g and b, a row with costs C_i has the weights softmax_j((g_j - C_ij) / epsilon + log b_j),
whether it took part in the problem or not, and the potential that makes them sum to one.
"""

import math

import array_api_compat
from scipy.spatial.distance import cdist

from sparsestat.transport._costs import METRICS

_BLOCK = 2**20


def cost_blocks(C, X, Y, metric, xp, on_host):
    """Consecutive rows of a matrix of costs, given or computed from points.

    Yields
    ------
    block : array of shape (some rows, m)
        Their costs.
    """
    n, m = C.shape if C is not None else (X.shape[0], Y.shape[0])
    step = max(1, _BLOCK // m)
    for start in range(0, n, step):
        stop = min(start + step, n)
        if C is not None:
            yield C[start:stop, :]
        elif callable(metric):
            yield xp.asarray(metric(X[start:stop, :], Y), dtype=xp.float64)
        elif on_host:
            yield cdist(X[start:stop], Y, metric)
        else:
            from sparsestat.transport._kernels_xp import cost_block

            yield cost_block(None, X[start:stop, :], xp.matrix_transpose(Y), METRICS[metric])


def soft_minima(blocks, g, log_b, epsilon, xp):
    """f_i = -epsilon log sum_j b_j exp((g_j - C_ij) / epsilon), row by row."""
    parts = []
    for block in blocks:
        z = (g[None, :] - block) / epsilon + log_b[None, :]
        largest = xp.max(z, axis=1)
        sums = xp.sum(xp.exp(z - largest[:, None]), axis=1)
        parts.append(-epsilon * (largest + xp.log(sums)))
    return xp.concat(parts)


def row_averages(blocks, g, log_b, epsilon, Z, xp):
    """Means of the rows of ``Z`` with the weights of every row of costs."""
    parts = []
    for block in blocks:
        z = (g[None, :] - block) / epsilon + log_b[None, :]
        z = xp.exp(z - xp.max(z, axis=1, keepdims=True))
        parts.append(xp.matmul(z, Z) / xp.sum(z, axis=1, keepdims=True))
    return xp.concat(parts, axis=0)


def transposed_source(C, X, Y, metric, xp):
    """The source of the costs with rows and columns exchanged."""
    if C is not None:
        return xp.matrix_transpose(C), None, None, metric
    if callable(metric):
        return None, Y, X, lambda rows, columns: xp.matrix_transpose(metric(columns, rows))
    return None, Y, X, metric


def all_potentials(problem, f, g, epsilon):
    """Potentials of all rows and columns, from those of the ones that have a weight."""
    xp = problem.costs.xp
    weight_a, weight_b = (
        tau / (tau + epsilon) if tau < math.inf else 1.0 for tau in problem.reg_marginals
    )
    C, X, Y, metric = problem.source
    swapped = transposed_source(C, X, Y, metric, xp)
    full_f, full_g = f, g
    if problem.rows is not None:
        minima = _minima(problem.source, problem.columns, g, problem.b, epsilon, problem)
        full_f = _completed(f, problem.rows, weight_a * minima, xp)
    if problem.columns is not None:
        minima = _minima(swapped, problem.rows, f, problem.a, epsilon, problem)
        full_g = _completed(g, problem.columns, weight_b * minima, xp)
    return full_f, full_g


def _minima(source, columns, g, b, epsilon, problem):
    C, X, Y, metric = source
    xp = problem.costs.xp
    if columns is not None:
        C = None if C is None else xp.take(C, columns, axis=1)
        Y = None if Y is None else xp.take(Y, columns, axis=0)
    blocks = cost_blocks(C, X, Y, metric, xp, problem.costs.on_host)
    return soft_minima(blocks, g, xp.log(b), epsilon, xp)


def _completed(kept_values, kept, others, xp):
    """The values at the kept positions, and others elsewhere."""
    position, mask = _positions(kept, others.shape[0], xp)
    return xp.where(mask, xp.take(kept_values, position), others)


def _positions(kept, size, xp):
    """Where each of ``size`` numbers stands among the kept ones, and whether it does."""
    numbers = xp.arange(size, dtype=kept.dtype, device=array_api_compat.device(kept))
    position = xp.clip(xp.searchsorted(kept, numbers), 0, kept.shape[0] - 1)
    return position, xp.take(kept, position) == numbers


def scattered(values, kept, size, axis, xp):
    """Zeros along an axis, with ``values`` at the kept positions.

    Parameters
    ----------
    values : array
        As many along the axis as were kept.
    kept : array of int or None
        Their increasing positions; None for all.
    size : int
        Number of positions.
    axis : int
        The axis.
    xp : module
        Namespace of the arrays.

    Returns
    -------
    out : array
        Of that size along the axis.
    """
    if kept is None:
        return values
    position, mask = _positions(kept, size, xp)
    shape = [1] * values.ndim
    shape[axis] = size
    return xp.take(values, position, axis=axis) * xp.astype(
        xp.reshape(mask, tuple(shape)), values.dtype
    )
