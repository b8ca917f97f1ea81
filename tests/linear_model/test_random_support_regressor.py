"""Regression beside random probes: what is chosen, what is learned where, what it certifies."""

import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GroupKFold, KFold
from sklearn.utils.estimator_checks import check_estimator

from sparsestat.datasets._ill_conditioned import make_ill_conditioned_regression
from sparsestat.linear_model import Lasso, LassoCV
from sparsestat.linear_model._random_support import random_support_weights
from sparsestat.linear_model._random_support_regressor import RandomSupportRegressor
from sparsestat.linear_model._random_support_search import Fold, Settings

SETTINGS = Settings(True, 1e-9, 1e-8, 1000)


@pytest.fixture(scope="module")
def nested():
    return make_ill_conditioned_regression(120, 200, 4, kind="nested", random_state=11)


@pytest.fixture(scope="module")
def fitted(nested):
    return RandomSupportRegressor(random_state=3).fit(nested.data, nested.target)


def _objective(model, X, y, coef):
    centred = X - X.mean(axis=0)
    residual = y - y.mean() - centred @ coef
    penalty = model.alpha_ * model.penalty_factor_ @ np.abs(coef)
    return 0.5 * np.mean(residual**2) + penalty


@pytest.mark.filterwarnings("ignore:No features were selected:UserWarning")
@pytest.mark.parametrize(
    "parameters",
    [
        {"n_probes": 3, "alpha": 0.1, "refit": None},
        {"n_probes": [0, 2], "refit": "cv", "n_alphas": 3, "cv": 2, "n_draws": 2},
    ],
)
def test_scikit_learn_checks(parameters):
    results = check_estimator(RandomSupportRegressor(**parameters), on_skip=None, on_fail="raise")
    assert len(results) >= 35
    # The array API check needs a setting of the process, which another test makes.
    others = {r["check_name"] for r in results if r["status"] != "passed"}
    assert others <= {"check_array_api_input"}


def test_without_probes_it_is_the_lasso_on_standardised_columns():
    X, y = load_diabetes(return_X_y=True)
    X = X * np.geomspace(0.1, 100, 10) + 5.0
    for alpha in (0.5, 5.0):
        model = RandomSupportRegressor(0, alpha, refit=None, tol=1e-10).fit(X, y)
        lasso = Lasso(alpha=alpha, penalty_factor=X.std(axis=0), tol=1e-10).fit(X, y)
        assert model.objective_ == pytest.approx(lasso.objective_, rel=1e-9)
        np.testing.assert_allclose(model.predict(X), lasso.predict(X), rtol=1e-4)
        assert model.dual_gap_ <= 1e-10 * y.var() / 2
        assert _objective(model, X, y, model.coef_) == pytest.approx(model.objective_, rel=1e-12)
        assert model.probes_.size == model.rank_ == model.n_probes_ == 0


def test_without_probes_the_search_is_that_of_lasso_cv():
    X, y = load_diabetes(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    model = RandomSupportRegressor(0, refit=None, tol=1e-8).fit(X, y)
    cv = LassoCV(alphas=model.alphas_, penalty_factor=X.std(axis=0), tol=1e-8).fit(X, y)
    # Norms of training columns differ from those of all rows, hence approximately.
    np.testing.assert_allclose(model.cv_results_["mean"], cv.mse_mean_, rtol=2e-2)
    assert model.plain_lasso_score_ == model.cv_score_ == model.cv_results_["mean"].min()


@pytest.mark.parametrize("n_probes", [2, 5])
def test_it_is_the_lasso_with_random_support_weights(n_probes):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((50, 15)) @ (np.eye(15) + 0.3) * np.geomspace(0.1, 10, 15) + 1.0
    y = X[:, 2] - 3.0 * X[:, 1] + rng.standard_normal(50)
    model = RandomSupportRegressor(n_probes, 0.05, refit=None, tol=1e-12, random_state=4).fit(X, y)
    factors = random_support_weights(X, model.probes_)
    np.testing.assert_allclose(model.penalty_factor_, factors, rtol=1e-12, atol=1e-14)
    lasso = Lasso(alpha=0.05, penalty_factor=factors, tol=1e-12).fit(X, y)
    assert model.objective_ == pytest.approx(lasso.objective_, rel=1e-10)
    np.testing.assert_allclose(model.coef_, lasso.coef_, rtol=1e-3, atol=1e-5)
    assert model.intercept_ == pytest.approx(lasso.intercept_, abs=1e-5)
    # Stationarity in the original columns: |x_j'r| / n = alpha s_j sign(b_j).
    residual = y - model.predict(X)
    pull = (X - X.mean(axis=0)).T @ residual / 50
    assert np.abs(pull).max() < np.inf and np.all(
        np.abs(pull) <= 0.05 * factors + 1e-5 * X.std(axis=0)
    )
    np.testing.assert_allclose(
        pull[model.support_], (0.05 * factors * np.sign(model.coef_))[model.support_], atol=1e-4
    )


def test_probes_beat_the_lasso_where_columns_nearly_depend_on_each_other():
    ratios = []
    for seed in range(3):
        data = make_ill_conditioned_regression(150, 300, 5, kind="blocks", random_state=seed)
        lasso = LassoCV(eps=1e-4).fit(data.data, data.target)
        model = RandomSupportRegressor(n_alphas=20, random_state=seed + 50)
        model.fit(data.data, data.target)
        errors = [np.mean((data.data @ (fit.coef_ - data.coef)) ** 2) for fit in (model, lasso)]
        ratios.append(errors[0] / errors[1])
        assert model.cv_score_ <= model.plain_lasso_score_
        np.testing.assert_array_equal(model.support_, model.coef_ != 0)
        assert model.transform(data.data).shape == (150, model.support_.sum())
    assert np.median(ratios) < 0.5


def test_results_name_what_was_chosen(nested, fitted):
    lasso = RandomSupportRegressor(random_state=3, refit=None).fit(nested.data, nested.target)
    for model in (fitted, lasso):
        results = model.cv_results_
        assert {len(values) for values in results.values()} == {len(results["mean"])}
        assert set(results["n_probes"].tolist()) == {0, 4, 9, 18, 30}
        best = np.argmin(results["mean"])
        assert results["mean"][best] == model.cv_score_
        assert results["n_probes"][best] == model.n_probes_
        assert results["refit"][best] == (model.refit_ or "none")
        plain = (results["n_probes"] == 0) & (results["refit"] == "none")
        assert results["mean"][plain].min() == model.plain_lasso_score_
    assert results["alpha"][best] == lasso.alpha_
    assert fitted.refit_ == "ebic" and fitted.alpha_ in fitted.alphas_
    np.testing.assert_array_equal(
        np.isnan(fitted.cv_results_["alpha"]), fitted.cv_results_["refit"] == "ebic"
    )


def test_scores_are_those_of_models_fitted_to_each_fold(nested):
    X, y = nested.data[:, :80], nested.target
    splits = list(KFold(4).split(X))
    model = RandomSupportRegressor(
        [0, 6], cv=splits, refit="ebic", n_alphas=12, tol=1e-9, random_state=1
    ).fit(X, y)
    results = model.cv_results_

    def single(alpha, refit, rows):
        one = RandomSupportRegressor(6, float(alpha), refit=refit, tol=1e-9, random_state=1)
        return one.fit(X[rows], y[rows])

    def chosen(alphas, rows):
        """The second fit of the smallest criterion."""
        fits = [single(alpha, "ebic", rows) for alpha in alphas]
        criteria = []
        for fit in fits:
            squares = np.sum((y[rows] - fit.predict(X[rows])) ** 2)
            price = np.log(rows.size) + 2 * np.log(80)
            criteria.append(rows.size * np.log(squares / rows.size) + price * fit.support_.sum())
        return fits[int(np.argmin(criteria))]

    lassos = np.flatnonzero((results["n_probes"] == 6) & (results["refit"] == "none"))
    (second,) = np.flatnonzero((results["n_probes"] == 6) & (results["refit"] == "ebic"))
    best = int(np.argmin(results["mean"][lassos]))
    around = results["alpha"][lassos][np.clip(best + np.arange(-2, 3), 0, 11)]
    models = {
        lassos[3]: [single(results["alpha"][lassos[3]], None, train) for train, _ in splits],
        second: [chosen(around, train) for train, _ in splits],
    }
    for entry, fits in models.items():
        scores = [
            np.mean((f.predict(X[test]) - y[test]) ** 2) for f, (_, test) in zip(fits, splits)
        ]
        assert np.mean(scores) == pytest.approx(results["mean"][entry], rel=1e-3)
        assert np.std(scores, ddof=1) / 2 == pytest.approx(results["std"][entry], rel=2e-3)
    assert model.n_probes_ == 6
    np.testing.assert_allclose(model.coef_, chosen(around, np.arange(120)).coef_, rtol=1e-6)


def test_left_out_rows_teach_nothing(nested):
    X, y = nested.data.copy(), nested.target.copy()
    order = np.random.default_rng(0).permutation(200)
    train, test = next(KFold(4).split(X))
    grids = [np.geomspace(0.5, 0.005, 8)] * 2
    places = np.array([[3, 7], [3, 7]])

    def learn():
        fold = Fold(SETTINGS, X, y, None, train, test)
        return fold, fold.run(order, [0, 8], grids), fold.run_second(places)

    first, errors, second = learn()
    X[test], y[test] = 1e3 * np.random.default_rng(1).standard_normal((test.size, 200)), -7.0
    again, other_errors, other_second = learn()
    assert np.all(errors != other_errors) and np.all(second != other_second)
    for old, new in zip(first.fits, again.fits):
        np.testing.assert_array_equal(old.features, new.features)
        np.testing.assert_array_equal(old.coefs, new.coefs)
        np.testing.assert_array_equal(old.penalty_factor, new.penalty_factor)
        np.testing.assert_array_equal(old.x_mean, new.x_mean)
        assert old.y_mean == new.y_mean


def test_predictions_do_not_depend_on_units(nested, fitted):
    rng = np.random.default_rng(2)
    # Powers of two leave every rounding error in its place, shifts of the origin do not.
    scales = 2.0 ** rng.integers(-12, 12, 200)
    model = RandomSupportRegressor(random_state=3).fit(nested.data * scales, nested.target)
    np.testing.assert_allclose(
        model.predict(nested.data * scales), fitted.predict(nested.data), rtol=1e-6, atol=1e-8
    )
    np.testing.assert_allclose(model.coef_ * scales, fitted.coef_, rtol=1e-6, atol=1e-8)
    scales = np.exp(rng.uniform(-5, 5, 200))
    model = RandomSupportRegressor(random_state=3, n_probes=20, alpha=0.01, refit=None, tol=1e-10)
    first = model.fit(nested.data, nested.target).predict(nested.data)
    second = model.fit(nested.data * scales + 3.0, nested.target).predict(nested.data * scales + 3)
    np.testing.assert_allclose(second, first, atol=1e-3)


@pytest.mark.parametrize("refit", [None, "ebic"])
def test_integer_weights_repeat_rows(nested, refit):
    X, y = nested.data[:60, :40], nested.target[:60]
    weights = np.random.default_rng(5).integers(0, 3, 60)
    groups = np.arange(60) % 4
    repeat = np.repeat(np.arange(60), weights)
    folds = list(GroupKFold(4).split(X, y, groups))
    repeated = [tuple(np.flatnonzero(np.isin(repeat, rows)) for rows in split) for split in folds]
    common = {"refit": refit, "random_state": 0, "tol": 1e-10, "n_alphas": 15}
    weighted = RandomSupportRegressor(cv=folds, **common).fit(X, y, weights)
    unrolled = RandomSupportRegressor(cv=repeated, **common).fit(X[repeat], y[repeat])
    assert weighted.n_probes_ == unrolled.n_probes_
    np.testing.assert_allclose(
        weighted.cv_results_["mean"], unrolled.cv_results_["mean"], rtol=1e-4
    )
    np.testing.assert_allclose(weighted.predict(X), unrolled.predict(X), atol=1e-4)


def test_threads_change_no_bit(nested, fitted):
    other = RandomSupportRegressor(random_state=3, n_jobs=3).fit(nested.data, nested.target)
    np.testing.assert_array_equal(other.coef_, fitted.coef_)
    for name, values in fitted.cv_results_.items():
        np.testing.assert_array_equal(other.cv_results_[name], values)


def test_several_draws_are_compared(nested):
    common = {"random_state": 8, "n_alphas": 15, "refit": None, "cv": 3}
    one = RandomSupportRegressor([9], **common).fit(nested.data, nested.target)
    three = RandomSupportRegressor([9], n_draws=3, **common).fit(nested.data, nested.target)
    assert set(three.cv_results_["draw"].tolist()) == {0, 1, 2}
    first = three.cv_results_["draw"] == 0
    np.testing.assert_array_equal(three.cv_results_["mean"][first], one.cv_results_["mean"])
    assert three.cv_score_ == three.cv_results_["mean"].min() <= one.cv_score_
    assert np.isnan(three.plain_lasso_score_)


def test_the_path_is_certified(nested):
    model = RandomSupportRegressor(9, refit=None, tol=1e-6, random_state=0)
    model.fit(nested.data, nested.target)
    alphas, coefs, gaps = model.path()
    assert coefs.shape == (200, 40) and alphas[-1] == pytest.approx(1e-3 * alphas[0])
    chosen = int(np.flatnonzero(alphas == model.alpha_)[0])
    np.testing.assert_array_equal(coefs[:, chosen], model.coef_)
    assert gaps.max() <= 1e-6 * nested.target.var() / 2
    # At the strongest penalty there is nothing but the probes.
    np.testing.assert_array_equal(np.flatnonzero(coefs[:, 0]), np.sort(model.probes_))
    X = nested.data - nested.data.mean(axis=0)
    y = nested.target - nested.target.mean()
    for k in (0, 15, 39):
        # A dual point, orthogonal to the probes and within all bounds, from scratch.
        residual = y - X @ coefs[:, k]
        basis = np.linalg.qr(X[:, model.probes_])[0]
        residual -= basis @ (basis.T @ residual)
        bounds = 120 * alphas[k] * model.penalty_factor_
        outside = np.setdiff1d(np.arange(200), model.probes_)
        theta = residual / max(1.0, np.max(np.abs(X.T @ residual)[outside] / bounds[outside]))
        primal = _objective(model, nested.data, nested.target, coefs[:, k])
        primal += (alphas[k] - model.alpha_) * model.penalty_factor_ @ np.abs(coefs[:, k])
        gap = primal - (y @ y - (y - theta) @ (y - theta)) / 240
        assert -1e-12 <= gap <= 1.1e-6 * y.var() / 2


def test_a_second_fit_is_least_squares(nested):
    model = RandomSupportRegressor(12, 0.02, refit="ebic", random_state=0)
    model.fit(nested.data, nested.target)
    assert model.refit_ == "ebic" and model.cv_results_["mean"].size == 0
    assert np.isnan(model.cv_score_) and np.isnan(model.plain_lasso_score_)
    columns = nested.data[:, model.support_]
    pull = (columns - columns.mean(axis=0)).T @ (nested.target - model.predict(nested.data))
    np.testing.assert_allclose(pull, 0.0, atol=1e-7)
    assert set(np.flatnonzero(model.support_)) <= set(np.flatnonzero(model.coef_path_[:, 0]))


def test_sparse_columns_stay_sparse_without_probes():
    rng = np.random.default_rng(6)
    X = sparse.random_array((80, 60), density=0.2, rng=rng, format="csc")
    dense = X.toarray()
    y = dense[:, 0] - 2.0 * dense[:, 5] + 0.1 * rng.standard_normal(80)
    for parameters in ({"n_probes": 0, "max_bytes": 0}, {}):
        model = RandomSupportRegressor(random_state=0, tol=1e-9, **parameters)
        other = clone(model).fit(dense, y)
        model.fit(X, y)
        assert sparse.issparse(model.coef_path_)
        np.testing.assert_allclose(model.coef_, other.coef_, atol=1e-4)
        np.testing.assert_allclose(model.predict(X), other.predict(dense), atol=1e-4)
        np.testing.assert_allclose(model.penalty_factor_, other.penalty_factor_, rtol=1e-8)
    with pytest.raises(ValueError, match=r"38400 bytes, more than max_bytes=38399"):
        RandomSupportRegressor(max_bytes=38399).fit(X, y)


@pytest.mark.parametrize("refit", [None, "ebic", "cv"])
def test_awkward_columns(refit):
    rng = np.random.default_rng(7)
    X = rng.standard_normal((40, 12))
    X[:, 3] = X[:, 0]
    X[:, 4] = 2.5
    X[:, 7] = X[:, 1] + X[:, 2]
    y = X[:, 0] + X[:, 5] + 0.1 * rng.standard_normal(40)
    model = RandomSupportRegressor([0, 5, 12], refit=refit, random_state=0).fit(X, y)
    assert model.coef_[4] == 0 and model.penalty_factor_[4] == 0
    assert np.mean((model.predict(X) - y) ** 2) < 0.05
    # Everything is a probe: least squares, whatever depends on what.
    everything = RandomSupportRegressor(20, 0.1, refit=None, random_state=0).fit(X, y)
    assert everything.n_probes_ == 12 and everything.rank_ == 9
    centred = X - X.mean(axis=0)
    expected = centred @ np.linalg.lstsq(centred, y - y.mean())[0] + y.mean()
    np.testing.assert_allclose(everything.predict(X), expected, atol=1e-10)
    assert everything.converged_


def test_constant_responses_and_columns():
    X = np.random.default_rng(8).standard_normal((20, 30))
    model = RandomSupportRegressor(random_state=0).fit(X, np.full(20, 3.0))
    np.testing.assert_array_equal(model.coef_, 0.0)
    assert model.intercept_ == 3.0 and model.converged_
    flat = RandomSupportRegressor(random_state=0).fit(np.ones((20, 3)), np.arange(20.0))
    np.testing.assert_array_equal(flat.coef_, 0.0)
    assert flat.intercept_ == pytest.approx(9.5)


def test_one_row():
    model = RandomSupportRegressor(0, 0.1, refit=None).fit([[1.0, 2.0]], [3.0])
    np.testing.assert_array_equal(model.coef_, 0.0)
    assert model.intercept_ == 3.0
    with pytest.raises(ValueError, match="n_samples=1"):
        RandomSupportRegressor().fit([[1.0, 2.0]], [3.0])


def test_single_precision_and_no_intercept(nested):
    model = RandomSupportRegressor(9, 0.05, fit_intercept=False, random_state=0)
    model.fit(nested.data.astype(np.float32), nested.target)
    assert model.coef_.dtype == np.float32 and model.coef_path_.dtype == np.float32
    assert model.intercept_ == 0.0
    before = nested.data.copy(order="F")
    kept = before.copy()
    model.fit(before, nested.target)
    np.testing.assert_array_equal(before, kept)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_probes": 29, "alpha": 0.1, "refit": None}, "n_probes=29 where n_samples=30"),
        ({"n_probes": 23}, "n_probes=23 where the smallest fold trains on n_samples=24"),
        ({"n_probes": [2, -1]}, "n_probes must not be negative, got -1"),
        ({"n_probes": [0.5]}, "n_probes must be 'cv', an integer"),
        ({"n_probes": []}, "n_probes must be 'cv', an integer"),
        ({"alpha": 0.0}, "alpha=0 asks for least squares without a penalty"),
        ({"n_probes": -1}, "The 'n_probes' parameter"),
        ({"refit": "none"}, "The 'refit' parameter"),
        ({"n_draws": 0}, "The 'n_draws' parameter"),
    ],
)
def test_bad_parameters_are_refused(parameters, message):
    X = np.random.default_rng(9).standard_normal((30, 50))
    with pytest.raises(ValueError, match=message):
        RandomSupportRegressor(**parameters).fit(X, X[:, 0])


def test_what_did_not_converge_says_so(nested):
    model = RandomSupportRegressor(9, 1e-4, refit=None, max_iter=1, tol=1e-12, random_state=0)
    with pytest.warns(ConvergenceWarning, match=r"The duality gap .* exceeds the required"):
        model.fit(nested.data, nested.target)
    assert not model.converged_


def test_pickles_predict_the_same(nested, fitted):
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.predict(nested.data), fitted.predict(nested.data))


class Recorder:
    """Keep every iterate."""

    def __init__(self):
        self.tasks = []
        self.iterates = []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, X, y, metadata, fitted_estimator):
        if context.parent is not None:
            self.tasks.append(context.task_name)
            self.iterates.append(fitted_estimator)
        return False


def test_ticks_for_every_number_of_probes_of_every_fold(nested):
    recorder = Recorder()
    model = RandomSupportRegressor([0, 6], cv=3, n_alphas=5, random_state=0)
    silent = clone(model).fit(nested.data, nested.target)
    model.set_callbacks(recorder).fit(nested.data, nested.target)
    assert recorder.tasks == ["number of probes"] * 6
    np.testing.assert_array_equal(model.coef_, silent.coef_)
    # The last solution of a path is that of the smallest strength, on the fold's rows.
    train, _ = next(KFold(3).split(nested.data))
    alpha = np.nanmin(model.cv_results_["alpha"][model.cv_results_["n_probes"] == 0])
    single = RandomSupportRegressor(0, alpha, refit=None, tol=1e-9)
    single.fit(nested.data[train], nested.target[train])
    predicted = recorder.iterates[0].predict(nested.data[train])
    objective = 0.5 * np.mean((nested.target[train] - predicted) ** 2)
    objective += alpha * single.penalty_factor_ @ np.abs(recorder.iterates[0].coef_)
    assert 0 <= objective - single.objective_ <= 1e-5 * nested.target[train].var()


def test_ticks_for_every_working_set_of_a_single_fit(nested):
    recorder = Recorder()
    model = RandomSupportRegressor(6, 1e-3, refit=None, tol=1e-9, random_state=0)
    model.set_callbacks(recorder).fit(nested.data, nested.target)
    assert set(recorder.tasks) == {"working set"} and len(recorder.tasks) > 3
    values = [
        _objective(model, nested.data, nested.target, iterate.coef_)
        for iterate in recorder.iterates
    ]
    assert np.all(np.diff(values) <= 1e-9 * values[0])
    assert values[-1] == pytest.approx(model.objective_, rel=1e-9)
