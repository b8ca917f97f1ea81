"""Lasso paths whose penalties are weighted by an initial estimate.

With an initial estimate c, the adaptive lasso minimises

    1 / (2 W) sum_i w_i (y_i - x_i'b - b0)^2 + alpha sum_j |b_j| / |c_j|^gamma

over coefficients that are zero wherever c is.  A further round takes the solution as the
initial estimate of the next one.
"""

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import has_fit_parameter

from sparsestat.linear_model._criteria import fit_statistics
from sparsestat.linear_model._data import make_problem
from sparsestat.linear_model._path import (
    PATH_GRAM_LIMIT,
    ElasticNetPath,
    PathPoint,
    alpha_grid,
)

_INITIAL_GRID = (100, 1e-3)
"""Number of strengths, and ratio of the smallest to the largest, of the initial lasso."""


class AdaptivePath:
    """Adaptive lassos on one set of data.

    Parameters
    ----------
    X : ndarray or CSC array of shape (n_samples, n_features)
        Finite numbers.
    y : ndarray of shape (n_samples,)
        Finite float64 response.
    weights : ndarray of shape (n_samples,) or None
        Frequencies.
    initial : {"lasso", "ols"} or estimator
        The initial estimate.
    gamma : float
        Power of the initial coefficients.
    n_reweight : int
        Number of rounds.
    fit_intercept : bool
        Whether to centre.
    tol : float
        Largest gap relative to the objective at zero coefficients.
    max_iter : int
        Largest number of working sets per strength.

    Attributes
    ----------
    initial_coef : ndarray of shape (n_features,)
        The initial estimate.
    required : float
        Largest duality gap, in the units of the documented objective.
    """

    def __init__(self, X, y, weights, *, initial, gamma, n_reweight, fit_intercept, tol, max_iter):
        self.X, self.y, self.weights = X, y, weights
        self.gamma, self.n_reweight = gamma, n_reweight
        self.fit_intercept = fit_intercept
        self.tol, self.max_iter = tol, max_iter
        whole = self._problem(np.arange(X.shape[1]))
        self.required = whole.tolerance(tol)
        self.yy = whole.design.yy
        self.y_mean, self.total_weight = whole.y_mean, whole.total_weight
        self.initial_coef = self._initial(initial, whole)
        del whole
        self._first = self._restricted(self.initial_coef)

    @property
    def n_features(self):
        """Number of features."""
        return self.X.shape[1]

    def factors(self, coef):
        """Relative penalties that an estimate gives, infinite where it is zero."""
        with np.errstate(divide="ignore", over="ignore"):
            return np.abs(coef) ** -self.gamma

    def _problem(self, kept):
        return make_problem(
            self.X[:, kept] if kept.size < self.X.shape[1] else self.X,
            self.y,
            self.weights,
            fit_intercept=self.fit_intercept,
            gram_limit=PATH_GRAM_LIMIT,
        )

    def _initial(self, initial, whole):
        """Coefficients of the initial estimate."""
        n_features = self.X.shape[1]
        if isinstance(initial, str) and initial == "lasso":
            return self._lasso_by_criterion(whole)
        if isinstance(initial, str):
            if whole.total_weight <= n_features:
                raise ValueError(
                    "initial='ols' needs more rows than features, got "
                    f"{whole.total_weight:g} rows and {n_features} features; use 'lasso'."
                )
            features = np.arange(n_features)
            whole.design.set_coefficients(features, np.zeros(n_features), n_features)
            return whole.design.least_squares(features)()
        if isinstance(initial, type):
            raise TypeError(
                f"initial must be an instance of an estimator, got the class {initial.__name__}."
            )
        model = clone(initial)
        options = {}
        if self.weights is not None and has_fit_parameter(model, "sample_weight"):
            options["sample_weight"] = self.weights
        elif self.weights is not None:
            raise ValueError(
                f"initial={model!r} does not take the sample_weight that was given to fit."
            )
        model.fit(self.X, self.y, **options)
        coef = np.asarray(model.coef_, dtype=np.float64).ravel()
        if coef.shape != (n_features,):
            raise ValueError(
                f"initial must have coef_ of shape ({n_features},) once it is fitted, got "
                f"{np.shape(model.coef_)}."
            )
        return coef

    def _lasso_by_criterion(self, whole):
        """The lasso that Akaike's criterion chooses.

        It keeps too many features rather than too few, which is what an initial estimate must
        do, and it needs no folds of its own.
        """
        n_features = self.X.shape[1]
        ones = np.ones(n_features)
        nowhere = np.zeros(n_features, dtype=bool)
        path = ElasticNetPath(whole, 1.0, ones, nowhere, tol=self.tol, max_iter=self.max_iter)
        points = [path.at(alpha) for alpha in alpha_grid(path.alpha_max(), *_INITIAL_GRID)]
        best = points[int(np.argmin(fit_statistics(whole, points, 1.0, ones, "aic")))]
        return best.dense(n_features)

    def _restricted(self, coef):
        """A path over the features that an estimate keeps, and these features."""
        factors = self.factors(coef)
        kept = np.flatnonzero(np.isfinite(factors))
        if kept.size == 0:
            return None, kept
        problem = self._problem(kept)
        nowhere = np.zeros(kept.size, dtype=bool)
        path = ElasticNetPath(
            problem, 1.0, factors[kept], nowhere, tol=self.tol, max_iter=self.max_iter
        )
        return path, kept

    def alpha_max(self):
        """Smallest strength at which all coefficients are zero."""
        path, _ = self._first
        return 0.0 if path is None else path.alpha_max()

    def at(self, alpha, progress=None):
        """All rounds at one strength; a :class:`PathPoint` whose features are all of X's."""
        path, kept = self._first
        point = self._solve(path, kept, alpha, progress)
        for _ in range(self.n_reweight - 1):
            path, kept = self._restricted(point.dense(self.n_features))
            rounds = point.n_iter
            point = self._solve(path, kept, alpha, progress)
            point.n_iter += rounds
        return point

    def _solve(self, path, kept, alpha, progress):
        if path is None:
            nothing = np.empty(0)
            mean = np.array(self.y_mean)
            return PathPoint(
                alpha,
                kept,
                nothing,
                0.5 * self.yy / self.total_weight,
                0.0,
                0.0,
                1,
                True,
                False,
                mean,
            )

        def listener():
            return progress(*self._in_full(path, kept))

        point = path.at(alpha, None if progress is None else listener)
        point.intercept = np.array(path.problem.intercept(point.dense(kept.size)))
        point.features = kept[point.features]
        return point

    def _in_full(self, path, kept):
        """Present coefficients and constant."""
        coef = np.zeros(self.n_features)
        coef[kept] = path.solver.w
        return coef, path.problem.intercept(path.solver.w)

    def residual_sum_of_squares(self, point):
        """Weighted sum of squared residuals."""
        errors = row_residuals(point, self.X, self.y) ** 2
        return float(errors.sum() if self.weights is None else self.weights @ errors)


def row_residuals(point, X, y):
    """Residuals of one point of a path on any rows."""
    columns = X[:, point.features]
    fitted = columns @ point.values if point.features.size else np.zeros(X.shape[0])
    return y - np.asarray(fitted).ravel() - point.intercept
