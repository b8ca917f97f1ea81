"""Generators (``make_*``) and loaders (``load_*``) of data sets."""

from sparsestat.datasets._bridge import make_schrodinger_bridge
from sparsestat.datasets._flights import load_flights
from sparsestat.datasets._ill_conditioned import make_ill_conditioned_regression
from sparsestat.datasets._regression import make_sparse_regression
from sparsestat.datasets._sachs import load_sachs
from sparsestat.datasets._sem import make_sem

__all__ = [
    "load_flights",
    "load_sachs",
    "make_ill_conditioned_regression",
    "make_schrodinger_bridge",
    "make_sem",
    "make_sparse_regression",
]
