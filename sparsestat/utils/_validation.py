"""Checks of arguments that several estimators share; every message names the argument."""

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from sparsestat.utils._sklearn import _num_samples


def check_frequency_weights(sample_weight, X, *, allow_all_zero=False):
    """Check weights that count how often each row occurs.

    Parameters
    ----------
    sample_weight : array-like of shape (n_samples,), float or None
        Non-negative weights; a scalar is the weight of every row.
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        The data, of which only the number of rows is used.
    allow_all_zero : bool, default=False
        Whether weights that remove every row are accepted, as they must be for
        one chunk of a larger data set.

    Returns
    -------
    weights : ndarray of shape (n_samples,) or None
        Finite float64 weights with a finite sum; None for None.

    Raises
    ------
    ValueError
        For weights that are negative, not finite, all zero or of another shape.
    """
    if sample_weight is None:
        return None
    n_samples = _num_samples(X)
    weights = _float_vector(sample_weight, "sample_weight")
    if weights.ndim == 0:
        weights = np.full(n_samples, weights)
    if weights.shape != (n_samples,):
        raise ValueError(
            f"sample_weight must be a number or have shape ({n_samples},), "
            f"got shape {weights.shape}."
        )
    if not np.all(np.isfinite(weights)):
        raise ValueError("sample_weight contains NaN or infinity.")
    if np.any(weights < 0):
        raise ValueError(f"sample_weight must not be negative, got {weights.min()}.")
    if not allow_all_zero and not np.any(weights):
        raise ValueError("sample_weight must have at least one positive entry, got zeros only.")
    with np.errstate(over="ignore"):
        if not np.isfinite(weights.sum()):
            raise ValueError("sample_weight must have a finite sum.")
    return weights


def check_penalty_factor(penalty_factor, n_features):
    """Check the relative penalties of the features.

    Parameters
    ----------
    penalty_factor : array-like of shape (n_features,) or None
        Non-negative factors, zero for a feature that is not penalised; None
        stands for ones.
    n_features : int
        Number of features.

    Returns
    -------
    factors : ndarray of shape (n_features,)
        A new float64 array.

    Raises
    ------
    ValueError
        For factors that are negative, not finite, all zero or of another shape.
    """
    if penalty_factor is None:
        return np.ones(n_features)
    factors = _float_vector(penalty_factor, "penalty_factor")
    if factors.shape != (n_features,):
        raise ValueError(
            f"penalty_factor must have shape ({n_features},), one entry for each feature, "
            f"got shape {factors.shape}."
        )
    if not np.all(np.isfinite(factors)) or factors.min() < 0:
        bad = np.flatnonzero(~(np.isfinite(factors) & (factors >= 0)))[0]
        raise ValueError(
            "penalty_factor must have finite, non-negative entries, "
            f"got {factors[bad]} at position {bad}."
        )
    if not np.any(factors):
        raise ValueError("penalty_factor must have at least one positive entry, got zeros only.")
    return factors


def check_positive_mask(positive, n_features):
    """Check which coefficients must not be negative.

    Parameters
    ----------
    positive : bool or array-like of bool of shape (n_features,)
        One decision for all features, or one for each.
    n_features : int
        Number of features.

    Returns
    -------
    mask : ndarray of bool of shape (n_features,)
        A new array.

    Raises
    ------
    ValueError
        For anything that is not boolean, or of another shape.
    """
    mask = np.asarray(positive)
    if mask.dtype != np.bool_ or mask.shape not in ((), (n_features,)):
        raise ValueError(
            f"positive must be a bool or a boolean array of shape ({n_features},), "
            f"got dtype {mask.dtype} and shape {mask.shape}."
        )
    return np.broadcast_to(mask, n_features).copy()


def check_alphas(alphas, *, name="alphas"):
    """Check an explicit grid of penalty strengths.

    Parameters
    ----------
    alphas : array-like of shape (n_alphas,)
        Positive, finite strengths in any order.
    name : str, default="alphas"
        The argument that a message names.

    Returns
    -------
    alphas : ndarray of shape (n_alphas,)
        A new float64 array in descending order.

    Raises
    ------
    ValueError
        For a grid that is empty, not one-dimensional, not finite or not positive.
    """
    grid = _float_vector(alphas, name)
    if grid.ndim != 1 or grid.size == 0:
        raise ValueError(
            f"{name} must be a one-dimensional grid of at least one value, got shape {grid.shape}."
        )
    if not np.all(np.isfinite(grid)) or grid.min() <= 0:
        bad = grid[~(np.isfinite(grid) & (grid > 0))][0]
        raise ValueError(f"{name} must be finite and positive, got {bad}.")
    return np.sort(grid)[::-1].copy()


def set_columns(estimator, n_features, columns_of=None):
    """Note what the columns are called, where scikit-learn's validation has not done it.

    Parameters
    ----------
    estimator : estimator
        Gets `n_features_in_`, and `feature_names_in_` if there are names; names of an earlier
        fit are forgotten.
    n_features : int
        Number of columns.
    columns_of : object, default=None
        What may have names, as a data frame does in its attribute `columns`.
    """
    if hasattr(estimator, "feature_names_in_"):
        del estimator.feature_names_in_
    estimator.n_features_in_ = n_features
    names = getattr(columns_of, "columns", ())
    if len(names) and all(isinstance(name, str) for name in names):
        estimator.feature_names_in_ = np.asarray(names, dtype=object)


def check_fitted_step(estimator, what):
    """Refuse a pipeline, whose last step has what is asked for, and what is not fitted.

    Parameters
    ----------
    estimator : estimator
        What a user passed.
    what : str
        What a message says that a pipeline lacks.

    Raises
    ------
    TypeError
        For a pipeline.
    NotFittedError
        For an estimator that is not fitted.
    """
    if hasattr(estimator, "steps"):
        raise TypeError(
            f"A {type(estimator).__name__} has no {what} of its own; pass its last step, "
            "estimator[-1], fitted."
        )
    check_is_fitted(estimator)


def _float_vector(values, name):
    """Copy to float64 without the checks that depend on the shape."""
    try:
        return check_array(
            values,
            dtype=np.float64,
            ensure_2d=False,
            ensure_all_finite=False,
            ensure_min_samples=0,
            allow_nd=True,
            copy=True,
            input_name=name,
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold real numbers, got {values!r}.") from error
