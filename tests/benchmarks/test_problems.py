"""Problems, accuracies, and the linear models' races at small size."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import Lasso

from benchmarks import linear_model
from benchmarks._figures import FigureTable
from benchmarks._measure import Race
from benchmarks._problems import (
    alpha_grid,
    autoregressive_regression,
    lasso_gaps,
    sparse_regression,
)
from benchmarks._tasks import TaskRace


def test_the_gap_vanishes_at_the_closed_form_of_an_orthonormal_design():
    rng = np.random.default_rng(0)
    X = np.linalg.qr(rng.standard_normal((30, 8)))[0]
    y = rng.standard_normal(30)
    alphas = np.array([0.02, 0.005])
    products = X.T @ y
    coefs = np.sign(products) * np.maximum(np.abs(products) - 30 * alphas[:, None], 0)
    assert 0 < np.count_nonzero(coefs) < coefs.size
    gaps = lasso_gaps(X, y, alphas, coefs.T)
    assert np.abs(gaps).max() < 1e-13
    assert lasso_gaps(X, y, alphas, 1.01 * coefs.T).min() > 1e-5


def test_gaps_bound_the_suboptimality_from_above():
    X, y = autoregressive_regression(40, 60, rho=0.5, n_nonzero=5)
    alpha = alpha_grid(X, y, 0.1)[-1]

    def objective(coef):
        return np.sum((y - X @ coef) ** 2) / 2 + len(y) * alpha * np.abs(coef).sum()

    best = Lasso(alpha=alpha, fit_intercept=False, tol=1e-14, max_iter=10**6).fit(X, y).coef_
    assert lasso_gaps(X, y, [alpha], best[:, None])[0] < 1e-12
    rng = np.random.default_rng(1)
    for scale in (1e-6, 1e-3, 1.0):
        coef = best + scale * rng.standard_normal(best.shape)
        gap = lasso_gaps(X, y, [alpha], coef[:, None])[0] * (y @ y) / 2
        assert gap >= objective(coef) - objective(best) - 1e-10


def test_zero_is_optimal_at_the_first_alpha_of_the_grid_only():
    X, y = autoregressive_regression(30, 20, rho=0.3, n_nonzero=4)
    y = y + 5
    for intercept in (False, True):
        alphas = alpha_grid(X, y, 0.5, 10, fit_intercept=intercept)
        b0 = np.full(10, y.mean()) if intercept else None
        gaps = lasso_gaps(X, y, alphas, np.zeros((20, 10)), b0)
        assert gaps[0] == pytest.approx(0, abs=1e-14)
        assert gaps[1:].min() > 1e-4


def test_a_wrong_intercept_costs_accuracy():
    X, y = autoregressive_regression(30, 20, rho=0.3, n_nonzero=4)
    alphas = alpha_grid(X, y, 1.0, 1, fit_intercept=True)
    wrong = lasso_gaps(X, y, alphas, np.zeros((20, 1)), [y.mean() + 0.1])[0]
    half_square = np.sum((y - y.mean()) ** 2) / 2
    assert wrong == pytest.approx(30 * 0.01 / 2 / half_square)


def test_sparse_and_dense_give_the_same_gaps_over_several_chunks():
    X, y = sparse_regression(50, 80, n_stored=600, n_nonzero=5)
    alphas = alpha_grid(X, y, 0.1, 60)
    coefs = sparse.random_array((80, 60), density=0.1, rng=np.random.default_rng(2))
    expected = lasso_gaps(X.toarray(), y, alphas, coefs.toarray())
    assert lasso_gaps(X, y, alphas, coefs.tocsc()) == pytest.approx(expected, rel=1e-12)


def test_a_path_that_ended_early_is_refused():
    X, y = autoregressive_regression(30, 20, rho=0.3, n_nonzero=4)
    with pytest.raises(ValueError, match=r"10 solutions of 20 .* shape \(20, 7\)"):
        lasso_gaps(X, y, alpha_grid(X, y, 0.1, 10), np.zeros((20, 7)))


def test_autoregressive_rows_have_unit_variance_and_the_right_correlation():
    X, y = autoregressive_regression(2000, 50, rho=0.7, n_nonzero=5)
    assert X.flags.f_contiguous
    # Averages over 50 columns of 2000 rows: the standard errors are below 0.01.
    assert np.mean(X**2) == pytest.approx(1, abs=0.04)
    assert np.mean(X[:, :-1] * X[:, 1:]) == pytest.approx(0.7, abs=0.04)
    assert y.shape == (2000,)


def test_the_sparse_design_is_what_every_peer_takes():
    X, y = sparse_regression(200, 500, n_stored=3000, n_nonzero=10)
    assert X.format == "csc"
    assert X.nnz == 3000
    assert X.indices.dtype == X.indptr.dtype == np.int32
    assert X.has_sorted_indices
    assert y.shape == (200,)


def test_every_race_gives_every_solver_three_tolerances_loosest_first():
    races = [problem for problem in linear_model.problems(quick=True) if isinstance(problem, Race)]
    assert len(races) == 9
    for race in races:
        case = race.build()
        assert [solver.ours for solver in case.solvers].count(True) == 1
        assert case.solvers[0].ours
        for solver in case.solvers:
            assert len(solver.tolerances) >= 3
            assert list(solver.tolerances) == sorted(solver.tolerances, reverse=True)


@pytest.mark.parametrize("key", ["dense_path", "sparse_path", "sparse_fit"])
def test_recomputed_gaps_fall_with_the_tolerance(key):
    races = {problem.key: problem for problem in linear_model.problems(quick=True)}
    case = races[key].build()
    solver = next(solver for solver in case.solvers if solver.name == "scikit-learn")
    call = solver.prepare()
    attained = [case.accuracy(solver.extract(call(tol))) for tol in (1e-2, 1e-4, 1e-6)]
    assert attained[0] > 10 * attained[1] > 100 * attained[2] > 0
    assert attained[2] < 1e-5


def test_a_cross_validated_fit_is_judged_by_its_path_too():
    X, y = autoregressive_regression(40, 30, rho=0.3, n_nonzero=4)
    y = y + 3
    alphas = alpha_grid(X, y, 0.1, 5, fit_intercept=True)

    class Model:
        def __init__(self, tol):
            fits = [Lasso(alpha=alpha, tol=tol, max_iter=10**5).fit(X, y) for alpha in alphas]
            self.alphas_ = alphas
            self.coef_path_ = np.column_stack([fit.coef_ for fit in fits])

    model = Model(1e-12)
    final = Lasso(alpha=alphas[2], tol=1e-12, max_iter=10**5).fit(X, y)
    model.coef_, model.intercept_, model.alpha_ = final.coef_, final.intercept_, alphas[2]
    assert linear_model._selected_gap(X, y, linear_model._selected(model)) < 1e-10
    model.coef_path_ = Model(1e-1).coef_path_
    assert linear_model._selected_gap(X, y, linear_model._selected(model)) > 1e-4
    del model.coef_path_
    assert linear_model._selected_gap(X, y, linear_model._selected(model)) < 1e-10


@pytest.mark.parametrize("key", ["group_path_5", "group_path_10", "logistic_path"])
def test_gaps_of_groups_and_classes(key):
    races = {problem.key: problem for problem in linear_model.problems(quick=True)}
    case = races[key].build()
    coefs = np.asarray(case.solvers[0].prepare()(1e-9))
    assert case.accuracy(coefs) < 1e-8
    assert case.accuracy(1.01 * coefs) > 1e-6


def tables():
    return [
        problem for problem in linear_model.problems(quick=True) if isinstance(problem, FigureTable)
    ]


@pytest.mark.parametrize("table", tables(), ids=lambda table: table.key)
def test_our_methods_give_figures(table):
    """One data set each, of the size that shows in a minute that everything runs."""
    for setting in table.settings[:2]:
        problem = setting.draw(setting.seeds[0])
        for method in setting.methods:
            if method.ours:
                figure = method.score(problem, method.fit(problem, setting.seeds[0], 1))
                assert np.isfinite(figure) and figure >= 0.0


def test_iterations_of_block_descent_are_counted():
    (race,) = [p for p in linear_model.problems(quick=True) if isinstance(p, TaskRace)]
    tasks = race.build()
    assert [task.ours for task in tasks].count(True) == 1
    assert len({task.units for task in tasks}) == 1
    for task in (tasks[0], tasks[1], tasks[-1]):
        task.prepare()()
