"""The server of a sequentially interactive campaign, which can stop between any two reports."""

import json
import math
import numbers
import struct

import numpy as np
from sklearn.exceptions import NotFittedError

from sparsestat.privacy._aggregator import MomentAggregator
from sparsestat.privacy._base import raw_coefficients
from sparsestat.privacy._config import LDPConfig
from sparsestat.privacy._errors import ReportError
from sparsestat.privacy._projections import hard_threshold, project_to_ball
from sparsestat.privacy._query import Query
from sparsestat.privacy._reports import (
    CHECKSUM_SIZE,
    Report,
    check_seal,
    load_archive,
    save_archive,
    seal,
)

_MAGIC = b"LDI\x01"
_HEADER = struct.Struct("<4sQ")

# One over the mean of w^2 x_j^2 for standardised normal features and the default radius;
# the curvature of the logistic loss is at most a quarter of that of squares.
_STEP = {"squared": 1.2, "logistic": 4.8}


class LDPIHTServer:
    """Iterative hard thresholding on gradients that users randomise: the server's side.

    In each round the server broadcasts a point, a group of users that took part in no other
    round sends randomised gradients there, and the server takes a step against their mean,
    averages it with the steps of the rounds before, keeps the largest coefficients and
    projects onto a ball. As every user answers once, the whole campaign satisfies the (epsilon,
    delta)-local differential privacy of a single report, for the replacement of one record; it
    is pure for the mechanisms "one_bit" and "duchi". Outside the guarantee are the round in
    which somebody answers, the time, and whether there is an answer at all.

    Parameters
    ----------
    config : LDPConfig
        The campaign, of kind "gradient".
    n_nonzero : int
        Number of features that the points keep; public.
    n_rounds : int, default=4
        Number of rounds, each with users of its own.
    step : "auto" or float, default="auto"
        Length of a step. It should be one over the largest eigenvalue of the mean of
        ``w^2 x x'`` in public units; "auto" is right for standardised, weakly dependent
        features and the default `x_bound`: 1.2, and 4.8 for the logistic loss.
    coef_bound : float, default=1.0
        Public bound on the Euclidean norm of the coefficients, in public units; the intercept
        is not counted.
    averaging : bool, default=True
        Whether a point is made from the average of the steps since the second round, in which
        the noise of the rounds cancels, or from the last step alone, as in [1]_ and [2]_.
    allow_simulated, deduplicate : bool, default=False
        As in :class:`MomentAggregator`.
    n_jobs : int or None, default=None
        Threads that decode a batch.

    Attributes
    ----------
    done : bool
        Whether all rounds are closed.
    theta_ : ndarray of shape (n_columns,)
        The present point, in public units.
    path_ : list of ndarray
        The points so far, beginning with zero.
    coef_ : ndarray of shape (n_features,)
        Coefficients in the units of the data.
    intercept_ : float
        Intercept in the units of the data.
    n_reports_ : int
        Reports in closed rounds.
    noise_scales_ : list of float
        Known standard deviation of an entry of the mean gradient of each closed round.
    noise_scale_ : float
        Standard deviation that they give an entry of the last point.

    Raises
    ------
    ValueError
        For a configuration of another kind, or parameters out of range.

    References
    ----------
    .. [1] D. Wang and J. Xu (2021). On sparse linear regression in the local differential
       privacy model. *IEEE Transactions on Information Theory* 67(2), 1182-1200.
    .. [2] L. Zhu, M. Ding, V. Aggarwal, J. Xu and D. Wang (2024). Improved analysis of sparse
       linear regression in local differential privacy model. *International Conference on
       Learning Representations*.

    Examples
    --------
    >>> from sparsestat.privacy import LDPConfig, LDPIHTServer, Randomizer
    >>> config = LDPConfig("gradient", n_features=2)
    >>> server = LDPIHTServer(config, n_nonzero=1, n_rounds=2)
    >>> for record in [([0.5, 1.0], 0.4), ([1.0, -0.2], 0.9)]:
    ...     query = server.query()  # broadcast
    ...     report = Randomizer(config).randomize(*record, query=query)  # on the device
    ...     _ = server.ingest(report).close_round()
    >>> server.done, server.coef_.shape
    (True, (2,))
    """

    def __init__(
        self,
        config,
        *,
        n_nonzero,
        n_rounds=4,
        step="auto",
        coef_bound=1.0,
        averaging=True,
        allow_simulated=False,
        deduplicate=False,
        n_jobs=None,
    ):
        if not isinstance(config, LDPConfig) or config.kind != "gradient":
            raise ValueError(
                "config must be an LDPConfig of kind 'gradient', got "
                f"{getattr(config, 'kind', config)!r}."
            )
        self.config = config
        self.n_nonzero = _count(n_nonzero, "n_nonzero", config.n_features)
        self.n_rounds = _count(n_rounds, "n_rounds", 2**16 - 1)
        self.step = _STEP[config.loss] if step == "auto" else _positive(step, "step")
        self.coef_bound = _positive(coef_bound, "coef_bound")
        self.averaging = bool(averaging)
        self.allow_simulated = bool(allow_simulated)
        self.deduplicate = bool(deduplicate)
        self.n_jobs = n_jobs
        self.path_ = [np.zeros(config.n_columns)]
        self.noise_scales_: list[float] = []
        self.n_reports_ = 0
        self._steps: list[np.ndarray] = []
        self._state = self._empty_state()

    def _empty_state(self):
        return MomentAggregator(
            self.config,
            round=min(len(self.path_), self.n_rounds),
            allow_simulated=self.allow_simulated,
            deduplicate=self.deduplicate,
            n_jobs=self.n_jobs,
        )

    def __repr__(self):
        if self.done:
            return f"LDPIHTServer(all {self.n_rounds} rounds closed)"
        return (
            f"LDPIHTServer(round {len(self.path_)} of {self.n_rounds}, "
            f"{self._state.n_reports_} reports in it)"
        )

    @property
    def done(self):
        return len(self.noise_scales_) == self.n_rounds

    @property
    def theta_(self):
        return self.path_[-1]

    @property
    def coef_(self):
        return raw_coefficients(self.theta_, self.config)[0]

    @property
    def intercept_(self):
        return float(raw_coefficients(self.theta_, self.config)[1])

    @property
    def noise_scale_(self):
        if not self.noise_scales_:
            raise NotFittedError("No round is closed yet, so the point has no noise.")
        scales = np.array(self.noise_scales_[self._averaged()])
        return self.step * float(np.sqrt(np.sum(scales**2))) / len(scales)

    def _averaged(self):
        # The first step starts at zero, far from where its gradient would vanish.
        if not self.averaging:
            return slice(-1, None)
        return slice(1 if len(self._steps) > 1 else 0, None)

    def _check_open(self):
        if self.done:
            raise ValueError(f"All {self.n_rounds} rounds are closed; the campaign is over.")

    def query(self):
        """Say what to broadcast to the users of this round.

        Returns
        -------
        query : Query

        Raises
        ------
        ValueError
            If all rounds are closed.
        """
        self._check_open()
        return Query(self.config.fingerprint(), self._state.round, tuple(self.theta_.tolist()))

    def ingest(self, reports):
        """Take reports of this round.

        Parameters
        ----------
        reports : Report, bytes, ReportBatch or MomentAggregator
            One report, a batch, or the state of an aggregator of this round that other
            machines have filled.

        Returns
        -------
        self : LDPIHTServer

        Raises
        ------
        ReportError
            If they do not belong here; nothing is taken then.
        ValueError
            If all rounds are closed.
        """
        self._check_open()
        if isinstance(reports, Report | bytes):
            self._state.add(reports)
        elif isinstance(reports, MomentAggregator):
            self._state.merge(reports)
        else:
            self._state.add_batch(reports)
        return self

    def close_round(self):
        """Take the step of this round and begin the next.

        Returns
        -------
        self : LDPIHTServer

        Raises
        ------
        ValueError
            If the round has no reports, or all rounds are closed.
        """
        self._check_open()
        if self._state.n_reports_ == 0:
            raise ValueError(f"Round {self._state.round} has no reports yet.")
        gradient = self._state.moments()
        self._steps.append(self.theta_ - self.step * gradient.b)
        theta = np.mean(self._steps[self._averaged()], axis=0)
        theta = keep_largest(theta, self.n_nonzero, self.config.fit_intercept)
        first = int(self.config.fit_intercept)
        theta[first:] = project_to_ball(theta[first:], self.coef_bound)
        self.path_.append(theta)
        self.noise_scales_.append(gradient.sd_b)
        self.n_reports_ += gradient.n_reports
        self._state = self._empty_state()
        return self

    def to_bytes(self):
        """Write the whole state, between or within rounds.

        Returns
        -------
        data : bytes
        """
        values = {
            "n_nonzero": self.n_nonzero,
            "n_rounds": self.n_rounds,
            "step": self.step,
            "coef_bound": self.coef_bound,
            "averaging": self.averaging,
            "allow_simulated": self.allow_simulated,
            "deduplicate": self.deduplicate,
            "path": [theta.tolist() for theta in self.path_],
            "steps": [step.tolist() for step in self._steps],
            "noise_scales": self.noise_scales_,
            "n_reports": self.n_reports_,
        }
        text = json.dumps(values, sort_keys=True).encode()
        body = _HEADER.pack(_MAGIC, len(text)) + text + self._state.to_bytes()
        return seal(body)

    @classmethod
    def from_bytes(cls, data, config):
        """Read what :meth:`to_bytes` wrote.

        Parameters
        ----------
        data : bytes
            The state.
        config : LDPConfig
            The campaign.

        Returns
        -------
        server : LDPIHTServer

        Raises
        ------
        ReportError
            If the bytes are no state, are damaged, or belong to another configuration.
        """
        data = bytes(memoryview(data))
        body = data[:-CHECKSUM_SIZE]
        if len(body) < _HEADER.size or data[:4] != _MAGIC:
            raise ReportError(f"data must be a server's state, got {len(data)} other bytes.")
        check_seal(data, "state")
        end = _HEADER.size + _HEADER.unpack_from(body)[1]
        state = MomentAggregator.from_bytes(body[end:], config)
        try:
            values = json.loads(body[_HEADER.size : end])
            path = _points(values.pop("path"), config)
            steps = _points(values.pop("steps"), config)
            noise_scales = [
                _positive(scale, "noise_scales") for scale in values.pop("noise_scales")
            ]
            n_reports = _count(values.pop("n_reports"), "n_reports", 2**63, least=0)
            server = cls(config, **values)
            if not len(path) - 1 == len(steps) == len(noise_scales) <= server.n_rounds:
                raise ValueError("it has other numbers of points, of steps and of rounds")
            if state.round != min(len(path), server.n_rounds):
                raise ValueError(f"its reports are of round {state.round}")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ReportError(f"data holds no server's state ({error}).") from error
        server.path_, server.noise_scales_, server.n_reports_ = path, noise_scales, n_reports
        server._steps, server._state = steps, state
        return server

    def save(self, path):
        """Write the state and its configuration to an npz file, all or nothing.

        Parameters
        ----------
        path : str or path-like
            The file.
        """
        data = np.frombuffer(self.to_bytes(), dtype=np.uint8)
        save_archive(path, "server", self.config, state=data)

    @classmethod
    def load(cls, path):
        """Read what :meth:`save` wrote.

        Parameters
        ----------
        path : str or path-like
            The file.

        Returns
        -------
        server : LDPIHTServer

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ReportError
            If the file is cut off, damaged or something else.
        """
        config, arrays = load_archive(path, "server", {"state": 1})
        return cls.from_bytes(arrays["state"].tobytes(), config)


def keep_largest(theta, n_nonzero, has_intercept):
    """Set all but the largest coefficients to zero; of equal ones the first stay.

    Parameters
    ----------
    theta : ndarray of shape (n_columns,)
        The point.
    n_nonzero : int
        Number of features to keep.
    has_intercept : bool
        Whether the first column is the intercept, which stays.

    Returns
    -------
    theta : ndarray of shape (n_columns,)
    """
    first = int(has_intercept)
    return np.concatenate([theta[:first], hard_threshold(theta[first:], n_nonzero)])


def _points(rows, config):
    points = [np.array(row, dtype=np.float64) for row in rows]
    for point in points:
        if point.shape != (config.n_columns,) or not np.all(np.isfinite(point)):
            raise ValueError(f"a point has not {config.n_columns} finite numbers")
    return points


def _count(value, name, most, least=1):
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    if not least <= value <= most:
        raise ValueError(f"{name} must be in [{least}, {most}], got {value}.")
    return int(value)


def _positive(value, name):
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r}.")
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be positive and finite, got {value!r}.")
    return number
