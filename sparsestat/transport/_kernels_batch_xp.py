"""The functions of ``_kernels_batch.py`` on the array API standard, on all problems at once.

Buffers are not used: a library allocates what it needs.
"""

import array_api_compat

NOTHING = -1e30

_COMPACT_EVERY = 50
_LARGE = 30.0
_TINY = 1e-290
_POLISHING = 20


def _plans(S, u, v):
    xp = array_api_compat.array_namespace(S)
    return xp.exp(u[:, :, None] + v[:, None, :] - S)


def _log_sums(z, axis):
    xp = array_api_compat.array_namespace(z)
    largest = xp.max(z, axis=axis, keepdims=True)
    sums = xp.log(xp.sum(xp.exp(z - largest), axis=axis, keepdims=True))
    return xp.squeeze(largest + sums, axis=axis)


def _log_sweep(S, a, b, log_a, log_b, u, v):
    xp = array_api_compat.array_namespace(S)
    u = xp.where(a > 0, log_a - _log_sums(v[:, None, :] - S, 2), u)
    v = xp.where(b > 0, log_b - _log_sums(u[:, :, None] - S, 1), v)
    return u, v


def _quotient(weight, sums):
    """weight / sums, and 0 where there is no weight; and whether a sum underflowed."""
    xp = array_api_compat.array_namespace(sums)
    fine = xp.isfinite(sums) & (sums > _TINY)
    quotient = xp.where(fine & (weight > 0), weight / xp.where(fine, sums, xp.ones_like(sums)), 0.0)
    return quotient, xp.any((weight > 0) & ~fine, axis=1)


def _logarithm(scale):
    xp = array_api_compat.array_namespace(scale)
    return xp.log(xp.where(scale > 0, scale, xp.ones_like(scale)))


def _errors(S, a, b, u, v):
    xp = array_api_compat.array_namespace(S)
    P = _plans(S, u, v)
    rows = xp.sum(xp.abs(xp.sum(P, axis=2) - a), axis=1)
    return rows + xp.sum(xp.abs(xp.sum(P, axis=1) - b), axis=1)


def _rounds(state, tol, sweeps):
    """Up to ``sweeps`` sweeps of every problem that has not converged.

    Returns the potentials, the number of sweeps of each problem, and which ones converged.
    """
    S, a, b, log_a, log_b, u, v = state
    xp = array_api_compat.array_namespace(S)
    K, alpha, beta = _plans(S, u, v), xp.ones_like(u), xp.ones_like(v)
    frozen = xp.zeros_like(u[:, 0], dtype=xp.bool)
    count = xp.zeros_like(u[:, 0], dtype=xp.int64)
    for _ in range(sweeps):
        sums = xp.matmul(K, beta[:, :, None])[:, :, 0]
        error = xp.sum(xp.abs(alpha * sums - a), axis=1)
        rows, failed = _quotient(a, sums)
        columns, empty = _quotient(b, xp.matmul(rows[:, None, :], K)[:, 0, :])
        failed = (failed | empty) & ~frozen
        moving = (~frozen & ~failed)[:, None]
        alpha, beta = xp.where(moving, rows, alpha), xp.where(moving, columns, beta)
        count = count + xp.astype(~frozen, xp.int64)
        frozen = frozen | (~failed & (error <= tol))
        x, y = _logarithm(alpha), _logarithm(beta)
        size = xp.maximum(xp.max(xp.abs(x), axis=1), xp.max(xp.abs(y), axis=1))
        if bool(xp.any(failed | (size > _LARGE))):
            u, v = u + x, v + y
            repaired = _log_sweep(S, a, b, log_a, log_b, u, v)
            u = xp.where(failed[:, None], repaired[0], u)
            v = xp.where(failed[:, None], repaired[1], v)
            K, alpha, beta = _plans(S, u, v), xp.ones_like(u), xp.ones_like(v)
        if bool(xp.all(frozen)):
            break
    u, v = u + _logarithm(alpha), v + _logarithm(beta)
    converged = _errors(S, a, b, u, v) <= tol
    for _ in range(_POLISHING):
        again = frozen & ~converged
        if not bool(xp.any(again)):
            break
        polished = _log_sweep(S, a, b, log_a, log_b, u, v)
        u = xp.where(again[:, None], polished[0], u)
        v = xp.where(again[:, None], polished[1], v)
        count = count + xp.astype(again, xp.int64)
        converged = _errors(S, a, b, u, v) <= tol
    return u, v, count, converged


def advance(S, a, b, u, v, tol, max_iter, start, stop, work, iterations, K, row_scale, buffers):
    """Iterate on all problems until each has converged or had ``max_iter`` sweeps.

    Problems that have converged leave the batch every 50 sweeps. Returns ``stop``.
    """
    xp = array_api_compat.array_namespace(S)
    index = xp.arange(start, stop, device=array_api_compat.device(S))
    log_a = xp.where(a > 0, xp.log(xp.where(a > 0, a, xp.ones_like(a))), NOTHING)
    log_b = xp.where(b > 0, xp.log(xp.where(b > 0, b, xp.ones_like(b))), NOTHING)
    state = [xp.take(x, index, axis=0) for x in (S, a, b, log_a, log_b, u, v)]
    state[5:] = _log_sweep(*state)
    total = 1
    full_u, full_v, full_count = u, v, iterations
    full_count = full_count + 1
    while True:
        sweeps = min(_COMPACT_EVERY, max_iter - total)
        new_u, new_v, count, converged = _rounds(state, tol, sweeps)
        # Scatters by a permutation, as the standard has no assignment by an index.
        full_u = _scatter(full_u, index, new_u, xp)
        full_v = _scatter(full_v, index, new_v, xp)
        full_count = _scatter(full_count, index, xp.take(full_count, index, axis=0) + count, xp)
        total += sweeps
        kept = xp.nonzero(~converged)[0]
        if kept.shape[0] == 0 or total >= max_iter:
            break
        index = xp.take(index, kept, axis=0)
        state = [xp.take(x, kept, axis=0) for x in (*state[:5], new_u, new_v)]
    u[...], v[...], iterations[...] = full_u, full_v, full_count
    return stop


def _scatter(full, index, part, xp):
    rest = xp.arange(full.shape[0], device=array_api_compat.device(full))
    taken = xp.any(rest[:, None] == index[None, :], axis=1)
    others = xp.nonzero(~taken)[0]
    joined = xp.concat([part, xp.take(full, others, axis=0)], axis=0)
    order = xp.argsort(xp.concat([index, others], axis=0))
    return xp.take(joined, order, axis=0)


def marginals(S, u, v, start, stop, buffer, rows, columns, costs):
    """Sums of rows and columns of the plans, and of ``S`` times the plans."""
    xp = array_api_compat.array_namespace(S)
    P = _plans(S, u, v)
    rows[...] = xp.sum(P, axis=2)
    columns[...] = xp.sum(P, axis=1)
    costs[...] = xp.sum(P * S, axis=(1, 2))
