"""What travels from the clients to the server, and nothing else."""

import io
import os
import secrets
import struct
import zlib
from typing import Any

import numpy as np

from sparsestat.privacy._config import LDPConfig, check_config
from sparsestat.privacy._errors import IncompatibleReportsError, ReportError

# Magic and version, flags, round, fingerprint, nonce; the payload and a checksum follow.
_HEADER = struct.Struct("<4sBH16sQ")
_CHECKSUM = struct.Struct("<I")
_MAGIC = b"LDP\x01"
_SIMULATED = 1
CHECKSUM_SIZE = _CHECKSUM.size
OVERHEAD = _HEADER.size + CHECKSUM_SIZE
MAX_ROUND = 2**16 - 1


class Report:
    """One randomised report.

    Only the payload depends on the record, and that through the randomizer alone.

    Parameters
    ----------
    fingerprint : bytes
        The configuration it was made for, see :meth:`LDPConfig.fingerprint`.
    round : int
        Round of an interactive campaign; 0 otherwise.
    nonce : int
        Public number from which the directions follow; drawn before the record is read.
    payload : bytes
        The bits, or the entries as little-endian 32-bit integers.
    simulated : bool
        Whether a reproducible generator made it. The flag guards against mistakes, not
        against a client that lies.
    """

    __slots__ = ("fingerprint", "nonce", "payload", "round", "simulated")

    def __init__(self, fingerprint, round, nonce, payload, simulated=False):
        self.fingerprint = fingerprint
        self.round = round
        self.nonce = nonce
        self.payload = payload
        self.simulated = simulated

    def __eq__(self, other):
        if not isinstance(other, Report):
            return NotImplemented
        return self.to_bytes() == other.to_bytes()

    def __hash__(self):
        return hash(self.to_bytes())

    def __repr__(self):
        return (
            f"Report(fingerprint={self.fingerprint.hex()!r}, round={self.round}, "
            f"nonce={self.nonce}, {len(self.payload)} bytes{', simulated' * self.simulated})"
        )

    def to_bytes(self):
        """Write the report as bytes, with a checksum.

        Returns
        -------
        data : bytes
            36 bytes for up to eight bits.
        """
        flags = _SIMULATED if self.simulated else 0
        head = _HEADER.pack(_MAGIC, flags, self.round, self.fingerprint, self.nonce)
        body = head + self.payload
        return seal(body)

    @classmethod
    def from_bytes(cls, data):
        """Read what :meth:`to_bytes` wrote.

        Parameters
        ----------
        data : bytes
            One report.

        Returns
        -------
        report : Report

        Raises
        ------
        ReportError
            If the bytes are no report, are cut off or were changed on the way.
        """
        # Unlike bytes, a memoryview of a number is no zeros.
        data = bytes(memoryview(data))
        if len(data) <= OVERHEAD:
            raise ReportError(
                f"data must be a report of more than {OVERHEAD} bytes, got {len(data)}."
            )
        body = data[:-CHECKSUM_SIZE]
        magic, flags, round, fingerprint, nonce = _HEADER.unpack_from(body)
        if magic != _MAGIC:
            raise ReportError(f"data must be a report, beginning with {_MAGIC!r}, got {magic!r}.")
        check_seal(data, "report")
        if flags & ~_SIMULATED:
            raise ReportError(f"data has unknown flags {flags:#x}: another version wrote it.")
        return cls(fingerprint, round, nonce, body[_HEADER.size :], bool(flags & _SIMULATED))


class ReportBatch:
    """Many reports of one campaign and round, as columns.

    Parameters
    ----------
    config : LDPConfig
        The campaign.
    nonces : array of shape (n_reports,), uint64
        One public number for each report.
    payload : array of shape (n_reports,), uint32, or (n_reports, dim), int32
        The bits of each report as a mask, or its entries.
    round : int, default=0
        Round of an interactive campaign.
    simulated : bool, default=False
        Whether a reproducible generator made the reports.

    Raises
    ------
    ReportError
        If the columns do not fit the configuration.

    Notes
    -----
    The columns may be device arrays, which are decoded where they are.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.privacy import LDPConfig, ReportBatch, SimulationRandomizer
    >>> config = LDPConfig("cross", n_features=3)
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.standard_normal((5, 3)), rng.standard_normal(5)
    >>> batch = SimulationRandomizer(config, random_state=0).randomize_batch(X, y)
    >>> len(batch), len(batch[1:3]), batch.payload.dtype
    (5, 2, dtype('uint32'))
    """

    def __init__(self, config, nonces, payload, *, round=0, simulated=False):
        check_config(config)
        if not 0 <= round <= MAX_ROUND:
            raise ReportError(f"round must be in [0, {MAX_ROUND}], got {round}.")
        # Arrays of the standard have no len().
        n = next(iter(getattr(nonces, "shape", ())), 0)
        shape, dtype = ((n,), "uint32") if config.is_seeded else ((n, config.dim), "int32")
        _check_column(nonces, "nonces", (n,), "uint64")
        _check_column(payload, "payload", shape, dtype)
        self.config = config
        self.nonces = nonces
        self.payload = payload
        self.round = int(round)
        self.simulated = bool(simulated)

    def __len__(self):
        return self.nonces.shape[0]

    def __repr__(self):
        return (
            f"ReportBatch({len(self)} reports, kind={self.config.kind!r}, "
            f"mechanism={self.config.mechanism!r}, round={self.round}"
            f"{', simulated' * self.simulated})"
        )

    def __getitem__(self, index):
        """Take some of the reports: a slice, a mask or positions."""
        if isinstance(index, int | np.integer):
            index = slice(index, index + 1 or None)
        return ReportBatch(
            self.config,
            self.nonces[index],
            self.payload[index],
            round=self.round,
            simulated=self.simulated,
        )

    def to_reports(self):
        """Split the batch into single reports.

        Returns
        -------
        reports : list of Report
        """
        config, fingerprint = self.config, self.config.fingerprint()

        def payload(item):
            if config.is_seeded:
                return int(item).to_bytes(config.payload_size, "little")
            return item.astype("<i4").tobytes()

        return [
            Report(fingerprint, self.round, int(nonce), payload(item), self.simulated)
            for nonce, item in zip(self.nonces, self.payload)
        ]

    @classmethod
    def from_reports(cls, reports, config):
        """Collect single reports.

        Parameters
        ----------
        reports : sequence of Report or bytes
            Reports of one configuration and round, all simulated or none.
        config : LDPConfig
            The campaign.

        Returns
        -------
        batch : ReportBatch

        Raises
        ------
        IncompatibleReportsError
            For a report of another configuration, or of a round other than the first one's.
        ReportError
            For a report whose payload does not fit.
        """
        reports = [
            report if isinstance(report, Report) else Report.from_bytes(report)
            for report in reports
        ]
        fingerprint = config.fingerprint()
        for position, report in enumerate(reports):
            if report.fingerprint != fingerprint:
                raise IncompatibleReportsError(
                    f"reports[{position}] was made for another configuration: its fingerprint "
                    f"is {report.fingerprint.hex()}, that of config is {fingerprint.hex()}."
                )
            if (report.round, report.simulated) != (reports[0].round, reports[0].simulated):
                raise IncompatibleReportsError(
                    f"reports must share one round and one origin; reports[0] has "
                    f"round={reports[0].round} and simulated={reports[0].simulated}, "
                    f"reports[{position}] has {report.round} and {report.simulated}."
                )
        columns = [_read_payload(report.payload, config, i) for i, report in enumerate(reports)]
        dtype = np.uint32 if config.is_seeded else np.int32
        payload = np.array(columns, dtype=dtype)
        return cls(
            config,
            np.array([report.nonce for report in reports], dtype=np.uint64),
            payload if config.is_seeded else payload.reshape(len(reports), config.dim),
            round=reports[0].round if reports else 0,
            simulated=reports[0].simulated if reports else False,
        )

    @classmethod
    def concatenate(cls, batches):
        """Join batches of one configuration, round and origin.

        Parameters
        ----------
        batches : sequence of ReportBatch
            At least one.

        Returns
        -------
        batch : ReportBatch

        Raises
        ------
        IncompatibleReportsError
            If they do not belong together.
        """
        batches = list(batches)
        if not batches:
            raise ValueError("batches must hold at least one batch, got none.")
        first = batches[0]
        for batch in batches[1:]:
            if batch.config != first.config or batch.round != first.round:
                raise IncompatibleReportsError(
                    f"batches must share one configuration and round, got {first!r} and {batch!r}."
                )
        return cls(
            first.config,
            np.concatenate([batch.nonces for batch in batches]),
            np.concatenate([batch.payload for batch in batches]),
            round=first.round,
            simulated=any(batch.simulated for batch in batches),
        )

    def save(self, path):
        """Write the batch to a file that needs no pickle to be read.

        The file replaces an older one as a whole or not at all.

        Parameters
        ----------
        path : str or path-like
            The file, an npz archive that holds the configuration too.
        """
        save_archive(
            path,
            "reports",
            self.config,
            nonces=np.asarray(self.nonces),
            payload=np.asarray(self.payload),
            round=np.int64(self.round),
            simulated=np.bool_(self.simulated),
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
        batch : ReportBatch

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ReportError
            If the file is cut off, damaged or something else.
        """
        config, arrays = load_archive(
            path, "reports", {"nonces": 1, "payload": None, "round": 0, "simulated": 0}
        )
        if arrays["round"].dtype.kind != "i" or arrays["simulated"].dtype.kind != "b":
            raise ReportError(
                f"path: round and simulated in {os.fspath(path)!r} must be an integer and a bool, "
                f"got {arrays['round'].dtype} and {arrays['simulated'].dtype}."
            )
        return cls(
            config,
            arrays["nonces"],
            arrays["payload"],
            round=int(arrays["round"]),
            simulated=bool(arrays["simulated"]),
        )


def seal(body):
    """Append a checksum, which tells damage and no forgery."""
    return body + _CHECKSUM.pack(zlib.crc32(body))


def check_seal(data, content):
    """Refuse bytes that :func:`seal` did not make."""
    if data != seal(data[:-CHECKSUM_SIZE]):
        raise ReportError(f"data is damaged: the checksum of the {content} does not match.")


def check_batch(batch):
    """Refuse what is no batch, with advice."""
    if not isinstance(batch, ReportBatch):
        raise TypeError(
            f"batch must be a ReportBatch, got a {type(batch).__name__}; "
            "ReportBatch.from_reports makes one of single reports."
        )


def _check_column(column, name, shape, dtype):
    if not hasattr(column, "dtype"):
        raise TypeError(f"{name} must be an array of type {dtype}, got a {type(column).__name__}.")
    found = str(column.dtype).rpartition(".")[-1]
    if tuple(column.shape) != shape or found != dtype:
        raise ReportError(
            f"{name} must be of shape {shape} and type {dtype}, got shape "
            f"{tuple(column.shape)} and type {found}."
        )


def _read_payload(payload, config, position):
    if config.is_seeded:
        width, value = config.payload_size, int.from_bytes(payload, "little")
        if len(payload) != width or value >> config.n_bits:
            raise ReportError(
                f"reports[{position}] must hold {config.n_bits} bits in {width} bytes, got "
                f"{len(payload)} bytes{' with bits beyond' * (len(payload) == width)}."
            )
        return value
    if len(payload) != config.payload_size:
        raise ReportError(
            f"reports[{position}] must hold {config.dim} entries of 4 bytes, got "
            f"{len(payload)} bytes."
        )
    return np.frombuffer(payload, dtype="<i4")


def save_archive(path, content, config, **arrays):
    """Write arrays and a configuration to an npz file, all or nothing."""
    path = os.fspath(path)
    buffer = io.BytesIO()
    text = np.frombuffer(config.to_json().encode(), dtype=np.uint8)
    np.savez(buffer, content=np.array(content), config=text, **arrays)
    part = f"{path}.part{secrets.token_hex(4)}"
    try:
        with open(part, "wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        if os.path.exists(part):
            os.remove(part)


def archive_content(path):
    """Say what a file holds: "reports", "state" or "server"."""
    return load_archive(path, None, {})[1]["content"]


def load_archive(path, content, ndims):
    """Read what :func:`save_archive` wrote; `ndims` has the dimensions of each array.

    With `content` None any content is right, and is returned among the arrays.
    """
    path = os.fspath(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"path must be an existing file, got {path!r}.")
    try:
        # numpy leaves a file open that it opened and could not read.
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            found = str(file["content"])
            if content is not None and found != content:
                raise ReportError(f"path: {path!r} must hold {content}, it holds {found}.")
            config = LDPConfig.from_json(file["config"].tobytes())
            arrays: dict[str, Any] = {name: np.asarray(file[name]) for name in ndims}
            if content is None:
                arrays["content"] = found
    except ReportError:
        raise
    # numpy and zipfile raise whatever a damaged file makes them meet first.
    except Exception as error:
        raise ReportError(
            f"path: {path!r} is no complete file of {content or 'reports or a state'} "
            f"({type(error).__name__}: {error})."
        ) from error
    for name, ndim in ndims.items():
        if ndim is not None and arrays[name].ndim != ndim:
            raise ReportError(
                f"path: {name} in {path!r} must have {ndim} dimension(s), got shape "
                f"{arrays[name].shape}."
            )
    return config, arrays
