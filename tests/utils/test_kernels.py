import math
import platform
import re

import numba
import numpy as np
import pytest
from numba import njit

from sparsestat.utils import _kernels, _kernels_xp
from sparsestat.utils._arrays import kernels_for

RANGES = {np.float64: _kernels.EXP_RANGE_64, np.float32: _kernels.EXP_RANGE_32}
LARGEST_ERROR = {np.float64: 4e-16, np.float32: 1e-7}
DTYPES = pytest.mark.parametrize("dtype", list(RANGES))


def relative_error(result, x):
    exact = np.exp(x.astype(np.longdouble))
    return float(np.max(np.abs(result.astype(np.longdouble) / exact - 1)))


@DTYPES
def test_exp_is_accurate_over_the_range(dtype):
    low, high = RANGES[dtype]
    rng = np.random.default_rng(0)
    # Half-way points between two powers of two are where the reduction is worst.
    halves = (np.arange(-100, 100) + 0.5) * math.log(2)
    tiny = np.concatenate([[0.0, -0.0, 1e-300, -1e-30], rng.uniform(-1e-3, 1e-3, 1000)])
    x = np.concatenate([np.linspace(low, high, 500_000), rng.uniform(-1, 1, 100_000), halves, tiny])
    x = np.clip(x.astype(dtype), low, high)
    assert relative_error(_kernels.exp_inplace(x.copy()), x) <= LARGEST_ERROR[dtype]


@DTYPES
def test_exp_is_clamped(dtype):
    low, high = RANGES[dtype]
    largest = np.finfo(dtype).max
    x = np.array([[-largest, -1e4, low, high, 1e4, largest]], dtype=dtype)
    out = _kernels.exp_rows(x, np.empty_like(x))
    assert np.all(out[0, :3] == out[0, 2]) and np.all(out[0, 3:] == out[0, 3])
    assert out[0, 0] >= np.finfo(dtype).tiny and np.isfinite(out[0, -1])
    assert out.dtype == dtype


@DTYPES
def test_exp_of_zero_is_one_and_growth_is_monotone(dtype):
    assert _kernels.exp_inplace(np.zeros(3, dtype=dtype)).tolist() == [1.0, 1.0, 1.0]
    x = np.linspace(-20, 20, 100_001).astype(dtype)
    steps = np.diff(_kernels.exp_inplace(x.copy()))
    spacing = np.spacing(np.exp(x[1:]))
    assert np.all(steps >= -spacing)


@DTYPES
@pytest.mark.parametrize("n", [0, 1, 3, 7, 8, 17, 64, 65])
def test_every_length_is_served_to_its_end(dtype, n):
    x = np.linspace(-3, 3, n).astype(dtype)
    np.testing.assert_allclose(_kernels.exp_inplace(x.copy()), np.exp(x), rtol=3e-7)


def test_rows_in_place_and_strided():
    x = np.random.default_rng(0).standard_normal((6, 8))
    expected = np.exp(x)
    np.testing.assert_allclose(_kernels.exp_rows(x.copy().T, np.empty((8, 6))), expected.T)
    out = x.copy()
    assert _kernels.exp_rows(out, out) is not None
    np.testing.assert_allclose(out, expected, rtol=1e-15)


def test_fast_exp_outside_and_inside_compiled_code():
    @njit
    def inside(x):
        return _kernels.fast_exp(x)

    assert _kernels.fast_exp(1.0) == math.e
    assert inside(1.0) == pytest.approx(math.e, rel=4e-16)
    assert inside(0) == 1.0
    assert inside(-1e6) > 0


def test_the_order_of_additions_is_kept_in_a_reassociating_loop():
    @njit(fastmath=True)
    def total(x):
        s = 0.0
        for i in range(x.shape[0]):
            s += _kernels.fast_exp(x[i])
        return s

    x = np.linspace(-5, 5, 1001)
    assert total(x) == pytest.approx(math.fsum(np.exp(x)), rel=1e-14)


PACKED = {
    # Fused or not, on registers of any width that hold more than one number.
    ("x86_64", np.float64): r"\bv?f?n?m(?:add|ul|sub)\d*pd\b.*%?[xyz]mm",
    ("x86_64", np.float32): r"\bv?f?n?m(?:add|ul|sub)\d*ps\b.*%?[xyz]mm",
    ("aarch64", np.float64): r"\bfml[as]\b.*\.2d",
    ("aarch64", np.float32): r"\bfml[as]\b.*\.4s",
}


@DTYPES
@pytest.mark.parametrize("name", ["exp_inplace", "exp_rows"])
def test_machine_code_is_vectorised(dtype, name):
    machine = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    if (machine, dtype) not in PACKED:
        pytest.skip(f"no pattern for {machine}")
    # Code that came from the cache cannot be inspected, so it is compiled anew.
    cached = getattr(_kernels, name)
    options = {k: v for k, v in cached.targetoptions.items() if k not in ("cache", "nopython")}
    function = numba.njit(**options)(cached.py_func)
    x = np.zeros((2, 3), dtype=dtype)
    function(x[0]) if name == "exp_inplace" else function(x, x)
    signature = next(s for s in function.signatures if s[0].dtype.bitwidth == 8 * x.itemsize)
    assembly = function.inspect_asm(signature)
    packed = re.findall(PACKED[machine, dtype], assembly)
    # Every multiplication of the Horner scheme is one.
    assert len(packed) >= (11 if dtype is np.float64 else 6)
    # The library's own exp would be named where its address is taken.
    assert not re.search(r"\$?\bexpf?\b(?=,|$)", assembly, re.MULTILINE)


@DTYPES
def test_nothing_is_allocated(dtype, count_allocations):
    x = np.zeros((20, 30), dtype=dtype)
    assert count_allocations(_kernels.exp_rows, x, x) == 0
    assert count_allocations(_kernels.exp_inplace, x[0]) == 0


def test_allocations_are_counted(count_allocations):
    @njit
    def allocate(x, n):
        for _ in range(n):
            x = x + np.ones(x.shape[0] + int(x[0]))
        return x

    assert count_allocations(allocate, np.zeros(3), 0) == 0
    assert count_allocations(allocate, np.zeros(1), 2) >= 2


@DTYPES
def test_twin_agrees(xp, dtype):
    low, high = RANGES[dtype]
    host = np.linspace(2 * low, 2 * high, 300).astype(dtype)
    expected = _kernels.exp_rows(host.reshape(20, 15), np.empty((20, 15), dtype=dtype))
    tolerance = {np.float64: 1e-13, np.float32: 1e-5}[dtype]
    x = xp.asarray(host)
    kernels, _ = kernels_for("sparsestat.utils", x)
    result = kernels.exp_rows(xp.reshape(x, (20, 15)), xp.asarray(np.empty((20, 15), dtype=dtype)))
    np.testing.assert_allclose(xp.to_numpy(result), expected, rtol=tolerance)
    vector = kernels.exp_inplace(xp.asarray(host.copy()))
    np.testing.assert_allclose(xp.to_numpy(vector), expected.ravel(), rtol=tolerance)
    xp.assert_native(vector)
    xp.assert_twin_ran()
    assert xp.syncs == 0


def test_twin_has_the_same_names():
    names = {"fast_exp", "exp_inplace", "exp_rows"}
    assert names <= set(vars(_kernels)) and names <= set(vars(_kernels_xp))
