"""One source of random numbers, however it is named."""

import numpy as np
import pytest
from sklearn.utils import check_random_state

from sparsestat.utils._random import as_generator


def draws(random_state):
    return as_generator(random_state).random(3).tolist()


def test_a_generator_is_used_itself():
    rng = np.random.default_rng(0)
    assert as_generator(rng) is rng


def test_integers_seed():
    assert draws(3) == draws(np.int64(3)) == np.random.default_rng(3).random(3).tolist()
    assert draws(3) != draws(4)


def test_a_random_state_moves_on():
    state = np.random.RandomState(0)
    first = draws(state)
    assert draws(state) != first
    assert draws(np.random.RandomState(0)) == first


def test_none_is_the_global_state():
    check_random_state(None).seed(5)
    first = draws(None)
    assert draws(None) != first
    check_random_state(None).seed(5)
    assert draws(None) == first


def test_anything_else_is_refused():
    with pytest.raises(ValueError, match="'a' cannot be used to seed"):
        as_generator("a")
