"""Find every public estimator."""

import importlib
import inspect
import pkgutil

from sklearn.base import BaseEstimator

# Floors that hold tools for estimators, and no estimators.
_FLOORS = ("datasets", "penalties", "solvers", "utils")


def _families():
    import sparsestat

    return sorted(
        module.name
        for module in pkgutil.iter_modules(sparsestat.__path__)
        if module.ispkg and not module.name.startswith("_") and module.name not in _FLOORS
    )


def all_estimators(family=None):
    """List the estimators of this package.

    Parameters
    ----------
    family : str or None, default=None
        Name of a subpackage such as "linear_model"; None lists all of them.

    Returns
    -------
    estimators : list of (str, type)
        Names and classes, sorted by name.

    Examples
    --------
    >>> import sparsestat
    >>> estimators = dict(sparsestat.all_estimators("linear_model"))
    """
    families = _families()
    if family is not None and family not in families:
        raise ValueError(f"family must be one of {families} or None, got {family!r}.")
    found = {}
    for name in families if family is None else [family]:
        module = importlib.import_module(f"sparsestat.{name}")
        for public in module.__all__:
            item = getattr(module, public)
            if (
                inspect.isclass(item)
                and issubclass(item, BaseEstimator)
                and item.__module__.startswith("sparsestat.")
                and not inspect.isabstract(item)
            ):
                found[public] = item
    return sorted(found.items())
