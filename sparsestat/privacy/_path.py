"""Coefficients along the penalty, from one state of the server."""

import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Bunch

from sparsestat.privacy._aggregator import MomentAggregator
from sparsestat.privacy._base import free_columns, raw_coefficients
from sparsestat.privacy._ldp_regressor import LDPSparseRegressor
from sparsestat.privacy._moment_estimator import MomentReader
from sparsestat.privacy._moment_solvers import lasso_coefficients
from sparsestat.utils._validation import check_fitted_step


def check_has_moments(estimator, function):
    """Refuse what kept no noisy moments of a campaign, with advice."""
    check_fitted_step(estimator, "moments")
    if not hasattr(estimator, "moments_"):
        raise TypeError(
            f"{function} solves noisy moments, and {type(estimator).__name__} keeps none; fit "
            "LDPSparseRegressor or LDPSparseRegressorCV."
        )
    if estimator.config_ is None:
        raise ValueError(
            f"{function} needs the moments of a campaign, and paper_constants=True has none; "
            "fit with paper_constants=False."
        )


def ldp_coef_path(
    estimator_or_state,
    *,
    alphas=None,
    n_alphas=50,
    X_public=None,
    coef_bound=None,
    max_iter=1000,
    tol=1e-8,
):
    """Compute coefficients of the corrected lasso along the penalty.

    All of the path is computed from one set of noisy moments, each solution from the one
    before, at little more than the cost of a single fit. It is post-processing: reports that
    satisfy (epsilon, delta)-local differential privacy for the replacement of one record still
    do, and nothing is added to what they spend. Outside the guarantee is what :class:`LDPConfig`
    leaves there, such as the time of a report.

    Parameters
    ----------
    estimator_or_state : estimator or MomentAggregator
        A fitted :class:`LDPSparseRegressor` or :class:`LDPSparseRegressorCV`, or the state of
        a server of the kind "moments" or "cross". Neither is changed.
    alphas : array-like of shape (n_alphas,) or None, default=None
        Penalties in public units, positive, in any order; None takes `n_alphas` of them, from
        the smallest that sets every coefficient to zero to a twentieth of the noise.
    n_alphas : int, default=50
        Number of penalties if `alphas` is None.
    X_public : array-like of shape (n_rows, n_features) or None, default=None
        Public rows, for a state only: required for the kind "cross", and combined with the
        reports for "moments". An estimator has the moments that it solved.
    coef_bound : float or None, default=None
        Public bound on the Euclidean norm of the coefficients, in public units; None is that
        of the estimator, and 1 for a state.
    max_iter : int, default=1000
        Largest number of iterations for each penalty.
    tol : float, default=1e-8
        A solution is taken when a step is shorter than this, relative to `coef_bound`.

    Returns
    -------
    path : Bunch
        With the entries

        alphas : ndarray of shape (n_alphas,)
            Penalties in public units, decreasing.
        coefs : ndarray of shape (n_features, n_alphas)
            Coefficients in the units of the data.
        intercepts : ndarray of shape (n_alphas,)
            Intercepts in the units of the data.
        alpha_noise : float
            The penalty that ``alpha="auto"`` stands for: above it no correlation is likely to
            be noise alone.
        converged : bool
            Whether each of them met the tolerance.

    Raises
    ------
    TypeError
        If there are no moments to solve.
    ValueError
        For invalid parameters, or if public rows are missing or do not fit.
    NotFittedError
        If the estimator is not fitted, or the state has no reports.

    Warns
    -----
    ConvergenceWarning
        If some penalty needed more than `max_iter` iterations.

    See Also
    --------
    LDPPathDisplay : Plots the path.
    LDPSparseRegressor : One solution.

    Notes
    -----
    The objective is ``theta' S theta / 2 - b' theta + alpha * |theta|_1`` within a ball. A
    noisy S may be indefinite; solutions are then stationary points [1]_, and following them
    along the path may lead to others than starting afresh.

    References
    ----------
    .. [1] P.-L. Loh and M. J. Wainwright (2012). High-dimensional regression with noisy and
       missing data: provable guarantees with nonconvexity. *Annals of Statistics* 40(3),
       1637-1664.

    Examples
    --------
    >>> from sparsestat.datasets import make_sparse_regression
    >>> from sparsestat.privacy import LDPSparseRegressor, ldp_coef_path
    >>> data = make_sparse_regression(300_000, 8, 2, random_state=0)
    >>> model = LDPSparseRegressor(epsilon=2.0, random_state=1).fit(data.data, data.target)
    >>> path = ldp_coef_path(model, n_alphas=20)
    >>> path.coefs.shape, bool(abs(path.coefs[:, 0]).max() < 1e-6)
    ((8, 20), True)
    >>> at_noise = abs(path.alphas - path.alpha_noise).argmin()
    >>> bool((path.coefs[data.coef != 0, at_noise] != 0).all())
    True
    """
    moments, config, bound = _moments_to_solve(estimator_or_state, X_public)
    bound = bound if coef_bound is None else _positive(coef_bound, "coef_bound")
    alphas, thetas, noise, converged = lasso_coefficients(
        moments,
        _check_alphas(alphas, n_alphas),
        coef_bound=bound,
        free=free_columns(config),
        max_iter=_positive_integer(max_iter, "max_iter"),
        tol=_positive(tol, "tol"),
    )
    if not converged:
        warnings.warn(
            f"Some coefficients of the path still moved by more than tol={tol:g} of the bound "
            f"after {max_iter} iterations. Increase max_iter or tol, or take larger alphas.",
            ConvergenceWarning,
            stacklevel=2,
        )
    solutions = [raw_coefficients(theta, config) for theta in thetas.T]
    return Bunch(
        alphas=alphas,
        coefs=np.stack([coef for coef, _ in solutions], axis=1),
        intercepts=np.array([intercept for _, intercept in solutions]),
        alpha_noise=float(noise),
        converged=bool(converged),
    )


def _moments_to_solve(source, X_public):
    """Moments, configuration and bound of an estimator or a state."""
    if isinstance(source, MomentAggregator):
        server = LDPSparseRegressor(X_public=X_public)
        state = server._check_aggregator(source)
        return MomentReader(server, state.config)(state), state.config, 1.0
    if not hasattr(source, "fit"):
        raise TypeError(
            "estimator_or_state must be a fitted estimator or a MomentAggregator, got a "
            f"{type(source).__name__}."
        )
    check_has_moments(source, "ldp_coef_path")
    if X_public is not None:
        raise ValueError(
            "X_public must be None for an estimator, whose moments have its own public rows; "
            "pass estimator.aggregator_ to combine them with others."
        )
    return source.moments_, source.config_, float(source.coef_bound)


def _positive(value, name):
    if not isinstance(value, Real) or not 0.0 < float(value) < np.inf:
        raise ValueError(f"{name} must be a positive number, got {value!r}.")
    return float(value)


def _positive_integer(value, name):
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}.")
    return int(value)


def _check_alphas(alphas, n_alphas):
    if alphas is None:
        return _positive_integer(n_alphas, "n_alphas")
    values = np.asarray(alphas, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"alphas must have shape (n_alphas,), got {values.shape}.")
    if not (np.all(np.isfinite(values)) and np.all(values > 0)):
        raise ValueError(f"alphas must be positive and finite, got {alphas!r}.")
    return np.sort(values)[::-1]
