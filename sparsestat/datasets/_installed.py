"""Files of installed packages, which are read without importing the package."""

import importlib.metadata
from pathlib import Path


def installed_file(package, resource, *, what, call):
    """Find a file of an installed package.

    Parameters
    ----------
    package : str
        Name under which pip installs it.
    resource : str
        Path of the file within it.
    what : str
        What the data are, in the plural, as the beginning of a sentence.
    call : str
        How a user names a file of their own.

    Returns
    -------
    path : pathlib.Path

    Raises
    ------
    FileNotFoundError
        If the package is not installed or does not have the file; the message says how to get
        it.
    """
    try:
        path = Path(str(importlib.metadata.distribution(package).locate_file(resource)))
    except importlib.metadata.PackageNotFoundError:
        found = f"The package '{package}', which has the file, is not installed."
    else:
        if path.is_file():
            return path
        found = f"The installed '{package}' does not have {resource}."
    raise FileNotFoundError(
        f"{what} are not part of sparsestat. {found} Run `pip install --no-deps {package}`, or "
        f"give the path of a file that you have: {call}."
    )
