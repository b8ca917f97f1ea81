"""Working-set solver for separable penalties on a quadratic loss.

Minimises ``||y - X w||^2 / 2 + sum_j p_j(w_j)`` for one penalty after another,
each start being the previous solution.  A small working set is solved exactly,
by coordinate descent that alternates with Newton steps on its Gram matrix, or
by coordinate descent with Anderson extrapolation on the residual; the features
that the sequential strong rule keeps are checked next, and only then, against
errors of that rule, all features, which also yields the duality gap.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotrs

from sparsestat.penalties._codes import scaled
from sparsestat.solvers import _kernels

_MAX_GRAM_BYTES = 256e6
_ANDERSON_MEMORY = 6
_RESIDUAL_EPOCHS = 200
_PRODUCTS_PER_CALL = 1e8
"""Multiplications, about 0.1 s, after which a kernel lets Python look at signals."""

_PESSIMISM = 10.0
"""By how much the size of the last epoch's changes overestimates the gap that is left."""

_LONGEST_STEP = 2.5
"""Ratio of successive penalty strengths beyond which intermediate ones are solved loosely."""

_WIDEST = 1.4
"""Ratio beyond which the strong rule would keep too much to be worth checking by itself."""

_SHARE = 0.99
"""Correlations provably below this share of what a zero bears are not recomputed."""

_PATIENCE = 6
"""Working sets after which progress counts as slow."""

_FACE_STEPS = 100

_SINGULAR = 1e-11
"""Ratio of pivots below which a Gram matrix is regularised before it is solved."""

_SMALLEST = 1e-17
"""Tolerance, in units of ``||y||^2``, below which rounding prevents any progress."""

_LOOSE = 1e-3
"""Gap of the intermediate solutions, in units of ``||y||^2``."""


@dataclass
class Solution:
    """What a solve leaves besides the coefficients.

    Attributes
    ----------
    primal : float
        Objective in units of ``||y - X w||^2 / 2 + p(w)``.
    gap : float
        Upper bound on the duality gap over all features, in the same units; it
        includes ``rounding``.
    rounding : float
        Bound on the rounding error of ``primal``, zero unless only cross products
        are known.
    n_iter : int
        Working sets solved.
    converged : bool
        Whether ``gap`` is within the tolerance.
    stopped : bool
        Whether the caller's ``progress`` asked to stop.
    """

    primal: float
    gap: float
    rounding: float
    n_iter: int = 0
    converged: bool = False
    stopped: bool = False


def solve_in_steps(solve_one, ratio, loose, tol, max_iter):
    """Solve at a wanted strength, and before that loosely at stronger ones where it is far off.

    Parameters
    ----------
    solve_one : callable
        ``solve_one(factor, step, tol, max_iter)`` solves at ``factor`` times the wanted
        strength, knowing that the last one was about ``step`` times as strong.
    ratio : callable
        Returns the largest correlation in units of what a zero bears at the wanted strength.
    loose : float
        Gap of the intermediate solutions.
    tol : float
        Gap of the wanted one.
    max_iter : int
        Largest number of iterations in all.

    Returns
    -------
    Solution
    """
    now = ratio()
    n_iter, stopped = 0, False
    while now > _LONGEST_STEP and n_iter < max_iter and not stopped:
        factor = 0.5 * now
        passed = solve_one(factor, 2.0, max(tol, loose), max_iter - n_iter)
        n_iter += passed.n_iter
        stopped = passed.stopped
        # A gap within the loose tolerance from the start leaves the correlations as they are.
        now = min(factor, ratio())
    solution = solve_one(1.0, max(now, 1.0), tol, 0 if stopped else max_iter - n_iter)
    solution.n_iter += n_iter
    solution.stopped |= stopped
    return solution


class WorkingSetSolver:
    """Solve a sequence of penalised least-squares problems on one design.

    Parameters
    ----------
    design : DenseDesign, SparseDesign or GramDesign
        The data; its residual is maintained by the solver.
    w : ndarray of shape (n_features,) or None
        Coefficients to start from.

    Attributes
    ----------
    w : ndarray of shape (n_features,)
        The present coefficients.
    """

    def __init__(self, design, w=None):
        p = design.n_features
        self.design = design
        self._cols = np.empty(0, dtype=np.int64)
        self._m = 0
        self._member = np.zeros(p, dtype=bool)
        self._w = self._q = self._q0 = self._gap_price = np.empty(0)
        self._G = np.empty((0, 0))
        self._gram = True
        self._support = np.empty(0, dtype=np.int64)
        self._history = np.empty((_ANDERSON_MEMORY + 1, 0))
        self._normal = np.empty((_ANDERSON_MEMORY - 1, _ANDERSON_MEMORY))
        self._last_factor: tuple = (None, None, None, None)
        self._free = self._free_positions = np.empty(0, dtype=np.int64)
        self._free_solver = None
        self._any_unpenalised = False
        self._c = np.empty(p)
        self._live = np.empty(p, dtype=np.int64)
        self._found = np.empty(p, dtype=np.int64)
        self._excess = np.empty(p)
        self._live_dots = np.empty(p)
        self._exact = np.arange(p)
        if w is not None and np.any(w):
            start = np.flatnonzero(w)
            self._reserve(start.size)
            self._append(start)
            self._w[: start.size] = w[start]
        design.set_coefficients(self._cols, self._w, self._m)
        self._restore_correlations()
        design.correlate(self._c)

    @property
    def w(self):
        """The present coefficients, shape (n_features,)."""
        w = np.zeros(self.design.n_features)
        w[self._cols[: self._m]] = self._w[: self._m]
        return w

    def support(self):
        """Indices of the nonzero coefficients, ascending, and their values."""
        w = self._w[: self._m]
        positions = np.flatnonzero(w)
        features = self._cols[positions]
        order = np.argsort(features)
        return features[order], w[positions[order]]

    def solve(self, code, params, tol, max_iter, progress=None):
        """Minimise with one penalty, from where the previous call ended.

        Parameters
        ----------
        code : int
            The penalty's family (:mod:`sparsestat.penalties._codes`).
        params : ndarray of shape (n_rows, n_features)
            Its parameters per feature.  Which features are penalised at all must not
            change from call to call.
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
        self._admit_always_active(code, params)

        def solve_one(factor, ratio, tol, max_iter):
            stronger = params if factor == 1.0 else scaled(code, params, factor)
            return self._solve_one(code, stronger, ratio, tol, max_iter, progress)

        def ratio():
            return _kernels.largest_ratio(code, params, self._c, self.design.norms, self._exact)

        return solve_in_steps(solve_one, ratio, _LOOSE * self.design.yy, tol, max_iter)

    def _solve_one(self, code, params, ratio, tol, max_iter, progress):
        """Minimise, knowing that the last penalty was about ``ratio`` times as strong."""
        self._compact(code, params, ratio)
        n_live = _kernels.strong_set(
            code, params, self._c, self._member, min(ratio, _WIDEST), self._live
        )
        inner_tol = 0.3 * tol
        solution = None
        stopped = False
        n_iter = 0
        while n_iter < max_iter and not stopped:
            n_iter += 1
            solution = None
            settled = self._improve(code, params, inner_tol, n_iter)
            self._set_residual()
            stopped = progress is not None and bool(progress())
            self.design.dots(self._live, n_live, self._live_dots)
            if self._admit(code, params, self._live_dots, self._live, n_live):
                continue
            if not settled:
                self._restore_correlations()
                continue
            self._exact = exact = self.design.refresh(code, params, self._c, _SHARE)
            solution = self._certify(code, params)
            if solution.gap <= tol:
                break
            if not self._admit(code, params, self._c[exact], exact, exact.size):
                self._restore_correlations()
                inner_tol *= 0.1
                if inner_tol < _SMALLEST * self.design.yy:
                    break
        if solution is None:
            self._exact = self.design.refresh(code, params, self._c, _SHARE)
            solution = self._certify(code, params)
        solution.n_iter = n_iter
        solution.converged = solution.gap <= tol
        solution.stopped = stopped
        return solution

    def _certify(self, code, params):
        """Objective and duality gap of the present coefficients, over all features."""
        design = self.design
        rr, yr = design.squares()
        rounding = design.rounding()
        primal = 0.5 * rr + _kernels.penalty_value(code, params, self._cols, self._w, self._m)
        # All other correlations are below _SHARE times what a zero bears: they limit no
        # scale up to 1 / _SHARE, and their conjugates vanish.
        exact = self._exact
        bound = _kernels.dual_bound(
            code, params, exact, self._c[exact], exact.size, yr, rr, 1.0 / _SHARE
        )
        gap = max(primal - bound, 0.0) + rounding
        if self._any_unpenalised:
            gap += _kernels.total_slack(
                code, params, self.w, self._c, design.norms, np.sqrt(design.yy)
            )
        return Solution(primal, gap, rounding)

    def _set_residual(self):
        """Compute the residual, orthogonal to the columns without penalty."""
        design = self.design
        design.set_coefficients(self._cols, self._w, self._m)
        if self._free.size:
            change = self._free_solver()
            self._w[self._free_positions] += change
            design.set_coefficients(self._cols, self._w, self._m)
            self._restore_correlations()

    # --- the working set ---------------------------------------------------------------

    def _admit_always_active(self, code, params):
        """Take the features that no penalty holds at zero, before the first solve."""
        if self._free_solver is not None:
            return
        count, free = _kernels.always_active(code, params, self.design.norms, self._found)
        features = self._found[:count].copy()
        self._free = features[:free]
        self._any_unpenalised = count > 0
        self._append(features[~self._member[features]])
        self._locate_free()
        self._free_solver = self.design.least_squares(self._free) if free else lambda: None

    def _locate_free(self):
        """Find the features without penalty in the working set."""
        places = np.argsort(self._cols[: self._m])
        order = np.searchsorted(self._cols[: self._m], self._free, sorter=places)
        self._free_positions = places[order]

    def _admit(self, code, params, correlations, features, count):
        """Take the features that violate optimality most; return how many."""
        found = _kernels.violators(
            code, params, correlations, features, count, self._member, self._found, self._excess
        )
        if not found:
            return 0
        limit = max(20, self._m)
        chosen = self._found[:found]
        if found > limit:
            chosen = chosen[np.argpartition(self._excess[:found], found - limit)[-limit:]]
        self._append(np.sort(chosen))
        return chosen.size

    def _reserve(self, size):
        if self._cols.size >= size:
            return
        capacity = min(max(64, 2 * size), self.design.n_features)
        m = self._m
        for name in ("_cols", "_w", "_q", "_q0", "_gap_price", "_support"):
            old = getattr(self, name)
            new = np.zeros(capacity, dtype=old.dtype)
            new[:m] = old[:m]
            setattr(self, name, new)
        self._history = np.empty((_ANDERSON_MEMORY + 1, capacity))
        if self._gram:
            G = np.zeros((capacity, capacity))
            G[:m, :m] = self._G[:m, :m]
            self._G = G

    def _append(self, new):
        m, total = self._m, self._m + new.size
        self._reserve(total)
        if self._gram and not self._gram_pays(total):
            self._gram = False
            self._G = np.empty((0, 0))
            self.design.release()
        if self._gram:
            block = self.design.gram_block(self._cols, m, new)
            self._G[:total, m:total] = block
            self._G[m:total, :m] = block[:m].T
            self._q0[m:total] = self.design.response_dots(new)
            self._q[m:total] = self._q0[m:total] - block[:m].T @ self._w[:m]
        self._cols[m:total] = new
        self._w[m:total] = 0.0
        self._member[new] = True
        self._m = total

    def _gram_pays(self, size):
        if self.design.gram_only:
            return True
        nonzero = np.count_nonzero(self._w[: self._m])
        return nonzero < self.design.gram_limit and size**2 * 8 <= _MAX_GRAM_BYTES

    def _restore_correlations(self):
        """Remove the rounding errors that updates have gathered in q."""
        if self._gram and self._m:
            self.design.dots(self._cols, self._m, self._q)

    def _compact(self, code, params, largest):
        """Drop zeros that the strong rule would not keep, once they are many."""
        m = self._m
        w = self._w[:m]
        zeros = m - np.count_nonzero(w)
        if zeros <= max(50, 0.5 * (m - zeros)):
            return
        keep = _kernels.worth_keeping(
            code, params, self._c, self._cols, self._w, m, largest, self._support
        )
        positions = self._support[:keep].copy()
        dropped = np.ones(m, dtype=bool)
        dropped[positions] = False
        self._member[self._cols[:m][dropped]] = False
        self.design.keep(self._cols, positions)
        for name in ("_cols", "_w", "_q", "_q0"):
            array = getattr(self, name)
            array[:keep] = array[positions]
        if self._gram:
            self._G[:keep, :keep] = self._G[np.ix_(positions, positions)]
        self._m = keep
        self._locate_free()

    # --- solving on it -----------------------------------------------------------------

    def _improve(self, code, params, tol, n_iter):
        """Come nearer to the solution on the working set; tell whether its gap is within tol."""
        if self._m == 0:
            return True
        if not self._gram:
            return self._solve_residual(code, params, tol)
        if n_iter == 1:
            # The support of the last penalty, before anything joins it.
            self._newton(code, params)
            return self._working_gap(code, params) <= tol
        size = np.count_nonzero(self._w[: self._m])
        epochs = _affordable(max(4, size // 25), size * self._m)
        _kernels.cd_gram(
            code, params, self._cols, self._G, self._q, self._w, self._m,
            self._prices(code, params), self._support, epochs, tol,
        )  # fmt: skip
        if self._working_gap(code, params) <= tol:
            return True
        # Where progress is slow, every face is solved to its end before coordinates may join,
        # so that the objective passes through the minima of finitely many faces.
        for _ in range(1 if n_iter <= _PATIENCE else _FACE_STEPS):
            if self._newton(code, params) == 0:
                break
        return self._working_gap(code, params) <= tol

    def _prices(self, code, params):
        _kernels.gap_prices(
            code,
            params,
            self._cols,
            self._w,
            self._m,
            self.design.norms,
            np.sqrt(self.design.yy),
            self._gap_price,
        )
        return self._gap_price

    def _working_gap(self, code, params):
        return _kernels.gram_gap(
            code, params, self._cols, self._G, self._q0, self._q, self._w, self._m, self.design.yy
        )

    def _newton(self, code, params):
        """One Newton step on the piece where no coefficient changes its sign.

        Returns the number of coefficients at which the piece ended.
        """
        support = np.flatnonzero(self._w[: self._m])
        size = support.size
        if size == 0:
            return 0
        rhs = np.empty(size)
        bend = np.empty(size)
        _kernels.newton_gradient(
            code, params, self._cols, self._q, self._w, support, size, rhs, bend
        )
        factor, scale = self._factor(self._cols[support], support, bend)
        if factor is None:
            return 0
        direction, _ = dpotrs(factor, scale * rhs, lower=1)
        direction *= scale
        return _kernels.newton_step(
            code, params, self._cols, self._G, self._q, self._w, self._m, support, size,
            direction, rhs,
        )  # fmt: skip

    def _factor(self, features, support, bend):
        """Cholesky factor of the support's scaled Gram matrix plus curvature, and the scale.

        The last ones are kept.
        """
        known, known_bend, factor, scale = self._last_factor
        if np.array_equal(known, features) and np.array_equal(known_bend, bend):
            return factor, scale
        scale = np.empty(support.size)
        H = np.empty((support.size, support.size), order="F")
        for jitter in (0.0, 1e-10, 1e-6):
            _kernels.gather_lower(self._G, support, support.size, bend, jitter, H, scale)
            factor, info = dpotrf(H, lower=1, clean=0, overwrite_a=1)
            pivots = np.diagonal(factor) ** 2
            if info == 0 and pivots.min() > _SINGULAR * pivots.max():
                self._last_factor = features, bend, factor, scale
                return factor, scale
        return None, None

    def _solve_residual(self, code, params, tol):
        design = self.design
        epochs = _affordable(_RESIDUAL_EPOCHS, self._m * design.entries_per_column)
        _, done = _kernels.cd_residual(
            code, params, self._cols, self._w, self._m, *design.columns,
            design.roots, design.total_weight, design.norms, design.residual, design.scratch,
            self._history, self._normal, self._prices(code, params), self._support,
            epochs, _PESSIMISM * tol,
        )  # fmt: skip
        return done


def _affordable(wanted, products):
    """Number of epochs of so many products after which a kernel returns to Python."""
    return int(min(wanted, max(2, _PRODUCTS_PER_CALL // max(products, 1))))
