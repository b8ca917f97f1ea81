"""How methods that learn a graph are compared: time, and what the graph is worth.

There is no common accuracy here. Methods stop in different local optima of criteria that are not
convex, so that a time-accuracy curve has no meaning; what each attained is printed beside its
time. A *graph race* has several data sets. In every repeat every method learns every one, in
turns; methods that take minutes learn each of them in the first repeats only. Times of the same
repeat and data set are divided by each other.

Of every graph three things are recomputed, by the same functions for all methods:

- the objective that it allows: the criterion, minimised exactly over all graphs that fit the
  order of its nodes. That makes methods comparable whose own answer is no acyclic graph until it
  is thresholded. Where the graph leaves the order open, the node of least variance comes first,
  which suits the criterion;
- the structural Hamming distance to the true graph, and that of the two equivalence classes;
- the mean relative error of the standard deviations of the noise, if the method estimates them.
"""

import gc
import importlib.util
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ._measure import Clock, limited_threads, peak_memory, pools, spread


class Learned(NamedTuple):
    """What a method found.

    Parameters
    ----------
    adjacency : ndarray of shape (n_nodes, n_nodes) or None
        Weights after the threshold; None for a method that returns a class of graphs.
    order : ndarray of shape (n_nodes,) or None
        The order of the nodes, if the method has one.
    pattern : ndarray of shape (n_nodes, n_nodes) or None
        The equivalence class, with an undirected edge in both directions.
    noise_scales : ndarray of shape (n_nodes,) or None
    n_iter : int or None
    """

    adjacency: np.ndarray | None = None
    order: np.ndarray | None = None
    pattern: np.ndarray | None = None
    noise_scales: np.ndarray | None = None
    n_iter: int | None = None


@dataclass(frozen=True)
class Learner:
    """One method.

    Parameters
    ----------
    name, distribution, module : str
        As in :class:`benchmarks._measure.Solver`.
    prepare : callable
        Called once, untimed; returns ``call(X)``, which is timed.
    read : callable or None
        Turns what the call returned into a :class:`Learned`, untimed; None for a task whose
        result is not a graph.
    role : {"ours", "variant", "reference", "peer"}
        Ours is compared with the reference and with peers; a variant is another setting of ours.
    max_repeats : int or None
        Repeats of a method that takes long. One that is run once is not warmed up, and its
        memory is not measured.
    """

    name: str
    distribution: str
    module: str
    prepare: Callable[[], Callable[[np.ndarray], object]]
    read: Callable[[object], Learned] | None
    role: str = "peer"
    max_repeats: int | None = None


@dataclass(frozen=True)
class GraphRace:
    """Data sets and the methods that learn them.

    Parameters
    ----------
    key, title, description : str
    draw : callable
        Maps a seed to a bunch with ``data``, ``adjacency`` and, if they are known,
        ``noise_scales``. A FileNotFoundError says that the data are not on this computer.
    seeds : tuple of int
    learners : tuple of Learner
    objective : callable or None
        Maps data and an order of their columns to the criterion.
    sizes : dict
        Facts of the data.
    warm_up : callable
        Returns small data for the untimed call in which everything is compiled.
    """

    key: str
    title: str
    description: str
    draw: Callable[[int], object]
    seeds: tuple[int, ...]
    learners: tuple[Learner, ...]
    objective: Callable[[np.ndarray, np.ndarray], float] | None
    sizes: dict
    warm_up: Callable[[], np.ndarray]


@dataclass
class _Lane:
    learner: Learner
    entry: dict
    repeats: int
    call: Callable[[np.ndarray], object] | None = None


def run_graphs(race, *, repeats, threads, clock=None, memory=None, log=lambda line: None):
    """Run a graph race and return its raw record.

    Parameters
    ----------
    race : GraphRace
    repeats, threads : int
    clock : Clock or None
    memory : callable or None
        As in :func:`benchmarks._measure.run_race`.
    log : callable
        Takes one line of progress.

    Returns
    -------
    dict
        What :func:`summarise_graphs` reads; only lists, dicts, strings, numbers and None.
    """
    clock = Clock() if clock is None else clock
    memory = peak_memory if memory is None else memory
    record = {
        "kind": "graphs",
        "key": race.key,
        "title": race.title,
        "description": race.description,
        "threads": threads,
        "repeats": repeats,
        "sizes": race.sizes,
        "missing": None,
        "pools": [],
        "solvers": [],
    }
    try:
        problems = {seed: race.draw(seed) for seed in race.seeds}
    except FileNotFoundError as error:
        record["missing"] = str(error)
        log(record["missing"])
        return record
    lanes = [_enter(learner, race.warm_up, repeats, threads, log) for learner in race.learners]
    record["solvers"] = [lane.entry for lane in lanes]
    with limited_threads(threads):
        record["pools"] = pools()
    for repeat in range(repeats):
        for seed, problem in problems.items():
            for lane in lanes[:: -1 if repeat % 2 else 1]:
                if lane.call is not None and repeat < lane.repeats:
                    _run_once(lane, race.objective, problem, (seed, repeat), threads, clock, log)
    for lane in lanes:
        if lane.call is not None and lane.learner.max_repeats != 1:
            _measure_memory(lane, problems[race.seeds[-1]].data, threads, memory, log)
    return record


def _enter(learner, warm_up, repeats, threads, log):
    entry = {
        "name": learner.name,
        "distribution": learner.distribution,
        "ours": learner.role == "ours",
        "role": learner.role,
        "status": "ok",
        "error": None,
        "runs": [],
        "graphs": [],
        "memory": None,
    }
    limit = repeats if learner.max_repeats is None else min(repeats, learner.max_repeats)
    lane = _Lane(learner, entry, limit)
    if importlib.util.find_spec(learner.module) is None:
        entry["status"] = "not installed"
        log(f"{learner.name}: not installed")
        return lane
    try:
        call = learner.prepare()
        if learner.max_repeats != 1:
            with limited_threads(threads):
                call(warm_up())
    except Exception as error:
        _fail(lane, error, log)
        return lane
    lane.call = call
    return lane


def _run_once(lane, objective, problem, place, threads, clock, log):
    seed, repeat = place
    gc.collect()
    try:
        with limited_threads(threads):
            wall, cpu = clock.wall(), clock.cpu()
            result = lane.call(problem.data)
            cpu, wall = clock.cpu() - cpu, clock.wall() - wall
        # A method that draws random numbers draws the same ones in every repeat.
        if repeat == 0 and lane.learner.read is not None:
            found = lane.learner.read(result)
            lane.entry["graphs"].append({"seed": seed, **_judge(found, problem, objective)})
    except Exception as error:
        _fail(lane, error, log)
        return
    lane.entry["runs"].append({"seed": seed, "repeat": repeat, "cpu": cpu, "wall": wall})
    worth = ", ".join(
        f"{name} {value:.4g}"
        for name, value in (lane.entry["graphs"] or [{}])[-1].items()
        if name != "seed" and value is not None and repeat == 0
    )
    log(f"{lane.learner.name:>36} seed {seed}: {cpu:.4f} s CPU, {wall:.4f} s wall  {worth}")


def _measure_memory(lane, X, threads, memory, log):
    try:
        with limited_threads(threads):
            peak, how = memory(lambda: lane.call(X))
    except Exception as error:
        _fail(lane, error, log)
        return
    lane.entry["memory"] = {"bytes": peak, "how": how}


def _fail(lane, error, log):
    text = " ".join(str(error).split())
    lane.entry["status"] = "error"
    lane.entry["error"] = f"{type(error).__name__}: {text}"[:300]
    lane.call = None
    log(f"{lane.learner.name}: {lane.entry['error']}")


# --------------------------------------------------------------------------- what a graph is worth


def _judge(found, problem, objective):
    """Compare one graph with the truth; everything that cannot be known is None."""
    from sparsestat.dag import cpdag_hamming_distance, structural_hamming_distance

    worth = dict.fromkeys(("objective", "shd", "shd_cpdag", "edges", "noise_error", "n_iter"), None)
    if found.n_iter is not None:
        worth["n_iter"] = int(found.n_iter)
    if found.pattern is not None:
        worth["shd_cpdag"] = int(
            cpdag_hamming_distance(problem.adjacency, found.pattern, estimated_type="cpdag")
        )
        return worth
    order, acyclic = acyclic_order(found.adjacency, problem.data.var(axis=0))
    worth["shd"] = int(structural_hamming_distance(problem.adjacency, found.adjacency))
    worth["shd_cpdag"] = int(cpdag_hamming_distance(problem.adjacency, acyclic))
    worth["edges"] = int(np.count_nonzero(found.adjacency))
    worth["objective"] = float(
        objective(problem.data, order if found.order is None else found.order)
    )
    truth = problem.get("noise_scales")
    if found.noise_scales is not None and truth is not None:
        worth["noise_error"] = float(np.mean(np.abs(found.noise_scales / truth - 1.0)))
    return worth


def acyclic_order(adjacency, variances):
    """Order the nodes of a graph, parents first, after breaking its cycles.

    Parameters
    ----------
    adjacency : ndarray of shape (n_nodes, n_nodes)
        Weights. While there are cycles, the edge of smallest absolute weight among the nodes
        that are left is removed.
    variances : ndarray of shape (n_nodes,)
        Of several nodes that could come next, that of least variance does.

    Returns
    -------
    order : ndarray of shape (n_nodes,)
    acyclic : ndarray of shape (n_nodes, n_nodes)
        The weights that remain.
    """
    acyclic = np.array(adjacency, dtype=float)
    left, order = list(np.argsort(variances, kind="stable")), []
    while left:
        node = next((node for node in left if not np.any(acyclic[left, node])), None)
        if node is None:
            among = np.abs(acyclic[np.ix_(left, left)])
            parent, child = np.unravel_index(
                np.where(among == 0, np.inf, among).argmin(), among.shape
            )
            acyclic[left[parent], left[child]] = 0.0
            continue
        order.append(node)
        left.remove(node)
    return np.array(order), acyclic


# --------------------------------------------------------------------------- comparing


def summarise_graphs(record):
    """Compare the methods of a graph race.

    Parameters
    ----------
    record : dict
        What :func:`run_graphs` returned.

    Returns
    -------
    list of dict
        For each method, in the record's order: ``cpu`` and ``wall``, the spread of its times;
        ``speedup``, the spread of the reference's times over its own; ``slowdown``, of its times
        over ours; ``worth``, for each quantity the list over the data sets; ``no_worse``, on how
        many data sets its objective is not above the reference's, and ``judged``, on how many
        both are known.
    """
    reference = _with_role(record, "reference")
    ours = _with_role(record, "ours")
    rows = []
    for entry in record["solvers"]:
        names = [name for name in (entry["graphs"] or [{}])[0] if name != "seed"]
        pairs = _paired_objectives(entry, reference)
        rows.append(
            {
                "name": entry["name"],
                "cpu": spread([run["cpu"] for run in entry["runs"]]),
                "wall": spread([run["wall"] for run in entry["runs"]]),
                "speedup": None if entry is reference else _ratios(reference, entry),
                "slowdown": None if entry is ours else _ratios(entry, ours),
                "worth": {name: [graph[name] for graph in entry["graphs"]] for name in names},
                # Rounding of a sum of squares, and nothing else, is forgiven.
                "no_worse": sum(mine <= theirs * (1 + 1e-9) for mine, theirs in pairs),
                "judged": len(pairs),
            }
        )
    return rows


def _with_role(record, role):
    found = [entry for entry in record["solvers"] if entry["role"] == role]
    return found[0] if found and found[0]["status"] == "ok" else None


def _ratios(entry, other):
    """Times of one method over those of another, on the same data in the same repeat."""
    if entry is None or other is None:
        return None
    times = {(run["seed"], run["repeat"]): run["cpu"] for run in other["runs"]}
    places = [((run["seed"], run["repeat"]), run["cpu"]) for run in entry["runs"]]
    return spread([cpu / times[place] for place, cpu in places if place in times])


def _paired_objectives(entry, reference):
    if reference is None or entry is reference:
        return []
    known = {graph["seed"]: graph["objective"] for graph in reference["graphs"]}
    return [
        (graph["objective"], known[graph["seed"]])
        for graph in entry["graphs"]
        if graph["objective"] is not None and known.get(graph["seed"]) is not None
    ]


# --------------------------------------------------------------------------- cost of iterations


@dataclass(frozen=True)
class IterationRace:
    """Seconds of an iterative method beside those of the linear algebra that it needs.

    Parameters
    ----------
    key, title, description : str
    draw : callable
        Maps a number of nodes to a covariance.
    sizes : dict of int to int
        Numbers of nodes, and the iterations that are made with them.
    methods : dict
        Names, and callables ``(covariance, n_iterations) -> number of iterations made``.
    baseline : str
        The name of the method that the others are divided by.
    """

    key: str
    title: str
    description: str
    draw: Callable[[int], np.ndarray]
    sizes: dict[int, int]
    methods: dict[str, Callable[[np.ndarray, int], int]]
    baseline: str


def run_iterations(race, *, repeats, threads, clock=None, log=lambda line: None):
    """Time the iterations of some methods, in turns.

    Parameters
    ----------
    race : IterationRace
    repeats, threads : int
    clock : Clock or None
    log : callable
        Takes one line of progress.

    Returns
    -------
    dict
    """
    clock = Clock() if clock is None else clock
    record = {
        "kind": "iterations",
        "key": race.key,
        "title": race.title,
        "description": race.description,
        "threads": threads,
        "repeats": repeats,
        "sizes": {f"iterations with {size} nodes": count for size, count in race.sizes.items()},
        "baseline": race.baseline,
        "solvers": [],
        "rows": [],
    }
    for size, n_iterations in race.sizes.items():
        covariance = race.draw(size)
        row = {"n_nodes": size, "seconds": {name: [] for name in race.methods}}
        record["rows"].append(row)
        # The first round loads what is loaded once.
        for repeat in range(-1, repeats):
            for name in list(race.methods)[:: -1 if repeat % 2 else 1]:
                gc.collect()
                with limited_threads(threads):
                    start = clock.cpu()
                    made = race.methods[name](covariance, n_iterations)
                    seconds = 1000 * (clock.cpu() - start) / made
                if repeat >= 0:
                    row["seconds"][name].append(seconds)
                    log(f"{name:>36} {size} nodes: {seconds:.4f} s CPU per 1,000 iterations")
    with limited_threads(threads):
        record["pools"] = pools()
    return record


def mean(values):
    """Return the mean of the values that are known, or None."""
    values = [value for value in values if value is not None]
    return statistics.fmean(values) if values else None
