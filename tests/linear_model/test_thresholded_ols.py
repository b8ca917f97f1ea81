"""Thresholded least squares against other programs, formulas and simulations."""

import math
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import sparse, stats

from sparsestat.datasets import make_sparse_regression
from sparsestat.linear_model import ThresholdedOLS
from sparsestat.linear_model._closed_form import (
    SAFE,
    is_safe,
    least_squares,
    safe_threshold,
    shrink_correlations,
)
from sparsestat.utils import GramAccumulator

N_SIGMA = 5.0
"""Deviations allowed, in standard deviations of the Monte-Carlo error."""


def correlated_data(n_samples=80, n_features=6, seed=0):
    """Columns of different scales, away from the origin and correlated."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_samples, n_features)) + rng.standard_normal((n_samples, 1))
    X = X * 10.0 ** rng.uniform(-2, 3, n_features) + rng.uniform(-50, 50, n_features)
    y = 3.0 + X[:, 0] / X[:, 0].std() + rng.standard_normal(n_samples)
    return X, y, rng.integers(0, 4, n_samples).astype(float)


# --- more rows than features -------------------------------------------------------------


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_least_squares_of_statsmodels(fit_intercept):
    X, y, weights = correlated_data()
    rows = np.repeat(np.arange(len(X)), weights.astype(int))
    design = sm.add_constant(X[rows]) if fit_intercept else X[rows]
    theirs = sm.OLS(y[rows], design).fit()
    coefs = slice(1, None) if fit_intercept else slice(None)
    ours = ThresholdedOLS(fit_intercept=fit_intercept).fit(X, y, sample_weight=weights)
    np.testing.assert_allclose(ours.coef_raw_, theirs.params[coefs], rtol=1e-8)
    assert ours.noise_scale_ == pytest.approx(math.sqrt(theirs.mse_resid), rel=1e-9)
    # The universal threshold in standard errors.
    expected = theirs.bse[coefs] * math.sqrt(2 * math.log(X.shape[1]))
    np.testing.assert_allclose(ours.threshold_, expected, rtol=1e-9)
    assert ours.rank_ == X.shape[1] and ours.cov_threshold_ == 0.0
    everything = ThresholdedOLS(0, fit_intercept=fit_intercept).fit(X, y, sample_weight=weights)
    np.testing.assert_allclose(everything.predict(X[rows]), theirs.fittedvalues, rtol=1e-9)
    assert np.all(everything.support_)


@pytest.mark.parametrize("alpha", ["auto", 0.05])
def test_hard_and_soft_thresholds(alpha):
    X, y, _ = correlated_data(seed=1)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    hard, soft = (ThresholdedOLS(alpha, penalty=kind).fit(X, y) for kind in ("hard", "soft"))
    raw, limit = hard.coef_raw_, hard.threshold_
    np.testing.assert_array_equal(soft.coef_raw_, raw)
    if alpha != "auto":
        np.testing.assert_allclose(limit, alpha, rtol=1e-12)
    assert 0 < np.sum(np.abs(raw) > limit) < len(raw)
    np.testing.assert_array_equal(hard.support_, np.abs(raw) > limit)
    np.testing.assert_array_equal(hard.support_, soft.support_)
    np.testing.assert_array_equal(hard.coef_, raw * hard.support_)
    np.testing.assert_allclose(soft.coef_, np.sign(raw) * np.maximum(np.abs(raw) - limit, 0))
    for model in (hard, soft):
        # Whatever the coefficients are, the intercept fits the means.
        assert model.predict(X).mean() == pytest.approx(y.mean())


def risk(n_features, n_nonzero, penalty):
    """Mean squared error times n / sigma^2 of thresholded normal coefficients.

    Coefficients far above the threshold t = sqrt(2 log p) keep their variance, to which soft
    thresholds add t^2; the others contribute E[Z^2; |Z| > t] or E[(|Z| - t)_+^2].
    """
    t = math.sqrt(2 * math.log(n_features))
    density, tail = stats.norm.pdf(t), stats.norm.sf(t)
    if penalty == "hard":
        large, small = 1.0, 2 * (t * density + tail)
    else:
        large, small = 1.0 + t**2, 2 * ((1 + t**2) * tail - t * density)
    return n_nonzero * large + (n_features - n_nonzero) * small


@pytest.mark.parametrize("penalty", ["hard", "soft"])
def test_the_error_falls_at_the_rate_of_the_theory(penalty):
    """The mean squared error is sigma^2 k log(d) / n in order, and here known with its constant."""
    n_repeats, n_features, n_nonzero = 120, 15, 3
    for n_samples in (500, 4000):
        losses = []
        for seed in range(n_repeats):
            data = make_sparse_regression(n_samples, n_features, n_nonzero, random_state=seed)
            model = ThresholdedOLS(penalty=penalty).fit(data.data, data.target)
            losses.append(np.sum((model.coef_ - data.coef) ** 2) * n_samples / 0.5**2)
        # The variance of a coefficient is sigma^2 / (n - d - 2) for a Gaussian design.
        expected = risk(n_features, n_nonzero, penalty) * n_samples / (n_samples - n_features - 2)
        error = np.std(losses, ddof=1) / math.sqrt(n_repeats)
        assert abs(np.mean(losses) - expected) <= N_SIGMA * error
        assert N_SIGMA * error < 0.5 * expected


def test_support_and_signs_are_found():
    # The smallest coefficient, 0.5, has 22 standard errors, of which the threshold takes 2.8.
    # A coefficient that is zero exceeds it with probability 0.0056: 46 of them per repeat.
    wrong = 0
    for seed in range(20):
        data = make_sparse_regression(600, 50, 4, design="ar", random_state=seed)
        model = ThresholdedOLS().fit(data.data, data.target)
        kept = data.support
        np.testing.assert_array_equal(np.sign(model.coef_[kept]), np.sign(data.coef[kept]))
        wrong += model.support_.sum() - len(kept)
    expected = 20 * 46 * 2 * stats.norm.sf(math.sqrt(2 * math.log(50)))
    # Overdispersed a little by the correlation of neighbours, for which twice the variance.
    assert wrong <= expected + N_SIGMA * math.sqrt(2 * expected)


def test_noise_scale_is_unbiased():
    squares = [
        ThresholdedOLS().fit(data.data, data.target).noise_scale_ ** 2
        for data in (make_sparse_regression(60, 20, noise=2.0, random_state=s) for s in range(200))
    ]
    # (n - d - 1) s^2 / sigma^2 has a chi-squared distribution with n - d - 1 = 39 degrees.
    assert abs(np.mean(squares) - 4.0) <= N_SIGMA * 4.0 * math.sqrt(2 / 39 / 200)


# --- as few rows as features, or fewer ---------------------------------------------------


def elementary(X, y, cov_threshold):
    """Entry by entry, in the user's units."""
    n, d = X.shape
    S = np.cov(X, rowvar=False, ddof=0)
    T = S.copy()
    for i in range(d):
        for j in range(d):
            if i != j:
                level = cov_threshold * math.sqrt(S[i, i] * S[j, j])
                T[i, j] = math.copysign(max(abs(S[i, j]) - level, 0.0), S[i, j])
    inverse = np.linalg.inv(T)
    raw = inverse @ ((X - X.mean(axis=0)).T @ (y - y.mean()) / n)
    scale = np.std(y, ddof=1)
    return raw, scale * np.sqrt(2 * math.log(d) * np.diag(inverse) / n)


@pytest.mark.parametrize(
    ("shape", "cov_threshold"), [((40, 60), "auto"), ((40, 60), 0.6), ((90, 20), 0.3)]
)
def test_elementary_estimator_of_the_formula(shape, cov_threshold):
    X, y, _ = correlated_data(*shape)
    X = X + np.linspace(0, 2, shape[0])[:, None] * X.std(axis=0)
    model = ThresholdedOLS(cov_threshold=cov_threshold).fit(X, y)
    if cov_threshold == "auto":
        assert model.cov_threshold_ >= 2 * math.sqrt(math.log(shape[1]) / shape[0])
    else:
        assert model.cov_threshold_ == cov_threshold
    raw, threshold = elementary(X, y, model.cov_threshold_)
    np.testing.assert_allclose(model.coef_raw_, raw, rtol=1e-8)
    np.testing.assert_allclose(model.threshold_, threshold, rtol=1e-8)
    assert model.noise_scale_ == pytest.approx(np.std(y, ddof=1))
    assert model.rank_ == shape[1]


def correlations(kind, seed):
    rng = np.random.default_rng(seed)
    n, d = rng.integers(5, 30), rng.integers(30, 60)
    X = rng.standard_normal((n, d))
    if kind == "common":
        X += 1.5 * rng.standard_normal((n, 1))
    elif kind == "chain":
        for j in range(1, d):
            X[:, j] = 0.6 * X[:, j - 1] + 0.8 * X[:, j]
    R = np.corrcoef(X, rowvar=False)
    return 0.5 * (R + R.T)


@pytest.mark.parametrize("kind", ["independent", "common", "chain"])
@pytest.mark.parametrize("seed", range(4))
def test_smallest_safe_threshold_of_a_scan(kind, seed):
    R = correlations(kind, seed)
    largest = np.abs(np.triu(R, 1)).max()
    grid = np.linspace(0, largest, 200)
    safe = [np.linalg.eigvalsh(shrink_correlations(R, t))[0] >= SAFE for t in grid]
    first = int(np.argmax(safe))
    # Safe from some threshold on, though the smallest eigenvalue is not monotone.
    assert not safe[0] and all(safe[first:])
    found = safe_threshold(R, 0.0)
    assert np.linalg.eigvalsh(shrink_correlations(R, found))[0] >= SAFE * (1 - 1e-9)
    assert grid[first - 1] < found <= grid[first] + largest / 2**12
    # One that is safe already is not raised, and none exceeds the largest correlation.
    assert safe_threshold(R, grid[first]) == grid[first]
    assert safe_threshold(R, 1.0) == largest
    np.testing.assert_array_equal(shrink_correlations(R, largest), np.eye(len(R)))


def test_least_squares_of_a_singular_matrix():
    R = correlations("common", 0)
    assert not is_safe(R, 0.0)
    b = np.random.default_rng(0).standard_normal(len(R))
    solution = least_squares(R, b)
    inverse = np.linalg.pinv(R, rcond=1e-10, hermitian=True)
    np.testing.assert_allclose(solution.coef, inverse @ b, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(solution.variances, np.diag(inverse), rtol=1e-6)
    assert solution.rank == np.linalg.matrix_rank(R, tol=1e-10, hermitian=True) < len(R)


def test_with_few_rows_the_response_disturbs_the_coefficients():
    """Coefficients that are zero have the variance that the threshold says."""
    scores = []
    for seed in range(60):
        data = make_sparse_regression(50, 100, 3, random_state=seed)
        model = ThresholdedOLS().fit(data.data, data.target)
        deviation = model.threshold_ / math.sqrt(2 * math.log(100))
        scores.append((model.coef_raw_ / deviation)[data.coef == 0])
    # Mean square of 60 x 97 nearly uncorrelated scores whose squares have variance 2, and
    # 5 percent for the moments of 50 rows, which the derivation takes as known.
    assert abs(np.mean(np.square(scores)) - 1.0) <= 0.05 + N_SIGMA * math.sqrt(2 / 60 / 97)


@pytest.mark.parametrize("design", ["gaussian", "ar"])
def test_recovery_with_twice_as_many_features_as_rows(design):
    errors = []
    for seed in range(4):
        data = make_sparse_regression(200, 400, 3, design=design, random_state=seed)
        model = ThresholdedOLS().fit(data.data, data.target)
        kept = data.support
        np.testing.assert_array_equal(np.sign(model.coef_[kept]), np.sign(data.coef[kept]))
        assert model.support_.sum() <= len(kept) + 5
        errors.append(np.linalg.norm(model.coef_ - data.coef))
    # Three coefficients with variance (1.25 + 1 / 3) / n give 0.15, a few others the rest; zero
    # coefficients are off by one, and marginal regression of correlated features is by more.
    assert np.mean(errors) < 0.35


@pytest.mark.parametrize("n_samples", [80, 240])
def test_error_falls_at_the_rate_of_the_theory_with_few_rows(n_samples):
    losses = []
    for seed in range(100):
        data = make_sparse_regression(n_samples, 250, 2, random_state=seed)
        model = ThresholdedOLS().fit(data.data, data.target)
        losses.append(n_samples * np.sum((model.coef_ - data.coef)[data.support] ** 2))
    # With hardly a correlation left each feature is regressed alone: what it leaves of the
    # response has variance sigma^2 + 1/2, of which the coefficient has the share 1 / n.
    error = np.std(losses, ddof=1) / math.sqrt(len(losses))
    assert abs(np.mean(losses) - 2 * (0.25 + 0.5)) <= N_SIGMA * error
    assert N_SIGMA * error < 1.2


# --- awkward data ------------------------------------------------------------------------


def test_equal_columns_share_their_coefficient():
    X, y, _ = correlated_data()
    twice = np.column_stack([X, X[:, 0], 1e3 * X[:, 0]])
    one, both = ThresholdedOLS(0).fit(X, y), ThresholdedOLS(0).fit(twice, y)
    assert both.rank_ == one.rank_ == 6
    np.testing.assert_allclose(both.coef_[1:6], one.coef_[1:], rtol=1e-8)
    share = one.coef_[0] / 3
    np.testing.assert_allclose(both.coef_[[0, 6, 7]], [share, share, share / 1e3], rtol=1e-8)
    np.testing.assert_allclose(both.predict(twice), one.predict(X), rtol=1e-9)
    assert both.noise_scale_ == pytest.approx(one.noise_scale_, rel=1e-9)


def test_constant_columns_have_no_part():
    X, y, _ = correlated_data()
    wider = np.column_stack([np.full(len(X), 7.1), X, np.zeros(len(X))])
    one, other = ThresholdedOLS().fit(X, y), ThresholdedOLS().fit(wider, y)
    np.testing.assert_array_equal(other.coef_, np.r_[0.0, one.coef_, 0.0])
    np.testing.assert_array_equal(other.threshold_, np.r_[np.inf, one.threshold_, np.inf])
    assert other.intercept_ == one.intercept_
    nothing = ThresholdedOLS().fit(np.ones((5, 2)), [1.0, 2.0, 3.0, 4.0, 5.0])
    assert not np.any(nothing.coef_) and nothing.intercept_ == 3.0 and nothing.rank_ == 0


def test_units_do_not_matter():
    for shape in ((50, 6), (20, 30)):
        X, y, _ = correlated_data(*shape)
        scales = 10.0 ** np.linspace(-6, 6, shape[1])
        one, other = ThresholdedOLS().fit(X, y), ThresholdedOLS().fit(X * scales, 100 * y)
        np.testing.assert_array_equal(one.support_, other.support_)
        np.testing.assert_allclose(other.coef_ * scales / 100, one.coef_, rtol=1e-7)
        np.testing.assert_allclose(other.threshold_ * scales / 100, one.threshold_, rtol=1e-7)


def test_columns_far_from_zero():
    X, y, _ = correlated_data(200)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    near, far = ThresholdedOLS().fit(X, y), ThresholdedOLS().fit(X + 1e7, y + 1e7)
    # The numbers themselves lose 1e7 times the unit roundoff.
    np.testing.assert_allclose(far.coef_raw_, near.coef_raw_, atol=1e-7)
    np.testing.assert_array_equal(far.support_, near.support_)


def test_without_noise_rounding_errors_are_no_coefficients():
    for seed in range(5):
        data = make_sparse_regression(80, 30, noise=0.0, design="ar", random_state=seed)
        model = ThresholdedOLS().fit(data.data, data.target)
        np.testing.assert_array_equal(model.support_, data.coef != 0)
        np.testing.assert_allclose(model.coef_, data.coef, rtol=1e-10, atol=0)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_one_row(fit_intercept):
    model = ThresholdedOLS(fit_intercept=fit_intercept).fit([[1.0, -2.0, 0.0]], [3.0])
    assert np.all(np.isfinite(model.coef_)) and math.isfinite(model.noise_scale_)
    if fit_intercept:
        assert not np.any(model.support_) and model.intercept_ == 3.0
    else:
        # Nothing but the diagonal is left: each feature alone.
        np.testing.assert_allclose(model.coef_raw_, [3.0, -1.5, 0.0])


def test_one_feature():
    X, y, _ = correlated_data(30, 1)
    model = ThresholdedOLS().fit(X, y)
    # The largest of one coefficient needs no allowance: log(1) = 0.
    assert model.threshold_[0] == 0.0
    assert model.coef_[0] == pytest.approx(np.polyfit(X[:, 0], y, 1)[0])


def test_constant_response():
    X, _, _ = correlated_data()
    for data in (X, X[:4]):
        model = ThresholdedOLS().fit(data, np.full(len(data), 0.1))
        assert not np.any(model.support_)
        np.testing.assert_allclose(model.predict(data), 0.1)


def test_as_many_rows_as_features():
    X, y, _ = correlated_data(8, 8)
    for fit_intercept in (True, False):
        model = ThresholdedOLS(fit_intercept=fit_intercept).fit(X, y)
        assert model.cov_threshold_ > 0 and np.all(np.isfinite(model.threshold_))
    # One row more than unknowns: one degree of freedom for the noise.
    assert ThresholdedOLS().fit(*correlated_data(10, 8)[:2]).cov_threshold_ == 0.0


# --- forms of data -----------------------------------------------------------------------


def test_sparse_data_are_not_densified():
    rng = np.random.default_rng(0)
    X = sparse.random_array((100_000, 40), density=0.02, rng=rng, format="csr")
    y = X @ np.r_[np.ones(2), np.zeros(38)] + 0.1 * rng.standard_normal(100_000)
    tracemalloc.start()
    model = ThresholdedOLS().fit(X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.75 * 8 * X.shape[0] * X.shape[1]
    assert np.all(model.support_[:2])
    np.testing.assert_allclose(model.coef_, ThresholdedOLS().fit(X.toarray(), y).coef_, rtol=1e-9)


def test_cross_products_are_enough():
    for shape in ((60, 7), (20, 30)):
        X, y, weights = correlated_data(*shape)
        whole = ThresholdedOLS().fit(pd.DataFrame(X).add_prefix("x"), y, sample_weight=weights)
        first = GramAccumulator().update(X[:11], y[:11], weights[:11])
        rest = GramAccumulator().update(X[11:], y[11:], weights[11:])
        merged = ThresholdedOLS().fit_gram(first + rest)
        np.testing.assert_allclose(merged.coef_raw_, whole.coef_raw_, rtol=1e-8)
        np.testing.assert_allclose(merged.threshold_, whole.threshold_, rtol=1e-8)
        assert merged.intercept_ == pytest.approx(whole.intercept_)
        # A refit forgets names that it was not given.
        assert not hasattr(whole.fit_gram(first), "feature_names_in_")


def test_cross_products_that_are_none():
    X, y, _ = correlated_data()
    model = ThresholdedOLS().fit(X, y)
    expected = model.predict(X)
    for bad, message in (
        (X.T @ X, "moments must be a GramAccumulator, got ndarray"),
        (GramAccumulator().update(X, np.c_[y, y]), "exactly one response, got 2"),
        (GramAccumulator().update(X), "exactly one response, got 0"),
        (GramAccumulator(), "exactly one response, got 0"),
        (GramAccumulator().update(X, y, 0.0), "at least one row of positive weight"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            model.fit_gram(bad)
        np.testing.assert_array_equal(model.predict(X), expected)


def test_dask_collections():
    da, dd = pytest.importorskip("dask.array"), pytest.importorskip("dask.dataframe")
    X, y, weights = correlated_data(90)
    whole = ThresholdedOLS().fit(X, y, sample_weight=weights)
    model = ThresholdedOLS().fit(
        da.from_array(X, chunks=(20, 3)), da.from_array(y), da.from_array(weights)
    )
    np.testing.assert_allclose(model.coef_raw_, whole.coef_raw_, rtol=1e-9)
    assert model.noise_scale_ == pytest.approx(whole.noise_scale_)
    frame = dd.from_pandas(pd.DataFrame(X).add_prefix("x").assign(y=y), npartitions=3)
    names = [f"x{j}" for j in range(6)]
    named = ThresholdedOLS().fit(frame[names], frame["y"])
    assert list(named.feature_names_in_) == names
    np.testing.assert_allclose(named.coef_raw_, ThresholdedOLS().fit(X, y).coef_raw_, rtol=1e-9)


# --- callbacks ---------------------------------------------------------------------------


class Recorder:
    """Keep every iterate; ask to stop after some of them."""

    def __init__(self, stop_after=math.inf):
        self.stop_after = stop_after
        self.tasks = []
        self.iterates = []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, X, y, metadata, fitted_estimator):
        if context.parent is not None:
            self.tasks.append(context.task_name)
            self.iterates.append(fitted_estimator)
        return len(self.iterates) >= self.stop_after


def test_ticks_tell_the_steps():
    X, y, _ = correlated_data(40, 8)
    recorder = Recorder()
    model = ThresholdedOLS().set_callbacks(recorder).fit(X, y)
    assert recorder.tasks == ["linear system", "threshold of coefficients"]
    np.testing.assert_array_equal(recorder.iterates[0].coef_, model.coef_raw_)
    np.testing.assert_array_equal(recorder.iterates[1].coef_, model.coef_)


def test_a_search_can_be_stopped():
    X, y, _ = correlated_data(10, 30)
    finished = ThresholdedOLS(cov_threshold=0).fit(X, y)
    recorder = Recorder(stop_after=3)
    stopped = ThresholdedOLS(cov_threshold=0).set_callbacks(recorder).fit(X, y)
    assert recorder.tasks == ["threshold of correlations"] * 3 + [
        "linear system",
        "threshold of coefficients",
    ]
    # What it had by then is larger than needed, and safe.
    assert stopped.cov_threshold_ > finished.cov_threshold_
    assert is_safe(np.corrcoef(X, rowvar=False), stopped.cov_threshold_)
    # An iterate is the fit with the threshold of correlations that the search has reached.
    expected = ThresholdedOLS(0, cov_threshold=stopped.cov_threshold_).fit(X, y)
    np.testing.assert_allclose(recorder.iterates[2].coef_, expected.coef_, rtol=1e-9)
