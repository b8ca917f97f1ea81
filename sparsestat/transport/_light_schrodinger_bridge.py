"""Light Schroedinger bridge: from one sample to another along a diffusion in closed form."""

import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array

from sparsestat.transport._bridge_fit import fit_bridge
from sparsestat.transport._bridge_model import (
    BridgeModel,
    check_samples,
    fitted_attributes,
    merged_rows,
    on_host,
    shares_of,
)
from sparsestat.utils._callbacks import FitTicker
from sparsestat.utils._random import as_generator
from sparsestat.utils._sklearn import (
    Interval,
    StrOptions,
    _fit_context,
    with_callbacks,
)
from sparsestat.utils._threads import single_threaded_blas


class LightSchrodingerBridge(BridgeModel):
    """Schroedinger bridge between two samples, with a mixture of normal densities as potential.

    Of all diffusions with variance epsilon that carry the distribution of X to that of the
    target within one unit of time, the bridge is the one nearest to Brownian motion; its
    pairs of starting and end points are the optimal plan for the squared distance with entropic
    regularisation. It is modelled by the plan [1]_ ::

        pi(y | x) = sum_k w_k(x) N(y; r_k + S_k x, epsilon S_k),
        w_k(x) proportional to alpha_k exp((x'S_k x + 2 r_k'x) / (2 epsilon)),

    whose drift, conditional moments and trajectories have closed forms. Fitted is by ::

        minimise  mean_x log c(x) - mean_y log v(y) - mean(x).mean(y) / epsilon,
        v(y) = sum_k alpha_k N(y; r_k, epsilon S_k),
        c(x) = sum_k alpha_k exp((x'S_k x + 2 r_k'x) / (2 epsilon)),

    the Kullback-Leibler divergence from the bridge to the model up to a number that does not
    depend on the model. No pairs are needed, nor the density of either sample.

    Parameters
    ----------
    n_components : int, default=10
        Number of components. One gives the bridge between two normal distributions; more
        than the data need overfit, see :class:`LightSchrodingerBridgeCV`.
    target : array-like of shape (m, n_features), default=None
        The sample of end points. None is a reference sample from the standard normal
        distribution, so that the estimator turns X into normal columns.
    n_target : int, default=1000
        Size of the reference sample if there is no target.
    epsilon : float, default=0.1
        Variance of the diffusion per unit of time, in squared units of the data. The
        smaller, the closer to optimal transport, and the harder to fit. The cost is half the
        squared distance: :func:`sinkhorn_points` has the same plan at twice this ``epsilon``.
    covariance_type : {"diag", "full"}, default="diag"
        Whether the S_k are diagonal.
    solver : {"lbfgs", "adam"}, default="lbfgs"
        L-BFGS on all points, or Adam on batches for samples that are large.
    max_iter : int, default=500
        Largest number of iterations ("lbfgs") or passes over the larger sample ("adam").
    tol : float, default=1e-7
        Mean gain of the loss in five iterations below which it has converged ("lbfgs"), or
        the gain of a pass below which the steps are shortened ("adam").
    reg_covar : float, default=1e-6
        Least eigenvalue of the S_k, relative to the S of a single component.
    init : {"kmeans", "random"} or array-like of shape (n_components, n_features), \
default="kmeans"
        Centres of clusters of the target, one for each component to start with, or how
        they are found: by k-means, or as random points of the target.
    n_init : int, default=1
        Number of starts, of which the best end is kept.
    batch_size : int or None, default=None
        Points of each sample in a step of Adam; None stands for all.
    validation_fraction : float, default=0.0
        Share of both samples that is set aside. If it is positive, the parameters with the least
        loss there are kept, and the fit ends when ten iterations do not improve on it.
    warm_start : bool, default=False
        Whether to start from the previous fit, if that had as many components and columns.
    random_state : int, RandomState instance, Generator or None, default=None
        Draws the reference sample, the start, the batches and what is set aside.

    Attributes
    ----------
    weights_ : ndarray of shape (n_components,)
        Probabilities w_k of the components at the mean of X.
    log_weights_ : ndarray of shape (n_components,)
        The log(alpha_k), up to a common constant.
    locations_ : ndarray of shape (n_components, n_features)
        The r_k.
    scales_ : ndarray of shape (n_components, n_features[, n_features])
        The S_k, or their diagonals.
    covariances_ : ndarray of the same shape
        Covariances epsilon S_k of the end points within components.
    mixture_ : BridgeMixture
        The same for points from which the means of the samples are subtracted; predictions are
        computed from it.
    target_ : ndarray of shape (m, n_features)
        The target.
    loss_ : float
        The loss.
    objective_ : float
        The same.
    loss_curve_ : ndarray of shape (n_iter_ + 1,)
        The loss at the start and after every iteration.
    validation_loss_curve_ : ndarray of shape (n_iter_ + 1,) or None
        The loss of the points that were set aside.
    n_iter_ : int
        Number of iterations.
    converged_ : bool
        Whether the criterion of `tol` was met, or the points set aside ended the fit.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if X had any.

    See Also
    --------
    LightSchrodingerBridgeCV : Chooses the number of components.
    EntropicTransport : The plan between the points themselves.

    Notes
    -----
    The means of both samples are subtracted, and the columns measured in units in which
    ``x.y / epsilon`` stays what it is, so that epsilon keeps its meaning in the units of the
    data while the optimiser sees columns of size one.

    With equal `random_state` the reference sample is the same for any X with as many columns.
    Rows of weight 2 count twice. NumPy arrays and DataFrames are taken, and arrays on a device
    (CuPy) if the target is one as well: the losses are then computed on the device, and
    fitted arrays and results stay there. Sparse matrices are not taken. Callbacks tick once
    for every iteration.

    References
    ----------
    .. [1] A. Korotin, N. Gushchin and E. Burnaev (2024). Light Schroedinger bridge.
       *International Conference on Learning Representations*. arXiv:2310.01174.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.transport import LightSchrodingerBridge
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((500, 2))
    >>> target = rng.choice([-3.0, 3.0], (500, 1)) + 0.5 * rng.standard_normal((500, 2))
    >>> bridge = LightSchrodingerBridge(2, target=target, epsilon=0.5, random_state=0).fit(X)
    >>> bridge.converged_, bridge.locations_.shape
    (True, (2, 2))
    >>> bridge.sample_path(X[:5], [0.0, 0.5, 1.0]).shape
    (5, 3, 2)
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "target": ["array-like", None],
        "n_target": [Interval(Integral, 1, None, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "covariance_type": [StrOptions({"diag", "full"})],
        "solver": [StrOptions({"lbfgs", "adam"})],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "reg_covar": [Interval(Real, 0, 1, closed="neither")],
        "init": [StrOptions({"kmeans", "random"}), "array-like"],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "warm_start": ["boolean"],
        "random_state": ["random_state", np.random.Generator],
    }

    def __init__(
        self,
        n_components=10,
        *,
        target=None,
        n_target=1000,
        epsilon=0.1,
        covariance_type="diag",
        solver="lbfgs",
        max_iter=500,
        tol=1e-7,
        reg_covar=1e-6,
        init="kmeans",
        n_init=1,
        batch_size=None,
        validation_fraction=0.0,
        warm_start=False,
        random_state=None,
    ):
        self.n_components = n_components
        self.target = target
        self.n_target = n_target
        self.epsilon = epsilon
        self.covariance_type = covariance_type
        self.solver = solver
        self.max_iter = max_iter
        self.tol = tol
        self.reg_covar = reg_covar
        self.init = init
        self.n_init = n_init
        self.batch_size = batch_size
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.random_state = random_state

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Fit the bridge from X to the target.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The sample of starting points.
        y : Ignored
            For pipelines.
        sample_weight : array-like of shape (n_samples,), float or None, default=None
            How often each row of X occurs.

        Returns
        -------
        self : LightSchrodingerBridge
            The fitted estimator.

        Raises
        ------
        ValueError
            For data that are not finite or of the wrong shape, a target with fewer points than
            there are components, and weights that are negative or all zero.

        Warns
        -----
        ConvergenceWarning
            If the loss still falls faster than the tolerance allows.
        """
        given = X, y, sample_weight
        rng = as_generator(self.random_state)
        X, weights, target, xp = check_samples(self, X, sample_weight, rng)
        context = self._init_callback_context(max_subtasks=None)
        with single_threaded_blas(), FitTicker(self, context, *given) as ticker:

            def listener(mixture, loss):
                def attributes():
                    found = fitted_attributes(mixture(), xp, X)
                    return {**found, "target_": target, "loss_": loss()}

                return ticker.tick("iteration", attributes)

            found = fit_samples(
                self,
                X,
                weights,
                target,
                rng,
                xp,
                listener=listener if ticker.active else None,
            )
        keep_fit(self, found, target, xp)
        warn_unless_converged(self, found, stacklevel=5)
        return self


def fit_samples(estimator, X, weights, target, rng, xp, *, n_components=None, listener=None):
    """Fit a bridge with the parameters of an estimator.

    Parameters
    ----------
    estimator : LightSchrodingerBridge
        Whose parameters, and for a warm start whose fit, count.
    X : array of shape (n_samples, n_features)
        Checked source.
    weights : ndarray of shape (n_samples,) or None
        Checked weights.
    target : array of shape (m, n_features)
        Checked target.
    rng : numpy.random.Generator
        Source of random numbers.
    xp : module
        Namespace of the samples.
    n_components : int or None, default=None
        Instead of that of the estimator.
    listener : callable or None, default=None
        See :func:`sparsestat.transport._bridge_fit.fit_bridge`.

    Returns
    -------
    found : BridgeFit
        The fit.
    """
    n_features = X.shape[1]
    n_components = int(n_components or estimator.n_components)
    init = estimator.init
    if not isinstance(init, str):
        init = check_array(
            init, dtype=np.float64, input_name="init", ensure_2d=False, allow_nd=True
        )
        if init.shape != (n_components, n_features):
            raise ValueError(
                "init needs a centre for each component, an array of shape "
                f"({n_components}, {n_features}), got shape {init.shape}."
            )
    if isinstance(X, np.ndarray):
        X, weights = merged_rows(X, weights)
    source, held_out = (X, shares_of(X, weights, xp)), None
    goal = target, shares_of(target, None, xp)
    if estimator.validation_fraction > 0.0:
        fraction = estimator.validation_fraction
        source, out = _set_aside(X, weights, fraction, "X", rng, xp)
        goal, goal_out = _set_aside(target, None, fraction, "target", rng, xp)
        held_out = out, goal_out
    if goal[0].shape[0] < n_components:
        raise ValueError(
            f"target must have a point to fit to for each of the n_components={n_components} "
            f"components, got {goal[0].shape[0]}."
        )
    return fit_bridge(
        source,
        goal,
        epsilon=float(estimator.epsilon),
        n_components=n_components,
        full=estimator.covariance_type == "full",
        floor=estimator.reg_covar,
        solver=estimator.solver,
        tol=estimator.tol,
        max_iter=estimator.max_iter,
        init=init,
        n_init=estimator.n_init,
        batch_size=estimator.batch_size,
        rng=rng,
        xp=xp,
        held_out=held_out,
        start=_previous(estimator, n_features) if estimator.warm_start else None,
        listener=listener,
    )


def _set_aside(Z, weights, fraction, name, rng, xp):
    """The points to fit to, and those that decide when to stop, each with shares."""
    n_rows = Z.shape[0]
    n_out = int(np.ceil(fraction * n_rows))
    order = rng.permutation(n_rows)
    parts = []
    for rows in (np.sort(order[n_out:]), np.sort(order[:n_out])):
        own = None if weights is None else weights[rows]
        if not rows.size or (own is not None and not np.any(own)):
            raise ValueError(
                f"validation_fraction={fraction} needs rows of {name} with a positive weight to "
                f"fit to and others to set aside, got n_samples={n_rows}."
            )
        points = xp.take(Z, xp.asarray(rows, device=Z.device), axis=0)
        parts.append((points, shares_of(points, own, xp)))
    return parts


def _previous(estimator, n_features):
    """The mixture of an earlier fit on the host, if it suits the present parameters."""
    mixture = getattr(estimator, "mixture_", None)
    if mixture is None:
        return None
    shape = (estimator.n_components, n_features)
    if mixture.full != (estimator.covariance_type == "full") or mixture.locations.shape != shape:
        return None
    return on_host(mixture)._replace(epsilon=float(estimator.epsilon))


def bridge_attributes(found, target, xp):
    """Translate a fit into fitted attributes.

    Parameters
    ----------
    found : BridgeFit
        The fit.
    target : array of shape (m, n_features)
        What it was fitted to.
    xp : module
        Namespace of the data.

    Returns
    -------
    attributes : dict
        By their names.
    """
    return {
        **fitted_attributes(found.mixture, xp, target),
        "target_": target,
        "loss_": found.loss,
        "loss_curve_": found.curve,
        "validation_loss_curve_": found.held_out_curve if found.held_out_curve.size else None,
        "n_iter_": len(found.curve) - 1,
        "converged_": found.converged,
    }


def keep_fit(estimator, found, target, xp):
    """Set the fitted attributes, after everything that may fail.

    Parameters
    ----------
    estimator : BridgeModel
        Gets them.
    found : BridgeFit
        What was found.
    target : array of shape (m, n_features)
        What it was fitted to.
    xp : module
        Namespace of the data.
    """
    for name, value in bridge_attributes(found, target, xp).items():
        setattr(estimator, name, value)


def warn_unless_converged(estimator, found, stacklevel):
    """Say that the loss is not at its minimum.

    Parameters
    ----------
    estimator : BridgeModel
        Whose parameters a message names.
    found : BridgeFit
        What was found.
    stacklevel : int
        Frames between here and who is to be told.
    """
    if not found.converged and not found.stopped:
        warnings.warn(
            f"The loss still fell by {found.gain:.2e} per iteration when "
            f"max_iter={estimator.max_iter} was reached, required is at most "
            f"tol={estimator.tol:.1e}. Raise max_iter or tol, or take fewer components.",
            ConvergenceWarning,
            stacklevel=stacklevel,
        )
