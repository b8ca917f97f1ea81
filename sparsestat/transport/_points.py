"""Entropic optimal transport between weighted points."""

import math

import numpy as np
from scipy.spatial.distance import cdist
from sklearn import get_config

from sparsestat.transport._costs import METRICS
from sparsestat.transport._problem import check_matrix, make_problem
from sparsestat.transport._sinkhorn import solve
from sparsestat.utils._arrays import get_namespace


def sinkhorn_points(
    X,
    Y,
    a=None,
    b=None,
    *,
    metric="sqeuclidean",
    lazy="auto",
    epsilon=None,
    epsilon_scale="absolute",
    method="auto",
    tol=1e-9,
    max_iter=10000,
    reg_marginals=(math.inf, math.inf),
    init=None,
    relaxation="auto",
    storage_dtype=None,
    proximal_steps=0,
    n_jobs=None,
):
    """Solve an entropic optimal transport problem between two sets of points.

    The same as :func:`sinkhorn` with C_ij the cost between ``X[i]`` and ``Y[j]``, except
    that no matrix of costs is needed.

    Parameters
    ----------
    X : array-like of shape (n, d)
        Points of the rows, of any library that follows the array API standard.
    Y : array-like of shape (m, d)
        Points of the columns.
    a : array-like of shape (n,) or None, default=None
        Non-negative weights of the points of ``X``; None for equal ones.
    b : array-like of shape (m,) or None, default=None
        Weights of the points of ``Y``, of the same total.
    metric : {"sqeuclidean", "euclidean", "cityblock"} or callable, default="sqeuclidean"
        The cost between two points. A callable is given some rows of ``X`` and all of ``Y``
        and returns the matrix of their costs.
    lazy : bool or "auto", default="auto"
        Whether costs are computed whenever they are needed, so that the memory needed
        grows with n + m and the number of entries of the plan that matter; "auto" stores them
        if they fit into scikit-learn's ``working_memory``.
    epsilon : float or None, default=None
        Regularisation; None for 0.05 times the mean cost under the weights.
    epsilon_scale : {"absolute", "mean", "max", "median"}, default="absolute"
        What ``epsilon`` is a multiple of.
    method : str, default="auto"
        As for :func:`sinkhorn`.
    tol : float, default=1e-9
        Wanted error of the marginals.
    max_iter : int, default=10000
        Largest number of sweeps and Newton steps.
    reg_marginals : float or (float, float), default=(inf, inf)
        Penalties that replace the constraints on the marginals.
    init : SinkhornResult, pair of arrays or None, default=None
        Potentials to begin with.
    relaxation : float or "auto", default="auto"
        How far a sweep goes, as a multiple of Sinkhorn's step.
    storage_dtype : numpy.float32, numpy.float64 or None, default=None
        Type of the stored kernel for ``method="kernel"``.
    proximal_steps : int, default=0
        Number of further proximal steps.
    n_jobs : int or None, default=None
        Number of threads. It never changes a result.

    Returns
    -------
    result : SinkhornResult
        Potentials, plan, values and certificates.

    Raises
    ------
    ValueError
        For points of different dimensions, NaN or infinity, and as :func:`sinkhorn` does.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.transport import sinkhorn_points
    >>> X = np.array([[0.0], [1.0], [2.0]])
    >>> result = sinkhorn_points(X, X + 5.0, epsilon=0.1)
    >>> round(result.transport_cost, 3)
    25.0
    """
    if lazy not in (True, False, "auto"):
        raise ValueError(f"lazy must be True, False or 'auto', got {lazy!r}.")
    problem = points_problem(
        X, Y, a, b, metric=metric, lazy=lazy, reg_marginals=reg_marginals, n_jobs=n_jobs
    )
    return solve(
        problem,
        epsilon=epsilon,
        epsilon_scale=epsilon_scale,
        method=method,
        tol=tol,
        max_iter=max_iter,
        init=init,
        relaxation=relaxation,
        storage_dtype=storage_dtype,
        proximal_steps=proximal_steps,
    )


def points_problem(
    X, Y, a=None, b=None, *, metric, lazy="auto", reg_marginals=math.inf, n_jobs=None
):
    """Check points and weights, and store their costs if that is wanted."""
    options = {"metric": metric, "reg_marginals": reg_marginals, "n_jobs": n_jobs}
    if lazy == "auto":
        limit = get_config()["working_memory"] * 2**20
        lazy = 8 * _length(X) * _length(Y) > limit
    problem = make_problem(X=X, Y=Y, a=a, b=b, **options) if lazy else None
    if problem is not None:
        return problem
    xp, _, is_host = get_namespace(X, Y, a, b)
    X, single_X = check_matrix(X, "X")
    Y, single_Y = check_matrix(Y, "Y")
    C = pairwise_costs(X, Y, metric, xp, is_host)
    problem = make_problem(C, a=a, b=b, reg_marginals=reg_marginals, n_jobs=n_jobs)
    return problem._replace(float32=single_X and single_Y)


def pairwise_costs(X, Y, metric, xp, is_host):
    """The matrix of costs between checked points."""
    if X.shape[1] != Y.shape[1]:
        raise ValueError(
            f"X and Y must have the same number of features, got {X.shape[1]} and {Y.shape[1]}."
        )
    if callable(metric):
        C = metric(X, Y)
        if tuple(C.shape) != (X.shape[0], Y.shape[0]):
            raise ValueError(
                f"metric must return an array of shape ({X.shape[0]}, {Y.shape[0]}), got shape "
                f"{tuple(C.shape)}."
            )
        return C
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {sorted(METRICS)} or a callable, got {metric!r}.")
    if is_host:
        return cdist(X, Y, metric)
    from sparsestat.transport._kernels_xp import cost_block

    return cost_block(None, X, xp.matrix_transpose(Y), METRICS[metric])


def _length(X):
    return X.shape[0] if hasattr(X, "shape") and len(X.shape) else len(np.asarray(X))
