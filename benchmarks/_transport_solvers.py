"""Ways to solve a transport problem: ours and those of the peers.

Every function takes a problem, is called once and untimed, and returns ``call(tolerance)``.
A call ends with the plan in memory wherever the costs were stored, since that is what the peers
return. Peers are called as their own documentation advises, with iteration limits that do not
bind.
"""

import importlib.util
import os

import numpy as np

from ._transport_problems import Potentials, Problem, Unregularised

NO_LIMIT = 1_000_000
# Nothing attains this, so that a fixed number of iterations is what stops a solver.
NEVER = 1e-300


# --------------------------------------------------------------------------- ours


def ours(problem, **options):
    """Call :func:`sparsestat.transport.sinkhorn` and read the plan."""
    from sparsestat.transport import sinkhorn

    options = {"max_iter": NO_LIMIT, **options}

    def call(tol):
        found = sinkhorn(*problem[:3], epsilon=problem.epsilon, tol=tol, **options)
        return found, found.plan

    return call


def plan_of(found):
    """Return the plan of what :func:`ours` returned, or the plans of a batch."""
    return np.asarray(found[1])


def ours_batch(problem, **options):
    """Call :func:`sparsestat.transport.sinkhorn_batch` and read the plans."""
    from sparsestat.transport import sinkhorn_batch

    options = {"max_iter": NO_LIMIT, **options}

    def call(tol):
        found = sinkhorn_batch(*problem[:3], epsilon=problem.epsilon, tol=tol, **options)
        return found, found.plans

    return call


def ours_points(points, **options):
    """Call :func:`sparsestat.transport.sinkhorn_points` without a matrix."""
    from sparsestat.transport import sinkhorn_points

    options = {"max_iter": NO_LIMIT, "lazy": True, **options}
    return lambda tol: sinkhorn_points(*points[:4], epsilon=points.epsilon, tol=tol, **options)


def potentials_of(found):
    """Return the potentials of one of our results."""
    return Potentials(*map(np.asarray, found.potentials))


def solution(problem):
    """Return the potentials against which the plans of all others are checked."""
    return potentials_of(ours(problem, method="newton")(1e-12)[0])


# --------------------------------------------------------------------------- peers


def pot(problem, method="sinkhorn", max_iter=NO_LIMIT):
    """Call ``ot.sinkhorn``."""
    import ot

    C, a, b, epsilon = problem

    def call(tol):
        return ot.sinkhorn(
            a, b, C, epsilon, method=method, numItermax=max_iter, stopThr=tol, warn=False, log=True
        )

    return call


def pot_plan(found):
    """Return the plan of what :func:`pot` returned."""
    return found[0]


def pot_emd(problem):
    """Call ``ot.emd``, which has no tolerance and solves the problem without entropy."""
    import ot

    C, a, b, _ = problem
    return lambda tol: Unregularised(ot.emd(a, b, C, numItermax=NO_LIMIT))


def pot_batch(problem, method):
    """Call ``ot.solve_batch``."""
    import ot

    C, a, b, epsilon = problem
    options = {"method": method, "max_iter": NO_LIMIT, "grad": "detach"}
    return lambda tol: ot.solve_batch(C, epsilon, a, b, tol=tol, **options).plan


def pot_points(points, batch_size, max_iter=NO_LIMIT):
    """Call ``ot.solve_sample`` without a matrix, which reads the costs `batch_size` rows a time."""
    import ot

    X, Y, a, b, epsilon = points
    options = {"lazy": True, "batch_size": batch_size, "max_iter": max_iter}
    return lambda tol: ot.solve_sample(X, Y, a, b, reg=epsilon, tol=tol, **options)


def pot_potentials(points):
    """Return a function that reads the potentials of what :func:`pot_points` returned.

    There the plan is exp(u_i + v_j - C_ij / epsilon), without the masses.
    """

    def extract(found):
        u, v = found.potentials
        return Potentials(
            points.epsilon * (u - np.log(points.a)), points.epsilon * (v - np.log(points.b))
        )

    return extract


def regot_newton(problem):
    """Call ``regot.sinkhorn_ssns``, which takes costs by columns."""
    import regot

    C, a, b, epsilon = problem
    C = np.asfortranarray(C)
    return lambda tol: regot.sinkhorn_ssns(C, a, b, epsilon, tol=tol, max_iter=10_000)


def regot_plan(found):
    """Return the plan of what :func:`regot_newton` returned."""
    return np.asarray(found.plan)


def ott(problem, tolerances, *, lse_mode, n_iter=None):
    """Compile and call the Sinkhorn solver of ott-jax in double precision.

    Each of the tolerances is another program, so all are compiled here.

    Parameters
    ----------
    problem : Problem
    tolerances : tuple of float
    lse_mode : bool
        Logarithms of sums of exponentials, or products with the kernel.
    n_iter : int or None
        That many iterations, instead of as many as the tolerance asks for.
    """
    # Read when jax starts its threads; the race is of one.
    os.environ.setdefault("NPROC", "1")
    import jax

    jax.config.update("jax_enable_x64", True)
    from ott.geometry import geometry
    from ott.problems.linear import linear_problem
    from ott.solvers.linear import sinkhorn

    C, a, b = map(jax.numpy.asarray, problem[:3])
    stated = linear_problem.LinearProblem(geometry.Geometry(C, epsilon=problem.epsilon), a, b)
    limits = {"max_iterations": NO_LIMIT}
    if n_iter is not None:
        limits = {"min_iterations": n_iter, "max_iterations": n_iter}

    def compiled(tol):
        solve = jax.jit(sinkhorn.Sinkhorn(lse_mode=lse_mode, threshold=tol, **limits))
        jax.block_until_ready(solve(stated))
        return solve

    solvers = {tol: compiled(tol) for tol in tolerances}

    def call(tol):
        found = solvers[tol](stated)
        return jax.block_until_ready((found, found.matrix))

    return call


def ott_plan(found):
    """Return the plan of what :func:`ott` returned."""
    return np.asarray(found[1])


# --------------------------------------------------------------------------- bridges


def draw_bridge(n, d, n_components):
    """Return a function that maps a seed to two samples and the bridge between them."""

    def draw(seed):
        from sparsestat.datasets import make_schrodinger_bridge

        return make_schrodinger_bridge(
            n, d, n_components=n_components, epsilon=0.1, random_state=seed
        )

    return draw


def fit_bridge(bridge, seed, threads):
    """Learn a bridge with as many components as the true one has."""
    from sparsestat.transport import LightSchrodingerBridge

    model = LightSchrodingerBridge(
        len(bridge.locations), target=bridge.target, epsilon=bridge.epsilon, random_state=seed
    )
    return model.fit(bridge.X)


def bridge_error(bridge, model):
    """Return cBW2-UVP of a learned bridge, in per cent."""
    from sparsestat.transport import conditional_bw_uvp

    return conditional_bw_uvp(bridge, model)


# --------------------------------------------------------------------------- devices


class NoDevice(RuntimeError):
    """What a row needs is not in this computer."""


def require_gpu():
    """Return cupy.

    Raises
    ------
    NoDevice
        If cupy or a GPU is missing.
    """
    if importlib.util.find_spec("cupy") is None:
        raise NoDevice("no GPU")
    import cupy

    try:
        found = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError:
        found = 0
    if not found:
        raise NoDevice("no GPU")
    return cupy


def on_gpu(solve, problem, **options):
    """Prepare a solver on arrays that are already on the GPU; its calls wait until it is done."""
    cupy = require_gpu()
    call = solve(Problem(*map(cupy.asarray, problem[:3]), problem.epsilon), **options)

    def finished(tol):
        found = call(tol)
        cupy.cuda.get_current_stream().synchronize()
        return found

    return finished
