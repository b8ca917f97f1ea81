"""Lasso with penalties weighted by an initial estimate, at one strength."""

from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn.utils.validation import validate_data

from sparsestat.linear_model._adaptive import ADAPTIVE_CONSTRAINTS, AdaptivePath
from sparsestat.linear_model._base import SparseLinearModel, refuse_no_penalty
from sparsestat.linear_model._data import canonical_csc
from sparsestat.linear_model._path import warn_unless_converged
from sparsestat.utils._callbacks import FitTicker
from sparsestat.utils._sklearn import Interval, _fit_context, with_callbacks
from sparsestat.utils._threads import single_threaded_blas
from sparsestat.utils._validation import check_frequency_weights


class AdaptiveLassoModel(SparseLinearModel):
    """What the adaptive lasso and its search share."""

    def _validate(self, X, y, sample_weight):
        X, y = validate_data(
            self, X, y, accept_sparse="csc", dtype=[np.float64, np.float32], y_numeric=True
        )
        weights = check_frequency_weights(sample_weight, X)
        dtype = X.dtype
        X = canonical_csc(X) if sparse.issparse(X) else X
        return X, np.asarray(y, dtype=np.float64), weights, dtype

    def _adaptive_path(self, X, y, weights):
        return AdaptivePath(
            X,
            y,
            weights,
            initial=self.initial,
            gamma=self.gamma,
            n_reweight=self.n_reweight,
            fit_intercept=self.fit_intercept,
            tol=self.tol,
            max_iter=self.max_iter,
        )


def adaptive_attributes(coef, intercept, initial_coef, dtype):
    """The fitted attributes of coefficients of shape (n_features,)."""
    return {
        "coef_": coef.astype(dtype, copy=False),
        "intercept_": float(intercept),
        "support_": coef != 0.0,
        "initial_coef_": initial_coef.astype(dtype, copy=False),
    }


class AdaptiveLasso(AdaptiveLassoModel):
    """Lasso whose penalties are weighted by an initial estimate.

    Minimises, with an initial estimate c and weights w_i (ones unless given) of sum W::

        1 / (2 W) sum_i w_i (y_i - x_i'b - b0)^2 + alpha * sum_j |b_j| / |c_j|^gamma

    so that coefficients which are large at first are shrunk little. This removes much of the
    lasso's bias, and selects the true features in the limit where the lasso may not.

    Parameters
    ----------
    alpha : float, default=1.0
        Strength of the penalty, positive.
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
        Largest duality gap relative to the objective of zero coefficients.
    max_iter : int, default=1000
        Largest number of working sets solved in each round.

    Attributes
    ----------
    initial_coef_ : ndarray of shape (n_features,)
        The initial estimate c.
    coef_ : ndarray of shape (n_features,)
        Coefficients b.
    intercept_ : float
        Intercept b0, zero without one.
    sparse_coef_ : CSR array of shape (1, n_features)
        The coefficients without their zeros.
    support_ : ndarray of bool of shape (n_features,)
        Which coefficients are not zero.
    objective_ : float
        Value of the objective, that of the last round.
    dual_gap_ : float
        Upper bound on its distance from the minimum.
    converged_ : bool
        Whether the gap is within the tolerance.
    n_iter_ : int
        Number of working sets solved in all rounds.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had any.

    See Also
    --------
    AdaptiveLassoCV : Chooses the strength.
    adaptive_lasso_path : Solutions for many strengths.
    Lasso : Takes any ``penalty_factor``.

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
    >>> from sklearn.datasets import load_diabetes
    >>> from sparsestat.linear_model import AdaptiveLasso
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = AdaptiveLasso(alpha=10.0).fit(X, y)
    >>> int(model.support_.sum())
    6
    """

    _parameter_constraints: dict = {
        "alpha": [Interval(Real, 0, None, closed="left")],
        **ADAPTIVE_CONSTRAINTS,
        "fit_intercept": ["boolean"],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        alpha=1.0,
        *,
        gamma=1.0,
        n_reweight=1,
        initial="lasso",
        fit_intercept=True,
        tol=1e-6,
        max_iter=1000,
    ):
        self.alpha = alpha
        self.gamma = gamma
        self.n_reweight = n_reweight
        self.initial = initial
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, sample_weight=None):
        """Fit the initial estimate and the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The design. A sparse X is neither densified nor centred explicitly.
        y : array-like of shape (n_samples,)
            The response.
        sample_weight : array-like of shape (n_samples,), float or None, default=None
            How often each row occurs: weight 2 is the row twice. A given ``initial``
            estimator must take them, too.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            For data that are not finite or of the wrong shape, for ``alpha=0``, and for
            ``initial="ols"`` with fewer rows than features.

        Warns
        -----
        ConvergenceWarning
            If the duality gap exceeds the tolerance.
        """
        refuse_no_penalty(self.alpha, has_factors=False)
        given = X, y, sample_weight
        X, y, weights, dtype = self._validate(X, y, sample_weight)
        with single_threaded_blas():
            path = self._adaptive_path(X, y, weights)

            def attributes(coef, intercept):
                return adaptive_attributes(coef, intercept, path.initial_coef, dtype)

            context = self._init_callback_context(max_subtasks=None)
            with FitTicker(self, context, *given) as ticker:

                def progress(*now):
                    return ticker.tick("working set", lambda: attributes(*now))

                point = path.at(self.alpha, progress if ticker.active else None)
        coef = point.dense(X.shape[1])
        for name, value in attributes(coef, point.intercept).items():
            setattr(self, name, value)
        self.objective_, self.dual_gap_ = point.objective, point.dual_gap
        self.n_iter_, self.converged_ = point.n_iter, bool(point.converged)
        warn_unless_converged([point], self.tol, path.required, stacklevel=5)
        return self
