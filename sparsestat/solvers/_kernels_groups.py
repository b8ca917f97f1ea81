"""Compiled loops for coefficients that enter and leave by groups.

The penalty is ``sum_k thresholds[k] ||w_k||`` over groups of consecutive working
columns, group k from ``starts[k]`` to ``starts[k + 1]``.  Within a group the columns
are orthogonal to each other.  ``G[:m, :m]`` is the Gram matrix of the working
columns, ``q`` their correlations with the residual.  Every buffer belongs to the
caller.
"""

import numpy as np

from sparsestat.solvers._kernels import SUMS
from sparsestat.utils._numba import jit

_TIE = 1.0 + 1e-15
"""Norm of the correlations, in units of the threshold, up to which a group stays at zero."""

_TURNED = 1e-14
"""Length, in units of what it was, at which a group has turned round up to rounding."""


@jit(fastmath=SUMS)
def solve_group(z, diagonal, size, threshold, start, out):
    """Minimise ``sum_j (diagonal_j v_j^2 / 2 - z_j v_j) + threshold ||v||`` into ``out``.

    At a minimum other than zero ``v_j = z_j / (diagonal_j + threshold / ||v||)``, so that
    its norm solves ``sum_j (z_j / (diagonal_j norm + threshold))^2 = 1``.  The reciprocal
    of the root of the left side is concave and increases: Newton's method for it, from
    any ``start``, is below the solution after one step and increases from there.
    """
    square = 0.0
    largest = 0.0
    for j in range(size):
        square += z[j] * z[j]
        largest = max(largest, diagonal[j])
    length = np.sqrt(square)
    if length <= threshold * _TIE or largest <= 0.0:
        for j in range(size):
            out[j] = 0.0
        return
    least = (length - threshold) / largest
    norm = max(start, least)
    for _ in range(50):
        total = 0.0
        slope = 0.0
        for j in range(size):
            bent = diagonal[j] * norm + threshold
            part = z[j] / bent
            total += part * part
            slope += part * part * diagonal[j] / bent
        if not slope > 0.0:
            break
        # With phi = total^(-1/2) - 1, this is norm - phi / phi'.
        after = max(norm + (np.sqrt(total) - 1.0) * total / slope, least)
        close = abs(after - norm) <= 1e-14 * norm
        norm = after
        if close:
            break
    for j in range(size):
        out[j] = z[j] * norm / (diagonal[j] * norm + threshold)


@jit(fastmath=SUMS)
def penalty_of_groups(starts, thresholds, w, n_groups):
    """Sum of the norms of the groups, each times its threshold."""
    total = 0.0
    for k in range(n_groups):
        square = 0.0
        for j in range(starts[k], starts[k + 1]):
            square += w[j] * w[j]
        total += thresholds[k] * np.sqrt(square)
    return total


@jit(fastmath=SUMS)
def gap_of_groups(starts, thresholds, q, w, n_groups, rr, yr):
    """Duality gap of the working columns; rr and yr are ``r'r`` and ``y'r`` of the residual."""
    penalty = 0.0
    ratio = 0.0
    for k in range(n_groups):
        size = 0.0
        pull = 0.0
        for j in range(starts[k], starts[k + 1]):
            size += w[j] * w[j]
            pull += q[j] * q[j]
        penalty += thresholds[k] * np.sqrt(size)
        ratio = max(ratio, np.sqrt(pull) / thresholds[k])
    scale = max(yr / rr, 0.0) if rr > 0.0 else 0.0
    if ratio > 0.0:
        scale = min(scale, 1.0 / ratio)
    return 0.5 * rr + penalty - scale * yr + 0.5 * scale * scale * rr


@jit(fastmath=SUMS)
def gram_gap(starts, thresholds, q0, q, w, n_groups, yy):
    """Duality gap of the working columns, from cross products."""
    yr = yy
    rr = yy
    for j in range(starts[n_groups]):
        yr -= w[j] * q0[j]
        rr -= w[j] * (q0[j] + q[j])
    return gap_of_groups(starts, thresholds, q, w, n_groups, max(rr, 0.0), yr)


@jit(fastmath=SUMS)
def gram_objective(starts, thresholds, q0, q, w, n_groups):
    """Objective up to a constant, from cross products."""
    total = penalty_of_groups(starts, thresholds, w, n_groups)
    for j in range(starts[n_groups]):
        total -= 0.5 * w[j] * (q0[j] + q[j])
    return total


@jit(fastmath=SUMS)
def subtract_columns(rows, first, size, change, target):
    """``target -= sum_j change_j rows[first + j]`` over ``size`` rows."""
    j = 0
    # Two at a time, so that the target is read and written half as often.
    while j + 1 < size:
        one, two = change[j], change[j + 1]
        row, other = rows[first + j], rows[first + j + 1]
        for i in range(target.shape[0]):
            target[i] -= one * row[i] + two * other[i]
        j += 2
    if j < size:
        one = change[j]
        row = rows[first + j]
        for i in range(target.shape[0]):
            target[i] -= one * row[i]


@jit(fastmath=SUMS)
def change_group(first, size, diagonal, threshold, z, w, scratch):
    """Minimise over one group; leave the change in ``scratch[0]`` and tell if there is one.

    ``z`` are the correlations of its columns with the present residual.
    """
    square = 0.0
    shifted, fresh = scratch[1], scratch[2]
    for j in range(size):
        square += w[first + j] * w[first + j]
        shifted[j] = z[j] + diagonal[first + j] * w[first + j]
    solve_group(shifted, diagonal[first:], size, threshold, np.sqrt(square), fresh)
    moved = False
    for j in range(size):
        scratch[0, j] = fresh[j] - w[first + j]
        w[first + j] = fresh[j]
        moved |= scratch[0, j] != 0.0
    return moved


@jit(fastmath=SUMS)
def descend_gram(
    starts,
    thresholds,
    G,
    diagonal,
    q0,
    q,
    w,
    n_groups,
    yy,
    max_epochs,
    tol,
    scratch,
    past_w,
    past_q,
):
    """Cyclic block coordinate descent until the gap on the working columns is at most tol.

    Row ``e`` of ``past_w`` and of ``past_q`` gets the iterates after epoch ``e``, row 0
    those at the start.  Returns the number of epochs and the gap.
    """
    past_w[0] = w
    past_q[0] = q
    gap = np.inf
    for epoch in range(1, max_epochs + 1):
        for k in range(n_groups):
            first = starts[k]
            size = starts[k + 1] - first
            if change_group(first, size, diagonal, thresholds[k], q[first:], w, scratch):
                subtract_columns(G, first, size, scratch[0], q)
        past_w[epoch] = w
        past_q[epoch] = q
        gap = gram_gap(starts, thresholds, q0, q, w, n_groups, yy)
        if gap <= tol:
            return epoch, gap
    return max_epochs, gap


@jit(fastmath=SUMS)
def descend_residual(
    starts, thresholds, ZT, diagonal, r, w, n_groups, epochs, scratch, past_w, past_r
):
    """Cyclic block coordinate descent on the residual; ``ZT`` has the working columns as rows.

    Row ``e`` of ``past_w`` and of ``past_r`` gets the iterates after epoch ``e``, row 0
    those at the start.
    """
    past_w[0] = w
    past_r[0] = r
    z = scratch[3]
    for epoch in range(1, epochs + 1):
        for k in range(n_groups):
            first = starts[k]
            size = starts[k + 1] - first
            for j in range(size):
                column = ZT[first + j]
                total = 0.0
                for i in range(r.shape[0]):
                    total += column[i] * r[i]
                z[j] = total
            if change_group(first, size, diagonal, thresholds[k], z, w, scratch):
                subtract_columns(ZT, first, size, scratch[0], r)
        past_w[epoch] = w
        past_r[epoch] = r


@jit(fastmath=SUMS)
def group_norms(values, indices, ptr, out):
    """Euclidean norm of the entries of each group."""
    for g in range(out.shape[0]):
        square = 0.0
        for i in range(ptr[g], ptr[g + 1]):
            square += values[indices[i]] * values[indices[i]]
        out[g] = np.sqrt(square)


@jit(fastmath=SUMS)
def newton_system(starts, thresholds, w, support, H, rhs):
    """Add curvatures to the Gram matrix of the groups in ``support``; get the negative gradient.

    Only the lower triangle of ``H`` is touched.  The norm of a group bends by
    ``threshold / ||w|| (I - u u')`` with ``u = w / ||w||``.
    """
    row = 0
    for k in support:
        square = 0.0
        for i in range(starts[k], starts[k + 1]):
            square += w[i] * w[i]
        bend = thresholds[k] / np.sqrt(square)
        first = row
        for i in range(starts[k], starts[k + 1]):
            rhs[row] -= bend * w[i]
            for j in range(starts[k], i + 1):
                H[row, first + j - starts[k]] -= bend * w[i] * w[j] / square
            H[row, row] += bend
            row += 1


@jit(fastmath=SUMS)
def first_turn(starts, w, support, direction):
    """Length, at most one, of the step at which the first group in ``support`` turns round."""
    row = 0
    fastest = 1.0
    for k in support:
        square = 0.0
        along = 0.0
        for i in range(starts[k], starts[k + 1]):
            square += w[i] * w[i]
            along -= w[i] * direction[row]
            row += 1
        fastest = max(fastest, along / square)
    return 1.0 / fastest


@jit(fastmath=SUMS)
def step_groups(starts, w, support, direction, length, out):
    """Move the groups in ``support`` along a direction; one that would turn round ends at zero.

    Returns the number of those.
    """
    row = 0
    turned = 0
    for k in support:
        along = 0.0
        square = 0.0
        first = row
        for i in range(starts[k], starts[k + 1]):
            out[i] = w[i] + length * direction[row]
            along += out[i] * w[i]
            square += w[i] * w[i]
            row += 1
        if along <= _TURNED * square:
            turned += 1
            for i in range(starts[k], starts[k] + row - first):
                out[i] = 0.0
    return turned
