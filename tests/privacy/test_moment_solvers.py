"""Solvers of noisy moments: optimality, independent witnesses, and noise that is as known."""

import math
from dataclasses import replace
from itertools import combinations, product

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.linear_model import orthogonal_mp_gram

from sparsestat.privacy._aggregator import NoisyMoments
from sparsestat.privacy._config import LDPConfig
from sparsestat.privacy._moment_solvers import (
    coef_covariance,
    floored_inverse,
    lasso_coefficients,
    solve_moments,
)
from sparsestat.privacy._planning import mean_clipped_square

from ._noisy_moments import add_noise, autoregressive, exact, random_gram

SOLVERS = ["matching_pursuit", "topk_refit", "corrected_lasso", "closed_form"]


def quadratic(theta, S, b):
    return theta @ S @ theta / 2 - b @ theta


# --- the corrected lasso -------------------------------------------------------------------


def check_stationary(theta, S, b, alpha, bound, free, atol=1e-6):
    """Conditions of Karush, Kuhn and Tucker, written out; the multiplier is that of the ball."""
    left = b - S @ theta
    inside = theta[~free]
    norm = np.linalg.norm(inside)
    assert norm <= bound * (1 + 1e-12)
    multiplier = 0.0
    if norm > bound * (1 - 1e-9):
        multiplier = (left[~free] @ inside - alpha * np.abs(inside).sum()) / norm**2
        assert multiplier >= -atol
    np.testing.assert_allclose(left[free], 0.0, atol=atol)
    slack = (left - multiplier * theta)[~free]
    active = inside != 0
    np.testing.assert_allclose(slack[active], alpha * np.sign(inside[active]), atol=atol)
    assert np.all(np.abs(slack) <= alpha + atol)


@pytest.mark.parametrize("bound", [0.3, 10.0])
@pytest.mark.parametrize("n_free", [0, 1])
@pytest.mark.parametrize("seed", range(3))
def test_corrected_lasso_is_the_minimum_of_a_convex_form(seed, n_free, bound):
    D, alpha = 7, 0.15
    rng = np.random.default_rng(seed)
    S, b = random_gram(D, rng), rng.standard_normal(D)
    free = np.arange(D) < n_free
    fit = solve_moments(
        exact(S, b), solver="corrected_lasso", alpha=alpha, coef_bound=bound, free=free, tol=1e-12,
        max_iter=20_000,
    )  # fmt: skip
    assert fit.converged and fit.alpha == alpha
    x = cp.Variable(D)
    penalty = alpha * cp.norm1(x[n_free:])
    form = cp.quad_form(x, cp.psd_wrap(S)) / 2 - b @ x
    cp.Problem(cp.Minimize(form + penalty), [cp.norm2(x[n_free:]) <= bound]).solve(
        solver="CLARABEL"
    )
    np.testing.assert_allclose(fit.coef, x.value, atol=1e-4)
    assert (np.linalg.norm(fit.coef[n_free:]) > 0.999 * bound) == (bound == 0.3)
    check_stationary(fit.coef, S, b, alpha, bound, free)
    np.testing.assert_array_equal(fit.support, fit.coef != 0)


@pytest.mark.parametrize("seed", range(6))
def test_corrected_lasso_is_stationary_for_an_indefinite_matrix(seed):
    rng = np.random.default_rng(100 + seed)
    A = rng.standard_normal((8, 8))
    S = np.eye(8) + 0.35 * (A + A.T)
    np.fill_diagonal(S, 1.0)
    assert np.linalg.eigvalsh(S)[0] < -0.2
    b = rng.standard_normal(8)
    options = {"solver": "corrected_lasso", "alpha": 0.1, "tol": 1e-12, "max_iter": 100_000}
    fit = solve_moments(exact(S, b), **options)
    assert fit.converged and math.isinf(fit.condition_number)
    check_stationary(fit.coef, S, b, 0.1, 1.0, np.zeros(8, dtype=bool))
    # The iterations begin at zero and never go up.
    objective = quadratic(fit.coef, S, b) + 0.1 * np.abs(fit.coef).sum()
    assert objective < 0
    for max_iter in (1, 2, 5):
        early = solve_moments(exact(S, b), **(options | {"max_iter": max_iter}))
        assert not early.converged and early.n_iter == max_iter
        assert quadratic(early.coef, S, b) + 0.1 * np.abs(early.coef).sum() >= objective


def test_penalty_of_the_corrected_lasso_from_the_noise():
    # Largest deviation of a correlation for coefficients in the ball, times sqrt(2 log 4).
    moments = exact(np.eye(4), [0.9, 0.1, 0.0, 0.0], sd_diag=0.05, sd_off=0.03, sd_b=0.02)
    fit = solve_moments(moments, solver="corrected_lasso", coef_bound=2.0)
    alpha = math.hypot(2.0 * 0.03, 0.02) * math.sqrt(2 * math.log(4))
    assert fit.alpha == pytest.approx(alpha)
    np.testing.assert_allclose(fit.coef, [0.9 - alpha, 0, 0, 0], atol=1e-7)
    np.testing.assert_allclose(fit.threshold, alpha)


def test_path_agrees_with_single_solutions_and_the_convex_solver():
    rng = np.random.default_rng(4)
    S, b = random_gram(6, rng), rng.standard_normal(6) * 0.2
    moments = exact(S, b, 0.02, 0.014, 0.02)
    alphas, coefs, noise, converged = lasso_coefficients(
        moments, 25, coef_bound=5.0, tol=1e-12, max_iter=50_000
    )
    assert converged and coefs.shape == (6, 25) and np.all(np.diff(alphas) < 0)
    assert alphas[0] == pytest.approx(np.max(np.abs(b)))
    assert alphas[-1] == pytest.approx(0.05 * noise)
    assert noise == pytest.approx(math.hypot(5 * 0.014, 0.02) * math.sqrt(2 * math.log(6)))
    assert np.count_nonzero(coefs[:, 0]) == 0
    assert np.count_nonzero(coefs[:, 1]) >= 1
    x, alpha = cp.Variable(6), cp.Parameter(nonneg=True)
    form = cp.quad_form(x, cp.psd_wrap(S)) / 2 - b @ x
    problem = cp.Problem(cp.Minimize(form + alpha * cp.norm1(x)), [cp.norm2(x) <= 5.0])
    for index in (3, 12, 24):
        alpha.value = alphas[index]
        problem.solve(solver="CLARABEL")
        np.testing.assert_allclose(coefs[:, index], x.value, atol=1e-4)
    given = lasso_coefficients(moments, alphas[[5, 9]], coef_bound=5.0, tol=1e-12, max_iter=50_000)
    np.testing.assert_allclose(given[1], coefs[:, [5, 9]], atol=1e-9)
    # A path that is cut short says so.
    assert not lasso_coefficients(moments, 3, coef_bound=5.0, max_iter=1)[3]


def test_path_without_any_signal():
    moments = exact(np.eye(3), np.zeros(3), 0.1, 0.07, 0.1)
    alphas, coefs, noise, converged = lasso_coefficients(moments, 5)
    assert converged and not coefs.any()
    np.testing.assert_allclose(alphas[[0, -1]], [noise, 0.05 * noise])


# --- matching pursuit ----------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 4, 8])
@pytest.mark.parametrize("seed", range(4))
def test_matching_pursuit_is_that_of_scikit_learn(seed, k):
    rng = np.random.default_rng(seed)
    S, b = random_gram(8, rng, unit_diagonal=True), rng.standard_normal(8)
    values = np.linalg.eigvalsh(S)
    assert values[0] > 0.05 * values[-1]  # so that no eigenvalue is raised
    fit = solve_moments(exact(S, b), solver="matching_pursuit", n_nonzero=k, coef_bound=1e3)
    np.testing.assert_allclose(fit.coef, orthogonal_mp_gram(S, b, n_nonzero_coefs=k), atol=1e-10)
    assert np.count_nonzero(fit.support) == k and fit.alpha == 0.0 and fit.converged


def best_subset(S, b, k):
    def value(columns):
        c = list(columns)
        return -b[c] @ np.linalg.solve(S[np.ix_(c, c)], b[c])

    return set(min(combinations(range(len(b)), k), key=value))


@pytest.mark.parametrize("seed", range(4))
def test_best_subsets_by_enumeration(seed):
    """Greedy is optimal for one column, and for any number that are not correlated."""
    rng = np.random.default_rng(seed)
    S, b = random_gram(7, rng), rng.standard_normal(7)
    one = solve_moments(exact(S, b), solver="matching_pursuit", n_nonzero=1, coef_bound=1e3)
    assert set(np.flatnonzero(one.support)) == best_subset(S, b, 1)
    S = np.diag(rng.uniform(0.5, 2.0, 7))
    for k in (2, 3, 6):
        fit = solve_moments(exact(S, b), solver="matching_pursuit", n_nonzero=k, coef_bound=1e3)
        columns = best_subset(S, b, k)
        assert set(np.flatnonzero(fit.support)) == columns
        expected = np.where(np.isin(np.arange(7), list(columns)), b / np.diag(S), 0.0)
        np.testing.assert_allclose(fit.coef, expected, atol=1e-12)


def test_columns_enter_while_they_exceed_the_noise_of_what_is_left():
    sd_off, sd_b, spread = 0.05, 0.02, math.sqrt(2 * math.log(5))
    # Once the first coefficient is known, its noise is part of every other correlation.
    empty, with_first = spread * sd_b, spread * math.hypot(0.6 * sd_off, sd_b)
    assert with_first > 1.5 * empty

    def fit(first, second):
        b = np.array([first, second, 0.0, 0.0, 0.0])
        return solve_moments(exact(np.eye(5), b, 0.07, sd_off, sd_b))

    assert fit(0.999 * empty, 0.0).support.sum() == 0
    assert fit(0.999 * empty, 0.0).alpha == pytest.approx(empty)
    assert fit(1.001 * empty, 0.0).support.sum() == 1
    assert fit(0.6, 0.999 * with_first).support.sum() == 1
    assert fit(0.6, 0.999 * with_first).alpha == pytest.approx(with_first)
    assert fit(0.6, 1.001 * with_first).support.sum() == 2
    np.testing.assert_allclose(fit(0.6, 0.0).threshold, empty)


def test_given_strength_of_matching_pursuit():
    moments = exact(np.eye(3), [0.5, -0.3, 0.1], 0.1, 0.07, 0.1)
    for alpha, size in ((0.6, 0), (0.4, 1), (0.2, 2), (0.05, 3)):
        fit = solve_moments(moments, alpha=alpha)
        assert fit.support.sum() == size and fit.alpha == alpha
        np.testing.assert_allclose(fit.coef, np.where(fit.support, moments.b, 0.0), atol=1e-12)
        np.testing.assert_allclose(fit.threshold, alpha)


@pytest.mark.parametrize("D", [3, 10])
def test_how_often_noise_alone_is_taken_for_a_signal(D):
    """Independent correlations, each beyond its limit with the probability of a normal law."""
    n_runs, rng = 3000, np.random.default_rng(D)
    moments = exact(np.eye(D), np.zeros(D), 0.0, 0.0, 0.3)
    hits = sum(
        solve_moments(add_noise(moments, rng), coef_bound=50.0).support.any() for _ in range(n_runs)
    )
    expected = 1 - (1 - 2 * stats.norm.sf(math.sqrt(2 * math.log(D)))) ** D
    # Four standard errors of a share.
    tolerance = 4 * math.sqrt(expected * (1 - expected) / n_runs)
    assert hits / n_runs == pytest.approx(expected, abs=tolerance)


def test_strength_is_the_noise_that_a_kept_column_leaves_to_the_others():
    """Simulated noise of ``b - S theta`` where an intercept of 2 is all that explains."""
    truth = exact(np.eye(4), [2.0, 0.0, 0.0, 0.0], 0.004, 0.003, 0.002)
    free = np.arange(4) == 0
    fit = solve_moments(truth, free=free)
    np.testing.assert_array_equal(fit.support, free)
    np.testing.assert_allclose(fit.coef, truth.b)  # not within the ball
    rng, n_draws = np.random.default_rng(0), 4000
    draws = [add_noise(truth, rng) for _ in range(n_draws)]
    left = np.array([draw.b - draw.S @ truth.b for draw in draws])[:, ~free]
    # All three have one deviation, whose relative error is 1 / sqrt(2 * 3 * n_draws).
    deviation = math.sqrt(np.mean(left**2))
    limit = deviation * math.sqrt(2 * math.log(3))
    assert fit.alpha == pytest.approx(limit, rel=4 / math.sqrt(6 * n_draws))


# --- the closed form and the refit of the largest ------------------------------------------


def test_closed_form_by_hand():
    S = autoregressive(4)
    raw = np.array([0.5, -0.2, 0.04, 0.0])
    moments = exact(S, S @ raw)
    options = {"solver": "closed_form", "alpha": 0.1, "coef_bound": 5.0}
    hard = solve_moments(moments, threshold="hard", **options)
    np.testing.assert_allclose(hard.coef, [0.5, -0.2, 0, 0], atol=1e-12)
    soft = solve_moments(moments, threshold="soft", **options)
    np.testing.assert_allclose(soft.coef, [0.4, -0.1, 0, 0], atol=1e-12)
    refit = solve_moments(moments, **options)
    expected = np.linalg.solve(S[:2, :2], moments.b[:2])
    np.testing.assert_allclose(refit.coef, [*expected, 0, 0], atol=1e-12)
    for fit in (hard, soft, refit):
        np.testing.assert_array_equal(fit.support, [True, True, False, False])
        assert fit.alpha == 0.1 and fit.eigenvalue_floor == 0.0
    assert hard.condition_number == pytest.approx(np.linalg.cond(S))
    assert refit.condition_number == pytest.approx(np.linalg.cond(S[:2, :2]))
    free = np.arange(4) == 2
    kept = solve_moments(moments, threshold="soft", free=free, **options)
    np.testing.assert_allclose(kept.coef, [0.4, -0.1, 0.04, 0.0], atol=1e-12)


def test_limits_of_the_closed_form_are_the_noise_of_raw_coefficients():
    # For coefficients (1, 0, 0, 0) and equal deviations of S, its noise adds to each
    # correlation independently and equally, as the limits suppose.
    theta = np.array([1.0, 0.0, 0.0, 0.0])
    S = autoregressive(4)
    moments = exact(S, S @ theta, 2e-3, 2e-3, 1e-3)
    fit = solve_moments(moments, solver="closed_form", coef_bound=1.0)
    rng, n_draws = np.random.default_rng(1), 4000
    draws = [add_noise(moments, rng) for _ in range(n_draws)]
    raw = np.array([np.linalg.solve(draw.S, draw.b) for draw in draws])
    # The relative error of a deviation is 1 / sqrt(2 n_draws); four of them, and the second
    # order of a noise of 2e-3 beside it.
    np.testing.assert_allclose(
        fit.threshold,
        raw.std(axis=0) * math.sqrt(2 * math.log(4)),
        rtol=4 / math.sqrt(2 * n_draws) + 4e-3,
    )
    np.testing.assert_array_equal(fit.support, [True, False, False, False])


def test_largest_are_refitted():
    S, theta = autoregressive(6), np.array([0.5, 0.0, -0.4, 0.0, 0.3, 0.0])
    moments = exact(S, S @ theta, 1e-3, 7e-4, 1e-3)
    fit = solve_moments(moments, solver="topk_refit", n_nonzero=3)
    np.testing.assert_allclose(fit.coef, theta, atol=1e-12)
    np.testing.assert_array_equal(fit.support, theta != 0)
    two = solve_moments(moments, solver="topk_refit", n_nonzero=2)
    expected = np.linalg.solve(S[np.ix_([0, 2], [0, 2])], moments.b[[0, 2]])
    np.testing.assert_allclose(two.coef[[0, 2]], expected, atol=1e-12)
    assert not two.coef[[1, 3, 4, 5]].any()
    # This penalty keeps the first alone.
    one = solve_moments(moments, solver="topk_refit", alpha=0.35)
    np.testing.assert_array_equal(np.flatnonzero(one.support), [0])


@pytest.mark.parametrize("solver", ["matching_pursuit", "topk_refit", "closed_form"])
def test_as_many_as_were_asked_for_although_noise_hides_them(solver):
    moments = exact(np.eye(4), [0.6, 0.001, 0.02, 0.01], 0.1, 0.07, 0.1)
    for k, columns in ((2, [0, 2]), (3, [0, 2, 3]), (4, [0, 1, 2, 3])):
        fit = solve_moments(moments, solver=solver, n_nonzero=k)
        np.testing.assert_array_equal(np.flatnonzero(fit.support), columns)


def test_noise_in_a_column_of_small_units_hides_no_signal():
    # By itself the last column would explain as much as the first by a coefficient of 100.
    moments = exact(np.diag([1, 1, 1e-4]), [0.6, 0.5, 0.01], 1e-5, 1e-5, 0.02)
    for k in (None, 2):
        fit = solve_moments(moments, solver="matching_pursuit", n_nonzero=k)
        np.testing.assert_allclose(fit.coef, [0.6, 0.5, 0.0], atol=1e-12)


def test_noise_of_refitted_coefficients_counts_in_what_they_leave():
    # With a public Gram matrix: a correlation of 0.9 carries the noise of the first
    # coefficient over, so that what is left has the variance (1 + 0.81) sd_b^2.
    S = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])
    limit = 0.01 * math.sqrt(1 + 0.81) * math.sqrt(2 * math.log(3))

    def size(left):
        moments = exact(S, [0.8, 0.72 - left, 0.0], sd_b=0.01)
        return solve_moments(moments).support.sum()

    assert size(0.99 * limit) == 1 and size(1.01 * limit) == 2


@pytest.mark.parametrize("solver", SOLVERS)
def test_ties_go_to_the_first(solver):
    moments = exact(np.eye(6), [0.0, 0.3, -0.3, 0.3, 0.3, 0.0], 1e-3, 7e-4, 1e-3)
    for k in (1, 2, 3):
        fit = solve_moments(moments, solver=solver, n_nonzero=k)
        np.testing.assert_array_equal(np.flatnonzero(fit.coef), np.arange(1, k + 1))


# --- what is left out, raised, or too large ------------------------------------------------


def test_small_eigenvalues_are_raised():
    rng = np.random.default_rng(0)
    vectors = np.linalg.qr(rng.standard_normal((4, 4)))[0]

    def matrix(*values):
        return (vectors * np.array(values)) @ vectors.T

    S = matrix(2.0, 1.0, 0.5, 0.2)
    inverse, floor, condition = floored_inverse(S)
    np.testing.assert_allclose(inverse, np.linalg.inv(S), atol=1e-10)
    assert floor == 0.0 and condition == pytest.approx(10.0)
    inverse, floor, condition = floored_inverse(matrix(2.0, 1.0, 0.5, 0.01))
    np.testing.assert_allclose(inverse, np.linalg.inv(matrix(2.0, 1.0, 0.5, 0.1)), atol=1e-10)
    assert floor == pytest.approx(0.1) and condition == pytest.approx(200.0)
    inverse, floor, condition = floored_inverse(matrix(2.0, 1.0, 0.5, -3.0))
    np.testing.assert_allclose(inverse, np.linalg.inv(matrix(2.0, 1.0, 0.5, 0.1)), atol=1e-10)
    assert floor == pytest.approx(0.1) and math.isinf(condition)
    inverse, floor, condition = floored_inverse(matrix(-1.0, -2.0, 0.0, -1.0) - np.eye(4))
    assert not inverse.any() and floor == 0.0 and math.isinf(condition)


def test_raised_eigenvalues_are_reported():
    S = np.array([[1.0, 0.99], [0.99, 1.0]])
    fit = solve_moments(
        exact(S, [0.5, 0.4]), solver="matching_pursuit", n_nonzero=2, coef_bound=1e3
    )
    assert fit.eigenvalue_floor == pytest.approx(0.05 * 1.99)
    assert fit.condition_number == pytest.approx(1.99 / 0.01)
    # The difference of the columns is divided by the floor instead of by 0.01.
    total, difference = 0.9 / 1.99, 0.1 / (0.05 * 1.99)
    np.testing.assert_allclose(fit.coef, [(total + difference) / 2, (total - difference) / 2])


@pytest.mark.parametrize("solver", SOLVERS)
def test_columns_that_the_noise_hides_are_left_out(solver):
    S = np.diag([1.0, 0.199, 0.201, -0.5, 0.1])
    moments = exact(S, [0.1, 1.0, 0.2, 1.0, 0.1], sd_diag=0.1, sd_off=0.0, sd_b=0.001)
    free = np.arange(5) == 4
    fit = solve_moments(moments, solver=solver, coef_bound=10.0, free=free)
    np.testing.assert_array_equal(fit.support, [True, False, True, False, True])
    np.testing.assert_array_equal(np.isinf(fit.threshold), [False, True, False, True, False])
    # Without noise a column of zeros is still no column.
    quiet = exact(np.diag([1.0, 0.0]), [0.5, 0.5])
    fit = solve_moments(quiet, solver=solver, n_nonzero=2)
    np.testing.assert_allclose(fit.coef, [0.5, 0.0], atol=1e-7)
    assert not fit.support[1]


@pytest.mark.parametrize("solver", SOLVERS)
def test_coefficients_are_scaled_into_the_ball(solver):
    b = np.array([5.0, 3.0, -4.0, 0.0])
    moments = exact(np.eye(4), b, 1e-3, 7e-4, 1e-3)
    free = np.arange(4) == 0
    fit = solve_moments(
        moments, solver=solver, n_nonzero=2, threshold="hard", alpha=1e-3, free=free, coef_bound=0.5
    )
    assert fit.coef[0] == pytest.approx(5.0)  # kept and not bounded
    np.testing.assert_allclose(fit.coef[1:], [0.3, -0.4, 0.0], atol=1e-3)
    assert np.linalg.norm(fit.coef[1:]) == pytest.approx(0.5)


DEGENERATE = {
    "one column": exact([[1.0]], [0.5], 0.1, 0.07, 0.1),
    "one column lost": exact([[-1.0]], [0.5], 0.1, 0.07, 0.1),
    "nothing": exact(np.zeros((3, 3)), np.zeros(3)),
    "no correlation": exact(np.eye(3), np.zeros(3), 0.1, 0.07, 0.1),
    "all lost": exact(np.eye(3), np.ones(3), 10.0, 7.0, 10.0),
    "negative definite": exact(-np.eye(3), np.ones(3), 0.1, 0.07, 0.1),
    "noise alone": add_noise(
        exact(np.eye(8), np.zeros(8), 50.0, 35.0, 50.0), np.random.default_rng(0)
    ),
    "copies of a column": exact(np.ones((4, 4)), np.ones(4), 1e-3, 7e-4, 1e-3),
    "large noise": exact(1e12 * np.eye(3), 1e12 * np.ones(3), 1e11, 1e14, 1e14),
}


@pytest.mark.parametrize("name", DEGENERATE)
@pytest.mark.parametrize("solver", ["auto", *SOLVERS])
def test_whatever_comes_is_decided(solver, name):
    moments = DEGENERATE[name]
    D = len(moments.b)
    for threshold, k, alpha, keep in product(
        ["refit", "hard", "soft"], [None, 1, D], ["auto", 0.0, 0.3], [False, True]
    ):
        free = np.zeros(D, dtype=bool)
        free[0] = keep
        fit = solve_moments(
            moments, solver=solver, threshold=threshold, n_nonzero=k, alpha=alpha, free=free
        )
        covariance = coef_covariance(fit, moments)
        assert np.all(np.isfinite(fit.coef)) and np.all(np.isfinite(covariance))
        assert not np.any(np.isnan(fit.threshold)) and not math.isnan(fit.alpha)
        assert fit.condition_number >= 1 and fit.n_iter >= 1
        assert not fit.coef[~fit.support].any() and not covariance[~fit.support].any()
        assert np.linalg.norm(fit.coef[~free]) <= 1 + 1e-12
        assert np.linalg.eigvalsh(covariance)[0] >= -1e-9 * np.abs(covariance).max()
        if name in ("nothing", "one column lost", "negative definite", "all lost") and not keep:
            assert not fit.coef.any() and not fit.support.any()
            assert np.all(np.isinf(fit.threshold))
        if k is not None:
            assert np.count_nonzero(fit.coef[~free]) <= k


# --- symmetries ----------------------------------------------------------------------------


@st.composite
def noisy_problems(draw):
    D = draw(st.integers(1, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sd = draw(st.sampled_from([0.02, 0.1, 0.4]))
    S = random_gram(D, rng)
    truth = exact(S, S @ rng.standard_normal(D), sd, sd / math.sqrt(2), 0.8 * sd)
    options = {
        "solver": draw(st.sampled_from(SOLVERS)),
        "threshold": draw(st.sampled_from(["refit", "hard", "soft"])),
        "n_nonzero": draw(st.sampled_from([None, 1, D])),
        "tol": 1e-10,
        "max_iter": 50,
    }
    return add_noise(truth, rng), options, rng


@given(noisy_problems())
@settings(max_examples=150, deadline=None)
def test_the_order_of_columns_does_not_matter(problem):
    moments, options, rng = problem
    fit = solve_moments(moments, **options)
    order = rng.permutation(len(moments.b))
    mixed = replace(moments, S=moments.S[np.ix_(order, order)], b=moments.b[order])
    again = solve_moments(mixed, **options)
    np.testing.assert_allclose(again.coef, fit.coef[order], atol=1e-8)
    np.testing.assert_array_equal(again.support, fit.support[order])
    np.testing.assert_allclose(again.threshold, fit.threshold[order])


@given(noisy_problems(), st.sampled_from([-3.0, -1.0, 0.25]), st.sampled_from([0.5, 4.0]))
@settings(max_examples=150, deadline=None)
def test_units_do_not_matter(problem, target, feature):
    """Coefficients of a target in other units and of features in other units."""
    moments, options, _ = problem
    fit = solve_moments(moments, **options)
    size = abs(target) / feature
    scaled = NoisyMoments(
        moments.S * feature**2,
        moments.b * target * feature,
        moments.n_reports,
        moments.sd_diag * feature**2,
        moments.sd_off * feature**2,
        moments.sd_b * abs(target) * feature,
    )
    again = solve_moments(scaled, coef_bound=size, **options)
    factor = math.copysign(size, target)
    np.testing.assert_allclose(again.coef, factor * fit.coef, atol=1e-8 * size)
    np.testing.assert_array_equal(again.support, fit.support)
    np.testing.assert_allclose(again.threshold, size * fit.threshold)


# --- how good the default is ---------------------------------------------------------------


def normal_campaign(d, k, n, seed):
    """Moments of clipped normal features with the noise of one bit per user at epsilon 1.

    The sampling error of the records is left out: it is of the order of a hundredth at these
    numbers of users, and the noise of several hundredths and more.
    """
    rng = np.random.default_rng([d, n, seed])
    config = LDPConfig("moments", d)
    theta = np.zeros(d)
    theta[rng.choice(d, k, replace=False)] = rng.choice([-1, 1], k) / math.sqrt(k)
    S = mean_clipped_square(d, config.x_bound) * np.eye(d)
    s = config.noise_scale / math.sqrt(n)
    return theta, add_noise(exact(S, S @ theta, s, s / math.sqrt(2), s / config.gamma), rng)


def errors_of(d, k, n, n_runs=40, **options):
    errors = []
    for seed in range(n_runs):
        theta, moments = normal_campaign(d, k, n, seed)
        errors.append(np.linalg.norm(solve_moments(moments, **options).coef - theta))
    return np.array(errors)


def test_default_with_many_users():
    default = np.median(errors_of(10, 3, 300_000))
    # The median of 40 runs has a standard error of about 0.01 around 0.16.
    assert default < 0.2
    assert np.median(errors_of(10, 3, 300_000, n_nonzero=3)) < 0.2
    # The shrinkage of the soft threshold costs more than twice as much.
    for options in ({"solver": "corrected_lasso"}, {"solver": "closed_form", "threshold": "soft"}):
        assert np.median(errors_of(10, 3, 300_000, **options)) > 2 * default


def test_default_with_far_too_few_users():
    errors = errors_of(20, 3, 10_000, n_runs=80)
    # Zero has an error of 1. About every fourth run takes noise for a signal, and none leaves
    # the ball that the coefficients are known to be in.
    assert np.median(errors) == pytest.approx(1.0)
    assert np.mean(errors > 1.0) < 0.5
    assert np.max(errors) < 2.0
