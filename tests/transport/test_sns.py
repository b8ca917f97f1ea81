import math
import warnings

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning

import sparsestat
from sparsestat.transport._costs import Costs
from sparsestat.transport._sinkhorn import sinkhorn
from sparsestat.transport._sns import (
    _evaluate,
    _hessian,
    _line_search,
    sinkhorn_newton_sparse,
    sparsified,
)
from sparsestat.transport._sweeps import Marginals


def assignment(n, seed):
    return np.random.default_rng(seed).uniform(size=(n, n))


def gaussian(n, m, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 2))
    Y = rng.standard_normal((m, 2)) @ np.array([[1.0, 0.6], [0.0, 0.8]]) + 1.0
    C = cdist(X, Y, "sqeuclidean")
    return C / C.max()


def weights(n, seed):
    w = np.random.default_rng(seed).uniform(0.5, 1.5, size=n)
    return w / w.sum()


def plain_sinkhorn(C, a, b, epsilon, n_iter):
    g = np.zeros(C.shape[1])
    for _ in range(n_iter):
        f = -epsilon * logsumexp((g - C) / epsilon + np.log(b), axis=1)
        g = -epsilon * logsumexp((f[:, None] - C) / epsilon + np.log(a)[:, None], axis=0)
    return f, g


def plan_at(C, a, b, f, g, epsilon):
    with np.errstate(divide="ignore"):
        z = (f[:, None] + g - C) / epsilon + np.log(a)[:, None] + np.log(b)
    return np.exp(z)


def marginal_error(P, a, b):
    return np.abs(P.sum(axis=1) - a).sum() + np.abs(P.sum(axis=0) - b).sum()


def errors_of(found):
    return np.array([step.marginal_error for step in found.steps])


@pytest.mark.parametrize("density", ["adaptive", None, 1.0, 0.3])
@pytest.mark.parametrize(("n", "m"), [(30, 40), (40, 25)])
def test_the_solution_is_that_of_the_plain_loop(n, m, density):
    C, a, b = gaussian(n, m), weights(n, 1), weights(m, 2)
    epsilon = 1 / 50
    f, g = plain_sinkhorn(C, a, b, epsilon, 2000)
    assert marginal_error(plan_at(C, a, b, f, g, epsilon), a, b) < 1e-12
    found = sinkhorn_newton_sparse(C, a, b, epsilon=epsilon, density=density, tol=1e-12)
    mine_f, mine_g = found.result.potentials
    # One constant is free.
    shift = f.mean() - mine_f.mean()
    np.testing.assert_allclose(mine_f + shift, f, atol=1e-8)
    np.testing.assert_allclose(mine_g - shift, g, atol=1e-8)
    assert len(found.steps) > 0


@pytest.mark.parametrize(
    ("C", "epsilon"), [(assignment(80, 0), 1 / 300), (gaussian(60, 80), 1 / 200)]
)
def test_what_is_reported_is_true(C, epsilon):
    n, m = C.shape
    a, b = weights(n, 3), weights(m, 4)
    found = sinkhorn_newton_sparse(C, a, b, epsilon=epsilon, n_sinkhorn=15, tol=1e-10)
    result, steps = found
    P = plan_at(C, a, b, *result.potentials, epsilon)
    assert marginal_error(P, a, b) <= 1e-10
    assert result.marginal_error == pytest.approx(marginal_error(P, a, b), abs=1e-12)
    assert steps[-1].marginal_error == pytest.approx(marginal_error(P, a, b), abs=1e-12)
    np.testing.assert_allclose(result.plan, P, rtol=1e-9, atol=1e-16)
    assert result.converged and result.method == "sns"
    assert result.n_iter == 15
    assert result.n_newton == len(steps) > 2
    assert result.n_cg == sum(step.n_cg for step in steps)
    assert [r.stage for r in result.history] == ["log"] * 15 + ["sns"] * len(steps)
    assert [r.marginal_error for r in result.history[15:]] == [s.marginal_error for s in steps]
    assert all(0 < step.n_kept <= C.size and 0.0 <= step.step <= 1.0 for step in steps)
    # The line search lets the dual fall by no more than rounding.
    assert np.diff([step.dual_value for step in steps]).min() > -1e-12


def test_dual_values_are_those_of_the_result_up_to_a_constant():
    C, epsilon = assignment(60, 1), 1 / 300
    constants = []
    for n_newton in (1, 2, 50):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = sinkhorn_newton_sparse(C, epsilon=epsilon, n_newton=n_newton)
        constants.append(found.result.dual_value - epsilon * found.steps[-1].dual_value)
    np.testing.assert_allclose(constants, constants[0], atol=1e-14)


def dense_hessian(P, kept):
    diagonal = np.concatenate([P.sum(axis=1), P.sum(axis=0)])
    product = _hessian(diagonal, kept)
    return np.column_stack([product(e) for e in np.eye(sum(P.shape))])


def test_the_hessian_is_minus_the_second_derivative_of_the_dual():
    rng = np.random.default_rng(0)
    P = rng.uniform(size=(4, 6))
    H = dense_hessian(P, sparsified(P, None, 0.0, P.sum(axis=1), P.sum(axis=0)))

    def gradient(z):
        Q = np.exp(z[:4, None] + z[4:]) * P
        return -np.concatenate([Q.sum(axis=1), Q.sum(axis=0)])

    h = 1e-5
    numerical = [(gradient(h * e) - gradient(-h * e)) / (2 * h) for e in np.eye(10)]
    # The error of a central difference is h^2 / 6 times a third derivative of size 6.
    np.testing.assert_allclose(-np.array(numerical), H, atol=1e-9)
    null = np.concatenate([np.ones(4), -np.ones(6)])
    np.testing.assert_allclose(H @ null, 0.0, atol=1e-14)
    assert np.linalg.eigvalsh(H)[1] > 0.1


@given(
    st.integers(0, 2**32 - 1), st.integers(1, 7), st.integers(1, 7),
    st.one_of(st.just("adaptive"), st.floats(0.01, 1.0)),
)  # fmt: skip
def test_the_sparse_hessian_is_positive_semi_definite(seed, n, m, density):
    P = np.exp(np.random.default_rng(seed).normal(scale=5.0, size=(n, m)))
    kept = sparsified(P, density, 0.5, P.sum(axis=1), P.sum(axis=0))
    assert scipy.sparse.issparse(kept)
    H = dense_hessian(P, kept)
    np.testing.assert_array_equal(H, H.T)
    assert np.linalg.eigvalsh(H)[0] >= -1e-14 * H.max()
    entries = kept.toarray()
    np.testing.assert_array_equal(entries, np.where(entries > 0, P, 0.0))


@given(st.integers(0, 2**32 - 1), st.floats(1e-12, 2.0))
def test_the_adaptive_rule_leaves_out_a_small_share_of_every_row_and_column(seed, error):
    rng = np.random.default_rng(seed)
    P = np.exp(rng.normal(scale=6.0, size=(9, 7)))
    a, columns = rng.uniform(0.5, 2.0, size=9), P.sum(axis=0)
    kept = sparsified(P, "adaptive", error, a, columns).toarray()
    delta = min(0.1, error)
    # By the definition, one entry after another.
    for i in range(9):
        for j in range(7):
            small = P[i, j] <= min(delta / 7 * a[i], delta / 9 * columns[j])
            assert kept[i, j] == (0.0 if small else P[i, j])
    left_out = P - kept
    assert (left_out.sum(axis=1) <= delta * a * (1 + 1e-14)).all()
    assert (left_out.sum(axis=0) <= delta * columns * (1 + 1e-14)).all()


@pytest.mark.parametrize("per_row", [1, 2, 7])
def test_a_fixed_density_keeps_the_largest_entries(per_row):
    rng = np.random.default_rng(5)
    for n in range(7, 70):
        P = rng.uniform(size=(n, n))
        kept = sparsified(P, per_row / n, 0.5, None, None)
        # Rounding of the share must not let in one more.
        assert kept.nnz == per_row * n
        assert kept.data.min() == np.sort(P, axis=None)[-per_row * n]
    P = rng.uniform(size=(4, 5))
    assert sparsified(P, 0.26, 0.5, None, None).nnz == math.ceil(0.26 * 20) == 6
    assert sparsified(P, 1e-9, 0.5, None, None).nnz == 1
    assert sparsified(P, 1.0, 0.5, None, None).nnz == 20


# e_{k+1} <= C e_k^1.5 with one constant, over the last steps to rounding.
ORDER, CONSTANT = 1.5, 1e4


@pytest.mark.parametrize(
    ("C", "epsilon"), [(assignment(300, 1), 1 / 1200), (gaussian(250, 300), 1 / 300)]
)
def test_the_adaptive_rule_converges_faster_than_linearly(C, epsilon):
    errors = errors_of(sinkhorn_newton_sparse(C, epsilon=epsilon, tol=1e-12))
    assert len(errors) >= 4
    before, after = errors[-4:-1], errors[-3:]
    assert (after <= CONSTANT * before**ORDER).all()
    ratios = after / before
    assert ratios[0] > 5 * ratios[1] > 25 * ratios[2]
    # Two digits or more at once, where a fixed density is known to make less than one.
    assert ratios[-1] < 1e-2


def test_a_fixed_density_converges_linearly():
    C = assignment(250, 2)
    found = sinkhorn_newton_sparse(C, epsilon=1 / 600, tol=1e-12, density=2 / 250)
    assert {step.n_kept for step in found.steps} == {500}
    errors = errors_of(found)
    ratios = errors[1:] / errors[:-1]
    last = ratios[-10:]
    assert last.min() > 0.4 and last.max() < 0.9
    assert last.max() - last.min() < 0.1
    # No constant makes this faster: the bound of the adaptive rule fails.
    assert (errors[-3:] > CONSTANT * errors[-4:-1] ** ORDER).all()
    adaptive = sinkhorn_newton_sparse(C, epsilon=1 / 600, tol=1e-12)
    assert len(adaptive.steps) < len(found.steps) / 3


def test_the_published_number_of_steps():
    # The paper reports 9 steps after 20 sweeps for a random assignment of this size.
    C = np.random.default_rng(0).uniform(size=(500, 500))
    counts = {
        density: len(sinkhorn_newton_sparse(C, epsilon=1 / 1200, tol=1e-12, density=density).steps)
        for density in ("adaptive", 5 / 500, 8 / 500)
    }
    assert all(7 <= count <= 11 for count in counts.values()), counts


def test_steps_that_are_too_long_are_halved():
    C, epsilon = assignment(30, 4), 1 / 100
    marginals = Marginals(*np.full((2, 30), 1 / 30), *np.full((2, 30), -math.log(30)))
    costs = Costs(C)
    point = _evaluate(costs, marginals, epsilon, marginals.log_a, marginals.log_b)
    direction = 50.0 * point.gradient / point.diagonal
    new, step = _line_search(costs, marginals, epsilon, point, direction)
    assert 0.0 < step < 1.0
    np.testing.assert_array_equal(new.u, point.u + step * direction[:30])
    np.testing.assert_array_equal(new.v, point.v + step * direction[30:])
    assert new.value >= point.value + 1e-4 * step * (point.gradient @ direction)
    double = _evaluate(
        costs, marginals, epsilon, point.u + 2 * step * direction[:30],
        point.v + 2 * step * direction[30:],
    )  # fmt: skip
    assert double.value < point.value + 2e-4 * step * (point.gradient @ direction)
    # Downhill, no length is right.
    assert _line_search(costs, marginals, epsilon, point, -direction) == (point, 0.0)


@pytest.mark.parametrize(("before", "accepted"), [(1e-6, True), (1e-4, False)])
def test_where_the_dual_is_flat_the_error_decides(before, accepted):
    marginals = Marginals(*np.full((2, 2), 0.5), *np.full((2, 2), math.log(0.5)))

    class Falling:
        """The error falls with the first step, and so does the value."""

        n = 2

        def marginals(self, inverse_epsilon, u, v):
            moved = u[0] != 0.0
            rows = np.array([0.5, 0.5]) + (before / 8 if moved else before / 2 * np.array([-1, 1]))
            return rows, np.array([0.5, 0.5]), 0.0

    point = _evaluate(Falling(), marginals, 1.0, np.zeros(2), np.zeros(2))
    direction = np.array([1e-12, 0.0, 0.0, 0.0])
    new, step = _line_search(Falling(), marginals, 1.0, point, direction)
    assert step == (1.0 if accepted else 0.0)
    assert (new.value < point.value) == accepted


def test_sweeps_help_where_no_step_is_acceptable():
    C = assignment(100, 0)
    found = sinkhorn_newton_sparse(C, epsilon=1 / 1200, n_sinkhorn=5)
    assert found.result.converged
    failed = sum(step.step == 0.0 for step in found.steps)
    assert failed > 0
    assert found.result.n_iter == 5 * (1 + failed)
    P = plan_at(C, np.full(100, 0.01), np.full(100, 0.01), *found.result.potentials, 1 / 1200)
    assert marginal_error(P, 0.01, 0.01) <= 1e-9


def test_not_converged_is_said():
    C, a, b = gaussian(50, 60), 3 * weights(50, 12), 3 * weights(60, 13)
    with pytest.warns(ConvergenceWarning, match="above the required 3e-09, after 2 Newton") as w:
        found = sinkhorn_newton_sparse(C, a, b, epsilon=1 / 500, n_newton=2)
    assert w[0].filename == __file__
    assert not found.result.converged and len(found.steps) == 2
    P = plan_at(C, a, b, *found.result.potentials, 1 / 500)
    np.testing.assert_allclose(found.result.plan, P, rtol=1e-9, atol=1e-16)
    assert found.result.marginal_error == pytest.approx(marginal_error(P, a, b), rel=1e-9)
    assert found.result.marginal_error > 1e-3


def test_tiny_regularisations_give_numbers():
    # Exponents beyond a double's, an offset, and sums that underflow.
    C = 1e8 + 1e6 * gaussian(40, 50)
    with pytest.warns(ConvergenceWarning):
        found = sinkhorn_newton_sparse(C, epsilon=0.1, n_newton=5, n_sinkhorn=3)
    assert all(np.isfinite(x).all() for x in found.result.potentials)
    assert np.isfinite([step[:2] for step in found.steps]).all()
    assert math.isfinite(found.result.value)
    result = sinkhorn(C, epsilon=100.0, method="sns")
    witness = sinkhorn(C, epsilon=100.0, method="newton", tol=1e-11)
    assert result.converged and result.n_newton > 0
    np.testing.assert_allclose(result.plan, witness.plan, atol=1e-8)


def test_as_a_method_of_sinkhorn_it_agrees_and_starts_warm():
    C, a, b = gaussian(60, 50), weights(60, 6), weights(50, 7)
    epsilon = 1 / 400
    result = sinkhorn(C, a, b, epsilon=epsilon, method="sns", tol=1e-11)
    P = plan_at(C, a, b, *result.potentials, epsilon)
    assert marginal_error(P, a, b) <= 1e-11
    assert result.n_newton > 0 and result.method == "sns"
    again = sinkhorn(C, a, b, epsilon=epsilon, method="sns", tol=1e-10, init=result)
    assert again.n_iter <= 2 and again.n_newton == 0
    with pytest.warns(ConvergenceWarning, match="after 23 steps"):
        short = sinkhorn(C, a, b, epsilon=epsilon, method="sns", max_iter=23)
    assert len(short.history) == 23 and not short.converged


@pytest.mark.parametrize("shape", [(1, 6), (6, 1), (1, 1)])
def test_one_row_or_column_has_one_plan(shape):
    n, m = shape
    a, b = weights(n, 8), weights(m, 9)
    found = sinkhorn_newton_sparse(np.random.default_rng(0).uniform(size=shape), a, b, epsilon=0.01)
    np.testing.assert_allclose(found.result.plan, np.outer(a, b), rtol=1e-9)


def test_weights_of_zero_and_other_totals():
    C = gaussian(30, 35)
    a, b = 2.5 * weights(30, 10), 2.5 * weights(35, 11)
    a[3], b[[0, 20]] = 0.0, 0.0
    a, b = a * (2.5 / a.sum()), b * (2.5 / b.sum())
    found = sinkhorn_newton_sparse(C, a, b, epsilon=1 / 150, tol=1e-10)
    P = found.result.plan
    assert (P[3] == 0).all() and (P[:, [0, 20]] == 0).all()
    assert marginal_error(P, a, b) <= 2.5e-10 * (1 + 1e-6)
    rows, columns = np.flatnonzero(a), np.flatnonzero(b)
    small = sinkhorn_newton_sparse(
        C[np.ix_(rows, columns)], a[rows] / 2.5, b[columns] / 2.5, epsilon=1 / 150, tol=1e-10
    )
    np.testing.assert_allclose(P[np.ix_(rows, columns)], 2.5 * small.result.plan, atol=1e-12)


def test_input_is_left_alone_and_results_repeat():
    C = assignment(50, 3)
    before = C.copy()
    C.flags.writeable = False
    first, second = (sinkhorn_newton_sparse(C, epsilon=1 / 200) for _ in range(2))
    np.testing.assert_array_equal(C, before)
    assert first.steps == second.steps
    np.testing.assert_array_equal(first.result.potentials[0], second.result.potentials[0])
    lists = sinkhorn_newton_sparse(C.tolist(), epsilon=1 / 200)
    assert lists.steps == first.steps
    single = sinkhorn_newton_sparse(C.astype(np.float32), epsilon=1 / 200)
    assert single.result.potentials[0].dtype == np.float32
    assert single.result.marginal_error <= 1e-9


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"density": 0.0}, r"density must be 'adaptive', None or .* got 0.0"),
        ({"density": 1.5}, "got 1.5"),
        ({"density": "half"}, "got 'half'"),
        ({"density": math.nan}, "got nan"),
        ({"n_sinkhorn": 0}, "n_sinkhorn must be an integer of at least 1, got 0"),
        ({"n_newton": 2.5}, "n_newton must be an integer of at least 1, got 2.5"),
        ({"tol": 0.0}, "tol must be positive, got 0.0"),
        ({"tol": math.nan}, "tol must be positive, got nan"),
        ({"epsilon": -1.0}, "epsilon must be a positive, finite number, got -1.0"),
        ({"C": [[0.0, math.nan]]}, "C contains NaN"),
        ({"C": [[0.0, math.inf], [1.0, 0.0]]}, r"C must be finite .* got an entry of \+inf"),
        ({"C": [0.0, 1.0]}, "Expected 2D array"),
        ({"a": [0.5, 0.5]}, r"a must have shape \(1,\)"),
        ({"a": [1.0], "b": [0.5, 0.4]}, "the same sum"),
        ({"b": [1.5, -0.5]}, "b must not be negative"),
    ],
)
def test_bad_input(change, match):
    arguments = {"C": [[0.0, 1.0]], "epsilon": 1.0} | change
    with pytest.raises(ValueError, match=match):
        sinkhorn_newton_sparse(**arguments)


def test_only_numpy_arrays_are_taken():
    strict = pytest.importorskip("array_api_strict")
    with pytest.raises(TypeError, match="sinkhorn_newton_sparse works on NumPy arrays"):
        sinkhorn_newton_sparse(strict.ones((2, 2)), epsilon=1.0)
    with (
        sparsestat.config_context(backend="array_api"),
        pytest.raises(TypeError, match="sinkhorn_newton_sparse works on NumPy arrays"),
    ):
        sinkhorn_newton_sparse(np.ones((2, 2)), epsilon=1.0)
