"""The interface of penalties: parameters, messages, defaults."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone

import sparsestat
from sparsestat.penalties import L1, BasePenalty, ElasticNet, RowGroupL2
from sparsestat.penalties._base import BoundPenalty

PENALTIES = [
    L1(0.5, penalty_factor=[1.0, 0.0, 2.0], positive=[True, False, False]),
    ElasticNet(0.5, 0.25, penalty_factor=[1.0, 0.0, 2.0], positive=True),
    RowGroupL2(0.5, penalty_factor=[1.0, 0.0, 2.0]),
]


def point(penalty, n_features=3):
    w = np.linspace(0.5, 2.0, n_features)
    return np.outer(w, [1.0, -1.0]) if penalty.kind == "group" else w


class Cap(BasePenalty):
    """The indicator of ``w <= bound``, with nothing but what is required."""

    def __init__(self, bound=1.0):
        self.bound = bound

    def value(self, w):
        return 0.0 if np.all(w <= self.bound) else np.inf

    def prox(self, v, step, out=None):
        return np.minimum(v, self.bound, out=out)


def test_signatures():
    assert L1().get_params() == {"alpha": 1.0, "penalty_factor": None, "positive": False}
    assert ElasticNet().get_params() == {
        "alpha": 1.0,
        "l1_ratio": 0.5,
        "penalty_factor": None,
        "positive": False,
    }
    assert RowGroupL2().get_params() == {"alpha": 1.0, "penalty_factor": None}


@pytest.mark.parametrize("penalty", PENALTIES, ids=repr)
@pytest.mark.parametrize(
    "duplicate",
    [clone, copy.deepcopy, lambda penalty: pickle.loads(pickle.dumps(penalty))],
    ids=["clone", "deepcopy", "pickle"],
)
def test_copies_are_equal_and_independent(penalty, duplicate):
    other = duplicate(penalty)
    assert other.get_params() == penalty.get_params()
    v = 4.0 * point(penalty)
    np.testing.assert_array_equal(other.prox(v, 0.5), penalty.prox(v, 0.5))
    other.set_params(alpha=2.0)
    assert penalty.alpha == 0.5
    assert other.value(v) == pytest.approx(4.0 * penalty.value(v), rel=1e-14)


@pytest.mark.parametrize("penalty", PENALTIES, ids=repr)
def test_nothing_but_parameters_is_stored(penalty):
    fresh = clone(penalty)
    v = point(penalty)
    fresh.prox(v, 1.0), fresh.value(v), fresh.subdiff_distance(v, v), fresh.bind(v)
    assert vars(fresh).keys() == fresh.get_params().keys()


@pytest.mark.parametrize("name", ["alpha", "l1_ratio", "penalty_factor", "positive"])
@pytest.mark.parametrize("cls", [L1, ElasticNet, RowGroupL2])
def test_bad_parameters_are_named(cls, name):
    if name not in cls().get_params():
        return
    bad = {
        "alpha": [-1.0, np.nan, np.inf, "1", None],
        "l1_ratio": [-0.1, 1.5, np.nan, None],
        "penalty_factor": [[1.0, -1.0, 1.0], [1.0, np.inf, 1.0], [1.0, 1.0], [[1.0] * 3], 0.0],
        "positive": ["yes", [True], [0.5, 1.0, 2.0], None],
    }
    for value in bad[name]:
        penalty = cls(**{name: value})
        with pytest.raises(ValueError, match=name):
            penalty.prox(point(penalty), 1.0)
        with pytest.raises(ValueError, match=name):
            penalty.kernel(3)


@pytest.mark.parametrize("penalty", PENALTIES, ids=repr)
def test_bad_arguments_are_named(penalty):
    v = point(penalty)
    with pytest.raises(ValueError, match=r"v must have \d dimension\(s\) for"):
        penalty.bind(v).prox(v[None], 1.0)
    with pytest.raises(ValueError, match="step must be a number or have shape"):
        penalty.prox(v, np.ones(2))
    for bad in (-1.0, np.nan, np.array([1.0, -1.0, 1.0])):
        with pytest.raises(ValueError, match="step must not be negative"):
            penalty.prox(v, bad)
    with pytest.raises(ValueError, match="out must have shape"):
        penalty.prox(v, 1.0, out=np.empty(7))
    with pytest.raises(ValueError, match=r"out must have shape .* and dtype float64"):
        penalty.prox(v, 1.0, out=np.empty(v.shape, dtype=int))
    with pytest.raises(ValueError, match="grad must have shape"):
        penalty.subdiff_distance(v, v[:2])
    with pytest.raises(ValueError, match="penalty_factor must have shape"):
        penalty.value(v[:2])


def test_device_and_host_do_not_mix():
    strict = pytest.importorskip("array_api_strict")
    v = strict.asarray([1.0, 2.0])
    with pytest.raises(TypeError, match="array_api_strict and numpy"):
        L1().fixpoint_distance(v, np.ones(2), 1.0)
    with (
        sparsestat.config_context(backend="numba"),
        pytest.raises(TypeError, match="backend='numba'"),
    ):
        L1().prox(v, 1.0)


@pytest.mark.parametrize("penalty", PENALTIES, ids=repr)
def test_out_may_be_the_input(penalty):
    v = 3.0 * point(penalty)
    expected = penalty.prox(v, 0.7)
    kept = v.copy()
    assert penalty.prox(v, 0.7) is not v
    np.testing.assert_array_equal(v, kept)
    assert penalty.prox(v, 0.7, out=v) is v
    np.testing.assert_array_equal(v, expected)


@pytest.mark.parametrize("penalty", PENALTIES, ids=repr)
@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_dtypes_and_layouts(penalty, dtype):
    v = np.round(4.0 * point(penalty))
    expected = penalty.prox(v, 0.5)
    ours = penalty.prox(v.astype(dtype), 0.5)
    assert ours.dtype == ("float32" if dtype == "float32" else "float64")
    np.testing.assert_allclose(ours, expected, rtol=1e-6)
    np.testing.assert_array_equal(penalty.prox(v.tolist(), 0.5), expected)
    np.testing.assert_array_equal(penalty.prox(np.asfortranarray(v), 0.5), expected)
    np.testing.assert_array_equal(penalty.prox(np.repeat(v, 2, axis=0)[::2], 0.5), expected)


def test_values():
    w = np.array([1.0, -2.0, 0.5])
    assert L1(2.0).value(w) == 7.0
    assert L1(2.0, penalty_factor=[1.0, 0.5, 0.0]).value(w) == 4.0
    assert L1(2.0, positive=True).value(w) == np.inf
    assert L1(2.0, positive=[True, False, True]).value(w) == 7.0
    assert ElasticNet(2.0, 0.5).value(w) == 3.5 + 0.5 * 5.25
    assert RowGroupL2(2.0, penalty_factor=[1.0, 3.0]).value([[3.0, 4.0], [0.0, 1.0]]) == 16.0


def test_alpha_max_separates_zero_from_nonzero():
    gradient = np.array([-1.0, 3.0, -8.0, 5.0])
    factor = np.array([1.0, 1.5, 4.0, 0.0])
    cases = [
        (L1(), 8.0),
        (L1(positive=True), 8.0),
        (L1(positive=[False, False, True, True], penalty_factor=factor), 2.0),
        (L1(positive=[True, True, False, True], penalty_factor=factor * [1, 1, 9, 1]), 1.0),
        (ElasticNet(l1_ratio=0.5), 16.0),
        (ElasticNet(l1_ratio=0.5, penalty_factor=factor), 4.0),
    ]
    for penalty, expected in cases:
        alpha_max = penalty.alpha_max(gradient)
        assert alpha_max == expected
        penalized = penalty.is_penalized(4)
        for alpha, zero in [(alpha_max, True), (0.999 * alpha_max, False)]:
            at_zero = clone(penalty).set_params(alpha=alpha).subdiff_distance(np.zeros(4), gradient)
            assert np.all(at_zero[penalized] == 0.0) == zero
    assert ElasticNet(l1_ratio=0.0).alpha_max(gradient) == np.inf
    assert ElasticNet(l1_ratio=0.0, positive=True).alpha_max(np.abs(gradient)) == 0.0
    assert L1(positive=True).alpha_max(np.abs(gradient)) == 0.0
    rows = np.array([[3.0, -4.0], [0.0, 1.0], [6.0, 8.0]])
    assert RowGroupL2().alpha_max(rows) == 10.0
    assert RowGroupL2(penalty_factor=[1.0, 1.0, 4.0]).alpha_max(rows) == 5.0
    assert RowGroupL2(penalty_factor=[1.0, 1.0, 0.0]).alpha_max(rows) == 5.0


def test_conjugates():
    assert L1(2.0).conjugate([2.0, -2.0]) == 0.0
    assert L1(2.0).conjugate([2.0, -2.1]) == np.inf
    assert L1(2.0, positive=True).conjugate([2.0, -9.0]) == 0.0
    assert ElasticNet(2.0, 0.5).conjugate([4.0, -0.5, 1.0]) == 4.5
    assert ElasticNet(2.0, 0.5, penalty_factor=[1.0, 0.0]).conjugate([4.0, 0.5]) == np.inf
    assert RowGroupL2(5.0).conjugate([[3.0, 4.0], [0.0, 0.0]]) == 0.0
    assert RowGroupL2(4.9).conjugate([[3.0, 4.0], [0.0, 0.0]]) == np.inf


def test_next_to_nothing_is_divided_by_without_a_warning():
    assert ElasticNet(1e-310, 0.0).conjugate([1.0]) == np.inf
    assert L1(penalty_factor=[1e-310]).alpha_max([1.0]) == np.inf
    assert RowGroupL2(penalty_factor=[1e-310]).alpha_max([[1.0]]) == np.inf


def test_supports_and_masks():
    np.testing.assert_array_equal(L1().generalized_support([0.0, -1.0]), [False, True])
    rows = np.array([[0.0, 0.0], [0.0, 1.0]])
    np.testing.assert_array_equal(RowGroupL2().generalized_support(rows), [False, True])
    for penalty in PENALTIES:
        np.testing.assert_array_equal(penalty.is_penalized(3), [True, False, True])
        assert penalty.weak_convexity() == 0.0
    assert L1().is_penalized(3).all()


def test_a_penalty_needs_value_and_prox():
    class Nothing(BasePenalty):
        def value(self, w):
            return 0.0

    with pytest.raises(TypeError, match="prox"):
        Nothing()


def test_defaults_of_a_users_penalty():
    penalty = Cap(bound=1.0)
    assert clone(penalty).get_params() == {"bound": 1.0}
    w = np.array([1.0, 0.0, 1.0])
    # At the bound the gradient may pull up; elsewhere it has to vanish.
    np.testing.assert_array_equal(
        penalty.fixpoint_distance(w, np.array([-3.0, 0.0, 0.5]), 2.0), [0.0, 0.0, 0.5]
    )
    np.testing.assert_array_equal(penalty.generalized_support(w), [True, False, True])
    assert penalty.is_penalized(3).all()
    assert penalty.bind(w) == BoundPenalty(penalty.prox, penalty.value)
    for method, args, hint in [
        (penalty.subdiff_distance, (w, w), "fixpoint_distance"),
        (penalty.alpha_max, (w,), "explicitly"),
        (penalty.conjugate, (w,), "duality gaps"),
        (penalty.kernel, (3,), "fista"),
        (penalty.weak_convexity, (), "convex"),
    ]:
        with pytest.raises(NotImplementedError, match=f"Cap .*{hint}"):
            method(*args)


def test_replaced_operators_are_not_passed_over():
    class Halved(L1):
        def prox(self, v, step, out=None):
            return 0.5 * super().prox(v, step, out)

    v = np.array([3.0, -2.0])
    np.testing.assert_array_equal(Halved(1.0).bind(v).prox(v, 1.0), [1.0, -0.5])


def test_bound_functions_keep_their_parameters():
    penalty = L1(1.0)
    v = np.array([3.0, -2.0])
    bound = penalty.bind(v)
    penalty.set_params(alpha=2.0)
    np.testing.assert_array_equal(bound.prox(v, 1.0), [2.0, -1.0])
    assert bound.value(v) == 5.0
    assert penalty.value(v) == 10.0


def test_importing_compiles_nothing():
    code = (
        "import sys, sparsestat.penalties, sparsestat.solvers; "
        "from sparsestat.penalties import L1; from sparsestat.solvers import fista; "
        "L1(); heavy = {'numba', 'cvxpy', 'cupy', 'matplotlib', 'statsmodels', 'dask'}; "
        "print(sorted(heavy & sys.modules.keys()))"
    )
    path = str(next(iter(sparsestat.__path__))) + "/.."
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
