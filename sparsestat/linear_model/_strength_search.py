"""The choice of a penalty strength, for every model that has a path over one grid."""

from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
from scipy import sparse

from sparsestat.linear_model._criteria import CRITERIA
from sparsestat.linear_model._folds import (
    SplitterRouter,
    mean_errors,
    summarise_folds,
    training_rows,
    within_one_standard_error,
)
from sparsestat.linear_model._path import (
    STRENGTH_CONSTRAINTS,
    strength_grid,
    warn_unless_converged,
)
from sparsestat.utils._callbacks import FitTicker
from sparsestat.utils._sklearn import StrOptions
from sparsestat.utils._threads import run_in_threads, single_threaded_blas

SEARCH_CONSTRAINTS: dict = {
    **STRENGTH_CONSTRAINTS,
    "cv": ["cv_object"],
    "criterion": [StrOptions({"cv", *CRITERIA})],
    "selection": [StrOptions({"min", "1se"})],
    "n_jobs": [Integral, None],
}


class StrengthSearch(SplitterRouter):
    """Cross-validation or a criterion over the path of an estimator.

    A class that inherits from it has the parameters of ``SEARCH_CONSTRAINTS`` and says what
    a path is:

    - ``_open_path(X, y, weights, settings)`` returns an object with ``at(alpha)``,
      ``alpha_max()`` and ``required``, the largest gap that the tolerance allows;
    - ``_row_errors(path, points, X, y)`` returns the errors of all points on some rows, as
      an array of shape (n_rows, n_points);
    - ``_criterion_values(path, points)`` returns the information criterion;
    - ``_fitted(path, point, dtype)`` returns the fitted attributes of one point;
    - ``_coefficients_of(points, X, dtype)`` returns the coefficients of all points;
    - ``_error_name`` is what its errors are called in attributes, ``_unit`` what is counted.
    """

    alphas: Any
    eps: float
    cv: Any
    criterion: str
    selection: str
    tol: float
    n_jobs: int | None
    _init_callback_context: Callable
    _open_path: Callable
    _row_errors: Callable
    _criterion_values: Callable
    _fitted: Callable
    _coefficients_of: Callable

    _error_name = "mse"
    _unit = "working sets"

    def _search(self, X, y, weights, settings, dtype, given, routed):
        """Run all paths, choose, and set the fitted attributes.

        ``given`` is what the caller of ``fit`` passed, ``settings`` are further checked
        parameters that a path needs, ``routed`` those of the splitter.
        """
        folds = self._list_folds(X, y, routed) if self.criterion == "cv" else []
        context = self._init_callback_context(max_subtasks=None, sequential_subtasks=False)
        with FitTicker(self, context, *given) as ticker:
            with single_threaded_blas():
                path = self._open_path(X, y, weights, settings)
                grid = strength_grid(path, self.alphas, self.eps)

            def run(numbered):
                number, fold = numbered
                done = self._run_path(path, X, y, weights, settings, grid, fold)
                ticker.tick(
                    "path" if fold is None else "fold",
                    lambda: self._fitted(done[0], done[1][-1], dtype),
                    task_id=number,
                )
                return done

            results = run_in_threads(run, enumerate([None, *folds]), self.n_jobs)
        (path, points, _), folded = results[0], results[1:]
        column = self._choose(path, points, grid, [errors for _, _, errors in folded])
        self.alphas_, self.alpha_ = grid, float(grid[column])
        self.coef_path_ = self._coefficients_of(points, X, dtype)
        self.dual_gaps_ = np.array([point.dual_gap for point in points])
        point = points[column]
        for name, value in self._fitted(path, point, dtype).items():
            setattr(self, name, value)
        self.objective_, self.dual_gap_ = point.objective, point.dual_gap
        self.converged_, self.n_iter_ = bool(point.converged), point.n_iter
        for path, points, _ in results:
            warn_unless_converged(points, self.tol, path.required, stacklevel=6, unit=self._unit)

    def _run_path(self, path, X, y, weights, settings, grid, fold):
        """A path on all rows or on those of one fold, and its errors on the rows left out."""
        if fold is None:
            return path, [path.at(alpha) for alpha in grid], None
        train, test = fold
        train_X, train_weights = training_rows(X, weights, train)
        path = self._open_path(train_X, y[train], train_weights, settings)
        points = [path.at(alpha) for alpha in grid]
        rows = X.tocsr() if sparse.issparse(X) else X
        errors = self._row_errors(path, points, rows[test], y[test])
        return path, points, mean_errors(errors, None if weights is None else weights[test])

    def _choose(self, path, points, grid, fold_errors):
        """Which point of the path is the best."""
        if self.criterion != "cv":
            self.criterion_path_ = self._criterion_values(path, points)
            return int(np.argmin(self.criterion_path_))
        errors = np.stack(fold_errors, axis=1)
        mean, deviation = summarise_folds(errors)
        setattr(self, f"{self._error_name}_path_", errors)
        setattr(self, f"{self._error_name}_mean_", mean)
        setattr(self, f"{self._error_name}_std_", deviation)
        within = within_one_standard_error(mean, deviation)
        self.alpha_1se_ = float(grid[within])
        return within if self.selection == "1se" else int(np.argmin(mean))
