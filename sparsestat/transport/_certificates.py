"""Plans with exact marginals, and bounds on unregularised optimal transport."""

import math
from typing import Any, NamedTuple

import numpy as np

from sparsestat.transport._problem import check_matrix, check_weights
from sparsestat.utils._arrays import get_namespace

# Entries of a block of rows.
_BLOCK = 2**18


class TransportGap(NamedTuple):
    """Bounds on the value of the unregularised problem.

    Parameters
    ----------
    upper : float
        Cost of a plan with exact marginals.
    lower : float
        Value of feasible dual variables.
    gap : float
        ``upper - lower``, not negative up to rounding.
    """

    upper: float
    lower: float
    gap: float


def round_plan(P, a, b):
    """Change a plan as little as possible so that its marginals are exact.

    Rows and columns with too large a sum are scaled down, then the mass that is missing is
    added as a matrix of rank one [1]_. The result differs from P by at most twice the error
    of the marginals, in the sum of absolute values.

    Parameters
    ----------
    P : array-like of shape (n, m)
        Non-negative plan.
    a : array-like of shape (n,)
        Non-negative sums of the rows.
    b : array-like of shape (m,)
        Sums of the columns, of the same total.

    Returns
    -------
    plan : array of shape (n, m)
        A plan with these sums, in float64.

    Raises
    ------
    ValueError
        For negative entries, NaN or infinity, and weights of other shapes or totals.

    References
    ----------
    .. [1] Altschuler, J., Weed, J. and Rigollet, P. (2017). Near-linear time approximation
       algorithms for optimal transport via Sinkhorn iteration. NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.transport import round_plan
    >>> plan = round_plan([[0.4, 0.2], [0.1, 0.2]], [0.5, 0.5], [0.5, 0.5])
    >>> plan.sum(axis=0), plan.sum(axis=1)
    (array([0.5, 0.5]), array([0.5, 0.5]))
    """
    xp = get_namespace(P, a, b)[0]
    P = _check_plan(P, "P", xp)
    a, b = _check_pair(a, b, P, xp)
    rounding = _rounding(P, a, b, xp)
    plan = xp.empty_like(P)
    for rows in _row_blocks(P.shape):
        plan[rows, :] = _rounded(P, rounding, rows)
    return plan


def transport_gap(C, plan, potentials, a=None, b=None):
    """Bound unregularised optimal transport from both sides.

    The plan is rounded to exact marginals, so that its cost is an upper bound, and f is
    replaced by min_j C_ij - g_j, so that f_i + g_j <= C_ij and a.f + b.g is a lower bound:
    the bounds hold for any plan and any potentials, of whatever regularisation. Neither needs
    a second matrix.

    Parameters
    ----------
    C : array-like of shape (n, m)
        Finite costs.
    plan : array-like of shape (n, m)
        Non-negative plan.
    potentials : (array-like of shape (n,), array-like of shape (m,))
        Dual variables f and g, of which g is used; where b is zero, it is not looked at.
    a : array-like of shape (n,) or None, default=None
        Non-negative sums of the rows; None for equal ones.
    b : array-like of shape (m,) or None, default=None
        Non-negative sums of the columns, of the same total.

    Returns
    -------
    gap : TransportGap
        The bounds.

    Raises
    ------
    ValueError
        For arrays of other shapes, NaN or infinity, and weights of different totals.
    TypeError
        For arrays of different libraries or devices.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.transport import sinkhorn, transport_gap
    >>> C = np.array([[0.0, 1.0], [1.0, 0.0]])
    >>> result = sinkhorn(C, epsilon=0.05)
    >>> transport_gap(C, result.plan, result.potentials).gap < 1e-6
    True
    """
    g = _second(potentials)
    xp, _, on_host = get_namespace(C, plan, g, a, b)
    C, _ = check_matrix(C, "C")
    n, m = C.shape
    plan = _check_plan(plan, "plan", xp)
    if tuple(plan.shape) != (n, m):
        raise ValueError(
            f"plan must have the shape ({n}, {m}) of C, got shape {tuple(plan.shape)}."
        )
    a, b = _check_pair(a, b, C, xp)
    g = _centred(_check_potential(g, m, b, xp, on_host), b, xp)
    # No mass goes to a column without weight, so that its constraint can be left out.
    slack = xp.where(b > 0, -g, xp.full_like(g, math.inf))
    rounding = _rounding(plan, a, b, xp)
    upper, f_parts = 0.0, []
    for rows in _row_blocks((n, m)):
        block = C[rows, :]
        upper += float(xp.sum(block * _rounded(plan, rounding, rows)))
        f_parts.append(xp.min(block + slack[None, :], axis=1))
    lower = float(xp.sum(a * xp.concat(f_parts))) + float(xp.sum(b * g))
    return TransportGap(upper, lower, upper - lower)


class _Rounding(NamedTuple):
    """Scales of rows and columns, and the factors of what is added after that."""

    rows: Any
    columns: Any
    missing_a: Any
    missing_b: Any


def _rounding(P, a, b, xp):
    """Find what makes the sums of a plan those of ``a`` and ``b``."""
    rows = _share(a, xp.sum(P, axis=1), xp)
    columns = _share(b, xp.matmul(rows, P), xp)
    missing_a = a - rows * xp.matmul(P, columns)
    missing_b = b - columns * xp.matmul(rows, P)
    # Rounding may leave too much by a digit.
    missing_a = xp.where(missing_a > 0, missing_a, xp.zeros_like(a))
    missing_b = xp.where(missing_b > 0, missing_b, xp.zeros_like(b))
    total = float(xp.sum(missing_b))
    return _Rounding(rows, columns, missing_a, missing_b / total if total > 0.0 else missing_b)


def _rounded(P, rounding, rows):
    """Some rows of the plan with exact sums."""
    block = P[rows, :] * rounding.rows[rows, None]
    block *= rounding.columns[None, :]
    block += rounding.missing_a[rows, None] * rounding.missing_b[None, :]
    return block


def _row_blocks(shape):
    n, m = shape
    step = max(1, _BLOCK // m)
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def _share(wanted, sums, xp):
    safe = xp.where(sums > wanted, sums, xp.ones_like(sums))
    return xp.where(sums > wanted, wanted / safe, xp.ones_like(sums))


def _check_plan(P, name, xp):
    P, _ = check_matrix(P, name)
    smallest = float(xp.min(P))
    if smallest < 0.0:
        raise ValueError(f"{name} must not be negative, got {smallest}.")
    return P


def _check_pair(a, b, like, xp):
    like_columns = xp.matrix_transpose(like)
    if a is None and b is not None:
        b = check_weights(b, like.shape[1], "b", xp, like_columns)
        a = check_weights(None, like.shape[0], "a", xp, like, float(xp.sum(b)))
    else:
        a = check_weights(a, like.shape[0], "a", xp, like)
        b = check_weights(b, like.shape[1], "b", xp, like_columns, float(xp.sum(a)))
    mass_a, mass_b = float(xp.sum(a)), float(xp.sum(b))
    if not math.isclose(mass_a, mass_b, rel_tol=1e-8):
        raise ValueError(
            f"a and b must have the same sum, got sum(a)={mass_a:.10g} and sum(b)={mass_b:.10g}."
        )
    # No plan has sums of different totals.
    return a, b * (mass_a / mass_b)


def _second(potentials):
    try:
        _, g = potentials
    except (TypeError, ValueError):
        raise ValueError(
            f"potentials must be a pair (f, g), got {type(potentials).__name__}."
        ) from None
    return g


def _check_potential(g, m, b, xp, on_host):
    g = np.asarray(g, dtype=np.float64) if on_host else xp.astype(g, xp.float64)
    if tuple(g.shape) != (m,):
        raise ValueError(f"potentials must end with g of shape ({m},), got {tuple(g.shape)}.")
    g = xp.where(b > 0, g, xp.zeros_like(g))
    if not bool(xp.all(xp.isfinite(g))):
        raise ValueError("potentials must be finite, got NaN or infinity in g.")
    return g


def _centred(g, b, xp):
    """Potentials without a common constant, in which digits would drown."""
    return g - float(xp.sum(b * g)) / float(xp.sum(b))
