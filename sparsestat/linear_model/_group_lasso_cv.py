"""Group lasso whose strength is chosen by cross-validation or a criterion."""

from numbers import Integral

import numpy as np
from scipy import sparse
from sklearn.utils.validation import validate_data

from sparsestat.linear_model._base import SparseLinearModel
from sparsestat.linear_model._criteria import criterion_of_squares
from sparsestat.linear_model._data import canonical_csc, make_problem
from sparsestat.linear_model._group_lasso import group_attributes
from sparsestat.linear_model._group_path import GroupPath
from sparsestat.linear_model._path import coefficient_matrix
from sparsestat.linear_model._strength_search import SEARCH_CONSTRAINTS, StrengthSearch
from sparsestat.utils._column_groups import check_group_weights, check_groups
from sparsestat.utils._sklearn import Interval, StrOptions, _fit_context, with_callbacks
from sparsestat.utils._validation import check_frequency_weights


class GroupLassoCV(StrengthSearch, SparseLinearModel):
    """Group lasso whose penalty strength is chosen from a path.

    The path is solved once on all data and, for cross-validation, once on the training
    rows of every fold, in threads.

    Parameters
    ----------
    groups : array-like of shape (n_features,), list of array-like of int or int, default=None
        One label for each column; or one list of column indices for each group; or the
        number of consecutive columns in every group. None makes every column a group of
        its own, which is the lasso. Groups of rows, for the splitter, are another thing: they
        are passed to :meth:`fit`.
    group_weights : {"sqrt", "ones"} or array-like of shape (n_groups,), default="sqrt"
        Relative penalties: square roots of the sizes of the groups, ones, or numbers in
        the order of the sorted labels, or of the list. Zero leaves a group unpenalised.
    alphas : int or array-like of shape (n_alphas,), default=100
        Number of strengths, spaced geometrically, or the strengths themselves.
    eps : float, default=1e-3
        Smallest strength of an automatic grid divided by the largest.
    cv : int, cross-validation generator or iterable, default=None
        Folds, as in scikit-learn; None stands for 5 folds without shuffling.
    criterion : {"cv", "aic", "bic", "ebic"}, default="cv"
        What chooses: the mean squared error on rows left out, or an information criterion
        of the path on all data, see Notes.
    selection : {"min", "1se"}, default="min"
        Whether cross-validation takes the strength of the smallest error or the largest
        strength whose error exceeds it by at most one standard error. Not used by other
        criteria.
    fit_intercept : bool, default=True
        Whether to fit an unpenalised intercept.
    tol : float, default=1e-6
        Largest duality gap at every strength relative to the objective of zero
        coefficients.
    max_iter : int, default=1000
        Largest number of working sets solved per strength.
    n_jobs : int or None, default=None
        Number of threads; it never changes the result.

    Attributes
    ----------
    alpha_ : float
        The chosen strength.
    alpha_1se_ : float
        The strength that the one-standard-error rule chooses (``criterion="cv"``).
    alphas_ : ndarray of shape (n_alphas,)
        The strengths, descending.
    mse_path_ : ndarray of shape (n_alphas, n_folds)
        Mean squared errors on the rows left out (``criterion="cv"``); NaN for folds on
        which their weights are zero, which do not count.
    mse_mean_ : ndarray of shape (n_alphas,)
        Their means over the folds (``criterion="cv"``).
    mse_std_ : ndarray of shape (n_alphas,)
        Standard errors of these means (``criterion="cv"``).
    criterion_path_ : ndarray of shape (n_alphas,)
        Values of the information criterion, otherwise.
    coef_path_ : ndarray or CSC array of shape (n_features, n_alphas)
        Coefficients on all data, sparse if X is.
    dual_gaps_ : ndarray of shape (n_alphas,)
        Duality gaps on all data, in the units of the objective.
    coef_ : ndarray of shape (n_features,)
        Coefficients at ``alpha_``.
    intercept_ : float
        Intercept at ``alpha_``.
    sparse_coef_ : CSR array of shape (1, n_features)
        The coefficients without their zeros.
    support_ : ndarray of bool of shape (n_features,)
        Which coefficients are not zero.
    groups_ : list of ndarray of int
        The columns of each group.
    group_support_ : ndarray of bool of shape (n_groups,)
        Which groups are not zero.
    objective_ : float
        Value of the objective at ``alpha_``.
    dual_gap_ : float
        Duality gap at ``alpha_``.
    converged_ : bool
        Whether it is within the tolerance.
    n_iter_ : int
        Number of working sets solved at ``alpha_``.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had any.

    See Also
    --------
    GroupLasso : One strength.
    LassoCV : Without groups.
    CVDisplay : Plots the errors.

    Notes
    -----
    The criteria are those of :class:`LassoCV`. The effective number of parameters of a group
    lasso with the columns S in its support is the trace of ``X_S (X_S'X_S + D)^-1 X_S'``
    where the second derivative D of the penalty has the blocks
    ``W alpha d_g / ||b_g|| (I - u u')``, ``u = b_g / ||b_g||``.

    Arrays on a device (CuPy) are not taken.

    References
    ----------
    M. Yuan and Y. Lin (2006). Model selection and estimation in regression with grouped
    variables. *Journal of the Royal Statistical Society B* 68(1), 49-67.

    S. Vaiter, C. Deledalle, G. Peyré, J. Fadili and C. Dossal (2012). The degrees of
    freedom of the group lasso. arXiv 1205.1481.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sparsestat.linear_model import GroupLassoCV
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = GroupLassoCV(groups=[[0, 1], [2, 3], [4, 5, 6, 7, 8, 9]], alphas=20).fit(X, y)
    >>> model.mse_path_.shape, int(model.group_support_.sum())
    ((20, 5), 3)
    """

    _parameter_constraints: dict = {
        **SEARCH_CONSTRAINTS,
        "groups": ["array-like", Interval(Integral, 1, None, closed="left"), None],
        "group_weights": [StrOptions({"sqrt", "ones"}), "array-like"],
    }

    def __init__(
        self,
        *,
        groups=None,
        group_weights="sqrt",
        alphas=100,
        eps=1e-3,
        cv=None,
        criterion="cv",
        selection="min",
        fit_intercept=True,
        tol=1e-6,
        max_iter=1000,
        n_jobs=None,
    ):
        self.groups = groups
        self.group_weights = group_weights
        self.alphas = alphas
        self.eps = eps
        self.cv = cv
        self.criterion = criterion
        self.selection = selection
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter
        self.n_jobs = n_jobs

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, **params):
        """Choose the strength and fit the model with it to all data.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The design.
        y : array-like of shape (n_samples,)
            The response.
        sample_weight : array-like of shape (n_samples,), float or None, default=None
            How often each row occurs; counts in the scores of the folds, too. A weight
            of 2 is the row twice if all copies of a row stay in one fold.
        **params : dict
            Parameters for the splitter, such as ``groups``, where scikit-learn's metadata
            routing is enabled by ``sklearn.set_config(enable_metadata_routing=True)``.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            For data that are not finite or of the wrong shape, for groups that are not a
            partition of the columns, and for weights that are negative or all zero.

        Warns
        -----
        ConvergenceWarning
            If a duality gap on all data or on a fold exceeds the tolerance.
        """
        given = X, y, sample_weight
        routed = self._splitter_params(sample_weight, params)
        X, y = validate_data(
            self, X, y, accept_sparse="csc", dtype=[np.float64, np.float32], y_numeric=True
        )
        weights = check_frequency_weights(sample_weight, X)
        indices, ptr = check_groups(self.groups, X.shape[1])
        settings = indices, ptr, check_group_weights(self.group_weights, ptr)
        dtype = X.dtype
        if sparse.issparse(X):
            X = canonical_csc(X)
        y = np.asarray(y, dtype=np.float64)
        self._search(X, y, weights, settings, dtype, given, routed)
        return self

    def _open_path(self, X, y, weights, settings):
        problem = make_problem(X, y, weights, fit_intercept=self.fit_intercept, gram_limit=0)
        return GroupPath(problem, *settings, tol=self.tol, max_iter=self.max_iter)

    def _row_errors(self, path, points, X, y):
        problem = path.problem
        errors = np.empty((X.shape[0], len(points)))
        for column, point in enumerate(points):
            fitted = X[:, point.features] @ point.values
            shift = problem.y_mean - problem.x_mean[point.features] @ point.values
            errors[:, column] = (y - fitted - shift) ** 2
        return errors

    def _criterion_values(self, path, points):
        problem = path.problem
        n = problem.total_weight
        residuals = [2.0 * n * (point.objective - path.penalty(point)) for point in points]
        sizes = [path.degrees_of_freedom(point) for point in points]
        return criterion_of_squares(
            residuals, sizes, n, problem.n_features, problem.design.yy, self.criterion
        )

    def _fitted(self, path, point, dtype):
        coef = point.dense(path.problem.n_features)
        return group_attributes(path.problem, path.indices, path.ptr, coef, dtype)

    def _coefficients_of(self, points, X, dtype):
        return coefficient_matrix(points, X).astype(dtype, copy=False)
