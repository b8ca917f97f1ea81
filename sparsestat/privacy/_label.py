"""Sparse regression with public features and private targets."""

import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import validate_data

from sparsestat.privacy._base import ClipCount, LDPRegressor, user_parts
from sparsestat.privacy._directions import direction_keys, directions
from sparsestat.privacy._errors import IncompatibleReportsError, SimulatedReportError
from sparsestat.privacy._label_regression import fit_labels
from sparsestat.privacy._reports import ReportBatch, check_batch
from sparsestat.privacy._simulation import coin_generator, simulate_reports
from sparsestat.utils._callbacks import FitTicker
from sparsestat.utils._sklearn import Interval, StrOptions, _fit_context, with_callbacks

_COMMON = LDPRegressor._parameter_constraints


class LabelLDPRegressor(LDPRegressor):
    """Sparse linear regression in which the features are public and the targets private.

    Each user sends a randomisation of the clipped target alone, which satisfies
    (epsilon, delta)-local differential privacy for the replacement of the target, pure for the
    mechanism "one_bit". **The features are not protected**: the server knows them, and which
    report belongs to which row. In return the noise does not grow with their number.
    Outside the guarantee are the time of a report, whether it is sent at all, and data that are
    shown to :meth:`predict` or :meth:`score`.

    :meth:`fit` simulates both sides in one process, in which nobody is protected from anybody.
    In deployment clients run :class:`Randomizer` with a configuration of the kind "label", and
    :meth:`fit_reports` is the server.

    Parameters
    ----------
    epsilon : float, default=1.0
        Privacy of a report, above 0 and at most 50.
    n_nonzero : int or None, default=None
        Number of features to keep by iterative hard thresholding [1]_; None selects them by
        the lasso. In both cases their coefficients are then fitted by least squares.
    alpha : "auto" or float, default="auto"
        Penalty of the lasso on standardised features. "auto" is the size that no correlation
        with noise of the spread of the randomised targets exceeds.
    delta : float, default=0.0
        Above 0 for the Gaussian mechanisms only.
    mechanism : {"one_bit", "duchi", "gaussian", "discrete_gaussian"}, default="one_bit"
        How targets are randomised. For a single number "one_bit" and "duchi" are the same:
        the sign of the target, flipped by a coin.
    n_bits : int or None, default=None
        Bits per report; None takes the best number for `epsilon`.
    y_bound : float, default=3.0
        Bound on the target, in public units.
    y_center, y_scale : float, default=0.0 and 1.0
        Public units of the target.
    fit_intercept : bool, default=True
        Whether to fit an intercept, which costs nothing here.
    max_iter : int, default=1000
        Largest number of iterations.
    tol : float, default=1e-6
        Tolerance of the iterations, relative to the penalty or to the coefficients.
    campaign_id : str, default=""
        Goes into the fingerprint of the configuration.
    n_jobs : int or None, default=None
        Number of threads; the result is the same for any.
    random_state : int, RandomState instance, Generator or None, default=None
        Source of the clients' coins.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
        Coefficients in the units of the data.
    intercept_ : float
        Intercept in the units of the data.
    support_ : ndarray of shape (n_features,), bool
        Features with a coefficient other than zero.
    coef_std_error_ : ndarray of shape (n_features,)
        Standard errors of the least squares on the selected features, randomisation included;
        NaN for the others. They take the selection as given.
    alpha_ : float
        Penalty that was used; 0 with `n_nonzero`.
    n_reports_ : int
        Number of reports.
    n_iter_ : int
        Iterations.
    converged_ : bool
        Whether they met the tolerance.
    config_ : LDPConfig
        What the clients were told.
    privacy_ : PrivacySpec
        The guarantee of each report, for the target.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if they were strings.

    Warns
    -----
    PublicUnitsWarning
        If nearly all records of a simulation are clipped.
    ConvergenceWarning
        If `max_iter` was reached.

    See Also
    --------
    LDPSparseRegressor : Protects the features too.

    Notes
    -----
    There are no sample weights, as for :class:`LDPSparseRegressor`. Clipping the target at
    `y_bound` shrinks the coefficients by its probability for normal data, 0.3 % at three
    standard deviations. Device arrays are not taken.

    References
    ----------
    .. [1] D. Wang and J. Xu (2021). On sparse linear regression in the local differential
       privacy model. *IEEE Transactions on Information Theory* 67(2), 1182-1200.

    Examples
    --------
    >>> from sparsestat.datasets import make_sparse_regression
    >>> from sparsestat.privacy import LabelLDPRegressor
    >>> data = make_sparse_regression(20_000, 100, 3, random_state=0)
    >>> model = LabelLDPRegressor(epsilon=1.0, n_nonzero=3, random_state=1)
    >>> model = model.fit(data.data, data.target)
    >>> bool((model.support_ == (data.coef != 0)).all())
    True
    """

    _parameter_constraints: dict = {
        **{
            name: _COMMON[name]
            for name in (
                "epsilon",
                "delta",
                "mechanism",
                "n_bits",
                "y_bound",
                "y_center",
                "y_scale",
                "fit_intercept",
                "campaign_id",
                "n_jobs",
                "random_state",
            )
        },
        "n_nonzero": [Interval(Integral, 1, None, closed="left"), None],
        "alpha": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        epsilon=1.0,
        *,
        n_nonzero=None,
        alpha="auto",
        delta=0.0,
        mechanism="one_bit",
        n_bits=None,
        y_bound=3.0,
        y_center=0.0,
        y_scale=1.0,
        fit_intercept=True,
        max_iter=1000,
        tol=1e-6,
        campaign_id="",
        n_jobs=None,
        random_state=None,
    ):
        self.epsilon = epsilon
        self.n_nonzero = n_nonzero
        self.alpha = alpha
        self.delta = delta
        self.mechanism = mechanism
        self.n_bits = n_bits
        self.y_bound = y_bound
        self.y_center = y_center
        self.y_scale = y_scale
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.campaign_id = campaign_id
        self.n_jobs = n_jobs
        self.random_state = random_state

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Simulate a campaign.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Public features.
        y : array-like of shape (n_samples,)
            Targets of the users.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            For invalid data or parameters, and bounds that would depend on the data.
        """
        context = self._init_callback_context(max_subtasks=None)
        with FitTicker(self, context, X, y) as ticker:
            X, y = self._check_records(X, y)
            self._check_n_nonzero(X.shape[1])
            # An intercept needs no column here, as the server knows the features.
            config = self._make_config("label", X.shape[1], fit_intercept=False)
            batch = self._simulate(X, y, config, ticker)
            # The decorators of a fit stand between it and the caller.
            self._fit_targets(X[: len(batch)], batch, stacklevel=5)
        self.converged_ &= not ticker.stopped
        return self

    def _simulate(self, X, y, config, ticker):
        """One report of each user, part after part; callbacks may look at each of them."""
        units = (np.asarray(y, dtype=np.float64) - config.y_center) / config.y_scale
        clipped = ClipCount(config)
        clipped.add(None, units)
        clipped.warn(stacklevel=6)
        rng, batches = coin_generator(self.random_state), []
        for start, stop in user_parts(len(units)):
            part = units[start:stop]
            # Clients send nothing that depends on the features.
            batches.append(simulate_reports(part[:, None], part, config, rng, n_jobs=self.n_jobs))
            so_far = list(batches)
            if ticker.tick("users", lambda so_far=so_far: self._present(X, so_far)):
                break
        return ReportBatch.concatenate(batches)

    def _present(self, X, batches):
        """Attributes with which the estimator could predict now."""
        batch = ReportBatch.concatenate(batches)
        fit = self._solve(X[: len(batch)], batch)
        return {"coef_": fit.coef.astype(X.dtype), "intercept_": fit.intercept}

    def _solve(self, X, batch):
        config = batch.config
        return fit_labels(
            X.astype(np.float64),
            config.y_center + config.y_scale * label_values(batch),
            n_nonzero=self.n_nonzero,
            alpha=self.alpha,
            fit_intercept=self.fit_intercept,
            max_iter=self.max_iter,
            tol=self.tol,
        )

    def fit_reports(self, X, batch, *, allow_simulated=False):
        """Solve for the coefficients from reports, as the server.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Public features, one row for each report and in their order.
        batch : ReportBatch
            Reports of the kind "label". Their configuration counts; of the parameters of this
            estimator only those of the server are used.
        allow_simulated : bool, default=False
            Whether simulated reports are taken.

        Returns
        -------
        self : object

        Raises
        ------
        ReportError
            If the reports are refused.
        ValueError
            If rows and reports do not fit.
        """
        self._validate_params()
        check_batch(batch)
        if batch.config.kind != "label":
            raise IncompatibleReportsError(
                f"batch must hold reports of the kind 'label', got {batch.config.kind!r}."
            )
        if batch.simulated and not allow_simulated:
            raise SimulatedReportError(
                "batch is simulated, so its randomness can be reproduced; it is taken with "
                "allow_simulated=True only."
            )
        X = validate_data(self, X, accept_sparse="csr", dtype=[np.float64, np.float32])
        if X.shape[1] != batch.config.n_features or X.shape[0] != len(batch):
            raise ValueError(
                f"X must have a row for each of the {len(batch)} reports and "
                f"{batch.config.n_features} features, got shape {X.shape}."
            )
        self._check_n_nonzero(X.shape[1])
        return self._fit_targets(X, batch)

    def _fit_targets(self, X, batch, stacklevel=3):
        config, dtype = batch.config, X.dtype
        fit = self._solve(X, batch)
        self.coef_ = fit.coef.astype(dtype)
        self.intercept_ = fit.intercept
        self.support_ = self.coef_ != 0
        self.coef_std_error_ = fit.std_error
        self.alpha_ = fit.alpha
        self.n_iter_ = fit.n_iter
        self.converged_ = fit.converged
        self.n_reports_ = len(batch)
        self.config_ = config
        self.privacy_ = config.privacy
        if not fit.converged:
            warnings.warn(
                f"{self.n_iter_} iterations did not reach tol={self.tol:g}; raise max_iter.",
                ConvergenceWarning,
                stacklevel=stacklevel,
            )
        return self


def label_values(batch):
    """Unbiased targets of single users, in public units.

    Parameters
    ----------
    batch : ReportBatch
        Reports of the kind "label".

    Returns
    -------
    y : ndarray of shape (n_reports,)
    """
    config = batch.config
    if not config.is_seeded:
        return batch.payload[:, 0] * config.unit
    bits = (batch.payload[:, None] >> np.arange(config.n_bits, dtype=np.uint32)) & np.uint32(1)
    keys = direction_keys(config.fingerprint(), batch.round, config.n_bits)
    z = directions(batch.nonces, keys, 1, config.is_spherical)[:, :, 0]
    return np.sum((2 * bits.astype(np.int64) - 1) * z, axis=1) * config.unit
