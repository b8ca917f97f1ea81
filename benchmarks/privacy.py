"""Local differential privacy: speed of client and server, and what the estimators attain.

What is raced is the work that grows with the number of users: making reports and adding them up.
What is tabulated is the error of the estimators, beside that of a library for central privacy,
which sees every record, and of estimators without any privacy.
"""

import numpy as np

from ._figures import FigureTable, Method, Setting
from ._privacy_tables import COINS, draw_regression, errors, flights, price, rate
from ._startup import Program, Startup
from ._tasks import Task, TaskRace

FAMILY = "privacy"
_BLOCK = 500


def _moments_config(n_features, **options):
    from sparsestat.privacy import LDPConfig

    return LDPConfig("moments", n_features, **options)


# --------------------------------------------------------------------------- decoding


def _batch(config, n_reports):
    from sparsestat.privacy import SimulationRandomizer

    data = draw_regression(n_reports, config.n_features)(0)
    randomizer = SimulationRandomizer(config, random_state=COINS)
    return randomizer.randomize_batch(data.data, data.target)


def _decode(batch, n_jobs):
    from sparsestat.privacy import MomentAggregator

    return MomentAggregator(batch.config, allow_simulated=True, n_jobs=n_jobs).add_batch(batch)


def _signs(batch):
    return np.where(np.asarray(batch.payload).ravel() & 1, 1, -1)


def _keys(config):
    from sparsestat.privacy._directions import direction_keys

    return direction_keys(config.fingerprint(), 0, config.n_bits)


def _decode_by_blocks(batch, n_reports):
    """The same integers by numpy, some reports at a time."""
    from sparsestat.privacy._directions import directions

    config, keys = batch.config, _keys(batch.config)
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
        from sparsestat.privacy._decode import decode_reports

        config, few = batch.config, batch[:n_reports]
        keys = _keys(config)
        sums = decode_reports(few.nonces, few.payload, keys, config.dim, n_jobs=n_jobs)
        if not np.array_equal(sums, _decode_by_blocks(few, n_reports)):
            raise AssertionError("the integers differ from those of numpy")
        if _decode(batch, n_jobs) != _decode(batch, 1):
            raise AssertionError("the integers depend on the threads")
        return f"the integers of numpy for {n_reports:,} reports, and of one thread for all"

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

            randomizer = SimulationRandomizer(one_bit, random_state=COINS)
            return lambda: randomizer.randomize_batch(data.data, data.target)

        return prepare

    def size(config):
        return {"bytes a report": config.report_size}

    def build():
        data = draw_regression(n_reports, n_features)(0)
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
            data = draw_regression(n_samples, n_features)(0)
            return lambda: make().fit(data.data, data.target)

        return Task(f"{name}, d = {n_features}", "sparsestat", "sparsestat", prepare)

    def build():
        from sparsestat.privacy import LDPIHTRegressor, LDPSparseRegressor

        options = {"random_state": COINS, "n_jobs": 1}
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


# --------------------------------------------------------------------------- starting


def _starting(quick):
    programs = (
        Program(
            "sparsestat, LDPSparseRegressor",
            "sparsestat",
            "sparsestat",
            "from sparsestat.privacy import LDPSparseRegressor",
            "LDPSparseRegressor(random_state=0).fit(X, y)",
            ours=True,
        ),
        Program(
            "sparsestat, one report of a client",
            "sparsestat",
            "sparsestat",
            "from sparsestat.privacy import LDPConfig, Randomizer",
            "Randomizer(LDPConfig('moments', n_features=20)).randomize(X[0], y[0])",
            ours=True,
        ),
        Program(
            "sparsestat, LDPIHTRegressor",
            "sparsestat",
            "sparsestat",
            "from sparsestat.privacy import LDPIHTRegressor",
            "LDPIHTRegressor(n_nonzero=5, random_state=0).fit(X, y)",
            ours=True,
        ),
        Program(
            "opendp, one noisy vector",
            "opendp",
            "opendp",
            "import opendp.prelude as dp",
            "dp.enable_features('contrib')\n"
            "domain = dp.vector_domain(dp.atom_domain(T=float, nan=False), size=20)\n"
            "dp.m.make_gaussian(domain, dp.l2_distance(T=float), scale=1.0)(X[0].tolist())",
        ),
    )
    return Startup(
        "startup",
        "Import and first fit",
        "Fresh processes: the import of what the user needs, then the first simulated campaign "
        "of 2,000 users with 20 features, or the first report of a client.",
        programs[:1] if quick else programs,
        n_samples=2000,
        n_features=20,
    )


def problems(*, quick=False):
    """Return the family's problems in the order of the report.

    Parameters
    ----------
    quick : bool
        Sizes that show in a minute that everything runs; their figures say little.

    Returns
    -------
    list of TaskRace, FigureTable or Startup
    """
    return [
        _decoding(quick, 1),
        _decoding(quick, 2),
        _encoding(quick),
        errors(quick),
        rate(quick),
        price(quick),
        flights(quick),
        _state_sizes(quick),
        _fitting(quick),
        _starting(quick),
    ]
