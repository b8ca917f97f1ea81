"""The exact regressions behind the order search, and the search itself."""

import itertools

import cvxpy as cp
import numpy as np
import pytest

from sparsestat.dag import _kernels as kernels
from sparsestat.dag import _kernels_bic, _kernels_node, _order
from sparsestat.dag import _state as state
from sparsestat.dag._constraints import check_constraints
from sparsestat.datasets import make_sem

VARIANCES = pytest.mark.parametrize("variance", ["equal", "unequal"])


def simulate(n_nodes, n_samples=300, degree=1.5, seed=0, variance="equal"):
    noise = 1.0 if variance == "equal" else (0.5, 5.0)
    return make_sem(n_samples, n_nodes, degree=degree, noise_variance=noise, random_state=seed).data


def make_search(
    X, alpha, variance="equal", criterion="colide", columns=False, constraints=None, floor=None
):
    X = X - X.mean(axis=0)
    sd = X.std(axis=0)
    return _order.OrderSearch(
        X.T @ X / len(X),
        alpha=alpha,
        variance=variance,
        criterion=criterion,
        penalty=sd if columns else np.ones(len(sd)),
        floor=1e-3 * sd.min() if floor is None else floor,
        n_samples=len(X),
        constraints=constraints or check_constraints(None, None, None, len(sd)),
    )


def at_order(search, order):
    search.reset()
    search.set_order(np.asarray(order))
    search.settle()
    return search.objective()


def run(search, *, starts=None, seed=0, **options):
    d = search.n_nodes
    if starts is None:
        starts = [_order.top_down_order(search.problem.S, search.precedes)]
    options = {"window": d, **options}
    return _order.search_orders(search, starts, rng=np.random.RandomState(seed), **options)


def kkt_residual(search, alpha, variance):
    """Largest violation of optimality, relative to alpha s_j p_k, and error of the scales."""
    S, W, scales = search.problem.S, search.weights(), search.scales()
    position = np.argsort(search.order)
    gap = np.eye(len(S)) - W
    r = S @ gap
    q = np.maximum(np.einsum("ij,ij->j", gap, r), 0.0)
    closed = np.sqrt(np.full(len(S), q.mean()) if variance == "equal" else q)
    closed = np.maximum(closed, search.problem.params[state.FLOOR])
    limit = alpha * scales * search.problem.penalty[:, None]
    ratio = r / limit
    violation = np.where(W != 0, np.abs(ratio - np.sign(W)), np.abs(ratio) - 1.0)
    allowed = position[:, None] < position[None, :]
    assert np.all(W[~allowed] == 0)
    return violation[allowed].max(initial=0.0), np.max(np.abs(closed / scales - 1.0))


# --- the regressions at one order ---------------------------------------------------------


@VARIANCES
@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("n_nodes, n_samples", [(30, 500), (40, 25), (60, 1000)])
def test_every_node_is_optimal(variance, columns, n_nodes, n_samples):
    alpha = 0.1
    search = make_search(simulate(n_nodes, n_samples), alpha, variance, columns=columns)
    run(search, window=4, max_sweeps=2)
    violation, scale_error = kkt_residual(search, alpha, variance)
    assert violation < 1e-9
    assert scale_error < 1e-9
    assert search.n_failures == 0


@VARIANCES
@pytest.mark.parametrize("columns", [False, True])
def test_an_order_is_solved_as_well_as_by_a_conic_solver(variance, columns):
    X = simulate(6, 60, degree=2)
    X = X - X.mean(axis=0)
    n, d = X.shape
    alpha, order = 0.2, np.array([3, 0, 5, 1, 4, 2])
    search = make_search(X, alpha, variance, columns=columns)
    W = cp.Variable((d, d))
    mask = np.zeros((d, d))
    mask[np.triu_indices(d, 1)] = 1.0
    mask[np.ix_(order, order)] = mask.copy()
    R = (X - X @ W) / np.sqrt(n)
    penalty = alpha * cp.sum(cp.multiply(search.problem.penalty[:, None], cp.abs(W)))
    if variance == "equal":
        loss = np.sqrt(d) * cp.norm(R, "fro")
    else:
        loss = cp.sum(cp.norm(R, axis=0))
    problem = cp.Problem(cp.Minimize(loss + penalty), [cp.multiply(W, 1.0 - mask) == 0])
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10)
    assert at_order(search, order) == pytest.approx(problem.value, rel=1e-8)
    np.testing.assert_allclose(search.weights(), W.value, atol=1e-4)


@VARIANCES
def test_starting_point_does_not_matter(variance):
    search = make_search(simulate(25), 0.05, variance)
    order = np.random.default_rng(1).permutation(25)
    cold = at_order(search, order)
    weights = search.weights()
    for other in (order[::-1], np.roll(order, 7)):
        at_order(search, other)
        search.set_order(order)
        search.settle()
        assert search.objective() == pytest.approx(cold, rel=1e-11)
        np.testing.assert_allclose(search.weights(), weights, atol=1e-7)


@VARIANCES
def test_stronger_penalties_from_the_last_solution(variance):
    X = simulate(20)
    search = make_search(X, 1.0, variance)
    search.set_order(np.arange(20))
    for alpha in (0.5, 0.05, 0.005, 0.2):
        search.set_alpha(alpha)
        search.settle()
        fresh = make_search(X, alpha, variance)
        assert search.objective() == pytest.approx(at_order(fresh, np.arange(20)), rel=1e-11)


@VARIANCES
@pytest.mark.parametrize("alpha", [0.02, 0.3])
def test_columns_that_depend_on_each_other(variance, alpha):
    X = simulate(8, 200)
    X = np.column_stack([X, X[:, 2], X[:, 1] - 2 * X[:, 5], -X[:, 0], X[:, 3] + X[:, 4]])
    search = make_search(X, alpha, variance)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(X.shape[1])
        at_order(search, order)
        violation, scale_error = kkt_residual(search, alpha, variance)
        assert violation < 1e-6
        assert scale_error < 1e-6
    assert search.n_failures == 0


def test_a_dependent_column_takes_over_where_that_is_cheaper():
    # x2 = x0 + x1 exactly: one coefficient of 1 costs less than two.
    rng = np.random.default_rng(0)
    X = rng.standard_normal((500, 2))
    X = np.column_stack([X, X.sum(axis=1)])
    X = np.column_stack([X, 2 * X[:, 2] + rng.standard_normal(500)])
    search = make_search(X, 0.05, "unequal")
    at_order(search, [0, 1, 2, 3])
    # Through x0 and x1 first, from an earlier solution without x2.
    search.reset()
    search.fit.active[3, :2] = [0, 1]
    search.fit.rows[state.COEF, 3, :2] = 2.0
    search.fit.nodes[state.N_ACTIVE, 3] = 2
    search.settle()
    w = search.weights()[:, 3]
    assert w[2] > 1.8
    assert np.abs(w[:2]).sum() < 0.2
    assert kkt_residual(search, 0.05, "unequal")[0] < 1e-8


def test_the_floor_binds():
    X = simulate(5, 100)
    for variance in ("equal", "unequal"):
        search = make_search(X, 0.05, variance, floor=50.0)
        at_order(search, np.arange(5))
        np.testing.assert_array_equal(search.scales(), 50.0)
        violation, scale_error = kkt_residual(search, 0.05, variance)
        assert violation < 1e-9 and scale_error == 0


# --- the search -----------------------------------------------------------------------------


@VARIANCES
@pytest.mark.parametrize(
    "criterion, alpha", [("colide", 0.05), ("colide", 0.3), ("bic", 8.0)], ids=str
)
@pytest.mark.parametrize("n_nodes, n_samples", [(4, 200), (5, 200), (5, 4)])
def test_the_best_of_all_orders_is_found(variance, criterion, alpha, n_nodes, n_samples):
    for seed in range(3):
        X = simulate(n_nodes, n_samples, seed=seed, variance=variance)
        search = make_search(X, alpha, variance, criterion)
        best = min(at_order(search, o) for o in itertools.permutations(range(n_nodes)))
        result = run(search, n_restarts=100)
        assert result.objective <= best + 1e-8 * abs(best)
        assert result.converged


def test_no_insertion_improves_on_the_end_of_a_search():
    d = 12
    X = simulate(d, degree=3, variance="unequal")
    search = make_search(X, 0.05, "unequal")
    result = run(search)
    witness = make_search(X, 0.05, "unequal")
    for v, target in itertools.product(range(d), range(d)):
        order = [u for u in result.order if u != v]
        order.insert(target, v)
        assert at_order(witness, order) >= result.objective * (1.0 - 2 * _order.MOVE_TOL)


@VARIANCES
@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("n_samples", [300, 10])
def test_bounds_hold(variance, columns, n_samples):
    d = 12
    X = simulate(d, n_samples, degree=3, variance=variance)
    search = make_search(X, 0.05, variance, columns=columns)
    tight = 0
    for seed in range(5):
        at_order(search, np.random.default_rng(seed).permutation(d))
        arguments = search._scale if variance == "equal" else 0.0, search.problem, search.fit
        position = np.argsort(search.order)
        for u, v in itertools.permutations(range(d), 2):
            if position[u] < position[v]:
                bound = kernels._gain_of_joining(u, v, *arguments)
                gain = -kernels._change_of(u, v, True, *arguments, search.work)
                assert gain <= bound + 1e-9
                tight += gain > 0 and bound < 2 * gain
        for v in range(d):
            p = position[v]
            best = search.fit.numbers[v, state.COST]
            _kernels_node.lasso_node(v, v, d, -1, -1, arguments[0], *arguments[1:], search.work)
            gain = best - search.work.vectors[state.OUT, state.COST]
            assert gain <= kernels._possible_gain(v, p, d - 1, *arguments, search.work) + 1e-9
    assert tight > 5


@VARIANCES
def test_bounds_and_kept_factors_save_work_but_change_nothing(variance):
    X = simulate(20, degree=3, variance=variance)
    with_bounds = make_search(X, 0.05, variance)
    result = run(with_bounds)
    without = make_search(X, 0.05, variance)
    without.problem.precision[:] = np.inf
    without.fit = without.fit._replace(factors=np.zeros((22, 0)))
    witness = run(without)
    np.testing.assert_allclose(result.weights, witness.weights, atol=1e-9)
    np.testing.assert_allclose(result.path, witness.path, rtol=1e-12)
    assert with_bounds.fit.counts[0] < without.fit.counts[0]


def test_several_starts_race_for_one_sweep():
    X = simulate(15, degree=3, variance="unequal")
    search = make_search(X, 0.05, "unequal")
    starts = [np.random.default_rng(seed).permutation(15) for seed in range(3)]
    after_one = [run(search, starts=[start], max_sweeps=1) for start in starts]
    seen = []
    result = run(search, starts=starts, report=lambda now: seen.append(search.objective()))
    # Start and sweep of each, then on from the best of the three.
    best = min(seen[1], seen[3], seen[5])
    assert min(one.objective for one in after_one[:1]) == seen[1]
    assert np.all(np.array(seen[6:]) <= best)
    assert result.objective == pytest.approx(min(seen), rel=2 * _order.TIE)


def test_a_window_limits_the_reach_of_one_move():
    # Increasing variances along a chain, begun from its reverse: one step is not enough.
    X = simulate(15, degree=3)
    for window in (1, 3):
        search = make_search(X, 0.05)
        start = _order.top_down_order(search.problem.S, search.precedes)[::-1].copy()
        search.set_order(start)
        search.settle()
        seen = np.full(15, -1, dtype=np.int64)
        before = np.argsort(search.order)
        v = int(start[0])
        kernels.sweep(
            np.array([v]), 0, window, 10**6, 0.0, search._scale, search.problem, search.fit,
            search.work, seen,
        )  # fmt: skip
        after = np.argsort(search.order)
        assert abs(after[v] - before[v]) <= window


@VARIANCES
@pytest.mark.parametrize("criterion", ["colide", "bic"])
def test_the_objective_never_rises(variance, criterion):
    reports = []
    X = simulate(25, degree=3, variance=variance)
    search = make_search(X, 0.05 if criterion == "colide" else 5.0, variance, criterion)
    starts = [np.arange(25), _order.variance_order(search.problem.S, search.precedes)]
    result = run(
        search,
        starts=starts,
        n_restarts=2,
        report=lambda now: reports.append(now.objective),
    )
    assert len(result.path) == len(reports) > 4
    assert np.all(np.diff(result.path) <= 0)
    assert result.path[-1] == result.objective
    assert result.n_sweeps == len(result.path) - 4
    if criterion == "colide":
        # Parents by the information criterion depend on where growing and shrinking began.
        assert at_order(search, result.order) == pytest.approx(result.objective, rel=1e-9)


def test_a_watcher_may_stop_the_search():
    search = make_search(simulate(25, degree=3), 0.05)
    result = run(search, starts=[np.arange(25)], report=lambda now: now.n_sweeps >= 1)
    assert result.n_sweeps == 1
    assert not result.converged


def test_budgets_do_not_change_the_result(monkeypatch):
    X = simulate(30, degree=3)
    whole = run(make_search(X, 0.05))
    monkeypatch.setattr(_order, "_BUDGET", 1)
    pieces = run(make_search(X, 0.05))
    np.testing.assert_array_equal(whole.weights, pieces.weights)
    assert whole.path == pieces.path


def test_restarts_keep_the_best():
    for seed in range(3):
        X = simulate(12, 100, degree=3, seed=seed, variance="unequal")
        single = run(make_search(X, 0.1, "unequal"))
        several = run(make_search(X, 0.1, "unequal"), n_restarts=5)
        assert several.objective <= single.objective


@VARIANCES
@pytest.mark.parametrize("criterion", ["colide", "bic"])
def test_constraints_hold(variance, criterion):
    X = simulate(8, 200, degree=2, seed=3)
    rng = np.random.default_rng(0)
    tiers = [1, 0, 2, 1, 0, 2, 1, 0]
    constraints = check_constraints([(1, 0), (4, 3)], [(4, 6), (0, 2)], tiers, 8)
    alpha = 0.2 if criterion == "colide" else 30.0
    search = make_search(X, alpha, variance, criterion, constraints=constraints)
    starts = [_order.respect(rng.permutation(8), search.precedes) for _ in range(3)]
    result = run(search, starts=starts, n_restarts=3)
    position = np.argsort(result.order)
    before, after = np.nonzero(constraints.precedes)
    assert np.all(position[before] < position[after])
    assert np.all(result.weights[constraints.forbidden] == 0)
    assert np.all(result.weights[constraints.required] != 0)
    if criterion == "colide" and variance == "unequal":
        # Required parents are not penalised, so the residual is orthogonal to them.
        r = search.problem.S @ (np.eye(8) - result.weights)
        assert np.all(np.abs(r[constraints.required]) < 1e-10)


def test_top_down_order_by_plain_conditional_variances():
    X = simulate(10, 300, degree=3)
    S = np.cov(X.T, bias=True)
    order, left = [], list(range(10))
    while left:

        def variance(j):
            if not order:
                return S[j, j]
            b = np.linalg.solve(S[np.ix_(order, order)], S[order, j])
            return S[j, j] - S[order, j] @ b

        order.append(min(left, key=variance))
        left.remove(order[-1])
    np.testing.assert_array_equal(_order.top_down_order(S, np.zeros((10, 10), dtype=bool)), order)


def test_top_down_order_of_fewer_rows_than_columns():
    X = simulate(30, 12)
    S = np.cov(X.T, bias=True)
    order = _order.top_down_order(S, np.zeros((30, 30), dtype=bool))
    np.testing.assert_array_equal(np.sort(order), np.arange(30))
    # Eleven directions are all there are; the rest comes by variance.
    assert np.all(np.diff(S.diagonal()[order[11:]]) >= 0)


def test_top_down_order_with_precedence_and_duplicates():
    X = simulate(6, 200)
    X = np.column_stack([X, X[:, 0]])
    S = np.cov(X.T, bias=True)
    precedes = np.zeros((7, 7), dtype=bool)
    precedes[5, 0] = True
    order = list(_order.top_down_order(S, precedes))
    assert sorted(order) == list(range(7))
    assert order.index(5) < order.index(0)


# --- the information criterion --------------------------------------------------------------


@VARIANCES
def test_parents_cannot_be_improved_one_by_one(variance):
    n, strength = 400, 4.0
    X = simulate(9, n, degree=3, variance=variance)
    search = make_search(X, strength, variance, "bic")
    order = np.arange(9)
    at_order(search, order)
    S, W = search.problem.S, search.weights()
    shared = search._scale

    def cost(j, parents):
        parents = list(parents)
        q = S[j, j]
        if parents:
            b = np.linalg.solve(S[np.ix_(parents, parents)], S[parents, j])
            q -= S[parents, j] @ b
        fit = n * q / (2 * shared**2) if variance == "equal" else n / 2 * np.log(q)
        return fit + strength * len(parents)

    for j in range(9):
        parents = set(np.flatnonzero(W[:, j]))
        now = cost(j, parents)
        assert search.fit.numbers[j, state.COST] == pytest.approx(now, rel=1e-10)
        for k in range(j):
            assert cost(j, parents ^ {k}) >= now - 1e-8
    np.testing.assert_allclose(
        W[:8, 8][W[:8, 8] != 0],
        np.linalg.lstsq(*_design(X, np.flatnonzero(W[:, 8]), 8), rcond=None)[0],
        rtol=1e-8,
    )


def _design(X, parents, child):
    X = X - X.mean(axis=0)
    return X[:, parents], X[:, child]


def test_kernel_of_the_criterion_is_the_one_the_search_calls():
    search = make_search(simulate(4), 4.0, "unequal", "bic")
    at_order(search, np.arange(4))
    a = _kernels_bic.bic_node(3, 3, 3, -1, -1, 0.0, search.problem, search.fit, search.work)
    assert a == np.count_nonzero(search.weights()[:, 3])


# --- memory ---------------------------------------------------------------------------------


@VARIANCES
@pytest.mark.parametrize("criterion", ["colide", "bic"])
def test_a_sweep_allocates_nothing(variance, criterion, count_allocations):
    search = make_search(simulate(12), 0.05 if criterion == "colide" else 5.0, variance, criterion)
    search.set_order(np.arange(12))
    seen = np.full(12, -1, dtype=np.int64)
    visits = np.arange(12)
    shared = search._scale if variance == "equal" else 0.0

    def work():
        kernels.fit_order(0, 12, shared, search.problem, search.fit, search.work)
        seen[:] = -1
        kernels.sweep(
            visits, 0, 12, 10**6, 0.0, shared, search.problem, search.fit, search.work, seen
        )

    # numba wraps each array argument in a block of its own, here inside named tuples.
    n_arrays = len(search.problem) + len(search.fit) + len(search.work)
    assert count_allocations(work) == 2 * n_arrays + len([visits, seen])
