"""The penalty on groups of a vector, from its definition and against the one on rows."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.base import clone

from sparsestat.penalties import L1, GroupL2, RowGroupL2
from sparsestat.solvers import fista

GROUPS = [[4, 0], [1], [2, 5, 3]]
POINTS = arrays(np.float64, 6, elements=st.floats(-10.0, 10.0))
WEIGHTS = st.sampled_from(["sqrt", "ones"]) | arrays(
    np.float64, 3, elements=st.floats(0.0, 3.0)
).filter(np.any)
PENALTIES = st.builds(GroupL2, st.floats(0.0, 4.0), st.just(GROUPS), group_weights=WEIGHTS)
STEPS = st.floats(0.01, 10.0)


@given(PENALTIES, POINTS, STEPS, st.integers(0, 2**32 - 1))
def test_nothing_is_better_than_the_proximal_point(penalty, v, step, seed):
    x = penalty.prox(v, step)

    def objective(x):
        return 0.5 * np.sum((x - v) ** 2) + step * penalty.value(x)

    rng = np.random.default_rng(seed)
    rivals = [np.zeros(6), v] + [
        x + scale * rng.standard_normal(6) for scale in (1e-4, 1e-2, 1.0, 10.0)
    ]
    for columns in GROUPS:
        rivals.append(x.copy())
        rivals[-1][columns] = 0.0
    for rival in rivals:
        assert objective(x) <= objective(rival) + 1e-11


@given(PENALTIES, POINTS, STEPS)
def test_the_proximal_point_is_stationary(penalty, v, step):
    scaled = clone(penalty).set_params(alpha=penalty.alpha * step)
    x = scaled.prox(v, 1.0)
    np.testing.assert_allclose(scaled.subdiff_distance(x, x - v), 0.0, atol=1e-12)


@given(PENALTIES, POINTS, POINTS)
def test_fenchel_young(penalty, x, y):
    assert penalty.value(x) + penalty.conjugate(y) >= x @ y - 1e-11
    inside = y - penalty.prox(y, 1.0)
    # Further inside than it may have been rounded: the conjugate jumps to infinity.
    inside = np.sign(inside) * np.maximum(np.abs(inside) * (1.0 - 1e-9) - 1e-12, 0.0)
    assert penalty.conjugate(inside) == 0.0
    assert penalty.value(x) >= x @ inside - 1e-9 * (1.0 + abs(x @ inside))


def test_conjugate_outside_is_infinite():
    assert GroupL2(1.0, GROUPS).conjugate(np.full(6, 1.1)) == math.inf


@given(POINTS, STEPS, STEPS)
def test_consecutive_groups_are_rows(v, step, alpha):
    ours = GroupL2(alpha, 2, group_weights=[1.0, 0.0, 2.0])
    rows = RowGroupL2(alpha, penalty_factor=[1.0, 0.0, 2.0])
    matrix = v.reshape(3, 2)
    assert ours.value(v) == pytest.approx(rows.value(matrix), rel=1e-12)
    np.testing.assert_allclose(
        ours.prox(v, step).reshape(3, 2), rows.prox(matrix, step), rtol=1e-12, atol=1e-13
    )
    assert ours.alpha_max(v) == pytest.approx(rows.alpha_max(matrix), rel=1e-12)


@given(POINTS, STEPS)
def test_groups_of_one_are_the_l1_norm(v, step):
    np.testing.assert_allclose(
        GroupL2(0.7).prox(v, step), L1(0.7).prox(v, step), rtol=1e-13, atol=1e-13
    )


def test_subdifferential_by_hand():
    penalty = GroupL2(2.0, [[0, 1], [2, 3]], group_weights="ones")
    w = np.array([3.0, 4.0, 0.0, 0.0])
    grad = np.array([-1.2, 0.0, 3.0, 4.0])
    # 2 * (0.6, 0.8) - (1.2, 0), and 5 - 2 along (0.6, 0.8).
    np.testing.assert_allclose(penalty.subdiff_distance(w, grad), [0.0, 1.6, 1.8, 2.4], atol=1e-15)
    idx = np.array([3, 2])
    np.testing.assert_allclose(penalty.subdiff_distance(w, grad[idx], idx), [2.4, 1.8])
    with pytest.raises(ValueError, match="whole groups"):
        penalty.subdiff_distance(w, grad[:1], np.array([0]))
    with pytest.raises(ValueError, match=r"grad must have shape \(4,\)"):
        penalty.subdiff_distance(w, grad[:3])


def test_out_and_dtype():
    penalty = GroupL2(0.5, GROUPS)
    v = np.arange(6.0)
    expected = penalty.prox(v, 1.0)
    assert penalty.prox(v, 1.0, out=v) is v
    np.testing.assert_array_equal(v, expected)
    assert penalty.prox(np.ones(6, dtype=np.float32), 1.0).dtype == np.float32
    assert penalty.prox([1, 1, 1, 1, 1, 1], 1.0).dtype == np.float64


def test_penalised_features_and_zero_strength():
    penalty = GroupL2(1.0, GROUPS, group_weights=[1.0, 0.0, 1.0])
    np.testing.assert_array_equal(penalty.is_penalized(6), [1, 0, 1, 1, 1, 1])
    v = np.array([0.0, -1.0, 2.0, 0.0, 0.0, 3.0])
    np.testing.assert_array_equal(GroupL2(0.0, GROUPS).prox(v, 1.0), v)


def test_copies_and_checks():
    penalty = GroupL2(0.5, GROUPS, group_weights="ones")
    for other in (clone(penalty), pickle.loads(pickle.dumps(penalty))):
        assert other.get_params() == penalty.get_params()
    assert penalty.weak_convexity() == 0.0
    with pytest.raises(ValueError, match="1 dimension"):
        penalty.value(np.ones((3, 2)))
    with pytest.raises(ValueError, match="groups"):
        penalty.value(np.ones(5))
    with pytest.raises(ValueError, match="step must be a number"):
        penalty.prox(np.ones(6), np.ones(6))
    with pytest.raises(ValueError, match="alpha"):
        GroupL2(-1.0).value(np.ones(3))


def test_fista_stops_at_zero_from_the_largest_strength_on():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((30, 6)), rng.standard_normal(30)
    largest = GroupL2(1.0, GROUPS).alpha_max(-X.T @ y)
    assert not np.any(fista(X, y, GroupL2(1.0001 * largest, GROUPS)).w)
    assert np.any(fista(X, y, GroupL2(0.99 * largest, GROUPS)).w)
