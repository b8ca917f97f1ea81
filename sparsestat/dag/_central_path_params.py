"""Settings of the central path, and the constants that its host and device versions share."""

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

REFERENCE_PARAMS: Mapping[str, Any] = {
    "mu": (1.0, 0.1, 0.01, 0.001),
    "s": (1.0, 0.9, 0.8, 0.7),
    "warm_iter": 20_000,
    "max_iter": 70_000,
    "lr": 3e-4,
    "betas": (0.99, 0.999),
    "eps": 1e-8,
    "checkpoint": 1000,
    "tol": 1e-6,
}
"""The settings of the paper's experiments."""

DOMAIN_TOL = 1e-6
"""How far below zero an inverse may be for rounding before it counts as outside the domain."""

MIN_LR = 1e-16
"""A stage ends where no longer step stays in the domain."""

RETRY_LEVEL = 0.1
"""By how much s grows when a stage fails."""

LAST_FAILING_LEVEL = 0.9
"""Above it a step out of the domain is shortened; up to it the stage starts anew."""

SCALE_GUARD = 1e-10
"""Smallest noise scale relative to where it started, reached by singular covariances only."""


def check_path_params(path_params):
    """Complete and check the settings of the central path.

    Parameters
    ----------
    path_params : dict or None
        Any of the keys of ``REFERENCE_PARAMS``, whose values are the defaults:

        - ``mu`` and ``s``, sequences of one positive number for each stage;
        - ``warm_iter``, iterations of each stage but the last, and ``max_iter``, of the last;
        - ``lr``, ``betas`` and ``eps`` of the Adam steps;
        - ``checkpoint``, iterations between two looks at the objective;
        - ``tol``, the relative change between two looks at which a stage ends.

    Returns
    -------
    params : dict
        A new dict with every key; numbers are Python numbers, sequences are tuples.

    Raises
    ------
    ValueError
        For an unknown key or a value out of range.
    TypeError
        For anything but a dict.
    """
    if path_params is None:
        path_params = {}
    if not isinstance(path_params, Mapping):
        raise TypeError(f"path_params must be a dict or None, got {path_params!r}.")
    unknown = [key for key in path_params if key not in REFERENCE_PARAMS]
    if unknown:
        raise ValueError(
            f"path_params has the unknown key {unknown[0]!r}; "
            f"known keys are {', '.join(REFERENCE_PARAMS)}."
        )
    params = {**REFERENCE_PARAMS, **path_params}
    for key in ("mu", "s"):
        params[key] = _numbers(params[key], key, lambda x: x > 0.0, "positive numbers")
    if len(params["mu"]) != len(params["s"]) or not params["mu"]:
        raise ValueError(
            "path_params['mu'] and path_params['s'] must have one entry for each stage, "
            f"got {len(params['mu'])} and {len(params['s'])}."
        )
    params["betas"] = _numbers(
        params["betas"], "betas", lambda x: 0.0 <= x < 1.0, "two numbers from [0, 1)", length=2
    )
    for key in ("warm_iter", "max_iter", "checkpoint"):
        params[key] = _count(params[key], key)
    for key in ("lr", "eps"):
        (params[key],) = _numbers((params[key],), key, lambda x: x > 0.0, "a positive number")
    (params["tol"],) = _numbers((params["tol"],), "tol", lambda x: x >= 0.0, "a number >= 0")
    return params


def _numbers(values, key, valid, wanted, length=None):
    message = f"path_params[{key!r}] must be {wanted}, got "
    listed = isinstance(values, Sequence | np.ndarray) and not isinstance(values, str)
    if not listed or (length is not None and len(values) != length):
        raise ValueError(f"{message}{values!r}.")
    for value in values:
        if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
            raise ValueError(f"{message}{value!r}.")
        if not valid(value):
            raise ValueError(f"{message}{value!r}.")
    return tuple(float(value) for value in values)


def _count(value, key):
    # The paper writes its numbers of iterations as 2e4 and 7e4.
    whole = isinstance(value, Integral) or (isinstance(value, float) and value.is_integer())
    if not whole or isinstance(value, bool) or value < 1:
        raise ValueError(f"path_params[{key!r}] must be an integer of at least 1, got {value!r}.")
    return int(value)
