"""What the tests of the client share."""

import itertools
import math
from fractions import Fraction
from pathlib import Path

import numpy as np

from sparsestat.privacy._config import LDPConfig
from sparsestat.privacy._query import Query

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


class Source:
    """A stand-in for the random bits of the operating system, which answers from a list."""

    def __init__(self, numbers=()):
        self.numbers = list(numbers)

    def __call__(self, n_bits):
        assert n_bits == 64
        return self.numbers.pop(0)
