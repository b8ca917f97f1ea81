"""How much of a graph can be read off the scales of its variables.

In a linear model with weights and noise of similar size throughout, variances grow along directed
paths, and so does the share of a variable that the other variables explain. Where this is so,
sorting the variables finds the direction of most edges, without any search. In simulated data
it is a trap, in measured data a matter of units.
"""

import numpy as np
from scipy import linalg
from sklearn.utils import Bunch

from sparsestat.dag._graph import check_dag, layers, topological_order
from sparsestat.utils._moments import GramAccumulator

TIE = 1e-9
"""Relative difference up to which two scores are equal."""

SAME_SCALE = 1e-6
"""Relative spread of variances up to which columns count as standardised."""

_HIGH = 0.9
_WORD = 64

_SMALL = 50
"""Number of nodes up to which matrix products count paths faster than sets of bits."""


class SortabilityWarning(UserWarning):
    """A graph may be the consequence of the units of the columns.

    Issued by estimators whose criterion compares the variances of different columns, if the
    graph that they learned agrees with the order by variance suspiciously well, or if all columns
    have the same variance, as after standardising.

    See Also
    --------
    sortability_report : Says how far scales could explain a graph.

    Examples
    --------
    >>> import warnings
    >>> from sparsestat.dag import SortabilityWarning
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warnings.warn("check the units", SortabilityWarning)
    >>> [str(warning.message) for warning in caught]
    ['check the units']
    """


def var_sortability(X, adjacency, *, sample_weight=None):
    """Share of a graph's directed paths along which the variance increases.

    Near 1, sorting the columns by their variance gives an order of the graph; near 0, the
    reverse order does; near 0.5, variances say nothing about it.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Data on the host, in the units that are to be judged; at least two rows.
    adjacency : array-like of shape (n_features, n_features)
        A DAG, true or learned: nonzero at (i, j) for an edge from i to j.
    sample_weight : array-like of shape (n_samples,), float or None, default=None
        How often each row occurs: weight 2 is the row twice.

    Returns
    -------
    sortability : float
        Between 0 and 1; NaN for a graph without edges.

    Raises
    ------
    ValueError
        For a graph with a directed cycle or of another size, and for data with fewer than two
        rows or with NaN or infinity.

    See Also
    --------
    r2_sortability : Does not depend on the units of the columns.
    sortability_report : Both, and what the scales alone tell.

    Notes
    -----
    A pair (i, j) counts once for every length that a path from i to j has: with E the 0/1
    matrix of edges,

        sum_k sum_{(i, j): (E^k)_ij > 0} incr(var_i, var_j) / sum_k #{(i, j): (E^k)_ij > 0},

    where incr(a, b) is 1 if a < b, 0 if a > b and 1/2 if they are equal, up to a relative
    difference of 1e-9.

    References
    ----------
    A. G. Reisach, C. Seiler and S. Weichwald (2021). Beware of the simulated DAG! Causal
    discovery benchmarks may be easy to game. *Advances in Neural Information Processing
    Systems* 34.

    Examples
    --------
    >>> from sparsestat.dag import var_sortability
    >>> from sparsestat.datasets import make_sem
    >>> sem = make_sem(1000, 10, random_state=0)
    >>> var_sortability(sem.data, sem.adjacency) > 0.9
    True
    >>> var_sortability(sem.data / sem.data.std(axis=0), sem.adjacency)
    0.5
    """
    covariance, adjacency = _check_data(X, adjacency, sample_weight)
    return var_sortability_from_variances(covariance.diagonal(), adjacency)


def r2_sortability(X, adjacency, *, sample_weight=None):
    """Share of a graph's directed paths along which the explained share increases.

    As :func:`var_sortability`, with the R^2 of each variable when it is regressed on all others
    in place of its variance. It is the same in any units and survives standardising.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Data on the host; at least two rows. With no more rows than columns every R^2 is 1.
    adjacency : array-like of shape (n_features, n_features)
        A DAG, true or learned: nonzero at (i, j) for an edge from i to j.
    sample_weight : array-like of shape (n_samples,), float or None, default=None
        How often each row occurs: weight 2 is the row twice.

    Returns
    -------
    sortability : float
        Between 0 and 1; NaN for a graph without edges.

    Raises
    ------
    ValueError
        For a graph with a directed cycle or of another size, and for data with fewer than two
        rows or with NaN or infinity.

    See Also
    --------
    var_sortability : The same for variances, with the definition.

    Notes
    -----
    R^2_j is ``1 - 1 / (S_jj (S^{-1})_jj)``, with S the covariance, and 0 for a constant column.

    References
    ----------
    A. G. Reisach, M. Tami, C. Seiler, A. Chambaz and S. Weichwald (2023). A scale-invariant
    sorting criterion to find a causal order in additive noise models. *Advances in Neural
    Information Processing Systems* 36.

    Examples
    --------
    >>> from sparsestat.dag import r2_sortability
    >>> from sparsestat.datasets import make_sem
    >>> sem = make_sem(1000, 10, random_state=0)
    >>> original = r2_sortability(sem.data, sem.adjacency)
    >>> original == r2_sortability(sem.data / sem.data.std(axis=0), sem.adjacency)
    True
    """
    covariance, adjacency = _check_data(X, adjacency, sample_weight)
    return r2_sortability_from_covariance(covariance, adjacency)


def sortability_report(X, adjacency=None, *, sample_weight=None):
    """Describe the scales of data, and how far they could explain a graph.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        Data on the host, in the units that are to be judged; at least two rows.
    adjacency : array-like of shape (n_features, n_features) or None, default=None
        A DAG, true or learned: nonzero at (i, j) for an edge from i to j. None if there is none
        yet; whether variances increase along its paths can then not be said.
    sample_weight : array-like of shape (n_samples,), float or None, default=None
        How often each row occurs: weight 2 is the row twice.

    Returns
    -------
    report : :class:`~sklearn.utils.Bunch`
        A dictionary with the attributes

        variances : ndarray of shape (n_features,)
            Variances of the columns, with divisor n.
        variance_ratio : float
            The largest over the smallest, constant columns left out; NaN if all are constant.
        variance_order : ndarray of int of shape (n_features,)
            Columns by increasing variance, ties by index: the order that a method which only
            sorts would take for causal.
        standardised : bool
            Whether all variances agree up to one in a million, constant columns left out, as
            they do after standardising with either divisor.
        r2 : ndarray of shape (n_features,)
            Share of each column that the others explain; does not depend on units.
        r2_order : ndarray of int of shape (n_features,)
            Columns by increasing `r2`, ties by index.
        var_sortability, r2_sortability : float or None
            As the functions of these names say; None without a graph.
        message : str
            What follows, in sentences.

    Raises
    ------
    ValueError
        For a graph with a directed cycle or of another size, and for data with fewer than two
        rows or with NaN or infinity.

    See Also
    --------
    var_sortability, r2_sortability

    References
    ----------
    A. G. Reisach, C. Seiler and S. Weichwald (2021). Beware of the simulated DAG! Causal
    discovery benchmarks may be easy to game. *Advances in Neural Information Processing
    Systems* 34.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sparsestat.dag import sortability_report
    >>> report = sortability_report(load_wine().data)
    >>> print(report.message)  # doctest: +NORMALIZE_WHITESPACE
    Variances differ by a factor of up to 6.4e+06. A criterion that compares variances takes all
    columns to be in one common unit; in units of their own the order by variance, and a graph
    that follows it, mean nothing. Without a graph, it cannot be said whether variances increase
    along its paths.
    """
    covariance, adjacency = _check_data(X, adjacency, sample_weight)
    return report_from_covariance(covariance, adjacency)


def var_sortability_from_variances(variances, adjacency):
    """Sortability by variance, from the variances alone.

    Parameters
    ----------
    variances : ndarray of shape (n_features,)
        Variances of the nodes.
    adjacency : ndarray of shape (n_features, n_features)
        A DAG.

    Returns
    -------
    sortability : float
        NaN for a graph without edges.
    """
    return sortability_of_scores(variances, adjacency)


def r2_sortability_from_covariance(covariance, adjacency):
    """Sortability by R^2, from the covariance alone.

    Parameters
    ----------
    covariance : ndarray of shape (n_features, n_features)
        Symmetric and positive semidefinite.
    adjacency : ndarray of shape (n_features, n_features)
        A DAG.

    Returns
    -------
    sortability : float
        NaN for a graph without edges.
    """
    return sortability_of_scores(explained_shares(covariance), adjacency)


def report_from_covariance(covariance, adjacency=None):
    """What :func:`sortability_report` says, from the covariance alone.

    Parameters
    ----------
    covariance : ndarray of shape (n_features, n_features)
        Symmetric and positive semidefinite.
    adjacency : ndarray of shape (n_features, n_features) or None, default=None
        A DAG.

    Returns
    -------
    report : Bunch
        As :func:`sortability_report` returns it.
    """
    variances = covariance.diagonal().copy()
    positive = variances[variances > 0]
    r2 = explained_shares(covariance)
    report = Bunch(
        variances=variances,
        variance_ratio=float(positive.max() / positive.min()) if positive.size else np.nan,
        variance_order=np.argsort(variances, kind="stable"),
        standardised=have_same_scale(variances),
        r2=r2,
        r2_order=np.argsort(r2, kind="stable"),
        var_sortability=None,
        r2_sortability=None,
    )
    if adjacency is not None:
        report.var_sortability = sortability_of_scores(variances, adjacency)
        report.r2_sortability = sortability_of_scores(r2, adjacency)
    report.message = _in_words(report)
    return report


def have_same_scale(variances):
    """Tell whether variances are as equal as standardising makes them.

    Parameters
    ----------
    variances : ndarray of shape (n_features,)
        Variances; zeros are left out.

    Returns
    -------
    answer : bool
        True if there are at least two and their relative spread is at most 1e-6. Their common
        value is free: with divisor n - 1 in the standardisation it is not 1.
    """
    positive = variances[variances > 0]
    return bool(positive.size > 1 and np.ptp(positive) <= SAME_SCALE * positive.max())


def explained_shares(covariance):
    """R^2 of each variable when it is regressed on all others.

    Parameters
    ----------
    covariance : ndarray of shape (n_features, n_features)
        Symmetric and positive semidefinite.

    Returns
    -------
    r2 : ndarray of shape (n_features,)
        1 for a variable that is a linear combination of others, 0 for one that is constant.
    """
    scales = np.sqrt(covariance.diagonal())
    varies = scales > 0
    r2 = np.zeros(len(scales))
    if not varies.any():
        return r2
    correlation = covariance[np.ix_(varies, varies)] / np.outer(scales[varies], scales[varies])
    eigenvalues, vectors = linalg.eigh(correlation)
    # Eigenvalues that are zero up to rounding become a positive number of that size, by which
    # variables in a linear relation get an R^2 of 1 and the others keep theirs.
    floor = len(correlation) * np.finfo(np.float64).eps * eigenvalues[-1]
    diagonal_of_inverse = vectors**2 @ (1.0 / np.maximum(eigenvalues, floor))
    r2[varies] = np.clip(1.0 - 1.0 / diagonal_of_inverse, 0.0, 1.0)
    return r2


def sortability_of_scores(scores, adjacency):
    """Share of directed paths, one for each pair and length, along which a score increases.

    Parameters
    ----------
    scores : ndarray of shape (n_nodes,)
        Non-negative.
    adjacency : ndarray of shape (n_nodes, n_nodes)
        A DAG.

    Returns
    -------
    sortability : float
        Ties count one half; NaN for a graph without edges.
    """
    return sortability_of_counts(scores, count_path_lengths(adjacency))


def sortability_of_counts(scores, counts):
    """The same share, from what :func:`count_path_lengths` says of the graph."""
    total = counts.sum()
    if total == 0:
        return np.nan
    start, end = scores[:, None], scores[None, :]
    tie = np.abs(end - start) <= TIE * np.maximum(start, end)
    credit = np.where(tie, 0.5, end > start)
    return float((counts * credit).sum() / total)


def count_path_lengths(adjacency):
    """Number of different lengths of the directed paths between two nodes.

    Parameters
    ----------
    adjacency : ndarray of shape (n_nodes, n_nodes)
        A DAG.

    Returns
    -------
    counts : ndarray of int of shape (n_nodes, n_nodes)
        By start and end of the paths, which have at least one edge.
    """
    edges = np.asarray(adjacency) != 0
    n_nodes = len(edges)
    if n_nodes <= _SMALL:
        return _count_by_powers(edges)
    # Bit k of lengths[j, i] is set if there is a path of k edges from i to j. The powers of the
    # matrix of edges, whose number is the length of the longest path, are not needed.
    n_words = int(layers(edges).max()) // _WORD + 1
    lengths = np.zeros((n_nodes, n_nodes, n_words), dtype=np.uint64)
    lengths[np.arange(n_nodes), np.arange(n_nodes), 0] = 1
    one, last = np.uint64(1), np.uint64(_WORD - 1)
    for node in topological_order(edges):
        parents = np.flatnonzero(edges[:, node])
        to_parents = np.bitwise_or.reduce(lengths[parents], axis=0)
        lengths[node] |= to_parents << one
        lengths[node, :, 1:] |= to_parents[:, :-1] >> last
    counts = np.bitwise_count(lengths).sum(axis=2, dtype=np.int64).T
    return counts - np.eye(n_nodes, dtype=np.int64)


def _count_by_powers(edges):
    """The same by powers of the matrix of edges, which for few nodes is quicker."""
    counts = np.zeros(edges.shape, dtype=np.int64)
    edges = edges.astype(np.float64)
    paths = edges
    while paths.any():
        counts += paths > 0
        paths = np.minimum(paths @ edges, 1.0)
    return counts


def _check_data(X, adjacency, sample_weight):
    """Covariance with divisor n, and the graph if there is one."""
    moments = GramAccumulator().update(X, sample_weight=sample_weight)
    if moments.n_samples < 2:
        raise ValueError(
            f"X must have at least two rows, counted with sample_weight, got {moments.n_samples:g}."
        )
    if adjacency is not None:
        adjacency = check_dag(adjacency, "adjacency")
        if len(adjacency) != moments.n_features:
            raise ValueError(
                f"adjacency must have shape ({moments.n_features}, {moments.n_features}), a row "
                f"and a column for each column of X, got {adjacency.shape}."
            )
    return moments.xx / moments.n_samples, adjacency


def _in_words(report):
    sentences = []
    if np.isnan(report.variance_ratio):
        sentences.append("All columns are constant.")
    elif report.standardised:
        sentences.append(
            "All columns have the same variance, as after standardising: scales say nothing about "
            "the graph, and a criterion that compares variances has lost what it rests on."
        )
    else:
        sentences.append(
            f"Variances differ by a factor of up to {report.variance_ratio:.3g}. A criterion that "
            "compares variances takes all columns to be in one common unit; in units of their own "
            "the order by variance, and a graph that follows it, mean nothing."
        )
    if report.var_sortability is None:
        sentences.append(
            "Without a graph, it cannot be said whether variances increase along its paths."
        )
    elif np.isnan(report.var_sortability):
        sentences.append("The graph has no edges, along which anything could increase.")
    else:
        sentences.append(
            f"Along {report.var_sortability:.0%} of the graph's paths the variance increases, "
            f"along {report.r2_sortability:.0%} the explained share; 50% is no signal."
        )
        by_variance, by_r2 = report.var_sortability > _HIGH, report.r2_sortability > _HIGH
        if by_variance or by_r2:
            criterion = " and ".join(
                name
                for name, high in (("variance", by_variance), ("explained share", by_r2))
                if high
            )
            sentences.append(f"Sorting the columns by {criterion} alone nearly gives its order.")
    return " ".join(sentences)
