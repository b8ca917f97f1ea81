"""Displays of coefficient paths and of cross-validation."""

import numpy as np
from scipy import sparse

from sparsestat.utils._validation import check_fitted_step


def check_has_path(estimator):
    """Refuse what has no path to plot, with advice."""
    check_fitted_step(estimator, "path")
    if not hasattr(estimator, "coef_path_"):
        raise TypeError(
            f"{type(estimator).__name__} has a single penalty strength; fit its CV twin, such as "
            "LassoCV, or use RegularizationPathDisplay.from_path(*lasso_path(X, y)[:2])."
        )


class RegularizationPathDisplay:
    """Coefficients against the strength of the penalty.

    Build one with :meth:`from_estimator` or :meth:`from_path`.

    Parameters
    ----------
    alphas : ndarray of shape (n_alphas,)
        Strengths, positive.
    coefs : ndarray or sparse matrix of shape (n_features, n_alphas)
        Coefficients.
    feature_names : array-like of shape (n_features,), default=None
        Names for the legend; None stands for x0, x1, ...
    alpha : float or None, default=None
        A strength to be marked.

    Attributes
    ----------
    ax_ : matplotlib Axes
        What was drawn on.
    figure_ : matplotlib Figure
        The figure around it.
    lines_ : list of matplotlib Line2D
        One for each coefficient that is ever nonzero; those that are largest at the
        marked strength, or anywhere if none is marked, come first.

    See Also
    --------
    LassoCV : Computes a path.
    CVDisplay : Errors against the strength.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sparsestat.linear_model import LassoCV, RegularizationPathDisplay
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> model = LassoCV(criterion="bic").fit(X, y)
    >>> display = RegularizationPathDisplay.from_estimator(model)
    >>> display.ax_.get_xlabel()
    'alpha'
    """

    def __init__(self, *, alphas, coefs, feature_names=None, alpha=None):
        self.alphas = alphas
        self.coefs = coefs
        self.feature_names = feature_names
        self.alpha = alpha

    @classmethod
    def from_estimator(cls, estimator, *, ax=None, max_labels=8):
        """Plot the path of an estimator that computed one.

        Parameters
        ----------
        estimator : estimator
            Fitted, with ``coef_path_``, such as :class:`LassoCV`.
        ax : matplotlib Axes, default=None
            Where to draw; None stands for a new figure.
        max_labels : int, default=8
            Number of coefficients in the legend: the largest at the marked strength,
            or anywhere on the path if none is marked.

        Returns
        -------
        display : RegularizationPathDisplay
            What was drawn.
        """
        check_has_path(estimator)
        alphas = estimator.alphas_
        if alphas.ndim == 2:
            alphas = alphas[estimator._l1_ratios().tolist().index(estimator.l1_ratio_)]
        names = getattr(estimator, "feature_names_in_", None)
        coefs = estimator.coef_path_
        if coefs.ndim == 3:
            # A line for each class and feature.
            if names is None:
                names = [f"x{j}" for j in range(coefs.shape[1])]
            names = [f"{name} ({label})" for label in estimator.classes_ for name in names]
            coefs = coefs.reshape(-1, coefs.shape[2])
        return cls.from_path(
            alphas,
            coefs,
            feature_names=names,
            alpha=estimator.alpha_,
            ax=ax,
            max_labels=max_labels,
        )

    @classmethod
    def from_path(cls, alphas, coefs, *, feature_names=None, alpha=None, ax=None, max_labels=8):
        """Plot what :func:`lasso_path` returned.

        Parameters
        ----------
        alphas : array-like of shape (n_alphas,)
            Strengths.
        coefs : ndarray or sparse matrix of shape (n_features, n_alphas)
            Coefficients.
        feature_names : array-like of shape (n_features,), default=None
            Names for the legend; None stands for x0, x1, ...
        alpha : float or None, default=None
            A strength to be marked.
        ax : matplotlib Axes, default=None
            Where to draw; None stands for a new figure.
        max_labels : int, default=8
            Number of coefficients in the legend: the largest at the marked strength,
            or anywhere on the path if none is marked.

        Returns
        -------
        display : RegularizationPathDisplay
            What was drawn.
        """
        display = cls(alphas=alphas, coefs=coefs, feature_names=feature_names, alpha=alpha)
        return display.plot(ax=ax, max_labels=max_labels)

    def plot(self, ax=None, *, max_labels=8):
        """Draw the path.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None stands for a new figure.
        max_labels : int, default=8
            Number of coefficients in the legend: the largest at the marked strength,
            or anywhere on the path if none is marked.

        Returns
        -------
        display : RegularizationPathDisplay
            The same object.
        """
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(layout="constrained")
        coefs = self.coefs.toarray() if sparse.issparse(self.coefs) else np.asarray(self.coefs)
        alphas = np.asarray(self.alphas)
        if coefs.ndim != 2 or coefs.shape[1] != alphas.size:
            raise ValueError(
                f"coefs must have shape (n_features, {alphas.size}), one column for each alpha, "
                f"got {coefs.shape}."
            )
        if self.feature_names is not None and len(self.feature_names) != coefs.shape[0]:
            raise ValueError(
                f"feature_names must have {coefs.shape[0]} entries, got {len(self.feature_names)}."
            )
        if self.alpha is None:
            size = np.abs(coefs).max(axis=1)
        else:
            size = np.abs(coefs[:, np.argmin(np.abs(np.log(alphas / self.alpha)))])
        order = np.argsort(-size, kind="stable")
        order = [j for j in order if np.any(coefs[j])]
        self.lines_ = []
        for rank, j in enumerate(order):
            labelled = rank < max_labels
            style = {"lw": 1.8, "zorder": 3} if labelled else {"lw": 0.7, "color": "0.6"}
            name = f"x{j}" if self.feature_names is None else str(self.feature_names[j])
            (line,) = ax.plot(alphas, coefs[j], label=name if labelled else None, **style)
            self.lines_.append(line)
        ax.axhline(0.0, color="0.5", lw=0.8)
        if self.alpha is not None:
            ax.axvline(self.alpha, color="0.5", lw=1.2, ls="--", label="chosen alpha")
        ax.set_xscale("log")
        ax.invert_xaxis()
        ax.set_xlabel("alpha")
        ax.set_ylabel("coefficient")
        if self.lines_ or self.alpha is not None:
            ax.legend(
                fontsize="small", frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5)
            )
        self.ax_, self.figure_ = ax, ax.figure
        return self


class CVDisplay:
    """Cross-validation error, or an information criterion, against the penalty's strength.

    Build one with :meth:`from_estimator`.

    Parameters
    ----------
    alphas : ndarray of shape (n_alphas,)
        Strengths.
    scores : ndarray of shape (n_alphas,)
        Mean errors, or values of the criterion.
    standard_errors : ndarray of shape (n_alphas,) or None, default=None
        Standard errors of the means.
    n_nonzero : ndarray of shape (n_alphas,) or None, default=None
        Numbers of nonzero coefficients on all data.
    alpha : float or None, default=None
        The chosen strength.
    alpha_1se : float or None, default=None
        The strength of the one-standard-error rule.
    score_name : str, default="mean squared error"
        Label of the vertical axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
        What was drawn on.
    figure_ : matplotlib Figure
        The figure around it.
    line_ : matplotlib Line2D
        The scores.

    See Also
    --------
    RegularizationPathDisplay : Coefficients against the strength.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sparsestat.linear_model import CVDisplay, LassoCV
    >>> X, y = load_diabetes(return_X_y=True)
    >>> display = CVDisplay.from_estimator(LassoCV(alphas=20).fit(X, y))
    >>> display.ax_.get_ylabel()
    'mean squared error'
    """

    def __init__(
        self,
        *,
        alphas,
        scores,
        standard_errors=None,
        n_nonzero=None,
        alpha=None,
        alpha_1se=None,
        score_name="mean squared error",
    ):
        self.alphas = alphas
        self.scores = scores
        self.standard_errors = standard_errors
        self.n_nonzero = n_nonzero
        self.alpha = alpha
        self.alpha_1se = alpha_1se
        self.score_name = score_name

    @classmethod
    def from_estimator(cls, estimator, *, ax=None):
        """Plot the search of a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            Fitted, with errors on folds or ``criterion_path_``, such as :class:`LassoCV`.
        ax : matplotlib Axes, default=None
            Where to draw; None stands for a new figure.

        Returns
        -------
        display : CVDisplay
            What was drawn.
        """
        check_has_path(estimator)
        alphas, errors = estimator.alphas_, None
        if not hasattr(estimator, "criterion"):
            raise TypeError(
                f"{type(estimator).__name__} has no errors along a path to plot; pass a search "
                "such as LassoCV. ProbesDisplay shows the search of RandomSupportRegressor."
            )
        if estimator.criterion == "cv" and hasattr(estimator, "log_loss_mean_"):
            scores, errors = estimator.log_loss_mean_, estimator.log_loss_std_
            name = "logarithmic loss"
        elif estimator.criterion == "cv":
            scores, errors = estimator.mse_mean_, estimator.mse_std_
            name = "mean squared error"
        else:
            scores, name = estimator.criterion_path_, estimator.criterion.upper()
        if alphas.ndim == 2:
            row = estimator._l1_ratios().tolist().index(estimator.l1_ratio_)
            alphas, scores = alphas[row], scores[row]
            errors = None if errors is None else errors[row]
        coefs = estimator.coef_path_
        nonzero = coefs != 0
        n_nonzero = np.asarray(nonzero.sum(axis=tuple(range(coefs.ndim - 1)))).ravel()
        display = cls(
            alphas=alphas,
            scores=scores,
            standard_errors=errors,
            n_nonzero=n_nonzero,
            alpha=estimator.alpha_,
            alpha_1se=getattr(estimator, "alpha_1se_", None),
            score_name=name,
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
        display : CVDisplay
            The same object.
        """
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(layout="constrained")
        finite = np.isfinite(self.scores)
        alphas, scores = np.asarray(self.alphas)[finite], np.asarray(self.scores)[finite]
        (self.line_,) = ax.plot(alphas, scores, marker="o", ms=3, lw=1.4, color="C0")
        if self.standard_errors is not None:
            spread = np.asarray(self.standard_errors)[finite]
            ax.fill_between(
                alphas, scores - spread, scores + spread, color="C0", alpha=0.2, lw=0,
                label="± 1 standard error",
            )  # fmt: skip
        if self.alpha is not None:
            ax.axvline(self.alpha, color="0.5", lw=1.2, ls="--", label="chosen alpha")
        if self.alpha_1se is not None and self.alpha_1se != self.alpha:
            ax.axvline(self.alpha_1se, color="C1", lw=1.8, ls=":", label="one-standard-error rule")
        ax.set_xscale("log")
        ax.invert_xaxis()
        ax.set_xlabel("alpha")
        ax.set_ylabel(self.score_name)
        if self.n_nonzero is not None:
            self._label_sizes(ax, alphas, np.asarray(self.n_nonzero)[finite])
        if ax.get_legend_handles_labels()[0]:
            ax.legend(fontsize="small", frameon=False)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _label_sizes(self, ax, alphas, n_nonzero):
        """Numbers of nonzero coefficients along the top."""
        top = ax.secondary_xaxis("top")
        shown = np.unique(np.linspace(0, alphas.size - 1, 8).astype(int))
        top.set_xticks(alphas[shown], n_nonzero[shown])
        top.minorticks_off()
        top.set_xlabel("nonzero coefficients")
