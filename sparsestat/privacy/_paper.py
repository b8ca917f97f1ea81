r"""The constants of Zhu, Ding, Aggarwal, Xu and Wang, as reference simulations.

Nothing here is to be deployed: the noise is made of floating-point numbers of a reproducible
generator, both sides run in one function, and the scales are several times what the same
guarantee costs by better means. The functions serve to compare with the published rates.

The non-interactive algorithm gives each of two releases half of the budget and adds normal
noise of variance ``2 s^2 log(1.25 / (delta / 2)) / (epsilon / 2)^2``, where s bounds the
Euclidean distance of what two records release. For the Gram matrix of a record of norm at most
r, s = 2 r^2 is used although the distance is at most ``sqrt(2) r^2`` (as
``|xx' - zz'|_F^2 = |x|^4 + |z|^4 - 2 <x, z>^2``); for the cross moments of entries within t
and a target within u, s = 2 sqrt(d) t u is what opposite corners attain.

References
----------
.. [1] L. Zhu, M. Ding, V. Aggarwal, J. Xu and D. Wang (2024). Improved analysis of sparse
   linear regression in local differential privacy model. *International Conference on Learning
   Representations*.
.. [2] J. C. Duchi, M. I. Jordan and M. J. Wainwright (2018). Minimax optimal procedures for
   locally private estimation. *Journal of the American Statistical Association* 113(521),
   182-201.
.. [3] C. Dwork and A. Roth (2014). The algorithmic foundations of differential privacy.
   *Foundations and Trends in Theoretical Computer Science* 9(3-4), 211-407, Theorem A.1.
"""

import math
import warnings
from typing import NamedTuple

import numpy as np

from sparsestat.privacy._projections import hard_threshold
from sparsestat.privacy._records import clip_rows


class PaperMoments(NamedTuple):
    """Noisy moments, and how noisy they are.

    Attributes
    ----------
    S : ndarray of shape (n_features, n_features)
        Estimate of the mean of ``x x'``.
    b : ndarray of shape (n_features,)
        Estimate of the mean of ``x y``.
    sd_S : float
        Standard deviation of the noise in each entry of `S`; 0 for public rows.
    sd_b : float
        Standard deviation of the noise in each entry of `b`.
    """

    S: np.ndarray
    b: np.ndarray
    sd_S: float
    sd_b: float


class PaperIHT(NamedTuple):
    """Result of :func:`paper_ldp_iht`.

    Attributes
    ----------
    coef : ndarray of shape (n_features,)
        The last iterate.
    coefs : ndarray of shape (n_rounds + 1, n_features)
        All iterates, from zero on.
    radius : float
        Bound on the norm of a gradient.
    """

    coef: np.ndarray
    coefs: np.ndarray
    radius: float


def paper_bounds(n_samples, n_features, *, x_norm_bound=None, x_bound=None, y_bound=None):
    """Bounds of the theory where none are given, up to its unnamed constants.

    Parameters
    ----------
    n_samples : int
        Number of users.
    n_features : int
        Number of features d.
    x_norm_bound : float or None, default=None
        Bound on the Euclidean norm of the features; None is ``sqrt(d log n)``.
    x_bound : float or None, default=None
        Bound on each feature; None is ``sqrt(log n)``.
    y_bound : float or None, default=None
        Bound on the target; None is ``sqrt(log n)``.

    Returns
    -------
    bounds : tuple of three floats
        In the order of the parameters.

    Raises
    ------
    ValueError
        For a bound that is not positive and finite, as with a single user.
    """
    root = math.sqrt(math.log(max(n_samples, 1)))
    defaults = {
        "x_norm_bound": (x_norm_bound, math.sqrt(n_features) * root),
        "x_bound": (x_bound, root),
        "y_bound": (y_bound, root),
    }
    bounds = {
        name: float(default if given is None else given)
        for name, (given, default) in defaults.items()
    }
    for name, bound in bounds.items():
        if not 0 < bound < math.inf:
            raise ValueError(
                f"{name} must be positive and finite, got {bound!r} for {n_samples} users; its "
                "default needs two of them."
            )
    return tuple(bounds.values())


def paper_noise_scales(n_features, epsilon, delta, bounds, *, public=False):
    """Standard deviations of the noise that one user adds.

    Parameters
    ----------
    n_features : int
        Number of features.
    epsilon, delta : float
        Privacy of a user, replacement of one record, approximate.
    bounds : tuple of three floats
        From :func:`paper_bounds`.
    public : bool, default=False
        Whether the Gram matrix comes from public rows, so that the cross moments have the
        whole budget.

    Returns
    -------
    sd_S : float
        Of each entry of the upper triangle of the Gram matrix; 0 with public rows.
    sd_b : float
        Of each cross moment.

    Warns
    -----
    UserWarning
        If a release has a budget above 1, for which the formula is not proven.
    """
    if not 0 < epsilon < math.inf:
        raise ValueError(f"epsilon must be positive and finite, got {epsilon!r}.")
    if not 0 < delta < 1:
        raise ValueError(f"delta must be in (0, 1), got {delta!r}: normal noise needs one.")
    x_norm_bound, x_bound, y_bound = bounds
    share = 1 if public else 2
    if epsilon / share > 1:
        warnings.warn(
            f"The noise of the paper is proven to be private up to epsilon={share}, got "
            f"{epsilon!r}; use an analytic Gaussian or a one-bit mechanism for more.",
            UserWarning,
            stacklevel=3,
        )
    per_distance = math.sqrt(2 * math.log(1.25 * share / delta)) * share / epsilon
    sd_b = per_distance * 2 * math.sqrt(n_features) * x_bound * y_bound
    return (0.0 if public else per_distance * 2 * x_norm_bound**2), sd_b


def add_paper_noise(
    S, b, n_samples, epsilon, delta, *, public=False, x_norm_bound=None, x_bound=None,
    y_bound=None, rng,
):  # fmt: skip
    """Make means of clipped moments private.

    The mean of the users' independent normal noises is one normal draw of their variance over
    their number, so that the number of users costs nothing.

    Parameters
    ----------
    S : ndarray of shape (n_features, n_features)
        Mean of ``x x'`` over users whose features are clipped, or over public rows.
    b : ndarray of shape (n_features,)
        Mean of ``x y`` over users whose features and targets are clipped.
    n_samples : int
        Number of users.
    epsilon, delta : float
        Privacy of a user, replacement of one record, approximate.
    public : bool, default=False
        Whether `S` is public and gets no noise.
    x_norm_bound, x_bound, y_bound : float or None, default=None
        See :func:`paper_bounds`.
    rng : numpy.random.Generator
        Source of the noise.

    Returns
    -------
    moments : PaperMoments
    """
    d = len(b)
    bounds = paper_bounds(n_samples, d, x_norm_bound=x_norm_bound, x_bound=x_bound, y_bound=y_bound)
    scales = paper_noise_scales(d, epsilon, delta, bounds, public=public)
    sd_S, sd_b = (scale / math.sqrt(n_samples) for scale in scales)
    noise = np.triu(sd_S * rng.standard_normal((d, d)))
    noise += np.triu(noise, 1).T
    return PaperMoments(S + noise, b + sd_b * rng.standard_normal(d), sd_S, sd_b)


def paper_moments(
    X, y, epsilon, delta, *, X_public=None, x_norm_bound=None, x_bound=None, y_bound=None, rng
):
    """Simulate the releases of the non-interactive algorithm, and their means.

    Each user releases ``x x'``, with x scaled to a norm of at most `x_norm_bound`, and ``x y``,
    with each entry of x and y clipped; both with normal noise. With public rows the Gram matrix
    is theirs and a user spends everything on ``x y``.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Features, one row for each user.
    y : ndarray of shape (n_samples,)
        Targets.
    epsilon, delta : float
        Privacy of a user, replacement of one record, approximate.
    X_public : ndarray of shape (n_public, n_features) or None, default=None
        Public rows without targets.
    x_norm_bound, x_bound, y_bound : float or None, default=None
        See :func:`paper_bounds`.
    rng : numpy.random.Generator
        Source of the noise.

    Returns
    -------
    moments : PaperMoments

    Warns
    -----
    UserWarning
        If the noise is not proven to be private: `epsilon` above 2, or above 1 with public
        rows.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.privacy._paper import closed_form, paper_moments
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((1000, 2))
    >>> moments = paper_moments(X, X[:, 0], epsilon=1.0, delta=1e-5, rng=rng)
    >>> round(moments.sd_S, 1)  # a thousand users are by far too few
    8.7
    """
    n, d = X.shape
    given = {"x_norm_bound": x_norm_bound, "x_bound": x_bound, "y_bound": y_bound}
    x_norm_bound, x_bound, y_bound = paper_bounds(n, d, **given)
    b = np.clip(X, -x_bound, x_bound).T @ np.clip(y, -y_bound, y_bound) / n
    if X_public is None:
        clipped, _ = clip_rows(X, x_norm_bound)
        S = clipped.T @ clipped / n
    else:
        S = X_public.T @ X_public / len(X_public)
    public = X_public is not None
    return add_paper_noise(S, b, n, epsilon, delta, public=public, rng=rng, **given)


def paper_threshold(moments, coef_bound=1.0):
    """Threshold for :func:`closed_form` from the known noise.

    An entry of ``S theta - b`` has noise of variance ``sd_S^2 |theta|^2 + sd_b^2``, and the
    largest of d normal variables is about ``sqrt(2 log d)`` standard deviations. The theory
    has the same rate with a constant that it does not name; features that are far from
    uncorrelated with unit variance need more.

    Parameters
    ----------
    moments : PaperMoments
        The moments.
    coef_bound : float, default=1.0
        Bound on the Euclidean norm of the coefficients.

    Returns
    -------
    threshold : float
    """
    deviation = math.hypot(moments.sd_S * coef_bound, moments.sd_b)
    return deviation * math.sqrt(2 * math.log(max(len(moments.b), 2)))


def closed_form(S, b, threshold):
    """Solve the normal equations and move every coefficient towards zero.

    Parameters
    ----------
    S : ndarray of shape (n_features, n_features)
        Symmetric; where it is singular the shortest solution is taken.
    b : ndarray of shape (n_features,)
        Right-hand side.
    threshold : float
        What is taken off each coefficient; smaller ones become 0.

    Returns
    -------
    coef : ndarray of shape (n_features,)
    """
    raw = np.linalg.lstsq(S, b)[0]
    return np.sign(raw) * np.maximum(np.abs(raw) - threshold, 0.0)


def duchi_scale(dim, radius, epsilon):
    """Length of what :func:`duchi_ball` releases.

    Parameters
    ----------
    dim : int
        Length d of the vectors.
    radius : float
        Bound r on their norm.
    epsilon : float
        Privacy of a release.

    Returns
    -------
    length : float
        ``r coth(epsilon / 2) sqrt(pi) Gamma((d + 1) / 2) / Gamma(d / 2)``
    """
    ratio = math.exp(math.lgamma((dim + 1) / 2) - math.lgamma(dim / 2))
    return radius / math.tanh(epsilon / 2) * math.sqrt(math.pi) * ratio


def duchi_ball(G, radius, epsilon, rng):
    """Randomise vectors of a ball by the mechanism of Duchi, Jordan and Wainwright.

    A vector g is first rounded to a pole, ``radius g / |g|`` with probability ``1/2 + |g| / (2
    radius)`` or its opposite. What is released is uniform on the half of a larger sphere
    around the pole with probability ``e^epsilon / (1 + e^epsilon)``, and on the other half
    otherwise. Its mean is g. In exact arithmetic this is purely `epsilon`-private under
    replacement of a record; floating-point numbers void that, so it serves simulations.

    Parameters
    ----------
    G : ndarray of shape (n_samples, dim)
        Vectors of a norm of at most `radius`.
    radius : float
        The bound.
    epsilon : float
        Privacy of one release.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    released : ndarray of shape (n_samples, dim)
        Unbiased, all of the length :func:`duchi_scale`.

    Raises
    ------
    ValueError
        For a vector outside the ball.
    """
    n, d = G.shape
    norms = np.linalg.norm(G, axis=1)
    if not np.all(norms <= radius * (1 + 1e-9)):
        raise ValueError(
            f"G must have rows of a norm of at most radius={radius!r}, got {np.max(norms)!r}."
        )
    anywhere = rng.standard_normal((n, d))
    poles = np.where(norms[:, None] > 0, G, anywhere)
    poles *= np.where(rng.random(n) < 0.5 + norms / (2 * radius), 1.0, -1.0)[:, None]
    released = rng.standard_normal((n, d))
    near = rng.random(n) < 1 / (1 + math.exp(-epsilon))
    # A uniform direction on the wrong half is, turned round, one on the right half.
    released[(np.sum(released * poles, axis=1) > 0) != near] *= -1.0
    released *= duchi_scale(d, radius, epsilon) / np.linalg.norm(released, axis=1, keepdims=True)
    return released


def paper_ldp_iht(
    X, y, epsilon, n_nonzero, *, n_rounds=None, step=1.0, truncation_factor=8, x_bound=None,
    y_bound=None, rng,
):  # fmt: skip
    """Simulate private iterative hard thresholding, one group of users for each step.

    In a round each user of a new group, whose features and target are clipped entry by entry,
    releases the gradient ``x (<x, theta> - y)`` by :func:`duchi_ball`; the server takes a step
    against the mean, keeps ``truncation_factor * n_nonzero`` coefficients and projects them
    onto the unit ball. Every record is used in one round at most, and its release would be
    purely `epsilon`-private in exact arithmetic.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Features, one row for each user; groups are consecutive rows.
    y : ndarray of shape (n_samples,)
        Targets.
    epsilon : float
        Privacy of a user.
    n_nonzero : int
        Number of coefficients that are assumed not to be 0.
    n_rounds : int or None, default=None
        Number of rounds; None is the logarithm of the number of users, rounded up.
    step : float, default=1.0
        Step length.
    truncation_factor : int, default=8
        How many times `n_nonzero` coefficients are kept.
    x_bound, y_bound : float or None, default=None
        Bounds on each feature and on the target; None is ``sqrt(log n)``.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    result : PaperIHT

    Raises
    ------
    ValueError
        If there are fewer users than rounds.
    """
    n, d = X.shape
    _, x_bound, y_bound = paper_bounds(n, d, x_bound=x_bound, y_bound=y_bound)
    n_rounds = math.ceil(math.log(n)) if n_rounds is None else n_rounds
    if not 1 <= n_rounds <= n:
        raise ValueError(f"n_rounds must be between 1 and the number of users {n}, got {n_rounds}.")
    n_kept = min(truncation_factor * n_nonzero, d)
    # The coefficients are within the unit ball and n_kept of them are not 0.
    radius = math.sqrt(d) * x_bound * (math.sqrt(n_kept) * x_bound + y_bound)
    size = n // n_rounds
    coefs = np.zeros((n_rounds + 1, d))
    for t in range(n_rounds):
        group = slice(t * size, (t + 1) * size)
        features = np.clip(X[group], -x_bound, x_bound)
        residuals = features @ coefs[t] - np.clip(y[group], -y_bound, y_bound)
        released = duchi_ball(features * residuals[:, None], radius, epsilon, rng)
        moved = hard_threshold(coefs[t] - step * np.mean(released, axis=0), n_kept)
        coefs[t + 1] = moved / max(1.0, float(np.linalg.norm(moved)))
    return PaperIHT(coefs[-1], coefs, radius)
