"""From a record to the bounded vector that is randomised, on the client and in simulations.

Everything here is total: whatever numbers a record holds, a vector within the radius comes
out. A record that made a client fail would have told the server something about itself,
without any noise.
"""

import math
import warnings

import numpy as np

_SQRT_2 = math.sqrt(2.0)


def clean_record(x, y, config):
    """Read one record, with 0 (after centring) for whatever is not a finite number.

    Parameters
    ----------
    x : array-like of shape (n_features,)
        The features.
    y : float or None
        The target.
    config : LDPConfig
        The campaign.

    Returns
    -------
    x : ndarray of shape (1, n_columns)
        In public units, with the column of ones.
    y : ndarray of shape (1,)
        In public units.

    Raises
    ------
    ValueError
        If the number of features is wrong, which does not depend on their values.
    """
    if config.kind == "label" and x is None:
        values = [0.0] * config.n_features
    else:
        if isinstance(x, np.ndarray) and x.ndim != 1:
            raise ValueError(f"x must be one record of shape (n_features,), got {x.shape}.")
        # Items may be of any type; numpy would refuse some of them as a whole.
        values = list(x.tolist() if isinstance(x, np.ndarray) else x)
    if len(values) != config.n_features:
        raise ValueError(f"x must have {config.n_features} features, got {len(values)}.")
    row = np.array([[_finite_or_nan(value) for value in values]])
    return clean_records(row, np.array([_finite_or_nan(y)]), config)


def _finite_or_nan(value):
    if type(value) is float:
        return value
    # Whatever an item does when it is asked for a number, an exception or a warning would
    # tell what it is.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(value)
    except Exception:
        return math.nan


def clean_records(X, y, config):
    """Put records into public units, with 0 for what is not finite.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        The features.
    y : ndarray of shape (n_samples,)
        The targets.
    config : LDPConfig
        The campaign.

    Returns
    -------
    X : ndarray of shape (n_samples, n_columns), float64
    y : ndarray of shape (n_samples,), float64
    """
    with np.errstate(all="ignore"):
        X = np.array(X, dtype=np.float64)
        if config.feature_center is not None:
            X -= np.asarray(config.feature_center)
        if config.feature_scale is not None:
            X /= np.asarray(config.feature_scale)
        y = np.array(y, dtype=np.float64)
        if config.loss != "logistic":
            y = (y - config.y_center) / config.y_scale
    X[~np.isfinite(X)] = 0.0
    y[~np.isfinite(y)] = 0.0
    if config.fit_intercept:
        X = np.column_stack([np.ones(len(X)), X])
    return X, y


def clip_rows(X, radius):
    """Scale rows that are longer than the radius back to it.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_columns)
        Finite, of any size.
    radius : float
        The largest Euclidean norm.

    Returns
    -------
    clipped : ndarray of shape (n_samples, n_columns)
        Rows of a norm of at most `radius`, but for rounding.
    weights : ndarray of shape (n_samples,)
        What each row was multiplied by, at most 1.
    """
    # Divided by its largest entry, a row has a norm that neither overflows nor vanishes.
    largest = np.max(np.abs(X), axis=1, initial=0.0)
    safe = np.where(largest > 0, largest, 1.0)
    unit = X / safe[:, None]
    norms = np.sqrt(np.sum(unit * unit, axis=1))
    shrink = radius / np.where(norms > 0, norms, 1.0)
    with np.errstate(over="ignore"):
        too_long = norms > radius / safe
        weights = np.where(too_long, shrink / safe, 1.0)
    return np.where(too_long[:, None], unit * shrink[:, None], X), weights


def clipped_records(X, y, config):
    """Clip records consistently: features and target are multiplied by one weight.

    Both sides of ``y = <x, theta> + noise`` are multiplied by ``w = min(1, x_bound / |x|)``,
    which depends on the features alone, so that the least-squares equations keep their
    solution. Clipping features and targets each by itself would not.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_columns)
        Features in public units.
    y : ndarray of shape (n_samples,)
        Targets in public units.
    config : LDPConfig
        The campaign.

    Returns
    -------
    X : ndarray of shape (n_samples, n_columns)
        ``w x``
    y : ndarray of shape (n_samples,)
        ``w y``, clipped to `y_bound`.
    """
    X, weights = clip_rows(X, config.x_bound)
    return X, np.clip(weights * y, -config.y_bound, config.y_bound)


def moment_vectors(X, y, gamma):
    """Stack the moments of clipped records.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_columns)
        Clipped features.
    y : ndarray of shape (n_samples,)
        Clipped targets.
    gamma : float
        Weight of the cross moments.

    Returns
    -------
    V : ndarray of shape (n_samples, n_columns * (n_columns + 3) / 2)
        ``(svec(x x'), gamma x y)``
    """
    rows, columns = np.triu_indices(X.shape[1])
    scale = np.where(rows == columns, 1.0, _SQRT_2)
    return np.hstack([X[:, rows] * X[:, columns] * scale, gamma * X * y[:, None]])


def unpack_moments(vector, n_columns, gamma):
    """Undo :func:`moment_vectors` for a mean.

    Parameters
    ----------
    vector : ndarray of shape (n_columns * (n_columns + 3) / 2,)
        Mean of the vectors.
    n_columns : int
        Number of columns.
    gamma : float
        Weight of the cross moments.

    Returns
    -------
    S : ndarray of shape (n_columns, n_columns)
        Mean of ``x x'``.
    b : ndarray of shape (n_columns,)
        Mean of ``x y``.
    """
    rows, columns = np.triu_indices(n_columns)
    entries = vector[: len(rows)] / np.where(rows == columns, 1.0, _SQRT_2)
    S = np.empty((n_columns, n_columns))
    S[rows, columns] = entries
    S[columns, rows] = entries
    return S, vector[len(rows) :] / gamma


def gradient_vectors(X, y, theta, config):
    """Gradients of the loss at a broadcast point, bounded by the radius.

    For the squared loss the residual is clipped, which makes it the gradient of Huber's loss:
    its mean vanishes at the true coefficients for noise that is symmetric, whatever its tails.
    For the logistic loss the probability sees the features unclipped and the gradient alone
    is scaled, so that its mean vanishes at the true coefficients too.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_columns)
        Features in public units.
    y : ndarray of shape (n_samples,)
        Targets in public units; 0 or 1 for the logistic loss.
    theta : ndarray of shape (n_columns,)
        The point, in public units.
    config : LDPConfig
        The campaign, of kind "gradient".

    Returns
    -------
    G : ndarray of shape (n_samples, n_columns)
    """
    clipped, weights = clip_rows(X, config.x_bound)
    # A point can be so large that products overflow, or cancel to NaN; left alone, that would
    # take the gradient out of its bounds.
    with np.errstate(over="ignore", invalid="ignore"):
        if config.loss == "logistic":
            residual = _expit(np.nan_to_num(X @ theta)) - np.clip(y, 0.0, 1.0)
        else:
            residual = np.nan_to_num(clipped @ theta) - weights * y
            residual = np.clip(residual, -config.residual_bound, config.residual_bound)
    return clipped * residual[:, None]


def _expit(t):
    # Of the two forms of the logistic function, each is used where it cannot overflow.
    shrunk = np.exp(-np.abs(t))
    return np.where(t >= 0, 1.0, shrunk) / (1.0 + shrunk)


def report_vectors(X, y, config, theta=None):
    """The vectors of records, each within the radius of the campaign.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_columns)
        Features in public units.
    y : ndarray of shape (n_samples,)
        Targets in public units.
    config : LDPConfig
        The campaign.
    theta : ndarray of shape (n_columns,) or None, default=None
        The broadcast point of kind "gradient".

    Returns
    -------
    V : ndarray of shape (n_samples, dim)
    """
    if config.kind == "label":
        return np.clip(y, -config.y_bound, config.y_bound)[:, None]
    if config.kind == "gradient":
        return gradient_vectors(X, y, theta, config)
    X, y = clipped_records(X, y, config)
    return X * y[:, None] if config.kind == "cross" else moment_vectors(X, y, config.gamma)
