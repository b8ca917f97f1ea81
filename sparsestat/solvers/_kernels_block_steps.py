"""Compiled solutions of the small problem that block descent poses in each iteration.

With the gradient g and the Hessian H of the loss along a block, and for its coordinates x,
thresholds t and marks of those that must not be negative, the model of the objective is
``g'e + e'He / 2 + sum_k t_k |x_k + e_k|``.  Rows of ``vectors`` are 0 and 7: scratch, 1: the
thresholds, 2: the marks, 3: x, 4: g, 5: the new x, 6: its difference from x.  ``pair`` holds H and
room for a factor, ``lists`` kinds of coordinates and members of a subproblem.
"""

import numpy as np

from sparsestat.utils._numba import jit

_DEPENDENT = 1e-13
"""What elimination leaves of a diagonal entry below which the column depends on the others."""

_SWEEPS = 1000
_FACE_EVERY = 6
_EXACT = 1e-28
"""Decrease of a sweep, relative to that of all sweeps, which is rounding."""

_CLEAR = 1e-7
"""Slope along an exchange of columns, relative to what cancels in it, which is not rounding."""

_NEAR = 1e-12
"""Distance from zero, relative to the largest coordinate, at which one may be held there."""

FREE, FIXED, HELD, POSITIVE, NEGATIVE = 0, 2, 3, 1, -1
"""What a two-metric step may do to a coordinate: anything, nothing, move towards zero by its own
gradient, or follow Newton's direction within the half line of its sign."""


@jit
def list_all(members, m):
    for k in range(m):
        members[k] = k


@jit
def factorise(H, members, m, L):
    """Cholesky factor of ``H[members, members]``, with zeros for columns that depend on others."""
    for k in range(m):
        row = members[k]
        for i in range(k):
            value = H[row, members[i]]
            for p in range(i):
                value -= L[k, p] * L[i, p]
            L[k, i] = value / L[i, i] if L[i, i] > 0.0 else 0.0
        value = H[row, row]
        for p in range(k):
            value -= L[k, p] * L[k, p]
        L[k, k] = np.sqrt(value) if value > _DEPENDENT * H[row, row] else 0.0


@jit
def solve(L, right, m, out):
    """Solve ``LL' out = right``; what depends on other columns gets zero."""
    for k in range(m):
        value = right[k]
        for i in range(k):
            value -= L[k, i] * out[i]
        out[k] = value / L[k, k] if L[k, k] > 0.0 else 0.0
    for k in range(m - 1, -1, -1):
        value = out[k]
        for i in range(k + 1, m):
            value -= L[i, k] * out[i]
        out[k] = value / L[k, k] if L[k, k] > 0.0 else 0.0


@jit
def copy_square(H, m, out):
    for k in range(m):
        for i in range(m):
            out[k, i] = H[k, i]


@jit
def largest_eigenvalue(H, m, A, vectors):
    """An upper bound, to rounding, on the largest eigenvalue; A is overwritten.

    Reflections make H tridiagonal, and signs of its pivots tell on which side of the
    largest eigenvalue a number lies.
    """
    if m == 1:
        return H[0, 0]
    copy_square(H, m, A)
    diagonal, beside = vectors[0], vectors[7]
    for k in range(m - 2):
        diagonal[k] = A[k, k]
        square = 0.0
        for i in range(k + 1, m):
            square += A[i, k] * A[i, k]
        length = np.sqrt(square)
        if A[k + 1, k] > 0.0:
            length = -length
        size = 2.0 * (square - length * A[k + 1, k])
        A[k + 1, k] -= length
        if size > 0.0:
            scale = 2.0 / size
            half = 0.0
            for i in range(k + 1, m):
                value = 0.0
                for j in range(k + 1, m):
                    value += A[i, j] * A[j, k]
                beside[i] = scale * value
                half += beside[i] * A[i, k]
            half *= 0.5 * scale
            for i in range(k + 1, m):
                beside[i] -= half * A[i, k]
            for i in range(k + 1, m):
                a, b = A[i, k], beside[i]
                for j in range(k + 1, m):
                    A[i, j] -= a * beside[j] + b * A[j, k]
        beside[k] = length
    diagonal[m - 2], diagonal[m - 1] = A[m - 2, m - 2], A[m - 1, m - 1]
    beside[m - 2] = A[m - 1, m - 2]
    low = high = 0.0
    for k in range(m):
        low = max(low, diagonal[k])
        reach = diagonal[k]
        if k > 0:
            reach += abs(beside[k - 1])
        if k < m - 1:
            reach += abs(beside[k])
        high = max(high, reach)
    while high - low > 1e-14 * high:
        middle = 0.5 * (low + high)
        pivot = diagonal[0] - middle
        above = pivot < 0.0
        for k in range(1, m):
            if not above:
                break
            pivot = diagonal[k] - middle - beside[k - 1] * beside[k - 1] / pivot
            above = pivot < 0.0
        if above:
            high = middle
        else:
            low = middle
    return high * (1.0 + 1e-13)


@jit
def quadratic_change(H, g, deltas, m):
    total = 0.0
    for k in range(m):
        value = 0.0
        for i in range(m):
            value += H[k, i] * deltas[i]
        total += deltas[k] * (g[k] + 0.5 * value)
    return total


@jit
def penalty_change(x, new, thresholds, m):
    total = 0.0
    for k in range(m):
        total += thresholds[k] * (abs(new[k]) - abs(x[k]))
    return total


@jit
def shrink(target, bar, positive):
    return max(target - bar, 0.0) - (1.0 - positive) * max(-target - bar, 0.0)


@jit
def prox_gradient(lipschitz, m, vectors):
    """Minimise the model with ``lipschitz`` times the identity in place of H."""
    thresholds, positive = vectors[1], vectors[2]
    x, g, new = vectors[3], vectors[4], vectors[5]
    for k in range(m):
        new[k] = x[k]
        if lipschitz > 0.0:
            new[k] = shrink(x[k] - g[k] / lipschitz, thresholds[k] / lipschitz, positive[k])


@jit
def set_slopes(H, m, vectors):
    """Gradient of the quadratic part of the model."""
    x, g, new, q = vectors[3], vectors[4], vectors[5], vectors[7]
    for k in range(m):
        value = g[k]
        for i in range(m):
            value += H[k, i] * (new[i] - x[i])
        q[k] = value


@jit
def prox_newton(pair, m, vectors, lists):
    """Minimise the model by coordinate descent, with Newton steps on the face it has reached.

    Returns the number of multiplications.
    """
    H, thresholds, positive = pair[0], vectors[1], vectors[2]
    x, g, new, q = vectors[3], vectors[4], vectors[5], vectors[7]
    for k in range(m):
        new[k] = x[k]
        q[k] = g[k]
    total = 0.0
    multiplications = 0.0
    for sweep in range(1, _SWEEPS + 1):
        decrease = 0.0
        for k in range(m):
            curvature = H[k, k]
            if curvature <= 0.0:
                continue
            value = shrink(new[k] - q[k] / curvature, thresholds[k] / curvature, positive[k])
            change = value - new[k]
            if change != 0.0:
                new[k] = value
                row = H[k]
                for i in range(m):
                    q[i] += change * row[i]
                decrease += 0.5 * curvature * change * change
                multiplications += m
        total += decrease
        if decrease <= _EXACT * total:
            break
        if sweep % _FACE_EVERY == 0:
            multiplications += face_step(pair, m, vectors, lists[1])
            set_slopes(pair[0], m, vectors)
            multiplications += m * m
    return multiplications


@jit
def face_step(pair, m, vectors, members):
    """Newton's step for the coordinates that are not zero, up to the first that becomes zero."""
    H, L, thresholds, positive = pair[0], pair[1], vectors[1], vectors[2]
    new, q, right, out = vectors[5], vectors[7], vectors[0], vectors[6]
    size = np.int64(0)
    for k in range(m):
        if new[k] != 0.0 and H[k, k] > 0.0:
            members[size] = k
            right[size] = q[k] + (thresholds[k] if new[k] > 0.0 else -thresholds[k])
            size += 1
    factorise(H, members, size, L)
    solve(L, right, size, out)
    step, first = 1.0, -1
    for i in range(size):
        k = members[i]
        bounded = thresholds[k] > 0.0 or positive[k] > 0.0
        # It would arrive at zero or beyond, after the share new / out of the way.
        if bounded and out[i] * new[k] > 0.0 and abs(out[i]) * step >= abs(new[k]):
            step, first = new[k] / out[i], k
    for i in range(size):
        new[members[i]] -= step * out[i]
    if first >= 0:
        new[first] = 0.0
    return size * size * size / 3.0 + size * size


@jit
def two_metric_direction(pair, m, vectors, lists):
    """Newton's direction where signs may stay, gradients where they hold a coordinate at zero.

    ``lists[0]`` says what holds for each coordinate, ``vectors[0]`` gets the slopes of the
    objective on that side of zero, ``vectors[7]`` the direction.
    """
    H, L, thresholds, positive = pair[0], pair[1], vectors[1], vectors[2]
    x, g, slopes, direction, out = vectors[3], vectors[4], vectors[0], vectors[7], vectors[6]
    kinds, members = lists[0], lists[1]
    largest = 0.0
    for k in range(m):
        largest = max(largest, abs(x[k]))
    size = np.int64(0)
    for k in range(m):
        direction[k] = 0.0
        side = POSITIVE
        if positive[k] == 0.0:
            if thresholds[k] == 0.0:
                side = FREE
            elif x[k] < 0.0 or (x[k] == 0.0 and g[k] > thresholds[k]):
                side = NEGATIVE
            elif x[k] == 0.0 and g[k] >= -thresholds[k]:
                side = FIXED
        if H[k, k] <= 0.0:
            side = FIXED
        kinds[k] = side
        if side == FIXED:
            slopes[k] = 0.0
            continue
        slopes[k] = g[k] + side * thresholds[k]
        if side != FREE and abs(x[k]) <= _NEAR * largest and side * slopes[k] >= 0.0:
            kinds[k] = HELD
            direction[k] = -slopes[k] / H[k, k]
            continue
        members[size] = k
        size += 1
    factorise(H, members, size, L)
    if exchange_direction(L, members, size, vectors, kinds):
        return
    for i in range(size):
        vectors[5, i] = slopes[members[i]]
    solve(L, vectors[5], size, out)
    for i in range(size):
        direction[members[i]] = -out[i]


@jit
def exchange_direction(L, members, size, vectors, kinds):
    """Direction in which a column takes over from others that it depends on.

    Fitted values stay as they are along it, and the penalty falls in proportion to the way, which
    ends where a coordinate becomes zero. Newton's direction knows no such exchange.

    ``vectors[7]`` gets it, ``vectors[5]`` and ``vectors[6]`` are overwritten. Returns whether there
    is such a direction.
    """
    is_dependent = False
    for k in range(size):
        is_dependent = is_dependent or L[k, k] == 0.0
    if not is_dependent:
        return False
    slopes, x, right, out, direction = vectors[0], vectors[3], vectors[5], vectors[6], vectors[7]
    chosen, gain, sign = np.int64(-1), 0.0, 1.0
    for k in range(size):
        # Forward substitution; what it leaves of a dependent column's slope is the gain.
        value = slopes[members[k]]
        scale = abs(value)
        for i in range(k):
            value -= L[k, i] * out[i]
            scale += abs(L[k, i] * out[i])
        out[k] = value / L[k, k] if L[k, k] > 0.0 else 0.0
        if L[k, k] == 0.0 and abs(value) > max(gain, _CLEAR * scale):
            chosen, gain, sign = k, abs(value), -np.sign(value)
    if chosen < 0:
        return False
    way = np.inf
    for i in range(chosen, -1, -1):
        value = sign
        if i < chosen:
            value = 0.0
            for p in range(i + 1, chosen + 1):
                value -= L[p, i] * right[p]
            value = value / L[i, i] if L[i, i] > 0.0 else 0.0
        right[i] = value
        k = members[i]
        if kinds[k] != FREE and kinds[k] * value < 0.0:
            way = min(way, abs(x[k] / value))
    if way == 0.0 or way == np.inf:
        return False
    for i in range(chosen + 1):
        # A little more, so that rounding leaves nothing of the coordinate that vanishes.
        direction[members[i]] = (1.0 + _NEAR) * way * right[i]
    return True


@jit
def two_metric_point(step, m, vectors, lists):
    """Go along the direction, stop at zero; returns the decrease that the slopes promise."""
    slopes, direction, x = vectors[0], vectors[7], vectors[3]
    new, deltas, kinds = vectors[5], vectors[6], lists[0]
    promised = 0.0
    for k in range(m):
        kind = kinds[k]
        value = x[k] + step * direction[k]
        if kind == HELD:
            value = min(value, 0.0) if x[k] < 0.0 else max(value, 0.0)
            promised -= slopes[k] * (value - x[k])
        else:
            promised -= step * slopes[k] * direction[k]
            if kind == POSITIVE:
                value = max(value, 0.0)
            elif kind == NEGATIVE:
                value = min(value, 0.0)
            elif kind == FIXED:
                value = x[k]
        new[k] = value
        deltas[k] = value - x[k]
    return promised
