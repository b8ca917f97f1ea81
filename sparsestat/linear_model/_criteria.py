"""Information criteria along a path, and the effective number of parameters."""

import numpy as np
from scipy import linalg

CRITERIA = ("aic", "bic", "ebic")


def fit_statistics(problem, points, l1_ratio, factors, criterion):
    """Values of an information criterion at every point of a path.

    Parameters
    ----------
    problem : Problem
        The data behind the path.
    points : list of PathPoint
        The path.
    l1_ratio : float
        Share of the l1 penalty.
    factors : ndarray of shape (n_features,)
        Relative penalties.
    criterion : {"aic", "bic", "ebic"}
        Which one.

    Returns
    -------
    values : ndarray of shape (n_alphas,)
        Infinite where more than half as many coefficients as rows are nonzero though
        features are no fewer than rows.
    """
    n, p = problem.total_weight, problem.n_features
    residuals = [residual_sum_of_squares(problem, point) for point in points]
    sizes = [degrees_of_freedom(problem, point, l1_ratio, factors) for point in points]
    return criterion_of_squares(residuals, sizes, n, p, problem.design.yy, criterion)


def criterion_of_squares(residuals, sizes, n, p, yy, criterion):
    """An information criterion of least squares, for several fits to the same data.

    Parameters
    ----------
    residuals : array-like of shape (n_fits,)
        Weighted residual sums of squares.
    sizes : array-like of shape (n_fits,)
        Effective numbers of parameters.
    n : float
        Sum of the weights.
    p : int
        Number of features.
    yy : float
        Weighted sum of squares of the response around its mean.
    criterion : {"aic", "bic", "ebic"}
        Which one.

    Returns
    -------
    values : ndarray of shape (n_fits,)
        Infinite where more than half as many parameters as rows are used though features are
        no fewer than rows.
    """
    sizes = np.asarray(sizes, dtype=np.float64)
    # A fit that explains everything must not make the criterion infinitely good.
    floor = max(np.finfo(np.float64).eps * yy, np.finfo(np.float64).tiny)
    values = n * np.log(np.maximum(residuals, floor) / n)
    values += price_of_parameter(criterion, n, p) * sizes
    if p >= n:
        values[sizes > max(n / 2, 1)] = np.inf
    return values


def price_of_parameter(criterion, n, p):
    """What an information criterion adds to the deviance for each parameter."""
    return {"aic": 2.0, "bic": np.log(n), "ebic": np.log(n) + 2 * np.log(p)}[criterion]


def residual_sum_of_squares(problem, point):
    """Weighted sum of squared residuals of one point."""
    design = problem.design
    # What the solver copied of its last working set belongs to other coefficients.
    design.release()
    design.set_coefficients(point.features, point.values, point.features.size)
    return design.squares()[0]


def degrees_of_freedom(problem, point, l1_ratio, factors):
    """Trace of the map from response to fit, on the support's smooth piece."""
    if l1_ratio == 1.0 or point.features.size == 0:
        return float(point.features.size)
    gram = problem.design.gram_block(point.features, 0, point.features)
    gram = 0.5 * (gram + gram.T)
    ridge = problem.total_weight * point.alpha * (1.0 - l1_ratio) * factors[point.features]
    return float(np.trace(linalg.lstsq(gram + np.diag(ridge), gram)[0]))
