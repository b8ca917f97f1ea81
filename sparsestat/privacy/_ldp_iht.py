"""Iterative hard thresholding under local differential privacy, for squared loss."""

import math

from sparsestat.privacy._base import LDPRegressor, rows_in_public_units
from sparsestat.privacy._iht_estimator import IHT_CONSTRAINTS, IHTEstimator
from sparsestat.privacy._paper import duchi_scale, paper_ldp_iht
from sparsestat.privacy._simulation import coin_generator
from sparsestat.utils._callbacks import FitTicker
from sparsestat.utils._sklearn import _fit_context, with_callbacks


class LDPIHTRegressor(IHTEstimator, LDPRegressor):
    """Sparse linear regression from gradients that each user randomises, in rounds.

    Users are split into rounds. In each of them the server broadcasts coefficients, the users
    of the round answer with a randomised gradient of Huber's loss at their own record, and the
    server takes a step, averages it with those before, keeps the `n_nonzero` largest
    coefficients and projects onto a ball.
    Each user answers once, so that a report satisfies (epsilon, delta)-local differential
    privacy for the replacement of one record, pure for the mechanisms "one_bit" and "duchi".
    Outside the guarantee are the time and the round of a report, whether it is sent at all, and
    data that are shown to :meth:`predict` or :meth:`score`.

    :meth:`fit` simulates both sides in one process, in which nobody is protected from anybody:
    it tells what a campaign would give. In deployment, clients run :class:`Randomizer`, the
    server :class:`LDPIHTServer`, and :meth:`fit_server` turns its result into this estimator.

    Parameters
    ----------
    epsilon : float, default=1.0
        Privacy of a report, above 0 and at most 50.
    n_nonzero : int or None, default=None
        Number of features to keep, which is public; None takes the square root of the number
        of features, rounded up.
    n_rounds : int, default=4
        Number of rounds. More rounds have fewer users each.
    step : "auto" or float, default="auto"
        Length of a step, see :class:`LDPIHTServer`.
    averaging : bool, default=True
        Whether points are made from the average of the steps since the second round, or from
        the last step alone, as in the papers.
    delta : float, default=0.0
        Above 0 for the Gaussian mechanisms only.
    mechanism : {"one_bit", "duchi", "gaussian", "discrete_gaussian"}, default="one_bit"
        How gradients are randomised, see :class:`LDPConfig`.
    n_bits : int or None, default=None
        Bits per report; None takes the best number for `epsilon`.
    x_bound : "sqrt_d" or float, default="sqrt_d"
        Radius to which features are clipped, in public units; "sqrt_d" is the square root of
        the number of columns.
    residual_bound : float, default=1.5
        Bound on the residual in a gradient, in public units of the target.
    coef_bound : float, default=1.0
        Public bound on the Euclidean norm of the coefficients, in public units; the intercept
        is not counted.
    feature_center, feature_scale : array-like of shape (n_features,) or None, default=None
        Public units of the features; None is 0 and 1. They must not come from the records.
    y_center, y_scale : float, default=0.0 and 1.0
        Public units of the target.
    fit_intercept : bool, default=False
        Whether a column of ones is added; its coefficient is never set to zero.
    paper_constants : bool, default=False
        Whether to run the algorithm with the constants of [2]_: every entry clipped at
        ``sqrt(log n)``, a deterministic bound on gradients, ``log n`` rounds, eight times
        `n_nonzero` features kept, unit steps and no averaging. Only for comparison by
        :meth:`fit`; the error is that of zero unless there are very many users.
    campaign_id : str, default=""
        Goes into the fingerprint of the configuration.
    n_jobs : int or None, default=None
        Number of threads; the result is the same for any.
    random_state : int, RandomState instance, Generator or None, default=None
        Source of the rounds' groups and of the clients' coins.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
        Coefficients in the units of the data.
    intercept_ : float
        Intercept in the units of the data.
    support_ : ndarray of shape (n_features,), bool
        Features with a coefficient other than zero.
    coef_std_error_ : ndarray of shape (n_features,)
        Standard deviation that the randomisation gives each kept coefficient, NaN for the
        others. It is known from the mechanism; the choice of the features and the distance
        from the limit of the iteration are not in it.
    noise_scale_ : float
        The same in public units.
    theta_ : ndarray of shape (n_columns,)
        Coefficients in public units, the intercept first.
    path_ : ndarray of shape (n_iter_ + 1, n_columns)
        The broadcast points and the last one, in public units.
    n_reports_ : int
        Number of reports.
    n_iter_ : int
        Number of rounds.
    converged_ : bool
        Whether all rounds took place.
    config_ : LDPConfig
        What the clients were told; None with `paper_constants`.
    privacy_ : PrivacySpec
        The guarantee of each report.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if they were strings.

    Warns
    -----
    PublicUnitsWarning
        If nearly all records of a simulation are clipped.
    LowSignalWarning
        If the known noise hides any coefficient within `coef_bound`.

    See Also
    --------
    LDPSparseRegressor : One report per user and no rounds.
    LDPIHTClassifier : Logistic loss.

    Notes
    -----
    There are no sample weights: a weight that the server may know would be public, and one
    that depends on a record would be part of what is to be protected.

    Parameters that clients use must not be tuned on the records. A grid search over them
    simulates several campaigns; carrying it out would add up their epsilons.

    Device arrays are not taken by :meth:`fit`.

    References
    ----------
    .. [1] D. Wang and J. Xu (2021). On sparse linear regression in the local differential
       privacy model. *IEEE Transactions on Information Theory* 67(2), 1182-1200.
    .. [2] L. Zhu, M. Ding, V. Aggarwal, J. Xu and D. Wang (2024). Improved analysis of sparse
       linear regression in local differential privacy model. *International Conference on
       Learning Representations*.

    Examples
    --------
    >>> from sparsestat.datasets import make_sparse_regression
    >>> from sparsestat.privacy import LDPIHTRegressor
    >>> data = make_sparse_regression(100_000, 20, 3, random_state=0)
    >>> model = LDPIHTRegressor(epsilon=1.0, n_nonzero=3, random_state=1)
    >>> model = model.fit(data.data, data.target)
    >>> bool(abs(model.coef_ - data.coef).max() < 0.4)
    True
    """

    _parameter_constraints: dict = {
        **IHT_CONSTRAINTS,
        "residual_bound": LDPRegressor._parameter_constraints["y_bound"],
        "y_center": LDPRegressor._parameter_constraints["y_center"],
        "y_scale": LDPRegressor._parameter_constraints["y_scale"],
        "paper_constants": ["boolean"],
    }

    def __init__(
        self,
        epsilon=1.0,
        *,
        n_nonzero=None,
        n_rounds=4,
        step="auto",
        averaging=True,
        delta=0.0,
        mechanism="one_bit",
        n_bits=None,
        x_bound="sqrt_d",
        residual_bound=1.5,
        coef_bound=1.0,
        feature_center=None,
        feature_scale=None,
        y_center=0.0,
        y_scale=1.0,
        fit_intercept=False,
        paper_constants=False,
        campaign_id="",
        n_jobs=None,
        random_state=None,
    ):
        self.epsilon = epsilon
        self.n_nonzero = n_nonzero
        self.n_rounds = n_rounds
        self.step = step
        self.averaging = averaging
        self.delta = delta
        self.mechanism = mechanism
        self.n_bits = n_bits
        self.x_bound = x_bound
        self.residual_bound = residual_bound
        self.coef_bound = coef_bound
        self.feature_center = feature_center
        self.feature_scale = feature_scale
        self.y_center = y_center
        self.y_scale = y_scale
        self.fit_intercept = fit_intercept
        self.paper_constants = paper_constants
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
            Records of the users; one user after another becomes dense.
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
        context = self._init_callback_context(max_subtasks=self.n_rounds)
        given = X, y
        X, y = self._check_records(X, y)
        if self.paper_constants:
            with FitTicker(self, context, *given):
                return self._fit_paper(X, y)
        return self._fit_rounds(X, y, given, context)

    def _fit_paper(self, X, y):
        n_samples, n_features = X.shape
        self._check_n_nonzero(n_features)
        if self.fit_intercept or self.mechanism not in ("one_bit", "duchi"):
            raise ValueError(
                "paper_constants=True needs a pure mechanism and fit_intercept=False, got "
                f"mechanism={self.mechanism!r} and fit_intercept={self.fit_intercept!r}."
            )
        config = self._make_config("gradient", n_features)
        rows, targets = rows_in_public_units(X, y, config)
        result = paper_ldp_iht(
            rows,
            targets,
            config.epsilon,
            self._n_kept(n_features),
            n_rounds=min(n_samples, max(1, math.ceil(math.log(n_samples)))),
            rng=coin_generator(self.random_state),
        )
        self.theta_, self.path_ = result.coef, result.coefs
        rounds = len(result.coefs) - 1
        released = duchi_scale(n_features, result.radius, config.epsilon) / math.sqrt(n_features)
        self.noise_scale_ = released / math.sqrt(n_samples // rounds)
        self._set_coefficients(result.coef, self.noise_scale_, config, X.dtype)
        self.config_, self.privacy_ = None, config.privacy
        self.n_reports_ = n_samples // rounds * rounds
        self.n_iter_, self.converged_ = rounds, True
        return self
