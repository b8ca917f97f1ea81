"""All of scikit-learn's checks, of every public estimator, without an expected failure."""

import warnings

import pytest
from sklearn.utils.estimator_checks import check_estimator

import sparsestat

from ._cases import CASES, for_each

FEWEST_CHECKS = 35


@pytest.fixture(scope="module")
def results():
    """The outcome of every check of an estimator, run once."""
    outcomes = {}

    def run(case):
        if case.name not in outcomes:
            with warnings.catch_warnings():
                # SelectorMixin says so when the data of a check are noise.
                warnings.filterwarnings("ignore", message="No features were selected")
                outcomes[case.name] = check_estimator(case.cls(), on_fail=None)
        return outcomes[case.name]

    return run


@for_each
def test_all_checks_pass(results, case):
    failed = {
        outcome["check_name"]: repr(outcome["exception"])
        for outcome in results(case)
        if outcome["status"] != "passed"
    }
    assert failed == {}


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
        assert kind is None or not kind.poor_score


def test_every_estimator_is_found():
    """An estimator that is public anywhere is one that these tests run."""
    for family in sparsestat._SUBPACKAGES:
        module = __import__(f"sparsestat.{family}", fromlist=["__all__"])
        for name in getattr(module, "__all__", []):
            item = getattr(module, name)
            if isinstance(item, type) and hasattr(item, "fit"):
                assert name in {case.name for case in CASES}
