"""The search for the number of components, and the picture of a bridge."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline

from sparsestat.datasets import make_schrodinger_bridge
from sparsestat.transport import _light_bridge as lb
from sparsestat.transport._light_schrodinger_bridge import LightSchrodingerBridge
from sparsestat.transport._light_schrodinger_bridge_cv import LightSchrodingerBridgeCV
from sparsestat.transport._plot_bridge import BridgeDisplay
from sparsestat.utils._random import as_generator

from .test_bridge_estimator import Recorder, samples

matplotlib.use("Agg")


def search_of(target, candidates=(1, 2, 4), **settings):
    settings = {"cv": 3, "epsilon": 0.5, "random_state": 0, "max_iter": 2000, **settings}
    return LightSchrodingerBridgeCV(candidates, target=target, **settings)


def test_the_number_of_clusters_is_found():
    data = make_schrodinger_bridge(800, 2, n_components=3, epsilon=1.0, random_state=0)
    search = search_of(data.target, [8, 1, 3, 2], epsilon=1.0).fit(data.X)
    assert list(search.candidates_) == [1, 2, 3, 8]
    assert search.n_components_ == 3
    assert search.cv_scores_.shape == (4, 3)
    assert np.argmax(search.cv_scores_.mean(axis=1)) == 2
    assert np.all(search.cv_scores_[2] > search.cv_scores_[0])


def test_last_fit_is_one_to_all_rows():
    X, target = samples(100)
    search = search_of(target, 2).fit(X)
    alone = LightSchrodingerBridge(
        2, target=target, epsilon=0.5, max_iter=2000, random_state=1
    ).fit(X)
    # k-means finds the same two clusters from any seed.
    assert search.loss_ == pytest.approx(alone.loss_, rel=1e-6)
    assert search.n_components_ == 2 and search.cv_scores_.shape == (1, 3)
    np.testing.assert_allclose(search.predict(X), alone.predict(X), atol=1e-2)
    assert search.score(X) == pytest.approx(-search.loss_, rel=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
def test_scores_are_those_of_held_out_rows(weighted):
    X, target = samples(90)
    weights = np.arange(90) % 3 + 0.0 if weighted else np.ones(90)
    search = search_of(target, [1]).fit(X, sample_weight=weights if weighted else None)
    # Nothing is drawn before the folds if there is a target.
    folds = search._folds(90, 90, as_generator(0))
    assert sorted(np.concatenate([fold[1] for fold in folds])) == list(range(90))
    assert sorted(np.concatenate([fold[3] for fold in folds])) == list(range(90))
    for (train, test, goal, goal_test), score in zip(folds, search.cv_scores_[0]):
        assert not set(train) & set(test) and not set(goal) & set(goal_test)
        mean = np.average(X[train], axis=0, weights=weights[train])
        variance = np.average((X[train] - mean) ** 2, axis=0, weights=weights[train])
        moments = target[goal].mean(axis=0), target[goal].var(axis=0)
        exact = lb.gaussian_bridge(mean, variance, *moments, 0.5)
        shares = weights[test] / weights[test].sum(), np.full(30, 1 / 30)
        expected = lb.bridge_loss(exact, X[test], target[goal_test], *shares)
        assert score == pytest.approx(-expected, rel=1e-9)


def test_threads_and_seeds():
    X, target = samples(60)
    one, two = (search_of(target, n_jobs=n_jobs).fit(X) for n_jobs in (1, 2))
    np.testing.assert_array_equal(one.cv_scores_, two.cv_scores_)
    np.testing.assert_array_equal(one.locations_, two.locations_)
    other = search_of(target, random_state=1).fit(X)
    assert not np.array_equal(one.cv_scores_, other.cv_scores_)


def test_weights_count_in_the_folds():
    X, target = samples(40)
    weights = np.arange(40) % 3
    rows = np.repeat(np.arange(40), weights)
    halves = [(np.arange(20), np.arange(20, 40)), (np.arange(20, 40), np.arange(20))]
    again = [tuple(np.flatnonzero(np.isin(rows, side)) for side in fold) for fold in halves]
    weighted = search_of(target, cv=halves).fit(X, sample_weight=weights)
    repeated = search_of(target, cv=again).fit(X[rows])
    np.testing.assert_allclose(weighted.cv_scores_, repeated.cv_scores_, rtol=1e-10)
    np.testing.assert_array_equal(weighted.locations_, repeated.locations_)
    one_sided = np.r_[np.zeros(20), np.ones(20)]
    with pytest.raises(ValueError, match="sample_weight must not be zero for all rows"):
        search_of(target, cv=halves).fit(X, sample_weight=one_sided)


def test_search_reports_every_fold():
    X, target = samples(60)
    recorder = Recorder()
    search = search_of(target).set_callbacks(recorder).fit(X)
    np.testing.assert_array_equal(search.locations_, search_of(target).fit(X).locations_)
    assert len(recorder.iterates) == 3 * 3 + 1
    for iterate in recorder.iterates:
        assert iterate.predict(X).shape == X.shape and np.isfinite(iterate.score(X))
    assert recorder.iterates[-1].loss_ == search.loss_


def test_bad_searches():
    X, target = samples(60)
    for settings, message in (
        ({"n_components": [0, 1]}, "n_components must be a positive integer or a list"),
        ({"n_components": []}, "n_components must be"),
        ({"n_components": [[1, 2]]}, "n_components must be"),
        ({"n_components": [1.5]}, "n_components must be"),
        ({"cv": [(np.arange(30), np.arange(30, 60))]}, "cv must give at least 2 folds, got 1"),
        ({"target": target[:2]}, "target must have a row for each of the 3 folds, got 2"),
        ({"n_components": [50]}, "target must have a point .* n_components=50 components, got 40"),
    ):
        with pytest.raises(ValueError, match=message):
            search_of(target).set_params(**settings).fit(X)
    with pytest.warns(ConvergenceWarning, match="max_iter=1 was reached"):
        search_of(target, 4, max_iter=1).fit(X)


def test_search_on_a_device(xp):
    X, target = samples(40)
    there = search_of(xp.asarray(target), [1, 2], tol=1e-3).fit(xp.asarray(X))
    xp.assert_native(there.locations_)
    host = search_of(target, [1, 2], tol=1e-3)
    np.testing.assert_allclose(there.cv_scores_, host.fit(X).cv_scores_, rtol=1e-4)
    assert there.n_components_ == host.n_components_


# --- display -----------------------------------------------------------------------------


def fitted(d=2):
    X, target = samples(80, d)
    return LightSchrodingerBridge(2, target=target, epsilon=0.5, random_state=0).fit(X), X


def test_display_of_a_plane():
    model, X = fitted()
    display = BridgeDisplay.from_estimator(model, X, n_paths=15, n_times=9, random_state=0)
    assert display.paths.shape == (15, 9, 2) and len(display.lines_) == 15
    np.testing.assert_array_equal(display.lines_[3].get_xydata(), display.paths[3])
    start, end = display.start_.get_offsets(), display.end_.get_offsets()
    np.testing.assert_array_equal(start, display.paths[:, 0])
    np.testing.assert_array_equal(end, display.paths[:, -1])
    assert {tuple(row) for row in np.asarray(start)} <= {tuple(row) for row in X}
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("x0", "x1")
    assert display.plot(ax=display.ax_).figure_ is display.figure_
    same = BridgeDisplay.from_estimator(model, X, n_paths=15, n_times=9, random_state=0)
    np.testing.assert_array_equal(same.paths, display.paths)


def test_display_against_time():
    model, X = fitted(3)
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    model.fit(frame)
    display = BridgeDisplay.from_estimator(model, frame, features=[2])
    assert display.paths.shape == (80, 50, 1)
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("time", "c")
    np.testing.assert_array_equal(display.lines_[0].get_xdata(), np.linspace(0, 1, 50))
    np.testing.assert_array_equal(display.start_.get_offsets()[:, 1], X[:, 2])
    alone, X = fitted(1)
    assert BridgeDisplay.from_estimator(alone, X).feature_names == ["x0"]


def test_displays_that_cannot_be():
    model, X = fitted()
    for settings, message in (
        ({"n_paths": 0}, "n_paths must be an integer of at least 1, got 0"),
        ({"n_times": 1}, "n_times must be"),
        ({"features": [0, 2]}, r"features must be .* got \[0, 2\]"),
        ({"features": []}, "features must be"),
    ):
        with pytest.raises(ValueError, match=message):
            BridgeDisplay.from_estimator(model, X, **settings)
    with pytest.raises(NotFittedError):
        BridgeDisplay.from_estimator(LightSchrodingerBridge(), X)
    with pytest.raises(TypeError, match="LinearRegression has no trajectories"):
        BridgeDisplay.from_estimator(LinearRegression().fit(X, X[:, 0]), X)
    with pytest.raises(TypeError, match="pass its last step"):
        BridgeDisplay.from_estimator(make_pipeline(model), X)
