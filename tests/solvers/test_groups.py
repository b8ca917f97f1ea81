"""The working-set solver for groups: certificates, faces, loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.optimize import brentq

from sparsestat.solvers import _group_faces, _groups
from sparsestat.solvers import _kernels_groups as kernels
from sparsestat.solvers._designs import DenseDesign, SparseDesign
from sparsestat.solvers._group_faces import GramFace, ResidualFace
from sparsestat.solvers._groups import GroupSolver


def make_data(n=40, p=30, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) + 0.5 * rng.standard_normal((n, 1))
    beta = np.zeros(p)
    beta[:7] = rng.standard_normal(7)
    return np.asfortranarray(X), X @ beta + rng.standard_normal(n)


def blocks(p, size):
    return np.arange(p), np.arange(0, p + 1, size)


def solver_for(X, y, size=5, factors=None, coef=None):
    indices, ptr = blocks(X.shape[1], size)
    factors = np.ones(ptr.size - 1) if factors is None else factors
    return GroupSolver(DenseDesign(X, y), indices, ptr, factors, coef)


def objective(X, y, b, bars, size=5):
    r = y - X @ b
    return 0.5 * r @ r + bars @ np.linalg.norm(b.reshape(-1, size), axis=1)


@given(
    st.integers(1, 6),
    st.floats(1e-3, 1e3),
    st.floats(0.0, 10.0),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_the_minimum_over_one_group(size, spread, start, seed, singular):
    rng = np.random.default_rng(seed)
    diagonal = spread ** rng.uniform(-1, 1, size)
    z = rng.standard_normal(size) * spread
    if singular:
        diagonal[0] = z[0] = 0.0
    threshold = rng.uniform(0.1, 1.0)
    v = np.empty(size)
    kernels.solve_group(z, diagonal, size, threshold, start, v)
    norm = np.linalg.norm(v)
    if np.linalg.norm(z) <= threshold:
        assert norm == 0.0
        return
    scale = np.abs(z).max()
    np.testing.assert_allclose(diagonal * v - z + threshold * v / norm, 0.0, atol=1e-10 * scale)

    def secular(nu):
        return np.sum((z / (diagonal * nu + threshold)) ** 2) - 1.0

    positive = diagonal[diagonal > 0].min()
    root = brentq(secular, 0.0, 1.1 * np.linalg.norm(z) / positive, rtol=1e-14)
    assert norm == pytest.approx(root, rel=1e-9)


def test_nothing_to_gain_without_variation():
    v = np.ones(2)
    kernels.solve_group(np.array([3.0, 4.0]), np.zeros(2), 2, 1.0, 0.0, v)
    np.testing.assert_array_equal(v, 0.0)


@pytest.mark.parametrize("margin", [0.0, 100.0], ids=["residual", "gram"])
@pytest.mark.parametrize("fraction", [0.5, 0.05, 1e-3])
def test_optimality_from_scratch(monkeypatch, margin, fraction):
    monkeypatch.setattr(_groups, "_GRAM_MARGIN", margin)
    X, y = make_data()
    factors = np.array([1.0, 2.0, 0.5, 1.0, 1.0, 3.0])
    solver = solver_for(X, y, factors=factors)
    strength = fraction * solver.largest_strength()
    bars = strength * factors
    tol = 1e-11 * 0.5 * y @ y
    solution = solver.solve(strength, tol, 1000)
    assert solution.converged and 0.0 <= solution.gap <= tol
    b = solver.coef
    assert solution.primal == pytest.approx(objective(X, y, b, bars), rel=1e-12)
    pulls = (X.T @ (y - X @ b)).reshape(-1, 5)
    norms = np.linalg.norm(b.reshape(-1, 5), axis=1)
    used = norms > 0
    units = b.reshape(-1, 5)[used] / norms[used, None]
    # With curvature at least m, a gradient of size e leaves a gap of at least e^2 / (2 L).
    slack = np.sqrt(2 * tol * np.linalg.norm(X, 2) ** 2)
    np.testing.assert_allclose(pulls[used], bars[used, None] * units, atol=slack)
    assert np.all(np.linalg.norm(pulls[~used], axis=1) <= bars[~used] + slack)


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 2.0))
def test_random_dual_points_stay_below(seed, fraction):
    """Weak duality: what any coefficients certify is a lower bound of every objective."""
    rng = np.random.default_rng(seed)
    X, y = make_data(12, 20, seed % 7)
    start = rng.standard_normal(20) * (rng.uniform(size=20) < 0.5)
    solver = solver_for(X, y, coef=start)
    strength = fraction * np.max(np.linalg.norm((X.T @ y).reshape(-1, 5), axis=1))
    solution = solver._certify(strength)
    assert solution.gap >= 0.0
    bars = np.full(4, strength)
    assert solution.primal == pytest.approx(objective(X, y, start, bars), rel=1e-10)
    best = solver_for(X, y)
    best.solve(strength, 1e-12 * (y @ y), 1000)
    for rival in (best.coef, rng.standard_normal(20), np.zeros(20)):
        assert solution.primal - solution.gap <= objective(X, y, rival, bars) + 1e-9 * (y @ y)


def test_the_gap_is_a_bound_when_stopped_early():
    X, y = make_data(30, 100, 3)
    reference = solver_for(X, y)
    strength = 0.02 * reference.largest_strength()
    best = reference.solve(strength, 1e-13 * (y @ y), 1000).primal
    for max_iter in (1, 2, 4):
        solver = solver_for(X, y)
        solution = solver.solve(strength, 1e-13 * (y @ y), max_iter)
        assert solution.n_iter <= max_iter
        assert solution.primal - best <= solution.gap + 1e-12 * (y @ y)
    seen = []
    solution = solver_for(X, y).solve(strength, 1e-13, 1000, lambda: seen.append(1) or True)
    assert solution.stopped and len(seen) == solution.n_iter == 1


def test_every_strength_of_a_path_is_certified_over_all_groups():
    """Correlations that are only estimated must not hide a violation."""
    X, y = make_data(60, 600, 5)
    solver = solver_for(X, y)
    bars = np.ones(120)
    tol = 1e-6 * 0.5 * y @ y
    largest = solver.largest_strength()
    estimated = 0
    for strength in np.geomspace(largest, 0.01 * largest, 40):
        solution = solver.solve(strength, tol, 1000)
        estimated += solver._exact.size < 60
        r = y - X @ solver.coef
        pulls = np.linalg.norm((X.T @ r).reshape(-1, 5), axis=1)
        t = min(max(y @ r / (r @ r), 0.0), strength / pulls.max())
        bound = t * (y @ r) - 0.5 * t**2 * (r @ r)
        gap = objective(X, y, solver.coef, strength * bars) - bound
        assert solution.converged
        assert gap <= solution.gap * (1 + 1e-6) + 1e-15 * (y @ y)
    assert estimated > 10


def test_ascending_strengths_and_compaction():
    X, y = make_data(60, 600, 6)
    solver = solver_for(X, y, size=3)
    largest = solver.largest_strength()
    tol = 1e-9 * y @ y
    for fraction in (0.9, 0.1, 0.02, 0.01, 0.3, 0.5, 0.8, 1.0, 0.05):
        assert solver.solve(fraction * largest, tol, 1000).converged
        fresh = solver_for(X, y, size=3)
        fresh.solve(fraction * largest, tol, 1000)
        assert solver.objective(fraction * largest) == pytest.approx(
            fresh.objective(fraction * largest), rel=1e-7
        )
        if fraction == 1.0:
            np.testing.assert_array_equal(solver.coef, 0.0)


def test_sparse_and_dense_solve_the_same_problem():
    rng = np.random.default_rng(0)
    X = sparse.random_array((50, 60), density=0.2, rng=rng, format="csc")
    y = rng.standard_normal(50)
    y -= y.mean()
    means = X.mean(axis=0)
    dense = solver_for(np.asfortranarray(X.toarray() - means), y)
    implicit = GroupSolver(
        SparseDesign(sparse.csc_array(X), y, means, np.ones(50)), *blocks(60, 5), np.ones(12)
    )
    strength = 0.1 * dense.largest_strength()
    assert implicit.largest_strength() == pytest.approx(10 * strength, rel=1e-12)
    for solver in (dense, implicit):
        assert solver.solve(strength, 1e-12 * (y @ y), 1000).converged
    np.testing.assert_allclose(implicit.coef, dense.coef, atol=1e-5)


def faces(X, y, size=5):
    _, starts = blocks(X.shape[1], size)
    Z = X.copy(order="F")
    for first in starts[:-1]:
        Z[:, first : first + size] = np.linalg.svd(X[:, first : first + size])[0][:, :size] * 2.0
    bars = np.full(starts.size - 1, 0.1 * np.max(np.abs(Z.T @ y)))
    arguments = (starts, bars, np.zeros(X.shape[1]), Z.T, np.sum(Z**2, axis=0), y, y)
    return Z, GramFace(*arguments, np.ascontiguousarray(Z.T @ Z), Z.T @ y), ResidualFace(*arguments)


def test_both_faces_go_the_same_way():
    X, y = make_data()
    Z, gram, residual = faces(X, y)
    past_w = np.empty((6, 30))
    for face in (gram, residual):
        face.descend(3, 0.0, past_w, np.empty((6, face.state.size)))
    np.testing.assert_allclose(gram.w, residual.w, rtol=1e-10)
    np.testing.assert_allclose(residual.state, y - Z @ gram.w, atol=1e-12)
    np.testing.assert_allclose(gram.state, Z.T @ residual.state, atol=1e-12)
    assert gram.gap() == pytest.approx(residual.gap(), rel=1e-9)
    offset = 0.5 * y @ y
    assert gram.objective(gram.w, gram.state) + offset == pytest.approx(
        residual.objective(residual.w, residual.state), rel=1e-12
    )
    np.testing.assert_allclose(gram.state_of(gram.w), gram.state, atol=1e-12)


@pytest.mark.parametrize("which", [0, 1], ids=["gram", "residual"])
def test_newton_steps_alone_reach_the_minimum_of_a_face(which):
    X, y = make_data()
    face = faces(X, y)[1 + which]
    face.descend(2, 0.0, np.empty((3, 30)), np.empty((3, face.state.size)))
    for _ in range(10):
        face._newton()
    support, columns = _group_faces.support_of(face.starts, face.w)
    norms = np.linalg.norm(face.w.reshape(-1, 5), axis=1)
    gradient = (
        face.bars[support, None] * face.w.reshape(-1, 5)[support] / norms[support, None]
    ).ravel() - face.correlations()[columns]
    assert np.abs(gradient).max() <= 1e-9 * np.abs(face.bars).max()


@pytest.mark.parametrize("which", [0, 1], ids=["gram", "residual"])
def test_extrapolation_and_descent_never_raise_the_objective(which, monkeypatch):
    monkeypatch.setattr(_group_faces, "_DIRECT", 0)
    X, y = make_data(20, 60, 2)
    face = faces(X, y)[1 + which]
    past_w, past = np.empty((6, 60)), np.empty((6, face.state.size))
    values = []
    for _ in range(20):
        face.descend(5, 0.0, past_w, past)
        values.append(face.objective(face.w, face.state))
        face._extrapolate(past_w, past)
        values.append(face.objective(face.w, face.state))
    assert np.all(np.diff(values) <= 1e-12 * y @ y)
    assert face.solve(1e-9 * y @ y)


def test_loops_allocate_nothing(count_allocations):
    X, y = make_data()
    _, gram, residual = faces(X, y)
    past_w, past_q, past_r = np.empty((6, 30)), np.empty((6, 30)), np.empty((6, 40))
    assert not count_allocations(
        kernels.descend_gram, gram.starts, gram.bars, gram.G, gram.diagonal, gram.q0, gram.state,
        gram.w, 6, gram.yy, 5, 0.0, gram.scratch, past_w, past_q,
    )  # fmt: skip
    assert not count_allocations(
        kernels.descend_residual, residual.starts, residual.bars, residual.ZT, residual.diagonal,
        residual.state, residual.w, 6, 5, residual.scratch, past_w, past_r,
    )  # fmt: skip


def test_a_step_ends_at_zero_where_a_group_turns_round():
    starts = np.array([0, 2, 3])
    w, out = np.array([1.0, 2.0, -1.0]), np.zeros(3)
    direction = np.array([0.5, 0.0, 3.0])
    turned = kernels.step_groups(starts, w, np.array([0, 1]), direction, 1.0, out)
    assert turned == 1
    np.testing.assert_array_equal(out, [1.5, 2.0, 0.0])
    first = kernels.first_turn(starts, w, np.array([0, 1]), direction)
    assert first == pytest.approx(1 / 3)
    assert kernels.step_groups(starts, w, np.array([0, 1]), direction, first, out) == 1
    np.testing.assert_allclose(out, [1 + 0.5 / 3, 2.0, 0.0])
    assert kernels.first_turn(starts, w, np.array([0]), direction[:2]) == 1.0


def test_kernel_values_by_hand():
    starts, bars = np.array([0, 2, 3]), np.array([2.0, 1.0])
    w = np.array([3.0, 4.0, -2.0])
    assert kernels.penalty_of_groups(starts, bars, w, 2) == 12.0
    out = np.empty(2)
    kernels.group_norms(w, np.array([2, 0, 1]), np.array([0, 1, 3]), out)
    np.testing.assert_array_equal(out, [2.0, 5.0])
    H, rhs = np.eye(3), np.array([1.0, 1.0, 1.0])
    kernels.newton_system(starts, bars, w, np.array([0, 1]), H, rhs)
    # 2 / 5 (I - (0.6, 0.8)(0.6, 0.8)'), and nothing for a group of one.
    np.testing.assert_allclose(np.tril(H), [[1.256, 0, 0], [-0.192, 1.144, 0], [0, 0, 1.0]])
    np.testing.assert_allclose(rhs, [1 - 1.2, 1 - 1.6, 2.0])
