"""Regression on designs that are hard for the Lasso, and on some that are not."""

import numpy as np

from ._figures import FigureTable, Method, Setting

# The order in which probes are drawn must not come from the seed that the data came from.
_SHUFFLE = 1_000_000
_SIZES = {
    "latent": (200, 400, 6),
    "nested": (200, 400, 6),
    "blocks": (250, 800, 8),
    "iid": (200, 400, 6),
    "smooth": (200, 400, 6),
}


def _draw(kind, sizes):
    from sparsestat.datasets import make_ill_conditioned_regression

    return lambda seed: make_ill_conditioned_regression(*sizes, kind=kind, random_state=seed)


def _over_oracle(data, coef):
    """Compute the prediction error in units of what least squares on the true support has."""
    error = np.mean((data.data @ (data.coef - coef)) ** 2)
    return error / (data.noise**2 * len(data.support) / len(data.target))


def _random_support(name, aim, score=_over_oracle, **params):
    def fit(data, seed, threads):
        from sparsestat.linear_model import RandomSupportRegressor

        model = RandomSupportRegressor(random_state=_SHUFFLE + seed, **params)
        return model.fit(data.data, data.target).coef_

    return Method(name, "sparsestat", "sparsestat", fit, score, ours=True, aim=aim)


def _lasso(data, seed, threads):
    from sparsestat.linear_model import LassoCV

    return LassoCV(eps=1e-4).fit(data.data, data.target).coef_


def _omp(data, seed, threads):
    from sklearn.linear_model import OrthogonalMatchingPursuitCV

    return OrthogonalMatchingPursuitCV().fit(data.data, data.target).coef_


def hard_designs(quick):
    """Prediction errors over those of the true support."""
    seeds = tuple(range(2 if quick else 10))
    free = (None, None)

    def setting(kind, plain, refitted):
        sizes = (60, 100, 3) if quick else _SIZES[kind]
        aims = (free, free) if quick else (plain, refitted)
        name = "{}, n = {}, d = {}, k = {}".format(kind, *sizes)
        methods = (
            _random_support("RandomSupportRegressor, refit=None", aims[0], refit=None),
            _random_support('RandomSupportRegressor, refit="cv"', aims[1]),
            Method("LassoCV, eps=1e-4", "sparsestat", "sparsestat", _lasso, _over_oracle),
            Method(
                "scikit-learn, OrthogonalMatchingPursuitCV",
                "scikit-learn",
                "sklearn",
                _omp,
                _over_oracle,
            ),
        )
        return Setting(name, _draw(kind, sizes), seeds, methods)

    return FigureTable(
        "hard_designs",
        "Random supports on ill-conditioned designs",
        "Data from make_ill_conditioned_regression: random supports whose coefficients put the "
        "same energy into every singular direction, signal-to-noise ratio 20. The error is that "
        "of the fitted values, in units of what least squares on the true support has on "
        "average. The aims are 10 before and 4 (nested) and 2 (blocks) after the refit, and a "
        "tenth of the Lasso's.",
        "median prediction error / oracle",
        (
            setting("latent", (None, 10.0), free),
            setting("nested", (None, 10.0), (None, 4.0)),
            setting("blocks", (None, 10.0), (None, 2.0)),
            setting("iid", free, free),
            setting("smooth", free, free),
        ),
        {"seeds": len(seeds)},
    )


def _diabetes(seed):
    """Cubic terms of the diabetes data, with a fifth of the rows left out for the score."""
    from sklearn.datasets import load_diabetes
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler
    from sklearn.utils import Bunch

    X, y = load_diabetes(return_X_y=True)
    X = PolynomialFeatures(degree=3, include_bias=False).fit_transform(X)
    train, test, target, held_out = train_test_split(X, y, test_size=0.2, random_state=seed)
    scaler = StandardScaler().fit(train)
    return Bunch(
        data=scaler.transform(train),
        target=target,
        test=scaler.transform(test),
        held_out=held_out,
    )


def _held_out_error(data, coef):
    residual = data.held_out - data.test @ coef
    shift = np.mean(data.target - data.data @ coef)
    return np.mean((residual - shift) ** 2)


def benign_designs(quick):
    """What the search over probes costs where none are needed."""
    seeds = tuple(range(2 if quick else 10))
    aim = (None, None) if quick else (None, 1.05)

    def relative(score):
        def to_lasso(data, coef):
            return score(data, coef) / score(data, _lasso(data, None, None))

        return to_lasso

    def setting(name, draw, score):
        method = _random_support("RandomSupportRegressor", aim, relative(score))
        return Setting(name, draw, seeds, (method,))

    sizes = (60, 100, 3) if quick else (200, 400, 6)
    return FigureTable(
        "benign_designs",
        "Random supports where the Lasso is at home",
        "The ratio of the error of RandomSupportRegressor, at its defaults, to that of "
        "LassoCV(eps=1e-4) on the same data: prediction errors on simulated data, squared errors "
        "on a fifth of the rows left out for the cubic terms of the diabetes data. The aim is at "
        "most 1.05.",
        "median ratio of errors",
        (
            setting("iid, {}, {}, {}".format(*sizes), _draw("iid", sizes), _over_oracle),
            setting("smooth, {}, {}, {}".format(*sizes), _draw("smooth", sizes), _over_oracle),
            setting("diabetes, cubic terms", _diabetes, _held_out_error),
        ),
        {"seeds": len(seeds)},
    )
