"""Proximal gradient: optimality, certificates, any penalty, any array library."""

import cvxpy as cp
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.linalg import aslinearoperator
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import Lasso
from sklearn.model_selection import GridSearchCV
from sklearn.utils.validation import check_is_fitted, validate_data

from sparsestat import solvers
from sparsestat.penalties import L1, BasePenalty, ElasticNet, RowGroupL2
from sparsestat.solvers import FistaResult, fista, fista_path
from sparsestat.solvers._kernels_xp import lasso_alpha_max_xp, lasso_duality_gap_xp


class MCP(BasePenalty):
    """A user's own penalty: the minimax concave one, with value and prox only."""

    def __init__(self, alpha=1.0, gamma=3.0):
        self.alpha = alpha
        self.gamma = gamma

    def value(self, w):
        a = np.minimum(np.abs(w), self.gamma * self.alpha)
        return np.sum(self.alpha * a - a**2 / (2 * self.gamma))

    def prox(self, v, step, out=None):
        a = np.abs(v)
        if step >= self.gamma:
            return np.where(a > self.alpha * np.sqrt(step * self.gamma), v, 0.0)
        shrunk = np.sign(v) * np.maximum(a - step * self.alpha, 0.0) / (1 - step / self.gamma)
        return np.where(a <= self.gamma * self.alpha, shrunk, v)


class MCPRegression(RegressorMixin, BaseEstimator):
    """A user's own estimator around the solver."""

    def __init__(self, alpha=1.0):
        self.alpha = alpha

    def fit(self, X, y):
        X, y = validate_data(self, X, y, y_numeric=True)
        self.result_ = fista(X, y, MCP(self.alpha), scale=1 / len(y), tol=1e-8, max_iter=5000)
        self.coef_ = self.result_.w
        return self

    def predict(self, X):
        check_is_fitted(self)
        return validate_data(self, X, reset=False) @ self.coef_


def make_problem(n=60, p=100, seed=0, shift=1.0):
    """A sparse signal under correlated features."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) + shift * rng.standard_normal((n, 1))
    w = np.zeros(p)
    w[:5] = [3.0, -2.0, 1.5, 2.5, -1.0][: min(p, 5)]
    return X, X @ w + 0.5 * rng.standard_normal(n)


def objective(X, y, w, penalty, scale):
    return 0.5 * scale * np.sum((y - X @ w) ** 2) + penalty.value(w)


PENALTIES = [
    L1(0.1),
    L1(0.1, positive=True),
    L1(0.2, penalty_factor=np.arange(100) % 4),
    ElasticNet(0.3, 0.3),
    ElasticNet(0.3, 0.0),
]


@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda penalty: type(penalty).__name__)
def test_result_is_stationary(penalty):
    X, y = make_problem()
    result = fista(X, y, penalty, scale=1 / 60, tol=1e-9, max_iter=20_000)
    assert isinstance(result, FistaResult)
    assert result.converged and type(result.converged) is bool
    assert type(result.accuracy) is float and result.accuracy <= 1e-9
    gradient = X.T @ (X @ result.w - y) / 60
    # Rounding: the shortest distance counts zeros exactly, and the others to the last digits.
    assert penalty.subdiff_distance(result.w, gradient).max() <= 1e-8


def test_same_as_coordinate_descent():
    X, y = make_problem()
    result = fista(X, y, L1(0.1), scale=1 / 60, tol=1e-10, max_iter=20_000)
    peer = Lasso(alpha=0.1, fit_intercept=False, tol=1e-14, max_iter=100_000).fit(X, y)
    np.testing.assert_allclose(result.w, peer.coef_, atol=1e-7)
    np.testing.assert_array_equal(result.w != 0, peer.coef_ != 0)


def test_cvxpy_finds_nothing_better():
    X, y = make_problem(20, 10)
    Y = np.column_stack([y, np.roll(y, 3)])
    u, W = cp.Variable(10), cp.Variable((10, 2))
    cases = [
        (ElasticNet(0.4, 0.6, positive=True), y, u, 0.24 * cp.norm1(u) + 0.08 * cp.sum_squares(u)),
        (RowGroupL2(0.5), Y, W, 0.5 * cp.sum(cp.norm(W, 2, axis=1))),
    ]
    for penalty, target, variable, cost in cases:
        constraints = [variable >= 0] if variable is u else []
        loss = cp.sum_squares(target - X @ variable) / 40
        # At its default tolerance of 1e-8 the objective leaves 2e-5 open in the coefficients.
        accuracy = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-11)
        cp.Problem(cp.Minimize(loss + cost), constraints).solve(solver=cp.CLARABEL, **accuracy)
        result = fista(X, target, penalty, scale=1 / 20, tol=1e-10, max_iter=10_000)
        assert result.converged
        np.testing.assert_allclose(result.w, variable.value, atol=5e-6)
        rival = np.maximum(variable.value, 0.0) if variable is u else variable.value
        ours = objective(X, target, result.w, penalty, 1 / 20)
        assert ours <= objective(X, target, rival, penalty, 1 / 20) + 1e-12


def plain_fista(X, y, alpha, L, tol):
    """The method without restart, to compare numbers of iterations."""
    w = z = np.zeros(X.shape[1])
    t, n_iter, moved = 1.0, 0, np.inf
    while moved > tol and n_iter < 20_000:
        w_old, t_old = w, t
        w = L1(alpha).prox(z - X.T @ (X @ z - y) / L, 1 / L)
        t = (1 + np.sqrt(1 + 4 * t**2)) / 2
        z = w + (t_old - 1) / t * (w - w_old)
        gradient = X.T @ (X @ w - y)
        moved = L1(alpha).fixpoint_distance(w, gradient, L).max()
        n_iter += 1
    return n_iter


def test_restart_saves_iterations():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100, 50)) * np.geomspace(1.0, 0.01, 50)
    y = X @ rng.standard_normal(50)
    L = np.linalg.norm(X, 2) ** 2
    result = fista(X, y, L1(1e-3), tol=1e-8, max_iter=20_000, lipschitz=L)
    assert result.converged
    assert 2 * result.n_iter < plain_fista(X, y, 1e-3, L, 1e-8)


@pytest.mark.parametrize("guess", [1e-12, 0.05, 0.9])
def test_steps_that_are_too_long_are_taken_back(guess):
    X, y = make_problem()
    penalty = L1(0.1)
    L = np.linalg.norm(X, 2) ** 2 / 60
    values = []

    def record(n_iter, w, accuracy):
        values.append(objective(X, y, w, penalty, 1 / 60))

    result = fista(
        X,
        y,
        penalty,
        scale=1 / 60,
        lipschitz=guess * L,
        tol=1e-9,
        max_iter=20_000,
        callback=record,
    )
    expected = fista(X, y, penalty, scale=1 / 60, tol=1e-9, max_iter=20_000)
    assert result.converged
    np.testing.assert_allclose(result.w, expected.w, atol=1e-7)
    assert max(values) <= values[0] * 1.01


def test_step_is_found_from_the_largest_eigenvalue():
    rng = np.random.default_rng(0)
    for X in (rng.standard_normal((30, 50)), np.diag([5.0, 4.9, 0.1]), np.ones((4, 1))):
        problem = solvers._fista._LeastSquares(X, np.ones(len(X)), 0.25, None, None)
        ratio = problem.lipschitz / (0.25 * np.linalg.norm(X, 2) ** 2)
        assert 0.95 <= ratio <= 1.0201


def test_iterations_run_out():
    X, y = make_problem()
    full = fista(X, y, L1(0.01), scale=1 / 60, tol=0.0, max_iter=35, lipschitz=150.0)
    assert full.n_iter == 35 and full.converged is False
    residual = L1(0.01).fixpoint_distance(full.w, X.T @ (X @ full.w - y) / 60, 150.0).max()
    np.testing.assert_allclose(full.accuracy, residual, rtol=1e-9)
    none = fista(X, y, L1(0.01), scale=1 / 60, max_iter=0)
    assert none.n_iter == 0 and not none.converged and not none.w.any()


def test_solution_as_start_takes_no_iterations():
    X, y = make_problem()
    first = fista(X, y, L1(0.1), scale=1 / 60, tol=1e-8, max_iter=20_000)
    again = fista(X, y, L1(0.1), scale=1 / 60, tol=1e-8, w0=first.w)
    assert again.n_iter == 0 and again.converged
    np.testing.assert_array_equal(again.w, first.w)
    assert not np.shares_memory(again.w, first.w)


def test_callback_watches_and_stops():
    X, y = make_problem()
    seen = []

    def stop_at_30(n_iter, w, accuracy):
        seen.append((n_iter, accuracy))
        return n_iter == 30

    result = fista(X, y, L1(0.01), scale=1 / 60, tol=1e-12, callback=stop_at_30)
    assert [n_iter for n_iter, _ in seen] == [0, 10, 20, 30]
    assert result.n_iter == 30 and not result.converged
    assert result.accuracy == seen[-1][1]


def test_designs_of_any_form_agree():
    X, y = make_problem()
    X[np.abs(X) < 1.0] = 0.0
    expected = fista(X, y, L1(0.1), scale=1 / 60, tol=1e-10, max_iter=10_000)
    assert expected.converged
    designs = [
        X.tolist(),
        np.asfortranarray(X),
        sp.csr_array(X),
        sp.csc_matrix(X),
        aslinearoperator(X),
        (X.__matmul__, X.T.__matmul__),
    ]
    for design in designs:
        result = fista(design, y, L1(0.1), scale=1 / 60, tol=1e-10, max_iter=10_000)
        np.testing.assert_allclose(result.w, expected.w, atol=1e-10)
    whole = sp.csr_array(np.rint(X).astype(int))
    ours = fista(whole, y.round().astype(int), L1(1.0), tol=1e-6, max_iter=10_000)
    dense = fista(whole.toarray().astype(float), y.round(), L1(1.0), tol=1e-6, max_iter=10_000)
    np.testing.assert_allclose(ours.w, dense.w, atol=1e-8)


def test_precision_of_the_data():
    X, y = make_problem()
    single = fista(X.astype("f4"), y.astype("f4"), L1(0.1), scale=1 / 60, tol=1e-3)
    assert single.w.dtype == np.float32 and single.converged
    mixed = fista(X.astype("f4"), y, L1(0.1), scale=1 / 60, tol=1e-8, max_iter=20_000)
    assert mixed.w.dtype == np.float64 and mixed.converged


def test_shapes_at_the_edge():
    for X, y in [
        (np.array([[1.0, 2.0]]), np.array([3.0])),
        (np.zeros((4, 3)), np.ones(4)),
        (np.ones((4, 3)), np.zeros(4)),
        (np.repeat(np.arange(4.0)[:, None], 3, axis=1), np.arange(4.0)),
        (np.eye(4)[:, :3], np.array([np.pi, 1e-300, 0.0, 1.0])),
    ]:
        result = fista(X, y, L1(0.1), tol=1e-9, max_iter=5000)
        assert result.converged and np.all(np.isfinite(result.w))
        gradient = X.T @ (X @ result.w - y)
        assert L1(0.1).subdiff_distance(result.w, gradient).max() <= 1e-8
        assert not result.w[~X.any(axis=0)].any()


def test_rows_of_several_targets():
    X, y = make_problem()
    Y = np.column_stack([y, -y, np.roll(y, 1)])
    penalty = RowGroupL2(0.4)
    result = fista(X, Y, penalty, scale=1 / 60, tol=1e-9, max_iter=20_000)
    assert result.w.shape == (100, 3)
    gradient = X.T @ (X @ result.w - Y) / 60
    assert penalty.subdiff_distance(result.w, gradient).max() <= 1e-8
    rows = result.w.any(axis=1)
    assert 0 < rows.sum() < 100 and np.all(result.w[rows] != 0)


def test_bad_arguments_are_named():
    X, y = make_problem(10, 4)
    with pytest.raises(ValueError, match=r"X must have shape .* one row for each of the 9"):
        fista(X, y[:9], L1())
    with pytest.raises(ValueError, match="w0 must have shape"):
        fista(X, y, L1(), w0=np.zeros(3))
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="scale must be positive"):
            fista(X, y, L1(), scale=bad)
        with pytest.raises(ValueError, match="lipschitz must be positive"):
            fista(X, y, L1(), lipschitz=bad)
    X[3, 1] = np.nan
    with pytest.raises(ValueError, match="X contains NaN"):
        fista(X, y, L1())
    for call in ({"lipschitz": 1.0}, {"lipschitz": 1.0, "certificate": lambda w: np.nan}):
        with pytest.raises(ValueError, match="X, y or w0 contains NaN"):
            fista(X, y, L1(), **call)
    with pytest.raises(TypeError, match="array_api_strict and numpy"):
        fista(pytest.importorskip("array_api_strict").asarray(np.eye(10)), y, L1())
    with pytest.raises(AttributeError, match="no attribute 'newton'"):
        _ = solvers.newton
    assert {"fista", "fista_path"} <= set(dir(solvers))


# --- paths -----------------------------------------------------------------------------------


def test_path_starts_each_fit_from_the_last():
    X, y = make_problem()
    alphas = np.geomspace(1.0, 0.05, 12)
    penalty = L1(7.0)
    path = fista_path(X, y, penalty, alphas, scale=1 / 60, tol=1e-9, max_iter=20_000)
    cold = [fista(X, y, L1(a), scale=1 / 60, tol=1e-9, max_iter=20_000) for a in alphas]
    assert penalty.alpha == 7.0
    assert all(result.converged for result in path)
    for warm, alone in zip(path, cold, strict=True):
        np.testing.assert_allclose(warm.w, alone.w, atol=1e-7)
    assert sum(r.n_iter for r in path) < sum(r.n_iter for r in cold)


def test_path_with_a_certificate():
    X, y = make_problem()

    def gap(w, alpha):
        return lasso_duality_gap_xp(X, y, w, alpha, 0.0, scale=1 / 60)

    path = fista_path(
        X, y, L1(), [0.5, 0.1], scale=1 / 60, tol=1e-8, max_iter=20_000, certificate=gap
    )
    for alpha, result in zip([0.5, 0.1], path, strict=True):
        assert result.converged and result.accuracy == float(gap(result.w, alpha))


def test_path_needs_a_strength():
    class Fixed(MCP):
        def __init__(self, gamma=3.0):
            self.gamma = gamma

    with pytest.raises(ValueError, match="alpha"):
        fista_path(np.eye(2), np.ones(2), Fixed(), [1.0])


# --- a user's own penalty --------------------------------------------------------------------


def assert_mcp_stationary(X, y, w, alpha, gamma=3.0, atol=1e-7):
    gradient = X.T @ (X @ w - y) / len(y)
    slope = np.sign(w) * np.maximum(alpha - np.abs(w) / gamma, 0.0)
    distance = np.where(w == 0, np.maximum(np.abs(gradient) - alpha, 0.0), np.abs(gradient + slope))
    assert distance.max() <= atol


def test_path_of_a_users_penalty():
    X, y = make_problem()
    alphas = [2.0, 1.0, 0.5, 0.25, 0.12]
    path = fista_path(X, y, MCP(), alphas, scale=1 / 60, tol=1e-8, max_iter=20_000)
    for alpha, result in zip(alphas, path, strict=True):
        assert result.converged
        assert_mcp_stationary(X, y, result.w, alpha)
    # Large coefficients are not shrunk: the least squares fit on the support is recovered.
    support = np.flatnonzero(path[-1].w)
    refit, *_ = np.linalg.lstsq(X[:, support], y, rcond=None)
    large = np.abs(path[-1].w[support]) > 3.0 * alphas[-1]
    np.testing.assert_allclose(path[-1].w[support][large], refit[large], atol=0.2)


def test_objective_of_a_nonconvex_penalty_never_rises():
    for seed in range(5):
        X, y = make_problem(seed=seed, shift=2.0)
        penalty = MCP(0.3, gamma=1.5)
        values = []

        def record(n_iter, w, accuracy, X=X, y=y, penalty=penalty, values=values):
            values.append(objective(X, y, w, penalty, 1 / 60))

        start = 5.0 * np.random.default_rng(seed).standard_normal(100)
        result = fista(
            X, y, penalty, w0=start, scale=1 / 60, tol=1e-8, max_iter=20_000, callback=record
        )
        assert result.converged
        assert_mcp_stationary(X, y, result.w, 0.3, 1.5)
        assert np.all(np.diff(values) <= 1e-12 * values[0])


def test_momentum_is_given_up_when_the_objective_rises():
    class Trap(BasePenalty):
        """Claims a value that rises with every step away from the start."""

        def value(self, w):
            return 1e3 * np.sum(np.abs(w))

        def prox(self, v, step, out=None):
            return v

    search = []
    original = solvers._fista._Search.step

    X, y = np.diag([1.0, 0.1]), np.ones(2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            solvers._fista._Search,
            "step",
            lambda self: (search.append(float(self.momentum)), original(self))[1],
        )
        result = fista(X, y, Trap(), tol=1e-8, max_iter=30)
    assert not result.w.any() and not result.converged
    assert search == [1.0] * 10 + [0.0] * 20


def test_grid_search_of_a_users_estimator_in_two_processes():
    X, y = make_problem(120, 20)
    grid = {"alpha": [0.05, 0.2, 3.0]}
    parallel = GridSearchCV(MCPRegression(), grid, cv=3, n_jobs=2).fit(X, y)
    serial = GridSearchCV(MCPRegression(), grid, cv=3).fit(X, y)
    assert parallel.best_params_["alpha"] < 3.0
    assert parallel.best_score_ > 0.9
    scores = [search.cv_results_["mean_test_score"] for search in (parallel, serial)]
    np.testing.assert_allclose(*scores, rtol=1e-9)
    best = parallel.best_estimator_
    assert_mcp_stationary(X, y, best.coef_, best.alpha)


# --- array libraries -------------------------------------------------------------------------


HALF_POSITIVE = ElasticNet(0.2, 0.7, positive=np.arange(100) % 2 == 0)
ACCURATE = {"scale": 1 / 60, "tol": 1e-9, "max_iter": 20_000}


def gap_of_half_positive(X, y):
    positive = HALF_POSITIVE.positive

    def gap(w):
        return lasso_duality_gap_xp(X, y, w, 0.14, 0.06, scale=1 / 60, positive=positive)

    return gap


@pytest.fixture(scope="module")
def by_loops():
    """Fits by the compiled loops, made before the fixture ``xp`` closes them."""
    X, y = make_problem()
    certificates = {False: None, True: gap_of_half_positive(X, y)}
    return {
        certify: fista(X, y, HALF_POSITIVE, certificate=certificate, **ACCURATE)
        for certify, certificate in certificates.items()
    }


@pytest.mark.parametrize("certify", [False, True])
def test_same_on_any_array(by_loops, xp, certify):
    X, y = (xp.asarray(array) for array in make_problem())
    certificate = gap_of_half_positive(X, y) if certify else None
    xp.syncs = 0
    result = fista(X, y, HALF_POSITIVE, certificate=certificate, **ACCURATE)
    if xp.counts_syncs:
        # One for the step, one for the start, and one for every ten iterations.
        assert 2 <= xp.syncs <= 2 + -(-result.n_iter // 10)
    xp.assert_native(result.w)
    xp.assert_twin_ran()
    assert result.converged and result.n_iter == by_loops[certify].n_iter
    np.testing.assert_allclose(xp.to_numpy(result.w), by_loops[certify].w, rtol=1e-8, atol=1e-12)


def test_rows_and_starts_on_any_array(xp):
    X, y = make_problem(30, 20)
    Y = np.column_stack([y, -y])
    start = xp.asarray(np.ones((20, 2)))
    penalty = RowGroupL2(0.3)
    path = fista_path(
        xp.asarray(X),
        xp.asarray(Y),
        penalty,
        [0.6, 0.3],
        w0=start,
        scale=1 / 30,
        tol=1e-9,
        max_iter=20_000,
    )
    assert all(result.converged for result in path)
    xp.assert_native(path[1].w)
    w = xp.to_numpy(path[1].w)
    gradient = xp.asarray(X.T @ (X @ w - Y) / 30)
    assert xp.to_numpy(penalty.subdiff_distance(path[1].w, gradient)).max() <= 1e-8
    assert np.all(xp.to_numpy(start) == 1.0)


def test_users_penalty_on_any_array(xp):
    class Ridge(BasePenalty):
        kind, convex = "separable", True

        def __init__(self, alpha=1.0):
            self.alpha = alpha

        def value(self, w):
            return 0.5 * self.alpha * (w @ w)

        def prox(self, v, step, out=None):
            return v / (1.0 + step * self.alpha)

    class Timid(Ridge):
        convex = False

    X, y = make_problem(30, 20)
    exact = np.linalg.solve(X.T @ X + np.eye(20), X.T @ y)
    for penalty in (Ridge(), Timid()):
        xp.syncs = 0
        result = fista(xp.asarray(X), xp.asarray(y), penalty, tol=1e-9, max_iter=20_000)
        assert not xp.counts_syncs or xp.syncs <= 2 + -(-result.n_iter // 10)
        xp.assert_native(result.w)
        assert result.converged
        np.testing.assert_allclose(xp.to_numpy(result.w), exact, atol=1e-8)


# --- certificates ----------------------------------------------------------------------------


def optimum(X, y, l1, l2, scale, positive):
    penalty = ElasticNet(l1 + l2, l1 / (l1 + l2), positive=positive)
    options = {"scale": scale, "tol": 1e-12, "max_iter": 50_000}
    result = fista(X, y, penalty, **options)
    return result.w, objective(X, y, result.w, penalty, scale), penalty


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("l1, l2", [(0.3, 0.0), (0.3, 1e-6), (0.2, 0.5), (0.0, 0.4)])
def test_gap_bounds_the_suboptimality(l1, l2, positive):
    X, y = make_problem(30, 12, shift=0.3)
    best_w, best, penalty = optimum(X, y, l1, l2, 1 / 30, positive)
    rng = np.random.default_rng(0)

    def gap(w):
        return float(lasso_duality_gap_xp(X, y, w, l1, l2, scale=1 / 30, positive=positive))

    assert gap(best_w) <= 1e-10 * best
    for scale in (1e-6, 1e-3, 0.1, 1.0, 10.0):
        for _ in range(5):
            w = best_w + scale * rng.standard_normal(12)
            w = np.maximum(w, 0.0) if positive else w
            excess = objective(X, y, w, penalty, 1 / 30) - best
            assert gap(w) >= excess - 1e-12 * best
    # Near the optimum the gap is of the order of the distance, or smaller.
    near = best_w * (1.0 + 1e-6)
    assert gap(near) <= 1e-3 * best


@given(st.integers(0, 10_000), st.floats(0.01, 3.0), st.floats(0.0, 3.0), st.booleans())
def test_gap_is_never_below_any_other_point(seed, l1, l2, positive):
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((6, 4)), rng.standard_normal(6)
    factor = rng.uniform(0.1, 2.0, 4)
    w, rival = rng.standard_normal((2, 4)) * rng.choice([0.0, 0.1, 1.0], (2, 4))
    if positive:
        w, rival = np.abs(w), np.abs(rival)

    def primal(w):
        penalty = np.sum(factor * (l1 * np.abs(w) + 0.5 * l2 * w**2))
        return 0.5 * np.sum((y - X @ w) ** 2) + penalty

    gap = float(lasso_duality_gap_xp(X, y, w, factor * l1, factor * l2, positive=positive))
    assert gap >= 0.0
    assert primal(w) - gap <= primal(rival) + 1e-12


def test_gap_on_any_array(xp):
    X, y = make_problem(20, 15)
    w = np.where(np.arange(15) % 3, 0.0, 0.1)
    l1, positive = np.linspace(0.1, 1.0, 15), np.arange(15) % 2 == 0
    arrays = [xp.asarray(a) for a in (X, y, w)]
    options = {"scale": 0.05, "positive": positive}
    xp.syncs = 0
    ours = [
        lasso_duality_gap_xp(*arrays, l1, 0.2, **options),
        lasso_duality_gap_xp(*arrays, xp.asarray(l1), 0.0, scale=0.05),
        lasso_alpha_max_xp(*arrays[:2], l1, **options),
    ]
    assert xp.syncs == 0
    host = [
        lasso_duality_gap_xp(X, y, w, l1, 0.2, **options),
        lasso_duality_gap_xp(X, y, w, l1, 0.0, scale=0.05),
        lasso_alpha_max_xp(X, y, l1, **options),
    ]
    for device_number, number in zip(ours, host, strict=True):
        xp.assert_native(device_number[None] if device_number.ndim == 0 else device_number)
        np.testing.assert_allclose(float(device_number), float(number), rtol=1e-12)


def test_alpha_max_is_the_first_zero():
    X, y = make_problem(20, 15)
    factor = np.where(np.arange(15) == 2, 0.0, np.linspace(0.5, 2.0, 15))
    for positive in (False, True):
        alpha_max = float(lasso_alpha_max_xp(X, y, factor, scale=1 / 20, positive=positive))
        assert alpha_max == pytest.approx(
            L1(penalty_factor=factor, positive=positive).alpha_max(-X.T @ y / 20), rel=1e-14
        )
    assert float(lasso_alpha_max_xp(X, np.zeros(20))) == 0.0
    zero = float(lasso_duality_gap_xp(X, y, np.zeros(15), 1.0001 * np.abs(X.T @ y).max(), 0.0))
    assert zero <= 1e-12 * (y @ y)
    assert float(lasso_duality_gap_xp(X, np.zeros(20), np.zeros(15), 1.0, 0.0)) == 0.0


def test_gap_stays_finite_beside_a_free_feature():
    X, y = make_problem(20, 5)
    assert np.isfinite(lasso_duality_gap_xp(X, y, np.zeros(5), 0.5, 1e-310))
    assert lasso_alpha_max_xp(X, y, 1e-310) == np.inf
    l1 = np.array([0.0, 0.5, 0.5, 0.5, 0.5])
    gap = float(lasso_duality_gap_xp(X, y, np.zeros(5), l1, 0.0))
    assert 0.0 < gap <= 0.5 * (y @ y) * (1.0 + 1e-12)
