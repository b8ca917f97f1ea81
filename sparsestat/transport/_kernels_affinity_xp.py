"""The passes of ``_kernels_affinity.py`` on the array API standard."""

import array_api_compat


def log_row_sums(D, inverse_epsilon, u, with_diagonal, out):
    """Write the logarithms of the row sums of P to ``out``.

    Always subtracts the largest exponents, because a branch for each row would stop a device.
    """
    xp = array_api_compat.array_namespace(D)
    z = u[None, :] - D * inverse_epsilon
    if not with_diagonal:
        positions = xp.arange(u.shape[0], device=array_api_compat.device(u))
        z = xp.where(positions[:, None] == positions[None, :], -xp.inf, z)
    largest = xp.max(z, axis=1)
    out[...] = u + largest + xp.log(xp.sum(xp.exp(z - largest[:, None]), axis=1))
