"""Races of the group lasso and of sparse logistic regression, each over a path."""

import numpy as np
from scipy import sparse
from scipy.special import xlogy

from ._measure import Case, Race, Solver
from ._problems import autoregressive_rows

_NO_LIMIT = 1_000_000
_GROUP_GAP = "largest duality gap over the path, relative to ||y||²/2"
_CLASS_GAP = "largest duality gap over the path, relative to the loss of equal probabilities"


# --------------------------------------------------------------------------- groups


def group_regression(n_samples, n_features, size, *, rho=0.5, n_groups=20, snr=3.0, seed=0):
    """Draw centred rows of an AR(1) process, and a response to some groups of neighbours."""
    rng = np.random.default_rng(seed)
    X = autoregressive_rows(n_samples, n_features, rho, rng)
    X -= X.mean(axis=0)
    coef = np.zeros((n_features // size, size))
    chosen = rng.choice(len(coef), n_groups, replace=False)
    coef[chosen] = rng.standard_normal((n_groups, size))
    fitted = X @ coef.ravel()
    y = fitted + rng.standard_normal(n_samples) * fitted.std() / np.sqrt(snr)
    return X, y - y.mean()


def group_norms(values, size):
    """Euclidean norms of consecutive groups along the first axis."""
    return np.linalg.norm(values.reshape(-1, size, *values.shape[1:]), axis=1)


def group_gaps(X, y, size, alphas, coefs):
    """Relative duality gaps of group lassos with weights ``sqrt(size)``."""
    gaps = []
    for alpha, coef in zip(alphas, np.asarray(coefs).T):
        residual = y - X @ coef
        bar = len(y) * alpha * np.sqrt(size)
        rr, yr = residual @ residual, y @ residual
        scale = min(yr / rr, bar / group_norms(X.T @ residual, size).max())
        primal = 0.5 * rr + bar * group_norms(coef, size).sum()
        gaps.append((primal - scale * yr + 0.5 * scale**2 * rr) / (0.5 * y @ y))
    return np.array(gaps)


def _sparsestat_groups(X, y, size, alphas):
    from sparsestat.linear_model import group_lasso_path

    return lambda tol: group_lasso_path(X, y, groups=size, alphas=alphas, tol=tol)[1]


def _celer_groups(X, y, size, alphas):
    from celer.homotopy import celer_path

    weights = np.full(X.shape[1] // size, np.sqrt(size))

    def call(tol):
        return celer_path(
            X,
            y,
            "grouplasso",
            groups=size,
            alphas=alphas,
            tol=tol,
            weights=weights,
            max_iter=100,
            max_epochs=100_000,
        )[1]

    return call


def _adelie_groups(X, y, size, alphas):
    import adelie

    def call(tol):
        return adelie.grpnet(
            X=adelie.matrix.dense(X, n_threads=1),
            glm=adelie.glm.gaussian(y),
            groups=np.arange(0, X.shape[1], size),
            lmda_path=alphas,
            intercept=False,
            early_exit=False,
            tol=tol,
            max_iters=_NO_LIMIT,
            max_screen_size=X.shape[1],
            n_threads=1,
            progress_bar=False,
        )

    return call


def _dense_coefs(state):
    return state.betas.toarray().T


def group_race(key, quick, size):
    """A path of group lassos, against those who have one."""
    n_samples, n_features = (100, 500) if quick else (500, 5000)

    def build():
        n_groups = 4 if quick else 20
        X, y = group_regression(n_samples, n_features, size, n_groups=n_groups)
        largest = group_norms(X.T @ y, size).max() / (np.sqrt(size) * n_samples)
        alphas = largest * np.geomspace(1.0, 0.01, 100)

        def solver(name, module, prepare, tolerances, **options):
            return Solver(
                name, name, module, lambda: prepare(X, y, size, alphas), tolerances, **options
            )

        ours = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
        solvers = [
            solver("sparsestat", "sparsestat", _sparsestat_groups, ours, ours=True),
            solver("celer", "celer", _celer_groups, (1e-7, 1e-8, 1e-9, 1e-10)),
            solver(
                "adelie",
                "adelie",
                _adelie_groups,
                (1e-13, 1e-14, 1e-15, 1e-16),
                extract=_dense_coefs,
            ),
        ]
        sizes = {
            "samples": n_samples,
            "features": n_features,
            "columns of a group": size,
            "alphas": 100,
            "alpha_min / alpha_max": 0.01,
        }
        return Case(solvers, lambda coefs: group_gaps(X, y, size, alphas, coefs).max(), sizes)

    return Race(
        key,
        f"Group lasso path, groups of {size}",
        "Rows from an AR(0.5) process, 20 groups of neighbours with standard normal coefficients, "
        "signal energy three times that of the noise, no intercept. The aim is to be no slower "
        "than the faster of the others.",
        build,
        target=1e-6,
        accuracy_name=_GROUP_GAP,
    )


# --------------------------------------------------------------------------- classes


def two_classes(n_samples, n_features, *, rho=0.5, n_nonzero=20, seed=0):
    """Draw rows of an AR(1) process and classes from a logistic model."""
    rng = np.random.default_rng(seed)
    X = autoregressive_rows(n_samples, n_features, rho, rng)
    coef = np.zeros(n_features)
    coef[rng.choice(n_features, n_nonzero, replace=False)] = rng.standard_normal(n_nonzero)
    y = rng.random(n_samples) < 1.0 / (1.0 + np.exp(-X @ coef))
    return X, y.astype(float)


def logistic_gaps(X, y, alphas, coefs):
    """Relative duality gaps of logistic regressions without an intercept."""
    gaps = []
    signs = 1.0 - 2.0 * y
    coefs = coefs.toarray() if sparse.issparse(coefs) else np.asarray(coefs)
    for alpha, coef in zip(alphas, coefs.T):
        scores = signs * (X @ coef)
        wrong = 1.0 / (1.0 + np.exp(-scores))
        bar = len(y) * alpha
        primal = np.logaddexp(0.0, scores).sum() + bar * np.abs(coef).sum()
        scale = min(1.0, bar / np.abs(X.T @ (signs * wrong)).max())
        q = scale * wrong
        dual = -(xlogy(q, q) + (1.0 - q) * np.log1p(-q)).sum()
        gaps.append((primal - dual) / (len(y) * np.log(2.0)))
    return np.array(gaps)


def _sparsestat_classes(X, y, alphas):
    from sparsestat.linear_model import logistic_path

    return lambda tol: logistic_path(X, y, alphas=alphas, fit_intercept=False, tol=tol)[1]


def _celer_classes(X, y, alphas):
    from celer import celer_path

    labels = 2.0 * y - 1.0
    bars = alphas * len(y)
    return lambda tol: celer_path(X, labels, "logreg", alphas=bars, tol=tol, max_iter=1000)[1]


def _glmnet_classes(X, y, alphas):
    from glmnet import LogitNet

    def call(tol):
        return LogitNet(
            alpha=1,
            n_splits=0,
            lambda_path=alphas,
            tol=tol,
            standardize=False,
            fit_intercept=False,
            max_iter=_NO_LIMIT,
        ).fit(X, y)

    return call


def _glmnet_coefs(model):
    return np.asarray(model.coef_path_).reshape(-1, len(model.lambda_path_))


def _liblinear_classes(X, y, alphas):
    from sklearn.linear_model import LogisticRegression

    def call(tol):
        fits = [
            LogisticRegression(
                l1_ratio=1.0,
                C=1.0 / (alpha * len(y)),
                solver="liblinear",
                fit_intercept=False,
                tol=tol,
                max_iter=_NO_LIMIT,
                random_state=0,
            ).fit(X, y)
            for alpha in alphas
        ]
        return np.concatenate([fit.coef_ for fit in fits]).T

    return call


def logistic_race(quick):
    """A path of sparse logistic regressions, against those who have one, and liblinear."""
    n_samples, n_features = (80, 300) if quick else (500, 3000)

    def build():
        X, y = two_classes(n_samples, n_features)
        n_alphas, ratio = 50, 0.02
        largest = np.abs(X.T @ (y - 0.5)).max() / n_samples
        alphas = largest * np.geomspace(1.0, ratio, n_alphas)

        def solver(name, label, module, prepare, tolerances, **options):
            return Solver(label, name, module, lambda: prepare(X, y, alphas), tolerances, **options)

        ours = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
        solvers = [
            solver("sparsestat", "sparsestat", "sparsestat", _sparsestat_classes, ours, ours=True),
            solver("celer", "celer", "celer", _celer_classes, (1e-5, 1e-6, 1e-7)),
            solver(
                "python-glmnet",
                "python-glmnet",
                "glmnet",
                _glmnet_classes,
                (1e-9, 1e-11, 1e-13),
                extract=_glmnet_coefs,
            ),
            solver(
                "scikit-learn",
                "scikit-learn, liblinear",
                "sklearn",
                _liblinear_classes,
                (1e-4, 1e-6, 1e-8),
            ),
        ]
        sizes = {
            "samples": n_samples,
            "features": n_features,
            "alphas": n_alphas,
            "alpha_min / alpha_max": ratio,
        }
        return Case(solvers, lambda coefs: logistic_gaps(X, y, alphas, coefs).max(), sizes)

    return Race(
        "logistic_path",
        "Logistic path",
        "Rows from an AR(0.5) process, 20 standard normal coefficients, classes from the logistic "
        "model, no intercept. liblinear has no path: one fit for each strength. The aim is at "
        "most 0.6 times the time of celer and of liblinear, and that of glmnet.",
        build,
        target=1e-6,
        accuracy_name=_CLASS_GAP,
    )
