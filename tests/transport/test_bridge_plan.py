"""What follows from a potential, against quadrature, simulation and other formulas."""

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.stats import multivariate_normal

from sparsestat.transport import _light_bridge as lb

EPSILON = 0.7
N_SIGMA = 5.0
"""Deviations allowed, in standard deviations of the Monte-Carlo error; the seeds are fixed."""

kinds = pytest.mark.parametrize("full", [False, True], ids=["diag", "full"])


def mixture(full, d=2):
    rng = np.random.default_rng(0)
    spreads = rng.uniform(0.3, 1.2, (3, d))
    if full:
        turns = np.linalg.qr(rng.standard_normal((3, d, d)))[0]
        spreads = (turns * spreads[:, None, :]) @ turns.transpose(0, 2, 1)
    return lb.BridgeMixture(
        np.log([0.2, 0.5, 0.3]),
        1.5 * rng.standard_normal((3, d)),
        spreads,
        EPSILON,
        np.array([0.5, -1.0]),
        np.array([-0.3, 2.0]),
    )


def grid():
    """Points and the area of a cell; the densities are negligible at the rim."""
    line = np.linspace(-12.0, 14.0, 401)
    Y = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    return Y, (line[1] - line[0]) ** 2


STARTS = np.array([[0.0, 0.0], [1.0, -2.0], [-1.5, 0.4]])


def conditional_density(given, x, Y):
    return np.exp(lb.conditional_logpdf(given, np.broadcast_to(x, Y.shape), Y))


@kinds
def test_conditional_density_and_its_moments(full):
    given = mixture(full)
    Y, area = grid()
    means = lb.conditional_mean(given, STARTS)
    covariances = lb.conditional_covariance(given, STARTS)
    for x, mean, covariance in zip(STARTS, means, covariances):
        p = area * conditional_density(given, x, Y)
        # The trapezoidal rule is spectrally accurate for smooth densities.
        assert p.sum() == pytest.approx(1.0, abs=1e-10)
        np.testing.assert_allclose(p @ Y, mean, atol=1e-9)
        away = Y - mean
        np.testing.assert_allclose((p[:, None] * away).T @ away, covariance, atol=1e-9)
    weights, centres = lb.component_weights(given, STARTS), lb.component_means(given, STARTS)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    np.testing.assert_allclose(np.einsum("nk,nkd->nd", weights, centres), means)


@kinds
def test_plan_is_kernel_times_potentials(full):
    given = mixture(full)
    Y, area = grid()
    log_v = lb.log_potential(given, Y)
    log_c = lb.log_normalizer(given, STARTS)
    for x, c in zip(STARTS, log_c):
        log_terms = Y @ x / EPSILON + log_v
        assert np.log(area * np.exp(log_terms).sum()) == pytest.approx(c, abs=1e-9)
        some = Y[::1001]
        expected = lb.conditional_logpdf(given, np.broadcast_to(x, some.shape), some)
        np.testing.assert_allclose(log_terms[::1001] - c, expected, rtol=1e-9, atol=1e-9)


@kinds
def test_potential_is_the_mixture_of_its_definition(full):
    given = lb.recentred(mixture(full), np.zeros(2), np.zeros(2))
    Y = np.random.default_rng(0).standard_normal((20, 2))
    v = 0.0
    for a, r, S in zip(given.log_weights, given.locations, given.spreads):
        v = v + np.exp(a) * multivariate_normal(r, EPSILON * (S if full else np.diag(S))).pdf(Y)
    np.testing.assert_allclose(lb.log_potential(given, Y), np.log(v), rtol=1e-10)


@kinds
def test_centres_change_nothing(full):
    given = mixture(full)
    other = lb.recentred(given, np.array([2.0, 0.1]), np.array([-1.0, 0.7]))
    Y = STARTS[::-1] + 0.3
    for function in (lb.conditional_mean, lb.conditional_covariance, lb.component_weights,
                     lb.component_means):  # fmt: skip
        np.testing.assert_allclose(function(other, STARTS), function(given, STARTS), rtol=1e-10)
    # The potentials of a plan have a common factor that is free.
    factors = [
        function(other, STARTS) - function(given, STARTS)
        for function in (lb.log_normalizer, lb.log_potential)
    ]
    np.testing.assert_allclose(factors, factors[0][0], rtol=1e-10)
    np.testing.assert_allclose(lb.drift(other, STARTS, 0.4), lb.drift(given, STARTS, 0.4))
    np.testing.assert_allclose(
        lb.conditional_logpdf(other, STARTS, Y), lb.conditional_logpdf(given, STARTS, Y)
    )
    shares = np.full(3, 1 / 3)
    assert lb.bridge_loss(other, STARTS, Y, shares, shares) == pytest.approx(
        lb.bridge_loss(given, STARTS, Y, shares, shares), rel=1e-10
    )


@kinds
def test_loss_is_what_it_is_said_to_be(full):
    given = mixture(full)
    Y = STARTS[::-1] + 0.3
    x_shares, y_shares = np.array([0.2, 0.3, 0.5]), np.array([0.6, 0.1, 0.3])
    expected = x_shares @ lb.log_normalizer(given, STARTS) - y_shares @ lb.log_potential(given, Y)
    expected -= (x_shares @ STARTS) @ (y_shares @ Y) / EPSILON
    assert lb.bridge_loss(given, STARTS, Y, x_shares, y_shares) == pytest.approx(expected)


@kinds
@pytest.mark.parametrize("t", [0.0, 0.4, 0.9])
def test_drift_is_the_gradient_of_the_log_potential_at_that_time(full, t):
    given = mixture(full)
    Y, area = grid()
    log_v = lb.log_potential(given, Y) + np.sum(Y * Y, axis=1) / (2 * EPSILON)

    def log_h(x):
        # The potential carried back by Brownian motion over the time that is left.
        z = log_v - np.sum((Y - x) ** 2, axis=1) / (2 * EPSILON * (1 - t))
        return z.max() + np.log(area * np.exp(z - z.max()).sum())

    step = 1e-4
    found = lb.drift(given, STARTS, t)
    for x, g in zip(STARTS, found):
        differences = [(log_h(x + h) - log_h(x - h)) / (2 * step) for h in step * np.eye(2)]
        np.testing.assert_allclose(g, EPSILON * np.array(differences), atol=1e-5)


def moments_of(Z):
    return np.concatenate([Z.mean(axis=0), np.cov(Z.T, ddof=0)[np.triu_indices(2)]])


def moment_errors(Z):
    """Standard errors of means and second moments."""
    away = Z - Z.mean(axis=0)
    products = away[:, [0, 0, 1]] * away[:, [0, 1, 1]]
    return np.concatenate([Z.std(axis=0), products.std(axis=0)]) / np.sqrt(len(Z))


@kinds
def test_samples_have_the_conditional_moments(full):
    given = mixture(full)
    x = STARTS[1:2]
    Y = lb.sample_end_points(given, np.repeat(x, 40_000, axis=0), np.random.default_rng(0))
    covariance = lb.conditional_covariance(given, x)[0]
    expected = np.r_[lb.conditional_mean(given, x)[0], covariance[np.triu_indices(2)]]
    assert np.all(np.abs(moments_of(Y) - expected) <= N_SIGMA * moment_errors(Y))


@kinds
def test_diffusion_ends_where_samples_are(full):
    given = mixture(full)
    n, n_steps = 10_000, 300
    rng = np.random.default_rng(0)
    X = np.repeat(STARTS[2:], n, axis=0)
    Y = lb.sample_end_points(given, X, rng)
    for i in range(n_steps):
        noise = rng.standard_normal(X.shape)
        X = X + lb.drift(given, X, i / n_steps) / n_steps + np.sqrt(EPSILON / n_steps) * noise
    error = np.hypot(moment_errors(X), moment_errors(Y))
    # A weak scheme of order one is off by a multiple of the step; moments here are near one.
    bias = 3.0 / n_steps
    assert np.all(np.abs(moments_of(X) - moments_of(Y)) <= N_SIGMA * error + bias)


def test_brownian_bridges():
    n, times = 40_000, np.array([0.7, 0.0, 0.2, 1.0, 0.2])
    X, Y = np.tile([[1.0]], (n, 1)), np.tile([[-2.0]], (n, 1))
    paths = lb.sample_bridge(X, Y, times, EPSILON, np.random.default_rng(0))[:, :, 0]
    np.testing.assert_array_equal(paths[:, 1], 1.0)
    np.testing.assert_array_equal(paths[:, 3], -2.0)
    np.testing.assert_array_equal(paths[:, 2], paths[:, 4])
    variance = EPSILON * times * (1 - times)
    error = np.sqrt(variance / n)
    assert np.all(np.abs(paths.mean(axis=0) - (1 - 3 * times)) <= N_SIGMA * error + 1e-12)
    # A sample variance of a normal sample has the standard error sqrt(2 / n) times its mean.
    assert np.all(np.abs(paths.var(axis=0) - variance) <= N_SIGMA * variance * np.sqrt(2 / n))
    covariance = np.cov(paths[:, 0], paths[:, 2])[0, 1]
    scale = np.sqrt(variance[0] * variance[2] * 2 / n)
    assert abs(covariance - EPSILON * 0.2 * 0.3) <= N_SIGMA * scale


def covariance_matrix(d, seed):
    A = np.random.default_rng(seed).standard_normal((d, 2 * d))
    return A @ A.T / d


def test_gaussian_bridge_solves_the_riccati_equation():
    S0, S1 = covariance_matrix(4, 0), covariance_matrix(4, 1)
    for epsilon in (1e-4, 0.3, 50.0):
        S = lb.gaussian_bridge(np.ones(4), S0, np.zeros(4), S1, epsilon).spreads[0]
        np.testing.assert_allclose(S @ S0 @ S + epsilon * S, S1, rtol=1e-9, atol=1e-10)
    # The cross-covariance of the plan between normal distributions (Janati et al., 2020).
    root = np.real(sqrtm(S0))
    middle = np.real(sqrtm(root @ S1 @ root + 0.3**2 / 4 * np.eye(4)))
    cross = root @ middle @ np.linalg.inv(root) - 0.3 / 2 * np.eye(4)
    S = lb.gaussian_bridge(np.ones(4), S0, np.zeros(4), S1, 0.3).spreads[0]
    np.testing.assert_allclose(S0 @ S, cross, rtol=1e-8, atol=1e-10)


def test_gaussian_bridge_of_degenerate_distributions():
    S0, S1 = np.diag([0.0, 2.0, 0.0]), np.diag([3.0, 0.0, 0.0])
    full = lb.gaussian_bridge(np.zeros(3), S0, np.zeros(3), S1, 0.5).spreads[0]
    diag = lb.gaussian_bridge(np.zeros(3), np.diag(S0), np.zeros(3), np.diag(S1), 0.5).spreads[0]
    np.testing.assert_allclose(diag, [6.0, 0.0, 0.0])
    np.testing.assert_allclose(full, np.diag(diag), atol=1e-14)


@kinds
def test_device_arrays_stay_where_they_are(xp, full):
    host = mixture(full)
    there = host._replace(**{k: xp.asarray(v) for k, v in host._asdict().items() if k != "epsilon"})
    X, Y = xp.asarray(STARTS), xp.asarray(STARTS[::-1] + 0.3)
    for function in (lb.conditional_mean, lb.conditional_covariance, lb.component_weights,
                     lb.component_means, lb.log_normalizer, lb.log_potential):  # fmt: skip
        found = function(there, X)
        xp.assert_native(found)
        np.testing.assert_allclose(xp.to_numpy(found), function(host, STARTS), rtol=1e-10)
    found = [
        lb.conditional_logpdf(there, X, Y),
        lb.drift(there, X, 0.4),
        lb.sample_end_points(there, X, np.random.default_rng(0)),
        lb.sample_bridge(X, Y, np.array([0.2, 1.0]), EPSILON, np.random.default_rng(0)),
    ]
    ends = STARTS[::-1] + 0.3
    expected = [
        lb.conditional_logpdf(host, STARTS, ends),
        lb.drift(host, STARTS, 0.4),
        lb.sample_end_points(host, STARTS, np.random.default_rng(0)),
        lb.sample_bridge(STARTS, ends, np.array([0.2, 1.0]), EPSILON, np.random.default_rng(0)),
    ]
    for here, reference in zip(found, expected):
        xp.assert_native(here)
        np.testing.assert_allclose(xp.to_numpy(here), reference, rtol=1e-10)
