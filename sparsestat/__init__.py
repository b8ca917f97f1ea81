"""Scikit-learn-compatible estimators for sparse and structured statistics.

Importing this package loads the standard library only; a subpackage, with
scikit-learn and whatever else it needs, is loaded on first use.
"""

import importlib

from sparsestat._config import config_context, get_config, set_config
from sparsestat._version import __version__

_SUBPACKAGES = (
    "dag",
    "datasets",
    "linear_model",
    "penalties",
    "privacy",
    "solvers",
    "transport",
    "utils",
)
_FUNCTIONS = {
    "all_estimators": "sparsestat.utils._discovery",
    "show_versions": "sparsestat.utils._versions",
}

__all__ = [
    "__version__",
    "all_estimators",
    "config_context",
    "dag",
    "datasets",
    "get_config",
    "linear_model",
    "penalties",
    "privacy",
    "set_config",
    "show_versions",
    "solvers",
    "transport",
    "utils",
]


def __getattr__(name):
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(_FUNCTIONS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__
