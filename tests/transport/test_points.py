"""Costs that are computed from points, divergences, derivatives, penalised marginals."""

import math
import tracemalloc

import cvxpy as cp
import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning

from sparsestat.transport import (
    sinkhorn,
    sinkhorn_divergence,
    sinkhorn_gradient,
    sinkhorn_points,
)

from ._problems import assert_solves, draw, kl


def points(n=40, m=30, d=3, seed=0):
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(0.2, 1.0, n), rng.uniform(0.2, 1.0, m)
    return rng.normal(size=(n, d)), rng.normal(size=(m, d)) + 1.0, a / a.sum(), b / b.sum()


# --- lazy costs --------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cityblock", cdist])
@pytest.mark.parametrize("d", [1, 3, 25])
@pytest.mark.parametrize("method", ["log", "newton", "truncated"])
def test_lazy_costs_are_the_costs(metric, d, method):
    X, Y, a, b = points(d=d)
    C = cdist(X, Y) if callable(metric) else cdist(X, Y, metric)
    epsilon = 0.1 * C.mean()
    options = {"metric": metric, "epsilon": epsilon, "method": method, "tol": 1e-10}
    lazy = sinkhorn_points(X, Y, a, b, lazy=True, **options)
    assert_solves(lazy, C, a, b)
    stored = sinkhorn_points(X, Y, a, b, lazy=False, **options)
    np.testing.assert_allclose(lazy.plan, stored.plan, atol=1e-10)
    assert sinkhorn_points(X, Y, a, b, metric=metric, lazy=True).epsilon == pytest.approx(
        sinkhorn(C, a, b).epsilon, rel=1e-12
    )


def test_newton_without_memory_for_the_plan(monkeypatch):
    from sparsestat.transport import _newton

    X, Y, a, b = points()
    expected = sinkhorn_points(X, Y, a, b, epsilon=0.2, method="newton").plan
    for most in (0, 10**9):
        monkeypatch.setattr(_newton, "_MAX_ENTRIES", most)
        found = sinkhorn_points(X, Y, a, b, epsilon=0.2, method="newton", lazy=True)
        np.testing.assert_allclose(found.plan, expected, atol=1e-9)


def test_far_away_points_keep_their_digits():
    X, Y, a, b = points(d=20)
    here = sinkhorn_points(X, Y, a, b, epsilon=3.0, lazy=True).plan
    there = sinkhorn_points(X + 1e6, Y + 1e6, a, b, epsilon=3.0, lazy=True).plan
    np.testing.assert_allclose(there, here, atol=1e-7)


def test_memory_grows_with_the_points_not_with_their_pairs():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(4000, 2)), rng.normal(size=(3000, 2))
    tracemalloc.start()
    with pytest.warns(ConvergenceWarning):
        sinkhorn_points(X, Y, epsilon=5.0, method="log", lazy=True, max_iter=3)
    for epsilon in (5.0, 0.5):
        sinkhorn_points(X, Y, epsilon=epsilon, method="newton", lazy=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A matrix of all pairs would take 96 MB.
    assert peak < 60e6


@pytest.mark.parametrize(("d", "metric"), [(2, "sqeuclidean"), (20, "sqeuclidean"), (2, cdist)])
def test_memory_of_very_many_points(d, metric):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(2, 12_000, d))
    tracemalloc.start()
    with pytest.warns(ConvergenceWarning):
        sinkhorn_points(X, Y, metric=metric, epsilon=1.0, lazy=True, max_iter=1, method="log")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A matrix of all pairs would take 1152 MB, a sum of the columns takes 0.1.
    assert peak < 40e6


def test_plans_that_are_too_large_are_refused_and_can_be_used():
    X, Y, a, b = points(400, 350)
    with config_context(working_memory=1):
        result = sinkhorn_points(X, Y, a, b, epsilon=0.3)
        assert result.method == "log"
        with pytest.raises(MemoryError, match=r"400 x 350 entries needs 1 MiB.*working_memory"):
            _ = result.plan
        sparse = result.sparse_plan()
        means = result.barycenters(Y)
    plan = result.plan
    assert abs(sparse - plan).max() <= 1e-6 * max((a / 350).max(), (b / 400).max())
    np.testing.assert_allclose(sparse.sum(axis=1), a, rtol=1e-5)
    np.testing.assert_allclose(sparse.sum(axis=0), b, rtol=1e-5)
    np.testing.assert_allclose(means, plan @ Y / plan.sum(axis=1, keepdims=True), atol=1e-8)


@pytest.mark.parametrize("apart, epsilon, sweeps", [(0.0, 2.0, True), (3.0, 0.5, False)])
def test_sweeps_over_points_give_way_to_newton(apart, epsilon, sweeps):
    """Two clusters that hardly exchange mass need thousands of sweeps, and few Newton steps."""
    X, Y, a, b = points()
    X[::2, 0] += apart
    Y[::3, 0] += apart
    result = sinkhorn_points(X, Y, a, b, epsilon=epsilon, lazy=True)
    assert result.method == "log"
    assert (result.n_newton == 0) == sweeps
    assert result.converged
    assert result.marginal_error <= 1e-9
    reference = sinkhorn_points(X, Y, a, b, epsilon=epsilon, method="newton", tol=1e-11)
    np.testing.assert_allclose(result.value, reference.value, rtol=1e-8)


def test_small_regularisations_of_points_go_to_newton_at_once():
    X, Y, a, b = points()
    spread = cdist(X, Y, "sqeuclidean").max()
    assert sinkhorn_points(X, Y, a, b, epsilon=spread / 400, lazy=True).method == "newton"


def test_sparse_plans_and_means_with_rows_left_out():
    X, Y, a, b = points()
    a[4], b[[0, 9]] = 0.0, 0.0
    result = sinkhorn_points(X, Y, a / a.sum(), b / b.sum(), epsilon=0.5)
    np.testing.assert_allclose(result.sparse_plan(0.0).toarray(), result.plan, atol=1e-16)
    means = result.barycenters(Y)
    z = (result.potentials[1] - cdist(X, Y, "sqeuclidean")) / 0.5
    w = np.exp(z - logsumexp(z, axis=1, b=b / b.sum(), keepdims=True)) * (b / b.sum())
    np.testing.assert_allclose(means, w @ Y, atol=1e-10)
    with pytest.raises(ValueError, match=r"Z must have shape \(30, k\).* got shape \(3, 2\)"):
        result.barycenters(np.ones((3, 2)))


# --- divergence and derivatives ----------------------------------------------------------


@pytest.mark.parametrize("epsilon", [0.05, 1.0, 20.0])
def test_the_divergence_is_that_of_three_problems(epsilon):
    X, Y, a, b = points()
    values = [
        sinkhorn(cdist(P, Q, "sqeuclidean"), p, q, epsilon=epsilon, tol=1e-12).value
        for P, Q, p, q in ((X, Y, a, b), (X, X, a, a), (Y, Y, b, b))
    ]
    expected = values[0] - 0.5 * (values[1] + values[2])
    for lazy in (True, False):
        found = sinkhorn_divergence(X, Y, a, b, epsilon=epsilon, lazy=lazy, tol=1e-11)
        assert found == pytest.approx(expected, abs=1e-9)
    assert found > 0


def test_the_divergence_of_equal_distributions_is_zero():
    X, _, a, _ = points()
    order = np.random.default_rng(1).permutation(len(X))
    for epsilon in (0.1, 2.0):
        assert abs(sinkhorn_divergence(X, X[order], a, a[order], epsilon=epsilon)) < 1e-8
        # One point as two halves.
        split, halves = np.vstack([X, X[:1]]), np.r_[0.5 * a[0], a[1:], 0.5 * a[0]]
        assert abs(sinkhorn_divergence(X, split, a, halves, epsilon=epsilon)) < 1e-8


def test_a_translation_adds_its_squared_length():
    X, _, a, _ = points()
    shift = np.array([1.0, -2.0, 0.5])
    for epsilon in (0.3, 5.0):
        found = sinkhorn_divergence(X, X + shift, a, a, epsilon=epsilon, tol=1e-11)
        assert found == pytest.approx(shift @ shift, rel=1e-8)


def test_normal_distributions_have_a_closed_form():
    """Between N(m, A) and N(m', B) the plan has the cross covariance of the known formula.

    The samples get these moments exactly, so that only their higher moments differ from normal
    ones: an error of order n ** -1/2 in the cost, here below 5 %.
    """
    rng = np.random.default_rng(2)
    n, epsilon = 1500, 1.0
    A, B = np.diag([1.0, 0.5]), np.array([[1.0, 0.4], [0.4, 0.8]])
    samples = []
    for covariance in (A, B):
        Z = rng.normal(size=(n, 2))
        Z -= Z.mean(axis=0)
        Z = np.linalg.solve(np.linalg.cholesky(Z.T @ Z / n), Z.T).T
        samples.append(Z @ np.linalg.cholesky(covariance).T)
    # With the cost |x - y|^2, the regularisation of x.y is epsilon / 2.
    half = np.real(sqrtm(A))
    inner = np.real(sqrtm(half @ B @ half + (epsilon / 4) ** 2 * np.eye(2)))
    cross = half @ inner @ np.linalg.inv(half) - epsilon / 4 * np.eye(2)
    expected = np.trace(A) + np.trace(B) - 2 * np.trace(cross)
    result = sinkhorn_points(*samples, epsilon=epsilon)
    assert result.transport_cost == pytest.approx(expected, rel=0.05)
    plan = result.plan
    np.testing.assert_allclose(samples[0].T @ plan @ samples[1], cross, atol=0.05)


@pytest.mark.parametrize("debiased", [False, True])
def test_derivatives(debiased):
    X, Y, a, b = points(12, 9)
    options = {"epsilon": 0.7, "debiased": debiased, "tol": 1e-12}

    def value(X, a, b):
        return sinkhorn_gradient(X, Y, a, b, **options).value

    found = sinkhorn_gradient(X, Y, a, b, **options)
    assert found.converged
    rng = np.random.default_rng(3)
    h = 1e-5
    directions = (
        (rng.normal(size=X.shape), 0 * a, 0 * b, found.X),
        (0 * X, rng.normal(size=12), 0 * b, found.a),
        (0 * X, 0 * a, rng.normal(size=9), found.b),
    )
    for dX, da, db, derivative in directions:
        # The total of the weights is kept.
        da, db = da - da.mean() * (np.any(da)), db - db.mean() * (np.any(db))
        steps = [value(X + s * dX, a + s * da, b + s * db) for s in (h, -h)]
        direction = next(d for d in (dX, da, db) if np.any(d))
        assert (steps[0] - steps[1]) / (2 * h) == pytest.approx(
            np.sum(derivative * direction), abs=1e-6
        )
    assert found.a.mean() == pytest.approx(0.0, abs=1e-12)
    with_costs = sinkhorn(cdist(X, Y, "sqeuclidean"), a, b, epsilon=0.7, tol=1e-12)
    dC = rng.normal(size=(12, 9))
    ends = [
        sinkhorn(cdist(X, Y, "sqeuclidean") + s * dC, a, b, epsilon=0.7, tol=1e-12).value
        for s in (h, -h)
    ]
    slope = np.sum(with_costs.plan * dC)
    assert (ends[0] - ends[1]) / (2 * h) == pytest.approx(slope, abs=1e-6)


# --- penalised marginals -----------------------------------------------------------------


def penalised(plan, C, a, b, epsilon, taus):
    value = np.sum(plan * C) + epsilon * kl(plan, np.outer(a, b))
    for tau, sums, wanted in zip(taus, (plan.sum(axis=1), plan.sum(axis=0)), (a, b)):
        value += tau * kl(sums, wanted) if math.isfinite(tau) else 0.0
    return value


@pytest.mark.parametrize(
    "taus", [(1.0, 2.0), (0.01, 0.5), (50.0, 50.0), (math.inf, 0.3), (0.3, math.inf)]
)
def test_penalised_problems_close_the_gap(taus):
    C, a, b = draw()
    b = 1.7 * b
    result = sinkhorn(C, a, b, epsilon=0.05, reg_marginals=taus, tol=1e-11)
    assert result.converged
    plan = result.plan
    value = penalised(plan, C, a, b, 0.05, taus)
    assert result.value == pytest.approx(value, rel=1e-9)
    assert result.dual_value == pytest.approx(result.value, rel=1e-8)
    if math.isinf(taus[0]):
        np.testing.assert_allclose(plan.sum(axis=1), a, atol=1e-9)
    rng = np.random.default_rng(0)
    if all(map(math.isfinite, taus)):
        for _ in range(20):
            other = plan * np.exp(0.1 * rng.normal(size=plan.shape))
            assert penalised(other, C, a, b, 0.05, taus) > value
    shifted = sinkhorn(C + 3.0, a, b, epsilon=0.05, reg_marginals=taus, tol=1e-11)
    assert shifted.dual_value == pytest.approx(shifted.value, rel=1e-8)


def test_penalised_problems_against_a_conic_solver():
    C, a, b = draw(6, 5)
    b = 1.5 * b
    P = cp.Variable((6, 5), nonneg=True)
    reference = np.outer(a, b)
    objective = cp.sum(cp.multiply(C, P)) + 0.1 * cp.sum(cp.kl_div(P, reference))
    objective += 0.7 * cp.sum(cp.kl_div(cp.sum(P, axis=1), a))
    objective += 0.4 * cp.sum(cp.kl_div(cp.sum(P, axis=0), b))
    expected = cp.Problem(cp.Minimize(objective)).solve(solver=cp.CLARABEL)
    result = sinkhorn(C, a, b, epsilon=0.1, reg_marginals=(0.7, 0.4))
    assert result.value == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(result.plan, P.value, atol=1e-5)


def test_limits_of_the_penalties():
    C, a, b = draw()
    hard = sinkhorn(C, a, b, epsilon=0.05, tol=1e-12)
    stiff = sinkhorn(C, a, b, epsilon=0.05, reg_marginals=1e7)
    np.testing.assert_allclose(stiff.plan, hard.plan, atol=1e-7)
    # The common level of the potentials is found at once, not at the rate tau / (tau + epsilon).
    assert stiff.n_iter < 500
    loose = sinkhorn(C, a, b, epsilon=0.05, reg_marginals=1e-10)
    np.testing.assert_allclose(loose.plan, np.outer(a, b) * np.exp(-C / 0.05), rtol=1e-6)


def test_rows_without_weight_in_a_penalised_problem():
    C, a, b = draw()
    a[3] = 0.0
    result = sinkhorn(C, a, b, epsilon=0.05, reg_marginals=0.5)
    assert not result.plan[3].any()
    power = 0.5 / 0.55
    expected = -0.05 * power * logsumexp((result.potentials[1] - C[3]) / 0.05, b=b)
    assert result.potentials[0][3] == pytest.approx(expected, abs=1e-10)
