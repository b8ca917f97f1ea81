"""The same work done in several ways: seconds for a unit of it, side by side.

There is no tolerance here. Each way does as many units in a call as make the call long enough to
be timed, and its time is divided by that number. Ways take turns, forwards in one repeat and
backwards in the next; times of the same repeat are divided by each other. What has to be equal
is checked once, before anything is timed.
"""

import gc
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field

from ._measure import Clock, limited_threads, paired_ratios, peak_memory, pools, spread


@dataclass(frozen=True)
class Task:
    """One way to do the work.

    Parameters
    ----------
    name, distribution, module : str
        As in :class:`benchmarks._measure.Solver`.
    prepare : callable
        Called once, untimed; returns ``call()``, which is timed.
    units : int
        How many units a call does.
    ours : bool
        Whether this is the way that the others are compared with.
    threads : int or None
        Threads of the pools; None takes those of the race.
    check : callable or None
        Called once, untimed; returns what was found to be right, in words, or raises.
    aim : float or None
        How many times slower than ours this way should at least be.
    facts : dict
        Further columns of the table, numbers or words.
    """

    name: str
    distribution: str
    module: str
    prepare: Callable[[], Callable[[], object]]
    units: int = 1
    ours: bool = False
    threads: int | None = None
    check: Callable[[], str] | None = None
    aim: float | None = None
    facts: dict = field(default_factory=dict)


@dataclass(frozen=True)
class TaskRace:
    """Some work and the ways to do it.

    Parameters
    ----------
    key, title, description : str
    unit : str
        What a unit of the work is called.
    build : callable
        Makes the data; returns the tasks.
    sizes : dict
        Facts of the data.
    clock : {"cpu", "wall"}
        The clock of the ratios. The other one's times are reported as well.
    threads : int or None
        Threads of the race; None takes those of the command line.
    """

    key: str
    title: str
    description: str
    unit: str
    build: Callable[[], list[Task]]
    sizes: dict
    clock: str = "cpu"
    threads: int | None = None


def run_tasks(race, *, repeats, threads, clock=None, memory=None, log=lambda line: None):
    """Run the tasks in turns and return the raw record.

    Parameters
    ----------
    race : TaskRace
    repeats, threads : int
    clock : Clock or None
    memory : callable or None
        As in :func:`benchmarks._measure.run_race`.
    log : callable
        Takes one line of progress.

    Returns
    -------
    dict
        What :func:`summarise_tasks` reads; only lists, dicts, strings, numbers and None.
    """
    clock = Clock() if clock is None else clock
    memory = peak_memory if memory is None else memory
    race_threads = threads if race.threads is None else race.threads
    record = {
        "kind": "tasks",
        "key": race.key,
        "title": race.title,
        "description": race.description,
        "unit": race.unit,
        "clock": race.clock,
        "threads": race_threads,
        "repeats": repeats,
        "sizes": race.sizes,
        "solvers": [],
    }
    lanes = []
    for task in race.build():
        entry, call = _enter(task, race_threads, log)
        record["solvers"].append(entry)
        if call is not None:
            lanes.append((entry, call))
    with limited_threads(race_threads):
        record["pools"] = pools()
    for repeat in range(repeats):
        for entry, call in lanes[:: -1 if repeat % 2 else 1]:
            if entry["status"] == "ok":
                _run_once(entry, call, clock, log)
    for entry, call in lanes:
        if entry["status"] == "ok":
            with limited_threads(entry["threads"]):
                peak, how = memory(call)
            entry["memory"] = {"bytes": peak, "how": how}
    return record


def _enter(task, race_threads, log):
    entry = {
        "name": task.name,
        "distribution": task.distribution,
        "ours": task.ours,
        "threads": race_threads if task.threads is None else task.threads,
        "units": task.units,
        "aim": task.aim,
        "facts": task.facts,
        "status": "ok",
        "error": None,
        "checked": None,
        "cpu": [],
        "wall": [],
        "memory": None,
    }
    if importlib.util.find_spec(task.module) is None:
        entry["status"] = "not installed"
        log(f"{task.name}: not installed")
        return entry, None
    try:
        call = task.prepare()
        with limited_threads(entry["threads"]):
            entry["checked"] = None if task.check is None else task.check()
            call()
    except Exception as error:
        _fail(entry, error, log)
        return entry, None
    return entry, call


def _run_once(entry, call, clock, log):
    gc.collect()
    try:
        with limited_threads(entry["threads"]):
            wall, cpu = clock.wall(), clock.cpu()
            call()
            cpu, wall = clock.cpu() - cpu, clock.wall() - wall
    except Exception as error:
        _fail(entry, error, log)
        return
    entry["cpu"].append(cpu / entry["units"])
    entry["wall"].append(wall / entry["units"])
    log(f"{entry['name']:>44}: {cpu:.4f} s CPU, {wall:.4f} s wall for {entry['units']:,}")


def _fail(entry, error, log):
    text = " ".join(str(error).split())
    entry["status"] = "error"
    entry["error"] = f"{type(error).__name__}: {text}"[:300]
    log(f"{entry['name']}: {entry['error']}")


def summarise_tasks(record):
    """Compare the tasks of a race.

    Parameters
    ----------
    record : dict
        What :func:`run_tasks` returned.

    Returns
    -------
    list of dict
        For each task, in the record's order: ``cpu`` and ``wall``, the spread of its seconds for
        a unit; ``ratio``, the spread of its times over ours on the race's clock; ``reached``,
        whether the median of the ratios is at least the aim, None without an aim or a ratio.
    """
    ours = next((entry for entry in record["solvers"] if entry["ours"]), None)
    rows = []
    for entry in record["solvers"]:
        ratio = None
        if ours is not None and entry is not ours and "ok" == entry["status"] == ours["status"]:
            ratio = spread(paired_ratios(entry[record["clock"]], ours[record["clock"]]))
        judged = entry["aim"] is not None and ratio is not None
        rows.append(
            {
                "cpu": spread(entry["cpu"]),
                "wall": spread(entry["wall"]),
                "ratio": ratio,
                "reached": ratio["median"] >= entry["aim"] if judged else None,
            }
        )
    return rows
