"""What is penalised: values, proximal operators, subdifferentials; no estimators."""

from sparsestat.penalties._base import BasePenalty
from sparsestat.penalties._group import GroupL2, RowGroupL2
from sparsestat.penalties._separable import L1, ElasticNet

__all__ = ["L1", "BasePenalty", "ElasticNet", "GroupL2", "RowGroupL2"]
