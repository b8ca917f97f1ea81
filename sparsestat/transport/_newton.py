"""Newton's method on the semi-dual, by conjugate gradients, on a ladder of regularisations.

For given v let the rows of P have the sums a, which fixes u. The semi-dual
Phi(v) = a.u(v) + b.v - 1 is concave with gradient b - c, c the sums of the columns of P, and
-Hessian A = diag(c) - P' diag(1/a) P, a weighted graph Laplacian: positive semi-definite, and
zero on constants, to which the gradient is orthogonal. One product with A is one pass over P.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from sparsestat.transport._progress import IterationRecord
from sparsestat.transport._sweeps import column_error, column_update, log_sweeps

_LADDER_START = 1 / 20
_LADDER_STEP = 20.0
_LEVEL_TOL = 1e-2
_LEVEL_SWEEPS = 6
_MAX_CG = 2000
# A product with compressed rows is faster below this share of entries.
_SPARSE_DENSITY = 0.15
# More entries than this are computed for every product: 32 MiB.
_MAX_ENTRIES = 2**22
# Where the semi-dual is flat to rounding, a smaller error is the better judge of a step.
_FLAT = 1e-5
_SWEEP_ABOVE = 1e-6
# Below this error the plan is kept in double precision.
_SINGLE_ABOVE = 1e-5


def newton_ladder(largest_cost, epsilon):
    """Regularisations from a share of the range of the costs down to ``epsilon``."""
    level = max(epsilon, _LADDER_START * largest_cost)
    ladder = [level]
    while level > epsilon:
        level = max(epsilon, level / _LADDER_STEP)
        ladder.append(level)
    return ladder


def newton(costs, marginals, epsilon, v, *, tol, progress, storable=True):
    """Solve by Newton steps, starting at ``v`` or from nothing.

    Parameters
    ----------
    costs : Costs
        The costs.
    marginals : Marginals
        Sums of rows and columns.
    epsilon : float
        Regularisation.
    v : array of shape (m,) or None
        Potentials of the columns at ``epsilon`` to begin with; None for none, and a
        ladder of regularisations.
    tol : float
        Wanted error.
    progress : Progress
        Gets the records.
    storable : bool, default=True
        Whether a matrix of the plan may be stored; otherwise only its large entries are.

    Returns
    -------
    u, v : arrays
        The potentials, of which those of the rows are exact.
    error : float
        Distance of the column sums from their marginal.
    """
    levels = newton_ladder(costs.largest, epsilon)
    u = marginals.log_a + 0.0
    if v is not None:
        u, v, error = log_sweeps(
            costs, marginals, epsilon, u, v, tol=tol, progress=progress, max_sweeps=_LEVEL_SWEEPS
        )
        if error <= tol or progress.exhausted:
            return u, v, error
        if error <= _LEVEL_TOL:
            return _newton_steps(costs, marginals, epsilon, u, v, tol, progress, storable)
        # Far off after all: the ladder is quicker from nothing than from there.
        u = marginals.log_a + 0.0
    v = marginals.log_b + 0.0
    for k, level in enumerate(levels):
        last = level == epsilon
        u, v, error = _solve_level(
            costs, marginals, level, u, v, tol if last else _LEVEL_TOL, progress, storable
        )
        if last:
            return u, v, error
        following = epsilon if progress.exhausted else levels[k + 1]
        u, v = _rescaled(marginals, u, v, level, following)
        if progress.exhausted:
            break
    costs.sweep(1.0 / epsilon, u, v, marginals.log_a)
    return u, v, math.inf


def _rescaled(marginals, u, v, epsilon, following):
    """Potentials for another regularisation; f and g hardly change, and a sweep mends u."""
    ratio = epsilon / following
    return (
        ratio * (u - marginals.log_a) + marginals.log_a,
        ratio * (v - marginals.log_b) + marginals.log_b,
    )


class _Point(NamedTuple):
    """The semi-dual at one ``v``: the rows' potentials, the columns' sums, value and error."""

    u: Any
    v: Any
    columns: Any
    value: float
    error: float


def _evaluate(costs, marginals, epsilon, u, v):
    xp = costs.xp
    u = u + 0.0
    columns, _, _ = costs.sweep(1.0 / epsilon, u, v, marginals.log_a)
    value = float(xp.sum(marginals.a * u)) + float(xp.sum(marginals.b * v)) - 1.0
    return _Point(u, v, columns, value, column_error(costs, columns, marginals.b))


def _solve_level(costs, marginals, epsilon, u, v, tol, progress, storable):
    u, v, error = log_sweeps(
        costs, marginals, epsilon, u, v, tol=tol, progress=progress, max_sweeps=_LEVEL_SWEEPS
    )
    if error <= tol or progress.exhausted:
        return u, v, error
    return _newton_steps(costs, marginals, epsilon, u, v, tol, progress, storable)


def _newton_steps(costs, marginals, epsilon, u, v, tol, progress, storable):
    storage = _PlanStorage(costs, storable)
    point = _evaluate(costs, marginals, epsilon, u, v)
    while point.error > tol and not progress.exhausted:
        direction, n_cg = _newton_direction(costs, marginals, epsilon, point, storage)
        new = _line_search(costs, marginals, epsilon, point, direction)
        if new is None:
            u, v, error = log_sweeps(
                costs,
                marginals,
                epsilon,
                point.u,
                point.v,
                tol=tol,
                progress=progress,
                max_sweeps=_LEVEL_SWEEPS,
            )
            if error <= tol:
                return u, v, error
            new = _evaluate(costs, marginals, epsilon, u, v)
        elif new.error > max(_SWEEP_ABOVE, tol):
            # A sweep is cheap, and bounds the entries of the plan again.
            v = column_update(costs, new.columns, marginals.log_b, epsilon, new.u, new.v)
            new = _evaluate(costs, marginals, epsilon, new.u, v)
        point = new
        progress.add(IterationRecord("newton", epsilon, point.error, n_cg), point.u, point.v)
    return point.u, point.v, point.error


class _PlanStorage:
    """Where the plan is kept for products with it."""

    def __init__(self, costs, storable):
        self._costs = costs
        self._storable = storable
        self._matrices = {}

    def _matrix(self, error):
        if not self._storable:
            return self._costs.zeros(0, 0)
        xp = self._costs.xp
        dtype = xp.float32 if self._costs.on_host and error > _SINGLE_ABOVE else xp.float64
        if dtype not in self._matrices:
            self._matrices = {dtype: self._costs.zeros(self._costs.n, self._costs.m, dtype=dtype)}
        return self._matrices[dtype]

    def fill(self, marginals, epsilon, point):
        """Store the plan at a point, or what matters of it.

        Returns the sums of the columns of P_ij^2 / a_i, and the function
        z -> P' diag(1/a) P z.
        """
        costs = self._costs
        a, b, log_a, _ = marginals
        # Dropped entries of a row or column weigh at most this share of it.
        share = min(0.1, point.error)
        low_a, low_b = (share / costs.m) * a, (share / costs.n) * b
        P = self._matrix(point.error)
        _, squares, counts = costs.normalised_plan(
            1.0 / epsilon, point.u, point.v, a, log_a, low_a, low_b, P
        )
        inverse_a = 1.0 / a
        if not self._storable:
            if not costs.on_host or counts.sum() > _MAX_ENTRIES:
                return squares, lambda z: costs.row_coupling_computed(
                    1.0 / epsilon, point.u, point.v, inverse_a, z
                )
            dtype = np.float32 if point.error > _SINGLE_ABOVE else np.float64
            entries = costs.large_entries(
                1.0 / epsilon, point.u, point.v, low_a, low_b, counts, dtype
            )
        elif costs.on_host and costs.density(P, low_a, low_b) < _SPARSE_DENSITY:
            entries = costs.compress(P, low_a, low_b)
        else:
            return squares, lambda z: costs.row_coupling(P, inverse_a, z)
        return squares, lambda z: costs.row_coupling_sparse(entries, inverse_a, z)


def _newton_direction(costs, marginals, epsilon, point, storage):
    xp = costs.xp
    shift = 1e-2 * min(1e-3, point.error)
    c = point.columns
    squares, coupling = storage.fill(marginals, epsilon, point)
    diagonal = xp.maximum(c - squares, 1e-12 * c) + shift * c
    rtol = min(max(point.error, 1e-13), 0.1)
    direction, n_cg = conjugate_gradients(
        xp,
        lambda z: (1.0 + shift) * c * z - coupling(z),
        marginals.b - c,
        diagonal,
        rtol,
        _MAX_CG,
    )
    return direction - xp.mean(direction), n_cg


def _line_search(costs, marginals, epsilon, point, direction):
    """The first acceptable point on the way along ``direction``; None if there is none."""
    slope = float(costs.xp.sum((marginals.b - point.columns) * direction))
    if not slope > 0.0:
        return None
    step = 1.0
    while step > 1e-4:
        new = _evaluate(costs, marginals, epsilon, point.u, point.v + step * direction)
        rises = new.value >= point.value + 1e-4 * step * slope - 1e-14
        if rises or (point.error < _FLAT and new.error < 0.9 * point.error):
            return new
        step *= 0.5
    return None


def conjugate_gradients(xp, product, rhs, diagonal, rtol, max_iter):
    """Solve a positive semi-definite system with a diagonal preconditioner.

    Parameters
    ----------
    xp : module
        Namespace of the arrays.
    product : callable
        The product of the matrix with a vector.
    rhs : array of shape (m,)
        Right-hand side, in the range of the matrix.
    diagonal : array of shape (m,)
        Positive preconditioner.
    rtol : float
        Wanted norm of the residual relative to that of ``rhs``.
    max_iter : int
        Largest number of products.

    Returns
    -------
    x : array of shape (m,)
        The solution.
    n_iter : int
        Number of products.
    """
    x = rhs * 0.0
    residual = rhs + 0.0
    target = (rtol**2) * float(xp.sum(rhs * rhs))
    z = residual / diagonal
    direction = z
    rz = float(xp.sum(residual * z))
    n_iter = 0
    while n_iter < max_iter:
        product_direction = product(direction)
        curvature = float(xp.sum(direction * product_direction))
        if not curvature > 0.0:
            break
        step = rz / curvature
        x = x + step * direction
        residual = residual - step * product_direction
        n_iter += 1
        if float(xp.sum(residual * residual)) <= target:
            break
        z = residual / diagonal
        rz_new = float(xp.sum(residual * z))
        direction = z + (rz_new / rz) * direction
        rz = rz_new
    return x, n_iter
