"""Logistic regressions along a descending sequence of penalty strengths."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from sparsestat.linear_model._data import canonical_csc, centre
from sparsestat.linear_model._path import (
    PATH_CONSTRAINTS,
    PathPoint,
    coefficient_matrix,
    strength_grid,
    warn_unless_converged,
)
from sparsestat.utils._sklearn import validate_params
from sparsestat.utils._threads import single_threaded_blas
from sparsestat.utils._validation import (
    check_frequency_weights,
    check_penalty_factor,
)


@dataclass
class LogisticProblem:
    """Centred columns, indicators of the classes, and the way back to the user's units.

    Attributes
    ----------
    columns : ndarray in Fortran order or CSC array of shape (n_samples, n_features)
        The design, centred if it is dense and there is an intercept.
    x_mean : ndarray of shape (n_features,)
        Weighted means that were subtracted.
    indicators : ndarray of shape (n_samples, n_columns)
        One column for two classes, else one for each class.
    weights : ndarray of shape (n_samples,)
        Positive weights.
    fit_intercept : bool
        Whether scores contain a constant.
    """

    columns: Any
    x_mean: np.ndarray
    indicators: np.ndarray
    weights: np.ndarray
    fit_intercept: bool

    @property
    def n_features(self):
        """Number of features."""
        return self.columns.shape[1]

    @property
    def total_weight(self):
        """Sum of the weights."""
        return float(self.weights.sum())


def make_logistic_problem(X, codes, n_classes, weights, *, fit_intercept):
    """Centre the data, and leave out rows without weight.

    Parameters
    ----------
    X : ndarray or CSC array of shape (n_samples, n_features)
        Finite numbers.
    codes : ndarray of int of shape (n_samples,)
        Which class each row has.
    n_classes : int
        Number of classes, at least two.
    weights : ndarray of shape (n_samples,) or None
        Weights that are not negative.
    fit_intercept : bool
        Whether to centre.

    Returns
    -------
    LogisticProblem
    """
    weights = np.ones(X.shape[0]) if weights is None else weights
    if not np.all(weights):
        kept = np.flatnonzero(weights)
        # Sparse rows are selected in the other format.
        X = sparse.csc_array(X.tocsr()[kept]) if sparse.issparse(X) else X[kept]
        codes, weights = codes[kept], weights[kept]
    means = np.zeros(X.shape[1])
    if sparse.issparse(X):
        columns = X
    elif fit_intercept:
        columns = np.array(X, dtype=np.float64, order="F")
        means = centre(columns, weights, weights.sum())
    else:
        columns = np.asarray(X, dtype=np.float64, order="F")
    if n_classes == 2:
        indicators = (codes == 1).astype(np.float64)[:, None]
    else:
        indicators = np.eye(n_classes)[codes]
    return LogisticProblem(columns, means, indicators, weights, fit_intercept)


class LogisticPath:
    """Logistic regressions on one problem, each started from the one before.

    Parameters
    ----------
    problem : LogisticProblem
        The data.
    factors : ndarray of shape (n_features,)
        Relative penalties.
    tol : float
        Largest gap relative to the loss of the best constant probabilities.
    max_iter : int
        Largest number of Newton steps per strength.
    coef : ndarray of shape (n_columns, n_features) or None, default=None
        Where to start.
    """

    def __init__(self, problem, factors, *, tol, max_iter, coef=None):
        from sparsestat.solvers._logistic import LogisticSolver

        self.problem, self.factors = problem, factors
        self.tol, self.max_iter = tol, max_iter
        self.solver = LogisticSolver(
            problem.columns,
            problem.indicators,
            problem.weights,
            fit_intercept=problem.fit_intercept,
            coef=None if coef is None else coef.T,
        )

    @property
    def required(self):
        """Largest duality gap, in the units of the documented objective."""
        return self.tol * self.solver.null_loss / self.problem.total_weight

    def alpha_max(self):
        """Smallest strength at which all penalised coefficients are zero."""
        solver = self.solver
        largest = solver.alpha_max(self.factors, self.tol * solver.null_loss, self.max_iter)
        return largest / self.problem.total_weight

    def at(self, alpha, progress=None, *, polish=False):
        """Solve at one strength, starting from the last solution; a :class:`PathPoint`.

        With ``polish`` the digits beyond the tolerance are found as well.
        """
        solver, weight = self.solver, self.problem.total_weight
        thresholds = weight * alpha * self.factors
        tol = self.tol * solver.null_loss
        solution = solver.solve(thresholds, tol, self.max_iter, progress)
        if polish and solution.converged:
            solution = solver.polish(thresholds, solution, tol)
        coef = sparsest_shift(solver.coef, self.factors)
        features = np.flatnonzero(np.any(coef != 0.0, axis=1))
        return PathPoint(
            alpha,
            features,
            coef[features],
            solution.primal / weight,
            solution.gap / weight,
            0.0,
            solution.n_iter,
            solution.converged,
            solution.stopped,
            intercept=self.intercept(),
        )

    def objective(self, alpha):
        """Objective of the present coefficients at any strength, times the sum of weights."""
        return self.solver.objective(self.problem.total_weight * alpha * self.factors)

    def intercept(self):
        """Constants of the scores that belong to columns which are not centred."""
        solver = self.solver
        intercept = solver.intercept - self.problem.x_mean @ solver.coef
        # A constant added to the scores of all classes changes nothing.
        return intercept - intercept.mean() if intercept.size > 1 else intercept


def sparsest_shift(coef, factors):
    """One of several matrices of coefficients with the same probabilities and penalty.

    A number added to the coefficients of a feature for all classes changes no probability.
    Between the two middle ones of an even number of classes, it does not change the penalty,
    either: that one of them is made zero which more classes share. Without a penalty, the
    coefficients of a feature are made to sum to zero.
    """
    n_classes = coef.shape[1]
    if n_classes == 1:
        return coef
    coef = coef - np.where(factors == 0.0, coef.mean(axis=1), 0.0)[:, None]
    if n_classes % 2:
        return coef
    ordered = np.sort(coef, axis=1)
    low, high = ordered[:, n_classes // 2 - 1], ordered[:, n_classes // 2]
    near = 1e-9 * np.abs(coef).max(axis=1)
    shares = [np.sum(np.abs(coef - m[:, None]) <= near[:, None], axis=1) for m in (low, high)]
    shift = np.where(shares[1] > shares[0], high, low)
    movable = (factors > 0.0) & (high > low)
    shifted = coef - np.where(movable, shift, 0.0)[:, None]
    shifted[np.abs(shifted) <= near[:, None]] = 0.0
    return shifted


def encode_classes(y):
    """Classes of a target, and the class of each row as a number.

    Raises
    ------
    ValueError
        If the target is not made of classes, or of one only.
    """
    y = column_or_1d(y, warn=True)
    try:
        check_classification_targets(y)
        classes, codes = np.unique(y, return_inverse=True)
    except TypeError as error:
        kinds = sorted({type(label).__name__ for label in y})
        raise TypeError(
            f"y must hold labels of one type that can be sorted, got {', '.join(kinds)}."
        ) from error
    if classes.size < 2:
        raise ValueError(
            f"y must contain at least 2 classes, got only one class: {classes.tolist()[0]!r}."
        )
    return classes, codes


def check_class_weights(codes, classes, weights, name):
    """Refuse weights that leave fewer than two classes."""
    missing = missing_class(codes, classes, weights)
    if missing is not None:
        raise ValueError(
            f"{name} must leave every class of y some weight, got zeros only for the class "
            f"{missing!r}."
        )


def missing_class(codes, classes, weights):
    """The first class that no row of positive weight has; None if there is none."""
    present = np.unique(codes if weights is None else codes[weights > 0.0])
    missing = classes[np.setdiff1d(np.arange(classes.size), present)]
    return missing.tolist()[0] if missing.size else None


@validate_params(
    {
        **PATH_CONSTRAINTS,
        "penalty_factor": ["array-like", None],
    },
    prefer_skip_nested_validation=True,
)
def logistic_path(
    X,
    y,
    *,
    alphas=100,
    eps=1e-3,
    fit_intercept=True,
    penalty_factor=None,
    sample_weight=None,
    tol=1e-6,
    max_iter=1000,
):
    """Fit sparse logistic regressions along a descending sequence of penalty strengths.

    Minimises, with weights w_i (ones unless given) of sum W, penalty factors s_j and
    probabilities p_i that follow from the scores ``B'x_i + b0``::

        -1 / W sum_i w_i log p_i(y_i) + alpha * sum_jk s_j |B_jk|

    for every alpha, each time starting from the previous solution.

    Parameters
    ----------
    X : {array-like, sparse matrix} of shape (n_samples, n_features)
        The design. A sparse X is neither densified nor centred.
    y : array-like of shape (n_samples,)
        The classes. Two of them have one column of scores, for the larger one; more have
        one for each.
    alphas : int or array-like of shape (n_alphas,), default=100
        Number of strengths, spaced geometrically, or the strengths themselves.
    eps : float, default=1e-3
        Smallest strength of an automatic grid divided by the largest, at which all
        penalised coefficients are zero.
    fit_intercept : bool, default=True
        Whether scores contain unpenalised constants b0.
    penalty_factor : array-like of shape (n_features,), default=None
        Factors s_j; zero leaves a feature unpenalised. None stands for ones.
    sample_weight : array-like of shape (n_samples,), float or None, default=None
        How often each row occurs.
    tol : float, default=1e-6
        Largest duality gap at every alpha, relative to the loss of the best constant
        probabilities.
    max_iter : int, default=1000
        Largest number of Newton steps per alpha.

    Returns
    -------
    alphas : ndarray of shape (n_alphas,)
        The strengths, descending.
    coefs : array of shape (n_features, n_alphas) or (n_classes, n_features, n_alphas)
        The coefficients, without the first axis for two classes; then a CSC array if X
        is sparse.
    intercepts : ndarray of shape (n_alphas,) or (n_classes, n_alphas)
        The constants.
    dual_gaps : ndarray of shape (n_alphas,)
        Duality gaps, in the units of the objective, over all features.

    Raises
    ------
    ValueError
        For input that is not finite or of the wrong shape, and for a single class.

    Warns
    -----
    ConvergenceWarning
        If a gap exceeds the tolerance.

    See Also
    --------
    SparseLogisticRegression : One strength, as an estimator.
    SparseLogisticRegressionCV : The strength chosen by cross-validation or a criterion.

    Notes
    -----
    Arrays on a device (CuPy) are not taken.

    References
    ----------
    J. Friedman, T. Hastie and R. Tibshirani (2010). Regularization paths for generalized
    linear models via coordinate descent. *Journal of Statistical Software* 33(1), 1-22.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.preprocessing import scale
    >>> from sparsestat.linear_model import logistic_path
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> alphas, coefs, intercepts, gaps = logistic_path(scale(X), y, alphas=[0.1, 0.01])
    >>> (coefs != 0).sum(axis=0)
    array([4, 9])
    """
    X = check_array(X, accept_sparse="csc", dtype=[np.float64, np.float32])
    check_consistent_length(X, y)
    classes, codes = encode_classes(y)
    weights = check_frequency_weights(sample_weight, X)
    check_class_weights(codes, classes, weights, "sample_weight")
    factors = check_penalty_factor(penalty_factor, X.shape[1])
    if sparse.issparse(X):
        X = canonical_csc(X)
    with single_threaded_blas():
        problem = make_logistic_problem(
            X, codes, classes.size, weights, fit_intercept=fit_intercept
        )
        path = LogisticPath(problem, factors, tol=tol, max_iter=max_iter)
        grid = strength_grid(path, alphas, eps)
        points = [path.at(alpha) for alpha in grid]
    warn_unless_converged(points, tol, path.required, stacklevel=4, unit="Newton steps")
    intercepts = np.array([point.intercept for point in points]).T
    gaps = np.array([point.dual_gap for point in points])
    if classes.size == 2:
        intercepts = intercepts[0]
    return grid, class_coefficients(points, X), intercepts, gaps


def class_coefficients(points, X):
    """Coefficients of all points: a matrix for two classes, else one for each class."""
    n_columns = points[0].values.shape[1]
    if n_columns == 1:
        flat = [PathPoint(**{**vars(point), "values": point.values[:, 0]}) for point in points]
        return coefficient_matrix(flat, X)
    coefs = np.zeros((n_columns, X.shape[1], len(points)))
    for column, point in enumerate(points):
        coefs[:, point.features, column] = point.values.T
    return coefs
