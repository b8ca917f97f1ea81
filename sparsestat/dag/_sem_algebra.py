"""What follows from the weights of an acyclic linear model: moments, effects, densities, samples.

The model of d variables with mean m, weights W and independent noise z is

    x_j = m_j + sum_i W[i, j] (x_i - m_i) + z_j,   or   (x - m)(I - W) = z   as rows,

where W[i, j] != 0 means i -> j. With the variables in a topological order, parents first,
I - W is upper triangular with a unit diagonal: its determinant is 1, and every solve below
is a triangular one, whose zeros are exact.
"""

import numbers
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.linalg import lapack, solve_triangular

_BLOCK_BYTES = 4 * 2**20
_MIN_BLOCK_ROWS = 64


class PathEffect(NamedTuple):
    """One directed path and what it carries."""

    nodes: tuple
    """Nodes of the path, from the source to the target."""
    effect: float
    """Product of the weights along the path."""


def row_blocks(n_samples, n_features):
    """Slices of rows of which a float64 copy takes about 4 MB.

    Parameters
    ----------
    n_samples : int
        Number of rows.
    n_features : int
        Number of columns.

    Yields
    ------
    rows : slice
        Consecutive rows; together all of them.
    """
    size = max(_MIN_BLOCK_ROWS, _BLOCK_BYTES // (8 * max(n_features, 1)))
    for start in range(0, n_samples, size):
        yield slice(start, min(start + size, n_samples))


def dense_block(X, rows):
    """A float64 copy of some rows.

    Parameters
    ----------
    X : {ndarray, CSR array} of shape (n_samples, n_features)
        Data.
    rows : slice
        Which rows.

    Returns
    -------
    block : ndarray of shape (n_rows, n_features)
        New array.
    """
    block = X[rows]
    if sparse.issparse(block):
        block = block.toarray()
    return np.array(block, dtype=np.float64)


def conditional_mean(X, mean, adjacency):
    """Mean of every variable given its parents.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Data.
    mean : ndarray of shape (n_features,)
        Means m.
    adjacency : ndarray of shape (n_features, n_features)
        Weights W.

    Returns
    -------
    prediction : ndarray of shape (n_samples, n_features)
        ``mean + (X - mean) @ adjacency``.
    """
    return (X - mean) @ adjacency + mean


def standardise(residuals, noise_scales):
    """Divide residuals by noise scales; a scale of zero gives zero.

    Parameters
    ----------
    residuals : ndarray of shape (n_samples, n_features)
        Estimates of the noise.
    noise_scales : ndarray of shape (n_features,)
        Standard deviations, zero for a column without noise.

    Returns
    -------
    noise : ndarray of shape (n_samples, n_features)
        New array.
    """
    noisy = noise_scales > 0
    inverse = np.divide(1.0, noise_scales, out=np.zeros_like(noise_scales), where=noisy)
    return np.where(noisy, residuals * inverse, 0.0)


def total_effects(adjacency, order):
    """Change of every variable per unit of a change forced upon another.

    Parameters
    ----------
    adjacency : ndarray of shape (n_features, n_features)
        Weights W.
    order : ndarray of shape (n_features,)
        A topological order.

    Returns
    -------
    effects : ndarray of shape (n_features, n_features)
        ``(I - W)^{-1} - I``: the sums over directed paths from row to column of the
        products of the weights, exactly zero where there is no path.
    """
    inverse = _inverse_in_order(adjacency, order)
    np.fill_diagonal(inverse, 0.0)
    effects = np.empty_like(inverse)
    effects[np.ix_(order, order)] = inverse
    return effects


def implied_covariance(adjacency, noise_scales, order):
    """Covariance of the variables that the model implies.

    Parameters
    ----------
    adjacency : ndarray of shape (n_features, n_features)
        Weights W.
    noise_scales : ndarray of shape (n_features,)
        Standard deviations s of the noise.
    order : ndarray of shape (n_features,)
        A topological order.

    Returns
    -------
    covariance : ndarray of shape (n_features, n_features)
        ``(I - W)^{-T} diag(s^2) (I - W)^{-1}``, symmetric to the last bit.
    """
    root = noise_scales[order, None] * _inverse_in_order(adjacency, order)
    product = root.T @ root
    covariance = np.empty_like(product)
    covariance[np.ix_(order, order)] = 0.5 * (product + product.T)
    return covariance


def solve_noise(noise, adjacency, order):
    """Deviations of the variables from their means that given noise causes.

    Parameters
    ----------
    noise : ndarray of shape (n_samples, n_features)
        Noise z.
    adjacency : ndarray of shape (n_features, n_features)
        Weights W.
    order : ndarray of shape (n_features,)
        A topological order.

    Returns
    -------
    deviations : ndarray of shape (n_samples, n_features)
        ``z (I - W)^{-1}``.
    """
    system = np.eye(order.size) - adjacency[np.ix_(order, order)]
    solution = solve_triangular(
        system,
        noise[:, order].T,
        trans="T",
        unit_diagonal=True,
        overwrite_b=True,
        check_finite=False,
    )
    deviations = np.empty_like(noise)
    deviations[:, order] = solution.T
    return deviations


def mutilate(adjacency, targets):
    """Cut the edges into nodes whose values are forced.

    Parameters
    ----------
    adjacency : ndarray of shape (n_features, n_features)
        Weights W.
    targets : sequence of int
        Nodes.

    Returns
    -------
    adjacency : ndarray of shape (n_features, n_features)
        A copy with zero columns at the targets.
    """
    cut = np.array(adjacency, dtype=np.float64)
    cut[:, list(targets)] = 0.0
    return cut


def intervened_moments(adjacency, noise_scales, mean, order, values):
    """Mean and covariance after some variables are set to constants.

    Parameters
    ----------
    adjacency : ndarray of shape (n_features, n_features)
        Weights W.
    noise_scales : ndarray of shape (n_features,)
        Standard deviations of the noise.
    mean : ndarray of shape (n_features,)
        Means without intervention.
    order : ndarray of shape (n_features,)
        A topological order.
    values : dict of int to float
        Constant of each forced node.

    Returns
    -------
    mean : ndarray of shape (n_features,)
        Means after the intervention.
    covariance : ndarray of shape (n_features, n_features)
        Covariance after the intervention; zero rows at the forced nodes.
    adjacency : ndarray of shape (n_features, n_features)
        Weights without the edges into forced nodes.
    """
    targets = list(values)
    cut = mutilate(adjacency, targets)
    scales = noise_scales.copy()
    scales[targets] = 0.0
    shift = np.zeros((1, mean.size))
    forced = np.array(list(values.values()), dtype=np.float64)
    shift[0, targets] = forced - mean[targets]
    moved = mean + solve_noise(shift, cut, order)[0]
    # The detour over the difference to the mean rounds; the constant is known.
    moved[targets] = forced
    return moved, implied_covariance(cut, scales, order), cut


def path_effects(adjacency, source, target):
    """Enumerate the directed paths between two nodes, depth first.

    Parameters
    ----------
    adjacency : ndarray of shape (n_features, n_features)
        Weights of an acyclic graph.
    source, target : int
        Nodes.

    Yields
    ------
    path : PathEffect
        Nodes and product of the weights. The number of paths may be exponential in the
        number of nodes; the memory is proportional to the length of a path.
    """
    if source == target:
        return
    leads_on = _ancestors(adjacency, target)
    children = [
        [child for child in np.flatnonzero(row).tolist() if leads_on[child]] for row in adjacency
    ]
    nodes, products = [source], [1.0]
    branches = [iter(children[source])]
    while branches:
        child = next(branches[-1], None)
        if child is None:
            branches.pop()
            nodes.pop()
            products.pop()
            continue
        product = products[-1] * float(adjacency[nodes[-1], child])
        if child == target:
            yield PathEffect((*nodes, child), product)
            continue
        nodes.append(child)
        products.append(product)
        branches.append(iter(children[child]))


def gaussian_log_density(X, mean, adjacency, noise_scales, *, resolution):
    """Log-density of rows under the model with Gaussian noise.

    Since the determinant of I - W is 1, it is the sum over the nodes of the
    log-densities of their noise. A node without noise has no density: rows that obey
    its equation are not charged for it, others have density zero.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Data.
    mean : ndarray of shape (n_features,)
        Means.
    adjacency : ndarray of shape (n_features, n_features)
        Weights W.
    noise_scales : ndarray of shape (n_features,)
        Standard deviations of the noise.
    resolution : float
        Relative rounding error of the data, up to which an equation without noise
        counts as obeyed.

    Returns
    -------
    log_density : ndarray of shape (n_samples,)
        With respect to the Lebesgue measure of the columns with noise.
    """
    residuals = X - conditional_mean(X, mean, adjacency)
    noisy = noise_scales > 0
    scaled = residuals[:, noisy] / noise_scales[noisy]
    normaliser = 0.5 * noisy.sum() * np.log(2 * np.pi) + np.log(noise_scales[noisy]).sum()
    log_density = -0.5 * np.einsum("ij,ij->i", scaled, scaled) - normaliser
    if not np.all(noisy):
        bare = ~noisy
        size = np.abs(X[:, bare]) + np.abs(mean[bare])
        size += (np.abs(X) + np.abs(mean)) @ np.abs(adjacency[:, bare])
        broken = np.abs(residuals[:, bare]) > 16 * resolution * size
        log_density[broken.any(axis=1)] = -np.inf
    return log_density


def draw_noise(noise, shape, rng):
    """Independent noise of mean 0 and variance 1.

    Parameters
    ----------
    noise : {"gaussian", "exponential", "laplace", "gumbel"} or callable
        Distribution; a callable is called as ``noise(rng, shape)``.
    shape : tuple of int
        Shape.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    draws : ndarray of float64
        Of the given shape.
    """
    if callable(noise):
        return check_draws(noise(rng, shape), shape, "noise")
    if noise == "gaussian":
        return rng.standard_normal(shape)
    if noise == "exponential":
        return rng.standard_exponential(shape) - 1.0
    if noise == "laplace":
        return rng.laplace(scale=np.sqrt(0.5), size=shape)
    return (rng.gumbel(size=shape) - np.euler_gamma) * (np.sqrt(6.0) / np.pi)


def sample_model(adjacency, noise_scales, mean, order, *, n_samples, noise, interventions, rng):
    """Draw from the model, with some variables forced.

    Parameters
    ----------
    adjacency : ndarray of shape (n_features, n_features)
        Weights W.
    noise_scales : ndarray of shape (n_features,)
        Standard deviations of the noise.
    mean : ndarray of shape (n_features,)
        Means without intervention.
    order : ndarray of shape (n_features,)
        A topological order.
    n_samples : int
        Number of rows.
    noise : str or callable
        As in :func:`draw_noise`.
    interventions : dict of int to float or callable
        What each forced node is set to; a callable is called as ``f(rng, n_samples)``.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        The sample.
    """
    deviations = draw_noise(noise, (n_samples, mean.size), rng) * noise_scales
    forced = {}
    for node, value in interventions.items():
        if isinstance(value, numbers.Real):
            forced[node] = np.full(n_samples, float(value))
        else:
            forced[node] = check_draws(value(rng, n_samples), (n_samples,), "interventions")
        deviations[:, node] = forced[node] - mean[node]
    X = solve_noise(deviations, mutilate(adjacency, forced), order) + mean
    for node, values in forced.items():
        # The detour over the difference to the mean rounds; the value is known.
        X[:, node] = values
    return X


def check_draws(draws, shape, name):
    """Refuse what a user's callable returned unless it is finite and of the right shape.

    Parameters
    ----------
    draws : array-like
        What was returned.
    shape : tuple of int
        The shape that was asked for.
    name : str
        The argument that a message names.

    Returns
    -------
    draws : ndarray of float64
        A copy.
    """
    draws = np.array(draws, dtype=np.float64)
    if draws.shape != shape:
        raise ValueError(
            f"A callable given as {name} must return an array of shape {shape}, which it is "
            f"asked for, got {draws.shape}."
        )
    if not np.all(np.isfinite(draws)):
        raise ValueError(f"A callable given as {name} returned NaN or infinity.")
    return draws


def _inverse_in_order(adjacency, order):
    """The inverse of I - W, rows and columns in topological order."""
    system = np.eye(order.size) - adjacency[np.ix_(order, order)]
    inverse, _ = lapack.dtrtri(system, lower=0, unitdiag=1)
    return np.triu(inverse)


def _ancestors(adjacency, node):
    """Which nodes have a directed path to one, itself included."""
    found = np.zeros(len(adjacency), dtype=bool)
    found[node] = True
    waiting = [node]
    while waiting:
        parents = np.flatnonzero((adjacency[:, waiting.pop()] != 0) & ~found)
        found[parents] = True
        waiting.extend(parents.tolist())
    return found
