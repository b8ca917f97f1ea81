"""Block descent: every rule and update, its small problems, and what it promises about costs."""

import itertools

import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.optimize import minimize, nnls

from sparsestat.solvers import (
    _block_descent,
    _kernels_block_columns,
    _kernels_block_rules,
    _kernels_block_steps,
    _kernels_blocks,
)
from sparsestat.solvers._block_arrays import BOUND, CLOCK, KEPT, LARGEST, ONE_SIDED, ORDER, Record
from sparsestat.solvers._block_descent import BlockDescent
from sparsestat.solvers._partitions import (
    COMPOSITE_UPDATES,
    FIXED,
    PARTITIONS,
    RULES,
    SMOOTH_UPDATES,
    VARIABLE_RULES,
    check_combination,
    make_partition,
)

GREEDY = ("gs", "gsl", "gsd", "gsq")
CHOICES = [
    (partition, rule)
    for partition in PARTITIONS
    for rule in (VARIABLE_RULES if partition == "variable" else RULES)
]
every_choice = pytest.mark.parametrize(("partition", "rule"), CHOICES)


def draw(n=30, d=20, seed=0, is_sparse=False, loss="squared"):
    rng = np.random.default_rng(seed)
    X = (rng.standard_normal((n, d)) + 0.5) * rng.uniform(0.2, 3.0, d)
    if is_sparse:
        X[rng.random((n, d)) < 0.6] = 0.0
    y = X[:, :4] @ rng.normal(size=4) + rng.standard_normal(n)
    if loss == "logistic":
        y = (y > np.median(y)).astype(float)
    return X, y


def build(X, y, *, lam=0.0, positive=False, loss="squared", centre=False, **options):
    """A solver; a dense design is centred on request, and a sparse one implicitly."""
    n, d = X.shape
    thresholds = np.broadcast_to(np.asarray(lam, dtype=float), d).copy()
    signs = np.broadcast_to(positive, d).copy()
    options.setdefault("rng", np.random.default_rng(0))
    if loss == "logistic":
        options |= {"weights": options.get("weights", np.ones(n)), "fit_intercept": centre}
    elif centre:
        y = y - y.mean()
        if sparse.issparse(X):
            options |= {"offsets": np.asarray(X.mean(axis=0)).ravel(), "roots": np.ones(n)}
        else:
            X = X - X.mean(axis=0)
    X = sparse.csc_array(X) if sparse.issparse(X) else np.asfortranarray(X)
    return BlockDescent(X, y, thresholds, signs, **options)


def settings_of(loss):
    """Penalties and the updates that suit them."""
    lam = 3.0 if loss == "squared" else 0.7
    for update in SMOOTH_UPDATES:
        yield {"lam": 0.0, "update": update}
    for update, positive in itertools.product(COMPOSITE_UPDATES, (False, True)):
        yield {"lam": lam, "update": update, "positive": positive}
    yield {"lam": lam * np.r_[0.0, 0.5, np.ones(18)], "update": "tmp", "positive": False}
    yield {"lam": 0.0, "update": "tmp", "positive": np.arange(20) % 2 == 0}


@every_choice
@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize("is_sparse", [False, True])
def test_the_objective_never_rises_and_the_gradient_is_kept(partition, rule, loss, is_sparse):
    X, y = draw(loss=loss, is_sparse=is_sparse)
    data = sparse.csc_array(X) if is_sparse else X
    for options in settings_of(loss):
        solver = build(
            data, y, loss=loss, centre=True, partition=partition, rule=rule, block_size=3,
            record=True, **options,
        )  # fmt: skip
        start = solver.objective()
        solver.run(120)
        objectives = np.r_[start, solver.record()[0]]
        # Rounding of a sum of 30 squares or logarithms.
        assert np.diff(objectives).max() <= 1e-13 * start, options
        assert objectives[-1] < start
        exact = solver.exact_gradient()
        residual = solver.residual.copy()
        scale = np.abs(solver.gradient).max() if solver.is_greedy else np.abs(exact).max()
        first = np.abs(data.T @ y).max()
        if solver.is_greedy:
            assert_allclose(solver.gradient, exact, atol=1e-10 * max(scale, 1e-3 * first))
        x = solver.x.copy()
        assert objectives[-1] == pytest.approx(objective_of(solver, X, y, x, loss), rel=1e-11)
        assert residual.shape == y.shape
        solver.refresh()
        if loss == "squared":
            assert_allclose(solver.gradient, exact, atol=1e-10 * first)
        assert_array_equal(solver.x, x)


def objective_of(solver, X, y, x, loss):
    penalty = solver.thresholds @ np.abs(x)
    if loss == "squared":
        residual = (y - y.mean()) - (X - X.mean(axis=0)) @ x
        return 0.5 * residual @ residual + penalty
    eta = X @ x + solver.intercept
    return np.sum(np.logaddexp(0.0, eta) - y * eta) + penalty


# --- rules against enumeration -----------------------------------------------------------


def scores_by_hand(solver, rule, blocks):
    """What each block promises, from the definitions, by a numerical minimiser where needed."""
    x, g = solver.x, solver.gradient
    t, positive = solver.thresholds, solver.state.coords[ONE_SIDED] > 0
    H = solver._X.T @ (solver.state.rows[BOUND][:, None] * solver._X)
    found = []
    for block in blocks:
        total = 0.0
        local = H[np.ix_(block, block)]
        if rule == "gsq" and solver.is_smooth and solver._fixed:
            found.append(0.5 * g[block] @ np.linalg.pinv(local) @ g[block])
            continue
        for j in block:
            if rule == "gs":
                low = g[j] + (t[j] if x[j] > 0 else -t[j])
                high = g[j] - (t[j] if x[j] < 0 else -t[j])
                if positive[j] and x[j] == 0:
                    low = -np.inf
                total += (0.0 if low <= 0 <= high else min(abs(low), abs(high))) ** 2
                continue
            curvature = {
                "gsl": np.linalg.eigvalsh(local)[-1],
                "gsd": solver._size * H[j, j],
                "gsq": H[j, j],
            }[rule]

            def model(e, j=j, curvature=curvature):
                return g[j] * e + 0.5 * curvature * e**2 + t[j] * abs(x[j] + e)

            # A convex function of one variable: its minimum is at a kink or a stationary point.
            ends = [-(g[j] + t[j]) / curvature, -(g[j] - t[j]) / curvature, -x[j], 0.0]
            ends = [e for e in ends if not positive[j] or x[j] + e >= 0]
            total += model(0.0) - min(model(e) for e in ends)
        found.append(total)
    return np.array(found)


@pytest.mark.parametrize("partition", PARTITIONS)
@pytest.mark.parametrize("rule", GREEDY)
@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_the_best_block_is_chosen(partition, rule, loss):
    if partition == "variable" and rule == "gsl":
        return
    X, y = draw(20, 8, 3, loss=loss)
    lam = 2.0 if loss == "squared" else 0.5
    for options in (
        {"update": "hb"},
        {"lam": lam, "update": "pg"},
        {"lam": lam, "update": "tmp", "positive": np.arange(8) < 4},
    ):
        solver = build(
            X, y, loss=loss, partition=partition, rule=rule, block_size=3, record=True, **options
        )
        if partition == "variable":
            blocks = [list(block) for block in itertools.combinations(range(8), 3)]
        else:
            order, starts = solver.work.places[ORDER], solver.work.starts
            blocks = [list(order[a:b]) for a, b in itertools.pairwise(starts)]
        for step in range(6):
            solver.refresh()
            scores = scores_by_hand(solver, rule, blocks)
            solver.run(1)
            chosen = sorted(j for j in solver.record()[2][step] if j >= 0)
            position = [sorted(block) for block in blocks if set(chosen) <= set(block)]
            reached = max(scores[k] for k, block in enumerate(blocks) if sorted(block) in position)
            assert reached >= scores.max() * (1.0 - 1e-8)


def test_rules_without_scores():
    X, y = draw(40, 12)
    options = {"partition": "order", "block_size": 4, "update": "lb", "record": True}
    first = {rule: build(X, y, rule=rule, **options) for rule in ("cyclic", "perm", "random")}
    chosen = {}
    for rule, solver in first.items():
        solver.run(300)
        chosen[rule] = solver.record()[2][:, 0] // 4
    assert_array_equal(chosen["cyclic"], np.arange(300) % 3)
    turns = np.sort(chosen["perm"].reshape(100, 3), axis=1)
    assert_array_equal(turns, np.tile([0, 1, 2], (100, 1)))
    assert len(np.unique(chosen["perm"].reshape(100, 3), axis=0)) == 6
    # 300 draws of a third each: five standard deviations are 41.
    assert np.abs(np.bincount(chosen["random"]) - 100).max() < 41
    solver = build(X, y, rule="lipschitz", **options)
    solver.run(3000)
    share = solver.work.blocks[LARGEST] / solver.work.blocks[LARGEST].sum()
    counts = np.bincount(solver.record()[2][:, 0] // 4, minlength=3)
    assert np.all(np.abs(counts - 3000 * share) < 5 * np.sqrt(3000 * share * (1 - share)))
    solver = build(X, y, rule="random", partition="variable", update="lb", block_size=4,
                   record=True)  # fmt: skip
    solver.run(900)
    blocks = solver.record()[2]
    assert all(len(set(block)) == 4 for block in blocks)
    # Each coordinate is in a third of the blocks: five standard deviations are 71.
    assert np.abs(np.bincount(blocks.ravel()) - 300).max() < 71


# --- finite termination ------------------------------------------------------------------


def violation(solver):
    """Largest violation of the conditions of optimality, in units of the threshold."""
    solver.refresh()
    x, t = solver.x, solver.thresholds
    slope = solver.gradient + t
    assert np.all(x >= 0)
    return np.max(np.where(x > 0, np.abs(slope), np.maximum(-slope, 0.0)) / t)


@pytest.mark.parametrize("rule", ["gs", "gsd", "gsq"])
def test_blocks_as_large_as_the_support_end_after_finitely_many_steps(rule):
    X, y = draw(60, 300, 1)
    X *= np.exp(np.random.default_rng(5).normal(size=300))
    lam = 0.02 * np.abs(X.T @ y).max()
    ends = {}
    for update in COMPOSITE_UPDATES:
        solver = build(X, y, lam=lam, positive=True, rule=rule, update=update, block_size=100)
        ends[update] = next(
            (k for k in range(150) if solver.run(1) == 0 or violation(solver) <= 1e-10), None
        )
        if update != "pg":
            assert 0 < np.count_nonzero(solver.x) <= 100
            assert violation(solver) <= 1e-10
    assert ends["tmp"] is not None
    assert ends["pn"] is not None
    assert ends["pg"] is None


def test_a_block_of_everything_needs_one_step():
    X, y = draw(40, 12)
    for lam, update in ((0.0, "hb"), (4.0, "pn")):
        solver = build(X, y, lam=lam, update=update, block_size=12)
        solver.run(1)
        assert solver.gap() <= 1e-9 * solver.null
    solver = build(X, y, update="hb", block_size=12)
    solver.run(1)
    assert_allclose(solver.x, np.linalg.lstsq(X, y)[0], rtol=1e-9)


# --- difficult designs -------------------------------------------------------------------


@every_choice
def test_duplicated_dependent_and_zero_columns(partition, rule):
    X, y = draw(15, 10)
    X = np.column_stack([X, X[:, :5], X[:, :4] @ np.ones(4), np.zeros((15, 2)), -2.0 * X[:, :2]])
    for data in (X, sparse.csc_array(X)):
        for options in (
            {"update": "hb"},
            {"update": "lb"},
            {"update": "tmp", "lam": 1.0},
            {"update": "pn", "lam": 1.0},
            {"update": "tmp", "positive": True},
        ):
            solver = build(data, y, partition=partition, rule=rule, block_size=6, **options)
            gap, _ = solver.solve(1e-7 * solver.null, 10000)
            if np.any(solver.thresholds):
                assert gap <= 1e-7 * solver.null
            elif solver.is_smooth:
                # Without prices the gap is a loose bound.
                left = y - X @ np.linalg.lstsq(X, y)[0]
                excess = solver.objective() - 0.5 * left @ left
                assert -1e-12 * solver.null <= excess <= min(gap, 1e-2 * solver.null)
            else:
                excess = solver.objective() - 0.5 * nnls(X, y)[1] ** 2
                assert -1e-12 * solver.null <= excess <= min(gap, 1e-2 * solver.null)
            assert np.all(np.isfinite(solver.x))
            assert np.all(solver.x[16:18] == 0.0)


@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize("positive", [False, True])
def test_columns_are_exchanged_for_cheaper_ones_that_explain_the_same(loss, positive):
    """Newton's direction alone never would: the Hessian is singular along the exchange."""
    X, y = draw(40, 4, loss=loss)
    X = X - X.mean(axis=0)
    # The last column is the sum of the first two doubled, and a third one shrunk, for less.
    X = np.column_stack([X, 2.0 * (X[:, 0] + X[:, 1]) + 0.5 * X[:, 2]])
    y = y if loss == "logistic" else X[:, 4] + 0.1 * y
    start = np.array([2.0, 2.0, 0.5, 0.0, 1e-3])
    solver = build(
        X, y, loss=loss, lam=0.5, positive=positive, partition="order", rule="cyclic",
        block_size=5, update="tmp", coef=start,
    )  # fmt: skip
    reference = build(X, y, loss=loss, lam=0.5, positive=positive, update="pg", rule="gsq",
                      block_size=5)  # fmt: skip
    reference.solve(1e-12 * reference.null, 100_000)
    gap, _ = solver.solve(1e-10 * solver.null, 40)
    assert gap <= 1e-10 * solver.null
    assert solver.objective() == pytest.approx(reference.objective(), rel=1e-8)
    used = solver.x != 0.0
    assert np.linalg.matrix_rank(X[:, used]) == used.sum() < 5


def test_separable_classes():
    X, _ = draw(30, 5)
    y = (X[:, 0] > 0.1).astype(float)
    for update in COMPOSITE_UPDATES:
        solver = build(X, y, loss="logistic", centre=True, lam=0.01, update=update, block_size=3)
        before = solver.objective()
        solver.run(50)
        assert solver.objective() < before
        assert np.all(np.isfinite(solver.x))


def test_a_start_is_made_feasible():
    X, y = draw(30, 6)
    X[:, 2] = 0.0
    solver = build(X, y, lam=1.0, positive=np.arange(6) < 2, coef=np.full(6, -1.0))
    assert_array_equal(solver.x, [0.0, 0.0, 0.0, -1.0, -1.0, -1.0])
    solver = build(X, y, lam=1.0, coef=np.full(6, 1e200))
    assert not solver.x.any()


# --- what is kept, and what it costs -----------------------------------------------------


@pytest.mark.parametrize("is_sparse", [False, True])
@pytest.mark.parametrize("n_bytes", [0, 8 * 20 * 5])
def test_rows_of_the_gram_matrix_change_nothing(is_sparse, n_bytes, monkeypatch):
    X, y = draw(is_sparse=is_sparse)
    data = sparse.csc_array(X) if is_sparse else X
    options = {"lam": 2.0, "centre": True, "block_size": 4, "record": True}
    with_all = build(data, y, **options)
    monkeypatch.setattr(_block_descent, "_GRAM_BYTES", n_bytes)
    with_few = build(data, y, **options)
    for solver in (with_all, with_few):
        solver.run(40)
    assert with_all.state.counts[KEPT] > with_few.state.counts[KEPT] == max(1, n_bytes // 160)
    assert_allclose(with_few.x, with_all.x, atol=1e-9)
    assert_allclose(with_few.gradient, with_few.exact_gradient(), atol=1e-9)


def test_how_long_a_loop_runs_changes_nothing(monkeypatch):
    X, y = draw()
    options = {"lam": 2.0, "rule": "random", "block_size": 4}
    found = []
    for seconds in (1e-9, 1.0):
        monkeypatch.setattr(_block_descent, "_SECONDS", seconds)
        solver = build(X, y, **options)
        solver.run(50)
        found.append(solver.x)
    assert_array_equal(*found)


@pytest.mark.parametrize("rule", ["random", "gsq"])
def test_an_iteration_touches_what_it_has_to(rule):
    """Multiplications of an iteration grow with the block, not with all columns and rows."""
    rng = np.random.default_rng(0)
    works = []
    for d in (2000, 8000):
        X = sparse.random_array((d, d), density=8 / d, rng=rng, format="csc")
        solver = build(X, rng.normal(size=d), lam=1e-3, rule=rule, block_size=5)
        before = solver.work_done
        solver.run(100)
        works.append((solver.work_done - before) / 100)
    if rule == "random":
        # Five columns of 8 entries, their inner products, a few more.
        assert max(works) < 1000
    else:
        # Scores of all coordinates, and 40 rows of 8 entries.
        assert works[0] < 4 * 2000 + 2000
        assert works[1] < 4 * 8000 + 2000


def loops():
    """Names of all compiled functions."""
    return [
        name
        for module in (
            _kernels_blocks,
            _kernels_block_columns,
            _kernels_block_rules,
            _kernels_block_steps,
        )
        for name, value in vars(module).items()
        if isinstance(value, Dispatcher) and value.__module__ == module.__name__
    ]


@every_choice
@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_loops_allocate_nothing(partition, rule, loss):
    from numba.core.runtime import _nrt_python, rtsys

    _nrt_python.memsys_enable_stats()
    for is_sparse, options in itertools.product((False, True), settings_of(loss)):
        X, y = draw(is_sparse=is_sparse, loss=loss)
        solver = build(
            sparse.csc_array(X) if is_sparse else X, y, loss=loss, centre=True,
            partition=partition, rule=rule, block_size=3, **options,
        )  # fmt: skip
        counts = []
        for n_iter in (2, 30):
            n_draws = 0 if solver.is_greedy else 1 if solver._fixed else 3
            record = Record(np.empty((n_iter, 2)), np.empty((n_iter, 4), dtype=np.int64))
            uniforms = solver._rng.random((n_iter, n_draws))
            before = rtsys.get_allocation_stats().alloc
            _kernels_blocks.descend(solver.columns, solver.state, solver.work, uniforms, 3, record)
            counts.append(rtsys.get_allocation_stats().alloc - before)
        # What wraps the arguments is the same however many iterations follow.
        assert counts[0] == counts[1]
    assert solver.state.counts[CLOCK] > 0
    assert {"descend", "choose", "two_metric_point"} <= set(loops())


# --- small problems ----------------------------------------------------------------------


@pytest.mark.parametrize("m", [1, 2, 3, 5, 20])
@pytest.mark.parametrize("rank", [1, 2, 20])
def test_largest_eigenvalue_and_factors(m, rank):
    rng = np.random.default_rng(m + 100 * rank)
    B = rng.normal(size=(rank, m)) * np.exp(rng.normal(size=m))
    H, vectors, L = B.T @ B, np.empty((8, m)), np.empty((m, m))
    exact = np.linalg.eigvalsh(H)[-1]
    found = _kernels_block_steps.largest_eigenvalue(H, m, L, vectors)
    assert exact * (1 - 1e-14) <= found <= exact * (1 + 1e-11)
    members = np.empty(m, dtype=np.int64)
    _kernels_block_steps.list_all(members, m)
    L[:] = np.nan
    _kernels_block_steps.factorise(H, members, m, L)
    right = H @ rng.normal(size=m)
    out = np.empty(m)
    _kernels_block_steps.solve(L, right, m, out)
    # Some solution of a system that has one.
    assert_allclose(H @ out, right, atol=1e-6 * np.abs(right).max())
    assert np.count_nonzero(out) <= min(m, rank)


@pytest.mark.parametrize("rank", [3, 12])
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_prox_newton_minimises_the_model(rank, positive, seed):
    m = 8
    rng = np.random.default_rng(seed)
    B = rng.normal(size=(rank, m)) + rng.normal(size=(rank, 1))
    H, g, t = B.T @ B, B.T @ rng.normal(size=rank) * 3, rng.uniform(0.1, 2.0, m)
    x = np.where(rng.random(m) < 0.5, 0.0, rng.uniform(0.0, 2.0, m))
    vectors = np.empty((8, m))
    vectors[1:5] = t, np.full(m, float(positive)), x, g
    pair = np.stack([H, np.empty((m, m))])
    _kernels_block_steps.prox_newton(pair, m, vectors, np.empty((3, m), dtype=np.int64))
    new = vectors[5]
    slope = g + H @ (new - x)
    held = new == 0
    assert_allclose(slope[~held], -(t * np.sign(new))[~held], atol=1e-9)
    assert np.all((slope if not positive else np.minimum(slope, 0))[held] >= -t[held] - 1e-9)
    assert np.all(slope[held] <= t[held] + 1e-9) or positive
    # The split into two nonnegative parts is smooth, and scipy's bounded minimiser agrees.
    parts = [1.0] if positive else [1.0, -1.0]

    def model(z):
        e = sum(s * part for s, part in zip(parts, z.reshape(len(parts), m), strict=True)) - x
        gradient = g + H @ e
        value = g @ e + 0.5 * e @ H @ e + sum(t @ part for part in z.reshape(len(parts), m))
        return value, np.concatenate([s * gradient + t for s in parts])

    peer = minimize(
        model, np.zeros(m * len(parts)), jac=True, bounds=[(0, None)] * (m * len(parts)),
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 5000},
    )  # fmt: skip
    e = new - x
    assert g @ e + 0.5 * e @ H @ e + t @ np.abs(new) <= peer.fun + 1e-9 * (1 + abs(peer.fun))


# --- partitions --------------------------------------------------------------------------


def test_partitions():
    curvatures = np.array([5.0, 1.0, 4.0, 2.0, 3.0])
    assert_array_equal(make_partition("order", curvatures, 2)[0], np.arange(5))
    order, starts = make_partition("sort", curvatures, 2)
    assert_array_equal(order, [1, 3, 4, 2, 0])
    assert_array_equal(starts, [0, 2, 4, 5])
    assert_array_equal(make_partition("average", curvatures, 2)[0], [1, 0, 3, 2, 4])
    for partition, size in itertools.product(FIXED, (1, 5)):
        order, starts = make_partition(partition, curvatures, size)
        assert_array_equal(np.sort(order), np.arange(5))
        assert starts.size == 5 // size + 1


@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize("is_sparse", [False, True])
def test_partitions_by_sums_of_rows(loss, is_sparse):
    X, y = draw(30, 520, seed=4, is_sparse=is_sparse, loss=loss)
    data = sparse.csc_array(X) if is_sparse else X
    options = {"loss": loss, "centre": True, "rule": "cyclic", "block_size": 40}
    options |= {"lam": 1.0, "update": "pg"}
    solver = build(data, y, partition="sort_rows", **options)
    full = solver._X.toarray() if is_sparse else solver._X
    H = full.T @ (solver.state.rows[BOUND][:, None] * full)
    if is_sparse and loss == "squared":
        H = (X - X.mean(axis=0)).T @ (X - X.mean(axis=0))
    sums = np.abs(H).sum(axis=1)
    order = solver.work.places[ORDER]
    assert np.all(np.diff(sums[order]) >= -1e-9 * sums.max())
    assert np.argsort(sums)[0] == order[0]
    assert_array_equal(np.sort(order), np.arange(520))
    average = build(data, y, partition="average_rows", **options)
    assert_array_equal(average.work.places[ORDER][[0, 1, 2]], order[[0, -1, 1]])


def test_what_cannot_be_combined():
    for rule in sorted(set(RULES) - set(VARIABLE_RULES)):
        with pytest.raises(ValueError, match="'gs', 'gsd', 'gsq' or 'random'"):
            check_combination("variable", rule, "tmp", False)
    for update in COMPOSITE_UPDATES:
        with pytest.raises(ValueError, match="'lb' or 'hb'"):
            check_combination("sort", "gs", update, True)
    for update in SMOOTH_UPDATES:
        with pytest.raises(ValueError, match="'pg', 'pn' or 'tmp'"):
            check_combination("sort", "gs", update, False)
    for partition, rule in CHOICES:
        for update in SMOOTH_UPDATES:
            check_combination(partition, rule, update, True)
        for update in COMPOSITE_UPDATES:
            check_combination(partition, rule, update, False)
