import threading

import numpy as np
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.callback import ScoringMonitor
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import validate_data

from sparsestat.utils._callbacks import FitTicker
from sparsestat.utils._sklearn import CallbackSupportMixin, with_callbacks
from sparsestat.utils._threads import run_in_threads


class Recorder:
    """Keep what every hook was told; ask to stop after so many ticks."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.events = []

    def setup(self, estimator, context):
        self.events.append(("setup", context.task_name, None))

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None):
        self.events.append(("begin", context.task_name, metadata))

    def on_fit_task_end(
        self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
    ):
        # Callbacks that propagate meet transformers as well.
        can_score = hasattr(fitted_estimator, "score")
        score = fitted_estimator.score(X, y) if can_score else None
        self.events.append(("end", context.task_name, score))
        return self.stop_after is not None and len(self.ends("step")) >= self.stop_after

    def teardown(self, estimator, context):
        self.events.append(("teardown", context.task_name, None))

    def ends(self, name):
        return [score for event, task, score in self.events if (event, task) == ("end", name)]


class PropagatedRecorder(Recorder):
    max_propagation_depth = None


class Descent(CallbackSupportMixin, RegressorMixin, BaseEstimator):
    """Least squares by gradient descent, one tick for each step."""

    def __init__(self, n_steps=5):
        self.n_steps = n_steps

    @with_callbacks
    def fit(self, X, y, sample_weight=None):
        X, y = validate_data(self, X, y)
        self.coef_ = np.zeros(X.shape[1])
        step = 1 / np.linalg.norm(X, 2) ** 2
        context = self._init_callback_context(max_subtasks=self.n_steps)
        with FitTicker(self, context, X, y, sample_weight) as ticker:
            self.n_iter_ = 0
            while self.n_iter_ < self.n_steps:
                self.n_iter_ += 1
                self.coef_ = self.coef_ + step * X.T @ (y - X @ self.coef_)
                if ticker.tick("step", lambda: {"coef_": self.coef_}):
                    break
        self.stopped_ = ticker.stopped
        return self

    def predict(self, X):
        return X @ self.coef_


def make_data():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 3))
    return X, X @ [1.0, 2.0, 3.0] + 0.1 * rng.standard_normal(40)


def test_hooks_come_in_order_with_what_they_need():
    X, y = make_data()
    recorder = Recorder()
    Descent(4).set_callbacks(recorder).fit(X, y, sample_weight=np.ones(40))
    names = [event[:2] for event in recorder.events]
    assert names == [
        ("setup", "fit"),
        ("begin", "fit"),
        *[("begin", "step"), ("end", "step")] * 4,
        ("end", "fit"),
        ("teardown", "fit"),
    ]
    metadata = recorder.events[1][2]
    assert list(metadata) == ["sample_weight"]
    scores = recorder.ends("step")
    assert len(scores) == 4 and scores == sorted(scores) and scores[0] < scores[-1]
    assert recorder.ends("fit") == scores[-1:]


def test_a_callback_can_stop_the_fit():
    X, y = make_data()
    stopped = Descent(50).set_callbacks(Recorder(stop_after=3)).fit(X, y)
    assert stopped.n_iter_ == 3 and stopped.stopped_
    np.testing.assert_array_equal(stopped.coef_, Descent(3).fit(X, y).coef_)


def test_without_callbacks_nothing_is_evaluated_or_recorded():
    X, y = make_data()
    estimator = Descent()
    context = estimator._init_callback_context(max_subtasks=0)
    with FitTicker(estimator, context, X, y) as ticker:
        for _ in range(3):
            assert ticker.tick("step", lambda: pytest.fail("evaluated")) is False
        with ticker.subtask("fold") as fold:
            assert not fold.active
    assert not context._children_map


def test_attributes_are_evaluated_only_for_a_callback_that_wants_them():
    class Blind(Recorder):
        def on_fit_task_end(self, estimator, context):
            self.events.append(("end", context.task_name, None))

    X, y = make_data()
    estimator = Descent().set_callbacks(blind := Blind())
    context = estimator._init_callback_context(max_subtasks=1)
    with FitTicker(estimator, context, X, y) as ticker:
        ticker.tick("step", lambda: pytest.fail("evaluated"))
    assert blind.ends("step") == [None]


def test_an_exception_leaves_the_task_unfinished_and_is_not_swallowed():
    X, y = make_data()
    estimator = Descent().set_callbacks(recorder := Recorder())
    context = estimator._init_callback_context()
    with pytest.raises(ZeroDivisionError), FitTicker(estimator, context, X, y):
        raise ZeroDivisionError
    assert recorder.ends("fit") == []


def test_callbacks_propagate_through_a_search_and_a_pipeline():
    X, y = make_data()
    recorder = PropagatedRecorder()
    search = GridSearchCV(
        make_pipeline(StandardScaler(), Descent()), {"descent__n_steps": [4, 6]}, cv=2
    )
    search.set_callbacks(recorder).fit(X, y)
    # Two folds of each candidate, and the better one once more on all the data.
    refit = search.best_params_["descent__n_steps"]
    assert len(recorder.ends("step")) == 2 * (4 + 6) + refit
    assert all(score is not None for score in recorder.ends("step"))


def test_scoring_monitor_follows_the_fit():
    X, y = make_data()
    monitor = ScoringMonitor(scoring="r2")
    estimator = Descent(6).set_callbacks(monitor).fit(X, y)
    log = monitor.get_logs().data
    steps = [row["r2"] for row in log if row["task_name"] == "step"]
    assert len(steps) == 6 and steps == sorted(steps)
    assert steps[-1] == pytest.approx(estimator.score(X, y))


def test_subtasks_on_threads():
    X, y = make_data()
    estimator = Descent()
    estimator.set_callbacks(recorder := Recorder())
    context = estimator._init_callback_context(max_subtasks=8, sequential_subtasks=False)
    meeting = threading.Barrier(4, timeout=30)
    with FitTicker(estimator, context, X, y) as ticker:
        folds = [ticker.subtask("fold", task_id=i, max_subtasks=5) for i in range(8)]

        def work(fold):
            with fold:
                meeting.wait()
                for _ in range(5):
                    fold.tick("step", lambda: {"coef_": np.ones(3)})

        run_in_threads(work, folds, n_jobs=4)
    assert len(recorder.ends("step")) == 40 and len(recorder.ends("fold")) == 8
    assert set(context._children_map) == set(range(8))


def test_ticks_from_many_threads_are_numbered_apart():
    X, y = make_data()
    estimator = Descent().set_callbacks(Recorder())
    context = estimator._init_callback_context(max_subtasks=None)
    with FitTicker(estimator, context, X, y) as ticker:
        run_in_threads(lambda _: [ticker.tick("step") for _ in range(50)], range(8), n_jobs=4)
    assert sorted(context._children_map) == list(range(400))
