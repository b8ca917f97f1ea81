"""Lasso and elastic net whose strength is chosen by cross-validation or a criterion."""

from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn.utils.validation import validate_data

from sparsestat.linear_model._base import SparseLinearModel
from sparsestat.linear_model._criteria import fit_statistics
from sparsestat.linear_model._data import canonical_csc, gram_limit, make_problem
from sparsestat.linear_model._folds import (
    SplitterRouter,
    mean_errors,
    summarise_folds,
    training_rows,
    within_one_standard_error,
)
from sparsestat.linear_model._path import (
    PATH_GRAM_LIMIT,
    ElasticNetPath,
    alpha_grid,
    coefficient_matrix,
    stack_coefficients,
    warn_unless_converged,
)
from sparsestat.linear_model._strength_search import SEARCH_CONSTRAINTS
from sparsestat.utils._callbacks import FitTicker
from sparsestat.utils._sklearn import (
    Interval,
    _fit_context,
    with_callbacks,
)
from sparsestat.utils._threads import run_in_threads, single_threaded_blas
from sparsestat.utils._validation import (
    check_alphas,
    check_frequency_weights,
    check_penalty_factor,
    check_positive_mask,
)


class _ElasticNetCVBase(SplitterRouter, SparseLinearModel):
    """The search that :class:`LassoCV` and :class:`ElasticNetCV` share."""

    _parameter_constraints: dict = {
        **SEARCH_CONSTRAINTS,
        "penalty_factor": ["array-like", None],
        "positive": ["boolean", "array-like"],
    }

    def _l1_ratios(self):
        return np.ones(1)

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, **params):
        """Choose the strength and fit the model with it to all data.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The design. A sparse X is neither densified nor centred explicitly.
        y : array-like of shape (n_samples,)
            The response.
        sample_weight : array-like of shape (n_samples,), float or None, default=None
            How often each row occurs; counts in the scores of the folds, too. A weight
            of 2 is the row twice if all copies of a row stay in one fold.
        **params : dict
            Parameters for the splitter, such as ``groups``, where scikit-learn's metadata
            routing is enabled by ``sklearn.set_config(enable_metadata_routing=True)``.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            For data that are not finite or of the wrong shape, and for factors or
            weights that are negative or all zero.

        Warns
        -----
        ConvergenceWarning
            If a duality gap on all data or on a fold exceeds the tolerance.
        """
        given = X, y, sample_weight
        routed = self._splitter_params(sample_weight, params)
        X, y = validate_data(
            self, X, y, accept_sparse="csc", dtype=[np.float64, np.float32], y_numeric=True
        )
        dtype = X.dtype
        y = np.asarray(y, dtype=np.float64)
        if sparse.issparse(X):
            X = canonical_csc(X)
        weights = check_frequency_weights(sample_weight, X)
        limits = (
            check_penalty_factor(self.penalty_factor, X.shape[1]),
            check_positive_mask(self.positive, X.shape[1]),
        )
        l1_ratios = self._l1_ratios()
        folds = self._list_folds(X, y, routed) if self.criterion == "cv" else []
        context = self._init_callback_context(max_subtasks=None, sequential_subtasks=False)
        with FitTicker(self, context, *given) as ticker:
            grids = self._grids(X, y, weights, l1_ratios, limits)
            jobs = [(ratio, grid, None) for ratio, grid in zip(l1_ratios, grids)]
            jobs += [(ratio, grid, fold) for fold in folds for ratio, grid in zip(l1_ratios, grids)]

            def run(numbered):
                number, (ratio, grid, fold) = numbered
                done = self._run_path(X, y, weights, ratio, grid, fold, limits)
                ticker.tick(
                    "path" if fold is None else "fold",
                    lambda: self._half_fitted(done, X, dtype),
                    task_id=number,
                )
                return done

            results = run_in_threads(run, enumerate(jobs), self.n_jobs)
        paths, fold_paths = results[: len(l1_ratios)], results[len(l1_ratios) :]
        self._choose(paths, fold_paths, l1_ratios, grids, folds, X, dtype, limits[0])
        return self

    def _problem(self, X, y, weights, limits):
        return make_problem(
            X,
            y,
            weights,
            fit_intercept=self.fit_intercept,
            gram_limit=gram_limit(PATH_GRAM_LIMIT, limits[0]),
        )

    def _path(self, problem, l1_ratio, limits):
        return ElasticNetPath(problem, l1_ratio, *limits, tol=self.tol, max_iter=self.max_iter)

    def _grids(self, X, y, weights, l1_ratios, limits):
        if not isinstance(self.alphas, Integral):
            return [check_alphas(self.alphas)] * len(l1_ratios)
        with single_threaded_blas():
            problem = self._problem(X, y, weights, limits)
            return [
                alpha_grid(self._path(problem, ratio, limits).alpha_max(), self.alphas, self.eps)
                for ratio in l1_ratios
            ]

    def _run_path(self, X, y, weights, l1_ratio, grid, fold, limits):
        """A path on all rows or on those of one fold, and its errors on the rows left out."""
        if fold is None:
            problem = self._problem(X, y, weights, limits)
            path = self._path(problem, l1_ratio, limits)
            points = [path.at(alpha) for alpha in grid]
            return problem, points, None, problem.tolerance(self.tol)
        train, test = fold
        train_X, train_weights = training_rows(X, weights, train)
        rows = X.tocsr() if sparse.issparse(X) else X
        problem = self._problem(train_X, y[train], train_weights, limits)
        path = self._path(problem, l1_ratio, limits)
        points = [path.at(alpha) for alpha in grid]
        used, coefs = stack_coefficients([(point.features, point.values) for point in points])
        centred = rows[test][:, used] @ coefs - problem.x_mean[used] @ coefs
        errors = (y[test] - problem.y_mean)[:, None] - centred
        test_weights = None if weights is None else weights[test]
        test_errors = mean_errors(errors**2, test_weights)
        # The copy of the training rows is of no more use.
        required = problem.tolerance(self.tol)
        problem.design = problem.rows = None
        return problem, points, test_errors, required

    def _half_fitted(self, done, X, dtype):
        problem, points, *_ = done
        return _coefficients(problem, points[-1], X.shape[1], dtype)

    def _choose(self, paths, fold_paths, l1_ratios, grids, folds, X, dtype, factors):
        n_ratios, n_alphas = len(l1_ratios), len(grids[0])
        if self.criterion == "cv":
            errors = np.array([errors for _, _, errors, _ in fold_paths])
            errors = errors.reshape(len(folds), n_ratios, n_alphas).transpose(1, 2, 0)
            self.mse_path_ = self._drop_axis(errors)
            mean, deviation = summarise_folds(errors)
            self.mse_mean_ = self._drop_axis(mean)
            self.mse_std_ = self._drop_axis(deviation)
            scores = mean
        else:
            scores = np.array(
                [
                    fit_statistics(problem, points, ratio, factors, self.criterion)
                    for ratio, (problem, points, *_) in zip(l1_ratios, paths)
                ]
            )
            self.criterion_path_ = self._drop_axis(scores)
        row, column = np.unravel_index(np.argmin(scores), scores.shape)
        if self.criterion == "cv":
            within = within_one_standard_error(scores[row], deviation[row])
            self.alpha_1se_ = float(grids[row][within])
            if self.selection == "1se":
                column = within
        problem, points, _, required = paths[row]
        self.alphas_ = self._drop_axis(np.array(grids))
        self.alpha_ = float(grids[row][column])
        self._store_ratio(float(l1_ratios[row]))
        self.coef_path_ = coefficient_matrix(points, X).astype(dtype, copy=False)
        self.dual_gaps_ = np.array([point.dual_gap for point in points])
        point = points[column]
        for name, value in _coefficients(problem, point, X.shape[1], dtype).items():
            setattr(self, name, value)
        self.objective_, self.dual_gap_ = point.objective, point.dual_gap
        self.converged_, self.n_iter_ = point.converged, point.n_iter
        warn_unless_converged(points, self.tol, required, stacklevel=6)
        for _, fold_points, _, required in fold_paths:
            warn_unless_converged(fold_points, self.tol, required, stacklevel=6)

    def _drop_axis(self, array):
        return array[0] if len(array) == 1 else array

    def _store_ratio(self, l1_ratio):
        """A lasso has no ratio to remember."""


def _coefficients(problem, point, n_features, dtype):
    coef = point.dense(n_features)
    rounded = coef.astype(dtype, copy=False)
    return {
        "coef_": rounded,
        "intercept_": problem.intercept(rounded.astype(np.float64)),
        "support_": coef != 0,
    }


class LassoCV(_ElasticNetCVBase):
    """Lasso whose penalty strength is chosen by cross-validation or a criterion.

    The path is solved once on all data and, for cross-validation, once on the
    training rows of every fold, in threads.

    Parameters
    ----------
    alphas : int or array-like of shape (n_alphas,), default=100
        Number of strengths, spaced geometrically, or the strengths themselves.
    eps : float, default=1e-3
        Smallest strength of an automatic grid divided by the largest.
    cv : int, cross-validation generator or iterable, default=None
        Folds, as in scikit-learn; None stands for 5 folds without shuffling.
    criterion : {"cv", "aic", "bic", "ebic"}, default="cv"
        What chooses: the mean squared error on rows left out, or an information
        criterion of the path on all data, see Notes.
    selection : {"min", "1se"}, default="min"
        Whether cross-validation takes the strength of the smallest error or the
        largest strength whose error exceeds it by at most one standard error. Not
        used by other criteria.
    fit_intercept : bool, default=True
        Whether to fit an unpenalised intercept.
    penalty_factor : array-like of shape (n_features,), default=None
        Relative penalties of the features; zero leaves one unpenalised. None stands
        for ones.
    positive : bool or array-like of bool of shape (n_features,), default=False
        Whether (which) coefficients must not be negative.
    tol : float, default=1e-6
        Largest duality gap at every strength relative to the objective of zero
        coefficients.
    max_iter : int, default=1000
        Largest number of working sets solved per strength.
    n_jobs : int or None, default=None
        Number of threads; it never changes the result.

    Attributes
    ----------
    alpha_ : float
        The chosen strength.
    alpha_1se_ : float
        The strength that the one-standard-error rule chooses (``criterion="cv"``).
    alphas_ : ndarray of shape (n_alphas,)
        The strengths, descending.
    mse_path_ : ndarray of shape (n_alphas, n_folds)
        Mean squared errors on the rows left out (``criterion="cv"``); NaN for folds on
        which their weights are zero, which do not count.
    mse_mean_ : ndarray of shape (n_alphas,)
        Their means over the folds (``criterion="cv"``).
    mse_std_ : ndarray of shape (n_alphas,)
        Standard errors of these means (``criterion="cv"``).
    criterion_path_ : ndarray of shape (n_alphas,)
        Values of the information criterion, otherwise.
    coef_path_ : ndarray or CSC array of shape (n_features, n_alphas)
        Coefficients on all data, sparse if X is.
    dual_gaps_ : ndarray of shape (n_alphas,)
        Duality gaps on all data, in the units of the objective.
    coef_ : ndarray of shape (n_features,)
        Coefficients at ``alpha_``.
    intercept_ : float
        Intercept at ``alpha_``.
    sparse_coef_ : CSR array of shape (1, n_features)
        The coefficients without their zeros.
    support_ : ndarray of bool of shape (n_features,)
        Which coefficients are not zero.
    objective_ : float
        Value of the objective at ``alpha_``.
    dual_gap_ : float
        Duality gap at ``alpha_``.
    converged_ : bool
        Whether it is within the tolerance.
    n_iter_ : int
        Number of working sets solved at ``alpha_``.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had any.

    See Also
    --------
    Lasso : One strength.
    ElasticNetCV : Adds an l2 penalty.
    CVDisplay : Plots the errors.

    Notes
    -----
    With n the sum of weights, RSS the residual sum of squares, k the number of
    nonzero coefficients and p that of features, the criteria are
    ``n log(RSS / n)`` plus ``2 k`` (aic), ``k log n`` (bic) or
    ``k log n + 2 k log p`` (ebic). Fits with more than n / 2 nonzero coefficients
    are left out if p >= n, since RSS, and with it any criterion, would fall without
    bound.

    If ``alpha_`` is the smallest strength of the grid, a smaller ``eps`` may do better.

    Callbacks tick once for every path, that is for every fold.

    References
    ----------
    J. Chen and Z. Chen (2008). Extended Bayesian information criteria for model
    selection with large model spaces. *Biometrika* 95(3), 759-771.

    H. Zou, T. Hastie and R. Tibshirani (2007). On the "degrees of freedom" of the
    lasso. *Annals of Statistics* 35(5), 2173-2192.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sparsestat.linear_model import LassoCV
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = LassoCV(cv=5, selection="1se").fit(X, y)
    >>> int(model.support_.sum()), model.alpha_ == model.alpha_1se_
    (6, True)
    """

    def __init__(
        self,
        *,
        alphas=100,
        eps=1e-3,
        cv=None,
        criterion="cv",
        selection="min",
        fit_intercept=True,
        penalty_factor=None,
        positive=False,
        tol=1e-6,
        max_iter=1000,
        n_jobs=None,
    ):
        self.alphas = alphas
        self.eps = eps
        self.cv = cv
        self.criterion = criterion
        self.selection = selection
        self.fit_intercept = fit_intercept
        self.penalty_factor = penalty_factor
        self.positive = positive
        self.tol = tol
        self.max_iter = max_iter
        self.n_jobs = n_jobs


class ElasticNetCV(_ElasticNetCVBase):
    """Elastic net whose strength and mixture are chosen by cross-validation or a criterion.

    For every ratio a path is solved once on all data and, for cross-validation, once
    on the training rows of every fold, in threads.

    Parameters
    ----------
    l1_ratio : float or array-like of shape (n_ratios,), default=0.5
        Share of the l1 penalty, in (0, 1], or several to choose from.
    alphas : int or array-like of shape (n_alphas,), default=100
        Number of strengths, spaced geometrically, or the strengths themselves.
    eps : float, default=1e-3
        Smallest strength of an automatic grid divided by the largest.
    cv : int, cross-validation generator or iterable, default=None
        Folds, as in scikit-learn; None stands for 5 folds without shuffling.
    criterion : {"cv", "aic", "bic", "ebic"}, default="cv"
        What chooses: the mean squared error on rows left out, or an information
        criterion of the path on all data, see Notes of :class:`LassoCV`; k is then
        the effective number of parameters, see Notes.
    selection : {"min", "1se"}, default="min"
        Whether cross-validation takes the strength of the smallest error or, at the
        same ratio, the largest strength whose error exceeds it by at most one
        standard error. Not used by other criteria.
    fit_intercept : bool, default=True
        Whether to fit an unpenalised intercept.
    penalty_factor : array-like of shape (n_features,), default=None
        Relative penalties of the features; zero leaves one unpenalised. None stands
        for ones.
    positive : bool or array-like of bool of shape (n_features,), default=False
        Whether (which) coefficients must not be negative.
    tol : float, default=1e-6
        Largest duality gap at every strength relative to the objective of zero
        coefficients.
    max_iter : int, default=1000
        Largest number of working sets solved per strength.
    n_jobs : int or None, default=None
        Number of threads; it never changes the result.

    Attributes
    ----------
    alpha_ : float
        The chosen strength.
    l1_ratio_ : float
        The chosen share of the l1 penalty.
    alpha_1se_ : float
        The strength that the one-standard-error rule chooses (``criterion="cv"``).
    alphas_ : ndarray of shape (n_alphas,) or (n_ratios, n_alphas)
        The strengths, descending, for every ratio if there are several.
    mse_path_ : ndarray of shape (n_alphas, n_folds) or (n_ratios, n_alphas, n_folds)
        Mean squared errors on the rows left out (``criterion="cv"``); NaN for folds on
        which their weights are zero, which do not count.
    mse_mean_ : ndarray of shape (n_alphas,) or (n_ratios, n_alphas)
        Their means over the folds (``criterion="cv"``).
    mse_std_ : ndarray of shape (n_alphas,) or (n_ratios, n_alphas)
        Standard errors of these means (``criterion="cv"``).
    criterion_path_ : ndarray of shape (n_alphas,) or (n_ratios, n_alphas)
        Values of the information criterion, otherwise.
    coef_path_ : ndarray or CSC array of shape (n_features, n_alphas)
        Coefficients on all data at ``l1_ratio_``, sparse if X is.
    dual_gaps_ : ndarray of shape (n_alphas,)
        Duality gaps on all data at ``l1_ratio_``, in the units of the objective.
    coef_ : ndarray of shape (n_features,)
        Coefficients at ``alpha_`` and ``l1_ratio_``.
    intercept_ : float
        Intercept there.
    sparse_coef_ : CSR array of shape (1, n_features)
        The coefficients without their zeros.
    support_ : ndarray of bool of shape (n_features,)
        Which coefficients are not zero.
    objective_ : float
        Value of the objective there.
    dual_gap_ : float
        Duality gap there.
    converged_ : bool
        Whether it is within the tolerance.
    n_iter_ : int
        Number of working sets solved there.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had any.

    See Also
    --------
    ElasticNet : One strength and ratio.
    LassoCV : Without the l2 penalty.

    Notes
    -----
    The effective number of parameters of an elastic net with support S is the trace
    of ``X_S (X_S'X_S + D)^-1 X_S'``, D being the diagonal matrix of l2 penalties.

    References
    ----------
    H. Zou and T. Hastie (2005). Regularization and variable selection via the elastic
    net. *Journal of the Royal Statistical Society B* 67(2), 301-320.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sparsestat.linear_model import ElasticNetCV
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = ElasticNetCV(l1_ratio=[0.5, 0.9, 1.0], alphas=30).fit(X, y)
    >>> model.mse_path_.shape
    (3, 30, 5)
    """

    _parameter_constraints: dict = {
        **_ElasticNetCVBase._parameter_constraints,
        "l1_ratio": [Interval(Real, 0, 1, closed="right"), "array-like"],
    }

    def __init__(
        self,
        *,
        l1_ratio=0.5,
        alphas=100,
        eps=1e-3,
        cv=None,
        criterion="cv",
        selection="min",
        fit_intercept=True,
        penalty_factor=None,
        positive=False,
        tol=1e-6,
        max_iter=1000,
        n_jobs=None,
    ):
        self.l1_ratio = l1_ratio
        self.alphas = alphas
        self.eps = eps
        self.cv = cv
        self.criterion = criterion
        self.selection = selection
        self.fit_intercept = fit_intercept
        self.penalty_factor = penalty_factor
        self.positive = positive
        self.tol = tol
        self.max_iter = max_iter
        self.n_jobs = n_jobs

    def _l1_ratios(self):
        ratios = np.atleast_1d(np.asarray(self.l1_ratio, dtype=np.float64))
        if ratios.ndim != 1 or ratios.size == 0:
            raise ValueError(
                f"l1_ratio must be a number or one-dimensional, got shape {ratios.shape}."
            )
        bad = ratios[~((ratios > 0) & (ratios <= 1))]
        if bad.size:
            raise ValueError(f"l1_ratio must lie in (0, 1], got {bad[0]}.")
        return ratios

    def _store_ratio(self, l1_ratio):
        self.l1_ratio_ = l1_ratio
