"""Loops of the order search: prices of moves, bounds of them, and the moves themselves.

`nobody` is np.int64(-1) because numba compiles a function once more for a literal argument.
"""

import numpy as np
from numba.extending import overload

from sparsestat.dag._kernels_bic import bic_node
from sparsestat.dag._kernels_node import NOISE, SINGULAR, SLACK, keep_factor, lasso_node
from sparsestat.dag._state import (
    ALLOWED,
    ALPHA,
    BIC_EQUAL,
    CHANGED,
    COEF,
    CONDITIONAL,
    COST,
    CRITERION,
    CURVATURE,
    FACTOR,
    FLOOR,
    N_ACTIVE,
    N_SAMPLES,
    NORM,
    ORDER,
    OUT,
    POSITION,
    PRECEDES,
    R_ACTIVE,
    RESIDUAL,
    SCALE,
    SCRATCH,
    UNEQUAL,
    W_ACTIVE,
    ParentCountProblem,
    Q,
)
from sparsestat.utils._numba import jit


def solve_node(node, row, limit, extra, exclude, shared, problem, fit, work):
    """Regress a node on its candidates, beginning with the solution in a row of the fit.

    Which way is known by the type of the problem.
    """
    raise NotImplementedError("for compiled code")


@overload(solve_node, inline="always")
def _choose_regression(node, row, limit, extra, exclude, shared, problem, fit, work):
    # Not by a branch, which would have everyone compile what few will use.
    if problem.instance_class is ParentCountProblem:

        def regress(node, row, limit, extra, exclude, shared, problem, fit, work):
            return bic_node(node, row, limit, extra, exclude, shared, problem, fit, work)

    else:

        def regress(node, row, limit, extra, exclude, shared, problem, fit, work):
            return lasso_node(node, row, limit, extra, exclude, shared, problem, fit, work)

    return regress


@jit
def _store(row, a, problem, fit, work):
    """Keep the result of a node regression."""
    rows, vectors = fit.rows, work.vectors
    for i in range(fit.nodes[N_ACTIVE, row]):
        rows[COEF, row, fit.active[row, i]] = 0.0
    for i in range(a):
        k = work.idx[i]
        fit.active[row, i] = k
        rows[COEF, row, k] = vectors[W_ACTIVE, i]
    fit.nodes[N_ACTIVE, row] = a
    if problem.params[CRITERION] <= UNEQUAL:
        keep_factor(row, a, fit, work)
    # Slice assignments would have numba compile their error messages, which takes seconds.
    for k in range(len(problem.S)):
        rows[RESIDUAL, row, k] = vectors[R_ACTIVE, k]
        rows[CONDITIONAL, row, k] = vectors[SCRATCH, k]
    for i in range(CURVATURE + 1):
        fit.numbers[row, i] = vectors[OUT, i]


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
    a = nodes[N_ACTIVE, source]
    nodes[N_ACTIVE, target] = a
    nodes[FACTOR, target] = nodes[FACTOR, source]
    if nodes[FACTOR, source] == a:
        for i in range(a * (a + 5) // 2):
            fit.factors[target, i] = fit.factors[source, i]
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
        return r > t * (1.0 + SLACK) + NOISE * np.sqrt(S[k, k] * S[node, node])
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
        a = solve_node(node, node, i, nobody, nobody, shared, problem, fit, work)
        _store(node, a, problem, fit, work)
        fit.counts[2] += 1
        fit.nodes[CHANGED, node] = fit.counts[2]


@jit(inline="always")
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
    solve_node(u, u, fit.nodes[POSITION, u], extra, exclude, shared, problem, fit, work)
    change = work.vectors[OUT, COST] - fit.numbers[u, COST]
    fit.trials[u, v] = change
    fit.stamps[u, v] = fit.nodes[CHANGED, u]
    return change


@jit
def _violation(u, k, problem, fit):
    """By how much the scaled residual of u leaves the limit for a new candidate k, with sign."""
    if not problem.rules[u, k] & ALLOWED:
        return 0.0
    r = fit.rows[RESIDUAL, u, k] / fit.numbers[u, SCALE]
    limit = problem.params[ALPHA] * problem.penalty[k]
    return np.sign(r) * max(abs(r) - limit, 0.0)


@jit
def _gain_bound(u, excess, correction, shared, problem, fit):
    """Bound of what new candidates can take off the cost of u.

    The scaled residual solves the dual problem. Divided by the largest `excess` of a new
    candidate over its limit it is feasible for the dual with the new ones; so it is less the
    combination of all columns that has the violations e as products with the new columns and zero
    with the others, whose squared norm is the `correction` e' S^-1 e, if S has an inverse. The
    values there bound the new cost from below.
    """
    numbers = fit.numbers[u]
    q, scale = numbers[Q], numbers[SCALE]
    linear = q / scale + problem.params[ALPHA] * numbers[NORM]
    if shared > 0.0:
        scaled = linear / excess - 0.5 * q / (scale * excess**2)
        return min(numbers[COST] - scaled, 0.5 * scale * correction)
    floor = problem.params[FLOOR]
    scaled = linear / excess - 0.5 * floor * q / (scale * excess) ** 2 + 0.5 * floor
    gain = numbers[COST] - scaled
    if scale > floor:
        gain = min(gain, numbers[COST] * (1.0 - 1.0 / np.sqrt(1.0 + correction)))
    return gain


@jit
def _gain_of_joining(u, v, shared, problem, fit):
    """Bound of what u gains if v becomes a candidate; the gain itself if it is known."""
    if fit.stamps[u, v] == fit.nodes[CHANGED, u]:
        return -fit.trials[u, v]
    e = abs(_violation(u, v, problem, fit))
    if e == 0.0:
        return 0.0
    excess = 1.0 + e / (problem.params[ALPHA] * problem.penalty[v])
    return _gain_bound(u, excess, e * e * problem.precision[v, v], shared, problem, fit)


@jit(inline="always")
def _possible_gain(v, p, end, shared, problem, fit, work):
    """Bound of what a move of v from position p to anywhere up to the end can gain.

    To the left those who are passed gain a candidate, and v only loses some; to the right it is
    the other way round. The information criterion has no such bound.
    """
    if problem.params[CRITERION] > UNEQUAL:
        return np.inf
    order = fit.nodes[ORDER]
    if end < p:
        gain = 0.0
        for t in range(end, p):
            gain += _gain_of_joining(order[t], v, shared, problem, fit)
        return gain
    idx, e = work.idx, work.vectors[SCRATCH]
    excess, n_new = 1.0, 0
    for t in range(p + 1, end + 1):
        k = order[t]
        e[n_new] = _violation(v, k, problem, fit)
        if e[n_new] != 0.0:
            limit = problem.params[ALPHA] * problem.penalty[k]
            excess = max(excess, 1.0 + abs(e[n_new]) / limit)
            idx[n_new] = k
            n_new += 1
    if n_new == 0:
        return 0.0
    correction = 0.0
    for i in range(n_new):
        row = problem.precision[idx[i]]
        for m in range(n_new):
            correction += e[i] * e[m] * row[idx[m]]
    return _gain_bound(v, excess, max(correction, 0.0), shared, problem, fit)


@jit(inline="always")
def _reach(v, direction, window, problem, fit):
    """Last position to which v may move in a direction."""
    nodes, rules = fit.nodes, problem.rules
    p = nodes[POSITION, v]
    t = p
    while 0 <= t + direction < len(problem.S) and abs(t + direction - p) <= window:
        u = nodes[ORDER, t + direction]
        if (rules[v, u] if direction < 0 else rules[u, v]) & PRECEDES:
            break
        t += direction
    return t


@jit(inline="always")
def _scan(v, window, least, shared, problem, fit, work):
    """Best new position of v and its change of the cost; its solution there is in the last row.

    A direction is left as soon as nothing better than what was found can lie ahead.
    """
    d = len(problem.S)
    here, best = d, d + 1
    nobody = np.int64(-1)
    order = fit.nodes[ORDER]
    p = fit.nodes[POSITION, v]
    cost = fit.numbers[v, COST]
    bounded = problem.params[CRITERION] <= UNEQUAL
    best_change, best_position = -least, p
    for direction in (-1, 1):
        joins = direction < 0
        end = _reach(v, direction, window, problem, fit)
        ahead = _possible_gain(v, p, end, shared, problem, fit, work)
        if -ahead >= best_change:
            continue
        _copy(v, here, fit)
        others = 0.0
        t = p
        while t != end:
            t += direction
            u = order[t]
            if joins and bounded:
                ahead -= _gain_of_joining(u, v, shared, problem, fit)
            others += _change_of(u, v, joins, shared, problem, fit, work)
            if joins:
                changed = fit.rows[COEF, here, u] != 0.0
            else:
                changed = _would_enter(here, v, u, problem, fit)
            if changed:
                limit = t if joins else t + 1
                a = solve_node(v, here, limit, nobody, nobody, shared, problem, fit, work)
                _store(here, a, problem, fit, work)
            own = fit.numbers[here, COST] - cost
            if others + own < best_change:
                best_change, best_position = others + own, t
                _copy(here, best, fit)
            # To the right `ahead` bounds all that v can gain, what it has gained included.
            if others + (own if joins else 0.0) - ahead >= best_change:
                break
    return best_change, best_position


@jit(inline="always")
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
            a = solve_node(u, u, t, nobody, nobody, shared, problem, fit, work)
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
        change, target = _scan(v, window, least, shared, problem, fit, work)
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
    result, rules are those of `LassoProblem`, M (d, d) is scratch. Returns the number taken.
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


@jit
def regress_on_support(S, support, weights, dependent, L, x):
    """Regress every column on its parents by the Cholesky factor of their covariance.

    support (d, d) and weights (d, d) by [parent, child]; dependent (d,) is set where parents
    are, numerically, combinations of each other; L (d, d) and x (d,) are scratch.
    """
    d = len(S)
    parents = np.empty(d, dtype=np.int64)
    for child in range(d):
        a = 0
        for k in range(d):
            if support[k, child]:
                parents[a] = k
                a += 1
        for i in range(a):
            k = parents[i]
            for m in range(i + 1):
                value = S[k, parents[m]]
                for n in range(m):
                    value -= L[i, n] * L[m, n]
                if m < i:
                    L[i, m] = value / L[m, m]
                else:
                    dependent[child] |= value <= SINGULAR * S[k, k]
                    L[i, i] = np.sqrt(max(value, SINGULAR * S[k, k]))
            value = S[k, child]
            for n in range(i):
                value -= L[i, n] * x[n]
            x[i] = value / L[i, i]
        for i in range(a - 1, -1, -1):
            value = x[i] / L[i, i]
            weights[parents[i], child] = value
            for m in range(i):
                x[m] -= L[i, m] * value
