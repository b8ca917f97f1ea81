"""Settings that must precede every import, and the fixture of array libraries."""

import collections
import hashlib
import importlib.metadata
import os
import tempfile
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "sparsestat"


def _numba_cache_folder():
    """A folder of the user's own, named by everything that can enter compiled code.

    numba recompiles a function when its own file changes, but not when a function that
    it inlines from another file does.
    """
    digest = hashlib.sha256(importlib.metadata.version("numba").encode())
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_bytes()
        if path.name == "_kernels.py" or b"jit" in source or b"numba" in source:
            digest.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + source)
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    folder = Path(tempfile.gettempdir(), f"sparsestat-numba-{user}", digest.hexdigest()[:16])
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return str(folder)


os.environ["NUMBA_CACHE_DIR"] = _numba_cache_folder()
os.environ["NUMBA_NRT_STATS"] = "1"
# scipy reads this once, when it is imported.
os.environ["SCIPY_ARRAY_API"] = "1"

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

import sparsestat  # noqa: E402
from sparsestat.utils import _arrays  # noqa: E402

settings.register_profile("sparsestat", deadline=None, derandomize=True, database=None)
settings.load_profile("sparsestat")


@pytest.fixture
def count_allocations():
    """How many blocks of memory a compiled function allocates, once it is compiled.

    Called with the function and its arguments, which it must not destroy.
    """
    from numba.core.runtime import _nrt_python, rtsys

    # Set here as well: numba looks at the variable once, when it compiles for the first time.
    _nrt_python.memsys_enable_stats()

    def count(function, *args):
        function(*args)
        before = rtsys.get_allocation_stats().alloc
        function(*args)
        # numba wraps each array argument in a block of its own.
        n_arrays = sum(isinstance(arg, np.ndarray) for arg in args)
        return rtsys.get_allocation_stats().alloc - before - n_arrays

    return count


class ArrayLibrary:
    """An array API namespace on a device, watched.

    Any name of the standard is looked up in the namespace. Besides there are

    - ``asarray``, which makes arrays on the device;
    - ``to_numpy``, the only way back to the host that is open during a test;
    - ``calls``, how often each function of a ``_kernels_xp`` module was called through
      :func:`sparsestat.utils._arrays.kernels_for`;
    - ``syncs``, how often ``float``, ``int``, ``bool`` or an index read a number back
      from the device, counted where the library can be watched (``counts_syncs``).
    """

    def __init__(self, namespace, device=None, to_numpy=np.asarray, counts_syncs=False):
        self.namespace = namespace
        self.device = device
        self.to_numpy = to_numpy
        self.counts_syncs = counts_syncs
        self.calls = collections.Counter()
        self.syncs = 0

    def __getattr__(self, name):
        return getattr(self.namespace, name)

    def asarray(self, values, dtype=None):
        return self.namespace.asarray(values, dtype=dtype, device=self.device)

    def assert_native(self, array):
        """The array is of this library and on this device."""
        import array_api_compat

        expected = self.asarray([0.0])
        assert type(array) is type(expected)
        assert array_api_compat.device(array) == array_api_compat.device(expected)

    def assert_twin_ran(self):
        """The input was dispatched to functions on the array API standard."""
        assert self.calls, "no function of a _kernels_xp module was called"


class _SpiedModule:
    def __init__(self, module, calls):
        self._module = module
        self._calls = calls

    def __getattr__(self, name):
        item = getattr(self._module, name)
        if not callable(item):
            return item

        def spy(*args, **kwargs):
            self._calls[name] += 1
            return item(*args, **kwargs)

        return spy


def _numpy_library(monkeypatch):
    import array_api_compat.numpy

    return ArrayLibrary(array_api_compat.numpy)


def _strict_library(monkeypatch, device_name="CPU_DEVICE"):
    import array_api_strict

    array_type = type(array_api_strict.asarray(0.0))
    library = ArrayLibrary(
        array_api_strict,
        array_api_strict.Device(device_name),
        to_numpy=lambda array: array._array.copy(),
        counts_syncs=True,
    )

    def counted(method):
        def read_back(self):
            library.syncs += 1
            return method(self)

        return read_back

    for name in ("__float__", "__int__", "__bool__", "__index__"):
        monkeypatch.setattr(array_type, name, counted(getattr(array_type, name)))
    monkeypatch.setattr(array_type, "to_device", _refuse("to_device"))
    return library


def _cupy_library(monkeypatch):
    import array_api_compat

    cupy = pytest.importorskip("cupy")
    try:
        n_devices = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        pytest.skip(f"CuPy finds no device: {error}")
    if n_devices == 0:
        pytest.skip("CuPy finds no device")
    namespace = array_api_compat.array_namespace(cupy.zeros(1))
    return ArrayLibrary(namespace, to_numpy=cupy.asnumpy)


def _refuse(name):
    def refuse(*args, **kwargs):
        raise AssertionError(f"{name} moves an array silently")

    return refuse


_LIBRARIES = {
    "numpy": _numpy_library,
    "array_api_strict": _strict_library,
    "array_api_strict-device1": lambda monkeypatch: _strict_library(monkeypatch, "device1"),
    "cupy": _cupy_library,
}


@pytest.fixture(
    params=[
        pytest.param(name, marks=[pytest.mark.gpu] if name == "cupy" else []) for name in _LIBRARIES
    ]
)
def xp(request, monkeypatch):
    """Array libraries other than the compiled kernels, as :class:`ArrayLibrary`."""
    import array_api_compat

    library = _LIBRARIES[request.param](monkeypatch)
    load = _arrays._load

    def load_and_spy(module):
        assert module.endswith("_xp"), f"{module} was chosen for {request.param}"
        return _SpiedModule(load(module), library.calls)

    monkeypatch.setattr(_arrays, "_load", load_and_spy)
    monkeypatch.setattr(np, "from_dlpack", _refuse("numpy.from_dlpack"))
    monkeypatch.setattr(array_api_compat, "to_device", _refuse("to_device"))
    backend = "array_api" if request.param == "numpy" else "auto"
    with sparsestat.config_context(backend=backend):
        yield library
