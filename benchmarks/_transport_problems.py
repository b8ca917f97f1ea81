"""Transport problems, and the one function that says how accurate an answer is."""

from typing import NamedTuple

import numpy as np

_BLOCK = 256
# What rounding leaves between two plans that are the same.
_FLOOR = 1e-9


class Problem(NamedTuple):
    """An entropic transport problem with stored costs.

    Parameters
    ----------
    cost : ndarray of shape (n, m) or (n_problems, n, m)
    a, b : ndarray of shape (..., n) and (..., m)
        Masses of the rows and of the columns.
    epsilon : float
        The weight of the entropy: of all plans with these masses the one wanted has the least
        <C, P> + epsilon KL(P | ab').
    """

    cost: np.ndarray
    a: np.ndarray
    b: np.ndarray
    epsilon: float


class Points(NamedTuple):
    """A problem whose costs are the squared distances of points, which nobody stores.

    Parameters
    ----------
    X, Y : ndarray of shape (n, d) and (m, d)
    a, b : ndarray of shape (n,) and (m,)
    epsilon : float
    """

    X: np.ndarray
    Y: np.ndarray
    a: np.ndarray
    b: np.ndarray
    epsilon: float


class Potentials(NamedTuple):
    """An answer P_ij = a_i b_j exp((f_i + g_j - C_ij) / epsilon).

    Parameters
    ----------
    f, g : ndarray of shape (..., n) and (..., m)
    """

    f: np.ndarray
    g: np.ndarray


class Unregularised(NamedTuple):
    """A plan of the problem without entropy.

    Parameters
    ----------
    plan : ndarray of shape (n, m)
    """

    plan: np.ndarray


# --------------------------------------------------------------------------- data


def _uniform(*shape):
    return np.full(shape, 1 / shape[-1])


def gaussian_points(n, random_state=0):
    """Draw two clouds of points in the plane, the second one sheared and moved.

    Returns
    -------
    X, Y : ndarray of shape (n, 2)
    """
    rng = np.random.default_rng(random_state)
    X = rng.standard_normal((n, 2))
    Y = rng.standard_normal((n, 2)) @ np.array([[1.0, 0.6], [0.0, 0.8]]) + 1
    return X, Y


def _squared_distances(X, Y):
    return np.square(X[:, None] - Y[None]).sum(axis=-1)


def gaussian(n, eta, random_state=0):
    """Return the transport between two clouds, with costs of at most one.

    Parameters
    ----------
    n : int
    eta : float
        1 / epsilon.
    random_state : int

    Returns
    -------
    Problem
    """
    cost = _squared_distances(*gaussian_points(n, random_state))
    return Problem(cost / cost.max(), _uniform(n), _uniform(n), 1 / eta)


def gaussian_batch(n_problems, n, eta):
    """Return one problem for each of the seeds 0, 1, ... as a batch."""
    cost = np.stack([gaussian(n, eta, seed).cost for seed in range(n_problems)])
    return Problem(cost, _uniform(n_problems, n), _uniform(n_problems, n), 1 / eta)


def gaussian_clouds(n, eta):
    """Return the clouds themselves, scaled to distances of at most one."""
    X, Y = gaussian_points(n)
    centre = np.vstack([X, Y]).mean(axis=0)
    # Twice the largest distance to any point bounds every distance, without a matrix.
    radius = 2 * np.sqrt(max(np.square(Z - centre).sum(axis=1).max() for Z in (X, Y)))
    return Points(X / radius, Y / radius, _uniform(n), _uniform(n), 1 / eta)


def assignment(n, eta):
    """Return a random assignment problem: costs uniform between zero and one."""
    cost = np.random.default_rng(0).random((n, n))
    return Problem(cost, _uniform(n), _uniform(n), 1 / eta)


def digits(norm, eta, side=28):
    """Return the transport between a zero and a three, both drawn on a grid.

    Parameters
    ----------
    norm : {1, 2}
        Costs are distances of pixels by the sum of coordinates, or their squared Euclidean
        distances; the largest is one.
    eta : float
    side : int
        Pixels of a side.

    Returns
    -------
    Problem
    """
    from scipy.ndimage import zoom
    from sklearn.datasets import load_digits

    images = load_digits().images

    def density(image):
        ink = zoom(image, side / len(image), order=1) / 16 + 0.01
        return ink.ravel() / ink.sum()

    ticks = np.linspace(0, 1, side)
    pixels = np.stack(np.meshgrid(ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 2)
    steps = np.abs(pixels[:, None] - pixels[None])
    cost = (steps if norm == 1 else np.square(steps)).sum(axis=-1)
    return Problem(cost / cost.max(), density(images[0]), density(images[3]), 1 / eta)


# --------------------------------------------------------------------------- accuracy


def _rows(problem, rows):
    if isinstance(problem, Points):
        return _squared_distances(problem.X[rows], problem.Y)
    return problem.cost[rows]


def _log_plan(problem, potentials, rows):
    exponents = potentials.f[rows, None] + potentials.g - _rows(problem, rows)
    return exponents / problem.epsilon + np.log(problem.a[rows])[:, None] + np.log(problem.b)


def _blocks(problem):
    n = len(problem.a)
    return [slice(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK)]


def marginal_error(problem, answer):
    """Return |P1 - a|_1 + |P'1 - b|_1 in double precision; of a batch the largest.

    Parameters
    ----------
    problem : Problem or Points
    answer : ndarray, Potentials or Unregularised
        A plan, or what it is made of.

    Returns
    -------
    float
    """
    if problem.a.ndim == 2:
        singles = (Problem(*parts, problem.epsilon) for parts in zip(*problem[:3]))
        answers = map(Potentials, *answer) if isinstance(answer, Potentials) else answer
        return max(map(marginal_error, singles, answers))
    if isinstance(answer, Unregularised):
        answer = answer.plan
    error, columns = 0.0, np.zeros(len(problem.b))
    for rows in _blocks(problem):
        if isinstance(answer, Potentials):
            block = np.exp(_log_plan(problem, answer, rows))
        else:
            block = np.asarray(answer[rows], dtype=float)
        error += np.abs(block.sum(axis=1) - problem.a[rows]).sum()
        columns += block.sum(axis=0)
    return float(error + np.abs(columns - problem.b).sum())


def distance_to(problem, plan, reference):
    """Return the Kullback-Leibler divergence of a plan from the one that potentials make."""
    from scipy.special import xlogy

    total = 0.0
    for rows in _blocks(problem):
        block, logs = plan[rows], _log_plan(problem, reference, rows)
        total += (xlogy(block, block) - block * logs - block + np.exp(logs)).sum()
    return float(total)


def accuracy_of(problem, reference=None):
    """Return the accuracy function of a race: the marginal error of a plan of this problem.

    Any plan with the right masses has no marginal error, so an accurate one is also compared
    with the reference. Two plans that are diagonal scalings of the same kernel differ by a
    divergence of at most the inner product of the differences of their logarithmic scalings and
    of their marginals. Scalings of a solution vary by no more than the range of the costs over
    epsilon; a factor of ten leaves room for solvers that stop before theirs do.

    Parameters
    ----------
    problem : Problem or Points
    reference : callable or None
        Returns the Potentials of an independent solution; called at most once.

    Returns
    -------
    callable
        Maps an answer to its marginal error; raises AssertionError where an accurate plan is
        that of another problem.
    """
    known = []

    def accuracy(answer):
        error = marginal_error(problem, answer)
        if reference is None or not isinstance(answer, np.ndarray) or not error <= 1e-6:
            return error
        if not known:
            known.append(reference())
        allowed = 10 * np.ptp(problem.cost) / problem.epsilon * error + _FLOOR
        found = distance_to(problem, answer, known[0])
        if not found <= allowed:
            raise AssertionError(
                f"a plan with marginal error {error:.1e} has a divergence of {found:.1e} from the "
                f"solution, where {allowed:.1e} is the most that this error allows"
            )
        return error

    return accuracy
