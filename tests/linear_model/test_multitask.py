"""The lasso for several targets against independent solutions and from first principles."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import MultiTaskLasso as SklearnMultiTaskLasso

from sparsestat.linear_model import Lasso, MultiTaskLasso
from sparsestat.solvers._kernels_rows import cd_gram_rows
from sparsestat.solvers._rows import RowSolver


def make_data(n=50, p=20, q=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) + rng.standard_normal(p)
    B = np.zeros((p, q))
    B[:4] = rng.standard_normal((4, q))
    return X, X @ B + rng.standard_normal((n, q)) + np.arange(q)


def objective(model, X, Y, weights=None):
    weights = np.ones(len(X)) if weights is None else weights
    squares = np.sum((Y - model.predict(X)) ** 2, axis=1)
    return weights @ squares / (2 * weights.sum()) + model.alpha * np.sum(
        np.linalg.norm(np.atleast_2d(model.coef_), axis=0)
    )


@pytest.mark.parametrize("shape", [(50, 20, 3), (25, 60, 2), (200, 10, 5)])
@pytest.mark.parametrize("alpha", [0.5, 0.05])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
def test_same_objective_as_scikit_learn(shape, alpha, form):
    X, Y = make_data(*shape)
    ours = MultiTaskLasso(alpha, tol=1e-9).fit(form(X), Y)
    theirs = SklearnMultiTaskLasso(alpha=alpha, tol=1e-8, max_iter=10**5).fit(X, Y)
    assert ours.objective_ == pytest.approx(objective(ours, X, Y), rel=1e-10)
    assert objective(ours, X, Y) <= objective(theirs, X, Y) + 1e-9
    assert objective(theirs, X, Y) - objective(ours, X, Y) < 1e-5
    assert ours.converged_


def test_optimality_from_scratch():
    X, Y = make_data()
    alpha = 0.1
    model = MultiTaskLasso(alpha, tol=1e-12).fit(X, Y)
    residual = Y - model.predict(X)
    correlations = (X - X.mean(axis=0)).T @ residual / len(X)
    B = model.coef_.T
    norms = np.linalg.norm(B, axis=1)
    used = norms > 0
    np.testing.assert_array_equal(model.support_, used)
    directions = B[used] / norms[used, None]
    np.testing.assert_allclose(correlations[used], alpha * directions, atol=1e-6)
    assert np.all(np.linalg.norm(correlations[~used], axis=1) <= alpha * (1 + 1e-9))
    np.testing.assert_allclose(residual.mean(axis=0), 0.0, atol=1e-12)


def test_gap_bounds_the_distance_to_the_optimum():
    X, Y = make_data(30, 80, 4)
    best = MultiTaskLasso(0.05, tol=1e-12).fit(X, Y).objective_
    for max_iter in (1, 2, 3):
        with pytest.warns(ConvergenceWarning, match="duality gap"):
            early = MultiTaskLasso(0.05, tol=1e-12, max_iter=max_iter).fit(X, Y)
        assert not early.converged_
        assert early.objective_ - best <= early.dual_gap_ * (1 + 1e-9)


def test_cvxpy_agrees():
    import cvxpy as cp

    X, Y = make_data(30, 8, 2)
    centred, response = X - X.mean(axis=0), Y - Y.mean(axis=0)
    B = cp.Variable((8, 2))
    loss = cp.sum_squares(response - centred @ B) / 60
    value = cp.Problem(cp.Minimize(loss + 0.2 * cp.sum(cp.norm(B, axis=1)))).solve(
        solver=cp.CLARABEL
    )
    assert MultiTaskLasso(0.2, tol=1e-9).fit(X, Y).objective_ == pytest.approx(value, rel=1e-6)


def test_one_target_is_the_lasso():
    X, Y = make_data(40, 30, 1)
    ours = MultiTaskLasso(0.1, tol=1e-10).fit(X, Y)
    lasso = Lasso(0.1, tol=1e-10).fit(X, Y[:, 0])
    assert ours.coef_.shape == (1, 30) and ours.intercept_.shape == (1,)
    np.testing.assert_allclose(ours.coef_[0], lasso.coef_, atol=1e-5)
    flat = MultiTaskLasso(0.1, tol=1e-10).fit(X, Y[:, 0])
    np.testing.assert_array_equal(flat.coef_, ours.coef_[0])
    assert flat.predict(X).shape == (40,) and isinstance(flat.intercept_, float)


@pytest.mark.parametrize("form", [np.asarray, sparse.csc_array])
def test_weights_are_repetitions(form):
    X, Y = make_data()
    counts = np.random.default_rng(1).integers(0, 4, len(X))
    weighted = MultiTaskLasso(0.1, tol=1e-12).fit(form(X), Y, counts)
    repeated = MultiTaskLasso(0.1, tol=1e-12).fit(
        np.repeat(X, counts, axis=0), np.repeat(Y, counts, axis=0)
    )
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, atol=1e-6)


def test_interpolation_is_reached():
    """More active rows than samples and a penalty that hardly counts."""
    X, Y = make_data(12, 60, 3, seed=2)
    model = MultiTaskLasso(1e-4, tol=1e-8).fit(X, Y)
    assert model.converged_
    np.testing.assert_allclose(model.predict(X), Y, atol=1e-2)


def test_duplicates_and_constant_columns():
    X, Y = make_data()
    X[:, 7] = X[:, 0]
    X[:, 8] = 3.0
    model = MultiTaskLasso(0.05, tol=1e-10).fit(X, Y)
    assert model.converged_
    np.testing.assert_array_equal(model.coef_[:, 8], 0.0)


def test_strong_penalty_leaves_the_means():
    X, Y = make_data()
    model = MultiTaskLasso(1e4).fit(X, Y)
    np.testing.assert_array_equal(model.coef_, 0.0)
    np.testing.assert_allclose(model.intercept_, Y.mean(axis=0))


def test_warm_start_starts_there():
    X, Y = make_data(40, 100, 3)
    model = MultiTaskLasso(0.05, warm_start=True).fit(X, Y)
    cold = model.n_iter_
    again = model.fit(X, Y)
    assert again.n_iter_ < cold
    assert model.fit(X[:, :50], Y).coef_.shape == (3, 50)


def test_large_newton_systems_are_solved_by_conjugate_gradients(monkeypatch):
    from sparsestat.solvers import _rows

    X, Y = make_data(40, 60, 4)
    direct = MultiTaskLasso(0.02, tol=1e-9).fit(X, Y)
    monkeypatch.setattr(_rows, "_DIRECT", 0)
    iterative = MultiTaskLasso(0.02, tol=1e-9).fit(X, Y)
    assert iterative.converged_
    assert iterative.objective_ == pytest.approx(direct.objective_, rel=1e-8)


def test_no_penalty_is_refused():
    with pytest.raises(ValueError, match=r"LinearRegression.*alpha must be positive"):
        MultiTaskLasso(0.0).fit(*make_data())


def test_the_kernel_descends_and_allocates_nothing(count_allocations):
    X, Y = make_data(30, 10, 3)
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    G, bars = X.T @ X, np.full(10, 2.0)
    B, Q = np.zeros((10, 3)), X.T @ Y
    row, support = np.empty(3), np.empty(10, dtype=np.int64)
    values = []
    for _ in range(5):
        cd_gram_rows(bars, G, Q, B, 10, row, support, 1, 0.0, 1.0)
        np.testing.assert_allclose(Q, X.T @ (Y - X @ B), atol=1e-9)
        values.append(0.5 * np.sum((Y - X @ B) ** 2) + bars @ np.linalg.norm(B, axis=1))
    assert np.all(np.diff(values) <= 1e-12 * values[0])
    arguments = (bars, G, Q, B, 10, row, support, 3, 0.0, 1.0)
    assert count_allocations(cd_gram_rows, *arguments) == 0


def test_random_dual_points_stay_below():
    X, Y = make_data(30, 10, 2)
    X, Y = np.asfortranarray(X - X.mean(axis=0)), Y - Y.mean(axis=0)
    rng = np.random.default_rng(0)
    for _ in range(20):
        solver = RowSolver(X, Y, np.zeros(10), np.zeros(30), rng.standard_normal((10, 2)))
        thresholds = np.full(10, rng.uniform(0.1, 20.0))
        lower = solver.objective(thresholds) - solver._certify(thresholds).gap
        best = RowSolver(X, Y, np.zeros(10), np.zeros(30))
        best.solve(thresholds, 1e-12, 1000)
        assert lower <= best.objective(thresholds) + 1e-9
