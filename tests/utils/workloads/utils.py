"""Compile what the shared kernels are used for."""

import numpy as np

from sparsestat.utils._kernels import exp_inplace, exp_rows

for dtype in (np.float64, np.float32):
    exp_inplace(np.zeros(3, dtype=dtype))
    exp_rows(np.zeros((2, 3), dtype=dtype), np.empty((2, 3), dtype=dtype))
