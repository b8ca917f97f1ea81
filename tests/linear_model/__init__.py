"""Regression estimators with sparse coefficients."""
