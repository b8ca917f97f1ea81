"""Distances between a true and an estimated graph, and rates of errors among its edges.

An edge from i to j is a nonzero entry (i, j) of a matrix, whatever its value.
"""

import numpy as np
from scipy import sparse
from sklearn.utils import Bunch

from sparsestat.dag._graph import check_adjacency, check_dag, cpdag, descendants


def structural_hamming_distance(true, estimated):
    """Number of pairs of nodes that two graphs join differently.

    An edge that is missing, one that should not be there, and one that points the other way
    each count once. In graphs that are not DAGs, an edge in both directions, or an undirected
    edge, also differs by one from an edge in a single direction.

    Parameters
    ----------
    true : array-like of shape (n_nodes, n_nodes)
        A directed or partially directed graph; cycles are allowed. Any nonzero entry (i, j) is
        an edge from i to j.
    estimated : array-like of shape (n_nodes, n_nodes)
        Another graph on the same nodes.

    Returns
    -------
    distance : int
        Between 0 and ``n_nodes * (n_nodes - 1) / 2``.

    Raises
    ------
    ValueError
        For matrices that are not square, not finite, have a nonzero diagonal or are of
        different sizes.

    See Also
    --------
    cpdag_hamming_distance : Counts only what observational data can tell.
    structural_intervention_distance : Counts wrong conclusions about effects.

    Notes
    -----
    The distance is a metric: symmetric, zero for equal edges only, and it satisfies the triangle
    inequality. It is at home in Tsamardinos, Brown and Aliferis (2006), who apply it to CPDAGs;
    some authors count a reversed edge twice.

    References
    ----------
    I. Tsamardinos, L. E. Brown and C. F. Aliferis (2006). The max-min hill-climbing Bayesian
    network structure learning algorithm. *Machine Learning* 65, 31-78.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.dag import structural_hamming_distance
    >>> true = np.array([[0, 1.5, 0], [0, 0, -0.7], [0, 0, 0]])
    >>> estimated = np.array([[0, 1, 1], [0, 0, 0], [0, 1, 0]])
    >>> structural_hamming_distance(true, estimated)  # one reversed, one not there
    2
    """
    return _hamming(*_check_pair(true, estimated, check_adjacency, check_adjacency))


def cpdag_hamming_distance(true, estimated, *, estimated_type="dag"):
    """Number of pairs of nodes that the equivalence classes of two DAGs join differently.

    DAGs that imply the same conditional independences have distance zero, so that a method is
    not charged for directions that it could not have known.

    Parameters
    ----------
    true : array-like of shape (n_nodes, n_nodes)
        A DAG. Any nonzero entry (i, j) is an edge from i to j.
    estimated : array-like of shape (n_nodes, n_nodes)
        A DAG on the same nodes, or what `estimated_type` says.
    estimated_type : {"dag", "cpdag"}, default="dag"
        What `estimated` is. A ``"cpdag"``, such as other methods return, is taken as it is: an
        entry (i, j) is nonzero, and (j, i) zero, for a directed edge from i to j; both are
        nonzero for an undirected edge. It is not checked that some DAG belongs to it.

    Returns
    -------
    distance : int
        The structural Hamming distance between the CPDAGs, where a directed instead of an
        undirected edge counts once.

    Raises
    ------
    ValueError
        For matrices that are not square, not finite, have a nonzero diagonal or are of
        different sizes, for DAGs with a directed cycle, and for an unknown `estimated_type`.

    See Also
    --------
    cpdag : The graph that stands for an equivalence class.
    structural_hamming_distance : The distance between the DAGs themselves.

    References
    ----------
    I. Tsamardinos, L. E. Brown and C. F. Aliferis (2006). The max-min hill-climbing Bayesian
    network structure learning algorithm. *Machine Learning* 65, 31-78.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.dag import cpdag_hamming_distance
    >>> chain = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]])
    >>> cpdag_hamming_distance(chain, chain.T)
    0
    >>> cpdag_hamming_distance(chain, chain + chain.T, estimated_type="cpdag")
    0
    """
    if estimated_type not in ("dag", "cpdag"):
        raise ValueError(f"estimated_type must be 'dag' or 'cpdag', got {estimated_type!r}.")
    is_dag = estimated_type == "dag"
    true, estimated = _check_pair(
        true, estimated, check_dag, check_dag if is_dag else check_adjacency
    )
    return _hamming(cpdag(true) != 0, cpdag(estimated) != 0 if is_dag else estimated)


def structural_intervention_distance(true, estimated):
    """Number of effects that a wrong graph gets wrong.

    For every ordered pair of nodes (i, j), the distribution of j when i is set from outside is
    computed from the observational distribution by adjusting for the parents of i in the
    estimated graph; if they contain j, the conclusion is that i does not affect j. The distance
    is the number of pairs for which this is not correct in general if `true` generates the data.

    Parameters
    ----------
    true : array-like of shape (n_nodes, n_nodes)
        A DAG. Any nonzero entry (i, j) is an edge from i to j.
    estimated : array-like of shape (n_nodes, n_nodes)
        Another DAG on the same nodes.

    Returns
    -------
    distance : int
        Between 0 and ``n_nodes * (n_nodes - 1)``. It is not symmetric, and it is zero whenever
        the estimate has all true edges, all in the right direction, and further edges that make
        no cycle.

    Raises
    ------
    ValueError
        For matrices that are not square, not finite, have a nonzero diagonal, are of different
        sizes or have a directed cycle.

    See Also
    --------
    structural_hamming_distance : Counts wrong edges.

    Notes
    -----
    Parents Z of i that do not contain j are correct if and only if

    1. no node of Z is, or descends from, a node other than i on a directed path from i to j; and
    2. Z blocks every other path between i and j

    (Shpitser, VanderWeele and Robins, 2010; Peters and Bühlmann, 2015). The second condition is
    checked for all i at once by following open walks from i, which do not return to i, and
    keeping track of whether they are directed so far. Walks are as good as paths here: if a walk
    that is not directed visits a node twice, the part between can be cut out without closing
    it. What remains is shorter, and could only be directed if the visited node, which then lies
    on a directed path from i to j, had a descendant in Z, which the first condition excludes.

    The cost is that of a few products of an ``n_nodes`` by ``n_nodes`` matrix with the sparse
    matrix of edges for each step of the longest of the shortest open walks.

    References
    ----------
    J. Peters and P. Bühlmann (2015). Structural intervention distance for evaluating causal
    graphs. *Neural Computation* 27(3), 771-799.

    I. Shpitser, T. VanderWeele and J. M. Robins (2010). On the validity of covariate adjustment
    for estimating causal effects. *Proceedings of the 26th Conference on Uncertainty in
    Artificial Intelligence*, 527-536.

    Examples
    --------
    A superfluous edge leaves all effects correct, a reversed one does not:

    >>> import numpy as np
    >>> from sparsestat.dag import structural_intervention_distance
    >>> chain = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]])
    >>> structural_intervention_distance(chain, np.triu(np.ones((3, 3)), 1))
    0
    >>> structural_intervention_distance(chain, chain.T)
    6
    """
    return int(
        np.count_nonzero(_wrong_effects(*_check_pair(true, estimated, check_dag, check_dag)))
    )


def dag_metrics(true, estimated):
    """Compare an estimated DAG with the true one.

    Parameters
    ----------
    true : array-like of shape (n_nodes, n_nodes)
        A DAG. Any nonzero entry (i, j) is an edge from i to j.
    estimated : array-like of shape (n_nodes, n_nodes)
        Another DAG on the same nodes.

    Returns
    -------
    metrics : :class:`~sklearn.utils.Bunch`
        A dictionary with the attributes

        shd : int
            Structural Hamming distance: missing, superfluous and reversed edges.
        shd_cpdag : int
            The same distance between the equivalence classes.
        sid : int
            Structural intervention distance.
        tpr : float
            True positive rate: the share of the true edges that were found, in their direction.
        fdr : float
            False discovery rate: the share of the estimated edges that are not true edges,
            be they reversed or between nodes that are not joined.
        fpr : float
            False positive rate: reversed and superfluous edges as a share of the ordered pairs
            of different nodes without a true edge.
        precision : float
            ``1 - fdr``.
        recall : float
            The same as `tpr`.
        f1 : float
            Harmonic mean of precision and recall, zero if no true edge was found.
        n_edges : int
            Number of estimated edges.

    Raises
    ------
    ValueError
        For matrices that are not square, not finite, have a nonzero diagonal, are of different
        sizes or have a directed cycle.

    See Also
    --------
    structural_hamming_distance, cpdag_hamming_distance, structural_intervention_distance

    Notes
    -----
    A share of nothing has the value of a perfect estimate: without estimated edges `fdr` is 0
    and `precision` 1, without true edges `tpr` and `recall` are 1, and without both `f1` is 1.
    An estimate that equals the truth is thus perfect by every figure, and an empty estimate
    of a graph with edges has precision 1, but recall and f1 0.

    The denominator of `fpr` is that of a classifier of ordered pairs, so that it does not exceed
    1. Benchmarks of continuous structure learning often divide by the number of unordered pairs
    that are not joined instead, which gives larger figures.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.dag import dag_metrics
    >>> true = np.array([[0, 1.5, 0], [0, 0, -0.7], [0, 0, 0]])
    >>> estimated = np.array([[0, 1, 1], [0, 0, 0], [0, 1, 0]])
    >>> metrics = dag_metrics(true, estimated)
    >>> metrics.shd, metrics.shd_cpdag, metrics.sid
    (2, 1, 2)
    >>> metrics.tpr, round(metrics.fdr, 3), metrics.fpr, metrics.f1
    (0.5, 0.667, 0.5, 0.4)
    """
    true, estimated = _check_pair(true, estimated, check_dag, check_dag)
    n_nodes = len(true)
    n_true, n_edges = np.count_nonzero(true), np.count_nonzero(estimated)
    n_found = np.count_nonzero(true & estimated)
    n_false = n_edges - n_found
    recall = _share(n_found, n_true, 1.0)
    fdr = _share(n_false, n_edges, 0.0)
    return Bunch(
        shd=_hamming(true, estimated),
        shd_cpdag=_hamming(cpdag(true) != 0, cpdag(estimated) != 0),
        sid=int(np.count_nonzero(_wrong_effects(true, estimated))),
        tpr=recall,
        fdr=fdr,
        fpr=_share(n_false, n_nodes * (n_nodes - 1) - n_true, 0.0),
        precision=_share(n_found, n_edges, 1.0),
        recall=recall,
        f1=_share(2 * n_found, n_true + n_edges, 1.0),
        n_edges=int(n_edges),
    )


def _share(part, whole, of_nothing):
    return float(part / whole) if whole else of_nothing


def _check_pair(true, estimated, check_true, check_estimated):
    """Edges of two graphs on the same nodes."""
    true = check_true(true, "true")
    estimated = check_estimated(estimated, "estimated")
    if estimated.shape != true.shape:
        raise ValueError(
            f"estimated must have the shape of true, {true.shape}, got {estimated.shape}."
        )
    return true != 0, estimated != 0


def _hamming(first, second):
    """Number of unordered pairs whose entries differ between two boolean matrices."""
    differs = first != second
    return int(np.count_nonzero(np.triu(differs | differs.T)))


def _wrong_effects(true, estimated):
    """Ordered pairs (i, j) whose effect adjustment for i's estimated parents gets wrong."""
    below = descendants(true)
    # An adjusted node on a directed path to j hides a part of the effect on j. One that is only
    # below such a path needs no care: a walk goes down to it, back up, and on to j.
    hidden = _product(below & estimated.T, below)
    wrong = hidden | _open_indirect_walks(true, estimated)
    wrong = np.where(estimated.T, below, wrong)
    np.fill_diagonal(wrong, False)
    return wrong


def _open_indirect_walks(true, adjusted):
    """Pairs (i, j) with an open walk, other than a directed path, from i to j given pa(i).

    Parameters
    ----------
    true : ndarray of bool of shape (n_nodes, n_nodes)
        Edges of the DAG.
    adjusted : ndarray of bool of shape (n_nodes, n_nodes)
        Column i marks the nodes that are adjusted for when walks start at i.

    Returns
    -------
    reached : ndarray of bool of shape (n_nodes, n_nodes)
        By start and end.

    Notes
    -----
    A walk passes a node where two arrows meet if the node is adjusted for, and any other node
    if it is not. Paths also pass where arrows meet above an adjusted node; walks get there by
    going down to that node and back.
    """
    # Everything inside is indexed by node and start, so that sparse matrices stand on the left.
    down, up = (sparse.csr_array(edges, dtype=np.float32) for edges in (true.T, true))
    passes = ~adjusted
    away = ~np.eye(len(true), dtype=bool)
    # The last edge of a walk points at the node where it stands, with all edges before it
    # pointing forward (directed) or not (forward), or it points back at the node before.
    directed, forward, backward = true.T.copy(), np.zeros_like(true), true.copy()
    new = directed, forward, backward
    while any(np.any(part) for part in new):
        new_directed, new_forward, new_backward = new
        through = new_backward & passes
        next_directed = _product(down, new_directed & passes)
        next_forward = _product(down, new_forward & passes | through)
        next_backward = _product(up, (new_directed | new_forward) & adjusted | through)
        new = (
            next_directed & ~directed,
            next_forward & ~forward & away,
            next_backward & ~backward & away,
        )
        directed |= new[0]
        forward |= new[1]
        backward |= new[2]
    return (forward | backward).T


def _product(left, right):
    """Boolean matrix product; single precision counts exactly up to 2**24."""
    return left.astype(np.float32, copy=False) @ right.astype(np.float32) > 0
