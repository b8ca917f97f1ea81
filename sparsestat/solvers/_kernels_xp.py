"""Certificates of penalised least squares on arrays of the array API standard.

Results are arrays without dimensions on the device of the input: nothing is read
back to the host.  With ``scale`` c the objective is

    P(w) = c/2 ||y - X w||^2 + sum_j (l1_j |w_j| + l2_j/2 w_j^2),

where ``l1`` and ``l2`` are numbers or one number for each feature.
"""

import numpy as np

from sparsestat.utils._arrays import get_namespace


def lasso_alpha_max_xp(X, y, l1_factor=1.0, *, scale=1.0, positive=False):
    """Smallest alpha at which zero minimises the objective with ``l1 = alpha * l1_factor``.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        The design.
    y : array of shape (n_samples,)
        The response.
    l1_factor : float or array-like of shape (n_features,), default=1.0
        Relative l1 strengths; features with a factor of zero are left out.
    scale : float, default=1.0
        Factor of the sum of squares.
    positive : bool or array-like of bool of shape (n_features,), default=False
        Which coefficients must not be negative.

    Returns
    -------
    alpha_max : array without dimensions
        Zero if ``y`` is orthogonal to all features that count.
    """
    xp, device, _ = get_namespace(X, y)
    correlation = scale * (X.T @ y)
    factor = _spread(xp, l1_factor, correlation, device)
    pull = _pull(xp, correlation, positive, device)
    counts = (factor > 0.0) & (pull > 0.0)
    with np.errstate(over="ignore"):
        return xp.max(xp.where(counts, pull / xp.where(counts, factor, 1.0), 0.0))


def lasso_duality_gap_xp(X, y, w, l1, l2, *, scale=1.0, positive=False):
    """Duality gap of the lasso and the elastic net at ``w``.

    A dual point gives a lower bound of the objective, and there are two natural
    ones.  The first reads the elastic net as a lasso with the extra rows
    ``sqrt(l2_j) e_j`` and scales the residual of that lasso by the factor that is
    feasible for all ``|c x_j' r - l2_j w_j| <= l1_j`` and gives the highest bound.
    The second is the residual of the loss as it is, which is feasible if for every
    feature ``l2_j > 0`` or ``|c x_j' r| <= l1_j``.  The gap is taken to the better one.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        The design.
    y : array of shape (n_samples,)
        The response.
    w : array of shape (n_features,)
        The coefficients, not negative where ``positive`` forbids it.
    l1, l2 : float or array-like of shape (n_features,)
        Strengths of the absolute value and of half the square.
    scale : float, default=1.0
        Factor of the sum of squares.
    positive : bool or array-like of bool of shape (n_features,), default=False
        Which coefficients must not be negative.

    Returns
    -------
    gap : array without dimensions
        Not negative, and not smaller than ``P(w) - min P``.

    Notes
    -----
    A feature with ``l1 = l2 = 0`` is feasible only where its correlation with the
    residual is exactly zero.  Project such features out of ``X`` and ``y`` first, as
    centring does for the intercept: the gap is valid with them, but does not shrink.
    """
    xp, device, _ = get_namespace(X, y, w)
    l1, l2 = _spread(xp, l1, w, device), _spread(xp, l2, w, device)
    residual = y - X @ w
    loss = 0.5 * scale * xp.sum(residual * residual)
    primal = loss + xp.sum(l1 * xp.abs(w) + 0.5 * l2 * w * w)
    correlation = scale * (X.T @ residual)

    square = 2.0 * loss + xp.sum(l2 * w * w)
    pull = _pull(xp, correlation - l2 * w, positive, device)
    beyond = pull > l1
    limit = xp.min(xp.where(beyond, l1 / xp.where(beyond, pull, 1.0), 1.0))
    aligned = scale * xp.sum(residual * y)
    best = aligned / xp.where(square > 0.0, square, 1.0)
    shrink = xp.minimum(xp.maximum(best, xp.zeros_like(best)), limit)
    scaled_dual = shrink * aligned - 0.5 * shrink * shrink * square

    excess = _pull(xp, correlation, positive, device) - l1
    excess = xp.maximum(excess, xp.zeros_like(excess))
    infeasible = xp.where(excess > 0.0, xp.full_like(excess, xp.inf), 0.0)
    # Divided by next to nothing it is infinite, and the other bound is taken.
    with np.errstate(over="ignore"):
        ridge = 0.5 * excess * excess / xp.where(l2 > 0.0, l2, 1.0)
    conjugate = xp.where(l2 > 0.0, ridge, infeasible)
    plain_dual = aligned - loss - xp.sum(conjugate)

    gap = primal - xp.maximum(scaled_dual, plain_dual)
    return xp.maximum(gap, xp.zeros_like(gap))


def _spread(xp, values, like, device):
    """One value for each feature, in the precision of the data."""
    return xp.asarray(values, dtype=like.dtype, device=device) + xp.zeros_like(like)


def _pull(xp, correlation, positive, device):
    """How strongly the data pull each coefficient in a direction that it may take."""
    positive = xp.asarray(positive, device=device)
    return xp.where(positive, correlation, xp.abs(correlation))
