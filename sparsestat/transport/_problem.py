"""Check the input of a transport problem, and bring it to the form that solvers want."""

import math
import numbers
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import check_array

from sparsestat.transport._costs import METRICS, Costs
from sparsestat.utils._arrays import check_device_array, get_namespace

# Sums of weights may differ by rounding, but not by more.
_MASS_RTOL = 1e-8
_DEFAULT_EPSILON = 0.05


class Problem(NamedTuple):
    """A transport problem without rows and columns that have no weight.

    Parameters
    ----------
    costs : Costs
        Costs of the rows and columns that have a weight.
    a, b : arrays
        Their weights; of total mass one if both marginals are hard.
    mass : float
        What a solution is to be multiplied with.
    rows, columns : arrays of int or None
        Which ones were kept; None for all of them.
    shape : (int, int)
        Number of rows and columns before that.
    reg_marginals : (float, float)
        Strength of the penalties on the marginals; inf where they are hard.
    source : tuple
        The costs of all rows and columns, or the points and the metric.
    forbidden : array of bool or None
        Which of the kept costs are infinite.
    float32 : bool
        Whether results are returned in single precision.
    """

    costs: Costs
    a: Any
    b: Any
    mass: float
    rows: Any
    columns: Any
    shape: tuple[int, int]
    reg_marginals: tuple[float, float]
    source: tuple[Any, Any, Any, Any]
    forbidden: Any
    float32: bool


def check_matrix(x, name, *, allow_infinite=False):
    """Check a matrix of real numbers: its float64 form, and whether it came in float32.

    Raises
    ------
    ValueError
        For another number of dimensions, NaN or infinity, complex or half-precision numbers.
    TypeError
        For sparse matrices, and arrays of a mix of libraries.
    """
    xp, _, is_host = get_namespace(x)
    if not is_host:
        x = check_device_array(x, name, ndim=2, xp=xp, allow_infinite=allow_infinite)
        return xp.astype(x, xp.float64), x.dtype == xp.float32
    if getattr(x, "dtype", None) == np.float16:
        raise ValueError(f"{name} must not be of half precision (float16); use float32.")
    single = getattr(x, "dtype", None) == np.float32
    x = check_array(
        x, dtype=np.float64, order="C", ensure_all_finite=not allow_infinite, input_name=name
    )
    # A finite sum needs no second look.
    if allow_infinite and not np.isfinite(x.sum()) and not np.all(x > -math.inf):
        raise ValueError(
            f"{name} contains NaN or -inf; only +inf is allowed, for a pair that must not be "
            "matched."
        )
    # Compiled code for arrays that must not be written to would be compiled once more.
    return x if x.flags.writeable else x.copy(), single


def check_weights(weights, size, name, xp, like, total=1.0):
    """Check the sums that rows or columns of a plan are to have.

    Parameters
    ----------
    weights : array-like of shape (size,) or None
        Non-negative weights; None for equal ones.
    size : int
        Number of them.
    name : str
        The argument that a message names.
    xp : module
        Namespace of the problem.
    like : array
        An array of the problem, where the result shall live.
    total : float, default=1.0
        Sum of equal weights.

    Returns
    -------
    weights : array of shape (size,)
        Float64.

    Raises
    ------
    ValueError
        For another shape, weights that are negative, not finite or all zero.
    """
    if weights is None:
        return xp.full_like(xp.astype(like[:, 0], xp.float64), total / size)
    _, _, is_host = get_namespace(weights)
    if is_host:
        weights = np.array(
            check_array(
                weights, dtype=np.float64, ensure_2d=False, ensure_min_samples=0,
                ensure_all_finite=False, input_name=name,
            )
        )  # fmt: skip
    else:
        weights = xp.astype(check_device_array(weights, name, ndim=1, xp=xp), xp.float64)
    if tuple(weights.shape) != (size,):
        raise ValueError(
            f"{name} must have shape ({size},), one weight for each "
            f"{'row' if name == 'a' else 'column'} of the costs, got shape {tuple(weights.shape)}."
        )
    if not bool(xp.all(xp.isfinite(weights))):
        raise ValueError(f"{name} contains NaN or infinity.")
    if bool(xp.any(weights < 0)):
        raise ValueError(f"{name} must not be negative, got {float(xp.min(weights))}.")
    if not bool(xp.any(weights > 0)):
        raise ValueError(f"{name} must have at least one positive weight, got zeros only.")
    if not math.isfinite(float(xp.sum(weights))):
        raise ValueError(f"{name} must have a finite sum.")
    return weights


def check_reg_marginals(reg_marginals):
    """The strengths of the penalties on both marginals, from one number or two."""
    if isinstance(reg_marginals, numbers.Real):
        reg_marginals = (reg_marginals, reg_marginals)
    try:
        tau_a, tau_b = (float(tau) for tau in reg_marginals)
    except (TypeError, ValueError):
        raise ValueError(
            f"reg_marginals must be a positive number or a pair of them, got {reg_marginals!r}."
        ) from None
    if not (tau_a > 0 and tau_b > 0):
        raise ValueError(
            f"reg_marginals must be positive (inf for a hard marginal), got ({tau_a}, {tau_b})."
        )
    return tau_a, tau_b


def make_problem(
    C=None, X=None, Y=None, a=None, b=None, *, metric="sqeuclidean", reg_marginals, n_jobs=None
):
    """Check a problem with given costs, or with costs computed from points."""
    given = [x for x in (C, X, Y, a, b) if x is not None]
    xp, _, _ = get_namespace(*given)
    reg_marginals = check_reg_marginals(reg_marginals)
    if C is not None:
        C, float32 = check_matrix(C, "C", allow_infinite=True)
        shape = tuple(C.shape)
        like_rows, like_columns = C, xp.matrix_transpose(C)
    else:
        X, single_X = check_matrix(X, "X")
        Y, single_Y = check_matrix(Y, "Y")
        float32 = single_X and single_Y
        if X.shape[1] != Y.shape[1]:
            raise ValueError(
                f"X and Y must have the same number of features, got {X.shape[1]} and {Y.shape[1]}."
            )
        if not callable(metric) and metric not in METRICS:
            raise ValueError(
                f"metric must be one of {sorted(METRICS)} or a callable, got {metric!r}."
            )
        shape = (X.shape[0], Y.shape[0])
        like_rows, like_columns = X, Y
    a, b = _check_masses(a, b, shape, xp, like_rows, like_columns, reg_marginals)
    mass = 1.0
    if math.isinf(reg_marginals[0]) and math.isinf(reg_marginals[1]):
        mass = float(xp.sum(a))
        a, b = a / mass, b / float(xp.sum(b))
    rows, columns = _positive(a, xp), _positive(b, xp)
    source = (C, X, Y, metric)
    if rows is not None:
        a = xp.take(a, rows)
        C, X = (None if x is None else xp.take(x, rows, axis=0) for x in (C, X))
    if columns is not None:
        b = xp.take(b, columns)
        C = None if C is None else xp.take(C, columns, axis=1)
        Y = None if Y is None else xp.take(Y, columns, axis=0)
    forbidden = None
    if C is not None:
        C, forbidden = _replace_infinite(C, xp)
    costs = Costs(C, X, Y, metric, n_jobs)
    return Problem(
        costs, a, b, mass, rows, columns, shape, reg_marginals, source, forbidden, float32
    )


def _check_masses(a, b, shape, xp, like_rows, like_columns, reg_marginals):
    if a is None and b is not None:
        b = check_weights(b, shape[1], "b", xp, like_columns)
        return check_weights(None, shape[0], "a", xp, like_rows, float(xp.sum(b))), b
    a = check_weights(a, shape[0], "a", xp, like_rows)
    b = check_weights(b, shape[1], "b", xp, like_columns, float(xp.sum(a)))
    mass_a, mass_b = float(xp.sum(a)), float(xp.sum(b))
    hard = math.isinf(reg_marginals[0]) and math.isinf(reg_marginals[1])
    if hard and abs(mass_a - mass_b) > _MASS_RTOL * max(mass_a, mass_b):
        raise ValueError(
            f"The marginals must have the same sum, got sum(a)={mass_a:.10g} and "
            f"sum(b)={mass_b:.10g}; normalise them, or penalise with reg_marginals."
        )
    return a, b


def _positive(weights, xp):
    if bool(xp.all(weights > 0)):
        return None
    return xp.nonzero(weights > 0)[0]


def _replace_infinite(C, xp):
    """Make forbidden pairs so expensive that their share of a plan rounds to zero."""
    if math.isfinite(float(xp.sum(C))):
        return C, None
    forbidden = xp.isinf(C)
    if not bool(xp.any(forbidden)):
        return C, None
    for axis, what in ((1, "row"), (0, "column")):
        empty = xp.all(forbidden, axis=axis)
        if bool(xp.any(empty)):
            raise ValueError(
                f"C must have a finite entry in every row and column that has a weight, but "
                f"{what} {int(xp.argmax(xp.astype(empty, xp.int64)))} has none."
            )
    finite = xp.where(forbidden, xp.zeros_like(C), C)
    low, high = float(xp.min(finite)), float(xp.max(finite))
    # Even a regularisation far above the costs must not let such a pair through.
    expensive = high + 1e12 * (max(high - low, abs(high), abs(low)) or 1.0)
    return xp.where(forbidden, xp.full_like(C, expensive), C), forbidden


def resolve_epsilon(epsilon, epsilon_scale, problem):
    """The regularisation in the units of the costs.

    Statistics of the costs are those under the weights, so that a row of weight two is as
    good as two rows.

    Raises
    ------
    ValueError
        For a regularisation that is not positive and finite, and for None with costs whose
        mean is negative.
    """
    if epsilon_scale not in ("absolute", "mean", "max", "median"):
        raise ValueError(
            f"epsilon_scale must be 'absolute', 'mean', 'max' or 'median', got {epsilon_scale!r}."
        )
    if epsilon is None:
        epsilon, epsilon_scale = _DEFAULT_EPSILON, "mean"
        if problem.costs.largest_cost == 0.0 and problem.costs.largest == 0.0:
            return 1.0
    if not isinstance(epsilon, numbers.Real) or not (0 < float(epsilon) < math.inf):
        raise ValueError(f"epsilon must be a positive, finite number, got {epsilon!r}.")
    if epsilon_scale == "absolute":
        return float(epsilon)
    scale = _statistic(problem, epsilon_scale)
    if not scale > 0:
        raise ValueError(
            f"The costs' {epsilon_scale}, {scale:.6g}, must be positive to scale epsilon; give "
            "epsilon in the units of the costs."
        )
    return float(epsilon) * scale


def _statistic(problem, name):
    """Mean, median or maximum of the costs of pairs that are allowed."""
    costs, xp = problem.costs, problem.costs.xp
    if problem.forbidden is None and name != "median":
        with costs:
            return costs.mean(problem.a, problem.b) if name == "mean" else costs.largest_cost
    if costs.C is None:
        raise ValueError(
            "epsilon_scale='median' needs a stored matrix of costs; use 'mean' or 'max' for costs "
            "computed from points."
        )
    values = xp.reshape(costs.C, (-1,))
    weights = xp.reshape(problem.a[:, None] * problem.b[None, :], (-1,))
    if problem.forbidden is not None:
        allowed = xp.nonzero(~xp.reshape(problem.forbidden, (-1,)))[0]
        values, weights = xp.take(values, allowed), xp.take(weights, allowed)
    if name == "mean":
        return float(xp.sum(values * weights)) / float(xp.sum(weights))
    if name == "max":
        return float(xp.max(values))
    order = xp.argsort(values)
    below = xp.cumulative_sum(xp.take(weights, order))
    middle = 0.5 * float(below[-1]) * (1.0 - 1e-12)
    k = int(xp.sum(xp.astype(below < middle, xp.int64)))
    return float(xp.take(values, order[k : k + 1])[0])
