"""Simulated clients: the bits of a real one, unbiased, with the known variance."""

import math

import numpy as np
import pytest

from sparsestat.privacy import _client, _simulation
from sparsestat.privacy._aggregator import MomentAggregator
from sparsestat.privacy._client import Randomizer
from sparsestat.privacy._config import MECHANISMS
from sparsestat.privacy._directions import direction_keys, directions
from sparsestat.privacy._records import clean_record, clean_records, report_vectors
from sparsestat.privacy._reports import Report, ReportBatch
from sparsestat.privacy._simulation import SimulationRandomizer, simulate_reports

from ._clients import WORD, Source, make, make_query

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
    if config.dim > 1 or not config.is_seeded:
        np.testing.assert_allclose(deviation**2, expected, rtol=0.03, atol=1e-3 * expected.max())
    else:
        # The square of a single bit is a constant, so that the variance is as sure as the mean.
        off = 2 * np.abs(truth) + config.noise_scale / math.sqrt(n)
        spread = 4 * config.noise_scale / math.sqrt(n)
        assert np.all(np.abs(deviation**2 - expected) < spread * off + 0.03 * spread)
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
