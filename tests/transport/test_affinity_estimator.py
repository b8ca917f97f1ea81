"""DoublyStochasticAffinity as an estimator."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.cluster import SpectralClustering
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import check_estimator

from sparsestat.transport._doubly_stochastic_affinity import DoublyStochasticAffinity


def blobs(n=300, seed=0, std=0.7):
    return make_blobs(n, centers=4, cluster_std=std, random_state=seed)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "settings", [{}, {"epsilon": 1.0}, {"zero_diagonal": True, "epsilon": 1.0}]
)
def test_all_checks_of_scikit_learn(settings):
    results = check_estimator(DoublyStochasticAffinity(**settings), on_skip=None)
    assert len(results) > 35
    assert {result["status"] for result in results} == {"passed"}


@pytest.mark.parametrize("n_clusters", [1, 2, 4, 11, 150, 300])
def test_feasible_for_the_relaxation_of_k_means(n_clusters):
    X, _ = blobs()
    estimator = DoublyStochasticAffinity(n_clusters=n_clusters).fit(X)
    P = estimator.affinity_
    assert estimator.converged_
    assert np.all(P >= 0)
    np.testing.assert_array_equal(P, P.T)
    errors = np.abs(P.sum(axis=1) - 1)
    assert errors.max() <= 1e-10
    assert estimator.marginal_error_ == pytest.approx(errors.max(), abs=1e-14)
    eigenvalues = np.linalg.eigvalsh(P)
    assert eigenvalues.min() >= -1e-9 and eigenvalues.max() <= 1 + 1e-9
    assert np.trace(P) == pytest.approx(n_clusters, abs=1e-6)
    assert estimator.trace_ == pytest.approx(np.trace(P), rel=1e-12)


def test_trace_falls_with_epsilon():
    X, _ = blobs(100)
    epsilons = np.geomspace(1e-4, 1e6, 21)
    traces = [DoublyStochasticAffinity(epsilon).fit(X).trace_ for epsilon in epsilons]
    assert np.all(np.diff(traces) < 1e-9)
    assert traces[0] == pytest.approx(100, rel=0.05) and traces[-1] == pytest.approx(1, rel=1e-3)


def test_epsilon_that_was_found_gives_the_same_affinity():
    X, _ = blobs(100)
    found = DoublyStochasticAffinity(n_clusters=4).fit(X)
    given = DoublyStochasticAffinity(found.epsilon_).fit(X)
    np.testing.assert_allclose(given.affinity_, found.affinity_, atol=1e-10)
    assert given.n_iter_ < 40


@pytest.mark.parametrize("seed", [0, 1])
def test_spectral_clustering_finds_the_blobs(seed):
    X, y = make_blobs(
        300, centers=[[0, 0], [5, 0], [0, 5], [5, 5]], cluster_std=0.9, random_state=seed
    )
    P = DoublyStochasticAffinity(n_clusters=4).fit_transform(X)
    labels = SpectralClustering(4, affinity="precomputed", random_state=0).fit_predict(P)
    # A coordinate is on the wrong side of 2.5 with probability Phi(-2.5 / 0.9) = 0.3 %, so
    # about two of 300 points are lost for the best rule; ten would still leave 0.91.
    assert adjusted_rand_score(y, labels) > 0.9


@pytest.mark.parametrize("settings", [{"n_clusters": 4}, {"epsilon": 0.5, "zero_diagonal": True}])
def test_permutation_of_rows(settings):
    X, _ = blobs(60)
    order = np.random.default_rng(0).permutation(60)
    P = DoublyStochasticAffinity(**settings).fit_transform(X)
    permuted = DoublyStochasticAffinity(**settings).fit_transform(X[order])
    np.testing.assert_allclose(permuted, P[np.ix_(order, order)], atol=1e-8)


@pytest.mark.parametrize("zero_diagonal", [False, True])
@pytest.mark.parametrize("scale", [1e8, 1e-8])
def test_scaled_and_shifted(scale, zero_diagonal):
    X, _ = blobs(60)
    settings = {"n_clusters": 4, "zero_diagonal": zero_diagonal}
    reference = DoublyStochasticAffinity(**settings).fit(X)
    scaled = DoublyStochasticAffinity(**settings).fit(scale * X)
    np.testing.assert_allclose(scaled.affinity_, reference.affinity_, atol=1e-7)
    assert scaled.epsilon_ == pytest.approx(scale**2 * reference.epsilon_, rel=1e-6)
    # Adding the shift rounds the points; the reference gets the rounded ones.
    shifted = X + 1e8
    reference = DoublyStochasticAffinity(**settings).fit(shifted - 1e8)
    result = DoublyStochasticAffinity(**settings).fit(shifted)
    np.testing.assert_allclose(result.affinity_, reference.affinity_, atol=1e-12)


@pytest.mark.parametrize(
    "settings", [{}, {"n_clusters": 1}, {"epsilon": 2.0}, {"epsilon": 2.0, "zero_diagonal": True}]
)
def test_transform_of_fitted_rows_and_of_new_ones(settings):
    X, _ = blobs(80)
    estimator = DoublyStochasticAffinity(**settings)
    P = estimator.fit_transform(X)
    np.testing.assert_allclose(estimator.transform(X), P, atol=2e-10)
    np.testing.assert_allclose(estimator.transform(X[7:9]), P[7:9], atol=2e-10)
    new = np.vstack([X[:5] + 0.1, [[1e6, -1e6]]])
    weights = estimator.transform(new)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-12)
    assert weights.shape == (6, 80) and np.all(weights >= 0)
    D = ((new[:5, None, :] - X[None]) ** 2).sum(-1)
    expected = np.exp(estimator.potential_ - D / estimator.epsilon_)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(weights[:5], expected, atol=1e-12)


def test_zero_diagonal():
    X, _ = blobs(60)
    estimator = DoublyStochasticAffinity(n_clusters=4, zero_diagonal=True).fit(X)
    P = estimator.affinity_
    assert estimator.converged_ and estimator.trace_ == 0 and np.all(P.diagonal() == 0)
    np.testing.assert_allclose(P.sum(axis=1), 1, atol=1e-10)
    np.testing.assert_array_equal(P, P.T)
    # The trace is the sum of the eigenvalues, of which one is one.
    assert np.linalg.eigvalsh(P).min() < 0
    with_diagonal = DoublyStochasticAffinity(n_clusters=4).fit(X)
    assert estimator.epsilon_ == with_diagonal.epsilon_


def test_repeated_rows():
    X = np.repeat(np.random.default_rng(0).standard_normal((5, 2)), 4, axis=0)
    estimator = DoublyStochasticAffinity().fit(X)
    assert estimator.trace_ == pytest.approx(5, rel=1e-8)
    # Each kind of row is a cluster of its own.
    np.testing.assert_allclose(
        estimator.affinity_, np.kron(np.eye(5), np.full((4, 4), 0.25)), atol=1e-7
    )
    with pytest.raises(ValueError, match="n_clusters=6 for 5 distinct rows of 20"):
        DoublyStochasticAffinity(n_clusters=6).fit(X)
    pairs = DoublyStochasticAffinity(1.0, zero_diagonal=True).fit(X)
    np.testing.assert_allclose(pairs.transform(X[::4]), pairs.affinity_[::4], atol=1e-9)


def test_all_rows_equal():
    estimator = DoublyStochasticAffinity().fit(np.full((6, 2), 3.0))
    np.testing.assert_allclose(estimator.affinity_, np.full((6, 6), 1 / 6), atol=1e-15)
    assert estimator.epsilon_ == np.inf and estimator.trace_ == pytest.approx(1)
    P = DoublyStochasticAffinity(0.1, zero_diagonal=True).fit_transform(np.full((6, 2), 3.0))
    np.testing.assert_allclose(P, (np.ones((6, 6)) - np.eye(6)) / 5, atol=1e-10)


def test_a_single_row():
    for epsilon in ("trace", 1e-3, 1e3):
        assert DoublyStochasticAffinity(epsilon).fit_transform([[2.0, 3.0]]) == [[1.0]]
    with pytest.raises(ValueError, match="zero_diagonal=True needs at least two rows"):
        DoublyStochasticAffinity(1.0, zero_diagonal=True).fit([[2.0, 3.0]])


def test_constant_columns_and_integers():
    X, _ = blobs(50)
    constant = np.column_stack([X, np.full(50, 7.0)])
    P = DoublyStochasticAffinity(n_clusters=4).fit_transform(X)
    np.testing.assert_allclose(
        DoublyStochasticAffinity(n_clusters=4).fit_transform(constant), P, atol=1e-8
    )
    counts = np.rint(10 * X)
    np.testing.assert_array_equal(
        DoublyStochasticAffinity().fit_transform(counts.astype(np.int32)),
        DoublyStochasticAffinity().fit_transform(counts),
    )


@pytest.mark.parametrize("epsilon", [1e-300, 1e-30, 1e30, 1e300])
def test_extreme_epsilon(epsilon):
    X, _ = blobs(30)
    P = DoublyStochasticAffinity(epsilon).fit_transform(X)
    expected = np.eye(30) if epsilon < 1 else np.full((30, 30), 1 / 30)
    np.testing.assert_allclose(P, expected, atol=1e-10)


@pytest.mark.parametrize(
    ("settings", "X", "message"),
    [
        ({"epsilon": 0.0}, [[0.0], [1.0]], "'epsilon'"),
        ({"epsilon": -1.0}, [[0.0], [1.0]], "'epsilon'"),
        ({"epsilon": "auto"}, [[0.0], [1.0]], "'epsilon'"),
        ({"n_clusters": 0}, [[0.0], [1.0]], "'n_clusters'"),
        ({"n_clusters": 1.5}, [[0.0], [1.0]], "'n_clusters'"),
        ({"n_clusters": 3}, [[0.0], [1.0]], "n_clusters=3 for 2 distinct rows"),
        ({}, [[0.0], [np.nan]], "NaN"),
        ({}, [[0.0], [1e200]], "squared distances that are finite"),
    ],
)
def test_refused(settings, X, message):
    with pytest.raises(ValueError, match=message):
        DoublyStochasticAffinity(**settings).fit(X)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epsilon": 1.0, "max_iter": 3}, r"off by .*required is 1e-10\. Raise max_iter=3"),
        ({"n_clusters": 4, "max_iter": 1}, "the trace is .*, required is 4 with a relative error"),
        ({"epsilon": 1.0, "max_iter": 1, "zero_diagonal": True}, "off by"),
        ({"epsilon": 1.0, "tol": 1e-18}, "required is 1e-18"),
    ],
)
def test_not_converged_is_said(settings, message):
    X, _ = blobs(50)
    with pytest.warns(ConvergenceWarning, match=message) as record:
        estimator = DoublyStochasticAffinity(**settings).fit(X)
    assert record[0].filename == __file__
    assert not estimator.converged_
    assert estimator.marginal_error_ == np.abs(estimator.affinity_.sum(axis=1) - 1).max()


def test_float32_is_only_the_container():
    X = blobs(50)[0].astype(np.float32)
    single = DoublyStochasticAffinity(n_clusters=4).fit(X)
    double = DoublyStochasticAffinity(n_clusters=4).fit(X.astype(np.float64))
    np.testing.assert_array_equal(single.affinity_, double.affinity_.astype(np.float32))
    np.testing.assert_array_equal(single.potential_, double.potential_)
    assert single.affinity_.dtype == single.transform(X).dtype == np.float32
    assert single.marginal_error_ == double.marginal_error_ <= 1e-10


def test_data_frames():
    X, _ = blobs(20)
    frame = pd.DataFrame(X, columns=["a", "b"], index=[f"row{i}" for i in range(20)])
    estimator = DoublyStochasticAffinity(n_clusters=4).set_output(transform="pandas")
    P = estimator.fit_transform(frame)
    assert list(P.columns) == [f"affinity{i}" for i in range(20)]
    assert list(P.index) == list(frame.index)
    assert list(estimator.feature_names_in_) == ["a", "b"]
    np.testing.assert_array_equal(P, DoublyStochasticAffinity(n_clusters=4).fit_transform(X))


def test_copies_and_pickles():
    X, _ = blobs(20)
    estimator = DoublyStochasticAffinity(n_clusters=4)
    P = estimator.fit_transform(X)
    loaded = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(loaded.transform(X), estimator.transform(X))
    assert clone(estimator).get_params() == estimator.get_params()
    before = estimator.transform(X)
    given = X.copy()
    X[:] = 0
    np.testing.assert_array_equal(estimator.transform(given), before)
    np.testing.assert_allclose(before, P, atol=1e-9)


class Recorder:
    def __init__(self, stop_after=None):
        self.stop_after, self.states = stop_after, []

    def setup(self, estimator, context):
        self.states.clear()

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        if context.parent is not None:
            self.states.append(fitted_estimator)
        return self.stop_after is not None and len(self.states) >= self.stop_after

    def teardown(self, estimator, context):
        pass


@pytest.mark.parametrize(
    "settings",
    [
        {"n_clusters": 4},
        {"epsilon": 1.0},
        {"epsilon": 0.3, "zero_diagonal": True},
        {"n_clusters": 4, "zero_diagonal": True},
    ],
)
def test_callbacks(settings):
    X, _ = blobs(60)
    recorder = Recorder()
    silent = DoublyStochasticAffinity(**settings).fit(X)
    estimator = DoublyStochasticAffinity(**settings).set_callbacks(recorder).fit(X)
    np.testing.assert_array_equal(silent.affinity_, estimator.affinity_)
    assert len(recorder.states) > 3
    for state in recorder.states:
        np.testing.assert_allclose(state.transform(X).sum(axis=1), 1, atol=1e-12)
    assert recorder.states[-1].marginal_error_ == estimator.marginal_error_
    if settings == {"n_clusters": 4}:
        misses = [abs(state.trace_ - 4) for state in recorder.states]
        assert misses[-1] == min(misses) < 1e-6
    if settings == {"epsilon": 1.0}:
        # The distance to the solution falls at every step; a row sum may go the other way.
        apart = [np.abs(s.potential_ - estimator.potential_).max() for s in recorder.states]
        assert np.all(np.diff(apart) < 0)


@pytest.mark.parametrize(
    "settings",
    [{"n_clusters": 4}, {"epsilon": 1.0}, {"n_clusters": 4, "zero_diagonal": True}],
)
def test_a_callback_may_stop_the_fit(settings):
    X, _ = blobs(60)
    recorder = Recorder(stop_after=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stopped = DoublyStochasticAffinity(**settings).set_callbacks(recorder).fit(X)
    assert len(recorder.states) == 2 and not stopped.converged_
    assert stopped.n_iter_ < DoublyStochasticAffinity(**settings).fit(X).n_iter_


# --- device arrays ---------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"n_clusters": 4}, {"epsilon": 1.0, "zero_diagonal": True}])
def test_device_arrays(xp, settings):
    X, _ = blobs(40)
    estimator = DoublyStochasticAffinity(**settings)
    P = estimator.fit_transform(xp.asarray(X))
    xp.assert_native(P)
    xp.assert_twin_ran()
    P = xp.to_numpy(P)
    assert estimator.converged_
    np.testing.assert_allclose(P.sum(axis=1), 1, atol=1e-10)
    D = ((X[:, None, :] - X[None]) ** 2).sum(-1)
    u = xp.to_numpy(estimator.potential_)
    expected = np.exp(u[:, None] + u - D / estimator.epsilon_)
    if "epsilon" in settings:
        np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(P, expected, atol=1e-12)
    weights = estimator.transform(xp.asarray(X[:6] + 0.5))
    xp.assert_native(weights)
    np.testing.assert_allclose(xp.to_numpy(weights).sum(axis=1), 1, atol=1e-12)


def test_device_arrays_that_are_refused(xp):
    if xp.namespace.__name__.endswith("numpy"):
        pytest.skip("host arrays are checked by scikit-learn")
    estimator = DoublyStochasticAffinity(epsilon=1.0).fit(xp.asarray(blobs(10)[0]))
    with pytest.raises(ValueError, match="X has 3 features"):
        estimator.transform(xp.asarray(np.zeros((4, 3))))
    with pytest.raises(TypeError, match="one library"):
        estimator.transform(np.zeros((4, 2)))
