"""From what a user passes to a centred, weighted least-squares problem.

With weights ``w_i`` of sum W, means ``m`` and ``ybar`` (zero without an
intercept), the problem of every estimator here is, times W,

    ||y~ - X~ b||^2 / 2 + W * penalty(b),   X~_ij = sqrt(w_i) (x_ij - m_j),
                                            y~_i  = sqrt(w_i) (y_i - ybar).
"""

from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from sparsestat.utils._moments import GramAccumulator

_ROUNDING = 16 * np.finfo(np.float64).eps
"""Spread, in units of the mean, up to which a column counts as constant."""

_BLOCK_ENTRIES = 2**19


@dataclass
class Problem:
    """A centred and weighted problem, and the way back to the user's units.

    Attributes
    ----------
    design : DenseDesign, SparseDesign or GramDesign
        What the solver works on.
    x_mean : ndarray of shape (n_features,)
        Weighted means that were subtracted.
    y_mean : float
        Weighted mean that was subtracted.
    total_weight : float
        Sum of the weights.
    rows : tuple of (X, y, weights) or None
        The data behind a Gram matrix, for a certificate free of cancellation.
    """

    design: object
    x_mean: np.ndarray
    y_mean: float
    total_weight: float
    rows: tuple | None = field(default=None, repr=False)

    @property
    def n_features(self):
        """Number of features."""
        return self.design.n_features

    def tolerance(self, tol):
        """Largest duality gap, in the units of the documented objective, that tol allows."""
        return 0.5 * tol * self.design.yy / self.total_weight

    def intercept(self, coef):
        """Intercept that belongs to coefficients of the centred problem."""
        support = np.flatnonzero(coef)
        return self.y_mean - float(self.x_mean[support] @ coef[support])


def canonical_csc(X):
    """A sparse X as float64 CSC array in which every entry is stored once.

    Squares of columns cannot be summed from entries that are themselves sums. The
    arrays of X are shared where they serve, and never modified.
    """
    X = sparse.csc_array(X, dtype=np.float64)
    if not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return X


def gram_limit(limit, factors):
    """Largest number of features for which cross products replace a tall X.

    None if some are unpenalised: their least-squares fit needs the columns themselves
    where these nearly depend on each other.
    """
    return limit if np.all(factors > 0.0) else 0


def make_problem(X, y, weights, *, fit_intercept, gram_limit):
    """Centre and weight the data, or summarise them when rows outnumber columns by far.

    Parameters
    ----------
    X : ndarray or CSC matrix of shape (n_samples, n_features)
        Finite numbers.
    y : ndarray of shape (n_samples,)
        Finite float64 response.
    weights : ndarray of shape (n_samples,) or None
        Frequencies.
    fit_intercept : bool
        Whether to centre.
    gram_limit : int
        Largest number of features for which cross products replace a tall X.

    Returns
    -------
    Problem
    """
    if sparse.issparse(X):
        return _sparse_problem(X, y, weights, fit_intercept)
    X, y, weights = drop_unweighted(X, y, weights)
    n_samples, n_features = X.shape
    if n_samples >= 2 * n_features and n_features <= gram_limit:
        moments = GramAccumulator().update(X, y, weights)
        problem = problem_from_moments(moments, fit_intercept=fit_intercept)
        problem.rows = X, y, weights
        return problem
    return _dense_problem(X, y, weights, fit_intercept)


def centre_full_columns(X, means, roots):
    """Subtract the means of sparse columns that store all of their entries.

    Columns whose means exceed their deviations by far have no zeros to be sparse for. Centred
    implicitly they would lose as many digits as their means are long.

    Parameters
    ----------
    X : CSC array of shape (n_samples, n_features)
        Finite numbers, each entry stored once; not modified.
    means : ndarray of shape (n_features,)
        What is to be subtracted from the columns, times ``roots``.
    roots : ndarray of shape (n_samples,)
        Square roots of the weights that multiply the rows of X.

    Returns
    -------
    X : CSC array of shape (n_samples, n_features)
        Centred where that is possible.
    left : ndarray of shape (n_features,)
        What is still to be subtracted.
    """
    counts = np.diff(X.indptr)
    full = counts == X.shape[0]
    if not np.any(full & (means != 0.0)):
        return X, means
    entries = np.repeat(full, counts)
    data = X.data.astype(np.float64)
    data[entries] -= np.repeat(means, counts)[entries] * roots[X.indices[entries]]
    return sparse.csc_array((data, X.indices, X.indptr), shape=X.shape), np.where(full, 0.0, means)


def drop_unweighted(X, y, weights):
    """Leave out the rows of a dense X whose weight is zero.

    They must not decide, for one, whether a column is constant.
    """
    if weights is None or np.all(weights) or sparse.issparse(X):
        return X, y, weights
    kept = weights > 0
    return X[kept], y[kept], weights[kept]


def check_single_response(moments):
    """Refuse what are no moments of features and one response."""
    if not isinstance(moments, GramAccumulator):
        raise TypeError(f"moments must be a GramAccumulator, got {type(moments).__name__}.")
    if moments.n_targets != 1:
        raise ValueError(f"moments must hold exactly one response, got {moments.n_targets}.")


def problem_from_moments(moments, *, fit_intercept):
    """The problem that centred moments of [X, y] describe.

    Parameters
    ----------
    moments : GramAccumulator
        Moments with one target.
    fit_intercept : bool
        Whether the moments stay centred.

    Returns
    -------
    Problem
    """
    from sparsestat.solvers._designs import GramDesign

    gram = np.array(moments.xx, order="C")
    xy = np.array(moments.xy)
    yy = moments.yy
    x_mean, y_mean = moments.x_mean.copy(), moments.y_mean
    weight = moments.n_samples
    if fit_intercept:
        scale = np.abs(x_mean)
        constant = np.sqrt(np.diagonal(gram) / weight) <= _ROUNDING * scale
        gram[constant] = 0.0
        gram[:, constant] = 0.0
        xy[constant] = 0.0
        if np.sqrt(yy / weight) <= _ROUNDING * abs(y_mean):
            xy[:] = yy = 0.0
    else:
        gram += weight * np.outer(x_mean, x_mean)
        xy += weight * y_mean * x_mean
        yy += weight * y_mean**2
        x_mean, y_mean = np.zeros_like(x_mean), 0.0
    return Problem(GramDesign(gram, xy, yy), x_mean, y_mean, weight)


def _dense_problem(X, y, weights, fit_intercept):
    from sparsestat.solvers._designs import DenseDesign

    y, y_mean = _centre_response(y, weights, fit_intercept)
    columns, x_mean, total = centred_columns(X, weights, fit_intercept)
    return Problem(DenseDesign(columns, y), x_mean, y_mean, total)


def _sparse_problem(X, y, weights, fit_intercept):
    from sparsestat.solvers._designs import SparseDesign

    y, y_mean = _centre_response(y, weights, fit_intercept)
    X, x_mean, total = centred_columns(X, weights, fit_intercept)
    roots = centring_roots(X, weights, fit_intercept)
    return Problem(SparseDesign(X, y, x_mean, roots), x_mean, y_mean, total)


def centring_roots(X, weights, fit_intercept):
    """Square roots of the weights, along which a sparse X is centred; zeros if it is not."""
    if not fit_intercept:
        return np.zeros(X.shape[0])
    return np.ones(X.shape[0]) if weights is None else np.sqrt(weights)


def centred_columns(X, weights, fit_intercept):
    """Weighted columns, centred if X is dense.

    Parameters
    ----------
    X : ndarray or CSC array of shape (n_samples, n_features)
        Finite numbers; not modified.
    weights : ndarray of shape (n_samples,) or None
        Frequencies.
    fit_intercept : bool
        Whether to centre. Columns of a sparse X are left where they are.

    Returns
    -------
    columns : ndarray in Fortran order or CSC array, float64
        Columns times the square roots of the weights; X itself where nothing is to do.
    means : ndarray of shape (n_features,)
        Weighted means, zeros without an intercept.
    total_weight : float
        Sum of the weights.
    """
    n_samples, n_features = X.shape
    means = np.zeros(n_features)
    total = float(n_samples) if weights is None else float(weights.sum())
    if sparse.issparse(X):
        if fit_intercept:
            means = (X.T @ np.ones(n_samples) if weights is None else X.T @ weights) / total
        if weights is not None:
            data = X.data * np.sqrt(weights)[X.indices]
            X = sparse.csc_array((data, X.indices, X.indptr), shape=X.shape)
        return X, means, total
    if not fit_intercept and weights is None:
        return np.asarray(X, dtype=np.float64, order="F"), means, total
    columns = np.array(X, dtype=np.float64, order="F")
    if fit_intercept:
        means = centre(columns, weights, total)
    if weights is not None:
        columns *= np.sqrt(weights)[:, None]
    return columns, means, total


def centre(columns, weights, total):
    """Subtract weighted means from columns in place, and return them."""
    means = np.zeros(columns.shape[1])
    # The second pass removes the rounding error of the first mean.
    for _ in range(2):
        shift = columns.mean(axis=0) if weights is None else weights @ columns / total
        columns -= shift
        means += shift
    spread = np.abs(columns).max(axis=0)
    columns[:, spread <= _ROUNDING * np.abs(means)] = 0.0
    return means


def _centre_response(y, weights, fit_intercept):
    y = np.array(y, dtype=np.float64)
    y_mean = 0.0
    if fit_intercept:
        for _ in range(2):
            shift = float(np.average(y, weights=weights))
            y -= shift
            y_mean += shift
        if np.abs(y).max() <= _ROUNDING * abs(y_mean):
            y[:] = 0.0
    if weights is not None:
        y *= np.sqrt(weights)
    return y, y_mean


def correlations_from_rows(problem, coef):
    """Squared residual norm, ``y'r`` and all correlations, from the rows in float64.

    Parameters
    ----------
    problem : Problem
        One whose ``rows`` are known.
    coef : ndarray of shape (n_features,)
        Coefficients.

    Returns
    -------
    rr, yr : float
        ``r'r`` and ``y'r`` of the centred, weighted residual.
    correlations : ndarray of shape (n_features,)
        ``X'r``.
    """
    X, y, weights = problem.rows
    rr = yr = 0.0
    correlations = np.zeros(problem.n_features)
    step = max(1, _BLOCK_ENTRIES // max(X.shape[1], 1))
    for start in range(0, X.shape[0], step):
        rows = slice(start, start + step)
        columns = X[rows] - problem.x_mean
        response = y[rows] - problem.y_mean
        residual = response - columns @ coef
        weighted = residual if weights is None else weights[rows] * residual
        rr += float(weighted @ residual)
        yr += float(weighted @ response)
        correlations += weighted @ columns
    return rr, yr, correlations
