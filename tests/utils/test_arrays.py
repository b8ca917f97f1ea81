import sys
import types

import numpy as np
import pytest
from scipy import sparse

import sparsestat
from sparsestat.utils import _arrays
from sparsestat.utils._arrays import check_device_array, get_namespace, kernels_for, use_array_api

strict = pytest.importorskip("array_api_strict")


@pytest.mark.parametrize(
    "arrays",
    [
        (),
        (None, 2.0, "name"),
        ([1.0, 2.0],),
        (np.ones(2), [1], None, np.float32(2)),
        (sparse.csr_array((2, 2)), np.ones(2)),
    ],
)
def test_host_input(arrays):
    xp, device, is_host = get_namespace(*arrays)
    assert xp.__name__ == "array_api_compat.numpy"
    assert device == "cpu" and is_host
    assert not use_array_api(*arrays)


def test_data_frames_and_dask_arrays_are_host_input():
    pandas = pytest.importorskip("pandas")
    da = pytest.importorskip("dask.array")
    assert get_namespace(pandas.DataFrame({"a": [1.0]}), da.ones(3))[2]


@pytest.mark.parametrize("name", ["CPU_DEVICE", "device1"])
def test_device_input(name):
    device = strict.Device(name)
    x = strict.ones(2, device=device)
    assert get_namespace(x, None, 1.0, x) == (strict, device, False)
    assert use_array_api(x)


@pytest.mark.parametrize(
    "other, name", [(np.ones(2), "numpy"), ([1.0], "builtins"), (sparse.eye_array(2), "scipy")]
)
def test_a_mix_names_both_libraries(other, name):
    x = strict.ones(2)
    for arrays in [(x, other), (other, None, x)]:
        with pytest.raises(TypeError, match=f"array_api_strict.*{name}|{name}.*array_api_strict"):
            get_namespace(*arrays)


def test_two_devices_are_named():
    x, y = strict.ones(2), strict.ones(2, device=strict.Device("device1"))
    with pytest.raises(TypeError, match=r"one device, got .*CPU_DEVICE.* and .*device1"):
        get_namespace(x, y)


def test_backend_forces_and_forbids():
    x = strict.ones(2)
    with sparsestat.config_context(backend="array_api"):
        assert use_array_api(np.ones(2))
        assert use_array_api(x)
    with sparsestat.config_context(backend="numba"):
        assert not use_array_api(np.ones(2))
        with pytest.raises(TypeError, match=r"backend='numba' works on NumPy.*array_api_strict"):
            use_array_api(None, x)


def test_kernels_follow_the_input():
    kernels, xp = kernels_for("sparsestat.utils", np.ones(2))
    assert kernels.__name__ == "sparsestat.utils._kernels"
    assert xp.__name__ == "array_api_compat.numpy"
    kernels, xp = kernels_for("sparsestat.utils", strict.ones(2))
    assert kernels.__name__ == "sparsestat.utils._kernels_xp"
    assert xp is strict
    kernels, _ = kernels_for("sparsestat.transport", strict.ones(2), name="_kernels_batch")
    assert kernels.__name__ == "sparsestat.transport._kernels_batch_xp"


def test_check_device_array_converts_and_keeps(xp):
    for dtype in (xp.float32, xp.float64):
        x = xp.asarray([1.0, 2.0], dtype=dtype)
        checked = check_device_array(x, "X", ndim=1, xp=xp.namespace)
        assert checked.dtype == dtype
        xp.assert_native(checked)
    for values in ([1, 2], [True, False]):
        checked = check_device_array(xp.asarray(values), "X", ndim=1, xp=xp.namespace)
        assert checked.dtype == xp.float64
        xp.assert_native(checked)


@pytest.mark.parametrize(
    "values, message",
    [
        ([[1.0]], r"cost must have 1 dimension\(s\), got shape \(1, 1\)"),
        ([], "cost must not be empty"),
        ([1.0, np.nan], "cost contains NaN or infinity"),
        ([-np.inf], "cost contains NaN or infinity"),
        ([1j], "cost must hold real numbers.*complex"),
    ],
)
def test_check_device_array_names_the_argument(xp, values, message):
    with pytest.raises(ValueError, match=message):
        check_device_array(xp.asarray(values), "cost", ndim=1, xp=xp.namespace)


def test_check_device_array_reads_back_once(xp):
    if not xp.counts_syncs:
        pytest.skip("synchronisations of this library cannot be counted")
    x = xp.asarray(np.ones((50, 3)))
    before = xp.syncs
    check_device_array(x, "X", ndim=2, xp=xp.namespace)
    assert xp.syncs == before + 1


def test_the_fixture_watches(xp):
    x = xp.asarray([0.0, 1.0])
    kernels, namespace = kernels_for("sparsestat.utils", x)
    assert namespace is xp.namespace
    with pytest.raises(AssertionError, match="no function of a _kernels_xp module"):
        xp.assert_twin_ran()
    np.testing.assert_allclose(xp.to_numpy(kernels.fast_exp(x)), [1.0, np.e])
    xp.assert_twin_ran()
    assert xp.calls == {"fast_exp": 1}
    with pytest.raises(AssertionError, match="silently"):
        np.from_dlpack(x)
    if xp.counts_syncs:
        with pytest.raises(AssertionError, match="silently"):
            x.to_device(xp.device)
        before = xp.syncs
        assert float(x[1]) == 1.0 and bool(x[1])
        assert xp.syncs == before + 2


def test_the_fixture_notices_the_wrong_kernels(xp):
    with (
        sparsestat.config_context(backend="numba"),
        pytest.raises(AssertionError, match="_kernels was chosen"),
    ):
        kernels_for("sparsestat.utils", np.ones(2))


def test_namespaces_are_found_without_importing_device_libraries(monkeypatch):
    for library in ("cupy", "torch", "jax"):
        monkeypatch.delitem(sys.modules, library, raising=False)
    get_namespace(np.ones(2), types.SimpleNamespace())
    assert not {"cupy", "torch", "jax"} & set(sys.modules)
    assert _arrays._library(np.ones(1)) == "numpy"


def test_infinite_entries_are_allowed_on_request(xp):
    options = {"ndim": 1, "xp": xp.namespace, "allow_infinite": True}
    x = xp.asarray([1.0, np.inf])
    assert bool(xp.all(check_device_array(x, "C", **options) == x))
    for bad in (np.nan, -np.inf):
        with pytest.raises(ValueError, match="C contains NaN or -inf"):
            check_device_array(xp.asarray([1.0, bad]), "C", **options)
