"""The server of an interactive campaign: resumable, exact in what it refuses, and its noise."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

from sparsestat.privacy._aggregator import MomentAggregator
from sparsestat.privacy._client import Randomizer
from sparsestat.privacy._config import LDPConfig
from sparsestat.privacy._errors import (
    DuplicateReportError,
    IncompatibleReportsError,
    PrivacyBudgetExceeded,
    ReportError,
    SimulatedReportError,
)
from sparsestat.privacy._iht_server import LDPIHTServer, keep_largest, project_to_ball
from sparsestat.privacy._query import Query
from sparsestat.privacy._records import clean_records
from sparsestat.privacy._reports import ReportBatch
from sparsestat.privacy._simulation import SimulationRandomizer, coin_generator, simulate_state

WORD = 2**64
CONFIG = LDPConfig("gradient", 4, epsilon=5.0, fit_intercept=True, campaign_id="iht")


def make_server(config=CONFIG, **options):
    return LDPIHTServer(config, **({"n_nonzero": 2, "n_rounds": 3} | options))


def make_batch(n, round, seed=0, config=CONFIG, **options):
    rng = np.random.default_rng([seed, round])
    nonces = rng.integers(WORD, size=n, dtype=np.uint64)
    bits = rng.integers(2**config.n_bits, size=n).astype(np.uint32)
    return ReportBatch(config, nonces, bits, round=round, **options)


def finish(server, n=5):
    while not server.done:
        server.ingest(make_batch(n, server.query().round)).close_round()
    return server


# --- stopping and going on -----------------------------------------------------------------


@pytest.mark.parametrize("averaging", [True, False])
def test_it_can_stop_after_any_report(averaging, tmp_path):
    server = make_server(averaging=averaging, deduplicate=True, step=0.7, coef_bound=0.5)
    resumed = make_server(averaging=averaging, deduplicate=True, step=0.7, coef_bound=0.5)

    def restart(one):
        data = one.to_bytes()
        again = LDPIHTServer.from_bytes(data, CONFIG)
        assert again.to_bytes() == data and repr(again) == repr(one)
        return again

    while not server.done:
        query = server.query()
        resumed = restart(resumed)
        assert resumed.query() == query
        for report in make_batch(6, query.round).to_reports():
            server.ingest(report)
            resumed = restart(resumed).ingest(report.to_bytes())
            assert resumed.to_bytes() == server.to_bytes()
        server.close_round()
        resumed = restart(restart(resumed).close_round())
    resumed.save(tmp_path / "server.npz")
    for other in (
        resumed,
        LDPIHTServer.load(tmp_path / "server.npz"),
        pickle.loads(pickle.dumps(resumed)),
    ):
        assert other.done and other.to_bytes() == server.to_bytes()
        np.testing.assert_array_equal(other.path_, server.path_)
        np.testing.assert_array_equal(other.coef_, server.coef_)
        assert other.intercept_ == server.intercept_
        assert other.n_reports_ == server.n_reports_ == 18
        assert other.noise_scales_ == server.noise_scales_
        assert other.noise_scale_ == server.noise_scale_
        with pytest.raises(ValueError, match="All 3 rounds are closed"):
            other.query()


def test_forms_of_reports_are_the_same():
    batch = make_batch(7, 1)
    state = MomentAggregator(CONFIG, round=1).add_batch(batch)
    servers = [
        make_server().ingest(batch),
        make_server().ingest(state),
        make_server().ingest(state.copy()),
        make_server().ingest(batch[:3]).ingest(batch[3:]),
        make_server()
        .ingest(batch[4:])
        .ingest(MomentAggregator(CONFIG, round=1).add_batch(batch[:4])),
    ]
    one_by_one = make_server()
    for report in batch.to_reports():
        one_by_one.ingest(report)
    assert {server.to_bytes() for server in servers} == {one_by_one.to_bytes()}
    before = state.to_bytes()
    servers[1].close_round()
    assert state.to_bytes() == before


def test_the_size_of_the_state_does_not_depend_on_the_reports():
    server = make_server().ingest(make_batch(9, 1))
    size = len(server.to_bytes())
    server.ingest(make_batch(900, 1, seed=1))
    assert len(server.to_bytes()) == size


# --- what is refused -----------------------------------------------------------------------


def test_refused_reports_leave_the_server_untouched():
    server = make_server(deduplicate=True)
    server.ingest(make_batch(4, 1)).close_round()
    server.ingest(make_batch(4, 2))
    other = LDPConfig("gradient", 4, epsilon=5.0, fit_intercept=True, campaign_id="another")
    beyond = make_batch(4, 2, seed=1)
    beyond.payload[0] = 2**CONFIG.n_bits
    before = server.to_bytes()
    for reports, error, message in [
        (make_batch(4, 1, seed=1), IncompatibleReportsError, "must be of round 2, got round 1"),
        (make_batch(4, 3), IncompatibleReportsError, "must be of round 2, got round 3"),
        (make_batch(4, 0), IncompatibleReportsError, "must be of round 2, got round 0"),
        (make_batch(4, 1).to_reports()[0], IncompatibleReportsError, "must be of round 2"),
        (make_batch(4, 2, config=other), IncompatibleReportsError, "another configuration"),
        (make_batch(4, 2, seed=1, simulated=True), SimulatedReportError, "are simulated"),
        (make_batch(4, 2), DuplicateReportError, "a nonce comes a second time"),
        (MomentAggregator(CONFIG, round=1), IncompatibleReportsError, "must be of round 2"),
        (MomentAggregator(CONFIG, round=2), IncompatibleReportsError, "both states must look"),
        (beyond, ReportError, "got bits beyond"),
        (b"", ReportError, "data must be a report"),
        (
            make_batch(1, 2, seed=1).to_reports()[0].to_bytes()[:-1],
            ReportError,
            "data must be a re",
        ),
        ([], TypeError, "batch must be a ReportBatch, got a list"),
        (None, TypeError, "batch must be a ReportBatch"),
    ]:
        with pytest.raises(error, match=message):
            server.ingest(reports)
        assert server.to_bytes() == before


def test_empty_and_closed_rounds():
    server = make_server()
    before = server.to_bytes()
    for _ in range(2):
        with pytest.raises(ValueError, match="Round 1 has no reports yet"):
            server.close_round()
    server.ingest(make_batch(0, 1))
    with pytest.raises(ValueError, match="Round 1 has no reports yet"):
        server.close_round()
    with pytest.raises(NotFittedError, match="No round is closed yet"):
        _ = server.noise_scale_
    assert server.to_bytes() == before and not server.done
    assert server.theta_.tolist() == [0.0] * 5 and server.coef_.tolist() == [0.0] * 4
    finish(server)
    assert server.done and len(server.path_) == 4
    before = server.to_bytes()
    for call in (
        server.query,
        server.close_round,
        lambda: server.ingest(make_batch(3, 3)),
        lambda: server.ingest(make_batch(3, 4)),
    ):
        with pytest.raises(ValueError, match="All 3 rounds are closed; the campaign is over"):
            call()
    assert server.to_bytes() == before


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"config": None}, ValueError, "config must be an LDPConfig of kind 'gradient', got None"),
        ({"config": LDPConfig("cross", 2)}, ValueError, "of kind 'gradient', got 'cross'"),
        ({"n_nonzero": 5}, ValueError, r"n_nonzero must be in \[1, 4\], got 5"),
        ({"n_nonzero": 0}, ValueError, r"n_nonzero must be in \[1, 4\], got 0"),
        ({"n_nonzero": 2.0}, TypeError, "n_nonzero must be an integer, got 2.0"),
        ({"n_nonzero": True}, TypeError, "n_nonzero must be an integer"),
        ({"n_rounds": 0}, ValueError, r"n_rounds must be in \[1, 65535\], got 0"),
        ({"n_rounds": 2**16}, ValueError, "n_rounds must be in"),
        ({"step": 0.0}, ValueError, "step must be positive and finite, got 0.0"),
        ({"step": math.nan}, ValueError, "step must be positive and finite"),
        ({"step": "large"}, TypeError, "step must be a number, got 'large'"),
        ({"coef_bound": math.inf}, ValueError, "coef_bound must be positive and finite"),
        ({"coef_bound": None}, TypeError, "coef_bound must be a number, got None"),
    ],
)
def test_what_a_server_is_not_made_of(options, error, message):
    with pytest.raises(error, match=message):
        LDPIHTServer(**({"config": CONFIG, "n_nonzero": 2} | options))


# --- one report of each user ---------------------------------------------------------------


def test_a_user_answers_once(tmp_path):
    server = make_server()
    # Each user's client has a ledger of its own, which outlives the rounds.
    ledgers = [tmp_path / f"user{i}" for i in range(6)]
    record = [0.5, 1.0, -1.0, 0.2], 0.7
    answers = []
    for round in (1, 2, 3):
        query = Query.from_json(server.query().to_json())
        assert query.round == round
        for i, ledger in enumerate(ledgers):
            # Users come back in rounds that are not theirs, and are told so by their device.
            client = Randomizer(CONFIG, ledger=ledger)
            try:
                server.ingest(client.randomize(*record, query=query))
                answers.append(i)
            except PrivacyBudgetExceeded:
                pass
        if round == 1:
            assert answers == list(range(6))
            ledgers.append(tmp_path / "late")
        if round < 3:
            server.close_round()
            if round == 2:
                with pytest.raises(ValueError, match="Round 3 has no reports yet"):
                    server.close_round()
    assert answers == list(range(7)) and server.n_reports_ == 7


def test_a_report_counts_in_its_own_round_only():
    server = make_server()
    late = make_batch(1, 1, seed=8).to_reports()[0]
    server.ingest(make_batch(4, 1)).close_round()
    with pytest.raises(IncompatibleReportsError, match="must be of round 2, got round 1"):
        server.ingest(late)
    # The round is under the checksum, and in the directions of a report.
    data = bytearray(late.to_bytes())
    data[5] = 2
    with pytest.raises(ReportError, match="data is damaged"):
        server.ingest(bytes(data))


# --- the step ------------------------------------------------------------------------------


def test_a_round_by_hand():
    server = make_server(step=0.3, coef_bound=0.05)
    batches = [make_batch(50, round) for round in (1, 2, 3)]
    steps, theta = [], np.zeros(5)
    for batch in batches:
        assert server.query() == Query(CONFIG.fingerprint(), batch.round, tuple(theta))
        moments = MomentAggregator(CONFIG, round=batch.round).add_batch(batch).moments()
        steps.append(theta - 0.3 * moments.b)
        # The average leaves the first step out as soon as there is another.
        mean = np.mean(steps[1:] or steps, axis=0)
        order = sorted(range(1, 5), key=lambda j: -abs(mean[j]))
        theta = np.where(np.isin(np.arange(5), [0, *order[:2]]), mean, 0.0)
        # The bound is on the coefficients, not on the intercept.
        norm = math.sqrt(sum(t * t for t in theta[1:]))
        theta[1:] *= min(1.0, 0.05 / norm)
        server.ingest(batch).close_round()
        np.testing.assert_allclose(server.theta_, theta, rtol=1e-12)
        assert server.noise_scales_[-1] == moments.sd_b
    assert server.n_reports_ == 150


def test_without_averaging_the_last_step_counts():
    server = make_server(averaging=False, coef_bound=100.0)
    for round in (1, 2, 3):
        theta = server.theta_
        batch = make_batch(50, round)
        server.ingest(batch).close_round()
        moments = MomentAggregator(CONFIG, round=round).add_batch(batch).moments()
        expected = keep_largest(theta - 1.2 * moments.b, 2, True)
        np.testing.assert_allclose(server.theta_, expected, rtol=1e-12)
    assert server.noise_scale_ == pytest.approx(1.2 * server.noise_scales_[-1])


def test_steps_by_loss():
    logistic = LDPConfig("gradient", 2, loss="logistic")
    assert make_server().step == 1.2 and make_server(logistic).step == 4.8
    assert make_server(step=np.float64(0.5)).step == 0.5


def test_coefficients_in_the_units_of_the_data():
    config = LDPConfig(
        "gradient",
        2,
        fit_intercept=True,
        feature_center=(1.0, -2.0),
        feature_scale=(2.0, 4.0),
        y_center=10.0,
        y_scale=5.0,
    )
    server = LDPIHTServer(config, n_nonzero=2, n_rounds=1)
    server.ingest(make_batch(20, 1, config=config)).close_round()
    rng = np.random.default_rng(0)
    X = rng.standard_normal((6, 2))
    scaled, _ = clean_records(X, np.zeros(6), config)
    expected = 10.0 + 5.0 * (scaled @ server.theta_)
    np.testing.assert_allclose(X @ server.coef_ + server.intercept_, expected, rtol=1e-12)


@given(
    st.lists(st.sampled_from([0.0, 1.0, -1.0, 2.0, -2.0, 0.5]), min_size=2, max_size=8),
    st.integers(1, 8),
    st.booleans(),
)
def test_keep_largest(values, n_nonzero, has_intercept):
    theta = np.array(values)
    kept = keep_largest(theta, n_nonzero, has_intercept)
    first = int(has_intercept)
    # Python's sort is stable: of equal sizes the first stay.
    order = sorted(range(first, len(values)), key=lambda j: -abs(values[j]))[:n_nonzero]
    expected = [v if j < first or j in order else 0.0 for j, v in enumerate(values)]
    assert kept.tolist() == expected
    assert theta.tolist() == values


def test_ties_stay_in_order():
    assert keep_largest(np.array([1.0, -1.0, 1.0, -1.0]), 2, False).tolist() == [1, -1, 0, 0]
    assert keep_largest(np.array([0.0, 1.0, -1.0, 1.0]), 2, True).tolist() == [0, 1, -1, 0]


@given(st.lists(st.floats(-1e100, 1e100), min_size=1, max_size=6), st.floats(1e-6, 1e6))
def test_projection_onto_a_ball(values, radius):
    theta = np.array(values)
    projected = project_to_ball(theta, radius)
    norm = math.hypot(*values)
    assert math.hypot(*projected) <= radius * (1 + 1e-12)
    if norm <= radius * (1 - 1e-12):
        assert projected.tolist() == values
    elif norm > radius * (1 + 1e-12):
        np.testing.assert_allclose(projected, theta * (radius / norm), rtol=1e-9, atol=1e-300)
        np.testing.assert_allclose(project_to_ball(projected, radius), projected, rtol=1e-9)


# --- the known noise -----------------------------------------------------------------------


@pytest.mark.parametrize("averaging", [True, False])
@pytest.mark.parametrize("mechanism", ["one_bit", "discrete_gaussian"])
def test_the_known_noise_of_a_point_is_that_of_simulations(mechanism, averaging):
    # Records on the two axes, whose residuals are never clipped and whose mean of x x' is a
    # half: with a step of 2 every round would end at the solution were it not for the noise.
    delta = 0.0 if mechanism == "one_bit" else 1e-5
    config = LDPConfig(
        "gradient", 2, 5.0, delta, mechanism, n_bits=None, x_bound=1.0, residual_bound=50.0
    )
    n, trials = 60, 400
    X = np.tile(np.eye(2), (n // 2, 1))
    truth = np.array([0.4, -0.2])
    y = X @ truth
    points = []
    for trial in range(trials):
        server = LDPIHTServer(
            config,
            n_nonzero=2,
            n_rounds=4,
            step=2.0,
            coef_bound=1e9,
            averaging=averaging,
            allow_simulated=True,
        )
        rng = coin_generator(trial)
        while not server.done:
            server.ingest(simulate_state(X, y, config, rng, query=server.query())).close_round()
        points.append(server.theta_)
    errors = np.array(points) - truth
    # 800 numbers: the standard deviation has a relative error of 1 / 40, the mean one of 1 / 28
    # standard deviations.
    assert errors.std() == pytest.approx(server.noise_scale_, rel=4 / 40)
    assert np.all(np.abs(errors.mean(axis=0)) < 4 * server.noise_scale_ / math.sqrt(trials))
    scales = server.noise_scales_[1:] if averaging else server.noise_scales_[3:]
    assert server.noise_scale_ == pytest.approx(2.0 * scales[0] / math.sqrt(len(scales)))


def test_averaging_takes_the_noise_of_all_rounds_but_the_first():
    server = finish(make_server(n_rounds=4), n=10)
    # Rounds of different sizes have noise of different sizes.
    server.noise_scales_ = [9.0, 3.0, 4.0, 12.0]
    assert server.noise_scale_ == pytest.approx(1.2 * 13.0 / 3)
    single = finish(make_server(n_rounds=1))
    assert single.noise_scale_ == pytest.approx(1.2 * single.noise_scales_[0])


def test_a_campaign_finds_the_coefficients():
    rng = np.random.default_rng(4)
    n, d = 40_000, 6
    theta = np.array([0.6, 0.0, -0.5, 0.0, 0.0, 0.0])
    config = LDPConfig("gradient", d, 4.0)
    server = LDPIHTServer(config, n_nonzero=2, allow_simulated=True)
    randomizer = SimulationRandomizer(config, 5)
    for _ in range(4):
        X = rng.standard_normal((n, d))
        y = X @ theta + 0.3 * rng.standard_normal(n)
        server.ingest(randomizer.randomize_batch(X, y, query=server.query())).close_round()
    assert np.flatnonzero(server.coef_).tolist() == [0, 2]
    # Five known standard deviations, and the noise of the records itself is far below.
    assert np.abs(server.coef_ - theta).max() < 5 * server.noise_scale_
    assert server.noise_scale_ < 0.05
