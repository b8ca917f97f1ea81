"""The loss of a bridge, against its definition, and its gradient, against differences."""

import array_api_compat.numpy
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from sparsestat.transport._bridge_objective import (
    BridgeObjective,
    host_vector,
    pack,
    parameter_count,
    source_exponents,
    unpack,
)

FLOOR = 1e-3
kinds = pytest.mark.parametrize("full", [False, True], ids=["diag", "full"])


def samples(n=30, m=25, d=3, seed=0):
    rng = np.random.default_rng(seed)
    X = 2.0 * rng.standard_normal((n, d))
    Y = rng.standard_normal((m, d)) + 1.0
    x_shares, y_shares = rng.random(n), rng.random(m)
    return X, Y, x_shares / x_shares.sum(), y_shares / y_shares.sum()


def objective_of(X, Y, x_shares, y_shares, full, n_components=3, library=None):
    there = np.asarray if library is None else library.asarray
    namespace = array_api_compat.numpy if library is None else library.namespace
    arrays = [there(Z) for Z in (X, Y, x_shares, y_shares)]
    return BridgeObjective(*arrays, n_components=n_components, full=full, floor=FLOOR, xp=namespace)


def some_parameters(full, n_components=3, d=3, seed=1):
    rng = np.random.default_rng(seed)
    return 0.5 * rng.standard_normal(parameter_count(n_components, d, full))


@kinds
def test_loss_is_what_it_is_said_to_be(full):
    X, Y, x_shares, y_shares = samples()
    theta = some_parameters(full)
    a, r, S, _ = unpack(theta, 3, 3, full, FLOOR)
    S = S if full else np.stack([np.diag(s) for s in S])
    log_c = [a[k] + X @ r[k] + np.einsum("ni,ij,nj->n", X, S[k], X) / 2 for k in range(3)]
    log_v = [a[k] + multivariate_normal(r[k], S[k]).logpdf(Y) for k in range(3)]
    expected = x_shares @ logsumexp(log_c, axis=0) - y_shares @ logsumexp(log_v, axis=0)
    loss, _ = objective_of(X, Y, x_shares, y_shares, full)(theta)
    assert loss == pytest.approx(expected, rel=1e-12)


@kinds
def test_gradient_is_the_difference_quotient(xp, full):
    objective = objective_of(*samples(12, 10), full, library=xp)
    theta = some_parameters(full)
    _, gradient = objective(theta)
    step = 1e-5
    differences = [
        (objective(theta + h)[0] - objective(theta - h)[0]) / (2 * step)
        for h in step * np.eye(theta.size)
    ]
    # The quotient is off by step^2 times third derivatives, which have the size of the loss.
    np.testing.assert_allclose(gradient, differences, atol=1e-6 * np.abs(gradient).max())


@kinds
def test_every_library_computes_the_same(xp, full):
    data = samples()
    theta = some_parameters(full)
    expected, expected_gradient = objective_of(*data, full)(theta)
    loss, gradient = objective_of(*data, full, library=xp)(theta)
    assert isinstance(loss, float) and isinstance(gradient, np.ndarray)
    assert loss == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-10, atol=1e-12)


@kinds
def test_data_stay_on_the_device(xp, full):
    X, _, _, _ = samples()
    _, r, S, _ = unpack(some_parameters(full), 3, 3, full, FLOOR)
    exponents = source_exponents(xp.asarray(X), r, S, xp.namespace)
    xp.assert_native(exponents)
    square = "nj,kj->kn" if S.ndim == 2 else "ni,nj,kij->kn"
    arguments = (X * X, S) if S.ndim == 2 else (X, X, S)
    expected = r @ X.T + np.einsum(square, *arguments) / 2
    np.testing.assert_allclose(xp.to_numpy(exponents), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(host_vector(xp.asarray(X[0])), X[0])


@kinds
def test_parameters_survive_packing(full):
    theta = some_parameters(full)
    a, r, S, factors = unpack(theta, 3, 3, full, FLOOR)
    np.testing.assert_allclose(pack(a, r, S, FLOOR), theta, atol=1e-10)
    if full:
        np.testing.assert_allclose(S, factors @ factors.transpose(0, 2, 1) + FLOOR * np.eye(3))
        assert np.linalg.eigvalsh(S).min() >= FLOOR
    else:
        np.testing.assert_allclose(S, factors + FLOOR)


@kinds
def test_a_spread_below_the_floor_is_lifted(full):
    S = np.zeros((2, 3, 3)) if full else np.zeros((2, 3))
    theta = pack(np.zeros(2), np.zeros((2, 3)), S, FLOOR)
    S = unpack(theta, 2, 3, full, FLOOR)[2]
    least = np.linalg.eigvalsh(S).min() if full else S.min()
    assert FLOOR <= least <= 1.001 * FLOOR


@kinds
def test_large_exponents_do_not_overflow(full):
    X, Y, x_shares, y_shares = samples()
    loss, gradient = objective_of(1e4 * X, 1e4 * Y, x_shares, y_shares, full)(some_parameters(full))
    assert np.isfinite(loss) and np.all(np.isfinite(gradient)) and abs(loss) > 1e6


@kinds
def test_spreads_at_their_limits_do_not_overflow(full):
    objective = objective_of(*samples(), full)
    for limit in objective.bounds():
        theta = np.where(np.isfinite(limit), limit, 0.0)
        loss, gradient = objective(theta)
        assert np.isfinite(loss) and np.all(np.isfinite(gradient))


@kinds
def test_a_batch_is_the_objective_of_its_points(xp, full):
    X, Y, x_shares, y_shares = samples()
    rows, columns = np.array([3, 7, 7, 1]), np.array([0, 20])
    theta = some_parameters(full)
    part = objective_of(X, Y, x_shares, y_shares, full, library=xp).batch(rows, columns)
    assert (part.n_source, part.n_target) == (4, 2)
    alone = objective_of(X[rows], Y[columns], np.full(4, 0.25), np.full(2, 0.5), full)
    expected, expected_gradient = alone(theta)
    loss, gradient = part(theta)
    assert loss == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-9, atol=1e-12)


@kinds
def test_common_factor_of_the_weights_is_free(full):
    objective = objective_of(*samples(), full)
    theta = some_parameters(full)
    shifted = theta.copy()
    shifted[:3] += 5.0
    assert objective(shifted)[0] == pytest.approx(objective(theta)[0], rel=1e-12)
    assert objective(theta)[1][:3].sum() == pytest.approx(0.0, abs=1e-14)
