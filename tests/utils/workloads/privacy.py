"""Compile what the clients' simulation and the server of a campaign are used for."""

import warnings

import numpy as np

from sparsestat.privacy._decode import decode_reports, project_moments, project_rows
from sparsestat.privacy._directions import direction_keys

# Interpreted, the arithmetic modulo 2**64 warns.
warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
n_reports, n_columns = 5, 3
nonces = rng.integers(0, 2**64, n_reports, dtype=np.uint64)
bits = rng.integers(0, 4, n_reports).astype(np.uint32)
keys = direction_keys(bytes(16), 0, 2)
X, y = rng.standard_normal((n_reports, n_columns)), rng.standard_normal(n_reports)
# As a file gives them: read-only, and every second one of a table.
columns = [
    (nonces, bits, X, y),
    [np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape) for a in (nonces, bits, X, y)],
    [np.repeat(a, 2, axis=0)[::2] for a in (nonces, bits, X, y)],
]
for nonce, mask, features, target in columns:
    for spherical in (False, True):
        for dim in (1, 9):
            decode_reports(nonce, mask, keys, dim, spherical=spherical, n_jobs=2)
        project_rows(features, nonce, keys, spherical=spherical)
        project_rows(features.astype(np.float32), nonce, keys, spherical=spherical)
        project_moments(features, target, nonce, keys, spherical=spherical)
