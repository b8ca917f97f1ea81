"""Small graphs for tests, and witnesses of what they imply."""

import itertools

import numpy as np
from hypothesis import strategies as st


def random_dag(rng, n_nodes, density):
    """Edges of a DAG whose nodes are in random order."""
    edges = np.triu(rng.random((n_nodes, n_nodes)) < density, 1)
    order = rng.permutation(n_nodes)
    return edges[np.ix_(order, order)]


def all_digraphs(n_nodes):
    """Every directed graph without loops."""
    places = [(i, j) for i in range(n_nodes) for j in range(n_nodes) if i != j]
    for present in itertools.product([False, True], repeat=len(places)):
        edges = np.zeros((n_nodes, n_nodes), dtype=bool)
        for (i, j), edge in zip(places, present):
            edges[i, j] = edge
        yield edges


def has_no_cycle(edges):
    """By the definition of a nilpotent matrix."""
    return not np.any(np.linalg.matrix_power(edges.astype(object), len(edges)))


def all_dags(n_nodes):
    """Every DAG."""
    return [edges for edges in all_digraphs(n_nodes) if has_no_cycle(edges)]


@st.composite
def dags(draw, max_nodes=9):
    """DAGs with their nodes in any order."""
    size = draw(st.integers(1, max_nodes))
    upper = draw(st.lists(st.booleans(), min_size=size * size, max_size=size * size))
    order = draw(st.permutations(range(size)))
    return np.triu(np.reshape(upper, (size, size)), 1)[np.ix_(order, order)]
