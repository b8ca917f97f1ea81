import platform
import re

import numba
import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning

import sparsestat
from sparsestat.transport import _kernels_batch
from sparsestat.transport._batch import sinkhorn_batch


def costs(size=5, n=7, m=6, seed=0):
    return np.random.default_rng(seed).uniform(size=(size, n, m))


def weights(*shape, seed=1):
    w = np.random.default_rng(seed).uniform(0.5, 1.5, size=shape)
    return w / w.sum(-1, keepdims=True)


def log_plan(C, a, b, f, g, epsilon):
    with np.errstate(divide="ignore"):
        return (f[:, None] + g[None, :] - C) / epsilon + np.log(a)[:, None] + np.log(b)[None, :]


def witness_error(C, a, b, f, g, epsilon):
    z = log_plan(C, a, b, f, g, epsilon)
    rows, columns = np.exp(logsumexp(z, axis=1)), np.exp(logsumexp(z, axis=0))
    return np.abs(rows - a).sum() + np.abs(columns - b).sum()


def plain_sinkhorn(C, a, b, epsilon, n_iter=1000):
    g = np.zeros(C.shape[1])
    for _ in range(n_iter):
        f = -epsilon * logsumexp((g - C) / epsilon + np.log(b), axis=1)
        g = -epsilon * logsumexp((f[:, None] - C) / epsilon + np.log(a)[:, None], axis=0)
    return f, g


@pytest.mark.parametrize("shape", [(5, 7, 6), (3, 4, 9), (2, 1, 5), (2, 5, 1), (3, 33, 17)])
@pytest.mark.parametrize("epsilon", [0.05, 1.0, None])
def test_the_solution_is_optimal(shape, epsilon):
    size, n, m = shape
    C, a, b = costs(*shape), weights(size, n), weights(size, m, seed=2)
    result = sinkhorn_batch(C, a, b, epsilon=epsilon)
    assert result.converged.all()
    for i in range(size):
        f, g = result.potentials[0][i], result.potentials[1][i]
        error = witness_error(C[i], a[i], b[i], f, g, result.epsilon[i])
        assert error <= 1.01e-9
        assert result.marginal_error[i] == pytest.approx(error, abs=1e-13)
        P = result.plan(i)
        divergence = (P * np.log(P / np.outer(a[i], b[i])) - P + np.outer(a[i], b[i])).sum()
        value = (C[i] * P).sum() + result.epsilon[i] * divergence
        assert result.value[i] == pytest.approx(value, abs=1e-12)
        assert result.transport_cost[i] == pytest.approx((C[i] * P).sum(), abs=1e-12)
    assert np.abs(result.value - result.dual_value).max() <= 1e-8


def test_equal_to_a_plain_loop_on_logarithms():
    C, a, b = costs(), weights(7), weights(5, 6)
    epsilon = np.linspace(0.1, 0.5, 5)
    result = sinkhorn_batch(C, a, b, epsilon=epsilon, tol=1e-12)
    for i in range(5):
        f, g = plain_sinkhorn(C[i], a, b[i], epsilon[i])
        shift = f.mean() - result.potentials[0][i].mean()
        np.testing.assert_allclose(result.potentials[0][i], f - shift, atol=1e-10)
        np.testing.assert_allclose(result.potentials[1][i], g + shift, atol=1e-10)


def test_two_by_two_closed_form():
    C = costs(6, 2, 2)
    result = sinkhorn_batch(C, epsilon=0.2, tol=1e-13)
    D = C[:, 0, 1] + C[:, 1, 0] - C[:, 0, 0] - C[:, 1, 1]
    # The odds P11 P22 / (P12 P21) = exp(D / epsilon) are free of the potentials.
    expected = 0.5 / (1 + np.exp(-D / 0.4))
    np.testing.assert_allclose([P[0, 0] for P in result.plans], expected, atol=1e-13)


def test_ragged_problems_are_those_solved_alone():
    shapes = [(3, 4), (5, 2), (3, 4), (1, 6), (4, 4)]
    C = [costs(1, *shape, seed=i)[0] for i, shape in enumerate(shapes)]
    a, b = [weights(n) for n, _ in shapes], [weights(m) * 1.0 for _, m in shapes]
    result = sinkhorn_batch(C, a, b, epsilon=0.1)
    for i, c in enumerate(C):
        alone = sinkhorn_batch(c[None], a[i], b[i], epsilon=0.1)
        np.testing.assert_array_equal(result.plan(i), alone.plan(0))
        np.testing.assert_array_equal(result.potentials[0][i], alone.potentials[0][0])
        assert result.value[i] == alone.value[0] and result.n_iter[i] == alone.n_iter[0]


def test_zero_weights_are_refilled():
    C, a, b = costs(), weights(5, 7), weights(5, 6)
    a[:, 2] = 0
    b[1, [0, 4]] = 0
    a, b = a / a.sum(1, keepdims=True), b / b.sum(1, keepdims=True)
    result = sinkhorn_batch(C, a, b, epsilon=0.1)
    assert result.converged.all()
    rows, columns = a[1] > 0, b[1] > 0
    P = result.plan(1)
    assert np.all(P[~rows] == 0) and np.all(P[:, ~columns] == 0)
    kept = sinkhorn_batch(C[1][rows][:, columns][None], a[1][rows], b[1][columns], epsilon=0.1)
    np.testing.assert_allclose(P[rows][:, columns], kept.plan(0), atol=1e-10)
    f, g = result.potentials[0][1], result.potentials[1][1]
    enter = -0.1 * logsumexp((g[columns] - C[1][2, columns]) / 0.1 + np.log(b[1][columns]))
    assert f[2] == pytest.approx(enter, abs=1e-12)


@pytest.mark.parametrize(("scale", "offset"), [(1e6, 0.0), (1.0, 1e8), (1e6, 1e8), (1e-8, 0.0)])
def test_huge_costs_and_offsets(scale, offset):
    C = costs()
    # Adding the offset rounds the costs; the reference gets the rounded ones.
    given = C * scale + offset
    reference = sinkhorn_batch((given - offset) / scale, epsilon=0.1)
    result = sinkhorn_batch(given, epsilon=0.1 * scale)
    assert result.converged.all()
    np.testing.assert_allclose(result.plans, reference.plans, atol=1e-9)


def test_masses_other_than_one():
    C, a, b = costs(), weights(5, 7), weights(5, 6)
    mass = np.arange(1.0, 6.0)[:, None]
    result, unit = (sinkhorn_batch(C, a * k, b * k, epsilon=0.1) for k in (mass, 1.0))
    for i in range(5):
        np.testing.assert_allclose(result.plan(i), mass[i] * unit.plan(i), rtol=1e-12)
        f, g = result.potentials[0][i], result.potentials[1][i]
        P = np.exp(log_plan(C[i], a[i] * mass[i], b[i] * mass[i], f, g, 0.1))
        np.testing.assert_allclose(P, result.plan(i), rtol=1e-10)
    assert np.abs(result.value - result.dual_value).max() <= 1e-8
    a_only = sinkhorn_batch(C, a * mass, epsilon=0.1)
    np.testing.assert_allclose(a_only.plan(4).sum(), 5.0)


def test_tiny_epsilon_warns_with_the_number_of_problems():
    C = np.concatenate([costs(3, 8, 8), np.zeros((1, 8, 8))])
    with pytest.warns(ConvergenceWarning, match=r"1e-09 in 3 of 4 problems, at worst"):
        result = sinkhorn_batch(C, epsilon=1e-6, max_iter=100)
    assert result.converged.tolist() == [False, False, False, True]
    assert np.isfinite(result.value).all() and np.isfinite(result.marginal_error).all()
    assert (result.n_iter <= 100).all()


def test_underflowing_kernel_converges():
    C = np.abs(np.subtract.outer(np.arange(12.0), np.arange(12.0)))[None] ** 2
    result = sinkhorn_batch(C, weights(12), weights(12, seed=5), epsilon=0.15, max_iter=200_000)
    assert result.converged.all() and C.max() / 0.15 > 708
    f, g = (x[0] for x in result.potentials)
    assert witness_error(C[0], weights(12), weights(12, seed=5), f, g, 0.15) <= 1.1e-9


def test_float32_and_integers():
    C = costs().astype(np.float32)
    result = sinkhorn_batch(C, epsilon=0.1)
    assert result.potentials[0].dtype == result.plan(0).dtype == np.float32
    double = sinkhorn_batch(C.astype(float), epsilon=0.1)
    np.testing.assert_array_equal(result.value, double.value)
    whole = sinkhorn_batch(np.arange(12).reshape(1, 3, 4) % 5, epsilon=1.0)
    assert whole.potentials[0].dtype == np.float64 and whole.converged.all()


def test_threads_and_order_do_not_matter():
    C = costs(40)
    one, two = (sinkhorn_batch(C, epsilon=0.05, n_jobs=k) for k in (1, 2))
    order = np.random.default_rng(0).permutation(40)
    permuted = sinkhorn_batch(C[order], epsilon=0.05)
    for side in (0, 1):
        np.testing.assert_array_equal(one.potentials[side], two.potentials[side])
        np.testing.assert_array_equal(one.potentials[side][order], permuted.potentials[side])
    np.testing.assert_array_equal(one.value, two.value)


def test_interruptions_do_not_change_the_solution(monkeypatch):
    from sparsestat.transport import _batch

    whole = sinkhorn_batch(costs(), epsilon=0.02, tol=1e-12)
    monkeypatch.setattr(_batch, "_WORK", 100)
    parts = sinkhorn_batch(costs(), epsilon=0.02, tol=1e-12)
    np.testing.assert_allclose(parts.plans, whole.plans, atol=1e-11)


A, B = np.full(7, 1 / 7), np.full(6, 1 / 6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"a": np.stack([A] * 4 + [A * 2]), "b": B}, r"sum\(a\)=2 and sum\(b\)=1 in problem 4"),
        ({"a": A[:5]}, r"a must have shape \(5, 7\) or \(7,\)"),
        ({"a": -A}, "a must not be negative, but a weight is in problem 0"),
        ({"a": 0 * A}, "a must have a positive weight"),
        ({"b": np.where(B == 0, B, np.nan)}, "b contains NaN"),
        ({"epsilon": 0.0}, "epsilon must be positive"),
        ({"epsilon": [0.1, 0.2]}, r"epsilon must be a number or of shape \(5,\)"),
        ({"tol": 0.0}, "tol"),
        ({"max_iter": 0}, "max_iter"),
        ({"C": costs()[0]}, r"C must have 3 dimension"),
        ({"C": np.where(costs() > 0.9, np.inf, costs())}, "C contains NaN or inf"),
        ({"C": costs().astype(np.float16)}, "float16"),
        ({"C": -costs()}, "epsilon=None needs costs of positive mean"),
        ({"C": [costs()[0]] * 2, "a": A}, "a must be a list of 2 vectors"),
        ({"C": [costs()[0]], "a": [A[:3]]}, r"a\[0\] must have shape \(7,\)"),
        ({"C": [costs()[0], np.full((2, 2), np.nan)]}, r"C\[1\] contains NaN"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        sinkhorn_batch(**{"C": costs(), **arguments})


@pytest.mark.parametrize("zeros", [False, True])
def test_twin(xp, zeros):
    C, a, b = costs(), weights(5, 7), weights(5, 6)
    if zeros:
        a[:, 3] = 0
        a = a / a.sum(1, keepdims=True)
    result = sinkhorn_batch(xp.asarray(C), xp.asarray(a), xp.asarray(b), epsilon=0.03, tol=1e-12)
    xp.assert_twin_ran()
    xp.assert_native(result.value)
    assert "5 converged" in repr(result)
    xp.assert_native(result.potentials[0])
    plans = [xp.to_numpy(P) for P in result.plans]
    for i in range(5):
        np.testing.assert_allclose(plans[i].sum(1), a[i], atol=1e-12)
        f, g = (xp.to_numpy(x)[i] for x in result.potentials)
        np.testing.assert_allclose(
            np.exp(log_plan(C[i], a[i], b[i], f, g, 0.03)), plans[i], atol=1e-12
        )


@pytest.mark.parametrize("underflow", [False, True])
def test_twin_agrees_with_the_compiled_kernels(underflow):
    C, epsilon = costs(4, 6, 8), 0.1
    if underflow:
        C = np.abs(np.subtract.outer(np.arange(12.0), np.arange(12.0)))[None] ** 2
        epsilon = 0.15
    a, b = weights(C.shape[1]), weights(C.shape[2], seed=5)
    ours = sinkhorn_batch(C, a, b, epsilon=epsilon, tol=1e-12)
    with sparsestat.config_context(backend="array_api"):
        twin = sinkhorn_batch(C, a, b, epsilon=epsilon, tol=1e-12)
    np.testing.assert_allclose(ours.plans, twin.plans, atol=1e-10)
    np.testing.assert_allclose(ours.value, twin.value, atol=1e-10)


def kernel_arguments(size=3, n=9, m=8):
    S = costs(size, n, m) / 0.05
    u, v = np.full((size, n), -np.log(n)), np.full((size, m), -np.log(m))
    counts = np.zeros(size, dtype=np.int64)
    buffers = np.empty((n, m)), np.empty(n), np.empty((3, m))
    p, q = np.exp(u), np.exp(v)
    return (S, p, q, u, v, 1e-9, 1000, 0, size, 10**8, counts, *buffers)


def test_nothing_is_allocated(count_allocations):
    arguments = kernel_arguments()
    _kernels_batch.advance(*arguments)
    assert (arguments[10] > 1).all()
    arguments[10][:] = 0
    assert count_allocations(_kernels_batch.advance, *arguments) == 0
    S, _, _, u, v = arguments[:5]
    outputs = np.empty(8), np.empty_like(u), np.empty_like(v), np.empty(3)
    assert count_allocations(_kernels_batch.marginals, S, u, v, 0, 3, *outputs) == 0


PACKED = {"x86_64": r"\bv?f?n?m(?:add|ul|sub)\d*pd\b.*%?[xyz]mm", "aarch64": r"\bfml[as]\b.*\.2d"}


@pytest.mark.parametrize(
    ("name", "at_least"), [("dot", 1), ("four_dots", 4), ("add_four", 4), ("_plan_row", 11)]
)
def test_machine_code_is_vectorised(name, at_least):
    machine = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    if machine not in PACKED:
        pytest.skip(f"no pattern for {machine}")
    cached = getattr(_kernels_batch, name)
    options = {k: v for k, v in cached.targetoptions.items() if k not in ("cache", "nopython")}
    function = numba.njit(**options)(cached.py_func)
    x = np.zeros(16)
    arguments = {
        "dot": (x, x),
        "four_dots": (np.zeros((4, 16)), 0, x),
        "add_four": (x, np.zeros((4, 16)), 0, x.copy()),
        "_plan_row": (x, 0.0, x, x.copy()),
    }[name]
    function(*arguments)
    assembly = function.inspect_asm(function.signatures[0])
    assert len(re.findall(PACKED[machine], assembly)) >= at_least
