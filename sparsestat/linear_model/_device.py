"""The lasso and the elastic net on arrays that live on a device.

Coordinate descent is sequential; on a device its place is taken by accelerated
proximal gradient, whose work is two products with X per step, and which stops by
the same duality gap.  Features without a penalty are projected out of X and y
first, by which the problem becomes one in the penalised features alone.
"""

from sparsestat.linear_model._path import PathPoint
from sparsestat.penalties import ElasticNet
from sparsestat.solvers import fista
from sparsestat.solvers._kernels_xp import lasso_duality_gap_xp
from sparsestat.utils._arrays import check_device_array, get_namespace

STEPS_PER_WORKING_SET = 100
"""Proximal gradient steps that count as much as one working set towards ``max_iter``."""


def solve_on_device(X, y, weights, *, alpha, l1_ratio, factors, positive, fit_intercept, tol,
                    max_iter, start, progress):  # fmt: skip
    """Minimise the objective of :class:`ElasticNet` without leaving the device.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        Checked device array.
    y : array of shape (n_samples,)
        Checked device array.
    weights : array of shape (n_samples,) or None
        Frequencies, on the host.
    alpha, l1_ratio, tol, max_iter, fit_intercept
        Parameters of the estimator.
    factors, positive : ndarray of shape (n_features,)
        Checked, on the host.
    start : array of shape (n_features,) or None
        Where to start.
    progress : callable or None
        Called with coefficients and intercept now and then; a true result stops.

    Returns
    -------
    coef : array of shape (n_features,)
        Coefficients, on the device.
    intercept : float
        Intercept.
    point : PathPoint
        Objective, gap and convergence; ``features`` and ``values`` are None.
    required : float
        The largest gap that the tolerance allows.
    """
    xp, device, _ = get_namespace(X, y)
    dtype, n_samples = X.dtype, X.shape[0]
    # Sums over many rows need more than float32.
    X, y = xp.astype(X, xp.float64), xp.astype(y, xp.float64)
    total = float(n_samples) if weights is None else float(weights.sum())
    shares = xp.full((n_samples,), 1.0, dtype=xp.float64, device=device)
    if weights is not None:
        shares = xp.asarray(weights, dtype=xp.float64, device=device)
    x_mean = xp.zeros((X.shape[1],), dtype=xp.float64, device=device)
    y_mean = xp.sum(y) * 0.0
    if fit_intercept:
        x_mean, y_mean = shares @ X / total, shares @ y / total
    roots = xp.sqrt(shares)
    X, y = roots[:, None] * (X - x_mean), roots * (y - y_mean)

    free = [j for j in range(factors.size) if factors[j] == 0.0]
    kept = [j for j in range(factors.size) if factors[j] > 0.0]
    if any(positive[j] for j in free):
        raise ValueError(
            "positive must be False for features with penalty_factor 0 when X is on a device."
        )
    columns = xp.asarray(kept, dtype=xp.int64, device=device)
    penalised = xp.take(X, columns, axis=1)
    response = y
    if free:
        others = xp.take(X, xp.asarray(free, dtype=xp.int64, device=device), axis=1)
        Q, R = xp.linalg.qr(others)
        pivots = xp.abs(xp.linalg.diagonal(R))
        if R.shape[0] < R.shape[1] or float(xp.min(pivots)) <= 1e-10 * float(xp.max(pivots)):
            raise ValueError(
                "On a device the columns with penalty_factor 0 must not depend on each other or "
                "be constant; leave some of them out, or fit host arrays."
            )
        penalised = penalised - Q @ (Q.T @ penalised)
        response = y - Q @ (Q.T @ y)

    required = float(xp.sum(y * y)) * 0.5 * tol / total
    factor, mask = factors[kept], positive[kept]
    penalty = ElasticNet(alpha, l1_ratio, penalty_factor=factor, positive=mask)
    l1, l2 = alpha * l1_ratio * factor, alpha * (1.0 - l1_ratio) * factor

    def gap(w):
        return lasso_duality_gap_xp(
            penalised, response, w, l1, l2, scale=1.0 / total, positive=mask
        )

    places = {j: i for i, j in enumerate([*kept, *free])}
    order = xp.asarray([places[j] for j in range(factors.size)], dtype=xp.int64, device=device)

    def complete(w):
        coef = w
        if free:
            fitted = Q.T @ (y - xp.take(X, columns, axis=1) @ w)
            coef = xp.concat([w, xp.linalg.solve(R, fitted[:, None])[:, 0]])
        coef = xp.take(coef, order)
        return xp.astype(coef, dtype), float(y_mean - x_mean @ coef)

    result = fista(
        penalised,
        response,
        penalty,
        w0=None if start is None else xp.take(xp.astype(start, xp.float64), columns),
        tol=required,
        max_iter=STEPS_PER_WORKING_SET * max_iter,
        scale=1.0 / total,
        certificate=gap,
        callback=None if progress is None else lambda n, w, accuracy: progress(*complete(w)),
    )
    coef, intercept = complete(result.w)
    residual = response - penalised @ result.w
    objective = float(0.5 / total * xp.sum(residual * residual)) + float(penalty.value(result.w))
    point = PathPoint(
        alpha, None, None, objective, float(result.accuracy), 0.0, result.n_iter,
        bool(result.converged), False,
    )  # fmt: skip
    return coef, intercept, point, required


def check_device_data(X, y):
    """Check a device array and its response, which may not be moved.

    Parameters
    ----------
    X : array
        To be of shape (n_samples, n_features).
    y : array
        To be of shape (n_samples,).

    Returns
    -------
    X, y : array
        Of a floating dtype.
    """
    xp, _, _ = get_namespace(X, y)
    X = check_device_array(X, "X", ndim=2, xp=xp)
    y = check_device_array(y, "y", ndim=1, xp=xp)
    if y.shape[0] != X.shape[0]:
        raise ValueError(
            f"X and y must have the same number of rows, got {X.shape[0]} and {y.shape[0]}."
        )
    return X, y
