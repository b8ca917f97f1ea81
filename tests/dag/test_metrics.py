"""Distances between graphs against their definitions, counted in other ways."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_score, recall_score

from sparsestat.dag._graph import cpdag, topological_order
from sparsestat.dag._metrics import (
    _wrong_effects,
    cpdag_hamming_distance,
    dag_metrics,
    structural_hamming_distance,
    structural_intervention_distance,
)

from ._dags import all_dags, dags, random_dag


def graph(n_nodes, *edges):
    """Adjacency matrix of a list of edges."""
    matrix = np.zeros((n_nodes, n_nodes))
    for i, j in edges:
        matrix[i, j] = 1.0
    return matrix


def wrong_by_regression(true, estimated, rng, n_models=2):
    """Pairs whose total effect no regression on the estimated parents gives, in random models.

    The coefficients are those of the population. Where adjustment is not valid, they differ from
    the effects for all weights and noise variances but a set of measure zero.
    """
    n_nodes = len(true)
    wrong = np.zeros((n_nodes, n_nodes), dtype=bool)
    eye = np.eye(n_nodes)
    for _ in range(n_models):
        weights = true * rng.uniform(0.5, 1.5, true.shape) * rng.choice([-1, 1], true.shape)
        effects = np.linalg.inv(eye - weights)
        S = effects.T @ np.diag(rng.uniform(0.5, 2.0, n_nodes)) @ effects
        for i in range(n_nodes):
            parents = np.flatnonzero(estimated[:, i])
            regressors = np.r_[i, parents]
            slopes = np.linalg.solve(S[np.ix_(regressors, regressors)], S[regressors])[0]
            # A parent of i is taken to be unaffected by it.
            slopes[parents] = 0.0
            wrong[i] |= np.abs(slopes - effects[i]) > 1e-9
    np.fill_diagonal(wrong, False)
    return wrong


def wrong_by_separation(nx, true, estimated):
    """Pairs for which the estimated parents are no adjustment set, by d-separation.

    The set must hold no node at or below a node on a directed path, and must separate the pair
    in the graph without the first edges of the directed paths.
    """
    n_nodes = len(true)
    full = nx.from_numpy_array(true.astype(int), create_using=nx.DiGraph)
    below = {node: nx.descendants(full, node) for node in full}
    wrong = np.zeros((n_nodes, n_nodes), dtype=bool)
    for i, j in itertools.permutations(range(n_nodes), 2):
        parents = set(np.flatnonzero(estimated[:, i]).tolist())
        if j in parents:
            wrong[i, j] = j in below[i]
            continue
        between = {node for node in below[i] if node == j or j in below[node]}
        spoilt = set().union(*({node} | below[node] for node in between))
        back = full.copy()
        back.remove_edges_from([(i, node) for node in between])
        wrong[i, j] = bool(parents & spoilt) or not nx.is_d_separator(back, {i}, {j}, parents)
    return wrong


def test_shd_of_hand_counted_graphs():
    chain = graph(4, (0, 1), (1, 2), (2, 3))
    assert structural_hamming_distance(chain, chain) == 0
    assert structural_hamming_distance(chain, -3.0 * chain) == 0
    assert structural_hamming_distance(chain, graph(4, (1, 0), (1, 2), (2, 3))) == 1
    assert structural_hamming_distance(chain, graph(4, (1, 2), (2, 3))) == 1
    assert structural_hamming_distance(chain, graph(4, (0, 1), (1, 2), (2, 3), (0, 3))) == 1
    assert structural_hamming_distance(chain, chain.T) == 3
    assert structural_hamming_distance(chain, np.zeros((4, 4))) == 3
    # A graph with a cycle may be compared, as may one with undirected edges.
    assert structural_hamming_distance(chain, graph(4, (0, 1), (1, 2), (2, 0))) == 2
    assert structural_hamming_distance(chain, chain + chain.T) == 3


def small_graphs():
    """Three graphs of the same size, undirected edges and cycles included."""
    return st.integers(1, 5).flatmap(
        lambda n: st.tuples(
            *[
                st.lists(st.booleans(), min_size=n * n, max_size=n * n).map(
                    lambda flat: np.reshape(flat, (n, n)) & ~np.eye(n, dtype=bool)
                )
            ]
            * 3
        )
    )


@given(small_graphs())
def test_shd_is_a_metric(graphs):
    a, b, c = graphs
    shd = structural_hamming_distance
    assert shd(a, b) == shd(b, a)
    assert (shd(a, b) == 0) == np.array_equal(a, b)
    assert shd(a, c) <= shd(a, b) + shd(b, c)
    n_pairs = len(a) * (len(a) - 1) // 2
    assert shd(a, b) == n_pairs - sum(
        a[i, j] == b[i, j] and a[j, i] == b[j, i]
        for i, j in itertools.combinations(range(len(a)), 2)
    )


def test_cpdag_distance_is_zero_for_equivalent_graphs_only():
    chain, fork, collider = (
        graph(3, (0, 1), (1, 2)),
        graph(3, (1, 0), (1, 2)),
        graph(3, (0, 1), (2, 1)),
    )
    assert cpdag_hamming_distance(chain, fork) == cpdag_hamming_distance(chain, chain.T) == 0
    # Both undirected edges become directed.
    assert cpdag_hamming_distance(chain, collider) == 2
    assert structural_hamming_distance(chain, collider) == 1
    # A covered edge may be reversed at no cost, a collider must not be touched.
    full = graph(3, (0, 1), (0, 2), (1, 2))
    assert cpdag_hamming_distance(full, graph(3, (1, 0), (0, 2), (1, 2))) == 0
    assert cpdag_hamming_distance(full, chain) == 1


def test_cpdag_distance_takes_a_cpdag():
    rng = np.random.default_rng(0)
    for _ in range(20):
        true, estimated = random_dag(rng, 8, 0.4), random_dag(rng, 8, 0.4)
        distance = cpdag_hamming_distance(true, estimated)
        assert distance == structural_hamming_distance(cpdag(true), cpdag(estimated))
        assert distance == cpdag_hamming_distance(true, cpdag(estimated), estimated_type="cpdag")
    # Without undirected edges, a DAG and its CPDAG are told apart.
    chain = graph(3, (0, 1), (1, 2))
    assert cpdag_hamming_distance(chain, chain, estimated_type="cpdag") == 2


def test_sid_of_the_example_of_peters_and_buhlmann():
    # Two causes, the second one an effect of the first, of three effects each.
    true = graph(5, (0, 1), *itertools.product((0, 1), (2, 3, 4)))
    superfluous = true + graph(5, (2, 3))
    reversed_edge = true - graph(5, (0, 1)) + graph(5, (1, 0))
    assert structural_hamming_distance(true, superfluous) == 1
    assert structural_intervention_distance(true, superfluous) == 0
    assert structural_hamming_distance(true, reversed_edge) == 1
    # The effects of both causes on each other and on all else.
    assert structural_intervention_distance(true, reversed_edge) == 8


def test_sid_by_hand():
    chain = graph(3, (0, 1), (1, 2))
    # 1 -> 2 is confounded by nothing; 2 seems to affect both, and 1 its cause.
    assert structural_intervention_distance(chain, np.zeros((3, 3))) == 3
    assert structural_intervention_distance(np.zeros((3, 3)), chain) == 0
    # Given its effect 2 the causes 0 and 1 depend; without it they do not.
    collider = graph(3, (0, 2), (1, 2))
    wrong = graph(3, (2, 0))
    # 0: adjusts for 2, which it affects; 1 depends on it. 2: affects both by association.
    # 1: no parents, nothing wrong.
    assert structural_intervention_distance(collider, wrong) == 4


def test_sid_is_what_regressions_get_wrong_for_all_graphs_of_three_nodes():
    rng = np.random.default_rng(1)
    for true, estimated in itertools.product(all_dags(3), repeat=2):
        wrong = wrong_by_regression(true, estimated, rng)
        np.testing.assert_array_equal(_wrong_effects(true, estimated), wrong)
        assert structural_intervention_distance(true, estimated) == wrong.sum()


@pytest.mark.parametrize(
    ("n_nodes", "density"), [(4, 0.3), (4, 0.7), (5, 0.4), (6, 0.3), (7, 0.5), (9, 0.3)]
)
def test_sid_is_what_regressions_get_wrong(n_nodes, density):
    rng = np.random.default_rng(n_nodes)
    for _ in range(60):
        true, estimated = (random_dag(rng, n_nodes, density) for _ in range(2))
        wrong = wrong_by_regression(true, estimated, rng)
        np.testing.assert_array_equal(_wrong_effects(true, estimated), wrong)
        assert structural_intervention_distance(true, estimated) == wrong.sum()


@pytest.mark.parametrize(("n_nodes", "density"), [(5, 0.5), (12, 0.25), (16, 0.1)])
def test_sid_is_what_is_not_separated(n_nodes, density):
    nx = pytest.importorskip("networkx")
    rng = np.random.default_rng(n_nodes)
    shares = []
    for _ in range(8):
        true = random_dag(rng, n_nodes, density)
        # Estimates near the truth have all kinds of valid and invalid sets: two neighbours in
        # the order change places, and a few edges come and go.
        order = topological_order(true)
        place = rng.integers(n_nodes - 1)
        order[[place, place + 1]] = order[[place + 1, place]]
        changed = (true | true.T)[np.ix_(order, order)] ^ (rng.random(true.shape) < 0.05)
        estimated = np.empty_like(true)
        estimated[np.ix_(order, order)] = np.triu(changed, 1)
        wrong = wrong_by_separation(nx, true, estimated)
        np.testing.assert_array_equal(_wrong_effects(true, estimated), wrong)
        shares.append(wrong.mean())
    assert 0 < np.mean(shares) < 0.9


@settings(max_examples=50)
@given(dags(), st.randoms(use_true_random=False))
def test_sid_forgives_superfluous_edges_and_new_names(true, random):
    n_nodes = len(true)
    order = list(range(n_nodes))
    depth = np.linalg.matrix_power(true.astype(float) + np.eye(n_nodes), n_nodes) > 0
    order.sort(key=lambda node: depth[:, node].sum())
    complete = np.zeros_like(true)
    for place, node in enumerate(order):
        complete[order[:place], node] = True
    assert not np.any(true & ~complete)
    assert structural_intervention_distance(true, true) == 0
    assert structural_intervention_distance(true, complete) == 0
    # Of a graph that is complete, every edge must be found.
    missing = complete & (np.array([[random.random() for _ in order] for _ in order]) < 0.7)
    distance = structural_intervention_distance(complete, missing)
    assert (distance == 0) == np.array_equal(complete, missing)
    names = random.sample(range(n_nodes), n_nodes)
    relabel = np.ix_(names, names)
    assert structural_intervention_distance(complete[relabel], missing[relabel]) == distance


def test_sid_of_large_graphs():
    n_nodes = 200
    chain = np.diag(np.ones(n_nodes - 1), 1)
    n_pairs = n_nodes * (n_nodes - 1)
    assert structural_intervention_distance(chain, chain) == 0
    # Backwards, every node adjusts for its child: the effects on all below are wrong, and of
    # those above, nothing blocks the association.
    assert structural_intervention_distance(chain, chain.T) == n_pairs
    # Without edges, every node seems to affect all above it.
    assert structural_intervention_distance(chain, np.zeros_like(chain)) == n_pairs // 2
    true = random_dag(np.random.default_rng(3), n_nodes, 0.04)
    assert structural_intervention_distance(true, true) == 0


def test_metrics_against_counts_and_against_scikit_learn():
    rng = np.random.default_rng(4)
    for n_nodes in (3, 6, 10):
        true = random_dag(rng, n_nodes, 0.5) * rng.normal(size=(n_nodes, n_nodes))
        estimated = random_dag(rng, n_nodes, 0.5) * rng.normal(size=(n_nodes, n_nodes))
        metrics = dag_metrics(true, estimated)
        outside = ~np.eye(n_nodes, dtype=bool)
        y_true, y_pred = true[outside] != 0, estimated[outside] != 0
        assert metrics.precision == pytest.approx(precision_score(y_true, y_pred))
        assert metrics.recall == metrics.tpr == pytest.approx(recall_score(y_true, y_pred))
        assert metrics.f1 == pytest.approx(f1_score(y_true, y_pred))
        assert metrics.fpr == pytest.approx(np.mean(y_pred[~y_true]))
        assert metrics.fdr == pytest.approx(1 - metrics.precision)
        assert metrics.n_edges == y_pred.sum()
        assert metrics.shd == structural_hamming_distance(true, estimated)
        assert metrics.shd_cpdag == cpdag_hamming_distance(true, estimated)
        assert metrics.sid == structural_intervention_distance(true, estimated)
        assert list(metrics) == [
            *("shd", "shd_cpdag", "sid", "tpr", "fdr", "fpr", "precision", "recall", "f1"),
            "n_edges",
        ]
        counts = [metrics[key] for key in ("shd", "shd_cpdag", "sid", "n_edges")]
        assert all(type(count) is int for count in counts)


def test_metrics_by_hand():
    true = graph(4, (0, 1), (1, 2), (2, 3))
    # One found, one reversed, one missing, two superfluous.
    metrics = dag_metrics(true, graph(4, (0, 1), (2, 1), (0, 2), (0, 3)))
    assert metrics.shd == 4
    assert metrics.tpr == metrics.recall == pytest.approx(1 / 3)
    assert metrics.fdr == 3 / 4 and metrics.precision == 1 / 4
    assert metrics.fpr == 3 / 9
    assert metrics.f1 == pytest.approx(2 / 7)
    assert metrics.n_edges == 4


@pytest.mark.parametrize("n_nodes", [1, 2, 5])
def test_metrics_of_empty_graphs(n_nodes):
    empty = np.zeros((n_nodes, n_nodes))
    perfect = {"tpr": 1.0, "fdr": 0.0, "fpr": 0.0, "precision": 1.0, "recall": 1.0, "f1": 1.0}
    nothing = {"shd": 0, "shd_cpdag": 0, "sid": 0, "n_edges": 0}
    assert dag_metrics(empty, empty) == nothing | perfect


def test_metrics_when_one_graph_is_empty():
    empty, edge = np.zeros((2, 2)), graph(2, (0, 1))
    missed = dag_metrics(edge, empty)
    assert (missed.tpr, missed.fdr, missed.precision, missed.f1) == (0.0, 0.0, 1.0, 0.0)
    invented = dag_metrics(empty, edge)
    assert (invented.tpr, invented.fdr, invented.precision, invented.f1) == (1.0, 1.0, 0.0, 0.0)
    assert (missed.fpr, invented.fpr) == (0.0, 0.5)
    assert (missed.shd, invented.shd, missed.sid, invented.sid) == (1, 1, 1, 0)


@settings(max_examples=50)
@given(dags())
def test_identical_graphs_are_perfect(edges):
    metrics = dag_metrics(edges, edges)
    assert metrics.shd == metrics.shd_cpdag == metrics.sid == 0
    assert metrics.tpr == metrics.precision == metrics.recall == metrics.f1 == 1.0
    assert metrics.fdr == metrics.fpr == 0.0


CYCLE = np.array([[0.0, 1.0], [1.0, 0.0]])
DAG_FUNCTIONS = [cpdag_hamming_distance, structural_intervention_distance, dag_metrics]


@pytest.mark.parametrize("function", [structural_hamming_distance, *DAG_FUNCTIONS])
def test_bad_graphs_are_named(function):
    edge = graph(2, (0, 1))
    with pytest.raises(ValueError, match=r"true must be a square matrix .* got shape \(2, 3\)"):
        function(np.zeros((2, 3)), edge)
    with pytest.raises(ValueError, match=r"estimated must be finite, got nan at \(1, 0\)"):
        function(edge, [[0, 0], [np.nan, 0]])
    with pytest.raises(ValueError, match="estimated must have a zero diagonal"):
        function(edge, np.eye(2))
    with pytest.raises(
        ValueError, match=r"estimated must have the shape of true, \(2, 2\), got \(3, 3\)"
    ):
        function(edge, np.zeros((3, 3)))


@pytest.mark.parametrize("function", DAG_FUNCTIONS)
def test_cycles_are_refused_where_they_have_no_meaning(function):
    edge = graph(2, (0, 1))
    with pytest.raises(ValueError, match=r"true must be acyclic, .* 0 -> 1 -> 0 "):
        function(CYCLE, edge)
    with pytest.raises(ValueError, match=r"estimated must be acyclic, .* 0 -> 1 -> 0 "):
        function(edge, CYCLE)


def test_unknown_type_of_estimate():
    with pytest.raises(ValueError, match="estimated_type must be 'dag' or 'cpdag', got 'pag'"):
        cpdag_hamming_distance(CYCLE, CYCLE, estimated_type="pag")
