"""Arrays that the loops of block descent work on, and what their rows and entries mean.

Few arrays, as numba spends time on each of them in every function. Its cache on a user's disk
refers to the types here by module and name, and fails to load if one is gone: do not rename or
move them.
"""

from collections import namedtuple

Columns = namedtuple(
    "Columns",
    ["XT", "data", "indices", "indptr", "row_data", "row_indices", "row_indptr"],
)
"""The design: XT (d, n) if it is dense, else empty, and CSC and CSR arrays of the same entries."""

State = namedtuple("State", ["coords", "rows", "numbers", "counts"])
"""The problem and the present point.

coords (7, d), rows (9, n), numbers (3,) and counts (10,) by the names below.
"""

Work = namedtuple(
    "Work", ["starts", "matrices", "blocks", "places", "grams", "pair", "vectors", "lists",
             "touched"],
)  # fmt: skip
"""Blocks, what is remembered, and scratch space.

Fixed block b is ``places[ORDER, starts[b]:starts[b + 1]]``, of which there are none if blocks are
variable; matrices (2, b, size, size) the bounds on their Hessians and the factors of these; blocks
(3, b) and places (3, d) by the names below; grams (k, d) some rows of the Gram matrix; pair
(2, size, size) a Hessian and its factor; vectors (8, size); lists (3, size) and touched (2, n) by
the names below.
"""

Record = namedtuple("Record", ["numbers", "counts"])
"""What happened in each iteration, or empty arrays if nobody wants to know.

numbers (k, 2) objectives and multiplications; counts (k, 1 + size) support sizes and blocks, -1
after their ends.
"""

X, GRADIENT, THRESHOLD, ONE_SIDED, OFFSET, SCORE, STEP = 0, 1, 2, 3, 4, 5, 6
"""Rows of `coords`: the point; the gradient of the loss, which only greedy rules maintain; prices
of absolute values; ones where negative values are not allowed; what, times ROOT, is to be
subtracted from the columns; scores; reciprocals of the curvatures that a rule takes for granted."""

RESIDUAL, LINEAR, CURVATURE, TARGET, WEIGHT, ROOT, BOUND, ZERO, MOVED = 0, 1, 2, 3, 4, 5, 6, 7, 8
"""Rows of `rows`: minus the derivative of the loss; scores of the logistic loss, its curvature, the
response and the weights; what OFFSET is multiplied by; largest curvature; scratch space, the first
zero between calls."""

SHIFT, PENALTY, MULTIPLICATIONS = 0, 1, 2
"""Entries of `numbers`: the intercept, or how often ROOT is to be subtracted from the residual; the
value of the penalty; multiplications so far."""

ITERATION, SUPPORT, CHANGED, POSITION, CLOCK, KEPT, LOSS, RULE, UPDATE, INTERCEPT = range(10)
"""Entries of `counts`: iterations, nonzero coordinates, the last iteration in which one became or
ceased to be zero, place in the permutation, what stamps are compared with, rows of `grams`; codes
of the loss, the rule and the update, and whether there is an intercept."""

HESSIAN, FACTOR = 0, 1
"""First index of `matrices` and `pair`."""

SUM, LARGEST, LAW = 0, 1, 2
"""Rows of `blocks`: scores, largest eigenvalues, distribution function of blocks drawn."""

PLACE, PERMUTATION, ORDER = 0, 1, 2
"""Rows of `places`: the row of `grams` or -1; coordinates or blocks in random order; coordinates,
block after block."""

KIND, MEMBER, BLOCK = 0, 1, 2
"""Rows of `lists`: what may happen to a coordinate, coordinates of a subproblem, the block."""

TOUCHED, STAMP = 0, 1
"""Rows of `touched`: rows of the design that a step reaches, and when they were last."""

SQUARED, LOGISTIC = 0, 1
"""Losses."""

GS, GSL, GSD, GSQ, GSQ_EXACT, RANDOM, CYCLIC, PERM, LIPSCHITZ = 0, 1, 2, 3, 4, 5, 6, 7, 8
"""Rules; those below RANDOM are greedy."""

LB, HB, PG, PN, TMP = 0, 1, 2, 3, 4
"""Updates."""
