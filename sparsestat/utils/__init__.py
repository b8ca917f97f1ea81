"""What every estimator needs: statistics of data in pieces, and a way to find the estimators."""

from sparsestat.utils._moments import GramAccumulator

__all__ = ["GramAccumulator"]
