"""Searches keep groups of rows together, by scikit-learn's metadata routing."""

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, KFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sparsestat.linear_model import (
    AdaptiveLassoCV,
    ElasticNetCV,
    GroupLassoCV,
    LassoCV,
    RandomSupportRegressor,
    SparseLogisticRegressionCV,
)

SEARCHES = [
    LassoCV(alphas=5),
    ElasticNetCV(alphas=5, l1_ratio=0.5),
    GroupLassoCV(groups=2, alphas=5),
    SparseLogisticRegressionCV(alphas=5),
    AdaptiveLassoCV(alphas=5),
    RandomSupportRegressor(n_probes=[0, 3], n_alphas=5, random_state=0),
]
every_search = pytest.mark.parametrize("search", SEARCHES, ids=lambda one: type(one).__name__)


def draw(search):
    rng = np.random.default_rng(0)
    groups = np.arange(60) % 20
    # What the rows of a group have in common is not in the columns.
    X = rng.standard_normal((60, 6))
    y = X[:, 0] + rng.standard_normal(20)[groups] + 0.1 * rng.standard_normal(60)
    return X, (y > 0 if sklearn.base.is_classifier(search) else y), groups


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def chosen(model):
    table = model.cv_results_["mean"] if hasattr(model, "cv_results_") else model.coef_path_
    return np.concatenate([np.ravel(table), np.ravel(model.coef_)])


@every_search
def test_groups_reach_the_splitter(search, routing):
    X, y, groups = draw(search)
    expected = clone(search).set_params(cv=list(GroupKFold(4).split(X, y, groups))).fit(X, y)
    routed = clone(search).set_params(cv=GroupKFold(4))
    routed.fit(X, y, groups=groups)
    assert_array_equal(chosen(routed), chosen(expected))
    assert_array_equal(_errors(routed), _errors(expected))
    assert np.any(_errors(expected) != _errors(clone(search).set_params(cv=KFold(4)).fit(X, y)))
    weighted = clone(routed).fit(X, y, np.ones(60), groups=groups)
    assert_allclose(chosen(weighted), chosen(expected), atol=1e-6)


def _errors(model):
    for name in ("mse_path_", "log_loss_path_"):
        if hasattr(model, name):
            return getattr(model, name)
    return model.cv_results_["mean"]


@every_search
def test_groups_pass_through_pipelines_and_outer_folds(search, routing):
    X, y, groups = draw(search)
    pipeline = make_pipeline(StandardScaler(), clone(search).set_params(cv=GroupKFold(3)))
    pipeline.fit(X, y, groups=groups)
    scaled = StandardScaler().fit_transform(X)
    expected = clone(search).set_params(cv=list(GroupKFold(3).split(X, y, groups)))
    assert_array_equal(pipeline[-1].coef_, expected.fit(scaled, y).coef_)
    results = cross_validate(
        pipeline, X, y, cv=GroupKFold(4), params={"groups": groups}, error_score="raise"
    )
    assert np.all(np.isfinite(results["test_score"]))


@every_search
def test_what_nobody_asks_for_is_refused(search):
    X, y, groups = draw(search)
    with pytest.raises(ValueError, match="enable_metadata_routing"):
        clone(search).fit(X, y, groups=groups)
    with sklearn.config_context(enable_metadata_routing=True):
        with pytest.raises(TypeError, match="unexpected argument"):
            clone(search).set_params(cv=KFold(3)).fit(X, y, groups=groups)
        assert "splitter" in repr(search.get_metadata_routing())
