"""Regression of one node on its candidate parents.

The regression of a node, min over w and s of q(w) / (2 s) + s / 2 + alpha ||w||_1 with
q(w) = (e_j - w)' S (e_j - w), is solved by a primal active-set method. On an active set P with
penalty signs theta, S_PP = L L', the minimiser is w = L^-T (z - t y) for z = L^-1 S_Pj,
y = L^-1 theta and t = alpha s; there q = S_jj - z'z + t^2 y'y, so that the best scale is
s^2 = (S_jj - z'z) / (1 - alpha^2 y'y). Rows and rotations of the factor act on z and y too.
"""

import numpy as np

from sparsestat.dag._state import (
    ALLOWED,
    ALPHA,
    COEF,
    COST,
    CURVATURE,
    FACTOR,
    FLOOR,
    N_ACTIVE,
    NORM,
    OUT,
    POSITION,
    R_ACTIVE,
    REQUIRED,
    RESIDUAL,
    SCALE,
    SCRATCH,
    THETA,
    W_ACTIVE,
    Q,
    Y,
    Z,
)
from sparsestat.utils._numba import jit

SINGULAR = 1e-11
"""Share of its variance below which a variable is a combination of others."""

SLACK, NOISE = 1e-9, 1e-14
"""By how much a limit must be exceeded: relative to it, and to the standard deviations."""


@jit
def _extend(k, theta, node, a, S, work):
    """Append k to the active set; False, with L^-1 S_Pk in row a, if it depends on the set."""
    L, vectors, idx = work.L, work.vectors, work.idx
    pivot, zk, yk = S[k, k], S[k, node], theta
    for i in range(a):
        # Four sums, as one would wait for every addition before the next.
        s0 = s1 = s2 = s3 = 0.0
        m = 0
        while m + 3 < i:
            s0 += L[i, m] * L[a, m]
            s1 += L[i, m + 1] * L[a, m + 1]
            s2 += L[i, m + 2] * L[a, m + 2]
            s3 += L[i, m + 3] * L[a, m + 3]
            m += 4
        while m < i:
            s0 += L[i, m] * L[a, m]
            m += 1
        value = (S[k, idx[i]] - ((s0 + s1) + (s2 + s3))) * L[i, i]
        L[a, i] = value
        pivot -= value * value
        zk -= value * vectors[Z, i]
        yk -= value * vectors[Y, i]
    if pivot <= SINGULAR * S[k, k]:
        return False
    inverse_root = 1.0 / np.sqrt(pivot)
    L[a, a] = inverse_root
    vectors[Z, a] = zk * inverse_root
    vectors[Y, a] = yk * inverse_root
    vectors[THETA, a] = theta
    idx[a] = k
    work.state[k] = 1
    return True


@jit
def _drop(m, a, work):
    """Remove the m-th of a active variables by Givens rotations; return their new number."""
    L, vectors, idx = work.L, work.vectors, work.idx
    work.state[idx[m]] = 0
    for i in range(m + 1, a):
        for k in range(i):
            L[i - 1, k] = L[i, k]
        L[i - 1, i] = 1.0 / L[i, i]
        idx[i - 1] = idx[i]
        vectors[THETA, i - 1] = vectors[THETA, i]
        vectors[W_ACTIVE, i - 1] = vectors[W_ACTIVE, i]
    for i in range(m, a - 1):
        f, g = L[i, i], L[i, i + 1]
        inverse = 1.0 / np.sqrt(f * f + g * g)
        c, s = f * inverse, g * inverse
        L[i, i] = inverse
        for k in range(i + 1, a - 1):
            f, g = L[k, i], L[k, i + 1]
            L[k, i] = c * f + s * g
            L[k, i + 1] = c * g - s * f
        for name in (Z, Y):
            f, g = vectors[name, i], vectors[name, i + 1]
            vectors[name, i] = c * f + s * g
            vectors[name, i + 1] = c * g - s * f
    return a - 1


@jit
def _solve_transposed(a, L, x):
    """Overwrite x by L^-T x, row by row of L so that the loops are contiguous."""
    for i in range(a - 1, -1, -1):
        value = x[i] * L[i, i]
        x[i] = value
        for m in range(i):
            x[m] -= L[i, m] * value


@jit(inline="always")
def _residual(node, a, S, idx, w, r):
    """Covariances of the residual of the node with every variable."""
    d = len(S)
    source = S[node]
    for k in range(d):
        r[k] = source[k]
    i = 0
    while i + 3 < a:
        s0, s1, s2, s3 = S[idx[i]], S[idx[i + 1]], S[idx[i + 2]], S[idx[i + 3]]
        w0, w1, w2, w3 = w[i], w[i + 1], w[i + 2], w[i + 3]
        for k in range(d):
            r[k] -= (w0 * s0[k] + w1 * s1[k]) + (w2 * s2[k] + w3 * s3[k])
        i += 4
    while i < a:
        s0, w0 = S[idx[i]], w[i]
        for k in range(d):
            r[k] -= w0 * s0[k]
        i += 1


@jit(inline="always")
def keep_factor(row, a, fit, work):
    """Keep the factor of an active set, if there is room for it."""
    factors, L, vectors = fit.factors, work.L, work.vectors
    fit.nodes[FACTOR, row] = -1
    if a * (a + 5) // 2 > factors.shape[1]:
        return
    p = 0
    for i in range(a):
        if vectors[W_ACTIVE, i] == 0.0:
            return
        for m in range(i + 1):
            factors[row, p] = L[i, m]
            p += 1
        factors[row, p] = vectors[Z, i]
        factors[row, p + 1] = vectors[Y, i]
        p += 2
    fit.nodes[FACTOR, row] = a


@jit(inline="always")
def _load_factor(node, row, problem, fit, work):
    """Restore the active set of a row with its factor; return its size."""
    factors, L, vectors = fit.factors, work.L, work.vectors
    a = fit.nodes[FACTOR, row]
    p = 0
    for i in range(a):
        k = fit.active[row, i]
        work.idx[i] = k
        work.state[k] = 1
        value = fit.rows[COEF, row, k]
        vectors[W_ACTIVE, i] = value
        sign = 1.0 if value > 0 else -1.0
        required = problem.rules[node, k] & REQUIRED
        vectors[THETA, i] = 0.0 if required else sign * problem.penalty[k]
        for m in range(i + 1):
            L[i, m] = factors[row, p]
            p += 1
        vectors[Z, i] = factors[row, p]
        vectors[Y, i] = factors[row, p + 1]
        p += 2
    return a


@jit
def _is_candidate(k, node, limit, extra, exclude, rules, nodes):
    if k == node or not rules[node, k] & ALLOWED:
        return False
    return k == extra or (nodes[POSITION, k] < limit and k != exclude)


@jit(inline="always")
def _enter_dependent(k, theta, node, a, S, work):
    """Let k enter although it depends on the active set; return the new number of variables.

    The fit does not change along the null direction in which w_k grows and the active
    coefficients make up for it, but the norm falls until one of them is zero and leaves.
    """
    x, w, theta_active = work.vectors[SCRATCH], work.vectors[W_ACTIVE], work.vectors[THETA]
    sign = 1.0 if theta > 0 else -1.0
    value = 0.0
    while True:
        for i in range(a):
            x[i] = work.L[a, i]
        _solve_transposed(a, work.L, x)
        step, leaving = np.inf, np.int64(-1)
        for i in range(a):
            if sign * x[i] * theta_active[i] > 0:
                length = abs(w[i]) / abs(x[i])
                if length < step:
                    step, leaving = length, i
        if leaving < 0:
            # Rounding alone made it look like a violation.
            work.state[k] = 2
            return a
        for i in range(a):
            w[i] -= step * sign * x[i]
        value += step * sign
        a = _drop(leaving, a, work)
        if _extend(k, theta, node, a, S, work):
            w[a] = value
            return a + 1


@jit(inline="always")
def _start_active_set(node, row, limit, extra, exclude, problem, fit, work):
    """Factorise the required parents and those of the last solution that are still candidates.

    Returns their number, and whether nothing has changed since the solution was stored.
    """
    if fit.nodes[FACTOR, row] > 0 and fit.nodes[FACTOR, row] == fit.nodes[N_ACTIVE, row]:
        a = _load_factor(node, row, problem, fit, work)
        before = a
        for i in range(a - 1, -1, -1):
            k = work.idx[i]
            if not _is_candidate(k, node, limit, extra, exclude, problem.rules, fit.nodes):
                a = _drop(i, a, work)
        return a, a == before
    a = np.int64(0)
    S, rules, w = problem.S, problem.rules, work.vectors[W_ACTIVE]
    if rules[node, node] & REQUIRED:
        for k in range(len(S)):
            if k != node and rules[node, k] & REQUIRED and _extend(k, 0.0, node, a, S, work):
                w[a] = fit.rows[COEF, row, k]
                a += 1
    for i in range(fit.nodes[N_ACTIVE, row]):
        k = fit.active[row, i]
        if work.state[k] == 0 and _is_candidate(k, node, limit, extra, exclude, rules, fit.nodes):
            value = fit.rows[COEF, row, k]
            theta = problem.penalty[k] if value > 0 else -problem.penalty[k]
            if value != 0 and _extend(k, theta, node, a, S, work):
                w[a] = value
                a += 1
    return a, False


@jit
def lasso_node(node, row, limit, extra, exclude, shared, problem, fit, work):
    """Square-root lasso of a node, or lasso at a shared scale; see the top of this file."""
    S, penalty = problem.S, problem.penalty
    alpha, floor = problem.params[ALPHA], problem.params[FLOOR]
    vectors, idx, state, L = work.vectors, work.idx, work.state, work.L
    z, y, theta = vectors[Z], vectors[Y], vectors[THETA]
    w, x, r = vectors[W_ACTIVE], vectors[SCRATCH], vectors[R_ACTIVE]
    d = len(S)
    fit.counts[0] += 1
    variance = S[node, node]
    a, intact = _start_active_set(node, row, limit, extra, exclude, problem, fit, work)
    if shared > 0.0 and fit.numbers[row, SCALE] != shared:
        intact = False
    newcomer = np.int64(-1)
    converged = False
    scale = shared
    explained = yy = 0.0
    for _ in range(20 * d + 100):
        explained = yy = 0.0
        for i in range(a):
            explained += z[i] * z[i]
            yy += y[i] * y[i]
        if intact:
            # Optimal for the candidates of last time: only a new one can change anything.
            intact = False
            scale = fit.numbers[row, SCALE]
            t = alpha * scale
            for k in range(d):
                r[k] = fit.rows[RESIDUAL, row, k]
        else:
            left = max(variance - explained, 0.0)
            bounded = True
            if shared <= 0.0:
                share = 1.0 - alpha * alpha * yy
                bounded = share > 1e-12
                if bounded:
                    scale = max(np.sqrt(left / share), floor)
            t = alpha * scale
            for i in range(a):
                # Without a bound, the criterion falls along -S_PP^-1 theta until a weight is zero.
                x[i] = z[i] - t * y[i] if bounded else -y[i]
            _solve_transposed(a, L, x)
            step, leaving = (1.0 if bounded else np.inf), np.int64(-1)
            for i in range(a):
                if bounded:
                    x[i] -= w[i]
                if theta[i] != 0.0 and x[i] * theta[i] < 0.0 and -w[i] / x[i] < step:
                    step, leaving = -w[i] / x[i], i
            if leaving < 0 and not bounded:
                break
            for i in range(a):
                w[i] += step * x[i]
            if leaving >= 0:
                k = idx[leaving]
                a = _drop(leaving, a, work)
                if k == newcomer:
                    # It entered and left at once: its violation was rounding.
                    state[k] = 2
                newcomer = np.int64(-1)
                continue
            _residual(node, a, S, idx, w, r)
        worst, newcomer = 0.0, np.int64(-1)
        for k in range(d):
            excess = abs(r[k]) - t * penalty[k] * (1.0 + SLACK)
            if excess > 0.0 and state[k] == 0:
                size = np.sqrt(S[k, k])
                excess = excess / size - NOISE * np.sqrt(variance)
                if excess > worst and _is_candidate(
                    k, node, limit, extra, exclude, problem.rules, fit.nodes
                ):
                    worst, newcomer = excess, k
        if newcomer < 0:
            converged = True
            break
        sign = penalty[newcomer] if r[newcomer] > 0 else -penalty[newcomer]
        if _extend(newcomer, sign, node, a, S, work):
            w[a] = 0.0
            a += 1
        else:
            a = _enter_dependent(newcomer, sign, node, a, S, work)
            newcomer = np.int64(-1)
    norm = 0.0
    for i in range(a):
        norm += abs(theta[i] * w[i])
    if converged:
        q = max(variance - explained, 0.0) + (alpha * scale) ** 2 * yy
    else:
        _residual(node, a, S, idx, w, r)
        q = variance
        for i in range(a):
            q -= w[i] * (S[idx[i], node] + r[idx[i]])
        q = max(q, 0.0)
        if shared <= 0.0:
            scale = max(np.sqrt(q), floor)
        fit.counts[1] += 1
    for k in range(d):
        state[k] = 0
    out = vectors[OUT]
    out[Q] = q
    out[NORM] = norm
    out[SCALE] = scale
    out[COST] = 0.5 * q / scale + alpha * norm
    if shared <= 0.0:
        out[COST] += 0.5 * scale
    out[CURVATURE] = yy
    return a
