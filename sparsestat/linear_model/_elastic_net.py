"""Lasso and elastic net at one penalty strength."""

from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn.utils.validation import validate_data

from sparsestat.linear_model._base import BestSoFar, SparseLinearModel, refuse_no_penalty
from sparsestat.linear_model._data import (
    canonical_csc,
    check_single_response,
    gram_limit,
    make_problem,
    problem_from_moments,
)
from sparsestat.linear_model._path import ElasticNetPath, warn_unless_converged
from sparsestat.utils._arrays import get_namespace, use_array_api
from sparsestat.utils._callbacks import FitTicker
from sparsestat.utils._moments import GramAccumulator, is_dask_collection
from sparsestat.utils._sklearn import Interval, _fit_context, with_callbacks
from sparsestat.utils._threads import single_threaded_blas
from sparsestat.utils._validation import (
    check_frequency_weights,
    check_penalty_factor,
    check_positive_mask,
    set_columns,
)

FIT_GRAM_LIMIT = 300
"""Features up to which a single fit to tall data works on cross products."""


class _ElasticNetBase(SparseLinearModel):
    """The fit that :class:`Lasso` and :class:`ElasticNet` share."""

    _parameter_constraints: dict = {
        "alpha": [Interval(Real, 0, None, closed="left")],
        "fit_intercept": ["boolean"],
        "penalty_factor": ["array-like", None],
        "positive": ["boolean", "array-like"],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "warm_start": ["boolean"],
    }

    def _l1_share(self):
        return 1.0

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The design. A sparse X is neither densified nor centred explicitly. Dask
            arrays and dataframes are reduced to cross products, one partition at a time.
        y : array-like of shape (n_samples,)
            The response.
        sample_weight : array-like of shape (n_samples,), float or None, default=None
            How often each row occurs: weight 2 is the row twice.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            For data that are not finite or of the wrong shape, for ``alpha=0``, and for
            factors or weights that are negative or all zero.

        Warns
        -----
        ConvergenceWarning
            If the duality gap exceeds the tolerance.
        """
        refuse_no_penalty(self.alpha)
        if is_dask_collection(X):
            self.fit_gram(GramAccumulator.from_dask(X, y, sample_weight))
            set_columns(self, self.n_features_in_, X)
            return self
        given = X, y, sample_weight
        if not sparse.issparse(X) and use_array_api(X, y):
            return self._fit_device(X, y, sample_weight)
        start = self._start() if self.warm_start else None
        X, y = validate_data(
            self, X, y, accept_sparse="csc", dtype=[np.float64, np.float32], y_numeric=True
        )
        weights = check_frequency_weights(sample_weight, X)
        factors = check_penalty_factor(self.penalty_factor, X.shape[1])
        positive = check_positive_mask(self.positive, X.shape[1])
        dtype = X.dtype
        if sparse.issparse(X):
            X = canonical_csc(X)
        with single_threaded_blas():
            problem = make_problem(
                X,
                np.asarray(y, dtype=np.float64),
                weights,
                fit_intercept=self.fit_intercept,
                gram_limit=gram_limit(FIT_GRAM_LIMIT, factors),
            )
            context = self._init_callback_context(max_subtasks=None)
            with FitTicker(self, context, *given) as ticker:
                self._solve(problem, factors, positive, start, dtype, ticker)
        return self

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit_gram(self, moments):
        """Fit the model to centred cross products instead of data.

        Parameters
        ----------
        moments : sparsestat.utils.GramAccumulator
            Moments of the features and of one response, which may have been summed
            over batches, machines or partitions.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            For moments without exactly one response.

        Warns
        -----
        ConvergenceWarning
            If the duality gap, to which the rounding error of the cross products
            counts, exceeds the tolerance.
        """
        refuse_no_penalty(self.alpha)
        check_single_response(moments)
        start = self._start() if self.warm_start else None
        set_columns(self, moments.n_features)
        factors = check_penalty_factor(self.penalty_factor, moments.n_features)
        positive = check_positive_mask(self.positive, moments.n_features)
        with single_threaded_blas():
            problem = problem_from_moments(moments, fit_intercept=self.fit_intercept)
            context = self._init_callback_context(max_subtasks=None)
            with FitTicker(self, context, None) as ticker:
                self._solve(problem, factors, positive, start, np.float64, ticker)
        return self

    def _fit_device(self, X, y, sample_weight):
        """Fit to arrays on a device, on which the results stay."""
        from sparsestat.linear_model._device import check_device_data, solve_on_device

        _, _, is_host = get_namespace(X, y)
        given = X, y, sample_weight
        if is_host:
            X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], y_numeric=True)
            y = np.asarray(y, dtype=X.dtype)
        else:
            X, y = check_device_data(X, y)
            self.n_features_in_ = X.shape[1]
        n_features = X.shape[1]
        start = getattr(self, "coef_", None) if self.warm_start else None
        if start is not None and start.shape != (n_features,):
            start = None

        def attributes(coef, intercept):
            return {"coef_": coef, "intercept_": intercept, "support_": coef != 0}

        context = self._init_callback_context(max_subtasks=None)
        with FitTicker(self, context, *given) as ticker:
            coef, intercept, point, required = solve_on_device(
                X,
                y,
                check_frequency_weights(sample_weight, X),
                alpha=self.alpha,
                l1_ratio=self._l1_share(),
                factors=check_penalty_factor(self.penalty_factor, n_features),
                positive=check_positive_mask(self.positive, n_features),
                fit_intercept=self.fit_intercept,
                tol=self.tol,
                max_iter=self.max_iter,
                start=start,
                progress=lambda *now: ticker.tick("proximal steps", lambda: attributes(*now)),
            )
        for name, fitted in attributes(coef, intercept).items():
            setattr(self, name, fitted)
        self.objective_, self.dual_gap_ = point.objective, point.dual_gap
        self.n_iter_, self.converged_ = point.n_iter, point.converged
        warn_unless_converged([point], self.tol, required, stacklevel=6)
        return self

    def _start(self):
        coef = getattr(self, "coef_", None)
        return None if coef is None else np.asarray(coef, dtype=np.float64)

    def _solve(self, problem, factors, positive, start, dtype, ticker):
        if start is not None and start.shape != (problem.n_features,):
            start = None
        path = ElasticNetPath(
            problem,
            self._l1_share(),
            factors,
            positive,
            tol=self.tol,
            max_iter=self.max_iter,
            coef=start,
        )

        def attributes(coef):
            rounded = coef.astype(dtype, copy=False)
            return {
                "coef_": rounded,
                "intercept_": problem.intercept(rounded.astype(np.float64)),
                "support_": coef != 0,
            }

        progress = BestSoFar(
            ticker, lambda: path.objective(self.alpha), lambda: path.solver.w, attributes
        )
        point = path.at(self.alpha, progress)
        primal, gap = path.certificate(self.alpha)
        for name, fitted in attributes(path.solver.w).items():
            setattr(self, name, fitted)
        self.objective_ = primal / problem.total_weight
        self.dual_gap_ = gap / problem.total_weight + point.rounding
        self.n_iter_ = point.n_iter
        point.dual_gap = self.dual_gap_
        required = problem.tolerance(self.tol)
        self.converged_ = point.converged = bool(self.dual_gap_ <= required)
        warn_unless_converged([point], self.tol, required, stacklevel=6)


class Lasso(_ElasticNetBase):
    """Linear regression with an l1 penalty.

    Minimises, with weights w_i (ones unless given) of sum W and penalty factors s_j::

        1 / (2 W) sum_i w_i (y_i - x_i'b - b0)^2 + alpha * sum_j s_j |b_j|

    and certifies the result by its duality gap over all features.

    Parameters
    ----------
    alpha : float, default=1.0
        Strength of the penalty, positive.
    fit_intercept : bool, default=True
        Whether to fit the unpenalised intercept b0.
    penalty_factor : array-like of shape (n_features,), default=None
        Factors s_j; zero leaves a feature unpenalised. None stands for ones.
    positive : bool or array-like of bool of shape (n_features,), default=False
        Whether (which) coefficients must not be negative.
    tol : float, default=1e-6
        Largest duality gap relative to the objective of zero coefficients,
        ``sum_i w_i (y_i - ybar)^2 / (2 W)``, where ybar is zero without an intercept.
    max_iter : int, default=1000
        Largest number of working sets solved.
    warm_start : bool, default=False
        Whether to start from the coefficients of the previous fit.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
        Coefficients b.
    intercept_ : float
        Intercept b0, zero without one.
    sparse_coef_ : CSR array of shape (1, n_features)
        The coefficients without their zeros.
    support_ : ndarray of bool of shape (n_features,)
        Which coefficients are not zero.
    objective_ : float
        Value of the objective.
    dual_gap_ : float
        Upper bound, in the units of the objective, of its distance to the optimum;
        computed in float64 over all features.
    converged_ : bool
        Whether ``dual_gap_`` is within the tolerance.
    n_iter_ : int
        Number of working sets solved.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had any.

    See Also
    --------
    LassoCV : Chooses alpha.
    ElasticNet : Adds an l2 penalty.
    lasso_path : Solutions for many alphas.

    Notes
    -----
    A small working set is solved exactly, by coordinate descent and Newton steps on
    its Gram matrix; the strong rule (Tibshirani et al., 2012) proposes what may enter
    it, and a pass over all features catches the rule's errors and gives the gap.
    Callbacks tick once for every working set.

    NumPy arrays, DataFrames, sparse matrices, Dask collections and device arrays (CuPy)
    are taken. A device array is fitted by accelerated proximal gradient (FISTA), where
    ``max_iter`` counts hundreds of steps and ``n_iter_`` steps; ``coef_`` and ``support_``
    stay on the device, and predictions need device arrays, too.

    References
    ----------
    R. Tibshirani (1996). Regression shrinkage and selection via the lasso. *Journal
    of the Royal Statistical Society B* 58(1), 267-288.

    R. Tibshirani, J. Bien, J. Friedman, T. Hastie, N. Simon, J. Taylor and R. J.
    Tibshirani (2012). Strong rules for discarding predictors in lasso-type problems.
    *Journal of the Royal Statistical Society B* 74(2), 245-266.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sparsestat.linear_model import Lasso
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> lasso = Lasso(alpha=1.0).fit(X, y)
    >>> lasso.get_feature_names_out()
    array(['bmi', 'bp', 's5'], dtype=object)
    >>> bool(lasso.dual_gap_ < 1e-6 * y.var())
    True
    """

    _parameter_constraints: dict = {**_ElasticNetBase._parameter_constraints}

    def __init__(
        self,
        alpha=1.0,
        *,
        fit_intercept=True,
        penalty_factor=None,
        positive=False,
        tol=1e-6,
        max_iter=1000,
        warm_start=False,
    ):
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.penalty_factor = penalty_factor
        self.positive = positive
        self.tol = tol
        self.max_iter = max_iter
        self.warm_start = warm_start


class ElasticNet(_ElasticNetBase):
    """Linear regression with l1 and l2 penalties.

    Minimises, with weights w_i (ones unless given) of sum W and penalty factors s_j::

        1 / (2 W) sum_i w_i (y_i - x_i'b - b0)^2
            + alpha * sum_j s_j (l1_ratio |b_j| + (1 - l1_ratio) / 2 b_j^2)

    and certifies the result by its duality gap over all features.

    Parameters
    ----------
    alpha : float, default=1.0
        Strength of the penalty, positive.
    l1_ratio : float, default=0.5
        Share of the l1 penalty, in [0, 1]; 1 is the lasso, 0 is ridge regression, whose
        coefficients are not sparse.
    fit_intercept : bool, default=True
        Whether to fit the unpenalised intercept b0.
    penalty_factor : array-like of shape (n_features,), default=None
        Factors s_j; zero leaves a feature unpenalised. None stands for ones.
    positive : bool or array-like of bool of shape (n_features,), default=False
        Whether (which) coefficients must not be negative.
    tol : float, default=1e-6
        Largest duality gap relative to the objective of zero coefficients,
        ``sum_i w_i (y_i - ybar)^2 / (2 W)``, where ybar is zero without an intercept.
    max_iter : int, default=1000
        Largest number of working sets solved.
    warm_start : bool, default=False
        Whether to start from the coefficients of the previous fit.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
        Coefficients b.
    intercept_ : float
        Intercept b0, zero without one.
    sparse_coef_ : CSR array of shape (1, n_features)
        The coefficients without their zeros.
    support_ : ndarray of bool of shape (n_features,)
        Which coefficients are not zero.
    objective_ : float
        Value of the objective.
    dual_gap_ : float
        Upper bound, in the units of the objective, of its distance to the optimum;
        computed in float64 over all features.
    converged_ : bool
        Whether ``dual_gap_`` is within the tolerance.
    n_iter_ : int
        Number of working sets solved.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had any.

    See Also
    --------
    ElasticNetCV : Chooses alpha and l1_ratio.
    Lasso : Without the l2 penalty.

    Notes
    -----
    NumPy arrays, DataFrames, sparse matrices, Dask collections and device arrays (CuPy)
    are taken. A device array is fitted by accelerated proximal gradient (FISTA), where
    ``max_iter`` counts hundreds of steps and ``n_iter_`` steps; ``coef_`` and ``support_``
    stay on the device, and predictions need device arrays, too.

    References
    ----------
    H. Zou and T. Hastie (2005). Regularization and variable selection via the elastic
    net. *Journal of the Royal Statistical Society B* 67(2), 301-320.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sparsestat.linear_model import ElasticNet
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = ElasticNet(alpha=0.01, l1_ratio=0.7).fit(X, y)
    >>> model.converged_, int(model.support_.sum())
    (True, 10)
    """

    _parameter_constraints: dict = {
        **_ElasticNetBase._parameter_constraints,
        "l1_ratio": [Interval(Real, 0, 1, closed="both")],
    }

    def __init__(
        self,
        alpha=1.0,
        *,
        l1_ratio=0.5,
        fit_intercept=True,
        penalty_factor=None,
        positive=False,
        tol=1e-6,
        max_iter=1000,
        warm_start=False,
    ):
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.penalty_factor = penalty_factor
        self.positive = positive
        self.tol = tol
        self.max_iter = max_iter
        self.warm_start = warm_start

    def _l1_share(self):
        return self.l1_ratio
