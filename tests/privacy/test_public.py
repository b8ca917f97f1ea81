"""Units, bounds and Gram matrices from public rows."""

import numpy as np
import pandas as pd
import pytest

from sparsestat.privacy import LDPConfig, LDPSparseRegressor, NoisyMoments, bounds_from_public
from sparsestat.privacy._public import combined_gram, public_gram

from ._campaigns import exact_moments, records

ROWS = np.array([[1.0, 10.0, 5.0], [3.0, 10.0, -5.0], [5.0, 10.0, 5.0], [7.0, 10.0, -5.0]])


# --- bounds ------------------------------------------------------------------------------------


def test_bounds_by_hand():
    settings = bounds_from_public(ROWS, [1.0, 1.0, 5.0, 9.0])
    assert settings["feature_center"] == (4.0, 10.0, 0.0)
    # The second column is constant: its unit is one.
    assert settings["feature_scale"] == pytest.approx((np.sqrt(5.0), 1.0, 5.0))
    # Norms are the square roots of 9/5 + 1 twice, and of 1/5 + 1 twice.
    assert settings["x_bound"] == pytest.approx((np.sqrt(2.8) + np.sqrt(1.2)) / 2)
    assert (settings["y_center"], settings["y_scale"]) == pytest.approx((4.0, np.sqrt(11.0)))
    assert settings["y_bound"] == pytest.approx(
        np.quantile([3.0, 3.0, 1.0, 5.0], 0.99) / np.sqrt(11.0)
    )
    assert set(bounds_from_public(ROWS)) == {"feature_center", "feature_scale", "x_bound"}
    LDPConfig("moments", 3, **settings)


def test_bounds_count_the_intercept_and_the_share_of_targets():
    with_intercept = bounds_from_public(ROWS, fit_intercept=True)
    assert with_intercept["x_bound"] == pytest.approx((np.sqrt(3.8) + np.sqrt(2.2)) / 2)
    y = np.arange(101.0)
    settings = bounds_from_public(np.ones((101, 1)), y, y_quantile=0.5)
    assert settings["y_bound"] * settings["y_scale"] == pytest.approx(25.0)
    everything = bounds_from_public(np.ones((101, 1)), y, y_quantile=1.0)
    assert everything["y_bound"] * everything["y_scale"] == pytest.approx(50.0)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e9])
def test_constant_rows_give_bounds_that_can_be_used(value):
    settings = bounds_from_public(np.full((7, 2), value), np.full(7, value))
    assert settings["feature_scale"] == (1.0, 1.0)
    assert settings["y_scale"] == settings["x_bound"] == settings["y_bound"] == 1.0
    LDPConfig("moments", 2, **settings)


def test_spread_beside_a_large_mean():
    rng = np.random.default_rng(0)
    X = 1e9 + rng.standard_normal((1000, 1))
    assert bounds_from_public(X)["feature_scale"][0] == pytest.approx(X.std())


def test_bounds_of_a_frame_serve_an_estimator():
    X, y, coef = records(20_000)
    X = 3.0 + 5.0 * X
    settings = bounds_from_public(pd.DataFrame(X[:500], columns=list("abcd")), y[:500])
    model = LDPSparseRegressor(20.0, n_nonzero=2, random_state=0, **settings).fit(X, y)
    np.testing.assert_array_equal(model.support_, coef != 0)
    assert np.all(np.abs(5 * model.coef_ - coef) < 0.15)


@pytest.mark.parametrize(
    ("X", "y", "options", "message"),
    [
        (ROWS[:1], None, {}, "minimum of 2 is required"),
        (ROWS * np.nan, None, {}, "X_public contains NaN"),
        (ROWS, [1.0, 2.0, np.inf, 0.0], {}, "y_public contains infinity"),
        (ROWS, [1.0, 2.0], {}, "y_public must have 4 rows, as X_public, got 2"),
        (ROWS, None, {"y_quantile": 0.0}, r"y_quantile must be in \(0, 1\], got 0.0"),
        (ROWS, None, {"y_quantile": np.nan}, "y_quantile"),
        (ROWS[0], None, {}, "Expected 2D array"),
    ],
)
def test_rows_that_bound_nothing(X, y, options, message):
    with pytest.raises(ValueError, match=message):
        bounds_from_public(X, y, **options)


# --- Gram matrices -----------------------------------------------------------------------------


def config_of(d, **settings):
    return LDPConfig("cross", d, **settings)


def test_gram_by_hand():
    X = np.random.default_rng(0).standard_normal((300, 3))
    config = config_of(3, x_bound=1.5)
    S = public_gram(X, config)[0]
    np.testing.assert_allclose(S, exact_moments(X, np.zeros(300), 1.5, 1.0)[0])
    assert S.trace() <= 1.5**2
    units = {"feature_center": (1.0, -2.0, 4.0), "feature_scale": (2.0, 0.5, 3.0)}
    moved = X * units["feature_scale"] + units["feature_center"]
    np.testing.assert_allclose(public_gram(moved, config_of(3, x_bound=1.5, **units))[0], S)
    ones = np.column_stack([np.ones(300), X])
    with_intercept = public_gram(X, config_of(3, x_bound=1.5, fit_intercept=True))[0]
    np.testing.assert_allclose(with_intercept, exact_moments(ones, np.zeros(300), 1.5, 1.0)[0])


def test_many_rows_are_summed_in_portions():
    X = np.random.default_rng(1).standard_normal((70_000, 2))
    S, sd_diag, sd_off = public_gram(X, config_of(2, x_bound=100.0))
    np.testing.assert_allclose(S, X.T @ X / 70_000)
    # The fourth moments of normal variables.
    assert sd_diag * np.sqrt(70_000) == pytest.approx(np.sqrt(2), rel=0.05)
    assert sd_off * np.sqrt(70_000) == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("d", [1, 4])
def test_errors_of_a_public_gram_by_simulation(d):
    rng, m, config = np.random.default_rng(2), 40, config_of(d)
    draws = [public_gram(rng.standard_normal((m, d)), config) for _ in range(3000)]
    grams = np.array([draw[0] for draw in draws])
    truth = public_gram(rng.standard_normal((200_000, d)), config)[0]
    on = np.eye(d, dtype=bool)
    for place, declared in ((on, 1), (~on, 2)):
        if place.any():
            found = np.mean((grams - truth)[:, place] ** 2)
            # The variances themselves are estimated from 40 rows, without bias.
            expected = np.mean([draw[declared] ** 2 for draw in draws])
            assert found == pytest.approx(expected, rel=4 * np.sqrt(2 / 3000) + 0.03)
    if d == 1:
        assert all(draw[2] == 0 for draw in draws)


def test_a_single_row_has_no_known_error():
    public = public_gram(np.array([[3.0, 4.0]]), config_of(2, x_bound=5.0))
    S, sd_diag, sd_off = public
    np.testing.assert_allclose(S, [[9.0, 12.0], [12.0, 16.0]])
    assert sd_diag == sd_off == 0
    moments = NoisyMoments(np.eye(2), np.ones(2), 10, 0.1, 0.2, 0.3)
    same = combined_gram(moments, public, 1)
    np.testing.assert_array_equal(same.S, moments.S)
    assert (same.sd_diag, same.sd_off, same.sd_b) == (0.1, 0.2, 0.3)


def test_average_of_both_is_better_than_either():
    rng, config, errors = np.random.default_rng(3), LDPConfig("moments", 3, 4.0), []
    truth = public_gram(rng.standard_normal((300_000, 3)), LDPConfig("cross", 3))[0]
    for _ in range(150):
        rows = rng.standard_normal((60, 3))
        public = public_gram(rows, config)
        sd_diag = 1.5 * public[1]
        sd_off = 1.5 * public[2]
        noise = np.triu(rng.standard_normal((3, 3)))
        noise = sd_diag * np.diag(np.diag(noise)) + sd_off * (np.triu(noise, 1))
        private = truth + noise + np.triu(noise, 1).T
        moments = NoisyMoments(private, np.ones(3), 100, sd_diag, sd_off, 0.5)
        both = combined_gram(moments, public, len(rows))
        # The noise of the private matrix is known to be one and a half times that of the rows.
        share = 1.5**2 / (1 + 1.5**2)
        np.testing.assert_allclose(both.S, share * public[0] + (1 - share) * private)
        np.testing.assert_allclose(both.sd_off, 1.5 / np.hypot(1, 1.5) * public[2])
        assert both.sd_b == 0.5 and both.n_reports == 100
        errors.append([np.sum((S - truth) ** 2) for S in (public[0], private, both.S)])
    alone, private, both = np.mean(errors, axis=0)
    # One over (1 + 1 / 2.25) of the error of the rows. A sum of squares of six entries varies by
    # about 0.6 of its mean, and that of 150 by 0.05; both share their noise.
    assert both / alone == pytest.approx(2.25 / 3.25, abs=0.2) and both < alone < private
