"""Compiled loops that choose the next block.

The names of rows and entries are explained in :mod:`sparsestat.solvers._block_arrays`.
"""

from sparsestat.solvers._block_arrays import (
    BLOCK,
    CYCLIC,
    FACTOR,
    GRADIENT,
    GS,
    GSQ_EXACT,
    ITERATION,
    LAW,
    LIPSCHITZ,
    MULTIPLICATIONS,
    ONE_SIDED,
    ORDER,
    PERM,
    PERMUTATION,
    POSITION,
    RANDOM,
    RULE,
    SCORE,
    STEP,
    SUM,
    THRESHOLD,
    X,
)
from sparsestat.solvers._kernels import (
    SUMS,
)
from sparsestat.utils._numba import jit


@jit(fastmath=SUMS)
def subgradient_scores(x, g, thresholds, positive, scores):
    """Squares of the smallest subgradients."""
    for j in range(x.shape[0]):
        bar = thresholds[j]
        up = min(g[j] + bar, 0.0)
        down = (1.0 - positive[j]) * max(g[j] - bar, 0.0)
        at_zero = up + down
        elsewhere = g[j] + bar if x[j] > 0.0 else g[j] - bar
        smallest = at_zero if x[j] == 0.0 else elsewhere
        scores[j] = smallest * smallest


@jit(fastmath=SUMS)
def decrease_scores(x, g, steps, thresholds, positive, scores):
    """Decrease of ``g e + e^2 / (2 step) + threshold |x + e|`` by the best e of one coordinate."""
    for j in range(x.shape[0]):
        step = steps[j]
        target = x[j] - step * g[j]
        bar = step * thresholds[j]
        new = max(target - bar, 0.0) - (1.0 - positive[j]) * max(-target - bar, 0.0)
        change = new - x[j]
        quadratic = 0.5 * change * change / step if step > 0.0 else 0.0
        decrease = -(g[j] * change + quadratic) - thresholds[j] * (abs(new) - abs(x[j]))
        scores[j] = max(decrease, 0.0)


@jit
def score_coordinates(state):
    x, g, scores = state.coords[X], state.coords[GRADIENT], state.coords[SCORE]
    thresholds, one_sided = state.coords[THRESHOLD], state.coords[ONE_SIDED]
    if state.counts[RULE] == GS:
        subgradient_scores(x, g, thresholds, one_sided, scores)
    else:
        decrease_scores(x, g, state.coords[STEP], thresholds, one_sided, scores)
    state.numbers[MULTIPLICATIONS] += 4 * state.coords[X].shape[0]


@jit(fastmath=SUMS)
def sum_blocks(scores, order, starts, sums):
    for b in range(sums.shape[0]):
        total = 0.0
        for i in range(starts[b], starts[b + 1]):
            total += scores[order[i]]
        sums[b] = total


@jit
def newton_scores(work, gradient, vector, sums, numbers):
    """Half of ``g_b' H_b^-1 g_b`` for every block."""
    for b in range(sums.shape[0]):
        start = work.starts[b]
        m = work.starts[b + 1] - start
        L = work.matrices[FACTOR, b]
        total = 0.0
        for k in range(m):
            value = gradient[work.places[ORDER, start + k]]
            for i in range(k):
                value -= L[k, i] * vector[i]
            vector[k] = value / L[k, k] if L[k, k] > 0.0 else 0.0
            total += vector[k] * vector[k]
        sums[b] = 0.5 * total
        numbers[MULTIPLICATIONS] += 0.5 * m * m


@jit
def sift_down(keys, items, size):
    """Restore the heap, smallest key first, whose first entry has changed."""
    i = 0
    key, item = keys[0], items[0]
    while True:
        child = 2 * i + 1
        if child >= size:
            break
        if child + 1 < size and keys[child + 1] < keys[child]:
            child += 1
        if keys[child] >= key:
            break
        keys[i], items[i] = keys[child], items[child]
        i = child
    keys[i], items[i] = key, item


@jit
def sift_up(keys, items, i):
    key, item = keys[i], items[i]
    while i > 0:
        parent = (i - 1) // 2
        if keys[parent] <= key:
            break
        keys[i], items[i] = keys[parent], items[parent]
        i = parent
    keys[i], items[i] = key, item


@jit
def top_coordinates(scores, x, size, keys, block):
    """The ``size`` coordinates with the largest positive scores, then others that are not zero.

    Returns how many there are.
    """
    count = 0
    for j in range(scores.shape[0]):
        score = scores[j]
        if count < size:
            if score > 0.0:
                keys[count], block[count] = score, j
                count += 1
                sift_up(keys, block, count - 1)
        elif score > keys[0]:
            keys[0], block[0] = score, j
            sift_down(keys, block, size)
    if 0 < count < size:
        # What is optimal by itself need not stay so when the others move.
        for j in range(scores.shape[0]):
            if count < size and scores[j] <= 0.0 and x[j] != 0.0:
                block[count] = j
                count += 1
    return count


@jit
def shuffle_next(permutation, size, position, uniform):
    """Draw entry ``position`` of a permutation among those that are not drawn yet."""
    other = position + int(uniform * (size - position))
    permutation[position], permutation[other] = permutation[other], permutation[position]
    return permutation[position]


@jit
def draw_block(cumulative, uniform):
    """The block to which a law with this distribution function takes a uniform number."""
    low, high = 0, cumulative.shape[0] - 1
    while low < high:
        middle = (low + high) // 2
        if cumulative[middle] > uniform:
            high = middle
        else:
            low = middle + 1
    return low


@jit
def choose(state, work, uniforms, size):
    """Fill ``work.lists[BLOCK]``; return its size and which of the fixed blocks it is.

    The size is zero if a greedy rule finds nothing that could be improved.
    """
    rule = state.counts[RULE]
    n_blocks = work.blocks.shape[1]
    if n_blocks == 0:
        if rule == RANDOM:
            for k in range(size):
                work.lists[BLOCK, k] = shuffle_next(
                    work.places[PERMUTATION], work.places.shape[1], k, uniforms[k]
                )
            return size, -1
        score_coordinates(state)
        return top_coordinates(
            state.coords[SCORE], state.coords[X], size, work.vectors[0], work.lists[BLOCK]
        ), -1
    if rule < RANDOM:
        if rule == GSQ_EXACT:
            newton_scores(
                work, state.coords[GRADIENT], work.vectors[0], work.blocks[SUM], state.numbers
            )
        else:
            score_coordinates(state)
            sum_blocks(state.coords[SCORE], work.places[ORDER], work.starts, work.blocks[SUM])
        b = 0
        for i in range(1, n_blocks):
            if work.blocks[SUM, i] > work.blocks[SUM, b]:
                b = i
        if not work.blocks[SUM, b] > 0.0:
            return 0, -1
    elif rule == CYCLIC:
        b = state.counts[ITERATION] % n_blocks
    elif rule == PERM:
        b = shuffle_next(work.places[PERMUTATION], n_blocks, state.counts[POSITION], uniforms[0])
        state.counts[POSITION] = (state.counts[POSITION] + 1) % n_blocks
    elif rule == LIPSCHITZ:
        b = draw_block(work.blocks[LAW], uniforms[0])
    else:
        b = int(uniforms[0] * n_blocks)
    start = work.starts[b]
    m = work.starts[b + 1] - start
    for k in range(m):
        work.lists[BLOCK, k] = work.places[ORDER, start + k]
    return m, b
