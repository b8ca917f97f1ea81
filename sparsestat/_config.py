"""Settings of the package, one set per thread."""

import contextlib
import os
import threading

_BACKENDS = ("auto", "numba", "array_api")


def _check_backend(backend, name):
    if backend not in _BACKENDS:
        raise ValueError(f"{name} must be one of {list(_BACKENDS)}, got {backend!r}.")
    return backend


_default_config = {
    "backend": _check_backend(os.environ.get("SPARSESTAT_BACKEND", "auto"), "SPARSESTAT_BACKEND")
}


class _ThreadConfig(threading.local):
    def __init__(self):
        self.values = dict(_default_config)


_config = _ThreadConfig()


def get_config():
    """Return the settings of the current thread.

    Returns
    -------
    config : dict
        A copy: changing it changes no setting.

    See Also
    --------
    set_config : Change the settings.
    config_context : Change the settings inside a ``with`` block.

    Examples
    --------
    >>> import sparsestat
    >>> sparsestat.get_config()
    {'backend': 'auto'}
    """
    return dict(_config.values)


def set_config(*, backend=None):
    """Change the settings of the current thread.

    A new thread starts from the defaults, whatever the thread that starts it
    has set. The threads of an estimator with ``n_jobs`` work under the settings
    of the thread that called it.

    Parameters
    ----------
    backend : {"auto", "numba", "array_api"} or None, default=None
        Which code works on the arrays; None leaves the setting as it is.

        - "auto": the input decides. NumPy arrays, lists, DataFrames and SciPy
          sparse arrays go to loops compiled by numba, device arrays such as
          CuPy's to functions of the array API standard.
        - "numba": device arrays are refused.
        - "array_api": NumPy arrays, too, go to the functions of the array API
          standard, wherever an algorithm has them.

        The environment variable ``SPARSESTAT_BACKEND``, read when the package is
        imported, sets the default.

    See Also
    --------
    get_config : Read the settings.
    config_context : Change the settings inside a ``with`` block.

    Examples
    --------
    >>> import sparsestat
    >>> sparsestat.set_config(backend="auto")
    """
    if backend is not None:
        _config.values["backend"] = _check_backend(backend, "backend")


@contextlib.contextmanager
def config_context(*, backend=None):
    """Change the settings of the current thread inside a ``with`` block.

    Parameters
    ----------
    backend : {"auto", "numba", "array_api"} or None, default=None
        As in :func:`set_config`.

    Yields
    ------
    None

    See Also
    --------
    set_config : Change the settings for good.

    Examples
    --------
    >>> import sparsestat
    >>> with sparsestat.config_context(backend="array_api"):
    ...     sparsestat.get_config()["backend"]
    'array_api'
    """
    before = get_config()
    set_config(backend=backend)
    try:
        yield
    finally:
        _config.values = before
