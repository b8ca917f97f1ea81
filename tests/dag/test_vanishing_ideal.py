"""Dimensions and equations of models, against known ones and against random covariances."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from scipy import linalg

from sparsestat.dag import _vanishing_ideal as ideal
from sparsestat.dag._covariance_algebra import is_simple_mixed_graph, sem_covariance
from sparsestat.dag._vanishing_ideal import (
    CovariancePolynomial,
    generic_rank,
    vanishing_polynomials,
)


def directed(n_nodes, *edges):
    matrix = np.zeros((n_nodes, n_nodes), dtype=int)
    for i, j in edges:
        matrix[i, j] = 1
    return matrix


def bidirected(n_nodes, *edges):
    matrix = directed(n_nodes, *edges)
    return matrix + matrix.T


CHAIN = directed(3, (0, 1), (1, 2))
CYCLE = directed(3, (0, 1), (1, 2), (2, 0))
CYCLE_WITH_TAIL = directed(4, (0, 1), (1, 2), (2, 0), (2, 3))


def printed(*args, **options):
    return [str(polynomial) for polynomial in vanishing_polynomials(*args, **options)]


def exact_covariance(graph, other, seed):
    """A covariance of the model in fractions, by Gauss-Jordan elimination."""
    rng = np.random.default_rng(seed)
    n_nodes = len(graph)

    def draw():
        # Odd over even: no loop has weight one.
        return Fraction(int(rng.integers(-9, 10)) * 2 + 1, int(rng.integers(1, 5)) * 2)

    left = [
        [Fraction(i == j) - (draw() if graph[i, j] else 0) for j in range(n_nodes)]
        + [Fraction(i == j) for j in range(n_nodes)]
        for i in range(n_nodes)
    ]
    for k in range(n_nodes):
        pivot = next(i for i in range(k, n_nodes) if left[i][k])
        left[k], left[pivot] = left[pivot], left[k]
        left[k] = [value / left[k][k] for value in left[k]]
        for i in range(n_nodes):
            if i != k:
                left[i] = [a - left[i][k] * b for a, b in zip(left[i], left[k])]
    inverse = np.array([row[n_nodes:] for row in left], dtype=object)
    omega = np.array([[Fraction(0)] * n_nodes for _ in range(n_nodes)], dtype=object)
    for i, j in itertools.combinations_with_replacement(range(n_nodes), 2):
        if i == j or other[i, j]:
            omega[i, j] = omega[j, i] = draw()
    return inverse.T @ omega @ inverse


def random_graph(seed, n_nodes=4):
    rng = np.random.default_rng(seed)
    graph = (rng.random((n_nodes, n_nodes)) < 0.35).astype(int)
    if seed % 2:
        np.fill_diagonal(graph, 0)
    return graph, bidirected(n_nodes, *np.argwhere(np.triu(rng.random(graph.shape) < 0.2, 1)))


# --------------------------------------------------------------------------- polynomials


@pytest.mark.parametrize(
    ("graph", "other", "expected"),
    [
        (CHAIN, None, ["s02*s11 - s01*s12"]),
        # A collider: its parents are independent.
        (
            directed(3, (0, 2), (1, 2)),
            None,
            ["s00*s01", "s01**2", "s01*s02", "s01*s11", "s01*s12", "s01*s22"],
        ),
        (
            CYCLE_WITH_TAIL,
            None,
            ["s03*s12 - s02*s13", "s03*s22 - s02*s23", "s13*s22 - s12*s23"],
        ),
        # An instrument, and feedback through a common cause.
        (CHAIN, bidirected(3, (1, 2)), []),
        (directed(3, (0, 1)), bidirected(3, (1, 2), (0, 2)), []),
        (CYCLE, None, []),
        (directed(1), None, []),
    ],
)
def test_known_ideals_of_degree_two(graph, other, expected):
    assert printed(graph, other) == expected


def test_tetrads_of_a_hidden_factor():
    # The factor is vertex 0. Among its effects two tetrads are independent, and every polynomial
    # that leaves the factor out is one of them or their difference.
    graph = directed(5, (0, 1), (0, 2), (0, 3), (0, 4))
    tetrads = [
        polynomial
        for polynomial in vanishing_polynomials(graph)
        if all(0 not in factor for _, factors in polynomial.terms for factor in factors)
    ]
    assert list(map(str, tetrads)) == ["s14*s23 - s13*s24", "s14*s23 - s12*s34"]


def test_the_constraint_of_verma():
    # Drton (2018), Algebraic problems in structural equation modeling: this graph implies no
    # independence, and its covariances are a hypersurface of degree four.
    graph = directed(4, (0, 1), (0, 2), (1, 2), (2, 3))
    other = bidirected(4, (1, 3))
    assert printed(graph, other, 2) == printed(graph, other, 3) == []
    (polynomial,) = vanishing_polynomials(graph, other, 4)
    published = {
        ((0, 0), (0, 2), (1, 1), (2, 3)): 1,
        ((0, 0), (0, 2), (1, 2), (1, 3)): -1,
        ((0, 0), (0, 3), (1, 1), (2, 2)): -1,
        ((0, 0), (0, 3), (1, 2), (1, 2)): 1,
        ((0, 1), (0, 1), (0, 2), (2, 3)): -1,
        ((0, 1), (0, 1), (0, 3), (2, 2)): 1,
        ((0, 1), (0, 2), (0, 2), (1, 3)): 1,
        ((0, 1), (0, 2), (0, 3), (1, 2)): -1,
    }
    sign = polynomial.terms[0][0] * published[polynomial.terms[0][1]]
    assert {term: sign * coefficient for coefficient, term in polynomial.terms} == published


@pytest.mark.parametrize("seed", range(12))
def test_they_vanish_at_fresh_points_exactly(seed):
    graph, other = random_graph(seed)
    for degree in (1, 2, 3):
        polynomials = vanishing_polynomials(graph, other, degree)
        for point in range(3):
            covariance = exact_covariance(graph, other, 100 * seed + point)
            assert all(polynomial.evaluate(covariance) == 0 for polynomial in polynomials)


@pytest.mark.parametrize("seed", range(12))
def test_they_are_all_there_is(seed):
    # The dimension, by the rank of all monomials at random covariances in floating point and
    # without the grading.
    graph, other = random_graph(seed)
    rng = np.random.default_rng(seed)
    pairs = list(itertools.combinations_with_replacement(range(4), 2))
    monomials = list(itertools.combinations_with_replacement(pairs, 2))
    rows = []
    while len(rows) < 3 * len(monomials):
        Lambda = graph * rng.uniform(-1, 1, graph.shape)
        noise = other * np.triu(rng.uniform(-0.3, 0.3, graph.shape), 1)
        Omega = noise + noise.T + np.diag(rng.uniform(1, 2, 4))
        if np.linalg.cond(np.eye(4) - Lambda) < 20:
            covariance = sem_covariance(Lambda, Omega)
            rows.append([covariance[a] * covariance[b] for a, b in monomials])
    values = np.array(rows) / np.sqrt((np.array(rows) ** 2).mean(axis=0) + 1e-300)
    singular = linalg.svdvals(values)
    # The gap between the singular values of the model and those of rounding is wide.
    null = len(monomials) - np.count_nonzero(singular > 1e-10 * singular[0])
    assert len(vanishing_polynomials(graph, other)) == null


def test_they_are_independent_primitive_and_of_the_degree():
    polynomials = vanishing_polynomials(CYCLE_WITH_TAIL, degree=3)
    monomials = sorted({factors for p in polynomials for _, factors in p.terms})
    matrix = np.zeros((len(polynomials), len(monomials)))
    for row, polynomial in zip(matrix, polynomials):
        coefficients = [coefficient for coefficient, _ in polynomial.terms]
        assert np.gcd.reduce(coefficients) == 1 and coefficients[0] > 0
        for coefficient, factors in polynomial.terms:
            assert type(coefficient) is int and len(factors) == 3
            assert all(i <= j for i, j in factors)
            row[monomials.index(factors)] = coefficient
    assert np.linalg.matrix_rank(matrix) == len(polynomials)


def test_a_polynomial_evaluates_at_many_covariances():
    (polynomial,) = vanishing_polynomials(CHAIN)
    S = np.random.default_rng(0).normal(size=(2, 5, 3, 3))
    expected = S[..., 0, 2] * S[..., 1, 1] - S[..., 0, 1] * S[..., 1, 2]
    np.testing.assert_allclose(polynomial.evaluate(S), expected)
    assert polynomial.evaluate(np.eye(3, dtype=int)) == 0


def test_formulas():
    polynomial = CovariancePolynomial(
        ((-2, ((0, 1), (0, 1))), (1, ((0, 10), (10, 11))), (-3, ((2, 3), (4, 5))))
    )
    assert str(polynomial) == "-2*s01**2 + s0_10*s10_11 - 3*s23*s45"


def test_the_answer_does_not_depend_on_the_seed():
    for seed in (1, np.random.default_rng(2), np.random.RandomState(3), None):
        assert printed(CYCLE_WITH_TAIL, random_state=seed) == printed(CYCLE_WITH_TAIL)
        assert generic_rank(CYCLE_WITH_TAIL, random_state=seed) == 8


def test_fractions_are_found_from_residues():
    p = ideal._PRIME
    for fraction in [Fraction(1, 2), Fraction(-7, 3), Fraction(0), Fraction(32767, 32761)]:
        residue = fraction.numerator * pow(fraction.denominator, -1, p) % p
        assert ideal._as_fraction(residue) == (fraction.numerator, fraction.denominator)
    # 40,000 / 39,999 is beyond the bound, and no smaller fraction has its residue.
    with pytest.raises(OverflowError, match="more than about five digits"):
        ideal._as_fraction(40_000 * pow(39_999, -1, p) % p)


def test_coefficients_other_than_one_are_cleared_of_denominators():
    monomials = [((0, 0),), ((0, 1),), ((1, 1),)]
    p = ideal._PRIME
    residues = [0, -pow(2, -1, p) % p, 2 * pow(3, -1, p) % p]
    assert str(ideal._polynomial(residues, monomials)) == "3*s01 - 4*s11"


# --------------------------------------------------------------------------- dimension


@pytest.mark.parametrize(
    ("graph", "other", "rank", "n_parameters"),
    [
        (CYCLE, None, 6, 6),
        (CYCLE_WITH_TAIL, bidirected(4, (0, 3), (1, 3)), 10, 10),
        (directed(2, (0, 1), (1, 0)), None, 3, 4),
        (directed(2, (0, 1)), bidirected(2, (0, 1)), 3, 4),
        (CHAIN, bidirected(3, (1, 2)), 6, 6),
        (directed(1, (0, 0)), None, 1, 2),
        (np.zeros((3, 3)), None, 3, 3),
    ],
)
def test_known_dimensions(graph, other, rank, n_parameters):
    assert generic_rank(graph, other) == rank
    n_bidirected = 0 if other is None else np.count_nonzero(np.triu(other, 1))
    assert len(graph) + np.count_nonzero(graph) + n_bidirected == n_parameters


@pytest.mark.parametrize("seed", range(20))
def test_rank_is_that_of_finite_differences(seed):
    graph, other = random_graph(seed, n_nodes=4)
    rng = np.random.default_rng(seed)
    places = [("Lambda", i, j) for i, j in np.argwhere(graph)]
    places += [("Omega", i, j) for i, j in np.argwhere(np.triu(other, 1))]
    places += [("Omega", i, i) for i in range(4)]
    point = rng.uniform(0.2, 0.8, len(places)) / 2

    def covariance(values):
        matrices = {"Lambda": np.zeros((4, 4)), "Omega": 3 * np.eye(4)}
        for (name, i, j), value in zip(places, values):
            matrices[name][i, j] += value
            if name == "Omega" and i != j:
                matrices[name][j, i] += value
        return sem_covariance(**matrices)[np.triu_indices(4)]

    steps = 1e-5 * np.eye(len(places))
    jacobian = [(covariance(point + h) - covariance(point - h)) / 2e-5 for h in steps]
    # The differences are accurate to about 1e-9, and nonzero singular values are above 1e-4.
    singular = linalg.svdvals(jacobian)
    assert not np.any((singular > 1e-7) & (singular < 1e-5))
    assert generic_rank(graph, other) == np.count_nonzero(singular > 1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_simple_graphs_have_full_rank(seed):
    # Adhikari, Gross, Harkonen and Tsigaridas (2022) prove this for all simple mixed graphs.
    rng = np.random.default_rng(seed)
    kinds = np.triu(rng.integers(0, 4, (7, 7)), 1)
    graph = (kinds == 1).astype(int) + (kinds == 2).T
    other = bidirected(7, *np.argwhere(kinds == 3))
    assert is_simple_mixed_graph(graph, other)
    assert generic_rank(graph, other) == 7 + np.count_nonzero(kinds)


# --------------------------------------------------------------------------- bad input


def test_too_many_monomials_are_refused():
    with pytest.raises(ValueError, match="at most 3000 monomials, got 3081 of degree 2 in the 78"):
        vanishing_polynomials(np.zeros((12, 12)))
    assert len(vanishing_polynomials(np.zeros((11, 11)), degree=1)) == 55


@pytest.mark.parametrize("function", [generic_rank, vanishing_polynomials])
@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((np.zeros((2, 3)),), "directed must be a square matrix"),
        ((CHAIN, CHAIN), "bidirected must be symmetric"),
        ((CHAIN, np.eye(2)), "directed and bidirected must have the same shape"),
        (([[np.nan]],), "Input directed contains NaN"),
        ((3,), "'directed' parameter"),
    ],
)
def test_bad_graphs_are_named(function, args, message):
    with pytest.raises(ValueError, match=message):
        function(*args)


def test_bad_degree_is_named():
    with pytest.raises(ValueError, match="'degree' parameter of vanishing_polynomials"):
        vanishing_polynomials(CHAIN, degree=0)
