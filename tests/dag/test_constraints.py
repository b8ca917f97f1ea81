"""What is known about edges: what is understood, what is refused, and what is implied."""

import itertools

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsestat.dag._constraints import check_constraints

from ._dags import dags

NAMES = np.array(["ant", "bee", "cat", "dog"], dtype=object)


def mask_of(pairs, d):
    mask = np.zeros((d, d), dtype=bool)
    for i, j in pairs:
        mask[i, j] = True
    return mask


def orders_that_respect(precedes):
    """All orders, by enumeration."""
    for order in itertools.permutations(range(len(precedes))):
        position = np.argsort(order)
        before, after = np.nonzero(precedes)
        if np.all(position[before] < position[after]):
            yield order


# --- what is understood ---------------------------------------------------------------------


def test_nothing_is_known():
    constraints = check_constraints(None, None, None, 3)
    np.testing.assert_array_equal(constraints.forbidden, np.eye(3, dtype=bool))
    assert not constraints.required.any()
    assert not constraints.precedes.any()


@pytest.mark.parametrize(
    "edges",
    [
        [(0, 2), (3, 1)],
        [[0, 2], [3, 1]],
        ((0, 2), (3, 1)),
        {(0, 2), (3, 1)},
        np.array([[0, 2], [3, 1]]),
        np.array([[0.0, 2.0], [3.0, 1.0]]),
        [("ant", "cat"), ("dog", "bee")],
        [("ant", 2), (np.int64(3), "bee")],
        np.array([["ant", "cat"], ["dog", "bee"]]),
        mask_of([(0, 2), (3, 1)], 4),
    ],
    ids=str,
)
def test_edges_may_be_given_in_many_ways(edges):
    expected = mask_of([(0, 2), (3, 1)], 4)
    forbidden = check_constraints(edges, None, None, 4, NAMES).forbidden
    np.testing.assert_array_equal(forbidden, expected | np.eye(4, dtype=bool))
    required = check_constraints(None, edges, None, 4, NAMES).required
    np.testing.assert_array_equal(required, expected)


@pytest.mark.parametrize("edges", [[], (), np.zeros((0, 2), dtype=int)])
def test_an_empty_list_says_nothing(edges):
    constraints = check_constraints(edges, edges, None, 2)
    np.testing.assert_array_equal(constraints.forbidden, np.eye(2, dtype=bool))
    assert not constraints.required.any()


@pytest.mark.parametrize(
    "tiers",
    [[0, 1, 1, 5], (0.5, 2.0, 2.0, 2.5), {"ant": -1, "bee": 0, 2: 0, "dog": 9}],
    ids=str,
)
def test_tiers(tiers):
    constraints = check_constraints(None, None, tiers, 4, NAMES)
    later = mask_of([(1, 0), (2, 0), (3, 0), (3, 1), (3, 2)], 4)
    np.testing.assert_array_equal(constraints.forbidden, later | np.eye(4, dtype=bool))
    np.testing.assert_array_equal(constraints.precedes, later.T)


def test_arguments_are_left_alone():
    forbidden = mask_of([(0, 1)], 3)
    required = [(1, 2)]
    tiers = np.array([0.0, 0.0, 1.0])
    for array in (forbidden, tiers):
        array.setflags(write=False)
    constraints = check_constraints(forbidden, required, tiers, 3)
    constraints.forbidden[:] = False
    assert required == [(1, 2)]
    np.testing.assert_array_equal(forbidden, mask_of([(0, 1)], 3))


@given(dags(max_nodes=6))
def test_precedence_is_reachability_through_required_edges(edges):
    constraints = check_constraints(None, edges, None, len(edges))
    closure = nx.transitive_closure_dag(nx.from_numpy_array(edges, create_using=nx.DiGraph))
    np.testing.assert_array_equal(constraints.precedes, nx.to_numpy_array(closure) > 0)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=4),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=3),
    st.lists(st.integers(0, 2), min_size=4, max_size=4),
)
def test_refused_exactly_where_no_graph_is_left(required, forbidden, tiers):
    """There is a graph if some order of the nodes has all required edges and obeys the tiers."""
    earlier = [(i, j) for i in range(4) for j in range(4) if tiers[i] < tiers[j]]
    possible = (
        not set(required) & set(forbidden)
        and all(i != j for i, j in required)
        and any(orders_that_respect(mask_of(required + earlier, 4)))
    )
    if not possible:
        with pytest.raises(ValueError, match="required_edges"):
            check_constraints(forbidden, required, tiers, 4)
        return
    constraints = check_constraints(forbidden, required, tiers, 4)
    assert not (constraints.required & constraints.forbidden).any()
    assert list(orders_that_respect(constraints.precedes)) == list(
        orders_that_respect(mask_of(required + earlier, 4))
    )


def test_the_same_knowledge_about_some_nodes():
    # The chain 0 -> 1 -> 2 orders 0 before 2, whether or not 1 is looked at.
    constraints = check_constraints([(3, 0)], [(0, 1), (1, 2)], None, 4)
    part = constraints.restricted_to([0, 2, 3])
    np.testing.assert_array_equal(part.precedes, mask_of([(0, 1)], 3))
    np.testing.assert_array_equal(part.forbidden, mask_of([(2, 0)], 3) | np.eye(3, dtype=bool))
    assert not part.required.any()


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize("argument", ["forbidden_edges", "required_edges"])
@pytest.mark.parametrize(
    "edges, message",
    [
        ([(0, 4)], "positions from 0 to 3, got 4"),
        ([(-1, 0)], "positions from 0 to 3, got -1"),
        ([(0, 1.5)], "positions or names, got 1.5"),
        ([(0, np.nan)], "positions or names, got nan"),
        ([(0, np.inf)], "positions or names, got inf"),
        ([(0, None)], "positions or names, got None"),
        ([(True, 0)], "positions or names, got True"),
        ([(0, 1, 2)], "pairs"),
        ([0, 1], "pairs"),
        ([("ant", "elk")], "'elk', which is not a column"),
        (np.zeros((3, 3), dtype=bool), r"mask of shape \(4, 4\), got shape \(3, 3\)"),
        (np.zeros(4, dtype=bool), r"mask of shape \(4, 4\), got shape \(4,\)"),
    ],
    ids=str,
)
def test_bad_edges(argument, edges, message):
    arguments = {"forbidden_edges": None, "required_edges": None, argument: edges}
    with pytest.raises(ValueError, match=f"{argument}.*{message}"):
        check_constraints(**arguments, node_tiers=None, n_nodes=4, names=NAMES)


def test_names_without_names():
    with pytest.raises(ValueError, match="forbidden_edges names the node 'ant', but X came with"):
        check_constraints([("ant", "bee")], None, None, 4)


@pytest.mark.parametrize(
    "tiers",
    [
        [0, 1],
        [[0, 1, 1, 2]],
        [0, 1, np.nan, 1],
        [0, 1, np.inf, 1],
        ["low", "low", "high", "high"],
        {"ant": 0, "bee": 1},
        {"ant": 0, "bee": 1, "cat": 1, "elk": 2},
        {0: 0, 1: 1, 2: 1, 4: 1},
        {"ant": 0, "bee": 1, "cat": 1, "dog": "late"},
        {"ant": 0, "bee": 1, "cat": 1, "dog": None},
    ],
    ids=str,
)
def test_bad_tiers(tiers):
    with pytest.raises(ValueError, match="node_tiers"):
        check_constraints(None, None, tiers, 4, NAMES)


@pytest.mark.parametrize(
    "forbidden, required, tiers, message",
    [
        (None, [("bee", "bee")], None, "required_edges must not contain loops.*bee"),
        ([(0, 1)], [("ant", "bee")], None, "contradict.*both contain.*from ant to bee"),
        (None, [(0, 1), (1, 0)], None, "required_edges must not form a cycle.*ant, bee"),
        (None, [(0, 1), (1, 2), (2, 0)], None, "cycle.*ant, bee, cat"),
        (None, [("cat", "ant")], [0, 0, 1, 1], "node_tiers contradict.*from cat to ant"),
    ],
)
def test_contradictions(forbidden, required, tiers, message):
    with pytest.raises(ValueError, match=message):
        check_constraints(forbidden, required, tiers, 4, NAMES)


def test_messages_give_positions_where_there_are_no_names():
    with pytest.raises(ValueError, match="from 2 to 0 goes back"):
        check_constraints(None, [(2, 0)], [0, 0, 1], 3)
