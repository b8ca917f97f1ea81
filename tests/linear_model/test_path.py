"""Every point of a path is optimal, whatever the rule that screens features proposes."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn import linear_model as peers
from sklearn.exceptions import ConvergenceWarning

from sparsestat.linear_model import ElasticNet, Lasso, LassoCV, lasso_path, logistic_path
from sparsestat.linear_model._data import make_problem
from sparsestat.linear_model._path import ElasticNetPath
from sparsestat.penalties._codes import ELASTIC_NET
from sparsestat.solvers import _kernels

from ._witness import largest_alpha, make_data, witness

SHAPES = {"tall": (60, 8), "wide": (25, 60), "square": (30, 30), "very tall": (300, 6)}


def judge(X, y, path, tol=1e-6, **options):
    """All points of a path, checked against the witness."""
    alphas, coefs, gaps = path
    dense = coefs.toarray() if sparse.issparse(coefs) else coefs
    options = {"fit_intercept": False, **options}
    for alpha, coef, gap in zip(alphas, dense.T, gaps, strict=True):
        witness(X, y, coef, alpha, **options).assert_optimal(gap, tol)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("form", [np.asarray, sparse.csc_array, sparse.coo_array])
def test_every_gap_is_within_the_tolerance(shape, fit_intercept, form):
    X, y = make_data(*shape)
    path = lasso_path(form(X), y, alphas=30, fit_intercept=fit_intercept)
    alphas, coefs, gaps = path
    assert alphas.shape == gaps.shape == (30,) and coefs.shape == (shape[1], 30)
    judge(X, y, path, fit_intercept=fit_intercept)
    if form is np.asarray:
        assert isinstance(coefs, np.ndarray)
    else:
        assert coefs.format == "csc"
        assert coefs.has_sorted_indices and np.all(coefs.data != 0)


@pytest.mark.parametrize("l1_ratio", [1.0, 0.5, 0.01])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_grid_begins_where_everything_is_zero(shape, l1_ratio):
    X, y = make_data(*shape)
    options = {"l1_ratio": l1_ratio, "fit_intercept": True}
    alphas, coefs, _ = lasso_path(X, y, alphas=25, eps=1e-2, **options)
    assert alphas[0] == pytest.approx(largest_alpha(X, y, l1_ratio=l1_ratio), rel=1e-9)
    assert alphas[-1] == pytest.approx(1e-2 * alphas[0])
    np.testing.assert_allclose(np.diff(np.log(alphas)), np.log(1e-2) / 24)
    assert not coefs[:, 0].any() and coefs[:, 1].any()


@pytest.mark.parametrize("form", [np.asarray, sparse.csc_array])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_rounding_leaves_no_coefficient_at_the_beginning(form, fit_intercept):
    """Correlations that are computed in another order differ in their last digits."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        X, y = rng.standard_normal((40, 60)), rng.standard_normal(40)
        _, coefs, _ = lasso_path(form(X), y, alphas=2, fit_intercept=fit_intercept)
        assert not np.any((coefs.toarray() if sparse.issparse(coefs) else coefs)[:, 0])
    model = LassoCV(criterion="ebic", alphas=20)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        X, y = rng.standard_normal((40, 60)), rng.standard_normal(40)
        model.fit(X, y)
        # The model without any feature is among those that the criterion chooses from.
        assert model.criterion_path_.min() <= 40 * np.log(np.var(y)) + 1e-8


@pytest.mark.parametrize("form", [np.asarray, sparse.csc_array])
def test_features_without_a_penalty_may_hide_a_correlation(form):
    """What they leave of the response may depend on a feature more than the response does."""
    rng = np.random.default_rng(0)
    free, hidden = rng.standard_normal((2, 50))
    free, hidden = free - free.mean(), hidden - hidden.mean()
    hidden += free
    y = free - hidden * (free @ hidden) / (hidden @ hidden) + 1e-3 * hidden
    X = form(np.column_stack([free, hidden]))
    options = {"penalty_factor": [0.0, 1.0], "fit_intercept": True}
    alphas, coefs, _ = lasso_path(X, y, alphas=3, **options)
    left = y - free * (free @ y) / (free @ free)
    assert alphas[0] == pytest.approx(abs(hidden @ left) / 50, rel=1e-6)
    assert alphas[0] > 50 * abs(hidden @ y) / 50
    coefs = coefs.toarray() if sparse.issparse(coefs) else coefs
    assert coefs[1, 0] == 0.0 and coefs[1, 1] != 0.0
    alphas, coefs, *_ = logistic_path(X, y > 0, alphas=3, penalty_factor=[0.0, 1.0])
    coefs = coefs.toarray() if sparse.issparse(coefs) else coefs
    assert coefs[1, 0] == 0.0 and coefs[1, 1] != 0.0


def test_factors_and_signs_shape_the_grid():
    X, y = make_data(60, 8, seed=5)
    factors = np.r_[0.0, 0.0, 0.5, np.ones(5)]
    for positive in (False, True, np.arange(8) < 4):
        options = {"penalty_factor": factors, "positive": positive, "fit_intercept": True}
        path = lasso_path(X, y, alphas=20, tol=1e-9, **options)
        judge(X, y, path, tol=1e-9, **options)
        coefs = path[1]
        assert not coefs[2:, 0].any()
        # If all signs are those forbidden, nothing ever enters.
        assert coefs[2:, 1].any() or positive is True


def test_explicit_strengths_come_back_in_descending_order():
    X, y = make_data(40, 10)
    alphas = [0.1, 1.0, 0.01, 0.1]
    path = lasso_path(X, y, alphas=alphas)
    np.testing.assert_array_equal(path[0], [1.0, 0.1, 0.1, 0.01])
    judge(X, y, path)
    single = lasso_path(X, y, alphas=[0.01])
    assert single[1].shape == (10, 1)
    judge(X, y, single)


def test_a_point_of_the_path_is_the_estimator():
    X, y = make_data(40, 60)
    weights = np.random.default_rng(0).integers(1, 4, 40)
    options = {"tol": 1e-10, "penalty_factor": np.r_[0.0, np.ones(59)]}
    alphas, coefs, _ = lasso_path(
        X, y, alphas=8, l1_ratio=0.7, fit_intercept=True, sample_weight=weights, **options
    )
    for alpha, coef in zip(alphas, coefs.T):
        model = ElasticNet(alpha, l1_ratio=0.7, **options).fit(X, y, sample_weight=weights)
        np.testing.assert_allclose(coef, model.coef_, atol=1e-4)


@settings(max_examples=60)
@given(
    st.sampled_from([(40, 6), (15, 40), (20, 20), (120, 5)]),
    st.sampled_from([None, 3]),
    st.integers(0, 10**6),
    st.sampled_from([1.0, 0.5]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1e-3, 1e-6, 1e-9]),
)
def test_random_paths(shape, rank, seed, l1_ratio, positive, is_sparse, tol):
    X, y = make_data(*shape, seed, rank=rank)
    weights = np.random.default_rng(seed).uniform(0.2, 3.0, shape[0])
    options = {"l1_ratio": l1_ratio, "positive": positive, "sample_weight": weights}
    data = sparse.csc_array(X) if is_sparse else X
    path = lasso_path(data, y, alphas=12, tol=tol, fit_intercept=True, **options)
    judge(X, y, path, tol=tol, fit_intercept=True, **options)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_objectives_are_those_of_scikit_learn(shape):
    X, y = make_data(*shape)
    alphas, coefs, _ = lasso_path(X, y, alphas=15, eps=1e-2)
    with warnings.catch_warnings():
        # Its gaps, which are counted below, say by how much it missed.
        warnings.simplefilter("ignore", ConvergenceWarning)
        _, theirs, gaps = peers.lasso_path(X, y, alphas=alphas, tol=1e-12, max_iter=20000)
    for alpha, coef, other, gap in zip(alphas, coefs.T, theirs.T, gaps):
        found = witness(X, y, coef, alpha, fit_intercept=False)
        peer = witness(X, y, other, alpha, fit_intercept=False)
        assert found.objective <= peer.objective + 1e-6 * found.null
        assert peer.objective <= found.objective + 1e-6 * found.null + abs(gap)


# --- screening ---------------------------------------------------------------------------


class Screened(ElasticNetPath):
    """A path that notes which features the strong rule would have discarded."""

    def discarded(self, alpha):
        problem, params = self.problem, self.params(alpha)
        residual = problem.design.y - problem.design.X @ self.solver.w
        correlations = problem.design.X.T @ residual
        every = np.arange(problem.n_features)
        ratio = np.max(np.abs(correlations) / params[0])
        nobody = np.zeros(problem.n_features, dtype=bool)
        kept = np.empty(problem.n_features, dtype=np.int64)
        count = _kernels.strong_set(
            ELASTIC_NET, params, correlations, nobody, max(ratio, 1.0), kept
        )
        return np.setdiff1d(every, kept[:count])


def _common_factor(rng):
    return rng.standard_normal((20, 40)) + 3 * rng.standard_normal((20, 1)), rng.standard_normal(20)


def _mixed_columns(rng):
    X = rng.standard_normal((30, 15)) @ (np.eye(15) + 0.5 * rng.standard_normal((15, 15)))
    return X, X @ rng.standard_normal(15)


def _nearly_equal_columns(rng):
    base = rng.standard_normal((12, 4))
    X = np.hstack([base + 0.05 * rng.standard_normal((12, 4)) for _ in range(8)])
    return X, rng.standard_normal(12)


@pytest.mark.parametrize(
    "make, seeds",
    [(_common_factor, (0, 24)), (_mixed_columns, (0, 18)), (_nearly_equal_columns, range(25))],
)
def test_errors_of_the_strong_rule_are_caught(make, seeds):
    """The rule presumes that correlations change no faster than the penalty; here some do."""
    errors = 0
    for seed in seeds:
        X, y = make(np.random.default_rng(seed))
        p = X.shape[1]
        problem = make_problem(X, y, None, fit_intercept=True, gram_limit=0)
        path = Screened(problem, 1.0, np.ones(p), np.zeros(p, dtype=bool), tol=1e-9, max_iter=200)
        for alpha in path.alpha_max() * np.geomspace(1.0, 1e-2, 25):
            discarded = path.discarded(alpha)
            point = path.at(alpha)
            errors += np.intersect1d(discarded, point.features).size
            witness(X, y, path.solver.w, alpha).assert_optimal(point.dual_gap, 1e-9)
    assert errors > 0, "no design here makes the rule err"


@pytest.mark.parametrize("seed", [3, 16, 17, 22, 25, 26])
def test_as_many_coefficients_as_rows(seed):
    """Nearly equal columns, and a penalty so small that the rows are nearly interpolated."""
    X, y = _nearly_equal_columns(np.random.default_rng(seed))
    for form in (np.asarray, sparse.csc_array):
        path = lasso_path(form(X), y, alphas=12, eps=1e-4, tol=1e-9, fit_intercept=True)
        judge(X, y, path, tol=1e-9, fit_intercept=True)


def test_a_rule_that_discards_everything_is_caught(monkeypatch):
    """With no proposals at all, the pass over all features still finds the solution."""

    def nothing(*args):
        return 0

    X, y = make_data(30, 80)
    expected = lasso_path(X, y, alphas=10, tol=1e-8)
    monkeypatch.setattr(_kernels, "strong_set", nothing)
    for data in (X, sparse.csc_array(X)):
        path = lasso_path(data, y, alphas=expected[0], tol=1e-8)
        judge(X, y, path, tol=1e-8)


def test_a_long_first_step_goes_through_intermediate_strengths():
    X, y = make_data(50, 400, n_informative=30)
    alpha = 1e-4 * largest_alpha(X, y)
    model = Lasso(alpha).fit(X, y)
    witness(X, y, model.coef_, alpha, intercept=model.intercept_).assert_optimal(model.dual_gap_)
    assert model.converged_


# --- warnings and errors -----------------------------------------------------------------


def test_points_cut_short_are_reported_once():
    X, y = make_data(40, 200, n_informative=30)
    with pytest.warns(ConvergenceWarning, match="of 10 penalty strengths, the worst") as caught:
        _, _, gaps = lasso_path(X, y, alphas=10, eps=1e-4, max_iter=1)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert f"{gaps.max():.3g}" in str(caught[0].message)
    assert gaps.max() > 1e-6 * np.mean(y**2) / 2


def test_degenerate_data():
    X, y = make_data(20, 5)
    for data, response in (
        (X, np.full(20, 3.0)),
        (np.zeros((20, 5)), y),
        (np.ones((20, 5)), y),
        (X[:1], y[:1]),
        (X[:, :1], y),
        (np.hstack([X, X]), y),
    ):
        for form in (np.asarray, sparse.csc_array):
            alphas, coefs, gaps = lasso_path(form(data), response, alphas=5, fit_intercept=True)
            assert np.all(np.isfinite(alphas)) and np.all(alphas > 0)
            judge(data, response, (alphas, coefs, gaps), fit_intercept=True)


@pytest.mark.parametrize(
    "options",
    [
        {"alphas": 0},
        {"alphas": []},
        {"alphas": [1.0, -1.0]},
        {"alphas": [np.nan]},
        {"eps": 0.0},
        {"eps": 1.0},
        {"l1_ratio": 0.0},
        {"l1_ratio": 2.0},
        {"tol": 0.0},
        {"max_iter": 0},
        {"penalty_factor": np.zeros(4)},
        {"penalty_factor": [1.0, -1.0, 1.0, 1.0]},
        {"positive": [1.0, 0.0, 1.0, 1.0]},
        {"sample_weight": -np.ones(20)},
        {"sample_weight": np.full(20, np.nan)},
        {"fit_intercept": "no"},
    ],
    ids=str,
)
def test_bad_arguments_are_named(options):
    X, y = make_data(20, 4)
    with pytest.raises(ValueError, match=next(iter(options))):
        lasso_path(X, y, **options)


def test_bad_data_are_refused():
    X, y = make_data(20, 4)
    with pytest.raises(ValueError, match="Input y contains NaN"):
        lasso_path(X, np.r_[np.nan, y[1:]])
    with pytest.raises(ValueError, match="contains NaN"):
        lasso_path(np.where(X > 1, np.nan, X), y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        lasso_path(X, y[:-1])


def test_data_are_not_changed():
    X, y = make_data(20, 30)
    for data in (X, np.asfortranarray(X), sparse.csc_array(X)):
        before, response = data.copy(), y.copy()
        lasso_path(data, y, alphas=5, sample_weight=np.arange(20.0))
        assert (data != before).sum() == 0
        np.testing.assert_array_equal(y, response)


@pytest.mark.parametrize("fit_intercept", [False, True])
def test_entries_stored_twice_are_summed(fit_intercept):
    """A CSC matrix may hold one entry in several pieces, in any order."""
    X, y = make_data(20, 6)
    indices = np.tile(np.r_[np.arange(20), np.arange(20)[::-1]], 6)
    data = np.concatenate([np.r_[0.25 * X[:, j], 0.75 * X[::-1, j]] for j in range(6)])
    split = sparse.csc_array((data, indices, np.arange(0, 241, 40)), shape=(20, 6))
    before = split.data.copy(), split.indices.copy()
    path = lasso_path(split, y, alphas=8, tol=1e-8, fit_intercept=fit_intercept)
    judge(X, y, path, tol=1e-8, fit_intercept=fit_intercept)
    np.testing.assert_array_equal(split.data, before[0])
    np.testing.assert_array_equal(split.indices, before[1])
