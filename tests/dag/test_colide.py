"""CoLiDE as an estimator: data of all kinds, weights, units and invariances."""

import inspect
import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.optimize import minimize_scalar
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sparsestat.dag import CoLiDE, SortabilityWarning, structural_hamming_distance

from ._dags import has_no_cycle
from ._fits import CRITERIA, SEEDED, VARIANCES, assert_same_fit, assert_valid, covariance, simulate

# Simulated graphs are sortable by variance, and small ones are told to be; that the warning comes
# where it should is tested below.
pytestmark = pytest.mark.filterwarnings("ignore::sparsestat.dag.SortabilityWarning")


# --- shapes -------------------------------------------------------------------------------


@VARIANCES
@CRITERIA
@pytest.mark.parametrize("n_samples", [2, 3, 12])
def test_fewer_rows_than_columns(variance, criterion, n_samples):
    X = simulate(25, n_samples).data
    model = SEEDED(variance, criterion=criterion, random_state=0).fit(X)
    if criterion == "colide":
        assert_valid(model, covariance(X), variance)
    assert np.all(model.noise_scales_ > 0)
    assert np.all(np.isfinite(model.adjacency_))
    assert has_no_cycle(model.adjacency_ != 0)
    assert np.isfinite(model.score(X))


@VARIANCES
@CRITERIA
def test_a_single_column(variance, criterion):
    X = np.array([[1.0], [3.0], [8.0]])
    model = SEEDED(variance, criterion=criterion).fit(X)
    np.testing.assert_array_equal(model.adjacency_, [[0.0]])
    np.testing.assert_allclose(model.noise_scales_, X.std(), rtol=1e-12)
    np.testing.assert_allclose(model.noise_scale_, X.std() if variance == "equal" else [X.std()])
    np.testing.assert_allclose(model.mean_, [4.0])
    np.testing.assert_allclose(model.covariance_, [[X.var()]])
    if criterion == "colide":
        # q / (2 s) + s / 2 at s = sqrt(q)
        assert model.objective_ == pytest.approx(X.std())


@VARIANCES
@pytest.mark.parametrize("seed", range(4))
def test_two_columns_by_a_line_search(variance, seed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((60, 2)) * rng.uniform(0.5, 2.0, 2)
    X[:, 1] += rng.uniform(-1.5, 1.5) * X[:, 0]
    S, alpha = covariance(X), 0.15

    def best(i, j):
        """Profiled over the scales: d s or the sum of the s."""

        def value(w):
            q = S[j, j] - 2 * w * S[i, j] + w**2 * S[i, i]
            if variance == "equal":
                return np.sqrt(2 * (S[i, i] + q)) + alpha * abs(w)
            return np.sqrt(S[i, i]) + np.sqrt(q) + alpha * abs(w)

        found = minimize_scalar(value, bounds=(-5, 5), options={"xatol": 1e-10}, method="bounded")
        return min(found.fun, value(0.0))

    model = SEEDED(variance, alpha=alpha).fit(X)
    # The line search ends within xatol of a minimum where the criterion is smooth, or takes zero.
    assert model.objective_ == pytest.approx(min(best(0, 1), best(1, 0)), rel=1e-9)
    assert_valid(model, S, variance)


@pytest.mark.parametrize(
    "X, message",
    [
        ([[1.0, 2.0]], "minimum of 2 is required"),
        ([1.0, 2.0, 3.0], "Expected 2D array"),
        ([[1.0, np.nan], [2.0, 3.0]], "NaN"),
        ([[1.0, np.inf], [2.0, 3.0]], "infinity"),
        (np.array([[1.0 + 1.0j, 1.0], [2.0, 3.0]]), "Complex"),
        (np.empty((5, 0)), "0 feature"),
        ([["a", "b"], ["c", "d"]], "could not convert|dtype"),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_bad_data(X, message, method):
    with pytest.raises(ValueError, match=message):
        getattr(SEEDED(), method)(X)


@pytest.mark.parametrize("convert", [sparse.csr_array, sparse.csc_matrix, sparse.coo_array])
def test_missing_values_in_sparse_data(convert):
    with pytest.raises(ValueError, match="NaN"):
        SEEDED().fit(convert([[1.0, np.nan], [2.0, 3.0], [0.0, 1.0]]))


# --- weights ------------------------------------------------------------------------------


@VARIANCES
@CRITERIA
def test_weights_are_frequencies(variance, criterion):
    X = simulate(n_samples=80, variance=variance).data
    weights = np.random.default_rng(0).integers(0, 4, 80)
    weighted = SEEDED(variance, criterion=criterion).fit(X, sample_weight=weights)
    repeated = SEEDED(variance, criterion=criterion).fit(np.repeat(X, weights, axis=0))
    assert weighted.n_samples_seen_ == weights.sum()
    assert weighted.effective_sample_size_ == pytest.approx(
        weights.sum() ** 2 / (weights @ weights)
    )
    repeated.effective_sample_size_ = weighted.effective_sample_size_
    assert_same_fit(weighted, repeated)
    assert weighted.bic(X, sample_weight=weights) == pytest.approx(
        repeated.bic(np.repeat(X, weights, axis=0))
    )


def test_one_weight_for_all_rows():
    X = simulate().data
    scalar = SEEDED().fit(X, sample_weight=3.0)
    assert_same_fit(scalar, SEEDED().fit(X, sample_weight=np.full(len(X), 3.0)))
    assert scalar.n_samples_seen_ == 3 * len(X)
    assert scalar.effective_sample_size_ == pytest.approx(len(X))
    # alpha shrinks with the root of the number of rows.
    assert scalar.alpha_ == pytest.approx(SEEDED().fit(X).alpha_ / np.sqrt(3))


@pytest.mark.parametrize(
    "weights, message",
    [
        (np.zeros(20), "zeros only"),
        (0.0, "zeros only"),
        (-1.0, "negative"),
        (np.r_[np.nan, np.ones(19)], "NaN"),
        (np.ones(19), "shape"),
        (np.ones((20, 1)), "shape"),
        (np.r_[1.9, np.zeros(19)], "at least two, got a sum of 1.9"),
    ],
    ids=str,
)
def test_bad_weights(weights, message):
    with pytest.raises(ValueError, match=f"sample_weight.*{message}"):
        SEEDED().fit(np.random.default_rng(0).standard_normal((20, 3)), sample_weight=weights)


# --- special columns ----------------------------------------------------------------------


@VARIANCES
@CRITERIA
@pytest.mark.parametrize("value", [0.0, 0.1, -1e8])
def test_constant_columns_are_isolated(variance, criterion, value):
    X = simulate(6, variance=variance).data
    plain = SEEDED(variance, criterion=criterion).fit(X)
    where = [0, 1, 3, 4, 5, 7]
    wide = pd.DataFrame(np.full((len(X), 8), value), columns=list("abcdefgh"))
    wide.iloc[:, where] = X
    with pytest.warns(UserWarning, match=r"Constant columns .*: c, g\."):
        model = SEEDED(variance, criterion=criterion).fit(wide)
    inside = np.ix_(where, where)
    np.testing.assert_allclose(model.adjacency_[inside], plain.adjacency_, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model.noise_scales_[where], plain.noise_scales_, rtol=1e-9)
    outside = model.adjacency_.copy()
    outside[inside] = 0.0
    assert not outside.any()
    np.testing.assert_array_equal(model.noise_scales_[[2, 6]], 0.0)
    np.testing.assert_array_equal(model.refit_noise_scales_[[2, 6]], 0.0)
    assert np.asarray(model.noise_scale_).shape == (() if variance == "equal" else (8,))
    np.testing.assert_array_equal(np.sort(model.order_), np.arange(8))
    assert model.alpha_ == pytest.approx(plain.alpha_)
    assert model.objective_ == pytest.approx(plain.objective_)
    assert model.score(wide) == pytest.approx(plain.score(X))
    assert model.bic(wide) == pytest.approx(plain.bic(X))
    np.testing.assert_array_equal(model.transform(wide)[:, [2, 6]], 0.0)


@VARIANCES
@pytest.mark.parametrize("solver", ["order", "central-path"])
def test_nothing_but_constants(variance, solver):
    X = np.full((10, 3), 0.1)
    with pytest.warns(UserWarning, match=r"Constant columns .*: 0, 1, 2\."):
        model = SEEDED(variance, solver=solver).fit(X)
    assert not model.adjacency_.any()
    np.testing.assert_array_equal(model.noise_scales_, 0.0)
    assert model.converged_
    assert model.objective_ == 0.0
    np.testing.assert_allclose(model.mean_, 0.1)


def test_a_constant_column_cannot_have_a_required_edge():
    X = pd.DataFrame(simulate(3).data, columns=list("abc")).assign(b=2.0)
    with pytest.raises(ValueError, match=r"required_edges.*from a to b.*constant"):
        SEEDED(required_edges=[("a", "b")]).fit(X)


def test_without_intercept_a_constant_column_is_not_constant():
    X = simulate(3).data + 5.0
    X[:, 1] = 2.0
    model = SEEDED(fit_intercept=False).fit(X)
    np.testing.assert_array_equal(model.mean_, 0.0)
    second = X.T @ X / len(X)
    assert_valid(model, second, "equal")


@VARIANCES
@CRITERIA
def test_duplicated_columns(variance, criterion):
    X = simulate(5, variance=variance).data
    X = np.column_stack([X, X[:, 0], -2.0 * X[:, 3], X[:, 1] + X[:, 2]])
    model = SEEDED(variance, criterion=criterion, random_state=0).fit(X)
    if criterion == "colide":
        assert_valid(model, covariance(X), variance)
    assert np.all(np.isfinite(model.refit_adjacency_))
    assert has_no_cycle(model.adjacency_ != 0)
    assert np.all(model.noise_scales_ > 0)


# --- types --------------------------------------------------------------------------------


def test_dataframes_and_names():
    X = simulate().data
    frame = pd.DataFrame(X, columns=[f"gene {i}" for i in range(7)])
    model = SEEDED(forbidden_edges=[("gene 0", "gene 1")]).fit(frame)
    assert_same_fit(model, SEEDED(forbidden_edges=[(0, 1)]).fit(X), rtol=0)
    np.testing.assert_array_equal(model.feature_names_in_, frame.columns)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame.iloc[:, ::-1])
    with pytest.raises(ValueError, match="feature names should match"):
        model.partial_fit(frame.iloc[:, ::-1])
    model.set_params(forbidden_edges=None).fit(X)
    assert not hasattr(model, "feature_names_in_")


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint16, bool])
def test_integers(dtype):
    X = np.random.default_rng(0).integers(0, 2 if dtype is bool else 100, (200, 4)).astype(dtype)
    assert_same_fit(SEEDED().fit(X), SEEDED().fit(X.astype(np.float64)), rtol=0)


def test_single_precision():
    X = simulate().data
    # Data are rounded by 6e-8 of their size; weights depend on them smoothly.
    assert_same_fit(SEEDED().fit(X.astype(np.float32)), SEEDED().fit(X), rtol=1e-5)


@VARIANCES
@pytest.mark.parametrize(
    "convert", [sparse.csr_array, sparse.csc_array, sparse.coo_matrix, sparse.csr_matrix]
)
def test_sparse_data(variance, convert):
    rng = np.random.default_rng(0)
    X = simulate(variance=variance).data * (rng.random((300, 7)) < 0.4)
    weights = rng.integers(0, 3, 300)
    stored = convert(X)
    before = stored.copy()
    model = SEEDED(variance).fit(stored, sample_weight=weights)
    assert_same_fit(model, SEEDED(variance).fit(X, sample_weight=weights), rtol=1e-12)
    assert (before != stored).nnz == 0
    np.testing.assert_allclose(model.score(stored), model.score(X))


@pytest.mark.parametrize("order", ["C", "F"])
def test_nothing_is_changed(order):
    X = np.array(simulate().data, order=order)
    weights, init = np.full(len(X), 2.0), np.arange(7)[::-1].copy()
    mask = np.zeros((7, 7), dtype=bool)
    tiers = np.zeros(7)
    required = [(0, 1)]
    for array in (X, weights, init, mask, tiers):
        array.setflags(write=False)
    model = SEEDED(
        init=init, forbidden_edges=mask, required_edges=required, node_tiers=tiers, random_state=3
    )
    params = {name: pickle.dumps(value) for name, value in model.get_params().items()}
    model.fit(X, sample_weight=weights).partial_fit(X)
    assert params == {name: pickle.dumps(value) for name, value in model.get_params().items()}
    S = covariance(X)
    S.setflags(write=False)
    SEEDED().fit_cov(S, 300)
    path = {"s": [1.0, 0.9], "mu": [1.0, 0.1], "warm_iter": 10, "max_iter": 10}
    with pytest.warns(ConvergenceWarning):
        SEEDED(solver="central-path", path_params=path).fit(X)
    assert path == {"s": [1.0, 0.9], "mu": [1.0, 0.1], "warm_iter": 10, "max_iter": 10}


# --- units --------------------------------------------------------------------------------


@VARIANCES
@pytest.mark.parametrize("factor", [1e6, 1e-6, -3.7])
@pytest.mark.parametrize("kind", ["auto", "columns", "scaled"])
def test_one_unit_for_all_columns_does_not_matter(variance, factor, kind):
    X = simulate(8, variance=variance).data
    options = {
        "auto": ({}, {}),
        "columns": ({"penalty_scale": "columns", "alpha": 0.07},) * 2,
        "scaled": ({"alpha": 0.07}, {"alpha": 0.07 * abs(factor)}),
    }[kind]
    a = SEEDED(variance, random_state=0, **options[0]).fit(X)
    b = SEEDED(variance, random_state=0, **options[1]).fit(factor * X)
    np.testing.assert_allclose(b.coef_raw_, a.coef_raw_, rtol=0, atol=1e-9)
    np.testing.assert_allclose(b.noise_scales_, abs(factor) * a.noise_scales_, rtol=1e-9)
    np.testing.assert_allclose(
        b.covariance_ / factor**2, a.covariance_, atol=1e-8 * a.covariance_.max()
    )
    assert b.objective_ == pytest.approx(abs(factor) * a.objective_)
    assert np.any(a.adjacency_)


@VARIANCES
def test_a_given_alpha_has_the_unit_of_the_data(variance):
    X = simulate(8, variance=variance).data
    a = SEEDED(variance, alpha=0.3).fit(X)
    b = SEEDED(variance, alpha=0.3).fit(10.0 * X)
    # Ten times the data make the same penalty ten times weaker.
    assert np.abs(a.coef_raw_).sum() < np.abs(b.coef_raw_).sum()


def test_units_of_single_columns_matter():
    found = simulate(6, degree=1, seed=1)
    X = found.data
    plain = SEEDED().fit(X)
    assert structural_hamming_distance(found.adjacency, plain.adjacency_) == 0
    parent, child = np.argwhere(found.adjacency)[0]
    units = np.ones(6)
    units[parent] = 100.0
    rescaled = SEEDED(w_threshold=0).fit(X * units)
    # Of two correlated columns the one with the small variance comes first.
    position = np.argsort(rescaled.order_)
    assert position[child] < position[parent]


def test_standardised_columns_warn():
    X = simulate(8, degree=2).data
    with pytest.warns(SortabilityWarning, match="same variance, as after standardising"):
        model = SEEDED().fit(StandardScaler().fit_transform(X))
    assert model.sortability_.standardised
    with pytest.warns(SortabilityWarning, match="same variance"):
        make_pipeline(StandardScaler(), SEEDED("unequal")).fit(X)
    assert not SEEDED().fit(X).sortability_.standardised


@pytest.mark.filterwarnings("error::sparsestat.dag.SortabilityWarning")
def test_nothing_to_warn_of():
    X = simulate(8, degree=2).data
    # Not the units, hence no warning from the criterion that has none.
    SEEDED("unequal", criterion="bic").fit(StandardScaler().fit_transform(X))
    # The variances are about 1, 10 and 1.8, as x2 = 0.9 z1 + z2. In the order of the variances
    # the residual ones are 1, 1.8 and 1 / 1.8 instead of 1 each: d s is 6 % larger.
    Z = np.random.default_rng(0).standard_normal((1000, 3))
    Z[:, 1] += 3.0 * Z[:, 0]
    Z[:, 2] += 0.9 * Z[:, 1] - 2.7 * Z[:, 0]
    model = SEEDED(alpha=0.01).fit(Z)
    np.testing.assert_array_equal(model.order_, [0, 1, 2])
    assert model.sortability_.suspicious == []
    # Two of the three paths, 0 -> 1, 0 -> 2 and 1 -> 2, and that of two edges, go up.
    assert model.sortability_.var_sortability == pytest.approx(3 / 4)
    assert model.sortability_.objective_variance > 1.03 * model.objective_


def test_sortable_graphs_warn():
    rng = np.random.default_rng(0)
    X = np.cumsum(rng.standard_normal((500, 5)), axis=1)
    with pytest.warns(SortabilityWarning, match="variances increase along 100%.*by variance alone"):
        model = SEEDED().fit(X)
    assert model.sortability_.var_sortability == 1.0
    gap = model.sortability_.objective_variance - model.objective_
    assert -1e-9 <= gap <= 0.01 * model.objective_


# --- invariances --------------------------------------------------------------------------


@VARIANCES
@CRITERIA
@pytest.mark.parametrize("options", [{}, {"n_restarts": 2}, {"window": 2}], ids=str)
def test_columns_may_come_in_any_order(variance, criterion, options):
    X = simulate(12, degree=2.5, variance=variance).data
    shuffle = np.random.default_rng(5).permutation(12)
    options = {"criterion": criterion, "random_state": 0, **options}
    a = SEEDED(variance, **options).fit(X)
    b = SEEDED(variance, **options).fit(X[:, shuffle])
    np.testing.assert_array_equal(shuffle[b.order_], a.order_)
    again = np.ix_(shuffle, shuffle)
    np.testing.assert_allclose(b.coef_raw_, a.coef_raw_[again], rtol=0, atol=1e-8)
    np.testing.assert_array_equal(b.adjacency_ != 0, a.adjacency_[again] != 0)
    np.testing.assert_allclose(b.noise_scales_, a.noise_scales_[shuffle], rtol=1e-8)
    assert a.n_iter_ == b.n_iter_


@VARIANCES
def test_rows_may_come_in_any_order_and_often(variance):
    X = simulate(variance=variance).data
    plain = SEEDED(variance, alpha=0.1).fit(X)
    shuffled = SEEDED(variance, alpha=0.1).fit(np.random.default_rng(0).permutation(X))
    assert_same_fit(shuffled, plain)
    tripled = SEEDED(variance, alpha=0.1).fit(np.tile(X, (3, 1)))
    np.testing.assert_allclose(tripled.coef_raw_, plain.coef_raw_, rtol=0, atol=1e-9)
    assert tripled.objective_ == pytest.approx(plain.objective_)
    assert tripled.n_samples_seen_ == 900


@VARIANCES
@CRITERIA
def test_the_same_seed_gives_the_same_result(variance, criterion):
    X = simulate(12, degree=2.5, variance=variance).data
    options = {"criterion": criterion, "n_restarts": 3}
    a = SEEDED(variance, random_state=7, **options).fit(X)
    b = SEEDED(variance, random_state=7, **options)
    c = SEEDED(variance, random_state=np.random.RandomState(7), **options)
    for other in (b.fit(X), b.fit(X), c.fit(X)):
        assert_same_fit(other, a, rtol=0)
        np.testing.assert_array_equal(other.score_path_, a.score_path_)


# --- scikit-learn -------------------------------------------------------------------------


def test_grid_search_in_a_pipeline():
    X = simulate(6, degree=1.5).data
    alphas = [0.02, 0.2, 2.0]
    pipeline = make_pipeline(FunctionTransformer(_double), SEEDED(random_state=0))
    search = GridSearchCV(pipeline, {"colide__alpha": alphas}, cv=KFold(3)).fit(X)
    expected = [
        [
            SEEDED(alpha=alpha, random_state=0).fit(2 * X[train]).score(2 * X[test])
            for train, test in KFold(3).split(X)
        ]
        for alpha in alphas
    ]
    np.testing.assert_allclose(
        search.cv_results_["mean_test_score"], np.mean(expected, axis=1), rtol=1e-12
    )
    assert search.best_params_["colide__alpha"] == alphas[np.argmax(np.mean(expected, axis=1))]
    assert search.best_params_["colide__alpha"] != 2.0
    np.testing.assert_allclose(search.transform(X).shape, X.shape)


def _double(X):
    return 2 * X


def test_clones_and_pickles():
    X = simulate().data
    model = SEEDED("unequal", forbidden_edges=[(0, 1)], random_state=0).fit(X)
    copy = pickle.loads(pickle.dumps(model))
    assert_same_fit(copy, model, rtol=0)
    np.testing.assert_array_equal(copy.transform(X), model.transform(X))
    assert copy.moments_.to_bytes() == model.moments_.to_bytes()
    # The copy goes on where the original was.
    assert_same_fit(copy.partial_fit(X), pickle.loads(pickle.dumps(model)).partial_fit(X), rtol=0)
    assert copy.n_samples_seen_ == 600 and model.n_samples_seen_ == 300
    fresh = clone(model)
    assert not hasattr(fresh, "adjacency_")
    assert_same_fit(fresh.fit(X), model, rtol=0)


def test_the_first_argument_is_the_only_positional_one():
    parameters = inspect.signature(CoLiDE).parameters.values()
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == ["variance"]
