"""Least squares with groups of coefficients that are zero together."""

from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn.utils.validation import validate_data

from sparsestat.linear_model._base import BestSoFar, SparseLinearModel
from sparsestat.linear_model._data import canonical_csc, make_problem
from sparsestat.linear_model._group_path import GroupPath
from sparsestat.linear_model._path import warn_unless_converged
from sparsestat.utils._callbacks import FitTicker
from sparsestat.utils._column_groups import check_group_weights, check_groups, split
from sparsestat.utils._sklearn import Interval, StrOptions, _fit_context, with_callbacks
from sparsestat.utils._threads import single_threaded_blas
from sparsestat.utils._validation import check_frequency_weights


def group_attributes(problem, indices, ptr, coef, dtype):
    """The fitted attributes of coefficients of shape (n_features,)."""
    rounded = coef.astype(dtype, copy=False)
    used = coef != 0
    return {
        "coef_": rounded,
        "intercept_": problem.intercept(rounded.astype(np.float64)),
        "support_": used,
        "groups_": split(indices, ptr),
        "group_support_": np.logical_or.reduceat(used[indices], ptr[:-1]),
    }


class GroupLasso(SparseLinearModel):
    """Linear regression in which groups of features are selected together.

    Minimises, with weights w_i (ones unless given) of sum W and groups g of columns with
    weights d_g::

        1 / (2 W) sum_i w_i (y_i - x_i'b - b0)^2 + alpha * sum_g d_g ||b_g||_2

    and certifies the result by its duality gap over all groups.  The norms are not
    squared, so that whole groups are exactly zero; within the other groups no coefficient
    is.

    Parameters
    ----------
    alpha : float, default=1.0
        Strength of the penalty, positive.
    groups : array-like of shape (n_features,), list of array-like of int or int, default=None
        One label for each column; or one list of column indices for each group; or the
        number of consecutive columns in every group. Groups must be a partition of the
        columns, which need not be next to each other. None makes every column a group of
        its own, which is the lasso.
    group_weights : {"sqrt", "ones"} or array-like of shape (n_groups,), default="sqrt"
        Relative penalties d_g: square roots of the sizes of the groups, ones, or numbers
        in the order of the sorted labels, or of the list. Zero leaves a group
        unpenalised.
    fit_intercept : bool, default=True
        Whether to fit the unpenalised intercept b0.
    tol : float, default=1e-6
        Largest duality gap relative to the objective of zero coefficients,
        ``sum_i w_i (y_i - ybar)^2 / (2 W)``, where ybar is zero without an intercept.
    max_iter : int, default=1000
        Largest number of working sets solved.
    warm_start : bool, default=False
        Whether to start from the coefficients of the previous fit.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
        Coefficients b.
    intercept_ : float
        Intercept b0, zero without one.
    sparse_coef_ : CSR array of shape (1, n_features)
        The coefficients without their zeros.
    support_ : ndarray of bool of shape (n_features,)
        Which coefficients are not zero.
    groups_ : list of ndarray of int
        The columns of each group, in the order of the sorted labels, or of the list.
    group_support_ : ndarray of bool of shape (n_groups,)
        Which groups are not zero.
    objective_ : float
        Value of the objective.
    dual_gap_ : float
        Upper bound, in the units of the objective, of its distance to the optimum;
        computed in float64 over all groups.
    converged_ : bool
        Whether ``dual_gap_`` is within the tolerance.
    n_iter_ : int
        Number of working sets solved.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had any.

    See Also
    --------
    Lasso : Without groups.
    MultiTaskLasso : Several targets, whose coefficients are grouped by feature.
    group_lasso_path : Solutions for many alphas.

    Notes
    -----
    The columns of a group that enters the working set are rotated to be orthogonal, which
    leaves the penalty as it is and makes the exact minimum over the group the root of a
    function of one number. Block coordinate descent, with extrapolation and Newton steps,
    solves the working set; the line through the last two solutions of a path predicts the
    next one; a pass over all groups catches what that missed and gives the gap. Callbacks
    tick once for every working set.

    A sparse X is neither densified nor centred explicitly, but for the columns of the
    working set. Arrays on a device (CuPy) are not taken.

    References
    ----------
    M. Yuan and Y. Lin (2006). Model selection and estimation in regression with grouped
    variables. *Journal of the Royal Statistical Society B* 68(1), 49-67.

    R. Tibshirani, J. Bien, J. Friedman, T. Hastie, N. Simon, J. Taylor and R. J.
    Tibshirani (2012). Strong rules for discarding predictors in lasso-type problems.
    *Journal of the Royal Statistical Society B* 74(2), 245-266.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sparsestat.linear_model import GroupLasso
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> groups = ["person"] * 2 + ["body"] * 2 + ["serum"] * 6
    >>> model = GroupLasso(alpha=0.7, groups=groups).fit(X, y)
    >>> model.get_feature_names_out()
    array(['bmi', 'bp', 's1', 's2', 's3', 's4', 's5', 's6'], dtype=object)
    >>> [group.tolist() for group in model.groups_]
    [[2, 3], [0, 1], [4, 5, 6, 7, 8, 9]]
    >>> model.group_support_
    array([ True, False,  True])
    """

    _parameter_constraints: dict = {
        "alpha": [Interval(Real, 0, None, closed="left")],
        "groups": ["array-like", Interval(Integral, 1, None, closed="left"), None],
        "group_weights": [StrOptions({"sqrt", "ones"}), "array-like"],
        "fit_intercept": ["boolean"],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "warm_start": ["boolean"],
    }

    def __init__(
        self,
        alpha=1.0,
        *,
        groups=None,
        group_weights="sqrt",
        fit_intercept=True,
        tol=1e-6,
        max_iter=1000,
        warm_start=False,
    ):
        self.alpha = alpha
        self.groups = groups
        self.group_weights = group_weights
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter
        self.warm_start = warm_start

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The design.
        y : array-like of shape (n_samples,)
            The response.
        sample_weight : array-like of shape (n_samples,), float or None, default=None
            How often each row occurs: weight 2 is the row twice.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            For data that are not finite or of the wrong shape, for ``alpha=0``, for groups
            that are not a partition of the columns, and for weights that are negative or
            all zero.

        Warns
        -----
        ConvergenceWarning
            If the duality gap exceeds the tolerance.
        """
        if self.alpha == 0:
            raise ValueError(
                "alpha=0 asks for least squares without a penalty, for which "
                "sklearn.linear_model.LinearRegression is made; alpha must be positive. Single "
                "groups stay unpenalised where group_weights are zero."
            )
        given = X, y, sample_weight
        start = getattr(self, "coef_", None) if self.warm_start else None
        X, y = validate_data(
            self, X, y, accept_sparse="csc", dtype=[np.float64, np.float32], y_numeric=True
        )
        weights = check_frequency_weights(sample_weight, X)
        indices, ptr = check_groups(self.groups, X.shape[1])
        relative = check_group_weights(self.group_weights, ptr)
        dtype = X.dtype
        if start is not None:
            start = start.astype(np.float64) if start.shape == (X.shape[1],) else None
        if sparse.issparse(X):
            X = canonical_csc(X)
        with single_threaded_blas():
            problem = make_problem(
                X,
                np.asarray(y, dtype=np.float64),
                weights,
                fit_intercept=self.fit_intercept,
                gram_limit=0,
            )
            path = GroupPath(
                problem, indices, ptr, relative, tol=self.tol, max_iter=self.max_iter, coef=start
            )
            context = self._init_callback_context(max_subtasks=None)
            with FitTicker(self, context, *given) as ticker:
                self._solve(path, indices, ptr, dtype, ticker)
        return self

    def _solve(self, path, indices, ptr, dtype, ticker):
        problem = path.problem

        def attributes(coef):
            return group_attributes(problem, indices, ptr, coef, dtype)

        progress = BestSoFar(
            ticker, lambda: path.objective(self.alpha), lambda: path.solver.coef, attributes
        )
        point = path.at(self.alpha, progress)
        for name, fitted in attributes(path.solver.coef).items():
            setattr(self, name, fitted)
        self.objective_ = point.objective
        self.dual_gap_ = point.dual_gap
        self.n_iter_ = point.n_iter
        self.converged_ = bool(point.converged)
        warn_unless_converged([point], self.tol, problem.tolerance(self.tol), stacklevel=6)
