"""The compiled kernels, the classes on top of them and their array API twins agree."""

import inspect
import itertools
import platform
import re

import numba
import numpy as np
import pytest
from numba.core.runtime import _nrt_python, rtsys

import sparsestat
from sparsestat.penalties import L1, ElasticNet, RowGroupL2, _kernels, _kernels_xp
from sparsestat.penalties._codes import ELASTIC_NET

N_FEATURES = 40
rng = np.random.default_rng(0)
FACTOR = rng.integers(0, 4, N_FEATURES) / 2
POSITIVE = rng.random(N_FEATURES) < 0.4

SEPARABLE = [
    L1(0.7),
    L1(0.0),
    L1(1.3, penalty_factor=FACTOR, positive=True),
    ElasticNet(0.9, 0.3, penalty_factor=FACTOR, positive=POSITIVE),
    ElasticNet(1.1, 0.0),
]
BY_ROW = [RowGroupL2(0.8), RowGroupL2(1.5, penalty_factor=FACTOR)]


def data(penalty, seed=1):
    """A point with zeros in it, and a gradient."""
    rng = np.random.default_rng(seed)
    shape = (N_FEATURES, 3) if penalty.kind == "group" else (N_FEATURES,)
    w = 2.0 * rng.standard_normal(shape)
    w[rng.random(N_FEATURES) < 0.3] = 0.0
    return w, rng.standard_normal(shape)


def by_kernels(penalty, w, gradient, step):
    code, params = penalty.kernel(N_FEATURES)
    step = np.atleast_1d(np.asarray(step, dtype=np.float64))
    distance = np.empty(N_FEATURES)
    if penalty.kind == "group":
        return (
            _kernels.prox_rows(code, params, w, step, np.empty_like(w)),
            _kernels.value_rows(code, params, w),
            _kernels.subdiff_distance_rows(code, params, w, gradient, distance),
        )
    return (
        _kernels.prox_all(code, params, w, step, np.empty_like(w)),
        _kernels.value_all(code, params, w),
        _kernels.subdiff_distance_all(code, params, w, gradient, distance),
    )


STEPS = [0.01, 1.0, 10.0, np.linspace(0.01, 10.0, N_FEATURES)]


@pytest.mark.parametrize("step", STEPS, ids=["short", "unit", "long", "many"])
@pytest.mark.parametrize("penalty", SEPARABLE + BY_ROW, ids=repr)
def test_class_is_kernel(penalty, step):
    w, gradient = data(penalty)
    prox, value, distance = by_kernels(penalty, w, gradient, step)
    np.testing.assert_array_equal(penalty.prox(w, step), prox)
    assert penalty.value(w) == value
    np.testing.assert_array_equal(penalty.subdiff_distance(w, gradient), distance)
    idx = np.array([7, 3, 30])
    np.testing.assert_array_equal(penalty.subdiff_distance(w, gradient[idx], idx), distance[idx])


@pytest.mark.parametrize("penalty", SEPARABLE + BY_ROW, ids=repr)
def test_vector_kernels_are_scalar_kernels(penalty):
    w, gradient = data(penalty)
    prox, value, distance = by_kernels(penalty, w, gradient, 0.7)
    code, params = penalty.kernel(N_FEATURES)
    total = 0.0
    for j in range(N_FEATURES):
        if penalty.kind == "group":
            norm = _kernels.row_norm(w, j)
            np.testing.assert_allclose(norm, np.linalg.norm(w[j]), rtol=1e-14)
            length = _kernels.prox(code, params, j, norm, 0.7)
            np.testing.assert_allclose(np.linalg.norm(prox[j]), length, rtol=1e-13, atol=1e-15)
            # Along the row, and nowhere else.
            np.testing.assert_allclose(norm * prox[j], length * w[j], atol=1e-13)
        else:
            norm = w[j]
            assert prox[j] == _kernels.prox(code, params, j, w[j], 0.7)
            assert distance[j] == _kernels.subdiff_distance(code, params, j, w[j], gradient[j])
        total += _kernels.value(code, params, j, norm)
    np.testing.assert_allclose(value, total, rtol=1e-14)


@pytest.mark.parametrize("penalty", SEPARABLE, ids=repr)
def test_slope_and_curvature_are_derivatives(penalty):
    code, params = penalty.kernel(N_FEATURES)
    h = 1e-5
    for j in range(N_FEATURES):
        for x in (0.4, 2.5) if params[2, j] else (-3.0, -0.2, 0.4, 2.5):
            after = _kernels.value(code, params, j, x + h)
            before = _kernels.value(code, params, j, x - h)
            slope = _kernels.slope(code, params, j, x)
            np.testing.assert_allclose(slope, (after - before) / (2 * h), atol=1e-8)
            bend = _kernels.slope(code, params, j, x + h) - _kernels.slope(code, params, j, x - h)
            curvature = _kernels.curvature(code, params, j, x)
            np.testing.assert_allclose(curvature, bend / (2 * h), atol=1e-8)


def test_outside_the_domain():
    code, params = L1(1.0, positive=True).kernel(1)
    assert _kernels.value(code, params, 0, -1.0) == np.inf
    assert _kernels.subdiff_distance(code, params, 0, -1.0, 0.0) == np.inf
    assert _kernels.prox(code, params, 0, -1.0, 1.0) == 0.0


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("step", STEPS, ids=["short", "unit", "long", "many"])
@pytest.mark.parametrize("penalty", SEPARABLE + BY_ROW, ids=repr)
def test_twins_agree(xp, penalty, step, dtype):
    w, gradient = (array.astype(dtype) for array in data(penalty))
    prox, value, distance = by_kernels(penalty, w, gradient, step)
    rtol = 1e-13 if dtype == "float64" else 1e-5
    w, gradient = xp.asarray(w), xp.asarray(gradient)
    step = xp.asarray(step) if isinstance(step, np.ndarray) else step

    ours = penalty.prox(w, step)
    xp.assert_native(ours)
    xp.assert_twin_ran()
    assert ours.dtype == w.dtype
    np.testing.assert_allclose(xp.to_numpy(ours), prox, rtol=rtol, atol=rtol)
    assert not np.any(xp.to_numpy(ours)[prox == 0.0])
    into = xp.zeros_like(w)
    assert penalty.prox(w, step, out=into) is into
    np.testing.assert_array_equal(xp.to_numpy(into), xp.to_numpy(ours))

    np.testing.assert_allclose(penalty.value(w), value, rtol=rtol)
    ours = penalty.subdiff_distance(w, gradient)
    xp.assert_native(ours)
    np.testing.assert_allclose(xp.to_numpy(ours), distance, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("penalty", SEPARABLE + BY_ROW, ids=repr)
def test_other_methods_on_any_array(xp, penalty):
    w, gradient = data(penalty)
    device_w, device_gradient = xp.asarray(w), xp.asarray(gradient)
    fixpoint = penalty.fixpoint_distance(device_w, device_gradient, 2.0)
    xp.assert_native(fixpoint)
    moved = 2.0 * (w - by_kernels(penalty, w - gradient / 2.0, gradient, 0.5)[0])
    expected = np.abs(moved) if moved.ndim == 1 else np.linalg.norm(moved, axis=1)
    np.testing.assert_allclose(xp.to_numpy(fixpoint), expected, atol=1e-13)
    support = xp.to_numpy(penalty.generalized_support(device_w))
    np.testing.assert_array_equal(support, w.reshape(N_FEATURES, -1).any(axis=1))
    idx = xp.asarray(np.array([5, 2]))
    some = penalty.subdiff_distance(device_w, device_gradient[:2, ...], idx=idx)
    assert some.shape == (2,)
    free = penalty.fixpoint_distance(
        device_w, device_gradient, xp.asarray(np.full(N_FEATURES, 2.0))
    )
    np.testing.assert_allclose(xp.to_numpy(free), expected, atol=1e-13)


@pytest.mark.parametrize("penalty", SEPARABLE + BY_ROW, ids=repr)
def test_scalars_on_any_array(xp, penalty):
    _, gradient = data(penalty)
    small = 0.01 * gradient
    ours = (
        penalty.alpha_max(xp.asarray(gradient)),
        penalty.conjugate(xp.asarray(gradient)),
        penalty.conjugate(xp.asarray(small)),
    )
    assert all(type(number) is float for number in ours)
    with sparsestat.config_context(backend="auto"):
        expected = (
            penalty.alpha_max(gradient),
            penalty.conjugate(gradient),
            penalty.conjugate(small),
        )
    np.testing.assert_allclose(ours, expected, rtol=1e-13)


@pytest.mark.parametrize("penalty", [SEPARABLE[0], BY_ROW[0]], ids=repr)
def test_bound_functions_do_not_read_the_device(xp, penalty):
    w = xp.asarray(data(penalty)[0])
    bound = penalty.bind(w)
    xp.syncs = 0
    bound.value(bound.prox(w, 0.5))
    assert xp.syncs == 0


@pytest.mark.parametrize("penalty", [SEPARABLE[3], BY_ROW[1]], ids=repr)
def test_nan_stays_visible(xp, penalty):
    w, _ = data(penalty)
    w[4] = np.nan
    w[5] = np.inf if w.ndim == 1 else w[5]
    by_loop = by_kernels(penalty, w, w, 1.0)[0]
    assert np.isnan(by_loop[4]).all()
    assert not np.isnan(np.delete(by_loop, 4, axis=0)).any()
    np.testing.assert_allclose(xp.to_numpy(penalty.prox(xp.asarray(w), 1.0)), by_loop, rtol=1e-13)


def test_same_names_and_arguments():
    for operation, suffix in itertools.product(
        ("prox", "value", "subdiff_distance"), ("all", "rows")
    ):
        loop = inspect.signature(getattr(_kernels, f"{operation}_{suffix}").py_func)
        twin = inspect.signature(getattr(_kernels_xp, f"{operation}_{suffix}"))
        assert list(loop.parameters) == list(twin.parameters)


@pytest.mark.parametrize("name", ["prox_all", "value_all", "subdiff_distance_all"])
def test_twins_refuse_an_unknown_code(name):
    arrays = [np.ones(3)] * (1 if name == "value_all" else 2)
    with pytest.raises(ValueError, match="code -1 is not"):
        getattr(_kernels_xp, name)(-1, np.ones((3, 3)), *arrays)


def test_row_norms_of_the_twin():
    w = np.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_array_equal(_kernels_xp.row_norm(w), [5.0, 0.0])
    assert _kernels_xp.row_norm(w, 0) == 5.0


@numba.njit
def _use_all(n_calls, code, params, v, step, out, distance):
    total = 0.0
    for _ in range(n_calls):
        _kernels.prox_all(code, params, v, step, out)
        _kernels.subdiff_distance_all(code, params, v, out, distance)
        total += _kernels.value_all(code, params, out)
    return total


@numba.njit
def _use_rows(n_calls, code, params, v, step, out, distance):
    total = 0.0
    for _ in range(n_calls):
        _kernels.prox_rows(code, params, v, step, out)
        _kernels.subdiff_distance_rows(code, params, v, out, distance)
        total += _kernels.value_rows(code, params, out)
    return total


@numba.njit
def _use_memory(n_calls, code, params, v, step, out, distance):
    total = 0.0
    for _ in range(n_calls):
        total += np.sqrt(v + n_calls).sum()
    return total


def _allocations(function, n_calls, *args):
    before = rtsys.get_allocation_stats()
    function(n_calls, *args)
    after = rtsys.get_allocation_stats()
    assert after.alloc - before.alloc == after.free - before.free
    return after.alloc - before.alloc


@pytest.fixture
def counted():
    _nrt_python.memsys_enable_stats()
    yield
    _nrt_python.memsys_disable_stats()


@pytest.mark.parametrize("n_steps", [1, N_FEATURES])
@pytest.mark.parametrize(
    "function, penalty, allocates",
    [
        (_use_all, SEPARABLE[3], False),
        (_use_rows, BY_ROW[1], False),
        (_use_memory, SEPARABLE[0], True),
    ],
    ids=["all", "rows", "control"],
)
def test_loops_allocate_nothing(counted, function, penalty, allocates, n_steps):
    w, _ = data(penalty)
    code, params = penalty.kernel(N_FEATURES)
    args = (code, params, w, np.full(n_steps, 0.5), np.empty_like(w), np.empty(N_FEATURES))
    function(1, *args)
    # Handing the arguments over costs the same whatever is done with them.
    grown = _allocations(function, 100, *args) - _allocations(function, 1, *args)
    assert grown >= 99 if allocates else grown == 0


def test_code_is_an_integer_and_params_are_contiguous():
    for penalty in SEPARABLE + BY_ROW:
        code, params = penalty.kernel(N_FEATURES)
        assert code == ELASTIC_NET
        assert params.shape == (3, N_FEATURES)
        assert params.dtype == np.float64 and params.flags.c_contiguous


@pytest.mark.parametrize("error_model, vectorised", [("numpy", True), ("python", False)])
def test_proximal_loop_is_vector_code(error_model, vectorised):
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("reads the assembly of x86-64")
    # Compiled afresh: what comes from the cache has no assembly to show.
    if vectorised:
        assert _kernels.prox_all.targetoptions["error_model"] == error_model
    loop = numba.njit(error_model=error_model)(_kernels.prox_all.py_func)
    v = np.ones(8)
    loop(*L1(1.0).kernel(8), v, np.ones(1), v.copy())
    assembly = "".join(loop.inspect_asm().values())
    packed = set(re.findall(r"\bv?(sub|add|mul|div)pd\b", assembly))
    assert (packed == {"sub", "add", "mul", "div"}) == vectorised
