"""What is known beforehand about edges: forbidden ones, required ones, and tiers of nodes."""

from numbers import Real
from typing import NamedTuple

import numpy as np


class Constraints(NamedTuple):
    """Knowledge about edges, by [parent, child].

    Attributes
    ----------
    forbidden : ndarray of bool of shape (d, d)
        Edges that must not be; the diagonal is among them.
    required : ndarray of bool of shape (d, d)
        Edges whose weights are not penalised.
    precedes : ndarray of bool of shape (d, d)
        Transitively closed: [a, b] if a stays before b in every order.
    """

    forbidden: np.ndarray
    required: np.ndarray
    precedes: np.ndarray

    def restricted_to(self, nodes):
        """The same knowledge about some of the nodes."""
        return Constraints(*(matrix[np.ix_(nodes, nodes)] for matrix in self))


def check_constraints(forbidden_edges, required_edges, node_tiers, n_nodes, names=None):
    """Check and combine what is known.

    Parameters
    ----------
    forbidden_edges, required_edges : list of pairs, array-like of bool of shape (d, d), or None
        Pairs (parent, child) of positions or names, or a mask by [parent, child].
    node_tiers : array-like of shape (d,), dict, or None
        Tier of each node, in order or by name; no edge goes from a later to an earlier tier.
    n_nodes : int
        Number d of nodes.
    names : array-like of str or None
        Their names.

    Returns
    -------
    constraints : Constraints
        All of it.

    Raises
    ------
    ValueError
        For unknown nodes, loops, edges both forbidden and required, and required edges that
        form a cycle or go back to an earlier tier.
    """
    label = [str(i) for i in range(n_nodes)] if names is None else [str(name) for name in names]
    forbidden = _edge_mask(forbidden_edges, "forbidden_edges", n_nodes, names)
    required = _edge_mask(required_edges, "required_edges", n_nodes, names)
    loops = np.flatnonzero(required.diagonal())
    if len(loops):
        raise ValueError(f"required_edges must not contain loops, got one at {label[loops[0]]}.")
    precedes = required.copy()
    if node_tiers is not None:
        tiers = _check_tiers(node_tiers, n_nodes, names)
        earlier = tiers[:, None] < tiers[None, :]
        for i, j in np.argwhere(required & earlier.T):
            raise ValueError(
                f"required_edges and node_tiers contradict each other: the edge from {label[i]} "
                f"to {label[j]} goes back to an earlier tier."
            )
        forbidden = forbidden | earlier.T
        precedes |= earlier
    for i, j in np.argwhere(required & forbidden):
        raise ValueError(
            "forbidden_edges and required_edges contradict each other: both contain the edge "
            f"from {label[i]} to {label[j]}."
        )
    for middle in range(n_nodes) if precedes.any() else ():
        precedes |= np.outer(precedes[:, middle], precedes[middle])
    cyclic = np.flatnonzero(precedes.diagonal())
    if len(cyclic):
        raise ValueError(
            "required_edges must not form a cycle, but one goes through "
            f"{', '.join(label[i] for i in cyclic[:5])}."
        )
    np.fill_diagonal(forbidden, True)
    return Constraints(forbidden, required, precedes)


def _edge_mask(edges, argument, d, names):
    mask = np.zeros((d, d), dtype=bool)
    if edges is None:
        return mask
    if hasattr(edges, "columns"):
        edges = np.asarray(edges)
    if hasattr(edges, "dtype") and edges.dtype == bool:
        if edges.shape != (d, d):
            raise ValueError(
                f"{argument} must be pairs (parent, child) or a mask of shape ({d}, {d}), "
                f"got shape {edges.shape}."
            )
        return np.array(edges)
    try:
        pairs = [tuple(edge) for edge in edges]
    except TypeError:
        pairs = None
    if pairs is None or any(len(pair) != 2 for pair in pairs):
        raise ValueError(
            f"{argument} must hold pairs (parent, child) of positions or names, got {edges!r}."
        )
    for parent, child in pairs:
        mask[_position(parent, argument, d, names), _position(child, argument, d, names)] = True
    return mask


def _position(node, argument, d, names):
    """Position of a node that is given by position or name."""
    if isinstance(node, str):
        if names is None:
            raise ValueError(
                f"{argument} names the node {node!r}, but X came without column names."
            )
        found = np.flatnonzero(np.asarray(names) == node)
        if len(found):
            return int(found[0])
        raise ValueError(f"{argument} names {node!r}, which is not a column of X.")
    if not isinstance(node, Real) or isinstance(node, bool | np.bool_) or node % 1 != 0:
        raise ValueError(f"{argument} must hold positions or names, got {node!r}.")
    if not 0 <= float(node) < d:
        raise ValueError(f"{argument} must hold positions from 0 to {d - 1}, got {node!r}.")
    return int(float(node))


def _check_tiers(node_tiers, d, names):
    if isinstance(node_tiers, dict):
        tiers = np.full(d, np.nan)
        for node, tier in node_tiers.items():
            if not isinstance(tier, Real):
                raise ValueError(f"node_tiers must hold numbers, got {tier!r} for {node!r}.")
            tiers[_position(node, "node_tiers", d, names)] = tier
    else:
        try:
            tiers = np.asarray(node_tiers, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"node_tiers must hold numbers, got {node_tiers!r}.") from error
    if tiers.shape != (d,) or not np.all(np.isfinite(tiers)):
        raise ValueError(
            f"node_tiers must give a finite tier to each of the {d} nodes, got {node_tiers!r}."
        )
    return tiers
