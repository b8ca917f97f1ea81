"""How a laid out graph is put on matplotlib axes: colours, lines, labels and the legend.

Everything is measured in inches at the font's natural size; :meth:`Pen.fit_to_axes` scales
fonts and lines as the axes scale the rest.
"""

import textwrap

import numpy as np

from sparsestat.dag._curves import (
    arrow_head,
    corner_radius,
    edge_curve,
    end_directions,
    meets_a_node,
    place_labels,
    points_on,
)
from sparsestat.dag._layout import place_layers, plan_layers

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
_LABEL_FONT_SIZE = 7.8
_LEGEND_FONT_SIZE = 9.0
LARGEST_SCALE = 1.35
"""Largest magnification of the font."""
_DENSE = 60
"""Number of edges from which lines are drawn thinner and without labels."""


class Drawing:
    """A layout in inches at the font's natural size, centred at the origin."""

    def __init__(self, plan, size, rightwards, label_size):
        across, along = label_size if rightwards else label_size[::-1]
        dense = len(plan.edges) > _DENSE
        self.size = size
        self.rightwards = rightwards
        self.box = breadth, depth = size[::-1] if rightwards else size
        self.layout = place_layers(
            plan,
            breadth=breadth,
            depth=depth,
            node_gap=max(0.14 if dense else 0.3, 0.8 * along),
            route_gap=max(0.07 if dense else 0.2, 0.5 * along),
            layer_gap=max(0.5, 0.4 + 1.4 * across),
            steepness=0.16 if dense else 0.3,
        )
        self.directions = end_directions(self.layout.positions, self.layout.routes, breadth, depth)
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
        breadth, depth = self.box
        positions = self.layout.positions
        for upright in (False, True):
            vertices, tip = edge_curve(
                positions[list(edge)],
                self.layout.routes[edge],
                self.directions[edge],
                breadth=breadth,
                depth=depth,
                head=head,
                upright=upright,
            )
            others = np.delete(positions, edge, axis=0)
            if not meets_a_node(points_on(vertices, 24), others, breadth + 0.04, depth + 0.04):
                break
        return self.to_page(vertices), self.to_page(tip), self.turn(-self.directions[edge][1])


class Pen:
    """Draws nodes, edges, labels and the legend of one display."""

    def __init__(self, edges, W, sure, kinds):
        self.ax = None
        self.drawing = None
        self.edges = edges
        self.W = W
        self.sure = sure
        self.kinds = kinds
        self.dense = len(edges) > _DENSE
        self.largest = max((abs(self._weight(edge)) for edge in edges), default=0.0) or 1.0
        self.curves = {}
        self.lines = []
        self.texts = []

    def draw_nodes(self, labels):
        """Boxes and their labels, one of each for every node."""
        from matplotlib.patches import FancyBboxPatch

        width, height = self.drawing.size
        radius = corner_radius(width, height)
        linked = {node for edge in self.edges for node in edge}
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
                *centre, labels[node], ha="center", color=_INK, zorder=5, linespacing=1.05,
                va="center" if "\n" in labels[node] else "center_baseline",
            )  # fmt: skip
            self.texts.append((text, _FONT_SIZE))
            boxes.append(box)
            texts.append(text)
        return boxes, texts

    def faint_first(self):
        """Edges in the order in which they are drawn."""
        return sorted(self.edges, key=lambda edge: abs(self._weight(edge)))

    def draw_edge(self, edge):
        """The line of an edge; its arrow head is drawn as well."""
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

    def label_size(self):
        """Width and height of the largest label of an edge."""
        words = [self._label(edge) for edge in self._labelled()]
        return np.max([_text_size(word, _LABEL_FONT_SIZE) for word in words] or [(0, 0)], axis=0)

    def draw_edge_labels(self):
        """Weights, by edge; missing edges have none."""
        edges = self._labelled()
        words = [self._label(edge) for edge in edges]
        width, height = self.drawing.size
        centres = self.drawing.to_page(self.drawing.layout.positions)
        places = place_labels(
            [self.curves[edge] for edge in edges],
            [_text_size(word, _LABEL_FONT_SIZE) + 0.05 for word in words],
            np.column_stack([centres, np.tile([width, height], (len(centres), 1))]),
        )
        labels = {}
        for edge, word, place in zip(edges, words, places):
            colour = _INK if self.kinds else self._look(edge, pale=False)[0]
            labels[edge] = self.ax.text(
                *place, word, ha="center", va="center", color=colour, zorder=3.5,
                bbox={"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none",
                      "alpha": 0.9},
            )  # fmt: skip
            self.texts.append((labels[edge], _LABEL_FONT_SIZE))
        return labels

    def draw_legend(self):
        """Explain colours and widths below the axes."""
        from matplotlib.lines import Line2D

        entries = self._legend_entries()
        if not entries:
            return
        handles = [
            Line2D([], [], color=colour, linestyle=style, linewidth=width, label=label)
            for label, colour, style, width in entries
        ]
        n_columns, _ = self.legend_rows(size_in_inches(self.ax)[0])
        self.ax.legend(
            handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=n_columns,
            frameon=False, fontsize=_LEGEND_FONT_SIZE, handlelength=2.6, columnspacing=1.4,
        )  # fmt: skip

    def legend_rows(self, width):
        """Number of columns of the legend that fit into a width, and its height, in inches."""
        labels = [label for label, *_ in self._legend_entries()]
        if not labels:
            return 1, 0.0
        # Beside the words an entry has a line, a space and its share of the margins.
        widest = max(_text_size(label, _LEGEND_FONT_SIZE)[0] for label in labels)
        entry = widest + 4.8 * _LEGEND_FONT_SIZE / 72
        n_columns = int(np.clip(width // entry, 1, len(labels)))
        # Rows of about equal length.
        n_rows = -(-len(labels) // n_columns)
        return -(-len(labels) // n_rows), (1.7 * n_rows + 1.3) * _LEGEND_FONT_SIZE / 72

    def _legend_entries(self):
        """Label, colour, line style and line width of each entry."""
        entries = []
        weights = [self._weight(edge) for edge in self.edges]
        if self.kinds:
            for kind, (colour, style) in _KINDS.items():
                count = sum(k == kind for k in self.kinds.values())
                if count:
                    entries.append((f"{kind} ({count})", colour, style, 2.2))
        else:
            if any(weight > 0 for weight in weights):
                entries.append(("positive", _BLUE, "-", 2.2))
            if any(weight < 0 for weight in weights):
                entries.append(("negative", _VERMILLION, "-", 2.2))
        sizes = {abs(weight) for weight in weights} - {0.0}
        if len(sizes) > 1:
            for value in (min(sizes), max(sizes)):
                share = value / self.largest
                shade = _INK if self.kinds or self.sure is not None else _pale(_INK, share)
                entries.append((f"|weight| {value:.2g}", shade, "-", self._line_width(share)))
        if self.sure is not None:
            for share in (0.25, 1.0):
                entries.append((f"{share:.0%} sure", _pale(_INK, share), "-", 2.2))
        return entries

    def fit_to_axes(self):
        """Scale fonts and lines as the axes scale the nodes."""
        figure = self.ax.figure.get_figure(root=True)
        for text, _ in self.texts:
            # Only now is it known how large they are; meanwhile they must not move the axes.
            text.set_in_layout(False)
        if figure.get_layout_engine() is not None:
            figure.draw_without_rendering()
        self.ax.apply_aspect()
        width, height = size_in_inches(self.ax)
        scale = min(width / self.drawing.extent[0], height / self.drawing.extent[1])
        for text, size in self.texts:
            text.set_fontsize(scale * size)
        for line, width in self.lines:
            line.set_linewidth(max(scale, 0.5) * width)

    def _labelled(self):
        return [edge for edge in self.edges if self._weight(edge) != 0]

    def _weight(self, edge):
        i, j = edge
        return self.W[i, j] if abs(self.W[i, j]) >= abs(self.W[j, i]) else self.W[j, i]

    def _certainty(self, edge):
        turned = edge[::-1]
        return max(self.sure[edge], self.sure[turned]) if self.W[turned] else self.sure[edge]

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
                colour = _pale(colour, self._certainty(edge))
            elif kind is None:
                colour = _pale(colour, share)
        width = 1.4 if kind == "missing" else self._line_width(share)
        return colour, style, width

    def _label(self, edge):
        word = f"{self._weight(edge):.2f}".replace("-", "\N{MINUS SIGN}")
        if self.sure is not None:
            word += f" ({self._certainty(edge):.0%})"
        return word


def best_drawing(edges, n_nodes, size, direction, space, label_size):
    """The layout in the direction that fills a space best."""
    plan = plan_layers(edges, n_nodes)
    choices = {"down": [False], "right": [True], "auto": [False, True]}[direction]
    drawings = [Drawing(plan, size, choice, label_size) for choice in choices]
    scales = [min(space[0] / d.extent[0], space[1] / d.extent[1], LARGEST_SCALE) for d in drawings]
    return drawings[int(np.argmax(scales))]


def _pale(colour, share):
    """A colour, nearer to white for a smaller share."""
    from matplotlib.colors import to_rgb

    strength = 0.3 + 0.7 * share
    return tuple(1 - strength * (1 - channel) for channel in to_rgb(colour))


def wrapped(name):
    """A label in at most three short lines; formulas are left alone."""
    if len(name) <= 12 or "$" in name:
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


def node_size(labels):
    """Width and height, in inches, that hold every label."""
    sizes = np.array([_text_size(label, _FONT_SIZE) for label in labels])
    width, height = sizes.max(axis=0) + [0.17, 0.14]
    return np.array([max(width, height), height])


def size_in_inches(ax):
    """Width and height of axes."""
    box = ax.get_window_extent()
    dpi = ax.figure.get_figure(root=True).dpi
    return box.width / dpi, box.height / dpi
