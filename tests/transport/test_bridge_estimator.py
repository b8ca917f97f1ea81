"""Light Schroedinger bridges that are fitted to samples."""

import warnings
from pathlib import Path

import array_api_compat.numpy
import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import sparsestat
from sparsestat.datasets import make_schrodinger_bridge
from sparsestat.transport import _light_bridge as lb
from sparsestat.transport._bridge_metrics import bures_wasserstein, conditional_bw_uvp
from sparsestat.transport._bridge_model import merged_rows
from sparsestat.transport._bridge_start import _kmeans
from sparsestat.transport._light_schrodinger_bridge import LightSchrodingerBridge
from sparsestat.utils._random import as_generator

kinds = pytest.mark.parametrize("kind", ["diag", "full"])


def samples(n=300, d=2, seed=0):
    """A skewed source, and a target of two clusters."""
    rng = np.random.default_rng(seed)
    X = rng.gamma(2.0, size=(n, d)) + 1.0
    target = rng.choice([-2.0, 2.0], (n, 1)) + 0.5 * rng.standard_normal((n, d))
    return X, target


def bridge_of(target, n_components=2, **settings):
    settings = {"epsilon": 0.5, "random_state": 0, "max_iter": 2000, **settings}
    return LightSchrodingerBridge(n_components, target=target, **settings)


def correlated(n, d, seed):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + rng.standard_normal(d)


# --- the optimum -------------------------------------------------------------------------


def test_one_component_is_the_bridge_of_the_samples_moments():
    X, target = correlated(200, 3, 0), correlated(150, 3, 1)
    model = bridge_of(target, 1, covariance_type="full").fit(X)
    assert model.converged_ and model.n_iter_ == 1
    m0, S0 = X.mean(axis=0), np.cov(X.T, ddof=0)
    m1, S1 = target.mean(axis=0), np.cov(target.T, ddof=0)
    exact = lb.gaussian_bridge(m0, S0, m1, S1, 0.5)
    S, r = model.scales_[0], model.locations_[0]
    np.testing.assert_allclose(S, exact.spreads[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(S @ S0 @ S + 0.5 * S, S1, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(r + S @ m0, m1, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model.covariances_[0], 0.5 * S)


def test_optimiser_finds_the_closed_form():
    X, target = correlated(200, 3, 0), correlated(150, 3, 1)
    for kind in ("diag", "full"):
        exact = bridge_of(target, 1, covariance_type=kind).fit(X)
        # Two equal components are one; the second start is far from it.
        model = bridge_of(target, 1, covariance_type=kind, tol=1e-13, warm_start=True).fit(3 * X)
        assert model.fit(X).n_iter_ > 5
        np.testing.assert_allclose(model.scales_, exact.scales_, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(model.predict(X), exact.predict(X), rtol=1e-5, atol=1e-5)


@kinds
def test_stationary_point(kind):
    X, target = samples()
    model = bridge_of(target, 3, covariance_type=kind, tol=1e-14).fit(X)
    mixture = model.mixture_
    w = lb.component_weights(mixture, X)
    log_g = np.stack(
        [
            lb.log_potential(mixture._replace(log_weights=a, locations=r, spreads=S), target)
            for a, r, S in zip(
                mixture.log_weights[:, None], mixture.locations[:, None], mixture.spreads[:, None]
            )
        ],
        axis=1,
    )
    g = np.exp(log_g - lb.log_potential(mixture, target)[:, None])
    np.testing.assert_allclose(g.sum(axis=1), 1.0)
    np.testing.assert_allclose(w.mean(axis=0), g.mean(axis=0), atol=1e-5)
    # Then each component carries its share of the source to its share of the target.
    carried = np.einsum("nk,nkd->kd", w, lb.component_means(mixture, X)) / len(X)
    np.testing.assert_allclose(carried, g.T @ target / len(target), atol=1e-5)
    np.testing.assert_allclose(model.predict(X).mean(axis=0), target.mean(axis=0), atol=1e-5)


@kinds
@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_loss_decreases_to_what_score_says(kind, solver):
    X, target = samples()
    settings = {"covariance_type": kind, "solver": solver, "tol": 1e-5}
    model = bridge_of(target, 3, **settings).fit(X)
    curve = model.loss_curve_
    assert model.converged_ and len(curve) == model.n_iter_ + 1
    assert curve[-1] < curve[0]
    assert model.loss_ == pytest.approx(curve.min(), rel=1e-12)
    assert model.loss_ == model.objective_ == pytest.approx(-model.score(X), rel=1e-9)
    if solver == "lbfgs":
        assert np.all(np.diff(curve) <= 0)


@kinds
def test_public_parameters_are_those_of_the_formulas(kind):
    X, target = samples(50)
    model = bridge_of(target, 3, covariance_type=kind).fit(X + 3.0)
    S = model.scales_ if kind == "full" else np.stack([np.diag(s) for s in model.scales_])
    np.testing.assert_allclose(model.covariances_, 0.5 * model.scales_)
    squares = np.einsum("ni,kij,nj->nk", X, S, X)
    log_c = logsumexp(model.log_weights_ + (squares / 2 + X @ model.locations_.T) / 0.5, axis=1)
    np.testing.assert_allclose(model.log_normalizer(X), log_c, rtol=1e-9)
    parts = [
        a + stats.multivariate_normal(r, 0.5 * s).logpdf(target)
        for a, r, s in zip(model.log_weights_, model.locations_, S)
    ]
    log_v = logsumexp(parts, axis=0)
    np.testing.assert_allclose(model.log_potential(target), log_v, rtol=1e-9)
    log_plan = np.sum(X * target, axis=1) / 0.5 + log_v - log_c
    np.testing.assert_allclose(model.conditional_logpdf(X, target), log_plan, rtol=1e-8)
    centre = (X + 3.0).mean(axis=0, keepdims=True)
    np.testing.assert_allclose(lb.component_weights(model.mixture_, centre)[0], model.weights_)
    assert model.weights_.sum() == pytest.approx(1.0)


def test_the_true_bridge_is_found():
    bridge = make_schrodinger_bridge(4000, 2, n_components=3, epsilon=1.0, random_state=0)
    model = bridge_of(bridge.target, 3, epsilon=1.0).fit(bridge.X)
    # The share of starting points that go to the wrong component is about the error of the
    # masses, 3 sqrt(2 * (2 / 9) / 4000) / 2 = 1.6 %, at a distance of squared 50 at most, relative
    # to half a variance of about 17 (its value here); other errors are of order 1 / n.
    assert conditional_bw_uvp(bridge, model) < 100 * 0.016 * 50 / 17
    truth = model.mixture_._replace(
        log_weights=bridge.log_weights,
        locations=bridge.locations,
        spreads=bridge.scales,
        source_center=np.zeros(2),
        target_center=np.zeros(2),
    )
    shares = np.full(4000, 1 / 4000)
    assert model.loss_ < lb.bridge_loss(truth, bridge.X, bridge.target, shares, shares)
    model.mixture_ = truth
    assert conditional_bw_uvp(bridge, model) == pytest.approx(0.0, abs=1e-6)
    # Independent end points explain nothing.
    model.mixture_ = lb.gaussian_bridge(
        np.zeros(2), np.zeros(2), bridge.target.mean(axis=0), bridge.target.var(axis=0), 1.0
    )
    assert conditional_bw_uvp(bridge, model) > 80.0


def test_bures_wasserstein_of_commuting_covariances():
    V, W = np.diag([1.0, 4.0, 0.0]), np.diag([9.0, 1.0, 4.0])
    found = bures_wasserstein(np.zeros((2, 3)), np.array([V, V]), np.ones((2, 3)), np.array([W, V]))
    np.testing.assert_allclose(found, [3.0 + 4.0 + 1.0 + 4.0, 3.0])


# --- invariances -------------------------------------------------------------------------


@kinds
def test_where_the_samples_are_does_not_matter(kind):
    X, target = samples()
    model = bridge_of(target, covariance_type=kind).fit(X)
    far = bridge_of(target - 1e6, covariance_type=kind).fit(X + 1e5)
    # Adding 1e6 keeps ten digits.
    np.testing.assert_allclose(far.predict(X + 1e5), model.predict(X) - 1e6, rtol=0, atol=1e-6)
    assert far.loss_ == pytest.approx(model.loss_, rel=1e-7)
    x_t = 0.5 * X + 0.5 * target
    np.testing.assert_allclose(
        far.drift(x_t + 0.5e5 - 0.5e6, 0.5), model.drift(x_t, 0.5) - 1.1e6, rtol=0, atol=1e-6
    )


@kinds
def test_epsilon_is_in_the_units_of_the_data(kind):
    X, target = samples()
    model = bridge_of(target, covariance_type=kind, epsilon=0.5).fit(X)
    scaled = bridge_of(7.0 * target, covariance_type=kind, epsilon=0.5 * 49.0).fit(7.0 * X)
    np.testing.assert_allclose(scaled.predict(7.0 * X), 7.0 * model.predict(X), rtol=1e-6)
    np.testing.assert_allclose(scaled.covariances_, 49.0 * model.covariances_, rtol=1e-4)
    # Columns scaled against each other keep x.y, and with it the plan.
    c = np.array([10.0, 0.2])
    skewed = bridge_of(target / c, covariance_type=kind, epsilon=0.5).fit(c * X)
    np.testing.assert_allclose(skewed.predict(c * X), model.predict(X) / c, rtol=1e-6)


def test_weights_are_repetitions():
    X, target = samples()
    weights = np.random.default_rng(0).integers(0, 4, len(X))
    rows = np.random.default_rng(1).permutation(np.repeat(np.arange(len(X)), weights))
    for settings in ({}, {"validation_fraction": 0.2}, {"solver": "adam", "batch_size": 64}):
        settings = {"n_components": 4, **settings}
        weighted = bridge_of(target, **settings).fit(X, sample_weight=weights)
        repeated = bridge_of(target, **settings).fit(X[rows])
        assert weighted.loss_ == repeated.loss_
        np.testing.assert_array_equal(weighted.locations_, repeated.locations_)
        scaled = bridge_of(target, **settings).fit(X, sample_weight=1e-3 * weights)
        np.testing.assert_array_equal(weighted.locations_, scaled.locations_)
        assert weighted.score(X, sample_weight=weights) == pytest.approx(repeated.score(X[rows]))


# --- draws -------------------------------------------------------------------------------


def test_draws_end_where_the_target_is():
    X, target = samples(2000)
    model = bridge_of(target).fit(X)
    Y = model.sample(X)
    # Means of the two samples are those of one distribution up to their standard errors.
    error = np.sqrt((Y.var(axis=0) + target.var(axis=0)) / 2000)
    assert np.all(np.abs(Y.mean(axis=0) - target.mean(axis=0)) <= 5 * error)
    for column in range(2):
        # A threshold at which two samples of one distribution fail once in ten thousand.
        assert stats.ks_2samp(Y[:, column], target[:, column]).pvalue > 1e-4


def test_without_a_target_columns_become_normal():
    X, _ = samples(1000)
    model = LightSchrodingerBridge(5, epsilon=0.2, random_state=0).fit(X)
    assert model.target_.shape == (1000, 2)
    Y = model.sample(X)
    for column in range(2):
        assert stats.kstest(X[:, column], "norm").pvalue < 1e-10
        # The reference sample is one itself, which doubles the variance of the statistic.
        assert stats.ks_2samp(Y[:, column], model.target_[:, column]).pvalue > 1e-4
    other = LightSchrodingerBridge(2, n_target=1000, random_state=0).fit(X[:50] - 3.0)
    np.testing.assert_array_equal(other.target_, model.target_)
    assert not np.array_equal(
        LightSchrodingerBridge(2, random_state=1).fit(X).target_, model.target_
    )


def test_shapes_and_seeds_of_draws():
    X, target = samples()
    model = bridge_of(target).fit(X)
    assert model.sample(X).shape == X.shape
    assert model.sample(X, 3).shape == (300, 3, 2)
    np.testing.assert_array_equal(model.sample(X, 3), model.sample(X, 3))
    assert not np.array_equal(model.sample(X), model.sample(X, random_state=5))
    times = [0.0, 0.3, 1.0]
    paths = model.sample_path(X, times)
    assert paths.shape == (300, 3, 2)
    np.testing.assert_array_equal(paths[:, 0], X)
    np.testing.assert_array_equal(paths, model.sample_path(X, times))
    np.testing.assert_array_equal(paths[:, 2], model.sample(X))
    assert set(model.predict_component(X)) == {0, 1}
    # Many draws from each start have the mean that is predicted.
    draws = model.sample(X[:5], 4000)
    error = draws.std(axis=1) / np.sqrt(4000)
    assert np.all(np.abs(draws.mean(axis=1) - model.predict(X[:5])) <= 5 * error)


# --- parameters --------------------------------------------------------------------------


def test_batches_come_as_far():
    X, target = samples(1000)
    exact = bridge_of(target).fit(X)
    start = exact.loss_curve_[0]
    for weights in (None, np.arange(1000) % 3 + 1.0):
        exact = bridge_of(target).fit(X, sample_weight=weights)
        model = bridge_of(target, solver="adam", batch_size=100, tol=1e-4)
        model.fit(X, sample_weight=weights)
        assert model.converged_
        assert exact.loss_ <= model.loss_ < exact.loss_ + 0.02 * (start - exact.loss_) + 0.02


def test_points_set_aside_end_the_fit():
    X, target = samples(60, 4)
    settings = {"n_components": 12, "max_iter": 3000}
    whole = bridge_of(target, **settings).fit(X)
    model = bridge_of(target, validation_fraction=0.3, **settings).fit(X)
    assert model.converged_ and model.n_iter_ < whole.n_iter_
    curve = model.validation_loss_curve_
    assert len(curve) == model.n_iter_ + 1
    best = int(np.argmin(curve))
    assert best < len(curve) - 1
    assert model.loss_ == pytest.approx(model.loss_curve_[best], rel=1e-10)
    # It goes on for as long as the last ten iterations hold a better one.
    assert best == len(curve) - 1 - 10
    # The points are drawn first, X before the target, where a target is given.
    rng, shares = as_generator(0), np.full(18, 1 / 18)
    X, _ = merged_rows(X, None)
    outside = [Z[np.sort(rng.permutation(60)[:18])] for Z in (X, target)]
    held_out = lb.bridge_loss(model.mixture_, *outside, shares, shares)
    assert curve[best] == pytest.approx(held_out, rel=1e-9)


def test_starts():
    X, target = samples()
    rough = {"n_components": 5, "init": "random", "epsilon": 0.1}
    one = bridge_of(target, **rough).fit(X)
    several = bridge_of(target, n_init=5, **rough).fit(X)
    assert several.loss_ <= one.loss_
    centres = np.array([[-2.0, -2.0], [2.0, 2.0]])
    given = bridge_of(target, init=centres).fit(X)
    found = bridge_of(target).fit(X)
    assert given.loss_ == pytest.approx(found.loss_, rel=1e-6)
    # The first component is that of the first centre.
    assert np.all(given.predict(X[given.predict_component(X) == 0]).mean(axis=0) < 0)


@pytest.mark.parametrize("m", [600, 6000])
def test_clusters_are_those_of_k_means(m):
    rng = np.random.default_rng(0)
    Y = 4.0 * rng.standard_normal((6, 3))[rng.integers(6, size=m)] + rng.standard_normal((m, 3))
    witness = KMeans(6, n_init=10, random_state=0).fit(Y)
    members, centres = _kmeans(
        Y, np.full(m, 1 / m), 6, np.random.default_rng(0), array_api_compat.numpy
    )
    np.testing.assert_array_equal(members.sum(axis=1), 1.0)
    np.testing.assert_allclose(centres, (members.T @ Y) / members.sum(axis=0)[:, None])
    assert np.sum((Y - members @ centres) ** 2) <= 1.01 * witness.inertia_


@kinds
def test_warm_start(kind):
    X, target = samples()
    model = bridge_of(target, 3, covariance_type=kind, warm_start=True)
    first = clone(model).fit(X)
    model.fit(X)
    again = model.fit(X)
    assert again.n_iter_ < first.n_iter_
    assert again.loss_ <= first.loss_ + 1e-9
    # Another number of components starts afresh.
    model.set_params(n_components=2).fit(X)
    fresh = bridge_of(target, 2, covariance_type=kind).fit(X)
    np.testing.assert_array_equal(model.locations_, fresh.locations_)


def test_no_convergence_is_said():
    X, target = samples()
    with pytest.warns(ConvergenceWarning, match=r"max_iter=2 .* at most tol=1.0e-07") as caught:
        model = bridge_of(target, 5, max_iter=2).fit(X)
    assert Path(caught[0].filename).name == Path(__file__).name
    assert not model.converged_ and model.n_iter_ == 2


class Recorder:
    def __init__(self, stop_after=None):
        self.stop_after, self.iterates = stop_after, []

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        if context.parent is not None:
            self.iterates.append(fitted_estimator)
        return self.stop_after is not None and len(self.iterates) >= self.stop_after

    def teardown(self, estimator, context):
        pass


@pytest.mark.parametrize(
    "settings",
    [{}, {"solver": "adam", "tol": 1e-3}, {"n_init": 3, "init": "random"}],
    ids=["lbfgs", "adam", "starts"],
)
def test_callbacks_see_the_loss_fall(settings):
    X, target = samples()
    recorder = Recorder()
    silent = bridge_of(target, 3, **settings).fit(X)
    model = bridge_of(target, 3, **settings).set_callbacks(recorder).fit(X)
    np.testing.assert_array_equal(model.locations_, silent.locations_)
    losses = [iterate.loss_ for iterate in recorder.iterates]
    assert len(losses) > 3 and np.all(np.diff(losses) <= 1e-9) and losses[-1] < losses[0]
    assert losses[-1] == pytest.approx(model.loss_)
    for iterate in recorder.iterates[:3]:
        assert iterate.score(X) == pytest.approx(-iterate.loss_)
        assert iterate.predict(X).shape == X.shape
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        stopped = bridge_of(target, 3, **settings).set_callbacks(Recorder(stop_after=2)).fit(X)
    assert not stopped.converged_ and stopped.n_iter_ == 2


# --- data --------------------------------------------------------------------------------


def test_awkward_samples():
    X, target = samples()
    constant = np.c_[X[:, :1], np.full(len(X), 0.1)]
    for source, goal in (
        (constant, target),
        (X, np.c_[target[:, :1], np.full(len(X), 0.1)]),
        (X[:1], target),
        (X, np.repeat(target[:2], 5, axis=0)),
        (np.rint(X), np.rint(target).astype(int)),
        (1e-8 * X, 1e8 * target),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            for kind in ("diag", "full"):
                model = bridge_of(goal, 3, covariance_type=kind).fit(source)
                assert np.all(np.isfinite(model.predict(source)))
                assert np.all(np.isfinite(model.sample(source)))
                assert np.isfinite(model.loss_)
    flat = bridge_of(np.full((20, 2), 3.0), 1).fit(X)
    np.testing.assert_allclose(flat.predict(X), 3.0, atol=1e-4)


def test_containers():
    X, target = samples()
    names = ["a", "b"]
    frame = pd.DataFrame(X, columns=names)
    model = bridge_of(pd.DataFrame(target, columns=names)).fit(frame)
    assert list(model.get_feature_names_out()) == names
    shown = clone(model).set_output(transform="pandas").fit_transform(frame)
    assert list(shown.columns) == names
    np.testing.assert_array_equal(shown.to_numpy(), model.predict(frame))
    with pytest.raises(ValueError, match="target must have the feature names of X"):
        bridge_of(pd.DataFrame(target, columns=names[::-1])).fit(frame)
    single = X.astype(np.float32)
    for found in (model.fit(single).predict(single), model.sample(single), model.drift(single, 0)):
        assert found.dtype == np.float32
    pipeline = make_pipeline(StandardScaler(), bridge_of(target)).fit(X)
    assert pipeline.transform(X).shape == X.shape


def test_bad_arguments():
    X, target = samples()
    model = bridge_of(target).fit(X)
    expected = model.predict(X)
    for settings, message in (
        ({"target": target[:, :1]}, "target must have as many columns as X, 2"),
        ({"target": target[:, 0]}, r"target must have two dimensions, got shape \(300,\)"),
        ({"target": target * np.nan}, "target contains NaN"),
        ({"target": target[:1]}, "target must have a point .* n_components=2"),
        ({"init": np.zeros((3, 2))}, r"init needs a centre .* \(2, 2\), got shape \(3, 2\)"),
        ({"validation_fraction": 0.999}, "validation_fraction=0.999 needs rows of X"),
        ({"epsilon": 0.0}, "'epsilon' parameter"),
    ):
        with pytest.raises(ValueError, match=message):
            clone(model).set_params(**settings).fit(X)
    for call, message in (
        (lambda: model.sample(X, 0), "n_samples must be a positive integer or None, got 0"),
        (lambda: model.drift(X, 1.0), r"t must be a number in \[0, 1\), got 1.0"),
        (lambda: model.sample_path(X, [0.5, 1.5]), "times must be"),
        (lambda: model.conditional_logpdf(X, target[:5]), "the same number of rows, got 300 and 5"),
        (lambda: model.log_potential(X[:, :1]), "Y must have as many columns as X, 2"),
        (lambda: model.predict(X[:, :1]), "X has 1 features"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match=r"[Ss]parse"):
        model.fit(sparse.csr_array(X))
    np.testing.assert_array_equal(model.predict(X), expected)
    for method in ("predict", "sample", "log_potential", "log_normalizer", "score"):
        with pytest.raises(NotFittedError):
            getattr(clone(model), method)(X)
    with pytest.raises(NotFittedError):
        _ = clone(model).objective_


@kinds
def test_device_arrays(xp, kind):
    X, target = samples(40)
    settings = {"covariance_type": kind, "tol": 1e-4, "warm_start": True}
    host = bridge_of(target, **settings)
    with sparsestat.config_context(backend="auto"):
        host.fit(X)
    there = bridge_of(xp.asarray(target), **settings).fit(xp.asarray(X))
    assert there.loss_ == pytest.approx(host.loss_, rel=1e-6)
    Y = xp.asarray(X.astype(np.float32))
    for name, found in {
        "locations_": there.locations_,
        "predict": there.predict(xp.asarray(X)),
        "sample": there.sample(xp.asarray(X), 2),
        "drift": there.drift(xp.asarray(X), 0.5),
        "log_potential": there.log_potential(xp.asarray(X)),
    }.items():
        xp.assert_native(found)
        arguments = {"sample": (X, 2), "drift": (X, 0.5)}.get(name, (X,))
        expected = getattr(host, name)
        expected = expected(*arguments) if callable(expected) else expected
        np.testing.assert_allclose(xp.to_numpy(found), expected, rtol=1e-3, atol=1e-3)
    assert there.predict(Y).dtype == xp.float32
    assert there.score(xp.asarray(X)) == pytest.approx(-there.loss_, rel=1e-6)
    assert there.fit(xp.asarray(X)).n_iter_ <= host.n_iter_


def test_mixed_libraries_are_refused():
    array_api_strict = pytest.importorskip("array_api_strict")
    X, target = samples(40)
    with pytest.raises(TypeError, match="array_api_strict and numpy"):
        bridge_of(target).fit(array_api_strict.asarray(X))
    model = bridge_of(target).fit(X)
    with pytest.raises(TypeError, match="array_api_strict and numpy"):
        model.predict(array_api_strict.asarray(X))
    there = bridge_of(array_api_strict.asarray(target))
    with (
        sparsestat.config_context(backend="numba"),
        pytest.raises(TypeError, match="backend='numba'"),
    ):
        there.fit(array_api_strict.asarray(X))
    there.fit(array_api_strict.asarray(X))
    with pytest.raises(ValueError, match="X has 1 features"):
        there.predict(array_api_strict.asarray(X[:, :1]))
