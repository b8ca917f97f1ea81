"""The server's state: an exact monoid of bounded size, on the host and on devices."""

import functools
import math
import operator
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

import sparsestat
from sparsestat.privacy import _aggregator
from sparsestat.privacy._aggregator import MomentAggregator, NoisyMoments
from sparsestat.privacy._config import KINDS, MECHANISMS, LDPConfig
from sparsestat.privacy._directions import direction_keys, directions
from sparsestat.privacy._errors import ReportError
from sparsestat.privacy._query import Query
from sparsestat.privacy._records import clean_records, report_vectors, unpack_moments
from sparsestat.privacy._reports import ReportBatch
from sparsestat.privacy._simulation import (
    SimulationRandomizer,
    coin_generator,
    simulate_reports,
    simulate_state,
)

WORD = 2**64


def make(kind="moments", n_features=2, mechanism="one_bit", **settings):
    if mechanism in ("gaussian", "discrete_gaussian"):
        settings.setdefault("delta", 1e-5)
    return LDPConfig(kind, n_features, mechanism=mechanism, **settings)


def make_batch(config, n, seed=0):
    """Reports that nobody made: random nonces, bits and entries."""
    rng = np.random.default_rng(seed)
    nonces = rng.integers(WORD, size=n, dtype=np.uint64)
    if config.is_seeded:
        payload = rng.integers(2**config.n_bits, size=n).astype(np.uint32)
    else:
        limit = config.payload_limit
        payload = rng.integers(-limit, limit, size=(n, config.dim), endpoint=True).astype(np.int32)
    return ReportBatch(config, nonces, payload)


def reference_sums(batch):
    """The sums in Python's integers, from the directions as numpy makes them."""
    config = batch.config
    if not config.is_seeded:
        return [sum(column) for column in zip(*batch.payload.tolist())]
    keys = direction_keys(config.fingerprint(), batch.round, config.n_bits)
    z = directions(batch.nonces, keys, config.dim, config.mechanism == "duchi").tolist()
    sums = [0] * config.dim
    for mask, rows in zip(batch.payload.tolist(), z):
        for k, row in enumerate(rows):
            sign = 1 if mask >> k & 1 else -1
            sums = [total + sign * entry for total, entry in zip(sums, row)]
    return sums


ALL = pytest.mark.parametrize("mechanism", MECHANISMS)


# --- the sums ------------------------------------------------------------------------------


@ALL
@pytest.mark.parametrize("kind", KINDS)
def test_the_sums_are_those_of_the_reports(kind, mechanism):
    config = make(kind, 3, mechanism, epsilon=7.0)
    batch = make_batch(config, 40)
    state = MomentAggregator(config)
    assert state.add_batch(batch) is state
    assert state._sums.tolist() == reference_sums(batch)
    assert state._sums.dtype == np.int64
    one_by_one = MomentAggregator(config)
    for report in batch.to_reports():
        one_by_one.add(report).add_batch(batch[:0])
    assert one_by_one == state and one_by_one.n_reports_ == 40


# --- the monoid, bit for bit ---------------------------------------------------------------

CONFIGS = [make("moments", 2, mechanism, epsilon=5.0) for mechanism in MECHANISMS]


def group(draw, states):
    """Merge neighbours at random places until one state is left."""
    states = list(states)
    while len(states) > 1:
        i = draw(st.integers(0, len(states) - 2))
        merged = states[i] + states[i + 1]
        states[i : i + 2] = [merged]
    return states[0]


@given(st.data(), st.sampled_from(CONFIGS), st.booleans())
def test_any_partition_order_and_grouping_gives_the_same_bits(data, config, deduplicate):
    n = data.draw(st.integers(0, 24))
    batch = make_batch(config, n, seed=n)
    options = {"deduplicate": deduplicate}
    whole = MomentAggregator(config, **options).add_batch(batch)
    order = data.draw(st.permutations(range(n)))
    labels = data.draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))
    parts = [[i for i, label in zip(order, labels) if label == part] for part in range(5)]
    states = [
        MomentAggregator(config, **options).add_batch(batch[np.array(part, dtype=np.intp)])
        for part in parts
    ]
    before = [state.to_bytes() for state in states]
    total = group(data.draw, states)
    assert total.to_bytes() == whole.to_bytes() and total == whole
    # Sums leave what they were made of as it was.
    assert [state.to_bytes() for state in states] == before
    sent = [MomentAggregator.from_bytes(state.to_bytes(), config) for state in states]
    assert functools.reduce(operator.add, reversed(sent)) == whole
    in_place = MomentAggregator(config, **options)
    for state in states[::-1]:
        in_place += state
    assert in_place == whole


@ALL
def test_laws(mechanism):
    config = make("cross", 3, mechanism)
    empty = MomentAggregator(config)
    a, b, c = (MomentAggregator(config).add_batch(make_batch(config, n, seed=n)) for n in (3, 5, 8))
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a != a
    assert a + empty == empty + a == a == a.copy()
    assert empty + empty == empty != a
    twice = a + a
    assert twice.n_reports_ == 6 and twice._sums.tolist() == (2 * a._sums).tolist()
    assert functools.reduce(operator.add, [a, b, c], empty).n_reports_ == 16


def test_states_do_not_share_memory():
    config = make("cross")
    a = MomentAggregator(config).add_batch(make_batch(config, 4))
    copies = [a.copy(), MomentAggregator(config) + a, MomentAggregator(config).merge(a)]
    copies.append(pickle.loads(pickle.dumps(a)))
    before = a.to_bytes()
    for copy in copies:
        assert copy == a
        copy.add_batch(make_batch(config, 9, seed=1))
        copy += copy
        assert copy.n_reports_ == 26
    assert a.to_bytes() == before
    nonces = MomentAggregator(config, deduplicate=True).add_batch(make_batch(config, 4))
    other = nonces.copy().add_batch(make_batch(config, 4, seed=1))
    assert nonces.add_batch(make_batch(config, 4, seed=1)) == other


def test_equality_sees_everything():
    config = make("cross")
    batch = make_batch(config, 3)
    states = [
        MomentAggregator(config),
        MomentAggregator(config, round=1),
        MomentAggregator(config, deduplicate=True),
        MomentAggregator(config, allow_simulated=True),
        MomentAggregator(make("cross", campaign_id="b")),
        MomentAggregator(config).add_batch(batch),
        MomentAggregator(config).add_batch(batch[:2]),
    ]
    for i, a in enumerate(states):
        assert [a == b for b in states] == [i == j for j in range(len(states))]
    assert states[0] != b"" and MomentAggregator.__hash__ is None


@ALL
@pytest.mark.parametrize("n_jobs", [2, 3, -1])
def test_threads_do_not_change_a_bit(mechanism, n_jobs):
    config = make("moments", 6, mechanism, epsilon=5.0)
    batch = make_batch(config, 3001)
    one = MomentAggregator(config, n_jobs=1).add_batch(batch)
    many = MomentAggregator(config, n_jobs=n_jobs).add_batch(batch)
    assert many == one
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((500, 6)), rng.standard_normal(500)
    payloads = [
        SimulationRandomizer(config, 3, n_jobs=jobs).randomize_batch(X, y).payload.tobytes()
        for jobs in (1, n_jobs)
    ]
    assert payloads[0] == payloads[1]


# --- size and overflow ---------------------------------------------------------------------


@ALL
def test_the_state_does_not_grow(mechanism):
    config = make("moments", 50, mechanism)
    assert config.dim == 1325
    state = MomentAggregator(config)
    sizes = {len(state.to_bytes())}
    for n in (1, 10, 300):
        state.add_batch(make_batch(config, n, seed=n))
        sizes.add(len(state.to_bytes()))
        assert len(pickle.dumps(state)) < 8 * config.dim + 3000
    for _ in range(30):
        state += state
    sizes.add(len(state.to_bytes()))
    assert state.n_reports_ == 311 * 2**30
    assert sizes == {8 * config.dim + 51} and max(sizes) <= 8 * config.dim + 2048


def test_the_saved_state_is_small_too(tmp_path):
    config = make("moments", 50)
    state = MomentAggregator(config).add_batch(make_batch(config, 1000))
    state.save(tmp_path / "state.npz")
    assert (tmp_path / "state.npz").stat().st_size <= 8 * config.dim + 2048


@ALL
def test_sums_that_could_overflow_are_refused(mechanism):
    config = make("cross", 2, mechanism, epsilon=5.0)
    state = MomentAggregator(config).add_batch(make_batch(config, 3))
    most = {"one_bit": 32, "duchi": 2**24}.get(mechanism, 0) * (config.n_bits or 0)
    most = most or config.payload_limit
    doubled = 0
    with pytest.raises(ReportError, match="reports could overflow the 64-bit sums"):
        while True:
            before = state.to_bytes()
            state += state
            doubled += 1
    # What was refused would have been too much, and what was not could not have overflowed.
    assert state.to_bytes() == before
    assert state.n_reports_ == 3 * 2**doubled
    assert state.n_reports_ * most < 2**63 <= 2 * state.n_reports_ * most
    largest = np.abs(state._sums).max()
    assert largest <= state.n_reports_ * most


@pytest.mark.parametrize("mechanism", ["one_bit", "duchi"])
def test_the_largest_entry_of_a_direction(mechanism):
    config = make("cross", 3, mechanism)
    keys = direction_keys(config.fingerprint(), 0, 1)
    z = directions(np.arange(5000, dtype=np.uint64), keys, 3, mechanism == "duchi")
    limit = MomentAggregator(config)._largest_entry()
    assert np.abs(z).max() <= limit == (32 if mechanism == "one_bit" else 2**24)


# --- moments -------------------------------------------------------------------------------


def records(config, n, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, config.n_features)) @ np.array([[1.0, 0.5], [0.0, 0.8]])
    y = X[:, 0] + 0.5 * rng.standard_normal(n)
    query = None
    if config.kind == "gradient":
        query = Query(config.fingerprint(), 1, (0.4,) * config.n_columns)
    return *clean_records(X, y, config), query


@ALL
@pytest.mark.parametrize("kind", KINDS)
def test_moments_are_the_means_within_the_known_noise(kind, mechanism):
    n = 20_000
    config = make(kind, 2, mechanism, epsilon=4.0)
    X, y, query = records(config, n)
    theta = None if query is None else np.array(query.theta)
    mean = report_vectors(X, y, config, theta).mean(axis=0)
    for simulate in (simulate_reports, simulate_state):
        result = simulate(X, y, config, coin_generator(1), query=query)
        state = result
        if isinstance(result, ReportBatch):
            state = MomentAggregator(config, round=result.round, allow_simulated=True)
            state.add_batch(result)
        moments = state.moments()
        assert isinstance(moments, NoisyMoments) and moments.n_reports == n
        if kind == "moments":
            S, b = unpack_moments(mean, 2, config.gamma)
            sd = np.where(np.eye(2) == 1, moments.sd_diag, moments.sd_off)
            # Four standard deviations, and 0.39 % for directions that are not quite normal.
            assert np.all(np.abs(moments.S - S) < 4 * sd + 0.0039 * config.radius)
            assert moments.S[0, 1] == moments.S[1, 0]
        else:
            b = mean
            assert moments.S is None and moments.sd_diag == moments.sd_off == 0
        assert moments.b.shape == b.shape == ((1,) if kind == "label" else (2,))
        assert np.all(np.abs(moments.b - b) < 4 * moments.sd_b + 0.0039 * config.radius)


@ALL
def test_the_known_deviations_are_those_of_simulations(mechanism):
    n, trials = 50, 600
    config = make("moments", 2, mechanism, epsilon=4.0)
    X, y = np.zeros((n, 2)), np.zeros(n)
    all_moments = []
    for trial in range(trials):
        rng = np.random.default_rng([trial, 1])
        all_moments.append(simulate_state(X, y, config, rng).moments())
    moments = all_moments[0]
    S = np.array([m.S for m in all_moments])
    b = np.array([m.b for m in all_moments])
    # A standard deviation of 1200 numbers has a relative error of 1 / sqrt(2400), one of 600
    # numbers of 1 / sqrt(1200): four of them.
    assert S[:, [0, 1], [0, 1]].std() == pytest.approx(moments.sd_diag, rel=4 / math.sqrt(2400))
    assert S[:, 0, 1].std() == pytest.approx(moments.sd_off, rel=4 / math.sqrt(1200))
    assert b.std() == pytest.approx(moments.sd_b, rel=4 / math.sqrt(2400))
    scale = config.noise_scale / math.sqrt(n)
    assert moments.sd_diag == pytest.approx(scale)
    assert moments.sd_off == pytest.approx(scale / math.sqrt(2))
    assert moments.sd_b == pytest.approx(scale / config.gamma)


@pytest.mark.parametrize("mechanism", ["gaussian", "discrete_gaussian"])
def test_the_sum_of_the_noise_in_one_draw_has_the_same_law(mechanism):
    n, trials = 30, 800
    config = make("label", 1, mechanism, epsilon=3.0)
    X, y = np.zeros((n, 1)), np.linspace(-2, 2, n) + 0.1
    one, many = [], []
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        one.append(simulate_state(X, y, config, rng).moments().b[0])
        batch = simulate_reports(X, y, config, rng)
        state = MomentAggregator(config, allow_simulated=True).add_batch(batch)
        many.append(state.moments().b[0])
    sd = config.noise_scale / math.sqrt(n)
    for sums in (one, many):
        assert abs(np.mean(sums) - y.mean()) < 4 * sd / math.sqrt(trials)
        assert np.std(sums) == pytest.approx(sd, rel=4 / math.sqrt(2 * trials))
        # Half of it lies within 0.6745 standard deviations.
        inside = np.mean(np.abs(np.array(sums) - y.mean()) < 0.6745 * sd)
        assert abs(inside - 0.5) < 4 * 0.5 / math.sqrt(trials)


def test_no_reports_no_moments():
    for kind in KINDS:
        with pytest.raises(NotFittedError, match="has no reports yet"):
            MomentAggregator(make(kind)).moments()


def test_a_gram_matrix_from_elsewhere():
    config = make("cross")
    moments = MomentAggregator(config).add_batch(make_batch(config, 3)).moments()
    combined = moments.with_gram(np.eye(2), np.float64(0.1), 0.2)
    assert combined.S is not None and moments.S is None
    assert (combined.sd_diag, combined.sd_off, combined.sd_b) == (0.1, 0.2, moments.sd_b)
    assert combined.n_reports == 3


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"config": "moments"}, TypeError, "config must be an LDPConfig, got a str"),
        ({"round": -1}, ValueError, r"round must be in \[0, 65535\], got -1"),
        ({"round": 2**16}, ValueError, "round must be in"),
    ],
)
def test_what_an_aggregator_is_not_made_of(options, error, message):
    with pytest.raises(error, match=message):
        MomentAggregator(**({"config": make()} | options))


def test_it_says_what_it_holds():
    state = MomentAggregator(make("label"), round=3).add_batch(
        ReportBatch(make("label"), np.zeros(0, np.uint64), np.zeros(0, np.uint32), round=3)
    )
    assert repr(state) == (
        "MomentAggregator(0 reports, kind='label', mechanism='one_bit', round=3)"
    )


def test_poisoned_reports_move_a_mean_by_a_bounded_amount():
    # The worst that k clients can do: all bits of nonces whose directions are the largest.
    config = make("cross", 2)
    keys = direction_keys(config.fingerprint(), 0, 1)
    nonces = np.arange(200_000, dtype=np.uint64)
    z = directions(nonces, keys, 2)[:, 0, 0]
    chosen = nonces[np.argsort(-np.abs(z))[:50]]
    bits = (z[chosen.astype(np.intp)] > 0).astype(np.uint32)
    honest = MomentAggregator(config).add_batch(make_batch(config, 950))
    moved = honest.copy().add_batch(ReportBatch(config, chosen, bits))
    shift = abs(moved.moments().b[0] - honest.moments().b[0] * 0.95)
    assert 0 < shift <= 50 * 32 * config.unit / 1000


# --- devices -------------------------------------------------------------------------------


@pytest.fixture
def device(xp, monkeypatch):
    """An array library whose arrays come to the host where the aggregator asks for it only."""
    moved = []

    def to_host(array):
        if isinstance(array, np.ndarray):
            return array
        moved.append(array)
        return xp.to_numpy(array)

    monkeypatch.setattr(_aggregator, "as_host", to_host)
    xp.moved = moved
    return xp


def on_device(xp, batch):
    return ReportBatch(
        batch.config, xp.asarray(batch.nonces), xp.asarray(batch.payload), round=batch.round
    )


@ALL
def test_device_arrays_give_the_same_bits(device, mechanism):
    config = make("moments", 3, mechanism, epsilon=5.0)
    batch, later = make_batch(config, 33), make_batch(config, 7, seed=1)
    expected = MomentAggregator(config)
    expected._sums = np.array(reference_sums(batch)) + np.array(reference_sums(later))
    expected.n_reports_ = 40
    first = MomentAggregator(config).add_batch(on_device(device, batch))
    second = MomentAggregator(config).add_batch(on_device(device, later))
    total = MomentAggregator(config) + first + second + MomentAggregator(config)
    total = total.add_batch(on_device(device, batch[:0]))
    device.assert_native(total._sums)
    assert not device.moved
    if config.is_seeded:
        device.assert_twin_ran()
    assert total == expected
    np.testing.assert_array_equal(total.moments().S, expected.moments().S)
    restored = MomentAggregator.from_bytes(total.to_bytes(), config)
    assert restored == expected and isinstance(restored._sums, np.ndarray)


@ALL
def test_bad_payloads_on_a_device_are_refused(device, mechanism):
    config = make("moments", 3, mechanism, epsilon=5.0)
    batch = make_batch(config, 5)
    state = MomentAggregator(config).add_batch(on_device(device, batch))
    before = state.to_bytes()
    payload = batch.payload.copy()
    payload[3] = 2**config.n_bits if config.is_seeded else config.payload_limit + 1
    wrong = on_device(device, ReportBatch(config, batch.nonces, payload))
    with pytest.raises(ReportError, match="payload must have"):
        state.add_batch(wrong)
    assert state.to_bytes() == before


@ALL
def test_devices_are_not_mixed(device, mechanism, request):
    if "[numpy-" in request.node.name:
        pytest.skip("NumPy lives on the host itself")
    config = make("cross", 3, mechanism, epsilon=5.0)
    batch = make_batch(config, 5)
    there = on_device(device, batch)
    # The fixture lets only the twin run, on the host too.
    with sparsestat.config_context(backend="array_api"):
        for mine, stranger in ((batch, there), (there, batch)):
            state = MomentAggregator(config).add_batch(mine)
            before = state.to_bytes()
            with pytest.raises(TypeError, match="must belong to one library"):
                state.add_batch(stranger)
            with pytest.raises(TypeError, match="must belong to one library"):
                state.merge(MomentAggregator(config).add_batch(stranger))
            assert state.to_bytes() == before
        if config.is_seeded:
            mixed = ReportBatch(config, there.nonces, batch.payload)
            with pytest.raises(TypeError, match="must belong to one library"):
                MomentAggregator(config).add_batch(mixed)


def test_duplicates_on_a_device(device):
    config = make("cross")
    batch = make_batch(config, 5)
    state = MomentAggregator(config, deduplicate=True).add_batch(on_device(device, batch))
    with pytest.raises(ReportError, match="a nonce comes a second time"):
        state.add_batch(on_device(device, batch[4:]))
    assert state.n_reports_ == 5


def test_as_host_reads_any_array():
    import array_api_strict

    values = np.arange(3)
    assert _aggregator.as_host(values) is values
    there = array_api_strict.asarray(values, device=array_api_strict.Device("device1"))
    back = _aggregator.as_host(there)
    assert type(back) is np.ndarray and back.tolist() == [0, 1, 2]
