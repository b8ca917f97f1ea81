"""What every fitted Schroedinger bridge can do, and what it checks before."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from sparsestat.transport import _light_bridge
from sparsestat.transport._bridge_objective import host_vector
from sparsestat.utils._arrays import check_device_array, get_namespace, use_array_api
from sparsestat.utils._random import as_generator
from sparsestat.utils._sklearn import CallbackSupportMixin, _get_feature_names
from sparsestat.utils._validation import check_frequency_weights, set_columns

_DTYPES = [np.float64, np.float32]
_WEIGHT_STEPS = 2.0**40


class BridgeModel(CallbackSupportMixin, OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """What a fitted bridge can do."""

    def conditional_mean(self, X):
        """Mean of the end point, given the starting points.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Starting points.

        Returns
        -------
        mean : array of shape (n_samples, n_features)
            The barycentric projection of the plan.
        """
        X, dtype, xp = self._starting_points(X)
        return xp.astype(_light_bridge.conditional_mean(self.mixture_, X), dtype)

    def predict(self, X):
        """Mean of the end point; the same as :meth:`conditional_mean`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Starting points.

        Returns
        -------
        mean : array of shape (n_samples, n_features)
            The barycentric projection of the plan.
        """
        return self.conditional_mean(X)

    def transform(self, X):
        """Mean of the end point; the same as :meth:`conditional_mean`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Starting points.

        Returns
        -------
        mean : array of shape (n_samples, n_features)
            The barycentric projection of the plan.
        """
        return self.conditional_mean(X)

    def predict_component(self, X):
        """Most probable component, given the starting points.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Starting points.

        Returns
        -------
        components : array of int of shape (n_samples,)
            Numbers of the components.
        """
        X, _, xp = self._starting_points(X)
        return xp.argmax(_light_bridge.component_weights(self.mixture_, X), axis=1)

    def sample(self, X, n_samples=None, *, random_state=None):
        """Draw end points.

        Parameters
        ----------
        X : array-like of shape (n_samples_X, n_features)
            Starting points.
        n_samples : int or None, default=None
            Number of end points for each of them; None stands for one without an axis of
            its own.
        random_state : int, RandomState instance, Generator or None, default=None
            Source of the random numbers; None stands for that of the constructor.

        Returns
        -------
        Y : array of shape (n_samples_X, n_features) or (n_samples_X, n_samples, n_features)
            The end points.

        Raises
        ------
        ValueError
            If `n_samples` is neither None nor a positive integer.
        """
        X, dtype, xp = self._starting_points(X)
        if n_samples is not None and not (isinstance(n_samples, Integral) and int(n_samples) >= 1):
            raise ValueError(f"n_samples must be a positive integer or None, got {n_samples!r}.")
        shape = tuple(X.shape)
        if n_samples is not None:
            shape = (shape[0], int(n_samples), shape[1])
            X = xp.reshape(xp.repeat(X, int(n_samples), axis=0), (-1, shape[-1]))
        Y = _light_bridge.sample_end_points(self.mixture_, X, self._generator(random_state))
        return xp.astype(xp.reshape(Y, shape), dtype)

    def sample_path(self, X, times, *, random_state=None):
        """Draw trajectories of the bridge at given times.

        An end point is drawn, and then a Brownian bridge to it, so that the trajectories have
        exactly the law of the diffusion, without steps in time.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Starting points.
        times : array-like of shape (n_times,)
            Times in [0, 1].
        random_state : int, RandomState instance, Generator or None, default=None
            Source of the random numbers; None stands for that of the constructor.

        Returns
        -------
        paths : array of shape (n_samples, n_times, n_features)
            Where the trajectories are at the times.

        Raises
        ------
        ValueError
            For times outside of [0, 1].
        """
        X, dtype, xp = self._starting_points(X)
        times = check_array(times, ensure_2d=False, dtype=np.float64, input_name="times")
        if times.ndim != 1 or times.min() < 0.0 or times.max() > 1.0:
            raise ValueError(f"times must be a list of numbers in [0, 1], got {times!r}.")
        rng = self._generator(random_state)
        Y = _light_bridge.sample_end_points(self.mixture_, X, rng)
        paths = _light_bridge.sample_bridge(X, Y, times, self.mixture_.epsilon, rng)
        return xp.astype(paths, dtype)

    def drift(self, X, t):
        """Drift g of the diffusion dX = g(X, t) dt + sqrt(epsilon) dW.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Where the diffusion is.
        t : float
            The time, in [0, 1).

        Returns
        -------
        drift : array of shape (n_samples, n_features)
            Its values.

        Raises
        ------
        ValueError
            For a time outside of [0, 1).
        """
        X, dtype, xp = self._starting_points(X)
        if not isinstance(t, Real) or not 0.0 <= float(t) < 1.0:
            raise ValueError(f"t must be a number in [0, 1), got {t!r}.")
        return xp.astype(_light_bridge.drift(self.mixture_, X, float(t)), dtype)

    def conditional_logpdf(self, X, Y):
        """Logarithm of the density of end points, given the starting points.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Starting points.
        Y : array-like of shape (n_samples, n_features)
            An end point for each.

        Returns
        -------
        logpdf : array of shape (n_samples,)
            The log pi(y_i | x_i).

        Raises
        ------
        ValueError
            If there are not as many end points as starting points.
        """
        X, _, _ = self._starting_points(X)
        Y = self._end_points(Y)
        if X.shape[0] != Y.shape[0]:
            raise ValueError(
                f"X and Y must have the same number of rows, got {X.shape[0]} and {Y.shape[0]}."
            )
        return _light_bridge.conditional_logpdf(self.mixture_, X, Y)

    def log_potential(self, Y):
        """Logarithm of the adjusted potential v(y).

        Parameters
        ----------
        Y : array-like of shape (n_samples, n_features)
            End points.

        Returns
        -------
        log_v : array of shape (n_samples,)
            Its values, up to a constant that :meth:`log_normalizer` shares.
        """
        check_is_fitted(self)
        return _light_bridge.log_potential(self.mixture_, self._end_points(Y))

    def log_normalizer(self, X):
        """Logarithm of c(x) = int exp(x.y / epsilon) v(y) dy.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Starting points.

        Returns
        -------
        log_c : array of shape (n_samples,)
            Its values; the plan is ``pi(y | x) = exp(x.y / epsilon) v(y) / c(x)``.
        """
        X, _, _ = self._starting_points(X)
        return _light_bridge.log_normalizer(self.mixture_, X)

    def score(self, X, y=None, sample_weight=None):
        """Loss of other starting points with the same target, negative.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Starting points.
        y : Ignored
            For pipelines.
        sample_weight : array-like of shape (n_samples,), float or None, default=None
            How often each row occurs.

        Returns
        -------
        score : float
            The larger, the better; values are comparable for one epsilon only.
        """
        X, _, xp = self._starting_points(X)
        shares = shares_of(X, check_frequency_weights(sample_weight, X), xp)
        target = self.target_
        return -_light_bridge.bridge_loss(
            self.mixture_, X, target, shares, shares_of(target, None, xp)
        )

    @property
    def objective_(self):
        """The loss, under the name that it has in other estimators."""
        check_is_fitted(self)
        return self.loss_

    def _starting_points(self, X):
        """Checked float64 points, the dtype of results, and the namespace."""
        check_is_fitted(self)
        xp, _, is_host = get_namespace(X, self.mixture_.locations)
        if is_host:
            X = validate_data(self, X, dtype=_DTYPES, reset=False)
        else:
            X = check_device_array(X, "X", ndim=2, xp=xp)
            if X.shape[1] != self.n_features_in_:
                raise ValueError(
                    f"X has {X.shape[1]} features, but {type(self).__name__} is expecting "
                    f"{self.n_features_in_} features as input."
                )
        return xp.astype(X, xp.float64), X.dtype, xp

    def _end_points(self, Y):
        xp, _, is_host = get_namespace(Y, self.mixture_.locations)
        return check_target(Y, self.n_features_in_, "Y", xp, is_host)

    def _generator(self, random_state):
        return as_generator(self.random_state if random_state is None else random_state)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def shares_of(Z, weights, xp):
    """Turn weights into shares.

    Parameters
    ----------
    Z : array of shape (n, n_features)
        Points.
    weights : ndarray of shape (n,) or None
        Weights on the host; None for equal ones.
    xp : module
        Namespace of the points.

    Returns
    -------
    shares : array of shape (n,)
        Where the points are; they sum to one.
    """
    n = Z.shape[0]
    if weights is None:
        return xp.full((n,), 1.0 / n, dtype=xp.float64, device=Z.device)
    return xp.asarray(weights / weights.sum(), dtype=xp.float64, device=Z.device)


def check_target(target, n_features, name, xp, is_host):
    """Check a sample of end points.

    Parameters
    ----------
    target : array-like of shape (m, n_features)
        The points.
    n_features : int
        Number of columns they must have.
    name : str
        The argument that a message names.
    xp : module
        Namespace of all arrays.
    is_host : bool
        Whether it is NumPy's.

    Returns
    -------
    target : array of shape (m, n_features)
        The same points in float64.
    """
    if is_host:
        target = check_array(
            target, dtype=np.float64, input_name=name, ensure_2d=False, allow_nd=True
        )
        if target.ndim != 2:
            raise ValueError(f"{name} must have two dimensions, got shape {target.shape}.")
    else:
        target = xp.astype(check_device_array(target, name, ndim=2, xp=xp), xp.float64)
    if target.shape[1] != n_features:
        raise ValueError(
            f"{name} must have as many columns as X, {n_features}, got shape {target.shape}."
        )
    return target


def check_samples(estimator, X, sample_weight, rng):
    """Check what an estimator is fitted to.

    Parameters
    ----------
    estimator : BridgeModel
        Has `target` and `n_target`; gets the names and the number of columns.
    X : array-like of shape (n_samples, n_features)
        The source.
    sample_weight : array-like of shape (n_samples,), float or None
        How often each row occurs.
    rng : numpy.random.Generator
        Draws the reference sample if there is no target.

    Returns
    -------
    X : array of shape (n_samples, n_features)
        Float64.
    weights : ndarray of shape (n_samples,) or None
        On the host.
    target : array of shape (m, n_features)
        Float64.
    xp : module
        Their namespace.
    """
    xp, device, is_host = get_namespace(X, estimator.target)
    # Refuses what the settings exclude; the code is the same for all arrays.
    use_array_api(X, estimator.target)
    if is_host:
        names = _get_feature_names(estimator.target) if estimator.target is not None else None
        X = validate_data(estimator, X, dtype=_DTYPES)
        known = getattr(estimator, "feature_names_in_", None)
        if names is not None and known is not None and list(names) != list(known):
            raise ValueError(
                "target must have the feature names of X in the same order, got "
                f"{list(names)[:10]} for {list(known)[:10]}."
            )
    else:
        X = check_device_array(X, "X", ndim=2, xp=xp)
        set_columns(estimator, X.shape[1])
    weights = check_frequency_weights(sample_weight, X)
    X = xp.astype(X, xp.float64)
    if estimator.target is None:
        target = rng.standard_normal((estimator.n_target, X.shape[1]))
        target = xp.asarray(target, device=device) if not is_host else target
    else:
        target = check_target(estimator.target, X.shape[1], "target", xp, is_host)
    return X, weights, target, xp


def merged_rows(X, weights):
    """Sort rows, and merge equal ones.

    Long fits blow rounding errors up. Of a sample in a fixed order, in which each point occurs
    once, weights and repetitions make the same sums to the last bit; and so do weights with a
    common factor, once they are rounded to twelve digits of the largest.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        The rows.
    weights : ndarray of shape (n_samples,) or None
        How often each occurs.

    Returns
    -------
    X : ndarray of shape (n_rows, n_features)
        Different rows of positive weight.
    weights : ndarray of shape (n_rows,)
        How often each occurs, up to a common factor.
    """
    weights = np.ones(X.shape[0]) if weights is None else weights
    X, weights = X[weights > 0], weights[weights > 0]
    order = np.argsort(X[:, 0], kind="stable")
    if np.any(np.diff(X[order, 0]) == 0):
        order = np.lexsort(X.T[::-1])
    X, weights = X[order], weights[order]
    first = np.r_[True, np.any(X[1:] != X[:-1], axis=1)]
    weights = np.add.reduceat(weights, np.flatnonzero(first))
    weights = np.rint(weights * (_WEIGHT_STEPS / weights.max()))
    return X[first][weights > 0], weights[weights > 0]


def fitted_attributes(mixture, xp, like):
    """Translate a mixture on the host into public attributes where the data live.

    Parameters
    ----------
    mixture : BridgeMixture
        The potential, on the host.
    xp : module
        Namespace of the data.
    like : array
        The data.

    Returns
    -------
    attributes : dict
        Parameters by their public names.
    """
    origin = np.zeros_like(mixture.source_center)
    plain = _light_bridge.recentred(mixture, origin, origin)

    def there(values):
        return values if isinstance(like, np.ndarray) else xp.asarray(values, device=like.device)

    parts = {
        name: value if name == "epsilon" else there(value)
        for name, value in mixture._asdict().items()
    }
    return {
        "mixture_": type(mixture)(**parts),
        "weights_": there(np.exp(mixture.log_weights)),
        "log_weights_": there(plain.log_weights),
        "locations_": there(plain.locations),
        "scales_": there(plain.spreads),
        "covariances_": there(mixture.epsilon * plain.spreads),
    }


def on_host(mixture):
    """Copy a mixture to the host.

    Parameters
    ----------
    mixture : BridgeMixture
        Of any library.

    Returns
    -------
    mixture : BridgeMixture
        Of NumPy arrays.
    """

    def here(name, value):
        if name == "epsilon":
            return value
        xp = get_namespace(value)[0]
        return host_vector(xp.reshape(value, (-1,))).reshape(value.shape)

    return type(mixture)(*(here(*item) for item in mixture._asdict().items()))
