"""Reports, states and servers that the tests of what travels share."""

import numpy as np

from sparsestat.privacy._aggregator import MomentAggregator
from sparsestat.privacy._config import LDPConfig
from sparsestat.privacy._iht_server import LDPIHTServer
from sparsestat.privacy._reports import (
    ReportBatch,
)

WORD = 2**64
CONFIG = LDPConfig("cross", 3, epsilon=4.0, n_bits=3, campaign_id="reports")
GRID = LDPConfig("cross", 3, delta=1e-5, mechanism="discrete_gaussian")


def make_batch(config=CONFIG, n=5, seed=0, **options):
    rng = np.random.default_rng(seed)
    nonces = rng.integers(WORD, size=n, dtype=np.uint64)
    if config.is_seeded:
        payload = rng.integers(2**config.n_bits, size=n).astype(np.uint32)
    else:
        payload = rng.integers(-5000, 5000, size=(n, config.dim)).astype(np.int32)
    return ReportBatch(config, nonces, payload, **options)


def same(a, b):
    return (
        a.config == b.config
        and (a.round, a.simulated) == (b.round, b.simulated)
        and np.array_equal(a.nonces, b.nonces)
        and np.array_equal(a.payload, b.payload)
    )


def make_server():
    config = LDPConfig("gradient", 2, campaign_id="server")
    server = LDPIHTServer(config, n_nonzero=1, n_rounds=2)
    server.ingest(make_batch(config, round=1)).close_round()
    return server.ingest(make_batch(config, round=2))


SHORT = {
    "state": lambda: MomentAggregator(CONFIG, deduplicate=True).add_batch(make_batch()),
    "server": make_server,
}
