"""Display of a directed graph in layers."""

import numpy as np

from sparsestat.dag._graph import check_adjacency
from sparsestat.dag._pen import (
    LARGEST_SCALE,
    Pen,
    best_drawing,
    node_size,
    size_in_inches,
    wrapped,
)
from sparsestat.utils._validation import check_fitted_step

_WIDEST, _TALLEST = 13.0, 8.5
_NARROWEST = 4.0


def check_has_graph(estimator):
    """Refuse what has no graph to plot, with advice."""
    check_fitted_step(estimator, "graph")
    if not hasattr(estimator, "adjacency_"):
        raise TypeError(
            f"{type(estimator).__name__} has no adjacency_; fit CoLiDE, or use "
            "DAGDisplay.from_adjacency."
        )


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
        labels = [wrapped(name) for name in names]
        size = node_size(labels)
        space = (_WIDEST, _TALLEST) if ax is None else size_in_inches(ax)
        pen = Pen(shown, W, sure, self.kinds_)
        room = pen.label_size() if edge_labels else np.zeros(2)
        drawing = pen.drawing = best_drawing(shown, len(W), size, direction, space, room)
        self.layout_ = drawing.layout
        width, height = drawing.extent
        if ax is None:
            # The space below is for the legend, which stands outside the axes.
            scale = min(_WIDEST / width, _TALLEST / height, LARGEST_SCALE)
            page = np.array([max(scale * width, _NARROWEST), scale * height])
            _, below = pen.legend_rows(page[0])
            figure = plt.figure(figsize=(page[0], page[1] + below))
            ax = figure.add_axes((0, below / (page[1] + below), 1, page[1] / (page[1] + below)))
        ax.set(xlim=(-width / 2, width / 2), ylim=(-height / 2, height / 2))
        ax.set_aspect("equal")
        ax.set_axis_off()
        pen.ax = ax
        self.nodes_, self.node_labels_ = pen.draw_nodes(labels)
        self.edges_ = {edge: pen.draw_edge(edge) for edge in pen.faint_first()}
        self.edge_labels_ = pen.draw_edge_labels() if edge_labels else {}
        pen.draw_legend()
        pen.fit_to_axes()
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _checked(self):
        W = check_adjacency(self.adjacency, "adjacency")
        truth = sure = None
        if self.true_adjacency is not None:
            truth = check_adjacency(self.true_adjacency, "true_adjacency")
            if truth.shape != W.shape:
                raise ValueError(
                    f"true_adjacency must have shape {W.shape} like adjacency, got {truth.shape}."
                )
        if self.probabilities is not None:
            sure = np.asarray(self.probabilities, dtype=np.float64)
            if sure.shape != W.shape:
                raise ValueError(
                    f"probabilities must have shape {W.shape} like adjacency, got {sure.shape}."
                )
            outside = ~((sure >= 0) & (sure <= 1))
            if outside.any():
                raise ValueError(f"probabilities must lie between 0 and 1, got {sure[outside][0]}.")
        names = [f"x{j}" for j in range(len(W))] if self.names is None else self.names
        if len(names) != len(W):
            raise ValueError(f"names must have {len(W)} entries, got {len(names)}.")
        return W, truth, sure, [str(name) for name in names]


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
