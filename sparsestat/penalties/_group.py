"""Penalties on groups of coefficients."""

import math
from numbers import Integral, Real

import numpy as np

from sparsestat.penalties._base import BasePenalty, BoundPenalty, KernelPenalty
from sparsestat.penalties._codes import ELASTIC_NET
from sparsestat.utils._arrays import get_namespace
from sparsestat.utils._column_groups import check_group_weights, check_groups
from sparsestat.utils._sklearn import Interval, StrOptions
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


class GroupL2(BasePenalty):
    r"""Sum of the Euclidean norms of groups of coefficients.

    .. math:: p(w) = \alpha \sum_g d_g \|w_g\|_2

    with the weights :math:`d_g` of groups that are a partition of the coefficients [1]_.
    The proximal operator shrinks the norms: :math:`v_g (1 - t \alpha d_g / \|v_g\|_2)_+`.

    Parameters
    ----------
    alpha : float, default=1.0
        Strength of the penalty.
    groups : array-like of shape (n_features,), list of array-like of int or int, default=None
        One label for each coefficient; or one list of indices for each group; or the
        number of consecutive coefficients in every group. None makes every coefficient a
        group of its own.
    group_weights : {"sqrt", "ones"} or array-like of shape (n_groups,), default="sqrt"
        Relative penalties: square roots of the sizes of the groups, ones, or numbers in
        the order of the sorted labels, or of the list; zero for none.

    See Also
    --------
    RowGroupL2 : Groups that are the rows of a coefficient matrix.

    Notes
    -----
    NumPy arrays are taken, device arrays are not.

    References
    ----------
    .. [1] Yuan, M. and Lin, Y. (2006). Model selection and estimation in regression
       with grouped variables. Journal of the Royal Statistical Society: Series B
       68(1), 49-67.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.penalties import GroupL2
    >>> penalty = GroupL2(alpha=2.5, groups=["a", "a", "b"], group_weights="ones")
    >>> penalty.value(np.array([3.0, 4.0, -1.0]))
    15.0
    >>> penalty.prox(np.array([3.0, 4.0, -1.0]), 1.0)
    array([ 1.5,  2. , -0. ])
    """

    kind = "nonseparable"
    convex = True

    _parameter_constraints = {
        "alpha": [Interval(Real, 0, None, closed="left")],
        "groups": ["array-like", Interval(Integral, 1, None, closed="left"), None],
        "group_weights": [StrOptions({"sqrt", "ones"}), "array-like"],
    }

    def __init__(self, alpha=1.0, groups=None, *, group_weights="sqrt"):
        self.alpha = alpha
        self.groups = groups
        self.group_weights = group_weights

    def value(self, w):
        return self.bind(w).value(w)

    def prox(self, v, step, out=None):
        return self.bind(v).prox(v, step, out)

    def bind(self, w):
        layout = self._layout(_vector(w, "w").shape[0])

        def prox(v, step, out=None):
            v = _vector(v, "v")
            if np.ndim(step) != 0 or not step >= 0.0:
                raise ValueError(f"step must be a number that is not negative, got {step!r}.")
            norms = layout.norms(v)
            bars = step * self.alpha * layout.weights
            # The quotient is only taken where the norm is larger, hence not zero.
            shrunk = np.divide(norms - bars, norms, out=np.zeros_like(norms), where=norms > bars)
            return np.multiply(v, layout.spread(shrunk).astype(v.dtype, copy=False), out=out)

        def value(w):
            return float(self.alpha * (layout.weights @ layout.norms(_vector(w, "w"))))

        return BoundPenalty(prox, value)

    def subdiff_distance(self, w, grad, idx=None):
        w = _vector(w, "w")
        layout = self._layout(w.shape[0])
        present = np.ones(w.shape[0], dtype=bool)
        whole = np.array(grad, dtype=np.float64)
        if idx is not None:
            present = np.zeros(w.shape[0], dtype=bool)
            present[idx] = True
            whole = np.zeros(w.shape[0])
            whole[idx] = grad
            counts = np.add.reduceat(present[layout.indices], layout.starts, dtype=np.intp)
            if np.any((counts > 0) & (counts < layout.sizes)):
                raise ValueError("idx must consist of whole groups for GroupL2.")
        if whole.shape != w.shape:
            raise ValueError(f"grad must have shape {w.shape}, got shape {whole.shape}.")
        bars = self.alpha * layout.weights
        norms, pull = layout.norms(w), layout.norms(whole)
        slope = layout.spread(np.divide(bars, norms, out=np.zeros_like(norms), where=norms > 0.0))
        beyond = np.divide(pull - bars, pull, out=np.zeros_like(pull), where=pull > bars)
        used = layout.spread(norms) > 0.0
        distance = np.abs(np.where(used, whole + slope * w, layout.spread(beyond) * whole))
        return distance if idx is None else distance[idx]

    def alpha_max(self, grad0):
        grad0 = _vector(grad0, "grad0")
        layout = self._layout(grad0.shape[0])
        norms, penalised = layout.norms(grad0), layout.weights > 0.0
        return float(np.max(norms[penalised] / layout.weights[penalised], initial=0.0))

    def is_penalized(self, n_features):
        layout = self._layout(n_features)
        return layout.spread(layout.weights) > 0.0

    def conjugate(self, y):
        y = _vector(y, "y")
        layout = self._layout(y.shape[0])
        return math.inf if np.any(layout.norms(y) > self.alpha * layout.weights) else 0.0

    def _layout(self, n_features):
        self._validate_params()
        indices, ptr = check_groups(self.groups, n_features)
        return _Layout(indices, ptr, check_group_weights(self.group_weights, ptr))


class _Layout:
    """Groups of the coefficients of one vector, and their weights."""

    def __init__(self, indices, ptr, weights):
        self.indices, self.starts = indices, ptr[:-1]
        self.sizes = np.diff(ptr)
        self.weights = weights

    def norms(self, values):
        """Euclidean norm of each group."""
        return np.sqrt(np.add.reduceat(np.square(values[self.indices]), self.starts))

    def spread(self, values):
        """The number of each coefficient's group."""
        out = np.empty(self.indices.size, dtype=values.dtype)
        out[self.indices] = np.repeat(values, self.sizes)
        return out


def _vector(w, name):
    if not get_namespace(w)[2]:
        raise TypeError(f"{name} must be a NumPy array for GroupL2, got {type(w).__name__}.")
    w = np.asarray(w)
    if not np.issubdtype(w.dtype, np.floating):
        w = w.astype(np.float64)
    if w.ndim != 1:
        raise ValueError(f"{name} must have 1 dimension for GroupL2, got shape {w.shape}.")
    return w
