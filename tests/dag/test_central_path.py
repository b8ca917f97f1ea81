"""The central path on the host, against a plain loop written from the formulas."""

import itertools
import math

import networkx
import numpy as np
import pytest
import scipy.optimize
from sklearn.exceptions import ConvergenceWarning

from sparsestat.dag import _central_path
from sparsestat.dag._central_path import acyclicity, central_path, project_to_dag
from sparsestat.dag._central_path_many import colide_central_path
from sparsestat.dag._central_path_params import REFERENCE_PARAMS, check_path_params

SHORT = {"warm_iter": 150, "max_iter": 200, "checkpoint": 50, "lr": 3e-3}


def _sem(d=6, n=500, seed=0, variances=(1.0, 1.0)):
    """Covariance of data from a random directed acyclic graph, its weights and its noise."""
    rng = np.random.default_rng(seed)
    size = rng.uniform(0.5, 2.0, (d, d)) * rng.choice([-1.0, 1.0], (d, d))
    W = np.triu(size * (rng.random((d, d)) < 0.5), 1)
    noise = np.sqrt(rng.uniform(*variances, d))
    X = noise * rng.standard_normal((n, d)) @ np.linalg.inv(np.eye(d) - W)
    order = rng.permutation(d)
    W, X = W[np.ix_(order, order)], X[:, order]
    return np.cov(X.T, bias=True), W, noise[order]


def _textbook_scales(S, W, variance):
    residual = (np.eye(len(S)) - W).T @ S @ (np.eye(len(S)) - W)
    if variance == "equal":
        return np.full(len(S), np.sqrt(np.trace(residual) / len(S)))
    return np.sqrt(np.diag(residual))


def _textbook_criterion(S, W, scales, l1):
    residual = (np.eye(len(S)) - W).T @ S @ (np.eye(len(S)) - W)
    return 0.5 * np.sum(np.diag(residual) / scales + scales) + np.sum(l1 * np.abs(W))


def _textbook_path(S, variance, params, l1, mask):
    """The algorithm as the paper tells it, with as many temporaries as it takes."""
    d = len(S)
    W, scales = np.zeros((d, d)), np.sqrt(np.diag(S))
    if variance == "equal":
        scales = np.full(d, scales.min())
    failures = []
    for k, (mu, s) in enumerate(zip(params["mu"], params["s"], strict=True)):
        budget = params["max_iter" if k == len(params["mu"]) - 1 else "warm_iter"]
        lr, n_failures, start = params["lr"], 0, (W, scales)
        while True:
            W, scales, failed = _textbook_stage(
                S, *start, variance, mu, s, lr, budget, params, l1, mask
            )
            if not failed:
                break
            lr, s, n_failures = lr / 2, s + 0.1, n_failures + 1
        failures.append(n_failures)
    return W, scales, failures


def _textbook_stage(S, W, scales, variance, mu, s, lr, budget, params, l1, mask):
    d = len(S)
    (beta1, beta2), eps = params["betas"], params["eps"]
    m, v = np.zeros((d, d)), np.zeros((d, d))
    previous = np.inf
    for t in range(1, budget + 1):
        M = np.linalg.inv(s * np.eye(d) - W * W)
        while np.any(M < -1e-6):
            if t == 1 or s <= 0.9:
                return W, scales, True
            W = W + lr * direction  # noqa: F821
            lr = lr / 2
            W = W - lr * direction  # noqa: F821
            scales = _textbook_scales(S, W, variance)
            M = np.linalg.inv(s * np.eye(d) - W * W)
        G = -mu * (S @ (np.eye(d) - W)) / scales + mu * l1 * np.sign(W) + 2 * W * M.T
        G = np.where(mask, G, 0.0)
        m = beta1 * m + (1 - beta1) * G
        v = beta2 * v + (1 - beta2) * G**2
        direction = (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)
        W = W - lr * direction
        scales = _textbook_scales(S, W, variance)
        if t % params["checkpoint"] == 0 or t == budget:
            logdet = np.linalg.slogdet(s * np.eye(d) - W * W)[1]
            value = mu * _textbook_criterion(S, W, scales, l1) + d * np.log(s) - logdet
            if abs(previous - value) <= params["tol"] * abs(previous) < np.inf:
                break
            previous = value
    return W, scales, False


# Settings.


def test_defaults_are_those_of_the_paper():
    params = check_path_params(None)
    assert params == dict(REFERENCE_PARAMS)
    assert params["s"] == (1.0, 0.9, 0.8, 0.7)
    assert params["mu"] == (1.0, 0.1, 0.01, 0.001)
    assert (params["warm_iter"], params["max_iter"], params["checkpoint"]) == (20000, 70000, 1000)
    assert (params["lr"], params["betas"], params["eps"]) == (3e-4, (0.99, 0.999), 1e-8)
    assert params["tol"] == 1e-6


def test_settings_are_converted():
    params = check_path_params({"warm_iter": 2e4, "mu": np.array([1.0, 0.5]), "s": [1, 2]})
    assert params["warm_iter"] == 20000
    assert isinstance(params["warm_iter"], int)
    assert params["mu"] == (1.0, 0.5)
    assert params["s"] == (1.0, 2.0)


@pytest.mark.parametrize(
    "key, value",
    [
        ("mu", 1.0),
        ("mu", [1.0, -0.1, 0.01, 0.001]),
        ("mu", "1111"),
        ("s", [1.0, 0.0, 0.8, 0.7]),
        ("s", [1.0, np.nan, 0.8, 0.7]),
        ("betas", (0.9,)),
        ("betas", (0.9, 1.0)),
        ("warm_iter", 0),
        ("warm_iter", 10.5),
        ("max_iter", True),
        ("checkpoint", "100"),
        ("lr", 0.0),
        ("lr", [0.1]),
        ("eps", -1e-8),
        ("tol", -1.0),
    ],
)
def test_bad_settings_are_named(key, value):
    with pytest.raises(ValueError, match=f"path_params\\['{key}'\\] must be"):
        check_path_params({key: value})


def test_shape_of_the_settings():
    with pytest.raises(ValueError, match=r"unknown key 'steps'.*warm_iter"):
        check_path_params({"steps": 3})
    with pytest.raises(ValueError, match="one entry for each stage, got 4 and 2"):
        check_path_params({"s": [1.0, 0.9]})
    with pytest.raises(ValueError, match="one entry for each stage, got 0 and 0"):
        check_path_params({"s": [], "mu": []})
    with pytest.raises(TypeError, match="path_params must be a dict"):
        check_path_params([1.0])


# The acyclicity function.


def test_gradient_agrees_with_differences():
    rng = np.random.default_rng(0)
    W = 0.3 * rng.standard_normal((5, 5))
    h, gradient = acyclicity(W, 0.9)
    assert h == pytest.approx(
        5 * np.log(0.9) - np.log(np.linalg.det(0.9 * np.eye(5) - W * W)), rel=1e-12
    )
    step = 1e-6
    for i, j in itertools.product(range(5), repeat=2):
        E = np.zeros((5, 5))
        E[i, j] = step
        slope = (acyclicity(W + E, 0.9)[0] - acyclicity(W - E, 0.9)[0]) / (2 * step)
        # The differences err by step^2 and by rounding / step, both far below.
        assert gradient[i, j] == pytest.approx(slope, abs=1e-7)


@pytest.mark.parametrize("seed", range(5))
def test_zero_for_acyclic_graphs_only(seed):
    W = _sem(8, seed=seed)[1]
    before = W.copy()
    h, gradient = acyclicity(W, 0.7)
    assert h == 0.0
    assert np.all(gradient[W == 0.0] == 0.0)
    np.testing.assert_array_equal(W, before)
    i, j = np.argwhere(W != 0.0)[0]
    W[j, i] = 0.1
    assert acyclicity(W, 10.0)[0] > 0.0


def test_two_eigenvalues_across_the_border_are_outside():
    # s = 1 against eigenvalues 1.44 of both two-cycles: the determinant is positive again.
    W = np.zeros((4, 4))
    W[0, 1] = W[1, 0] = W[2, 3] = W[3, 2] = 1.2
    assert np.linalg.det(np.eye(4) - W * W) > 0.0
    assert acyclicity(W, 1.0) == (math.inf, None)
    assert math.isfinite(acyclicity(W, 1.45)[0])
    # So far outside that the inverse is almost zero: no tolerance may let it in.
    assert acyclicity(1e4 * W, 1.0) == (math.inf, None)


def test_domain_is_the_spectral_radius():
    rng = np.random.default_rng(1)
    sides = set()
    for _ in range(200):
        W = rng.uniform(0.0, 0.7) * rng.standard_normal((5, 5)) * (rng.random((5, 5)) < 0.6)
        inside = np.max(np.abs(np.linalg.eigvals(W * W))) < 0.8
        assert math.isfinite(acyclicity(W, 0.8)[0]) == inside
        sides.add(inside)
    assert sides == {True, False}


# From weights to a graph.


def _is_nilpotent(W):
    return not np.linalg.matrix_power((W != 0.0).astype(float), len(W)).any()


@pytest.mark.parametrize("seed", range(10))
def test_smallest_edges_go_one_by_one(seed):
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((6, 6))
    before = W.copy()
    expected = np.where(np.abs(W) > 0.3, W, 0.0) * (1.0 - np.eye(6))
    while not _is_nilpotent(expected):
        size = np.where(expected != 0.0, np.abs(expected), np.inf)
        expected[np.unravel_index(np.argmin(size), size.shape)] = 0.0
    np.testing.assert_array_equal(project_to_dag(W, 0.3), expected)
    np.testing.assert_array_equal(W, before)


def test_acyclic_weights_only_lose_what_is_below_the_threshold():
    W = _sem(8, seed=3)[1]
    np.testing.assert_array_equal(project_to_dag(W, 0.0), W)
    assert np.all(np.abs(project_to_dag(W, 1.0)[project_to_dag(W, 1.0) != 0]) > 1.0)
    np.testing.assert_array_equal(project_to_dag(np.eye(3), 0.3), np.zeros((3, 3)))
    np.testing.assert_array_equal(project_to_dag(np.zeros((2, 2)), 0.0), np.zeros((2, 2)))


# The path.


@pytest.mark.parametrize("variance", ["equal", "unequal"])
@pytest.mark.parametrize("restricted", [False, True])
def test_trajectory_is_that_of_the_textbook(variance, restricted):
    S, _, _ = _sem(variances=(0.5, 3.0))
    penalty = mask = None
    l1, allowed = 0.05, np.ones((6, 6), dtype=bool)
    if restricted:
        penalty = np.linspace(0.5, 2.0, 6)
        mask = allowed = ~np.eye(6, dtype=bool) & (np.arange(36).reshape(6, 6) % 5 > 0)
        l1 = 0.05 * penalty[:, None]
    result = central_path(S, 0.05, variance, params=SHORT, penalty=penalty, mask=mask)
    W, scales, failures = _textbook_path(S, variance, check_path_params(SHORT), l1, allowed)
    np.testing.assert_allclose(result.W, W, atol=1e-9)
    np.testing.assert_allclose(result.scales, scales, rtol=1e-9)
    assert result.objective == pytest.approx(_textbook_criterion(S, W, scales, l1), rel=1e-9)
    assert result.h == pytest.approx(acyclicity(W, 0.7)[0], rel=1e-6)
    assert [stage.n_failures for stage in result.stages] == failures == [0, 0, 0, 0]
    assert np.all(result.W[~allowed] == 0.0)
    # The scales are where the criterion is least, and there it is their sum.
    smooth = result.objective - np.sum(l1 * np.abs(result.W))
    assert smooth == pytest.approx(np.sum(result.scales), rel=1e-12)


def test_penalty_of_single_edges():
    S, _, _ = _sem()
    rows = np.linspace(0.5, 2.0, 6)
    by_rows = central_path(S, 0.05, "equal", params=SHORT, penalty=rows)
    by_edges = central_path(
        S, 0.05, "equal", params=SHORT, penalty=np.broadcast_to(rows[:, None], (6, 6))
    )
    np.testing.assert_array_equal(by_rows.W, by_edges.W)


@pytest.mark.parametrize("variance", ["equal", "unequal"])
@pytest.mark.parametrize("lr", [0.5, 1.0])
def test_steps_out_of_the_domain_are_halved_or_the_stage_starts_anew(variance, lr):
    S, _, _ = _sem(seed=2)
    params = {"warm_iter": 12, "max_iter": 12, "checkpoint": 5, "lr": lr}
    result = central_path(S, 0.05, variance, params=params)
    W, scales, failures = _textbook_path(S, variance, check_path_params(params), 0.05, True)
    assert [stage.n_failures for stage in result.stages] == failures
    np.testing.assert_allclose(result.W, W, atol=1e-9)
    np.testing.assert_allclose(result.scales, scales, rtol=1e-9)
    for stage, s in zip(result.stages, REFERENCE_PARAMS["s"], strict=True):
        assert stage.s == pytest.approx(s + 0.1 * stage.n_failures)
        assert stage.lr <= lr * 0.5**stage.n_failures
    # The first stage halves steps, the others start anew.
    assert failures[0] == 0
    assert result.stages[0].lr < lr
    assert min(failures[1:]) > 0


def test_a_step_that_cannot_be_short_enough_is_undone(monkeypatch):
    S, _, _ = _sem(seed=4)
    params = {"mu": [1.0], "s": [1.0], "max_iter": 12, "checkpoint": 1, "lr": 0.35, "tol": 0.0}
    (halved,) = central_path(S, 0.05, "equal", params=params).stages
    assert halved.lr < 0.35
    assert halved.n_iter == 12
    monkeypatch.setattr(_central_path, "MIN_LR", 0.2)
    steps = []
    result = central_path(
        S, 0.05, "equal", params=params, progress=lambda stage, t, W, *_: steps.append(W)
    )
    (stage,) = result.stages
    assert 2 <= stage.n_iter == len(steps) < 12
    assert not stage.converged
    np.testing.assert_allclose(result.W, steps[-2], atol=1e-12)
    assert stage.objectives.size == len(steps) + 1
    assert math.isinf(stage.objectives[-2])
    assert stage.objectives[-1] == pytest.approx(stage.objectives[-3], rel=1e-12)


def _best_in_order(S, order, alpha):
    """The least criterion over weights from earlier to later nodes, which is convex."""
    d = len(S)
    earlier = np.zeros((d, d), dtype=bool)
    earlier[np.ix_(order, order)] = np.triu(np.ones((d, d), dtype=bool), 1)
    n_edges = earlier.sum()

    def value(parts):
        W = np.zeros((d, d))
        W[earlier] = parts[:n_edges] - parts[n_edges:]
        R = S @ (np.eye(d) - W)
        scale = np.sqrt(np.sum((np.eye(d) - W) * R) / d)
        slope = -R[earlier] / scale
        return d * scale + alpha * parts.sum(), np.r_[slope + alpha, -slope + alpha]

    best = scipy.optimize.minimize(
        value, np.full(2 * n_edges, 0.1), jac=True, bounds=[(0, None)] * (2 * n_edges), tol=1e-12
    )
    W = np.zeros((d, d))
    W[earlier] = best.x[:n_edges] - best.x[n_edges:]
    return best.fun, W


@pytest.mark.parametrize("variance", ["equal", "unequal"])
def test_objective_falls_to_almost_a_graph(variance):
    S, _, _ = _sem(6, n=2000, seed=1)
    params = {"warm_iter": 2000, "max_iter": 3000, "lr": 3e-3, "checkpoint": 200}
    result = central_path(S, 0.05, variance, params=params)
    for stage in result.stages:
        assert stage.n_iter <= 3000
        # Near its limit Adam goes round it in steps of the size lr.
        assert np.all(np.diff(stage.objectives) <= 1e-4 * stage.objectives[:-1])
        assert stage.objectives.size > 2
    assert 0.0 < result.h < 1e-2
    assert np.max(np.abs(np.diag(result.W))) < 0.05


@pytest.mark.parametrize("seed", range(1, 5))
def test_path_ends_at_the_penalised_fit_of_the_right_graph(seed):
    S, W, _ = _sem(6, n=2000, seed=seed)
    params = {"warm_iter": 4000, "max_iter": 6000, "lr": 1e-3, "checkpoint": 500}
    result = central_path(S, 0.05, "equal", params=params)
    assert result.converged
    np.testing.assert_array_equal(project_to_dag(result.W, 0.3) != 0.0, W != 0.0)
    graph = networkx.from_numpy_array(W != 0.0, create_using=networkx.DiGraph)
    objective, best = _best_in_order(S, list(networkx.topological_sort(graph)), 0.05)
    # The end of the path has mu * objective + h of at most mu times that of the graph, and the
    # little room that h leaves takes it below: here h is about 2e-6, and mu 1e-3.
    assert result.objective == pytest.approx(objective, rel=2e-3)
    assert result.objective < objective * (1.0 + 1e-4)
    np.testing.assert_allclose(result.W, best, atol=0.02)


def test_inputs_are_left_alone():
    S, _, _ = _sem()
    kept, levels = S.copy(), [1.0, 0.9, 0.8, 0.7]
    params = {**SHORT, "lr": 0.5, "s": levels}
    mask, penalty = ~np.eye(6, dtype=bool), np.ones(6)
    result = central_path(S, 0.05, "equal", params=params, mask=mask, penalty=penalty)
    assert sum(stage.n_failures for stage in result.stages) > 0
    np.testing.assert_array_equal(S, kept)
    assert levels == [1.0, 0.9, 0.8, 0.7]
    assert params == {**SHORT, "lr": 0.5, "s": levels}
    np.testing.assert_array_equal(mask, ~np.eye(6, dtype=bool))
    again = central_path(S, 0.05, "equal", params=params, mask=mask, penalty=penalty)
    np.testing.assert_array_equal(result.W, again.W)


def test_progress_sees_every_checkpoint():
    S, _, _ = _sem()
    seen = []

    def watch(stage, iteration, W, scales, objective):
        seen.append((stage, iteration, objective))
        assert scales.shape == (6,)
        W[...] = np.nan
        scales[...] = np.nan

    params = {**SHORT, "tol": 0.0}
    result = central_path(S, 0.05, "equal", params=params, progress=watch)
    assert [(k, t) for k, t, _ in seen] == [
        *((k, t) for k in range(3) for t in (50, 100, 150)),
        *((3, t) for t in (50, 100, 150, 200)),
    ]
    recorded = np.concatenate([stage.objectives for stage in result.stages])
    np.testing.assert_array_equal([objective for _, _, objective in seen], recorded)
    assert not result.stopped
    np.testing.assert_array_equal(result.W, central_path(S, 0.05, "equal", params=params).W)


def test_progress_stops():
    S, _, _ = _sem()
    result = central_path(
        S, 0.05, "equal", params=SHORT, progress=lambda stage, iteration, *_: stage == 1
    )
    assert result.stopped
    assert not result.converged
    assert result.n_iter == [150, 50]


def test_tolerance_ends_a_stage():
    S, _, _ = _sem()
    result = central_path(S, 0.05, "equal", params={**SHORT, "tol": 1e9})
    assert result.n_iter == [100, 100, 100, 100]
    assert result.converged
    single = central_path(S, 0.05, "equal", params={**SHORT, "checkpoint": 500, "tol": 1e9})
    assert single.n_iter == [150, 150, 150, 200]
    assert not single.converged
    assert single.stages[0].change == math.inf


@pytest.mark.parametrize("variance", ["equal", "unequal"])
def test_floor_of_the_scales(variance):
    S, _, _ = _sem()
    result = central_path(S, 0.05, variance, params=SHORT, sigma_min=1.3)
    expected = np.maximum(_textbook_scales(S, result.W, variance), 1.3)
    np.testing.assert_allclose(result.scales, expected, rtol=1e-12)
    assert np.any(result.scales == 1.3)


@pytest.mark.parametrize("variance", ["equal", "unequal"])
def test_variables_that_do_not_vary(variance):
    S, _, _ = _sem()
    S[2] = S[:, 2] = 0.0
    with pytest.raises(ValueError, match="position 2"):
        central_path(S, 0.05, variance, params=SHORT)
    result = central_path(S, 0.05, variance, params=SHORT, sigma_min=1e-3)
    assert np.all(result.W[2] == 0.0)
    assert np.all(result.W[:, 2] == 0.0)


@pytest.mark.parametrize("variance", ["equal", "unequal"])
def test_duplicated_variables(variance):
    S, _, _ = _sem()
    S = S[np.ix_([0, 1, 2, 3, 4, 5, 0], [0, 1, 2, 3, 4, 5, 0])]
    result = central_path(S, 1e-6, variance, params={**SHORT, "lr": 0.02})
    assert np.all(np.isfinite(result.W))
    assert np.all(result.scales > 0.0)


def test_one_variable():
    result = central_path(np.array([[4.0]]), 0.05, "equal", params=SHORT)
    assert result.W.shape == (1, 1)
    np.testing.assert_array_equal(project_to_dag(result.W, 0.0), [[0.0]])


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_extreme_units(size):
    result = central_path(size * _sem()[0], 0.05, "unequal", params=SHORT)
    assert np.all(np.isfinite(result.W))
    np.testing.assert_allclose(
        result.scales / np.sqrt(size), _textbook_scales(_sem()[0], result.W, "unequal"), rtol=1e-9
    )


# Several problems.


def test_several_covariances_and_penalties():
    S = np.stack([_sem(seed=seed)[0] for seed in range(3)])
    params = {**SHORT, "tol": 1e9}
    single = colide_central_path(S[0], 0.1, path_params=params)
    assert single.weights.shape == (6, 6)
    assert single.noise_scales.shape == (6,)
    assert single.n_iter.tolist() == [100, 100, 100, 100]
    assert bool(single.converged)
    alone = central_path(S[0], 0.1, "equal", params=params)
    np.testing.assert_array_equal(single.weights, alone.W)
    assert float(single.objectives) == alone.objective

    alphas = [0.1, 0.2, 0.3]
    many = colide_central_path(S[0], alphas, path_params=params)
    pairs = colide_central_path(S, np.array(alphas), path_params=params)
    same = colide_central_path(S.tolist(), 0.1, path_params=params)
    assert many.weights.shape == pairs.weights.shape == same.weights.shape == (3, 6, 6)
    for result in (many, pairs, same):
        np.testing.assert_array_equal(result.weights[0], alone.W)
    np.testing.assert_array_equal(
        pairs.weights[2], colide_central_path(S[2], 0.3, path_params=params).weights
    )
    unequal = colide_central_path(S, 0.1, variance="unequal", path_params=params)
    assert np.ptp(unequal.noise_scales[0]) > 0.0


def test_float32_goes_in_and_out():
    S = _sem()[0].astype(np.float32)
    params = {**SHORT, "tol": 1e9}
    result = colide_central_path(S, 0.1, path_params=params)
    assert result.weights.dtype == result.noise_scales.dtype == np.float32
    inside = central_path(S.astype(np.float64), 0.1, "equal", params=params)
    np.testing.assert_array_equal(result.weights, inside.W.astype(np.float32))


def test_unfinished_paths_warn():
    S, _, _ = _sem()
    with pytest.warns(ConvergenceWarning, match="2 of 2 central paths did not converge"):
        result = colide_central_path(S, [0.1, 0.2], path_params={**SHORT, "tol": 0.0})
    assert not np.any(result.converged)


def _changed(i, j, value):
    S = np.eye(3)
    S[i, j] = S[j, i] = value
    return S


@pytest.mark.parametrize(
    "covariances, alphas, message",
    [
        (np.eye(3)[:2], 0.1, "covariances must have shape .* got shape \\(2, 3\\)"),
        (np.ones(3), 0.1, "covariances must have shape .* got shape \\(3,\\)"),
        (np.eye(3) + np.eye(3, k=1), 0.1, "covariances must be symmetric"),
        (_changed(0, 1, 2.0), 0.1, "covariances must be positive semi-definite"),
        (_changed(1, 1, 0.0), 0.1, "covariances must have positive diagonals"),
        (_changed(1, 1, np.nan), 0.1, "covariances contains NaN"),
        (np.eye(3), 0.0, "alphas must be a positive number"),
        (np.eye(3), [0.1, -1.0], "alphas must be a positive number"),
        (np.eye(3), [[0.1]], "alphas must be a positive number"),
        (np.eye(3), [], "alphas must be a positive number"),
        (np.stack([np.eye(3)] * 3), [0.1, 0.2], "got 2 for 3 covariances"),
    ],
)
def test_bad_problems_are_refused(covariances, alphas, message):
    with pytest.raises(ValueError, match=message):
        colide_central_path(covariances, alphas)


def test_variance_is_checked():
    with pytest.raises(ValueError, match="variance must be 'equal' or 'unequal', got 'both'"):
        colide_central_path(np.eye(3), 0.1, variance="both")
