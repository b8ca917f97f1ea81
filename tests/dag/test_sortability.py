"""Sortability against its definition by matrix powers, and against regressions."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler

from sparsestat.dag._sortability import (
    SortabilityWarning,
    count_path_lengths,
    explained_shares,
    have_same_scale,
    r2_sortability,
    r2_sortability_from_covariance,
    report_from_covariance,
    sortability_of_scores,
    sortability_report,
    var_sortability,
    var_sortability_from_variances,
)

from ._dags import dags, random_dag

CHAIN = np.diag(np.ones(2), 1)


def simulate(seed, n_samples=400, n_nodes=6, density=0.5):
    """Data from a linear model with weights and noise of size one, and its graph."""
    rng = np.random.default_rng(seed)
    edges = random_dag(rng, n_nodes, density)
    weights = edges * rng.uniform(0.7, 1.5, edges.shape) * rng.choice([-1, 1], edges.shape)
    noise = rng.normal(size=(n_samples, n_nodes))
    return noise @ np.linalg.inv(np.eye(n_nodes) - weights) + 5.0, weights


def by_powers(scores, edges):
    """The definition: one power of the matrix of edges after the other."""
    increasing = total = 0.0
    power = edges.astype(object)
    while np.any(power):
        for i, j in np.argwhere(power > 0):
            total += 1
            increasing += 0.5 if scores[i] == scores[j] else float(scores[i] < scores[j])
        power = power @ edges.astype(object)
    return increasing / total if total else np.nan


@pytest.mark.parametrize(
    ("variances", "expected"),
    [
        ([1, 2, 3], 1.0),
        ([3, 2, 1], 0.0),
        ([1, 1, 1], 0.5),
        # Up, down, and up from the first to the last.
        ([1, 3, 2], 2 / 3),
        ([1, 1, 2], 2.5 / 3),
    ],
)
def test_variances_along_a_chain(variances, expected):
    found = var_sortability_from_variances(np.array(variances, dtype=float), CHAIN)
    assert found == pytest.approx(expected)


def test_a_pair_counts_once_for_each_length():
    shortcut = CHAIN + np.diag([1.0], 2)
    np.testing.assert_array_equal(count_path_lengths(shortcut), [[0, 1, 2], [0, 0, 1], [0, 0, 0]])
    variances = np.array([1.0, 3.0, 2.0])
    assert var_sortability_from_variances(variances, shortcut) == 3 / 4
    # Two paths of one length are one.
    diamond = np.zeros((4, 4))
    diamond[0, 1] = diamond[0, 2] = diamond[1, 3] = diamond[2, 3] = 1.0
    assert count_path_lengths(diamond)[0, 3] == 1


@given(dags(), st.integers(0, 2**32 - 1))
def test_sortability_is_its_definition(edges, seed):
    # Few different values, so that there are ties.
    scores = np.random.default_rng(seed).integers(1, 4, len(edges)).astype(float)
    found = sortability_of_scores(scores, edges)
    np.testing.assert_allclose(found, by_powers(scores, edges), rtol=1e-13)
    # What increases along the edges decreases against them.
    np.testing.assert_allclose(sortability_of_scores(scores, edges.T), 1 - found, atol=1e-13)
    order = np.random.default_rng(seed).permutation(len(edges))
    relabelled = sortability_of_scores(scores[order], edges[np.ix_(order, order)])
    np.testing.assert_allclose(relabelled, found, rtol=1e-13)


@pytest.mark.parametrize("n_nodes", [63, 64, 65, 66, 130])
def test_path_lengths_beyond_the_bits_of_a_word(n_nodes):
    # In a complete graph, paths between places i < j have all lengths from 1 to j - i.
    places = np.arange(n_nodes)
    complete = np.triu(np.ones((n_nodes, n_nodes)), 1)
    expected = np.maximum(places[None, :] - places[:, None], 0)
    np.testing.assert_array_equal(count_path_lengths(complete), expected)
    chain = np.diag(np.ones(n_nodes - 1), 1)
    np.testing.assert_array_equal(count_path_lengths(chain), complete)
    # Every second node has a shortcut: lengths become dense only slowly.
    shortcuts = chain + np.diag(np.arange(n_nodes - 2) % 2, 2)
    power, counts = np.eye(n_nodes), np.zeros((n_nodes, n_nodes), dtype=int)
    for _ in range(n_nodes):
        power = (power @ shortcuts > 0).astype(float)
        counts += power > 0
    np.testing.assert_array_equal(count_path_lengths(shortcuts), counts)


def test_rounding_does_not_break_ties():
    X, adjacency = simulate(0)
    for standardised in (StandardScaler().fit_transform(X), X / X.std(axis=0, ddof=1)):
        variances = standardised.var(axis=0)
        assert len(set(variances)) > 1
        assert var_sortability(standardised, adjacency) == 0.5


def test_public_functions_are_those_of_moments():
    X, adjacency = simulate(1)
    S = np.cov(X.T, bias=True)
    assert var_sortability(X, adjacency) == pytest.approx(by_powers(S.diagonal(), adjacency != 0))
    r2 = [
        LinearRegression().fit(np.delete(X, j, 1), X[:, j]).score(np.delete(X, j, 1), X[:, j])
        for j in range(6)
    ]
    np.testing.assert_allclose(explained_shares(S), r2, rtol=1e-10)
    assert r2_sortability(X, adjacency) == pytest.approx(by_powers(r2, adjacency != 0))
    assert r2_sortability_from_covariance(S, adjacency) == r2_sortability(X, adjacency)
    assert var_sortability_from_variances(S.diagonal(), adjacency) == var_sortability(X, adjacency)


def test_simulated_variances_grow_and_units_undo_it():
    values, others = [], []
    for seed in range(20):
        X, adjacency = simulate(seed, n_nodes=10, density=0.6)
        values.append(var_sortability(X, adjacency))
        # Units that are arbitrary: nothing is left on average.  A value lies between 0 and 1, so
        # that the mean of twenty has a standard deviation of at most 0.5 / sqrt(20) = 0.11.
        units = np.exp(np.random.default_rng(seed).normal(0.0, 10.0, 10))
        others.append(var_sortability(X * units, adjacency))
        assert r2_sortability(X * units, adjacency) == r2_sortability(X, adjacency)
    assert np.mean(values) > 0.9
    assert abs(np.mean(others) - 0.5) < 4 * 0.11


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_common_unit_changes_nothing(scale):
    X, adjacency = simulate(2)
    assert var_sortability(scale * X, adjacency) == var_sortability(X, adjacency)
    assert r2_sortability(scale * X, adjacency) == r2_sortability(X, adjacency)


def test_r2_of_linear_relations_is_one_and_of_constants_zero():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(200, 3))
    S = np.cov(np.c_[X, X[:, 0], np.ones(200), X[:, 1] * 1e-7].T, bias=True)
    r2 = explained_shares(S)
    np.testing.assert_allclose(r2[[0, 1, 3, 5]], 1.0, atol=1e-12)
    partial = LinearRegression().fit(X[:, :2], X[:, 2]).score(X[:, :2], X[:, 2])
    assert r2[2] == pytest.approx(partial, abs=1e-12)
    assert r2[4] == 0.0
    np.testing.assert_array_equal(explained_shares(np.zeros((2, 2))), [0.0, 0.0])
    np.testing.assert_array_equal(explained_shares(np.array([[4.0]])), [0.0])


def test_with_too_few_rows_everything_is_explained():
    X, adjacency = simulate(4)
    assert r2_sortability(X[:5], adjacency) == 0.5
    np.testing.assert_allclose(sortability_report(X[:5]).r2, 1.0, atol=1e-12)


def test_weights_are_frequencies():
    X, adjacency = simulate(5, n_samples=30)
    weights = np.random.default_rng(5).integers(0, 4, 30)
    for function in (var_sortability, r2_sortability):
        repeated = function(np.repeat(X, weights, axis=0), adjacency)
        assert function(X, adjacency, sample_weight=weights) == repeated
    weighted = sortability_report(X, sample_weight=weights)
    np.testing.assert_allclose(weighted.variances, np.repeat(X, weights, axis=0).var(axis=0))


@pytest.mark.parametrize(
    "form", [sparse.csr_array, sparse.coo_array, pd.DataFrame, np.asfortranarray, np.float32]
)
def test_forms_of_data(form):
    X, adjacency = simulate(6)
    X = np.rint(4 * X)
    before = X.copy()
    report, expected = sortability_report(form(X), adjacency), sortability_report(X, adjacency)
    np.testing.assert_allclose(report.variances, expected.variances, rtol=1e-10)
    assert report.var_sortability == expected.var_sortability
    assert report.r2_sortability == expected.r2_sortability
    assert var_sortability(X.astype(int), adjacency) == expected.var_sortability
    np.testing.assert_array_equal(X, before)


def test_report_without_a_graph():
    X, _ = simulate(7)
    report = sortability_report(X)
    variances = X.var(axis=0)
    np.testing.assert_allclose(report.variances, variances)
    assert report.variance_ratio == pytest.approx(variances.max() / variances.min())
    np.testing.assert_array_equal(report.variance_order, variances.argsort())
    np.testing.assert_array_equal(report.r2_order, report.r2.argsort())
    assert report.standardised is False
    assert report.var_sortability is None and report.r2_sortability is None
    assert f"factor of up to {report.variance_ratio:.3g}" in report.message
    assert "Without a graph" in report.message


def test_report_with_a_graph():
    X, adjacency = simulate(8, n_nodes=10)
    report = sortability_report(X, adjacency)
    assert report.var_sortability == var_sortability(X, adjacency) > 0.9
    assert report.r2_sortability == r2_sortability(X, adjacency)
    assert f"Along {report.var_sortability:.0%} of the graph's paths" in report.message
    assert "Sorting the columns by variance" in report.message
    order = np.argsort(-X.var(axis=0))
    shrinking = np.zeros_like(adjacency)
    shrinking[order[:-1], order[1:]] = 1.0
    report = sortability_report(X, shrinking)
    assert report.var_sortability == 0.0
    assert "Sorting the columns by variance" not in report.message
    assert "no edges" in sortability_report(X, np.zeros_like(adjacency)).message


def test_report_names_both_criteria_where_both_sort():
    X, adjacency = simulate(9, n_nodes=3)
    growing = sortability_report(X)
    order = growing.r2_order
    adjacency = np.zeros((3, 3))
    adjacency[order[0], order[1]] = adjacency[order[1], order[2]] = 1.0
    units = np.empty(3)
    units[order] = [1.0, 1e3, 1e6]
    message = sortability_report(X * units, adjacency).message
    assert "Sorting the columns by variance and explained share alone" in message


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_report_sees_that_columns_were_standardised(ddof, dtype):
    X, adjacency = simulate(10)
    Z = ((X - X.mean(axis=0)) / X.std(axis=0, ddof=ddof)).astype(dtype)
    report = sortability_report(Z, adjacency)
    assert report.standardised is True
    assert "as after standardising" in report.message
    assert sortability_report(np.c_[Z, np.ones(len(Z))]).standardised is True
    assert sortability_report(Z * np.r_[1.00001, np.ones(5)]).standardised is False


def test_same_scale():
    assert have_same_scale(np.array([1.0, 1.0 + 9e-7]))
    assert not have_same_scale(np.array([1.0, 1.0 + 2e-6]))
    assert have_same_scale(np.array([0.0, 3.0, 3.0]))
    assert not have_same_scale(np.array([1.0]))
    assert not have_same_scale(np.array([0.0, 0.0]))


def test_constant_columns():
    report = report_from_covariance(np.diag([4.0, 0.0, 1.0]), np.zeros((3, 3)))
    assert report.variance_ratio == 4.0
    np.testing.assert_array_equal(report.variance_order, [1, 2, 0])
    report = sortability_report(np.full((5, 2), 0.1))
    assert np.isnan(report.variance_ratio) and report.standardised is False
    assert "All columns are constant." in report.message
    # A tie is a tie at zero, too.
    assert var_sortability_from_variances(np.zeros(3), CHAIN) == 0.5


def test_without_edges_there_is_nothing_to_sort():
    X, adjacency = simulate(11)
    assert np.isnan(var_sortability(X, np.zeros_like(adjacency)))
    assert np.isnan(r2_sortability(X, np.zeros_like(adjacency)))
    assert np.isnan(var_sortability(X[:, :1], [[0.0]]))


@pytest.mark.parametrize("function", [var_sortability, r2_sortability, sortability_report])
def test_bad_input_is_named(function):
    X, adjacency = simulate(12)
    with pytest.raises(ValueError, match=r"adjacency must have shape \(5, 5\), .* got \(6, 6\)"):
        function(X[:, :5], adjacency)
    with pytest.raises(ValueError, match="adjacency must be acyclic"):
        function(X[:, :2], [[0, 1], [1, 0]])
    with pytest.raises(ValueError, match=r"X must have at least two rows.* got 1"):
        function(X[:1], adjacency)
    with pytest.raises(ValueError, match=r"X must have at least two rows.* got 1"):
        function(X[:3], adjacency, sample_weight=[1, 0, 0])
    with pytest.raises(ValueError, match="X contains NaN"):
        function(np.where(X > 6, np.nan, X), adjacency)
    with pytest.raises(ValueError, match="sample_weight must not be negative"):
        function(X[:2], adjacency, sample_weight=[1, -1])


def test_the_warning_is_one_of_the_user():
    assert issubclass(SortabilityWarning, UserWarning)
