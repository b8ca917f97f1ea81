"""Random structural equation models have the law that their description promises."""

import math

import networkx
import numpy as np
import pytest
from scipy import stats
from sklearn.utils import Bunch, check_random_state

from sparsestat.datasets import make_sem

N_SIGMA = 5.0
"""Deviations allowed, in standard deviations of the Monte-Carlo error: one false alarm in a
million draws, and the seeds are fixed."""


def noise_of(sem):
    """The noise, recovered from the samples."""
    return sem.data - sem.data @ sem.adjacency


def edges_of(seed, n_nodes=12, **options):
    sem = make_sem(1, n_nodes, random_state=seed, **options)
    return sem.adjacency != 0


@pytest.mark.parametrize("graph", ["er", "sf"])
@pytest.mark.parametrize("seed", range(5))
def test_graph_is_acyclic_and_the_order_fits(graph, seed):
    sem = make_sem(3, 30, graph=graph, random_state=seed)
    assert isinstance(sem, Bunch)
    assert sorted(sem) == ["adjacency", "data", "noise_scales", "order"]
    assert sem.data.shape == (3, 30) and sem.noise_scales.shape == (30,)
    assert networkx.is_directed_acyclic_graph(networkx.DiGraph(sem.adjacency))
    assert sorted(sem.order) == list(range(30))
    position = np.argsort(sem.order)
    parents, children = np.nonzero(sem.adjacency)
    assert np.all(position[parents] < position[children])


def test_erdos_renyi_graphs_have_the_promised_number_of_edges():
    counts = [edges_of(seed, degree=4).sum() for seed in range(200)]
    # Binomial: 66 pairs, each an edge with probability 48 / 66.
    share = 48 / 66
    deviation = math.sqrt(66 * share * (1 - share) / len(counts))
    assert abs(np.mean(counts) - 48) <= N_SIGMA * deviation
    variance = 66 * share * (1 - share)
    # The variance of a sample variance is 2 v^2 / (n - 1) up to the small excess kurtosis.
    assert abs(np.var(counts, ddof=1) - variance) <= N_SIGMA * variance * math.sqrt(2 / 199)


def test_erdos_renyi_prefers_no_pair_and_no_direction():
    n_graphs, share = 600, 2 * 1.5 / 7 / 2
    total = sum(edges_of(seed, n_nodes=8, degree=1.5).astype(int) for seed in range(n_graphs))
    off = total[~np.eye(8, dtype=bool)]
    deviation = math.sqrt(n_graphs * share * (1 - share))
    assert np.abs(off - n_graphs * share).max() <= N_SIGMA * deviation
    assert not np.any(np.diag(total))


def test_largest_degree_gives_every_edge():
    assert edges_of(0, n_nodes=9, degree=4).sum() == 36


@pytest.mark.parametrize("degree", [0, 1, 3, 11])
def test_scale_free_graphs_have_an_exact_number_of_edges(degree):
    edges = edges_of(1, graph="sf", degree=degree)
    assert edges.sum() == 12 * degree - degree * (degree + 1) // 2
    # Every node but the oldest ones sends edges to exactly `degree` others.
    assert sorted(edges.sum(axis=1)) == [*range(degree), *[degree] * (12 - degree)]


def test_scale_free_graphs_attach_in_proportion_to_the_number_of_edges():
    # With one edge a node, the fourth node meets a path of two edges whose middle has 2 of the
    # 4 ends: it attaches to the middle with probability 1/2 and makes a star of three edges.
    n_graphs = 2000
    graphs = [edges_of(seed, n_nodes=4, graph="sf", degree=1) for seed in range(n_graphs)]
    stars = sum((edges + edges.T).sum(axis=0).max() == 3 for edges in graphs)
    assert abs(stars / n_graphs - 0.5) <= N_SIGMA * math.sqrt(0.25 / n_graphs)


@pytest.mark.parametrize("graph", ["er", "sf"])
def test_names_of_the_nodes_are_shuffled(graph):
    n_graphs = 300
    first = np.zeros(6)
    for seed in range(n_graphs):
        first[make_sem(1, 6, graph=graph, degree=2, random_state=seed).order[0]] += 1
    deviation = math.sqrt(n_graphs * (1 / 6) * (5 / 6))
    assert np.abs(first - n_graphs / 6).max() <= N_SIGMA * deviation


def test_weights_are_uniform_with_random_signs():
    sem = make_sem(1, 200, degree=20, weight_range=(0.25, 1.0), random_state=0)
    weights = sem.adjacency[sem.adjacency != 0]
    assert stats.kstest(np.abs(weights), stats.uniform(0.25, 0.75).cdf).pvalue > 1e-4
    assert abs(np.mean(weights > 0) - 0.5) <= N_SIGMA * math.sqrt(0.25 / len(weights))


def test_one_weight():
    sem = make_sem(1, 10, weight_range=[0.7, 0.7], random_state=0)
    np.testing.assert_array_equal(np.unique(np.abs(sem.adjacency)), [0.0, 0.7])


FAMILIES = {
    "gaussian": stats.norm(),
    "exponential": stats.expon(loc=-1.0),
    "laplace": stats.laplace(scale=math.sqrt(0.5)),
    "gumbel": stats.gumbel_r(
        loc=-np.euler_gamma * math.sqrt(6) / math.pi, scale=math.sqrt(6) / math.pi
    ),
}


@pytest.mark.parametrize("noise", FAMILIES)
def test_noise_is_of_its_family_with_mean_zero_and_the_given_variance(noise):
    family = FAMILIES[noise]
    assert family.mean() == pytest.approx(0.0, abs=1e-12) and family.var() == pytest.approx(1.0)
    sem = make_sem(
        4000, 6, degree=2, noise=noise, noise_variance=[0.5, 1, 2, 3, 5, 10.0], random_state=1
    )
    np.testing.assert_allclose(sem.noise_scales**2, [0.5, 1, 2, 3, 5, 10])
    standardised = (noise_of(sem) / sem.noise_scales).ravel()
    # 24,000 draws; a false alarm has probability 1e-4.
    assert stats.kstest(standardised, family.cdf).pvalue > 1e-4


def test_variances_are_drawn_between_two_bounds():
    sem = make_sem(2, 300, noise_variance=(0.5, 10.0), random_state=0)
    assert stats.kstest(sem.noise_scales**2, stats.uniform(0.5, 9.5).cdf).pvalue > 1e-4
    # With two nodes a tuple is a range, and an array one variance for each.
    two = {"n_samples": 1, "n_nodes": 2, "degree": 0, "random_state": 0}
    drawn = make_sem(**two, noise_variance=(1.0, 9.0)).noise_scales ** 2
    assert np.all((drawn > 1) & (drawn < 9)) and drawn[0] != drawn[1]
    given = make_sem(**two, noise_variance=np.array([1.0, 9.0])).noise_scales
    np.testing.assert_array_equal(given, [1.0, 3.0])


def test_covariance_is_that_of_the_model():
    sem = make_sem(200_000, 7, degree=2, noise_variance=(0.5, 2.0), random_state=3)
    inverse = np.linalg.inv(np.eye(7) - sem.adjacency)
    covariance = inverse.T @ np.diag(sem.noise_scales**2) @ inverse
    sample = sem.data.T @ sem.data / len(sem.data)
    scales = np.sqrt(np.diag(covariance))
    # For Gaussian data Var(s_ij) = (c_ii c_jj + c_ij^2) / n <= 2 c_ii c_jj / n.
    error = np.abs(sample - covariance) / np.outer(scales, scales)
    assert error.max() <= N_SIGMA * math.sqrt(2 / len(sem.data))
    assert np.abs(sem.data.mean(axis=0) / scales).max() <= N_SIGMA / math.sqrt(len(sem.data))


def test_a_callable_gives_the_noise():
    calls = []

    def signs(rng, size):
        calls.append(size)
        assert isinstance(rng, np.random.Generator)
        return rng.choice([-1.0, 1.0], size)

    sem = make_sem(50, 5, degree=1, noise=signs, noise_variance=4.0, random_state=0)
    assert calls == [(50, 5)]
    np.testing.assert_allclose(np.abs(noise_of(sem)), 2.0)


def test_a_callable_may_hand_out_its_own_array():
    values = np.ones((4, 3))
    make_sem(4, 3, degree=1, noise=lambda rng, size: values, random_state=0)
    np.testing.assert_array_equal(values, 1.0)


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], other[key])


@pytest.mark.parametrize("make", [int, np.random.RandomState, np.random.default_rng])
@pytest.mark.parametrize("graph", ["er", "sf"])
def test_the_seed_fixes_everything(make, graph):
    options = {"graph": graph, "noise_variance": (1.0, 2.0)}
    check_random_state(None).seed(0)
    one = make_sem(20, 10, random_state=make(7), **options)
    check_random_state(None).seed(1)
    assert_same(one, make_sem(20, 10, random_state=make(7), **options))
    other = make_sem(20, 10, random_state=make(8), **options)
    assert not np.array_equal(one.adjacency, other.adjacency)
    assert not np.array_equal(one.data, other.data)


@pytest.mark.parametrize("make", [np.random.RandomState, np.random.default_rng])
def test_a_source_moves_on(make):
    source = make(0)
    one, other = (make_sem(5, 10, random_state=source) for _ in range(2))
    assert not np.array_equal(one.adjacency, other.adjacency)


def test_none_stands_for_the_global_state():
    check_random_state(None).seed(3)
    one = make_sem(5, 10)
    assert not np.array_equal(one.data, make_sem(5, 10).data)
    check_random_state(None).seed(3)
    assert_same(one, make_sem(5, 10))


def test_one_seed_gives_one_graph_for_any_size_and_noise():
    one = make_sem(5, 10, random_state=0)
    other = make_sem(90, 10, noise="laplace", noise_variance=3.0, random_state=0)
    for key in ("adjacency", "order"):
        np.testing.assert_array_equal(one[key], other[key])


@pytest.mark.parametrize("graph", ["er", "sf"])
def test_one_node(graph):
    sem = make_sem(7, 1, graph=graph, degree=0, random_state=0)
    assert sem.data.shape == (7, 1) and sem.adjacency.tolist() == [[0.0]]
    assert sem.order.tolist() == [0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_nodes": 1}, r"degree must be at most \(n_nodes - 1\) / 2 = 0 .* got 4"),
        ({"n_nodes": 8}, r"degree must be at most .* = 3.5 for graph='er' with n_nodes=8"),
        ({"n_nodes": 4, "graph": "sf"}, "degree must be an integer below n_nodes=4"),
        ({"graph": "sf", "degree": 1.5}, "degree must be an integer .* got 1.5"),
        ({"degree": -1}, "'degree' parameter of make_sem"),
        ({"degree": np.inf}, "'degree' parameter of make_sem"),
        ({"graph": "ring"}, "'graph' parameter of make_sem"),
        ({"n_nodes": 0}, "'n_nodes' parameter"),
        ({"n_samples": 0}, "'n_samples' parameter"),
        ({"weight_range": (2.0, 1.0)}, r"weight_range must hold .* got \(2.0, 1.0\)"),
        ({"weight_range": (-1.0, 1.0)}, "weight_range must hold .* 0 <= lower <= upper"),
        ({"weight_range": (0, 0)}, r"weight_range must not be \(0, 0\)"),
        ({"weight_range": (1, np.inf)}, "weight_range must hold"),
        ({"weight_range": (1, 2, 3)}, "weight_range must hold two numbers"),
        ({"noise": "cauchy"}, "'noise' parameter"),
        ({"noise": lambda rng, size: np.zeros(3)}, r"noise must return .* \(1000, 20\).*\(3,\)"),
        ({"noise": lambda rng, size: np.full(size, np.nan)}, "noise must return finite .* NaN"),
        ({"noise_variance": 0.0}, "'noise_variance' parameter"),
        ({"noise_variance": (0.0, 1.0)}, "noise_variance must be positive"),
        ({"noise_variance": (1.0, 2.0, 3.0)}, "noise_variance must hold two .* list or an array"),
        ({"noise_variance": [1.0, 2.0]}, r"noise_variance must be .* \(20,\).* shape \(2,\)"),
        ({"noise_variance": [-1.0] * 20}, "noise_variance must be finite and positive"),
        ({"noise_variance": ["a"] * 20}, "noise_variance must hold numbers"),
        ({"random_state": "a"}, "'random_state' parameter"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make_sem(**options)
