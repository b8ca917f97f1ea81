"""Threads that never change a result.

A loop releases the GIL and works on a range, a fold or a problem of its own; how
many threads share the items decides when each result is ready, never what it is.
"""

import contextlib
import contextvars
import functools
import os
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

import joblib
import sklearn
from threadpoolctl import ThreadpoolController

from sparsestat._config import config_context, get_config

_inside_pool = contextvars.ContextVar("sparsestat_inside_pool", default=False)


def thread_ranges(n, n_chunks):
    """Split ``range(n)`` into consecutive ranges whose lengths differ by one at most.

    A result that is summed over ranges depends on ``n_chunks``, so take it from the
    size of the problem, never from the number of threads.

    Parameters
    ----------
    n : int
        Number of items.
    n_chunks : int
        Largest number of ranges; no range is empty.

    Returns
    -------
    ranges : list of (int, int)
        The first item of each range, and the one after its last.
    """
    if n_chunks < 1:
        raise ValueError(f"n_chunks must be at least 1, got {n_chunks}.")
    n_chunks = min(n, n_chunks)
    return [(n * i // n_chunks, n * (i + 1) // n_chunks) for i in range(n_chunks)]


def effective_threads(n_jobs):
    """Number of threads that ``n_jobs`` asks for.

    Parameters
    ----------
    n_jobs : int or None
        As everywhere in scikit-learn: None is 1 unless
        :func:`joblib.parallel_config` says otherwise, -1 is every core.

    Returns
    -------
    n_threads : int
        At least 1; always 1 within :func:`run_in_threads`, so that a nested fit
        does not start threads of its own.
    """
    if n_jobs is not None and n_jobs > 0:
        wanted = n_jobs
    else:
        # A cluster's joblib backend counts the cores of every machine.
        wanted = min(joblib.effective_n_jobs(n_jobs), joblib.cpu_count())
    return 1 if _inside_pool.get() else wanted


class _SingleThreadedBlas:
    """Hold BLAS to one thread while anyone in the process asks for it.

    The limit belongs to the process.  Were each caller to save and restore it alone,
    overlapping calls would lift it early, or leave it behind for good.
    """

    def __init__(self):
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self):
        self._lock = threading.Lock()
        self._holders = 0
        self._limit = None

    @contextlib.contextmanager
    def __call__(self):
        with self._lock:
            if self._holders == 0:
                self._limit = _controller().limit(limits=1, user_api="blas")
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if self._holders == 0:
                    self._limit.restore_original_limits()


@functools.cache
def _controller():
    # scipy ships a BLAS of its own, which must be loaded to be found.
    import scipy.linalg  # noqa: F401

    return ThreadpoolController()


single_threaded_blas = _SingleThreadedBlas()


def run_in_threads(function, items, n_jobs=None):
    """Apply a function to every item, on as many threads as ``n_jobs`` allows.

    The order of the results and every bit in them are the same for any ``n_jobs``:
    BLAS keeps to one thread within a call, and the settings of sparsestat,
    scikit-learn and NumPy's floating-point errors are those of the caller.

    Parameters
    ----------
    function : callable
        Called with one item; it must not depend on the order of the calls.
    items : iterable
        What to work on.
    n_jobs : int or None, default=None
        Number of threads, see :func:`effective_threads`.

    Returns
    -------
    results : list
        One for each item, in the order of the items.

    Raises
    ------
    Exception
        What ``function`` raised first; of exceptions found together, that of the
        earliest item. Items that run are waited for, others are dropped.
    """
    items = list(items)
    n_threads = min(effective_threads(n_jobs), len(items))
    if n_threads <= 1:
        with single_threaded_blas():
            return [function(item) for item in items]

    settings, sklearn_settings = get_config(), sklearn.get_config()

    def work(item):
        _inside_pool.set(True)
        with config_context(**settings), sklearn.config_context(**sklearn_settings):
            return function(item)

    with single_threaded_blas(), ThreadPoolExecutor(n_threads) as pool:
        # A context can be entered by one thread at a time, hence a copy for each item.
        futures = [pool.submit(contextvars.copy_context().run, work, item) for item in items]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            for future in futures:
                future.cancel()
        for future in futures:
            if future in done:
                future.result()
    return [future.result() for future in futures]


class ThreadTeam:
    """Threads that stay together for many short rounds of work, as a context manager.

    :func:`run_in_threads` starts its threads for one round; an iteration whose rounds take
    a millisecond each would spend most of its time on that.

    Parameters
    ----------
    n_jobs : int or None, default=None
        Number of threads, see :func:`effective_threads`. Outside of a ``with`` block, and
        with one thread, the work is done by the caller.
    """

    def __init__(self, n_jobs=None):
        self.n_threads = effective_threads(n_jobs)
        self._pool = None

    def __enter__(self):
        if self.n_threads > 1:
            self._pool = ThreadPoolExecutor(self.n_threads)
        return self

    def __exit__(self, *exception):
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        return False

    def map(self, function, items):
        """Apply a function that releases the GIL to every item.

        Parameters
        ----------
        function : callable
            Called with one item; it must not depend on the order of the calls.
        items : list
            What to work on.

        Returns
        -------
        results : list
            One for each item, in the order of the items.
        """
        if self._pool is None or len(items) == 1:
            return [function(item) for item in items]
        return list(self._pool.map(function, items))
