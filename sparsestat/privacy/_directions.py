"""Public pseudo-random directions that client and server derive from the same numbers.

All of it is integer arithmetic modulo ``2 ** 64`` (and, on the sphere, one correctly rounded
square root and division), so that every platform and every version of NumPy finds the same
integers. Nothing here sees a record.
"""

import hashlib

import numpy as np

#: Step between the states of neighbouring coordinates: 2**64 over the golden ratio, made odd.
GOLDEN = 0x9E3779B97F4A7C15
#: Multipliers of the finaliser of splitmix64.
MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
#: Largest entry of a direction on the sphere, which is the length of the whole direction too.
SPHERICAL_GRID = 2**24


def mix64(x):
    """Scramble 64-bit integers by the finaliser of splitmix64, a bijection.

    Parameters
    ----------
    x : array-like of uint64
        Any shape.

    Returns
    -------
    mixed : ndarray of uint64
        Same shape.

    References
    ----------
    .. [1] G. L. Steele Jr., D. Lea and C. H. Flood (2014). Fast splittable pseudorandom number
       generators. *OOPSLA*, 453-472.
    """
    x = np.array(x, dtype=np.uint64)
    # Scalars would warn about the overflow that the arithmetic is made of.
    with np.errstate(over="ignore"):
        x ^= x >> np.uint64(30)
        x *= np.uint64(MULTIPLIERS[0])
        x ^= x >> np.uint64(27)
        x *= np.uint64(MULTIPLIERS[1])
        x ^= x >> np.uint64(31)
    return x


def direction_keys(fingerprint, round, n_bits):
    """Derive one public number for each bit of the reports of a round.

    A client cannot choose a nonce whose directions it likes without hashing for it, and
    campaigns and rounds share no directions.

    Parameters
    ----------
    fingerprint : bytes
        Fingerprint of the configuration.
    round : int
        Round of the campaign, from 0.
    n_bits : int
        Bits of a report.

    Returns
    -------
    keys : ndarray of uint64 of shape (n_bits,)
        The first 8 bytes, little-endian, of BLAKE2b of the fingerprint, the round and the
        index of the bit, both as 8 bytes.
    """
    head = bytes(fingerprint) + int(round).to_bytes(8, "little")
    digests = [hashlib.blake2b(head + k.to_bytes(8, "little")).digest() for k in range(n_bits)]
    return np.array([int.from_bytes(d[:8], "little") for d in digests], dtype=np.uint64)


def directions(nonces, keys, dim, spherical=False):
    r"""Integer directions of reports.

    With ``s = mix64(nonce ^ key)`` and ``w[j] = mix64(s + (j + 1) * GOLDEN)``, an entry of a
    direction is the number of ones in ``w[j]`` less 32, which is binomial with mean 0 and
    variance 16. In one dimension it is 1, so that the bit is the sign of the number itself.

    On the sphere the number of ones in the upper 63 bits, twice, less 63 is odd and so never
    0; the vector of these is scaled to the length `SPHERICAL_GRID` and rounded to integers.

    Parameters
    ----------
    nonces : array-like of uint64 of shape (n_reports,)
        One public number for each report.
    keys : array-like of uint64 of shape (n_bits,)
        From :func:`direction_keys`.
    dim : int
        Length of a direction.
    spherical : bool, default=False
        Whether the directions are on the sphere.

    Returns
    -------
    z : ndarray of int64 of shape (n_reports, n_bits, dim)
    """
    nonces = np.asarray(nonces, dtype=np.uint64)
    keys = np.asarray(keys, dtype=np.uint64)
    if dim == 1 and not spherical:
        return np.ones((len(nonces), len(keys), 1), dtype=np.int64)
    seeds = mix64(nonces[:, None] ^ keys)
    steps = np.arange(1, dim + 1, dtype=np.uint64) * np.uint64(GOLDEN)
    words = mix64(seeds[:, :, None] + steps)
    if not spherical:
        return np.bitwise_count(words).astype(np.int64) - 32
    odd = 2 * np.bitwise_count(words >> np.uint64(1)).astype(np.int64) - 63
    norms = np.sqrt(np.sum(odd * odd, axis=2, keepdims=True).astype(np.float64))
    return np.rint(odd * float(SPHERICAL_GRID) / norms).astype(np.int64)
