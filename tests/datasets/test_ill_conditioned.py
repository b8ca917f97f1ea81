"""The generator of regressions whose informative columns nearly depend on each other."""

import numpy as np
import pytest

from sparsestat.datasets._ill_conditioned import make_ill_conditioned_regression

KINDS = ("latent", "nested", "blocks", "smooth", "iid")


@pytest.mark.parametrize("kind", KINDS)
def test_columns_and_signal_have_unit_variance(kind):
    data = make_ill_conditioned_regression(80, 60, 5, kind=kind, snr=4.0, random_state=3)
    assert data.data.shape == (80, 60) and data.target.shape == (80,)
    np.testing.assert_allclose(data.data.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(data.data.std(axis=0), 1.0, rtol=1e-12)
    signal = data.data @ data.coef
    assert signal.std() == pytest.approx(1.0, rel=1e-9)
    np.testing.assert_array_equal(np.flatnonzero(data.coef), data.support)
    assert data.support.size == 5
    assert data.noise == pytest.approx(0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_singular_direction_carries_the_same_energy(kind):
    data = make_ill_conditioned_regression(80, 60, 5, kind=kind, random_state=4)
    columns = data.data[:, data.support]
    left, _, _ = np.linalg.svd(columns, full_matrices=False)
    parts = left.T @ (columns @ data.coef[data.support])
    # Var 1 over 80 rows, five directions: each has the squared length 80 / 5.
    np.testing.assert_allclose(parts**2, 16.0, rtol=1e-6)


def test_the_noise_has_the_promised_size():
    data = make_ill_conditioned_regression(4000, 5, 2, kind="iid", snr=25.0, random_state=0)
    errors = data.target - data.data @ data.coef
    # The standard error of an estimated standard deviation is sigma / sqrt(2 n) = 1.1 %.
    assert errors.std() == pytest.approx(0.2, rel=4 * 0.0112)


def test_the_support_is_uniform():
    counts = np.zeros(8)
    for seed in range(400):
        data = make_ill_conditioned_regression(4, 8, 2, kind="iid", random_state=seed)
        counts[data.support] += 1
    # Each column is drawn with probability 1/4: standard error sqrt(400 * 3 / 16) = 8.7.
    assert np.abs(counts - 100).max() < 4 * 8.7


def test_kinds_differ_in_how_their_columns_depend_on_each_other():
    correlations = {}
    for kind in KINDS:
        X = make_ill_conditioned_regression(2000, 40, 3, kind=kind, random_state=1).data
        correlations[kind] = X.T @ X / 2000
    neighbours = np.diagonal(correlations["smooth"], 1)
    # The standard error of a correlation r is (1 - r^2) / sqrt(n) = 0.001 at exp(-1/39).
    assert np.abs(neighbours - np.exp(-1 / 39)).max() < 5 * 0.0012
    assert correlations["smooth"][0, -1] == pytest.approx(np.exp(-1), abs=4 * 0.02)
    assert np.abs(correlations["iid"] - np.eye(40)).max() < 5 / np.sqrt(2000)
    blocks = np.arange(40) * 5 // 40
    same = correlations["blocks"][blocks[:, None] == blocks]
    others = correlations["blocks"][blocks[:, None] != blocks]
    assert same.min() > 0.99
    # g and a factor at 0.2: correlation 1 / 1.04.
    assert others.max() < 0.98 and others.min() > 0.93
    # Two factors explain all but a few columns of "latent" almost completely.
    values = np.linalg.eigvalsh(correlations["latent"])[::-1]
    assert values[:2].sum() > 0.8 * 40
    # g and a factor at 0.1 shared by a quarter of the columns.
    nested = correlations["nested"]
    assert nested.min() > 0.98
    assert 0.1 < np.mean(nested > 0.9985) < 0.5


def test_the_same_integer_gives_the_same_data_and_support():
    first = make_ill_conditioned_regression(30, 20, 3, random_state=5)
    second = make_ill_conditioned_regression(30, 20, 3, random_state=5)
    np.testing.assert_array_equal(first.data, second.data)
    np.testing.assert_array_equal(first.target, second.target)
    wider = make_ill_conditioned_regression(50, 20, 3, kind="iid", random_state=5)
    np.testing.assert_array_equal(first.support, wider.support)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_informative": 9}, "n_informative must be at most n_features=8"),
        ({"n_samples": 5, "n_informative": 5}, "n_informative must be less than n_samples=5"),
        ({"kind": "other"}, "The 'kind' parameter"),
        ({"snr": 0.0}, "The 'snr' parameter"),
    ],
)
def test_impossible_requests_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_ill_conditioned_regression(**{"n_samples": 20, "n_features": 8} | arguments)
