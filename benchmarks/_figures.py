"""What methods attain: tables of figures over many simulated data sets, with what was aimed at.

These are no races. Every method sees the same data set for the same seed, and each figure is
computed by one function of ours for all methods of a setting. The seconds of a fit are recorded
beside it, once for each seed.
"""

import contextlib
import gc
import importlib.util
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from . import _peers
from ._measure import Clock, limited_threads, pools, spread

_STATISTICS = {"median": statistics.median, "mean": statistics.fmean}


@dataclass(frozen=True)
class Method:
    """One method in one setting.

    Parameters
    ----------
    name, distribution : str
        As in :class:`benchmarks._measure.Solver`.
    module : str or None
        The module that must be importable; None for a peer in an environment of its own.
    fit : callable
        Maps a problem, a seed and the number of threads to a result, timed; an
        :class:`benchmarks._peers.Answer` has its own times.
    score : callable
        Maps a problem and the result to the figure, untimed.
    ours : bool
    aim : tuple of (float or None, float or None)
        Between what the median or mean of the figures should be.
    n_seeds : int or None
        Of a method that takes long, the number of seeds; None takes those of the setting.
    """

    name: str
    distribution: str
    module: str | None
    fit: Callable[[object, int, int], object]
    score: Callable[[object, object], float]
    ours: bool = False
    aim: tuple[float | None, float | None] = (None, None)
    n_seeds: int | None = None


@dataclass(frozen=True)
class Setting:
    """A kind of data and the methods for it.

    Parameters
    ----------
    name : str
    draw : callable
        Maps a seed to a problem. A FileNotFoundError says that the data are not on this
        computer.
    seeds : tuple of int
    methods : tuple of Method
    size : float or None
        What slopes are taken over.
    """

    name: str
    draw: Callable[[int], object]
    seeds: tuple[int, ...]
    methods: tuple[Method, ...]
    size: float | None = None


@dataclass(frozen=True)
class FigureTable:
    """Settings, and what is made of their figures.

    Parameters
    ----------
    key, title, description : str
    measure : str
        What a figure is.
    settings : tuple of Setting
    sizes : dict
        Facts of all settings.
    statistic : {"median", "mean"}
        What is compared with the aims, and what slopes are fitted to.
    slopes : dict
        Names of methods, and the lower and upper limit of the slope of the logarithm of their
        figures over the logarithm of the size of the setting.
    """

    key: str
    title: str
    description: str
    measure: str
    settings: tuple[Setting, ...]
    sizes: dict
    statistic: str = "median"
    slopes: dict[str, tuple[float, float]] = field(default_factory=dict)


def run_figures(table, *, repeats=1, threads, clock=None, log=lambda line: None):
    """Fill a table and return its raw record.

    Parameters
    ----------
    table : FigureTable
    repeats : int
        Not used: every seed is another data set.
    threads : int
    clock : Clock or None
    log : callable
        Takes one line of progress.

    Returns
    -------
    dict
        What :func:`summarise_figures` reads; only lists, dicts, strings, numbers and None.
    """
    clock = Clock() if clock is None else clock
    record = {
        "kind": "figures",
        "key": table.key,
        "title": table.title,
        "description": table.description,
        "measure": table.measure,
        "statistic": table.statistic,
        "slopes": {name: list(limits) for name, limits in table.slopes.items()},
        "threads": threads,
        "repeats": None,
        "sizes": table.sizes,
        "missing": None,
        "solvers": [],
    }
    warm: set[str] = set()
    for setting in table.settings:
        lanes = [(method, _entry(setting, method, log)) for method in setting.methods]
        record["solvers"] += [entry for _, entry in lanes]
        for position, seed in enumerate(setting.seeds):
            try:
                problem = setting.draw(seed)
            except FileNotFoundError as error:
                record["missing"] = str(error)
                log(record["missing"])
                break
            for method, entry in lanes:
                limit = len(setting.seeds) if method.n_seeds is None else method.n_seeds
                if entry["status"] == "ok" and position < limit:
                    _warm_up(method, warm, problem, seed, threads)
                    _run_once(method, entry, problem, seed, threads, clock, log)
    with limited_threads(threads):
        record["pools"] = pools()
    return record


def _entry(setting, method, log):
    if method.module is None:
        present = _peers.version(method.distribution) is not None
    else:
        present = importlib.util.find_spec(method.module) is not None
    if not present:
        log(f"{method.name}: not installed")
    return {
        "name": method.name,
        "distribution": method.distribution,
        "ours": method.ours,
        "setting": setting.name,
        "size": setting.size,
        "aim": list(method.aim),
        "status": "ok" if present else "not installed",
        "error": None,
        "runs": [],
    }


def _warm_up(method, warm, problem, seed, threads):
    """Fit a method once before it is timed, so that nothing is compiled or loaded later."""
    if method.module is not None and method.name not in warm:
        warm.add(method.name)
        # What fails here fails again where it is recorded.
        with contextlib.suppress(Exception), limited_threads(threads):
            method.fit(problem, seed, threads)


def _run_once(method, entry, problem, seed, threads, clock, log):
    gc.collect()
    try:
        with limited_threads(threads):
            wall, cpu = clock.wall(), clock.cpu()
            result = method.fit(problem, seed, threads)
            cpu, wall = clock.cpu() - cpu, clock.wall() - wall
        if isinstance(result, _peers.Answer):
            result, cpu, wall = result
        value = float(method.score(problem, result))
    except Exception as error:
        text = " ".join(str(error).split())
        entry["status"] = "error"
        entry["error"] = f"{type(error).__name__}: {text}"[:300]
        log(f"{method.name}: {entry['error']}")
        return
    value = value if math.isfinite(value) else None
    entry["runs"].append({"seed": seed, "value": value, "cpu": cpu, "wall": wall})
    log(f"{entry['setting']}, {method.name}, seed {seed}: {value}, {cpu:.3f} s CPU")


# --------------------------------------------------------------------------- judging


def within(value, limits):
    """Return whether a value is between limits, of which either may be None; None for none."""
    low, high = limits
    if value is None or (low is None and high is None):
        return None
    return (low is None or value >= low) and (high is None or value <= high)


def summarise_figures(record):
    """Judge the figures of a table.

    Parameters
    ----------
    record : dict
        What :func:`run_figures` returned.

    Returns
    -------
    rows : list of dict
        For each method of each setting, in the record's order: ``value``, the median or mean of
        its figures, None if one is not finite; ``range``, the smallest and the largest;
        ``error``, the standard error of a mean; ``reached``, whether the aim was; ``cpu`` and
        ``wall``, the spread of the seconds of a fit.
    slopes : list of dict
        ``name``, ``slope``, ``aim`` and ``reached`` of each method whose slope is asked for.
    """
    statistic = _STATISTICS[record["statistic"]]
    rows = []
    for entry in record["solvers"]:
        values = [run["value"] for run in entry["runs"]]
        usable = entry["status"] == "ok" and bool(values) and None not in values
        value = statistic(values) if usable else None
        several = usable and len(values) > 1
        rows.append(
            {
                "value": value,
                "range": [min(values), max(values)] if usable else None,
                "error": statistics.stdev(values) / math.sqrt(len(values)) if several else None,
                "reached": within(value, entry["aim"]),
                "cpu": spread([run["cpu"] for run in entry["runs"]]),
                "wall": spread([run["wall"] for run in entry["runs"]]),
            }
        )
    slopes = []
    for name, limits in record["slopes"].items():
        points = [
            (entry["size"], row["value"])
            for entry, row in zip(record["solvers"], rows)
            if entry["name"] == name and row["value"] is not None
        ]
        slope = _slope(points)
        slopes.append(
            {"name": name, "slope": slope, "aim": limits, "reached": within(slope, limits)}
        )
    return rows, slopes


def _slope(points):
    if len(points) < 2:
        return None
    logs = [(math.log(size), math.log(value)) for size, value in points]
    return statistics.linear_regression(*zip(*logs)).slope
