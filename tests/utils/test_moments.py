import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from sparsestat.utils import GramAccumulator, _moments


def make_data(n=300, p=5, seed=0, offset=0.0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)) + offset
    y = X @ rng.standard_normal(p) + rng.standard_normal(n)
    return X, y, rng.integers(0, 4, n)


def exact_moments(X, y=None, weights=None):
    """Mean and scatter in extended precision, from the definition."""
    Z = np.asarray(X, dtype=np.longdouble)
    if y is not None:
        Z = np.column_stack([Z, np.asarray(y, dtype=np.longdouble)])
    w = np.ones(len(Z), dtype=np.longdouble) if weights is None else np.longdouble(weights)
    mean = w @ Z / w.sum()
    centred = Z - mean
    return w.sum(), mean, centred.T @ (w[:, None] * centred)


def assert_moments(moments, X, y=None, weights=None, tol=1e-13):
    total, mean, scatter = exact_moments(X, y, weights)
    scale = np.sqrt(np.outer(scatter.diagonal(), scatter.diagonal()))
    assert moments.n_samples == total
    np.testing.assert_allclose(
        moments.mean_, mean.astype(float), rtol=1e-15, atol=tol * np.sqrt(scale.max() / total)
    )
    assert np.max(np.abs(moments.scatter_ - scatter) / scale) < tol
    np.testing.assert_array_equal(moments.scatter_, moments.scatter_.T)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16])
@pytest.mark.parametrize("order", ["C", "F"])
def test_moments_are_those_of_the_definition(monkeypatch, weighted, dtype, order):
    monkeypatch.setattr(_moments, "_BLOCK_BYTES", 20 * 8 * 6)
    X, y, w = make_data()
    X = np.asarray(10 * X, dtype=dtype, order=order)
    w = w if weighted else None
    moments = GramAccumulator().update(X, y, w)
    assert_moments(moments, X, y, w)
    assert moments.scatter_.dtype == np.float64


def test_parts_have_the_documented_shapes():
    X, y, _ = make_data()
    _, mean, scatter = exact_moments(X, y)
    one = GramAccumulator().update(X, y)
    assert (one.n_features, one.n_targets) == (5, 1)
    assert one.xx.shape == (5, 5) and np.shares_memory(one.xx, one.scatter_)
    np.testing.assert_allclose(one.xy, scatter[:5, 5].astype(float), rtol=1e-10)
    assert isinstance(one.y_mean, float) and isinstance(one.yy, float)
    np.testing.assert_allclose(one.yy, float(scatter[5, 5]))
    np.testing.assert_allclose(one.x_mean, mean[:5].astype(float))
    column = GramAccumulator().update(X, y[:, None])
    assert column.xy.shape == (5, 1) and column.yy.shape == (1, 1) and column.y_mean.shape == (1,)
    two = GramAccumulator().update(X, np.column_stack([y, -y]))
    assert two.xy.shape == (5, 2) and two.yy.shape == (2, 2) and two.n_targets == 2
    np.testing.assert_allclose(two.xy[:, 1], -one.xy)


def test_columns_far_from_the_origin_keep_their_precision():
    # Values are known to 1e8 * 2^-53 standard deviations, which is also how well a
    # float64 mean can be stored: products are then good to about 1e-9 of their scale.
    X, y, w = make_data(n=2000, offset=1e8)
    moments = GramAccumulator()
    for start in range(0, 2000, 100):
        piece = slice(start, start + 100)
        moments.update(X[piece], y[piece], w[piece])
    assert_moments(moments, X, y, w, tol=1e-9)
    assert moments.xx.diagonal().min() > 0


def test_weights_are_frequencies():
    X, y, w = make_data()
    weighted = GramAccumulator().update(X, y, w)
    repeated = GramAccumulator().update(np.repeat(X, w, axis=0), np.repeat(y, w))
    assert weighted.n_samples == repeated.n_samples
    np.testing.assert_allclose(weighted.mean_, repeated.mean_, rtol=1e-12)
    np.testing.assert_allclose(weighted.scatter_, repeated.scatter_, rtol=1e-12, atol=1e-11)


def test_a_row_of_weight_zero_has_no_influence():
    X, y, _ = make_data(n=50)
    w = np.ones(50)
    w[[0, 7]] = 0
    wild = X.copy()
    wild[[0, 7]] = 1e300
    a, b = GramAccumulator().update(X, y, w), GramAccumulator().update(wild, y, w)
    np.testing.assert_array_equal(a.scatter_, b.scatter_)


@given(cuts=st.lists(st.integers(0, 60), max_size=6), seed=st.integers(0, 20))
def test_any_split_gives_the_same_moments(cuts, seed):
    X, y, w = make_data(n=60, seed=seed, offset=100.0)
    bounds = [0, *sorted(cuts), 60]
    parts = [
        GramAccumulator().update(X[a:b], y[a:b], w[a:b]) for a, b in itertools.pairwise(bounds)
    ]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    assert_moments(total, X, y, w, tol=1e-11)


def test_merge_is_deterministic_and_leaves_its_argument_alone():
    X, y, _ = make_data()
    a, b = GramAccumulator().update(X[:100], y[:100]), GramAccumulator().update(X[100:], y[100:])
    before = b.to_bytes()
    c = a + b
    np.testing.assert_array_equal(c.scatter_, (a + b).scatter_)
    assert b.to_bytes() == before
    assert a.merge(b) is a
    np.testing.assert_array_equal(a.scatter_, c.scatter_)
    empty = GramAccumulator().merge(b)
    empty.update(X, y)
    assert b.to_bytes() == before


@pytest.mark.parametrize("format", ["csr_array", "csc_array", "coo_matrix"])
def test_sparse_rows_are_densified_a_block_at_a_time(monkeypatch, format):
    monkeypatch.setattr(_moments, "_BLOCK_BYTES", 0)
    X = sparse.random(200, 4, 0.2, random_state=0)
    heights = []
    add_block = _moments._add_block

    def spy(moments, block, weights):
        heights.append(len(block))
        add_block(moments, block, weights)

    monkeypatch.setattr(_moments, "_add_block", spy)
    moments = GramAccumulator().update(getattr(sparse, format)(X))
    assert max(heights) == _moments._MIN_BLOCK_ROWS and sum(heights) == 200
    assert_moments(moments, X.toarray())


def test_many_columns_are_mirrored_in_tiles(monkeypatch):
    monkeypatch.setattr(_moments, "_TILE", 3)
    X, y, _ = make_data(p=10)
    assert_moments(GramAccumulator().update(X, y), X, y)


def test_memory_does_not_grow_with_the_rows():
    import tracemalloc

    X = np.ones((400_000, 20), dtype=np.float32)
    tracemalloc.start()
    try:
        GramAccumulator().update(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # A few blocks of 4 MB, against 64 MB for all of X in float64.
    assert peak < 20 * 2**20


def test_data_frames():
    pandas = pytest.importorskip("pandas")
    X, y, _ = make_data(p=2)
    frame = pandas.DataFrame(X, columns=["a", "b"])
    assert_moments(GramAccumulator().update(frame, pandas.Series(y)), X, y)


X_OK, Y_OK = np.arange(6.0).reshape(3, 2), np.arange(3.0)


@pytest.mark.parametrize(
    "X, y, w, message",
    [
        ([[1.0, np.nan]], [1.0], None, "X contains NaN"),
        ([[1.0, 2.0]], [np.inf], None, "y contains infinity"),
        ([[1.0, 2.0]], [1.0, 2.0], None, r"y must have shape \(1,\).*got \(2,\)"),
        ([[1.0, 2.0]], [[[1.0]]], None, "dim 3"),
        ([[1.0, 2.0]], [1.0], [-1.0], "sample_weight must not be negative"),
        ([[1.0, 2.0]], [1.0], [1.0, 1.0], "sample_weight must be a number or have shape"),
        ([[1.0, 2.0, 3.0]], [1.0], None, "3 features and one y into 2 features and one y"),
        ([[1.0, 2.0]], [[1.0]], None, "1 columns y into 2 features and one y"),
        ([[1.0, 2.0]], None, None, "no y into 2 features and one y"),
        ([[1e200, 2.0]], [1.0], None, "exceed the range of float64"),
        ([[1.0, 2.0]], [1.0], [1.7e308], "exceed the range of float64"),
        ([["a", "b"]], [1.0], None, "X|string"),
        ([[1j, 2.0]], [1.0], None, "Complex data"),
    ],
)
def test_a_failed_update_leaves_the_state_untouched(X, y, w, message):
    moments = GramAccumulator().update(X_OK, Y_OK, 1e307)
    before = moments.to_bytes()
    with pytest.raises(ValueError, match=message):
        moments.update(X, y, w)
    assert moments.to_bytes() == before


def test_a_failed_first_update_leaves_nothing_behind():
    fresh = GramAccumulator()
    for X in ([[np.nan]], [[1e200], [-1e200]]):
        with pytest.raises(ValueError, match="X"):
            fresh.update(X)
        assert repr(fresh) == "GramAccumulator()"
    assert fresh.update(X_OK).n_features == 2


def test_empty_accumulators():
    empty = GramAccumulator()
    with pytest.raises(ValueError, match="call update first"):
        _ = empty.xx
    with pytest.raises(ValueError, match="call update first"):
        empty.to_bytes()
    assert empty.merge(GramAccumulator()).n_features is None
    nothing = GramAccumulator().update(X_OK[:0], Y_OK[:0])
    assert (nothing.n_samples, nothing.n_features) == (0.0, 2)
    nothing.update(X_OK, Y_OK, 0.0)
    assert nothing.n_samples == 0.0
    assert_moments(nothing.update(X_OK, Y_OK), X_OK, Y_OK)


def test_without_y_there_is_no_target():
    moments = GramAccumulator().update(X_OK)
    assert moments.n_targets == 0 and moments.scatter_.shape == (2, 2)
    with pytest.raises(AttributeError, match="without y"):
        _ = moments.xy


def test_only_accumulators_are_merged():
    with pytest.raises(TypeError, match="other must be a GramAccumulator, got int"):
        GramAccumulator().merge(1)
    with pytest.raises(TypeError):
        GramAccumulator() + 1


@pytest.mark.parametrize("y", [None, Y_OK, Y_OK[:, None], np.ones((3, 2))])
def test_bytes_round_trip(y):
    moments = GramAccumulator().update(X_OK, y)
    again = GramAccumulator.from_bytes(moments.to_bytes())
    assert again.to_bytes() == moments.to_bytes()
    np.testing.assert_array_equal(again.scatter_, moments.scatter_)
    assert repr(again) == repr(moments)
    again.update(X_OK, y)
    assert again.n_samples == 6


def test_every_corrupt_byte_is_noticed():
    data = GramAccumulator().update(X_OK, Y_OK).to_bytes()
    for i in range(len(data)):
        corrupt = bytearray(data)
        corrupt[i] ^= 0x10
        with pytest.raises(ValueError, match="data"):
            GramAccumulator.from_bytes(corrupt)


def test_every_truncation_is_noticed():
    data = GramAccumulator().update(X_OK, Y_OK).to_bytes()
    for i in range(len(data)):
        with pytest.raises(ValueError, match="data"):
            GramAccumulator.from_bytes(data[:i])
    with pytest.raises(ValueError, match="data"):
        GramAccumulator.from_bytes(data + b"\0")


@pytest.mark.parametrize(
    "change",
    [
        {"scatter": -np.eye(3)},
        {"scatter": np.eye(2)},
        {"scatter": np.full((3, 3), np.nan)},
        {"scatter": np.triu(np.ones((3, 3)))},
        {"mean": np.full(3, np.inf)},
        {"n_samples": -1.0},
        {"n_samples": np.nan},
        {"target_shape": [3]},
    ],
)
def test_impossible_numbers_are_refused(change):
    fields = {
        "n_samples": 3.0,
        "mean": np.zeros(3),
        "scatter": np.eye(3),
        "has_target": True,
        "target_shape": [],
    }
    assert GramAccumulator()._restore(dict(fields)).n_features == 2
    with pytest.raises(ValueError, match="moments of no data"):
        GramAccumulator()._restore(fields | change)


def test_pickle_and_copy():
    import copy
    import pickle

    moments = GramAccumulator().update(X_OK, Y_OK)
    for other in (pickle.loads(pickle.dumps(moments)), copy.deepcopy(moments)):
        other.update(X_OK, Y_OK)
        assert other.n_samples == 6
    assert moments.n_samples == 3
