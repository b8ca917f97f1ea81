"""Compile what the estimators of graphs are used for."""

import warnings

import numpy as np

from sparsestat.dag import CoLiDE, CoLiDECV

warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
CRITERIA = [
    {"variance": variance, "criterion": criterion}
    for variance in ("equal", "unequal")
    for criterion in ("colide", "bic")
]


def chain(n_samples, n_nodes):
    """Every column depends on the two before it."""
    X = rng.standard_normal((n_samples, n_nodes))
    for j in range(2, n_nodes):
        X[:, j] += 0.9 * X[:, j - 1] - 0.6 * X[:, j - 2]
    return X[:, rng.permutation(n_nodes)]


tall, wide = chain(100, 6), chain(6, 9)
# The first column twice, and one that is the sum of two others.
dependent = np.column_stack([tall[:, 0], tall, tall[:, 1] + tall[:, 2]])
for options in CRITERIA:
    for X in (tall, wide, dependent, tall.astype(np.float32)):
        CoLiDE(random_state=0, n_restarts=1, **options).fit(X)
    # Few edges are worth their price, or nearly all, from orders that are far from the best.
    for alpha in (1e-4, 0.3):
        worst = CoLiDE(alpha=alpha, init=np.arange(6)[::-1], window=2, random_state=0, **options)
        worst.fit(tall).partial_fit(tall[:3]).fit_cov(np.cov(tall.T), 100)
        CoLiDE(alpha=alpha, init="variance", sigma_min=0.1, random_state=0, **options).fit(
            dependent
        )
    CoLiDE(
        required_edges=[(0, 1), (1, 2)],
        forbidden_edges=[(3, 4)],
        node_tiers=[0, 0, 0, 0, 0, 1],
        penalty_scale="columns",
        random_state=0,
        **options,
    ).fit(tall)
    CoLiDE(required_edges=[(0, 1), (0, 2), (1, 2)], random_state=0, **options).fit(dependent)
    CoLiDECV(alphas=4, cv=2, n_jobs=2, random_state=0, **options).fit(tall)
