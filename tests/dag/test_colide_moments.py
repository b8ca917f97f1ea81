"""CoLiDE from covariances, in pieces, and from Dask collections."""

import itertools

import numpy as np
import pandas as pd
import pytest

from ._fits import CRITERIA, SEEDED, VARIANCES, assert_same_fit, covariance, simulate, state_of

# Simulated graphs are sortable by variance, and small ones are told to be; that the warning comes
# where it should is tested in test_colide.py.
pytestmark = pytest.mark.filterwarnings("ignore::sparsestat.dag.SortabilityWarning")


# --- covariances and pieces ---------------------------------------------------------------


@VARIANCES
@CRITERIA
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_a_covariance_is_enough(variance, criterion, fit_intercept):
    X = simulate(variance=variance).data + 2.0
    options = {"criterion": criterion, "fit_intercept": fit_intercept}
    model = SEEDED(variance, **options).fit(X)
    S = pd.DataFrame(covariance(X), columns=list("abcdefg"))
    other = SEEDED(variance, **options).fit_cov(S, len(X), X.mean(axis=0))
    assert_same_fit(model, other)
    np.testing.assert_array_equal(other.feature_names_in_, S.columns)
    assert other.score(S.sample(5, random_state=0)) == pytest.approx(
        model.score(S.sample(5, random_state=0).to_numpy())
    )


def test_a_covariance_without_means():
    X = simulate().data
    model = SEEDED().fit_cov(covariance(X), 300)
    np.testing.assert_array_equal(model.mean_, 0.0)
    # A singular covariance has eigenvalues below zero by rounding.
    SEEDED().fit_cov(covariance(simulate(20, 5).data), 5)


@pytest.mark.parametrize(
    "S, n_samples, mean, message",
    [
        ([[1.0, 2.0], [2.0, 1.0]], 10, None, "semidefinite.*eigenvalue -1"),
        ([[1.0, 0.0], [0.0, -1.0]], 10, None, "semidefinite"),
        ([[0.0, 1.0], [1.0, 1.0]], 10, None, "semidefinite|symmetric"),
        ([[1.0, 0.5], [0.4, 1.0]], 10, None, "symmetric"),
        ([[1.0, 0.5]], 10, None, r"square matrix, got shape \(1, 2\)"),
        (np.empty((0, 0)), 10, None, "square matrix"),
        ([1.0], 10, None, "square matrix"),
        ([[1.0, np.nan], [np.nan, 1.0]], 10, None, "NaN"),
        (np.eye(2), 1, None, "n_samples must be a number of at least 2, got 1"),
        (np.eye(2), np.inf, None, "n_samples"),
        (np.eye(2), np.nan, None, "n_samples"),
        (np.eye(2), "ten", None, "n_samples"),
        (np.eye(2), 10, [0.0], "mean must hold 2 finite numbers"),
        (np.eye(2), 10, [0.0, np.nan], "mean must hold 2 finite numbers"),
    ],
    ids=str,
)
def test_bad_covariances(S, n_samples, mean, message):
    with pytest.raises(ValueError, match=message):
        SEEDED().fit_cov(S, n_samples, mean)


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_covariances_are_judged_in_their_own_units(scale):
    with pytest.raises(ValueError, match="semidefinite"):
        SEEDED().fit_cov(scale * np.array([[1.0, 2.0], [2.0, 1.0]]), 10)
    with pytest.raises(ValueError, match="symmetric"):
        SEEDED().fit_cov(scale * np.array([[1.0, 0.5], [0.4, 1.0]]), 10)


@VARIANCES
@CRITERIA
def test_fit_in_pieces(variance, criterion):
    X = simulate(8, variance=variance).data + 3.0
    weights = np.random.default_rng(1).integers(0, 3, len(X)).astype(float)
    weights[[2, 7]] = 2.0
    whole = SEEDED(variance, criterion=criterion).fit(X, sample_weight=weights)
    model = SEEDED(variance, criterion=criterion)
    cuts = [0, 5, 6, 8, 200, len(X)]
    for start, stop in itertools.pairwise(cuts):
        previous = getattr(model, "order_", None)
        if not weights[start:stop].any():
            weights[start] = 1.0
            whole.fit(X, sample_weight=weights)
        model.partial_fit(X[start:stop], sample_weight=weights[start:stop])
    np.testing.assert_allclose(model.moments_.xx, whole.moments_.xx, rtol=1e-10, atol=1e-8)
    np.testing.assert_allclose(model.mean_, whole.mean_, rtol=1e-12)
    assert model.n_samples_seen_ == pytest.approx(whole.n_samples_seen_)
    assert model.effective_sample_size_ == pytest.approx(whole.effective_sample_size_)
    # The search begins with the last order, and only ever improves.
    start = SEEDED(variance, criterion=criterion, init=previous, max_sweeps=0)
    start.fit(X, sample_weight=weights)
    assert model.objective_ <= start.objective_ * (1 + 1e-9 * np.sign(start.objective_))
    # The value at an order does not depend on the way to it, for the convex criterion.
    if criterion == "colide":
        again = SEEDED(variance, init=model.order_, max_sweeps=0).fit(X, sample_weight=weights)
        assert model.objective_ == pytest.approx(again.objective_, rel=1e-9)


def test_pieces_end_in_the_same_graph_where_it_is_clear():
    X = simulate(8, 2000, degree=1).data
    whole = SEEDED().fit(X)
    model = SEEDED()
    for piece in np.array_split(X, 5):
        model.partial_fit(piece)
    assert model.objective_ == pytest.approx(whole.objective_, rel=1e-9)
    np.testing.assert_allclose(model.adjacency_, whole.adjacency_, atol=1e-6)


def test_pieces_go_on_with_the_present_order_if_it_is_better():
    X = simulate(6).data
    # The usual start is not the best order of these data, and the search is switched off.
    order = SEEDED(n_restarts=5).fit(X).order_
    usual = SEEDED(max_sweeps=0).fit(X)
    model = SEEDED(init=order, max_sweeps=0).partial_fit(X[:100])
    model.set_params(init="auto").partial_fit(X[100:])
    assert model.objective_ < usual.objective_
    np.testing.assert_array_equal(model.order_, order)
    # From a bad one the usual start is taken instead.
    model = SEEDED(init=order[::-1], max_sweeps=0).partial_fit(X[:100])
    model.set_params(init="auto").partial_fit(X[100:])
    assert model.objective_ == pytest.approx(usual.objective_, rel=1e-12)


def test_single_rows_after_the_first_two():
    X = simulate(4, 12).data
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        SEEDED().partial_fit(X[:1])
    model = SEEDED().partial_fit(X[:2])
    for row in X[2:]:
        model.partial_fit(row[None, :])
    assert model.n_samples_seen_ == 12
    np.testing.assert_allclose(model.moments_.xx, 12 * covariance(X), rtol=1e-10)


def test_pieces_after_a_covariance():
    X = simulate(5).data
    model = SEEDED().fit_cov(covariance(X[:200]), 200, X[:200].mean(axis=0)).partial_fit(X[200:])
    assert model.n_samples_seen_ == 300
    np.testing.assert_allclose(model.moments_.xx, 300 * covariance(X), rtol=1e-9)


def test_a_failed_piece_changes_nothing():
    X = pd.DataFrame(simulate(5).data, columns=list("abcde"))
    model = SEEDED().fit(X)
    bad = X.copy()
    bad.iloc[3, 2] = np.nan
    before = state_of(model)
    for piece, weights in [
        (bad, None),
        (X.iloc[:, :4], None),
        (X.iloc[:, ::-1], None),
        (X * 1e200, None),
        (X, -1.0),
        (X, np.ones(3)),
        (X.iloc[:0], None),
    ]:
        with pytest.raises(ValueError):
            model.partial_fit(piece, sample_weight=weights)
        assert state_of(model) == before
    model.set_params(node_tiers=[0, 1])
    with pytest.raises(ValueError, match="node_tiers"):
        model.partial_fit(X)
    model.set_params(node_tiers=None)
    assert state_of(model) == before
    after = model.partial_fit(X)
    assert after.n_samples_seen_ == 600


@pytest.mark.parametrize("first", [True, False])
def test_a_failed_covariance_leaves_a_consistent_model(first):
    X = pd.DataFrame(simulate(5).data, columns=list("abcde"))
    model = SEEDED(node_tiers=[0, 0, 0, 1, 1])
    if not first:
        model.fit(X)
    before = state_of(model)
    with pytest.raises(ValueError, match="node_tiers"):
        model.fit_cov(np.eye(3), 10)
    assert state_of(model) == before


# --- Dask ---------------------------------------------------------------------------------


@VARIANCES
def test_dask_arrays(variance):
    da = pytest.importorskip("dask.array")
    X = simulate(variance=variance).data
    weights = np.random.default_rng(0).integers(0, 3, 300).astype(float)
    lazy = da.from_array(X, chunks=(90, 3))
    assert_same_fit(SEEDED(variance).fit(lazy), SEEDED(variance).fit(X))
    assert_same_fit(
        SEEDED(variance).fit(lazy, sample_weight=da.from_array(weights, chunks=90)),
        SEEDED(variance).fit(X, sample_weight=weights),
    )
    pieces = SEEDED(variance).partial_fit(lazy[:100]).partial_fit(lazy[100:])
    assert_same_fit(pieces, SEEDED(variance).partial_fit(X[:100]).partial_fit(X[100:]))
    with pytest.raises(ValueError, match="X has 6 features, but CoLiDE is expecting 7"):
        pieces.partial_fit(lazy[:, :6])


def test_dask_and_one_weight_for_all_rows():
    da = pytest.importorskip("dask.array")
    X = simulate().data
    assert_same_fit(
        SEEDED().fit(da.from_array(X, chunks=90), sample_weight=3.0),
        SEEDED().fit(X, sample_weight=3.0),
    )


def test_dask_dataframes():
    dd = pytest.importorskip("dask.dataframe")
    frame = pd.DataFrame(simulate(5).data, columns=list("abcde"))
    lazy = dd.from_pandas(frame, npartitions=3)
    model = SEEDED(forbidden_edges=[("a", "b")]).fit(lazy)
    assert_same_fit(model, SEEDED(forbidden_edges=[("a", "b")]).fit(frame))
    np.testing.assert_array_equal(model.feature_names_in_, frame.columns)


def test_dask_dataframes_with_their_columns_in_another_order():
    dd = pytest.importorskip("dask.dataframe")
    frame = pd.DataFrame(simulate(5).data, columns=list("abcde"))
    model = SEEDED().fit(frame)
    with pytest.raises(ValueError, match="feature names"):
        model.partial_fit(dd.from_pandas(frame[list("edcba")], npartitions=2))


def test_missing_values_in_dask_arrays():
    da = pytest.importorskip("dask.array")
    X = simulate().data
    X[200, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        SEEDED().fit(da.from_array(X, chunks=(90, 7)))
