"""Sparse regression in closed form: a linear system, then a threshold.

All functions work on features that are scaled to variance one: with the centred
cross products ``G = X'X`` and ``c = X'y`` of weight n, and ``N = diag(G)^(1/2)``,

    R = N^-1 G N^-1,   b = N^-1 c,   theta = N^-1 R^-1 b,

where R holds the correlations of the features.
"""

from dataclasses import dataclass

import numpy as np
from scipy import linalg

SAFE = 1e-3
"""Smallest eigenvalue that a thresholded correlation matrix must have."""

_HALVINGS = 12

_ROUNDING = 100 * np.finfo(np.float64).eps


@dataclass
class Standardised:
    """Cross products of features of variance one; constant features are left out.

    Attributes
    ----------
    R : ndarray of shape (n_kept, n_kept)
        Correlations of the features.
    b : ndarray of shape (n_kept,)
        Products with the response, in units of the response.
    norms : ndarray of shape (n_kept,)
        Norms of the columns.
    kept : ndarray of int of shape (n_kept,)
        The features that are not constant.
    yy : float
        Squared norm of the response.
    """

    R: np.ndarray
    b: np.ndarray
    norms: np.ndarray
    kept: np.ndarray
    yy: float

    @property
    def size(self):
        """Number of features."""
        return len(self.kept)


@dataclass
class Solution:
    """The solution of ``R theta = b`` and what is known about it.

    Attributes
    ----------
    coef : ndarray of shape (n_kept,)
        The solution.
    variances : ndarray of shape (n_kept,)
        Diagonal of the inverse (or pseudo-inverse): the variances of the coefficients
        in units of the variance of an entry of b.
    rank : int
        Rank of the matrix.
    """

    coef: np.ndarray
    variances: np.ndarray
    rank: int


def standardise(gram, xy, yy):
    """Scale cross products to features of variance one.

    Parameters
    ----------
    gram : ndarray of shape (n_features, n_features)
        Cross products of the features; zero for constant ones.
    xy : ndarray of shape (n_features,)
        Cross products with the response.
    yy : float
        Squared norm of the response.

    Returns
    -------
    Standardised
    """
    norms = np.sqrt(np.diagonal(gram))
    kept = np.flatnonzero(norms > 0.0)
    norms = norms[kept]
    R = gram[np.ix_(kept, kept)] / norms
    R /= norms[:, None]
    np.clip(R, -1.0, 1.0, out=R)
    np.fill_diagonal(R, 1.0)
    return Standardised(R, xy[kept] / norms, norms, kept, yy)


def least_squares(R, b):
    """Solve by a Cholesky decomposition, or with the pseudo-inverse of a singular matrix.

    Parameters
    ----------
    R : ndarray of shape (n, n)
        Positive semidefinite, with unit diagonal.
    b : ndarray of shape (n,)
        Right side.

    Returns
    -------
    Solution
    """
    if len(b) == 0:
        return Solution(b.copy(), b.copy(), 0)
    # Relative to the largest eigenvalue: what rounding leaves of one that is zero.
    smallest = _ROUNDING * len(b)
    factor, info = linalg.lapack.dpotrf(R, lower=1)
    if info == 0:
        norm = np.abs(R).sum(axis=0).max()
        reciprocal, _ = linalg.lapack.dpocon(factor, norm, uplo="L")
        if reciprocal > smallest:
            coef = linalg.cho_solve((factor, True), b, check_finite=False)
            inverse, _ = linalg.lapack.dpotri(factor, lower=1)
            return Solution(coef, np.diagonal(inverse).copy(), len(b))
    values, vectors = linalg.eigh(R, check_finite=False)
    large = values > smallest * values[-1]
    values, vectors = values[large], vectors[:, large]
    coef = vectors @ ((b @ vectors) / values)
    return Solution(coef, np.sum(vectors**2 / values, axis=1), len(values))


def shrink_correlations(R, threshold):
    """Move the entries beside the diagonal towards zero by the threshold, at most to zero.

    Parameters
    ----------
    R : ndarray of shape (n, n)
        Correlations.
    threshold : float
        By how much.

    Returns
    -------
    T : ndarray of shape (n, n)
        A new matrix with unit diagonal.
    """
    T = R - np.clip(R, -threshold, threshold)
    np.fill_diagonal(T, 1.0)
    return T


def is_safe(R, threshold):
    """Whether the smallest eigenvalue after the threshold exceeds SAFE."""
    T = shrink_correlations(R, threshold)
    np.fill_diagonal(T, 1.0 - SAFE)
    return linalg.lapack.dpotrf(T.T, lower=1, overwrite_a=1, clean=0)[1] == 0


def safe_threshold(R, least, progress=None):
    """The smallest threshold from `least` on that leaves a safely definite matrix.

    Parameters
    ----------
    R : ndarray of shape (n, n)
        Correlations.
    least : float
        Where to begin.
    progress : callable or None, default=None
        Called after every step with the smallest safe threshold so far; a true result
        ends the search with it.

    Returns
    -------
    threshold : float
        At most the largest correlation, beyond which nothing is left.

    Notes
    -----
    The smallest eigenvalue is a continuous function of the threshold, so that bisection
    between an unsafe and a safe one ends where safety begins. It need not be monotone: lower
    thresholds may be safe as well.
    """
    off = np.abs(R)
    np.fill_diagonal(off, 0.0)
    largest = float(off.max(initial=0.0))
    del off
    if least >= largest or is_safe(R, least):
        return min(least, largest)
    unsafe, safe = least, largest
    for _ in range(_HALVINGS):
        middle = 0.5 * (unsafe + safe)
        if is_safe(R, middle):
            safe = middle
        else:
            unsafe = middle
        if progress is not None and progress(safe):
            break
    return safe


def shrink_coefficients(coef, threshold, penalty):
    """Set coefficients to zero that do not exceed their thresholds.

    Parameters
    ----------
    coef : ndarray of shape (n_features,)
        Coefficients.
    threshold : ndarray of shape (n_features,)
        Thresholds.
    penalty : {"hard", "soft"}
        Whether the others stay as they are, or move towards zero by their thresholds.

    Returns
    -------
    coef : ndarray of shape (n_features,)
        A new array.
    """
    size = np.abs(coef)
    left = size if penalty == "hard" else size - threshold
    return np.where(size > threshold, np.copysign(left, coef), 0.0)
