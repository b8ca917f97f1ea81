"""What the iterative estimators share: the rounds of a campaign, simulated or real."""

import math
import warnings
from numbers import Integral, Real

import numpy as np

from sparsestat.privacy._base import ClipCount, LDPEstimator, rows_in_public_units
from sparsestat.privacy._errors import LowSignalWarning
from sparsestat.privacy._iht_server import LDPIHTServer
from sparsestat.privacy._simulation import coin_generator, simulate_state
from sparsestat.utils._callbacks import FitTicker
from sparsestat.utils._sklearn import Interval, StrOptions
from sparsestat.utils._validation import set_columns

_COMMON = LDPEstimator._parameter_constraints
IHT_CONSTRAINTS: dict = {
    **{
        name: _COMMON[name]
        for name in (
            "epsilon",
            "delta",
            "mechanism",
            "n_bits",
            "x_bound",
            "feature_center",
            "feature_scale",
            "coef_bound",
            "fit_intercept",
            "campaign_id",
            "n_jobs",
            "random_state",
        )
    },
    "n_nonzero": [Interval(Integral, 1, None, closed="left"), None],
    "n_rounds": [Interval(Integral, 1, 2**16 - 1, closed="both")],
    "averaging": ["boolean"],
    "step": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
}


class IHTEstimator(LDPEstimator):
    """The rounds, for any loss."""

    _loss = "squared"

    def _fit_rounds(self, X, targets, given, context, **learned):
        """Simulate a campaign.

        `targets` are numbers, `given` is what callbacks may score on, and `learned` has
        attributes that are known before.
        """
        n_samples, n_features = X.shape
        self._check_n_nonzero(n_features)
        config = self._make_config("gradient", n_features, loss=self._loss)
        n_rounds = min(self.n_rounds, n_samples)
        server = self._make_server(config, n_rounds)
        rng = coin_generator(self.random_state)
        groups = np.array_split(rng.permutation(n_samples), n_rounds)
        stopped, clipped = False, ClipCount(config)
        with FitTicker(self, context, *given) as ticker:
            for group in groups:
                query = server.query()
                rows, answers = rows_in_public_units(X[group], targets[group], config)
                clipped.add(rows, answers)
                state = simulate_state(rows, answers, config, rng, query=query, n_jobs=self.n_jobs)
                server.ingest(state).close_round()
                point = server.theta_
                stopped = ticker.tick(
                    "round",
                    lambda point=point: {
                        **learned,
                        **self._reconstruct(point, config, X.dtype),
                    },
                )
                if stopped:
                    break
        clipped.warn(stacklevel=5)
        for name, value in learned.items():
            setattr(self, name, value)
        # The decorators of a fit stand between it and the caller.
        self._finish(server, X.dtype, stacklevel=6)
        self.converged_ = not stopped
        return self

    def _n_kept(self, n_features):
        return math.ceil(math.sqrt(n_features)) if self.n_nonzero is None else int(self.n_nonzero)

    def _make_server(self, config, n_rounds):
        return LDPIHTServer(
            config,
            n_nonzero=self._n_kept(config.n_features),
            n_rounds=int(n_rounds),
            step=self.step,
            coef_bound=float(self.coef_bound),
            averaging=self.averaging,
            allow_simulated=True,
            n_jobs=self.n_jobs,
        )

    def _finish(self, server, dtype=np.float64, stacklevel=3):
        config = server.config
        self.noise_scale_ = server.noise_scale_
        self._set_coefficients(server.theta_, self.noise_scale_, config, dtype)
        self.config_ = config
        self.privacy_ = config.privacy
        self.n_reports_ = server.n_reports_
        self.n_iter_ = len(server.noise_scales_)
        self.theta_ = server.theta_
        self.path_ = np.array(server.path_)
        threshold = self.noise_scale_ * math.sqrt(2.0 * math.log(max(2, config.n_features)))
        if threshold > server.coef_bound:
            warnings.warn(
                f"The known noise makes coefficients below {threshold:.3g} (public "
                f"units) look like none, and coef_bound is {server.coef_bound:.3g}: "
                f"{self.n_reports_} reports at epsilon={config.epsilon:g} tell next to nothing. "
                "plan_ldp says how many are needed.",
                LowSignalWarning,
                stacklevel=stacklevel,
            )

    def fit_server(self, server):
        """Take the coefficients of a campaign that real clients answered.

        Parameters
        ----------
        server : LDPIHTServer
            With at least one closed round. Its configuration counts; of the parameters of
            this estimator none is used.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If no round is closed, or the loss is another one.
        """
        if not isinstance(server, LDPIHTServer):
            raise TypeError(f"server must be an LDPIHTServer, got a {type(server).__name__}.")
        if server.config.loss != self._loss:
            raise ValueError(
                f"server must have the loss {self._loss!r}, got {server.config.loss!r}."
            )
        if not server.noise_scales_:
            raise ValueError("server must have closed at least one round, got none.")
        set_columns(self, server.config.n_features)
        self._finish(server)
        self.converged_ = server.done
        return self
