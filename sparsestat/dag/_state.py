"""Arrays that the loops of the order search work on, and what their rows and columns mean.

Everything works on a covariance S. Rows of the solution belong to nodes as targets; two more rows
serve as scratch space. Few arrays, as numba spends time on each of them in every function.

numba's cache on a user's disk refers to the types here by module and name, and fails to load if one
is gone: do not rename or move them.
"""

from collections import namedtuple

LassoProblem = namedtuple("LassoProblem", ["S", "precision", "rules", "penalty", "params"])
"""What is to be solved with a penalty on the weights.

S (d, d); precision (d, d) its inverse, or infinity; rules (d, d) by [child, parent], the sum of
`ALLOWED`, `REQUIRED` and `PRECEDES` (the parent stays before the child), on the diagonal
`REQUIRED` if the child has a required parent; penalty (d,) factors of a parent; params (4,) by
the names below.
"""

ParentCountProblem = namedtuple(
    "ParentCountProblem", ["S", "precision", "rules", "penalty", "params"]
)
"""The same with a price for each parent, as a type of its own so that it compiles by itself."""

Fit = namedtuple(
    "Fit", ["rows", "active", "factors", "numbers", "nodes", "trials", "stamps", "counts"]
)
"""The current solution.

rows (3, d + 2, d): `COEF` by [target, parent], `RESIDUAL` covariances of the residual of the target
with every variable and `CONDITIONAL` variances given its parents (for the information criterion);
active (d + 2, d) parents; factors (d + 2, about 4 d) the factor L, z and y of small active sets;
numbers (d + 2, 5) and nodes (5, d + 2) by the names below; trials (d, d)
change of the cost of u when v joins or leaves its candidates, valid while stamps[u, v] equals the
time `CHANGED` of u; counts (3,): node regressions, of which not converged, and the clock.
"""

Work = namedtuple("Work", ["L", "vectors", "idx", "state"])
"""Scratch space of one node regression, and its result.

L (d, d) with the reciprocals of its diagonal, vectors (7, d or more) by the names below, idx (d,)
active variables, state (d,).
"""

ALLOWED, REQUIRED, PRECEDES = 1, 2, 4
"""Bits of `rules`."""

ALPHA, FLOOR, N_SAMPLES, CRITERION = 0, 1, 2, 3
"""Entries of `params`: penalty strength, least scale, number of samples, one of the criteria."""

EQUAL, UNEQUAL, BIC_EQUAL, BIC_UNEQUAL = 0, 1, 2, 3
"""Criteria: scales shared or profiled out, penalty l1 or the number of parents."""

Q, NORM, SCALE, COST, CURVATURE = 0, 1, 2, 3, 4
"""Columns of `numbers`: residual variance, penalised norm, scale, cost, y'y."""

COEF, RESIDUAL, CONDITIONAL = 0, 1, 2
"""First index of `rows`."""

ORDER, POSITION, CHANGED, N_ACTIVE, FACTOR = 0, 1, 2, 3, 4
"""Rows of `nodes`: order, its inverse, time of the last change, number of parents, and of those
whose factor is kept."""

Z, Y, THETA, W_ACTIVE, SCRATCH, R_ACTIVE, OUT = 0, 1, 2, 3, 4, 5, 6
"""Rows of `vectors`: z, y, penalty signs and weights by active variable, room, and the result:
covariances of the residual, and the numbers of the node."""
