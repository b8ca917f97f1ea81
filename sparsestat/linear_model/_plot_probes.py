"""Display of the choice of a number of random probes."""

import numpy as np

from sparsestat.utils._validation import check_fitted_step


class ProbesDisplay:
    """Cross-validation error against the number of random probes.

    Build one with :meth:`from_estimator`. Each point is the smallest error of all strengths of
    the penalty for that number of probes, or the error of the second fit whose strength the
    criterion chooses.

    Parameters
    ----------
    n_probes : ndarray of shape (n_counts,)
        Numbers of probes, increasing.
    scores : dict of str to ndarray of shape (n_counts,)
        Mean errors, by what becomes of the Lasso's solution.
    standard_errors : dict of str to ndarray of shape (n_counts,)
        Standard errors of these means, with the same keys.
    chosen : tuple of (int, float) or None, default=None
        Number of probes and mean error of what was chosen.
    plain_lasso_score : float or None, default=None
        Error of the Lasso without probes.

    Attributes
    ----------
    ax_ : matplotlib Axes
        What was drawn on.
    figure_ : matplotlib Figure
        The figure around it.
    lines_ : dict of str to matplotlib Line2D
        The errors, by the keys of `scores`.
    chosen_line_ : matplotlib Line2D or None
        The mark of what was chosen.
    lasso_line_ : matplotlib Line2D or None
        The line at the error of the Lasso without probes.

    See Also
    --------
    RandomSupportRegressor : Chooses the number of probes.
    CVDisplay : Errors against the strength of a penalty.

    Examples
    --------
    >>> from sparsestat.datasets import make_ill_conditioned_regression
    >>> from sparsestat.linear_model import ProbesDisplay, RandomSupportRegressor
    >>> data = make_ill_conditioned_regression(100, 150, 4, random_state=0)
    >>> model = RandomSupportRegressor(random_state=1).fit(data.data, data.target)
    >>> display = ProbesDisplay.from_estimator(model)
    >>> display.ax_.get_xlabel()
    'number of probes'
    """

    def __init__(self, *, n_probes, scores, standard_errors, chosen=None, plain_lasso_score=None):
        self.n_probes = n_probes
        self.scores = scores
        self.standard_errors = standard_errors
        self.chosen = chosen
        self.plain_lasso_score = plain_lasso_score

    @classmethod
    def from_estimator(cls, estimator, *, ax=None):
        """Plot the search of a fitted estimator.

        Parameters
        ----------
        estimator : RandomSupportRegressor
            Fitted, with something to choose. The best of several draws is shown.
        ax : matplotlib Axes, default=None
            Where to draw; None stands for a new figure.

        Returns
        -------
        display : ProbesDisplay
            What was drawn.

        Raises
        ------
        TypeError
            For an estimator without a number of probes, and for a pipeline.
        ValueError
            If cross-validation had nothing to choose.
        """
        check_fitted_step(estimator, "number of probes")
        if not hasattr(estimator, "n_probes_"):
            raise TypeError(
                f"{type(estimator).__name__} has no number of probes to plot; pass a fitted "
                "RandomSupportRegressor."
            )
        results = estimator.cv_results_
        if results["mean"].size == 0:
            raise ValueError(
                "estimator has nothing to plot, since cross-validation had nothing to choose; "
                "fit it with n_probes='cv' or several numbers of probes."
            )
        counts = np.unique(results["n_probes"])
        scores, standard_errors = {}, {}
        for kind in ("none", "ebic"):
            entries = [
                np.flatnonzero((results["n_probes"] == count) & (results["refit"] == kind))
                for count in counts
            ]
            if entries[0].size == 0:
                continue
            best = [rows[np.argmin(results["mean"][rows])] for rows in entries]
            scores[kind] = results["mean"][best]
            standard_errors[kind] = results["std"][best]
        lasso = estimator.plain_lasso_score_
        display = cls(
            n_probes=counts,
            scores=scores,
            standard_errors=standard_errors,
            chosen=(estimator.n_probes_, estimator.cv_score_),
            plain_lasso_score=None if np.isnan(lasso) else lasso,
        )
        return display.plot(ax=ax)

    def plot(self, ax=None):
        """Draw the errors.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None stands for a new figure.

        Returns
        -------
        display : ProbesDisplay
            The same object.
        """
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(layout="constrained")
        names = {"none": "Lasso beside the probes", "ebic": "second fit (EBIC)"}
        colours = {"none": "C0", "ebic": "C1"}
        counts = np.asarray(self.n_probes)
        self.lines_ = {}
        for kind, means in self.scores.items():
            container = ax.errorbar(
                counts, means, yerr=self.standard_errors[kind], marker="o", ms=4, lw=1.4,
                capsize=3, color=colours.get(kind), label=names.get(kind, kind),
            )  # fmt: skip
            self.lines_[kind] = container.lines[0]
        self.chosen_line_ = self.lasso_line_ = None
        if self.plain_lasso_score is not None:
            self.lasso_line_ = ax.axhline(
                self.plain_lasso_score, color="0.5", lw=1.2, ls="--", label="Lasso, no probes"
            )
        if self.chosen is not None:
            count, score = self.chosen
            (self.chosen_line_,) = ax.plot(
                [count], [score], marker="o", ms=12, mfc="none", mec="k", mew=1.4, ls="none",
                label="chosen",
            )  # fmt: skip
        ax.set_yscale("log")
        ax.set_xlabel("number of probes")
        ax.set_ylabel("mean squared error (± 1 standard error)")
        ax.legend(fontsize="small", frameon=False)
        self.ax_, self.figure_ = ax, ax.figure
        return self
