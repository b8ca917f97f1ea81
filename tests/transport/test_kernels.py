"""Compiled passes against formulas, without memory of their own, in packed instructions."""

import platform
import re

import numba
import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from sparsestat.transport import _kernels, _kernels_xp

N, M = 7, 13
EMPTY = np.empty((0, 0))
METRICS = {0: None, 1: "sqeuclidean", 2: "euclidean", 3: "cityblock"}


class Problem:
    """Costs with offsets, potentials, and the plan that they stand for."""

    def __init__(self, metric=0, folded=False, seed=0):
        rng = np.random.default_rng(seed)
        X, Y = rng.normal(size=(N, 2)), rng.normal(size=(M, 2))
        self.C = cdist(X, Y, METRICS[metric] or "euclidean")
        self.r, t = self.C.min(axis=1), rng.uniform(size=M)
        self.inverse_epsilon = 3.0
        self.u, v = rng.normal(size=N), rng.normal(size=M)
        self.S = (self.C - self.r[:, None] - t) * self.inverse_epsilon
        self.plan = np.exp(self.u[:, None] + v - self.S)
        self.true_v = v
        # Offsets of the columns may be contained in their potentials.
        self.v = v + t * self.inverse_epsilon if folded else v
        t = np.empty(0) if folded else t
        stored = (self.C, EMPTY, EMPTY)
        computed = (EMPTY, X, np.ascontiguousarray(Y.T))
        self.costs = (*(computed if metric else stored), metric, self.r, t, self.inverse_epsilon)
        self.buffer = np.empty((2, M))
        self.a = rng.uniform(0.5, 1.0, N)
        self.rng = rng


each_source = pytest.mark.parametrize(
    ("metric", "folded"), [(0, False), (0, True), (1, False), (2, True), (3, False)]
)


@each_source
@pytest.mark.parametrize(("power", "relaxation"), [(1.0, 1.0), (0.7, 1.0), (1.0, 1.6)])
def test_sweep(metric, folded, power, relaxation, count_allocations):
    p = Problem(metric, folded)
    u, columns = p.u.copy(), np.zeros(M)
    arguments = (p.v, np.log(p.a), power, relaxation, p.buffer, columns)
    change, error = _kernels.sweep(*p.costs, u, *arguments)
    log_sums = logsumexp(p.true_v - p.S, axis=1)
    expected = p.u + relaxation * (np.log(p.a) - power * log_sums - p.u)
    np.testing.assert_allclose(u, expected, rtol=1e-12, atol=1e-12)
    new_plan = np.exp(expected[:, None] + p.true_v - p.S)
    np.testing.assert_allclose(columns, new_plan.sum(axis=0), rtol=1e-12)
    assert change == pytest.approx(np.abs(expected - p.u).max())
    if relaxation != 1.0:
        assert error == pytest.approx(np.abs(new_plan.sum(axis=1) - p.a).sum(), rel=1e-10)
    assert count_allocations(_kernels.sweep, *p.costs, u, *arguments) == 0


@each_source
def test_sums(metric, folded, count_allocations):
    p = Problem(metric, folded)
    rows, columns, logs = np.empty(N), np.zeros(M), np.empty(N)
    arguments = (*p.costs, p.u, p.v, p.buffer, rows, columns)
    cost = _kernels.marginals(*arguments)
    np.testing.assert_allclose(rows, p.plan.sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(columns, p.plan.sum(axis=0), rtol=1e-12)
    assert cost == pytest.approx(np.sum(p.C * p.plan))
    assert count_allocations(_kernels.marginals, *arguments) == 0
    arguments = (*p.costs, p.v, p.buffer, logs)
    _kernels.row_log_sums(*arguments)
    np.testing.assert_allclose(logs, logsumexp(p.true_v - p.S, axis=1), rtol=1e-12)
    assert count_allocations(_kernels.row_log_sums, *arguments) == 0
    if not folded:
        largest, sums = np.full(M, -np.inf), np.zeros(M)
        arguments = (*p.costs, p.u, p.buffer, largest, sums)
        _kernels.column_log_sums(*arguments)
        expected = logsumexp(p.u[:, None] - p.S, axis=0)
        np.testing.assert_allclose(largest + np.log(sums), expected, rtol=1e-12)
        assert count_allocations(_kernels.column_log_sums, *arguments) == 0


@each_source
def test_plans(metric, folded, count_allocations):
    p = Problem(metric, folded)
    for dtype, rtol in ((np.float64, 1e-12), (np.float32, 1e-6)):
        K = np.empty((N, M), dtype)
        arguments = (*p.costs, p.u, p.v, p.buffer, K)
        _kernels.gibbs_kernel(*arguments)
        np.testing.assert_allclose(K, p.plan, rtol=rtol)
        assert count_allocations(_kernels.gibbs_kernel, *arguments) == 0
        P, u = np.empty((N, M), dtype), p.u.copy()
        columns, squares, counts = np.zeros(M), np.zeros(M), np.zeros(N, np.int64)
        low = np.full(N, np.inf), np.full(M, np.inf)
        known = (p.v, p.a, np.log(p.a), *low, p.buffer, P, columns, squares, counts)
        _kernels.normalised_plan(*p.costs, u, *known)
        expected = p.plan * (p.a / p.plan.sum(axis=1))[:, None]
        np.testing.assert_allclose(P, expected, rtol=rtol)
        np.testing.assert_allclose(columns, expected.sum(axis=0), rtol=1e-12)
        squared = (expected**2 / p.a[:, None]).sum(axis=0)
        np.testing.assert_allclose(squares, squared, rtol=1e-12)
        assert count_allocations(_kernels.normalised_plan, *p.costs, u, *known) == 0
    low = p.rng.uniform(0.0, 0.3, N), p.rng.uniform(0.0, 0.3, M)
    known = (p.v, p.a, np.log(p.a), *low, p.buffer, EMPTY, columns, squares, counts)
    _kernels.normalised_plan(*p.costs, p.u.copy(), *known)
    large = expected > np.minimum(low[0][:, None], low[1])
    np.testing.assert_array_equal(counts, large.sum(axis=1))


@each_source
def test_entries_in_compressed_rows(metric, folded, count_allocations):
    p = Problem(metric, folded)
    low = p.rng.uniform(0.0, 0.5, N), p.rng.uniform(0.0, 0.5, M)
    large = p.plan > np.minimum(low[0][:, None], low[1])
    counts = np.zeros(N, np.int64)
    arguments = (*p.costs, p.u, p.v, *low, p.buffer)
    _kernels.count_entries(*arguments, counts)
    np.testing.assert_array_equal(counts, large.sum(axis=1))
    assert count_allocations(_kernels.count_entries, *arguments, counts) == 0
    stored = np.zeros(N, np.int64)
    _kernels.count_stored(p.plan, *low, stored)
    np.testing.assert_array_equal(stored, counts)
    indptr = np.r_[0, np.cumsum(counts)]
    indices, data = np.empty(indptr[-1], np.int32), np.empty(indptr[-1])
    _kernels.fill_entries(*arguments, indptr, indices, data)
    np.testing.assert_array_equal(indices, np.nonzero(large)[1])
    np.testing.assert_allclose(data, p.plan[large], rtol=1e-12)
    assert count_allocations(_kernels.fill_entries, *arguments, indptr, indices, data) == 0
    again = np.empty_like(indices), np.empty_like(data)
    _kernels.compress(p.plan, *low, indptr, *again)
    np.testing.assert_array_equal(again[0], indices)
    np.testing.assert_array_equal(again[1], p.plan[large])
    kept = np.where(large, p.plan, 0.0)
    z, out, weight = p.rng.normal(size=M), np.zeros(M), p.rng.uniform(size=N)
    _kernels.row_coupling_sparse(indptr, indices, data, weight, z, out)
    np.testing.assert_allclose(out, kept.T @ (weight * (kept @ z)), rtol=1e-10)
    scale, columns = np.ones(N), np.zeros(M)
    factor = p.rng.uniform(0.5, 1.0, M)
    error = _kernels.kernel_sweep_sparse(indptr, indices, data, scale, factor, p.a, 1.3, columns)
    wanted = (p.a / (kept @ factor)) ** 1.3
    np.testing.assert_allclose(scale, wanted, rtol=1e-12)
    np.testing.assert_allclose(columns, wanted @ kept, rtol=1e-12)
    assert error == pytest.approx(np.abs(wanted * (kept @ factor) - p.a).sum(), rel=1e-10)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("relaxation", [1.0, 1.5])
def test_kernel_sweep(dtype, relaxation, count_allocations):
    p = Problem()
    K = p.plan.astype(dtype)
    scale, columns, factor = p.rng.uniform(1, 2, N), np.zeros(M), p.rng.uniform(1, 2, M)
    before = scale.copy()
    error = _kernels.kernel_sweep(K, scale, factor, p.a, relaxation, columns)
    sums = K.astype(float) @ factor
    expected = before * (p.a / (sums * before)) ** relaxation
    np.testing.assert_allclose(scale, expected, rtol=1e-12)
    np.testing.assert_allclose(columns, expected @ K.astype(float), rtol=1e-12)
    assert error == pytest.approx(np.abs(expected * sums - p.a).sum(), rel=1e-9, abs=1e-13)
    arguments = (K, scale, factor, p.a, relaxation, columns)
    assert count_allocations(_kernels.kernel_sweep, *arguments) == 0


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_products_with_the_plan(dtype, count_allocations):
    p = Problem()
    P, z, weight = p.plan.astype(dtype), p.rng.normal(size=M), p.rng.uniform(size=N)
    products, out = np.empty(N), np.zeros(M)
    _kernels.row_coupling(P, weight, z, products, out)
    double = P.astype(float)
    np.testing.assert_allclose(products, weight * (double @ z), rtol=1e-10)
    np.testing.assert_allclose(out, double.T @ products, rtol=1e-10)
    assert count_allocations(_kernels.row_coupling, P, weight, z, products, out) == 0
    out = np.zeros(M)
    arguments = (*p.costs, p.u, p.v, weight, z, p.buffer, out)
    _kernels.row_coupling_computed(*arguments)
    np.testing.assert_allclose(out, p.plan.T @ (weight * (p.plan @ z)), rtol=1e-10)
    assert count_allocations(_kernels.row_coupling_computed, *arguments) == 0


def test_rows_whose_exponentials_overflow_or_vanish():
    p = Problem()
    for far in (5000.0, -5000.0):
        u, columns = p.u + far, np.zeros(M)
        _kernels.sweep(*p.costs, u, p.v, np.log(p.a), 1.0, 1.5, p.buffer, columns)
        expected = np.log(p.a) - logsumexp(p.true_v - p.S, axis=1)
        np.testing.assert_allclose(u, expected, rtol=1e-10, atol=1e-10)
        assert columns.sum() == pytest.approx(p.a.sum(), rel=1e-10)


def test_both_sets_of_kernels_have_the_same_signatures():
    import inspect

    twins = {
        name: function
        for name, function in vars(_kernels_xp).items()
        if inspect.isfunction(function) and not name.startswith("_") and name != "cost_block"
    }
    assert len(twins) >= 8
    for name, twin in twins.items():
        compiled = inspect.signature(getattr(_kernels, name).py_func)
        assert list(compiled.parameters) == list(inspect.signature(twin).parameters), name


PACKED = {"x86_64": r"\bv?f?n?m(?:add|ul|sub)\d*pd\b.*%?[xyz]mm", "aarch64": r"\bfml[as]\b.*\.2d"}


@pytest.mark.parametrize(
    ("name", "at_least"),
    [("_plan_row", 11), ("dot", 1), ("four_dots", 4), ("add_four", 4), ("_store_row", 2)],
)
def test_machine_code_is_packed(name, at_least):
    machine = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    if machine not in PACKED:
        pytest.skip(f"no pattern for {machine}")
    cached = getattr(_kernels, name)
    options = {k: v for k, v in cached.targetoptions.items() if k not in ("cache", "nopython")}
    function = numba.njit(**options)(cached.py_func)
    x, K = np.zeros(16), np.zeros((4, 16))
    function(
        *{
            "_plan_row": (x, 0.0, x, 0.0, x, 1.0, x.copy()),
            "dot": (x, x),
            "four_dots": (K, 0, x),
            "add_four": (x, K, 0, x.copy()),
            "_store_row": (1.0, 1.0, x, x.copy(), x.copy(), x.copy()),
        }[name]
    )
    code = "\n".join(function.inspect_asm().values())
    assert len(re.findall(PACKED[machine], code)) >= at_least
