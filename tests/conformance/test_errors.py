"""A bad argument is refused with a message that names it."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import NotFittedError

from sparsestat.utils._sklearn import InvalidParameterError

from ._cases import CASES, for_each, of

NAN, INF = float("nan"), float("inf")

BAD = {
    "alpha": [-1.0, NAN, INF, 0.0],
    "alphas": [0, -3, 2.5, [], [0.1, -1.0], [0.1, NAN], [INF], [[0.1]]],
    "criterion": ["cp"],
    "cv": [1, 0, [(np.arange(20), np.arange(20, 40))]],
    "eps": [0.0, 1.0, -1.0, NAN],
    "fit_intercept": ["yes", 2],
    "l1_ratio": [-0.1, 1.1, NAN],
    "max_iter": [0, -1, 2.5],
    "n_jobs": [0.5, "all"],
    "penalty_factor": [np.ones(3), -np.ones(8), np.zeros(8), np.r_[NAN, np.ones(7)], 2.0],
    "positive": [np.ones(3, dtype=bool), np.ones(8), "yes"],
    "selection": ["max"],
    "tol": [0.0, -1.0, NAN],
    "warm_start": ["yes"],
}
"""Values of each parameter that look sensible and are not."""


@pytest.mark.parametrize("case, parameter", of(CASES))
def test_parameters(case, parameter):
    X, y, _ = case.data()
    assert parameter in BAD, "say which values are bad"
    with pytest.raises(InvalidParameterError, match=f"'{parameter}' parameter"):
        case.make(**{parameter: object()}).fit(X, y)
    for value in BAD[parameter]:
        with pytest.raises((ValueError, TypeError)) as caught:
            case.make(**{parameter: value}).fit(X, y)
            pytest.fail(f"{parameter}={value!r} was accepted")
        assert parameter in str(caught.value), (value, caught.value)


@for_each
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_data_that_are_not_finite(case, value):
    X, y, weights = case.data()
    broken = X.copy()
    broken[3, 2] = value
    for data in (broken, broken.astype(np.float32), sparse.csc_array(broken)):
        if not sparse.issparse(data) or case.tags.input_tags.sparse:
            with pytest.raises(ValueError, match=r"Input X contains (NaN|infinity)"):
                case.make().fit(data, y)
    with pytest.raises(ValueError, match=r"Input X contains (NaN|infinity)"):
        case.make().fit(X, y).predict(broken)
    broken = y.copy()
    broken[0] = value
    with pytest.raises(ValueError, match=r"Input y contains (NaN|infinity)"):
        case.make().fit(X, broken)
    if case.takes_weights:
        weights[1] = value
        with pytest.raises(ValueError, match="sample_weight contains NaN or infinity"):
            case.make().fit(X, y, sample_weight=weights)


@for_each
def test_weights_that_are_no_counts(case):
    if not case.takes_weights:
        pytest.skip("takes no weights")
    X, y, weights = case.data()
    for bad in (-weights, 0 * weights, weights[:-1], weights[:, None], "many", -1.0, 0.0):
        with pytest.raises(ValueError, match="sample_weight"):
            case.make().fit(X, y, sample_weight=bad)


@for_each
def test_wrong_shapes(case):
    X, y, _ = case.data()
    for bad in (X[:, 0], X[None], X[:0], X[:, :0], 3.0):
        with pytest.raises(ValueError, match=r"[Aa]rray"):
            case.make().fit(bad, y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        case.make().fit(X, y[:-1])
    with pytest.raises(ValueError, match="y"):
        case.make().fit(X, np.zeros((len(X), 2, 2)))
    with pytest.raises(ValueError, match=r"[Cc]omplex"):
        case.make().fit(X + 1j, y)
    with pytest.raises(ValueError, match=r"X has 7 features.* expecting 8 features"):
        case.make().fit(X, y).predict(X[:, :7])
    with pytest.raises((ValueError, TypeError), match="y"):
        case.make().fit(X, None)


@for_each
def test_before_the_fit(case):
    X, _, _ = case.data()
    for method in ("predict", "transform", "get_support", "get_feature_names_out"):
        if hasattr(case.cls, method):
            with pytest.raises(NotFittedError):
                getattr(case.make(), method)(*([X] if method in ("predict", "transform") else []))
    if hasattr(case.cls, "sparse_coef_"):
        with pytest.raises(NotFittedError):
            _ = case.make().sparse_coef_


@for_each
def test_a_failed_fit_leaves_the_model_as_it_was(case):
    X, y, _ = case.data()
    estimator = case.make().fit(X, y)
    expected = estimator.predict(X)
    with pytest.raises(ValueError):
        estimator.fit(X, np.full_like(y, NAN))
    np.testing.assert_array_equal(estimator.predict(X), expected)
