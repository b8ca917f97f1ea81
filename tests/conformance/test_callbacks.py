"""Fits report their progress, and survive the processes that people start around them."""

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.callback import ScoringMonitor
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from ._cases import CASES, each_of, for_all
from .test_contract import assert_identical, assert_same_but_for_rounding

for_each = each_of([case for case in CASES if case.listens])


class Recorder:
    """Keep every iterate; ask to stop after some of them."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.names = []
        self.iterates = []
        self.whole = None

    def setup(self, estimator, context):
        self.iterates.clear()

    def on_fit_task_begin(self, estimator, context):
        self.names.append(("begin", context.task_name))

    def on_fit_task_end(self, estimator, context, *, X, y, metadata, fitted_estimator):
        self.names.append(("end", context.task_name))
        if context.parent is None:
            self.whole = fitted_estimator
        else:
            self.iterates.append(fitted_estimator)
        return self.stop_after is not None and len(self.iterates) >= self.stop_after

    def teardown(self, estimator, context):
        self.names.append(("teardown", context.task_name))


class Counter:
    """Count the ends of tasks everywhere below the estimator it is set on."""

    max_propagation_depth = None

    def __init__(self):
        self.ends = []

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        self.ends.append((context.estimator_name, context.task_name))

    def teardown(self, estimator, context):
        pass


def hard_problem(case):
    """What takes several working sets, or sweeps.

    For regressors that are more features than rows and many of them needed.
    """
    shape = case.hard or ((60, 400) if case.needs_target else (60, 24))
    X, y, _ = case.data(*shape, n_informative=40, noise=0.1)
    return X, y, case.tight


@for_each
def test_ticks(case):
    X, y, settings = hard_problem(case)
    recorder = Recorder()
    silent = case.make(**settings).fit(X, y)
    estimator = case.make(**settings).set_callbacks(recorder).fit(X, y)
    assert_identical(silent, estimator)
    assert len(recorder.iterates) > 3
    assert recorder.names[0][0] == "begin" and recorder.names[-1][0] == "teardown"
    for iterate in recorder.iterates:
        assert case.output(iterate, X).shape[0] == len(X)
        assert y is None or case.output(iterate, X).shape == y.shape
        assert not case.scores or np.isfinite(iterate.score(X, y))
    assert recorder.whole is not None
    if case.criterion is not None:
        values = np.array([case.criterion(iterate, X, y) for iterate in recorder.iterates])
        # The objective of an iterate is the criterion there, as that of the whole fit is.
        reported = [getattr(iterate, "objective_", None) for iterate in recorder.iterates]
        if None not in reported:
            np.testing.assert_allclose(values, reported, rtol=1e-9)
        assert values[-1] == pytest.approx(estimator.objective_, rel=1e-9)
        if case.descends:
            assert np.all(np.diff(values) <= 1e-6 * np.abs(values[:-1]))
            assert values[0] > values[-1]


# A graph that is not finished may be what the variances alone would say.
@pytest.mark.filterwarnings("ignore::sparsestat.dag.SortabilityWarning")
@for_each
def test_a_callback_may_stop_the_fit(case):
    if case.criterion is None:
        pytest.skip("the paths of a search are all needed")
    X, y, settings = hard_problem(case)
    recorder = Recorder(stop_after=2)
    stopped = case.make(**settings).set_callbacks(recorder).fit(X, y)
    assert len(recorder.iterates) == 2
    assert stopped.n_iter_ < case.make(**settings).fit(X, y).n_iter_
    assert not stopped.converged_
    assert stopped.objective_ == pytest.approx(case.criterion(stopped, X, y), rel=1e-9)


@for_each
def test_callbacks_reach_into_a_search_over_a_pipeline(case):
    if not case.scores:
        pytest.skip("has no score that a search could compare")
    X, y, _ = case.data()
    pipeline = make_pipeline(clone(case.scaler), case.make())
    grid = {f"{pipeline.steps[-1][0]}__refit": [True, False]}
    if case.grid:
        grid = {f"{pipeline.steps[-1][0]}__{name}": values for name, values in case.grid.items()}
    elif case.needs_target:
        grid = {f"{pipeline.steps[-1][0]}__fit_intercept": [True, False]}
    counter = Counter()
    GridSearchCV(pipeline, grid, cv=2).set_callbacks(counter).fit(X, y)
    fits = [task for name, task in counter.ends if name == case.name]
    # Two candidates on two folds and the refit, each of them with at least one tick.
    assert fits.count("fit") == 5
    assert len(fits) >= 10


def own_score(estimator, X, y):
    return estimator.score(X, y)


@for_each
def test_scoring_monitor(case):
    if not case.scores:
        pytest.skip("has no score to monitor")
    X, y, settings = hard_problem(case)
    # The monitor scores nothing without a target, so one is given where none is needed.
    y = np.zeros(len(X)) if y is None else y
    monitor = ScoringMonitor(scoring={"own": own_score})
    estimator = case.make(**settings).set_callbacks(monitor).fit(X, y)
    # The rows of ticks; the path of the fit itself has one step less.
    depth = max(len(row["task_id_path"]) for row in monitor.get_logs().data)
    rows = [row for row in monitor.get_logs().data if len(row["task_id_path"]) == depth]
    scores = [row["own"] for row in rows]
    assert len(scores) > 3
    if case.criterion is not None:
        assert scores[-1] == pytest.approx(estimator.score(X, y))
        assert scores[-1] > scores[0]
    if case.needs_target:
        name = "accuracy" if case.classes else "r2"
        monitor = ScoringMonitor(scoring=name)
        case.make(**settings).set_callbacks(monitor).fit(X, y)
        by_name = [
            row[name] for row in monitor.get_logs().data if len(row["task_id_path"]) == depth
        ]
        assert by_name == pytest.approx(scores)


# --- workers -----------------------------------------------------------------------------


def _start_method_context(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"{sys.platform} cannot {method}")
    return multiprocessing.get_context(method)


@for_all
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_after_a_fit(method):
    """A child of a process whose threads and BLAS have worked fits the same model."""
    context = _start_method_context(method)
    jobs = []
    for case in CASES:
        X, y, _ = case.data(*case.wide)
        settings = {"n_jobs": 2} if "n_jobs" in case.parameters else {}
        jobs.append((case.make(**settings), X, y))
    expected = [estimator.fit(X, y) for estimator, X, y in jobs]
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        futures = [pool.submit(case.make().fit, X, y) for case, (_, X, y) in zip(CASES, jobs)]
        for estimator, future in zip(expected, futures):
            assert_same_but_for_rounding(estimator, future.result(timeout=120))


@for_all
def test_joblib_workers():
    jobs = [(case.make(), *case.data(*case.wide)[:2]) for case in CASES]
    expected = [estimator.fit(X, y) for estimator, X, y in jobs]
    found = Parallel(n_jobs=2, backend="loky")(
        delayed(estimator.fit)(X, y) for estimator, X, y in jobs
    )
    for first, second in zip(expected, found):
        assert_same_but_for_rounding(first, second)
