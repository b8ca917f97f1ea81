"""A Gaussian kernel, scaled from both sides until its rows sum to one.

The wanted matrix is P_ij = exp(u_i + u_j - D_ij / epsilon), with D the squared distances, and
u such that P 1 = 1: the point where the convex function F(u) = sum_ij P_ij / 2 - sum_i u_i is
least. Write s = P 1 and R = diag(1 / s) P.

*Damped scaling.* The map u -> u - t log s has the Jacobian (1 - t) I - t R, and R is similar to
diag(s)^-1/2 P diag(s)^-1/2, which is positive semidefinite with largest eigenvalue one, so that
near the solution the error shrinks by max(|1 - t|, |1 - 2 t|). That is least, 1/3, at t = 2/3.
Anywhere else, the absolute values in a row of the Jacobian sum to max(1 - 4 R_ii / 3, 1/3) < 1:
the largest error of u decreases at every step, from any start.

*Nothing overflows.* As P is positive semidefinite, 1 = sum_j P_ij <= sqrt(P_ii) n, and P_ii =
exp(2 u_i) <= 1; hence -log n <= u_i <= 0 at the solution for whatever epsilon, and a solution for
one epsilon is a start within log n of that for any other.

*Trace.* Let m rows be distinct, with squared distances between ``smallest`` and ``largest``.
Equal rows have equal potentials, so that the rows of one kind share at most one unit of trace,
and at least 1 - n exp(-smallest / epsilon), what P has outside of the kind. On the other side,
exp(-largest / epsilon) U <= exp(-u_i) <= U with U = sum_j exp(u_j) >= sqrt(n). Therefore

    m (1 - n exp(-smallest / epsilon)) <= tr P <= min(m, exp(2 largest / epsilon)),

and each trace between 1 and m is met by some epsilon between two that are known.

*Without the diagonal*, P need not be positive semidefinite; eigenvalues near -1 slow the map
down. Newton's method on F, whose Hessian diag(s) + P is positive semidefinite for any symmetric
P >= 0, then takes over, for a sequence of falling epsilon with the potential epsilon u kept.
"""

import math
from typing import Any, NamedTuple

from scipy.optimize import brentq
from scipy.spatial.distance import cdist

from sparsestat.utils._arrays import kernels_for, use_array_api

_DAMPING = 2 / 3
# Errors are recomputed from the final matrix, where rounding may add a little.
_AIM = 0.9
_BLOCK = 2**20
_LADDER_FACTOR = 4.0
_ROUGH = 1e-2
_ARMIJO = 1e-4
# Newton's method pays once the rows are somewhat near to one.
_NEWTON_BELOW = 0.5
_LONGEST_STEP = 2.0
# It is quadratic where it works; where P nears a singular pairing of the rows, it crawls.
_NEWTON_STEPS = 50
_CG_PASSES = 10
_HALVINGS = 30


class Scaling(NamedTuple):
    """Where an iteration stands.

    Parameters
    ----------
    u : array of shape (n,)
        Logarithms of the scales.
    epsilon : float
        Bandwidth.
    error : float
        Largest distance of a row sum from one.
    n_iter : int
        Number of passes over the matrix so far.
    stopped : bool
        Whether the listener has asked to stop.
    """

    u: Any
    epsilon: float
    error: float
    n_iter: int
    stopped: bool = False


def squared_distances(X, Y):
    """Squared distances between rows; from differences, so that equal rows are at zero."""
    if not use_array_api(X):
        return cdist(X, Y, "sqeuclidean")
    from sparsestat.transport._kernels_xp import SQEUCLIDEAN, cost_block

    xp = kernels_for("sparsestat.transport", X)[1]
    return cost_block(None, X, xp.matrix_transpose(Y), SQEUCLIDEAN)


class Distances:
    """Squared distances of a sample to itself, and the passes over them.

    Parameters
    ----------
    X : array of shape (n, d)
        Float64.

    Attributes
    ----------
    n_distinct : int
        Number of distinct rows.
    smallest : float
        Smallest squared distance that is not zero; inf if all are.
    largest : float
        Largest squared distance.
    """

    def __init__(self, X):
        self.kernels, self.xp = kernels_for("sparsestat.transport", X, name="_kernels_affinity")
        self.D = squared_distances(X, X)
        self.n = X.shape[0]
        self.like = X[:, 0]
        self.index = self.xp.cumulative_sum(self.xp.ones_like(self.like)) - 1.0
        self.largest = float(self.xp.max(self.D))
        self._survey()

    def _blocks(self):
        step = max(1, _BLOCK // self.n)
        starts = range(0, self.n, step)
        return [slice(start, min(start + step, self.n)) for start in starts]

    def _survey(self):
        xp = self.xp
        self.n_distinct, self.smallest = 0, math.inf
        for rows in self._blocks():
            block = self.D[rows, :]
            nearest = xp.min(xp.where(block > 0, block, math.inf))
            self.smallest = min(self.smallest, float(nearest))
            earlier = self.index[None, :] < self.index[rows][:, None]
            repeated = xp.any((block == 0) & earlier, axis=1)
            self.n_distinct += repeated.shape[0] - int(xp.sum(xp.astype(repeated, xp.int64)))

    def start(self):
        """The potential of the uniform matrix, the solution for an infinite epsilon."""
        return self.xp.full_like(self.like, -0.5 * math.log(self.n))

    def inverse(self, epsilon):
        """1 / epsilon, unless that would overflow; the exponentials are zero long before."""
        return min(1.0 / epsilon, 1e300 / max(self.largest, 1e-8))

    def log_row_sums(self, u, epsilon, with_diagonal=True):
        """Logarithms of the row sums, and the largest distance of the sums from one."""
        out = self.xp.empty_like(u)
        self.kernels.log_row_sums(self.D, self.inverse(epsilon), u, with_diagonal, out)
        sums = self.xp.exp(self.xp.clip(out, max=700.0))
        return out, float(self.xp.max(self.xp.abs(sums - 1.0)))

    def matrix(self, u, epsilon, with_diagonal=True, out=None):
        """P, in an array that may be that of the distances; exactly symmetric."""
        xp = self.xp
        out = xp.empty_like(self.D) if out is None else out
        inverse = self.inverse(epsilon)
        for rows in self._blocks():
            z = (u[rows][:, None] + u[None, :]) - self.D[rows, :] * inverse
            if not with_diagonal:
                z = xp.where(self.index[rows][:, None] == self.index[None, :], -math.inf, z)
            out[rows, :] = xp.exp(z)
        return out


def trace(xp, u):
    """Trace of P: the diagonal of the distances is zero."""
    return float(xp.sum(xp.exp(2.0 * u)))


def balance(distances, epsilon, u, tol, max_iter, listen=None):
    """Damped scaling until the row sums are within the tolerance.

    Parameters
    ----------
    distances : Distances
        The squared distances.
    epsilon : float
        Bandwidth, possibly infinite.
    u : array of shape (n,)
        Where to begin.
    tol : float
        Wanted largest distance of a row sum from one.
    max_iter : int
        Largest number of passes.
    listen : callable or None, default=None
        Called with the state at every pass; a true answer stops.

    Returns
    -------
    scaling : Scaling
        The last state.
    """
    for n_iter in range(1, max_iter + 1):
        log_sums, error = distances.log_row_sums(u, epsilon)
        state = Scaling(u, epsilon, error, n_iter)
        if listen is not None and listen(state):
            return state._replace(stopped=True)
        if error <= _AIM * tol:
            break
        u = u - _DAMPING * log_sums
    return state


def trace_tolerance(tol):
    """Wanted relative error of the trace, which can be no better known than the row sums."""
    return max(1e-8, 10.0 * tol)


def balance_to_trace(distances, target, tol, max_iter, listen=None):
    """Find epsilon such that the trace of P has a given value.

    Parameters
    ----------
    distances : Distances
        The squared distances.
    target : int
        The trace, at least 1 and at most the number of distinct rows.
    tol : float
        Wanted error of the row sums, see :func:`balance`.
    max_iter : int
        Largest number of passes for one epsilon.
    listen : callable or None, default=None
        Called with the state for every epsilon; a true answer stops.

    Returns
    -------
    scaling : Scaling
        The last state; ``n_iter`` counts the passes for all of epsilon.
    """
    state = Scaling(distances.start(), math.inf, math.inf, 0)

    def at(epsilon):
        nonlocal state
        new = balance(distances, epsilon, state.u, tol, max_iter)
        new = new._replace(n_iter=state.n_iter + new.n_iter)
        state = new._replace(stopped=listen is not None and bool(listen(new)))

    n, m, goal = distances.n, distances.n_distinct, trace_tolerance(tol)
    if target == 1:
        at(math.inf)
    elif target == m:
        at(distances.smallest / math.log(2.0 * n / goal))
    else:
        low = math.log(distances.smallest / math.log(n * m / (m - target)))
        high = math.log(2.0 * distances.largest / math.log(target))

        def excess(log_epsilon):
            # The signs at the ends are known, which saves two searches for a potential.
            if log_epsilon <= low:
                return math.log(m / target)
            if log_epsilon >= high:
                return -math.log(target)
            at(math.exp(log_epsilon))
            value = math.log(trace(distances.xp, state.u) / target)
            return 0.0 if state.stopped or abs(value) <= _AIM * goal else value

        brentq(excess, low, high, xtol=1e-15, maxiter=200, disp=False)
    return state


def balance_without_diagonal(distances, epsilon, tol, max_iter, listen=None):
    """Find the potential for which P without its diagonal has row sums one.

    Parameters
    ----------
    distances : Distances
        The squared distances of at least two rows.
    epsilon : float
        Bandwidth, possibly infinite.
    tol : float
        Wanted largest distance of a row sum from one.
    max_iter : int
        Largest number of passes for each of the larger epsilon that lead to this one.
    listen : callable or None, default=None
        Called with the state at every pass; a true answer stops.

    Returns
    -------
    scaling : Scaling
        The last state; ``n_iter`` counts the passes for all of epsilon.
    """
    u, n_iter = distances.start(), 0
    ladder = _ladder(distances.largest, epsilon)
    for previous, rung in zip([ladder[0], *ladder], ladder, strict=False):
        if previous != rung:
            u = u * (previous / rung)
        aim = tol if rung == ladder[-1] else max(tol, _ROUGH)
        state = _newton(distances, rung, u, aim, max_iter, listen)
        u, n_iter = state.u, n_iter + state.n_iter
        if state.stopped:
            break
    return state._replace(n_iter=n_iter)


def _ladder(largest, epsilon):
    """From about the largest distance down to epsilon, which comes last."""
    if not 0.0 < epsilon < largest:
        return [epsilon]
    n_rungs = math.ceil(math.log(largest / epsilon, _LADDER_FACTOR))
    return [epsilon * _LADDER_FACTOR**k for k in range(n_rungs, -1, -1)]


def _newton(distances, epsilon, u, tol, max_iter, listen):
    xp, n = distances.xp, distances.n
    log_sums, error = distances.log_row_sums(u, epsilon, False)
    n_steps = 0
    for n_iter in range(1, max_iter + 1):
        state = Scaling(u, epsilon, error, n_iter)
        if listen is not None and listen(state):
            return state._replace(stopped=True)
        if error <= _AIM * tol or n_iter == max_iter or n_steps == _NEWTON_STEPS:
            break
        if error > _NEWTON_BELOW:
            u = u - _DAMPING * log_sums
            log_sums, error = distances.log_row_sums(u, epsilon, False)
            continue
        sums = xp.exp(log_sums)
        P = distances.matrix(u, epsilon, False)
        # The slow directions are those of almost no curvature, which a rough solution misses.
        tolerance = min(1e-2, error**2 + 1e-14)
        direction = _conjugate_gradients(P, sums, tolerance, _CG_PASSES * n, xp)
        n_steps += 1
        found = _line_search(distances, epsilon, u, sums, error, direction)
        if found is None:
            break
        u, log_sums, error = found
    return state


def _conjugate_gradients(P, sums, rtol, max_iter, xp):
    """Solve (diag(sums) + P) x = 1 - sums."""
    r = 1.0 - sums
    x = xp.zeros_like(r)
    z = r / sums
    p, rz = z, float(xp.sum(r * z))
    goal = rtol**2 * rz
    for _ in range(max_iter):
        if rz <= goal:
            break
        q = sums * p + xp.matmul(P, p)
        curvature = float(xp.sum(p * q))
        # The matrix is singular in the limit of pairs.
        if curvature <= 0.0:
            break
        x = x + (rz / curvature) * p
        r = r - (rz / curvature) * q
        z = r / sums
        rz, previous = float(xp.sum(r * z)), rz
        p = z + (rz / previous) * p
    return x


def _line_search(distances, epsilon, u, sums, error, direction):
    """Halve the step until F falls enough, or the error does where F is flat from rounding.

    Returns the new potential, its logarithms of row sums and error; None if rounding lets
    neither fall.
    """
    xp = distances.xp
    objective = float(0.5 * xp.sum(sums) - xp.sum(u))
    slope = float(xp.sum((sums - 1.0) * direction))
    length = float(xp.max(xp.abs(direction)))
    step = min(1.0, _LONGEST_STEP / length) if length > 0 else 1.0
    for _ in range(_HALVINGS):
        new = u + step * direction
        log_sums, new_error = distances.log_row_sums(new, epsilon, False)
        new_sums = xp.exp(xp.clip(log_sums, max=700.0))
        value = float(0.5 * xp.sum(new_sums) - xp.sum(new))
        if value <= objective + _ARMIJO * step * slope or new_error < 0.5 * error:
            return new, log_sums, new_error
        step *= 0.5
    return None


def weights_of(points, fitted, u, epsilon, xp, *, with_diagonal=True):
    """Rows of the scaled kernel between new points and fitted ones, each of sum one.

    For a fitted row this is P_ij / s_i, that is P_ij up to the error of its row sum. Without the
    diagonal, a point equal to a fitted row is taken for that row, the first of several.
    """
    D = squared_distances(points, fitted)
    z = u[None, :] - D * (1.0 / epsilon)
    if not with_diagonal:
        equal = xp.astype(D == 0, xp.float64)
        first = (xp.cumulative_sum(equal, axis=1) == 1) & (D == 0)
        z = xp.where(first, -math.inf, z)
    z = xp.exp(z - xp.max(z, axis=1, keepdims=True))
    return z / xp.sum(z, axis=1, keepdims=True)
