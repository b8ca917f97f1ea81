"""Lasso beside the span of randomly chosen columns.

A few columns, the probes, are fitted without a penalty. What is left of the others off their
span is brought to one length and gets a Lasso. With e_j the columns at length one, Q an
orthonormal basis of the span and W the sum of the weights,

    R_j = e_j - Q Q'e_j,    d_j = ||R_j||,    Z_j = sqrt(W) R_j / d_j,

and the problem is ``||(I - QQ')y - Z u||^2 / (2 W) + alpha ||u||_1``. In the original
columns this is a Lasso whose penalty factors are the distances to the span, zero for the
probes; there, however, nearly dependent columns make coordinate descent slow.
"""

from numbers import Integral, Real

import numpy as np
from scipy import linalg, sparse
from sklearn.utils import check_array

from sparsestat.linear_model._data import (
    Problem,
    canonical_csc,
    make_problem,
)
from sparsestat.linear_model._path import ElasticNetPath, stack_coefficients
from sparsestat.utils._sklearn import Interval, validate_params
from sparsestat.utils._threads import single_threaded_blas
from sparsestat.utils._validation import check_frequency_weights

_GRID = (0.03, 0.07, 0.15, 0.25)
"""Numbers of probes that are tried, as shares of the number of rows."""

_EXPLAINED = 1e-13
"""Share of a response's norm below which what the probes leave of it is rounding."""


def default_probe_counts(n_samples, n_training, n_features):
    """Numbers of probes to choose from: none, and a few that leave most rows to the rest.

    Parameters
    ----------
    n_samples : float
        Sum of all weights.
    n_training : float
        Sum of the weights of the smallest training set.
    n_features : int
        Number of features.

    Returns
    -------
    counts : ndarray of int
        Increasing; the first is 0.
    """
    # A product such as 200 * 0.07 must not exceed its integer by rounding.
    counts = np.ceil(np.round(n_samples * np.array(_GRID), 9))
    counts = np.minimum(counts[counts <= n_training / 3.0], n_features)
    return np.unique(np.concatenate([[0], counts]).astype(np.int64))


class ProjectedColumns:
    """Columns projected off the span of a growing prefix of a permutation.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Finite numbers; not modified.
    y : ndarray of shape (n_samples,)
        The response.
    weights : ndarray of shape (n_samples,) or None
        Frequencies.
    order : ndarray of int
        The permutation, of which prefixes become probes.
    fit_intercept : bool
        Whether to centre.
    tol_span : float
        Distance from the span, for a column of length one, up to which a column counts as
        part of it.

    Attributes
    ----------
    columns : ndarray of shape (n_rows, n_features), Fortran order
        The columns Z, zeros for columns within the span.
    response : ndarray of shape (n_rows,)
        What the probes leave of the response.
    distances : ndarray of shape (n_features,)
        The distances d, zero within the span.
    norms : ndarray of shape (n_features,)
        Norms of the centred and weighted columns.
    probes : ndarray of int
        The present prefix.
    basis_probes : ndarray of int
        Those that enlarged the span.
    """

    def __init__(self, X, y, weights, order, *, fit_intercept, tol_span):
        data = make_problem(X, y, weights, fit_intercept=fit_intercept, gram_limit=0)
        self.x_mean, self.y_mean = data.x_mean, data.y_mean
        self.total_weight = data.total_weight
        self.tol_span = tol_span
        self.order = order
        self.columns = data.design.X.copy(order="F") if data.design.X is X else data.design.X
        self.response = data.design.y
        self._total_square = float(self.response @ self.response)
        self.norms = data.design.norms
        self.distances = (self.norms > 0.0).astype(np.float64)
        self._length = np.sqrt(self.total_weight)
        self.columns *= self._length / np.where(self.norms > 0.0, self.norms, 1.0)
        n_rows, n_features = self.columns.shape
        self._basis = np.empty((n_rows, 0), order="F")
        # Products Q'e_j of all columns of length one, and Q'y.
        self._products = np.empty((0, n_features))
        self._explained = np.empty(0)
        self.probes = order[:0]
        self.basis_probes = np.empty(0, dtype=np.int64)

    @property
    def rank(self):
        """Dimension of the span."""
        return self._basis.shape[1]

    def advance(self, count):
        """Let the first ``count`` columns of the permutation be the probes.

        Only what is new is projected off; the second pass, which makes up for the
        cancellation of the first, is over the whole basis, since what remained from earlier
        rounding grows with every column that shrinks.
        """
        new = self.order[self.probes.size : count]
        self.probes = self.order[:count]
        fresh = self._orthonormalise(new)
        if fresh.shape[1]:
            self._project(fresh)
        self.columns[:, self.probes] = 0.0
        self.distances[self.probes] = 0.0

    def _orthonormalise(self, new):
        """Basis vectors that the columns ``new`` add."""
        basis = np.empty((self.response.size, self.rank + new.size), order="F")
        basis[:, : self.rank] = self._basis
        rank, accepted = self.rank, []
        for j in new:
            remainder = self.columns[:, j] * (self.distances[j] / self._length)
            for _ in range(2):
                remainder -= basis[:, :rank] @ (basis[:, :rank].T @ remainder)
            norm = float(np.linalg.norm(remainder))
            if norm > self.tol_span and rank < remainder.size:
                basis[:, rank] = remainder / norm
                rank += 1
                accepted.append(j)
        fresh = basis[:, self.rank : rank]
        self._basis = basis[:, :rank]
        self.basis_probes = np.concatenate([self.basis_probes, np.array(accepted, dtype=np.int64)])
        return fresh

    def _project(self, fresh):
        scale = self.distances / self._length
        first = fresh.T @ self.columns
        self.columns -= fresh @ first
        second = self._basis.T @ self.columns
        self.columns -= self._basis @ second
        known = self._products.shape[0]
        products = second * scale
        products[:known] += self._products
        products[known:] += first * scale
        self._products = products
        norms = np.sqrt(np.einsum("ij,ij->j", self.columns, self.columns))
        self.distances = norms * scale
        inside = self.distances <= self.tol_span
        self.distances[inside] = 0.0
        norms[inside] = np.inf
        self.columns *= self._length / norms
        explained = np.zeros(self.rank)
        explained[:known] = self._explained
        for _ in range(2):
            part = self._basis.T @ self.response
            self.response -= self._basis @ part
            explained += part
        self._explained = explained
        if float(self.response @ self.response) <= _EXPLAINED**2 * self._total_square:
            self.response[:] = 0.0

    def penalty_factor(self):
        """Penalty factors of the equivalent Lasso in the columns as they were given."""
        return self.norms * self.distances / self._length

    def open_path(self, tol, max_iter):
        """The Lasso on what the probes leave."""
        from sparsestat.solvers._designs import DenseDesign

        n_features = self.columns.shape[1]
        design = DenseDesign(self.columns, self.response)
        problem = Problem(design, np.zeros(n_features), 0.0, self.total_weight)
        return _open(problem, tol, max_iter)

    def coefficients(self, points):
        """Coefficients of the columns as they were given.

        Parameters
        ----------
        points : list of (ndarray, ndarray)
            Solutions on the present columns: features, and their coefficients.

        Returns
        -------
        features : ndarray of int
            Features that have any coefficient that is not zero, and all probes in the basis.
        coefs : ndarray of shape (n_used, n_points)
            Their coefficients.
        """
        features, coefs = stack_coefficients(points)
        # Coefficients of columns of length one, and those of the probes that go with them.
        coefs *= (self._length / self.distances[features])[:, None]
        probes = self.basis_probes
        left = self._explained[:, None] - self._products[:, features] @ coefs
        free = linalg.solve_triangular(self._products[:, probes], left, check_finite=False)
        features = np.concatenate([probes, features])
        coefs = np.concatenate([free, coefs]) / self.norms[features][:, None]
        return features, coefs


class SparseColumns:
    """Columns of a sparse X at one length, without any probe.

    It stands in for :class:`ProjectedColumns`, whose columns are dense.
    """

    rank = 0

    def __init__(self, X, y, weights, *, fit_intercept):
        X = canonical_csc(X)
        data = make_problem(X, y, weights, fit_intercept=fit_intercept, gram_limit=0)
        self.x_mean, self.y_mean = data.x_mean, data.y_mean
        self.total_weight = data.total_weight
        self.norms = data.design.norms
        self._length = np.sqrt(self.total_weight)
        # What the implicit centring leaves of a constant column is rounding.
        inside = self.norms <= 1e-12 * self._length * np.abs(self.x_mean)
        self.norms[inside] = 0.0
        scales = np.zeros(self.norms.size)
        scales[~inside & (self.norms > 0.0)] = 1.0
        scales[scales > 0.0] = self._length / self.norms[scales > 0.0]
        scaled = sparse.csc_array(
            (X.data * np.repeat(scales, np.diff(X.indptr)), X.indices, X.indptr), shape=X.shape
        )
        self._scales = scales
        self._problem = make_problem(scaled, y, weights, fit_intercept=fit_intercept, gram_limit=0)
        self.probes = self.basis_probes = np.empty(0, dtype=np.int64)

    def advance(self, count):
        """Accept no probes at all."""

    def penalty_factor(self):
        """Penalty factors of the equivalent Lasso in the columns as they were given."""
        return self.norms / self._length

    def open_path(self, tol, max_iter):
        """The Lasso on columns of one length."""
        return _open(self._problem, tol, max_iter)

    def coefficients(self, points):
        """Coefficients of the columns as they were given."""
        features, coefs = stack_coefficients(points)
        return features, coefs * self._scales[features][:, None]


def _open(problem, tol, max_iter):
    n_features = problem.n_features
    positive = np.zeros(n_features, dtype=bool)
    return ElasticNetPath(problem, 1.0, np.ones(n_features), positive, tol=tol, max_iter=max_iter)


@validate_params(
    {
        "X": ["array-like", "sparse matrix"],
        "probes": ["array-like"],
        "fit_intercept": ["boolean"],
        "sample_weight": ["array-like", Real, None],
        "tol_span": [Interval(Real, 0, 1, closed="left")],
        "max_bytes": [Interval(Integral, 0, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
def random_support_weights(
    X, probes, *, fit_intercept=True, sample_weight=None, tol_span=1e-9, max_bytes=2 * 2**30
):
    """Measure how far every column is from the span of some of them.

    The results serve as ``penalty_factor`` of :class:`Lasso`: a column that the probes nearly
    explain is hardly penalised, since its coefficient must be large to have any effect.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        The design. With probes a sparse X is densified, within `max_bytes`.
    probes : array-like of int of shape (n_probes,)
        The columns that span; there may be none, which leaves the standard deviations.
    fit_intercept : bool, default=True
        Whether columns are centred first, as for a model with an intercept.
    sample_weight : array-like of shape (n_samples,), float or None, default=None
        How often each row occurs.
    tol_span : float, default=1e-9
        Distance, as a share of a column's own length, up to which it counts as part of the
        span.
    max_bytes : int, default=2 * 2**30
        Largest dense copy, in bytes, that is made of a sparse X.

    Returns
    -------
    penalty_factor : ndarray of shape (n_features,)
        Root mean square of what the span leaves of each column; zero for the probes and
        other columns within their span.

    Raises
    ------
    ValueError
        For probes that are no column numbers or occur twice, and for a sparse X whose dense
        copy exceeds `max_bytes`.

    See Also
    --------
    RandomSupportRegressor : Chooses probes, and solves the Lasso in better coordinates.

    Notes
    -----
    The basis of the span comes from Gram-Schmidt with a second pass, and so do the distances:
    differences of squares would lose all digits of a distance below 1e-8.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.linear_model import random_support_weights
    >>> X = np.array([[1.0, 1.0, 1.0], [-1.0, 1.0, 1.0], [1.0, -1.0, 1.0], [-1.0, -1.0, 1.0]])
    >>> X[:, 2] = X[:, 0] + 0.5 * X[:, 1]
    >>> random_support_weights(X, [0])
    array([0. , 1. , 0.5])
    """
    X = check_array(X, accept_sparse="csc", dtype=[np.float64, np.float32])
    order = _check_probes(probes, X.shape[1])
    weights = check_frequency_weights(sample_weight, X)
    if sparse.issparse(X):
        if order.size == 0:
            with single_threaded_blas():
                columns = SparseColumns(
                    X, np.zeros(X.shape[0]), weights, fit_intercept=fit_intercept
                )
                return columns.penalty_factor()
        X = densify(X, max_bytes)
    with single_threaded_blas():
        columns = ProjectedColumns(
            X, np.zeros(X.shape[0]), weights, order, fit_intercept=fit_intercept, tol_span=tol_span
        )  # fmt: skip
        columns.advance(order.size)
        return columns.penalty_factor()


def _check_probes(probes, n_features):
    order = np.asarray(probes)
    if order.size == 0:
        return np.empty(0, dtype=np.int64)
    if order.ndim != 1 or not np.issubdtype(order.dtype, np.integer):
        raise ValueError(
            f"probes must be a one-dimensional array of column numbers, got dtype {order.dtype} "
            f"and shape {order.shape}."
        )
    if order.min() < 0 or order.max() >= n_features:
        bad = order[(order < 0) | (order >= n_features)][0]
        raise ValueError(f"probes must be column numbers from 0 to {n_features - 1}, got {bad}.")
    if np.unique(order).size < order.size:
        raise ValueError("probes must not name a column twice.")
    return order.astype(np.int64)


def densify(X, max_bytes):
    """A sparse X as a dense array, unless that is larger than the caller allows."""
    needed = 8 * X.shape[0] * X.shape[1]
    if needed > max_bytes:
        raise ValueError(
            f"Probes make every column dense: with a sparse X of shape {X.shape} that takes "
            f"{needed} bytes, more than max_bytes={max_bytes}. Raise max_bytes, or use no "
            "probes (n_probes=0), for which X stays sparse."
        )
    return X.toarray()
