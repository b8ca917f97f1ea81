"""Block coordinate descent on a squared or logistic loss with an l1 penalty.

Minimises ``loss(X x) + sum_j thresholds_j |x_j|``, where the loss is ``||y - X x||^2 / 2`` or
``sum_i w_i (log(1 + exp(eta_i)) - y_i eta_i)`` with ``eta = X x + intercept``, over all x or those
that are not negative somewhere.  An iteration changes one block of coordinates; the residual
and, where the choice of the block needs it, the gradient are kept up to date.
"""

import math
import time

import numpy as np
from scipy import sparse
from scipy.special import xlog1py, xlogy

from sparsestat.solvers._block_arrays import (
    BOUND,
    CHANGED,
    GRADIENT,
    GSD,
    GSL,
    GSQ,
    GSQ_EXACT,
    INTERCEPT,
    ITERATION,
    LARGEST,
    LAW,
    LINEAR,
    LOGISTIC,
    LOSS,
    MULTIPLICATIONS,
    OFFSET,
    ONE_SIDED,
    ORDER,
    PENALTY,
    RANDOM,
    RESIDUAL,
    ROOT,
    RULE,
    SHIFT,
    SQUARED,
    STEP,
    SUPPORT,
    TARGET,
    THRESHOLD,
    UPDATE,
    WEIGHT,
    Columns,
    Record,
    State,
    Work,
    X,
)
from sparsestat.solvers._partitions import RULES, UPDATES, check_combination, make_partition

_SECONDS = 0.05
"""What the compiled loop should take before it returns."""

_BATCH = 4096
_GRAM_BYTES = 2**27
_SCATTERED = 3.0
"""Price of a product with a scattered entry, in products with neighbouring ones."""

_GREEDY_CHECKS = 10
"""Iterations of a greedy rule after which the duality gap is computed again, at the latest."""

_EPOCHS = 10
"""The same for other rules, in visits of all coordinates."""

_FARTHEST_SCORE = 10.0
"""Scores of the logistic loss within which minimisers without a penalty are looked for."""

_STRIP = 256
"""Columns of the Hessian that are looked at together."""

_INTERCEPT_STEPS = 100
_FIXED_SIZE = 50


class BlockDescent:
    """Minimise a loss and an l1 penalty, one block of coordinates at a time.

    Parameters
    ----------
    X : ndarray in Fortran order or CSC array of shape (n_samples, n_features), float64
        The design. For the squared loss rows are scaled by the square roots of the weights;
        a dense design is centred if there is an intercept.
    y : ndarray of shape (n_samples,)
        Centred and scaled response, or zeros and ones for the logistic loss.
    thresholds : ndarray of shape (n_features,)
        Prices of the absolute values, not negative.
    positive : ndarray of bool of shape (n_features,)
        Which coordinates must not be negative.
    weights : ndarray of shape (n_samples,) or None, default=None
        Positive weights for the logistic loss; None stands for the squared loss.
    fit_intercept : bool, default=False
        Whether scores of the logistic loss contain a constant.
    offsets, roots : ndarray of shape (n_features,) and (n_samples,), default=None
        What is to be subtracted from the columns of a sparse X for the squared loss, as an
        outer product.
    partition, rule, update : str
        See :class:`sparsestat.linear_model.BCDRegressor`.
    block_size : int or "auto"
        Coordinates of a block; "auto" is 50, and for variable blocks a little more than there
        are nonzero coordinates if these are more, but always less than there are rows.
    rng : numpy.random.Generator
        Source of random blocks.
    coef : ndarray of shape (n_features,) or None, default=None
        Where to start.
    record : bool, default=False
        Whether to note what happens in every iteration.

    Attributes
    ----------
    state : State
        The present point.
    null : float
        Objective of zero coordinates.
    checks : list of (int, float)
        Iterations and the duality gaps after them.
    clock : list of (int, float)
        Iterations and the seconds that the preparation and all iterations until then took,
        computations of the gap not included; only the first entry without ``record``.
    """

    def __init__(
        self,
        X,
        y,
        thresholds,
        positive,
        *,
        weights=None,
        fit_intercept=False,
        offsets=None,
        roots=None,
        partition="variable",
        rule="gsq",
        update="tmp",
        block_size="auto",
        rng=None,
        coef=None,
        record=False,
    ):
        before = time.perf_counter()
        self.n_samples, self.n_features = n, d = X.shape
        self.is_smooth = not np.any(thresholds) and not np.any(positive)
        check_combination(partition, rule, update, self.is_smooth)
        self._X, self._y = X, y
        self._rng = np.random.default_rng() if rng is None else rng
        rule_code = RULES[rule]
        if rule_code == GSQ and self.is_smooth and partition != "variable":
            rule_code = GSQ_EXACT
        self._rule, self.is_greedy = rule_code, rule_code < RANDOM
        self.columns = _columns(X, self.is_greedy)
        self.state = State(
            np.zeros((7, d)), np.zeros((9, n)), np.zeros(3), np.zeros(10, dtype=np.int64)
        )
        coords, rows, counts = self.state.coords, self.state.rows, self.state.counts
        coords[THRESHOLD], coords[ONE_SIDED] = thresholds, positive
        coords[OFFSET] = 0.0 if offsets is None else offsets
        rows[ROOT] = 0.0 if roots is None else roots
        rows[TARGET] = y
        rows[WEIGHT] = 1.0 if weights is None else weights
        rows[BOUND] = 1.0 if weights is None else 0.25 * weights
        self._is_squared = weights is None
        self._weight = float(rows[ROOT] @ rows[ROOT])
        counts[LOSS] = SQUARED if weights is None else LOGISTIC
        counts[RULE], counts[UPDATE], counts[INTERCEPT] = rule_code, UPDATES[update], fit_intercept
        self.curvatures = self._curvatures()
        self.refresh()
        self.null = self.objective()
        self._fixed = partition != "variable"
        self._auto = block_size == "auto" and not self._fixed
        # More columns than rows depend on each other, and their Hessian is singular.
        self._largest = max(1, min(d, n - 1)) if block_size == "auto" else d
        self._size = min(_FIXED_SIZE if block_size == "auto" else block_size, self._largest)
        self._make_work(partition)
        if coef is not None and np.any(coef):
            self._start(coef)
        self._batch = 1
        self._record = record
        self._chunks = []
        self.checks = []
        self.clock = [(0, time.perf_counter() - before)]

    # --- setting up ---------------------------------------------------------------------

    def _curvatures(self):
        """Largest curvature of the loss along each coordinate."""
        X, bound = self._X, self.state.rows[BOUND]
        if sparse.issparse(X):
            squares = sparse.csc_array((X.data**2, X.indices, X.indptr), shape=X.shape)
            raw = np.asarray(squares.T @ bound).ravel()
            return np.maximum(raw - self._weight * self.state.coords[OFFSET] ** 2, 0.0)
        return np.einsum("ij,ij,i->j", X, X, bound)

    def _row_sums(self):
        """Sums of the absolute values in each row of the bound on the Hessian."""
        X, offsets = self._X, self.state.coords[OFFSET]
        bound = self.state.rows[BOUND][:, None]
        weight = self._weight if self._is_squared else 0.0
        sums = np.zeros(self.n_features)
        for first in range(0, self.n_features, _STRIP):
            strip = X[:, first : first + _STRIP]
            rows = strip.multiply(bound).tocsc() if sparse.issparse(X) else strip * bound
            rows = X.T @ rows
            rows = rows.toarray() if sparse.issparse(X) else rows
            if weight > 0.0:
                rows -= weight * np.outer(offsets, offsets[first : first + _STRIP])
            sums += np.abs(rows).sum(axis=1)
        self.state.numbers[MULTIPLICATIONS] += float(self._entries()) * self.n_features
        return sums

    def _make_work(self, partition):
        n, d, size = self.n_samples, self.n_features, self._size
        order, starts = np.arange(d), np.zeros(1, dtype=np.int64)
        if self._fixed:
            by_rows = partition in ("sort_rows", "average_rows")
            keys = self._row_sums() if by_rows else self.curvatures
            order, starts = make_partition(partition, keys, size)
        n_blocks = starts.size - 1
        pair, vectors, lists = _scratch(size)
        self.work = Work(
            starts,
            np.empty((2, n_blocks, size, size)),
            np.empty((3, n_blocks)),
            np.stack([np.full(d, -1), np.arange(d), order]),
            np.empty((self._gram_rows(), d)),
            pair,
            vectors,
            lists,
            np.zeros((2, n), dtype=np.int64),
        )
        if self._fixed:
            self._prepare_blocks()
        self._set_steps()

    def _gram_rows(self):
        """How many rows of the Gram matrix may be kept, none if they would not pay."""
        if not self.is_greedy or not self._is_squared:
            return 0
        d = self.n_features
        if sparse.issparse(self._X):
            entries = self._X.nnz
            if _SCATTERED * (entries / d) * (entries / self.n_samples) < d:
                return 0
        return min(d, max(1, _GRAM_BYTES // (8 * d)))

    def _prepare_blocks(self):
        from sparsestat.solvers import _kernels_block_columns

        n_blocks = self.work.blocks.shape[1]
        weight = self._weight if self._is_squared else 0.0
        first, step = 0, 1
        while first < n_blocks:
            last = min(first + step, n_blocks)
            before = time.perf_counter()
            _kernels_block_columns.prepare_blocks(
                self.columns, self.state, self.work, first, last, weight
            )
            step = _next_batch(last - first, time.perf_counter() - before)
            first = last
        largest = self.work.blocks[LARGEST]
        total = largest.sum()
        self.work.blocks[LAW] = np.cumsum(largest / total if total > 0.0 else 1.0 / n_blocks)

    def _set_steps(self):
        """Reciprocals of the curvatures that a rule takes for granted."""
        scale = self.curvatures
        if self._rule == GSD:
            scale = scale * self._size
        elif self._rule == GSL:
            scale = np.empty(self.n_features)
            counts = np.diff(self.work.starts)
            scale[self.work.places[ORDER]] = np.repeat(self.work.blocks[LARGEST], counts)
        steps = self.state.coords[STEP]
        steps[:] = 0.0
        np.divide(1.0, scale, out=steps, where=scale > 0.0)

    def _start(self, coef):
        x = np.array(coef, dtype=np.float64)
        x[self.state.coords[ONE_SIDED] > 0] = np.maximum(x[self.state.coords[ONE_SIDED] > 0], 0.0)
        x[(self.curvatures == 0.0) & (self.thresholds > 0.0)] = 0.0
        self.x[:] = x
        self.refresh()
        if not self.objective() < np.inf:
            self.x[:] = 0.0
            self.refresh()
        self.state.counts[SUPPORT] = np.count_nonzero(self.x)

    # --- the present point --------------------------------------------------------------

    @property
    def x(self):
        """The coordinates, shape (n_features,)."""
        return self.state.coords[X]

    @property
    def gradient(self):
        """Gradient of the loss, shape (n_features,), which only greedy rules maintain."""
        return self.state.coords[GRADIENT]

    @property
    def residual(self):
        """Minus the derivative of the loss of each row, shape (n_samples,)."""
        return self.state.rows[RESIDUAL]

    @property
    def thresholds(self):
        """Prices of the absolute values, shape (n_features,)."""
        return self.state.coords[THRESHOLD]

    @property
    def n_iter(self):
        """Number of iterations so far."""
        return int(self.state.counts[ITERATION])

    @property
    def last_change(self):
        """The iteration in which a coordinate last became or ceased to be zero."""
        return int(self.state.counts[CHANGED])

    @property
    def work_done(self):
        """Multiplications until now, about."""
        return float(self.state.numbers[MULTIPLICATIONS])

    @property
    def intercept(self):
        """Constant of the scores of the logistic loss."""
        return 0.0 if self._is_squared else float(self.state.numbers[SHIFT])

    def refresh(self):
        """Compute everything from the coordinates anew, and the intercept exactly."""
        from sparsestat.solvers import _kernels_blocks

        state, roots = self.state, self.state.rows[ROOT]
        support = np.flatnonzero(self.x)
        fitted = self._X[:, support] @ self.x[support] if support.size else 0.0
        state.numbers[PENALTY] = float(self.thresholds @ np.abs(self.x))
        if self._is_squared:
            self.residual[:] = self._y - fitted
            if self._weight > 0.0:
                # Twice, since what was to be subtracted may exceed what is left by far.
                for _ in range(2):
                    self.residual[:] -= (roots @ self.residual / self._weight) * roots
            state.numbers[SHIFT] = 0.0
        else:
            state.rows[LINEAR] = fitted + state.numbers[SHIFT]
            _kernels_blocks.set_rows(state)
            if state.counts[INTERCEPT]:
                total = state.rows[WEIGHT].sum()
                for _ in range(_INTERCEPT_STEPS):
                    if abs(self.residual.sum()) <= 1e-15 * total:
                        break
                    _kernels_blocks.move_intercept(state)
        self.gradient[:] = self.exact_gradient()

    def exact_gradient(self):
        """Gradient of the loss from the residual."""
        gradient = -np.asarray(self._X.T @ self.residual).ravel()
        if self._is_squared and self._weight > 0.0:
            gradient += (self.state.numbers[SHIFT] * self._weight) * self.state.coords[OFFSET]
        return gradient

    def objective(self):
        """Loss and penalty."""
        from sparsestat.solvers import _kernels_blocks

        return float(_kernels_blocks.objective(self.state))

    def gap(self):
        """Upper bound on the distance of the objective from its minimum.

        It holds over all coordinates. Coordinates without a price are assumed to be within
        twice what explains the response alone, see the user guide.
        """
        if not self.is_greedy:
            self.gradient[:] = self.exact_gradient()
            self.state.numbers[MULTIPLICATIONS] += self._entries()
        reach = -self.gradient
        one_sided = self.state.coords[ONE_SIDED] > 0
        reach = np.where(one_sided, np.maximum(reach, 0.0), np.abs(reach))
        priced = self.thresholds > 0.0
        exceeds = np.max(reach[priced] / self.thresholds[priced], initial=0.0)
        limit = 1.0 / exceeds if exceeds > 0.0 else np.inf
        primal = self.objective()
        if self._is_squared:
            residual = self.residual - self.state.numbers[SHIFT] * self.state.rows[ROOT]
            square, product = float(residual @ residual), float(self._y @ residual)
            charge = self._charge(reach, priced, np.sqrt(self._y @ self._y))
            if square == 0.0:
                return primal
            scale = min(max((product - charge) / square, 0.0), limit)
            bound = scale * (product - charge) - 0.5 * scale**2 * square
        else:
            scale = min(limit, 1.0)
            length = _FARTHEST_SCORE * np.sqrt(self.state.rows[BOUND].sum())
            charge = self._charge(reach, priced, length)
            if self.state.counts[INTERCEPT]:
                farthest = 2.0 * max(abs(self.intercept), _FARTHEST_SCORE)
                charge += farthest * abs(float(self.residual.sum()))
            share = np.minimum(scale * np.abs(self.residual) / self.state.rows[WEIGHT], 1.0)
            entropy = xlogy(share, share) + xlog1py(1.0 - share, -share)
            bound = -float(self.state.rows[WEIGHT] @ entropy) - scale * charge
        return max(primal - max(bound, 0.0), 0.0)

    def _charge(self, reach, priced, length):
        """What correlations of coordinates without a price may cost."""
        free = np.flatnonzero(~priced & (self.curvatures > 0.0) & (reach > 0.0))
        if free.size == 0:
            return 0.0
        alone = length / np.sqrt(self.curvatures[free])
        farthest = 2.0 * np.maximum(np.abs(self.x[free]), alone)
        return float(farthest @ reach[free])

    def _entries(self):
        return self._X.nnz if sparse.issparse(self._X) else self._X.size

    # --- iterations ---------------------------------------------------------------------

    def run(self, n_iter):
        """Do that many iterations, or fewer if a greedy rule finds nothing to improve.

        Returns
        -------
        done : int
            Number of iterations done.
        """
        from sparsestat.solvers import _kernels_blocks

        if self._auto:
            wanted = max(_FIXED_SIZE, math.ceil(1.2 * self.state.counts[SUPPORT]) + 20)
            if min(wanted, self._largest) != self._size:
                self._size = min(wanted, self._largest)
                pair, vectors, lists = _scratch(self._size)
                self.work = self.work._replace(pair=pair, vectors=vectors, lists=lists)
                self._set_steps()
        done = 0
        while done < n_iter:
            batch = min(self._batch, n_iter - done, _BATCH)
            n_draws = 0 if self.is_greedy else 1 if self._fixed else self._size
            uniforms = self._rng.random((batch, n_draws))
            kept = batch if self._record else 0
            record = Record(np.empty((kept, 2)), np.empty((kept, 1 + self._size), dtype=np.int64))
            before = time.perf_counter()
            count = _kernels_blocks.descend(
                self.columns, self.state, self.work, uniforms, self._size, record
            )
            seconds = time.perf_counter() - before
            self._batch = _next_batch(batch, seconds)
            if self._record:
                self.clock.append((self.n_iter, self.clock[-1][1] + seconds))
            if self._record and count:
                self._chunks.append([values[:count] for values in record])
            done += count
            if count < batch:
                break
        return done

    def solve(self, required, max_iter, progress=lambda: False):
        """Iterate until the duality gap is small enough.

        Parameters
        ----------
        required : float
            Largest gap.
        max_iter : int
            Largest number of iterations.
        progress : callable, default
            Called after every computation of the gap; returns whether to stop.

        Returns
        -------
        gap : float
            The gap, computed anew at the end.
        stopped : bool
            Whether ``progress`` asked to stop.
        """
        gap, stuck, stopped = self._check(), False, False
        while True:
            is_last = stuck or stopped or self.n_iter >= max_iter
            if is_last or gap <= required:
                self.refresh()
                gap = self.gap()
                self.checks[-1] = self.n_iter, gap
                if is_last or gap <= required:
                    return gap, stopped
            wanted = min(self._interval(), max_iter - self.n_iter)
            before = self.n_iter
            if self.run(wanted) < wanted:
                self.refresh()
            # Nothing to improve even with an exact gradient.
            stuck = self.n_iter == before
            gap = self._check()
            stopped = progress()

    def _check(self):
        gap = self.gap()
        self.checks.append((self.n_iter, gap))
        return gap

    def _interval(self):
        """Iterations until the gap is computed again."""
        if self.is_greedy:
            return min(max(1, self.n_iter // 4), _GREEDY_CHECKS)
        epoch = -(-self.n_features // self._size)
        return epoch * min(max(1, self.n_iter // (4 * epoch)), _EPOCHS)

    def record(self):
        """Objectives, support sizes, blocks and multiplications, one for each iteration."""
        if not self._chunks:
            return np.empty(0), np.empty(0, dtype=np.int64), np.empty((0, 0), np.int64), np.empty(0)
        numbers, counts = zip(*self._chunks, strict=True)
        width = max(block.shape[1] for block in counts)
        counts = np.concatenate(
            [
                np.pad(block, ((0, 0), (0, width - block.shape[1])), constant_values=-1)
                for block in counts
            ]
        )
        numbers = np.concatenate(numbers)
        return numbers[:, 0].copy(), counts[:, 0].copy(), counts[:, 1:].copy(), numbers[:, 1].copy()


def _next_batch(batch, seconds):
    return max(1, min(4 * batch, int(batch * _SECONDS / max(seconds, 1e-9))))


def _scratch(size):
    """Room for the small problems of blocks of that size."""
    return (
        np.empty((2, size, size)),
        np.empty((8, size)),
        np.empty((3, size), dtype=np.int64),
    )


def _columns(X, with_rows):
    """The arrays by which compiled loops reach the design."""
    none, no_indices = np.empty(0), np.empty(0, dtype=np.int32)
    if not sparse.issparse(X):
        return Columns(X.T, none, no_indices, no_indices, none, no_indices, no_indices)
    rows = none, no_indices, no_indices
    if with_rows:
        rows = _narrow(sparse.csr_array(X))
    return Columns(np.empty((0, 0)), *_narrow(X), *rows)


def _narrow(X):
    """Data and indices, of 32 bits if these suffice."""
    kind = np.int32 if max(X.nnz, *X.shape) < 2**31 else np.int64
    return X.data, X.indices.astype(kind, copy=False), X.indptr.astype(kind, copy=False)
