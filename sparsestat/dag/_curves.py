"""Geometry of a drawing: outlines of nodes, curves of edges, places for labels."""

import numpy as np

_MAX_ANGLE = np.deg2rad(52.0)
"""Largest angle to the vertical at which an edge leaves or reaches a node."""


def border_distance(width, height, direction):
    """Distance from the centre of a rounded box to its border.

    Parameters
    ----------
    width, height : float
        Size of the box, whose corners are rounded with radius
        :func:`corner_radius`.
    direction : ndarray of shape (2,)
        Unit vector.

    Returns
    -------
    distance : float
        Positive.
    """
    radius = corner_radius(width, height)
    core = np.array([width, height]) / 2 - radius
    low, high = 0.0, width + height
    for _ in range(50):
        middle = 0.5 * (low + high)
        outside = np.maximum(np.abs(middle * direction) - core, 0.0)
        if np.hypot(*outside) < radius:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def corner_radius(width, height):
    """Radius of the corners of a box: that of a circle or stadium if it is low enough.

    Parameters
    ----------
    width, height : float
        Size of the box, in inches.

    Returns
    -------
    radius : float
        In inches.
    """
    return min(width, height, 0.5) / 2


def edge_curve(start, end, between, *, width, height, head, gap=0.015):
    """A smooth curve from the border of one node to that of another.

    Parameters
    ----------
    start, end : ndarray of shape (2,)
        Centres of the nodes; the one with the larger y may be either.
    between : ndarray of shape (n_points, 2)
        Points on the layers in between.
    width, height : float
        Size of the nodes.
    head : float
        Length of the arrow head, before which the curve ends.
    gap : float, default=0.015
        Space between the tip and the node.

    Returns
    -------
    vertices : ndarray of shape (3 * n_pieces + 1, 2)
        Knots and control points of cubic Bezier pieces.
    tip : ndarray of shape (2,)
        Where the arrow head ends.
    direction : ndarray of shape (2,)
        Unit vector in which the head points.
    """
    down = 1.0 if start[1] > end[1] else -1.0
    band = 0.5 * height * down
    passes = np.repeat(between, 2, axis=0)
    passes[0::2, 1] += band
    passes[1::2, 1] -= band
    leave = _direction((passes[0] if len(passes) else end) - start, down)
    arrive = _direction(end - (passes[-1] if len(passes) else start), down)
    first = start + leave * border_distance(width, height, leave)
    tip = end - arrive * (border_distance(width, height, arrive) + gap)
    knots = np.vstack([first, passes, tip - head * arrive])
    steps = np.diff(knots, axis=0)
    lengths = np.hypot(*steps.T)
    tangents = np.empty_like(knots)
    tangents[0], tangents[-1] = leave, arrive
    for k in range(1, len(knots) - 1):
        # Steep where it passes a layer, so that it keeps clear of the nodes beside it.
        blend = steps[k - 1] / max(lengths[k - 1], 1e-12) + steps[k] / max(lengths[k], 1e-12)
        tangents[k] = _direction(blend, down, limit=np.deg2rad(35.0))
    vertices = [knots[:1]]
    for k, length in enumerate(lengths):
        reach = length / 3
        vertices.append(
            [
                knots[k] + reach * tangents[k],
                knots[k + 1] - reach * tangents[k + 1],
                knots[k + 1],
            ]
        )
    return np.vstack(vertices), tip, arrive


def arrow_head(tip, direction, length, width):
    """Corners of a slightly notched triangle.

    Parameters
    ----------
    tip, direction : ndarray of shape (2,)
        Where it ends, and the unit vector in which it points.
    length, width : float
        Size.

    Returns
    -------
    corners : ndarray of shape (4, 2)
        In order.
    """
    aside = 0.5 * width * np.array([-direction[1], direction[0]])
    back = tip - length * direction
    return np.array([tip, back + aside, back + 0.18 * length * direction, back - aside])


def points_on(vertices, n_per_piece=12):
    """Points on a curve of cubic Bezier pieces.

    Parameters
    ----------
    vertices : ndarray of shape (3 * n_pieces + 1, 2)
        Knots and control points.
    n_per_piece : int, default=12
        Number of points on each piece.

    Returns
    -------
    points : ndarray of shape (n_pieces * n_per_piece, 2)
        Equidistant in the parameter of each piece.
    """
    t = (np.arange(n_per_piece) + 0.5)[:, None] / n_per_piece
    pieces = []
    for k in range(0, len(vertices) - 1, 3):
        a, b, c, d = vertices[k : k + 4]
        pieces.append(
            (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d
        )
    return np.vstack(pieces)


def place_labels(curves, sizes, boxes):
    """Places on curves where labels cover little else.

    Parameters
    ----------
    curves : list of ndarray of shape (n_points, 2)
        Points on the curve that each label belongs to.
    sizes : list of (float, float)
        Width and height of each label.
    boxes : ndarray of shape (n_boxes, 4)
        What must not be covered: centre, width and height of the nodes.

    Returns
    -------
    centres : ndarray of shape (n_labels, 2)
        One point of each curve.
    """
    centres = np.empty((len(curves), 2))
    taken = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    everything = [np.empty((0, 2)), *curves]
    owner = np.repeat(np.arange(len(everything)) - 1, [len(curve) for curve in everything])
    everything = np.vstack(everything)
    # Short curves have the fewest places to choose from.
    for k in sorted(range(len(curves)), key=lambda k: len(curves[k])):
        curve, size = curves[k], np.asarray(sizes[k])
        along = np.linspace(0.0, 1.0, len(curve))
        others = everything[owner != k]
        cost = np.abs(along - 0.45)
        for m, point in enumerate(curve):
            room = np.abs(taken[:, :2] - point) < (taken[:, 2:] + size) / 2
            crossed = np.all(np.abs(others - point) < size / 2, axis=1)
            cost[m] += 100.0 * np.count_nonzero(room.all(axis=1))
            cost[m] += 0.4 * np.count_nonzero(crossed)
        centres[k] = curve[np.argmin(cost)]
        taken = np.vstack([taken, [*centres[k], *size]])
    return centres


def _direction(vector, down, limit=_MAX_ANGLE):
    """Unit vector nearest to a given one that is close enough to the flow."""
    angle = np.clip(np.arctan2(vector[0], -down * vector[1]), -limit, limit)
    return np.array([np.sin(angle), -down * np.cos(angle)])
