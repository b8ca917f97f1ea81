"""Groups of columns: from what a user writes to index arrays."""

from numbers import Integral

import numpy as np


def check_groups(groups, n_features):
    """Check that groups of columns are a partition.

    Parameters
    ----------
    groups : array-like of shape (n_features,), list of array-like of int, int or None
        One label for each column; or one list of column indices for each group; or the
        number of consecutive columns in every group. None makes every column a group of
        its own. Columns of a group need not be next to each other.
    n_features : int
        Number of columns.

    Returns
    -------
    indices : ndarray of int of shape (n_features,)
        Columns, group by group.
    ptr : ndarray of int of shape (n_groups + 1,)
        Group g has the columns ``indices[ptr[g]:ptr[g + 1]]``. Groups are in the order of
        the sorted labels, or of the list.

    Raises
    ------
    ValueError
        If a column belongs to no group or to several, a group is empty, an index is out
        of range, or labels are missing or cannot be sorted.

    Examples
    --------
    >>> from sparsestat.utils._column_groups import check_groups
    >>> check_groups(["b", "a", "b"], 3)
    (array([1, 0, 2]), array([0, 1, 3]))
    >>> check_groups([[0, 2], [1]], 3)
    (array([0, 2, 1]), array([0, 2, 3]))
    """
    if groups is None:
        return np.arange(n_features), np.arange(n_features + 1)
    if isinstance(groups, Integral) and not isinstance(groups, bool):
        return _blocks(int(groups), n_features)
    if isinstance(groups, str | bytes) or not hasattr(groups, "__len__"):
        raise ValueError(
            "groups must be labels, a list of lists of column indices or a number of columns, "
            f"got {groups!r}."
        )
    members = list(groups)
    nested = [_is_list(member) for member in members]
    if members and all(nested):
        return _from_lists(members, n_features)
    if any(nested):
        raise ValueError(
            "groups must be labels, or a list of lists of column indices, got a mix: "
            f"{members[nested.index(True)]!r} and {members[nested.index(False)]!r}."
        )
    return _from_labels(members, n_features)


def split(indices, ptr):
    """The columns of each group, as a list of arrays."""
    return np.split(indices, ptr[1:-1])


def _blocks(size, n_features):
    if size < 1 or n_features % size:
        raise ValueError(
            f"groups={size} consecutive columns must be a positive divisor of the number of "
            f"columns, which is {n_features}."
        )
    return np.arange(n_features), np.arange(0, n_features + 1, size)


def _is_list(member):
    if isinstance(member, str | bytes):
        return False
    return isinstance(member, list | tuple | set | frozenset | range) or np.ndim(member) > 0


def _from_labels(labels, n_features):
    if len(labels) != n_features:
        raise ValueError(
            f"groups must have one label for each of the {n_features} columns, "
            f"got {len(labels)} labels."
        )
    missing = [j for j, label in enumerate(labels) if label is None or label != label]
    if missing:
        raise ValueError(
            f"groups must give every column a label, got {labels[missing[0]]!r} "
            f"for column {missing[0]}."
        )
    try:
        order = {label: code for code, label in enumerate(sorted(set(labels)))}
    except TypeError as error:
        kinds = sorted({type(label).__name__ for label in labels})
        raise ValueError(
            f"groups must have labels that can be sorted, got labels of the types {kinds}."
        ) from error
    codes = np.array([order[label] for label in labels], dtype=np.intp)
    ptr = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=len(order)))])
    return np.argsort(codes, kind="stable"), ptr


def _from_lists(members, n_features):
    lists = [_as_indices(member, g, n_features) for g, member in enumerate(members)]
    indices = np.concatenate(lists)
    counts = np.bincount(indices, minlength=n_features)
    if np.any(counts > 1):
        column = int(np.argmax(counts > 1))
        places = [g for g, columns in enumerate(lists) if column in columns]
        where = f"groups {places[0]} and {places[1]}" if len(places) > 1 else f"group {places[0]}"
        raise ValueError(
            f"groups must not overlap, but {np.count_nonzero(counts > 1)} column(s) occur more "
            f"than once, the first being column {column} (in {where})."
        )
    if np.any(counts == 0):
        raise ValueError(
            f"groups must cover all {n_features} columns, but {np.count_nonzero(counts == 0)} "
            f"are in no group, the first being column {int(np.argmax(counts == 0))}."
        )
    return indices, np.concatenate([[0], np.cumsum([columns.size for columns in lists])])


def _as_indices(member, g, n_features):
    columns = np.asarray(sorted(member) if isinstance(member, set | frozenset) else member)
    if columns.size == 0:
        raise ValueError(f"groups must not be empty, but group {g} is.")
    if columns.ndim != 1 or not np.issubdtype(columns.dtype, np.integer):
        kind = f"shape {columns.shape} and dtype {columns.dtype}"
        raise ValueError(f"groups[{g}] must be a list of column indices, got {kind}.")
    outside = columns[(columns < 0) | (columns >= n_features)]
    if outside.size:
        raise ValueError(
            f"groups[{g}] must hold column indices from 0 to {n_features - 1}, got {outside[0]}."
        )
    return columns.astype(np.intp)


def check_group_weights(group_weights, ptr):
    """Check the relative penalties of groups.

    Parameters
    ----------
    group_weights : {"sqrt", "ones"} or array-like of shape (n_groups,)
        Square roots of the sizes, ones, or non-negative numbers.
    ptr : ndarray of int of shape (n_groups + 1,)
        Where groups begin, from :func:`check_groups`.

    Returns
    -------
    weights : ndarray of shape (n_groups,)
        A new float64 array.

    Raises
    ------
    ValueError
        For weights that are negative, not finite, all zero or of another shape.
    """
    sizes = np.diff(ptr)
    if isinstance(group_weights, str):
        if group_weights not in ("sqrt", "ones"):
            raise ValueError(
                "group_weights must be 'sqrt', 'ones' or one number for each group, "
                f"got {group_weights!r}."
            )
        return np.sqrt(sizes) if group_weights == "sqrt" else np.ones(sizes.size)
    try:
        weights = np.array(group_weights, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"group_weights must hold real numbers, got {group_weights!r}.") from error
    if weights.shape != sizes.shape:
        raise ValueError(
            f"group_weights must have shape ({sizes.size},), one entry for each group, "
            f"got shape {weights.shape}."
        )
    wrong = ~np.isfinite(weights) | (weights < 0.0)
    if np.any(wrong):
        first = int(np.argmax(wrong))
        raise ValueError(
            "group_weights must have finite, non-negative entries, "
            f"got {weights[first]} for group {first}."
        )
    if not np.any(weights):
        raise ValueError("group_weights must have at least one positive entry, got zeros only.")
    return weights
