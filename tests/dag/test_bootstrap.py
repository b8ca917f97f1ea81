"""Resamples, what is counted over them, and edges that are stable."""

import array_api_strict
import networkx as nx
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import sparsestat
from sparsestat.dag import (
    CoLiDE,
    CoLiDECV,
    _bootstrap,
    bootstrap_edges,
    colide_path,
    stability_selection,
)
from sparsestat.datasets import make_sem

# Simulated graphs are sortable by variance, and small ones are told to be.
pytestmark = pytest.mark.filterwarnings("ignore::sparsestat.dag.SortabilityWarning")

VARIANCES = pytest.mark.parametrize("variance", ["equal", "unequal"])
SHORT = {"warm_iter": 15, "max_iter": 25, "checkpoint": 10, "lr": 0.03}


def simulate(n_nodes=5, n_samples=80, degree=1.2, seed=0):
    return make_sem(n_samples, n_nodes, degree=degree, random_state=seed)


def seeds_of(random_state, number):
    return np.random.RandomState(random_state).randint(2**31 - 1, size=number)


def by_hand(estimator, X, seeds, weights=None, length=1):
    """One ordinary fit for each resample."""
    found = []
    for seed in seeds:
        counts = _bootstrap.draw_counts(X.shape[0], weights, length, seed)
        model = CoLiDE(**{**estimator.get_params(), "random_state": int(seed)})
        found.append(model.fit(X, sample_weight=counts).adjacency_)
    return np.array(found)


# --- resamples ---------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("weighted", [False, True])
def test_resamples_are_as_large_as_the_data(length, weighted):
    weights = np.random.default_rng(0).integers(0, 5, 20).astype(float) if weighted else None
    total = 20 if weights is None else weights.sum()
    for seed in range(5):
        counts = _bootstrap.draw_counts(20, weights, length, seed)
        assert counts.sum() == total
        assert counts.shape == (20,)
        assert np.all(counts == np.round(counts)) and counts.min() >= 0


def test_single_rows_are_drawn_in_proportion():
    weights = np.array([0.0, 1.0, 2.0, 5.0])
    drawn = np.array([_bootstrap.draw_counts(4, weights, 1, seed) for seed in range(2000)])
    assert not drawn[:, 0].any()
    # Multinomial with 8 draws: mean w and variance w (1 - w / 8), of which 2000 are averaged.
    error = np.sqrt(weights * (1 - weights / 8) / 2000)
    assert np.all(np.abs(drawn.mean(axis=0) - weights) <= 4 * error)
    variance = weights * (1 - weights / 8)
    # The relative error of a variance of nearly normal numbers is sqrt(2 / 2000) = 2.2 %.
    np.testing.assert_allclose(drawn.var(axis=0), variance, rtol=0.13)
    plain = np.array([_bootstrap.draw_counts(5, None, 1, seed) for seed in range(2000)])
    assert np.all(np.abs(plain.mean(axis=0) - 1) <= 4 * np.sqrt(0.8 / 2000))


def test_blocks_are_runs_around_the_end():
    # Three blocks of four from twelve rows: counts rise and fall at most three times in all.
    drawn = [_bootstrap.draw_counts(12, None, 4, seed) for seed in range(300)]
    for counts in drawn:
        steps = counts - np.roll(counts, 1)
        assert steps[steps > 0].sum() <= 3
    assert any(counts[0] and counts[-1] and not counts[4:8].any() for counts in drawn)
    # Each row is in four of the twelve blocks.
    mean = np.mean(drawn, axis=0)
    assert np.all(np.abs(mean - 1) <= 4 * np.sqrt(3 * (1 / 3) * (2 / 3) / 300))


def test_one_block_of_all_rows_is_the_data_again():
    X = simulate().data
    result = bootstrap_edges(
        CoLiDE(), X, n_bootstrap=3, kind="block", block_length=80, random_state=0
    )
    expected = CoLiDE(random_state=0).fit(X).adjacency_
    np.testing.assert_allclose(result.weights, np.broadcast_to(expected, (3, 5, 5)), atol=1e-8)
    np.testing.assert_array_equal(result.edge_frequency, expected != 0)


# --- what is counted ---------------------------------------------------------------------------


@VARIANCES
@pytest.mark.parametrize(
    "kind, length, weighted",
    [("pairs", 1, False), ("pairs", 1, True), ("block", 7, False), ("block", None, True)],
)
def test_counts_are_those_of_separate_fits(variance, kind, length, weighted):
    X = simulate().data
    weights = np.random.default_rng(1).integers(0, 3, 80).astype(float) if weighted else None
    estimator = CoLiDE(variance, refit=True, w_threshold=0.2)
    options = {"kind": kind, "sample_weight": weights, "random_state": 4}
    if kind == "block":
        options["block_length"] = length
    levels = [0.1, 0.5, 0.75]
    result = bootstrap_edges(estimator, X, n_bootstrap=15, quantiles=levels, **options)
    # The cube root of 80 is 4.3.
    weights_by_hand = by_hand(estimator, X, seeds_of(4, 15), weights, length or 5)
    np.testing.assert_array_equal(result.weights, weights_by_hand)
    np.testing.assert_array_equal(result.quantiles, levels)
    assert result.weight_quantiles.shape == (3, 5, 5)
    ancestors = np.zeros((5, 5))
    for W in weights_by_hand:
        graph = nx.from_numpy_array(W != 0, create_using=nx.DiGraph)
        for i in range(5):
            ancestors[i, list(nx.descendants(graph, i))] += 1 / 15
    np.testing.assert_allclose(result.order_frequency, ancestors, atol=1e-12)
    for i in range(5):
        for j in range(5):
            w = weights_by_hand[:, i, j]
            present = w[w != 0]
            assert result.edge_frequency[i, j] == pytest.approx(len(present) / 15)
            np.testing.assert_allclose(
                result.weight_quantiles[:, i, j], np.quantile(w, levels), atol=1e-14
            )
            if len(present):
                share = max(np.mean(present > 0), np.mean(present < 0))
                assert result.sign_agreement[i, j] == pytest.approx(share)
            else:
                assert np.isnan(result.sign_agreement[i, j])


def test_workers_and_seeds():
    X = simulate(8, 40, degree=2).data
    options = {"n_bootstrap": 12}
    one = bootstrap_edges(CoLiDE(), X, random_state=0, **options)
    for n_jobs in (2, 4):
        several = bootstrap_edges(CoLiDE(), X, random_state=0, n_jobs=n_jobs, **options)
        np.testing.assert_array_equal(several.weights, one.weights)
    # What the estimator would draw does not matter.
    seeded = bootstrap_edges(CoLiDE(random_state=9), X, random_state=0, **options)
    np.testing.assert_array_equal(seeded.weights, one.weights)
    state = np.random.RandomState(0)
    drawn = bootstrap_edges(CoLiDE(), X, random_state=state, **options)
    np.testing.assert_array_equal(drawn.weights, one.weights)
    assert np.any(
        bootstrap_edges(CoLiDE(), X, random_state=state, **options).weights != one.weights
    )
    # The first resamples do not depend on how many follow.
    few = bootstrap_edges(CoLiDE(), X, n_bootstrap=5, random_state=0)
    np.testing.assert_array_equal(few.weights, one.weights[:5])


def test_containers():
    found = simulate()
    X = np.round(found.data, 3) * (np.abs(found.data) > 0.3)
    plain = bootstrap_edges(CoLiDE(alpha=0.1), X, n_bootstrap=5, random_state=0)
    for other in (sparse.csr_array(X), sparse.coo_array(X), pd.DataFrame(X), X.tolist()):
        result = bootstrap_edges(CoLiDE(alpha=0.1), other, n_bootstrap=5, random_state=0)
        np.testing.assert_allclose(result.weights, plain.weights, atol=1e-8)


@pytest.mark.parametrize("study", [bootstrap_edges, stability_selection])
def test_constraints_by_name(study):
    found = simulate()
    frame = pd.DataFrame(found.data, columns=list("abcde"))
    parent, child = np.argwhere(found.adjacency)[0]
    named = CoLiDE(forbidden_edges=[("abcde"[parent], "abcde"[child])])
    by_position = CoLiDE(forbidden_edges=[(parent, child)])
    number = {"n_bootstrap": 4} if study is bootstrap_edges else {"n_subsamples": 4}
    a = study(named, frame, random_state=0, **number)
    b = study(by_position, found.data, random_state=0, **number)
    key = "weights" if study is bootstrap_edges else "frequency_path"
    np.testing.assert_array_equal(a[key], b[key])
    assert not np.any(a[key][:, parent, child])


def test_nothing_is_changed():
    X = simulate().data
    X.setflags(write=False)
    estimator = CoLiDE(alpha=0.2, random_state=3)
    before = estimator.get_params()
    bootstrap_edges(estimator, X, n_bootstrap=2, random_state=0)
    stability_selection(estimator, X, n_subsamples=2, random_state=0)
    assert estimator.get_params() == before
    assert not hasattr(estimator, "adjacency_")


def test_strong_edges_are_found_again():
    found = simulate(n_samples=500)
    result = bootstrap_edges(CoLiDE(), found.data, n_bootstrap=40, random_state=0)
    true = found.adjacency != 0
    assert true.sum() >= 4
    assert result.edge_frequency[true].min() > 0.9
    assert result.edge_frequency[~true].max() < 0.3
    np.testing.assert_array_equal(result.sign_agreement[true], 1.0)
    # Whole distributions are on one side of zero.
    np.testing.assert_array_equal(
        np.sign(result.weight_quantiles[[0, 2]])[:, true], [np.sign(found.adjacency[true])] * 2
    )
    reach = np.linalg.inv(np.eye(5) - true) - np.eye(5)
    assert result.order_frequency[reach > 0].min() > 0.9


# --- on a device -------------------------------------------------------------------------------


@pytest.fixture
def moved(xp, monkeypatch):
    """Shapes of the arrays that were fetched from the device."""
    shapes = []

    def fetch(x, namespace):
        shapes.append(tuple(x.shape))
        return np.array(xp.to_numpy(x), dtype=np.float64)

    monkeypatch.setattr(_bootstrap, "_to_host", fetch)
    return shapes


def on_host(*args, **options):
    with sparsestat.config_context(backend="auto"):
        return bootstrap_edges(*args, **options)


@VARIANCES
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 0.05},
        {"alpha": "auto"},
        {"alpha": 0.05, "fit_intercept": False},
        {"alpha": 0.05, "w_threshold": 0.1, "threshold_scale": "standardized"},
        {"alpha": 0.05, "refit": True},
    ],
    ids=str,
)
def test_resamples_on_a_device_are_those_of_the_host(xp, moved, variance, options):
    X = simulate().data + 1.0
    estimator = CoLiDE(variance, solver="central-path", path_params=SHORT, **options)
    resamples = {"n_bootstrap": 2, "random_state": 0}
    expected = on_host(estimator, X, **resamples)
    assert np.any(expected.weights)
    result = bootstrap_edges(estimator, xp.asarray(X), **resamples)
    xp.assert_twin_ran()
    np.testing.assert_allclose(result.weights, expected.weights, atol=1e-8)
    np.testing.assert_array_equal(result.edge_frequency, expected.edge_frequency)
    # Moments and weights leave the device, rows never.
    assert all(len(X) not in shape for shape in moved)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "options",
    [
        {"penalty_scale": "columns"},
        {"sigma_min": 2.0},
        {"forbidden_edges": [(0, 4), (1, 0), (3, 0), (3, 4)]},
        {"node_tiers": [1, 0, 0, 1, 0]},
    ],
    ids=str,
)
def test_what_a_device_cannot_do_is_not_ignored(xp, moved, options):
    X = simulate().data
    estimator = CoLiDE(solver="central-path", alpha=0.05, path_params=SHORT, **options)
    resamples = {"n_bootstrap": 2, "random_state": 0}
    expected = on_host(estimator, X, **resamples)
    try:
        result = bootstrap_edges(estimator, xp.asarray(X), **resamples)
    except ValueError as error:
        assert next(iter(options)) in str(error)
    else:
        np.testing.assert_allclose(result.weights, expected.weights, atol=1e-8)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", ["pairs", "block"])
def test_weights_on_a_device(xp, moved, kind):
    X = simulate().data
    weights = np.random.default_rng(0).integers(0, 3, 80).astype(float)
    estimator = CoLiDE(solver="central-path", alpha=0.05, path_params=SHORT)
    options = {"n_bootstrap": 2, "random_state": 0, "kind": kind, "sample_weight": weights}
    expected = on_host(estimator, X, **options)
    result = bootstrap_edges(estimator, xp.asarray(X), **options)
    np.testing.assert_allclose(result.weights, expected.weights, atol=1e-8)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_constant_column_on_a_device(xp, moved):
    X = simulate().data
    X[:, 2] = 1.0
    estimator = CoLiDE(solver="central-path", alpha=0.05, path_params=SHORT)
    options = {"n_bootstrap": 2, "random_state": 0}
    expected = on_host(estimator, X, **options)
    result = bootstrap_edges(estimator, xp.asarray(X), **options)
    np.testing.assert_allclose(result.weights, expected.weights, atol=1e-8)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_batches_do_not_change_the_result(xp, moved, monkeypatch):
    X = xp.asarray(simulate().data)
    estimator = CoLiDE(solver="central-path", alpha=0.05, path_params=SHORT)
    whole = bootstrap_edges(estimator, X, n_bootstrap=5, random_state=0)
    monkeypatch.setattr(_bootstrap, "_BATCH_BYTES", 2 * 8 * 80 * 5)
    parts = bootstrap_edges(estimator, X, n_bootstrap=5, random_state=0)
    np.testing.assert_allclose(parts.weights, whole.weights, atol=1e-10)


def test_other_solvers_refuse_devices(xp):
    X = xp.asarray(simulate().data)
    if isinstance(X, np.ndarray):
        # NumPy that was asked to take the other route: there is only one for this solver.
        with sparsestat.config_context(backend="auto"):
            expected = bootstrap_edges(CoLiDE(), X, n_bootstrap=2, random_state=0)
        result = bootstrap_edges(CoLiDE(), X, n_bootstrap=2, random_state=0)
        np.testing.assert_array_equal(result.weights, expected.weights)
        return
    with pytest.raises(TypeError, match="solver='central-path' only"):
        bootstrap_edges(CoLiDE(), X)


@pytest.mark.parametrize("device", ["CPU_DEVICE", "device1"])
def test_results_come_to_the_host(device):
    x = array_api_strict.asarray(
        [[1.0, 2.0]], dtype=array_api_strict.float32, device=array_api_strict.Device(device)
    )
    found = _bootstrap._to_host(x, array_api_strict)
    assert type(found) is np.ndarray and found.dtype == np.float64
    np.testing.assert_array_equal(found, [[1.0, 2.0]])


# --- stability selection -----------------------------------------------------------------------


@VARIANCES
def test_frequencies_are_those_of_separate_paths(variance):
    X = simulate().data
    estimator = CoLiDE(variance, w_threshold=0.2)
    result = stability_selection(
        estimator, X, alphas=4, eps=0.05, threshold=0.7, n_subsamples=6, random_state=2
    )
    expected = colide_path(X, variance=variance, alphas=4, eps=0.05)
    np.testing.assert_allclose(result.alphas, expected.alphas)
    found = []
    for seed in seeds_of(2, 6):
        rows = np.random.RandomState(seed).permutation(80)[:40]
        path = colide_path(
            X[np.sort(rows)],
            variance=variance,
            alphas=result.alphas,
            w_threshold=0.2,
            random_state=int(seed),
        )
        found.append(path.adjacencies != 0)
    found = np.array(found)
    np.testing.assert_allclose(result.frequency_path, found.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(result.frequencies, found.mean(axis=0).max(axis=0), atol=1e-12)
    np.testing.assert_array_equal(result.selected, result.frequencies >= 0.7)
    q = np.mean([half.any(axis=0).sum() for half in found])
    assert result.mean_n_edges == pytest.approx(q)
    assert result.false_positive_bound == pytest.approx(q**2 / (0.4 * 5 * 4))


def test_strong_edges_are_selected():
    found = make_sem(600, 6, degree=1, weight_range=(0.8, 1.5), random_state=1)
    result = stability_selection(
        CoLiDE(), found.data, alphas=6, eps=0.1, threshold=0.8, n_subsamples=20, random_state=0
    )
    np.testing.assert_array_equal(result.selected, found.adjacency != 0)


def test_workers_do_not_change_the_selection():
    X = simulate(8, 60, degree=2).data
    options = {"alphas": 3, "n_subsamples": 8, "random_state": 0}
    one = stability_selection(CoLiDE(), X, **options)
    two = stability_selection(CoLiDE(), X, n_jobs=2, **options)
    np.testing.assert_array_equal(one.frequency_path, two.frequency_path)


@pytest.mark.parametrize("n_rows", [4, 5])
def test_halves_of_few_rows(n_rows):
    X = simulate(3, n_rows, degree=1).data
    result = stability_selection(CoLiDE(), X, alphas=3, n_subsamples=4, random_state=0)
    assert np.all((result.frequencies >= 0) & (result.frequencies <= 1))


# --- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"estimator": CoLiDECV()}, TypeError, "must be a CoLiDE, got CoLiDECV"),
        ({"estimator": CoLiDE(alpha=-1.0)}, ValueError, "'alpha' parameter"),
        ({"estimator": CoLiDE(required_edges=[(0, 1), (1, 0)])}, ValueError, "required_edges"),
        ({"n_bootstrap": 0}, ValueError, "n_bootstrap must be a positive integer, got 0"),
        ({"n_bootstrap": 2.5}, ValueError, "n_bootstrap must be a positive integer, got 2.5"),
        ({"kind": "rows"}, ValueError, "kind must be 'pairs' or 'block', got 'rows'"),
        ({"kind": "block", "block_length": 0}, ValueError, "block_length .* from 1 to the 80"),
        ({"kind": "block", "block_length": 81}, ValueError, "block_length .*got 81"),
        ({"kind": "block", "block_length": 2.0}, ValueError, "block_length .*got 2.0"),
        ({"quantiles": [0.5, 1.5]}, ValueError, "quantiles must be levels"),
        ({"quantiles": [np.nan]}, ValueError, "quantiles must be levels"),
        ({"quantiles": [[0.5]]}, ValueError, "quantiles must be levels"),
        ({"sample_weight": np.zeros(80)}, ValueError, "sample_weight"),
        ({"sample_weight": np.ones(79)}, ValueError, "sample_weight"),
        ({"sample_weight": -np.ones(80)}, ValueError, "sample_weight"),
        ({"X": np.full((80, 2), np.nan)}, ValueError, "X contains NaN"),
        ({"X": np.ones((1, 2))}, ValueError, "minimum of 2"),
        ({"X": np.ones(5)}, ValueError, "2D array"),
    ],
    ids=str,
)
def test_bad_arguments_of_the_bootstrap(options, error, message):
    arguments = {"estimator": CoLiDE(), "X": simulate().data, "n_bootstrap": 2, **options}
    with pytest.raises(error, match=message):
        bootstrap_edges(**arguments)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"estimator": CoLiDECV()}, TypeError, "must be a CoLiDE"),
        ({"n_subsamples": 0}, ValueError, "n_subsamples must be a positive integer"),
        ({"threshold": 0.5}, ValueError, "threshold must be above 0.5 and at most 1, got 0.5"),
        ({"threshold": 1.1}, ValueError, "threshold must be above 0.5"),
        ({"eps": 0}, ValueError, "eps must be between 0 and 1"),
        ({"alphas": 0}, ValueError, "alphas must be at least 1, got 0"),
        ({"alphas": [0.1, -1.0]}, ValueError, "alphas"),
        ({"X": np.ones((3, 2))}, ValueError, "at least four rows to be halved, got 3"),
        ({"X": [[1.0, np.inf]] * 6}, ValueError, "X contains infinity"),
    ],
    ids=str,
)
def test_bad_arguments_of_the_selection(options, error, message):
    arguments = {"estimator": CoLiDE(), "X": simulate().data, "n_subsamples": 2, **options}
    with pytest.raises(error, match=message):
        stability_selection(**arguments)
