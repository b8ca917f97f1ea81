"""Least squares, or an elementary estimator for many features, with a threshold."""

from numbers import Real

import numpy as np
from sklearn.utils.validation import validate_data

from sparsestat.linear_model._base import SparseLinearModel
from sparsestat.linear_model._closed_form import (
    least_squares,
    safe_threshold,
    shrink_coefficients,
    shrink_correlations,
    standardise,
)
from sparsestat.linear_model._data import check_single_response, problem_from_moments
from sparsestat.utils._callbacks import FitTicker
from sparsestat.utils._moments import GramAccumulator, is_dask_collection
from sparsestat.utils._sklearn import Interval, StrOptions, _fit_context, with_callbacks
from sparsestat.utils._threads import single_threaded_blas
from sparsestat.utils._validation import check_frequency_weights, set_columns

_EPSILON = np.finfo(np.float64).eps
"""Share of the response's squares below which a residual is rounding."""


class ThresholdedOLS(SparseLinearModel):
    """Sparse linear regression in closed form: a linear system, then a threshold.

    With the covariances S of the features and c of features and response, weighted if there
    are weights, the coefficients are::

        coef = shrink(T(S)^-1 c, threshold)

    where `shrink` sets coefficients to zero that do not exceed their thresholds, and T
    leaves S as it is if there are more rows than features: least squares, thresholded. With
    fewer rows S has no inverse, and T moves the correlations beside the diagonal towards zero
    until it has one: the elementary estimator of Yang, Lozano and Ravikumar. Nothing is
    minimised iteratively; one pass over the data and one Cholesky decomposition do.

    Parameters
    ----------
    alpha : "auto" or float, default="auto"
        The thresholds of the coefficients. ``"auto"`` is the universal threshold
        ``noise_scale_ * sqrt(2 log(p) v_j / n)`` with p features that are not constant and
        v_j entry j of the diagonal of ``T(S)^-1``: about the largest value that p
        coefficients reach by chance. A number, at least 0, is the threshold of every
        coefficient in units of the coefficients; 0 sets none to zero.
    cov_threshold : "auto" or float, default="auto"
        By how much T moves correlations towards zero, between 0 and 1. ``"auto"`` is 0 if
        n - 1 (without intercept n) exceeds p, and otherwise ``2 sqrt(log(p) / n)``, which
        correlations seldom reach by chance. Where ``T(S)`` must be inverted and the result has
        an eigenvalue below 0.001, for features of variance one, the threshold is raised until
        it has not; so 0 stands, with few rows, for the smallest threshold that is safe.
    penalty : {"hard", "soft"}, default="hard"
        Whether coefficients above their thresholds stay as they are, or move towards zero by
        their thresholds. Soft thresholds bias large coefficients: where all are far above
        their thresholds, the error of the whole vector is two to four times larger.
    fit_intercept : bool, default=True
        Whether to fit an intercept.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
        Coefficients.
    intercept_ : float
        Intercept, zero without one.
    coef_raw_ : ndarray of shape (n_features,)
        Coefficients before their threshold, in double precision.
    sparse_coef_ : CSR array of shape (1, n_features)
        The coefficients without their zeros.
    support_ : ndarray of bool of shape (n_features,)
        Which coefficients are not zero.
    threshold_ : ndarray of shape (n_features,)
        The threshold of each coefficient; infinite for a constant feature.
    noise_scale_ : float
        Standard deviation of the noise from the residuals of least squares. Where correlations
        were moved it is the standard deviation of the response, since the features that
        matter then disturb the coefficients of the others as noise does; see the Notes.
    cov_threshold_ : float
        By how much correlations were moved towards zero.
    rank_ : int
        Rank of the matrix that was inverted.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had any.

    See Also
    --------
    Lasso : Minimises a criterion instead, with certificates.
    LassoCV : The same with a strength chosen by cross-validation.

    Notes
    -----
    Let n be the sum of the weights and p the number of features that are not constant.
    Given the features, least squares has covariance ``sigma^2 S^-1 / n``, in which
    sigma^2 is estimated without bias by the residual sum of squares over ``n - rank_`` (one less
    with an intercept). Where T is not the identity, c itself is random at the scale of the
    whole response: for Gaussian data with covariance Sigma and coefficients beta,
    ``cov(c) = (Var(y) Sigma + Sigma beta beta' Sigma) / n``, so that a coefficient that is
    zero has variance ``Var(y) [Sigma^-1]_jj / n``.

    Columns that depend on each other do not stop the fit: with more rows than features the
    coefficients are those of smallest norm, for features of variance one, among all that fit
    best, and two equal columns share one coefficient. ``rank_`` tells. Constant columns have
    the coefficient zero.

    NumPy arrays, DataFrames, sparse matrices and Dask collections are taken; device arrays are
    not. A sparse X is densified one block of rows at a time. Memory and time grow as the square
    and the cube of the number of features. Callbacks tick after the linear system, after the
    threshold and at each step of a search for `cov_threshold_`.

    References
    ----------
    E. Yang, A. C. Lozano and P. Ravikumar (2014). Elementary estimators for high-dimensional
    linear regression. *International Conference on Machine Learning* 31, 388-396.

    L. Zhu, M. Ding, V. Aggarwal, J. Xu and D. Wang (2024). Improved analysis of sparse linear
    regression in local differential privacy model. *International Conference on Learning
    Representations*.

    Examples
    --------
    >>> from sparsestat.datasets import make_sparse_regression
    >>> from sparsestat.linear_model import ThresholdedOLS
    >>> regression = make_sparse_regression(500, 20, 3, random_state=0)
    >>> model = ThresholdedOLS().fit(regression.data, regression.target)
    >>> bool((model.support_ == (regression.coef != 0)).all())
    True
    >>> round(model.noise_scale_, 1)
    0.5
    """

    _parameter_constraints: dict = {
        "alpha": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "cov_threshold": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="both")],
        "penalty": [StrOptions({"hard", "soft"})],
        "fit_intercept": ["boolean"],
    }

    def __init__(self, alpha="auto", *, cov_threshold="auto", penalty="hard", fit_intercept=True):
        self.alpha = alpha
        self.cov_threshold = cov_threshold
        self.penalty = penalty
        self.fit_intercept = fit_intercept

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The design. A sparse X is densified one block of rows at a time. Dask arrays and
            dataframes are reduced to cross products, one partition at a time.
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
            For data that are not finite or of the wrong shape, and for weights that are
            negative or all zero.
        """
        if is_dask_collection(X):
            self.fit_gram(GramAccumulator.from_dask(X, y, sample_weight))
            set_columns(self, self.n_features_in_, X)
            return self
        given = X, y, sample_weight
        X, y = validate_data(
            self, X, y, accept_sparse="csr", dtype=[np.float64, np.float32], y_numeric=True
        )
        weights = check_frequency_weights(sample_weight, X)
        with single_threaded_blas():
            moments = GramAccumulator().update(X, np.asarray(y, dtype=np.float64), weights)
            self._fit_moments(moments, X.dtype, given)
        return self

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit_gram(self, moments):
        """Fit the model to centred cross products instead of data.

        Parameters
        ----------
        moments : sparsestat.utils.GramAccumulator
            Moments of the features and of one response, which may have been summed
            over batches, machines or partitions.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            For moments without exactly one response.
        """
        check_single_response(moments)
        if not moments.n_samples > 0:
            raise ValueError("moments must hold at least one row of positive weight, got none.")
        set_columns(self, moments.n_features)
        with single_threaded_blas():
            self._fit_moments(moments, np.float64, (None,))
        return self

    def _fit_moments(self, moments, dtype, given):
        problem = problem_from_moments(moments, fit_intercept=self.fit_intercept)
        parts = standardise(problem.design.gram, problem.design.xy, problem.design.yy)

        def attributes(coef):
            rounded = self._scatter(coef / parts.norms, parts, 0.0).astype(dtype)
            return {
                "coef_": rounded,
                "intercept_": problem.intercept(rounded.astype(np.float64)),
                "support_": rounded != 0,
            }

        context = self._init_callback_context(max_subtasks=None)
        with FitTicker(self, context, *given) as ticker:

            def report(task, coef):
                return ticker.tick(task, lambda: attributes(coef()))

            solution, moved, noise_scale = self._solve(parts, problem.total_weight, report)
            report("linear system", lambda: solution.coef)
            thresholds = self._thresholds(solution.variances, noise_scale, parts)
            coef = shrink_coefficients(solution.coef, thresholds, self.penalty)
            report("threshold of coefficients", lambda: coef)
        for name, fitted in attributes(coef).items():
            setattr(self, name, fitted)
        self.coef_raw_ = self._scatter(solution.coef / parts.norms, parts, 0.0)
        self.threshold_ = self._scatter(thresholds / parts.norms, parts, np.inf)
        self.noise_scale_ = noise_scale
        self.cov_threshold_ = moved
        self.rank_ = solution.rank

    def _solve(self, parts, n_samples, report):
        """Coefficients without thresholds, what correlations were moved by, and the noise."""
        degrees = n_samples - 1.0 if self.fit_intercept else n_samples
        is_tall = degrees > parts.size
        least = self._least_cov_threshold(parts.size, n_samples, is_tall)
        if is_tall and least == 0.0:
            solution = least_squares(parts.R, parts.b)
            squares = max(parts.yy - parts.b @ solution.coef, _EPSILON * parts.yy)
            return solution, 0.0, float(np.sqrt(squares / (degrees - solution.rank)))

        def elementary(threshold):
            return least_squares(shrink_correlations(parts.R, threshold), parts.b)

        moved = safe_threshold(
            parts.R,
            least,
            lambda safe: report("threshold of correlations", lambda: elementary(safe).coef),
        )
        scale = np.sqrt(parts.yy / (degrees if degrees > 0.0 else n_samples))
        return elementary(moved), moved, float(scale)

    def _least_cov_threshold(self, size, n_samples, is_tall):
        """What T moves correlations by, unless that is not enough."""
        if self.cov_threshold != "auto":
            return float(self.cov_threshold)
        if is_tall or size < 2:
            return 0.0
        return 2.0 * float(np.sqrt(np.log(size) / n_samples))

    def _thresholds(self, variances, noise_scale, parts):
        """Thresholds of the coefficients of features of variance one, times their norms."""
        if self.alpha != "auto":
            return self.alpha * parts.norms
        return noise_scale * np.sqrt(2.0 * np.log(max(parts.size, 1)) * variances)

    def _scatter(self, values, parts, constant):
        """Values of the features that are not constant, among those that are."""
        full = np.full(self.n_features_in_, constant)
        full[parts.kept] = values
        return full
