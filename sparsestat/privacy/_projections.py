"""The nearest sparse vector, and the nearest one in a ball."""

import numpy as np


def hard_threshold(v, n_nonzero):
    """Keep the entries of largest size; of equal ones the first.

    Parameters
    ----------
    v : ndarray of shape (dim,)
        The vector.
    n_nonzero : int
        How many are kept.

    Returns
    -------
    kept : ndarray of shape (dim,)
        A copy with zeros elsewhere.
    """
    kept = np.zeros_like(v)
    largest = np.argsort(-np.abs(v), kind="stable")[:n_nonzero]
    kept[largest] = v[largest]
    return kept


def project_to_ball(theta, radius):
    """The nearest point of the Euclidean ball around zero.

    Parameters
    ----------
    theta : ndarray of shape (dim,)
        The point.
    radius : float
        Radius of the ball.

    Returns
    -------
    theta : ndarray of shape (dim,)
    """
    norm = float(np.linalg.norm(theta))
    return theta * (radius / norm) if norm > radius else theta
