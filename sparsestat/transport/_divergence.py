"""The Sinkhorn divergence, and derivatives of entropic transport by the envelope theorem."""

import math
from typing import Any, NamedTuple

from sparsestat.transport._maps import scattered
from sparsestat.transport._points import points_problem
from sparsestat.transport._problem import resolve_epsilon
from sparsestat.transport._progress import IterationRecord, Progress
from sparsestat.transport._result import solution
from sparsestat.transport._sinkhorn import solve, warn_not_converged

# Sweeps over a symmetric problem, before Newton's method takes over.
_SYMMETRIC_SWEEPS = 200


class SinkhornGradient(NamedTuple):
    """Value and derivatives of an entropic transport problem.

    Parameters
    ----------
    value : float
        The value, or the debiased divergence.
    X : array of shape (n, d)
        Derivatives with respect to the points of the rows.
    a : array of shape (n,)
        Derivatives with respect to their weights, up to an additive constant, which is
        chosen such that their mean is zero: the total of the weights is fixed.
    b : array of shape (m,)
        Derivatives with respect to the weights of the columns, likewise.
    converged : bool
        Whether all problems are solved to the tolerance; the derivatives are wrong by
        about the error of the marginals.
    """

    value: float
    X: Any
    a: Any
    b: Any
    converged: bool


def sinkhorn_divergence(
    X,
    Y,
    a=None,
    b=None,
    *,
    epsilon=None,
    epsilon_scale="absolute",
    metric="sqeuclidean",
    lazy="auto",
    tol=1e-9,
    max_iter=10000,
    n_jobs=None,
):
    """Distance of two weighted sets of points, debiased entropic transport.

    With W the value of entropic transport, it is W(a, b) - W(a, a) / 2 - W(b, b) / 2: not
    negative, and zero only for equal distributions, up to the accuracy of the solutions.

    Parameters
    ----------
    X : array-like of shape (n, d)
        The first points.
    Y : array-like of shape (m, d)
        The second points.
    a : array-like of shape (n,) or None, default=None
        Non-negative weights of the first points; None for equal ones.
    b : array-like of shape (m,) or None, default=None
        Weights of the second points, of the same total.
    epsilon : float or None, default=None
        Regularisation; None for 0.05 times the mean cost between the two sets.
    epsilon_scale : {"absolute", "mean", "max", "median"}, default="absolute"
        What ``epsilon`` is a multiple of.
    metric : {"sqeuclidean", "euclidean", "cityblock"} or callable, default="sqeuclidean"
        The cost between two points; it must be symmetric.
    lazy : bool or "auto", default="auto"
        Whether costs are not stored, as for :func:`sinkhorn_points`.
    tol : float, default=1e-9
        Wanted error of the marginals of all three problems.
    max_iter : int, default=10000
        Largest number of steps for each of them.
    n_jobs : int or None, default=None
        Number of threads.

    Returns
    -------
    divergence : float
        In the units of the costs.

    References
    ----------
    Feydy, Sejourne, Vialard, Amari, Trouve and Peyre (2019). Interpolating between optimal
    transport and MMD using Sinkhorn divergences. AISTATS.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.transport import sinkhorn_divergence
    >>> X = np.array([[0.0], [1.0], [2.0]])
    >>> round(sinkhorn_divergence(X, X + 3.0, epsilon=0.5), 6)
    9.0
    """
    options = {"metric": metric, "lazy": lazy, "n_jobs": n_jobs}
    results = _three(X, Y, a, b, epsilon, epsilon_scale, tol, max_iter, options)
    # Errors of the marginals enter dual values in second order only.
    return results[0].dual_value - 0.5 * (results[1].dual_value + results[2].dual_value)


def sinkhorn_gradient(
    X,
    Y,
    a=None,
    b=None,
    *,
    debiased=False,
    epsilon=None,
    epsilon_scale="absolute",
    lazy="auto",
    tol=1e-9,
    max_iter=10000,
    n_jobs=None,
):
    """Differentiate entropic transport with squared Euclidean costs.

    At the optimum the value depends on the input only through the plan and the potentials
    (the envelope theorem): its derivative with respect to the costs is the plan, and with
    respect to the weights the potentials.

    Parameters
    ----------
    X : array-like of shape (n, d)
        Points of the rows.
    Y : array-like of shape (m, d)
        Points of the columns.
    a : array-like of shape (n,) or None, default=None
        Non-negative weights of the rows; None for equal ones.
    b : array-like of shape (m,) or None, default=None
        Weights of the columns, of the same total.
    debiased : bool, default=False
        Whether to differentiate :func:`sinkhorn_divergence` instead of the value.
    epsilon : float or None, default=None
        Regularisation; None for 0.05 times the mean cost, which is then held fixed.
    epsilon_scale : {"absolute", "mean", "max", "median"}, default="absolute"
        What ``epsilon`` is a multiple of.
    lazy : bool or "auto", default="auto"
        Whether costs are not stored.
    tol : float, default=1e-9
        Wanted error of the marginals.
    max_iter : int, default=10000
        Largest number of steps.
    n_jobs : int or None, default=None
        Number of threads.

    Returns
    -------
    gradient : SinkhornGradient
        Value and derivatives.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.transport import sinkhorn_gradient
    >>> X = np.array([[0.0], [1.0], [2.0]])
    >>> sinkhorn_gradient(X, X + 3.0, epsilon=0.5, debiased=True).X.round(6).ravel()
    array([-2., -2., -2.])
    """
    options = {"metric": "sqeuclidean", "lazy": lazy, "n_jobs": n_jobs}
    within: list = []
    if debiased:
        joint, *within = _three(X, Y, a, b, epsilon, epsilon_scale, tol, max_iter, options)
    else:
        problem = points_problem(X, Y, a, b, **options)
        epsilon = resolve_epsilon(epsilon, epsilon_scale, problem)
        joint = solve(problem, epsilon=epsilon, tol=tol, max_iter=max_iter, warn=False)
        _warned(joint, tol)
    xp = joint._problem.costs.xp
    X, Y = (xp.asarray(points, dtype=xp.float64) for points in (X, Y))
    weights = _weights(joint)
    value = joint.dual_value
    f, g = joint.potentials
    slope = X - joint.barycenters(Y)
    if debiased:
        first, second = within
        value -= 0.5 * (first.dual_value + second.dual_value)
        f, g = f - first.potentials[0], g - second.potentials[0]
        slope = slope - (X - first.barycenters(X))
    return SinkhornGradient(
        value=value,
        X=2.0 * weights[:, None] * slope,
        a=f - xp.mean(f),
        b=g - xp.mean(g),
        converged=all(result.converged for result in (joint, *within)),
    )


def _weights(result):
    """Weights of all rows."""
    problem = result._problem
    weights = problem.a * problem.mass
    return scattered(weights, problem.rows, problem.shape[0], 0, problem.costs.xp)


def _three(X, Y, a, b, epsilon, epsilon_scale, tol, max_iter, options):
    """Solutions between both sets, within the first, and within the second."""
    problem = points_problem(X, Y, a, b, **options)
    epsilon = resolve_epsilon(epsilon, epsilon_scale, problem)
    joint = solve(problem, epsilon=epsilon, tol=tol, max_iter=max_iter, warn=False)
    results = [joint]
    for points, weights in ((X, a), (Y, b)):
        within = points_problem(points, points, weights, weights, **options)
        # Equal weights take their total from the other set.
        ratio = problem.mass / within.mass
        within = within._replace(mass=within.mass * ratio)
        results.append(_solve_symmetric(within, epsilon, tol, max_iter))
    return tuple(_warned(result, tol) for result in results)


def _warned(result, tol):
    if not result.converged:
        warn_not_converged(result, tol * result._problem.mass, stacklevel=5)
    return result


def _solve_symmetric(problem, epsilon, tol, max_iter):
    """Solve for equal rows and columns by u <- (u + log a - log sum_j exp(u_j - S_ij)) / 2."""
    costs, xp = problem.costs, problem.costs.xp
    log_a = xp.log(problem.a)
    # Row and column minima differ where costs between equal points are not zero.
    costs.row_offset, costs.column_offset = 0.0 * log_a, 0.0 * log_a
    progress = Progress(min(max_iter, _SYMMETRIC_SWEEPS))
    u = log_a + 0.0
    with costs:
        while True:
            new = u + 0.0
            costs.sweep(1.0 / epsilon, new, u, log_a)
            # The rows of the plan of (u, u) sum to a exp(u - new).
            error = 2.0 * float(xp.sum(problem.a * xp.abs(xp.expm1(u - new))))
            progress.add(IterationRecord("log", epsilon, error), u, u)
            if error <= tol or progress.exhausted or not math.isfinite(error):
                break
            u = 0.5 * (u + new)
        result = solution(problem, epsilon, u, u, tol=tol, method="log", progress=progress)
    if result.converged or max_iter <= _SYMMETRIC_SWEEPS:
        return result
    return solve(
        problem, epsilon=epsilon, method="newton", tol=tol, max_iter=max_iter, init=result,
        warn=False,
    )  # fmt: skip
