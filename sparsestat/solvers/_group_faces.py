"""Group-sparse least squares on a working set of columns, solved to a given gap.

Block coordinate descent with Anderson extrapolation alternates with Newton steps on
the groups that are not zero.  The state that descent maintains is either the
correlations of all working columns, by their Gram matrix, or the residual.
"""

from abc import ABC, abstractmethod

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotrs

from sparsestat.solvers import _kernels_groups as kernels

_BURST = 5
"""Epochs of block descent between two extrapolations."""

_BURSTS = 40
_FACE_STEPS = 30
_PATIENCE = 4
"""Newton steps on one working set after which progress counts as slow."""

_DIRECT = 3000
"""Unknowns up to which a Newton system is solved."""

_PRODUCTS_PER_CALL = 1e8
"""Multiplications, about 0.1 s, after which a kernel lets Python look at signals."""


def support_of(starts, w):
    """Groups that are not zero, and the columns of those."""
    sizes = np.diff(starts)
    if not sizes.size:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    used = np.logical_or.reduceat(w != 0.0, starts[:-1])
    return np.flatnonzero(used), np.flatnonzero(np.repeat(used, sizes))


class _Face(ABC):
    """A working set with its present coefficients.

    Parameters
    ----------
    starts : ndarray of int of shape (n_groups + 1,)
        Group k has the working columns from ``starts[k]`` to ``starts[k + 1]``.
    bars : ndarray of shape (n_groups,)
        Thresholds.
    w : ndarray of shape (n_columns,)
        Coefficients; copied.
    ZT : ndarray of shape (at least n_columns, n_samples), C order
        The working columns as rows.
    squares : ndarray of shape (n_columns,)
        Their squared norms.
    y, residual : ndarray of shape (n_samples,)
        Response, and what the coefficients leave of it.
    """

    patience = 0.04
    """Epochs, per unknown, that are given a chance before the dearer Newton step."""

    def __init__(self, starts, bars, w, ZT, squares, y, residual):
        self.starts, self.bars, self.w = starts, bars, w.copy()
        self.ZT, self.y = ZT, y
        self.n_groups = bars.size
        self.columns = ZT[: w.size]
        self.diagonal = squares
        self.yy = float(y @ y)
        self.scratch = np.empty((4, np.diff(starts).max()))
        self.state = residual.copy()

    def solve(self, tol):
        """Descend; return whether the gap is within tol."""
        past_w = np.empty((_BURST + 1, self.w.size))
        past = np.empty((_BURST + 1, self.state.size))
        since = steps = 0
        for _ in range(_BURSTS):
            size = max(int(np.count_nonzero(self.w)), 1)
            epochs = int(min(_BURST, max(1, _PRODUCTS_PER_CALL // (size * self.state.size))))
            if self.descend(epochs, tol, past_w, past) <= tol:
                return True
            since += epochs
            if size <= _DIRECT and since >= self.patience * size:
                since = 0
                # Where progress is slow, every face is solved to its end before groups join.
                for _ in range(1 if steps < _PATIENCE else _FACE_STEPS):
                    steps += 1
                    if not self._newton():
                        break
            elif epochs == _BURST:
                self._extrapolate(past_w, past)
            if self.gap() <= tol:
                return True
        return False

    @abstractmethod
    def descend(self, epochs, tol, past_w, past):
        """At most so many epochs, fewer if the gap is within tol; returns the gap."""

    @abstractmethod
    def gap(self):
        """Duality gap of the working set."""

    @abstractmethod
    def objective(self, w, state):
        """Objective of coefficients and their state, up to a constant."""

    @abstractmethod
    def state_of(self, w):
        """State that belongs to coefficients."""

    @abstractmethod
    def correlations(self):
        """Correlations of all working columns with the residual."""

    @abstractmethod
    def gram(self, columns):
        """Products of some columns, a new array."""

    def _extrapolate(self, past_w, past):
        """Anderson extrapolation of the last epochs, if that lowers the objective."""
        changes = np.diff(past_w, axis=0)
        products = changes @ changes.T
        products[np.diag_indices(_BURST)] += 1e-12 * np.trace(products) + 1e-300
        weights = np.linalg.solve(products, np.ones(_BURST))
        weights /= weights.sum()
        # Correlations and residuals are affine functions of the coefficients.
        self._try(weights @ past_w[1:], weights @ past[1:])

    def _try(self, w, state):
        """Move there if that lowers the objective; return whether it did."""
        if self.objective(w, state) < self.objective(self.w, self.state):
            self.w, self.state = w, state
            return True
        return False

    def _newton(self):
        """One damped Newton step on the groups that are not zero; tell whether one ended there."""
        support, columns = support_of(self.starts, self.w)
        if not support.size:
            return False
        direction = self._newton_direction(support, columns)
        if direction is None:
            return False
        # The longest step on which no group turns round: where some columns are combinations of
        # others the objective may fall along a line until a group ends, far from the minimum.
        first = kernels.first_turn(self.starts, self.w, support, direction)
        for length in (1.0, first, 0.5 * first, 0.1 * first):
            trial = self.w.copy()
            turned = kernels.step_groups(self.starts, self.w, support, direction, length, trial)
            if self._try(trial, self.state_of(trial)):
                return turned > 0
        return False

    def _newton_direction(self, support, columns):
        H, rhs = self.gram(columns), self.correlations()[columns]
        kernels.newton_system(self.starts, self.bars, self.w, support, H, rhs)
        # Columns of very different sizes must not look dependent.
        diagonal = np.diagonal(H)
        scale = 1.0 / np.sqrt(np.where(diagonal > 0.0, diagonal, 1.0))
        H *= scale
        H *= scale[:, None]
        for jitter in (1e-14, 1e-10, 1e-6):
            shifted = H.T.copy(order="F")
            shifted[np.diag_indices(columns.size)] += jitter
            # LAPACK's upper triangle of the transpose is the lower one in C order.
            factor, info = dpotrf(shifted, lower=0, clean=0, overwrite_a=1)
            if info == 0:
                return scale * dpotrs(factor, scale * rhs, lower=0)[0]
        return None


class GramFace(_Face):
    """Descent on the correlations of all working columns.

    Parameters
    ----------
    starts, bars, w, ZT, squares, y, residual
        As for any face.
    G : ndarray of shape (at least n_columns, at least n_columns), C order
        Products of the working columns.
    q0 : ndarray of shape (n_columns,)
        Their products with y.
    """

    def __init__(self, starts, bars, w, ZT, squares, y, residual, G, q0):
        super().__init__(starts, bars, w, ZT, squares, y, residual)
        self.G, self.q0 = G, q0
        self.state = self.columns @ residual

    def descend(self, epochs, tol, past_w, past):
        return kernels.descend_gram(
            self.starts, self.bars, self.G, self.diagonal, self.q0, self.state, self.w,
            self.n_groups, self.yy, epochs, tol, self.scratch, past_w, past,
        )[1]  # fmt: skip

    def gap(self):
        return kernels.gram_gap(
            self.starts, self.bars, self.q0, self.state, self.w, self.n_groups, self.yy
        )

    def objective(self, w, state):
        return kernels.gram_objective(self.starts, self.bars, self.q0, state, w, self.n_groups)

    def state_of(self, w):
        return self.q0 - self.G[: w.size, : w.size] @ w

    def correlations(self):
        return self.state

    def gram(self, columns):
        return self.G[np.ix_(columns, columns)]


class ResidualFace(_Face):
    """Descent on the residual, for more columns than a Gram matrix pays for."""

    patience = 0.08

    def descend(self, epochs, tol, past_w, past):
        kernels.descend_residual(
            self.starts, self.bars, self.ZT, self.diagonal, self.state, self.w, self.n_groups,
            epochs, self.scratch, past_w, past,
        )  # fmt: skip
        return self.gap()

    def gap(self):
        r = self.state
        return kernels.gap_of_groups(
            self.starts, self.bars, self.correlations(), self.w, self.n_groups,
            float(r @ r), float(self.y @ r),
        )  # fmt: skip

    def objective(self, w, state):
        penalty = kernels.penalty_of_groups(self.starts, self.bars, w, self.n_groups)
        return 0.5 * float(state @ state) + penalty

    def state_of(self, w):
        return self.y - w @ self.columns

    def correlations(self):
        return self.columns @ self.state

    def gram(self, columns):
        rows = self.columns[columns]
        return rows @ rows.T
