"""Working-set solver for coefficients that enter and leave by groups.

Minimises ``||y - X b||^2 / 2 + sum_g thresholds_g ||b_g||`` for a descending sequence
of thresholds.  The dual of the problem is

    max_theta y'theta - ||theta||^2 / 2   subject to  ||X_g'theta|| <= thresholds_g,

so that the residual, scaled to be feasible, gives a lower bound.

The norm of ``b_g`` does not change under rotation.  The columns of a group that
enters the working set are therefore rotated to be orthogonal, which makes the exact
minimum over one group the root of a function of one number.  Groups without a
penalty are projected out: with Q an orthonormal basis of their columns, both y and
the other columns are replaced by what Q leaves of them, and every residual is
orthogonal to Q, as dual feasibility demands.
"""

import numpy as np

from sparsestat.solvers import _kernels_groups as kernels
from sparsestat.solvers._group_faces import GramFace, ResidualFace, support_of
from sparsestat.solvers._working_set import Solution, solve_in_steps

_LOOSE = 1e-3
"""Gap of the intermediate solutions, in units of ``||y||^2``."""

_INNER = 0.7
"""Gap that is left on a working set, in units of what is left for all groups."""

_FARTHEST = 2.0
"""Length, in units of the last step along the path, up to which the next one extrapolates."""

_NEAR = 0.98
"""Expected correlations, in units of the threshold, above which a group is admitted."""

_WIDEST = 1.5
"""Ratio of strengths beyond which the strong rule would admit too much."""

_MAX_GRAM_BYTES = 256e6
_GRAM_MARGIN = 1.0
"""Working columns, per sample, up to which block descent goes through their Gram matrix."""

_SHARE = 0.99
"""Correlations provably below this share of their threshold are not recomputed."""

_WORTHWHILE = 0.5
"""Share of stale correlations beyond which all are computed at once."""

_RANK = 1e-13
"""Singular value, relative to the largest, below which columns without penalty are dependent."""

_SHARP = 1e-10
"""Ratio of eigenvalues below which rotations are found from columns, not from their products."""

_SMALLEST = 1e-17
"""Tolerance, in units of ``||y||^2``, below which rounding prevents any progress."""

_STILL = 1e-16
"""Decrease of the objective, in units of ``||y||^2``, that rounding might have made."""

_STALLS = 5


class GroupSolver:
    """Solve a sequence of group-sparse least-squares problems on one design.

    Parameters
    ----------
    design : DenseDesign or SparseDesign
        The data.
    indices, ptr : ndarray of int
        Group g has the columns ``indices[ptr[g]:ptr[g + 1]]``.
    factors : ndarray of shape (n_groups,)
        Relative penalties, zero for groups without one.
    coef : ndarray of shape (n_features,) or None
        Where to start.
    """

    def __init__(self, design, indices, ptr, factors, coef=None):
        self.design = design
        self.indices, self.ptr = indices, ptr
        self.n_groups = factors.size
        # Groups that are projected out bear any correlation.
        self.factors = np.where(factors > 0.0, factors, np.inf)
        self._project_out(np.flatnonzero(factors == 0.0))
        n = self.y.size
        self._taken = np.empty(0, dtype=np.int64)
        self._starts = np.zeros(1, dtype=np.int64)
        self._rotations: list = []
        self._member = np.zeros(self.n_groups, dtype=bool)
        self._Z = np.empty((n, 0), order="F")
        self._G = np.empty((0, 0))
        self._in_gram = 0
        self._w = self._q0 = self._squares = np.empty(0)
        self._last = self._slope = None
        self._bounds = np.empty(self.n_groups)
        kernels.group_norms(design.norms, indices, ptr, self._bounds)
        self._c = np.empty(indices.size)
        self._pull = np.empty(self.n_groups)
        self._exact = np.arange(self.n_groups)
        self.residual = self.y
        if coef is not None:
            used = np.logical_or.reduceat(coef[indices] != 0.0, ptr[:-1])
            self._take(np.flatnonzero(used & (factors > 0.0)))
            for k, g in enumerate(self._taken):
                columns = slice(self._starts[k], self._starts[k + 1])
                self._w[columns] = coef[self._columns(g)] @ self._rotations[k]
            self._set_residual()
        self._correlate()

    # --- groups without a penalty ------------------------------------------------------

    def _project_out(self, free):
        self._free = np.concatenate([self._columns(g) for g in free]) if free.size else free
        left, singular, right = np.linalg.svd(self.design.centred(self._free), full_matrices=False)
        kept = singular > _RANK * singular.max(initial=0.0)
        self._basis = np.asfortranarray(left[:, kept])
        self._back = right[kept].T / singular[kept]
        self._free_y = self._basis.T @ self.design.y
        self._free_w = np.empty((self._basis.shape[1], 0))
        self.y = self._orthogonal(self.design.y)
        self.yy = float(self.y @ self.y)
        self._dead = self._without_variation()

    def _without_variation(self):
        """Columns of which the columns without penalty leave nothing."""
        design = self.design
        dead = design.norms == 0.0
        explained = np.zeros(dead.size)
        products = np.empty(dead.size)
        for direction in self._basis.T:
            design.residual[:] = direction
            design.correlate(products)
            explained += products * products
        doubtful = np.flatnonzero(explained > (1.0 - _SHARP) * design.norms**2)
        # Differences of squares cannot tell nothing from little.
        for j in doubtful[~dead[doubtful]]:
            left = self._orthogonal(design.centred(np.array([j])))
            dead[j] = np.linalg.norm(left) <= _RANK * design.norms[j]
        return dead

    def _orthogonal(self, columns):
        """What the columns without penalty leave; twice, since that may be very little."""
        if self._basis.shape[1]:
            for _ in range(2):
                columns = columns - self._basis @ (self._basis.T @ columns)
        return columns

    # --- coefficients and residuals ----------------------------------------------------

    def _columns(self, g):
        return self.indices[self.ptr[g] : self.ptr[g + 1]]

    @property
    def coef(self):
        """The present coefficients, shape (n_features,)."""
        coef = np.zeros(self.indices.size)
        for k, g in enumerate(self._taken):
            w = self._w[self._starts[k] : self._starts[k + 1]]
            if np.any(w):
                coef[self._columns(g)] = self._rotations[k] @ w
        if self._free.size:
            coef[self._free] = self._back @ (self._free_y - self._free_w @ self._w)
        return coef

    def _set_residual(self):
        support = np.flatnonzero(self._w)
        if 2 * support.size < self._w.size:
            fitted = self._Z[:, support] @ self._w[support]
        else:
            fitted = self._Z[:, : self._w.size] @ self._w
        self.residual = self._orthogonal(self.y - fitted)

    def _correlate(self):
        """Compute the correlations of all columns and remember them."""
        design = self.design
        design.residual[:] = self.residual
        design.correlate(self._c)
        self._c[self._dead] = 0.0
        kernels.group_norms(self._c, self.indices, self.ptr, self._pull)
        self._exact = np.arange(self.n_groups)

    def _refresh(self, thresholds):
        """Estimate the correlations of all groups and recompute those that may matter.

        A certificate may use those that are not recomputed: see the design's ``estimate``.
        """
        self.design.residual[:] = self.residual
        error = self.design.estimate(self._c)
        self._c[self._dead] = 0.0
        kernels.group_norms(self._c, self.indices, self.ptr, self._pull)
        stale = np.flatnonzero(self._pull + error * self._bounds > _SHARE * thresholds)
        if stale.size > _WORTHWHILE * self.n_groups:
            self._correlate()
            return
        if stale.size:
            columns = np.concatenate([self._columns(g) for g in stale])
            dots = np.empty(columns.size)
            self.design.dots(columns, columns.size, dots)
            dots[self._dead[columns]] = 0.0
            firsts = np.concatenate([[0], np.cumsum(self.ptr[stale + 1] - self.ptr[stale])[:-1]])
            self._pull[stale] = np.sqrt(np.add.reduceat(dots * dots, firsts))
        self._exact = stale

    def ratio(self):
        """Largest norm of a group's correlations in units of its factor."""
        return float(np.max(self._pull / self.factors, initial=0.0))

    def largest_strength(self):
        """Smallest strength at which all penalised coefficients are zero."""
        now = self.residual
        self.residual = self.y
        self._correlate()
        largest = self.ratio()
        if now is not self.y:
            self.residual = now
            self._correlate()
        return largest

    def objective(self, strength):
        """Objective of the present coefficients, for any strength."""
        return 0.5 * float(self.residual @ self.residual) + self._penalty(strength)

    def _penalty(self, strength):
        thresholds = strength * self.factors[self._taken]
        return kernels.penalty_of_groups(self._starts, thresholds, self._w, self._taken.size)

    # --- the working set ---------------------------------------------------------------

    def _take(self, new):
        """Extend the working set by groups."""
        if not new.size:
            return
        m = self._w.size
        blocks = [self._rotated(g) for g in new]
        self._rotations += [rotation for _, _, rotation in blocks]
        Z = np.hstack([reduced for _, reduced, _ in blocks])
        whole = np.hstack([columns for columns, _, _ in blocks])
        widths = np.array([rotation.shape[1] for _, _, rotation in blocks])
        self._starts = np.concatenate([self._starts, m + np.cumsum(widths)])
        self._taken = np.concatenate([self._taken, new])
        self._member[new] = True
        self._free_w = np.hstack([self._free_w, self._basis.T @ whole])
        total = m + Z.shape[1]
        self._reserve(m, total)
        self._Z[:, m:total] = Z
        self._w = np.concatenate([self._w, np.zeros(total - m)])
        self._q0 = np.concatenate([self._q0, Z.T @ self.y])
        self._squares = np.concatenate([self._squares, np.einsum("ij,ij->j", Z, Z)])

    def _reserve(self, m, total):
        """Make room for the columns of the working set."""
        if self._Z.shape[1] >= total:
            return
        Z = np.empty((self.y.size, max(2 * total, 64)), order="F")
        Z[:, :m] = self._Z[:, :m]
        self._Z = Z

    def _rotated(self, g):
        """Rotate the columns of a group so that what is left of them is orthogonal.

        Returns the rotated columns, what the columns without penalty leave of them, and
        the rotation.
        """
        features = self._columns(g)
        columns = self.design.centred(features)
        columns[:, self.design.norms[features] == 0.0] = 0.0
        n, size = columns.shape
        reduced = self._orthogonal(columns)
        if size <= n:
            values, rotation = np.linalg.eigh(reduced.T @ reduced)
            if values[0] > _SHARP * values[-1] and not self._free.size:
                rotated = columns @ rotation
                return rotated, rotated, rotation
        _, singular, right = np.linalg.svd(reduced, full_matrices=False)
        # Directions without variation have no coefficients; of nothing one column of zeros is left.
        kept = singular > _RANK * np.linalg.norm(columns)
        kept[0] = True
        rotation = right[kept].T
        reduced = reduced @ rotation
        if singular[0] <= _RANK * np.linalg.norm(columns):
            reduced[:] = 0.0
        return columns @ rotation, reduced, rotation

    def _compact(self):
        """Forget groups at zero, once they are many."""
        sizes = np.diff(self._starts)
        used = np.zeros(sizes.size, dtype=bool)
        used[support_of(self._starts, self._w)[0]] = True
        idle = sizes[~used].sum()
        if idle <= max(50, 0.5 * sizes[used].sum()):
            return
        kept = np.repeat(used, sizes)
        self._member[self._taken[~used]] = False
        self._taken = self._taken[used]
        self._starts = np.concatenate([[0], np.cumsum(sizes[used])])
        self._rotations = [self._rotations[k] for k in np.flatnonzero(used)]
        self._Z = np.asfortranarray(self._Z[:, : kept.size][:, kept])
        known = kept[: self._in_gram]
        self._G = np.ascontiguousarray(self._G[: known.size, : known.size][np.ix_(known, known)])
        self._in_gram = self._G.shape[0]
        self._w, self._q0, self._squares = self._w[kept], self._q0[kept], self._squares[kept]
        self._free_w = self._free_w[:, kept]
        self._last = self._slope = None

    # --- solving -----------------------------------------------------------------------

    def solve(self, strength, tol, max_iter, progress=None):
        """Minimise with thresholds ``strength * factors``, from where the previous call ended.

        Parameters
        ----------
        strength : float
            Positive.
        tol : float
            Largest duality gap, in units of the objective.
        max_iter : int
            Largest number of working sets to solve.
        progress : callable or None
            Called without arguments after every working set; a true result ends the
            solve.

        Returns
        -------
        Solution
        """

        def solve_one(factor, step, tol, max_iter):
            return self._solve_one(factor * strength, tol, max_iter, progress)

        return solve_in_steps(
            solve_one, lambda: self.ratio() / strength, _LOOSE * self.yy, tol, max_iter
        )

    def _solve_one(self, strength, tol, max_iter, progress):
        thresholds = strength * self.factors
        self._compact()
        self._look_ahead(strength)
        inner_tol = _INNER * tol
        stopped = False
        stalls = n_iter = 0
        solution = None
        while n_iter < max_iter and not stopped:
            n_iter += 1
            settled = self._improve(thresholds, inner_tol)
            self._set_residual()
            stopped = progress is not None and bool(progress())
            self._refresh(thresholds)
            previous, solution = solution, self._certify(strength)
            if solution.gap <= tol:
                break
            if self._admit(self._pull - thresholds):
                continue
            if settled:
                inner_tol *= 0.1
            # Rounding errors then decide what is reached, not the number of working sets.
            if previous is not None:
                stalls += solution.primal > previous.primal - _STILL * self.yy
            if inner_tol < _SMALLEST * self.yy or stalls > _STALLS:
                break
        if solution is None:
            self._refresh(thresholds)
            solution = self._certify(strength)
        self._remember(strength)
        solution.n_iter = n_iter
        solution.converged = bool(solution.gap <= tol)
        solution.stopped = stopped
        return solution

    def _admit(self, excess):
        """Take the groups outside the working set whose excess is largest; return how many."""
        found = np.flatnonzero((excess > 0.0) & ~self._member)
        limit = max(20, self._taken.size)
        if found.size > limit:
            order = np.argpartition(excess[found], found.size - limit)
            found = np.sort(found[order[-limit:]])
        self._take(found)
        return found.size

    def _remember(self, strength):
        """Keep the solution, and by how much it and all correlations differ from the last one."""
        now = strength, self._w.copy(), self._c.copy()
        self._slope = None
        if self._last is not None and self._last[0] != strength:
            before, w, c = self._last
            change = self._w.copy()
            change[: w.size] -= w
            step = strength - before
            self._slope = step, change, self._c - c
        self._last = now

    def _look_ahead(self, strength):
        """Continue the line through the last two solutions, and admit what then enters.

        The path is smooth while its support is constant, so that this misses the solution
        by the square of the step only.  Without two solutions, the sequential strong rule
        admits what may enter if correlations change no faster than the strength.
        """
        share = 0.0
        if self._slope is not None:
            step, change, turn = self._slope
            share = (strength - self._last[0]) / step
        if not 0.0 < share <= _FARTHEST:
            last = min(self.ratio(), _WIDEST * strength)
            self._admit(self._pull - (2.0 * strength - last) * self.factors)
            return
        expected = np.empty(self.n_groups)
        kernels.group_norms(self._c + share * turn, self.indices, self.ptr, expected)
        support, columns = support_of(self._starts, self._w)
        trial = self._w.copy()
        kernels.step_groups(self._starts, self._w, support, change[columns], share, trial)
        before = self._w, self.residual, self.objective(strength)
        self._w = trial
        self._set_residual()
        if not self.objective(strength) < before[2]:
            self._w, self.residual = before[:2]
        self._admit(expected - _NEAR * strength * self.factors)

    def _improve(self, thresholds, tol):
        """Solve the problem on the working set; tell whether its gap is within tol."""
        m = self._w.size
        if m == 0:
            return True
        bars = thresholds[self._taken]
        arguments = self._starts, bars, self._w, self._Z.T, self._squares, self.y, self.residual
        if m <= _GRAM_MARGIN * self.y.size and 8 * m**2 <= _MAX_GRAM_BYTES:
            self._grow_gram(m)
            face = GramFace(*arguments, self._G, self._q0)
        else:
            face = ResidualFace(*arguments)
        settled = face.solve(tol)
        self._w = face.w
        return settled

    def _grow_gram(self, m):
        """Compute the products of the columns that joined since the last time."""
        known = self._in_gram
        if self._G.shape[0] < m:
            G = np.empty((self._Z.shape[1], self._Z.shape[1]))
            G[:known, :known] = self._G[:known, :known]
            self._G = G
        if known < m:
            block = self._Z[:, :m].T @ self._Z[:, known:m]
            self._G[:m, known:m] = block
            self._G[known:m, :known] = block[:known].T
            self._in_gram = m

    def _certify(self, strength):
        rr = float(self.residual @ self.residual)
        yr = float(self.y @ self.residual)
        primal = 0.5 * rr + self._penalty(strength)
        # All other correlations are below _SHARE times their threshold.
        exact = self._exact
        ratio = np.max(self._pull[exact] / self.factors[exact], initial=0.0) / strength
        scale = min(max(yr / rr, 0.0), 1.0 / _SHARE) if rr > 0.0 else 0.0
        if ratio > 0.0:
            scale = min(scale, 1.0 / ratio)
        bound = scale * yr - 0.5 * scale**2 * rr
        return Solution(primal, max(float(primal - bound), 0.0), 0.0)
