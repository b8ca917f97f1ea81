"""What the checks need to know about an estimator: quick settings, and data it can fit.

An estimator without an entry is taken as it comes from its constructor.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pytest
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
    settings : dict
        Parameters that make it quick and accurate.
    counting : dict
        Parameters in addition under which a weight of two must equal the row twice;
        random folds, for one, tell a repeated row from a weight.
    penalty : callable or None
        Penalty at ``(estimator, coefficients)`` if the iterates of the fit descend.
    """

    name: str
    cls: type
    settings: dict = field(default_factory=dict)
    counting: dict = field(default_factory=dict)
    penalty: object = None

    def make(self, **settings):
        return self.cls(**{**self.settings, **settings})

    @property
    def parameters(self):
        return sorted(self.cls().get_params())

    @cached_property
    def tags(self):
        return get_tags(self.cls())

    @property
    def takes_weights(self):
        return has_fit_parameter(self.cls, "sample_weight")

    def data(self, n_samples=40, n_features=8, seed=0, n_informative=3, noise=0.3):
        """A design away from the origin, a sparse signal, and weights that are counts."""
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((n_samples, n_features)) + 2 * rng.standard_normal(n_features)
        X += 0.5 * rng.standard_normal((n_samples, 1))
        shape = (3,) if self.tags.target_tags.multi_output else ()
        coef = np.zeros((n_features, *shape))
        coef[:n_informative] = rng.uniform(1.0, 3.0, size=(n_informative, *shape))
        y = X @ coef + noise * rng.standard_normal((n_samples, *shape)) + 5.0
        return X, y, rng.integers(1, 4, n_samples).astype(float)


def _elastic_net(estimator, coef):
    share = getattr(estimator, "l1_ratio", 1.0)
    return estimator.alpha * np.sum(share * np.abs(coef) + (1 - share) / 2 * coef**2)


def _row_norms(estimator, coef):
    return estimator.alpha * np.sum(np.linalg.norm(coef, axis=0))


_SINGLE = {"alpha": 0.05, "tol": 1e-11}
_SEARCH = {"alphas": 12, "cv": 3, "tol": 1e-11}
_KNOWN = {
    "Lasso": {"settings": _SINGLE, "penalty": _elastic_net},
    "ElasticNet": {"settings": _SINGLE, "penalty": _elastic_net},
    "MultiTaskLasso": {"settings": _SINGLE, "penalty": _row_norms},
    "LassoCV": {"settings": _SEARCH, "counting": {"criterion": "bic"}},
    "ElasticNetCV": {"settings": _SEARCH, "counting": {"criterion": "bic"}},
}

CASES = [Case(name, cls, **_KNOWN.get(name, {})) for name, cls in sparsestat.all_estimators()]

for_each = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


def of(cases, *parameters):
    """Pairs of a case and each of the named parameters that its estimator has."""
    return [
        pytest.param(case, name, id=f"{case.name}-{name}")
        for case in cases
        for name in parameters or case.parameters
        if name in case.parameters
    ]
