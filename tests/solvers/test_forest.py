"""Newton steps on forests against dense solves, and what they are good for."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from sparsestat.solvers import _kernels_forest
from sparsestat.solvers._forest import forest_newton_step, greedy_forest


def random_forest(m, seed, n_trees=3):
    """A positive definite matrix whose graph is a forest, in random order."""
    rng = np.random.default_rng(seed)
    H = np.zeros((m, m))
    for k in range(n_trees, m):
        H[k, rng.integers(k)] = rng.normal()
    H += H.T
    H += np.diag(np.abs(H).sum(axis=1) + rng.uniform(0.01, 1.0, m))
    order = rng.permutation(m)
    return H[np.ix_(order, order)]


def lattice(side):
    """Laplacian of a square lattice."""
    chain = sparse.diags_array(
        [-np.ones(side - 1), -np.ones(side - 1)], offsets=[-1, 1], shape=(side, side)
    )
    A = sparse.kron(chain, sparse.eye_array(side)) + sparse.kron(sparse.eye_array(side), chain)
    return sparse.csr_array(A - sparse.diags_array(np.asarray(A.sum(axis=1)).ravel()))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array, sparse.coo_matrix])
def test_steps_are_those_of_dense_solves(seed, form):
    m = 30
    H = random_forest(m, seed)
    g = np.random.default_rng(seed).normal(size=m)
    assert_allclose(forest_newton_step(form(H), g), -np.linalg.solve(H, g), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_blocks_of_a_lattice(seed):
    rng = np.random.default_rng(seed)
    H = lattice(12) + 0.1 * sparse.eye_array(144)
    g = rng.normal(size=144)
    scores = rng.random(144)
    block = greedy_forest(H, scores)
    step = forest_newton_step(H, g, block)
    dense = H.toarray()[np.ix_(block, block)]
    assert_allclose(step, -np.linalg.solve(dense, g[block]), rtol=1e-9)
    assert_array_equal(block, block[np.argsort(-scores[block])])
    # A forest has as many edges as vertices less trees, and nothing can be added to it.
    assert n_cycles(dense) == 0
    for j in set(range(144)) - set(block):
        larger = np.append(block, j)
        assert n_cycles(H.toarray()[np.ix_(larger, larger)]) > 0


def n_cycles(H):
    n_trees = connected_components(sparse.csr_array(H != 0))[0]
    return np.count_nonzero(np.triu(H, 1)) - len(H) + n_trees


def test_red_and_black():
    """Half of a lattice without edges needs no elimination."""
    H = lattice(6) + sparse.eye_array(36)
    red = np.flatnonzero(np.add.outer(np.arange(6), np.arange(6)).ravel() % 2 == 0)
    g = np.arange(36.0)
    assert_allclose(forest_newton_step(H, g, red), -g[red] / H.diagonal()[red])


def test_scores_that_are_not_positive():
    assert_array_equal(greedy_forest(np.eye(4), [0.0, 1.0, -1.0, 2.0]), [3, 1])
    assert forest_newton_step(np.eye(3), np.ones(3), []).shape == (0,)


def test_stored_zeros_are_no_edges():
    H = sparse.csr_array(
        (
            np.r_[np.ones(3), np.zeros(6)],
            (np.r_[:3, 0, 1, 2, 1, 2, 0], np.r_[:3, 1, 2, 0, 0, 1, 2]),
        ),
        shape=(3, 3),
    )
    assert_allclose(forest_newton_step(H, np.ones(3)), -np.ones(3))
    assert greedy_forest(H, np.ones(3)).size == 3


@pytest.mark.parametrize(
    ("H", "gradient", "block", "match"),
    [
        (np.ones((3, 3)) + np.eye(3), np.ones(3), None, "cycle"),
        (np.eye(3)[:2], np.ones(3), None, "square"),
        (np.triu(np.ones((2, 2))), np.ones(2), None, "symmetric"),
        (np.eye(3), np.ones(2), None, "gradient"),
        (np.eye(3), np.ones(3), [0, 0], "at most once"),
        (np.eye(3), np.ones(3), [3], "from 0 to 2"),
        (np.eye(3), np.ones(3), [0.5], "integers"),
        (-np.eye(3), np.ones(3), [2], "positive definite.*coordinate 2"),
        (np.full((1, 1), np.nan), np.ones(1), None, "finite"),
    ],
)
def test_refusals(H, gradient, block, match):
    with pytest.raises(ValueError, match=match):
        forest_newton_step(H, gradient, block)


def test_scores_are_checked():
    with pytest.raises(ValueError, match="scores"):
        greedy_forest(np.eye(2), np.ones(3))
    with pytest.raises(ValueError, match="NaN"):
        greedy_forest(np.eye(2), [1.0, np.nan])


def test_loops_allocate_nothing(count_allocations):
    H = sparse.csr_array(random_forest(20, 0))
    arrays = H.data, H.indices, H.indptr
    block, places = np.arange(20), np.arange(20)
    queue, above, pivots = np.empty(20, dtype=np.int64), np.empty(20, dtype=np.int64), np.empty(20)
    order = np.arange(20)
    assert count_allocations(
        _kernels_forest.grow_forest, *arrays, order, np.full(20, -1), np.empty(20, dtype=np.int64)
    ) == 0  # fmt: skip
    assert count_allocations(
        _kernels_forest.order_forest, *arrays, block, places, queue, above
    ) == 0  # fmt: skip
    assert count_allocations(
        _kernels_forest.solve_forest, *arrays, block, places, queue, above, pivots, np.ones(20)
    ) == 0  # fmt: skip


def label_propagation(side=50, n_labelled=100, seed=0):
    """Labels of a lattice are to vary little along edges that carry a weight."""
    rng = np.random.default_rng(seed)
    L = sparse.coo_array(lattice(side))
    edges = L.row < L.col
    row, col = L.row[edges], L.col[edges]
    weight = np.where(rng.random(row.size) < 0.5, 1e5, 0.0)
    n = side * side
    A = sparse.coo_array((np.r_[weight, weight], (np.r_[row, col], np.r_[col, row])), (n, n))
    A = sparse.csr_array(A)
    Q = sparse.csr_array(sparse.diags_array(np.asarray(A.sum(axis=1)).ravel()) - A)
    labelled = rng.choice(n, n_labelled, replace=False)
    free = np.setdiff1d(np.arange(n), labelled)
    labels = rng.choice([-1.0, 1.0], n_labelled)
    H = Q[free][:, free] + sparse.eye_array(free.size)
    return sparse.csr_array(H), Q[free][:, labelled] @ labels


def test_label_propagation():
    """A forest of the same cost goes much farther than a dense block of size d^(1/3)."""
    H, linear = label_propagation()
    d = H.shape[0]
    assert d == 2400
    diagonal = H.diagonal()
    best = sparse.linalg.spsolve(sparse.csc_array(H), -linear)
    lowest = 0.5 * best @ H @ best + linear @ best
    left = {}
    for kind in ("forest", "general"):
        x, g = np.zeros(d), linear.copy()
        for _ in range(30):
            scores = np.abs(g) / np.sqrt(diagonal)
            if kind == "forest":
                # Coordinates that are optimal by themselves carry messages between others.
                block = greedy_forest(H, scores + 1e-12 * scores.max())
                step = forest_newton_step(H, g, block)
            else:
                block = np.argpartition(-scores, round(d ** (1 / 3)))[: round(d ** (1 / 3))]
                step = -np.linalg.solve(H[block][:, block].toarray(), g[block])
            x[block] += step
            g += H[:, block] @ step
        left[kind] = (0.5 * x @ H @ x + linear @ x - lowest) / -lowest
    assert 0.0 <= left["forest"] < 0.01
    assert left["general"] > 0.1
