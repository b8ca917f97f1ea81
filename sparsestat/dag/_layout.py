"""Layered drawings of directed graphs: where the nodes go, and which way long edges take.

The steps are those of Sugiyama, Tagawa and Toda (1981), each solved as well as it can be:

1. edges that would close a directed cycle are turned round for the rest of the layout;
2. layers minimise the total number of layers that edges span (Gansner et al., 1993), a
   linear programme whose vertices are integers; edges that span several layers get an
   invisible node on each layer between;
3. the order within layers starts from barycentres and is improved by exchanging
   neighbours as long as that removes crossings;
4. coordinates minimise the weighted squared horizontal lengths of the edges subject to the
   gaps within layers: a convex problem, solved layer by layer, where the best coordinates
   of one layer given the others are an isotonic regression.

Connected components are laid out apart and put side by side, nodes without edges below.

References
----------
.. [1] K. Sugiyama, S. Tagawa and M. Toda, "Methods for visual understanding of hierarchical
   system structures", IEEE Transactions on Systems, Man, and Cybernetics 11 (1981).
.. [2] E. R. Gansner, E. Koutsofios, S. C. North and K.-P. Vo, "A technique for drawing
   directed graphs", IEEE Transactions on Software Engineering 19 (1993).
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.optimize import isotonic_regression, linprog
from scipy.sparse.csgraph import connected_components

_N_STARTS = 24
_START_BUDGET = 2500
_N_SWEEPS = 16
_N_RELAXATIONS = 300
_STRAIGHTNESS = (1.0, 2.0, 8.0)
"""Weight of a short edge, of the ends of a long one, and of its middle pieces."""


class LayeredLayout(NamedTuple):
    """Where everything is; y decreases from one layer to the next."""

    positions: np.ndarray
    """Centres of the nodes, of shape (n_nodes, 2)."""
    routes: dict
    """For each edge (source, target) the points between its ends, of shape (n_points, 2)."""
    layers: np.ndarray
    """Layer of each node, of shape (n_nodes,), counted within its component; -1 without edges."""
    n_crossings: int
    """Number of crossings between consecutive layers."""


class ComponentPlan(NamedTuple):
    """Layers of one connected component and the orders within them, still without sizes."""

    nodes: np.ndarray
    """Numbers of its nodes in the graph; below, these come first, invisible nodes follow."""
    edges: list
    """Edges that lead down, in the component's own numbers."""
    level: np.ndarray
    """Layer of every node."""
    pieces: list
    """Edges between consecutive layers."""
    chains: list
    """For each edge its invisible nodes."""
    ranks: list
    """For each layer its nodes from left to right."""
    n_crossings: int
    """Number of crossings."""


class Plan(NamedTuple):
    """What a layout decides before it knows any sizes."""

    n_nodes: int
    edges: list
    """Edges as they are given."""
    downward: list
    """The same edges, turned where they would close a cycle."""
    components: list
    """A :class:`ComponentPlan` for each component with an edge, large ones first."""


def plan_layers(edges, n_nodes):
    """Decide layers and orders, the part of a layout that does not depend on sizes.

    Parameters
    ----------
    edges : list of (int, int)
        Sources and targets, different from each other. Of edges that close a directed
        cycle, the last leads upwards.
    n_nodes : int
        Number of nodes.

    Returns
    -------
    plan : Plan
        For :func:`place_layers`.
    """
    downward = orient(edges, n_nodes)
    components = [_plan_component(nodes, downward) for nodes in _components(downward, n_nodes)]
    return Plan(n_nodes, edges, downward, components)


def place_layers(
    plan, *, breadth=1.0, depth=1.0, node_gap=0.5, route_gap=0.2, layer_gap=1.0, steepness=0.0
):
    """Find coordinates, layers from top to bottom.

    Parameters
    ----------
    plan : Plan
        From :func:`plan_layers`.
    breadth, depth : float, default=1.0
        Horizontal and vertical size of a node.
    node_gap : float, default=0.5
        Smallest horizontal space between two nodes.
    route_gap : float, default=0.2
        Smallest horizontal space around an edge that passes a layer.
    layer_gap : float, default=1.0
        Smallest vertical space between layers.
    steepness : float, default=0.0
        Vertical space between two layers per horizontal length of the flattest edge
        between them; layers are moved apart, up to three gaps, where it asks for that.

    Returns
    -------
    layout : LayeredLayout
        The drawing, in the same units as the sizes, centred horizontally at 0, its top at 0.
    """
    positions = np.zeros((plan.n_nodes, 2))
    layers = np.full(plan.n_nodes, -1)
    routes = {}
    left, bottom = 0.0, 0.0
    for part in plan.components:
        nodes, n_nodes = part.nodes, part.nodes.size
        is_node = np.arange(part.level.size) < n_nodes
        points = np.column_stack(
            [
                _coordinates(part.ranks, part.pieces, is_node, breadth, node_gap, route_gap),
                np.zeros(part.level.size),
            ]
        )
        points[:, 1] = _heights(points[:, 0], part, depth, layer_gap, steepness)
        half = np.where(is_node, breadth / 2, 0.0)
        points[:, 0] += left - (points[:, 0] - half).min()
        left = (points[:, 0] + half).max() + 1.5 * node_gap
        bottom = min(bottom, points[:, 1].min())
        positions[nodes] = points[:n_nodes]
        layers[nodes] = part.level[:n_nodes]
        for (i, j), chain in zip(part.edges, part.chains):
            routes[int(nodes[i]), int(nodes[j])] = points[chain].reshape(-1, 2)
    lonely = np.flatnonzero(layers < 0)
    if lonely.size:
        step = breadth + node_gap
        width = max(left - 1.5 * node_gap, step * np.ceil(np.sqrt(lonely.size)))
        top = bottom - depth - layer_gap if plan.components else 0.0
        positions[lonely] = _rows(lonely.size, width, step, top, depth + 0.5 * layer_gap)
    _centre(positions, routes)
    # Both directions of a pair share one way.
    ways = [
        routes[turned] if turned == edge else routes[turned][::-1]
        for edge, turned in zip(plan.edges, plan.downward)
    ]
    n_crossings = sum(part.n_crossings for part in plan.components)
    return LayeredLayout(positions, dict(zip(plan.edges, ways)), layers, n_crossings)


def orient(edges, n_nodes):
    """Turn round edges that would close a directed cycle.

    Parameters
    ----------
    edges : list of (int, int)
        Edges, those that should keep their direction first.
    n_nodes : int
        Number of nodes.

    Returns
    -------
    oriented : list of (int, int)
        The same edges, some turned; together without a directed cycle.
    """
    reaches = np.eye(n_nodes, dtype=bool)
    oriented = []
    for source, target in edges:
        if reaches[target, source]:
            source, target = target, source
        oriented.append((source, target))
        if not reaches[source, target]:
            reaches[reaches[:, source]] |= reaches[target]
    return oriented


def assign_layers(edges, n_nodes):
    """Layers of an acyclic graph that minimise the total span of its edges.

    Parameters
    ----------
    edges : list of (int, int)
        Edges of an acyclic graph.
    n_nodes : int
        Number of nodes.

    Returns
    -------
    layers : ndarray of int of shape (n_nodes,)
        The smallest is 0, and every edge leads to a larger one.
    """
    if not edges:
        return np.zeros(n_nodes, dtype=int)
    source, target = np.array(edges).T
    rows = np.arange(len(edges))
    ones = np.ones(len(edges))
    incidence = sparse.csr_array(
        (np.r_[ones, -ones], (np.r_[rows, rows], np.r_[source, target])),
        shape=(len(edges), n_nodes),
    )
    # Rows of an incidence matrix are totally unimodular: the vertex that the simplex
    # method ends in is integral.
    cost = np.asarray(-incidence.sum(axis=0)).ravel()
    solution = linprog(cost, A_ub=incidence, b_ub=-ones, bounds=(0, n_nodes - 1), method="highs-ds")
    layers = np.rint(solution.x).astype(int)
    return layers - layers.min()


def count_crossings(upper, lower):
    """Number of crossings between the edges of two consecutive layers.

    Parameters
    ----------
    upper, lower : ndarray of shape (n_edges,)
        Places of the ends in their layers.

    Returns
    -------
    n_crossings : int
        Pairs of edges whose ends are in opposite orders.
    """
    order = np.lexsort((lower, upper))
    upper, lower = upper[order], lower[order]
    before = upper[:, None] < upper
    return int(np.count_nonzero(before & (lower[:, None] > lower)))


def _plan_component(nodes, downward):
    """Layers of a component, and the orders within them."""
    number = {int(node): k for k, node in enumerate(nodes)}
    edges = sorted({(number[i], number[j]) for i, j in downward if i in number})
    level, pieces, chains = _subdivide(edges, assign_layers(edges, nodes.size))
    ranks, n_crossings = _order_layers(level, pieces)
    return ComponentPlan(nodes, edges, level, pieces, chains, ranks, n_crossings)


def _heights(x, part, depth, layer_gap, steepness):
    """Vertical coordinates of all nodes of a component."""
    source, target = np.array(part.pieces).T
    flattest = np.zeros(part.level.max())
    np.maximum.at(flattest, part.level[source], np.abs(x[source] - x[target]))
    space = np.clip(steepness * flattest, layer_gap, 3 * layer_gap)
    return -np.concatenate([[0.0], np.cumsum(space + depth)])[part.level]


def _components(edges, n_nodes):
    """Nodes of each component with an edge, large components first."""
    source, target = np.array(edges, dtype=int).reshape(-1, 2).T
    graph = sparse.csr_array((np.ones(source.size), (source, target)), shape=(n_nodes, n_nodes))
    _, label = connected_components(graph, directed=False)
    parts = [np.flatnonzero(label == k) for k in dict.fromkeys(label.tolist())]
    return sorted((part for part in parts if part.size > 1), key=lambda part: -part.size)


def _subdivide(edges, layers):
    """Put an invisible node on every layer that an edge passes.

    Returns the layer of every node, the edges between consecutive layers, and for each
    edge its invisible nodes.
    """
    level = layers.tolist()
    pieces, chains = [], []
    for source, target in edges:
        chain = []
        last = source
        for between in range(layers[source] + 1, layers[target]):
            level.append(between)
            pieces.append((last, len(level) - 1))
            last = len(level) - 1
            chain.append(last)
        pieces.append((last, target))
        chains.append(np.array(chain, dtype=int))
    return np.array(level), pieces, chains


def _order_layers(level, pieces):
    """Orders of the nodes of each layer with few crossings, and how many remain."""
    n_layers = level.max() + 1
    source, target = np.array(pieces).T
    up = _neighbours(target, source, level.size)
    down = _neighbours(source, target, level.size)
    spans = [np.flatnonzero(level[source] == k) for k in range(n_layers - 1)]
    rng = np.random.default_rng(0)

    def crossings(place):
        return sum(count_crossings(place[source[span]], place[target[span]]) for span in spans)

    best, fewest = None, np.inf
    for start in range(min(max(_START_BUDGET // level.size, 1), _N_STARTS)):
        members = [np.flatnonzero(level == k) for k in range(n_layers)]
        if start > 0:
            members = [rng.permutation(nodes) for nodes in members]
        place = _places(members, level.size)
        local, count = None, np.inf
        for sweep in range(_N_SWEEPS):
            downwards = sweep % 2 == 0
            ahead = range(1, n_layers) if downwards else range(n_layers - 2, -1, -1)
            for k in ahead:
                members[k] = _by_barycentre(
                    members[k], place, up if downwards else down, turn_ties=sweep % 4 > 1
                )
                place[members[k]] = np.arange(members[k].size)
            now = crossings(place)
            if now < count:
                local, count = [nodes.copy() for nodes in members], now
        _sift(local, up, down, level.size)
        count = crossings(_places(local, level.size))
        if count < fewest:
            best, fewest = local, count
        if fewest == 0:
            break
    return best, fewest


def _by_barycentre(nodes, place, neighbours, *, turn_ties):
    """Sort by the mean place of the neighbours; nodes without any keep their place."""
    if turn_ties:
        nodes = nodes[::-1]
    centre = [place[neighbours[v]].mean() if neighbours[v].size else place[v] for v in nodes]
    return nodes[np.argsort(centre, kind="stable")]


def _sift(members, up, down, n_nodes):
    """Move each node to the best place in its layer, in place, as long as crossings vanish."""
    place = _places(members, n_nodes)
    ends = [
        [
            (
                np.repeat(nodes, [side[v].size for v in nodes]),
                np.concatenate([side[v] for v in nodes]),
            )
            for side in (up, down)
        ]
        for nodes in members
    ]
    for _ in range(_N_SWEEPS):
        changed = False
        for k, nodes in enumerate(members):
            for v in nodes:
                # What each node of the layer costs if v is to its left rather than to its
                # right; for v itself that is zero.
                gain = np.zeros(nodes.size)
                for side, (owners, far) in zip((up, down), ends[k]):
                    own = np.sort(place[side[v]])
                    larger = own.size - np.searchsorted(own, place[far], side="right")
                    smaller = np.searchsorted(own, place[far], side="left")
                    gain += np.bincount(place[owners], larger - smaller, minlength=nodes.size)
                cost = np.append(np.cumsum(gain[::-1])[::-1], 0.0)
                now, best = place[v], int(np.argmin(cost))
                if cost[best] < cost[now]:
                    members[k] = np.insert(members[k][members[k] != v], best - (best > now), v)
                    place[members[k]] = np.arange(nodes.size)
                    changed = True
        if not changed:
            return


def _coordinates(ranks, pieces, is_node, breadth, node_gap, route_gap):
    """Horizontal coordinates that draw edges straight and keep the gaps."""
    n_nodes = is_node.size
    source, target = np.array(pieces).T
    straightness = np.array(_STRAIGHTNESS)[2 - is_node[source] - is_node[target].astype(int)]
    springs = sparse.csr_array(
        (np.r_[straightness, straightness], (np.r_[source, target], np.r_[target, source])),
        shape=(n_nodes, n_nodes),
    )
    stiffness = np.asarray(springs.sum(axis=1)).ravel()
    offsets = []
    for nodes in ranks:
        half = np.where(is_node[nodes], breadth / 2, 0.0)
        both = is_node[nodes[:-1]] & is_node[nodes[1:]]
        between = half[:-1] + half[1:] + np.where(both, node_gap, route_gap)
        offsets.append(np.concatenate([[0.0], np.cumsum(between)]))
    x = np.empty(n_nodes)
    for nodes, offset in zip(ranks, offsets):
        x[nodes] = offset - 0.5 * offset[-1]
    rows = [springs[nodes] for nodes in ranks]
    ahead = list(range(len(ranks)))
    for _ in range(_N_RELAXATIONS):
        before = x.copy()
        for k in ahead:
            nodes = ranks[k]
            wanted = rows[k] @ x / stiffness[nodes]
            fit = isotonic_regression(wanted - offsets[k], weights=stiffness[nodes])
            x[nodes] = fit.x + offsets[k]
        ahead.reverse()
        if np.abs(x - before).max() < 1e-3 * breadth:
            break
    return x


def _neighbours(of, to, n_nodes):
    """For each node the array of those that its edges lead to."""
    order = np.argsort(of, kind="stable")
    return np.split(to[order], np.cumsum(np.bincount(of, minlength=n_nodes))[:-1])


def _places(members, n_nodes):
    place = np.empty(n_nodes, dtype=int)
    for nodes in members:
        place[nodes] = np.arange(nodes.size)
    return place


def _rows(n_nodes, width, step, top, row_step):
    """Positions in rows that are no wider than a width, the last one centred."""
    per_row = max(int(width // step), 1)
    positions = np.empty((n_nodes, 2))
    for start in range(0, n_nodes, per_row):
        here = np.arange(start, min(start + per_row, n_nodes))
        middle = 0.5 * (width - (here.size - 1) * step)
        positions[here, 0] = middle + (here - start) * step
        positions[here, 1] = top - (start // per_row) * row_step
    return positions


def _centre(positions, routes):
    """Shift everything so that 0 is the middle of the drawing and its top; in place."""
    everything = np.vstack([positions, *routes.values()])
    middle = 0.5 * (everything[:, 0].min() + everything[:, 0].max())
    shift = np.array([middle, positions[:, 1].max()])
    positions -= shift
    for points in routes.values():
        points -= shift
