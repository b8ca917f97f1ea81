"""Linear and logistic models with few non-zero coefficients."""

import math
from numbers import Integral, Real

import numpy as np
from sklearn.utils import Bunch

from sparsestat.utils._random import as_generator
from sparsestat.utils._sklearn import Interval, StrOptions, validate_params


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "n_features": [Interval(Integral, 1, None, closed="left")],
        "n_nonzero": [Interval(Integral, 0, None, closed="left")],
        "design": [StrOptions({"gaussian", "ar", "student_t"})],
        "correlation": [Interval(Real, -1, 1, closed="neither")],
        "df": [Interval(Real, 0, None, closed="neither")],
        "noise": [Interval(Real, 0, None, closed="left")],
        "noise_df": [Interval(Real, 0, None, closed="neither"), None],
        "target": [StrOptions({"continuous", "binary"})],
        "random_state": ["random_state", np.random.Generator],
    },
    prefer_skip_nested_validation=True,
)
def make_sparse_regression(
    n_samples=1000,
    n_features=10,
    n_nonzero=3,
    *,
    design="gaussian",
    correlation=0.5,
    df=3,
    noise=0.5,
    noise_df=None,
    target="continuous",
    random_state=None,
):
    """Draw samples from a regression with few non-zero coefficients of known size.

    The continuous target is linear in the features, and the binary one follows a logistic
    model::

        y = x'coef + noise z        P(y = 1 | x) = 1 / (1 + exp(-x'coef))

    The `n_nonzero` coefficients that are not zero are ``+1 / sqrt(n_nonzero)`` or
    ``-1 / sqrt(n_nonzero)``, so that the vector has Euclidean norm one whatever its size.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of samples.
    n_features : int, default=10
        Number of features.
    n_nonzero : int, default=3
        Number of coefficients that are not zero, at most `n_features`.
    design : {"gaussian", "ar", "student_t"}, default="gaussian"
        The distribution of the features, all of which have mean (for Student's t with
        ``df <= 1``: median) zero. ``"gaussian"``: independent, with variance one. ``"ar"``:
        Gaussian with variance one and correlation ``correlation ** abs(i - j)`` between the
        features i and j. ``"student_t"``: independent, with Student's t distribution of `df`
        degrees of freedom as tables have it, not rescaled: the variance is ``df / (df - 2)``,
        infinite for ``df <= 2``.
    correlation : float, default=0.5
        Correlation of neighbouring features, between -1 and 1; only for ``design="ar"``.
    df : float, default=3
        Degrees of freedom of the features; only for ``design="student_t"``.
    noise : float, default=0.5
        Standard deviation of the noise; only for the continuous target, since the labels of
        the logistic model are random without it.
    noise_df : float, default=None
        Degrees of freedom of the noise's Student t distribution, for heavy tails. `noise`
        then multiplies a variable of that distribution and is its scale, not its standard
        deviation. None stands for Gaussian noise.
    target : {"continuous", "binary"}, default="continuous"
        Whether the target is a real number or a label, 0 or 1.
    random_state : int, RandomState instance, Generator or None, default=None
        The source of everything that is drawn: the places of the non-zero coefficients, their
        signs, the features and the noise (or the labels), in this order, so that one integer
        gives the same coefficients for any `n_samples`, `design` and `noise`. None stands for
        NumPy's global state.

    Returns
    -------
    regression : :class:`~sklearn.utils.Bunch`
        A dictionary with the attributes

        data : ndarray of shape (n_samples, n_features)
            The features.
        target : ndarray of shape (n_samples,)
            The target; integers for ``target="binary"``.
        coef : ndarray of shape (n_features,)
            The coefficients.
        support : ndarray of shape (n_nonzero,)
            The features whose coefficients are not zero, in increasing order.

    Raises
    ------
    ValueError
        If `n_nonzero` is larger than `n_features`, or for another parameter out of its range.

    See Also
    --------
    sklearn.datasets.make_sparse_uncorrelated : One fixed model with four coefficients.
    make_sem : Several such regressions along a directed acyclic graph.

    Notes
    -----
    A study that randomises such data further, as an estimator with a `random_state` does,
    must not use the same integer for both: equal seeds give equal random numbers.

    Examples
    --------
    >>> from sparsestat.datasets import make_sparse_regression
    >>> regression = make_sparse_regression(200, 6, 4, random_state=0)
    >>> regression.data.shape
    (200, 6)
    >>> sorted(abs(regression.coef).tolist())
    [0.0, 0.0, 0.5, 0.5, 0.5, 0.5]
    >>> labels = make_sparse_regression(200, 6, target="binary", random_state=0).target
    >>> sorted(set(labels.tolist()))
    [0, 1]
    """
    if n_nonzero > n_features:
        raise ValueError(
            f"n_nonzero must be at most n_features={n_features}, the number of coefficients, "
            f"got {n_nonzero}."
        )
    rng = as_generator(random_state)
    support = np.sort(rng.choice(n_features, n_nonzero, replace=False))
    coef = np.zeros(n_features)
    coef[support] = rng.choice([-1.0, 1.0], n_nonzero) / math.sqrt(max(n_nonzero, 1))
    data = _draw_features(design, (n_samples, n_features), correlation, df, rng)
    signal = data @ coef
    if target == "continuous":
        errors = (
            rng.standard_normal(n_samples)
            if noise_df is None
            else rng.standard_t(noise_df, n_samples)
        )
        values = signal + noise * errors
    else:
        # A standard logistic variable has the distribution function of the model.
        values = (signal + rng.logistic(size=n_samples) > 0.0).astype(np.int64)
    return Bunch(data=data, target=values, coef=coef, support=support)


def _draw_features(design, shape, correlation, df, rng):
    if design == "student_t":
        return rng.standard_t(df, shape)
    data = rng.standard_normal(shape)
    if design == "ar":
        # Column by column, so that no n_features x n_features matrix is formed.
        innovation = math.sqrt(1.0 - correlation**2)
        for column in range(1, shape[1]):
            data[:, column] *= innovation
            data[:, column] += correlation * data[:, column - 1]
    return data
