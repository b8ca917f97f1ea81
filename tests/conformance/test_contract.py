"""What every public estimator promises beyond scikit-learn's own checks: its data."""

import copy
import operator
import os
import pickle
import re
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from scipy.stats import norm
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline

from sparsestat.dag import SortabilityWarning

from ._cases import CASES, each_of, for_all, for_each, for_each_without_target, of

ROOT = Path(__file__).parents[2]
NAMES = [f"column {i}" for i in range(8)]

takes_weights = each_of([case for case in CASES if case.takes_weights])


def fitted_arrays(estimator):
    """Everything numeric that a fit has learned."""
    found = {}
    for name, value in vars(estimator).items():
        if name.endswith("_") and not name.startswith("_"):
            value = value.toarray() if sparse.issparse(value) else value
            if isinstance(value, float | int | np.ndarray):
                found[name] = np.asarray(value)
            elif isinstance(value, tuple) and all(isinstance(part, np.ndarray) for part in value):
                found |= {f"{name}[{k}]": part for k, part in enumerate(value)}
            elif hasattr(value, "fit"):
                found |= {f"{name}.{k}": part for k, part in fitted_arrays(value).items()}
    assert found
    return found


def assert_identical(first, second):
    """The same bits in every fitted attribute."""
    first, second = fitted_arrays(first), fitted_arrays(second)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def assert_same_but_for_rounding(first, second):
    """The same fitted attributes, as far as two compilations of one loop agree.

    A process that compiles a loop may call another that it has compiled before, where one
    that loads both from the cache has them merged: the order of additions may then differ.
    """
    first, second = fitted_arrays(first), fitted_arrays(second)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_allclose(first[name], second[name], rtol=1e-6, atol=1e-12, err_msg=name)


def outputs(estimator, X):
    """What a fitted estimator makes of data, as dense arrays."""
    found = {"predict": estimator.predict(X)} if hasattr(estimator, "predict") else {}
    if hasattr(estimator, "transform"):
        transformed = estimator.transform(X)
        found["transform"] = transformed.toarray() if sparse.issparse(transformed) else transformed
    return found


def assert_equal_outputs(first, second, **tolerance):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_allclose(second[name], first[name], **tolerance, err_msg=name)


def assert_same_model(first, second, X, rtol=1e-5):
    """The same output, as near as the tolerance of two fits lets it be."""
    for name, expected in outputs(first, X).items():
        found = outputs(second, X)[name]
        np.testing.assert_allclose(found, expected, rtol=0, atol=rtol * np.std(expected))


# --- containers --------------------------------------------------------------------------


@for_each
@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def test_feature_names(case, frame):
    X, y, _ = case.data()
    table = frame(dict(zip(NAMES, X.T)))
    estimator = case.make().fit(table, y)
    assert list(estimator.feature_names_in_) == NAMES
    expected = case.output(case.make().fit(X, y), X)
    np.testing.assert_allclose(case.output(estimator, table), expected, rtol=1e-6)
    with pytest.raises(ValueError, match="feature names"):
        case.output(estimator, table[NAMES[::-1]])
    with pytest.raises(ValueError, match="feature names"):
        case.output(estimator, table.rename({NAMES[0]: "other"}, **_columns(frame)))
    if hasattr(estimator, "get_feature_names_out"):
        selects = hasattr(estimator, "get_support")
        kept = estimator.get_feature_names_out()
        if estimator.transform(table).shape[1] == len(NAMES) or selects:
            support = estimator.get_support() if selects else ...
            assert list(kept) == list(np.array(NAMES)[support])
        expected = X[:, estimator.get_support()] if selects else estimator.transform(table)
        for output in ("pandas", "polars"):
            shown = estimator.set_output(transform=output).transform(table)
            assert type(shown).__module__.startswith(output)
            assert list(shown.columns) == list(kept)
            np.testing.assert_array_equal(shown.to_numpy(), expected)


def _columns(frame):
    return {"axis": "columns"} if frame is pd.DataFrame else {}


@for_each
@pytest.mark.parametrize("form", ["csr", "csc", "coo", "dok"])
@pytest.mark.parametrize("kind", ["array", "matrix"])
def test_sparse_equals_dense(case, form, kind):
    X, y, weights = case.data()
    X[np.abs(X) < 1.0] = 0.0
    data = getattr(sparse, f"{form}_{kind}")(X)
    if not case.tags.input_tags.sparse:
        with pytest.raises(TypeError, match=r"[Ss]parse"):
            case.make().fit(data, y)
        return
    options = {"sample_weight": weights} if case.takes_weights else {}
    dense = case.make().fit(X, y, **options)
    estimator = case.make().fit(data, y, **options)
    assert_same_model(dense, estimator, X)
    assert_equal_outputs(outputs(estimator, X), outputs(estimator, data), rtol=1e-10, atol=1e-12)


@for_each
def test_sparse_with_wide_indices(case):
    if not case.tags.input_tags.sparse:
        pytest.skip("takes no sparse data, which another test confirms")
    X, y, _ = case.data()
    narrow = sparse.csc_array(X * (np.abs(X) > 1.0))
    wide = narrow.copy()
    wide.indices, wide.indptr = narrow.indices.astype(np.int64), narrow.indptr.astype(np.int64)
    assert_identical(case.make().fit(narrow, y), case.make().fit(wide, y))


@for_each
def test_float32_is_only_the_container(case):
    if "estimator" in case.parameters:
        pytest.skip("the estimator within decides")
    X, y, _ = case.data()
    X = X.astype(np.float32)
    single = case.make().fit(X, y)
    double = case.make().fit(X.astype(np.float64), y)
    if case.needs_target:
        assert single.coef_.dtype == np.float32 and double.coef_.dtype == np.float64
        np.testing.assert_array_equal(single.coef_, double.coef_.astype(np.float32))
    elif case.moves:
        # Learned are points, in the container of the data.
        expected = outputs(double, X.astype(np.float64))
        assert_equal_outputs(expected, outputs(single, X), rtol=1e-4, atol=1e-4)
        return
    else:
        # What was learned is no container of the data, and can be had in full.
        assert_identical(single, double)
    for estimator, dtype in ((single, np.float32), (double, np.float64)):
        for name, output in outputs(estimator, X.astype(dtype)).items():
            labels = case.classes and name == "predict"
            assert output.dtype == (single.classes_.dtype if labels else dtype), name
    for name in ("objective_", "dual_gap_", "alpha_"):
        if hasattr(double, name):
            assert getattr(single, name) == getattr(double, name)


@for_each
@pytest.mark.parametrize("kind", ["integers", "objects", "lists"])
def test_other_numbers(case, kind):
    X, y, _ = case.data()
    X, y = np.rint(10 * X), None if y is None else np.rint(10 * y)
    given = {
        "integers": lambda a: a.astype(np.int32),
        "objects": lambda a: a.astype(object),
        "lists": np.ndarray.tolist,
    }[kind]
    # Labels that are objects would be names.
    target = y if y is None or case.classes else given(y)
    assert_identical(case.make().fit(given(X), target), case.make().fit(X, y))


@for_each_without_target
def test_targets_are_ignored(case):
    X, _, _ = case.data()
    reference = case.make().fit(X)
    for y in (np.full(len(X), np.nan), "no target", np.zeros(3)):
        assert_identical(reference, case.make().fit(X, y))
        assert not case.scores or reference.score(X, y) == reference.score(X)
    expected = reference.transform(X)
    np.testing.assert_allclose(case.make().fit_transform(X, y), expected, rtol=1e-7, atol=1e-10)


# --- weights -----------------------------------------------------------------------------


@takes_weights
def test_a_weight_is_a_number_of_rows(case):
    X, y, weights = case.data()
    weights[:5] = 0.0
    rows = np.repeat(np.arange(len(X)), weights.astype(int))
    weighted = case.make(**case.counting).fit(X, y, sample_weight=weights)
    repeated = case.make(**case.counting).fit(X[rows], None if y is None else y[rows])
    assert_same_model(repeated, weighted, X, rtol=1e-6)
    if hasattr(repeated, "objective_"):
        assert weighted.objective_ == pytest.approx(repeated.objective_, rel=1e-9)
    scores = (
        weighted.score(X, y, sample_weight=weights),
        repeated.score(X[rows], None if y is None else y[rows]),
    )
    assert scores[0] == pytest.approx(scores[1], rel=1e-6)


@takes_weights
def test_weights_of_all_rows_alike(case):
    X, y, _ = case.data()
    twice = np.repeat(np.arange(len(X)), 2)
    repeated = case.make(**case.counting).fit(X[twice], None if y is None else y[twice])
    for weights in (2.0, np.full(len(X), 2), np.full(len(X), 2.0, dtype=np.float32)):
        weighted = case.make(**case.counting).fit(X, y, sample_weight=weights)
        assert_same_model(repeated, weighted, X, rtol=1e-6)


@takes_weights
def test_a_common_factor_of_the_weights_does_not_matter(case):
    X, y, weights = case.data()
    reference = case.make().fit(X, y, sample_weight=weights)
    for factor in case.factors:
        assert_same_model(reference, case.make().fit(X, y, sample_weight=factor * weights), X)
    plain = case.make().fit(X, y)
    assert_same_model(plain, case.make().fit(X, y, sample_weight=np.ones(len(X))), X)
    if case.factors:
        assert_same_model(plain, case.make().fit(X, y, sample_weight=2.0), X)


# --- memory ------------------------------------------------------------------------------


@for_each
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(40, 8), (20, 30)], ids=["tall", "wide"])
def test_read_only_data_and_no_mutation(case, order, shape, tmp_path):
    X, y, weights = case.data(*shape)
    X = np.array(X, order=order)
    kept = copy.deepcopy((X, y, weights))
    options = {"sample_weight": weights} if case.takes_weights else {}
    reference = case.make().fit(X, y, **options)
    for array, before in zip((X, y, weights), kept):
        if array is not None:
            np.testing.assert_array_equal(array, before)
            array.flags.writeable = False
    assert_identical(reference, case.make().fit(X, y, **options))
    joblib.dump((X, y, weights), tmp_path / "data")
    X, y, weights = joblib.load(tmp_path / "data", mmap_mode="r")
    assert isinstance(X, np.memmap) and not X.flags.writeable
    options = {"sample_weight": weights} if case.takes_weights else {}
    mapped = case.make().fit(X, y, **options)
    assert_identical(reference, mapped)
    np.testing.assert_array_equal(case.output(mapped, X), case.output(reference, kept[0]))


@for_each
def test_read_only_sparse_data_and_no_mutation(case):
    if not case.tags.input_tags.sparse:
        pytest.skip("takes no sparse data, which another test confirms")
    X, y, weights = case.data()
    data = sparse.csc_array(X * (np.abs(X) > 1.0))
    parts = data.data, data.indices, data.indptr
    kept = copy.deepcopy(parts)
    options = {"sample_weight": weights} if case.takes_weights else {}
    reference = case.make().fit(data, y, **options)
    for part, before in zip(parts, kept):
        np.testing.assert_array_equal(part, before)
        part.flags.writeable = False
    assert_identical(reference, case.make().fit(data, y, **options))


CONTAINERS = {
    "target": [np.random.default_rng(0).standard_normal((30, 8))],
    "target_weight": [np.ones(50)],
    "n_components": [[1, 2]],
    "X_public": [np.random.default_rng(0).standard_normal((600, 8))],
    "feature_center": [np.zeros(8), [0.0] * 8],
    "feature_scale": [np.ones(8), [1.0] * 8],
    "param_grid": [{"n_nonzero": [1, 2]}, [{"n_nonzero": np.array([1, 2])}]],
    "penalty_factor": [np.r_[0.0, np.ones(7)]],
    "positive": [np.arange(8) < 3],
    "alphas": [np.array([0.05, 0.5, 0.1]), [0.05, 0.5, 0.1]],
    "cv": [[(np.arange(20), np.arange(20, 40)), (np.arange(20, 40), np.arange(20))]],
    "init": [np.arange(8), list(range(8))],
    "forbidden_edges": [np.eye(8, k=1, dtype=bool), [(0, 1), (5, 2)], [[0, 1]]],
    "required_edges": [np.eye(8, k=1, dtype=bool), [(0, 1), (5, 2)], [[0, 1]]],
    "node_tiers": [np.arange(8) // 4, [0, 0, 0, 0, 1, 1, 1, 1], dict.fromkeys(range(8), 0)],
    "path_params": [{"mu": [1.0, 0.1], "s": [1.0, 0.9], "max_iter": 100, "warm_iter": 50}],
}
"""Values of parameters that a fit could change in place."""


@pytest.mark.parametrize("case, parameter", of(CASES, *CONTAINERS))
def test_parameters_are_left_alone(case, parameter):
    X, y, _ = case.data()
    for value in CONTAINERS[parameter]:
        before = copy.deepcopy(value)
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
        estimator = case.make(**{parameter: value})
        with warnings.catch_warnings():
            # Graphs with edges that the data contradict say what they rest on.
            warnings.simplefilter("ignore", category=SortabilityWarning)
            warnings.simplefilter("ignore", category=ConvergenceWarning)
            try:
                estimator.fit(X, y)
            except ValueError as error:
                assert re.search(rf"{parameter} (needs|must)|'{parameter}'", str(error))
        assert estimator.get_params()[parameter] is value
        np.testing.assert_equal(value, before)


# --- the same result everywhere ----------------------------------------------------------


@for_each
def test_fits_are_deterministic(case):
    X, y, _ = case.data(*case.wide)
    reference = case.make().fit(X, y)
    again = case.output(reference, X)
    assert_identical(reference, case.make().fit(X, y))
    np.testing.assert_array_equal(case.output(reference.fit(X, y), X), again)
    if "n_jobs" in case.parameters:
        for n_jobs in (1, 2, 5, -1):
            assert_identical(reference, case.make(n_jobs=n_jobs).fit(X, y))


IN_ANOTHER_PROCESS = """
import pickle, sys
import numpy as np
with open(sys.argv[1], "rb") as file:
    for estimator, X, expected in pickle.load(file):
        for method, values in expected.items():
            np.testing.assert_array_equal(getattr(estimator, method)(X), values)
print("same")
"""


@for_all
def test_pickles_predict_in_a_new_process(tmp_path):
    parcels = []
    for case in CASES:
        X, y, _ = case.data()
        estimator = case.make().fit(X, y)
        parcels.append((estimator, X, outputs(estimator, X)))
    path = tmp_path / "parcels"
    path.write_bytes(pickle.dumps(parcels))
    result = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS, str(path)],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
    )
    assert result.stdout.strip() == "same", result.stderr


@for_each
def test_copies_and_clones(case):
    X, y, _ = case.data()
    estimator = case.make().fit(X, y)
    copied = copy.deepcopy(estimator)
    assert_identical(estimator, copied)
    coefficients = operator.attrgetter(case.coefficients)
    coefficients(copied)[...] = 0.0
    assert np.any(coefficients(estimator))
    fresh = clone(estimator)
    assert str(fresh) == str(estimator)
    assert not [name for name in vars(fresh) if name.endswith("_") and not name.startswith("_")]


@for_each
def test_a_fit_leaves_nothing_else_behind(case):
    X, y, _ = case.data()
    estimator = case.make().fit(X, y)
    allowed = {"_sklearn_output_config"}
    left = set(vars(estimator)) - set(case.parameters) - allowed
    assert {name for name in left if not name.endswith("_") or name.startswith("_")} == set()


@for_each
def test_predict_is_thread_safe(case):
    X, y, _ = case.data(200)
    estimator = case.make().fit(X, y)
    before = dict(vars(estimator))
    expected = outputs(estimator, X)
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: outputs(estimator, X), range(100)):
            assert_equal_outputs(expected, found, rtol=0, atol=0)
    assert vars(estimator).keys() == before.keys()
    assert all(vars(estimator)[name] is value for name, value in before.items())


@for_each
def test_fits_in_threads(case):
    X, y, _ = case.data(*case.wide)
    reference = case.make().fit(X, y)
    with ThreadPoolExecutor(4) as pool:
        for estimator in pool.map(lambda _: case.make().fit(X, y), range(8)):
            assert_identical(reference, estimator)


# --- composition -------------------------------------------------------------------------


@for_each
def test_pipeline_search_and_scores(case):
    if not case.scores:
        pytest.skip("has no score that a search could compare")
    X, y, _ = case.data(60)
    if case.grid:
        ((parameter, grid),) = case.grid.items()
        search = GridSearchCV(case.make(), {parameter: grid}, cv=3).fit(X, y)
        assert np.all(np.isfinite(search.cv_results_["mean_test_score"]))
        assert len(set(search.cv_results_["mean_test_score"])) == len(grid)
        return
    parameter = "alpha" if "alpha" in case.parameters else "fit_intercept"
    grid = {"alpha": list(case.alphas), "fit_intercept": [False, True]}[parameter]
    table = pd.DataFrame(X, columns=NAMES)
    pipeline = make_pipeline(clone(case.scaler), case.make()).set_output(transform="pandas")
    step = pipeline.steps[-1][0]
    with warnings.catch_warnings():
        # Without an intercept it is the means that tell the order of the variances.
        warnings.simplefilter("ignore", category=SortabilityWarning)
        search = GridSearchCV(pipeline, {f"{step}__{parameter}": grid}, cv=3).fit(table, y)
    assert search.best_params_ == {f"{step}__{parameter}": grid[1]}
    assert list(search.best_estimator_[-1].feature_names_in_) == NAMES
    scores = cross_val_score(case.make(), table, y, cv=3)
    if case.needs_target:
        assert search.best_score_ > 0.9
        assert np.all(scores > 0.9)
    else:
        # Log-likelihoods, to be compared with those of independent normal columns.
        independent = [
            norm.logpdf(X[test], X[train].mean(axis=0), X[train].std(axis=0)).sum(axis=1).mean()
            for train, test in KFold(3).split(X)
        ]
        assert search.best_score_ > np.mean(independent) + 1.0
        assert np.all(scores > np.array(independent) + 0.5)


@for_each
def test_a_selector_hands_on_what_it_kept(case):
    if not hasattr(case.cls, "get_support"):
        pytest.skip("selects no features")
    X, y, _ = case.data()
    estimator = case.make().fit(X, y)
    kept = estimator.get_support()
    np.testing.assert_array_equal(kept, np.any(np.atleast_2d(estimator.coef_) != 0, axis=0))
    np.testing.assert_array_equal(estimator.transform(X), X[:, kept])
    np.testing.assert_array_equal(estimator.inverse_transform(X[:, kept]), X * kept)
    np.testing.assert_array_equal(estimator.sparse_coef_.toarray(), np.atleast_2d(estimator.coef_))
