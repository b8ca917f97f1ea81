"""Solvers of entropic transport: what they attain, and on which problems."""

import itertools
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment, linprog
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning

from sparsestat.transport import sinkhorn, sinkhorn_path, sinkhorn_points
from sparsestat.transport._problem import make_problem
from sparsestat.transport._progress import Progress
from sparsestat.transport._sinkhorn import solve
from sparsestat.transport._sweeps import Marginals, kernel_sweeps, log_sweeps, start

from ._problems import assert_solves, draw, kl, log_plan, marginal_error, plain_sinkhorn

SOLVERS = ["auto", "kernel", "log", "newton", "sns", "truncated"]
every_solver = pytest.mark.parametrize("method", SOLVERS)


def centred(result):
    f, g = result.potentials
    return np.concatenate([f - f.mean(), g + f.mean()])


@every_solver
@pytest.mark.parametrize("epsilon", [1.0, 0.05, 0.01])
@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (1, 7), (7, 1), (1, 1), (65, 66)])
def test_solutions_are_optimal(method, epsilon, shape):
    C, a, b = draw(*shape)
    result = sinkhorn(C, a, b, epsilon=epsilon, method=method, max_iter=100_000)
    assert_solves(result, C, a, b)


@every_solver
def test_all_methods_agree_with_the_plain_iteration(method):
    C, a, b = draw()
    f, g = plain_sinkhorn(C, a, b, 0.02)
    result = sinkhorn(C, a, b, epsilon=0.02, method=method, tol=1e-12)
    witness = np.concatenate([f - f.mean(), g + f.mean()])
    np.testing.assert_allclose(centred(result), witness, atol=1e-8)


def test_two_points_have_a_closed_form():
    rng = np.random.default_rng(0)
    for epsilon in (0.01, 0.3, 5.0):
        C = rng.uniform(size=(2, 2))
        D = C[0, 1] + C[1, 0] - C[0, 0] - C[1, 1]
        expected = 1.0 / (2.0 * (1.0 + np.exp(-D / (2.0 * epsilon))))
        # Sweeps hardly couple two pairs whose plan is nearly decoupled.
        for method in SOLVERS if epsilon > 0.1 else ("auto", "newton", "sns"):
            plan = sinkhorn(C, epsilon=epsilon, method=method, max_iter=200_000).plan
            assert plan[0, 0] == pytest.approx(expected, abs=1e-9)


def test_a_small_epsilon_comes_near_the_unregularised_optimum():
    C, a, b = draw(12, 9)
    equality = [np.kron(np.eye(12), np.ones(9)), np.kron(np.ones(12), np.eye(9))]
    exact = linprog(C.ravel(), A_eq=np.vstack(equality), b_eq=np.concatenate([a, b])).fun
    for epsilon in (1e-2, 1e-3, 1e-4):
        result = sinkhorn(C, a, b, epsilon=epsilon)
        assert exact - 1e-9 <= result.transport_cost <= exact + epsilon * np.log(12 * 9)
    square, _, _ = draw(40, 40, weights=False)
    rows, columns = linear_sum_assignment(square)
    nearly = sinkhorn(square, epsilon=1e-5)
    assert nearly.transport_cost == pytest.approx(square[rows, columns].mean(), abs=1e-6)


def test_a_large_epsilon_forgets_the_costs():
    C, a, b = draw()
    np.testing.assert_allclose(sinkhorn(C, a, b, epsilon=1e9).plan, np.outer(a, b), rtol=1e-8)


@given(st.integers(0, 10_000))
def test_weak_duality_for_any_potentials(seed):
    rng = np.random.default_rng(seed)
    C, a, b = draw(6, 5, seed=seed)
    optimum = sinkhorn(C, a, b, epsilon=0.1, method="newton", tol=1e-12).value
    f, g = rng.normal(scale=rng.choice([0.01, 0.3, 2.0]), size=(2, 6))
    g = g[:5]
    plan = np.exp(log_plan(C, a, b, f, g, 0.1))
    dual = a @ f + b @ g - 0.1 * (plan.sum() - 1.0)
    assert dual <= optimum + 1e-12 * max(1.0, plan.sum())


@every_solver
def test_invariances(method):
    C, a, b = draw()
    options = {"method": method, "tol": 1e-11, "max_iter": 100_000}
    reference = sinkhorn(C, a, b, epsilon=0.02, **options)
    rng = np.random.default_rng(1)
    s, t = rng.normal(size=30), rng.normal(size=20)
    moved = sinkhorn(C + s[:, None] + t, a, b, epsilon=0.02, **options)
    np.testing.assert_allclose(moved.plan, reference.plan, atol=1e-10)
    difference = moved.potentials[0] - reference.potentials[0] - s
    np.testing.assert_allclose(difference, difference[0], atol=1e-9)
    for factor in (1e-12, 1e3, 1e12):
        scaled = sinkhorn(factor * C, a, b, epsilon=factor * 0.02, **options)
        np.testing.assert_allclose(scaled.plan, reference.plan, atol=1e-10)
        assert scaled.value == pytest.approx(factor * reference.value, rel=1e-9)
    swapped = sinkhorn(C.T, b, a, epsilon=0.02, **options)
    np.testing.assert_allclose(swapped.plan.T, reference.plan, atol=1e-10)
    rows, columns = rng.permutation(30), rng.permutation(20)
    shuffled = sinkhorn(C[np.ix_(rows, columns)], a[rows], b[columns], epsilon=0.02, **options)
    np.testing.assert_allclose(shuffled.plan, reference.plan[np.ix_(rows, columns)], atol=1e-10)


@every_solver
def test_offsets_that_would_swallow_the_costs(method):
    rng = np.random.default_rng(2)
    # Multiples of a power of two, so that adding the offsets rounds nothing.
    C = rng.integers(0, 1024, size=(30, 20)) / 1024
    s, t = 1e8 * rng.integers(0, 5, size=(30, 1)), 1e8 * rng.integers(0, 5, size=20)
    a, b = draw()[1:]
    plain = sinkhorn(C, a, b, epsilon=0.02, method=method)
    offset = sinkhorn(C + s + t, a, b, epsilon=0.02, method=method)
    np.testing.assert_allclose(offset.plan, plain.plan, atol=1e-9)
    huge = sinkhorn(1e6 * C + 1e8, a, b, epsilon=2e4, method=method)
    np.testing.assert_allclose(huge.plan, plain.plan, atol=1e-8)


def test_tiny_regularisations():
    rng = np.random.default_rng(3)
    X, Y = rng.normal(size=(60, 2)), rng.normal(size=(60, 2)) + 1.0
    C = cdist(X, Y, "sqeuclidean")
    C /= C.max()
    for eta in (1e3, 1e4, 1e5):
        result = sinkhorn(C, epsilon=1 / eta)
        assert_solves(result, C, np.full(60, 1 / 60), np.full(60, 1 / 60))
    additive = rng.normal(size=(30, 1)) + rng.normal(size=20)
    for method in SOLVERS:
        result = sinkhorn(additive, epsilon=1e-12, method=method)
        np.testing.assert_allclose(result.plan, 1 / 600, rtol=1e-2)


@every_solver
def test_weights_that_are_zero_or_nearly(method):
    C, a, b = draw()
    a[[0, 7]], b[3] = 0.0, 0.0
    a, b = a / a.sum(), b / b.sum()
    result = sinkhorn(C, a, b, epsilon=0.05, method=method)
    assert_solves(result, C, a, b)
    assert not result.plan[[0, 7]].any() and not result.plan[:, 3].any()
    f, g = result.potentials
    # What the rows and columns left out would have.
    tilted_f, tilted_g = plain_step(C, a, b, f, g, 0.05)
    np.testing.assert_allclose(f[[0, 7]], tilted_f[[0, 7]], atol=1e-12)
    np.testing.assert_allclose(g[3], tilted_g[3], atol=1e-12)
    few = sinkhorn(C[a > 0][:, b > 0], a[a > 0], b[b > 0], epsilon=0.05, method=method)
    np.testing.assert_allclose(result.plan[np.ix_(a > 0, b > 0)], few.plan, atol=1e-15)
    tiny = np.where(a > 0, a, 1e-300)
    near = sinkhorn(C, tiny, b, epsilon=0.05, method=method)
    assert_solves(near, C, tiny, b)
    np.testing.assert_allclose(near.plan, result.plan, atol=1e-9)


def plain_step(C, a, b, f, g, epsilon):
    with np.errstate(divide="ignore"):
        log_a, log_b = np.log(a), np.log(b)
    return (
        -epsilon * logsumexp((g - C) / epsilon + log_b, axis=1),
        -epsilon * logsumexp((f[:, None] - C) / epsilon + log_a[:, None], axis=0),
    )


def test_any_total_mass():
    C, a, b = draw()
    for mass in (1e-6, 3.0, 1e6):
        result = sinkhorn(C, mass * a, mass * b, epsilon=0.05)
        assert_solves(result, C, mass * a, mass * b)
    # Equal weights take the total of the other side.
    assert sinkhorn(C, 5 * a, epsilon=0.05).plan.sum() == pytest.approx(5.0)
    assert sinkhorn(C, b=7 * b, epsilon=0.05).plan.sum() == pytest.approx(7.0)


def test_forbidden_pairs():
    C, a, b = draw()
    forbidden = np.random.default_rng(4).uniform(size=C.shape) < 0.3
    C[forbidden] = np.inf
    for epsilon in (0.05, 1.0, 1e3):
        result = sinkhorn(C, a, b, epsilon=epsilon, max_iter=100_000)
        assert result.method == "log"
        assert not result.plan[forbidden].any()
        assert_solves(result, C, a, b)
    # The mean is that of the costs that are paid.
    weights = np.outer(a, b) * ~forbidden
    mean = np.sum(weights[~forbidden] * C[~forbidden]) / weights.sum()
    assert sinkhorn(C, a, b).epsilon == pytest.approx(0.05 * mean)
    # Two rows that may go to one column only, which cannot take them.
    narrow = np.array([[0.0, np.inf, np.inf], [0.0, np.inf, np.inf], [1.0, 1.0, 1.0]])
    with pytest.warns(ConvergenceWarning, match=r"error of the marginals is 0\.\d+, above"):
        impossible = sinkhorn(narrow, epsilon=0.1, max_iter=2000)
    assert not impossible.converged
    assert impossible.marginal_error > 0.5


def test_duplicated_and_constant_costs():
    C, a, b = draw(20, 15)
    for costs in (np.repeat(C, 2, axis=0)[:20], np.ones((20, 15)), np.zeros((20, 15))):
        for method in SOLVERS:
            assert_solves(sinkhorn(costs, a, b, epsilon=0.01, method=method), costs, a, b)
    assert sinkhorn(np.zeros((3, 4))).epsilon == 1.0
    ties = np.round(4 * C)
    assert_solves(sinkhorn(ties, a, b, epsilon=1e-3), ties, a, b)


# --- containers --------------------------------------------------------------------------


def test_containers(tmp_path):
    C, a, b = draw()
    reference = sinkhorn(C, a, b, epsilon=0.05)
    np.save(tmp_path / "costs.npy", C)
    mapped = np.load(tmp_path / "costs.npy", mmap_mode="r")
    wide = np.zeros((60, 40))
    wide[::2, ::2] = C
    for costs in (C.tolist(), pd.DataFrame(C), np.asfortranarray(C), mapped, wide[::2, ::2]):
        before = np.array(costs)
        result = sinkhorn(costs, a.tolist(), pd.Series(b), epsilon=0.05)
        np.testing.assert_array_equal(result.plan, reference.plan)
        np.testing.assert_array_equal(np.array(costs), before)
    whole = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(
        sinkhorn(whole, epsilon=2).plan, sinkhorn(whole.astype(float), epsilon=2).plan
    )


@every_solver
def test_single_precision_is_only_the_container(method):
    C, a, b = draw()
    C = C.astype(np.float32)
    single = sinkhorn(C, a, b, epsilon=0.05, method=method)
    double = sinkhorn(C.astype(float), a, b, epsilon=0.05, method=method)
    assert single.converged and single.marginal_error == double.marginal_error
    for first, second in zip((*single.potentials, single.plan), (*double.potentials, double.plan)):
        assert first.dtype == np.float32
        np.testing.assert_array_equal(first, second.astype(np.float32))


def test_a_kernel_in_single_precision_has_a_floor_which_the_last_sweeps_pass():
    C, a, b = draw(200, 150)
    problem = make_problem(C, a=a, b=b, reg_marginals=np.inf)
    marginals = Marginals(problem.a, problem.b, np.log(problem.a), np.log(problem.b))
    u, v = start(problem.costs, marginals)
    u, v, _ = kernel_sweeps(
        problem.costs, marginals, 0.01, u, v, tol=5e-9, progress=Progress(1000),
        storage_dtype=np.float32,
    )  # fmt: skip
    rows, columns, _ = problem.costs.marginals(100.0, u, v)
    error = np.abs(rows - problem.a).sum() + np.abs(columns - problem.b).sum()
    # Entries are rounded to 24 bits, and no row or column sum is further off than its entries.
    assert 1e-10 < error <= 5e-9 + 2 * 2.0**-24
    for tol in (1e-6, 1e-9, 1e-12):
        result = sinkhorn(C, a, b, epsilon=0.01, tol=tol, storage_dtype=np.float32)
        assert_solves(result, C, a, b, tol=tol)


@pytest.mark.parametrize("method", ["kernel", "log", "newton", "truncated"])
def test_threads_change_no_bit(method):
    rng = np.random.default_rng(5)
    X, Y = rng.normal(size=(1200, 3)), rng.normal(size=(1000, 3))
    assert len(make_problem(X=X, Y=Y, reg_marginals=np.inf).costs.blocks) > 2
    options = {"epsilon": 1.0, "method": method, "tol": 1e-6}
    for lazy in (True, False) if method != "kernel" else (False,):
        results = [sinkhorn_points(X, Y, lazy=lazy, n_jobs=k, **options) for k in (1, 2, 3)]
        for other in results[1:]:
            assert other.value == results[0].value
            for first, second in zip(other.potentials, results[0].potentials):
                np.testing.assert_array_equal(first, second)


# --- convergence -------------------------------------------------------------------------


@every_solver
@pytest.mark.parametrize("max_iter", [1, 2, 5])
def test_what_has_not_converged_says_so(method, max_iter):
    C, a, b = draw(60, 50)
    with pytest.warns(ConvergenceWarning, match=r"above the required 1e-09, after \d+ steps"):
        result = sinkhorn(C, a, b, epsilon=1e-3, method=method, max_iter=max_iter)
    assert not result.converged
    assert len(result.history) == max_iter
    f, g = result.potentials
    assert np.all(np.isfinite(f)) and np.all(np.isfinite(g))
    error = marginal_error(C, a, b, f, g, 1e-3)
    assert error > 1e-9
    assert result.marginal_error == pytest.approx(error, rel=1e-9)
    assert result.dual_value <= sinkhorn(C, a, b, epsilon=1e-3).value + 1e-12


@pytest.mark.parametrize("method", ["log", "kernel"])
def test_plain_sweeps_climb_the_dual_and_contract(method):
    C, a, b = draw(50, 40)
    duals, divergences = [], []
    best = sinkhorn(C, a, b, epsilon=0.02, tol=1e-13, method="newton").plan
    problem = make_problem(C, a=a, b=b, reg_marginals=np.inf)

    def listener(record, u, v, scalings):
        rows, columns = (1.0, 1.0) if scalings is None else scalings
        z = u + np.log(rows), v + np.log(columns)
        costs = problem.costs
        S = (C - costs.row_offset[:, None] - costs.column_offset) / 0.02
        plan = np.exp(z[0][:, None] + z[1] - S)
        duals.append(a @ z[0] + b @ z[1] - plan.sum())
        divergences.append(kl(best, plan))

    solve(problem, epsilon=0.02, method=method, relaxation=1.0, listener=listener)
    assert len(duals) > 10
    assert np.all(np.diff(duals) >= -1e-13)
    assert np.all(np.diff(divergences) <= 1e-13)


def test_relaxation_saves_sweeps_and_nothing_else():
    rng = np.random.default_rng(6)
    C = cdist(rng.normal(size=(80, 2)), rng.normal(size=(90, 2)) + 1.0, "sqeuclidean")
    saved = []
    for epsilon in (2.0, 0.5, 0.1):
        options = {"epsilon": epsilon, "method": "log", "max_iter": 200_000, "tol": 1e-10}
        plain = sinkhorn(C, relaxation=1.0, **options)
        relaxed = sinkhorn(C, relaxation="auto", **options)
        np.testing.assert_allclose(relaxed.plan, plain.plan, atol=1e-9)
        assert relaxed.n_iter <= plain.n_iter
        saved.append(plain.n_iter / relaxed.n_iter)
    assert saved[-1] > 2.0


def test_relaxation_that_goes_too_far_comes_back():
    """Duplicated columns and a tiny epsilon: errors outside of the linear theory."""
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(60, 2)), rng.normal(size=(60, 2))
    C = cdist(X, Y, "sqeuclidean")[:, np.r_[0:30, 0:30]]
    for method in ("truncated", "kernel", "log"):
        with pytest.warns(ConvergenceWarning):
            result = sinkhorn(C, epsilon=1e-4 * np.ptp(C), method=method, max_iter=700)
        assert np.all(np.isfinite(result.potentials[0])) and np.isfinite(result.value)
        assert result.marginal_error < 0.1


def test_a_warm_start_from_far_away_is_no_worse_than_none():
    rng = np.random.default_rng(1)
    C = cdist(rng.normal(size=(60, 2)), rng.normal(size=(60, 2)), "sqeuclidean")
    epsilon = 1e-6 * np.ptp(C)
    cold = sinkhorn(C, epsilon=epsilon)
    for g in (np.zeros(60), 100.0 * rng.normal(size=60)):
        warm = sinkhorn(C, epsilon=epsilon, init=(np.zeros(60), g))
        assert warm.converged
        assert len(warm.history) <= 2 * len(cold.history)
    far = sinkhorn_path(C, [1.0, epsilon])[1]
    assert far.converged and len(far.history) <= 2 * len(cold.history)


def test_a_nearly_decoupled_plan_is_left_to_newton():
    X = np.array([[0.0], [1.0], [2.0]])
    C = cdist(X, X + 5.0, "sqeuclidean")
    result = sinkhorn(C, epsilon=0.1)
    assert result.method == "kernel" and result.n_newton > 0
    assert_solves(result, C, np.full(3, 1 / 3), np.full(3, 1 / 3))


def test_newton_converges_faster_than_linearly():
    C, a, b = draw(100, 100)
    result = sinkhorn(C, a, b, epsilon=2e-3, method="newton", tol=1e-13)
    errors = [r.marginal_error for r in result.history if r.stage == "newton"][-4:]
    for before, after in itertools.pairwise(errors):
        assert after <= max(before**1.4, 1e-13)
    assert result.n_cg == sum(record.n_cg for record in result.history) > 0


def test_a_warm_start_saves_steps():
    C, a, b = draw(80, 70)
    near = sinkhorn(C, a, b, epsilon=0.011)
    for method in ("log", "newton"):
        cold = sinkhorn(C, a, b, epsilon=0.01, method=method)
        for init in (near, near.potentials):
            warm = sinkhorn(C, a, b, epsilon=0.01, method=method, init=init)
            assert_solves(warm, C, a, b)
            assert len(warm.history) < len(cold.history)
    again = sinkhorn(C, a, b, epsilon=0.011, init=near, method="log")
    assert len(again.history) <= 2


def test_a_path_is_the_single_problems_in_the_given_order():
    C, a, b = draw()
    epsilons = [0.05, 1.0, 0.01, 0.2]
    path = sinkhorn_path(C, epsilons, a, b, tol=1e-11)
    for epsilon, result in zip(epsilons, path):
        assert result.epsilon == epsilon
        single = sinkhorn(C, a, b, epsilon=epsilon, tol=1e-11)
        np.testing.assert_allclose(result.plan, single.plan, atol=1e-10)
    with pytest.raises(ValueError, match=r"epsilons must be .* got shape \(0,\)"):
        sinkhorn_path(C, [])


def test_proximal_steps_are_those_of_the_definition():
    C, a, b = draw()
    plan = sinkhorn(C, a, b, epsilon=0.1, tol=1e-13, method="newton").plan
    for k in range(1, 4):
        shifted = C - 0.1 * (np.log(plan) - np.log(np.outer(a, b)))
        plan = sinkhorn(shifted, a, b, epsilon=0.1, tol=1e-13, method="newton").plan
        result = sinkhorn(C, a, b, epsilon=0.1, proximal_steps=k, tol=1e-12, method="newton")
        assert result.epsilon == pytest.approx(0.1 / (k + 1))
        np.testing.assert_allclose(result.plan, plan, atol=1e-11)


def test_results_can_be_pickled_and_read():
    C, a, b = draw()
    a[2] = 0.0
    result = sinkhorn(C, a / a.sum(), b, epsilon=0.05)
    again = pickle.loads(pickle.dumps(result))
    np.testing.assert_array_equal(again.plan, result.plan)
    assert "30 x 20" in repr(result) and "converged=True" in repr(result)


def test_log_sweeps_repair_columns_that_underflow():
    """From potentials that send all mass to one column, others have sums of zero."""
    C, a, b = draw()
    problem = make_problem(C, a=a, b=b, reg_marginals=np.inf)
    marginals = Marginals(problem.a, problem.b, np.log(problem.a), np.log(problem.b))
    v = np.linspace(-3000.0, 3000.0, 20)
    u, v, error = log_sweeps(
        problem.costs, marginals, 0.05, marginals.log_a + 0.0, v, tol=1e-9, progress=Progress(500)
    )
    assert error <= 1e-9
    rows, columns, _ = problem.costs.marginals(20.0, u, v)
    assert np.abs(rows - a).sum() + np.abs(columns - b).sum() <= 2e-9


def test_no_warning_without_reason():
    C, a, b = draw()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for method in SOLVERS:
            sinkhorn(C, a, b, epsilon=0.02, method=method)
