"""The measurement rule, with solvers whose time comes from a clock that they turn themselves."""

import collections
import itertools
import math
import statistics

import numpy as np
import pytest
import threadpoolctl

from benchmarks import _measure
from benchmarks._measure import (
    Case,
    Clock,
    Race,
    Solver,
    envelope,
    limited_threads,
    paired_ratios,
    peak_memory,
    read_time,
    run_race,
    sampled_peak_memory,
    setting_for,
    spread,
    summarise,
    turns,
)


@pytest.fixture(autouse=True)
def no_collection(monkeypatch):
    """Collecting garbage before every fake run would take nearly all the tests' time."""
    monkeypatch.setattr(_measure.gc, "collect", lambda: 0)


# --------------------------------------------------------------------------- reading a curve


def power_law(accuracies, scale=2.0, order=0.3):
    return [(accuracy, scale * accuracy**-order) for accuracy in accuracies]


@pytest.mark.parametrize("target", [5e-4, 1e-5, 3.3e-7, 1e-8])
def test_a_power_law_is_read_exactly_between_its_points(target):
    reading = read_time(power_law([1e-3, 1e-5, 1e-6, 1e-9]), target)
    assert reading.how == "between"
    assert reading.seconds == pytest.approx(2.0 * target**-0.3, rel=1e-12)


def test_a_point_on_the_target_is_read_as_it_is():
    reading = read_time([(1e-4, 1.0), (1e-6, 3.0), (1e-8, 50.0)], 1e-6)
    assert (reading.how, reading.seconds) == ("between", pytest.approx(3.0))


def test_each_piece_has_its_own_slope():
    curve = [(1e-2, 1.0), (1e-4, 10.0), (1e-6, 11.0)]
    assert read_time(curve, 1e-3).seconds == pytest.approx(math.sqrt(10.0))
    assert read_time(curve, 1e-5).seconds == pytest.approx(math.sqrt(110.0))


def test_extrapolation_follows_the_last_piece_up_to_a_factor_two():
    curve = [(1e-2, 0.5), *power_law([1e-4, 1e-5])]
    for factor in (1.2, 2.0):
        reading = read_time(curve, 1e-5 / factor)
        assert reading.how == "extrapolated"
        assert reading.seconds == pytest.approx(2.0 * (1e-5 / factor) ** -0.3, rel=1e-12)
    reading = read_time(curve, 1e-5 / 2.01)
    assert (reading.how, reading.seconds) == ("not reached", None)


def test_one_setting_cannot_be_extrapolated():
    assert read_time([(1.1e-6, 1.0)], 1e-6).how == "not reached"
    # The second setting is no better than the first, so it gives no slope either.
    assert read_time([(1.1e-6, 1.0), (1.2e-6, 2.0)], 1e-6).how == "not reached"


def test_without_a_finite_accuracy_nothing_is_reached():
    assert read_time([], 1e-6).how == "not reached"
    assert read_time([(math.nan, 1.0), (None, 1.0), (math.inf, 2.0)], 1e-6).how == "not reached"


def test_a_solver_that_is_always_more_accurate_is_read_at_its_fastest_setting():
    reading = read_time([(1e-8, 2.0), (1e-10, 3.0), (1e-9, 2.5)], 1e-6)
    assert (reading.how, reading.seconds) == ("fastest", 2.0)


def test_a_looser_setting_that_was_slower_does_not_count():
    reading = read_time([(1e-4, 9.0), (1e-7, 2.0), (1e-9, 3.0)], 1e-6)
    assert (reading.how, reading.seconds) == ("fastest", 2.0)


def test_the_envelope_is_strictly_monotone_and_ignores_the_order():
    points = [(1e-3, 1.0), (1e-2, 1.0), (1e-5, 4.0), (1e-4, 5.0), (1e-5, 6.0), (1e-7, 7.0)]
    expected = [(1e-3, 1.0), (1e-5, 4.0), (1e-7, 7.0)]
    assert envelope(points) == expected
    assert envelope(points[::-1]) == expected


def test_accuracies_that_rounding_made_negative_count_as_exact():
    assert read_time([(1e-4, 1.0), (-1e-20, 3.0)], 1e-6).how == "between"


# --------------------------------------------------------------------------- pairing


def test_ratios_pair_the_repeats_and_skip_those_that_were_not_reached():
    assert paired_ratios([1.0, 2.0, None, 4.0], [2.0, 8.0, 1.0, None]) == [0.5, 0.25]


def test_the_spread_is_the_median_and_the_range():
    assert spread([3.0, None, 1.0, 10.0]) == {"median": 3.0, "min": 1.0, "max": 10.0, "count": 3}
    assert spread([None]) is None


def test_every_run_has_its_turn_and_solvers_alternate():
    counts = [4, 2, 3]
    everything = {(solver, level) for solver, count in enumerate(counts) for level in range(count)}
    for repeat in range(7):
        order = turns(counts, repeat)
        assert len(order) == len(everything)
        assert set(order) == everything
    first = [solver for solver, _ in turns(counts, 0)]
    assert first == [0, 1, 2, 0, 1, 2, 0, 2, 0]
    assert turns([], 3) == []


def test_no_run_always_follows_the_same_neighbour():
    before = collections.defaultdict(set)
    for repeat in range(5):
        order = turns([3, 3], repeat)
        for previous, run in itertools.pairwise(order):
            before[run].add(previous)
    assert all(len(neighbours) > 1 for neighbours in before.values())


# --------------------------------------------------------------------------- races


class Stage:
    """A clock, and fake solvers that advance it by known times."""

    def __init__(self, load=(1.0,)):
        self.now = {"cpu": 0.0, "wall": 0.0}
        self.load = load
        self.calls = []

    @property
    def clock(self):
        return Clock(cpu=lambda: self.now["cpu"], wall=lambda: self.now["wall"])

    def spend(self, cpu, wall):
        self.now["cpu"] += cpu
        self.now["wall"] += wall

    def solver(self, name, scale, tolerances=(1e-4, 1e-5, 1e-6, 1e-7), **options):
        """Need ``scale / sqrt(tolerance)`` s of CPU, thrice that of wall, under the load."""
        ours = options.pop("ours", False)
        warm_up = options.pop("warm_up", 1000.0)
        fails_at = options.pop("fails_at", None)
        counts = collections.Counter()

        def call(tolerance):
            n_calls = sum(counts.values())
            counts[tolerance] += 1
            self.calls.append((name, tolerance))
            if fails_at is not None and n_calls >= fails_at:
                raise FloatingPointError("lost its\nway")
            seconds = scale / math.sqrt(tolerance)
            if n_calls == 0:
                seconds += warm_up
            # The call before the first repeat is one of the loosest tolerance.
            repeat = counts[tolerance] - 1 - (tolerance == tolerances[0])
            seconds *= self.load[max(repeat, 0) % len(self.load)]
            self.spend(seconds, 3 * seconds)
            return {"attained": tolerance}

        options.setdefault("prepare", lambda: call)
        options.setdefault("extract", self._extract)
        options.setdefault("module", "numpy")
        return Solver(name, name, tolerances=tolerances, ours=ours, **options)

    def _extract(self, result):
        self.spend(50.0, 50.0)
        return result["attained"]

    def _accuracy(self, attained):
        self.spend(70.0, 70.0)
        return attained

    def run(self, solvers, *, repeats=3, target=3e-6, log=lambda line: None, **options):
        race = Race(
            "key",
            "Title",
            "Description.",
            lambda: Case(solvers, self._accuracy, {"samples": 3}),
            target,
            "accuracy",
            **options,
        )
        return run_race(
            race,
            repeats=repeats,
            threads=1,
            clock=self.clock,
            memory=lambda call: (call() and 123, "fake"),
            log=log,
        )


def rows(record):
    return {row["name"]: row for row in summarise(record)["solvers"]}


def test_only_the_call_is_timed():
    stage = Stage()
    record = stage.run([stage.solver("ours", 1e-3, ours=True)])
    row = rows(record)["ours"]
    expected = 1e-3 / math.sqrt(3e-6)
    assert row["cpu"]["seconds"] == pytest.approx([expected] * 3)
    assert row["wall"]["seconds"] == pytest.approx([3 * expected] * 3)
    assert row["cpu"]["how"] == "between"


def test_a_load_that_comes_and_goes_cancels_in_the_paired_ratios():
    stage = Stage(load=(1.0, 8.0, 3.0))
    record = stage.run([stage.solver("ours", 1e-3, ours=True), stage.solver("peer", 4e-3)])
    row = rows(record)["peer"]
    assert row["cpu"]["spread"]["max"] > 7 * row["cpu"]["spread"]["min"]
    assert row["ratio"] == {
        "median": pytest.approx(0.25),
        "min": pytest.approx(0.25),
        "max": pytest.approx(0.25),
        "count": 3,
    }


def test_the_best_peer_is_the_fastest_that_reached_the_accuracy():
    stage = Stage()
    record = stage.run(
        [
            stage.solver("hasty", 1e-6, tolerances=(1e-2, 1e-3, 1e-4)),
            stage.solver("slow", 9e-3),
            stage.solver("ours", 1e-3, ours=True),
            stage.solver("good", 2e-3),
        ]
    )
    summary = summarise(record)
    assert (summary["ours"], summary["best"]) == ("ours", "good")
    hasty = rows(record)["hasty"]
    assert hasty["cpu"]["how"] == "not reached"
    assert hasty["cpu"]["spread"] is None
    assert hasty["ratio"] is None


def test_the_clock_of_the_race_decides():
    stage = Stage()

    def parallel(tolerance):
        stage.spend(10.0, 1.0)
        return {"attained": tolerance}

    def serial(tolerance):
        stage.spend(4.0, 4.0)
        return {"attained": tolerance}

    solvers = [
        stage.solver("ours", 0, ours=True, prepare=lambda: parallel),
        stage.solver("peer", 0, prepare=lambda: serial),
    ]
    assert rows(stage.run(solvers))["peer"]["ratio"]["median"] == pytest.approx(2.5)
    on_wall = rows(stage.run(solvers, clock="wall"))["peer"]
    assert on_wall["ratio"]["median"] == pytest.approx(0.25)


def test_a_missing_peer_is_recorded_and_never_prepared():
    stage = Stage()

    def prepare():
        raise AssertionError("prepared")

    lines = []
    record = stage.run(
        [stage.solver("gone", 1.0, module="no_such_module_anywhere", prepare=prepare)],
        log=lines.append,
    )
    assert record["solvers"][0]["status"] == "not installed"
    assert lines == ["gone: not installed"]
    assert summarise(record)["best"] is None


@pytest.mark.parametrize("fails_at", [0, 5])
def test_a_peer_that_raises_leaves_its_error_and_the_others_finish(fails_at):
    stage = Stage()
    record = stage.run(
        [
            stage.solver("ours", 1e-3, ours=True),
            stage.solver("broken", 1e-3, fails_at=fails_at),
            stage.solver("peer", 2e-3),
        ]
    )
    broken = record["solvers"][1]
    assert broken["status"] == "error"
    assert broken["error"] == "FloatingPointError: lost its way"
    assert sum(name == "broken" for name, _ in stage.calls) == fails_at + 1
    result = rows(record)
    assert result["broken"]["ratio"] is None
    assert result["peer"]["ratio"]["median"] == pytest.approx(0.5)


def test_ours_may_fail_too_and_then_there_is_no_ratio():
    stage = Stage()
    record = stage.run(
        [stage.solver("ours", 1.0, ours=True, fails_at=0), stage.solver("peer", 1.0)]
    )
    summary = summarise(record)
    assert summary["best"] == "peer"
    assert rows(record)["peer"]["ratio"] is None


def test_an_accuracy_that_is_not_finite_is_kept_as_none():
    stage = Stage()
    solver = stage.solver("peer", 1.0, extract=lambda result: math.nan)
    record = stage.run([solver])
    assert record["solvers"][0]["runs"][0]["accuracy"] == [None] * 3
    assert rows(record)["peer"]["cpu"]["how"] == "not reached"


def test_memory_is_taken_at_the_loosest_setting_that_reaches_the_accuracy():
    stage = Stage()
    record = stage.run([stage.solver("peer", 1.0)])
    entry = record["solvers"][0]
    assert entry["memory"] == {"tolerance": 1e-6, "bytes": 123, "how": "fake"}
    assert stage.calls[-1] == ("peer", 1e-6)
    assert setting_for(entry, 1e-12) == 1e-7
    assert setting_for(entry, 1e-4) == 1e-4


def test_the_pools_have_the_threads_of_the_race_or_of_the_solver():
    seen = {}
    with threadpoolctl.threadpool_limits(limits=2):
        # A library may have been built, or loaded, for a single thread.
        able = {
            pool["filepath"] for pool in threadpoolctl.threadpool_info() if pool["num_threads"] == 2
        }
    assert able

    def solver(name, **options):
        def call(tolerance):
            np.ones((2, 2)) @ np.ones((2, 2))
            seen[name] = {
                pool["num_threads"]
                for pool in threadpoolctl.threadpool_info()
                if pool["filepath"] in able
            }
            return {"attained": tolerance}

        return stage.solver(name, 0, prepare=lambda: call, **options)

    stage = Stage()
    record = stage.run([solver("race"), solver("own", threads=1)], threads=2)
    assert seen == {"race": {2}, "own": {1}}
    assert record["threads"] == 2
    assert record["pools"]
    assert [entry["threads"] for entry in record["solvers"]] == [2, 1]


def test_limits_end_with_the_call():
    def threads():
        return [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]

    before = threads()
    with limited_threads(1):
        assert set(threads()) == {1}
    assert threads() == before


def test_medians_over_an_odd_and_an_even_number_of_repeats():
    for repeats in (2, 5):
        load = (5.0, 1.0, 2.0, 9.0, 4.0)[:repeats]
        stage = Stage(load=load)
        record = stage.run([stage.solver("peer", 1e-3)], repeats=repeats)
        values = rows(record)["peer"]["cpu"]["spread"]
        unit = 1e-3 / math.sqrt(3e-6)
        assert values["median"] == pytest.approx(statistics.median(load) * unit)
        assert values["min"] == pytest.approx(min(load) * unit)
        assert values["max"] == pytest.approx(max(load) * unit)


# --------------------------------------------------------------------------- memory

SIZE = 64 * _measure.MEBIBYTE


def touch():
    return np.ones(SIZE // 8)


def test_memory_that_is_freed_before_the_end_is_seen():
    peak, how = peak_memory(lambda: touch().sum())
    if how != "high-water mark":
        pytest.skip("this system has no resettable high-water mark")
    assert 0.95 * SIZE < peak < 1.5 * SIZE


def test_earlier_peaks_do_not_count():
    touch()
    peak, how = peak_memory(lambda: None)
    if how != "high-water mark":
        pytest.skip("this system has no resettable high-water mark")
    assert peak < 0.1 * SIZE


def test_the_sampled_peak_counts_the_result():
    pytest.importorskip("psutil")
    peak, how = sampled_peak_memory(touch)
    assert how == "sampled every ms"
    assert 0.95 * SIZE < peak < 1.5 * SIZE


def test_without_any_source_the_peak_is_unknown(monkeypatch):
    monkeypatch.setattr(_measure.importlib.util, "find_spec", lambda name: None)
    ran = []
    assert sampled_peak_memory(lambda: ran.append(1)) == (None, "unknown")
    assert ran == [1]
