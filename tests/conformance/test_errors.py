"""A bad argument is refused with a message that names it."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge

from sparsestat.utils._sklearn import InvalidParameterError

from ._cases import CASES, for_each, of

NAN, INF = float("nan"), float("inf")

BAD = {
    "batch_size": [0, 2.5],
    "block_size": [0, -1, 2.5, "all"],
    "class_weight": ["equal", [1.0, 2.0]],
    "covariance_type": ["tied"],
    "epsilon_scale": ["min"],
    "estimator": [Ridge, 3],
    "group_weights": ["size", np.ones(3), -np.ones(8), np.zeros(8), np.full(8, NAN)],
    "groups": [0, 3, 2.5, np.zeros(7), [[0, 1], [1, 2, 3, 4, 5, 6, 7]], [[0, 1], []], "abc"],
    "initial": ["ridge", Ridge, 3],
    "lazy": ["always"],
    "loss": ["hinge"],
    "max_bytes": [-1, 2.5],
    "method": ["simplex"],
    "metric": ["cosine"],
    "n_clusters": [0, -1, 1000],
    "n_components": [0, -1, 2.5],
    "n_init": [0, 1.5],
    "n_alphas": [0, -3, 2.5],
    "n_draws": [0, 1.5],
    "n_probes": [-1, 2.5, "all", [-1], [], 39, [1.5], [[1, 2]]],
    "n_reweight": [0, -1, 1.5],
    "n_target": [0, 2.5],
    "reg_covar": [0.0, -1.0, 1.0, NAN],
    "reg_source": [0.0, -1.0, NAN],
    "reg_target": [0.0, -1.0, NAN],
    "target": [np.ones((5, 3)), np.ones(8), np.full((5, 8), NAN)],
    "target_weight": [np.ones(3), -np.ones(50), np.full(50, NAN), np.zeros(50)],
    "transport": [3, Ridge()],
    "validation_fraction": [-0.1, 1.0, NAN],
    "zero_diagonal": ["yes"],
    "X_public": [np.ones((5, 3)), np.full((5, 8), NAN), np.ones(8)],
    "averaging": ["yes"],
    "campaign_id": [3],
    "coef_bound": [0.0, -1.0, NAN, INF],
    "delta": [-0.1, 1.0, NAN],
    "epsilon": [0.0, -1.0, 51.0, NAN, "auto"],
    "feature_center": ["mean", np.ones(3), np.full(8, NAN)],
    "feature_scale": ["std", np.ones(3), np.zeros(8), -np.ones(8), np.full(8, INF)],
    "gamma": ["auto", 0.0, -1.0, NAN],
    "gram": ["mine", "public", "combined"],
    "mechanism": ["laplace"],
    "n_bits": [0, 33, 1.5],
    "n_nonzero": [0, 9, 2.5],
    "n_rounds": [0, 2.5],
    "paper_constants": ["yes"],
    "param_grid": [
        [],
        {"epsilon": [1.0, 2.0]},
        {"n_nonzero": [0]},
        {"n_nonzero": [9]},
        {"solver": ["lbfgs"]},
        [3],
    ],
    "residual_bound": ["auto", 0.0, -1.0, NAN],
    "step": ["fast", 0.0, -1.0, NAN],
    "threshold": ["firm"],
    "x_bound": ["auto", 0.0, -1.0, NAN, INF],
    "y_bound": ["auto", 0.0, -1.0, NAN],
    "y_center": ["mean", NAN, INF],
    "y_scale": ["std", 0.0, -1.0, NAN],
    "alpha": [-1.0, NAN, INF, 0.0],
    "alphas": [0, -3, 2.5, [], [0.1, -1.0], [0.1, NAN], [INF], [[0.1]]],
    "cov_threshold": [-0.1, 1.1, NAN, "all"],
    "criterion": ["cp"],
    "cv": [1, 0, [(np.arange(20), np.arange(20, 40))]],
    "eps": [0.0, 1.0, -1.0, NAN],
    "fit_intercept": ["yes", 2],
    "forbidden_edges": [
        [(0, 8)],
        [(-1, 0)],
        [(0, 1, 2)],
        [(0, 0.5)],
        [("a", "b")],
        [0, 1],
        np.ones((3, 3), dtype=bool),
        np.ones((8, 8)),
    ],
    "init": ["random", [0, 1, 2], np.zeros(8), np.arange(1, 9), [np.arange(8)], [NAN] * 8],
    "l1_ratio": [-0.1, 1.1, NAN],
    "max_iter": [0, -1, 2.5],
    "max_sweeps": [-1, 2.5],
    "n_jobs": [0.5, "all"],
    "n_restarts": [-1, 0.5],
    "node_tiers": [[0, 1], np.full(8, NAN), list("abcdefgh"), {0: 1}, {"a": 0}, {8: 0}],
    "partition": ["random"],
    "path_params": [
        "paper",
        {"steps": 3},
        {"lr": -1.0},
        {"mu": [1.0]},
        {"max_iter": 2.5},
        {"betas": (0.9, 1.0)},
        {"tol": NAN},
    ],
    "penalty": ["l1", None],
    "penalty_factor": [np.ones(3), -np.ones(8), np.zeros(8), np.r_[NAN, np.ones(7)], 2.0],
    "penalty_scale": ["rows"],
    "positive": [np.ones(3, dtype=bool), np.ones(8), "yes"],
    "random_state": [-1, 0.5, "seed"],
    "refit": ["yes", 2],
    "required_edges": [
        [(0, 0)],
        [(0, 1), (1, 0)],
        [(0, 1), (1, 2), (2, 0)],
        [(0, 8)],
        [(0, 1, 2)],
        [("a", "b")],
        np.ones((3, 3), dtype=bool),
    ],
    "rule": ["gsx"],
    "scoring": ["r2"],
    "selection": ["max"],
    "sigma_min": [0.0, -1.0, NAN, INF],
    "solver": ["lbfgs"],
    "threshold_scale": ["columns"],
    "tol": [0.0, -1.0, NAN],
    "tol_span": [0.0, 1.0, -1.0, NAN],
    "track": ["yes"],
    "update": ["newton"],
    "variance": ["known", 1.0],
    "w_threshold": [-0.1, NAN, "none"],
    "warm_start": ["yes"],
    "window": [0, -1, 2.5, "all"],
}
"""Values of each parameter that look sensible and are not."""

_ANY_EPSILON = [0.0, -1.0, NAN, "auto"]
BAD_HERE = {
    ("EntropicTransport", "epsilon"): _ANY_EPSILON,
    ("DoublyStochasticAffinity", "epsilon"): _ANY_EPSILON,
    ("LightSchrodingerBridge", "epsilon"): [0.0, -1.0, NAN, INF, "auto"],
    ("LightSchrodingerBridgeCV", "epsilon"): [0.0, -1.0, NAN, INF, "auto"],
    ("LightSchrodingerBridge", "solver"): ["newton"],
    ("LightSchrodingerBridgeCV", "solver"): ["newton"],
    ("LightSchrodingerBridge", "init"): ["pca", np.zeros((3, 2)), np.full((3, 8), NAN)],
    ("LightSchrodingerBridgeCV", "init"): ["pca"],
    ("LightSchrodingerBridgeCV", "n_components"): [0, [], [0], [1.5], "all"],
    ("RandomSupportRegressor", "alpha"): [-1.0, NAN, INF, 0.0, "bic"],
    ("RandomSupportRegressor", "refit"): ["bic", True, 2],
    ("LDPSparseRegressor", "alpha"): [-1.0, NAN, INF, "none"],
    ("ThresholdedOLS", "alpha"): [-1.0, NAN, INF, "bic"],
    ("CoLiDE", "tol"): [-1.0, NAN],
    ("CoLiDECV", "tol"): [-1.0, NAN],
    ("CoLiDECV", "cv"): [1, 0, "folds"],
}
"""What is bad for an estimator for which other values make sense."""


@pytest.mark.parametrize("case, parameter", of(CASES))
def test_parameters(case, parameter):
    X, y, _ = case.data()
    assert parameter in BAD, "say which values are bad"
    with pytest.raises(InvalidParameterError, match=f"'{parameter}' parameter"):
        case.make(**{parameter: object()}).fit(X, y)
    for value in BAD_HERE.get((case.name, parameter), BAD[parameter]):
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
        case.output(case.make().fit(X, y), broken)
    if hasattr(case.cls, "transform"):
        with pytest.raises(ValueError, match=r"Input X contains (NaN|infinity)"):
            case.make().fit(X, y).transform(broken)
    if case.needs_target:
        broken = y.astype(float)
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
    if case.needs_target:
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            case.make().fit(X, y[:-1])
        with pytest.raises(ValueError, match="y"):
            case.make().fit(X, np.zeros((len(X), 2, 2)))
        with pytest.raises((ValueError, TypeError), match="y"):
            case.make().fit(X, None)
    with pytest.raises(ValueError, match=r"[Cc]omplex"):
        case.make().fit(X + 1j, y)
    fitted = case.make().fit(X, y)
    for method in ("predict", "transform", "score_samples"):
        if hasattr(fitted, method):
            with pytest.raises(ValueError, match=r"X has 7 features.* expecting 8 features"):
                getattr(fitted, method)(X[:, :7])
    if hasattr(fitted, "inverse_transform"):
        width = fitted.transform(X).shape[1]
        with pytest.raises(ValueError, match=r"shape|columns|features"):
            fitted.inverse_transform(np.zeros((3, width + 1)))


ON_DATA = [
    "predict",
    "transform",
    "inverse_transform",
    "residuals",
    "score_samples",
    "aic",
    "bic",
    "transport_labels",
    "log_potential",
    "log_normalizer",
    "predict_component",
    "predict_proba",
    "decision_function",
]
ON_THE_MODEL = [
    "get_support",
    "get_feature_names_out",
    "sample",
    "total_effects",
    "implied_covariance",
    "cpdag",
    "edges",
    "to_networkx",
    "to_graphviz",
    "plot",
]


@for_each
def test_before_the_fit(case):
    X, y, _ = case.data()
    estimator = case.make()
    for method in ON_DATA:
        if hasattr(case.cls, method) and hasattr(estimator, method):
            with pytest.raises(NotFittedError):
                getattr(estimator, method)(X)
    if case.scores:
        with pytest.raises(NotFittedError):
            estimator.score(X, y)
    for method in ON_THE_MODEL:
        if hasattr(case.cls, method):
            # The end points of a bridge are drawn for given starting points.
            given = (X,) if method == "sample" and case.moves else ()
            with pytest.raises(NotFittedError):
                getattr(estimator, method)(*given)
    if hasattr(case.cls, "intervene"):
        with pytest.raises(NotFittedError):
            estimator.intervene({0: 1.0})
        with pytest.raises(NotFittedError):
            estimator.path_effects(0, 1)
    if hasattr(case.cls, "sparse_coef_"):
        with pytest.raises(NotFittedError):
            _ = estimator.sparse_coef_


@for_each
def test_a_failed_fit_leaves_the_model_as_it_was(case):
    X, y, weights = case.data()
    estimator = case.make().fit(X, y)
    expected = case.output(estimator, X)
    failures = [lambda: estimator.fit(np.full_like(X, NAN), y)]
    if case.needs_target:
        failures.append(lambda: estimator.fit(X, np.full(y.shape, NAN)))
    if case.takes_weights:
        failures.append(lambda: estimator.fit(X, y, sample_weight=-weights))
    if "required_edges" in case.parameters:
        failures.append(lambda: estimator.set_params(required_edges=[(0, 1), (1, 0)]).fit(2 * X, y))
    for fail in failures:
        with pytest.raises(ValueError):
            fail()
        np.testing.assert_array_equal(case.output(estimator, X), expected)
