"""What the checks need to know about an estimator: quick settings, and data it can fit.

An estimator without an entry is taken as it comes from its constructor.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.validation import has_fit_parameter

import sparsestat


@dataclass(frozen=True)
class Case:
    """How one estimator is checked.

    Attributes
    ----------
    name : str
        Its public name.
    cls : type
        Its class.
    label : str
        Distinguishes several cases of one estimator.
    variant : dict
        Parameters that choose the algorithm under which all checks run.
    settings : dict
        Parameters that make it quick and accurate.
    counting : dict
        Parameters in addition under which a weight of two must equal the row twice;
        random folds, for one, tell a repeated row from a weight.
    factors : tuple of float
        By which all weights may be multiplied at once; empty if the number of rows matters.
    criterion : callable or None
        What the fit minimises, computed from ``(estimator, X, y)``.
    descends : bool
        Whether the iterates of the fit descend.
    coefficients : str
        Fitted attribute with the coefficients; dots lead into other estimators.
    wide : tuple of int
        Shape of data with more columns than rows.
    scaler : transformer
        First step of pipelines.
    alphas : tuple of float
        A penalty that is far too strong and a better one.
    tight : dict
        Parameters for a fit that takes many steps.
    warns : tuple of str
        Warnings, as filters of pytest, that any data may cause.
    crowd : int
        Times as many rows as the checks ask for, where a row is a user who says next to
        nothing; the columns are then centred and have variance one, and so has the target.
    hard : tuple of int or None
        Shape of data whose fit has many steps, if it is not the usual one.
    moves : bool
        Whether it learns neither a target nor a graph, but how to move points.
    grid : dict
        Two values of a parameter for searches, if it is neither an alpha nor the intercept.
    """

    name: str
    cls: type
    label: str = ""
    variant: dict = field(default_factory=dict)
    settings: dict = field(default_factory=dict)
    counting: dict = field(default_factory=dict)
    factors: tuple = (1e-3, 7.0)
    criterion: object = None
    descends: bool = True
    coefficients: str = "coef_"
    wide: tuple = (30, 50)
    scaler: object = field(default_factory=StandardScaler)
    alphas: tuple = (100.0, 0.01)
    tight: dict = field(default_factory=dict)
    warns: tuple = ()
    crowd: int = 1
    hard: tuple | None = None
    moves: bool = False
    grid: dict = field(default_factory=dict)

    @property
    def id(self):
        return f"{self.name}-{self.label}" if self.label else self.name

    @property
    def marks(self):
        return [pytest.mark.filterwarnings(f"ignore::{name}") for name in self.warns]

    def make(self, **settings):
        return self.cls(**{**self.variant, **self.settings, **settings})

    @property
    def parameters(self):
        return sorted(self.cls(**self.variant).get_params(deep=False))

    @cached_property
    def tags(self):
        return get_tags(self.cls(**self.variant))

    @property
    def needs_target(self):
        return self.tags.target_tags.required

    @property
    def classes(self):
        return self.tags.estimator_type == "classifier"

    @property
    def gives(self):
        """The method that shows what has been learned."""
        return "predict" if hasattr(self.cls, "predict") else "transform"

    def output(self, estimator, X):
        """What a fitted estimator makes of data."""
        return getattr(estimator, self.gives)(X)

    @property
    def scores(self):
        return hasattr(self.cls, "score")

    @property
    def listens(self):
        return hasattr(self.cls, "set_callbacks")

    @property
    def takes_weights(self):
        return has_fit_parameter(self.cls, "sample_weight")

    def data(self, n_samples=40, n_features=8, seed=0, n_informative=3, noise=0.3):
        """Columns away from the origin, what depends on them, and weights that are counts."""
        rng = np.random.default_rng(seed)
        if not self.needs_target:
            X = _structural_data(n_samples, n_features, rng)
            return X, None, rng.integers(1, 4, n_samples).astype(float)
        if self.crowd > 1:
            return _crowd(
                self.crowd * n_samples, n_features, n_informative, noise, rng, self.classes
            )
        X = rng.standard_normal((n_samples, n_features)) + 2 * rng.standard_normal(n_features)
        X += 0.5 * rng.standard_normal((n_samples, 1))
        shape = (3,) if self.tags.target_tags.multi_output else ()
        coef = np.zeros((n_features, *shape))
        coef[:n_informative] = rng.uniform(1.0, 3.0, size=(n_informative, *shape))
        y = X @ coef + noise * rng.standard_normal((n_samples, *shape)) + 5.0
        if self.classes:
            y = (y > np.median(y)).astype(int)
        return X, y, rng.integers(1, 4, n_samples).astype(float)


def _crowd(n_samples, n_features, n_informative, noise, rng, classes):
    """Standardised columns, and a target of variance one around a mean near zero."""
    X = rng.standard_normal((n_samples, n_features))
    coef = np.zeros(n_features)
    n_informative = min(n_informative, 3)
    coef[:n_informative] = rng.uniform(1.0, 1.5, size=n_informative)
    # Labels have noise of their own.
    noise = 0.2 * noise if classes else 0.5 * noise
    y = X @ (coef / np.linalg.norm(coef)) + noise * rng.standard_normal(n_samples) + 0.5
    return X, (y > 0.0).astype(int) if classes else y, np.ones(n_samples)


def _structural_data(n_samples, n_features, rng):
    """Groups of eight columns: two causes, what they cause, and five effects of that.

    The effects vary less than their cause does, so that the variances do not give the order
    away, and the columns are shuffled.
    """
    W = np.zeros((n_features, n_features))
    for start in range(0, n_features, 8):
        nodes = np.arange(start, min(start + 8, n_features))
        causes, middle, effects = nodes[:2], nodes[2:3], nodes[3:]
        W[np.ix_(causes, middle)] = rng.uniform(1.5, 2.0, (len(causes), len(middle)))
        size = rng.uniform(0.5, 0.7, (len(middle), len(effects)))
        W[np.ix_(middle, effects)] = size * rng.choice([-1, 1], size.shape)
    noise = rng.standard_normal((n_samples, n_features))
    X = np.linalg.solve((np.eye(n_features) - W).T, noise.T).T
    return X[:, rng.permutation(n_features)] + 2 * rng.standard_normal(n_features)


def _least_squares(penalty):
    def criterion(estimator, X, y):
        residual = y - estimator.predict(X)
        return np.sum(residual**2) / (2 * len(X)) + penalty(estimator, estimator.coef_)

    return criterion


@_least_squares
def _elastic_net(estimator, coef):
    share = getattr(estimator, "l1_ratio", 1.0)
    return estimator.alpha * np.sum(share * np.abs(coef) + (1 - share) / 2 * coef**2)


@_least_squares
def _row_norms(estimator, coef):
    return estimator.alpha * np.sum(np.linalg.norm(coef, axis=0))


@_least_squares
def _pair_norms(estimator, coef):
    return estimator.alpha * np.sqrt(2) * np.sum(np.linalg.norm(coef.reshape(-1, 2), axis=1))


def _structural(estimator, X, y):
    """The criteria of CoLiDE for plain penalties, at the coefficients before the threshold."""
    W, s, alpha = estimator.coef_raw_, estimator.noise_scales_, estimator.alpha_
    n = len(X)
    left = np.var(X - X @ W, axis=0)
    if estimator.criterion == "colide":
        return np.sum(left / s + s) / 2 + alpha * np.sum(np.abs(W))
    likelihood = n * np.sum(np.log(s) + (left / s**2 - 1) / 2)
    return likelihood + alpha * np.log(n) * np.count_nonzero(W)


def _logistic(estimator, X, y):
    chosen = estimator.predict_log_proba(X)[
        np.arange(len(X)), np.searchsorted(estimator.classes_, y)
    ]
    return -chosen.mean() + estimator.alpha * np.abs(estimator.coef_).sum()


_SINGLE = {"alpha": 0.05, "tol": 1e-11}
_SEARCH = {"alphas": 12, "cv": 3, "tol": 1e-11}
_TIGHT = {"alpha": 0.002, "tol": 1e-8}
_LASSO = {"settings": _SINGLE, "criterion": _elastic_net, "tight": _TIGHT}
_LASSO_CV = {
    "settings": _SEARCH,
    "counting": {"criterion": "bic"},
    "tight": {"cv": 5, "tol": 1e-8},
}

_LOGISTIC = {
    **_LASSO,
    "criterion": _logistic,
    "tight": {"alpha": 1e-4, "tol": 1e-8},
    "grid": {"alpha": [100.0, 1e-3]},
}
_LOGISTIC_CV = {
    **_LASSO_CV,
    "tight": {"alphas": 12, "cv": 5, "tol": 1e-8},
    "grid": {"alphas": [[100.0], [1e-3]]},
}
# The criterion is that of one round, whose penalty depends on the initial estimate.
_ADAPTIVE = {
    "settings": {"alpha": 0.01, "tol": 1e-11},
    "alphas": (1e4, 0.01),
    "tight": {"alpha": 1e-5, "tol": 1e-8},
    # The criterion that chooses the initial estimate counts rows.
    "factors": (),
}

_PROBES = {
    "settings": {"n_alphas": 12, "cv": 3, "tol": 1e-11, "random_state": 0},
    "counting": {"n_probes": 2, "alpha": 0.01, "refit": None},
    "factors": (),
    "tight": {"cv": 5, "tol": 1e-8},
    "grid": {"refit": [None, "ebic"]},
}

# Few rows are tested against thresholds that depend on their number.
_CLOSED = {"factors": (), "tight": {"cov_threshold": 0.0}}

_GRAPH = {
    "settings": {"alpha": 0.1, "random_state": 0},
    # Fewer than two rows are no data for a graph.
    "factors": (0.1, 7.0),
    "criterion": _structural,
    "coefficients": "adjacency_",
    "wide": (20, 24),
    # Graphs are learned from columns in a common unit.
    "scaler": StandardScaler(with_mean=False, with_std=False),
    "tight": {"init": "variance", "window": 8},
}
_INFORMATION = {**_GRAPH, "settings": {"alpha": 1.0, "random_state": 0}, "factors": ()}
_INFORMATION["alphas"] = (100.0, 1.0)
_GRAPH_CV = {
    **_GRAPH,
    "settings": {"alphas": 6, "eps": 0.05, "cv": 3, "random_state": 0},
    "counting": {"scoring": "bic"},
    "criterion": None,
}
# Without a floor the likelihood of fewer rows than columns is decided by rounding.
_BOUNDED = {"criterion": "bic", "sigma_min": 0.2}
# Longer steps and fewer of them than in the paper, which would take minutes.
_SHORT_PATH = {
    "solver": "central-path",
    "path_params": {"lr": 1e-2, "warm_iter": 200, "max_iter": 400, "checkpoint": 50, "tol": 0.05},
}

_PRIVATE = {
    "settings": {"epsilon": 50.0, "fit_intercept": True, "random_state": 0},
    "crowd": 200,
    "hard": (60, 16),
    "warns": (
        "sparsestat.privacy.LowSignalWarning",
        "sparsestat.privacy.PublicUnitsWarning",
        "sparsestat.privacy.IllConditionedWarning",
    ),
}
_GAUSSIAN = {"mechanism": "gaussian", "delta": 0.1}


def _minus_dual(estimator, X, y):
    """Of entropic transport with squared distances, or with penalties on the marginals."""
    f, g = estimator.potentials_
    a, b, epsilon = estimator.source_weight_, estimator.target_weight_, estimator.epsilon_
    C = cdist(X, estimator.target_, "sqeuclidean")
    z = (f[:, None] + g[None, :] - C) / epsilon
    plan = a[:, None] * b[None, :] * np.exp(z)
    value = -epsilon * (plan.sum() - 1.0)
    for weights, potential, tau in ((a, f, estimator.reg_source), (b, g, estimator.reg_target)):
        if np.isinf(tau):
            value += weights @ potential
        else:
            value -= tau * weights @ np.expm1(-potential / tau)
    return -value


def _bridge_loss(estimator, X, y):
    origin = X.mean(axis=0) @ estimator.target_.mean(axis=0) / estimator.epsilon
    ends = estimator.log_potential(estimator.target_)
    return np.mean(estimator.log_normalizer(X)) - np.mean(ends) - origin


_TRANSPORT = {
    "settings": {"n_target": 50, "random_state": 0},
    "coefficients": "source_",
    "moves": True,
    "tight": {"epsilon_scale": "mean", "epsilon": 0.02},
    "grid": {"epsilon": [1.0, 10.0]},
}
_SWEPT = {"criterion": _minus_dual, "tight": {**_TRANSPORT["tight"], "epsilon": 0.1}}
_ADAPTER = {
    # The estimator within may weigh its penalty against the number of rows.
    "factors": (),
    "coefficients": "estimator_.coef_",
    "grid": {"target": [None, np.random.default_rng(0).standard_normal((60, 8))]},
}
_BRIDGE = {
    "settings": {"n_components": 3, "n_target": 200, "epsilon": 1.0, "random_state": 0},
    "criterion": _bridge_loss,
    "coefficients": "locations_",
    "moves": True,
    "grid": {"n_components": [1, 2]},
    "warns": ("sklearn.exceptions.ConvergenceWarning",),
}

_KNOWN = {
    "EntropicTransport": [
        _TRANSPORT,
        {**_TRANSPORT, **_SWEPT, "label": "log", "variant": {"method": "log"}},
        {**_TRANSPORT, "label": "newton", "variant": {"method": "newton"}},
        {
            **_TRANSPORT,
            **_SWEPT,
            "label": "penalised",
            "variant": {"reg_source": 10.0, "reg_target": 20.0},
        },
    ],
    "TransportAdapter": [
        {**_ADAPTER, "variant": {"estimator": LogisticRegression()}},
        {
            **_ADAPTER,
            "label": "regression",
            "variant": {"estimator": Ridge(alpha=1e-3, solver="lsqr", tol=1e-12)},
        },
    ],
    "LightSchrodingerBridge": [_BRIDGE],
    "LightSchrodingerBridgeCV": [
        {
            **_BRIDGE,
            "variant": {"n_components": [1, 2], "cv": 3},
            "settings": {"n_target": 200, "epsilon": 1.0, "random_state": 0},
            "counting": {"n_components": 2},
            "criterion": None,
            "grid": {"n_components": [[1], [1, 2]]},
        }
    ],
    "DoublyStochasticAffinity": [
        {
            "settings": {"n_clusters": 4},
            "coefficients": "affinity_",
            "moves": True,
            "factors": (),
            "grid": {"n_clusters": [3, 4]},
        }
    ],
    "LDPSparseRegressor": [
        _PRIVATE,
        {**_PRIVATE, "label": "gaussian", "variant": _GAUSSIAN},
    ],
    "LDPSparseRegressorCV": [_PRIVATE],
    "LDPIHTRegressor": [_PRIVATE],
    # Labels with little noise have large coefficients.
    "LDPIHTClassifier": [{**_PRIVATE, "settings": {**_PRIVATE["settings"], "coef_bound": 3.0}}],
    "LabelLDPRegressor": [_PRIVATE],
    "Lasso": [_LASSO],
    "ElasticNet": [_LASSO],
    "MultiTaskLasso": [{**_LASSO, "criterion": _row_norms}],
    "LassoCV": [_LASSO_CV],
    "ElasticNetCV": [_LASSO_CV],
    "GroupLasso": [
        _LASSO,
        {
            **_LASSO,
            "label": "pairs",
            "settings": {**_SINGLE, "groups": 2},
            "criterion": _pair_norms,
        },
    ],
    # Newton steps end far below a tolerance or not quite, as the last digit will have it: only with
    # the smallest tolerances are gaps the same in every process.
    "GroupLassoCV": [
        {**_LASSO_CV, "settings": {**_SEARCH, "tol": 3e-14}},
        {**_LASSO_CV, "label": "pairs", "settings": {**_SEARCH, "groups": 2, "tol": 3e-14}},
    ],
    "AdaptiveLasso": [_ADAPTIVE, {**_ADAPTIVE, "label": "rounds", "variant": {"n_reweight": 3}}],
    "AdaptiveLassoCV": [{**_LASSO_CV, "factors": ()}],
    "BCDRegressor": [
        {
            **_LASSO,
            "settings": {**_SINGLE, "random_state": 0},
            "tight": {"alpha": 0.05, "tol": 1e-8},
        },
        {
            **_LASSO,
            "label": "fixed",
            "variant": {"partition": "sort", "rule": "cyclic", "update": "pg"},
            "settings": {**_SINGLE, "block_size": 3, "random_state": 0},
            # Proximal gradient steps on small blocks are many where columns are.
            "tight": {"alpha": 0.05, "tol": 1e-8},
            "hard": (120, 60),
        },
    ],
    "RandomSupportRegressor": [_PROBES],
    "SparseLogisticRegression": [_LOGISTIC],
    "SparseLogisticRegressionCV": [_LOGISTIC_CV],
    "ThresholdedOLS": [_CLOSED],
    "CoLiDE": [
        _GRAPH,
        {**_GRAPH, "label": "unequal", "variant": {"variance": "unequal"}},
        {**_INFORMATION, "label": "bic", "variant": _BOUNDED},
        {**_INFORMATION, "label": "bic-unequal", "variant": {**_BOUNDED, "variance": "unequal"}},
        {
            **_GRAPH,
            "label": "central-path",
            "variant": _SHORT_PATH,
            "descends": False,
            "alphas": (2.0, 0.1),
            "tight": {},
            # So short a path may end at a graph that the variances tell.
            "warns": ("sparsestat.dag.SortabilityWarning",),
        },
    ],
    "CoLiDECV": [
        _GRAPH_CV,
        {**_GRAPH_CV, "label": "unequal", "variant": {"variance": "unequal"}},
    ],
}

CASES = [
    Case(name, cls, **known)
    for name, cls in sparsestat.all_estimators()
    for known in _KNOWN.get(name, [{}])
]


def each_of(cases):
    """Run a test for each of the cases."""
    return pytest.mark.parametrize(
        "case", [pytest.param(case, id=case.id, marks=case.marks) for case in cases]
    )


for_each = each_of(CASES)
for_each_with_target = each_of([case for case in CASES if case.needs_target])
for_each_without_target = each_of([case for case in CASES if not case.needs_target])


def for_all(test):
    """Let a test that runs all cases at once see the warnings that they expect."""
    for name in sorted({name for case in CASES for name in case.warns}):
        test = pytest.mark.filterwarnings(f"ignore::{name}")(test)
    return test


def of(cases, *parameters):
    """Pairs of a case and each of the named parameters that its estimator has."""
    return [
        pytest.param(case, name, id=f"{case.id}-{name}", marks=case.marks)
        for case in cases
        for name in parameters or case.parameters
        if name in case.parameters
    ]
