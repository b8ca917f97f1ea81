"""The central path of the paper that proposed CoLiDE, for reproduction.

The criterion is minimised together with a barrier of acyclicity: as the weight mu of the
criterion decreases from stage to stage, the minimisers approach directed acyclic graphs.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import lapack
from scipy.sparse.csgraph import connected_components

from sparsestat.dag._central_path_params import (
    DOMAIN_TOL,
    LAST_FAILING_LEVEL,
    MIN_LR,
    RETRY_LEVEL,
    SCALE_GUARD,
    check_path_params,
)
from sparsestat.utils._threads import single_threaded_blas


class CentralPathStage(NamedTuple):
    """How one stage went.

    Attributes
    ----------
    mu : float
        Weight of the criterion against the barrier.
    s : float
        Level of the barrier in the attempt that succeeded.
    lr : float
        Step length at its end.
    n_iter : int
        Iterations of that attempt.
    objectives : ndarray of shape (n_checkpoints,)
        ``mu * criterion + h`` at its checkpoints; infinite where a step had just left
        the domain.
    change : float
        Relative change between the last two checkpoints; infinite if there was only one.
    converged : bool
        Whether it was within the tolerance.
    n_failures : int
        Attempts before it that left the domain.
    """

    mu: float
    s: float
    lr: float
    n_iter: int
    objectives: np.ndarray
    change: float
    converged: bool
    n_failures: int


class CentralPathResult(NamedTuple):
    """What :func:`central_path` found.

    Attributes
    ----------
    W : ndarray of shape (n_nodes, n_nodes)
        Raw weights, which are small but not zero off the graph.
    scales : ndarray of shape (n_nodes,)
        Noise standard deviations; all the same for equal variances.
    objective : float
        The criterion at ``W`` and ``scales``, without barrier.
    h : float
        The acyclicity function at the level of the last stage.
    stages : list of CentralPathStage
        One record for each stage that was begun.
    converged : bool
        Whether the last stage met its tolerance before its iterations ran out.
    stopped : bool
        Whether ``progress`` asked to stop.
    """

    W: np.ndarray
    scales: np.ndarray
    objective: float
    h: float
    stages: list
    converged: bool
    stopped: bool

    @property
    def n_iter(self):
        """Iterations of each stage."""
        return [stage.n_iter for stage in self.stages]


def acyclicity(W, s):
    r"""The log-determinant acyclicity function and its gradient.

    .. math:: h_s(W) = d \log s - \log\det(s I - W \circ W)

    is zero for a directed acyclic graph and positive for any other [1]_. Its domain are
    the matrices with spectral radius of :math:`W \circ W` below ``s``, for which
    :math:`s I - W \circ W` is an M-matrix.

    Parameters
    ----------
    W : ndarray of shape (n_nodes, n_nodes)
        Weights.
    s : float
        Level, positive.

    Returns
    -------
    h : float
        Infinite outside the domain.
    gradient : ndarray of shape (n_nodes, n_nodes) or None
        :math:`2 W \circ (s I - W \circ W)^{-\top}`; None outside the domain.

    Notes
    -----
    A matrix without positive entries off its diagonal is a non-singular M-matrix if and
    only if elimination without pivoting meets positive pivots only. The sign of the
    determinant does not tell: it is positive again once a second eigenvalue has crossed.

    References
    ----------
    .. [1] Bello, K., Aragam, B. and Ravikumar, P. (2022). DAGMA: learning DAGs via
       M-matrices and a log-determinant acyclicity characterization. NeurIPS 35.
    """
    h = _acyclicity_value(W, s)
    if not math.isfinite(h):
        return math.inf, None
    inverse = np.linalg.inv(s * np.eye(W.shape[0]) - W * W)
    return h, 2.0 * W * inverse.T


def _acyclicity_value(W, s):
    A = s * np.eye(W.shape[0]) - W * W
    total = 0.0
    for k in range(W.shape[0]):
        pivot = A[k, k]
        if not pivot > 0.0:
            return math.inf
        total -= math.log(pivot / s)
        A[k + 1 :, k + 1 :] -= np.multiply.outer(A[k + 1 :, k] / pivot, A[k, k + 1 :])
    return total


def project_to_dag(W, threshold):
    """Threshold weights, then drop the smallest edges until no cycle is left.

    Parameters
    ----------
    W : ndarray of shape (n_nodes, n_nodes)
        Weights.
    threshold : float
        Weights of at most this size are set to zero.

    Returns
    -------
    adjacency : ndarray of shape (n_nodes, n_nodes)
        A new array, the weights of a directed acyclic graph with an empty diagonal.

    Notes
    -----
    Edges go in ascending order of size, whether or not they are part of a cycle; edges of
    the same size go in the order of their positions. A graph without cycles stays one when
    it loses edges, hence the number of edges to drop is found by bisection.
    """
    adjacency = np.where(np.abs(W) > threshold, W, 0.0)
    np.fill_diagonal(adjacency, 0.0)
    edges = np.flatnonzero(adjacency)
    edges = edges[np.argsort(np.abs(adjacency.ravel()[edges]), kind="stable")]

    def without(n_dropped):
        kept = adjacency.copy()
        kept.ravel()[edges[:n_dropped]] = 0.0
        return kept

    low, high = 0, edges.size
    while low < high:
        middle = (low + high) // 2
        if _is_acyclic(without(middle)):
            high = middle
        else:
            low = middle + 1
    return without(low)


def _is_acyclic(adjacency):
    n_components, _ = connected_components(adjacency != 0.0, connection="strong")
    return n_components == adjacency.shape[0]


class _Problem:
    """One criterion: the covariance, what is penalised, and the rule of the noise scales."""

    def __init__(self, S, alpha, variance, penalty, mask, sigma_min):
        d = S.shape[0]
        self.S = np.ascontiguousarray(S, dtype=np.float64)
        self.equal = variance == "equal"
        factors = np.asarray(1.0 if penalty is None else penalty, dtype=np.float64)
        self.l1 = alpha * (factors[:, None] if factors.ndim == 1 else factors)
        self.allowed = None if mask is None else np.asarray(mask, dtype=np.float64)
        floor = 0.0 if sigma_min is None else sigma_min
        deviations = np.maximum(np.sqrt(np.diag(self.S)), floor)
        self.start: Any = float(deviations.min()) if self.equal else deviations
        if not deviations.min() > 0.0:
            raise ValueError(
                "Every variable must vary unless sigma_min is positive, got the variance 0 "
                f"at position {int(np.argmin(np.diag(self.S)))}."
            )
        self.least = np.maximum(floor, SCALE_GUARD * self.start) ** 2
        self.ones = np.ones(d)
        self.n_nodes = d

    def scales(self, D, R):
        """The scales in closed form, a float or of shape (n_nodes,), from D = I - W and R = S D."""
        if self.equal:
            return math.sqrt(max(D.ravel().dot(R.ravel()) / self.n_nodes, self.least))
        # A product with ones is the fastest way to sum the columns of a small matrix.
        squares = self.ones.dot(D * R)
        np.maximum(squares, self.least, out=squares)
        return np.sqrt(squares, out=squares)

    def spread(self, scales):
        """A copy of the scales, one for each node."""
        return np.broadcast_to(scales, self.n_nodes).copy()

    def criterion(self, W, D, R, scales):
        squares = np.einsum("ij,ij->j", D, R)
        score = 0.5 * float(np.sum(squares / scales + self.spread(scales)))
        return score + float(np.sum(self.l1 * np.abs(W)))


class _Attempt(NamedTuple):
    W: np.ndarray
    scales: np.ndarray
    lr: float
    n_iter: int
    objectives: list
    change: float
    failed: bool
    stopped: bool


def _descend(problem, W, scales, mu, s, lr, n_iterations, params, watch):
    """Adam on ``mu * criterion + h`` from ``W``, which is left as it is."""
    S, allowed = problem.S, problem.allowed
    d = problem.n_nodes
    beta1, beta2 = params["betas"]
    checkpoint = params["checkpoint"]
    # Half of the gradient is computed, which saves a pass over the matrix and leaves the steps
    # of Adam as they are once eps is halved as well.
    l1, eps = np.asarray(0.5 * mu * problem.l1), 0.5 * params["eps"]
    half = np.array(-0.5 * mu)
    eye = np.eye(d)
    level = s * eye
    W = W.copy()
    D = eye - W
    R = S @ D
    # The moments are kept without the factors 1 - beta, which enter the step length instead.
    first, second = np.zeros((d, d)), np.zeros((d, d))
    # Arrays without dimensions spare numpy a conversion at every step.
    keep1, keep2 = np.array(beta1), np.array(beta2)
    A, G, T, step = (np.empty((d, d)) for _ in range(4))
    lwork = int(lapack.dgetri_lwork(d)[0])
    objectives: list[float] = []
    decay1 = decay2 = 1.0
    previous = change = math.inf
    stopped = False
    iteration = 0

    def inverse_transposed():
        """The transpose of inv(sI - W∘W), computed in A; None outside the domain."""
        np.multiply(W, W, A)
        np.subtract(level, A, A)
        # LAPACK takes the rows of A for columns, so that it inverts the transpose.
        factors, pivots, singular = lapack.dgetrf(A.T, overwrite_a=1)
        if singular:
            return None
        inverse = lapack.dgetri(factors, pivots, lwork=lwork, overwrite_lu=1)[0]
        return None if np.minimum.reduce(inverse, axis=None) < -DOMAIN_TOL else inverse

    def follow():
        """What depends on W, after W and D have moved."""
        S.dot(D, R)
        return problem.scales(D, R)

    while iteration < n_iterations:
        iteration += 1
        inverse = inverse_transposed()
        while inverse is None:
            if iteration == 1 or s <= LAST_FAILING_LEVEL:
                return _Attempt(W, scales, lr, iteration, objectives, math.inf, True, stopped)
            lr *= 0.5
            exhausted = lr <= MIN_LR
            if not exhausted:
                step *= 0.5
            W += step
            np.subtract(eye, W, D)
            scales = follow()
            if exhausted:
                objectives.append(_stage_objective(problem, W, D, R, scales, mu, s))
                return _Attempt(W, scales, lr, iteration - 1, objectives, math.inf, False, stopped)
            inverse = inverse_transposed()

        np.sign(W, G)
        np.multiply(G, l1, G)
        np.multiply(R, half / scales, T)
        G += T
        np.multiply(W, inverse, T)
        G += T
        if allowed is not None:
            G *= allowed

        decay1 *= beta1
        decay2 *= beta2
        root = math.sqrt((1.0 - beta2) / (1.0 - decay2))
        first *= keep1
        first += G
        second *= keep2
        G *= G
        second += G
        np.sqrt(second, T)
        T += eps / root
        np.divide(first, T, step)
        step *= lr * (1.0 - beta1) / ((1.0 - decay1) * root)
        W -= step
        np.subtract(eye, W, D)
        scales = follow()

        if iteration % checkpoint == 0 or iteration == n_iterations:
            objective = _stage_objective(problem, W, D, R, scales, mu, s)
            objectives.append(objective)
            # The first look has nothing to compare with, and one outside the domain is no value.
            known = math.isfinite(previous) and math.isfinite(objective)
            change = abs(previous - objective) / abs(previous) if known else math.inf
            previous = objective
            stopped = watch(iteration, W, scales, objective)
            if stopped or change <= params["tol"]:
                break
    return _Attempt(W, scales, lr, iteration, objectives, change, False, stopped)


def _stage_objective(problem, W, D, R, scales, mu, s):
    return mu * problem.criterion(W, D, R, scales) + _acyclicity_value(W, s)


def central_path(
    S,
    alpha,
    variance,
    *,
    params=None,
    penalty=None,
    mask=None,
    sigma_min=None,
    progress: Callable[..., Any] | None = None,
):
    r"""Follow the central path of the concomitant criterion by Adam.

    For a descending sequence of :math:`\mu` each stage minimises

    .. math:: \mu \Bigl( \tfrac12 \sum_j \bigl[q_j(W) / \sigma_j + \sigma_j\bigr]
              + \alpha \sum_{ij} p_i |W_{ij}| \Bigr) + h_s(W)

    with :math:`q_j(W)` the j-th diagonal entry of :math:`(I - W)^\top S (I - W)` and
    :math:`h_s` the acyclicity function, from where the stage before it ended. Each
    iteration is one Adam step on W with a subgradient, then the scales in closed form [1]_.

    Parameters
    ----------
    S : ndarray of shape (n_nodes, n_nodes)
        Covariance, divided by the number of samples.
    alpha : float
        Strength of the l1 penalty.
    variance : {"equal", "unequal"}
        Whether all noise scales are the same.
    params : dict or None, default=None
        See :func:`check_path_params`.
    penalty : ndarray of shape (n_nodes,) or (n_nodes, n_nodes), default=None
        Relative penalties of the parents (rows) or of single edges; ones if None.
    mask : ndarray of bool of shape (n_nodes, n_nodes), default=None
        Edges that are allowed. None allows all, the diagonal included, as the paper's
        experiments did: it takes part in the early stages and ends near zero.
    sigma_min : float or None, default=None
        Smallest noise scale; none if None, as in the paper's experiments.
    progress : callable or None, default=None
        ``progress(stage, iteration, W, scales, objective)`` is called at every checkpoint,
        ``iteration`` counting within an attempt at the stage, with copies of the arrays;
        a true answer stops.

    Returns
    -------
    result : CentralPathResult
        Raw weights, scales, and a record of each stage. See :func:`project_to_dag` for
        the graph.

    Raises
    ------
    ValueError
        For a variable that does not vary, unless ``sigma_min`` is positive.

    Notes
    -----
    A step out of the domain of the barrier is halved at levels s above 0.9. At lower levels,
    and if the very start is outside, the stage fails and is tried again from its start with
    s larger by 0.1 and half the step length.

    The moments of Adam, its step length and the level start anew with each stage. An iteration
    costs one LU factorisation, one inversion and one matrix product.

    References
    ----------
    .. [1] Saboksayr, S. S., Mateos, G. and Tepper, M. (2024). CoLiDE: concomitant linear
       DAG estimation. ICLR. arXiv:2310.02895.
    """
    params = check_path_params(params)
    problem = _Problem(S, alpha, variance, penalty, mask, sigma_min)
    # numpy and scipy ship a BLAS each, whose threads would get into each other's way.
    with single_threaded_blas():
        return _follow(problem, params, progress)


def _follow(problem, params, progress):
    W, scales = np.zeros((problem.n_nodes, problem.n_nodes)), problem.start
    stages: list[CentralPathStage] = []
    last = len(params["mu"]) - 1
    for k, (mu, s) in enumerate(zip(params["mu"], params["s"], strict=True)):

        def watch(iteration, W, scales, objective, stage=k):
            if progress is None:
                return False
            return bool(progress(stage, iteration, W.copy(), problem.spread(scales), objective))

        lr, n_failures = params["lr"], 0
        n_iterations = params["max_iter" if k == last else "warm_iter"]
        while True:
            attempt = _descend(problem, W, scales, mu, s, lr, n_iterations, params, watch)
            if not attempt.failed:
                break
            lr, s, n_failures = 0.5 * lr, s + RETRY_LEVEL, n_failures + 1
        W, scales = attempt.W, attempt.scales
        stages.append(
            CentralPathStage(
                mu=mu,
                s=s,
                lr=attempt.lr,
                n_iter=attempt.n_iter,
                objectives=np.array(attempt.objectives),
                change=attempt.change,
                converged=attempt.change <= params["tol"],
                n_failures=n_failures,
            )
        )
        if attempt.stopped:
            break
    D = np.eye(problem.n_nodes) - W
    return CentralPathResult(
        W=W,
        scales=problem.spread(scales),
        objective=problem.criterion(W, D, problem.S @ D, scales),
        h=_acyclicity_value(W, s),
        stages=stages,
        converged=stages[-1].converged and len(stages) > last and not attempt.stopped,
        stopped=attempt.stopped,
    )
