"""Every public docstring is complete, and its example runs."""

import doctest
import inspect
import pkgutil
import warnings

import pytest
from numpydoc.validate import validate

import sparsestat

ALLOWED = {
    "GL01": "the summary begins beside the opening quotes, as PEP 257 has it",
    "ES01": "a summary line can say it all",
    "SA01": "not everything has a sibling",
    "EX01": "examples are asked of classes and functions by a test below",
    "SA04": "names in See Also speak for themselves where their role is named",
    "GL08": "properties and dunder methods whose class documents them",
    "PR06": "'array-like of bool' is scikit-learn's vocabulary",
    "RT02": "results are named, as in scikit-learn",
    "RT03": "the result of a fit is self",
    "YD01": "a generator names what it yields in its summary",
}
"""Codes of numpydoc that are not asked for, and why."""


def _public_modules():
    yield sparsestat
    for info in pkgutil.iter_modules(sparsestat.__path__):
        if info.ispkg and not info.name.startswith("_"):
            yield __import__(f"sparsestat.{info.name}", fromlist=["__all__"])


def _public_objects():
    """Import path and object of each public class, function and method of our own."""
    found = {}
    for module in _public_modules():
        for name in getattr(module, "__all__", []):
            item = getattr(module, name)
            if not getattr(item, "__module__", "").startswith("sparsestat"):
                continue
            found[f"{module.__name__}.{name}"] = item
            if not inspect.isclass(item):
                continue
            for attribute in dir(item):
                method = inspect.getattr_static(item, attribute)
                method = getattr(method, "__func__", method)
                ours = getattr(method, "__module__", "") or ""
                if (
                    not attribute.startswith("_")
                    and inspect.isfunction(method)
                    and ours.startswith("sparsestat")
                ):
                    found[f"{module.__name__}.{name}.{attribute}"] = method
    return found


OBJECTS = _public_objects()
TOP_LEVEL = sorted(
    path
    for path, item in OBJECTS.items()
    if not inspect.isfunction(item) or "." not in item.__qualname__
)


@pytest.mark.parametrize("path", sorted(OBJECTS))
def test_numpydoc(path):
    allowed = {*ALLOWED}
    if hasattr(OBJECTS[path], "_fields"):
        # The fields of a named tuple are documented as attributes.
        assert all(f"    {name} :" in OBJECTS[path].__doc__ for name in OBJECTS[path]._fields)
        allowed.add("PR01")
    errors = {code: text for code, text in validate(path)["errors"] if code not in allowed}
    assert errors == {}


@pytest.mark.parametrize("path", TOP_LEVEL)
def test_examples(path):
    finder = doctest.DocTestFinder(recurse=False)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    (example,) = finder.find(OBJECTS[path], name=path, globs={})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = runner.run(example)
    assert result.failed == 0, "see the output"


def test_every_estimator_has_a_runnable_example():
    for name, cls in sparsestat.all_estimators():
        assert doctest.DocTestParser().get_examples(cls.__doc__), name
