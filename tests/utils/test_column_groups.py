"""Groups of columns in every form that a user may write them, and in those that are refused."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsestat.utils._column_groups import check_group_weights, check_groups, split


def as_lists(groups, n_features):
    return [columns.tolist() for columns in split(*check_groups(groups, n_features))]


@pytest.mark.parametrize(
    "groups",
    [
        ["b", "a", "b", "c"],
        np.array([1, 0, 1, 2]),
        pd.Series([10.5, -1.0, 10.5, 11.0]),
        pd.Categorical(["y", "x", "y", "z"]),
        (True, False, True, 7),
        [[1], [0, 2], [3]],
        [np.array([1]), {2, 0}, range(3, 4)],
        ((1,), (0, 2), (3,)),
    ],
    ids=str,
)
def test_forms_are_equal(groups):
    indices, ptr = check_groups(groups, 4)
    assert as_lists(groups, 4) == [[1], [0, 2], [3]]
    assert indices.dtype.kind == ptr.dtype.kind == "i"


def test_every_column_by_itself_and_blocks():
    assert as_lists(None, 3) == [[0], [1], [2]]
    assert as_lists(2, 6) == as_lists(np.int64(2), 6) == [[0, 1], [2, 3], [4, 5]]
    assert as_lists(np.arange(6).reshape(3, 2), 6) == as_lists(2, 6)
    assert as_lists(1, 3) == as_lists(None, 3)


def test_lists_keep_their_order():
    assert as_lists([[3, 1], [2], [0]], 4) == [[3, 1], [2], [0]]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_labels_are_a_partition(labels):
    indices, ptr = check_groups(labels, len(labels))
    np.testing.assert_array_equal(np.sort(indices), np.arange(len(labels)))
    assert ptr[0] == 0 and ptr[-1] == len(labels) and np.all(np.diff(ptr) > 0)
    members = split(indices, ptr)
    assert [{labels[j] for j in group} for group in members] == [{x} for x in sorted(set(labels))]
    assert as_lists(members, len(labels)) == [group.tolist() for group in members]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([[0, 1], [1, 2, 3]], r"overlap.*1 column.*column 1 \(in groups 0 and 1\)"),
        ([[0, 0], [1, 2, 3]], r"overlap.*column 0 \(in group 0\)"),
        ([[0], [3]], r"cover all 4 columns, but 2 are in no group, the first being column 1"),
        ([[0, 1], [], [2, 3]], "not be empty, but group 1 is"),
        ([[0, 1], [2, 4]], r"groups\[1\] must hold column indices from 0 to 3, got 4"),
        ([[0, 1], [2, -1]], "from 0 to 3, got -1"),
        ([[0.0, 1.0], [2.0, 3.0]], r"groups\[0\] must be a list of column indices.*float64"),
        ([[True, False], [2, 3]], "dtype bool"),
        ([[[0], [1]], [2, 3]], r"shape \(2, 1\)"),
        ([0, 1, 1], "one label for each of the 4 columns, got 3 labels"),
        ([], "got 0 labels"),
        ([0, 1, None, 1], "got None for column 2"),
        ([0.0, np.nan, 1.0, 1.0], "got nan for column 1"),
        ([0, "a", 1, "b"], r"sorted, got labels of the types \['int', 'str'\]"),
        ([0, [1], 2, 3], r"got a mix: \[1\] and 0"),
        ("abcd", "got 'abcd'"),
        (1.5, "got 1.5"),
        (True, "got True"),
        (3, "groups=3 .* divisor .* 4"),
        (0, "groups=0"),
    ],
)
def test_refused(groups, message):
    with pytest.raises(ValueError, match=message):
        check_groups(groups, 4)


def test_weights():
    ptr = np.array([0, 4, 5])
    np.testing.assert_array_equal(check_group_weights("sqrt", ptr), [2.0, 1.0])
    np.testing.assert_array_equal(check_group_weights("ones", ptr), [1.0, 1.0])
    given_weights = np.array([0.0, 3.0])
    weights = check_group_weights(given_weights, ptr)
    np.testing.assert_array_equal(weights, given_weights)
    assert weights is not given_weights


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], r"shape \(2,\).*got shape \(1,\)"),
        ([1.0, -2.0], "non-negative entries, got -2.0 for group 1"),
        ([np.inf, 1.0], "got inf for group 0"),
        ([0.0, 0.0], "at least one positive"),
        ("size", "'sqrt', 'ones'.*got 'size'"),
        (["a", "b"], "real numbers"),
        (None, "got"),
    ],
)
def test_refused_weights(weights, message):
    with pytest.raises(ValueError, match=message):
        check_group_weights(weights, np.array([0, 4, 5]))
