"""Data on which fits are easily wrong without saying so."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import Ridge

from sparsestat.linear_model import ElasticNet, Lasso, MultiTaskLasso


@pytest.mark.parametrize("shift", [1e5, 5e7, 1e8])
@pytest.mark.parametrize("everywhere", [False, True])
def test_sparse_columns_far_from_zero(shift, everywhere):
    """One column like a time stamp, or all of them: the same objective as for dense columns."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 40)) * (rng.random((60, 40)) < 0.3)
    y = X[:, :3].sum(axis=1) + rng.standard_normal(60)
    X[:, 0] = rng.standard_normal(60)
    X[:, slice(None) if everywhere else 0] += shift
    dense = Lasso(0.05).fit(X, y)
    implicit = Lasso(0.05).fit(sparse.csc_array(X), y)
    assert dense.converged_ and implicit.converged_
    assert implicit.objective_ == pytest.approx(dense.objective_, abs=2e-6 * np.var(y))
    residual = y - implicit.predict(X)
    assert np.var(residual) / 2 + 0.05 * np.abs(implicit.coef_).sum() == pytest.approx(
        implicit.objective_, abs=1e-5
    )
    Y = np.column_stack([y, X[:, 5]])
    several = MultiTaskLasso(0.05).fit(sparse.csc_array(X), Y)
    expected = MultiTaskLasso(0.05).fit(X, Y)
    assert several.converged_
    assert several.objective_ == pytest.approx(expected.objective_, abs=1e-5)


@pytest.mark.parametrize("delta", [1e-2, 1e-4])
@pytest.mark.parametrize("form", [np.asarray, sparse.csc_array])
def test_unpenalised_columns_nearly_dependent(delta, form):
    """The free part must be solved to the precision of the columns, not of their products."""
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((40, 10))
    X = Z.copy()
    X[:, 1] = X[:, 0] + delta * Z[:, 1]
    y = Z[:, 1] + Z[:, 2]
    factor = np.r_[0.0, 0.0, np.ones(8)]
    # Free combinations of the first two columns are those of Z, whatever delta is.
    expected = Lasso(0.1, penalty_factor=factor, tol=1e-10).fit(Z, y).objective_
    model = Lasso(0.1, penalty_factor=factor).fit(form(X), y)
    assert model.objective_ == pytest.approx(expected, abs=1e-5)


def test_rows_without_weight_decide_nothing():
    """A column that varies only where weights are zero is constant."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((30, 80))
        y = X[:, 0] + rng.standard_normal(30)
        weights = 10 * rng.uniform(size=30)
        weights[0] = 0.0
        X[1:, 5], X[0, 5] = 0.1, 5.0
        factor = np.ones(80)
        factor[5] = 0.0
        weighted = Lasso(0.1, penalty_factor=factor).fit(X, y, weights)
        without = Lasso(0.1, penalty_factor=factor).fit(X[1:], y[1:], weights[1:])
        assert weighted.coef_[5] == 0.0
        np.testing.assert_array_equal(weighted.coef_, without.coef_)


def test_ridge_takes_few_steps():
    """Without a kink at zero no coefficient must stop there."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100, 300))
    y = X[:, 0] + rng.standard_normal(100)
    model = ElasticNet(0.01, l1_ratio=0.0).fit(X, y)
    assert model.converged_ and model.n_iter_ <= 10
    ridge = Ridge(alpha=0.01 * 100).fit(X, y)
    np.testing.assert_allclose(model.coef_, ridge.coef_, atol=1e-3)


def test_scales_of_columns_do_not_matter_if_factors_follow():
    """The same problem in other units takes about the same work."""
    rng = np.random.default_rng(0)
    factors = rng.standard_normal((300, 5))
    X = factors @ rng.standard_normal((5, 100)) + 0.3 * rng.standard_normal((300, 100))
    y = X[:, :10].sum(axis=1) + rng.standard_normal(300)
    scale = 10.0 ** rng.uniform(-4, 4, 100)
    plain = Lasso(1e-2, penalty_factor=1 / scale, tol=1e-8).fit(X, y)
    scaled = Lasso(1e-2, tol=1e-8).fit(X * scale, y)
    assert plain.converged_ and scaled.converged_
    assert scaled.objective_ == pytest.approx(plain.objective_, rel=1e-6)
    assert scaled.n_iter_ <= 3 * plain.n_iter_ + 10


def test_float32_predictions_belong_to_the_rounded_coefficients():
    rng = np.random.default_rng(0)
    X = (rng.standard_normal((50, 5)) + 3e4).astype(np.float32)
    y = (X[:, 0] - 3e4 + 0.1 * rng.standard_normal(50)).astype(np.float32)
    model = Lasso(0.01).fit(X, y)
    fitted = X.astype(float) @ model.coef_.astype(float) + model.intercept_
    assert abs(np.mean(y - fitted)) < 1e-6
