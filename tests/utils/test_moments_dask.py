import sys

import numpy as np
import pytest

from sparsestat.utils import GramAccumulator
from sparsestat.utils._moments import is_dask_collection

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

N, P = 240, 6


def make_data():
    rng = np.random.default_rng(0)
    return (
        rng.standard_normal((N, P)) + 5,
        rng.standard_normal(N),
        rng.integers(0, 3, N).astype(float),
    )


def nbytes(value):
    if isinstance(value, GramAccumulator):
        return value.scatter_.nbytes + value.mean_.nbytes
    if isinstance(value, list | tuple):
        return sum(map(nbytes, value))
    return getattr(value, "nbytes", 0)


def watched_scheduler(largest):
    """A scheduler that notes the size of everything that a task returns."""
    from dask.callbacks import Callback

    class Watch(Callback):
        def _posttask(self, key, result, graph, state, worker_id):
            largest.append(nbytes(result))

    return Watch()


def assert_same(a, b):
    assert a.n_samples == b.n_samples
    np.testing.assert_allclose(a.mean_, b.mean_, rtol=1e-12)
    np.testing.assert_allclose(a.scatter_, b.scatter_, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("chunks", [(240, 6), (37, 6), (60, 2), (10, 5), (1, 1)])
def test_arrays(chunks):
    X, y, w = make_data()
    moments = GramAccumulator.from_dask(
        da.from_array(X, chunks=chunks), da.from_array(y, chunks=50), da.from_array(w, chunks=240)
    )
    assert_same(moments, GramAccumulator().update(X, y, w))


@pytest.mark.parametrize("columns", [P, 2])
def test_nothing_exceeds_a_chunk_and_the_statistic(columns):
    chunk = (40, columns)
    # The data are made in the graph, since those of from_array are in it whole.
    X = da.ones((N, P), chunks=chunk) * da.arange(N, chunks=40)[:, None]
    y = da.ones(N, chunks=40)
    largest = []
    with watched_scheduler(largest):
        moments = GramAccumulator.from_dask(X, y)
    statistic = nbytes(moments)
    assert len(largest) > 6
    assert max(largest) <= 8 * 40 * columns + statistic


def test_merges_form_a_tree():
    X, _, _ = make_data()
    merges = []
    from dask.callbacks import Callback

    class Watch(Callback):
        def _posttask(self, key, result, graph, state, worker_id):
            if isinstance(result, GramAccumulator) and "_merge_all" in str(key):
                merges.append(result.n_samples)

    with Watch():
        GramAccumulator.from_dask(da.from_array(X, chunks=(15, P)))
    assert sorted(merges) == [60.0] * 4 + [240.0]


def test_the_scheduler_does_not_change_a_bit():
    X, _, _ = make_data()
    results = []
    for scheduler in ("synchronous", "threads", "threads"):
        with dask.config.set(scheduler=scheduler):
            results.append(GramAccumulator.from_dask(da.from_array(X, chunks=(17, P))).to_bytes())
    assert len(set(results)) == 1


def test_data_frames():
    pandas = pytest.importorskip("pandas")
    dd = pytest.importorskip("dask.dataframe")
    X, y, w = make_data()
    frame = pandas.DataFrame(X, columns=list("abcdef")).assign(y=y, w=w)
    ours = dd.from_pandas(frame, npartitions=4)
    expected = GramAccumulator().update(X, y, w)
    features = ours[list("abcdef")]
    assert_same(GramAccumulator.from_dask(features, ours["y"], ours["w"]), expected)
    assert_same(GramAccumulator.from_dask(features.values, ours["y"].values, ours["w"]), expected)
    assert_same(
        GramAccumulator.from_dask(features, ours[["y"]], 2.0),
        GramAccumulator().update(X, y[:, None], 2.0),
    )
    few = ours[ours["a"] > ours["a"].max() - 1e-9]
    assert GramAccumulator.from_dask(few[list("abc")], few["y"]).n_samples == 1


def test_mismatches_are_named():
    X, y, _ = make_data()
    ours = da.from_array(X, chunks=(40, P))
    with pytest.raises(TypeError, match=r"X must be a two-dimensional Dask array .* got ndarray"):
        GramAccumulator.from_dask(X)
    with pytest.raises(TypeError, match="X must be a two-dimensional"):
        GramAccumulator.from_dask(ours[:, 0])
    with pytest.raises(TypeError, match="y must be a Dask collection like X, got ndarray"):
        GramAccumulator.from_dask(ours, y)
    with pytest.raises(ValueError, match="y has 100 rows, but X has 240"):
        GramAccumulator.from_dask(ours, da.from_array(y[:100]))
    unknown = ours[ours[:, 0] > -np.inf]
    with pytest.raises(ValueError, match="sample_weight has 1 partitions, but X has 6"):
        GramAccumulator.from_dask(unknown, None, da.from_array(y, chunks=-1))
    with pytest.raises(ValueError, match="unknown chunk lengths"):
        split = da.from_array(X, chunks=(40, 2))
        GramAccumulator.from_dask(split[split[:, 0] > -np.inf])
    with pytest.raises(ValueError, match="X contains NaN"):
        GramAccumulator.from_dask(ours * np.nan)


def test_collections_are_recognised_without_importing_dask(monkeypatch):
    assert is_dask_collection(da.ones(3))
    assert not is_dask_collection(np.ones(3))
    monkeypatch.delitem(sys.modules, "dask")
    assert not is_dask_collection(np.ones(3))
    assert "dask" not in sys.modules
