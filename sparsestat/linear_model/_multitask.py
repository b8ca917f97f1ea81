"""Lasso for several targets that share their support."""

from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn.utils.validation import validate_data

from sparsestat.linear_model._base import BestSoFar, SparseLinearModel, refuse_no_penalty
from sparsestat.linear_model._data import (
    canonical_csc,
    centred_columns,
    centring_roots,
    drop_unweighted,
)
from sparsestat.linear_model._path import PathPoint, warn_unless_converged
from sparsestat.utils._callbacks import FitTicker
from sparsestat.utils._sklearn import Interval, _fit_context, with_callbacks
from sparsestat.utils._threads import single_threaded_blas
from sparsestat.utils._validation import check_frequency_weights


class MultiTaskLasso(SparseLinearModel):
    """Linear regression of several targets on one set of selected features.

    Minimises, with weights w_i (ones unless given) of sum W::

        1 / (2 W) sum_i w_i ||y_i - B'x_i - b0||^2 + alpha * sum_j ||B_j||

    where B_j is the row of coefficients of feature j for all targets, so that a
    feature is used for every target or for none.

    Parameters
    ----------
    alpha : float, default=1.0
        Strength of the penalty, positive.
    fit_intercept : bool, default=True
        Whether to fit the unpenalised intercepts b0.
    tol : float, default=1e-6
        Largest duality gap relative to the objective of zero coefficients.
    max_iter : int, default=1000
        Largest number of working sets solved.
    warm_start : bool, default=False
        Whether to start from the coefficients of the previous fit.

    Attributes
    ----------
    coef_ : ndarray of shape (n_targets, n_features) or (n_features,)
        Coefficients, the transpose of B.
    intercept_ : ndarray of shape (n_targets,) or float
        Intercepts b0, zeros without them.
    sparse_coef_ : CSR array of shape (n_targets, n_features)
        The coefficients without their zeros.
    support_ : ndarray of bool of shape (n_features,)
        Which features are used.
    objective_ : float
        Value of the objective.
    dual_gap_ : float
        Upper bound, in the units of the objective, of its distance to the optimum;
        computed in float64 over all features.
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
    Lasso : One target.

    References
    ----------
    G. Obozinski, B. Taskar and M. I. Jordan (2010). Joint covariate selection and
    joint subspace selection for multiple classification problems. *Statistics and
    Computing* 20(2), 231-252.

    Examples
    --------
    >>> from sklearn.datasets import load_linnerud
    >>> from sparsestat.linear_model import MultiTaskLasso
    >>> X, Y = load_linnerud(return_X_y=True)
    >>> model = MultiTaskLasso(alpha=100.0).fit(X, Y)
    >>> model.coef_.shape, model.converged_
    ((3, 3), True)
    """

    _parameter_constraints: dict = {
        "alpha": [Interval(Real, 0, None, closed="left")],
        "fit_intercept": ["boolean"],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "warm_start": ["boolean"],
    }

    def __init__(self, alpha=1.0, *, fit_intercept=True, tol=1e-6, max_iter=1000, warm_start=False):
        self.alpha = alpha
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
            The design. A sparse X is neither densified nor centred explicitly.
        y : array-like of shape (n_samples, n_targets) or (n_samples,)
            The responses. One response without a second axis gives the lasso, and
            coefficients without one.
        sample_weight : array-like of shape (n_samples,), float or None, default=None
            How often each row occurs.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            For data that are not finite or of the wrong shape, and for ``alpha=0``.

        Warns
        -----
        ConvergenceWarning
            If the duality gap exceeds the tolerance.
        """
        from sparsestat.solvers._rows import RowSolver

        refuse_no_penalty(self.alpha)
        given = X, y, sample_weight
        start = getattr(self, "coef_", None) if self.warm_start else None
        X, Y = validate_data(
            self,
            X,
            y,
            accept_sparse="csc",
            dtype=[np.float64, np.float32],
            multi_output=True,
            y_numeric=True,
        )
        dtype = X.dtype
        weights = check_frequency_weights(sample_weight, X)
        single = Y.ndim == 1
        Y = np.array(Y, dtype=np.float64).reshape(X.shape[0], -1)
        if start is not None:
            start = np.atleast_2d(start)
            start = start.T if start.shape == (Y.shape[1], X.shape[1]) else None
        if sparse.issparse(X):
            X = canonical_csc(X)
        X, Y, weights = drop_unweighted(X, Y, weights)
        with single_threaded_blas():
            columns, x_mean, total = centred_columns(X, weights, self.fit_intercept)
            responses, y_mean, _ = centred_columns(Y, weights, self.fit_intercept)
            implicit = sparse.issparse(X)
            solver = RowSolver(
                columns,
                responses,
                x_mean if implicit else np.zeros_like(x_mean),
                centring_roots(X, weights, self.fit_intercept and implicit),
                start,
            )

            def attributes(B):
                coef = B.T.astype(dtype)
                intercept = y_mean - x_mean @ coef.T.astype(np.float64)
                return {
                    "coef_": coef[0] if single else coef,
                    "intercept_": float(intercept[0]) if single else intercept.astype(dtype),
                    "support_": np.any(B != 0, axis=1),
                }

            context = self._init_callback_context(max_subtasks=None)
            thresholds = np.full(X.shape[1], self.alpha * total)
            required = 0.5 * self.tol * solver.yy
            with FitTicker(self, context, *given) as ticker:
                progress = BestSoFar(
                    ticker,
                    lambda: solver.objective(thresholds),
                    solver.coef.copy,
                    attributes,
                )
                solution = solver.solve(thresholds, required, self.max_iter, progress)
        for name, fitted in attributes(solver.coef).items():
            setattr(self, name, fitted)
        self.objective_ = solution.primal / total
        self.dual_gap_ = solution.gap / total
        self.converged_ = bool(solution.converged)
        self.n_iter_ = solution.n_iter
        point = PathPoint(
            self.alpha,
            np.flatnonzero(self.support_),
            None,
            self.objective_,
            self.dual_gap_,
            0.0,
            self.n_iter_,
            self.converged_,
            solution.stopped,
        )
        warn_unless_converged([point], self.tol, required / total, stacklevel=5)
        return self

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
