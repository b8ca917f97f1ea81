"""Fits from parts of the data, and from what is left of data when the rows are gone."""

import copy
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from ._cases import CASES, each_of
from .test_callbacks import Recorder
from .test_contract import NAMES, assert_identical, assert_same_model

# Estimators without a target sum moments of the data themselves, so that batches add up.
for_each_stream = each_of(
    [case for case in CASES if hasattr(case.cls, "partial_fit") and not case.needs_target]
)
for_each_with_moments = each_of([case for case in CASES if hasattr(case.cls, "fit_cov")])


def state_of(estimator):
    """All attributes; the same objects with the same content are the same state."""
    return dict(vars(estimator)), copy.deepcopy(vars(estimator))


def assert_untouched(estimator, state):
    before, content = state
    assert vars(estimator).keys() == before.keys()
    for name, value in vars(estimator).items():
        assert value is before[name], name
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, content[name], err_msg=name)


@for_each_stream
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array, pd.DataFrame])
def test_batches_add_up(case, form):
    # Enough rows for the order that one batch leaves to be a good one for the next.
    X, _, weights = case.data(200)
    whole = case.make().fit(X, sample_weight=weights)
    estimator = case.make()
    # A single row is a batch too, though not the first.
    for rows in (slice(0, 100), slice(100, 101), slice(101, 200)):
        given = form(X[rows])
        assert estimator.partial_fit(given, sample_weight=weights[rows]) is estimator
    assert_same_model(whole, estimator, X, rtol=1e-6)
    assert estimator.objective_ == pytest.approx(whole.objective_, rel=1e-9)
    for name in ("n_samples_seen_", "effective_sample_size_"):
        assert getattr(estimator, name) == pytest.approx(getattr(whole, name), rel=1e-12)
    np.testing.assert_allclose(estimator.mean_, whole.mean_, rtol=1e-12)


@for_each_stream
def test_a_batch_of_weight_two_counts_twice(case):
    X, _, _ = case.data()
    twice = case.make().partial_fit(X).partial_fit(X[:10]).partial_fit(X[:10])
    weighted = case.make().partial_fit(X).partial_fit(X[:10], sample_weight=2.0)
    assert_same_model(twice, weighted, X, rtol=1e-6)
    assert twice.n_samples_seen_ == weighted.n_samples_seen_ == len(X) + 20


@for_each_stream
def test_a_failed_partial_fit_changes_nothing(case):
    X, _, weights = case.data()
    table = pd.DataFrame(X, columns=NAMES)
    estimator = case.make().partial_fit(table[:20])
    undisturbed = case.make().partial_fit(table[:20])
    state = state_of(estimator)
    broken = X.copy()
    broken[0, 0] = np.nan
    misnamed = table.rename(columns={NAMES[0]: "other"})
    broken = pd.DataFrame(broken, columns=NAMES)
    for bad in (broken, table[NAMES[:7]], table[:0], misnamed, X[0], X + 1j, "rows"):
        with warnings.catch_warnings(), pytest.raises(ValueError):
            warnings.filterwarnings("ignore", message="X does not have valid feature names")
            estimator.partial_fit(bad)
        assert_untouched(estimator, state)
    for bad in (-weights, weights[:-1], 0 * weights, "many"):
        with pytest.raises(ValueError, match="sample_weight"):
            estimator.partial_fit(table, sample_weight=bad)
        assert_untouched(estimator, state)
    assert_identical(undisturbed.partial_fit(table[20:]), estimator.partial_fit(table[20:]))


@for_each_stream
def test_a_failed_first_batch_leaves_no_trace(case):
    X, _, _ = case.data()
    estimator = case.make()
    state = state_of(estimator)
    for bad, weights in ((X[:1], None), (np.full_like(X, np.inf), None), (X, 0.01)):
        with pytest.raises(ValueError):
            estimator.partial_fit(bad, sample_weight=weights)
        assert_untouched(estimator, state)
    assert_identical(case.make().fit(X[:, 1:]), estimator.partial_fit(X[:, 1:]))


@for_each_stream
def test_a_fit_forgets_earlier_batches(case):
    X, _, _ = case.data()
    estimator = case.make().partial_fit(pd.DataFrame(3 * X, columns=NAMES))
    assert_identical(case.make().fit(X[:, 1:]), estimator.fit(X[:, 1:]))
    assert not hasattr(estimator, "feature_names_in_")


@for_each_with_moments
def test_a_covariance_is_as_good_as_the_data(case):
    X, _, weights = case.data()
    mean = np.average(X, axis=0, weights=weights)
    S = np.cov(X, rowvar=False, aweights=weights, ddof=0)
    kept = S.copy()
    S.flags.writeable = mean.flags.writeable = False
    whole = case.make().fit(X, sample_weight=weights)
    estimator = case.make()
    assert estimator.fit_cov(S, weights.sum(), mean) is estimator
    assert_same_model(whole, estimator, X, rtol=1e-6)
    assert estimator.objective_ == pytest.approx(whole.objective_, rel=1e-9)
    assert estimator.n_samples_seen_ == weights.sum()
    np.testing.assert_array_equal(S, kept)
    table = pd.DataFrame(S, index=NAMES, columns=NAMES)
    named = case.make().fit_cov(table, weights.sum(), mean)
    assert list(named.feature_names_in_) == NAMES
    del named.feature_names_in_
    assert_identical(estimator, named)
    assert_identical(estimator, case.make().fit_cov(S.tolist(), weights.sum(), mean.tolist()))


@for_each_with_moments
def test_covariances_that_are_none(case):
    X, _, _ = case.data()
    S = np.cov(X, rowvar=False, ddof=0)
    skewed, negative, missing = S.copy(), S.copy(), S.copy()
    skewed[0, 1] += 0.1
    negative[0, 1] = negative[1, 0] = 10 * S[0, 0] * S[1, 1]
    missing[0, 1] = missing[1, 0] = np.nan
    estimator = case.make().fit(X)
    state = state_of(estimator)
    for bad in (skewed, negative, missing, -S, S[:7], S[0], S[None], "S", S + 1j):
        with pytest.raises((ValueError, TypeError), match="covariance"):
            estimator.fit_cov(bad, 40)
        assert_untouched(estimator, state)
    for bad in (1, 0, -5, np.nan, np.inf, "40", None):
        with pytest.raises((ValueError, TypeError), match="n_samples"):
            estimator.fit_cov(S, bad)
        assert_untouched(estimator, state)
    for bad in (np.zeros(7), np.full(8, np.nan), "zero", np.zeros((8, 1))):
        with pytest.raises((ValueError, TypeError), match="mean"):
            estimator.fit_cov(S, 40, bad)
        assert_untouched(estimator, state)


@for_each_with_moments
def test_ticks_without_rows(case):
    X, _, _ = case.data(60, 24)
    recorder = Recorder()
    estimator = case.make(**case.tight).set_callbacks(recorder)
    estimator.fit_cov(np.cov(X, rowvar=False, ddof=0), len(X), X.mean(axis=0))
    assert len(recorder.iterates) > 3
    assert recorder.names[0][0] == "begin" and recorder.names[-1][0] == "teardown"
    for iterate in recorder.iterates:
        assert np.isfinite(iterate.score(X))
    # With rows, it is all rows so far that the iterates are about.
    recorder = Recorder()
    estimator = case.make(**case.tight).partial_fit(X[:30]).set_callbacks(recorder)
    estimator.partial_fit(X[30:])
    assert len(recorder.iterates) > 1
    assert recorder.iterates[-1].n_samples_seen_ == len(X)
