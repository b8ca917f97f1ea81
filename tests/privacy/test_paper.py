"""The paper's constants: mechanisms, sensitivities, and the rates that follow from them."""

import contextlib
import itertools
import math
import warnings

import numpy as np
import pytest
from scipy.stats import chi2, norm

from sparsestat.privacy import _paper
from sparsestat.privacy._paper import (
    PaperMoments,
    add_paper_noise,
    closed_form,
    duchi_ball,
    duchi_scale,
    hard_threshold,
    paper_bounds,
    paper_ldp_iht,
    paper_moments,
    paper_noise_scales,
    paper_threshold,
)
from sparsestat.privacy._records import clip_rows

DELTA = 1e-5


@contextlib.contextmanager
def no_proof_is_needed():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The noise of the paper", UserWarning)
        yield


# --- the mechanism on the ball -------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_ball_mechanism_is_unbiased(dim, share):
    n, radius, epsilon = 100_000, 2.0, 1.0
    rng = np.random.default_rng(dim)
    g = rng.standard_normal(dim)
    g *= share * radius / np.linalg.norm(g)
    released = duchi_ball(np.tile(g, (n, 1)), radius, epsilon, rng)
    length = duchi_scale(dim, radius, epsilon)
    np.testing.assert_allclose(np.linalg.norm(released, axis=1), length, rtol=1e-12)
    # A coordinate is bounded by the length and has the second moment length**2 / dim.
    assert np.max(np.abs(released.mean(axis=0) - g)) <= 4.5 * length / math.sqrt(dim * n)
    # Half-spheres have the second moments of the sphere; the entries of z z' vary by length**2.
    second = released.T @ released / n
    error = np.abs(second - length**2 / dim * np.eye(dim))
    assert np.max(error) <= 4.5 * length**2 / math.sqrt(n) * (dim > 1) + 1e-9


@pytest.mark.parametrize("dim", [1, 2, 20, 1325])
def test_variance_of_the_ball_mechanism(dim):
    # Gamma((d + 1) / 2) / Gamma(d / 2) is sqrt(d / 2) but for a relative error of 1 / (4 d).
    for epsilon in (0.1, 1.0, 4.0):
        limit = math.pi / 2 / math.tanh(epsilon / 2) ** 2 * 9.0
        ratio = duchi_scale(dim, 3.0, epsilon) ** 2 / dim / limit
        assert 1 - 1 / dim <= ratio <= 1
        if dim > 1:
            assert ratio == pytest.approx(1 - 1 / (2 * dim), abs=1 / dim**2)
    assert duchi_scale(1, 3.0, 1.0) == pytest.approx(3.0 * (math.e + 1) / (math.e - 1))


def test_likelihoods_of_the_ball_mechanism():
    n, epsilon = 400_000, 1.2
    rng = np.random.default_rng(0)
    counts = []
    for sign in (1.0, -1.0):
        z = duchi_ball(np.tile([sign, 0.0], (n, 1)), 1.0, epsilon, rng)
        angles = np.arctan2(z[:, 1], z[:, 0])
        counts.append(np.histogram(angles, bins=np.linspace(-np.pi, np.pi, 9))[0])
    ratios = np.log(counts[0] / counts[1])
    # The extreme records lie on poles: every angle has a ratio of e^epsilon or its inverse.
    error = np.sqrt(1 / counts[0] + 1 / counts[1])
    exact = np.where(np.abs(np.linspace(-np.pi, np.pi, 9)[:-1] + np.pi / 8) < np.pi / 2, 1, -1)
    assert np.all(np.abs(ratios - exact * epsilon) <= 4.5 * error)


def test_records_outside_the_ball_are_refused():
    with pytest.raises(ValueError, match=r"norm of at most radius=1\.0, got .*1\.25"):
        duchi_ball(np.array([[0.75, 1.0]]), 1.0, 1.0, np.random.default_rng(0))


def test_mechanisms_are_reproducible_and_leave_their_input_alone():
    G = np.array([[0.5, 0.0], [0.0, 0.0]])
    first, second = (duchi_ball(G, 1.0, 1.0, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first, second)
    assert G.tolist() == [[0.5, 0.0], [0.0, 0.0]]


# --- moments -------------------------------------------------------------------------------


def test_largest_distance_of_two_gram_matrices():
    r, angles = 1.7, np.linspace(0, np.pi, 201)
    circle = r * np.column_stack([np.cos(angles), np.sin(angles)])
    rng = np.random.default_rng(0)
    wild = np.vstack([5 * circle, 10 * rng.standard_normal((200, 2)), np.zeros((1, 2))])
    records, _ = clip_rows(wild, r)
    grams = records[:, :, None] * records[:, None, :]
    distances = np.linalg.norm(grams[:, None] - grams, axis=(2, 3))
    assert 0.9999 <= np.max(distances) / (math.sqrt(2) * r**2) <= 1 + 1e-9
    # What is released is the upper triangle: the off-diagonal entry counts once.
    upper = grams[:, [0, 0, 1], [0, 1, 1]]
    released = np.linalg.norm(upper[:, None] - upper, axis=2)
    assert 0.9999 <= np.max(released) / (math.sqrt(2) * r**2) <= 1 + 1e-9


@pytest.mark.parametrize("d", [1, 2, 3])
def test_largest_distance_of_two_cross_moments(d):
    x_bound, y_bound = 1.3, 0.6
    rng = np.random.default_rng(0)
    corners = np.array(list(itertools.product([-9.0, 9.0], repeat=d)))
    X = np.clip(np.vstack([corners, rng.standard_normal((200, d))]), -x_bound, x_bound)
    y = np.clip(np.append(np.full(len(corners), 9.0), rng.standard_normal(200)), -y_bound, y_bound)
    moments = np.vstack([X * y[:, None], -X * y[:, None]])
    largest = np.max(np.linalg.norm(moments[:, None] - moments, axis=2))
    assert largest == pytest.approx(2 * math.sqrt(d) * x_bound * y_bound)


def test_noise_has_the_variances_of_the_paper():
    d, epsilon, (r, tau1, tau2) = 7, 0.8, (3.0, 1.5, 2.0)
    sd_S, sd_b = paper_noise_scales(d, epsilon, DELTA, (r, tau1, tau2))
    assert sd_S**2 == pytest.approx(32 * r**4 * math.log(2.5 / DELTA) / epsilon**2)
    assert sd_b**2 == pytest.approx(32 * d * tau1**2 * tau2**2 * math.log(2.5 / DELTA) / epsilon**2)
    # The classic Gaussian mechanism for half of the budget.
    classic = math.sqrt(2 * math.log(1.25 / (DELTA / 2))) / (epsilon / 2)
    assert (sd_S, sd_b) == pytest.approx(
        (2 * r**2 * classic, 2 * math.sqrt(d) * tau1 * tau2 * classic)
    )
    public_S, public_b = paper_noise_scales(d, epsilon, DELTA, (r, tau1, tau2), public=True)
    assert public_S == 0
    assert public_b**2 == pytest.approx(
        8 * d * tau1**2 * tau2**2 * math.log(1.25 / DELTA) / epsilon**2
    )


def test_noise_of_the_mean_is_drawn_once():
    rng = np.random.default_rng(0)
    S, b = np.diag([1.0, 2.0, 3.0]), np.arange(3.0)
    draws = [
        add_paper_noise(S, b, 10**12, 1.0, DELTA, x_norm_bound=2.0, x_bound=1.0, y_bound=1.0,
                        rng=rng)
        for _ in range(2000)
    ]  # fmt: skip
    sd_S, sd_b = paper_noise_scales(3, 1.0, DELTA, (2.0, 1.0, 1.0))
    assert (draws[0].sd_S, draws[0].sd_b) == pytest.approx((sd_S / 1e6, sd_b / 1e6))
    noise_S = np.array([draw.S - S for draw in draws]) / draws[0].sd_S
    noise_b = np.array([draw.b - b for draw in draws]) / draws[0].sd_b
    assert np.array_equal(noise_S, noise_S.transpose(0, 2, 1))
    entries = np.column_stack([noise_S[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]], noise_b])
    # Nine independent standard normal entries; 54 moments beyond 4.5 errors in 4e-4 of all runs.
    assert np.max(np.abs(entries.mean(axis=0))) <= 4.5 / math.sqrt(2000)
    covariance = entries.T @ entries / 2000 - np.eye(9)
    assert np.max(np.abs(covariance)) <= 4.5 * math.sqrt(2 / 2000)


def test_moments_are_means_of_clipped_records():
    rng = np.random.default_rng(0)
    X, y = 3 * rng.standard_normal((40, 3)), 3 * rng.standard_normal(40)
    bounds = {"x_norm_bound": 2.5, "x_bound": 1.0, "y_bound": 2.0}
    S, b = np.zeros((3, 3)), np.zeros(3)
    for x, target in zip(X, y, strict=True):
        short = x * min(1.0, 2.5 / math.sqrt(sum(value**2 for value in x)))
        S += np.outer(short, short) / 40
        b += [min(max(value, -1), 1) * min(max(target, -2), 2) / 40 for value in x]
    # So much budget that nothing is left of the noise.
    with pytest.warns(UserWarning, match="private up to epsilon=2, got 1000000000"):
        moments = paper_moments(X, y, 1e9, DELTA, rng=rng, **bounds)
    np.testing.assert_allclose(moments.S, S, atol=1e-6)
    np.testing.assert_allclose(moments.b, b, atol=1e-6)
    public = rng.standard_normal((8, 3))
    with pytest.warns(UserWarning, match="private up to epsilon=1, got 1000000000"):
        moments = paper_moments(X, y, 1e9, DELTA, X_public=public, rng=rng, **bounds)
    np.testing.assert_allclose(moments.S, np.mean([np.outer(x, x) for x in public], axis=0))
    np.testing.assert_allclose(moments.b, b, atol=1e-6)
    assert moments.sd_S == 0 < moments.sd_b


def test_where_the_formula_is_a_proof():
    # Warnings are errors here.
    paper_noise_scales(2, 2.0, DELTA, (1.0, 1.0, 1.0))
    paper_noise_scales(2, 1.0, DELTA, (1.0, 1.0, 1.0), public=True)
    for epsilon, public in [(2.01, False), (1.01, True)]:
        with pytest.warns(UserWarning, match=f"got {epsilon}; use an analytic Gaussian"):
            paper_noise_scales(2, epsilon, DELTA, (1.0, 1.0, 1.0), public=public)


def test_default_bounds_and_errors():
    n, d = 1000, 4
    log_n = math.log(n)
    assert paper_bounds(n, d) == pytest.approx(
        (math.sqrt(d * log_n), math.sqrt(log_n), math.sqrt(log_n))
    )
    assert paper_bounds(1, d, x_norm_bound=1, x_bound=2, y_bound=3) == (1.0, 2.0, 3.0)
    with pytest.raises(ValueError, match=r"x_norm_bound must be positive .* for 1 users"):
        paper_bounds(1, d)
    with pytest.raises(ValueError, match="y_bound must be positive and finite, got inf"):
        paper_bounds(n, d, y_bound=math.inf)
    with pytest.raises(ValueError, match="epsilon must be positive and finite, got nan"):
        paper_noise_scales(d, math.nan, DELTA, (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match=r"delta must be in \(0, 1\), got 0"):
        paper_noise_scales(d, 1.0, 0, (1.0, 1.0, 1.0))


def test_closed_form():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((6, 4))
    S, raw = A.T @ A, np.array([1.0, -0.4, 0.1, -0.1])
    np.testing.assert_allclose(closed_form(S, S @ raw, 0.3), [0.7, -0.1, 0.0, 0.0], atol=1e-12)
    # Fewer public rows than features: the shortest solution.
    S = A[:2].T @ A[:2]
    short = closed_form(S, S @ raw, 0.0)
    np.testing.assert_allclose(S @ short, S @ raw, atol=1e-10)
    np.testing.assert_allclose(short, np.linalg.pinv(A[:2]) @ A[:2] @ raw, atol=1e-10)


def test_hard_threshold_keeps_the_first_of_equals():
    v = np.array([1.0, -2.0, 2.0, -1.0, 1.0])
    assert hard_threshold(v, 3).tolist() == [1.0, -2.0, 2.0, 0.0, 0.0]
    assert hard_threshold(v, 9).tolist() == v.tolist()


# --- rates ---------------------------------------------------------------------------------


def wishart_moments(n, d, k, rng, noise=0.5):
    """Moments of n standard normal records, by Bartlett's decomposition: n can be anything.

    With bounds of sqrt(log n) clipping concerns about d / sqrt(n) of them, far below the noise.
    """
    A = np.tril(rng.standard_normal((d, d)), -1)
    A[np.diag_indices(d)] = np.sqrt(rng.chisquare(n - np.arange(d)))
    A /= math.sqrt(n)
    coef = np.zeros(d)
    coef[:k] = 1 / math.sqrt(k)
    S = A @ A.T
    # Given the features, X' noise / n is normal with covariance noise**2 S / n.
    return S, S @ coef + noise / math.sqrt(n) * (A @ rng.standard_normal(d)), coef


def squared_errors(n, d, k, epsilon, rng, n_runs=1000):
    errors = []
    for _ in range(n_runs):
        S, b, coef = wishart_moments(n, d, k, rng)
        with no_proof_is_needed():
            moments = add_paper_noise(S, b, n, epsilon, DELTA, rng=rng)
        found = closed_form(moments.S, moments.b, paper_threshold(moments))
        errors.append(np.sum((found - coef) ** 2))
    return np.array(errors)


def predicted_error(n, d, k, epsilon):
    """Root mean squared error to the second order in the noise, for uncorrelated features.

    An entry of the raw estimate is off by a normal variable of the deviation s of ``S theta -
    b``, and on the support by ``d sd_S**2 theta`` on average, as ``E (I + N)^-1 = I + E N^2``.
    Soft thresholding at ``t s`` takes ``t s`` off the support and leaves of the others what is
    beyond.
    """
    with no_proof_is_needed():
        sd_S, sd_b = paper_noise_scales(d, epsilon, DELTA, paper_bounds(n, d))
    sd_S, sd_b = sd_S / math.sqrt(n), sd_b / math.sqrt(n)
    s, t = math.hypot(sd_S, sd_b), math.sqrt(2 * math.log(d))
    support = (t * s - d * sd_S**2 / math.sqrt(k)) ** 2 + s**2
    others = 2 * s**2 * ((1 + t**2) * norm.sf(t) - t * norm.pdf(t))
    return math.sqrt(k * support + (d - k) * others)


RATES = {
    "n": ([(10**m, 10, 3, 1.0) for m in (11, 12, 13)], 0, (-0.5, 0.05)),
    "epsilon": ([(10**12, 10, 3, e) for e in (0.5, 1.0, 2.0, 4.0)], 3, (-1.0, 0.05)),
    "d": ([(10**13, d, 3, 1.0) for d in (5, 10, 20, 40)], 1, (1.1, 0.1)),
    "k": ([(10**13, 40, k, 1.0) for k in (2, 4, 8, 16)], 2, (0.5, 0.1)),
}


@pytest.mark.parametrize("variable", list(RATES))
def test_error_of_the_algorithm_follows_its_rate(variable):
    # d sqrt(k) / (sqrt(n) epsilon) but for logarithms: of n in both bounds, of d in the threshold.
    settings, position, (slope, logarithms) = RATES[variable]
    rng = np.random.default_rng(position)
    logs, log_errors, largest = [], [], 0.0
    for setting in settings:
        squared = squared_errors(*setting, rng)
        error = math.sqrt(squared.mean())
        monte_carlo = squared.std() / math.sqrt(len(squared)) / squared.mean() / 2
        n, d, _, epsilon = setting
        # What was left out: the third order, three times the relative size of the second.
        with no_proof_is_needed():
            sd_S = paper_noise_scales(d, epsilon, DELTA, paper_bounds(n, d))[0] / math.sqrt(n)
        tolerance = 4 * monte_carlo + 3 * d * sd_S**2
        assert tolerance < 0.12
        assert abs(error / predicted_error(*setting) - 1) <= tolerance
        logs.append(math.log(setting[position]))
        log_errors.append(math.log(error))
        largest = max(largest, monte_carlo)
    found = np.polyfit(logs, log_errors, 1)[0]
    error = largest / math.sqrt(np.sum((np.array(logs) - np.mean(logs)) ** 2))
    assert abs(found - slope) <= logarithms + 4 * error


def test_small_samples_find_nothing():
    # At d = 10 and epsilon = 1 the zero estimate, of error 1, is not beaten by 1e7 users.
    rng = np.random.default_rng(0)
    assert np.median(np.sqrt(squared_errors(10**7, 10, 3, 1.0, rng))) >= 0.95


def test_support_is_within_the_true_one_for_enough_users():
    # Seven entries of noise exceed sqrt(2 log 10) deviations with probability 0.2 in all; at
    # twice the threshold with 1e-4.
    rng = np.random.default_rng(0)
    for _ in range(50):
        S, b, coef = wishart_moments(10**12, 10, 3, rng)
        moments = add_paper_noise(S, b, 10**12, 1.0, DELTA, rng=rng)
        found = closed_form(moments.S, moments.b, 2 * paper_threshold(moments))
        assert np.array_equal(found != 0, coef != 0)


def test_public_rows_leave_a_floor():
    # (S_public^-1 - I) theta, with |theta| = 1, has the mean square (d + 1) / m, and about 3 d / m
    # of that more.
    rng = np.random.default_rng(0)
    d, m, floors = 10, 400, {}
    for n in (10**11, 10**13):
        squared = []
        for _ in range(200):
            _, b, coef = wishart_moments(n, d, 3, rng)
            S = wishart_moments(m, d, 3, rng)[0]
            moments = add_paper_noise(S, b, n, 1.0, DELTA, public=True, rng=rng)
            squared.append(np.sum((closed_form(moments.S, moments.b, 0.0) - coef) ** 2))
        floors[n] = math.sqrt(np.mean(squared))
        # A chi-squared variable of ten degrees has a relative deviation of 0.45, the root of a mean
        # of 200 of them one of 0.016.
        assert floors[n] == pytest.approx(math.sqrt((d + 1) / m), rel=4 * 0.016 + 1.5 * d / m)


def test_one_bit_reports_need_ten_thousand_times_fewer_users():
    """By the noise alone, at l2 error 0.2 for d = 10, k = 3, epsilon = 1.

    One bit of the joint moment vector, clipped at r = sqrt(d) and tau = 2.5, has entries of
    deviation s = sqrt(pi / 2) coth(1 / 2) R per user; off the diagonal s / sqrt(2), and s / gamma
    in the cross moments. Refitting the support then has the noise of ``S theta - b`` there, over
    the mean of the squared clipped features.
    """
    d, k, tau, target = 10, 3, 2.5, 0.2
    radius = d * math.sqrt(1.5)
    gamma = math.sqrt(0.5 * d) / tau
    s = math.sqrt(math.pi / 2) / math.tanh(0.5) * radius
    noise = k * (s**2 / 2 + (s / gamma) ** 2) + s**2 / 2
    # E min(|x|^2, d) / d for a chi-squared |x|^2 of d degrees.
    kept = chi2.cdf(d, d + 2) + chi2.sf(d, d)
    assert 0.8 < kept < 0.9
    ours = noise / kept**2 / target**2
    assert 1e5 < ours < 3e5
    # The paper's algorithm, thresholded as above, falls slowly in n: bisect.
    low, high = 1e8, 1e13
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        reached = predicted_error(middle, d, k, 1.0) <= target
        low, high = (low, middle) if reached else (middle, high)
    assert high >= 1e4 * ours


# --- iterative hard thresholding -----------------------------------------------------------


def rademacher(n, d, rng):
    return rng.choice([-1.0, 1.0], size=(n, d))


def test_iterations_reach_the_coefficients_but_for_noise():
    # Signs as features have the identity as their Gram matrix, and nothing is clipped: a step
    # of length 1 lands at the truth, plus the mean noise of a group and of the Gram matrix.
    rng = np.random.default_rng(0)
    d, n_rounds, size = 4, 3, 60_000
    coef = np.array([0.0, 0.8, 0.0, 0.0])
    X = rademacher(n_rounds * size, d, rng)
    result = paper_ldp_iht(X, X @ coef, 3.0, 1, n_rounds=n_rounds, x_bound=1, y_bound=1, rng=rng)
    assert result.radius == math.sqrt(d) * (math.sqrt(4) + 1)
    sd = duchi_scale(d, result.radius, 3.0) / math.sqrt(d * size)
    assert result.coefs.shape == (4, d) and not np.any(result.coefs[0])
    for now in result.coefs[1:]:
        assert np.max(np.abs(now - coef)) <= 4.5 * sd
    assert 4.5 * sd < 0.2
    assert np.array_equal(result.coef, result.coefs[-1])


def test_users_of_a_round_are_new_and_their_gradients_clipped(monkeypatch):
    rng = np.random.default_rng(0)
    X, y = 2 * rng.standard_normal((103, 6)), 3 * rng.standard_normal(103)
    seen = []

    def exact(G, radius, epsilon, rng):
        seen.append(G)
        assert np.all(np.linalg.norm(G, axis=1) <= radius)
        return G

    monkeypatch.setattr(_paper, "duchi_ball", exact)
    result = paper_ldp_iht(
        X, y, 1.0, 1, n_rounds=5, step=0.3, truncation_factor=2, x_bound=1.0, y_bound=1.5, rng=rng
    )
    assert [len(G) for G in seen] == [20] * 5
    theta = np.zeros(6)
    for t in range(5):
        total = np.zeros(6)
        for i in range(20 * t, 20 * t + 20):
            x = np.minimum(np.maximum(X[i], -1.0), 1.0)
            total += x * (x @ theta - min(max(y[i], -1.5), 1.5))
        theta = theta - 0.3 * total / 20
        theta[np.argsort(np.abs(theta))[:4]] = 0.0
        theta /= max(1.0, np.linalg.norm(theta))
        np.testing.assert_allclose(result.coefs[t + 1], theta, atol=1e-12)
    assert np.max(np.linalg.norm(result.coefs, axis=1)) <= 1 + 1e-12
    assert np.all(np.count_nonzero(result.coefs[1:], axis=1) == 2)


def test_bound_on_gradients_is_attained():
    # All features and the target at their bounds, and theta along them: with eight times one of
    # eight coefficients nothing is slack.
    d, x_bound, y_bound = 8, 1.4, 0.7
    result = paper_ldp_iht(
        np.zeros((50, d)), np.zeros(50), 1.0, 1, x_bound=x_bound, y_bound=y_bound,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    x, theta = np.full(d, x_bound), np.full(d, 1 / math.sqrt(d))
    assert np.linalg.norm(x * (x @ theta + y_bound)) == pytest.approx(result.radius)
    assert len(result.coefs) == 1 + math.ceil(math.log(50))


def test_settings_of_the_paper_find_nothing():
    # Noise of B / sqrt(d m) = 1.5 per coordinate against coefficients of 0.6: on the unit ball the
    # iterates are nearly random directions, about sqrt(2) from the truth. One in a hundred of
    # those is within 1, the error of zero.
    d, n, errors = 20, 20_000, []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        coef = np.zeros(d)
        coef[:3] = 1 / math.sqrt(3)
        X = rng.standard_normal((n, d))
        y = X @ coef + 0.5 * rng.standard_normal(n)
        result = paper_ldp_iht(X, y, 1.0, 3, rng=rng)
        noise = duchi_scale(d, result.radius, 1.0) / math.sqrt(d * (n // (len(result.coefs) - 1)))
        assert noise > 1.5
        errors.append(np.linalg.norm(result.coef - coef))
    assert min(errors) > 1.0


def test_rounds_must_have_users():
    with pytest.raises(ValueError, match="n_rounds must be between 1 and the number of users 4"):
        paper_ldp_iht(np.ones((4, 2)), np.ones(4), 1.0, 1, n_rounds=5, rng=None)


def test_threshold_without_gram_noise():
    moments = PaperMoments(np.eye(3), np.zeros(3), 0.0, 2.0)
    assert paper_threshold(moments) == pytest.approx(2 * math.sqrt(2 * math.log(3)))
    alone = PaperMoments(np.eye(1), np.zeros(1), 3.0, 4.0)
    assert paper_threshold(alone) == pytest.approx(5 * math.sqrt(2 * math.log(2)))
