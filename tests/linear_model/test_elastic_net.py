"""Lasso and ElasticNet are optimal, on ordinary data and at the edges."""

import warnings

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn import linear_model as peers
from sklearn.exceptions import ConvergenceWarning

from sparsestat.linear_model import ElasticNet, Lasso
from sparsestat.utils import GramAccumulator

from ._witness import largest_alpha, make_data, witness

SHAPES = {"tall": (60, 8), "wide": (20, 50), "square": (25, 25), "very tall": (300, 5)}


def judge(estimator, X, y, sample_weight=None):
    """Everything that a fitted estimator claims, checked against the witness."""
    found = witness(
        X,
        y,
        estimator.coef_,
        estimator.alpha,
        intercept=estimator.intercept_,
        l1_ratio=getattr(estimator, "l1_ratio", 1.0),
        penalty_factor=estimator.penalty_factor,
        positive=estimator.positive,
        sample_weight=sample_weight,
        fit_intercept=estimator.fit_intercept,
    )
    found.assert_optimal(estimator.dual_gap_, estimator.tol)
    assert estimator.objective_ == pytest.approx(found.objective, rel=1e-9, abs=found.rounding)
    assert estimator.converged_ is True
    np.testing.assert_array_equal(estimator.support_, estimator.coef_ != 0)
    return found


# --- random problems ---------------------------------------------------------------------

problems = st.fixed_dictionaries(
    {
        "shape": st.sampled_from([(40, 6), (12, 30), (15, 15), (90, 4)]),
        "rank": st.sampled_from([None, 2]),
        "seed": st.integers(0, 10**6),
        "l1_ratio": st.sampled_from([1.0, 0.9, 0.5, 0.05]),
        "strength": st.floats(1e-3, 1.2),
        "positive": st.booleans(),
        "fit_intercept": st.booleans(),
        "weighted": st.booleans(),
        "is_sparse": st.booleans(),
    }
)


@settings(max_examples=150)
@given(problems)
def test_the_objective_is_that_of_scikit_learn(problem):
    n, p = problem["shape"]
    X, y = make_data(n, p, problem["seed"], rank=problem["rank"])
    if problem["is_sparse"]:
        X = np.where(np.abs(X) > 0.7, X, 0.0)
    weights = None
    if problem["weighted"]:
        weights = np.random.default_rng(problem["seed"]).uniform(0.1, 3.0, n)
    options = {"l1_ratio": problem["l1_ratio"], "fit_intercept": problem["fit_intercept"]}
    alpha = problem["strength"] * largest_alpha(X, y, sample_weight=weights, **options)
    options |= {"alpha": alpha, "positive": problem["positive"]}
    data = sparse.csr_array(X) if problem["is_sparse"] else X
    ours = ElasticNet(**options).fit(data, y, sample_weight=weights)
    found = judge(ours, X, y, weights)
    peer = peers.ElasticNet(**options, tol=1e-10, max_iter=20000)
    with warnings.catch_warnings():
        # Its gap, which is counted below, says by how much it missed.
        warnings.simplefilter("ignore", ConvergenceWarning)
        peer.fit(X, y, sample_weight=weights)
    theirs = witness(
        X, y, peer.coef_, alpha, intercept=peer.intercept_, l1_ratio=problem["l1_ratio"],
        positive=problem["positive"], sample_weight=weights,
        fit_intercept=problem["fit_intercept"],
    )  # fmt: skip
    assert found.objective <= theirs.objective + 1e-6 * found.null
    assert theirs.objective <= found.objective + 1e-6 * found.null + abs(peer.dual_gap_)


@settings(max_examples=100)
@given(
    st.sampled_from([(30, 8), (12, 25), (80, 6)]),
    st.integers(0, 10**6),
    st.sampled_from([1.0, 0.6]),
    st.floats(1e-3, 1.0),
    st.booleans(),
    st.booleans(),
)
def test_factors_and_signs_per_feature(shape, seed, l1_ratio, strength, fit_intercept, is_sparse):
    X, y = make_data(*shape, seed)
    rng = np.random.default_rng(seed)
    factors = rng.choice([0.0, 0.3, 1.0, 4.0], shape[1], p=[0.1, 0.3, 0.3, 0.3])
    factors[0] = 1.0
    estimator = ElasticNet(
        alpha=strength * largest_alpha(X, y, fit_intercept=fit_intercept),
        l1_ratio=l1_ratio,
        penalty_factor=factors,
        positive=rng.random(shape[1]) < 0.4,
        fit_intercept=fit_intercept,
    )
    data = sparse.csc_array(X) if is_sparse else X
    weights = rng.integers(1, 4, shape[0]).astype(float)
    judge(estimator.fit(data, y, sample_weight=weights), X, y, weights)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("tol", [1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("estimator", [Lasso(), ElasticNet(l1_ratio=0.3)])
def test_every_tolerance_is_kept(shape, tol, estimator):
    X, y = make_data(*shape)
    for strength in (0.5, 0.05, 0.005):
        estimator.set_params(alpha=strength * largest_alpha(X, y), tol=tol)
        judge(estimator.fit(X, y), X, y)
        judge(estimator.fit(sparse.csc_array(X), y), X, y)


@pytest.mark.parametrize("l1_ratio", [1.0, 0.4])
def test_convex_programming_agrees(l1_ratio):
    X, y = make_data(20, 12, seed=4)
    factors = np.r_[0.0, 0.5, np.ones(9), 3.0]
    positive = np.arange(12) % 3 == 0
    weights = np.random.default_rng(0).uniform(0.5, 2.0, 20)
    b, b0 = cp.Variable(12), cp.Variable()
    loss = weights @ cp.square(y - X @ b - b0) / (2 * weights.sum())
    penalty = 0.2 * factors @ (l1_ratio * cp.abs(b) + (1 - l1_ratio) / 2 * cp.square(b))
    problem = cp.Problem(cp.Minimize(loss + penalty), [b[positive] >= 0])
    problem.solve(solver=cp.CLARABEL)
    ours = ElasticNet(
        0.2, l1_ratio=l1_ratio, penalty_factor=factors, positive=positive, tol=1e-10
    ).fit(X, y, sample_weight=weights)
    assert ours.objective_ == pytest.approx(problem.value, rel=1e-7)
    np.testing.assert_allclose(ours.coef_, b.value, atol=1e-4)
    assert ours.intercept_ == pytest.approx(b0.value, abs=1e-3)


# --- closed forms ------------------------------------------------------------------------


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("l1_ratio", [1.0, 0.25])
@pytest.mark.parametrize("shape", [(40, 10), (15, 15)])
def test_an_orthonormal_design_is_soft_thresholded(shape, l1_ratio, positive):
    rng = np.random.default_rng(1)
    Q = np.linalg.qr(rng.standard_normal(shape))[0]
    y = rng.standard_normal(shape[0])
    n, alpha = shape[0], 0.5 / shape[0]
    z = Q.T @ y
    expected = np.sign(z) * np.maximum(np.abs(z) - n * alpha * l1_ratio, 0.0)
    expected /= 1 + n * alpha * (1 - l1_ratio)
    if positive:
        expected = np.maximum(expected, 0.0)
    for data in (Q, sparse.csc_array(Q)):
        model = ElasticNet(
            alpha, l1_ratio=l1_ratio, positive=positive, fit_intercept=False, tol=1e-13
        ).fit(data, y)
        np.testing.assert_allclose(model.coef_, expected, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("l1_ratio", [1.0, 0.5])
def test_beyond_the_largest_alpha_all_is_exactly_zero(shape, l1_ratio):
    X, y = make_data(*shape)
    largest = largest_alpha(X, y, l1_ratio=l1_ratio)
    for data in (X, sparse.csc_array(X)):
        for alpha in (largest * (1 + 1e-10), 2 * largest, 1e6 * largest):
            model = ElasticNet(alpha, l1_ratio=l1_ratio).fit(data, y)
            assert not model.coef_.any()
            assert model.intercept_ == pytest.approx(y.mean())
        model = ElasticNet(largest * 0.99, l1_ratio=l1_ratio, tol=1e-9).fit(data, y)
        assert model.support_.sum() >= 1


@pytest.mark.parametrize("shape", [(50, 10), (15, 40)])
def test_without_an_l1_part_it_is_ridge_regression(shape):
    X, y = make_data(*shape)
    alpha = 0.3
    peer = peers.Ridge(alpha=alpha * len(X)).fit(X, y)
    model = ElasticNet(alpha, l1_ratio=0.0, tol=1e-12).fit(X, y)
    judge(model, X, y)
    np.testing.assert_allclose(model.coef_, peer.coef_, atol=1e-5)
    np.testing.assert_allclose(model.predict(X), peer.predict(X), atol=1e-5)


# --- penalty factors ---------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40, 12), (20, 45)])
@pytest.mark.parametrize("form", [np.asarray, sparse.csc_array])
def test_features_without_penalty_are_projected_out(shape, form):
    """The theorem of Frisch, Waugh and Lovell, with a penalty on the rest."""
    X, y = make_data(*shape, seed=2)
    free = [1, 4, 7]
    rest = np.setdiff1d(np.arange(shape[1]), free)
    factors = np.ones(shape[1])
    factors[free] = 0.0
    F = np.column_stack([np.ones(len(X)), X[:, free]])
    Q = np.linalg.qr(F)[0]
    X_rest, y_rest = X[:, rest] - Q @ (Q.T @ X[:, rest]), y - Q @ (Q.T @ y)
    alpha = 0.1 * np.max(np.abs(X_rest.T @ y_rest)) / len(X)
    projected = Lasso(alpha, fit_intercept=False, tol=1e-11).fit(X_rest, y_rest)
    model = Lasso(alpha, penalty_factor=factors, tol=1e-11).fit(form(X), y)
    judge(model, X, y)
    assert model.objective_ == pytest.approx(projected.objective_, rel=1e-8)
    np.testing.assert_allclose(
        X_rest @ model.coef_[rest], projected.predict(X_rest), atol=1e-4 * np.std(y)
    )
    expected = np.linalg.lstsq(F, y - X[:, rest] @ model.coef_[rest], rcond=None)[0]
    np.testing.assert_allclose(
        np.r_[model.intercept_, model.coef_[free]], expected, atol=1e-6 * np.abs(expected).max()
    )


@pytest.mark.parametrize("shape", [(60, 8), (30, 20)])
def test_all_but_one_feature_without_penalty(shape):
    X, y = make_data(*shape)
    for alpha in (1e-3, 0.1, 1e3):
        model = Lasso(alpha, penalty_factor=np.r_[1.0, np.zeros(shape[1] - 1)]).fit(X, y)
        judge(model, X, y)
    F = np.column_stack([np.ones(len(X)), X[:, 1:]])
    assert model.coef_[0] == 0.0
    np.testing.assert_allclose(
        model.predict(X), F @ np.linalg.lstsq(F, y, rcond=None)[0], atol=1e-6
    )


@pytest.mark.parametrize("shape", [(60, 8), (30, 50)])
def test_features_without_penalty_that_must_not_be_negative(shape):
    X, y = make_data(*shape, seed=3)
    factors = np.ones(shape[1])
    factors[:4] = 0.0
    for positive in (True, np.arange(shape[1]) < 2):
        for data in (X, sparse.csc_array(X)):
            model = Lasso(0.1, penalty_factor=factors, positive=positive).fit(data, y)
            judge(model, X, y)


def test_more_features_without_penalty_than_rows():
    X, y = make_data(10, 30)
    model = Lasso(0.1, penalty_factor=np.r_[np.zeros(20), np.ones(10)]).fit(X, y)
    np.testing.assert_allclose(model.predict(X), y, atol=1e-5 * np.std(y))


# --- invariances -------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(50, 10), (20, 45)])
@pytest.mark.parametrize("c", [1e-8, 1e-3, 1e3, 1e8])
def test_equivariance(shape, c):
    X, y = make_data(*shape)
    reference = Lasso(0.05, tol=1e-10).fit(X, y)
    judge(reference, X, y)
    scaled = Lasso(0.05 * c, tol=1e-10).fit(X, c * y)
    judge(scaled, X, c * y)
    np.testing.assert_allclose(scaled.predict(X) / c, reference.predict(X), rtol=1e-4)
    assert scaled.objective_ == pytest.approx(c**2 * reference.objective_, rel=1e-8)
    scaled = Lasso(0.05 * c, tol=1e-10).fit(c * X, y)
    judge(scaled, c * X, y)
    np.testing.assert_allclose(scaled.predict(c * X), reference.predict(X), rtol=1e-4)
    scaled = Lasso(0.05 * c**2, tol=1e-10).fit(sparse.csc_array(c * X), c * y)
    judge(scaled, c * X, c * y)


@pytest.mark.parametrize("shape", [(50, 10), (20, 45)])
def test_a_factor_undoes_the_scale_of_a_column(shape):
    X, y = make_data(*shape)
    scales = np.random.default_rng(0).choice([-100.0, 1e-3, 1.0, 7.0], shape[1])
    reference = Lasso(0.05, tol=1e-11).fit(X, y)
    scaled = Lasso(0.05, penalty_factor=np.abs(scales), tol=1e-11).fit(X * scales, y)
    judge(scaled, X * scales, y)
    assert scaled.objective_ == pytest.approx(reference.objective_, rel=1e-9)
    np.testing.assert_allclose(scaled.predict(X * scales), reference.predict(X), rtol=1e-4)


@pytest.mark.parametrize("shape", [(50, 10), (20, 45)])
@pytest.mark.parametrize("form", [np.asarray, sparse.csc_array])
def test_weights_are_repetitions(shape, form):
    X, y = make_data(*shape)
    weights = np.random.default_rng(0).integers(0, 4, shape[0])
    rows = np.repeat(np.arange(shape[0]), weights)
    weighted = Lasso(0.05, tol=1e-10).fit(form(X), y, sample_weight=weights)
    judge(weighted, X, y, weights)
    repeated = Lasso(0.05, tol=1e-10).fit(form(X[rows]), y[rows])
    assert weighted.objective_ == pytest.approx(repeated.objective_, rel=1e-8)
    np.testing.assert_allclose(weighted.predict(X), repeated.predict(X), rtol=1e-4)


# --- degenerate data ---------------------------------------------------------------------

FORMS = {"dense": np.asarray, "sparse": sparse.csc_array}


def _degenerate():
    rng = np.random.default_rng(0)
    X, y = make_data(30, 6)
    wide, wide_y = make_data(12, 20)
    yield "duplicates", np.hstack([X, X, X]), y
    yield "wide duplicates", np.hstack([wide, -wide]), wide_y
    yield "near duplicates", np.hstack([X, X + 1e-6 * rng.standard_normal(X.shape)]), y
    yield "zero column", np.hstack([X, np.zeros((30, 2))]), y
    yield "constant columns", np.hstack([X, np.full((30, 1), 7.3), np.full((30, 1), 1e9)]), y
    yield "constant y", X, np.full(30, 4.2)
    yield "zero y", X, np.zeros(30)
    yield "one row", X[:1], y[:1]
    yield "two rows", X[:2], y[:2]
    yield "one column", X[:, :1], y
    yield "one row and column", X[:1, :1], y[:1]
    yield "all equal", np.full((10, 4), 2.5), y[:10]
    yield "all zero", np.zeros((10, 4)), y[:10]
    yield "integers", np.rint(5 * X).astype(int), np.rint(y).astype(int)
    yield "objects", X.astype(object), y.astype(object)
    yield "booleans", X > 0, y


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("X, y", [pytest.param(X, y, id=name) for name, X, y in _degenerate()])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_degenerate_data(X, y, form, fit_intercept):
    if form == "sparse" and X.dtype == object:
        X = X.astype(float)
    for alpha in (1e-3, 0.1, 100.0):
        for l1_ratio in (1.0, 0.5):
            model = ElasticNet(alpha, l1_ratio=l1_ratio, fit_intercept=fit_intercept)
            model.fit(FORMS[form](X), y)
            found = judge(model, X.astype(float), y.astype(float))
            assert np.all(np.isfinite(model.predict(X)))
            if found.null <= found.rounding:
                assert not model.coef_.any()
    still = np.ptp(X.astype(float), axis=0) == 0
    if fit_intercept:
        assert not model.coef_[still].any()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_columns_of_different_scale(form, scale):
    X, y = make_data(40, 8)
    X[:, :4] *= scale
    model = Lasso(0.05).fit(FORMS[form](X), y)
    judge(model, X, y)


@pytest.mark.parametrize("shape", [(400, 5), (40, 10), (20, 45)])
@pytest.mark.parametrize("distance", [1e4, 1e8])
def test_columns_far_from_the_origin(shape, distance):
    """The mean is subtracted before anything is squared, tall data on cross products included."""
    X, y = make_data(*shape, shift=0.0)
    far = X + distance
    # What is left of the data after rounding is the truth.
    near = far - distance
    for response in (y, y + distance):
        model = Lasso(0.05).fit(far, response)
        reference = Lasso(0.05).fit(near, response - (distance if response is not y else 0.0))
        assert model.converged_
        # A coefficient of size one moves the mean by an error of the size of its rounding.
        scale = np.std(y)
        np.testing.assert_allclose(
            near @ model.coef_ - np.mean(near @ model.coef_),
            near @ reference.coef_ - np.mean(near @ reference.coef_),
            atol=5e-3 * scale,
        )
        residual = model.predict(far) - response
        assert abs(residual.mean()) <= 1e-6 * distance


def test_sparse_columns_far_from_the_origin_are_honest():
    """Centring implicitly loses digits; either the fit is good or it warns."""
    X, y = make_data(60, 10, shift=0.0)
    far = X + 1e8
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = Lasso(0.05).fit(sparse.csc_array(far), y)
    near = far - 1e8
    found = witness(near, y, model.coef_, 0.05)
    good = found.gap <= 1e-4 * found.null
    warned = any(issubclass(w.category, ConvergenceWarning) for w in caught)
    assert good or warned
    assert warned != model.converged_


# --- advice and warnings -----------------------------------------------------------------


@pytest.mark.parametrize("estimator", [Lasso(0), ElasticNet(0.0)])
def test_no_penalty_is_refused_with_advice(estimator):
    with pytest.raises(ValueError, match=r"LinearRegression.*alpha must be positive"):
        estimator.fit(*make_data(10, 3))


def test_a_fit_that_is_cut_short_says_so():
    X, y = make_data(50, 200, n_informative=30)
    with pytest.warns(ConvergenceWarning, match="duality gap") as caught:
        model = Lasso(1e-4, max_iter=1).fit(X, y)
    assert not model.converged_
    assert model.n_iter_ == 1
    message = str(caught[0].message)
    assert f"{model.dual_gap_:.3g}" in message
    assert f"{1e-6 * y.var() / 2:.3g}" in message
    assert caught[0].filename == __file__
    optimum = Lasso(1e-4, tol=1e-10).fit(X, y).objective_
    assert optimum <= model.objective_ <= optimum + model.dual_gap_


@given(st.integers(1, 12), st.integers(0, 1000), st.sampled_from([1.0, 0.5]), st.booleans())
@settings(max_examples=60)
def test_the_gap_bounds_the_distance_to_the_optimum(max_iter, seed, l1_ratio, free):
    X, y = make_data(25, 60, seed, n_informative=15)
    options = {"alpha": 0.01, "l1_ratio": l1_ratio}
    if free:
        options["penalty_factor"] = np.r_[np.zeros(3), np.ones(57)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = ElasticNet(**options, max_iter=max_iter, tol=1e-12).fit(X, y)
        optimum = ElasticNet(**options, tol=1e-10).fit(X, y)
    null = y.var() / 2
    assert model.dual_gap_ >= 0.0
    assert model.objective_ - model.dual_gap_ <= optimum.objective_ + 1e-13 * null
    assert model.objective_ >= optimum.objective_ - optimum.dual_gap_ - 1e-13 * null


# --- warm starts -------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(60, 20), (30, 150)])
@pytest.mark.parametrize("form", FORMS)
def test_a_warm_start_is_shorter_and_ends_at_the_same_objective(shape, form):
    X, y = make_data(*shape, n_informative=15)
    X = FORMS[form](X)
    alpha = 1e-3 * largest_alpha(make_data(*shape)[0], y)
    cold = Lasso(alpha).fit(X, y)
    warm = Lasso(alpha, warm_start=True).fit(X, y)
    assert warm.n_iter_ == cold.n_iter_ > 1
    again = warm.fit(X, y).n_iter_
    assert again < cold.n_iter_
    assert warm.objective_ == pytest.approx(cold.objective_, abs=1e-6 * np.var(y))
    warm.set_params(alpha=0.9 * alpha).fit(X, y)
    fresh = Lasso(0.9 * alpha).fit(X, y)
    assert warm.n_iter_ <= fresh.n_iter_
    assert warm.objective_ == pytest.approx(fresh.objective_, abs=1e-6 * np.var(y))


def test_a_warm_start_from_anything_reaches_the_optimum():
    X, y = make_data(30, 40)
    model = Lasso(0.05, warm_start=True, positive=True).fit(X, y)
    for start in (np.full(40, 1e3), -np.ones(40), np.zeros(40)):
        model.coef_ = start
        judge(model.fit(X, y), X, y)
    other, other_y = make_data(30, 12)
    judge(model.fit(other, other_y), other, other_y)


# --- sparse data -------------------------------------------------------------------------


@pytest.fixture
def no_densifying(monkeypatch):
    def refuse(self, *args, **kwargs):
        raise AssertionError("a sparse matrix was made dense")

    for kind in (sparse.csc_array, sparse.csr_array, sparse.csc_matrix, sparse.csr_matrix):
        for name in ("toarray", "todense"):
            monkeypatch.setattr(kind, name, refuse)


@pytest.mark.parametrize("shape", [(80, 20), (30, 200)])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_sparse_data_stay_sparse(shape, fit_intercept, no_densifying):
    X = sparse.random_array(shape, density=0.2, rng=np.random.default_rng(0), format="csc")
    y = X @ np.ones(shape[1]) + np.random.default_rng(1).standard_normal(shape[0])
    model = Lasso(0.01, fit_intercept=fit_intercept)
    for weights in (None, np.arange(shape[0]) % 3 + 1.0):
        model.fit(X, y, sample_weight=weights)
        assert model.converged_ and model.support_.any()
    model.predict(X)
    model.transform(X)


# --- cross products ----------------------------------------------------------------------


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_cross_products_are_as_good_as_the_data(fit_intercept, weighted):
    X, y = make_data(200, 12)
    weights = np.random.default_rng(0).integers(1, 5, 200) if weighted else None
    moments = GramAccumulator()
    for rows in (slice(0, 70), slice(70, 71), slice(71, 200)):
        moments.update(X[rows], y[rows], None if weights is None else weights[rows])
    moments = GramAccumulator.from_bytes(moments.to_bytes())
    factors = np.r_[0.0, np.ones(11)]
    for options in ({}, {"penalty_factor": factors}, {"positive": True}):
        model = ElasticNet(0.05, l1_ratio=0.8, fit_intercept=fit_intercept, tol=1e-9, **options)
        reference = ElasticNet(**model.get_params()).fit(X, y, sample_weight=weights)
        model.fit_gram(moments)
        judge(model, X, y, weights)
        assert model.objective_ == pytest.approx(reference.objective_, rel=1e-8)
        np.testing.assert_allclose(model.predict(X), reference.predict(X), rtol=1e-4)
    assert model.n_features_in_ == 12


def test_cross_products_of_more_features_than_rows():
    X, y = make_data(20, 45)
    model = Lasso(0.1).fit_gram(GramAccumulator().update(X, y))
    judge(model, X, y)


def test_rounding_of_cross_products_counts():
    """Where nearly all is explained, a difference of cross products cannot certify the rest."""
    X, _ = make_data(100, 6)
    moments = GramAccumulator().update(X, X @ np.arange(1.0, 7.0))
    with pytest.warns(ConvergenceWarning, match="rounding error of cross products"):
        model = Lasso(1e-9, tol=1e-15).fit_gram(moments)
    assert not model.converged_


def test_dask_arrays_are_fitted_by_their_cross_products():
    da = pytest.importorskip("dask.array")
    X, y = make_data(200, 12)
    weights = np.random.default_rng(0).integers(1, 5, 200)
    model = Lasso(0.05, tol=1e-9).fit(
        da.from_array(X, chunks=(37, 12)),
        da.from_array(y, chunks=50),
        sample_weight=da.from_array(weights, chunks=200),
    )
    judge(model, X, y, weights)


def test_what_is_no_statistic_is_refused():
    X, y = make_data(20, 3)
    with pytest.raises(TypeError, match="moments must be a GramAccumulator, got ndarray"):
        Lasso().fit_gram(X)
    for target in (None, np.column_stack([y, y])):
        moments = GramAccumulator().update(X, target)
        with pytest.raises(ValueError, match="moments must hold exactly one response"):
            Lasso().fit_gram(moments)
    with pytest.raises(ValueError, match="LinearRegression"):
        Lasso(0).fit_gram(GramAccumulator().update(X, y))


def test_names_of_an_earlier_fit_do_not_survive():
    pd = pytest.importorskip("pandas")
    X, y = make_data(20, 3)
    model = Lasso(0.1).fit(pd.DataFrame(X, columns=list("abc")), y)
    model.fit_gram(GramAccumulator().update(X, y))
    assert not hasattr(model, "feature_names_in_")


def test_names_of_a_dask_dataframe_are_kept():
    pd, dd = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    X, y = make_data(60, 4)
    frame = pd.DataFrame(X, columns=list("abcd"))
    lazy = dd.from_pandas(frame, npartitions=3)
    model = Lasso(0.1).fit(lazy, dd.from_pandas(pd.Series(y), npartitions=3))
    assert list(model.feature_names_in_) == list("abcd")
    assert model.objective_ == pytest.approx(Lasso(0.1).fit(frame, y).objective_, rel=1e-6)
    np.testing.assert_allclose(model.predict(frame), Lasso(0.1).fit(X, y).predict(X), atol=1e-2)
