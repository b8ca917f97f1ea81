"""Functions of adjacency matrices against enumeration and against networkx."""

import itertools
import re
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from sparsestat.dag import _graph

from ._dags import all_dags, all_digraphs, dags, has_no_cycle, random_dag


@pytest.fixture
def nx():
    return pytest.importorskip("networkx")


def colliders(edges):
    """Triples a -> c <- b with a and b not joined, by definition."""
    joined = edges | edges.T
    return {
        (a, c, b)
        for c in range(len(edges))
        for a, b in itertools.combinations(np.flatnonzero(edges[:, c]).tolist(), 2)
        if not joined[a, b]
    }


def equivalence_class(edges):
    """All DAGs with the same skeleton and colliders, by trying all directions."""
    pairs = np.argwhere(np.triu(edges | edges.T))
    wanted = colliders(edges)
    members = []
    for flips in itertools.product([False, True], repeat=len(pairs)):
        other = np.zeros_like(edges)
        for (i, j), flip in zip(pairs, flips):
            other[(j, i) if flip else (i, j)] = True
        if colliders(other) == wanted and has_no_cycle(other):
            members.append(other)
    return members


# Robinson (1973) counts labelled DAGs; Gillispie and Perlman (2001) count equivalence classes.
@pytest.mark.parametrize(
    ("n_nodes", "n_dags", "n_classes"), [(2, 3, 2), (3, 25, 11), (4, 543, 185)]
)
def test_known_numbers_of_dags_and_of_equivalence_classes(n_nodes, n_dags, n_classes):
    found = [edges for edges in all_digraphs(n_nodes) if _graph.is_dag(edges)]
    assert len(found) == n_dags
    assert len({_graph.cpdag(edges).tobytes() for edges in found}) == n_classes


@pytest.mark.parametrize("n_nodes", [3, 4])
def test_cpdag_is_the_union_of_the_equivalence_class_of_every_small_dag(n_nodes):
    classes = {}
    for edges in all_dags(n_nodes):
        key = (edges | edges.T).tobytes(), frozenset(colliders(edges))
        classes.setdefault(key, []).append(edges)
    for members in classes.values():
        union = np.any(members, axis=0).astype(int)
        for edges in members:
            np.testing.assert_array_equal(_graph.cpdag(edges), union)


@pytest.mark.parametrize(("n_nodes", "density"), [(5, 0.5), (5, 0.8), (7, 0.35)])
def test_cpdag_is_the_union_of_the_equivalence_class_of_larger_dags(n_nodes, density):
    rng = np.random.default_rng(n_nodes)
    for _ in range(20):
        edges = random_dag(rng, n_nodes, density)
        union = np.any(equivalence_class(edges), axis=0).astype(int)
        np.testing.assert_array_equal(_graph.cpdag(edges), union)


def test_cpdag_takes_weights_and_does_not_change_them():
    weights = np.array([[0, -2.0, 0], [0, 0, 0], [0, 1e-300, 0]])
    before = weights.copy()
    result = _graph.cpdag(weights)
    assert result.dtype == np.int64
    np.testing.assert_array_equal(result, [[0, 1, 0], [0, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(weights, before)
    with pytest.raises(ValueError, match=r"adjacency must be acyclic.* 0 -> 1 -> 0 \(2 edges\)"):
        _graph.cpdag([[0, 1], [1, 0]])


@given(dags(max_nodes=6))
def test_order_is_the_lexicographically_first(edges):
    order = _graph.topological_order(edges)
    allowed = (
        np.array(candidate)
        for candidate in itertools.permutations(range(len(edges)))
        if not np.any(np.tril(edges[np.ix_(candidate, candidate)]))
    )
    np.testing.assert_array_equal(order, next(allowed))


def test_orders_and_layers_agree_with_networkx(nx):
    rng = np.random.default_rng(0)
    for n_nodes, density in [(1, 0.0), (10, 0.3), (60, 0.05), (60, 0.5)]:
        edges = random_dag(rng, n_nodes, density)
        graph = nx.from_numpy_array(edges.astype(int), create_using=nx.DiGraph)
        order = list(nx.lexicographical_topological_sort(graph))
        np.testing.assert_array_equal(_graph.topological_order(edges), order)
        layer = np.empty(n_nodes, dtype=int)
        for depth, nodes in enumerate(nx.topological_generations(graph)):
            layer[nodes] = depth
        np.testing.assert_array_equal(_graph.layers(edges), layer)


@pytest.mark.parametrize("cyclic", [False, True])
def test_descendants_agree_with_networkx(nx, cyclic):
    rng = np.random.default_rng(1)
    for density in (0.02, 0.05, 0.3):
        edges = random_dag(rng, 40, density)
        if cyclic:
            edges |= rng.random(edges.shape) < 0.02
            np.fill_diagonal(edges, False)
        graph = nx.from_numpy_array(edges.astype(int), create_using=nx.DiGraph)
        closure = nx.to_numpy_array(nx.transitive_closure(graph, reflexive=False), range(40)) > 0
        np.testing.assert_array_equal(_graph.descendants(edges), closure)
        np.testing.assert_array_equal(_graph.ancestors(edges), closure.T)


def test_long_chains_do_not_recurse():
    n_nodes = 2 * sys.getrecursionlimit()
    nodes = np.arange(n_nodes)[::-1]
    edges = np.zeros((n_nodes, n_nodes), dtype=bool)
    edges[nodes[:-1], nodes[1:]] = True
    assert _graph.is_dag(edges)
    np.testing.assert_array_equal(_graph.topological_order(edges), nodes)
    np.testing.assert_array_equal(_graph.layers(edges), nodes)
    edges[nodes[-1], nodes[0]] = True
    assert not _graph.is_dag(edges)
    with pytest.raises(ValueError, match=rf"-> \.\.\. -> .*\({n_nodes} edges\)"):
        _graph.topological_order(edges)


@given(st.integers(2, 8), st.integers(0, 2**32 - 1))
def test_the_message_shows_a_cycle(n_nodes, seed):
    rng = np.random.default_rng(seed)
    edges = rng.random((n_nodes, n_nodes)) < 0.4
    np.fill_diagonal(edges, False)
    assert _graph.is_dag(edges) == has_no_cycle(edges)
    if has_no_cycle(edges):
        return
    with pytest.raises(ValueError, match="true must be acyclic") as caught:
        _graph.check_dag(edges, "true")
    cycle, length = re.search(r"cycle ([\d >-]+) \((\d+) edges\)", str(caught.value)).groups()
    nodes = [int(node) for node in cycle.split(" -> ")]
    assert nodes[0] == nodes[-1] == min(nodes)
    assert len(set(nodes)) == len(nodes) - 1 == int(length)
    assert all(edges[i, j] for i, j in itertools.pairwise(nodes))


def test_a_loop_is_a_cycle():
    assert not _graph.is_dag(np.eye(2))
    with pytest.raises(ValueError, match=r"0 -> 0 \(1 edges\)"):
        _graph.topological_order(np.eye(2))


@pytest.mark.parametrize(
    "form",
    [list, np.array, sparse.csr_array, sparse.coo_matrix, pd.DataFrame],
    ids=lambda form: form.__name__,
)
def test_matrices_of_many_kinds_are_taken(form):
    checked = _graph.check_adjacency(form([[0, 2], [0, 0]]))
    assert checked.dtype == np.float64
    np.testing.assert_array_equal(checked, [[0, 2], [0, 0]])


def test_what_is_checked_is_a_copy():
    weights = np.zeros((2, 2))
    _graph.check_dag(weights)[0, 1] = 1.0
    assert not weights.any()


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((2, 3)), r"graph must be a square matrix .* got shape \(2, 3\)"),
        (np.zeros(4), r"graph must be a square matrix .* got shape \(4,\)"),
        (np.zeros((2, 2, 2)), r"graph must be a square matrix .* got shape \(2, 2, 2\)"),
        (3.0, r"graph must be a square matrix .* got shape \(\)"),
        (np.zeros((0, 0)), r"graph must have at least one node, got shape \(0, 0\)"),
        ([[0, np.nan], [0, 0]], r"graph must be finite, got nan at \(0, 1\) of shape \(2, 2\)"),
        ([[0, 0], [-np.inf, 0]], r"graph must be finite, got -inf at \(1, 0\) of shape \(2, 2\)"),
        ([[0, 0], [0, 3]], r"graph must have a zero diagonal.* 3.0 at \(1, 1\) of shape \(2, 2\)"),
        ([["a", "b"], ["c", "d"]], "graph must be a matrix of real numbers, got"),
        ([[0, 1j], [0, 0]], "graph must be a matrix of real numbers, got"),
        ([[0, 1], [0]], "graph must be a matrix of real numbers, got"),
        (None, r"graph must be a square matrix .* got shape \(\)"),
    ],
)
def test_bad_matrices_are_named(matrix, message):
    with pytest.raises(ValueError, match=message):
        _graph.check_adjacency(matrix, "graph")


WEIGHTS = np.array([[0, 0, -0.5], [1.23456, 0, 0], [0, 0, 0]])


def test_edges_are_listed_by_row():
    edges = _graph.edge_list(WEIGHTS, ["a", "bb", "c"])
    assert edges.dtype.names == ("source", "target", "weight")
    assert edges.tolist() == [("a", "c", -0.5), ("bb", "a", 1.23456)]
    edges = _graph.edge_list(WEIGHTS)
    assert edges["source"].dtype == np.arange(1).dtype
    assert edges.tolist() == [(0, 2, -0.5), (1, 0, 1.23456)]


@pytest.mark.parametrize("names", [None, ["a", "b"]])
def test_a_graph_without_edges(nx, names):
    edges = _graph.edge_list(np.zeros((2, 2)), names)
    assert edges.shape == (0,) and edges.dtype.names == ("source", "target", "weight")
    shown = ["0", "1"] if names is None else names
    assert _graph.to_dot(np.zeros((2, 2)), names) == (
        f'digraph {{\n  "{shown[0]}";\n  "{shown[1]}";\n}}\n'
    )
    assert list(_graph.to_networkx(np.zeros((2, 2)), names)) == (names or [0, 1])


def test_dot_of_a_small_graph():
    assert _graph.to_dot(WEIGHTS) == (
        "digraph {\n"
        '  "0";\n  "1";\n  "2";\n'
        '  "0" -> "2" [label="-0.5"];\n'
        '  "1" -> "0" [label="1.23"];\n'
        "}\n"
    )


@given(st.lists(st.text(st.sampled_from('ab"\\ \n;->{}é'), max_size=6), min_size=2, unique=True))
def test_dot_quotes_any_name(names):
    chain = np.diag(np.ones(len(names) - 1), 1)
    lines = _graph.to_dot(chain, names).split("\n")
    assert len(lines) == 2 * len(names) + 2
    # A string of DOT ends at the first quote that no backslash escapes.
    string = r'"(?:[^"\\]|\\.)*"'
    read = {r"\\": "\\", r"\"": '"', r"\n": "\n"}

    def unquote(text):
        return re.sub(r"\\.", lambda escape: read[escape.group()], text[1:-1])

    nodes = [re.fullmatch(rf"  ({string});", line)[1] for line in lines[1 : len(names) + 1]]
    assert [unquote(node) for node in nodes] == names
    for line, source, target in zip(lines[len(names) + 1 : -2], nodes[:-1], nodes[1:], strict=True):
        edge = re.fullmatch(rf'  ({string}) -> ({string}) \[label="1"\];', line)
        assert edge.groups() == (source, target)


def test_networkx_gets_nodes_edges_and_weights(nx):
    rng = np.random.default_rng(2)
    edges = random_dag(rng, 12, 0.3)
    weights = edges * rng.normal(size=edges.shape)
    names = [f"x{i}" for i in range(12)]
    graph = _graph.to_networkx(weights, names)
    assert isinstance(graph, nx.DiGraph) and list(graph) == names
    np.testing.assert_array_equal(nx.to_numpy_array(graph, names), weights)
    graph = _graph.to_networkx(weights)
    assert list(graph) == list(range(12))
    assert all(type(weight) is float for _, _, weight in graph.edges(data="weight"))


def test_without_networkx_there_is_advice(monkeypatch):
    monkeypatch.setitem(sys.modules, "networkx", None)
    with pytest.raises(ImportError, match="pip install networkx"):
        _graph.to_networkx(WEIGHTS)


@pytest.mark.parametrize("function", [_graph.edge_list, _graph.to_dot, _graph.to_networkx])
def test_names_must_fit(nx, function):
    with pytest.raises(ValueError, match="names must hold 3 names, one for each node, got 2"):
        function(WEIGHTS, ["a", "b"])


@pytest.mark.parametrize("function", [_graph.to_dot, _graph.to_networkx])
def test_names_must_be_distinct_where_nodes_are_known_by_them(nx, function):
    with pytest.raises(ValueError, match=r"names must be distinct.*'a' 2 times"):
        function(WEIGHTS, ["a", "b", "a"])
    assert len(_graph.edge_list(WEIGHTS, ["a", "b", "a"])) == 2
