"""Over-relaxation of Sinkhorn's iteration, with a factor that is learned on the way.

Near the solution a sweep is a Gauss-Seidel step for a two-block system whose error shrinks
by a factor eta, the largest squared canonical correlation under the plan. Stepping omega times
as far turns eta into the factor mu with (mu + omega - 1)^2 = omega^2 eta mu, which is
smallest, omega - 1, at omega = 2 / (1 + sqrt(1 - eta)) (Young, 1954; for transport Thibault,
Chizat, Dossal and Papadakis, 2021). An observed mu tells eta by the same equation.
"""

import math

# The linear theory holds where the error is small against the total mass.
_NEAR = 0.1
# A factor is observed over so many sweeps, twice in a row, or more where errors die out slowly.
_WINDOW = 3
_LARGEST = 1.995
# Errors grow for a while before they die out, but not by so much; then the factor was too large,
# and later ones keep this share of its excess over one.
_GROWTH = 30.0
_KEEP = 0.95


class Relaxation:
    """Choose the factor of the next sweep from the errors of the last ones.

    Parameters
    ----------
    factor : float or "auto"
        A fixed factor in (0, 2), or "auto".

    Attributes
    ----------
    omega : float
        The factor for the next sweep.
    """

    def __init__(self, factor="auto"):
        self._adaptive = factor == "auto"
        self.omega = 1.0 if self._adaptive else float(factor)
        self._errors = []
        self._limit = _LARGEST

    def restart(self):
        """Go back to plain sweeps, after numbers that are not finite."""
        if self._adaptive:
            self._limit = 1.0 + _KEEP * (self.omega - 1.0)
            self._set(1.0)
            self._errors = []

    def observe(self, error):
        """Take note of the error after a sweep."""
        if not self._adaptive:
            return
        errors = self._errors
        errors.append(error)
        excess = self.omega - 1.0
        if excess > 0.0 and error > max(_NEAR, min(_GROWTH * errors[0], 1.0)):
            self._limit = 1.0 + _KEEP * excess
            self._set(1.0)
            return
        # After a change the error of a step omega may grow before it shrinks like excess^k.
        window = max(_WINDOW, math.ceil(1.0 / (1.0 - excess)) // 2)
        if len(errors) <= 2 * window or error <= 0.0:
            return
        if error > errors[-1 - 2 * window]:
            self._set(1.0 + 0.5 * excess if excess > 0.1 else 1.0)
            return
        mu = (error / errors[-1 - window]) ** (1 / window)
        before = (errors[-1 - window] / errors[-1 - 2 * window]) ** (1 / window)
        settled = mu < 1.0 and abs(mu - before) < 0.2 * (1.0 - mu)
        if error > _NEAR or not settled or mu <= 1.02 * excess:
            return
        eta = min((mu + excess) ** 2 / (self.omega**2 * mu), 1.0)
        wanted = min(2.0 / (1.0 + math.sqrt(1.0 - eta)), self._limit)
        if wanted > self.omega + 0.02 * (2.0 - self.omega):
            self._set(wanted)

    def _set(self, omega):
        self.omega = omega
        self._errors = self._errors[-1:]
