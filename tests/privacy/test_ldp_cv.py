"""Choosing by held-out reports: where they go, what they say, and what is taken."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from sparsestat.privacy import (
    IncompatibleReportsError,
    LDPConfig,
    LDPSparseRegressor,
    LDPSparseRegressorCV,
    LowSignalWarning,
    MomentAggregator,
    SimulatedReportError,
    SimulationRandomizer,
)

from ._campaigns import MECHANISMS, NAMES, QUIET, Progress, exact_moments, records, warned

pytestmark = [pytest.mark.filterwarnings(f"ignore::sparsestat.privacy.{name}") for name in QUIET]


@pytest.fixture(scope="module")
def campaign():
    X, y, coef = records(60_000, 6, 2)
    with pytest.MonkeyPatch.context():
        model = LDPSparseRegressorCV(4.0, random_state=1)
        fitted, _ = warned(lambda: model.fit(X, y))
    return X, y, coef, fitted


def merged(states):
    total = states[0].copy()
    for state in states[1:]:
        total.merge(state)
    return total


def score_by_hand(theta, S, b):
    return sum(
        theta[i] * S[i, j] * theta[j] for i in range(len(b)) for j in range(len(b))
    ) - 2 * sum(theta[i] * b[i] for i in range(len(b)))


# --- shards ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "cv", "sizes"), [(11, 4, [3, 3, 3, 2]), (3, 5, [1, 1, 1])])
def test_every_user_is_in_one_shard(n, cv, sizes):
    X, y, _ = records(n)
    model = LDPSparseRegressorCV(cv=cv, random_state=0).fit(X, y)
    assert [shard.n_reports_ for shard in model.shards_] == sizes
    assert merged(model.shards_) == model.aggregator_ and model.n_reports_ == n


def test_shards_take_neighbours_apart():
    """With all records of a kind in a row, each shard must see every kind."""
    X, y, _ = records(20_000)
    order = np.argsort(X[:, 0])
    model = LDPSparseRegressorCV(
        20.0, mechanism="gaussian", delta=0.1, cv=4, random_state=0
    ).fit(X[order], y[order])  # fmt: skip
    for shard in model.shards_:
        moments, S = shard.moments(), exact_moments(X[:4000], y[:4000], 2.0, 2.5)[0]
        # The mean square of a shard of consecutive records would be off by half.
        assert moments.S[0, 0] == pytest.approx(S[0, 0], abs=4 * moments.sd_diag + 0.06)


def test_shards_have_coins_of_their_own():
    X, y = np.full((1000, 4), 0.5), np.ones(1000)
    model = LDPSparseRegressorCV(random_state=0).fit(X, y)
    sums = [shard.moments().b for shard in model.shards_]
    assert len(np.unique(np.round(sums, 9), axis=0)) == 5


@pytest.mark.parametrize("settings", MECHANISMS, ids=NAMES)
def test_it_asks_for_no_other_report_than_a_single_fit(settings):
    X, y, _ = records(200)
    tuned = LDPSparseRegressorCV(random_state=0, **settings).fit(X, y)
    single = LDPSparseRegressor(random_state=0, **settings).fit(X, y)
    assert tuned.config_ == single.config_ and tuned.privacy_ == single.privacy_
    assert tuned.n_reports_ == single.n_reports_ == 200


# --- scores ------------------------------------------------------------------------------------


def test_scores_by_hand(campaign):
    model = campaign[-1]
    shards, results = model.shards_, model.cv_results_
    for row, candidate in enumerate(results["params"]):
        scores, variances, sizes = [], [], []
        for held_out in shards:
            rest = merged([state for state in shards if state is not held_out])
            other = LDPSparseRegressor(**candidate)
            other, _ = warned(lambda o=other, r=rest: o.fit_aggregate(r))
            theta, m = other.theta_, held_out.moments()
            scores.append(score_by_hand(theta, m.S, m.b))
            # The entries of the upper triangle are independent of one another.
            variances.append(
                sum(
                    (theta[i] ** 2 * m.sd_diag) ** 2 + (2 * theta[i] * m.sd_b) ** 2
                    + sum((2 * theta[i] * theta[j] * m.sd_off) ** 2 for j in range(i))
                    for i in range(len(theta))
                )
            )  # fmt: skip
            sizes.append(np.count_nonzero(theta))
        np.testing.assert_allclose(results["mean_score"][row], np.mean(scores))
        np.testing.assert_allclose(results["std_error"][row], np.sqrt(np.sum(variances)) / 5)
        assert results["n_features"][row] == np.mean(sizes)
    order = np.argsort(results["mean_score"])
    np.testing.assert_array_equal(results["rank"][order], np.arange(1, 7))
    assert model.best_index_ == order[0]
    assert model.best_params_ == results["params"][order[0]]


def test_scores_are_unbiased():
    """Against the mean squared error of the records, which no server can know."""
    out, inside = [], []
    for seed in range(80):
        X, y, _ = records(4000, seed=seed)
        norms = np.sqrt(np.sum(X * X, axis=1))
        w = np.minimum(1.0, 2.0 / norms)
        X, y = X * w[:, None], np.clip(w * y, -2.5, 2.5)
        model = LDPSparseRegressorCV(
            6.0, param_grid={"n_nonzero": [4]}, coef_bound=5.0, cv=2, random_state=seed
        ).fit(X, y)
        truth, fooled = [], []
        for _, rest in (model.shards_, model.shards_[::-1]):
            theta = LDPSparseRegressor(n_nonzero=4, coef_bound=5.0).fit_aggregate(rest).theta_
            truth.append(np.mean((y - X @ theta) ** 2) - np.mean(y * y))
            m = rest.moments()
            fooled.append(score_by_hand(theta, m.S, m.b))
        error = model.cv_results_["std_error"][0]
        out.append((model.cv_results_["mean_score"][0] - np.mean(truth)) / error)
        inside.append((np.mean(fooled) - np.mean(truth)) / error)
    assert abs(np.mean(out)) < 4 / np.sqrt(80)
    # What the two folds say depends on the same reports, with a correlation of at most one.
    assert 0.7 < np.std(out) < 1.5
    # The reports that were used to find them speak well of the coefficients.
    assert np.mean(inside) < -8 / np.sqrt(80)


def test_a_single_shard_judges_itself():
    X, y, _ = records(2000)
    state = LDPSparseRegressor(20.0, random_state=0).fit(X, y).aggregator_
    model = LDPSparseRegressorCV(param_grid={"n_nonzero": [2]}).fit_aggregates([state])
    m = state.moments()
    score = score_by_hand(model.theta_, m.S, m.b)
    np.testing.assert_allclose(model.cv_results_["mean_score"], [score])


# --- the choice --------------------------------------------------------------------------------


def test_the_choice_is_sensible():
    sizes, found = [], 0
    for seed in range(12):
        X, y, coef = records(60_000, 6, 2, seed=seed)
        model = LDPSparseRegressorCV(4.0, random_state=100 + seed).fit(X, y)
        sizes.append(model.best_params_["n_nonzero"])
        found += np.all(model.support_[coef != 0])
        again = LDPSparseRegressor(**model.best_params_).fit_aggregate(model.aggregator_)
        np.testing.assert_array_equal(again.coef_, model.coef_)
        np.testing.assert_array_equal(again.coef_std_error_, model.coef_std_error_)
    # Features of size 0.7 stand out by more than ten standard errors; one too few loses half of
    # what can be explained, one too many hardly anything.
    assert found == 12 and min(sizes) == 2 and np.median(sizes) <= 4


def test_fewest_features_within_a_standard_error(campaign):
    shards = campaign[-1].shards_
    results = campaign[-1].cv_results_
    model, _ = warned(lambda: LDPSparseRegressorCV(selection="1se").fit_aggregates(shards))
    best = np.argmin(results["mean_score"])
    limit = results["mean_score"][best] + results["std_error"][best]
    within = [i for i in range(6) if results["mean_score"][i] <= limit]
    assert model.best_index_ == min(within, key=lambda i: results["n_features"][i])
    assert model.best_params_["n_nonzero"] == 2
    np.testing.assert_array_equal(model.support_, campaign[2] != 0)


@pytest.mark.parametrize(("d", "most"), [(3, 3), (25, 20)])
def test_default_candidates(d, most):
    X, y, _ = records(50, d)
    model = LDPSparseRegressorCV(random_state=0).fit(X, y)
    assert [c["n_nonzero"] for c in model.cv_results_["params"]] == list(range(1, most + 1))


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"n_nonzero": [5]}, "wrong value: n_nonzero must be at most the number of features, 4"),
        ({"n_nonzero": [0]}, "wrong value: The 'n_nonzero' parameter"),
        ({"solver": ["lasso"]}, "wrong value: The 'solver' parameter"),
        ({"epsilon": [1.0, 2.0]}, r"which clients do not use, got \['epsilon'\]"),
        ([{"alpha": [0.1]}, {"y_bound": [1.0]}], r"got \['y_bound'\]"),
        ({"n_nonzero": 2}, "param_grid is no grid of parameters"),
        ({"n_nonzero": []}, "param_grid"),
        ([], "param_grid must hold at least one candidate"),
        ([3], "param_grid is no grid of parameters"),
    ],
)
def test_candidates_that_are_none(grid, message):
    X, y, _ = records(20)
    with pytest.raises(ValueError, match=message):
        LDPSparseRegressorCV(param_grid=grid).fit(X, y)
    states = [MomentAggregator(LDPConfig("moments", 4))] * 2
    with pytest.raises(ValueError, match=message):
        LDPSparseRegressorCV(param_grid=grid).fit_aggregates(states)


# --- the server --------------------------------------------------------------------------------


def test_reports_are_split_by_their_nonces(campaign):
    X, y, _, model = campaign
    batch = SimulationRandomizer(model.config_, 5).randomize_batch(X[:5000], y[:5000])
    tuned = LDPSparseRegressorCV(cv=3)
    with pytest.raises(SimulatedReportError):
        tuned.fit_reports(batch)
    tuned.fit_reports(batch, allow_simulated=True)
    for remainder, shard in enumerate(tuned.shards_):
        mine = [i for i, nonce in enumerate(batch.nonces.tolist()) if nonce % 3 == remainder]
        expected = MomentAggregator(model.config_, allow_simulated=True).add_batch(batch[mine])
        assert shard == expected
    # The order in which they came is of no importance.
    other = LDPSparseRegressorCV(cv=3).fit_reports(batch[::-1], allow_simulated=True)
    np.testing.assert_array_equal(other.coef_, tuned.coef_)
    np.testing.assert_array_equal(
        other.cv_results_["mean_score"], tuned.cv_results_["mean_score"]
    )  # fmt: skip


def test_what_the_server_does_not_take(campaign):
    model = LDPSparseRegressorCV()
    state = campaign[-1].shards_[0]
    with pytest.raises(TypeError, match="batch must be a ReportBatch"):
        model.fit_reports([b""])
    with pytest.raises(TypeError, match="aggregator must be a MomentAggregator, got a int"):
        model.fit_aggregates([state, 3])
    with pytest.raises(ValueError, match="at least one state, got none"):
        model.fit_aggregates([])
    with pytest.raises(IncompatibleReportsError, match="one campaign"):
        model.fit_aggregates([state, MomentAggregator(LDPConfig("moments", 6, 2.0))])
    with pytest.raises(NotFittedError):
        model.fit_aggregates([state, MomentAggregator(state.config, allow_simulated=True)])
    assert not hasattr(model, "coef_")


def test_states_are_left_as_they_are(campaign):
    shards = campaign[-1].shards_
    before = [shard.to_bytes() for shard in shards]
    model, _ = warned(lambda: LDPSparseRegressorCV().fit_aggregates(shards))
    model.shards_[0].merge(model.shards_[1])
    assert [shard.to_bytes() for shard in shards] == before


def test_public_rows():
    X, y, coef = records(20_000)
    model = LDPSparseRegressorCV(8.0, X_public=X[:1000], random_state=0).fit(X, y)
    assert model.config_.kind == "cross" and np.all(model.support_[coef != 0])
    with pytest.raises(ValueError, match="X_public must hold the public rows"):
        LDPSparseRegressorCV().fit_aggregates(model.shards_)


def test_warnings_point_at_the_caller():
    X, y, _ = records(50)
    settings = {"X_public": np.ones((400, 4)), "cv": 2, "param_grid": {"n_nonzero": [1]}}
    model = LDPSparseRegressorCV(1e-3, random_state=0, **settings).fit(X, y)
    batch = SimulationRandomizer(model.config_, 0).randomize_batch(X, y)
    shards = model.shards_
    for call in (
        lambda: model.fit(X, y),
        lambda: model.fit_aggregates(shards),
        lambda: model.fit_reports(batch, allow_simulated=True),
    ):
        (warning,) = warned(call)[1]
        assert warning.category is LowSignalWarning and warning.filename == __file__


def test_a_callback_may_end_the_campaign():
    X, y, _ = records(400)
    progress = Progress(stop_after=12)
    model = LDPSparseRegressorCV(20.0, random_state=0).set_callbacks(progress).fit(X, y)
    # Eight parts of the first shard, four of the second.
    assert [shard.n_reports_ for shard in model.shards_] == [80, 40]
    assert not model.converged_ and len(progress.models) == 12
