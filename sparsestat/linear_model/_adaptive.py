"""Lasso paths whose penalties are weighted by an initial estimate.

With an initial estimate c, the adaptive lasso minimises

    1 / (2 W) sum_i w_i (y_i - x_i'b - b0)^2 + alpha sum_j |b_j| / |c_j|^gamma

over coefficients that are zero wherever c is.  A further round takes the solution as the
initial estimate of the next one.
"""

from numbers import Integral, Real

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import has_fit_parameter

from sparsestat.linear_model._criteria import fit_statistics
from sparsestat.linear_model._data import make_problem
from sparsestat.linear_model._path import (
    PATH_CONSTRAINTS,
    PATH_GRAM_LIMIT,
    ElasticNetPath,
    PathPoint,
    alpha_grid,
    check_path_data,
    coefficient_matrix,
    strength_grid,
    warn_unless_converged,
)
from sparsestat.utils._sklearn import HasMethods, Interval, StrOptions, validate_params
from sparsestat.utils._threads import single_threaded_blas

ADAPTIVE_CONSTRAINTS: dict = {
    "gamma": [Interval(Real, 0, None, closed="neither")],
    "n_reweight": [Interval(Integral, 1, None, closed="left")],
    "initial": [StrOptions({"lasso", "ols"}), HasMethods(["fit"])],
}

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
        self._largest = None
        if not np.any(np.isfinite(self.factors(self.initial_coef))):
            dots = whole.design.response_dots(np.arange(X.shape[1]))
            self._largest = float(np.max(np.abs(dots), initial=0.0)) / self.total_weight
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
                    "initial='ols' needs more rows than features, got rows of total "
                    f"sample_weight {whole.total_weight:g} and {n_features} features; use 'lasso'."
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
        if not hasattr(model, "coef_"):
            raise TypeError(
                f"initial must be an estimator with coef_ once it is fitted, got {model!r}."
            )
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
        """Smallest strength at which all coefficients are zero.

        If the initial estimate keeps nothing any would do; that of the lasso is returned, since
        the initial estimates of folds may keep something.
        """
        path, _ = self._first
        return self._largest if path is None else path.alpha_max()

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


@validate_params(
    {**PATH_CONSTRAINTS, **ADAPTIVE_CONSTRAINTS},
    prefer_skip_nested_validation=False,
)
def adaptive_lasso_path(
    X,
    y,
    *,
    alphas=100,
    eps=1e-4,
    gamma=1.0,
    n_reweight=1,
    initial="lasso",
    fit_intercept=False,
    sample_weight=None,
    tol=1e-6,
    max_iter=1000,
):
    """Fit adaptive lassos along a descending sequence of penalty strengths.

    Minimises, with an initial estimate c and weights w_i (ones unless given) of sum W::

        1 / (2 W) sum_i w_i (y_i - x_i'b - b0)^2 + alpha * sum_j |b_j| / |c_j|^gamma

    for every alpha. The initial estimate is found once; in the first round every alpha starts
    from the previous solutions.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        The design. A sparse X is neither densified nor centred explicitly.
    y : array-like of shape (n_samples,)
        The response.
    alphas : int or array-like of shape (n_alphas,), default=100
        Number of strengths, spaced geometrically, or the strengths themselves.
    eps : float, default=1e-4
        Smallest strength of an automatic grid divided by the largest, at which all
        coefficients are zero.
    gamma : float, default=1.0
        Power of the initial coefficients in the penalty, positive.
    n_reweight : int, default=1
        Number of rounds; from the second on, the solution of one round is the initial
        estimate of the next, at every alpha.
    initial : {"lasso", "ols"} or estimator, default="lasso"
        The initial estimate: the lasso that the criterion "aic" chooses (see
        :class:`LassoCV`), least squares, or an estimator with ``fit`` and ``coef_``, which is
        cloned and fits an intercept if it is set to.
    fit_intercept : bool, default=False
        Whether an unpenalised intercept b0 is part of the model. Unlike that of
        :class:`AdaptiveLasso`, the default is False, as for other path functions, and b0 is
        not returned.
    sample_weight : array-like of shape (n_samples,), float or None, default=None
        How often each row occurs. A given ``initial`` estimator must take them, too.
    tol : float, default=1e-6
        Largest duality gap at every alpha, relative to the objective of zero
        coefficients, ``sum_i w_i (y_i - ybar)^2 / (2 W)``, where ybar is zero without an
        intercept.
    max_iter : int, default=1000
        Largest number of working sets solved per alpha and round.

    Returns
    -------
    alphas : ndarray of shape (n_alphas,)
        The strengths, descending.
    coefs : ndarray or CSC array of shape (n_features, n_alphas)
        The coefficients, sparse if X is.
    dual_gaps : ndarray of shape (n_alphas,)
        Duality gaps of the last round, in the units of the objective.

    Raises
    ------
    ValueError
        For input that is not finite or of the wrong shape, for strengths that are not
        positive, and for ``initial="ols"`` with fewer rows than features.

    Warns
    -----
    ConvergenceWarning
        If a gap exceeds the tolerance.

    See Also
    --------
    AdaptiveLasso : One strength, as an estimator.
    AdaptiveLassoCV : Chooses one of the strengths.
    lasso_path : Takes any ``penalty_factor``.

    Notes
    -----
    Arrays on a device (CuPy) are not taken.

    References
    ----------
    H. Zou (2006). The adaptive lasso and its oracle properties. *Journal of the American
    Statistical Association* 101(476), 1418-1429.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sparsestat.linear_model import adaptive_lasso_path
    >>> X, y = load_diabetes(return_X_y=True)
    >>> alphas, coefs, dual_gaps = adaptive_lasso_path(
    ...     X, y, alphas=[100.0, 1.0], fit_intercept=True
    ... )
    >>> (coefs != 0).sum(axis=0)
    array([3, 7])
    """
    X, y, weights = check_path_data(X, y, sample_weight)
    with single_threaded_blas():
        path = AdaptivePath(
            X, y, weights, initial=initial, gamma=gamma, n_reweight=n_reweight,
            fit_intercept=fit_intercept, tol=tol, max_iter=max_iter,
        )  # fmt: skip
        grid = strength_grid(path, alphas, eps)
        points = [path.at(alpha) for alpha in grid]
    warn_unless_converged(points, tol, path.required, stacklevel=4)
    return grid, coefficient_matrix(points, X), np.array([point.dual_gap for point in points])
