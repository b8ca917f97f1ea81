import numpy as np
import pytest
from scipy import sparse

from sparsestat.utils._validation import (
    check_alphas,
    check_frequency_weights,
    check_penalty_factor,
    check_positive_mask,
)

X = np.zeros((3, 2))


def test_weights_become_float64():
    assert check_frequency_weights(None, X) is None
    for given, expected in [
        ([1, 0, 2], [1, 0, 2]),
        (2.5, [2.5, 2.5, 2.5]),
        (np.float32([0.5, 1, 2]), [0.5, 1, 2]),
        (np.array([True, False, True]), [1, 0, 1]),
    ]:
        weights = check_frequency_weights(given, sparse.csr_array(X))
        assert weights.dtype == np.float64
        np.testing.assert_array_equal(weights, expected)


@pytest.mark.parametrize(
    "weights",
    [
        [1, -1, 1],
        -1.0,
        [0, 0, 0],
        0,
        [1, np.nan, 1],
        np.nan,
        [1, np.inf, 1],
        [1, 2],
        [[1, 2, 3]],
        ["a", "b", "c"],
        [1e308, 1e308, 1e308],
    ],
)
def test_bad_weights_are_named(weights):
    with pytest.raises(ValueError, match="sample_weight"):
        check_frequency_weights(weights, X)


def test_zero_weights_are_accepted_for_a_chunk():
    np.testing.assert_array_equal(check_frequency_weights([0, 0, 0], X, allow_all_zero=True), 0)
    assert check_frequency_weights([], X[:0], allow_all_zero=True).shape == (0,)


def test_penalty_factor_defaults_to_ones():
    np.testing.assert_array_equal(check_penalty_factor(None, 2), [1, 1])


def test_penalty_factor_is_copied():
    given = np.array([0.0, 2.0])
    factors = check_penalty_factor(given, 2)
    factors[:] = 7
    np.testing.assert_array_equal(given, [0, 2])


@pytest.mark.parametrize(
    "factor, message",
    [
        ([1, 2, 3], r"penalty_factor must have shape \(2,\).*got shape \(3,\)"),
        (1.0, r"penalty_factor must have shape \(2,\).*got shape \(\)"),
        ([[1, 2]], r"penalty_factor must have shape \(2,\).*got shape \(1, 2\)"),
        ([1, -2], r"penalty_factor must have finite.*got -2.0 at position 1"),
        ([np.nan, 1], r"penalty_factor must have finite.*got nan at position 0"),
        ([1, np.inf], r"penalty_factor must have finite.*got inf at position 1"),
        ([0, 0], "penalty_factor must have at least one positive"),
        (["a", "b"], "penalty_factor must hold real numbers"),
        ([1j, 1], "penalty_factor must hold real numbers"),
        ([[1], [1, 2]], "penalty_factor must hold real numbers"),
    ],
)
def test_bad_penalty_factor_is_named(factor, message):
    with pytest.raises(ValueError, match=message):
        check_penalty_factor(factor, 2)


@pytest.mark.parametrize(
    "positive, expected",
    [(True, [True, True]), (np.False_, [False, False]), ([True, False], [True, False])],
)
def test_positive_mask(positive, expected):
    mask = check_positive_mask(positive, 2)
    assert mask.dtype == np.bool_
    assert mask.flags.writeable
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize("positive", [1, "yes", [True], [0, 1], [[True, False]], None])
def test_bad_positive_is_named(positive):
    with pytest.raises(ValueError, match=r"positive must be a bool .*shape \(2,\)"):
        check_positive_mask(positive, 2)


def test_alphas_are_sorted_and_copied():
    given = np.array([1.0, 3.0, 2.0])
    alphas = check_alphas(given)
    np.testing.assert_array_equal(alphas, [3, 2, 1])
    np.testing.assert_array_equal(given, [1, 3, 2])
    assert alphas.flags.c_contiguous and alphas.flags.writeable
    np.testing.assert_array_equal(check_alphas([1]), [1.0])


@pytest.mark.parametrize(
    "alphas, message",
    [
        ([], "one-dimensional"),
        (1.0, "one-dimensional"),
        ([[1.0]], "one-dimensional"),
        ([1, 0], "finite and positive, got 0.0"),
        ([1, -1], "finite and positive, got -1.0"),
        ([1, np.nan], "finite and positive, got nan"),
        ([np.inf], "finite and positive, got inf"),
        (["a"], "real numbers"),
    ],
)
def test_bad_alphas_are_named(alphas, message):
    with pytest.raises(ValueError, match=f"strengths must .*{message}"):
        check_alphas(alphas, name="strengths")
