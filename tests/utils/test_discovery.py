import inspect
import sys
import types

import pytest
from sklearn.base import BaseEstimator

import sparsestat
from sparsestat.utils import _discovery


def test_every_estimator_is_public_and_our_own():
    estimators = sparsestat.all_estimators()
    names = [name for name, _ in estimators]
    assert names == sorted(set(names))
    for name, estimator in estimators:
        assert name == estimator.__name__
        assert issubclass(estimator, BaseEstimator)
        family = estimator.__module__.split(".")[1]
        assert getattr(getattr(sparsestat, family), name) is estimator
        assert (name, estimator) in sparsestat.all_estimators(family)


def test_only_concrete_estimators_of_the_room_are_listed(monkeypatch):
    import sklearn.linear_model

    class Ours(BaseEstimator):
        __module__ = "sparsestat.room._ours"

    class Helper:
        __module__ = "sparsestat.room._ours"

    room = types.ModuleType("sparsestat.room")
    room.Ours, room.Helper, room.Ridge = Ours, Helper, sklearn.linear_model.Ridge
    room.make_something = lambda: None
    room.__all__ = ["Ours", "Helper", "Ridge", "make_something"]
    monkeypatch.setitem(sys.modules, "sparsestat.room", room)
    monkeypatch.setattr(_discovery, "_families", lambda: ["room"])
    assert sparsestat.all_estimators() == [("Ours", Ours)]


def test_floors_are_no_families():
    families = _discovery._families()
    assert "linear_model" in families
    assert not {"utils", "penalties", "solvers", "datasets"} & set(families)
    assert not [name for name in families if name.startswith("_")]


def test_unknown_family_is_named():
    with pytest.raises(ValueError, match=r"family must be one of \[.*linear_model.*got 'nonsense'"):
        sparsestat.all_estimators("nonsense")


def test_show_versions(capsys):
    sparsestat.show_versions()
    printed = capsys.readouterr().out
    for part in (sparsestat.__version__, "scikit-learn", "numba cache", "python", "backend"):
        assert part in printed
    assert "not installed" in printed or "cupy" in printed
    assert inspect.signature(sparsestat.show_versions).parameters == {}
