"""BCDRegressor: optimal for every combination, with honest notes of how it got there."""

import pickle
import warnings

import cvxpy as cp
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import check_estimator

from sparsestat.linear_model import Lasso, SparseLogisticRegression
from sparsestat.linear_model._bcd_regressor import BCDRegressor
from sparsestat.solvers._partitions import PARTITIONS, RULES, VARIABLE_RULES

from ._witness import largest_alpha, make_data, witness

CHOICES = [
    {"partition": partition, "rule": rule, "update": update}
    for partition in PARTITIONS
    for rule in (VARIABLE_RULES if partition == "variable" else RULES)
    for update in ("pg", "pn", "tmp")
]


def name(choice):
    return "-".join(choice.values())


def binary(n=60, p=15, seed=0):
    X, y = make_data(n, p, seed)
    return X, (y > np.median(y)).astype(float)


def judge(model, X, y, weights=None):
    found = witness(
        X, y, model.coef_, model.alpha, intercept=model.intercept_,
        penalty_factor=model.penalty_factor, positive=model.positive, sample_weight=weights,
        fit_intercept=model.fit_intercept,
    )  # fmt: skip
    found.assert_optimal(model.dual_gap_, model.tol)
    assert model.objective_ == pytest.approx(found.objective, rel=1e-9, abs=found.rounding)
    assert model.converged_ is True
    assert_array_equal(model.support_, model.coef_ != 0)


# --- optimality --------------------------------------------------------------------------


@pytest.mark.parametrize("choice", CHOICES, ids=name)
@pytest.mark.parametrize("positive", [False, True])
def test_every_combination_reaches_the_lasso(choice, positive):
    X, y = make_data(40, 12)
    alpha = 0.1 * largest_alpha(X, y)
    options = {"alpha": alpha, "positive": positive, "tol": 1e-8}
    peer = Lasso(**options).fit(X, y)
    for data in (X, sparse.csr_array(X)):
        model = BCDRegressor(**options, **choice, block_size=3, max_iter=50000, random_state=0)
        judge(model.fit(data, y), X, y)
        assert abs(model.objective_ - peer.objective_) <= max(model.dual_gap_, peer.dual_gap_)


@pytest.mark.parametrize("choice", CHOICES[::5], ids=name)
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_logistic_against_convex_programming(choice, fit_intercept):
    X, y = binary()
    weights = np.random.default_rng(0).uniform(0.5, 2.0, y.size)
    factors = np.r_[0.5, 2.0, np.ones(13)]
    positive = np.arange(15) % 3 == 0
    b, b0 = cp.Variable(15), cp.Variable()
    scores = X @ b + (b0 if fit_intercept else 0.0)
    loss = weights @ (cp.logistic(scores) - cp.multiply(y, scores)) / weights.sum()
    problem = cp.Problem(cp.Minimize(loss + 0.02 * factors @ cp.abs(b)), [b[positive] >= 0])
    problem.solve(solver=cp.CLARABEL)
    for data in (X, sparse.csc_array(X)):
        model = BCDRegressor(
            0.02, **choice, loss="logistic", block_size=4, positive=positive, tol=1e-7,
            penalty_factor=factors, fit_intercept=fit_intercept, max_iter=10**6, random_state=0,
        ).fit(data, 2 * y - 1, sample_weight=weights)  # fmt: skip
        assert model.converged_
        assert -1e-8 <= model.objective_ - problem.value <= model.dual_gap_ + 1e-8
        assert_allclose(model.coef_, b.value, atol=2e-2)
        assert np.all(model.coef_[positive] >= 0)
        assert fit_intercept or model.intercept_ == 0.0


def test_logistic_agrees_with_the_classifier():
    X, y = binary()
    ours = BCDRegressor(0.03, loss="logistic", tol=1e-9).fit(X, y)
    peer = SparseLogisticRegression(0.03, tol=1e-9).fit(X, y)
    assert ours.objective_ == pytest.approx(peer.objective_, rel=1e-8)
    assert_allclose(ours.coef_, peer.coef_[0], atol=1e-4)
    # Predictions are log-odds of the larger value, whatever the values are.
    assert_allclose(ours.predict(X), peer.decision_function(X), atol=1e-3)
    other = BCDRegressor(0.03, loss="logistic", tol=1e-9).fit(X, np.where(y == 1, 7.0, -3.0))
    assert_array_equal(other.coef_, ours.coef_)


def test_the_logistic_gap_is_a_bound():
    X, y = binary()
    best = BCDRegressor(0.02, loss="logistic", tol=1e-12).fit(X, y)
    for max_iter in (1, 2, 3, 5, 9):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = BCDRegressor(
                0.02, loss="logistic", update="pg", block_size=3, max_iter=max_iter, tol=1e-12
            ).fit(X, y)
        assert model.objective_ - best.objective_ <= model.dual_gap_ * (1 + 1e-9)
        assert not model.converged_


def test_least_squares_without_penalty():
    X, y = make_data(50, 8)
    expected = np.linalg.lstsq(np.column_stack([X, np.ones(50)]), y)[0]
    for update in ("lb", "hb"):
        for data in (X, sparse.csc_array(X)):
            model = BCDRegressor(0, update=update, block_size=3, tol=1e-10, max_iter=10**6)
            model.fit(data, y)
            assert model.converged_
            assert_allclose(model.coef_, expected[:-1], atol=1e-3)
            assert model.intercept_ == pytest.approx(expected[-1], abs=1e-2)


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_unpenalised_features(loss):
    X, y = make_data(50, 8) if loss == "squared" else binary(50, 8)
    factors = np.r_[0.0, 0.0, np.ones(6)]
    b, b0 = cp.Variable(8), cp.Variable()
    scores = X @ b + b0
    fit = (
        cp.sum_squares(y - scores) / 2
        if loss == "squared"
        else cp.sum(cp.logistic(scores) - cp.multiply(y, scores))
    )
    problem = cp.Problem(cp.Minimize(fit / 50 + 0.05 * factors @ cp.abs(b)))
    problem.solve(solver=cp.CLARABEL)
    model = BCDRegressor(0.05, loss=loss, penalty_factor=factors, tol=1e-7).fit(X, y)
    assert -1e-8 <= model.objective_ - problem.value <= model.dual_gap_ + 1e-8
    assert np.all(model.support_[:2])


# --- invariances -------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
def test_weights_count_rows(loss, form):
    X, y = make_data(30, 6) if loss == "squared" else binary(30, 6)
    weights = np.arange(30) % 3
    model = BCDRegressor(0.05, loss=loss, tol=1e-10)
    weighted = clone(model).fit(form(X), y, sample_weight=weights)
    repeated = clone(model).fit(form(np.repeat(X, weights, axis=0)), np.repeat(y, weights))
    assert_allclose(weighted.coef_, repeated.coef_, atol=1e-6)
    assert weighted.intercept_ == pytest.approx(repeated.intercept_, abs=1e-5)
    assert weighted.objective_ == pytest.approx(repeated.objective_, rel=1e-9)


def test_columns_far_from_zero():
    X, y = make_data(60, 6)
    far = X + 1e5
    model = BCDRegressor(0.1, tol=1e-6)
    for form in (np.asarray, sparse.csc_array):
        found = clone(model).fit(form(far), y)
        assert found.converged_
        assert_allclose(found.coef_, clone(model).fit(X, y).coef_, atol=1e-2)


def test_float32():
    X, y = make_data(40, 8)
    model = BCDRegressor(0.1).fit(X.astype(np.float32), y.astype(np.float32))
    assert model.coef_.dtype == np.float32
    assert_allclose(model.coef_, BCDRegressor(0.1).fit(X, y).coef_, atol=1e-3)


def test_warm_start():
    X, y = make_data(40, 60)
    model = BCDRegressor(0.1, warm_start=True, rule="gs", update="pg", block_size=5).fit(X, y)
    cold = model.n_iter_
    assert model.fit(X, y).n_iter_ < 0.2 * cold
    judge(model.fit(X[:, :30], y), X[:, :30], y)
    X, y = binary(40, 20)
    model = BCDRegressor(0.02, warm_start=True, loss="logistic").fit(X, y)
    assert model.fit(X, y).n_iter_ <= 2


def test_seeds():
    X, y = make_data(40, 20)
    options = {"rule": "random", "block_size": 4, "alpha": 0.1, "track": True}
    first, second = (BCDRegressor(**options, random_state=3).fit(X, y) for _ in range(2))
    assert_array_equal(first.history_.blocks, second.history_.blocks)
    assert_array_equal(first.coef_, second.coef_)
    other = BCDRegressor(**options, random_state=4).fit(X, y)
    assert not np.array_equal(first.history_.blocks[:20], other.history_.blocks[:20])


# --- edges -------------------------------------------------------------------------------


def test_nothing_to_fit():
    X, y = make_data(20, 5)
    above = BCDRegressor(2 * largest_alpha(X, y)).fit(X, y)
    assert not above.coef_.any()
    assert above.identified_at_ == 0
    constant = BCDRegressor(0.1, track=True).fit(X, np.full(20, 3.0))
    assert constant.intercept_ == 3.0
    assert constant.converged_
    assert constant.history_.objective.shape == (1,)
    single = BCDRegressor(0.1).fit(X[:1], y[:1])
    assert single.predict(X[:1]) == y[0]
    X[:, 1] = 4.0
    assert BCDRegressor(1e-3).fit(X, y).coef_[1] == 0.0
    assert BCDRegressor(1e-3).fit(sparse.csc_array(X), y).coef_[1] == pytest.approx(0.0, abs=1e-9)


def test_convergence_is_reported():
    X, y = make_data(40, 30)
    with pytest.warns(ConvergenceWarning, match=r"exceeds the required .* after 2 iterations"):
        model = BCDRegressor(1e-3, update="pg", max_iter=2).fit(X, y)
    assert model.converged_ is False
    assert model.n_iter_ == 2


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"partition": "variable", "rule": "gsl"}, "'gs', 'gsd', 'gsq' or 'random'"),
        ({"partition": "variable", "rule": "cyclic"}, "'sort_rows' or 'average_rows'"),
        ({"update": "lb"}, "'pg', 'pn' or 'tmp'"),
        ({"update": "hb", "alpha": 0, "positive": True}, "'pg', 'pn' or 'tmp'"),
        ({"alpha": 0}, "'lb' or 'hb'"),
        ({"alpha": 0, "update": "pg"}, "'lb' or 'hb'"),
        ({"alpha": -1.0}, "alpha"),
        ({"block_size": 0}, "block_size"),
        ({"partition": "sorted"}, "partition"),
        ({"penalty_factor": [1.0, -1.0, 1.0, 1.0]}, "penalty_factor"),
        ({"positive": [True]}, "positive"),
        ({"loss": "logistic"}, "exactly two values"),
    ],
)
def test_refusals(options, match):
    X, y = make_data(20, 4)
    with pytest.raises(ValueError, match=match):
        BCDRegressor(**options).fit(X, y)


def test_classes_of_weight_zero_do_not_count():
    X, y = binary(30, 4)
    with pytest.raises(ValueError, match=r"exactly two values.*got 1"):
        BCDRegressor(loss="logistic").fit(X, y, sample_weight=y)
    three = np.where(np.arange(30) == 0, 5.0, y)
    weights = (np.arange(30) > 0).astype(float)
    assert BCDRegressor(0.05, loss="logistic").fit(X, three, sample_weight=weights).converged_


# --- notes -------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize("choice", CHOICES[::4], ids=name)
def test_history(choice, loss):
    X, y = make_data(40, 20) if loss == "squared" else binary(40, 20)
    alpha = 0.1 if loss == "squared" else 0.02
    model = BCDRegressor(
        alpha, **choice, loss=loss, block_size=4, track=True, random_state=0, max_iter=30000
    ).fit(X, y)
    history = model.history_
    n_iter = history.blocks.shape[0]
    assert n_iter == model.n_iter_
    assert history.objective.shape == history.support_size.shape == (n_iter + 1,)
    assert np.all(np.diff(history.objective) <= 1e-13 * history.objective[0])
    assert np.all(np.diff(history.work) > 0)
    assert history.objective[-1] == pytest.approx(model.objective_, rel=1e-10)
    assert history.support_size[-1] == model.support_.sum()
    assert history.support_size[0] == 0
    assert history.blocks.max() < 20
    assert np.all(np.sort(history.blocks, axis=1)[:, -1] >= 0)
    assert np.all(np.diff(history.gap_iterations) > 0)
    assert history.gap_iterations[-1] == n_iter
    assert history.gaps[-1] == model.dual_gap_
    # Every gap bounds what is still to be gained, in units of the objective.
    gained = history.objective[history.gap_iterations] - model.objective_
    assert np.all(gained <= history.gaps + 1e-12)
    assert np.all(history.support_size[model.identified_at_ :] == model.support_.sum())
    assert 0 < model.identified_at_ <= n_iter
    assert not hasattr(model.set_params(track=False).fit(X, y), "history_")


def test_identification():
    """Just before the iteration of identification the support was another one."""
    X, y = make_data(60, 30, 2)
    model = BCDRegressor(0.3, update="pg", block_size=5, tol=1e-8)
    at = model.fit(X, y).identified_at_
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        supports = [
            clone(model).set_params(max_iter=k).fit(X, y).support_ for k in (at - 1, at, at + 3)
        ]
    assert not np.array_equal(supports[0], model.support_)
    assert_array_equal(supports[1], model.support_)
    assert_array_equal(supports[2], model.support_)


def test_rules_order_as_in_the_paper():
    """Better rules, larger freedom and Newton's step leave less after the same iterations."""
    rng = np.random.RandomState(1)
    n, d = 100, 1000
    X = (rng.standard_normal((n, d)) + 1) * (10 * rng.standard_normal(d))
    X[rng.random_sample((n, d)) >= 10 * np.log(n) / n] = 0.0
    y = X @ (rng.standard_normal(d) * (rng.random_sample(d) < 0.1)) + rng.standard_normal(n)
    left = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for partition in ("sort", "variable"):
            for rule in ("random", "gs", "gsl", "gsd", "gsq"):
                if partition == "variable" and rule == "gsl":
                    continue
                for update in ("lb", "hb"):
                    model = BCDRegressor(
                        0, partition=partition, rule=rule, update=update, block_size=5,
                        max_iter=150, tol=1e-14, fit_intercept=False, random_state=0,
                    ).fit(sparse.csc_array(X), y)  # fmt: skip
                    left[partition, rule, update] = model.objective_
    for partition, update in (("sort", "lb"), ("sort", "hb"), ("variable", "lb"),
                              ("variable", "hb")):  # fmt: skip
        best = [left[key] for key in left if key[::2] == (partition, update)]
        assert left[partition, "random", update] > left[partition, "gs", update]
        assert left[partition, "gs", update] > 3 * max(best[2:])
    for partition, rule in {key[:2] for key in left}:
        assert left[partition, rule, "lb"] > left[partition, rule, "hb"]
    for rule, update in (("gs", "lb"), ("gsd", "lb"), ("gs", "hb"), ("gsd", "hb")):
        assert left["sort", rule, update] > left["variable", rule, update]


# --- at home in scikit-learn -------------------------------------------------------------


class Recorder:
    """Keeps every iterate; asks to stop after some of them."""

    def __init__(self, stop_after=np.inf):
        self.stop_after = stop_after
        self.iterates = []

    def setup(self, estimator, context):
        self.iterates.clear()

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        if context.parent is not None:
            self.iterates.append(fitted_estimator)
        return len(self.iterates) >= self.stop_after

    def teardown(self, estimator, context):
        pass


@pytest.mark.parametrize("loss", ["squared", "logistic"])
def test_callbacks_see_better_and_better_models(loss):
    X, y = make_data(40, 60) if loss == "squared" else binary(40, 30)
    model = BCDRegressor(0.01, loss=loss)
    recorder = Recorder()
    model.set_callbacks(recorder).fit(X, y)
    objectives = []
    for iterate in recorder.iterates:
        scores = iterate.predict(X)
        fit = (
            0.5 * np.mean((y - scores) ** 2)
            if loss == "squared"
            else np.mean(np.logaddexp(0.0, scores) - y * scores)
        )
        objectives.append(fit + 0.01 * np.abs(iterate.coef_).sum())
    assert len(objectives) > 3
    assert np.all(np.diff(objectives) <= 1e-12)
    assert objectives[-1] == pytest.approx(model.objective_, rel=1e-9)
    stopped = clone(model).set_callbacks(Recorder(2)).fit(X, y)
    assert stopped.converged_ is False
    assert stopped.n_iter_ < model.n_iter_


def test_scikit_learn_accepts_it():
    with warnings.catch_warnings():
        # A penalty that leaves no feature is met in some checks.
        warnings.filterwarnings("ignore", "No features were selected")
        results = check_estimator(BCDRegressor(), on_skip=None)
    assert sum(result["status"] == "passed" for result in results) > 35


def test_pickles_and_frames():
    X, y = make_data(30, 5)
    frame = pd.DataFrame(X, columns=list("abcde"))
    model = BCDRegressor(0.1, track=True).fit(frame, y)
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.predict(frame), model.predict(frame))
    assert list(model.get_feature_names_out()) == list(np.array(list("abcde"))[model.support_])


@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize("update", ["tmp", "pn"])
def test_sparse_columns_far_from_zero(loss, update):
    """They store all their entries and are centred before anything else."""
    rng = np.random.default_rng(45)
    X = rng.standard_normal((20, 40))
    y = X[:, 0] + 0.5 * rng.standard_normal(20)
    X[:, :30] += 10.0 ** rng.integers(2, 7, 30)
    X[:, 35:] *= rng.random((20, 5)) < 0.5
    y = (y > 0).astype(float) if loss == "logistic" else y
    given = sparse.csr_array(X)
    before = given.data.copy()
    weights = rng.integers(1, 3, 20)
    model = BCDRegressor(0.02, loss=loss, update=update, track=True)
    model.fit(given, y, sample_weight=weights)
    dense = BCDRegressor(0.02, loss=loss, update=update).fit(X, y, sample_weight=weights)
    assert model.converged_
    assert np.diff(model.history_.objective).max() <= 1e-9
    assert model.objective_ == pytest.approx(dense.objective_, rel=1e-5)
    assert_allclose(model.predict(given), dense.predict(X), atol=1e-2)
    assert_array_equal(given.data, before)


def test_log_odds_are_no_predictions_of_classes():
    X, y = make_data(20, 4)
    model = BCDRegressor(0.1, loss="logistic").fit(X, y > y.mean())
    with pytest.raises(ValueError, match="SparseLogisticRegression, which is a classifier"):
        model.score(X, y > y.mean())
