"""Transport problems, and what a plan for them must satisfy, written out independently."""

import numpy as np
from scipy.special import logsumexp


def draw(n=30, m=20, seed=0, weights=True):
    """Costs in the unit interval, and weights."""
    rng = np.random.default_rng(seed)
    C = rng.uniform(size=(n, m))
    if not weights:
        return C, np.full(n, 1 / n), np.full(m, 1 / m)
    a, b = rng.uniform(0.2, 1.0, n), rng.uniform(0.2, 1.0, m)
    return C, a / a.sum(), b / b.sum()


def log_plan(C, a, b, f, g, epsilon):
    with np.errstate(divide="ignore"):
        log_a, log_b = np.log(a), np.log(b)
    return log_a[:, None] + log_b + (f[:, None] + g - C) / epsilon


def marginal_error(C, a, b, f, g, epsilon):
    z = log_plan(C, a, b, f, g, epsilon)
    rows, columns = np.exp(logsumexp(z, axis=1)), np.exp(logsumexp(z, axis=0))
    return np.abs(rows - a).sum() + np.abs(columns - b).sum()


def kl(p, q):
    safe = np.where(p > 0, p, 1.0)
    return np.sum(np.where(p > 0, p * np.log(safe / np.where(q > 0, q, 1.0)), 0.0) - p + q)


def plain_sinkhorn(C, a, b, epsilon, n_iter=20_000, tol=1e-13):
    """Alternate the two closed forms."""
    g = np.zeros(C.shape[1])
    with np.errstate(divide="ignore"):
        log_a, log_b = np.log(a), np.log(b)
    for _ in range(n_iter):
        f = -epsilon * logsumexp((g - C) / epsilon + log_b, axis=1)
        new = -epsilon * logsumexp((f[:, None] - C) / epsilon + log_a[:, None], axis=0)
        done = np.abs(new - g).max() < tol * epsilon
        g = new
        if done:
            break
    return f, g


def assert_solves(result, C, a, b, tol=1e-9):
    """Everything that a converged result claims, recomputed."""
    f, g = (np.asarray(x) for x in result.potentials)
    assert result.converged
    mass = a.sum()
    # P = a b' exp((f + g - C) / epsilon) for weights of any total.
    error = marginal_error(C, a, b, f, g, result.epsilon)
    size = 1.0 + np.abs(C[np.isfinite(C)]).max() / result.epsilon
    assert error <= tol * mass + 1e-15 * size * mass
    assert abs(result.marginal_error - error) <= 1e-13 * size * mass
    plan = np.asarray(result.plan)
    np.testing.assert_allclose(
        plan, np.exp(log_plan(C, a, b, f, g, result.epsilon)), rtol=1e-12 * size, atol=1e-300
    )
    cost = np.sum(plan[plan > 0] * C[plan > 0])
    reference = np.outer(a, b)
    value = cost + result.epsilon * kl(plan, reference)
    scale = 1e-12 * (1.0 + np.abs(C[np.isfinite(C)]).max()) * max(mass, mass**2)
    assert abs(result.transport_cost - cost) <= scale
    assert abs(result.value - value) <= 10 * scale
    dual = a @ f + b @ g - result.epsilon * (plan.sum() - reference.sum())
    assert abs(result.dual_value - dual) <= 10 * scale
    bound = error * max(np.abs(f).max(), np.abs(g).max())
    assert abs(result.dual_gap) <= bound + 10 * scale
