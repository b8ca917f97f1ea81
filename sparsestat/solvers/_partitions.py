"""Partitions of coordinates into blocks, and what can be combined with them."""

import numpy as np

from sparsestat.solvers._block_arrays import (
    CYCLIC,
    GS,
    GSD,
    GSL,
    GSQ,
    HB,
    LB,
    LIPSCHITZ,
    PERM,
    PG,
    PN,
    RANDOM,
    TMP,
)

FIXED = ("order", "sort", "average", "sort_rows", "average_rows")
"""Fixed blocks of neighbours, or of coordinates with similar or with different curvatures or sums
of the absolute values in their rows of the Hessian."""

PARTITIONS = (*FIXED, "variable")

RULES = {
    "gs": GS,
    "gsl": GSL,
    "gsd": GSD,
    "gsq": GSQ,
    "random": RANDOM,
    "cyclic": CYCLIC,
    "perm": PERM,
    "lipschitz": LIPSCHITZ,
}
"""Codes of the rules."""

UPDATES = {"lb": LB, "hb": HB, "pg": PG, "pn": PN, "tmp": TMP}
"""Codes of the updates."""

VARIABLE_RULES = ("gs", "gsd", "gsq", "random")
SMOOTH_UPDATES = ("lb", "hb")
COMPOSITE_UPDATES = ("pg", "pn", "tmp")


def check_combination(partition, rule, update, is_smooth):
    """Refuse rules and updates that have no meaning together.

    Parameters
    ----------
    partition, rule, update : str
        One of `PARTITIONS`, `RULES` and `UPDATES` each.
    is_smooth : bool
        Whether there is neither a penalty nor a sign constraint.

    Raises
    ------
    ValueError
        Naming what would be legal.
    """
    if partition == "variable" and rule not in VARIABLE_RULES:
        raise ValueError(
            f"rule={rule!r} needs fixed blocks, one of partition={_listed(FIXED)}; "
            f"with partition='variable' rule must be one of {_listed(VARIABLE_RULES)}."
        )
    if is_smooth and update not in SMOOTH_UPDATES:
        raise ValueError(
            f"update={update!r} is made for a penalty or a sign constraint; with alpha=0 and "
            f"positive=False update must be one of {_listed(SMOOTH_UPDATES)}."
        )
    if not is_smooth and update not in COMPOSITE_UPDATES:
        raise ValueError(
            f"update={update!r} knows neither penalties nor signs; with alpha > 0 or "
            f"positive coefficients update must be one of {_listed(COMPOSITE_UPDATES)}."
        )


def _listed(names):
    return ", ".join(repr(name) for name in names[:-1]) + f" or {names[-1]!r}"


def make_partition(partition, keys, size):
    """Split all coordinates into blocks of ``size``, the last of which may be smaller.

    Parameters
    ----------
    partition : {"order", "sort", "average", "sort_rows", "average_rows"}
        Neighbours, coordinates of similar keys, or pairs of a large and a small key.
    keys : ndarray of shape (n_features,)
        Curvatures of the loss along the coordinates, or sums of the absolute values in
        their rows of its Hessian.
    size : int
        Coordinates of a block.

    Returns
    -------
    order : ndarray of int of shape (n_features,)
        The coordinates, block after block.
    starts : ndarray of int of shape (n_blocks + 1,)
        Where the blocks begin, and the end.
    """
    d = keys.size
    order = np.arange(d)
    if partition != "order":
        order = np.argsort(keys, kind="stable")
    if partition in ("average", "average_rows"):
        # The smallest, the largest, the second smallest and so on.
        both = np.empty(d, dtype=order.dtype)
        half = (d + 1) // 2
        both[::2] = order[:half]
        both[1::2] = order[half:][::-1]
        order = both
    starts = np.append(np.arange(0, d, size), d)
    return order.astype(np.int64), starts.astype(np.int64)
