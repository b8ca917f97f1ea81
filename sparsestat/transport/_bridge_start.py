"""Where to start the fit of a light Schroedinger bridge: clusters, and a plan for each."""

import numpy as np
from scipy.optimize import minimize

from sparsestat.transport._bridge_objective import host_vector, soft_sums, source_exponents
from sparsestat.transport._light_bridge import gaussian_bridge

_LLOYD_STEPS = 100
_SEED_ROWS, _SEED_STARTS = 4096, 10
_ROUNDS = 3
_TINY = 1e-300


def column_moments(Z, shares, xp):
    """Find the weighted mean and variance of the columns.

    Parameters
    ----------
    Z : array of shape (n, n_features)
        Points.
    shares : array of shape (n,)
        Their weights, which sum to one.
    xp : module
        Namespace of the points.

    Returns
    -------
    mean, variance : ndarray of shape (n_features,)
        On the host; the variance is zero for columns that rounding alone varies.
    """
    mean = xp.sum(shares[:, None] * Z, axis=0)
    away = Z - mean
    variance = xp.sum(shares[:, None] * (away * away), axis=0)
    mean, variance = host_vector(mean), host_vector(variance)
    noise = 8 * np.finfo(np.float64).eps * np.abs(mean)
    return mean, np.where(variance > noise * noise, variance, 0.0)


def _squared_distances(Y, centres, xp):
    squares = xp.sum(Y * Y, axis=1)[:, None] + xp.sum(centres * centres, axis=1)
    squares = squares - 2.0 * xp.matmul(Y, xp.matrix_transpose(centres))
    return xp.where(squares > 0, squares, xp.zeros_like(squares))


def _spread_out_rows(Y, n_rows, rng, xp):
    """Rows far from each other: the seeds of k-means++, the best of several draws each."""
    n_trials = 2 + int(np.log(n_rows))
    chosen = [int(rng.integers(Y.shape[0]))]
    nearest = None
    while True:
        last = Y[chosen[-1] : chosen[-1] + 1, :]
        away = _squared_distances(Y, last, xp)[:, 0]
        nearest = away if nearest is None else xp.where(away < nearest, away, nearest)
        if len(chosen) == n_rows:
            return xp.take(Y, xp.asarray(chosen, device=Y.device), axis=0)
        # The largest of log p_i + Gumbel noise is i with probability proportional to p_i.
        noise = xp.asarray(rng.gumbel(size=(n_trials, Y.shape[0])), device=Y.device)
        floor = xp.max(nearest) * 1e-30 + 1e-300
        drawn = xp.argmax(noise + xp.log(nearest + floor), axis=1)
        rows = xp.take(Y, drawn, axis=0)
        left = _squared_distances(Y, rows, xp)
        left = xp.sum(xp.where(left < nearest[:, None], left, nearest[:, None]), axis=0)
        chosen.append(int(drawn[int(xp.argmin(left))]))


def _nearest(Y, centres, xp):
    """Which centre is nearest to each row, as a matrix of zeros and ones."""
    labels = xp.argmin(_squared_distances(Y, centres, xp), axis=1)
    numbers = xp.arange(centres.shape[0], dtype=labels.dtype, device=Y.device)
    return xp.astype(labels[:, None] == numbers, xp.float64)


def _lloyd(Y, shares, centres, xp):
    """k-means from given centres; a centre that nothing is near to stays."""
    members = _nearest(Y, centres, xp)
    for _ in range(_LLOYD_STEPS):
        weighted = xp.matrix_transpose(shares[:, None] * members)
        mass = xp.sum(weighted, axis=1)[:, None]
        means = xp.matmul(weighted, Y) / xp.where(mass > 0, mass, xp.ones_like(mass))
        centres = xp.where(mass > 0, means, centres)
        before, members = members, _nearest(Y, centres, xp)
        if bool(xp.all(members == before)):
            break
    return members, centres


def _kmeans(Y, shares, n_clusters, rng, xp):
    """k-means from the best of several starts on a part of the rows."""
    few, few_shares = Y, shares
    if Y.shape[0] > _SEED_ROWS:
        rows = np.sort(rng.choice(Y.shape[0], _SEED_ROWS, replace=False))
        rows = xp.asarray(rows, device=Y.device)
        few, few_shares = xp.take(Y, rows, axis=0), xp.take(shares, rows)
    best, least = None, np.inf
    for _ in range(_SEED_STARTS if n_clusters > 1 else 1):
        centres = _spread_out_rows(few, n_clusters, rng, xp)
        centres = _lloyd(few, few_shares, centres, xp)[1]
        squares = xp.min(_squared_distances(few, centres, xp), axis=1)
        inertia = float(xp.sum(few_shares * squares))
        if inertia < least:
            best, least = centres, inertia
    return _lloyd(Y, shares, best, xp)


def _clusters(Y, shares, n_components, init, rng, xp):
    """Which cluster each target point belongs to, and the centres."""
    if isinstance(init, np.ndarray):
        centres = xp.asarray(init, dtype=xp.float64, device=Y.device)
    elif init == "random":
        rows = rng.choice(Y.shape[0], n_components, replace=False)
        centres = xp.take(Y, xp.asarray(rows, device=Y.device), axis=0)
    else:
        return _kmeans(Y, shares, n_components, rng, xp)
    return _nearest(Y, centres, xp), centres


def _cluster_moments(Z, weighted, centres, full, xp):
    """Masses, means and second moments about the means; empty clusters keep their centre."""
    masses, means, scatters = [], [], []
    for k in range(centres.shape[0]):
        away = Z - centres[k, :]
        shift = xp.sum(weighted[:, k : k + 1] * away, axis=0)
        masses.append(xp.sum(weighted[:, k : k + 1], axis=0))
        means.append(shift)
        if full:
            product = xp.matmul(xp.matrix_transpose(weighted[:, k : k + 1] * away), away)
            scatters.append(xp.reshape(product, (-1,)))
        else:
            scatters.append(xp.sum(weighted[:, k : k + 1] * (away * away), axis=0))
    K, d = centres.shape
    values = host_vector(xp.concat([*masses, *means, *scatters]))
    mass, shift = values[:K], values[K : K * (1 + d)].reshape(K, d)
    shape = (K, d, d) if full else (K, d)
    scatter = values[K * (1 + d) :].reshape(shape)
    shift = shift / np.maximum(mass, _TINY)[:, None]
    square = shift[:, :, None] * shift[:, None, :] if full else shift**2
    scatter = scatter - mass.reshape((K,) + (1,) * (len(shape) - 1)) * square
    return mass, shift, scatter


def _balanced_log_weights(exponents, shares, masses, xp):
    """The a_k for which softmax_k(a_k + exponents_k) has the given means: a convex problem."""

    def dual(a):
        shifted = exponents + xp.asarray(a[:, None], dtype=xp.float64, device=exponents.device)
        value, p = soft_sums(shifted, shares, xp)
        parts = [xp.reshape(value, (1,)), xp.sum(p, axis=1)]
        values = host_vector(xp.concat(parts))
        return values[0] - masses @ a, values[1:] - masses

    means = host_vector(xp.sum(exponents * shares, axis=1))
    options = {"maxiter": 100, "gtol": 1e-3 * masses.min(), "ftol": 0.0}
    return minimize(dual, np.log(masses) - means, jac=True, method="L-BFGS-B", options=options).x


def _second_moments(Z, shares, full, xp):
    """Of a centred sample, on the host."""
    origin = xp.zeros((1, Z.shape[1]), dtype=xp.float64, device=Z.device)
    return _cluster_moments(Z, shares[:, None], origin, full, xp)[2][0]


def first_guess(X, Y, x_shares, y_shares, *, n_components, full, init, rng, xp):
    """Guess the parameters from clusters of the target.

    Each component carries the part of the source that it takes to one cluster as the bridge
    between normal distributions would; the weights balance the masses of the parts, and
    with them the parts are found anew.

    Parameters
    ----------
    X, Y : array of shape (n, n_features) and (m, n_features)
        Samples in the units that make epsilon one.
    x_shares, y_shares : array of shape (n,) and (m,)
        Their weights.
    n_components : int
        Number of components.
    full : bool
        Whether the S_k are full matrices.
    init : {"kmeans", "random"} or ndarray of shape (n_components, n_features)
        Centres of the clusters, or how to find them.
    rng : numpy.random.Generator
        Source of random numbers.
    xp : module
        Namespace of the samples.

    Returns
    -------
    log_weights, locations, spreads : ndarray
        The parameters.
    """
    if n_components == 1:
        source, target = (
            _second_moments(*part, full, xp) for part in ((X, x_shares), (Y, y_shares))
        )
        origin = np.zeros(X.shape[1])
        bridge = gaussian_bridge(origin, source, origin, target, 1.0)
        return bridge.log_weights, bridge.locations, bridge.spreads
    members, centres = _clusters(Y, y_shares, n_components, init, rng, xp)
    mass, shift, scatter = _cluster_moments(Y, y_shares[:, None] * members, centres, full, xp)
    means = host_vector(xp.reshape(centres, (-1,))).reshape(n_components, -1) + shift
    # Small clusters borrow the spread of a point from all of them, so that none is a point.
    borrowed = 1.0 / Y.shape[0]
    _, v = column_moments(Y, y_shares, xp)
    pooled = scatter.sum(axis=0)
    pooled = pooled + 1e-4 * (np.diag(v) if full else v)
    masses = (mass + borrowed) / (1.0 + n_components * borrowed)
    targets = [(q + borrowed * pooled) / (p + borrowed) for p, q in zip(mass, scatter)]

    parts = xp.zeros((X.shape[0], n_components), dtype=xp.float64, device=X.device) + xp.asarray(
        masses, dtype=xp.float64, device=X.device
    )
    origin = xp.zeros((n_components, X.shape[1]), dtype=xp.float64, device=X.device)
    for _ in range(_ROUNDS):
        x_mass, x_means, x_scatter = _cluster_moments(
            X, x_shares[:, None] * parts, origin, full, xp
        )
        spreads = []
        for k in range(n_components):
            source = x_scatter[k] / max(x_mass[k], _TINY)
            bridge = gaussian_bridge(x_means[k], source, means[k], targets[k], 1.0)
            spreads.append(bridge.spreads[0])
        spreads = np.stack(spreads)
        moved = np.einsum("kij,kj->ki", spreads, x_means) if full else spreads * x_means
        locations = means - moved
        exponents = source_exponents(X, locations, spreads, xp)
        log_weights = _balanced_log_weights(exponents, x_shares, masses, xp)
        shifted = exponents + xp.asarray(log_weights[:, None], dtype=xp.float64, device=X.device)
        parts = xp.matrix_transpose(soft_sums(shifted, xp.ones_like(x_shares), xp)[1])
    return log_weights, locations, spreads
