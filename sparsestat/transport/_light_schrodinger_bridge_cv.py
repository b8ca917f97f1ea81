"""Light Schroedinger bridge whose number of components is chosen by held-out loss."""

from numbers import Integral

import numpy as np
from sklearn.model_selection import KFold, check_cv

from sparsestat.transport._bridge_model import BridgeModel, check_samples, shares_of
from sparsestat.transport._light_bridge import bridge_loss
from sparsestat.transport._light_schrodinger_bridge import (
    LightSchrodingerBridge,
    bridge_attributes,
    fit_samples,
    keep_fit,
    warn_unless_converged,
)
from sparsestat.utils._callbacks import FitTicker
from sparsestat.utils._random import as_generator
from sparsestat.utils._sklearn import Interval, _fit_context, with_callbacks
from sparsestat.utils._threads import run_in_threads, single_threaded_blas


class LightSchrodingerBridgeCV(BridgeModel):
    """Light Schroedinger bridge with the number of components chosen by cross-validation.

    X and the target are not paired, so each of them is split on its own: a bridge is fitted to
    the training rows of both, and its loss computed on the rows left out of both.

    Parameters
    ----------
    n_components : int or array-like of int of shape (n_candidates,), default=(1, 2, 5, 10)
        Numbers of components to choose from.
    cv : int, cross-validation generator, iterable or None, default=None
        Splits of X; None is 5 folds of consecutive rows. The target is shuffled and split into
        as many folds.
    n_jobs : int or None, default=None
        Number of threads that share the fits.
    target, n_target, epsilon, covariance_type : see LightSchrodingerBridge
        What is fitted.
    solver, max_iter, tol, reg_covar, init, n_init : see LightSchrodingerBridge
        How it is fitted.
    batch_size, validation_fraction, random_state : see LightSchrodingerBridge
        Details of the solvers.

    Attributes
    ----------
    n_components_ : int
        The number chosen.
    candidates_ : ndarray of int of shape (n_candidates,)
        The numbers to choose from, ascending.
    cv_scores_ : ndarray of shape (n_candidates, n_folds)
        Negative loss on the rows left out.
    weights_, log_weights_, locations_, scales_, covariances_, mixture_ : see \
LightSchrodingerBridge
        The bridge with `n_components_` components, fitted to all rows.
    target_, loss_, objective_, loss_curve_, validation_loss_curve_ : see LightSchrodingerBridge
        What it was fitted to, and how well.
    n_iter_, converged_ : see LightSchrodingerBridge
        How its fit ended.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if X had any.

    See Also
    --------
    LightSchrodingerBridge : With a given number of components.

    Notes
    -----
    The scores of a fold share the noise of its two samples, so that differences of candidates
    within folds mean more than the spread of scores over folds suggests. Losses for different
    epsilon are not comparable, which is why epsilon is not searched.

    NumPy arrays and DataFrames are taken, and arrays on a device together with a target on the
    device. Callbacks tick once for every pair of a fold and a candidate, and once for the last
    fit.

    Examples
    --------
    >>> from sparsestat.datasets import make_schrodinger_bridge
    >>> from sparsestat.transport import LightSchrodingerBridgeCV
    >>> data = make_schrodinger_bridge(500, 2, n_components=3, epsilon=1.0, random_state=0)
    >>> search = LightSchrodingerBridgeCV(
    ...     [1, 2, 3, 6], cv=3, target=data.target, epsilon=1.0, random_state=0
    ... ).fit(data.X)
    >>> search.n_components_, search.cv_scores_.shape
    (3, (4, 3))
    """

    _parameter_constraints: dict = {
        **{
            name: valid
            for name, valid in LightSchrodingerBridge._parameter_constraints.items()
            if name not in ("n_components", "warm_start")
        },
        "n_components": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "cv": ["cv_object"],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        n_components=(1, 2, 5, 10),
        *,
        cv=None,
        n_jobs=None,
        target=None,
        n_target=1000,
        epsilon=0.1,
        covariance_type="diag",
        solver="lbfgs",
        max_iter=500,
        tol=1e-7,
        reg_covar=1e-6,
        init="kmeans",
        n_init=1,
        batch_size=None,
        validation_fraction=0.0,
        random_state=None,
    ):
        self.n_components = n_components
        self.cv = cv
        self.n_jobs = n_jobs
        self.target = target
        self.n_target = n_target
        self.epsilon = epsilon
        self.covariance_type = covariance_type
        self.solver = solver
        self.max_iter = max_iter
        self.tol = tol
        self.reg_covar = reg_covar
        self.init = init
        self.n_init = n_init
        self.batch_size = batch_size
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Choose the number of components, and fit the bridge with it to all rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The sample of starting points.
        y : Ignored
            For pipelines.
        sample_weight : array-like of shape (n_samples,), float or None, default=None
            How often each row of X occurs; counts in the scores of the folds, too.

        Returns
        -------
        self : LightSchrodingerBridgeCV
            The fitted estimator.

        Raises
        ------
        ValueError
            For data that are not finite or of the wrong shape, for numbers of components that are
            not positive or exceed the training rows of the target, and for weights that leave
            a fold without any on one side.

        Warns
        -----
        ConvergenceWarning
            If the last fit has not converged.
        """
        given = X, y, sample_weight
        candidates = _check_candidates(self.n_components)
        rng = as_generator(self.random_state)
        X, weights, target, xp = check_samples(self, X, sample_weight, rng)
        folds = self._folds(X.shape[0], target.shape[0], rng)
        own = self.get_params(deep=False)
        shared = {name: own[name] for name in LightSchrodingerBridge().get_params() if name in own}
        model = LightSchrodingerBridge(**shared)
        # Drawn before the threads start, which must not share a generator; candidates of a fold
        # have a seed in common.
        seeds = rng.integers(2**63, size=len(folds) + 1).tolist()
        jobs = [(K, fold, seed) for fold, seed in zip(folds, seeds) for K in candidates]
        context = self._init_callback_context(max_subtasks=None, sequential_subtasks=False)
        with FitTicker(self, context, *given) as ticker:

            def run(numbered):
                number, (n_components, fold, seed) = numbered
                parts = [_rows_of(X, weights, rows, xp) for rows in fold[:2]]
                (train, train_weights), (test, test_weights) = parts
                goal, goal_out = (_rows_of(target, None, rows, xp)[0] for rows in fold[2:])
                found = fit_samples(
                    model, train, train_weights, goal, np.random.default_rng(seed), xp,
                    n_components=n_components,
                )  # fmt: skip
                attributes = bridge_attributes(found, goal, xp)
                shares = shares_of(test, test_weights, xp), shares_of(goal_out, None, xp)
                score = -bridge_loss(attributes["mixture_"], test, goal_out, *shares)
                ticker.tick("fold", lambda: attributes, task_id=number)
                return score

            scores = np.array(run_in_threads(run, enumerate(jobs), self.n_jobs))
            scores = scores.reshape(len(folds), len(candidates)).T
            best = int(candidates[np.argmax(scores.mean(axis=1))])
            with single_threaded_blas():
                found = fit_samples(
                    model, X, weights, target, np.random.default_rng(seeds[-1]), xp,
                    n_components=best,
                )  # fmt: skip
            ticker.tick("refit", lambda: bridge_attributes(found, target, xp), task_id=len(jobs))
        keep_fit(self, found, target, xp)
        self.n_components_, self.candidates_, self.cv_scores_ = best, candidates, scores
        warn_unless_converged(self, found, stacklevel=5)
        return self

    def _folds(self, n_source, n_target, rng):
        """Training and test rows of X and of the target, for every fold."""
        splits = list(check_cv(self.cv).split(np.zeros((n_source, 1))))
        if len(splits) < 2:
            raise ValueError(f"cv must give at least 2 folds, got {len(splits)}.")
        if n_target < len(splits):
            raise ValueError(
                f"target must have a row for each of the {len(splits)} folds, got {n_target}."
            )
        shuffled = KFold(len(splits), shuffle=True, random_state=int(rng.integers(2**31)))
        goals = shuffled.split(np.zeros((n_target, 1)))
        return [(*split, *goal) for split, goal in zip(splits, goals)]


def _rows_of(Z, weights, rows, xp):
    """Some rows of a sample, where it lives, and their weights."""
    weights = None if weights is None else weights[rows]
    if weights is not None and not np.any(weights):
        raise ValueError("sample_weight must not be zero for all rows on one side of a fold.")
    return xp.take(Z, xp.asarray(rows, device=Z.device), axis=0), weights


def _check_candidates(n_components):
    candidates = np.unique(np.atleast_1d(np.asarray(n_components)))
    valid = candidates.ndim == 1 and candidates.size and candidates.dtype.kind in "iu"
    if not valid or candidates[0] < 1 or np.ndim(n_components) > 1:
        raise ValueError(
            f"n_components must be a positive integer or a list of them, got {n_components!r}."
        )
    return candidates
