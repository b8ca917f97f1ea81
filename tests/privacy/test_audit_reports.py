"""Audits of the reports of this package."""

import functools

import numpy as np
import pytest

from sparsestat.privacy._accounting import coin_amplitude
from sparsestat.privacy._audit import audit_randomizer
from sparsestat.privacy._client import Randomizer
from sparsestat.privacy._config import LDPConfig
from sparsestat.privacy._directions import direction_keys, directions
from sparsestat.privacy._query import Query
from sparsestat.privacy._records import clean_record, report_vectors
from sparsestat.privacy._reports import ReportBatch
from sparsestat.privacy._simulation import SimulationRandomizer

# With the same order of turns in each run, the simulated clients report the same in each.
audit = functools.partial(audit_randomizer, random_state=0)

RECORDS = {
    "moments": (([1.0, -2.0, 0.5], 9.0), ([2.0, 1.0, 1.5], -9.0)),
    "cross": (([1.0, -2.0, 0.5], 9.0), ([1.0, -2.0, 0.5], -9.0)),
    "gradient": (([1.0, -2.0, 0.5], 9.0), ([1.0, -2.0, 0.5], -9.0)),
    "label": (([0.0] * 3, 9.0), ([0.0] * 3, -9.0)),
}


def campaign(kind, mechanism, epsilon):
    delta = 1e-5 if "gaussian" in mechanism else 0.0
    return LDPConfig(kind, 3, epsilon, delta=delta, mechanism=mechanism)


def query_of(config):
    if config.kind != "gradient":
        return None
    return Query(config.fingerprint(), 1, (0.0,) * config.n_columns)


def reported_vector(record, config):
    x, y = clean_record(*record, config)
    return report_vectors(x, y, config, np.zeros(config.n_columns))[0]


def likelihood_score(config, a, b):
    """A score that grows with the ratio of the likelihoods of a batch of reports."""
    vectors = [reported_vector(record, config) for record in (a, b)]

    def score(batch):
        if not config.is_seeded:
            return batch.payload @ (vectors[0] - vectors[1])
        keys = direction_keys(config.fingerprint(), batch.round, config.n_bits)
        z = directions(batch.nonces, keys, config.dim, config.mechanism == "duchi")
        bits = (batch.payload[:, None] >> np.arange(config.n_bits, dtype=np.uint32)) & 1
        signs = [np.where(z @ v >= 0, 1, -1) for v in vectors]
        return np.sum((2 * bits.astype(int) - 1) * (signs[0] - signs[1]), axis=1)

    return score


def simulated_clients(config):
    clients = SimulationRandomizer(config, random_state=11)

    def randomize(record, size):
        x, y = record
        return clients.randomize_batch(np.tile(x, (size, 1)), [y] * size, query=query_of(config))

    return randomize


@pytest.mark.parametrize("epsilon", [0.5, 3.0])
@pytest.mark.parametrize("mechanism", ["one_bit", "duchi"])
@pytest.mark.parametrize("kind", sorted(RECORDS))
def test_pure_reports_are_tight(kind, mechanism, epsilon):
    """Both records are on the boundary, where each report tells all that epsilon allows."""
    config = campaign(kind, mechanism, epsilon)
    a, b = RECORDS[kind]
    result = audit(
        simulated_clients(config),
        a,
        b,
        n_trials=60_000,
        batch_size=10_000,
        score=likelihood_score(config, a, b),
        claimed_epsilon=epsilon,
    )
    assert not result.refuted
    assert result.epsilon_lower_bound > 0.85 * epsilon


@pytest.mark.parametrize("mechanism", ["gaussian", "discrete_gaussian"])
def test_gaussian_reports_keep_their_promise(mechanism):
    config = campaign("cross", mechanism, 2.0)
    a, b = RECORDS["cross"]
    result = audit(
        simulated_clients(config),
        a,
        b,
        n_trials=40_000,
        batch_size=10_000,
        score=likelihood_score(config, a, b),
        claimed_epsilon=2.0,
        delta=config.delta,
    )
    assert not result.refuted
    # The threshold in the middle alone has .599 against .401, as the noise is 1.99 sensitivities.
    assert result.epsilon_lower_bound > 0.4


def test_the_client_itself():
    config = campaign("moments", "one_bit", 2.0)
    client = Randomizer(config, max_reports=20_000)
    a, b = RECORDS["moments"]
    score = likelihood_score(config, a, b)

    def score_one(report):
        payload = np.array([int.from_bytes(report.payload, "little")], dtype=np.uint32)
        nonces = np.array([report.nonce], dtype=np.uint64)
        return score(ReportBatch(config, nonces, payload))[0]

    result = audit(
        lambda record: client.randomize(*record),
        a,
        b,
        n_trials=4000,
        score=score_one,
        significance_level=1e-6,  # the randomness is the system's: this must not fail by chance
        claimed_epsilon=2.0,
    )
    assert not result.refuted
    # The directions tell the two apart in half of the trials: p is .44 and q is .06, with
    # standard errors of .011 and .0053. Bounds at this level are 4.9 of them away; if the counts
    # are off by 5 more, then log(.33 / .11) is left.
    assert result.epsilon_lower_bound > 1.0


def test_a_client_with_a_wrong_coin_is_caught():
    config = campaign("cross", "one_bit", 1.0)
    randomize = simulated_clients(config)
    config.__dict__["amplitude"] = coin_amplitude(1.2)
    a, b = RECORDS["cross"]
    score = likelihood_score(config, a, b)
    result = audit(
        randomize, a, b, n_trials=60_000, batch_size=20_000, score=score, claimed_epsilon=1.0
    )
    assert result.refuted
    assert result.epsilon_lower_bound <= 1.2
