"""What a penalty is: the interface that solvers and estimators rely on."""

from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sklearn.base import BaseEstimator

from sparsestat.utils._arrays import get_namespace, kernels_for, use_array_api


class BoundPenalty(NamedTuple):
    """A penalty with its parameters laid out for arrays of one shape, library and device.

    Attributes
    ----------
    prox : callable
        ``prox(v, step)`` as :meth:`BasePenalty.prox`.
    value : callable
        ``value(w)`` as :meth:`BasePenalty.value`, except that the value of device
        arrays may stay on the device, as an array without dimensions.
    """

    prox: Callable
    value: Callable


class BasePenalty(BaseEstimator, metaclass=ABCMeta):
    """Base class of penalties.

    A penalty ``p`` adds to a loss what a coefficient array costs.  Solvers know it
    through its proximal operator, which minimises
    ``||x - v||^2 / 2 + step * p(x)`` over ``x``.

    A subclass has to define :meth:`value` and :meth:`prox`, on NumPy arrays, and its
    parameters in ``__init__`` as scikit-learn asks for; it then works with
    :func:`sparsestat.solvers.fista`.  If ``value`` and ``prox`` use functions of the
    array API standard only, it also works with device arrays.  The other methods
    have defaults, or raise ``NotImplementedError`` with the reason.

    Attributes
    ----------
    kind : {"separable", "group", "nonseparable"}
        Whether the penalty is a sum over coordinates, over the rows of a coefficient
        matrix, or neither.  The default is "nonseparable", which is always safe.
    convex : bool
        Whether the penalty is convex.  The default is False: convexity is a promise
        that only the author of a penalty can make.

    See Also
    --------
    sparsestat.penalties.L1 : A separable penalty.
    sparsestat.penalties.RowGroupL2 : A penalty on the rows of a matrix.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.penalties import BasePenalty
    >>> class Ridge(BasePenalty):
    ...     kind, convex = "separable", True
    ...
    ...     def __init__(self, alpha=1.0):
    ...         self.alpha = alpha
    ...
    ...     def value(self, w):
    ...         return 0.5 * self.alpha * np.sum(w**2)
    ...
    ...     def prox(self, v, step, out=None):
    ...         return np.divide(v, 1.0 + step * self.alpha, out=out)
    >>> Ridge(alpha=3.0).prox(np.array([4.0, -8.0]), 1.0)
    array([ 1., -2.])
    """

    kind = "nonseparable"
    convex = False

    @abstractmethod
    def value(self, w):
        """Value of the penalty.

        Parameters
        ----------
        w : array of shape (n_features,) or (n_features, n_targets)
            The coefficients.

        Returns
        -------
        value : float
            Infinite outside the domain.
        """

    @abstractmethod
    def prox(self, v, step, out=None):
        """Minimise ``||x - v||^2 / 2 + step * p(x)`` over x.

        Parameters
        ----------
        v : array of shape (n_features,) or (n_features, n_targets)
            The point to start from.
        step : float or array of shape (n_features,)
            Length of the step; one for each coordinate or row only where the
            penalty is a sum over them.
        out : array or None, default=None
            Where to write the result; may be ``v`` itself.

        Returns
        -------
        x : array of the shape of v
            ``out`` if that was given, else a new array.
        """

    def bind(self, w):
        """Lay the parameters out once for many calls on arrays like ``w``.

        Parameters
        ----------
        w : array of shape (n_features,) or (n_features, n_targets)
            An array with the shape, dtype, library and device of the later arguments.

        Returns
        -------
        bound : BoundPenalty
            The functions ``prox(v, step)`` and ``value(w)``.  Parameters that change
            later do not reach them.
        """
        return BoundPenalty(self.prox, self.value)

    def subdiff_distance(self, w, grad, idx=None):
        """Distance of ``-grad`` to the subdifferential of the penalty at ``w``.

        Zero exactly where ``w`` is a stationary point of loss plus penalty.

        Parameters
        ----------
        w : array of shape (n_features,) or (n_features, n_targets)
            The coefficients.
        grad : array
            Gradient of the loss at ``w``, of the shape of ``w`` or, with ``idx``, of
            ``w[idx]``.
        idx : array of int or None, default=None
            The coordinates or rows to look at; all if None.

        Returns
        -------
        distance : array
            One distance for each coordinate or row.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no subdiff_distance; use fixpoint_distance, "
            "which every penalty has."
        )

    def fixpoint_distance(self, w, grad, L):
        """How far one proximal gradient step moves, in units of the gradient.

        Parameters
        ----------
        w : array of shape (n_features,) or (n_features, n_targets)
            The coefficients.
        grad : array of the shape of w
            Gradient of the loss at ``w``.
        L : float or array of shape (n_features,)
            Reciprocal of the step length.

        Returns
        -------
        distance : array
            ``L * |w - prox(w - grad / L, 1 / L)|``, one entry for each row if the
            penalty is a sum over rows, else one for each coordinate.
        """
        return fixpoint_distance(self, self.prox, w, grad, L)

    def generalized_support(self, w):
        """Find the coordinates or rows that are not zero.

        Parameters
        ----------
        w : array of shape (n_features,) or (n_features, n_targets)
            The coefficients.

        Returns
        -------
        support : array of bool
            One entry for each row if the penalty is a sum over rows, else one for
            each coordinate.
        """
        xp, _, is_host = get_namespace(w)
        nonzero = (np.asarray(w) if is_host else w) != 0
        return xp.any(nonzero, axis=1) if _by_row(self, nonzero) else nonzero

    def alpha_max(self, grad0):
        """Smallest penalty strength at which zero is a solution.

        Parameters
        ----------
        grad0 : array of shape (n_features,) or (n_features, n_targets)
            Gradient of the loss where all penalised coefficients are zero and the
            others are optimal.

        Returns
        -------
        alpha_max : float
            Infinite where no strength is enough.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no alpha_max; give the strengths of a path explicitly."
        )

    def is_penalized(self, n_features):
        """Tell penalised features from free ones.

        Parameters
        ----------
        n_features : int
            Number of features.

        Returns
        -------
        mask : ndarray of bool of shape (n_features,)
            All True by default.
        """
        return np.ones(n_features, dtype=bool)

    def conjugate(self, y):
        """Convex conjugate ``max_x <x, y> - p(x)``.

        Parameters
        ----------
        y : array of shape (n_features,) or (n_features, n_targets)
            The dual point.

        Returns
        -------
        value : float
            Infinite outside the domain of the conjugate.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no conjugate; duality gaps cannot be computed for it."
        )

    def weak_convexity(self):
        """Smallest ``rho`` for which ``p(w) + rho * ||w||^2 / 2`` is convex.

        Returns
        -------
        rho : float
            Zero for a convex penalty, infinite if no ``rho`` is enough.
        """
        if self.convex:
            return 0.0
        raise NotImplementedError(
            f"{type(self).__name__} is not declared convex and has no weak_convexity."
        )

    def kernel(self, n_features):
        """Describe the penalty to compiled loops.

        The parameters are laid out for each feature, so the number of features has
        to be given: a penalty itself does not know it.

        Parameters
        ----------
        n_features : int
            Number of features.

        Returns
        -------
        code : int
            A code of :mod:`sparsestat.penalties._codes`.
        params : ndarray of shape (n_rows, n_features)
            Contiguous float64 parameters, whose rows depend on the code.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no compiled kernel; solve with sparsestat.solvers.fista, "
            "which needs value and prox only."
        )


class KernelPenalty(BasePenalty):
    """Base class of the penalties that the compiled loops and their twins know.

    A subclass defines :meth:`kernel`.  NumPy arrays go to the loops, device arrays
    to functions of the array API standard; the results stay on the device.
    """

    _functions = {"separable": "all", "group": "rows"}

    def _convert(self, w, name):
        """Give ``w`` the dtype and the layout that kernels expect."""
        xp, _, is_host = get_namespace(w)
        if is_host:
            w = np.ascontiguousarray(w)
        if not xp.isdtype(w.dtype, "real floating"):
            w = xp.astype(w, xp.float64)
        n_dimensions = 2 if self.kind == "group" else 1
        if w.ndim != n_dimensions:
            raise ValueError(
                f"{name} must have {n_dimensions} dimension(s) for {type(self).__name__}, "
                f"got shape {tuple(w.shape)}."
            )
        return w

    def _load(self, w):
        """Find the functions for the library of ``w``, and the parameters on its device."""
        kernels, xp = kernels_for(__package__, w)
        code, params = self.kernel(w.shape[0])
        compiled = not use_array_api(w)
        if not compiled:
            params = xp.asarray(params, device=w.device)
        suffix = self._functions[self.kind]
        functions = [
            getattr(kernels, f"{name}_{suffix}") for name in ("prox", "value", "subdiff_distance")
        ]
        return functions, code, params, compiled

    def bind(self, w):
        cls = type(self)
        if cls.prox is not KernelPenalty.prox or cls.value is not KernelPenalty.value:
            # A subclass that replaces an operator must not be passed over.
            return super().bind(w)
        return self._bind(w)

    def _bind(self, w):
        w = self._convert(w, "w")
        (prox_kernel, value_kernel, _), code, params, compiled = self._load(w)

        def prox(v, step, out=None):
            v = self._convert(v, "v")
            _check_out(out, v)
            if not compiled:
                result = prox_kernel(code, params, v, step)
                if out is None:
                    return result
                out[...] = result
                return out
            step = _host_step(step, v.shape[0])
            return prox_kernel(code, params, v, step, np.empty_like(v) if out is None else out)

        def value(w):
            return value_kernel(code, params, self._convert(w, "w"))

        return BoundPenalty(prox, value)

    def value(self, w):
        return float(self._bind(w).value(w))

    def prox(self, v, step, out=None):
        return self._bind(v).prox(v, step, out)

    def subdiff_distance(self, w, grad, idx=None):
        w, grad = self._convert(w, "w"), self._convert(grad, "grad")
        (_, _, distance), code, params, compiled = self._load(w)
        if idx is not None:
            xp, _, is_host = get_namespace(w, grad)
            idx = np.asarray(idx, dtype=np.intp) if is_host else idx
            w = xp.take(w, idx, axis=0)
            params = xp.take(params, idx, axis=1)
        if grad.shape != w.shape:
            raise ValueError(
                f"grad must have shape {tuple(w.shape)}, got shape {tuple(grad.shape)}."
            )
        if not compiled:
            return distance(code, params, w, grad)
        return distance(code, params, w, grad, np.empty(w.shape[0], dtype=w.dtype))


def _by_row(penalty, w):
    return penalty.kind == "group" and w.ndim == 2


def fixpoint_distance(penalty, prox, w, grad, L):
    """Compute :meth:`BasePenalty.fixpoint_distance` by a proximal operator that is bound."""
    xp, _, is_host = get_namespace(w, grad)
    if is_host:
        w, grad, L = np.asarray(w), np.asarray(grad), np.asarray(L)
    by_row = _by_row(penalty, w)
    scale = L[:, None] if by_row and getattr(L, "ndim", 0) == 1 else L
    moved = scale * (w - prox(w - grad / scale, 1.0 / L))
    return xp.sqrt(xp.sum(moved * moved, axis=1)) if by_row else xp.abs(moved)


def _check_out(out, v):
    if out is not None and (tuple(out.shape) != tuple(v.shape) or out.dtype != v.dtype):
        raise ValueError(
            f"out must have shape {tuple(v.shape)} and dtype {v.dtype}, "
            f"got shape {tuple(out.shape)} and dtype {out.dtype}."
        )


def _host_step(step, n_features):
    step = np.atleast_1d(np.asarray(step, dtype=np.float64))
    if step.shape not in ((1,), (n_features,)):
        raise ValueError(
            f"step must be a number or have shape ({n_features},), got shape {step.shape}."
        )
    if not step.min(initial=0.0) >= 0.0:
        raise ValueError(f"step must not be negative or NaN, got {step.min()}.")
    return step
