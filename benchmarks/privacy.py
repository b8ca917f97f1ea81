"""Local differential privacy: speed of client and server, and what the estimators attain.

What is raced is the work that grows with the number of users: making reports and adding them up.
What is tabulated is the error of the estimators, beside that of a library for central privacy,
which sees every record, and of estimators without any privacy.
"""

import numpy as np

from . import _peers
from ._figures import FigureTable, Method, Setting
from ._startup import Program, Startup
from ._tasks import Task, TaskRace

FAMILY = "privacy"
_NOISE = 0.5
_BLOCK = 500
# Coins must not come from the seed that the data came from.
_COINS = 1_000_000

_DIFFPRIVLIB = """
from diffprivlib.models import LinearRegression

def call(arrays, options):
    model = LinearRegression(**options).fit(arrays["X"], arrays["y"])
    return {"coef": model.coef_.ravel().tolist(), "intercept": float(model.intercept_)}
"""


def _moments_config(n_features, **options):
    from sparsestat.privacy import LDPConfig

    return LDPConfig("moments", n_features, **options)


def _draw(n_samples, n_features, n_nonzero=3, n_public=0):
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


# --------------------------------------------------------------------------- decoding


def _batch(config, n_reports):
    from sparsestat.privacy import SimulationRandomizer

    data = _draw(n_reports, config.n_features)(0)
    randomizer = SimulationRandomizer(config, random_state=_COINS)
    return randomizer.randomize_batch(data.data, data.target)


def _decode(batch, n_jobs):
    from sparsestat.privacy import MomentAggregator

    return MomentAggregator(batch.config, allow_simulated=True, n_jobs=n_jobs).add_batch(batch)


def _sums(state):
    """The integers of a state of mechanism "one_bit", which its bytes end with."""
    dim = state.config.dim
    return np.frombuffer(state.to_bytes()[-8 * dim :], dtype="<i8")


def _signs(batch):
    return np.where(np.asarray(batch.payload).ravel() & 1, 1, -1)


def _decode_by_blocks(batch, n_reports):
    """The same integers by numpy, some reports at a time."""
    from sparsestat.privacy._directions import direction_keys, directions

    config = batch.config
    keys = direction_keys(config.fingerprint(), 0, 1)
    nonces, signs = np.asarray(batch.nonces)[:n_reports], _signs(batch)[:n_reports]
    sums = np.zeros(config.dim, dtype=np.int64)
    for start in range(0, n_reports, _BLOCK):
        rows = slice(start, start + _BLOCK)
        sums += signs[rows] @ directions(nonces[rows], keys, config.dim)[:, 0]
    return sums


def _decode_by_generators(batch, n_reports):
    """Normal directions, drawn again for every report from a generator that its nonce seeds."""
    dim, signs = batch.config.dim, _signs(batch)
    sums = np.zeros(dim)
    for nonce, sign in zip(batch.nonces[:n_reports].tolist(), signs):
        direction = np.random.Generator(np.random.Philox(key=nonce)).standard_normal(dim)
        sums += sign * direction
    return sums


def _same_integers(batch, n_jobs, n_reports):
    def check():
        few = batch[:n_reports]
        if not np.array_equal(_sums(_decode(few, n_jobs)), _decode_by_blocks(few, n_reports)):
            raise AssertionError("the integers differ from those of numpy")
        if _decode(batch, n_jobs) != _decode(batch, 1):
            raise AssertionError("the integers depend on the threads")
        return f"integers equal to numpy's for {n_reports:,} reports, and for any threads"

    return check


def _decoding(quick, n_jobs):
    n_features, n_reports = 50, 20_000 if quick else 400_000
    n_blocks, n_generators = (1000, 200) if quick else (20_000, 4000)
    two = n_jobs == 2
    config = _moments_config(n_features)

    def ours(batch, threads, **options):
        return Task(
            f"sparsestat, {threads} thread" + "s" * (threads > 1),
            "sparsestat",
            "sparsestat",
            lambda: lambda: _decode(batch, threads),
            n_reports,
            threads=threads,
            check=_same_integers(batch, threads, 2000),
            **options,
        )

    def build():
        batch = _batch(config, n_reports)
        if two:
            return [ours(batch, 2, ours=True), ours(batch, 1, aim=1.6)]
        return [
            ours(batch, 1, ours=True),
            Task(
                "numpy, a Philox generator and normal numbers for each report",
                "numpy",
                "numpy",
                lambda: lambda: _decode_by_generators(batch, n_generators),
                n_generators,
                aim=30.0,
            ),
            Task(
                f"numpy, the same integers in blocks of {_BLOCK} reports",
                "numpy",
                "numpy",
                lambda: lambda: _decode_by_blocks(batch, n_blocks),
                n_blocks,
            ),
        ]

    return TaskRace(
        "decode_two_threads" if two else "decode",
        "Adding up reports on two threads" if two else "Adding up reports",
        "The server makes the direction of every report again and adds it with the sign that the "
        "report has. "
        + (
            "Two threads against one, by wall time; whoever else uses the computer shows here."
            if two
            else "Regenerating normal directions with numpy is what a straightforward server "
            "would do; those sums are other numbers with the same use."
        ),
        "report",
        build,
        {"entries of a direction": config.dim, "features": n_features, "reports": n_reports},
        clock="wall" if two else "cpu",
        threads=n_jobs,
    )


# --------------------------------------------------------------------------- encoding


def _opendp_gaussian(dim, integers):
    """The vector Gaussian of opendp, on entries of the size that a report's vector has."""

    def prepare():
        import opendp.prelude as dp

        dp.enable_features("contrib")
        values = np.random.default_rng(0).standard_normal(dim)
        if integers:
            atoms, metric, scale = dp.atom_domain(T=int), dp.l2_distance(T=int), 1e4
            values = [round(1000 * value) for value in values]
        else:
            atoms, metric, scale = dp.atom_domain(T=float, nan=False), dp.l2_distance(T=float), 10.0
            values = values.tolist()
        measurement = dp.m.make_gaussian(dp.vector_domain(atoms, size=dim), metric, scale=scale)
        return lambda: measurement(values)

    return prepare


def _encoding(quick):
    from sparsestat.privacy import LDPConfig

    n_features, n_reports = 50, 5000 if quick else 100_000
    n_single, n_gaussian = (20, 1) if quick else (1000, 10)
    one_bit = LDPConfig("moments", n_features)
    gaussian = LDPConfig("moments", n_features, delta=1e-5, mechanism="discrete_gaussian")

    def singly(config, data, n_records):
        def prepare():
            from sparsestat.privacy import Randomizer

            records = list(zip(data.data[:n_records], data.target[:n_records].tolist()))

            def call():
                for x, y in records:
                    Randomizer(config).randomize(x, y)

            return call

        return prepare

    def by_batch(data):
        def prepare():
            from sparsestat.privacy import SimulationRandomizer

            randomizer = SimulationRandomizer(one_bit, random_state=_COINS)
            return lambda: randomizer.randomize_batch(data.data, data.target)

        return prepare

    def size(config):
        return {"bytes a report": config.report_size}

    def build():
        data = _draw(n_reports, n_features)(0)
        name = "sparsestat"
        vector = {"bytes a report": 8 * one_bit.dim}
        return [
            Task(
                f"{name}, one bit, all clients in one process",
                name,
                name,
                by_batch(data),
                n_reports,
                ours=True,
                facts=size(one_bit),
            ),
            Task(
                f"{name}, one bit, one client after another (numpy only)",
                name,
                name,
                singly(one_bit, data, n_single),
                n_single,
                facts=size(one_bit),
            ),
            Task(
                f"{name}, discrete Gaussian, one client after another (numpy only)",
                name,
                name,
                singly(gaussian, data, n_gaussian),
                n_gaussian,
                facts=size(gaussian),
            ),
            Task(
                "opendp, vector Gaussian of floats (another message)",
                "opendp",
                "opendp",
                _opendp_gaussian(one_bit.dim, integers=False),
                aim=1000.0,
                facts=vector,
            ),
            Task(
                "opendp, vector Gaussian of integers (another message)",
                "opendp",
                "opendp",
                _opendp_gaussian(one_bit.dim, integers=True),
                facts=vector,
            ),
        ]

    return TaskRace(
        "encode",
        "Making reports",
        "What a client does with its record. The message of opendp is another one: a whole noisy "
        "vector, from an exact sampler of discrete distributions, and its time has the noise "
        "alone, not the products of the features. The ratio says what the choice of one bit "
        "saves, not that one sampler is better than the other; our discrete Gaussian, which is "
        "exact too and written for clients that have nothing but numpy, is the like of it.",
        "report",
        build,
        {"entries of a vector": one_bit.dim, "features": n_features, "reports": n_reports},
    )


# --------------------------------------------------------------------------- state and fits


def _state_sizes(quick):
    def bytes_of(n_reports):
        def fit(batch, seed, threads):
            return _decode(batch[:n_reports], 1).to_bytes()

        return fit

    def setting(n_features):
        config = _moments_config(n_features)
        limit = 8 * config.dim + 2048
        numbers = (10, 1000) if quick else (10, 1000, 100_000)
        return Setting(
            f"d = {n_features}, p = {config.dim:,}, limit 8 p + 2,048 = {limit:,}",
            lambda seed: _batch(config, max(numbers)),
            (0,),
            tuple(
                Method(
                    f"after {number:,} reports",
                    "sparsestat",
                    "sparsestat",
                    bytes_of(number),
                    lambda batch, state: len(state),
                    ours=True,
                    aim=(None, limit),
                )
                for number in numbers
            ),
        )

    return FigureTable(
        "state",
        "State of the server",
        "Bytes of the state, which is what servers send each other, whatever the number of "
        "reports.",
        "bytes",
        tuple(setting(n_features) for n_features in (10, 20, 50)),
        {"bits a report": 1},
    )


def _fitting(quick):
    n_samples = 10_000 if quick else 300_000
    sizes = (10, 20, 50)

    def task(name, n_features, make):
        def prepare():
            data = _draw(n_samples, n_features)(0)
            return lambda: make().fit(data.data, data.target)

        return Task(f"{name}, d = {n_features}", "sparsestat", "sparsestat", prepare)

    def build():
        from sparsestat.privacy import LDPIHTRegressor, LDPSparseRegressor

        options = {"random_state": _COINS, "n_jobs": 1}
        moments = [
            task("LDPSparseRegressor", d, lambda: LDPSparseRegressor(**options)) for d in sizes
        ]
        rounds = [
            task("LDPIHTRegressor", d, lambda: LDPIHTRegressor(n_nonzero=3, **options))
            for d in sizes
        ]
        return moments + rounds

    return TaskRace(
        "fit",
        "Simulating a campaign",
        "A whole fit: every client's report, the server's sums, and the solution.",
        "fit",
        build,
        {"records": n_samples},
    )


# --------------------------------------------------------------------------- errors


def _error(data, coef):
    return np.linalg.norm(coef - data.coef)


def _ours(name, make, seed_free=(), **options):
    """A method that is fitted with coins of the seed; `seed_free` are its constant parameters."""

    def fit(data, seed, threads):
        from sparsestat import privacy

        model = make(privacy, data)
        return model.set_params(random_state=_COINS + seed).fit(data.data, data.target).coef_

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


def _errors(quick):
    seeds = tuple(range(2 if quick else 40))
    scale = 10 if quick else 1
    public = 200_000 // scale

    def setting(n_features, n_samples, methods, n_public=0):
        n_samples //= scale
        return Setting(
            f"d = {n_features}, n = {n_samples:,}",
            _draw(n_samples, n_features, n_public=n_public),
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
                    _regressor("LDPSparseRegressor, defaults", aim=(None, 0.2)),
                    _regressor("LDPSparseRegressor, n_nonzero=3", n_nonzero=3),
                    _ours(
                        "LDPSparseRegressorCV",
                        lambda privacy, data: privacy.LDPSparseRegressorCV(),
                    ),
                    _regressor("the paper's constants", paper_constants=True, delta=1e-5),
                ),
            ),
            setting(20, 100_000, (_iht(aim=(None, 0.28)),)),
            setting(
                20,
                300_000,
                (
                    _iht(aim=(None, 0.13)),
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


def _rate(quick):
    seeds = tuple(range(2 if quick else 20))
    public = 20_000 if quick else 200_000
    sizes = (3000, 10_000) if quick else (10_000, 30_000, 100_000, 300_000)
    name = "solution of the moments, no threshold"

    def fit(data, seed, threads):
        from sparsestat.privacy import LDPSparseRegressor

        model = LDPSparseRegressor(X_public=data.public, random_state=_COINS + seed)
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
            Setting(f"n = {size:,}", _draw(size, 20, n_public=public), seeds, (method,), size)
            for size in sizes
        ),
        {"data sets": len(seeds), "public rows": public},
        "mean",
        {name: (-0.62, -0.42)},
    )


def _central(data, seed, threads, *, epsilon, bounds_X, bounds_y, X, y, fit_intercept):
    """Fit diffprivlib's linear regression, which sees all records, in its own environment."""
    return _peers.call(
        "diffprivlib",
        _DIFFPRIVLIB,
        {"X": X, "y": y},
        {
            "epsilon": epsilon,
            "bounds_X": bounds_X,
            "bounds_y": bounds_y,
            "fit_intercept": fit_intercept,
            "random_state": seed,
        },
        threads=threads,
    )


def _price(quick):
    seeds = tuple(range(2 if quick else 10))
    sizes = (10_000,) if quick else (10_000, 100_000, 300_000)
    public = 20_000 if quick else 200_000

    def central(data, seed, threads):
        return _central(
            data,
            seed,
            threads,
            epsilon=1.0,
            bounds_X=(-4.0, 4.0),
            bounds_y=(-4.0, 4.0),
            X=data.data,
            y=data.target,
            fit_intercept=False,
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
            lambda data, found: _error(data, np.array(found["coef"])),
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
            Setting(f"n = {size:,}", _draw(size, 20, n_public=public), seeds, methods)
            for size in sizes
        ),
        {"features": 20, "data sets": len(seeds)},
    )
