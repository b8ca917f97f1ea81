r"""Dimension and equations of a linear structural equation model, computed modulo a prime.

Both come from the parametrisation :math:`\Sigma = (I - \Lambda)^{-T} \Omega (I - \Lambda)^{-1}`
at random points: the dimension is the rank of its derivative, and a polynomial vanishes on the
model if it vanishes at as many points as there are monomials. Residues make both exact.

Rescaling the variables by c turns :math:`\sigma_{ij}` into :math:`c_i c_j \sigma_{ij}` and stays
in the model. If a polynomial vanishes on the model, each of its parts with given exponents of the
:math:`c_i` therefore does too, so that small systems of equations suffice.
"""

import itertools
import math
from numbers import Integral
from typing import NamedTuple

import numpy as np

from sparsestat.dag._covariance_algebra import check_graph
from sparsestat.utils._random import as_generator
from sparsestat.utils._sklearn import Interval, validate_params

_PRIME = 2**31 - 1
_MAX_MONOMIALS = 3000
_EXTRA_POINTS = 5


class CovariancePolynomial(NamedTuple):
    """A homogeneous polynomial with integer coefficients in the entries of a covariance.

    Attributes
    ----------
    terms : tuple of (int, tuple of (int, int))
        The coefficient of each monomial, and the pairs (i, j), i <= j, of its factors.

    Examples
    --------
    Two effects of one cause are independent given the cause:

    >>> from sparsestat.dag import vanishing_polynomials
    >>> (polynomial,) = vanishing_polynomials([[0, 1, 1], [0, 0, 0], [0, 0, 0]])
    >>> print(polynomial)
    s01*s02 - s00*s12
    >>> polynomial.evaluate([[1, 2, 3], [2, 5, 6], [3, 6, 9]])
    np.int64(0)
    """

    terms: tuple[tuple[int, tuple[tuple[int, int], ...]], ...]

    def __str__(self):
        text = ""
        for coefficient, factors in self.terms:
            sign = "-" if coefficient < 0 else "+"
            text += f" {sign} " if text else sign.strip("+")
            if abs(coefficient) != 1:
                text += f"{abs(coefficient)}*"
            text += "*".join(_power(factor, factors.count(factor)) for factor in _unique(factors))
        return text

    def evaluate(self, covariance):
        """Evaluate the polynomial.

        Parameters
        ----------
        covariance : array-like of shape (..., n_nodes, n_nodes)
            One covariance, or several.

        Returns
        -------
        value : number or ndarray of shape (...)
            The value at each covariance, in the arithmetic of its entries.
        """
        covariance = np.asarray(covariance)
        return sum(
            coefficient * math.prod(covariance[..., i, j] for i, j in factors)
            for coefficient, factors in self.terms
        )


@validate_params(
    {
        "directed": ["array-like"],
        "bidirected": ["array-like", None],
        "random_state": ["random_state", np.random.Generator],
    },
    prefer_skip_nested_validation=True,
)
def generic_rank(directed, bidirected=None, *, random_state=0):
    """Dimension of a linear structural equation model.

    It is the rank of the derivative of the covariance with respect to the parameters: the
    weights of the directed and bidirected edges, and the variances of the noise. If it equals
    their number, which is ``n_nodes`` plus the number of edges, the parameters are generically
    finite-to-one; if it is smaller, they are not identified.

    Parameters
    ----------
    directed : array-like of shape (n_nodes, n_nodes)
        Entry (i, j), if not zero, is the edge from i to j, and one on the diagonal a loop.
    bidirected : array-like of shape (n_nodes, n_nodes), default=None
        A symmetric matrix whose entries beside the diagonal, if not zero, are bidirected
        edges; None for none.
    random_state : int, RandomState instance, Generator or None, default=0
        Where the random point comes from.

    Returns
    -------
    rank : int
        The rank at almost every point.

    Raises
    ------
    ValueError
        If a matrix is not square, the shapes differ or `bidirected` is not symmetric.

    See Also
    --------
    is_simple_mixed_graph : A sufficient condition for a full rank.
    vanishing_polynomials : The equations of the model.

    Notes
    -----
    The rank is computed at a random point modulo the prime ``p = 2**31 - 1``, without rounding.
    It is never above the generic rank, and below it with a probability of the order of
    ``n_nodes * rank / p``, by the Schwartz-Zippel lemma.

    References
    ----------
    B. Adhikari, E. Gross, M. Harkonen and E. Tsigaridas (2022). One-connection rule for
    structural equation models. arXiv:2210.00239.

    Examples
    --------
    A cycle of three vertices has 6 parameters, one of two vertices has 4:

    >>> from sparsestat.dag import generic_rank
    >>> generic_rank([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    6
    >>> generic_rank([[0, 1], [1, 0]])
    3
    """
    directed, bidirected = check_graph(directed, bidirected)
    inverse, covariance = _random_point(directed, bidirected, as_generator(random_state))
    rows, columns = np.triu_indices(len(directed))
    # d Sigma = inverse' dLambda' Sigma + Sigma dLambda inverse + inverse' dOmega inverse
    derivatives = [
        covariance[rows, i] * inverse[j, columns] % _PRIME
        + inverse[j, rows] * covariance[i, columns] % _PRIME
        for i, j in np.argwhere(directed)
    ]
    for i, j in np.argwhere(np.triu(bidirected, 1)):
        one, other = inverse[i], inverse[j]
        derivatives.append(
            one[rows] * other[columns] % _PRIME + other[rows] * one[columns] % _PRIME
        )
    derivatives += [row[rows] * row[columns] % _PRIME for row in inverse]
    return len(_reduce(np.array(derivatives) % _PRIME)[1])


@validate_params(
    {
        "directed": ["array-like"],
        "bidirected": ["array-like", None],
        "degree": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state", np.random.Generator],
    },
    prefer_skip_nested_validation=True,
)
def vanishing_polynomials(directed, bidirected=None, degree=2, *, random_state=0):
    r"""Find all polynomials of one degree that vanish on the covariances of a model.

    They are the model's equality constraints, such as vanishing partial correlations and
    tetrads: a sample covariance far from satisfying them speaks against the graph.

    Parameters
    ----------
    directed : array-like of shape (n_nodes, n_nodes)
        Entry (i, j), if not zero, is the edge from i to j, and one on the diagonal a loop.
    bidirected : array-like of shape (n_nodes, n_nodes), default=None
        A symmetric matrix whose entries beside the diagonal, if not zero, are bidirected
        edges; None for none.
    degree : int, default=2
        Degree of the polynomials.
    random_state : int, RandomState instance, Generator or None, default=0
        Where the random points come from.

    Returns
    -------
    polynomials : list of CovariancePolynomial
        A basis of all such polynomials, as a vector space. Each has primitive integer
        coefficients in its attribute ``terms``, prints as a formula in which ``s02`` is the
        covariance of the vertices 0 and 2, and has a method ``evaluate(covariance)``.

    Raises
    ------
    ValueError
        If a matrix is not square, the shapes differ, `bidirected` is not symmetric, or there
        are more than 3000 monomials of that degree.
    OverflowError
        If coefficients have more than about five digits, so that they cannot be found modulo
        the prime.

    See Also
    --------
    generic_rank : The dimension of the model.

    Notes
    -----
    The monomials are evaluated at random parameters modulo the prime ``p = 2**31 - 1``, at
    five more points than there are monomials; the null space of that matrix is the answer.
    It has a vector too many with a probability below ``2 * n_nodes * degree * r / p``, where
    r is the number of linearly independent monomials on the model. For r monomials at r
    points have a determinant that, times powers of ``det(I - Lambda)``, is a polynomial of
    at most degree ``2 * n_nodes * degree * r`` in the parameters, and the Schwartz-Zippel
    lemma bounds how often it is zero.

    Monomials in which a vertex occurs a different number of times are never mixed: when the
    variables are rescaled, the parts of a polynomial scale differently, so that each vanishes
    alone. Integers are recovered from residues as fractions with small numerator and
    denominator.

    References
    ----------
    B. Adhikari, E. Gross, M. Harkonen and E. Tsigaridas (2022). One-connection rule for
    structural equation models. arXiv:2210.00239.

    Examples
    --------
    In a chain the ends are independent given the middle:

    >>> from sparsestat.dag import vanishing_polynomials
    >>> (polynomial,) = vanishing_polynomials([[0, 1, 0], [0, 0, 1], [0, 0, 0]])
    >>> print(polynomial)
    s02*s11 - s01*s12
    >>> polynomial.evaluate([[1.0, 0.5, 0.25], [0.5, 1.0, 0.5], [0.25, 0.5, 1.0]])
    np.float64(0.0)
    """
    directed, bidirected = check_graph(directed, bidirected)
    groups = _monomials_by_vertices(len(directed), degree)
    rng = as_generator(random_state)
    n_points = max(map(len, groups)) + _EXTRA_POINTS
    points = np.array([_random_point(directed, bidirected, rng)[1] for _ in range(n_points)])
    found = []
    for monomials in groups:
        values = np.ones((len(monomials) + _EXTRA_POINTS, len(monomials)), dtype=np.int64)
        for column, monomial in enumerate(monomials):
            for i, j in monomial:
                values[:, column] = values[:, column] * points[: len(values), i, j] % _PRIME
        found += [_polynomial(residues, monomials) for residues in _null_space(values)]
    return found


# --------------------------------------------------------------------------- modulo a prime


def _random_point(directed, bidirected, rng):
    """The inverse of I - Lambda and the covariance at random parameters, mod p."""
    n_nodes = len(directed)
    omega = np.triu(rng.integers(1, _PRIME, directed.shape)) * np.triu(bidirected, 1)
    omega = omega + omega.T + np.diag(rng.integers(1, _PRIME, n_nodes))
    while True:
        weights = np.where(directed, rng.integers(1, _PRIME, directed.shape), 0)
        identity = np.eye(n_nodes, dtype=np.int64)
        reduced, pivots = _reduce(np.hstack([(identity - weights) % _PRIME, identity]))
        if pivots == list(range(n_nodes)):
            inverse = reduced[:, n_nodes:]
            return inverse, _multiply(_multiply(inverse.T, omega), inverse)


def _multiply(A, B):
    """Product mod p; a sum of products of residues would overflow."""
    product = np.zeros((A.shape[0], B.shape[1]), dtype=np.int64)
    for column, row in zip(A.T, B):
        product = (product + np.outer(column, row)) % _PRIME
    return product


def _reduce(matrix):
    """Reduced row echelon form mod p without zero rows, and its pivot columns."""
    matrix, pivots = matrix.copy(), []
    for column in range(matrix.shape[1]):
        below = np.flatnonzero(matrix[len(pivots) :, column])
        if not below.size:
            continue
        row, other = len(pivots), len(pivots) + below[0]
        matrix[[row, other]] = matrix[[other, row]]
        matrix[row] = matrix[row] * pow(int(matrix[row, column]), -1, _PRIME) % _PRIME
        factors = matrix[:, column].copy()
        factors[row] = 0
        matrix = (matrix - np.outer(factors, matrix[row]) % _PRIME) % _PRIME
        pivots.append(column)
        if len(pivots) == len(matrix):
            break
    return matrix[: len(pivots)], pivots


def _null_space(matrix):
    """A basis of the null space mod p, one vector for each column without a pivot."""
    reduced, pivots = _reduce(matrix)
    for free in sorted(set(range(matrix.shape[1])) - set(pivots)):
        vector = np.zeros(matrix.shape[1], dtype=np.int64)
        vector[free] = 1
        vector[pivots] = -reduced[:, free] % _PRIME
        yield vector


# --------------------------------------------------------------------------- polynomials


def _monomials_by_vertices(n_nodes, degree):
    """Monomials of a degree, grouped by how often each vertex occurs in them."""
    pairs = list(itertools.combinations_with_replacement(range(n_nodes), 2))
    count = math.comb(len(pairs) + degree - 1, degree)
    if count > _MAX_MONOMIALS:
        raise ValueError(
            f"degree must be such that there are at most {_MAX_MONOMIALS} monomials, got {count} "
            f"of degree {degree} in the {len(pairs)} covariances of {n_nodes} vertices."
        )
    groups: dict[tuple, list] = {}
    for monomial in itertools.combinations_with_replacement(pairs, degree):
        groups.setdefault(tuple(sorted(itertools.chain(*monomial))), []).append(monomial)
    # The last monomials first: they are written first, too.
    return [sorted(groups[vertices], reverse=True) for vertices in sorted(groups)]


def _polynomial(residues, monomials):
    fractions = [_as_fraction(int(residue)) for residue in residues]
    common = math.lcm(*(denominator for _, denominator in fractions))
    coefficients = [numerator * (common // denominator) for numerator, denominator in fractions]
    leading = next(coefficient for coefficient in coefficients if coefficient)
    divisor = math.gcd(*coefficients) * (1 if leading > 0 else -1)
    return CovariancePolynomial(
        tuple(
            (coefficient // divisor, monomial)
            for coefficient, monomial in zip(coefficients, monomials)
            if coefficient
        )
    )


def _as_fraction(residue):
    """The fraction with numerator and denominator up to sqrt(p / 2) that has this residue.

    The extended Euclidean algorithm passes through it if it exists, and it is unique.
    """
    bound = math.isqrt(_PRIME // 2)
    previous, numerator, before, denominator = _PRIME, residue, 0, 1
    while numerator > bound:
        quotient = previous // numerator
        previous, numerator = numerator, previous - quotient * numerator
        before, denominator = denominator, before - quotient * denominator
    if abs(denominator) > bound:
        raise OverflowError(
            "a polynomial has coefficients with more than about five digits, which cannot be "
            f"found modulo {_PRIME}."
        )
    return (numerator, denominator) if denominator > 0 else (-numerator, -denominator)


def _unique(factors):
    return list(dict.fromkeys(factors))


def _power(factor, exponent):
    i, j = factor
    name = f"s{i}{j}" if j < 10 else f"s{i}_{j}"
    return name if exponent == 1 else f"{name}**{exponent}"
