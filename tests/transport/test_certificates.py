import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment, linprog

from sparsestat.transport import _certificates
from sparsestat.transport._certificates import round_plan, transport_gap
from sparsestat.transport._sinkhorn import sinkhorn


def linear_program(C, a, b):
    """The value of unregularised transport, and its dual variables."""
    n, m = C.shape
    rows = np.kron(np.eye(n), np.ones(m))
    columns = np.kron(np.ones(n), np.eye(m))
    answer = linprog(
        C.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([a, b]), method="highs"
    )
    assert answer.status == 0
    return answer.fun, answer.x.reshape(n, m), answer.eqlin.marginals


def weights(rng, size, mass, zeros):
    w = rng.exponential(size=size)
    if zeros:
        w[rng.uniform(size=size) < 0.3] = 0.0
        w[rng.integers(size)] = 1.0
    return w * (mass / w.sum())


@st.composite
def problems(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, m = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    mass, zeros = draw(st.sampled_from([1.0, 0.01, 37.5])), draw(st.booleans())
    a, b = weights(rng, n, mass, zeros), weights(rng, m, mass, zeros)
    kind = draw(st.sampled_from(["zero", "any", "sparse", "near", "much"]))
    if kind == "near":
        P = np.outer(a, b) / mass * rng.uniform(0.99, 1.01, size=(n, m))
    else:
        size = {"zero": 0.0, "any": 2.0, "sparse": 3.0, "much": 1e6}[kind]
        P = rng.uniform(size=(n, m)) * (size * mass / (n * m))
    if kind == "sparse":
        P[rng.uniform(size=(n, m)) < 0.6] = 0.0
    C = rng.normal(size=(n, m)) * draw(st.sampled_from([1e-3, 1.0, 1e4]))
    g = rng.standard_cauchy(size=m) * draw(st.sampled_from([0.0, 1.0, 1e6]))
    return C, P, g, a, b


@given(problems())
def test_rounded_plans_are_feasible_and_near(problem):
    _, P, _, a, b = problem
    before = P.copy()
    plan = round_plan(P, a, b)
    np.testing.assert_array_equal(P, before)
    assert plan.min() >= 0.0
    # Sums of at most 36 numbers, each computed with a handful of roundings of a part of the mass.
    rounding = 50 * np.finfo(float).eps * a.sum()
    assert np.abs(plan.sum(axis=1) - a).sum() <= rounding
    assert np.abs(plan.sum(axis=0) - b).sum() <= rounding
    error = np.abs(P.sum(axis=1) - a).sum() + np.abs(P.sum(axis=0) - b).sum()
    assert np.abs(P - plan).sum() <= 2.0 * error + rounding + 1e-12 * P.sum()


@given(problems())
def test_the_bounds_hold_for_any_plan_and_any_potentials(problem):
    C, P, g, a, b = problem
    value = linear_program(C, a, b)[0]
    # The f that is given must not matter.
    gap = transport_gap(C, P, (np.full(C.shape[0], 1e3), g), a, b)
    scale = a.sum() * np.abs(C).max()
    # The second term is what rounding does to b.g.
    assert gap.lower <= value + 1e-9 * scale + 1e-14 * a.sum() * np.abs(g).max()
    assert gap.upper >= value - 1e-9 * scale
    assert gap.gap == gap.upper - gap.lower


@given(problems())
def test_the_bounds_meet_at_the_solution(problem):
    C, _, _, a, b = problem
    value, plan, duals = linear_program(C, a, b)
    gap = transport_gap(C, np.maximum(plan, 0.0), (duals[: a.size], duals[a.size :]), a, b)
    scale = a.sum() * np.abs(C).max()
    assert gap.upper == pytest.approx(value, abs=1e-8 * scale)
    assert gap.lower == pytest.approx(value, abs=1e-8 * scale)


def test_an_assignment_is_certified():
    C = np.random.default_rng(0).uniform(size=(60, 60))
    exact = C[linear_sum_assignment(C)].mean()
    gaps = []
    for epsilon in (1e-2, 1e-3, 1e-4):
        result = sinkhorn(C, epsilon=epsilon)
        gap = transport_gap(C, result.plan, result.potentials)
        assert gap.lower <= exact + 1e-15 and exact <= gap.upper + 1e-15
        gaps.append(gap.gap)
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2] > 0.0


def test_no_entry_is_negative_by_rounding():
    for seed in range(100):
        rng = np.random.default_rng(seed)
        P = rng.uniform(size=(20, 30)) * (rng.uniform(size=(20, 30)) < 0.2)
        assert round_plan(P, weights(rng, 20, 1.0, True), weights(rng, 30, 1.0, True)).min() >= 0.0


def test_a_plan_that_is_feasible_stays():
    rng = np.random.default_rng(1)
    P = rng.uniform(size=(8, 5))
    np.testing.assert_allclose(round_plan(P, P.sum(axis=1), P.sum(axis=0)), P, rtol=1e-14)


def test_what_is_missing_is_a_product():
    a, b = np.array([0.25, 0.75]), np.array([0.5, 0.25, 0.25])
    np.testing.assert_allclose(round_plan(np.zeros((2, 3)), a, b), np.outer(a, b), rtol=1e-15)
    # By hand: the first row is halved; a quarter and a half are missing in the rows.
    P = np.array([[1.0, 0.0], [0.0, 0.0]])
    rounded = round_plan(P, [0.5, 0.5], [0.25, 0.75])
    np.testing.assert_allclose(rounded, [[0.25, 0.25], [0.0, 0.5]], rtol=1e-15)


def test_a_constant_in_the_potentials_costs_no_digits():
    rng = np.random.default_rng(2)
    C, a, b = rng.uniform(size=(7, 9)), weights(rng, 7, 1.0, False), weights(rng, 9, 1.0, False)
    # Multiples of 2^-10, so that the sums with 2^40 are exact.
    g = rng.integers(-500, 500, size=9) / 1024
    P, f = np.outer(a, b), np.zeros(7)
    expected = transport_gap(C, P, (f, g), a, b).lower
    assert transport_gap(C, P, (f, g + 2.0**40), a, b).lower == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize("anything", [np.nan, -np.inf, np.inf, 1e9])
def test_potentials_of_columns_without_weight_do_not_matter(anything):
    rng = np.random.default_rng(3)
    C, P, g = rng.uniform(size=(4, 6)), rng.uniform(size=(4, 6)), rng.uniform(size=6)
    a, b = np.array([0.3, 0.0, 0.2, 0.5]), np.array([0.25, 0.0, 0.25, 0.25, 0.0, 0.25])
    kept = b > 0
    small = transport_gap(C[:, kept], P[:, kept], (a, g[kept]), a, b[kept])
    g[~kept] = anything
    assert transport_gap(C, P, (a, g), a, b).lower == pytest.approx(small.lower, abs=1e-15)


def test_default_weights_are_equal_and_totals_follow_each_other():
    rng = np.random.default_rng(4)
    C, P, g = rng.uniform(size=(4, 5)), rng.uniform(size=(4, 5)), rng.uniform(size=5)
    a, b = np.full(4, 0.25), np.full(5, 0.2)
    potentials = ([0.0] * 4, g.tolist())
    expected = transport_gap(C, P, potentials, a, b)
    assert transport_gap(C.tolist(), P.tolist(), potentials) == expected
    tripled = transport_gap(C, 3.0 * P, potentials, b=3.0 * b)
    assert tripled.upper == pytest.approx(3.0 * expected.upper, rel=1e-14)
    assert tripled.lower == pytest.approx(3.0 * expected.lower, rel=1e-14)
    np.testing.assert_allclose(
        transport_gap(C, 3.0 * P, potentials, a=3.0 * a), tripled, rtol=1e-14, atol=1e-15
    )


def test_totals_that_differ_by_rounding_are_made_equal():
    rng = np.random.default_rng(5)
    P, a, b = rng.uniform(size=(3, 4)), np.full(3, 1 / 3), np.full(4, (1 + 5e-9) / 4)
    plan = round_plan(P, a, b)
    assert np.abs(plan.sum(axis=1) - a).sum() < 1e-15
    np.testing.assert_allclose(plan.sum(axis=0), 0.25, rtol=1e-15)


def test_blocks_of_rows_change_nothing(monkeypatch):
    rng = np.random.default_rng(6)
    C, P, g = rng.uniform(size=(10, 7)), rng.uniform(size=(10, 7)), rng.uniform(size=7)
    a, b = weights(rng, 10, 1.0, True), weights(rng, 7, 1.0, True)
    whole_plan, whole = round_plan(P, a, b), transport_gap(C, P, (a, g), a, b)
    monkeypatch.setattr(_certificates, "_BLOCK", 15)
    np.testing.assert_array_equal(round_plan(P, a, b), whole_plan)
    np.testing.assert_allclose(transport_gap(C, P, (a, g), a, b), whole, atol=1e-15)


def test_no_second_matrix_is_made():
    rng = np.random.default_rng(7)
    n = 1500
    C, P, g = rng.uniform(size=(n, n)), rng.uniform(size=(n, n)), np.zeros(n)
    transport_gap(C[:5, :5], P[:5, :5], (g[:5], g[:5]))
    tracemalloc.start()
    try:
        transport_gap(C, P, (g, g))
        gap_peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        round_plan(P, g + 1.0, g + 1.0)
        plan_peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # A handful of blocks of 2 MiB each, and for a plan that is returned the plan itself.
    assert gap_peak < 0.75 * C.nbytes
    assert plan_peak < 1.75 * C.nbytes


def test_single_precision_gives_bounds_of_the_same_costs():
    rng = np.random.default_rng(8)
    C = rng.uniform(size=(6, 6)).astype(np.float32)
    result = sinkhorn(C, epsilon=0.01)
    assert result.plan.dtype == np.float32
    assert round_plan(result.plan, [1.0] * 6, [1.0] * 6).dtype == np.float64
    gap = transport_gap(C, result.plan, result.potentials)
    C = C.astype(np.float64)
    assert gap.lower <= C[linear_sum_assignment(C)].mean() <= gap.upper


def test_device_arrays(xp):
    rng = np.random.default_rng(9)
    C, P, f, g = (rng.uniform(size=shape) for shape in ((6, 8), (6, 8), 6, 8))
    a, b = weights(rng, 6, 2.0, True), weights(rng, 8, 2.0, True)
    on_device = [xp.asarray(x) for x in (C, P, f, g, a, b)]
    expected = transport_gap(C, P, (f, g), a, b)
    C_, P_, f_, g_, a_, b_ = on_device
    gap = transport_gap(C_, P_, (f_, g_), a_, b_)
    assert all(isinstance(x, float) for x in gap)
    np.testing.assert_allclose(gap, expected, rtol=1e-13)
    plan = round_plan(P_, a_, b_)
    xp.assert_native(plan)
    np.testing.assert_allclose(xp.to_numpy(plan), round_plan(P, a, b), rtol=1e-13, atol=1e-16)
    np.testing.assert_allclose(
        transport_gap(C_, P_, (f_, g_)), transport_gap(C, P, (f, g)), rtol=1e-13
    )


def test_a_mix_of_libraries_is_refused():
    strict = pytest.importorskip("array_api_strict")
    C = np.ones((2, 2))
    on_device = strict.asarray(C)
    with pytest.raises(TypeError, match="one library"):
        round_plan(on_device, np.ones(2), np.ones(2))
    with pytest.raises(TypeError, match="one library"):
        transport_gap(C, on_device, (C[0], C[0]))
    with pytest.raises(TypeError, match="one library"):
        transport_gap(on_device, on_device, (C[0], C[0]))


@pytest.mark.parametrize(
    ("P", "a", "b", "match"),
    [
        ([[1.0, -0.5]], [1.0], [0.5, 0.5], "P must not be negative"),
        ([[1.0, np.nan]], [1.0], [0.5, 0.5], "P contains NaN"),
        ([[1.0, np.inf]], [1.0], [0.5, 0.5], "P contains infinity"),
        ([1.0, 2.0], [1.0], [0.5, 0.5], "Expected 2D array"),
        ([[1.0, 0.5]], [1.0], [0.5, 0.4], "same sum.*got sum.a.=1 and sum.b.=0.9"),
        ([[1.0, 0.5]], [1.0], [1.5, -0.5], "b must not be negative"),
        ([[1.0, 0.5]], [0.0], [0.5, 0.5], "a must have at least one positive"),
        ([[1.0, 0.5]], [0.5, 0.5], [0.5, 0.5], r"a must have shape \(1,\)"),
        ([[1.0, 0.5]], [1.0], [1.0], r"b must have shape \(2,\)"),
        ([[1.0, 0.5]], [1.0], [np.nan, 0.5], "b contains NaN"),
    ],
)
def test_bad_plans(P, a, b, match):
    with pytest.raises(ValueError, match=match):
        round_plan(P, a, b)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"C": np.full((2, 3), np.inf)}, "C contains infinity"),
        ({"plan": np.ones((3, 2))}, r"plan must have the shape \(2, 3\) of C, got shape \(3, 2\)"),
        ({"plan": -np.ones((2, 3))}, "plan must not be negative"),
        ({"potentials": np.ones(3)}, r"potentials must be a pair \(f, g\), got ndarray"),
        ({"potentials": None}, r"potentials must be a pair \(f, g\), got NoneType"),
        ({"potentials": (np.ones(3), np.ones(2))}, r"g of shape \(3,\), got \(2,\)"),
        ({"potentials": (np.ones(2), [0.0, np.nan, 0.0])}, "potentials must be finite"),
        ({"a": [0.5, 0.5], "b": [0.5, 0.5, 0.5]}, "same sum"),
    ],
)
def test_bad_bounds(change, match):
    arguments = {
        "C": np.ones((2, 3)),
        "plan": np.ones((2, 3)),
        "potentials": (np.zeros(2), np.zeros(3)),
    }
    with pytest.raises(ValueError, match=match):
        transport_gap(**(arguments | change))
