"""Plans: the formulas against integrals and simulation, and the estimators at what was planned."""

import math

import numpy as np
import pytest
from scipy import stats

from sparsestat.privacy._aggregator import NoisyMoments
from sparsestat.privacy._config import LDPConfig
from sparsestat.privacy._iht_server import LDPIHTServer
from sparsestat.privacy._moment_solvers import solve_moments
from sparsestat.privacy._planning import (
    mean_clipped_square,
    plan_ldp,
    selection_risk,
)
from sparsestat.privacy._simulation import simulate_state


def rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


def random_truth(d, k, rng, norm=1.0):
    theta = np.zeros(d)
    theta[rng.choice(d, size=k, replace=False)] = rng.choice([-1, 1], k) * norm / math.sqrt(k)
    return theta


# --------------------------------------------------------------------------------------------
# The formulas.


@pytest.mark.parametrize("d", [1, 2, 7, 40])
@pytest.mark.parametrize("factor", [0.3, 1.0, 5.0])
def test_mean_clipped_square_is_its_integral(d, factor):
    radius = factor * math.sqrt(d)
    law = stats.chi2(d)
    inside = law.expect(lambda q: q, lb=0, ub=radius**2)
    expected = (inside + radius**2 * law.sf(radius**2)) / d
    assert mean_clipped_square(d, radius) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("d", "k"), [(40, 10), (400, 40), (3000, 300)])
@pytest.mark.parametrize("noise", [0.15, 0.3, 0.5, 1.0])
def test_selection_risk_by_simulation(d, k, noise):
    """The threshold is that of infinitely many coefficients, so that small d differ a little."""
    n_runs = 60_000 // d
    rng = np.random.default_rng(d)
    truth = np.zeros(d)
    truth[:k] = 1.0
    noisy = truth + noise * rng.standard_normal((n_runs, d))
    kept = np.argsort(-np.abs(noisy), axis=1)[:, :k]
    estimate = np.zeros_like(noisy)
    np.put_along_axis(estimate, kept, np.take_along_axis(noisy, kept, axis=1), axis=1)
    error, miss_rate = selection_risk(d, k, 1.0, noise)
    assert rms(np.linalg.norm(estimate - truth, axis=1)) == pytest.approx(error, rel=0.05)
    # 60000 / d runs of k trials, and a share of k / d at least 0.1: 6000 trials, three times
    # whose standard error is 0.02.
    assert np.mean(kept >= k) == pytest.approx(miss_rate, abs=0.02)


def test_selection_risk_at_its_ends():
    assert selection_risk(5, 5, 1.0, 0.2) == (pytest.approx(0.2 * math.sqrt(5)), 0.0)
    # With hardly any noise, that of the true coefficients is all there is.
    error, miss_rate = selection_risk(1000, 9, 1.0, 0.01)
    assert error == pytest.approx(0.03, rel=1e-9)
    assert miss_rate < 1e-12
    # With nothing but noise, k of d are drawn at random.
    assert selection_risk(50, 5, 1e-9, 1.0)[1] == pytest.approx(0.9, abs=1e-6)


# --------------------------------------------------------------------------------------------
# The estimators at the planned number of users.

CELLS = [
    (d, k, epsilon, target)
    for (d, k), epsilon in zip(
        [(5, 2), (5, 3), (10, 2), (10, 3), (20, 2), (20, 3), (50, 4)],
        [0.5, 1.0, 2.0, 4.0, 0.5, 1.0, 2.0],
    )
    for target in (0.1, 0.2, 0.3)
]


def solved_error(kind, d, k, epsilon, n, rng, norm=1.0, gram=None, coef_bound=2.0):
    """One estimate from moments that are exact but for the noise of the reports."""
    config = LDPConfig(kind, d, epsilon)
    scale = config.noise_scale / math.sqrt(n)
    theta = random_truth(d, k, rng, norm)
    S = mean_clipped_square(d, config.x_bound) * np.eye(d) if gram is None else gram
    b = S @ theta
    if kind == "cross":
        moments = NoisyMoments(S, b + scale * rng.standard_normal(d), n, 0.0, 0.0, scale)
    else:
        N = np.triu(rng.standard_normal((d, d)), 1) * scale / math.sqrt(2)
        N = N + N.T + np.diag(scale * rng.standard_normal(d))
        b = b + scale / config.gamma * rng.standard_normal(d)
        sds = scale, scale / math.sqrt(2), scale / config.gamma
        moments = NoisyMoments(S + N, b, n, *sds)
    fit = solve_moments(moments, n_nonzero=k, coef_bound=coef_bound)
    return np.linalg.norm(fit.coef - theta), np.mean(fit.coef[theta != 0] == 0)


@pytest.mark.parametrize("kind", ["moments", "cross"])
@pytest.mark.parametrize(("d", "k", "epsilon", "target"), CELLS)
def test_moments_reach_the_target(kind, d, k, epsilon, target):
    """With the noise of the planned users the error is within a fifth of the target, or less.

    The ball is larger here than what was planned for, as nothing is gained from it then. Few
    coefficients select better than the infinitely many of the formula, by up to a third where
    failures of the selection make up most of the error.
    """
    rng = np.random.default_rng(d + k)
    n = plan_ldp(d, k, epsilon, target, kind=kind).n_users
    errors = [solved_error(kind, d, k, epsilon, n, rng)[0] for _ in range(120)]
    # The squared error has a coefficient of variation of about 1 for k = 2 and of 2 where some
    # selections fail, so that the root mean square of 120 has a standard error of 5 to 9 %.
    assert 0.65 * target < rms(errors) < 1.2 * target
    assert np.median(errors) < 1.05 * target


def test_the_boundary_of_the_ball_helps():
    rng = np.random.default_rng(1)
    n = plan_ldp(10, 3, 1.0, 0.2).n_users
    errors = [solved_error("moments", 10, 3, 1.0, n, rng, coef_bound=1.0)[0] for _ in range(300)]
    # Half of the variance along the truth, one of three directions, is cut off at least.
    assert 0.55 * 0.2 < rms(errors) < 0.95 * 0.2


@pytest.mark.parametrize("n_users", [60_000, 120_000, 250_000, 1_000_000])
def test_predicted_error_away_from_the_target(n_users):
    """From where selection fails half of the time to where it never does."""
    rng = np.random.default_rng(2)
    plan = plan_ldp(10, 3, 1.0, n_users=n_users)
    runs = [solved_error("moments", 10, 3, 1.0, n_users, rng, coef_bound=1.0) for _ in range(200)]
    errors, missed = zip(*runs)
    assert 0.6 < rms(errors) / plan.error < 1.15
    # 600 coefficients, of which those of one run go together: three errors are below 0.1.
    assert np.mean(missed) == pytest.approx(plan.miss_rate, abs=0.12)


def test_correlated_features_are_on_the_safe_side():
    d, k, target = 8, 2, 0.2
    rng = np.random.default_rng(3)
    covariance = 0.5 ** np.abs(np.subtract.outer(np.arange(d), np.arange(d)))
    X = rng.multivariate_normal(np.zeros(d), covariance, size=100_000)
    X *= np.minimum(1.0, math.sqrt(d) / np.linalg.norm(X, axis=1))[:, None]
    smallest = np.linalg.eigvalsh(covariance)[0]
    n = plan_ldp(d, k, 1.0, target, min_eigenvalue=smallest).n_users
    gram = X.T @ X / len(X)
    errors = [solved_error("moments", d, k, 1.0, n, rng, gram=gram)[0] for _ in range(150)]
    assert 0.2 * target < rms(errors) < target
    # Without the eigenvalue the plan would be too small.
    n = plan_ldp(d, k, 1.0, target).n_users
    errors = [solved_error("moments", d, k, 1.0, n, rng, gram=gram)[0] for _ in range(150)]
    assert rms(errors) > 1.1 * target


def records(n, theta, rng):
    X = rng.standard_normal((n, len(theta)))
    return X, X @ theta + 0.5 * rng.standard_normal(n)


@pytest.mark.parametrize(("d", "k", "target"), [(5, 2, 0.2), (5, 3, 0.3), (10, 3, 0.3)])
def test_reports_of_users_reach_the_target(d, k, target):
    """Records, reports, aggregation and solution, nothing of which is left out."""
    rng = np.random.default_rng(4)
    config = LDPConfig("moments", d, 4.0)
    n = plan_ldp(d, k, 4.0, target).n_users
    errors = []
    for _ in range(20):
        theta = random_truth(d, k, rng)
        moments = simulate_state(*records(n, theta, rng), config, rng).moments()
        fit = solve_moments(moments, n_nonzero=k, coef_bound=2.0)
        errors.append(np.linalg.norm(fit.coef - theta))
    # Of 20 runs the standard error is up to 15 %.
    assert 0.5 * target < rms(errors) < 1.4 * target


@pytest.mark.parametrize(
    ("d", "k", "target", "n_rounds"),
    [(5, 2, 0.1, 4), (5, 3, 0.2, 3), (10, 3, 0.1, 4), (10, 2, 0.2, 8), (20, 3, 0.2, 4)],
)
def test_rounds_reach_the_target(d, k, target, n_rounds):
    rng = np.random.default_rng(5)
    plan = plan_ldp(d, k, 4.0, target, kind="gradient", n_rounds=n_rounds)
    config = LDPConfig("gradient", d, 4.0)
    errors = []
    for _ in range(40):
        theta = random_truth(d, k, rng)
        server = LDPIHTServer(config, n_nonzero=k, n_rounds=n_rounds, allow_simulated=True)
        for _ in range(n_rounds):
            X, y = records(plan.n_users // n_rounds, theta, rng)
            server.ingest(simulate_state(X, y, config, rng, query=server.query())).close_round()
        errors.append(np.linalg.norm(server.theta_ - theta))
    # 40 runs: a standard error of 8 to 13 %; on the boundary of the ball.
    assert 0.55 * target < rms(errors) < 1.3 * target


# --------------------------------------------------------------------------------------------
# What a plan says.


@pytest.mark.parametrize("kind", ["moments", "cross", "gradient"])
@pytest.mark.parametrize(
    ("mechanism", "delta"), [("one_bit", 0.0), ("duchi", 0.0), ("discrete_gaussian", 1e-6)]
)
def test_two_of_three_give_the_third(kind, mechanism, delta):
    options = {"kind": kind, "mechanism": mechanism, "delta": delta}
    plan = plan_ldp(10, 3, 1.5, 0.25, **options)
    assert plan.error == pytest.approx(0.25, rel=1e-4)
    assert plan.error <= 0.25
    assert plan_ldp(10, 3, 1.5, n_users=plan.n_users, **options).error == plan.error
    back = plan_ldp(10, 3, target_error=0.25, n_users=plan.n_users, **options)
    assert back.epsilon == pytest.approx(1.5, rel=1e-4)
    config = LDPConfig(kind, 10, 1.5, mechanism=mechanism, delta=delta)
    assert (plan.report_noise, plan.report_size) == (config.noise_scale, config.report_size)
    # One user less does not do.
    assert plan_ldp(10, 3, 1.5, n_users=plan.n_users - 1, **options).error > 0.25
    assert plan.predicted_error(plan.n_users) == plan.error
    errors = plan.predicted_error([1, 100, 10**4, 10**6, 10**8])
    assert np.all(np.diff(errors) <= 0) and errors[0] == pytest.approx(math.sqrt(2))


def test_small_errors_follow_the_rate():
    """Far above the threshold of selection: n = s^2 k / (lambda error)^2, by hand."""
    d, k, error = 16, 4, 1e-3
    lam = mean_clipped_square(d, 4.0)
    for epsilon, n_bits in [(0.5, 1), (2.0, 1), (6.0, 3)]:
        s = math.sqrt(math.pi / 2 / n_bits) / math.tanh(epsilon / (2 * n_bits))
        cross = k * (s * 4.0 * 2.5 / (lam * error)) ** 2
        assert plan_ldp(d, k, epsilon, error, kind="cross").n_users == pytest.approx(
            cross, rel=1e-4
        )
        rounds = k * (s * 4.0 * 1.5 / (lam * error)) ** 2 * 5 / 4
        plan = plan_ldp(d, k, epsilon, error, kind="gradient", n_rounds=5)
        assert plan.n_users == pytest.approx(rounds, rel=1e-4)
        # R^2 = 2 r^4, and gamma = r / 2.5 for the bound 2.5 on the target.
        moments = k * (s * 16 * math.sqrt(2) / (lam * error)) ** 2 * (2.5**2 / 16 + 0.5)
        plan = plan_ldp(d, k, epsilon, error)
        assert plan.n_users == pytest.approx(moments, rel=1e-4)
        assert plan.miss_rate == pytest.approx(0.0, abs=1e-12)


def test_weak_coefficients_need_more_users():
    equal = plan_ldp(20, 4, 1.0, n_users=10**6)
    # Four equal coefficients of a norm of one are a half each.
    assert repr(plan_ldp(20, 4, 1.0, n_users=10**6, min_coef=0.5)) == repr(equal)
    weak = plan_ldp(20, 4, 1.0, n_users=10**6, min_coef=0.2)
    assert weak.miss_rate > 10 * equal.miss_rate
    assert weak.coef_noise == equal.coef_noise


def test_tables():
    d, epsilon = np.array([[5], [10], [20]]), [0.5, 1, 2, 4]
    plan = plan_ldp(d, 2, epsilon, 0.2)
    assert plan.n_users.shape == plan.error.shape == plan.n_features.shape == (3, 4)
    assert plan.n_users.dtype.kind == "i"
    assert np.all(np.diff(plan.n_users, axis=0) > 0) and np.all(np.diff(plan.n_users, axis=1) < 0)
    single = plan_ldp(10, 2, 2.0, 0.2)
    assert isinstance(single.n_users, int) and isinstance(single.error, float)
    assert plan.n_users[1, 2] == single.n_users
    np.testing.assert_array_equal(plan.predicted_error(plan.n_users), plan.error)
    assert plan.predicted_error(10**5).shape == (3, 4)
    lines = repr(plan).splitlines()
    assert len(lines) == 2 + 12
    assert f"{plan.n_users[0, 0]:,}" in lines[2] and "0.5" in lines[2]
    assert len(repr(single).splitlines()) == 3
    pd = pytest.importorskip("pandas")
    table = plan.to_frame()
    assert isinstance(table, pd.DataFrame)
    assert table.loc[6, "n_users"] == single.n_users
    assert list(table)[:4] == ["n_features", "n_nonzero", "epsilon", "n_users"]


def test_out_of_reach():
    plan = plan_ldp(10, 3, target_error=0.2, n_users=[5, 10**6])
    assert math.isinf(plan.epsilon[0]) and 0.4 < plan.epsilon[1] < 0.8
    assert math.isnan(plan.error[0]) and plan.report_size[0] == 0
    assert np.isnan(plan.predicted_error(10)).tolist() == [True, False]
    # The least epsilon that is looked at, and the least number of users.
    assert plan_ldp(2, 1, target_error=0.5, n_users=10**15).epsilon == 1e-3
    assert plan_ldp(2, 2, 50.0, 0.9, kind="cross", y_bound=1e-3).n_users == 1
    with pytest.raises(ValueError, match=r"more than 2\*\*55 users at epsilon=0.001"):
        plan_ldp(100, 3, 1e-3, 1e-4)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"epsilon": 1.0}, ValueError, "exactly one of epsilon, target_error and n_users must"),
        ({"epsilon": 1.0, "target_error": 0.1, "n_users": 5}, ValueError, "got 0 that are None"),
        ({"kind": "label"}, ValueError, r"kind must be one of \['moments', 'cross', 'gradient'\]"),
        ({"mechanism": "laplace"}, ValueError, "mechanism must be one of"),
        ({"epsilon": 0.0}, ValueError, "epsilon must be above 0 and at most 50, got 0.0"),
        ({"epsilon": [1.0, math.nan]}, ValueError, "epsilon must be above 0"),
        ({"epsilon": "small"}, TypeError, "epsilon must be a number"),
        ({"target_error": 1.0}, ValueError, "target_error must be above 0 and below 1, got 1.0"),
        ({"target_error": -0.1}, ValueError, "target_error must be above 0"),
        ({"n_features": 10.0}, TypeError, "n_features must be an integer"),
        ({"n_nonzero": 0}, ValueError, "n_nonzero must be at least 1"),
        ({"n_nonzero": 11}, ValueError, "n_nonzero must be at most n_features=10, got 11"),
        ({"epsilon": [1, 2], "target_error": [0.1] * 3}, ValueError, r"shapes \(\), \(\), \(2,\)"),
        ({"coef_bound": 0.0}, ValueError, "coef_bound must be positive"),
        ({"coef_bound": "1"}, TypeError, "coef_bound must be a number"),
        ({"min_coef": -1.0}, ValueError, "min_coef must be positive"),
        ({"min_eigenvalue": math.inf}, ValueError, "min_eigenvalue must be positive and finite"),
        ({"n_rounds": 1}, ValueError, "n_rounds must be at least 2, got 1"),
        ({"n_rounds": 4.0}, TypeError, "n_rounds must be an integer"),
        ({"delta": 1e-6}, ValueError, "one_bit.* is pure: set delta=0"),
        ({"mechanism": "gaussian"}, ValueError, "needs delta above 0"),
        ({"x_bound": "auto"}, ValueError, "x_bound must be a number that is known before"),
    ],
)
def test_bad_arguments(arguments, error, match):
    with pytest.raises(error, match=match):
        if arguments == {"epsilon": 1.0}:
            plan_ldp(10, 3, **arguments)
        options = {"n_features": 10, "n_nonzero": 3, "epsilon": 1.0, "target_error": 0.2}
        plan_ldp(**{**options, **arguments})


def test_bad_users():
    plan = plan_ldp(10, 3, 1.0, 0.2)
    with pytest.raises(ValueError, match="n_users must be positive"):
        plan.predicted_error([100, 0])
    with pytest.raises(ValueError, match="n_users must be above 0"):
        plan_ldp(10, 3, 1.0, n_users=-5)
