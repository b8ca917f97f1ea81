r"""The algebra of the covariances that a linear structural equation model can have.

With directed weights :math:`\Lambda` and noise covariance :math:`\Omega` the covariance is
:math:`\Sigma = (I - \Lambda)^{-T} \Omega (I - \Lambda)^{-1}`, and directed cycles are allowed.

**One-connections.** In Leibniz' formula for :math:`\det(I - \Lambda)` a permutation is a family
of vertex-disjoint directed cycles; a vertex that it fixes contributes :math:`1 - \Lambda_{vv}`,
and a cycle of length m contributes :math:`(-1)^{m-1}` from the signature and :math:`(-1)^m` from
the entries, that is -1 times its weight. Hence, with loops as cycles of length one, the minor of
the vertices U is

.. math:: D(U) = \sum_{\mathcal{C}} (-1)^{|\mathcal{C}|} \prod_{c \in \mathcal{C}} w(c),

over all families of disjoint cycles inside U. By the same count the cofactor that belongs to
:math:`(I - \Lambda)^{-1}_{ij}` is :math:`C_{ij} = \sum_P w(P) D(V \setminus P)` over the simple
paths P from i to j: a path with a disjoint family of cycles is a one-connection. So

.. math:: \sigma_{ij} = D(V)^{-2} \sum_{kl} \omega_{kl} C_{ki} C_{lj}.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import linalg
from sklearn.utils import check_array

_MAX_NODES = 12


class OneConnection(NamedTuple):
    """A directed path with vertex-disjoint directed cycles beside it.

    Attributes
    ----------
    path : tuple of int
        The vertices of the path, from the source to the target.
    cycles : tuple of tuple of int
        The vertices of each cycle, the smallest first; a loop has one.
    sign : int
        -1 for an odd number of cycles, else 1.
    weight : float
        The product of the weights of all edges, without the sign; 1.0 for no edges.

    Examples
    --------
    >>> from sparsestat.dag import one_connections
    >>> path, cycles, sign, weight = next(one_connections([[0.0, 0.5], [0.0, 0.0]], 0, 1))
    >>> path, weight
    ((0, 1), 0.5)
    """

    path: tuple[int, ...]
    cycles: tuple[tuple[int, ...], ...]
    sign: int
    weight: float


def sem_covariance(Lambda, Omega):
    r"""Covariance of a linear structural equation model, cycles allowed.

    .. math:: \Sigma = (I - \Lambda)^{-T} \, \Omega \, (I - \Lambda)^{-1}

    Parameters
    ----------
    Lambda : array-like of shape (n_nodes, n_nodes)
        Weights of the directed edges; entry (i, j) belongs to the edge from i to j.
    Omega : array-like of shape (n_nodes, n_nodes)
        Covariance of the noise, symmetric and positive definite. An entry beside the diagonal
        is a bidirected edge, that is a common cause outside the model.

    Returns
    -------
    covariance : ndarray of shape (n_nodes, n_nodes)
        The covariance, exactly symmetric.

    Raises
    ------
    ValueError
        If a matrix is not square, the shapes differ, `Omega` is not symmetric and positive
        definite, or ``I - Lambda`` is singular.

    See Also
    --------
    sem_covariance_one_connection : The same as a sum over paths and cycles.

    References
    ----------
    B. Adhikari, E. Gross, M. Harkonen and E. Tsigaridas (2022). One-connection rule for
    structural equation models. arXiv:2210.00239.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.dag import sem_covariance
    >>> sem_covariance([[0.0, 2.0], [0.0, 0.0]], np.eye(2))
    array([[1., 2.],
           [2., 5.]])
    """
    Lambda, Omega = _check_parameters(Lambda, Omega)
    factor = np.linalg.inv(np.eye(len(Lambda)) - Lambda)
    covariance = factor.T @ Omega @ factor
    return (covariance + covariance.T) / 2


def one_connections(Lambda, source, target):
    r"""Iterate over the one-connections from one vertex to another.

    A one-connection is a simple directed path with a family of directed cycles that share no
    vertex with the path or with each other. The total effect of the source on the target is

    .. math:: (I - \Lambda)^{-1}_{st} = \frac{1}{\det(I - \Lambda)} \sum_c \text{sign}(c) \, w(c).

    Parameters
    ----------
    Lambda : array-like of shape (n_nodes, n_nodes)
        Weights of the directed edges; entry (i, j), if not zero, is the edge from i to j, and an
        entry on the diagonal is a loop. At most 12 vertices.
    source, target : int
        First and last vertex of the paths. If they are equal, the path is that vertex alone.

    Returns
    -------
    connections : iterator of OneConnection
        Named tuples (path, cycles, sign, weight).

    Raises
    ------
    ValueError
        If `Lambda` is not square or has more than 12 rows, or if there is no such vertex.

    See Also
    --------
    sem_covariance_one_connection : The covariance as a sum over one-connections.

    References
    ----------
    B. Adhikari, E. Gross, M. Harkonen and E. Tsigaridas (2022). One-connection rule for
    structural equation models. arXiv:2210.00239.

    Examples
    --------
    A cycle 0 -> 1 -> 0 with a tail 1 -> 2 and a loop at 2:

    >>> from sparsestat.dag import one_connections
    >>> Lambda = [[0.0, 0.5, 0.0], [0.25, 0.0, 2.0], [0.0, 0.0, 0.5]]
    >>> for connection in one_connections(Lambda, 0, 1):
    ...     print(connection)
    OneConnection(path=(0, 1), cycles=(), sign=1, weight=0.5)
    OneConnection(path=(0, 1), cycles=((2,),), sign=-1, weight=0.25)
    """
    Lambda = check_square(Lambda, "Lambda")
    _check_small(Lambda)
    for name, vertex in (("source", source), ("target", target)):
        if not isinstance(vertex, (int, np.integer)) or not 0 <= vertex < len(Lambda):
            raise ValueError(
                f"{name} must be a vertex, that is an integer from 0 to {len(Lambda) - 1}, "
                f"got {vertex!r}."
            )
    return _one_connections(Lambda, int(source), int(target))


def sem_covariance_one_connection(Lambda, Omega):
    r"""Covariance of a linear structural equation model as a sum over one-connections.

    .. math:: \sigma_{ij} = \det(I - \Lambda)^{-2} \sum_{kl} \omega_{kl} \, C_{ki} \, C_{lj}

    where :math:`C_{ki}` sums the signed weights of the one-connections from k to i. Without
    cycles this is the trek rule.

    Parameters
    ----------
    Lambda : array-like of shape (n_nodes, n_nodes)
        Weights of the directed edges; entry (i, j) belongs to the edge from i to j. At most 12
        vertices.
    Omega : array-like of shape (n_nodes, n_nodes)
        Covariance of the noise, symmetric and positive definite.

    Returns
    -------
    covariance : ndarray of shape (n_nodes, n_nodes)
        The covariance.

    Raises
    ------
    ValueError
        As for :func:`sem_covariance`, and for more than 12 vertices.

    See Also
    --------
    sem_covariance : The way to compute it; this one is to understand it.
    one_connections : The terms.

    Notes
    -----
    Paths and cycles are summed by the set of their vertices, so that a complete graph with d
    vertices takes about ``d * 2**d + 3**d`` steps although it has many more one-connections.

    References
    ----------
    B. Adhikari, E. Gross, M. Harkonen and E. Tsigaridas (2022). One-connection rule for
    structural equation models. arXiv:2210.00239.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.dag import sem_covariance, sem_covariance_one_connection
    >>> Lambda = np.array([[0.0, 0.5, 0.0], [0.0, 0.0, 0.5], [0.5, 0.0, 0.0]])
    >>> covariance = sem_covariance_one_connection(Lambda, np.eye(3))
    >>> bool(np.allclose(covariance, sem_covariance(Lambda, np.eye(3))))
    True
    """
    Lambda, Omega = _check_parameters(Lambda, Omega)
    _check_small(Lambda)
    determinant, connections = _summed_one_connections(Lambda)
    return connections.T @ Omega @ connections / determinant**2


def is_simple_mixed_graph(directed, bidirected=None):
    """Tell whether no two vertices of a mixed graph are joined by more than one edge.

    The parameters of such a model are generically finite-to-one: almost every covariance of the
    model comes from finitely many weights, even if there are directed cycles.

    Parameters
    ----------
    directed : array-like of shape (n_nodes, n_nodes)
        Entry (i, j), if not zero, is the edge from i to j. A loop, on the diagonal, joins a
        vertex to itself and makes the graph not simple.
    bidirected : array-like of shape (n_nodes, n_nodes), default=None
        A symmetric matrix whose entries beside the diagonal, if not zero, are bidirected
        edges; None for none.

    Returns
    -------
    simple : bool
        Whether the graph is simple.

    Raises
    ------
    ValueError
        If a matrix is not square, the shapes differ or `bidirected` is not symmetric.

    See Also
    --------
    generic_rank : A test for all mixed graphs.

    References
    ----------
    B. Adhikari, E. Gross, M. Harkonen and E. Tsigaridas (2022). One-connection rule for
    structural equation models. arXiv:2210.00239.

    Examples
    --------
    >>> from sparsestat.dag import is_simple_mixed_graph
    >>> is_simple_mixed_graph([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    True
    >>> is_simple_mixed_graph([[0, 1], [1, 0]])
    False
    """
    directed, bidirected = check_graph(directed, bidirected)
    n_edges = directed.astype(int) + directed.T + bidirected
    return not np.any(np.diag(directed)) and bool(np.all(n_edges <= 1))


# --------------------------------------------------------------------------- checks


def check_square(matrix, name):
    matrix = check_array(matrix, dtype=np.float64, input_name=name, estimator=None)
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{name} must be a square matrix, got shape {matrix.shape}.")
    return matrix


def _check_same_shape(one, one_name, other, other_name):
    if one.shape != other.shape:
        raise ValueError(
            f"{one_name} and {other_name} must have the same shape, "
            f"got {one.shape} and {other.shape}."
        )


def _check_parameters(Lambda, Omega):
    Lambda, Omega = check_square(Lambda, "Lambda"), check_square(Omega, "Omega")
    _check_same_shape(Lambda, "Lambda", Omega, "Omega")
    if np.abs(Omega - Omega.T).max() > 1e-10 * np.abs(Omega).max():
        raise ValueError("Omega must be symmetric.")
    try:
        linalg.cholesky(Omega)
    except linalg.LinAlgError:
        raise ValueError("Omega must be positive definite.") from None
    condition = np.linalg.cond(np.eye(len(Lambda)) - Lambda, 1)
    if condition * np.finfo(np.float64).eps >= 1.0:
        raise ValueError(
            "Lambda must be such that I - Lambda is not singular, got condition number "
            f"{condition:.2g}: the model has no solution."
        )
    return Lambda, Omega


def _check_small(Lambda):
    if len(Lambda) > _MAX_NODES:
        raise ValueError(
            f"Lambda must have at most {_MAX_NODES} vertices, got {len(Lambda)}: the number of "
            "one-connections grows exponentially. sem_covariance has no such limit."
        )


def check_graph(directed, bidirected):
    directed = check_square(directed, "directed") != 0
    if bidirected is None:
        return directed, np.zeros_like(directed)
    bidirected = check_square(bidirected, "bidirected") != 0
    _check_same_shape(directed, "directed", bidirected, "bidirected")
    if np.any(bidirected != bidirected.T):
        raise ValueError("bidirected must be symmetric: entries (i, j) and (j, i) are one edge.")
    np.fill_diagonal(bidirected, False)
    return directed, bidirected


# --------------------------------------------------------------------------- one-connections


def _one_connections(Lambda, source, target) -> Iterator[OneConnection]:
    everything = frozenset(range(len(Lambda)))
    for path, weight in _paths(Lambda, source, target, everything):
        for cycles, product in _cycle_families(Lambda, everything - set(path)):
            yield OneConnection(path, cycles, (-1) ** len(cycles), float(weight * product))


def _paths(Lambda, source, target, allowed):
    """Simple paths inside the allowed vertices, with their weights."""
    if source == target:
        yield (source,), 1.0
        return
    allowed = allowed - {source}
    for vertex in sorted(allowed):
        if Lambda[source, vertex] != 0:
            for path, weight in _paths(Lambda, vertex, target, allowed):
                yield (source, *path), Lambda[source, vertex] * weight


def _cycle_families(Lambda, allowed):
    """Families of disjoint cycles inside the allowed vertices, with the products of weights."""
    if not allowed:
        yield (), 1.0
        return
    first = min(allowed)
    yield from _cycle_families(Lambda, allowed - {first})
    for last in sorted(allowed):
        if Lambda[last, first] == 0:
            continue
        for cycle, weight in _paths(Lambda, first, last, allowed):
            for others, product in _cycle_families(Lambda, allowed - set(cycle)):
                yield (cycle, *others), weight * Lambda[last, first] * product


def _summed_one_connections(Lambda):
    """The determinant of I - Lambda, and the sum of signed weights for every pair.

    Sets of vertices are bit masks. Sums over all paths with the same vertices come from those
    with one vertex less, and minors from those of smaller sets.
    """
    n_nodes = len(Lambda)
    everything = 2**n_nodes - 1
    paths = [_path_sums(Lambda, source) for source in range(n_nodes)]
    cycles, minors = np.zeros(everything + 1), np.ones(everything + 1)
    for vertices in range(1, everything + 1):
        first = (vertices & -vertices).bit_length() - 1
        rest = vertices ^ (1 << first)
        cycles[vertices] = paths[first][vertices] @ Lambda[:, first]
        minors[vertices] = minors[rest]
        part = rest
        while True:
            minors[vertices] -= cycles[part | 1 << first] * minors[rest ^ part]
            if part == 0:
                break
            part = (part - 1) & rest
    return minors[everything], np.array([minors[::-1] @ sums for sums in paths])


def _path_sums(Lambda, source):
    """Entry (U, j): summed weights of the paths from the source to j with exactly vertices U."""
    n_nodes = len(Lambda)
    sums = np.zeros((2**n_nodes, n_nodes))
    sums[1 << source, source] = 1.0
    for vertices in range(2**n_nodes):
        if vertices >> source & 1:
            onward = sums[vertices] @ Lambda
            for vertex in range(n_nodes):
                if not vertices >> vertex & 1:
                    sums[vertices | 1 << vertex, vertex] += onward[vertex]
    return sums
