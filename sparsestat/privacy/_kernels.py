"""Loops over reports: what the directions add up to, and products with them.

The directions are those of ``_directions.py``, made where they are used: an entry costs two
multiplications and a population count, which is less than a read from memory.
"""

import math

import numpy as np

from sparsestat.privacy import _directions
from sparsestat.utils._numba import jit

# Sums of products are vectorised; NaN and signed zeros keep their meaning.
SUMS = {"reassoc", "contract"}

# Typed, as numba would make a float of an unsigned and a signed integer.
GOLDEN = np.uint64(_directions.GOLDEN)
FIRST, SECOND = (np.uint64(multiplier) for multiplier in _directions.MULTIPLIERS)
GRID = float(_directions.SPHERICAL_GRID)
SQRT_2 = math.sqrt(2.0)
ONE = np.uint64(1)


@jit
def mix64(x):
    """Scramble one integer as :func:`sparsestat.privacy._directions.mix64` does."""
    x = (x ^ (x >> np.uint64(30))) * FIRST
    x = (x ^ (x >> np.uint64(27))) * SECOND
    return x ^ (x >> np.uint64(31))


@jit
def popcount(x):
    """Number of ones; LLVM knows the pattern and takes the machine's own instruction."""
    x = x - ((x >> ONE) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((x * np.uint64(0x0101010101010101)) >> np.uint64(56))


@jit
def spherical_norm(state, dim):
    """Length of a direction on the sphere before it is scaled."""
    total = np.int64(0)
    for _ in range(dim):
        state += GOLDEN
        odd = 2 * popcount(mix64(state) >> ONE) - 63
        total += odd * odd
    return math.sqrt(total)


@jit
def decode(nonces, bits, keys, dim, spherical, out):
    """Add the directions of reports, each with the sign that its bit gives.

    Parameters
    ----------
    nonces : ndarray of uint64 of shape (n_reports,)
        Public numbers of the reports.
    bits : ndarray of uint32 of shape (n_reports,)
        Bit number k belongs to key number k; 1 is plus.
    keys : ndarray of uint64 of shape (n_bits,)
        Public numbers of the bits.
    dim : int
        Length of a direction.
    spherical : bool
        Whether the directions are on the sphere.
    out : ndarray of int64 of shape (dim,)
        The sum is added to it.

    Returns
    -------
    out : ndarray of int64 of shape (dim,)
    """
    n_reports, n_bits = nonces.shape[0], keys.shape[0]
    for i in range(n_reports):
        for k in range(n_bits):
            state = mix64(nonces[i] ^ keys[k])
            positive = (np.uint64(bits[i]) >> np.uint64(k)) & ONE
            if spherical:
                scale = GRID if positive else -GRID
                norm = spherical_norm(state, dim)
                for j in range(dim):
                    state += GOLDEN
                    odd = 2 * popcount(mix64(state) >> ONE) - 63
                    out[j] += np.int64(np.rint(odd * scale / norm))
            elif dim == 1:
                out[0] += 1 if positive else -1
            else:
                # All ones for a minus: the complement of a word has 64 - count ones, so that
                # the sign costs one operation and 32 is subtracted once for all.
                flip = positive - ONE
                for j in range(dim):
                    state += GOLDEN
                    out[j] += popcount(mix64(state) ^ flip)
    if dim > 1 and not spherical:
        for j in range(dim):
            out[j] -= 32 * n_reports * n_bits
    return out


@jit(fastmath=SUMS)
def project_row(vector, state, spherical):
    """Product of a vector with the direction that begins at a state."""
    dim = vector.shape[0]
    if dim == 1 and not spherical:
        return vector[0]
    total = 0.0
    if spherical:
        norm = spherical_norm(state, dim)
        for j in range(dim):
            state += GOLDEN
            odd = 2 * popcount(mix64(state) >> ONE) - 63
            total += np.rint(odd * GRID / norm) * vector[j]
    else:
        for j in range(dim):
            state += GOLDEN
            total += (popcount(mix64(state)) - 32) * vector[j]
    return total


@jit
def project_rows(V, nonces, keys, spherical, out):
    """Products of vectors with the directions of their reports.

    Parameters
    ----------
    V : ndarray of shape (n_reports, dim)
        The vectors.
    nonces : ndarray of uint64 of shape (n_reports,)
        Public numbers of the reports.
    keys : ndarray of uint64 of shape (n_bits,)
        Public numbers of the bits.
    spherical : bool
        Whether the directions are on the sphere.
    out : ndarray of shape (n_reports, n_bits)
        The products.

    Returns
    -------
    out : ndarray of shape (n_reports, n_bits)
    """
    for i in range(V.shape[0]):
        for k in range(keys.shape[0]):
            out[i, k] = project_row(V[i], mix64(nonces[i] ^ keys[k]), spherical)
    return out


@jit
def project_moments(X, y, nonces, keys, spherical, vector, out):
    """Products of the moments of records with the directions of their reports.

    Parameters
    ----------
    X : ndarray of shape (n_reports, n_columns)
        Clipped features.
    y : ndarray of shape (n_reports,)
        Clipped targets, times the weight of the cross moments.
    nonces : ndarray of uint64 of shape (n_reports,)
        Public numbers of the reports.
    keys : ndarray of uint64 of shape (n_bits,)
        Public numbers of the bits.
    spherical : bool
        Whether the directions are on the sphere.
    vector : ndarray of shape (n_columns * (n_columns + 3) / 2,)
        Scratch: the moments of one record at a time.
    out : ndarray of shape (n_reports, n_bits)
        The products.

    Returns
    -------
    out : ndarray of shape (n_reports, n_bits)
    """
    n_columns = X.shape[1]
    for i in range(X.shape[0]):
        row, start = X[i], 0
        for a in range(n_columns):
            # Views from 0 on: with sums as indices the loop would not be vectorised.
            tail, block = row[a:], vector[start : start + n_columns - a]
            scaled = SQRT_2 * row[a]
            for b in range(block.shape[0]):
                block[b] = scaled * tail[b]
            block[0] = row[a] * row[a]
            start += n_columns - a
        block = vector[start:]
        for a in range(n_columns):
            block[a] = row[a] * y[i]
        for k in range(keys.shape[0]):
            out[i, k] = project_row(vector, mix64(nonces[i] ^ keys[k]), spherical)
    return out
