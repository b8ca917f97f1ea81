"""CoLiDE: learn a linear structural equation model together with its noise scales."""

import contextlib
import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import validate_data

from sparsestat.dag._central_path_params import check_path_params
from sparsestat.dag._linear_sem import LinearSEMMixin
from sparsestat.dag._problem import SEMProblem
from sparsestat.dag._units import describe_units, warn_about_units
from sparsestat.utils._callbacks import FitTicker
from sparsestat.utils._moments import GramAccumulator, is_dask_collection, moments_of_checked
from sparsestat.utils._sklearn import (
    CallbackSupportMixin,
    Interval,
    StrOptions,
    _check_feature_names,
    _check_n_features,
    _fit_context,
    with_callbacks,
)
from sparsestat.utils._threads import single_threaded_blas
from sparsestat.utils._validation import check_frequency_weights, set_columns

_COLUMNS = ("n_features_in_", "feature_names_in_")
_POSITIVE = Interval(Real, 0, None, closed="neither")
_NOT_NEGATIVE = Interval(Real, 0, None, closed="left")


class SEMEstimator(CallbackSupportMixin, LinearSEMMixin, BaseEstimator):
    """What estimators have in common that learn a graph from moments."""

    def _keep(self, problem, attributes, search=None):
        """Set the fitted attributes, after everything that may fail."""
        units = describe_units(problem, attributes, search)
        for name, value in attributes.items():
            setattr(self, name, value)
        self.sortability_ = units

    def _warn(self, problem, stopped=False):
        """Say what the user should know; that a callback stopped the fit is known."""
        if len(problem.constant):
            names = getattr(self, "feature_names_in_", problem.constant)
            if names is not problem.constant:
                names = names[problem.constant]
            warnings.warn(
                "Constant columns get no edges and a noise scale of zero: "
                f"{', '.join(str(name) for name in names[:10])}.",
                UserWarning,
                stacklevel=6,
            )
        if not self.converged_ and not stopped:
            if self.solver == "order":
                message = (
                    f"The search was not finished after max_sweeps={self.max_sweeps} sweeps: the "
                    f"last one gained {problem.last_gain:.2e}, required is a gain of at most "
                    f"{self.tol * abs(self.objective_):.2e}. The graph is acyclic and optimal for "
                    "its order, but better orders are near."
                )
            else:
                message = (
                    "The last stage of the central path ran out of iterations before its "
                    "objective changed by less than path_params['tol']."
                )
            warnings.warn(message, ConvergenceWarning, stacklevel=6)
        warn_about_units(self.sortability_, stacklevel=7)


class CoLiDE(SEMEstimator):
    """Directed acyclic graph of a linear model, by concomitant estimation of the noise scales.

    With the covariance S of the columns of X, minimises over the weighted adjacency
    matrices W of directed acyclic graphs (``W[i, j] != 0`` for an edge from i to j)::

        equal:    tr((I - W)' S (I - W)) / (2 s) + d s / 2         + alpha sum_ij p_i |W_ij|
        unequal:  1/2 sum_j (e_j - w_j)' S (e_j - w_j) / s_j + s_j + alpha sum_ij p_i |W_ij|

    and over the noise standard deviations s, so that the right alpha does not depend on
    the noise level of the model [1]_.

    Parameters
    ----------
    variance : {"equal", "unequal"}, default="equal"
        Whether all noise terms share one variance, or each variable has its own.
    criterion : {"colide", "bic"}, default="colide"
        "bic" keeps the search but replaces the criterion by the log-likelihood with a
        price for each edge, ``n sum_j log s_j + alpha log(n) |edges|``, which for unequal
        variances does not depend on the units of the columns. Only the Markov
        equivalence class, :meth:`cpdag`, is then meaningful. The parents in an order are
        then found by greedy growing and shrinking, not exactly.
    alpha : float or "auto", default="auto"
        Strength of the penalty, positive. "auto" is ``sqrt(log(d) / n)`` times the smallest
        standard deviation of a column (of a root, in a model) or, if ``penalty_scale`` is
        "columns", without that factor; for the "bic" criterion it is 1, twice the price of
        Schwarz's criterion.
    penalty_scale : {"none", "columns"}, default="none"
        Penalty factors p_i: ones, or the standard deviation of the parent. The latter
        often helps for unequal variances and 50 or more nodes; it harms for equal ones.
    solver : {"order", "central-path"}, default="order"
        "order" solves the convex problem of a given node order exactly and searches over
        orders. "central-path" is the algorithm of the paper, for comparison: gradient
        steps on W under a log-determinant barrier, slower by orders of magnitude, and no
        DAG before the threshold.
    init : {"auto", "top-down", "variance"} or array-like of shape (n_features,), \
            default="auto"
        Where the search begins: with the variable of least residual variance next, with
        increasing variances, or with an order given, parents first. "auto" is "top-down"
        and, for unequal variances, the better end of both.
    max_sweeps : int, default=20
        Largest number of sweeps over the nodes; zero keeps the first order.
    window : int, "auto" or None, default="auto"
        Largest number of positions by which a node is moved at once. None sets no limit,
        "auto" does so up to 50 nodes and stands for 10 beyond.
    n_restarts : int, default=0
        Number of further searches from perturbations of the best order.
    w_threshold : float or "auto", default="auto"
        Edges of smaller absolute weight are removed. "auto" is 0.3, as in the paper, and
        zero for the "bic" criterion.
    threshold_scale : {"none", "standardized"}, default="none"
        Whether weights are compared with the threshold as they are, or in standard
        deviations of child per standard deviation of parent.
    refit : bool, default=False
        Whether weights and noise scales are fitted again, by least squares on the edges
        that remain, which removes the shrinkage.
    sigma_min : float or None, default=None
        Smallest noise scale. None is a thousandth of the smallest standard deviation of a
        column ("order"), or no limit ("central-path").
    forbidden_edges : list of pairs or mask of shape (n_features, n_features), default=None
        Edges (parent, child), by position or name, that must not be.
    required_edges : list of pairs or mask of shape (n_features, n_features), default=None
        Edges whose weights are neither penalised nor removed ("order" only).
    node_tiers : array-like of shape (n_features,) or dict, default=None
        Tier of each node; no edge goes from a later tier to an earlier one.
    fit_intercept : bool, default=True
        Whether columns are centred.
    path_params : dict or None, default=None
        Settings of the central path: ``mu``, ``s``, ``warm_iter``, ``max_iter``, ``lr``,
        ``betas``, ``eps``, ``checkpoint``, ``tol``. The defaults are the paper's.
    tol : float, default=1e-8
        Gain of a sweep, relative to the objective, below which the search ends.
    warm_start : bool, default=False
        Whether to begin with the order of the previous fit.
    random_state : int, RandomState instance or None, default=None
        Draws the turns of the nodes, and the restarts.

    Attributes
    ----------
    adjacency_ : ndarray of shape (n_features, n_features)
        Weights, ``[i, j]`` from i to j, after the threshold. Always acyclic.
    coef_raw_ : ndarray of shape (n_features, n_features)
        Weights before the threshold. Acyclic for the "order" solver.
    order_ : ndarray of shape (n_features,)
        A topological order, parents first.
    noise_scale_ : float or ndarray of shape (n_features,)
        Noise standard deviation, shared or of each node.
    noise_scales_ : ndarray of shape (n_features,)
        Of each node in any case; zero for constant columns.
    mean_ : ndarray of shape (n_features,)
        Means of the columns; zeros without intercept.
    covariance_ : ndarray of shape (n_features, n_features)
        Covariance that ``adjacency_`` and ``noise_scales_`` imply.
    refit_adjacency_, refit_noise_scales_ : ndarray
        Least squares on the edges of ``adjacency_``: the Gaussian model behind
        :meth:`score`, :meth:`aic` and :meth:`bic`.
    alpha_ : float
        Strength of the penalty that was used.
    objective_ : float
        Value of the criterion at ``coef_raw_``.
    score_path_ : ndarray
        The objective at the first order and after each sweep, the best so far; for the
        central path, of its last stage (with the barrier) at the checkpoints.
    n_iter_ : int
        Number of sweeps, or of gradient steps.
    converged_ : bool
        Whether the last sweep gained no more than the tolerance (the last stage of the path
        met its own). It is a local optimum over orders.
    sortability_ : Bunch
        ``var_sortability`` and ``r2_sortability`` of the learned graph, ``objective_variance``
        of the order by variance (None for the central path), ``standardised``, ``suspicious``.
    has_mean_ : bool
        Whether means are known: False after :meth:`fit_cov` without any.
    moments_ : GramAccumulator
        Means and products of the columns that the fit has seen, on which it depends alone.
    n_samples_seen_ : float
        Sum of the weights.
    effective_sample_size_ : float
        ``(sum w)^2 / sum w^2``, for information.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if X had any.

    Warns
    -----
    ConvergenceWarning
        If the search was not finished within ``max_sweeps``.
    SortabilityWarning
        If columns look standardised, or the graph is hardly more than the order of the
        variances, so that it may rest on the units of the columns.
    UserWarning
        For constant columns, which get no edges.

    See Also
    --------
    CoLiDECV : Chooses alpha.
    colide_path : Graphs for many alphas.
    bootstrap_edges : How stable the edges are.

    Notes
    -----
    In a given order the criterion is convex and falls apart into one square-root lasso for
    each node (one lasso at a shared scale, for equal variances), which an active-set method
    solves exactly on the covariance. The search moves one node at a time to its best
    position. All that depends on the data is their covariance; X is read in blocks.

    The criteria depend on the units of the columns, and graphs learned from them do.
    Standardising the columns destroys what "equal" rests on. See the user guide.

    Rows of weight 2 count twice. NumPy arrays, DataFrames, sparse matrices and Dask
    collections are taken; for arrays on a device there is :func:`colide_central_path`.
    Callbacks tick once for every sweep.

    References
    ----------
    .. [1] Saboksayr, S. S., Mateos, G. and Tepper, M. (2024). CoLiDE: concomitant linear
       DAG estimation. ICLR. arXiv:2310.02895.
    .. [2] Chen, W., Drton, M. and Wang, Y. S. (2019). On causal discovery with an
       equal-variance assumption. Biometrika 106, 973-980.

    Examples
    --------
    >>> import warnings
    >>> from sparsestat.dag import CoLiDE, SortabilityWarning, structural_hamming_distance
    >>> from sparsestat.datasets import make_sem
    >>> warnings.simplefilter("ignore", SortabilityWarning)  # the units are known to agree
    >>> model = make_sem(n_samples=1000, n_nodes=8, degree=1, random_state=0)
    >>> learned = CoLiDE(random_state=0).fit(model.data)
    >>> structural_hamming_distance(model.adjacency, learned.adjacency_)
    0
    >>> round(learned.noise_scale_, 1)
    1.0
    """

    _parameter_constraints: dict = {
        "variance": [StrOptions({"equal", "unequal"})],
        "criterion": [StrOptions({"colide", "bic"})],
        "alpha": [_POSITIVE, StrOptions({"auto"})],
        "penalty_scale": [StrOptions({"none", "columns"})],
        "solver": [StrOptions({"order", "central-path"})],
        "init": [StrOptions({"auto", "top-down", "variance"}), "array-like"],
        "max_sweeps": [Interval(Integral, 0, None, closed="left")],
        "window": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"}), None],
        "n_restarts": [Interval(Integral, 0, None, closed="left")],
        "w_threshold": [_NOT_NEGATIVE, StrOptions({"auto"})],
        "threshold_scale": [StrOptions({"none", "standardized"})],
        "refit": ["boolean"],
        "sigma_min": [_POSITIVE, None],
        "forbidden_edges": ["array-like", None],
        "required_edges": ["array-like", None],
        "node_tiers": ["array-like", dict, None],
        "fit_intercept": ["boolean"],
        "path_params": [dict, None],
        "tol": [_NOT_NEGATIVE],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        variance="equal",
        *,
        criterion="colide",
        alpha="auto",
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
        warm_start=False,
        random_state=None,
    ):
        self.variance = variance
        self.criterion = criterion
        self.alpha = alpha
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
        self.warm_start = warm_start
        self.random_state = random_state

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Learn the graph.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Data, at least two rows. A sparse X is densified one block at a time; Dask
            arrays and dataframes are reduced to moments, one partition at a time.
        y : Ignored
            For pipelines.
        sample_weight : array-like of shape (n_samples,), float or None, default=None
            How often each row occurs: weight 2 is the row twice.

        Returns
        -------
        self : CoLiDE
            The fitted estimator.

        Raises
        ------
        ValueError
            For data that are not finite or of the wrong shape, for weights that are
            negative or sum to less than two, and for constraints that contradict each other.
        """
        previous = getattr(self, "order_", None) if self.warm_start else None
        with self._columns_kept_on_error():
            moments, size = self._summarise(X, sample_weight, reset=True)
            return self._learn(moments, size, (X, y, sample_weight), previous)

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit_cov(self, covariance, n_samples, mean=None):
        """Learn the graph from a covariance instead of data.

        Parameters
        ----------
        covariance : array-like of shape (n_features, n_features)
            Covariance of the columns, divided by the number of samples.
        n_samples : float
            Number of samples behind it, at least 2.
        mean : array-like of shape (n_features,), default=None
            Means of the columns. With None, predictions take them for zeros, and
            :meth:`partial_fit` cannot go on from here.

        Returns
        -------
        self : CoLiDE
            The fitted estimator.

        Raises
        ------
        ValueError
            For a matrix that is not symmetric and positive semidefinite.
        """
        moments = _moments_of_covariance(covariance, n_samples, mean)
        previous = getattr(self, "order_", None) if self.warm_start else None
        with self._columns_kept_on_error():
            set_columns(self, moments.n_features, covariance)
            self._learn(moments, moments.n_samples, (None, None, None), previous)
        self.has_mean_ = mean is not None or not self.fit_intercept
        return self

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, sample_weight=None):
        """Learn from more rows, beginning with the present order beside the usual ones.

        Only moments of the rows before are kept; the graph is that of all rows so far.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            More rows: at least two at the first call, later possibly a single one.
        y : Ignored
            For pipelines.
        sample_weight : array-like of shape (n_samples,), float or None, default=None
            How often each row occurs.

        Returns
        -------
        self : CoLiDE
            The fitted estimator. After an error it is as it was before.

        Raises
        ------
        ValueError
            For bad data, and after :meth:`fit_cov` without the means, which are needed to
            combine it with more rows.
        """
        first = not hasattr(self, "moments_")
        given = X, y, sample_weight
        if first:
            with self._columns_kept_on_error():
                moments, size = self._summarise(X, sample_weight, reset=True)
                return self._learn(moments, size, given, None)
        if not self.has_mean_:
            raise ValueError(
                "partial_fit cannot go on from a covariance whose mean is unknown; pass mean to "
                "fit_cov."
            )
        moments, size = self._summarise(X, sample_weight, reset=False)
        seen = self.moments_.n_samples**2 / self.effective_sample_size_
        more = moments.n_samples**2 / size
        moments = self.moments_ + moments
        size = moments.n_samples**2 / (seen + more)
        return self._learn(moments, size, given, self.order_, alone=False)

    def _summarise(self, X, sample_weight, *, reset):
        """Moments of the data, and their effective sample size."""
        if is_dask_collection(X):
            moments = GramAccumulator.from_dask(X, None, sample_weight)
            if reset:
                set_columns(self, moments.n_features, X)
            else:
                _check_feature_names(self, getattr(X, "_meta", X), reset=False)
                _check_n_features(self, np.empty((0, moments.n_features)), reset=False)
            if sample_weight is None:
                return moments, moments.n_samples
            if np.ndim(sample_weight) == 0:
                return moments, moments.n_samples / float(sample_weight)
            return moments, moments.n_samples**2 / float((sample_weight**2).sum().compute())
        self._refuse_device(X, "fit")
        X = validate_data(
            self,
            X,
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            reset=reset,
            ensure_min_samples=2 if reset else 1,
        )
        weights = check_frequency_weights(sample_weight, X)
        with single_threaded_blas():
            moments = moments_of_checked(X, weights)
        if weights is None:
            return moments, moments.n_samples
        return moments, float(weights.sum() ** 2 / (weights**2).sum())

    @contextlib.contextmanager
    def _columns_kept_on_error(self):
        """Restore what was known of the columns if a fit fails after they were checked."""
        before = {name: getattr(self, name) for name in _COLUMNS if hasattr(self, name)}
        try:
            yield
        except Exception:
            for name in _COLUMNS:
                if name in before:
                    setattr(self, name, before[name])
                elif hasattr(self, name):
                    delattr(self, name)
            raise

    def _learn(self, moments, effective_size, given, previous, *, alone=True):
        """Solve the problem that the moments pose, and keep the result.

        A previous order is where the search begins, alone or beside the usual starts.
        """
        if not moments.n_samples >= 2:
            raise ValueError(
                "sample_weight counts rows, which must be at least two, "
                f"got a sum of {moments.n_samples:g}."
            )
        check_path_params(self.path_params)
        names = getattr(self, "feature_names_in_", None)
        if previous is not None and len(previous) != moments.n_features:
            previous = None
        context = self._init_callback_context(max_subtasks=None)
        with single_threaded_blas(), FitTicker(self, context, *given) as ticker:
            problem = SEMProblem(self, moments, names)
            report = (lambda state: ticker.tick("sweep", state)) if ticker.active else None
            search = problem.search() if self.solver == "order" and len(problem.nodes) else None
            attributes = problem.solve(report, search=search, previous=previous, alone=alone)
            self._keep(problem, attributes, search)
        self.effective_sample_size_ = float(effective_size)
        self.has_mean_ = True
        self._warn(problem, stopped=ticker.stopped)
        return self


def _moments_of_covariance(covariance, n_samples, mean):
    if np.iscomplexobj(covariance):
        raise ValueError("covariance must hold real numbers, got complex ones.")
    try:
        S = np.array(covariance, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"covariance must hold real numbers, got {covariance!r}.") from error
    if S.ndim != 2 or S.shape[0] != S.shape[1] or S.size == 0:
        raise ValueError(f"covariance must be a square matrix, got shape {S.shape}.")
    if not np.all(np.isfinite(S)):
        raise ValueError("covariance contains NaN or infinity.")
    size = np.sqrt(np.abs(S.diagonal()))
    slack = 1e-8 * np.outer(size, size)
    if np.any(np.abs(S - S.T) > slack + 1e-300):
        raise ValueError("covariance must be symmetric.")
    S = (S + S.T) / 2
    scale = np.where(size > 0, size, 1.0)
    least = np.linalg.eigvalsh(S / np.outer(scale, scale)).min()
    if S.diagonal().min() < 0 or least < -1e-8 * len(S):
        raise ValueError(
            "covariance must be positive semidefinite, but scaled to unit diagonal it has the "
            f"eigenvalue {least:.2g}."
        )
    if not isinstance(n_samples, Real) or not 2 <= float(n_samples) < np.inf:
        raise ValueError(f"n_samples must be a number of at least 2, got {n_samples!r}.")
    try:
        mean = np.zeros(len(S)) if mean is None else np.array(mean, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"mean must hold real numbers, got {mean!r}.") from error
    if mean.shape != (len(S),) or not np.all(np.isfinite(mean)):
        raise ValueError(
            f"mean must hold {len(S)} finite numbers, one for each column, got {mean!r}."
        )
    return GramAccumulator.from_moments(float(n_samples), mean, float(n_samples) * S)
