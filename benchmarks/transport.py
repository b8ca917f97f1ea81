"""Entropic optimal transport: Newton and Sinkhorn solvers, batches, points, and bridges.

The error of every plan is |P1 - a|_1 + |P'1 - b|_1, recomputed in double precision from the plan
or the potentials that a solver returned; no solver's own number is believed, since some look at
one marginal only, at its Euclidean norm, or at every tenth iteration.
"""

import numpy as np

from . import _transport_problems as data
from . import _transport_solvers as solvers
from ._figures import FigureTable, Method, Setting
from ._measure import Case, Race, Solver
from ._startup import Program, Startup
from ._tasks import Task, TaskRace

FAMILY = "transport"
_ERROR = "|P1 - a|₁ + |P'1 - b|₁"
_TARGET = 1e-9
_MEMORY_LIMIT = 50_000_000

# Chosen so that the accuracies attained enclose the common one; what each attained is printed.
_NEWTON = (1e-4, 1e-7, 1e-10)
_OURS = (1e-7, 1e-8, 1e-9, 1e-10)
_REGOT = (1e-7, 1e-9, 1e-10, 1e-11)
_POT = (1e-8, 1e-9, 1e-10, 1e-11)
_OTT = (1e-8, 1e-9, 1e-10)
_POT_BATCH = (1e-8, 1e-9, 1e-10, 1e-11)


# --------------------------------------------------------------------------- competitors


def _ours(problem, name, *, ours=True, tolerances=_OURS, **options):
    return Solver(
        f"sparsestat, {name}",
        "sparsestat",
        "sparsestat",
        lambda: solvers.ours(problem, **options),
        tolerances,
        ours=ours,
        extract=solvers.plan_of,
    )


def _regot(problem):
    return Solver(
        "regot, sparse Newton (SSNS)",
        "regot",
        "regot",
        lambda: solvers.regot_newton(problem),
        _REGOT,
        extract=solvers.regot_plan,
    )


def _emd(problem):
    # One setting is all there is.
    return Solver("POT, exact (emd)", "POT", "ot", lambda: solvers.pot_emd(problem), (0.0,))


def _pot(problem):
    return Solver(
        "POT, sinkhorn",
        "POT",
        "ot",
        lambda: solvers.pot(problem),
        _POT,
        extract=solvers.pot_plan,
    )


def _ott(problem, name, lse_mode):
    return Solver(
        f"ott-jax, {name}",
        "ott-jax",
        "ott",
        lambda: solvers.ott(problem, _OTT, lse_mode=lse_mode),
        _OTT,
        extract=solvers.ott_plan,
    )


def _sizes(problem, **more):
    sizes = dict(zip(("problems", "rows", "columns")[-problem.cost.ndim :], problem.cost.shape))
    spread = float(np.ptp(problem.cost) / problem.epsilon)
    return {**sizes, "range of the costs / epsilon": spread, **more}


# --------------------------------------------------------------------------- Newton


def _race(key, title, description, draw, competitors, **options):
    """Compare solvers that return a plan of one problem."""

    def build():
        problem = draw()
        accuracy = data.accuracy_of(problem, lambda: solvers.solution(problem))
        return Case(competitors(problem), accuracy, _sizes(problem))

    return Race(key, title, description, build, _TARGET, _ERROR, **options)


_EXACT = (
    " ot.emd solves another problem, the one without entropy, and has no tolerance: its plan is "
    "exact, the accuracy does not apply to it, and the ratio is that of plain times."
)


def _against_newton(problem):
    return [
        _ours(problem, "automatic", tolerances=_NEWTON),
        _ours(problem, "Newton", tolerances=_NEWTON, method="newton"),
        _regot(problem),
        _emd(problem),
    ]


def _newton(quick):
    n_gauss, n_assigned, side, eta = (120, 80, 8, 100) if quick else (1000, 500, 28, 1200)
    grid = f"{side} x {side} pixels"
    return [
        _race(
            "gaussian",
            "Two Gaussian clouds",
            "Squared distances of two clouds in the plane, epsilon a thousandth of the largest. "
            "The aim is to be at least 20 times faster than regot and 1.5 times faster than "
            "ot.emd." + _EXACT,
            lambda: data.gaussian(n_gauss, 1000),
            _against_newton,
        ),
        _race(
            "assignment",
            "Random assignment",
            f"Uniform costs, epsilon 1/{eta} of their range. The aim is to be at least 5 times "
            "faster than regot." + _EXACT,
            lambda: data.assignment(n_assigned, eta),
            _against_newton,
        ),
        *(
            _race(
                f"digits_l{norm}",
                f"From a zero to a three, L{norm} costs",
                f"Two handwritten digits of scikit-learn, enlarged to {grid}; costs are {words}, "
                f"epsilon 1/{eta} of the largest." + _EXACT,
                lambda norm=norm: data.digits(norm, eta, side),
                _against_newton,
            )
            for norm, words in (
                (2, "squared Euclidean distances of pixels"),
                (1, "sums of the differences of their coordinates"),
            )
        ),
    ]


def _own_sinkhorn(quick):
    """Our Newton solver against our own sweeps, which are a faster baseline than anyone else's."""
    n_assigned, side, eta = (80, 8, 100) if quick else (500, 28, 1200)
    draws = {
        "assignment": ("random assignment", lambda: data.assignment(n_assigned, eta)),
        "digits_l2": ("from a zero to a three, L2 costs", lambda: data.digits(2, eta, side)),
        "digits_l1": ("from a zero to a three, L1 costs", lambda: data.digits(1, eta, side)),
    }
    tolerances = (1e-7, 1e-9, 1e-10)

    def competitors(problem):
        return [
            _ours(problem, "Newton", tolerances=_NEWTON, method="newton"),
            _ours(problem, "kernel sweeps", ours=False, tolerances=tolerances, method="kernel"),
            _ours(problem, "log sweeps", ours=False, tolerances=tolerances, method="log"),
        ]

    return [
        _race(
            f"own_{key}",
            f"Newton and Sinkhorn, both ours: {title}",
            "How much Newton's method is worth over Sinkhorn's where both are implemented with "
            "the same care. The literature compares with much slower sweeps. The other rows are "
            "no peers but the same package.",
            draw,
            competitors,
        )
        for key, (title, draw) in draws.items()
    ]


# --------------------------------------------------------------------------- sweeps


def _sweep(name, distribution, module, prepare, n_iter, n_done, **options):
    """A task of `n_iter` iterations; `n_done` reads how many a result says that there were."""

    def prepared():
        call = prepare()
        return lambda: call(solvers.NEVER)

    def check():
        done = int(n_done(prepared()()))
        if done != n_iter:
            raise AssertionError(f"{done} iterations instead of {n_iter}")
        return f"{n_iter} iterations a call"

    return Task(name, distribution, module, prepared, n_iter, check=check, **options)


def _our_sweep(problem, name, n_iter, *, ours=True, **options):
    return _sweep(
        f"sparsestat, {name}",
        "sparsestat",
        "sparsestat",
        lambda: solvers.ours(problem, max_iter=n_iter, **options),
        n_iter,
        lambda found: found[0].n_iter,
        ours=ours,
    )


def _pot_sweep(problem, name, n_iter, method, aim):
    return _sweep(
        f"POT, {name}",
        "POT",
        "ot",
        lambda: solvers.pot(problem, method, n_iter),
        n_iter,
        # It says the index of the last iteration.
        lambda found: found[1]["niter"] + 1,
        aim=aim,
    )


def _ott_sweep(problem, name, n_iter, lse_mode):
    return _sweep(
        f"ott-jax, {name}",
        "ott-jax",
        "ott",
        lambda: solvers.ott(problem, (solvers.NEVER,), lse_mode=lse_mode, n_iter=n_iter),
        n_iter,
        lambda found: found[0].n_iters,
    )


_ITERATION = (
    "A fixed number of iterations from the start, with what a call does around them: validation, "
    "the kernel, tests of convergence, and the plan at the end. An iteration updates the rows and "
    "the columns once. With this epsilon all solvers need more iterations than these."
)


def _log_sweeps(quick):
    n, eta, n_iter = (100, 2000, 20) if quick else (1000, 2000, 200)
    aim = None if quick else 25.0

    def build():
        problem = data.gaussian(n, eta)
        return [
            _our_sweep(problem, "log sweep", n_iter, method="log"),
            _pot_sweep(problem, "sinkhorn_log", n_iter, "sinkhorn_log", aim),
            _ott_sweep(problem, "log-sum-exp mode", n_iter, lse_mode=True),
        ]

    return TaskRace(
        "log_sweep",
        "An iteration in the logarithmic domain",
        _ITERATION,
        "iteration",
        build,
        {"rows": n, "columns": n, "1 / epsilon": eta},
    )


def _kernel_sweeps(quick):
    n, eta, n_iter = (100, 2000, 20) if quick else (1000, 2000, 400)
    aim = None if quick else 2.0

    def build():
        problem = data.gaussian(n, eta)
        return [
            _our_sweep(problem, "kernel sweep", n_iter, method="kernel"),
            _our_sweep(
                problem,
                "kernel sweep, kernel stored in single precision",
                n_iter,
                ours=False,
                method="kernel",
                storage_dtype=np.float32,
            ),
            _pot_sweep(problem, "sinkhorn", n_iter, "sinkhorn", aim),
            _ott_sweep(problem, "kernel mode", n_iter, lse_mode=False),
        ]

    return TaskRace(
        "kernel_sweep",
        "An iteration with the kernel",
        _ITERATION,
        "iteration",
        build,
        {"rows": n, "columns": n, "1 / epsilon": eta},
    )


def _kernel_races(quick):
    n = 100 if quick else 1000

    def competitors(problem):
        return [
            _ours(problem, "kernel sweeps", method="kernel"),
            _ours(
                problem,
                "kernel sweeps, kernel stored in single precision",
                method="kernel",
                storage_dtype=np.float32,
            ),
            _pot(problem),
            _ott(problem, "kernel mode", lse_mode=False),
            _ott(problem, "log-sum-exp mode", lse_mode=True),
        ]

    return [
        _race(
            f"kernel_{eta}",
            f"Sinkhorn with the kernel, epsilon 1/{eta} of the costs' range",
            "Few iterations are needed, so sweeps are what one would use. The aim is to be at "
            "least twice as fast as ot.sinkhorn. ott-jax is compiled beforehand and computes in "
            "double precision.",
            lambda eta=eta: data.gaussian(n, eta),
            competitors,
        )
        for eta in (20, 100)
    ]


# --------------------------------------------------------------------------- batches, points


def _batches(quick):
    def race(n_problems, n, eta, aim):
        if quick:
            n_problems, n = 8, 16

        def build():
            problem = data.gaussian_batch(n_problems, n, eta)

            def peer(name, method):
                return Solver(
                    f"POT, {name}",
                    "POT",
                    "ot",
                    lambda: solvers.pot_batch(problem, method),
                    _POT_BATCH,
                )

            competitors = [
                Solver(
                    "sparsestat, sinkhorn_batch",
                    "sparsestat",
                    "sparsestat",
                    lambda: solvers.ours_batch(problem),
                    _OURS,
                    ours=True,
                    extract=solvers.plan_of,
                ),
                peer("solve_batch", "sinkhorn"),
            ]
            if n <= 64:
                competitors.append(peer("solve_batch in the logarithmic domain", "log_sinkhorn"))
            return Case(competitors, data.accuracy_of(problem), _sizes(problem))

        return Race(
            f"batch_{n_problems}_{n}",
            f"{n_problems} problems of size {n} at once",
            f"Gaussian clouds, epsilon 1/{eta} of the largest cost; every problem of the batch has "
            f"to be accurate.{aim}",
            build,
            _TARGET,
            f"largest {_ERROR} of the batch",
        )

    goal = " The aim is to be at least 15 times faster than ot.solve_batch."
    return [race(256, 64, 50, goal)] + ([] if quick else [race(64, 256, 100, "")])


def _points(quick):
    n = 300 if quick else 5000

    def race(eta, peer_tolerances):
        def build():
            points = data.gaussian_clouds(n, eta)
            competitors = [
                Solver(
                    "sparsestat, sinkhorn_points",
                    "sparsestat",
                    "sparsestat",
                    lambda: solvers.ours_points(points),
                    _OURS,
                    ours=True,
                    extract=solvers.potentials_of,
                ),
                Solver(
                    "POT, solve_sample, lazy",
                    "POT",
                    "ot",
                    # Of 10, 25, 50, 100, ... rows at a time the fastest.
                    lambda: solvers.pot_points(points, 50),
                    peer_tolerances,
                    extract=solvers.pot_potentials(points),
                ),
            ]
            sizes = {"points in each cloud": n, "coordinates": 2, "1 / epsilon": eta}
            return Case(competitors, data.accuracy_of(points), sizes, memory_limit=_MEMORY_LIMIT)

        return Race(
            f"points_{eta}",
            f"Points, without a matrix of costs, epsilon 1/{eta}",
            "Squared distances of two clouds in a disc of diameter one, computed again in every "
            "iteration. The aim is to be at least 12 times, better 20 times faster than POT's "
            "lazy solver, with a peak of at most 50 MB above the level before the call.",
            build,
            _TARGET,
            _ERROR,
        )

    return [race(20, (1e-5, 1e-7, 1e-9)), race(100, (1e-7, 1e-8, 1e-9))]


# --------------------------------------------------------------------------- bridges


def _bridge(quick):
    n, d, n_components = (400, 2, 2) if quick else (10_000, 16, 5)
    aim = (None, None) if quick else (None, 2.5)

    draw = solvers.draw_bridge(n, d, n_components)

    def method(aim):
        return Method(
            "sparsestat, LightSchrodingerBridge",
            "sparsestat",
            "sparsestat",
            solvers.fit_bridge,
            solvers.bridge_error,
            ours=True,
            aim=aim,
        )

    return FigureTable(
        "bridge",
        "Light Schrödinger bridge",
        "How far the learned conditional distributions are from those that made the data: "
        "cBW2-UVP, the squared Bures-Wasserstein distance of the conditional distributions in the "
        "mean over the starting points, in per cent of half the variance of the end points. The "
        "figure depends on the sample, so the mean of five is shown beside the first, for which "
        "the aim is set; the aim for the time of a fit is 3 s. The peers' implementation needs "
        "torch and is no package, so nobody else is in the table.",
        "cBW2-UVP, %",
        (
            Setting("seed 1", draw, (1,), (method(aim),)),
            Setting("seeds 1 to 5", draw, (1, 2, 3, 4, 5), (method((None, None)),)),
        ),
        {"points": n, "coordinates": d, "components": n_components, "epsilon": 0.1},
        statistic="mean",
    )


# --------------------------------------------------------------------------- devices


def _device(quick):
    n, n_iter = (200, 20) if quick else (4000, 200)

    def build():
        problem = data.gaussian(n, 2000)

        def task(name, distribution, module, prepare, **options):
            def prepared():
                call = prepare()
                return lambda: call(solvers.NEVER)

            return Task(name, distribution, module, prepared, n_iter, **options)

        limited = {"method": "kernel", "max_iter": n_iter}
        return [
            task(
                "sparsestat, kernel sweep on the GPU",
                "sparsestat",
                "sparsestat",
                lambda: solvers.on_gpu(solvers.ours, problem, **limited),
                ours=True,
            ),
            task(
                "POT, sinkhorn on the GPU",
                "POT",
                "ot",
                lambda: solvers.on_gpu(solvers.pot, problem, max_iter=n_iter),
            ),
            task(
                "sparsestat, kernel sweep on the CPU",
                "sparsestat",
                "sparsestat",
                lambda: solvers.ours(problem, **limited),
            ),
        ]

    return TaskRace(
        "gpu",
        "An iteration on a GPU",
        f"{_ITERATION} Arrays are CuPy's and on the device before; wall time decides.",
        "iteration",
        build,
        {"rows": n, "columns": n},
        clock="wall",
    )


# --------------------------------------------------------------------------- starting


def _starting(quick):
    costs = "C, a = X**2, numpy.full(200, 1 / 200)"
    programs = (
        Program(
            "sparsestat",
            "sparsestat",
            "sparsestat",
            "from sparsestat.transport import sinkhorn",
            f"{costs}\nsinkhorn(C, a, a, epsilon=1.0).plan",
            ours=True,
        ),
        Program(
            "POT",
            "POT",
            "ot",
            "import os\nos.environ['POT_BACKEND_DISABLE_JAX'] = '1'\nimport ot",
            f"{costs}\not.sinkhorn(a, a, C, 1.0)",
        ),
        Program(
            "regot",
            "regot",
            "regot",
            "import regot",
            f"{costs}\nregot.sinkhorn_ssns(numpy.asfortranarray(C), a, a, 1.0, tol=1e-9).plan",
        ),
        Program(
            "ott-jax",
            "ott-jax",
            "ott",
            "import jax\n"
            "jax.config.update('jax_enable_x64', True)\n"
            "from ott.geometry import geometry\n"
            "from ott.problems.linear import linear_problem\n"
            "from ott.solvers.linear import sinkhorn",
            f"{costs}\n"
            "stated = geometry.Geometry(jax.numpy.asarray(C), epsilon=1.0)\n"
            "solve = jax.jit(sinkhorn.Sinkhorn(threshold=1e-9))\n"
            "jax.block_until_ready(solve(linear_problem.LinearProblem(stated)).matrix)",
        ),
    )
    return Startup(
        "startup",
        "Import and first plan",
        "Fresh processes: the import of what the user needs, then the first plan of a problem "
        "with 200 rows and columns. POT imports every array library that it finds; jax, which is "
        "here for another row, is hidden from it.",
        programs[:1] if quick else programs,
        n_samples=200,
        n_features=200,
    )


def problems(*, quick=False):
    """Return the family's problems in the order of the report.

    Parameters
    ----------
    quick : bool
        Sizes that show in a minute that everything runs; their times say little.

    Returns
    -------
    list of Race, TaskRace, FigureTable or Startup
    """
    return [
        *_newton(quick),
        *_own_sinkhorn(quick),
        _log_sweeps(quick),
        _kernel_sweeps(quick),
        *_kernel_races(quick),
        *_batches(quick),
        *_points(quick),
        _bridge(quick),
        _device(quick),
        _starting(quick),
    ]
