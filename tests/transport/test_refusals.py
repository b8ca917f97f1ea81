"""What is no transport problem is refused, and the message says why."""

import numpy as np
import pytest
from scipy import sparse

from sparsestat.transport import (
    SinkhornConvergenceDisplay,
    TransportPlanDisplay,
    sinkhorn,
    sinkhorn_points,
)

from ._problems import draw

C, A, B = draw(4, 3)
NAN = float("nan")


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        (np.where(C > 0.9, NAN, C), r"C contains NaN or -inf; only \+inf is allowed"),
        (np.where(C > 0.9, -np.inf, C), r"C contains NaN or -inf"),
        (np.where(np.arange(4)[:, None] == 2, np.inf, C), "row 2 has none"),
        (np.where(np.arange(3) == 1, np.inf, C), "column 1 has none"),
        (C[0], "2D array"),
        (C[:0], "0 sample"),
        (C + 1j, "[Cc]omplex"),
        (C.astype(np.float16), r"C must not be of half precision"),
        ([["a", "b"]], "could not convert string"),
    ],
)
def test_costs(costs, message):
    with pytest.raises(ValueError, match=message):
        sinkhorn(costs)


def test_sparse_costs():
    with pytest.raises(TypeError, match=r"[Ss]parse"):
        sinkhorn(sparse.csr_array(C))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ((A[:3], B), r"a must have shape \(4,\), one weight for each row .* got shape \(3,\)"),
        ((A, A), r"b must have shape \(3,\), one weight for each column .* got shape \(4,\)"),
        ((-A, B), r"a must not be negative, got -"),
        ((A, 0 * B), r"b must have at least one positive weight"),
        ((np.r_[NAN, A[1:]], B), r"a contains NaN or infinity"),
        ((A, np.r_[np.inf, B[1:]]), r"b contains NaN or infinity"),
        ((A, 2 * B), r"sum\(a\)=1 and sum\(b\)=2; normalise them, or penalise with reg_marginals"),
        ((["x"] * 4, B), "could not convert"),
    ],
)
def test_weights(weights, message):
    with pytest.raises(ValueError, match=message):
        sinkhorn(C, *weights)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 0.0}, "epsilon must be a positive, finite number, got 0.0"),
        ({"epsilon": NAN}, "epsilon must be a positive, finite number, got nan"),
        ({"epsilon": "auto"}, "epsilon must be a positive, finite number, got 'auto'"),
        ({"epsilon_scale": "min"}, "epsilon_scale must be .* got 'min'"),
        ({"method": "exact"}, "method must be one of .* got 'exact'"),
        ({"method": "newton", "reg_marginals": 1.0}, "'auto' or 'log' with penalised marginals"),
        ({"tol": 0.0}, "tol must be positive, got 0.0"),
        ({"max_iter": 0}, "max_iter must be an integer of at least 1, got 0"),
        ({"proximal_steps": -1}, "proximal_steps must be an integer of at least 0"),
        ({"relaxation": 2.0}, "relaxation must be 'auto' or a number above 0 and below 2"),
        ({"relaxation": "fast"}, "relaxation must be 'auto' or a number"),
        ({"reg_marginals": (1.0, -1.0)}, r"reg_marginals must be positive .* got \(1.0, -1.0\)"),
        ({"reg_marginals": "soft"}, "reg_marginals must be a positive number or a pair"),
        ({"storage_dtype": np.int32}, "storage_dtype must be float32 or float64"),
        ({"storage_dtype": np.float32, "method": "log"}, "storage_dtype is for method='kernel'"),
        ({"init": "uniform"}, r"init must be a SinkhornResult or a pair .* got str"),
        ({"init": (A, A)}, r"shapes \(4,\) and \(3,\), got \(4,\) and \(4,\)"),
        ({"init": (A, np.full(3, NAN))}, "init contains NaN or infinity"),
    ],
)
def test_options(options, message):
    with pytest.raises(ValueError, match=message):
        sinkhorn(C, **options)


def test_forbidden_pairs_need_logarithms():
    with pytest.raises(ValueError, match=r"'auto' or 'log' with costs of \+inf, got 'kernel'"):
        sinkhorn(np.where(C > 0.9, np.inf, C), method="kernel")


def test_the_scale_of_costs_that_are_negative():
    with pytest.raises(ValueError, match=r"The costs' mean, -.* give epsilon in the units"):
        sinkhorn(-C)
    for name, scale in (("max", C.max()), ("mean", A @ C @ B)):
        found = sinkhorn(C, A, B, epsilon=0.5, epsilon_scale=name).epsilon
        assert found == pytest.approx(0.5 * scale)
    # Half of the weight of all pairs costs no more than the median.
    median = sinkhorn(C, A, B, epsilon=1.0, epsilon_scale="median").epsilon
    weights = np.outer(A, B)
    assert weights[median >= C].sum() >= 0.5 > weights[median > C].sum()


def test_points():
    X = np.ones((4, 2))
    with pytest.raises(ValueError, match="same number of features, got 2 and 3"):
        sinkhorn_points(X, np.ones((5, 3)))
    for lazy in (True, False):
        with pytest.raises(ValueError, match=r"metric must be one of .* got 'cosine'"):
            sinkhorn_points(X, X, metric="cosine", lazy=lazy)
        with pytest.raises(ValueError, match=r"metric must return an array of shape"):
            sinkhorn_points(X, X, metric=lambda x, y: np.ones(3), lazy=lazy)
        with pytest.raises(ValueError, match="NaN"):
            sinkhorn_points(X, X, metric=lambda x, y: np.full((len(x), len(y)), NAN), lazy=lazy)
    with pytest.raises(ValueError, match="X contains NaN"):
        sinkhorn_points(NAN * X, X)
    with pytest.raises(ValueError, match="lazy must be True, False or 'auto', got 'no'"):
        sinkhorn_points(X, X, lazy="no")
    with pytest.raises(ValueError, match="method='kernel' stores a matrix of 4 x 4 numbers"):
        sinkhorn_points(X, X, lazy=True, method="kernel", epsilon=1.0)
    with pytest.raises(ValueError, match="needs a stored matrix of costs"):
        sinkhorn_points(X, X, lazy=True, epsilon=1.0, epsilon_scale="median")


def test_displays():
    with pytest.raises(TypeError, match="result must be a SinkhornResult, got ndarray"):
        TransportPlanDisplay.from_result(C)
    result = sinkhorn(C, A, B, epsilon=0.1)
    drawn = TransportPlanDisplay.from_result(result, order=(np.argsort(A), np.argsort(B)))
    np.testing.assert_array_equal(
        drawn.image_.get_array(), result.plan[np.argsort(A)][:, np.argsort(B)]
    )
    curve = SinkhornConvergenceDisplay.from_results(result).lines_[0]
    expected = [record.marginal_error for record in result.history]
    np.testing.assert_allclose(curve.get_ydata(), np.maximum(expected, 1e-17))
