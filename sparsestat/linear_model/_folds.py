"""Folds of a cross-validation: which they are, how a path does on them, and what that chooses."""

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import is_classifier
from sklearn.model_selection import check_cv
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing

from sparsestat.utils._sklearn import _raise_for_params, _routing_enabled


class SplitterRouter:
    """Hands parameters of ``fit``, such as groups of rows, on to the splitter ``cv``."""

    cv: Any

    def get_metadata_routing(self):
        """Return which parameters ``fit`` hands on, and to what.

        See the `user guide of scikit-learn
        <https://scikit-learn.org/stable/metadata_routing.html>`_.

        Returns
        -------
        routing : MetadataRouter
            What the estimator itself and its splitter ask for.
        """
        return (
            MetadataRouter(owner=self)
            .add_self_request(self)
            .add(
                splitter=check_cv(self.cv),
                method_mapping=MethodMapping().add(caller="fit", callee="split"),
            )
        )

    def _splitter_params(self, sample_weight, params):
        """Parameters for the splitter, if scikit-learn is set to route them."""
        _raise_for_params(params, self, "fit")
        if not _routing_enabled():
            return {}
        routed = process_routing(self, "fit", sample_weight=sample_weight, **params)
        return routed.splitter.split

    def _list_folds(self, X, y, params):
        return list_folds(self.cv, X, y, classifier=is_classifier(self), **params)


def list_folds(cv, X, y, *, classifier=False, **params):
    """Training and left-out rows of every fold."""
    folds = list(check_cv(cv, y, classifier=classifier).split(X, y, **params))
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
