"""A doubly stochastic affinity between the rows of a sample."""

import math
import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, validate_data

from sparsestat.transport._affinity import (
    Distances,
    balance,
    balance_to_trace,
    balance_without_diagonal,
    trace,
    trace_tolerance,
    weights_of,
)
from sparsestat.utils._arrays import check_device_array, get_namespace
from sparsestat.utils._callbacks import FitTicker
from sparsestat.utils._sklearn import (
    CallbackSupportMixin,
    Interval,
    StrOptions,
    _fit_context,
    with_callbacks,
)
from sparsestat.utils._validation import set_columns

_DEFAULT_CLUSTERS = 8


class DoublyStochasticAffinity(CallbackSupportMixin, TransformerMixin, BaseEstimator):
    """Gaussian affinity whose rows and columns sum to one, for clustering.

    Finds the potential u for which the symmetric matrix::

        P_ij = exp(u_i + u_j - |x_i - x_j|^2 / epsilon)

    has row sums one. P is positive semidefinite, its entries are not negative, and its
    eigenvalues lie between zero and one, so that its trace counts clusters: it is one for a
    very large epsilon, where P is uniform, and the number of distinct rows for a very small
    one, where each is a cluster of its own. By default, epsilon is chosen such that the trace
    is ``n_clusters``. P is then a feasible point of the semidefinite relaxation of K-means
    [1]_, Z >= 0, Z positive semidefinite, Z 1 = 1, tr Z = K.

    Parameters
    ----------
    epsilon : float or "trace", default="trace"
        Bandwidth, positive and in the units of squared distances; "trace" finds one for
        which the trace of P is ``n_clusters``.
    n_clusters : int or None, default=None
        The trace for ``epsilon="trace"``, otherwise ignored; at least 1, at most the number
        of distinct rows. None for 8, or the number of distinct rows if that is smaller. For 1,
        P is uniform and ``epsilon_`` infinite.
    tol : float, default=1e-10
        Wanted distance of every row sum from one. The wanted relative error of the trace is
        ``max(1e-8, 10 * tol)``.
    max_iter : int, default=2000
        Largest number of passes over the matrix for each epsilon that is tried.
    zero_diagonal : bool, default=False
        Whether the diagonal is zero and the other entries alone give the row sums, so that
        no row is its own neighbour. P is then not positive semidefinite any more and its
        trace is zero; it is not feasible for the semidefinite relaxation. ``epsilon`` is
        found with the diagonal in place.

    Attributes
    ----------
    affinity_ : array of shape (n_samples, n_samples)
        P.
    potential_ : array of shape (n_samples,)
        The potential u, in double precision.
    points_ : array of shape (n_samples, n_features)
        The points that were fitted.
    epsilon_ : float
        Bandwidth.
    trace_ : float
        Trace of P.
    marginal_error_ : float
        Largest distance of a row sum of P from one, in double precision.
    n_iter_ : int
        Number of passes over the matrix, for all epsilon that were tried.
    converged_ : bool
        Whether row sums, and the trace if one is asked for, are within the tolerance.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had any.

    Warns
    -----
    ConvergenceWarning
        If row sums or the trace are not within the tolerance after ``max_iter`` passes.

    See Also
    --------
    EntropicTransport : Transport between two samples.

    Notes
    -----
    The scaling of a kernel from both sides is Sinkhorn's, in the form that keeps symmetry
    [2]_; each step subtracts two thirds of log(P 1) from u, which in the end shrinks the error
    to a third or less, whatever the data and epsilon. Unlike a division by degrees, it is
    robust to noise of unequal strength [3]_.

    Without the diagonal, a very small epsilon makes P nearly a pairing of the rows, to which
    the iteration may not come as near as ``tol``; that is then said.

    Weights of rows are not offered: a row of P is a distribution over rows, and a row of weight
    two would be two columns.

    Memory grows as the square of the number of rows. NumPy arrays, DataFrames, and arrays of a
    library that follows the array API standard are taken; results stay on their device.

    References
    ----------
    .. [1] Peng, J. and Wei, Y. (2007). Approximating K-means-type clustering via semidefinite
       programming. SIAM Journal on Optimization 18, 186-205.
    .. [2] Knight, P. A., Ruiz, D. and Ucar, B. (2014). A symmetry preserving algorithm for
       matrix scaling. SIAM Journal on Matrix Analysis and Applications 35, 931-955.
    .. [3] Landa, B., Coifman, R. R. and Kluger, Y. (2021). Doubly stochastic normalization of
       the Gaussian kernel is robust to heteroskedastic noise. SIAM Journal on Mathematics of
       Data Science 3, 388-413.

    Examples
    --------
    >>> from sklearn.cluster import SpectralClustering
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn.metrics import adjusted_rand_score
    >>> from sparsestat.transport import DoublyStochasticAffinity
    >>> X, y = make_blobs(200, centers=4, cluster_std=0.7, random_state=0)
    >>> affinity = DoublyStochasticAffinity(n_clusters=4)
    >>> P = affinity.fit_transform(X)
    >>> round(affinity.trace_, 5)
    4.0
    >>> clustering = SpectralClustering(4, affinity="precomputed", random_state=0)
    >>> adjusted_rand_score(y, clustering.fit_predict(P)) > 0.9
    True
    """

    _parameter_constraints: dict = {
        "epsilon": [Interval(Real, 0, None, closed="neither"), StrOptions({"trace"})],
        "n_clusters": [Interval(Integral, 1, None, closed="left"), None],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "zero_diagonal": ["boolean"],
    }

    def __init__(
        self, epsilon="trace", n_clusters=None, *, tol=1e-10, max_iter=2000, zero_diagonal=False
    ):
        self.epsilon = epsilon
        self.n_clusters = n_clusters
        self.tol = tol
        self.max_iter = max_iter
        self.zero_diagonal = zero_diagonal

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Find the affinity between the rows of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The points.
        y : Ignored
            Present for compatibility.

        Returns
        -------
        self : DoublyStochasticAffinity
            The fitted estimator.

        Raises
        ------
        ValueError
            If there are fewer distinct rows than ``n_clusters``, a single row without a
            diagonal, or squared distances that overflow.
        """
        given = X
        X = self._check_points(X, reset=True)
        distances = _distances(X)
        if self.zero_diagonal and distances.n == 1:
            raise ValueError(
                "zero_diagonal=True needs at least two rows, as a single one has no other to be "
                "close to; got n_samples = 1."
            )
        target = self._target(distances)
        context = self._init_callback_context(max_subtasks=None)
        # What is needed later must not change with the caller's array.
        points = distances.xp.asarray(X, copy=True)
        with FitTicker(self, context, given, y) as ticker:
            state = self._solve(distances, target, self._listener(ticker, distances, points))
        attributes = self._attributes(distances, state, points, target, in_place=True)
        for name, value in attributes.items():
            setattr(self, name, value)
        if not self.converged_ and not ticker.stopped:
            self._warn(target)
        return self

    def fit_transform(self, X, y=None):
        """Find the affinity between the rows of X, and return it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The points.
        y : Ignored
            Present for compatibility.

        Returns
        -------
        P : array of shape (n_samples, n_samples)
            The affinity, ``affinity_``.
        """
        return self.fit(X).affinity_

    def transform(self, X):
        """Compute the affinities of points to the fitted ones.

        The row of a point x has the entries::

            exp(u_j - |x - x_j|^2 / epsilon) / sum_k exp(u_k - |x - x_k|^2 / epsilon)

        which for a fitted row is its row of P, divided by its sum.

        Parameters
        ----------
        X : array-like of shape (n_points, n_features)
            Any points. With ``zero_diagonal``, a point equal to a fitted row is taken for
            that row, the first of several.

        Returns
        -------
        P : array of shape (n_points, n_samples)
            Rows that sum to one.
        """
        check_is_fitted(self)
        X = self._check_points(X, reset=False)
        xp = get_namespace(X)[0]
        weights = weights_of(
            xp.astype(X, xp.float64),
            xp.astype(self.points_, xp.float64),
            self.potential_,
            self.epsilon_,
            xp,
            with_diagonal=not self.zero_diagonal,
        )
        return xp.astype(weights, X.dtype)

    def get_feature_names_out(self, input_features=None):
        """Name the columns of the affinity.

        Parameters
        ----------
        input_features : Ignored
            Present for compatibility.

        Returns
        -------
        names : ndarray of str objects
            "affinity0", "affinity1" and so on, one for each fitted row.
        """
        check_is_fitted(self)
        return np.asarray([f"affinity{i}" for i in range(self.points_.shape[0])], dtype=object)

    def _check_points(self, X, *, reset):
        if not reset:
            get_namespace(X, self.points_)
        xp, _, is_host = get_namespace(X)
        if is_host:
            return validate_data(self, X, dtype=[np.float64, np.float32], reset=reset)
        X = check_device_array(X, "X", ndim=2, xp=xp)
        if reset:
            set_columns(self, X.shape[1])
            return X
        if X.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {X.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input."
            )
        return X

    def _target(self, distances):
        """The trace that is asked for; None if epsilon is given."""
        if self.epsilon != "trace":
            return None
        if self.n_clusters is None:
            return min(_DEFAULT_CLUSTERS, distances.n_distinct)
        if self.n_clusters > distances.n_distinct:
            raise ValueError(
                f"n_clusters must be at most the number of distinct rows of X, as the trace "
                f"cannot be larger; got n_clusters={self.n_clusters} for {distances.n_distinct} "
                f"distinct rows of {distances.n}."
            )
        return self.n_clusters

    def _solve(self, distances, target, listen):
        tol, max_iter = self.tol, self.max_iter
        if target is not None:
            state = balance_to_trace(distances, target, tol, max_iter, listen)
            epsilon = state.epsilon
        elif not self.zero_diagonal:
            return balance(distances, self.epsilon, distances.start(), tol, max_iter, listen)
        else:
            state, epsilon = None, self.epsilon
        if not self.zero_diagonal:
            return state
        if state is not None and state.stopped:
            max_iter, listen = 1, None
        final = balance_without_diagonal(distances, epsilon, tol, max_iter, listen)
        if state is not None:
            final = final._replace(
                n_iter=state.n_iter + final.n_iter, stopped=state.stopped or final.stopped
            )
        return final

    def _listener(self, ticker, distances, X):
        """Report each state to the callbacks."""
        if not ticker.active:
            return None

        def listen(state):
            def attributes():
                known = self._attributes(distances, state, X, None)
                return {**known, "converged_": False, "n_features_in_": X.shape[1]}

            return ticker.tick("pass" if self.epsilon != "trace" else "epsilon", attributes)

        return listen

    def _attributes(self, distances, state, X, target, *, in_place=False):
        xp, with_diagonal = distances.xp, not self.zero_diagonal
        out = distances.D if in_place else None
        P = distances.matrix(state.u, state.epsilon, with_diagonal, out)
        error = float(xp.max(xp.abs(xp.sum(P, axis=1) - 1.0)))
        converged = error <= self.tol and not state.stopped
        if target is not None and with_diagonal:
            miss = abs(trace(xp, state.u) / target - 1.0)
            converged = converged and miss <= trace_tolerance(self.tol)
        return {
            "affinity_": xp.astype(P, X.dtype, copy=False),
            "potential_": state.u,
            "points_": X,
            "epsilon_": state.epsilon,
            "trace_": trace(xp, state.u) if with_diagonal else 0.0,
            "marginal_error_": error,
            "n_iter_": state.n_iter,
            "converged_": converged,
        }

    def _warn(self, target):
        message = f"The row sums are off by {self.marginal_error_:.3g}, required is {self.tol:.3g}"
        if target is not None and not self.zero_diagonal:
            message += (
                f"; the trace is {self.trace_:.9g}, required is {target} with a relative error of "
                f"at most {trace_tolerance(self.tol):.3g}"
            )
        warnings.warn(
            f"{message}. Raise max_iter={self.max_iter} or tol, or take a larger epsilon.",
            ConvergenceWarning,
            stacklevel=5,
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _distances(X):
    xp = get_namespace(X)[0]
    with np.errstate(over="ignore"):
        distances = Distances(xp.astype(X, xp.float64))
    if not distances.largest < math.inf:
        raise ValueError(
            "X must have squared distances that are finite numbers; divide it by its largest entry."
        )
    return distances
