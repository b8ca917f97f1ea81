"""Sparse logistic regression: optimality, witnesses, invariances, and difficult data."""

import warnings

import cvxpy as cp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.special import expit, logsumexp, softmax
from sklearn.datasets import load_breast_cancer, load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.preprocessing import scale

from sparsestat.linear_model import (
    CVDisplay,
    RegularizationPathDisplay,
    SparseLogisticRegression,
    SparseLogisticRegressionCV,
    logistic_path,
)
from sparsestat.linear_model._logistic_path import encode_classes
from sparsestat.solvers._logistic import LogisticSolver


def draw(n=80, p=30, n_classes=2, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) * rng.uniform(0.5, 2.0, p) + rng.normal(size=p)
    B = np.zeros((p, n_classes))
    B[:4] = rng.normal(size=(4, n_classes))
    P = softmax(X @ B, axis=1)
    y = np.array([rng.choice(n_classes, p=row) for row in P])
    y[:n_classes] = np.arange(n_classes)
    return X, y


def judge(model, X, y, *, alpha=None, factors=None, weights=None):
    """The objective, and a dual bound by a formula of its own, from scratch."""
    X = X.toarray() if sparse.issparse(X) else np.asarray(X, dtype=float)
    n, p = X.shape
    w = np.ones(n) if weights is None else np.asarray(weights, dtype=float)
    s = np.ones(p) if factors is None else np.asarray(factors, dtype=float)
    alpha = model.alpha if alpha is None else alpha
    total = w.sum()
    scores = X @ model.coef_.T.astype(float) + model.intercept_
    codes = np.searchsorted(model.classes_, y)
    if scores.shape[1] == 1:
        scores = np.hstack([np.zeros((n, 1)), scores])
    logs = scores - logsumexp(scores, axis=1, keepdims=True)
    loss = -w @ logs[np.arange(n), codes] / total
    objective = loss + alpha * s @ np.abs(model.coef_).sum(axis=0)
    Y = np.eye(len(model.classes_))[codes]
    residual = w[:, None] * (Y - np.exp(logs)) / total
    correlations = X.T @ residual
    if len(model.classes_) == 2:
        residual, correlations = residual[:, 1:], correlations[:, 1:]
    return objective, correlations, residual


def assert_optimal(model, X, y, *, tol=1e-6, **options):
    """The conditions of optimality, and an honest gap."""
    objective, correlations, residual = judge(model, X, y, **options)
    factors = options.get("factors")
    alpha = options.get("alpha", getattr(model, "alpha", None))
    bars = alpha * (np.ones(len(correlations)) if factors is None else np.asarray(factors))
    assert model.objective_ == pytest.approx(objective, rel=1e-12)
    assert model.dual_gap_ >= 0.0
    assert model.converged_
    # Along one coefficient the loss bends by at most the second moment of its column.
    moment = np.max(
        np.average(
            np.square(np.asarray(X.todense() if sparse.issparse(X) else X)),
            axis=0,
            weights=options.get("weights"),
        )
    )
    slack = np.sqrt(2.0 * moment * max(model.dual_gap_, 1e-15)) + 1e-9
    assert np.all(np.abs(correlations) <= bars[:, None] + slack)
    coef = model.coef_.T
    active = coef != 0
    expected = (bars[:, None] * np.sign(coef))[active]
    assert_allclose(correlations[active], expected, atol=slack)
    if model.fit_intercept:
        assert_allclose(residual.sum(axis=0), 0.0, atol=slack)


every_design = pytest.mark.parametrize("form", [np.asfortranarray, sparse.csr_array])
every_number = pytest.mark.parametrize("n_classes", [2, 3, 4])


@every_design
@every_number
@pytest.mark.parametrize("alpha", [0.2, 0.02, 0.002])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_optimality(form, n_classes, alpha, fit_intercept):
    X, y = draw(n_classes=n_classes)
    X = form(X)
    model = SparseLogisticRegression(alpha, fit_intercept=fit_intercept).fit(X, y)
    assert_optimal(model, X, y)


@every_number
def test_an_interior_point_solver_agrees(n_classes):
    X, y = draw(60, 12, n_classes)
    model = SparseLogisticRegression(0.03).fit(X, y)
    B, b = cp.Variable((12, n_classes)), cp.Variable((1, n_classes))
    scores = X @ B + np.ones((60, 1)) @ b
    chosen = cp.sum(cp.multiply(np.eye(n_classes)[y], scores))
    penalty = cp.sum(cp.abs(B[:, 1] - B[:, 0])) if n_classes == 2 else cp.sum(cp.abs(B))
    loss = (cp.sum(cp.log_sum_exp(scores, axis=1)) - chosen) / 60
    value = cp.Problem(cp.Minimize(loss + 0.03 * penalty)).solve(solver="CLARABEL")
    assert model.objective_ == pytest.approx(value, abs=2e-7)


def test_scikit_learn_agrees():
    X, y = load_breast_cancer(return_X_y=True)
    X = scale(X)
    model = SparseLogisticRegression(0.02).fit(X, y)
    other = LogisticRegression(
        l1_ratio=1.0, C=1 / (0.02 * len(y)), solver="saga", tol=1e-9, max_iter=20_000
    ).fit(X, y)
    assert_allclose(model.coef_, other.coef_, atol=1e-5)
    assert_allclose(model.predict_proba(X), other.predict_proba(X), atol=1e-6)
    assert_array_equal(model.predict(X), other.predict(X))


@given(st.integers(0, 10_000), st.floats(0.005, 0.5))
def test_no_coefficients_are_below_the_bound(seed, alpha):
    X, y = draw(25, 6, seed=seed % 7)
    model = SparseLogisticRegression(alpha).fit(X, y)
    rng = np.random.default_rng(seed)
    signs = np.where(y == 1, -1.0, 1.0)
    for size in (1e-3, 0.1, 1.0):
        coef = model.coef_[0] + size * rng.standard_normal(6) * (rng.random(6) < 0.5)
        constant = model.intercept_[0] + size * rng.standard_normal()
        value = np.logaddexp(0.0, signs * (X @ coef + constant)).mean()
        value += alpha * np.abs(coef).sum()
        assert value >= model.objective_ - model.dual_gap_ - 1e-12


@every_design
@every_number
def test_nothing_is_selected_from_the_largest_strength_on(form, n_classes):
    X, y = draw(n_classes=n_classes)
    X = form(X)
    alphas, coefs, intercepts, _ = logistic_path(X, y, alphas=5)
    coefs = coefs.toarray() if sparse.issparse(coefs) else coefs
    assert not np.any(coefs[..., 0])
    assert np.any(coefs[..., 1])
    model = SparseLogisticRegression(alphas[0] * 1.0001).fit(X, y)
    assert not np.any(model.support_)
    shares = np.bincount(y) / len(y)
    assert_allclose(model.predict_proba(X), np.tile(shares, (len(y), 1)), atol=1e-9)
    assert_allclose(
        intercepts[..., 0], model.intercept_ if n_classes > 2 else model.intercept_[0], atol=1e-9
    )


def test_path_points_are_fits():
    X, y = draw(n_classes=3)
    alphas, coefs, intercepts, gaps = logistic_path(X, y, alphas=8, eps=1e-2)
    assert coefs.shape == (3, 30, 8) and intercepts.shape == (3, 8) and gaps.shape == (8,)
    for k in (2, 7):
        model = SparseLogisticRegression(alphas[k]).fit(X, y)
        assert_allclose(coefs[:, :, k], model.coef_, atol=2e-2 * np.abs(model.coef_).max())
        assert gaps[k] <= 1e-6 * np.log(3)


def test_unpenalised_features_are_ordinary_logistic_regression():
    X, y = draw(120, 5)
    factors = np.array([0.0, 0.0, 1.0, 1.0, 1.0])
    model = SparseLogisticRegression(10.0, penalty_factor=factors).fit(X, y)
    assert_array_equal(model.support_, factors == 0.0)
    plain = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000).fit(X[:, :2], y)
    assert_allclose(model.coef_[0, :2], plain.coef_[0], rtol=1e-5)
    mixed = SparseLogisticRegression(0.05, penalty_factor=[0.0, 2.0, 1.0, 0.5, 1.0]).fit(X, y)
    assert_optimal(mixed, X, y, factors=[0.0, 2.0, 1.0, 0.5, 1.0])


@every_design
@every_number
def test_weights_are_repetitions(form, n_classes):
    X, y = draw(40, 10, n_classes)
    weights = np.random.default_rng(1).integers(0, 4, 40)
    weights[:n_classes] = 1
    weighted = SparseLogisticRegression(0.02).fit(form(X), y, sample_weight=weights)
    repeated = SparseLogisticRegression(0.02).fit(
        form(np.repeat(X, weights, axis=0)), np.repeat(y, weights)
    )
    assert_allclose(weighted.coef_, repeated.coef_, atol=1e-9)
    assert_optimal(weighted, form(X), y, weights=weights)


def test_class_weights_are_sample_weights():
    X, y = draw(60, 8, 3)
    given_weights = {0: 1.0, 1: 3.0, 2: 0.5}
    by_class = SparseLogisticRegression(0.02, class_weight=given_weights).fit(X, y)
    by_row = SparseLogisticRegression(0.02).fit(
        X, y, sample_weight=np.vectorize(given_weights.get)(y)
    )
    assert_array_equal(by_class.coef_, by_row.coef_)
    balanced = SparseLogisticRegression(0.02, class_weight="balanced").fit(X, y)
    assert_allclose(balanced.intercept_.sum(), 0.0, atol=1e-12)
    weights = 60 / (3 * np.bincount(y))[y]
    assert_optimal(balanced, X, y, weights=weights)
    with pytest.raises(ValueError, match=r"leave every class of y some weight.*class 1"):
        SparseLogisticRegression(class_weight={0: 1.0, 1: 0.0, 2: 1.0}).fit(X, y)


def test_labels_of_any_type_and_order():
    X, y = draw(60, 8, 3)
    names = np.array(["c", "a", "b"])[y]
    model = SparseLogisticRegression(0.02).fit(pd.DataFrame(X).add_prefix("x"), names)
    assert_array_equal(model.classes_, ["a", "b", "c"])
    order = np.argsort(["c", "a", "b"])
    plain = SparseLogisticRegression(0.02).fit(X, y)
    assert_allclose(model.coef_, plain.coef_[order], atol=1e-9)
    assert list(model.get_feature_names_out()) == [f"x{j}" for j in np.flatnonzero(model.support_)]


@every_number
def test_probabilities_belong_to_the_scores(n_classes):
    X, y = draw(n_classes=n_classes)
    model = SparseLogisticRegression(0.01).fit(X, y)
    P = model.predict_proba(X)
    assert_allclose(P.sum(axis=1), 1.0, rtol=1e-14)
    assert_allclose(np.log(P), model.predict_log_proba(X), rtol=1e-12, atol=1e-14)
    assert_array_equal(model.predict(X), model.classes_[P.argmax(axis=1)])
    scores = model.decision_function(X)
    expected = P[:, 1] if n_classes == 2 else P
    assert_allclose(expit(scores) if n_classes == 2 else softmax(scores, axis=1), expected)
    far = model.predict_log_proba(X * 1e4)
    assert np.all(np.isfinite(far))


def test_separable_classes_have_finite_coefficients():
    X = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    y = np.array([0, 0, 1, 1])
    for alpha in (1e-2, 1e-4, 1e-6):
        model = SparseLogisticRegression(alpha).fit(X, y)
        assert_optimal(model, X, y)
    # Only the rows at one count for a large coefficient b: exp(-b) / 2 = alpha.
    assert model.coef_[0, 0] == pytest.approx(-np.log(2e-6), rel=1e-3)


def test_columns_far_from_zero_constant_and_duplicated():
    X, y = draw(80, 6)
    reference = SparseLogisticRegression(0.02).fit(X, y)
    moved = SparseLogisticRegression(0.02).fit(X + 1e8, y)
    assert_allclose(moved.coef_, reference.coef_, rtol=1e-5, atol=1e-7)
    assert_allclose(moved.predict_proba(X + 1e8), reference.predict_proba(X), atol=1e-6)
    more = np.column_stack([X, np.full(80, 7.0), np.zeros(80), X[:, 0]])
    for form in (np.asarray, sparse.csc_array):
        model = SparseLogisticRegression(0.02).fit(form(more), y)
        assert not np.any(model.coef_[0, 6:8])
        assert model.objective_ == pytest.approx(reference.objective_, abs=1e-7)
        assert_optimal(model, form(more), y)


def test_wide_data_and_integers():
    rng = np.random.default_rng(3)
    X = rng.integers(-2, 3, size=(30, 400))
    y = rng.integers(0, 2, 30)
    model = SparseLogisticRegression(0.05).fit(X, y)
    assert_optimal(model, X, y)
    single = SparseLogisticRegression(0.05).fit(X.astype(np.float32), y)
    assert single.coef_.dtype == np.float32
    assert_allclose(single.coef_, model.coef_, atol=1e-6)


def test_what_has_not_converged_says_so():
    X, y = draw(80, 30)
    with pytest.warns(ConvergenceWarning, match=r"dual gap|duality gap .* after 1 Newton steps"):
        model = SparseLogisticRegression(1e-3, max_iter=1).fit(X, y)
    assert not model.converged_
    objective, *_ = judge(model, X, y)
    best = SparseLogisticRegression(1e-3).fit(X, y).objective_
    assert objective - best <= model.dual_gap_


def test_warm_starts():
    X, y = draw(80, 30, 3)
    model = SparseLogisticRegression(0.01, warm_start=True).fit(X, y)
    cold, first = model.coef_, model.n_iter_
    model.fit(X, y)
    assert model.n_iter_ < first
    assert_allclose(model.coef_, cold, atol=1e-8)
    # Another number of classes, or of columns, starts anew.
    model.fit(X[:, :7], np.where(y == 2, 1, y))
    assert model.coef_.shape == (1, 7)


@pytest.mark.parametrize(
    "bad, message",
    [
        (np.zeros(80), "only one class"),
        (np.linspace(0, 1, 80), "Unknown label type"),
    ],
)
def test_targets_that_are_no_classes(bad, message):
    X, _ = draw()
    for estimator in (SparseLogisticRegression(), SparseLogisticRegressionCV()):
        with pytest.raises(ValueError, match=message):
            estimator.fit(X, bad)
    with pytest.raises(ValueError, match=message):
        logistic_path(X, bad)


def test_no_penalty_is_refused_with_advice():
    X, y = draw()
    with pytest.raises(ValueError, match=r"alpha=0 asks for logistic.*LogisticRegression"):
        SparseLogisticRegression(0.0).fit(X, y)


def test_the_objective_never_rises():
    X, y = draw(100, 60, 3)
    solver = LogisticSolver(
        np.asfortranarray(X - X.mean(axis=0)), np.eye(3)[y], np.ones(100), fit_intercept=True
    )
    thresholds = np.full(60, 0.8)
    seen = []
    solver.solve(thresholds, 1e-8, 100, lambda: seen.append(solver.objective(thresholds)))
    last = seen[-4:]
    assert np.all(np.diff(last) <= 1e-12 * abs(last[0]))
    assert len(seen) > 3


# --- search ------------------------------------------------------------------------------


@every_number
def test_search_equals_the_folds_by_hand(n_classes):
    X, y = draw(90, 12, n_classes)
    folds = list(StratifiedKFold(3).split(X, y))
    search = SparseLogisticRegressionCV(alphas=[0.2, 0.05, 0.01], cv=folds).fit(X, y)
    for column, (train, test) in enumerate(folds):
        for row, alpha in enumerate(search.alphas_):
            model = SparseLogisticRegression(alpha).fit(X[train], y[train])
            logs = model.predict_log_proba(X[test])
            expected = -logs[np.arange(len(test)), y[test]].mean()
            assert search.log_loss_path_[row, column] == pytest.approx(expected, abs=1e-3)
    best = np.argmin(search.log_loss_path_.mean(axis=1))
    assert search.alpha_ == search.alphas_[best]
    model = SparseLogisticRegression(search.alpha_).fit(X, y)
    assert_allclose(search.predict_proba(X), model.predict_proba(X), atol=1e-3)
    grid = GridSearchCV(
        SparseLogisticRegression(), {"alpha": [0.2, 0.05, 0.01]}, cv=folds, scoring="neg_log_loss"
    ).fit(X, y)
    assert grid.best_params_["alpha"] == search.alpha_


def test_search_by_criterion():
    X, y = draw(200, 15)
    n_nonzero = {}
    for criterion in ("aic", "bic", "ebic"):
        model = SparseLogisticRegressionCV(alphas=20, criterion=criterion).fit(X, y)
        losses = []
        for k, alpha in enumerate(model.alphas_):
            coef = model.coef_path_[:, k]
            price = {"aic": 2, "bic": np.log(200), "ebic": np.log(200) + 2 * np.log(15)}
            fit = SparseLogisticRegression(alpha).fit(X, y)
            loss = -fit.predict_log_proba(X)[np.arange(200), y].sum()
            losses.append(2 * loss + price[criterion] * np.count_nonzero(coef))
        assert_allclose(model.criterion_path_, losses, rtol=1e-3)
        n_nonzero[criterion] = model.support_.sum()
    assert n_nonzero["aic"] >= n_nonzero["bic"] >= n_nonzero["ebic"]


def test_one_standard_error_and_threads():
    X, y = load_iris(return_X_y=True)
    X = scale(X)
    plain = SparseLogisticRegressionCV(alphas=20).fit(X, y)
    other = SparseLogisticRegressionCV(alphas=20, selection="1se", n_jobs=2).fit(X, y)
    assert_array_equal(plain.log_loss_path_, other.log_loss_path_)
    assert other.alpha_ == plain.alpha_1se_ >= plain.alpha_
    k = list(other.alphas_).index(other.alpha_)
    best = np.argmin(plain.log_loss_mean_)
    assert plain.log_loss_mean_[k] <= plain.log_loss_mean_[best] + plain.log_loss_std_[best]


def test_a_class_that_a_fold_has_not_seen():
    X, y = draw(30, 4)
    y[:] = 0
    y[:2] = 1
    folds = [(np.arange(2, 30), np.arange(2)), (np.arange(20), np.arange(20, 30))]
    with pytest.raises(ValueError, match="class 1 of y is missing from the training rows"):
        SparseLogisticRegressionCV(cv=folds).fit(X, y)


def test_displays_of_a_search():
    pytest.importorskip("matplotlib").use("Agg")
    X, y = load_iris(return_X_y=True, as_frame=True)
    model = SparseLogisticRegressionCV(alphas=15).fit(X, y)
    display = CVDisplay.from_estimator(model)
    assert display.ax_.get_ylabel() == "logarithmic loss"
    assert_array_equal(display.n_nonzero, (model.coef_path_ != 0).sum(axis=(0, 1)))
    path = RegularizationPathDisplay.from_estimator(model)
    labels = [text.get_text() for text in path.ax_.get_legend().get_texts()]
    assert any("petal" in label and label.endswith("(0)") for label in labels)


def test_many_classes():
    X, y = load_digits(return_X_y=True)
    X = X[:400] / 16.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = SparseLogisticRegression(0.005).fit(X, y[:400])
    assert_optimal(model, X, y[:400])


@pytest.mark.parametrize("weight", [np.inf, -3.0, np.nan])
def test_class_weights_that_are_no_weights(weight):
    X = np.random.default_rng(0).standard_normal((20, 3))
    y = np.repeat(["no", "yes"], 10)
    with pytest.raises(ValueError, match="class_weight must be finite and not negative, got"):
        SparseLogisticRegression(0.1, class_weight={"yes": weight}).fit(X, y)
    with pytest.raises(ValueError, match=r"class_weight must leave every class .* 'yes'"):
        SparseLogisticRegression(0.1, class_weight={"yes": 0.0}).fit(X, y)
    with pytest.raises(ValueError, match=r"sample_weight must leave every class .* 'yes'"):
        SparseLogisticRegression(0.1, class_weight="balanced").fit(X, y, y == "no")
    with pytest.raises(TypeError, match="labels of one type that can be sorted, got int, str"):
        encode_classes(np.array(["a", 1], dtype=object))
