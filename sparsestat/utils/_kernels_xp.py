"""The exponential of ``_kernels.py`` for arrays of the array API standard."""

import array_api_compat

EXP_RANGES = {"float64": (-708.0, 709.0), "float32": (-87.3, 88.7)}


def fast_exp(x):
    """Exponentials of an array, with arguments out of range taken as the nearer end."""
    xp = array_api_compat.array_namespace(x)
    low, high = EXP_RANGES["float32" if x.dtype == xp.float32 else "float64"]
    return xp.exp(xp.clip(x, low, high))


def exp_inplace(x):
    """Replace the entries of a vector by their exponentials, and return it."""
    x[...] = fast_exp(x)
    return x


def exp_rows(x, out):
    """Write the exponentials of a matrix to ``out``, which may be the same, and return it."""
    out[...] = fast_exp(x)
    return out
