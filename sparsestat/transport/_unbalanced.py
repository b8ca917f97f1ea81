"""Transport whose marginals are penalised instead of prescribed.

With penalties tau_a KL(P1 | a) and tau_b KL(P'1 | b), the best f for given g is the soft
minimum of the costs times tau_a / (tau_a + epsilon), and likewise for g. The dual value is
invariant to f + s, g - s only where both marginals are hard; otherwise the best s has a closed
form, without which the common level of the potentials converges at the rate
tau / (tau + epsilon) (Sejourne, Vialard and Peyre, 2022).
"""

import math

from sparsestat.transport._progress import IterationRecord
from sparsestat.transport._sweeps import column_update

# Larger potentials, of penalties that hardly give, have fewer digits behind the point.
_LARGE_POTENTIAL = 1e6


def unbalanced_sweeps(costs, marginals, reg_marginals, epsilon, v, *, tol, progress):
    """Sweep until no potential changes by more than ``tol * epsilon``.

    Parameters
    ----------
    costs : Costs
        The costs.
    marginals : Marginals
        Positive weights of rows and columns, of any total.
    reg_marginals : (float, float)
        Strengths of the penalties; inf for a hard marginal.
    epsilon : float
        Regularisation.
    v : array of shape (m,)
        Potentials of the columns to begin with.
    tol : float
        Wanted accuracy.
    progress : Progress
        Gets the records.

    Returns
    -------
    u, v : arrays
        The potentials.
    error : float
        The largest change in the last sweep, divided by epsilon, or by 1e-6 times the largest
        potential if that is larger.
    """
    xp = costs.xp
    power_a, power_b = (tau / (tau + epsilon) if tau < math.inf else 1.0 for tau in reg_marginals)
    # Offsets of the costs belong to the potentials, which the penalties see as a whole.
    offset_a = costs.row_offset / epsilon
    offset_b = costs.column_offset / epsilon
    log_a, log_b = marginals.log_a, marginals.log_b
    rows_to = log_a - (1.0 - power_a) * offset_a
    columns_to = log_b - (1.0 - power_b) * offset_b
    u = rows_to - power_a * costs.row_log_sums(1.0 / epsilon, v)
    while True:
        columns, change, _ = costs.sweep(1.0 / epsilon, u, v, rows_to, power=power_a)
        new_v = column_update(costs, columns, columns_to, epsilon, u, v, power=power_b)
        error = max(change, float(xp.max(xp.abs(new_v - v))))
        error /= max(1.0, float(xp.max(xp.abs(new_v))) / _LARGE_POTENTIAL)
        v = new_v
        progress.add(IterationRecord("log", epsilon, error), u, v)
        if error <= tol or progress.exhausted:
            return u, v, error
        shift = _best_shift(
            u - log_a + offset_a, v - log_b + offset_b, log_a, log_b, reg_marginals, epsilon, xp
        )
        u, v = u + shift, v - shift


def _best_shift(f, g, log_a, log_b, reg_marginals, epsilon, xp):
    """The s that maximises the dual at f + s, g - s, all divided by epsilon.

    Its derivative vanishes where sum a exp(-(f + s) / tau_a) = sum b exp(-(g - s) / tau_b).
    """
    inverse = [epsilon / tau for tau in reg_marginals]
    sums = [_log_sum(log_w - k * p, xp) for p, log_w, k in zip((f, g), (log_a, log_b), inverse)]
    return (sums[0] - sums[1]) / (inverse[0] + inverse[1])


def _log_sum(z, xp):
    largest = float(xp.max(z))
    return largest + math.log(float(xp.sum(xp.exp(z - largest))))
