"""Adaptive lasso: the weighted problem, its initial estimates, rounds, and the search."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.model_selection import KFold
from sklearn.neighbors import KNeighborsRegressor

from sparsestat.datasets import make_sparse_regression
from sparsestat.linear_model import (
    AdaptiveLasso,
    AdaptiveLassoCV,
    Lasso,
    LassoCV,
    adaptive_lasso_path,
)

from ._witness import witness


def draw(n=100, p=30, k=4, seed=0, noise=1.0):
    data = make_sparse_regression(n, p, k, noise=noise, random_state=seed)
    return data.data, data.target, data.coef


every_design = pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])


@every_design
@pytest.mark.parametrize("initial", ["lasso", "ols", LinearRegression(), LassoCV(cv=3)])
@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_optimality(form, initial, gamma, fit_intercept):
    X, y, _ = draw()
    X = form(X)
    model = AdaptiveLasso(0.02, gamma=gamma, initial=initial, fit_intercept=fit_intercept)
    model.fit(X, y)
    kept = model.initial_coef_ != 0.0
    assert not np.any(model.coef_[~kept])
    found = witness(
        X[:, kept], y, model.coef_[kept], 0.02,
        penalty_factor=np.abs(model.initial_coef_[kept]) ** -gamma,
        fit_intercept=fit_intercept,
        intercept=model.intercept_,
    )  # fmt: skip
    found.assert_optimal(model.dual_gap_)
    assert model.objective_ == pytest.approx(found.objective, rel=1e-10)


def test_least_squares_are_the_initial_estimate():
    X, y, _ = draw()
    expected = LinearRegression().fit(X, y).coef_
    for form in (np.asarray, sparse.csc_array):
        model = AdaptiveLasso(0.02, initial="ols").fit(form(X), y)
        assert_allclose(model.initial_coef_, expected, rtol=1e-8)
    with pytest.raises(
        ValueError, match=r"initial='ols' needs more rows.*sample_weight 100 and 200"
    ):
        AdaptiveLasso(initial="ols").fit(*draw(100, 200)[:2])


def test_the_lasso_of_the_smallest_aic_is_the_initial_estimate():
    X, y, _ = draw()
    model = AdaptiveLasso(0.02).fit(X, y)
    reference = LassoCV(criterion="aic").fit(X, y)
    assert_allclose(model.initial_coef_, reference.coef_, atol=1e-8)


def test_rounds_feed_each_other():
    X, y, _ = draw()
    factors = 1.0 / np.abs(LinearRegression().fit(X, y).coef_)
    expected = Lasso(0.05, penalty_factor=factors, tol=1e-10).fit(X, y).coef_
    for n_reweight in (1, 2, 3):
        model = AdaptiveLasso(0.05, initial="ols", n_reweight=n_reweight).fit(X, y)
        assert_allclose(model.coef_, expected, atol=1e-6)
        kept = np.flatnonzero(expected)
        again = Lasso(0.05, penalty_factor=1.0 / np.abs(expected[kept]), tol=1e-10)
        again.fit(X[:, kept], y)
        expected = np.zeros(30)
        expected[kept] = again.coef_


def test_units_of_features_do_not_matter_with_least_squares():
    X, y, _ = draw()
    units = 10.0 ** np.arange(-3, 3, 0.2)[:30]
    reference = AdaptiveLasso(0.02, initial="ols").fit(X, y)
    scaled = AdaptiveLasso(0.02, initial="ols").fit(X * units, y)
    assert_allclose(scaled.coef_ * units, reference.coef_, rtol=1e-5, atol=1e-8)


@every_design
def test_weights_are_repetitions(form):
    X, y, _ = draw(60, 20)
    weights = np.random.default_rng(0).integers(0, 4, 60)
    for initial in ("lasso", "ols", LinearRegression()):
        one = AdaptiveLasso(0.02, initial=initial).fit(form(X), y, sample_weight=weights)
        other = AdaptiveLasso(0.02, initial=initial).fit(
            form(np.repeat(X, weights, axis=0)), np.repeat(y, weights)
        )
        assert_allclose(one.coef_, other.coef_, rtol=1e-6, atol=1e-9)


def test_an_initial_estimate_that_keeps_nothing():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40, 10)), rng.standard_normal(40)

    model = AdaptiveLasso(0.1, initial=Lasso(100.0)).fit(X, y)
    assert not np.any(model.coef_)
    assert model.intercept_ == pytest.approx(y.mean())
    assert model.objective_ == pytest.approx(np.var(y) / 2)
    assert model.converged_
    search = AdaptiveLassoCV(initial=Lasso(100.0), alphas=5).fit(X, y)
    assert not np.any(search.coef_path_)
    # The strengths must suit folds whose initial estimates keep something.
    largest = np.abs((X - X.mean(axis=0)).T @ (y - y.mean())).max() / 40
    assert search.alphas_[0] == pytest.approx(largest, rel=1e-9)


class Unweighted(BaseEstimator):
    """An estimate that takes no weights, and has coefficients of a shape to choose."""

    def __init__(self, shape=(10,)):
        self.shape = shape

    def fit(self, X, y):
        """Give all features the same coefficient."""
        self.coef_ = np.ones(self.shape)
        return self


def test_initial_estimates_that_do_not_fit():
    X, y, _ = draw(40, 10, 3)
    with pytest.raises(ValueError, match="does not take the sample_weight"):
        AdaptiveLasso(initial=Unweighted()).fit(X, y, sample_weight=np.ones(40))
    with pytest.raises(ValueError, match=r"coef_ of shape \(10,\).* got \(2, 10\)"):
        AdaptiveLasso(initial=Unweighted((2, 10))).fit(X, y)
    with pytest.raises(TypeError, match=r"initial must be an estimator with coef_ .*KNeighbors"):
        AdaptiveLasso(initial=KNeighborsRegressor()).fit(X, y)
    equal = AdaptiveLasso(0.1, initial=Unweighted()).fit(X, y)
    assert_allclose(equal.coef_, Lasso(0.1).fit(X, y).coef_, atol=1e-6)


def test_what_has_not_converged_says_so():
    X, y, _ = draw(50, 200)
    with pytest.warns(ConvergenceWarning, match="duality gap"):
        AdaptiveLasso(1e-7, initial=RidgeCV(), max_iter=1).fit(X, y)


def test_the_bias_is_smaller_and_the_support_better():
    """The median over draws, where every single one may go either way."""
    errors, sizes = [], []
    for seed in range(9):
        X, y, coef = draw(200, 50, 8, seed)
        for model in (LassoCV(), AdaptiveLassoCV()):
            model.fit(X, y)
            errors.append(np.linalg.norm(model.coef_ - coef))
            sizes.append(np.sum(model.support_ != (coef != 0)))
    plain, adaptive = np.median(np.reshape(errors, (-1, 2)), axis=0)
    assert adaptive < plain
    plain, adaptive = np.median(np.reshape(sizes, (-1, 2)), axis=0)
    assert adaptive < 0.5 * plain


def test_search_equals_the_folds_by_hand():
    X, y, _ = draw(80, 15)
    folds = list(KFold(4).split(X))
    search = AdaptiveLassoCV(alphas=[0.1, 0.01, 0.001], cv=folds).fit(pd.DataFrame(X), y)
    for column, (train, test) in enumerate(folds):
        for row, alpha in enumerate(search.alphas_):
            model = AdaptiveLasso(alpha).fit(X[train], y[train])
            expected = np.mean((model.predict(X[test]) - y[test]) ** 2)
            assert search.mse_path_[row, column] == pytest.approx(expected, rel=1e-3)
    assert search.alpha_ == search.alphas_[np.argmin(search.mse_path_.mean(axis=1))]
    model = AdaptiveLasso(search.alpha_).fit(X, y)
    assert_allclose(search.coef_, model.coef_, atol=1e-4)
    assert_allclose(search.initial_coef_, model.initial_coef_)


def test_search_by_criterion():
    X, y, _ = draw()
    for criterion, price in (
        ("aic", 2.0),
        ("bic", np.log(100)),
        ("ebic", np.log(100) + 2 * np.log(30)),
    ):
        model = AdaptiveLassoCV(alphas=10, criterion=criterion).fit(X, y)
        for k, alpha in enumerate(model.alphas_):
            fit = AdaptiveLasso(alpha).fit(X, y)
            rss = np.sum((fit.predict(X) - y) ** 2)
            expected = 100 * np.log(rss / 100) + price * fit.support_.sum()
            assert model.criterion_path_[k] == pytest.approx(expected, abs=0.05)


def test_threads_and_several_rounds():
    X, y, _ = draw()
    one = AdaptiveLassoCV(alphas=10, n_reweight=2).fit(X, y)
    two = AdaptiveLassoCV(alphas=10, n_reweight=2, n_jobs=2).fit(X, y)
    assert_array_equal(one.mse_path_, two.mse_path_)
    assert one.alpha_ <= AdaptiveLassoCV(alphas=10, n_reweight=2, selection="1se").fit(X, y).alpha_


@every_design
@pytest.mark.parametrize("options", [{"n_reweight": 2}, {"gamma": 2.0, "initial": "ols"}])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_path_equals_single_fits(form, options, fit_intercept):
    X, y, _ = draw(80, 15)
    weights = np.random.default_rng(0).integers(1, 4, 80)
    options = options | {"fit_intercept": fit_intercept, "tol": 1e-11}
    alphas, coefs, gaps = adaptive_lasso_path(
        form(X), y, alphas=6, eps=1e-3, sample_weight=weights, **options
    )
    assert sparse.issparse(coefs) == sparse.issparse(form(X))
    coefs = coefs.toarray() if sparse.issparse(coefs) else coefs
    assert_allclose(alphas, alphas[0] * np.geomspace(1.0, 1e-3, 6))
    assert not np.any(coefs[:, 0])
    for alpha, coef, gap in zip(alphas, coefs.T, gaps):
        model = AdaptiveLasso(alpha, **options).fit(form(X), y, sample_weight=weights)
        assert_allclose(coef, model.coef_, atol=1e-5)
        assert gap <= 1e-11 * np.average(y**2, weights=weights)


def test_path_begins_where_coefficients_vanish():
    X, y, _ = draw(80, 15)
    start, _, _ = adaptive_lasso_path(X, y, alphas=1)
    _, coefs, _ = adaptive_lasso_path(X, y, alphas=[start[0], 0.999 * start[0]])
    assert np.array_equal(np.any(coefs, axis=0), [False, True])


def test_path_is_that_of_the_search():
    X, y, _ = draw(80, 15)
    search = AdaptiveLassoCV(alphas=8, criterion="bic").fit(X, y)
    alphas, coefs, gaps = adaptive_lasso_path(X, y, alphas=8, fit_intercept=True)
    assert_array_equal(alphas, search.alphas_)
    assert_array_equal(coefs, search.coef_path_)
    assert_array_equal(gaps, search.dual_gaps_)


def test_path_of_data_that_explain_nothing_and_refusals():
    X, y, _ = draw(40, 10, 3)
    _, coefs, gaps = adaptive_lasso_path(X, np.zeros(40), alphas=3)
    assert not np.any(coefs)
    assert_array_equal(gaps, 0.0)
    _, coefs, _ = adaptive_lasso_path(X, y, alphas=[0.1], initial=Lasso(100.0))
    assert not np.any(coefs)
    with pytest.raises(ValueError, match="alphas"):
        adaptive_lasso_path(X, y, alphas=[0.1, 0.0])
    with pytest.raises(ValueError, match="initial='ols' needs more rows"):
        adaptive_lasso_path(X[:8], y[:8], initial="ols")
    with pytest.raises(ValueError, match="inconsistent"):
        adaptive_lasso_path(X, y[:-1])
    with pytest.raises(ValueError, match="NaN"):
        adaptive_lasso_path(np.full((3, 2), np.nan), y[:3])
    with pytest.raises(TypeError, match="instance of an estimator, got the class Lasso"):
        adaptive_lasso_path(X, y, initial=Lasso)
    with pytest.warns(ConvergenceWarning, match="duality gap"):
        adaptive_lasso_path(*draw(50, 200)[:2], alphas=[1e-7], initial=RidgeCV(), max_iter=1)
