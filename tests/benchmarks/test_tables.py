"""Work done in several ways, and tables of figures with what was aimed at."""

import copy
import json

import pytest

from benchmarks import _figures, _peers, _report, _tasks
from benchmarks._figures import FigureTable, Method, Setting
from benchmarks._measure import Clock
from benchmarks._tasks import Task, TaskRace


class Timer:
    """Time that passes only when a call says so."""

    def __init__(self):
        self.now = 0.0
        self.clock = Clock(cpu=lambda: self.now, wall=lambda: 2 * self.now)


def no_memory(call):
    call()
    return 2**20, "high-water mark"


def document(*records):
    return {
        "family": "family",
        "date": "2030-01-02T03:04:05+00:00",
        "command": "python -m benchmarks family",
        "commit": "abc1234",
        "uncommitted_changes": False,
        "python": "3.11.0",
        "system": "Linux",
        "cpu": "A CPU",
        "cores": 2,
        "load_before": 0.25,
        "versions": {"numpy": "2", "scipy": "1", "scikit-learn": "1", "numba": "0", "peer": "7.8"},
        "problems": list(records),
    }


# --------------------------------------------------------------------------- tasks


def task(name, timer, seconds, log=None, **options):
    calls = [] if log is None else log

    def call():
        calls.append(name)
        timer.now += seconds

    return Task(name, name, options.pop("module", "numpy"), lambda: call, **options)


def run_race(tasks, timer, repeats=2, **changes):
    options = {
        "key": "key",
        "title": "A title",
        "description": "Described.",
        "unit": "report",
        "build": lambda: list(tasks),
        "sizes": {"reports": 1000},
        **changes,
    }
    race = TaskRace(**options)
    return _tasks.run_tasks(race, repeats=repeats, threads=1, clock=timer.clock, memory=no_memory)


def test_ways_take_turns_and_times_are_those_of_a_unit():
    timer, log = Timer(), []
    record = run_race(
        [task("a", timer, 3.0, log, units=6, ours=True), task("b", timer, 8.0, log, units=2)],
        timer,
        repeats=3,
    )
    a, b = record["solvers"]
    assert a["cpu"] == [0.5] * 3 and a["wall"] == [1.0] * 3 and b["cpu"] == [4.0] * 3
    # One untimed call each, the repeats, and one call for the memory.
    assert "".join(log) == "ab" + "abbaab" + "ab"
    json.dumps(record, allow_nan=False)


def test_a_check_comes_before_the_clock_and_can_fail():
    timer = Timer()

    def wrong():
        raise AssertionError("the integers differ")

    record = run_race(
        [
            task("good", timer, 1.0, check=lambda: "same integers"),
            task("bad", timer, 1.0, check=wrong),
            task("gone", timer, 1.0, module="no_such_module_anywhere"),
        ],
        timer,
    )
    good, bad, gone = record["solvers"]
    assert good["checked"] == "same integers" and len(good["cpu"]) == 2
    assert bad["status"] == "error" and bad["error"] == "AssertionError: the integers differ"
    assert bad["cpu"] == [] and gone["status"] == "not installed"
    page = _report.render("family", [document(record)])
    assert "Checked for good: same integers." in page
    assert "| bad | error: AssertionError: the integers differ |" in page
    assert "| gone | not installed |" in page


def test_a_way_that_fails_later_is_left_out_of_the_rest():
    timer, calls = Timer(), []

    def late():
        calls.append(None)
        if len(calls) == 2:
            raise ValueError("too late")

    record = run_race([Task("late", "late", "numpy", lambda: late)], timer)
    (entry,) = record["solvers"]
    assert entry["error"] == "ValueError: too late" and len(calls) == 2
    assert entry["memory"] is None


def task_record(clock="cpu", aim=3.0, **facts):
    def entry(name, cpu, wall, **more):
        return {
            "name": name,
            "distribution": name,
            "ours": name == "ours",
            "threads": 1,
            "units": 2000,
            "aim": None,
            "facts": {},
            "status": "ok",
            "error": None,
            "checked": None,
            "cpu": cpu,
            "wall": wall,
            "memory": {"bytes": 2**21, "how": "high-water mark"},
            **more,
        }

    return {
        "kind": "tasks",
        "key": "key",
        "title": "A title",
        "description": "Described.",
        "unit": "report",
        "clock": clock,
        "threads": 1,
        "repeats": 2,
        "sizes": {"reports": 1000},
        "pools": ["openblas: 1"],
        "solvers": [
            entry("ours", [2e-6, 4e-6], [2e-6, 4e-6], facts=facts),
            entry("peer", [8e-6, 8e-6], [4e-6, 4e-6], aim=aim),
            entry("gone", [], [], status="not installed", memory=None),
        ],
    }


@pytest.mark.parametrize(
    "clock, aim, ratio, reached", [("cpu", 3.0, 3.0, True), ("wall", 1.6, 1.5, False)]
)
def test_times_of_the_same_repeat_are_divided_and_judged(clock, aim, ratio, reached):
    ours, peer, gone = _tasks.summarise_tasks(task_record(clock, aim))
    assert ours["ratio"] is None and gone["ratio"] is None
    assert peer["ratio"]["median"] == pytest.approx(ratio)
    assert peer["reached"] is reached and ours["reached"] is None


def test_page_of_tasks():
    page = _report.render("family", [document(task_record(**{"bytes a report": 36}))])
    assert "**ours: 3 times faster than peer.**" in page
    assert (
        "| way | threads | reports a call | CPU a report | wall a report | this / ours | aim "
        "| bytes a report | peak memory, MiB |"
    ) in page
    assert "| **ours** | 1 | 2,000 | 3 [2, 4] µs | 3 [2, 4] µs |  |  | 36 | 2.0 |" in page
    assert (
        "| peer 7.8 | 1 | 2,000 | 8 [8, 8] µs | 4 [4, 4] µs | 3 [2, 4] | at least 3, reached "
        "|  | 2.0 |"
    ) in page
    missed = _report.render("family", [document(task_record(aim=10.0))])
    assert "at least 10, **missed**" in missed


def test_a_slower_way_is_called_slower_and_nobody_is_compared_with_nobody():
    record = task_record()
    record["solvers"][1]["cpu"] = [5e-7, 1e-6]
    page = _report.render("family", [document(record)])
    assert "**ours: 4 times slower than peer.**" in page
    record["solvers"][0]["ours"] = False
    page = _report.render("family", [document(record)])
    assert "times" not in page.split("Thread pools")[1]


def test_history_of_tasks():
    new = document(task_record())
    old = copy.deepcopy(new)
    old["commit"] = "0ld0ld0"
    page = _report.render("family", [old, new])
    assert "| 2030-01-02 | `0ld0ld0` | 3 [2, 4] µs | peer 3 [2, 4] |" in page
    assert page.count("History:") == 1


@pytest.mark.parametrize(
    "seconds, text", [(2.5, "2.5 s"), (2.5e-3, "2.5 ms"), (2.5e-6, "2.5 µs"), (2.5e-10, "0.25 ns")]
)
def test_durations_have_a_readable_unit(seconds, text):
    values = {"median": seconds, "min": seconds, "max": seconds}
    number, unit = text.split()
    assert _report._durations(values) == f"{number} [{number}, {number}] {unit}"


# --------------------------------------------------------------------------- figures


def method(name, timer, figures, seconds=1.0, **options):
    """A method whose figure for each seed is given."""

    def fit(problem, seed, threads):
        timer.now += seconds
        return figures[seed]

    return Method(
        name, name, options.pop("module", "numpy"), fit, lambda problem, found: found, **options
    )


def fill(settings, timer, **changes):
    options = {
        "key": "key",
        "title": "A title",
        "description": "Described.",
        "measure": "median error",
        "settings": tuple(settings),
        "sizes": {"data sets": 3},
        **changes,
    }
    return _figures.run_figures(FigureTable(**options), threads=1, clock=timer.clock)


def test_figures_are_summed_up_and_judged():
    timer = Timer()
    drawn = []
    methods = (
        method("ours", timer, [0.1, 0.4, 0.2], ours=True, aim=(None, 0.2)),
        method("peer", timer, [3.0, 1.0, 2.0], aim=(2.5, None), n_seeds=2),
    )
    setting = Setting("n = 10", lambda seed: drawn.append(seed), (0, 1, 2), methods)
    record = fill([setting], timer)
    # Both methods get the same data sets.
    assert drawn == [0, 1, 2]
    rows, slopes = _figures.summarise_figures(record)
    ours, peer = rows
    assert ours["value"] == 0.2 and ours["range"] == [0.1, 0.4] and ours["reached"] is True
    assert peer["value"] == 2.0 and peer["reached"] is False and slopes == []
    assert ours["cpu"]["median"] == 1.0 and ours["wall"]["median"] == 2.0
    json.dumps(record, allow_nan=False)
    page = _report.render("family", [document(record)])
    assert (
        "| n = 10 | **ours** | 3 | 0.2 | [0.1, 0.4] | at most 0.2, reached | 1 [1, 1] s "
        "| 2 [2, 2] s |"
    ) in page
    assert "|  | peer 7.8 | 2 | 2 | [1, 3] | at least 2.5, **missed** |" in page
    assert "Run on 2030-01-02" in page


def test_slopes_are_fitted_to_the_logarithms():
    timer = Timer()
    # Errors of size**-0.5, scattered around by factors whose mean is one.
    settings = [
        Setting(
            f"n = {size}",
            lambda seed: None,
            (0, 1),
            (method("ours", timer, [1.25 * size**-0.5, 0.75 * size**-0.5]),),
            size,
        )
        for size in (100, 1000, 5000)
    ]
    record = fill(settings, timer, statistic="mean", slopes={"ours": (-0.6, -0.4)})
    _, (found,) = _figures.summarise_figures(record)
    assert found["slope"] == pytest.approx(-0.5) and found["reached"] is True
    page = _report.render("family", [document(record)])
    assert "| n = 100 | ours | 2 | 0.1 | 0.025 |" in page
    assert "Slope for ours: **-0.500**; aim: between -0.6 and -0.4, reached." in page
    record["slopes"]["ours"] = [-0.4, 0.0]
    page = _report.render("family", [document(record)])
    assert "Slope for ours: **-0.500**; aim: between -0.4 and 0, **missed**." in page


def test_a_slope_needs_two_settings():
    timer = Timer()
    setting = Setting("n", lambda seed: None, (0,), (method("ours", timer, [1.0]),), 10)
    record = fill([setting], timer, slopes={"ours": (0.0, 1.0)})
    _, (found,) = _figures.summarise_figures(record)
    assert found["slope"] is None and found["reached"] is None
    assert "not known" in _report.render("family", [document(record)])


def test_failures_absences_and_what_is_not_finite():
    timer = Timer()

    def broken(problem, seed, threads):
        raise ValueError("too |\n bad")

    methods = (
        Method("broken", "broken", "numpy", broken, lambda problem, found: found),
        method("gone", timer, [1.0], module="no_such_module_anywhere"),
        method("apart", timer, [1.0], module=None),
        method("infinite", timer, [float("inf")], aim=(None, 1.0)),
    )
    record = fill([Setting("n", lambda seed: None, (0,), methods)], timer)
    status = [entry["status"] for entry in record["solvers"]]
    assert status == ["error", "not installed", "not installed", "ok"]
    rows, _ = _figures.summarise_figures(record)
    assert rows[3]["value"] is None and rows[3]["reached"] is None
    page = _report.render("family", [document(record)])
    assert "| n | broken | error: ValueError: too \\| bad |" in page
    assert "|  | infinite | 1 | not finite |" in page


def test_a_peer_apart_is_timed_by_its_own_clock(monkeypatch):
    monkeypatch.setattr(_peers, "version", lambda name: "1.0")
    apart = Method(
        "apart",
        "apart",
        None,
        lambda problem, seed, threads: _peers.Answer(4.0, 0.25, 0.5),
        lambda problem, found: 2 * found,
    )
    record = fill([Setting("n", lambda seed: None, (0,), (apart,))], Timer())
    assert record["solvers"][0]["runs"] == [{"seed": 0, "value": 8.0, "cpu": 0.25, "wall": 0.5}]


def test_missing_data_are_recorded():
    def draw(seed):
        raise FileNotFoundError("Get the file.")

    timer = Timer()
    record = fill([Setting("n", draw, (0, 1), (method("ours", timer, [1.0]),))], timer)
    assert record["missing"] == "Get the file."
    assert "**Not run: Get the file.**" in _report.render("family", [document(record)])


@pytest.mark.parametrize(
    "value, limits, expected",
    [
        (1.0, (None, None), None),
        (None, (0.0, 1.0), None),
        (1.0, (None, 1.0), True),
        (1.1, (None, 1.0), False),
        (1.0, (1.0, None), True),
        (0.9, (1.0, 2.0), False),
    ],
)
def test_limits(value, limits, expected):
    assert _figures.within(value, limits) is expected
