"""How this package compiles its loops: serial, cached, without the GIL."""

import functools
import warnings

import numba

_warned = False


def jit(function=None, **options):
    """Compile with ``numba.njit(cache=True, nogil=True)``, or uncached where no cache can live.

    numba refuses ``cache=True`` at decoration time if neither the package's own
    folder nor the user's cache folder can be written.  A read-only installation
    under a read-only home must still work, so the function is then compiled
    without a cache and the user is told once.

    Parameters
    ----------
    function : callable or None
        The function to compile; None when the decorator is used with options.
    **options
        Passed to :func:`numba.njit` (``fastmath``, ``inline``, ``error_model``).

    Returns
    -------
    dispatcher
        The compiled function.
    """
    if function is None:
        return functools.partial(jit, **options)
    global _warned
    options = {"nogil": True, "error_model": "numpy", **options}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError as error:
        if "cannot cache function" not in str(error):
            raise
        if not _warned:
            _warned = True
            warnings.warn(
                "numba found no writable folder for its cache, so sparsestat's loops are "
                "compiled anew in every process; set NUMBA_CACHE_DIR to a writable folder "
                "to avoid that.",
                RuntimeWarning,
                stacklevel=2,
            )
        return numba.njit(**options)(function)
