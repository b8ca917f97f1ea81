"""Loops of the order search: one node given its candidate parents, and moves of a node.

`nobody` is np.int64(-1) because numba compiles a function once more for a literal argument.

Everything works on a covariance S. Rows of the solution belong to nodes as targets; two more rows
serve as scratch space.

The regression of a node, min over w and s of q(w) / (2 s) + s / 2 + alpha ||w||_1 with
q(w) = (e_j - w)' S (e_j - w), is solved by a primal active-set method. On an active set P with
penalty signs theta, S_PP = L L', the minimiser is w = L^-T (z - t y) for z = L^-1 S_Pj,
y = L^-1 theta and t = alpha s; there q = S_jj - z'z + t^2 y'y, so that the best scale is
s^2 = (S_jj - z'z) / (1 - alpha^2 y'y). Rows and rotations of the factor act on z and y too.
"""

from collections import namedtuple

import numpy as np

from sparsestat.dag._kernels_bic import bic_node
from sparsestat.utils._numba import jit

Problem = namedtuple("Problem", ["S", "rules", "penalty", "params"])
"""What is to be solved.

S (d, d); rules (d, d) by [child, parent], the sum of `ALLOWED`, `REQUIRED` and `PRECEDES` (the
parent stays before the child), on the diagonal `REQUIRED` if the child has a required parent;
penalty (d,) factors of a parent; params (4,) by the names below.
"""

Fit = namedtuple("Fit", ["rows", "active", "numbers", "nodes", "trials", "stamps", "counts"])
"""The current solution.

rows (3, d + 2, d): `COEF` by [target, parent], `RESIDUAL` covariances of the residual of the target
with every variable and `CONDITIONAL` variances given its parents (for the information criterion);
active (d + 2, d) parents; numbers (d + 2, 5) and nodes (4, d + 2) by the names below; trials (d, d)
change of the cost of u when v joins or leaves its candidates, valid while stamps[u, v] equals the
time `CHANGED` of u; counts (3,): node regressions, of which not converged, and the clock.
"""

Work = namedtuple("Work", ["L", "vectors", "idx", "state"])
"""Scratch space of one node regression, and its result.

L (d, d), vectors (7, d or more) by the names below, idx (d,) active variables, state (d,).
Few arrays, as numba spends time on each of them in every function.
"""

ALLOWED, REQUIRED, PRECEDES = 1, 2, 4
"""Bits of `rules`."""

ALPHA, FLOOR, N_SAMPLES, CRITERION = 0, 1, 2, 3
"""Entries of `params`: penalty strength, least scale, number of samples, one of the criteria."""

EQUAL, UNEQUAL, BIC_EQUAL, BIC_UNEQUAL = 0, 1, 2, 3
"""Criteria: scales shared or profiled out, penalty l1 or the number of parents."""

Q, NORM, SCALE, COST, CURVATURE = 0, 1, 2, 3, 4
"""Columns of `numbers`: residual variance, penalised norm, scale, cost, y'y."""

COEF, RESIDUAL, CONDITIONAL = 0, 1, 2
"""First index of `rows`."""

ORDER, POSITION, CHANGED, N_ACTIVE = 0, 1, 2, 3
"""Rows of `nodes`: the order, its inverse, time of the last change, number of parents."""

_Z, _Y, _THETA, _W, _X, _R, _OUT = 0, 1, 2, 3, 4, 5, 6

_SINGULAR = 1e-11
_SLACK = 1e-9
_NOISE = 1e-14


@jit
def _extend(k, theta, node, a, S, work):
    """Append k to the active set; False, with L^-1 S_Pk in row a, if it depends on the set."""
    L, vectors, idx = work.L, work.vectors, work.idx
    pivot, zk, yk = S[k, k], S[k, node], theta
    for i in range(a):
        value = S[k, idx[i]]
        for m in range(i):
            value -= L[i, m] * L[a, m]
        value /= L[i, i]
        L[a, i] = value
        pivot -= value * value
        zk -= value * vectors[_Z, i]
        yk -= value * vectors[_Y, i]
    if pivot <= _SINGULAR * S[k, k]:
        return False
    root = np.sqrt(pivot)
    L[a, a] = root
    vectors[_Z, a] = zk / root
    vectors[_Y, a] = yk / root
    vectors[_THETA, a] = theta
    idx[a] = k
    work.state[k] = 1
    return True


@jit
def _drop(m, a, work):
    """Remove the m-th of a active variables by Givens rotations; return their new number."""
    L, vectors, idx = work.L, work.vectors, work.idx
    work.state[idx[m]] = 0
    for i in range(m + 1, a):
        for k in range(i + 1):
            L[i - 1, k] = L[i, k]
        idx[i - 1] = idx[i]
        vectors[_THETA, i - 1] = vectors[_THETA, i]
        vectors[_W, i - 1] = vectors[_W, i]
    for i in range(m, a - 1):
        f, g = L[i, i], L[i, i + 1]
        length = np.hypot(f, g)
        c, s = f / length, g / length
        L[i, i] = length
        for k in range(i + 1, a - 1):
            f, g = L[k, i], L[k, i + 1]
            L[k, i] = c * f + s * g
            L[k, i + 1] = c * g - s * f
        for name in (_Z, _Y):
            f, g = vectors[name, i], vectors[name, i + 1]
            vectors[name, i] = c * f + s * g
            vectors[name, i + 1] = c * g - s * f
    return a - 1


@jit
def _solve_transposed(a, L, x):
    """Overwrite x by L^-T x, row by row of L so that the loops are contiguous."""
    for i in range(a - 1, -1, -1):
        value = x[i] / L[i, i]
        x[i] = value
        for m in range(i):
            x[m] -= L[i, m] * value


@jit
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


@jit
def _is_candidate(k, node, limit, extra, exclude, rules, nodes):
    if k == node or not rules[node, k] & ALLOWED:
        return False
    return k == extra or (nodes[POSITION, k] < limit and k != exclude)


@jit
def _enter_dependent(k, theta, node, a, S, work):
    """Let k enter although it depends on the active set; return the new number of variables.

    The fit does not change along the null direction in which w_k grows and the active
    coefficients make up for it, but the norm falls until one of them is zero and leaves.
    """
    x, w, theta_active = work.vectors[_X], work.vectors[_W], work.vectors[_THETA]
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


@jit
def _start_active_set(node, row, limit, extra, exclude, problem, fit, work):
    """Factorise the required parents and those of the last solution that are still candidates."""
    a = np.int64(0)
    S, rules, w = problem.S, problem.rules, work.vectors[_W]
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
    return a


@jit
def _lasso_node(node, row, limit, extra, exclude, shared, problem, fit, work):
    """Square-root lasso of a node, or lasso at a shared scale; see the top of this file."""
    S, penalty = problem.S, problem.penalty
    alpha, floor = problem.params[ALPHA], problem.params[FLOOR]
    vectors, idx, state, L = work.vectors, work.idx, work.state, work.L
    z, y, theta = vectors[_Z], vectors[_Y], vectors[_THETA]
    w, x, r = vectors[_W], vectors[_X], vectors[_R]
    d = len(S)
    variance = S[node, node]
    a = _start_active_set(node, row, limit, extra, exclude, problem, fit, work)
    newcomer = np.int64(-1)
    converged = False
    scale = shared
    explained = yy = 0.0
    for _ in range(20 * d + 100):
        explained = yy = 0.0
        for i in range(a):
            explained += z[i] * z[i]
            yy += y[i] * y[i]
        left = max(variance - explained, 0.0)
        bounded = True
        if shared <= 0.0:
            share = 1.0 - alpha * alpha * yy
            bounded = share > 1e-12
            if bounded:
                scale = max(np.sqrt(left / share), floor)
        t = alpha * scale
        if bounded:
            for i in range(a):
                x[i] = z[i] - t * y[i]
            _solve_transposed(a, L, x)
            for i in range(a):
                x[i] -= w[i]
        else:
            # The criterion falls along -S_PP^-1 theta for ever, until a coefficient is zero.
            for i in range(a):
                x[i] = -y[i]
            _solve_transposed(a, L, x)
        step, leaving = (1.0 if bounded else np.inf), np.int64(-1)
        for i in range(a):
            if theta[i] != 0.0 and x[i] * theta[i] < 0.0:
                length = -w[i] / x[i]
                if length < step:
                    step, leaving = length, i
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
            excess = abs(r[k]) - t * penalty[k] * (1.0 + _SLACK)
            if excess > 0.0 and state[k] == 0:
                size = np.sqrt(S[k, k])
                excess = excess / size - _NOISE * np.sqrt(variance)
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
    out = vectors[_OUT]
    out[Q] = q
    out[NORM] = norm
    out[SCALE] = scale
    out[COST] = 0.5 * q / scale + alpha * norm
    if shared <= 0.0:
        out[COST] += 0.5 * scale
    out[CURVATURE] = yy
    return a


@jit
def _solve_node(node, row, limit, extra, exclude, shared, problem, fit, work):
    """Regress a node on its candidates, beginning with the solution in a row of the fit."""
    fit.counts[0] += 1
    if problem.params[CRITERION] <= UNEQUAL:
        return _lasso_node(node, row, limit, extra, exclude, shared, problem, fit, work)
    return bic_node(node, row, limit, extra, exclude, shared, problem, fit, work)


@jit
def _store(row, a, problem, fit, work):
    """Keep the result of a node regression."""
    rows, vectors = fit.rows, work.vectors
    for i in range(fit.nodes[N_ACTIVE, row]):
        rows[COEF, row, fit.active[row, i]] = 0.0
    for i in range(a):
        k = work.idx[i]
        fit.active[row, i] = k
        rows[COEF, row, k] = vectors[_W, i]
    fit.nodes[N_ACTIVE, row] = a
    # Slice assignments would have numba compile their error messages, which takes seconds.
    for k in range(len(problem.S)):
        rows[RESIDUAL, row, k] = vectors[_R, k]
        rows[CONDITIONAL, row, k] = vectors[_X, k]
    for i in range(CURVATURE + 1):
        fit.numbers[row, i] = vectors[_OUT, i]


@jit
def _copy(source, target, fit):
    """Copy a solution from one row to another."""
    rows, nodes = fit.rows, fit.nodes
    for i in range(nodes[N_ACTIVE, target]):
        rows[COEF, target, fit.active[target, i]] = 0.0
    for i in range(nodes[N_ACTIVE, source]):
        k = fit.active[source, i]
        fit.active[target, i] = k
        rows[COEF, target, k] = rows[COEF, source, k]
    nodes[N_ACTIVE, target] = nodes[N_ACTIVE, source]
    for k in range(rows.shape[2]):
        rows[RESIDUAL, target, k] = rows[RESIDUAL, source, k]
        rows[CONDITIONAL, target, k] = rows[CONDITIONAL, source, k]
    for i in range(CURVATURE + 1):
        fit.numbers[target, i] = fit.numbers[source, i]


@jit
def _would_enter(row, node, k, problem, fit):
    """Whether a new candidate k would change the solution in a row at all."""
    if not problem.rules[node, k] & ALLOWED:
        return False
    S, params = problem.S, problem.params
    r, scale = abs(fit.rows[RESIDUAL, row, k]), fit.numbers[row, SCALE]
    if params[CRITERION] <= UNEQUAL:
        t = params[ALPHA] * scale * problem.penalty[k]
        return r > t * (1.0 + _SLACK) + _NOISE * np.sqrt(S[k, k] * S[node, node])
    v = fit.rows[CONDITIONAL, row, k]
    if v <= 1e-10 * S[k, k]:
        return False
    gain = r * r / v
    if params[CRITERION] == BIC_EQUAL:
        return 0.5 * params[N_SAMPLES] * gain / scale**2 > params[ALPHA]
    q = max(fit.numbers[row, Q], params[FLOOR] ** 2)
    return gain >= q or -0.5 * params[N_SAMPLES] * np.log1p(-gain / q) > params[ALPHA]


@jit
def fit_order(start, stop, shared, problem, fit, work):
    """Regress the nodes at a range of positions on those before them."""
    nobody = np.int64(-1)
    for i in range(start, stop):
        node = fit.nodes[ORDER, i]
        a = _solve_node(node, node, i, nobody, nobody, shared, problem, fit, work)
        _store(node, a, problem, fit, work)
        fit.counts[2] += 1
        fit.nodes[CHANGED, node] = fit.counts[2]


@jit
def _change_of(u, v, joins, shared, problem, fit, work):
    """Change of the cost of u when v joins, or leaves, its candidates."""
    if joins:
        if not _would_enter(u, u, v, problem, fit):
            return 0.0
    elif fit.rows[COEF, u, v] == 0.0:
        return 0.0
    if fit.stamps[u, v] == fit.nodes[CHANGED, u]:
        return fit.trials[u, v]
    nobody = np.int64(-1)
    extra, exclude = (v, nobody) if joins else (nobody, v)
    _solve_node(u, u, fit.nodes[POSITION, u], extra, exclude, shared, problem, fit, work)
    change = work.vectors[_OUT, COST] - fit.numbers[u, COST]
    fit.trials[u, v] = change
    fit.stamps[u, v] = fit.nodes[CHANGED, u]
    return change


@jit
def _scan(v, window, shared, problem, fit, work):
    """Best new position of v and its change of the cost; its solution there is in the last row."""
    d = len(problem.S)
    here, best = d, d + 1
    nobody = np.int64(-1)
    nodes, rules = fit.nodes, problem.rules
    p = nodes[POSITION, v]
    cost = fit.numbers[v, COST]
    best_change, best_position = 0.0, p
    for direction in (-1, 1):
        _copy(v, here, fit)
        others = 0.0
        t = p + direction
        while 0 <= t < d and abs(t - p) <= window:
            u = nodes[ORDER, t]
            joins = direction < 0
            if (rules[v, u] if joins else rules[u, v]) & PRECEDES:
                break
            others += _change_of(u, v, joins, shared, problem, fit, work)
            if joins:
                changed = fit.rows[COEF, here, u] != 0.0
                limit = t
            else:
                changed = _would_enter(here, v, u, problem, fit)
                limit = t + 1
            if changed:
                a = _solve_node(v, here, limit, nobody, nobody, shared, problem, fit, work)
                _store(here, a, problem, fit, work)
            change = others + fit.numbers[here, COST] - cost
            if change < best_change:
                best_change, best_position = change, t
                _copy(here, best, fit)
            t += direction
    return best_change, best_position


@jit
def _move(v, target, shared, problem, fit, work):
    """Put v at another position, with the solution that `_scan` left, and refit who is passed."""
    nobody = np.int64(-1)
    nodes = fit.nodes
    p = nodes[POSITION, v]
    direction = -1 if target < p else 1
    _copy(len(problem.S) + 1, v, fit)
    t = p
    while t != target:
        u = nodes[ORDER, t + direction]
        nodes[ORDER, t] = u
        nodes[POSITION, u] = t
        t += direction
    nodes[ORDER, target] = v
    nodes[POSITION, v] = target
    fit.counts[2] += 1
    nodes[CHANGED, v] = fit.counts[2]
    t = p
    while t != target:
        u = nodes[ORDER, t]
        if direction < 0:
            changed = _would_enter(u, u, v, problem, fit)
        else:
            changed = fit.rows[COEF, u, v] != 0.0
        if changed:
            a = _solve_node(u, u, t, nobody, nobody, shared, problem, fit, work)
            _store(u, a, problem, fit, work)
        nodes[CHANGED, u] = fit.counts[2]
        t += direction


@jit
def _last_change(v, d, window, nodes):
    """When the candidates or the solution of a node within reach of v last changed."""
    p = nodes[POSITION, v]
    last = np.int64(0)
    for t in range(max(0, p - window), min(d, p + window + 1)):
        last = max(last, nodes[CHANGED, nodes[ORDER, t]])
    return last


@jit
def sweep(visits, start, window, budget, least, shared, problem, fit, work, seen):
    """Move nodes to their best positions, one after another.

    Parameters: visits (d,) the nodes in the order of their turns; start the turn to begin with;
    budget the number of node regressions after which to return; least the smallest gain that
    counts as one; seen (d,) the clock at the last fruitless turn of a node.

    Returns the next turn, the number of moves and the gain.
    """
    first = fit.counts[0]
    moves, gain = 0, 0.0
    turn = start
    while turn < len(visits) and fit.counts[0] - first < budget:
        v = visits[turn]
        turn += 1
        if seen[v] >= _last_change(v, len(visits), window, fit.nodes):
            continue
        change, target = _scan(v, window, shared, problem, fit, work)
        if change < -least:
            _move(v, target, shared, problem, fit, work)
            moves += 1
            gain -= change
        else:
            seen[v] = fit.counts[2]
    return turn, moves, gain


@jit
def min_pivot_order(S, rules, order, M):
    """Order variables by repeatedly taking the one with the least variance given those taken.

    A variable that has become a combination of others is left out. order (d,) receives the
    result, rules are those of `Problem`, M (d, d) is scratch. Returns the number taken.
    """
    d = len(S)
    left = np.empty(d)
    state = np.zeros(d, dtype=np.int8)
    for k in range(d):
        left[k] = S[k, k]
    taken = 0
    while taken < d:
        best = -1
        for k in range(d):
            if state[k] == 0:
                if left[k] <= 1e-10 * S[k, k]:
                    state[k] = 2
                elif best < 0 or left[k] < left[best]:
                    blocked = False
                    for m in range(d):
                        if state[m] == 0 and rules[k, m] & PRECEDES:
                            blocked = True
                            break
                    if not blocked:
                        best = k
        if best < 0:
            break
        state[best] = 1
        row = M[taken]
        for k in range(d):
            row[k] = S[best, k]
        for m in range(taken):
            factor = M[m, best]
            for k in range(d):
                row[k] -= factor * M[m, k]
        root = np.sqrt(left[best])
        for k in range(d):
            row[k] /= root
            if state[k] == 0:
                left[k] -= row[k] * row[k]
        order[taken] = best
        taken += 1
    return taken
