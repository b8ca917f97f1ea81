"""Directed graphs as adjacency matrices: entry (i, j) is nonzero if there is an edge i -> j."""

import heapq

import numpy as np
from sklearn.utils import check_array

_SHOWN_NODES = 12


def check_adjacency(matrix, name="adjacency"):
    """Check a weighted adjacency matrix.

    Parameters
    ----------
    matrix : array-like or sparse matrix of shape (n_nodes, n_nodes)
        Weights, zero where there is no edge.
    name : str, default="adjacency"
        The argument that a message names.

    Returns
    -------
    adjacency : ndarray of shape (n_nodes, n_nodes)
        A new float64 array.

    Raises
    ------
    ValueError
        For a matrix that is empty, not square or not finite, or has an edge from a node to
        itself.
    """
    dense = matrix.toarray() if hasattr(matrix, "toarray") else matrix
    try:
        adjacency = check_array(
            dense,
            dtype=np.float64,
            ensure_2d=False,
            allow_nd=True,
            ensure_all_finite=False,
            ensure_min_samples=0,
            ensure_min_features=0,
            copy=True,
            input_name=name,
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a matrix of real numbers, got {matrix!r}.") from error
    if adjacency.ndim != 2 or adjacency.shape[0] != adjacency.shape[1]:
        raise ValueError(
            f"{name} must be a square matrix with a row and a column for each node, "
            f"got shape {adjacency.shape}."
        )
    if adjacency.shape[0] == 0:
        raise ValueError(f"{name} must have at least one node, got shape (0, 0).")
    bad = np.argwhere(~np.isfinite(adjacency))
    if bad.size:
        i, j = map(int, bad[0])
        raise ValueError(
            f"{name} must be finite, got {adjacency[i, j]} at ({i}, {j}) of shape "
            f"{adjacency.shape}."
        )
    loops = np.flatnonzero(adjacency.diagonal())
    if loops.size:
        i = int(loops[0])
        raise ValueError(
            f"{name} must have a zero diagonal, as no node is its own parent, got "
            f"{adjacency[i, i]} at ({i}, {i}) of shape {adjacency.shape}."
        )
    return adjacency


def check_dag(matrix, name="adjacency"):
    """Check a weighted adjacency matrix that must not have a directed cycle.

    Parameters
    ----------
    matrix : array-like or sparse matrix of shape (n_nodes, n_nodes)
        Weights, zero where there is no edge.
    name : str, default="adjacency"
        The argument that a message names.

    Returns
    -------
    adjacency : ndarray of shape (n_nodes, n_nodes)
        A new float64 array.

    Raises
    ------
    ValueError
        For what :func:`check_adjacency` refuses, and for a directed cycle.
    """
    adjacency = check_adjacency(matrix, name)
    _order_or_raise(adjacency != 0, name)
    return adjacency


def is_dag(adjacency):
    """Tell whether a graph has no directed cycle.

    Parameters
    ----------
    adjacency : ndarray of shape (n_nodes, n_nodes)
        Nonzero where there is an edge.

    Returns
    -------
    answer : bool
        False, too, if a node has an edge to itself.
    """
    return len(_peel(np.asarray(adjacency) != 0)) == len(adjacency)


def topological_order(adjacency):
    """Order the nodes so that parents come first.

    Parameters
    ----------
    adjacency : ndarray of shape (n_nodes, n_nodes)
        Nonzero where there is an edge.

    Returns
    -------
    order : ndarray of int of shape (n_nodes,)
        The lexicographically first of all such orders: every place is taken by the smallest
        index that may stand there (Kahn, 1962).

    Raises
    ------
    ValueError
        If there is a directed cycle, which the message shows.
    """
    return _order_or_raise(np.asarray(adjacency) != 0, "adjacency")


def descendants(adjacency):
    """Tell which nodes directed paths lead to.

    Parameters
    ----------
    adjacency : ndarray of shape (n_nodes, n_nodes)
        Nonzero where there is an edge; cycles are allowed.

    Returns
    -------
    reached : ndarray of bool of shape (n_nodes, n_nodes)
        True at (i, j) if a path of at least one edge leads from i to j. A node is its own
        descendant only if it lies on a cycle.
    """
    # Single precision counts exactly up to 2**24 and is the fastest product that BLAS has.
    reached = (np.asarray(adjacency) != 0).astype(np.float32)
    while True:
        # Each round doubles the length of the paths that are known.
        longer = np.minimum(reached + reached @ reached, 1)
        if np.array_equal(longer, reached):
            return reached > 0
        reached = longer


def ancestors(adjacency):
    """Tell which nodes directed paths come from.

    Parameters
    ----------
    adjacency : ndarray of shape (n_nodes, n_nodes)
        Nonzero where there is an edge; cycles are allowed.

    Returns
    -------
    reached : ndarray of bool of shape (n_nodes, n_nodes)
        True at (i, j) if a path of at least one edge leads from j to i.
    """
    return descendants(adjacency).T


def layers(adjacency):
    """Number of edges of the longest path that ends at each node.

    Parameters
    ----------
    adjacency : ndarray of shape (n_nodes, n_nodes)
        Nonzero where there is an edge.

    Returns
    -------
    layer : ndarray of int of shape (n_nodes,)
        Zero for nodes without parents; every edge leads to a higher layer.

    Raises
    ------
    ValueError
        If there is a directed cycle.
    """
    edges = np.asarray(adjacency) != 0
    layer = np.zeros(len(edges), dtype=np.int64)
    for node in topological_order(edges):
        layer[node] = np.max(layer[edges[:, node]] + 1, initial=0)
    return layer


def cpdag(adjacency):
    """Graph of what all DAGs with the same conditional independences have in common.

    Two DAGs imply the same independences, and cannot be told apart by a Gaussian model with
    free noise variances, if they join the same pairs of nodes and have the same colliders
    a -> c <- b between nodes a and b that are not joined (Verma and Pearl, 1990). In the
    completed partially directed acyclic graph, an edge is directed if it has the same
    direction in all these DAGs, and undirected otherwise.

    Parameters
    ----------
    adjacency : array-like of shape (n_nodes, n_nodes)
        A DAG: nonzero at (i, j) if there is an edge from i to j.

    Returns
    -------
    cpdag : ndarray of int of shape (n_nodes, n_nodes)
        Zeros and ones. A directed edge from i to j has a one at (i, j) and a zero at (j, i),
        an undirected edge has ones at both.

    Raises
    ------
    ValueError
        If `adjacency` is not square, not finite, or has a directed cycle.

    See Also
    --------
    cpdag_hamming_distance : Number of pairs by which two of these graphs differ.

    Notes
    -----
    Edges are labelled as by Chickering (1995), one node after the other, parents first. Among
    the edges into a node it is the one from the last parent that decides: the edge is
    compelled if a compelled edge leads to that parent from a node that is no parent of this
    one, or if this node has a parent that is not a parent of that parent.

    References
    ----------
    D. M. Chickering (1995). A transformational characterization of equivalent Bayesian network
    structures. *Proceedings of the 11th Conference on Uncertainty in Artificial Intelligence*,
    87-98.

    T. Verma and J. Pearl (1990). Equivalence and synthesis of causal models. *Proceedings of
    the 6th Conference on Uncertainty in Artificial Intelligence*, 220-227.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.dag import cpdag
    >>> chain = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]])
    >>> cpdag(chain)
    array([[0, 1, 0],
           [1, 0, 1],
           [0, 1, 0]])
    >>> collider = np.array([[0, 0, 1], [0, 0, 1], [0, 0, 0]])
    >>> cpdag(collider)
    array([[0, 0, 1],
           [0, 0, 1],
           [0, 0, 0]])
    """
    edges = check_adjacency(adjacency, "adjacency") != 0
    order = topological_order(edges)
    compelled = np.zeros_like(edges)
    for step, node in enumerate(order):
        parents = edges[:, node]
        earlier = order[:step][parents[order[:step]]]
        if not earlier.size:
            continue
        last = earlier[-1]
        forced = compelled[:, last]
        others = parents & ~edges[:, last]
        others[last] = False
        if np.any(forced & ~parents) or np.any(others):
            compelled[:, node] = parents
        else:
            compelled[:, node] = forced
    return (edges | (edges & ~compelled).T).astype(np.int64)


def edge_list(adjacency, names=None):
    """List the edges of a graph.

    Parameters
    ----------
    adjacency : ndarray of shape (n_nodes, n_nodes)
        Weights.
    names : sequence of str of length n_nodes or None, default=None
        Names of the nodes; None stands for their indices.

    Returns
    -------
    edges : structured ndarray of shape (n_edges,)
        Fields ``source``, ``target`` and ``weight``, in the order of the rows and columns of
        `adjacency`; source and target are names, or integers without names.
    """
    adjacency = np.asarray(adjacency)
    names = _check_names(names, len(adjacency))
    source, target = np.nonzero(adjacency)
    labels = np.arange(len(adjacency)) if names is None else np.array(names, dtype=np.str_)
    kinds = [("source", labels.dtype), ("target", labels.dtype), ("weight", np.float64)]
    edges = np.empty(source.size, dtype=kinds)
    edges["source"], edges["target"] = labels[source], labels[target]
    edges["weight"] = adjacency[source, target]
    return edges


def to_dot(adjacency, names=None):
    """Write a graph in the DOT language of Graphviz.

    Parameters
    ----------
    adjacency : ndarray of shape (n_nodes, n_nodes)
        Weights, which become the labels of the edges, to three digits.
    names : sequence of str of length n_nodes or None, default=None
        Names of the nodes; None stands for their indices.

    Returns
    -------
    text : str
        A ``digraph``, ending in a newline.

    Raises
    ------
    ValueError
        For names that are not distinct or not as many as nodes.
    """
    adjacency = np.asarray(adjacency)
    names = _check_names(names, len(adjacency), distinct=True)
    quoted = [_quote(str(name)) for name in (range(len(adjacency)) if names is None else names)]
    lines = [f"  {name};" for name in quoted]
    for i, j in np.argwhere(adjacency):
        lines.append(f'  {quoted[i]} -> {quoted[j]} [label="{float(adjacency[i, j]):.3g}"];')
    return "\n".join(["digraph {", *lines, "}"]) + "\n"


def to_networkx(adjacency, names=None):
    """Convert to a graph of networkx.

    Parameters
    ----------
    adjacency : ndarray of shape (n_nodes, n_nodes)
        Weights.
    names : sequence of str of length n_nodes or None, default=None
        Names of the nodes; None stands for their indices.

    Returns
    -------
    graph : networkx.DiGraph
        Its edges have the attribute ``weight``, a float.

    Raises
    ------
    ImportError
        If networkx is not installed.
    ValueError
        For names that are not distinct or not as many as nodes.
    """
    try:
        import networkx
    except ImportError as error:
        raise ImportError(
            "networkx is needed to convert a graph to it; install it with "
            "`pip install networkx`, or use edge_list or to_dot, which need nothing."
        ) from error
    adjacency = np.asarray(adjacency)
    names = _check_names(names, len(adjacency), distinct=True)
    nodes = list(range(len(adjacency))) if names is None else names
    graph = networkx.DiGraph()
    graph.add_nodes_from(nodes)
    graph.add_weighted_edges_from(
        (nodes[i], nodes[j], float(adjacency[i, j])) for i, j in np.argwhere(adjacency)
    )
    return graph


def _peel(edges):
    """Take away nodes without parents, the smallest index first, while there are any."""
    missing = edges.sum(axis=0)
    ready = np.flatnonzero(missing == 0).tolist()
    order = []
    while ready:
        node = heapq.heappop(ready)
        order.append(node)
        children = np.flatnonzero(edges[node])
        missing[children] -= 1
        for child in children[missing[children] == 0].tolist():
            heapq.heappush(ready, child)
    return order


def _order_or_raise(edges, name):
    """Topological order; a message about a cycle calls the matrix by its name."""
    order = _peel(edges)
    if len(order) == len(edges):
        return np.array(order, dtype=np.int64)
    cycle = _find_cycle(edges, order)
    shown = [str(node) for node in cycle]
    if len(cycle) > _SHOWN_NODES:
        shown[_SHOWN_NODES - 2 : -2] = ["..."]
    raise ValueError(
        f"{name} must be acyclic, but has the directed cycle {' -> '.join(shown)} "
        f"({len(cycle) - 1} edges)."
    )


def _find_cycle(edges, peeled):
    """Nodes of a cycle, the first one again at the end."""
    remaining = np.ones(len(edges), dtype=bool)
    remaining[peeled] = False
    # Whoever could not be taken away has a parent of the same kind: the way back is endless.
    node = int(remaining.argmax())
    place, way = {}, []
    while node not in place:
        place[node] = len(way)
        way.append(node)
        node = int(np.argmax(edges[:, node] & remaining))
    cycle = way[place[node] :][::-1]
    start = cycle.index(min(cycle))
    return [*cycle[start:], *cycle[:start], cycle[start]]


def _check_names(names, n_nodes, *, distinct=False):
    if names is None:
        return None
    names = [str(name) for name in names]
    if len(names) != n_nodes:
        raise ValueError(f"names must hold {n_nodes} names, one for each node, got {len(names)}.")
    if distinct and len(set(names)) < n_nodes:
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(
            f"names must be distinct, as nodes are known by their names, got {twice!r} "
            f"{names.count(twice)} times."
        )
    return names


def _quote(name):
    """A quoted string of DOT that is shown as it is."""
    # Graphviz reads \" as a quote, and gives other backslashes a meaning only in labels, where
    # \\ is one backslash and \n a new line.
    escaped = name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
