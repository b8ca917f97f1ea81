"""What to attach to a bug report."""

import importlib.metadata
import os
import platform
import sys

from sparsestat._config import get_config
from sparsestat._version import __version__

_PACKAGES = (
    "numpy",
    "scipy",
    "scikit-learn",
    "numba",
    "llvmlite",
    "joblib",
    "threadpoolctl",
    "array-api-compat",
    "statsmodels",
    "cvxpy",
    "pandas",
    "matplotlib",
    "dask",
    "cupy-cuda12x",
)


def show_versions():
    """Print the versions, thread pools and settings that a bug report needs.

    Packages are asked for their version without being imported.

    Examples
    --------
    >>> import sparsestat
    >>> sparsestat.show_versions()  # doctest: +SKIP
    """
    from threadpoolctl import threadpool_info

    sections = {
        "System": {
            "python": " ".join(sys.version.split()),
            "executable": sys.executable,
            "platform": platform.platform(),
            "cores": os.cpu_count(),
        },
        "Packages": {"sparsestat": __version__} | {name: _version(name) for name in _PACKAGES},
        "Thread pools": {
            pool[
                "prefix"
            ]: f"{pool['internal_api']} {pool['version']}, {pool['num_threads']} threads"
            for pool in threadpool_info()
        },
        "Settings": {**get_config(), "numba cache": _cache_folder()},
    }
    for title, entries in sections.items():
        print(title)
        for name, value in entries.items():
            print(f"  {name:>16}: {value}")


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _cache_folder():
    return os.environ.get("NUMBA_CACHE_DIR") or "beside the modules, or in the user's cache folder"
