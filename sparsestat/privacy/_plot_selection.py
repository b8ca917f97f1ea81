"""Displays of which features, and which parameters, are selected."""

import numpy as np

from sparsestat.privacy._plot import (
    FAINT,
    INK,
    MOST_ROWS,
    check_fitted_with,
    check_names,
    largest_rows,
    name_rows,
    new_axes,
)
from sparsestat.privacy._stability import support_stability


class SupportStabilityDisplay:
    """How often each feature is selected when the known noise is drawn again.

    The frequencies are those of :func:`support_stability`, whose notes say what they do not
    mean: they are neither probabilities nor error rates.

    Build one with :meth:`from_estimator`.

    Parameters
    ----------
    frequencies : ndarray of shape (n_features,)
        Between 0 and 1.
    support : ndarray of shape (n_features,), bool, or None, default=None
        Features that were selected, which are drawn darker.
    feature_names : array-like of shape (n_features,), default=None
        Names; None stands for x0, x1, ...

    Attributes
    ----------
    ax_ : matplotlib Axes
        What was drawn on.
    figure_ : matplotlib Figure
        The figure around it.
    bars_ : matplotlib BarContainer
        One bar for each row.
    rows_ : ndarray of shape (n_rows,)
        The features that are shown, from the top.

    See Also
    --------
    support_stability : Computes the frequencies.

    Examples
    --------
    >>> from sparsestat.datasets import make_sparse_regression
    >>> from sparsestat.privacy import LDPSparseRegressor, SupportStabilityDisplay
    >>> data = make_sparse_regression(300_000, 8, 2, random_state=0)
    >>> model = LDPSparseRegressor(epsilon=2.0, random_state=1).fit(data.data, data.target)
    >>> display = SupportStabilityDisplay.from_estimator(model, n_draws=20, random_state=2)
    >>> len(display.bars_)
    8
    """

    def __init__(self, *, frequencies, support=None, feature_names=None):
        self.frequencies = frequencies
        self.support = support
        self.feature_names = feature_names

    @classmethod
    def from_estimator(
        cls, estimator, *, n_draws=100, random_state=None, ax=None, max_features=None
    ):
        """Compute and plot the frequencies.

        Parameters
        ----------
        estimator : estimator
            A fitted :class:`LDPSparseRegressor` or :class:`LDPSparseRegressorCV`.
        n_draws : int, default=100
            Number of draws.
        random_state : int, RandomState instance, Generator or None, default=None
            Source of the noise.
        ax : matplotlib Axes, default=None
            Where to draw; None stands for a new figure.
        max_features : int or None, default=None
            Number of features that are shown, those that are selected most often; None is
            at most 40.

        Returns
        -------
        display : SupportStabilityDisplay
            What was drawn.
        """
        frequencies = support_stability(estimator, n_draws, random_state)
        display = cls(
            frequencies=frequencies,
            support=estimator.support_,
            feature_names=getattr(estimator, "feature_names_in_", None),
        )
        return display.plot(ax=ax, max_features=max_features)

    def plot(self, ax=None, *, max_features=None):
        """Draw the frequencies.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None stands for a new figure.
        max_features : int or None, default=None
            Number of features that are shown, those that are selected most often; None is
            at most 40.

        Returns
        -------
        display : SupportStabilityDisplay
            The same object.

        Raises
        ------
        ValueError
            If lengths do not agree.
        """
        frequencies = np.asarray(self.frequencies, dtype=float)
        names = check_names(self.feature_names, frequencies.size)
        support = np.ones(frequencies.size, dtype=bool)
        if self.support is not None:
            support = np.asarray(self.support, dtype=bool)
        if support.shape != frequencies.shape:
            raise ValueError(f"support must have shape {frequencies.shape}, got {support.shape}.")
        self.rows_ = largest_rows(frequencies, max_features)
        ax = new_axes(ax, len(self.rows_))
        at, chosen = np.arange(len(self.rows_)), support[self.rows_]
        colors = [INK if selected else FAINT for selected in chosen]
        self.bars_ = ax.barh(at, frequencies[self.rows_], height=0.7, color=colors)
        name_rows(ax, [names[j] for j in self.rows_])
        ax.set_xlim(0.0, 1.0)
        ax.set_xlabel("share of draws of the noise that select the feature")
        if self.support is not None:
            self._explain(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _explain(self, ax):
        from matplotlib.patches import Patch

        kinds = [Patch(color=INK, label="selected"), Patch(color=FAINT, label="not selected")]
        ax.legend(
            handles=kinds, fontsize="small", frameon=False, ncols=2, loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
        )  # fmt: skip


class LDPCVDisplay:
    """Held-out scores of the candidates, with the standard errors that the noise gives them.

    A score estimates the mean squared error up to a constant, so that it may be negative; its
    standard error is known, not estimated, and is of the score: differences between
    neighbours are often surer than that, as they share much of the noise.

    Build one with :meth:`from_estimator`.

    Parameters
    ----------
    candidates : list of dict
        Their parameters.
    scores : ndarray of shape (n_candidates,)
        Mean scores.
    standard_errors : ndarray of shape (n_candidates,) or None, default=None
        Standard errors of the means.
    best_index : int or None, default=None
        The candidate that was taken.

    Attributes
    ----------
    ax_ : matplotlib Axes
        What was drawn on.
    figure_ : matplotlib Figure
        The figure around it.
    line_ : matplotlib Line2D
        The scores: against a number if that is all in which candidates differ, one after
        another with the best at the top if not.
    order_ : ndarray of shape (n_candidates,)
        Candidates in the order of the line.

    See Also
    --------
    LDPSparseRegressorCV : Computes the scores.

    Examples
    --------
    >>> from sparsestat.datasets import make_sparse_regression
    >>> from sparsestat.privacy import LDPCVDisplay, LDPSparseRegressorCV
    >>> data = make_sparse_regression(100_000, 6, 2, random_state=0)
    >>> model = LDPSparseRegressorCV(epsilon=2.0, random_state=1).fit(data.data, data.target)
    >>> display = LDPCVDisplay.from_estimator(model)
    >>> display.ax_.get_xlabel()
    'n_nonzero'
    """

    def __init__(self, *, candidates, scores, standard_errors=None, best_index=None):
        self.candidates = candidates
        self.scores = scores
        self.standard_errors = standard_errors
        self.best_index = best_index

    @classmethod
    def from_estimator(cls, estimator, *, ax=None):
        """Plot the search of a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            A fitted :class:`LDPSparseRegressorCV`.
        ax : matplotlib Axes, default=None
            Where to draw; None stands for a new figure.

        Returns
        -------
        display : LDPCVDisplay
            What was drawn.
        """
        check_fitted_with(estimator, "cv_results_", "fit LDPSparseRegressorCV.")
        results = estimator.cv_results_
        display = cls(
            candidates=results["params"],
            scores=results["mean_score"],
            standard_errors=results["std_error"],
            best_index=estimator.best_index_,
        )
        return display.plot(ax=ax)

    def plot(self, ax=None):
        """Draw the scores.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None stands for a new figure.

        Returns
        -------
        display : LDPCVDisplay
            The same object.

        Raises
        ------
        ValueError
            If there is not one score for each candidate.
        """
        scores = np.asarray(self.scores, dtype=float)
        if scores.shape != (len(self.candidates),):
            raise ValueError(
                f"scores must have shape ({len(self.candidates)},), one for each candidate, got "
                f"{scores.shape}."
            )
        errors = np.zeros_like(scores)
        if self.standard_errors is not None:
            errors = np.asarray(self.standard_errors, dtype=float)
        name, values = _single_number(self.candidates)
        if name is None:
            return self._plot_rows(new_axes(ax, min(len(scores), MOST_ROWS)), scores, errors)
        self.order_ = np.argsort(values, kind="stable")
        ax = new_axes(ax)
        at, scores, errors = values[self.order_], scores[self.order_], errors[self.order_]
        (self.line_,) = ax.plot(at, scores, marker="o", ms=4, lw=1.4, color=INK)
        if self.standard_errors is not None:
            ax.fill_between(
                at, scores - errors, scores + errors, color=INK, alpha=0.2, lw=0,
                label="± 1 standard error",
            )  # fmt: skip
        if self.best_index is not None:
            best = values[self.best_index]
            ax.axvline(best, color="0.5", lw=1.2, ls="--", label=f"chosen: {best:g}")
        if name == "n_nonzero":
            ax.xaxis.get_major_locator().set_params(integer=True)
        elif np.all(values > 0) and values.max() > 20 * values.min():
            ax.set_xscale("log")
        ax.set_xlabel(name)
        ax.set_ylabel("held-out score")
        if ax.get_legend_handles_labels()[0]:
            ax.legend(fontsize="small", frameon=False)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _plot_rows(self, ax, scores, errors):
        self.order_ = np.argsort(scores, kind="stable")[:MOST_ROWS]
        at = np.arange(len(self.order_))
        ax.hlines(
            at, (scores - errors)[self.order_], (scores + errors)[self.order_], color=FAINT, lw=1.5
        )
        (self.line_,) = ax.plot(scores[self.order_], at, "o", ms=5, color=INK)
        labels = [
            ", ".join(f"{key}={value}" for key, value in sorted(self.candidates[row].items()))
            for row in self.order_
        ]
        name_rows(ax, labels)
        for label, row in zip(ax.get_yticklabels(), self.order_, strict=True):
            label.set_fontweight("bold" if row == self.best_index else "normal")
        ax.set_xlabel("held-out score, ± 1 standard error")
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _single_number(candidates):
    """The only parameter in which the candidates differ, and its values, if these are numbers."""
    names = {name for candidate in candidates for name in candidate}
    texts = {name: {str(candidate.get(name)) for candidate in candidates} for name in names}
    names = {name for name in names if len(texts[name]) > 1}
    if len(names) != 1 or len(candidates) < 2:
        return None, None
    (name,) = names
    values = [candidate.get(name) for candidate in candidates]
    if any(isinstance(value, (str, bool, type(None))) for value in values):
        return None, None
    return name, np.asarray(values, dtype=float)
