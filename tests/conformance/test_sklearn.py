"""All of scikit-learn's checks, of every public estimator, without an expected failure."""

import importlib
import warnings

import pytest
from sklearn.utils import estimator_checks

import sparsestat
from sparsestat.dag import SortabilityWarning

from ._cases import CASES, each_of, for_each

FEWEST_CHECKS = 35

OF_ONE_COLUMN = {
    "check_estimator_sparse_array": estimator_checks.check_estimator_sparse_array,
    "check_estimator_sparse_matrix": estimator_checks.check_estimator_sparse_matrix,
}
"""Checks that want one number for each row from `predict`, whatever the estimator is."""


def predicts_rows(case):
    return not case.needs_target and case.tags.input_tags.sparse


def one_column(case):
    """The estimator, except that it predicts the first column only."""

    class OneColumn(case.cls):
        def predict(self, X):
            prediction = super().predict(X)
            assert prediction.shape == X.shape
            return prediction[:, 0]

    return OneColumn(**case.variant)


def ignore_warnings_of(case):
    # SelectorMixin says so when the data of a check are noise.
    warnings.filterwarnings("ignore", message="No features were selected")
    for name in case.warns:
        module, _, attribute = name.rpartition(".")
        category = getattr(importlib.import_module(module), attribute)
        warnings.filterwarnings("ignore", category=category)
    if not case.needs_target:
        # The columns of a check have no common unit, and some are constant.
        warnings.filterwarnings("ignore", category=SortabilityWarning)
        warnings.filterwarnings("ignore", message="Constant columns get no edges")


@pytest.fixture(scope="module")
def results():
    """The outcome of every check of an estimator, run once."""
    outcomes = {}

    def run(case):
        if case.id not in outcomes:
            with warnings.catch_warnings():
                ignore_warnings_of(case)
                outcomes[case.id] = estimator_checks.check_estimator(
                    case.cls(**case.variant), on_fail=None
                )
        return outcomes[case.id]

    return run


@for_each
def test_all_checks_pass(results, case):
    failed = {
        outcome["check_name"]: repr(outcome["exception"])
        for outcome in results(case)
        if outcome["status"] != "passed"
    }
    if predicts_rows(case):
        for name, check in OF_ONE_COLUMN.items():
            with warnings.catch_warnings():
                ignore_warnings_of(case)
                check(case.name, one_column(case))
            failed.pop(name)
    assert failed == {}


@each_of([case for case in CASES if predicts_rows(case)])
def test_rows_are_predicted(results, case):
    """What fails without the wrapper above fails for the shape of the prediction alone."""
    for outcome in results(case):
        if outcome["check_name"] in OF_ONE_COLUMN:
            cause = outcome["exception"].__cause__
            assert type(cause) is AssertionError
            frame = cause.__traceback__
            while frame.tb_next is not None:
                frame = frame.tb_next
            assert frame.tb_frame.f_code.co_name == "_check_estimator_sparse_container"
            assert frame.tb_frame.f_locals["pred"].shape == (40, 3)


@for_each
def test_no_check_was_avoided(results, case):
    passed = [outcome for outcome in results(case) if outcome["status"] == "passed"]
    assert len(passed) >= FEWEST_CHECKS
    assert not any(outcome["expected_to_fail"] for outcome in results(case))
    tags = case.tags
    assert not tags.no_validation
    assert not tags._skip_test
    assert not tags.non_deterministic
    for kind in (tags.classifier_tags, tags.regressor_tags):
        # The tag lifts one assertion on 200 rows, which other tests make on a crowd.
        assert kind is None or not kind.poor_score or case.crowd > 1


def test_every_estimator_is_found():
    """An estimator that is public anywhere is one that these tests run."""
    for family in sparsestat._SUBPACKAGES:
        module = __import__(f"sparsestat.{family}", fromlist=["__all__"])
        for name in getattr(module, "__all__", []):
            item = getattr(module, name)
            if isinstance(item, type) and hasattr(item, "fit"):
                assert name in {case.name for case in CASES}
