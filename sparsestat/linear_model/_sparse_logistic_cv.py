"""Sparse logistic regression whose strength is chosen by cross-validation or a criterion."""

import numpy as np
from sklearn.utils.extmath import safe_sparse_dot

from sparsestat.linear_model._criteria import price_of_parameter
from sparsestat.linear_model._logistic_path import LogisticPath, class_coefficients, missing_class
from sparsestat.linear_model._sparse_logistic import SparseLogisticModel, logistic_attributes
from sparsestat.linear_model._strength_search import SEARCH_CONSTRAINTS, StrengthSearch
from sparsestat.utils._sklearn import StrOptions, _fit_context, with_callbacks
from sparsestat.utils._validation import check_penalty_factor


class SparseLogisticRegressionCV(StrengthSearch, SparseLogisticModel):
    """Sparse logistic regression whose penalty strength is chosen from a path.

    The path is solved once on all data and, for cross-validation, once on the training
    rows of every fold, in threads.

    Parameters
    ----------
    alphas : int or array-like of shape (n_alphas,), default=50
        Number of strengths, spaced geometrically, or the strengths themselves.
    eps : float, default=1e-3
        Smallest strength of an automatic grid divided by the largest.
    cv : int, cross-validation generator or iterable, default=None
        Folds, as in scikit-learn; None stands for 5 stratified folds without shuffling.
    criterion : {"cv", "aic", "bic", "ebic"}, default="cv"
        What chooses: the mean logarithmic loss on rows left out, or an information
        criterion of the path on all data, see Notes.
    selection : {"min", "1se"}, default="min"
        Whether cross-validation takes the strength of the smallest loss or the largest
        strength whose loss exceeds it by at most one standard error. Not used by other
        criteria.
    fit_intercept : bool, default=True
        Whether to fit unpenalised constants.
    penalty_factor : array-like of shape (n_features,), default=None
        Relative penalties of the features; zero leaves one unpenalised. None stands for
        ones.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, by which the weights of their rows are multiplied, also
        where the folds are scored.
    tol : float, default=1e-6
        Largest duality gap at every strength relative to the loss of the best constant
        probabilities.
    max_iter : int, default=1000
        Largest number of Newton steps per strength.
    n_jobs : int or None, default=None
        Number of threads; it never changes the result.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes.
    alpha_ : float
        The chosen strength.
    alpha_1se_ : float
        The strength that the one-standard-error rule chooses (``criterion="cv"``).
    alphas_ : ndarray of shape (n_alphas,)
        The strengths, descending.
    log_loss_path_ : ndarray of shape (n_alphas, n_folds)
        Mean logarithmic losses on the rows left out (``criterion="cv"``); NaN for folds on
        which their weights are zero, which do not count.
    log_loss_mean_ : ndarray of shape (n_alphas,)
        Their means over the folds (``criterion="cv"``).
    log_loss_std_ : ndarray of shape (n_alphas,)
        Standard errors of these means (``criterion="cv"``).
    criterion_path_ : ndarray of shape (n_alphas,)
        Values of the information criterion, otherwise.
    coef_path_ : array of shape (n_features, n_alphas) or (n_classes, n_features, n_alphas)
        Coefficients on all data, without the first axis for two classes; then a CSC array
        if X is sparse.
    dual_gaps_ : ndarray of shape (n_alphas,)
        Duality gaps on all data, in the units of the objective.
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        Coefficients at ``alpha_``.
    intercept_ : ndarray of shape (1,) or (n_classes,)
        Constants at ``alpha_``.
    sparse_coef_ : CSR array of the shape of ``coef_``
        The coefficients without their zeros.
    support_ : ndarray of bool of shape (n_features,)
        Which features have a coefficient that is not zero.
    objective_ : float
        Value of the objective at ``alpha_``.
    dual_gap_ : float
        Duality gap at ``alpha_``.
    converged_ : bool
        Whether it is within the tolerance.
    n_iter_ : int
        Number of Newton steps at ``alpha_``.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had any.

    See Also
    --------
    SparseLogisticRegression : One strength.
    CVDisplay : Plots the losses.

    Notes
    -----
    With n the sum of weights, k the number of coefficients that are not zero and p that of
    features, the criteria are twice the negative log-likelihood plus ``2 k`` (aic),
    ``k log n`` (bic) or ``k log n + 2 k log p`` (ebic).

    If ``alpha_`` is the smallest strength of the grid, a smaller ``eps`` may do better.

    Every class must occur in the training rows of every fold, which stratified folds see to
    if each class has as many rows as there are folds.

    Callbacks tick once for every path, that is for every fold. Arrays on a device (CuPy)
    are not taken.

    References
    ----------
    J. Friedman, T. Hastie and R. Tibshirani (2010). Regularization paths for generalized
    linear models via coordinate descent. *Journal of Statistical Software* 33(1), 1-22.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sparsestat.linear_model import SparseLogisticRegressionCV
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> search = SparseLogisticRegressionCV(alphas=20, selection="1se")
    >>> model = make_pipeline(StandardScaler(), search).fit(X, y)
    >>> model[-1].log_loss_path_.shape, model[-1].alpha_ == model[-1].alpha_1se_
    ((20, 5), True)
    """

    _parameter_constraints: dict = {
        **SEARCH_CONSTRAINTS,
        "penalty_factor": ["array-like", None],
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }
    _error_name = "log_loss"
    _unit = "Newton steps"

    def __init__(
        self,
        *,
        alphas=50,
        eps=1e-3,
        cv=None,
        criterion="cv",
        selection="min",
        fit_intercept=True,
        penalty_factor=None,
        class_weight=None,
        tol=1e-6,
        max_iter=1000,
        n_jobs=None,
    ):
        self.alphas = alphas
        self.eps = eps
        self.cv = cv
        self.criterion = criterion
        self.selection = selection
        self.fit_intercept = fit_intercept
        self.penalty_factor = penalty_factor
        self.class_weight = class_weight
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
            The design. A sparse X is neither densified nor centred.
        y : array-like of shape (n_samples,)
            The classes, of any type.
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
            For data that are not finite or of the wrong shape, for classes that are
            missing from the training rows of a fold, and for factors or weights that are
            negative or all zero.

        Warns
        -----
        ConvergenceWarning
            If a duality gap on all data or on a fold exceeds the tolerance.
        """
        given = X, y, sample_weight
        routed = self._splitter_params(sample_weight, params)
        X, codes, weights, dtype = self._validate(X, y, sample_weight)
        factors = check_penalty_factor(self.penalty_factor, X.shape[1])
        self._search(X, codes, weights, factors, dtype, given, routed)
        return self

    def _open_path(self, X, codes, weights, factors):
        missing = missing_class(codes, self.classes_, weights)
        if missing is not None:
            raise ValueError(
                f"The class {missing!r} of y is missing from the training rows of a fold; use "
                "fewer or stratified folds."
            )
        problem = self._problem(X, codes, weights)
        return LogisticPath(problem, factors, tol=self.tol, max_iter=self.max_iter)

    def _row_errors(self, path, points, X, codes):
        errors = np.empty((X.shape[0], len(points)))
        for column, point in enumerate(points):
            scores = safe_sparse_dot(X[:, point.features], point.values, dense_output=True)
            scores = scores + point.intercept
            if scores.shape[1] == 1:
                errors[:, column] = np.logaddexp(
                    0.0, np.where(codes == 1, -1.0, 1.0) * scores[:, 0]
                )
            else:
                chosen = np.take_along_axis(scores, codes[:, None], axis=1)[:, 0]
                errors[:, column] = np.logaddexp.reduce(scores, axis=1) - chosen
        return errors

    def _criterion_values(self, path, points):
        n, p = path.problem.total_weight, path.problem.n_features
        price = price_of_parameter(self.criterion, n, p)
        values = []
        for point in points:
            penalty = point.alpha * float(
                path.factors[point.features] @ np.abs(point.values).sum(axis=1)
            )
            size = np.count_nonzero(point.values)
            values.append(2.0 * n * (point.objective - penalty) + price * size)
        return np.array(values)

    def _fitted(self, path, point, dtype):
        coef = point.dense(path.problem.n_features)
        return logistic_attributes(coef, point.intercept, dtype)

    def _coefficients_of(self, points, X, dtype):
        return class_coefficients(points, X).astype(dtype, copy=False)
