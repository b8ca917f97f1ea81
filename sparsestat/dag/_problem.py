"""From moments and the parameters of a model to a learned graph, without any estimator state."""

from typing import Any

import numpy as np
from scipy.linalg import lstsq
from sklearn.utils import Bunch, check_random_state

from sparsestat.dag._central_path import central_path, project_to_dag
from sparsestat.dag._constraints import check_constraints
from sparsestat.dag._graph import topological_order
from sparsestat.dag._order import (
    OrderSearch,
    respect,
    search_orders,
    top_down_order,
    variance_order,
)
from sparsestat.dag._sem_algebra import implied_covariance

FULL_WINDOW = 50
"""Number of nodes up to which a node may move anywhere by default."""

WINDOW = 10
"""Reach of a move by default in larger graphs."""

_LARGEST_VARIANCE = 1e150
_LARGEST_STRENGTH = 1e76
ROUNDING = 10 * np.finfo(np.float64).eps
"""Standard deviation relative to the mean up to which a column is constant."""

_SINGULAR = 1e-11


class SEMProblem:
    """What one fit is about: a covariance, resolved parameters and constraints.

    Columns without variation are set aside: they get no edges and a noise scale of zero.

    Parameters
    ----------
    model : CoLiDE
        Its parameters; it is not changed.
    moments : GramAccumulator
        Means and scatter of the columns.
    names : ndarray of str or None
        Their names.

    Attributes
    ----------
    S : ndarray of shape (d, d)
        Covariance of all columns.
    nodes : ndarray
        Columns that vary.
    alpha : float
        Penalty strength.
    last_gain : float
        Gain of the last sweep of the last solution.
    """

    def __init__(self, model, moments, names=None):
        self.model = model
        self.moments = moments
        self.n_samples = float(moments.n_samples)
        self.n_nodes = moments.n_features
        self.mean = np.zeros(self.n_nodes)
        self.S = np.array(moments.xx, order="C") / self.n_samples
        if model.fit_intercept:
            self.mean = np.array(moments.x_mean)
        else:
            self.S += np.outer(moments.x_mean, moments.x_mean)
        if not self.S.max() <= _LARGEST_VARIANCE:
            raise ValueError(
                f"X has columns with variances above {_LARGEST_VARIANCE:g}, whose squares exceed "
                "the range of float64; rescale all columns by one factor."
            )
        self.sd = np.sqrt(np.maximum(self.S.diagonal(), 0.0))
        varies = self.sd > ROUNDING * np.abs(moments.x_mean)
        self.nodes = np.flatnonzero(varies)
        self.constant = np.flatnonzero(~varies)
        self.constraints = check_constraints(
            model.forbidden_edges, model.required_edges, model.node_tiers, self.n_nodes, names
        )
        for i, j in np.argwhere(self.constraints.required):
            if not (varies[i] and varies[j]):
                label = (i, j) if names is None else (names[i], names[j])
                raise ValueError(
                    f"required_edges contains the edge from {label[0]} to {label[1]}, "
                    "but one of the two columns is constant."
                )
        least = self.sd[self.nodes].min() if len(self.nodes) else 1.0
        self.floor = 1e-3 * least if model.sigma_min is None else float(model.sigma_min)
        self.alpha = self._resolve_alpha(model.alpha, least)
        self.last_gain = np.nan
        self.init = self._check_init(model.init)
        self.w_threshold = (
            (0.3 if model.criterion == "colide" else 0.0)
            if isinstance(model.w_threshold, str)
            else float(model.w_threshold)
        )
        self._refuse_combinations()

    def _resolve_alpha(self, alpha, least):
        if not isinstance(alpha, str):
            return float(alpha)
        if self.model.criterion == "bic":
            return 1.0
        strength = np.sqrt(np.log(max(len(self.nodes), 2)) / self.n_samples)
        return float(strength * (least if self.model.penalty_scale == "none" else 1.0))

    def _check_init(self, init):
        if isinstance(init, str):
            return init
        order = np.asarray(init)
        if order.dtype.kind == "f" and np.array_equal(order, np.round(order)):
            order = order.astype(np.int64)
        if order.shape != (self.n_nodes,) or not np.array_equal(
            np.sort(order), np.arange(self.n_nodes)
        ):
            raise ValueError(
                f"init must be 'auto', 'top-down', 'variance' or a permutation of the "
                f"{self.n_nodes} nodes, got {init!r}."
            )
        return order

    def _refuse_combinations(self):
        if self.model.solver != "central-path":
            return
        if self.model.criterion == "bic":
            raise ValueError("criterion='bic' needs solver='order', got solver='central-path'.")
        if self.constraints.required.any():
            raise ValueError("required_edges needs solver='order', got solver='central-path'.")

    @property
    def varying_covariance(self):
        """Covariance of the columns that vary."""
        return self.S if len(self.constant) == 0 else self.S[np.ix_(self.nodes, self.nodes)]

    @property
    def penalty(self):
        """Penalty factors of the columns that vary, as parents."""
        if self.model.penalty_scale == "columns":
            return self.sd[self.nodes]
        return np.ones(len(self.nodes))

    @property
    def window(self):
        """Reach of a move."""
        window = self.model.window
        if isinstance(window, str):
            return len(self.nodes) if len(self.nodes) <= FULL_WINDOW else WINDOW
        return len(self.nodes) if window is None else int(window)

    @property
    def strength(self):
        """What the solver multiplies the norm, or the number of edges, with."""
        factor = np.log(self.n_samples) if self.model.criterion == "bic" else 1.0
        # Beyond, where no edge is left for long, squares overflow.
        return min(self.alpha * factor, _LARGEST_STRENGTH)

    def at(self, alpha):
        """Change the penalty; returns the problem itself."""
        self.alpha = alpha
        return self

    def search(self):
        """The order search on the columns that vary."""
        return OrderSearch(
            self.varying_covariance,
            alpha=self.strength,
            variance=self.model.variance,
            criterion=self.model.criterion,
            penalty=self.penalty,
            floor=self.floor,
            n_samples=self.n_samples,
            constraints=self.constraints.restricted_to(self.nodes),
        )

    def starts(self, search, previous=None, *, alone=True):
        """First orders of the search, as positions among the columns that vary.

        Parameters
        ----------
        search : OrderSearch
            The search.
        previous : ndarray or None, default=None
            An order of all columns to begin with.
        alone : bool, default=True
            Whether it replaces the usual starts.

        Returns
        -------
        starts : list of ndarray
            One or two orders.
        """
        precedes, init = search.precedes, self.init
        place = np.full(self.n_nodes, -1)
        place[self.nodes] = np.arange(len(self.nodes))
        found = []
        for order in (previous, None if isinstance(init, str) else init):
            if order is not None:
                order = place[order]
                found.append(respect(order[order >= 0], precedes))
                if alone:
                    return found
        S = search.problem.S
        if isinstance(init, str) and init in ("auto", "top-down"):
            found.append(top_down_order(S, precedes))
        by_variance = "variance", "auto" if self.model.variance == "unequal" else None
        if isinstance(init, str) and init in by_variance:
            found.append(variance_order(S, precedes))
        return found

    def solve(self, report=None, *, search=None, previous=None, alone=True, rng=None):
        """Learn the graph with the solver that the model names.

        Parameters
        ----------
        report : callable or None, default=None
            Gets a function that returns the fitted attributes so far; returns whether to stop.
        search : OrderSearch or None, default=None
            To go on with, if several penalties or samples share it.
        previous : ndarray or None, default=None
            Order of all columns to begin with.
        alone : bool, default=True
            Whether it replaces the usual first orders.
        rng : RandomState or None, default=None
            Source of randomness; by default from the model's ``random_state``.

        Returns
        -------
        attributes : dict
            Fitted attributes.
        """
        if len(self.nodes) == 0:
            return self.attributes(*self._nothing())
        if self.model.solver == "central-path":
            return self._follow_path(report)
        search = self.search() if search is None else search
        result = search_orders(
            search,
            self.starts(search, previous, alone=alone),
            window=self.window,
            max_sweeps=self.model.max_sweeps,
            n_restarts=self.model.n_restarts,
            tol=self.model.tol,
            rng=check_random_state(self.model.random_state) if rng is None else rng,
            report=None if report is None else lambda now: report(lambda: self._of_order(now)),
        )
        return self._of_order(result)

    def _nothing(self):
        empty = np.zeros((0, 0))
        state = Bunch(objective=0.0, path=[0.0], n_iter=0, gain=0.0, converged=True)
        return empty, empty, np.arange(0), np.zeros(0), state

    def _of_order(self, result):
        weights = result.weights
        state = Bunch(
            objective=result.objective,
            path=list(result.path),
            n_iter=result.n_sweeps,
            gain=result.gain,
            converged=result.converged or self.model.max_sweeps == 0,
        )
        kept = np.where(self._survives(weights), weights, 0.0)
        return self.attributes(weights, kept, result.order, result.scales, state)

    def _follow_path(self, report):
        def progress(stage, iteration, W, scales, objective):
            return report(lambda: self.of_path(W, scales))

        result = central_path(
            self.varying_covariance,
            self.alpha,
            self.model.variance,
            params=self.model.path_params,
            penalty=self.penalty,
            mask=self.mask,
            sigma_min=self.model.sigma_min,
            progress=None if report is None else progress,
        )
        return self.of_path(
            result.W,
            result.scales,
            path=np.minimum.accumulate(result.stages[-1].objectives).tolist(),
            n_iter=sum(result.n_iter),
            converged=result.converged,
        )

    @property
    def mask(self):
        """Edges that the central path may use; None for all, the diagonal included."""
        allowed = ~self.constraints.restricted_to(self.nodes).forbidden
        return None if np.count_nonzero(~allowed) == len(self.nodes) else allowed

    def of_path(self, W, scales, *, path=(), n_iter=0, converged=False):
        """Fitted attributes from where a central path has come.

        Parameters
        ----------
        W : ndarray of shape (k, k)
            Its raw weights, the diagonal of which is dropped.
        scales : ndarray of shape (k,)
            Noise scales.
        path, n_iter, converged : sequence of float, int, bool
            How it went.

        Returns
        -------
        attributes : dict
            Names with their trailing underscore, and values.
        """
        weights = W.copy()
        np.fill_diagonal(weights, 0.0)
        kept = project_to_dag(np.where(self._survives(weights), weights, 0.0), 0.0)
        q = residual_variances(self.varying_covariance, weights)
        penalty = self.alpha * np.sum(self.penalty[:, None] * np.abs(weights))
        state = Bunch(
            objective=0.5 * np.sum(q / scales + scales) + penalty,
            path=path,
            n_iter=n_iter,
            gain=np.nan,
            converged=converged,
        )
        return self.attributes(weights, kept, topological_order(kept), scales, state)

    def _survives(self, weights):
        """Edges that the threshold keeps, required ones in any case."""
        size = np.abs(weights)
        if self.model.threshold_scale == "standardized":
            sd = self.sd[self.nodes]
            size = size * sd[:, None] / sd[None, :]
        required = self.constraints.required[np.ix_(self.nodes, self.nodes)]
        return (size >= self.w_threshold) | required

    def attributes(self, raw, kept, order, scales, state):
        """Fitted attributes from a solution on the columns that vary.

        Parameters
        ----------
        raw, kept : ndarray of shape (k, k)
            Coefficients before and after the threshold.
        order : ndarray of shape (k,)
            Their order.
        scales : ndarray of shape (k,)
            Noise scales.
        state : Bunch
            How the search went.

        Returns
        -------
        attributes : dict
            Names with their trailing underscore, and values.
        """
        nodes = self.nodes
        shared = self.model.variance == "equal"
        S = self.varying_covariance
        refit = least_squares_on_support(S, kept != 0)
        refit_scales = np.sqrt(np.maximum(residual_variances(S, refit), self.floor**2))
        if shared and len(nodes):
            refit_scales[:] = np.sqrt(np.mean(refit_scales**2))
        adjacency, noise_scales = (refit, refit_scales) if self.model.refit else (kept, scales)
        order = respect(np.r_[nodes[order], self.constant], self.constraints.precedes)
        noise_scales = self._spread(noise_scales)
        attributes: dict[str, Any] = {
            "adjacency_": self._spread(adjacency),
            "coef_raw_": self._spread(raw),
            "order_": order,
            "noise_scales_": noise_scales,
            "noise_scale_": noise_scales.copy(),
            "refit_adjacency_": self._spread(refit),
            "refit_noise_scales_": self._spread(refit_scales),
            "mean_": self.mean.copy(),
            "alpha_": self.alpha,
            "objective_": float(state.objective),
            "score_path_": np.array(state.path),
            "n_iter_": int(state.n_iter),
            "converged_": bool(state.converged),
            "moments_": self.moments,
            "n_samples_seen_": self.n_samples,
        }
        if shared:
            attributes["noise_scale_"] = float(noise_scales.max(initial=0.0))
        attributes["covariance_"] = implied_covariance(
            attributes["adjacency_"], noise_scales, attributes["order_"]
        )
        self.last_gain = float(state.gain)
        return attributes

    def _spread(self, values):
        """Put values of the columns that vary among zeros for the others."""
        if len(self.constant) == 0:
            return values.copy()
        spread = np.zeros((self.n_nodes,) * values.ndim)
        spread[np.ix_(*(self.nodes,) * values.ndim)] = values
        return spread


def residual_variances(S, weights):
    """Diagonal of (I - W)' S (I - W), the variances of what the parents leave."""
    gap = np.eye(len(S)) - weights
    return np.einsum("ij,ij->j", gap, S @ gap)


def least_squares_on_support(S, support):
    """Regress every variable on its parents.

    Parameters
    ----------
    S : ndarray of shape (k, k)
        Covariance with positive diagonal.
    support : ndarray of bool of shape (k, k)
        Edges by [parent, child].

    Returns
    -------
    weights : ndarray of shape (k, k)
        Least-squares coefficients, of least norm in units of standard deviations where
        parents depend on each other.
    """
    from sparsestat.dag._kernels import regress_on_support

    weights, dependent = np.zeros(S.shape), np.zeros(len(S), dtype=bool)
    regress_on_support(S, support, weights, dependent, np.empty(S.shape), np.empty(len(S)))
    sd = np.sqrt(S.diagonal())
    for child in np.flatnonzero(dependent):
        parents = np.flatnonzero(support[:, child])
        scale = sd[parents]
        gram = S[np.ix_(parents, parents)] / np.outer(scale, scale)
        moment = S[parents, child] / scale
        weights[:, child] = 0.0
        weights[parents, child] = lstsq(gram, moment, cond=_SINGULAR)[0] / scale
    return weights
