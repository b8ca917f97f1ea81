"""Central paths of several covariances or penalties, on the host or all together on a device."""

import warnings
from numbers import Real

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Bunch, check_array

from sparsestat.dag._central_path import central_path
from sparsestat.dag._central_path_params import check_path_params
from sparsestat.utils._arrays import check_device_array, get_namespace, kernels_for, use_array_api


def colide_central_path(covariances, alphas, *, variance="equal", path_params=None):
    r"""Follow the central path of CoLiDE for several covariances or penalties at once.

    It is the algorithm by which the criterion was first minimised [1]_, for its
    reproduction. :class:`~sparsestat.dag.CoLiDE` finds directed acyclic graphs with a
    criterion that is no worse, in a fraction of the time; many bootstraps or penalties on
    a device are what the path is good for.

    Parameters
    ----------
    covariances : array-like of shape (n_nodes, n_nodes) or (n_problems, n_nodes, n_nodes)
        Covariances, divided by the number of samples, of variables that vary. NumPy arrays
        are solved one after another, device arrays all together, on the device.
    alphas : float or array of shape (n_problems,)
        Strengths of the l1 penalty. One covariance is solved for each strength, one
        strength is used for each covariance, or they go in pairs. An array must be of the
        library of ``covariances``.
    variance : {"equal", "unequal"}, default="equal"
        Whether the noise of all variables has the same variance.
    path_params : dict or None, default=None
        Changes of the settings of the paper's experiments, which are the defaults:

        - ``mu``, (1, 0.1, 0.01, 0.001): weight of the criterion in each stage;
        - ``s``, (1, 0.9, 0.8, 0.7): level of the barrier in each stage;
        - ``warm_iter``, 20,000, and ``max_iter``, 70,000: largest number of iterations of
          each stage but the last, and of the last;
        - ``lr``, 3e-4, ``betas``, (0.99, 0.999), and ``eps``, 1e-8: of the Adam steps;
        - ``checkpoint``, 1000, and ``tol``, 1e-6: a stage ends early if its objective changes
          by less than a factor ``tol`` over ``checkpoint`` iterations.

    Returns
    -------
    result : Bunch
        In the library of ``covariances``, and in float32 if those are; for one covariance
        and one strength without the first axis.

        weights : array of shape (n_problems, n_nodes, n_nodes)
            Raw weights: ``weights[i, j]`` belongs to the edge from i to j. They are small but
            not zero where there is no edge, on the diagonal too; the paper drops
            weights of at most 0.3, and then the smallest ones while there are cycles.
        noise_scales : array of shape (n_problems, n_nodes)
            Standard deviations of the noise.
        objectives : array of shape (n_problems,)
            The criterion with its penalty. As the weights are not yet those of an acyclic
            graph it may be below the minimum over such graphs.
        n_iter : array of int of shape (n_problems, n_stages)
            Iterations of each stage.
        converged : array of bool of shape (n_problems,)
            Whether the last stage met ``tol``.

    Raises
    ------
    ValueError
        For covariances that are not square, symmetric and positive semi-definite, with
        positive variances; strengths that are not positive, or do not match in number;
        an unknown ``variance``; or settings out of range.
    TypeError
        For arrays of different libraries or devices.

    Warns
    -----
    ConvergenceWarning
        If the last stage of some problem ran out of iterations.

    See Also
    --------
    sparsestat.dag.CoLiDE : Estimator, which offers the path as ``solver="central-path"``.

    References
    ----------
    .. [1] Saboksayr, S. S., Mateos, G. and Tepper, M. (2024). CoLiDE: concomitant linear
       DAG estimation. ICLR. arXiv:2310.02895.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.dag import colide_central_path
    >>> rng = np.random.default_rng(0)
    >>> Z = rng.standard_normal((500, 3))
    >>> X = Z.copy()
    >>> X[:, 1] += 1.5 * X[:, 0]
    >>> X[:, 2] -= 1.2 * X[:, 1]
    >>> result = colide_central_path(np.cov(X.T, bias=True), [0.05, 0.2])
    >>> result.weights.shape
    (2, 3, 3)
    >>> print(np.where(abs(result.weights[0]) > 0.3, result.weights[0], 0.0).round(1))
    [[ 0.   1.5  0. ]
     [ 0.   0.  -1.2]
     [ 0.   0.   0. ]]
    """
    params = check_path_params(path_params)
    if variance not in ("equal", "unequal"):
        raise ValueError(f"variance must be 'equal' or 'unequal', got {variance!r}.")
    xp, device, is_host = get_namespace(covariances, alphas)
    S = _check_covariances(covariances, xp, is_host)
    alphas = _check_strengths(alphas, xp, device, is_host)
    single = S.ndim == 2 and alphas.ndim == 0
    S = S if S.ndim == 3 else S[None, :, :]
    alphas = alphas if alphas.ndim == 1 else alphas[None]
    n_problems = max(S.shape[0], alphas.shape[0])
    if min(S.shape[0], alphas.shape[0]) not in (1, n_problems):
        raise ValueError(
            "alphas must be a number or have one entry for each covariance, "
            f"got {alphas.shape[0]} for {S.shape[0]} covariances."
        )
    S = xp.broadcast_to(S, (n_problems, *S.shape[1:]))
    alphas = xp.broadcast_to(alphas, (n_problems,))
    solve = _solve_batch if use_array_api(S) else _solve_in_turn
    result, change = solve(S, alphas, variance, params)
    n_missed = n_problems - int(xp.count_nonzero(result.converged))
    if n_missed:
        warnings.warn(
            f"{n_missed} of {n_problems} central paths did not converge: between its last two "
            f"checkpoints the objective changed by {float(xp.max(change)):.1e} relative to its "
            f"value, more than path_params['tol']={params['tol']:.1e}. Increase "
            "path_params['max_iter'].",
            ConvergenceWarning,
            stacklevel=2,
        )
    return Bunch(**{key: x[0, ...] for key, x in result.items()}) if single else result


def _check_covariances(covariances, xp, is_host):
    if is_host:
        covariances = check_array(
            covariances,
            dtype=[np.float64, np.float32],
            ensure_2d=False,
            allow_nd=True,
            input_name="covariances",
        )
    else:
        ndim = 3 if covariances.ndim == 3 else 2
        covariances = check_device_array(covariances, "covariances", ndim=ndim, xp=xp)
    shape = tuple(covariances.shape)
    if len(shape) not in (2, 3) or shape[-1] != shape[-2]:
        raise ValueError(
            "covariances must have shape (n_nodes, n_nodes) or (n_problems, n_nodes, n_nodes), "
            f"got shape {shape}."
        )
    rounding = 1e-5 if covariances.dtype == xp.float32 else 1e-8
    S = xp.astype(covariances, xp.float64)
    size = xp.max(xp.abs(S), axis=(-2, -1), keepdims=True)
    if bool(xp.any(xp.abs(S - xp.matrix_transpose(S)) > rounding * size)):
        raise ValueError("covariances must be symmetric.")
    if not bool(xp.all(xp.linalg.diagonal(S) > 0.0)):
        raise ValueError("covariances must have positive diagonals: leave constant variables out.")
    if bool(xp.any(xp.linalg.eigvalsh(S) < -rounding * size[..., 0])):
        raise ValueError("covariances must be positive semi-definite.")
    return covariances


def _check_strengths(alphas, xp, device, is_host):
    if is_host:
        alphas = check_array(
            alphas,
            dtype=np.float64,
            ensure_2d=False,
            ensure_min_samples=0,
            allow_nd=True,
            input_name="alphas",
        )
    elif isinstance(alphas, Real):
        alphas = xp.asarray(float(alphas), dtype=xp.float64, device=device)
    if alphas.ndim > 1 or 0 in alphas.shape or not bool(xp.all((alphas > 0.0) & (alphas < xp.inf))):
        raise ValueError(f"alphas must be a positive number or an array of them, got {alphas}.")
    return xp.astype(alphas, xp.float64)


def _solve_in_turn(S, alphas, variance, params):
    found = [central_path(S[i], alphas[i], variance, params=params) for i in range(len(alphas))]
    result = Bunch(
        weights=np.stack([one.W for one in found]).astype(S.dtype),
        noise_scales=np.stack([one.scales for one in found]).astype(S.dtype),
        objectives=np.array([one.objective for one in found]).astype(S.dtype),
        n_iter=np.array([one.n_iter for one in found]),
        converged=np.array([one.converged for one in found]),
    )
    return result, np.array([one.stages[-1].change for one in found])


def _solve_batch(S, alphas, variance, params):
    kernels, _ = kernels_for("sparsestat.dag", S)
    found = kernels.central_path_batch(S, alphas, variance, params=params)
    result = Bunch(
        weights=found.W,
        noise_scales=found.scales,
        objectives=found.objectives,
        n_iter=found.n_iter,
        converged=found.converged,
    )
    return result, found.change
