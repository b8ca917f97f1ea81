"""The client: exact privacy, independence of the record, the ledger, and what leaves at all."""

import contextlib
import copy
import errno
import itertools
import json
import logging
import math
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import joblib
import numpy as np
import pytest

from sparsestat.privacy import _client, _simulation
from sparsestat.privacy._aggregator import MomentAggregator
from sparsestat.privacy._client import Randomizer, coin_thresholds, norm_ratios
from sparsestat.privacy._config import KINDS, MECHANISMS, LDPConfig
from sparsestat.privacy._directions import direction_keys, directions
from sparsestat.privacy._errors import IncompatibleReportsError, PrivacyBudgetExceeded
from sparsestat.privacy._query import Query
from sparsestat.privacy._records import clean_record, clean_records, report_vectors
from sparsestat.privacy._reports import Report, ReportBatch
from sparsestat.privacy._simulation import SimulationRandomizer, simulate_reports

ROOT = Path(__file__).parents[2]
WORD = 2**64
SEEDED = ["one_bit", "duchi"]
EPSILONS = [1e-6, 0.1, 1.0, 5.0, 20.0]
NONCES = [0, WORD - 1, 0x0123456789ABCDEF]
# Records of two features: opposite, huge, tiny, and no numbers at all.
RECORDS = [
    ([1.0, 2.0], 3.0),
    ([1.0, 2.0], -3.0),
    ([-1.0, -2.0], 3.0),
    ([0.0, 0.0], 0.0),
    ([1e-300, 5e-324], 1e-300),
    ([1.7e308, -1.7e308], 1.7e308),
    ([-1.7e308, 1.7e308], -1.7e308),
    ([0.0, 1e9], -1e9),
    ([math.nan, math.inf], -math.inf),
    ([10**400, "a secret"], None),
    ([0.3, -0.1], 0.2),
]


def make(kind="moments", n_features=2, mechanism="one_bit", **settings):
    if mechanism not in SEEDED:
        settings.setdefault("delta", 1e-6)
    return LDPConfig(kind, n_features, mechanism=mechanism, **settings)


def make_query(config, theta=None):
    if config.kind != "gradient":
        return None
    theta = np.full(config.n_columns, 0.25) if theta is None else theta
    return Query(config.fingerprint(), 3, tuple(float(t) for t in theta))


def exp_below(epsilon):
    """A rational number below exp(epsilon): a partial sum of its series, exactly."""
    x, term, total = Fraction(epsilon), Fraction(1), Fraction(1)
    for k in range(1, 160):
        term = term * x / k
        total += term
    assert math.isclose(total, math.exp(epsilon), rel_tol=1e-12)
    return total


def largest_ratio(thresholds):
    """Largest P(bits | record) / P(bits | other record), over bits and pairs of records."""
    worst = Fraction(1)
    for mine, other in itertools.permutations(thresholds, 2):
        ratio = Fraction(1)
        for t, u in zip(mine, other):
            ratio *= max(Fraction(t, u), Fraction(WORD - t, WORD - u))
        worst = max(worst, ratio)
    return worst


# --- privacy, exactly ----------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", SEEDED)
@pytest.mark.parametrize("n_bits", [None, 1, 2, 9])
@pytest.mark.parametrize("epsilon", EPSILONS)
def test_likelihood_ratios_of_the_thresholds_are_within_epsilon(epsilon, n_bits, mechanism):
    bound = exp_below(epsilon)
    for kind in KINDS:
        config = make(kind, mechanism=mechanism, epsilon=epsilon, n_bits=n_bits)
        query = make_query(config)
        theta = None if query is None else np.array(query.theta)
        keys = direction_keys(config.fingerprint(), 0, config.n_bits)
        ratios = []
        for nonce in NONCES:
            z = directions([nonce], keys, config.dim, mechanism == "duchi")
            rows = []
            for x, y in RECORDS:
                V = report_vectors(*clean_record(x, y, config), config, theta)
                t = coin_thresholds(z @ V[0], norm_ratios(V, config), config)
                assert t.shape == (1, config.n_bits) and t.dtype == np.uint64
                rows.append(t[0].tolist())
            ratios.append(largest_ratio(rows))
        assert max(ratios) <= bound
        # All of epsilon is used, but for the rounding of thresholds to 53 bits: two records at
        # the radius differ in every bit's favourite.
        if epsilon > 1e-6 and kind == "label":
            assert max(ratios) >= bound * (1 - Fraction(1, 10**7))


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_no_projection_and_no_norm_leave_the_legal_interval(epsilon):
    config = make("cross", epsilon=epsilon, n_bits=1)
    numbers = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, -1.0, 1e308, 5e-324, 1 - 1e-16, 2.0]
    projections, ratios = (np.array(p) for p in zip(*itertools.product(numbers, numbers)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        t = coin_thresholds(projections[:, None], ratios, config)[:, 0].tolist()
    lowest = 2**63 - config.amplitude
    assert all(lowest <= value <= WORD - lowest for value in t)
    assert Fraction(WORD - lowest, lowest) <= exp_below(epsilon)
    # A vector of zeros gets a fair coin, and a projection of zero counts as positive.
    assert coin_thresholds(np.zeros((1, 1)), np.zeros(1), config).tolist() == [[2**63]]
    assert coin_thresholds(np.zeros((1, 1)), np.ones(1), config)[0, 0] >= 2**63


class Source:
    """A stand-in for the random bits of the operating system, which answers from a list."""

    def __init__(self, numbers=()):
        self.numbers = list(numbers)

    def __call__(self, n_bits):
        assert n_bits == 64
        return self.numbers.pop(0)


def thresholds_of_the_client(config, x, y, nonce, monkeypatch):
    """Where each bit of a client's report changes, found by bisection of the coins alone."""
    low, high = [0] * config.n_bits, [WORD] * config.n_bits
    while any(b - a > 1 for a, b in zip(low, high)):
        middle = [(a + b) // 2 for a, b in zip(low, high)]
        source = Source(middle)
        monkeypatch.setattr(_client.secrets, "randbits", source)
        report = Randomizer(config).randomize(x, y, nonce=nonce, query=make_query(config))
        assert not source.numbers and report.nonce == nonce
        mask = int.from_bytes(report.payload, "little")
        for k in range(config.n_bits):
            if mask >> k & 1:
                low[k] = middle[k]
            else:
                high[k] = middle[k]
    # The bit is 1 for the coins 0 to low, which are low + 1 of 2**64; none if even 0 gives 0.
    return [a + 1 for a in low]


@pytest.mark.parametrize(
    ("kind", "mechanism", "n_bits"),
    [("moments", "one_bit", 1), ("gradient", "duchi", 3), ("label", "one_bit", 2)],
)
@pytest.mark.parametrize("epsilon", EPSILONS)
def test_likelihood_ratios_of_the_whole_client(epsilon, kind, mechanism, n_bits, monkeypatch):
    config = make(kind, mechanism=mechanism, epsilon=epsilon, n_bits=n_bits)
    rows = [
        thresholds_of_the_client(config, x, y, NONCES[2], monkeypatch) for x, y in RECORDS[1:10:2]
    ]
    assert 1 < largest_ratio(rows) <= exp_below(epsilon)


@pytest.mark.parametrize("kind", KINDS)
def test_gaussian_reports_move_by_the_grid_sensitivity_at_most(kind, monkeypatch):
    # Without its noise a report is a vector of integers; the distance of two is what counts.
    config = make(kind, mechanism="discrete_gaussian", epsilon=2.0)
    monkeypatch.setattr(_client, "discrete_gaussian", lambda variance: 0)
    points = [None] if kind != "gradient" else [[0.1, -0.2], [1e308, -1e308], [0.0, 1.7e308]]
    for theta in points:
        query = make_query(config, theta)
        grid = np.array(
            [
                np.frombuffer(Randomizer(config).randomize(x, y, query=query).payload, "<i4")
                for x, y in RECORDS
            ],
            dtype=np.int64,
        )
        squares = np.sum((grid[:, None] - grid[None]) ** 2, axis=2)
        assert squares.max() <= config.grid_sensitivity**2
        assert squares.max() > 0


def test_discrete_noise_of_a_client_has_the_promised_delta(monkeypatch):
    # In one dimension the hockey-stick divergence of the two farthest reports is a sum.
    config = make("label", mechanism="discrete_gaussian", epsilon=1.0, delta=1e-4)
    variances = []
    monkeypatch.setattr(
        _client, "discrete_gaussian", lambda variance: variances.append(variance) or 7
    )
    report = Randomizer(config).randomize(None, -1e9)
    assert variances == [config.grid_variance]
    assert np.frombuffer(report.payload, "<i4").tolist() == [7 - 2**12]
    deviation = math.sqrt(config.grid_variance)
    k = np.arange(-int(12 * deviation), int(12 * deviation) + config.grid_sensitivity)
    density = np.exp(-(k**2) / (2.0 * config.grid_variance))
    shifted = np.exp(-((k - config.grid_sensitivity) ** 2) / (2.0 * config.grid_variance))
    total = density.sum()
    delta = np.maximum(shifted - math.exp(1.0) * density, 0).sum() / total
    # Calibration by way of concentrated privacy is not tight, but not wasteful either.
    assert 1e-6 < delta <= 1e-4


class Witnessed(list):
    """A record that notes when it is looked at."""

    def __init__(self, values, events):
        super().__init__(values)
        self.events = events

    def __iter__(self):
        self.events.append("record")
        return super().__iter__()


class WitnessedTarget:
    def __init__(self, events):
        self.events = events

    def __float__(self):
        self.events.append("record")
        return 0.5


@pytest.mark.parametrize("given_nonce", [None, 5])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_all_randomness_is_drawn_before_the_record_is_read(mechanism, given_nonce, monkeypatch):
    events = []
    config = make("cross", mechanism=mechanism, epsilon=8.0)

    def noted(function):
        def draw(*args):
            events.append("draw")
            return function(*args)

        return draw

    monkeypatch.setattr(_client.secrets, "randbits", noted(_client.secrets.randbits))
    monkeypatch.setattr(_client, "discrete_gaussian", noted(_client.discrete_gaussian))
    source = type("Source", (), {"gauss": lambda self, mean, sd: noted(lambda: 0.0)()})
    monkeypatch.setattr(_client.random, "SystemRandom", source)
    client = Randomizer(config, allow_float_noise=True)
    client.randomize(Witnessed([1.0, 2.0], events), WitnessedTarget(events), nonce=given_nonce)
    n_draws = (given_nonce is None) + (config.n_bits or config.dim)
    assert events == ["draw"] * n_draws + ["record"] * 2


def test_nothing_but_the_payload_depends_on_the_record(monkeypatch):
    for mechanism in ("one_bit", "discrete_gaussian"):
        config = make(mechanism=mechanism)
        sizes = set()
        for x, y in RECORDS:
            report = Randomizer(config).randomize(x, y, nonce=9)
            sizes.add(len(report.to_bytes()))
            assert (report.fingerprint, report.round, report.nonce) == (config.fingerprint(), 0, 9)
            assert report.simulated is False
        assert sizes == {config.report_size}


# --- nothing fails, warns or is told -------------------------------------------------------


class Hostile:
    """An item that fails in an unusual way when it is asked for a number."""

    def __float__(self):
        raise RuntimeError("a secret")


class Loud:
    def __float__(self):
        warnings.warn("a secret", stacklevel=1)
        logging.getLogger("not ours").handlers  # noqa: B018
        return 1.0


WEIRD = [
    None,
    "a secret",
    b"\xff",
    10**400,
    math.nan,
    math.inf,
    -1.7e308,
    5e-324,
    2j,
    [],
    {},
    np.ma.masked,
    np.complex128(1j),
    np.datetime64("NaT"),
    np.array([1.0]),
    Hostile(),
    Loud(),
]


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_record_makes_a_client_fail_or_talk(kind, mechanism, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    for settings in (
        {},
        {"feature_scale": [1e-300, 1e300], "y_scale": 1e-50, "fit_intercept": True},
        {"x_bound": 1e-50, "y_bound": 1e-50, "residual_bound": 1e-50, "gamma": 1.0},
        {"loss": "logistic" if kind == "gradient" else "squared"},
    ):
        config = make(kind, mechanism=mechanism, **settings)
        query = make_query(config)
        # The strictest that a caller can ask Python and numpy for.
        with warnings.catch_warnings(), np.errstate(all="raise"):
            warnings.simplefilter("error")
            for item, other in zip(WEIRD, WEIRD[3:] + WEIRD[:3]):
                client = Randomizer(config, allow_float_noise=True)
                report = client.randomize([item, other], item, query=query)
                assert len(report.to_bytes()) == config.report_size
                assert client.n_spent == 1
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("mechanism", ["one_bit", "discrete_gaussian"])
@pytest.mark.parametrize("size", [1e300, 1e308, 1.7e308])
def test_a_hostile_point_learns_no_more_than_any_other(size, mechanism, monkeypatch):
    # Products of many columns with such a point overflow to infinities of both signs.
    config = make("gradient", 33, mechanism, x_bound=100.0)
    monkeypatch.setattr(_client, "discrete_gaussian", lambda variance: 0)
    query = make_query(config, size * np.where(np.arange(33) % 2, 1.0, -1.0))
    for x in ([2.0] * 33, [0.0] * 33, [1e308] * 33):
        payload = Randomizer(config).randomize(x, 1.0, query=query).payload
        if mechanism == "discrete_gaussian":
            entries = np.frombuffer(payload, "<i4").astype(float)
            assert np.linalg.norm(entries) <= 2**12 + math.sqrt(33)


def test_exceptions_do_not_quote_the_record():
    config = make("gradient")
    record = ([123456.789, 1.0, 2.0], 987654.321)
    attempts = [
        lambda: Randomizer(config).randomize(*record, query=make_query(config)),
        lambda: Randomizer(config).randomize(*record),
        lambda: Randomizer(config).randomize(record[0][:2], record[1], nonce=-1),
        lambda: Randomizer(config).randomize(np.array([record[0]]), record[1], nonce=True),
    ]
    for attempt in attempts:
        with pytest.raises(ValueError) as caught:
            attempt()
        assert "123456" not in str(caught.value) and "987654" not in str(caught.value)


@pytest.mark.parametrize("nonce", [-1, WORD, 1.0, True, "7"])
def test_nonces_out_of_range(nonce):
    client = Randomizer(make())
    with pytest.raises(ValueError, match=r"nonce must be an integer in \[0, 2\*\*64\)"):
        client.randomize([0.0, 0.0], 0.0, nonce=nonce)
    assert client.n_spent == 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"fingerprint": bytes(16)}, IncompatibleReportsError, "query belongs to another"),
        ({"round": -1}, ValueError, r"query must be of a round in \[0, 65535\], got -1"),
        ({"round": 2**16}, ValueError, "query must be of a round in"),
        ({"round": 1.5}, ValueError, "query must be of a round in"),
        ({"theta": (0.0,)}, ValueError, "query must hold a point with 2 columns, got 1"),
        ({"theta": (0.0, math.nan)}, ValueError, "query must hold a finite point"),
        ({"theta": (math.inf, 0.0)}, ValueError, "query must hold a finite point"),
    ],
)
def test_queries_that_do_not_belong_here_cost_nothing(change, error, message):
    config = make("gradient")
    fields = {"fingerprint": config.fingerprint(), "round": 1, "theta": (0.0, 0.0)} | change
    client = Randomizer(config)
    with pytest.raises(error, match=message):
        client.randomize([1.0, 1.0], 0.0, query=Query(**fields))
    assert client.n_spent == 0
    with pytest.raises(ValueError, match="query must be None for kind='cross'"):
        Randomizer(make("cross")).randomize([1.0, 1.0], 0.0, query=make_query(config))
    for other in (None, "query", (0.0, 0.0)):
        with pytest.raises(ValueError, match="query must be the Query that the server broadcasts"):
            client.randomize([1.0, 1.0], 0.0, query=other)


def test_a_client_loads_numpy_and_nothing_else():
    script = """
import json, sys
before = {name.partition(".")[0] for name in sys.modules}
from sparsestat.privacy import LDPConfig, PrivacyBudgetExceeded, Query, Randomizer, Report
for mechanism, delta in [("one_bit", 0), ("duchi", 0), ("discrete_gaussian", 1e-5)]:
    for kind in ("moments", "cross", "gradient", "label"):
        config = LDPConfig(kind, 2, delta=delta, mechanism=mechanism)
        query = Query(config.fingerprint(), 1, (0.0, 0.0)) if kind == "gradient" else None
        report = Randomizer(LDPConfig.from_json(config.to_json())).randomize([1, 2], 3, query=query)
        assert Report.from_bytes(report.to_bytes()) == report
modules = {name.partition(".")[0] for name in sys.modules} - before - sys.stdlib_module_names
ours = [name for name in sys.modules if name.startswith("sparsestat.")]
print(json.dumps([sorted(modules), ours]))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    modules, ours = json.loads(result.stdout)
    assert modules == ["numpy", "sparsestat"]
    names = ["accounting", "client", "config", "directions", "discrete_gaussian", "errors"]
    names += ["query", "records", "reports"]
    found = {name for name in ours if name.startswith("sparsestat.privacy.")}
    assert found == {f"sparsestat.privacy._{name}" for name in names}


# --- construction --------------------------------------------------------------------------


def test_what_a_client_is_not_made_of():
    with pytest.raises(TypeError, match="config must be an LDPConfig, got a dict"):
        Randomizer({})
    for wrong in (0, -1, 1.0, True, None):
        with pytest.raises(ValueError, match="max_reports must be an integer of at least 1"):
            Randomizer(make(), max_reports=wrong)
    with pytest.raises(ValueError, match="'gaussian' adds floating-point noise, whose low bits"):
        Randomizer(make(mechanism="gaussian"))
    with pytest.raises(TypeError, match="random_state"):
        Randomizer(make(), random_state=0)


def test_a_randomizer_is_not_copied_with_its_budget(tmp_path):
    client = Randomizer(make())
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps, joblib.hash):
        with pytest.raises(Exception, match="cannot be copied or pickled: the copy could spend"):
            duplicate(client)
    bound = Randomizer(make(), ledger=tmp_path / "ledger")
    twin = pickle.loads(pickle.dumps(bound))
    bound.randomize([1.0, 1.0], 0.0)
    for other in (twin, copy.deepcopy(bound), copy.copy(bound)):
        assert other.n_spent == 1
        with pytest.raises(PrivacyBudgetExceeded):
            other.randomize([1.0, 1.0], 0.0)


# --- the ledger ----------------------------------------------------------------------------


def test_the_budget_in_memory():
    client = Randomizer(make(epsilon=0.5), max_reports=3)
    reports = []
    for spent in range(3):
        assert (client.n_spent, client.spent.epsilon) == (spent, 0.5 * spent)
        reports.append(client.randomize([1.0, 1.0], 0.0))
    with pytest.raises(PrivacyBudgetExceeded, match=r"reported 3 time\(s\) and max_reports=3"):
        client.randomize([1.0, 1.0], 0.0)
    assert client.n_spent == 3 and client.spent.delta == 0
    assert len({report.nonce for report in reports}) == 3
    approximate = Randomizer(make(mechanism="discrete_gaussian", delta=1e-3), max_reports=2)
    approximate.randomize([1.0, 1.0], 0.0)
    approximate.randomize([1.0, 1.0], 0.0)
    assert (approximate.spent.epsilon, approximate.spent.delta) == (2.0, 2e-3)


def test_a_refused_record_is_no_report():
    client = Randomizer(make())
    with pytest.raises(ValueError, match="x must have 2 features"):
        client.randomize([1.0], 0.0)
    assert client.n_spent == 0
    client.randomize([1.0, 1.0], 0.0)


def test_threads_share_the_budget(monkeypatch):
    check = _client._check_budget

    def slowly(n_spent, max_reports):
        check(n_spent, max_reports)
        # Long enough for another thread to look at the same count.
        time.sleep(0.01)

    monkeypatch.setattr(_client, "_check_budget", slowly)
    client = Randomizer(make(), max_reports=2)
    start = threading.Barrier(6)

    def attempt(_):
        start.wait()
        with contextlib.suppress(PrivacyBudgetExceeded):
            return client.randomize([1.0, 1.0], 0.0)

    with ThreadPoolExecutor(6) as pool:
        reports = [report for report in pool.map(attempt, range(6)) if report is not None]
    assert len(reports) == client.n_spent == 2


def test_the_budget_on_file(tmp_path, monkeypatch):
    path = tmp_path / "ledger"
    config = make(epsilon=0.25, campaign_id="spring")
    Randomizer(config, ledger=path, max_reports=2).randomize([1.0, 1.0], 0.0)
    assert json.loads(path.read_text()) == {
        "campaign": config.fingerprint().hex(),
        "epsilon": 0.25,
        "delta": 0.0,
    }
    # Another campaign, another client, the same record.
    later = Randomizer(make(epsilon=1.0), ledger=str(path), max_reports=2)
    assert (later.n_spent, later.spent.epsilon) == (1, 0.25)
    later.randomize([1.0, 1.0], 0.0)
    assert later.spent.epsilon == 1.25
    before = path.read_bytes()
    for max_reports in (1, 2):
        with pytest.raises(PrivacyBudgetExceeded):
            Randomizer(config, ledger=path, max_reports=max_reports).randomize([1.0, 1.0], 0.0)
    assert path.read_bytes() == before


def test_a_relative_ledger_stays_where_it_was(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    client = Randomizer(make(), ledger="ledger")
    client.randomize([1.0, 1.0], 0.0)
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(PrivacyBudgetExceeded):
        client.randomize([1.0, 1.0], 0.0)


LINE = '{"campaign": "00", "epsilon": 1.0, "delta": 0.0}'


@pytest.mark.parametrize(
    "content",
    [
        b"\x00",
        b"\xff\xfe\n",
        b"{}\n",
        b"[1]\n",
        b"\n",
        b"null\n",
        LINE.encode(),  # the end of the line is missing: it was cut off
        LINE[:20].encode(),
        f"{LINE}\n{LINE[:-1]}\n".encode(),
        f"{LINE}{LINE}\n".encode(),
        b'{"epsilon": "x", "delta": 0}\n',
        b"[" * 100_000 + b"\n",
    ],
)
def test_a_damaged_ledger_spends_nothing(tmp_path, content):
    path = tmp_path / "ledger"
    client = Randomizer(make(), ledger=path, max_reports=10)
    path.write_bytes(content)
    for attempt in (
        lambda: Randomizer(make(), ledger=path, max_reports=10),
        lambda: client.randomize([1.0, 1.0], 0.0),
        lambda: client.n_spent,
        lambda: client.spent,
    ):
        with pytest.raises(ValueError, match=r"cannot be read as a ledger .* nothing can be spent"):
            attempt()
    assert path.read_bytes() == content


def test_no_report_leaves_without_its_line(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(_client, "Report", lambda *args: made.append(args))
    with pytest.raises(FileNotFoundError):
        Randomizer(make(), ledger=tmp_path / "missing" / "ledger").randomize([1.0, 1.0], 0.0)
    with pytest.raises(OSError):
        Randomizer(make(), ledger=tmp_path).randomize([1.0, 1.0], 0.0)

    def full(*args):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(_client.os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        Randomizer(make(), ledger=tmp_path / "full").randomize([1.0, 1.0], 0.0)

    def read_only(path, mode="r", **options):
        if "a" in mode:
            raise OSError(errno.EROFS, "read-only file system")
        return open(path, mode, **options)

    monkeypatch.setattr(_client, "open", read_only, raising=False)
    with pytest.raises(OSError, match="read-only file system"):
        Randomizer(make(), ledger=tmp_path / "other").randomize([1.0, 1.0], 0.0)
    assert made == []


RACE = """
import sys, time, os
from sparsestat.privacy import LDPConfig, PrivacyBudgetExceeded, Randomizer
from sparsestat.privacy import _client
check = _client._check_budget
def slowly(n_spent, max_reports):
    check(n_spent, max_reports)
    # Long enough for another process to look at the same count.
    time.sleep(0.02)
_client._check_budget = slowly
client = Randomizer(LDPConfig("label", 1), ledger=sys.argv[1], max_reports=7)
open(sys.argv[2], "w").close()
while not os.path.exists(sys.argv[3]):
    time.sleep(0.001)
made = 0
for _ in range(7):
    try:
        client.randomize(None, 1.0)
        made += 1
    except PrivacyBudgetExceeded:
        pass
print(made)
"""


def test_processes_race_for_the_budget(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ready = [tmp_path / f"ready{i}" for i in range(3)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, tmp_path / "ledger", flag, tmp_path / "go"],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for flag in ready
    ]
    while not all(flag.exists() for flag in ready):
        assert all(process.poll() is None for process in processes)
        time.sleep(0.01)
    (tmp_path / "go").touch()
    made = [int(process.communicate()[0]) for process in processes]
    assert sum(made) == 7
    assert len((tmp_path / "ledger").read_text().splitlines()) == 7


# --- workers -------------------------------------------------------------------------------

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")


def in_fork(function):
    """Run a function in a forked child and return its bytes."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, function())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as file:
        data = file.read()
    os.waitpid(child, 0)
    return data


@needs_fork
def test_forked_clients_share_no_randomness(tmp_path):
    config = make(mechanism="discrete_gaussian")
    client = Randomizer(config, ledger=tmp_path / "ledger", max_reports=9)
    client.randomize([1.0, 1.0], 0.0)

    def report():
        return client.randomize([1.0, 1.0], 0.0).to_bytes()

    reports = [Report.from_bytes(data) for data in (in_fork(report), in_fork(report), report())]
    assert len({r.nonce for r in reports}) == len({r.payload for r in reports}) == 3
    # The file knows all of them.
    assert client.n_spent == 4


@needs_fork
def test_forked_clients_do_not_share_a_budget_in_memory():
    client = Randomizer(make())

    def report():
        try:
            return client.randomize([1.0, 1.0], 0.0).to_bytes()
        except PrivacyBudgetExceeded as error:
            return str(error).encode()

    assert b"ledger is in the memory of another process" in in_fork(report)
    assert client.n_spent == 0
    client.randomize([1.0, 1.0], 0.0)


def nonces_of(batch):
    return batch.nonces.tolist()


@needs_fork
@pytest.mark.parametrize("random_state", [0, None])
def test_forked_simulations_share_no_randomness(random_state):
    X, y = np.zeros((4, 2)), np.zeros(4)
    config = make("cross", mechanism="discrete_gaussian")
    old = SimulationRandomizer(config, random_state)

    def report(randomizer):
        return randomizer.randomize_batch(X, y).nonces.tobytes()

    children = [in_fork(lambda: report(old)) for _ in range(3)] + [report(old)]
    assert len(set(children)) == 4 and all(len(child) == 32 for child in children)
    # Made in the child, without a seed: NumPy's global generator is a copy of the parent's.
    children = [in_fork(lambda: report(SimulationRandomizer(config))) for _ in range(3)]
    assert len(set(children)) == 3


@pytest.mark.parametrize("method", ["loky", "spawn"])
def test_workers_share_no_randomness(method):
    X, y = np.zeros((4, 2)), np.zeros(4)
    randomizer = SimulationRandomizer(make("cross", mechanism="discrete_gaussian"), 0)
    # More tasks than workers: one worker is given copies of one pickle, too.
    if method == "loky":
        call = joblib.delayed(randomizer.randomize_batch)
        batches = joblib.Parallel(2, batch_size=1)(call(X, y) for _ in range(6))
    else:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            tasks = [pool.apply_async(randomizer.randomize_batch, (X, y)) for _ in range(3)]
            batches = [task.get() for task in tasks]
    batches.append(randomizer.randomize_batch(X, y))
    nonces = [nonce for batch in batches for nonce in nonces_of(batch)]
    assert len(set(nonces)) == len(nonces) == 4 * len(batches)
    assert len({batch.payload.tobytes() for batch in batches}) == len(batches)


def test_copies_of_a_simulation_go_their_own_way():
    X, y = np.zeros((4, 2)), np.zeros(4)
    randomizer = SimulationRandomizer(make("cross", mechanism="discrete_gaussian"), 0)
    data = pickle.dumps(randomizer)
    twins = [pickle.loads(data), pickle.loads(data), copy.deepcopy(randomizer), randomizer]
    assert len({tuple(nonces_of(twin.randomize_batch(X, y))) for twin in twins}) == 4


def test_a_simulation_is_reproducible():
    X, y = np.random.default_rng(0).standard_normal((40, 2)), np.zeros(40)
    for mechanism in MECHANISMS:
        config = make("moments", mechanism=mechanism)
        a, b, c = (
            SimulationRandomizer(config, seed, n_jobs=jobs)
            for seed, jobs in [(1, 1), (1, 2), (2, 1)]
        )
        batches = [r.randomize_batch(X, y) for r in (a, b, c, a)]
        payloads = [batch.payload.tobytes() for batch in batches]
        assert payloads[0] == payloads[1]
        assert len({tuple(nonces_of(batch)) for batch in batches}) == 3
    # Data from a generator with the same seed have nothing to do with the coins.
    data = np.random.default_rng(1).integers(WORD, size=40, dtype=np.uint64)
    assert not set(data.tolist()) & set(nonces_of(batches[0]))


def test_simulated_reports_say_so():
    randomizer = SimulationRandomizer(make("label"), 0)
    assert randomizer.randomize_batch(None, [1.0]).simulated
    report = randomizer.randomize(None, 1.0)
    assert report.simulated and Report.from_bytes(report.to_bytes()).simulated


# --- the same law in simulations -----------------------------------------------------------


class FixedGenerator:
    """Gives the nonces, the coins and the normal numbers that it was told to."""

    def __init__(self, nonces, coins, normals):
        self.given = [nonces, coins]
        self.normals = normals

    def integers(self, high, *, size, dtype):
        assert (high, dtype) == (WORD, np.uint64)
        return self.given.pop(0).reshape(size)

    def standard_normal(self, shape):
        return self.normals.reshape(shape)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("moments", {"fit_intercept": True, "feature_center": (1.0, -1.0, 0.0)}),
        ("cross", {"y_center": 1.0, "y_scale": 3.0}),
        ("gradient", {}),
        ("gradient", {"loss": "logistic"}),
        ("label", {}),
    ],
)
def test_given_the_same_coins_a_simulation_sends_the_same_bits(
    kind, settings, mechanism, monkeypatch
):
    n = 60
    config = make(kind, 3, mechanism, epsilon=6.0, **settings)
    rng = np.random.default_rng(8)
    X, y = 2 * rng.standard_normal((n, 3)), 3 * rng.standard_normal(n)
    X[:6], y[:2] = [[0.0] * 3, [np.nan] * 3, [1e308] * 3, [0, np.inf, 1], [1e9] * 3, [1e-9] * 3], 0
    nonces = rng.integers(WORD, size=n, dtype=np.uint64)
    coins = rng.integers(WORD, size=(n, config.n_bits or 0), dtype=np.uint64)
    deviation = math.sqrt(config.grid_variance) if config.n_bits is None else 1.0
    normals = rng.standard_normal((n, config.dim))
    integers = np.rint(deviation * normals).astype(np.int64)
    query = make_query(config)
    monkeypatch.setattr(_simulation, "simulate_discrete_gaussian", lambda *args: integers)
    batch = simulate_reports(
        *clean_records(X, y, config), config, FixedGenerator(nonces, coins, normals), query=query
    )
    simulated = batch.to_reports()
    changed = 0
    for i in range(n):
        noise = iter(integers[i].tolist())
        continuous = iter((deviation * normals[i]).tolist())
        monkeypatch.setattr(_client, "discrete_gaussian", lambda variance, noise=noise: next(noise))
        source = type("Source", (), {"gauss": lambda self, *args, c=continuous: next(c)})
        monkeypatch.setattr(_client.random, "SystemRandom", source)
        monkeypatch.setattr(_client.secrets, "randbits", Source(coins[i].tolist()))
        client = Randomizer(config, allow_float_noise=True)
        report = client.randomize(X[i], y[i], query=query, nonce=int(nonces[i]))
        expected = Report(
            simulated[i].fingerprint, simulated[i].round, report.nonce, simulated[i].payload
        )
        assert report == expected
        changed += i > 0 and report.payload != simulated[i - 1].payload
    assert changed > 10


VECTORS = {
    "dense": ([1.0, 1.0, -1.0, 1.0], 9.0),
    "one-hot": ([0.0, 2.0, 0.0, 0.0], 9.0),
    "small": ([0.02, -0.1, 0.0, 0.05], 0.9),
    "zero": ([0.0, 0.0, 0.0, 0.0], 1.0),
}


def decoded(batch):
    """What each report says about its record, from the directions as numpy makes them."""
    config = batch.config
    if not config.is_seeded:
        return config.unit * batch.payload
    keys = direction_keys(config.fingerprint(), batch.round, config.n_bits)
    z = directions(batch.nonces, keys, config.dim, config.mechanism == "duchi")
    signs = 2 * (batch.payload[:, None] >> np.arange(config.n_bits, dtype=np.uint32) & 1) - 1.0
    return config.unit * np.einsum("nk,nkj->nj", signs, z)


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize(("mechanism", "n_bits"), [*zip(MECHANISMS, [1, 1, None, None]),
                                                   ("one_bit", 3), ("duchi", 2)])  # fmt: skip
@pytest.mark.parametrize("kind", ["moments", "cross", "gradient", "label"])
def test_reports_are_unbiased_with_the_known_variance(kind, mechanism, n_bits, vector):
    n, (x, y) = 40_000, VECTORS[vector]
    config = make(kind, 4, mechanism, epsilon=4.0, n_bits=n_bits)
    query = make_query(config, [0.1, 0.0, 0.0, 0.0])
    records = np.tile(x, (n, 1)), np.full(n, y)
    batch = SimulationRandomizer(config, 11).randomize_batch(*records, query=query)
    theta = None if query is None else np.array(query.theta)
    truth = report_vectors(*clean_record(x, y, config), config, theta)[0]
    values = decoded(batch)
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    share = 1.0
    if mechanism == "one_bit" and np.count_nonzero(truth) == 1 and config.dim > 1:
        # E|z| of an entry of a direction is 32 C(64, 32) / 2**64, a little below that of the
        # normal law with the same variance: less by 0.39 %.
        share = 32 * math.comb(64, 32) / 2**64 / (4 * math.sqrt(2 / math.pi))
        assert share == pytest.approx(0.9961, abs=1e-4)
    # Four standard errors, for each of at most 14 entries; other vectors have a bias of less
    # than 0.39 % of their norm.
    slack = 0.0039 * np.linalg.norm(truth) if share == 1.0 and mechanism != "gaussian" else 0.0
    assert np.all(np.abs(mean - share * truth) < 4 * config.noise_scale / math.sqrt(n) + slack)
    # The second moment of a decoded bit does not depend on the record.
    expected = config.noise_scale**2 * np.ones(config.dim)
    if config.is_seeded:
        expected -= truth**2 / config.n_bits
    np.testing.assert_allclose(deviation**2, expected, rtol=0.03, atol=1e-3 * expected.max())
    state = MomentAggregator(config, round=batch.round, allow_simulated=True).add_batch(batch)
    np.testing.assert_allclose(as_vector(state), mean, atol=1e-9 * config.noise_scale)


def as_vector(state):
    moments, config = state.moments(), state.config
    if config.kind != "moments":
        return moments.b
    rows, columns = np.triu_indices(config.n_columns)
    scale = np.where(rows == columns, 1.0, math.sqrt(2.0))
    return np.concatenate([moments.S[rows, columns] * scale, config.gamma * moments.b])


@pytest.mark.parametrize("dim", [2, 3, 5, 9, 44])
def test_directions_on_the_sphere_are_nearly_uniform(dim):
    # The mean of |<z, u>| decides the unit; one and all axes are the extreme directions.
    rng = np.random.default_rng(12)
    n = 200_000 // dim
    z = directions(rng.integers(WORD, size=n, dtype=np.uint64), [1], dim, True)[:, 0] / 2**24
    expected = math.exp(math.lgamma(dim / 2) - math.lgamma((dim + 1) / 2)) / math.sqrt(math.pi)
    for u in (np.eye(dim)[0], np.ones(dim) / math.sqrt(dim)):
        products = np.abs(z @ u)
        error = 4 * products.std() / math.sqrt(n)
        assert abs(products.mean() - expected) < error + 0.005 * expected


def test_batches_of_a_simulation_check_their_shapes():
    randomizer = SimulationRandomizer(make("cross", 2), 0)
    with pytest.raises(TypeError, match="config must be an LDPConfig"):
        SimulationRandomizer("cross")
    with pytest.raises(ValueError, match="X must have 2 features, got 3"):
        randomizer.randomize_batch(np.zeros((4, 3)), np.zeros(4))
    with pytest.raises(ValueError, match="inconsistent"):
        randomizer.randomize_batch(np.zeros((4, 2)), np.zeros(3))
    with pytest.raises(ValueError, match="query must be the Query"):
        SimulationRandomizer(make("gradient"), 0).randomize_batch(np.zeros((1, 2)), [0.0])
    empty = randomizer.randomize_batch(np.zeros((0, 2)), np.zeros(0))
    assert len(empty) == 0 and isinstance(empty, ReportBatch)
    weird = randomizer.randomize_batch([[np.nan, np.inf], [1e308, -1e308]], [np.nan, np.inf])
    assert len(weird) == 2
