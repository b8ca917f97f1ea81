"""How far a learned Schroedinger bridge is from the one that made the data."""

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from sparsestat.transport._light_bridge import (
    BridgeMixture,
    conditional_covariance,
    conditional_mean,
)


def bures_wasserstein(means, covariances, other_means, other_covariances):
    """Squared 2-Wasserstein distances between normal distributions, pair by pair.

    Parameters
    ----------
    means : ndarray of shape (n, n_features)
        Means m of the first ones.
    covariances : ndarray of shape (n, n_features, n_features)
        Their covariances V.
    other_means : ndarray of shape (n, n_features)
        Means m' of the second ones.
    other_covariances : ndarray of shape (n, n_features, n_features)
        Their covariances V'.

    Returns
    -------
    distances : ndarray of shape (n,)
        ``|m - m'|^2 + tr(V + V' - 2 (V^(1/2) V' V^(1/2))^(1/2))``.
    """
    values, vectors = np.linalg.eigh(covariances)
    roots = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
    cross = np.linalg.eigvalsh(np.swapaxes(roots, 1, 2) @ other_covariances @ roots)
    traces = np.trace(covariances, axis1=1, axis2=2) + np.trace(other_covariances, axis1=1, axis2=2)
    spread = traces - 2.0 * np.sqrt(np.maximum(cross, 0.0)).sum(axis=1)
    return np.square(means - other_means).sum(axis=1) + np.maximum(spread, 0.0)


def conditional_bw_uvp(bridge, estimator, X=None):
    """Distance of a learned bridge from the true one, as unexplained variance in per cent.

    From every starting point both bridges lead to a distribution of end points. The metric is
    the mean, over the starting points, of the squared Bures-Wasserstein distances between
    the normal distributions with the same means and covariances, divided by half the variance
    of the target (cBW2-UVP)::

        100 mean_x BW2(pi(. | x), pi^(. | x)) / (tr Cov(Y) / 2)

    Parameters
    ----------
    bridge : Bunch
        What :func:`sparsestat.datasets.make_schrodinger_bridge` returned: the truth, the
        target whose variance counts, and the starting points.
    estimator : LightSchrodingerBridge
        A fitted estimator.
    X : array-like of shape (n, n_features), default=None
        Other starting points.

    Returns
    -------
    uvp : float
        Zero if all conditional means and covariances agree. Predicting the mean of the target
        with its covariance, whatever x is, gives some hundred per cent.

    References
    ----------
    N. Gushchin, A. Kolesov, P. Mokrov, P. Karpikova, A. Spiridonov, E. Burnaev and A. Korotin
    (2023). Building the bridge of Schroedinger: a continuous entropic optimal transport
    benchmark. *Advances in Neural Information Processing Systems* 36.

    Examples
    --------
    >>> from sparsestat.datasets import make_schrodinger_bridge
    >>> from sparsestat.transport import LightSchrodingerBridge, conditional_bw_uvp
    >>> bridge = make_schrodinger_bridge(2000, 2, n_components=2, epsilon=1.0, random_state=0)
    >>> model = LightSchrodingerBridge(2, target=bridge.target, epsilon=1.0, random_state=0)
    >>> bool(conditional_bw_uvp(bridge, model.fit(bridge.X)) < 5.0)
    True
    """
    check_is_fitted(estimator)
    X = check_array(bridge.X if X is None else X, dtype=np.float64, input_name="X")
    origin = np.zeros(X.shape[1])
    truth = BridgeMixture(
        bridge.log_weights, bridge.locations, bridge.scales, bridge.epsilon, origin, origin
    )
    moments = [
        part(mixture, X)
        for mixture in (truth, estimator.mixture_)
        for part in (conditional_mean, conditional_covariance)
    ]
    variance = np.var(bridge.target, axis=0).sum()
    return float(100.0 * np.mean(bures_wasserstein(*moments)) / (variance / 2.0))
