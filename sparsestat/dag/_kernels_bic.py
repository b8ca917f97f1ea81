"""Parents of one node by an information criterion: greedy growing and shrinking.

The cost of node j with parents P is n log s_j + strength |P| with s_j^2 the residual variance, or
n s_j^2 / (2 s^2) + strength |P| at a shared scale s. The rows of M = L^-1 S_P, where S_PP = L L',
give for every candidate k its covariance with the residual and its variance given P at once.
"""

import numpy as np

from sparsestat.dag._state import (
    ALLOWED,
    ALPHA,
    COST,
    CURVATURE,
    FLOOR,
    N_ACTIVE,
    N_SAMPLES,
    NORM,
    OUT,
    POSITION,
    R_ACTIVE,
    REQUIRED,
    SCALE,
    SCRATCH,
    THETA,
    W_ACTIVE,
    Q,
    Y,
    Z,
)
from sparsestat.utils._numba import jit

_SINGULAR = 1e-10


@jit
def _append(k, a, S, work, c, v):
    """Add parent k: one more row of M, and the residual without what k explains."""
    M = work.L
    row = M[a]
    d = len(S)
    for i in range(d):
        row[i] = S[k, i]
    for m in range(a):
        factor = M[m, k]
        for i in range(d):
            row[i] -= factor * M[m, i]
    root = np.sqrt(v[k])
    share = c[k] / root
    for i in range(d):
        row[i] /= root
        c[i] -= share * row[i]
        v[i] -= row[i] * row[i]
    work.vectors[Z, a] = share
    work.idx[a] = k
    work.state[k] = 1
    return share * share


@jit
def _coefficients(a, work, inverse_diagonal):
    """Regression coefficients, and the diagonal of S_PP^-1, by back substitution."""
    M, z, w, idx = work.L, work.vectors[Z], work.vectors[W_ACTIVE], work.idx
    for i in range(a - 1, -1, -1):
        value = z[i]
        for m in range(i + 1, a):
            value -= M[i, idx[m]] * w[m]
        w[i] = value / M[i, idx[i]]
    # S_PP^-1 = U^-1 U^-T with U[i, m] = M[i, idx[m]]; its diagonal: rows of U^-1, squared.
    column = work.vectors[Y]
    for i in range(a):
        inverse_diagonal[i] = 0.0
    for j in range(a):
        for i in range(j, -1, -1):
            value = 1.0 if i == j else 0.0
            for m in range(i + 1, j + 1):
                value -= M[i, idx[m]] * column[m]
            column[i] = value / M[i, idx[i]]
            inverse_diagonal[i] += column[i] * column[i]


@jit
def _rise(q, change, shared, n_samples, floor):
    """Change of the cost, without the penalty, when the residual variance changes."""
    if shared > 0.0:
        return 0.5 * n_samples * change / shared**2
    return 0.5 * n_samples * np.log(max(q + change, floor**2) / max(q, floor**2))


@jit
def bic_node(node, row, limit, extra, exclude, shared, problem, fit, work):
    """Grow and shrink the parents of a node until neither lowers its cost."""
    S, rules, params, position = problem.S, problem.rules, problem.params, fit.nodes[POSITION]
    strength, floor, n_samples = params[ALPHA], params[FLOOR], params[N_SAMPLES]
    state, idx, vectors = work.state, work.idx, work.vectors
    w, c, v, inverse_diagonal = (
        vectors[W_ACTIVE],
        vectors[R_ACTIVE],
        vectors[SCRATCH],
        vectors[THETA],
    )
    d = len(S)
    fit.counts[0] += 1
    # Parents to begin with, in state: 3.
    for i in range(fit.nodes[N_ACTIVE, row]):
        k = fit.active[row, i]
        if rules[node, k] & ALLOWED and (k == extra or (position[k] < limit and k != exclude)):
            state[k] = 3
    if rules[node, node] & REQUIRED:
        for k in range(d):
            if k != node and rules[node, k] & REQUIRED:
                state[k] = 3
    a = np.int64(0)
    q = S[node, node]
    for _ in range(2 * d + 10):
        a = np.int64(0)
        q = S[node, node]
        for k in range(d):
            c[k] = S[node, k]
            v[k] = S[k, k]
        for k in range(d):
            if state[k] == 3 and v[k] > _SINGULAR * S[k, k]:
                q -= _append(k, a, S, work, c, v)
                a += 1
        while True:
            best, gain = np.int64(-1), 0.0
            for k in range(d):
                if (
                    state[k] == 0
                    and k != node
                    and rules[node, k] & ALLOWED
                    and v[k] > _SINGULAR * S[k, k]
                    and (k == extra or (position[k] < limit and k != exclude))
                    and c[k] * c[k] / v[k] > gain
                ):
                    best, gain = k, c[k] * c[k] / v[k]
            if best < 0 or _rise(q, -gain, shared, n_samples, floor) + strength >= -1e-9:
                break
            q -= _append(best, a, S, work, c, v)
            a += 1
        _coefficients(a, work, inverse_diagonal)
        worst, least = -1, np.inf
        for i in range(a):
            rise = w[i] * w[i] / inverse_diagonal[i]
            if rise < least and not rules[node, idx[i]] & REQUIRED:
                worst, least = i, rise
        if worst < 0 or _rise(q, least, shared, n_samples, floor) - strength >= -1e-9:
            break
        for i in range(a):
            state[idx[i]] = 3
        state[idx[worst]] = 0
    for k in range(d):
        state[k] = 0
    q = max(q, 0.0)
    scale = shared if shared > 0.0 else max(np.sqrt(q), floor)
    n_free = 0
    for i in range(a):
        if not rules[node, idx[i]] & REQUIRED:
            n_free += 1
    out = vectors[OUT]
    out[Q] = q
    out[NORM] = n_free
    out[SCALE] = scale
    if shared > 0.0:
        out[COST] = 0.5 * n_samples * q / shared**2 + strength * n_free
    else:
        out[COST] = n_samples * np.log(scale) + strength * n_free
    out[CURVATURE] = 0.0
    return a
