"""How a solver sees the data: centred columns, their correlations with a residual, Gram blocks.

Three designs share one interface.  ``DenseDesign`` holds columns in memory,
``SparseDesign`` a CSC matrix whose columns are centred implicitly, and
``GramDesign`` only the cross products.  All of them stand for the problem
``||y - X w||^2 / 2`` with columns and response already centred and scaled by the
square roots of the sample weights.
"""

import numpy as np

_NO_MATRIX = np.empty((0, 0))
_NO_VALUES = np.empty(0)
_NO_INDICES = np.empty(0, dtype=np.int32)

_REMEMBERED = 4
"""Past residuals, with all their correlations, from which those of a new one are estimated."""

_DENSE_MARGIN = 4
"""Nonzero coefficients, in units of the entries of a column, up to which a Gram matrix pays.

A row of the Gram matrix is then longer than a column, but Newton steps make up for it.
Sparse columns are too cheap for that.
"""

_RANK = 1e-13
"""Singular value, relative to the largest, below which columns count as dependent."""

_FAR = 1e4
"""Distance of a column's mean from zero, in standard deviations, that calls for care."""

_WORTHWHILE = 0.5
"""Share of stale correlations beyond which all are computed at once."""


class _RowDesign:
    """What dense and sparse designs have in common: a residual with one entry per row."""

    gram_only = False
    XT = _NO_MATRIX
    data = _NO_VALUES
    indices = _NO_INDICES
    indptr = _NO_INDICES
    offsets = _NO_VALUES
    total_weight = 0.0
    roots = _NO_VALUES

    def _prepare(self, y):
        self.y = y
        self.yy = float(y @ y)
        self.residual = y.copy()
        self.scratch = np.empty_like(y)
        self._past = np.zeros((_REMEMBERED, y.shape[0]))
        self._past_c = np.zeros((_REMEMBERED, self.n_features))
        self._known = 0
        self._stale = np.empty(self.n_features, dtype=np.int64)
        self._dots = np.empty(self.n_features)

    @property
    def columns(self):
        """The arrays by which compiled loops reach the columns."""
        return self.XT, self.data, self.indices, self.indptr, self.offsets

    def dots(self, features, count, out):
        """Correlations of ``features[:count]`` with the residual."""
        from sparsestat.solvers import _kernels

        # The residual is orthogonal to the roots up to rounding, which large offsets magnify.
        shift = -float(self.roots @ self.residual) if self.total_weight > 0.0 else 0.0
        _kernels.column_dots(*self.columns, self.residual, shift, features, count, out)

    def response_dots(self, features):
        """Correlations of ``features`` with the response."""
        from sparsestat.solvers import _kernels

        out = np.empty(features.size)
        _kernels.column_dots(*self.columns, self.y, 0.0, features, features.size, out)
        return out

    def set_coefficients(self, cols, w, m):
        """Compute the residual of coefficients ``w[:m]`` on the features ``cols[:m]``."""
        from sparsestat.solvers import _kernels

        self.residual[:] = self.y
        support = np.flatnonzero(w[:m])
        _kernels.subtract_columns(
            self.XT, self.data, self.indices, self.indptr, cols, w[support], support,
            support.size, self.residual,
        )  # fmt: skip
        if self.total_weight > 0.0:
            # Twice, since what was to be subtracted may exceed what is left by far.
            for _ in range(2):
                self.residual -= (self.roots @ self.residual / self.total_weight) * self.roots

    def least_squares(self, features):
        """How the coefficients of ``features`` must change to make the residual orthogonal.

        Parameters
        ----------
        features : ndarray of int
            Features whose centred columns are held in memory from here on.

        Returns
        -------
        solve : callable
            Returns the change for the present residual, of least norm if columns
            depend on each other.
        """
        left, singular, right = np.linalg.svd(self.centred(features), full_matrices=False)
        kept = singular > _RANK * singular.max(initial=0.0)
        left = np.ascontiguousarray(left[:, kept].T)
        back = right[kept].T / singular[kept]
        return lambda: back @ (left @ self.residual)

    def rounding(self):
        """Bound on the rounding error of :meth:`squares`; a residual in memory needs none."""
        return 0.0

    def squares(self):
        """``r'r`` and ``y'r`` of the present residual r."""
        return float(self.residual @ self.residual), float(self.y @ self.residual)

    def correlate(self, c):
        """Fill c with the correlations of all features and remember them."""
        slot = self._known % _REMEMBERED
        self._correlate_all(self._past_c[slot])
        self._past[slot] = self.residual
        self._known += 1
        c[:] = self._past_c[slot]

    def estimate(self, c):
        """Fill c with estimates of all correlations.

        The present residual is projected onto past ones, whose correlations are known; what
        is left over bounds the error of the estimates by the Cauchy-Schwarz inequality, so
        that a certificate may use those that are not recomputed.

        Returns
        -------
        error : float
            Bound on the error of an estimate in units of the norm of its column.
        """
        # With weights m, r = sum_k m_k r_k + e and X'r = sum_k m_k X'r_k + X'e.
        known = min(self._known, _REMEMBERED)
        past = self._past[:known]
        mix = np.linalg.lstsq(past @ past.T, past @ self.residual, rcond=1e-13)[0]
        left = self.residual - mix @ past
        rounding = 1e-14 * np.sqrt(self.yy) * (1.0 + np.abs(mix).sum())
        np.dot(mix, self._past_c[:known], out=c)
        return np.sqrt(left @ left) + rounding

    def refresh(self, code, params, c, share):
        """Estimate all correlations and recompute those that may exceed ``share`` of the bar.

        The bar is the correlation that a zero coefficient bears; see :meth:`estimate`.

        Returns
        -------
        features : ndarray of int
            The features whose correlation is now exact.
        """
        from sparsestat.solvers import _kernels

        error = self.estimate(c)
        count = _kernels.uncertain_features(code, params, c, error, self.norms, share, self._stale)
        if count > _WORTHWHILE * self.n_features:
            self.correlate(c)
            return np.arange(self.n_features)
        stale = self._stale[:count].copy()
        self.dots(stale, count, self._dots)
        c[stale] = self._dots[:count]
        return stale


class DenseDesign(_RowDesign):
    """Columns in memory.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float64, Fortran order
        Centred and weighted columns; not modified.
    y : ndarray of shape (n_samples,), float64
        Centred and weighted response.
    """

    def __init__(self, X, y):
        self.X = X
        self.XT = X.T
        self.n_features = X.shape[1]
        self.entries_per_column = X.shape[0]
        self.gram_limit = _DENSE_MARGIN * X.shape[0]
        self.norms = np.sqrt(np.einsum("ij,ij->j", X, X))
        self._active = np.empty((X.shape[0], 0), order="F")
        self._prepare(y)

    def _correlate_all(self, c):
        np.dot(self.XT, self.residual, out=c)

    def centred(self, features):
        """Copy of some columns."""
        return self.X[:, features]

    def set_coefficients(self, cols, w, m):
        """Compute the residual of coefficients ``w[:m]`` on the features ``cols[:m]``."""
        if self._active.shape[1] >= m > 0:
            np.dot(self._active[:, :m], w[:m], out=self.residual)
            np.subtract(self.y, self.residual, out=self.residual)
        else:
            super().set_coefficients(cols, w, m)

    def gram_block(self, cols, m, new):
        """``X_a'X_new`` for a = cols[:m] followed by ``new``; copies of the columns are kept."""
        total = m + new.size
        if self._active.shape[1] < total:
            grown = np.empty((self.X.shape[0], max(2 * total, 32)), order="F")
            grown[:, :m] = self._active[:, :m]
            self._active = grown
        fresh = self._active[:, m:total]
        fresh[:] = self.X[:, new]
        return np.dot(self._active[:, :total].T, fresh)

    def keep(self, cols, positions):
        """Forget the copied columns that are not at ``positions`` of the working set."""
        if self._active.shape[1]:
            self._active[:, : positions.size] = self._active[:, positions]

    def release(self):
        """Free the copied columns."""
        self._active = np.empty((self.X.shape[0], 0), order="F")


class SparseDesign(_RowDesign):
    """Columns in CSC form, centred implicitly.

    Parameters
    ----------
    X : CSC matrix of shape (n_samples, n_features), float64
        Columns scaled by the square roots of the sample weights, not centred.
    y : ndarray of shape (n_samples,), float64
        Centred and weighted response.
    means : ndarray of shape (n_features,)
        Weighted column means, zero without an intercept.
    roots : ndarray of shape (n_samples,)
        Square roots of the sample weights, zeros without an intercept.
    """

    def __init__(self, X, y, means, roots):
        from sparsestat.solvers import _kernels

        self.data, self.indices, self.indptr = X.data, X.indices, X.indptr
        self.n_features = X.shape[1]
        self.offsets = means
        self.roots = roots
        self.total_weight = float(roots @ roots)
        self.norms = np.empty(X.shape[1])
        _kernels.csc_norms(
            self.data, self.indices, self.indptr, means, roots, self.total_weight, self.norms
        )
        self.entries_per_column = X.nnz / max(X.shape[1], 1)
        self.gram_limit = self.entries_per_column
        if self.entries_per_column > 0.25 * X.shape[0]:
            self.gram_limit *= _DENSE_MARGIN
        far = np.abs(means) * np.sqrt(self.total_weight) > _FAR * self.norms
        if np.any(far & (self.norms > 0.0)):
            # Products of such columns lose so many digits that only residuals can be trusted.
            self.gram_limit = 0
        self._row = np.zeros(X.shape[0])
        self._every = np.arange(self.n_features)
        self._prepare(y)

    def _correlate_all(self, c):
        self.dots(self._every, self.n_features, c)

    def centred(self, features):
        """Some columns, centred, as a dense array."""
        out = np.zeros((self.y.shape[0], features.size))
        for k, j in enumerate(features):
            entries = slice(self.indptr[j], self.indptr[j + 1])
            out[self.indices[entries], k] = self.data[entries]
            out[:, k] -= self.offsets[j] * self.roots
        return out

    def gram_block(self, cols, m, new):
        """``X_a'X_new`` for a = cols[:m] followed by ``new``."""
        from sparsestat.solvers import _kernels

        both = np.concatenate([cols[:m], new])
        out = np.empty((both.size, new.size))
        _kernels.csc_gram_block(
            self.data, self.indices, self.indptr, self.offsets, self.total_weight,
            both, both.size, new, new.size, self._row, out,
        )  # fmt: skip
        return out

    def keep(self, cols, positions):
        """Sparse columns are not copied."""

    def release(self):
        """Sparse columns are not copied."""


class GramDesign:
    """Cross products only.

    Parameters
    ----------
    gram : ndarray of shape (n_features, n_features), float64, C order
        ``X'X`` of centred and weighted columns.
    xy : ndarray of shape (n_features,), float64
        ``X'y``.
    yy : float
        ``y'y``.
    """

    gram_only = True

    def __init__(self, gram, xy, yy):
        self.gram = gram
        self.xy = xy
        self.yy = float(yy)
        self.n_features = gram.shape[0]
        self.norms = np.sqrt(np.maximum(np.diagonal(gram), 0.0))
        self._every = np.arange(self.n_features)
        self._c = xy.copy()
        self._fitted = self._explained = 0.0

    def set_coefficients(self, cols, w, m):
        """Compute the correlations of coefficients ``w[:m]`` on the features ``cols[:m]``."""
        from sparsestat.solvers import _kernels

        positions = np.flatnonzero(w[:m])
        support = cols[positions]
        self._c[:] = self.xy
        _kernels.subtract_columns(
            self.gram, _NO_VALUES, _NO_INDICES, _NO_INDICES, cols, w[positions], positions,
            positions.size, self._c,
        )  # fmt: skip
        self._explained = float(w[positions] @ self.xy[support])
        self._fitted = float(w[positions] @ self._c[support])
        self._size = float(np.abs(w[positions]) @ self.norms[support])

    def squares(self):
        """``r'r`` and ``y'r`` of the residual that the coefficients leave."""
        yr = self.yy - self._explained
        return max(yr - self._fitted, 0.0), yr

    def rounding(self):
        """Bound on the rounding error of :meth:`squares`, which subtracts near-equal numbers."""
        return 4 * np.finfo(float).eps * (np.sqrt(self.yy) + self._size) ** 2

    def dots(self, features, count, out):
        """Correlations of ``features[:count]`` with the residual."""
        out[:count] = self._c[features[:count]]

    def response_dots(self, features):
        """Correlations of ``features`` with the response."""
        return self.xy[features]

    def least_squares(self, features):
        """How the coefficients of ``features`` must change to make the residual orthogonal."""
        inverse = np.linalg.pinv(self.gram[np.ix_(features, features)], hermitian=True)
        return lambda: inverse @ self._c[features]

    def correlate(self, c):
        """Fill c with the correlations of all features."""
        c[:] = self._c

    def refresh(self, code, params, c, share):
        """Recompute all correlations."""
        c[:] = self._c
        return self._every

    def gram_block(self, cols, m, new):
        """``X_a'X_new`` for a = cols[:m] followed by ``new``."""
        return self.gram[np.ix_(np.concatenate([cols[:m], new]), new)]

    def keep(self, cols, positions):
        """Nothing is copied."""

    def release(self):
        """Nothing is copied."""
