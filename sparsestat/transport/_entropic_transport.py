"""Move a sample onto another one by entropic optimal transport."""

import math
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from sparsestat.transport._costs import METRICS
from sparsestat.transport._divergence import sinkhorn_divergence
from sparsestat.transport._maps import cost_blocks, row_averages, transposed_source
from sparsestat.transport._points import points_problem
from sparsestat.transport._problem import check_weights
from sparsestat.transport._result import solution_at
from sparsestat.transport._sinkhorn import METHODS, solve, warn_not_converged
from sparsestat.utils._arrays import check_device_array, get_namespace
from sparsestat.utils._callbacks import FitTicker
from sparsestat.utils._random import as_generator
from sparsestat.utils._sklearn import (
    CallbackSupportMixin,
    Interval,
    StrOptions,
    _fit_context,
    _get_feature_names,
    with_callbacks,
)
from sparsestat.utils._validation import check_frequency_weights, set_columns

_POSITIVE = Interval(Real, 0, None, closed="neither")


class EntropicTransport(
    CallbackSupportMixin, OneToOneFeatureMixin, TransformerMixin, BaseEstimator
):
    """Map a sample onto a target sample by entropic optimal transport.

    Finds the plan P that minimises <C, P> + epsilon KL(P | a b') between the rows of X, with
    weights a, and the target points, with weights b, and maps a point x to the mean of the
    target points under the plan::

        T(x) = sum_j w_j(x) y_j,   w(x) = softmax_j((g_j - c(x, y_j)) / epsilon + log b_j)

    with g the potential of the target. For a row of X this is the mean under its row of the
    plan; for any other point it is the entropic estimate of the optimal transport map [1]_.

    Parameters
    ----------
    target : array-like of shape (n_target, n_features) or None, default=None
        The sample to map to. None stands for ``n_target`` points of a standard normal
        distribution, so that the estimator makes its input roughly Gaussian.
    target_weight : array-like of shape (n_target,) or None, default=None
        Non-negative weights of the target points, of any total; None for equal ones.
    n_target : int, default=256
        Number of points if ``target`` is None.
    epsilon : float or None, default=None
        Regularisation, positive; None for 0.05 times the mean cost under the weights.
    epsilon_scale : {"absolute", "mean", "max", "median"}, default="absolute"
        What ``epsilon`` is a multiple of: one, or a statistic of the costs.
    metric : {"sqeuclidean", "euclidean", "cityblock"} or callable, default="sqeuclidean"
        The cost between two points, see :func:`sinkhorn_points`. Means are what squared
        Euclidean costs call for.
    method : {"auto", "kernel", "log", "newton", "sns", "truncated"}, default="auto"
        The solver, see :func:`sinkhorn`.
    tol : float, default=1e-9
        Wanted error of the marginals, for a total mass of one.
    max_iter : int, default=10000
        Largest number of sweeps and Newton steps.
    reg_source : float, default=inf
        Strength of the penalty KL(P 1 | a) that replaces the constraint on the rows; a finite
        one lets outliers stay behind.
    reg_target : float, default=inf
        Likewise for the target points.
    lazy : bool or "auto", default="auto"
        Whether costs are computed whenever they are needed instead of stored; "auto" stores
        them if they fit into scikit-learn's ``working_memory``.
    warm_start : bool, default=False
        Whether a fit begins with the target's potentials of the one before.
    n_jobs : int or None, default=None
        Number of threads. It never changes a result.
    random_state : int, RandomState instance, Generator or None, default=None
        Draws the points if ``target`` is None.

    Attributes
    ----------
    potentials_ : (array of shape (n_samples,), array of shape (n_target,))
        The dual variables f and g.
    source_ : array of shape (n_samples, n_features)
        The points that were fitted.
    source_weight_ : array of shape (n_samples,)
        Their weights, of sum one.
    target_ : array of shape (n_target, n_features)
        The target points.
    target_weight_ : array of shape (n_target,)
        Their weights, of sum one.
    plan_ : array of shape (n_samples, n_target)
        The plan, computed when it is asked for.
    result_ : SinkhornResult
        Everything about the solution.
    objective_ : float
        Minus the value of the dual problem, which the iterations decrease.
    dual_gap_ : float
        Value of the plan minus that of the dual problem.
    transport_cost_ : float
        Mean cost under the plan.
    marginal_error_ : float
        |P 1 - a|_1 + |P' 1 - b|_1.
    epsilon_ : float
        Regularisation in the units of the costs.
    n_iter_ : int
        Number of sweeps and Newton steps.
    converged_ : bool
        Whether the error is within the tolerance.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had any.

    Warns
    -----
    ConvergenceWarning
        If the error is above ``tol`` after ``max_iter`` steps.

    See Also
    --------
    TransportAdapter : Domain adaptation, which a step of a pipeline cannot do.
    sinkhorn_points : The problem itself.

    Notes
    -----
    A pipeline calls ``transform`` when it predicts as well. As a step, the estimator suits
    harmonisation: whatever comes in, in training and later, is mapped to one fixed reference.
    It does not suit domain adaptation, where only the training data are to be moved.

    Rows of weight 2 count twice. NumPy arrays, DataFrames, and arrays of a library that
    follows the array API standard are taken; results stay on their device.

    References
    ----------
    .. [1] Pooladian, A.-A. and Niles-Weed, J. (2021). Entropic estimation of optimal
       transport maps. arXiv:2109.12004.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.transport import EntropicTransport
    >>> rng = np.random.default_rng(0)
    >>> site, reference = rng.normal(3.0, 2.0, (200, 2)), rng.normal(size=(300, 2))
    >>> harmoniser = EntropicTransport(target=reference, epsilon=0.1).fit(site)
    >>> moved = harmoniser.transform(site)
    >>> bool(np.allclose(moved.mean(axis=0), reference.mean(axis=0)))
    True
    """

    _parameter_constraints: dict = {
        "target": ["array-like", None],
        "target_weight": ["array-like", None],
        "n_target": [Interval(Integral, 1, None, closed="left")],
        "epsilon": [_POSITIVE, None],
        "epsilon_scale": [StrOptions({"absolute", "mean", "max", "median"})],
        "metric": [StrOptions(set(METRICS)), callable],
        "method": [StrOptions(set(METHODS))],
        "tol": [_POSITIVE],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "reg_source": [Interval(Real, 0, None, closed="right")],
        "reg_target": [Interval(Real, 0, None, closed="right")],
        "lazy": ["boolean", StrOptions({"auto"})],
        "warm_start": ["boolean"],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        target=None,
        *,
        target_weight=None,
        n_target=256,
        epsilon=None,
        epsilon_scale="absolute",
        metric="sqeuclidean",
        method="auto",
        tol=1e-9,
        max_iter=10000,
        reg_source=math.inf,
        reg_target=math.inf,
        lazy="auto",
        warm_start=False,
        n_jobs=None,
        random_state=None,
    ):
        self.target = target
        self.target_weight = target_weight
        self.n_target = n_target
        self.epsilon = epsilon
        self.epsilon_scale = epsilon_scale
        self.metric = metric
        self.method = method
        self.tol = tol
        self.max_iter = max_iter
        self.reg_source = reg_source
        self.reg_target = reg_target
        self.lazy = lazy
        self.warm_start = warm_start
        self.n_jobs = n_jobs
        self.random_state = random_state

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Find the plan between X and the target.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The points to move.
        y : Ignored
            Present for compatibility.
        sample_weight : array-like of shape (n_samples,) or None, default=None
            How often each point counts.

        Returns
        -------
        self : EntropicTransport
            The fitted estimator.
        """
        given = X
        X = self._check_points(X, reset=True)
        target = self._target_points(X)
        xp, _, is_host = get_namespace(X, target)
        weights = check_frequency_weights(sample_weight, X) if is_host else sample_weight
        a = check_weights(weights, X.shape[0], "sample_weight", xp, X)
        b = check_weights(self.target_weight, target.shape[0], "target_weight", xp, target)
        a, b = a / xp.sum(a), b / xp.sum(b)
        problem = points_problem(
            X,
            target,
            a,
            b,
            metric=self.metric,
            lazy=self.lazy,
            reg_marginals=(self.reg_source, self.reg_target),
            n_jobs=self.n_jobs,
        )
        context = self._init_callback_context(max_subtasks=None)
        with FitTicker(self, context, given, y, sample_weight) as ticker:
            result = solve(
                problem,
                epsilon=self.epsilon,
                epsilon_scale=self.epsilon_scale,
                method=self.method,
                tol=self.tol,
                max_iter=self.max_iter,
                init=self._earlier_potentials(X, target),
                listener=_listener(ticker, problem, X, target, a, b),
                warn=False,
            )
        self.source_, self.target_ = X, target
        self.source_weight_, self.target_weight_ = a, b
        self.potentials_ = result.potentials
        self.result_ = result
        self.objective_ = -result.dual_value
        self.dual_gap_ = result.dual_gap
        self.transport_cost_ = result.transport_cost
        self.marginal_error_ = result.marginal_error
        self.epsilon_ = result.epsilon
        self.n_iter_ = len(result.history)
        self.converged_ = result.converged
        if not result.converged and not ticker.stopped:
            warn_not_converged(result, self.tol, stacklevel=5)
        return self

    @property
    def plan_(self):
        """The plan between the fitted points and the target points."""
        check_is_fitted(self)
        return self.result_.plan

    def transform(self, X):
        """Map points to the target.

        Parameters
        ----------
        X : array-like of shape (n_points, n_features)
            Any points, fitted or not.

        Returns
        -------
        X_mapped : array of shape (n_points, n_features)
            Means of target points.
        """
        check_is_fitted(self)
        X = self._check_points(X, reset=False)
        return self._averages((None, X, self.target_, self.metric), 1)

    def inverse_transform(self, X):
        """Map points of the target's distribution back.

        Parameters
        ----------
        X : array-like of shape (n_points, n_features)
            Points like those of the target.

        Returns
        -------
        X_original : array of shape (n_points, n_features)
            Means of fitted points.
        """
        check_is_fitted(self)
        X = self._check_points(X, reset=False)
        xp = get_namespace(X)[0]
        return self._averages(transposed_source(None, self.source_, X, self.metric, xp), 0)

    def transport_labels(self, y):
        """Carry labels of the fitted points over to the target points.

        Parameters
        ----------
        y : array-like of shape (n_samples,)
            Classes of the fitted points, on the host.

        Returns
        -------
        labels : ndarray of shape (n_target,)
            For each target point, the class from which it gets the largest mass; of
            several, the first.
        """
        check_is_fitted(self)
        y = np.asarray(y)
        if y.shape != (self.source_.shape[0],):
            raise ValueError(
                f"y must have shape ({self.source_.shape[0]},), one label for each fitted point, "
                f"got shape {y.shape}."
            )
        classes, codes = np.unique(y, return_inverse=True)
        xp = get_namespace(self.source_)[0]
        members = xp.asarray(np.eye(len(classes))[codes], device=_device(self.source_))
        source = transposed_source(None, self.source_, self.target_, self.metric, xp)
        mass = self._averages(source, 0, members)
        best = xp.argmax(mass, axis=1)
        return classes[np.array([int(k) for k in best])]

    def score(self, X, y=None, sample_weight=None):
        """How close mapped points come to the target.

        Parameters
        ----------
        X : array-like of shape (n_points, n_features)
            Points to map, at best new ones.
        y : Ignored
            Present for compatibility.
        sample_weight : array-like of shape (n_points,) or None, default=None
            How often each point counts.

        Returns
        -------
        score : float
            Minus the Sinkhorn divergence between the mapped points and the target points, at
            0.05 times the mean squared distance of two target points, so that scores for
            different ``epsilon`` can be compared. Zero is best.
        """
        mapped = self.transform(X)
        target, b = self.target_, self.target_weight_
        xp, _, is_host = get_namespace(target)
        weights = check_frequency_weights(sample_weight, X) if is_host else sample_weight
        a = check_weights(weights, mapped.shape[0], "sample_weight", xp, mapped)
        centred = target - xp.sum(b[:, None] * target, axis=0)
        spread = 2.0 * float(xp.sum(b[:, None] * centred**2))
        return -sinkhorn_divergence(
            xp.astype(mapped, xp.float64),
            xp.astype(target, xp.float64),
            a / xp.sum(a),
            b,
            epsilon=0.05 * spread or 1.0,
            tol=1e-6,
            n_jobs=self.n_jobs,
        )

    def _averages(self, source, side, values=None):
        """Means of one side's values under the weights of any points of the other side."""
        points = (self.source_, self.target_)[side]
        weights = (self.source_weight_, self.target_weight_)[side]
        xp, _, is_host = get_namespace(points)
        values = points if values is None else values
        # A point without weight has no share, whatever its potential.
        kept = xp.nonzero(weights > 0)[0]
        C, rows, columns, metric = source
        blocks = cost_blocks(C, rows, xp.take(columns, kept, axis=0), metric, xp, is_host)
        averages = row_averages(
            blocks,
            xp.astype(xp.take(self.potentials_[side], kept), xp.float64),
            xp.log(xp.take(weights, kept)),
            self.epsilon_,
            xp.astype(xp.take(values, kept, axis=0), xp.float64),
            xp,
        )
        return xp.astype(averages, columns.dtype)

    def _check_points(self, X, *, reset):
        xp, _, is_host = get_namespace(X, None if reset else self.target_)
        if is_host:
            return validate_data(self, X, dtype=[np.float64, np.float32], reset=reset)
        X = check_device_array(X, "X", ndim=2, xp=xp)
        if reset:
            set_columns(self, X.shape[1])
        elif X.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {X.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input."
            )
        return X

    def _target_points(self, X):
        xp, device, is_host = get_namespace(X, self.target)
        if self.target is None:
            rng = as_generator(self.random_state)
            points = rng.standard_normal((self.n_target, X.shape[1]))
            return xp.asarray(points, dtype=X.dtype, device=device)
        if is_host:
            target = self.target
            if np.ndim(target) != 2:
                raise ValueError(
                    f"target must be a matrix with one row for each point, got shape "
                    f"{np.shape(target)}."
                )
            names, known = _get_feature_names(target), getattr(self, "feature_names_in_", None)
            if names is not None and known is not None and list(names) != list(known):
                raise ValueError(
                    "target must have the feature names of X in the same order, got "
                    f"{list(names)[:10]} for {list(known)[:10]}."
                )
            target = check_array(target, dtype=X.dtype, input_name="target")
        else:
            target = xp.astype(check_device_array(self.target, "target", ndim=2, xp=xp), X.dtype)
        if target.shape[1] != X.shape[1]:
            raise ValueError(
                f"target must have the {X.shape[1]} features of X, got shape {tuple(target.shape)}."
            )
        return target

    def _earlier_potentials(self, X, target):
        if not self.warm_start or not hasattr(self, "potentials_"):
            return None
        xp = get_namespace(X)[0]
        g = self.potentials_[1]
        if g.shape[0] != target.shape[0]:
            return None
        # The source may have changed; its potentials follow from those of the target.
        return xp.zeros_like(X[:, 0]), g


def _listener(ticker, problem, X, target, a, b):
    """Report each step of the solver to the callbacks."""
    if not ticker.active:
        return None
    xp = problem.costs.xp

    def listen(record, u, v, scalings):
        def attributes():
            rows, columns = (0.0, 0.0) if scalings is None else map(xp.log, scalings)
            state = solution_at(problem, record.epsilon, u + rows, v + columns)
            return {
                "source_": X,
                "target_": target,
                "source_weight_": a,
                "target_weight_": b,
                "potentials_": state.potentials,
                "objective_": -state.dual,
                "epsilon_": record.epsilon,
                "n_features_in_": X.shape[1],
            }

        return ticker.tick(record.stage, attributes)

    return listen


def _device(array):
    import array_api_compat

    return array_api_compat.device(array)
