"""Regression estimators with sparse coefficients."""

__all__ = []
