"""Covariances as sums over one-connections."""

import itertools

import networkx
import numpy as np
import pandas as pd
import pytest

from sparsestat.dag._covariance_algebra import (
    OneConnection,
    is_simple_mixed_graph,
    one_connections,
    sem_covariance,
    sem_covariance_one_connection,
)


def random_model(seed, n_nodes=None):
    """A mixed graph with cycles, in half of the cases with loops, and noise that is correlated."""
    rng = np.random.default_rng(seed)
    n_nodes = rng.integers(2, 7) if n_nodes is None else n_nodes
    Lambda = rng.normal(size=(n_nodes, n_nodes)) * (rng.random((n_nodes, n_nodes)) < 0.6)
    if seed % 2:
        np.fill_diagonal(Lambda, 0.0)
    root = rng.normal(size=(n_nodes, n_nodes))
    return Lambda, root @ root.T + np.eye(n_nodes)


def solved_covariance(Lambda, Omega):
    """The covariance by linear solves, as an independent witness."""
    matrix = (np.eye(len(Lambda)) - Lambda).T
    return np.linalg.solve(matrix, np.linalg.solve(matrix, Omega).T)


def determinant(Lambda):
    return np.linalg.det(np.eye(len(Lambda)) - Lambda)


@pytest.mark.parametrize("seed", range(200))
def test_one_connection_rule_is_the_closed_form(seed):
    Lambda, Omega = random_model(seed)
    expected = solved_covariance(Lambda, Omega)
    scale = np.abs(expected).max() * max(1.0, np.linalg.cond(np.eye(len(Lambda)) - Lambda))
    for compute in (sem_covariance, sem_covariance_one_connection):
        covariance = compute(Lambda, Omega)
        np.testing.assert_allclose(covariance, expected, rtol=0, atol=1e-13 * scale)
    if np.linalg.cond(np.eye(len(Lambda)) - Lambda) < 100:
        error = np.abs(sem_covariance_one_connection(Lambda, Omega) - expected).max()
        assert error <= 1e-12 * np.abs(expected).max()


def test_sem_covariance_is_symmetric_to_the_last_bit():
    covariance = sem_covariance(*random_model(3, 9))
    np.testing.assert_array_equal(covariance, covariance.T)


@pytest.mark.parametrize("seed", range(30))
def test_signed_weights_add_up_to_cofactors(seed):
    Lambda, _ = random_model(seed)
    n_nodes = len(Lambda)
    total = np.zeros((n_nodes, n_nodes))
    for i, j in itertools.product(range(n_nodes), repeat=2):
        for connection in one_connections(Lambda, i, j):
            total[i, j] += connection.sign * connection.weight
    cofactors = np.linalg.inv(np.eye(n_nodes) - Lambda) * determinant(Lambda)
    np.testing.assert_allclose(total, cofactors, rtol=0, atol=1e-12 * np.abs(cofactors).max())


def brute_force(Lambda, source, target):
    """One-connections by networkx: all simple paths, and all sets of disjoint simple cycles."""
    graph = networkx.DiGraph(np.asarray(Lambda, dtype=float))
    cycles = [tuple(cycle) for cycle in networkx.simple_cycles(graph)]
    if source == target:
        paths = [[source]]
    else:
        paths = networkx.all_simple_paths(graph, source, target)
    found = set()
    for path in paths:
        free = [cycle for cycle in cycles if not set(cycle) & set(path)]
        for size in range(len(free) + 1):
            for family in itertools.combinations(free, size):
                vertices = list(itertools.chain(*family))
                if len(vertices) == len(set(vertices)):
                    found.add((tuple(path), frozenset(map(rotated, family))))
    return found


def rotated(cycle):
    """The cycle from its smallest vertex on."""
    start = cycle.index(min(cycle))
    return tuple(cycle[start:]) + tuple(cycle[:start])


@pytest.mark.parametrize("seed", range(20))
def test_every_one_connection_comes_once(seed):
    Lambda, _ = random_model(seed, n_nodes=5)
    for source, target in [(0, 3), (2, 2), (4, 1)]:
        found = list(one_connections(Lambda, source, target))
        listed = [(path, frozenset(cycles)) for path, cycles, *_ in found]
        assert len(set(listed)) == len(listed)
        assert set(listed) == brute_force(Lambda, source, target)
        for path, cycles, sign, weight in found:
            assert sign == (-1) ** len(cycles)
            edges = list(itertools.pairwise(path))
            for cycle in cycles:
                assert rotated(cycle) == cycle
                edges += [*itertools.pairwise(cycle), (cycle[-1], cycle[0])]
            assert weight == pytest.approx(np.prod([Lambda[edge] for edge in edges]))


def test_a_dag_has_the_trek_rule():
    # Treks between 1 and 2 in 0 -> 1, 0 -> 2, 1 -> 2, each with the variance of its top.
    Lambda = np.array([[0.0, 2.0, 3.0], [0.0, 0.0, 5.0], [0.0, 0.0, 0.0]])
    covariance = sem_covariance_one_connection(Lambda, np.diag([7.0, 11.0, 13.0]))
    assert covariance[1, 2] == 7 * 2 * 3 + 7 * 2 * (2 * 5) + 11 * 5
    assert covariance[1, 1] == 7 * 2 * 2 + 11
    assert all(not connection.cycles for connection in one_connections(Lambda, 0, 2))
    assert [connection.path for connection in one_connections(Lambda, 0, 2)] == [(0, 1, 2), (0, 2)]


def test_iterator_of_a_complete_graph_starts_at_once():
    connections = one_connections(np.ones((12, 12)), 0, 11)
    first = next(connections)
    assert isinstance(first, OneConnection)
    assert iter(connections) is connections
    assert list(one_connections(np.zeros((2, 2)), 0, 1)) == []
    assert list(one_connections(np.zeros((2, 2)), np.int64(1), 1)) == [((1,), (), 1, 1.0)]


def test_the_largest_graph_is_served():
    Lambda, Omega = random_model(1, 12)
    expected = solved_covariance(Lambda, Omega)
    covariance = sem_covariance_one_connection(Lambda, Omega)
    np.testing.assert_allclose(covariance, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_one_vertex_and_other_containers():
    np.testing.assert_allclose(sem_covariance([[0.5]], [[3]]), [[12.0]])
    np.testing.assert_allclose(sem_covariance_one_connection([[0.5]], [[3]]), [[12.0]])
    Lambda, Omega = random_model(0, 4)
    frames = pd.DataFrame(Lambda), pd.DataFrame(Omega)
    np.testing.assert_array_equal(sem_covariance(*frames), sem_covariance(Lambda, Omega))


def test_a_rounded_singular_matrix_has_an_inverse():
    # Otherwise the case below would prove no more than the one above it.
    assert np.all(np.isfinite(np.linalg.inv(np.eye(3) - (np.eye(3) - ROUNDED))))


def test_input_is_not_changed():
    Lambda, Omega = random_model(0, 4)
    before = Lambda.copy(), Omega.copy()
    sem_covariance(Lambda, Omega)
    sem_covariance_one_connection(Lambda, Omega)
    list(one_connections(Lambda, 0, 1))
    np.testing.assert_array_equal(Lambda, before[0])
    np.testing.assert_array_equal(Omega, before[1])


# The last row depends on the others, but elimination in floating point meets no zero.
ROUNDED = np.array([[0.1, 0.7, 0.3], [0.3, 0.9, 0.2], [0.0, 0.0, 0.0]])
ROUNDED[2] = 0.7 * ROUNDED[0] + 0.9 * ROUNDED[1]
CYCLE = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])


def test_simple_graphs():
    assert is_simple_mixed_graph(CYCLE)
    assert is_simple_mixed_graph(CYCLE, np.eye(3))
    assert is_simple_mixed_graph(CYCLE * -0.5)
    assert not is_simple_mixed_graph(CYCLE, CYCLE + CYCLE.T)
    assert not is_simple_mixed_graph([[0, 1], [1, 0]])
    assert not is_simple_mixed_graph([[0, 1], [0, 0]], [[0, 1], [1, 0]])
    assert not is_simple_mixed_graph([[1, 0], [0, 0]])
    assert is_simple_mixed_graph([[0, 0], [0, 0]], [[0, 1], [1, 0]])
    assert is_simple_mixed_graph([[0]]) is True


@pytest.mark.parametrize("compute", [sem_covariance, sem_covariance_one_connection])
@pytest.mark.parametrize(
    ("Lambda", "Omega", "message"),
    [
        (np.zeros((2, 3)), np.eye(2), r"Lambda must be a square matrix, got shape \(2, 3\)"),
        (np.zeros((2, 2)), np.ones((3, 2)), r"Omega must be a square matrix, got shape \(3, 2\)"),
        (np.zeros((2, 2)), np.eye(3), r"Lambda and Omega must have the same .* \(3, 3\)"),
        (np.zeros(2), np.eye(2), "Expected 2D array"),
        ([[np.nan]], [[1.0]], "Input Lambda contains NaN"),
        (np.zeros((2, 2)), [[1.0, 0.5], [0.4, 1.0]], "Omega must be symmetric"),
        (np.zeros((2, 2)), [[1.0, 2.0], [2.0, 1.0]], "Omega must be positive definite"),
        (np.zeros((2, 2)), np.zeros((2, 2)), "Omega must be positive definite"),
        (CYCLE, np.eye(3), "I - Lambda is not singular, got condition number"),
        ([[1.0]], [[1.0]], "I - Lambda is not singular"),
        (np.eye(3) - ROUNDED, np.eye(3), "I - Lambda is not singular, got condition number"),
    ],
)
def test_bad_models_are_named(compute, Lambda, Omega, message):
    with pytest.raises(ValueError, match=message):
        compute(Lambda, Omega)


def test_limits_and_vertices_are_named():
    large = np.zeros((13, 13))
    with pytest.raises(ValueError, match="Lambda must have at most 12 vertices, got 13"):
        sem_covariance_one_connection(large, np.eye(13))
    # Before the first item is asked for.
    with pytest.raises(ValueError, match="Lambda must have at most 12 vertices, got 13"):
        one_connections(large, 0, 1)
    np.testing.assert_array_equal(sem_covariance(large, np.eye(13)), np.eye(13))
    with pytest.raises(ValueError, match=r"source must be a vertex, .* from 0 to 2, got 3"):
        one_connections(CYCLE, 3, 0)
    with pytest.raises(ValueError, match=r"target must be a vertex, .* got -1"):
        one_connections(CYCLE, 0, -1)
    with pytest.raises(ValueError, match=r"target must be a vertex, .* got 'a'"):
        one_connections(CYCLE, 0, "a")
    with pytest.raises(ValueError, match="Lambda must be a square"):
        one_connections(CYCLE[:2], 0, 1)


def test_bad_graphs_are_named():
    with pytest.raises(ValueError, match="directed must be a square matrix"):
        is_simple_mixed_graph(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="bidirected must be symmetric"):
        is_simple_mixed_graph(np.zeros((3, 3)), CYCLE)
    with pytest.raises(ValueError, match="directed and bidirected must have the same shape"):
        is_simple_mixed_graph(CYCLE, np.eye(2))
