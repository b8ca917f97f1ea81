"""The path of coefficients from one state, and what drawing its noise again tells."""

import copy

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sparsestat.privacy import (
    LabelLDPRegressor,
    LDPSparseRegressor,
    LDPSparseRegressorCV,
    ldp_coef_path,
    support_stability,
)
from sparsestat.privacy._aggregator import MomentAggregator, NoisyMoments
from sparsestat.privacy._config import LDPConfig
from sparsestat.privacy._moment_solvers import solve_moments
from sparsestat.privacy._simulation import simulate_state
from sparsestat.privacy._stability import redrawn

N_FEATURES = 5
SCALE = np.array([1.0, 2.0, 0.5, 4.0, 1.0])
CENTER = np.array([0.0, 1.0, -1.0, 3.0, 0.5])


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((60_000, N_FEATURES))
    y = Z @ [0.7, -0.6, 0.0, 0.0, 0.2] + 0.3 * rng.standard_normal(len(Z))
    return CENTER + SCALE * Z, 2.0 + 3.0 * y


def make(**settings):
    units = {"feature_center": CENTER, "feature_scale": SCALE, "y_center": 2.0, "y_scale": 3.0}
    return LDPSparseRegressor(20.0, random_state=1, **(units | settings))


@pytest.fixture(scope="module")
def fitted(data):
    return make(fit_intercept=True).fit(*data)


def in_public_units(path, config):
    """The documented units, written out: y = 2 + 3 (theta_0 + (x - center) / scale theta)."""
    theta = path.coefs * SCALE[:, None] / 3.0
    first = (path.intercepts - 2.0 + CENTER @ path.coefs) / 3.0
    return np.vstack([first, theta]) if config.fit_intercept else theta


@pytest.mark.parametrize("kind", ["moments", "intercept", "cross", "combined", "state"])
def test_every_point_is_optimal(data, kind):
    X, y = data
    settings = {
        "cross": {"X_public": X[:5000]},
        "combined": {"X_public": X[:100]},
        "intercept": {"fit_intercept": True},
    }
    model = make(coef_bound=2.0, **settings.get(kind, {})).fit(X, y)
    assert model.config_.kind == ("cross" if kind == "cross" else "moments")
    source = model.aggregator_ if kind == "state" else model
    path = ldp_coef_path(source, n_alphas=12, coef_bound=2.0, tol=1e-12)
    assert path.converged and path.coefs.shape == (N_FEATURES, 12)
    S, b = model.moments_.S, model.moments_.b
    free = np.arange(len(b)) < model.config_.fit_intercept
    thetas = in_public_units(path, model.config_)
    # Within the ball, at whose boundary the conditions below would be others.
    assert np.all(np.linalg.norm(thetas[~free], axis=0) < 2.0)
    for alpha, theta in zip(path.alphas, thetas.T, strict=True):
        left = b - S @ theta
        np.testing.assert_allclose(left[free], 0.0, atol=1e-9)
        assert np.all(np.abs(left[~free]) <= alpha + 1e-9)
        active = ~free & (np.abs(theta) > 1e-9)
        np.testing.assert_allclose(left[active], alpha * np.sign(theta[active]), atol=1e-9)


def test_ends_of_the_path(fitted):
    path = ldp_coef_path(fitted, n_alphas=15)
    assert np.all(np.diff(path.alphas) < 0)
    assert path.alphas[-1] == pytest.approx(0.05 * path.alpha_noise)
    np.testing.assert_allclose(path.coefs[:, 0], 0.0, atol=1e-6)
    above = ldp_coef_path(fitted, alphas=path.alphas[0] * np.array([1.001, 2.0]))
    assert not above.coefs.any()
    # Without features the intercept alone is left, the mean of the target over clipped weights.
    m = fitted.moments_
    np.testing.assert_allclose(above.intercepts, 2.0 + 3.0 * m.b[0] / m.S[0, 0], atol=1e-6)
    below = ldp_coef_path(fitted, alphas=[0.999 * path.alphas[0]])
    assert np.count_nonzero(below.coefs) == 1


def test_it_passes_through_single_solutions(fitted, data):
    path = ldp_coef_path(fitted, n_alphas=6, tol=1e-12)
    thetas = in_public_units(path, fitted.config_)
    free = np.arange(N_FEATURES + 1) == 0
    for alpha, theta in zip(path.alphas, thetas.T, strict=True):
        single = solve_moments(
            fitted.moments_, solver="corrected_lasso", alpha=alpha, free=free, tol=1e-12
        )
        np.testing.assert_allclose(theta, single.coef, atol=1e-9)
    lasso = make(fit_intercept=True, solver="corrected_lasso")
    lasso.fit_aggregate(fitted.aggregator_)
    assert path.alpha_noise == pytest.approx(lasso.alpha_, rel=1e-12)
    at_noise = ldp_coef_path(fitted, alphas=[lasso.alpha_])
    np.testing.assert_allclose(at_noise.coefs[:, 0], lasso.coef_, atol=1e-6)
    assert at_noise.intercepts[0] == pytest.approx(lasso.intercept_, abs=1e-6)


def test_its_end_approaches_least_squares_of_the_data(data):
    X, y = data
    config = LDPConfig(
        "moments", N_FEATURES, 50.0, x_bound=3.0, y_bound=8.0, feature_center=tuple(CENTER),
        feature_scale=tuple(SCALE), y_center=2.0, y_scale=3.0,
    )  # fmt: skip
    # Four users with each record halve the noise.
    Z, targets = np.tile((X - CENTER) / SCALE, (4, 1)), np.tile((y - 2.0) / 3.0, 4)
    state = simulate_state(Z, targets, config, np.random.default_rng(3))
    path = ldp_coef_path(state, alphas=[1e-6], tol=1e-12)
    expected = LinearRegression().fit(X, y)
    m = state.moments()
    # The spread that noise gives a coefficient, in public units: at most hypot(sd_diag, sd_b)
    # through the inverse of the Gram matrix; five of them.
    noise = 5 * np.hypot(m.sd_diag, m.sd_b) * np.linalg.norm(np.linalg.inv(m.S), 2)
    assert noise < 0.2
    assert np.all(np.abs(path.coefs[:, 0] - expected.coef_) < noise * 3.0 / SCALE)


def test_penalties_may_come_in_any_order(fitted):
    down = ldp_coef_path(fitted, alphas=[0.3, 0.1, 0.05])
    mixed = ldp_coef_path(fitted, alphas=[0.05, 0.3, 0.1])
    np.testing.assert_array_equal(mixed.alphas, [0.3, 0.1, 0.05])
    np.testing.assert_array_equal(mixed.coefs, down.coefs)


def test_the_bound_on_the_norm(fitted):
    path = ldp_coef_path(fitted, alphas=[1e-3], coef_bound=0.25)
    theta = in_public_units(path, fitted.config_)
    assert np.linalg.norm(theta[1:]) == pytest.approx(0.25)
    # The bound enters the level of the noise: hypot(sd_off * bound, sd_b) * sqrt(2 log 5).
    m = fitted.moments_
    expected = np.hypot(0.25 * m.sd_off, m.sd_b) * np.sqrt(2 * np.log(N_FEATURES))
    assert path.alpha_noise == pytest.approx(expected)


def test_nothing_is_changed(fitted):
    state, coef = fitted.aggregator_.to_bytes(), fitted.coef_.copy()
    ldp_coef_path(fitted.aggregator_, n_alphas=3)
    ldp_coef_path(fitted, n_alphas=3)
    support_stability(fitted, 3, 0)
    assert fitted.aggregator_.to_bytes() == state
    np.testing.assert_array_equal(fitted.coef_, coef)


def test_a_search_has_a_path(data):
    model = LDPSparseRegressorCV(20.0, random_state=0).fit(*data)
    path = ldp_coef_path(model, alphas=[0.1])
    np.testing.assert_array_equal(path.coefs, ldp_coef_path(model.aggregator_, alphas=[0.1]).coefs)


def test_a_path_that_does_not_converge_says_so(fitted):
    with pytest.warns(ConvergenceWarning, match="after 1 iterations"):
        assert not ldp_coef_path(fitted, max_iter=1).converged


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alphas": [0.1, -1.0]}, "alphas must be positive and finite"),
        ({"alphas": [np.inf]}, "alphas must be positive and finite"),
        ({"alphas": []}, r"alphas must have shape \(n_alphas,\), got \(0,\)"),
        ({"alphas": 0.1}, r"alphas must have shape \(n_alphas,\), got \(\)"),
        ({"n_alphas": 0}, "n_alphas must be a positive integer, got 0"),
        ({"n_alphas": 1.5}, "n_alphas must be a positive integer, got 1.5"),
        ({"n_alphas": "many"}, "n_alphas must be a positive integer, got 'many'"),
        ({"coef_bound": "one"}, "coef_bound must be a positive number, got 'one'"),
        ({"coef_bound": 0.0}, "coef_bound must be a positive number"),
        ({"tol": np.nan}, "tol must be a positive number"),
        ({"max_iter": 0}, "max_iter must be a positive integer, got 0"),
        ({"X_public": np.ones((3, N_FEATURES))}, "X_public must be None for an estimator"),
    ],
)
def test_wrong_parameters(fitted, settings, message):
    with pytest.raises(ValueError, match=message):
        ldp_coef_path(fitted, **settings)


@pytest.mark.parametrize("function", [ldp_coef_path, support_stability])
def test_what_has_no_moments_is_refused_with_advice(function, data):
    X, y = data[0][:500], data[1][:500]
    with pytest.raises(NotFittedError):
        function(LDPSparseRegressor())
    pipeline = make_pipeline(FunctionTransformer(), LDPSparseRegressor())
    with pytest.raises(TypeError, match=r"pass its last step, estimator\[-1\]"):
        function(pipeline)
    with pytest.raises(TypeError, match="LabelLDPRegressor keeps none"):
        function(LabelLDPRegressor(20.0, random_state=0).fit(X, y))
    paper = LDPSparseRegressor(delta=1e-5, paper_constants=True, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="fit with paper_constants=False"):
        function(paper)


def test_states_that_have_no_path(data):
    with pytest.raises(TypeError, match="must be a fitted estimator or a MomentAggregator"):
        ldp_coef_path(data)
    with pytest.raises(NotFittedError, match="no reports"):
        ldp_coef_path(MomentAggregator(LDPConfig("moments", 2)))
    cross = MomentAggregator(LDPConfig("cross", 2))
    with pytest.raises(ValueError, match="X_public must hold the public rows"):
        ldp_coef_path(cross.add_sums(np.ones(2, dtype=np.int64), 4, simulated=False))
    with pytest.raises(ValueError, match="X_public must have 2 features"):
        ldp_coef_path(cross, X_public=np.ones((4, 3)))
    with pytest.raises(ValueError, match="'moments' or 'cross', got 'label'"):
        ldp_coef_path(MomentAggregator(LDPConfig("label", 2)))


def test_redrawn_noise_has_the_known_deviations():
    moments = NoisyMoments(np.eye(3), np.arange(3.0), 10, 0.3, 0.1, 0.2)
    rng = np.random.default_rng(0)
    draws = [redrawn(moments, rng) for _ in range(4000)]
    S = np.array([draw.S for draw in draws]) - moments.S
    b = np.array([draw.b for draw in draws]) - moments.b
    np.testing.assert_array_equal(S, S.transpose(0, 2, 1))
    expected = np.full((3, 3), 0.1) + np.diag(np.full(3, 0.2))
    # A deviation from m draws has a relative error of 1 / sqrt(2 m) = 0.011; five of them.
    np.testing.assert_allclose(S.std(axis=0), expected, rtol=0.056)
    np.testing.assert_allclose(b.std(axis=0), 0.2, rtol=0.056)
    # Means and correlations have errors of 1 / sqrt(m) = 0.016 of a deviation; five of them.
    upper = np.column_stack([S[:, *np.triu_indices(3)], b])
    assert np.all(np.abs(upper.mean(axis=0)) < 0.08 * upper.std(axis=0))
    np.testing.assert_allclose(np.corrcoef(upper.T), np.eye(9), atol=0.08)


def with_moments(model, **changes):
    """A copy of a fitted model with other moments."""
    other = copy.copy(model)
    m = model.moments_
    parts = {"S": m.S, "b": m.b, "n_reports": m.n_reports}
    parts |= {"sd_diag": m.sd_diag, "sd_off": m.sd_off, "sd_b": m.sd_b}
    other.moments_ = NoisyMoments(**(parts | changes))
    return other


def test_without_noise_the_selection_is_certain(fitted):
    quiet = with_moments(fitted, sd_diag=0.0, sd_off=0.0, sd_b=0.0)
    quiet.n_nonzero = 2
    frequencies = support_stability(quiet, 5, 0)
    assert sorted(frequencies) == [0, 0, 0, 1, 1]
    np.testing.assert_array_equal(np.flatnonzero(frequencies), [0, 1])


def test_frequencies_of_a_known_law():
    # One feature and a Gram matrix without noise: it is selected if |b + e| exceeds
    # sd_b * sqrt(2 log 2), whose probability the normal distribution gives.
    from scipy.stats import norm

    rng = np.random.default_rng(0)
    model = LDPSparseRegressor(random_state=0, x_bound=1.0, coef_bound=100.0)
    model.fit(rng.standard_normal((50_000, 1)), rng.standard_normal(50_000))
    sd, mean = 0.1, 0.15
    settings = {"S": np.eye(1), "b": np.array([mean]), "sd_diag": 0.0, "sd_off": 0.0, "sd_b": sd}
    model.moments_ = NoisyMoments(n_reports=10, **settings)
    limit = np.sqrt(2 * np.log(2))
    expected = norm.sf(limit - mean / sd) + norm.cdf(-limit - mean / sd)
    n_draws = 2000
    tolerance = 4 * np.sqrt(expected * (1 - expected) / n_draws)
    assert support_stability(model, n_draws, 1)[0] == pytest.approx(expected, abs=tolerance)


def test_stability_of_a_search_keeps_its_choice(data):
    model = LDPSparseRegressorCV(1.0, param_grid={"n_nonzero": [2]}, random_state=0).fit(*data)
    frequencies = support_stability(model, 20, 3)
    assert frequencies.shape == (N_FEATURES,) and frequencies.sum() == pytest.approx(2.0)
    np.testing.assert_array_equal(frequencies, support_stability(model, 20, 3))


@pytest.mark.parametrize("n_draws", [0, -1, 2.5, True, "many"])
def test_number_of_draws(fitted, n_draws):
    with pytest.raises(ValueError, match="n_draws must be a positive integer"):
        support_stability(fitted, n_draws)
