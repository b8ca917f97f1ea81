"""The lasso and the elastic net on arrays of the array API standard."""

import numpy as np
import pytest

import sparsestat
from sparsestat.linear_model import ElasticNet, Lasso


def _data(n=60, p=20, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) + 1.0
    return X, X[:, :3] @ [2.0, -1.0, 0.5] + 3.0 + 0.3 * rng.standard_normal(n)


CASES = [
    (Lasso(0.1, tol=1e-9), None),
    (Lasso(0.1, tol=1e-9, fit_intercept=False), None),
    (ElasticNet(0.1, l1_ratio=0.4, tol=1e-9), None),
    (ElasticNet(0.05, positive=True, tol=1e-9), None),
    (Lasso(0.1, penalty_factor=[0.0, 0.0, 2.0] + [1.0] * 17, tol=1e-9), None),
    (Lasso(0.1, tol=1e-9), np.arange(60) % 3),
]


@pytest.mark.parametrize("estimator, weights", CASES)
def test_same_optimum_as_on_the_host(xp, estimator, weights):
    from sklearn.base import clone

    X, y = _data()
    host = clone(estimator).fit(X, y, weights)
    device = clone(estimator)
    device.fit(xp.asarray(X), xp.asarray(y), weights)
    xp.assert_twin_ran()
    xp.assert_native(device.coef_)
    assert device.converged_
    assert device.objective_ == pytest.approx(host.objective_, rel=1e-8)
    np.testing.assert_allclose(xp.to_numpy(device.coef_), host.coef_, atol=1e-4)
    assert device.intercept_ == pytest.approx(host.intercept_, abs=1e-3)
    np.testing.assert_allclose(
        xp.to_numpy(device.predict(xp.asarray(X))), host.predict(X), atol=1e-3
    )


def test_float32_stays_float32(xp):
    X, y = _data()
    model = Lasso(0.1).fit(xp.asarray(X.astype(np.float32)), xp.asarray(y.astype(np.float32)))
    assert model.coef_.dtype == xp.float32


def test_predict_refuses_to_mix_libraries():
    array_api_strict = pytest.importorskip("array_api_strict")
    X, y = _data()
    on_device = array_api_strict.asarray(X)
    with pytest.raises(TypeError, match="array_api_strict and numpy"):
        Lasso(0.1).fit(X, y).predict(on_device)
    with pytest.raises(TypeError, match="array_api_strict and numpy"):
        Lasso(0.1).fit(on_device, y)


def test_device_input_is_checked():
    array_api_strict = pytest.importorskip("array_api_strict")
    X, y = _data()
    X[3, 2] = np.nan
    with pytest.raises(ValueError, match="X contains NaN"):
        Lasso().fit(array_api_strict.asarray(X), array_api_strict.asarray(y))
    with pytest.raises(ValueError, match="same number of rows"):
        Lasso().fit(array_api_strict.asarray(X[:3]), array_api_strict.asarray(y))


def test_few_steps_do_not_converge_silently():
    from sklearn.exceptions import ConvergenceWarning

    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 1)) + 1e-3 * rng.standard_normal((40, 30))
    y = rng.standard_normal(40)
    with (
        sparsestat.config_context(backend="array_api"),
        pytest.warns(ConvergenceWarning, match="duality gap"),
    ):
        model = Lasso(1e-6, tol=1e-12, max_iter=1).fit(X, y)
    assert not model.converged_


@pytest.mark.parametrize("column", [0, None])
def test_dependent_columns_without_penalty_are_refused(column):
    X, y = _data()
    X[:, 1] = X[:, 0] if column == 0 else 2.0
    factor = np.r_[0.0, 0.0, np.ones(18)]
    with (
        sparsestat.config_context(backend="array_api"),
        pytest.raises(ValueError, match="penalty_factor 0 must not depend on each other"),
    ):
        Lasso(0.1, penalty_factor=factor).fit(X, y)
