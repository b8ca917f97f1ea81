"""Files that come through whole, or are refused as a whole."""

import gc
import io
import os
import pickle
import warnings
import zipfile

import numpy as np
import pytest

from sparsestat.privacy import _reports
from sparsestat.privacy._aggregator import MomentAggregator
from sparsestat.privacy._config import LDPConfig
from sparsestat.privacy._errors import (
    ReportError,
)
from sparsestat.privacy._iht_server import LDPIHTServer
from sparsestat.privacy._reports import (
    ReportBatch,
    archive_content,
    load_archive,
    save_archive,
)

from ._batches import CONFIG, GRID, SHORT, make_batch, make_server, same

# --- files ---------------------------------------------------------------------------------

FILES = {
    "bits": (ReportBatch, make_batch),
    "grid": (ReportBatch, lambda: make_batch(GRID, simulated=True)),
    "state": (MomentAggregator, SHORT["state"]),
    "server": (LDPIHTServer, make_server),
}


def equal(a, b):
    return same(a, b) if isinstance(a, ReportBatch) else a.to_bytes() == b.to_bytes()


@pytest.mark.parametrize("name", FILES)
def test_files_round_trip(name, tmp_path):
    kind, build = FILES[name]
    saved, path = build(), tmp_path / "a file with no ending"
    saved.save(path)
    assert os.listdir(tmp_path) == [path.name]
    assert equal(kind.load(path), saved) and equal(kind.load(str(path)), saved)
    assert archive_content(path) == {"bits": "reports", "grid": "reports"}.get(name, name)
    # Nothing in it needs pickle, and anyone can read it.
    with np.load(path, allow_pickle=False) as file:
        assert LDPConfig.from_json(file["config"].tobytes()) == saved.config
        assert all(file[key].dtype != object for key in file.files)
    for other in {ReportBatch, MomentAggregator, LDPIHTServer} - {kind}:
        with pytest.raises(ReportError, match=r"must hold .*, it holds"):
            other.load(path)
    with pytest.raises(FileNotFoundError, match="path must be an existing file"):
        kind.load(tmp_path / "missing")


@pytest.mark.parametrize("name", FILES)
def test_a_cut_or_changed_file_is_refused_or_the_same(name, tmp_path, monkeypatch):
    kind, build = FILES[name]
    saved, path = build(), tmp_path / "file.npz"
    saved.save(path)
    data = path.read_bytes()
    damaged = None
    # Thousands of files that are never written.
    monkeypatch.setattr(_reports, "open", lambda *args: io.BytesIO(damaged), raising=False)
    n_refused = 0
    # Each byte once, with a change that goes round all bits; the names, lengths and checksums
    # of the archive are among them. The longest file has the same parts as another.
    positions = range(0, len(data), 4 if name == "grid" else 1)
    for position in positions:
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        with warnings.catch_warnings():
            # numpy may notice an odd header before it fails.
            warnings.simplefilter("ignore")
            try:
                loaded = kind.load(path)
            except ReportError as error:
                assert str(path) in str(error) or "data" in str(error)
                n_refused += 1
            else:
                # Dates and attributes of members mean nothing.
                assert equal(loaded, saved), position
    assert n_refused > 0.6 * len(positions)
    for length in [*range(0, len(data), 37), len(data) - 1]:
        damaged = data[:length]
        with pytest.raises(ReportError, match=r"path: '.*file.npz' is no complete file"):
            kind.load(path)


def test_a_file_that_cannot_be_read_is_closed(tmp_path):
    # An open file would be an error here, as its warning is one.
    path = tmp_path / "file.npz"
    make_batch().save(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ReportError, match="no complete file"):
        ReportBatch.load(path)
    gc.collect()


def forge(path, **changes):
    """An archive as save would write, with other arrays; None leaves one out."""
    batch = make_batch()
    arrays = {
        "content": np.array("reports"),
        "config": np.frombuffer(CONFIG.to_json().encode(), dtype=np.uint8),
        "nonces": batch.nonces,
        "payload": batch.payload,
        "round": np.int64(0),
        "simulated": np.bool_(False),
    }
    arrays.update(changes)
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})


class Exploit:
    """What a pickle could do on the machine of the one who reads it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_pickles_are_never_read(tmp_path):
    trap = tmp_path / "trapped"
    path = tmp_path / "file.npz"
    for name in ("content", "config", "nonces", "payload", "round", "simulated"):
        evil = np.empty(1, dtype=object)
        evil[0] = Exploit(trap)
        forge(path, **{name: evil})
        with pytest.raises(ReportError, match="no complete file"):
            ReportBatch.load(path)
    forge(path, extra=evil)
    assert same(ReportBatch.load(path), make_batch())
    for data in (pickle.dumps(Exploit(trap)), b""):
        path.write_bytes(data)
        with pytest.raises(ReportError, match="no complete file"):
            ReportBatch.load(path)
    # Had it been read, the folder would be there.
    assert not trap.exists()
    pickle.loads(pickle.dumps(Exploit(trap)))
    assert trap.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"content": None},
        {"config": None},
        {"nonces": None},
        {"payload": None},
        {"round": None},
        {"simulated": None},
        {"content": np.array("state")},
        {"content": np.array(["reports", "reports"])},
        {"config": np.frombuffer(b"{}", dtype=np.uint8)},
        {"config": np.frombuffer(b"[" * 100_000, dtype=np.uint8)},
        {"config": np.frombuffer(GRID.to_json().encode(), dtype=np.uint8)},
        {"nonces": np.zeros(4, dtype=np.uint64)},
        {"nonces": np.zeros(5)},
        {"nonces": np.uint64(1)},
        {"payload": np.zeros(5, dtype=np.int64)},
        {"payload": np.uint32(1)},
        {"round": np.int64(-1)},
        {"round": np.int64(2**16)},
        {"round": np.array([0])},
        {"round": np.array("zero")},
        {"round": np.float64(0.5)},
        {"round": np.float64("nan")},
        {"simulated": np.array([False])},
        {"simulated": np.array("False")},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_archives_with_other_contents(tmp_path, changes):
    path = tmp_path / "file.npz"
    forge(path)
    assert same(ReportBatch.load(path), make_batch())
    forge(path, **changes)
    with pytest.raises(ReportError):
        ReportBatch.load(path)


def test_other_files(tmp_path):
    path = tmp_path / "file"
    array, archive = io.BytesIO(), io.BytesIO()
    np.save(array, np.zeros(3))
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("content.npy", b"not an array")
    for data in (array.getvalue(), archive.getvalue(), b"PK\x03\x04", b"\x93NUMPY", b"text"):
        path.write_bytes(data)
        for kind in (ReportBatch, MomentAggregator, LDPIHTServer):
            with pytest.raises(ReportError, match=r"path: '.*(is no complete file of|must hold)"):
                kind.load(path)
    with pytest.raises(ReportError, match="no complete file"):
        ReportBatch.load(tmp_path)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file.npz"
    batch = make_batch()
    batch.save(path)
    before = path.read_bytes()

    def full(*args):
        raise OSError("no space left")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(_reports.os, name, full)
            with pytest.raises(OSError, match="no space left"):
                make_batch(n=50).save(path)
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["file.npz"]
    with pytest.raises(FileNotFoundError):
        batch.save(tmp_path / "missing" / "file.npz")
    make_batch(n=50).save(path)
    assert len(ReportBatch.load(path)) == 50


def test_a_file_is_replaced_at_once(tmp_path, monkeypatch):
    # Whoever reads while another writes finds the old or the new file, and it is complete.
    path = tmp_path / "file.npz"
    make_batch(n=2).save(path)
    seen = []
    replace = os.replace

    def watched(source, target):
        seen.append((len(ReportBatch.load(path)), len(ReportBatch.load(source))))
        replace(source, target)

    monkeypatch.setattr(_reports.os, "replace", watched)
    make_batch(n=3).save(path)
    assert seen == [(2, 3)] and len(ReportBatch.load(path)) == 3


def test_archives_with_arrays_of_a_wrong_dimension(tmp_path):
    path = tmp_path / "file.npz"
    save_archive(path, "state", CONFIG, state=np.zeros((2, 2), dtype=np.uint8))
    with pytest.raises(ReportError, match=r"state in '.*' must have 1 dimension\(s\)"):
        load_archive(path, "state", {"state": 1})
    save_archive(path, "state", CONFIG, state=np.zeros(3, dtype=np.uint8))
    with pytest.raises(ReportError, match="data must be a state"):
        MomentAggregator.load(path)
