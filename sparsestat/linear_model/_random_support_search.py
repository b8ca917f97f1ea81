"""Paths beside random probes on all rows or on a fold, their errors, and second fits."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import sparse

from sparsestat.linear_model._data import make_problem
from sparsestat.linear_model._ebic import eliminate_backward
from sparsestat.linear_model._folds import mean_errors, training_rows
from sparsestat.linear_model._path import alpha_grid
from sparsestat.linear_model._random_support import ProjectedColumns, SparseColumns


@dataclass
class Settings:
    """What every path of one fit has in common.

    Attributes
    ----------
    fit_intercept : bool
        Whether to centre.
    tol_span : float
        Distance up to which a column counts as part of a span.
    tol : float
        Relative duality gap.
    max_iter : int
        Largest number of working sets for a strength.
    """

    fit_intercept: bool
    tol_span: float
    tol: float
    max_iter: int

    def columns(self, X, y, weights, order):
        """Columns that can be projected off the span of prefixes of ``order``."""
        if sparse.issparse(X):
            return SparseColumns(X, y, weights, fit_intercept=self.fit_intercept)
        return ProjectedColumns(
            X, y, weights, order, fit_intercept=self.fit_intercept, tol_span=self.tol_span
        )


@dataclass
class ProbeFit:
    """A path for one number of probes, in the columns as they were given.

    Attributes
    ----------
    points : list of PathPoint
        Solutions on what the probes leave, for their certificates.
    features : ndarray of int
        Probes of the basis, and features that any solution uses.
    coefs : ndarray of shape (n_used, n_points)
        Their coefficients.
    sizes : ndarray of shape (n_used,)
        Norms of their centred and weighted columns.
    x_mean : ndarray of shape (n_used,)
        Their means, zeros without an intercept.
    y_mean : float
        Mean of the response, zero without an intercept.
    rank : int
        Dimension of the span of the probes.
    required : float
        Largest gap that the tolerance allows.
    penalty_factor : ndarray of shape (n_features,)
        Distances of all columns from the span.
    """

    points: list
    features: np.ndarray
    coefs: np.ndarray
    sizes: np.ndarray
    x_mean: np.ndarray
    y_mean: float
    rank: int
    required: float
    penalty_factor: np.ndarray

    def predict(self, X):
        """Predictions of all solutions."""
        return predict_centred(X, self.features, self.coefs, self.x_mean, self.y_mean)


def predict_centred(X, features, coefs, x_mean, y_mean):
    """Predictions whose large means cancel before they are multiplied, if X is dense."""
    if sparse.issparse(X):
        return X[:, features] @ coefs - x_mean @ coefs + y_mean
    return (X[:, features] - x_mean) @ coefs + y_mean


def probe_grids(settings, X, y, weights, order, counts, n_alphas, eps):
    """Strengths for every number of probes, from the data that are given."""
    columns = settings.columns(X, y, weights, order)
    grids = []
    for count in counts:
        columns.advance(count)
        start = columns.open_path(settings.tol, settings.max_iter).alpha_max()
        grids.append(alpha_grid(start, n_alphas, eps))
    return grids


def fit_paths(settings, X, y, weights, order, counts, grids, *, report=None, progress=None):
    """Solve one path for every number of probes.

    Parameters
    ----------
    settings : Settings
        Tolerances.
    X : ndarray or CSC array of shape (n_samples, n_features)
        The rows to learn from; nothing else is looked at.
    y : ndarray of shape (n_samples,)
        Their response.
    weights : ndarray of shape (n_samples,) or None
        Their frequencies.
    order : ndarray of int
        The permutation whose prefixes are probes.
    counts : sequence of int
        Numbers of probes, increasing.
    grids : list of ndarray
        Strengths for each of them, descending.
    report : callable, default=None
        Called with every :class:`ProbeFit` as soon as it is known.
    progress : callable, default=None
        Called with the columns, the path and a strength; returns what the solver calls after
        each working set.

    Returns
    -------
    fits : list of ProbeFit
        One for each number of probes.
    """
    columns = settings.columns(X, y, weights, order)
    fits = []
    for count, grid in zip(counts, grids):
        columns.advance(count)
        path = columns.open_path(settings.tol, settings.max_iter)
        points = [
            path.at(alpha, progress(columns, path, alpha) if progress else None) for alpha in grid
        ]
        features, coefs = columns.coefficients([(p.features, p.values) for p in points])
        fits.append(
            ProbeFit(
                points,
                features,
                coefs,
                columns.norms[features],
                columns.x_mean[features],
                columns.y_mean,
                columns.rank,
                path.problem.tolerance(settings.tol),
                columns.penalty_factor(),
            )
        )
        if report is not None:
            report(fits[-1])
    return fits


class SecondFit(NamedTuple):
    """Least squares on the features that backward elimination keeps.

    Parameters
    ----------
    features : ndarray of int
        What is kept.
    coefs : ndarray of shape (n_kept,)
        Least-squares coefficients.
    x_mean : ndarray of shape (n_kept,)
        Means of the features.
    position : int
        Which solution of the path gave the candidates.
    criterion : float
        Extended Bayesian information criterion, comparable between fits to the same rows.
    """

    features: np.ndarray
    coefs: np.ndarray
    x_mean: np.ndarray
    position: int
    criterion: float


def second_fit(settings, columns_of, y, weights, fit, positions, n_features):
    """Backward elimination among the features of several solutions of one path.

    Parameters
    ----------
    settings : Settings
        Whether there is an intercept.
    columns_of : callable
        Returns the dense columns of given features, on the rows to learn from.
    y : ndarray of shape (n_samples,)
        Response on these rows.
    weights : ndarray of shape (n_samples,) or None
        Their frequencies.
    fit : ProbeFit
        What was learned from the same rows.
    positions : ndarray of int
        Which of its solutions give the candidates, each in its turn.
    n_features : int
        Number of features that they were chosen from.

    Returns
    -------
    second : SecondFit
        That with the smallest criterion.
    """
    total = y.size if weights is None else float(weights.sum())

    def eliminate(position):
        effects = np.abs(fit.coefs[:, position]) * fit.sizes
        candidates = np.flatnonzero(effects)
        # More parameters than half the rows would leave too little to judge them by.
        ranked = candidates[np.argsort(-effects[candidates], kind="stable")][: int(total / 2)]
        # The criterion of no columns at all is that of a column that explains nothing.
        chosen = columns_of(fit.features[ranked]) if ranked.size else np.zeros((y.size, 1))
        data = make_problem(chosen, y, weights, fit_intercept=settings.fit_intercept, gram_limit=0)
        kept, coefs, criterion = eliminate_backward(
            data.design.X, data.design.y, total, n_features
        )  # fmt: skip
        features = fit.features[ranked[kept]]
        return SecondFit(features, coefs, data.x_mean[kept], position, criterion)

    return min(map(eliminate, positions), key=lambda one: one.criterion)


def dense_columns(X, features, rows=slice(None)):
    """Some columns of a dense or CSC matrix as a dense array."""
    chosen = X[:, features]
    return (chosen.toarray() if sparse.issparse(chosen) else chosen)[rows]


class Fold:
    """One split of the rows, with all that is learned on its training rows.

    Parameters
    ----------
    settings : Settings
        Tolerances.
    X : ndarray or CSC array of shape (n_samples, n_features)
        All rows.
    y : ndarray of shape (n_samples,)
        Their response.
    weights : ndarray of shape (n_samples,) or None
        Their frequencies.
    train, test : ndarray of int
        Rows to learn from, and rows left out.
    """

    def __init__(self, settings, X, y, weights, train, test):
        self._settings = settings
        self._data = X, y, weights
        self._train = train
        self._test_X = (X.tocsr() if sparse.issparse(X) else X)[test]
        self._test_y = y[test]
        self._test_weights = None if weights is None else weights[test]
        self.fits = []

    def run(self, order, counts, grids, report=None):
        """Errors of all solutions on the rows left out, of shape (n_counts, n_alphas)."""
        X, y, weights = self._data
        X, weights = training_rows(X, weights, self._train)
        self.fits = fit_paths(
            self._settings, X, y[self._train], weights, order, counts, grids, report=report
        )
        return np.array([self._errors(fit.predict(self._test_X)) for fit in self.fits])

    def run_second(self, positions):
        """Errors of second fits on the rows left out.

        Parameters
        ----------
        positions : ndarray of int of shape (n_counts, n_strengths)
            Which solutions give the candidates, for each number of probes. The criterion
            chooses among them on the rows to learn from.

        Returns
        -------
        errors : ndarray of shape (n_counts,)
        """
        X, y, weights = self._data
        weights = None if weights is None else weights[self._train]
        errors = []
        for fit, places in zip(self.fits, positions):
            second = second_fit(
                self._settings,
                lambda chosen: dense_columns(X, chosen, self._train),
                y[self._train],
                weights,
                fit,
                places,
                X.shape[1],
            )
            predicted = predict_centred(
                self._test_X, second.features, second.coefs[:, None], second.x_mean, fit.y_mean
            )
            errors.append(self._errors(predicted)[0])
        return np.array(errors)

    def _errors(self, predicted):
        return mean_errors((self._test_y[:, None] - predicted) ** 2, self._test_weights)
