"""Compiled loops of block descent over the design: products, Hessians of blocks, gradients.

The names of rows and entries are explained in :mod:`sparsestat.solvers._block_arrays`.
"""

from sparsestat.solvers._block_arrays import (
    BLOCK,
    BOUND,
    CLOCK,
    FACTOR,
    GRADIENT,
    HESSIAN,
    KEPT,
    LARGEST,
    LOSS,
    MEMBER,
    MOVED,
    MULTIPLICATIONS,
    OFFSET,
    ORDER,
    PLACE,
    RESIDUAL,
    ROOT,
    SHIFT,
    SQUARED,
    STAMP,
    TOUCHED,
    ZERO,
    X,
)
from sparsestat.solvers._kernels import (
    SUMS,
    csc_dot,
    dot,
)
from sparsestat.solvers._kernels_block_steps import (
    factorise,
    largest_eigenvalue,
    list_all,
)
from sparsestat.utils._numba import jit

_FRESH = 1e8
"""Multiplications that new rows of the Gram matrix may cost in one iteration."""


# Loops below compile much faster than assignments to slices.


@jit
def fill(vector, value):
    for i in range(vector.shape[0]):
        vector[i] = value


@jit
def copy(vector, out):
    for i in range(vector.shape[0]):
        out[i] = vector[i]


@jit
def column_entries(columns, j):
    if columns.XT.shape[0] > 0:
        return columns.XT.shape[1]
    return columns.indptr[j + 1] - columns.indptr[j]


@jit
def column_dot(columns, j, vector):
    if columns.XT.shape[0] > 0:
        return dot(columns.XT[j], vector)
    return csc_dot(columns.data, columns.indices, columns.indptr[j], columns.indptr[j + 1], vector)


@jit
def block_gradient(columns, state, block, m, g):
    """Gradient of the loss along a block, from the residual."""
    shift = 0.0
    if state.counts[LOSS] == SQUARED:
        shift = state.numbers[SHIFT] * dot(state.rows[ROOT], state.rows[ROOT])
    for k in range(m):
        j = block[k]
        g[k] = shift * state.coords[OFFSET, j] - column_dot(columns, j, state.rows[RESIDUAL])
        state.numbers[MULTIPLICATIONS] += column_entries(columns, j)


@jit
def block_hessian(columns, state, block, m, curvature, weight, H):
    """``X_b' diag(curvature) X_b``.

    ``weight`` is the squared length of the row ROOT if columns are centred implicitly.
    """
    row, offsets = state.rows[ZERO], state.coords[OFFSET]
    is_dense = columns.XT.shape[0] > 0
    for k in range(m):
        j = block[k]
        if is_dense:
            for i in range(row.shape[0]):
                row[i] = columns.XT[j, i] * curvature[i]
        else:
            for p in range(columns.indptr[j], columns.indptr[j + 1]):
                i = columns.indices[p]
                row[i] = columns.data[p] * curvature[i]
        for i in range(k + 1):
            value = column_dot(columns, block[i], row)
            value -= weight * offsets[j] * offsets[block[i]]
            H[k, i] = H[i, k] = value
            state.numbers[MULTIPLICATIONS] += column_entries(columns, block[i])
        H[k, k] = max(H[k, k], 0.0)
        if is_dense:
            fill(row, 0.0)
        else:
            for p in range(columns.indptr[j], columns.indptr[j + 1]):
                row[columns.indices[p]] = 0.0


@jit
def prepare_blocks(columns, state, work, first, last, weight):
    """Hessians, factors and largest eigenvalues of the blocks ``first`` to ``last - 1``."""
    for b in range(first, last):
        start = work.starts[b]
        m = work.starts[b + 1] - start
        H, L = work.matrices[HESSIAN, b], work.matrices[FACTOR, b]
        for k in range(m):
            work.lists[BLOCK, k] = work.places[ORDER, start + k]
        block_hessian(columns, state, work.lists[BLOCK], m, state.rows[BOUND], weight, H)
        work.blocks[LARGEST, b] = largest_eigenvalue(H, m, L, work.vectors)
        list_all(work.lists[MEMBER], m)
        factorise(H, work.lists[MEMBER], m, L)
        state.numbers[MULTIPLICATIONS] += 2.0 * m * m * m


@jit
def add_to_gradient(columns, state, touched, count, weight, shift):
    """Subtract ``X'moved`` from the gradient; ``touched[:count]`` says where moved is not zero.

    ``shift`` is the inner product of the offsets with the step, of which ``-moved`` is the
    product with the columns that are stored.
    """
    gradient, moved = state.coords[GRADIENT], state.rows[MOVED]
    d = gradient.shape[0]
    n = moved.shape[0]
    if columns.XT.shape[0] > 0:
        for j in range(d):
            gradient[j] -= dot(columns.XT[j], moved)
        state.numbers[MULTIPLICATIONS] += d * n
    elif count < n:
        for t in range(count):
            i = touched[t]
            change = moved[i]
            for p in range(columns.row_indptr[i], columns.row_indptr[i + 1]):
                gradient[columns.row_indices[p]] -= columns.row_data[p] * change
            state.numbers[MULTIPLICATIONS] += columns.row_indptr[i + 1] - columns.row_indptr[i]
    else:
        for j in range(d):
            gradient[j] -= column_dot(columns, j, moved)
        state.numbers[MULTIPLICATIONS] += columns.indptr[d]
    if weight > 0.0:
        subtract_offsets(gradient, state.coords[OFFSET], weight * shift)
        state.numbers[MULTIPLICATIONS] += d


@jit(fastmath=SUMS)
def subtract_offsets(vector, offsets, factor):
    for j in range(vector.shape[0]):
        vector[j] -= factor * offsets[j]


@jit(fastmath=SUMS)
def add_gram_rows(grams, slots, deltas, m, gradient):
    """Add ``deltas[k]`` times the rows ``slots[k]``, four at a time."""
    d = gradient.shape[0]
    k = 0
    while k + 4 <= m:
        a, b, c, e = deltas[k], deltas[k + 1], deltas[k + 2], deltas[k + 3]
        A, B, C, E = grams[slots[k]], grams[slots[k + 1]], grams[slots[k + 2]], grams[slots[k + 3]]
        for j in range(d):
            gradient[j] += a * A[j] + b * B[j] + c * C[j] + e * E[j]
        k += 4
    while k < m:
        a, A = deltas[k], grams[slots[k]]
        for j in range(d):
            gradient[j] += a * A[j]
        k += 1


@jit
def gram_row(columns, j, offsets, weight, out, numbers):
    """One row of ``X'X``."""
    d = out.shape[0]
    if columns.XT.shape[0] > 0:
        for i in range(d):
            out[i] = dot(columns.XT[i], columns.XT[j])
        numbers[MULTIPLICATIONS] += d * columns.XT.shape[1]
        return
    fill(out, 0.0)
    for p in range(columns.indptr[j], columns.indptr[j + 1]):
        i = columns.indices[p]
        value = columns.data[p]
        for q in range(columns.row_indptr[i], columns.row_indptr[i + 1]):
            out[columns.row_indices[q]] += value * columns.row_data[q]
        numbers[MULTIPLICATIONS] += columns.row_indptr[i + 1] - columns.row_indptr[i]
    if weight > 0.0:
        subtract_offsets(out, offsets, weight * offsets[j])


@jit
def keep_gram_rows(columns, weight, state, work, m):
    """Compute rows of the Gram matrix for a block, while there is room and time for them.

    Returns whether all of them are at hand.
    """
    cost = float(columns.XT.shape[1]) * state.coords[X].shape[0]
    spent = 0.0
    complete = True
    for k in range(m):
        j = work.lists[BLOCK, k]
        if work.places[PLACE, j] < 0:
            kept = state.counts[KEPT]
            if kept == work.grams.shape[0] or spent > _FRESH:
                complete = False
                continue
            before = state.numbers[MULTIPLICATIONS]
            gram_row(columns, j, state.coords[OFFSET], weight, work.grams[kept], state.numbers)
            spent += max(cost, state.numbers[MULTIPLICATIONS] - before)
            work.places[PLACE, j] = kept
            state.counts[KEPT] = kept + 1
    return complete


@jit(fastmath=SUMS)
def axpy(factor, vector, out):
    for i in range(out.shape[0]):
        out[i] += factor * vector[i]


@jit
def combine(columns, state, work, m):
    """Row MOVED becomes ``X_b vectors[6]``, from the stored entries.

    Returns the number of rows that are not zero, which ``touched`` lists.
    """
    row, deltas, block = state.rows[MOVED], work.vectors[6], work.lists[BLOCK]
    touched, stamps = work.touched[TOUCHED], work.touched[STAMP]
    if columns.XT.shape[0] > 0:
        fill(row, 0.0)
        for k in range(m):
            if deltas[k] != 0.0:
                axpy(deltas[k], columns.XT[block[k]], row)
                state.numbers[MULTIPLICATIONS] += row.shape[0]
        for i in range(row.shape[0]):
            touched[i] = i
        return row.shape[0]
    state.counts[CLOCK] += 1
    clock = state.counts[CLOCK]
    count = 0
    for k in range(m):
        delta = deltas[k]
        if delta == 0.0:
            continue
        j = block[k]
        for p in range(columns.indptr[j], columns.indptr[j + 1]):
            i = columns.indices[p]
            if stamps[i] != clock:
                stamps[i] = clock
                touched[count] = i
                count += 1
                row[i] = 0.0
            row[i] += delta * columns.data[p]
        state.numbers[MULTIPLICATIONS] += columns.indptr[j + 1] - columns.indptr[j]
    return count
