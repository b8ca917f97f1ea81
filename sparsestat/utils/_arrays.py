"""Which library an array belongs to, and which code works on it."""

import importlib
import numbers

import array_api_compat
import array_api_compat.numpy as host_namespace
import numpy as np

from sparsestat._config import get_config


def _is_device_array(x):
    # A Dask array follows the standard as well, but its home is the host.
    return (
        array_api_compat.is_array_api_obj(x)
        and not isinstance(x, np.ndarray | np.generic)
        and not array_api_compat.is_dask_array(x)
        and not array_api_compat.is_pydata_sparse_array(x)
    )


def _library(x):
    return type(x).__module__.partition(".")[0]


def get_namespace(*arrays):
    """Find the array library that all arguments share.

    Parameters
    ----------
    *arrays : array-like, scalar or None
        Scalars and None belong to any library.

    Returns
    -------
    xp : module
        The library as a namespace of the array API standard; NumPy's for NumPy
        arrays, lists, DataFrames, SciPy sparse arrays, or no array at all.
    device : object
        Where the arrays live; "cpu" on the host.
    is_host : bool
        Whether ``xp`` is NumPy's.

    Raises
    ------
    TypeError
        For arrays of different libraries, or on different devices.
    """
    arrays = [x for x in arrays if x is not None and not isinstance(x, numbers.Number | str)]
    on_device = [x for x in arrays if _is_device_array(x)]
    if not on_device:
        return host_namespace, "cpu", True
    libraries = sorted({_library(x) for x in arrays})
    if len(libraries) > 1 or len(on_device) < len(arrays):
        if len(libraries) == 1:
            libraries = sorted({type(x).__name__ for x in arrays})
        raise TypeError(
            f"All arrays must belong to one library, got {' and '.join(libraries)}. "
            "Convert them first: nothing is moved between libraries silently."
        )
    devices = [array_api_compat.device(x) for x in on_device]
    for device in devices[1:]:
        if device != devices[0]:
            raise TypeError(f"All arrays must be on one device, got {devices[0]} and {device}.")
    return array_api_compat.array_namespace(*on_device), devices[0], False


def use_array_api(*arrays):
    """Whether the arguments go to the code on the array API standard.

    Parameters
    ----------
    *arrays : array-like, scalar or None
        The input.

    Returns
    -------
    answer : bool
        True for device arrays, and for host arrays under
        ``set_config(backend="array_api")``.

    Raises
    ------
    TypeError
        For device arrays under ``set_config(backend="numba")``, and for a mix.
    """
    _, _, is_host = get_namespace(*arrays)
    backend = get_config()["backend"]
    if is_host:
        return backend == "array_api"
    if backend == "numba":
        library = next(_library(x) for x in arrays if _is_device_array(x))
        raise TypeError(
            f"backend='numba' works on NumPy arrays, got one of {library}; "
            "convert it, or use set_config(backend='auto')."
        )
    return True


def kernels_for(package, *arrays, name="_kernels"):
    """Import the kernels of a package that suit the input.

    Parameters
    ----------
    package : str
        Name of a package with the modules ``_kernels`` (compiled by numba) and
        ``_kernels_xp`` (the same functions on the array API standard).
    *arrays : array-like, scalar or None
        The input.
    name : str, default="_kernels"
        The module's name, where a package has several such pairs.

    Returns
    -------
    kernels : module
        One of the two, imported on first use.
    xp : module
        The namespace of the input.
    """
    name = f"{name}_xp" if use_array_api(*arrays) else name
    return _load(f"{package}.{name}"), get_namespace(*arrays)[0]


def _load(module):
    return importlib.import_module(module)


def check_device_array(x, name, *, ndim, xp, allow_infinite=False):
    """Check a device array, which stays where it is.

    Parameters
    ----------
    x : array
        A device array.
    name : str
        The argument that a message names.
    ndim : int
        Number of dimensions it must have.
    xp : module
        Its namespace.
    allow_infinite : bool, default=False
        Whether +inf is accepted.

    Returns
    -------
    x : array
        The array, of a real floating dtype: booleans and integers become float64.

    Raises
    ------
    ValueError
        For another number of dimensions, an empty array, complex or half-precision
        numbers, NaN or infinity.
    """
    if x.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimension(s), got shape {tuple(x.shape)}.")
    if 0 in x.shape:
        raise ValueError(f"{name} must not be empty, got shape {tuple(x.shape)}.")
    if xp.isdtype(x.dtype, ("bool", "integral")):
        x = xp.astype(x, xp.float64)
    if x.dtype not in (xp.float32, xp.float64):
        raise ValueError(f"{name} must hold real numbers (float32 or float64), got {x.dtype}.")
    fine = xp.isfinite(x)
    if allow_infinite:
        fine = fine | (x > 0)
    if not bool(xp.all(fine)):
        raise ValueError(f"{name} contains NaN or {'-inf' if allow_infinite else 'infinity'}.")
    return x
