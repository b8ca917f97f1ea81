"""Compiled scalar functions of separable penalties, dispatched by an integer code.

``params`` is a float64 array of shape (n_rows, n_features) whose rows mean what
:mod:`sparsestat.penalties._codes` says for the code at hand.  A new penalty adds
a branch to each scalar function here; no solver changes.  The functions that end
in ``_all`` apply them to every coordinate of a vector and those in ``_rows`` to the
norm of every row of a matrix; they write into ``out``, return it, and allocate
nothing.
"""

import math

from sparsestat.penalties._codes import ELASTIC_NET
from sparsestat.utils._numba import jit


@jit(inline="always")
def prox(code, params, j, v, step):
    """Minimise ``(x - v)^2 / 2 + step * p_j(x)`` over x."""
    if code == ELASTIC_NET:
        threshold = step * params[0, j]
        scale = 1.0 / (1.0 + step * params[1, j])
        above = v - threshold
        below = v + threshold
        # Choices between values instead of jumps: a loop over this becomes vector code.
        free = (below < 0.0) & (params[2, j] == 0.0)
        return (above if above > 0.0 else (below if free else 0.0)) * scale
    return v


@jit(inline="always")
def value(code, params, j, x):
    """Value of ``p_j(x)``, infinite outside the domain."""
    if code == ELASTIC_NET:
        if x < 0.0 and params[2, j] != 0.0:
            return float("inf")
        return params[0, j] * abs(x) + 0.5 * params[1, j] * x * x
    return 0.0


@jit(inline="always")
def slope(code, params, j, x):
    """Derivative of ``p_j`` at ``x != 0``."""
    if code == ELASTIC_NET:
        if x > 0.0:
            return params[0, j] + params[1, j] * x
        return -params[0, j] + params[1, j] * x
    return 0.0


@jit(inline="always")
def curvature(code, params, j, x):
    """Second derivative of ``p_j`` at ``x != 0``."""
    if code == ELASTIC_NET:
        return params[1, j]
    return 0.0


@jit(inline="always")
def subdiff_distance(code, params, j, x, gradient):
    """Distance of ``-gradient`` to the subdifferential of ``p_j`` at x."""
    if code == ELASTIC_NET:
        if params[2, j] != 0.0:
            if x < 0.0:
                return float("inf")
            if x == 0.0:
                return max(-gradient - params[0, j], 0.0)
        if x == 0.0:
            return max(abs(gradient) - params[0, j], 0.0)
        return abs(gradient + slope(code, params, j, x))
    return abs(gradient)


@jit(inline="always")
def zero_slope(code, params, j):
    """Right derivative of ``p_j`` at zero: how large a correlation a zero coefficient bears."""
    if code == ELASTIC_NET:
        return params[0, j]
    return 0.0


@jit(inline="always")
def pull(code, params, j, correlation):
    """Strength with which ``correlation`` pulls a zero coefficient away from zero."""
    if code == ELASTIC_NET and params[2, j] != 0.0:
        return correlation
    return abs(correlation)


@jit(inline="always")
def dual_scale_limit(code, params, j, z):
    """Largest t >= 0 for which ``t * z`` is in the domain of the conjugate of ``p_j``.

    The conjugate of no penalty at all is finite at zero only.  Callers make the
    residual orthogonal to unpenalised columns, so that z is zero up to rounding
    there and every t is admitted.
    """
    if code == ELASTIC_NET and params[1, j] == 0.0 and params[0, j] > 0.0:
        strength = pull(code, params, j, z)
        if strength > 0.0:
            return params[0, j] / strength
    return float("inf")


@jit(inline="always")
def conjugate(code, params, j, z):
    """Conjugate of ``p_j`` at a point of its domain."""
    if code == ELASTIC_NET and params[1, j] > 0.0:
        excess = pull(code, params, j, z) - params[0, j]
        if excess > 0.0:
            return 0.5 * excess * excess / params[1, j]
    return 0.0


# With numba's own error model a check for division by zero interrupts every loop.
@jit(error_model="numpy")
def prox_all(code, params, v, step, out):
    """Write the proximal point of every coordinate of ``v`` into ``out``.

    ``step`` is an array of one step for all coordinates or of one step each.  A
    NaN stays a NaN: turned into a zero it would look like a solution.
    """
    if step.size == 1:
        common = step[0]
        for j in range(v.shape[0]):
            out[j] = prox(code, params, j, v[j], common) if v[j] == v[j] else v[j]
    else:
        for j in range(v.shape[0]):
            out[j] = prox(code, params, j, v[j], step[j]) if v[j] == v[j] else v[j]
    return out


@jit
def value_all(code, params, w):
    """Sum of ``p_j(w_j)``."""
    total = 0.0
    for j in range(w.shape[0]):
        total += value(code, params, j, w[j])
    return total


@jit
def subdiff_distance_all(code, params, w, gradient, out):
    """Write the distance of ``-gradient_j`` to the subdifferential of ``p_j`` at ``w_j``."""
    for j in range(w.shape[0]):
        out[j] = subdiff_distance(code, params, j, w[j], gradient[j])
    return out


@jit(inline="always")
def row_norm(matrix, j):
    """Euclidean norm of one row."""
    total = 0.0
    for k in range(matrix.shape[1]):
        total += matrix[j, k] * matrix[j, k]
    return math.sqrt(total)


@jit(error_model="numpy")
def prox_rows(code, params, v, step, out):
    """Write the proximal point of ``sum_j p_j(||row_j||)`` at the matrix ``v`` into ``out``.

    The scalar operator acts on the norm of a row, and the row is rescaled to it.
    """
    for j in range(v.shape[0]):
        norm = row_norm(v, j)
        if norm > 0.0:
            shrunk = prox(code, params, j, norm, step[0] if step.size == 1 else step[j])
            factor = shrunk / norm
        else:
            # Zero rows stay zero, and the factor carries a NaN into its whole row.
            factor = norm
        for k in range(v.shape[1]):
            out[j, k] = v[j, k] * factor
    return out


@jit
def value_rows(code, params, w):
    """Sum of ``p_j`` at the norm of row j."""
    total = 0.0
    for j in range(w.shape[0]):
        total += value(code, params, j, row_norm(w, j))
    return total


@jit(error_model="numpy")
def subdiff_distance_rows(code, params, w, gradient, out):
    """Write the distance of row j of ``-gradient`` to the subdifferential at row j of ``w``."""
    for j in range(w.shape[0]):
        norm = row_norm(w, j)
        if norm == 0.0:
            out[j] = subdiff_distance(code, params, j, 0.0, -row_norm(gradient, j))
        else:
            factor = slope(code, params, j, norm) / norm
            total = 0.0
            for k in range(w.shape[1]):
                difference = gradient[j, k] + factor * w[j, k]
                total += difference * difference
            out[j] = math.sqrt(total)
    return out
