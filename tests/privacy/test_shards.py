"""Map-reduce over files: on one machine, on a cluster, from the command line."""

import functools
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sparsestat.privacy import __main__ as command
from sparsestat.privacy import _shards
from sparsestat.privacy._aggregator import MomentAggregator
from sparsestat.privacy._config import LDPConfig
from sparsestat.privacy._errors import (
    DuplicateReportError,
    IncompatibleReportsError,
    ReportError,
    SimulatedReportError,
)
from sparsestat.privacy._reports import ReportBatch
from sparsestat.privacy._shards import aggregate_shard, aggregate_shards

ROOT = Path(__file__).parents[2]
WORD = 2**64
CONFIG = LDPConfig("moments", 4, epsilon=5.0, campaign_id="shards")
SIZES = [7, 0, 30, 1, 12, 5]


def make_batch(n, seed=0, config=CONFIG, **options):
    rng = np.random.default_rng(seed)
    nonces = rng.integers(WORD, size=n, dtype=np.uint64)
    bits = rng.integers(2**config.n_bits, size=n).astype(np.uint32)
    return ReportBatch(config, nonces, bits, **options)


@pytest.fixture
def shards(tmp_path):
    """Files of reports and files of states, and the state of all of their reports."""
    paths, batches = [], []
    for i, n in enumerate(SIZES):
        batches.append(make_batch(n, seed=i))
        paths.append(tmp_path / f"shard{i}.npz")
        saved = batches[i] if i % 3 else MomentAggregator(CONFIG).add_batch(batches[i])
        saved.save(paths[i])
    whole = MomentAggregator(CONFIG).add_batch(ReportBatch.concatenate(batches))
    return paths, whole


# --- one machine ---------------------------------------------------------------------------


def test_any_order_and_grouping_gives_the_same_bits(shards, tmp_path):
    paths, whole = shards
    assert whole.n_reports_ == sum(SIZES)
    rng = np.random.default_rng(0)
    for trial in range(8):
        order = [paths[i] for i in rng.permutation(len(paths))]
        assert aggregate_shards(order, n_jobs=1 + trial % 3) == whole
        # Some first, their state to a file, and that among the rest.
        cut = int(rng.integers(1, len(order)))
        part = tmp_path / "part.npz"
        aggregate_shards(order[:cut]).save(part)
        assert aggregate_shards([*order[cut:], part]) == whole
    assert aggregate_shards(map(str, paths)) == whole
    assert aggregate_shards(iter(paths)).to_bytes() == whole.to_bytes()
    states = map(aggregate_shard, paths)
    assert functools.reduce(lambda a, b: a + b, states) == whole


def test_single_shards(shards):
    paths, _ = shards
    for path, n in zip(paths, SIZES):
        state = aggregate_shard(path)
        assert (state.n_reports_, state.config, state.round) == (n, CONFIG, 0)
        assert aggregate_shards([path]) == aggregate_shard(str(path)) == state


def test_rounds_are_those_of_the_files(tmp_path):
    config = LDPConfig("gradient", 2)
    for round in (3, 4):
        make_batch(4, config=config, round=round).save(tmp_path / f"{round}.npz")
    assert aggregate_shards([tmp_path / "4.npz"]).round == 4
    with pytest.raises(IncompatibleReportsError, match=r"path: '.*4.npz': .*be of round 3, got r"):
        aggregate_shards([tmp_path / "3.npz", tmp_path / "4.npz"])


def test_nothing_to_sum():
    with pytest.raises(ValueError, match="paths must hold at least one file, got none"):
        aggregate_shards([])
    for path in ("shard.npz", Path("shard.npz")):
        with pytest.raises(TypeError, match="paths must be a sequence of paths, got the single"):
            aggregate_shards(path)


@pytest.mark.parametrize("last", [False, True])
def test_refused_shards_are_named(shards, tmp_path, last):
    paths, _ = shards
    odd = tmp_path / "odd one.npz"
    files = [*paths, odd] if last else [odd, *paths]
    # Of two that do not belong together, the later one is named.
    where = r"path: .*odd one.npz': .*" if last else r"path: .*shard0.npz': .*"
    with pytest.raises(FileNotFoundError, match=r"odd one.npz"):
        aggregate_shards(files)
    odd.write_bytes(paths[1].read_bytes()[:-9])
    with pytest.raises(ReportError, match=r"odd one.npz' is no complete file"):
        aggregate_shards(files)
    make_batch(3, simulated=True).save(odd)
    with pytest.raises(
        SimulatedReportError, match=r"path: .*odd one.npz': the reports are simulat"
    ):
        aggregate_shards(files)
    state = MomentAggregator(CONFIG, allow_simulated=True)
    state.add_batch(make_batch(3, simulated=True)).save(odd)
    with pytest.raises(
        SimulatedReportError, match=r"path: .*odd one.npz': the reports are simulat"
    ):
        aggregate_shards(files)
    assert aggregate_shards(files, allow_simulated=True).n_reports_ == sum(SIZES) + 3
    make_batch(3, config=LDPConfig("moments", 4, epsilon=5.0)).save(odd)
    with pytest.raises(IncompatibleReportsError, match=where + "made for another configuration"):
        aggregate_shards(files)
    bad = make_batch(3)
    bad.payload[1] = 2**CONFIG.n_bits
    bad.save(odd)
    with pytest.raises(ReportError, match=r"path: .*odd one.npz': payload must have"):
        aggregate_shards(files)


def test_reports_that_come_twice(tmp_path):
    batch, paths = make_batch(6), [tmp_path / "a.npz", tmp_path / "b.npz"]
    batch[:4].save(paths[0])
    batch[3:].save(paths[1])
    assert aggregate_shards(paths).n_reports_ == 7
    with pytest.raises(DuplicateReportError, match=r"path: '.*b.npz': a nonce is in both states"):
        aggregate_shards(paths, deduplicate=True)
    batch[4:].save(paths[1])
    state = aggregate_shards(paths, deduplicate=True)
    assert state == MomentAggregator(CONFIG, deduplicate=True).add_batch(batch)
    # A state without its nonces cannot be checked against others.
    MomentAggregator(CONFIG).add_batch(batch[4:]).save(paths[1])
    with pytest.raises(IncompatibleReportsError, match=r"b.npz'.* both states must look for dupl"):
        aggregate_shards(paths, deduplicate=True)


def test_one_file_at_a_time_is_in_memory(shards, monkeypatch):
    paths, whole = shards
    read, done = [], []

    def watched(path, **options):
        state = aggregate_shard(path, **options)
        done.append(path)
        return state

    def lazily():
        for path in paths:
            # Each file has been summed before the next one is asked for.
            assert done == read
            read.append(path)
            yield path

    monkeypatch.setattr(_shards, "aggregate_shard", watched)
    assert aggregate_shards(lazily()) == whole
    assert done == paths


# --- a cluster -----------------------------------------------------------------------------

dask = pytest.importorskip("dask")


def nbytes(value):
    if isinstance(value, MomentAggregator):
        return len(value.to_bytes())
    if isinstance(value, ReportBatch):
        return value.nonces.nbytes + value.payload.nbytes
    if isinstance(value, list | tuple):
        return sum(map(nbytes, value))
    return 0


def test_nothing_on_a_cluster_exceeds_a_shard_and_the_state(tmp_path):
    import dask.bag
    from dask.callbacks import Callback

    n = 12
    paths = [tmp_path / f"{i:02}.npz" for i in range(n)]
    for i, path in enumerate(paths):
        make_batch(50, seed=i).save(path)
    largest, states = [], []

    class Watch(Callback):
        def _posttask(self, key, result, graph, state, worker_id):
            largest.append(nbytes(result))
            states.append(isinstance(result, MomentAggregator))

    for partition_size in (1, 4, n):
        bag = dask.bag.from_sequence(paths, partition_size=partition_size)
        with Watch(), dask.config.set(scheduler="synchronous"):
            total = aggregate_shards(bag)
        assert total == aggregate_shards(paths)
    assert sum(states) >= n + 3
    # A partition of four files is one state when it is done, not four.
    assert max(largest) <= 50 * 12 + len(total.to_bytes())


def test_schedulers_and_partitions_do_not_change_a_bit(shards):
    import dask.bag

    paths, whole = shards
    for scheduler, npartitions in itertools.product(["synchronous", "threads"], [1, 3, 6]):
        bag = dask.bag.from_sequence(paths, npartitions=npartitions)
        with dask.config.set(scheduler=scheduler):
            assert aggregate_shards(bag).to_bytes() == whole.to_bytes()
    # Partitions that a filter has emptied are nothing.
    bag = dask.bag.from_sequence(paths, npartitions=6).filter(lambda path: "shard4" in path.name)
    with dask.config.set(scheduler="synchronous"):
        assert aggregate_shards(bag).n_reports_ == SIZES[4]


def test_a_cluster_refuses_what_one_machine_refuses(shards, tmp_path):
    import dask.bag

    paths, _ = shards
    make_batch(3, simulated=True).save(tmp_path / "odd.npz")
    bag = dask.bag.from_sequence([*paths, tmp_path / "odd.npz"], npartitions=2)
    with dask.config.set(scheduler="synchronous"):
        with pytest.raises(SimulatedReportError, match=r"odd.npz': the reports are simulated"):
            aggregate_shards(bag)
        assert aggregate_shards(bag, allow_simulated=True).n_reports_ == sum(SIZES) + 3


def test_a_distributed_cluster(shards):
    distributed = pytest.importorskip("distributed")
    import dask.bag

    paths, whole = shards
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    )
    with cluster, distributed.Client(cluster) as client:
        assert len(client.scheduler_info()["workers"]) == 2
        bag = dask.bag.from_sequence(paths, partition_size=2)
        total = aggregate_shards(bag)
        assert total.to_bytes() == whole.to_bytes()
        # The same as a reduction of futures.
        futures = client.map(aggregate_shard, paths)
        assert client.submit(sum_states, futures).result() == whole


def sum_states(states):
    return functools.reduce(lambda a, b: a + b, states)


# --- the command line ----------------------------------------------------------------------


def run(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "sparsestat.privacy", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=cwd,
        capture_output=True,
        text=True,
    )


def test_the_command_line(shards, tmp_path):
    paths, whole = shards
    result = run("aggregate", *paths, "-o", "total.npz", cwd=tmp_path)
    assert result.returncode == 0 and result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[0] == "55 reports, round 0"
    assert lines[1] == "kind=moments mechanism=one_bit campaign='shards'"
    assert lines[2] == "epsilon=5 delta=0 per record, adjacency: replace"
    assert lines[3] == f"fingerprint {CONFIG.fingerprint().hex()}"
    assert lines[4].endswith(f"cross moments {whole.moments().sd_b:.3g}")
    assert MomentAggregator.load(tmp_path / "total.npz") == whole


def test_the_command_line_refuses(shards, tmp_path):
    paths, _ = shards
    make_batch(3, simulated=True).save(tmp_path / "odd.npz")
    before = sorted(os.listdir(tmp_path))
    result = run("aggregate", *paths, "odd.npz", "-o", "total.npz", cwd=tmp_path)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.startswith("SimulatedReportError: path: 'odd.npz': the reports are")
    assert "Traceback" not in result.stderr
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["aggregate", "good.npz", "missing.npz", "-o", "o.npz"], 2, "FileNotFoundError: "),
        (["aggregate", "good.npz", "cut.npz", "-o", "o.npz"], 2, "ReportError: path: 'cut.npz'"),
        (["aggregate", "good.npz", "other.npz", "-o", "o.npz"], 2, "IncompatibleReportsError: "),
        (["aggregate", "good.npz", "odd.npz", "-o", "o.npz"], 2, "SimulatedReportError: "),
        (["aggregate", "good.npz", ".", "-o", "o.npz"], 2, "ReportError: "),
        (["aggregate", "good.npz", "./good.npz", "-o", "o.npz"], 2, "ValueError: paths must name"),
        (["aggregate", "good.npz", "-o", "missing/o.npz"], 2, "FileNotFoundError: "),
        (
            ["aggregate", "good.npz", "same.npz", "--deduplicate", "-o", "o.npz"],
            2,
            "DuplicateReportError: path: 'same.npz'",
        ),
        (["aggregate", "good.npz", "odd.npz", "--allow-simulated", "-o", "o.npz"], 0, ""),
        (["aggregate", "good.npz", "--n-jobs", "2", "-o", "o.npz"], 0, ""),
        (["show", "state.npz"], 0, ""),
        (["show", "empty.npz"], 0, ""),
        (["show", "good.npz"], 2, "ReportError: path: 'good.npz' must hold state, it holds rep"),
        (["show", "missing.npz"], 2, "FileNotFoundError: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_commands(arguments, status, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_batch(5).save("good.npz")
    make_batch(5).save("same.npz")
    make_batch(5, simulated=True, seed=1).save("odd.npz")
    make_batch(5, config=LDPConfig("cross", 2)).save("other.npz")
    MomentAggregator(CONFIG).add_batch(make_batch(5)).save("state.npz")
    MomentAggregator(CONFIG).save("empty.npz")
    Path("cut.npz").write_bytes(Path("good.npz").read_bytes()[:-100])
    assert command.main(arguments) == status
    captured = capsys.readouterr()
    if status:
        assert captured.err.startswith(message) and captured.out == ""
        assert captured.err.count("\n") == 1
    else:
        assert captured.err == "" and " reports, round 0\n" in captured.out
    assert os.path.exists("o.npz") == (status == 0 and "-o" in arguments)
    assert not [name for name in os.listdir() if "part" in name]


@pytest.mark.parametrize("arguments", [[], ["aggregate"], ["aggregate", "a.npz"], ["shred", "a"]])
def test_commands_that_do_not_exist(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(arguments)
    assert stop.value.code == 2
    assert "usage: python -m sparsestat.privacy" in capsys.readouterr().err


def test_an_older_state_survives_a_refusal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_batch(5).save("good.npz")
    make_batch(5, simulated=True).save("odd.npz")
    assert command.main(["aggregate", "good.npz", "-o", "total.npz"]) == 0
    before = Path("total.npz").read_bytes()
    assert command.main(["aggregate", "good.npz", "odd.npz", "-o", "total.npz"]) == 2
    assert Path("total.npz").read_bytes() == before
    # A state can take more shards, and replace itself.
    make_batch(2, seed=9).save("more.npz")
    assert command.main(["aggregate", "total.npz", "more.npz", "-o", "total.npz"]) == 0
    assert MomentAggregator.load("total.npz").n_reports_ == 7
