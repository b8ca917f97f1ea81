"""Learning acyclic graphs: time, attained objective and distance to the truth.

Everyone is given alpha = 0.05 and the threshold 0.3, with which the papers on the criterion and
on its peers report their results. The reference is the central path of the paper, in our own
implementation, at the settings of the paper's experiments; the first table shows that it is no
straw man.
"""

import contextlib
import io

import numpy as np

from ._graphs import GraphRace, IterationRace, Learned, Learner

FAMILY = "dag"
_ALPHA = 0.05
_THRESHOLD = 0.3
# Fewer steps than the paper's, which show in a minute that everything runs.
_QUICK_PATH = {"warm_iter": 500, "max_iter": 1000}


# --------------------------------------------------------------------------- methods


def _colide(variance, **options):
    from sparsestat.dag import CoLiDE

    return CoLiDE(variance, alpha=_ALPHA, w_threshold=_THRESHOLD, random_state=0, **options)


def _read_colide(model):
    # The central path has no order before the threshold, the search has.
    order = model.order_ if model.solver == "order" else None
    return Learned(model.adjacency_, order, None, model.noise_scales_, model.n_iter_)


def _order(name, variance, role="variant", **options):
    return Learner(
        f"sparsestat, {name}",
        "sparsestat",
        "sparsestat",
        lambda: lambda X: _colide(variance, **options).fit(X),
        _read_colide,
        role,
    )


def _bic():
    """The same search for the criterion of flopsearch, with as many restarts."""

    def prepare():
        from sparsestat.dag import CoLiDE

        model = CoLiDE("unequal", criterion="bic", n_restarts=20, random_state=0)
        return lambda X: model.fit(X)

    def read(model):
        return Learned(pattern=model.cpdag())

    name = "sparsestat, search, Schwarz's criterion"
    return Learner(name, "sparsestat", "sparsestat", prepare, read, "variant")


def _central_path(variance, quick, max_repeats):
    params = _QUICK_PATH if quick else None
    return Learner(
        "central path (sparsestat)",
        "sparsestat",
        "sparsestat",
        lambda: lambda X: _colide(variance, solver="central-path", path_params=params).fit(X),
        _read_colide,
        "reference",
        max_repeats,
    )


def _dagma(quick):
    options = _QUICK_PATH if quick else {}

    def prepare():
        from dagma.linear import DagmaLinear

        def call(X):
            # It centres its input in place and draws a progress bar.
            with contextlib.redirect_stderr(io.StringIO()):
                return DagmaLinear(loss_type="l2").fit(
                    X.copy(), lambda1=_ALPHA, w_threshold=_THRESHOLD, **options
                )

        return call

    def read(W):
        # Before it has converged, nodes can be left with an edge to themselves.
        return Learned(np.where(np.eye(len(W)), 0.0, W))

    return Learner("dagma", "dagma", "dagma", prepare, read, max_repeats=1)


def _var_sort_regress():
    def prepare():
        from CausalDisco.baselines import var_sort_regress

        return var_sort_regress

    def read(W):
        return Learned(np.where(np.abs(W) >= _THRESHOLD, W, 0.0))

    return Learner("CausalDisco (var_sort_regress)", "CausalDisco", "CausalDisco", prepare, read)


def _flop():
    def prepare():
        from flopsearch import flop

        return lambda X: flop(X, 2.0, restarts=20)

    def read(codes):
        codes = np.asarray(codes)
        undirected = codes == 2
        return Learned(pattern=((codes == 1) | undirected | undirected.T).astype(float))

    return Learner("flopsearch", "flopsearch", "flopsearch", prepare, read, max_repeats=1)


# --------------------------------------------------------------------------- problems


def _objective(variance):
    """The criterion over all graphs that fit an order."""

    def objective(X, order):
        return _colide(variance, init=order, max_sweeps=0).fit(X).objective_

    return objective


def _draw(variance, n_samples, n_nodes, degree):
    from sparsestat.datasets import make_sem

    settings = {
        "equal": {"weight_range": (0.5, 2.0), "noise_variance": 1.0},
        "unequal": {"weight_range": (0.25, 1.0), "noise_variance": (0.5, 10.0)},
    }
    return lambda seed: make_sem(
        n_samples, n_nodes, degree=degree, random_state=seed, **settings[variance]
    )


_DATA = {
    "equal": "noise of variance 1 and weights from ±[0.5, 2]",
    "unequal": "noise variances from [0.5, 10] and weights from ±[0.25, 1]",
}


def _simulated(variance, n_nodes, learners, quick, *, seeds, remark=""):
    n_samples, degree = 1000, 4
    key = f"{variance}_{n_nodes}"
    if quick:
        n_samples, n_nodes, degree, seeds = 200, max(n_nodes // 5, 8), 2, seeds[:2]
    draw = _draw(variance, n_samples, n_nodes, degree)
    return GraphRace(
        key,
        f"{variance.capitalize()} variances, {n_nodes} nodes",
        f"Erdos-Renyi graphs with {degree} edges a node in expectation, Gaussian {_DATA[variance]}."
        f"{remark}",
        draw,
        seeds,
        tuple(learners),
        _objective(variance),
        {"samples": n_samples, "nodes": n_nodes, "data sets": len(seeds)},
        _small_data,
    )


def _small_data():
    return _draw("equal", 100, 6, 1)(0).data


def _iteration_cost(quick):
    def loop(S, n_iterations):
        A = np.random.default_rng(0).standard_normal(S.shape)
        for _ in range(n_iterations):
            np.linalg.inv(A)
            for _ in range(5):
                A @ S
        return n_iterations

    def path(variance):
        def follow(S, n_iterations):
            # One stage that does not stop early, so that all iterations are of one kind.
            params = {
                "mu": (1.0,),
                "s": (1.0,),
                "max_iter": n_iterations,
                "checkpoint": 1000,
                "tol": 0.0,
            }
            model = _colide(variance, solver="central-path", path_params=params)
            return model.fit_cov(S, 1000).n_iter_

        return follow

    def covariance(n_nodes):
        return np.cov(_draw("equal", 1000, n_nodes, 4)(0).data, rowvar=False, ddof=0)

    sizes = {20: 1000, 50: 1000} if quick else {20: 20_000, 50: 10_000, 100: 2000}
    return IterationRace(
        "iteration_cost",
        "The reference is no straw man",
        "An iteration of the central path needs an inverse and a few matrix products. Here are "
        "its iterations, with all that the estimator does around them, beside a plain loop of "
        "one numpy.linalg.inv and five products.",
        covariance,
        sizes,
        {
            "plain loop": loop,
            "central path, equal": path("equal"),
            "central path, unequal": path("unequal"),
        },
        "plain loop",
    )


def _bootstrap(quick):
    n_bootstrap = 10 if quick else 100

    def prepare():
        from sparsestat.dag import bootstrap_edges

        return lambda X: bootstrap_edges(
            _colide("equal"), X, n_bootstrap=n_bootstrap, n_jobs=1, random_state=0
        )

    draw = _draw("equal", 1000, 20, 4)
    return GraphRace(
        "bootstrap",
        f"{n_bootstrap} bootstrap samples, equal variances, 20 nodes",
        "How stable the edges are: rows are drawn with replacement, and each sample is learned "
        "with the full search. No peer of the other tables has this; it is to take less than four "
        "seconds for 100 samples.",
        draw,
        (0,),
        (Learner("sparsestat, search", "sparsestat", "sparsestat", prepare, None, "ours"),),
        None,
        {"samples": 1000, "nodes": 20, "bootstrap samples": n_bootstrap},
        lambda: draw(1).data,
    )


def _sachs(variance, quick):
    def draw(seed):
        from sparsestat.datasets import load_sachs

        return load_sachs()

    return GraphRace(
        f"sachs_{variance}",
        f"Protein network of Sachs and others, {variance} variances",
        "The observational measurements, not transformed, against the consensus graph of 17 "
        "edges; an empty graph has distance 17.",
        draw,
        (0,),
        (
            _order("search", variance, "ours"),
            _order("no search", variance, max_sweeps=0),
            _central_path(variance, quick, max_repeats=1),
            _dagma(quick),
            _var_sort_regress(),
            _flop(),
        ),
        _objective(variance),
        {"samples": 853, "nodes": 11},
        _small_data,
    )


def problems(*, quick=False):
    """Return the family's problems in the order of the report.

    Parameters
    ----------
    quick : bool
        Sizes that show in a minute that everything runs; their times say little.

    Returns
    -------
    list of GraphRace or IterationRace
    """
    long = " The central path, which takes long here, learns each graph in two repeats only."
    large = (
        " The central path takes minutes here and is left out. The search is limited to "
        "moves by 10 positions and 5 sweeps."
    )
    columns = {"penalty_scale": "columns"}
    windowed = {"window": 10, "max_sweeps": 5}

    def basic(variance, role, **more):
        """The order solver without and with its search; one of them is compared."""
        search = role == "search"
        return [
            _order("search", variance, "ours" if search else "variant", **more),
            _order("no search", variance, "variant" if search else "ours", max_sweeps=0),
        ]

    problems = [_iteration_cost(quick)]
    for variance in ("equal", "unequal"):
        scaled = (
            []
            if variance == "equal"
            else [_order("search, penalty by columns", variance, **columns)]
        )
        for n_nodes, seeds, repeats, peers in (
            (20, (0, 1, 2, 3, 4), 3, [_dagma(quick), _flop(), _bic()]),
            (50, (0, 1, 2), 2, [_dagma(quick), _flop(), _bic()]),
            (100, (0, 1, 2), 2, []),
        ):
            role = "no search" if (variance, n_nodes) == ("equal", 100) else "search"
            learners = [
                *basic(variance, role),
                *(scaled if n_nodes >= 50 else []),
                _central_path(variance, quick, repeats),
                *peers,
                _var_sort_regress(),
            ]
            problems.append(
                _simulated(
                    variance,
                    n_nodes,
                    learners,
                    quick,
                    seeds=seeds,
                    remark=long if n_nodes == 100 else "",
                )
            )
        role = "no search" if variance == "equal" else "search"
        problems.append(
            _simulated(
                variance,
                200,
                basic(variance, role, **windowed),
                quick,
                seeds=(0, 1, 2),
                remark=large,
            )
        )
    return [*problems, _bootstrap(quick), _sachs("equal", quick), _sachs("unequal", quick)]
