"""What the linear models share: refusals, progress, and sparse coefficients once fitted."""

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.feature_selection import SelectorMixin
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.validation import check_is_fitted, validate_data

from sparsestat.utils._arrays import get_namespace
from sparsestat.utils._sklearn import CallbackSupportMixin


def refuse_no_penalty(
    alpha, instead="LinearRegression", problem="least squares", *, has_factors=True
):
    """Send those who want no penalty at all to an estimator that is made for it."""
    if alpha == 0:
        message = (
            f"alpha=0 asks for {problem} without a penalty, for which "
            f"sklearn.linear_model.{instead} is made; alpha must be positive."
        )
        if has_factors:
            message += " Single features stay unpenalised where a penalty_factor is zero."
        raise ValueError(message)


class BestSoFar:
    """Tick once for every working set, with the best coefficients until then.

    A solver that goes through stronger penalties first does not lower the objective of
    the wanted one at every step; who watches a fit should not have to know that.

    Parameters
    ----------
    ticker : FitTicker
        What to tick.
    objective : callable
        Returns the objective of the present coefficients.
    coefficients : callable
        Returns a copy of them.
    attributes : callable
        Turns coefficients into fitted attributes.
    """

    def __init__(self, ticker, objective, coefficients, attributes):
        self._ticker = ticker
        self._objective = objective
        self._coefficients = coefficients
        self._attributes = attributes
        self._best = np.inf, None

    def __call__(self):
        """Report one working set; return whether a callback asks to stop."""
        if not self._ticker.active:
            return False
        objective = self._objective()
        if objective <= self._best[0]:
            self._best = objective, self._coefficients()
        return self._ticker.tick("working set", lambda: self._attributes(self._best[1]))


class SparseCoefficients(CallbackSupportMixin, SelectorMixin, BaseEstimator):
    """What every linear model with sparse coefficients shares once it is fitted."""

    @property
    def sparse_coef_(self):
        """The coefficients as a CSR array of shape (1, n_features) or (n_targets, n_features)."""
        check_is_fitted(self)
        return sparse.csr_array(np.atleast_2d(self.coef_))

    def inverse_transform(self, X):
        """Put columns that :meth:`transform` selected back among zeros.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_selected_features)
            Selected columns; there may be none.

        Returns
        -------
        X_original : array of shape (n_samples, n_features)
            The columns at their places, zeros elsewhere.
        """
        if not np.any(self.get_support()) and np.ndim(X) == 2 and np.shape(X)[1] == 0:
            return np.zeros((np.shape(X)[0], self.n_features_in_))
        return super().inverse_transform(X)

    def _get_support_mask(self):
        check_is_fitted(self)
        return self.support_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


class SparseLinearModel(RegressorMixin, SparseCoefficients):
    """What every linear regression with sparse coefficients shares once it is fitted."""

    def predict(self, X):
        """Predict the response.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The design.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_targets)
            ``X @ coef_.T + intercept_``.
        """
        check_is_fitted(self)
        if not sparse.issparse(X) and not get_namespace(X, self.coef_)[2]:
            return X @ self.coef_ + self.intercept_
        X = validate_data(
            self, X, accept_sparse=["csr", "csc"], dtype=[np.float64, np.float32], reset=False
        )
        return safe_sparse_dot(X, self.coef_.T, dense_output=True) + self.intercept_
