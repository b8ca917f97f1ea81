"""Sparse linear regression from one randomised report per user."""

from numbers import Integral, Real

import numpy as np

from sparsestat.privacy._aggregator import MomentAggregator, NoisyMoments
from sparsestat.privacy._base import ClipCount, rows_in_public_units
from sparsestat.privacy._config import PrivacySpec
from sparsestat.privacy._moment_estimator import SERVER_PARAMETERS, MomentEstimator, MomentReader
from sparsestat.privacy._paper import closed_form, paper_moments, paper_threshold
from sparsestat.privacy._reports import check_batch
from sparsestat.privacy._simulation import coin_generator
from sparsestat.utils._callbacks import FitTicker
from sparsestat.utils._sklearn import Interval, StrOptions, _fit_context, with_callbacks
from sparsestat.utils._validation import set_columns


class LDPSparseRegressor(MomentEstimator):
    """Sparse linear regression from one report that each user randomises alone.

    Each user sends one randomised message about the products of their own features and
    target. The server averages the messages into a Gram matrix and cross moments with known
    noise, and solves for sparse coefficients. A report satisfies (epsilon, delta)-local
    differential privacy for the replacement of one record, pure for the mechanisms "one_bit"
    and "duchi". Everything after the reports is post-processing and costs no privacy.
    Outside the guarantee are the time of a report, whether it is sent at all, and data that are
    shown to :meth:`predict` or :meth:`score`.

    :meth:`fit` simulates clients and server in one process, in which nobody is protected from
    anybody: it tells what a campaign would give. In deployment clients run
    :class:`Randomizer`, and :meth:`fit_reports` or :meth:`fit_aggregate` are the server.

    Parameters
    ----------
    epsilon : float, default=1.0
        Privacy of a report, above 0 and at most 50.
    n_nonzero : int or None, default=None
        Number of features to keep, if it is known; None leaves it to `alpha`.
    solver : {"auto", "matching_pursuit", "topk_refit", "corrected_lasso", "closed_form"}, \
default="auto"
        How the server solves the moments. "matching_pursuit" admits one feature after another,
        solving the equations of all of them each time, until there are `n_nonzero` or the
        correlations that are left may be noise [3]_. "topk_refit" solves the equations of the
        largest coefficients of a weakly penalised pilot. "corrected_lasso" minimises the
        quadratic form with an L1 penalty within the ball of `coef_bound` [2]_, also if its
        matrix is indefinite. "closed_form" inverts the Gram matrix, with small eigenvalues
        raised, and applies `threshold` [1]_. "auto" is "topk_refit" if `n_nonzero` is given, and
        "matching_pursuit" otherwise.
    threshold : {"refit", "hard", "soft"}, default="refit"
        What "closed_form" does beyond the threshold: solve the equations of the features that
        pass it again, keep their coefficients, or shrink them as in [1]_.
    alpha : "auto" or float, default="auto"
        What is taken for noise, in public units: in a coefficient for "closed_form", and in
        the correlation of a feature with what is not explained yet for the others, which is
        the penalty of "corrected_lasso". "auto" derives it from the known noise:
        ``sqrt(2 log d)`` standard deviations.
    delta : float, default=0.0
        Above 0 for the Gaussian mechanisms only.
    mechanism : {"one_bit", "duchi", "gaussian", "discrete_gaussian"}, default="one_bit"
        How the moments are randomised, see :class:`LDPConfig`.
    n_bits : int or None, default=None
        Bits per report; None takes the best number for `epsilon`.
    x_bound : "sqrt_d" or float, default="sqrt_d"
        Radius to which features are clipped, in public units; "sqrt_d" is the square root of
        the number of columns, about the median norm of standardised features. Features and
        target are clipped by one weight, which does not bias the coefficients.
    y_bound : float, default=2.5
        Bound on the target, in public units.
    coef_bound : float, default=1.0
        Public bound on the Euclidean norm of the coefficients, in public units; the intercept
        is not counted.
    gamma : float or None, default=None
        Weight of the cross moments against the Gram matrix in a report, see
        :class:`LDPConfig`.
    feature_center, feature_scale : array-like of shape (n_features,) or None, default=None
        Public units of the features; None is 0 and 1. They must not come from the records.
    y_center, y_scale : float, default=0.0 and 1.0
        Public units of the target.
    fit_intercept : bool, default=False
        Whether a column of ones is added; its coefficient is never set to zero.
    X_public : array-like of shape (n_rows, n_features) or None, default=None
        Features of public rows, without targets, with which users need to report cross
        moments only. The error has a floor of the order of ``sqrt(n_features / n_rows)``.
    gram : {"auto", "public", "private", "combined"}, default="auto"
        Where the Gram matrix comes from: public rows, reports, or an average of both weighted
        by their precision. "auto" takes "public" from 50 public rows per column on,
        "combined" with fewer, and "private" without any.
    paper_constants : bool, default=False
        Whether to run the algorithm with the constants of [1]_: Gaussian noise of the classic
        calibration on each of the two moments, clipping that differs between them, and a soft
        threshold. Only for comparison by :meth:`fit`; needs `delta` above 0, and far more
        users. Of the bounds, `x_bound` and `y_bound` are not used.
    max_iter : int, default=1000
        Largest number of iterations of "corrected_lasso", and of the pilot of "topk_refit".
    tol : float, default=1e-8
        It stops when a step is shorter than this, relative to `coef_bound`.
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
        Standard errors of the selected coefficients by the delta method from the known noise,
        in the units of the data; NaN for the others. They take the selection as given.
    alpha_ : float
        The strength that was used; 0 if `n_nonzero` alone decided.
    threshold_ : ndarray of shape (n_columns,)
        Size below which a coefficient is taken for noise, in public units.
    theta_ : ndarray of shape (n_columns,)
        Coefficients in public units, the intercept first.
    moments_ : NoisyMoments
        The moments that were solved.
    aggregator_ : MomentAggregator
        State of the server; None with `paper_constants`.
    condition_number_ : float
        Of the matrix that was solved; infinite for an indefinite one.
    n_reports_ : int
        Number of reports.
    n_iter_ : int
        Iterations of the solver, 1 for a closed form.
    converged_ : bool
        Whether the solver met its tolerance, and no callback stopped the campaign.
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
    IllConditionedWarning
        If eigenvalues of the private Gram matrix were raised.
    ConvergenceWarning
        If `max_iter` was reached.

    See Also
    --------
    LDPSparseRegressorCV : Chooses the solver's parameters without further privacy.
    LDPIHTRegressor : Fewer users for the same error, in several rounds.
    plan_ldp : How many users are needed.

    Notes
    -----
    There are no sample weights: a weight that the server may know would be public, and one
    that depends on a record would be part of what is to be protected.

    Parameters of the server (`n_nonzero`, `solver`, `threshold`, `alpha`, `coef_bound`) can be
    tuned on one set of reports at will. Those that clients use must be fixed before: a grid
    search over them simulates several campaigns, and carrying it out would add up their
    epsilons. The data on which :meth:`score` is computed are not protected.

    Device arrays are not taken by :meth:`fit`; batches of reports on a device are decoded
    there.

    References
    ----------
    .. [1] L. Zhu, M. Ding, V. Aggarwal, J. Xu and D. Wang (2024). Improved analysis of sparse
       linear regression in local differential privacy model. *International Conference on
       Learning Representations*.
    .. [2] P.-L. Loh and M. J. Wainwright (2012). High-dimensional regression with noisy and
       missing data: provable guarantees with nonconvexity. *Annals of Statistics* 40(3),
       1637-1664.
    .. [3] Y. Chen and C. Caramanis (2013). Noisy and missing data regression:
       distribution-oblivious support recovery. *International Conference on Machine
       Learning*, 383-391.

    Examples
    --------
    >>> from sparsestat.datasets import make_sparse_regression
    >>> from sparsestat.privacy import LDPSparseRegressor
    >>> data = make_sparse_regression(300_000, 10, 3, random_state=0)
    >>> model = LDPSparseRegressor(epsilon=1.0, n_nonzero=3, random_state=1)
    >>> model = model.fit(data.data, data.target)
    >>> bool((model.support_ == (data.coef != 0)).all()), model.privacy_.epsilon
    (True, 1.0)

    The same on a server that has only the reports:

    >>> from sparsestat.privacy import SimulationRandomizer
    >>> clients = SimulationRandomizer(model.config_, random_state=2)
    >>> batch = clients.randomize_batch(data.data, data.target)
    >>> server = LDPSparseRegressor(n_nonzero=3).fit_reports(batch, allow_simulated=True)
    >>> bool(abs(server.coef_ - data.coef).max() < 0.25)
    True
    """

    _parameter_constraints: dict = {
        **MomentEstimator._parameter_constraints,
        "n_nonzero": [Interval(Integral, 1, None, closed="left"), None],
        "solver": [
            StrOptions({"auto", "matching_pursuit", "topk_refit", "corrected_lasso", "closed_form"})
        ],
        "threshold": [StrOptions({"refit", "hard", "soft"})],
        "alpha": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "paper_constants": ["boolean"],
    }

    def __init__(
        self,
        epsilon=1.0,
        *,
        n_nonzero=None,
        solver="auto",
        threshold="refit",
        alpha="auto",
        delta=0.0,
        mechanism="one_bit",
        n_bits=None,
        x_bound="sqrt_d",
        y_bound=2.5,
        coef_bound=1.0,
        gamma=None,
        feature_center=None,
        feature_scale=None,
        y_center=0.0,
        y_scale=1.0,
        fit_intercept=False,
        X_public=None,
        gram="auto",
        paper_constants=False,
        max_iter=1000,
        tol=1e-8,
        campaign_id="",
        n_jobs=None,
        random_state=None,
    ):
        self.epsilon = epsilon
        self.n_nonzero = n_nonzero
        self.solver = solver
        self.threshold = threshold
        self.alpha = alpha
        self.delta = delta
        self.mechanism = mechanism
        self.n_bits = n_bits
        self.x_bound = x_bound
        self.y_bound = y_bound
        self.coef_bound = coef_bound
        self.gamma = gamma
        self.feature_center = feature_center
        self.feature_scale = feature_scale
        self.y_center = y_center
        self.y_scale = y_scale
        self.fit_intercept = fit_intercept
        self.X_public = X_public
        self.gram = gram
        self.paper_constants = paper_constants
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
        return self._fit(X, y, previous=None)

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y):
        """Simulate the reports of further users and solve again.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Records of users that have not reported yet.
        y : array-like of shape (n_samples,)
            Their targets.

        Returns
        -------
        self : object

        Raises
        ------
        IncompatibleReportsError
            If the parameters ask for another campaign than the reports so far are of.
        ValueError
            As :meth:`fit`, and with `paper_constants`. The state is untouched after an error.
        """
        if self.paper_constants:
            raise ValueError(
                "paper_constants=True is for fit only: its bounds depend on the number of users."
            )
        return self._fit(X, y, previous=getattr(self, "aggregator_", None))

    def _fit(self, X, y, previous):
        context = self._init_callback_context(max_subtasks=None)
        with FitTicker(self, context, X, y) as ticker:
            X, y = self._check_records(X, y, reset=previous is None)
            self._check_n_nonzero(X.shape[1])
            if self.paper_constants:
                return self._fit_paper(X, y)
            config = self._campaign(X.shape[1])
            total = MomentAggregator(config, allow_simulated=True) if previous is None else previous
            clipped, read = ClipCount(config), MomentReader(self, config)
            total = total + self._simulate(
                X,
                y,
                config,
                ticker,
                lambda now: self._coefficients(total + now, read, X.dtype),
                clipped,
                first=total.n_reports_,
            )
            clipped.warn(stacklevel=5)
            # The decorators of a fit stand between it and the caller.
            self._solve(total, read, X.dtype, stacklevel=7)
        self.converged_ &= not ticker.stopped
        return self

    def _fit_paper(self, X, y):
        if self.fit_intercept or self.delta == 0:
            raise ValueError(
                "paper_constants=True needs delta above 0 and fit_intercept=False, got "
                f"delta={self.delta!r} and fit_intercept={self.fit_intercept!r}."
            )
        public = self._public_rows(X.shape[1])
        config = self._make_config("moments", X.shape[1], delta=0.0, mechanism="one_bit")
        rows, targets = rows_in_public_units(X, y, config)
        if public is not None:
            public = rows_in_public_units(public, np.zeros(len(public)), config)[0]
        moments = paper_moments(
            rows,
            targets,
            float(self.epsilon),
            float(self.delta),
            X_public=public,
            rng=coin_generator(self.random_state),
        )
        alpha = self.alpha
        if alpha == "auto":
            alpha = paper_threshold(moments, float(self.coef_bound))
        self.theta_ = closed_form(moments.S, moments.b, float(alpha))
        self._set_coefficients(self.theta_, np.nan, config, X.dtype)
        self.threshold_ = np.full(X.shape[1], float(alpha))
        self.moments_ = NoisyMoments(
            moments.S, moments.b, len(targets), moments.sd_S, moments.sd_S, moments.sd_b
        )
        self.condition_number_ = float(np.linalg.cond(moments.S))
        self.config_, self.aggregator_ = None, None
        self.privacy_ = PrivacySpec(float(self.epsilon), float(self.delta), None)
        self.n_reports_, self.n_iter_, self.converged_ = len(targets), 1, True
        return self

    def fit_reports(self, batch, *, allow_simulated=False):
        """Solve for the coefficients from reports, as the server.

        Parameters
        ----------
        batch : ReportBatch
            Reports of the kind "moments" or "cross". Their configuration counts; of the
            parameters of this estimator only those of the server are used.
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
            If public rows are missing or do not fit.
        """
        return self._fit_state(self._aggregate(batch, allow_simulated))

    def partial_fit_reports(self, batch, *, allow_simulated=False):
        """Add reports to those so far and solve again, as the server.

        Parameters
        ----------
        batch : ReportBatch
            Reports of the same campaign.
        allow_simulated : bool, default=False
            Whether simulated reports are taken.

        Returns
        -------
        self : object

        Raises
        ------
        ReportError
            If the reports are refused, or belong to another campaign. The state is untouched
            then.
        """
        state = self._aggregate(batch, allow_simulated)
        previous = getattr(self, "aggregator_", None)
        return self._fit_state(state if previous is None else previous + state)

    def _aggregate(self, batch, allow_simulated):
        check_batch(batch)
        state = MomentAggregator(batch.config, allow_simulated=allow_simulated, n_jobs=self.n_jobs)
        return state.add_batch(batch)

    def fit_aggregate(self, aggregator):
        """Solve for the coefficients from the state of a server.

        Parameters
        ----------
        aggregator : MomentAggregator
            The state, of the kind "moments" or "cross"; it is left as it is. Its
            configuration counts; of the parameters of this estimator only those of the server
            are used.

        Returns
        -------
        self : object

        Raises
        ------
        NotFittedError
            If the state has no reports.
        ValueError
            If public rows are missing or do not fit, or the kind is another one.
        """
        return self._fit_state(aggregator)

    def _fit_state(self, aggregator):
        self._validate_params()
        state = self._check_aggregator(aggregator).copy()
        self._check_n_nonzero(state.config.n_features)
        self._solve(state, MomentReader(self, state.config), np.float64)
        set_columns(self, state.config.n_features)
        return self

    def _solution(self, state, read):
        moments = read(state)
        server = {name: getattr(self, name) for name in SERVER_PARAMETERS}
        return self._solve_moments(moments, state.config, **server), moments

    def _coefficients(self, state, read, dtype):
        return self._reconstruct(self._solution(state, read)[0].coef, state.config, dtype)

    def _solve(self, state, read, dtype, stacklevel=5):
        solution, moments = self._solution(state, read)
        self._keep_campaign(state)
        self._keep_solution(solution, moments, state.config, dtype)
        self.converged_ = bool(solution.converged)
        self._warn(solution, state.config, stacklevel)
