"""Generators (``make_*``) and loaders (``load_*``) of data sets."""

from sparsestat.datasets._sachs import load_sachs
from sparsestat.datasets._sem import make_sem

__all__ = ["load_sachs", "make_sem"]
