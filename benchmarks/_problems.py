"""Synthetic problems, and the accuracy of a Lasso solution."""

import numpy as np
from scipy import signal, sparse

_CHUNK = 25


def _response(X, n_nonzero, snr, rng):
    coef = np.zeros(X.shape[1])
    support = rng.choice(X.shape[1], n_nonzero, replace=False)
    coef[support] = rng.standard_normal(n_nonzero)
    fitted = X @ coef
    noise = rng.standard_normal(X.shape[0])
    return fitted + noise * np.linalg.norm(fitted) / (np.linalg.norm(noise) * np.sqrt(snr))


def autoregressive_regression(n_samples, n_features, *, rho, n_nonzero, snr=3.0, seed=0):
    """Draw rows from a stationary AR(1) process and a sparse linear response.

    Parameters
    ----------
    n_samples, n_features : int
    rho : float
        Correlation of neighbouring columns.
    n_nonzero : int
        Number of standard normal coefficients.
    snr : float
        Energy of the signal over that of the noise.
    seed : int

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        In Fortran order, which every coordinate descent prefers.
    y : ndarray of shape (n_samples,)
    """
    rng = np.random.default_rng(seed)
    X = autoregressive_rows(n_samples, n_features, rho, rng)
    return X, _response(X, n_nonzero, snr, rng)


def autoregressive_rows(n_samples, n_features, rho, rng):
    """Draw rows from a stationary AR(1) process, in Fortran order."""
    shocks = rng.standard_normal((n_samples, n_features))
    shocks[:, 1:] *= np.sqrt(1 - rho**2)
    return np.asfortranarray(signal.lfilter([1.0], [1.0, -rho], shocks, axis=1))


def sparse_regression(n_samples, n_features, *, n_stored, n_nonzero, snr=3.0, seed=0):
    """Draw a sparse design with standard normal entries and a sparse linear response.

    Parameters
    ----------
    n_samples, n_features : int
    n_stored : int
        Number of stored entries, at places drawn uniformly.
    n_nonzero : int
        Number of standard normal coefficients.
    snr : float
        Energy of the signal over that of the noise.
    seed : int

    Returns
    -------
    X : csc_matrix of shape (n_samples, n_features)
        With sorted 32-bit indices, the only kind that some peers take.
    y : ndarray of shape (n_samples,)
    """
    rng = np.random.default_rng(seed)
    drawn = sparse.random_array(
        (n_samples, n_features),
        density=n_stored / (n_samples * n_features),
        format="csc",
        rng=rng,
        data_sampler=rng.standard_normal,
    )
    drawn.sort_indices()
    X = sparse.csc_matrix(
        (drawn.data, drawn.indices.astype(np.int32), drawn.indptr.astype(np.int32)),
        shape=drawn.shape,
    )
    return X, _response(X, n_nonzero, snr, rng)


def alpha_grid(X, y, ratio, n_alphas=100, *, fit_intercept=False):
    """Return `n_alphas` penalties from the smallest that gives zero down to `ratio` of it."""
    target = y - y.mean() if fit_intercept else y
    largest = np.abs(X.T @ target).max() / len(y)
    return np.geomspace(largest, largest * ratio, n_alphas)


def lasso_gaps(X, y, alphas, coefs, intercepts=None):
    """Compute relative duality gaps of Lasso solutions, in float64 and from scratch.

    The problem is ``||y - X b - b0||^2 / 2 + n alpha ||b||_1``. The dual point is the residual,
    centred if there is an intercept, times the scale with the best dual value among the feasible
    ones.

    Parameters
    ----------
    X : {ndarray, sparse matrix} of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
    alphas : array-like of shape (n_alphas,)
    coefs : {ndarray, sparse matrix} of shape (n_features, n_alphas)
    intercepts : array-like of shape (n_alphas,) or None
        None for a model without intercept.

    Returns
    -------
    ndarray of shape (n_alphas,)
        The gaps over half the squared norm of y, centred if there is an intercept.
    """
    lam = len(y) * np.asarray(alphas, dtype=float)
    if coefs.shape != (X.shape[1], len(lam)):
        raise ValueError(
            f"{len(lam)} solutions of {X.shape[1]} coefficients were asked for, "
            f"coefficients of shape {coefs.shape} came."
        )
    target = y if intercepts is None else y - y.mean()
    scale = target @ target / 2
    gaps = np.empty(len(lam))
    for start in range(0, len(lam), _CHUNK):
        part = slice(start, start + _CHUNK)
        coef = coefs[:, part]
        coef = coef.toarray() if sparse.issparse(coef) else np.asarray(coef, dtype=float)
        residual = y[:, None] - X @ coef
        if intercepts is not None:
            residual -= np.asarray(intercepts, dtype=float)[part]
        primal = (residual**2).sum(axis=0) / 2 + lam[part] * np.abs(coef).sum(axis=0)
        if intercepts is not None:
            residual -= residual.mean(axis=0)
        squares = (residual**2).sum(axis=0)
        largest = np.abs(X.T @ residual).max(axis=0)
        # max(.., tiny): a residual of zero is feasible at every scale.
        tiny = np.finfo(float).tiny
        bound = lam[part] / np.maximum(largest, tiny)
        step = np.clip(target @ residual / np.maximum(squares, tiny), -bound, bound)
        distance = target[:, None] - step * residual
        gaps[part] = primal - scale + (distance**2).sum(axis=0) / 2
    return gaps / scale
