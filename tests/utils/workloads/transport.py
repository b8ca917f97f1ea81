"""Compile what transport problems are solved with."""

import warnings

import numpy as np

from sparsestat.transport import (
    DoublyStochasticAffinity,
    EntropicTransport,
    _kernels_affinity,
    _newton,
    sinkhorn,
    sinkhorn_batch,
    sinkhorn_divergence,
    sinkhorn_newton_sparse,
    sinkhorn_points,
)

warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
X, Y = rng.standard_normal((9, 2)), rng.standard_normal((11, 2))
C = ((X[:, None] - Y) ** 2).sum(axis=2)
wide = rng.standard_normal((9, 20))
a = np.r_[0.0, np.ones(8)] / 8

for method in ("kernel", "log", "newton", "truncated", "sns"):
    # Costs without an offset and with one that would swallow their digits.
    for costs in (C, C + 1e8 * np.arange(11)):
        sinkhorn(costs, a, epsilon=0.05, method=method).sparse_plan()
sinkhorn(C, epsilon=0.5, storage_dtype=np.float32)
sinkhorn(C, epsilon=1e-7, method="log", max_iter=5, init=(np.zeros(9), 1e4 * np.arange(11.0)))
sinkhorn(C, epsilon=0.1, reg_marginals=(1.0, 2.0))
for metric in ("sqeuclidean", "euclidean", "cityblock"):
    for method in ("log", "newton", "truncated"):
        sinkhorn_points(X, Y, epsilon=0.05, metric=metric, method=method, lazy=True)
        sinkhorn_points(X, Y, epsilon=20.0, metric=metric, method=method, lazy=True)
sinkhorn_points(wide, wide + 1.0, epsilon=5.0, lazy=True)
sinkhorn_points(wide[:, :4], wide[:, :4] + 1.0, epsilon=5.0, lazy=True)
sinkhorn_divergence(X, Y, epsilon=0.5)
sinkhorn_newton_sparse(C, epsilon=0.05)
EntropicTransport(target=Y).fit(X).transform(X)
stack = np.stack([C, 2.0 * C, C + 1.0])
sinkhorn_batch(stack, epsilon=0.05)
# Sums that are never so exact, and are looked at on logarithms.
sinkhorn_batch(np.stack([C[:, ::-1], C]), a, epsilon=0.5, tol=3e-16, max_iter=200)
for options in ({"n_clusters": 3}, {"epsilon": 0.5}, {"epsilon": 0.1, "zero_diagonal": True}):
    DoublyStochasticAffinity(**options).fit(X)
# Rows whose terms all underflow.
_kernels_affinity.log_row_sums(1.0 - np.eye(3), 1e6, np.zeros(3), False, np.zeros(3))
# Entries of the plan that would be too many to keep.
kept, _newton._MAX_ENTRIES = _newton._MAX_ENTRIES, 0
sinkhorn_points(X, Y, epsilon=0.05, lazy=True, method="newton")
_newton._MAX_ENTRIES = kept
