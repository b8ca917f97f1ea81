"""Folds of a cross-validation: which they are, how a path does on them, and what that chooses."""

import numpy as np
from scipy import sparse
from sklearn.model_selection import check_cv


def list_folds(cv, X, y, *, classifier=False):
    """Training and left-out rows of every fold."""
    folds = list(check_cv(cv, y, classifier=classifier).split(X, y))
    if len(folds) < 2:
        raise ValueError(f"cv must give at least 2 folds, got {len(folds)}.")
    return folds


def training_rows(X, weights, rows):
    """Rows of a dense or CSC matrix, and their weights."""
    if weights is not None:
        weights = weights[rows]
        if not np.any(weights):
            raise ValueError("sample_weight must not be zero on all training rows of a fold.")
    if sparse.issparse(X):
        return sparse.csc_array(X.tocsr()[rows]), weights
    return X[rows], weights


def mean_errors(errors, weights):
    """Weighted means over rows; NaN for rows that have no weight, which say nothing."""
    if weights is not None and not np.any(weights):
        return np.full(errors.shape[1], np.nan)
    return np.average(errors, axis=0, weights=weights)


def summarise_folds(errors):
    """Means over folds and their standard errors, along the last axis.

    Parameters
    ----------
    errors : ndarray of shape (..., n_folds)
        Errors, NaN for folds without weight.

    Returns
    -------
    mean, deviation : ndarray of shape (...)
    """
    first = errors.reshape(-1, errors.shape[-1])[0]
    tested = errors[..., ~np.isnan(first)]
    if tested.shape[-1] < 2:
        raise ValueError(
            "sample_weight must be positive on left-out rows of at least 2 folds, "
            f"got {tested.shape[-1]}."
        )
    deviation = tested.std(axis=-1, ddof=1) / np.sqrt(tested.shape[-1])
    return tested.mean(axis=-1), deviation


def within_one_standard_error(mean, deviation):
    """Index of the strongest penalty whose error exceeds the smallest by one standard error."""
    best = int(np.argmin(mean))
    return int(np.argmax(mean <= mean[best] + deviation[best]))
