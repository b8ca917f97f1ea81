"""What is penalised: values, proximal operators, subdifferentials; no estimators."""

from ._base import BasePenalty
from ._group import RowGroupL2
from ._separable import L1, ElasticNet

__all__ = ["L1", "BasePenalty", "ElasticNet", "RowGroupL2"]
