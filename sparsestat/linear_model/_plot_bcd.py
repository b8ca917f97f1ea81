"""Display of how block coordinate descent approaches the minimum."""

import warnings
from numbers import Real

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from sparsestat.linear_model._bcd_regressor import BCDRegressor
from sparsestat.utils._validation import check_fitted_step

_LABELS = {"iterations": "iterations", "work": "multiplications", "time": "seconds"}


class BlockDescentDisplay:
    """Distance of the objective from its minimum, against iterations, work or time.

    Build one with :meth:`from_estimator` or :meth:`from_estimators`, or with
    :meth:`from_timed_fits` to draw it against time, which no fitted estimator keeps.

    Parameters
    ----------
    histories : list of BCDHistory
        What the fits noted.
    names : list of str
        Names of the fits.
    minimum : float
        What is subtracted from the objectives.
    seconds : list of ndarray or None, default=None
        Time until each of the objectives was attained.

    Attributes
    ----------
    ax_ : matplotlib Axes
        What was drawn on.
    figure_ : matplotlib Figure
        The figure around it.
    lines_ : list of matplotlib Line2D
        One for each fit.

    See Also
    --------
    BCDRegressor : Fits with ``track=True`` note what is drawn here.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sparsestat.linear_model import BCDRegressor, BlockDescentDisplay
    >>> X, y = load_diabetes(return_X_y=True)
    >>> fits = {
    ...     rule: BCDRegressor(
    ...         0.1, rule=rule, update="pg", block_size=3, track=True, random_state=0
    ...     ).fit(X, y)
    ...     for rule in ("gsq", "random")
    ... }
    >>> display = BlockDescentDisplay.from_estimators(fits)
    >>> display.ax_.get_xlabel()
    'iterations'
    """

    def __init__(self, *, histories, names, minimum, seconds=None):
        self.histories = histories
        self.names = names
        self.minimum = minimum
        self.seconds = seconds

    @classmethod
    def from_estimator(cls, estimator, *, ax=None, against="iterations", name=None):
        """Plot the objective of one fit.

        Parameters
        ----------
        estimator : BCDRegressor
            Fitted with ``track=True``.
        ax : matplotlib Axes, default=None
            Where to draw; None stands for a new figure.
        against : {"iterations", "work"}, default="iterations"
            Horizontal axis: iterations, or multiplications.
        name : str or None, default=None
            Label; None stands for the partition, the rule and the update.

        Returns
        -------
        display : BlockDescentDisplay
            What was drawn.
        """
        _check_history(estimator)
        if name is None:
            name = f"{estimator.partition}, {estimator.rule}, {estimator.update}"
        return cls.from_estimators({name: estimator}, ax=ax, against=against)

    @classmethod
    def from_estimators(cls, estimators, *, ax=None, against="iterations", minimum=None):
        """Plot the objectives of several fits of one problem.

        Parameters
        ----------
        estimators : dict of {str: BCDRegressor}
            Names, and estimators fitted with ``track=True`` to the same data with the
            same penalty.
        ax : matplotlib Axes, default=None
            Where to draw; None stands for a new figure.
        against : {"iterations", "work"}, default="iterations"
            Horizontal axis: iterations, or multiplications.
        minimum : float or None, default=None
            The smallest value of the objective; None stands for the smallest that any of the
            fits has attained.

        Returns
        -------
        display : BlockDescentDisplay
            What was drawn.
        """
        _check_dict(estimators)
        for estimator in estimators.values():
            _check_history(estimator)
        _check_same_problem(estimators)
        histories = [estimator.history_ for estimator in estimators.values()]
        minimum = _smallest(histories, minimum)
        display = cls(histories=histories, names=list(estimators), minimum=minimum)
        return display.plot(ax=ax, against=against)

    @classmethod
    def from_timed_fits(
        cls, estimators, X, y, *, sample_weight=None, ax=None, against="time", minimum=None
    ):
        """Fit copies of several estimators to one problem, and plot the objectives against time.

        The time is that of the preparation, such as the Hessians of fixed blocks, and of the
        iterations. Checking the data, compiling and computing duality gaps do not count. The
        clock is read whenever the compiled loop returns, at the latest after about 0.05
        seconds or ten iterations of a greedy rule; iterations in between are taken to last
        equally long. Each fit is timed once: small differences are those of the machine.

        Parameters
        ----------
        estimators : dict of {str: BCDRegressor}
            Names and estimators with the same penalty. They need not be fitted and are not
            modified.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The design.
        y : array-like of shape (n_samples,)
            The response.
        sample_weight : array-like of shape (n_samples,), float or None, default=None
            How often each row occurs.
        ax : matplotlib Axes, default=None
            Where to draw; None stands for a new figure.
        against : {"time", "iterations", "work"}, default="time"
            Horizontal axis: seconds, iterations, or multiplications.
        minimum : float or None, default=None
            The smallest value of the objective; None stands for the smallest that any of the
            fits has attained.

        Returns
        -------
        display : BlockDescentDisplay
            What was drawn.

        Raises
        ------
        TypeError
            For estimators that are not :class:`BCDRegressor`.
        ValueError
            If they do not minimise the same objective, and for a ``minimum`` that is none.
        """
        _check_dict(estimators)
        for estimator in estimators.values():
            if not isinstance(estimator, BCDRegressor):
                raise TypeError(
                    f"estimators must be BCDRegressor, got a {type(estimator).__name__}."
                )
        _check_same_problem(estimators)
        histories, seconds = [], []
        for estimator in estimators.values():
            timed = _TimedRegressor(**clone(estimator).get_params(deep=False))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                # One iteration compiles, or loads, all that the fit needs.
                first = clone(timed).set_params(max_iter=1)
                first.fit(X, y, sample_weight=sample_weight)
            timed.set_params(track=True).fit(X, y, sample_weight=sample_weight)
            iterations, times = zip(*timed.clock, strict=True)
            histories.append(timed.history_)
            places = np.arange(timed.history_.objective.size)
            seconds.append(np.interp(places, iterations, times))
        minimum = _smallest(histories, minimum)
        display = cls(
            histories=histories, names=list(estimators), minimum=minimum, seconds=seconds
        )  # fmt: skip
        return display.plot(ax=ax, against=against)

    def plot(self, ax=None, *, against="iterations"):
        """Draw the objectives.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None stands for a new figure.
        against : {"iterations", "work", "time"}, default="iterations"
            Horizontal axis: iterations, multiplications, or seconds if these are known.

        Returns
        -------
        display : BlockDescentDisplay
            The same object.

        Raises
        ------
        ValueError
            For ``against="time"`` without ``seconds``.
        """
        import matplotlib.pyplot as plt

        if against not in _LABELS:
            raise ValueError(f"against must be 'iterations', 'work' or 'time', got {against!r}.")
        if against == "time" and self.seconds is None:
            raise ValueError(
                "against='time' needs seconds, which fitted estimators do not keep; use "
                "BlockDescentDisplay.from_timed_fits."
            )
        if ax is None:
            _, ax = plt.subplots(layout="constrained")
        self.lines_ = []
        seconds = [None] * len(self.names) if self.seconds is None else self.seconds
        for history, name, times in zip(self.histories, self.names, seconds, strict=True):
            excess = history.objective - self.minimum
            # What is within rounding of the minimum has no place on a logarithmic axis; the
            # line goes down to where rounding begins, and ends.
            floor = 4.0 * np.finfo(np.float64).eps * abs(history.objective[0])
            end = min(int(np.sum(np.cumprod(excess > floor))) + 1, excess.size)
            excess = np.maximum(excess[:end], floor)
            axes = {"iterations": np.arange(excess.size), "work": history.work, "time": times}
            places = axes[against][:end]
            (line,) = ax.plot(places, excess, label=name, lw=1.6)
            self.lines_.append(line)
        ax.set_yscale("log")
        if against != "iterations":
            ax.set_xscale("log")
        ax.set_xlabel(_LABELS[against])
        ax.set_ylabel("objective minus the smallest")
        ax.legend(fontsize="small", frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
        self.ax_, self.figure_ = ax, ax.figure
        return self


class _TimedRegressor(BCDRegressor):
    """Keeps the clock of its solver, which fitted attributes must not show."""

    def _solve(self, solver, *args):
        super()._solve(solver, *args)
        self.clock = solver.clock


def _smallest(histories, minimum):
    """The smallest objective, or what the caller says it is."""
    smallest = min(float(history.objective.min()) for history in histories)
    if minimum is None:
        return smallest
    if not isinstance(minimum, Real) or not minimum <= smallest + 1e-9 * abs(smallest):
        raise ValueError(
            f"minimum must be a number not above the smallest objective {smallest:.6g} that was "
            f"attained, got {minimum!r}."
        )
    return float(minimum)


def _check_same_problem(estimators):
    """Objectives can be compared only if they are values of one function."""
    first, *others = estimators.values()
    for name in ("alpha", "loss", "positive", "penalty_factor", "fit_intercept"):
        value = getattr(first, name)
        for other in others:
            if not np.array_equal(getattr(other, name), value):
                raise ValueError(
                    f"estimators must minimise the same objective, got {name}={value!r} and "
                    f"{name}={getattr(other, name)!r}."
                )


def _check_dict(estimators):
    if not isinstance(estimators, dict) or not estimators:
        raise TypeError(
            "estimators must be a dict of names and estimators with at least one entry, got "
            f"{estimators!r}."
        )


def _check_history(estimator):
    check_fitted_step(estimator, "history")
    if not hasattr(estimator, "history_"):
        raise TypeError(
            f"{type(estimator).__name__} has no history_; fit a BCDRegressor with track=True."
        )
