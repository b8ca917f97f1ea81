"""A cost matrix, stored or computed from points, and the passes over it.

The passes run over blocks of rows, whose number depends on the size of the problem alone, so
that threads which share the blocks never change a result.
"""

import contextlib
import functools
import math

import numpy as np
from scipy.spatial.distance import cdist

from sparsestat.utils._arrays import kernels_for, use_array_api
from sparsestat.utils._threads import ThreadTeam, single_threaded_blas, thread_ranges

METRICS = {"sqeuclidean": 1, "euclidean": 2, "cityblock": 3}

# Entries of one block: large enough that calling a kernel costs nothing.
_BLOCK = 2**19
_DEVICE_BLOCK = 2**24
_MOST_BLOCKS = 32
# Entries of a tile of costs that a matrix product computes, small enough for a processor's cache.
_TILE = 2**17
# Above so many coordinates, a matrix product is faster than a loop over them.
_LOOP_DIMENSIONS = 16
# Rounding an exponent of this size changes the plan by a relative 1e-12.
_MODERATE = 1e4


class Costs:
    """Costs of moving from each of ``n`` rows to each of ``m`` columns.

    Parameters
    ----------
    C : array of shape (n, m) or None
        The costs, float64 and contiguous; None if they are computed from points.
    X : array of shape (n, d) or None
        Points of the rows.
    Y : array of shape (m, d) or None
        Points of the columns.
    metric : {"sqeuclidean", "euclidean", "cityblock"} or callable, default="sqeuclidean"
        The cost between two points; a callable takes some rows of ``X`` and all of ``Y``.
    n_jobs : int or None, default=None
        Number of threads.
    known : (array of shape (n,), array of shape (m,), float) or None, default=None
        The attributes, where an earlier pass has found them.

    Attributes
    ----------
    row_offset : array of shape (n,)
        Subtracted from the rows, so that exponents stay small: their minima.
    column_offset : array of shape (m,)
        Subtracted from the columns: the minima of what is left.
    largest_cost : float
        Largest of the costs.
    """

    def __init__(self, C=None, X=None, Y=None, metric="sqeuclidean", n_jobs=None, known=None):
        inputs = [x for x in (C, X, Y) if x is not None]
        self.kernels, self.xp = kernels_for("sparsestat.transport", *inputs)
        self.on_host = not use_array_api(*inputs)
        self.C, self.X, self.Y, self.metric = C, X, Y, metric
        self.n = (C if C is not None else X).shape[0]
        self.m = C.shape[1] if C is not None else Y.shape[0]
        self._like = inputs[0]
        self.team = ThreadTeam(n_jobs if self.on_host else 1)
        self._prepare_blocks()
        self._blas = contextlib.ExitStack()
        if known is None:
            with self:
                self._find_extremes()
        else:
            self.row_offset, self.column_offset, self.largest_cost = known

    def __reduce__(self):
        # Neither threads nor modules can be pickled.
        known = (self.row_offset, self.column_offset, self.largest_cost)
        return Costs, (self.C, self.X, self.Y, self.metric, None, known)

    def __enter__(self):
        if self._tiled:
            # Products of matrices depend on the number of threads in their last digits.
            self._blas.enter_context(single_threaded_blas())
        self.team.__enter__()
        return self

    def __exit__(self, *exception):
        self._blas.close()
        return self.team.__exit__(*exception)

    def zeros(self, *shape, dtype=None):
        """An array of zeros where the costs live."""
        return self.xp.zeros(
            shape, dtype=dtype or self.xp.float64, device=_device_of(self._like, self.xp)
        )

    def _prepare_blocks(self):
        self._tiled = False
        if self.C is not None:
            self._code, self._Yt = 0, None
        elif callable(self.metric):
            self._code, self._tiled = 0, True
        else:
            self._code = METRICS[self.metric]
            self._tiled = (
                self.on_host and self.metric == "sqeuclidean" and self.X.shape[1] > _LOOP_DIMENSIONS
            )
        if self._tiled and not callable(self.metric):
            # Squares of far-off coordinates would cancel.
            centre = 0.5 * (self.xp.mean(self.X, axis=0) + self.xp.mean(self.Y, axis=0))
            self._tile_X, self._tile_Y = self.X - centre, self.Y - centre
            self._norms = self.xp.sum(self._tile_Y**2, axis=1)
        size = _BLOCK if self.on_host else _DEVICE_BLOCK
        wanted = math.ceil(self.n * self.m / size)
        # Every block has sums of its own for the columns.
        self.blocks = thread_ranges(self.n, min(max(1, wanted), _MOST_BLOCKS))
        # Blocks whose costs must be computed first are worked on in pieces.
        self._rows = max(1, (_TILE if self.on_host else _DEVICE_BLOCK) // self.m)
        empty = self.zeros(0, 0)
        self._empty, self._no_offset = empty, self.zeros(0)
        if self._code and not self._tiled:
            transposed = self.xp.matrix_transpose(self.Y)
            self._Yt = np.ascontiguousarray(transposed) if self.on_host else transposed
        else:
            self._Yt = empty

    def block(self, start, stop):
        """The costs of some rows as a matrix."""
        if self.C is not None:
            return self.C[start:stop, :]
        if self._tiled:
            return self._tile(start, stop)
        if self.on_host:
            return cdist(self.X[start:stop], self.Y, self.metric)
        return self.kernels.cost_block(None, self.X[start:stop, :], self._Yt, METRICS[self.metric])

    def _tile(self, start, stop):
        if callable(self.metric):
            return self._called(start, stop)
        x = self._tile_X[start:stop]
        tile = x @ self._tile_Y.T
        tile *= -2.0
        tile += self._norms
        tile += np.einsum("ij,ij->i", x, x)[:, None]
        return np.maximum(tile, 0.0, out=tile)

    def _called(self, start, stop):
        """A tile of a user's own costs."""
        xp = self.xp
        tile = xp.asarray(self.metric(self.X[start:stop, :], self.Y), dtype=xp.float64)
        if tuple(tile.shape) != (stop - start, self.m):
            raise ValueError(
                f"metric must return an array of shape ({stop - start}, {self.m}) for that many "
                f"rows of X and all of Y, got shape {tuple(tile.shape)}."
            )
        if not bool(xp.all(xp.isfinite(tile))):
            raise ValueError("metric returned NaN or infinity.")
        return np.ascontiguousarray(tile) if self.on_host else tile

    def _costs_of(self, start, stop, t=None):
        """What a kernel needs to know about the costs of some rows."""
        empty = self._empty
        r, t = self.row_offset[start:stop], self.column_offset if t is None else t
        if self._tiled:
            return self._tile(start, stop), empty, empty, 0, r, t
        if self.C is not None:
            return self.C[start:stop, :], empty, empty, 0, r, t
        return empty, self.X[start:stop, :], self._Yt, self._code, r, t

    def _buffer(self):
        return np.empty((2, self.m)) if self.on_host else None

    def _over_blocks(self, work, combine):
        """Work on all rows, and combine what the pieces give in the order of the rows."""
        whole = self.on_host and not self._tiled

        def block(bounds):
            start, stop = bounds
            if whole:
                return work(start, stop)
            pieces = (work(k, min(k + self._rows, stop)) for k in range(start, stop, self._rows))
            return functools.reduce(combine, pieces)

        if self.team.n_threads == 1:
            return functools.reduce(combine, map(block, self.blocks))
        return functools.reduce(combine, self.team.map(block, self.blocks))

    def _tiles(self):
        """The costs, some rows at a time."""
        step = max(1, (_TILE if self.on_host else _DEVICE_BLOCK) // self.m)
        for start in range(0, self.n, step):
            yield (
                slice(start, min(start + step, self.n)),
                self.block(start, min(start + step, self.n)),
            )

    def _find_extremes(self):
        """Set the offsets so that the smallest entry of every row and column is zero."""
        xp = self.xp
        low, columns, high = [], None, -math.inf
        for _, tile in self._tiles():
            low.append(xp.min(tile, axis=1))
            high = max(high, float(xp.max(tile)))
            left = xp.min(tile - low[-1][:, None], axis=0)
            columns = left if columns is None else xp.minimum(columns, left)
        self.row_offset, self.column_offset, self.largest_cost = xp.concat(low), columns, high

    @functools.cached_property
    def range(self):
        """Difference between the largest and the smallest cost, in itself or without offsets.

        Without them it would cost another pass over costs that are not stored.
        """
        if self.C is None:
            return self.largest_cost - float(self.xp.min(self.row_offset))
        return self.largest

    @functools.cached_property
    def _size(self):
        """Largest absolute value of the costs."""
        return max(abs(self.largest_cost), abs(float(self.xp.min(self.row_offset))))

    def _fold(self, inverse_epsilon, v):
        """The offsets and potentials of the columns for a kernel, which is faster without offsets.

        They are left out where the exponents are so small that rounding them does no harm.
        """
        if not self.on_host or self._size * inverse_epsilon > _MODERATE:
            return self.column_offset, v
        return self._no_offset, v + self.column_offset * inverse_epsilon

    def mean(self, a, b):
        """Mean of the costs with the weights of rows and columns."""
        xp = self.xp
        # A product of matrices would depend on the number of BLAS threads in its last digit.
        parts = (
            float(xp.sum(a[rows] * xp.sum(tile * b[None, :], axis=1)))
            for rows, tile in self._tiles()
        )
        return math.fsum(parts) / (float(xp.sum(a)) * float(xp.sum(b)))

    @functools.cached_property
    def largest(self):
        """Largest of the costs after the offsets are subtracted."""
        return max(
            float(self.xp.max(tile - self.row_offset[rows, None] - self.column_offset[None, :]))
            for rows, tile in self._tiles()
        )

    def sweep(self, inverse_epsilon, u, v, log_a, *, power=1.0, relaxation=1.0):
        """Update ``u`` in place.

        Returns the sums of the plan's columns, the largest change of a potential, and the
        distance of the row sums from their aim.
        """
        t, v = self._fold(inverse_epsilon, v)

        def work(start, stop):
            columns = self.zeros(self.m)
            change, error = self.kernels.sweep(
                *self._costs_of(start, stop, t),
                inverse_epsilon,
                u[start:stop],
                v,
                log_a[start:stop],
                power,
                relaxation,
                self._buffer(),
                columns,
            )
            return columns, float(change), float(error)

        def combine(first, second):
            columns, change, error = first
            columns += second[0]
            return columns, max(change, second[1]), error + second[2]

        return self._over_blocks(work, combine)

    def row_log_sums(self, inverse_epsilon, v):
        """Logarithms of the sums over columns of exp(v_j - S_ij)."""
        t, v = self._fold(inverse_epsilon, v)
        out = self.zeros(self.n)

        def work(start, stop):
            self.kernels.row_log_sums(
                *self._costs_of(start, stop, t), inverse_epsilon, v, self._buffer(), out[start:stop]
            )

        self._over_blocks(work, _nothing)
        return out

    def column_log_sums(self, inverse_epsilon, u):
        """Logarithms of the sums over rows of exp(u_i - S_ij)."""

        def work(start, stop):
            largest, sums = self.zeros(self.m) - math.inf, self.zeros(self.m)
            self.kernels.column_log_sums(
                *self._costs_of(start, stop),
                inverse_epsilon,
                u[start:stop],
                self._buffer(),
                largest,
                sums,
            )
            return largest, sums

        def combine(first, second):
            top = self.xp.maximum(first[0], second[0])
            sums = (part[1] * self.xp.exp(part[0] - top) for part in (first, second))
            return top, sum(sums)

        largest, sums = self._over_blocks(work, combine)
        return largest + self.xp.log(sums)

    def marginals(self, inverse_epsilon, u, v):
        """Sums of the plan's rows and columns, and of the costs times the plan."""
        t, v = self._fold(inverse_epsilon, v)
        rows = self.zeros(self.n)

        def work(start, stop):
            columns = self.zeros(self.m)
            cost = self.kernels.marginals(
                *self._costs_of(start, stop, t),
                inverse_epsilon,
                u[start:stop],
                v,
                self._buffer(),
                rows[start:stop],
                columns,
            )
            return columns, float(cost)

        return rows, *self._over_blocks(work, _add_pairs)

    def normalised_plan(self, inverse_epsilon, u, v, a, log_a, low_a, low_b, P):
        """Set ``u`` in place so that the rows sum to ``a``; write the plan to ``P``.

        Returns the sums of its columns and of the columns of P_ij^2 / a_i, and, for an empty
        ``P``, how many entries of each row exceed ``min(low_a_i, low_b_j)``.
        """
        t, v = self._fold(inverse_epsilon, v)
        counts = self.zeros(self.n, dtype=self.xp.int64)

        def work(start, stop):
            columns, squares = self.zeros(self.m), self.zeros(self.m)
            self.kernels.normalised_plan(
                *self._costs_of(start, stop, t),
                inverse_epsilon,
                u[start:stop],
                v,
                a[start:stop],
                log_a[start:stop],
                low_a[start:stop],
                low_b,
                self._buffer(),
                P if P.shape[0] == 0 else P[start:stop, :],
                columns,
                squares,
                counts[start:stop],
            )
            return columns, squares

        return *self._over_blocks(work, _add_pairs), counts

    def gibbs_kernel(self, inverse_epsilon, u, v, dtype):
        """The plan of ``u`` and ``v`` as a matrix to be scaled."""
        t, v = self._fold(inverse_epsilon, v)
        K = self.zeros(self.n, self.m, dtype=dtype)

        def work(start, stop):
            self.kernels.gibbs_kernel(
                *self._costs_of(start, stop, t),
                inverse_epsilon,
                u[start:stop],
                v,
                self._buffer(),
                K[start:stop, :],
            )

        self._over_blocks(work, _nothing)
        return K

    def kernel_sweep(self, K, row_scale, column_scale, a, relaxation):
        """Update ``row_scale`` in place; the column sums, and the error of the row sums."""

        def work(start, stop):
            columns = self.zeros(self.m)
            error = self.kernels.kernel_sweep(
                K[start:stop, :],
                row_scale[start:stop],
                column_scale,
                a[start:stop],
                relaxation,
                columns,
            )
            return columns, float(error)

        return self._over_blocks(work, _add_pairs)

    def row_coupling(self, P, inverse_a, z):
        """P' diag(inverse_a) P z."""
        products = self.zeros(self.n)

        def work(start, stop):
            out = self.zeros(self.m)
            self.kernels.row_coupling(
                P[start:stop, :], inverse_a[start:stop], z, products[start:stop], out
            )
            return out

        return self._over_blocks(work, _add)

    def row_coupling_computed(self, inverse_epsilon, u, v, inverse_a, z):
        """P' diag(inverse_a) P z for the plan of ``u`` and ``v``, which is not stored."""
        t, v = self._fold(inverse_epsilon, v)

        def work(start, stop):
            out = self.zeros(self.m)
            self.kernels.row_coupling_computed(
                *self._costs_of(start, stop, t),
                inverse_epsilon,
                u[start:stop],
                v,
                inverse_a[start:stop],
                z,
                self._buffer(),
                out,
            )
            return out

        return self._over_blocks(work, _add)

    def large_entries(self, inverse_epsilon, u, v, low_a, low_b, counts=None, dtype=np.float64):
        """The plan's entries above ``min(low_a_i, low_b_j)`` as compressed rows (host only)."""
        t, v = self._fold(inverse_epsilon, v)
        if counts is None:
            counts = np.zeros(self.n, dtype=np.int64)

            def count(start, stop):
                self.kernels.count_entries(
                    *self._costs_of(start, stop, t),
                    inverse_epsilon,
                    u[start:stop],
                    v,
                    low_a[start:stop],
                    low_b,
                    self._buffer(),
                    counts[start:stop],
                )

            self._over_blocks(count, _nothing)
        indptr, indices, data = _compressed_rows(counts, dtype)

        def fill(start, stop):
            self.kernels.fill_entries(
                *self._costs_of(start, stop, t),
                inverse_epsilon,
                u[start:stop],
                v,
                low_a[start:stop],
                low_b,
                self._buffer(),
                indptr[start : stop + 1],
                indices,
                data,
            )

        self._over_blocks(fill, _nothing)
        return indptr, indices, data

    def density(self, P, low_a, low_b):
        """Share of the entries of a stored plan above ``min(low_a_i, low_b_j)``, from a sample."""
        sample = slice(None, None, max(1, self.n // 32))
        return float(np.mean(P[sample] > np.minimum(low_a[sample, None], low_b)))

    def compress(self, P, low_a, low_b):
        """The entries of a stored plan above ``min(low_a_i, low_b_j)`` as compressed rows."""
        counts = np.zeros(self.n, dtype=np.int64)

        def count(start, stop):
            self.kernels.count_stored(P[start:stop], low_a[start:stop], low_b, counts[start:stop])

        self._over_blocks(count, _nothing)
        indptr, indices, data = _compressed_rows(counts, P.dtype)

        def work(start, stop):
            self.kernels.compress(
                P[start:stop],
                low_a[start:stop],
                low_b,
                indptr[start : stop + 1],
                indices,
                data,
            )

        self._over_blocks(work, _nothing)
        return indptr, indices, data

    def row_coupling_sparse(self, entries, inverse_a, z):
        """P' diag(inverse_a) P z for compressed rows."""
        indptr, indices, data = entries

        def work(start, stop):
            out = np.zeros(self.m)
            self.kernels.row_coupling_sparse(
                indptr[start : stop + 1], indices, data, inverse_a[start:stop], z, out
            )
            return out

        return self._over_blocks(work, _add)

    def kernel_sweep_sparse(self, entries, row_scale, column_scale, a, relaxation):
        """``kernel_sweep`` for compressed rows."""
        indptr, indices, data = entries

        def work(start, stop):
            columns = np.zeros(self.m)
            error = self.kernels.kernel_sweep_sparse(
                indptr[start : stop + 1],
                indices,
                data,
                row_scale[start:stop],
                column_scale,
                a[start:stop],
                relaxation,
                columns,
            )
            return columns, float(error)

        return self._over_blocks(work, _add_pairs)


def _nothing(first, second):
    return None


def _add(first, second):
    first += second
    return first


def _add_pairs(first, second):
    return _add(first[0], second[0]), _add(first[1], second[1])


def _compressed_rows(counts, dtype):
    indptr = np.zeros(counts.shape[0] + 1, dtype=np.int64)
    np.cumsum(counts, out=indptr[1:])
    return indptr, np.empty(indptr[-1], dtype=np.int32), np.empty(indptr[-1], dtype=dtype)


def _device_of(array, xp):
    import array_api_compat

    return array_api_compat.device(array)
