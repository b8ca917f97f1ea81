"""Generated bridges have the law that their description promises."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.utils import Bunch

from sparsestat.datasets import make_schrodinger_bridge

N_SIGMA = 5.0
"""Deviations allowed, in standard deviations of the Monte-Carlo error; the seeds are fixed."""


def test_contents():
    bridge = make_schrodinger_bridge(7, 3, n_components=4, epsilon=0.2, random_state=0)
    assert isinstance(bridge, Bunch)
    assert sorted(bridge) == ["X", "epsilon", "locations", "log_weights", "scales", "target"]
    assert bridge.X.shape == bridge.target.shape == (7, 3)
    assert bridge.locations.shape == bridge.scales.shape == (4, 3)
    assert bridge.epsilon == 0.2
    np.testing.assert_allclose(np.linalg.norm(bridge.locations, axis=1), 5.0)
    assert np.all((bridge.scales >= 0.03) & (bridge.scales <= 0.3))
    np.testing.assert_allclose(np.exp(bridge.log_weights), 0.25)


def test_seeds():
    first, same, more = (make_schrodinger_bridge(n, 2, random_state=3) for n in (20, 20, 50))
    np.testing.assert_array_equal(first.target, same.target)
    np.testing.assert_array_equal(first.locations, more.locations)
    assert not np.array_equal(first.X[:20], make_schrodinger_bridge(20, 2, random_state=4).X)


@pytest.mark.parametrize("epsilon", [0.1, 10.0])
def test_moments(epsilon):
    n = 20_000
    bridge = make_schrodinger_bridge(n, 2, epsilon=epsilon, random_state=1)
    assert np.all(np.abs(bridge.X.mean(axis=0)) <= N_SIGMA * 4 / np.sqrt(n))
    assert np.all(np.abs(bridge.X.var(axis=0) - 16) <= N_SIGMA * 16 * np.sqrt(2 / n))
    # The target has the moments of the plan, which other starting points estimate, too.
    x = 4.0 * np.random.default_rng(9).standard_normal((n, 2))
    exponents = np.einsum("nd,kd->nk", x * x, bridge.scales) / 2 + x @ bridge.locations.T
    weights = softmax(bridge.log_weights + exponents / epsilon, axis=1)
    centres = bridge.locations + bridge.scales * x[:, None]
    first = np.einsum("nk,nkd->nd", weights, centres)
    second = np.einsum("nk,nkd->nd", weights, centres**2 + epsilon * bridge.scales)
    for found, expected in ((bridge.target, first), (bridge.target**2, second)):
        error = np.sqrt((found.var(axis=0) + expected.var(axis=0)) / n)
        assert np.all(np.abs(found.mean(axis=0) - expected.mean(axis=0)) <= N_SIGMA * error)


def test_samples_are_not_paired():
    bridge = make_schrodinger_bridge(5000, 2, random_state=0)
    correlation = np.corrcoef(bridge.X.T, bridge.target.T)[:2, 2:]
    assert np.all(np.abs(correlation) <= N_SIGMA / np.sqrt(5000))


@pytest.mark.parametrize("name", ["n_samples", "n_features", "n_components", "epsilon"])
def test_bad_arguments(name):
    with pytest.raises(ValueError, match=f"'{name}' parameter"):
        make_schrodinger_bridge(**{name: 0})
