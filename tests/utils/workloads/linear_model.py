"""Compile what the regression estimators are used for."""

import warnings

import numpy as np
from scipy import sparse

from sparsestat import linear_model
from sparsestat.penalties._codes import ELASTIC_NET
from sparsestat.solvers import forest_newton_step, greedy_forest
from sparsestat.solvers._designs import DenseDesign
from sparsestat.solvers._working_set import WorkingSetSolver
from sparsestat.utils import GramAccumulator

rng = np.random.default_rng(0)
for n_samples, n_features in ((60, 8), (20, 60)):
    X = rng.standard_normal((n_samples, n_features))
    y = X @ rng.standard_normal(n_features) + rng.standard_normal(n_samples)
    weights = rng.integers(1, 4, n_samples).astype(float)
    factors = np.r_[0.0, np.ones(n_features - 1)]
    lasso = linear_model.Lasso(0.01)
    tight = linear_model.Lasso(1e-3, tol=1e-10)
    net = linear_model.ElasticNet(
        0.01, l1_ratio=0.2, penalty_factor=factors, positive=np.arange(n_features) < 3
    )
    for data in (X, sparse.csc_array(X), sparse.csr_matrix(X), X.astype(np.float32)):
        for estimator in (lasso, tight, net):
            estimator.fit(data, y)
            estimator.fit(data, y, sample_weight=weights)
    lasso.fit_gram(GramAccumulator().update(X, y))
    # Few rows and many nonzero coefficients, which are solved on the residual.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for data in (X, sparse.csc_array(X)):
            linear_model.lasso_path(data, y, alphas=10, l1_ratio=0.05, fit_intercept=True)
            linear_model.lasso_path(data, y, alphas=10, penalty_factor=factors)
    linear_model.LassoCV(alphas=10, cv=3, n_jobs=2).fit(X, y)
    labels = np.arange(n_samples) % 3
    for data in (X, sparse.csc_array(X)):
        for target in (y > 0.0, labels):
            linear_model.SparseLogisticRegression(0.01).fit(data, target)
        for alpha in (0.1, 1e-3):
            linear_model.GroupLasso(alpha, groups=2).fit(data, y)
        linear_model.group_lasso_path(data, y, groups=4, alphas=20)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for update in ("tmp", "pn", "pg"):
                linear_model.BCDRegressor(0.01, update=update, track=True).fit(data, y)
            linear_model.BCDRegressor(0.01, loss="logistic").fit(data, y > 0.0)
            for partition, rule, update in (
                ("sort", "gsl", "lb"), ("average", "lipschitz", "hb"), ("order", "gsd", "pg"),
            ):  # fmt: skip
                linear_model.BCDRegressor(
                    0.0 if update != "pg" else 0.01, partition=partition, rule=rule,
                    update=update, block_size=3, max_iter=50, random_state=0,
                ).fit(data, y)  # fmt: skip
    linear_model.RandomSupportRegressor(n_alphas=5, cv=3, random_state=0).fit(X, y)
    linear_model.AdaptiveLasso(0.01, n_reweight=2).fit(X, y)
    linear_model.adaptive_lasso_path(X, y, alphas=5)
    linear_model.MultiTaskLasso(0.01).fit(X, np.column_stack([y, -y]))

# A working set that shrinks is cleared of the features that left.
X = np.asfortranarray(rng.standard_normal((120, 100)))
solver = WorkingSetSolver(DenseDesign(X, rng.standard_normal(120)))
for strength in (1e-3, 1e3, 1e3):
    params = np.zeros((3, 100))
    params[0] = strength
    solver.solve(ELASTIC_NET, params, 1e-6, 100)

chain = sparse.diags_array([2.0 * np.ones(9), -np.ones(8), -np.ones(8)], offsets=[0, 1, -1])
forest_newton_step(chain, np.ones(9), greedy_forest(chain, np.arange(9.0)))
