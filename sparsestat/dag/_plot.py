"""Display of a directed graph in layers."""

import textwrap

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sparsestat.dag._curves import (
    arrow_head,
    corner_radius,
    edge_curve,
    place_labels,
    points_on,
)
from sparsestat.dag._layout import layered_layout

# Okabe and Ito's colours, which stay apart under every common colour blindness.
_BLUE, _VERMILLION, _ORANGE, _GREY = "#0072B2", "#D55E00", "#E69F00", "#6E6E6E"
_INK, _FILL, _LONELY = "#1B2A3A", "#E9F1F8", "#F3F3F3"
_KINDS = {
    "correct": (_BLUE, "-"),
    "reversed": (_ORANGE, (0, (5, 1.2, 1.2, 1.2))),
    "extra": (_VERMILLION, (0, (4, 1.6))),
    "missing": (_GREY, (0, (1, 1.4))),
}
_FONT_SIZE = 10.0
_WIDEST, _TALLEST = 13.0, 8.5
_LEGEND_HEIGHT = 0.45
_DENSE = 60
"""Number of edges from which lines are drawn thinner and without labels."""


def check_has_graph(estimator):
    """Refuse what has no graph to plot, with advice."""
    if hasattr(estimator, "steps"):
        raise TypeError(
            f"A {type(estimator).__name__} has no graph of its own; pass its last step, "
            "estimator[-1], fitted."
        )
    check_is_fitted(estimator)
    if not hasattr(estimator, "adjacency_"):
        raise TypeError(
            f"{type(estimator).__name__} has no adjacency_; fit CoLiDE, or use "
            "DAGDisplay.from_adjacency."
        )


def check_square(values, name, shape=None):
    """Check a matrix with a row and a column for each node.

    Parameters
    ----------
    values : array-like of shape (n_nodes, n_nodes)
        Finite real numbers.
    name : str
        The argument that a message names.
    shape : (int, int) or None, default=None
        The shape that it must have.

    Returns
    -------
    values : ndarray of float64 of shape (n_nodes, n_nodes)
        The matrix.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or values.size == 0:
        raise ValueError(f"{name} must be a square matrix, got shape {values.shape}.")
    if shape is not None and values.shape != shape:
        raise ValueError(f"{name} must have shape {shape} like adjacency, got {values.shape}.")
    if not np.all(np.isfinite(values)):
        raise ValueError(f"{name} contains NaN or infinity.")
    return values


class DAGDisplay:
    """A directed graph in layers, so that edges lead downwards (or to the right).

    Edges are the wider and the darker the larger their absolute weight; blue is
    positive, vermillion is negative. Against a true graph, colour and line style tell
    correct, reversed, extra and missing edges apart. An edge in both directions, as in
    a CPDAG, is drawn once, without arrow head.

    Build one with :meth:`from_estimator` or :meth:`from_adjacency`.

    Parameters
    ----------
    adjacency : array-like of shape (n_nodes, n_nodes)
        Weights; entry (i, j) is not zero where i -> j.
    names : array-like of shape (n_nodes,), default=None
        Labels of the nodes; None stands for x0, x1, ...
    true_adjacency : array-like of shape (n_nodes, n_nodes), default=None
        A graph to compare with.
    probabilities : array-like of shape (n_nodes, n_nodes), default=None
        How sure each edge is, between 0 and 1, such as frequencies among bootstrap
        samples; unsure edges are drawn paler.

    Attributes
    ----------
    ax_ : matplotlib Axes
        What was drawn on.
    figure_ : matplotlib Figure
        The figure around it.
    nodes_ : list of matplotlib FancyBboxPatch
        One for each node.
    node_labels_ : list of matplotlib Text
        One for each node.
    edges_ : dict of (int, int) to matplotlib PathPatch
        Lines by source and target; missing edges are among them.
    edge_labels_ : dict of (int, int) to matplotlib Text
        Weights, where they are shown.
    kinds_ : dict of (int, int) to str
        "correct", "reversed", "extra" or "missing"; empty without a true graph.
    layout_ : LayeredLayout
        Positions of the nodes and ways of the edges.

    See Also
    --------
    CoLiDE : Learns a graph.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.dag import DAGDisplay
    >>> W = np.array([[0.0, 1.5, 0.0], [0.0, 0.0, -0.8], [0.0, 0.0, 0.0]])
    >>> display = DAGDisplay.from_adjacency(W, names=["rain", "river", "drought"])
    >>> sorted(display.edges_)
    [(0, 1), (1, 2)]
    >>> display.edge_labels_[1, 2].get_text()
    '−0.80'
    """

    def __init__(self, *, adjacency, names=None, true_adjacency=None, probabilities=None):
        self.adjacency = adjacency
        self.names = names
        self.true_adjacency = true_adjacency
        self.probabilities = probabilities

    @classmethod
    def from_estimator(
        cls,
        estimator,
        *,
        true_adjacency=None,
        probabilities=None,
        ax=None,
        edge_labels="auto",
        direction="auto",
    ):
        """Plot the graph of an estimator that learnt one.

        Parameters
        ----------
        estimator : estimator
            Fitted, with ``adjacency_``, such as :class:`CoLiDE`.
        true_adjacency : array-like of shape (n_nodes, n_nodes), default=None
            A graph to compare with.
        probabilities : array-like of shape (n_nodes, n_nodes), default=None
            How sure each edge is, between 0 and 1.
        ax : matplotlib Axes, default=None
            Where to draw; None stands for a new figure of a suitable size.
        edge_labels : bool or "auto", default="auto"
            Whether to write weights on edges; "auto" does for up to 30 edges.
        direction : {"auto", "down", "right"}, default="auto"
            Where edges lead; "auto" takes what fills the figure better.

        Returns
        -------
        display : DAGDisplay
            What was drawn.
        """
        check_has_graph(estimator)
        return cls.from_adjacency(
            estimator.adjacency_,
            names=getattr(estimator, "feature_names_in_", None),
            true_adjacency=true_adjacency,
            probabilities=probabilities,
            ax=ax,
            edge_labels=edge_labels,
            direction=direction,
        )

    @classmethod
    def from_adjacency(
        cls,
        adjacency,
        *,
        names=None,
        true_adjacency=None,
        probabilities=None,
        ax=None,
        edge_labels="auto",
        direction="auto",
    ):
        """Plot a matrix of weights.

        Parameters
        ----------
        adjacency : array-like of shape (n_nodes, n_nodes)
            Weights; entry (i, j) is not zero where i -> j.
        names : array-like of shape (n_nodes,), default=None
            Labels of the nodes; None stands for x0, x1, ...
        true_adjacency : array-like of shape (n_nodes, n_nodes), default=None
            A graph to compare with.
        probabilities : array-like of shape (n_nodes, n_nodes), default=None
            How sure each edge is, between 0 and 1.
        ax : matplotlib Axes, default=None
            Where to draw; None stands for a new figure of a suitable size.
        edge_labels : bool or "auto", default="auto"
            Whether to write weights on edges; "auto" does for up to 30 edges.
        direction : {"auto", "down", "right"}, default="auto"
            Where edges lead; "auto" takes what fills the figure better.

        Returns
        -------
        display : DAGDisplay
            What was drawn.
        """
        display = cls(
            adjacency=adjacency,
            names=names,
            true_adjacency=true_adjacency,
            probabilities=probabilities,
        )
        return display.plot(ax=ax, edge_labels=edge_labels, direction=direction)

    def plot(self, ax=None, *, edge_labels="auto", direction="auto"):
        """Draw the graph.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None stands for a new figure of a suitable size.
        edge_labels : bool or "auto", default="auto"
            Whether to write weights on edges; "auto" does for up to 30 edges.
        direction : {"auto", "down", "right"}, default="auto"
            Where edges lead; "auto" takes what fills the figure better.

        Returns
        -------
        display : DAGDisplay
            The same object.
        """
        if direction not in ("auto", "down", "right"):
            raise ValueError(f"direction must be 'auto', 'down' or 'right', got {direction!r}.")
        if not (isinstance(edge_labels, bool) or edge_labels == "auto"):
            raise ValueError(f"edge_labels must be a bool or 'auto', got {edge_labels!r}.")
        W, truth, sure, names = self._checked()
        import matplotlib.pyplot as plt

        shown, self.kinds_ = _edges_to_draw(W, truth)
        if edge_labels == "auto":
            edge_labels = len(shown) <= 30
        labels = [_wrapped(name) for name in names]
        size = _node_size(labels)
        space = (_WIDEST, _TALLEST) if ax is None else _inches(ax)
        drawing = _best_drawing(shown, len(W), size, direction, space, roomy=edge_labels)
        self.layout_ = drawing.layout
        width, height = drawing.extent
        if ax is None:
            scale = min(_WIDEST / width, _TALLEST / height, 1.35)
            figure_size = max(scale * width, 4.0), max(scale * height, 1.5) + _LEGEND_HEIGHT
            _, ax = plt.subplots(figsize=figure_size, layout="constrained")
        ax.set(xlim=(-width / 2, width / 2), ylim=(-height / 2, height / 2))
        ax.set_aspect("equal")
        ax.set_axis_off()
        pen = _Pen(ax, drawing, W, sure, self.kinds_)
        self.nodes_, self.node_labels_ = pen.draw_nodes(labels)
        self.edges_ = {edge: pen.draw_edge(edge) for edge in pen.faint_first()}
        self.edge_labels_ = pen.draw_edge_labels() if edge_labels else {}
        pen.draw_legend()
        pen.fit_to_axes()
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _checked(self):
        W = check_square(self.adjacency, "adjacency")
        truth = sure = None
        if self.true_adjacency is not None:
            truth = check_square(self.true_adjacency, "true_adjacency", W.shape)
        if self.probabilities is not None:
            sure = check_square(self.probabilities, "probabilities", W.shape)
            if sure.min() < 0 or sure.max() > 1:
                raise ValueError(
                    "probabilities must lie between 0 and 1, got values from "
                    f"{sure.min()} to {sure.max()}."
                )
        names = [f"x{j}" for j in range(len(W))] if self.names is None else self.names
        if len(names) != len(W):
            raise ValueError(f"names must have {len(W)} entries, got {len(names)}.")
        return W, truth, sure, [str(name) for name in names]


class _Drawing:
    """A layout in inches at the font's natural size, centred at the origin."""

    def __init__(self, edges, n_nodes, size, rightwards, *, roomy):
        adjacency = np.zeros((n_nodes, n_nodes), dtype=bool)
        for i, j in edges:
            adjacency[i, j] = True
        breadth, depth = size[::-1] if rightwards else size
        dense = len(edges) > _DENSE
        self.size = size
        self.edges = edges
        self.rightwards = rightwards
        self.box = breadth, depth
        self.layout = layered_layout(
            adjacency,
            breadth=breadth,
            depth=depth,
            node_gap=0.14 if dense else 0.5 if roomy else 0.3,
            route_gap=0.07 if dense else 0.2,
            layer_gap=0.5 if dense else 0.85 if roomy else 0.6,
            steepness=0.16 if dense else 0.3,
        )
        points = np.vstack([self.layout.positions, *self.layout.routes.values()])
        self.middle = 0.5 * (points.max(axis=0) + points.min(axis=0))
        low, high = self.to_page(points).min(axis=0), self.to_page(points).max(axis=0)
        self.extent = high - low + np.asarray(size) + 0.2

    def to_page(self, points):
        """From the layout's coordinates to the page's."""
        return self.turn(np.asarray(points) - self.middle)

    def turn(self, vectors):
        """Turn vectors so that layers follow each other in the chosen direction."""
        return -np.asarray(vectors)[..., ::-1] if self.rightwards else np.asarray(vectors)

    def curve(self, edge, head):
        """Bezier vertices, tip and direction of an edge on the page."""
        positions = self.layout.positions
        width, height = self.box
        vertices, tip, direction = edge_curve(
            positions[edge[0]],
            positions[edge[1]],
            self.layout.routes[edge],
            width=width,
            height=height,
            head=head,
        )
        return self.to_page(vertices), self.to_page(tip), self.turn(direction)


class _Pen:
    """Draws nodes, edges, labels and the legend of one display."""

    def __init__(self, ax, drawing, W, sure, kinds):
        self.ax = ax
        self.drawing = drawing
        self.W = W
        self.sure = sure
        self.kinds = kinds
        self.dense = len(drawing.edges) > _DENSE
        self.largest = max((abs(self._weight(edge)) for edge in drawing.edges), default=0.0) or 1.0
        self.curves = {}
        self.lines = []
        self.texts = []

    def draw_nodes(self, labels):
        from matplotlib.patches import FancyBboxPatch

        width, height = self.drawing.size
        radius = corner_radius(width, height)
        linked = {node for edge in self.drawing.edges for node in edge}
        boxes, texts = [], []
        for node, centre in enumerate(self.drawing.to_page(self.drawing.layout.positions)):
            box = FancyBboxPatch(
                centre - np.array([width, height]) / 2,
                width,
                height,
                boxstyle=f"round,pad=0,rounding_size={radius}",
                facecolor=_FILL if node in linked else _LONELY,
                edgecolor=_INK if node in linked else _GREY,
                zorder=4,
            )
            self.ax.add_patch(box)
            self.lines.append((box, 1.0))
            text = self.ax.text(
                *centre, labels[node], ha="center", va="center_baseline" if "\n" not in labels[node]
                else "center", color=_INK, zorder=5, linespacing=1.05,
            )  # fmt: skip
            self.texts.append((text, _FONT_SIZE))
            boxes.append(box)
            texts.append(text)
        return boxes, texts

    def faint_first(self):
        return sorted(self.drawing.edges, key=lambda edge: abs(self._weight(edge)))

    def draw_edge(self, edge):
        from matplotlib import patheffects
        from matplotlib.patches import PathPatch, Polygon
        from matplotlib.path import Path

        colour, style, width = self._look(edge)
        length = (0.075 if self.dense else 0.11) + 0.02 * width
        undirected = self._is_undirected(edge)
        vertices, tip, direction = self.drawing.curve(edge, 0.0 if undirected else 0.82 * length)
        self.curves[edge] = points_on(vertices)
        codes = [Path.MOVETO] + [Path.CURVE4] * (len(vertices) - 1)
        zorder = 2 + 0.5 * abs(self._weight(edge)) / self.largest
        line = PathPatch(
            Path(vertices, codes), fill=False, edgecolor=colour, linestyle=style,
            capstyle="butt", zorder=zorder,
        )  # fmt: skip
        if not self.dense:
            # A white margin shows which of two crossing lines is on top.
            line.set_path_effects(
                [patheffects.Stroke(linewidth=width + 2.0, foreground="white"),
                 patheffects.Normal()]
            )  # fmt: skip
        self.ax.add_patch(line)
        self.lines.append((line, width))
        if not undirected:
            corners = arrow_head(tip, direction, length, 0.8 * length)
            self.ax.add_patch(Polygon(corners, facecolor=colour, lw=0, zorder=zorder + 0.01))
        return line

    def draw_edge_labels(self):
        edges = [edge for edge in self.drawing.edges if self._weight(edge) != 0]
        size = 0.78 * _FONT_SIZE
        words = [self._label(edge) for edge in edges]
        width, height = self.drawing.size
        centres = self.drawing.to_page(self.drawing.layout.positions)
        places = place_labels(
            [self.curves[edge] for edge in edges],
            [_text_size(word, size) + 0.05 for word in words],
            np.column_stack([centres, np.tile([width, height], (len(centres), 1))]),
        )
        labels = {}
        for edge, word, place in zip(edges, words, places):
            colour = self._look(edge, pale=False)[0]
            labels[edge] = self.ax.text(
                *place, word, ha="center", va="center", color=colour, zorder=3.5,
                bbox={"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none",
                      "alpha": 0.9},
            )  # fmt: skip
            self.texts.append((labels[edge], size))
        return labels

    def draw_legend(self):
        from matplotlib.lines import Line2D

        entries = []
        if self.kinds:
            for kind, (colour, style) in _KINDS.items():
                count = sum(k == kind for k in self.kinds.values())
                if count:
                    entries.append((f"{kind} ({count})", colour, style, 2.2))
        else:
            weights = [self._weight(edge) for edge in self.drawing.edges]
            if any(weight > 0 for weight in weights):
                entries.append(("positive", _BLUE, "-", 2.2))
            if any(weight < 0 for weight in weights):
                entries.append(("negative", _VERMILLION, "-", 2.2))
        sizes = {abs(self._weight(edge)) for edge in self.drawing.edges} - {0.0}
        if len(sizes) > 1:
            for value in (min(sizes), max(sizes)):
                share = value / self.largest
                shade = _pale(_INK, share) if not self.kinds else _INK
                entries.append((f"|weight| {value:.2g}", shade, "-", self._line_width(share)))
        if self.sure is not None:
            for share in (0.25, 1.0):
                entries.append((f"{share:.0%} sure", _pale(_INK, share), "-", 2.2))
        if not entries:
            return
        handles = [
            Line2D([], [], color=colour, linestyle=style, linewidth=width, label=label)
            for label, colour, style, width in entries
        ]
        self.ax.legend(
            handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=len(handles),
            frameon=False, fontsize="small", handlelength=2.6, columnspacing=1.4,
        )  # fmt: skip

    def fit_to_axes(self):
        """Scale fonts and lines as the axes scale the nodes."""
        figure = self.ax.figure.get_figure(root=True)
        figure.draw_without_rendering()
        self.ax.apply_aspect()
        width, height = _inches(self.ax)
        scale = min(width / self.drawing.extent[0], height / self.drawing.extent[1])
        for text, size in self.texts:
            text.set_fontsize(scale * size)
        for line, width in self.lines:
            line.set_linewidth(max(scale, 0.5) * width)

    def _weight(self, edge):
        i, j = edge
        return self.W[i, j] if abs(self.W[i, j]) >= abs(self.W[j, i]) else self.W[j, i]

    def _is_undirected(self, edge):
        i, j = edge
        return self.W[i, j] != 0 and self.W[j, i] != 0

    def _line_width(self, share):
        return 0.5 + 1.3 * share if self.dense else 0.9 + 2.1 * share

    def _look(self, edge, *, pale=True):
        """Colour, line style and line width of an edge."""
        weight = self._weight(edge)
        share = abs(weight) / self.largest
        kind = self.kinds.get(edge)
        if kind is None:
            colour, style = (_VERMILLION if weight < 0 else _BLUE), "-"
        else:
            colour, style = _KINDS[kind]
        if pale and kind != "missing":
            if self.sure is not None:
                i, j = edge
                colour = _pale(colour, max(self.sure[i, j], self.sure[j, i] * (self.W[j, i] != 0)))
            elif kind is None:
                colour = _pale(colour, share)
        width = 1.4 if kind == "missing" else self._line_width(share)
        return colour, style, width

    def _label(self, edge):
        word = f"{self._weight(edge):.2f}".replace("-", "\N{MINUS SIGN}")
        if self.sure is not None:
            word += f" ({self.sure[edge]:.0%})"
        return word


def _edges_to_draw(W, truth):
    """Edges, one for a pair in both directions, and how each compares with the truth."""
    present = W != 0
    np.fill_diagonal(present, False)
    pairs = [(int(i), int(j)) for i, j in zip(*np.nonzero(present))]
    shown = [(i, j) for i, j in pairs if i < j or not present[j, i]]
    kinds = {}
    if truth is None:
        return shown, kinds
    for i, j in shown:
        if truth[i, j] or (present[j, i] and truth[j, i]):
            kinds[i, j] = "correct"
        else:
            kinds[i, j] = "reversed" if truth[j, i] else "extra"
    for i, j in zip(*np.nonzero(truth)):
        if i != j and not present[i, j] and not present[j, i] and (int(j), int(i)) not in kinds:
            kinds[int(i), int(j)] = "missing"
    # The learnt edges come first, so that they set the flow of the layout.
    return shown + [edge for edge, kind in kinds.items() if kind == "missing"], kinds


def _best_drawing(edges, n_nodes, size, direction, space, *, roomy):
    """The layout in the direction that fills a space best."""
    choices = {"down": [False], "right": [True], "auto": [False, True]}[direction]
    drawings = [_Drawing(edges, n_nodes, size, choice, roomy=roomy) for choice in choices]
    scales = [min(space[0] / d.extent[0], space[1] / d.extent[1], 1.35) for d in drawings]
    return drawings[int(np.argmax(scales))]


def _pale(colour, share):
    """A colour, nearer to white for a smaller share."""
    from matplotlib.colors import to_rgb

    strength = 0.3 + 0.7 * share
    return tuple(1 - strength * (1 - channel) for channel in to_rgb(colour))


def _wrapped(name):
    """A label in at most three short lines."""
    if len(name) <= 12:
        return name
    lines = textwrap.wrap(name.replace("_", "_ "), 12, break_long_words=False)
    lines = [line.replace("_ ", "_") for line in lines]
    if len(lines) > 3:
        lines = [*lines[:2], lines[2] + "\N{HORIZONTAL ELLIPSIS}"]
    return "\n".join(
        line if len(line) <= 16 else line[:15] + "\N{HORIZONTAL ELLIPSIS}" for line in lines
    )


def _text_size(text, font_size):
    """Width and height of a text in inches."""
    from matplotlib.textpath import TextPath

    lines = text.split("\n")
    width = max(TextPath((0, 0), line or " ", size=font_size).get_extents().width for line in lines)
    return np.array([width, 1.2 * font_size * len(lines)]) / 72


def _node_size(labels):
    """Width and height, in inches, that hold every label."""
    sizes = np.array([_text_size(label, _FONT_SIZE) for label in labels])
    width, height = sizes.max(axis=0) + [0.17, 0.14]
    return np.array([max(width, height), height])


def _inches(ax):
    """Width and height of axes."""
    box = ax.get_window_extent()
    dpi = ax.figure.get_figure(root=True).dpi
    return box.width / dpi, box.height / dpi
