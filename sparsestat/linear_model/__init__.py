"""Regression and classification estimators with sparse coefficients."""

from sparsestat.linear_model._adaptive import adaptive_lasso_path
from sparsestat.linear_model._adaptive_lasso import AdaptiveLasso
from sparsestat.linear_model._adaptive_lasso_cv import AdaptiveLassoCV
from sparsestat.linear_model._bcd_regressor import BCDHistory, BCDRegressor
from sparsestat.linear_model._cv import ElasticNetCV, LassoCV
from sparsestat.linear_model._elastic_net import ElasticNet, Lasso
from sparsestat.linear_model._group_lasso import GroupLasso
from sparsestat.linear_model._group_lasso_cv import GroupLassoCV
from sparsestat.linear_model._group_path import group_lasso_path
from sparsestat.linear_model._logistic_path import logistic_path
from sparsestat.linear_model._multitask import MultiTaskLasso
from sparsestat.linear_model._path import lasso_path
from sparsestat.linear_model._plot import CVDisplay, RegularizationPathDisplay
from sparsestat.linear_model._plot_bcd import BlockDescentDisplay
from sparsestat.linear_model._plot_probes import ProbesDisplay
from sparsestat.linear_model._random_support import random_support_weights
from sparsestat.linear_model._random_support_regressor import RandomSupportRegressor
from sparsestat.linear_model._sparse_logistic import SparseLogisticRegression
from sparsestat.linear_model._sparse_logistic_cv import SparseLogisticRegressionCV
from sparsestat.linear_model._thresholded_ols import ThresholdedOLS

__all__ = [
    "AdaptiveLasso",
    "AdaptiveLassoCV",
    "BCDHistory",
    "BCDRegressor",
    "BlockDescentDisplay",
    "CVDisplay",
    "ElasticNet",
    "ElasticNetCV",
    "GroupLasso",
    "GroupLassoCV",
    "Lasso",
    "LassoCV",
    "MultiTaskLasso",
    "ProbesDisplay",
    "RandomSupportRegressor",
    "RegularizationPathDisplay",
    "SparseLogisticRegression",
    "SparseLogisticRegressionCV",
    "ThresholdedOLS",
    "adaptive_lasso_path",
    "group_lasso_path",
    "lasso_path",
    "logistic_path",
    "random_support_weights",
]
