"""Proximal Newton solver for logistic and multinomial regression with an l1 penalty.

Minimises ``sum_i w_i loss_i(eta_i) + sum_jk thresholds_j |B_jk|`` with scores
``eta = X B + intercept``.  A Newton step replaces the loss in one column of scores by its
quadratic expansion; that is a lasso with weights, which the working-set solver solves.

With residuals ``R_ik = w_i (Y_ik - P_ik)`` and any scale t in [0, 1], the matrix
``Theta = t R`` gives the dual value ``-sum_i w_i H(Y_i - Theta_i / w_i)``, where H(q) is
the sum of q log q over the probabilities: it bounds the minimum from below if
``|X_j'Theta_k| <= thresholds_j`` everywhere and, with an intercept, the columns of Theta sum
to zero.
"""

from dataclasses import replace

import numpy as np
from scipy import sparse
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.special import expit, softmax, xlogy

from sparsestat.penalties._codes import ELASTIC_NET
from sparsestat.solvers._working_set import Solution, WorkingSetSolver, solve_in_steps

_FREE_TOL = 1e-12
"""Relative gap of the fit of features without a penalty, where the others are all zero."""

_LONGEST_MOVE = 1e3
"""By how much a Newton step may want to move a score: beyond, the loss is not quadratic."""

_SMALLEST_CURVATURE = 1e-12
"""Curvature of the loss, relative to the weight, of rows that are explained perfectly."""

_LOOSE = 1e-3
"""Gap of the intermediate solutions relative to the loss of the best constant scores."""

_WIDEST = 1.4
"""Ratio of strengths up to which the sequential strong rule keeps few features."""

_FACE_STEPS = 5
_DIRECT = 1500
"""Coefficients up to which a Newton system for all classes is factorised."""

_FLAT = 1e-14
"""Changes of the objective, relative to the loss of constant scores, that are rounding."""

_POLISH = 1e-4
"""Gap from which the last digits are found, in units of the one that was asked for."""

_HALVINGS = 30
_INNER_ITERATIONS = 1000
_INTERCEPT_STEPS = 50


class LogisticSolver:
    """Solve a sequence of penalised logistic regressions on one design.

    Parameters
    ----------
    X : ndarray in Fortran order or CSC array of shape (n_samples, n_features), float64
        The design; centred if it is dense and there is an intercept.
    Y : ndarray of shape (n_samples, n_columns)
        Indicators of the classes: one column for two classes, else one for each class.
    weights : ndarray of shape (n_samples,)
        Positive weights.
    fit_intercept : bool
        Whether scores contain a constant.
    coef : ndarray of shape (n_features, n_columns) or None, default=None
        Where to start.

    Attributes
    ----------
    coef : ndarray of shape (n_features, n_columns)
        The present coefficients B.
    intercept : ndarray of shape (n_columns,)
        The present constants.
    null_loss : float
        Loss of the best constant scores.
    """

    def __init__(self, X, Y, weights, *, fit_intercept, coef=None):
        self.X, self.Y, self.weights = X, Y, weights
        self.n_features, self.n_columns = X.shape[1], Y.shape[1]
        self._sparse = sparse.issparse(X)
        self._transposed = X.T if not self._sparse else sparse.csr_array(X.T)
        self.fit_intercept = fit_intercept
        self._signs = 1.0 - 2.0 * Y[:, 0]
        self.intercept = np.zeros(self.n_columns)
        self._linear = np.zeros_like(Y)
        self._centre_scores()
        self.null_loss = self.loss()
        self.coef = np.zeros((self.n_features, self.n_columns))
        if coef is not None and np.any(coef):
            self.coef[:] = coef
            self._linear = np.ascontiguousarray(X @ coef)
            self._centre_scores()
            if not self.loss() < np.inf:
                self.coef[:], self._linear = 0.0, np.zeros_like(Y)
                self._centre_scores()
        self._norms = self._column_norms()
        self._now = None
        self._cached = (None, None)

    def _column_norms(self):
        if self._sparse:
            return np.sqrt(self.X.multiply(self.X).sum(axis=0))
        return np.sqrt(np.einsum("ij,ij->j", self.X, self.X))

    # --- the loss ----------------------------------------------------------------------

    # Rows that are explained well contribute little, which no difference of large numbers must
    # swallow: the loss, the residuals and the dual value are computed from the probability of
    # all classes but the right one.

    def loss(self, linear=None, intercept=None):
        """Loss at given scores, by default the present ones."""
        eta = (self._linear if linear is None else linear) + (
            self.intercept if intercept is None else intercept
        )
        if self.n_columns == 1:
            return float(self.weights @ np.logaddexp(0.0, self._signs * eta[:, 0]))
        ahead = eta - np.einsum("ij,ij->i", self.Y, eta)[:, None]
        top = ahead.max(axis=1)
        others = np.einsum("ij,ij->i", np.exp(ahead - top[:, None]), 1.0 - self.Y)
        behind = top + np.log(np.exp(-top) + others)
        return float(self.weights @ np.where(top > 0.0, behind, np.log1p(others)))

    def probabilities(self):
        """Probabilities of the classes, shape (n_samples, n_columns)."""
        eta = self._linear + self.intercept
        return expit(eta) if self.n_columns == 1 else softmax(eta, axis=1)

    def _misfit(self):
        """Indicators of the classes minus their probabilities."""
        if self.n_columns == 1:
            eta = (self._linear + self.intercept)[:, 0]
            return (-self._signs * expit(self._signs * eta))[:, None]
        P = self.probabilities()
        return np.where(self.Y > 0.0, _rest(P), -P)

    def objective(self, thresholds):
        """Loss and penalty of the present coefficients."""
        return self.loss() + float(thresholds @ np.abs(self.coef).sum(axis=1))

    def _centre_scores(self):
        """Find the best constants for the present linear part, by Newton's method."""
        if not self.fit_intercept:
            return
        best = self.loss()
        total = self.weights.sum()
        for _ in range(_INTERCEPT_STEPS):
            misfit = self._misfit()
            gradient = self.weights @ misfit
            if np.abs(gradient).max() <= 1e-15 * total:
                break
            step = self._intercept_step(misfit, gradient)
            step = np.clip(step, -5.0, 5.0)
            for _ in range(_HALVINGS):
                value = self.loss(intercept=self.intercept + step)
                if value <= best + _FLAT * abs(best):
                    break
                step *= 0.5
            else:
                break
            self.intercept = self.intercept + step
            if np.abs(step).max() <= 1e-15:
                break
            best = value

    def _intercept_step(self, misfit, gradient):
        """Newton step of the constants."""
        if self.n_columns == 1:
            far = np.abs(misfit[:, 0])
            return gradient / max(self.weights @ (far * (1.0 - far)), np.finfo(float).tiny)
        P = self.probabilities()
        # Rows of second derivatives sum to zero; on the diagonal itself digits would cancel.
        H = -(P * self.weights[:, None]).T @ P
        np.fill_diagonal(H, 0.0)
        np.fill_diagonal(H, -H.sum(axis=1))
        scale = max(float(np.trace(H)), np.finfo(float).tiny) / self.n_columns
        # A number added to all constants changes nothing; a step makes their sum zero.
        try:
            step = np.linalg.solve(H + scale, gradient)
        except np.linalg.LinAlgError:
            step = gradient / scale
        return step - step.mean()

    # --- correlations ------------------------------------------------------------------

    def _residual(self):
        R = self._misfit() * self.weights[:, None]
        if self.fit_intercept:
            # What rounding leaves would be magnified by columns far from zero.
            R -= self.weights[:, None] * (R.sum(axis=0) / self.weights.sum())
        return R

    def correlations(self, features=None):
        """Products of columns with the residuals, shape (n_features, n_columns)."""
        rows = self._transposed if features is None else self._columns(features)
        return rows @ self._residual()

    def _columns(self, features):
        """Columns of X, as rows; those asked for last are kept."""
        known, rows = self._cached
        if known is None or not np.array_equal(known, features):
            rows = self._transposed[features]
            self._cached = features, rows
        return rows

    def ratio(self, correlations, thresholds):
        """Largest correlation of a penalised column in units of its threshold."""
        bars = (thresholds > 0.0) & (self._norms > 0.0)
        return float(np.max(np.abs(correlations[bars]) / thresholds[bars, None], initial=0.0))

    def alpha_max(self, factors, tol, max_iter):
        """Smallest multiple of ``factors`` at which all penalised coefficients are zero."""
        if np.any(factors == 0.0) and not np.any(self.coef):
            # No residual exceeds the weight of its row, whatever the free features explain.
            reach = np.asarray(abs(self.X).T @ self.weights).ravel()[:, None]
            above = 2.0 * self.ratio(reach, factors)
            self.solve(above * factors, min(tol, _FREE_TOL * self.null_loss), max_iter)
        return self.ratio(self.correlations(), factors)

    # --- solving -----------------------------------------------------------------------

    def solve(self, thresholds, tol, max_iter, progress=None):
        """Minimise for one vector of thresholds, from where the previous call ended.

        Parameters
        ----------
        thresholds : ndarray of shape (n_features,)
            Strengths, zero for columns without a penalty.
        tol : float
            Largest duality gap, in units of the objective.
        max_iter : int
            Largest number of Newton steps.
        progress : callable or None
            Called without arguments after every Newton step; a true result ends the solve.

        Returns
        -------
        Solution
        """
        self._now = self.correlations()

        def solve_one(factor, ratio, tol, max_iter):
            return self._solve_one(factor * thresholds, ratio, tol, max_iter, progress)

        return solve_in_steps(
            solve_one,
            lambda: self.ratio(self._now, thresholds),
            _LOOSE * self.null_loss,
            tol,
            max_iter,
        )

    def polish(self, thresholds, solution, tol):
        """Take a solution to the last digits by Newton steps on its support.

        Parameters
        ----------
        thresholds : ndarray of shape (n_features,)
            Strengths, as in :meth:`solve`.
        solution : Solution
            What :meth:`solve` returned.
        tol : float
            The gap that was asked for there.

        Returns
        -------
        Solution
            The same steps, and a gap that is no larger.
        """
        before = self.coef.copy(), self._linear, self.intercept
        # A smaller gap finds the support first, which these steps do not change.
        self.solve(thresholds, _POLISH * tol, _FACE_STEPS)
        for _ in range(_FACE_STEPS):
            # The objective has no digits left that tell the better of two near solutions.
            self._face_step(thresholds, slack=_FLAT * self.null_loss)
        self._centre_scores()
        better = self._gap(self.correlations(), thresholds)
        if better.gap > solution.gap:
            self.coef, self._linear, self.intercept = before
            return solution
        return replace(solution, primal=better.primal, gap=better.gap)

    def _solve_one(self, thresholds, ratio, tol, max_iter, progress):
        """Minimise, knowing that the last penalty was about ``ratio`` times as strong."""
        n_iter, stopped = 0, False
        correlations = self._now
        working = self._strong_set(correlations, thresholds, min(ratio, _WIDEST))
        solution = None
        while n_iter < max_iter and not stopped:
            # The working set is solved first, then checked against all columns.
            inside = correlations[working]
            gap = self._gap(inside, thresholds, working).gap
            while gap > 0.5 * tol and n_iter < max_iter and not stopped:
                before = self.objective(thresholds), gap
                self._newton_step(working, thresholds, max(0.03 * gap, 0.1 * tol))
                n_iter += 1
                stopped = progress is not None and bool(progress())
                inside = self.correlations(working)
                gap = self._gap(inside, thresholds, working).gap
                progressed = before[0] - self.objective(thresholds) > _FLAT * self.null_loss
                if not progressed and gap > 0.5 * before[1]:
                    break
            correlations = self.correlations()
            solution = self._gap(correlations, thresholds)
            if solution.gap <= tol:
                break
            outside = np.abs(correlations).max(axis=1) > thresholds
            outside[working] = False
            outside[self._norms == 0.0] = False
            if not np.any(outside) and gap > 0.5 * tol:
                break
            working = np.union1d(working, np.flatnonzero(outside))
        if solution is None:
            solution = self._gap(correlations, thresholds)
        solution.n_iter = n_iter
        solution.converged = solution.gap <= tol
        solution.stopped = stopped
        self._now = correlations
        return solution

    def _strong_set(self, correlations, thresholds, ratio):
        kept = np.abs(correlations).max(axis=1) >= (2.0 - ratio) * thresholds
        kept |= np.any(self.coef != 0.0, axis=1)
        return np.flatnonzero(kept & (self._norms > 0.0))

    def _newton_step(self, working, thresholds, tol):
        """Minimise the quadratic expansion in each column of scores in turn, and go there."""
        for k in range(self.n_columns):
            self._improve_column(k, working, thresholds, tol)
        if self.n_columns > 1:
            # One column after another converges slowly where classes compete.
            for _ in range(_FACE_STEPS):
                if not self._face_step(thresholds):
                    break
        self._centre_scores()

    def _improve_column(self, k, working, thresholds, tol):
        misfit = self._misfit()[:, k]
        far = np.abs(misfit)
        r = self.weights * misfit
        least = np.maximum(far / _LONGEST_MOVE, _SMALLEST_CURVATURE)
        v = self.weights * np.maximum(far * (1.0 - far), least)
        rows = self._columns(working)
        start = self.coef[working, k]
        params = np.zeros((3, working.size))
        params[0] = thresholds[working]
        target = self._linear[:, k] + r / v
        design, means, target_mean = _weighted_design(rows, target, v, self.fit_intercept)
        inner = WorkingSetSolver(design, start)
        inner.solve(ELASTIC_NET, params, tol, _INNER_ITERATIONS)
        change = inner.w - start
        moved = np.flatnonzero(change)
        step = rows[moved].T @ change[moved]
        constant = 0.0
        if self.fit_intercept:
            constant = float(target_mean - means @ inner.w)
        self._line_search(k, working, thresholds, start, change, step, constant)

    def _line_search(self, k, working, thresholds, start, change, step, constant):
        """Go as far as the objective falls."""
        bars = thresholds[working]
        others = np.arange(self.n_columns) != k
        rest = float(thresholds @ np.abs(self.coef[:, others]).sum(axis=1))
        # The gap may be far from closed where the objective has no digits left that tell.
        before = self.loss() + rest + float(bars @ np.abs(start)) + _FLAT * self.null_loss
        length = 1.0
        for _ in range(_HALVINGS):
            linear = self._linear.copy()
            linear[:, k] += length * step
            intercept = self.intercept.copy()
            intercept[k] += length * constant
            coef = start + length * change
            value = self.loss(linear, intercept) + rest + float(bars @ np.abs(coef))
            if value <= before:
                self.coef[working, k] = coef
                self._linear, self.intercept = linear, intercept
                return
            length *= 0.5

    def _face_step(self, thresholds, slack=0.0):
        """One Newton step on all coefficients that are not zero; whether a sign changed.

        A coefficient that would change its sign becomes zero.
        """
        classes, features = np.nonzero(self.coef.T)
        if not 0 < features.size <= _DIRECT:
            return False
        P = self.probabilities()
        R = self._misfit() * self.weights[:, None]
        blocks = []
        for k in range(self.n_columns):
            rows = self._dense_rows(features[classes == k])
            constants = np.ones((int(self.fit_intercept), rows.shape[1]))
            blocks.append(np.vstack([rows, constants]))
        start = self.coef[features, classes]
        price = thresholds[features] * np.sign(start)
        pull = [block @ R[:, k] for k, block in enumerate(blocks)]
        inner = [np.arange(block.shape[0]) < np.sum(classes == k) for k, block in enumerate(blocks)]
        is_coef = np.concatenate(inner)
        gradient = np.concatenate(pull)
        gradient[is_coef] -= price
        direction = _solve_posdef(_multinomial_hessian(blocks, P, self.weights), gradient)
        if direction is None:
            return False
        moves = direction[is_coef]
        constants = direction[~is_coef] if self.fit_intercept else np.zeros(self.n_columns)
        before = self.objective(thresholds) + slack
        crossing = moves * np.sign(start) < 0.0
        first = float(np.min(-start[crossing] / moves[crossing], initial=1.0))
        for length in (1.0, first, 0.5 * first):
            coef = start + length * moves
            turned = coef * start <= 0.0
            coef[turned] = 0.0
            linear = self._linear.copy()
            for k, block in enumerate(blocks):
                change = (coef - start)[classes == k]
                linear[:, k] += change @ block[: change.size]
            intercept = self.intercept + length * constants
            B = self.coef.copy()
            B[features, classes] = coef
            value = self.loss(linear, intercept) + float(thresholds @ np.abs(B).sum(axis=1))
            if value <= before:
                self.coef, self._linear, self.intercept = B, linear, intercept
                return bool(np.any(turned))
        return False

    def _dense_rows(self, features):
        rows = self._transposed[features]
        return rows.toarray() if self._sparse else rows

    def _gap(self, correlations, thresholds, features=slice(None)):
        """Objective and duality gap, over some columns or over all."""
        bars = thresholds[features]
        free = bars == 0.0
        pull = np.abs(correlations).max(axis=1, initial=0.0)
        pull[self._norms[features] == 0.0] = 0.0
        ratio = float(np.max(pull[~free] / bars[~free], initial=0.0))
        scale = 1.0 / max(ratio, 1.0)
        misfit = scale * self._misfit()
        # Of the probabilities Y - misfit one is near one: what it lacks is known exactly.
        wrong = (
            np.einsum("ij,ij->i", misfit, self.Y) if self.n_columns > 1 else np.abs(misfit[:, 0])
        )
        entropy = (1.0 - wrong) * np.log1p(-wrong)
        if self.n_columns == 1:
            entropy += xlogy(wrong, wrong)
        else:
            others = -misfit * (1.0 - self.Y)
            entropy += xlogy(others, others).sum(axis=1)
        bound = -float(self.weights @ entropy)
        primal = self.objective(thresholds)
        slack = 0.0
        if np.any(free):
            # Columns without a penalty ask for a product of zero; what is left counts with the
            # size of their coefficients, of which more than twice the present is not expected.
            norms = np.maximum(self._norms[features][free], np.finfo(float).tiny)
            size = 2.0 * np.abs(self.coef[features][free]).max(axis=1) + (
                np.sqrt(self.weights.sum()) / norms
            )
            slack = scale * float(size @ np.abs(correlations[free]).sum(axis=1))
        return Solution(primal, max(primal - bound, 0.0) + slack, 0.0)


def _rest(P):
    """One minus each probability, with all digits where it is near one of several."""
    if P.shape[1] == 1:
        return 1.0 - P
    return P @ (1.0 - np.eye(P.shape[1]))


def _multinomial_hessian(blocks, P, weights):
    """Second derivatives of the loss in all columns of scores at once."""
    edges = np.cumsum([0] + [block.shape[0] for block in blocks])
    H = np.empty((edges[-1], edges[-1]))
    rest = _rest(P)
    for k, block in enumerate(blocks):
        for other in range(k + 1):
            curvature = weights * P[:, k] * (rest[:, k] if k == other else -P[:, other])
            part = (block * curvature) @ blocks[other].T
            H[edges[k] : edges[k + 1], edges[other] : edges[other + 1]] = part
            H[edges[other] : edges[other + 1], edges[k] : edges[k + 1]] = part.T
    return H


def _solve_posdef(H, rhs):
    """Solve with a Cholesky factor, regularised as far as that is needed; None if it fails."""
    scale = max(float(np.trace(H)) / H.shape[0], np.finfo(float).tiny)
    for jitter in (1e-13, 1e-10, 1e-7):
        H[np.diag_indices_from(H)] += jitter * scale
        try:
            return cho_solve(cho_factor(H, lower=True, check_finite=False), rhs)
        except LinAlgError:
            continue
    return None


def _weighted_design(rows, target, v, fit_intercept):
    """A least-squares problem with weights ``v``; its means of columns and target."""
    from sparsestat.solvers._designs import DenseDesign, SparseDesign

    roots = np.sqrt(v)
    total = v.sum()
    means, target_mean = np.zeros(rows.shape[0]), 0.0
    if fit_intercept:
        means, target_mean = rows @ v / total, float(target @ v / total)
    y = (target - target_mean) * roots
    if sparse.issparse(rows):
        data = rows.data * roots[rows.indices]
        columns = sparse.csc_array((data, rows.indices, rows.indptr), shape=rows.shape[::-1])
        design = SparseDesign(columns, y, means, roots if fit_intercept else np.zeros_like(roots))
        return design, means, target_mean
    scaled = rows - means[:, None]
    scaled *= roots
    return DenseDesign(scaled.T, y), means, target_mean
