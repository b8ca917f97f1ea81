"""Report the progress of a fit to scikit-learn's callbacks."""

import threading


class FitTicker:
    """Tell the callbacks of an estimator how far its fit has come.

    As a context manager it announces the beginning of a task and, unless an exception
    leaves the block, its end. Without callbacks every method returns at once.

    Parameters
    ----------
    estimator : estimator
        The estimator that is fitted.
    context : sklearn.callback.CallbackContext
        The task, for a fit what ``estimator._init_callback_context`` returned.
        ``max_subtasks=None`` there allows any number of ticks.
    X : array-like
        What callbacks may score on; as the caller of ``fit`` gave it, so that feature
        names agree.
    y : array-like, default=None
        Targets, likewise.
    sample_weight : array-like or None, default=None
        Weights, likewise.

    Attributes
    ----------
    active : bool
        Whether any callback listens.
    stopped : bool
        Whether a callback has asked, at a tick or at the end of the task, to stop.

    Examples
    --------
    The skeleton of an iterative fit, decorated by ``with_callbacks``::

        context = self._init_callback_context(max_subtasks=self.max_iter)
        with FitTicker(self, context, X, y, sample_weight) as ticker:
            for n_iter in range(self.max_iter):
                coef = improve(coef)
                if ticker.tick("iteration", lambda: {"coef_": coef, "intercept_": 0.0}):
                    break
    """

    def __init__(self, estimator, context, X, y=None, sample_weight=None):
        self.active = bool(context._callbacks)
        self.stopped = False
        self._estimator = estimator
        self._context = context
        self._data = (X, y, sample_weight)
        self._attributes = None
        self._lock = threading.Lock()

    def __enter__(self):
        if self.active:
            self._context.call_on_fit_task_begin(**self._arguments())
        return self

    def __exit__(self, exception_type, exception, traceback):
        if self.active and exception_type is None:
            self.stopped |= self._end(self._context, self._attributes)
        return False

    def tick(self, task_name, attributes=None, *, task_id=None):
        """Report a subtask that has just been finished.

        Parameters
        ----------
        task_name : str
            What it was: an alpha, a fold, an outer iteration.
        attributes : callable or None, default=None
            Returns the fitted attributes, as a dict, with which the estimator could
            predict now; called only if a callback wants them.
        task_id : int or None, default=None
            Which one it was, if subtasks finish in any order (the context was then
            made with ``sequential_subtasks=False``).

        Returns
        -------
        stop : bool
            Whether a callback asks to stop.
        """
        if not self.active:
            return False
        context = self._subcontext(task_name, task_id, 0, True)
        context.call_on_fit_task_begin(**self._arguments())
        stop = self._end(context, attributes)
        self._attributes = attributes
        self.stopped |= stop
        return stop

    def subtask(self, task_name, *, task_id=None, max_subtasks=None, sequential_subtasks=True):
        """Open a subtask with ticks of its own, such as a fold.

        Parameters
        ----------
        task_name : str
            What it is.
        task_id : int or None, default=None
            Which one it is, if subtasks run in any order.
        max_subtasks : int or None, default=None
            Number of its ticks; None if that is not known yet.
        sequential_subtasks : bool, default=True
            Whether its own ticks come one after another.

        Returns
        -------
        ticker : FitTicker
            To be used as a context manager.
        """
        context = self._context
        if self.active:
            context = self._subcontext(task_name, task_id, max_subtasks, sequential_subtasks)
        return FitTicker(self._estimator, context, *self._data)

    def _subcontext(self, task_name, task_id, max_subtasks, sequential_subtasks):
        # Contexts number their children by counting them, which two threads must not do at once.
        with self._lock:
            return self._context.subcontext(
                task_name=task_name,
                task_id=task_id,
                max_subtasks=max_subtasks,
                sequential_subtasks=sequential_subtasks,
            )

    def _end(self, context, attributes):
        return context.call_on_fit_task_end(
            reconstruction_attributes=attributes, **self._arguments()
        )

    def _arguments(self):
        X, y, sample_weight = self._data
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        return {"estimator": self._estimator, "X": X, "y": y, "metadata": metadata}
