"""The group lasso against independent solutions and from first principles."""

import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.linalg import orth
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import check_estimator

from sparsestat.linear_model import Lasso, lasso_path
from sparsestat.linear_model._data import make_problem
from sparsestat.linear_model._group_lasso import GroupLasso
from sparsestat.linear_model._group_path import GroupPath, group_lasso_path
from sparsestat.penalties import GroupL2
from sparsestat.solvers import fista
from sparsestat.utils._column_groups import check_group_weights, check_groups, split

FORMS = pytest.mark.parametrize("form", [np.asarray, sparse.csc_array, sparse.csr_matrix])


def make_data(n=60, p=24, seed=0, shift=1.0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) + 0.5 * rng.standard_normal((n, 1))
    X += shift * rng.standard_normal(p)
    beta = np.zeros(p)
    beta[: min(6, p)] = rng.standard_normal(min(6, p))
    return X, X @ beta + rng.standard_normal(n) + 3.0


def judge(model, X, y, sample_weight=None):
    """Objective, a lower bound of the optimum, and the objective of zero, from scratch."""
    X = np.asarray(X.toarray() if sparse.issparse(X) else X, dtype=np.float64)
    w = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    indices, ptr = check_groups(model.groups, X.shape[1])
    groups = split(indices, ptr)
    d = check_group_weights(model.group_weights, ptr)
    b = model.coef_.astype(np.float64)
    penalty = model.alpha * sum(
        weight * np.linalg.norm(b[g]) for weight, g in zip(d, groups, strict=True)
    )
    value = w @ (y - X @ b - model.intercept_) ** 2 / (2 * w.sum()) + penalty
    if model.fit_intercept:
        X, y = X - w @ X / w.sum(), y - w @ y / w.sum()
    X, y = X * np.sqrt(w / w.sum())[:, None], y * np.sqrt(w / w.sum())
    null = 0.5 * y @ y
    free = [g for weight, g in zip(d, groups, strict=True) if weight == 0]
    r = y - X @ b
    if free:
        basis = orth(X[:, np.concatenate(free)])
        r = r - basis @ (basis.T @ r)
    if np.linalg.norm(r) <= 1e-13 * np.linalg.norm(y):
        return value, 0.0, null
    ratios = [
        np.linalg.norm(X[:, g].T @ r) / (model.alpha * weight)
        for weight, g in zip(d, groups, strict=True)
        if weight > 0
    ]
    t = min(max(y @ r / max(r @ r, 1e-300), 0.0), 1.0 / max(max(ratios), 1e-300))
    return value, t * (y @ r) - 0.5 * t**2 * (r @ r), null


def assert_optimal(model, X, y, sample_weight=None, rounding=1e-13):
    value, bound, null = judge(model, X, y, sample_weight)
    slack = rounding * null
    assert model.objective_ == pytest.approx(value, rel=1e-9, abs=slack)
    assert 0.0 <= model.dual_gap_ <= model.tol * null * (1 + 1e-9) + slack
    assert model.converged_
    # Another dual point may be worse, but not by orders of magnitude.
    assert -slack <= value - bound <= 3 * model.tol * null + 10 * slack


@pytest.mark.parametrize("shape", [(60, 24), (20, 80), (300, 12)])
@pytest.mark.parametrize("alpha", [0.5, 0.05, 0.002])
@pytest.mark.parametrize("weights", ["sqrt", "ones", "mixed"])
@FORMS
def test_certificate_recomputed(shape, alpha, weights, form):
    X, y = make_data(*shape)
    n_groups = shape[1] // 4
    given_weights = np.linspace(0.5, 2.0, n_groups) if weights == "mixed" else weights
    model = GroupLasso(alpha, groups=4, group_weights=given_weights, tol=1e-8).fit(form(X), y)
    assert_optimal(model, X, y)
    np.testing.assert_array_equal(model.support_, model.coef_ != 0)
    np.testing.assert_array_equal(
        model.group_support_, np.any(model.coef_.reshape(n_groups, 4) != 0, axis=1)
    )


def test_optimality_conditions():
    X, y = make_data()
    labels = np.arange(24) % 7
    model = GroupLasso(0.1, groups=labels, tol=1e-12).fit(X, y)
    residual = y - model.predict(X)
    assert residual.mean() == pytest.approx(0.0, abs=1e-12)
    pulls = (X - X.mean(axis=0)).T @ residual / len(y)
    assert 0 < model.group_support_.sum() < 7
    for g, used in zip(model.groups_, model.group_support_, strict=True):
        bar = 0.1 * np.sqrt(g.size)
        if used:
            unit = model.coef_[g] / np.linalg.norm(model.coef_[g])
            np.testing.assert_allclose(pulls[g], bar * unit, atol=1e-5)
        else:
            assert np.linalg.norm(pulls[g]) <= bar * (1 + 1e-6)


@pytest.mark.parametrize("shape", [(40, 12), (15, 24)])
def test_cvxpy_and_fista_agree(shape):
    import cvxpy as cp

    X, y = make_data(*shape)
    labels = np.random.default_rng(1).integers(0, 4, shape[1])
    model = GroupLasso(0.2, groups=labels, tol=1e-10).fit(X, y)
    centred, response = X - X.mean(axis=0), y - y.mean()
    b = cp.Variable(shape[1])
    penalty = sum(np.sqrt(g.size) * cp.norm(b[g]) for g in model.groups_)
    loss = cp.sum_squares(response - centred @ b) / (2 * len(y))
    value = cp.Problem(cp.Minimize(loss + 0.2 * penalty)).solve(solver=cp.CLARABEL)
    assert model.objective_ == pytest.approx(value, rel=1e-6)
    witness = GroupL2(0.2, labels)
    slow = fista(centred, response, witness, scale=1 / len(y), tol=1e-10, max_iter=10**5)
    assert slow.converged
    np.testing.assert_allclose(model.coef_, slow.w, atol=1e-5)
    residual = response - centred @ slow.w
    assert model.objective_ == pytest.approx(
        residual @ residual / (2 * len(y)) + witness.value(slow.w), rel=1e-9
    )


@FORMS
def test_groups_of_one_are_the_lasso(form):
    X, y = make_data(40, 60)
    ours = GroupLasso(0.1, tol=1e-10).fit(form(X), y)
    lasso = Lasso(0.1, tol=1e-10).fit(X, y)
    np.testing.assert_allclose(ours.coef_, lasso.coef_, atol=1e-5)
    assert ours.objective_ == pytest.approx(lasso.objective_, rel=1e-9)
    assert ours.intercept_ == pytest.approx(lasso.intercept_, abs=1e-4)
    alphas, coefs, _ = group_lasso_path(X, y, groups=None, alphas=10, tol=1e-10)
    expected, theirs, _ = lasso_path(X, y, alphas=10, tol=1e-10)
    np.testing.assert_allclose(alphas, expected, rtol=1e-12)
    np.testing.assert_allclose(coefs, theirs, atol=1e-4)


def test_orthonormal_design_in_closed_form():
    rng = np.random.default_rng(0)
    X = np.linalg.qr(rng.standard_normal((30, 12)))[0] * np.sqrt(30)
    y = rng.standard_normal(30) * 2
    model = GroupLasso(0.3, groups=3, fit_intercept=False, tol=1e-13).fit(X, y)
    z = (X.T @ y / 30).reshape(4, 3)
    norms = np.linalg.norm(z, axis=1, keepdims=True)
    expected = z * np.maximum(1 - 0.3 * np.sqrt(3) / norms, 0.0)
    assert 0 < model.group_support_.sum() < 4
    np.testing.assert_allclose(model.coef_.reshape(4, 3), expected, atol=1e-12)


def test_one_group_with_all_columns_is_a_ridge_regression():
    X, y = make_data(30, 50)
    model = GroupLasso(0.05, groups=50, tol=1e-12).fit(X, y)
    centred = X - X.mean(axis=0)
    # X'(y - Xb) / n = alpha sqrt(p) b / ||b||
    shrinkage = 0.05 * np.sqrt(50) / np.linalg.norm(model.coef_) * 30
    ridge = np.linalg.solve(centred.T @ centred + shrinkage * np.eye(50), centred.T @ y)
    np.testing.assert_allclose(model.coef_, ridge, atol=1e-6)
    assert_optimal(model, X, y)


@FORMS
def test_exact_zeros_from_the_largest_strength_on(form):
    X, y = make_data()
    groups = np.arange(24) % 5
    alphas, coefs, gaps = group_lasso_path(form(X), y, groups=groups, alphas=3, fit_intercept=True)
    assert not np.any(coefs[:, [0]].toarray() if sparse.issparse(coefs) else coefs[:, 0])
    assert np.all(gaps >= 0)
    pulls = (X - X.mean(axis=0)).T @ (y - y.mean()) / len(y)
    largest = max(
        np.linalg.norm(pulls[groups == g]) / np.sqrt(np.sum(groups == g)) for g in range(5)
    )
    assert alphas[0] == pytest.approx(largest, rel=1e-9)
    for factor in (1.0, 2.0, 1e6):
        model = GroupLasso(factor * alphas[0], groups=groups).fit(form(X), y)
        np.testing.assert_array_equal(model.coef_, 0.0)
        assert model.intercept_ == pytest.approx(y.mean())
        assert not model.support_.any() and not model.group_support_.any()
    assert GroupLasso(0.99 * alphas[0], groups=groups, tol=1e-9).fit(X, y).group_support_.sum() == 1


def test_the_order_of_columns_does_not_matter():
    X, y = make_data(40, 30)
    order = np.random.default_rng(3).permutation(30)
    labels = np.repeat(np.arange(10), 3)
    model = GroupLasso(0.1, groups=labels, tol=1e-11).fit(X, y)
    shuffled = GroupLasso(0.1, groups=labels[order], tol=1e-11).fit(X[:, order], y)
    np.testing.assert_allclose(shuffled.coef_, model.coef_[order], atol=1e-5)
    np.testing.assert_array_equal(shuffled.group_support_, model.group_support_)


def test_labels_and_lists_are_equal():
    X, y = make_data()
    labels = np.array(list("cab"))[np.arange(24) % 3]
    lists = [np.flatnonzero(labels == label) for label in "abc"]
    weights = [1.0, 2.0, 3.0]
    by_label = GroupLasso(0.1, groups=labels, group_weights=weights).fit(X, y)
    by_list = GroupLasso(0.1, groups=lists, group_weights=weights).fit(X, y)
    np.testing.assert_array_equal(by_label.coef_, by_list.coef_)
    for ours, theirs in zip(by_label.groups_, lists, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    turned = GroupLasso(0.1, groups=lists[::-1], group_weights=weights[::-1], tol=1e-10).fit(X, y)
    np.testing.assert_allclose(turned.coef_, by_label.coef_, atol=1e-2)
    assert turned.objective_ == pytest.approx(by_label.objective_, rel=1e-5)
    np.testing.assert_array_equal(turned.groups_[0], lists[2])


@FORMS
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_weights_are_repetitions(form, fit_intercept):
    X, y = make_data()
    counts = np.random.default_rng(1).integers(0, 4, len(y))
    model = GroupLasso(0.05, groups=4, fit_intercept=fit_intercept, tol=1e-12)
    weighted = clone(model).fit(form(X), y, counts)
    repeated = clone(model).fit(np.repeat(X, counts, axis=0), np.repeat(y, counts))
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, atol=1e-6)
    assert weighted.intercept_ == pytest.approx(repeated.intercept_, abs=1e-6)
    assert weighted.objective_ == pytest.approx(repeated.objective_, rel=1e-10)
    assert_optimal(weighted, X, y, counts)


def test_sparse_paths_are_dense_paths():
    rng = np.random.default_rng(0)
    X = sparse.random_array((80, 120), density=0.1, rng=rng, format="csr")
    y = X[:, :5].sum(axis=1) + 0.1 * rng.standard_normal(80)
    for fit_intercept in (True, False):
        options = {"groups": 4, "alphas": 8, "fit_intercept": fit_intercept, "tol": 1e-10}
        alphas, coefs, _ = group_lasso_path(X, y, **options)
        expected, dense, gaps = group_lasso_path(X.toarray(), y, **options)
        np.testing.assert_allclose(alphas, expected, rtol=1e-12)
        assert isinstance(coefs, sparse.csc_array) and isinstance(dense, np.ndarray)
        np.testing.assert_allclose(coefs.toarray(), dense, atol=1e-4)
        assert coefs.shape == (120, 8) and gaps.shape == (8,)


def test_sparse_designs_stay_sparse():
    """100,000 x 20,000 numbers would need 16 GB."""
    rng = np.random.default_rng(0)
    X = sparse.random_array((100_000, 20_000), density=1e-5, rng=rng, format="csc")
    y = X[:, :10].sum(axis=1) + 0.01 * rng.standard_normal(100_000)
    _, _, gaps = group_lasso_path(X, y, groups=5, alphas=3, eps=0.5, fit_intercept=True)
    assert np.all(gaps <= 1e-6 * y.var() / 2)


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_scaling(scale):
    X, y = make_data()
    model = GroupLasso(0.1, groups=3, tol=1e-11).fit(X, y)
    response = GroupLasso(0.1 * scale, groups=3, tol=1e-11).fit(X, scale * y)
    np.testing.assert_allclose(response.coef_, scale * model.coef_, atol=1e-5 * scale)
    assert response.dual_gap_ <= 1e-11 * (scale * y).var() / 2
    both = GroupLasso(0.1 * scale**2, groups=3, tol=1e-11).fit(scale * X, scale * y)
    np.testing.assert_allclose(both.coef_, model.coef_, atol=1e-5)


def test_rotations_within_groups_do_not_matter():
    X, y = make_data()
    rng = np.random.default_rng(0)
    turned, rotations = X.copy(), []
    for k in range(6):
        rotations.append(np.linalg.qr(rng.standard_normal((4, 4)))[0])
        turned[:, 4 * k : 4 * k + 4] = X[:, 4 * k : 4 * k + 4] @ rotations[k]
    model = GroupLasso(0.1, groups=4, tol=1e-11).fit(X, y)
    other = GroupLasso(0.1, groups=4, tol=1e-11).fit(turned, y)
    for k, Q in enumerate(rotations):
        columns = slice(4 * k, 4 * k + 4)
        np.testing.assert_allclose(Q @ other.coef_[columns], model.coef_[columns], atol=1e-5)


@FORMS
def test_groups_without_a_penalty_are_projected_out(form):
    X, y = make_data(40, 20)
    groups = [[3, 0], [1, 2, 19, 4], [5, 6, 7], np.arange(8, 19)]
    weights = np.array([0.0, 1.5, 2.0, 3.0])
    model = GroupLasso(0.08, groups=groups, group_weights=weights, tol=1e-11).fit(form(X), y)
    assert_optimal(model, X, y)
    assert model.group_support_[0]
    free, rest = [3, 0], np.setdiff1d(np.arange(20), [3, 0])
    C = np.column_stack([np.ones(40), X[:, free]])
    annihilate = np.eye(40) - C @ np.linalg.pinv(C)
    position = {j: i for i, j in enumerate(rest)}
    inner = [[position[j] for j in g] for g in groups[1:]]
    reduced = GroupLasso(
        0.08, groups=inner, group_weights=weights[1:], fit_intercept=False, tol=1e-11
    ).fit(annihilate @ X[:, rest], annihilate @ y)
    np.testing.assert_allclose(model.coef_[rest], reduced.coef_, atol=1e-5)
    refit = np.linalg.lstsq(C, y - X[:, rest] @ model.coef_[rest])[0]
    np.testing.assert_allclose(model.coef_[free], refit[1:], atol=1e-8)
    assert model.intercept_ == pytest.approx(refit[0])


def test_dependent_columns_without_a_penalty():
    X, y = make_data(40, 12)
    X[:, 1] = 2 * X[:, 0]
    X[:, 2] = 5.0
    X[:, 4] = X[:, 0]
    weights = [0.0, 1.0, 1.0]
    model = GroupLasso(0.05, groups=4, group_weights=weights, tol=1e-10).fit(X, y)
    assert_optimal(model, X, y)
    assert model.coef_[2] == 0.0
    # Column 4 has nothing that the unpenalised column 0 does not have.
    assert model.coef_[4] == pytest.approx(0.0, abs=1e-10)
    alphas, coefs, _ = group_lasso_path(
        X, y, groups=4, group_weights=weights, alphas=5, fit_intercept=True
    )
    assert not np.any(coefs[4:, 0]) and np.any(coefs[:4, 0])
    assert np.all(np.diff(alphas) < 0)


@FORMS
def test_awkward_columns(form):
    X, y = make_data(40, 24)
    X[:, 1] = X[:, 0]
    X[:, 9] = X[:, 0]
    X[:, 4:8] = 3.0
    X[:, 12:16] = X[:, 16:20]
    X[:, 20] = 0.0
    for alpha in (0.3, 0.01):
        model = GroupLasso(alpha, groups=4, tol=1e-9).fit(form(X), y)
        assert_optimal(model, X, y)
        np.testing.assert_array_equal(model.coef_[4:8], 0.0)
        assert model.coef_[20] == 0.0
        assert model.coef_[0] == pytest.approx(model.coef_[1], abs=1e-4)


@pytest.mark.parametrize("shape", [(25, 14), (9, 57)])
def test_groups_in_one_direction(shape):
    """The objective is linear along exchanges between groups, until one of them ends."""
    rng = np.random.default_rng(0)
    X = np.outer(rng.standard_normal(shape[0]), rng.uniform(0.5, 2.0, shape[1]))
    y = X[:, 0] + 0.1 * rng.standard_normal(shape[0])
    labels = rng.integers(0, 5, shape[1])
    weights = rng.uniform(0.9, 1.1, np.unique(labels).size)
    model = GroupLasso(1e-3, groups=labels, group_weights=weights, tol=1e-9).fit(X, y)
    assert_optimal(model, X, y)
    assert model.group_support_.sum() == 1
    assert model.n_iter_ <= 20


@pytest.mark.parametrize("form", [np.asarray, sparse.csc_array])
def test_means_far_from_zero(form):
    """Columns whose means are 1e8 standard deviations away keep eight digits, no more."""
    X, y = make_data(50, 20, shift=0.0)
    far = X + 1e8
    near = far - far.mean(axis=0)
    model = GroupLasso(0.1, groups=4).fit(form(far), y)
    reference = GroupLasso(0.1, groups=4, tol=1e-10).fit(near, y)
    assert model.converged_
    assert model.objective_ - reference.objective_ <= 2e-6 * y.var() / 2
    np.testing.assert_array_equal(model.group_support_, reference.group_support_)
    np.testing.assert_allclose(model.coef_, reference.coef_, atol=5e-3)


def test_small_and_degenerate_data():
    X, y = make_data(30, 6)
    one = GroupLasso(0.1, groups=2).fit(X[:1], y[:1])
    np.testing.assert_array_equal(one.coef_, 0.0)
    assert one.intercept_ == y[0] and one.converged_
    through = GroupLasso(0.1, groups=2, fit_intercept=False, tol=1e-10).fit(X[:1], y[:1])
    assert_optimal(through, X[:1], y[:1])
    constant = GroupLasso(0.1, groups=2).fit(X, np.full(30, 7.0))
    np.testing.assert_array_equal(constant.coef_, 0.0)
    assert constant.intercept_ == 7.0 and constant.dual_gap_ == 0.0
    single = GroupLasso(0.1).fit(X[:, :1], y)
    assert single.coef_.shape == (1,)
    same = GroupLasso(0.1, groups=3, tol=1e-9).fit(np.repeat(X[:, :1], 6, axis=1), y)
    np.testing.assert_allclose(same.coef_[:3], same.coef_[0], rtol=1e-5)
    integers = GroupLasso(0.1, groups=2).fit(np.round(X).astype(int), np.round(y).astype(int))
    assert integers.coef_.dtype == np.float64


def test_interpolation_is_reached():
    X, y = make_data(15, 90, seed=2)
    model = GroupLasso(1e-5, groups=3, tol=1e-8).fit(X, y)
    assert_optimal(model, X, y)
    np.testing.assert_allclose(model.predict(X), y, atol=1e-2)


def test_groups_larger_than_the_sample():
    X, y = make_data(10, 60, seed=4)
    for alpha in (0.5, 0.01):
        assert_optimal(GroupLasso(alpha, groups=30, tol=1e-9).fit(X, y), X, y)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 25),
    st.integers(1, 15),
    st.floats(1e-3, 1.0),
    st.booleans(),
)
def test_any_partition_of_any_small_design(seed, n, p, fraction, fit_intercept):
    rng = np.random.default_rng(seed)
    X, y = rng.standard_normal((n, p)), rng.standard_normal(n)
    X[:, rng.integers(p)] = X[:, rng.integers(p)]
    labels = rng.integers(0, 5, p)
    weights = rng.uniform(0.2, 3.0, np.unique(labels).size)
    if weights.size > 1:
        weights[rng.integers(weights.size)] = 0.0
    options = {"groups": labels, "group_weights": weights, "fit_intercept": fit_intercept}
    alpha = fraction * max(group_lasso_path(X, y, alphas=1, **options)[0][0], 1e-3)
    assert_optimal(GroupLasso(alpha, tol=1e-7, **options).fit(X, y), X, y, rounding=1e-12)


def test_a_path_equals_single_fits():
    X, y = make_data(50, 60)
    alphas, coefs, gaps = group_lasso_path(X, y, groups=5, alphas=12, fit_intercept=True, tol=1e-10)
    assert alphas.shape == (12,) and coefs.shape == (60, 12) and gaps.shape == (12,)
    np.testing.assert_allclose(alphas[-1], 1e-3 * alphas[0])
    for k in (3, 8, 11):
        model = GroupLasso(alphas[k], groups=5, tol=1e-10).fit(X, y)
        np.testing.assert_allclose(coefs[:, k], model.coef_, atol=1e-3)
    grid, _, _ = group_lasso_path(X, y, groups=5, alphas=[0.1, 0.5])
    np.testing.assert_array_equal(grid, [0.5, 0.1])


def test_points_of_a_path():
    """What cross-validation relies on."""
    X, y = make_data(50, 60)
    problem = make_problem(X, y, None, fit_intercept=True, gram_limit=0)
    indices, ptr = check_groups(5, 60)
    path = GroupPath(problem, indices, ptr, np.ones(12), tol=1e-8, max_iter=100)
    largest = path.alpha_max()
    point = path.at(0.1 * largest)
    model = GroupLasso(0.1 * largest, groups=5, group_weights="ones", tol=1e-8).fit(X, y)
    np.testing.assert_array_equal(point.features, np.flatnonzero(model.coef_))
    np.testing.assert_allclose(point.values, model.coef_[point.features], rtol=1e-3)
    assert point.objective == pytest.approx(path.objective(0.1 * largest) / 50, rel=1e-9)
    assert point.converged and not point.stopped and point.rounding == 0.0
    # The largest strength belongs to the data, wherever the path stands.
    assert path.alpha_max() == pytest.approx(largest, rel=1e-14)
    assert path.at(0.1 * largest).n_iter <= 1


def test_the_gap_bounds_the_distance_to_the_optimum():
    X, y = make_data(30, 120)
    best = GroupLasso(0.02, groups=4, tol=1e-12).fit(X, y).objective_
    for max_iter in (1, 2, 3):
        with pytest.warns(ConvergenceWarning, match=r"duality gap .* exceeds the required"):
            early = GroupLasso(0.02, groups=4, tol=1e-12, max_iter=max_iter).fit(X, y)
        assert not early.converged_ and early.n_iter_ <= max_iter
        assert early.objective_ - best <= early.dual_gap_ * (1 + 1e-9)
    with pytest.warns(ConvergenceWarning, match="penalty strengths"):
        group_lasso_path(X, y, groups=4, alphas=5, tol=1e-13, max_iter=1)


def test_warm_start():
    X, y = make_data(40, 100)
    model = GroupLasso(0.02, groups=5, warm_start=True).fit(X, y)
    cold = model.n_iter_
    first = model.coef_
    assert model.fit(X, y).n_iter_ < cold
    np.testing.assert_allclose(model.coef_, first, atol=1e-3)
    assert model.fit(X[:, :50], y).coef_.shape == (50,)
    free = GroupLasso(0.02, groups=5, group_weights=[0.0] + [1.0] * 19, warm_start=True)
    again = free.fit(X, y).coef_
    np.testing.assert_allclose(free.fit(X, y).coef_, again, atol=1e-2)
    assert_optimal(free, X, y)


def test_float32_and_frames():
    X, y = make_data()
    double = GroupLasso(0.1, groups=4).fit(X.astype(np.float32).astype(np.float64), y)
    single = GroupLasso(0.1, groups=4).fit(X.astype(np.float32), y)
    assert single.coef_.dtype == np.float32 and isinstance(single.intercept_, float)
    np.testing.assert_allclose(single.coef_, double.coef_, rtol=1e-6)
    frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(24)])
    model = GroupLasso(0.1, groups=4).fit(frame, y)
    names = model.get_feature_names_out()
    assert list(names) == [f"x{j}" for j in np.flatnonzero(model.support_)]
    np.testing.assert_array_equal(model.transform(frame), X[:, model.support_])
    np.testing.assert_array_equal(model.sparse_coef_.toarray()[0], model.coef_)
    np.testing.assert_allclose(model.predict(frame), X @ model.coef_ + model.intercept_)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(frame), model.predict(frame))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"alpha": 0.0}, r"LinearRegression.*alpha must be positive.*group_weights"),
        ({"alpha": -1.0}, "alpha"),
        ({"groups": [0] * 23}, "one label for each of the 24 columns, got 23"),
        ({"groups": [[0, 1]]}, "22 are in no group"),
        ({"groups": 5}, "divisor"),
        ({"groups": 4, "group_weights": [1.0] * 5}, r"shape \(6,\)"),
        ({"groups": 4, "group_weights": [0.0] * 6}, "at least one positive"),
        ({"group_weights": "size"}, "group_weights"),
        ({"tol": 0.0}, "tol"),
        ({"max_iter": 0}, "max_iter"),
    ],
)
def test_refused(parameters, message):
    X, y = make_data()
    with pytest.raises(ValueError, match=message):
        GroupLasso(**parameters).fit(X, y)


def test_path_refuses():
    X, y = make_data()
    with pytest.raises(ValueError, match="overlap"):
        group_lasso_path(X, y, groups=[[0, 1], np.arange(1, 24)])
    with pytest.raises(ValueError, match="alphas"):
        group_lasso_path(X, y, groups=4, alphas=[0.0])
    with pytest.raises(ValueError, match="NaN"):
        group_lasso_path(np.full((3, 2), np.nan), y[:3], groups=2)
    with pytest.raises(ValueError, match="sample_weight"):
        group_lasso_path(X, y, groups=4, sample_weight=-np.ones(60))


@pytest.mark.filterwarnings("ignore:No features were selected:UserWarning")
def test_every_check_of_scikit_learn():
    results = check_estimator(GroupLasso(), on_skip=None)
    assert sum(result["status"] == "passed" for result in results) >= 35
