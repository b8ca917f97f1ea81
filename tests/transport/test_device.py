"""The same solutions on other array libraries, without leaving their device."""

import importlib

import numpy as np
import pytest
import sklearn
from sklearn.pipeline import make_pipeline

import sparsestat
from sparsestat.transport import (
    EntropicTransport,
    sinkhorn,
    sinkhorn_divergence,
    sinkhorn_gradient,
    sinkhorn_points,
)
from sparsestat.utils import _arrays

from ._problems import draw


def on_host(function):
    """Solve with the compiled kernels, also within a fixture that asks for their twins."""
    with pytest.MonkeyPatch.context() as patch, sparsestat.config_context(backend="numba"):
        patch.setattr(_arrays, "_load", importlib.import_module)
        return function()


def problem():
    C, a, b = draw()
    a[3], b[5] = 0.0, 0.0
    return C, a / a.sum(), b / b.sum()


def assert_same(xp, found, expected, atol=1e-10):
    xp.assert_native(found)
    np.testing.assert_allclose(xp.to_numpy(found), expected, atol=atol)


def assert_same_result(xp, found, expected):
    assert found.converged == expected.converged
    for name in ("value", "transport_cost", "dual_value"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-10)
    # They are determined up to a constant that one gains and the other loses.
    constant = float(xp.mean(found.potentials[0])) - float(expected.potentials[0].mean())
    for first, second in zip(found.potentials, expected.potentials):
        assert_same(xp, first - constant, second, atol=1e-8)
        constant = -constant
    assert_same(xp, found.plan, expected.plan)


@pytest.mark.parametrize("method", ["auto", "kernel", "log", "newton"])
@pytest.mark.parametrize("epsilon", [0.3, 0.01])
def test_methods(xp, method, epsilon):
    options = {"epsilon": epsilon, "method": method, "tol": 1e-11}
    expected = on_host(lambda: sinkhorn(*problem(), **options))
    found = sinkhorn(*map(xp.asarray, problem()), **options)
    xp.assert_twin_ran()
    assert_same_result(xp, found, expected)


def test_forbidden_pairs_penalties_and_scales(xp):
    C, a, b = problem()
    C[np.random.default_rng(0).uniform(size=C.shape) < 0.2] = np.inf
    for options in (
        {"epsilon": 0.05},
        {"epsilon": 0.05, "reg_marginals": (1.0, 2.0)},
        {"epsilon": 0.1, "epsilon_scale": "median"},
        {"epsilon": 0.1, "epsilon_scale": "max", "proximal_steps": 2},
        {},
    ):
        expected = on_host(lambda options=options: sinkhorn(C, a, b, tol=1e-11, **options))
        found = sinkhorn(*map(xp.asarray, (C, a, b)), tol=1e-11, **options)
        assert found.epsilon == pytest.approx(expected.epsilon, rel=1e-12)
        assert_same_result(xp, found, expected)


def test_single_precision(xp):
    C, a, b = problem()
    expected = on_host(lambda: sinkhorn(C.astype(np.float32), a, b, epsilon=0.05))
    found = sinkhorn(xp.asarray(C.astype(np.float32)), xp.asarray(a), xp.asarray(b), epsilon=0.05)
    assert found.plan.dtype == xp.float32
    np.testing.assert_allclose(xp.to_numpy(found.plan), expected.plan, atol=1e-9)
    stored = sinkhorn(
        *map(xp.asarray, (C, a, b)), epsilon=0.05, storage_dtype=xp.float32, method="kernel"
    )
    assert stored.converged


def points():
    rng = np.random.default_rng(1)
    return rng.normal(size=(40, 3)), rng.normal(size=(30, 3)) + 1.0


@pytest.mark.parametrize("lazy", [True, False])
@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cityblock"])
def test_points_of_other_libraries(xp, lazy, metric):
    X, Y = points()
    options = {"epsilon": 0.5, "metric": metric, "tol": 1e-11}
    expected = on_host(lambda: sinkhorn_points(X, Y, lazy=lazy, **options))
    found = sinkhorn_points(xp.asarray(X), xp.asarray(Y), lazy=lazy, **options)
    xp.assert_twin_ran()
    assert_same_result(xp, found, expected)
    assert_same(xp, found.barycenters(xp.asarray(Y)), expected.barycenters(Y), atol=1e-8)


def test_divergence_and_gradient(xp):
    X, Y = points()
    there = xp.asarray(X), xp.asarray(Y)
    options = {"epsilon": 0.5, "tol": 1e-11}
    expected = on_host(lambda: sinkhorn_divergence(X, Y, **options))
    assert sinkhorn_divergence(*there, **options) == pytest.approx(expected, abs=1e-9)
    for debiased in (False, True):
        expected = on_host(lambda d=debiased: sinkhorn_gradient(X, Y, debiased=d, **options))
        found = sinkhorn_gradient(*there, debiased=debiased, **options)
        for name in ("X", "a", "b"):
            assert_same(xp, getattr(found, name), getattr(expected, name), atol=1e-8)


def test_the_estimator_stays_on_the_device(xp):
    X, Y = points()
    weights = np.random.default_rng(2).integers(0, 3, len(X)).astype(float)
    options = {"epsilon": 0.5, "tol": 1e-11}
    expected = on_host(lambda: EntropicTransport(Y, **options).fit(X, sample_weight=weights))
    found = EntropicTransport(xp.asarray(Y), **options)
    found.fit(xp.asarray(X), sample_weight=xp.asarray(weights))
    xp.assert_twin_ran()
    new = X[:5] + 0.3
    assert_same(xp, found.transform(xp.asarray(new)), on_host(lambda: expected.transform(new)))
    back = on_host(lambda: expected.inverse_transform(Y))
    assert_same(xp, found.inverse_transform(xp.asarray(Y)), back)
    score = on_host(lambda: expected.score(X))
    assert found.score(xp.asarray(X)) == pytest.approx(score, abs=1e-6)
    labels = np.arange(len(X)) % 3
    np.testing.assert_array_equal(
        found.transport_labels(labels), on_host(lambda: expected.transport_labels(labels))
    )
    reference = EntropicTransport(n_target=30, random_state=0, epsilon=2.0).fit(xp.asarray(X))
    xp.assert_native(reference.transform(xp.asarray(X)))


def test_libraries_are_not_mixed(xp):
    X, Y = points()
    if type(xp.asarray(X)) is np.ndarray:
        pytest.skip("one library")
    with pytest.raises(TypeError, match="All arrays must belong to one library"):
        sinkhorn_points(xp.asarray(X), Y)
    with pytest.raises(TypeError, match="All arrays must belong to one library"):
        EntropicTransport(Y).fit(xp.asarray(X))
    with pytest.raises(TypeError, match="All arrays must belong to one library"):
        EntropicTransport(xp.asarray(Y)).fit(xp.asarray(X)).transform(X)
    with pytest.raises(TypeError, match=r"method='truncated' works on NumPy arrays"):
        sinkhorn_points(xp.asarray(X), xp.asarray(Y), method="truncated", epsilon=1.0)


def test_a_pipeline_with_dispatch():
    strict = pytest.importorskip("array_api_strict")
    X, Y = points()
    pipeline = make_pipeline(
        EntropicTransport(strict.asarray(Y), epsilon=0.5), EntropicTransport(strict.asarray(Y))
    )
    with sklearn.config_context(array_api_dispatch=True):
        moved = pipeline.fit(strict.asarray(X)).transform(strict.asarray(X))
    host = make_pipeline(EntropicTransport(Y, epsilon=0.5), EntropicTransport(Y))
    np.testing.assert_allclose(np.asarray(moved._array), host.fit(X).transform(X), atol=1e-6)
