"""Entropic optimal transport between discrete distributions."""

import math
import numbers
import warnings
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from sparsestat.transport._newton import newton
from sparsestat.transport._problem import make_problem, resolve_epsilon
from sparsestat.transport._progress import Progress
from sparsestat.transport._result import SinkhornResult, solution
from sparsestat.transport._sweeps import (
    Marginals,
    kernel_sweeps,
    log_sweeps,
    start,
    truncated_sweeps,
)
from sparsestat.transport._unbalanced import unbalanced_sweeps

METHODS = ("auto", "kernel", "log", "newton", "sns", "truncated")
# Up to this ratio of the range of the costs to epsilon, sweeps win.
_SWEEP_RATIO = 300.0
# After so many of them Newton's method takes over, if the choice of method is ours: fewer
# where a product of Newton's method costs no more than a sweep.
_KERNEL_SWEEPS = 300
_LOG_SWEEPS = 40


def sinkhorn(
    C,
    a=None,
    b=None,
    *,
    epsilon=None,
    epsilon_scale="absolute",
    method="auto",
    tol=1e-9,
    max_iter=10000,
    reg_marginals=(math.inf, math.inf),
    init=None,
    relaxation="auto",
    storage_dtype=None,
    proximal_steps=0,
    n_jobs=None,
):
    """Solve an entropic optimal transport problem for a matrix of costs.

    Minimises <C, P> + epsilon KL(P | a b') over plans P >= 0 with P 1 = a and P' 1 = b, where
    KL(p | q) = sum p log(p / q) - p + q.

    Parameters
    ----------
    C : array-like of shape (n, m)
        Costs. An entry of +inf forbids a pair, for ``method`` "auto" or "log". NumPy
        arrays, or arrays of another library that follows the array API standard, on
        whose device everything then happens.
    a : array-like of shape (n,) or None, default=None
        Non-negative sums of the rows of the plan; None for equal ones.
    b : array-like of shape (m,) or None, default=None
        Sums of the columns. Their total must be that of ``a``, unless the marginals
        are penalised.
    epsilon : float or None, default=None
        Regularisation, positive; None for 0.05 times the mean cost under the weights.
    epsilon_scale : {"absolute", "mean", "max", "median"}, default="absolute"
        What ``epsilon`` is a multiple of: one, or a statistic of the costs.
    method : {"auto", "kernel", "log", "newton", "sns", "truncated"}, default="auto"
        "kernel" scales the stored kernel exp(-C / epsilon), into which the potentials are
        absorbed; "log" needs one exponential for each entry and sweep, and no kernel;
        "newton" applies Newton's method with conjugate gradients to the semi-dual on a
        ladder of regularisations; "sns" is Sinkhorn-Newton-Sparse with an adaptive
        threshold, which has no ladder and may stall at a tiny epsilon; "truncated" scales
        those entries of the kernel that matter. "auto" takes "newton" where the range of the
        costs is more than 300 epsilon; else "kernel", or "log" if the costs are not stored,
        followed by "newton" if 300 sweeps, or 40, are not enough. For forbidden pairs and
        penalised marginals it takes "log".
    tol : float, default=1e-9
        Wanted error |P 1 - a|_1 + |P' 1 - b|_1 relative to the total mass; with penalised
        marginals, the change of the potentials divided by epsilon, or by 1e-6 times the
        largest of them if that is more.
    max_iter : int, default=10000
        Largest number of sweeps and Newton steps.
    reg_marginals : float or (float, float), default=(inf, inf)
        Finite tau_a and tau_b replace the constraints by the penalties tau_a KL(P 1 | a) and
        tau_b KL(P' 1 | b).
    init : SinkhornResult, (array of shape (n,), array of shape (m,)) or None, default=None
        Potentials (f, g) to begin with, of which g is used.
    relaxation : float or "auto", default="auto"
        How far a sweep goes, as a multiple in (0, 2) of Sinkhorn's step, which is 1. "auto"
        begins with that and learns from the errors how far to go beyond, which near the
        solution often saves most of the sweeps. For "kernel", "log" and "truncated".
    storage_dtype : numpy.float32, numpy.float64 or None, default=None
        Type of the stored kernel for ``method="kernel"``. Single precision halves the memory
        and attains an error of about 1e-8, from where a few sweeps in double precision lead on.
    proximal_steps : int, default=0
        Number of further proximal steps P <- argmin <C, Q> + epsilon KL(Q | P), which come
        closer to the unregularised problem. The plan after k of them is that of epsilon /
        (k + 1), which is what the result reports.
    n_jobs : int or None, default=None
        Number of threads. It never changes a result.

    Returns
    -------
    result : SinkhornResult
        Potentials, plan, values and certificates.

    Raises
    ------
    ValueError
        For NaN, a row or column without a finite cost, weights that are negative or of
        different totals, a regularisation that is not positive, and methods that do not
        suit the problem.
    TypeError
        For arrays of different libraries or devices.

    Warns
    -----
    ConvergenceWarning
        If the error is above the tolerance after ``max_iter`` steps.

    See Also
    --------
    sinkhorn_points : The same for costs that are computed from points.
    sinkhorn_batch : Many small problems at once.

    References
    ----------
    Cuturi (2013). Sinkhorn distances: lightspeed computation of optimal transport. NeurIPS.

    Thibault, Chizat, Dossal and Papadakis (2021). Overrelaxed Sinkhorn-Knopp algorithm for
    regularized optimal transport. Algorithms 14, 143.

    Tang, Shavlovsky, Rahmanian, Tardini, Thekumparampil, Xiao and Ying (2024). Accelerating
    Sinkhorn algorithm with sparse Newton iterations. ICLR.

    Wu, Liao and Zhang (2025). PINS: proximal iterations with sparse Newton and Sinkhorn for
    optimal transport. arXiv:2502.03749.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.transport import sinkhorn
    >>> result = sinkhorn(np.array([[0.0, 1.0], [1.0, 0.0]]), epsilon=0.5)
    >>> result.plan.round(3)
    array([[0.44, 0.06],
           [0.06, 0.44]])
    >>> result.converged
    True
    """
    problem = make_problem(C, a=a, b=b, reg_marginals=reg_marginals, n_jobs=n_jobs)
    return solve(
        problem,
        epsilon=epsilon,
        epsilon_scale=epsilon_scale,
        method=method,
        tol=tol,
        max_iter=max_iter,
        init=init,
        relaxation=relaxation,
        storage_dtype=storage_dtype,
        proximal_steps=proximal_steps,
    )


def sinkhorn_path(
    C,
    epsilons,
    a=None,
    b=None,
    *,
    method="auto",
    tol=1e-9,
    max_iter=10000,
    n_jobs=None,
):
    """Solve a transport problem for many regularisations, from the largest to the smallest.

    Each problem starts at the potentials of the one before, unless these are too far off, so
    that a path in small steps costs little for each of them.

    Parameters
    ----------
    C : array-like of shape (n, m)
        Costs, as for :func:`sinkhorn`.
    epsilons : array-like of shape (k,)
        Positive regularisations in any order.
    a : array-like of shape (n,) or None, default=None
        Sums of the rows of the plan; None for equal ones.
    b : array-like of shape (m,) or None, default=None
        Sums of the columns.
    method : str, default="auto"
        As for :func:`sinkhorn`.
    tol : float, default=1e-9
        Wanted error relative to the total mass.
    max_iter : int, default=10000
        Largest number of steps for each regularisation.
    n_jobs : int or None, default=None
        Number of threads.

    Returns
    -------
    results : list of SinkhornResult
        One for each regularisation, in the order in which they were given.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.transport import sinkhorn_path
    >>> C = np.array([[0.0, 1.0], [1.0, 0.0]])
    >>> [round(r.transport_cost, 3) for r in sinkhorn_path(C, [1.0, 0.5, 0.1])]
    [0.269, 0.119, 0.0]
    """
    epsilons = np.asarray(epsilons, dtype=np.float64)
    if epsilons.ndim != 1 or epsilons.size == 0:
        raise ValueError(
            f"epsilons must be a one-dimensional list of at least one number, got shape "
            f"{epsilons.shape}."
        )
    problem = make_problem(C, a=a, b=b, reg_marginals=math.inf, n_jobs=n_jobs)
    results = [None] * epsilons.size
    init = None
    for k in np.argsort(-epsilons, kind="stable"):
        init = solve(
            problem,
            epsilon=float(epsilons[k]),
            method=method,
            tol=tol,
            max_iter=max_iter,
            init=init,
        )
        results[k] = init
    return results


def solve(
    problem,
    *,
    epsilon,
    epsilon_scale="absolute",
    method="auto",
    tol=1e-9,
    max_iter=10000,
    init=None,
    relaxation="auto",
    storage_dtype=None,
    proximal_steps=0,
    listener=None,
    warn=True,
):
    """Solve a problem that :func:`make_problem` has checked; see :func:`sinkhorn`.

    Parameters
    ----------
    problem : Problem
        Costs, weights and penalties.
    epsilon, epsilon_scale, method, tol, max_iter, init, storage_dtype, proximal_steps
        See :func:`sinkhorn`.
    listener : callable or None, default=None
        See :class:`Progress`.
    warn : bool, default=True
        Whether to warn if the tolerance is not attained.

    Returns
    -------
    result : SinkhornResult
        The solution.
    """
    _check_numbers(tol, max_iter, proximal_steps, relaxation)
    costs = problem.costs
    epsilon = resolve_epsilon(epsilon, epsilon_scale, problem)
    automatic = method == "auto" and storage_dtype is None
    with costs:
        method = _choose_method(problem, method, epsilon, storage_dtype)
    choice = _Choice(method, automatic, tol, relaxation, storage_dtype)
    progress = Progress(max_iter, listener)
    xp = costs.xp
    marginals = Marginals(problem.a, problem.b, xp.log(problem.a), xp.log(problem.b))
    v = _initial(problem, init, epsilon, marginals.log_b)
    with costs:
        for k in range(proximal_steps + 1):
            level = epsilon / (k + 1)
            if k > 0:
                v = (k + 1) / k * (v - marginals.log_b) + marginals.log_b
            u, v = _run(problem, marginals, level, v, choice, progress)
        result = solution(problem, level, u, v, tol=tol, method=method, progress=progress)
        if not (result.converged or progress.exhausted):
            # The solver's own sums were right up to rounding only.
            u, v, _ = log_sweeps(
                costs, marginals, level, u, v, tol=0.5 * tol, progress=progress, max_sweeps=100
            )
            result = solution(problem, level, u, v, tol=tol, method=method, progress=progress)
    if warn and not result.converged:
        warn_not_converged(result, tol * problem.mass)
    return result


def warn_not_converged(result, tol, stacklevel=4):
    """Say how far a solution is from its tolerance, and what helps."""
    hard = all(math.isinf(tau) for tau in result._problem.reg_marginals)
    attained = result.marginal_error if hard else result.history[-1].marginal_error
    what = "error of the marginals" if hard else "change of the potentials"
    advice = "raise max_iter"
    if result._problem.forbidden is not None:
        advice += ", unless the allowed pairs carry no plan with these marginals"
    elif hard and result.method != "newton":
        advice += " or use method='newton'"
    warnings.warn(
        f"Sinkhorn's {what} is {attained:.3g}, above the required {tol:.3g}, after "
        f"{len(result.history)} steps; {advice}, or take a larger epsilon.",
        ConvergenceWarning,
        stacklevel=stacklevel,
    )


class _Choice(NamedTuple):
    """How a problem is to be solved."""

    method: str
    automatic: bool
    tol: float
    relaxation: Any
    storage_dtype: Any


def _run(problem, marginals, epsilon, v, choice, progress):
    """Solve at one regularisation; the potentials."""
    costs, method = problem.costs, choice.method
    stop = {"tol": choice.tol, "progress": progress}
    if not all(math.isinf(tau) for tau in problem.reg_marginals):
        v = marginals.log_b if v is None else v
        penalties = problem.reg_marginals
        u, v, _ = unbalanced_sweeps(costs, marginals, penalties, epsilon, v, **stop)
        return u, v
    if method == "newton":
        stored = costs.C is not None
        u, v, _ = newton(costs, marginals, epsilon, v, storable=stored, **stop)
        return u, v
    if method == "sns":
        from sparsestat.transport._sns import solve_for_sinkhorn

        return solve_for_sinkhorn(costs, marginals, epsilon, v, **stop)
    u, v = start(costs, marginals, v)
    options = {"relaxation": choice.relaxation, **stop}
    if method == "truncated":
        u, v, _ = truncated_sweeps(costs, marginals, epsilon, u, v, **options)
        return u, v
    automatic = choice.automatic and problem.forbidden is None
    if method == "log":
        limit = _LOG_SWEEPS if automatic else math.inf
        u, v, error = log_sweeps(costs, marginals, epsilon, u, v, max_sweeps=limit, **options)
    else:
        limit = _KERNEL_SWEEPS if automatic else math.inf
        options |= {"max_sweeps": limit, "storage_dtype": choice.storage_dtype}
        u, v, error = kernel_sweeps(costs, marginals, epsilon, u, v, **options)
    if automatic and error > choice.tol and not progress.exhausted:
        # The plan is nearly decoupled, which sweeps feel and Newton's method does not.
        stored = costs.C is not None
        u, v, _ = newton(costs, marginals, epsilon, v, storable=stored, **stop)
    return u, v


def _choose_method(problem, method, epsilon, storage_dtype):
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, got {method!r}.")
    costs = problem.costs
    special = None
    if not all(math.isinf(tau) for tau in problem.reg_marginals):
        special = "penalised marginals (reg_marginals)"
    elif problem.forbidden is not None:
        special = "costs of +inf"
    if special and method not in ("auto", "log"):
        raise ValueError(f"method must be 'auto' or 'log' with {special}, got {method!r}.")
    if storage_dtype is not None:
        if method not in ("auto", "kernel") or special:
            raise ValueError("storage_dtype is for method='kernel' only.")
        if storage_dtype not in (costs.xp.float32, costs.xp.float64):
            raise ValueError(f"storage_dtype must be float32 or float64, got {storage_dtype!r}.")
        method = "kernel"
    stored = costs.C is not None
    if method == "auto":
        if special:
            return "log"
        if costs.range > _SWEEP_RATIO * epsilon:
            return "newton"
        return "kernel" if stored else "log"
    if method in ("kernel", "sns") and not stored:
        raise ValueError(
            f"method={method!r} stores a matrix of {costs.n} x {costs.m} numbers; with costs that "
            "are computed from points (lazy) take 'newton', 'truncated' or 'log'."
        )
    if method in ("sns", "truncated") and not costs.on_host:
        raise TypeError(f"method={method!r} works on NumPy arrays; use 'newton' on a device.")
    return method


def _initial(problem, init, epsilon, log_b):
    """Potentials of the kept columns that a warm start gives."""
    if init is None:
        return None
    potentials = init.potentials if isinstance(init, SinkhornResult) else init
    costs, xp = problem.costs, problem.costs.xp
    try:
        f, g = potentials
        shapes = (tuple(f.shape), tuple(g.shape))
    except (TypeError, ValueError, AttributeError):
        raise ValueError(
            "init must be a SinkhornResult or a pair of potentials (f, g), got "
            f"{type(init).__name__}."
        ) from None
    if shapes != ((problem.shape[0],), (problem.shape[1],)):
        raise ValueError(
            f"init must hold potentials of shapes ({problem.shape[0]},) and "
            f"({problem.shape[1]},), got {shapes[0]} and {shapes[1]}."
        )
    g = xp.astype(g, xp.float64)
    if not bool(xp.all(xp.isfinite(g))):
        raise ValueError("init contains NaN or infinity.")
    g = g if problem.columns is None else xp.take(g, problem.columns)
    return (g - costs.column_offset) / epsilon + log_b


def _check_numbers(tol, max_iter, proximal_steps, relaxation):
    number = isinstance(relaxation, numbers.Real) and 0.0 < float(relaxation) < 2.0
    if not number and not (isinstance(relaxation, str) and relaxation == "auto"):
        raise ValueError(
            f"relaxation must be 'auto' or a number above 0 and below 2, got {relaxation!r}."
        )
    if not isinstance(tol, numbers.Real) or not float(tol) > 0:
        raise ValueError(f"tol must be positive, got {tol!r}.")
    for name, value, low in (("max_iter", max_iter, 1), ("proximal_steps", proximal_steps, 0)):
        if not isinstance(value, numbers.Integral) or value < low:
            raise ValueError(f"{name} must be an integer of at least {low}, got {value!r}.")
