"""Sparse regressions have the law that their description promises."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.utils import Bunch, check_random_state

from sparsestat.datasets import make_sparse_regression

N_SIGMA = 5.0
"""Deviations allowed, in standard deviations of the Monte-Carlo error: one false alarm in a
million draws, and the seeds are fixed."""

FALSE_ALARM = 1e-4
"""Probability of a false alarm of a Kolmogorov-Smirnov test."""


@pytest.mark.parametrize("n_nonzero", [0, 1, 4, 9])
def test_coefficients_have_norm_one_and_equal_sizes(n_nonzero):
    regression = make_sparse_regression(5, 9, n_nonzero, random_state=0)
    assert isinstance(regression, Bunch)
    assert sorted(regression) == ["coef", "data", "support", "target"]
    assert regression.data.shape == (5, 9) and regression.target.shape == (5,)
    np.testing.assert_array_equal(np.flatnonzero(regression.coef), regression.support)
    assert len(regression.support) == n_nonzero
    np.testing.assert_allclose(
        np.abs(regression.coef[regression.support]), 1 / math.sqrt(max(n_nonzero, 1)), rtol=1e-15
    )


def test_every_place_and_sign_is_equally_likely():
    n_draws = 1500
    draws = np.array(
        [make_sparse_regression(1, 5, 2, random_state=seed).coef for seed in range(n_draws)]
    )
    share = 2 / 5
    counts = (draws != 0).sum(axis=0)
    assert np.abs(counts - n_draws * share).max() <= N_SIGMA * math.sqrt(
        n_draws * share * (1 - share)
    )
    positive = (draws > 0).sum()
    assert abs(positive - n_draws) <= N_SIGMA * math.sqrt(2 * n_draws * 0.25)


@pytest.mark.parametrize(
    ("options", "marginal"),
    [
        ({"design": "gaussian"}, stats.norm()),
        ({"design": "ar", "correlation": -0.8}, stats.norm()),
        ({"design": "student_t", "df": 1.5}, stats.t(1.5)),
    ],
)
def test_features_are_of_their_family(options, marginal):
    data = make_sparse_regression(6000, 7, random_state=3, **options).data
    for column in data.T:
        assert stats.kstest(column, marginal.cdf).pvalue > FALSE_ALARM
    # Signs: the correlation of two of them vanishes for independent features.
    if options["design"] != "ar":
        signs = np.sign(data)
        products = signs.T @ signs / len(data) - np.eye(7)
        assert np.abs(products).max() <= N_SIGMA / math.sqrt(len(data))


@pytest.mark.parametrize("correlation", [0.0, 0.5, -0.9, 0.99])
def test_correlation_decays_with_distance(correlation):
    regression = make_sparse_regression(
        40_000, 6, design="ar", correlation=correlation, random_state=1
    )
    covariance = regression.data.T @ regression.data / len(regression.data)
    distance = np.abs(np.subtract.outer(np.arange(6), np.arange(6)))
    # Var(s_ij) = (c_ii c_jj + c_ij^2) / n <= 2 / n for Gaussian data with variance one.
    error = np.abs(covariance - float(correlation) ** distance).max()
    assert error <= N_SIGMA * math.sqrt(2 / len(regression.data))


@pytest.mark.parametrize(
    ("options", "family"),
    [
        ({"noise": 0.5}, stats.norm(scale=0.5)),
        ({"noise": 2.0, "noise_df": 1.5}, stats.t(1.5, scale=2.0)),
    ],
)
def test_continuous_target_is_linear_with_the_given_noise(options, family):
    regression = make_sparse_regression(20_000, 8, random_state=2, **options)
    errors = regression.target - regression.data @ regression.coef
    assert stats.kstest(errors, family.cdf).pvalue > FALSE_ALARM


def test_without_noise():
    regression = make_sparse_regression(30, 4, noise=0, random_state=0)
    np.testing.assert_array_equal(regression.target, regression.data @ regression.coef)


def test_labels_follow_the_logistic_model():
    regression = make_sparse_regression(100_000, 5, target="binary", random_state=4)
    assert regression.target.dtype.kind == "i"
    probabilities = 1 / (1 + np.exp(-regression.data @ regression.coef))
    # In each tenth of the probabilities the labels are Bernoulli variables with these means.
    for part in np.array_split(np.argsort(probabilities), 10):
        excess = (regression.target[part] - probabilities[part]).sum()
        deviation = math.sqrt((probabilities[part] * (1 - probabilities[part])).sum())
        assert abs(excess) <= N_SIGMA * deviation


def test_labels_do_not_depend_on_the_noise_of_the_continuous_target():
    one, other = (
        make_sparse_regression(50, target="binary", noise=noise, random_state=0)
        for noise in (0.0, 9.0)
    )
    np.testing.assert_array_equal(one.target, other.target)


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], other[key])


@pytest.mark.parametrize("make", [int, np.random.RandomState, np.random.default_rng])
@pytest.mark.parametrize("target", ["continuous", "binary"])
def test_the_seed_fixes_everything(make, target):
    options = {"design": "student_t", "target": target, "noise_df": 3}
    one = make_sparse_regression(20, random_state=make(7), **options)
    assert_same(one, make_sparse_regression(20, random_state=make(7), **options))
    other = make_sparse_regression(20, random_state=make(8), **options)
    assert not np.array_equal(one.data, other.data)


def test_none_stands_for_the_global_state():
    check_random_state(None).seed(3)
    one = make_sparse_regression(5)
    assert not np.array_equal(one.data, make_sparse_regression(5).data)
    check_random_state(None).seed(3)
    assert_same(one, make_sparse_regression(5))


def test_order_of_draws():
    one = make_sparse_regression(8, random_state=0)
    # One integer gives the same coefficients whatever the sample and its law are ...
    for options in ({"n_samples": 90}, {"design": "ar"}, {"noise_df": 2}, {"target": "binary"}):
        np.testing.assert_array_equal(
            make_sparse_regression(**options, random_state=0).coef, one.coef
        )
    # ... and the same features whatever the noise is.
    np.testing.assert_array_equal(
        make_sparse_regression(8, noise=3.0, target="binary", random_state=0).data, one.data
    )


def test_smallest_case():
    regression = make_sparse_regression(1, 1, 1, random_state=0)
    assert regression.data.shape == (1, 1) and abs(regression.coef[0]) == 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_features": 2}, "n_nonzero must be at most n_features=2.* got 3"),
        ({"n_samples": 0}, "'n_samples' parameter of make_sparse_regression"),
        ({"n_features": 0}, "'n_features' parameter"),
        ({"n_nonzero": -1}, "'n_nonzero' parameter"),
        ({"n_nonzero": 1.5}, "'n_nonzero' parameter"),
        ({"design": "cauchy"}, "'design' parameter"),
        ({"correlation": 1.0}, "'correlation' parameter"),
        ({"correlation": math.nan}, "'correlation' parameter"),
        ({"df": 0}, "'df' parameter"),
        ({"noise": -0.1}, "'noise' parameter"),
        ({"noise": math.inf}, "'noise' parameter"),
        ({"noise_df": 0.0}, "'noise_df' parameter"),
        ({"target": "count"}, "'target' parameter"),
        ({"random_state": "a"}, "'random_state' parameter"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make_sparse_regression(**options)
