"""Moments with a declared noise, and draws of it that do not use the package."""

from dataclasses import replace

import numpy as np

from sparsestat.privacy._aggregator import NoisyMoments


def exact(S, b, sd_diag=0.0, sd_off=0.0, sd_b=0.0):
    return NoisyMoments(
        np.asarray(S, dtype=float), np.asarray(b, dtype=float), 1000, sd_diag, sd_off, sd_b
    )


def add_noise(moments, rng):
    """Noise of the deviations that the moments declare, entry by entry."""
    S, D = moments.S.copy(), len(moments.b)
    for i in range(D):
        S[i, i] += moments.sd_diag * rng.standard_normal()
        for j in range(i):
            S[i, j] += moments.sd_off * rng.standard_normal()
            S[j, i] = S[i, j]
    return replace(moments, S=S, b=moments.b + moments.sd_b * rng.standard_normal(D))


def random_gram(D, rng, unit_diagonal=False):
    A = rng.standard_normal((6 * D, D)) + 0.5 * rng.standard_normal((6 * D, 1))
    S = A.T @ A / len(A)
    scale = np.sqrt(np.diag(S)) if unit_diagonal else np.ones(D)
    return S / np.outer(scale, scale)


def autoregressive(D, rho=0.5):
    return rho ** np.abs(np.subtract.outer(np.arange(D), np.arange(D)))
