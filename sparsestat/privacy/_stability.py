"""How far the selection of features depends on the noise that happened to be drawn."""

from dataclasses import replace
from numbers import Integral

import numpy as np

from sparsestat.privacy._moment_estimator import SERVER_PARAMETERS
from sparsestat.privacy._path import check_has_moments
from sparsestat.privacy._simulation import coin_generator

# The seed that made the coins of a simulated campaign must not repeat them here.
_NOISE = (1, 1)


def support_stability(estimator, n_draws=100, random_state=None):
    """How often each feature is selected when the known noise is drawn again.

    Noise of the known standard deviations is added to the moments of the estimator, which are
    solved again as the estimator did, `n_draws` times. It is post-processing of the reports
    and costs no further privacy: what they guarantee, (epsilon, delta)-local differential
    privacy for the replacement of one record, stays as it is.

    Parameters
    ----------
    estimator : estimator
        A fitted :class:`LDPSparseRegressor` or :class:`LDPSparseRegressorCV`, whose choice of
        parameters is kept. It is not changed.
    n_draws : int, default=100
        Number of draws. The Monte-Carlo error of a frequency is at most
        ``0.5 / sqrt(n_draws)``.
    random_state : int, RandomState instance, Generator or None, default=None
        Source of the noise.

    Returns
    -------
    frequencies : ndarray of shape (n_features,)
        Shares of the draws in which each feature is selected.

    Raises
    ------
    TypeError
        If the estimator has no moments to solve.
    ValueError
        For an invalid number of draws, and an estimator with `paper_constants`.

    See Also
    --------
    SupportStabilityDisplay : Plots the frequencies.

    Notes
    -----
    This is a parametric bootstrap: it answers how often another campaign of the same size
    would select a feature if the noisy moments at hand were the true ones. They are not, and
    the frequencies are neither probabilities that a feature matters nor error rates:

    - The moments have noise already, so that those of a draw differ from the true ones by
      ``sqrt(2)`` times as much as the moments of a campaign, while the solver's thresholds
      are meant for one campaign. Features without any effect are selected more often than a
      new campaign would select them, and one just above its threshold in only about half of
      the draws.
    - A feature that owes its selection to a lucky draw of the noise takes its luck along into
      every draw. A high frequency does not exonerate it; only further reports do.
    - The sampling error of the users' records is not drawn again. It is small beside the noise
      unless epsilon is large; for public rows the sampling error of their Gram matrix stands
      in for noise, as in `coef_std_error_`.

    What can be read from them is a warning: a selected feature with a frequency far below 1
    would not be worth a claim, whatever its coefficient. With a given `n_nonzero` the
    frequencies add up to it, and tell which features contend for the last places.

    The noise of an average of many reports is taken to be normal, and independent between
    entries of the upper triangle of the Gram matrix and the cross moments.

    Examples
    --------
    >>> from sparsestat.datasets import make_sparse_regression
    >>> from sparsestat.privacy import LDPSparseRegressor, support_stability
    >>> data = make_sparse_regression(300_000, 8, 2, random_state=0)
    >>> model = LDPSparseRegressor(epsilon=2.0, random_state=1).fit(data.data, data.target)
    >>> frequencies = support_stability(model, n_draws=50, random_state=2)
    >>> bool((frequencies[data.coef != 0] > 0.9).all())
    True
    """
    check_has_moments(estimator, "support_stability")
    if isinstance(n_draws, bool) or not isinstance(n_draws, Integral) or n_draws < 1:
        raise ValueError(f"n_draws must be a positive integer, got {n_draws!r}.")
    rng = coin_generator(random_state, *_NOISE)
    config = estimator.config_
    if hasattr(estimator, "best_params_"):
        server = estimator.best_params_
    else:
        server = {name: getattr(estimator, name) for name in SERVER_PARAMETERS}
    counts = np.zeros(config.n_columns)
    for _ in range(n_draws):
        solution = estimator._solve_moments(redrawn(estimator.moments_, rng), config, **server)
        counts += solution.coef != 0
    return counts[config.fit_intercept :] / n_draws


def redrawn(moments, rng):
    """Add noise of the known standard deviations to moments.

    Parameters
    ----------
    moments : NoisyMoments
        With a Gram matrix.
    rng : numpy.random.Generator
        Source of the noise.

    Returns
    -------
    moments : NoisyMoments
    """
    D = len(moments.b)
    upper = np.triu(moments.sd_off * rng.standard_normal((D, D)), 1)
    diagonal = np.diag(moments.sd_diag * rng.standard_normal(D))
    return replace(
        moments,
        S=moments.S + upper + upper.T + diagonal,
        b=moments.b + moments.sd_b * rng.standard_normal(D),
    )
