"""What a solver of entropic transport returns."""

import math
from typing import NamedTuple

import numpy as np
import scipy.sparse
from sklearn import get_config

from sparsestat.transport._maps import (
    all_potentials,
    cost_blocks,
    row_averages,
    scattered,
)


class SinkhornResult:
    """Solution of an entropic transport problem, with its certificates.

    Made by :func:`sinkhorn`, :func:`sinkhorn_points` and :func:`sinkhorn_path`. With f and g
    the potentials, the plan is P_ij = a_i b_j exp((f_i + g_j - C_ij) / epsilon).

    Parameters
    ----------
    potentials : (array of shape (n,), array of shape (m,))
        The dual variables f and g. Rows and columns without weight have the potential with
        which they would enter.
    value : float
        <C, P> + epsilon KL(P | a b'), plus the penalties on the marginals if these are not
        hard, where KL(p | q) = sum p log(p / q) - p + q.
    transport_cost : float
        <C, P>.
    dual_value : float
        Value of the dual problem, never above the optimum, for any potentials.
    marginal_error : float
        |P 1 - a|_1 + |P' 1 - b|_1 of the plan, recomputed in double precision.
    n_iter : int
        Number of sweeps.
    n_newton : int
        Number of Newton steps.
    n_cg : int
        Number of steps of conjugate gradients within these.
    history : list of IterationRecord
        What every step attained.
    converged : bool
        Whether the error is within the tolerance.
    epsilon : float
        The regularisation in the units of the costs.
    method : str
        The method that was used.
    problem : Problem
        What was solved, for the plan.
    scaled_potentials, kept_potentials : tuple of arrays
        Potentials of the rows and columns that have a weight, as solvers and as users see
        them, in double precision.

    Attributes
    ----------
    plan : array of shape (n, m)
        The plan, computed when it is asked for.
    dual_gap : float
        ``value - dual_value``; zero up to rounding and the error of the marginals.
    """

    def __init__(
        self,
        *,
        potentials,
        value,
        transport_cost,
        dual_value,
        marginal_error,
        n_iter,
        n_newton,
        n_cg,
        history,
        converged,
        epsilon,
        method,
        problem,
        scaled_potentials,
        kept_potentials,
    ):
        self.potentials = potentials
        self.value = value
        self.transport_cost = transport_cost
        self.dual_value = dual_value
        self.marginal_error = marginal_error
        self.n_iter = n_iter
        self.n_newton = n_newton
        self.n_cg = n_cg
        self.history = history
        self.converged = converged
        self.epsilon = epsilon
        self.method = method
        self._problem = problem
        self._scaled_potentials = scaled_potentials
        self._kept_potentials = kept_potentials

    def __repr__(self):
        n, m = self._problem.shape
        return (
            f"SinkhornResult({n} x {m}, method={self.method!r}, epsilon={self.epsilon:.4g}, "
            f"value={self.value:.8g}, marginal_error={self.marginal_error:.1e}, "
            f"converged={self.converged})"
        )

    @property
    def dual_gap(self):
        return self.value - self.dual_value

    @property
    def plan(self):
        problem, (u, v) = self._problem, self._scaled_potentials
        check_storable(problem.shape)
        costs = problem.costs
        xp = costs.xp
        plan = costs.gibbs_kernel(1.0 / self.epsilon, u, v, xp.float64)
        if problem.mass != 1.0:
            plan *= problem.mass
        if problem.forbidden is not None:
            plan = xp.where(problem.forbidden, xp.zeros_like(plan), plan)
        n, m = problem.shape
        plan = scattered(plan, problem.rows, n, 0, xp)
        plan = scattered(plan, problem.columns, m, 1, xp)
        return xp.astype(plan, xp.float32) if problem.float32 else plan

    def sparse_plan(self, threshold=1e-6):
        """Compute the entries of the plan that matter, as a sparse matrix.

        Parameters
        ----------
        threshold : float, default=1e-6
            An entry is left out if it is at most this share both of the mean entry of its row
            and of that of its column, so that every row and column keeps its sum up to that
            share.

        Returns
        -------
        plan : scipy.sparse.csr_array of shape (n, m)
            The large entries.

        Raises
        ------
        TypeError
            For a solution on a device.
        """
        problem, (u, v) = self._problem, self._scaled_potentials
        costs = problem.costs
        if not costs.on_host:
            raise TypeError("sparse_plan works on NumPy arrays only; use plan on a device.")
        low_a, low_b = (threshold / costs.m) * problem.a, (threshold / costs.n) * problem.b
        entries = costs.large_entries(1.0 / self.epsilon, u, v, low_a, low_b)
        kept = scipy.sparse.csr_array(entries[::-1], shape=(costs.n, costs.m)).tocoo()
        row, column = kept.coords
        data = kept.data * problem.mass
        if problem.forbidden is not None:
            allowed = ~problem.forbidden[row, column]
            row, column, data = row[allowed], column[allowed], data[allowed]
        row = row if problem.rows is None else problem.rows[row]
        column = column if problem.columns is None else problem.columns[column]
        dtype = np.float32 if problem.float32 else np.float64
        return scipy.sparse.coo_array((data, (row, column)), problem.shape, dtype).tocsr()

    def barycenters(self, Z):
        """Average values at the columns under each row of the plan, which is not stored.

        Parameters
        ----------
        Z : array of shape (m, k)
            Values at the columns, such as the points.

        Returns
        -------
        means : array of shape (n, k)
            Row i is the mean of ``Z`` with weights P_ij; for rows without weight, with those
            that their potential implies.
        """
        problem, (_, g) = self._problem, self._kept_potentials
        C, X, Y, metric = problem.source
        xp = problem.costs.xp
        if Z.ndim != 2 or Z.shape[0] != problem.shape[1]:
            raise ValueError(
                f"Z must have shape ({problem.shape[1]}, k), one row for each column of the "
                f"plan, got shape {tuple(Z.shape)}."
            )
        Z = xp.astype(Z, xp.float64)
        if problem.columns is not None:
            C = None if C is None else xp.take(C, problem.columns, axis=1)
            Y = None if Y is None else xp.take(Y, problem.columns, axis=0)
            Z = xp.take(Z, problem.columns, axis=0)
        blocks = cost_blocks(C, X, Y, metric, xp, problem.costs.on_host)
        means = row_averages(blocks, g, xp.log(problem.b), self.epsilon, Z, xp)
        return xp.astype(means, xp.float32) if problem.float32 else means


def check_storable(shape):
    """Refuse a plan that needs more than scikit-learn's working memory."""
    limit = get_config()["working_memory"]
    needed = 8 * shape[0] * shape[1] / 2**20
    if needed > limit:
        raise MemoryError(
            f"The plan of {shape[0]} x {shape[1]} entries needs {needed:.0f} MiB, more than "
            f"scikit-learn's working_memory of {limit} MiB; use sparse_plan() or barycenters(), "
            "or raise the limit by sklearn.set_config."
        )


class State(NamedTuple):
    """Everything that potentials say about a problem.

    Parameters
    ----------
    potentials : tuple of arrays
        Those of all rows and columns.
    kept_potentials : tuple of arrays
        Those of the ones that have a weight, in double precision.
    value, cost, dual : float
        Value of the plan, its cost, and the value of the dual problem.
    error : float
        Error of the marginals for the mass of the solver.
    """

    potentials: tuple
    kept_potentials: tuple
    value: float
    cost: float
    dual: float
    error: float


def solution_at(problem, epsilon, u, v):
    """Compute values and errors at potentials as solvers use them.

    Parameters
    ----------
    problem : Problem
        The problem.
    epsilon : float
        The regularisation.
    u, v : arrays
        Potentials of the kept rows and columns.

    Returns
    -------
    state : State
        All of it in double precision, but for the potentials of single-precision input.
    """
    costs, (tau_a, tau_b), mass = problem.costs, problem.reg_marginals, problem.mass
    a, b, xp = problem.a, problem.b, costs.xp
    rows, columns, cost = costs.marginals(1.0 / epsilon, u, v)
    error = float(xp.sum(xp.abs(rows - a))) + float(xp.sum(xp.abs(columns - b)))
    if problem.forbidden is not None:
        plan = costs.gibbs_kernel(1.0 / epsilon, u, v, xp.float64)
        nothing = xp.zeros_like(plan)
        error += 2.0 * float(xp.sum(xp.where(problem.forbidden, plan, nothing)))
        cost = float(xp.sum(xp.where(problem.forbidden, nothing, costs.C * plan)))

    shift = 0.5 * epsilon * math.log(mass)
    f = epsilon * (u - xp.log(a)) + costs.row_offset - shift
    g = epsilon * (v - xp.log(b)) + costs.column_offset - shift
    rows, columns, cost, a, b = (x * mass for x in (rows, columns, cost, a, b))
    rest = epsilon * (float(xp.sum(rows)) - float(xp.sum(a)) * float(xp.sum(b)))
    value = float(xp.sum(rows * f)) + float(xp.sum(columns * g)) - rest
    value += _penalty(rows, a, tau_a, xp) + _penalty(columns, b, tau_b, xp)
    dual = _dual_term(a, f, tau_a, xp) + _dual_term(b, g, tau_b, xp) - rest
    full = all_potentials(problem, f, g, epsilon)
    if problem.float32:
        full = tuple(xp.astype(x, xp.float32) for x in full)
    return State(full, (f, g), value, cost, dual, error)


def solution(problem, epsilon, u, v, *, tol, method, progress):
    """Assemble the result, with everything recomputed from the potentials.

    Parameters
    ----------
    problem : Problem
        What was solved.
    epsilon : float
        The regularisation.
    u, v : arrays
        Potentials of the kept rows and columns as solvers use them.
    tol : float
        Wanted error.
    method : str
        The method that was used.
    progress : Progress
        The records.

    Returns
    -------
    result : SinkhornResult
        The result; the caller warns where it has not converged.
    """
    state = solution_at(problem, epsilon, u, v)
    hard = all(math.isinf(tau) for tau in problem.reg_marginals)
    attained = state.error if hard else progress.history[-1].marginal_error
    stages = [record.stage for record in progress.history]
    n_newton = sum(stage in ("newton", "sns") for stage in stages)
    return SinkhornResult(
        potentials=state.potentials,
        value=state.value,
        transport_cost=state.cost,
        dual_value=state.dual,
        marginal_error=state.error * problem.mass,
        n_iter=len(stages) - n_newton,
        n_newton=n_newton,
        n_cg=sum(record.n_cg for record in progress.history),
        history=progress.history,
        converged=attained <= tol,
        epsilon=epsilon,
        method=method,
        problem=problem,
        scaled_potentials=(u, v),
        kept_potentials=state.kept_potentials,
    )


def _dual_term(a, f, tau, xp):
    if math.isinf(tau):
        return float(xp.sum(a * f))
    return -tau * float(xp.sum(a * xp.expm1(-f / tau)))


def _penalty(sums, a, tau, xp):
    if math.isinf(tau):
        return 0.0
    # A sum that rounds to zero contributes the limit, which is zero.
    safe = xp.where(sums > 0, sums, xp.ones_like(sums))
    return tau * float(xp.sum(xp.where(sums > 0, sums * xp.log(safe / a), 0.0 * sums) - sums + a))
