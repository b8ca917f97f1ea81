"""Array API twins of the vector kernels of separable and row-wise penalties.

The functions have the names and arguments of their compiled counterparts in
:mod:`sparsestat.penalties._kernels` and return new arrays on the device of their
input; the argument ``out`` is there for the common signature and is not written.
Nothing is read back to the host: sums are returned as arrays without dimensions.
``params`` has to live where the data live.
"""

from array_api_compat import array_namespace

from sparsestat.penalties._codes import ELASTIC_NET

_UNKNOWN = "code {} is not the code of a penalty"


def _prox(code, params, v, step):
    if code != ELASTIC_NET:
        raise ValueError(_UNKNOWN.format(code))
    xp = array_namespace(v)
    threshold = step * params[0, :]
    scale = 1.0 / (1.0 + step * params[1, :])
    zero = xp.zeros_like(v)
    lower = xp.where(params[2, :] == 0.0, xp.minimum(v + threshold, zero), zero)
    shrunk = (xp.maximum(v - threshold, zero) + lower) * scale
    # Not every library's maximum propagates a NaN, and a zero would look like a solution.
    return xp.where(xp.isnan(v), v, xp.astype(shrunk, v.dtype, copy=False))


def _value(code, params, x):
    if code != ELASTIC_NET:
        raise ValueError(_UNKNOWN.format(code))
    xp = array_namespace(x)
    values = params[0, :] * xp.abs(x) + 0.5 * params[1, :] * x * x
    outside = (x < 0.0) & (params[2, :] != 0.0)
    return xp.where(outside, xp.full_like(values, xp.inf), values)


def _slope(code, params, x):
    if code != ELASTIC_NET:
        raise ValueError(_UNKNOWN.format(code))
    xp = array_namespace(x)
    return xp.sign(x) * params[0, :] + params[1, :] * x


def _subdiff_distance(code, params, x, gradient):
    if code != ELASTIC_NET:
        raise ValueError(_UNKNOWN.format(code))
    xp = array_namespace(x)
    positive = params[2, :] != 0.0
    excess = xp.where(positive, -gradient, xp.abs(gradient)) - params[0, :]
    at_zero = xp.maximum(excess, xp.zeros_like(excess))
    distance = xp.where(x == 0.0, at_zero, xp.abs(gradient + _slope(code, params, x)))
    return xp.where(positive & (x < 0.0), xp.full_like(distance, xp.inf), distance)


def row_norm(matrix, j=None):
    """Euclidean norm of row ``j``, or of every row."""
    xp = array_namespace(matrix)
    rows = matrix if j is None else matrix[j, :]
    return xp.sqrt(xp.sum(rows * rows, axis=-1))


def prox_all(code, params, v, step, out=None):
    """Proximal point of every coordinate of ``v``; ``step`` is a number or an array."""
    return _prox(code, params, v, step)


def value_all(code, params, w):
    """Sum of ``p_j(w_j)``."""
    return array_namespace(w).sum(_value(code, params, w))


def subdiff_distance_all(code, params, w, gradient, out=None):
    """Distance of ``-gradient_j`` to the subdifferential of ``p_j`` at ``w_j``."""
    return _subdiff_distance(code, params, w, gradient)


def prox_rows(code, params, v, step, out=None):
    """Proximal point of ``sum_j p_j(||row_j||)`` at the matrix ``v``."""
    xp = array_namespace(v)
    norm = row_norm(v)
    shrunk = _prox(code, params, norm, step)
    factor = xp.where(norm == 0.0, norm, shrunk / xp.where(norm == 0.0, norm + 1.0, norm))
    return v * factor[:, None]


def value_rows(code, params, w):
    """Sum of ``p_j`` at the norm of row j."""
    return array_namespace(w).sum(_value(code, params, row_norm(w)))


def subdiff_distance_rows(code, params, w, gradient, out=None):
    """Distance of row j of ``-gradient`` to the subdifferential at row j of ``w``."""
    xp = array_namespace(w)
    norm = row_norm(w)
    at_zero = _subdiff_distance(code, params, xp.zeros_like(norm), -row_norm(gradient))
    factor = _slope(code, params, norm) / xp.where(norm == 0.0, norm + 1.0, norm)
    return xp.where(norm == 0.0, at_zero, row_norm(gradient + factor[:, None] * w))
