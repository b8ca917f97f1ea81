"""Simulated data, fits with a fixed seed, and what every fit must satisfy."""

import functools
import pickle

import numpy as np
import pytest

from sparsestat.dag import CoLiDE
from sparsestat.datasets import make_sem

from ._dags import has_no_cycle

VARIANCES = pytest.mark.parametrize("variance", ["equal", "unequal"])
CRITERIA = pytest.mark.parametrize("criterion", ["colide", "bic"])
SEEDED = functools.partial(CoLiDE, random_state=0)
SHORT_PATH = {"warm_iter": 1000, "max_iter": 3000, "lr": 3e-3, "checkpoint": 500, "tol": 1e-5}


def simulate(n_nodes=7, n_samples=300, degree=1.5, seed=0, variance="equal"):
    noise = 1.0 if variance == "equal" else (0.5, 5.0)
    degree = min(degree, (n_nodes - 1) / 2)
    return make_sem(n_samples, n_nodes, degree=degree, noise_variance=noise, random_state=seed)


def criterion_value(S, W, scales, alpha, variance, penalty=None):
    """The documented criterion, term by term."""
    d = len(S)
    penalty = np.ones(d) if penalty is None else penalty
    gap = np.eye(d) - W
    norm = alpha * np.sum(penalty[:, None] * np.abs(W))
    if variance == "equal":
        s = scales[0]
        assert np.all(scales == s)
        return np.trace(gap.T @ S @ gap) / (2 * s) + d * s / 2 + norm
    return 0.5 * sum(gap[:, j] @ S @ gap[:, j] / scales[j] + scales[j] for j in range(d)) + norm


def covariance(X, weights=None):
    return np.cov(np.asarray(X, dtype=float).T, bias=True, aweights=weights).reshape(X.shape[1], -1)


def assert_valid(model, S, variance, penalty=None):
    """A graph in the order given, whose criterion is the one reported."""
    position = np.argsort(model.order_)
    for W in (model.adjacency_, model.coef_raw_, model.refit_adjacency_):
        assert np.all(np.isfinite(W))
        parents, children = np.nonzero(W)
        assert np.all(position[parents] < position[children])
    assert has_no_cycle(model.coef_raw_ != 0)
    value = criterion_value(
        S, model.coef_raw_, model.noise_scales_, model.alpha_, variance, penalty
    )
    assert model.objective_ == pytest.approx(value, rel=1e-9)


def assert_same_fit(a, b, rtol=1e-9):
    """The same result up to rounding, relative to the largest entry of each attribute.

    Nodes without an edge between them may change places, for which rounding is enough.
    """
    for name in (
        "adjacency_", "coef_raw_", "noise_scales_", "refit_adjacency_", "refit_noise_scales_",
        "mean_", "covariance_", "alpha_", "objective_", "n_samples_seen_", "effective_sample_size_",
    ):  # fmt: skip
        x, y = np.asarray(getattr(a, name)), np.asarray(getattr(b, name))
        np.testing.assert_allclose(
            x, y, rtol=rtol, atol=rtol * np.abs(y).max(initial=0.0), err_msg=name
        )
    if rtol == 0:
        np.testing.assert_array_equal(a.order_, b.order_)


def state_of(model):
    return pickle.dumps(dict(sorted(vars(model).items())))
