"""Working-set solver for several targets whose coefficients share their support.

Minimises ``||Y - X B||_F^2 / 2 + sum_j thresholds_j ||B_j||`` over matrices B with
one row for each feature.  The dual of the problem is

    max_Theta <Y, Theta> - ||Theta||_F^2 / 2   subject to  ||X_j'Theta|| <= thresholds_j,

so that the residual, scaled to be feasible, gives a lower bound.
"""

import numpy as np
from scipy import sparse
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.sparse.linalg import LinearOperator, cg

from sparsestat.solvers import _kernels, _kernels_rows
from sparsestat.solvers._working_set import Solution, solve_in_steps

_EPOCHS = 5
_BURSTS = 20
_FACE_STEPS = 100
_DIRECT = 1500
"""Unknowns up to which a Newton system is factorised rather than solved by conjugate gradients."""

_PESSIMISM = 10.0


class RowSolver:
    """Solve a sequence of row-sparse least-squares problems on one design.

    Parameters
    ----------
    X : ndarray or CSC array of shape (n_samples, n_features)
        Weighted columns; centred if dense.
    Y : ndarray of shape (n_samples, n_targets)
        Centred and weighted responses.
    means : ndarray of shape (n_features,)
        Means by which a sparse X is centred implicitly, otherwise zeros.
    roots : ndarray of shape (n_samples,)
        Square roots of the weights along which a sparse X is centred, otherwise zeros.
    coef : ndarray of shape (n_features, n_targets) or None
        Where to start.
    """

    def __init__(self, X, Y, means, roots, coef=None):
        self.X, self.Y = X, Y
        self.means, self.roots = means, roots
        self.total_weight = float(roots @ roots)
        self.yy = float(np.einsum("ij,ij->", Y, Y))
        p, q = X.shape[1], Y.shape[1]
        self._sparse = sparse.issparse(X)
        self.norms = self._column_norms()
        self.coef = np.zeros((p, q)) if coef is None else np.array(coef, dtype=np.float64)
        self._cols = np.empty(0, dtype=np.int64)
        self._G = np.empty((0, 0))
        self._Q0 = np.empty((0, q))
        self._take(np.flatnonzero(np.any(self.coef != 0, axis=1)))
        self._correlate()

    def _column_norms(self):
        if not self._sparse:
            return np.sqrt(np.einsum("ij,ij->j", self.X, self.X))
        norms = np.empty(self.X.shape[1])
        _kernels.csc_norms(
            self.X.data, self.X.indices, self.X.indptr, self.means, self.roots,
            self.total_weight, norms,
        )  # fmt: skip
        return norms

    def _correlate(self):
        """Compute residual products and all correlations of the present coefficients."""
        active = np.flatnonzero(np.any(self.coef != 0, axis=1))
        B = self.coef[active]
        residual = self.Y - self.X[:, active] @ B
        if self.total_weight > 0.0:
            # Twice, since what was to be subtracted may exceed what is left by far.
            for _ in range(2):
                residual -= np.outer(self.roots, self.roots @ residual / self.total_weight)
        self.correlations = self._products(residual)
        self._rr = float(np.einsum("ij,ij->", residual, residual))
        self._yr = float(np.einsum("ij,ij->", self.Y, residual))

    def _products(self, matrix, columns=slice(None)):
        """``X'M`` of centred columns for a matrix with one row for each sample."""
        products = self.X[:, columns].T @ matrix
        if self.total_weight > 0.0:
            products = products - np.outer(self.means[columns], self.roots @ matrix)
        return products

    def _gram(self, rows, columns):
        if not self._sparse:
            return self.X[:, rows].T @ self.X[:, columns]
        # Centred explicitly, the few columns keep all their digits however far their means are.
        centred = self.X[:, columns].toarray() - np.outer(self.roots, self.means[columns])
        return self._products(centred, rows)

    def _take(self, new):
        """Extend the working set."""
        m, total = self._cols.size, self._cols.size + new.size
        cols = np.concatenate([self._cols, new])
        G = np.empty((total, total))
        G[:m, :m] = self._G
        G[:, m:] = self._gram(cols, new)
        G[m:, :m] = G[:m, m:].T
        self._Q0 = np.vstack([self._Q0, self._products(self.Y, new)])
        self._cols, self._G = cols, G

    def ratio(self, thresholds):
        """Largest norm of a row of correlations in units of its threshold."""
        strength = np.linalg.norm(self.correlations, axis=1)
        strength[self.norms == 0.0] = 0.0
        return float(np.max(strength / thresholds, initial=0.0))

    def solve(self, thresholds, tol, max_iter, progress=None):
        """Minimise for one vector of thresholds, from where the previous call ended.

        Parameters
        ----------
        thresholds : ndarray of shape (n_features,)
            Positive strengths.
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
            return self._solve_one(factor * thresholds, tol, max_iter, progress)

        return solve_in_steps(
            solve_one, lambda: self.ratio(thresholds), 1e-3 * self.yy, tol, max_iter
        )

    def objective(self, thresholds):
        """Objective of the present coefficients, for any thresholds."""
        return 0.5 * self._rr + float(thresholds @ np.linalg.norm(self.coef, axis=1))

    def _solve_one(self, thresholds, tol, max_iter, progress):
        inner_tol = 0.3 * tol
        settled = stopped = False
        n_iter = 0
        solution = self._certify(thresholds)
        while (n_iter == 0 or solution.gap > tol) and n_iter < max_iter and not stopped:
            n_iter += 1
            if not self._admit(thresholds) and settled:
                inner_tol *= 0.1
                if inner_tol < 1e-17 * self.yy:
                    break
            settled = self._improve(thresholds, inner_tol)
            self._correlate()
            stopped = progress is not None and bool(progress())
            solution = self._certify(thresholds)
        solution.n_iter = n_iter
        solution.converged = solution.gap <= tol
        solution.stopped = stopped
        return solution

    def _admit(self, thresholds):
        """Take the features that violate optimality most; return how many."""
        excess = np.linalg.norm(self.correlations, axis=1) - thresholds
        excess[self._cols] = -np.inf
        excess[self.norms == 0.0] = -np.inf
        found = np.flatnonzero(excess > 0.0)
        limit = max(20, self._cols.size)
        if found.size > limit:
            found = np.sort(found[np.argpartition(excess[found], found.size - limit)[-limit:]])
        self._take(found)
        return found.size

    def _improve(self, thresholds, tol):
        cols, G = self._cols, self._G
        m = cols.size
        B = np.ascontiguousarray(self.coef[cols])
        Q = self._Q0 - G @ B
        bars = thresholds[cols]
        row = np.empty(B.shape[1])
        support = np.empty(m, dtype=np.int64)
        done = False
        for _ in range(_BURSTS):
            price = float(bars @ np.linalg.norm(B, axis=1))
            _, done = _kernels_rows.cd_gram_rows(
                bars, G, Q, B, m, row, support, _EPOCHS, _PESSIMISM * tol, price
            )
            if done:
                break
            # Every face is solved to its end before rows may join: see WorkingSetSolver.
            for _ in range(_FACE_STEPS):
                if self._newton(B, Q, bars) == 0:
                    break
        self.coef[cols] = B
        return done

    def _newton(self, B, Q, bars):
        """One damped Newton step on the rows that are not zero; B and Q are overwritten.

        Returns the number of rows that became zero.
        """
        norms = np.linalg.norm(B, axis=1)
        rows = np.flatnonzero(norms)
        if rows.size == 0:
            return 0
        units = B[rows] / norms[rows, None]
        gradient = bars[rows, None] * units - Q[rows]
        direction = self._solve_newton(rows, units, bars[rows] / norms[rows], -gradient)
        if direction is None:
            return 0
        value = self._value(B, Q, bars)
        # The longest step on which no row turns round, for when zeroing those that do fails.
        along = np.einsum("ij,ij->i", direction, units) / norms[rows]
        first = float(np.min(-1.0 / along[along < 0.0], initial=1.0))
        for step in (1.0, first, 0.5 * first, 0.1 * first):
            trial = B.copy()
            trial[rows] += step * direction
            # A row that would turn round passes zero on its way.
            turned = rows[np.einsum("ij,ij->i", trial[rows], B[rows]) <= 0.0]
            trial[turned] = 0.0
            trial_Q = self._Q0 - self._G @ trial
            if self._value(trial, trial_Q, bars) < value:
                B[:], Q[:] = trial, trial_Q
                return turned.size
        return 0

    def _solve_newton(self, rows, units, bends, rhs):
        """Solve ``G D + bends (I - u u') D = rhs`` for the step D of the rows."""
        G = self._G[np.ix_(rows, rows)]
        size, targets = units.shape

        def apply(flat):
            D = flat.reshape(size, targets)
            along = np.einsum("ij,ij->i", units, D)[:, None] * units
            return (G @ D + bends[:, None] * (D - along)).ravel()

        unknowns = size * targets
        if unknowns > _DIRECT:
            operator = LinearOperator((unknowns, unknowns), matvec=apply, dtype=np.float64)
            flat, _ = cg(operator, rhs.ravel(), rtol=1e-4, maxiter=200)
            return flat.reshape(size, targets)
        H = np.zeros((size, targets, size, targets))
        across = np.arange(targets)
        H[:, across, :, across] = G
        each = np.arange(size)
        H[each, :, each, :] += bends[:, None, None] * (
            np.eye(targets) - units[:, :, None] * units[:, None, :]
        )
        H = H.reshape(unknowns, unknowns)
        for jitter in (1e-14, 1e-10, 1e-6):
            H[np.diag_indices(unknowns)] += jitter * np.trace(G) / size
            try:
                return cho_solve(cho_factor(H, lower=True), rhs.ravel()).reshape(size, targets)
            except LinAlgError:
                continue
        return None

    def _value(self, B, Q, bars):
        """Objective up to a constant."""
        return -0.5 * np.einsum("ij,ij->", B, self._Q0 + Q) + bars @ np.linalg.norm(B, axis=1)

    def _certify(self, thresholds):
        primal = self.objective(thresholds)
        ratio = self.ratio(thresholds)
        scale = max(self._yr / self._rr, 0.0) if self._rr > 0.0 else 0.0
        if ratio > 0.0:
            scale = min(scale, 1.0 / ratio)
        bound = scale * self._yr - 0.5 * scale**2 * self._rr
        return Solution(primal, max(primal - bound, 0.0), 0.0)
