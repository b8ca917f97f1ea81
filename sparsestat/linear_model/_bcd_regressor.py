"""Sparse linear models by block coordinate descent, with every choice in the user's hands."""

from dataclasses import dataclass, field
from numbers import Integral, Real
from types import SimpleNamespace

import numpy as np
from scipy import sparse
from sklearn.utils.validation import validate_data

from sparsestat.linear_model._base import SparseLinearModel
from sparsestat.linear_model._data import canonical_csc, centre_full_columns, make_problem
from sparsestat.linear_model._logistic_path import make_logistic_problem
from sparsestat.linear_model._path import warn_unless_converged
from sparsestat.solvers._partitions import PARTITIONS, RULES, UPDATES
from sparsestat.utils._callbacks import FitTicker
from sparsestat.utils._random import as_generator
from sparsestat.utils._sklearn import Interval, StrOptions, _fit_context, with_callbacks
from sparsestat.utils._threads import single_threaded_blas
from sparsestat.utils._validation import (
    check_frequency_weights,
    check_penalty_factor,
    check_positive_mask,
)


@dataclass(frozen=True)
class BCDHistory:
    """What happened in each iteration of block coordinate descent.

    Parameters
    ----------
    objective : ndarray of shape (n_iter + 1,)
        The objective at the start and after each iteration.
    support_size : ndarray of int of shape (n_iter + 1,)
        Numbers of nonzero coefficients, likewise.
    work : ndarray of shape (n_iter + 1,)
        Multiplications until then, about.
    blocks : ndarray of int of shape (n_iter, largest_block)
        The coefficients of the block of each iteration; smaller blocks end with -1.
    gap_iterations : ndarray of int of shape (n_gaps,)
        Iterations after which the duality gap was computed.
    gaps : ndarray of shape (n_gaps,)
        These gaps, in the units of the objective.
    """

    objective: np.ndarray = field(repr=False)
    support_size: np.ndarray = field(repr=False)
    work: np.ndarray = field(repr=False)
    blocks: np.ndarray = field(repr=False)
    gap_iterations: np.ndarray = field(repr=False)
    gaps: np.ndarray = field(repr=False)

    def __repr__(self):
        return (
            f"BCDHistory({self.objective.size - 1} iterations, objective "
            f"{self.objective[0]:.3g} to {self.objective[-1]:.3g}, gap {self.gaps[-1]:.1g})"
        )


class BCDRegressor(SparseLinearModel):
    """Sparse linear or logistic model by block coordinate descent.

    Minimises, with weights w_i (ones unless given) of sum W and penalty factors s_j::

        1 / W sum_i w_i loss(y_i, x_i'b + b0) + alpha * sum_j s_j |b_j|

    where the loss is half of the squared residual, or the logistic loss of a response with
    two values. Every iteration changes one block of coefficients. Which coefficients form a
    block, which block is next and how it changes are parameters: this estimator is made for
    studying them. :class:`Lasso` and :class:`SparseLogisticRegression` solve the same problems
    and are what to use if only the solution matters.

    Parameters
    ----------
    alpha : float, default=1.0
        Strength of the penalty. Zero, for a loss alone, is allowed with the updates
        ``"lb"`` and ``"hb"``, and with the others for coefficients that must not be negative.
    partition : {"variable", "order", "sort", "average", "sort_rows", "average_rows"}, \
            default="variable"
        Whether a block consists of any coefficients, or which blocks are fixed: neighbours,
        coefficients of similar curvature, or pairs of large and small curvature. The last
        two sort by the sums of absolute values in the rows of the Hessian (of the bound on
        it, for the logistic loss) instead of by its diagonal, for the price of ``X'X``.
    rule : {"gsq", "gsd", "gsl", "gs", "random", "cyclic", "perm", "lipschitz"}, default="gsq"
        How the next block is chosen. ``"random"`` with equal chances, ``"lipschitz"`` with
        chances proportional to the largest curvature of a block, ``"cyclic"`` in turns and
        ``"perm"`` in turns whose order is drawn anew each time. The others are greedy: they take
        the block with the largest gradient (``"gs"``), or the one that promises the largest
        decrease if the Hessian of a block is replaced by its largest eigenvalue (``"gsl"``), by
        a diagonal matrix above it (``"gsd"``) or by its diagonal (``"gsq"``). For fixed blocks
        without penalty and signs, ``"gsq"`` takes the Hessian itself. Variable blocks know
        ``"gs"``, ``"gsd"``, ``"gsq"`` and ``"random"``.
    update : {"tmp", "pn", "pg", "hb", "lb"}, default="tmp"
        How a block changes. ``"lb"`` takes a gradient step and ``"hb"`` a matrix step, which for
        the squared loss minimises over the block; both without penalty and signs. With them,
        ``"pg"`` takes a proximal gradient step, ``"pn"`` minimises the quadratic model of the
        loss with the penalty over the block, and ``"tmp"`` takes a projected Newton step for
        the coefficients that may move and a gradient step for those held at zero.
    block_size : int or "auto", default="auto"
        Coefficients of a block. "auto" stands for 50, and for variable blocks for 20 more than
        1.2 times the number of nonzero coefficients if that is more, but always for less than
        the number of rows, beyond which columns depend on each other. Where the number of
        features is no multiple, one fixed block is smaller.
    loss : {"squared", "logistic"}, default="squared"
        The loss. With ``"logistic"`` y must have two values, and the model is that the larger
        one has log-odds ``x'b + b0``; these are what :meth:`predict` returns then, and
        :meth:`score` refuses them.
    positive : bool or array-like of bool of shape (n_features,), default=False
        Whether (which) coefficients must not be negative.
    fit_intercept : bool, default=True
        Whether to fit the unpenalised intercept b0.
    penalty_factor : array-like of shape (n_features,), default=None
        Factors s_j; zero leaves a feature unpenalised. None stands for ones.
    tol : float, default=1e-6
        Largest duality gap relative to the objective of zero coefficients and the best
        intercept.
    max_iter : int, default=10000
        Largest number of iterations, each of which changes one block.
    warm_start : bool, default=False
        Whether to start from the coefficients of the previous fit.
    track : bool, default=False
        Whether to keep ``history_``, which costs the computation of the objective in every
        iteration.
    random_state : int, RandomState instance, Generator or None, default=None
        Source of the random blocks of ``"random"``, ``"perm"`` and ``"lipschitz"``.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
        Coefficients b.
    intercept_ : float
        Intercept b0, zero without one.
    sparse_coef_ : CSR array of shape (1, n_features)
        The coefficients without their zeros.
    support_ : ndarray of bool of shape (n_features,)
        Which coefficients are not zero.
    objective_ : float
        Value of the objective.
    dual_gap_ : float
        Upper bound on its distance from the minimum, over all features. With unpenalised
        features, as with ``alpha=0``, it rests on an assumption about their size, which the
        user guide explains.
    converged_ : bool
        Whether the gap is within the tolerance.
    n_iter_ : int
        Number of iterations; one even if the start is optimal and nothing changes.
    identified_at_ : int
        The iteration after which the support did not change any more; zero if it never did.
    history_ : BCDHistory
        Objective, support size, work and block of every iteration, and the duality gaps; only
        with ``track=True``.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if X had any.

    See Also
    --------
    Lasso : The same problem with a solver made for speed.
    SparseLogisticRegression : The same for classes, with probabilities.
    BlockDescentDisplay : Plots the objective.

    Notes
    -----
    The residual is kept up to date, and for greedy rules the gradient: an iteration costs about
    as much as the columns of its block, or their inner products with all columns, of which those
    that were computed are kept as long as they are not too many. Fixed blocks need memory for
    ``2 * n_features * block_size`` numbers.

    Blocks as large as the support, chosen greedily, with ``update="tmp"`` or ``"pn"`` end after
    finitely many iterations when the loss is squared, up to rounding.

    NumPy arrays, DataFrames and sparse matrices are taken; device arrays are not.

    References
    ----------
    J. Nutini, I. Laradji and M. Schmidt (2022). Let's make block coordinate descent converge
    faster: faster greedy rules, message-passing, active-set complexity, and superlinear
    convergence. *Journal of Machine Learning Research* 23(131), 1-74.

    D. P. Bertsekas (1982). Projected Newton methods for optimization problems with simple
    constraints. *SIAM Journal on Control and Optimization* 20(2), 221-246.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sparsestat.linear_model import BCDRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = BCDRegressor(alpha=0.5, track=True).fit(X, y)
    >>> model.converged_, int(model.support_.sum())
    (True, 4)
    >>> bool((model.history_.objective[1:] <= model.history_.objective[:-1]).all())
    True
    """

    _parameter_constraints: dict = {
        "alpha": [Interval(Real, 0, None, closed="left")],
        "partition": [StrOptions(set(PARTITIONS))],
        "rule": [StrOptions(set(RULES))],
        "update": [StrOptions(set(UPDATES))],
        "block_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "loss": [StrOptions({"squared", "logistic"})],
        "positive": ["boolean", "array-like"],
        "fit_intercept": ["boolean"],
        "penalty_factor": ["array-like", None],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "warm_start": ["boolean"],
        "track": ["boolean"],
        "random_state": ["random_state", np.random.Generator],
    }

    def __init__(
        self,
        alpha=1.0,
        *,
        partition="variable",
        rule="gsq",
        update="tmp",
        block_size="auto",
        loss="squared",
        positive=False,
        fit_intercept=True,
        penalty_factor=None,
        tol=1e-6,
        max_iter=10000,
        warm_start=False,
        track=False,
        random_state=None,
    ):
        self.alpha = alpha
        self.partition = partition
        self.rule = rule
        self.update = update
        self.block_size = block_size
        self.loss = loss
        self.positive = positive
        self.fit_intercept = fit_intercept
        self.penalty_factor = penalty_factor
        self.tol = tol
        self.max_iter = max_iter
        self.warm_start = warm_start
        self.track = track
        self.random_state = random_state

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Fit the model.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The design. A sparse X is neither densified nor centred explicitly.
        y : array-like of shape (n_samples,)
            The response; for the logistic loss, of two values.
        sample_weight : array-like of shape (n_samples,), float or None, default=None
            How often each row occurs: weight 2 is the row twice.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            For data that are not finite or of the wrong shape, for factors or weights that are
            negative or all zero, for a logistic response without exactly two values, and for
            rules and updates that do not fit the partition and the penalty.

        Warns
        -----
        ConvergenceWarning
            If the duality gap exceeds the tolerance.
        """
        given = X, y, sample_weight
        start = getattr(self, "coef_", None) if self.warm_start else None
        X, y = validate_data(
            self, X, y, accept_sparse="csc", dtype=[np.float64, np.float32], y_numeric=True
        )
        weights = check_frequency_weights(sample_weight, X)
        factors = check_penalty_factor(self.penalty_factor, X.shape[1])
        positive = check_positive_mask(self.positive, X.shape[1])
        if start is not None and start.shape != (X.shape[1],):
            start = None
        dtype = X.dtype
        if sparse.issparse(X):
            X = canonical_csc(X)
        build = self._squared if self.loss == "squared" else self._logistic
        with single_threaded_blas():
            solver, total, intercept = build(X, y, weights, factors, positive, start)

            def attributes(coef):
                rounded = coef.astype(dtype)
                return {
                    "coef_": rounded,
                    "intercept_": intercept(rounded.astype(np.float64)),
                    "support_": coef != 0.0,
                }

            context = self._init_callback_context(max_subtasks=None)
            with FitTicker(self, context, *given) as ticker:
                self._solve(solver, total, attributes, ticker)
        return self

    def score(self, X, y, sample_weight=None):
        """Coefficient of determination, for the squared loss.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The design.
        y : array-like of shape (n_samples,)
            The response.
        sample_weight : array-like of shape (n_samples,) or None, default=None
            How often each row occurs.

        Returns
        -------
        score : float
            R^2 of ``predict(X)``.

        Raises
        ------
        ValueError
            For the logistic loss, whose predictions are logarithms of odds.
        """
        if self.loss == "logistic":
            raise ValueError(
                "score compares predictions with y, but with loss='logistic' predictions are "
                "logarithms of odds. Use SparseLogisticRegression, which is a classifier."
            )
        return super().score(X, y, sample_weight)

    def _squared(self, X, y, weights, factors, positive, start):
        """The solver, the sum of the weights, and what gives the intercept of coefficients."""
        problem = make_problem(
            X,
            np.asarray(y, dtype=np.float64),
            weights,
            fit_intercept=self.fit_intercept,
            gram_limit=0,
        )
        design = problem.design
        options = {}
        columns = getattr(design, "X", None)
        if columns is None:
            columns = sparse.csc_array((design.data, design.indices, design.indptr), shape=X.shape)
            columns, offsets = centre_full_columns(columns, design.offsets, design.roots)
            options = {"offsets": offsets, "roots": design.roots}
        solver = self._descent(
            columns, design.y, problem.total_weight, factors, positive, start, **options
        )
        return solver, problem.total_weight, problem.intercept

    def _logistic(self, X, y, weights, factors, positive, start):
        """The same for the logistic loss."""
        values = np.unique(y if weights is None else np.asarray(y)[weights > 0])
        if values.size != 2:
            raise ValueError(
                "loss='logistic' needs a response y with exactly two values, such as 0 and 1, "
                f"got {values.size} in the rows of positive weight."
            )
        problem = make_logistic_problem(
            X, (y == values[1]).astype(np.int64), 2, weights, fit_intercept=self.fit_intercept
        )
        total = float(problem.weights.sum())
        columns, x_mean = problem.columns, problem.x_mean
        if sparse.issparse(columns) and self.fit_intercept:
            means = np.asarray(columns.T @ problem.weights).ravel() / total
            columns, left = centre_full_columns(columns, means, np.ones(columns.shape[0]))
            x_mean = means - left
        solver = self._descent(
            columns,
            np.ascontiguousarray(problem.indicators[:, 0]),
            total,
            factors,
            positive,
            start,
            weights=problem.weights,
            fit_intercept=self.fit_intercept,
        )

        def intercept(coef):
            return solver.intercept - float(x_mean @ coef)

        return solver, total, intercept

    def _descent(self, columns, y, total, factors, positive, start, **options):
        from sparsestat.solvers._block_descent import BlockDescent

        return BlockDescent(
            columns,
            y,
            self.alpha * total * factors,
            positive,
            partition=self.partition,
            rule=self.rule,
            update=self.update,
            block_size=self.block_size,
            rng=as_generator(self.random_state),
            coef=start,
            record=self.track,
            **options,
        )

    def _solve(self, solver, total, attributes, ticker):
        required = self.tol * solver.null
        first = solver.objective(), int(np.count_nonzero(solver.x)), solver.work_done

        def progress():
            return ticker.tick("iterations", lambda: attributes(solver.x.copy()))

        gap, stopped = solver.solve(required, self.max_iter, progress)
        for name, fitted in attributes(solver.x.copy()).items():
            setattr(self, name, fitted)
        self.objective_ = solver.objective() / total
        self.dual_gap_ = gap / total
        self.n_iter_ = max(solver.n_iter, 1)
        self.converged_ = bool(gap <= required)
        self.identified_at_ = solver.last_change
        if self.track:
            self.history_ = _history(solver, first, total)
        elif hasattr(self, "history_"):
            del self.history_
        point = SimpleNamespace(
            alpha=self.alpha,
            dual_gap=self.dual_gap_,
            n_iter=self.n_iter_,
            converged=self.converged_,
            stopped=stopped,
            rounding=0.0,
        )
        warn_unless_converged([point], self.tol, required / total, stacklevel=6, unit="iterations")


def _history(solver, first, total):
    """The notes of a solver in the units of the objective."""
    objective, support_size, blocks, work = solver.record()
    iterations, gaps = zip(*solver.checks, strict=True)
    return BCDHistory(
        objective=np.append(first[0], objective) / total,
        support_size=np.append(first[1], support_size),
        work=np.append(first[2], work),
        blocks=blocks,
        gap_iterations=np.array(iterations),
        gaps=np.array(gaps) / total,
    )
