"""One source of random numbers for every way of naming one."""

from numbers import Integral

import numpy as np
from sklearn.utils import check_random_state


def as_generator(random_state):
    """Turn a random state into a NumPy Generator.

    Parameters
    ----------
    random_state : int, RandomState instance, Generator or None
        A Generator comes back as it is, and an integer seeds one. From a RandomState a seed
        is drawn, so that it advances as scikit-learn's users expect; None stands for NumPy's
        global RandomState.

    Returns
    -------
    rng : numpy.random.Generator

    Raises
    ------
    ValueError
        For anything else.
    """
    if isinstance(random_state, np.random.Generator):
        return random_state
    if isinstance(random_state, Integral):
        return np.random.default_rng(int(random_state))
    state = check_random_state(random_state)
    return np.random.default_rng(state.randint(2**32, size=4, dtype=np.uint32))
