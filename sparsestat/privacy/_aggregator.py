"""The server's state: integer sums of reports, which add up the same in any order."""

import struct
from dataclasses import dataclass, replace

import array_api_compat
import numpy as np
from sklearn.exceptions import NotFittedError

from sparsestat.privacy._config import check_config
from sparsestat.privacy._decode import decode_reports
from sparsestat.privacy._directions import SPHERICAL_GRID, direction_keys
from sparsestat.privacy._errors import (
    DuplicateReportError,
    IncompatibleReportsError,
    ReportError,
    SimulatedReportError,
)
from sparsestat.privacy._records import unpack_moments
from sparsestat.privacy._reports import (
    CHECKSUM_SIZE,
    MAX_ROUND,
    ReportBatch,
    check_batch,
    check_seal,
    load_archive,
    save_archive,
    seal,
)
from sparsestat.utils._arrays import get_namespace

# Magic and version, flags, round, fingerprint, number of reports, length, number of nonces.
_HEADER = struct.Struct("<4sBH16sQQQ")
_MAGIC = b"LDA\x01"
_ALLOW_SIMULATED, _HAS_SIMULATED, _DEDUPLICATE = 1, 2, 4


@dataclass(frozen=True)
class NoisyMoments:
    """Unbiased moments of clipped records in public units, and their known noise.

    Parameters
    ----------
    S : ndarray of shape (n_columns, n_columns) or None
        Estimate of the mean of ``w^2 x x'``; None if the reports have no Gram matrix.
    b : ndarray of shape (n_columns,)
        Estimate of the mean of ``w x clip(w y)``, of the gradient for the kind "gradient",
        or of the clipped target, of shape (1,), for the kind "label".
    n_reports : int
        Number of reports.
    sd_diag, sd_off, sd_b : float
        Standard deviations of the diagonal of S, of its other entries, and of b. They are
        known from the mechanism, not estimated; 0 where S is None.
    """

    S: np.ndarray | None
    b: np.ndarray
    n_reports: int
    sd_diag: float
    sd_off: float
    sd_b: float

    def with_gram(self, S, sd_diag, sd_off):
        """Take a Gram matrix from elsewhere.

        Parameters
        ----------
        S : ndarray of shape (n_columns, n_columns)
            Estimate of the mean of ``w^2 x x'``.
        sd_diag, sd_off : float
            Standard deviations of its entries.

        Returns
        -------
        moments : NoisyMoments
        """
        return replace(self, S=S, sd_diag=float(sd_diag), sd_off=float(sd_off))


class MomentAggregator:
    """Sum the reports of a campaign.

    The state is a vector of 64-bit integers, one for each entry of the vector that is
    randomised, whatever the number of reports. Integers add up exactly: states that were
    filled in any order, on any number of machines and merged in any order are equal bit for
    bit. What is computed from the state costs no further privacy.

    Parameters
    ----------
    config : LDPConfig
        The campaign.
    round : int, default=0
        Round of an interactive campaign whose reports are taken.
    allow_simulated : bool, default=False
        Whether reports that are flagged as simulated are taken.
    deduplicate : bool, default=False
        Whether a nonce that came before is refused. The nonces are then part of the state,
        which grows by 8 bytes for each report. Without it a report that is sent twice counts
        twice.
    n_jobs : int or None, default=None
        Threads that decode a batch; the sums are the same for any number.

    Attributes
    ----------
    n_reports_ : int
        Number of reports so far.

    Notes
    -----
    Each report of one bit moves an entry of the mean by no more than a fixed amount over the
    number of reports, and the entries of Gaussian reports are checked against their range, so
    that a share of malicious clients moves the estimate in proportion to the share.

    A batch whose columns are device arrays is decoded on the device and the sums stay there,
    until :meth:`moments`, :meth:`to_bytes` or :meth:`save` are asked for.

    Examples
    --------
    >>> from sparsestat.privacy import LDPConfig, MomentAggregator, Randomizer
    >>> config = LDPConfig("moments", n_features=2)
    >>> server = MomentAggregator(config)
    >>> for record in [([0.3, 1.0], 0.5), ([-1.0, 0.1], 0.0)]:
    ...     _ = server.add(Randomizer(config).randomize(*record))
    >>> server.n_reports_, len(server.to_bytes())
    (2, 91)
    >>> merged = server + MomentAggregator(config)
    >>> merged == server
    True
    """

    def __init__(self, config, *, round=0, allow_simulated=False, deduplicate=False, n_jobs=None):
        check_config(config)
        if not 0 <= round <= MAX_ROUND:
            raise ValueError(f"round must be in [0, {MAX_ROUND}], got {round!r}.")
        self.config = config
        self.round = int(round)
        self.allow_simulated = bool(allow_simulated)
        self.deduplicate = bool(deduplicate)
        self.n_jobs = n_jobs
        self.n_reports_ = 0
        self._simulated = False
        self._sums = np.zeros(config.dim, dtype=np.int64)
        self._nonces: set[int] = set()

    def __repr__(self):
        return (
            f"MomentAggregator({self.n_reports_} reports, kind={self.config.kind!r}, "
            f"mechanism={self.config.mechanism!r}, round={self.round})"
        )

    def __eq__(self, other):
        if not isinstance(other, MomentAggregator):
            return NotImplemented
        return self.to_bytes() == other.to_bytes()

    __hash__ = None

    def add(self, report):
        """Add one report.

        Parameters
        ----------
        report : Report or bytes
            The report.

        Returns
        -------
        self : MomentAggregator

        Raises
        ------
        ReportError
            As :meth:`add_batch`.
        """
        return self.add_batch(ReportBatch.from_reports([report], self.config))

    def add_batch(self, batch):
        """Add many reports.

        Parameters
        ----------
        batch : ReportBatch
            Reports of this campaign and round.

        Returns
        -------
        self : MomentAggregator

        Raises
        ------
        IncompatibleReportsError
            For reports of another configuration or round.
        SimulatedReportError
            For simulated reports, unless they are allowed.
        DuplicateReportError
            For a nonce that came before, if that is looked for.
        ReportError
            For entries out of range. The state is untouched after any of these.
        TypeError
            If the sums are on another device than the batch.
        """
        check_batch(batch)
        self._check_origin(batch.config, batch.round, batch.simulated)
        nonces = self._new_nonces(batch)
        sums = self._decode(batch)
        self.add_sums(sums, len(batch), simulated=batch.simulated)
        self._nonces |= nonces
        return self

    def _check_origin(self, config, round, simulated):
        if config != self.config:
            raise IncompatibleReportsError(
                "the reports were made for another configuration: their fingerprint is "
                f"{config.fingerprint().hex()}, that of the aggregator is "
                f"{self.config.fingerprint().hex()}."
            )
        if round != self.round:
            raise IncompatibleReportsError(
                f"the reports must be of round {self.round}, got round {round}."
            )
        if simulated and not self.allow_simulated:
            raise SimulatedReportError(
                "the reports are simulated, so their randomness can be reproduced; an "
                "aggregator takes them with allow_simulated=True only."
            )

    def _new_nonces(self, batch):
        if not self.deduplicate:
            return set()
        new = set(as_host(batch.nonces).tolist())
        if len(new) < len(batch) or not new.isdisjoint(self._nonces):
            raise DuplicateReportError(
                "a nonce comes a second time: a report was sent twice, or copied. The first "
                "one counts."
            )
        return new

    def _decode(self, batch):
        config = self.config
        if config.is_seeded:
            xp = get_namespace(batch.payload)[0]
            if config.n_bits < 32 and bool(xp.any(batch.payload >= 2**config.n_bits)):
                raise ReportError(f"payload must have {config.n_bits} bits, got bits beyond.")
            keys = direction_keys(config.fingerprint(), self.round, config.n_bits)
            return decode_reports(
                batch.nonces,
                batch.payload,
                keys,
                config.dim,
                spherical=config.is_spherical,
                n_jobs=self.n_jobs,
            )
        xp = get_namespace(batch.payload)[0]
        limit = config.payload_limit
        if bool(xp.any((batch.payload > limit) | (batch.payload < -limit))):
            raise ReportError(f"payload must have entries within [-{limit}, {limit}].")
        return xp.sum(batch.payload, axis=0, dtype=xp.int64)

    def add_sums(self, sums, n_reports, *, simulated):
        """Add the sums of reports that were decoded elsewhere.

        Parameters
        ----------
        sums : array of shape (dim,), int64
            Sums of decoded reports.
        n_reports : int
            Number of reports in them.
        simulated : bool
            Whether any of them was simulated.

        Returns
        -------
        self : MomentAggregator
        """
        if (self.n_reports_ + n_reports) * self._largest_entry() >= 2**63:
            raise ReportError(
                f"{self.n_reports_ + n_reports} reports could overflow the 64-bit sums."
            )
        # An empty state has no place of its own yet.
        if self.n_reports_ == 0:
            self._sums = sums
        elif n_reports > 0:
            get_namespace(self._sums, sums)
            self._sums = self._sums + sums
        self.n_reports_ += int(n_reports)
        self._simulated |= bool(simulated)
        return self

    def _largest_entry(self):
        config = self.config
        if not config.is_seeded:
            return config.payload_limit
        return config.n_bits * (32 if config.mechanism == "one_bit" else SPHERICAL_GRID)

    def merge(self, other):
        """Add the reports of another state.

        Parameters
        ----------
        other : MomentAggregator
            A state of the same campaign and round; it is left as it is.

        Returns
        -------
        self : MomentAggregator

        Raises
        ------
        IncompatibleReportsError, SimulatedReportError, DuplicateReportError
            As :meth:`add_batch`; also if only one of the two looks for duplicates.
        """
        if not isinstance(other, MomentAggregator):
            raise TypeError(f"other must be a MomentAggregator, got a {type(other).__name__}.")
        self._check_origin(other.config, other.round, other._simulated)
        if self.deduplicate != other.deduplicate:
            raise IncompatibleReportsError(
                "both states must look for duplicates, or none: deduplicate is "
                f"{self.deduplicate} here and {other.deduplicate} there."
            )
        if not self._nonces.isdisjoint(other._nonces):
            raise DuplicateReportError("a nonce is in both states: a report was sent twice.")
        self.add_sums(other._sums, other.n_reports_, simulated=other._simulated)
        self._nonces |= other._nonces
        return self

    def copy(self):
        """Copy the state.

        Returns
        -------
        copy : MomentAggregator
        """
        copy = MomentAggregator(
            self.config,
            round=self.round,
            allow_simulated=self.allow_simulated,
            deduplicate=self.deduplicate,
            n_jobs=self.n_jobs,
        )
        return copy.merge(self)

    def __add__(self, other):
        if not isinstance(other, MomentAggregator):
            return NotImplemented
        return self.copy().merge(other)

    def __iadd__(self, other):
        if not isinstance(other, MomentAggregator):
            return NotImplemented
        return self.merge(other)

    def moments(self):
        """Decode the sums.

        Returns
        -------
        moments : NoisyMoments
            On the host.

        Raises
        ------
        NotFittedError
            If there are no reports.
        """
        config, n = self.config, self.n_reports_
        if n == 0:
            raise NotFittedError("The aggregator has no reports yet; add some first.")
        mean = as_host(self._sums) * (config.unit / n)
        deviation = config.noise_scale / np.sqrt(n)
        if config.kind != "moments":
            return NoisyMoments(None, mean, n, 0.0, 0.0, float(deviation))
        S, b = unpack_moments(mean, config.n_columns, config.gamma)
        return NoisyMoments(
            S,
            b,
            n,
            float(deviation),
            float(deviation / np.sqrt(2.0)),
            float(deviation / config.gamma),
        )

    def to_bytes(self):
        """Write the state as bytes.

        Returns
        -------
        data : bytes
            8 bytes for each entry and 51 more, and 8 for each nonce with `deduplicate`.
        """
        flags = (
            _ALLOW_SIMULATED * self.allow_simulated
            | _HAS_SIMULATED * self._simulated
            | _DEDUPLICATE * self.deduplicate
        )
        head = _HEADER.pack(
            _MAGIC,
            flags,
            self.round,
            self.config.fingerprint(),
            self.n_reports_,
            self.config.dim,
            len(self._nonces),
        )
        nonces = np.array(sorted(self._nonces), dtype="<u8")
        body = head + as_host(self._sums).astype("<i8").tobytes() + nonces.tobytes()
        return seal(body)

    @classmethod
    def from_bytes(cls, data, config):
        """Read what :meth:`to_bytes` wrote.

        Parameters
        ----------
        data : bytes
            The state.
        config : LDPConfig
            The campaign; the state has its fingerprint only.

        Returns
        -------
        state : MomentAggregator

        Raises
        ------
        IncompatibleReportsError
            If the state belongs to another configuration.
        ReportError
            If the bytes are no state, are cut off or were changed.
        """
        data = bytes(memoryview(data))
        least = _HEADER.size + CHECKSUM_SIZE
        if len(data) < least or data[:4] != _MAGIC:
            raise ReportError(
                f"data must be a state of at least {least} bytes beginning with {_MAGIC!r}, got "
                f"{len(data)} bytes beginning with {data[:4]!r}."
            )
        _, flags, round, fingerprint, n_reports, dim, n_nonces = _HEADER.unpack_from(data)
        body = data[:-CHECKSUM_SIZE]
        if len(body) != _HEADER.size + 8 * (dim + n_nonces) or dim != config.dim:
            raise ReportError(
                f"data must be a state with {config.dim} entries, got {len(data)} bytes for {dim}."
            )
        check_seal(data, "state")
        if fingerprint != config.fingerprint():
            raise IncompatibleReportsError(
                "data belongs to another configuration: its fingerprint is "
                f"{fingerprint.hex()}, that of config is {config.fingerprint().hex()}."
            )
        if flags & ~(_ALLOW_SIMULATED | _HAS_SIMULATED | _DEDUPLICATE):
            raise ReportError(f"data has unknown flags {flags:#x}: another version wrote it.")
        state = cls(
            config,
            round=round,
            allow_simulated=bool(flags & _ALLOW_SIMULATED),
            deduplicate=bool(flags & _DEDUPLICATE),
        )
        numbers = np.frombuffer(body, dtype="<i8", offset=_HEADER.size)
        sums = numbers[:dim].astype(np.int64)
        most = n_reports * state._largest_entry()
        if n_nonces != n_reports * state.deduplicate or np.any((sums > most) | (sums < -most)):
            raise ReportError(f"data holds sums that {n_reports} reports cannot have.")
        state.add_sums(sums, n_reports, simulated=bool(flags & _HAS_SIMULATED))
        state._nonces = set(numbers[dim:].view("<u8").tolist())
        return state

    def save(self, path):
        """Write the state and its configuration to an npz file, all or nothing.

        Parameters
        ----------
        path : str or path-like
            The file.
        """
        save_archive(
            path, "state", self.config, state=np.frombuffer(self.to_bytes(), dtype=np.uint8)
        )

    @classmethod
    def load(cls, path):
        """Read what :meth:`save` wrote.

        Parameters
        ----------
        path : str or path-like
            The file.

        Returns
        -------
        state : MomentAggregator

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ReportError
            If the file is cut off, damaged or something else.
        """
        config, arrays = load_archive(path, "state", {"state": 1})
        return cls.from_bytes(arrays["state"].tobytes(), config)


def as_host(array):
    """A NumPy array with the contents of any array."""
    if isinstance(array, np.ndarray):
        return array
    if hasattr(array, "get"):  # CuPy
        return np.asarray(array.get())
    # The first device of a library is the one that NumPy can read.
    devices = array_api_compat.array_namespace(array).__array_namespace_info__().devices()
    return np.asarray(array_api_compat.to_device(array, devices[0]))
