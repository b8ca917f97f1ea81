"""The problems of the transport family, and how their answers are judged."""

import importlib.util

import numpy as np
import pytest

from benchmarks import _tasks, transport
from benchmarks import _transport_problems as data
from benchmarks import _transport_solvers as solvers
from benchmarks._figures import FigureTable
from benchmarks._measure import Race
from benchmarks._tasks import TaskRace
from benchmarks._transport_problems import Potentials, Problem, Unregularised


def plain_sinkhorn(problem, n_iter):
    """The textbook's iteration: a diagonal scaling of the kernel with exact columns."""
    kernel = np.exp(-problem.cost / problem.epsilon)
    v = np.ones(len(problem.b))
    for _ in range(n_iter):
        u = problem.a / (kernel @ v)
        v = problem.b / (kernel.T @ u)
    f = problem.epsilon * np.log(u / problem.a)
    g = problem.epsilon * np.log(v / problem.b)
    return u[:, None] * kernel * v, Potentials(f, g)


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    a, b = rng.dirichlet(np.ones(300)), rng.dirichlet(np.ones(40))
    return Problem(rng.random((300, 40)), a, b, 0.1)


# --------------------------------------------------------------------------- accuracy


def test_the_plan_of_two_points_has_no_error():
    cost, epsilon = np.array([[0.0, 1.0], [0.7, 0.2]]), 0.3
    half = np.array([0.5, 0.5])
    rise = cost[0, 1] + cost[1, 0] - cost[0, 0] - cost[1, 1]
    p = 1 / (2 * (1 + np.exp(-rise / (2 * epsilon))))
    plan = np.array([[p, 0.5 - p], [0.5 - p, p]])
    problem = Problem(cost, half, half, epsilon)
    assert data.marginal_error(problem, plan) < 1e-15
    _, potentials = plain_sinkhorn(problem, 200)
    assert data.marginal_error(problem, potentials) < 1e-14
    assert data.distance_to(problem, plan, potentials) < 1e-14
    # Mass that is too much in one entry is missed in one row and one column.
    assert data.marginal_error(problem, plan + [[0, 1e-3], [0, 0]]) == pytest.approx(2e-3)


def test_errors_of_rows_and_columns_add_up_over_the_blocks(problem):
    product = np.outer(problem.a, problem.b)
    assert data.marginal_error(problem, product) < 1e-14
    plan = product.copy()
    plan[299, 3] += 0.25
    plan[5, 3] -= 0.125
    # Rows are off by 1/4 and 1/8, a column by the difference of the two.
    assert data.marginal_error(problem, plan) == pytest.approx(0.5)
    assert data.marginal_error(problem, Unregularised(plan)) == pytest.approx(0.5)


def test_plans_and_their_potentials_have_the_same_error(problem):
    plan, potentials = plain_sinkhorn(problem, 4)
    error = data.marginal_error(problem, plan)
    assert error > 1e-8
    assert data.marginal_error(problem, potentials) == pytest.approx(error, rel=1e-6)
    assert data.marginal_error(problem, Potentials(potentials.f + 0.1, potentials.g)) > 1


def test_points_are_judged_as_their_distances_are():
    points = data.gaussian_clouds(400, 20)
    cost = np.square(points.X[:, None] - points.Y[None]).sum(axis=-1)
    assert 0.2 < cost.max() <= 1
    problem = Problem(cost, points.a, points.b, points.epsilon)
    _, potentials = plain_sinkhorn(problem, 5)
    expected = data.marginal_error(problem, potentials)
    assert data.marginal_error(points, potentials) == pytest.approx(expected, rel=1e-6)


def test_a_batch_is_as_accurate_as_its_worst_problem():
    batch = data.gaussian_batch(3, 12, 20)
    singles = [data.gaussian(12, 20, seed) for seed in range(3)]
    for cost, single in zip(batch.cost, singles):
        np.testing.assert_array_equal(cost, single.cost)
    answers = [plain_sinkhorn(single, n) for single, n in zip(singles, (100, 3, 100))]
    expected = data.marginal_error(singles[1], answers[1][0])
    assert expected > 1e-6
    plans = np.stack([plan for plan, _ in answers])
    potentials = Potentials(*(np.stack(part) for part in zip(*(found for _, found in answers))))
    for answer in (plans, potentials):
        assert data.marginal_error(batch, answer) == pytest.approx(expected, rel=1e-6)


def test_plans_on_the_way_to_the_solution_pass(problem):
    accuracy = data.accuracy_of(problem, lambda: plain_sinkhorn(problem, 300)[1])
    errors = [accuracy(plain_sinkhorn(problem, n)[0]) for n in (1, 4, 7, 10, 30)]
    assert errors[0] > 1e-3 and errors[-1] < 1e-12


def test_an_accurate_plan_of_another_problem_is_refused(problem):
    asked = []

    def reference():
        asked.append(True)
        return plain_sinkhorn(problem, 300)[1]

    accuracy = data.accuracy_of(problem, reference)
    wrong, _ = plain_sinkhorn(problem._replace(epsilon=0.101), 300)
    for _ in range(2):
        with pytest.raises(AssertionError, match=r"marginal error .* divergence of"):
            accuracy(wrong)
    assert asked == [True]
    # What is not meant to be the plan of this problem, or not accurate, is not compared.
    assert accuracy(Unregularised(wrong)) < 1e-12
    assert accuracy(2 * wrong) == pytest.approx(2)


# --------------------------------------------------------------------------- data


def test_digits_are_densities_on_a_grid():
    flat, square = data.digits(1, 1200), data.digits(2, 1200)
    for problem in (flat, square):
        assert problem.cost.shape == (784, 784)
        assert problem.cost.max() == 1 and not problem.cost.diagonal().any()
        assert problem.a.sum() == pytest.approx(1) and problem.b.sum() == pytest.approx(1)
        assert min(problem.a.min(), problem.b.min()) > 0
        assert problem.epsilon == 1 / 1200
    # From a corner to the next one along a side: half of the way to the opposite corner.
    assert flat.cost[0, 27] == pytest.approx(0.5) and square.cost[0, 27] == pytest.approx(0.5)
    # A zero has a hole where a three has ink.
    middle = slice(13 * 28 + 12, 13 * 28 + 16)
    assert flat.b[middle].min() > 3 * flat.a[middle].max()


def test_clouds_are_reproducible_and_differ():
    X, Y = data.gaussian_points(2000)
    np.testing.assert_array_equal(X, data.gaussian_points(2000)[0])
    # Means of 2000 numbers with variances of at most one: six standard errors are 0.14.
    np.testing.assert_allclose(Y.mean(axis=0) - X.mean(axis=0), 1, atol=0.2)
    assert np.cov(Y, rowvar=False)[0, 1] == pytest.approx(0.6, abs=0.15)


# --------------------------------------------------------------------------- the family


@pytest.mark.parametrize("quick", [False, True])
def test_problems_of_the_family(quick):
    problems = transport.problems(quick=quick)
    keys = [problem.key for problem in problems]
    assert len(set(keys)) == len(keys)
    assert {"gaussian", "assignment", "digits_l1", "points_20", "bridge", "startup"} <= set(keys)
    for race in problems:
        if isinstance(race, Race):
            assert race.target == 1e-9 and race.clock == "cpu"


def test_aims_are_those_of_the_full_run():
    def aims(problems):
        found = {}
        for problem in problems:
            if isinstance(problem, TaskRace) and problem.key != "gpu":
                found[problem.key] = [task.aim for task in problem.build() if task.aim is not None]
            if isinstance(problem, FigureTable):
                limits = [setting.methods[0].aim[1] for setting in problem.settings]
                found[problem.key] = [limit for limit in limits if limit is not None]
        return found

    expected = {"log_sweep": [25.0], "kernel_sweep": [2.0], "bridge": [2.5]}
    assert aims(transport.problems()) == expected
    assert aims(transport.problems(quick=True)) == {key: [] for key in expected}


def test_every_race_gives_every_solver_three_tolerances_loosest_first():
    races = [problem for problem in transport.problems(quick=True) if isinstance(problem, Race)]
    for race in races:
        case = race.build()
        assert case.solvers[0].ours
        for solver in case.solvers:
            assert len(solver.tolerances) >= 3 or solver.name == "POT, exact (emd)"
            assert list(solver.tolerances) == sorted(solver.tolerances, reverse=True)
        # 50 MB, in bytes.
        assert case.memory_limit == (50_000_000 if race.key.startswith("points") else None)


def test_the_number_of_iterations_is_checked():
    def sweep(done):
        return transport._sweep(
            "a way", "numpy", "numpy", lambda: lambda tol: tol, 20, lambda found: done
        )

    assert "20 iterations" in sweep(20).check()
    with pytest.raises(AssertionError, match="19 iterations instead of 20"):
        sweep(19).check()


def test_without_a_gpu_the_row_says_so(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "cupy" else real(name)
    )
    (race,) = [problem for problem in transport.problems(quick=True) if problem.key == "gpu"]
    tasks = [task for task in race.build() if task.name.endswith("on the GPU")]
    for task in tasks:
        with pytest.raises(solvers.NoDevice, match="no GPU"):
            task.prepare()
    ours = [task for task in tasks if task.ours]
    race = TaskRace(**{**vars(race), "build": lambda: ours})
    record = _tasks.run_tasks(race, repeats=1, threads=1)
    assert record["solvers"][0]["error"] == "NoDevice: no GPU"


# --------------------------------------------------------------------------- ours


def small_problems(kind):
    return [problem for problem in transport.problems(quick=True) if isinstance(problem, kind)]


@pytest.mark.parametrize("key", [race.key for race in small_problems(Race)])
def test_our_solvers_reach_the_accuracy_of_every_race(key):
    (race,) = [race for race in small_problems(Race) if race.key == key]
    case = race.build()
    for solver in case.solvers:
        if solver.distribution == "sparsestat":
            call = solver.prepare()
            errors = [case.accuracy(solver.extract(call(tol))) for tol in solver.tolerances]
            for tol, error in zip(solver.tolerances, errors):
                assert error <= 1.01 * tol
            # Newton steps overshoot, but not from the loosest setting on.
            assert errors[0] > 10 * errors[-1] and errors[-1] <= 1e-9


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("key", ["log_sweep", "kernel_sweep"])
def test_our_sweeps_do_the_iterations_that_are_counted(key):
    (race,) = [race for race in small_problems(TaskRace) if race.key == key]
    ours = [task for task in race.build() if task.distribution == "sparsestat"]
    assert ours[0].ours
    for task in ours:
        assert task.check() == "20 iterations a call"


def test_our_bridge_is_learned():
    (table,) = small_problems(FigureTable)
    assert [setting.seeds for setting in table.settings] == [(1,), (1, 2, 3, 4, 5)]
    setting = table.settings[0]
    bridge = setting.draw(1)
    (method,) = setting.methods
    error = method.score(bridge, method.fit(bridge, 1, 1))
    # Far below what a plan that ignores the starting point has.
    assert 0 < error < 60


# --------------------------------------------------------------------------- peers


@pytest.fixture(scope="module")
def small():
    return data.gaussian(60, 30)


def peer_calls(problem):
    tol = 1e-11
    return {
        "ot": [
            (solvers.pot_plan, lambda: solvers.pot(problem)(tol)),
            (solvers.pot_plan, lambda: solvers.pot(problem, "sinkhorn_log")(tol)),
        ],
        "regot": [(solvers.regot_plan, lambda: solvers.regot_newton(problem)(tol))],
        "ott": [
            (solvers.ott_plan, lambda: solvers.ott(problem, (tol,), lse_mode=True)(tol)),
            (solvers.ott_plan, lambda: solvers.ott(problem, (tol,), lse_mode=False)(tol)),
        ],
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("module", ["ot", "regot", "ott"])
def test_peers_solve_the_problem(module, small):
    pytest.importorskip(module)
    accuracy = data.accuracy_of(small, lambda: plain_sinkhorn(small, 500)[1])
    for extract, call in peer_calls(small)[module]:
        plan = extract(call())
        assert isinstance(plan, np.ndarray) and plan.dtype == np.float64
        assert accuracy(plan) < 1e-9


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_exact_plans_cost_no_more(small):
    pytest.importorskip("ot")
    exact = solvers.pot_emd(small)(0.0)
    assert data.accuracy_of(small)(exact) < 1e-14
    plan, _ = plain_sinkhorn(small, 500)
    assert np.sum(small.cost * exact.plan) < np.sum(small.cost * plan)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_batches_and_points_of_the_peer():
    pytest.importorskip("ot")
    batch = data.gaussian_batch(4, 12, 20)
    for method in ("sinkhorn", "log_sinkhorn"):
        plans = solvers.pot_batch(batch, method)(1e-13)
        assert data.marginal_error(batch, plans) < 1e-9
        for index, plan in enumerate(plans):
            single = data.gaussian(12, 20, index)
            reference = plain_sinkhorn(single, 500)[1]
            assert data.distance_to(single, plan, reference) < 1e-10
    points = data.gaussian_clouds(70, 20)
    points = points._replace(a=np.random.default_rng(0).dirichlet(np.ones(70)))
    found = solvers.pot_points(points, 13)(1e-11)
    assert data.marginal_error(points, solvers.pot_potentials(points)(found)) < 1e-9


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("key", ["log_sweep", "kernel_sweep"])
def test_peers_do_the_iterations_that_are_counted(key):
    (race,) = [problem for problem in transport.problems(quick=True) if problem.key == key]
    for task in race.build():
        if task.distribution != "sparsestat" and importlib.util.find_spec(task.module):
            assert task.check() == "20 iterations a call"
