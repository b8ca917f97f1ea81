"""The documented objective, its optimality conditions and a dual bound, from scratch in float64."""

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.linalg import orth
from scipy.optimize import nnls


class Witness(NamedTuple):
    """What can be said about coefficients without looking at the solver.

    Attributes
    ----------
    objective : float
        The documented objective.
    gap : float
        Its distance to a lower bound of the optimum, from a feasible dual point.
    null : float
        The objective of zero coefficients.
    steps : ndarray of shape (n_features,)
        By how much each coefficient would move if it alone were optimised.
    curvatures : ndarray of shape (n_features,)
        Second derivatives of the loss along each coefficient.
    rounding : float
        What objectives may be off by in float64.
    """

    objective: float
    gap: float
    null: float
    steps: np.ndarray
    curvatures: np.ndarray
    rounding: float

    def assert_optimal(self, dual_gap, tol=1e-6):
        """The reported gap is small enough, a bound, and explains every violation.

        The objective along one coefficient is strongly convex, so that moving it by d to
        its optimum lowers the objective by at least curvature * d^2 / 2 <= gap.
        """
        rounding = self.rounding
        assert -rounding <= dual_gap <= tol * self.null * (1 + 1e-9) + rounding
        decrease = 0.5 * self.curvatures * self.steps**2
        assert np.all(decrease <= dual_gap * (1 + 1e-6) + rounding)
        assert self.gap >= -rounding
        # Another dual point may be better or worse, but not by orders of magnitude.
        assert self.gap <= 20 * tol * self.null + 10 * rounding


def witness(
    X,
    y,
    coef,
    alpha,
    *,
    intercept=None,
    l1_ratio=1.0,
    penalty_factor=None,
    positive=False,
    sample_weight=None,
    fit_intercept=True,
):
    """Judge coefficients; the intercept is optimised unless it is given."""
    X = np.asarray(X.toarray() if sparse.issparse(X) else X, dtype=np.float64)
    y = np.asarray(y, dtype=np.float64)
    coef = np.asarray(coef, dtype=np.float64).ravel()
    n, p = X.shape
    w = np.ones(n) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    total = w.sum()
    s = np.ones(p) if penalty_factor is None else np.asarray(penalty_factor, dtype=np.float64)
    positive = np.broadcast_to(positive, p)
    shift, largest = 0.0, np.abs(y).max()
    if fit_intercept:
        x_mean, y_mean = w @ X / total, w @ y / total
        if intercept is not None:
            shift = y_mean - x_mean @ coef - intercept
        X, y = X - x_mean, y - y_mean
    elif intercept is not None:
        assert intercept == 0.0
    X, y = np.sqrt(w)[:, None] * X / np.sqrt(total), np.sqrt(w) * y / np.sqrt(total)
    l1, l2 = alpha * l1_ratio * s, alpha * (1 - l1_ratio) * s
    residual = y - X @ coef
    penalty = l1 @ np.abs(coef) + 0.5 * l2 @ coef**2
    objective = 0.5 * residual @ residual + 0.5 * shift**2 + penalty
    curvatures = np.einsum("ij,ij->j", X, X)
    safe = np.where(curvatures > 0, curvatures, 1.0)
    best = coef + X.T @ residual / safe
    best = np.sign(best) * np.maximum(np.abs(best) - l1 / safe, 0.0) / (1 + l2 / safe)
    best = np.where(positive, np.maximum(best, 0.0), best)
    assert np.all(coef[positive] >= 0)
    bound = _dual_value(X, y, residual, coef, l1, l2, positive)
    steps = np.where(curvatures > 0, best - coef, 0.0)
    null = 0.5 * y @ y
    rounding = 1e-13 * null + (1e-15 * largest) ** 2
    return Witness(objective, objective - bound, null, steps, curvatures, rounding)


def _dual_value(X, y, residual, coef, l1, l2, positive):
    """Value of a feasible point near the residual.

    Its correlations with features without penalty must vanish, or must not be positive
    where the coefficient must not be negative; the residual is projected accordingly.
    """
    free = (l1 == 0) & (l2 == 0)
    if free.any():
        basis = orth(X[:, free & ~positive])
        cone = X[:, free & positive]
        cone = cone - basis @ (basis.T @ cone)
        residual = residual - basis @ (basis.T @ residual)
        if cone.size:
            residual = residual - cone @ nnls(cone, residual, maxiter=100 * X.shape[1])[0]
    values = [0.0]
    # The elastic net is a lasso with the extra rows sqrt(l2_j) e_j.
    extra = -np.sqrt(l2) * coef
    reach = X.T @ residual + np.sqrt(l2) * extra
    reach = np.where(positive, np.maximum(reach, 0.0), np.abs(reach))
    square = residual @ residual + extra @ extra
    bars, reach = l1[~free], reach[~free]
    if np.all(bars[reach > 0] > 0) and square > 0:
        limit = np.min(bars[reach > 0] / reach[reach > 0], initial=np.inf)
        for t in (min(1.0, limit), min(max(y @ residual / square, 0.0), limit)):
            values.append(t * (y @ residual) - 0.5 * t**2 * square)
    # The conjugate of a penalty with a square is finite everywhere.
    if np.all(l2[~free] > 0):
        over = X.T @ residual
        over = np.where(positive, over, np.abs(over))[~free] - bars
        values.append(
            y @ residual
            - 0.5 * residual @ residual
            - np.sum(np.maximum(over, 0.0) ** 2 / (2 * l2[~free]))
        )
    return max(values)


def largest_alpha(X, y, *, l1_ratio=1.0, sample_weight=None, fit_intercept=True):
    """Smallest strength at which all coefficients are zero, equal factors."""
    X = np.asarray(X, dtype=np.float64)
    w = np.ones(len(X)) if sample_weight is None else sample_weight
    if fit_intercept:
        X, y = X - w @ X / w.sum(), y - w @ y / w.sum()
    return np.max(np.abs(X.T @ (w * y))) / w.sum() / l1_ratio


def make_data(n, p, seed=0, *, rank=None, shift=1.0, correlation=0.5, n_informative=5):
    """Correlated columns away from the origin and a sparse signal."""
    rng = np.random.default_rng(seed)
    if rank is None:
        X = rng.standard_normal((n, p)) + correlation * rng.standard_normal((n, 1))
    else:
        X = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, p))
    X += shift * rng.standard_normal(p)
    coef = np.zeros(p)
    coef[: min(n_informative, p)] = rng.standard_normal(min(n_informative, p)) * 2
    return X, X @ coef + rng.standard_normal(n) + 3.0
