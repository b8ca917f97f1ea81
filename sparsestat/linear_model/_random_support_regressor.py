"""Lasso beside the span of random columns, for designs on which the Lasso itself fails."""

from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
from scipy import sparse
from sklearn.utils.validation import check_is_fitted, validate_data

from sparsestat.linear_model._base import BestSoFar, SparseLinearModel, refuse_no_penalty
from sparsestat.linear_model._data import canonical_csc
from sparsestat.linear_model._folds import SplitterRouter, summarise_folds
from sparsestat.linear_model._path import warn_unless_converged
from sparsestat.linear_model._random_support import default_probe_counts, densify
from sparsestat.linear_model._random_support_search import (
    Fold,
    Settings,
    dense_columns,
    fit_paths,
    probe_grids,
    second_fit,
)
from sparsestat.utils._callbacks import FitTicker
from sparsestat.utils._random import as_generator
from sparsestat.utils._sklearn import Interval, StrOptions, _fit_context, with_callbacks
from sparsestat.utils._threads import run_in_threads, single_threaded_blas
from sparsestat.utils._validation import check_frequency_weights

_AROUND = (-0.15, -0.075, 0.0, 0.075, 0.15)
"""Places around the best strength, as shares of the grid, at which second fits are tried."""


class _Choice(NamedTuple):
    """What is fitted to all data.

    Parameters
    ----------
    draw, row : int
        Which permutation, and which of the numbers of probes.
    columns : ndarray of int
        Which strengths; several if the criterion of second fits is to choose.
    second : bool
        Whether there is a second fit.
    """

    draw: int
    row: int
    columns: np.ndarray
    second: bool


class RandomSupportRegressor(SplitterRouter, SparseLinearModel):
    """Sparse regression for ill-conditioned designs whose support is random.

    A few columns drawn at random, the probes, are fitted without a penalty; what is left of
    the other columns off their span is brought to one length and gets a Lasso. That is a
    weighted Lasso: with weights w_i (ones unless given) of sum W and ``s_j`` the root mean
    square of what the probes leave of the centred column j, it minimises::

        1 / (2 W) sum_i w_i (y_i - x_i'b - b0)^2 + alpha * sum_j s_j |b_j|

    where ``s_j = 0`` for the probes. A column that other columns nearly explain needs a large
    coefficient, for which a Lasso charges too much; beside random probes it is charged for
    what is new in it. The number of probes is chosen by cross-validation, and 0 is the Lasso
    on standardised columns.

    Parameters
    ----------
    n_probes : "cv", int or array-like of int, default="cv"
        Number of probes, or several to choose from by cross-validation. ``"cv"`` stands for
        0 and for 3, 7, 15 and 25 percent of the rows, unless that exceeds a third of the
        training rows of a fold.
    alpha : "cv" or float, default="cv"
        Strength of the penalty, positive, or ``"cv"`` to choose it from a grid of its own for
        every number of probes.
    n_alphas : int, default=40
        Number of strengths in a grid, spaced geometrically.
    eps : float, default=1e-3
        Smallest strength of a grid divided by the largest, at which all penalised
        coefficients are zero.
    cv : int, cross-validation generator or iterable, default=5
        Folds, as in scikit-learn; an integer does not shuffle.
    refit : {"cv", "ebic"} or None, default="cv"
        What becomes of the Lasso's solution. None leaves it as it is. ``"ebic"`` starts from
        its features (at most half as many as rows) and drops one after another; of the sets
        on the way that with the smallest extended Bayesian information criterion gets its
        least-squares coefficients. With several strengths the criterion also chooses among
        these. ``"cv"`` lets the folds decide between None and ``"ebic"``.
    n_draws : int, default=1
        Number of permutations whose beginnings are tried as probes; cross-validation chooses.
    fit_intercept : bool, default=True
        Whether to fit the unpenalised intercept b0.
    tol_span : float, default=1e-9
        Distance from the span of the probes, as a share of a column's own length, up to which
        a column counts as part of the span: a probe adds nothing to it, any other column has
        coefficient zero.
    max_bytes : int, default=2 * 2**30
        Largest dense copy, in bytes, that is made of a sparse X if there are to be probes;
        without probes X stays sparse.
    tol : float, default=1e-5
        Largest duality gap at every strength relative to the objective of zero penalised
        coefficients.
    max_iter : int, default=1000
        Largest number of working sets solved per strength.
    random_state : int, RandomState instance, Generator or None, default=None
        The source of the permutations. None stands for NumPy's global state.
    n_jobs : int or None, default=None
        Number of threads that work on folds; it never changes the result.

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
    probes_ : ndarray of int of shape (n_probes_,)
        The probes, in the order in which they were drawn.
    n_probes_ : int
        Their number.
    rank_ : int
        Dimension of their span.
    penalty_factor_ : ndarray of shape (n_features,)
        The factors s.
    alpha_ : float
        The strength of the penalty.
    refit_ : {"ebic", None}
        What became of the Lasso's solution.
    cv_results_ : dict of ndarrays
        One entry for each candidate: its ``"draw"``, ``"n_probes"``, ``"alpha"`` and
        ``"refit"`` (``"ebic"`` or ``"none"``), and ``"mean"`` and ``"std"``, the mean over
        the folds of the mean squared error on the rows left out, and its standard error.
        The strength of a second fit is NaN, since the criterion chooses one for each fold.
        Empty arrays if there was nothing to choose.
    cv_score_ : float
        The mean error of what was chosen; NaN if there was nothing to choose.
    plain_lasso_score_ : float
        The smallest mean error without probes and without a second fit, that is of the Lasso
        on standardised columns; NaN if 0 was not among the numbers of probes. On designs on
        which the Lasso does badly its best strength may lie below the grid; a smaller `eps`
        gives it a better chance.
    alphas_ : ndarray of shape (n_alphas,)
        Strengths tried with the chosen probes, descending.
    coef_path_ : ndarray or CSC array of shape (n_features, n_alphas)
        Coefficients at all of them on all data, before any second fit; sparse if X is.
    dual_gaps_ : ndarray of shape (n_alphas,)
        Duality gaps at all of them.
    objective_ : float
        Value of the objective at ``alpha_``, before any second fit.
    dual_gap_ : float
        Upper bound, in the units of the objective, of its distance to the optimum.
    converged_ : bool
        Whether ``dual_gap_`` is within the tolerance.
    n_iter_ : int
        Number of working sets solved at ``alpha_``.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had any.

    See Also
    --------
    LassoCV : The Lasso in the units of the columns.
    random_support_weights : The factors s for given probes.
    ProbesDisplay : Plots the errors against the number of probes.

    Notes
    -----
    The user guide proves that for every design, however ill-conditioned, and a uniformly
    random support the prediction error of this Lasso is small with enough probes and rows. The
    method is inspired by the work of Chandrasekaran, Meka and Stavropoulos, but it is not
    their algorithm, and nothing is promised for a support that an adversary chose, such as
    the only two columns that nearly equal each other.

    Columns are centred, weighted and divided by their norms before anything else, so that
    predictions do not depend on their units. Constant columns have coefficient zero. The
    basis of the span comes from Gram-Schmidt with a second pass.

    Means, norms, spans and factors are computed for the training rows of every fold alone;
    the permutation, and the grid of strengths for each number of probes, are those of all
    data. Second fits start from the solutions at five strengths around the best one for each
    number of probes. Many sets of nearly dependent columns predict alike; the folds tell them
    apart less well than the criterion does, which therefore chooses one of the five on the
    training rows of each fold. The folds choose the number of probes.

    Weights count rows: the default numbers of probes and the criterion depend on their sum, and
    weights that are normalised to a small sum stand for few rows, too few for any probe.

    NumPy arrays, DataFrames and sparse matrices are taken; device arrays are not. Callbacks
    tick for every number of probes of every fold, or for every working set if there is
    nothing to choose.

    References
    ----------
    G. Chandrasekaran, R. Meka and K. Stavropoulos (2025). Sparse linear regression is easy on
    random supports. arXiv:2511.06211.

    J. Kelner, F. Koehler, R. Meka and D. Rohatgi (2024). Lasso with latents: efficient
    estimation, covariate rescaling, and computational-statistical gaps. arXiv:2402.15409.

    J. Chen and Z. Chen (2008). Extended Bayesian information criteria for model
    selection with large model spaces. *Biometrika* 95(3), 759-771.

    Examples
    --------
    >>> from sparsestat.datasets import make_ill_conditioned_regression
    >>> from sparsestat.linear_model import RandomSupportRegressor
    >>> data = make_ill_conditioned_regression(200, 400, random_state=0)
    >>> model = RandomSupportRegressor(random_state=1).fit(data.data, data.target)
    >>> model.n_probes_ > 0
    True
    >>> bool(model.cv_score_ < 0.5 * model.plain_lasso_score_)
    True
    """

    _parameter_constraints: dict = {
        "n_probes": [
            StrOptions({"cv"}),
            Interval(Integral, 0, None, closed="left"),
            "array-like",
        ],
        "alpha": [StrOptions({"cv"}), Interval(Real, 0, None, closed="left")],
        "n_alphas": [Interval(Integral, 1, None, closed="left")],
        "eps": [Interval(Real, 0, 1, closed="neither")],
        "cv": ["cv_object"],
        "refit": [StrOptions({"cv", "ebic"}), None],
        "n_draws": [Interval(Integral, 1, None, closed="left")],
        "fit_intercept": ["boolean"],
        "tol_span": [Interval(Real, 0, 1, closed="neither")],
        "max_bytes": [Interval(Integral, 0, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state", np.random.Generator],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        n_probes="cv",
        alpha="cv",
        *,
        n_alphas=40,
        eps=1e-3,
        cv=5,
        refit="cv",
        n_draws=1,
        fit_intercept=True,
        tol_span=1e-9,
        max_bytes=2 * 2**30,
        tol=1e-5,
        max_iter=1000,
        random_state=None,
        n_jobs=None,
    ):
        self.n_probes = n_probes
        self.alpha = alpha
        self.n_alphas = n_alphas
        self.eps = eps
        self.cv = cv
        self.refit = refit
        self.n_draws = n_draws
        self.fit_intercept = fit_intercept
        self.tol_span = tol_span
        self.max_bytes = max_bytes
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state
        self.n_jobs = n_jobs

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, **params):
        """Choose probes and strength, and fit the model to all data.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The design. A sparse X stays sparse without probes, and is densified with probes
            if that takes no more than `max_bytes`.
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
            For data that are not finite or of the wrong shape, for as many probes as rows,
            for weights that are negative or all zero, and for a sparse X whose dense copy
            exceeds `max_bytes`.

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
        if self.alpha != "cv":
            refuse_no_penalty(self.alpha, has_factors=False)
        dtype, is_sparse = X.dtype, sparse.issparse(X)
        y = np.asarray(y, dtype=np.float64)
        weights = check_frequency_weights(sample_weight, X)
        splits = self._list_folds(X, y, routed) if self._has_choice() else []
        counts = self._probe_counts(X, weights, splits)
        if is_sparse:
            X = densify(X, self.max_bytes) if counts[-1] > 0 else canonical_csc(X)
        rng = as_generator(self.random_state)
        orders = [rng.permutation(X.shape[1]) for _ in range(self.n_draws)]
        settings = Settings(self.fit_intercept, self.tol_span, self.tol, self.max_iter)
        context = self._init_callback_context(
            max_subtasks=None, sequential_subtasks=len(splits) == 0
        )
        with FitTicker(self, context, *given) as ticker:
            with single_threaded_blas():
                grids = [self._grids(settings, X, y, weights, order, counts) for order in orders]
            if splits:
                folds = [
                    [Fold(settings, X, y, weights, train, test) for train, test in splits]
                    for _ in orders
                ]
                choice = self._search(folds, orders, counts, grids, dtype, ticker)
            else:
                folds, choice = [], _Choice(0, 0, np.array([0]), self.refit == "ebic")
                self._store_results([], [])
            order = orders[choice.draw]
            count, grid = int(counts[choice.row]), grids[choice.draw][choice.row]
            with single_threaded_blas():
                self._fit_choice(
                    settings, X, y, weights, order, count, grid, choice, dtype,
                    is_sparse, None if splits else ticker,
                )  # fmt: skip
        for fold in [fold for draw in folds for fold in draw]:
            for fit in fold.fits:
                warn_unless_converged(fit.points, self.tol, fit.required, stacklevel=4)
        return self

    def path(self):
        """Return the coefficients at all strengths with the chosen probes, before any second fit.

        Returns
        -------
        alphas : ndarray of shape (n_alphas,)
            The strengths, descending.
        coefs : ndarray or CSC array of shape (n_features, n_alphas)
            The coefficients, sparse if X was.
        dual_gaps : ndarray of shape (n_alphas,)
            Duality gaps, in the units of the objective.
        """
        check_is_fitted(self)
        return self.alphas_, self.coef_path_, self.dual_gaps_

    def _has_choice(self):
        """Whether cross-validation has anything to decide."""
        single = not isinstance(self.n_probes, str) and np.size(self.n_probes) == 1
        return not (single and self.alpha != "cv" and self.refit != "cv" and self.n_draws == 1)

    def _probe_counts(self, X, weights, splits):
        """Numbers of probes to try, increasing."""
        totals = [_total(X.shape[0], weights)]
        totals += [_total(len(train), weights, train) for train, _ in splits]
        if isinstance(self.n_probes, str):
            return default_probe_counts(totals[0], min(totals), X.shape[1])
        counts = np.atleast_1d(np.asarray(self.n_probes))
        if counts.ndim != 1 or counts.size == 0 or not np.issubdtype(counts.dtype, np.integer):
            raise ValueError(
                "n_probes must be 'cv', an integer or a one-dimensional array of integers, got "
                f"{self.n_probes!r}."
            )
        if counts.min() < 0:
            raise ValueError(f"n_probes must not be negative, got {counts.min()}.")
        counts = np.unique(counts).astype(np.int64)
        if counts[-1] > 0 and counts[-1] >= min(totals) - 1:
            smallest = min(totals)
            where = (
                f"n_samples={smallest:g}"
                if weights is None
                else (f"a total sample_weight of {smallest:g}")
            )
            if len(splits) > 0:
                where = f"the smallest fold trains on {where}"
            raise ValueError(
                f"n_probes must be less than n_samples - 1 so that something is left to judge the "
                f"other columns by, got n_probes={counts[-1]} where {where}."
            )
        return np.unique(np.minimum(counts, X.shape[1]))

    def _grids(self, settings, X, y, weights, order, counts):
        if self.alpha != "cv":
            return [np.array([float(self.alpha)])] * len(counts)
        return probe_grids(settings, X, y, weights, order, counts, self.n_alphas, self.eps)

    def _search(self, folds, orders, counts, grids, dtype, ticker):
        """Run all folds, and choose."""
        n_features = orders[0].size
        jobs = [(d, f) for d in range(len(orders)) for f in range(len(folds[0]))]

        def run(numbered):
            number, (draw, index) = numbered
            numbers = iter(range(number * len(counts), (number + 1) * len(counts)))

            def report(fit):
                ticker.tick(
                    "number of probes",
                    lambda: _attributes(
                        fit.features, fit.coefs[:, -1], fit.x_mean, fit.y_mean, n_features, dtype
                    ),
                    task_id=next(numbers),
                )

            return folds[draw][index].run(orders[draw], counts, grids[draw], report)

        shape = (len(orders), len(folds[0]), len(counts))
        first = np.array(run_in_threads(run, enumerate(jobs), self.n_jobs))
        mean, deviation = summarise_folds(np.moveaxis(first.reshape(*shape, -1), 1, -1))
        draws, rows, columns = np.indices(mean.shape)
        table = [(draws, counts[rows], _pick(grids, draws, rows, columns), "none", mean, deviation)]
        draw, row, column = map(int, np.unravel_index(np.argmin(mean), mean.shape))
        choice, score = _Choice(draw, row, np.array([column]), False), mean.min()
        if self.refit is not None:
            size = mean.shape[-1]
            steps = np.round(np.array(_AROUND) * size).astype(np.int64)
            around = np.clip(mean.argmin(axis=-1)[..., None] + steps, 0, size - 1)

            def run_second(job):
                draw, index = job
                return folds[draw][index].run_second(around[draw])

            second = np.array(run_in_threads(run_second, jobs, self.n_jobs))
            again, spread = summarise_folds(np.moveaxis(second.reshape(shape), 1, -1))
            draws, rows = np.indices(again.shape)
            table.append((draws, counts[rows], np.nan, "ebic", again, spread))
            if self.refit == "ebic" or again.min() < score:
                draw, row = map(int, np.unravel_index(np.argmin(again), again.shape))
                choice, score = _Choice(draw, row, np.unique(around[draw, row]), True), again.min()
        self._store_results(table, counts)
        self.cv_score_ = float(score)
        return choice

    def _store_results(self, table, counts):
        names = ("draw", "n_probes", "alpha", "refit", "mean", "std")
        parts = {name: [] for name in names}
        for *columns, refit, mean, deviation in table:
            for name, values in zip(names, (*columns, refit, mean, deviation)):
                parts[name].append(np.broadcast_to(np.asarray(values), mean.shape).ravel())
        self.cv_results_ = {
            name: np.concatenate(values) if values else np.empty(0)
            for name, values in parts.items()
        }
        self.cv_score_ = self.plain_lasso_score_ = np.nan
        if len(counts) and counts[0] == 0:
            results = self.cv_results_
            plain = (results["n_probes"] == 0) & (results["refit"] == "none")
            self.plain_lasso_score_ = float(results["mean"][plain].min())

    def _fit_choice(
        self, settings, X, y, weights, order, count, grid, choice, dtype, is_sparse, ticker
    ):
        """Fit what was chosen to all data, and set the fitted attributes."""
        n_features = X.shape[1]

        def progress(columns, path, alpha):
            def attributes(solution):
                used, coefs = columns.coefficients([solution])
                return _attributes(
                    used, coefs[:, 0], columns.x_mean[used], columns.y_mean, n_features, dtype
                )

            return BestSoFar(ticker, lambda: path.objective(alpha), path.solver.support, attributes)

        (fit,) = fit_paths(
            settings, X, y, weights, order, [count], [grid],
            progress=None if ticker is None else progress,
        )  # fmt: skip
        position = choice.columns[0]
        features, coefs, x_mean = fit.features, fit.coefs[:, position], fit.x_mean
        if choice.second:
            features, coefs, x_mean, position, _ = second_fit(
                settings, lambda used: dense_columns(X, used), y, weights, fit,
                choice.columns, n_features,
            )  # fmt: skip
        fitted = _attributes(features, coefs, x_mean, fit.y_mean, n_features, dtype)
        for name, value in fitted.items():
            setattr(self, name, value)
        point = fit.points[position]
        self.probes_, self.n_probes_, self.rank_ = order[:count].copy(), count, fit.rank
        self.penalty_factor_ = fit.penalty_factor
        self.alpha_, self.refit_ = float(point.alpha), "ebic" if choice.second else None
        self.alphas_ = np.asarray(grid)
        coef_path = np.zeros((n_features, len(grid)), dtype=dtype, order="F")
        coef_path[fit.features] = fit.coefs
        self.coef_path_ = sparse.csc_array(coef_path) if is_sparse else coef_path
        self.dual_gaps_ = np.array([point.dual_gap for point in fit.points])
        self.objective_, self.dual_gap_ = point.objective, point.dual_gap
        self.converged_, self.n_iter_ = bool(point.converged), point.n_iter
        warn_unless_converged(fit.points, self.tol, fit.required, stacklevel=5)


def _total(n_samples, weights, rows=slice(None)):
    return float(n_samples) if weights is None else float(weights[rows].sum())


def _pick(grids, draws, rows, columns):
    """Strengths at the given places of the grids."""
    return np.array(grids)[draws, rows, columns]


def _attributes(features, coefs, x_mean, y_mean, n_features, dtype):
    coef = np.zeros(n_features)
    coef[features] = coefs
    rounded = coef.astype(dtype, copy=False)
    return {
        "coef_": rounded,
        "intercept_": float(y_mean - x_mean @ rounded[features].astype(np.float64)),
        "support_": coef != 0,
    }
