"""Many clients in one process, for simulations, planning and teaching."""

import math
import os
import secrets

import numpy as np
from sklearn.utils.validation import check_array, check_consistent_length, column_or_1d

from sparsestat.privacy._aggregator import MomentAggregator
from sparsestat.privacy._client import check_query, coin_thresholds, norm_ratios
from sparsestat.privacy._config import check_config
from sparsestat.privacy._decode import project_moments, project_rows
from sparsestat.privacy._directions import direction_keys
from sparsestat.privacy._discrete_gaussian import (
    simulate_discrete_gaussian,
    simulate_discrete_gaussian_sum,
)
from sparsestat.privacy._records import clean_records, clipped_records, report_vectors
from sparsestat.privacy._reports import ReportBatch
from sparsestat.utils._random import as_generator

# Rows whose vectors are in memory at once.
_ROWS = 4096
# Rows whose directions are drawn at once: enough for two threads, few enough for the cache.
_BLOCK = 8192


class SimulationRandomizer:
    """Randomise the records of many users as their clients would, reproducibly.

    The process that holds all records has nothing to hide from itself: this class protects
    nobody. Its reports have the distribution of those of :class:`Randomizer` and carry a flag
    which a :class:`MomentAggregator` refuses unless it is told otherwise. The flag guards
    against mistakes, not against a client that lies.

    Parameters
    ----------
    config : LDPConfig
        The campaign.
    random_state : int, RandomState instance, Generator or None, default=None
        Source of the nonces and the coins; None takes one that cannot be reproduced.
    n_jobs : int or None, default=None
        Threads that work on the directions; the reports are the same for any number.

    Notes
    -----
    A copy of this object, forked, pickled or made by :mod:`copy`, goes on with random numbers of
    its own, which cannot be reproduced, so that workers never send the same coins twice.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.privacy import LDPConfig, MomentAggregator, SimulationRandomizer
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((20_000, 2))
    >>> y = X[:, 0] / 2 + rng.standard_normal(20_000) / 2
    >>> config = LDPConfig("moments", n_features=2, epsilon=2.0)
    >>> batch = SimulationRandomizer(config, random_state=1).randomize_batch(X, y)
    >>> moments = MomentAggregator(config, allow_simulated=True).add_batch(batch).moments()
    >>> moments.S.shape, moments.n_reports
    ((2, 2), 20000)
    """

    def __init__(self, config, random_state=None, n_jobs=None):
        check_config(config)
        self.config = config
        self.random_state = random_state
        self.n_jobs = n_jobs
        # Forked processes share the state of NumPy's global generator.
        tags = [secrets.randbits(64)] if random_state is None else []
        self._rng = coin_generator(random_state, *tags)
        self._process = os.getpid()

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._process = None

    def _generator(self):
        if os.getpid() != self._process:
            # One pickle may be read many times, on machines with equal process numbers too.
            self._process = os.getpid()
            self._rng = coin_generator(self._rng, secrets.randbits(64))
        return self._rng

    def randomize_batch(self, X, y, *, query=None):
        """Make one report of each record.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features of the users; NaN and infinity become the public centre. None for the
            kind "label".
        y : array-like of shape (n_samples,)
            Targets of the users.
        query : Query or None, default=None
            The round of an interactive campaign, for the kind "gradient".

        Returns
        -------
        batch : ReportBatch
            Flagged as simulated.

        Raises
        ------
        ValueError
            For wrong shapes, or a query that does not fit.
        """
        X, y = read_records(X, y, self.config)
        return simulate_reports(
            X, y, self.config, self._generator(), query=query, n_jobs=self.n_jobs
        )

    def randomize(self, x, y, *, query=None):
        """Make a report of one record.

        Parameters
        ----------
        x : array-like of shape (n_features,)
            The features; None for the kind "label".
        y : float
            The target.
        query : Query or None, default=None
            The round of an interactive campaign.

        Returns
        -------
        report : Report
            Flagged as simulated.
        """
        return self.randomize_batch(None if x is None else [x], [y], query=query).to_reports()[0]


def coin_generator(random_state, *tags):
    """A generator for nonces and coins, independent of data drawn from the same seed.

    Parameters
    ----------
    random_state : int, RandomState instance, Generator or None
        Where its seed is drawn from.
    *tags : int
        Generators with different tags are independent of one another.

    Returns
    -------
    rng : numpy.random.Generator
    """
    return np.random.default_rng([*as_generator(random_state).integers(2**32, size=4), *tags])


def read_records(X, y, config):
    """Check the shapes of many records and put them into public units.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features) or None
        The features.
    y : array-like of shape (n_samples,)
        The targets.
    config : LDPConfig
        The campaign.

    Returns
    -------
    X : ndarray of shape (n_samples, n_columns)
    y : ndarray of shape (n_samples,)
    """
    options = {"dtype": np.float64, "ensure_all_finite": False, "ensure_min_samples": 0}
    y = column_or_1d(check_array(y, ensure_2d=False, **options))
    if X is None and config.kind == "label":
        X = np.zeros((len(y), config.n_features))
    X = check_array(X, **options)
    if X.shape[1] != config.n_features:
        raise ValueError(f"X must have {config.n_features} features, got {X.shape[1]}.")
    check_consistent_length(X, y)
    return clean_records(X, y, config)


def simulate_reports(X, y, config, rng, *, query=None, n_jobs=None):
    """Randomise records that are in public units.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_columns)
        Features in public units.
    y : ndarray of shape (n_samples,)
        Targets in public units.
    config : LDPConfig
        The campaign.
    rng : numpy.random.Generator
        Source of nonces, coins and noise.
    query : Query or None, default=None
        The round of an interactive campaign.
    n_jobs : int or None, default=None
        Number of threads.

    Returns
    -------
    batch : ReportBatch
    """
    round, theta = check_query(query, config)
    n = len(X)
    nonces = rng.integers(2**64, size=n, dtype=np.uint64)
    if config.is_seeded:
        coins = rng.integers(2**64, size=(n, config.n_bits), dtype=np.uint64)
        thresholds = _thresholds(X, y, config, theta, nonces, round, n_jobs)
        weights = np.uint32(1) << np.arange(config.n_bits, dtype=np.uint32)
        payload = np.sum((coins < thresholds) * weights, axis=1, dtype=np.uint32)
    else:
        payload = np.empty((n, config.dim), dtype=np.int32)
        for start in range(0, n, _ROWS):
            rows = slice(start, min(start + _ROWS, n))
            entries = report_vectors(X[rows], y[rows], config, theta) / config.step
            payload[rows] = _noisy_entries(entries, config, rng)
    return ReportBatch(config, nonces, payload, round=round, simulated=True)


def _thresholds(X, y, config, theta, nonces, round, n_jobs):
    keys = direction_keys(config.fingerprint(), round, config.n_bits)
    thresholds = np.empty((len(X), config.n_bits), dtype=np.uint64)
    for start in range(0, len(X), _BLOCK):
        rows = slice(start, start + _BLOCK)
        thresholds[rows] = _block_thresholds(
            X[rows], y[rows], config, theta, nonces[rows], keys, n_jobs
        )
    return thresholds


def _block_thresholds(X, y, config, theta, nonces, keys, n_jobs):
    spherical = config.is_spherical
    if config.kind == "moments":
        X, y = clipped_records(X, y, config)
        products = project_moments(
            X, config.gamma * y, nonces, keys, spherical=spherical, n_jobs=n_jobs
        )
        norms = np.sqrt(np.sum(X * X, axis=1))
        ratios = np.hypot(norms * norms, config.gamma * norms * y) / config.radius
    else:
        V = report_vectors(X, y, config, theta)
        products = project_rows(V, nonces, keys, spherical=spherical, n_jobs=n_jobs)
        ratios = norm_ratios(V, config)
    return coin_thresholds(products, ratios, config)


def _noisy_entries(entries, config, rng):
    if config.mechanism == "gaussian":
        noise = math.sqrt(config.grid_variance) * rng.standard_normal(entries.shape)
        entries = np.rint(entries + noise)
    else:
        noise = simulate_discrete_gaussian(config.grid_variance, entries.shape, rng)
        entries = np.rint(entries) + noise
    return np.clip(entries, -config.payload_limit, config.payload_limit)


def simulate_state(X, y, config, rng, *, query=None, n_jobs=None):
    """What a server knows after one report of each record.

    For Gaussian mechanisms the noise of all users is one draw from the distribution of its
    sum, so that the cost does not grow with the number of users times the length of a report.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_columns)
        Features in public units.
    y : ndarray of shape (n_samples,)
        Targets in public units.
    config : LDPConfig
        The campaign.
    rng : numpy.random.Generator
        Source of nonces, coins and noise.
    query : Query or None, default=None
        The round of an interactive campaign.
    n_jobs : int or None, default=None
        Number of threads.

    Returns
    -------
    state : MomentAggregator
    """
    round, theta = check_query(query, config)
    state = MomentAggregator(config, round=round, allow_simulated=True, n_jobs=n_jobs)
    if config.is_seeded:
        batch = simulate_reports(X, y, config, rng, query=query, n_jobs=n_jobs)
        return state.add_batch(batch)
    sums = np.zeros(config.dim)
    for start in range(0, len(X), _ROWS):
        rows = slice(start, start + _ROWS)
        entries = report_vectors(X[rows], y[rows], config, theta) / config.step
        if config.mechanism == "discrete_gaussian":
            entries = np.rint(entries)
        sums += entries.sum(axis=0)
    if config.mechanism == "gaussian":
        # Each report is rounded to the grid, which adds the variance of that.
        variance = len(X) * (config.grid_variance + 1.0 / 12.0)
        sums = np.rint(sums + math.sqrt(variance) * rng.standard_normal(config.dim))
    else:
        noise = simulate_discrete_gaussian_sum(config.grid_variance, len(X), config.dim, rng)
        sums = sums + noise
    state.add_sums(sums.astype(np.int64), len(X), simulated=True)
    return state
