"""Penalties on groups of coefficients."""

import math
from numbers import Real

import numpy as np

from sparsestat.penalties._base import KernelPenalty
from sparsestat.penalties._codes import ELASTIC_NET
from sparsestat.utils._arrays import get_namespace
from sparsestat.utils._sklearn import Interval
from sparsestat.utils._validation import check_penalty_factor


class RowGroupL2(KernelPenalty):
    r"""Sum of the Euclidean norms of the rows of a coefficient matrix.

    .. math:: p(W) = \alpha \sum_j s_j \|W_{j \cdot}\|_2

    with the factors :math:`s_j` [1]_.  A row holds the coefficients of one feature for
    all targets, so that a feature is kept or dropped for all targets together.  The
    proximal operator shrinks the norms:
    :math:`V_{j \cdot} (1 - t \alpha s_j / \|V_{j \cdot}\|_2)_+`.

    Parameters
    ----------
    alpha : float, default=1.0
        Strength of the penalty.
    penalty_factor : array-like of shape (n_features,) or None, default=None
        Relative penalty of each row, zero for none; ones if None.

    See Also
    --------
    L1 : The penalty for a single target.

    Notes
    -----
    NumPy arrays and device arrays are taken.

    References
    ----------
    .. [1] Yuan, M. and Lin, Y. (2006). Model selection and estimation in regression
       with grouped variables. Journal of the Royal Statistical Society: Series B
       68(1), 49-67.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.penalties import RowGroupL2
    >>> penalty = RowGroupL2(alpha=2.5)
    >>> penalty.value(np.array([[3.0, 4.0], [0.0, 0.0]]))
    12.5
    >>> penalty.prox(np.array([[3.0, 4.0], [1.0, 1.0]]), 1.0)
    array([[1.5, 2. ],
           [0. , 0. ]])
    """

    kind = "group"
    convex = True

    _parameter_constraints = {
        "alpha": [Interval(Real, 0, None, closed="left")],
        "penalty_factor": [None, "array-like"],
    }

    def __init__(self, alpha=1.0, *, penalty_factor=None):
        self.alpha = alpha
        self.penalty_factor = penalty_factor

    def kernel(self, n_features):
        self._validate_params()
        params = np.zeros((3, n_features))
        params[0] = self.alpha * check_penalty_factor(self.penalty_factor, n_features)
        # The norm of a row is a coefficient of the lasso.
        return ELASTIC_NET, params

    def is_penalized(self, n_features):
        return check_penalty_factor(self.penalty_factor, n_features) > 0.0

    def _norms(self, w, name):
        w = self._convert(w, name)
        xp, device, _ = get_namespace(w)
        return xp.sqrt(xp.sum(w * w, axis=1)), xp, device

    def alpha_max(self, grad0):
        norms, xp, device = self._norms(grad0, "grad0")
        factor = check_penalty_factor(self.penalty_factor, norms.shape[0])
        factor = xp.asarray(factor, device=device)
        with np.errstate(over="ignore"):
            ratios = norms / xp.where(factor > 0.0, factor, 1.0)
        return float(xp.max(xp.where(factor > 0.0, ratios, 0.0)))

    def conjugate(self, y):
        norms, xp, device = self._norms(y, "y")
        limits = xp.asarray(self.kernel(norms.shape[0])[1][0], device=device)
        return math.inf if bool(xp.any(norms > limits)) else 0.0
