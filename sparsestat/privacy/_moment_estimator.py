"""What estimators share that solve the noisy moments of one report per user."""

import functools
import warnings
from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_array

from sparsestat.privacy._aggregator import MomentAggregator
from sparsestat.privacy._base import (
    LDPRegressor,
    free_columns,
    rows_in_public_units,
    user_parts,
)
from sparsestat.privacy._errors import (
    IllConditionedWarning,
    IncompatibleReportsError,
    LowSignalWarning,
)
from sparsestat.privacy._moment_solvers import coef_covariance, solve_moments
from sparsestat.privacy._public import combined_gram, public_gram
from sparsestat.privacy._simulation import coin_generator, simulate_state
from sparsestat.utils._sklearn import Interval, StrOptions

SERVER_PARAMETERS = ("n_nonzero", "solver", "threshold", "alpha")
"""What may be chosen on one set of reports at will, by name."""

# Public rows for each column from which on their Gram matrix is taken alone.
_PUBLIC_ROWS = 50


class MomentReader:
    """Moments of states of one campaign, with what public rows add to them.

    The public rows are gone through once, however many states are read.

    Parameters
    ----------
    estimator : MomentEstimator
        Whose public rows are used, in the way that it says.
    config : LDPConfig
        The campaign.
    """

    def __init__(self, estimator, config):
        self.estimator = estimator
        self.config = config

    @functools.cached_property
    def _public(self):
        """Where the Gram matrix comes from, the public one, and the number of its rows."""
        rows = self.estimator._public_rows(self.config.n_features)
        source = self.estimator._gram_source(rows, self.config.n_columns)
        if self.config.kind == "cross":
            source = "public"
        if rows is None and source != "private":
            raise ValueError(
                "X_public must hold the public rows of the campaign: the reports have cross "
                "moments only."
            )
        if source == "private":
            return source, None, 0
        return source, public_gram(rows, self.config), len(rows)

    def __call__(self, state):
        """Read a state.

        Parameters
        ----------
        state : MomentAggregator
            With at least one report.

        Returns
        -------
        moments : NoisyMoments
        """
        moments = state.moments()
        source, gram, n_rows = self._public
        if source == "public":
            return moments.with_gram(*gram)
        return moments if source == "private" else combined_gram(moments, gram, n_rows)


class MomentEstimator(LDPRegressor):
    """Base of the regressors that solve noisy moments on the server."""

    _parameter_constraints: dict = {
        **LDPRegressor._parameter_constraints,
        "gamma": [str, Interval(Real, 0, None, closed="neither"), None],
        "X_public": ["array-like", "sparse matrix", None],
        "gram": [StrOptions({"auto", "public", "private", "combined"})],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="neither")],
    }

    def _public_rows(self, n_features):
        if self.X_public is None:
            return None
        try:
            X = check_array(self.X_public, accept_sparse="csr", dtype=np.float64)
        except ValueError as error:
            raise ValueError(f"X_public must hold public rows: {error}") from error
        if X.shape[1] != n_features:
            raise ValueError(
                f"X_public must have {n_features} features, as the records, got {X.shape[1]}."
            )
        return X.toarray() if sparse.issparse(X) else X

    def _gram_source(self, rows, n_columns):
        if rows is None:
            if self.gram in ("public", "combined"):
                raise ValueError(f"gram={self.gram!r} needs public rows, and X_public is None.")
            return "private"
        if self.gram != "auto":
            return self.gram
        return "public" if len(rows) >= _PUBLIC_ROWS * n_columns else "combined"

    def _campaign(self, n_features):
        """What the clients are told, which depends on the shape of the public rows only."""
        rows = self._public_rows(n_features)
        source = self._gram_source(rows, n_features + self.fit_intercept)
        return self._make_config("cross" if source == "public" else "moments", n_features)

    def _simulate(self, X, y, config, ticker, finish, clipped, first=0):
        """One report of each user, part after part; callbacks may look at each of them."""
        rng = coin_generator(self.random_state, first)
        state = MomentAggregator(config, allow_simulated=True, n_jobs=self.n_jobs)
        for start, stop in user_parts(X.shape[0]):
            rows, targets = rows_in_public_units(X[start:stop], y[start:stop], config)
            clipped.add(rows, targets)
            state.merge(simulate_state(rows, targets, config, rng, n_jobs=self.n_jobs))
            now = state.copy() if ticker.active else None
            if ticker.tick("users", lambda now=now: finish(now)):
                break
        return state

    def _check_aggregator(self, state):
        if not isinstance(state, MomentAggregator):
            raise TypeError(f"aggregator must be a MomentAggregator, got a {type(state).__name__}.")
        if state.config.kind not in ("moments", "cross"):
            raise IncompatibleReportsError(
                "aggregator must hold reports of the kind 'moments' or 'cross', got "
                f"{state.config.kind!r}."
            )
        return state

    def _solve_moments(self, moments, config, **server):
        """Solve moments in public units; `server` has what may be chosen after the reports."""
        return solve_moments(
            moments,
            coef_bound=float(self.coef_bound),
            free=free_columns(config),
            max_iter=self.max_iter,
            tol=self.tol,
            **server,
        )

    def _keep_campaign(self, state):
        self.config_ = state.config
        self.privacy_ = state.config.privacy
        self.aggregator_ = state
        self.n_reports_ = state.n_reports_

    def _keep_solution(self, solution, moments, config, dtype):
        """Fitted attributes of a solution in public units, in the units of the data."""
        covariance = coef_covariance(solution, moments)
        deviations = np.sqrt(np.maximum(np.diag(covariance), 0.0))[config.fit_intercept :]
        self._set_coefficients(solution.coef, deviations, config, dtype)
        self.moments_ = moments
        self.theta_ = solution.coef
        self.threshold_ = solution.threshold
        self.alpha_ = solution.alpha
        self.condition_number_ = float(solution.condition_number)
        self.n_iter_ = int(solution.n_iter)

    def _warn(self, solution, config, stacklevel):
        if not solution.converged:
            warnings.warn(
                f"{solution.n_iter} iterations ended with a step of {solution.accuracy:.2g} "
                f"coef_bound, longer than tol={self.tol:g}; raise max_iter or tol.",
                ConvergenceWarning,
                stacklevel=stacklevel,
            )
        thresholds = solution.threshold / self._plausible_share(config)
        smallest = np.min(thresholds[config.fit_intercept :], initial=np.inf)
        bound = float(self.coef_bound)
        if smallest > bound:
            hidden = f"below {smallest:.3g}" if np.isfinite(smallest) else "of any size"
            warnings.warn(
                f"The known noise of {self.n_reports_} reports at epsilon={config.epsilon:g} "
                f"makes coefficients {hidden} (public units) look like none, and coef_bound is "
                f"{bound:.3g}: the reports tell next to nothing. plan_ldp says how many are "
                "needed.",
                LowSignalWarning,
                stacklevel=stacklevel,
            )
        elif solution.eigenvalue_floor > 0:
            warnings.warn(
                "The private Gram matrix is not safely positive definite, and its eigenvalues "
                f"were raised to {solution.eigenvalue_floor:.3g}. More reports, public rows or "
                "solver='corrected_lasso' give a better answer.",
                IllConditionedWarning,
                stacklevel=stacklevel,
            )

    def _plausible_share(self, config):
        """How much of the mean square of each column need not be noise.

        A column whose mean square is large by chance alone has a small threshold. Clipped
        features have mean squares of ``x_bound ** 2 / n_columns`` at most, on average, and
        what is more than that has to stand out from the noise of the largest of all columns.
        """
        diagonal, noise = np.diag(self.moments_.S), self.moments_.sd_diag
        margin = 1.0 + np.sqrt(2.0 * np.log(max(2, len(diagonal))))
        average = config.x_bound**2 / len(diagonal)
        plausible = np.maximum(np.minimum(diagonal, average), diagonal - margin * noise)
        return np.where(diagonal > 0, plausible / np.where(diagonal > 0, diagonal, 1.0), 1.0)
