"""The central path of ``_central_path.py`` for many problems at once, on the array API standard.

Every array has the problems along its first axis. The problems of a stage take their iterations
together; what differs between them (level, step length, iterations done, whether a step has left
the domain) are arrays on the device, so that the host reads two numbers at a checkpoint and none
in between.
"""

from typing import NamedTuple

from sparsestat.dag._central_path_params import (
    DOMAIN_TOL,
    LAST_FAILING_LEVEL,
    MIN_LR,
    RETRY_LEVEL,
    SCALE_GUARD,
    check_path_params,
)
from sparsestat.utils._arrays import get_namespace


class CentralPathBatch(NamedTuple):
    """What :func:`central_path_batch` found, on the device of the covariances.

    Attributes
    ----------
    W : array of shape (n_problems, n_nodes, n_nodes)
        Raw weights.
    scales : array of shape (n_problems, n_nodes)
        Noise standard deviations.
    objectives : array of shape (n_problems,)
        The criterion at ``W`` and ``scales``, without barrier.
    n_iter : array of int of shape (n_problems, n_stages)
        Iterations of each stage.
    n_failures : array of int of shape (n_problems, n_stages)
        How often each stage was tried in vain.
    change : array of shape (n_problems,)
        Relative change of the last stage's objective between its last two checkpoints.
    converged : array of bool of shape (n_problems,)
        Whether it was within the tolerance.
    """

    W: object
    scales: object
    objectives: object
    n_iter: object
    n_failures: object
    change: object
    converged: object


def central_path_batch(S, alpha, variance, *, params=None, penalty=None, mask=None, sigma_min=None):
    """Follow the central paths of several problems.

    Parameters
    ----------
    S : array of shape (n_problems, n_nodes, n_nodes)
        Covariances of variables that vary, unless ``sigma_min`` is positive.
    alpha : array of shape (n_problems,)
        Strengths of the l1 penalty.
    variance : {"equal", "unequal"}
        Whether all noise scales of a problem are the same.
    params : dict or None, default=None
        As in :func:`~sparsestat.dag._central_path.central_path`.
    penalty : array of shape (n_nodes,), default=None
        Relative penalties of the parents, or an array that broadcasts with ``S``; ones if None.
    mask : array of bool, default=None
        Edges that are allowed; broadcasts with ``S``. None allows all.
    sigma_min : float or None, default=None
        Smallest noise scale.

    Returns
    -------
    result : CentralPathBatch
        In the precision of ``S``; the arithmetic is that of float64.
    """
    xp, device, _ = get_namespace(S, alpha, penalty, mask)
    params = check_path_params(params)
    dtype = S.dtype
    S = xp.astype(S, xp.float64)
    n_problems, d = S.shape[0], S.shape[-1]
    l1 = xp.astype(alpha, xp.float64)[:, None, None]
    if penalty is not None:
        factors = xp.astype(penalty, xp.float64)
        l1 = l1 * (factors[:, None] if factors.ndim == 1 else factors)
    floor = 0.0 if sigma_min is None else float(sigma_min)
    scales = xp.clip(xp.sqrt(xp.linalg.diagonal(S)), floor, None)[:, None, :]
    if variance == "equal":
        scales = xp.min(scales, axis=-1, keepdims=True)
    state = {
        "id": xp.arange(n_problems, device=device),
        "S": S,
        "l1": l1,
        "least": xp.clip(SCALE_GUARD * scales, floor, None) ** 2,
        "W": xp.zeros_like(S),
        "scales": scales,
    }
    if mask is not None:
        state["mask"] = xp.broadcast_to(mask, S.shape)
    n_iter, n_failures = [], []
    last = len(params["mu"]) - 1
    for k, (mu, s) in enumerate(zip(params["mu"], params["s"], strict=True)):
        n_iterations = params["max_iter" if k == last else "warm_iter"]
        state = _stage(xp, state, mu, s, n_iterations, params)
        n_iter.append(state.pop("t"))
        n_failures.append(state.pop("n_failures"))
        change = state.pop("change")
        converged = state.pop("converged")

    D = xp.eye(d, dtype=xp.float64, device=device) - state["W"]
    objectives = _criterion(xp, state, D, state["S"] @ D)
    return CentralPathBatch(
        W=xp.astype(state["W"], dtype),
        scales=xp.astype(xp.broadcast_to(state["scales"][:, 0, :], (n_problems, d)), dtype),
        objectives=xp.astype(objectives, dtype),
        n_iter=xp.stack(n_iter, axis=1),
        n_failures=xp.stack(n_failures, axis=1),
        change=xp.astype(change, dtype),
        converged=converged,
    )


def _stage(xp, state, mu, s, n_iterations, params):
    """Take every problem through one stage, again from its start where an attempt fails."""
    start = state
    waiting = {
        **state,
        "level": xp.full_like(state["l1"][:, :1, :1], s),
        "lr": xp.full_like(state["l1"][:, :1, :1], params["lr"]),
        "n_failures": xp.zeros_like(state["id"]),
    }
    finished = []
    while waiting is not None:
        done, waiting = _attempt(xp, waiting, mu, n_iterations, params)
        finished.extend(done)
        if waiting is not None:
            for name in ("W", "scales"):
                waiting[name] = xp.take(start[name], waiting["id"], axis=0)
            waiting["level"] = waiting["level"] + RETRY_LEVEL
            waiting["lr"] = 0.5 * waiting["lr"]
            waiting["n_failures"] = waiting["n_failures"] + 1
    state = _join(xp, finished)
    state = _take(xp, state, xp.argsort(state["id"]))
    return {name: x for name, x in state.items() if name not in ("level", "lr")}


def _attempt(xp, state, mu, n_iterations, params):
    """Adam on all problems until each has met its tolerance, failed or run out of iterations.

    Returns the finished problems, in several parts, and those that failed.
    """
    checkpoint = params["checkpoint"]
    device = get_namespace(state["S"])[1]
    eye = xp.eye(state["S"].shape[-1], dtype=xp.float64, device=device)
    n_problems = state["S"].shape[0]
    off = xp.zeros(n_problems, dtype=xp.bool, device=device)
    infinite = xp.full((n_problems,), xp.inf, dtype=xp.float64, device=device)
    first_lr = state["lr"]
    state = {
        **state,
        "first_lr": first_lr,
        "R": state["S"] @ (eye - state["W"]),
        "first": xp.zeros_like(state["S"]),
        "second": xp.zeros_like(state["S"]),
        "t": xp.zeros_like(state["id"]),
        "failed": off,
        "exhausted": off,
        "previous": infinite,
        "change": infinite,
        "converged": off,
    }
    finished, failed = [], []
    target = 0
    while state is not None:
        ticks = min(checkpoint, n_iterations - target)
        target += ticks
        while ticks > 0:
            for _ in range(ticks):
                state = _tick(xp, state, mu, target, eye, params)
            # A tick that halves a step is no iteration: the problems concerned catch up here.
            behind = xp.where(_active(state), target - state["t"], 0)
            ticks = int(xp.max(behind))
        D = eye - state["W"]
        objective = mu * _criterion(xp, state, D, state["R"]) + _barrier(xp, state, eye)
        # The first look has nothing to compare with, and one outside the domain is no value.
        known = xp.isfinite(state["previous"]) & xp.isfinite(objective)
        previous = xp.where(known, state["previous"], 1.0)
        change = xp.abs(previous - xp.where(known, objective, 1.0)) / xp.abs(previous)
        state["change"] = xp.where(known, change, xp.inf)
        ended = state["failed"] | state["exhausted"]
        state["converged"] = (state["change"] <= params["tol"]) & ~ended
        state["previous"] = objective
        ended = ended | state["converged"] | (state["t"] == n_iterations)
        if bool(xp.any(ended)):
            (rows,) = xp.nonzero(ended & ~state["failed"])
            if rows.shape[0] > 0:
                finished.append(_take(xp, state, rows))
            (rows,) = xp.nonzero(state["failed"])
            if rows.shape[0] > 0:
                failed.append(_take(xp, state, rows))
            (rows,) = xp.nonzero(~ended)
            state = _take(xp, state, rows) if rows.shape[0] > 0 else None
    for part in failed:
        part["lr"] = part["first_lr"]
    scratch = ("first_lr", "R", "first", "second", "failed", "exhausted", "previous")
    finished = [{k: x for k, x in part.items() if k not in scratch} for part in finished]
    return finished, _join(xp, failed) if failed else None


def _tick(xp, state, mu, target, eye, params):
    """One iteration of every problem that is inside the domain; the others halve their step."""
    beta1, beta2 = params["betas"]
    W, R, t, lr = state["W"], state["R"], state["t"], state["lr"]
    active = _active(state) & (t < target)
    inverse = xp.linalg.inv(state["level"] * eye - W * W)
    outside = active & (xp.min(inverse, axis=(-2, -1)) < -DOMAIN_TOL)
    fails = outside & ((t == 0) | (state["level"][:, 0, 0] <= LAST_FAILING_LEVEL))
    halves = outside & ~fails
    moves = active & ~outside
    exhausted = halves & (0.5 * lr[:, 0, 0] <= MIN_LR)

    # Half of the gradient, with eps halved below, as on the host.
    G = 0.5 * mu * state["l1"] * xp.sign(W) - 0.5 * mu * R / state["scales"]
    G = G + W * xp.matrix_transpose(inverse)
    if "mask" in state:
        G = xp.where(state["mask"], G, 0.0)
    G = xp.where(moves[:, None, None], G, 0.0)
    # The moments of a problem that does not move are kept, which repeats the direction it took.
    forward = xp.astype(moves, xp.float64)[:, None, None]
    first = (1.0 - (1.0 - beta1) * forward) * state["first"] + G
    second = (1.0 - (1.0 - beta2) * forward) * state["second"] + G * G
    t = t + xp.astype(moves, t.dtype)
    count = xp.astype(xp.clip(t, 1, None), xp.float64)[:, None, None]
    root = xp.sqrt((1.0 - beta2) / (1.0 - beta2**count))
    direction = first / (xp.sqrt(second) + 0.5 * params["eps"] / root)
    direction = direction * ((1.0 - beta1) / ((1.0 - beta1**count) * root))

    # Half of the step is taken back, or all of it where half of it would be too short.
    back = 0.5 * (xp.astype(halves, xp.float64) + xp.astype(exhausted, xp.float64))
    W = W - (forward - back[:, None, None]) * lr * direction
    D = eye - W
    R = state["S"] @ D
    scales = _scales(xp, state, D, R)
    stays = ~(moves | halves)[:, None, None]
    return {
        **state,
        "W": W,
        "R": R,
        "first": first,
        "second": second,
        "t": t,
        "lr": xp.where(halves[:, None, None], 0.5 * lr, lr),
        "scales": xp.where(stays, state["scales"], scales),
        "failed": state["failed"] | fails,
        "exhausted": state["exhausted"] | exhausted,
    }


def _active(state):
    return ~(state["failed"] | state["exhausted"])


def _scales(xp, state, D, R):
    """The scales in closed form, of shape (n_problems, 1, 1 or n_nodes)."""
    squares = xp.sum(D * R, axis=-2, keepdims=True)
    if state["scales"].shape[-1] == 1:
        squares = xp.sum(squares, axis=-1, keepdims=True) / D.shape[-1]
    return xp.sqrt(xp.maximum(squares, state["least"]))


def _criterion(xp, state, D, R):
    squares = xp.sum(D * R, axis=-2)
    scales = xp.broadcast_to(state["scales"][:, 0, :], squares.shape)
    score = 0.5 * xp.sum(squares / scales + scales, axis=-1)
    return score + xp.sum(state["l1"] * xp.abs(state["W"]), axis=(-2, -1))


def _barrier(xp, state, eye):
    """The acyclicity function; infinite outside its domain."""
    level = state["level"][:, 0, 0]
    A = state["level"] * eye - state["W"] * state["W"]
    h = eye.shape[0] * xp.log(level) - xp.linalg.slogdet(A).logabsdet
    inside = xp.min(xp.linalg.inv(A), axis=(-2, -1)) >= -DOMAIN_TOL
    return xp.where(inside, h, xp.inf)


def _take(xp, state, rows):
    return {name: xp.take(x, rows, axis=0) for name, x in state.items()}


def _join(xp, parts):
    return {name: xp.concat([part[name] for part in parts], axis=0) for name in parts[0]}
