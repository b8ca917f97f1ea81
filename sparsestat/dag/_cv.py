"""CoLiDE whose penalty is chosen by held-out likelihood or by an information criterion."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import check_cv
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data

from sparsestat.dag._central_path_params import check_path_params
from sparsestat.dag._colide import CoLiDE, SEMEstimator
from sparsestat.dag._path import resolve_alphas, solve_path
from sparsestat.dag._problem import ROUNDING, SEMProblem, residual_variances
from sparsestat.utils._callbacks import FitTicker
from sparsestat.utils._moments import GramAccumulator
from sparsestat.utils._sklearn import (
    Interval,
    StrOptions,
    _fit_context,
    with_callbacks,
)
from sparsestat.utils._threads import run_in_threads, single_threaded_blas
from sparsestat.utils._validation import check_frequency_weights


def mean_log_likelihood(attributes, moments):
    """Mean Gaussian log-density of rows that are known by their moments.

    Parameters
    ----------
    attributes : dict
        Fitted attributes; the refitted model counts.
    moments : GramAccumulator
        Moments of the rows.

    Returns
    -------
    score : float
        Its value. Columns without noise are left out; it is minus infinity if one varies.
    """
    scales = attributes["refit_noise_scales_"]
    noisy = scales > 0
    if moments.n_samples == 0:
        raise ValueError("sample_weight must not be zero for all rows of a fold.")
    shift = moments.x_mean - attributes["mean_"]
    S = moments.xx / moments.n_samples + np.outer(shift, shift)
    if np.any(np.sqrt(S.diagonal()[~noisy]) > ROUNDING * np.abs(attributes["mean_"][~noisy])):
        return -np.inf
    q = residual_variances(S, attributes["refit_adjacency_"])[noisy]
    scales = scales[noisy]
    return float(-0.5 * np.sum(np.log(2 * np.pi * scales**2) + q / scales**2))


class CoLiDECV(SEMEstimator):
    """CoLiDE with the penalty chosen from a grid.

    Likelihoods depend on the data through means and covariances alone, so that each fold
    costs one path of graphs, however many rows there are.

    Parameters
    ----------
    variance : {"equal", "unequal"}, default="equal"
        Whether all noise terms share one variance.
    alphas : int or array-like of shape (n_alphas,), default=30
        Penalties, or how many, on a logarithmic scale from the smallest one that lets no
        edge in.
    eps : float, default=1e-3
        Ratio of the last penalty to the first if ``alphas`` is a number.
    cv : int, cross-validation generator, iterable or None, default=None
        Splits; None is 5 folds of consecutive rows. Not used for ``scoring="bic"``.
    scoring : {"loglik", "bic"}, default="loglik"
        Mean log-likelihood of held-out rows, or Schwarz's criterion on all rows; both of
        the model that least squares give on the edges.
    n_jobs : int or None, default=None
        Number of threads that share the folds.
    criterion, penalty_scale, solver : see CoLiDE
        What is minimised, and how.
    init, max_sweeps, window, n_restarts : see CoLiDE
        From where, how long and how far to search.
    w_threshold, threshold_scale, refit : see CoLiDE
        What becomes of small weights, and of the others.
    sigma_min, forbidden_edges, required_edges, node_tiers, fit_intercept : see CoLiDE
        What restricts the model.
    path_params, tol, random_state : see CoLiDE
        Details of the solvers.

    Attributes
    ----------
    alpha_ : float
        The penalty chosen.
    alphas_ : ndarray of shape (n_alphas,)
        The grid, descending.
    scores_ : ndarray of shape (n_alphas, n_folds)
        Mean log-likelihood of the held-out rows, minus infinity in a fold with a column that
        varies there but not in the other rows; such folds do not count. For "bic", of shape
        (n_alphas, 1), minus the criterion.
    n_edges_ : ndarray of int of shape (n_alphas,)
        Edges of the graphs on all rows.
    adjacency_ : ndarray of shape (n_features, n_features)
        Weights of the graph at ``alpha_``. See :class:`CoLiDE` for this and all other
        attributes of a fitted model.

    See Also
    --------
    CoLiDE : At one penalty.
    colide_path : Graphs for many penalties.

    Notes
    -----
    The best prediction wants more edges than the true graph has: the held-out likelihood
    hardly falls for edges too many. For sparser graphs take "bic", or
    :func:`stability_selection`.

    NumPy arrays, DataFrames and sparse matrices are taken, not device arrays. Callbacks
    tick once for each penalty of the path on all rows.

    Examples
    --------
    >>> import warnings
    >>> from sparsestat.dag import CoLiDECV, SortabilityWarning
    >>> from sparsestat.datasets import make_sem
    >>> warnings.simplefilter("ignore", SortabilityWarning)  # the units are known to agree
    >>> X = make_sem(n_samples=300, n_nodes=6, degree=1, random_state=0).data
    >>> search = CoLiDECV(alphas=8, cv=3, random_state=0).fit(X)
    >>> search.scores_.shape
    (8, 3)
    """

    _parameter_constraints: dict = {
        **{
            name: valid
            for name, valid in CoLiDE._parameter_constraints.items()
            if name not in ("alpha", "warm_start")
        },
        "alphas": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "eps": [Interval(Real, 0, 1, closed="neither")],
        "cv": ["cv_object"],
        "scoring": [StrOptions({"loglik", "bic"})],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        variance="equal",
        *,
        alphas=30,
        eps=1e-3,
        cv=None,
        scoring="loglik",
        n_jobs=None,
        criterion="colide",
        penalty_scale="none",
        solver="order",
        init="auto",
        max_sweeps=20,
        window="auto",
        n_restarts=0,
        w_threshold="auto",
        threshold_scale="none",
        refit=False,
        sigma_min=None,
        forbidden_edges=None,
        required_edges=None,
        node_tiers=None,
        fit_intercept=True,
        path_params=None,
        tol=1e-8,
        random_state=None,
    ):
        self.variance = variance
        self.alphas = alphas
        self.eps = eps
        self.cv = cv
        self.scoring = scoring
        self.n_jobs = n_jobs
        self.criterion = criterion
        self.penalty_scale = penalty_scale
        self.solver = solver
        self.init = init
        self.max_sweeps = max_sweeps
        self.window = window
        self.n_restarts = n_restarts
        self.w_threshold = w_threshold
        self.threshold_scale = threshold_scale
        self.refit = refit
        self.sigma_min = sigma_min
        self.forbidden_edges = forbidden_edges
        self.required_edges = required_edges
        self.node_tiers = node_tiers
        self.fit_intercept = fit_intercept
        self.path_params = path_params
        self.tol = tol
        self.random_state = random_state

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Choose the penalty and learn the graph with it from all data.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data.
        y : Ignored
            For pipelines.
        sample_weight : array-like of shape (n_samples,), float or None, default=None
            How often each row occurs; counts in the scores of the folds, too.

        Returns
        -------
        self : CoLiDECV
            The fitted estimator.

        Raises
        ------
        ValueError
            For data that are not finite or of the wrong shape, and for a bad grid.
        """
        self._refuse_device(X, "fit")
        given = X, y, sample_weight
        X = validate_data(
            self, X, accept_sparse="csr", dtype=[np.float64, np.float32], ensure_min_samples=2
        )
        check_path_params(self.path_params)
        weights = check_frequency_weights(sample_weight, X)
        names = getattr(self, "feature_names_in_", None)
        own = self.get_params(deep=False)
        shared = {name: own[name] for name in CoLiDE().get_params() if name in own}
        model = CoLiDE(**shared)
        context = self._init_callback_context(max_subtasks=None)
        with single_threaded_blas(), FitTicker(self, context, *given) as ticker:
            moments = _moments_of_rows(X, weights)
            problem = SEMProblem(model, moments, names)
            alphas = resolve_alphas(self.alphas, self.eps, problem)

            def score_fold(split):
                (train, test), seed = split
                known, held_out = (_moments_of_rows(X, weights, rows) for rows in (train, test))
                if known.n_samples < 2:
                    raise ValueError(
                        "sample_weight must leave at least two rows to learn from in every fold."
                    )
                fold = SEMProblem(clone(model).set_params(random_state=seed), known, names)
                return [mean_log_likelihood(at, held_out) for at in solve_path(fold, alphas)]

            scores = None
            if self.scoring == "loglik":
                splits = list(check_cv(self.cv).split(X))
                # Drawn before the threads start, which must not share a generator.
                seeds = check_random_state(self.random_state).randint(2**31 - 1, size=len(splits))
                folds = list(zip(splits, seeds.tolist()))
                scores = np.array(run_in_threads(score_fold, folds, self.n_jobs)).T
            path = solve_path(problem, alphas, lambda state: ticker.tick("alpha", state))
            if scores is None:
                scores = np.array([[-self._schwarz(at, moments)] for at in path])
            best = _choose(scores[: len(path)])
            self._keep(problem.at(path[best]["alpha_"]), path[best])
        self.alphas_, self.scores_ = alphas, scores
        self.n_edges_ = np.array([np.count_nonzero(at["adjacency_"]) for at in path])
        total = moments.n_samples if weights is None else float((weights**2).sum())
        self.effective_sample_size_ = moments.n_samples**2 / total
        self._warn(problem)
        return self

    def _schwarz(self, attributes, moments):
        n = moments.n_samples
        noisy = int(np.count_nonzero(attributes["refit_noise_scales_"]))
        n_parameters = int(np.count_nonzero(attributes["adjacency_"]))
        n_parameters += min(noisy, 1) if self.variance == "equal" else noisy
        return -2.0 * n * mean_log_likelihood(attributes, moments) + np.log(n) * n_parameters


def _choose(scores):
    """Position of the best mean score over the folds that can tell penalties apart.

    A column that varies in the held-out rows only has no density under any graph.
    """
    finite = np.all(np.isfinite(scores), axis=0)
    if not finite.any():
        raise ValueError(
            "X has columns that vary in the held-out rows but not in the others, in every fold; "
            "shuffle the rows, for example by cv=KFold(5, shuffle=True)."
        )
    return int(np.argmax(scores[:, finite].mean(axis=1)))


def _moments_of_rows(X, weights, rows=None):
    if rows is not None:
        X = X[rows]
        weights = None if weights is None else weights[rows]
    return GramAccumulator().update(X, None, weights)
