"""Choose how to solve the moments by held-out shards of the reports, at no cost in privacy."""

from numbers import Integral

import numpy as np
from sklearn.model_selection import ParameterGrid

from sparsestat.privacy._aggregator import MomentAggregator
from sparsestat.privacy._base import ClipCount
from sparsestat.privacy._errors import IncompatibleReportsError
from sparsestat.privacy._ldp_regressor import LDPSparseRegressor
from sparsestat.privacy._moment_estimator import SERVER_PARAMETERS, MomentEstimator, MomentReader
from sparsestat.privacy._moment_solvers import holdout_score
from sparsestat.privacy._reports import check_batch
from sparsestat.utils._callbacks import FitTicker
from sparsestat.utils._sklearn import Interval, StrOptions, _fit_context, with_callbacks
from sparsestat.utils._validation import set_columns

_MOST_FEATURES = 20


class LDPSparseRegressorCV(MomentEstimator):
    """Local differentially private sparse regression, tuned by cross-validation of reports.

    Reports are split into shards, each with a state of its own. What one shard says about the
    squared error of coefficients that were found from the others, up to a constant, is an
    unbiased function of its noisy moments::

        theta' S theta - 2 b' theta

    so that candidates can be compared without any further report. Cross-validation is
    post-processing: a report satisfies (epsilon, delta)-local differential privacy for the
    replacement of one record, pure for the mechanisms "one_bit" and "duchi", as for
    :class:`LDPSparseRegressor`.
    Outside the guarantee are the time of a report, whether it is sent at all, and data that are
    shown to :meth:`predict` or :meth:`score`.

    Parameters
    ----------
    epsilon : float, default=1.0
        Privacy of a report, above 0 and at most 50.
    param_grid : dict, list of dict or None, default=None
        Candidates, as for :class:`~sklearn.model_selection.ParameterGrid`, of the server's
        parameters `n_nonzero`, `solver`, `threshold` and `alpha` of
        :class:`LDPSparseRegressor`. None tries ``n_nonzero`` from 1 to 20 or the number of
        features.
    cv : int, default=5
        Number of shards.
    selection : {"min", "1se"}, default="min"
        Whether to take the candidate with the smallest score, or the one with the fewest
        features among those within one standard error of it.
    delta : float, default=0.0
        Above 0 for the Gaussian mechanisms only.
    mechanism : {"one_bit", "duchi", "gaussian", "discrete_gaussian"}, default="one_bit"
        How the moments are randomised, see :class:`LDPConfig`.
    n_bits : int or None, default=None
        Bits per report; None takes the best number for `epsilon`.
    x_bound : "sqrt_d" or float, default="sqrt_d"
        Radius to which features are clipped, in public units.
    y_bound : float, default=2.5
        Bound on the target, in public units.
    coef_bound : float, default=1.0
        Public bound on the Euclidean norm of the coefficients, in public units; the intercept
        is not counted.
    gamma : float or None, default=None
        Weight of the cross moments in a report, see :class:`LDPConfig`.
    feature_center, feature_scale : array-like of shape (n_features,) or None, default=None
        Public units of the features; None is 0 and 1.
    y_center, y_scale : float, default=0.0 and 1.0
        Public units of the target.
    fit_intercept : bool, default=False
        Whether a column of ones is added.
    X_public : array-like of shape (n_rows, n_features) or None, default=None
        Features of public rows.
    gram : {"auto", "public", "private", "combined"}, default="auto"
        Where the Gram matrix comes from.
    max_iter : int, default=1000
        Largest number of iterations of "corrected_lasso", and of the pilot of "topk_refit".
    tol : float, default=1e-8
        Tolerance of "corrected_lasso".
    campaign_id : str, default=""
        Goes into the fingerprint of the configuration.
    n_jobs : int or None, default=None
        Number of threads; the result is the same for any.
    random_state : int, RandomState instance, Generator or None, default=None
        Source of the clients' coins.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
        Coefficients in the units of the data, from all reports.
    intercept_ : float
        Intercept in the units of the data.
    support_ : ndarray of shape (n_features,), bool
        Features with a coefficient other than zero.
    coef_std_error_ : ndarray of shape (n_features,)
        As for :class:`LDPSparseRegressor`; they take the choice as given.
    alpha_ : float
        As for :class:`LDPSparseRegressor`.
    threshold_, theta_ : ndarray of shape (n_columns,)
        As for :class:`LDPSparseRegressor`.
    moments_ : NoisyMoments
        The moments that were solved.
    aggregator_ : MomentAggregator
        State with all reports.
    shards_ : list of MomentAggregator
        States of the shards.
    cv_results_ : dict of arrays
        "params", "mean_score", "std_error" (known from the noise), "n_features" and "rank".
    best_index_ : int
        The candidate that was taken.
    best_params_ : dict
        Its parameters.
    condition_number_ : float
        Of the matrix that was solved.
    n_reports_ : int
        Number of reports.
    n_iter_ : int
        Iterations of the last solution.
    converged_ : bool
        Whether it met its tolerance, and no callback stopped the campaign.
    config_ : LDPConfig
        What the clients were told.
    privacy_ : PrivacySpec
        The guarantee of each report.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if they were strings.

    Warns
    -----
    PublicUnitsWarning, LowSignalWarning, IllConditionedWarning, ConvergenceWarning
        As :class:`LDPSparseRegressor`.

    See Also
    --------
    LDPSparseRegressor : One set of parameters; its notes hold here as well.

    Examples
    --------
    >>> from sparsestat.datasets import make_sparse_regression
    >>> from sparsestat.privacy import LDPSparseRegressorCV
    >>> data = make_sparse_regression(300_000, 8, 2, random_state=0)
    >>> model = LDPSparseRegressorCV(epsilon=2.0, random_state=1).fit(data.data, data.target)
    >>> bool(model.support_[data.coef != 0].all()), model.best_params_["n_nonzero"] <= 4
    (True, True)
    """

    _parameter_constraints: dict = {
        **MomentEstimator._parameter_constraints,
        "param_grid": [dict, list, None],
        "cv": [Interval(Integral, 2, None, closed="left")],
        "selection": [StrOptions({"min", "1se"})],
    }

    def __init__(
        self,
        epsilon=1.0,
        *,
        param_grid=None,
        cv=5,
        selection="min",
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
        max_iter=1000,
        tol=1e-8,
        campaign_id="",
        n_jobs=None,
        random_state=None,
    ):
        self.epsilon = epsilon
        self.param_grid = param_grid
        self.cv = cv
        self.selection = selection
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
        self.max_iter = max_iter
        self.tol = tol
        self.campaign_id = campaign_id
        self.n_jobs = n_jobs
        self.random_state = random_state

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Simulate a campaign and choose among the candidates.

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
        context = self._init_callback_context(max_subtasks=None)
        with FitTicker(self, context, X, y) as ticker:
            X, y = self._check_records(X, y)
            candidates = self._candidates(X.shape[1])
            config = self._campaign(X.shape[1])
            shards, clipped, read = [], ClipCount(config), MomentReader(self, config)
            for shard in range(min(self.cv, X.shape[0])):
                # Neighbours may have reported in some order, so they go to different shards.
                rows = np.arange(shard, X.shape[0], self.cv)
                so_far = list(shards)
                shards.append(
                    self._simulate(
                        X[rows],
                        y[rows],
                        config,
                        ticker,
                        lambda now, before=so_far: self._present([*before, now], read, X.dtype),
                        clipped,
                        first=shard,
                    )
                )
                if ticker.stopped:
                    break
            clipped.warn(stacklevel=4)
            # The decorators of a fit stand between it and the caller.
            self._choose(shards, read, candidates, X.dtype, stacklevel=6)
        self.converged_ &= not ticker.stopped
        return self

    def fit_reports(self, batch, *, allow_simulated=False):
        """Choose among the candidates from reports, as the server.

        Parameters
        ----------
        batch : ReportBatch
            Reports of the kind "moments" or "cross", split into shards by their nonces.
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
        check_batch(batch)
        self._validate_params()
        shard_of = batch.nonces % np.uint64(self.cv)
        options = {"allow_simulated": allow_simulated, "n_jobs": self.n_jobs}
        parts = [batch[shard_of == shard] for shard in range(self.cv)]
        return self._fit_states(
            [
                MomentAggregator(batch.config, **options).add_batch(part)
                for part in parts
                if len(part)
            ]
        )

    def fit_aggregates(self, aggregators):
        """Choose among the candidates from the states of several servers.

        Parameters
        ----------
        aggregators : sequence of MomentAggregator
            One state for each shard, of one campaign and without common reports; `cv` is not
            used.

        Returns
        -------
        self : object

        Raises
        ------
        IncompatibleReportsError
            If the states are of different campaigns.
        ValueError
            If there are no states, or public rows are missing or do not fit.
        """
        return self._fit_states(aggregators)

    def _fit_states(self, aggregators):
        self._validate_params()
        shards = [self._check_aggregator(state).copy() for state in aggregators]
        if not shards:
            raise ValueError("aggregators must hold at least one state, got none.")
        config = shards[0].config
        if any(state.config != config for state in shards):
            raise IncompatibleReportsError("aggregators must be states of one campaign.")
        candidates = self._candidates(config.n_features)
        self._choose(shards, MomentReader(self, config), candidates, np.float64)
        set_columns(self, config.n_features)
        return self

    def _candidates(self, n_features):
        if self.param_grid is None:
            most = min(n_features, _MOST_FEATURES)
            return [{"solver": "matching_pursuit", "n_nonzero": k} for k in range(1, most + 1)]
        try:
            candidates = list(ParameterGrid(self.param_grid))
        except (TypeError, ValueError) as error:
            raise ValueError(f"param_grid is no grid of parameters: {error}") from error
        if not candidates:
            raise ValueError("param_grid must hold at least one candidate, got none.")
        for candidate in candidates:
            unknown = set(candidate) - set(SERVER_PARAMETERS)
            if unknown:
                raise ValueError(
                    f"param_grid must name parameters among {list(SERVER_PARAMETERS)}, which "
                    f"clients do not use, got {sorted(unknown)}."
                )
            server = LDPSparseRegressor(**candidate)
            try:
                server._validate_params()
                server._check_n_nonzero(n_features)
            except ValueError as error:
                raise ValueError(f"param_grid has a wrong value: {error}") from error
        return candidates

    def _present(self, shards, read, dtype):
        total = _total(shards)
        solution = self._solve_moments(read(total), total.config)
        return self._reconstruct(solution.coef, total.config, dtype)

    def _choose(self, shards, read, candidates, dtype, stacklevel=5):
        total = _total(shards)
        config, moments = total.config, read(total)
        results = self._score(shards, read, candidates)
        best = int(np.argmin(results["mean_score"]))
        if self.selection == "1se":
            limit = results["mean_score"][best] + results["std_error"][best]
            within = results["mean_score"] <= limit
            sizes = np.where(within, results["n_features"], np.inf)
            best = int(np.argmin(sizes))
        solution = self._solve_moments(moments, config, **candidates[best])
        self._keep_campaign(total)
        self._keep_solution(solution, moments, config, dtype)
        self.converged_ = bool(solution.converged)
        self.shards_ = shards
        self.cv_results_ = results
        self.best_index_ = best
        self.best_params_ = dict(candidates[best])
        self._warn(solution, config, stacklevel)

    def _score(self, shards, read, candidates):
        """Mean of the held-out scores of each candidate, with its known standard error."""
        scores = np.zeros((len(candidates), len(shards)))
        errors, sizes = np.zeros_like(scores), np.zeros_like(scores)
        for fold, held_out in enumerate(shards):
            rest = [state for state in shards if state is not held_out] or [held_out]
            learned, judged = read(_total(rest)), read(held_out)
            for row, candidate in enumerate(candidates):
                solution = self._solve_moments(learned, held_out.config, **candidate)
                scores[row, fold], errors[row, fold] = holdout_score(solution.coef, judged)
                sizes[row, fold] = np.count_nonzero(solution.support)
        mean = scores.mean(axis=1)
        return {
            "params": candidates,
            "mean_score": mean,
            "std_error": np.sqrt(np.sum(errors**2, axis=1)) / len(shards),
            "n_features": sizes.mean(axis=1),
            "rank": np.argsort(np.argsort(mean, kind="stable"), kind="stable") + 1,
        }


def _total(shards):
    total = shards[0].copy()
    for state in shards[1:]:
        total.merge(state)
    return total
