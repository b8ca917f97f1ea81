"""Regression and classification in rounds: who answers when, what comes out, what breaks it."""

import numpy as np
import pytest
from scipy import sparse
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from sparsestat.privacy import (
    LDPConfig,
    LDPIHTClassifier,
    LDPIHTRegressor,
    LDPIHTServer,
    LowSignalWarning,
    Randomizer,
    ReportBatch,
    SimulationRandomizer,
    _iht_estimator,
)

from ._campaigns import MECHANISMS, NAMES, QUIET, Progress, records, warned

pytestmark = [pytest.mark.filterwarnings(f"ignore::sparsestat.privacy.{name}") for name in QUIET]
BOTH = [LDPIHTRegressor, LDPIHTClassifier]


# --- rounds ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "sizes"), [(11, [3, 3, 3, 2]), (2, [1, 1])])
def test_every_user_answers_exactly_once(monkeypatch, n, sizes):
    X, y, _ = records(n)
    asked, real = [], _iht_estimator.simulate_state

    def spy(rows, answers, config, rng, **options):
        asked.append((rows, options["query"]))
        return real(rows, answers, config, rng, **options)

    monkeypatch.setattr(_iht_estimator, "simulate_state", spy)
    model = LDPIHTRegressor(random_state=0).fit(X, y)
    assert [len(rows) for rows, _ in asked] == sizes and model.n_reports_ == n
    np.testing.assert_array_equal(np.unique(np.vstack([r for r, _ in asked]), axis=0),
                                  np.unique(X, axis=0))  # fmt: skip
    # They answer at the points of the path, of which only the last is not broadcast.
    assert [query.round for _, query in asked] == list(range(1, len(sizes) + 1))
    np.testing.assert_array_equal([query.theta for _, query in asked], model.path_[:-1])
    assert not model.path_[0].any() and model.n_iter_ == len(sizes)
    np.testing.assert_array_equal(model.path_[-1], model.theta_)


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_points_are_sparse_and_within_the_ball(cls, fit_intercept):
    X, y, _ = records(300, 9)
    model = cls(
        0.5, n_nonzero=2, n_rounds=6, coef_bound=0.7, fit_intercept=fit_intercept, random_state=0
    ).fit(X, y > 0)
    points = model.path_[1:, int(fit_intercept) :]
    assert np.all(np.count_nonzero(points, axis=1) == 2)
    norms = np.linalg.norm(points, axis=1)
    assert np.all(norms <= 0.7 + 1e-12) and norms.max() == pytest.approx(0.7)
    assert model.support_.shape == (9,) and model.support_.sum() == 2
    assert np.any(model.intercept_) == fit_intercept
    known = np.isfinite(model.coef_std_error_)
    np.testing.assert_array_equal(known, model.support_)


@pytest.mark.parametrize(("d", "kept"), [(1, 1), (9, 3), (10, 4)])
def test_number_of_features_by_default(d, kept):
    X, y, _ = records(50, d, 1)
    assert LDPIHTRegressor(random_state=0).fit(X, y).support_.sum() == kept


@pytest.mark.parametrize("settings", MECHANISMS, ids=NAMES)
def test_every_mechanism_finds_the_coefficients(settings):
    X, y, coef = records(100_000, 6)
    model = LDPIHTRegressor(n_nonzero=2, random_state=1, **settings).fit(X, y)
    np.testing.assert_array_equal(model.support_, coef != 0)
    # The noise of the last point is known. What the rounds have not yet moved, and the share of
    # residuals that are clipped, shrink the coefficients by less than a twentieth.
    assert np.max(np.abs(model.coef_ - coef)) < 4.5 * model.noise_scale_ + 0.05
    assert model.privacy_.epsilon == settings["epsilon"] and model.config_.kind == "gradient"


def test_the_same_for_any_threads_and_forms():
    X, y, _ = records(5000)
    model = LDPIHTRegressor(random_state=3).fit(X, y)
    for other in (
        LDPIHTRegressor(random_state=3, n_jobs=2).fit(X, y),
        LDPIHTRegressor(random_state=3).fit(sparse.csr_array(X), y),
        LDPIHTRegressor(random_state=3).fit(X.tolist(), y.tolist()),
    ):
        np.testing.assert_array_equal(other.path_, model.path_)
    single = LDPIHTRegressor(random_state=3).fit(X.astype(np.float32), y)
    assert single.coef_.dtype == np.float32 and single.path_.dtype == np.float64
    np.testing.assert_allclose(single.coef_, model.coef_, atol=0.05)
    different = LDPIHTRegressor(random_state=4).fit(X, y)
    assert np.any(different.path_[1:] != model.path_[1:])


# --- error -------------------------------------------------------------------------------------


def test_averaging_is_worth_its_while():
    """With all features kept the error is the noise, of three rounds instead of one."""
    ratios = []
    for seed in range(16):
        X, y, coef = records(40_000, 10, 3, seed=seed)
        settings = {"epsilon": 2.0, "n_nonzero": 10, "coef_bound": 100.0, "random_state": seed}
        average, last = (
            np.linalg.norm(LDPIHTRegressor(averaging=option, **settings).fit(X, y).coef_ - coef)
            for option in (True, False)
        )
        ratios.append(np.log(average / last))
    # The logarithm of a norm of ten entries has the standard deviation 0.22, and their errors
    # beside the noise are of the size of a tenth of it.
    assert np.mean(ratios) == pytest.approx(-np.log(3) / 2, abs=4 * 0.22 * np.sqrt(2 / 16) + 0.1)


def test_clipped_residuals_stand_heavy_tails():
    """Noise without a mean is as harmless as normal noise; unclipped, it is not."""
    robust, spoilt = [], []
    for seed in range(5):
        options = {"design": "student_t", "noise_df": 1.0}
        X, y, coef = records(60_000, 8, seed=seed, **options)
        noisy = {"mechanism": "gaussian", "delta": 1e-2}
        for found, settings in (
            (robust, {}),
            (robust, noisy),
            (spoilt, {"residual_bound": 1e3}),
        ):
            model = LDPIHTRegressor(4.0, n_nonzero=2, random_state=seed, **settings)
            found.append(np.linalg.norm(model.fit(X, y).coef_ - coef))
    assert np.max(robust) < 0.2 and np.median(spoilt) > 0.5


def test_users_with_absurd_records_move_little():
    for seed in range(4):
        X, y, coef = records(60_000, 8, seed=seed)
        X[:600] *= 1e9
        y[:600] = -1e12
        model = LDPIHTRegressor(8.0, n_nonzero=2, random_state=seed).fit(X, y)
        assert np.linalg.norm(model.coef_ - coef) < 0.2


def test_seed_of_the_data_may_be_the_seed_of_the_campaign():
    same, other = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((4000, 4))
        y = 0.8 * X[:, 0] + 0.3 * rng.standard_normal(4000)
        for found, coins in ((same, seed), (other, 1000 + seed)):
            model = LDPIHTRegressor(4.0, n_nonzero=4, coef_bound=5.0, random_state=coins)
            found.append(model.fit(X, y).coef_ - [0.8, 0, 0, 0])
    spread = np.std(other, axis=0)
    gap = np.abs(np.mean(same, axis=0) - np.mean(other, axis=0))
    assert np.all(gap < 4 * spread * np.sqrt(2 / 20))
    # A ratio of variances of 80 values each.
    assert 0.6 < np.std(same) / np.std(other) < 1.7


@pytest.mark.parametrize("cls", BOTH)
def test_units_change_nothing_in_public_units(cls):
    X, y, _ = records(4000)
    X, y = np.rint(64 * X) / 64, np.rint(64 * y) / 64
    center, scale = np.array([1.0, -2.0, 32.0, 0.5]), np.array([2.0, 0.25, 16.0, 1.0])
    settings = {"epsilon": 20.0, "delta": 1e-3, "mechanism": "gaussian", "random_state": 0}
    settings |= {"fit_intercept": True}
    units = {"feature_center": center, "feature_scale": scale}
    unit, moved = 1.0, y
    if cls is LDPIHTRegressor:
        units |= {"y_center": 8.0, "y_scale": 4.0}
        unit, moved = 4.0, 8.0 + 4.0 * y
    else:
        y = moved = y > 0
    plain = cls(**settings).fit(X, y)
    model = cls(**settings, **units).fit(X * scale + center, moved)
    np.testing.assert_array_equal(model.theta_, plain.theta_)
    np.testing.assert_allclose(model.coef_, unit * plain.coef_ / scale)
    np.testing.assert_allclose(model.coef_std_error_, unit * plain.coef_std_error_ / scale)
    expected = plain._linear_predictor(X) * unit + (8.0 if cls is LDPIHTRegressor else 0.0)
    np.testing.assert_allclose(model._linear_predictor(X * scale + center), expected, atol=1e-9)


# --- what is refused, warned of and stopped ------------------------------------------------------


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("n", [30, 3000, 300_000])
def test_low_signal_is_when_the_noise_hides_every_coefficient(cls, n):
    X, y, _ = records(n)
    for epsilon in (0.1, 1.0, 8.0):
        model, caught = warned(lambda e=epsilon: cls(e, random_state=0).fit(X, y > 0))
        low = model.noise_scale_ * np.sqrt(2 * np.log(4)) > 1.0
        assert [w.category for w in caught] == [LowSignalWarning] * int(low)
        assert all(w.filename == __file__ for w in caught)


def test_parameters_that_cannot_be():
    X, y, _ = records(30)
    with pytest.raises(ValueError, match="n_nonzero must be at most the number of features, 4"):
        LDPIHTRegressor(n_nonzero=5).fit(X, y)
    for name in ("x_bound", "residual_bound", "y_scale", "feature_scale", "feature_center"):
        with pytest.raises(ValueError, match=f"{name} must be a number that is known before"):
            LDPIHTRegressor(**{name: "auto"}).fit(X, y)
    with pytest.raises(ValueError, match="pure: set delta=0"):
        LDPIHTRegressor(delta=1e-5).fit(X, y)
    with pytest.raises(ValueError, match="needs delta above 0"):
        LDPIHTClassifier(mechanism="gaussian").fit(X, y > 0)
    for wrong in ({"n_rounds": 0}, {"step": 0.0}, {"step": "fixed"}, {"coef_bound": -1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            LDPIHTRegressor(**wrong).fit(X, y)


@pytest.mark.parametrize("cls", BOTH)
def test_a_callback_may_end_the_campaign(cls):
    X, y, _ = records(400)
    progress = Progress()
    whole = cls(8.0, random_state=0).set_callbacks(progress).fit(X, y > 0)
    assert len(progress.models) == 4 and whole.converged_
    np.testing.assert_array_equal(progress.models[-1].coef_, whole.coef_)
    short = cls(8.0, random_state=0).set_callbacks(Progress(2)).fit(X, y > 0)
    assert not short.converged_ and (short.n_iter_, short.n_reports_) == (2, 200)
    np.testing.assert_array_equal(short.path_, whole.path_[:3])
    np.testing.assert_array_equal(progress.models[1].coef_, short.coef_)
    np.testing.assert_array_equal(progress.models[1].predict(X), short.predict(X))


def test_constants_of_the_paper():
    X, y, coef = records(3000, 20, 2)
    model = LDPIHTRegressor(n_nonzero=2, paper_constants=True, random_state=0).fit(X, y)
    # Eight times as many features, and as many rounds as the logarithm of the users.
    assert model.n_iter_ == 9 and model.support_.sum() == 16
    assert model.n_reports_ == 3000 // 9 * 9 and model.config_ is None
    assert np.linalg.norm(model.coef_) <= 1 + 1e-12
    assert np.linalg.norm(model.coef_ - coef) > 0.9
    for wrong in ({"fit_intercept": True}, {"mechanism": "gaussian", "delta": 1e-5}):
        with pytest.raises(ValueError, match="paper_constants=True needs a pure mechanism"):
            LDPIHTRegressor(paper_constants=True, **wrong).fit(X, y)
    with pytest.raises(ValueError, match="n_nonzero must be at most"):
        LDPIHTRegressor(paper_constants=True, n_nonzero=21).fit(X, y)


# --- real campaigns ----------------------------------------------------------------------------


def campaign(config, X, y, make, n_rounds=3, **options):
    server = LDPIHTServer(config, n_nonzero=2, n_rounds=n_rounds, **options)
    for users in np.array_split(np.arange(len(X)), n_rounds):
        server.ingest(make(X[users], y[users], server.query()))
        server = LDPIHTServer.from_bytes(server.to_bytes(), config).close_round()
    return server


def test_real_clients_and_simulated_ones_give_the_same_kind_of_answer():
    X, y, coef = records(30_000, 5)
    config = LDPConfig("gradient", 5, 8.0, feature_scale=(0.5,) * 5, y_center=1.0)
    clients = SimulationRandomizer(config, 0)
    server = campaign(
        config, X / 2, y + 1,
        lambda X, y, query: clients.randomize_batch(X, y, query=query), allow_simulated=True,
    )  # fmt: skip
    model = LDPIHTRegressor(epsilon=0.1, y_center=99.0).fit_server(server)
    assert model.config_ == config and model.privacy_.epsilon == 8.0 and model.n_reports_ == 30_000
    np.testing.assert_array_equal(model.coef_, server.coef_)
    np.testing.assert_allclose(model.coef_ / 2, coef, atol=0.15)
    np.testing.assert_allclose(model.predict(np.zeros((1, 5))), [1.0])
    tiny = LDPConfig("gradient", 5, 8.0, fit_intercept=True)

    def one_by_one(X, y, query):
        reports = [Randomizer(tiny).randomize(a, b, query=query) for a, b in zip(X, y)]
        return ReportBatch.from_reports([report.to_bytes() for report in reports], tiny)

    server = campaign(tiny, X[:30], y[:30], one_by_one)
    model = LDPIHTRegressor().fit_server(server)
    assert model.converged_ and model.n_reports_ == 30 and model.support_.sum() == 2
    assert model.intercept_ == server.intercept_ != 0


def test_a_campaign_that_is_not_over():
    config = LDPConfig("gradient", 2, 5.0)
    server = LDPIHTServer(config, n_nonzero=1, n_rounds=2, allow_simulated=True)
    with pytest.raises(ValueError, match="closed at least one round"):
        LDPIHTRegressor().fit_server(server)
    batch = SimulationRandomizer(config, 0).randomize_batch(
        np.ones((9, 2)), np.ones(9), query=server.query()
    )
    server.ingest(batch).close_round()
    model = LDPIHTRegressor().fit_server(server)
    assert not model.converged_ and model.n_iter_ == 1
    with pytest.raises(ValueError, match="must have the loss 'logistic', got 'squared'"):
        LDPIHTClassifier().fit_server(server)
    with pytest.raises(TypeError, match="server must be an LDPIHTServer, got a dict"):
        LDPIHTRegressor().fit_server({})


# --- classes -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def binary():
    return records(100_000, 6, 2, target="binary")


def test_classifier_finds_the_odds(binary):
    X, labels, coef = binary
    model = LDPIHTClassifier(
        20.0, n_nonzero=2, n_rounds=8, coef_bound=3.0, random_state=0
    ).fit(X, labels)  # fmt: skip
    np.testing.assert_array_equal(model.support_, coef != 0)
    witness = LogisticRegression(C=np.inf, fit_intercept=False).fit(X[:, coef != 0], labels)
    gap = model.coef_[0][coef != 0] - witness.coef_[0]
    # Clipping costs the records some of their weight, but does not shift the odds; the rounds
    # come close to the limit and not all the way.
    assert np.all(np.abs(gap) < 4.5 * model.noise_scale_ + 0.08)
    share = model.predict_proba(X)[:, 1]
    middle = (share > 0.65) & (share < 0.75)
    assert labels[middle].mean() == pytest.approx(0.7, abs=0.06)
    assert model.score(X, labels) == pytest.approx(witness.score(X[:, coef != 0], labels), abs=0.01)


def test_clipped_features_leave_the_odds_as_they_are(binary):
    """Probabilities see the features as they are; clipped ones would need larger odds."""
    X, labels, coef = binary
    model = LDPIHTClassifier(
        20.0, n_nonzero=2, n_rounds=8, x_bound=1.4, step=15.0, coef_bound=3.0, random_state=0
    ).fit(X, labels)
    assert np.mean(np.sqrt(np.sum(X * X, axis=1)) > 1.4) > 0.9
    np.testing.assert_array_equal(model.support_, coef != 0)
    # As above; the steps are as much longer as the features are shorter.
    assert np.all(np.abs(model.coef_[0] - coef) < 4.5 * model.noise_scale_ + 0.08)


@pytest.mark.parametrize(
    "classes", [(False, True), (-1, 1), (1.0, 2.0), ("no", "yes"), (3, 2**40)], ids=str
)
def test_classes_of_any_type(binary, classes):
    X, labels, _ = binary
    X, labels = X[:2000], labels[:2000].astype(int)
    plain = LDPIHTClassifier(8.0, random_state=0).fit(X, labels)
    names = np.array(classes)
    model = LDPIHTClassifier(8.0, random_state=0).fit(X, names[labels])
    np.testing.assert_array_equal(model.coef_, plain.coef_)
    np.testing.assert_array_equal(model.classes_, names)
    np.testing.assert_array_equal(model.predict(X), names[plain.predict(X)])
    if isinstance(classes[0], str):
        objects = LDPIHTClassifier(8.0, random_state=0).fit(X, names[labels].astype(object))
        np.testing.assert_array_equal(objects.predict(X), model.predict(X))


def test_probabilities(binary):
    X, labels, _ = binary
    model = LDPIHTClassifier(8.0, fit_intercept=True, random_state=0).fit(X[:2000], labels[:2000])
    odds = X @ model.coef_[0] + model.intercept_[0]
    np.testing.assert_allclose(model.decision_function(X), odds)
    np.testing.assert_allclose(model.predict_proba(X), np.column_stack([expit(-odds), expit(odds)]))
    np.testing.assert_array_equal(model.predict(X), labels.dtype.type(0) + (odds > 0))
    far = 1e4 * np.sign(model.coef_)
    assert np.all(np.isfinite(model.predict_log_proba(far)))
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), model.predict_proba(X))


def test_targets_that_are_not_two_classes():
    X, y, _ = records(30)
    model = LDPIHTClassifier(random_state=0)
    with pytest.raises(ValueError, match="one class only: 3"):
        model.fit(X, np.full(30, 3))
    with pytest.raises(ValueError, match="one class only: 'yes'"):
        model.fit(X, np.full(30, "yes"))
    with pytest.raises(ValueError, match="y has 3 classes"):
        model.fit(X, np.arange(30) % 3)
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        model.fit(X, y)


def test_classes_of_a_real_campaign(binary):
    X, labels, coef = binary
    config = LDPConfig("gradient", 6, 8.0, loss="logistic")
    clients = SimulationRandomizer(config, 0)
    server = campaign(
        config, X, labels,
        lambda X, y, query: clients.randomize_batch(X, y, query=query), allow_simulated=True,
    )  # fmt: skip
    model = LDPIHTClassifier().fit_server(server, classes=["no", "yes"])
    np.testing.assert_array_equal(model.support_, coef != 0)
    assert np.mean(model.predict(X) == np.where(labels == 1, "yes", "no")) > 0.6
    for wrong in (["no"], ["a", "b", "c"], "ab", [["no", "yes"]]):
        with pytest.raises(ValueError, match="classes must hold two classes"):
            LDPIHTClassifier().fit_server(server, classes=wrong)
    with pytest.raises(ValueError, match="must have the loss 'squared', got 'logistic'"):
        LDPIHTRegressor().fit_server(server)
