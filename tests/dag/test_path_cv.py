"""Graphs for many penalties, and the choice among them."""

import itertools
import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GroupKFold, KFold, ShuffleSplit

from sparsestat.dag import CoLiDE, CoLiDECV, SortabilityWarning, colide_path
from sparsestat.datasets import make_sem
from sparsestat.utils import GramAccumulator

# Simulated graphs are sortable by variance, and small ones are told to be.
pytestmark = pytest.mark.filterwarnings("ignore::sparsestat.dag.SortabilityWarning")

VARIANCES = pytest.mark.parametrize("variance", ["equal", "unequal"])


def simulate(n_nodes=6, n_samples=150, degree=1.5, seed=0, variance="equal"):
    noise = 1.0 if variance == "equal" else (0.5, 5.0)
    found = make_sem(n_samples, n_nodes, degree=degree, noise_variance=noise, random_state=seed)
    return found.data


def at_order(X, order, alpha, variance, **options):
    """The optimum for one order, at which the criterion has one value."""
    return CoLiDE(variance, alpha=alpha, init=order, max_sweeps=0, **options).fit(X)


# --- the path ---------------------------------------------------------------------------------


@VARIANCES
@pytest.mark.parametrize("columns", ["none", "columns"])
def test_every_point_of_a_path_solves_its_problem(variance, columns):
    X = simulate(10, degree=2.5, variance=variance)
    options = {"penalty_scale": columns}
    path = colide_path(X, variance=variance, alphas=12, random_state=0, **options)
    previous = None
    for k, alpha in enumerate(path.alphas):
        own = at_order(X, path.orders[k], alpha, variance, **options)
        assert path.objectives[k] == pytest.approx(own.objective_, rel=1e-9)
        np.testing.assert_allclose(path.coefs_raw[k], own.coef_raw_, atol=1e-7)
        np.testing.assert_allclose(path.noise_scales[k], own.noise_scales_, rtol=1e-7)
        if previous is not None:
            # The search begins there and only improves.
            start = at_order(X, previous, alpha, variance, **options)
            assert path.objectives[k] <= start.objective_ * (1 + 1e-9)
        previous = path.orders[k]
    # At a given order the optimum falls with alpha, and the search can only lower it.
    assert np.all(np.diff(path.objectives) <= 0)
    assert path.converged.all()
    kept = np.where(np.abs(path.coefs_raw) >= 0.3, path.coefs_raw, 0.0)
    np.testing.assert_array_equal(path.adjacencies, kept)
    np.testing.assert_array_equal(path.n_edges, [np.count_nonzero(W) for W in kept])


def test_a_search_begins_where_the_last_one_ended():
    X = simulate(12, degree=3)
    worst = CoLiDE(random_state=0).fit(X).order_[::-1]
    path = colide_path(X, alphas=[0.1, 0.1 * (1 - 1e-9)], init=worst, random_state=0)
    assert path.n_iter[0] > 1
    assert path.n_iter[1] == 1


@VARIANCES
def test_a_path_with_restarts_finds_the_best_of_all_orders(variance):
    X = simulate(4, seed=1, variance=variance)
    path = colide_path(X, variance=variance, alphas=5, eps=0.01, n_restarts=30, random_state=0)
    for alpha, objective in zip(path.alphas, path.objectives):
        orders = itertools.permutations(range(4))
        best = min(at_order(X, order, alpha, variance).objective_ for order in orders)
        assert objective == pytest.approx(best, rel=1e-8)


@VARIANCES
@pytest.mark.parametrize("columns", ["none", "columns"])
@pytest.mark.parametrize("seed", range(3))
def test_the_grid_begins_where_the_first_edge_enters(variance, columns, seed):
    X = simulate(seed=seed, variance=variance)
    path = colide_path(X, variance=variance, alphas=9, eps=0.05, penalty_scale=columns)
    S = np.cov(X.T, bias=True)
    sd = X.std(axis=0)
    scale = np.full(6, np.sqrt(np.mean(sd**2))) if variance == "equal" else sd
    factor = sd if columns == "columns" else np.ones(6)
    largest = np.max(np.abs(S - np.diag(sd**2)) / np.outer(factor, scale))
    # Nine digits are above, so that rounding lets no edge in.
    np.testing.assert_allclose(path.alphas, np.geomspace(largest, 0.05 * largest, 9), rtol=1e-8)
    assert not path.coefs_raw[0].any()
    assert path.coefs_raw[1].any()


@VARIANCES
@pytest.mark.parametrize("seed", range(5))
def test_the_grid_of_the_information_criterion(variance, seed):
    X = simulate(seed=seed, variance=variance)
    n, d = X.shape
    path = colide_path(X, variance=variance, criterion="bic", alphas=8, random_state=0)
    S = np.cov(X.T, bias=True)
    v = S.diagonal()
    gain = np.zeros((d, d))
    for k, j in itertools.permutations(range(d), 2):
        left = v[j] - S[k, j] ** 2 / v[k]
        if variance == "equal":
            gain[k, j] = n * d / 2 * np.log(v.sum() / (v.sum() - v[j] + left))
        else:
            gain[k, j] = n / 2 * np.log(v[j] / left)
    # The price at which no single edge pays; several may pay together, at a shared scale.
    assert path.alphas[0] == pytest.approx(gain.max() / np.log(n))
    if variance == "unequal":
        assert path.n_edges[0] == 0
    assert path.n_edges[1] > 0


@VARIANCES
@pytest.mark.parametrize("seed", range(5))
def test_the_information_criterion_is_not_above_that_of_no_edges(variance, seed):
    X = simulate(seed=seed, variance=variance)
    n, d = X.shape
    v = X.var(axis=0)
    empty = n * (d * np.log(v.mean()) if variance == "equal" else np.log(v).sum()) / 2
    for alpha in [3.0, 30.0, 60.0, 100.0, 200.0, 500.0]:
        model = CoLiDE(variance, criterion="bic", alpha=alpha, random_state=0).fit(X)
        assert model.objective_ <= empty + 1e-9 * abs(empty)


def test_forbidden_edges_do_not_count_for_the_grid():
    X = simulate()
    S = np.abs(np.cov(X.T, bias=True) - np.diag(X.var(axis=0)))
    i, j = np.unravel_index(S.argmax(), S.shape)
    path = colide_path(X, alphas=3, forbidden_edges=[(i, j), (j, i)])
    S[i, j] = S[j, i] = 0.0
    assert path.alphas[0] == pytest.approx(S.max() / np.sqrt(X.var(axis=0).mean()))
    assert not path.coefs_raw[0].any()


def test_a_grid_of_ones_own():
    X = simulate()
    path = colide_path(X, alphas=[0.1, 3.0, 0.5], random_state=0)
    np.testing.assert_array_equal(path.alphas, [3.0, 0.5, 0.1])
    single = colide_path(X, alphas=[3.0], random_state=0)
    np.testing.assert_array_equal(single.coefs_raw[0], path.coefs_raw[0])
    # One penalty is one fit.
    fit = CoLiDE(alpha=3.0, random_state=0).fit(X)
    np.testing.assert_array_equal(fit.coef_raw_, single.coefs_raw[0])
    assert fit.objective_ == single.objectives[0]


def test_paths_of_moments_weights_and_frames():
    X = simulate()
    weights = np.random.default_rng(0).integers(0, 3, len(X)).astype(float)
    path = colide_path(X, alphas=5, sample_weight=weights, random_state=0)
    repeated = np.repeat(X, weights.astype(int), axis=0)
    others = [
        colide_path(repeated, alphas=5, random_state=0),
        colide_path(GramAccumulator().update(repeated), alphas=5, random_state=0),
        colide_path(sparse.csr_array(repeated), alphas=5, random_state=0),
        colide_path(pd.DataFrame(repeated), alphas=5, random_state=0),
    ]
    for other in others:
        np.testing.assert_allclose(other.alphas, path.alphas, rtol=1e-12)
        np.testing.assert_allclose(other.objectives, path.objectives, rtol=1e-10)
        np.testing.assert_allclose(other.coefs_raw, path.coefs_raw, atol=1e-8)
    frame = pd.DataFrame(X, columns=list("abcdef"))
    named = colide_path(frame, alphas=4, forbidden_edges=[("a", "b")])
    assert not named.coefs_raw[:, 0, 1].any()


def test_moments_are_left_alone():
    moments = GramAccumulator().update(simulate())
    before = moments.to_bytes()
    colide_path(moments, alphas=4)
    assert moments.to_bytes() == before


def test_paths_over_columns_without_edges():
    rng = np.random.default_rng(0)
    single = colide_path(rng.standard_normal((20, 1)), alphas=3)
    assert single.adjacencies.shape == (3, 1, 1)
    constant = colide_path(np.column_stack([rng.standard_normal(20), np.ones(20)]), alphas=3)
    np.testing.assert_array_equal(constant.noise_scales[:, 1], 0.0)
    assert not constant.adjacencies.any()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_path_by_the_central_path():
    X = simulate(4)
    params = {"warm_iter": 200, "max_iter": 400, "lr": 3e-3, "checkpoint": 100}
    options = {"solver": "central-path", "path_params": params}
    path = colide_path(X, alphas=[0.5, 0.05], **options)
    for alpha, W in zip(path.alphas, path.coefs_raw):
        np.testing.assert_array_equal(W, CoLiDE(alpha=alpha, **options).fit(X).coef_raw_)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"alpha": 0.1}, ValueError, "takes no alpha; pass alphas"),
        ({"warm_start": True}, ValueError, "takes no warm_start"),
        ({"eps": 0.0}, ValueError, "eps must be between 0 and 1, got 0.0"),
        ({"eps": 1.0}, ValueError, "eps must be between 0 and 1"),
        ({"alphas": 0}, ValueError, "alphas must be at least 1, got 0"),
        ({"alphas": []}, ValueError, "alphas"),
        ({"alphas": [0.1, -0.1]}, ValueError, "alphas"),
        ({"alphas": [[0.1]]}, ValueError, "alphas"),
        ({"alphas": [np.nan]}, ValueError, "alphas"),
        ({"alphas": "many"}, ValueError, "alphas"),
        ({"variance": "both"}, ValueError, "'variance' parameter"),
        ({"path_params": {"steps": 3}, "solver": "central-path"}, ValueError, "path_params"),
        ({"lambda1": 0.1}, TypeError, "lambda1"),
    ],
    ids=str,
)
def test_bad_arguments_of_a_path(options, error, message):
    with pytest.raises(error, match=message):
        colide_path(simulate(), **options)


# --- the choice -------------------------------------------------------------------------------


@VARIANCES
@pytest.mark.parametrize("cv", [None, 3, KFold(4, shuffle=True, random_state=1)], ids=str)
def test_scores_are_those_of_held_out_rows(variance, cv):
    X = simulate(variance=variance)
    model = CoLiDECV(variance, alphas=6, eps=0.01, cv=cv, random_state=0).fit(X)
    np.testing.assert_allclose(
        model.alphas_, colide_path(X, variance=variance, alphas=6, eps=0.01).alphas
    )
    splitter = KFold(5 if cv is None else cv) if not hasattr(cv, "split") else cv
    splits = list(splitter.split(X))
    assert model.scores_.shape == (6, len(splits))
    for fold, (train, test) in enumerate(splits):
        path = colide_path(X[train], variance=variance, alphas=model.alphas_, random_state=0)
        for k, alpha in enumerate(model.alphas_):
            expected = at_order(X[train], path.orders[k], alpha, variance).score(X[test])
            assert model.scores_[k, fold] == pytest.approx(expected, rel=1e-9)
    best = model.scores_.mean(axis=1).argmax()
    assert model.alpha_ == model.alphas_[best]
    assert best > 0


def test_scores_without_intercept():
    X = simulate() + 2.0
    model = CoLiDECV(alphas=3, eps=0.1, cv=3, fit_intercept=False, random_state=0).fit(X)
    options = {"fit_intercept": False}
    for fold, (train, test) in enumerate(KFold(3).split(X)):
        path = colide_path(X[train], alphas=model.alphas_, random_state=0, **options)
        for k, alpha in enumerate(model.alphas_):
            own = at_order(X[train], path.orders[k], alpha, "equal", **options)
            assert model.scores_[k, fold] == pytest.approx(own.score(X[test]), rel=1e-9)


def test_separate_fits_give_the_same_scores_where_graphs_are_clear():
    X = make_sem(600, 6, degree=1, random_state=0).data
    model = CoLiDECV(alphas=4, eps=0.1, cv=3, random_state=0).fit(X)
    expected = [
        [
            CoLiDE(alpha=alpha, random_state=0).fit(X[train]).score(X[test])
            for train, test in KFold(3).split(X)
        ]
        for alpha in model.alphas_
    ]
    np.testing.assert_allclose(model.scores_, expected, rtol=1e-9)


@VARIANCES
def test_the_model_is_that_at_the_best_penalty(variance):
    X = pd.DataFrame(simulate(variance=variance), columns=list("abcdef"))
    model = CoLiDECV(variance, alphas=6, forbidden_edges=[("a", "b")], random_state=0).fit(X)
    own = at_order(
        X, model.order_, model.alpha_, variance, forbidden_edges=[("a", "b")], random_state=0
    )
    for name in (
        "adjacency_", "coef_raw_", "noise_scales_", "refit_adjacency_", "refit_noise_scales_",
        "mean_", "covariance_", "objective_", "n_samples_seen_", "effective_sample_size_",
    ):  # fmt: skip
        np.testing.assert_allclose(getattr(model, name), getattr(own, name), atol=1e-7)
    assert model.converged_
    assert model.sortability_.var_sortability == pytest.approx(own.sortability_.var_sortability)
    assert model.sortability_.objective_variance == pytest.approx(
        own.sortability_.objective_variance
    )
    np.testing.assert_allclose(model.predict(X), own.predict(X), atol=1e-6)
    assert model.score(X) == pytest.approx(own.score(X))
    np.testing.assert_array_equal(model.feature_names_in_, X.columns)
    path = colide_path(X, variance=variance, alphas=6, forbidden_edges=[("a", "b")], random_state=0)
    np.testing.assert_array_equal(model.n_edges_, path.n_edges)


@VARIANCES
@pytest.mark.parametrize("criterion", ["colide", "bic"])
def test_choice_by_the_information_criterion(variance, criterion):
    X = simulate(variance=variance)
    weights = np.random.default_rng(0).integers(0, 3, len(X)).astype(float)
    options = {"criterion": criterion, "random_state": 0}
    model = CoLiDECV(variance, alphas=6, scoring="bic", **options).fit(X, sample_weight=weights)
    assert model.scores_.shape == (6, 1)
    assert model.bic(X, sample_weight=weights) == pytest.approx(-model.scores_.max())
    assert model.alpha_ == model.alphas_[model.scores_[:, 0].argmax()]
    if criterion == "colide":
        path = colide_path(X, variance=variance, alphas=6, sample_weight=weights, **options)
        for k, alpha in enumerate(path.alphas):
            own = CoLiDE(variance, alpha=alpha, init=path.orders[k], max_sweeps=0)
            own.fit(X, sample_weight=weights)
            expected = own.bic(X, sample_weight=weights)
            assert -model.scores_[k, 0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    "make_state", [lambda: 0, lambda: np.random.RandomState(0)], ids=["int", "RandomState"]
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_threads_do_not_change_the_result(make_state):
    # A short reach and few sweeps make the result depend on the turns that are drawn.
    X = simulate(40, 100, degree=4)
    options = {"alphas": 4, "window": 3, "max_sweeps": 2}
    one = CoLiDECV(random_state=make_state(), **options).fit(X)
    other = CoLiDECV(random_state=1, **options).fit(X)
    assert np.any(one.scores_ != other.scores_)
    for n_jobs in (2, 4):
        several = CoLiDECV(random_state=make_state(), n_jobs=n_jobs, **options).fit(X)
        np.testing.assert_array_equal(several.scores_, one.scores_)
        np.testing.assert_array_equal(several.coef_raw_, one.coef_raw_)


def test_weights_are_frequencies_in_every_fold():
    X = simulate()
    rng = np.random.default_rng(0)
    weights = rng.integers(0, 3, len(X))
    splits = list(ShuffleSplit(3, test_size=0.3, random_state=0).split(X))
    row = np.repeat(np.arange(len(X)), weights)
    repeated = [
        (np.flatnonzero(np.isin(row, train)), np.flatnonzero(np.isin(row, test)))
        for train, test in splits
    ]
    options = {"alphas": 5, "random_state": 0}
    weighted = CoLiDECV(cv=splits, **options).fit(X, sample_weight=weights)
    plain = CoLiDECV(cv=repeated, **options).fit(X[row])
    np.testing.assert_allclose(weighted.scores_, plain.scores_, rtol=1e-9)
    np.testing.assert_allclose(weighted.coef_raw_, plain.coef_raw_, atol=1e-8)
    assert weighted.n_samples_seen_ == len(row)
    assert weighted.effective_sample_size_ == pytest.approx(
        weights.sum() ** 2 / (weights @ weights)
    )


def test_splits_by_groups():
    X = simulate()
    groups = np.arange(len(X)) % 7
    splits = list(GroupKFold(3).split(X, groups=groups))
    model = CoLiDECV(alphas=4, cv=splits, random_state=0).fit(X)
    again = CoLiDECV(alphas=4, cv=iter(splits), random_state=0).fit(X)
    np.testing.assert_array_equal(model.scores_, again.scores_)
    assert model.scores_.shape == (4, 3)


@pytest.mark.parametrize("convert", [sparse.csr_array, sparse.coo_array, pd.DataFrame])
def test_containers(convert):
    X = simulate()
    plain = CoLiDECV(alphas=4, random_state=0).fit(X)
    other = CoLiDECV(alphas=4, random_state=0).fit(convert(X))
    np.testing.assert_allclose(other.scores_, plain.scores_, rtol=1e-10)
    np.testing.assert_allclose(other.coef_raw_, plain.coef_raw_, atol=1e-8)


def test_a_fold_that_has_no_weight():
    X = simulate()
    weights = np.ones(len(X))
    weights[:30] = 0.0
    # Nothing can be said about rows that are not there, and NaN must not decide.
    with pytest.raises(ValueError, match="sample_weight"):
        CoLiDECV(alphas=4, cv=5).fit(X, sample_weight=weights)


def test_a_column_that_is_constant_in_training_rows_only():
    X = simulate()
    X[30:, 2] = 1.0
    model = CoLiDECV(alphas=3, eps=0.1, cv=5, random_state=0).fit(X)
    train, test = next(KFold(5).split(X))
    with pytest.warns(UserWarning, match="Constant columns"):
        fold = CoLiDE(alpha=model.alphas_[0], random_state=0).fit(X[train])
    # The model of those rows says that the column never moves, which it does.
    assert fold.score(X[test]) == -np.inf
    assert model.scores_[0, 0] == fold.score(X[test])


def test_a_constant_column():
    X = np.column_stack([simulate(), np.full(150, 3.0)])
    with pytest.warns(UserWarning, match=r"Constant columns .*: 6\."):
        model = CoLiDECV(alphas=4, random_state=0).fit(X)
    plain = CoLiDECV(alphas=4, random_state=0).fit(X[:, :6])
    np.testing.assert_allclose(model.scores_, plain.scores_, rtol=1e-9)
    assert model.noise_scales_[6] == 0.0


def test_warnings_of_the_choice():
    X = simulate(8, degree=2)
    with pytest.warns(SortabilityWarning, match="same variance"):
        CoLiDECV(alphas=3).fit((X - X.mean(axis=0)) / X.std(axis=0))
    with pytest.warns(ConvergenceWarning, match="max_sweeps=1"):
        model = CoLiDECV(alphas=[0.01], init=np.arange(8)[::-1], max_sweeps=1).fit(X)
    assert not model.converged_


@pytest.mark.parametrize(
    "options, message",
    [
        ({"alphas": 0}, "'alphas' parameter"),
        ({"alphas": [0.0, 0.1]}, "alphas"),
        ({"eps": 1.0}, "'eps' parameter"),
        ({"scoring": "r2"}, "'scoring' parameter"),
        ({"cv": 1}, "n_splits"),
        ({"cv": 500}, "n_splits"),
        ({"required_edges": [(0, 1), (1, 0)]}, "required_edges"),
        ({"init": [0, 1]}, "init must be"),
        ({"path_params": {"steps": 1}}, "path_params"),
    ],
    ids=str,
)
def test_bad_parameters_of_the_choice(options, message):
    with pytest.raises(ValueError, match=message):
        CoLiDECV(**options).fit(simulate())


def test_missing_values():
    X = simulate()
    X[3, 3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        CoLiDECV().fit(X)
    with pytest.raises(ValueError, match="NaN"):
        colide_path(X)


def test_copies():
    X = simulate()
    X.setflags(write=False)
    model = CoLiDECV("unequal", alphas=3, random_state=0).fit(X)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.transform(X), model.transform(X))
    np.testing.assert_array_equal(clone(model).fit(X).scores_, model.scores_)
