"""Solutions along a descending sequence of penalty strengths."""

import warnings
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_consistent_length, column_or_1d

from sparsestat.linear_model._data import (
    canonical_csc,
    correlations_from_rows,
    gram_limit,
    make_problem,
)
from sparsestat.penalties._codes import ELASTIC_NET
from sparsestat.utils._sklearn import Interval, validate_params
from sparsestat.utils._threads import single_threaded_blas
from sparsestat.utils._validation import (
    check_alphas,
    check_frequency_weights,
    check_penalty_factor,
    check_positive_mask,
)

PATH_GRAM_LIMIT = 1000
"""Features up to which a path over tall data works on cross products."""

_FREE_TOL = 1e-12
"""Relative gap of the fit of features without a penalty, where the others are all zero."""

STRENGTH_CONSTRAINTS: dict = {
    "alphas": [Interval(Integral, 1, None, closed="left"), "array-like"],
    "eps": [Interval(Real, 0, 1, closed="neither")],
    "fit_intercept": ["boolean"],
    "tol": [Interval(Real, 0, None, closed="neither")],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
}
"""What paths and searches accept."""

PATH_CONSTRAINTS: dict = {
    "X": ["array-like", "sparse matrix"],
    "y": ["array-like"],
    "sample_weight": ["array-like", Real, None],
    **STRENGTH_CONSTRAINTS,
}
"""What path functions accept."""

_ABOVE = 1.0 + 1e-10
"""Correlations are computed in more than one order; a path has to begin above all of them."""


@dataclass
class PathPoint:
    """The solution at one penalty strength, in the units of the documented objective."""

    alpha: float
    features: np.ndarray
    values: np.ndarray
    objective: float
    dual_gap: float
    rounding: float
    n_iter: int
    converged: bool
    stopped: bool
    intercept: np.ndarray | None = None

    def dense(self, n_features):
        """The coefficients of all features, zeros included."""
        coef = np.zeros((n_features, *self.values.shape[1:]))
        coef[self.features] = self.values
        return coef


class ElasticNetPath:
    """Elastic-net solutions of one problem, each started from the one before.

    Parameters
    ----------
    problem : Problem
        The centred data.
    l1_ratio : float
        Share of the l1 part.
    factors : ndarray of shape (n_features,)
        Relative penalties.
    positive : ndarray of bool of shape (n_features,)
        Coefficients that must not be negative.
    tol : float
        Largest gap relative to the objective at zero coefficients.
    max_iter : int
        Largest number of working sets per strength.
    coef : ndarray of shape (n_features,) or None
        Where to start.
    """

    def __init__(self, problem, l1_ratio, factors, positive, *, tol, max_iter, coef=None):
        from sparsestat.solvers._working_set import WorkingSetSolver

        self.problem = problem
        self.l1_ratio = l1_ratio
        self.factors = factors
        self.positive = positive
        self.tol = tol
        self.max_iter = max_iter
        self.solver = WorkingSetSolver(problem.design, coef)
        self._params = np.zeros((3, problem.n_features))
        self._params[2] = positive

    def params(self, alpha):
        """Parameters by which compiled loops know the penalty, in units of the problem.

        The array is overwritten by the next call.
        """
        strength = self.problem.total_weight * alpha
        np.multiply(self.factors, strength * self.l1_ratio, out=self._params[0])
        if self.l1_ratio < 1.0:
            np.multiply(self.factors, strength * (1.0 - self.l1_ratio), out=self._params[1])
        return self._params

    def alpha_max(self):
        """Smallest strength at which all penalised coefficients are zero.

        If nonnegativity keeps them at zero at any strength, a strength in the units
        of the data is returned all the same.
        """
        design = self.problem.design
        weight = self.problem.total_weight * self.l1_ratio
        correlations = np.empty(design.n_features)
        if np.any(self.factors == 0.0):
            # No residual is longer than the response, whatever the free features explain.
            above = 2.0 * self._ratios(design.norms * np.sqrt(design.yy), False)
            self.solver.solve(
                ELASTIC_NET,
                self.params(above / weight),
                0.5 * min(self.tol, _FREE_TOL) * design.yy,
                self.max_iter,
            )
        design.correlate(correlations)
        largest = self._ratios(correlations, True)
        largest = largest if largest > 0.0 else self._ratios(correlations, False)
        return largest / weight

    def _ratios(self, correlations, signed):
        penalised = self.factors > 0.0
        pull = np.abs(correlations)
        if signed:
            pull[self.positive] = np.maximum(correlations[self.positive], 0.0)
        return float(np.max(pull[penalised] / self.factors[penalised], initial=0.0))

    def at(self, alpha, progress=None):
        """Solve at one strength, starting from the last solution.

        Parameters
        ----------
        alpha : float
            The strength.
        progress : callable or None
            See :meth:`sparsestat.solvers._working_set.WorkingSetSolver.solve`.

        Returns
        -------
        PathPoint
        """
        problem, design = self.problem, self.problem.design
        tol = 0.5 * self.tol * design.yy
        params = self.params(alpha)
        solution = self.solver.solve(ELASTIC_NET, params, tol, self.max_iter, progress)
        features, values = self.solver.support()
        if problem.rows is not None and solution.rounding > 0.1 * tol:
            solution.primal, solution.gap = self.certificate(alpha)
            solution.rounding = 0.0
            solution.converged = solution.gap <= tol
        weight = problem.total_weight
        return PathPoint(
            alpha,
            features,
            values,
            solution.primal / weight,
            solution.gap / weight,
            solution.rounding / weight,
            solution.n_iter,
            solution.converged,
            solution.stopped,
        )

    def objective(self, alpha):
        """Objective of the present coefficients at any strength, in units of the problem."""
        from sparsestat.solvers import _kernels

        features, values = self.solver.support()
        penalty = _kernels.penalty_value(
            ELASTIC_NET, self.params(alpha).copy(), features, values, features.size
        )
        return 0.5 * self.problem.design.squares()[0] + penalty

    def certificate(self, alpha):
        """Objective and duality gap computed from the rows, over all features.

        Both are in the units of the problem, that is times the sum of weights.
        """
        from sparsestat.solvers import _kernels

        problem, design = self.problem, self.problem.design
        coef = self.solver.w
        if problem.rows is None:
            rr, yr = design.squares()
            correlations = np.empty(design.n_features)
            design.correlate(correlations)
        else:
            rr, yr, correlations = correlations_from_rows(problem, coef)
        params = self.params(alpha)
        every = np.arange(design.n_features)
        penalty = _kernels.penalty_value(ELASTIC_NET, params, every, coef, every.size)
        primal = 0.5 * rr + penalty
        bound = _kernels.dual_bound(
            ELASTIC_NET, params, every, correlations, every.size, yr, rr, np.inf
        )
        slack = _kernels.total_slack(
            ELASTIC_NET, params, coef, correlations, design.norms, np.sqrt(design.yy)
        )
        return primal, max(primal - bound, 0.0) + slack


def alpha_grid(alpha_max, n_alphas, eps):
    """Geometric grid from just above ``alpha_max`` down to ``eps * alpha_max``."""
    if alpha_max <= np.finfo(np.float64).tiny:
        return np.full(n_alphas, np.finfo(np.float64).resolution)
    return np.geomspace(_ABOVE * alpha_max, eps * _ABOVE * alpha_max, n_alphas)


def strength_grid(path, alphas, eps):
    """The strengths that a user gave, or as many as were asked for below the path's largest."""
    if isinstance(alphas, Integral):
        return alpha_grid(path.alpha_max(), alphas, eps)
    return check_alphas(alphas)


def check_path_data(X, y, sample_weight):
    """X, a response of one column and the weights of a path function, checked."""
    X = check_array(X, accept_sparse="csc", dtype=[np.float64, np.float32])
    y = check_array(y, dtype=np.float64, ensure_2d=False, input_name="y")
    y = column_or_1d(y, warn=True)
    check_consistent_length(X, y)
    weights = check_frequency_weights(sample_weight, X)
    return (canonical_csc(X) if sparse.issparse(X) else X), y, weights


def stack_coefficients(solutions):
    """The features that any solution uses, and a column of coefficients for each of them.

    A solution is a pair of arrays, its features and their coefficients.
    """
    used = np.unique(np.concatenate([features for features, _ in solutions]))
    coefs = np.zeros((used.size, len(solutions)))
    for column, (features, values) in enumerate(solutions):
        coefs[np.searchsorted(used, features), column] = values
    return used, coefs


@validate_params(
    {
        **PATH_CONSTRAINTS,
        "l1_ratio": [Interval(Real, 0, 1, closed="right")],
        "penalty_factor": ["array-like", None],
        "positive": ["boolean", "array-like"],
    },
    prefer_skip_nested_validation=True,
)
def lasso_path(
    X,
    y,
    *,
    alphas=100,
    eps=1e-3,
    l1_ratio=1.0,
    fit_intercept=False,
    penalty_factor=None,
    positive=False,
    sample_weight=None,
    tol=1e-6,
    max_iter=1000,
):
    """Lasso or elastic-net solutions along a descending sequence of penalty strengths.

    Minimises, with weights w_i (ones unless given) of sum W and penalty factors s_j::

        1 / (2 W) sum_i w_i (y_i - x_i'b - b0)^2
            + alpha * sum_j s_j (l1_ratio |b_j| + (1 - l1_ratio) / 2 b_j^2)

    for every alpha, each time starting from the previous solution.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        The design. A sparse X is neither densified nor centred explicitly.
    y : array-like of shape (n_samples,)
        The response.
    alphas : int or array-like of shape (n_alphas,), default=100
        Number of strengths, spaced geometrically, or the strengths themselves.
    eps : float, default=1e-3
        Smallest strength of an automatic grid divided by the largest, at which all
        penalised coefficients are zero.
    l1_ratio : float, default=1.0
        Share of the l1 penalty, in (0, 1].
    fit_intercept : bool, default=False
        Whether an unpenalised intercept b0 is part of the model. Unlike that of
        :class:`Lasso`, the default is False, as for other path functions, and b0 is not
        returned.
    penalty_factor : array-like of shape (n_features,), default=None
        Factors s_j; zero leaves a feature unpenalised. None stands for ones.
    positive : bool or array-like of bool of shape (n_features,), default=False
        Whether (which) coefficients must not be negative.
    sample_weight : array-like of shape (n_samples,), float or None, default=None
        How often each row occurs.
    tol : float, default=1e-6
        Largest duality gap at every alpha, relative to the objective of zero
        coefficients, ``sum_i w_i (y_i - ybar)^2 / (2 W)``, where ybar is zero without an
        intercept.
    max_iter : int, default=1000
        Largest number of working sets solved per alpha.

    Returns
    -------
    alphas : ndarray of shape (n_alphas,)
        The strengths, descending.
    coefs : ndarray or CSC array of shape (n_features, n_alphas)
        The coefficients, sparse if X is.
    dual_gaps : ndarray of shape (n_alphas,)
        Duality gaps, in the units of the objective. They are upper bounds that hold
        over all features.

    Raises
    ------
    ValueError
        For input that is not finite or of the wrong shape.

    Warns
    -----
    ConvergenceWarning
        If a gap exceeds the tolerance.

    See Also
    --------
    Lasso : One strength, as an estimator.
    LassoCV : The strength chosen by cross-validation or an information criterion.

    Notes
    -----
    Arrays on a device (CuPy) are not taken here; :class:`Lasso` takes them.

    References
    ----------
    R. Tibshirani (1996). Regression shrinkage and selection via the lasso. *Journal
    of the Royal Statistical Society B* 58(1), 267-288.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sparsestat.linear_model import lasso_path
    >>> X, y = load_diabetes(return_X_y=True)
    >>> alphas, coefs, dual_gaps = lasso_path(X, y, alphas=[1.0, 0.1], fit_intercept=True)
    >>> (coefs != 0).sum(axis=0)
    array([3, 7])
    """
    X, y, weights = check_path_data(X, y, sample_weight)
    factors = check_penalty_factor(penalty_factor, X.shape[1])
    mask = check_positive_mask(positive, X.shape[1])
    with single_threaded_blas():
        problem = make_problem(
            X,
            y,
            weights,
            fit_intercept=fit_intercept,
            gram_limit=gram_limit(PATH_GRAM_LIMIT, factors),
        )
        path = ElasticNetPath(problem, l1_ratio, factors, mask, tol=tol, max_iter=max_iter)
        grid = strength_grid(path, alphas, eps)
        points = [path.at(alpha) for alpha in grid]
    warn_unless_converged(points, tol, problem.tolerance(tol), stacklevel=4)
    return grid, coefficient_matrix(points, X), np.array([point.dual_gap for point in points])


def coefficient_matrix(points, X):
    """Coefficients of all points as columns, sparse if X is."""
    n_features = X.shape[1]
    if sparse.issparse(X):
        indptr = np.concatenate([[0], np.cumsum([point.features.size for point in points])])
        indices = np.concatenate([point.features for point in points])
        values = np.concatenate([point.values for point in points])
        return sparse.csc_array((values, indices, indptr), shape=(n_features, len(points)))
    coefs = np.zeros((n_features, len(points)), order="F")
    for column, point in enumerate(points):
        coefs[point.features, column] = point.values
    return coefs


def warn_unless_converged(points, tol, required, stacklevel, unit="working sets"):
    """One warning for all points that missed the tolerance."""
    missed = [point for point in points if not point.converged and not point.stopped]
    if not missed:
        return
    worst = max(missed, key=lambda point: point.dual_gap)
    where = f"alpha={worst.alpha:.6g}"
    if len(points) > 1:
        where = f"{len(missed)} of {len(points)} penalty strengths, the worst at {where}"
    reason = "Increase max_iter, or tol."
    if worst.rounding > required:
        reason = (
            f"The rounding error of cross products, {worst.rounding:.3g}, exceeds the tolerance: "
            "fit from the data, or increase tol."
        )
    warnings.warn(
        f"The duality gap {worst.dual_gap:.3g} exceeds the required {required:.3g} "
        f"(tol={tol:g}) after {worst.n_iter} {unit}, at {where}. {reason}",
        ConvergenceWarning,
        stacklevel=stacklevel,
    )
