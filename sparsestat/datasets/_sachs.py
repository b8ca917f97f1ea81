"""The protein measurements of Sachs and others, read from a file that the user has."""

import csv
import os
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from sparsestat.datasets._installed import installed_file
from sparsestat.utils._sklearn import StrOptions, validate_params

_RESOURCE = "cdt/data/resources/cyto_full_data.csv"
_N_OBSERVATIONAL = 853

# Node, and the names that its column has in the files that are passed around.
_COLUMNS = {
    "raf": {"raf", "praf"},
    "mek": {"mek", "pmek"},
    "plcg": {"plcg"},
    "pip2": {"pip2"},
    "pip3": {"pip3"},
    "erk": {"erk", "p44/42"},
    "akt": {"akt", "pakts473"},
    "pka": {"pka"},
    "pkc": {"pkc"},
    "p38": {"p38"},
    "jnk": {"jnk", "pjnk"},
}

_CONSENSUS = {
    "erk": ("akt",),
    "mek": ("erk",),
    "pip3": ("pip2",),
    "pka": ("akt", "erk", "jnk", "mek", "p38", "raf"),
    "pkc": ("jnk", "mek", "p38", "pka", "raf"),
    "plcg": ("pip2", "pip3"),
    "raf": ("mek",),
}

_DESCR = """\
Protein signalling network of human immune cells (Sachs and others, 2005)

Rows are single cells, columns the abundance of eleven phosphorylated proteins and phospholipids,
as fluorescence in flow cytometry, without transformation. The first 853 rows were measured
without intervention, the others under conditions that activate or inhibit some of the nodes.
"adjacency" has the 17 edges on which biologists agreed, adjacency[i, j] = 1 for an edge from
feature i to feature j; their number and direction vary between publications.
"""


@validate_params(
    {
        "path": [str, os.PathLike, None],
        "subset": [StrOptions({"observational", "all"})],
        "as_frame": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def load_sachs(path=None, *, subset="observational", as_frame=False):
    """Load the protein measurements of Sachs and others with their consensus graph.

    Abundances of eleven proteins and lipids in single cells of the human immune system, the
    most used real data in learning directed acyclic graphs. The measurements have no clear
    licence and are not part of this package: they are read from a file.

    Parameters
    ----------
    path : str or path-like, default=None
        A text file with a header, separated by commas, semicolons or tabs. Columns may come in
        any order and case, under the names raf, mek, plcg, pip2, pip3, erk, akt, pka, pkc, p38
        and jnk, or praf, pmek, p44/42, pakts473 and pjnk, and other columns are ignored. None
        looks for the file of an installed ``cdt``, the Causal Discovery Toolbox, which is not
        imported; ``pip install --no-deps cdt`` is enough.
    subset : {"observational", "all"}, default="observational"
        The first 853 rows, which were measured without intervention, or all rows of the file.
    as_frame : bool, default=False
        Whether `data` is a pandas DataFrame.

    Returns
    -------
    sachs : :class:`~sklearn.utils.Bunch`
        A dictionary with the attributes

        data : {ndarray, DataFrame} of shape (n_samples, 11)
            The measurements, not transformed.
        feature_names : list of str
            The nodes.
        adjacency : ndarray of shape (11, 11)
            The consensus graph; entry (i, j) is 1.0 for an edge from i to j.
        frame : DataFrame of shape (n_samples, 11)
            The same as `data`; None unless `as_frame`.
        filename : str
            The file that was read.
        DESCR : str
            A description.

    Raises
    ------
    FileNotFoundError
        If there is no such file; the message says how to get it.
    ValueError
        If a column is missing or occurs twice, if a value is not a finite number, or if the
        file has fewer rows than the subset.

    See Also
    --------
    make_sem : Simulated data with a known graph.

    Notes
    -----
    The 17 edges are those of the usual consensus network. Files named "target" that
    accompany the data elsewhere have other edges and, in ``cdt``, a cycle.

    References
    ----------
    K. Sachs, O. Perez, D. Pe'er, D. A. Lauffenburger and G. P. Nolan (2005). Causal
    protein-signaling networks derived from multiparameter single-cell data. *Science*
    308(5721), 523-529.

    Examples
    --------
    >>> from sparsestat.datasets import load_sachs
    >>> try:
    ...     sachs = load_sachs()
    ... except FileNotFoundError as error:
    ...     print("pip install --no-deps cdt" in str(error))
    ... else:
    ...     print(sachs.data.shape == (853, 11) and sachs.adjacency.sum() == 17)
    True
    """
    path = _installed_file() if path is None else Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path must be the file of the measurements, got {str(path)!r}.")
    data = _read(path, _N_OBSERVATIONAL if subset == "observational" else None)
    names = list(_COLUMNS)
    adjacency = np.zeros((len(names), len(names)))
    for cause, effects in _CONSENSUS.items():
        adjacency[names.index(cause), [names.index(effect) for effect in effects]] = 1.0
    frame = None
    if as_frame:
        import pandas as pd

        frame = pd.DataFrame(data, columns=names)
    return Bunch(
        data=data if frame is None else frame,
        feature_names=names,
        adjacency=adjacency,
        frame=frame,
        filename=str(path),
        DESCR=_DESCR,
    )


def _installed_file():
    return installed_file(
        "cdt",
        _RESOURCE,
        what="The measurements of Sachs and others",
        call="load_sachs(path='sachs.csv')",
    )


def _read(path, n_rows):
    """Read the columns of all nodes, of the first rows or of all."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline()
        separator = max(",;\t", key=header.count)
        names = next(csv.reader([header], delimiter=separator), [])
        columns = _find_columns(path, names)
        rows = list(csv.reader(file, delimiter=separator))
    rows = [row for row in rows if row]
    if len(rows) < (n_rows or 1):
        purpose = "" if n_rows is None else " for subset='observational'"
        raise ValueError(
            f"path: {str(path)!r} must have at least {n_rows or 1} rows of data{purpose}, "
            f"got {len(rows)}."
        )
    data = np.empty((len(rows[:n_rows]), len(columns)))
    for index, row in enumerate(rows[:n_rows]):
        try:
            data[index] = [float(row[column]) for column in columns]
        except (IndexError, ValueError) as error:
            raise ValueError(
                f"path: row {index + 1} of the data in {str(path)!r} must have a number for each "
                f"of the {len(names)} columns, got {row!r}."
            ) from error
    if not np.all(np.isfinite(data)):
        row = np.flatnonzero(~np.isfinite(data).all(axis=1))[0]
        raise ValueError(
            f"path: row {row + 1} of the data in {str(path)!r} contains NaN or infinity."
        )
    return data


def _find_columns(path, names):
    """The position of each node's column."""
    known = [name.strip().lower() for name in names]
    columns = []
    for node, aliases in _COLUMNS.items():
        found = [position for position, name in enumerate(known) if name in aliases]
        if len(found) != 1:
            problem = "no column" if not found else f"{len(found)} columns"
            raise ValueError(
                f"path: {str(path)!r} must have one column for {node!r}, named "
                f"{' or '.join(sorted(map(repr, aliases)))} in any case, and has {problem}; its "
                f"header is {names!r}."
            )
        columns.append(found[0])
    return columns
