"""Records, their moments without any noise, and what was warned of, for tests of estimators."""

import warnings

import numpy as np

from sparsestat.datasets import make_sparse_regression

QUIET = ("LowSignalWarning", "IllConditionedWarning")
# Every mechanism, with one bit, several, and none at all.
MECHANISMS = [
    {"epsilon": 2.0},
    {"epsilon": 6.0, "n_bits": 3},
    {"epsilon": 2.0, "mechanism": "duchi"},
    {"epsilon": 6.0, "mechanism": "duchi", "n_bits": 3},
    {"epsilon": 4.0, "mechanism": "gaussian", "delta": 1e-5},
    {"epsilon": 4.0, "mechanism": "discrete_gaussian", "delta": 1e-5},
]
NAMES = ["one-bit", "three-bits", "duchi", "duchi-bits", "gaussian", "discrete"]


def records(n, d=4, k=2, seed=0, **options):
    made = make_sparse_regression(n, d, k, random_state=seed, **options)
    return made.data, made.target, made.coef


def exact_moments(X, y, x_bound, y_bound):
    """Mean of ``w^2 x x'`` and of ``w x clip(w y)``, row by row as in the formula."""
    S, b = np.zeros((X.shape[1],) * 2), np.zeros(X.shape[1])
    for row, target in zip(X, y):
        norm = np.sqrt(row @ row)
        w = min(1.0, x_bound / norm) if norm > 0 else 1.0
        S += w * w * np.outer(row, row)
        b += w * row * min(y_bound, max(-y_bound, w * target))
    return S / len(X), b / len(X)


def z_scores(moments, S, b):
    """Errors of noisy moments in units of what they declare, each entry once."""
    above = np.triu_indices(len(b), 1)
    return np.concatenate(
        [
            np.diag(moments.S - S) / moments.sd_diag,
            (moments.S - S)[above] / moments.sd_off,
            (moments.b - b) / moments.sd_b,
        ]
    )


def warned(call):
    """The result of a call and the warnings on its way."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call()
    return result, caught


class Progress:
    """A callback that counts what has been done, and may ask to stop."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.models = []

    def setup(self, estimator, context):
        self.models.clear()

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        if context.parent is not None:
            self.models.append(fitted_estimator)
        return self.stop_after is not None and len(self.models) >= self.stop_after

    def teardown(self, estimator, context):
        pass
