"""The budget of a record, and random numbers that no two processes share."""

import contextlib
import copy
import errno
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest

from sparsestat.privacy import _client
from sparsestat.privacy._client import Randomizer
from sparsestat.privacy._config import MECHANISMS
from sparsestat.privacy._errors import PrivacyBudgetExceeded
from sparsestat.privacy._reports import Report
from sparsestat.privacy._simulation import SimulationRandomizer

from ._clients import (
    ROOT,
    WORD,
    make,
)

# --- the ledger ----------------------------------------------------------------------------


def test_the_budget_in_memory():
    client = Randomizer(make(epsilon=0.5), max_reports=3)
    reports = []
    for spent in range(3):
        assert (client.n_spent, client.spent.epsilon) == (spent, 0.5 * spent)
        reports.append(client.randomize([1.0, 1.0], 0.0))
    with pytest.raises(PrivacyBudgetExceeded, match=r"reported 3 time\(s\) and max_reports=3"):
        client.randomize([1.0, 1.0], 0.0)
    assert client.n_spent == 3 and client.spent.delta == 0
    assert len({report.nonce for report in reports}) == 3
    approximate = Randomizer(make(mechanism="discrete_gaussian", delta=1e-3), max_reports=2)
    approximate.randomize([1.0, 1.0], 0.0)
    approximate.randomize([1.0, 1.0], 0.0)
    assert (approximate.spent.epsilon, approximate.spent.delta) == (2.0, 2e-3)


def test_a_refused_record_is_no_report():
    client = Randomizer(make())
    with pytest.raises(ValueError, match="x must have 2 features"):
        client.randomize([1.0], 0.0)
    assert client.n_spent == 0
    client.randomize([1.0, 1.0], 0.0)


def test_threads_share_the_budget(monkeypatch):
    check = _client._check_budget

    def slowly(n_spent, max_reports):
        check(n_spent, max_reports)
        # Long enough for another thread to look at the same count.
        time.sleep(0.01)

    monkeypatch.setattr(_client, "_check_budget", slowly)
    client = Randomizer(make(), max_reports=2)
    start = threading.Barrier(6)

    def attempt(_):
        start.wait()
        with contextlib.suppress(PrivacyBudgetExceeded):
            return client.randomize([1.0, 1.0], 0.0)

    with ThreadPoolExecutor(6) as pool:
        reports = [report for report in pool.map(attempt, range(6)) if report is not None]
    assert len(reports) == client.n_spent == 2


def test_the_budget_on_file(tmp_path, monkeypatch):
    path = tmp_path / "ledger"
    config = make(epsilon=0.25, campaign_id="spring")
    Randomizer(config, ledger=path, max_reports=2).randomize([1.0, 1.0], 0.0)
    assert json.loads(path.read_text()) == {
        "campaign": config.fingerprint().hex(),
        "epsilon": 0.25,
        "delta": 0.0,
    }
    # Another campaign, another client, the same record.
    later = Randomizer(make(epsilon=1.0), ledger=str(path), max_reports=2)
    assert (later.n_spent, later.spent.epsilon) == (1, 0.25)
    later.randomize([1.0, 1.0], 0.0)
    assert later.spent.epsilon == 1.25
    before = path.read_bytes()
    for max_reports in (1, 2):
        with pytest.raises(PrivacyBudgetExceeded):
            Randomizer(config, ledger=path, max_reports=max_reports).randomize([1.0, 1.0], 0.0)
    assert path.read_bytes() == before


def test_a_relative_ledger_stays_where_it_was(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    client = Randomizer(make(), ledger="ledger")
    client.randomize([1.0, 1.0], 0.0)
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(PrivacyBudgetExceeded):
        client.randomize([1.0, 1.0], 0.0)


LINE = '{"campaign": "00", "epsilon": 1.0, "delta": 0.0}'


@pytest.mark.parametrize(
    "content",
    [
        b"\x00",
        b"\xff\xfe\n",
        b"{}\n",
        b"[1]\n",
        b"\n",
        b"null\n",
        LINE.encode(),  # the end of the line is missing: it was cut off
        LINE[:20].encode(),
        f"{LINE}\n{LINE[:-1]}\n".encode(),
        f"{LINE}{LINE}\n".encode(),
        b'{"epsilon": "x", "delta": 0}\n',
        b"[" * 100_000 + b"\n",
    ],
)
def test_a_damaged_ledger_spends_nothing(tmp_path, content):
    path = tmp_path / "ledger"
    client = Randomizer(make(), ledger=path, max_reports=10)
    path.write_bytes(content)
    for attempt in (
        lambda: Randomizer(make(), ledger=path, max_reports=10),
        lambda: client.randomize([1.0, 1.0], 0.0),
        lambda: client.n_spent,
        lambda: client.spent,
    ):
        with pytest.raises(ValueError, match=r"cannot be read as a ledger .* nothing can be spent"):
            attempt()
    assert path.read_bytes() == content


def test_no_report_leaves_without_its_line(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(_client, "Report", lambda *args: made.append(args))
    with pytest.raises(FileNotFoundError):
        Randomizer(make(), ledger=tmp_path / "missing" / "ledger").randomize([1.0, 1.0], 0.0)
    with pytest.raises(OSError):
        Randomizer(make(), ledger=tmp_path).randomize([1.0, 1.0], 0.0)

    def full(*args):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(_client.os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        Randomizer(make(), ledger=tmp_path / "full").randomize([1.0, 1.0], 0.0)

    def read_only(path, mode="r", **options):
        if "a" in mode:
            raise OSError(errno.EROFS, "read-only file system")
        return open(path, mode, **options)

    monkeypatch.setattr(_client, "open", read_only, raising=False)
    with pytest.raises(OSError, match="read-only file system"):
        Randomizer(make(), ledger=tmp_path / "other").randomize([1.0, 1.0], 0.0)
    assert made == []


RACE = """
import sys, time, os
from sparsestat.privacy import LDPConfig, PrivacyBudgetExceeded, Randomizer
from sparsestat.privacy import _client
check = _client._check_budget
def slowly(n_spent, max_reports):
    check(n_spent, max_reports)
    # Long enough for another process to look at the same count.
    time.sleep(0.02)
_client._check_budget = slowly
client = Randomizer(LDPConfig("label", 1), ledger=sys.argv[1], max_reports=7)
open(sys.argv[2], "w").close()
while not os.path.exists(sys.argv[3]):
    time.sleep(0.001)
made = 0
for _ in range(7):
    try:
        client.randomize(None, 1.0)
        made += 1
    except PrivacyBudgetExceeded:
        pass
print(made)
"""


def test_processes_race_for_the_budget(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ready = [tmp_path / f"ready{i}" for i in range(3)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, tmp_path / "ledger", flag, tmp_path / "go"],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for flag in ready
    ]
    while not all(flag.exists() for flag in ready):
        assert all(process.poll() is None for process in processes)
        time.sleep(0.01)
    (tmp_path / "go").touch()
    made = [int(process.communicate()[0]) for process in processes]
    assert sum(made) == 7
    assert len((tmp_path / "ledger").read_text().splitlines()) == 7


# --- workers -------------------------------------------------------------------------------

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")


def in_fork(function):
    """Run a function in a forked child and return its bytes."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, function())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as file:
        data = file.read()
    os.waitpid(child, 0)
    return data


@needs_fork
def test_forked_clients_share_no_randomness(tmp_path):
    config = make(mechanism="discrete_gaussian")
    client = Randomizer(config, ledger=tmp_path / "ledger", max_reports=9)
    client.randomize([1.0, 1.0], 0.0)

    def report():
        return client.randomize([1.0, 1.0], 0.0).to_bytes()

    reports = [Report.from_bytes(data) for data in (in_fork(report), in_fork(report), report())]
    assert len({r.nonce for r in reports}) == len({r.payload for r in reports}) == 3
    # The file knows all of them.
    assert client.n_spent == 4


@needs_fork
def test_forked_clients_do_not_share_a_budget_in_memory():
    client = Randomizer(make())

    def report():
        try:
            return client.randomize([1.0, 1.0], 0.0).to_bytes()
        except PrivacyBudgetExceeded as error:
            return str(error).encode()

    assert b"ledger is in the memory of another process" in in_fork(report)
    assert client.n_spent == 0
    client.randomize([1.0, 1.0], 0.0)


def nonces_of(batch):
    return batch.nonces.tolist()


@needs_fork
@pytest.mark.parametrize("random_state", [0, None])
def test_forked_simulations_share_no_randomness(random_state):
    X, y = np.zeros((4, 2)), np.zeros(4)
    config = make("cross", mechanism="discrete_gaussian")
    old = SimulationRandomizer(config, random_state)

    def report(randomizer):
        return randomizer.randomize_batch(X, y).nonces.tobytes()

    children = [in_fork(lambda: report(old)) for _ in range(3)] + [report(old)]
    assert len(set(children)) == 4 and all(len(child) == 32 for child in children)
    # Made in the child, without a seed: NumPy's global generator is a copy of the parent's.
    children = [in_fork(lambda: report(SimulationRandomizer(config))) for _ in range(3)]
    assert len(set(children)) == 3


@pytest.mark.parametrize("method", ["loky", "spawn"])
def test_workers_share_no_randomness(method):
    X, y = np.zeros((4, 2)), np.zeros(4)
    randomizer = SimulationRandomizer(make("cross", mechanism="discrete_gaussian"), 0)
    # More tasks than workers: one worker is given copies of one pickle, too.
    if method == "loky":
        call = joblib.delayed(randomizer.randomize_batch)
        batches = joblib.Parallel(2, batch_size=1)(call(X, y) for _ in range(6))
    else:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            tasks = [pool.apply_async(randomizer.randomize_batch, (X, y)) for _ in range(3)]
            batches = [task.get() for task in tasks]
    batches.append(randomizer.randomize_batch(X, y))
    nonces = [nonce for batch in batches for nonce in nonces_of(batch)]
    assert len(set(nonces)) == len(nonces) == 4 * len(batches)
    assert len({batch.payload.tobytes() for batch in batches}) == len(batches)


def test_copies_of_a_simulation_go_their_own_way():
    X, y = np.zeros((4, 2)), np.zeros(4)
    randomizer = SimulationRandomizer(make("cross", mechanism="discrete_gaussian"), 0)
    data = pickle.dumps(randomizer)
    twins = [pickle.loads(data), pickle.loads(data), copy.deepcopy(randomizer), randomizer]
    assert len({tuple(nonces_of(twin.randomize_batch(X, y))) for twin in twins}) == 4


def test_a_simulation_is_reproducible():
    X, y = np.random.default_rng(0).standard_normal((40, 2)), np.zeros(40)
    for mechanism in MECHANISMS:
        config = make("moments", mechanism=mechanism)
        a, b, c = (
            SimulationRandomizer(config, seed, n_jobs=jobs)
            for seed, jobs in [(1, 1), (1, 2), (2, 1)]
        )
        batches = [r.randomize_batch(X, y) for r in (a, b, c, a)]
        payloads = [batch.payload.tobytes() for batch in batches]
        assert payloads[0] == payloads[1]
        assert len({tuple(nonces_of(batch)) for batch in batches}) == 3
    # Data from a generator with the same seed have nothing to do with the coins.
    data = np.random.default_rng(1).integers(WORD, size=40, dtype=np.uint64)
    assert not set(data.tolist()) & set(nonces_of(batches[0]))


def test_simulated_reports_say_so():
    randomizer = SimulationRandomizer(make("label"), 0)
    assert randomizer.randomize_batch(None, [1.0]).simulated
    report = randomizer.randomize(None, 1.0)
    assert report.simulated and Report.from_bytes(report.to_bytes()).simulated
