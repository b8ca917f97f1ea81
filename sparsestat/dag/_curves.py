"""Geometry of a drawing: outlines of nodes, curves of edges, places for labels."""

import numpy as np
from scipy.optimize import isotonic_regression

_STEEPEST = np.deg2rad(52.0)
_APART = np.deg2rad(13.0)
_PASSING = np.deg2rad(40.0)
_BESIDE = np.deg2rad(10.0)


def end_directions(positions, routes, breadth, depth):
    """Directions in which edges leave the nodes at both of their ends.

    Each looks towards the next point of its edge, but not so flatly that it would leave
    through the side of the node and meet a neighbour, and edges at the same side of a
    node are kept apart: the nearest such angles in the sense of least squares.

    Parameters
    ----------
    positions : ndarray of shape (n_nodes, 2)
        Centres of the nodes.
    routes : dict of (int, int) to ndarray of shape (n_points, 2)
        Points between the ends of each edge.
    breadth, depth : float
        Horizontal and vertical size of a node.

    Returns
    -------
    directions : dict of (int, int) to ndarray of shape (2, 2)
        For each edge the unit vectors away from the source and away from the target.
    """
    limit = min(_STEEPEST, np.arctan2(breadth, depth))
    directions = {edge: np.empty((2, 2)) for edge in routes}
    at_side = {}
    for edge, between in routes.items():
        ends = positions[list(edge)]
        following = (between[[0, -1]] if len(between) else ends[::-1]) - ends
        for k in range(2):
            side = np.sign(following[k, 1])
            angle = np.arctan2(following[k, 0], abs(following[k, 1]))
            at_side.setdefault((edge[k], side), []).append((angle, edge, k))
    for (_, side), leaving in at_side.items():
        leaving.sort()
        angles = _spread(np.array([angle for angle, _, _ in leaving]), limit)
        for angle, (_, edge, k) in zip(angles, leaving):
            directions[edge][k] = np.sin(angle), side * np.cos(angle)
    return directions


def _spread(angles, limit):
    """The nearest angles that are apart from each other and within a limit."""
    step = min(_APART, 2 * limit / max(angles.size - 1, 1))
    offset = step * np.arange(angles.size)
    return np.clip(isotonic_regression(angles - offset).x, -limit, limit - offset[-1]) + offset


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


def edge_curve(ends, between, directions, *, breadth, depth, head, upright=False, gap=0.015):
    """A smooth curve from the border of one node to that of another.

    Parameters
    ----------
    ends : ndarray of shape (2, 2)
        Centres of the nodes; either may have the larger y.
    between : ndarray of shape (n_points, 2)
        Points on the layers in between.
    directions : ndarray of shape (2, 2)
        Unit vectors in which the curve goes away from either end.
    breadth, depth : float
        Horizontal and vertical size of the nodes, in inches.
    head : float
        Length of the arrow head, before which the curve ends.
    upright : bool, default=False
        Whether the curve passes the whole depth of each layer along the flow, so that it
        keeps clear of the nodes beside it, rather than as smoothly as it can.
    gap : float, default=0.015
        Space between the tip and the node.

    Returns
    -------
    vertices : ndarray of shape (3 * n_pieces + 1, 2)
        Knots and control points of cubic Bezier pieces.
    tip : ndarray of shape (2,)
        Where the arrow head ends.
    """
    start, end = ends
    away, back = directions
    first = start + away * border_distance(breadth, depth, away)
    tip = end + back * (border_distance(breadth, depth, back) + gap)
    flow = np.array([0.0, np.sign(end[1] - start[1])])
    passes, largest = between, _PASSING
    if upright:
        passes, largest = np.repeat(between, 2, axis=0), _BESIDE
        passes[0::2] -= 0.5 * depth * flow
        passes[1::2] += 0.5 * depth * flow
    knots = np.vstack([first, passes, tip + head * back])
    steps = np.diff(knots, axis=0)
    lengths = np.hypot(*steps.T)
    units = steps / np.maximum(lengths, 1e-12)[:, None]
    passing = [_near(unit, flow, largest) for unit in units[:-1] + units[1:]]
    tangents = [away, *passing, -back]
    vertices = [first]
    for k, length in enumerate(lengths):
        # A piece lies in the hull of its control points, which must not overshoot its ends.
        height = abs(steps[k, 1])
        reach = [min(length / 3, 0.9 * height / abs(t[1])) for t in tangents[k : k + 2]]
        vertices += [
            knots[k] + reach[0] * tangents[k],
            knots[k + 1] - reach[1] * tangents[k + 1],
            knots[k + 1],
        ]
    return np.vstack(vertices), tip


def meets_a_node(points, centres, breadth, depth):
    """Whether some points lie in the boxes of nodes.

    Parameters
    ----------
    points : ndarray of shape (n_points, 2)
        Points on a curve.
    centres : ndarray of shape (n_nodes, 2)
        Centres of the nodes, without those that the curve joins.
    breadth, depth : float
        Horizontal and vertical size of the nodes.

    Returns
    -------
    meets : bool
        True if at least one does.
    """
    away = np.abs(points[:, None] - centres) - np.array([breadth, depth]) / 2
    return bool(np.any(np.all(away < 0, axis=2)))


def _near(vector, flow, largest):
    """Unit vector along a given one, or at the largest angle to the flow that is allowed."""
    angle = np.clip(np.arctan2(vector[0], vector[1] * flow[1]), -largest, largest)
    return np.array([np.sin(angle), flow[1] * np.cos(angle)])


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
        # Near its end a label would hide the arrow head.
        cost = np.abs(along - 0.45) + 2.0 * (along > 0.75) + 2.0 * (along < 0.1)
        for m, point in enumerate(curve):
            room = np.abs(taken[:, :2] - point) < (taken[:, 2:] + size) / 2
            crossed = np.all(np.abs(others - point) < size / 2, axis=1)
            cost[m] += 100.0 * np.count_nonzero(room.all(axis=1))
            cost[m] += 0.4 * np.count_nonzero(crossed)
        centres[k] = curve[np.argmin(cost)]
        taken = np.vstack([taken, [*centres[k], *size]])
    return centres
