"""Integer codes by which compiled loops tell separable penalties apart.

A compiled loop receives a code and a float64 array ``params`` of shape
(n_rows, n_features) instead of a function, so that numba compiles it once and
finds it in its cache in every later process.
"""

ELASTIC_NET = 0
"""Rows of ``params``: l1 strength, l2 strength, 1.0 where the coefficient must not be negative."""


STRENGTH_ROWS = {ELASTIC_NET: (0, 1)}
"""Rows of ``params`` that are proportional to the penalty's strength."""


def scaled(code, params, factor):
    """Parameters of the same penalty, ``factor`` times as strong."""
    out = params.copy()
    out[list(STRENGTH_ROWS[code])] *= factor
    return out
