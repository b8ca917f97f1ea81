"""Newton steps for quadratics on sparse graphs, on blocks whose graph has no cycle."""

import numpy as np
from scipy import sparse


def forest_newton_step(H, gradient, block=None):
    """Solve for the Newton step on a block whose graph is a forest, in linear time.

    Two coordinates are neighbours if their entry in H is not zero. Where the neighbours within
    the block form no cycle, elimination from the leaves to the roots creates no new entries,
    so that the step costs as much as it takes to read the entries of the block. This is
    what message passing on trees computes.

    Parameters
    ----------
    H : {sparse matrix, array-like} of shape (n_features, n_features)
        Symmetric Hessian of the quadratic, positive definite on the block.
    gradient : array-like of shape (n_features,)
        Gradient of the quadratic.
    block : array-like of int of shape (n_block,), default=None
        Different coordinates of the block; None stands for all.

    Returns
    -------
    step : ndarray of shape (n_block,)
        ``-inv(H[block, block]) @ gradient[block]``, the change of the coordinates of the block
        that minimises the quadratic over them.

    Raises
    ------
    ValueError
        If the graph of the block has a cycle, H is not symmetric or not positive definite
        on the block, or shapes do not fit.

    See Also
    --------
    greedy_forest : Finds such blocks.

    References
    ----------
    J. Nutini, I. Laradji and M. Schmidt (2022). Let's make block coordinate descent converge
    faster. *Journal of Machine Learning Research* 23(131), 1-74, section on message passing.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.solvers import forest_newton_step
    >>> chain = np.array([[2.0, -1.0, 0.0], [-1.0, 2.0, -1.0], [0.0, -1.0, 2.0]])
    >>> step = forest_newton_step(chain, [0.0, -4.0, 0.0])
    >>> step.round(12)
    array([2., 4., 2.])
    """
    from sparsestat.solvers import _kernels_forest

    H = _symmetric(H)
    d = H.shape[0]
    gradient = np.asarray(gradient, dtype=np.float64)
    if gradient.shape != (d,):
        raise ValueError(f"gradient must have shape ({d},), got {gradient.shape}.")
    block = _check_block(block, d)
    places = np.full(d, -1)
    places[block] = np.arange(block.size)
    queue, above = np.empty(block.size, dtype=np.int64), np.empty(block.size, dtype=np.int64)
    arrays = H.data, H.indices, H.indptr
    if not _kernels_forest.order_forest(*arrays, block, places, queue, above):
        raise ValueError(
            "block must induce a forest in the graph of H, but some of its coordinates form a "
            "cycle; greedy_forest finds blocks that do not."
        )
    step = -gradient[block]
    failed = _kernels_forest.solve_forest(
        *arrays, block, places, queue, above, np.empty(block.size), step
    )
    if failed >= 0:
        raise ValueError(
            f"H must be positive definite on the block, but coordinate {block[failed]} is left "
            "with a pivot that is not positive."
        )
    return step


def greedy_forest(H, scores):
    """Collect coordinates by decreasing score as long as they form no cycle.

    Parameters
    ----------
    H : {sparse matrix, array-like} of shape (n_features, n_features)
        Symmetric matrix; two coordinates are neighbours if their entry is not zero.
    scores : array-like of shape (n_features,)
        What is preferred, such as ``abs(gradient) / sqrt(diagonal)``. Coordinates whose score is
        not positive are left out.

    Returns
    -------
    block : ndarray of int of shape (n_block,)
        The coordinates in the order of their scores. No other coordinate with a positive
        score could join without closing a cycle.

    Raises
    ------
    ValueError
        If H is not symmetric or shapes do not fit.

    See Also
    --------
    forest_newton_step : The step on such a block.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.solvers import greedy_forest
    >>> triangle = np.ones((3, 3))
    >>> greedy_forest(triangle, [1.0, 3.0, 2.0])
    array([1, 2])
    """
    from sparsestat.solvers import _kernels_forest

    H = _symmetric(H)
    scores = np.asarray(scores, dtype=np.float64)
    if scores.shape != (H.shape[0],):
        raise ValueError(f"scores must have shape ({H.shape[0]},), got {scores.shape}.")
    if np.any(np.isnan(scores)):
        raise ValueError("scores must not contain NaN.")
    order = np.argsort(-scores, kind="stable")
    order = order[: np.count_nonzero(scores > 0.0)]
    chosen = np.empty(order.size, dtype=np.int64)
    count = _kernels_forest.grow_forest(
        H.data, H.indices, H.indptr, order, np.full(H.shape[0], -1), chosen
    )
    return chosen[:count].copy()


def _symmetric(H):
    """H as CSR array with every entry stored once."""
    H = sparse.csr_array(H, dtype=np.float64)
    if H.ndim != 2 or H.shape[0] != H.shape[1]:
        raise ValueError(f"H must be square, got shape {H.shape}.")
    if not H.has_canonical_format:
        H = H.copy()
        H.sum_duplicates()
    if not np.all(np.isfinite(H.data)):
        raise ValueError("H must be finite.")
    difference = abs(H - H.T)
    if difference.nnz and difference.max() > 1e-12 * abs(H).max():
        raise ValueError("H must be symmetric.")
    return H


def _check_block(block, d):
    if block is None:
        return np.arange(d)
    given = np.asarray(block)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        raise ValueError("block must be a one-dimensional array of integers.")
    block = given.astype(np.int64)
    if block.size and (block.min() < 0 or block.max() >= d):
        raise ValueError(f"block must hold coordinates from 0 to {d - 1}.")
    if np.unique(block).size < block.size:
        raise ValueError("block must hold every coordinate at most once.")
    return block
