"""The client: one record in, one randomised report out.

This side of the trust boundary needs numpy and the standard library, and no other part of
this package than the modules that it imports.
"""

import json
import math
import os
import random
import secrets
import threading

import numpy as np

from sparsestat.privacy._config import PrivacySpec, check_config
from sparsestat.privacy._directions import direction_keys, directions
from sparsestat.privacy._discrete_gaussian import discrete_gaussian
from sparsestat.privacy._errors import IncompatibleReportsError, PrivacyBudgetExceeded
from sparsestat.privacy._query import Query
from sparsestat.privacy._records import clean_record, report_vectors
from sparsestat.privacy._reports import MAX_ROUND, Report

try:
    import fcntl
except ImportError:  # not on this platform
    fcntl = None

_HALF = 2**63


class Randomizer:
    """Randomise one record on the device of the one whom it belongs to.

    The report satisfies local differential privacy with the epsilon and delta of the
    configuration, for the replacement of the record by any other; it is pure for the
    mechanisms "one_bit" and "duchi" and approximate for "discrete_gaussian". Randomness comes
    from the operating system (:mod:`secrets`), and all of it is drawn before the record is
    read. Outside the guarantee are the moment at which a report is sent, whether it is sent
    at all, and what a server learns from other sources.

    Parameters
    ----------
    config : LDPConfig
        The campaign.
    max_reports : int, default=1
        How many reports of the record this ledger allows in all. Reports compose: their
        epsilons and deltas add up.
    ledger : str, path-like or None, default=None
        File in which each report is noted, and synchronised to the disk, before it leaves.
        Reports that an earlier process noted count. None keeps the count in memory, of this
        process alone: the object can then be neither copied nor used after a fork.
    allow_float_noise : bool, default=False
        Whether the mechanism "gaussian" may be used although the low bits of floating-point
        noise can reveal what it hides (Mironov, 2012).

    Attributes
    ----------
    n_spent : int
        Reports made so far.
    spent : PrivacySpec
        Their privacy in sum, by basic composition.

    Raises
    ------
    ValueError
        For a mechanism that is not safe, a ledger that cannot be read, or a wrong `max_reports`.

    Notes
    -----
    NaN, infinities and items that are no numbers become the public centre, and records outside
    the bounds are clipped: a client never fails because of the values of its record. Two
    processes share a ledger safely where the platform has POSIX file locks.

    References
    ----------
    .. [1] I. Mironov (2012). On significance of the least significant bits for differential
       privacy. *ACM Conference on Computer and Communications Security*, 650-661.

    Examples
    --------
    >>> from sparsestat.privacy import LDPConfig, Randomizer
    >>> config = LDPConfig("moments", n_features=3, epsilon=1.0, campaign_id="demo")
    >>> client = Randomizer(config)
    >>> report = client.randomize([0.2, -1.0, float("nan")], 0.7)
    >>> len(report.to_bytes()), client.spent.epsilon
    (36, 1.0)
    """

    def __init__(self, config, *, max_reports=1, ledger=None, allow_float_noise=False):
        check_config(config)
        if isinstance(max_reports, bool) or not isinstance(max_reports, int) or max_reports < 1:
            raise ValueError(f"max_reports must be an integer of at least 1, got {max_reports!r}.")
        if not config.deployable and not allow_float_noise:
            raise ValueError(
                f"mechanism={config.mechanism!r} adds floating-point noise, whose low bits can "
                "reveal the record: use 'discrete_gaussian', or allow_float_noise=True for "
                "records that are no secret."
            )
        self.config = config
        self.max_reports = max_reports
        self._ledger = _MemoryLedger() if ledger is None else _FileLedger(ledger)
        self._ledger.entries()

    @property
    def n_spent(self):
        return len(self._ledger.entries())

    @property
    def spent(self):
        entries = self._ledger.entries()
        return PrivacySpec(
            math.fsum(epsilon for epsilon, _ in entries),
            min(1.0, math.fsum(delta for _, delta in entries)),
            None,
        )

    def __getstate__(self):
        if isinstance(self._ledger, _MemoryLedger):
            # A copy would have the budget a second time.
            raise TypeError(
                "a Randomizer with its ledger in memory cannot be copied or pickled: the copy "
                "could spend the budget again. Bind it to a file with ledger='...'."
            )
        return self.__dict__

    def randomize(self, x, y, *, query=None, nonce=None):
        """Make a report of the record.

        Parameters
        ----------
        x : array-like of shape (n_features,)
            The features; None for the kind "label".
        y : float
            The target.
        query : Query or None, default=None
            The round of an interactive campaign, for the kind "gradient".
        nonce : int or None, default=None
            Public 64-bit number from the server, which then knows that the client did not
            choose it; None draws one.

        Returns
        -------
        report : Report

        Raises
        ------
        PrivacyBudgetExceeded
            If the ledger says that the record is spent. Nothing has left then.
        IncompatibleReportsError
            If the query belongs to another campaign.
        ValueError
            If the number of features or the nonce is wrong, or a query is missing.
        """
        config = self.config
        round, theta = check_query(query, config)
        nonce = secrets.randbits(64) if nonce is None else nonce
        if isinstance(nonce, bool) or not isinstance(nonce, int) or not 0 <= nonce < 2**64:
            raise ValueError(f"nonce must be an integer in [0, 2**64), got {nonce!r}.")
        randomness = _coins(config) if config.is_seeded else _noise(config)
        # The caller may have asked numpy to raise or to report what a record makes it meet.
        with np.errstate(all="ignore"):
            features, target = clean_record(x, y, config)
            self._ledger.spend(config, self.max_reports)
            vector = report_vectors(features, target, config, theta)
            make = _tossed_bits if config.is_seeded else _noisy_entries
            payload = make(vector, randomness, nonce, round, config)
        return Report(config.fingerprint(), round, nonce, payload)


def _coins(config):
    return [secrets.randbits(64) for _ in range(config.n_bits)]


def _noise(config):
    if config.mechanism == "discrete_gaussian":
        return [discrete_gaussian(config.grid_variance) for _ in range(config.dim)]
    source, deviation = random.SystemRandom(), math.sqrt(config.grid_variance)
    return [source.gauss(0.0, deviation) for _ in range(config.dim)]


def _tossed_bits(vector, coins, nonce, round, config):
    keys = direction_keys(config.fingerprint(), round, config.n_bits)
    nonces = np.array([nonce], dtype=np.uint64)
    products = directions(nonces, keys, config.dim, config.is_spherical) @ vector[0]
    thresholds = coin_thresholds(products, norm_ratios(vector, config), config)[0]
    bits = sum((u < int(t)) << k for k, (u, t) in enumerate(zip(coins, thresholds)))
    return bits.to_bytes(config.payload_size, "little")


def _noisy_entries(vector, noise, nonce, round, config):
    entries = vector[0] / config.step
    if config.mechanism == "discrete_gaussian":
        entries = np.rint(entries)
    # Sums of integers of this size are exact in floating point.
    entries = np.rint(entries + np.array(noise, dtype=np.float64))
    return np.clip(entries, -config.payload_limit, config.payload_limit).astype("<i4").tobytes()


def coin_thresholds(projections, ratios, config):
    """Thresholds of the coins that decide the bits.

    A bit is +1 if a uniform 64-bit integer is below its threshold. The only thing that
    depends on a record is where in ``[2**63 - A, 2**63 + A]`` the threshold lies, with the
    amplitude A of the configuration. Each value of the bit so has a probability between
    ``(2**63 - A) / 2**64`` and ``(2**63 + A) / 2**64``, whose ratio is at most
    ``exp(epsilon / n_bits)`` by the choice of A, exactly and whatever the rounding errors of
    the projections and the ratios are.

    Parameters
    ----------
    projections : ndarray of shape (n, n_bits)
        Products of the directions and the vectors.
    ratios : ndarray of shape (n,)
        Norms of the vectors over the radius.
    config : LDPConfig
        The campaign.

    Returns
    -------
    thresholds : ndarray of shape (n, n_bits), uint64
    """
    amplitude = np.uint64(config.amplitude)
    # A comparison that NaN fails keeps even that within the legal interval.
    share = np.where(ratios < 1.0, np.maximum(ratios, 0.0), 1.0)
    offset = np.minimum((share * float(amplitude)).astype(np.uint64), amplitude)[:, None]
    return np.where(projections >= 0, np.uint64(_HALF) + offset, np.uint64(_HALF) - offset)


def norm_ratios(vectors, config):
    """Norms of vectors over the radius of the campaign.

    Parameters
    ----------
    vectors : ndarray of shape (n, dim)
        Vectors to be randomised.
    config : LDPConfig
        The campaign.

    Returns
    -------
    ratios : ndarray of shape (n,)
    """
    return np.sqrt(np.sum((vectors / config.radius) ** 2, axis=1))


def check_query(query, config):
    """Read the round and the point of a query.

    Parameters
    ----------
    query : Query or None
        What the server broadcast.
    config : LDPConfig
        The campaign.

    Returns
    -------
    round : int
    theta : ndarray of shape (n_columns,) or None
    """
    if config.kind != "gradient":
        if query is not None:
            raise ValueError(
                f"query must be None for kind={config.kind!r}: only gradients are asked for at "
                "a point."
            )
        return 0, None
    if not isinstance(query, Query):
        raise ValueError(
            "query must be the Query that the server broadcasts, for kind='gradient', got a "
            f"{type(query).__name__}."
        )
    if query.fingerprint != config.fingerprint():
        raise IncompatibleReportsError(
            "query belongs to another configuration: its fingerprint is "
            f"{query.fingerprint.hex()}, that of config is {config.fingerprint().hex()}."
        )
    if len(query.theta) != config.n_columns:
        raise ValueError(
            f"query must hold a point with {config.n_columns} columns, got {len(query.theta)}."
        )
    theta = np.array(query.theta, dtype=np.float64)
    if not np.all(np.isfinite(theta)):
        raise ValueError(f"query must hold a finite point, got {query.theta!r}.")
    if not isinstance(query.round, int) or not 0 <= query.round <= MAX_ROUND:
        raise ValueError(f"query must be of a round in [0, {MAX_ROUND}], got {query.round!r}.")
    return query.round, theta


class _MemoryLedger:
    """Reports of one record, for as long as the process lives."""

    def __init__(self):
        self._entries = []
        self._process = os.getpid()
        self._lock = threading.Lock()

    def entries(self):
        return self._entries

    def spend(self, config, max_reports):
        if os.getpid() != self._process:
            raise PrivacyBudgetExceeded(
                "the ledger is in the memory of another process, from which this one was "
                "forked: each could spend the budget. Bind it to a file with ledger='...', or "
                "make the Randomizer in the process that uses it."
            )
        with self._lock:
            _check_budget(len(self._entries), max_reports)
            self._entries.append((config.epsilon, config.delta))


class _FileLedger:
    """Reports of one record, a line each, in a file that outlives the process."""

    def __init__(self, path):
        # A process that changes its folder is not to begin a new ledger there.
        self._path = os.path.abspath(os.fspath(path))

    def entries(self):
        try:
            with open(self._path, encoding="utf-8") as file:
                if fcntl is not None:
                    fcntl.flock(file, fcntl.LOCK_SH)
                return self._parse(file)
        except FileNotFoundError:
            return []

    def _parse(self, file):
        try:
            text = file.read()
            if text and not text.endswith("\n"):
                raise ValueError("its last line is cut off")
            lines = [json.loads(line) for line in text.splitlines()]
            return [(float(line["epsilon"]), float(line["delta"])) for line in lines]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ValueError(
                f"ledger: {self._path!r} cannot be read as a ledger ({error}), so nothing can be "
                "spent from it."
            ) from error

    def spend(self, config, max_reports):
        with open(self._path, "a+", encoding="utf-8") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            _check_budget(len(self._parse(file)), max_reports)
            line = {
                "campaign": config.fingerprint().hex(),
                "epsilon": config.epsilon,
                "delta": config.delta,
            }
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _check_budget(n_spent, max_reports):
    if n_spent >= max_reports:
        raise PrivacyBudgetExceeded(
            f"the record has been reported {n_spent} time(s) and max_reports={max_reports}: "
            "each further report would add its epsilon to what is known about the record."
        )
