"""Private targets of public features: what a report says, and what is fitted to it."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso, LinearRegression
from sklearn.preprocessing import StandardScaler

from sparsestat.privacy import (
    IncompatibleReportsError,
    LabelLDPRegressor,
    LDPConfig,
    Randomizer,
    ReportBatch,
    SimulatedReportError,
    SimulationRandomizer,
)
from sparsestat.privacy._label import label_values

from ._campaigns import MECHANISMS, NAMES, Progress, records


def reports_of(model, X, y, seed=0):
    return SimulationRandomizer(model.config_, seed).randomize_batch(X, y)


# --- what a report says ------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["one_bit", "duchi"])
def test_one_bit_is_a_flipped_sign(mechanism):
    epsilon, bound, y, n = 1.5, 2.0, 0.8, 50_000
    config = LDPConfig("label", 3, epsilon, mechanism=mechanism, n_bits=1, y_bound=bound)
    batch = SimulationRandomizer(config, 0).randomize_batch(None, np.full(n, y))
    values = label_values(batch)
    size = bound / np.tanh(epsilon / 2)
    np.testing.assert_allclose(np.unique(values), [-size, size], rtol=1e-12)
    # Probability of the upper value: 1/2 + tanh(epsilon / 2) y / (2 bound).
    share = 0.5 + 0.5 * np.tanh(epsilon / 2) * y / bound
    found = np.mean(values > 0)
    assert found == pytest.approx(share, abs=4.5 * np.sqrt(share * (1 - share) / n))


@pytest.mark.parametrize("n_bits", [2, 5, 32])
def test_several_bits_are_a_binomial(n_bits):
    epsilon, bound, y, n = 8.0, 2.0, -1.1, 20_000
    config = LDPConfig("label", 1, epsilon, n_bits=n_bits, y_bound=bound)
    values = label_values(SimulationRandomizer(config, 0).randomize_batch(None, np.full(n, y)))
    flip = np.tanh(epsilon / n_bits / 2)
    size = bound / flip / n_bits
    up = (values / size + n_bits) / 2
    np.testing.assert_allclose(up, np.rint(up), atol=1e-9)
    share = 0.5 + 0.5 * flip * y / bound
    variance = n_bits * share * (1 - share)
    assert up.mean() == pytest.approx(n_bits * share, abs=4.5 * np.sqrt(variance / n))
    assert up.var() == pytest.approx(variance, rel=4.5 * np.sqrt(3 / n))


@pytest.mark.parametrize("settings", MECHANISMS, ids=NAMES)
def test_values_of_single_clients(settings):
    """Real clients and the units of the targets; a target beyond the bound is clipped."""
    config = LDPConfig("label", 1, y_bound=1.0, y_center=10.0, y_scale=5.0, **settings)
    for y, expected in ((12.0, 0.4), (1e9, 1.0), (np.nan, 0.0)):
        reports = [Randomizer(config, allow_float_noise=True).randomize(None, y)
                   if config.mechanism == "gaussian" else Randomizer(config).randomize(None, y)
                   for _ in range(400)]  # fmt: skip
        values = label_values(ReportBatch.from_reports(reports, config))
        assert values.mean() == pytest.approx(expected, abs=5 * config.noise_scale / 20)


def test_reports_do_not_depend_on_the_features(monkeypatch):
    from sparsestat.privacy import _label

    seen, real = [], _label.simulate_reports

    def spy(X, y, config, rng, **options):
        seen.append(real(X, y, config, rng, **options))
        return seen[-1]

    monkeypatch.setattr(_label, "simulate_reports", spy)
    X, y, _ = records(40)
    for features in (X, 1e6 * X[::-1]):
        LabelLDPRegressor(random_state=0).fit(features, y)
    half = len(seen) // 2
    for first, second in zip(seen[:half], seen[half:]):
        np.testing.assert_array_equal(first.payload, second.payload)
        np.testing.assert_array_equal(first.nonces, second.nonces)


# --- what is fitted ----------------------------------------------------------------------------


@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array], ids=["dense", "sparse"])
def test_selection_is_that_of_scikit_learns_lasso(fit_intercept, form):
    X, y, _ = records(4000, 12, 3)
    X = (X + 0.5) * np.geomspace(0.1, 10, 12)
    X[np.abs(X) < 0.02] = 0.0
    settings = {"epsilon": 3.0, "fit_intercept": fit_intercept, "y_center": -1.0, "tol": 1e-10}
    model = LabelLDPRegressor(random_state=1, **settings).fit(form(X), y)
    batch = reports_of(model, X, y)
    for alpha in ("auto", 0.02, 0.3):
        model.set_params(alpha=alpha).fit_reports(form(X), batch, allow_simulated=True)
        targets = label_values(batch) - 1.0
        scaler = StandardScaler(with_mean=fit_intercept).fit(X)
        scale = scaler.scale_ if fit_intercept else np.sqrt(np.mean(X * X, axis=0))
        centre = X.mean(axis=0) if fit_intercept else 0.0
        if alpha == "auto":
            spread = np.std(targets) if fit_intercept else np.sqrt(np.mean(targets**2))
            alpha = spread * np.sqrt(2 * np.log(12) / 4000)
        witness = Lasso(alpha=alpha, fit_intercept=fit_intercept, tol=1e-12, max_iter=100_000)
        witness.fit((X - centre) / scale, targets)
        assert model.alpha_ == pytest.approx(alpha)
        np.testing.assert_array_equal(model.support_, witness.coef_ != 0)
        refit = LinearRegression(fit_intercept=fit_intercept)
        if model.support_.any():
            refit.fit(X[:, model.support_], targets)
            np.testing.assert_allclose(model.coef_[model.support_], refit.coef_, rtol=1e-6)
            assert model.intercept_ == pytest.approx(refit.intercept_, abs=1e-8)


def test_hard_thresholding_keeps_the_features_that_matter():
    X, y, coef = records(20_000, 60, 4)
    model = LabelLDPRegressor(2.0, n_nonzero=4, random_state=0).fit(X, y)
    np.testing.assert_array_equal(model.support_, coef != 0)
    assert model.alpha_ == 0 and model.converged_ and model.n_iter_ > 1
    targets = label_values(reports_of(model, X, y))
    again = LabelLDPRegressor(n_nonzero=4).fit_reports(
        X, reports_of(model, X, y), allow_simulated=True
    )
    witness = LinearRegression().fit(X[:, again.support_], targets)
    np.testing.assert_allclose(again.coef_[again.support_], witness.coef_)
    # It is a fixed point: no other feature has a larger correlation with what is left.
    left = X.T @ (targets - again.predict(X)) / 20_000
    assert np.max(np.abs(left[~again.support_])) < np.min(np.abs(again.coef_[again.support_]))


@pytest.mark.parametrize("settings", [MECHANISMS[i] for i in (0, 1, 5)])
def test_standard_errors_cover(settings):
    z = []
    for seed in range(60):
        X, y, coef = records(1500, 3, seed=seed)
        model = LabelLDPRegressor(n_nonzero=3, y_bound=5.0, random_state=seed, **settings)
        z.append((model.fit(X, y).coef_ - coef) / model.coef_std_error_)
    z = np.array(z)
    assert np.all(np.abs(z.mean(axis=0)) < 4.5 / np.sqrt(60))
    assert np.mean(z**2) == pytest.approx(1.0, abs=4 * np.sqrt(2 / 180))


def test_standard_errors_are_those_of_least_squares():
    X, y, _ = records(500, 3)
    model = LabelLDPRegressor(2.0, n_nonzero=2, random_state=0).fit(X, y)
    batch = reports_of(model, X, y)
    model.fit_reports(X, batch, allow_simulated=True)
    design = np.column_stack([np.ones(500), X[:, model.support_]])
    targets = label_values(batch)
    _, (rss,), *_ = np.linalg.lstsq(design, targets)
    errors = np.sqrt(np.diag(np.linalg.inv(design.T @ design)) * rss / 497)
    np.testing.assert_allclose(model.coef_std_error_[model.support_], errors[1:])
    assert np.isnan(model.coef_std_error_[~model.support_]).all()


def test_units_of_the_targets():
    X, y, _ = records(3000)
    settings = {"epsilon": 4.0, "mechanism": "gaussian", "delta": 1e-3, "random_state": 0}
    y = np.rint(64 * y) / 64
    plain = LabelLDPRegressor(n_nonzero=2, **settings).fit(X, y)
    model = LabelLDPRegressor(n_nonzero=2, y_center=8.0, y_scale=4.0, **settings).fit(X, 8 + 4 * y)
    np.testing.assert_allclose(model.coef_, 4 * plain.coef_)
    np.testing.assert_allclose(model.coef_std_error_, 4 * plain.coef_std_error_)
    assert model.intercept_ == pytest.approx(8 + 4 * plain.intercept_)


# --- data of every kind ------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"n_nonzero": 2}])
@pytest.mark.parametrize("shape", [(1, 3), (2, 2), (5, 12), (30, 200)])
def test_hardly_any_data(shape, settings):
    X, y, _ = records(*shape)
    model = LabelLDPRegressor(random_state=0, **settings).fit(X, y)
    assert np.all(np.isfinite(model.coef_)) and np.all(np.isfinite(model.predict(X)))
    assert np.isfinite(model.intercept_) and model.n_reports_ == shape[0]


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array], ids=["dense", "sparse"])
def test_columns_that_say_nothing_new(form):
    X, y, coef = records(20_000, 3, 1)
    place = int(np.flatnonzero(coef)[0])
    X = np.column_stack([X, X[:, place], np.zeros(20_000), np.full(20_000, 7.0)])
    for settings in ({"n_nonzero": 2}, {}):
        model = LabelLDPRegressor(4.0, random_state=0, **settings).fit(form(X), y)
        assert not model.support_[[4, 5]].any()
        assert model.coef_[place] + model.coef_[3] == pytest.approx(coef[place], abs=0.1)


def test_integers_and_single_precision():
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 3, size=(300, 3)), rng.integers(-1, 2, size=300)
    whole = LabelLDPRegressor(random_state=0).fit(X, y)
    single = LabelLDPRegressor(random_state=0).fit(X.astype(np.float32), y.astype(np.float32))
    assert single.coef_.dtype == np.float32
    np.testing.assert_allclose(single.coef_, whole.coef_, rtol=1e-5)


def test_too_few_iterations():
    X, y, _ = records(300, 20, 3)
    for settings in ({"n_nonzero": 3, "tol": 1e-12}, {"alpha": 1e-6}):
        model = LabelLDPRegressor(max_iter=1, random_state=0, **settings)
        with pytest.warns(ConvergenceWarning, match="1 iterations did not reach tol") as caught:
            model.fit(X, y)
        assert caught[0].filename == __file__ and not model.converged_


def test_a_callback_may_end_the_campaign():
    X, y, _ = records(400)
    progress = Progress(stop_after=3)
    model = LabelLDPRegressor(8.0, random_state=0).set_callbacks(progress).fit(X, y)
    assert not model.converged_ and model.n_reports_ == 150
    np.testing.assert_array_equal(progress.models[-1].coef_, model.coef_)


# --- the server --------------------------------------------------------------------------------


def test_rows_and_reports_belong_together():
    X, y, _ = records(1000)
    fitted = LabelLDPRegressor(4.0, random_state=0).fit(X, y)
    batch = reports_of(fitted, X, y)
    model = LabelLDPRegressor(n_nonzero=2).fit_reports(X, batch, allow_simulated=True)
    order = np.random.default_rng(0).permutation(1000)
    same = LabelLDPRegressor(n_nonzero=2).fit_reports(X[order], batch[order], allow_simulated=True)
    np.testing.assert_allclose(same.coef_, model.coef_)
    assert model.config_ == fitted.config_ and model.privacy_.epsilon == 4.0
    mixed = LabelLDPRegressor(n_nonzero=2).fit_reports(X[order], batch, allow_simulated=True)
    assert np.abs(mixed.coef_).max() < 0.5 * np.abs(model.coef_).max()


def test_reports_that_do_not_fit():
    X, y, _ = records(50)
    batch = reports_of(LabelLDPRegressor(4.0, random_state=0).fit(X, y), X, y)
    model = LabelLDPRegressor()
    with pytest.raises(SimulatedReportError, match="allow_simulated=True only"):
        model.fit_reports(X, batch)
    for rows in (X[:49], X[:, :3], np.vstack([X, X])):
        with pytest.raises(ValueError, match="a row for each of the 50 reports and 4 features"):
            model.fit_reports(rows, batch, allow_simulated=True)
    with pytest.raises(TypeError, match="batch must be a ReportBatch, got a ndarray"):
        model.fit_reports(X, y)
    other = SimulationRandomizer(LDPConfig("cross", 4), 0).randomize_batch(X, y)
    with pytest.raises(IncompatibleReportsError, match="kind 'label', got 'cross'"):
        model.fit_reports(X, other, allow_simulated=True)
    with pytest.raises(ValueError, match="n_nonzero must be at most the number of features, 4"):
        LabelLDPRegressor(n_nonzero=5).fit_reports(X, batch, allow_simulated=True)
    with pytest.raises(ValueError, match="NaN"):
        model.fit_reports(X * np.nan, batch, allow_simulated=True)
    assert not hasattr(model, "coef_")
    for name in ("y_bound", "y_center", "y_scale"):
        with pytest.raises(ValueError, match=f"{name} must be a number that is known before"):
            LabelLDPRegressor(**{name: "auto"}).fit(X, y)
