"""Linear structural equation models on directed acyclic graphs: learning, effects, algebra."""

from sparsestat.dag._bootstrap import bootstrap_edges, stability_selection
from sparsestat.dag._central_path_many import colide_central_path
from sparsestat.dag._colide import CoLiDE
from sparsestat.dag._covariance_algebra import (
    OneConnection,
    is_simple_mixed_graph,
    one_connections,
    sem_covariance,
    sem_covariance_one_connection,
)
from sparsestat.dag._cv import CoLiDECV
from sparsestat.dag._graph import cpdag
from sparsestat.dag._metrics import (
    cpdag_hamming_distance,
    dag_metrics,
    structural_hamming_distance,
    structural_intervention_distance,
)
from sparsestat.dag._path import colide_path
from sparsestat.dag._plot import DAGDisplay
from sparsestat.dag._sortability import (
    SortabilityWarning,
    r2_sortability,
    sortability_report,
    var_sortability,
)
from sparsestat.dag._vanishing_ideal import (
    CovariancePolynomial,
    generic_rank,
    vanishing_polynomials,
)

__all__ = [
    "CoLiDE",
    "CoLiDECV",
    "CovariancePolynomial",
    "DAGDisplay",
    "OneConnection",
    "SortabilityWarning",
    "bootstrap_edges",
    "colide_central_path",
    "colide_path",
    "cpdag",
    "cpdag_hamming_distance",
    "dag_metrics",
    "generic_rank",
    "is_simple_mixed_graph",
    "one_connections",
    "r2_sortability",
    "sem_covariance",
    "sem_covariance_one_connection",
    "sortability_report",
    "stability_selection",
    "structural_hamming_distance",
    "structural_intervention_distance",
    "vanishing_polynomials",
    "var_sortability",
]
