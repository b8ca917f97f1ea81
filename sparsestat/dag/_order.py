"""Search over orders of the nodes.

Given an order, in which parents come first, both criteria are convex and fall apart into one
regression for each node, which is solved exactly. What remains is a search over orders: every
node in turn is put where the total cost is lowest (insertion moves, with exact costs), until no
such move helps. A graph from an order has no directed cycle, whatever its coefficients.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import lapack

from sparsestat.dag import _state as state

SHARED_TOL = 1e-10
"""Relative accuracy of the scale that all nodes share."""

SWEEP_TOL = 1e-8
"""Share of the objective below which the gain of a sweep ends the search."""

MOVE_TOL = 1e-9
"""Share of the objective that a move must gain."""

TIE = 1e-12
"""Share of the objective up to which two of them are the same."""

_MAX_ROUNDS = 100
_SINGULAR = 1e-10
# Node regressions between two returns to Python: far less than 0.2 s even for slow ones.
_BUDGET = 2_000_000


@dataclass
class OrderResult:
    """The best graph of a search.

    Attributes
    ----------
    weights : ndarray of shape (d, d)
        Coefficients by [parent, child].
    order : ndarray of shape (d,)
        Nodes, parents first.
    scales : ndarray of shape (d,)
        Noise scales of the criterion.
    objective : float
        Its value.
    n_sweeps : int
        Number of sweeps in all.
    path : list of float
        The objective at the first order and after each sweep: of all starts, the best so far.
    gain : float
        What the last sweep from the best start gained.
    converged : bool
        Whether that was too little to go on, and all regressions were exact.
    """

    weights: np.ndarray
    order: np.ndarray
    scales: np.ndarray
    objective: float
    n_sweeps: int
    path: list
    gain: float
    converged: bool


def top_down_order(S, precedes):
    """Order that takes the variable with the least residual variance, given those taken, first.

    It recovers the order of a model with equal noise variances (Chen, Drton and Wang, 2019).
    Variables that are combinations of others come last, by variance.

    Parameters
    ----------
    S : ndarray of shape (d, d)
        Covariance.
    precedes : ndarray of bool of shape (d, d)
        [a, b] if a must come before b.

    Returns
    -------
    order : ndarray of shape (d,)
        The order.
    """
    from sparsestat.dag._kernels import min_pivot_order

    d = len(S)
    order = np.empty(d, dtype=np.int64)
    rules = (state.PRECEDES * precedes.T).astype(np.int8)
    taken = min_pivot_order(S, rules, order, np.empty((d, d)))
    rest = np.setdiff1d(np.arange(d), order[:taken], assume_unique=True)
    order[taken:] = rest[np.argsort(S.diagonal()[rest], kind="stable")]
    return respect(order, precedes)


def variance_order(S, precedes):
    """Order by increasing variance, as far as what must come first lets it."""
    return respect(np.argsort(S.diagonal(), kind="stable"), precedes)


def respect(order, precedes):
    """Reorder as little as it takes: repeatedly the first node whose predecessors have all come."""
    if not precedes.any():
        return np.asarray(order, dtype=np.int64)
    waiting = precedes.sum(axis=0)
    left = list(order)
    result = []
    while left:
        node = next(node for node in left if waiting[node] == 0)
        left.remove(node)
        result.append(node)
        waiting = waiting - precedes[node]
    return np.array(result, dtype=np.int64)


def _precision(S):
    """Inverse of S, or infinity if S has none; it serves for bounds, which need no last digit."""
    sd = np.sqrt(S.diagonal())
    factor, info = lapack.dpotrf(S / np.outer(sd, sd), lower=True)
    if info == 0 and factor.diagonal().min() ** 2 > _SINGULAR:
        inverse, info = lapack.dpotri(factor, lower=True)
        if info == 0:
            lower = np.tril(inverse)
            return (lower + np.tril(inverse, -1).T) / np.outer(sd, sd)
    return np.full(S.shape, np.inf)


class OrderSearch:
    """One criterion on one covariance, and the solution at the present order.

    Parameters
    ----------
    S : ndarray of shape (d, d)
        Covariance with positive diagonal.
    alpha : float
        Penalty strength of the l1 norm; cost of one parent for the information criterion.
    variance : {"equal", "unequal"}
        Whether all nodes share a noise scale.
    criterion : {"colide", "bic"}
        l1 penalty or number of parents.
    penalty : ndarray of shape (d,)
        Penalty factors by parent.
    floor : float
        Least noise scale.
    n_samples : float
        Number of rows behind S; only the information criterion looks at it.
    constraints : Constraints
        What is known about edges.
    """

    def __init__(self, S, *, alpha, variance, criterion, penalty, floor, n_samples, constraints):
        from sparsestat.dag import _kernels as kernels

        d = len(S)
        self._kernels = kernels
        self._shared = variance == "equal"
        self._is_bic = criterion == "bic"
        code = {
            (False, True): state.EQUAL,
            (False, False): state.UNEQUAL,
            (True, True): state.BIC_EQUAL,
            (True, False): state.BIC_UNEQUAL,
        }[self._is_bic, self._shared]
        rules = state.ALLOWED * ~constraints.forbidden + state.PRECEDES * constraints.precedes
        rules += state.REQUIRED * constraints.required
        np.fill_diagonal(rules, state.REQUIRED * constraints.required.any(axis=0))
        problem_type: Any = state.ParentCountProblem if self._is_bic else state.LassoProblem
        self.problem = problem_type(
            S=np.ascontiguousarray(S, dtype=np.float64),
            precision=_precision(S),
            rules=np.ascontiguousarray(rules.T, dtype=np.int8),
            penalty=np.ascontiguousarray(penalty, dtype=np.float64),
            params=np.array([alpha, floor, n_samples, code], dtype=np.float64),
        )
        self.fit = state.Fit(
            rows=np.zeros((3, d + 2, d)),
            active=np.zeros((d + 2, d), dtype=np.int64),
            factors=np.zeros((d + 2, 4 * d + 64)),
            numbers=np.zeros((d + 2, 5)),
            nodes=np.zeros((5, d + 2), dtype=np.int64),
            trials=np.zeros((d, d)),
            stamps=np.full((d, d), -1, dtype=np.int64),
            counts=np.zeros(3, dtype=np.int64),
        )
        self.work = state.Work(
            L=np.zeros((d, d)),
            vectors=np.zeros((7, max(d, 5))),
            idx=np.zeros(d, dtype=np.int64),
            state=np.zeros(d, dtype=np.int8),
        )
        self.set_order(np.arange(d))
        self._scale = self._first_scale()

    @property
    def order(self):
        """The present order, a copy."""
        return self.fit.nodes[state.ORDER, : self.n_nodes].copy()

    @property
    def precedes(self):
        """[a, b] if a stays before b."""
        return (self.problem.rules & state.PRECEDES).T > 0

    @property
    def n_nodes(self):
        """Number of nodes."""
        return len(self.problem.S)

    @property
    def n_failures(self):
        """Number of node regressions so far that ended before they were exact."""
        return int(self.fit.counts[1])

    def reset(self):
        """Forget the solution, but not the order."""
        self.fit.rows[:] = 0
        self.fit.nodes[state.N_ACTIVE] = 0
        self.fit.nodes[state.FACTOR] = -1
        self._scale = self._first_scale()

    def _first_scale(self):
        # In a model with a shared scale it is the standard deviation of a root.
        return float(np.sqrt(self.problem.S.diagonal().min()))

    def snapshot(self):
        """A copy of order and solution, for `restore`."""
        return self._scale, [array.copy() for array in self.fit]

    def restore(self, snapshot):
        """Go back to a snapshot."""
        self._scale, arrays = snapshot
        for array, kept in zip(self.fit, arrays):
            array[...] = kept

    def set_alpha(self, alpha):
        """Change the penalty; the next `settle` begins with the solution of the old one."""
        self.problem.params[state.ALPHA] = alpha
        # A kept factor stands for a solution that only a new candidate can change.
        self.fit.nodes[state.FACTOR] = -1

    def set_order(self, order):
        """Put the nodes into an order; the next `settle` begins with the present solution."""
        d, nodes = self.n_nodes, self.fit.nodes
        nodes[state.ORDER, :d] = order
        nodes[state.POSITION, nodes[state.ORDER, :d]] = np.arange(d)

    def objective(self):
        """Value of the criterion at the present solution."""
        numbers = self.fit.numbers[: self.n_nodes]
        if not self._shared:
            return float(numbers[:, state.COST].sum())
        alpha, _, n_samples, _ = self.problem.params
        norm, q = numbers[:, state.NORM].sum(), numbers[:, state.Q].sum()
        d, s = len(numbers), self._scale
        if self._is_bic:
            return float(n_samples * (d * np.log(s) + 0.5 * (q / s**2 - d)) + alpha * norm)
        return float(q / (2 * s) + d * s / 2 + alpha * norm)

    def scales(self):
        """Noise scales of the nodes."""
        return self.fit.numbers[: self.n_nodes, state.SCALE].copy()

    def weights(self):
        """Coefficients by [parent, child]."""
        return self.fit.rows[state.COEF, : self.n_nodes].T.copy()

    def settle(self):
        """Solve the problem at the present order.

        It is convex but for the information criterion with a shared scale, for which the
        solution from the scale without any edge is tried too.
        """
        if not self._shared:
            self._fit_nodes(0.0)
            return
        if not self._is_bic:
            self._settle_scale()
            return
        self._alternate()
        objective, kept = self.objective(), self.snapshot()
        self.reset()
        self._scale = float(np.sqrt(self.problem.S.diagonal().mean()))
        self._alternate()
        if self.objective() >= objective:
            self.restore(kept)

    def _alternate(self):
        """Take the best parents for the scale and the best scale for the parents in turns."""
        for _ in range(_MAX_ROUNDS):
            self._fit_nodes(self._scale)
            scale = max(self._closed_scale(), self.problem.params[state.FLOOR])
            if abs(scale - self._scale) <= SHARED_TOL * self._scale:
                return
            self._scale = scale

    def _settle_scale(self):
        """Find the scale at which the sum of the residual variances is d s^2, by Newton steps.

        The objective is convex in the scale, so that the sign of the difference tells on which
        side the solution is; a step that leaves the bracket, or hardly shortens it, is replaced.
        """
        floor = self.problem.params[state.FLOOR]
        low, high = floor / 2, np.inf
        step = np.inf
        for _ in range(_MAX_ROUNDS):
            s = self._scale
            self._fit_nodes(s)
            closed = max(self._closed_scale(), floor)
            if abs(closed - s) <= SHARED_TOL * s:
                return
            if closed > s:
                low = s
            else:
                high = s
            for trial in (self._newton_scale(), closed, np.sqrt(low * min(high, 4 * s))):
                trial = max(trial, floor)
                if low < trial < high and abs(trial - s) <= 0.5 * step:
                    break
            if not low < trial < high or abs(trial - s) <= 1e-15 * s:
                break
            step = abs(trial - s)
            self._scale = trial
        self.fit.counts[1] += 1

    def _closed_scale(self):
        """Best scale for the present coefficients."""
        return float(np.sqrt(self.fit.numbers[: self.n_nodes, state.Q].mean()))

    def _newton_scale(self):
        """Best scale as long as the active sets stay what they are.

        There the sum of the residual variances is A + B s^2, so that s^2 = A / (d - B).
        """
        d, s = self.n_nodes, self._scale
        numbers = self.fit.numbers[:d]
        slope = self.problem.params[state.ALPHA] ** 2 * numbers[:, state.CURVATURE].sum()
        rest = numbers[:, state.Q].sum() - slope * s**2
        return float(np.sqrt(rest / (d - slope))) if slope < d and rest > 0 else np.nan

    def _fit_nodes(self, shared):
        d = self.n_nodes
        chunk = max(1, _BUDGET // (d * d))
        for start in range(0, d, chunk):
            self._kernels.fit_order(
                start, min(start + chunk, d), shared, self.problem, self.fit, self.work
            )

    def sweep(self, visits, window, seen):
        """Try every node once at every position within the window.

        Parameters
        ----------
        visits : ndarray of shape (d,)
            Nodes in the order of their turns.
        window : int
            Largest number of positions by which a node moves.
        seen : ndarray of shape (d,)
            Clock at the last turn of each node that changed nothing; updated.

        Returns
        -------
        moves : int
            Number of moves.
        """
        d = len(visits)
        shared = self._scale if self._shared else 0.0
        least = MOVE_TOL * max(abs(self.objective()), 1e-300)
        turn, moves = 0, 0
        budget = max(1, _BUDGET // (20 * d))
        while turn < d:
            turn, moved, _ = self._kernels.sweep(
                visits, turn, window, budget, least, shared, self.problem, self.fit, self.work, seen
            )
            moves += moved
        return moves

    def descend(self, *, window, max_sweeps, rng, tol, report):
        """Sweep until nothing is gained.

        Parameters
        ----------
        window, max_sweeps : int, int
            Reach of a move, and number of sweeps.
        rng : numpy.random.RandomState
            Draws the turns, as positions of the first order: relabelled nodes take the same.
        tol : float
            Gain of a sweep, relative to the objective, below which there is no other.
        report : callable
            Called after every sweep with the objective; returns whether to stop.

        Returns
        -------
        gain : float
            Gain of the last sweep; zero without one.
        """
        start, seen = self.order, np.full(self.n_nodes, -1, dtype=np.int64)
        objective, gain = self.objective(), 0.0
        for _ in range(max_sweeps if self.n_nodes > 1 else 0):
            moves = self.sweep(start[rng.permutation(len(start))], window, seen)
            if moves and self._shared:
                # Without a shared scale every node that a move concerns was solved again.
                self.settle()
            gain, objective = objective - self.objective(), self.objective()
            if report() or gain <= tol * abs(objective):
                break
        return gain


def search_orders(
    search, starts, *, window, max_sweeps=20, n_restarts=0, tol=SWEEP_TOL, rng, report=None
):
    """Descend from several orders, first a sweep from each and then from the best.

    Parameters
    ----------
    search : OrderSearch
        The problem.
    starts : list of ndarray of shape (d,)
        First orders.
    window : int
        Largest number of positions by which a node moves at once.
    max_sweeps : int, default=20
        Largest number of sweeps in a row; zero only solves at the given orders.
    n_restarts : int, default=0
        Number of further starts, each a perturbation of the best order so far.
    tol : float, default=1e-8
        Gain of a sweep, relative to the objective, that ends the search.
    rng : numpy.random.RandomState
        Source of turns and perturbations.
    report : callable or None, default=None
        Called with the best `OrderResult` so far after every sweep; returns whether to stop.

    Returns
    -------
    result : OrderResult
        The best.
    """
    best: Any = None
    path: list[float] = []
    n_sweeps, stop = 0, False

    def look(gain=np.inf):
        """Keep the present solution if it is the best; tell whoever watches."""
        nonlocal best, stop
        objective = search.objective()
        if best is None or _is_less(objective, best.objective):
            best = OrderResult(
                search.weights(),
                search.order,
                search.scales(),
                objective,
                n_sweeps,
                path,
                gain,
                converged=bool(gain <= tol * abs(objective)),
            )
        path.append(best.objective)
        best.n_sweeps = n_sweeps
        stop = stop or (report is not None and bool(report(best)))
        return stop

    def after_sweep():
        nonlocal n_sweeps
        n_sweeps += 1
        return look()

    def begin(order):
        search.reset()
        search.set_order(order)
        search.settle()
        return look()

    def descend(n_allowed):
        gain = search.descend(
            window=window, max_sweeps=n_allowed, rng=rng, tol=tol, report=after_sweep
        )
        if search.objective() <= best.objective:
            best.gain = gain
            best.converged = gain <= tol * abs(best.objective) and search.n_failures == 0

    # Of several starts, only the one that is ahead after a sweep is followed to its end.
    race = len(starts) > 1 and max_sweeps > 1
    leader: Any = (np.inf, None)
    for order in starts:
        if begin(order):
            return best
        descend(1 if race else max_sweeps)
        if stop:
            return best
        if race and _is_less(search.objective(), leader[0]):
            leader = search.objective(), search.snapshot()
    if race:
        search.restore(leader[1])
        descend(max_sweeps - 1)
    for _ in range(n_restarts):
        if stop or begin(perturb(best.order, search.precedes, rng)):
            break
        descend(max_sweeps)
    return best


def _is_less(objective, other):
    """Whether it is more than rounding: equivalent graphs tie under the information criterion."""
    return objective < other - TIE * abs(objective)


def perturb(order, precedes, rng):
    """Move a few nodes, about one in ten, to random places."""
    order = list(order)
    for _ in range(max(2, len(order) // 10)):
        node = order.pop(rng.randint(len(order)))
        order.insert(rng.randint(len(order) + 1), node)
    return respect(order, precedes)
