"""The displays show what they were given."""

import matplotlib as mpl
import numpy as np
import pytest
from scipy.stats import norm
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sparsestat.privacy import (
    LabelLDPRegressor,
    LDPCoefficientDisplay,
    LDPCVDisplay,
    LDPIHTClassifier,
    LDPIHTRegressor,
    LDPPathDisplay,
    LDPSparseRegressor,
    LDPSparseRegressorCV,
    SupportStabilityDisplay,
    ldp_coef_path,
    support_stability,
)

mpl.use("Agg")
SCALE = np.array([1.0, 2.0, 0.5, 4.0, 1.0, 1.0])
NAMES = [f"name {j}" for j in range(6)]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((50_000, 6))
    y = Z @ [0.7, -0.6, 0.0, 0.0, 0.2, 0.0] + 0.3 * rng.standard_normal(len(Z))
    return Z * SCALE, 3.0 * y


@pytest.fixture(scope="module")
def model(data):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(data[0], columns=NAMES)
    model = LDPSparseRegressor(
        4.0, feature_scale=SCALE, y_scale=3.0, fit_intercept=True, random_state=1
    )
    return model.fit(frame, data[1])


@pytest.fixture(scope="module")
def search(data):
    return LDPSparseRegressorCV(
        4.0, feature_scale=SCALE, y_scale=3.0, selection="1se", random_state=1
    ).fit(*data)


def save(display, folder):
    path = folder / "figure.png"
    display.figure_.savefig(path, dpi=50)
    picture = mpl.image.imread(path)
    # Something is drawn, not a blank page.
    assert picture.shape[0] > 50 and picture[..., :3].std() > 0.01


def names_of(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_coefficients(model, tmp_path):
    display = LDPCoefficientDisplay.from_estimator(model, significance_level=0.1)
    np.testing.assert_array_equal(display.points_.get_xdata(), model.coef_)
    half = norm.ppf(0.95) * model.coef_std_error_
    known = np.flatnonzero(model.support_)
    assert 0 < known.size < 6
    segments = np.array(display.intervals_.get_segments())
    np.testing.assert_allclose(segments[:, 0, 0], (model.coef_ - half)[known])
    np.testing.assert_allclose(segments[:, 1, 0], (model.coef_ + half)[known])
    np.testing.assert_array_equal(segments[:, :, 1], np.repeat(known[:, None], 2, axis=1))
    # A coefficient in public units times y_scale over feature_scale is one of the data.
    widths = model.threshold_[1:] * 3.0 / SCALE
    np.testing.assert_allclose([bar.get_x() for bar in display.bands_], -widths)
    np.testing.assert_allclose([bar.get_width() for bar in display.bands_], 2 * widths)
    assert names_of(display.ax_.yaxis) == NAMES
    assert display.ax_.get_xlabel() == "coefficient, with 90% interval"
    top, bottom = display.ax_.get_ylim()
    assert top > bottom
    save(display, tmp_path)


def test_the_largest_coefficients(model):
    import matplotlib.pyplot as plt

    _, ax = plt.subplots()
    display = LDPCoefficientDisplay.from_estimator(model, max_features=2, ax=ax)
    assert display.ax_ is ax and display.figure_ is ax.figure
    largest = np.sort(np.argsort(-np.abs(model.coef_))[:2])
    np.testing.assert_array_equal(display.rows_, largest)
    assert names_of(ax.yaxis) == [NAMES[j] for j in largest]


def test_bands_without_end_fill_the_figure(tmp_path):
    display = LDPCoefficientDisplay(
        coefs=[0.5, 0.0], std_errors=[0.1, np.nan], thresholds=[0.2, np.inf]
    ).plot()
    left, right = display.ax_.get_xlim()
    assert -left == right == pytest.approx(1.08 * (0.5 + norm.ppf(0.975) * 0.1))
    assert display.bands_[1].get_width() == pytest.approx(right - left)
    assert display.bands_[0].get_width() == pytest.approx(0.4)
    save(display, tmp_path)


def test_coefficients_without_any_scale(tmp_path):
    display = LDPCoefficientDisplay(coefs=[0.0], std_errors=[np.nan], thresholds=[np.inf]).plot()
    assert display.ax_.get_xlim() == (-1.0, 1.0)
    save(display, tmp_path)


@pytest.mark.parametrize(
    "estimator",
    [
        LDPIHTRegressor(4.0, n_nonzero=2, random_state=0),
        LabelLDPRegressor(4.0, random_state=0),
        LDPSparseRegressor(1.0, delta=1e-5, paper_constants=True, random_state=0),
    ],
)
def test_coefficients_of_other_estimators(data, estimator, tmp_path):
    estimator.fit(data[0][:20_000] / SCALE, data[1][:20_000] / 3.0)
    display = LDPCoefficientDisplay.from_estimator(estimator)
    np.testing.assert_array_equal(display.points_.get_xdata(), estimator.coef_)
    known = np.isfinite(estimator.coef_std_error_)
    assert len(display.intervals_.get_segments()) == known.sum()
    assert names_of(display.ax_.yaxis) == [f"x{j}" for j in range(6)]
    save(display, tmp_path)


def test_coefficients_of_two_classes(data):
    X, y = data[0][:20_000] / SCALE, data[1][:20_000] > 0
    classifier = LDPIHTClassifier(4.0, n_nonzero=2, random_state=0).fit(X, y)
    display = LDPCoefficientDisplay.from_estimator(classifier)
    np.testing.assert_array_equal(display.points_.get_xdata(), classifier.coef_.ravel())


def test_path(model, tmp_path):
    display = LDPPathDisplay.from_estimator(model, n_alphas=20, max_labels=2)
    path = ldp_coef_path(model, n_alphas=20)
    assert len(display.lines_) == np.any(path.coefs != 0, axis=1).sum()
    at_noise = path.coefs[:, np.argmin(np.abs(np.log(path.alphas / path.alpha_noise)))]
    first = np.argmax(np.abs(at_noise))
    np.testing.assert_array_equal(display.lines_[0].get_ydata(), path.coefs[first])
    np.testing.assert_array_equal(display.lines_[0].get_xdata(), path.alphas)
    np.testing.assert_array_equal(display.mark_.get_xdata(), [path.alpha_noise] * 2)
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert len(labels) == 3 and labels[0] == NAMES[first]
    assert labels[-1] == "level of the known noise"
    left, right = display.ax_.get_xlim()
    assert left > right and display.ax_.get_xscale() == "log"
    save(display, tmp_path)


def test_path_of_a_state(model):
    display = LDPPathDisplay.from_estimator(model.aggregator_, alphas=[0.2, 0.1])
    assert display.alphas.tolist() == [0.2, 0.1] and display.feature_names is None


def test_path_without_any_coefficient_or_mark():
    display = LDPPathDisplay(alphas=[1.0, 0.5], coefs=np.zeros((3, 2))).plot()
    assert display.lines_ == [] and display.mark_ is None and display.ax_.get_legend() is None


def test_stability(model, tmp_path):
    display = SupportStabilityDisplay.from_estimator(model, n_draws=30, random_state=2)
    expected = support_stability(model, 30, 2)
    np.testing.assert_array_equal([bar.get_width() for bar in display.bars_], expected)
    dark = [bar.get_facecolor() == display.bars_[0].get_facecolor() for bar in display.bars_]
    assert model.support_[0] and dark == model.support_.tolist()
    assert names_of(display.ax_.yaxis) == NAMES
    save(display, tmp_path)
    fewer = SupportStabilityDisplay(frequencies=[0.1, 0.9, 0.5]).plot(max_features=2)
    assert fewer.rows_.tolist() == [1, 2] and fewer.ax_.get_legend() is None


def test_scores_against_a_number(search, tmp_path):
    display = LDPCVDisplay.from_estimator(search)
    results = search.cv_results_
    np.testing.assert_array_equal(display.line_.get_xdata(), np.arange(1, 7))
    np.testing.assert_array_equal(display.line_.get_ydata(), results["mean_score"])
    (band,) = display.ax_.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.max() == pytest.approx(np.max(results["mean_score"] + results["std_error"]))
    assert heights.min() == pytest.approx(np.min(results["mean_score"] - results["std_error"]))
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert f"chosen: {search.best_params_['n_nonzero']}" in texts
    assert display.ax_.get_xlabel() == "n_nonzero"
    save(display, tmp_path)


def test_scores_of_unsorted_strengths():
    candidates = [{"alpha": a} for a in (0.1, 0.001, 0.01)]
    display = LDPCVDisplay(candidates=candidates, scores=[3.0, 1.0, 2.0]).plot()
    np.testing.assert_array_equal(display.line_.get_xdata(), [0.001, 0.01, 0.1])
    np.testing.assert_array_equal(display.line_.get_ydata(), [1.0, 2.0, 3.0])
    assert display.ax_.get_xscale() == "log" and display.ax_.get_legend() is None


def test_scores_of_mixed_candidates(data, tmp_path):
    grid = {"solver": ["matching_pursuit", "corrected_lasso"], "alpha": ["auto", 0.1]}
    search = LDPSparseRegressorCV(4.0, param_grid=grid, random_state=1)
    search.fit(data[0] / SCALE, data[1] / 3.0)
    display = LDPCVDisplay.from_estimator(search)
    order = np.argsort(search.cv_results_["mean_score"])
    np.testing.assert_array_equal(display.order_, order)
    scores = search.cv_results_["mean_score"][order]
    np.testing.assert_array_equal(display.line_.get_xdata(), scores)
    labels = display.ax_.get_yticklabels()
    best = search.best_params_
    assert labels[0].get_text() == f"alpha={best['alpha']}, solver={best['solver']}"
    assert [label.get_fontweight() for label in labels] == ["bold"] + ["normal"] * 3
    save(display, tmp_path)


DISPLAYS = [LDPCoefficientDisplay, LDPPathDisplay, SupportStabilityDisplay, LDPCVDisplay]


@pytest.mark.parametrize("display", DISPLAYS)
def test_what_cannot_be_shown_is_refused_with_advice(display, model):
    with pytest.raises(NotFittedError):
        display.from_estimator(LDPSparseRegressor())
    pipeline = make_pipeline(FunctionTransformer(), LDPSparseRegressor())
    with pytest.raises(TypeError, match=r"pass its last step, estimator\[-1\]"):
        display.from_estimator(pipeline)
    if display is LDPCVDisplay:
        with pytest.raises(TypeError, match="no cv_results_; fit LDPSparseRegressorCV"):
            display.from_estimator(model)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"std_errors must have shape \(2,\), got \(1,\)"):
        LDPCoefficientDisplay(coefs=[1.0, 2.0], std_errors=[1.0]).plot()
    with pytest.raises(ValueError, match=r"significance_level must be in \(0, 1\), got 1"):
        LDPCoefficientDisplay(coefs=[1.0], std_errors=[1.0], significance_level=1).plot()
    with pytest.raises(ValueError, match=r"coefs must have shape \(n_features, 2\)"):
        LDPPathDisplay(alphas=[1.0, 0.5], coefs=np.zeros((2, 3))).plot()
    with pytest.raises(ValueError, match="feature_names must have 3 entries, got 1"):
        SupportStabilityDisplay(frequencies=np.ones(3), feature_names=["a"]).plot()
    with pytest.raises(ValueError, match=r"support must have shape \(3,\), got \(2,\)"):
        SupportStabilityDisplay(frequencies=np.ones(3), support=[True, False]).plot()
    with pytest.raises(ValueError, match=r"scores must have shape \(2,\)"):
        LDPCVDisplay(candidates=[{}, {}], scores=[1.0]).plot()
