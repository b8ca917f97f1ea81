"""The central path of many problems, on arrays of the array API standard."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from sparsestat.dag import _central_path, _kernels_xp
from sparsestat.dag._central_path import central_path
from sparsestat.dag._central_path_many import colide_central_path

SHORT = {"warm_iter": 60, "max_iter": 80, "checkpoint": 20, "lr": 3e-3}


def _covariances(n_problems=3, d=5):
    rng = np.random.default_rng(0)
    W = np.triu(rng.uniform(0.5, 2.0, (d, d)), 1)
    X = rng.standard_normal((n_problems, 200, d)) @ np.linalg.inv(np.eye(d) - W)
    X = X - X.mean(axis=1, keepdims=True)
    return X.transpose(0, 2, 1) @ X / 200


def _quietly(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return colide_central_path(*args, **kwargs)


def _on_host(S, alphas, variance, params, **kwargs):
    return [
        central_path(one, alpha, variance, params=params, **kwargs)
        for one, alpha in zip(S, alphas, strict=True)
    ]


@pytest.mark.parametrize("variance", ["equal", "unequal"])
def test_same_path_as_on_the_host(xp, variance):
    S, alphas = _covariances(), [0.05, 0.1, 0.3]
    result = _quietly(xp.asarray(S), xp.asarray(alphas), variance=variance, path_params=SHORT)
    xp.assert_twin_ran()
    expected = _on_host(S, alphas, variance, SHORT)
    for array in result.values():
        xp.assert_native(array)
    for i, one in enumerate(expected):
        np.testing.assert_allclose(xp.to_numpy(result.weights)[i], one.W, atol=1e-9)
        np.testing.assert_allclose(xp.to_numpy(result.noise_scales)[i], one.scales, rtol=1e-9)
    np.testing.assert_allclose(
        xp.to_numpy(result.objectives), [one.objective for one in expected], rtol=1e-9
    )
    assert xp.to_numpy(result.n_iter).tolist() == [[60, 60, 60, 80]] * 3
    assert not np.any(xp.to_numpy(result.converged))


@pytest.mark.parametrize("lr", [0.5, 1.0])
def test_halved_steps_and_failures_are_those_of_the_host(xp, lr):
    S, alphas = _covariances(6), np.geomspace(0.02, 0.5, 6)
    params = {"warm_iter": 12, "max_iter": 12, "checkpoint": 5, "lr": lr}
    result = _kernels_xp.central_path_batch(
        xp.asarray(S), xp.asarray(alphas), "equal", params=params
    )
    expected = _on_host(S, alphas, "equal", params)
    failures = [[stage.n_failures for stage in one.stages] for one in expected]
    assert xp.to_numpy(result.n_failures).tolist() == failures
    assert any(stage.lr < lr for one in expected for stage in one.stages[:1])
    # Failures of some problems only, so that the batch has to be taken apart.
    assert len({tuple(row) for row in failures}) > 1
    for i, one in enumerate(expected):
        np.testing.assert_allclose(xp.to_numpy(result.W)[i], one.W, atol=1e-8)
        np.testing.assert_allclose(xp.to_numpy(result.scales)[i], one.scales, rtol=1e-8)
    assert xp.to_numpy(result.n_iter).tolist() == [one.n_iter for one in expected]


def test_problems_end_at_checkpoints_of_their_own(xp):
    S, alphas = _covariances(5), np.geomspace(0.01, 1.0, 5)
    params = {**SHORT, "warm_iter": 160, "max_iter": 160, "lr": 0.03, "tol": 4e-3}
    result = _quietly(xp.asarray(S), xp.asarray(alphas), variance="unequal", path_params=params)
    expected = _on_host(S, alphas, "unequal", params)
    n_iter = [one.n_iter for one in expected]
    assert len({tuple(row) for row in n_iter}) > 2
    assert xp.to_numpy(result.n_iter).tolist() == n_iter
    assert xp.to_numpy(result.converged).tolist() == [one.converged for one in expected]
    for i, one in enumerate(expected):
        np.testing.assert_allclose(xp.to_numpy(result.weights)[i], one.W, atol=1e-7)


def test_steps_that_cannot_be_short_enough(xp, monkeypatch):
    monkeypatch.setattr(_central_path, "MIN_LR", 0.2)
    monkeypatch.setattr(_kernels_xp, "MIN_LR", 0.2)
    S, alphas = _covariances(6), np.geomspace(0.02, 0.5, 6)
    params = {"mu": [1.0], "s": [1.0], "max_iter": 12, "checkpoint": 5, "lr": 0.25, "tol": 0.0}
    result = _kernels_xp.central_path_batch(
        xp.asarray(S), xp.asarray(alphas), "equal", params=params
    )
    expected = _on_host(S, alphas, "equal", params)
    assert 1 < min(one.n_iter[0] for one in expected) < 12
    assert xp.to_numpy(result.n_iter).tolist() == [one.n_iter for one in expected]
    for i, one in enumerate(expected):
        np.testing.assert_allclose(xp.to_numpy(result.W)[i], one.W, atol=1e-9)


@pytest.mark.parametrize("variance", ["equal", "unequal"])
def test_restrictions(xp, variance):
    S, alphas = _covariances(), [0.05, 0.1, 0.3]
    mask, penalty = ~np.eye(5, dtype=bool), np.linspace(0.5, 2.0, 5)
    mask[0] = False
    result = _kernels_xp.central_path_batch(
        xp.asarray(S),
        xp.asarray(alphas),
        variance,
        params=SHORT,
        mask=xp.asarray(mask),
        penalty=xp.asarray(penalty),
        sigma_min=1.1,
    )
    expected = _on_host(S, alphas, variance, SHORT, mask=mask, penalty=penalty, sigma_min=1.1)
    for i, one in enumerate(expected):
        W = xp.to_numpy(result.W)[i]
        np.testing.assert_allclose(W, one.W, atol=1e-9)
        np.testing.assert_allclose(xp.to_numpy(result.scales)[i], one.scales, rtol=1e-9)
        assert np.all(W[~mask] == 0.0)


def test_one_problem_loses_the_first_axis(xp):
    S = _covariances(1)[0]
    result = _quietly(xp.asarray(S), 0.1, path_params=SHORT)
    assert result.weights.shape == (5, 5)
    assert result.noise_scales.shape == (5,)
    assert result.objectives.shape == ()
    assert result.n_iter.shape == (4,)
    several = _quietly(xp.asarray(S), xp.asarray([0.1, 0.2]), path_params=SHORT)
    np.testing.assert_allclose(
        xp.to_numpy(several.weights)[0], xp.to_numpy(result.weights), atol=1e-12
    )


def test_float32_goes_in_and_out(xp):
    S = _covariances().astype(np.float32)
    result = _quietly(xp.asarray(S), 0.1, path_params=SHORT)
    assert result.weights.dtype == result.noise_scales.dtype == xp.float32
    expected = _on_host(S.astype(np.float64), [0.1] * 3, "equal", SHORT)
    np.testing.assert_allclose(
        xp.to_numpy(result.weights), [one.W for one in expected], atol=1e-6, rtol=1e-6
    )


def test_two_numbers_are_read_at_a_checkpoint(xp):
    if not xp.counts_syncs:
        pytest.skip("reads cannot be counted in this library")
    S = xp.asarray(_covariances())
    alphas = xp.asarray([0.05, 0.1, 0.3])

    def syncs(checkpoint, n_iterations):
        params = {
            "mu": [1.0], "s": [1.0], "max_iter": n_iterations, "checkpoint": checkpoint, "tol": 0.0,
        }  # fmt: skip
        before = xp.syncs
        _kernels_xp.central_path_batch(S, alphas, "equal", params=params)
        return xp.syncs - before

    assert syncs(20, 20) == syncs(100, 100) == 2
    assert syncs(20, 100) == 10


def test_device_input_is_checked(xp):
    S = _covariances()
    S[1, 0, 0] = -1.0
    with pytest.raises(ValueError, match="positive diagonals"):
        colide_central_path(xp.asarray(S), 0.1)
    S[1, 0, 0] = np.nan
    with pytest.raises(ValueError, match="covariances contains NaN"):
        colide_central_path(xp.asarray(S), 0.1)
    with pytest.raises(ValueError, match="alphas must be a positive number"):
        colide_central_path(xp.asarray(_covariances()), xp.asarray([0.1, -0.1, 0.1]))
    with pytest.raises(ValueError, match="got 2 for 3 covariances"):
        colide_central_path(xp.asarray(_covariances()), xp.asarray([0.1, 0.1]))
    with pytest.warns(ConvergenceWarning, match="3 of 3 central paths"):
        colide_central_path(xp.asarray(_covariances()), 0.1, path_params=SHORT)


def test_libraries_are_not_mixed():
    array_api_strict = pytest.importorskip("array_api_strict")
    S = array_api_strict.asarray(_covariances())
    with pytest.raises(TypeError, match="array_api_strict and numpy"):
        colide_central_path(S, np.array([0.1, 0.2, 0.3]))
