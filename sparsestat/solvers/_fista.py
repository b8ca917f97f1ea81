"""Accelerated proximal gradient for least squares with any penalty."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from sklearn.base import clone

from sparsestat.penalties._base import fixpoint_distance
from sparsestat.utils._arrays import get_namespace

_ITERATIONS_PER_CHECK = 10
_POWER_ITERATIONS = 30
# The power method approaches the largest eigenvalue from below.
_POWER_MARGIN = 1.02


class FistaResult(NamedTuple):
    """What :func:`fista` found.

    Attributes
    ----------
    w : array of shape (n_features,) or (n_features, n_targets)
        The coefficients.
    n_iter : int
        Number of proximal gradient steps.
    accuracy : float
        The certificate at ``w`` if one was given, else the fixed-point residual.
    converged : bool
        Whether ``accuracy <= tol``.
    """

    w: Any
    n_iter: int
    accuracy: float
    converged: bool


def fista(
    X,
    y,
    penalty,
    *,
    w0=None,
    tol=1e-6,
    max_iter=1000,
    scale=1.0,
    lipschitz=None,
    certificate=None,
    callback=None,
):
    r"""Minimise penalised least squares by FISTA with adaptive restart.

    .. math:: \min_w \frac{c}{2} \|y - X w\|_2^2 + p(w)

    with ``c = scale``.  Every iteration takes one proximal gradient step from a
    point ahead of the last iterate [1]_; the momentum starts anew whenever it points
    uphill [2]_.  The step is the reciprocal of the largest eigenvalue of
    :math:`c X^\top X`, found by power iterations from a fixed start.  That is an
    estimate from below: if the steps taken reveal a larger curvature, they are taken
    back and repeated with a shorter step.

    For a penalty that is not convex the momentum is given up for good once the
    objective rises between two checks; from there on every step descends, to a
    stationary point.

    Parameters
    ----------
    X : array, sparse array, linear operator or pair of callables
        The design of shape (n_samples, n_features), or ``(matvec, rmatvec)`` which
        compute ``X @ w`` and ``X.T @ r``.
    y : array of shape (n_samples,) or (n_samples, n_targets)
        The response.
    penalty : BasePenalty
        The penalty; ``value`` and ``prox`` suffice.
    w0 : array of shape (n_features,) or (n_features, n_targets), default=None
        Where to start; zero if None.
    tol : float, default=1e-6
        Largest acceptable certificate or, without one, fixed-point residual
        ``max |L (w - prox(w - grad / L, 1 / L))|``, which has the unit of a gradient.
    max_iter : int, default=1000
        Largest number of iterations.
    scale : float, default=1.0
        Factor of the sum of squares; ``1 / n_samples`` for a mean.
    lipschitz : float or None, default=None
        Guess of the largest eigenvalue of ``scale * X.T @ X``.
    certificate : callable or None, default=None
        ``certificate(w)`` returns a bound of the suboptimality, such as a duality
        gap, as a float or as an array without dimensions.
    callback : callable or None, default=None
        ``callback(n_iter, w, accuracy)`` is called at every check, which is every
        10 iterations; a true answer stops the fit.

    Returns
    -------
    result : FistaResult
        The coefficients, the number of iterations, the accuracy attained and whether
        it is within ``tol``.  To warn otherwise is up to the caller.

    See Also
    --------
    fista_path : The same for several strengths of the penalty.

    Notes
    -----
    NumPy arrays and device arrays are taken.  The host reads one number from the
    device to find the step, and one at every check.  The arithmetic has the precision
    of the data.

    References
    ----------
    .. [1] Beck, A. and Teboulle, M. (2009). A fast iterative shrinkage-thresholding
       algorithm for linear inverse problems. SIAM Journal on Imaging Sciences 2(1),
       183-202.
    .. [2] O'Donoghue, B. and Candes, E. (2015). Adaptive restart for accelerated
       gradient schemes. Foundations of Computational Mathematics 15(3), 715-732.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.penalties import L1
    >>> from sparsestat.solvers import fista
    >>> result = fista(np.eye(3), np.array([3.0, -0.5, -2.0]), L1(alpha=1.0))
    >>> print(np.round(result.w, 6), result.converged)
    [ 2.  0. -1.] True
    """
    problem = _LeastSquares(X, y, scale, lipschitz, w0)
    return _minimize(problem, penalty, problem.start(w0), tol, max_iter, certificate, callback)


def fista_path(
    X,
    y,
    penalty,
    alphas,
    *,
    w0=None,
    tol=1e-6,
    max_iter=1000,
    scale=1.0,
    lipschitz=None,
    certificate=None,
    callback=None,
):
    """Minimise penalised least squares for several strengths of the penalty.

    Parameters
    ----------
    X : array, sparse array, linear operator or pair of callables
        As in :func:`fista`.
    y : array of shape (n_samples,) or (n_samples, n_targets)
        The response.
    penalty : BasePenalty
        A penalty with the parameter ``alpha``; it is left as it is.
    alphas : iterable of float
        The strengths, in the order in which they are solved; each start is the
        solution before it, so strong to weak is the quick order.
    w0 : array of shape (n_features,) or (n_features, n_targets), default=None
        Where to start the first fit; zero if None.
    tol : float, default=1e-6
        As in :func:`fista`.
    max_iter : int, default=1000
        Largest number of iterations for one strength.
    scale : float, default=1.0
        Factor of the sum of squares.
    lipschitz : float or None, default=None
        Guess of the largest eigenvalue of ``scale * X.T @ X``.
    certificate : callable or None, default=None
        ``certificate(w, alpha)`` returns a bound of the suboptimality.
    callback : callable or None, default=None
        ``callback(n_iter, w, accuracy)`` as in :func:`fista`; a true answer goes on
        to the next strength.

    Returns
    -------
    results : list of FistaResult
        One for each strength.

    See Also
    --------
    fista : A single fit.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.penalties import L1
    >>> from sparsestat.solvers import fista_path
    >>> path = fista_path(np.eye(2), np.array([3.0, -2.0]), L1(), [2.5, 1.0])
    >>> print([np.round(result.w, 6).tolist() for result in path])
    [[0.5, 0.0], [2.0, -1.0]]
    """
    problem = _LeastSquares(X, y, scale, lipschitz, w0)
    w = problem.start(w0)
    results = []
    for alpha in alphas:
        bound = None if certificate is None else _at_strength(certificate, alpha)
        member = clone(penalty).set_params(alpha=alpha)
        results.append(_minimize(problem, member, w, tol, max_iter, bound, callback))
        w = results[-1].w
    return results


def _at_strength(certificate, alpha):
    return lambda w: certificate(w, alpha)


class _LeastSquares:
    """The quadratic ``scale / 2 * ||y - X w||^2`` and the curvature known of it."""

    def __init__(self, X, y, scale, lipschitz, w0):
        pair = isinstance(X, tuple) and len(X) == 2 and all(map(callable, X))
        self.xp, self.device, is_host = get_namespace(None if pair else X, y, w0)
        xp = self.xp
        y = np.asarray(y) if is_host else y
        if is_host and not pair and not hasattr(X, "dtype"):
            X = np.asarray(X)
        dtype = y.dtype if pair or X.dtype is None else xp.result_type(X.dtype, y.dtype)
        self.dtype = dtype if xp.isdtype(dtype, "real floating") else xp.float64
        self.y = xp.astype(y, self.dtype, copy=False)
        if pair:
            self.matvec, self.rmatvec = X
            n_features = self.rmatvec(self.y).shape[0]
        else:
            if X.ndim != 2 or X.shape[0] != self.y.shape[0]:
                raise ValueError(
                    f"X must have shape (n_samples, n_features) with one row for each of the "
                    f"{self.y.shape[0]} entries of y, got shape {tuple(X.shape)}."
                )
            self.matvec, self.rmatvec = self._products(X, is_host)
            n_features = X.shape[1]
        self.shape = (n_features, *self.y.shape[1:])
        if not (math.isfinite(scale) and scale > 0.0):
            raise ValueError(f"scale must be positive and finite, got {scale!r}.")
        self.scale = scale
        if lipschitz is None:
            lipschitz = self._largest_eigenvalue()
        elif not (math.isfinite(lipschitz) and lipschitz > 0.0):
            raise ValueError(f"lipschitz must be positive and finite, got {lipschitz!r}.")
        self.lipschitz = lipschitz

    def _products(self, X, is_host):
        # One cast here, where numpy would otherwise cast inside every product.
        if scipy.sparse.issparse(X) or (is_host and isinstance(X, np.ndarray)):
            X = X.astype(self.dtype, copy=False)
        elif not is_host:
            X = self.xp.astype(X, self.dtype, copy=False)
        transposed = X.T
        return lambda w: X @ w, lambda r: transposed @ r

    def start(self, w0):
        if w0 is None:
            return self.xp.zeros(self.shape, dtype=self.dtype, device=self.device)
        w0 = self.xp.asarray(w0, dtype=self.dtype, device=self.device, copy=True)
        if tuple(w0.shape) != self.shape:
            raise ValueError(f"w0 must have shape {self.shape}, got shape {tuple(w0.shape)}.")
        return w0

    def gradient(self, Xw):
        return self.scale * self.rmatvec(Xw - self.y)

    def _largest_eigenvalue(self):
        xp = self.xp
        start = np.random.default_rng(0).standard_normal(self.shape)
        v = xp.asarray(start / np.linalg.norm(start), dtype=self.dtype, device=self.device)
        for _ in range(_POWER_ITERATIONS):
            u = self.rmatvec(self.matvec(v))
            norm = xp.sqrt(xp.sum(u * u))
            v = u / xp.where(norm > 0.0, norm, xp.ones_like(norm))
        eigenvalue = self.scale * float(norm)
        if not math.isfinite(eigenvalue):
            raise ValueError("X contains NaN, infinity or numbers too large to be squared.")
        # With X = 0 the quadratic is constant and every step is right.
        return _POWER_MARGIN * eigenvalue if eigenvalue > 0.0 else 1.0


def _minimize(problem, penalty, w, tol, max_iter, certificate, callback):
    """Alternate between blocks of iterations and checks, of which each reads one number."""
    xp = problem.xp
    bound = penalty.bind(w)
    search = _Search(problem, bound.prox, w)
    safe = (w, search.Xw)
    best = xp.full_like(search.t, xp.inf)
    n_iter, accuracy = 0, math.inf
    with np.errstate(over="ignore", invalid="ignore"):
        while True:
            if not penalty.convex:
                best = search.keep_descending(bound.value, best, *safe)
            reading = _read(search, penalty, tol, certificate)
            if math.isnan(reading) and n_iter == 0:
                raise ValueError(
                    "X, y or w0 contains NaN or infinity, or the penalty or the certificate "
                    "returns NaN."
                )
            if reading >= 0.0:
                accuracy, safe = reading, (search.w, search.Xw)
            else:
                # The steps were too long: take them back.
                curvature = 1.1 * -reading if math.isfinite(reading) else math.inf
                problem.lipschitz = min(curvature, 100.0 * problem.lipschitz)
                search.restart(*safe)
            stopped = callback is not None and callback(n_iter, search.w, accuracy)
            if accuracy <= tol or stopped or n_iter >= max_iter:
                return FistaResult(search.w, n_iter, accuracy, accuracy <= tol)
            n_steps = min(_ITERATIONS_PER_CHECK, max_iter - n_iter)
            for _ in range(n_steps):
                search.step()
            n_iter += n_steps


def _read(search, penalty, tol, certificate):
    """Read the accuracy or, negative, a curvature that forbids the steps taken."""
    xp, L = search.problem.xp, search.problem.lipschitz
    if certificate is None:
        gradient = search.problem.gradient(search.Xw)
        accuracy = xp.max(fixpoint_distance(penalty, search.prox, search.w, gradient, L))
    else:
        accuracy = xp.asarray(certificate(search.w), dtype=search.t.dtype, device=search.device)
        accuracy = xp.maximum(accuracy, xp.zeros_like(accuracy))
    too_long = (search.curvature > L * (1.0 + search.noise)) & ~(accuracy <= tol)
    return float(xp.where(too_long, -search.curvature, accuracy))


class _Search:
    """The iterates; all numbers stay where the data are, so that nothing waits for the host."""

    prox: Callable

    def __init__(self, problem, prox, w):
        self.problem, self.prox, self.device = problem, prox, problem.device
        xp = problem.xp
        self.momentum = xp.ones((), dtype=problem.dtype, device=problem.device)
        self.noise = 10.0 * math.sqrt(float(xp.finfo(problem.dtype).eps))
        self.restart(w, problem.matvec(w))

    def restart(self, w, Xw):
        self.w = self.w_old = w
        self.Xw = self.Xw_old = Xw
        self.t = self.problem.xp.ones_like(self.momentum)
        self.curvature = self.problem.xp.zeros_like(self.momentum)

    def step(self):
        """One proximal gradient step from the extrapolated point."""
        xp, problem = self.problem.xp, self.problem
        t = 0.5 * (1.0 + xp.sqrt(1.0 + 4.0 * self.t * self.t))
        beta = self.momentum * (self.t - 1.0) / t
        z = self.w + beta * (self.w - self.w_old)
        Xz = self.Xw + beta * (self.Xw - self.Xw_old)
        w = self.prox(z - problem.gradient(Xz) / problem.lipschitz, 1.0 / problem.lipschitz)
        Xw = problem.matvec(w)
        self._observe_curvature(w, w - z, Xw - Xz)
        uphill = xp.sum((z - w) * (w - self.w)) > 0.0
        self.t = xp.where(uphill, xp.ones_like(t), t)
        self.w, self.w_old, self.Xw, self.Xw_old = w, self.w, Xw, self.Xw

    def _observe_curvature(self, w, d, Xd):
        xp = self.problem.xp
        length = xp.sum(d * d)
        # The difference of two nearly equal points shows rounding errors, not curvature.
        clear = length > xp.finfo(self.problem.dtype).eps * xp.sum(w * w)
        ratio = self.problem.scale * xp.sum(Xd * Xd) / xp.where(clear, length, 1.0)
        self.curvature = xp.maximum(self.curvature, xp.where(clear, ratio, 0.0))

    def keep_descending(self, value, best, w, Xw):
        """Return to ``w``, for good without momentum, if the objective has risen above ``best``."""
        xp, problem = self.problem.xp, self.problem
        residual = self.Xw - problem.y
        objective = 0.5 * problem.scale * xp.sum(residual * residual) + value(self.w)
        risen = objective > best + 10.0 * xp.finfo(problem.dtype).eps * xp.abs(best)
        self.momentum = xp.where(risen, xp.zeros_like(self.momentum), self.momentum)
        self.w = xp.where(risen, w, self.w)
        self.Xw = xp.where(risen, Xw, self.Xw)
        self.w_old = xp.where(risen, w, self.w_old)
        self.Xw_old = xp.where(risen, Xw, self.Xw_old)
        return xp.minimum(best, xp.asarray(objective, dtype=best.dtype, device=self.device))
