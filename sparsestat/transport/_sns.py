"""Sinkhorn-Newton-Sparse: Newton's method on the dual with a sparsified Hessian.

With u = f / epsilon + log a, v = g / epsilon + log b and P_ij = exp(u_i + v_j - C_ij / epsilon),
the dual F(u, v) = a.u + b.v - sum_ij P_ij is concave. Its gradient is (a - P1, b - P'1), and
minus its Hessian is

    H = [[diag(P1), P], [P', diag(P'1)]] = sum_ij P_ij (e_i + e_j)(e_i + e_j)'.

Leaving entries of P out of the off-diagonal blocks, but not out of the diagonals, replaces
p (e_i + e_j)(e_i + e_j)' by p (e_i e_i' + e_j e_j'): what remains is positive semi-definite,
whatever is left out.
"""

import math
import numbers
import warnings
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from sklearn.exceptions import ConvergenceWarning

from sparsestat.transport._newton import conjugate_gradients
from sparsestat.transport._problem import make_problem, resolve_epsilon
from sparsestat.transport._progress import IterationRecord, Progress
from sparsestat.transport._result import SinkhornResult, solution
from sparsestat.transport._sweeps import Marginals, log_sweeps, start

_SWEEPS = 20
_MAX_CG = 2000
# Where the dual is flat to rounding, a smaller error is the better judge of a step.
_FLAT = 1e-5


class SNSStep(NamedTuple):
    """One Newton step of Sinkhorn-Newton-Sparse.

    Parameters
    ----------
    marginal_error : float
        |P1 - a|_1 + |P'1 - b|_1 after the step.
    dual_value : float
        F(u, v) after the step, up to a constant of the problem.
    n_kept : int
        Number of entries of the plan that its matrix kept.
    n_cg : int
        Number of steps of conjugate gradients.
    step : float
        Length of the step; zero if no length was acceptable.
    """

    marginal_error: float
    dual_value: float
    n_kept: int
    n_cg: int
    step: float


class SNSResult(NamedTuple):
    """What :func:`sinkhorn_newton_sparse` returns.

    Parameters
    ----------
    result : SinkhornResult
        Potentials, plan, values and certificates.
    steps : list of SNSStep
        What happened in each Newton step.
    """

    result: SinkhornResult
    steps: list[SNSStep]


def sinkhorn_newton_sparse(
    C, a=None, b=None, *, epsilon, n_sinkhorn=20, n_newton=100, density="adaptive", tol=1e-9
):
    """Run Sinkhorn-Newton-Sparse as it was published, step by step.

    After some sweeps of Sinkhorn's iteration, Newton steps on the dual are computed by conjugate
    gradients with a Hessian of which only the large entries are kept [1]_. For solving problems,
    :func:`sinkhorn` with ``method="newton"`` is faster; this function is for looking at the
    method.

    Parameters
    ----------
    C : array-like of shape (n, m)
        Finite costs.
    a : array-like of shape (n,) or None, default=None
        Non-negative sums of the rows of the plan; None for equal ones.
    b : array-like of shape (m,) or None, default=None
        Sums of the columns, of the same total.
    epsilon : float
        Regularisation, positive, in the units of the costs.
    n_sinkhorn : int, default=20
        Number of sweeps in the first stage.
    n_newton : int, default=100
        Largest number of Newton steps. Where no length of a step is acceptable, another
        ``n_sinkhorn`` sweeps take its place.
    density : "adaptive", float or None, default="adaptive"
        A number in (0, 1] keeps that share of the entries of the plan, the largest ones, as
        in the paper, where it is 2 / n for random assignments; counted as a share of the
        n m entries of the plan, as here, 5 / n to 8 / n are needed for the step counts
        given there, that is 5 to 8 entries in a row. "adaptive" drops an entry if it is at
        most delta times both the mean entry of its row and of its column, with delta the
        present error, at most 0.1: the matrix becomes exact as the error vanishes. None
        keeps all.
    tol : float, default=1e-9
        Wanted error of the marginals, relative to the total mass.

    Returns
    -------
    found : SNSResult
        The solution, and the steps.

    Raises
    ------
    ValueError
        For a density outside of (0, 1], costs of +inf, and as :func:`sinkhorn` does.
    TypeError
        For arrays that are not NumPy's.

    Warns
    -----
    ConvergenceWarning
        If the error is above the tolerance after ``n_newton`` steps.

    Notes
    -----
    With a fixed density the steps converge linearly, at a rate that the mass left out
    determines; the paper proves no rate for the method.

    References
    ----------
    .. [1] Tang, X., Shavlovsky, M., Rahmanian, H., Tardini, E., Thekumparampil, K. K.,
       Xiao, T. and Ying, L. (2024). Accelerating Sinkhorn algorithm with sparse Newton
       iterations. ICLR. arXiv:2401.12253.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.transport import sinkhorn_newton_sparse
    >>> C = np.random.default_rng(0).uniform(size=(100, 100))
    >>> found = sinkhorn_newton_sparse(C, epsilon=1 / 300)
    >>> found.result.converged
    True
    """
    _check_parameters(n_sinkhorn, n_newton, density, tol)
    problem = make_problem(C, a=a, b=b, reg_marginals=math.inf)
    if not problem.costs.on_host:
        raise TypeError(
            "sinkhorn_newton_sparse works on NumPy arrays, and with compiled code only; use "
            "sinkhorn(method='newton') elsewhere."
        )
    if problem.forbidden is not None:
        raise ValueError("C must be finite for sinkhorn_newton_sparse, got an entry of +inf.")
    epsilon = resolve_epsilon(epsilon, "absolute", problem)
    marginals = Marginals(problem.a, problem.b, np.log(problem.a), np.log(problem.b))
    costs = problem.costs
    progress = Progress(math.inf)
    u, v = start(costs, marginals)
    steps: list[SNSStep] = []
    while True:
        u, v, error = log_sweeps(
            costs, marginals, epsilon, u, v, tol=tol, progress=progress, max_sweeps=n_sinkhorn
        )
        if error <= tol or len(steps) >= n_newton:
            break
        u, v, error = newton_steps(
            costs, marginals, epsilon, u, v, tol=tol, progress=progress, density=density,
            steps=steps, max_steps=n_newton,
        )  # fmt: skip
        if error <= tol or steps[-1].step > 0.0:
            break
    result = solution(problem, epsilon, u, v, tol=tol, method="sns", progress=progress)
    if not result.converged:
        warnings.warn(
            f"The error of the marginals is {result.marginal_error:.3g}, above the required "
            f"{tol * problem.mass:.3g}, after {len(steps)} Newton steps; raise n_newton or "
            "n_sinkhorn, keep more entries, or take a larger epsilon.",
            ConvergenceWarning,
            stacklevel=2,
        )
    return SNSResult(result, steps)


def solve_for_sinkhorn(costs, marginals, epsilon, v, *, tol, progress):
    """Solve with the adaptive density, with sweeps wherever Newton steps do not help.

    Returns the potentials.
    """
    u, v = start(costs, marginals, v)
    while True:
        u, v, error = log_sweeps(
            costs, marginals, epsilon, u, v, tol=tol, progress=progress, max_sweeps=_SWEEPS
        )
        if error <= tol or progress.exhausted:
            return u, v
        u, v, error = newton_steps(
            costs, marginals, epsilon, u, v, tol=tol, progress=progress, density="adaptive",
            steps=[],
        )  # fmt: skip
        if error <= tol or progress.exhausted:
            return u, v


def newton_steps(
    costs, marginals, epsilon, u, v, *, tol, progress, density, steps, max_steps=math.inf
):
    """Newton steps until the error is small enough, or no step length is acceptable.

    Parameters
    ----------
    costs : Costs
        Stored costs.
    marginals : Marginals
        Sums of rows and columns.
    epsilon : float
        Regularisation.
    u, v : ndarrays
        Potentials to begin with.
    tol : float
        Wanted error.
    progress : Progress
        Gets the records.
    density : "adaptive", float or None
        Which entries are kept.
    steps : list
        Gets the steps.
    max_steps : int, default=inf
        Length of the list at which to end.

    Returns
    -------
    u, v : ndarrays
        The potentials.
    error : float
        The error of the marginals.
    """
    n = costs.n
    point = _evaluate(costs, marginals, epsilon, u, v)
    while point.error > tol and not progress.exhausted and len(steps) < max_steps:
        P = costs.gibbs_kernel(1.0 / epsilon, point.u, point.v, np.float64)
        kept = sparsified(P, density, point.error, marginals.a, point.diagonal[n:])
        direction, n_cg = conjugate_gradients(
            np,
            _hessian(point.diagonal, kept),
            point.gradient,
            point.diagonal,
            min(max(point.error, 1e-13), 0.1),
            _MAX_CG,
        )
        point, step = _line_search(costs, marginals, epsilon, point, direction)
        progress.add(IterationRecord("sns", epsilon, point.error, n_cg), point.u, point.v)
        n_kept = kept.nnz if scipy.sparse.issparse(kept) else kept.size
        steps.append(SNSStep(point.error, point.value, n_kept, n_cg, step))
        if step == 0.0:
            break
    return point.u, point.v, point.error


class _Point(NamedTuple):
    """The dual at one pair of potentials: value, gradient, diagonal of H and error."""

    u: Any
    v: Any
    value: float
    gradient: Any
    diagonal: Any
    error: float


def _evaluate(costs, marginals, epsilon, u, v):
    a, b = marginals.a, marginals.b
    # Too long a step may overflow, and is then refused.
    with np.errstate(over="ignore", invalid="ignore"):
        rows, columns, _ = costs.marginals(1.0 / epsilon, u, v)
        value = float(a @ u + b @ v - rows.sum())
        gradient = np.concatenate([a - rows, b - columns])
        error = float(np.abs(gradient).sum())
    return _Point(u, v, value, gradient, np.concatenate([rows, columns]), error)


def _hessian(diagonal, kept):
    """The product of H with a vector, with the entries of the plan that are kept."""
    n, transposed = kept.shape[0], kept.T
    return lambda x: diagonal * x + np.concatenate([kept @ x[n:], transposed @ x[:n]])


def _line_search(costs, marginals, epsilon, point, direction):
    """The first acceptable point on the way along ``direction``, and the step to it.

    If there is none, this is the point itself, and zero.
    """
    n = costs.n
    slope = float(point.gradient @ direction)
    # What rounding does to the value.
    slack = 1e-15 * (1.0 + marginals.a @ np.abs(point.u) + marginals.b @ np.abs(point.v))
    step = 1.0 if slope > 0.0 else 0.0
    while step > 1e-4:
        u, v = point.u + step * direction[:n], point.v + step * direction[n:]
        new = _evaluate(costs, marginals, epsilon, u, v)
        rises = new.value >= point.value + 1e-4 * step * slope - slack
        flat = point.error < _FLAT and new.error < 0.9 * point.error
        if math.isfinite(new.value) and (rises or flat):
            return new, step
        step *= 0.5
    return point, 0.0


def sparsified(P, density, error, a, columns):
    """The entries of a plan that the Hessian keeps.

    Parameters
    ----------
    P : ndarray of shape (n, m)
        The plan.
    density : "adaptive", float or None
        The rule, see :func:`sinkhorn_newton_sparse`.
    error : float
        Error of the marginals.
    a : ndarray of shape (n,)
        Wanted sums of the rows.
    columns : ndarray of shape (m,)
        Sums of the columns.

    Returns
    -------
    kept : scipy.sparse.csr_array or ndarray of shape (n, m)
        The large entries; the plan itself for None.
    """
    if density is None:
        return P
    n, m = P.shape
    if density == "adaptive":
        from sparsestat.transport._kernels import compress, count_stored

        delta = min(0.1, error)
        low_a, low_b = (delta / m) * a, (delta / n) * columns
        counts = np.empty(n, dtype=np.int64)
        count_stored(P, low_a, low_b, counts)
        indptr = np.concatenate([[0], np.cumsum(counts)])
        indices, data = np.empty(indptr[-1], dtype=np.int32), np.empty(indptr[-1])
        compress(P, low_a, low_b, indptr, indices, data)
        return scipy.sparse.csr_array((data, indices, indptr), shape=P.shape)
    # The product of 2 / n and n m may exceed 2 m by a digit.
    count = math.ceil(density * n * m * (1.0 - 1e-12))
    smallest = np.partition(P, n * m - count, axis=None)[n * m - count]
    return scipy.sparse.csr_array(np.where(smallest <= P, P, 0.0))


def _check_parameters(n_sinkhorn, n_newton, density, tol):
    for name, value in (("n_sinkhorn", n_sinkhorn), ("n_newton", n_newton)):
        if not isinstance(value, numbers.Integral) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {value!r}.")
    if not isinstance(tol, numbers.Real) or not float(tol) > 0.0:
        raise ValueError(f"tol must be positive, got {tol!r}.")
    if density is None or (isinstance(density, str) and density == "adaptive"):
        return
    if not isinstance(density, numbers.Real) or not 0.0 < float(density) <= 1.0:
        raise ValueError(
            f"density must be 'adaptive', None or a share of the entries in (0, 1], got "
            f"{density!r}."
        )
