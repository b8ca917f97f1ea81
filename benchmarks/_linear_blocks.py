"""Block coordinate descent: what rules and updates attain, and what an iteration costs."""

import warnings

import numpy as np
from scipy import sparse

from ._figures import FigureTable, Method, Setting
from ._tasks import Task, TaskRace

_NOT_REACHED = 3000


def uneven_regression(n_samples, n_features, seed):
    """Draw a design of which few entries are kept, with columns of very different size.

    Entries are ``(z + 1) c_j`` with standard normal z and ``c_j = 10 z_j``, kept with
    probability ``10 log(n) / n``; a tenth of the coefficients are standard normal.
    """
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_samples, n_features)) + 1.0
    X *= 10.0 * rng.standard_normal(n_features)
    X[rng.random(X.shape) >= 10.0 * np.log(n_samples) / n_samples] = 0.0
    coef = rng.standard_normal(n_features) * (rng.random(n_features) < 0.1)
    return np.asfortranarray(X), X @ coef + rng.standard_normal(n_samples)


def _descend(X, y, **options):
    from sparsestat.linear_model import BCDRegressor

    with warnings.catch_warnings():
        # Iterations are limited, which a fit warns of.
        warnings.simplefilter("ignore")
        return BCDRegressor(fit_intercept=False, **options).fit(X, y)


def orders(quick):
    """The objective after 150 iterations, without a penalty."""
    sizes = (30, 100) if quick else (100, 1000)
    seeds = tuple(range(2 if quick else 5))

    def method(partition, update, rule):
        def fit(problem, seed, threads):
            X, y = problem
            return _descend(
                X,
                y,
                alpha=0.0,
                partition=partition,
                update=update,
                rule=rule,
                block_size=5,
                max_iter=150,
                tol=1e-16,
                random_state=seed,
            ).coef_

        def score(problem, coef):
            X, y = problem
            return float(np.sum((y - X @ coef) ** 2) / np.sum(y**2))

        return Method(rule, "sparsestat", "sparsestat", fit, score, ours=True)

    variable = ("random", "gs", "gsd", "gsq")
    fixed = ("random", "cyclic", "lipschitz", "gs", "gsl", "gsd", "gsq")
    settings = tuple(
        Setting(
            f"{partition} blocks, {update} update",
            lambda seed: uneven_regression(*sizes, seed),
            seeds,
            tuple(
                method(partition, update, rule)
                for rule in (variable if partition == "variable" else fixed)
            ),
        )
        for partition in ("sort", "variable")
        for update in ("lb", "hb")
    )
    return FigureTable(
        "block_orders",
        "Which block next?",
        "Least squares on sparse columns of very different size, blocks of 5. Nutini, Laradji and "
        "Schmidt (JMLR 23, 2022) found that rules which know curvatures (gsl, gsd, gsq) beat "
        "gs, which beats random blocks; matrix updates (hb) beat gradient updates (lb), and "
        "variable blocks fixed ones.",
        "median objective after 150 iterations / at zero",
        settings,
        {"samples": sizes[0], "features": sizes[1], "seeds": len(seeds)},
    )


def termination(quick):
    """Iterations until a problem with a penalty and signs is solved."""
    sizes = (30, 100) if quick else (100, 1000)
    seeds = tuple(range(2 if quick else 5))

    def method(update, size):
        def fit(problem, seed, threads):
            X, y = problem
            alpha = 0.02 * np.abs(X.T @ y).max() / len(y)
            return _descend(
                X,
                y,
                alpha=alpha,
                positive=True,
                update=update,
                block_size=size,
                max_iter=_NOT_REACHED,
                tol=1e-12,
                random_state=seed,
            )

        def score(problem, model):
            return float(model.n_iter_ if model.converged_ else _NOT_REACHED)

        return Method(update, "sparsestat", "sparsestat", fit, score, ours=True)

    settings = tuple(
        Setting(
            f"blocks of {size}",
            lambda seed: uneven_regression(*sizes, seed),
            seeds,
            tuple(method(update, size) for update in ("tmp", "pn", "pg")),
        )
        for size in ((10, 30) if quick else (50, 100))
    )
    return FigureTable(
        "block_termination",
        "Iterations to the solution",
        "Nonnegative lasso on the same data, variable blocks of the rule gsq, to a relative gap of "
        f"1e-12; {_NOT_REACHED} stands for what was not reached. Once a block holds the support, "
        "updates with second derivatives (tmp, pn) end after finitely many iterations; proximal "
        "gradient steps (pg) do not.",
        "median number of iterations",
        settings,
        {"samples": sizes[0], "features": sizes[1], "seeds": len(seeds)},
    )


def cost(quick):
    """An iteration of every rule beside the product with the columns of a block."""
    sizes = (100, 1000) if quick else (1000, 10_000)
    n_iter = 100 if quick else 1000

    def build():
        X, y = uneven_regression(*sizes, 1)
        X = sparse.csc_array(X)
        rng = np.random.default_rng(0)
        blocks = [rng.choice(sizes[1], 5, replace=False) for _ in range(n_iter)]
        alpha = 0.02 * np.abs(X.T @ y).max() / len(y)

        def products():
            def call():
                for block in blocks:
                    X[:, block].T @ y

            return call

        def descent(rule, partition):
            def prepare():
                from sparsestat.solvers._block_descent import BlockDescent

                def call():
                    thresholds = np.full(sizes[1], alpha * len(y))
                    BlockDescent(
                        X,
                        y,
                        thresholds,
                        np.zeros(sizes[1], dtype=bool),
                        partition=partition,
                        rule=rule,
                        update="pg",
                        block_size=5,
                        rng=np.random.default_rng(0),
                    ).run(n_iter)

                call()
                return call

            return Task(f"{partition} blocks, {rule}", "sparsestat", "sparsestat", prepare, n_iter)

        ways = [descent(rule, "variable") for rule in ("gs", "gsd", "gsq", "random")]
        ways += [descent(rule, "sort") for rule in ("gs", "gsl", "gsd", "gsq", "random", "cyclic")]
        reference = Task(
            "products of five columns with a vector", "scipy", "scipy", products, n_iter, ours=True
        )
        return [reference, *ways]

    return TaskRace(
        "block_cost",
        "What an iteration costs",
        "Proximal gradient steps on blocks of five columns, the start included, beside as many "
        "products X[:, block].T @ r of SciPy's. Gradients are maintained, not computed again; "
        "greedy rules look at all coordinates in every iteration. The aim is at most ten times "
        "the products.",
        "iteration",
        build,
        {"samples": sizes[0], "features": sizes[1], "columns of a block": 5},
    )
