"""Peers in environments of their own."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as command_line
from benchmarks import _peers

# The clocks are read just before and just after the call.
PROGRAM = """
wall_times, cpu_times = iter([1.0, 3.5]), iter([1.0, 1.25])
time.perf_counter, time.process_time = lambda: next(wall_times), lambda: next(cpu_times)

def call(arrays, options):
    return {"sum": float(arrays["X"].sum()) * options["factor"], "dtype": str(arrays["X"].dtype)}
"""


@pytest.fixture
def here(monkeypatch):
    """This interpreter stands for that of a peer."""
    monkeypatch.setattr(_peers, "interpreter", lambda name, folder=None: Path(sys.executable))


def test_a_peer_gets_data_and_is_timed_inside(here):
    X = np.arange(6, dtype=np.float32).reshape(2, 3)
    answer = _peers.call("peer", PROGRAM, {"X": X}, {"factor": 2}, threads=1)
    assert answer.result == {"sum": 30.0, "dtype": "float32"}
    assert (answer.wall, answer.cpu) == (2.5, 0.25)


def test_threads_of_a_peer(here):
    program = "import os\ndef call(arrays, options): return os.environ['OMP_NUM_THREADS']"
    assert _peers.call("peer", program, {}, {}, threads=3).result == "3"


def test_a_peer_that_fails_says_why(here):
    program = "def call(arrays, options): raise TypeError('Bounds must be a tuple.')"
    with pytest.raises(_peers.PeerError, match="peer: TypeError: Bounds must be a tuple"):
        _peers.call("peer", program, {}, {}, threads=1)


def test_version_of_a_peer_is_read_from_its_environment(tmp_path):
    assert _peers.version("some-peer", tmp_path) is None
    place = tmp_path / "some-peer" / "lib" / "python3.11" / "site-packages"
    metadata = place / "some_peer-1.2.3.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: some-peer\nVersion: 1.2.3\n")
    assert _peers.version("some-peer", tmp_path) == "1.2.3"
    assert _peers.version("numpy", tmp_path) is None


def test_an_environment_is_named_by_its_first_requirement(tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: commands.append(command))
    _peers.create("peer==1.0 other==2.0", tmp_path)
    make, install = commands
    assert make[1:3] == ["-m", "venv"] and make[-1] == str(tmp_path / "peer")
    assert install[0] == str(_peers.interpreter("peer", tmp_path))
    assert install[-2:] == ["peer==1.0", "other==2.0"]


def test_install_makes_the_environments_of_a_family(monkeypatch):
    made = []
    monkeypatch.setattr(command_line._peers, "create", made.append)
    monkeypatch.setattr(command_line.subprocess, "run", lambda command, check: None)
    command_line.main(["install", "privacy"])
    (requirements,) = made
    assert _peers.name_of(requirements) == "diffprivlib" and "scikit-learn==" in requirements
    command_line.main(["install", "linear_model"])
    assert len(made) == 1
