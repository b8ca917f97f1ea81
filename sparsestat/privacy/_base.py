"""What the estimators share: the client's parameters, and the way back to the data's units."""

import warnings
from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.validation import check_is_fitted, validate_data

from sparsestat.privacy._config import LDPConfig
from sparsestat.privacy._errors import PublicUnitsWarning
from sparsestat.privacy._records import clean_records
from sparsestat.utils._sklearn import CallbackSupportMixin, Interval, StrOptions
from sparsestat.utils._threads import thread_ranges

# A fit reports its progress at least this often, and after this many users.
_PARTS = 8
_USERS = 2**16
# Of fewer records all may be clipped by chance: about half of those in the right units are.
_TELLING = 20


class LDPEstimator(CallbackSupportMixin):
    """Mixin of the estimators that simulate clients and server in one process.

    It stands before the mixin for regressors or classifiers, whose tags it completes.
    """

    # A bound that is a string goes on to the configuration, which explains why it is refused.
    _parameter_constraints: dict = {
        "epsilon": [Interval(Real, 0, 50, closed="right")],
        "delta": [Interval(Real, 0, 1, closed="left")],
        "n_bits": [Interval(Integral, 1, 32, closed="both"), None],
        "x_bound": [str, Interval(Real, 0, None, closed="neither")],
        "y_bound": [str, Interval(Real, 0, None, closed="neither")],
        "feature_center": [str, "array-like", None],
        "feature_scale": [str, "array-like", None],
        "y_center": [str, Interval(Real, None, None, closed="neither")],
        "y_scale": [str, Interval(Real, 0, None, closed="neither")],
        "coef_bound": [Interval(Real, 0, None, closed="neither")],
        "fit_intercept": ["boolean"],
        "campaign_id": [str],
        "n_jobs": [Integral, None],
        "random_state": ["random_state", np.random.Generator],
        "mechanism": [StrOptions({"one_bit", "duchi", "gaussian", "discrete_gaussian"})],
    }

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        for kind in (tags.regressor_tags, tags.classifier_tags):
            if kind is not None:
                # A few hundred users, each of whom says next to nothing.
                kind.poor_score = True
        return tags

    def _make_config(self, kind, n_features, **settings):
        """The public description of the campaign that the parameters ask for."""
        names = ("delta", "mechanism", "n_bits", "feature_center", "feature_scale", "y_bound")
        names += ("y_center", "y_scale", "fit_intercept", "campaign_id", "residual_bound", "gamma")
        for name in names:
            if hasattr(self, name):
                settings.setdefault(name, getattr(self, name))
        if getattr(self, "x_bound", "sqrt_d") != "sqrt_d":
            settings["x_bound"] = self.x_bound
        return LDPConfig(kind, n_features, float(self.epsilon), **settings)

    def _check_n_nonzero(self, n_features):
        if self.n_nonzero is not None and self.n_nonzero > n_features:
            raise ValueError(
                f"n_nonzero must be at most the number of features, {n_features}, got "
                f"{self.n_nonzero}."
            )

    def _set_coefficients(self, theta, deviations, config, dtype):
        """Take coefficients and their standard deviations from public units to the data's."""
        for name, value in self._reconstruct(theta, config, dtype).items():
            setattr(self, name, value)
        self.support_ = np.ravel(self.coef_) != 0
        known = np.where(self.support_, deviations, np.nan)
        self.coef_std_error_ = known * np.abs(unit_coefficients(config))

    def _reconstruct(self, theta, config, dtype):
        """Attributes with which the estimator could predict now."""
        coef, intercept = raw_coefficients(theta, config)
        return {"coef_": coef.astype(dtype), "intercept_": float(intercept)}

    def _linear_predictor(self, X):
        check_is_fitted(self)
        X = validate_data(
            self, X, accept_sparse=["csr", "csc"], dtype=[np.float64, np.float32], reset=False
        )
        return safe_sparse_dot(X, self.coef_.T, dense_output=True) + self.intercept_


class LDPRegressor(LDPEstimator, RegressorMixin, BaseEstimator):
    """Base of the linear regressors."""

    def _check_records(self, X, y, *, reset=True):
        return validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            y_numeric=True,
            reset=reset,
        )

    def predict(self, X):
        """Predict the target.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Features in the units of the data.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            ``X @ coef_ + intercept_``.
        """
        return self._linear_predictor(X)


def free_columns(config):
    """Columns that are always kept: the intercept, if there is one.

    Parameters
    ----------
    config : LDPConfig
        The campaign.

    Returns
    -------
    free : ndarray of shape (n_columns,), bool
    """
    return np.arange(config.n_columns) < config.fit_intercept


def raw_coefficients(theta, config):
    """Coefficients and intercept in the units of the data.

    Parameters
    ----------
    theta : ndarray of shape (n_columns,)
        Coefficients in public units, the intercept first if there is one.
    config : LDPConfig
        The campaign.

    Returns
    -------
    coef : ndarray of shape (n_features,)
    intercept : float
    """
    logistic = config.loss == "logistic"
    scale, center = (1.0, 0.0) if logistic else (config.y_scale, config.y_center)
    coef = scale * theta[config.fit_intercept :]
    if config.feature_scale is not None:
        coef = coef / np.asarray(config.feature_scale)
    intercept = center + (scale * theta[0] if config.fit_intercept else 0.0)
    if config.feature_center is not None:
        intercept -= coef @ np.asarray(config.feature_center)
    return coef, intercept


def unit_coefficients(config):
    """What one public unit of each coefficient is in units of the data.

    Parameters
    ----------
    config : LDPConfig
        The campaign.

    Returns
    -------
    units : ndarray of shape (n_features,)
    """
    zero, one = np.zeros(config.n_columns), np.ones(config.n_columns)
    return raw_coefficients(one, config)[0] - raw_coefficients(zero, config)[0]


class ClipCount:
    """How many of the simulated records are clipped, which no server could know.

    Parameters
    ----------
    config : LDPConfig
        The campaign.
    """

    def __init__(self, config):
        self.config = config
        self.n_records = self.n_features = self.n_targets = 0

    def add(self, X, y):
        """Count records.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_columns)
            Features in public units.
        y : ndarray of shape (n_samples,)
            Targets in public units.
        """
        config, weights = self.config, np.ones(len(y))
        if config.kind != "label":
            with np.errstate(over="ignore", divide="ignore"):
                norms = np.sqrt(np.einsum("ij,ij->i", X, X))
                weights = np.minimum(1.0, config.x_bound / norms)
        bound = config.residual_bound if config.kind == "gradient" else config.y_bound
        self.n_records += len(y)
        self.n_features += int(np.count_nonzero(weights < 1.0))
        if config.loss != "logistic":
            self.n_targets += int(np.count_nonzero(np.abs(weights * y) > bound))

    def warn(self, stacklevel):
        """Warn if the units cannot be meant.

        Parameters
        ----------
        stacklevel : int
            Of the caller that is to blame.
        """
        if self.n_records < _TELLING:
            return
        for what, count, most, remedy in (
            ("features", self.n_features, 0.95, "feature_center, feature_scale and x_bound"),
            ("targets", self.n_targets, 0.8, "y_center, y_scale and the bound on the target"),
        ):
            if count > most * self.n_records:
                warnings.warn(
                    f"The {what} of {count / self.n_records:.0%} of the records are clipped, so "
                    f"little of them is left: set {remedy} to what is publicly known. In a "
                    "campaign nobody would notice.",
                    PublicUnitsWarning,
                    stacklevel=stacklevel + 1,
                )


def user_parts(n_samples):
    """Ranges of users that are simulated one after another.

    The ranges depend on the number of users alone, and so do the reports.

    Parameters
    ----------
    n_samples : int
        Number of users.

    Returns
    -------
    parts : list of (int, int)
    """
    return thread_ranges(n_samples, max(_PARTS, -(-n_samples // _USERS)))


def rows_in_public_units(X, y, config):
    """Put rows of a design into public units; sparse rows become dense, as on a client.

    Parameters
    ----------
    X : {ndarray, sparse array} of shape (n_samples, n_features)
        Few enough rows to be dense.
    y : ndarray of shape (n_samples,)
        Targets.
    config : LDPConfig
        The campaign.

    Returns
    -------
    X : ndarray of shape (n_samples, n_columns)
    y : ndarray of shape (n_samples,)
    """
    return clean_records(X.toarray() if sparse.issparse(X) else X, y, config)
