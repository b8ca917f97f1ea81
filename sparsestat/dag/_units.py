"""Whether a learned graph may rest on the units of the columns.

Both criteria compare residual variances of different columns, so that they can tell the
direction of an edge from the scale of the data alone. In simulations this is a strong hint, as
variances grow along the graph; in data whose units were chosen by people it means nothing.
"""

import warnings

import numpy as np
from sklearn.utils import Bunch

from sparsestat.dag._order import variance_order
from sparsestat.dag._sortability import (
    SortabilityWarning,
    count_path_lengths,
    explained_shares,
    have_same_scale,
    sortability_of_counts,
)

HIGH = 0.9
"""Sortability by variance from which on it is suspicious."""

NEAR = 0.01
"""Relative distance of objectives from which on the order by variance is as good."""

# Fewer edges agree with any order too easily.
_MIN_EDGES = 3


def describe_units(problem, attributes, search=None):
    """Measure how far the learned graph is what the variances alone would say.

    Parameters
    ----------
    problem : SEMProblem
        What was solved.
    attributes : dict
        What was learned.
    search : OrderSearch or None, default=None
        A search on the problem, to be used again.

    Returns
    -------
    units : Bunch
        ``var_sortability``, ``r2_sortability`` (NaN without an edge), ``objective_variance``
        (the criterion at the order by variance; None where it was not computed),
        ``standardised``, and ``suspicious``, a list of reasons.
    """
    nodes = problem.nodes
    S = problem.varying_covariance
    variances = S.diagonal()
    adjacency = attributes["adjacency_"][np.ix_(nodes, nodes)]
    path_lengths = count_path_lengths(adjacency)
    units = Bunch(
        var_sortability=sortability_of_counts(variances, path_lengths),
        r2_sortability=sortability_of_counts(_explained_shares(S, search), path_lengths),
        objective_variance=None,
        standardised=have_same_scale(variances),
        suspicious=[],
    )
    scale_free = problem.model.criterion == "bic" and problem.model.variance == "unequal"
    if scale_free or len(nodes) < 2:
        return units
    if units.standardised:
        units.suspicious.append("all columns have the same variance, as after standardising")
    if np.count_nonzero(adjacency) < _MIN_EDGES:
        return units
    if units.var_sortability > HIGH:
        units.suspicious.append(
            f"variances increase along {units.var_sortability:.0%} of the learned paths"
        )
    if problem.model.solver == "order":
        search = problem.search() if search is None else search
        search.reset()
        search.set_order(variance_order(S, search.precedes))
        search.settle()
        units.objective_variance = search.objective()
        gap = units.objective_variance - attributes["objective_"]
        if gap <= NEAR * abs(attributes["objective_"]):
            units.suspicious.append(
                "the order by variance alone comes within one percent of the objective"
            )
    return units


def _explained_shares(S, search):
    """R^2 of each column given all others, from the inverse that a search may have at hand."""
    if search is None or not np.all(np.isfinite(search.problem.precision)):
        return explained_shares(S)
    return 1.0 - 1.0 / (S.diagonal() * search.problem.precision.diagonal())


def warn_about_units(units, stacklevel=2):
    """Say so if the graph may rest on the units of the columns."""
    if units.suspicious:
        warnings.warn(
            "The result may rest on the units of the columns: "
            f"{'; '.join(units.suspicious)}. The criterion is meant for columns in one common "
            "unit; check the graph by rescaling columns.",
            SortabilityWarning,
            stacklevel=stacklevel,
        )
