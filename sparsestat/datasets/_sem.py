"""Data from linear structural equation models on random directed acyclic graphs."""

import math
from numbers import Integral, Real

import numpy as np
from sklearn.utils import Bunch

from sparsestat.utils._random import as_generator
from sparsestat.utils._sklearn import Interval, StrOptions, validate_params


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "n_nodes": [Interval(Integral, 1, None, closed="left")],
        "graph": [StrOptions({"er", "sf"})],
        "degree": [Interval(Real, 0, None, closed="left")],
        "weight_range": [tuple, list],
        "noise": [StrOptions({"gaussian", "exponential", "laplace", "gumbel"}), callable],
        "noise_variance": ["array-like", Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state", np.random.Generator],
    },
    prefer_skip_nested_validation=True,
)
def make_sem(
    n_samples=1000,
    n_nodes=20,
    *,
    graph="er",
    degree=4,
    weight_range=(0.5, 2.0),
    noise="gaussian",
    noise_variance=1.0,
    random_state=None,
):
    """Draw samples from a linear structural equation model on a random acyclic graph.

    Each node is a weighted sum of its parents and noise of its own::

        x_j = sum_i W[i, j] x_i + z_j

    Parameters
    ----------
    n_samples : int, default=1000
        Number of samples.
    n_nodes : int, default=20
        Number of nodes.
    graph : {"er", "sf"}, default="er"
        The family of graphs. ``"er"`` (Erdos-Renyi) joins every pair of nodes with the same
        probability and directs the edge along a random order. ``"sf"`` (scale-free,
        Barabasi-Albert) adds the nodes one by one; each sends edges to `degree` of the
        earlier ones, or to all of them if there are fewer, drawn with probabilities
        proportional to the number of edges that they have. The names of the nodes are
        shuffled in both families.
    degree : float, default=4
        Edges per node: ``"er"`` has ``degree * n_nodes`` edges in expectation, so that
        ``degree=4`` is what papers call ER4, and `degree` can be at most
        ``(n_nodes - 1) / 2``. ``"sf"`` takes an integer below `n_nodes` and has exactly
        ``degree * n_nodes - degree * (degree + 1) / 2`` edges.
    weight_range : tuple of (float, float), default=(0.5, 2.0)
        Smallest and largest absolute weight. Weights are uniform between them, with a random
        sign.
    noise : {"gaussian", "exponential", "laplace", "gumbel"} or callable, default="gaussian"
        The distribution of the noise, which always has mean zero: exponential and Gumbel
        noise is shifted. Simulations elsewhere often leave their means in; the two differ by
        a constant in each column. A callable is given a :class:`numpy.random.Generator` and
        the shape ``(n_samples, n_nodes)``, and returns noise of mean zero and variance one.
    noise_variance : float, tuple of (float, float) or array-like of shape (n_nodes,), \
default=1.0
        The variance of the noise: one for all nodes; a tuple of two numbers, between which
        the variance of each node is drawn uniformly; or, as a list or an array, one for each
        node.
    random_state : int, RandomState instance, Generator or None, default=None
        The source of everything that is drawn: graph, weights, variances and noise, in this
        order, so that one integer gives the same graph for any `n_samples` and `noise`. None
        stands for NumPy's global state.

    Returns
    -------
    sem : :class:`~sklearn.utils.Bunch`
        A dictionary with the attributes

        data : ndarray of shape (n_samples, n_nodes)
            The samples.
        adjacency : ndarray of shape (n_nodes, n_nodes)
            The weights W; ``W[i, j]`` is not zero if there is an edge from i to j.
        noise_scales : ndarray of shape (n_nodes,)
            Standard deviations of the noise.
        order : ndarray of shape (n_nodes,)
            The nodes, parents before their children.

    Raises
    ------
    ValueError
        For a degree that `n_nodes` nodes cannot have, and for ranges, variances or noise that
        do not fit.

    See Also
    --------
    load_sachs : Measurements of a protein network with a consensus graph.

    Notes
    -----
    The pairs of ``"er"`` are joined with probability ``2 * degree / (n_nodes - 1)``. In
    ``"sf"`` an edge leads from the newer to the older node, as in the simulations of the
    papers on continuous structure learning, so that the hubs are common effects.

    References
    ----------
    P. Erdos and A. Renyi (1960). On the evolution of random graphs. *Publications of the
    Mathematical Institute of the Hungarian Academy of Sciences* 5, 17-61.

    A.-L. Barabasi and R. Albert (1999). Emergence of scaling in random networks. *Science*
    286(5439), 509-512.

    X. Zheng, B. Aragam, P. Ravikumar and E. Xing (2018). DAGs with NO TEARS: continuous
    optimization for structure learning. *Advances in Neural Information Processing Systems*
    31.

    Examples
    --------
    >>> from sparsestat.datasets import make_sem
    >>> sem = make_sem(500, 10, degree=2, random_state=0)
    >>> sem.data.shape
    (500, 10)
    >>> noise = sem.data - sem.data @ sem.adjacency
    >>> bool(abs(noise.std() - 1.0) < 0.05)
    True
    """
    low, high = _check_weight_range(weight_range)
    _check_degree(graph, degree, n_nodes)
    rng = as_generator(random_state)
    edges = _random_dag(graph, degree, n_nodes, rng)
    order = rng.permutation(n_nodes)
    weights = rng.uniform(low, high, edges.shape) * rng.choice([-1.0, 1.0], edges.shape)
    adjacency = np.zeros((n_nodes, n_nodes))
    adjacency[np.ix_(order, order)] = np.where(edges, weights, 0.0)
    noise_scales = np.sqrt(_noise_variances(noise_variance, n_nodes, rng))
    data = _standardised_noise(noise, (n_samples, n_nodes), rng) * noise_scales
    for node in order:
        parents = np.flatnonzero(adjacency[:, node])
        data[:, node] += data[:, parents] @ adjacency[parents, node]
    return Bunch(data=data, adjacency=adjacency, noise_scales=noise_scales, order=order)


def _random_dag(graph, degree, n_nodes, rng):
    """Edges between positions of the order: an upper triangular boolean matrix."""
    edges = np.zeros((n_nodes, n_nodes), dtype=bool)
    if n_nodes == 1:
        return edges
    if graph == "er":
        pairs = np.triu_indices(n_nodes, 1)
        edges[pairs] = rng.random(len(pairs[0])) < 2.0 * degree / (n_nodes - 1)
        return edges
    n_ends = np.zeros(n_nodes)
    for new in range(1, n_nodes):
        chosen = np.arange(new)
        if new > degree:
            share = n_ends[:new] / n_ends[:new].sum() if degree else None
            chosen = rng.choice(new, int(degree), replace=False, p=share)
        n_ends[chosen] += 1
        n_ends[new] = len(chosen)
        # Edges lead to older nodes, which therefore come last.
        edges[n_nodes - 1 - new, n_nodes - 1 - chosen] = True
    return edges


def _standardised_noise(noise, shape, rng):
    if noise == "gaussian":
        return rng.standard_normal(shape)
    if noise == "exponential":
        return rng.standard_exponential(shape) - 1.0
    if noise == "laplace":
        return rng.laplace(scale=math.sqrt(0.5), size=shape)
    if noise == "gumbel":
        return (rng.gumbel(size=shape) - np.euler_gamma) * (math.sqrt(6.0) / math.pi)
    values = np.array(noise(rng, shape), dtype=np.float64)
    if values.shape != shape or not np.all(np.isfinite(values)):
        raise ValueError(
            f"noise must return finite values of shape {shape}, (n_samples, n_nodes), when it is "
            f"called with a Generator and that shape; got shape {values.shape}"
            f"{'' if values.shape != shape else ' with NaN or infinity'}."
        )
    return values


def _noise_variances(noise_variance, n_nodes, rng):
    if isinstance(noise_variance, tuple):
        low, high = _check_range(noise_variance, "noise_variance", "a list or an array")
        if low == 0:
            raise ValueError(f"noise_variance must be positive, got {noise_variance!r}.")
        return rng.uniform(low, high, n_nodes)
    try:
        variances = np.array(noise_variance, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"noise_variance must hold numbers, got {noise_variance!r}.") from error
    if variances.shape not in ((), (n_nodes,)):
        raise ValueError(
            "noise_variance must be a number, a tuple of two numbers or an array of shape "
            f"({n_nodes},), one entry for each node, got shape {variances.shape}."
        )
    if not np.all(np.isfinite(variances) & (variances > 0)):
        raise ValueError(f"noise_variance must be finite and positive, got {noise_variance!r}.")
    return np.broadcast_to(variances, n_nodes)


def _check_weight_range(weight_range):
    low, high = _check_range(weight_range, "weight_range")
    if high == 0:
        raise ValueError("weight_range must not be (0, 0): every weight would be zero.")
    return low, high


def _check_range(values, name, otherwise=None):
    hint = f" One number for each node comes as {otherwise}." if otherwise else ""
    try:
        low, high = (float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold two numbers, got {values!r}.{hint}") from error
    if not 0 <= low <= high < math.inf:
        raise ValueError(
            f"{name} must hold a lower and an upper bound with 0 <= lower <= upper, "
            f"got {values!r}.{hint}"
        )
    return low, high


def _check_degree(graph, degree, n_nodes):
    if graph == "er" and degree > (n_nodes - 1) / 2:
        raise ValueError(
            f"degree must be at most (n_nodes - 1) / 2 = {(n_nodes - 1) / 2:g} for graph='er' with "
            f"n_nodes={n_nodes}, which then has all edges, got {degree}."
        )
    if graph == "sf" and not (degree < n_nodes and float(degree).is_integer()):
        raise ValueError(
            f"degree must be an integer below n_nodes={n_nodes} for graph='sf', got {degree}."
        )
