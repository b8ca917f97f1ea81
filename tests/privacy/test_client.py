"""The client: exact privacy, independence of the record, and what leaves at all."""

import copy
import itertools
import json
import logging
import math
import os
import pickle
import subprocess
import sys
import warnings
from fractions import Fraction

import joblib
import numpy as np
import pytest

from sparsestat.privacy import _client
from sparsestat.privacy._client import Randomizer, coin_thresholds, norm_ratios
from sparsestat.privacy._config import KINDS, MECHANISMS
from sparsestat.privacy._directions import direction_keys, directions
from sparsestat.privacy._errors import IncompatibleReportsError, PrivacyBudgetExceeded
from sparsestat.privacy._query import Query
from sparsestat.privacy._records import clean_record, report_vectors

from ._clients import (
    EPSILONS,
    NONCES,
    RECORDS,
    ROOT,
    SEEDED,
    WORD,
    Source,
    exp_below,
    largest_ratio,
    make,
    make_query,
)

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
