"""How penalised problems are minimised: working sets, descent by blocks, proximal gradient."""

import importlib

_HOME = {
    "FistaResult": "_fista",
    "fista": "_fista",
    "fista_path": "_fista",
    "forest_newton_step": "_forest",
    "greedy_forest": "_forest",
}

__all__ = ["FistaResult", "fista", "fista_path", "forest_newton_step", "greedy_forest"]


def __getattr__(name):
    # Solvers are loaded on first use, so that importing this package compiles nothing.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return sorted(__all__)
