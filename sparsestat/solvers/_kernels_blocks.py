"""Compiled loops of block descent: choose a block, change it, keep the gradient up to date.

The names of rows and entries are explained in :mod:`sparsestat.solvers._block_arrays`.  Every
buffer belongs to the caller.
"""

import numpy as np

from sparsestat.solvers._block_arrays import (
    BLOCK,
    BOUND,
    CHANGED,
    CURVATURE,
    FACTOR,
    GRADIENT,
    HB,
    HESSIAN,
    INTERCEPT,
    ITERATION,
    KIND,
    LARGEST,
    LINEAR,
    LOSS,
    MOVED,
    MULTIPLICATIONS,
    OFFSET,
    ONE_SIDED,
    PENALTY,
    PG,
    PLACE,
    PN,
    RANDOM,
    RESIDUAL,
    ROOT,
    RULE,
    SHIFT,
    SQUARED,
    SUPPORT,
    TARGET,
    THRESHOLD,
    TOUCHED,
    UPDATE,
    WEIGHT,
    ZERO,
    X,
)
from sparsestat.solvers._kernels import (
    SUMS,
    dot,
)
from sparsestat.solvers._kernels_block_columns import (
    add_gram_rows,
    add_to_gradient,
    axpy,
    block_gradient,
    block_hessian,
    combine,
    copy,
    fill,
    keep_gram_rows,
)
from sparsestat.solvers._kernels_block_rules import (
    choose,
)
from sparsestat.solvers._kernels_block_steps import (
    copy_square,
    largest_eigenvalue,
    penalty_change,
    prox_gradient,
    prox_newton,
    quadratic_change,
    solve,
    two_metric_direction,
    two_metric_point,
)
from sparsestat.utils._numba import jit

_HALVINGS = 40

_SUFFICIENT = 1e-4
"""Share of the decrease that the slope promises, which a step has to attain."""


@jit
def softplus(t):
    return max(t, 0.0) + np.log1p(np.exp(-abs(t)))


@jit
def logistic_change(state, touched, count):
    """Change of the logistic loss when the row MOVED is added to the scores."""
    row = state.rows[MOVED]
    total = 0.0
    for t in range(count):
        i = touched[t]
        step, eta, weight = row[i], state.rows[LINEAR, i], state.rows[WEIGHT, i]
        if abs(step) < 30.0:
            probability = state.rows[TARGET, i] - state.rows[RESIDUAL, i] / weight
            # Exact for small steps, of which the losses themselves would lose all digits.
            total += weight * (
                np.log1p(probability * np.expm1(step)) - state.rows[TARGET, i] * step
            )
        else:
            total += weight * (softplus(eta + step) - softplus(eta) - state.rows[TARGET, i] * step)
    return total


@jit
def set_row(state, i):
    """Residual and curvature of one row from its score."""
    eta, weight = state.rows[LINEAR, i], state.rows[WEIGHT, i]
    small = np.exp(-abs(eta))
    low = small / (1.0 + small)
    probability = low if eta < 0.0 else 1.0 - low
    # The complement of a probability near one keeps its digits.
    if state.rows[TARGET, i] == 1.0:
        left = 1.0 / (1.0 + small) if eta < 0.0 else low
    else:
        left = -probability
    state.rows[RESIDUAL, i] = weight * left
    state.rows[CURVATURE, i] = weight * low / (1.0 + small)


@jit
def set_rows(state):
    for i in range(state.rows[LINEAR].shape[0]):
        set_row(state, i)


@jit
def move_intercept(state):
    """One safe Newton step of the logistic loss along the intercept.

    The curvature at distance t is at most ``exp(t)`` times the present one, so that the loss
    lies below ``-slope t + curvature (exp(t) - 1 - t)``, which this step minimises.
    """
    slope = 0.0
    curvature = 0.0
    for i in range(state.rows[RESIDUAL].shape[0]):
        slope += state.rows[RESIDUAL, i]
        curvature += state.rows[CURVATURE, i]
    if slope == 0.0 or curvature <= 0.0:
        return
    step = np.log1p(abs(slope) / curvature)
    step = min(step, 10.0) if slope > 0.0 else -min(step, 10.0)
    state.numbers[SHIFT] += step
    for i in range(state.rows[RESIDUAL].shape[0]):
        state.rows[LINEAR, i] += step
        set_row(state, i)


@jit(fastmath=SUMS)
def objective(state):
    """Loss and penalty of the present point."""
    total = 0.0
    if state.counts[LOSS] == SQUARED:
        shift = state.numbers[SHIFT]
        for i in range(state.rows[RESIDUAL].shape[0]):
            entry = state.rows[RESIDUAL, i] - shift * state.rows[ROOT, i]
            total += entry * entry
        return 0.5 * total + state.numbers[PENALTY]
    for i in range(state.rows[LINEAR].shape[0]):
        eta = state.rows[LINEAR, i]
        total += state.rows[WEIGHT, i] * (softplus(eta) - state.rows[TARGET, i] * eta)
    return total + state.numbers[PENALTY]


@jit
def loss_change(columns, state, work, m):
    """Exact change of the loss, to rounding relative to itself."""
    if state.counts[LOSS] == SQUARED:
        return quadratic_change(work.pair[HESSIAN], work.vectors[4], work.vectors[6], m)
    count = combine(columns, state, work, m)
    return logistic_change(state, work.touched[TOUCHED], count)


@jit
def set_hessian(columns, state, work, b, m, weight, has_grams, use_bound):
    """Fill ``work.pair[HESSIAN]`` with the Hessian along the block, or with the bound on it."""
    if b >= 0 and use_bound:
        copy_square(work.matrices[HESSIAN, b], m, work.pair[HESSIAN])
    elif has_grams:
        for k in range(m):
            row = work.grams[work.places[PLACE, work.lists[BLOCK, k]]]
            for i in range(m):
                work.pair[HESSIAN, k, i] = row[work.lists[BLOCK, i]]
    else:
        curvature = state.rows[BOUND] if use_bound else state.rows[CURVATURE]
        block_hessian(columns, state, work.lists[BLOCK], m, curvature, weight, work.pair[HESSIAN])


@jit
def search(columns, state, work, m):
    """Take the composite Newton step, or as much of it as lowers the objective enough.

    Returns whether any of it does.
    """
    x, g, new, deltas = work.vectors[3], work.vectors[4], work.vectors[5], work.vectors[6]
    thresholds = work.vectors[1]
    # Without thresholds the projected step is Newton's.
    is_projected = state.counts[UPDATE] != PN
    slope = 0.0
    if is_projected:
        two_metric_direction(work.pair, m, work.vectors, work.lists)
        state.numbers[MULTIPLICATIONS] += m * m * m / 3.0 + m * m
    else:
        state.numbers[MULTIPLICATIONS] += prox_newton(work.pair, m, work.vectors, work.lists)
        if state.counts[LOSS] == SQUARED:
            return True
        for k in range(m):
            deltas[k] = new[k] - x[k]
            slope += g[k] * deltas[k]
        slope += penalty_change(x, new, thresholds, m)
    step = 1.0
    for _ in range(_HALVINGS):
        promised = -step * slope
        if is_projected:
            promised = two_metric_point(step, m, work.vectors, work.lists)
        change = loss_change(columns, state, work, m)
        change += penalty_change(x, new, thresholds, m)
        if change <= -_SUFFICIENT * promised:
            return True
        step *= 0.5
        if not is_projected:
            for k in range(m):
                deltas[k] *= 0.5
                new[k] = x[k] + deltas[k]
    return False


@jit
def block_step(columns, state, work, b, m, weight, has_grams):
    """Fill ``vectors[5]`` with the new values of a block whose gradient is ``vectors[4]``."""
    update = state.counts[UPDATE]
    x, g, new = work.vectors[3], work.vectors[4], work.vectors[5]
    for k in range(m):
        x[k] = state.coords[X, work.lists[BLOCK, k]]
        work.vectors[1, k] = state.coords[THRESHOLD, work.lists[BLOCK, k]]
        work.vectors[2, k] = state.coords[ONE_SIDED, work.lists[BLOCK, k]]
    use_bound = state.counts[LOSS] == SQUARED or update <= PG
    if b >= 0 and update == HB:
        solve(work.matrices[FACTOR, b], g, m, new)
        state.numbers[MULTIPLICATIONS] += m * m
        for k in range(m):
            new[k] = x[k] - new[k]
        return
    is_newton = update > PG or update == HB
    if b < 0 or is_newton:
        for attempt in range(2):
            set_hessian(columns, state, work, b, m, weight, has_grams, use_bound or attempt > 0)
            if not is_newton:
                break
            if attempt == 0 and search(columns, state, work, m):
                return
            # The direction is of no use to the last digit: a step along the gradient instead.
        lipschitz = largest_eigenvalue(work.pair[HESSIAN], m, work.pair[FACTOR], work.vectors)
        state.numbers[MULTIPLICATIONS] += 4.0 / 3.0 * m * m * m
    else:
        lipschitz = work.blocks[LARGEST, b]
    prox_gradient(lipschitz, m, work.vectors)


@jit
def move(columns, state, work, m, weight):
    """Set a block to ``vectors[5]`` and bring residual and gradient up to date."""
    new, deltas = work.vectors[5], work.vectors[6]
    block = work.lists[BLOCK]
    is_greedy = state.counts[RULE] < RANDOM
    moving = np.int64(0)
    shift = 0.0
    for k in range(m):
        j = block[k]
        old = state.coords[X, j]
        if new[k] == old:
            continue
        # What does not move costs nothing.
        block[moving] = j
        deltas[moving] = new[k] - old
        moving += 1
        shift += (new[k] - old) * state.coords[OFFSET, j]
        state.numbers[PENALTY] += state.coords[THRESHOLD, j] * (abs(new[k]) - abs(old))
        if (new[k] == 0.0) != (old == 0.0):
            state.counts[SUPPORT] += 1 if old == 0.0 else -1
            state.counts[CHANGED] = state.counts[ITERATION] + 1
        state.coords[X, j] = new[k]
    moved = state.rows[MOVED]
    count = combine(columns, state, work, moving)
    if state.counts[LOSS] == SQUARED:
        if columns.XT.shape[0] > 0:
            axpy(-1.0, moved, state.rows[RESIDUAL])
        else:
            for t in range(count):
                state.rows[RESIDUAL, work.touched[TOUCHED, t]] -= moved[work.touched[TOUCHED, t]]
        if weight > 0.0:
            state.numbers[SHIFT] -= shift
        if not is_greedy:
            return
        if work.grams.shape[0] > 0:
            kept = np.int64(0)
            for k in range(moving):
                place = work.places[PLACE, block[k]]
                if place >= 0:
                    work.lists[KIND, kept] = place
                    kept += 1
            if kept == moving:
                add_gram_rows(work.grams, work.lists[KIND], deltas, kept, state.coords[GRADIENT])
                state.numbers[MULTIPLICATIONS] += kept * state.coords.shape[1]
                return
        if count < moved.shape[0]:
            for t in range(count):
                moved[work.touched[TOUCHED, t]] = -moved[work.touched[TOUCHED, t]]
        else:
            for i in range(moved.shape[0]):
                moved[i] = -moved[i]
    else:
        if state.counts[INTERCEPT]:
            before = state.rows[ZERO]
            copy(state.rows[RESIDUAL], before)
        for t in range(count):
            i = work.touched[TOUCHED, t]
            state.rows[LINEAR, i] += moved[i]
            old = state.rows[RESIDUAL, i]
            set_row(state, i)
            moved[i] = state.rows[RESIDUAL, i] - old
        if state.counts[INTERCEPT]:
            move_intercept(state)
            count = moved.shape[0]
            for i in range(count):
                moved[i] = state.rows[RESIDUAL, i] - before[i]
            fill(before, 0.0)
        if not is_greedy:
            return
        shift = 0.0
    add_to_gradient(columns, state, work.touched[TOUCHED], count, weight, shift)


@jit
def descend(columns, state, work, uniforms, size, record):
    """As many iterations as ``uniforms`` has rows; returns how many were of use.

    Fewer are if a greedy rule finds nothing that could be improved.
    """
    is_greedy = state.counts[RULE] < RANDOM
    is_squared = state.counts[LOSS] == SQUARED
    weight = dot(state.rows[ROOT], state.rows[ROOT]) if is_squared else 0.0
    g = work.vectors[4]
    for step in range(uniforms.shape[0]):
        m, b = choose(state, work, uniforms[step], size)
        if m == 0:
            return step
        has_grams = False
        if is_greedy:
            for k in range(m):
                g[k] = state.coords[GRADIENT, work.lists[BLOCK, k]]
            if is_squared and work.grams.shape[0] > 0:
                has_grams = keep_gram_rows(columns, weight, state, work, m)
        else:
            block_gradient(columns, state, work.lists[BLOCK], m, g)
        is_recorded = record.numbers.shape[0] > 0
        if is_recorded:
            for k in range(record.counts.shape[1] - 1):
                record.counts[step, k + 1] = work.lists[BLOCK, k] if k < m else -1
        block_step(columns, state, work, b, m, weight, has_grams)
        move(columns, state, work, m, weight)
        state.counts[ITERATION] += 1
        if is_recorded:
            record.numbers[step, 0] = objective(state)
            record.numbers[step, 1] = state.numbers[MULTIPLICATIONS]
            record.counts[step, 0] = state.counts[SUPPORT]
    return uniforms.shape[0]
