"""Logistic and multinomial regression with sparse coefficients at one penalty strength."""

from numbers import Integral, Real

import numpy as np
from scipy import sparse
from scipy.special import expit, softmax
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.validation import check_is_fitted, validate_data

from sparsestat.linear_model._base import BestSoFar, SparseCoefficients, refuse_no_penalty
from sparsestat.linear_model._data import canonical_csc
from sparsestat.linear_model._logistic_path import (
    LogisticPath,
    check_class_weights,
    encode_classes,
    make_logistic_problem,
)
from sparsestat.linear_model._path import warn_unless_converged
from sparsestat.utils._callbacks import FitTicker
from sparsestat.utils._sklearn import Interval, StrOptions, _fit_context, with_callbacks
from sparsestat.utils._threads import single_threaded_blas
from sparsestat.utils._validation import check_frequency_weights, check_penalty_factor


class SparseLogisticModel(ClassifierMixin, SparseCoefficients):
    """What every sparse logistic regression shares: its data, and what it predicts."""

    def decision_function(self, X):
        """Compute the scores.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The design.

        Returns
        -------
        scores : ndarray of shape (n_samples,) or (n_samples, n_classes)
            ``X @ coef_.T + intercept_``; for two classes the logarithm of the odds of
            the second.
        """
        check_is_fitted(self)
        X = validate_data(
            self, X, accept_sparse=["csr", "csc"], dtype=[np.float64, np.float32], reset=False
        )
        scores = safe_sparse_dot(X, self.coef_.T, dense_output=True) + self.intercept_
        return scores[:, 0] if self.classes_.size == 2 else scores

    def predict_proba(self, X):
        """Estimate the probabilities of the classes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The design.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        scores = self.decision_function(X)
        if scores.ndim == 1:
            # Both from the scores: one minus a probability near one has no digits left.
            return np.stack([expit(-scores), expit(scores)], axis=1)
        return softmax(scores, axis=1)

    def predict_log_proba(self, X):
        """Estimate the logarithms of the probabilities of the classes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The design.

        Returns
        -------
        log_probabilities : ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        scores = self.decision_function(X)
        if scores.ndim == 1:
            return -np.logaddexp(0.0, np.stack([scores, -scores], axis=1))
        return scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)

    def predict(self, X):
        """Predict the class.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The design.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            The most probable class of each row.
        """
        scores = self.decision_function(X)
        best = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(axis=1)
        return self.classes_[best]

    def _validate(self, X, y, sample_weight):
        """Checked data: X, the class of each row as a number, weights, and X's dtype."""
        X, y = validate_data(self, X, y, accept_sparse="csc", dtype=[np.float64, np.float32])
        self.classes_, codes = encode_classes(y)
        weights = check_frequency_weights(sample_weight, X)
        check_class_weights(codes, self.classes_, weights, "sample_weight")
        if self.class_weight is not None:
            given = {"sample_weight": weights} if self.class_weight == "balanced" else {}
            per_class = compute_class_weight(self.class_weight, classes=self.classes_, y=y, **given)
            if not np.all(np.isfinite(per_class) & (per_class >= 0.0)):
                raise ValueError(
                    "class_weight must be finite and not negative, got "
                    f"{dict(zip(self.classes_.tolist(), per_class.tolist()))}."
                )
            weights = per_class[codes] * (1.0 if weights is None else weights)
            check_class_weights(codes, self.classes_, weights, "class_weight")
        dtype = X.dtype
        return (canonical_csc(X) if sparse.issparse(X) else X), codes, weights, dtype

    def _problem(self, X, codes, weights):
        return make_logistic_problem(
            X, codes, self.classes_.size, weights, fit_intercept=self.fit_intercept
        )


def logistic_attributes(coef, intercept, dtype):
    """The fitted attributes of coefficients of shape (n_features, n_columns)."""
    return {
        "coef_": np.ascontiguousarray(coef.T, dtype=dtype),
        "intercept_": np.array(intercept, dtype=dtype),
        "support_": np.any(coef != 0.0, axis=1),
    }


class SparseLogisticRegression(SparseLogisticModel):
    """Logistic regression with an l1 penalty, for two or more classes.

    Minimises, with weights w_i (ones unless given) of sum W, penalty factors s_j and
    probabilities p_i that follow from the scores ``B x_i + b0``::

        -1 / W sum_i w_i log p_i(y_i) + alpha * sum_jk s_j |B_kj|

    and certifies the result by its duality gap over all features. Two classes have one row
    of B, and the logistic function gives the probability of the second; more classes have a
    row each, and the softmax function gives their probabilities (multinomial regression).

    Parameters
    ----------
    alpha : float, default=0.01
        Strength of the penalty, positive. ``1 / (alpha * W)`` is what
        :class:`sklearn.linear_model.LogisticRegression` calls ``C``.
    fit_intercept : bool, default=True
        Whether to fit the unpenalised constants b0.
    penalty_factor : array-like of shape (n_features,), default=None
        Factors s_j; zero leaves a feature unpenalised. None stands for ones.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, by which the weights of their rows are multiplied;
        "balanced" gives all classes the same total weight.
    tol : float, default=1e-6
        Largest duality gap relative to the loss of the best constant probabilities.
    max_iter : int, default=1000
        Largest number of Newton steps.
    warm_start : bool, default=False
        Whether to start from the coefficients of the previous fit.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes.
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        Coefficients B.
    intercept_ : ndarray of shape (1,) or (n_classes,)
        Constants b0, zeros without an intercept; of more than two classes they sum to zero.
    sparse_coef_ : CSR array of the shape of ``coef_``
        The coefficients without their zeros.
    support_ : ndarray of bool of shape (n_features,)
        Which features have a coefficient that is not zero.
    objective_ : float
        Value of the objective.
    dual_gap_ : float
        Upper bound on its distance from the minimum.
    converged_ : bool
        Whether the gap is within the tolerance.
    n_iter_ : int
        Number of Newton steps.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had any.

    See Also
    --------
    SparseLogisticRegressionCV : Chooses the strength.
    logistic_path : All strengths of a grid.
    Lasso : The same for a continuous response.

    Notes
    -----
    With more than two classes, adding a number to the coefficients of a feature for all
    classes changes no probability. Where the penalty does not decide which number it is, the
    sparsest choice is reported.

    A Newton step replaces the loss by a weighted sum of squares, which leaves a lasso
    problem for the working-set solver. Coefficients are finite even if a plane separates
    the classes, as long as every feature is penalised.

    The features should have comparable scales, since one penalty acts on all of them.
    Arrays on a device (CuPy) are not taken.

    References
    ----------
    J. Friedman, T. Hastie and R. Tibshirani (2010). Regularization paths for generalized
    linear models via coordinate descent. *Journal of Statistical Software* 33(1), 1-22.

    J. D. Lee, Y. Sun and M. A. Saunders (2014). Proximal Newton-type methods for minimizing
    composite functions. *SIAM Journal on Optimization* 24(3), 1420-1443.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sparsestat.linear_model import SparseLogisticRegression
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), SparseLogisticRegression(alpha=0.02)).fit(X, y)
    >>> int(model[-1].support_.sum()), round(model.score(X, y), 2)
    (7, 0.97)
    """

    _parameter_constraints: dict = {
        "alpha": [Interval(Real, 0, None, closed="left")],
        "fit_intercept": ["boolean"],
        "penalty_factor": ["array-like", None],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "warm_start": ["boolean"],
    }

    def __init__(
        self,
        alpha=0.01,
        *,
        fit_intercept=True,
        penalty_factor=None,
        class_weight=None,
        tol=1e-6,
        max_iter=1000,
        warm_start=False,
    ):
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.penalty_factor = penalty_factor
        self.class_weight = class_weight
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
            The design. A sparse X is neither densified nor centred.
        y : array-like of shape (n_samples,)
            The classes, of any type.
        sample_weight : array-like of shape (n_samples,), float or None, default=None
            How often each row occurs: weight 2 is the row twice.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            For data that are not finite or of the wrong shape, for a single class, for
            ``alpha=0``, and for factors or weights that are negative or all zero.

        Warns
        -----
        ConvergenceWarning
            If the duality gap exceeds the tolerance.
        """
        refuse_no_penalty(self.alpha, "LogisticRegression", "logistic regression")
        given = X, y, sample_weight
        start = self._start(y) if self.warm_start else None
        X, codes, weights, dtype = self._validate(X, y, sample_weight)
        factors = check_penalty_factor(self.penalty_factor, X.shape[1])
        n_columns = 1 if self.classes_.size == 2 else self.classes_.size
        if start is not None and start.shape != (n_columns, X.shape[1]):
            start = None
        with single_threaded_blas():
            path = LogisticPath(
                self._problem(X, codes, weights),
                factors,
                tol=self.tol,
                max_iter=self.max_iter,
                coef=start,
            )
            context = self._init_callback_context(max_subtasks=None)
            with FitTicker(self, context, *given) as ticker:
                progress = BestSoFar(
                    ticker,
                    lambda: path.objective(self.alpha),
                    lambda: (path.solver.coef.copy(), path.intercept()),
                    lambda best: logistic_attributes(best[0], best[1], dtype),
                )
                point = path.at(self.alpha, progress, polish=True)
        coef = point.dense(X.shape[1])
        for name, value in logistic_attributes(coef, point.intercept, dtype).items():
            setattr(self, name, value)
        self.objective_, self.dual_gap_ = point.objective, point.dual_gap
        self.n_iter_, self.converged_ = point.n_iter, bool(point.converged)
        warn_unless_converged([point], self.tol, path.required, stacklevel=5, unit="Newton steps")
        return self

    def _start(self, y):
        """Coefficients of the previous fit, if it was to the same classes."""
        coef = getattr(self, "coef_", None)
        if coef is None or not np.array_equal(np.unique(y), self.classes_):
            return None
        return np.asarray(coef, dtype=np.float64)
