"""Regressions whose few columns nearly depend on each other."""

import math
from numbers import Integral, Real

import numpy as np
from sklearn.utils import Bunch

from sparsestat.utils._random import as_generator
from sparsestat.utils._sklearn import Interval, StrOptions, validate_params


@validate_params(
    {
        "n_samples": [Interval(Integral, 3, None, closed="left")],
        "n_features": [Interval(Integral, 1, None, closed="left")],
        "n_informative": [Interval(Integral, 1, None, closed="left")],
        "kind": [StrOptions({"latent", "nested", "blocks", "smooth", "iid"})],
        "snr": [Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state", np.random.Generator],
    },
    prefer_skip_nested_validation=True,
)
def make_ill_conditioned_regression(
    n_samples=200,
    n_features=400,
    n_informative=6,
    *,
    kind="nested",
    snr=20.0,
    random_state=None,
):
    """Draw a sparse regression whose informative columns form an ill-conditioned matrix.

    The support S is a uniformly random set of columns. With the singular value decomposition
    ``X_S = U diag(s) V'`` and independent random signs e, the coefficients on S are
    proportional to ``V (e / s)``, so that every singular direction, however weak, carries the
    same part of the signal. Where columns nearly depend on each other these coefficients are
    large and of opposite signs, and their l1 norm, which a Lasso pays for, is far larger
    than the signal.

    Parameters
    ----------
    n_samples : int, default=200
        Number of samples.
    n_features : int, default=400
        Number of features.
    n_informative : int, default=6
        Number of coefficients that are not zero; at most `n_features` and less than
        `n_samples`.
    kind : {"latent", "nested", "blocks", "smooth", "iid"}, default="nested"
        How the columns depend on each other; f, g and z stand for independent standard normal
        variables, and U(a, b) for a uniform one.

        ``"latent"``: two factors with standard normal loadings, plus ``t_j z_j`` with
        ``t_j = 10^U(-3, 0)``.
        ``"nested"``: ``g + 0.1 f_c(j) + t_j z_j`` with ``t_j = 10^U(-4, -2)``; each column
        belongs to one of four clusters c(j) at random.
        ``"blocks"``: ``g + 0.2 f_b(j) + t_j z_j`` with ``t_j = 10^U(-3.5, -1.5)``; the columns
        form five contiguous blocks b(j).
        ``"smooth"``: an Ornstein-Uhlenbeck process at `n_features` equidistant times in [0, 1],
        with correlation ``exp(-|s - t|)``.
        ``"iid"``: independent columns, for comparison.
    snr : float, default=20.0
        Variance of the signal over that of the noise.
    random_state : int, RandomState instance, Generator or None, default=None
        The source of everything that is drawn: the support, the signs, the noise and the
        features, in this order. None stands for NumPy's global state.

    Returns
    -------
    regression : :class:`~sklearn.utils.Bunch`
        A dictionary with the attributes

        data : ndarray of shape (n_samples, n_features)
            The features; every column has mean 0 and standard deviation 1.
        target : ndarray of shape (n_samples,)
            ``data @ coef`` plus Gaussian noise.
        coef : ndarray of shape (n_features,)
            The coefficients; ``data @ coef`` has mean 0 and standard deviation 1.
        support : ndarray of shape (n_informative,)
            The features whose coefficients are not zero, in increasing order.
        noise : float
            Standard deviation of the noise, ``1 / sqrt(snr)``.

    Raises
    ------
    ValueError
        If `n_informative` is larger than `n_features` or not less than `n_samples`, or for
        another parameter out of its range.

    See Also
    --------
    make_sparse_regression : Well-conditioned designs and coefficients of equal size.

    Notes
    -----
    Rows that are left out as test data have the same distribution, but the coefficients are
    made for all `n_samples` rows together.

    A study that randomises such data further, as an estimator with a `random_state` does,
    must not use the same integer for both: equal seeds give equal random numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.datasets import make_ill_conditioned_regression
    >>> regression = make_ill_conditioned_regression(100, 50, 4, random_state=0)
    >>> signal = regression.data @ regression.coef
    >>> round(float(signal.std()), 6)
    1.0
    >>> bool(np.abs(regression.coef).sum() > 10 * signal.std())
    True
    """
    if n_informative > n_features:
        raise ValueError(
            f"n_informative must be at most n_features={n_features}, the number of "
            f"coefficients, got {n_informative}."
        )
    if n_informative >= n_samples:
        raise ValueError(
            f"n_informative must be less than n_samples={n_samples}, since centred columns "
            f"have at most n_samples - 1 directions, got {n_informative}."
        )
    rng = as_generator(random_state)
    support = np.sort(rng.choice(n_features, n_informative, replace=False))
    signs = rng.choice([-1.0, 1.0], n_informative)
    noise = 1.0 / math.sqrt(snr)
    errors = noise * rng.standard_normal(n_samples)
    data = _draw_columns(kind, n_samples, n_features, rng)
    data -= data.mean(axis=0)
    data /= data.std(axis=0)
    _, singular, right = np.linalg.svd(data[:, support], full_matrices=False)
    coef = np.zeros(n_features)
    coef[support] = right.T @ (signs / singular)
    signal = data @ coef
    scale = signal.std()
    coef /= scale
    return Bunch(data=data, target=signal / scale + errors, coef=coef, support=support, noise=noise)


def _draw_columns(kind, n_samples, n_features, rng):
    noise = rng.standard_normal((n_samples, n_features))
    if kind == "iid":
        return noise
    if kind == "smooth":
        step = math.exp(-1.0 / max(n_features - 1, 1))
        innovation = math.sqrt(1.0 - step**2)
        for column in range(1, n_features):
            noise[:, column] *= innovation
            noise[:, column] += step * noise[:, column - 1]
        return noise
    if kind == "latent":
        factors = rng.standard_normal((n_samples, 2))
        common = factors @ rng.standard_normal((2, n_features))
        return common + 10.0 ** rng.uniform(-3.0, 0.0, n_features) * noise
    if kind == "nested":
        member, groups = rng.integers(4, size=n_features), 4
        share, least = 0.1, -4.0
    else:
        member, groups = np.arange(n_features) * 5 // n_features, 5
        share, least = 0.2, -3.5
    common = rng.standard_normal((n_samples, 1))
    factors = rng.standard_normal((n_samples, groups))
    scales = 10.0 ** rng.uniform(least, least + 2.0, n_features)
    return common + share * factors[:, member] + scales * noise
