"""Displays of the coefficients that noisy reports give, and what the shared axes need."""

import numpy as np
from scipy.stats import norm

from sparsestat.privacy._base import unit_coefficients
from sparsestat.privacy._path import ldp_coef_path
from sparsestat.utils._validation import check_fitted_step

INK, _NOISE, FAINT = "#0072B2", "#E69F00", "0.6"
# More names than this do not fit a figure.
MOST_ROWS = 40


def new_axes(ax, n_rows=None):
    import matplotlib.pyplot as plt

    if ax is not None:
        return ax
    size = None if n_rows is None else (6.4, max(2.4, 1.2 + 0.26 * n_rows))
    return plt.subplots(figsize=size, layout="constrained")[1]


def check_names(names, n_features):
    if names is None:
        return [f"x{j}" for j in range(n_features)]
    if len(names) != n_features:
        raise ValueError(f"feature_names must have {n_features} entries, got {len(names)}.")
    return [str(name) for name in names]


def check_fitted_with(estimator, attribute, advice):
    check_fitted_step(estimator, attribute)
    if not hasattr(estimator, attribute):
        raise TypeError(f"{type(estimator).__name__} has no {attribute}; {advice}")


def largest_rows(sizes, max_features):
    """Positions of the largest, in the order of the data."""
    most = MOST_ROWS if max_features is None else max_features
    return np.sort(np.argsort(-sizes, kind="stable")[:most])


def name_rows(ax, names):
    ax.set_yticks(np.arange(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)


class LDPCoefficientDisplay:
    """Coefficients with intervals, over the range that looks like noise.

    The band of a feature holds the coefficients that would be taken for noise if it were the
    only feature. Intervals come from the known noise of the reports; they take the selection
    as given, and the sampling error of the records is not in them.

    Build one with :meth:`from_estimator`.

    Parameters
    ----------
    coefs : ndarray of shape (n_features,)
        Coefficients.
    std_errors : ndarray of shape (n_features,)
        Their standard errors; NaN for those without one.
    thresholds : ndarray of shape (n_features,) or None, default=None
        Half widths of the bands; infinite for a feature of which nothing can be seen.
    feature_names : array-like of shape (n_features,), default=None
        Names; None stands for x0, x1, ...
    significance_level : float, default=0.05
        One less the nominal coverage of an interval.

    Attributes
    ----------
    ax_ : matplotlib Axes
        What was drawn on.
    figure_ : matplotlib Figure
        The figure around it.
    points_ : matplotlib Line2D
        The coefficients.
    intervals_ : matplotlib LineCollection
        The intervals of coefficients that have a standard error.
    bands_ : matplotlib BarContainer or None
        The bands.
    rows_ : ndarray of shape (n_rows,)
        The features that are shown, from the top.

    See Also
    --------
    SupportStabilityDisplay : How far the selection depends on the noise.

    Examples
    --------
    >>> from sparsestat.datasets import make_sparse_regression
    >>> from sparsestat.privacy import LDPCoefficientDisplay, LDPSparseRegressor
    >>> data = make_sparse_regression(300_000, 8, 2, random_state=0)
    >>> model = LDPSparseRegressor(epsilon=2.0, random_state=1).fit(data.data, data.target)
    >>> display = LDPCoefficientDisplay.from_estimator(model)
    >>> display.ax_.get_xlabel()
    'coefficient, with 95% interval'
    """

    def __init__(
        self,
        *,
        coefs,
        std_errors,
        thresholds=None,
        feature_names=None,
        significance_level=0.05,
    ):
        self.coefs = coefs
        self.std_errors = std_errors
        self.thresholds = thresholds
        self.feature_names = feature_names
        self.significance_level = significance_level

    @classmethod
    def from_estimator(cls, estimator, *, significance_level=0.05, ax=None, max_features=None):
        """Plot the coefficients of an estimator.

        Parameters
        ----------
        estimator : estimator
            Fitted, with one row of coefficients and ``coef_std_error_``, such as
            :class:`LDPSparseRegressor`, :class:`LDPIHTRegressor` or
            :class:`LabelLDPRegressor`.
        significance_level : float, default=0.05
            One less the nominal coverage of an interval.
        ax : matplotlib Axes, default=None
            Where to draw; None stands for a new figure.
        max_features : int or None, default=None
            Number of features that are shown, those with the largest coefficients; None is
            at most 40.

        Returns
        -------
        display : LDPCoefficientDisplay
            What was drawn.
        """
        check_fitted_with(estimator, "coef_std_error_", "fit an estimator of sparsestat.privacy.")
        coefs = np.asarray(estimator.coef_)
        if coefs.size != coefs.shape[-1]:
            raise ValueError(
                "estimator must have one row of coefficients, one for each feature, got coef_ "
                f"of shape {coefs.shape}."
            )
        thresholds = getattr(estimator, "threshold_", None)
        if thresholds is not None:
            # The paper's algorithm runs without a configuration, and its units are not kept.
            config = estimator.config_
            thresholds = (
                None
                if config is None
                else thresholds[config.fit_intercept :] * np.abs(unit_coefficients(config))
            )
        display = cls(
            coefs=coefs.ravel(),
            std_errors=np.ravel(estimator.coef_std_error_),
            thresholds=thresholds,
            feature_names=getattr(estimator, "feature_names_in_", None),
            significance_level=significance_level,
        )
        return display.plot(ax=ax, max_features=max_features)

    def plot(self, ax=None, *, max_features=None):
        """Draw the coefficients.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None stands for a new figure.
        max_features : int or None, default=None
            Number of features that are shown, those with the largest coefficients; None is
            at most 40.

        Returns
        -------
        display : LDPCoefficientDisplay
            The same object.

        Raises
        ------
        ValueError
            If `significance_level` is not in (0, 1), or lengths do not agree.
        """
        if not 0 < self.significance_level < 1:
            raise ValueError(
                f"significance_level must be in (0, 1), got {self.significance_level!r}."
            )
        coefs = np.asarray(self.coefs, dtype=float)
        errors = np.asarray(self.std_errors, dtype=float)
        if errors.shape != coefs.shape:
            raise ValueError(f"std_errors must have shape {coefs.shape}, got {errors.shape}.")
        names = check_names(self.feature_names, coefs.size)
        self.rows_ = largest_rows(np.abs(coefs), max_features)
        ax = new_axes(ax, len(self.rows_))
        coefs, half = coefs[self.rows_], norm.isf(self.significance_level / 2) * errors[self.rows_]
        at = np.arange(len(coefs))
        ax.axvline(0.0, color="0.5", lw=0.8, zorder=1)
        self.bands_ = None
        if self.thresholds is not None:
            self.bands_ = self._draw_bands(ax, at, coefs, half)
        known = np.isfinite(half)
        coverage = f"{100 * (1 - self.significance_level):g}%"
        self.intervals_ = ax.hlines(
            at[known], (coefs - half)[known], (coefs + half)[known], color=INK, lw=2.0
        )
        (self.points_,) = ax.plot(coefs, at, "o", ms=5, color=INK, zorder=3)
        name_rows(ax, [names[j] for j in self.rows_])
        ax.set_xlabel(f"coefficient, with {coverage} interval")
        if self.bands_ is not None:
            ax.legend(
                fontsize="small", frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0)
            )
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw_bands(self, ax, at, coefs, half):
        widths = np.asarray(self.thresholds, dtype=float)[self.rows_]
        reach = np.r_[np.abs(coefs) + np.where(np.isfinite(half), half, 0.0), widths]
        # A band without end fills the width of the figure.
        limit = 1.08 * float(np.max(reach[np.isfinite(reach)], initial=0.0)) or 1.0
        shown = np.minimum(widths, limit)
        ax.set_xlim(-limit, limit)
        return ax.barh(
            at, 2 * shown, left=-shown, height=0.8, color=_NOISE, alpha=0.25, lw=0,
            label="looks like noise, were it the only feature",
        )  # fmt: skip


class LDPPathDisplay:
    """Coefficients of the corrected lasso against the penalty, and the level of the noise.

    To the left of the mark, with larger penalties, a coefficient is unlikely to be noise alone;
    to its right they are more and more of noise.

    Build one with :meth:`from_estimator`.

    Parameters
    ----------
    alphas : ndarray of shape (n_alphas,)
        Penalties in public units, positive.
    coefs : ndarray of shape (n_features, n_alphas)
        Coefficients.
    alpha_noise : float or None, default=None
        The penalty that is marked.
    feature_names : array-like of shape (n_features,), default=None
        Names for the legend; None stands for x0, x1, ...

    Attributes
    ----------
    ax_ : matplotlib Axes
        What was drawn on.
    figure_ : matplotlib Figure
        The figure around it.
    lines_ : list of matplotlib Line2D
        One for each coefficient that is ever nonzero; the largest at the mark come first.
    mark_ : matplotlib Line2D or None
        The level of the noise.

    See Also
    --------
    ldp_coef_path : Computes the path.

    Examples
    --------
    >>> from sparsestat.datasets import make_sparse_regression
    >>> from sparsestat.privacy import LDPPathDisplay, LDPSparseRegressor
    >>> data = make_sparse_regression(300_000, 8, 2, random_state=0)
    >>> model = LDPSparseRegressor(epsilon=2.0, random_state=1).fit(data.data, data.target)
    >>> display = LDPPathDisplay.from_estimator(model)
    >>> display.ax_.get_xlabel()
    'alpha (public units)'
    """

    def __init__(self, *, alphas, coefs, alpha_noise=None, feature_names=None):
        self.alphas = alphas
        self.coefs = coefs
        self.alpha_noise = alpha_noise
        self.feature_names = feature_names

    @classmethod
    def from_estimator(cls, estimator, *, alphas=None, n_alphas=50, ax=None, max_labels=8):
        """Compute and plot the path of an estimator's moments.

        Parameters
        ----------
        estimator : estimator or MomentAggregator
            As for :func:`ldp_coef_path`.
        alphas : array-like of shape (n_alphas,) or None, default=None
            Penalties in public units.
        n_alphas : int, default=50
            Number of penalties if `alphas` is None.
        ax : matplotlib Axes, default=None
            Where to draw; None stands for a new figure.
        max_labels : int, default=8
            Number of coefficients in the legend.

        Returns
        -------
        display : LDPPathDisplay
            What was drawn.
        """
        path = ldp_coef_path(estimator, alphas=alphas, n_alphas=n_alphas)
        display = cls(
            alphas=path.alphas,
            coefs=path.coefs,
            alpha_noise=path.alpha_noise,
            feature_names=getattr(estimator, "feature_names_in_", None),
        )
        return display.plot(ax=ax, max_labels=max_labels)

    def plot(self, ax=None, *, max_labels=8):
        """Draw the path.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None stands for a new figure.
        max_labels : int, default=8
            Number of coefficients in the legend: the largest at the mark.

        Returns
        -------
        display : LDPPathDisplay
            The same object.

        Raises
        ------
        ValueError
            If shapes do not agree.
        """
        alphas, coefs = np.asarray(self.alphas), np.asarray(self.coefs)
        if coefs.ndim != 2 or coefs.shape[1] != alphas.size:
            raise ValueError(
                f"coefs must have shape (n_features, {alphas.size}), one column for each alpha, "
                f"got {coefs.shape}."
            )
        names = check_names(self.feature_names, len(coefs))
        ax = new_axes(ax)
        size = np.abs(coefs).max(axis=1)
        if self.alpha_noise is not None:
            nearest = np.argmin(np.abs(np.log(alphas / self.alpha_noise)))
            # Those that are zero at the mark follow by their largest value anywhere.
            size = np.where(coefs[:, nearest] != 0, np.abs(coefs[:, nearest]) + size.max(), size)
        order = [j for j in np.argsort(-size, kind="stable") if np.any(coefs[j])]
        self.lines_ = []
        for rank, j in enumerate(order):
            labelled = rank < max_labels
            style = {"lw": 1.8, "zorder": 3} if labelled else {"lw": 0.7, "color": FAINT}
            label = names[j] if labelled else None
            self.lines_ += ax.plot(alphas, coefs[j], label=label, **style)
        ax.axhline(0.0, color="0.5", lw=0.8)
        self.mark_ = None
        if self.alpha_noise is not None:
            label = "level of the known noise"
            self.mark_ = ax.axvline(self.alpha_noise, color="0.3", lw=1.2, ls="--", label=label)
        ax.set_xscale("log")
        ax.invert_xaxis()
        ax.set_xlabel("alpha (public units)")
        ax.set_ylabel("coefficient")
        if self.lines_ or self.mark_ is not None:
            ax.legend(
                fontsize="small", frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5)
            )
        self.ax_, self.figure_ = ax, ax.figure
        return self
