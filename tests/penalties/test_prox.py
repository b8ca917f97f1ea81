"""Proximal operators against their definition, for any input that hypothesis finds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sparsestat.penalties import L1, ElasticNet, RowGroupL2

N_FEATURES = 4
N_TARGETS = 3
STEPS = st.floats(0.01, 10.0)
STRENGTHS = st.floats(0.0, 4.0)
FACTORS = arrays(np.float64, N_FEATURES, elements=st.floats(0.0, 3.0)).filter(np.any)
MASKS = arrays(np.bool_, N_FEATURES)
SEEDS = st.integers(0, 2**32 - 1)

separable = st.one_of(
    st.builds(L1, STRENGTHS, penalty_factor=st.none() | FACTORS, positive=st.booleans() | MASKS),
    st.builds(
        ElasticNet,
        STRENGTHS,
        st.floats(0.0, 1.0),
        penalty_factor=st.none() | FACTORS,
        positive=st.booleans() | MASKS,
    ),
)
by_row = st.builds(RowGroupL2, STRENGTHS, penalty_factor=st.none() | FACTORS)


def points(shape):
    return arrays(np.float64, shape, elements=st.floats(-10.0, 10.0))


def penalties_with(n_points):
    def attach(strategy, shape):
        return st.tuples(strategy, *[points(shape)] * n_points)

    return attach(separable, N_FEATURES) | attach(by_row, (N_FEATURES, N_TARGETS))


def just_inside(y):
    """Pull y towards zero by more than it may have been rounded.

    Where a conjugate is an indicator, rounding would make it infinite.
    """
    return np.sign(y) * np.maximum(np.abs(y) * (1.0 - 1e-9) - 1e-12, 0.0)


def objective(penalty, x, v, step):
    return 0.5 * np.sum((x - v) ** 2) + step * penalty.value(x)


@given(penalties_with(1), STEPS, SEEDS)
def test_nothing_is_better_than_the_proximal_point(drawn, step, seed):
    penalty, v = drawn
    x = penalty.prox(v, step)
    reached = objective(penalty, x, v, step)
    rng = np.random.default_rng(seed)
    rivals = [np.zeros_like(v), v, np.maximum(v, 0.0)]
    rivals += [x + scale * rng.standard_normal(v.shape) for scale in (1e-4, 1e-2, 1.0, 10.0)]
    rivals += [np.maximum(rival, 0.0) for rival in rivals[-4:]]
    for rival in rivals:
        assert reached <= objective(penalty, rival, v, step) + 1e-11


@given(separable, points(N_FEATURES), STEPS, st.integers(0, N_FEATURES - 1))
def test_no_point_of_a_fine_grid_is_better(penalty, v, step, j):
    x = penalty.prox(v, step)
    reached = objective(penalty, x, v, step)
    rival = x.copy()
    grid = np.linspace(-12.0, 12.0, 241)
    for candidate in np.concatenate([grid, x[j] + grid / 1e3]):
        rival[j] = candidate
        assert reached <= objective(penalty, rival, v, step) + 1e-11


@given(by_row, points((N_FEATURES, N_TARGETS)), STEPS, st.integers(0, N_FEATURES - 1))
def test_no_point_along_the_row_is_better(penalty, v, step, j):
    x = penalty.prox(v, step)
    reached = objective(penalty, x, v, step)
    rival = x.copy()
    for factor in np.linspace(-0.5, 1.5, 201):
        rival[j] = factor * v[j]
        assert reached <= objective(penalty, rival, v, step) + 1e-11


@given(penalties_with(2), STEPS)
def test_firmly_nonexpansive(drawn, step):
    penalty, u, v = drawn
    moved = penalty.prox(u, step) - penalty.prox(v, step)
    assert np.sum(moved**2) <= np.sum(moved * (u - v)) + 1e-11


@given(penalties_with(1), STEPS)
def test_fenchel_equality_holds_at_the_proximal_point(drawn, step):
    # v = x + step * y splits v into a point x and a subgradient y at x.
    penalty, v = drawn
    x = penalty.prox(v, step)
    y = just_inside((v - x) / step)
    gap = penalty.value(x) + penalty.conjugate(y) - np.sum(x * y)
    assert abs(gap) <= 1e-6 * (1.0 + np.sum(np.abs(v)) ** 2 / step)


@given(penalties_with(1), SEEDS)
def test_moreau_decomposition(drawn, seed):
    # What the operator takes away minimises ||y - v||^2 / 2 + conjugate(y).
    penalty, v = drawn
    rest = v - penalty.prox(v, 1.0)
    rest_inside = just_inside(rest)
    reached = 0.5 * np.sum((rest_inside - v) ** 2) + penalty.conjugate(rest_inside)
    assert np.isfinite(reached)
    rng = np.random.default_rng(seed)
    for scale in (0.0, 0.5, 0.99, 1.5):
        for noise in (0.0, 0.01, 1.0):
            y = scale * rest + noise * rng.standard_normal(v.shape)
            rival = 0.5 * np.sum((y - v) ** 2) + penalty.conjugate(y)
            assert reached <= rival + 1e-6


@given(penalties_with(2))
def test_conjugate_bounds_the_inner_product(drawn):
    penalty, x, y = drawn
    assert np.sum(x * y) <= penalty.value(x) + penalty.conjugate(y) + 1e-9


@given(points(N_FEATURES), st.floats(0.0, 5.0))
def test_projection_on_the_box_is_the_rest_of_soft_thresholding(v, alpha):
    np.testing.assert_allclose(v - L1(alpha).prox(v, 1.0), np.clip(v, -alpha, alpha), atol=1e-14)


@given(
    arrays(np.int64, N_FEATURES, elements=st.integers(-640, 640)),
    st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0]),
    st.integers(0, 256),
    st.sampled_from([0.0, 0.5, 0.75]),
    MASKS,
)
def test_subdifferential_distance_is_exactly_zero_at_fixpoints(
    ticks, step, strength, ridge_share, positive
):
    # Binary fractions, of which every operation below is exact.
    v = ticks / 64
    if ridge_share == 0.0:
        penalty = L1(strength / 64, positive=positive)
    else:
        # 1 + step * alpha * (1 - l1_ratio) = 4, a power of two.
        alpha = 3.0 / (step * ridge_share)
        penalty = ElasticNet(alpha, 1.0 - ridge_share, positive=positive)
        v = v * 4.0
    x = penalty.prox(v, step)
    gradient = (x - v) / step
    assert np.array_equal(penalty.subdiff_distance(x, gradient), np.zeros(N_FEATURES))
    # Away from the fixpoint it is the distance moved.
    strayed = np.where(x != 0.0, gradient + 0.5, gradient)
    assert np.array_equal(penalty.subdiff_distance(x, strayed), np.where(x != 0.0, 0.5, 0.0))


def test_row_distance_is_exactly_zero_at_fixpoints():
    penalty = RowGroupL2(alpha=5.0)
    v = np.array([[6.0, 8.0], [3.0, 4.0], [0.0, 0.0], [1.0, -1.0]])
    x = penalty.prox(v, 1.0)
    np.testing.assert_array_equal(x, [[3.0, 4.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    np.testing.assert_array_equal(penalty.subdiff_distance(x, x - v), np.zeros(4))
    np.testing.assert_array_equal(penalty.subdiff_distance(x, x - v + [0.0, 1.0])[0], 1.0)


@given(penalties_with(1), STEPS)
def test_both_distances_vanish_at_fixpoints(drawn, step):
    penalty, v = drawn
    x = penalty.prox(v, step)
    gradient = (x - v) / step
    size = 1.0 + np.abs(gradient).max()
    # Where a norm is rounded, a relative error of the gradient is left.
    assert np.all(penalty.subdiff_distance(x, gradient) <= 1e-9 * size)
    assert np.all(penalty.fixpoint_distance(x, gradient, 1.0 / step) <= 1e-9 * size)


@given(penalties_with(1), STEPS)
def test_fixpoint_distance_is_below_the_subdifferential_distance(drawn, L):
    # One step moves by no more than the gradient map allows, for a convex penalty.
    penalty, x = drawn
    if np.isfinite(penalty.value(x)):
        gradient = np.sin(np.arange(x.size, dtype=float)).reshape(x.shape) * 5.0
        fixpoint = penalty.fixpoint_distance(x, gradient, L)
        assert np.all(fixpoint <= penalty.subdiff_distance(x, gradient) + 1e-9)


@pytest.mark.parametrize("penalty", [L1(0.5), ElasticNet(2.0, 0.25)])
def test_ties_at_the_threshold_are_zero(penalty):
    v = np.array([0.5, -0.5, np.nextafter(0.5, 1.0)])
    assert np.array_equal(penalty.prox(v, 1.0) == 0.0, [True, True, False])


def test_steps_of_each_coordinate():
    rng = np.random.default_rng(0)
    v, steps = 3.0 * rng.standard_normal(20), rng.uniform(0.01, 10.0, 20)
    penalty = ElasticNet(0.7, 0.4, positive=rng.random(20) < 0.5)
    _, params = penalty.kernel(20)
    for j in range(20):
        single = ElasticNet(0.7, 0.4, positive=bool(params[2, j]))
        assert penalty.prox(v, steps)[j] == single.prox(v[j : j + 1], steps[j])[0]
    rows = rng.standard_normal((20, 2))
    group = RowGroupL2(0.3)
    together = group.prox(rows, steps)
    for j in range(20):
        np.testing.assert_array_equal(together[j], group.prox(rows[j : j + 1], steps[j])[0])
