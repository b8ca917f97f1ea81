"""Fit the potential of a light Schroedinger bridge: units, first guess, optimisers."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from sparsestat.transport._bridge_objective import BridgeObjective, host_vector, pack
from sparsestat.transport._bridge_start import column_moments, first_guess
from sparsestat.transport._light_bridge import BridgeMixture, gaussian_bridge, recentred

_STEP, _DECAY, _LEAST_STEP = 0.02, 0.5, 1e-4
_MEAN_RATE, _SQUARE_RATE, _NOISE_FLOOR = 0.9, 0.999, 1e-8
_PATIENCE = 10
_WINDOW = 5
_FLAT = 1e-10


class BridgeUnits(NamedTuple):
    """Where the samples sit, and the units in which epsilon is one.

    With s the diagonal of the best single component, x' = (x - m0) sqrt(s / epsilon) and
    y' = (y - m1) / sqrt(s epsilon) have that component's S at the identity and keep
    x'.y' = (x - m0).(y - m1) / epsilon, so that epsilon keeps its meaning.

    Attributes
    ----------
    source_mean : ndarray of shape (n_features,)
        The m0.
    target_mean : ndarray of shape (n_features,)
        The m1.
    spread : ndarray of shape (n_features,)
        The s.
    epsilon : float
        Variance of the Wiener process per unit of time.
    """

    source_mean: np.ndarray
    target_mean: np.ndarray
    spread: np.ndarray
    epsilon: float

    @classmethod
    def of(cls, X, Y, x_shares, y_shares, epsilon, xp):
        """Find them for two weighted samples."""
        (m0, v0), (m1, v1) = (column_moments(Z, w, xp) for Z, w in ((X, x_shares), (Y, y_shares)))
        spread = gaussian_bridge(m0, v0, m1, v1, epsilon).spreads[0]
        # A constant column of the target has no unit.
        spread = np.where(v1 > 0.0, spread, 1.0)
        return cls(m0, m1, np.maximum(spread, np.finfo(np.float64).tiny), epsilon)

    def source(self, X, xp):
        """Express the source in them."""
        return _affine(X, self.source_mean, np.sqrt(self.spread / self.epsilon), xp)

    def target(self, Y, xp):
        """Express the target in them."""
        return _affine(Y, self.target_mean, 1.0 / np.sqrt(self.spread * self.epsilon), xp)

    def mixture(self, log_weights, locations, spreads):
        """Translate parameters back, with weights that sum to one."""
        root = np.sqrt(self.spread)
        scale = self.spread if spreads.ndim == 2 else root[:, None] * root
        largest = log_weights.max()
        total = largest + np.log(np.exp(log_weights - largest).sum())
        return BridgeMixture(
            log_weights - total,
            locations * np.sqrt(self.epsilon) * root,
            spreads * scale,
            self.epsilon,
            self.source_mean,
            self.target_mean,
        )

    def parameters(self, mixture):
        """Translate a mixture of any centres into parameters."""
        mixture = recentred(mixture, self.source_mean, self.target_mean)
        root = np.sqrt(self.spread)
        scale = root[:, None] * root if mixture.full else self.spread
        locations = mixture.locations / (np.sqrt(self.epsilon) * root)
        return mixture.log_weights, locations, mixture.spreads / scale


def _affine(Z, mean, scale, xp):
    mean, scale = (xp.asarray(v, dtype=xp.float64, device=Z.device) for v in (mean, scale))
    return (Z - mean) * scale


# --- optimisers --------------------------------------------------------------------------


class Optimum(NamedTuple):
    """What an optimiser has found.

    Attributes
    ----------
    theta : ndarray
        The parameters.
    curve : list of float
        The loss at the start and after every iteration.
    held_out : list of float
        The loss of the points that were set aside, likewise; empty without any.
    converged : bool
        Whether the criterion of convergence was met.
    stopped : bool
        Whether a listener asked to stop.
    """

    theta: np.ndarray
    curve: list
    held_out: list
    converged: bool
    stopped: bool


class _Watch:
    """Follow an optimiser: keep the curves and the best parameters, decide when to stop."""

    def __init__(self, theta, loss, *, held_out, listener):
        self.curve, self.held_out_curve = [loss], []
        self.theta, self.stopped, self.patience_lost = theta, False, False
        self._held_out, self._listener = held_out, listener
        self._least, self._since = np.inf, 0
        self._judge(theta, loss)

    def _judge(self, theta, loss):
        value = loss
        if self._held_out is not None:
            value = self._held_out(theta)[0]
            self.held_out_curve.append(value)
        self._since += 1
        if value < self._least:
            self.theta, self._least, self._since = theta.copy(), value, 0

    def add(self, theta, loss):
        """Note an iterate; return whether a listener or the points set aside end the fit."""
        self.curve.append(loss)
        self._judge(theta, loss)
        if self._listener is not None:
            self.stopped = bool(self._listener(self.theta, len(self.curve) - 1))
        self.patience_lost = self._held_out is not None and self._since >= _PATIENCE
        return self.stopped or self.patience_lost

    def result(self, converged):
        """What has been found."""
        converged = (converged or self.patience_lost) and not self.stopped
        return Optimum(self.theta, self.curve, self.held_out_curve, converged, self.stopped)


def minimize_lbfgs(objective, theta, *, tol, max_iter, held_out=None, listener=None):
    """Minimise by L-BFGS.

    Parameters
    ----------
    objective : BridgeObjective
        What to minimise.
    theta : ndarray
        Where to start.
    tol : float
        Mean gain of the last iterations, below which it has converged.
    max_iter : int
        Largest number of iterations.
    held_out : BridgeObjective or None, default=None
        If given, the parameters that are best for it are returned, and the search ends when
        it has not improved for ten iterations.
    listener : callable or None, default=None
        Called after every iteration with the best parameters and the number of iterations;
        a true result stops the search.

    Returns
    -------
    optimum : Optimum
        What was found.
    """
    watch = _Watch(theta, objective(theta)[0], held_out=held_out, listener=listener)
    settled = False

    def callback(intermediate_result):
        nonlocal settled
        stop = watch.add(intermediate_result.x, float(intermediate_result.fun))
        recent = watch.curve[-_WINDOW - 1 :]
        settled = len(recent) > _WINDOW and recent[0] - recent[-1] <= _WINDOW * tol
        if stop or settled:
            raise StopIteration

    found = minimize(
        objective,
        theta,
        jac=True,
        method="L-BFGS-B",
        bounds=np.transpose(objective.bounds()),
        callback=callback,
        options={
            "maxcor": 20,
            "maxiter": max_iter,
            "maxfun": 30 * max_iter,
            "ftol": 0.0,
            "gtol": min(tol, _FLAT),
        },
    )
    if found.nit == 0:
        watch.add(found.x, float(found.fun))
    # A line search that finds no descent beyond the rounding of the loss has arrived, too.
    at_rest = found.status == 0 or (
        found.status == 2 and np.max(np.abs(found.jac)) <= np.sqrt(_FLAT)
    )
    return watch.result(settled or at_rest)


def minimize_adam(objective, theta, *, tol, max_iter, batch_size, shares, rng, held_out=None,
                  listener=None):  # fmt: skip
    """Minimise by Adam, with steps that are halved whenever the loss no longer falls.

    Parameters
    ----------
    objective : BridgeObjective
        What to minimise.
    theta : ndarray
        Where to start.
    tol : float
        Gain of a pass below which steps are too long.
    max_iter : int
        Largest number of passes over the larger sample.
    batch_size : int or None
        Points of each sample in a step; None for all of them.
    shares : ndarray or None
        Probabilities of the source points to be drawn; None for passes over all.
    rng : numpy.random.Generator
        Draws the batches.
    held_out, listener
        See :func:`minimize_lbfgs`.

    Returns
    -------
    optimum : Optimum
        What was found.
    """
    lower, upper = objective.bounds()
    n_points = objective.n_source, objective.n_target
    n_steps = 1 if batch_size is None else -(-max(n_points) // batch_size)
    watch = _Watch(theta, objective(theta)[0], held_out=held_out, listener=listener)
    mean, square = np.zeros_like(theta), np.zeros_like(theta)
    step, count, idle, least = _STEP, 0, 0, watch.curve[0]
    for _ in range(max_iter):
        part = objective
        for rows, columns in _batches(n_points, batch_size, n_steps, shares, rng):
            if rows is not None:
                part = objective.batch(rows, columns)
            gradient = part(theta)[1]
            count += 1
            mean = _MEAN_RATE * mean + (1 - _MEAN_RATE) * gradient
            square = _SQUARE_RATE * square + (1 - _SQUARE_RATE) * gradient**2
            size = np.sqrt(square / (1 - _SQUARE_RATE**count)) + _NOISE_FLOOR
            theta = theta - step * mean / (1 - _MEAN_RATE**count) / size
            theta = np.clip(theta, lower, upper)
        loss = objective(theta)[0]
        idle = 0 if loss < least - tol else idle + 1
        least = min(loss, least)
        if watch.add(theta, loss):
            break
        if idle == _WINDOW:
            idle, step = 0, step * _DECAY
            if step < _LEAST_STEP:
                return watch.result(True)
    return watch.result(False)


def _batches(n_points, batch_size, n_steps, shares, rng):
    """Positions in both samples for each step of a pass; None for all points."""
    if batch_size is None:
        return [(None, None)]
    n_drawn = n_steps * batch_size
    orders = [
        np.resize(rng.permutation(n), n_drawn) if p is None else rng.choice(n, n_drawn, p=p)
        for n, p in zip(n_points, (shares, None))
    ]
    return zip(*(np.split(order, n_steps) for order in orders))


# --- the whole fit -----------------------------------------------------------------------


class BridgeFit(NamedTuple):
    """A fitted potential.

    Attributes
    ----------
    mixture : BridgeMixture
        The potential, on the host.
    curve : ndarray
        The loss at the start and after every iteration.
    held_out_curve : ndarray
        The loss of the points that were set aside; empty without any.
    loss : float
        The loss of the potential.
    gain : float
        Mean gain of the last iterations.
    converged : bool
        Whether the criterion of convergence was met.
    stopped : bool
        Whether a listener asked to stop.
    """

    mixture: BridgeMixture
    curve: np.ndarray
    held_out_curve: np.ndarray
    loss: float
    gain: float
    converged: bool
    stopped: bool


def fit_bridge(source, target, *, epsilon, n_components, full, floor, solver, tol, max_iter, init,
               n_init, batch_size, rng, xp, held_out=None, start=None, listener=None):  # fmt: skip
    """Fit the potential of a light Schroedinger bridge to two samples.

    Parameters
    ----------
    source, target : tuple of (array of shape (n, n_features), array of shape (n,))
        Points and their weights, which sum to one; float64, of one library.
    epsilon : float
        Variance of the Wiener process per unit of time.
    n_components : int
        Number of components.
    full : bool
        Whether the S_k are full matrices.
    floor : float
        Least eigenvalue of the S_k in the units of :class:`BridgeUnits`.
    solver : {"lbfgs", "adam"}
        How the loss is minimised.
    tol, max_iter, batch_size
        See :func:`minimize_lbfgs` and :func:`minimize_adam`.
    init : {"kmeans", "random"} or ndarray of shape (n_components, n_features)
        Where the target's clusters are.
    n_init : int
        Number of starts, of which the best end counts.
    rng : numpy.random.Generator
        Source of random numbers.
    xp : module
        Namespace of the samples.
    held_out : tuple or None, default=None
        Source and target that decide when to stop.
    start : BridgeMixture or None, default=None
        A fitted potential to start from.
    listener : callable or None, default=None
        Called with a mixture and its loss after every iteration; a true result stops the fit.

    Returns
    -------
    fit : BridgeFit
        The best that was found.
    """
    (X, x_shares), (Y, y_shares) = source, target
    units = BridgeUnits.of(X, Y, x_shares, y_shares, epsilon, xp)
    shape = {"n_components": n_components, "full": full, "floor": floor, "xp": xp}

    def objective_of(X, Y, x_shares, y_shares):
        return BridgeObjective(
            units.source(X, xp), units.target(Y, xp), x_shares, y_shares, **shape
        )

    # What the change of units does to the loss; the samples it is fitted to have mean zero.
    offset = float(np.sum(np.log(units.spread * epsilon)) / 2)
    objective = objective_of(X, Y, x_shares, y_shares)
    reserve, reserve_offset = None, offset
    if held_out is not None:
        (X_out, x_out), (Y_out, y_out) = held_out
        reserve = objective_of(X_out, Y_out, x_out, y_out)
        x_mean, y_mean = (
            host_vector(xp.sum(w[:, None] * Z, axis=0))
            for w, Z in ((x_out, units.source(X_out, xp)), (y_out, units.target(Y_out, xp)))
        )
        reserve_offset = offset - float(x_mean @ y_mean)
    if isinstance(init, np.ndarray):
        init = (init - units.target_mean) / np.sqrt(units.spread * epsilon)
    best, best_value = None, np.inf

    def mixture_of(theta):
        return units.mixture(*objective.unpack(theta)[:3])

    def value_of(theta):
        return (objective if reserve is None else reserve)(theta)[0]

    def heard(theta, _):
        # Nobody is told of a later start that has not come as far as an earlier one.
        theta = theta if best is None or value_of(theta) < best_value else best.theta
        return listener(lambda: mixture_of(theta), lambda: objective(theta)[0] + offset)

    def guess():
        if start is not None:
            return units.parameters(start)
        samples = units.source(X, xp), units.target(Y, xp), x_shares, y_shares
        return first_guess(
            *samples, n_components=n_components, full=full, init=init, rng=rng, xp=xp
        )

    for _ in range(n_init if start is None else 1):
        options = {"tol": tol, "max_iter": max_iter, "held_out": reserve}
        options["listener"] = None if listener is None else heard
        log_weights, locations, spreads = guess()
        theta = pack(log_weights, locations, spreads, floor)
        if solver == "lbfgs":
            found = minimize_lbfgs(objective, theta, **options)
        else:
            shares = host_vector(x_shares) if batch_size is not None else None
            if shares is not None and np.ptp(shares) <= 1e-12 * shares.max():
                shares = None
            found = minimize_adam(
                objective, theta, batch_size=batch_size, shares=shares, rng=rng, **options
            )
        value = value_of(found.theta)
        if best is None or value < best_value:
            best, best_value = found, value
        if found.stopped:
            break
    curve = np.array(best.curve) + offset
    n_last = min(len(curve) - 1, _WINDOW)
    return BridgeFit(
        mixture=mixture_of(best.theta),
        curve=curve,
        held_out_curve=np.array(best.held_out) + reserve_offset,
        loss=objective(best.theta)[0] + offset,
        gain=float(curve[-n_last - 1] - curve[-1]) / n_last,
        converged=best.converged,
        stopped=best.stopped,
    )
