"""Public units that do not fit the records are the commonest mistake, and are not silent."""

import warnings

import numpy as np
import pytest
from scipy import sparse

from sparsestat.datasets import make_sparse_regression
from sparsestat.privacy import (
    LabelLDPRegressor,
    LDPIHTClassifier,
    LDPIHTRegressor,
    LDPSparseRegressor,
    LDPSparseRegressorCV,
    PublicUnitsWarning,
)

OTHERS = ["LowSignalWarning", "IllConditionedWarning"]
quiet = [pytest.mark.filterwarnings(f"ignore::sparsestat.privacy.{name}") for name in OTHERS]
pytestmark = quiet
REGRESSORS = [LDPSparseRegressor, LDPSparseRegressorCV, LDPIHTRegressor]


@pytest.fixture(scope="module")
def data():
    made = make_sparse_regression(2000, 5, 2, random_state=0)
    return made.data, made.target


def units_warnings(estimator, X, y):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator.fit(X, y)
    return [w for w in caught if w.category is PublicUnitsWarning]


@pytest.mark.parametrize("cls", REGRESSORS)
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array], ids=["dense", "sparse"])
def test_features_in_other_units(data, cls, form):
    X, y = data
    (warning,) = units_warnings(cls(random_state=0), form(1000 * X), y)
    assert "features of 100% of the records" in str(warning.message)
    assert "feature_scale" in str(warning.message)
    assert warning.filename == __file__


@pytest.mark.parametrize("cls", [*REGRESSORS, LabelLDPRegressor])
def test_targets_in_other_units(data, cls):
    X, y = data
    (warning,) = units_warnings(cls(random_state=0), X, 100 * y + 500)
    assert "targets of 100% of the records" in str(warning.message)
    assert warning.filename == __file__


def test_both_at_once(data):
    X, y = data
    # Clipped features take their targets along.
    assert len(units_warnings(LDPSparseRegressor(random_state=0), 50 * X, 1e6 * y)) == 2


@pytest.mark.parametrize("cls", [*REGRESSORS, LabelLDPRegressor])
def test_units_that_fit_are_no_news(data, cls):
    X, y = data
    assert units_warnings(cls(random_state=0), X, y) == []
    told = {"y_center": 500.0, "y_scale": 100.0}
    assert units_warnings(cls(random_state=0, **told), X, 100 * y + 500) == []
    if cls is not LabelLDPRegressor:
        scaled = cls(random_state=0, feature_scale=np.full(5, 1000.0))
        assert units_warnings(scaled, 1000 * X, y) == []


def test_labels_have_no_units(data):
    X, y = data
    assert units_warnings(LDPIHTClassifier(random_state=0), X, y > 0) == []
    (warning,) = units_warnings(LDPIHTClassifier(random_state=0), X + 100, y > 0)
    assert "feature_center" in str(warning.message)
