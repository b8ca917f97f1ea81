"""Cross-validated estimators: the search itself, not the solver below it."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNetCV as SklearnElasticNetCV
from sklearn.linear_model import LassoCV as SklearnLassoCV
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GroupKFold, KFold

from sparsestat.linear_model import ElasticNet, ElasticNetCV, Lasso, LassoCV


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((90, 25)) + rng.standard_normal(25)
    y = X[:, :4] @ [3.0, -2.0, 1.0, 0.5] + rng.standard_normal(90) + 7.0
    return X, y


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
def test_errors_are_those_of_scikit_learn(data, form):
    X, y = data
    ours = LassoCV(alphas=20, cv=KFold(4), tol=1e-10).fit(form(X), y)
    theirs = SklearnLassoCV(alphas=ours.alphas_, cv=KFold(4), tol=1e-12, max_iter=10**5).fit(X, y)
    np.testing.assert_allclose(ours.mse_path_, theirs.mse_path_, rtol=1e-4)
    assert ours.alpha_ == theirs.alpha_
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-5)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-4)


def test_several_ratios_are_those_of_scikit_learn(data):
    X, y = data
    ratios = [0.3, 0.8, 1.0]
    ours = ElasticNetCV(l1_ratio=ratios, alphas=12, cv=4, tol=1e-10).fit(X, y)
    theirs = SklearnElasticNetCV(l1_ratio=ratios, alphas=12, cv=4, tol=1e-12, max_iter=10**5)
    theirs.fit(X, y)
    np.testing.assert_allclose(ours.alphas_, theirs.alphas_, rtol=1e-9)
    np.testing.assert_allclose(ours.mse_path_, theirs.mse_path_, rtol=1e-4)
    assert (ours.alpha_, ours.l1_ratio_) == (pytest.approx(theirs.alpha_), theirs.l1_ratio_)
    assert ours.coef_path_.shape == (25, 12)


def test_the_final_fit_is_a_fit(data):
    X, y = data
    found = LassoCV(alphas=30, tol=1e-10).fit(X, y)
    single = Lasso(found.alpha_, tol=1e-10).fit(X, y)
    assert found.objective_ == pytest.approx(single.objective_, rel=1e-9)
    np.testing.assert_array_equal(found.support_, single.support_)
    column = np.flatnonzero(found.alphas_ == found.alpha_)[0]
    np.testing.assert_array_equal(found.coef_path_[:, column], found.coef_)
    assert np.all(found.dual_gaps_ >= 0) and found.dual_gap_ == found.dual_gaps_[column]


def test_one_standard_error_rule_by_hand(data):
    X, y = data
    found = LassoCV(cv=5, selection="1se").fit(X, y)
    mean = found.mse_path_.mean(axis=1)
    error = found.mse_path_.std(axis=1, ddof=1) / np.sqrt(5)
    np.testing.assert_allclose(found.mse_std_, error)
    best = np.argmin(mean)
    within = found.alphas_[mean <= mean[best] + error[best]]
    assert found.alpha_ == found.alpha_1se_ == within.max()
    assert found.alpha_ > LassoCV(cv=5).fit(X, y).alpha_


def test_weights_count_in_the_scores():
    """Integer weights are repeated rows if a fold takes all copies of a row."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((40, 6))
    y = X[:, 0] + rng.standard_normal(40)
    counts = rng.integers(1, 4, 40)
    place = np.repeat(np.arange(40), counts)
    alphas = np.geomspace(1.0, 1e-2, 10)
    splits = list(KFold(4).split(X))
    copies = [
        (np.flatnonzero(np.isin(place, train)), np.flatnonzero(np.isin(place, test)))
        for train, test in splits
    ]
    weighted = LassoCV(alphas=alphas, cv=splits, tol=1e-11).fit(X, y, counts)
    repeated = LassoCV(alphas=alphas, cv=copies, tol=1e-11).fit(X[place], y[place])
    np.testing.assert_allclose(weighted.mse_path_, repeated.mse_path_, rtol=1e-6)
    assert weighted.alpha_ == repeated.alpha_ == alphas[np.argmin(weighted.mse_path_.mean(axis=1))]


def test_weights_of_one_change_nothing():
    rng = np.random.default_rng(6)
    X = rng.standard_normal((53, 20))
    y = X[:, 0] + rng.standard_normal(53)
    plain, ones = LassoCV(cv=10).fit(X, y), LassoCV(cv=10).fit(X, y, np.ones(53))
    np.testing.assert_allclose(plain.mse_mean_, ones.mse_mean_, rtol=1e-6)
    assert plain.alpha_ == pytest.approx(ones.alpha_)


def test_weights_of_zero_leave_a_fold_out_of_the_scores():
    rng = np.random.default_rng(2)
    X = rng.standard_normal((30, 4))
    y = X[:, 0] + 0.1 * rng.standard_normal(30)
    weights = np.ones(30)
    weights[:10] = 0.0
    found = LassoCV(alphas=5, cv=KFold(3)).fit(X, y, weights)
    assert np.all(np.isnan(found.mse_path_[:, 0]))
    mean = found.mse_path_[:, 1:].mean(axis=1)
    error = found.mse_path_[:, 1:].std(axis=1, ddof=1) / np.sqrt(2)
    np.testing.assert_allclose(found.mse_std_, error)
    assert found.alpha_ == found.alphas_[np.argmin(mean)]
    with pytest.raises(ValueError, match="sample_weight must not be zero on all training rows"):
        LassoCV(alphas=5, cv=[(np.arange(10), np.arange(10, 20))] * 2).fit(X, y, weights)


@pytest.mark.parametrize("estimator", [LassoCV(alphas=15), ElasticNetCV(l1_ratio=[0.5, 1.0])])
def test_threads_change_no_bit(data, estimator):
    from sklearn.base import clone

    X, y = data
    alone = clone(estimator).fit(X, y)
    together = clone(estimator).set_params(n_jobs=2).fit(X, y)
    for name in ("coef_", "mse_path_", "coef_path_", "dual_gaps_", "alphas_"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(together, name))


@pytest.mark.parametrize("shape", [(90, 25), (60, 50), (80, 200)])
@pytest.mark.parametrize("criterion", ["aic", "bic", "ebic"])
def test_criteria_by_hand(shape, criterion):
    """On cross products, on rows, and with more features than rows."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal(shape)
    y = X[:, :5] @ [3.0, -2.0, 2.0, 1.0, 1.0] + rng.standard_normal(shape[0])
    n, p = X.shape
    price = {
        "aic": 2.0,
        "bic": np.log(n),
        "ebic": np.log(n) + 2 * np.log(p),
    }[criterion]
    found = LassoCV(alphas=25, criterion=criterion, tol=1e-10).fit(X, y)
    expected = []
    for alpha in found.alphas_:
        fit = Lasso(alpha, tol=1e-10).fit(X, y)
        rss = np.sum((y - fit.predict(X)) ** 2)
        expected.append(n * np.log(rss / n) + price * fit.support_.sum())
    expected = np.where(np.isinf(found.criterion_path_), np.inf, expected)
    assert np.isfinite(expected).sum() > 10
    np.testing.assert_allclose(found.criterion_path_, expected, rtol=1e-5)
    assert found.alpha_ == found.alphas_[np.argmin(expected)]
    assert not hasattr(found, "mse_path_")


def test_degrees_of_freedom_of_the_elastic_net(data):
    """The trace of the smoother, by finite differences of the fit in the response."""
    X, y = data
    alpha, ratio, n = 0.3, 0.5, len(y)
    found = ElasticNetCV(l1_ratio=ratio, alphas=[alpha], criterion="aic", tol=1e-13).fit(X, y)
    model = ElasticNet(alpha, l1_ratio=ratio, tol=1e-13)
    base = model.fit(X, y).predict(X)
    rss = np.sum((y - base) ** 2)
    step = 1e-4
    trace = 0.0
    for i in range(n):
        moved = y.copy()
        moved[i] += step
        trace += (model.fit(X, moved).predict(X)[i] - base[i]) / step
    # The fitted mean is one more parameter of the smoother, and not of the criterion.
    size = (found.criterion_path_[0] - n * np.log(rss / n)) / 2
    assert size == pytest.approx(trace - 1.0, abs=1e-3)


def test_criteria_leave_out_saturated_fits():
    rng = np.random.default_rng(3)
    X = rng.standard_normal((30, 60))
    y = X[:, 0] * 3 + rng.standard_normal(30)
    found = LassoCV(criterion="aic", eps=1e-4).fit(X, y)
    sizes = (found.coef_path_ != 0).sum(axis=0)
    assert sizes.max() > 15
    assert np.all(np.isinf(found.criterion_path_[sizes > 15]))
    assert found.support_.sum() <= 15


def test_sparse_input_gives_a_sparse_path(data):
    X, y = data
    found = LassoCV(alphas=10).fit(sparse.csr_array(X), y)
    assert sparse.issparse(found.coef_path_) and found.coef_path_.format == "csc"
    np.testing.assert_allclose(
        found.coef_path_.toarray(), LassoCV(alphas=10).fit(X, y).coef_path_, atol=1e-3
    )


def test_groups_and_iterables_of_folds(data):
    X, y = data
    groups = np.arange(90) // 10
    splits = list(GroupKFold(3).split(X, y, groups))
    assert LassoCV(alphas=5, cv=splits).fit(X, y).mse_path_.shape == (5, 3)
    assert LassoCV(alphas=5, cv=iter(splits)).fit(X, y).mse_path_.shape == (5, 3)
    with pytest.raises(ValueError, match="cv must give at least 2 folds"):
        LassoCV(cv=splits[:1]).fit(X, y)


def test_features_without_penalty(data):
    X, y = data
    factor = np.ones(25)
    factor[:3] = 0.0
    found = LassoCV(alphas=10, penalty_factor=factor, positive=False).fit(X, y)
    assert np.all(found.coef_path_[:3] != 0)
    np.testing.assert_array_equal(found.coef_path_[3:, 0], 0.0)
    least_squares = LinearRegression().fit(X[:, :3], y)
    np.testing.assert_allclose(found.coef_path_[:3, 0], least_squares.coef_, rtol=1e-6)


@pytest.mark.parametrize("ratio", [0.0, 1.5, [0.5, -0.1], [[0.5]]])
def test_ratios_out_of_range(data, ratio):
    with pytest.raises(ValueError, match="l1_ratio"):
        ElasticNetCV(l1_ratio=ratio).fit(*data)


def test_constant_response():
    X = np.random.default_rng(4).standard_normal((20, 3))
    found = LassoCV(alphas=5).fit(X, np.full(20, 2.5))
    np.testing.assert_array_equal(found.coef_, 0.0)
    assert found.intercept_ == 2.5 and found.converged_


def test_a_search_that_is_cut_short_says_so():
    rng = np.random.default_rng(5)
    X = rng.standard_normal((40, 200))
    y = X[:, :20].sum(axis=1)
    with pytest.warns(ConvergenceWarning, match="penalty strengths"):
        LassoCV(alphas=5, eps=1e-4, max_iter=1, cv=2, tol=1e-10).fit(X, y)
