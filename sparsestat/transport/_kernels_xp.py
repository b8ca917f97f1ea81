"""The passes of ``_kernels.py`` on the array API standard.

``buffer`` is not used: a library allocates what it needs. Sums of exponentials always subtract
their largest exponent, because a branch for each row would stop a device.
"""

import array_api_compat

STORED, SQEUCLIDEAN, EUCLIDEAN, CITYBLOCK = 0, 1, 2, 3

# Stands for the logarithm of a column that a sweep left empty; the next sweeps fill it.
_TINY = 1e-290


def cost_block(C, X, Yt, metric):
    """The costs of a block as a matrix."""
    if metric == STORED:
        return C
    xp = array_api_compat.array_namespace(X)
    out = 0.0
    for k in range(X.shape[1]):
        difference = X[:, k][:, None] - Yt[k, :][None, :]
        out = out + (xp.abs(difference) if metric == CITYBLOCK else difference * difference)
    return xp.sqrt(out) if metric == EUCLIDEAN else out


def _exponents(C, X, Yt, metric, r, t, inverse_epsilon, v):
    return v[None, :] - _reduced(C, X, Yt, metric, r, t) * inverse_epsilon


def _reduced(C, X, Yt, metric, r, t):
    return cost_block(C, X, Yt, metric) - r[:, None] - t[None, :]


def _row_exponentials(C, X, Yt, metric, r, t, inverse_epsilon, v):
    """exp(v_j - S_ij - largest_i), the largest exponents, and the logarithms of the row sums."""
    xp = array_api_compat.array_namespace(v)
    z = _exponents(C, X, Yt, metric, r, t, inverse_epsilon, v)
    largest = xp.max(z, axis=1)
    terms = xp.exp(z - largest[:, None])
    return terms, largest, largest + xp.log(xp.sum(terms, axis=1))


def sweep(C, X, Yt, metric, r, t, inverse_epsilon, u, v, log_a, power, relaxation, buffer, columns):
    """Update the potentials of the rows, and add up the plan's columns after that.

    ``u`` goes ``relaxation`` times the way to ``log_a - power * log(sum_j exp(v_j - S_ij))``.
    Returns its largest change, and the distance of the new row sums from exp(log_a).
    """
    xp = array_api_compat.array_namespace(u)
    terms, largest, log_sums = _row_exponentials(C, X, Yt, metric, r, t, inverse_epsilon, v)
    new = u + relaxation * (log_a - power * log_sums - u)
    change = xp.max(xp.abs(new - u))
    error = xp.sum(xp.abs(xp.exp(new + log_sums) - xp.exp(log_a)))
    u[...] = new
    columns += xp.matmul(xp.exp(new + largest), terms) + _TINY
    return change, error


def column_log_sums(C, X, Yt, metric, r, t, inverse_epsilon, u, buffer, largest, sums):
    """Sums over rows of exp(u_i - S_ij - largest_j) where ``largest`` is the running maximum."""
    xp = array_api_compat.array_namespace(u)
    z = u[:, None] - _reduced(C, X, Yt, metric, r, t) * inverse_epsilon
    new = xp.maximum(largest, xp.max(z, axis=0))
    sums[...] = sums * xp.exp(largest - new) + xp.sum(xp.exp(z - new[None, :]), axis=0)
    largest[...] = new


def row_log_sums(C, X, Yt, metric, r, t, inverse_epsilon, v, buffer, out):
    """Logarithms of the sums over j of exp(v_j - S_ij)."""
    out[...] = _row_exponentials(C, X, Yt, metric, r, t, inverse_epsilon, v)[2]


def marginals(C, X, Yt, metric, r, t, inverse_epsilon, u, v, buffer, rows, columns):
    """Sums of the plan's rows and columns; returns the sum of C times the plan."""
    xp = array_api_compat.array_namespace(u)
    costs = cost_block(C, X, Yt, metric)
    plan = xp.exp(u[:, None] + v[None, :] - (costs - r[:, None] - t[None, :]) * inverse_epsilon)
    rows[...] = xp.sum(plan, axis=1)
    columns += xp.sum(plan, axis=0)
    return xp.sum(costs * plan)


def gibbs_kernel(C, X, Yt, metric, r, t, inverse_epsilon, u, v, buffer, K):
    """Write the block's rows of the plan of ``u`` and ``v`` to ``K``."""
    xp = array_api_compat.array_namespace(u)
    z = u[:, None] + _exponents(C, X, Yt, metric, r, t, inverse_epsilon, v)
    K[...] = xp.astype(xp.exp(z), K.dtype)


def kernel_sweep(K, row_scale, column_scale, a, relaxation, columns):
    """Scale the rows of ``K`` to sums ``a``, and add up the columns of the rows so scaled.

    The logarithms of the scales go ``relaxation`` times the way. Returns the distance of
    the new row sums from ``a``.
    """
    xp = array_api_compat.array_namespace(K)
    sums = xp.astype(xp.matmul(K, xp.astype(column_scale, K.dtype)), a.dtype)
    row_scale[...] = row_scale * (a / (sums * row_scale)) ** relaxation
    columns += xp.astype(xp.matmul(xp.astype(row_scale, K.dtype), K), a.dtype)
    return xp.sum(xp.abs(row_scale * sums - a))


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

    Adds up its columns and the columns of P_ij^2 / a_i, and writes the plan to ``P``. Nothing
    is counted: sparse rows do not pay on a device.
    """
    xp = array_api_compat.array_namespace(u)
    terms, largest, log_sums = _row_exponentials(C, X, Yt, metric, r, t, inverse_epsilon, v)
    u[...] = log_a - log_sums
    plan = xp.exp(u + largest)[:, None] * terms
    columns += xp.sum(plan, axis=0)
    squares += xp.matmul(1.0 / a, plan * plan)
    if P.shape[0] > 0:
        P[...] = xp.astype(plan, P.dtype)


def row_coupling(P, inverse_a, z, products, out):
    """Add P' diag(inverse_a) P z to ``out``; ``products`` gets diag(inverse_a) P z."""
    xp = array_api_compat.array_namespace(P)
    products[...] = inverse_a * xp.astype(xp.matmul(P, xp.astype(z, P.dtype)), z.dtype)
    out += xp.astype(xp.matmul(xp.astype(products, P.dtype), P), z.dtype)


def row_coupling_computed(C, X, Yt, metric, r, t, inverse_epsilon, u, v, inverse_a, z, buffer, out):
    """``row_coupling`` for the plan of ``u`` and ``v``, which is computed as it is needed."""
    xp = array_api_compat.array_namespace(u)
    exponents = _exponents(C, X, Yt, metric, r, t, inverse_epsilon, v)
    row_coupling(xp.exp(u[:, None] + exponents), inverse_a, z, xp.zeros_like(u), out)
