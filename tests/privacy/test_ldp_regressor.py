"""Regression from one report of each user: its noise, its users, its units and its warnings."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from sparsestat.privacy import (
    IllConditionedWarning,
    IncompatibleReportsError,
    LDPConfig,
    LDPSparseRegressor,
    LowSignalWarning,
    MomentAggregator,
    PublicUnitsWarning,
    Randomizer,
    SimulatedReportError,
    SimulationRandomizer,
)

from ._campaigns import (
    MECHANISMS,
    NAMES,
    QUIET,
    Progress,
    exact_moments,
    records,
    warned,
    z_scores,
)

pytestmark = [pytest.mark.filterwarnings(f"ignore::sparsestat.privacy.{name}") for name in QUIET]


# --- the noise is the one that is declared ---------------------------------------------------


@pytest.mark.parametrize("settings", MECHANISMS, ids=NAMES)
def test_moments_are_exact_but_for_the_declared_noise(settings):
    X, y, _ = records(2000)
    S, b = exact_moments(X, y, 2.0, 1.5)
    z = np.array(
        [
            z_scores(
                LDPSparseRegressor(y_bound=1.5, random_state=seed, **settings).fit(X, y).moments_,
                S,
                b,
            )
            for seed in range(60)
        ]
    )
    n_seeds, p = z.shape
    assert np.all(np.abs(z.mean(axis=0)) < 4.5 / np.sqrt(n_seeds))
    # Of one bit the declared variance is the whole second moment, of which the square of the
    # mean is a part: at most 1 / coth(epsilon / 2)^2 / (pi / 2) of all entries together.
    assert np.mean(z**2) == pytest.approx(1.0, abs=4 * np.sqrt(2 / (n_seeds * p)) + 0.06)


@pytest.mark.parametrize("settings", [MECHANISMS[i] for i in (1, 3, 4, 5)])
def test_standard_errors_cover(settings):
    z = []
    for seed in range(50):
        X, y, coef = records(40_000, seed=seed)
        model = LDPSparseRegressor(
            n_nonzero=2, coef_bound=5.0, y_bound=4.0, random_state=seed, **settings
        ).fit(X, y)
        if np.array_equal(model.support_, coef != 0):
            z.extend(((model.coef_ - coef) / model.coef_std_error_)[coef != 0])
    assert len(z) > 80 and np.abs(np.mean(z)) < 4.5 / np.sqrt(len(z))
    # The variance of a normal variable from a hundred values; the two of a run are dependent.
    assert np.var(z) == pytest.approx(1.0, abs=4 * np.sqrt(4 / len(z)))


def test_standard_errors_in_the_units_of_the_data():
    X, y, _ = records(20_000)
    scale = np.array([4.0, 0.5, 2.0, 8.0])
    settings = {"epsilon": 8.0, "mechanism": "gaussian", "delta": 1e-5, "random_state": 0}
    plain = LDPSparseRegressor(**settings).fit(X, y)
    model = LDPSparseRegressor(feature_scale=scale, y_scale=2.0, **settings).fit(scale * X, 2 * y)
    assert plain.support_.sum() == 2
    np.testing.assert_allclose(model.coef_std_error_, 2 * plain.coef_std_error_ / scale)
    np.testing.assert_array_equal(np.isnan(plain.coef_std_error_), ~plain.support_)


def test_seed_of_the_data_may_be_the_seed_of_the_coins():
    z = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        # The very words that a generator of that seed gives first, as a hash of the nonces
        # would see them, and the numbers made of them.
        X = rng.integers(2**64, size=(500, 3), dtype=np.uint64) / 2.0**63 - 1.0
        y = X[:, 0] + rng.standard_normal(500)
        model = LDPSparseRegressor(random_state=seed).fit(X, y)
        z.append(z_scores(model.moments_, *exact_moments(X, y, np.sqrt(3), 2.5)))
    assert np.all(np.abs(np.mean(z, axis=0)) < 4.5 / np.sqrt(60))
    assert np.mean(np.square(z)) == pytest.approx(1.0, abs=4 * np.sqrt(2 / np.size(z)) + 0.06)
    config = LDPConfig("cross", 3)
    nonces = SimulationRandomizer(config, 7).randomize_batch(X, y).nonces
    words = np.random.default_rng(7).integers(2**64, size=5000, dtype=np.uint64)
    assert not np.isin(nonces, words).any()


# --- users add up ------------------------------------------------------------------------------


def test_the_first_portion_is_a_fit_whatever_the_threads():
    X, y, _ = records(3000)
    model = LDPSparseRegressor(random_state=3).fit(X, y)
    for other in (
        LDPSparseRegressor(random_state=3).partial_fit(X, y),
        LDPSparseRegressor(random_state=3, n_jobs=2).fit(X, y),
        LDPSparseRegressor(random_state=3).fit(sparse.csr_array(X), y),
        LDPSparseRegressor(random_state=3).fit(X.tolist(), y.tolist()),
    ):
        assert other.aggregator_ == model.aggregator_
        np.testing.assert_array_equal(other.coef_, model.coef_)
    assert model.fit(X, y).n_reports_ == 3000


@pytest.mark.parametrize("kind", [int, np.random.RandomState, np.random.default_rng])
def test_each_portion_has_coins_of_its_own(kind):
    """The same records again and again: were the coins the same too, no noise would cancel."""
    X, y, _ = records(200)
    S, b = exact_moments(X, y, 2.0, 2.5)
    squares = []
    for seed in range(8):
        model = LDPSparseRegressor(random_state=kind(seed))
        for portion in range(1, 17):
            model.partial_fit(X, y)
            assert model.n_reports_ == 200 * portion
        squares.append(np.mean(z_scores(model.moments_, S, b) ** 2))
    # 14 entries in each of 8 runs. Equal coins would give 16 instead of 1.
    assert np.mean(squares) == pytest.approx(1.0, abs=4 * np.sqrt(2 / (14 * 8)) + 0.06)


@pytest.mark.parametrize(
    ("settings", "change", "error"),
    [
        ({}, {"epsilon": 2.0}, IncompatibleReportsError),
        ({}, {"campaign_id": "another"}, IncompatibleReportsError),
        ({}, {"y_bound": 2.0}, IncompatibleReportsError),
        ({}, {"X_public": np.ones((400, 4))}, IncompatibleReportsError),
        ({}, {"X_public": np.ones((2, 3))}, ValueError),
        ({}, {"gram": "public"}, ValueError),
        ({}, {"n_nonzero": 5}, ValueError),
        ({}, {"paper_constants": True, "delta": 1e-5}, ValueError),
        ({"X": np.zeros((5, 3))}, {}, ValueError),
        ({"X": np.full((5, 4), np.nan)}, {}, ValueError),
        ({"X": np.zeros((0, 4)), "y": np.zeros(0)}, {}, ValueError),
        ({"y": np.zeros(4)}, {}, ValueError),
    ],
)
def test_a_failed_portion_leaves_everything_as_it_was(settings, change, error):
    X, y, _ = records(500)
    model = LDPSparseRegressor(epsilon=8.0, random_state=0).partial_fit(X, y)
    state, coef = model.aggregator_.to_bytes(), model.coef_.copy()
    more = {"X": np.zeros((5, 4)), "y": np.zeros(5), **settings}
    with pytest.raises(error):
        model.set_params(**change).partial_fit(more["X"], more["y"])
    assert model.aggregator_.to_bytes() == state
    assert (model.n_reports_, model.n_features_in_) == (500, 4)
    np.testing.assert_array_equal(model.coef_, coef)


def test_simulated_users_do_not_join_real_ones():
    config = LDPConfig("moments", 2, 10.0)
    server = MomentAggregator(config)
    for value in (0.5, -0.5, 0.1):
        server.add(Randomizer(config).randomize([value, 1.0], value))
    model = LDPSparseRegressor(10.0).fit_aggregate(server)
    before = server.to_bytes()
    with pytest.raises(SimulatedReportError):
        model.partial_fit(np.ones((5, 2)), np.ones(5))
    batch = SimulationRandomizer(config, 0).randomize_batch(np.ones((5, 2)), np.ones(5))
    with pytest.raises(SimulatedReportError):
        model.partial_fit_reports(batch)
    assert model.aggregator_.to_bytes() == before == server.to_bytes()


@pytest.mark.parametrize("settings", MECHANISMS, ids=NAMES)
def test_the_order_of_reports_and_shards_does_not_matter(settings):
    X, y, _ = records(300)
    model = LDPSparseRegressor(random_state=0, **settings).fit(X, y)
    batch = SimulationRandomizer(model.config_, 1).randomize_batch(X, y)
    whole = LDPSparseRegressor().fit_reports(batch, allow_simulated=True)
    shuffled = batch[np.random.default_rng(2).permutation(300)]
    merged = MomentAggregator(model.config_, allow_simulated=True)
    for rows in (slice(250, 300), slice(0, 1), slice(1, 250)):
        shard = MomentAggregator(model.config_, allow_simulated=True).add_batch(shuffled[rows])
        merged.merge(MomentAggregator.from_bytes(shard.to_bytes(), model.config_))
    other = LDPSparseRegressor().fit_aggregate(merged)
    np.testing.assert_array_equal(other.moments_.S, whole.moments_.S)
    np.testing.assert_array_equal(other.coef_, whole.coef_)
    # The simulation of a campaign has the law of its reports, but not the same coins.
    gap = z_scores(model.moments_, whole.moments_.S, whole.moments_.b) / np.sqrt(2)
    assert np.all(np.abs(gap) < 4.5) and np.any(gap != 0)


def test_what_a_server_does_not_take():
    model = LDPSparseRegressor()
    with pytest.raises(TypeError, match="batch must be a ReportBatch, got a list"):
        model.fit_reports([])
    with pytest.raises(TypeError, match="aggregator must be a MomentAggregator"):
        model.fit_aggregate(None)
    with pytest.raises(IncompatibleReportsError, match="'gradient'"):
        model.fit_aggregate(MomentAggregator(LDPConfig("gradient", 2)))
    cross = LDPConfig("cross", 2)
    batch = SimulationRandomizer(cross, 0).randomize_batch(np.ones((5, 2)), np.ones(5))
    with pytest.raises(ValueError, match="X_public must hold the public rows"):
        model.fit_reports(batch, allow_simulated=True)
    with pytest.raises(ValueError, match="n_nonzero must be at most the number of features, 2"):
        model.set_params(n_nonzero=3).fit_reports(batch, allow_simulated=True)
    assert not hasattr(model, "coef_")


def test_names_of_features_go_with_a_fit_and_not_with_reports():
    X, y, _ = records(300)
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = LDPSparseRegressor(random_state=0).fit(frame, y)
    assert list(model.feature_names_in_) == list("abcd")
    np.testing.assert_array_equal(model.coef_, LDPSparseRegressor(random_state=0).fit(X, y).coef_)
    model.fit_aggregate(model.aggregator_)
    assert not hasattr(model, "feature_names_in_") and model.predict(X).shape == (300,)


def test_a_callback_may_end_the_campaign():
    X, y, _ = records(800)
    progress = Progress(stop_after=2)
    model = LDPSparseRegressor(20.0, random_state=0).set_callbacks(progress).fit(X, y)
    assert not model.converged_ and model.n_reports_ == 200
    np.testing.assert_array_equal(progress.models[-1].coef_, model.coef_)


# --- public rows -------------------------------------------------------------------------------


def test_public_rows_leave_a_floor():
    """With hardly any private noise the error is that of the public Gram matrix."""
    d, n, n_seeds, means = 6, 20_000, 40, {}
    X, y, coef = records(200_000, d, 2)
    norms = np.sqrt(np.sum(X * X, axis=1))
    clipped = X * np.minimum(1.0, np.sqrt(d) / norms)[:, None]
    S = clipped.T @ clipped / len(X)
    # To first order the error is S^-1 (S_public - S) coef, a mean over the rows.
    terms = np.linalg.solve(S, (clipped * (clipped @ coef)[:, None]).T).T - coef
    of_one_row = np.mean(np.sum(terms**2, axis=1))
    settings = {"solver": "closed_form", "threshold": "hard", "alpha": 0.0, "coef_bound": 100.0}
    settings |= {"epsilon": 50.0, "mechanism": "gaussian", "delta": 0.5, "y_bound": 4.0}
    for m in (300, 1200):
        squares = []
        for seed in range(n_seeds):
            X, y, coef = records(n, d, 2, seed=seed, noise=0.1)
            public = np.random.default_rng(1000 + seed).standard_normal((m, d))
            model = LDPSparseRegressor(X_public=public, gram="public", random_state=0, **settings)
            model.fit(X, y)
            assert model.config_.kind == "cross"
            squares.append(np.sum((model.coef_ - coef) ** 2) - d * model.moments_.sd_b**2)
        means[m] = m * np.mean(squares)
    # A sum of 6 squares varies by sqrt(2 / 6) of its mean, and the mean of 40 by a tenth; the
    # next order of the expansion is 2 d / m.
    for m, value in means.items():
        assert value == pytest.approx(of_one_row, rel=0.4 + 2 * d / m)


def test_few_public_rows():
    X, y, _ = records(50_000)
    one = LDPSparseRegressor(4.0, X_public=X[:1], random_state=0).fit(X, y)
    private = LDPSparseRegressor(4.0, random_state=0).fit(X, y)
    # A single row has no spread by which to weigh it.
    assert one.config_ == private.config_
    np.testing.assert_array_equal(one.coef_, private.coef_)
    # Alone, fewer rows than features leave directions without any information.
    wide, targets, _ = records(20_000, 12)
    signs = np.where(wide[:11] > 0, 1.0, -1.0)
    few = LDPSparseRegressor(
        50.0,
        X_public=signs,
        gram="public",
        solver="matching_pursuit",
        n_nonzero=12,
        random_state=0,
    )
    with pytest.warns(IllConditionedWarning):
        few.fit(wide, targets)
    assert few.condition_number_ > 1e6 and np.all(np.isfinite(few.coef_))
    with pytest.raises(ValueError, match="gram='combined' needs public rows"):
        LDPSparseRegressor(gram="combined").fit(X, y)
    with pytest.raises(ValueError, match="X_public must hold public rows"):
        LDPSparseRegressor(X_public=[[np.nan] * 4]).fit(X, y)
    with pytest.raises(ValueError, match="X_public must have 4 features, as the records, got 3"):
        LDPSparseRegressor(X_public=X[:9, :3]).fit(X, y)


@pytest.mark.parametrize("gram", ["public", "combined"])
def test_forms_of_public_rows(gram):
    X, y, _ = records(5000)
    rows = X[:100] * (np.abs(X[:100]) > 0.5)
    models = [
        LDPSparseRegressor(8.0, X_public=form, gram=gram, random_state=0).fit(X, y)
        for form in (rows, sparse.csr_array(rows), pd.DataFrame(rows), rows.tolist())
    ]
    assert models[0].config_.kind == ("cross" if gram == "public" else "moments")
    for model in models[1:]:
        np.testing.assert_allclose(model.coef_, models[0].coef_, rtol=1e-12)
    # The records of the server may be other than those of the simulation.
    state = models[0].aggregator_
    again = LDPSparseRegressor(X_public=rows, gram=gram).fit_aggregate(state)
    np.testing.assert_array_equal(again.coef_, models[0].coef_)


def test_public_rows_help():
    gains = []
    public = np.random.default_rng(99).standard_normal((20_000, 8))
    for seed in range(12):
        X, y, coef = records(60_000, 8, seed=seed)
        settings = {"solver": "closed_form", "threshold": "hard", "alpha": 0.0}
        settings |= {"coef_bound": 100.0, "random_state": seed}
        alone = LDPSparseRegressor(2.0, **settings).fit(X, y)
        helped = LDPSparseRegressor(2.0, X_public=public, **settings).fit(X, y)
        gains.append(np.linalg.norm(alone.coef_ - coef) > np.linalg.norm(helped.coef_ - coef))
    # Were there no gain, ten of twelve would have probability 0.02.
    assert np.sum(gains) >= 10


# --- units -------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("mechanism", ["gaussian", "discrete_gaussian"])
def test_units_change_nothing_in_public_units(fit_intercept, mechanism):
    """Gaussian noise does not depend on the fingerprint, and powers of two are exact."""
    X, y, coef = records(20_000)
    X, y = np.rint(64 * X) / 64, np.rint(64 * y) / 64
    center, scale = np.array([1.0, -2.0, 32.0, 0.5]), np.array([2.0, 0.25, 16.0, 1.0])
    settings = {"epsilon": 20.0, "delta": 1e-3, "mechanism": mechanism, "random_state": 0}
    settings |= {"fit_intercept": fit_intercept, "n_nonzero": 2}
    plain = LDPSparseRegressor(**settings).fit(X, y)
    model = LDPSparseRegressor(
        feature_center=center, feature_scale=scale, y_center=8.0, y_scale=4.0, **settings
    ).fit(X * scale + center, y * 4.0 + 8.0)
    np.testing.assert_array_equal(model.theta_, plain.theta_)
    np.testing.assert_allclose(model.coef_, 4.0 * plain.coef_ / scale)
    expected = 4.0 * plain.predict(X) + 8.0
    np.testing.assert_allclose(model.predict(X * scale + center), expected, atol=1e-10)
    np.testing.assert_array_equal(plain.support_, coef != 0)


def test_intercept():
    gaps, errors = [], []
    for seed in range(10):
        X, y, _ = records(20_000, seed=seed)
        model = LDPSparseRegressor(
            20.0, fit_intercept=True, y_bound=4.0, coef_bound=1.0, random_state=seed
        ).fit(X, y + 1.5)
        # It is not counted in the norm, and never set to zero.
        assert np.linalg.norm(model.coef_) <= 1.0 + 1e-12
        gaps.append(model.intercept_ - 1.5)
        sd = model.moments_
        errors.append(np.hypot(sd.sd_b, sd.sd_off * 1.5) / np.diag(sd.S).min())
    assert np.all(np.abs(gaps) < 5 * np.array(errors))
    nothing = LDPSparseRegressor(0.01, fit_intercept=True, random_state=0).fit(X, y)
    assert not nothing.support_.any() and nothing.intercept_ != 0


@pytest.mark.parametrize("bound", ["auto", "std", "sqrt_n"])
@pytest.mark.parametrize(
    "name",
    ["x_bound", "y_bound", "gamma", "y_center", "y_scale", "feature_center", "feature_scale"],
)
def test_bounds_from_the_records_are_refused(name, bound):
    X, y, _ = records(20)
    with pytest.raises(ValueError, match=f"{name} must be a number that is known before"):
        LDPSparseRegressor(**{name: bound}).fit(X, y)


# --- data of every kind ------------------------------------------------------------------------


def test_integers_and_single_precision():
    rng = np.random.default_rng(0)
    X, y = rng.integers(-1, 2, size=(400, 4)), rng.integers(-1, 2, size=400)
    whole = LDPSparseRegressor(20.0, random_state=0).fit(X, y)
    assert whole.coef_.dtype == np.float64
    single = LDPSparseRegressor(20.0, random_state=0).fit(X.astype(np.float32), y)
    assert single.coef_.dtype == np.float32 and single.aggregator_ == whole.aggregator_
    np.testing.assert_allclose(single.coef_, whole.coef_, rtol=1e-6)


def test_columns_that_say_nothing_new():
    X, y, _ = records(100_000, 3, 1)
    strong = X[:, [0]] * 0.8 + 0.6 * np.random.default_rng(5).standard_normal((100_000, 1))
    y = 0.6 * X[:, 0] + 0.2 * np.random.default_rng(6).standard_normal(100_000)
    X = np.column_stack([X[:, 0], X[:, 0], np.zeros(100_000), np.ones(100_000), strong])
    for solver in ("matching_pursuit", "topk_refit", "corrected_lasso", "closed_form"):
        for fit_intercept in (False, True):
            model = LDPSparseRegressor(
                20.0,
                solver=solver,
                fit_intercept=fit_intercept,
                tol=1e-4,
                max_iter=20_000,
                random_state=0,
            ).fit(X, y)
            assert not model.support_[2] and np.linalg.norm(model.coef_) <= 1 + 1e-9
            if solver != "closed_form":
                # Which of the two equal columns has it, no report can tell.
                np.testing.assert_allclose(model.coef_[:2].sum() + model.coef_[4], 0.6, atol=0.15)
                assert model.score(X, y) > 0.8
            assert np.all(np.isfinite(model.coef_))


@pytest.mark.parametrize("shape", [(1, 3), (2, 1), (5, 1), (5, 12), (40, 60)])
def test_hardly_any_data(shape):
    X, y, _ = records(*shape, 1)
    for settings in ({}, {"n_nonzero": 1}, {"X_public": X}, {"fit_intercept": True}):
        model = LDPSparseRegressor(random_state=0, **settings).fit(X, y)
        assert np.all(np.isfinite(model.coef_)) and np.linalg.norm(model.coef_) <= 1 + 1e-9
        assert np.all(np.isfinite(model.predict(X))) and model.n_reports_ == shape[0]
    with pytest.raises(ValueError, match="n_nonzero must be at most the number of features"):
        LDPSparseRegressor(n_nonzero=shape[1] + 1).fit(X, y)


def test_a_single_feature():
    X, y, coef = records(20_000, 1, 1)
    model = LDPSparseRegressor(8.0, coef_bound=2.0, y_bound=4.0, random_state=0).fit(X, y)
    assert np.abs(model.coef_ - coef) < 5 * model.coef_std_error_


def test_heavy_tails_do_no_harm():
    """One weight for both sides leaves no bias; a weight for each would."""
    gaps, plain, mixed = [], [], []
    for seed in range(9):
        options = {"design": "student_t", "df": 3, "noise_df": 1.5}
        X, y, coef = records(60_000, 5, seed=seed, **options)
        model = LDPSparseRegressor(8.0, n_nonzero=2, y_scale=2.0, coef_bound=2.0, random_state=seed)
        gaps.append(np.linalg.norm(model.fit(X, y).coef_ - coef))
        plain.append(np.linalg.norm(np.linalg.lstsq(X, y)[0] - coef))
        S = exact_moments(X[:5000], y[:5000], np.sqrt(5), 5.0)[0]
        b = np.mean(np.clip(X, -5, 5) * np.clip(y, -5, 5)[:, None], axis=0)
        mixed.append(np.linalg.norm(np.linalg.solve(S, b) - coef))
    # Nine of nine below twice the median that forty seeds give has probability above 0.99.
    assert np.median(gaps) < 0.15 and np.median(mixed) > 2 * np.median(gaps)


def test_some_users_with_absurd_records():
    found, spoilt = [], []
    for seed in range(5):
        X, y, coef = records(60_000, 5, seed=seed)
        X[:600] *= 1e9
        y[:600] = -1e12
        model = LDPSparseRegressor(8.0, n_nonzero=2, random_state=seed).fit(X, y)
        found.append(np.linalg.norm(model.coef_ - coef))
        spoilt.append(np.linalg.norm(np.linalg.lstsq(X, y)[0] - coef))
    # A share of one percent moves b by at most 0.01 * 2.5 * E|w x| in each direction.
    assert np.max(found) < 0.3 and np.min(spoilt) > 1.0


# --- constants of the paper ----------------------------------------------------------------------


def test_constants_of_the_paper_are_for_comparison_only():
    X, y, coef = records(5000, 6, 3)
    settings = {"delta": 1e-5, "paper_constants": True, "random_state": 0}
    model = LDPSparseRegressor(**settings).fit(X, y)
    # The estimator that is zero has the error 1.
    assert np.linalg.norm(model.coef_ - coef) == pytest.approx(1.0, abs=0.1)
    assert model.aggregator_ is None and model.n_reports_ == 5000
    raw = LDPSparseRegressor(alpha=0.0, **settings).fit(X, y)
    np.testing.assert_allclose(raw.coef_, np.linalg.solve(raw.moments_.S, raw.moments_.b))
    known = LDPSparseRegressor(X_public=X, **settings).fit(X, y)
    np.testing.assert_allclose(known.moments_.S, X.T @ X / 5000)
    assert known.moments_.sd_diag == 0
    with pytest.warns(UserWarning, match="proven to be private up to epsilon=2, got 3"):
        LDPSparseRegressor(3.0, **settings).fit(X, y)
    for wrong in ({"delta": 0.0}, {"fit_intercept": True}):
        with pytest.raises(ValueError, match="paper_constants=True needs delta above 0"):
            LDPSparseRegressor(**{**settings, **wrong}).fit(X, y)


def test_constants_of_the_paper_take_no_further_users():
    X, y, _ = records(200)
    model = LDPSparseRegressor(delta=1e-5, paper_constants=True, random_state=0)
    for _ in range(2):
        with pytest.raises(ValueError, match="paper_constants=True is for fit only"):
            model.partial_fit(X, y)
    model.fit(X, y)
    with pytest.raises(ValueError, match="paper_constants=True is for fit only"):
        model.partial_fit(X, y)


# --- warnings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["matching_pursuit", "closed_form", "corrected_lasso"])
@pytest.mark.parametrize("n", [3000, 30_000, 300_000])
def test_low_signal_is_when_no_coefficient_can_be_told_from_noise(solver, n):
    X, y, _ = records(n, 4)
    for epsilon in (0.5, 1.0, 3.0, 8.0):
        model, caught = warned(
            lambda e=epsilon: LDPSparseRegressor(e, solver=solver, random_state=0).fit(X, y)
        )
        low = model.threshold_.min() > model.coef_bound
        found = {w.category for w in caught}
        assert (LowSignalWarning in found) == low
        # One of the two is enough: without any signal there is nothing to be conditioned.
        assert not {LowSignalWarning, IllConditionedWarning} <= found
        values = np.linalg.eigvalsh(model.moments_.S[np.ix_(model.support_, model.support_)])
        if solver == "matching_pursuit" and not low:
            ill = len(values) > 0 and values[0] < 0.05 * values[-1]
            assert (IllConditionedWarning in found) == ill
        if solver == "corrected_lasso":
            assert IllConditionedWarning not in found


@pytest.mark.parametrize(("share", "low"), [(0.99, True), (1.01, False)])
def test_low_signal_begins_where_the_threshold_meets_the_bound(share, low):
    X, y, _ = records(3000)
    state = LDPSparseRegressor(2.0, random_state=0).fit(X, y).aggregator_
    least = LDPSparseRegressor().fit_aggregate(state).threshold_.min()
    model = LDPSparseRegressor(coef_bound=share * least)
    caught = warned(lambda: model.fit_aggregate(state))[1]
    assert (LowSignalWarning in {w.category for w in caught}) == low


def test_threshold_is_the_noise_that_is_known():
    X, y, _ = records(20_000, 4)
    model = LDPSparseRegressor(8.0, random_state=0).fit(X, y)
    moments = model.moments_
    expected = moments.sd_b * np.sqrt(2 * np.log(4)) / np.diag(moments.S)
    np.testing.assert_allclose(model.threshold_, expected)


def test_warnings_point_at_the_caller():
    X, y, _ = records(50)
    model = LDPSparseRegressor(1e-3, X_public=np.ones((400, 4)), random_state=0)
    config = LDPConfig("cross", 4, 1e-3)
    batch = SimulationRandomizer(config, 0).randomize_batch(X, y)
    state = MomentAggregator(config, allow_simulated=True).add_batch(batch)
    for call in (
        lambda: model.fit(X, y),
        lambda: model.partial_fit(X, y),
        lambda: model.fit_aggregate(state),
        lambda: model.fit_reports(batch, allow_simulated=True),
        lambda: model.partial_fit_reports(batch, allow_simulated=True),
    ):
        (warning,) = warned(call)[1]
        assert warning.category is LowSignalWarning and warning.filename == __file__


def test_single_users_are_no_reason_to_doubt_the_units():
    """About half of all records of the right units have a norm above the default radius."""
    rng = np.random.default_rng(0)
    model = LDPSparseRegressor(random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", PublicUnitsWarning)
        for _ in range(30):
            x = rng.standard_normal((1, 4))
            model.partial_fit(x, x[:, 0])
    assert model.n_reports_ == 30


@pytest.mark.parametrize(("n", "d"), [(5, 12), (40, 60), (500, 20)])
def test_a_column_that_is_large_by_chance_is_no_signal(n, d):
    """Among many columns of pure noise some look as if their coefficients could be told."""
    X, y, _ = records(n, d, 1)
    for seed in range(20):
        with pytest.warns(LowSignalWarning):
            LDPSparseRegressor(random_state=seed).fit(X, y)
