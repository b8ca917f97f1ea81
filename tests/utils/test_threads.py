import threading
import time
import warnings

import joblib
import numpy as np
import pytest
import sklearn
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

import sparsestat
from sparsestat.utils._threads import (
    ThreadTeam,
    effective_threads,
    run_in_threads,
    single_threaded_blas,
    thread_ranges,
)


@given(st.integers(0, 200), st.integers(1, 50))
def test_ranges_cover_everything_once_and_evenly(n, n_chunks):
    ranges = thread_ranges(n, n_chunks)
    assert [i for start, stop in ranges for i in range(start, stop)] == list(range(n))
    lengths = [stop - start for start, stop in ranges]
    assert len(ranges) == min(n, n_chunks)
    if lengths:
        assert min(lengths) >= 1 and max(lengths) - min(lengths) <= 1


def test_ranges_need_a_chunk():
    with pytest.raises(ValueError, match="n_chunks must be at least 1, got 0"):
        thread_ranges(3, 0)


def test_effective_threads():
    assert effective_threads(None) == 1
    assert effective_threads(5) == 5
    assert effective_threads(-1) == joblib.cpu_count()
    with joblib.parallel_config(n_jobs=-1):
        assert effective_threads(None) == joblib.cpu_count()
    with pytest.raises(ValueError, match="n_jobs"):
        effective_threads(0)


def test_no_threads_within_threads():
    assert run_in_threads(lambda _: effective_threads(4), range(2), n_jobs=2) == [1, 1]
    assert effective_threads(4) == 4


@pytest.mark.parametrize("n_jobs", [None, 1, 3])
def test_results_come_in_order(n_jobs):
    def slow_start(i):
        time.sleep(0.02 if i == 0 else 0)
        return i

    assert run_in_threads(slow_start, iter(range(20)), n_jobs) == list(range(20))
    assert run_in_threads(slow_start, [], n_jobs) == []


def test_items_run_at_the_same_time():
    meeting = threading.Barrier(3, timeout=30)
    assert sorted(run_in_threads(lambda _: meeting.wait(), range(3), n_jobs=3)) == [0, 1, 2]


def test_first_exception_propagates_and_the_rest_is_dropped():
    started = []

    def fail(i):
        started.append(i)
        if i == 0:
            raise KeyError("first")
        time.sleep(0.05)

    with pytest.raises(KeyError, match="first"):
        run_in_threads(fail, range(1000), n_jobs=2)
    assert len(started) < 1000


def test_an_exception_waits_for_the_items_that_are_running():
    meeting, finished = threading.Barrier(2, timeout=30), []

    def work(i):
        meeting.wait()
        if i == 1:
            raise KeyError("second")
        time.sleep(0.05)
        finished.append(i)

    with pytest.raises(KeyError, match="second"):
        run_in_threads(work, range(2), n_jobs=2)
    assert finished == [0]


def test_warnings_reach_the_caller():
    with pytest.warns(UserWarning, match="from a thread"):
        run_in_threads(lambda _: warnings.warn("from a thread", stacklevel=1), range(2), n_jobs=2)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_settings_reach_the_threads(n_jobs):
    def seen(_):
        return (
            sparsestat.get_config()["backend"],
            sklearn.get_config()["assume_finite"],
            np.geterr()["divide"],
        )

    with (
        sparsestat.config_context(backend="array_api"),
        sklearn.config_context(assume_finite=True),
        np.errstate(divide="raise"),
    ):
        assert run_in_threads(seen, range(3), n_jobs) == [("array_api", True, "raise")] * 3


def _blas_threads(*_):
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_blas_has_one_thread_inside_and_is_restored(n_jobs):
    before = _blas_threads()
    assert run_in_threads(_blas_threads, range(2), n_jobs) == [{1}, {1}]
    with pytest.raises(ZeroDivisionError):
        run_in_threads(lambda i: 1 / i, [0], n_jobs)
    assert _blas_threads() == before


def test_overlapping_limits_end_with_the_last():
    before = _blas_threads()
    first, second = single_threaded_blas(), single_threaded_blas()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert _blas_threads() == {1}
    second.__exit__(None, None, None)
    assert _blas_threads() == before


def test_products_have_the_same_bits_for_any_number_of_threads():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 300))
    products = [
        run_in_threads(lambda r: X[slice(*r)].T @ X[slice(*r)], thread_ranges(400, 3), n_jobs)
        for n_jobs in (1, 2, 3)
    ]
    for other in products[1:]:
        np.testing.assert_array_equal(products[0], other)


@pytest.mark.parametrize("n_jobs", [1, 2, 5])
def test_a_team_works_in_many_rounds(n_jobs):
    team = ThreadTeam(n_jobs)
    # Outside of the block, and without threads, the caller does the work.
    assert team.map(lambda i: threading.get_ident(), [0, 1]) == [threading.get_ident()] * 2
    with team:
        for _ in range(20):
            assert team.map(lambda i: i * i, list(range(7))) == [i * i for i in range(7)]
        workers = set(team.map(lambda i: threading.get_ident(), list(range(50))))
        assert len(workers) <= n_jobs
        assert (threading.get_ident() in workers) == (n_jobs == 1)
        with pytest.raises(ZeroDivisionError):
            team.map(lambda i: 1 / i, [1, 0, 2])
    assert team.map(lambda i: threading.get_ident(), [0, 1]) == [threading.get_ident()] * 2


def test_a_team_within_a_pool_has_one_thread():
    assert run_in_threads(lambda _: ThreadTeam(4).n_threads, range(2), 2) == [1, 1]
