"""Moving samples: harmonisation to a reference, and adaptation to another domain."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.special import logsumexp
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from sparsestat.transport import EntropicTransport, TransportAdapter, sinkhorn_points


def samples(seed=0, n=80, m=60):
    rng = np.random.default_rng(seed)
    return rng.normal(2.0, 1.5, (n, 2)), rng.normal(size=(m, 2)) @ [[1.0, 0.4], [0.0, 0.7]]


# --- the map -----------------------------------------------------------------------------


def test_fitted_points_go_to_the_means_of_their_rows():
    X, Y = samples()
    estimator = EntropicTransport(Y, epsilon=0.3)
    moved = estimator.fit_transform(X)
    np.testing.assert_array_equal(moved, clone(estimator).fit(X).transform(X))
    plan = estimator.plan_
    np.testing.assert_allclose(moved, plan @ Y / plan.sum(axis=1, keepdims=True), atol=1e-8)
    problem = sinkhorn_points(X, Y, epsilon=0.3)
    np.testing.assert_allclose(plan, problem.plan, atol=1e-12)
    assert estimator.transport_cost_ == pytest.approx(problem.transport_cost, rel=1e-12)
    assert estimator.dual_gap_ == estimator.result_.dual_gap
    assert estimator.converged_ and estimator.n_iter_ == len(problem.history)


def test_new_points_follow_the_formula():
    X, Y = samples()
    weight = np.random.default_rng(1).uniform(0.0, 1.0, len(Y))
    weight[:5] = 0.0
    estimator = EntropicTransport(Y, target_weight=weight, epsilon=0.3).fit(X)
    new = samples(seed=5)[0]
    b = weight / weight.sum()
    g = estimator.potentials_[1]
    z = (g - ((new[:, None] - Y) ** 2).sum(axis=2)) / 0.3
    w = b * np.exp(z - logsumexp(z, b=b, axis=1, keepdims=True))
    np.testing.assert_allclose(estimator.transform(new), w @ Y, atol=1e-10)
    # One row at a time is the same.
    np.testing.assert_allclose(estimator.transform(new[:1]), w[:1] @ Y, atol=1e-10)


def test_the_inverse_and_labels():
    X, Y = samples()
    estimator = EntropicTransport(Y, epsilon=0.3).fit(X)
    plan = estimator.plan_
    back = plan.T @ X / plan.sum(axis=0)[:, None]
    np.testing.assert_allclose(estimator.inverse_transform(Y), back, atol=1e-7)
    labels = np.array(["low", "high"])[(X[:, 0] > 2.0).astype(int)]
    mass = np.column_stack([plan[labels == c].sum(axis=0) for c in ("high", "low")])
    expected = np.array(["high", "low"])[mass.argmax(axis=1)]
    np.testing.assert_array_equal(estimator.transport_labels(labels), expected)
    with pytest.raises(ValueError, match=r"y must have shape \(80,\).* got shape \(3,\)"):
        estimator.transport_labels([1, 2, 3])


def test_weights_are_numbers_of_rows_also_for_the_default_epsilon():
    X, Y = samples()
    weights = np.random.default_rng(2).integers(0, 4, len(X))
    rows = np.repeat(np.arange(len(X)), weights)
    for scale in ("absolute", "mean", "median", "max"):
        epsilon = None if scale == "absolute" else 0.05
        options = {"epsilon": epsilon, "epsilon_scale": scale, "tol": 1e-11}
        weighted = EntropicTransport(Y, **options).fit(X, sample_weight=weights)
        repeated = EntropicTransport(Y, **options).fit(X[rows])
        assert weighted.epsilon_ == pytest.approx(repeated.epsilon_, rel=1e-10)
        np.testing.assert_allclose(weighted.transform(X), repeated.transform(X), atol=1e-7)
        assert weighted.score(X, sample_weight=weights) == pytest.approx(
            repeated.score(X[rows]), abs=1e-6
        )


def test_without_a_target_the_sample_becomes_normal():
    rng = np.random.default_rng(3)
    X = 5.0 * rng.exponential(size=(1500, 2)) - 3.0
    moved = EntropicTransport(n_target=1500, epsilon=0.001, epsilon_scale="mean", random_state=0)
    Z = moved.fit_transform(X)
    # Means of target points under the plan have the target's mean, and lose little variance.
    np.testing.assert_allclose(Z.mean(axis=0), moved.target_.mean(axis=0), atol=1e-8)
    np.testing.assert_allclose(Z.std(axis=0), 1.0, atol=0.06)
    # Of the reference's 1500 points the skewness has the error (6 / 1500) ** 0.5 = 0.06.
    skewness = np.mean((Z - Z.mean(axis=0)) ** 3, axis=0) / Z.std(axis=0) ** 3
    assert np.all(np.abs(skewness) < 4 * 0.06)
    again = EntropicTransport(n_target=1500, random_state=0).fit(X[:50])
    np.testing.assert_array_equal(again.target_, moved.target_)


def test_outliers_stay_behind_if_marginals_are_penalised():
    X, Y = samples()
    X[0] = [60.0, 60.0]
    hard = EntropicTransport(Y, epsilon=0.3).fit(X)
    soft = EntropicTransport(Y, epsilon=0.3, reg_source=5.0).fit(X)
    assert hard.plan_[0].sum() == pytest.approx(1 / 80, abs=1e-9)
    assert soft.plan_[0].sum() < 1e-20
    np.testing.assert_allclose(soft.plan_.sum(axis=0), 1 / 60, atol=1e-8)


def test_scores_tell_good_maps_from_bad_ones():
    X, Y = samples(n=300, m=300)
    new, _ = samples(seed=7, n=300)
    fitted = [EntropicTransport(Y, epsilon=e).fit(X) for e in (0.1, 3.0, 100.0)]
    scores = [estimator.score(new) for estimator in fitted]
    assert 0.0 > scores[0] > scores[1] > scores[2]
    search = GridSearchCV(EntropicTransport(Y), {"epsilon": [0.1, 100.0]}, cv=3).fit(X)
    assert search.best_params_ == {"epsilon": 0.1}


def test_harmonisation_as_a_step():
    rng = np.random.default_rng(4)
    reference = rng.normal(size=(200, 2))
    sites = [reference @ [[2.0, 0.0], [0.5, 1.0]] + 5.0, 0.3 * reference - 4.0]
    labels = (reference[:, 0] > 0).astype(int)
    model = make_pipeline(EntropicTransport(reference, epsilon=0.05), LogisticRegression())
    for site in sites:
        assert model.fit(site, labels).score(site, labels) > 0.9


def test_warm_starts_and_warnings():
    X, Y = samples()
    estimator = EntropicTransport(Y, epsilon=0.2, method="log", warm_start=True).fit(X)
    cold = estimator.n_iter_
    assert estimator.set_params(epsilon=0.19).fit(X).n_iter_ < cold
    # Another number of target points begins anew.
    assert estimator.set_params(target=Y[:30]).fit(X).converged_
    with pytest.warns(ConvergenceWarning, match="above the required 1e-09, after 2 steps") as found:
        EntropicTransport(Y, epsilon=0.01, max_iter=2).fit(X)
    assert found[0].filename == __file__


# --- adaptation --------------------------------------------------------------------------


def two_moons_turned(seed, angle=40.0):
    """Two classes on half circles, and the same turned by some degrees."""
    rng = np.random.default_rng(seed)
    y = np.repeat([0, 1], 100)
    t = rng.uniform(0, np.pi, 200)
    X = np.column_stack([np.cos(t), np.sin(t)])
    X[y == 1] = [1.0, 0.4] - X[y == 1]
    X += 0.1 * rng.normal(size=X.shape)
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    return X, y, X[rng.permutation(200)] @ [[c, s], [-s, c]]


def test_adaptation_helps_and_a_pipeline_does_not():
    """Paired over seeds; the standard errors of the mean differences are well below them."""
    accuracies = []
    for seed in range(12):
        X, y, _ = two_moons_turned(seed)
        test, labels, _ = two_moons_turned(100 + seed)
        c, s = np.cos(np.deg2rad(40.0)), np.sin(np.deg2rad(40.0))
        turn = np.array([[c, s], [-s, c]])
        domain, unlabelled = test @ turn, two_moons_turned(200 + seed)[0] @ turn
        learner = KNeighborsClassifier(5)
        transport = EntropicTransport(unlabelled, epsilon=0.4, epsilon_scale="mean")
        adapter = TransportAdapter(learner, transport).fit(X, y)
        pipeline = make_pipeline(clone(transport), learner).fit(X, y)
        accuracies.append(
            [
                adapter.score(domain, labels),
                learner.fit(X, y).score(domain, labels),
                pipeline.score(domain, labels),
            ]
        )
    accuracies = np.array(accuracies)
    for other in (1, 2):
        gain = accuracies[:, 0] - accuracies[:, other]
        assert gain.mean() > 4 * gain.std(ddof=1) / np.sqrt(len(gain))
        assert gain.mean() > 0.02


def test_the_estimator_is_trained_on_moved_points():
    X, Y = samples()
    y = X[:, 0] - 2 * X[:, 1]
    adapter = TransportAdapter(LinearRegression(), EntropicTransport(epsilon=0.3), target=Y)
    adapter.fit(X, y)
    moved = EntropicTransport(Y, epsilon=0.3).fit_transform(X)
    expected = LinearRegression().fit(moved, y)
    np.testing.assert_allclose(adapter.predict(Y), expected.predict(Y), atol=1e-10)
    assert adapter.score(Y, Y[:, 0]) == pytest.approx(expected.score(Y, Y[:, 0]))
    # The parameters a user gave are as they were.
    assert adapter.transport.target is None
    assert not hasattr(adapter.estimator, "coef_")


def test_without_a_target_nothing_moves():
    X, _ = samples()
    y = (X[:, 0] > 2).astype(int)
    for adapter in (
        TransportAdapter(LogisticRegression()),
        TransportAdapter(LogisticRegression(), EntropicTransport()),
    ):
        adapter.fit(X, y)
        assert adapter.transport_ is None
        np.testing.assert_array_equal(
            adapter.predict_proba(X), LogisticRegression().fit(X, y).predict_proba(X)
        )
    broken = X.copy()
    broken[0, 0] = np.nan
    trees = TransportAdapter(HistGradientBoostingClassifier(max_iter=2))
    assert trees.fit(broken, y).predict(broken).shape == y.shape
    with pytest.raises(ValueError, match="NaN"):
        clone(trees).set_params(target=X).fit(broken, y)


def test_methods_are_those_of_the_estimator():
    X, Y = samples()
    y = (X[:, 0] > 2).astype(int)
    svc = TransportAdapter(LinearSVC(), target=Y).fit(X, y)
    assert hasattr(svc, "decision_function") and not hasattr(svc, "predict_proba")
    assert svc.decision_function(Y).shape == (len(Y),)
    logistic = TransportAdapter(LogisticRegression(), target=Y).fit(X, y)
    np.testing.assert_allclose(logistic.predict_proba(Y).sum(axis=1), 1.0)
    np.testing.assert_array_equal(logistic.classes_, [0, 1])
    with pytest.raises(NotFittedError):
        TransportAdapter(LinearSVC()).predict(Y)


def test_weights_reach_both():
    X, Y = samples()
    y = (X[:, 0] > 2).astype(int)
    weights = np.random.default_rng(0).integers(0, 3, len(X))
    rows = np.repeat(np.arange(len(X)), weights)
    adapter = TransportAdapter(LogisticRegression(tol=1e-10, max_iter=1000), target=Y)
    weighted = clone(adapter).fit(X, y, sample_weight=weights).predict_proba(Y)
    repeated = clone(adapter).fit(X[rows], y[rows]).predict_proba(Y)
    np.testing.assert_allclose(weighted, repeated, atol=1e-5)
    with pytest.raises(TypeError, match="KNeighborsClassifier does not take it"):
        TransportAdapter(KNeighborsClassifier()).fit(X, y, sample_weight=weights)


def test_the_transport_is_tuned_within():
    X, Y = samples()
    y = (X[:, 0] > 2).astype(int)
    adapter = TransportAdapter(LogisticRegression(), EntropicTransport(), target=Y)
    search = GridSearchCV(adapter, {"transport__epsilon": [0.1, 10.0], "estimator__C": [0.1, 1.0]})
    assert set(search.fit(X, y).best_params_) == {"transport__epsilon", "estimator__C"}


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def test_names_reach_the_estimator(frame):
    X, Y = samples()
    y = (X[:, 0] > 2).astype(int)
    table, target = (frame(dict(zip(("height", "weight"), Z.T))) for Z in (X, Y))
    by_name = ColumnTransformer([("scaled", StandardScaler(), ["weight", "height"])])
    adapter = TransportAdapter(make_pipeline(by_name, LogisticRegression()), target=target)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = adapter.fit(table, y).predict(target)
        plain = TransportAdapter(LogisticRegression(), target=target).fit(table, y)
        assert list(plain.estimator_.feature_names_in_) == ["height", "weight"]
        np.testing.assert_array_equal(plain.predict(target), found)
        with config_context(transform_output="pandas"):
            unnamed = TransportAdapter(LogisticRegression(), target=Y).fit(X, y)
            np.testing.assert_array_equal(unnamed.predict(Y), found)
    swapped = frame(dict(zip(("weight", "height"), Y.T[::-1])))
    with pytest.raises(ValueError, match=r"target must have the feature names of X.*'weight'"):
        EntropicTransport(swapped).fit(table)
