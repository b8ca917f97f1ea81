"""Centred second moments of columns, from data that arrive in pieces.

For weights w_i with sum W, mean m and scatter S = sum_i w_i (z_i - m)(z_i - m)',
two disjoint pieces a and b combine to

    W = W_a + W_b,   m = m_a + (W_b / W) d,   S = S_a + S_b + (W_a W_b / W) d d',

with d = m_b - m_a (Chan, Golub and LeVeque, 1983). No difference of large numbers
occurs, so that columns far from the origin keep their precision.
"""

import io
import struct
import sys
import zlib

import numpy as np
from scipy import sparse
from scipy.linalg.blas import dger, dsyrk
from sklearn.utils import check_array

from sparsestat.utils._validation import check_frequency_weights

_BLOCK_BYTES = 4 * 2**20
_MIN_BLOCK_ROWS = 16
_TILE = 256
_FAN_IN = 4

_MAGIC = b"SPSTGRAM"
_VERSION = 1
_HEADER = struct.Struct("<8sHI")


def is_dask_collection(x):
    """Whether x is a Dask collection, found out without importing Dask.

    Parameters
    ----------
    x : object
        Anything.

    Returns
    -------
    answer : bool
        False, too, if Dask has not been imported, as no object can then be its own.
    """
    dask = sys.modules.get("dask")
    return dask is not None and dask.is_dask_collection(x)


class GramAccumulator:
    """Mergeable weighted means and centred cross products of the columns of [X, y].

    The statistic replaces the data for every fit that depends on second moments
    alone. Its size does not depend on the number of rows. Pieces of a data set may be
    fed with :meth:`update`, or summarised apart, sent as bytes and joined with
    :meth:`merge`; any order gives the same statistic up to rounding, the same order
    gives the same bits.

    Attributes
    ----------
    n_samples : float
        Sum of the weights.
    n_features : int or None
        Number of columns of X; None before the first update.
    n_targets : int
        Number of columns of y; 0 without y.
    mean_ : ndarray of shape (n_features + n_targets,)
        Weighted means of the columns.
    scatter_ : ndarray of shape (n_features + n_targets, n_features + n_targets)
        Weighted sums of centred products.

    Notes
    -----
    Rows are read in blocks of about 4 MB, which are converted to float64 one at a
    time. A sparse X is densified one block at a time as well.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.utils import GramAccumulator
    >>> X, y = np.array([[1.0], [2.0], [6.0]]), np.array([0.0, 1.0, 2.0])
    >>> first = GramAccumulator().update(X[:1], y[:1])
    >>> rest = GramAccumulator().update(X[1:], y[1:])
    >>> both = first + rest
    >>> both.n_samples, both.x_mean, both.xx, both.xy
    (3.0, array([3.]), array([[14.]]), array([5.]))
    """

    def __init__(self):
        self.n_samples = 0.0
        self.n_features = None
        self._target_shape = None
        self.mean_ = None
        self.scatter_ = None

    @property
    def n_targets(self):
        """Number of columns of y; 0 without y."""
        return 0 if self._target_shape is None else int(np.prod(self._target_shape))

    @property
    def x_mean(self):
        """Means of the features, of shape (n_features,)."""
        return self._filled().mean_[: self.n_features]

    @property
    def y_mean(self):
        """Mean of the target: a float, or of shape (n_targets,) if y had columns."""
        return self._as_target(self._with_target().mean_[self.n_features :])

    @property
    def xx(self):
        """Centred products of the features, a view of shape (n_features, n_features)."""
        return self._filled().scatter_[: self.n_features, : self.n_features]

    @property
    def xy(self):
        """Centred products of features and target: (n_features,) or (n_features, n_targets)."""
        return self._as_target(self._with_target().scatter_[: self.n_features, self.n_features :])

    @property
    def yy(self):
        """Centred products of the targets: a float, or (n_targets, n_targets)."""
        products = self._with_target().scatter_[self.n_features :, self.n_features :]
        return float(products[0, 0]) if self._target_shape == () else products

    def update(self, X, y=None, sample_weight=None):
        """Add rows.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The features. Rows may be missing altogether.
        y : array-like of shape (n_samples,) or (n_samples, n_targets), default=None
            The targets: in every update or in none.
        sample_weight : array-like of shape (n_samples,), float or None, default=None
            How often each row occurs. A row of weight zero is not looked at, except
            that it must be finite.

        Returns
        -------
        self : GramAccumulator
            The same object.

        Raises
        ------
        ValueError
            For bad input, or products beyond the range of float64; the statistic is
            then what it was before.
        """
        return self.merge(_moments_of(X, y, sample_weight))

    def merge(self, other):
        """Add the rows that another accumulator has seen.

        Parameters
        ----------
        other : GramAccumulator
            Left as it is. It must have seen the same columns.

        Returns
        -------
        self : GramAccumulator
            The same object.
        """
        if not isinstance(other, GramAccumulator):
            raise TypeError(f"other must be a GramAccumulator, got {type(other).__name__}.")
        if other.n_features is None:
            return self
        if self.n_features is None:
            return self._assign(other)
        if (self.n_features, self._target_shape) != (other.n_features, other._target_shape):
            raise ValueError(f"Cannot merge moments of {other._columns()} into {self._columns()}.")
        if other.n_samples == 0:
            return self
        if self.n_samples == 0:
            return self._assign(other)
        n_samples = self.n_samples + other.n_samples
        with np.errstate(over="ignore", invalid="ignore"):
            shift = other.mean_ - self.mean_
            step = np.sqrt(self.n_samples / n_samples * other.n_samples) * shift
            mean = self.mean_ + (other.n_samples / n_samples) * shift
            diagonal = self.scatter_.diagonal() + other.scatter_.diagonal() + step**2
        # No centred product exceeds the larger of its two squares.
        _check_range(n_samples, mean, diagonal)
        self.scatter_ += other.scatter_
        self.scatter_ = dger(1.0, step, step, a=self.scatter_, overwrite_a=1)
        self.mean_ = mean
        self.n_samples = n_samples
        return self

    def __add__(self, other):
        if not isinstance(other, GramAccumulator):
            return NotImplemented
        return GramAccumulator().merge(self).merge(other)

    def __repr__(self):
        if self.n_features is None:
            return "GramAccumulator()"
        return f"GramAccumulator({self._columns()}, n_samples={self.n_samples:g})"

    def to_bytes(self):
        """Write the statistic to bytes, without pickle.

        Returns
        -------
        data : bytes
            What :meth:`from_bytes` reads, on any platform.
        """
        buffer = io.BytesIO()
        np.savez(
            buffer,
            n_samples=self.n_samples,
            mean=self._filled().mean_,
            scatter=self.scatter_,
            has_target=self._target_shape is not None,
            target_shape=np.array(self._target_shape or (), dtype=np.int64),
        )
        payload = buffer.getvalue()
        return _HEADER.pack(_MAGIC, _VERSION, zlib.crc32(payload)) + payload

    @classmethod
    def from_bytes(cls, data):
        """Read a statistic that :meth:`to_bytes` wrote.

        Parameters
        ----------
        data : bytes
            All of the bytes.

        Returns
        -------
        accumulator : GramAccumulator
            A new object.

        Raises
        ------
        ValueError
            For bytes that are truncated, corrupt, of a later version, or something else.
        """
        data = bytes(data)
        if len(data) < _HEADER.size or data[: len(_MAGIC)] != _MAGIC:
            raise ValueError("data does not hold a GramAccumulator.")
        _, version, checksum = _HEADER.unpack_from(data)
        if version != _VERSION:
            raise ValueError(f"data has format version {version}; this release reads {_VERSION}.")
        payload = data[_HEADER.size :]
        if zlib.crc32(payload) != checksum:
            raise ValueError("data is truncated or corrupt: its checksum does not match.")
        with np.load(io.BytesIO(payload), allow_pickle=False) as file:
            fields = {name: file[name] for name in file.files}
        return cls()._restore(fields)

    @classmethod
    def from_moments(cls, n_samples, mean, scatter):
        """Start from moments that were computed elsewhere.

        Parameters
        ----------
        n_samples : float
            Sum of the weights.
        mean : array-like of shape (n_features,)
            Means of the columns.
        scatter : array-like of shape (n_features, n_features)
            Weighted sums of centred products: the covariance times ``n_samples``.

        Returns
        -------
        accumulator : GramAccumulator
            A new object without targets.

        Raises
        ------
        ValueError
            For numbers that are the moments of no data.
        """
        scatter = np.array(scatter, dtype=np.float64)
        mean = np.array(mean, dtype=np.float64)
        return cls()._restore(
            {"n_samples": n_samples, "mean": mean, "scatter": scatter, "has_target": False}
        )

    @classmethod
    def from_dask(cls, X, y=None, sample_weight=None):
        """Summarise Dask collections, one partition at a time.

        Every partition becomes a statistic, and statistics are merged along a tree
        whose shape depends on the number of partitions only. Nothing larger than one
        chunk, apart from the statistic, comes into being.

        Parameters
        ----------
        X : dask.array.Array or dask.dataframe.DataFrame
            The features. Of an array whose columns are split, the rows are split
            further, so that whole rows fit into the size of its chunks.
        y : dask.array.Array, dask.dataframe.Series, dask.dataframe.DataFrame or None
            The targets, partitioned like X. An array is rechunked to match.
        sample_weight : dask.array.Array, dask.dataframe.Series, float or None
            How often each row occurs, partitioned like X.

        Returns
        -------
        accumulator : GramAccumulator
            Computed on the scheduler that is active.
        """
        import dask

        summarise = dask.delayed(_moments_of, pure=True)
        join = dask.delayed(_merge_all, pure=True)
        X, rows = _row_partitions(X)
        blocks = _blocks(X, "X", rows, len(X.to_delayed()))
        n_blocks = len(blocks)
        targets = _blocks(y, "y", rows, n_blocks)
        weights = _blocks(sample_weight, "sample_weight", rows, n_blocks)
        parts = [summarise(*piece) for piece in zip(blocks, targets, weights)]
        while len(parts) > 1:
            parts = [join(parts[i : i + _FAN_IN]) for i in range(0, len(parts), _FAN_IN)]
        return parts[0].compute()

    def _assign(self, other):
        self.n_samples = other.n_samples
        self.n_features = other.n_features
        self._target_shape = other._target_shape
        self.mean_ = other.mean_.copy()
        self.scatter_ = other.scatter_.copy(order="F")
        return self

    def _restore(self, fields):
        mean, scatter = fields["mean"], fields["scatter"]
        self.n_samples = float(fields["n_samples"])
        if fields["has_target"]:
            self._target_shape = tuple(int(size) for size in fields["target_shape"])
        self.n_features = len(mean) - self.n_targets
        diagonal = scatter.diagonal()
        if (
            scatter.shape != (len(mean), len(mean))
            or self.n_features < 1
            or not (np.isfinite(self.n_samples) and self.n_samples >= 0)
            or not (np.all(np.isfinite(mean)) and np.all(np.isfinite(scatter)))
            or np.any(diagonal < 0)
            or not np.array_equal(scatter, scatter.T)
        ):
            raise ValueError("These numbers are the moments of no data.")
        self.mean_ = mean
        self.scatter_ = np.asfortranarray(scatter)
        return self

    def _filled(self):
        if self.n_features is None:
            raise ValueError("This GramAccumulator has seen no data; call update first.")
        return self

    def _with_target(self):
        if self._filled()._target_shape is None:
            raise AttributeError("This GramAccumulator was updated without y.")
        return self

    def _as_target(self, values):
        if self._target_shape != ():
            return values
        return float(values[0]) if values.ndim == 1 else values[:, 0]

    def _columns(self):
        target = {None: "no y", (): "one y"}.get(self._target_shape, f"{self.n_targets} columns y")
        return f"{self.n_features} features and {target}"


def _moments_of(X, y=None, sample_weight=None):
    """The moments of one batch; a function of its own so that Dask's workers can find it."""
    X = _check_numbers(X, "X", accept_sparse="csr")
    weights = check_frequency_weights(sample_weight, X, allow_all_zero=True)
    n, p = X.shape
    moments = GramAccumulator()
    moments.n_features = p
    if y is not None:
        y = _check_numbers(y, "y", ensure_2d=False)
        if y.ndim not in (1, 2) or len(y) != n:
            raise ValueError(
                f"y must have shape ({n},) or ({n}, n_targets) to go with X, got {y.shape}."
            )
        moments._target_shape = y.shape[1:]
        y = y.reshape(n, moments.n_targets)
    return _accumulate(moments, X, y, weights)


def moments_of_checked(X, weights):
    """Moments of columns that have been validated, without a second look at them.

    Parameters
    ----------
    X : ndarray or CSR array of shape (n_samples, n_features)
        Finite numbers.
    weights : ndarray of shape (n_samples,) or None
        What :func:`check_frequency_weights` returned.

    Returns
    -------
    moments : GramAccumulator
        Without targets.
    """
    moments = GramAccumulator()
    moments.n_features = X.shape[1]
    return _accumulate(moments, X, None, weights)


def _accumulate(moments, X, y, weights):
    """Fill an empty accumulator block by block."""
    n, p = X.shape
    d = p + moments.n_targets
    moments.mean_ = np.zeros(d)
    moments.scatter_ = np.zeros((d, d), order="F")
    rows = max(_MIN_BLOCK_ROWS, _BLOCK_BYTES // (8 * d))
    for start in range(0, n, rows):
        here = slice(start, min(start + rows, n))
        block = np.empty((here.stop - here.start, d))
        block[:, :p] = X[here].toarray() if sparse.issparse(X) else X[here]
        if y is not None:
            block[:, p:] = y[here]
        _add_block(moments, block, None if weights is None else weights[here])
    _mirror(moments.scatter_)
    _check_range(moments.n_samples, moments.mean_, moments.scatter_.diagonal())
    return moments


def _add_block(moments, block, weights):
    """Merge the rows of a float64 block, which is overwritten; fills the upper triangle only."""
    if weights is not None and not np.all(weights):
        block, weights = block[weights > 0], weights[weights > 0]
    if len(block) == 0:
        return
    if moments.n_samples == 0:
        moments.mean_ = block[0].copy()
    added = float(len(block)) if weights is None else float(weights.sum())
    n_samples = moments.n_samples + added
    with np.errstate(over="ignore", invalid="ignore"):
        # Relative to the mean so far, numbers are of the size of the spread; the first
        # block is taken relative to its first row.
        block -= moments.mean_
        shift = block.mean(axis=0) if weights is None else weights @ block / added
        block -= shift
        if weights is not None:
            block *= np.sqrt(weights)[:, None]
        step = np.sqrt(moments.n_samples / n_samples * added) * shift
        moments.mean_ += (added / n_samples) * shift
    update = np.vstack([block, step])
    moments.scatter_ = dsyrk(1.0, update.T, beta=1.0, c=moments.scatter_, overwrite_c=1)
    moments.n_samples = n_samples


def _check_numbers(values, name, **options):
    """A finite real array, converted to float64 here only if it is not of numbers yet."""
    options = {"dtype": None, "ensure_min_samples": 0, "input_name": name, **options}
    values = check_array(values, **options)
    if values.dtype.kind not in "biuf":
        values = check_array(values, **{**options, "dtype": np.float64})
    return values


def _check_range(n_samples, mean, diagonal):
    finite = np.isfinite(n_samples) and np.all(np.isfinite(mean)) and np.all(np.isfinite(diagonal))
    if not finite:
        raise ValueError(
            "X, y or sample_weight hold values so large that their products "
            "exceed the range of float64."
        )


def _mirror(scatter):
    """Copy the upper triangle to the lower, tile by tile: no temporary of full size."""
    d = len(scatter)
    for start in range(0, d, _TILE):
        stop = min(start + _TILE, d)
        tile = scatter[start:stop, start:stop]
        tile[...] = np.triu(tile) + np.triu(tile, 1).T
        scatter[stop:, start:stop] = scatter[start:stop, stop:].T


def _merge_all(parts):
    total = GramAccumulator()
    for part in parts:
        total.merge(part)
    return total


def _row_partitions(X):
    """X in partitions of whole rows, and their lengths where they are known."""
    if not is_dask_collection(X) or getattr(X, "ndim", None) != 2:
        raise TypeError(
            "X must be a two-dimensional Dask array or a Dask DataFrame, "
            f"got {type(X).__name__}; use update for data in memory."
        )
    if not hasattr(X, "chunks"):
        return X, None
    lengths, n_splits = X.chunks[0], len(X.chunks[1])
    if np.any(np.isnan(lengths)):
        if n_splits > 1:
            raise ValueError(
                "X has unknown chunk lengths and split columns; call compute_chunk_sizes first."
            )
        return X, None
    rows = tuple(
        size
        for length in lengths
        for size in np.diff(np.linspace(0, length, min(n_splits, max(length, 1)) + 1).astype(int))
    )
    rows = tuple(int(size) for size in rows)
    return (X.rechunk((rows, -1)) if n_splits > 1 else X), rows


def _blocks(collection, name, rows, n_blocks):
    """One block for each partition of X, delayed or plain."""
    if collection is None or np.ndim(collection) == 0:
        return [collection] * n_blocks
    if not is_dask_collection(collection):
        raise TypeError(
            f"{name} must be a Dask collection like X, got {type(collection).__name__}."
        )
    if hasattr(collection, "chunks"):
        if rows is not None and not np.any(np.isnan(collection.chunks[0])):
            if collection.shape[0] != sum(rows):
                raise ValueError(f"{name} has {collection.shape[0]} rows, but X has {sum(rows)}.")
            collection = collection.rechunk((rows,) + (-1,) * (collection.ndim - 1))
        blocks = list(collection.to_delayed().ravel())
    else:
        blocks = list(collection.to_delayed())
    if len(blocks) != n_blocks:
        raise ValueError(
            f"{name} has {len(blocks)} partitions, but X has {n_blocks}; partition them alike."
        )
    return blocks
