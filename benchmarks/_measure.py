"""The measurement rule: how two solvers are compared, in one place.

A *race* is a problem with a common accuracy. Every solver runs in this process, in turns with
the others, at several of its own tolerances, with its thread pools set explicitly; process CPU
time and wall time are taken of the call alone, and the accuracy of every run is recomputed by
one function of ours. Each repeat gives every solver one time-accuracy curve, from which its time
at the common accuracy is read. Readings of the same repeat are divided by each other, so that a
busy spell of the computer hits both sides of a ratio.

A solver's curve is its lower envelope: a setting that is both slower and less accurate than
another is one that no user would choose. Between two settings the curve is a straight line in
the logarithms of both axes. Beyond the most accurate setting it is prolonged by at most a factor
of two in accuracy; further away the answer is "not reached". A solver whose fastest setting is
already more accurate than asked is read there, and marked.

Peak memory is measured in one more run of its own at the setting that a user would choose: the
high-water mark of the process, reset just before the call, above the resident memory at that
moment. The kernel keeps the mark, so no allocation is too short to be seen, and it is reset
through ``/proc/self/clear_refs``. Where that does not exist, a thread samples the resident
memory with psutil every millisecond and can miss shorter peaks; the report says which it was.
"""

import contextlib
import ctypes
import gc
import importlib.util
import itertools
import math
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

MAX_EXTRAPOLATION = 2.0
MEBIBYTE = 2**20
# Accuracies are recomputed in float64; what lies below is rounding.
_SMALLEST_ACCURACY = 1e-16
_SMALLEST_TIME = 1e-9
_CPUS = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None


def _identity(result):
    return result


@dataclass(frozen=True)
class Solver:
    """One competitor.

    Parameters
    ----------
    name : str
        The name in the tables.
    distribution, module : str
        The name under which pip knows the package, and the module that must be importable.
    prepare : callable
        Called once, untimed: imports, compiles, and returns ``call(tolerance)``, which is timed.
    tolerances : tuple of float
        The solver's own tolerances, loosest first.
    ours : bool
        Whether this is the solver that the others are compared with.
    threads : int or None
        Threads of the BLAS and OpenMP pools; None takes those of the race. A solver that runs
        its own threads is given pools of one thread each.
    extract : callable
        Turns what the call returned into what the race's accuracy function takes, untimed.
    """

    name: str
    distribution: str
    module: str
    prepare: Callable[[], Callable[[float], object]]
    tolerances: tuple[float, ...]
    ours: bool = False
    threads: int | None = None
    extract: Callable[[object], object] = _identity


@dataclass(frozen=True)
class Case:
    """The data of a race: its solvers, its accuracy function, and what the report prints.

    Parameters
    ----------
    solvers : list of Solver
    accuracy : callable
        Maps a solver's extracted result to a number, smaller is better.
    sizes : dict
        Facts of the data.
    memory_limit : int or None
        The bytes that a call should not exceed, if the race sets such a limit.
    """

    solvers: list[Solver]
    accuracy: Callable[[object], float]
    sizes: dict
    memory_limit: int | None = None


@dataclass(frozen=True)
class Race:
    """A problem and the accuracy at which the solvers are compared.

    Parameters
    ----------
    key, title, description : str
    build : callable
        Generates the data and returns the Case.
    target : float
        The common accuracy.
    accuracy_name : str
        What the accuracy function computes.
    clock : {"cpu", "wall"}
        Which time decides; the other is reported as well.
    threads : int or None
        Threads of the race; None takes those of the command line.
    """

    key: str
    title: str
    description: str
    build: Callable[[], Case]
    target: float
    accuracy_name: str
    clock: str = "cpu"
    threads: int | None = None


@dataclass(frozen=True)
class Clock:
    """Where the time comes from: CPU time of all threads of this process, and wall time."""

    cpu: Callable[[], float] = time.process_time
    wall: Callable[[], float] = time.perf_counter


@contextlib.contextmanager
def limited_threads(n_threads):
    """Set the BLAS, OpenMP and numba pools that are loaded to `n_threads` threads each.

    The call may also use every CPU that the process had at first: importing adelie binds the
    thread that imports, and with it all that it starts later, to a single one.
    """
    import threadpoolctl

    if _CPUS is not None:
        os.sched_setaffinity(0, _CPUS)

    if "numba" in sys.modules:
        numba = sys.modules["numba"]
        numba.set_num_threads(min(n_threads, numba.config.NUMBA_NUM_THREADS))
    with threadpoolctl.threadpool_limits(limits=n_threads):
        yield


def pools():
    """Return the thread pools in effect, one string each, for the record."""
    import threadpoolctl

    return sorted(
        {
            f"{pool['internal_api']} {pool.get('version') or ''}".strip()
            + f": {pool['num_threads']}"
            for pool in threadpoolctl.threadpool_info()
        }
    )


# --------------------------------------------------------------------------- reading a curve


@dataclass(frozen=True)
class Reading:
    """A time read from a curve.

    Parameters
    ----------
    seconds : float or None
        None where the accuracy was not reached.
    how : {"between", "fastest", "extrapolated", "not reached"}
    """

    seconds: float | None
    how: str


def envelope(points):
    """Return the settings that no other setting beats in both time and accuracy.

    Parameters
    ----------
    points : iterable of (accuracy, seconds)
        Points with an accuracy that is not finite are left out.

    Returns
    -------
    list of (accuracy, seconds)
        Least accurate first: accuracies fall and times rise strictly.
    """
    usable = [
        (max(accuracy, _SMALLEST_ACCURACY), max(seconds, _SMALLEST_TIME))
        for accuracy, seconds in points
        if accuracy is not None and math.isfinite(accuracy)
    ]
    best = []
    for accuracy, seconds in sorted(usable, key=lambda point: (point[1], point[0])):
        if not best or accuracy < best[-1][0]:
            best.append((accuracy, seconds))
    # Equal times sort by accuracy, so the survivors' times rise strictly.
    return best


def read_time(points, target, max_extrapolation=MAX_EXTRAPOLATION):
    """Read the time at an accuracy from a time-accuracy curve.

    Parameters
    ----------
    points : iterable of (accuracy, seconds)
        One point for each setting.
    target : float
        The accuracy asked for.
    max_extrapolation : float
        How many times more accurate than the last setting `target` may be.

    Returns
    -------
    Reading
    """
    curve = envelope(points)
    if not curve:
        return Reading(None, "not reached")
    if curve[0][0] <= target:
        return Reading(curve[0][1], "fastest")
    for left, right in itertools.pairwise(curve):
        if right[0] <= target:
            return Reading(_on_line(left, right, target), "between")
    # A single setting has no slope to follow.
    if len(curve) < 2 or curve[-1][0] > target * max_extrapolation * (1 + 1e-12):
        return Reading(None, "not reached")
    return Reading(_on_line(curve[-2], curve[-1], target), "extrapolated")


def _on_line(left, right, target):
    (a0, t0), (a1, t1) = left, right
    share = (math.log(a0) - math.log(target)) / (math.log(a0) - math.log(a1))
    return math.exp(math.log(t0) + share * (math.log(t1) - math.log(t0)))


# --------------------------------------------------------------------------- running a race


def turns(n_tolerances, repeat):
    """Return the order of the runs in one repeat.

    Solvers alternate at every level. The start moves by one run a repeat and every other repeat
    goes backwards, so that no run always follows the same neighbour.

    Parameters
    ----------
    n_tolerances : list of int
        The number of tolerances of each solver.
    repeat : int

    Returns
    -------
    list of (solver index, tolerance index)
    """
    order = [
        (solver, level)
        for level in range(max(n_tolerances, default=0))
        for solver, count in enumerate(n_tolerances)
        if level < count
    ]
    if not order:
        return order
    start = repeat % len(order)
    order = order[start:] + order[:start]
    return order[::-1] if repeat % 2 else order


@dataclass
class _Lane:
    solver: Solver
    entry: dict
    threads: int
    call: Callable[[float], object] | None = None
    runs: list = field(default_factory=list)


def run_race(race, *, repeats, threads, clock=None, memory=None, log=lambda line: None):
    """Run a race and return its raw record.

    Parameters
    ----------
    race : Race
    repeats : int
        Interleaved repeats.
    threads : int
        Threads of the command line, taken where the race does not set its own.
    clock : Clock or None
        The clock; None takes the computer's.
    memory : callable or None
        Maps a call without arguments to (peak bytes or None, how it was measured); None takes
        :func:`peak_memory`.
    log : callable
        Takes one line of progress.

    Returns
    -------
    dict
        What :func:`summarise` reads; only lists, dicts, strings, numbers and None.
    """
    clock = Clock() if clock is None else clock
    memory = peak_memory if memory is None else memory
    case = race.build()
    race_threads = threads if race.threads is None else race.threads
    record = {
        "kind": "race",
        "key": race.key,
        "title": race.title,
        "description": race.description,
        "target": race.target,
        "accuracy_name": race.accuracy_name,
        "clock": race.clock,
        "threads": race_threads,
        "repeats": repeats,
        "sizes": case.sizes,
        "memory_limit": case.memory_limit,
        "solvers": [],
    }
    lanes = []
    for solver in case.solvers:
        lane = _enter(solver, race_threads, log)
        record["solvers"].append(lane.entry)
        if lane.call is not None:
            lanes.append(lane)
    with limited_threads(race_threads):
        record["pools"] = pools()
    for repeat in range(repeats):
        for index, level in turns([len(lane.solver.tolerances) for lane in lanes], repeat):
            if lanes[index].call is not None:
                _run_once(lanes[index], level, case.accuracy, clock, log)
    for lane in lanes:
        if lane.call is not None:
            _measure_memory(lane, race.target, memory, log)
    return record


def _enter(solver, race_threads, log):
    """Prepare a solver and run it once untimed, so that nothing is compiled or loaded later."""
    threads = race_threads if solver.threads is None else solver.threads
    entry = {
        "name": solver.name,
        "distribution": solver.distribution,
        "ours": solver.ours,
        "threads": threads,
        "status": "ok",
        "error": None,
        "runs": [
            {"tolerance": tolerance, "cpu": [], "wall": [], "accuracy": []}
            for tolerance in solver.tolerances
        ],
        "memory": None,
    }
    lane = _Lane(solver, entry, threads)
    if importlib.util.find_spec(solver.module) is None:
        entry["status"] = "not installed"
        log(f"{solver.name}: not installed")
        return lane
    try:
        call = solver.prepare()
        with limited_threads(threads):
            call(solver.tolerances[0])
    except Exception as error:
        _fail(lane, error, log)
        return lane
    lane.call = call
    return lane


def _run_once(lane, level, accuracy, clock, log):
    run = lane.entry["runs"][level]
    gc.collect()
    try:
        with limited_threads(lane.threads):
            wall, cpu = clock.wall(), clock.cpu()
            result = lane.call(run["tolerance"])
            cpu, wall = clock.cpu() - cpu, clock.wall() - wall
        attained = float(accuracy(lane.solver.extract(result)))
    except Exception as error:
        _fail(lane, error, log)
        return
    run["cpu"].append(cpu)
    run["wall"].append(wall)
    run["accuracy"].append(attained if math.isfinite(attained) else None)
    log(
        f"{lane.solver.name:>28} tol {run['tolerance']:.0e}: "
        f"accuracy {attained:.1e}, {cpu:.3f} s CPU, {wall:.3f} s wall"
    )


def _measure_memory(lane, target, memory, log):
    tolerance = setting_for(lane.entry, target)
    try:
        with limited_threads(lane.threads):
            peak, how = memory(lambda: lane.call(tolerance))
    except Exception as error:
        _fail(lane, error, log)
        return
    lane.entry["memory"] = {"tolerance": tolerance, "bytes": peak, "how": how}


def _fail(lane, error, log):
    text = " ".join(str(error).split())
    lane.entry["status"] = "error"
    lane.entry["error"] = f"{type(error).__name__}: {text}"[:300]
    lane.call = None
    log(f"{lane.solver.name}: {lane.entry['error']}")


def setting_for(entry, target):
    """Return the loosest tolerance of a solver that reaches `target`, else its tightest."""
    for run in entry["runs"]:
        values = [value for value in run["accuracy"] if value is not None]
        if values and statistics.median(values) <= target:
            return run["tolerance"]
    return entry["runs"][-1]["tolerance"]


# --------------------------------------------------------------------------- comparing


def paired_ratios(ours, theirs):
    """Divide readings of the same repeat by each other.

    Parameters
    ----------
    ours, theirs : list of (float or None)
        One time a repeat, None where the accuracy was not reached.

    Returns
    -------
    list of float
        The ratios of the repeats in which both reached it.
    """
    return [a / b for a, b in zip(ours, theirs) if a is not None and b is not None]


def spread(values):
    """Return the median, the smallest and the largest of some values; None for none."""
    values = [value for value in values if value is not None]
    if not values:
        return None
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "count": len(values),
    }


def summarise(record):
    """Read the times at the common accuracy and compare the solvers.

    Parameters
    ----------
    record : dict
        What :func:`run_race` returned.

    Returns
    -------
    dict
        ``solvers``: for each solver in the record's order its ``cpu`` and ``wall`` readings
        (``how``, ``seconds`` a repeat, ``spread``, which is None unless every repeat reached the
        accuracy) and ``ratio``, the spread of ours over this solver on the race's clock.
        ``ours`` and ``best``: the names of our solver and of the fastest peer, or None.
    """
    rows = [
        {
            "name": entry["name"],
            "ours": entry["ours"],
            "status": entry["status"],
            "cpu": _readings(entry, record["target"], "cpu"),
            "wall": _readings(entry, record["target"], "wall"),
            "ratio": None,
        }
        for entry in record["solvers"]
    ]
    clock = record["clock"]
    ours = next((row for row in rows if row["ours"]), None)
    if ours is not None:
        for row in rows:
            if row is not ours:
                row["ratio"] = spread(paired_ratios(ours[clock]["seconds"], row[clock]["seconds"]))
    finished = [row for row in rows if not row["ours"] and row[clock]["spread"] is not None]
    best = min(finished, key=lambda row: row[clock]["spread"]["median"], default=None)
    return {
        "solvers": rows,
        "ours": None if ours is None else ours["name"],
        "best": None if best is None else best["name"],
    }


def _readings(entry, target, clock):
    """Read one time for each repeat that this solver completed."""
    finished = min((len(run[clock]) for run in entry["runs"]), default=0)
    readings = [
        read_time([(run["accuracy"][i], run[clock][i]) for run in entry["runs"]], target)
        for i in range(finished if entry["status"] == "ok" else 0)
    ]
    seconds = [reading.seconds for reading in readings]
    reached = bool(seconds) and None not in seconds
    hows = [reading.how for reading in readings]
    return {
        "seconds": seconds,
        "how": statistics.mode(hows) if reached else "not reached",
        "spread": spread(seconds) if reached else None,
    }


# --------------------------------------------------------------------------- memory


def peak_memory(call):
    """Return the peak resident memory of a call above the level before it.

    Parameters
    ----------
    call : callable
        Called once, without arguments. Its result is alive at the end and therefore counts.

    Returns
    -------
    peak : int or None
        Bytes; None where neither /proc nor psutil is there.
    how : str
        "high-water mark", "sampled every ms", or "unknown".
    """
    gc.collect()
    # Memory that the allocator holds back from earlier calls would hide new allocations.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        before = _status("VmRSS")
    except OSError:
        return sampled_peak_memory(call)
    result = call()
    peak = _status("VmHWM") - before
    del result
    return max(peak, 0), "high-water mark"


def sampled_peak_memory(call, interval=1e-3):
    """Return the peak of :func:`peak_memory` as seen by a thread that samples it."""
    if importlib.util.find_spec("psutil") is None:
        call()
        return None, "unknown"
    import psutil

    process = psutil.Process()
    before = highest = process.memory_info().rss
    done = threading.Event()

    def watch():
        nonlocal highest
        while not done.wait(interval):
            highest = max(highest, process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        result = call()
        last = process.memory_info().rss
        del result
    finally:
        done.set()
        watcher.join()
    return max(highest, last) - before, "sampled every ms"


def _status(name):
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no line {name}")
