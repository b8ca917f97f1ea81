"""What the private estimators attain: errors on simulated data, and flights.

Beside them stand a library for central privacy, which sees every record, and estimators without
any privacy.
"""

import numpy as np

from . import _peers
from ._figures import FigureTable, Method, Setting

_NOISE = 0.5
# Coins must not come from the seed that the data came from.
COINS = 1_000_000

_DIFFPRIVLIB = """
from diffprivlib.models import LinearRegression

def call(arrays, options):
    bounds, y_bound = arrays["bounds"], options.pop("y_bound")
    model = LinearRegression(bounds_X=(-bounds, bounds), bounds_y=(-y_bound, y_bound), **options)
    return model.fit(arrays["X"], arrays["y"]).coef_.ravel().tolist()
"""


def draw_regression(n_samples, n_features, n_nonzero=3, n_public=0):
    """Data with a known answer, and rows without targets if they are asked for."""
    from sparsestat.datasets import make_sparse_regression

    def draw(seed):
        data = make_sparse_regression(
            n_samples, n_features, n_nonzero, noise=_NOISE, random_state=seed
        )
        if n_public:
            rng = np.random.default_rng([seed, n_public])
            data.public = rng.standard_normal((n_public, n_features))
        return data

    return draw


# --------------------------------------------------------------------------- errors


def _error(data, coef):
    return np.linalg.norm(coef - data.coef)


def _ours(name, make, **options):
    """A method that is fitted with coins of its own; `make` maps the room and a problem to it."""

    def fit(data, seed, threads):
        from sparsestat import privacy

        model = make(privacy, data)
        return model.set_params(random_state=COINS + seed).fit(data.data, data.target).coef_

    return Method(name, "sparsestat", "sparsestat", fit, _error, ours=True, **options)


def _regressor(name="LDPSparseRegressor", *, aim=(None, None), n_seeds=None, **params):
    return _ours(
        name, lambda privacy, data: privacy.LDPSparseRegressor(**params), aim=aim, n_seeds=n_seeds
    )


def _iht(name="LDPIHTRegressor, n_nonzero=3", *, aim=(None, None), n_seeds=None, **params):
    return _ours(
        name,
        lambda privacy, data: privacy.LDPIHTRegressor(n_nonzero=3, **params),
        aim=aim,
        n_seeds=n_seeds,
    )


def errors(quick):
    seeds = tuple(range(2 if quick else 40))
    scale = 10 if quick else 1
    public = 200_000 // scale

    def at_most(limit):
        # Fewer users have a larger error.
        return (None, None if quick else limit)

    def setting(n_features, n_samples, methods, n_public=0):
        n_samples //= scale
        return Setting(
            f"d = {n_features}, n = {n_samples:,}",
            draw_regression(n_samples, n_features, n_public=n_public),
            seeds,
            methods,
        )

    return FigureTable(
        "error",
        "Error of the coefficients",
        "Standard normal features, three coefficients of ±1/√3, noise of standard deviation 0.5, "
        "epsilon 1, settings at their defaults unless they are named. A vector of zeros has the "
        "error 1. With the constants of the paper delta is 1e-5, where it is needed.",
        "median l2 error",
        (
            setting(
                10,
                300_000,
                (
                    _regressor("LDPSparseRegressor, defaults", aim=at_most(0.2)),
                    _regressor("LDPSparseRegressor, n_nonzero=3", n_nonzero=3),
                    _ours(
                        "LDPSparseRegressorCV",
                        lambda privacy, data: privacy.LDPSparseRegressorCV(),
                    ),
                    _regressor("the paper's constants", paper_constants=True, delta=1e-5),
                ),
            ),
            setting(20, 100_000, (_iht(aim=at_most(0.28)),)),
            setting(
                20,
                300_000,
                (
                    _iht(aim=at_most(0.13)),
                    _iht("the paper's constants, n_nonzero=3", paper_constants=True),
                    _regressor("LDPSparseRegressor, defaults"),
                    _ours(
                        f"LDPSparseRegressor, {public:,} public rows",
                        lambda privacy, data: privacy.LDPSparseRegressor(X_public=data.public),
                    ),
                ),
                public,
            ),
        ),
        {"data sets": len(seeds)},
    )


def rate(quick):
    seeds = tuple(range(2 if quick else 20))
    public = 20_000 if quick else 200_000
    sizes = (3000, 10_000) if quick else (10_000, 30_000, 100_000, 300_000)
    name = "solution of the moments, no threshold"

    def fit(data, seed, threads):
        from sparsestat.privacy import LDPSparseRegressor

        model = LDPSparseRegressor(X_public=data.public, random_state=COINS + seed)
        moments = model.fit(data.data, data.target).moments_
        return np.linalg.solve(moments.S, moments.b)

    method = Method(name, "sparsestat", "sparsestat", fit, _error, ours=True)
    return FigureTable(
        "rate",
        "Error against the number of users",
        "20 features, epsilon 1, and a Gram matrix from public rows. The solution of the moments, "
        "before anything is set to zero, should lose error with the square root of the number of "
        "users: the slope of its logarithm is -1/2 in theory.",
        "mean l2 error",
        tuple(
            Setting(
                f"n = {size:,}", draw_regression(size, 20, n_public=public), seeds, (method,), size
            )
            for size in sizes
        ),
        {"data sets": len(seeds), "public rows": public},
        "mean",
        {} if quick else {name: (-0.62, -0.42)},
    )


def _central(X, y, seed, threads, *, epsilon, X_bounds, y_bound):
    """Fit diffprivlib's linear regression, which sees all records, in its own environment."""
    bounds = np.broadcast_to(np.array(X_bounds, dtype=float), X.shape[1])
    return _peers.call(
        "diffprivlib",
        _DIFFPRIVLIB,
        {"X": X, "y": y, "bounds": bounds},
        {
            "epsilon": epsilon,
            "y_bound": y_bound,
            "fit_intercept": False,
            "random_state": seed,
        },
        threads=threads,
    )


def price(quick):
    seeds = tuple(range(2 if quick else 10))
    sizes = (10_000,) if quick else (10_000, 100_000, 300_000)
    public = 20_000 if quick else 200_000

    def central(data, seed, threads):
        return _central(
            data.data, data.target, seed, threads, epsilon=1.0, X_bounds=4.0, y_bound=4.0
        )

    def lasso(n_rows=None):
        def fit(data, seed, threads):
            from sklearn.linear_model import LassoCV

            model = LassoCV(fit_intercept=False)
            return model.fit(data.data[:n_rows], data.target[:n_rows]).coef_

        return fit

    methods = (
        _regressor("LDPSparseRegressor, local"),
        _iht("LDPIHTRegressor, n_nonzero=3, local"),
        _ours(
            f"LDPSparseRegressor, local, {public:,} public rows",
            lambda privacy, data: privacy.LDPSparseRegressor(X_public=data.public),
        ),
        Method(
            "diffprivlib LinearRegression, central",
            "diffprivlib",
            None,
            central,
            lambda data, found: _error(data, np.array(found)),
        ),
        Method(
            "scikit-learn LassoCV, no privacy",
            "scikit-learn",
            "sklearn",
            lasso(),
            _error,
        ),
        Method(
            "scikit-learn LassoCV, no privacy, the first 1,000 records",
            "scikit-learn",
            "sklearn",
            lasso(1000),
            _error,
        ),
    )
    return FigureTable(
        "price",
        "The price of privacy",
        "20 features, three of them relevant, epsilon 1 for every method that has one. Local: "
        "nobody sees a record. Central: diffprivlib sees all of them and adds noise to its "
        "objective; it is told the bounds ±4 and does not use that few coefficients matter.",
        "median l2 error",
        tuple(
            Setting(f"n = {size:,}", draw_regression(size, 20, n_public=public), seeds, methods)
            for size in sizes
        ),
        {"features": 20, "data sets": len(seeds)},
    )


# --------------------------------------------------------------------------- real data

# Sizes that no feature exceeds in public units: delays are cut off at three hours, no flight is
# longer than 5,000 miles, a day has 24 hours, and indicators are 0 or 1.
_FLIGHT_BOUNDS = (4.25, 5.75, 2.6, 3.0, 1.43, 1.43, 1.56, 1.56, 1.56, 2.0, 2.0, 2.0)


def _flights_split(n_train):
    """Flights in public units, in an order of the seed, with 30,000 of them left for the score."""
    from sparsestat.datasets import load_flights

    flights = load_flights()
    X = (flights.data - np.array(flights.feature_center)) / np.array(flights.feature_scale)
    y = (flights.target - flights.y_center) / flights.y_scale

    def draw(seed):
        order = np.random.default_rng(seed).permutation(len(X))
        test, train = order[:30_000], order[30_000:][:n_train]
        return {"X": X[train], "y": y[train], "X_test": X[test], "y_test": y[test]}

    return draw


def _explained(split, coef):
    """R2 on the flights that were left out."""
    residual = split["y_test"] - split["X_test"] @ coef
    return 1.0 - residual @ residual / (len(residual) * split["y_test"].var())


def flights(quick):
    seeds = (0,) if quick else (0, 1, 2)
    n_train = 30_000 if quick else None
    loaded = []

    def draw(seed):
        if not loaded:
            loaded.append(_flights_split(n_train))
        return loaded[0](seed)

    def local(name, make):
        def fit(split, seed, threads):
            from sparsestat import privacy

            model = make(privacy).set_params(random_state=COINS + seed)
            return model.fit(split["X"], split["y"]).coef_

        return Method(name, "sparsestat", "sparsestat", fit, _explained, ours=True)

    def central(epsilon):
        def fit(split, seed, threads):
            return _central(
                split["X"],
                split["y"],
                seed,
                threads,
                epsilon=epsilon,
                X_bounds=_FLIGHT_BOUNDS,
                y_bound=4.5,
            )

        return Method(
            "diffprivlib LinearRegression, central",
            "diffprivlib",
            None,
            fit,
            lambda split, found: _explained(split, np.array(found)),
        )

    def ordinary(split, seed, threads):
        return np.linalg.lstsq(split["X"], split["y"], rcond=None)[0]

    def setting(epsilon):
        return Setting(
            f"epsilon = {epsilon:g}",
            draw,
            seeds,
            (
                local("LDPSparseRegressor, local", lambda p: p.LDPSparseRegressor(epsilon)),
                local("LDPSparseRegressorCV, local", lambda p: p.LDPSparseRegressorCV(epsilon)),
                local(
                    "LDPIHTRegressor, n_nonzero=2, local",
                    lambda p: p.LDPIHTRegressor(epsilon, n_nonzero=2),
                ),
                central(epsilon),
            ),
        )

    least_squares = Method(
        "numpy least squares, no privacy", "numpy", "numpy", ordinary, _explained
    )
    return FigureTable(
        "flights",
        "Delays of flights",
        "The delay on arrival of 327,346 flights from New York, from twelve features that are "
        "known when the plane leaves, in units that were fixed without looking at the data; "
        "nothing else is told to anybody but bounds, which diffprivlib gets for each feature. R² "
        "on 30,000 flights that are left out, for three splits.",
        "median R²",
        (
            *(setting(epsilon) for epsilon in (1.0, 2.0, 4.0)),
            Setting("no privacy", draw, seeds, (least_squares,)),
        ),
        {"features": 12, "splits": len(seeds)},
    )
