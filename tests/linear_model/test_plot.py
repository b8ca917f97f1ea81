"""The displays show what they were given."""

import matplotlib as mpl
import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sparsestat.linear_model import (
    CVDisplay,
    ElasticNetCV,
    Lasso,
    LassoCV,
    RegularizationPathDisplay,
    lasso_path,
)

mpl.use("Agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 12))
    return X, X[:, :3] @ [2.0, -1.0, 0.5] + 0.5 * rng.standard_normal(60)


def test_path_of_an_estimator(data):
    pd = pytest.importorskip("pandas")
    X, y = data
    frame = pd.DataFrame(X, columns=[f"name {j}" for j in range(12)])
    model = LassoCV(alphas=20).fit(frame, y)
    display = RegularizationPathDisplay.from_estimator(model, max_labels=3)
    assert len(display.lines_) == np.any(model.coef_path_ != 0, axis=1).sum()
    first = np.argmax(np.abs(model.coef_))
    np.testing.assert_array_equal(display.lines_[0].get_ydata(), model.coef_path_[first])
    np.testing.assert_array_equal(display.lines_[0].get_xdata(), model.alphas_)
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels[0] == f"name {first}" and labels[-1] == "chosen alpha" and len(labels) == 4
    left, right = display.ax_.get_xlim()
    assert left > right and display.ax_.get_xscale() == "log"


def test_path_of_the_function(data):
    import matplotlib.pyplot as plt

    X, y = data
    alphas, coefs, _ = lasso_path(X, y, alphas=15)
    _, ax = plt.subplots()
    display = RegularizationPathDisplay.from_path(alphas, sparse.csc_array(coefs), ax=ax)
    assert display.ax_ is ax and display.figure_ is ax.figure
    order = np.argsort(-np.abs(coefs).max(axis=1))
    np.testing.assert_array_equal(display.lines_[0].get_ydata(), coefs[order[0]])
    assert display.ax_.get_legend().get_texts()[0].get_text() == f"x{order[0]}"


def test_path_without_any_coefficient():
    display = RegularizationPathDisplay.from_path([1.0, 0.5], np.zeros((3, 2)))
    assert display.lines_ == [] and display.ax_.get_legend() is None


@pytest.mark.parametrize("ratio", [0.5, [0.3, 1.0]])
def test_errors_of_a_search(data, ratio):
    model = ElasticNetCV(l1_ratio=ratio, alphas=15, cv=4).fit(*data)
    display = CVDisplay.from_estimator(model)
    row = 0 if np.ndim(ratio) == 0 else ratio.index(model.l1_ratio_)
    errors = model.mse_path_ if np.ndim(ratio) == 0 else model.mse_path_[row]
    np.testing.assert_allclose(display.line_.get_ydata(), errors.mean(axis=1))
    assert len(display.ax_.collections) == 1
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert "chosen alpha" in texts and "± 1 standard error" in texts
    assert RegularizationPathDisplay.from_estimator(model).alpha == model.alpha_


def test_values_of_a_criterion(data):
    model = LassoCV(criterion="bic", alphas=15).fit(*data)
    display = CVDisplay.from_estimator(model)
    np.testing.assert_array_equal(display.line_.get_ydata(), model.criterion_path_)
    assert display.ax_.get_ylabel() == "BIC" and len(display.ax_.collections) == 0


def test_folds_without_weight_are_not_shown(data):
    X, y = data
    weights = np.r_[np.zeros(15), np.ones(45)]
    model = LassoCV(alphas=8, cv=4).fit(X, y, weights)
    line = CVDisplay.from_estimator(model).line_
    expected = model.mse_path_[:, 1:].mean(axis=1)
    np.testing.assert_allclose(line.get_ydata(), expected)


@pytest.mark.parametrize("display", [CVDisplay, RegularizationPathDisplay])
def test_an_estimator_must_be_fitted(display):
    with pytest.raises(NotFittedError):
        display.from_estimator(LassoCV())


@pytest.mark.parametrize("display", [CVDisplay, RegularizationPathDisplay])
def test_what_has_no_path_is_refused_with_advice(data, display):
    pipeline = make_pipeline(StandardScaler(), LassoCV(alphas=3, cv=2)).fit(*data)
    with pytest.raises(TypeError, match=r"pass its last step, estimator\[-1\]"):
        display.from_estimator(pipeline)
    with pytest.raises(TypeError, match="Lasso has a single penalty strength"):
        display.from_estimator(Lasso(0.1).fit(*data))


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"coefs must have shape \(n_features, 2\)"):
        RegularizationPathDisplay.from_path([1.0, 0.5], np.zeros((2, 3)))
    with pytest.raises(ValueError, match="feature_names must have 3 entries, got 1"):
        RegularizationPathDisplay.from_path([1.0, 0.5], np.ones((3, 2)), feature_names=["a"])
