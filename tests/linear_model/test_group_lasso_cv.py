"""The search for the strength of a group lasso."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.model_selection import KFold

from sparsestat.linear_model import GroupLasso, GroupLassoCV, LassoCV

GROUPS = [[0, 7, 9], [1, 2, 3, 4], [5, 6], [8, 10, 11]]


def draw(n=80, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 12)) + rng.normal(size=12)
    coef = np.zeros(12)
    coef[GROUPS[0]] = 1.0, -0.5, 0.7
    coef[GROUPS[2]] = 0.8, 0.4
    return X, X @ coef + rng.standard_normal(n) + 3.0


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
def test_search_equals_the_folds_by_hand(form):
    X, y = draw()
    folds = list(KFold(4).split(X))
    search = GroupLassoCV(groups=GROUPS, alphas=[0.3, 0.1, 0.01], cv=folds).fit(form(X), y)
    for column, (train, test) in enumerate(folds):
        for row, alpha in enumerate(search.alphas_):
            model = GroupLasso(alpha, groups=GROUPS).fit(X[train], y[train])
            expected = np.mean((model.predict(X[test]) - y[test]) ** 2)
            assert search.mse_path_[row, column] == pytest.approx(expected, rel=2e-3)
    assert search.alpha_ == search.alphas_[np.argmin(search.mse_path_.mean(axis=1))]
    model = GroupLasso(search.alpha_, groups=GROUPS).fit(X, y)
    assert_allclose(search.coef_, model.coef_, atol=1e-3)
    assert_array_equal(search.group_support_, model.group_support_)
    for one, other in zip(search.groups_, GROUPS):
        assert_array_equal(one, other)


def test_criteria_count_parameters_as_a_derivative_does():
    """The trace of the derivative of the fit by the response, by differences."""
    X, y = draw(30)
    model = GroupLassoCV(groups=GROUPS, criterion="aic", alphas=[0.2, 0.02], tol=1e-13)
    model.fit(X, y)
    for k, alpha in enumerate(model.alphas_):
        fit = GroupLasso(alpha, groups=GROUPS, tol=1e-13)
        step, trace = 1e-4, 0.0
        for i in range(30):
            up, down = y.copy(), y.copy()
            up[i] += step
            down[i] -= step
            change = fit.fit(X, up).predict(X)[i] - fit.fit(X, down).predict(X)[i]
            trace += change / (2 * step)
        rss = np.sum((fit.fit(X, y).predict(X) - y) ** 2)
        # The intercept is a parameter of every model, and counted in none.
        expected = 30 * np.log(rss / 30) + 2.0 * (trace - 1.0)
        assert model.criterion_path_[k] == pytest.approx(expected, abs=1e-3)


def test_single_columns_are_the_lasso():
    X, y = draw()
    for criterion in ("cv", "aic", "bic", "ebic"):
        lasso = LassoCV(criterion=criterion, alphas=20, tol=1e-9).fit(X, y)
        group = GroupLassoCV(criterion=criterion, alphas=20, tol=1e-9).fit(X, y)
        assert_allclose(group.alphas_, lasso.alphas_, rtol=1e-10)
        assert_allclose(group.coef_, lasso.coef_, atol=1e-5)
        assert group.alpha_ == pytest.approx(lasso.alpha_)


def test_criteria_choose_and_threads_do_not():
    X, y = draw()
    sizes = {}
    for criterion in ("aic", "bic", "ebic"):
        model = GroupLassoCV(groups=GROUPS, criterion=criterion, alphas=30).fit(X, y)
        sizes[criterion] = model.group_support_.sum()
    assert sizes["aic"] >= sizes["bic"] >= sizes["ebic"] >= 2
    one = GroupLassoCV(groups=GROUPS, alphas=10).fit(X, y)
    two = GroupLassoCV(groups=GROUPS, alphas=10, n_jobs=2, selection="1se").fit(X, y)
    assert_array_equal(one.mse_path_, two.mse_path_)
    assert two.alpha_ == one.alpha_1se_


def test_explained_by_everything():
    """With fewer rows than columns no criterion may run off to minus infinity."""
    X, y = draw(8)
    model = GroupLassoCV(groups=GROUPS, criterion="ebic", alphas=30, eps=1e-6).fit(X, y)
    assert np.isinf(model.criterion_path_[-1])
    assert np.isfinite(model.criterion_path_.min())
