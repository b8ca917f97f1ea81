"""What rows that are public may contribute: units, bounds, and a Gram matrix without noise."""

from typing import Any

import numpy as np
from sklearn.utils.validation import check_array, column_or_1d

from sparsestat.privacy._records import clean_records, clip_rows

_CHUNK = 2**16


def bounds_from_public(X_public, y_public=None, *, fit_intercept=False, y_quantile=0.99):
    """Measure units and bounds for a configuration on rows that need no protection.

    The rows must be public, or their owners must have agreed to their publication: nothing
    here is private. They should resemble the records of the campaign. Rows of a campaign that
    was private do not become public by its end; measuring bounds on new private rows next
    month would cost a campaign of its own, with an epsilon that adds to the first.

    Parameters
    ----------
    X_public : array-like of shape (n_rows, n_features)
        Features of public rows.
    y_public : array-like of shape (n_rows,) or None, default=None
        Their targets, if there are any.
    fit_intercept : bool, default=False
        Whether the campaign adds a column of ones, which `x_bound` then counts.
    y_quantile : float, default=0.99
        Share of the public targets that `y_bound` leaves as they are.

    Returns
    -------
    settings : dict
        `feature_center` (means), `feature_scale` (standard deviations, 1 for constant
        columns) and `x_bound` (the median norm in these units); with targets also `y_center`,
        `y_scale` and `y_bound`. The keys are parameters of :class:`LDPConfig` and of the
        estimators.

    Raises
    ------
    ValueError
        For fewer than two rows, or values that are not finite.

    See Also
    --------
    LDPConfig : Takes the settings.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.privacy import LDPConfig, bounds_from_public
    >>> rows = np.random.default_rng(0).normal(3.0, 2.0, size=(500, 4))
    >>> settings = bounds_from_public(rows)
    >>> config = LDPConfig("moments", n_features=4, **settings)
    >>> bool(abs(config.x_bound - 2.0) < 0.3)
    True
    """
    X = check_array(X_public, dtype=np.float64, ensure_min_samples=2, input_name="X_public")
    if not 0 < y_quantile <= 1:
        raise ValueError(f"y_quantile must be in (0, 1], got {y_quantile!r}.")
    center, scale = X.mean(axis=0), X.std(axis=0)
    # A column whose spread is rounding error is constant, and adds nothing to a norm.
    constant = scale <= 1e-12 * np.abs(center)
    scale = np.where(constant, 1.0, scale)
    units = np.where(constant, 0.0, (X - center) / scale)
    norms = np.sqrt(np.sum(units**2, axis=1) + bool(fit_intercept))
    settings: dict[str, Any] = {
        "feature_center": tuple(center.tolist()),
        "feature_scale": tuple(scale.tolist()),
        "x_bound": float(np.median(norms)) or 1.0,
    }
    if y_public is not None:
        y = column_or_1d(
            check_array(y_public, dtype=np.float64, ensure_2d=False, input_name="y_public")
        )
        if len(y) != len(X):
            raise ValueError(f"y_public must have {len(X)} rows, as X_public, got {len(y)}.")
        settings["y_center"], spread = float(y.mean()), float(y.std())
        settings["y_scale"], settings["y_bound"] = 1.0, 1.0
        if spread > 1e-12 * abs(settings["y_center"]):
            distance = np.abs(y - settings["y_center"]) / spread
            settings["y_scale"] = spread
            settings["y_bound"] = float(np.quantile(distance, y_quantile)) or 1.0
    return settings


def public_gram(X_public, config):
    """Mean of ``w^2 x x'`` over public rows, clipped as the clients clip.

    Parameters
    ----------
    X_public : ndarray of shape (n_rows, n_features)
        Features of public rows, in the units of the data.
    config : LDPConfig
        The campaign.

    Returns
    -------
    S : ndarray of shape (n_columns, n_columns)
    sd_diag, sd_off : float
        Root mean square of the sampling errors of the entries of S, on and off its diagonal.
    """
    n, D = len(X_public), config.n_columns
    S, squares = np.zeros((D, D)), np.zeros((D, D))
    for start in range(0, n, _CHUNK):
        rows = X_public[start : start + _CHUNK]
        X, _ = clean_records(rows, np.zeros(len(rows)), config)
        X, _ = clip_rows(X, config.x_bound)
        S += X.T @ X
        squares += (X * X).T @ (X * X)
    S /= n
    variance = np.maximum(squares / n - S * S, 0.0) / max(1, n - 1)
    diagonal = np.diag(variance)
    off = (variance.sum() - diagonal.sum()) / max(1, D * (D - 1))
    return S, float(np.sqrt(diagonal.mean())), float(np.sqrt(off))


def combined_gram(moments, public, n_rows):
    """Average the private and the public Gram matrix by the inverse of their variances.

    Parameters
    ----------
    moments : NoisyMoments
        Private moments.
    public : tuple
        What :func:`public_gram` returned.
    n_rows : int
        Number of public rows.

    Returns
    -------
    moments : NoisyMoments
        With the combined matrix.
    """
    S, sd_diag, sd_off = public
    D = len(S)

    def mean_variance(on, off):
        return (on**2 + (D - 1) * off**2) / D

    noise = mean_variance(moments.sd_diag, moments.sd_off)
    # A single public row has no variance to go by, and is given no weight.
    share = 0.0 if n_rows < 2 else noise / (noise + mean_variance(sd_diag, sd_off))
    return moments.with_gram(
        share * S + (1.0 - share) * moments.S,
        np.hypot(share * sd_diag, (1.0 - share) * moments.sd_diag),
        np.hypot(share * sd_off, (1.0 - share) * moments.sd_off),
    )
