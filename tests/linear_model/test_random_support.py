"""Spans of random probes, distances from them, and backward elimination."""

import itertools

import numpy as np
import pytest
from scipy import linalg, sparse

from sparsestat.datasets._ill_conditioned import make_ill_conditioned_regression
from sparsestat.linear_model import Lasso
from sparsestat.linear_model._ebic import eliminate_backward
from sparsestat.linear_model._random_support import (
    ProjectedColumns,
    default_probe_counts,
    random_support_weights,
)


def _distances(X, probes):
    """Distances from the span by a pivoted, full QR: an independent witness."""
    X = X - X.mean(axis=0)
    Q, R, _ = linalg.qr(X[:, probes], mode="economic", pivoting=True)
    rank = int(np.sum(np.abs(np.diagonal(R)) > 1e-9 * abs(R[0, 0])))
    Q = Q[:, :rank]
    left = X - Q @ (Q.T @ X)
    left -= Q @ (Q.T @ left)
    return np.linalg.norm(left, axis=0) / np.sqrt(X.shape[0])


def _columns(X, y=None, order=None, **options):
    options = {"fit_intercept": True, "tol_span": 1e-9} | options
    y = np.zeros(X.shape[0]) if y is None else y
    order = np.arange(X.shape[1]) if order is None else np.asarray(order)
    return ProjectedColumns(X, y, None, order, **options)


def test_weights_are_distances_from_the_span():
    X = np.random.default_rng(0).standard_normal((30, 12))
    probes = [4, 0, 7]
    expected = _distances(X, probes)
    expected[probes] = 0.0
    np.testing.assert_allclose(random_support_weights(X, probes), expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(random_support_weights(X, []), X.std(axis=0), rtol=1e-12)
    raw = random_support_weights(X, [], fit_intercept=False)
    np.testing.assert_allclose(raw, np.sqrt(np.mean(X**2, axis=0)), rtol=1e-12)


def test_weights_of_sparse_columns():
    X = sparse.random_array((40, 15), density=0.3, rng=np.random.default_rng(1), format="csc")
    for probes in ([], [2, 3]):
        np.testing.assert_allclose(
            random_support_weights(X, probes),
            random_support_weights(X.toarray(), probes),
            rtol=1e-10, atol=1e-14,
        )  # fmt: skip
    with pytest.raises(ValueError, match=r"4800 bytes, more than max_bytes=4799"):
        random_support_weights(X, [1], max_bytes=4799)


def test_integer_weights_count_rows():
    rng = np.random.default_rng(2)
    X, weights = rng.standard_normal((20, 6)), rng.integers(0, 4, 20)
    repeated = np.repeat(X, weights, axis=0)
    np.testing.assert_allclose(
        random_support_weights(X, [1, 5], sample_weight=weights),
        random_support_weights(repeated, [1, 5]),
        rtol=1e-12, atol=1e-15,
    )  # fmt: skip


def test_successive_prefixes_equal_one_step():
    X = make_ill_conditioned_regression(60, 90, 3, random_state=0).data
    y = np.random.default_rng(1).standard_normal(60)
    order = np.random.default_rng(2).permutation(90)
    stepwise = _columns(X, y, order)
    for count in (0, 3, 8, 20):
        stepwise.advance(count)
    at_once = _columns(X, y, order)
    at_once.advance(20)
    np.testing.assert_allclose(stepwise.distances, at_once.distances, rtol=1e-8, atol=1e-13)
    np.testing.assert_allclose(stepwise.response, at_once.response, atol=1e-11)
    outside = at_once.distances > 1e-6
    np.testing.assert_allclose(stepwise.columns[:, outside], at_once.columns[:, outside], atol=1e-8)
    # What is left is orthogonal to all probes, relative to its own length.
    probes = X[:, order[:20]] - X[:, order[:20]].mean(axis=0)
    overlap = probes.T @ stepwise.columns / 60
    assert np.abs(overlap).max() < 1e-12


def test_small_distances_keep_their_digits():
    rng = np.random.default_rng(3)
    X = rng.standard_normal((50, 4))
    X -= X.mean(axis=0)
    X[:, :3] = np.linalg.qr(X[:, :3])[0]
    direction = rng.standard_normal(50)
    direction -= direction.mean()
    direction -= X[:, :3] @ (X[:, :3].T @ direction)
    direction /= np.linalg.norm(direction)
    for tau in (1e-6, 1e-8):
        X[:, 3] = X[:, 0] - 2.0 * X[:, 1] + tau * direction
        weight = random_support_weights(X, [0, 1])[3] * np.sqrt(50)
        assert weight == pytest.approx(tau, rel=1e-3 if tau > 1e-7 else 1e-2)
    # Differences of squares, on which the Gram matrix relies, have lost every digit by then.
    squares = X[:, 3] @ X[:, 3] - np.sum((X[:, :2].T @ X[:, 3]) ** 2)
    assert not 0.5e-16 < squares < 2e-16


def test_dependent_probes_do_not_enlarge_the_span():
    rng = np.random.default_rng(4)
    X = rng.standard_normal((25, 8))
    X[:, 1] = X[:, 0]
    X[:, 2] = X[:, 0] * 3.0 + 7.0
    X[:, 3] = 5.0
    columns = _columns(X, rng.standard_normal(25))
    columns.advance(5)
    assert columns.rank == 2
    np.testing.assert_array_equal(columns.basis_probes, [0, 4])
    weights = random_support_weights(X, [0])
    np.testing.assert_array_equal(weights[:4], 0.0)
    assert np.all(weights[4:] > 0.1)


def test_the_span_may_be_everything():
    X = np.random.default_rng(5).standard_normal((6, 10))
    columns = _columns(X, np.arange(6.0) ** 2)
    columns.advance(9)
    assert columns.rank == 5
    np.testing.assert_array_equal(columns.distances, 0.0)
    np.testing.assert_array_equal(columns.response, 0.0)


def test_a_random_span_is_seldom_farther_than_the_rest_of_the_support():
    # With F the union of T independent (k-1)-subsets, i is farther from F than from the rest
    # of the support with probability at most 1 / (T + 1), whatever the design.
    n, d, k, n_trials = 60, 120, 4, 200
    rng = np.random.default_rng(6)
    for kind in ("latent", "nested"):
        X = make_ill_conditioned_regression(n, d, k, kind=kind, random_state=7).data
        for n_subsets in (1, 4):
            farther = 0
            for _ in range(n_trials):
                support = rng.choice(d, k, replace=False)
                subsets = [rng.choice(d, k - 1, replace=False) for _ in range(n_subsets)]
                probes = np.unique(np.concatenate(subsets))
                i = support[0]
                rest = random_support_weights(X, support[1:])[i]
                farther += random_support_weights(X, probes)[i] > rest * (1 + 1e-9)
            bound = 1.0 / (n_subsets + 1)
            # Three standard errors of a frequency over n_trials.
            assert farther / n_trials <= bound + 3 * np.sqrt(bound * (1 - bound) / n_trials)


def test_coefficients_beside_a_good_span_are_bounded_by_the_signal():
    n, d, k = 80, 160, 4
    good = 0
    for seed in range(12):
        data = make_ill_conditioned_regression(n, d, k, random_state=seed)
        order = np.random.default_rng(seed + 100).permutation(d)
        columns = _columns(data.data, order=order)
        columns.advance(24)
        rest = np.array(
            [random_support_weights(data.data, np.setdiff1d(data.support, [i]))[i]
             for i in data.support]
        )  # fmt: skip
        factors = columns.penalty_factor()[data.support]
        near = factors <= rest * (1 + 1e-9)
        u = np.abs(data.coef[data.support]) * factors
        # |w_i| d(X_i, rest) <= ||Xw||: whatever the size of w, u is at most the signal's.
        assert np.all(u[near] <= 1.0 + 1e-9)
        good += np.all(near)
    assert good >= 6
    assert np.abs(data.coef).sum() > 20


def test_the_projected_lasso_is_a_weighted_lasso():
    rng = np.random.default_rng(8)
    X = rng.standard_normal((60, 20)) * np.exp(rng.uniform(-2, 2, 20)) + 3.0
    y = X[:, 0] - X[:, 3] + rng.standard_normal(60)
    order = rng.permutation(20)
    columns = _columns(X, y, order)
    for count in (0, 2, 5):
        columns.advance(count)
        path = columns.open_path(1e-12, 1000)
        alpha = 0.1 * path.alpha_max()
        point = path.at(alpha)
        features, coefs = columns.coefficients([(point.features, point.values)])
        coef = np.zeros(20)
        coef[features] = coefs[:, 0]
        factors = random_support_weights(X, order[:count])
        lasso = Lasso(alpha=alpha, penalty_factor=factors, tol=1e-12).fit(X, y)
        np.testing.assert_allclose(coef, lasso.coef_, atol=1e-5)
        assert point.objective == pytest.approx(lasso.objective_, rel=1e-9)


def test_probe_counts_leave_most_rows_to_the_rest():
    np.testing.assert_array_equal(default_probe_counts(200, 160, 400), [0, 6, 14, 30, 50])
    np.testing.assert_array_equal(default_probe_counts(200, 100, 400), [0, 6, 14, 30])
    np.testing.assert_array_equal(default_probe_counts(442, 350, 10), [0, 10])
    np.testing.assert_array_equal(default_probe_counts(3, 2, 10), [0])


@pytest.mark.parametrize(
    ("probes", "message"),
    [
        ([0, 0], "must not name a column twice"),
        ([5], "from 0 to 3, got 5"),
        ([-1], "from 0 to 3, got -1"),
        ([0.5], "column numbers"),
        ([[0, 1]], "one-dimensional"),
    ],
)
def test_bad_probes_are_refused(probes, message):
    with pytest.raises(ValueError, match=message):
        random_support_weights(np.eye(4), probes)


def _criterion(X, y, subset, n, p):
    X = X[:, list(subset)]
    residual = y - X @ np.linalg.lstsq(X, y)[0] if subset else y
    return n * np.log(residual @ residual / n) + len(subset) * (np.log(n) + 2 * np.log(p))


def test_elimination_minimises_the_criterion_along_its_way():
    rng = np.random.default_rng(9)
    X = rng.standard_normal((40, 7)) * np.array([1.0, 5.0, 0.1, 1.0, 1.0, 2.0, 1.0])
    y = 2.0 * X[:, 1] + 30.0 * X[:, 2] + rng.standard_normal(40)
    kept, coef, criterion = eliminate_backward(X, y, 40, 50)
    # Columns are nearly orthogonal, so that the best set on the way is the best of all sets.
    subsets = [s for size in range(8) for s in itertools.combinations(range(7), size)]
    best = min(subsets, key=lambda s: _criterion(X, y, s, 40, 50))
    np.testing.assert_array_equal(kept, best)
    assert criterion == pytest.approx(_criterion(X, y, best, 40, 50), rel=1e-12)
    np.testing.assert_allclose(coef, np.linalg.lstsq(X[:, kept], y)[0], rtol=1e-10)


def test_elimination_drops_the_smallest_t_statistic():
    X = make_ill_conditioned_regression(60, 30, 4, random_state=2)
    columns, y = X.data[:, :10], X.target - X.target.mean()
    alive, values = list(range(10)), {}
    while True:
        values[tuple(alive)] = _criterion(columns, y, tuple(alive), 60, 30)
        if not alive:
            break
        losses = [_criterion(columns, y, tuple(np.delete(alive, i)), 60, 30)
                  for i in range(len(alive))]  # fmt: skip
        alive.pop(int(np.argmin(losses)))
    expected = min(values, key=values.get)
    kept, _, _ = eliminate_backward(columns, y, 60, 30)
    np.testing.assert_array_equal(kept, expected)


def test_elimination_survives_dependent_columns():
    rng = np.random.default_rng(10)
    X = rng.standard_normal((12, 3))
    y = X[:, 0] + 0.1 * rng.standard_normal(12)
    X = np.column_stack([X[:, 0], X[:, 0], np.zeros(12), X[:, 1], X[:, 0] + X[:, 1], X[:, 2]])
    kept, coef, _ = eliminate_backward(X, y, 12, 6)
    np.testing.assert_array_equal(kept, [0])
    assert coef[0] == pytest.approx(1.0, abs=0.2)
    wide = rng.standard_normal((5, 9))
    kept, coef, _ = eliminate_backward(wide, wide[:, 0], 5, 9)
    assert np.linalg.norm(wide[:, kept] @ coef - wide[:, 0]) < 1e-10
    for columns in (np.empty((5, 0)), np.zeros((5, 2))):
        kept, coef, criterion = eliminate_backward(columns, np.full(5, 3.0), 5, 2)
        assert kept.size == coef.size == 0
        assert criterion == pytest.approx(5 * np.log(9.0))
    kept, _, _ = eliminate_backward(wide, np.zeros(5), 5, 9)
    assert kept.size == 0
