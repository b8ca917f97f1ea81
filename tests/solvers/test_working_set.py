"""The working-set solver and its compiled loops, one by one."""

import re

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core.dispatcher import Dispatcher
from scipy import sparse

from sparsestat.penalties._codes import ELASTIC_NET, scaled
from sparsestat.solvers import _kernels
from sparsestat.solvers._designs import DenseDesign, GramDesign, SparseDesign
from sparsestat.solvers._working_set import WorkingSetSolver

_NONE = np.empty(0)
_NO_INDICES = np.empty(0, dtype=np.int32)


class Loops:
    """A small problem with every buffer that the compiled loops want."""

    def __init__(self, seed=0, n=20, p=12, is_sparse=False, l1=2.0, l2=0.0, positive=False):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((n, p)) + rng.standard_normal((n, 1))
        if is_sparse:
            X[rng.random((n, p)) < 0.6] = 0.0
        self.stored = X
        self.y = 2 * X[:, 0] + rng.standard_normal(n) * 3
        self.y -= self.y.mean()
        self.X = np.asfortranarray(X - X.mean(axis=0))
        self.design = (
            SparseDesign(sparse.csc_array(X), self.y, X.mean(axis=0), np.ones(n))
            if is_sparse
            else DenseDesign(self.X, self.y)
        )
        self.params = np.array([np.full(p, l1), np.full(p, l2), np.full(p, float(positive))])
        self.cols = np.arange(p)
        self.w = np.zeros(p)
        self.m = p
        self.G = self.X.T @ self.X
        self.q0 = self.X.T @ self.y
        self.q = self.q0.copy()
        self.price = np.ones(p)
        self.support = np.zeros(p, dtype=np.int64)
        self.history = np.empty((7, p))
        self.normal = np.empty((5, 6))
        self.out = np.empty(p)
        self.found = np.empty(p, dtype=np.int64)

    def objective(self, w):
        residual = self.y - self.X @ w
        l1, l2, _ = self.params
        return 0.5 * residual @ residual + l1 @ np.abs(w) + 0.5 * l2 @ w**2

    def by_gram(self, epochs=5000, tol=1e-12):
        return _kernels.cd_gram(
            ELASTIC_NET, self.params, self.cols, self.G, self.q, self.w, self.m, self.price,
            self.support, epochs, tol,
        )  # fmt: skip

    def residual_arguments(self, epochs=5000, tol=1e-12, history=None):
        design = self.design
        return (
            ELASTIC_NET, self.params, self.cols, self.w, self.m, design.XT, design.data,
            design.indices, design.indptr, design.offsets, design.roots, design.total_weight,
            design.norms,
            design.residual, design.scratch, self.history if history is None else history,
            self.normal, self.price, self.support, epochs, tol,
        )  # fmt: skip

    def by_residual(self, *args, **kwargs):
        return _kernels.cd_residual(*self.residual_arguments(*args, **kwargs))


# --- coordinate descent ------------------------------------------------------------------


@pytest.mark.parametrize("is_sparse", [False, True])
@pytest.mark.parametrize("l2", [0.0, 1.5])
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_cd_gram_and_cd_residual_agree(is_sparse, l2, positive, seed):
    options = {"seed": seed, "is_sparse": is_sparse, "l1": 0.5, "l2": l2, "positive": positive}
    first, second = Loops(**options), Loops(**options)
    assert first.by_gram()[1] and second.by_residual()[1]
    np.testing.assert_allclose(first.w, second.w, atol=1e-9)
    assert first.w.any()
    np.testing.assert_allclose(first.q, first.X.T @ (first.y - first.X @ first.w), atol=1e-10)
    # The residual of sparse columns leaves out a multiple of the ones.
    kept = second.y - second.stored @ second.w if is_sparse else second.y - second.X @ second.w
    np.testing.assert_allclose(second.design.residual, kept, atol=1e-10)


@pytest.mark.parametrize("is_sparse", [False, True])
@pytest.mark.parametrize("l2", [0.0, 0.5])
@pytest.mark.parametrize("shape", [(20, 12), (15, 15)])
@pytest.mark.parametrize("seed", range(3))
def test_extrapolation_never_raises_the_objective(is_sparse, l2, shape, seed):
    """One epoch more never leaves a higher objective, extrapolated after it or not."""
    values = []
    for epochs in range(1, 41):
        loops = Loops(seed, *shape, is_sparse=is_sparse, l1=0.1, l2=l2)
        loops.by_residual(epochs, 1e-30)
        values.append(loops.objective(loops.w))
    assert np.all(np.diff(values) <= 1e-13 * np.abs(values[:-1]))


def test_extrapolation_saves_epochs():
    plain, fast = Loops(l1=0.05), Loops(l1=0.05)
    # A memory that never fills up is never extrapolated from.
    slow_epochs, _ = plain.by_residual(5000, 1e-16, history=np.empty((5001, plain.m)))
    epochs, done = fast.by_residual(5000, 1e-16)
    assert done
    assert epochs < 0.7 * slow_epochs
    assert fast.objective(fast.w) == pytest.approx(plain.objective(plain.w), rel=1e-10)


def test_the_loop_over_dense_columns_reads_nothing_of_sparse_ones():
    """Dense designs have no offsets at all, and extrapolation must not look for them."""
    design = Loops().design
    assert design.offsets.size == 0
    results = []
    for garbage in (np.nan, 0.0, 1e300):
        loops = Loops(l1=0.05)
        memory = np.full(1000, garbage)
        loops.design.offsets = memory[:0]
        loops.by_residual(300, 1e-16)
        results.append(loops.w.copy())
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@pytest.mark.parametrize("size", [1, 4, 12])
def test_extrapolation_is_exact_for_linear_iterations(size):
    """Five differences of an affine iteration with few distinct eigenvalues end at its limit."""
    rng = np.random.default_rng(0)
    limit = rng.standard_normal(size)
    factors = np.resize([0.9, 0.5, -0.3], size)
    history = np.empty((7, size))
    for k in range(7):
        history[k] = limit + factors**k * np.arange(1, size + 1)
    out = np.empty(size)
    assert _kernels._extrapolate(history, np.empty((5, 6)), size, out)
    start = np.abs(history[0] - limit).max()
    assert np.abs(out - limit).max() <= 1e-4 * start


def test_extrapolation_of_a_standstill_is_refused():
    assert not _kernels._extrapolate(np.ones((7, 3)), np.empty((5, 6)), 3, np.empty(3))


@pytest.mark.parametrize("seed", range(5))
def test_a_newton_step_descends(seed):
    """Whether or not coefficients change their sign on the way."""
    loops = Loops(seed, l1=1.0)
    loops.by_gram(epochs=2)
    rng = np.random.default_rng(seed)
    support = np.flatnonzero(loops.w)
    rhs, bend = np.empty(support.size), np.empty(support.size)
    for _ in range(5):
        before = loops.objective(loops.w)
        _kernels.newton_gradient(
            ELASTIC_NET, loops.params, loops.cols, loops.q, loops.w, support, support.size, rhs,
            bend,
        )  # fmt: skip
        H = np.zeros((support.size, support.size), order="F")
        scale = np.empty(support.size)
        _kernels.gather_lower(loops.G, support, support.size, bend, 0.0, H, scale)
        H /= scale[:, None] * scale
        H = np.tril(H) + np.tril(H, -1).T
        np.testing.assert_allclose(H, loops.G[np.ix_(support, support)] + np.diag(bend))
        _kernels.newton_step(
            ELASTIC_NET, loops.params, loops.cols, loops.G, loops.q, loops.w, loops.m, support,
            support.size, np.linalg.solve(H, rhs), np.empty(support.size),
        )  # fmt: skip
        assert loops.objective(loops.w) <= before + 1e-12 * abs(before)
        np.testing.assert_allclose(loops.q, loops.X.T @ (loops.y - loops.X @ loops.w), atol=1e-9)
        support = np.flatnonzero(loops.w)
        rhs, bend = np.empty(support.size), np.empty(support.size)
        loops.params[0] = rng.uniform(0.2, 2.0)
        loops.params[0, :] = loops.params[0, 0]


# --- certificates ------------------------------------------------------------------------


@settings(max_examples=200)
@given(
    st.integers(0, 10**6),
    st.sampled_from([0.0, 0.3, 5.0]),
    st.sampled_from([1e-3, 1.0, 30.0]),
    st.booleans(),
    st.sampled_from([1e-3, 1.0, 100.0]),
    st.sampled_from([1.0, 1 / 0.99, np.inf]),
)
def test_dual_bound_is_below_every_objective(seed, l2, l1, positive, size, longest):
    loops = Loops(seed % 50, l1=l1, l2=l2, positive=positive)
    rng = np.random.default_rng(seed)
    loops.params[:2] *= rng.uniform(0.1, 3.0, loops.m)
    w, other = size * rng.standard_normal((2, loops.m)) * (rng.random((2, loops.m)) < 0.5)
    if positive:
        w, other = np.abs(w), np.abs(other)
    residual = loops.y - loops.X @ w
    bound = _kernels.dual_bound(
        ELASTIC_NET, loops.params, loops.cols, loops.X.T @ residual, loops.m,
        float(loops.y @ residual), float(residual @ residual), longest,
    )  # fmt: skip
    lowest = min(loops.objective(w), loops.objective(other), loops.objective(0 * w))
    assert bound >= 0.0
    assert bound <= lowest * (1 + 1e-12)
    loops.by_gram()
    assert bound <= loops.objective(loops.w) * (1 + 1e-10)


@pytest.mark.parametrize("l2", [0.0, 2.0])
@pytest.mark.parametrize("positive", [False, True])
def test_gaps_vanish_at_the_optimum_only(l2, positive):
    loops = Loops(l2=l2, positive=positive)

    def gap():
        yy = float(loops.y @ loops.y)
        return _kernels.gram_gap(
            ELASTIC_NET, loops.params, loops.cols, loops.G, loops.q0, loops.q, loops.w, loops.m, yy
        )

    start = gap()
    assert start > 1e-2
    loops.by_gram(epochs=1)
    assert 1e-10 < gap() < start
    loops.by_gram()
    assert abs(gap()) <= 1e-10
    penalty = _kernels.penalty_value(ELASTIC_NET, loops.params, loops.cols, loops.w, loops.m)
    residual = loops.y - loops.X @ loops.w
    assert 0.5 * residual @ residual + penalty == pytest.approx(loops.objective(loops.w))


def test_slack_covers_what_unpenalised_features_cost():
    """Their correlations must vanish; where they do not quite, the gap says so."""
    loops = Loops(n=40)
    loops.params[0, :2] = 0.0
    loops.by_gram()
    optimum, coef = loops.objective(loops.w), loops.w.copy()
    y_norm = np.linalg.norm(loops.y)
    for step in (0.0, 1e-6, 1e-3):
        w = coef + step * (np.arange(loops.m) < 2)
        residual = loops.y - loops.X @ w
        c = loops.X.T @ residual
        bound = _kernels.dual_bound(
            ELASTIC_NET, loops.params, loops.cols, c, loops.m, float(loops.y @ residual),
            float(residual @ residual), np.inf,
        )  # fmt: skip
        slack = _kernels.total_slack(ELASTIC_NET, loops.params, w, c, loops.design.norms, y_norm)
        assert bound - slack <= optimum * (1 + 1e-12)
        assert (slack > 0.01 * step) or step == 0.0


# --- designs -----------------------------------------------------------------------------


def make_designs(seed=0, n=25, p=60, weighted=True):
    """The same centred and weighted problem, held in three ways."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) * (rng.random((n, p)) < 0.4)
    X[:, 3] = 0.0
    weights = rng.integers(1, 4, n).astype(float) if weighted else np.ones(n)
    roots, total = np.sqrt(weights), weights.sum()
    means = weights @ X / total
    y = rng.standard_normal(n) + 2 * X[:, 0]
    y = roots * (y - weights @ y / total)
    centred = np.asfortranarray(roots[:, None] * (X - means))
    stored = sparse.csc_array(roots[:, None] * X)
    return (
        DenseDesign(centred, y),
        SparseDesign(stored, y, means, roots),
        GramDesign(np.ascontiguousarray(centred.T @ centred), centred.T @ y, float(y @ y)),
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_designs_agree(weighted):
    designs = make_designs(weighted=weighted)
    p = designs[0].n_features
    rng = np.random.default_rng(1)
    cols = rng.permutation(p)[:10]
    w = rng.standard_normal(10)
    X, y = designs[0].X, designs[0].y
    residual = y - X[:, cols] @ w
    new = np.setdiff1d(np.arange(p), cols)[:6]
    for design in designs:
        np.testing.assert_allclose(design.norms, np.linalg.norm(X, axis=0), atol=1e-12)
        assert design.norms[3] == 0.0
        design.set_coefficients(cols, w, 10)
        np.testing.assert_allclose(
            design.squares(), (residual @ residual, y @ residual), rtol=1e-12
        )
        c = np.empty(p)
        design.correlate(c)
        np.testing.assert_allclose(c, X.T @ residual, atol=1e-11)
        out = np.empty(6)
        design.dots(new, 6, out)
        np.testing.assert_allclose(out, X[:, new].T @ residual, atol=1e-11)
        np.testing.assert_allclose(design.response_dots(new), X[:, new].T @ y, atol=1e-11)
        both = np.concatenate([cols, new])
        design.gram_block(cols, 0, cols)
        np.testing.assert_allclose(
            design.gram_block(cols, 10, new), X[:, both].T @ X[:, new], atol=1e-11
        )


@pytest.mark.parametrize("kind", [0, 1], ids=["dense", "sparse"])
@pytest.mark.parametrize("share", [0.5, 0.99])
def test_estimated_correlations_are_within_their_bound(kind, share):
    """What is not recomputed is truly below the share of what a zero coefficient bears."""
    design = make_designs()[kind]
    X, y = make_designs()[0].X, make_designs()[0].y
    p = design.n_features
    rng = np.random.default_rng(0)
    params = np.zeros((3, p))
    params[0] = 1.2 * np.max(np.abs(X.T @ y)) * rng.uniform(0.5, 2.0, p)
    cols, w = np.arange(8), np.zeros(8)
    c = np.empty(p)
    design.correlate(c)
    skipped = 0
    for scale in (0.0, 1e-9, 1e-4, 1e-2, 0.1, 0.3, 1.0, 1e-3):
        w += scale * rng.standard_normal(8)
        design.set_coefficients(cols, w, 8)
        exact = design.refresh(ELASTIC_NET, params, c, share)
        truth = X.T @ (y - X[:, :8] @ w)
        np.testing.assert_allclose(c[exact], truth[exact], atol=1e-10)
        rest = np.setdiff1d(np.arange(p), exact)
        assert np.all(np.abs(truth[rest]) <= share * params[0, rest])
        skipped += rest.size
    assert skipped > p, "nothing was ever spared"


def test_uncertain_features_are_those_that_may_reach_the_bar():
    params = np.array([np.full(4, 2.0), np.zeros(4), np.zeros(4)])
    c, norms = np.array([1.0, -1.7, 1.7, 5.0]), np.array([1.0, 1.0, 1.0, 0.0])
    out = np.empty(4, dtype=np.int64)
    count = _kernels.uncertain_features(ELASTIC_NET, params, c, 0.25, norms, 0.9, out)
    assert sorted(out[:count]) == [1, 2]
    params[2] = 1.0
    count = _kernels.uncertain_features(ELASTIC_NET, params, c, 0.25, norms, 0.9, out)
    assert sorted(out[:count]) == [2]


# --- the working set ---------------------------------------------------------------------


def solve(design, alpha, *, l1_ratio=1.0, tol=1e-9, start=None):
    p = design.n_features
    params = np.array([np.full(p, alpha * l1_ratio), np.full(p, alpha * (1 - l1_ratio)), [0.0] * p])
    solver = WorkingSetSolver(design, start)
    return solver, solver.solve(ELASTIC_NET, params, 0.5 * tol * design.yy, 1000)


@pytest.mark.parametrize("l1_ratio", [1.0, 0.3])
@pytest.mark.parametrize("alpha", [3.0, 0.5, 0.05])
def test_designs_lead_to_the_same_solution(alpha, l1_ratio):
    objectives = []
    for design in make_designs():
        solver, solution = solve(design, alpha, l1_ratio=l1_ratio)
        assert solution.converged
        assert 0.0 <= solution.gap <= 0.5e-9 * design.yy
        objectives.append(solution.primal)
        features, values = solver.support()
        assert np.all(np.diff(features) > 0) and np.all(values != 0)
        np.testing.assert_array_equal(solver.w[features], values)
    np.testing.assert_allclose(objectives, objectives[0], atol=1e-9 * design.yy)


@pytest.mark.parametrize("kind", [0, 1], ids=["dense", "sparse"])
def test_more_coefficients_than_rows_are_solved_on_the_residual(kind):
    """Cross products of so many features would cost more than their columns."""
    design = make_designs(n=25, p=150)[kind]
    solver, solution = solve(design, 0.5, l1_ratio=0.02)
    assert solution.converged
    assert not solver._gram
    assert solver.support()[0].size > design.entries_per_column
    again, repeated = solve(design, 0.5, l1_ratio=0.02, start=solver.w)
    assert repeated.converged and repeated.n_iter <= solution.n_iter
    np.testing.assert_allclose(again.w, solver.w, atol=1e-3)


@pytest.mark.parametrize("kind", [0, 1, 2], ids=["dense", "sparse", "gram"])
def test_features_that_left_are_cleared_away(kind):
    """Penalties that rise and fall leave many zeros behind, which are dropped and taken again."""
    design, fresh = (make_designs(n=120, p=100)[kind] for _ in range(2))
    solver = WorkingSetSolver(design)
    params = np.zeros((3, 100))
    largest = 0
    for alpha in (0.01, 30.0, 29.0, 0.01, 20.0, 19.0, 0.1):
        params[0] = alpha
        solution = solver.solve(ELASTIC_NET, params, 1e-9 * design.yy, 1000)
        assert solution.converged
        largest = max(largest, solver._m)
        _, expected = solve(fresh, alpha)
        assert solution.primal == pytest.approx(expected.primal, abs=1e-8 * design.yy)
        if alpha in (29.0, 19.0):
            assert solver._m < largest / 2
            assert sorted(solver._cols[: solver._m]) == list(np.flatnonzero(solver._member))


def test_progress_can_stop_a_solve():
    design = make_designs(n=60, p=100)[0]
    solver = WorkingSetSolver(design)
    params = np.zeros((3, 100))
    params[0] = 1e-3
    calls = []

    def progress():
        calls.append(solver.w)
        return len(calls) == 2

    solution = solver.solve(ELASTIC_NET, params, 0.0, 1000, progress)
    assert solution.stopped and not solution.converged
    assert len(calls) == solution.n_iter == 2


def test_scaled_parameters_leave_the_signs_alone():
    params = np.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(
        scaled(ELASTIC_NET, params, 2.0), params * np.array([[2.0], [2.0], [1.0]])
    )


# --- cost --------------------------------------------------------------------------------


def _calls():
    """Each loop with arguments that may be used twice."""
    dense, stored = Loops(), Loops(is_sparse=True)
    for loops in (dense, stored):
        loops.by_gram(epochs=3)
    code, params, cols, m = ELASTIC_NET, dense.params, dense.cols, dense.m
    nobody = np.zeros(m, dtype=bool)
    support = np.flatnonzero(dense.w)
    size = support.size
    rhs, bend, change = np.empty((3, size))
    H = np.empty((size, size), order="F")
    design = dense.design
    csc = stored.design
    c = dense.q.copy()
    yield "cd_gram", (
        code, params, cols, dense.G, dense.q, dense.w, m, dense.price, dense.support, 5, 0.0,
    )  # fmt: skip
    yield "cd_residual", dense.residual_arguments(12, 0.0)
    yield "cd_residual", stored.residual_arguments(12, 0.0)
    yield "newton_gradient", (code, params, cols, dense.q, dense.w, support, size, rhs, bend)
    yield "gather_lower", (dense.G, support, size, bend, 0.0, H, np.empty(size))
    yield "newton_step", (
        code, params, cols, dense.G, dense.q, dense.w, m, support, size, np.zeros(size), change,
    )  # fmt: skip
    yield "_move", (dense.G, dense.q, dense.w, m, support, size, np.zeros(size), 1.0)
    yield "gram_gap", (code, params, cols, dense.G, dense.q0, dense.q, dense.w, m, 1.0)
    yield "subtract_columns", (
        design.XT, _NONE, _NO_INDICES, _NO_INDICES, cols, np.zeros(m), cols, m, design.residual,
    )  # fmt: skip
    yield "_extrapolate", (np.random.default_rng(0).random((7, m)), dense.normal, m, dense.out)
    yield "dual_bound", (code, params, cols, c, m, 1.0, 1.0, np.inf)
    yield "total_slack", (code, params, dense.w, c, design.norms, 1.0)
    yield "penalty_value", (code, params, cols, dense.w, m)
    yield "gap_prices", (code, params, cols, dense.w, m, design.norms, 1.0, dense.out)
    yield "column_dots", (*design.columns, design.residual, 0.0, cols, m, dense.out)
    yield "column_dots", (*csc.columns, csc.residual, 0.0, cols, m, dense.out)
    yield "uncertain_features", (code, params, c, 0.1, design.norms, 0.99, dense.found)
    yield "strong_set", (code, params, c, nobody, 1.5, dense.found)
    yield "largest_ratio", (code, params, c, design.norms, cols)
    yield "violators", (code, params, c, cols, m, nobody, dense.found, dense.out)
    yield "csc_gram_block", (
        csc.data, csc.indices, csc.indptr, csc.offsets, 1.0, cols, m, cols, m,
        np.zeros(20), np.empty((m, m)),
    )  # fmt: skip
    yield "csc_norms", (
        csc.data, csc.indices, csc.indptr, csc.offsets, np.ones(20), 20.0, dense.out,
    )  # fmt: skip
    yield "always_active", (code, params, design.norms, dense.found)
    yield "worth_keeping", (code, params, c, cols, dense.w, m, 1.5, dense.found)


CALLS = list(_calls())


@pytest.mark.parametrize("name, args", CALLS, ids=[name for name, _ in CALLS])
def test_loops_allocate_nothing(count_allocations, name, args):
    assert count_allocations(getattr(_kernels, name), *args) == 0


def test_every_loop_is_counted():
    inlined = {
        "add_multiple",
        "_has_kink",
        "_is_far",
        "dot",
        "csc_dot",
        "csc_subtract",
        "unpenalised_price",
        "unpenalised_slack",
    }
    ours = {
        name
        for name, item in vars(_kernels).items()
        if isinstance(item, Dispatcher) and item.py_func.__module__ == _kernels.__name__
    }
    assert ours == {name for name, _ in CALLS} | inlined


def test_sums_are_vectorised():
    """Inner products multiply several numbers at once, as the machine code shows."""
    compiled = numba.njit(fastmath=_kernels.SUMS)(_kernels.dot.py_func)
    compiled(np.ones(8), np.ones(8))
    (code,) = compiled.inspect_asm().values()
    assert re.search(r"(mul|fmadd\w*)pd|fm(la|ul)\s+v\d+\.2d", code)
