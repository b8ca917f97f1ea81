"""Compiled loops of the working-set solver: coordinate descent, correlations, dual bounds.

Notation: ``cols[:m]`` are the features of the working set, ``w[:m]`` their
coefficients, ``G[:m, :m]`` their Gram matrix, ``q[:m]`` their correlations with
the residual.  ``code`` and ``params`` describe the separable penalty
(:mod:`sparsestat.penalties._codes`).  Every buffer belongs to the caller.
"""

import numpy as np

from sparsestat.penalties._kernels import (
    conjugate,
    curvature,
    dual_scale_limit,
    prox,
    pull,
    slope,
    value,
    zero_slope,
)
from sparsestat.utils._numba import jit

# Sums may be reordered so that they vectorise; NaN and infinity keep their meaning.
SUMS = {"reassoc", "contract", "nsz"}


@jit(fastmath=SUMS)
def dot(a, b):
    total = 0.0
    for i in range(a.shape[0]):
        total += a[i] * b[i]
    return total


@jit(fastmath=SUMS)
def csc_dot(data, indices, start, stop, vector):
    # Unsigned indices spare the test for negative ones, which more than doubles the speed.
    total = 0.0
    for i in range(np.uint64(start), np.uint64(stop)):
        total += data[i] * vector[np.uint64(indices[i])]
    return total


@jit(fastmath=SUMS)
def csc_subtract(data, indices, start, stop, delta, vector):
    for i in range(np.uint64(start), np.uint64(stop)):
        vector[np.uint64(indices[i])] -= delta * data[i]


# --- coordinate descent on a Gram matrix -------------------------------------------------


@jit(fastmath=SUMS)
def cd_gram(code, params, cols, G, q, w, m, price, support, max_epochs, tol):
    """Cyclic coordinate descent on ``w'Gw/2 - w'(q + Gw) + p(w)``, mostly over the support.

    An epoch over all of the working set alternates with epochs over the support.
    A correlation that is wrong by d costs the duality gap about ``d * price[k]``.
    Returns the number of epochs and whether the last one went over everything and
    left, by the size of its changes, a gap of at most about ``tol``.
    """
    size = -1
    for epoch in range(1, max_epochs + 1):
        decrease = 0.0
        excess = 0.0
        everything = size < 0
        for i in range(m if everything else size):
            k = i if everything else support[i]
            diagonal = G[k, k]
            if diagonal <= 0.0:
                continue
            old = w[k]
            new = prox(code, params, cols[k], old + q[k] / diagonal, 1.0 / diagonal)
            if new != old:
                delta = new - old
                w[k] = new
                row = G[k]
                for j in range(m):
                    q[j] -= delta * row[j]
                decrease += 0.5 * delta * delta * diagonal
                excess = max(excess, abs(delta) * diagonal * price[k])
        if everything:
            if decrease + excess <= tol:
                return epoch, True
            size = 0
            for k in range(m):
                if w[k] != 0.0:
                    support[size] = k
                    size += 1
        elif decrease + excess <= tol:
            size = -1
    return max_epochs, False


@jit
def newton_gradient(code, params, cols, q, w, support, size, rhs, bend):
    """Negative gradient and penalty curvature on the smooth piece of the support's signs."""
    for i in range(size):
        k = support[i]
        bend[i] = curvature(code, params, cols[k], w[k])
        rhs[i] = q[k] - slope(code, params, cols[k], w[k])


@jit
def gather_lower(G, support, size, bend, jitter, H, scale):
    """Lower triangle of the support's Gram matrix plus ``bend``, scaled to a unit diagonal.

    Scaled so, pivots can be compared, and ``jitter`` means the same for every column.
    """
    for j in range(size):
        diagonal = G[support[j], support[j]] + bend[j]
        scale[j] = 1.0 / np.sqrt(diagonal) if diagonal > 0.0 else 0.0
    for j in range(size):
        row = G[support[j]]
        for i in range(j + 1, size):
            H[i, j] = row[support[i]] * scale[i] * scale[j]
        H[j, j] = 1.0 + jitter


@jit(inline="always")
def _has_kink(code, params, j):
    return zero_slope(code, params, j) > 0.0 or value(code, params, j, -1.0) == np.inf


@jit
def newton_step(code, params, cols, G, q, w, m, support, size, direction, change):
    """Move along ``direction``; coefficients that would cross a kink at zero become zero.

    If that does not lower the objective, the step is taken only as far as the
    first such coefficient, which always does.  Returns the number of zeroed
    coefficients.
    """
    first = 1.0
    flips = 0
    decrease = 0.0
    for i in range(size):
        current = w[support[i]]
        j = cols[support[i]]
        change[i] = direction[i]
        if current * (current + direction[i]) <= 0.0 and _has_kink(code, params, j):
            first = min(first, -current / direction[i])
            change[i] = -current
            flips += 1
        decrease += value(code, params, j, current)
        decrease -= value(code, params, j, current + change[i])
        decrease += 0.5 * change[i] * q[support[i]]
    _move(G, q, w, m, support, size, change, 1.0)
    for i in range(size):
        decrease += 0.5 * change[i] * q[support[i]]
    if flips > 0 and decrease < 0.0:
        _move(G, q, w, m, support, size, change, -1.0)
        for i in range(size):
            current = w[support[i]]
            change[i] = first * direction[i]
            if (
                current * (current + direction[i]) <= 0.0
                and -current / direction[i] == first
                and _has_kink(code, params, cols[support[i]])
            ):
                change[i] = -current
        _move(G, q, w, m, support, size, change, 1.0)
    return flips


@jit(fastmath=SUMS)
def _move(G, q, w, m, support, size, change, sign):
    for i in range(size):
        delta = sign * change[i]
        k = support[i]
        w[k] += delta
        row = G[k]
        for j in range(m):
            q[j] -= delta * row[j]


@jit
def gram_gap(code, params, cols, G, q0, q, w, m, yy):
    """Duality gap of the problem restricted to the working set, from its Gram matrix."""
    penalty = 0.0
    fitted_y = 0.0
    fitted_q = 0.0
    for k in range(m):
        if w[k] != 0.0:
            penalty += value(code, params, cols[k], w[k])
            fitted_y += w[k] * q0[k]
            fitted_q += w[k] * q[k]
    rr = max(yy - fitted_y - fitted_q, 0.0)
    bound = dual_bound(code, params, cols, q, m, yy - fitted_y, rr, np.inf)
    gap = 0.5 * rr + penalty - bound
    y_norm = np.sqrt(yy)
    for k in range(m):
        if G[k, k] > 0.0:
            gap += unpenalised_slack(code, params, cols[k], w[k], q[k], y_norm / np.sqrt(G[k, k]))
    return gap


# --- coordinate descent on the residual --------------------------------------------------


@jit(fastmath=SUMS)
def subtract_columns(XT, data, indices, indptr, cols, change, members, size, residual):
    """``residual -= X[:, cols[members]] @ change``."""
    dense = XT.shape[0] > 0
    for i in range(size):
        delta = change[i]
        if delta == 0.0:
            continue
        j = cols[members[i]]
        if dense:
            row = XT[j]
            for l in range(row.shape[0]):
                residual[l] -= delta * row[l]
        else:
            csc_subtract(data, indices, indptr[j], indptr[j + 1], delta, residual)


@jit(inline="always")
def _is_far(offset, total_weight, squared_norm):
    return offset * offset * total_weight > 1e4 * squared_norm


@jit(fastmath=SUMS)
def add_multiple(factor, vector, out):
    for l in range(out.shape[0]):
        out[l] += factor * vector[l]


@jit(fastmath=SUMS)
def cd_residual(
    code,
    params,
    cols,
    w,
    m,
    XT,
    data,
    indices,
    indptr,
    offsets,
    roots,
    total_weight,
    norms,
    residual,
    trial_residual,
    history,
    normal,
    price,
    support,
    max_epochs,
    tol,
):
    """Cyclic coordinate descent with Anderson extrapolation, the residual being maintained.

    When X is sparse its columns are centred implicitly.  The residual is centred
    before and after; meanwhile the part ``t * v`` of it is left out, where t is the
    sum of offsets times the changes of w, and v are the square roots of the sample
    weights, whose squared norm is ``total_weight``.  Since the true residual is
    orthogonal to v, its squared norm is ``||residual||^2 - total_weight * t^2``.
    Columns whose mean is far from zero are subtracted centred, since what is left out
    for them would swamp the rest.

    A correlation that is wrong by d costs the duality gap about ``d * price[k]``.
    Returns the number of epochs and whether the last one went over everything and
    left, by the size of its changes, a gap of at most about ``tol``.
    """
    dense = XT.shape[0] > 0
    memory = history.shape[0] - 1
    change = history[memory]
    t = 0.0
    size = -1
    stored = 0
    for epoch in range(1, max_epochs + 1):
        decrease = 0.0
        excess = 0.0
        everything = size < 0
        for i in range(m if everything else size):
            k = i if everything else support[i]
            j = cols[k]
            norm = norms[j] * norms[j]
            if norm <= 0.0:
                continue
            if dense:
                correlation = dot(XT[j], residual)
            else:
                correlation = csc_dot(data, indices, indptr[j], indptr[j + 1], residual)
                if _is_far(offsets[j], total_weight, norm):
                    correlation -= offsets[j] * dot(roots, residual)
                else:
                    correlation += offsets[j] * total_weight * t
            old = w[k]
            new = prox(code, params, j, old + correlation / norm, 1.0 / norm)
            if new != old:
                delta = new - old
                w[k] = new
                if dense:
                    row = XT[j]
                    for l in range(row.shape[0]):
                        residual[l] -= delta * row[l]
                else:
                    csc_subtract(data, indices, indptr[j], indptr[j + 1], delta, residual)
                    if _is_far(offsets[j], total_weight, norm):
                        add_multiple(delta * offsets[j], roots, residual)
                    else:
                        t += offsets[j] * delta
                decrease += 0.5 * delta * delta * norm
                excess = max(excess, abs(delta) * norm * price[k])
        if everything:
            if decrease + excess <= tol:
                return epoch, True
            size = 0
            for k in range(m):
                if w[k] != 0.0:
                    support[size] = k
                    size += 1
            stored = 0
        elif decrease + excess <= tol:
            size = -1
            continue
        for i in range(size):
            history[stored, i] = w[support[i]]
        stored += 1
        if stored == memory:
            stored = 0
            if _extrapolate(history, normal, size, change):
                before = 0.5 * dot(residual, residual) - 0.5 * total_weight * t * t
                after = 0.0
                t_trial = t
                for i in range(size):
                    k = support[i]
                    j = cols[k]
                    before += value(code, params, j, w[k])
                    after += value(code, params, j, change[i])
                    change[i] -= w[k]
                    if not dense and not _is_far(offsets[j], total_weight, norms[j] ** 2):
                        t_trial += offsets[j] * change[i]
                trial_residual[:] = residual
                subtract_columns(
                    XT, data, indices, indptr, cols, change, support, size, trial_residual
                )
                for i in range(size):
                    j = cols[support[i]]
                    if not dense and _is_far(offsets[j], total_weight, norms[j] ** 2):
                        add_multiple(change[i] * offsets[j], roots, trial_residual)
                after += 0.5 * dot(trial_residual, trial_residual)
                after -= 0.5 * total_weight * t_trial * t_trial
                if after < before:
                    residual[:] = trial_residual
                    t = t_trial
                    for i in range(size):
                        w[support[i]] += change[i]
    return max_epochs, False


@jit(fastmath=SUMS)
def _extrapolate(history, normal, size, out):
    """Affine combination of the iterates whose combined step is shortest (Anderson).

    The last row of ``history`` may be ``out``.  ``normal`` holds the normal equations
    and, in its last column, their right-hand side.
    """
    depth = normal.shape[0]
    trace = 0.0
    for a in range(depth):
        normal[a, depth] = 1.0
        for b in range(a + 1):
            total = 0.0
            for i in range(size):
                total += (history[a + 1, i] - history[a, i]) * (history[b + 1, i] - history[b, i])
            normal[a, b] = total
            normal[b, a] = total
        trace += normal[a, a]
    if trace <= 0.0:
        return False
    for a in range(depth):
        normal[a, a] += 1e-12 * trace
    for a in range(depth):
        if normal[a, a] <= 0.0:
            return False
        for b in range(a + 1, depth):
            factor = normal[b, a] / normal[a, a]
            for l in range(a, depth + 1):
                normal[b, l] -= factor * normal[a, l]
    weight_sum = 0.0
    for a in range(depth - 1, -1, -1):
        for b in range(a + 1, depth):
            normal[a, depth] -= normal[a, b] * normal[b, depth]
        normal[a, depth] /= normal[a, a]
        weight_sum += normal[a, depth]
    if weight_sum == 0.0:
        return False
    for i in range(size):
        total = 0.0
        for a in range(depth):
            total += normal[a, depth] * history[a + 1, i]
        out[i] = total / weight_sum
    return True


# --- certificates ------------------------------------------------------------------------


@jit
def dual_bound(code, params, cols, correlations, m, yr, rr, longest):
    """Best of three dual values along the ray of the residual r, no further than ``longest``.

    ``D(t r) = t y'r - t^2 r'r / 2 - sum_j p_j*(t x_j'r)`` bounds the objective
    ``||y - Xw||^2 / 2 + p(w)`` from below for every t in the common domain of the
    conjugates.  Tried are t = 1, the maximiser of the quadratic part, and the
    largest t for which no correlation exceeds the penalty's slope at zero.
    """
    domain = feasible = longest
    curved = False
    for k in range(m):
        z = correlations[k]
        strength = pull(code, params, cols[k], z)
        bar = zero_slope(code, params, cols[k])
        if bar > 0.0 and strength * feasible > bar:
            feasible = bar / strength
            domain = min(domain, dual_scale_limit(code, params, cols[k], z))
        curved = curved or curvature(code, params, cols[k], 1.0) > 0.0
    if rr <= 0.0:
        return 0.0
    quadratic = max(yr / rr, 0.0)
    best = 0.0
    for t in (min(1.0, domain), min(quadratic, domain), min(quadratic, feasible, domain)):
        bound = t * yr - 0.5 * t * t * rr
        if curved:
            for k in range(m):
                bound -= conjugate(code, params, cols[k], t * correlations[k])
        best = max(best, bound)
    return best


@jit(inline="always")
def unpenalised_price(code, params, j, w, reach):
    """What a unit of correlation of an unpenalised feature costs the dual bound, else zero.

    The conjugate of no penalty is finite at zero only.  If the solution's coefficient
    is at most B away from zero, a correlation c lowers the bound by at most ``B |c|``;
    B is taken as twice the larger of the present coefficient and ``||y|| / ||x_j||``.
    """
    if zero_slope(code, params, j) > 0.0 or curvature(code, params, j, 1.0) > 0.0:
        return 0.0
    return 2.0 * max(abs(w), reach)


@jit(inline="always")
def unpenalised_slack(code, params, j, w, correlation, reach):
    """What the correlation of an unpenalised feature, if not quite zero, costs the bound."""
    excess = abs(correlation)
    if w == 0.0:
        excess = max(pull(code, params, j, correlation), 0.0)
    return excess * unpenalised_price(code, params, j, w, reach)


@jit
def total_slack(code, params, w, correlations, norms, y_norm):
    total = 0.0
    for j in range(norms.shape[0]):
        if norms[j] > 0.0:
            total += unpenalised_slack(code, params, j, w[j], correlations[j], y_norm / norms[j])
    return total


@jit
def penalty_value(code, params, cols, w, m):
    total = 0.0
    for k in range(m):
        if w[k] != 0.0:
            total += value(code, params, cols[k], w[k])
    return total


@jit
def gap_prices(code, params, cols, w, m, norms, y_norm, out):
    """What a unit of excess correlation costs the duality gap.

    A residual whose correlation exceeds the slope at zero by a share s is scaled by
    ``1 / (1 + s)`` to become feasible, which lowers the dual value by about s times
    the penalty.
    """
    total = penalty_value(code, params, cols, w, m)
    for k in range(m):
        bar = zero_slope(code, params, cols[k])
        if bar > 0.0:
            out[k] = total / bar
        elif norms[cols[k]] > 0.0:
            out[k] = unpenalised_price(code, params, cols[k], w[k], y_norm / norms[cols[k]])
        else:
            out[k] = 0.0


# --- correlations with the residual ------------------------------------------------------


@jit
def column_dots(XT, data, indices, indptr, offsets, residual, shift, features, count, out):
    """Correlations of some columns with the residual; XT is empty when X is sparse."""
    dense = XT.shape[0] > 0
    for i in range(count):
        j = features[i]
        if dense:
            out[i] = dot(XT[j], residual)
        else:
            out[i] = csc_dot(data, indices, indptr[j], indptr[j + 1], residual)
            out[i] += offsets[j] * shift


@jit(fastmath=SUMS)
def uncertain_features(code, params, c, error, norms, share, out):
    """Features whose correlation may exceed ``share`` of what a zero bears.

    Estimates ``c[j]`` are off by at most ``norms[j] * error``.
    """
    count = 0
    for j in range(c.shape[0]):
        reach = pull(code, params, j, c[j]) + norms[j] * error
        if reach > share * zero_slope(code, params, j) and norms[j] > 0.0:
            out[count] = j
            count += 1
    return count


@jit
def strong_set(code, params, c, member, largest, out):
    """Features outside the working set that the sequential strong rule keeps.

    ``largest`` is the largest ratio of a correlation to the slope at zero, that
    is the last penalty strength in units of the present one.
    """
    count = 0
    for j in range(c.shape[0]):
        bar = (2.0 - largest) * zero_slope(code, params, j)
        if not member[j] and pull(code, params, j, c[j]) >= bar:
            out[count] = j
            count += 1
    return count


@jit
def largest_ratio(code, params, c, norms, features):
    largest = 0.0
    for j in features:
        bar = zero_slope(code, params, j)
        if bar > 0.0 and norms[j] > 0.0:
            largest = max(largest, pull(code, params, j, c[j]) / bar)
    return largest


@jit
def violators(code, params, c, features, count, member, out, excess):
    """Which of ``features`` outside the working set a zero coefficient cannot bear."""
    found = 0
    for i in range(count):
        j = features[i]
        over = pull(code, params, j, c[i]) - zero_slope(code, params, j)
        if over > 0.0 and not member[j]:
            out[found] = j
            excess[found] = over
            found += 1
    return found


# --- Gram blocks of sparse columns -------------------------------------------------------


@jit(fastmath=SUMS)
def csc_gram_block(data, indices, indptr, offsets, total_weight, cols, m, new, count, dense, out):
    """``out[i, k] = x_cols[i]'x_new[k]`` of implicitly centred columns; ``dense`` is zero."""
    for k in range(count):
        j = new[k]
        for l in range(indptr[j], indptr[j + 1]):
            dense[indices[l]] = data[l]
        for i in range(m):
            a = cols[i]
            out[i, k] = csc_dot(data, indices, indptr[a], indptr[a + 1], dense)
            out[i, k] -= total_weight * offsets[a] * offsets[j]
        for l in range(indptr[j], indptr[j + 1]):
            dense[indices[l]] = 0.0


@jit(fastmath=SUMS)
def csc_norms(data, indices, indptr, offsets, roots, total_weight, out):
    """Norms of implicitly centred columns; constant columns get exactly zero."""
    for j in range(out.shape[0]):
        stored = 0.0
        total = 0.0
        for l in range(indptr[j], indptr[j + 1]):
            root = roots[np.uint64(indices[l])]
            entry = data[l] - offsets[j] * root
            total += entry * entry
            stored += root * root
        total += max(total_weight - stored, 0.0) * offsets[j] * offsets[j]
        floor = 16 * 2.2e-16 * abs(offsets[j])
        out[j] = np.sqrt(total) if total > floor * floor * total_weight else 0.0


# --- the working set ---------------------------------------------------------------------


@jit
def always_active(code, params, norms, out):
    """Features that every nonzero correlation moves away from zero.

    Those without any penalty or sign constraint come first in ``out``.  Returns how
    many there are, and how many of these come first.
    """
    count = 0
    free = 0
    for j in range(norms.shape[0]):
        if norms[j] > 0.0 and zero_slope(code, params, j) == 0.0:
            out[count] = j
            if curvature(code, params, j, 1.0) == 0.0 and value(code, params, j, -1.0) == 0.0:
                out[count] = out[free]
                out[free] = j
                free += 1
            count += 1
    return count, free


@jit
def worth_keeping(code, params, c, cols, w, m, largest, out):
    """Positions of the working set that are not zero or that the strong rule keeps."""
    count = 0
    for k in range(m):
        bar = (2.0 - largest) * zero_slope(code, params, cols[k])
        if w[k] != 0.0 or pull(code, params, cols[k], c[cols[k]]) >= bar:
            out[count] = k
            count += 1
    return count
