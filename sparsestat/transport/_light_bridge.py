"""What follows from the mixture behind a light Schroedinger bridge.

The adjusted potential v(y) = sum_k alpha_k N(y; r_k, epsilon S_k) gives the plan

    pi(y | x) = sum_k w_k(x) N(y; r_k + S_k x, epsilon S_k),
    w_k(x) proportional to alpha_k exp((x'S_k x + 2 r_k'x) / (2 epsilon)),

and the drift of the bridge, the diffusion dX = g(X, t) dt + sqrt(epsilon) dW. Both x and y are
used after subtracting a centre, which changes the parameters but not the plan (a translation of
either sample adds to x.y a term in x and a term in y alone), and spares the exponents from
differences of large numbers.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from sparsestat.utils._arrays import get_namespace


class BridgeMixture(NamedTuple):
    """The adjusted potential of centred data.

    Attributes
    ----------
    log_weights : array of shape (n_components,)
        Logarithms of the alpha_k.
    locations : array of shape (n_components, n_features)
        Locations r_k.
    spreads : array of shape (n_components, n_features[, n_features])
        Diagonals of the S_k, or the matrices.
    epsilon : float
        Variance of the Wiener process per unit of time.
    source_center : array of shape (n_features,)
        What is subtracted from x.
    target_center : array of shape (n_features,)
        What is subtracted from y.
    """

    log_weights: Any
    locations: Any
    spreads: Any
    epsilon: float
    source_center: Any
    target_center: Any

    @property
    def n_components(self):
        """Number of components."""
        return self.log_weights.shape[0]

    @property
    def full(self):
        """Whether the S_k are full matrices."""
        return self.spreads.ndim == 3


def _namespace(mixture, *points):
    return get_namespace(*points, mixture.locations)[0]


def _spread_times(mixture, k, X, xp):
    """S_k x for all rows."""
    spread = mixture.spreads[k, ...]
    return xp.matmul(X, spread) if mixture.full else X * spread


def _eigen(mixture, xp):
    """Eigenvalues of the S_k, and eigenvectors or None."""
    if not mixture.full:
        return mixture.spreads, None
    values, vectors = xp.linalg.eigh(mixture.spreads)
    # A small eigenvalue may have been rounded to a negative one.
    least = xp.max(values, axis=-1, keepdims=True) * 1e-15
    return xp.where(values > least, values, least), vectors


def _rotated(Z, vectors, k, xp):
    return Z if vectors is None else xp.matmul(Z, vectors[k, :, :])


def _log_sum_exp(exponents, xp):
    largest = xp.max(exponents, axis=1, keepdims=True)
    return largest[:, 0] + xp.log(xp.sum(xp.exp(exponents - largest), axis=1))


def _softmax(exponents, xp):
    terms = xp.exp(exponents - xp.max(exponents, axis=1, keepdims=True))
    return terms / xp.sum(terms, axis=1, keepdims=True)


def _source_exponents(mixture, X, xp):
    """log alpha_k + (x'S_k x + 2 r_k'x) / (2 epsilon) for centred x."""
    squares = [
        xp.sum(X * _spread_times(mixture, k, X, xp), axis=1) for k in range(mixture.n_components)
    ]
    products = xp.matmul(X, xp.matrix_transpose(mixture.locations))
    scaled = (0.5 * xp.stack(squares, axis=1) + products) / mixture.epsilon
    return mixture.log_weights + scaled


def _log_normal(away, k, values, vectors, epsilon, xp):
    """log N(away; 0, epsilon S_k)."""
    variances = epsilon * values[k, :]
    turned = _rotated(away, vectors, k, xp)
    constant = xp.sum(xp.log(variances)) + away.shape[1] * math.log(2.0 * math.pi)
    return -0.5 * (xp.sum(turned * turned / variances, axis=1) + constant)


def component_weights(mixture, X):
    """Probabilities of the components, given the starting points.

    Parameters
    ----------
    mixture : BridgeMixture
        The potential.
    X : array of shape (n, n_features)
        Starting points.

    Returns
    -------
    weights : array of shape (n, n_components)
        Rows that sum to one.
    """
    xp = _namespace(mixture, X)
    return _softmax(_source_exponents(mixture, X - mixture.source_center, xp), xp)


def component_means(mixture, X):
    """Means of the components of the end point, given the starting points.

    Parameters
    ----------
    mixture : BridgeMixture
        The potential.
    X : array of shape (n, n_features)
        Starting points.

    Returns
    -------
    means : array of shape (n, n_components, n_features)
        The r_k + S_k x.
    """
    xp = _namespace(mixture, X)
    X = X - mixture.source_center
    centres = mixture.target_center + mixture.locations
    parts = [centres[k, :] + _spread_times(mixture, k, X, xp) for k in range(mixture.n_components)]
    return xp.stack(parts, axis=1)


def conditional_mean(mixture, X):
    """Mean of the end point, given the starting points.

    Parameters
    ----------
    mixture : BridgeMixture
        The potential.
    X : array of shape (n, n_features)
        Starting points.

    Returns
    -------
    mean : array of shape (n, n_features)
        The barycentric projection of the plan.
    """
    xp = _namespace(mixture, X)
    X = X - mixture.source_center
    weights = _softmax(_source_exponents(mixture, X, xp), xp)
    mean = mixture.target_center + xp.matmul(weights, mixture.locations)
    if not mixture.full:
        return mean + xp.matmul(weights, mixture.spreads) * X
    for k in range(mixture.n_components):
        mean = mean + weights[:, k : k + 1] * _spread_times(mixture, k, X, xp)
    return mean


def conditional_covariance(mixture, X):
    """Covariance of the end point, given the starting points.

    Parameters
    ----------
    mixture : BridgeMixture
        The potential.
    X : array of shape (n, n_features)
        Starting points.

    Returns
    -------
    covariances : array of shape (n, n_features, n_features)
        Within components and between them.
    """
    xp = _namespace(mixture, X)
    weights = component_weights(mixture, X)
    means = component_means(mixture, X)
    away = means - xp.sum(weights[:, :, None] * means, axis=1, keepdims=True)
    between = xp.matmul(xp.matrix_transpose(weights[:, :, None] * away), away)
    spreads = mixture.spreads
    if not mixture.full:
        n_features = spreads.shape[1]
        identity = xp.eye(n_features, dtype=spreads.dtype, device=spreads.device)
        spreads = spreads[:, :, None] * identity
    flat = xp.reshape(spreads, (mixture.n_components, -1))
    within = xp.reshape(xp.matmul(weights, flat), between.shape)
    return between + mixture.epsilon * within


def conditional_logpdf(mixture, X, Y):
    """Logarithm of the density of the end points, given the starting points.

    Parameters
    ----------
    mixture : BridgeMixture
        The potential.
    X : array of shape (n, n_features)
        Starting points.
    Y : array of shape (n, n_features)
        End points, one for each of them.

    Returns
    -------
    logpdf : array of shape (n,)
        log pi(y_i | x_i).
    """
    xp = _namespace(mixture, X, Y)
    values, vectors = _eigen(mixture, xp)
    X, Y = X - mixture.source_center, Y - mixture.target_center
    exponents = _source_exponents(mixture, X, xp)
    parts = []
    for k in range(mixture.n_components):
        away = Y - mixture.locations[k, :] - _spread_times(mixture, k, X, xp)
        parts.append(_log_normal(away, k, values, vectors, mixture.epsilon, xp))
    joint = _log_sum_exp(exponents + xp.stack(parts, axis=1), xp)
    return joint - _log_sum_exp(exponents, xp)


def _centred_log_normalizer(mixture, X, xp):
    return _log_sum_exp(_source_exponents(mixture, X, xp), xp)


def _centred_log_potential(mixture, Y, xp):
    values, vectors = _eigen(mixture, xp)
    parts = [
        mixture.log_weights[k]
        + _log_normal(Y - mixture.locations[k, :], k, values, vectors, mixture.epsilon, xp)
        for k in range(mixture.n_components)
    ]
    return _log_sum_exp(xp.stack(parts, axis=1), xp)


def log_normalizer(mixture, X):
    """Logarithm of c(x) = int exp(x.y / epsilon) v(y) dy, for points that are not centred.

    Parameters
    ----------
    mixture : BridgeMixture
        The potential.
    X : array of shape (n, n_features)
        Starting points.

    Returns
    -------
    log_c : array of shape (n,)
        Its values.
    """
    xp = _namespace(mixture, X)
    centred = _centred_log_normalizer(mixture, X - mixture.source_center, xp)
    return centred + xp.sum(X * mixture.target_center, axis=1) / mixture.epsilon


def log_potential(mixture, Y):
    """Logarithm of the adjusted potential v(y), for points that are not centred.

    Parameters
    ----------
    mixture : BridgeMixture
        The potential.
    Y : array of shape (m, n_features)
        End points.

    Returns
    -------
    log_v : array of shape (m,)
        Its values.
    """
    xp = _namespace(mixture, Y)
    Y = Y - mixture.target_center
    centred = _centred_log_potential(mixture, Y, xp)
    return centred - xp.sum(Y * mixture.source_center, axis=1) / mixture.epsilon


def bridge_loss(mixture, X, Y, x_shares, y_shares):
    """Loss of a potential for two samples.

    Parameters
    ----------
    mixture : BridgeMixture
        The potential.
    X : array of shape (n, n_features)
        Starting points.
    Y : array of shape (m, n_features)
        End points.
    x_shares : array of shape (n,)
        Weights of the starting points, which sum to one.
    y_shares : array of shape (m,)
        Weights of the end points, which sum to one.

    Returns
    -------
    loss : float
        The mean of log c(x) less that of log v(y), less the inner product of the means of
        the samples divided by epsilon: the Kullback-Leibler divergence from the bridge of
        the samples up to a number that depends on their shapes only, not on where they are.
    """
    xp = _namespace(mixture, X, Y)
    X, Y = X - mixture.source_center, Y - mixture.target_center
    x_mean = xp.sum(x_shares[:, None] * X, axis=0)
    y_mean = xp.sum(y_shares[:, None] * Y, axis=0)
    loss = xp.sum(x_shares * _centred_log_normalizer(mixture, X, xp))
    loss = loss - xp.sum(y_shares * _centred_log_potential(mixture, Y, xp))
    return float(loss - xp.sum(x_mean * y_mean) / mixture.epsilon)


def drift(mixture, X, t):
    """Drift of the bridge.

    Parameters
    ----------
    mixture : BridgeMixture
        The potential.
    X : array of shape (n, n_features)
        Where the diffusion is at the time t.
    t : float
        Time, in [0, 1).

    Returns
    -------
    drift : array of shape (n, n_features)
        (E[X_1 | X_t = x] - x) / (1 - t).
    """
    # With M_k = I + t / (1 - t) S_k and z = x / (1 - t) the end point is distributed as the
    # mixture of normal distributions with means M_k^-1 (S_k z + r_k) and weights proportional to
    # alpha_k det(M_k)^-1/2 exp((z'S_k M_k^-1 z + 2 r_k'M_k^-1 z - t/(1-t) r_k'M_k^-1 r_k) / 2 eps),
    # in which no S_k is inverted.
    xp = _namespace(mixture, X)
    values, vectors = _eigen(mixture, xp)
    ratio = t / (1.0 - t)
    X = X - (1.0 - t) * mixture.source_center - t * mixture.target_center
    Z = X / (1.0 - t)
    exponents, means = [], []
    for k in range(mixture.n_components):
        stretch = 1.0 + ratio * values[k, :]
        z = _rotated(Z, vectors, k, xp)
        r = _rotated(mixture.locations[k : k + 1, :], vectors, k, xp)
        mean = (values[k, :] * z + r) / stretch
        square = xp.sum(z * mean + (z * r - ratio * r * r) / stretch, axis=1)
        exponents.append(
            mixture.log_weights[k]
            - 0.5 * xp.sum(xp.log(stretch))
            + square / (2.0 * mixture.epsilon)
        )
        if vectors is not None:
            mean = xp.matmul(mean, xp.matrix_transpose(vectors[k, :, :]))
        means.append(mean)
    weights = _softmax(xp.stack(exponents, axis=1), xp)
    end = sum(weights[:, k : k + 1] * mean for k, mean in enumerate(means))
    return mixture.target_center - mixture.source_center + (end - X) / (1.0 - t)


def sample_end_points(mixture, X, rng):
    """Draw an end point for each starting point.

    Parameters
    ----------
    mixture : BridgeMixture
        The potential.
    X : array of shape (n, n_features)
        Starting points.
    rng : numpy.random.Generator
        Source of the random numbers, which are drawn on the host.

    Returns
    -------
    Y : array of shape (n, n_features)
        One end point for each.
    """
    xp = _namespace(mixture, X)
    values, vectors = _eigen(mixture, xp)
    X = X - mixture.source_center
    weights = _softmax(_source_exponents(mixture, X, xp), xp)
    uniform = xp.asarray(rng.random(X.shape[0]), device=X.device)
    noise = xp.asarray(rng.standard_normal(tuple(X.shape)), device=X.device)
    Y = mixture.target_center + xp.zeros_like(X)
    low = xp.zeros_like(uniform)
    for k in range(mixture.n_components):
        # Rounding must not leave a point without a component.
        last = k == mixture.n_components - 1
        high = xp.ones_like(uniform) if last else low + weights[:, k]
        chosen = ((uniform >= low) & (uniform < high))[:, None]
        away = noise * xp.sqrt(mixture.epsilon * values[k, :])
        if vectors is not None:
            away = xp.matmul(away, xp.matrix_transpose(vectors[k, :, :]))
        end = mixture.locations[k, :] + _spread_times(mixture, k, X, xp) + away
        Y = Y + xp.where(chosen, end, xp.zeros_like(end))
        low = high
    return Y


def sample_bridge(X, Y, times, epsilon, rng):
    """Draw Brownian bridges between points.

    Parameters
    ----------
    X : array of shape (n, n_features)
        Where they are at time 0.
    Y : array of shape (n, n_features)
        Where they are at time 1.
    times : ndarray of shape (n_times,)
        Times in [0, 1], in any order.
    epsilon : float
        Variance per unit of time.
    rng : numpy.random.Generator
        Source of the random numbers, which are drawn on the host.

    Returns
    -------
    paths : array of shape (n, n_times, n_features)
        The points at the times.
    """
    xp = get_namespace(X, Y)[0]
    at = [None] * len(times)
    now, here = 0.0, X
    for position in np.argsort(times, kind="stable").tolist():
        t = float(times[position])
        if t == 1.0:
            here = Y
        elif t > now:
            share = (t - now) / (1.0 - now)
            noise = xp.asarray(rng.standard_normal(tuple(X.shape)), device=X.device)
            deviation = math.sqrt(epsilon * (t - now) * (1.0 - t) / (1.0 - now))
            here = here + share * (Y - here) + deviation * noise
        at[position] = here
        now = t
    return xp.stack(at, axis=1)


def recentred(mixture, source_center, target_center):
    """The same plan in terms of other centres.

    Parameters
    ----------
    mixture : BridgeMixture
        The potential.
    source_center : array of shape (n_features,)
        What shall be subtracted from x.
    target_center : array of shape (n_features,)
        What shall be subtracted from y.

    Returns
    -------
    mixture : BridgeMixture
        Zeros as centres give the parameters of the formulas in which nothing is subtracted.
        Both potentials of the plan may get a common factor.
    """
    xp = _namespace(mixture)
    shift = (source_center - mixture.source_center)[None, :]
    moved = [_spread_times(mixture, k, shift, xp)[0, :] for k in range(mixture.n_components)]
    return mixture._replace(
        log_weights=_source_exponents(mixture, shift, xp)[0, :],
        locations=mixture.locations + xp.stack(moved) + (mixture.target_center - target_center),
        source_center=source_center,
        target_center=target_center,
    )


def gaussian_bridge(source_mean, source_covariance, target_mean, target_covariance, epsilon):
    """The bridge between two normal distributions, in closed form.

    The matrix S of the single component solves the Riccati equation
    ``S S0 S + epsilon S = S1``. With R the square root of S1 its solution is
    ``R (epsilon I / 2 + (epsilon^2 I / 4 + R S0 R)^(1/2))^-1 R``, where nothing has to be
    inverted that could be singular.

    Parameters
    ----------
    source_mean : ndarray of shape (n_features,)
        Mean of the source.
    source_covariance : ndarray of shape (n_features[, n_features])
        Its covariance S0, or its variances if the columns are independent.
    target_mean : ndarray of shape (n_features,)
        Mean of the target.
    target_covariance : ndarray of the same shape
        Its covariance S1, or its variances.
    epsilon : float
        Variance of the Wiener process per unit of time.

    Returns
    -------
    mixture : BridgeMixture
        One component, with the means as centres.
    """
    if source_covariance.ndim == 1:
        root = np.sqrt(epsilon**2 / 4 + source_covariance * target_covariance)
        spread = target_covariance / (epsilon / 2 + root)
    else:
        values, vectors = np.linalg.eigh(target_covariance)
        root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
        values, vectors = np.linalg.eigh(root @ source_covariance @ root)
        values = epsilon / 2 + np.sqrt(epsilon**2 / 4 + np.maximum(values, 0.0))
        turned = root @ vectors
        spread = (turned / values) @ turned.T
    zero = np.zeros_like(source_mean)
    return BridgeMixture(
        np.zeros(1), zero[None], spread[None], float(epsilon), source_mean, target_mean
    )
