"""From a record to a bounded vector: whatever comes in, and without bias where it is clipped."""

import datetime
import decimal
import fractions
import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from sparsestat.privacy._config import LDPConfig
from sparsestat.privacy._records import (
    clean_record,
    clean_records,
    clip_rows,
    clipped_records,
    gradient_vectors,
    moment_vectors,
    report_vectors,
    unpack_moments,
)


class Refuses:
    """An item that fails in an unusual way when it is asked for a number."""

    def __init__(self, error):
        self.error = error

    def __float__(self):
        raise self.error


class Warns:
    def __float__(self):
        warnings.warn("a secret", stacklevel=1)
        return 1.5


# Items, and the number that stands for each.
ITEMS = [
    (1.5, 1.5),
    (2, 2.0),
    (True, 1.0),
    ("2.5", 2.5),
    (np.float32(0.5), 0.5),
    (np.int8(-3), -3.0),
    (np.array(4.0), 4.0),
    (fractions.Fraction(1, 4), 0.25),
    (decimal.Decimal("0.75"), 0.75),
    (Warns(), 1.5),
    (5e-324, 5e-324),
    (1.7e308, 1.7e308),
    (-0.0, 0.0),
    (math.nan, 0.0),
    (math.inf, 0.0),
    (-math.inf, 0.0),
    (np.float32("nan"), 0.0),
    (np.longdouble("1e4000"), 0.0),
    (10**400, 0.0),
    (-(10**400), 0.0),
    (None, 0.0),
    ("", 0.0),
    ("private", 0.0),
    (b"\xff", 0.0),
    (1 + 2j, 0.0),
    (np.complex128(1 + 2j), 1.0),
    ([1.0], 0.0),
    ({}, 0.0),
    (np.array([1.0]), 0.0),
    (np.array([1.0, 2.0]), 0.0),
    (np.ma.masked, 0.0),
    (np.datetime64("2020-01-01"), 0.0),
    (datetime.date(2020, 1, 1), 0.0),
    (decimal.Decimal("sNaN"), 0.0),
    (object(), 0.0),
    (Refuses(RuntimeError("a secret")), 0.0),
    (Refuses(RecursionError()), 0.0),
    (Refuses(FloatingPointError()), 0.0),
]


@pytest.mark.parametrize(("item", "number"), ITEMS, ids=lambda item: repr(item)[:30])
def test_any_item_becomes_a_finite_number(item, number):
    config = LDPConfig("moments", 2)
    x, y = clean_record([0.25, item], item, config)
    assert x.tolist() == [[0.25, number]] and y.tolist() == [number]
    assert x.dtype == y.dtype == np.float64


def test_any_container_of_a_record():
    config = LDPConfig("cross", 3)
    expected = [[1.0, 0.0, 3.0]]
    pandas = pytest.importorskip("pandas")
    masked = np.ma.masked_array([1.0, 7.0, 3.0], mask=[False, True, False])
    for x in (
        [1.0, None, 3.0],
        (1, math.nan, 3),
        np.array([1.0, np.nan, 3.0], dtype=np.float16),
        np.array([1, None, 3], dtype=object),
        np.array(["1", "?", "3"]),
        masked,
        iter([1.0, "", 3.0]),
        pandas.Series([1.0, None, 3.0], index=list("abc")),
        pandas.Series([1, pandas.NA, 3], dtype="Int64"),
        pandas.Series(["1", pandas.NaT, "3"], dtype=object),
    ):
        assert clean_record(x, 0.0, config)[0].tolist() == expected


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([1.0], "x must have 2 features, got 1"),
        ([1.0] * 3, "x must have 2 features, got 3"),
        (np.ones((1, 2)), r"x must be one record of shape \(n_features,\), got \(1, 2\)"),
        (np.array(1.0), r"x must be one record of shape \(n_features,\), got \(\)"),
    ],
)
def test_only_the_shape_of_a_record_is_refused(x, message):
    with pytest.raises(ValueError, match=message):
        clean_record(x, 0.0, LDPConfig("cross", 2))


def test_a_label_needs_no_features():
    config = LDPConfig("label", 3)
    x, y = clean_record(None, 2.0, config)
    assert x.shape == (1, 3) and y.tolist() == [2.0]


def test_public_units():
    config = LDPConfig(
        "cross",
        2,
        feature_center=(10.0, -2.0),
        feature_scale=(2.0, 4.0),
        y_center=100.0,
        y_scale=50.0,
        fit_intercept=True,
    )
    X = np.array([[12.0, 2.0], [math.nan, math.inf], [10.0, -2.0]])
    y = np.array([150.0, math.nan, -math.inf])
    given_X, given_y = X.copy(), y.copy()
    cleaned_X, cleaned_y = clean_records(X, y, config)
    # What is no number is put at the public centre, not at zero of the raw units.
    assert cleaned_X.tolist() == [[1, 1, 1], [1, 0, 0], [1, 0, 0]]
    assert cleaned_y.tolist() == [1, 0, 0]
    np.testing.assert_array_equal(X, given_X)
    np.testing.assert_array_equal(y, given_y)
    for row, target, a, b in zip(X, y, cleaned_X, cleaned_y):
        single = clean_record(row, target, config)
        assert single[0][0].tolist() == a.tolist() and single[1][0] == b


def test_centring_that_overflows():
    config = LDPConfig(
        "cross", 1, feature_center=[-1e308], feature_scale=[1e-300], y_center=-1e308, y_scale=1e-50
    )
    X, y = clean_records([[1.7e308]], [1.7e308], config)
    assert X.tolist() == [[0.0]] and y.tolist() == [0.0]


def test_targets_of_the_logistic_loss_have_no_units():
    config = LDPConfig("gradient", 1, loss="logistic", y_center=5.0, y_scale=7.0)
    assert clean_records([[0.0]], [1.0], config)[1].tolist() == [1.0]


# --- clipping of rows ----------------------------------------------------------------------

numbers = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(numbers, min_size=1, max_size=6), st.floats(1e-30, 1e30))
def test_clipped_rows_are_within_the_radius_and_point_the_same_way(row, radius):
    X = np.array([row])
    with np.errstate(under="ignore"):
        clipped, weights = clip_rows(X, radius)
    # hypot of many arguments neither overflows nor vanishes.
    norm = math.hypot(*row)
    assert 0 <= weights[0] <= 1
    assert math.hypot(*clipped[0]) <= radius * (1 + 1e-14)
    if norm <= radius * (1 - 1e-14):
        assert clipped[0].tolist() == row and weights[0] == 1
    elif norm >= radius * (1 + 1e-14):
        assert math.hypot(*clipped[0]) == pytest.approx(radius, rel=1e-13)
        # One multiple of the row, and the weight says which.
        largest = int(np.argmax(np.abs(row)))
        for a, b in zip(clipped[0], row):
            assert a / clipped[0][largest] == pytest.approx(b / row[largest], rel=1e-12, abs=1e-290)
        scale = clipped[0][largest] / row[largest]
        assert weights[0] == pytest.approx(scale, rel=1e-12, abs=1e-320)


def test_clipping_of_extremes():
    X = np.array([[0.0, 0.0], [5e-324, 5e-324], [1.7e308, -1.7e308], [3.0, 4.0], [6.0, 8.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clipped, weights = clip_rows(X, 5.0)
    half = 5 / math.sqrt(2)
    np.testing.assert_allclose(
        clipped, [[0, 0], [5e-324, 5e-324], [half, -half], [3, 4], [3, 4]], rtol=1e-15
    )
    np.testing.assert_allclose(weights, [1, 1, half / 1.7e308, 1, 0.5], rtol=1e-14)
    assert clip_rows(np.zeros((0, 2)), 1.0)[0].shape == (0, 2)


# --- the vectors ---------------------------------------------------------------------------


@given(st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_moments_are_packed_without_loss(n_columns, seed):
    rng = np.random.default_rng(seed)
    X, y, gamma = rng.standard_normal((4, n_columns)), rng.standard_normal(4), rng.uniform(0.1, 3)
    V = moment_vectors(X, y, gamma)
    for v, x, target in zip(V, X, y):
        S, b = unpack_moments(v, n_columns, gamma)
        np.testing.assert_allclose(S, np.outer(x, x), rtol=1e-14)
        np.testing.assert_allclose(b, x * target, rtol=1e-14)
        # The order of entries is part of the protocol.
        expected = [
            x[i] * x[j] * (1 if i == j else math.sqrt(2))
            for i in range(n_columns)
            for j in range(i, n_columns)
        ]
        np.testing.assert_allclose(v[: len(expected)], expected, rtol=1e-14)
        # Distances are those of Frobenius.
        norm = math.hypot(np.linalg.norm(np.outer(x, x)), gamma * np.linalg.norm(x * target))
        assert np.linalg.norm(v) == pytest.approx(norm, rel=1e-13)


def test_vectors_of_each_kind():
    rng = np.random.default_rng(0)
    X, y = 2 * rng.standard_normal((50, 3)), 4 * rng.standard_normal(50)
    theta = rng.standard_normal(3)
    for kind in ("moments", "cross", "gradient", "label"):
        config = LDPConfig(kind, 3, x_bound=2.0, y_bound=1.5, residual_bound=0.7, gamma=0.3)
        V = report_vectors(X, y, config, theta)
        assert V.shape == (50, config.dim)
        for v, x, target in zip(V, X, y):
            w = min(1.0, 2.0 / np.linalg.norm(x))
            clipped = min(max(w * target, -1.5), 1.5)
            if kind == "moments":
                S, b = unpack_moments(v, 3, 0.3)
                np.testing.assert_allclose(S, w * w * np.outer(x, x), atol=1e-14)
                np.testing.assert_allclose(b, w * x * clipped, atol=1e-14)
            elif kind == "cross":
                np.testing.assert_allclose(v, w * x * clipped, atol=1e-14)
            elif kind == "gradient":
                residual = min(max(w * x @ theta - w * target, -0.7), 0.7)
                np.testing.assert_allclose(v, w * x * residual, atol=1e-14)
            else:
                assert v.tolist() == [min(max(target, -1.5), 1.5)]


def test_logistic_gradients():
    rng = np.random.default_rng(1)
    X, y = 3 * rng.standard_normal((50, 3)), rng.integers(0, 2, 50).astype(float)
    theta = rng.standard_normal(3)
    config = LDPConfig("gradient", 3, loss="logistic")
    G = gradient_vectors(X, y, theta, config)
    weights = np.minimum(1, math.sqrt(3) / np.linalg.norm(X, axis=1))
    expected = (weights * (expit(X @ theta) - y))[:, None] * X
    np.testing.assert_allclose(G, expected, atol=1e-14)
    # Labels beyond 0 and 1 are clipped, and links of any size are told apart from NaN.
    assert np.linalg.norm(gradient_vectors(X, 9 * y - 4, theta, config), axis=1).max() <= 1.7320509
    for size in (1e3, 1e308):
        G = gradient_vectors(X, y, np.full(3, size), config)
        assert np.all(np.isfinite(G))


@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize("size", [1e300, 1e308, 1.7e308])
def test_gradients_at_a_hostile_point_stay_bounded(loss, size):
    # Many columns are summed in several lanes, which can overflow to infinities of both signs.
    rng = np.random.default_rng(2)
    config = LDPConfig("gradient", 33, loss=loss, x_bound=100.0)
    X = np.vstack([np.full((1, 33), 2.0), rng.standard_normal((20, 33)) * 50, np.zeros((1, 33))])
    y = np.concatenate([[1.7e308, -1.7e308], rng.standard_normal(20)])
    theta = size * np.where(np.arange(33) % 2, 1.0, -1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        G = gradient_vectors(X, y, theta, config)
    assert np.all(np.isfinite(G))
    assert np.linalg.norm(G, axis=1).max() <= config.radius * (1 + 1e-12)


# --- no bias from clipping -----------------------------------------------------------------


def solve(X, y):
    return np.linalg.solve(X.T @ X, X.T @ y)


@pytest.mark.parametrize("tails", ["normal", "student"])
def test_consistent_clipping_converges_and_mixed_clipping_does_not(tails):
    d, errors = 4, {}
    theta = np.array([0.6, -0.5, 0.4, 0.0])
    factor = np.linalg.cholesky(0.5 ** np.abs(np.subtract.outer(np.arange(d), np.arange(d))))
    for n in (4_000, 400_000):
        rng = np.random.default_rng(n)
        X = rng.standard_normal((n, d)) @ factor.T
        if tails == "student":
            X = X / np.sqrt(rng.chisquare(3, n) / 3)[:, None]
        y = X @ theta + 0.3 * rng.standard_normal(n)
        r = float(np.median(np.linalg.norm(X, axis=1)))
        config = LDPConfig("moments", d, x_bound=r, y_bound=1e3)
        clipped, target = clipped_records(X, y, config)
        S, b = unpack_moments(
            moment_vectors(clipped, target, config.gamma).mean(0), d, config.gamma
        )
        # The features cut one by one in the cross moments, as a whole in the Gram matrix.
        cut = np.clip(X, -r / math.sqrt(d), r / math.sqrt(d))
        mixed = np.linalg.solve(S, cut.T @ y / n)
        errors[n] = np.linalg.norm([np.linalg.solve(S, b) - theta, mixed - theta], axis=1)
    # The error of least squares on the clipped rows: their noise is 0.3 w, and S is at least
    # 0.2 in every direction, so that it is below 5 * 0.3 * sqrt(d / n) / sqrt(0.2) at five
    # standard errors.
    for n, (consistent, _) in errors.items():
        assert consistent < 5 * 0.3 * math.sqrt(d / n) / math.sqrt(0.2)
    assert errors[400_000][1] > 0.1
    assert errors[400_000][1] > 0.5 * errors[4_000][1]


def test_the_gradient_has_mean_zero_at_the_truth():
    # Whatever the tails of the noise, here of a Cauchy law, and however much is clipped.
    rng = np.random.default_rng(3)
    n, theta = 200_000, np.array([0.5, -0.5, 0.0])
    X = rng.standard_t(2, (n, 3))
    config = LDPConfig("gradient", 3, x_bound=1.0, residual_bound=0.5)
    y = X @ theta + rng.standard_cauchy(n)
    G = gradient_vectors(X, y, theta, config)
    # Entries are bounded by the radius 0.5, of which standard errors are made.
    assert np.all(np.abs(G.mean(axis=0)) < 5 * 0.5 / math.sqrt(n))
    assert np.abs(gradient_vectors(X, y, 0 * theta, config).mean(axis=0)).max() > 0.02

    logistic = LDPConfig("gradient", 3, loss="logistic", x_bound=1.0)
    labels = (rng.random(n) < expit(X @ theta)).astype(float)
    G = gradient_vectors(X, labels, theta, logistic)
    assert np.all(np.abs(G.mean(axis=0)) < 5 * 0.5 / math.sqrt(n))
