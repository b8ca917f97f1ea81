"""Figures of a plan, and of how solvers converge."""

import numpy as np

from sparsestat.transport._result import SinkhornResult
from sparsestat.utils._validation import check_fitted_step


class TransportPlanDisplay:
    """Heat map of a transport plan between its marginals.

    Use :meth:`from_result` or :meth:`from_estimator` to make one.

    Parameters
    ----------
    plan : ndarray of shape (n, m)
        The plan.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the heat map.
    figure_ : matplotlib Figure
        The figure.
    image_ : matplotlib AxesImage
        The heat map.

    See Also
    --------
    SinkhornConvergenceDisplay : How the plan was found.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.transport import TransportPlanDisplay, sinkhorn_points
    >>> X = np.linspace(0, 1, 50)[:, None]
    >>> display = TransportPlanDisplay.from_result(sinkhorn_points(X, X**2, epsilon=0.01))
    >>> display.image_.get_array().shape
    (50, 50)
    """

    def __init__(self, plan):
        self.plan = plan

    @classmethod
    def from_result(cls, result, *, order=None, ax=None, **kwargs):
        """Draw the plan of a solution.

        Parameters
        ----------
        result : SinkhornResult
            What :func:`sinkhorn` or :func:`sinkhorn_points` returned, on the host.
        order : (array of shape (n,), array of shape (m,)) or None, default=None
            In which order rows and columns are drawn.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        **kwargs
            Passed to ``imshow``.

        Returns
        -------
        display : TransportPlanDisplay
            The drawn display.
        """
        if not isinstance(result, SinkhornResult):
            raise TypeError(f"result must be a SinkhornResult, got {type(result).__name__}.")
        plan = np.asarray(result.plan)
        if order is not None:
            plan = plan[np.ix_(*order)]
        return cls(plan).plot(ax=ax, **kwargs)

    @classmethod
    def from_estimator(cls, estimator, *, order=None, ax=None, **kwargs):
        """Draw the plan of a fitted :class:`EntropicTransport`.

        Parameters
        ----------
        estimator : EntropicTransport
            Fitted.
        order : (array of shape (n,), array of shape (m,)) or None, default=None
            In which order rows and columns are drawn.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        **kwargs
            Passed to ``imshow``.

        Returns
        -------
        display : TransportPlanDisplay
            The drawn display.
        """
        check_fitted_step(estimator, "plan")
        return cls.from_result(estimator.result_, order=order, ax=ax, **kwargs)

    def plot(self, ax=None, **kwargs):
        """Draw the heat map, with the sums of rows and columns beside it.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        **kwargs
            Passed to ``imshow``.

        Returns
        -------
        self : TransportPlanDisplay
            The display.
        """
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(figsize=(5, 5), layout="constrained")
        n, m = self.plan.shape
        options = {"aspect": "auto", "cmap": "Greys", "interpolation": "nearest", **kwargs}
        self.image_ = ax.imshow(self.plan, **options)
        above = ax.inset_axes((0.0, 1.02, 1.0, 0.15), sharex=ax)
        beside = ax.inset_axes((1.02, 0.0, 0.15, 1.0), sharey=ax)
        above.fill_between(np.arange(m), self.plan.sum(axis=0), step="mid", color="C0")
        beside.fill_betweenx(np.arange(n), self.plan.sum(axis=1), step="mid", color="C1")
        for inset in (above, beside):
            inset.axis("off")
        above.set_ylim(bottom=0)
        beside.set_xlim(left=0)
        ax.set(xlabel="target", ylabel="source")
        self.ax_, self.figure_ = ax, ax.figure
        return self


class SinkhornConvergenceDisplay:
    """Error of the marginals against the steps of solvers.

    Use :meth:`from_results` or :meth:`from_estimator` to make one.

    Parameters
    ----------
    histories : dict of str to list of IterationRecord
        What each solver attained after each of its steps.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.
    lines_ : list of matplotlib Line2D
        One for each solver.

    See Also
    --------
    TransportPlanDisplay : The plan that was found.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.transport import SinkhornConvergenceDisplay, sinkhorn
    >>> C = np.random.default_rng(0).uniform(size=(50, 50))
    >>> results = {m: sinkhorn(C, epsilon=0.02, method=m) for m in ("log", "newton")}
    >>> len(SinkhornConvergenceDisplay.from_results(results).lines_)
    2
    """

    def __init__(self, histories):
        self.histories = histories

    @classmethod
    def from_results(cls, results, *, ax=None, **kwargs):
        """Draw the convergence of one or several solutions.

        Parameters
        ----------
        results : SinkhornResult or dict of str to SinkhornResult
            Solutions, by the name that the legend shows.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        **kwargs
            Passed to ``plot``.

        Returns
        -------
        display : SinkhornConvergenceDisplay
            The drawn display.
        """
        if isinstance(results, SinkhornResult):
            results = {results.method: results}
        histories = {str(name): result.history for name, result in results.items()}
        return cls(histories).plot(ax=ax, **kwargs)

    @classmethod
    def from_estimator(cls, estimator, *, ax=None, **kwargs):
        """Draw the convergence of a fitted :class:`EntropicTransport`.

        Parameters
        ----------
        estimator : EntropicTransport
            Fitted.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        **kwargs
            Passed to ``plot``.

        Returns
        -------
        display : SinkhornConvergenceDisplay
            The drawn display.
        """
        check_fitted_step(estimator, "convergence")
        return cls.from_results(estimator.result_, ax=ax, **kwargs)

    def plot(self, ax=None, **kwargs):
        """Draw the errors, with Newton steps marked by dots.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        **kwargs
            Passed to ``plot``.

        Returns
        -------
        self : SinkhornConvergenceDisplay
            The display.
        """
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(figsize=(6, 4), layout="constrained")
        self.lines_ = []
        for name, history in self.histories.items():
            # An error of zero has no logarithm.
            errors = np.maximum([record.marginal_error for record in history], 1e-17)
            steps = np.arange(1, len(errors) + 1)
            (line,) = ax.plot(steps, errors, **{"label": name, **kwargs})
            newton = np.array([record.stage in ("newton", "sns") for record in history])
            ax.plot(steps[newton], errors[newton], ".", color=line.get_color())
            self.lines_.append(line)
        ax.set(xlabel="step", ylabel="error of the marginals", xscale="log", yscale="log")
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self
