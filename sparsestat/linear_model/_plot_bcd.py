"""Display of how block coordinate descent approaches the minimum."""

import numpy as np

from sparsestat.utils._validation import check_fitted_step


class BlockDescentDisplay:
    """Distance of the objective from its minimum, against iterations or work.

    Build one with :meth:`from_estimator` or :meth:`from_estimators`.

    Parameters
    ----------
    histories : list of BCDHistory
        What the fits noted.
    names : list of str
        Names of the fits.
    minimum : float
        What is subtracted from the objectives.

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

    def __init__(self, *, histories, names, minimum):
        self.histories = histories
        self.names = names
        self.minimum = minimum

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
        if not isinstance(estimators, dict) or not estimators:
            raise TypeError(
                "estimators must be a dict of names and fitted estimators with at least one "
                f"entry, got {estimators!r}."
            )
        for estimator in estimators.values():
            _check_history(estimator)
        histories = [estimator.history_ for estimator in estimators.values()]
        if minimum is None:
            minimum = min(float(history.objective.min()) for history in histories)
        display = cls(histories=histories, names=list(estimators), minimum=minimum)
        return display.plot(ax=ax, against=against)

    def plot(self, ax=None, *, against="iterations"):
        """Draw the objectives.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None stands for a new figure.
        against : {"iterations", "work"}, default="iterations"
            Horizontal axis: iterations, or multiplications.

        Returns
        -------
        display : BlockDescentDisplay
            The same object.
        """
        import matplotlib.pyplot as plt

        if against not in ("iterations", "work"):
            raise ValueError(f"against must be 'iterations' or 'work', got {against!r}.")
        if ax is None:
            _, ax = plt.subplots(layout="constrained")
        self.lines_ = []
        for history, name in zip(self.histories, self.names, strict=True):
            excess = history.objective - self.minimum
            places = np.arange(excess.size) if against == "iterations" else history.work
            # What is within rounding of the minimum has no place on a logarithmic axis.
            shown = excess > 4.0 * np.finfo(np.float64).eps * abs(history.objective[0])
            (line,) = ax.plot(places[shown], excess[shown], label=name, lw=1.6)
            self.lines_.append(line)
        ax.set_yscale("log")
        if against == "work":
            ax.set_xscale("log")
        ax.set_xlabel("iterations" if against == "iterations" else "multiplications")
        ax.set_ylabel("objective minus the smallest")
        ax.legend(fontsize="small", frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _check_history(estimator):
    check_fitted_step(estimator, "history")
    if not hasattr(estimator, "history_"):
        raise TypeError(
            f"{type(estimator).__name__} has no history_; fit a BCDRegressor with track=True."
        )
