"""What the known noise says about coefficients and scores, against simulation."""

import math

import numpy as np
import pytest

from sparsestat.privacy._moment_solvers import coef_covariance, holdout_score, solve_moments

from ._noisy_moments import add_noise, autoregressive, exact

# --- standard errors -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sd_diag", "sd_off", "sd_b"),
    [(3e-3, 3e-3 / math.sqrt(2), 1e-3), (4e-3, 1e-3, 0.0), (0.0, 3e-3, 1e-3), (0.0, 0.0, 2e-3)],
)
def test_covariance_by_simulation(sd_diag, sd_off, sd_b):
    theta = np.array([0.7, 0.0, -0.5, 0.0, 0.3])
    S = autoregressive(5)
    moments = exact(S, S @ theta, sd_diag, sd_off, sd_b)
    fit = solve_moments(moments, n_nonzero=3)
    np.testing.assert_allclose(fit.coef, theta, atol=1e-12)
    covariance = coef_covariance(fit, moments)
    rng, n_draws, c = np.random.default_rng(7), 6000, [0, 2, 4]
    draws = [add_noise(moments, rng) for _ in range(n_draws)]
    solved = np.array([np.linalg.solve(d.S[np.ix_(c, c)], d.b[c]) for d in draws])
    empirical, expected = np.cov(solved.T), covariance[np.ix_(c, c)]
    # Standard error of a covariance of normal variables; five of them. The noise is some
    # thousandths of S, so that the linearisation is exact within a few percent of one.
    variances = np.diag(expected)
    error = np.sqrt((np.outer(variances, variances) + expected**2) / n_draws)
    assert np.all(np.abs(empirical - expected) < 5 * error)
    assert not covariance[[1, 3]].any() and not covariance[:, [1, 3]].any()


def test_covariance_of_isotropic_noise():
    """Noise that is isotropic in the symmetric matrices has a covariance in closed form."""
    s, s_b, theta = 0.05, 0.02, np.array([0.6, -0.3])
    S = np.array([[1.0, 0.4], [0.4, 2.0]])
    moments = exact(S, S @ theta, s, s / math.sqrt(2), s_b)
    fit = solve_moments(moments, n_nonzero=2)
    middle = s_b**2 * np.eye(2) + s**2 / 2 * (theta @ theta * np.eye(2) + np.outer(theta, theta))
    expected = np.linalg.inv(S) @ middle @ np.linalg.inv(S)
    np.testing.assert_allclose(coef_covariance(fit, moments), expected, rtol=1e-12)


def test_intervals_cover():
    """Noise of a realistic size, where errors come from the noisy moments themselves."""
    theta = np.array([0.7, 0.0, -0.5, 0.0])
    truth = exact(autoregressive(4, 0.3), autoregressive(4, 0.3) @ theta, 0.04, 0.028, 0.04)
    rng, n_runs, inside = np.random.default_rng(11), 1500, []
    for _ in range(n_runs):
        moments = add_noise(truth, rng)
        fit = solve_moments(moments, n_nonzero=2)
        assert np.array_equal(fit.support, theta != 0)
        deviations = np.sqrt(np.diag(coef_covariance(fit, moments)))
        inside.append(np.abs(fit.coef - theta)[[0, 2]] <= 1.96 * deviations[[0, 2]])
    # Standard error of the share, were the two of a run the same: sqrt(.05 * .95 / 1500)
    # = 0.0056; four of them, and 0.01 for the curvature at this size of noise.
    assert np.mean(inside) == pytest.approx(0.95, abs=0.0225 + 0.01)


# --- the score on other reports ------------------------------------------------------------


def test_score_on_other_reports_by_simulation():
    theta, S = np.array([0.7, -0.4, 0.0, 0.2]), autoregressive(4)
    b = S @ np.array([0.6, -0.5, 0.1, 0.0])
    truth = exact(S, b, 0.1, 0.3, 0.2)
    rng, n_draws = np.random.default_rng(5), 6000
    scores, errors = np.array(
        [holdout_score(theta, add_noise(truth, rng)) for _ in range(n_draws)]
    ).T
    assert np.ptp(errors) == 0.0  # known, and not estimated
    expected = theta @ S @ theta - 2 * b @ theta
    assert scores.mean() == pytest.approx(expected, abs=4 * errors[0] / math.sqrt(n_draws))
    assert scores.std() == pytest.approx(errors[0], rel=4 / math.sqrt(2 * n_draws))
    assert holdout_score(np.zeros(4), truth) == (0.0, 0.0)


def test_score_is_the_mean_squared_error_of_clipped_records():
    rng = np.random.default_rng(6)
    X, y, theta = rng.standard_normal((500, 3)), rng.standard_normal(500), np.array([0.2, 0, -1.0])
    score, error = holdout_score(theta, exact(X.T @ X / 500, X.T @ y / 500))
    assert score == pytest.approx(np.mean((X @ theta - y) ** 2) - np.mean(y**2)) and error == 0.0
