"""Passes over the cost matrix of an entropic transport problem, and over its plan.

The plan is P_ij = exp(u_i + v_j - S_ij) with S_ij = (C_ij - r_i - t_j) / epsilon, where r and
t are offsets that keep the exponents small. A row of costs is read from C (metric 0) or computed
from the rows of X and the columns of Yt, so that no matrix is ever stored.

Every function works on a block of rows: it gets the rows' part of C, X, r and u, writes what
belongs to them, and adds to the sums of the columns, which are private to the block.
"""

import math

import numpy as np

from sparsestat.utils._kernels import EXP_FASTMATH, fast_exp
from sparsestat.utils._numba import jit

STORED, SQEUCLIDEAN, EUCLIDEAN, CITYBLOCK = 0, 1, 2, 3

# Beyond these, a sum of exponentials may consist of clipped terms.
_TINY, _HUGE = 1e-290, 1e290
SUM_FASTMATH = {"reassoc", "contract", "nnan", "ninf", "nsz"}


@jit(fastmath=SUM_FASTMATH)
def dot(x, y):
    s = 0.0
    for j in range(x.shape[0]):
        s += x[j] * y[j]
    return s


@jit(fastmath=SUM_FASTMATH)
def four_dots(K, i, y):
    s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
    for j in range(y.shape[0]):
        z = y[j]
        s0 += K[i, j] * z
        s1 += K[i + 1, j] * z
        s2 += K[i + 2, j] * z
        s3 += K[i + 3, j] * z
    return s0, s1, s2, s3


@jit(fastmath=SUM_FASTMATH)
def add_scaled(scale, x, y):
    for j in range(y.shape[0]):
        y[j] += scale * x[j]


@jit(fastmath=SUM_FASTMATH)
def add_four(scale, K, i, y):
    c0, c1, c2, c3 = scale[i], scale[i + 1], scale[i + 2], scale[i + 3]
    for j in range(y.shape[0]):
        y[j] += (c0 * K[i, j] + c1 * K[i + 1, j]) + (c2 * K[i + 2, j] + c3 * K[i + 3, j])


@jit(fastmath=EXP_FASTMATH)
def _exponent(cost, v, r, t, inverse_epsilon):
    return v - (cost - r - t) * inverse_epsilon


@jit(fastmath=SUM_FASTMATH)
def _largest(row, v, r, t, inverse_epsilon):
    largest = -np.inf
    for j in range(row.shape[0]):
        z = _exponent(row[j], v[j], r, t[j] if t.shape[0] > 0 else 0.0, inverse_epsilon)
        largest = max(largest, z)
    return largest


@jit(fastmath=EXP_FASTMATH)
def _entry(cost, u, v, r, t, inverse_epsilon):
    """One entry of the plan; without reassociation, which would undo the offsets."""
    return fast_exp(u + v - (cost - r - t) * inverse_epsilon)


@jit(fastmath=EXP_FASTMATH)
def _plain_entry(cost, u, v, inverse_epsilon):
    return fast_exp(u + v - cost * inverse_epsilon)


@jit(fastmath=SUM_FASTMATH)
def _plan_row(row, u, v, r, t, inverse_epsilon, out):
    """Write a row of the plan, and return its sum."""
    s = 0.0
    if t.shape[0] == 0:
        shifted = u + r * inverse_epsilon
        for j in range(row.shape[0]):
            p = _plain_entry(row[j], shifted, v[j], inverse_epsilon)
            out[j] = p
            s += p
        return s
    for j in range(row.shape[0]):
        p = _entry(row[j], u, v[j], r, t[j], inverse_epsilon)
        out[j] = p
        s += p
    return s


@jit(fastmath=SUM_FASTMATH)
def _two_squares(x0, x1, y0, y1, out):
    for j in range(out.shape[0]):
        out[j] = (x0 - y0[j]) * (x0 - y0[j]) + (x1 - y1[j]) * (x1 - y1[j])


@jit(fastmath=SUM_FASTMATH)
def _add_squares(x, y, out):
    for j in range(out.shape[0]):
        out[j] += (x - y[j]) * (x - y[j])


@jit(fastmath=SUM_FASTMATH)
def _add_distances(x, y, out):
    for j in range(out.shape[0]):
        out[j] += abs(x - y[j])


@jit(fastmath=SUM_FASTMATH)
def _point_costs(x, Yt, metric, out):
    first = 0
    if metric != CITYBLOCK and x.shape[0] >= 2:
        # Every pass over the row leaves the nearest cache where there are many columns.
        _two_squares(x[0], x[1], Yt[0], Yt[1], out)
        first = 2
    else:
        for j in range(out.shape[0]):
            out[j] = 0.0
    for k in range(first, x.shape[0]):
        if metric == CITYBLOCK:
            _add_distances(x[k], Yt[k], out)
        else:
            _add_squares(x[k], Yt[k], out)
    if metric == EUCLIDEAN:
        for j in range(out.shape[0]):
            out[j] = math.sqrt(out[j])


@jit
def _cost_row(C, X, Yt, metric, i, buffer):
    row = buffer
    if metric == STORED:
        row = C[i]
    else:
        _point_costs(X[i], Yt, metric, buffer)
    return row


@jit
def _log_sum(row, v, r, t, inverse_epsilon, buffer):
    """Logarithm of the sum over j of exp(v_j - S_j), whatever the size of the exponents."""
    largest = _largest(row, v, r, t, inverse_epsilon)
    return largest + math.log(_plan_row(row, -largest, v, r, t, inverse_epsilon, buffer))


@jit
def _scaled_row(row, u, log_a, power, relaxation, v, r, t, inverse_epsilon, buffer):
    """Find the new potential of a row, and the scale that takes the buffer to its plan.

    Returns these, and the logarithm of the sum over j of exp(v_j - S_j).
    """
    s = _plan_row(row, u, v, r, t, inverse_epsilon, buffer)
    if _TINY < s < _HUGE:
        log_sum = math.log(s) - u
        new = u + relaxation * (log_a - power * log_sum - u)
        if abs(new - u) < 600.0:
            return new, math.exp(new - u), log_sum
    log_sum = _log_sum(row, v, r, t, inverse_epsilon, buffer)
    # From far away, a step beyond the aim would only overshoot.
    new = log_a - power * log_sum
    _plan_row(row, new, v, r, t, inverse_epsilon, buffer)
    return new, 1.0, log_sum


@jit
def sweep(C, X, Yt, metric, r, t, inverse_epsilon, u, v, log_a, power, relaxation, buffer, columns):
    """Update the potentials of the rows, and add up the plan's columns after that.

    ``u`` goes ``relaxation`` times the way to ``log_a - power * log(sum_j exp(v_j - S_ij))``.
    Returns its largest change, and the distance of the new row sums from exp(log_a).
    """
    change, error = 0.0, 0.0
    costs, plan = buffer[0], buffer[1]
    for i in range(u.shape[0]):
        row = _cost_row(C, X, Yt, metric, i, costs)
        new, scale, log_sum = _scaled_row(
            row, u[i], log_a[i], power, relaxation, v, r[i], t, inverse_epsilon, plan
        )
        change = max(change, abs(new - u[i]))
        if relaxation != 1.0:
            error += abs(math.exp(new + log_sum) - math.exp(log_a[i]))
        u[i] = new
        add_scaled(scale, plan, columns)
    return change, error


@jit
def column_log_sums(C, X, Yt, metric, r, t, inverse_epsilon, u, buffer, largest, sums):
    """Sums over rows of exp(u_i - S_ij - largest_j) where ``largest`` is the running maximum."""
    costs = buffer[0]
    for i in range(u.shape[0]):
        row = _cost_row(C, X, Yt, metric, i, costs)
        for j in range(row.shape[0]):
            z = u[i] - (row[j] - r[i] - t[j]) * inverse_epsilon
            if z > largest[j]:
                sums[j] = sums[j] * math.exp(largest[j] - z) + 1.0
                largest[j] = z
            else:
                sums[j] += math.exp(z - largest[j])


@jit
def row_log_sums(C, X, Yt, metric, r, t, inverse_epsilon, v, buffer, out):
    """Logarithms of the sums over j of exp(v_j - S_ij)."""
    costs, plan = buffer[0], buffer[1]
    for i in range(out.shape[0]):
        row = _cost_row(C, X, Yt, metric, i, costs)
        out[i] = _log_sum(row, v, r[i], t, inverse_epsilon, plan)


@jit
def marginals(C, X, Yt, metric, r, t, inverse_epsilon, u, v, buffer, rows, columns):
    """Sums of the plan's rows and columns; returns the sum of C times the plan."""
    cost = 0.0
    costs, plan = buffer[0], buffer[1]
    for i in range(u.shape[0]):
        row = _cost_row(C, X, Yt, metric, i, costs)
        rows[i] = _plan_row(row, u[i], v, r[i], t, inverse_epsilon, plan)
        cost += dot(row, plan)
        add_scaled(1.0, plan, columns)
    return cost


@jit
def gibbs_kernel(C, X, Yt, metric, r, t, inverse_epsilon, u, v, buffer, K):
    """Write the block's rows of the plan of ``u`` and ``v`` to ``K``."""
    costs, plan = buffer[0], buffer[1]
    for i in range(u.shape[0]):
        row = _cost_row(C, X, Yt, metric, i, costs)
        _plan_row(row, u[i], v, r[i], t, inverse_epsilon, plan)
        for j in range(row.shape[0]):
            K[i, j] = plan[j]


@jit
def _relaxed(scale, s, a, relaxation):
    """The new scale of a row whose kernel sums to ``s``, and its distance from ``a``."""
    new = a / s
    if relaxation != 1.0:
        new = scale * math.exp(relaxation * math.log(new / scale))
    return new, abs(new * s - a)


@jit
def kernel_sweep(K, row_scale, column_scale, a, relaxation, columns):
    """Scale the rows of ``K`` to sums ``a``, and add up the columns of the rows so scaled.

    The logarithms of the scales go ``relaxation`` times the way. Returns the distance of
    the new row sums from ``a``.
    """
    error = 0.0
    n = a.shape[0]
    i = np.int64(0)
    while i + 4 <= n:
        sums = four_dots(K, i, column_scale)
        for k in range(4):
            row_scale[i + k], distance = _relaxed(row_scale[i + k], sums[k], a[i + k], relaxation)
            error += distance
        add_four(row_scale, K, i, columns)
        i += 4
    while i < n:
        s = dot(K[i], column_scale)
        row_scale[i], distance = _relaxed(row_scale[i], s, a[i], relaxation)
        error += distance
        add_scaled(row_scale[i], K[i], columns)
        i += 1
    return error


@jit(fastmath=SUM_FASTMATH)
def _store_row(scale, inverse_a, row, P, columns, squares):
    for j in range(row.shape[0]):
        p = scale * row[j]
        P[j] = p
        columns[j] += p
        squares[j] += p * p * inverse_a


@jit(fastmath=SUM_FASTMATH)
def _count_row(scale, inverse_a, low_a, low_b, row, columns, squares):
    count = 0
    for j in range(row.shape[0]):
        p = scale * row[j]
        columns[j] += p
        squares[j] += p * p * inverse_a
        count += p > min(low_a, low_b[j])
    return count


@jit
def normalised_plan(
    C,
    X,
    Yt,
    metric,
    r,
    t,
    inverse_epsilon,
    u,
    v,
    a,
    log_a,
    low_a,
    low_b,
    buffer,
    P,
    columns,
    squares,
    counts,
):
    """Find the plan whose rows have the sums ``a``, and its potentials of the rows.

    Adds up its columns and the columns of P_ij^2 / a_i, and writes the plan to ``P``; if
    that is empty, counts the entries of each row that exceed ``min(low_a_i, low_b_j)``.
    """
    costs, plan = buffer[0], buffer[1]
    for i in range(u.shape[0]):
        row = _cost_row(C, X, Yt, metric, i, costs)
        new, scale, _ = _scaled_row(
            row, u[i], log_a[i], 1.0, 1.0, v, r[i], t, inverse_epsilon, plan
        )
        u[i] = new
        if P.shape[0] > 0:
            _store_row(scale, 1.0 / a[i], plan, P[i], columns, squares)
        else:
            counts[i] = _count_row(scale, 1.0 / a[i], low_a[i], low_b, plan, columns, squares)


@jit
def row_coupling(P, inverse_a, z, products, out):
    """Add P' diag(inverse_a) P z to ``out``; ``products`` gets diag(inverse_a) P z."""
    n = P.shape[0]
    i = np.int64(0)
    while i + 4 <= n:
        sums = four_dots(P, i, z)
        for k in range(4):
            products[i + k] = inverse_a[i + k] * sums[k]
        add_four(products, P, i, out)
        i += 4
    while i < n:
        products[i] = inverse_a[i] * dot(P[i], z)
        add_scaled(products[i], P[i], out)
        i += 1


@jit
def row_coupling_computed(C, X, Yt, metric, r, t, inverse_epsilon, u, v, inverse_a, z, buffer, out):
    """``row_coupling`` for the plan of ``u`` and ``v``, which is computed as it is needed."""
    costs, plan = buffer[0], buffer[1]
    for i in range(u.shape[0]):
        row = _cost_row(C, X, Yt, metric, i, costs)
        _plan_row(row, u[i], v, r[i], t, inverse_epsilon, plan)
        add_scaled(inverse_a[i] * dot(plan, z), plan, out)


@jit
def count_entries(C, X, Yt, metric, r, t, inverse_epsilon, u, v, low_a, low_b, buffer, counts):
    """Count the entries of each row of the plan that exceed ``min(low_a_i, low_b_j)``."""
    costs, plan = buffer[0], buffer[1]
    for i in range(u.shape[0]):
        row = _cost_row(C, X, Yt, metric, i, costs)
        _plan_row(row, u[i], v, r[i], t, inverse_epsilon, plan)
        count = 0
        for j in range(row.shape[0]):
            count += plan[j] > min(low_a[i], low_b[j])
        counts[i] = count


@jit
def fill_entries(
    C,
    X,
    Yt,
    metric,
    r,
    t,
    inverse_epsilon,
    u,
    v,
    low_a,
    low_b,
    buffer,
    indptr,
    indices,
    data,
):
    """Write the entries that ``count_entries`` counted as the rows of a sparse matrix."""
    costs, plan = buffer[0], buffer[1]
    for i in range(u.shape[0]):
        row = _cost_row(C, X, Yt, metric, i, costs)
        _plan_row(row, u[i], v, r[i], t, inverse_epsilon, plan)
        _compress_row(plan, low_a[i], low_b, indptr[i], indptr[i + 1], indices, data)


@jit
def _compress_row(row, low_a, low_b, start, stop, indices, data):
    position = start
    for j in range(row.shape[0]):
        # The count came from numbers before rounding, hence the second condition.
        if row[j] > min(low_a, low_b[j]) and position < stop:
            indices[position] = j
            data[position] = row[j]
            position += 1
    for rest in range(position, stop):
        indices[rest] = 0
        data[rest] = 0.0


@jit
def count_stored(P, low_a, low_b, counts):
    """Count the entries of a stored plan that exceed ``min(low_a_i, low_b_j)``."""
    for i in range(P.shape[0]):
        row, count = P[i], 0
        for j in range(row.shape[0]):
            count += row[j] > min(low_a[i], low_b[j])
        counts[i] = count


@jit
def compress(P, low_a, low_b, indptr, indices, data):
    """Write the large entries of a stored plan as the rows of a sparse matrix."""
    for i in range(P.shape[0]):
        _compress_row(P[i], low_a[i], low_b, indptr[i], indptr[i + 1], indices, data)


@jit(fastmath=SUM_FASTMATH)
def _sparse_dot(indices, data, z, start, stop):
    s = 0.0
    for position in range(start, stop):
        s += data[position] * z[indices[position]]
    return s


@jit
def row_coupling_sparse(indptr, indices, data, inverse_a, z, out):
    """Add P' diag(inverse_a) P z to ``out``, with P in compressed rows."""
    for i in range(inverse_a.shape[0]):
        start, stop = indptr[i], indptr[i + 1]
        scale = inverse_a[i] * _sparse_dot(indices, data, z, start, stop)
        for position in range(start, stop):
            out[indices[position]] += scale * data[position]


@jit
def kernel_sweep_sparse(indptr, indices, data, row_scale, column_scale, a, relaxation, columns):
    """``kernel_sweep`` on a matrix in compressed rows."""
    error = 0.0
    for i in range(a.shape[0]):
        start, stop = indptr[i], indptr[i + 1]
        s = _sparse_dot(indices, data, column_scale, start, stop)
        row_scale[i], distance = _relaxed(row_scale[i], s, a[i], relaxation)
        error += distance
        for position in range(start, stop):
            columns[indices[position]] += row_scale[i] * data[position]
    return error
