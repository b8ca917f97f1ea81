"""Regression estimators with sparse coefficients."""

from sparsestat.linear_model._cv import ElasticNetCV, LassoCV
from sparsestat.linear_model._elastic_net import ElasticNet, Lasso
from sparsestat.linear_model._multitask import MultiTaskLasso
from sparsestat.linear_model._path import lasso_path
from sparsestat.linear_model._plot import CVDisplay, RegularizationPathDisplay
from sparsestat.linear_model._thresholded_ols import ThresholdedOLS

__all__ = [
    "CVDisplay",
    "ElasticNet",
    "ElasticNetCV",
    "Lasso",
    "LassoCV",
    "MultiTaskLasso",
    "RegularizationPathDisplay",
    "ThresholdedOLS",
    "lasso_path",
]
