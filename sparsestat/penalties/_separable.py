"""Penalties that are sums over coordinates."""

from numbers import Real

import numpy as np

from sparsestat.penalties._base import KernelPenalty
from sparsestat.penalties._codes import ELASTIC_NET
from sparsestat.utils._arrays import get_namespace
from sparsestat.utils._sklearn import Interval
from sparsestat.utils._validation import check_penalty_factor, check_positive_mask


class ElasticNet(KernelPenalty):
    r"""Elastic net penalty.

    .. math:: p(w) = \alpha \sum_j s_j \left(\rho |w_j| + \frac{1 - \rho}{2} w_j^2\right)

    with the factors :math:`s_j` and :math:`\rho` = ``l1_ratio`` [1]_.  Its proximal
    operator shrinks by soft thresholding and divides:
    :math:`\mathrm{sign}(v_j) (|v_j| - t \alpha s_j \rho)_+ / (1 + t \alpha s_j (1 - \rho))`.

    Parameters
    ----------
    alpha : float, default=1.0
        Strength of the penalty.
    l1_ratio : float, default=0.5
        Share of the absolute value, from 0 (ridge) to 1 (lasso).
    penalty_factor : array-like of shape (n_features,) or None, default=None
        Relative penalty of each feature, zero for none; ones if None.
    positive : bool or array-like of bool of shape (n_features,), default=False
        Whether coefficients must not be negative, for all features or for each.

    See Also
    --------
    L1 : The penalty with ``l1_ratio=1``.

    Notes
    -----
    NumPy arrays and device arrays are taken.

    References
    ----------
    .. [1] Zou, H. and Hastie, T. (2005). Regularization and variable selection via
       the elastic net. Journal of the Royal Statistical Society: Series B 67(2),
       301-320.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.penalties import ElasticNet
    >>> penalty = ElasticNet(alpha=2.0, l1_ratio=0.5)
    >>> penalty.value(np.array([1.0, -2.0]))
    5.5
    >>> penalty.prox(np.array([5.0, -0.5]), 1.0)
    array([2., 0.])
    """

    kind = "separable"
    convex = True

    _parameter_constraints = {
        "alpha": [Interval(Real, 0, None, closed="left")],
        "l1_ratio": [Interval(Real, 0, 1, closed="both")],
        "penalty_factor": [None, "array-like"],
        "positive": ["boolean", "array-like"],
    }

    def __init__(self, alpha=1.0, l1_ratio=0.5, *, penalty_factor=None, positive=False):
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.penalty_factor = penalty_factor
        self.positive = positive

    def _l1_share(self):
        return self.l1_ratio

    def kernel(self, n_features):
        self._validate_params()
        factor = check_penalty_factor(self.penalty_factor, n_features)
        share = self._l1_share()
        params = np.empty((3, n_features))
        params[0] = self.alpha * share * factor
        params[1] = self.alpha * (1.0 - share) * factor
        params[2] = check_positive_mask(self.positive, n_features)
        return ELASTIC_NET, params

    def is_penalized(self, n_features):
        return check_penalty_factor(self.penalty_factor, n_features) > 0.0

    def alpha_max(self, grad0):
        grad0 = self._convert(grad0, "grad0")
        xp, device, _ = get_namespace(grad0)
        _, params = self.kernel(grad0.shape[0])
        factor = check_penalty_factor(self.penalty_factor, grad0.shape[0])
        share = xp.asarray(self._l1_share() * factor, device=device)
        positive = xp.asarray(params[2] != 0.0, device=device)
        pull = xp.where(positive, -grad0, xp.abs(grad0))
        # Without an absolute value only a gradient of zero keeps a coefficient at zero.
        hopeless = xp.where(pull > 0.0, xp.full_like(pull, xp.inf), 0.0)
        with np.errstate(over="ignore"):
            strongest = xp.where(share > 0.0, pull / xp.where(share > 0.0, share, 1.0), hopeless)
        penalized = xp.asarray(factor > 0.0, device=device)
        return float(xp.max(xp.where(penalized & (pull > 0.0), strongest, 0.0)))

    def conjugate(self, y):
        y = self._convert(y, "y")
        xp, device, _ = get_namespace(y)
        l1, l2, positive = (xp.asarray(row, device=device) for row in self.kernel(y.shape[0])[1])
        excess = xp.where(positive != 0.0, y, xp.abs(y)) - l1
        excess = xp.maximum(excess, xp.zeros_like(excess))
        # Divided by next to nothing it is infinite, as it should be.
        with np.errstate(over="ignore"):
            quadratic = excess * excess / (2.0 * xp.where(l2 > 0.0, l2, 1.0))
        indicator = xp.where(excess > 0.0, xp.full_like(excess, xp.inf), 0.0)
        return float(xp.sum(xp.where(l2 > 0.0, quadratic, indicator)))


class L1(ElasticNet):
    r"""Sum of absolute values, the penalty of the lasso.

    .. math:: p(w) = \alpha \sum_j s_j |w_j|

    with the factors :math:`s_j` [1]_.  Its proximal operator is soft thresholding,
    :math:`\mathrm{sign}(v_j) (|v_j| - t \alpha s_j)_+`.

    Parameters
    ----------
    alpha : float, default=1.0
        Strength of the penalty.
    penalty_factor : array-like of shape (n_features,) or None, default=None
        Relative penalty of each feature, zero for none; ones if None.
    positive : bool or array-like of bool of shape (n_features,), default=False
        Whether coefficients must not be negative, for all features or for each.

    See Also
    --------
    ElasticNet : Adds the sum of squares.
    RowGroupL2 : The same for the rows of a coefficient matrix.

    Notes
    -----
    NumPy arrays and device arrays are taken.

    References
    ----------
    .. [1] Tibshirani, R. (1996). Regression shrinkage and selection via the lasso.
       Journal of the Royal Statistical Society: Series B 58(1), 267-288.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.penalties import L1
    >>> L1(alpha=1.0).prox(np.array([3.0, -0.5, -2.0]), 1.0)
    array([ 2.,  0., -1.])
    """

    _parameter_constraints = {
        name: constraint
        for name, constraint in ElasticNet._parameter_constraints.items()
        if name != "l1_ratio"
    }

    def __init__(self, alpha=1.0, *, penalty_factor=None, positive=False):
        self.alpha = alpha
        self.penalty_factor = penalty_factor
        self.positive = positive

    def _l1_share(self):
        return 1.0
