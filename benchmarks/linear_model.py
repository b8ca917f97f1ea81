"""Sparse linear regression: paths, cross-validation, one sparse fit, and the time to start.

Every peer is called as its own documentation advises for speed: Fortran order or CSC, its path
function with warm starts, iteration limits that do not bind, no standardisation that the others
do not do, compiled before it is timed.
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse

from . import _linear_blocks, _linear_hard
from ._linear_structure import group_race, logistic_race
from ._measure import MEBIBYTE, Case, Race, Solver
from ._problems import alpha_grid, autoregressive_regression, lasso_gaps, sparse_regression
from ._startup import Program, Startup

FAMILY = "linear_model"
# No peer's limit on iterations should be what stops it.
_NO_LIMIT = 1_000_000

_GAP = "largest duality gap over the path, relative to ||y||²/2"

_OURS = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)
# Chosen so that the accuracies attained enclose the common one; what each attained is printed.
_DENSE_TOLERANCES = {
    "sparsestat": _OURS,
    "celer": (1e-8, 1e-9, 1e-10),
    "skglm": (1e-5, 1e-6, 1e-7),
    "adelie": (1e-14, 1e-15, 1e-16),
    "python-glmnet": (1e-13, 1e-14, 1e-15),
    "scikit-learn": (1e-5, 1e-6, 4e-7),
}
_SPARSE_TOLERANCES = {
    "sparsestat": _OURS,
    "celer": (1e-4, 1e-5, 1e-6, 1e-7, 1e-8),
    "skglm": (1e-7, 1e-8, 1e-9, 1e-10),
    "adelie": (1e-11, 1e-12, 1e-13, 1e-14, 1e-15),
    "python-glmnet": (1e-11, 1e-12, 1e-13, 1e-14, 1e-15),
    "scikit-learn": (1e-5, 1e-6, 1e-7),
}


# --------------------------------------------------------------------------- paths


def _sparsestat_path(X, y, alphas):
    from sparsestat.linear_model import lasso_path

    return lambda tol: lasso_path(X, y, alphas=alphas, tol=tol, max_iter=_NO_LIMIT)[1]


def _celer_path(X, y, alphas):
    from celer import celer_path

    return lambda tol: celer_path(X, y, "lasso", alphas=alphas, tol=tol, max_iter=1000)[1]


def _skglm_path(X, y, alphas):
    from skglm.datafits import Quadratic
    from skglm.penalties import L1
    from skglm.solvers import AndersonCD
    from skglm.utils.jit_compilation import compiled_clone

    datafit, penalty = compiled_clone(Quadratic()), compiled_clone(L1(1.0))

    def call(tol):
        solver = AndersonCD(tol=tol, max_iter=1000, warm_start=True, fit_intercept=False)
        return solver.path(X, y, datafit, penalty, alphas=alphas)[1]

    return call


def _adelie_path(X, y, alphas):
    import adelie

    wrap = adelie.matrix.sparse if sparse.issparse(X) else adelie.matrix.dense

    def call(tol):
        return adelie.grpnet(
            X=wrap(X, n_threads=1),
            glm=adelie.glm.gaussian(y),
            lmda_path=alphas,
            intercept=False,
            early_exit=False,
            tol=tol,
            max_iters=_NO_LIMIT,
            n_threads=1,
            progress_bar=False,
        )

    return call


def _glmnet_path(X, y, alphas):
    from glmnet import ElasticNet

    def call(tol):
        return ElasticNet(
            alpha=1,
            n_splits=0,
            lambda_path=alphas,
            tol=tol,
            standardize=False,
            fit_intercept=False,
            max_iter=_NO_LIMIT,
        ).fit(X, y)

    return call


def _sklearn_path(X, y, alphas):
    from sklearn.linear_model import lasso_path

    return lambda tol: lasso_path(X, y, alphas=alphas, tol=tol, max_iter=_NO_LIMIT)[1]


def _adelie_coefs(state):
    return state.betas.T.tocsc()


def _glmnet_coefs(model):
    return model.coef_path_


def _path_solvers(X, y, alphas, tolerances):
    def solver(name, module, path, **options):
        return Solver(
            name,
            name,
            module,
            lambda: path(X, y, alphas),
            tolerances[name],
            ours=name == "sparsestat",
            **options,
        )

    return [
        solver("sparsestat", "sparsestat", _sparsestat_path),
        solver("celer", "celer", _celer_path),
        solver("skglm", "skglm", _skglm_path),
        solver("adelie", "adelie", _adelie_path, extract=_adelie_coefs),
        solver("python-glmnet", "glmnet", _glmnet_path, extract=_glmnet_coefs),
        solver("scikit-learn", "sklearn", _sklearn_path),
    ]


def _path_case(X, y, ratio, tolerances):
    alphas = alpha_grid(X, y, ratio)
    sizes = {"samples": X.shape[0], "features": X.shape[1]}
    if sparse.issparse(X):
        sizes["stored entries"] = X.nnz
    sizes["alphas"] = len(alphas)
    sizes["alpha_min / alpha_max"] = ratio
    return Case(
        _path_solvers(X, y, alphas, tolerances),
        lambda coefs: lasso_gaps(X, y, alphas, coefs).max(),
        sizes,
    )


def _dense_path(key, title, quick, *, n_samples, n_features, rho, n_nonzero):
    if quick:
        n_samples, n_features, n_nonzero = n_samples // 5, n_features // 10, n_nonzero // 5

    def build():
        X, y = autoregressive_regression(n_samples, n_features, rho=rho, n_nonzero=n_nonzero)
        return _path_case(X, y, 0.01, _DENSE_TOLERANCES)

    return Race(
        key,
        title,
        f"Rows from an AR({rho}) process, {n_nonzero} standard normal coefficients, signal energy "
        "three times that of the noise, no intercept.",
        build,
        target=1e-6,
        accuracy_name=_GAP,
    )


def _sparse_path(key, title, quick, *, n_samples, n_features, n_stored):
    if quick:
        n_samples, n_features, n_stored = n_samples // 10, n_features // 10, n_stored // 40

    def build():
        X, y = sparse_regression(n_samples, n_features, n_stored=n_stored, n_nonzero=100)
        return _path_case(X, y, 0.03, _SPARSE_TOLERANCES)

    return Race(
        key,
        title,
        "CSC design with standard normal entries at uniform places, 100 standard normal "
        "coefficients, signal energy three times that of the noise, no intercept.",
        build,
        target=1e-6,
        accuracy_name=_GAP,
    )


# --------------------------------------------------------------------------- one sparse fit


def _estimator_fit(load, X, y):
    """Time the estimator's own ``fit``, with all that it checks and copies."""
    make = load()
    return lambda tol: make(tol).fit(X, y)


def _single_coefs(model):
    return sparse.csc_matrix(np.reshape(model.coef_, (-1, 1)))


def _single_solvers(X, y, alpha):
    options = {"alpha": alpha, "fit_intercept": False}

    def sparsestat_lasso():
        from sparsestat.linear_model import Lasso

        return lambda tol: Lasso(**options, tol=tol, max_iter=_NO_LIMIT)

    def celer_lasso():
        from celer import Lasso

        return lambda tol: Lasso(**options, tol=tol, max_iter=1000)

    def skglm_lasso():
        from skglm import Lasso

        return lambda tol: Lasso(**options, tol=tol, max_iter=1000)

    def sklearn_lasso():
        from sklearn.linear_model import Lasso

        return lambda tol: Lasso(**options, tol=tol, max_iter=_NO_LIMIT)

    def estimator(name, module, load):
        return Solver(
            name,
            name,
            module,
            lambda: _estimator_fit(load, X, y),
            _SPARSE_TOLERANCES[name],
            ours=name == "sparsestat",
            extract=_single_coefs,
        )

    # adelie and glmnet have no estimator with one penalty: a path of one is the same.
    paths = {s.name: s for s in _path_solvers(X, y, np.array([alpha]), _SPARSE_TOLERANCES)}
    return [
        estimator("sparsestat", "sparsestat", sparsestat_lasso),
        estimator("celer", "celer", celer_lasso),
        estimator("skglm", "skglm", skglm_lasso),
        paths["adelie"],
        paths["python-glmnet"],
        estimator("scikit-learn", "sklearn", sklearn_lasso),
    ]


def _single_sparse_fit(quick):
    shape, n_stored = ((1000, 5000), 25_000) if quick else ((10_000, 50_000), 1_000_000)

    def build():
        X, y = sparse_regression(*shape, n_stored=n_stored, n_nonzero=100)
        alpha = alpha_grid(X, y, 0.05)[-1]
        stored = X.data.nbytes + X.indices.nbytes + X.indptr.nbytes
        sizes = {
            "samples": shape[0],
            "features": shape[1],
            "stored entries": X.nnz,
            "CSC bytes": stored,
            "alpha / alpha_max": 0.05,
        }
        return Case(
            _single_solvers(X, y, alpha),
            lambda coefs: lasso_gaps(X, y, [alpha], coefs).max(),
            sizes,
            memory_limit=2 * stored + 50 * MEBIBYTE,
        )

    return Race(
        "sparse_fit",
        "One sparse fit, time and memory",
        "The first sparse design at one penalty, through each package's estimator. The memory "
        "limit is twice the CSC matrix and 50 MiB.",
        build,
        target=1e-6,
        accuracy_name="duality gap, relative to ||y||²/2",
    )


# --------------------------------------------------------------------------- cross-validation


class _Selected(NamedTuple):
    """What a cross-validated fit returned: its model and, if it keeps one, the path behind it."""

    coef: np.ndarray
    intercept: float
    alpha: float
    path_alphas: np.ndarray
    path_coefs: np.ndarray | sparse.spmatrix


def _selected(model):
    coefs = getattr(model, "coef_path_", np.empty((len(model.coef_), 0)))
    alphas = model.alphas_ if coefs.shape[1] else np.empty(0)
    return _Selected(model.coef_, model.intercept_, model.alpha_, alphas, coefs)


def _adelie_selected(state):
    alphas, coefs = np.asarray(state.lmdas), state.betas.T.tocsc()
    return _Selected(coefs[:, -1].toarray(), state.intercepts[-1], alphas[-1], alphas, coefs)


def _glmnet_selected(model):
    alpha = np.ravel(model.lambda_best_)[0]
    return _Selected(
        model.coef_, model.intercept_, alpha, np.asarray(model.lambda_path_), model.coef_path_
    )


def _selected_gap(X, y, selected):
    """Compute the largest gap of all that the fit returned.

    The final fit alone would not do: a solver may solve that one far more accurately than the
    paths which chose its penalty. A path comes without intercepts; each is given its best one.
    """
    coef = np.reshape(selected.coef, (-1, 1))
    gaps = lasso_gaps(X, y, [selected.alpha], coef, [selected.intercept])
    if len(selected.path_alphas):
        best = y.mean() - X.mean(axis=0) @ selected.path_coefs
        path = lasso_gaps(X, y, selected.path_alphas, selected.path_coefs, best)
        gaps = np.append(gaps, path)
    return gaps.max()


def _cv_solvers(X, y, alphas):
    def sparsestat_cv():
        from sparsestat.linear_model import LassoCV

        return lambda tol: LassoCV(alphas=alphas, cv=5, tol=tol, max_iter=_NO_LIMIT, n_jobs=2).fit(
            X, y
        )

    def sklearn_cv():
        from sklearn.linear_model import LassoCV

        return lambda tol: LassoCV(alphas=alphas, cv=5, tol=tol, max_iter=_NO_LIMIT, n_jobs=2).fit(
            X, y
        )

    def celer_cv():
        from celer import LassoCV

        return lambda tol: LassoCV(alphas=alphas, cv=5, tol=tol, max_iter=1000, n_jobs=2).fit(X, y)

    def glmnet_cv():
        from glmnet import ElasticNet

        return lambda tol: ElasticNet(
            alpha=1,
            n_splits=5,
            lambda_path=alphas,
            cut_point=0,
            tol=tol,
            standardize=False,
            max_iter=_NO_LIMIT,
            scoring="mean_squared_error",
            n_jobs=2,
        ).fit(X, y)

    def adelie_cv():
        import adelie

        def call(tol):
            design, glm = adelie.matrix.dense(X, n_threads=2), adelie.glm.gaussian(y)
            options = {"tol": tol, "max_iters": _NO_LIMIT, "n_threads": 2, "progress_bar": False}
            found = adelie.cv.cv_grpnet(
                design,
                glm,
                min_ratio=alphas[-1] / alphas[0],
                lmda_path_size=len(alphas),
                n_folds=5,
                seed=0,
                **options,
            )
            return found.fit(design, glm, **options)

        return call

    def solver(name, module, prepare, tolerances, **options):
        options = {"extract": _selected, **options}
        return Solver(name, name, module, prepare, tolerances, ours=name == "sparsestat", **options)

    # Who runs the folds in threads gets pools of one thread: two threads in all for everyone.
    return [
        solver("sparsestat", "sparsestat", sparsestat_cv, _OURS[:-2], threads=1),
        solver("celer", "celer", celer_cv, (1e-6, 1e-7, 1e-8), threads=1),
        solver("adelie", "adelie", adelie_cv, (1e-10, 1e-11, 1e-12), extract=_adelie_selected),
        solver(
            "python-glmnet",
            "glmnet",
            glmnet_cv,
            (1e-11, 1e-12, 1e-13),
            threads=1,
            extract=_glmnet_selected,
        ),
        solver(
            "scikit-learn",
            "sklearn",
            sklearn_cv,
            (1e-4, 1e-5, 3e-6),
            threads=1,
        ),
    ]


def _cross_validation(quick):
    n_samples, n_features, n_nonzero = (100, 500, 20) if quick else (500, 5000, 100)

    def build():
        X, y = autoregressive_regression(n_samples, n_features, rho=0.5, n_nonzero=n_nonzero)
        alphas = alpha_grid(X, y, 0.01, fit_intercept=True)

        sizes = {
            "samples": n_samples,
            "features": n_features,
            "alphas": len(alphas),
            "folds": 5,
            "alpha_min / alpha_max": 0.01,
        }
        return Case(_cv_solvers(X, y, alphas), lambda found: _selected_gap(X, y, found), sizes)

    return Race(
        "lasso_cv",
        "Cross-validated Lasso, two threads",
        "LassoCV on the first dense design with an intercept: five folds of the whole path and "
        "the final fit. Wall time decides, since two threads share the work. The accuracy is the "
        "largest gap of all that the fit returned: the coefficients at the penalty that the solver "
        "chose, and the path on all data where it is kept, since the folds were solved no better. "
        "scikit-learn keeps no path, so only its final fit is judged; its gap is the same at every "
        "penalty. adelie and python-glmnet draw their own folds.",
        build,
        target=1e-5,
        accuracy_name="largest duality gap of what was returned, relative to ||y - mean||²/2",
        clock="wall",
        threads=2,
    )


# --------------------------------------------------------------------------- starting


def _starting():
    fit = "Lasso(alpha=0.1).fit(X, y)"
    return Startup(
        "startup",
        "Import and first fit",
        "Fresh processes: the import of what the user needs, then the first fit of a small Lasso.",
        (
            Program(
                "sparsestat",
                "sparsestat",
                "sparsestat",
                "from sparsestat.linear_model import Lasso",
                fit,
                ours=True,
            ),
            Program("celer", "celer", "celer", "from celer import Lasso", fit),
            Program("skglm", "skglm", "skglm", "from skglm import Lasso", fit),
            Program(
                "adelie",
                "adelie",
                "adelie",
                "import adelie",
                "adelie.grpnet(X=X, glm=adelie.glm.gaussian(y), lmda_path=numpy.array([0.1]), "
                "progress_bar=False)",
            ),
            Program(
                "python-glmnet",
                "python-glmnet",
                "glmnet",
                "from glmnet import ElasticNet",
                "ElasticNet(alpha=1, n_splits=0, lambda_path=[0.1]).fit(X, y)",
            ),
            Program(
                "scikit-learn",
                "scikit-learn",
                "sklearn",
                "from sklearn.linear_model import Lasso",
                fit,
            ),
        ),
    )


def problems(*, quick=False):
    """Return the family's problems in the order of the report.

    Parameters
    ----------
    quick : bool
        Sizes that show in a minute that everything runs; their times say little.

    Returns
    -------
    list of Race, FigureTable, TaskRace or Startup
    """
    return [
        _dense_path(
            "dense_path",
            "Dense Lasso path",
            quick,
            n_samples=500,
            n_features=5000,
            rho=0.5,
            n_nonzero=100,
        ),
        _dense_path(
            "dense_path_correlated",
            "Dense Lasso path, stronger correlation",
            quick,
            n_samples=600,
            n_features=4000,
            rho=0.7,
            n_nonzero=80,
        ),
        _sparse_path(
            "sparse_path",
            "Sparse Lasso path",
            quick,
            n_samples=10_000,
            n_features=50_000,
            n_stored=1_000_000,
        ),
        _sparse_path(
            "sparse_path_wide",
            "Sparse Lasso path, wider",
            quick,
            n_samples=8000,
            n_features=60_000,
            n_stored=960_000,
        ),
        _single_sparse_fit(quick),
        _cross_validation(quick),
        group_race("group_path_5", quick, 5),
        group_race("group_path_10", quick, 10),
        logistic_race(quick),
        _linear_hard.hard_designs(quick),
        _linear_hard.benign_designs(quick),
        _linear_blocks.orders(quick),
        _linear_blocks.termination(quick),
        _linear_blocks.cost(quick),
        _starting(),
    ]
