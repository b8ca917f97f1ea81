"""The scaling of a Gaussian kernel: optimality, theory, twins and kernels."""

import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from sparsestat.transport import _kernels_affinity
from sparsestat.transport._affinity import (
    Distances,
    balance,
    balance_to_trace,
    balance_without_diagonal,
    trace,
    weights_of,
)
from sparsestat.utils._arrays import host_namespace


def sample(n=40, d=3, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def squared(X):
    return ((X[:, None, :] - X[None, :, :]) ** 2).sum(axis=-1)


def plain_potential(D, epsilon, n_iter=2000):
    """The undamped textbook loop on logarithms, averaged so that it keeps symmetry."""
    u = np.zeros(len(D))
    for _ in range(n_iter):
        u = 0.5 * (u - logsumexp(u - D / epsilon, axis=1))
    return u


@pytest.mark.parametrize("epsilon", [1e-3, 0.1, 1.0, 10.0, 1e4])
def test_equal_to_a_plain_loop_on_logarithms(epsilon):
    X = sample()
    distances = Distances(X)
    state = balance(distances, epsilon, distances.start(), 1e-12, 200)
    np.testing.assert_allclose(state.u, plain_potential(squared(X), epsilon), atol=1e-11)
    P = np.exp(state.u[:, None] + state.u - squared(X) / epsilon)
    np.testing.assert_allclose(distances.matrix(state.u, epsilon), P, rtol=1e-12)
    assert state.error <= 1e-12
    assert abs(state.error - np.abs(P.sum(axis=1) - 1).max()) <= 1e-13


def test_two_points_in_closed_form():
    # With P = [[p, 1 - p], [1 - p, p]], the odds p / (1 - p) are exp(D / epsilon).
    distances = Distances(np.array([[0.0], [1.5]]))
    state = balance(distances, 2.0, distances.start(), 1e-14, 200)
    p = 1 / (1 + math.exp(-(1.5**2) / 2.0))
    P = distances.matrix(state.u, 2.0)
    np.testing.assert_allclose(P, [[p, 1 - p], [1 - p, p]], atol=1e-14)


@pytest.mark.parametrize("epsilon", [1e-6, 0.05, 0.7, 30.0, math.inf])
def test_error_falls_to_a_third_and_potentials_stay_in_their_range(epsilon):
    # The theory at the top of the module: a rate of 1/3, a contraction for the largest error
    # of u from any start, and potentials between -log n and 0.
    distances = Distances(sample(60, 2))
    solution = balance(distances, epsilon, distances.start(), 1e-15, 100).u
    assert solution.max() <= 1e-12 and solution.min() >= -math.log(60)
    states = []
    start = np.random.default_rng(1).uniform(-3, 3, 60)
    balance(distances, epsilon, start, 1e-11, 100, lambda state: states.append(state))
    distance = np.array([np.abs(state.u - solution).max() for state in states])
    assert np.all(np.diff(distance)[distance[:-1] > 1e-10] < 0)
    # 3^-26 = 4e-13 takes the largest start, 3 + log 60, to 1e-11; a few steps before the rate.
    assert states[-1].error <= 1e-11 and states[-1].n_iter <= 32


@pytest.mark.parametrize("n_clusters", [1, 2, 4, 20, 39, 40])
def test_trace_is_met(n_clusters):
    distances = Distances(sample())
    state = balance_to_trace(distances, n_clusters, 1e-10, 100)
    P = distances.matrix(state.u, state.epsilon)
    assert np.trace(P) == pytest.approx(n_clusters, rel=1e-8)
    assert np.abs(P.sum(axis=1) - 1).max() <= 1e-10
    assert trace(host_namespace, state.u) == pytest.approx(np.trace(P), rel=1e-12)


def test_bounds_of_the_trace_bracket_it():
    X = np.repeat(sample(12), [1, 2, 3] * 4, axis=0)
    distances = Distances(X)
    n, m = len(X), 12
    assert distances.n_distinct == m
    D = squared(X)
    assert distances.smallest == pytest.approx(D[D > 0].min()) and distances.largest == D.max()
    for epsilon in np.geomspace(1e-3, 1e3, 13):
        u = balance(distances, epsilon, distances.start(), 1e-12, 200).u
        value = trace(host_namespace, u)
        assert value <= min(m, math.exp(min(700, 2 * distances.largest / epsilon))) * (1 + 1e-9)
        assert value >= m * (1 - n * math.exp(-distances.smallest / epsilon)) * (1 - 1e-9)


def test_trace_on_a_plateau_between_scales():
    # Ten points in five pairs, 1e-6 apart inside and 1 apart outside: the trace is 5 over
    # ten decades of epsilon, and 7 is on the steep side below.
    X = np.repeat(np.eye(5), 2, axis=0)
    X[::2, 0] += 1e-6
    distances = Distances(X)
    for target in range(1, 11):
        state = balance_to_trace(distances, target, 1e-10, 100)
        assert trace(host_namespace, state.u) == pytest.approx(target, rel=1e-8)


@pytest.mark.parametrize("epsilon", [0.05, 0.3, 1.0, 10.0, math.inf])
def test_without_diagonal(epsilon):
    X = sample(50)
    distances = Distances(X)
    state = balance_without_diagonal(distances, epsilon, 1e-11, 200)
    z = state.u[:, None] + state.u - squared(X) / epsilon
    np.fill_diagonal(z, -np.inf)
    assert np.abs(np.exp(logsumexp(z, axis=1)) - 1).max() <= 1e-11
    P = distances.matrix(state.u, epsilon, False)
    np.testing.assert_allclose(P, np.exp(z), atol=1e-12)
    assert np.all(P.diagonal() == 0)


def test_without_diagonal_in_closed_form():
    # Three points: by symmetry of the equations every other point gets one half.
    distances = Distances(np.array([[0.0], [1.0], [30.0]]))
    state = balance_without_diagonal(distances, 0.5, 1e-10, 500)
    expected = (np.ones((3, 3)) - np.eye(3)) / 2
    np.testing.assert_allclose(distances.matrix(state.u, 0.5, False), expected, atol=1e-9)
    # Two points: each is the other's only neighbour; the Hessian is singular there.
    distances = Distances(np.array([[0.0], [3.0]]))
    state = balance_without_diagonal(distances, 0.01, 1e-10, 500)
    np.testing.assert_allclose(
        distances.matrix(state.u, 0.01, False), [[0.0, 1.0], [1.0, 0.0]], atol=1e-10
    )


def test_newton_needs_few_steps_where_scaling_crawls():
    # At a small epsilon P nears a pairing, whose eigenvalue -1 stops the damped scaling.
    X = sample(80, 2)
    distances, D, epsilon = Distances(X), squared(X), 0.02
    u = np.full(80, -0.5 * math.log(80))
    off = np.where(np.eye(80, dtype=bool), np.inf, 0.0)
    for _ in range(500):
        u = u - 2 / 3 * (u + logsumexp(u - D / epsilon - off, axis=1))
    crawling = np.abs(np.expm1(u + logsumexp(u - D / epsilon - off, axis=1))).max()
    state = balance_without_diagonal(distances, epsilon, 1e-9, 100)
    assert crawling > 1e-4 and state.error <= 1e-9 and state.n_iter < 100


def test_a_listener_may_stop():
    distances = Distances(sample())
    for solve in (
        lambda listen: balance(distances, 1.0, distances.start(), 1e-10, 100, listen),
        lambda listen: balance_to_trace(distances, 4, 1e-10, 100, listen),
        lambda listen: balance_without_diagonal(distances, 1.0, 1e-10, 100, listen),
    ):
        states = []
        final = solve(lambda state, seen=states: seen.append(state) or len(seen) == 2)
        assert len(states) == 2 and final.stopped
        np.testing.assert_array_equal(final.u, states[-1].u)


def test_iterations_end_at_their_limit():
    distances = Distances(sample())
    assert balance(distances, 1.0, distances.start(), 1e-10, 3).n_iter == 3
    state = balance_without_diagonal(distances, 1e-3, 1e-14, 2)
    assert state.epsilon == 1e-3 and state.error > 1e-14


# --- kernels -------------------------------------------------------------------------------


@pytest.mark.parametrize("with_diagonal", [True, False])
def test_log_row_sums_over_the_whole_range(with_diagonal):
    rng = np.random.default_rng(0)
    D = squared(sample(30) * 10)
    for scale in (0.0, 1.0, 200.0, 2000.0):
        u = scale * rng.standard_normal(30)
        z = u[:, None] + u - D
        if not with_diagonal:
            np.fill_diagonal(z, -np.inf)
        out = np.empty(30)
        _kernels_affinity.log_row_sums(D, 1.0, u, with_diagonal, out)
        np.testing.assert_allclose(out, logsumexp(z, axis=1), rtol=1e-12, atol=1e-12)


def test_log_row_sums_allocate_nothing(count_allocations):
    D, out = squared(sample()), np.empty(40)
    for u in (np.zeros(40), np.linspace(-900.0, 900.0, 40)):
        for with_diagonal in (True, False):
            arguments = (D, 1.0, u, with_diagonal, out)
            assert count_allocations(_kernels_affinity.log_row_sums, *arguments) == 0


# --- device arrays ---------------------------------------------------------------------------


def test_twin_of_the_row_sums(xp):
    D, u = squared(sample()), np.linspace(-2.0, 1.0, 40)
    distances = Distances(xp.asarray(sample()))
    np.testing.assert_allclose(xp.to_numpy(distances.D), D, rtol=1e-13, atol=1e-15)
    for with_diagonal in (True, False):
        sums, error = distances.log_row_sums(xp.asarray(u), 0.7, with_diagonal)
        expected = np.empty(40)
        _kernels_affinity.log_row_sums(D, 1 / 0.7, u, with_diagonal, expected)
        xp.assert_native(sums)
        np.testing.assert_allclose(xp.to_numpy(sums), expected, rtol=1e-12, atol=1e-13)
        assert error == pytest.approx(np.abs(np.expm1(expected)).max(), rel=1e-12)
    xp.assert_twin_ran()


def test_twin_of_the_solvers(xp):
    X = sample()
    D = cdist(X, X, "sqeuclidean")
    distances = Distances(xp.asarray(X))
    state = balance_to_trace(distances, 5, 1e-10, 100)
    xp.assert_native(state.u)
    u = plain_potential(D, state.epsilon, 200)
    np.testing.assert_allclose(xp.to_numpy(state.u), u, atol=1e-9)
    assert np.exp(2 * u).sum() == pytest.approx(5, rel=2e-8)
    state = balance_without_diagonal(distances, 0.3, 1e-10, 100)
    P = xp.to_numpy(distances.matrix(state.u, 0.3, False))
    np.testing.assert_allclose(P.sum(axis=1), 1, atol=1e-10)
    np.testing.assert_array_equal(P.diagonal(), 0)
    weights = weights_of(
        xp.asarray(X), xp.asarray(X), state.u, 0.3, xp.namespace, with_diagonal=False
    )
    np.testing.assert_allclose(xp.to_numpy(weights), P, atol=1e-9)
    xp.assert_twin_ran()
