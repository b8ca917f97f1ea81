"""Backward elimination that minimises the extended Bayesian information criterion."""

import numpy as np
from scipy import linalg

from sparsestat.linear_model._criteria import price_of_parameter

_PIVOT = 1e-11
"""Distance of a unit column from the span of those before it below which it is left out."""


def eliminate_backward(columns, response, n_samples, n_features):
    """Drop columns one after another and keep the set with the smallest criterion.

    Least squares on a set of s columns leaves the residual sum of squares RSS; the criterion
    is ``n log(RSS / n) + s (log n + 2 log p)``. The column to be dropped next is that with the
    smallest t statistic, whose loss raises RSS least.

    Parameters
    ----------
    columns : ndarray of shape (n_rows, n_columns)
        Centred and weighted columns, the most important one first: of columns that depend on
        each other the first stay.
    response : ndarray of shape (n_rows,)
        Centred and weighted response.
    n_samples : float
        n, the sum of the weights.
    n_features : int
        p, the number of features that the columns were chosen from.

    Returns
    -------
    kept : ndarray of int
        Positions of the columns of the best set, increasing.
    coef : ndarray of shape (n_kept,)
        Their least-squares coefficients.
    criterion : float
        The smallest criterion.
    """
    norms = np.linalg.norm(columns, axis=0)
    alive = np.flatnonzero(norms > 0.0)
    unit = columns[:, alive] / norms[alive]
    while True:
        Q, R = linalg.qr(unit, mode="economic", check_finite=False)
        sound = np.abs(np.diagonal(R)) >= _PIVOT
        if np.all(sound) and R.shape[0] == R.shape[1]:
            break
        sound = np.concatenate([sound, np.zeros(unit.shape[1] - sound.size, dtype=bool)])
        alive, unit = alive[sound], unit[:, sound]
    best, criterion = _best_set(Q, R, response, n_samples, n_features)
    kept = alive[best]
    coef = linalg.lstsq(columns[:, kept] / norms[kept], response, cond=_PIVOT)[0] / norms[kept]
    order = np.argsort(kept)
    return kept[order], coef[order], criterion


def _best_set(Q, R, response, n_samples, n_features):
    """Positions in the best of the nested sets that elimination visits, and its criterion."""
    size = R.shape[1]
    price = price_of_parameter("ebic", n_samples, n_features)
    projected = Q.T @ response
    residual = response - Q @ projected
    squares = float(residual @ residual)
    # A fit that explains everything must not make the criterion infinitely good.
    floor = max(np.finfo(float).eps * float(response @ response), np.finfo(float).tiny)
    # The rows of R^-1 span the inverse of the Gram matrix: dropping a column projects them off
    # its own row, which loses no more digits than R itself has lost.
    rows = linalg.solve_triangular(R, np.eye(size), check_finite=False)
    coef = rows @ projected
    alive = np.arange(size)
    best, best_value = alive, np.inf
    while True:
        value = n_samples * np.log(max(squares, floor) / n_samples) + price * alive.size
        if value < best_value:
            best, best_value = alive, value
        if alive.size == 0:
            return best, best_value
        variances = np.einsum("ij,ij->i", rows, rows)
        losses = coef**2 / variances
        weakest = int(np.argmin(losses))
        squares += float(losses[weakest])
        direction = rows[weakest] / np.sqrt(variances[weakest])
        along = rows @ direction
        coef = coef - along * (coef[weakest] / along[weakest])
        rows = rows - np.outer(along, direction)
        others = np.arange(alive.size) != weakest
        alive, coef, rows = alive[others], coef[others], rows[others]
