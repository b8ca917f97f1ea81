"""Regression estimators with sparse coefficients."""

from sparsestat.linear_model._elastic_net import ElasticNet, Lasso
from sparsestat.linear_model._path import lasso_path

__all__ = ["ElasticNet", "Lasso", "lasso_path"]
