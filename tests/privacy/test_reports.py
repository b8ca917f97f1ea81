"""What travels: bytes that come through whole, or are refused as a whole."""

import copy
import itertools
import operator
import pickle
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsestat.privacy._aggregator import MomentAggregator
from sparsestat.privacy._client import Randomizer
from sparsestat.privacy._config import LDPConfig
from sparsestat.privacy._errors import (
    DuplicateReportError,
    IncompatibleReportsError,
    ReportError,
    SimulatedReportError,
)
from sparsestat.privacy._iht_server import LDPIHTServer
from sparsestat.privacy._query import Query
from sparsestat.privacy._reports import (
    MAX_ROUND,
    OVERHEAD,
    Report,
    ReportBatch,
)
from sparsestat.privacy._simulation import SimulationRandomizer

from ._batches import CONFIG, GRID, SHORT, WORD, make_batch, make_server, same

# --- single reports ------------------------------------------------------------------------

reports = st.builds(
    Report,
    st.binary(min_size=16, max_size=16),
    st.integers(0, MAX_ROUND),
    st.integers(0, WORD - 1),
    st.binary(min_size=1, max_size=40),
    st.booleans(),
)


@given(reports)
def test_bytes_round_trip(report):
    data = report.to_bytes()
    again = Report.from_bytes(data)
    assert again == report and hash(again) == hash(report) and again.to_bytes() == data
    for name in Report.__slots__:
        assert getattr(again, name) == getattr(report, name)
    assert Report.from_bytes(bytearray(data)) == Report.from_bytes(memoryview(data)) == report
    assert pickle.loads(pickle.dumps(report)) == copy.copy(report) == report
    assert len(data) == OVERHEAD + len(report.payload)


@given(reports, reports)
def test_different_reports_have_different_bytes(a, b):
    fields = [[getattr(r, name) for name in Report.__slots__] for r in (a, b)]
    assert (a == b) == (a.to_bytes() == b.to_bytes()) == (fields[0] == fields[1])


@given(st.binary(max_size=80))
def test_any_other_bytes_are_no_report(data):
    with pytest.raises(ReportError):
        Report.from_bytes(data)
    with pytest.raises(ReportError):
        Report.from_bytes(b"LDP\x01" + data)


def test_every_changed_bit_of_a_report_is_noticed():
    state = MomentAggregator(CONFIG)
    report = Randomizer(CONFIG).randomize([1.0, 2.0, 3.0], 1.0)
    data = report.to_bytes()
    before = state.to_bytes()
    for position in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(ReportError, match="data"):
            state.add(bytes(damaged))
    for length in range(len(data)):
        for part in (data[:length], data[len(data) - length :]):
            with pytest.raises(ReportError):
                state.add(part)
    for longer in (data + b"\0", b"\0" + data, data + data):
        with pytest.raises(ReportError):
            state.add(longer)
    assert state.to_bytes() == before
    state.add(data)
    assert state.n_reports_ == 1


def test_bytes_of_another_version():
    data = bytearray(Report(bytes(16), 0, 1, b"\1").to_bytes())
    data[4] |= 0x80
    body = bytes(data[:-4])
    with pytest.raises(ReportError, match="unknown flags 0x80: another version wrote it"):
        Report.from_bytes(body + zlib.crc32(body).to_bytes(4, "little"))
    body = b"LDP\x02" + body[4:]
    with pytest.raises(ReportError, match=r"beginning with b'LDP\\x01', got b'LDP\\x02'"):
        Report.from_bytes(body + zlib.crc32(body).to_bytes(4, "little"))


@pytest.mark.parametrize("wrong", [50, "report", None, 1.0, [1, 2]])
def test_what_is_no_bytes_at_all(wrong):
    # bytes(50) would be fifty zeros.
    for read in (
        Report.from_bytes,
        lambda data: MomentAggregator.from_bytes(data, CONFIG),
        lambda data: LDPIHTServer.from_bytes(data, CONFIG),
        lambda data: ReportBatch.from_reports([data], CONFIG),
    ):
        with pytest.raises(TypeError):
            read(wrong)


def test_a_report_says_little_of_itself():
    report = Report(bytes(16), 2, 7, b"\1", simulated=True)
    assert repr(report) == (
        f"Report(fingerprint='{'00' * 16}', round=2, nonce=7, 1 bytes, simulated)"
    )
    assert report != report.to_bytes()


@pytest.mark.parametrize("epsilon", [1e-6, 0.1, 1.0, 5.0, 20.0, 50.0])
def test_reports_are_at_most_forty_bytes(epsilon):
    for mechanism in ("one_bit", "duchi"):
        config = LDPConfig("moments", 50, epsilon, mechanism=mechanism)
        data = Randomizer(config).randomize(np.zeros(50), 0.0).to_bytes()
        assert len(data) == config.report_size <= 40


# --- batches -------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [CONFIG, GRID], ids=["bits", "grid"])
def test_batches_of_reports_and_back(config):
    batch = make_batch(config, round=3, simulated=True)
    singles = batch.to_reports()
    assert len(singles) == len(batch) == 5
    for form in (singles, [report.to_bytes() for report in singles], iter(singles)):
        assert same(ReportBatch.from_reports(form, config), batch)
    assert all(len(report.to_bytes()) == config.report_size for report in singles)
    empty = ReportBatch.from_reports([], config)
    assert len(empty) == 0 and empty.payload.shape == make_batch(config, 0).payload.shape
    assert MomentAggregator(config).add_batch(empty).n_reports_ == 0


def test_parts_of_batches():
    batch = make_batch(round=1)
    assert same(batch[2], batch[2:3]) and same(batch[-1], batch[4:])
    assert same(batch[np.array([True, False, True, False, False])], batch[[0, 2]])
    assert same(ReportBatch.concatenate([batch[:2], batch[2:2], batch[2:]]), batch)
    assert repr(batch[1:3]) == "ReportBatch(2 reports, kind='cross', mechanism='one_bit', round=1)"
    mixed = ReportBatch.concatenate([batch, make_batch(round=1, simulated=True)])
    assert mixed.simulated and "simulated" in repr(mixed)
    for other in (make_batch(round=2), make_batch(GRID, round=1)):
        with pytest.raises(IncompatibleReportsError, match="share one configuration and round"):
            ReportBatch.concatenate([batch, other])
    with pytest.raises(ValueError, match="batches must hold at least one"):
        ReportBatch.concatenate([])


def test_reports_that_do_not_belong_together():
    mine, other = make_batch().to_reports(), make_batch(GRID).to_reports()
    with pytest.raises(IncompatibleReportsError, match=r"reports\[5\] was made for another conf"):
        ReportBatch.from_reports(mine + other, CONFIG)
    for changed in ({"round": 1}, {"simulated": True}):
        strangers = make_batch(**changed).to_reports()
        with pytest.raises(
            IncompatibleReportsError, match=r"one round and one origin; .*ports\[5\]"
        ):
            ReportBatch.from_reports(mine + strangers, CONFIG)


@pytest.mark.parametrize("payload", [b"", b"\1\0", b"\x08", b"\xff"])
def test_payloads_of_a_wrong_size(payload):
    report = Report(CONFIG.fingerprint(), 0, 1, payload)
    with pytest.raises(ReportError, match=r"reports\[0\] must hold 3 bits in 1 bytes"):
        ReportBatch.from_reports([report], CONFIG)


@pytest.mark.parametrize("length", [0, 11, 13, 24])
def test_vectors_of_a_wrong_size(length):
    report = Report(GRID.fingerprint(), 0, 1, bytes(length))
    with pytest.raises(ReportError, match=r"reports\[0\] must hold 3 entries of 4 bytes"):
        ReportBatch.from_reports([report], GRID)


@pytest.mark.parametrize(
    ("nonces", "payload", "message"),
    [
        (np.zeros(2, np.int64), np.zeros(2, np.uint32), "nonces must be .* type uint64"),
        (np.zeros(2, ">u8"), np.zeros(2, np.uint32), "nonces must be .* type uint64"),
        (np.zeros((2, 1), np.uint64), np.zeros(2, np.uint32), r"nonces must be of shape \(2,\)"),
        (np.zeros(2, np.uint64), np.zeros(3, np.uint32), r"payload must be of shape \(2,\)"),
        (np.zeros(2, np.uint64), np.zeros(2, np.int64), "payload must be .* type uint32"),
        (np.zeros(2, np.uint64), np.zeros((2, 3), np.int32), r"payload must be of shape \(2,\)"),
    ],
)
def test_columns_that_do_not_fit(nonces, payload, message):
    with pytest.raises(ReportError, match=message):
        ReportBatch(CONFIG, nonces, payload)


def test_what_a_batch_is_not_made_of():
    nonces, payload = np.zeros(2, np.uint64), np.zeros(2, np.uint32)
    with pytest.raises(TypeError, match="nonces must be an array of type uint64, got a list"):
        ReportBatch(CONFIG, [1, 2], payload)
    with pytest.raises(TypeError, match="config must be an LDPConfig, got a bytes"):
        ReportBatch(CONFIG.fingerprint(), nonces, payload)
    for round in (-1, MAX_ROUND + 1):
        with pytest.raises(ReportError, match=r"round must be in \[0, 65535\]"):
            ReportBatch(CONFIG, nonces, payload, round=round)


# --- what a server refuses -----------------------------------------------------------------


def refused(state, error, message, call, *args):
    before = state.to_bytes()
    with pytest.raises(error, match=message):
        call(state, *args)
    assert state.to_bytes() == before


add, add_batch, merge = MomentAggregator.add, MomentAggregator.add_batch, MomentAggregator.merge


def fill(batch, **options):
    options = {"round": batch.round, "deduplicate": True} | options
    return MomentAggregator(batch.config, **options).add_batch(batch)


@pytest.fixture(params=[False, True], ids=["empty", "filled"])
def state(request):
    state = MomentAggregator(CONFIG, round=2, deduplicate=True)
    return state.add_batch(make_batch(round=2)) if request.param else state


@pytest.mark.parametrize(
    "config",
    [LDPConfig("cross", 3, epsilon=4.0, n_bits=3, campaign_id="another"), GRID],
    ids=["campaign", "mechanism"],
)
def test_another_configuration_leaves_the_state_untouched(state, config):
    batch = make_batch(config, seed=1, round=2)
    message = "made for another configuration"
    refused(state, IncompatibleReportsError, message, add_batch, batch)
    refused(state, IncompatibleReportsError, message, add, batch.to_reports()[0])
    refused(state, IncompatibleReportsError, message, add, batch.to_reports()[0].to_bytes())
    refused(state, IncompatibleReportsError, message, merge, fill(batch))
    refused(state, IncompatibleReportsError, message, operator.add, fill(batch))
    refused(state, IncompatibleReportsError, message, operator.iadd, fill(batch))
    with pytest.raises(IncompatibleReportsError, match="data belongs to another configuration"):
        MomentAggregator.from_bytes(fill(batch).to_bytes(), CONFIG)


@pytest.mark.parametrize("round", [0, 1, 3])
def test_another_round_leaves_the_state_untouched(state, round):
    batch = make_batch(seed=1, round=round)
    message = f"must be of round 2, got round {round}"
    refused(state, IncompatibleReportsError, message, add_batch, batch)
    refused(state, IncompatibleReportsError, message, add, batch.to_reports()[0])
    refused(state, IncompatibleReportsError, message, merge, fill(batch))


def test_simulated_reports_leave_the_state_untouched(state):
    batch = make_batch(seed=1, round=2, simulated=True)
    message = "simulated, so their randomness can be reproduced"
    refused(state, SimulatedReportError, message, add_batch, batch)
    refused(state, SimulatedReportError, message, add, batch.to_reports()[0])
    refused(state, SimulatedReportError, message, merge, fill(batch, allow_simulated=True))


def test_duplicates_leave_the_state_untouched(state):
    batch = make_batch(round=2)
    again = ReportBatch.concatenate([make_batch(seed=1, round=2), batch[:1], batch[:1]])
    refused(state, DuplicateReportError, "a nonce comes a second time", add_batch, again)
    if state.n_reports_:
        refused(state, DuplicateReportError, "a nonce comes a second time", add_batch, batch[3])
        single = batch.to_reports()[4]
        refused(state, DuplicateReportError, "a nonce comes a second time", add, single)
        refused(state, DuplicateReportError, "a nonce is in both states", merge, fill(batch[1:]))
        refused(state, DuplicateReportError, "a nonce is in both states", merge, state)
    restored = MomentAggregator.from_bytes(state.to_bytes(), CONFIG)
    restored.add_batch(make_batch(seed=2, round=2))
    refused(restored, DuplicateReportError, "a second time", add_batch, make_batch(seed=2, round=2))
    loose = fill(make_batch(seed=3, round=2), deduplicate=False)
    message = "both states must look for duplicates, or none"
    refused(state, IncompatibleReportsError, message, merge, loose)
    refused(loose, IncompatibleReportsError, message, merge, state)
    # Without looking, a report that comes twice counts twice.
    assert loose.add_batch(make_batch(seed=3, round=2)).n_reports_ == 10


def test_bits_beyond_leave_the_state_untouched(state):
    batch = make_batch(seed=1, round=2)
    batch.payload[4] = 8
    refused(state, ReportError, "payload must have 3 bits, got bits beyond", add_batch, batch)


@pytest.mark.parametrize("wrong", [None, b"", [1], np.zeros(3, np.uint64)])
def test_other_things_leave_the_state_untouched(state, wrong):
    refused(state, TypeError, "batch must be a ReportBatch", add_batch, wrong)
    refused(state, TypeError, "other must be a MomentAggregator", merge, wrong)
    assert state.__add__(wrong) is NotImplemented and state.__iadd__(wrong) is NotImplemented
    assert state.__eq__(wrong) is NotImplemented


@pytest.mark.parametrize("sign", [1, -1])
def test_entries_out_of_range_are_refused(sign):
    state = MomentAggregator(GRID).add_batch(make_batch(GRID))
    batch = make_batch(GRID)
    batch.payload[2, 1] = sign * GRID.payload_limit
    state.add_batch(batch)
    for value in (sign * (GRID.payload_limit + 1), -(2**31), 2**31 - 1):
        batch.payload[2, 1] = value
        refused(state, ReportError, "must have entries within", add_batch, batch)
        refused(state, ReportError, "must have entries within", add, batch.to_reports()[2])


def test_simulated_reports_are_marked_through_every_form(tmp_path):
    randomizer = SimulationRandomizer(CONFIG, 0)
    batch = randomizer.randomize_batch(np.zeros((3, 3)), np.zeros(3))
    batch.save(tmp_path / "batch.npz")
    state = MomentAggregator(CONFIG, allow_simulated=True).add_batch(batch)
    forms = [
        batch,
        batch[:1],
        ReportBatch.load(tmp_path / "batch.npz"),
        ReportBatch.from_reports(batch.to_reports(), CONFIG),
        ReportBatch.concatenate([make_batch(), batch]),
    ]
    for form in forms:
        with pytest.raises(SimulatedReportError):
            MomentAggregator(CONFIG).add_batch(form)
    state.save(tmp_path / "state.npz")
    states = [
        state,
        state.copy(),
        MomentAggregator(CONFIG, allow_simulated=True) + state,
        MomentAggregator.from_bytes(state.to_bytes(), CONFIG),
        MomentAggregator.load(tmp_path / "state.npz"),
        state.copy().add_batch(make_batch()),
        pickle.loads(pickle.dumps(state)),
    ]
    for form in states:
        with pytest.raises(SimulatedReportError):
            MomentAggregator(CONFIG).merge(form)


# --- damage of states ----------------------------------------------------------------------


@pytest.mark.parametrize("name", SHORT)
def test_every_changed_byte_of_a_state_is_noticed(name):
    state = SHORT[name]()
    data = state.to_bytes()
    read = type(state).from_bytes
    assert read(data, state.config).to_bytes() == data
    for position in range(len(data)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[position] ^= flip
            with pytest.raises(ReportError, match="data"):
                read(damaged, state.config)
    for length in range(len(data)):
        with pytest.raises(ReportError, match="data"):
            read(data[:length], state.config)
    for longer in (data + b"\0", data + data, b"", b"\0" * len(data)):
        with pytest.raises(ReportError, match="data"):
            read(longer, state.config)
    with pytest.raises(ReportError):
        read(data, LDPConfig("gradient", 3 if name == "state" else 2))


def sealed(body):
    return body + zlib.crc32(body).to_bytes(4, "little")


def test_states_that_no_reports_make():
    # A checksum is no signature: whoever writes states can seal anything.
    state = MomentAggregator(CONFIG).add_batch(make_batch())
    body = state.to_bytes()[:-4]
    with pytest.raises(ReportError, match="unknown flags"):
        MomentAggregator.from_bytes(sealed(body[:4] + b"\x40" + body[5:]), CONFIG)
    most = 5 * 3 * 32
    for entry in (most + 1, -most - 1, 2**63 - 1, -(2**63)):
        forged = body[:-8] + entry.to_bytes(8, "little", signed=True)
        with pytest.raises(ReportError, match="sums that 5 reports cannot have"):
            MomentAggregator.from_bytes(sealed(forged), CONFIG)
    forged = body[:-8] + most.to_bytes(8, "little", signed=True)
    assert MomentAggregator.from_bytes(sealed(forged), CONFIG).n_reports_ == 5
    # The flag without the nonces.
    with pytest.raises(ReportError, match="sums that 5 reports cannot have"):
        MomentAggregator.from_bytes(sealed(body[:4] + b"\x04" + body[5:]), CONFIG)
    n_reports = (2**60).to_bytes(8, "little")
    forged = body[:23] + n_reports + body[31:]
    with pytest.raises(ReportError, match="could overflow the 64-bit sums"):
        MomentAggregator.from_bytes(sealed(forged), CONFIG)


def test_servers_that_no_campaign_makes():
    server = make_server()
    data = server.to_bytes()
    length = int.from_bytes(data[4:12], "little")
    text, rest = data[12 : 12 + length], data[12 + length : -4]
    assert text.startswith(b"{")
    for forged in (
        b"[]",
        b"{}",
        b"null",
        b"{",
        b"\xff",
        text.replace(b'"n_nonzero": 1', b'"n_nonzero": 7'),
        text.replace(b'"n_nonzero": 1', b'"n_nonzero": "1"'),
        text.replace(b'"step"', b'"stop"'),
        text.replace(b'"path": [[', b'"path": [["x", '),
        text.replace(b'"path": [[', b'"path": [[1.0, '),
        text.replace(b'"noise_scales": [', b'"noise_scales": [1.0, 2.0, 3.0, '),
        text.replace(b'"n_reports": 5', b'"n_reports": -5'),
    ):
        assert forged != text
        body = b"LDI\x01" + len(forged).to_bytes(8, "little") + forged + rest
        with pytest.raises(ReportError, match="data"):
            LDPIHTServer.from_bytes(sealed(body), server.config)
    for wrong in (0, length - 1, length + 1, 2**63):
        body = b"LDI\x01" + wrong.to_bytes(8, "little") + text + rest
        with pytest.raises(ReportError, match="data"):
            LDPIHTServer.from_bytes(sealed(body), server.config)


# --- queries -------------------------------------------------------------------------------


@given(
    st.binary(min_size=16, max_size=16),
    st.integers(0, MAX_ROUND),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5),
)
def test_queries_round_trip(fingerprint, round, theta):
    query = Query(fingerprint, round, tuple(theta))
    again = Query.from_json(query.to_json())
    assert again == query and again.to_json() == query.to_json()
    assert Query.from_json(query.to_json().encode()) == query


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        "[" * 100_000,
        '{"fingerprint": "zz", "round": 1, "theta": []}',
        '{"fingerprint": 1, "round": 1, "theta": []}',
        '{"fingerprint": "00", "round": "x", "theta": []}',
        '{"fingerprint": "00", "round": 1.5, "theta": []}',
        '{"fingerprint": "00", "round": Infinity, "theta": []}',
        '{"fingerprint": "00", "round": 1, "theta": 3}',
        '{"fingerprint": "00", "round": 1, "theta": "12"}',
        '{"fingerprint": "00", "round": 1, "theta": {"0": 1}}',
        '{"fingerprint": "00", "round": 1, "theta": [null]}',
        '{"fingerprint": "00", "round": 1, "theta": [NaN]}',
        '{"fingerprint": "00", "round": 1, "theta": [-Infinity]}',
        '{"fingerprint": "00", "round": 1, "theta": [1e400]}',
        f'{{"fingerprint": "00", "round": 1, "theta": [{10**400}]}}',
        None,
        7,
    ],
    ids=lambda text: repr(text)[:50],
)
def test_texts_that_are_no_query(text):
    with pytest.raises(ReportError, match="text must be"):
        Query.from_json(text)


def test_errors_form_a_family():
    for error in (DuplicateReportError, IncompatibleReportsError, SimulatedReportError):
        assert issubclass(error, ReportError) and issubclass(error, ValueError)
    for a, b in itertools.permutations(
        [DuplicateReportError, IncompatibleReportsError, SimulatedReportError], 2
    ):
        assert not issubclass(a, b)
