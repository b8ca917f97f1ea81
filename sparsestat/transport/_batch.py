"""Many small problems of entropic transport at once."""

import numbers
import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_scalar

from sparsestat.utils._arrays import check_device_array, get_namespace, kernels_for, use_array_api
from sparsestat.utils._threads import run_in_threads, thread_ranges

_MASS_RTOL = 1e-8
_DEFAULT_EPSILON = 0.05
_NOTHING = -1e30
_N_RANGES = 32
# About a tenth of a second of a pass over a kernel.
_WORK = 100_000_000


@dataclass(frozen=True, eq=False, repr=False)
class BatchSinkhornResult:
    """Solutions of many entropic transport problems. Made by :func:`sinkhorn_batch`.

    Parameters
    ----------
    potentials : (array of shape (B, n), array of shape (B, m)) or (list, list)
        The dual variables f and g of each problem: its plan is
        P_ij = a_i b_j exp((f_i + g_j - C_ij) / epsilon). Lists for ragged problems.
    value : array of shape (B,)
        <C, P> + epsilon KL(P | a b').
    transport_cost : array of shape (B,)
        <C, P>.
    dual_value : array of shape (B,)
        Value of the dual problem, never above the optimum.
    marginal_error : array of shape (B,)
        |P 1 - a|_1 + |P' 1 - b|_1, recomputed in double precision.
    n_iter : array of shape (B,)
        Number of sweeps.
    converged : array of shape (B,)
        Whether the error is within the tolerance.
    epsilon : array of shape (B,)
        The regularisations in the units of the costs.
    scaled : tuple
        The problems as the solver sees them, for the plans.
    """

    potentials: tuple
    value: Any
    transport_cost: Any
    dual_value: Any
    marginal_error: Any
    n_iter: Any
    converged: Any
    epsilon: Any
    scaled: tuple

    def __repr__(self):
        xp = get_namespace(self.value)[0]
        n_converged = int(xp.sum(xp.astype(self.converged, xp.int64)))
        return f"BatchSinkhornResult({self.value.shape[0]} problems, {n_converged} converged)"

    def plan(self, i):
        """Compute the plan of one problem.

        Parameters
        ----------
        i : int
            The problem's place in the batch.

        Returns
        -------
        plan : array of shape (n, m)
            Its plan.
        """
        groups, position, single = self.scaled
        g, k = position[i]
        S, u, v, mass = groups[g]
        xp = get_namespace(S)[0]
        plan = mass[k] * xp.exp(u[k, :, None] + v[k, None, :] - S[k, :, :])
        return xp.astype(plan, xp.float32) if single else plan

    @property
    def plans(self):
        """Plans of all problems, as a list."""
        groups, position, single = self.scaled
        xp = get_namespace(groups[0][0])[0]
        # Arrays of their own would be gone through once per operation and problem.
        stacks = []
        for S, u, v, mass in groups:
            plans = u[:, :, None] + v[:, None, :]
            plans -= S
            plans = xp.exp(plans)
            plans *= mass[:, None, None]
            stacks.append(xp.astype(plans, xp.float32) if single else plans)
        places = (position[i] for i in range(self.value.shape[0]))
        return [stacks[g][k, :, :] for g, k in places]


class _Group(NamedTuple):
    """Problems of one shape: their places in the batch, costs, weights, regularisations."""

    index: Any
    C: Any
    a: Any
    b: Any
    epsilon: Any


def sinkhorn_batch(C, a=None, b=None, *, epsilon=None, tol=1e-9, max_iter=10000, n_jobs=None):
    """Solve many problems of entropic optimal transport.

    Each minimises <C, P> + epsilon KL(P | a b') over plans with the row sums a and the column
    sums b. The iteration is Sinkhorn's, on a kernel whose scales are absorbed when they have
    grown large; sums that underflow are repaired on logarithms. Where that needs very many
    sweeps, at a tiny epsilon, :func:`sinkhorn` with Newton's method is the better choice.

    Parameters
    ----------
    C : array of shape (B, n, m), or list of B arrays of shape (n_i, m_i)
        Costs. CuPy arrays, or other ones of the array API standard, stay on their device.
    a, b : array of shape (B, n) or (n,), list of vectors, or None
        Weights of the rows and columns, of equal sums; one vector serves every problem, None
        means equal weights of sum one. A weight may be zero.
    epsilon : float, array of shape (B,), or None, default=None
        The regularisation; None takes 0.05 times the mean of each problem's costs.
    tol : float, default=1e-9
        Wanted error of the marginals, relative to the total mass.
    max_iter : int, default=10000
        Largest number of sweeps.
    n_jobs : int or None, default=None
        Number of threads, which share the problems and never change a result.

    Returns
    -------
    result : BatchSinkhornResult
        Potentials, values and certificates of each problem.

    Raises
    ------
    ValueError
        For wrong shapes, NaN or infinity, negative weights, and marginals of unequal sums.
    TypeError
        For arrays of different libraries or devices.

    Warns
    -----
    ConvergenceWarning
        Once, with the number of problems above the tolerance and the worst error.

    References
    ----------
    Cuturi (2013). Sinkhorn distances: lightspeed computation of optimal transport. NeurIPS.

    Schmitzer (2019). Stabilized sparse scaling algorithms for entropy regularized transport
    problems. SIAM Journal on Scientific Computing 41(3).

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.transport import sinkhorn_batch
    >>> C = np.random.default_rng(0).uniform(size=(3, 4, 5))
    >>> result = sinkhorn_batch(C, epsilon=0.1)
    >>> bool(result.converged.all()), result.plan(0).shape
    (True, (4, 5))
    """
    tol = check_scalar(tol, "tol", numbers.Real, min_val=0, include_boundaries="neither")
    max_iter = check_scalar(max_iter, "max_iter", numbers.Integral, min_val=1)
    # A nested list of numbers is an array, a list of matrices a ragged batch.
    ragged = isinstance(C, list | tuple) and len(C) > 0 and all(np.ndim(c) == 2 for c in C)
    single, groups, xp = (
        _ragged_groups(C, a, b, epsilon) if ragged else _one_group(C, a, b, epsilon)
    )
    solved = [_solve(group, tol, max_iter, n_jobs, xp) for group in groups]
    return _assemble(groups, solved, ragged, single, tol, xp)


def _check_costs(C, ndim, name):
    xp, _, is_host = get_namespace(C)
    if is_host:
        C = np.asarray(C)
        if C.dtype.kind not in "fiub" or C.dtype == np.float16:
            raise ValueError(f"{name} must hold real numbers (float32 or float64), got {C.dtype}.")
    C = check_device_array(C, name, ndim=ndim, xp=xp)
    return xp.astype(C, xp.float64, copy=False), C.dtype == xp.float32


def _check_weights(w, C, axis, name, mass, places, xp):
    shape = (C.shape[0], C.shape[axis])
    if w is None:
        return xp.broadcast_to((mass / shape[1])[:, None], shape)
    if get_namespace(w)[2]:
        w = np.asarray(w, dtype=np.float64)
    if tuple(w.shape) not in (shape, shape[1:]):
        raise ValueError(
            f"{name} must have shape {shape} or {shape[1:]} for costs of shape "
            f"{tuple(C.shape)}, got shape {tuple(w.shape)}."
        )
    w = xp.astype(check_device_array(w, name, ndim=w.ndim, xp=xp), xp.float64)
    w = xp.broadcast_to(w, shape)
    sums = xp.sum(w, axis=1)
    for bad, what in (
        (xp.any(w < 0, axis=1), "must not be negative, but a weight is"),
        (sums <= 0, "must have a positive weight, but there is none"),
    ):
        if bool(xp.any(bad)):
            where = places[int(xp.argmax(xp.astype(bad, xp.int64)))]
            raise ValueError(f"{name} {what} in problem {where}.")
    return w


def _group(C, a, b, epsilon, places, xp):
    ones = xp.ones_like(C[:, 0, 0])
    a_mass = xp.sum(_check_weights(b, C, 2, "b", ones, places, xp), axis=1)
    a = _check_weights(a, C, 1, "a", a_mass, places, xp)
    mass = xp.sum(a, axis=1)
    b = _check_weights(b, C, 2, "b", mass, places, xp)
    other = xp.sum(b, axis=1)
    bad = xp.abs(mass - other) > _MASS_RTOL * xp.maximum(mass, other)
    if bool(xp.any(bad)):
        k = int(xp.argmax(xp.astype(bad, xp.int64)))
        raise ValueError(
            f"The marginals must have the same sum, got sum(a)={float(mass[k]):.10g} and "
            f"sum(b)={float(other[k]):.10g} in problem {places[k]}; normalise them."
        )
    if epsilon is None:
        mean = xp.mean(C, axis=(1, 2))
        zero = (mean == 0) & (xp.max(xp.abs(C), axis=(1, 2)) == 0)
        epsilon = xp.where(zero, ones, _DEFAULT_EPSILON * mean)
        if not bool(xp.all(epsilon > 0)):
            raise ValueError(
                "epsilon=None needs costs of positive mean in every problem; give epsilon in the "
                "units of the costs."
            )
    return _Group(places, C, a, b, epsilon)


def _check_epsilon(epsilon, n, xp, like):
    if epsilon is None:
        return None
    if isinstance(epsilon, numbers.Real):
        epsilon = xp.full_like(like, float(epsilon))
    elif get_namespace(epsilon)[2]:
        epsilon = np.asarray(epsilon, dtype=np.float64)
    if tuple(epsilon.shape) != (n,):
        raise ValueError(
            f"epsilon must be a number or of shape ({n},), got shape {tuple(epsilon.shape)}."
        )
    if not bool(xp.all((epsilon > 0) & xp.isfinite(epsilon))):
        raise ValueError("epsilon must be positive and finite for every problem.")
    return xp.astype(epsilon, xp.float64)


def _one_group(C, a, b, epsilon):
    xp, _, _ = get_namespace(C, a, b, epsilon)
    C, single = _check_costs(C, 3, "C")
    epsilon = _check_epsilon(epsilon, C.shape[0], xp, C[:, 0, 0])
    return single, [_group(C, a, b, epsilon, list(range(C.shape[0])), xp)], xp


def _ragged_groups(C, a, b, epsilon):
    xp, _, _ = get_namespace(*C)
    for name, w in (("a", a), ("b", b)):
        if w is not None and (not isinstance(w, list | tuple) or len(w) != len(C)):
            raise ValueError(
                f"{name} must be a list of {len(C)} vectors, one for each matrix of costs, or None."
            )
    get_namespace(*C, *(a or ()), *(b or ()))
    checked = [_check_costs(c, 2, f"C[{i}]") for i, c in enumerate(C)]
    C, single = [c for c, _ in checked], all(s for _, s in checked)
    like = xp.stack([c[0, 0] for c in C])
    epsilon = _check_epsilon(epsilon, len(C), xp, like)
    weights: list[Any] = []
    for w, name, axis in ((a, "a", 0), (b, "b", 1)):
        if w is None:
            weights.append(None)
            continue
        w = [np.asarray(x, dtype=np.float64) if get_namespace(x)[2] else x for x in w]
        for i, x in enumerate(w):
            if tuple(x.shape) != (C[i].shape[axis],):
                raise ValueError(
                    f"{name}[{i}] must have shape ({C[i].shape[axis]},), got {tuple(x.shape)}."
                )
        weights.append(w)
    places: dict = {}
    for i, c in enumerate(C):
        places.setdefault(tuple(c.shape), []).append(i)
    groups = []
    for where in places.values():
        parts = [None if w is None else xp.stack([w[i] for i in where]) for w in weights]
        part = None if epsilon is None else xp.stack([epsilon[i] for i in where])
        groups.append(_group(xp.stack([C[i] for i in where]), parts[0], parts[1], part, where, xp))
    return single, groups, xp


def _logarithm(w, xp):
    return xp.where(w > 0, xp.log(xp.where(w > 0, w, xp.ones_like(w))), _NOTHING)


def _smallest(C, weights, axis, xp):
    """Minima over the rows or columns that have a weight."""
    if not bool(xp.all(weights > 0)):
        C = xp.where(weights > 0, C, xp.inf)
    return xp.min(C, axis=axis)


def _solve(group, tol, max_iter, n_jobs, xp):
    """Solve problems of one shape; everything that the result needs of them."""
    _, C, a, b, epsilon = group
    kernels, _ = kernels_for("sparsestat.transport", C, name="_kernels_batch")
    mass, eps = xp.sum(a, axis=1), epsilon[:, None]
    p, q = a / mass[:, None], b / xp.sum(b, axis=1)[:, None]
    # Offsets of rows and columns keep the exponents small, and exact for huge costs.
    r = _smallest(C, q[:, None, :], 2, xp)
    S = C - r[:, :, None]
    t = _smallest(S, p[:, :, None], 1, xp)
    S -= t[:, None, :]
    S /= eps[:, :, None]
    size, n, m = S.shape
    log_p, log_q = _logarithm(p, xp), _logarithm(q, xp)
    u, v = xp.asarray(log_p, copy=True), xp.asarray(log_q, copy=True)
    n_iter = xp.zeros_like(mass, dtype=xp.int64)
    rows, columns, cost = xp.zeros_like(u), xp.zeros_like(v), xp.zeros_like(mass)
    on_host = not use_array_api(C)

    def work(bounds):
        start, stop = bounds
        K = np.empty((n, m)) if on_host else None
        scale = np.empty(n) if on_host else None
        buffers = np.empty((3, m)) if on_host else None
        at = start
        while at < stop:
            at = kernels.advance(
                S, p, q, u, v, tol, max_iter, at, stop, _WORK, n_iter, K, scale, buffers
            )
        kernels.marginals(
            S, u, v, start, stop, buffers[0] if on_host else None, rows, columns, cost
        )

    if on_host:
        S, p, q, u, v = (np.ascontiguousarray(x) for x in (S, p, q, u, v))
        run_in_threads(work, thread_ranges(size, _N_RANGES), n_jobs)
    else:
        work((0, size))

    error = xp.sum(xp.abs(rows - p), axis=1) + xp.sum(xp.abs(columns - q), axis=1)
    shift = 0.5 * eps * xp.log(mass)[:, None]
    scaled_f, scaled_g = u - log_p, v - log_q
    if bool(xp.any(p == 0)):
        scaled_f = xp.where(p > 0, scaled_f, -_log_sum_exp(v[:, None, :] - S, 2, xp))
    if bool(xp.any(q == 0)):
        scaled_g = xp.where(q > 0, scaled_g, -_log_sum_exp(u[:, :, None] - S, 1, xp))
    f, g = eps * scaled_f + r - shift, eps * scaled_g + t - shift
    rows, columns = rows * mass[:, None], columns * mass[:, None]
    rest = epsilon * (xp.sum(rows, axis=1) - mass * mass)
    value = xp.sum(rows * f, axis=1) + xp.sum(columns * g, axis=1) - rest
    dual = xp.sum(a * f, axis=1) + xp.sum(b * g, axis=1) - rest
    transport = epsilon * cost * mass + xp.sum(rows * r, axis=1) + xp.sum(columns * t, axis=1)
    return {
        "numbers": (value, transport, dual, error * mass, n_iter, error <= tol, epsilon),
        "error": error,
        "potentials": (f, g),
        "scaled": (S, u, v, mass),
    }


def _log_sum_exp(z, axis, xp):
    largest = xp.max(z, axis=axis, keepdims=True)
    total = xp.log(xp.sum(xp.exp(z - largest), axis=axis, keepdims=True))
    return xp.squeeze(largest + total, axis=axis)


def _assemble(groups, solved, ragged, single, tol, xp):
    places = [i for group in groups for i in group.index]
    order = sorted(range(len(places)), key=places.__getitem__)

    def joined(parts):
        whole = xp.concat(list(parts))
        return xp.stack([whole[k] for k in order]) if ragged else whole

    numbers_ = [joined(s["numbers"][k] for s in solved) for k in range(7)]
    position = {i: (g, k) for g, group in enumerate(groups) for k, i in enumerate(group.index)}
    dtype = xp.float32 if single else xp.float64
    potentials: tuple
    if ragged:
        potentials = tuple(
            [
                xp.astype(solved[position[i][0]]["potentials"][side][position[i][1], :], dtype)
                for i in range(len(places))
            ]
            for side in (0, 1)
        )
    else:
        potentials = tuple(xp.astype(x, dtype) for x in solved[0]["potentials"])
    worst = max(float(xp.max(s["error"])) for s in solved)
    if worst > tol:
        n_bad = int(xp.sum(xp.astype(~numbers_[5], xp.int64)))
        warnings.warn(
            f"Sinkhorn's marginal error is above the required {tol:.3g} in {n_bad} of "
            f"{len(places)} problems, at worst {worst:.3g}; raise max_iter, or take a larger "
            "epsilon.",
            ConvergenceWarning,
            stacklevel=3,
        )
    value, transport, dual, error, n_iter, converged, epsilon = numbers_
    return BatchSinkhornResult(
        potentials=potentials,
        value=value,
        transport_cost=transport,
        dual_value=dual,
        marginal_error=error,
        n_iter=n_iter,
        converged=converged,
        epsilon=epsilon,
        scaled=([s["scaled"] for s in solved], position, single),
    )
