"""Sparse coefficients from noisy moments whose noise is known; all of it post-processing."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh

from sparsestat.privacy._projections import hard_threshold, project_to_ball

# Eigenvalues below this share of the largest are raised to it.
_FLOOR = 0.05
# Columns whose mean square is below this many standard deviations of its noise are left out.
_DETECTABLE = 2.0
# Share of the penalty that hides all noise at which columns are ranked.
_PILOT_SHARE = 2.0 / 3.0


@dataclass(frozen=True)
class MomentFit:
    """What a solver made of noisy moments, in public units.

    Attributes
    ----------
    coef : ndarray of shape (n_columns,)
        The coefficients.
    support : ndarray of shape (n_columns,), bool
        Columns that were selected.
    threshold : ndarray of shape (n_columns,)
        Size below which a coefficient is taken for noise, were it the only one; infinite for
        columns that were left out.
    alpha : float
        The strength that was used; 0 if the number of features was given.
    eigenvalue_floor : float
        What eigenvalues of the solved matrix were raised to; 0 if none was.
    condition_number : float
        Of the matrix that was solved, before that; infinite if it was not positive definite.
    n_iter : int
        Number of iterations, or of features that were tried.
    converged : bool
        Whether they came to an end by themselves.
    accuracy : float
        Length of the last step over `coef_bound`; 0 if there is no iteration to converge.
    """

    coef: np.ndarray
    support: np.ndarray
    threshold: np.ndarray
    alpha: float
    eigenvalue_floor: float
    condition_number: float
    n_iter: int
    converged: bool
    accuracy: float = 0.0


def solve_moments(
    moments,
    *,
    solver="auto",
    n_nonzero=None,
    threshold="refit",
    alpha="auto",
    coef_bound=1.0,
    free=None,
    max_iter=1000,
    tol=1e-8,
):
    """Solve for sparse coefficients.

    Parameters
    ----------
    moments : NoisyMoments
        With a Gram matrix.
    solver : {"auto", "matching_pursuit", "topk_refit", "corrected_lasso", "closed_form"}
        The method; "auto" is "topk_refit" if `n_nonzero` is given, else "matching_pursuit".
    n_nonzero : int or None
        Number of features to keep; None leaves it to `alpha`.
    threshold : {"refit", "hard", "soft"}
        What "closed_form" does beyond the threshold.
    alpha : "auto" or float
        What is taken for noise: in a coefficient for "closed_form", in the correlation of a
        column with what is not explained yet for the others.
    coef_bound : float
        Bound on the Euclidean norm of the coefficients.
    free : ndarray of shape (n_columns,), bool, or None
        Columns that are always kept, and neither counted nor bounded.
    max_iter : int
        Largest number of iterations of "corrected_lasso".
    tol : float
        Its tolerance, relative to `coef_bound`.

    Returns
    -------
    fit : MomentFit
    """
    solvers: dict[str, Callable[..., MomentFit]] = {
        "auto": _matching_pursuit if n_nonzero is None else _topk_refit,
        "matching_pursuit": _matching_pursuit,
        "topk_refit": _topk_refit,
        "corrected_lasso": _corrected_lasso,
        "closed_form": _closed_form,
    }
    return solvers[solver](
        _Problem(moments, free, coef_bound),
        n_nonzero=n_nonzero,
        threshold=threshold,
        alpha=alpha,
        max_iter=max_iter,
        tol=tol,
    )


class _Problem:
    """Moments, and the equations of some of their columns."""

    def __init__(self, moments, free, coef_bound):
        self.moments = moments
        self.S, self.b, self.coef_bound = moments.S, moments.b, float(coef_bound)
        self.free = np.zeros(len(self.b), dtype=bool) if free is None else free
        diagonal = np.diag(self.S)
        self.usable = self.free | (diagonal >= _DETECTABLE * moments.sd_diag)
        self.usable &= diagonal > 0
        n_tested = int(np.count_nonzero(self.usable & ~self.free))
        # The largest of n normal variables is about this many standard deviations.
        self.spread = math.sqrt(2.0 * math.log(max(2, n_tested)))

    @functools.cached_property
    def curvature(self):
        """Largest absolute eigenvalue of the Gram matrix."""
        return float(np.abs(eigh(self.S, eigvals_only=True)).max()) if len(self.b) else 0.0

    def correlation_noise(self, theta):
        """Standard deviation of each entry of ``b - S theta`` that the noise gives it."""
        m = self.moments
        squares = theta @ theta
        on = (m.sd_diag**2 - m.sd_off**2) * theta**2
        return np.sqrt(m.sd_off**2 * squares + on + m.sd_b**2)

    def left_noise(self, theta, support):
        """Standard deviation of what a refit of some columns leaves of other correlations.

        Beside their own noise it is that of the refitted coefficients, which comes with the
        covariance of the columns.
        """
        columns = np.flatnonzero(support)
        carried = self.S[:, columns]
        covariance = _noise_covariance(self.moments, theta[columns], columns)
        return np.sqrt(
            self.correlation_noise(theta) ** 2 + np.sum((carried @ covariance) * carried, axis=1)
        )

    def alone(self, correlation):
        """Coefficients that a correlation amounts to for each column by itself."""
        diagonal = np.where(self.usable, np.diag(self.S), 1.0)
        return np.where(self.usable, correlation / diagonal, np.inf)

    def solve(self, support):
        """Solve the equations of some columns, within the ball.

        Returns coefficients, the floor of eigenvalues and the condition number.
        """
        theta = np.zeros(len(self.b))
        columns = np.flatnonzero(support)
        if columns.size == 0:
            return theta, 0.0, 1.0
        inverse, floor, condition = floored_inverse(self.S[np.ix_(columns, columns)])
        theta[columns] = inverse @ self.b[columns]
        return self.into_ball(theta), floor, condition

    def into_ball(self, theta):
        theta = theta.copy()
        theta[~self.free] = project_to_ball(theta[~self.free], self.coef_bound)
        return theta

    def fit(self, support, threshold, alpha, n_iter, converged=True, accuracy=0.0):
        theta, floor, condition = self.solve(support)
        return MomentFit(
            theta, support, threshold, float(alpha), floor, condition, n_iter, converged, accuracy
        )


def floored_inverse(S):
    """Invert a symmetric matrix after raising its small eigenvalues.

    Parameters
    ----------
    S : ndarray of shape (n, n)
        Symmetric, not necessarily positive definite.

    Returns
    -------
    inverse : ndarray of shape (n, n)
    floor : float
        What eigenvalues were raised to; 0 if none was.
    condition : float
        Condition number of `S`; infinite if it is not positive definite.
    """
    values, vectors = eigh(S)
    largest = values[-1]
    if largest <= 0:
        return np.zeros_like(S), 0.0, math.inf
    condition = largest / values[0] if values[0] > 0 else math.inf
    floor = _FLOOR * largest
    inverse = (vectors / np.maximum(values, floor)) @ vectors.T
    return inverse, float(floor) if values[0] < floor else 0.0, float(condition)


def _matching_pursuit(problem, *, n_nonzero, alpha, **_):
    """Admit one column after another, refitting, until what is left may be noise.

    Orthogonal matching pursuit on moments. A column may enter if its correlation with what the
    others leave is larger than the noise of all correlations is likely to be, and of those the
    one enters that explains most. If a number of columns is asked for and none is beyond the
    noise, the one that is most of its noise enters.
    """
    support = problem.free & problem.usable
    theta = problem.solve(support)[0]
    most = int(np.count_nonzero(problem.usable & ~problem.free))
    most = most if n_nonzero is None else min(most, n_nonzero)
    scale = np.sqrt(np.where(problem.usable, np.diag(problem.S), 1.0))
    first = problem.left_noise(theta, support) * problem.spread
    threshold = problem.alone(first if alpha == "auto" else np.full(len(scale), float(alpha)))
    used = 0.0
    for admitted in range(most):
        left = np.abs(problem.b - problem.S @ theta)
        candidates = problem.usable & ~support
        limit = problem.left_noise(theta, support) * problem.spread
        if alpha != "auto" and n_nonzero is None:
            limit = np.full(len(left), float(alpha))
        beyond = candidates & (left >= limit)
        if n_nonzero is None:
            used = float(np.min(limit[candidates]))
            if not beyond.any():
                return problem.fit(support, threshold, used, max(1, admitted))
        # The correlations of columns in small units are small, and so is their scale; weighing
        # by it before the noise is told from the rest would rank them by their noise.
        if beyond.any():
            merit = np.where(beyond, left / scale, -1.0)
        else:
            merit = np.where(candidates, left / np.where(candidates, limit, 1.0), -1.0)
        support = support.copy()
        support[int(np.argmax(merit))] = True
        theta = problem.solve(support)[0]
    return problem.fit(support, threshold, used, max(1, most))


def _corrected_lasso(problem, *, n_nonzero, alpha, max_iter, tol, **_):
    """Penalised quadratic form within a ball, by proximal gradient steps [Loh and Wainwright].

    The matrix may be indefinite; the ball keeps the iterates bounded, and the limit is a
    stationary point.
    """
    if alpha == "auto":
        alpha = _bound_noise(problem) * problem.spread
    theta, n_iter, accuracy = _lasso_iterations(problem, float(alpha), None, max_iter, tol)
    if n_nonzero is not None:
        theta = _keep_largest(problem, theta, n_nonzero)
    threshold = problem.alone(np.full(len(theta), float(alpha)))
    condition = floored_inverse(problem.S)[2]
    return MomentFit(
        theta,
        theta != 0,
        threshold,
        float(alpha),
        0.0,
        condition,
        n_iter,
        accuracy <= tol,
        accuracy,
    )


def _bound_noise(problem):
    # Nothing is known of the coefficients but the bound on their norm.
    m = problem.moments
    return math.hypot(m.sd_off * problem.coef_bound, m.sd_b)


def _lasso_iterations(problem, alpha, start, max_iter, tol):
    S, b, curvature = problem.S, problem.b, problem.curvature
    theta = np.zeros(len(b)) if start is None else start
    if curvature == 0.0:
        return theta, 1, 0.0
    shrink = np.where(problem.free, 0.0, alpha / curvature)
    n_iter, accuracy = 0, math.inf
    while n_iter < max_iter and accuracy > tol:
        n_iter += 1
        step = theta - (S @ theta - b) / curvature
        # Scaling into the ball after the soft threshold is the proximal operator of both.
        new = np.sign(step) * np.maximum(np.abs(step) - shrink, 0.0)
        new = problem.into_ball(np.where(problem.usable, new, 0.0))
        accuracy = float(np.linalg.norm(new - theta)) / problem.coef_bound
        theta = new
    return theta, n_iter, accuracy


def _keep_largest(problem, theta, n_nonzero):
    kept = theta.copy()
    kept[~problem.free] = hard_threshold(theta[~problem.free], n_nonzero)
    return kept


def _topk_refit(problem, *, n_nonzero, alpha, max_iter, tol, **_):
    """Select by the size of a weakly penalised pilot, and solve the selected equations."""
    strength = _bound_noise(problem) * problem.spread if alpha == "auto" else float(alpha)
    # A number of columns needs a ranking of them, for which a weaker penalty is better; one
    # that hides all noise decides by itself where there is no number.
    share = 1.0 if n_nonzero is None else _PILOT_SHARE
    pilot, n_iter, accuracy = _lasso_iterations(problem, share * strength, None, max_iter, tol)
    support = pilot != 0
    if n_nonzero is not None:
        # Columns that the pilot has at zero follow in the order of what they could explain.
        left = np.abs(problem.b - problem.S @ pilot)
        candidates = problem.usable & ~problem.free
        rank = np.lexsort((-left, -np.abs(pilot), ~candidates))
        support = np.zeros(len(left), dtype=bool)
        support[rank[:n_nonzero]] = True
        support &= candidates
    threshold = problem.alone(np.full(len(pilot), strength))
    support |= problem.free & problem.usable
    return problem.fit(support, threshold, strength, n_iter, accuracy <= tol, accuracy)


def _closed_form(problem, *, n_nonzero, threshold, alpha, **_):
    """Invert the Gram matrix, and keep what is larger than its noise."""
    columns = np.flatnonzero(problem.usable)
    D = len(problem.b)
    raw, limits = np.zeros(D), np.full(D, np.inf)
    floor, condition = 0.0, 1.0
    if columns.size:
        inverse, floor, condition = floored_inverse(problem.S[np.ix_(columns, columns)])
        raw[columns] = inverse @ problem.b[columns]
        if alpha == "auto":
            # At the bound on the norm the direction is not known; each column has its share.
            noise = np.full(len(columns), _bound_noise(problem))
            limits[columns] = problem.spread * np.sqrt((inverse**2) @ noise**2)
        else:
            limits[columns] = float(alpha)
    limits[problem.free] = 0.0
    support = problem.usable & (np.abs(raw) > limits)
    if n_nonzero is not None:
        support = _keep_largest(problem, raw, n_nonzero) != 0
    support |= problem.free & problem.usable
    strength = float(np.min(limits[~problem.free], initial=np.inf))
    if threshold == "refit":
        return problem.fit(support, limits, strength, 1)
    kept = np.where(support, raw, 0.0)
    if threshold == "soft":
        kept = np.sign(kept) * np.maximum(np.abs(kept) - np.where(support, limits, 0.0), 0.0)
    return MomentFit(problem.into_ball(kept), support, limits, strength, floor, condition, 1, True)


def coef_covariance(fit, moments):
    """Covariance that the known noise gives the coefficients of the selected columns.

    With ``S theta = b`` on the support, noise N in S and e in b moves the solution by
    ``S^-1 (e - N theta)``. The noise is independent between the entries of the upper triangle,
    so that ``N theta`` has the covariance ``sd_off^2 (|theta|^2 I + theta theta')`` but for
    the diagonal, where the part of entry j by itself is ``sd_diag^2 theta_j^2`` instead of
    ``2 sd_off^2 theta_j^2``.

    Parameters
    ----------
    fit : MomentFit
        A solution.
    moments : NoisyMoments
        What was solved.

    Returns
    -------
    covariance : ndarray of shape (n_columns, n_columns)
        Zero for columns that were not selected.
    """
    D = len(fit.coef)
    covariance = np.zeros((D, D))
    columns = np.flatnonzero(fit.support)
    covariance[np.ix_(columns, columns)] = _noise_covariance(moments, fit.coef[columns], columns)
    return covariance


def _noise_covariance(moments, theta, columns):
    if columns.size == 0:
        return np.zeros((0, 0))
    inverse = floored_inverse(moments.S[np.ix_(columns, columns)])[0]
    spread = moments.sd_off**2 * (theta @ theta) + moments.sd_b**2
    middle = moments.sd_off**2 * np.outer(theta, theta) + spread * np.eye(len(theta))
    middle += np.diag((moments.sd_diag**2 - 2.0 * moments.sd_off**2) * theta**2)
    return inverse @ middle @ inverse


def lasso_coefficients(moments, alphas, *, coef_bound=1.0, free=None, max_iter=1000, tol=1e-8):
    """Coefficients of the corrected lasso along penalties, each from the one before.

    Parameters
    ----------
    moments : NoisyMoments
        With a Gram matrix.
    alphas : ndarray of shape (n_alphas,) or int
        Penalties, decreasing; a number stands for that many from the smallest one that sets
        everything to zero down to a twentieth of the noise.
    coef_bound : float
        Bound on the Euclidean norm of the coefficients.
    free : ndarray of shape (n_columns,), bool, or None
        Columns without a penalty.
    max_iter : int
        Largest number of iterations for each penalty.
    tol : float
        Tolerance, relative to `coef_bound`.

    Returns
    -------
    alphas : ndarray of shape (n_alphas,)
    coefs : ndarray of shape (n_columns, n_alphas)
    noise : float
        The penalty that "auto" would take.
    converged : bool
        Whether all of them met the tolerance.
    """
    problem = _Problem(moments, free, coef_bound)
    noise = _bound_noise(problem) * problem.spread
    if np.ndim(alphas) == 0:
        start = problem.solve(problem.free & problem.usable)[0]
        left = np.abs(moments.b - moments.S @ start)[problem.usable & ~problem.free]
        top = float(np.max(left, initial=0.0)) or noise
        alphas = np.geomspace(max(top, 0.06 * noise), 0.05 * noise, int(alphas))
    coefs, theta, converged = np.zeros((len(moments.b), len(alphas))), None, True
    for index, alpha in enumerate(alphas):
        theta, _, accuracy = _lasso_iterations(problem, float(alpha), theta, max_iter, tol)
        coefs[:, index] = theta
        converged &= accuracy <= tol
    return np.asarray(alphas, dtype=float), coefs, noise, converged


def holdout_score(theta, moments):
    """What other reports say about the error of coefficients, up to a constant.

    For moments that are independent of the coefficients this estimates the mean squared error
    of clipped records less the mean square of their targets, without bias.

    Parameters
    ----------
    theta : ndarray of shape (n_columns,)
        Coefficients in public units.
    moments : NoisyMoments
        Moments of reports that were not used to find them.

    Returns
    -------
    score : float
        ``theta' S theta - 2 b' theta``
    std_error : float
        Standard deviation that the known noise gives it.
    """
    score = float(theta @ moments.S @ theta - 2.0 * moments.b @ theta)
    squares, fourth = float(theta @ theta), float(np.sum(theta**4))
    # Each entry off the diagonal counts twice in the form.
    variance = 2.0 * moments.sd_off**2 * (squares**2 - fourth)
    variance += moments.sd_diag**2 * fourth + 4.0 * moments.sd_b**2 * squares
    return score, math.sqrt(variance)
