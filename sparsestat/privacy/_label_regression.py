"""Sparse regression of noisy targets on public features."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.linalg import lstsq

from sparsestat.penalties import L1
from sparsestat.privacy._projections import hard_threshold
from sparsestat.solvers import fista


@dataclass(frozen=True)
class LabelFit:
    """Coefficients from public features and randomised targets.

    Attributes
    ----------
    coef : ndarray of shape (n_features,)
        Coefficients in the units of the features.
    intercept : float
        Intercept.
    std_error : ndarray of shape (n_features,)
        Standard errors given the selection; NaN for features without a coefficient.
    alpha : float
        Penalty of the lasso on standardised features; 0 for hard thresholding.
    n_iter : int
        Iterations.
    converged : bool
        Whether they met the tolerance.
    """

    coef: np.ndarray
    intercept: float
    std_error: np.ndarray
    alpha: float
    n_iter: int
    converged: bool


class StandardisedDesign:
    """Products with a design whose columns are centred and scaled, without storing it.

    Parameters
    ----------
    X : {ndarray, sparse array} of shape (n_samples, n_features)
        The design.
    fit_intercept : bool
        Whether to centre.
    """

    def __init__(self, X, fit_intercept):
        self.X = X
        self.n_samples = X.shape[0]
        mean = np.asarray(X.mean(axis=0), dtype=np.float64).ravel()
        squares = X.multiply(X) if sparse.issparse(X) else X * X
        second = np.asarray(squares.mean(axis=0), dtype=np.float64).ravel()
        self.mean = mean if fit_intercept else np.zeros_like(mean)
        variance = second - self.mean**2
        # The spread of a constant column is rounding error.
        self.usable = variance > 1e-12 * second
        self.scale = np.sqrt(np.where(self.usable, variance, 1.0))

    def matvec(self, w):
        """Compute the product with coefficients."""
        v = np.where(self.usable, w, 0.0) / self.scale
        return self.X @ v - self.mean @ v

    def rmatvec(self, r):
        """Compute the product of the transpose with residuals."""
        products = self.X.T @ r - self.mean * np.sum(r)
        return np.where(self.usable, products / self.scale, 0.0)

    def columns(self, support):
        """Some of the columns, dense."""
        chosen = self.X[:, support]
        chosen = chosen.toarray() if sparse.issparse(chosen) else chosen
        return (chosen - self.mean[support]) / self.scale[support]


def largest_eigenvalue(design, n_iter=50):
    """Largest eigenvalue of the correlation matrix, a little from above."""
    v = np.cos(np.arange(1, len(design.scale) + 1.0))
    value = 0.0
    for _ in range(n_iter):
        v = design.rmatvec(design.matvec(v)) / design.n_samples
        value = float(np.linalg.norm(v))
        if value == 0.0:
            return 1.0
        v /= value
    return 1.05 * value


def hard_thresholding(design, y, n_nonzero, max_iter, tol):
    """Iterative hard thresholding of least squares.

    Parameters
    ----------
    design : StandardisedDesign
        The features.
    y : ndarray of shape (n_samples,)
        Centred targets.
    n_nonzero : int
        Features to keep.
    max_iter : int
        Largest number of steps.
    tol : float
        Length of a step, relative to the coefficients, at which to stop.

    Returns
    -------
    w : ndarray of shape (n_features,)
    n_iter : int
    converged : bool
    """
    step = 1.0 / largest_eigenvalue(design)
    w = np.zeros(len(design.scale))
    for n_iter in range(1, max_iter + 1):
        gradient = design.rmatvec(design.matvec(w) - y) / design.n_samples
        ahead = w - step * gradient
        new = hard_threshold(ahead, n_nonzero)
        change = np.linalg.norm(new - w)
        w = new
        if change <= tol * np.linalg.norm(w):
            return w, n_iter, True
    return w, max_iter, False


def fit_labels(X, y, *, n_nonzero, alpha, fit_intercept, max_iter, tol):
    """Sparse regression, refitted by least squares on the features that were selected.

    Parameters
    ----------
    X : {ndarray, sparse array} of shape (n_samples, n_features)
        Public features.
    y : ndarray of shape (n_samples,)
        Unbiased randomised targets.
    n_nonzero : int or None
        Features to keep by hard thresholding; None for a lasso.
    alpha : "auto" or float
        Penalty of the lasso on standardised features. "auto" is the size that no correlation
        with noise of the spread of the targets exceeds, ``sd * sqrt(2 log(d) / n)``.
    fit_intercept : bool
        Whether to fit an intercept.
    max_iter : int
        Largest number of iterations.
    tol : float
        Tolerance of the iterations.

    Returns
    -------
    fit : LabelFit
    """
    n, d = X.shape
    design = StandardisedDesign(X, fit_intercept)
    offset = float(y.mean()) if fit_intercept else 0.0
    centred = y - offset
    if n_nonzero is None:
        if alpha == "auto":
            spread = float(np.sqrt(np.mean(centred**2)))
            alpha = spread * np.sqrt(2.0 * np.log(max(d, 2)) / n)
        result = fista(
            (design.matvec, design.rmatvec),
            centred,
            L1(alpha=float(alpha)),
            w0=np.zeros(d),
            scale=1.0 / n,
            tol=tol * max(float(alpha), 1e-300),
            max_iter=max_iter,
        )
        w, n_iter, converged = result.w, result.n_iter, result.converged
    else:
        alpha = 0.0
        w, n_iter, converged = hard_thresholding(design, centred, n_nonzero, max_iter, tol)
    support = np.flatnonzero(w)
    coef, deviations = np.zeros(d), np.full(d, np.nan)
    if support.size:
        columns = design.columns(support)
        solution, _, rank, _ = lstsq(columns, centred)
        residual = centred - columns @ solution
        freedom = max(1, n - rank - fit_intercept)
        covariance = np.linalg.pinv(columns.T @ columns) * (residual @ residual / freedom)
        coef[support] = solution / design.scale[support]
        deviations[support] = np.sqrt(np.diag(covariance)) / design.scale[support]
    intercept = offset - float(design.mean @ coef)
    return LabelFit(coef, intercept, deviations, float(alpha), int(n_iter), bool(converged))
