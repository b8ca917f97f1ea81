"""The display draws what the fits noted."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sparsestat.linear_model import Lasso
from sparsestat.linear_model._bcd_regressor import BCDRegressor
from sparsestat.linear_model._plot_bcd import BlockDescentDisplay

from ._witness import make_data


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def fits():
    X, y = make_data(40, 20)
    return {
        rule: BCDRegressor(
            0.1, rule=rule, update="pg", block_size=3, track=True, random_state=0
        ).fit(X, y)
        for rule in ("gsq", "random")
    }


@pytest.mark.parametrize("against", ["iterations", "work"])
def test_lines(against):
    models = fits()
    display = BlockDescentDisplay.from_estimators(models, against=against)
    best = min(model.history_.objective.min() for model in models.values())
    assert display.minimum == best
    for line, model in zip(display.lines_, models.values(), strict=True):
        places, excess = line.get_data()
        history = model.history_
        expected = np.arange(len(history.objective)) if against == "iterations" else history.work
        assert len(places) > 0.5 * len(expected)
        assert_array_equal(places, expected[: len(places)])
        assert_allclose(excess, history.objective[: len(places)] - best, atol=1e-13)
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == list(models)
    label = {"iterations": "iterations", "work": "multiplications"}[against]
    assert display.ax_.get_xlabel() == label
    assert display.ax_.get_yscale() == "log"


def test_one_estimator_and_given_axes():
    model = fits()["gsq"]
    _, ax = plt.subplots()
    display = BlockDescentDisplay.from_estimator(model, ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is ax.figure
    assert display.names == ["variable, gsq, pg"]
    assert BlockDescentDisplay.from_estimator(model, name="best").names == ["best"]
    assert "iterations, objective" in repr(model.history_)
    lower = BlockDescentDisplay.from_estimators({"a": model}, minimum=0.0)
    assert_array_equal(lower.lines_[0].get_ydata(), model.history_.objective)


def test_refusals():
    X, y = make_data(20, 4)
    with pytest.raises(TypeError, match="track=True"):
        BlockDescentDisplay.from_estimator(BCDRegressor(0.1).fit(X, y))
    with pytest.raises(TypeError, match="track=True"):
        BlockDescentDisplay.from_estimator(Lasso(0.1).fit(X, y))
    with pytest.raises(TypeError, match="at least one"):
        BlockDescentDisplay.from_estimators({})
    with pytest.raises(NotFittedError):
        BlockDescentDisplay.from_estimator(BCDRegressor())
    pipeline = make_pipeline(StandardScaler(), BCDRegressor(0.1, track=True)).fit(X, y)
    with pytest.raises(TypeError, match="last step"):
        BlockDescentDisplay.from_estimator(pipeline)
    with pytest.raises(ValueError, match="'iterations', 'work' or 'time'"):
        BlockDescentDisplay.from_estimator(pipeline[-1], against="seconds")


def test_time():
    X, y = make_data(40, 20)
    models = {
        rule: BCDRegressor(0.1, rule=rule, update="pg", block_size=3, random_state=0)
        for rule in ("gsq", "random")
    }
    display = BlockDescentDisplay.from_timed_fits(models, X, y)
    assert not any(hasattr(model, "coef_") or model.track for model in models.values())
    for history, seconds, model in zip(display.histories, display.seconds, fits().values()):
        assert_array_equal(history.objective, model.history_.objective)
        assert seconds.shape == history.objective.shape
        assert seconds[0] > 0.0
        assert np.all(np.diff(seconds) > 0.0)
    for line, seconds in zip(display.lines_, display.seconds):
        assert_array_equal(line.get_xdata(), seconds[: len(line.get_xdata())])
    assert display.ax_.get_xlabel() == "seconds"
    assert display.plot(against="work").ax_.get_xlabel() == "multiplications"
    weights = np.arange(40) % 3
    weighted = BlockDescentDisplay.from_timed_fits(
        models, X, y, sample_weight=weights, against="iterations", minimum=0.0
    )
    expected = BCDRegressor(0.1, rule="gsq", update="pg", block_size=3, track=True)
    expected.fit(X, y, sample_weight=weights)
    assert_array_equal(weighted.lines_[0].get_ydata(), expected.history_.objective)


def test_no_fitted_attribute_holds_seconds():
    X, y = make_data(20, 4)
    model = BCDRegressor(0.1, track=True).fit(X, y)
    assert not any("time" in name or "second" in name or "clock" in name for name in vars(model))
    with pytest.raises(ValueError, match="from_timed_fits"):
        BlockDescentDisplay.from_estimator(model, against="time")
    with pytest.raises(TypeError, match="must be BCDRegressor, got a Lasso"):
        BlockDescentDisplay.from_timed_fits({"lasso": Lasso(0.1)}, X, y)
    with pytest.raises(TypeError, match="at least one"):
        BlockDescentDisplay.from_timed_fits({}, X, y)


def test_only_values_of_one_objective_are_compared():
    X, y = make_data(20, 4)
    one, other = (BCDRegressor(alpha, track=True).fit(X, y) for alpha in (0.1, 0.2))
    with pytest.raises(ValueError, match=r"same objective, got alpha=0.1 and alpha=0.2"):
        BlockDescentDisplay.from_estimators({"one": one, "other": other})
    with pytest.raises(ValueError, match=r"same objective, got alpha=0.1 and alpha=0.2"):
        BlockDescentDisplay.from_timed_fits({"one": one, "other": other}, X, y)
    for minimum in (1e9, "a", np.nan):
        with pytest.raises(ValueError, match="minimum must be a number not above"):
            BlockDescentDisplay.from_estimators({"one": one}, minimum=minimum)


def test_a_line_that_ends_at_the_minimum_goes_down_to_rounding():
    X, y = make_data(40, 20)
    model = BCDRegressor(0.1, block_size=20, tol=1e-13, track=True).fit(X, y)
    (line,) = BlockDescentDisplay.from_estimator(model).lines_
    excess = line.get_ydata()
    assert excess[-1] < 1e-14 * model.history_.objective[0]
    assert np.all(excess > 0.0) and np.all(np.diff(excess) < 0.0)
