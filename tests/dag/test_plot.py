"""Drawings: what is shown, and that nothing lies upon anything else."""

import itertools

import matplotlib as mpl
import numpy as np
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sparsestat.dag._curves import border_distance, corner_radius, points_on
from sparsestat.dag._graph import layers as longest_paths
from sparsestat.dag._layout import (
    assign_layers,
    count_crossings,
    orient,
    place_layers,
    plan_layers,
)
from sparsestat.dag._plot import DAGDisplay

mpl.use("Agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


class Known(BaseEstimator):
    def fit(self, X, y=None):
        self.adjacency_ = np.array([[0.0, 2.0], [0.0, 0.0]])
        self.feature_names_in_ = np.array(["cause", "effect"], dtype=object)
        return self


def random_graph(n_nodes, n_edges, seed):
    rng = np.random.default_rng(seed)
    pairs = np.array(list(itertools.combinations(rng.permutation(n_nodes), 2)))
    W = np.zeros((n_nodes, n_nodes))
    chosen = pairs[rng.choice(len(pairs), n_edges, replace=False)]
    W[chosen[:, 0], chosen[:, 1]] = rng.choice([-1, 1], n_edges) * rng.uniform(0.5, 2, n_edges)
    return W


def edge_set(W):
    return {(int(i), int(j)) for i, j in zip(*np.nonzero(W))}


def node_boxes(display):
    """Centres and sizes of the nodes, as they are drawn."""
    boxes = [node.get_path().get_extents(node.get_patch_transform()) for node in display.nodes_]
    centres = np.array([[(b.x0 + b.x1) / 2, (b.y0 + b.y1) / 2] for b in boxes])
    return centres, np.array([[b.width, b.height] for b in boxes])


def legend_texts(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


# -- layouts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_layers_have_the_smallest_total_span(seed):
    W = random_graph(6, 8, seed)
    edges = sorted(edge_set(W))
    layers = assign_layers(edges, 6)

    def span(layers):
        return sum(layers[j] - layers[i] for i, j in edges)

    assert layers.min() == 0 and all(layers[i] < layers[j] for i, j in edges)
    feasible = (
        layers
        for layers in itertools.product(range(6), repeat=6)
        if all(layers[i] < layers[j] for i, j in edges)
    )
    assert span(layers) == min(map(span, feasible)) <= span(longest_paths(W))


def test_edges_that_close_a_cycle_are_turned():
    edges = [(0, 1), (1, 2), (2, 0), (3, 2), (2, 3)]
    assert orient(edges, 4) == [(0, 1), (1, 2), (0, 2), (3, 2), (3, 2)]
    layout = place_layers(plan_layers(edges, 4))
    assert set(layout.routes) == set(edges)
    height = layout.positions[:, 1]
    assert height[0] > height[1] > height[2] < height[3]
    down, up = layout.routes[3, 2], layout.routes[2, 3]
    np.testing.assert_array_equal(down, up[::-1])


def test_crossings_are_pairs_in_opposite_order():
    rng = np.random.default_rng(0)
    upper, lower = rng.integers(6, size=(2, 15))
    pairs = itertools.combinations(range(15), 2)
    expected = sum((upper[a] - upper[b]) * (lower[a] - lower[b]) < 0 for a, b in pairs)
    assert count_crossings(upper, lower) == expected > 0


def test_a_graph_without_need_of_crossings_has_none():
    # A binary tree with shuffled names, and a ladder of two chains.
    rng = np.random.default_rng(3)
    name = rng.permutation(31)
    tree = [(int(name[(k - 1) // 2]), int(name[k])) for k in range(1, 31)]
    assert plan_layers(tree, 31).components[0].n_crossings == 0
    ladder = [(k, k + 2) for k in range(12)] + [(k, k + 3) for k in range(0, 11, 2)]
    assert place_layers(plan_layers(ladder, 14)).n_crossings == 0


@pytest.mark.parametrize("n_edges", [10, 40])
def test_few_crossings_by_comparison_with_chance(n_edges):
    plan = plan_layers(sorted(edge_set(random_graph(20, n_edges, 1))), 20)
    rng = np.random.default_rng(0)
    chance = 0
    for part in plan.components:
        place = np.empty(part.level.size, dtype=int)
        for nodes in part.ranks:
            place[rng.permutation(nodes)] = np.arange(nodes.size)
        source, target = np.array(part.pieces).T
        between = [part.level[source] == k for k in range(part.level.max())]
        counts = [count_crossings(place[source[here]], place[target[here]]) for here in between]
        chance += sum(counts)
        place[np.concatenate(part.ranks)] = np.concatenate([np.arange(r.size) for r in part.ranks])
        counts = [count_crossings(place[source[here]], place[target[here]]) for here in between]
        assert part.n_crossings == sum(counts)
    assert sum(part.n_crossings for part in plan.components) < 0.5 * chance


def test_coordinates_are_optimal_for_a_small_graph():
    # A root above two children: symmetric, children as near as the gap allows.
    layout = place_layers(
        plan_layers([(0, 1), (0, 2)], 3), breadth=1.0, depth=0.5, node_gap=0.5, layer_gap=2.0
    )
    np.testing.assert_allclose(layout.positions[0], [0.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(np.abs(layout.positions[1:, 0]), 0.75)
    np.testing.assert_allclose(layout.positions[1:, 1], -2.5)
    np.testing.assert_array_equal(layout.layers, [0, 1, 1])


def test_a_long_edge_passes_every_layer_between():
    edges = [(0, 1), (1, 2), (2, 3), (0, 3)]
    layout = place_layers(plan_layers(edges, 4))
    assert [len(layout.routes[edge]) for edge in edges] == [0, 0, 0, 2]
    np.testing.assert_allclose(layout.routes[0, 3][:, 1], layout.positions[1:3, 1])


def test_nodes_without_edges_stand_below():
    layout = place_layers(plan_layers([(1, 2)], 9))
    lonely = np.r_[0, 3:9]
    np.testing.assert_array_equal(np.flatnonzero(layout.layers < 0), lonely)
    assert layout.positions[lonely, 1].max() < layout.positions[[1, 2], 1].min()
    assert len(np.unique(layout.positions, axis=0)) == 9
    nothing = place_layers(plan_layers([], 5))
    assert len(np.unique(nothing.positions, axis=0)) == 5 and nothing.routes == {}


@pytest.mark.parametrize("size", [(1.0, 1.0), (2.0, 0.4), (0.3, 0.9)])
def test_the_border_of_a_rounded_box(size):
    radius = corner_radius(*size)
    core = np.array(size) / 2 - radius
    assert border_distance(*size, np.array([0.0, 1.0])) == pytest.approx(size[1] / 2)
    assert border_distance(*size, np.array([-1.0, 0.0])) == pytest.approx(size[0] / 2)
    corner = np.array([1.0, -1.0]) * (core + radius * np.sqrt(0.5))
    length = np.hypot(*corner)
    assert border_distance(*size, corner / length) == pytest.approx(length)


# -- displays --------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["down", "right"])
@pytest.mark.parametrize("n_nodes, n_edges", [(11, 17), (50, 70), (50, 100)])
def test_nothing_lies_upon_a_node(n_nodes, n_edges, direction):
    W = random_graph(n_nodes, n_edges, seed=n_nodes)
    display = DAGDisplay.from_adjacency(W, direction=direction, edge_labels=False)
    centres, sizes = node_boxes(display)
    for a, b in itertools.combinations(range(n_nodes), 2):
        assert np.any(np.abs(centres[a] - centres[b]) > (sizes[a] + sizes[b]) / 2 + 0.05)
    flow = np.array([0.0, -1.0]) if direction == "down" else np.array([1.0, 0.0])
    for (i, j), line in display.edges_.items():
        assert (centres[j] - centres[i]) @ flow > 0
        vertices = line.get_path().vertices
        points = np.vstack([vertices[:1], points_on(vertices, 40), vertices[-1:]])
        away = np.abs(points[:, None] - centres) - sizes / 2
        inside = np.all(away < 0, axis=2)
        inside[:, [i, j]] = False
        assert not inside.any(), f"edge {i} -> {j} meets node {np.argwhere(inside)[0, 1]}"
        # It starts at the border of its source, and ends an arrow head before its target.
        for node, point, low, high in ((i, points[0], 0.0, 1e-9), (j, points[-1], 0.05, 0.2)):
            vector = point - centres[node]
            border = border_distance(*sizes[node], vector / np.hypot(*vector))
            assert low - 1e-9 <= np.hypot(*vector) - border <= high + 0.05 * (node == j)
    heads = [patch for patch in display.ax_.patches if isinstance(patch, mpl.patches.Polygon)]
    assert len(heads) == n_edges


@pytest.mark.parametrize("figsize", [None, (5, 4), (2.5, 6)])
@pytest.mark.parametrize("n_nodes, n_edges", [(11, 17), (50, 100)])
def test_labels_fit_into_nodes(n_nodes, n_edges, figsize):
    import matplotlib.pyplot as plt

    ax = None if figsize is None else plt.subplots(figsize=figsize, layout="constrained")[1]
    names = [f"variable_{j} of a long name" if j % 3 == 0 else f"x{j}" for j in range(n_nodes)]
    W = random_graph(n_nodes, n_edges, seed=1)
    display = DAGDisplay.from_adjacency(W, names=names, ax=ax)
    display.figure_.canvas.draw()
    for text, node in zip(display.node_labels_, display.nodes_):
        inner, outer = text.get_window_extent(), node.get_window_extent()
        # A pixel for the rounding of glyphs.
        assert outer.x0 - 1 <= inner.x0 and inner.x1 <= outer.x1 + 1
        assert outer.y0 - 1 <= inner.y0 and inner.y1 <= outer.y1 + 1
    assert display.node_labels_[0].get_text() == "variable_0\nof a long\nname"
    page = display.ax_.get_window_extent()
    for node in display.nodes_:
        box = node.get_window_extent()
        assert page.x0 <= box.x0 < box.x1 <= page.x1 and page.y0 <= box.y0 < box.y1 <= page.y1


def test_labels_of_edges_keep_clear_of_nodes_and_of_each_other():
    display = DAGDisplay.from_adjacency(random_graph(11, 17, seed=1))
    assert set(display.edge_labels_) == set(display.edges_)
    display.figure_.canvas.draw()
    boxes = [label.get_window_extent() for label in display.edge_labels_.values()]
    for label in boxes:
        assert not any(label.overlaps(node.get_window_extent()) for node in display.nodes_)
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_colour_and_width_show_sign_and_size():
    W = np.zeros((4, 4))
    W[0, 1], W[0, 2], W[1, 3] = 2.0, -0.5, 1.0
    display = DAGDisplay.from_adjacency(W, names=list("abcd"))
    width = {edge: line.get_linewidth() for edge, line in display.edges_.items()}
    assert width[0, 1] > width[1, 3] > width[0, 2]
    red, _, blue, _ = display.edges_[0, 1].get_edgecolor()
    assert blue > red
    red, _, blue, _ = display.edges_[0, 2].get_edgecolor()
    assert red > blue
    # A smaller weight is paler: nearer to white in every channel.
    assert np.all(
        np.array(display.edges_[1, 3].get_edgecolor())
        >= np.array(display.edges_[0, 1].get_edgecolor())
    )
    labels = {edge: label.get_text() for edge, label in display.edge_labels_.items()}
    assert labels == {(0, 1): "2.00", (0, 2): "\N{MINUS SIGN}0.50", (1, 3): "1.00"}
    assert [label.get_text() for label in display.node_labels_] == list("abcd")
    assert legend_texts(display) == ["positive", "negative", "|weight| 0.5", "|weight| 2"]
    assert display.kinds_ == {}


def test_comparison_with_the_truth():
    truth = np.zeros((5, 5))
    truth[0, 1] = truth[1, 2] = truth[2, 3] = truth[0, 3] = 1.0
    W = np.zeros((5, 5))
    W[0, 1], W[2, 1], W[0, 2], W[3, 4] = 0.9, 0.8, 0.7, 0.6
    display = DAGDisplay.from_adjacency(W, true_adjacency=truth)
    assert display.kinds_ == {
        (0, 1): "correct",
        (2, 1): "reversed",
        (0, 2): "extra",
        (3, 4): "extra",
        (2, 3): "missing",
        (0, 3): "missing",
    }
    assert set(display.edges_) == set(display.kinds_)
    assert set(display.edge_labels_) == edge_set(W)
    texts = legend_texts(display)
    assert texts[:4] == ["correct (1)", "reversed (1)", "extra (2)", "missing (2)"]
    styles = {
        kind: (display.edges_[edge].get_linestyle(), display.edges_[edge].get_edgecolor())
        for edge, kind in display.kinds_.items()
    }
    for a, b in itertools.combinations(styles.values(), 2):
        assert a[0] != b[0] and a[1] != b[1]


def test_the_truth_may_contradict_the_flow():
    W = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    truth = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    display = DAGDisplay.from_adjacency(W, true_adjacency=truth, direction="down")
    assert display.kinds_ == {(0, 1): "correct", (1, 2): "extra", (2, 0): "missing"}
    height = node_boxes(display)[0][:, 1]
    assert height[0] > height[1] > height[2]
    vertices = display.edges_[2, 0].get_path().vertices
    assert vertices[0, 1] < vertices[-1, 1]


def test_an_edge_without_direction_has_no_head():
    cpdag = np.array([[0, 1, 0], [1, 0, 1], [0, 0, 0]])
    display = DAGDisplay.from_adjacency(cpdag, true_adjacency=cpdag.T)
    assert set(display.edges_) == {(0, 1), (1, 2)}
    assert display.kinds_ == {(0, 1): "correct", (1, 2): "reversed"}
    heads = [patch for patch in display.ax_.patches if isinstance(patch, mpl.patches.Polygon)]
    assert len(heads) == 1


def test_probabilities_make_edges_paler():
    W = np.zeros((3, 3))
    W[0, 1] = W[0, 2] = 1.0
    sure = np.zeros((3, 3))
    sure[0, 1], sure[0, 2] = 0.95, 0.2
    display = DAGDisplay.from_adjacency(W, probabilities=sure)
    strong, weak = (np.array(display.edges_[edge].get_edgecolor()) for edge in [(0, 1), (0, 2)])
    assert np.all(weak[:3] > strong[:3])
    assert display.edge_labels_[0, 1].get_text() == "1.00 (95%)"
    assert legend_texts(display) == ["positive", "25% sure", "100% sure"]
    both = DAGDisplay.from_adjacency(W, probabilities=sure, true_adjacency=W)
    assert both.kinds_ == {(0, 1): "correct", (0, 2): "correct"}
    assert both.edges_[0, 1].get_edgecolor() != both.edges_[0, 2].get_edgecolor()


def test_an_estimator_and_ones_own_axes():
    import matplotlib.pyplot as plt

    model = Known().fit(None)
    fig, axes = plt.subplots(1, 2, layout="constrained")
    display = DAGDisplay.from_estimator(model, ax=axes[1], edge_labels=False)
    assert display.ax_ is axes[1] and display.figure_ is fig and display.edge_labels_ == {}
    assert [text.get_text() for text in display.node_labels_] == ["cause", "effect"]
    again = display.plot()
    assert again is display and display.figure_ is not fig and len(display.edge_labels_) == 1


def test_large_graphs_are_not_labelled():
    small, large = random_graph(12, 30, 0), random_graph(12, 31, 0)
    assert len(DAGDisplay.from_adjacency(small).edge_labels_) == 30
    assert DAGDisplay.from_adjacency(large).edge_labels_ == {}
    assert len(DAGDisplay.from_adjacency(large, edge_labels=True).edge_labels_) == 31


@pytest.mark.parametrize("n_nodes", [1, 4])
def test_a_graph_without_edges(n_nodes):
    display = DAGDisplay.from_adjacency(np.zeros((n_nodes, n_nodes)))
    assert display.edges_ == {} and len(display.nodes_) == n_nodes
    assert display.ax_.get_legend() is None


def test_what_is_given_stays_as_it_is():
    W = random_graph(8, 10, 0)
    before = W.copy()
    first = DAGDisplay.from_adjacency(W, true_adjacency=W.T).layout_
    np.testing.assert_array_equal(W, before)
    second = DAGDisplay.from_adjacency(sparse.csr_array(W), true_adjacency=W.T).layout_
    np.testing.assert_array_equal(first.positions, second.positions)


def test_what_has_no_graph_is_refused_with_advice():
    with pytest.raises(NotFittedError):
        DAGDisplay.from_estimator(Known())
    pipeline = make_pipeline(StandardScaler(), Known()).fit(np.ones((3, 2)))
    with pytest.raises(TypeError, match=r"pass its last step, estimator\[-1\]"):
        DAGDisplay.from_estimator(pipeline)
    with pytest.raises(TypeError, match="StandardScaler has no adjacency_; fit CoLiDE"):
        DAGDisplay.from_estimator(StandardScaler().fit(np.ones((3, 2))))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"adjacency": np.ones((2, 3))}, r"adjacency must be a square matrix.*\(2, 3\)"),
        ({"adjacency": [[0, np.nan], [0, 0]]}, "adjacency must be finite"),
        ({"adjacency": np.eye(2)}, "adjacency must have a zero diagonal"),
        ({"true_adjacency": np.zeros((3, 3))}, r"true_adjacency must have shape \(2, 2\)"),
        ({"probabilities": np.zeros(2)}, r"probabilities must have shape \(2, 2\).*got \(2,\)"),
        ({"probabilities": [[0, 2], [0, 0]]}, "probabilities must lie between 0 and 1, got 2.0"),
        ({"probabilities": [[0, np.nan], [0, 0]]}, "between 0 and 1, got nan"),
        ({"names": ["a"]}, "names must have 2 entries, got 1"),
        ({"direction": "up"}, "direction must be 'auto', 'down' or 'right', got 'up'"),
        ({"edge_labels": "some"}, "edge_labels must be a bool or 'auto', got 'some'"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        DAGDisplay.from_adjacency(**{"adjacency": [[0.0, 1.0], [0.0, 0.0]], **options})
