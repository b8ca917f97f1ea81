"""A fitted linear SEM against the normal distribution, counting of paths, and simulation."""

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import multivariate_normal
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import validate_data

from sparsestat.dag import _linear_sem, _sem_algebra
from sparsestat.dag._graph import cpdag, topological_order
from sparsestat.dag._linear_sem import LinearSEMMixin


class KnownSEM(LinearSEMMixin, BaseEstimator):
    """A model that is told its weights, and learns only the means."""

    def __init__(self, adjacency=None, scales=None, refit_adjacency=None, variance="unequal"):
        self.adjacency = adjacency
        self.scales = scales
        self.refit_adjacency = refit_adjacency
        self.variance = variance

    def fit(self, X, y=None):
        X = validate_data(self, X)
        self.mean_ = X.mean(axis=0)
        self.adjacency_ = self.adjacency
        self.noise_scales_ = self.scales
        self.refit_adjacency_ = (
            self.adjacency if self.refit_adjacency is None else self.refit_adjacency
        )
        self.refit_noise_scales_ = self.scales
        self.order_ = topological_order(self.adjacency_)
        return self


def random_weights(n_nodes, rng, share=0.5):
    weights = np.triu(rng.normal(size=(n_nodes, n_nodes)), 1)
    weights *= rng.random(weights.shape) < share
    order = rng.permutation(n_nodes)
    return weights[np.ix_(order, order)]


def fitted(n_nodes=6, seed=0, names=False, **params):
    rng = np.random.default_rng(seed)
    W = random_weights(n_nodes, rng)
    scales = rng.uniform(0.5, 2.0, n_nodes)
    X = rng.normal(size=(50, n_nodes)) + 10.0 * rng.normal(size=n_nodes)
    if names:
        pd = pytest.importorskip("pandas")
        X = pd.DataFrame(X, columns=[f"node {j}" for j in range(n_nodes)])
    return KnownSEM(W, scales, **params).fit(X), X


def enumerated_paths(W, source, target):
    """All directed paths, by trying every child; the witness keeps no book of ancestors."""
    if source == target:
        return {(target,): 1.0}
    found = {}
    for child in np.flatnonzero(W[source]):
        for path, value in enumerated_paths(W, int(child), target).items():
            found[(source, *path)] = W[source, child] * value
    return found


def test_prediction_uses_the_parents_only():
    model, X = fitted()
    prediction = model.predict(X)
    for j in range(6):
        parents = np.flatnonzero(model.adjacency_[:, j])
        expected = np.full(len(X), model.mean_[j])
        for i in parents:
            expected += model.adjacency_[i, j] * (X[:, i] - model.mean_[i])
        np.testing.assert_allclose(prediction[:, j], expected, rtol=1e-12)
    np.testing.assert_allclose(model.residuals(X), X - prediction, atol=1e-12)
    np.testing.assert_allclose(model.transform(X), (X - prediction) / model.noise_scales_)


@pytest.mark.parametrize("name", ["predict", "residuals", "transform", "score_samples"])
def test_blocks_sparse_input_and_precision_agree(name, monkeypatch):
    model, X = fitted()
    method = getattr(model, name)
    expected = method(X)
    assert expected.dtype == np.float64
    before = X.copy()
    monkeypatch.setattr(_sem_algebra, "_MIN_BLOCK_ROWS", 7)
    monkeypatch.setattr(_sem_algebra, "_BLOCK_BYTES", 1)
    assert len(list(_sem_algebra.row_blocks(50, 6))) == 8
    np.testing.assert_allclose(method(X), expected, rtol=1e-12)
    for convert in (sparse.csr_array, sparse.csc_matrix, sparse.coo_array):
        np.testing.assert_allclose(method(convert(X)), expected, rtol=1e-12)
    single = method(X.astype(np.float32))
    assert single.dtype == (np.float64 if name == "score_samples" else np.float32)
    # The arithmetic is in double precision: what is lost is what rounding the data loses.
    rounded = method(X.astype(np.float32).astype(np.float64))
    np.testing.assert_allclose(single, rounded, rtol=2e-7)
    np.testing.assert_array_equal(X, before)


def test_a_sparse_matrix_is_densified_in_blocks_only(monkeypatch):
    model, X = fitted()
    monkeypatch.setattr(_sem_algebra, "_MIN_BLOCK_ROWS", 7)
    monkeypatch.setattr(_sem_algebra, "_BLOCK_BYTES", 1)
    rows = []
    dense_block = _sem_algebra.dense_block

    def watch(X, here):
        block = dense_block(X, here)
        rows.append(len(block))
        return block

    monkeypatch.setattr(_linear_sem, "dense_block", watch)
    model.transform(sparse.csr_array(X))
    assert max(rows) == 7 and sum(rows) == 50


def test_inverse_transform_undoes_transform():
    model, X = fitted()
    np.testing.assert_allclose(model.inverse_transform(model.transform(X)), X, rtol=1e-10)
    assert model.inverse_transform(X.astype(np.float32)).dtype == np.float32
    with pytest.raises(ValueError, match="X must have 6 columns, one for each variable, got 5"):
        model.inverse_transform(X[:, :5])


def test_integers_are_data():
    model, X = fitted()
    X = np.round(X).astype(int)
    np.testing.assert_array_equal(model.predict(X), model.predict(X.astype(float)))


def test_log_density_is_that_of_the_normal_distribution():
    rng = np.random.default_rng(1)
    model, X = fitted(7, seed=1)
    model.refit_adjacency_ = model.adjacency_ * rng.uniform(0.5, 1.5, (7, 7))
    model.refit_noise_scales_ = model.noise_scales_ * 1.3
    covariance = model.implied_covariance(refitted=True)
    inverse = np.linalg.inv(np.eye(7) - model.refit_adjacency_)
    noise = np.diag(model.refit_noise_scales_**2)
    np.testing.assert_allclose(covariance, inverse.T @ noise @ inverse, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(covariance, covariance.T)
    witness = multivariate_normal(model.mean_, covariance).logpdf(X)
    np.testing.assert_allclose(model.score_samples(X), witness, rtol=1e-8)
    assert model.score(X) == pytest.approx(witness.mean(), rel=1e-10)
    assert not np.allclose(model.implied_covariance(), covariance)


def test_weights_are_frequencies():
    model, X = fitted()
    weights = np.arange(50) % 4
    repeated = np.repeat(X, weights, axis=0)
    for method in (model.aic, model.bic):
        assert method(X, sample_weight=weights) == pytest.approx(method(repeated), rel=1e-12)
    assert model.score(X, sample_weight=weights) == pytest.approx(model.score(repeated), rel=1e-12)
    assert model.score(X, sample_weight=2.0) == pytest.approx(model.score(X))
    with pytest.raises(ValueError, match="sample_weight must not be negative"):
        model.score(X, sample_weight=-np.ones(50))


@pytest.mark.parametrize("variance, n_scales", [("unequal", 6), ("equal", 1)])
def test_information_criteria_count_edges_and_scales(variance, n_scales):
    model, X = fitted(variance=variance)
    total = model.score_samples(X).sum()
    size = np.count_nonzero(model.adjacency_) + n_scales
    assert model.aic(X) == pytest.approx(-2 * total + 2 * size)
    assert model.bic(X) == pytest.approx(-2 * total + np.log(50) * size)


def model_with_a_constant():
    rng = np.random.default_rng(0)
    W = np.zeros((3, 3))
    W[0, 2] = 1.5
    X = np.column_stack([rng.normal(size=30), np.full(30, 0.1), rng.normal(size=30)])
    return KnownSEM(W, np.array([1.0, 0.0, 2.0])).fit(X), X


def test_a_constant_column_has_no_density():
    model, X = model_with_a_constant()
    kept = [0, 2]
    witness = multivariate_normal(
        model.mean_[kept], model.implied_covariance()[np.ix_(kept, kept)]
    ).logpdf(X[:, kept])
    np.testing.assert_allclose(model.score_samples(X), witness, rtol=1e-10)
    # 0.1 in single precision is another number, yet within the rounding of the data.
    np.testing.assert_allclose(model.score_samples(X.astype(np.float32)), witness, rtol=1e-5)
    moved = X.copy()
    moved[3, 1] += 1e-6
    assert model.score_samples(moved)[3] == -np.inf and model.score(moved) == -np.inf
    assert np.isfinite(np.delete(model.score_samples(moved), 3)).all()
    present = np.arange(30) != 3
    assert model.score(moved, sample_weight=present) == pytest.approx(witness[present].mean())
    np.testing.assert_array_equal(model.transform(moved)[:, 1], 0.0)
    np.testing.assert_array_equal(model.inverse_transform(moved)[:, 1], model.mean_[1])
    np.testing.assert_array_equal(model.sample(5, random_state=0)[:, 1], model.mean_[1])
    assert model.aic(X) == pytest.approx(-2 * witness.sum() + 2 * (1 + 2))


def test_total_effects_are_sums_over_paths():
    model, _ = fitted(7, seed=3)
    effects = model.total_effects()
    assert np.count_nonzero(effects) > np.count_nonzero(model.adjacency_)
    for source in range(7):
        for target in range(7):
            if source == target:
                assert effects[source, target] == 0 and not list(model.path_effects(0, 0))
                continue
            witness = enumerated_paths(model.adjacency_, source, target)
            paths = dict(model.path_effects(source, target))
            assert paths.keys() == witness.keys()
            np.testing.assert_allclose(list(paths.values()), [witness[p] for p in paths])
            assert effects[source, target] == pytest.approx(sum(witness.values()), abs=1e-12)
            # An effect without a path is zero, not small.
            assert bool(witness) or effects[source, target] == 0.0


def test_paths_are_found_one_by_one():
    # Two choices at each of forty steps: listing all 2**40 paths would never end.
    n_steps = 40
    W = np.zeros((3 * n_steps + 1, 3 * n_steps + 1))
    for k in range(0, 3 * n_steps, 3):
        W[k, [k + 1, k + 2]] = 1.0
        W[[k + 1, k + 2], k + 3] = 0.5
    model = KnownSEM(W, np.ones(len(W))).fit(np.zeros((2, len(W))))
    paths = model.path_effects(0, 3 * n_steps)
    first, second = next(paths), next(paths)
    assert first.nodes != second.nodes and len(first.nodes) == 2 * n_steps + 1
    assert first.effect == pytest.approx(0.5**n_steps)
    assert model.total_effects()[0, -1] == pytest.approx(1.0)
    # A dead end of the same kind must not be searched: no path leads back.
    assert list(model.path_effects(3 * n_steps, 0)) == []
    assert next(model.path_effects(0, 1)).nodes == (0, 1)


@pytest.mark.parametrize("noise", ["gaussian", "exponential", "laplace", "gumbel"])
def test_a_sample_has_the_implied_moments(noise):
    model, _ = fitted(5, seed=2)
    n_samples = 40_000
    X = model.sample(n_samples, noise=noise, random_state=0)
    covariance = model.implied_covariance()
    sds = np.sqrt(covariance.diagonal())
    assert np.all(np.abs(X.mean(axis=0) - model.mean_) < 5 * sds / np.sqrt(n_samples))
    # Var of the product of two centred linear forms a'e, b'e in independent errors with
    # fourth moment at most 9 (exponential): |a|^2 |b|^2 (1 + rho^2) + 6 sum a_k^2 b_k^2, at
    # most (2 + 6) times the product of the variances.
    bound = 5 * np.sqrt(8 / n_samples) * np.outer(sds, sds)
    assert np.all(np.abs(np.cov(X.T) - covariance) < bound)
    errors = model.transform(X).ravel()
    skewness = {"gaussian": 0.0, "exponential": 2.0, "laplace": 0.0, "gumbel": 1.1395}[noise]
    # The sixth central moment is at most 265 (exponential), so is the variance of the cube.
    assert abs(np.mean(errors**3) - skewness) < 5 * np.sqrt(265 / errors.size)
    fourth = {"gaussian": 3.0, "exponential": 9.0, "laplace": 6.0, "gumbel": 5.4}[noise]
    # The eighth central moment of the exponential is 14833, those of the others are smaller.
    assert abs(np.mean(errors**4) - fourth) < 5 * np.sqrt(14833 / errors.size)


def test_errors_and_interventions_of_ones_own():
    model, _ = fitted()
    asked = []

    def signs(rng, shape):
        asked.append(shape)
        return rng.choice([-1, 1], shape)

    X = model.sample(30, noise=signs, random_state=1)
    np.testing.assert_allclose(np.abs(model.transform(X)), 1.0, rtol=1e-9)
    node = int(model.order_[2])
    draws = {}

    def uniform(rng, n_samples):
        draws["x"] = rng.uniform(size=n_samples)
        return draws["x"]

    X = model.sample(30, interventions={node: uniform}, random_state=1)
    np.testing.assert_array_equal(X[:, node], draws["x"])
    others = np.delete(np.arange(6), node)
    np.testing.assert_allclose(
        X[:, others] - model.predict(X)[:, others],
        model.sample(30, random_state=1)[:, others]
        - model.predict(model.sample(30, random_state=1))[:, others],
        atol=1e-9,
    )
    assert asked == [(30, 6)]


def test_random_states():
    model, _ = fitted()
    np.testing.assert_array_equal(model.sample(3, random_state=5), model.sample(3, random_state=5))
    assert not np.array_equal(model.sample(3, random_state=5), model.sample(3, random_state=6))
    rng = np.random.default_rng(5)
    np.testing.assert_array_equal(
        model.sample(3, random_state=5), model.sample(3, random_state=rng)
    )
    assert not np.array_equal(model.sample(3, random_state=rng), model.sample(3, random_state=5))
    assert model.sample().shape == (1, 6)


def test_an_intervention_moves_descendants_by_the_total_effect():
    model, _ = fitted(7, seed=4)
    effects = model.total_effects()
    has_both = (model.adjacency_ != 0).any(axis=0) & (effects != 0).any(axis=1)
    node = int(np.flatnonzero(has_both)[0])
    value = model.mean_[node] + 3.0
    result = model.intervene({node: value})
    np.testing.assert_allclose(result.mean, model.mean_ + 3.0 * (effects[node] + np.eye(7)[node]))
    assert result.mean[node] == value
    apart = np.flatnonzero(effects[node] == 0)
    apart = apart[apart != node]
    assert 0 < apart.size < 6
    np.testing.assert_array_equal(result.mean[apart], model.mean_[apart])
    np.testing.assert_allclose(
        result.covariance[np.ix_(apart, apart)],
        model.implied_covariance()[np.ix_(apart, apart)],
        rtol=1e-12,
    )
    np.testing.assert_array_equal(result.covariance[node], 0.0)
    assert not result.adjacency[:, node].any() and model.adjacency_[:, node].any()
    others = np.arange(7) != node
    np.testing.assert_array_equal(result.adjacency[:, others], model.adjacency_[:, others])


def test_a_sample_under_two_interventions_has_the_moments_of_the_cut_model():
    model, _ = fitted(5, seed=2)
    first, second = int(model.order_[1]), int(model.order_[3])
    values = {first: model.mean_[first] + 2.0, second: -1.0}
    expected = model.intervene(values)
    n_samples = 40_000
    X = model.sample(n_samples, interventions=values, random_state=0)
    for node, value in values.items():
        np.testing.assert_array_equal(X[:, node], value)
    sds = np.sqrt(expected.covariance.diagonal())
    error = np.abs(X.mean(axis=0) - expected.mean)
    assert np.all(error < 5 * sds / np.sqrt(n_samples) + 1e-9)
    # The variance of a product of Gaussians is at most twice the product of the variances.
    bound = 5 * np.sqrt(2 / n_samples) * np.outer(sds, sds) + 1e-9
    assert np.all(np.abs(np.cov(X.T) - expected.covariance) < bound)


def test_names_stand_for_columns():
    model, X = fitted(names=True)
    node = int(model.order_[0])
    by_name = model.intervene({f"node {node}": 2.0})
    np.testing.assert_array_equal(by_name.mean, model.intervene({node: 2.0}).mean)
    target = int(model.order_[-1])
    paths = list(model.path_effects(f"node {node}", target))
    assert paths
    assert all(path.nodes[0] == f"node {node}" for path in paths)
    assert sum(path.effect for path in paths) == pytest.approx(model.total_effects()[node, target])
    edges = model.edges()
    i, j = np.argwhere(model.adjacency_)[0]
    assert tuple(edges[0]) == (f"node {i}", f"node {j}", model.adjacency_[i, j])
    assert list(model.to_networkx().nodes) == list(X.columns)
    assert f'"node {i}" -> "node {j}"' in model.to_graphviz()
    assert list(model.get_feature_names_out()) == list(X.columns)
    frame = model.set_output(transform="pandas").transform(X)
    assert list(frame.columns) == list(X.columns)
    np.testing.assert_array_equal(frame.index, X.index)


def test_without_names_numbers_stand_for_columns():
    model, _ = fitted()
    i, j = np.argwhere(model.adjacency_)[0]
    assert tuple(model.edges()[0]) == (i, j, model.adjacency_[i, j])
    assert next(model.path_effects(i, j)).nodes[0] == i
    assert list(model.to_networkx().nodes) == list(range(6))
    np.testing.assert_array_equal(model.cpdag(), cpdag(model.adjacency_))


def test_plot_shows_the_graph():
    mpl = pytest.importorskip("matplotlib")
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    model, _ = fitted(names=True)
    _, ax = plt.subplots()
    display = model.plot(ax, edge_labels=False)
    assert display.ax_ is ax and display.edge_labels_ == {}
    assert set(display.edges_) == set(map(tuple, np.argwhere(model.adjacency_).tolist()))
    plt.close("all")


@pytest.mark.parametrize(
    "key, error, message",
    [
        (6, ValueError, r"interventions must give column numbers from 0 to 5, got 6"),
        (-1, ValueError, r"from 0 to 5, got -1"),
        (True, TypeError, "column numbers or names, got True"),
        (1.0, TypeError, "column numbers or names, got 1.0"),
        ("node 0", ValueError, "names the node 'node 0', but the columns had no names"),
    ],
)
def test_nodes_that_do_not_exist(key, error, message):
    model, _ = fitted()
    with pytest.raises(error, match=message):
        model.intervene({key: 0.0})
    with pytest.raises(error, match=message.replace("interventions", "source")):
        model.path_effects(key, 0)


def test_bad_interventions():
    model, _ = fitted(names=True)
    with pytest.raises(ValueError, match=r"names the node 'x'; the nodes are \['node 0'"):
        model.sample(interventions={"x": 0.0})
    with pytest.raises(ValueError, match="names node 1 twice, the second time 'node 1'"):
        model.intervene({1: 0.0, "node 1": 1.0})
    with pytest.raises(ValueError, match="finite values, got nan for node 2"):
        model.intervene({2: np.nan})
    with pytest.raises(TypeError, match="map node 2 to a number; sample also takes callables"):
        model.intervene({2: np.ones})
    with pytest.raises(TypeError, match="map node 2 to a number or a callable, got 'a'"):
        model.sample(interventions={2: "a"})
    with pytest.raises(TypeError, match="interventions must be a dict"):
        model.intervene([2])
    with pytest.raises(TypeError, match="interventions must be a dict"):
        model.intervene(None)
    with pytest.raises(ValueError, match=r"given as interventions must return .* \(4,\)"):
        model.sample(4, interventions={2: lambda rng, n_samples: np.ones(3)})


def test_bad_samples():
    model, _ = fitted()
    with pytest.raises(TypeError, match=r"n_samples must be an integer, got 2\.5"):
        model.sample(2.5)
    with pytest.raises(ValueError, match="n_samples must be at least 1, got 0"):
        model.sample(0)
    with pytest.raises(ValueError, match=r"noise must be callable or one of .*, got 'cauchy'"):
        model.sample(noise="cauchy")
    with pytest.raises(ValueError, match=r"given as noise must return .* \(2, 6\).*got \(3,\)"):
        model.sample(2, noise=lambda rng, shape: np.ones(3))
    with pytest.raises(ValueError, match="given as noise returned NaN or infinity"):
        model.sample(2, noise=lambda rng, shape: np.full(shape, np.inf))


METHODS = ["predict", "residuals", "transform", "inverse_transform", "score_samples", "score"]


@pytest.mark.parametrize("name", [*METHODS, "aic", "bic"])
def test_bad_data(name):
    import array_api_strict

    model, X = fitted()
    method = getattr(model, name)
    bad = X.copy()
    bad[1, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        method(bad)
    with pytest.raises(ValueError, match="6"):
        method(X[:, :4])
    with pytest.raises(TypeError, match=r"takes data on the host .* convert it first"):
        method(array_api_strict.asarray(X))
    with pytest.raises(NotFittedError):
        getattr(clone(model), name)(X)


@pytest.mark.parametrize(
    "call",
    [
        lambda model: model.sample(),
        lambda model: model.intervene({}),
        lambda model: model.total_effects(),
        lambda model: model.path_effects(0, 1),
        lambda model: model.implied_covariance(),
        lambda model: model.cpdag(),
        lambda model: model.edges(),
        lambda model: model.to_networkx(),
        lambda model: model.to_graphviz(),
        lambda model: model.plot(),
    ],
)
def test_a_model_must_be_fitted(call):
    with pytest.raises(NotFittedError):
        call(KnownSEM())


def test_a_single_node():
    model = KnownSEM(np.zeros((1, 1)), np.array([2.0])).fit(np.array([[1.0], [3.0]]))
    np.testing.assert_array_equal(model.total_effects(), [[0.0]])
    np.testing.assert_array_equal(model.implied_covariance(), [[4.0]])
    assert model.intervene({0: 5.0}).mean == [5.0]
    assert model.edges().size == 0 and model.sample(2, random_state=0).shape == (2, 1)
