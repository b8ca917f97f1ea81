"""The sums of ``_kernels.py`` on the array API standard: the same integers on any device."""

from sparsestat.privacy._directions import GOLDEN, MULTIPLIERS, SPHERICAL_GRID
from sparsestat.utils._arrays import get_namespace
from sparsestat.utils._threads import thread_ranges

# Entries of the directions that are worked on at a time; some arrays of 8 MiB each live at once.
CHUNK = 2**20


class _Words:
    """Arithmetic modulo 2**64, whose constants are arrays on the device.

    Python integers above 2**63 are not taken by every library, and a number without
    dimensions would overflow with a warning.
    """

    def __init__(self, xp, device):
        self.xp = xp
        self.device = device
        self.golden = self.constant(GOLDEN)
        self.multipliers = [self.constant(multiplier) for multiplier in MULTIPLIERS]
        self.shifts = {n: self.constant(n) for n in (1, 2, 4, 27, 30, 31, 56)}
        self.pairs = self.constant(0x5555555555555555)
        self.nibbles = self.constant(0x3333333333333333)
        self.bytes = self.constant(0x0F0F0F0F0F0F0F0F)
        self.every_byte = self.constant(0x0101010101010101)

    def constant(self, value):
        return self.xp.asarray([value], dtype=self.xp.uint64, device=self.device)

    def mix64(self, x):
        x = (x ^ (x >> self.shifts[30])) * self.multipliers[0]
        x = (x ^ (x >> self.shifts[27])) * self.multipliers[1]
        return x ^ (x >> self.shifts[31])

    def popcount(self, x):
        x = x - ((x >> self.shifts[1]) & self.pairs)
        x = (x & self.nibbles) + ((x >> self.shifts[2]) & self.nibbles)
        x = (x + (x >> self.shifts[4])) & self.bytes
        return self.xp.astype((x * self.every_byte) >> self.shifts[56], self.xp.int64)


def decode(nonces, bits, keys, dim, spherical, out):
    """Add the directions of reports, each with the sign that its bit gives.

    Parameters
    ----------
    nonces : array of uint64 of shape (n_reports,)
        Public numbers of the reports.
    bits : array of uint32 of shape (n_reports,)
        Bit number k belongs to key number k; 1 is plus.
    keys : array of uint64 of shape (n_bits,)
        Public numbers of the bits; these may be on the host.
    dim : int
        Length of a direction.
    spherical : bool
        Whether the directions are on the sphere.
    out : array of int64 of shape (dim,)
        The sum is added to it, in place where the library can.

    Returns
    -------
    out : array of int64 of shape (dim,)
        On the device of the reports; nothing is read back from it.
    """
    xp, device, _ = get_namespace(nonces, bits, out)
    words = _Words(xp, device)
    one, grid = words.shifts[1], float(SPHERICAL_GRID)
    n_chunks = max(1, -(-nonces.shape[0] * dim // CHUNK))
    offsets = xp.arange(1, dim + 1, dtype=xp.uint64, device=device) * words.golden
    for start, stop in thread_ranges(nonces.shape[0], n_chunks):
        nonce = nonces[start:stop]
        mask = xp.astype(bits[start:stop], xp.uint64)
        for k, key in enumerate(keys):
            positive = (mask >> words.constant(k)) & one
            if dim == 1 and not spherical:
                out += xp.sum(2 * xp.astype(positive, xp.int64) - 1)
                continue
            states = words.mix64(nonce ^ words.constant(int(key)))
            mixed = words.mix64(states[:, None] + offsets[None, :])
            if spherical:
                odd = 2 * words.popcount(mixed >> one) - 63
                norms = xp.sqrt(xp.astype(xp.sum(odd * odd, axis=1, keepdims=True), xp.float64))
                signs = 2.0 * xp.astype(positive, xp.float64) - 1.0
                scaled = xp.astype(odd, xp.float64) * (grid * signs)[:, None]
                out += xp.sum(xp.astype(xp.round(scaled / norms), xp.int64), axis=0)
            else:
                # The complement of a word has 64 - count ones, which is the sign of a minus.
                flipped = mixed ^ (positive - one)[:, None]
                out += xp.sum(words.popcount(flipped), axis=0) - 32 * (stop - start)
    return out
