"""The display of the number of probes shows what the folds said."""

import matplotlib as mpl
import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sparsestat.datasets._ill_conditioned import make_ill_conditioned_regression
from sparsestat.linear_model import CVDisplay, Lasso
from sparsestat.linear_model._plot_probes import ProbesDisplay
from sparsestat.linear_model._random_support_regressor import RandomSupportRegressor

mpl.use("Agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


@pytest.fixture(scope="module")
def data():
    generated = make_ill_conditioned_regression(80, 60, 4, random_state=0)
    return generated.data, generated.target


@pytest.fixture(scope="module")
def model(data):
    return RandomSupportRegressor(n_alphas=10, random_state=0).fit(*data)


def test_errors_are_those_of_the_search(model):
    import matplotlib.pyplot as plt

    _, ax = plt.subplots()
    display = ProbesDisplay.from_estimator(model, ax=ax)
    assert display.ax_ is ax and display.figure_ is ax.figure
    results = model.cv_results_
    for kind, line in display.lines_.items():
        counts, scores = line.get_data()
        np.testing.assert_array_equal(counts, np.unique(results["n_probes"]))
        for count, score in zip(counts, scores):
            of_count = (results["n_probes"] == count) & (results["refit"] == kind)
            assert score == results["mean"][of_count].min()
            at = np.flatnonzero(of_count)[np.argmin(results["mean"][of_count])]
            errors = display.standard_errors[kind][counts == count]
            assert errors == results["std"][at]
    assert set(display.lines_) == {"none", "ebic"}
    (count,), (score,) = display.chosen_line_.get_data()
    assert (count, score) == (model.n_probes_, model.cv_score_)
    assert set(display.lasso_line_.get_ydata()) == {model.plain_lasso_score_}
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "chosen" in labels and "Lasso, no probes" in labels


def test_without_zero_there_is_no_line_of_the_lasso(data):
    model = RandomSupportRegressor([3, 9], n_alphas=5, refit=None, random_state=0).fit(*data)
    display = ProbesDisplay.from_estimator(model)
    assert display.lasso_line_ is None and set(display.lines_) == {"none"}


def test_what_cannot_be_plotted_is_refused(data):
    single = RandomSupportRegressor(3, 0.1, refit=None, random_state=0).fit(*data)
    with pytest.raises(ValueError, match="cross-validation had nothing to choose"):
        ProbesDisplay.from_estimator(single)
    with pytest.raises(TypeError, match="Lasso has no number of probes"):
        ProbesDisplay.from_estimator(Lasso().fit(*data))
    with pytest.raises(TypeError, match="pass its last step"):
        ProbesDisplay.from_estimator(make_pipeline(StandardScaler(), Lasso()).fit(*data))
    with pytest.raises(TypeError, match="ProbesDisplay shows the search"):
        CVDisplay.from_estimator(single)
    with pytest.raises(NotFittedError):
        ProbesDisplay.from_estimator(RandomSupportRegressor())
