"""Pairs of samples between which the Schroedinger bridge is known."""

from numbers import Integral, Real

import numpy as np
from scipy.special import softmax
from sklearn.utils import Bunch

from sparsestat.utils._random import as_generator
from sparsestat.utils._sklearn import Interval, validate_params


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "n_features": [Interval(Integral, 1, None, closed="left")],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state", np.random.Generator],
    },
    prefer_skip_nested_validation=True,
)
def make_schrodinger_bridge(
    n_samples=1000, n_features=2, *, n_components=5, epsilon=0.1, random_state=None
):
    """Draw two samples between which the Schroedinger bridge is known.

    The source is normal with variance 16 in every direction. The plan has the adjusted
    potential ``v(y) = sum_k alpha_k N(y; r_k, epsilon diag(s_k))`` with equal weights,
    locations on the sphere of radius 5 and scales between 0.03 and 0.3, so that ::

        pi(y | x) = sum_k w_k(x) N(y; r_k + s_k * x, epsilon diag(s_k)),
        w_k(x) proportional to alpha_k exp((x'diag(s_k) x + 2 r_k'x) / (2 epsilon)).

    Parameters
    ----------
    n_samples : int, default=1000
        Number of points in each sample.
    n_features : int, default=2
        Number of columns.
    n_components : int, default=5
        Number of components of the potential.
    epsilon : float, default=0.1
        Variance of the Wiener process per unit of time, positive.
    random_state : int, RandomState instance, Generator or None, default=None
        The source of everything that is drawn: potential first, then the samples, so that
        one integer gives the same potential for any `n_samples`. None stands for NumPy's
        global state.

    Returns
    -------
    bridge : :class:`~sklearn.utils.Bunch`
        A dictionary with the attributes

        X : ndarray of shape (n_samples, n_features)
            The source.
        target : ndarray of shape (n_samples, n_features)
            End points of other starting points: the samples are independent.
        log_weights : ndarray of shape (n_components,)
            The log(alpha_k).
        locations : ndarray of shape (n_components, n_features)
            The r_k.
        scales : ndarray of shape (n_components, n_features)
            The s_k.
        epsilon : float
            As given.

    See Also
    --------
    sparsestat.transport.LightSchrodingerBridge : Learns the bridge.

    Notes
    -----
    A sampled pair would be a plan for any two marginals; here the plan is optimal for the ones
    it has, because its density relative to the product of a Gaussian kernel and functions of
    one side alone is constant.

    References
    ----------
    A. Korotin, N. Gushchin and E. Burnaev (2024). Light Schroedinger bridge. *International
    Conference on Learning Representations*. arXiv:2310.01174.

    Examples
    --------
    >>> from sparsestat.datasets import make_schrodinger_bridge
    >>> bridge = make_schrodinger_bridge(500, 3, random_state=0)
    >>> bridge.X.shape, bridge.target.shape, bridge.locations.shape
    ((500, 3), (500, 3), (5, 3))
    """
    rng = as_generator(random_state)
    locations = rng.standard_normal((n_components, n_features))
    locations *= 5.0 / np.linalg.norm(locations, axis=1, keepdims=True)
    scales = rng.uniform(0.03, 0.3, (n_components, n_features))
    log_weights = np.full(n_components, -np.log(n_components))
    X, start = 4.0 * rng.standard_normal((2, n_samples, n_features))
    exponents = ((start * start) @ scales.T / 2 + start @ locations.T) / epsilon
    cumulative = np.cumsum(softmax(log_weights + exponents, axis=1), axis=1)
    # Sums that rounding keeps below one must not lead beyond the last component.
    chosen = np.sum(cumulative[:, :-1] <= rng.random((n_samples, 1)), axis=1)
    noise = rng.standard_normal((n_samples, n_features))
    spread = scales[chosen]
    target = locations[chosen] + spread * start + np.sqrt(epsilon * spread) * noise
    return Bunch(
        X=X,
        target=target,
        log_weights=log_weights,
        locations=locations,
        scales=scales,
        epsilon=float(epsilon),
    )
