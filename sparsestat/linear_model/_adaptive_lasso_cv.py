"""Adaptive lasso whose strength is chosen by cross-validation or a criterion."""

import numpy as np

from sparsestat.linear_model._adaptive import ADAPTIVE_CONSTRAINTS, row_residuals
from sparsestat.linear_model._adaptive_lasso import AdaptiveLassoModel, adaptive_attributes
from sparsestat.linear_model._criteria import criterion_of_squares
from sparsestat.linear_model._path import coefficient_matrix
from sparsestat.linear_model._strength_search import SEARCH_CONSTRAINTS, StrengthSearch
from sparsestat.utils._sklearn import _fit_context, with_callbacks


class AdaptiveLassoCV(StrengthSearch, AdaptiveLassoModel):
    """Adaptive lasso whose penalty strength is chosen from a path.

    The initial estimate and the path are found once on all data and, for cross-validation,
    once on the training rows of every fold, in threads.

    Parameters
    ----------
    alphas : int or array-like of shape (n_alphas,), default=100
        Number of strengths, spaced geometrically, or the strengths themselves.
    eps : float, default=1e-4
        Smallest strength of an automatic grid divided by the largest.
    cv : int, cross-validation generator or iterable, default=None
        Folds, as in scikit-learn; None stands for 5 folds without shuffling.
    criterion : {"cv", "aic", "bic", "ebic"}, default="cv"
        What chooses: the mean squared error on rows left out, or an information criterion
        of the path on all data, see Notes of :class:`LassoCV`.
    selection : {"min", "1se"}, default="min"
        Whether cross-validation takes the strength of the smallest error or the largest
        strength whose error exceeds it by at most one standard error. Not used by other
        criteria.
    gamma : float, default=1.0
        Power of the initial coefficients in the penalty, positive.
    n_reweight : int, default=1
        Number of rounds; from the second on, the solution of one round is the initial
        estimate of the next.
    initial : {"lasso", "ols"} or estimator, default="lasso"
        The initial estimate: the lasso that the criterion "aic" chooses (see
        :class:`LassoCV`), least squares, or an estimator with ``fit`` and ``coef_``, which is
        cloned.
    fit_intercept : bool, default=True
        Whether to fit the unpenalised intercept b0.
    tol : float, default=1e-6
        Largest duality gap at every strength relative to the objective of zero
        coefficients.
    max_iter : int, default=1000
        Largest number of working sets solved per strength and round.
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
    initial_coef_ : ndarray of shape (n_features,)
        The initial estimate c.
    coef_ : ndarray of shape (n_features,)
        Coefficients b at ``alpha_``.
    intercept_ : float
        Intercept b0 at ``alpha_``, zero without one.
    sparse_coef_ : CSR array of shape (1, n_features)
        The coefficients without their zeros.
    support_ : ndarray of bool of shape (n_features,)
        Which coefficients are not zero.
    objective_ : float
        Value of the objective at ``alpha_``, that of the last round.
    dual_gap_ : float
        Upper bound on its distance from the minimum.
    converged_ : bool
        Whether the gap is within the tolerance.
    n_iter_ : int
        Number of working sets solved at ``alpha_`` in all rounds.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had any.

    See Also
    --------
    AdaptiveLasso : One strength.
    adaptive_lasso_path : All strengths, without a choice.
    LassoCV : Without an initial estimate.
    CVDisplay : Plots the errors.

    Notes
    -----
    Features that the initial estimate leaves out stay out. The objective depends on the units
    of the features through that estimate alone: with "ols" and ``gamma=1`` a feature in other
    units has the same contribution to the fit.

    Weights count rows, and the criterion of the default initial estimate depends on how many
    there are: weights that are normalised to a small sum stand for few rows, on which it keeps
    nothing.

    Arrays on a device (CuPy) are not taken.

    References
    ----------
    H. Zou (2006). The adaptive lasso and its oracle properties. *Journal of the American
    Statistical Association* 101(476), 1418-1429.

    P. Bühlmann and L. Meier (2008). Discussion: One-step sparse estimates in nonconcave
    penalized likelihood models. *Annals of Statistics* 36(4), 1534-1541.

    Examples
    --------
    >>> from sparsestat.datasets import make_sparse_regression
    >>> from sparsestat.linear_model import AdaptiveLassoCV, LassoCV
    >>> data = make_sparse_regression(100, 200, n_nonzero=5, random_state=0)
    >>> adaptive = AdaptiveLassoCV().fit(data.data, data.target)
    >>> plain = LassoCV().fit(data.data, data.target)
    >>> int(adaptive.support_.sum()) < int(plain.support_.sum())
    True
    """

    _parameter_constraints: dict = {**SEARCH_CONSTRAINTS, **ADAPTIVE_CONSTRAINTS}

    def __init__(
        self,
        *,
        alphas=100,
        eps=1e-4,
        cv=None,
        criterion="cv",
        selection="min",
        gamma=1.0,
        n_reweight=1,
        initial="lasso",
        fit_intercept=True,
        tol=1e-6,
        max_iter=1000,
        n_jobs=None,
    ):
        self.alphas = alphas
        self.eps = eps
        self.cv = cv
        self.criterion = criterion
        self.selection = selection
        self.gamma = gamma
        self.n_reweight = n_reweight
        self.initial = initial
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter
        self.n_jobs = n_jobs

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, sample_weight=None, **params):
        """Choose the strength and fit the model with it to all data.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The design. A sparse X is neither densified nor centred explicitly.
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
            For data that are not finite or of the wrong shape, and for ``initial="ols"``
            with fewer training rows than features.

        Warns
        -----
        ConvergenceWarning
            If a duality gap on all data or on a fold exceeds the tolerance.
        """
        given = X, y, sample_weight
        routed = self._splitter_params(sample_weight, params)
        X, y, weights, dtype = self._validate(X, y, sample_weight)
        self._search(X, y, weights, None, dtype, given, routed)
        return self

    def _open_path(self, X, y, weights, settings):
        return self._adaptive_path(X, y, weights)

    def _row_errors(self, path, points, X, y):
        return np.stack([row_residuals(point, X, y) ** 2 for point in points], axis=1)

    def _criterion_values(self, path, points):
        residuals = [path.residual_sum_of_squares(point) for point in points]
        sizes = [point.features.size for point in points]
        return criterion_of_squares(
            residuals, sizes, path.total_weight, path.n_features, path.yy, self.criterion
        )

    def _fitted(self, path, point, dtype):
        coef = point.dense(path.n_features)
        return adaptive_attributes(coef, point.intercept, path.initial_coef, dtype)

    def _coefficients_of(self, points, X, dtype):
        return coefficient_matrix(points, X).astype(dtype, copy=False)
