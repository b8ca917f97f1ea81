"""Group-sparse solutions along a descending sequence of penalty strengths."""

from numbers import Integral

import numpy as np
from scipy import linalg

from sparsestat.linear_model._data import make_problem
from sparsestat.linear_model._path import (
    PATH_CONSTRAINTS,
    PathPoint,
    check_path_data,
    coefficient_matrix,
    strength_grid,
    warn_unless_converged,
)
from sparsestat.utils._column_groups import check_group_weights, check_groups
from sparsestat.utils._sklearn import Interval, StrOptions, validate_params
from sparsestat.utils._threads import single_threaded_blas


class GroupPath:
    """Group-lasso solutions of one problem, each started from the one before.

    Parameters
    ----------
    problem : Problem
        The centred data, with columns: from ``make_problem`` with ``gram_limit=0``.
    indices, ptr : ndarray of int
        Group g has the columns ``indices[ptr[g]:ptr[g + 1]]``.
    group_weights : ndarray of shape (n_groups,)
        Relative penalties.
    tol : float
        Largest gap relative to the objective at zero coefficients.
    max_iter : int
        Largest number of working sets per strength.
    coef : ndarray of shape (n_features,) or None, default=None
        Where to start.
    """

    def __init__(self, problem, indices, ptr, group_weights, *, tol, max_iter, coef=None):
        from sparsestat.solvers._groups import GroupSolver

        self.problem = problem
        self.indices, self.ptr, self.group_weights = indices, ptr, group_weights
        self.tol, self.max_iter = tol, max_iter
        self.solver = GroupSolver(problem.design, indices, ptr, group_weights, coef)

    @property
    def required(self):
        """Largest duality gap, in the units of the documented objective."""
        return self.problem.tolerance(self.tol)

    def alpha_max(self):
        """Smallest strength at which all penalised coefficients are zero."""
        return self.solver.largest_strength() / self.problem.total_weight

    def at(self, alpha, progress=None):
        """Solve at one strength, starting from the last solution.

        Parameters
        ----------
        alpha : float
            The strength.
        progress : callable or None
            See :meth:`sparsestat.solvers._groups.GroupSolver.solve`.

        Returns
        -------
        PathPoint
        """
        weight = self.problem.total_weight
        tol = 0.5 * self.tol * self.problem.design.yy
        solution = self.solver.solve(weight * alpha, tol, self.max_iter, progress)
        coef = self.solver.coef
        features = np.flatnonzero(coef)
        return PathPoint(
            alpha,
            features,
            coef[features],
            solution.primal / weight,
            solution.gap / weight,
            0.0,
            solution.n_iter,
            solution.converged,
            solution.stopped,
        )

    def penalty(self, point):
        """Penalty of one point of the path, in the units of the documented objective."""
        return point.alpha * float(self.group_weights @ self._norms(point))

    def degrees_of_freedom(self, point):
        """Trace of the map from response to fit, where the support does not change."""
        design, weight = self.problem.design, self.problem.total_weight
        if point.features.size == 0:
            return 0.0
        gram = design.gram_block(point.features, 0, point.features)
        gram = 0.5 * (gram + gram.T)
        norms = self._norms(point)
        places = np.full(self.problem.n_features, -1)
        places[point.features] = np.arange(point.features.size)
        bend = np.zeros_like(gram)
        for g in np.flatnonzero(norms):
            columns = self.indices[self.ptr[g] : self.ptr[g + 1]]
            rows = places[columns]
            rows = rows[rows >= 0]
            u = point.values[rows] / norms[g]
            strength = weight * point.alpha * self.group_weights[g] / norms[g]
            bend[np.ix_(rows, rows)] = strength * (np.eye(rows.size) - np.outer(u, u))
        return float(np.trace(linalg.lstsq(gram + bend, gram)[0]))

    def _norms(self, point):
        coef = point.dense(self.problem.n_features)
        squares = np.add.reduceat(coef[self.indices] ** 2, self.ptr[:-1])
        return np.sqrt(squares)

    def objective(self, alpha):
        """Objective of the present coefficients at any strength, in units of the problem."""
        return self.solver.objective(self.problem.total_weight * alpha)


@validate_params(
    {
        **PATH_CONSTRAINTS,
        "groups": ["array-like", Interval(Integral, 1, None, closed="left"), None],
        "group_weights": [StrOptions({"sqrt", "ones"}), "array-like"],
    },
    prefer_skip_nested_validation=True,
)
def group_lasso_path(
    X,
    y,
    *,
    groups,
    alphas=100,
    eps=1e-3,
    group_weights="sqrt",
    fit_intercept=False,
    sample_weight=None,
    tol=1e-6,
    max_iter=1000,
):
    """Fit group lassos along a descending sequence of penalty strengths.

    Minimises, with weights w_i (ones unless given) of sum W and groups g of columns with
    weights d_g::

        1 / (2 W) sum_i w_i (y_i - x_i'b - b0)^2 + alpha * sum_g d_g ||b_g||_2

    for every alpha, each time starting from the previous solutions.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        The design. A sparse X is neither densified nor centred explicitly, but for the
        columns of the groups in the working set.
    y : array-like of shape (n_samples,)
        The response.
    groups : array-like of shape (n_features,), list of array-like of int, int or None
        One label for each column; or one list of column indices for each group; or the
        number of consecutive columns in every group. None makes every column a group of
        its own, which is the lasso.
    alphas : int or array-like of shape (n_alphas,), default=100
        Number of strengths, spaced geometrically, or the strengths themselves.
    eps : float, default=1e-3
        Smallest strength of an automatic grid divided by the largest, at which all
        penalised coefficients are zero.
    group_weights : {"sqrt", "ones"} or array-like of shape (n_groups,), default="sqrt"
        Relative penalties d_g: square roots of the sizes, ones, or numbers in the order
        of the sorted labels, or of the list. Zero leaves a group unpenalised.
    fit_intercept : bool, default=False
        Whether an unpenalised intercept b0 is part of the model. Unlike that of
        :class:`GroupLasso`, the default is False, as for other path functions, and b0 is
        not returned.
    sample_weight : array-like of shape (n_samples,), float or None, default=None
        How often each row occurs.
    tol : float, default=1e-6
        Largest duality gap at every alpha, relative to the objective of zero
        coefficients, ``sum_i w_i (y_i - ybar)^2 / (2 W)``, where ybar is zero without an
        intercept.
    max_iter : int, default=1000
        Largest number of working sets solved per alpha.

    Returns
    -------
    alphas : ndarray of shape (n_alphas,)
        The strengths, descending.
    coefs : ndarray or CSC array of shape (n_features, n_alphas)
        The coefficients, sparse if X is.
    dual_gaps : ndarray of shape (n_alphas,)
        Duality gaps, in the units of the objective. They are upper bounds that hold
        over all groups.

    Raises
    ------
    ValueError
        For input that is not finite or of the wrong shape, and for groups that are not
        a partition of the columns.

    Warns
    -----
    ConvergenceWarning
        If a gap exceeds the tolerance.

    See Also
    --------
    GroupLasso : One strength, as an estimator.
    lasso_path : Without groups.

    Notes
    -----
    Arrays on a device (CuPy) are not taken.

    References
    ----------
    M. Yuan and Y. Lin (2006). Model selection and estimation in regression with grouped
    variables. *Journal of the Royal Statistical Society B* 68(1), 49-67.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sparsestat.linear_model import group_lasso_path
    >>> X, y = load_diabetes(return_X_y=True)
    >>> groups = [[0, 1], [2, 3], [4, 5, 6, 7, 8, 9]]
    >>> alphas, coefs, dual_gaps = group_lasso_path(
    ...     X, y, groups=groups, alphas=[1.0, 0.1], fit_intercept=True
    ... )
    >>> (coefs != 0).sum(axis=0)
    array([ 2, 10])
    """
    X, y, weights = check_path_data(X, y, sample_weight)
    indices, ptr = check_groups(groups, X.shape[1])
    relative = check_group_weights(group_weights, ptr)
    with single_threaded_blas():
        problem = make_problem(X, y, weights, fit_intercept=fit_intercept, gram_limit=0)
        path = GroupPath(problem, indices, ptr, relative, tol=tol, max_iter=max_iter)
        grid = strength_grid(path, alphas, eps)
        points = [path.at(alpha) for alpha in grid]
    warn_unless_converged(points, tol, problem.tolerance(tol), stacklevel=4)
    return grid, coefficient_matrix(points, X), np.array([point.dual_gap for point in points])
