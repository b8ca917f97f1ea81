"""The comparison of methods that learn graphs."""

import copy
import json

import numpy as np
import pytest
from sklearn.utils import Bunch

from benchmarks import _graphs, _report, dag
from benchmarks._graphs import GraphRace, IterationRace, Learned, Learner
from benchmarks._measure import Clock
from sparsestat.dag import CoLiDE
from sparsestat.datasets import make_sem

# Small graphs, whose variances always increase along the edges.
pytestmark = pytest.mark.filterwarnings("ignore::sparsestat.dag.SortabilityWarning")


class Timer:
    """Time that passes only when a method says so."""

    def __init__(self):
        self.now = 0.0
        self.clock = Clock(cpu=lambda: self.now, wall=lambda: 2 * self.now)


CHAIN = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 2.0], [0.0, 0.0, 0.0]])


def problem(seed):
    rng = np.random.default_rng(seed)
    return Bunch(data=rng.normal(size=(40, 3)), adjacency=CHAIN, noise_scales=np.ones(3))


def learner(name, timer, seconds, found=None, role="peer", log=None, **options):
    """A method that takes some seconds of the clock, more for every later call."""
    calls = [] if log is None else log

    def call(X):
        calls.append((name, X.shape))
        timer.now += seconds
        return found

    return Learner(
        name,
        name,
        options.pop("module", "numpy"),
        lambda: call,
        options.pop("read", Learned),
        role,
        **options,
    )


def race(learners, **changes):
    options = {
        "key": "key",
        "title": "A title",
        "description": "Described.",
        "draw": problem,
        "seeds": (0, 1),
        "learners": tuple(learners),
        "objective": lambda X, order: float(order[0]),
        "sizes": {"nodes": 3},
        "warm_up": lambda: np.zeros((5, 3)),
        **changes,
    }
    return GraphRace(**options)


def no_memory(call):
    call()
    return 2**20, "high-water mark"


def run(learners, repeats=2, timer=None, **changes):
    return _graphs.run_graphs(
        race(learners, **changes),
        repeats=repeats,
        threads=1,
        clock=timer and timer.clock,
        memory=no_memory,
    )


# --------------------------------------------------------------------------- running


def test_every_method_learns_every_data_set_in_turns():
    timer, log = Timer(), []
    methods = [
        learner("fast", timer, 1.0, CHAIN, "ours", log),
        learner("slow", timer, 7.0, CHAIN, "reference", log, max_repeats=1),
    ]
    record = run(methods, repeats=3, timer=timer)
    fast, slow = record["solvers"]
    places = [(run["seed"], run["repeat"]) for run in fast["runs"]]
    assert places == [(seed, repeat) for repeat in range(3) for seed in (0, 1)]
    assert [(run["seed"], run["repeat"]) for run in slow["runs"]] == [(0, 0), (1, 0)]
    assert all(run["cpu"] == 1.0 and run["wall"] == 2.0 for run in fast["runs"])
    # A method that is run once is neither warmed up nor measured for memory.
    shapes = [shape for name, shape in log if name == "slow"]
    assert shapes == [(40, 3)] * 2
    assert [shape for name, shape in log if name == "fast"] == [(5, 3)] + [(40, 3)] * 7
    assert slow["memory"] is None and fast["memory"]["bytes"] == 2**20
    names = [name for name, shape in log if shape == (40, 3)]
    assert names[:4] == ["fast", "slow", "fast", "slow"]
    json.dumps(record, allow_nan=False)


def test_turns_go_backwards_in_every_other_repeat():
    timer, log = Timer(), []
    methods = [learner(name, timer, 1.0, CHAIN, log=log) for name in "ab"]
    run(methods, timer=timer, seeds=(0,))
    names = "".join(name for name, shape in log if shape == (40, 3))
    # The last two calls measure memory.
    assert names == "abba" + "ab"


def test_a_graph_is_compared_with_the_truth():
    reversed_edge = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    found = Learned(reversed_edge, None, None, np.array([1.1, 0.9, 1.0]), 12)
    method = learner("one", Timer(), 1.0, found, read=lambda found: found)
    ((one, other),) = [entry["graphs"] for entry in run([method])["solvers"]]
    assert one["seed"] == 0 and other["seed"] == 1
    assert (one["shd"], one["edges"], one["n_iter"]) == (1, 2, 12)
    # The chain's class has no arrowhead, the collider's has two.
    assert one["shd_cpdag"] == 2
    assert one["noise_error"] == pytest.approx(0.2 / 3)


def test_what_is_not_known_is_none():
    pattern = CHAIN + CHAIN.T
    methods = [
        learner("class", Timer(), 1.0, None, read=lambda _: Learned(pattern=pattern)),
        learner("task", Timer(), 1.0, None, read=None),
        learner("unknown", Timer(), 1.0, CHAIN),
    ]
    draw = lambda seed: Bunch(data=problem(seed).data, adjacency=CHAIN)  # noqa: E731
    first, second, third = run(methods, draw=draw, seeds=(0,))["solvers"]
    assert first["graphs"][0] == {
        "seed": 0,
        "objective": None,
        "shd": None,
        "shd_cpdag": 0,
        "edges": None,
        "noise_error": None,
        "n_iter": None,
    }
    assert second["graphs"] == [] and second["runs"]
    assert third["graphs"][0]["noise_error"] is None and third["graphs"][0]["shd"] == 0


def test_failures_and_absences_are_recorded():
    def broken(X):
        raise ValueError("too |\n bad")

    methods = [
        Learner("broken", "broken", "numpy", lambda: broken, Learned),
        Learner("late", "late", "numpy", lambda: broken, Learned, max_repeats=1),
        learner("gone", Timer(), 1.0, module="no_such_module_anywhere"),
        learner("good", Timer(), 1.0, CHAIN),
    ]
    entries = run(methods)["solvers"]
    assert [entry["status"] for entry in entries] == ["error", "error", "not installed", "ok"]
    assert entries[0]["error"] == entries[1]["error"] == "ValueError: too | bad"


def test_missing_data_are_recorded():
    def draw(seed):
        raise FileNotFoundError("Get the file.")

    record = run([learner("one", Timer(), 1.0)], draw=draw)
    assert record["missing"] == "Get the file."
    page = _report.render("family", [document(record)])
    assert "**Not run: Get the file.**" in page


# --------------------------------------------------------------------------- orders


def test_order_of_a_graph_prefers_small_variances():
    order, acyclic = _graphs.acyclic_order(CHAIN, np.array([1.0, 2.0, 3.0]))
    assert order.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(acyclic, CHAIN)
    order, _ = _graphs.acyclic_order(np.zeros((3, 3)), np.array([2.0, 3.0, 1.0]))
    assert order.tolist() == [2, 0, 1]


def test_cycles_are_broken_at_their_smallest_edge():
    cycle = CHAIN.copy()
    cycle[2, 0] = -0.5
    order, acyclic = _graphs.acyclic_order(cycle, np.array([3.0, 2.0, 1.0]))
    assert order.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(acyclic, CHAIN)
    assert cycle[2, 0] == -0.5


@pytest.mark.parametrize("variance", ["equal", "unequal"])
def test_objective_of_an_order_is_the_criterion_of_the_estimator(variance):
    X = make_sem(200, 6, degree=1, random_state=0).data
    model = CoLiDE(variance, alpha=0.05, random_state=0).fit(X)
    allowed = dag._objective(variance)(X, model.order_)
    # The search ends at a point that is optimal for its order.
    assert allowed == pytest.approx(model.objective_, rel=1e-7)
    assert dag._objective(variance)(X, model.order_[::-1]) > allowed * 1.001


# --------------------------------------------------------------------------- comparing


def entry(name, role, seconds, objectives=(), **changes):
    return {
        "name": name,
        "distribution": name,
        "ours": role == "ours",
        "role": role,
        "status": "ok",
        "error": None,
        "runs": [
            {"seed": seed, "repeat": repeat, "cpu": value, "wall": 2 * value}
            for (seed, repeat), value in seconds.items()
        ],
        "graphs": [
            {
                "seed": seed,
                "objective": value,
                "shd": 2 + seed,
                "shd_cpdag": 1,
                "edges": 5,
                "noise_error": 0.25,
                "n_iter": 1234,
            }
            for seed, value in enumerate(objectives)
        ],
        "memory": {"bytes": 2**21, "how": "high-water mark"},
        **changes,
    }


def graph_record(**changes):
    return {
        "kind": "graphs",
        "key": "key",
        "title": "A title",
        "description": "Described.",
        "threads": 1,
        "repeats": 2,
        "sizes": {"nodes": 3},
        "missing": None,
        "pools": ["openblas: 1"],
        "solvers": [
            entry("ours", "ours", {(0, 0): 1.0, (1, 0): 2.0, (0, 1): 9.0}, [1.0, 3.0]),
            entry("path", "reference", {(0, 0): 30.0, (1, 0): 20.0}, [1.5, 2.0], memory=None),
            entry("peer", "peer", {(0, 0): 5.0}, [1.5 * (1 + 1e-12), None]),
            entry("gone", "peer", {}, status="not installed"),
        ],
        **changes,
    }


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


def test_times_of_the_same_data_and_repeat_are_divided():
    ours, path, peer, gone = _graphs.summarise_graphs(graph_record())
    assert ours["speedup"] == {"median": 20.0, "min": 10.0, "max": 30.0, "count": 2}
    assert path["speedup"] is None and ours["slowdown"] is None
    assert path["slowdown"]["median"] == 20.0
    assert peer["speedup"]["median"] == 6.0 and peer["slowdown"]["median"] == 5.0
    assert gone["cpu"] is None and gone["speedup"] is None
    assert (ours["no_worse"], ours["judged"]) == (1, 2)
    # Rounding is no difference.
    assert (peer["no_worse"], peer["judged"]) == (1, 1)


def test_page_of_a_graph_race():
    page = _report.render("family", [document(graph_record())])
    assert (
        "**ours is 20 times faster than the central path, with an objective that is not above its "
        "on 1 of 2 data sets, and a mean SHD of 2.5 against 2.5.**"
    ) in page
    assert (
        "| **ours** | 3 | 2 [1, 9] | 4 [2, 18] | 20 [10, 30] |  | 2 | 1 of 2 | 1,234 | 2.0 |"
    ) in page
    assert "| path | 2 | 25 [20, 30] | 50 [40, 60] |  | 20 [10, 30] |" in page
    assert "| not measured |" in page
    assert "| peer 7.8 | 1 | 5 [5, 5] | 10 [10, 10] | 6 [6, 6] | 5 [5, 5] | 1.5 | 1 of 1 |" in page
    assert "| gone | not installed |" in page
    assert "| **ours** | 2.5 | 2, 3 | 1.0 | 5.0 | 25.0% |" in page


def test_a_slower_method_is_called_slower():
    record = graph_record()
    record["solvers"][1]["runs"] = [{"seed": 0, "repeat": 0, "cpu": 0.25, "wall": 0.25}]
    page = _report.render("family", [document(record)])
    assert "**ours is 4 times slower than the central path" in page


def test_page_without_a_reference():
    record = graph_record()
    del record["solvers"][1]
    page = _report.render("family", [document(record)])
    assert "times faster" not in page
    assert "| **ours** | 3 | 2 [1, 9] |" in page


def test_history_of_a_graph_race():
    new = document(graph_record())
    old = copy.deepcopy(new)
    old["commit"] = "0ld0ld0"
    page = _report.render("family", [old, new])
    assert "| 2030-01-02 | `0ld0ld0` | 2 [1, 9] | 20 [10, 30] | 2.5 |" in page
    assert page.count("History:") == 1


# --------------------------------------------------------------------------- iterations


def test_iterations_are_divided_by_those_of_the_baseline():
    timer, sizes = Timer(), []

    def method(seconds):
        def call(covariance, n_iterations):
            sizes.append((len(covariance), n_iterations))
            timer.now += seconds * n_iterations
            return n_iterations

        return call

    race = IterationRace(
        "cost",
        "Cost",
        "Described.",
        np.eye,
        {3: 10, 5: 20},
        {"plain": method(1.0), "path": method(1.25)},
        "plain",
    )
    record = _graphs.run_iterations(race, repeats=2, threads=1, clock=timer.clock)
    assert sizes == [(3, 10)] * 6 + [(5, 20)] * 6
    assert record["rows"][0]["seconds"] == {"plain": [1000.0] * 2, "path": [1250.0] * 2}
    page = _report.render("family", [document(record)])
    assert "| nodes | plain | path | path / plain |" in page
    assert "| 5 | 1000 [1000, 1000] | 1250 [1250, 1250] | 1.2 [1.2, 1.2] |" in page
    assert "iterations with 5 nodes 20" in page


# --------------------------------------------------------------------------- the family


def test_problems_of_the_family():
    problems = dag.problems()
    keys = [problem.key for problem in problems]
    assert len(set(keys)) == len(keys)
    assert keys[0] == "iteration_cost"
    for problem in problems:
        if isinstance(problem, GraphRace):
            roles = [learner.role for learner in problem.learners]
            assert roles.count("ours") == 1 and roles.count("reference") <= 1


def test_our_methods_run_and_find_the_graph():
    wanted = {"equal_20", "unequal_20"}
    for race in dag.problems(quick=True):
        if race.key not in wanted:
            continue
        ours = tuple(learner for learner in race.learners if learner.role == "ours")
        small = GraphRace(**{**vars(race), "learners": ours})
        record = _graphs.run_graphs(small, repeats=1, threads=1, memory=no_memory)
        assert record["solvers"][0]["error"] is None
        sizes = [graph["edges"] for graph in record["solvers"][0]["graphs"]]
        distances = [graph["shd"] for graph in record["solvers"][0]["graphs"]]
        assert len(sizes) == 2 and max(distances) < min(sizes)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_iterations_are_as_many_as_asked():
    race = dag.problems(quick=True)[0]
    covariance = race.draw(12)
    for method in race.methods.values():
        assert method(covariance, 50) == 50
