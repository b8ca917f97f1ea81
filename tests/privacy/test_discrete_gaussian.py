"""The exact sampler of discrete Gaussian noise, and the fast ones of simulations."""

import math
import random
import re
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sparsestat.privacy import _discrete_gaussian
from sparsestat.privacy._discrete_gaussian import (
    bernoulli_exp,
    discrete_gaussian,
    discrete_laplace,
    simulate_discrete_gaussian,
    simulate_discrete_gaussian_sum,
)

# Every chi-square test below has a fixed seed and fails for one seed in 1e6, if all is right.
FALSE_ALARM = 1e-6


class Uniform:
    """A uniform integer in [low, high), of which only comparisons are decided."""

    def __init__(self, tree, size):
        self.tree, self.low, self.high = tree, 0, size

    def __lt__(self, bound):
        if bound <= self.low or bound >= self.high:
            return bound >= self.high
        below = Fraction(bound - self.low, self.high - self.low)
        if self.tree.decide([below, 1 - below]) == 0:
            self.high = bound
            return True
        self.low = bound
        return False


class Abandoned(Exception):
    """The path is too improbable, or comes back to where it began."""


class Tree:
    """All paths of a function through the decisions that it makes by random integers."""

    def __init__(self, least):
        self.least = least
        self.plan = []

    def decide(self, weights):
        if self.depth == len(self.plan):
            self.plan.append([0, weights])
        index, _ = self.plan[self.depth]
        self.depth += 1
        self.weight *= weights[index]
        if self.weight < self.least:
            raise Abandoned
        return index

    def randbelow(self, size):
        # A short range is enumerated, so that its values can be computed with.
        if size <= 16:
            return self.decide([Fraction(1, size)] * size)
        return Uniform(self, size)

    def law(self, function):
        """Exact probabilities of the results, and the weight of the abandoned paths."""
        results, abandoned = Counter(), Fraction(0)
        while True:
            self.depth, self.weight = 0, Fraction(1)
            try:
                results[function()] += self.weight
            except Abandoned:
                abandoned += self.weight
            del self.plan[self.depth :]
            while self.plan and self.plan[-1][0] + 1 == len(self.plan[-1][1]):
                self.plan.pop()
            if not self.plan:
                return results, abandoned
            self.plan[-1][0] += 1


def exp_bounds(gamma, n_terms=80):
    """Rational numbers below and above exp(-gamma): its series alternates."""
    term = total = Fraction(1)
    for k in range(1, n_terms + 1):
        term *= -gamma / k
        total += term
    return total, total + abs(term)


def gaussian_cells(draws, variance, least=20.0):
    """Observed and expected counts, with cells of few expected counts merged."""
    reach = math.ceil(10 * math.sqrt(variance)) + 1
    x = np.arange(-reach, reach + 1)
    mass = np.exp(-(x**2) / (2 * float(variance)))
    edges = np.arange(-reach - 0.5, reach + 1.0)
    return merged_cells(np.histogram(draws, edges)[0], len(draws) * mass / mass.sum(), least)


def merged_cells(observed, expected, least):
    groups = np.floor(np.cumsum(expected) / least).astype(int)
    # What is left over at the upper end joins the last full cell.
    groups = np.minimum(groups, max(groups[-1] - 1, 0))
    _, groups = np.unique(groups, return_inverse=True)
    return np.bincount(groups, observed), np.bincount(groups, expected)


def assert_law(observed, expected):
    assert observed.sum() == pytest.approx(expected.sum())
    statistic = np.sum((observed - expected) ** 2 / expected)
    assert stats.chi2.sf(statistic, len(observed) - 1) > FALSE_ALARM


class TestExactCoin:
    @pytest.mark.parametrize(
        "gamma",
        [Fraction(0), Fraction(1, 7), Fraction(1, 2), Fraction(3, 4), Fraction(999, 1000)]
        + [
            Fraction(1),
            Fraction(2),
            Fraction(5, 2),
            Fraction(7, 3),
            Fraction(10**30, 3 * 10**30 + 1),
        ],
    )
    def test_every_path_counts_exactly(self, gamma):
        tree = Tree(Fraction(1, 10**25))
        results, abandoned = tree.law(lambda: bernoulli_exp(gamma, tree.randbelow))
        assert sum(results.values()) + abandoned == 1
        # A path that is abandoned may still end either way.
        low, high = exp_bounds(gamma)
        assert results[True] <= high
        assert results[True] + abandoned >= low
        assert abandoned < Fraction(1, 10**20)

    def test_numbers_of_the_standard_coin(self):
        # The number of integers that win is the rounded range over e, as for derangements.
        wins, whole = _discrete_gaussian._RACE_WINS, _discrete_gaussian._RACE_RANGE
        low, high = exp_bounds(Fraction(1))
        assert whole == math.factorial(20)
        assert wins <= high * whole
        assert low * whole <= wins + 1

    @given(st.fractions(0, 4, max_denominator=9))
    @settings(max_examples=20, deadline=None)
    def test_probability(self, gamma):
        tree = Tree(Fraction(1, 10**12))
        results, abandoned = tree.law(lambda: bernoulli_exp(gamma, tree.randbelow))
        assert float(results[True]) == pytest.approx(math.exp(-gamma), abs=float(abandoned) + 1e-15)


class TestExactSampler:
    @pytest.mark.parametrize(
        "scale", [Fraction(3), Fraction(5, 3), Fraction(7, 2), Fraction(13, 4), Fraction(3, 5)]
    )
    def test_laplace_weights(self, scale, monkeypatch):
        """Without a retry, integers come up in the ratios of the law, and so with retries."""
        coins = {}

        def toss(numerator, denominator, randbelow):
            gamma = Fraction(numerator, denominator)
            chance = coins.setdefault(gamma, Fraction(math.exp(-gamma)))
            return tree.decide([chance, 1 - chance]) == 0

        first = [True]

        def randbelow(size):
            if size == scale.numerator:
                if not first[0]:
                    tree.weight = Fraction(0)
                    raise Abandoned
                first[0] = False
            return tree.randbelow(size)

        def draw():
            first[0] = True
            return discrete_laplace(scale, randbelow)

        monkeypatch.setattr(_discrete_gaussian, "_toss", toss)
        monkeypatch.setattr(
            _discrete_gaussian, "_toss_exp_minus_one", lambda randbelow: toss(1, 1, randbelow)
        )
        tree = Tree(Fraction(1, 10**12))
        results, _ = tree.law(draw)
        assert len(results) > 15
        for x, weight in results.items():
            # Results whose paths were all followed; the coins are floats, once.
            if abs(x) <= 8 * scale:
                expected = math.exp(-abs(x) / scale)
                assert float(weight / results[0]) == pytest.approx(expected, rel=1e-6)

    @pytest.mark.parametrize("variance", [1, 10, 10**6, Fraction(1, 3), Fraction(22, 7)])
    def test_acceptance_completes_the_square(self, variance, monkeypatch):
        seen = []

        def laplace(numerator, denominator, randbelow):
            seen.append([Fraction(numerator, denominator), next(proposals)])
            return seen[-1][1]

        def toss(numerator, denominator, randbelow):
            seen[-1].append(Fraction(numerator, denominator))
            return len(seen) == 40

        monkeypatch.setattr(_discrete_gaussian, "_laplace", laplace)
        monkeypatch.setattr(_discrete_gaussian, "_toss", toss)
        proposals = iter(range(-20, 21))
        assert discrete_gaussian(variance) == 19
        assert len(seen) == 40
        constants = {
            abs(y) / scale + gamma - Fraction(y * y) / (2 * Fraction(variance))
            for scale, y, gamma in seen
        }
        assert len(constants) == 1
        assert all(gamma >= 0 for *_, gamma in seen)

    @pytest.mark.parametrize("variance", [1, 4, Fraction(1, 3), Fraction(41, 2), 900])
    def test_frequencies(self, variance):
        randbelow = random.Random(f"variance {variance}").randrange
        draws = np.array([discrete_gaussian(variance, randbelow) for _ in range(20_000)])
        assert_law(*gaussian_cells(draws, variance))

    @pytest.mark.parametrize("scale", [2, Fraction(5, 3), Fraction(1, 2), 40])
    def test_frequencies_of_laplace(self, scale):
        randbelow = random.Random(f"scale {scale}").randrange
        draws = np.array([discrete_laplace(scale, randbelow) for _ in range(20_000)])
        reach = math.ceil(40 * scale)
        x = np.arange(-reach, reach + 1)
        mass = np.exp(-np.abs(x) / float(scale))
        observed = np.histogram(draws, np.arange(-reach - 0.5, reach + 1.0))[0]
        assert_law(*merged_cells(observed, len(draws) * mass / mass.sum(), 20.0))

    @pytest.mark.parametrize("variance", [10**6, 10**9, 10**40])
    def test_large_variances(self, variance):
        randbelow = random.Random(variance).randrange
        draws = [discrete_gaussian(variance, randbelow) for _ in range(10_000)]
        z = np.array([x / math.isqrt(variance) for x in draws])
        # Distance of the grid from the continuum: below 1e-3, a tenth of the test's resolution.
        assert stats.kstest(z, "norm").pvalue > FALSE_ALARM
        assert all(type(x) is int for x in draws)

    def test_system_randomness_by_default(self):
        draws = [[discrete_gaussian(10**12) for _ in range(8)] for _ in range(2)]
        # Two equal integers in a place have a probability below 1e-6, all eight below 1e-48.
        assert draws[0] != draws[1]
        assert isinstance(bernoulli_exp(1), bool)
        assert isinstance(discrete_laplace(7), int)

    def test_integers_of_numpy_do_not_overflow(self):
        ours, theirs = random.Random(3).randrange, random.Random(3).randrange
        expected = [discrete_gaussian(2**62, ours) for _ in range(20)]
        assert [discrete_gaussian(np.int64(2**62), theirs) for _ in range(20)] == expected

    @pytest.mark.parametrize(
        ("function", "name"),
        [(bernoulli_exp, "gamma"), (discrete_laplace, "scale"), (discrete_gaussian, "variance")],
    )
    def test_refuses_what_is_not_exact(self, function, name):
        for value in (1.0, "1", None, True, math.nan):
            message = f"{name} must be an int or a Fraction, which are exact, got {value!r}"
            with pytest.raises(TypeError, match=re.escape(message)):
                function(value)
        for value in (-1, Fraction(-1, 2)):
            with pytest.raises(ValueError, match=f"{name} must (be|not be) .*, got {value}"):
                function(value)

    def test_zero(self):
        for function in (discrete_laplace, discrete_gaussian):
            with pytest.raises(ValueError, match="must be positive, got 0"):
                function(0)
        assert bernoulli_exp(0, None) is True


def convolution_power(variance, n):
    """Law of a sum of n discrete Gaussian integers, added one after the other."""
    reach = math.ceil(12 * math.sqrt(variance)) + 1
    x = np.arange(-reach, reach + 1)
    mass = np.exp(-(x**2) / (2 * variance))
    mass /= mass.sum()
    law = mass
    for _ in range(n - 1):
        law = np.convolve(law, mass)
    return law


class TestSimulation:
    @pytest.mark.parametrize("variance", [0.05, 0.3, 1.0, 6.5, 150.0])
    def test_frequencies(self, variance):
        rng = np.random.default_rng(17)
        draws = simulate_discrete_gaussian(variance, 1_000_000, rng)
        assert_law(*gaussian_cells(draws, variance))

    @pytest.mark.parametrize("variance", [1e6, 1e16, 1e28])
    def test_large_variances(self, variance):
        draws = simulate_discrete_gaussian(variance, 50_000, np.random.default_rng(3))
        assert stats.kstest(draws / math.sqrt(variance), "norm").pvalue > FALSE_ALARM
        # The last digit is there: even and odd numbers are equally frequent.
        odd = int(np.sum(draws & 1))
        assert stats.binomtest(odd, len(draws)).pvalue > FALSE_ALARM

    @pytest.mark.parametrize("size", [0, 5, (), (2, 3), (4, 0)])
    def test_shapes(self, size):
        rng = np.random.default_rng(0)
        expected = np.empty(size).shape
        for n in (0, 1, 7):
            for variance in (0.3, 1e4):
                sums = simulate_discrete_gaussian_sum(variance, n, size, rng)
                assert (sums.shape, sums.dtype) == (expected, np.int64)
        draws = simulate_discrete_gaussian(2.0, size, rng)
        assert (draws.shape, draws.dtype) == (expected, np.int64)

    @pytest.mark.parametrize("variance", [5e-324, 1e-300, 1e-7])
    def test_tiny_variances_are_zero(self, variance):
        rng = np.random.default_rng(0)
        assert not simulate_discrete_gaussian(variance, 100, rng).any()
        assert not simulate_discrete_gaussian_sum(variance, 10**9, 100, rng).any()

    def test_the_generator_decides(self):
        draws = [simulate_discrete_gaussian(9.0, 50, np.random.default_rng(s)) for s in (1, 1, 2)]
        assert np.array_equal(draws[0], draws[1])
        assert not np.array_equal(draws[0], draws[2])

    @pytest.mark.parametrize(
        ("variance", "n"),
        [(0.1, 40), (0.2, 2), (0.5, 3), (0.5, 30), (1.0, 2), (3.0, 5), (6.0, 2), (6.0, 9)],
    )
    def test_sums_against_convolutions(self, variance, n):
        draws = simulate_discrete_gaussian_sum(variance, n, 100_000, np.random.default_rng(5))
        law = convolution_power(variance, n)
        reach = len(law) // 2
        observed = np.histogram(draws, np.arange(-reach - 0.5, reach + 1.0))[0]
        assert_law(*merged_cells(observed, len(draws) * law, 20.0))

    @pytest.mark.parametrize("variance", [0.8, 1.5, 3.0, 6.0])
    @pytest.mark.parametrize("n", [1, 2, 3, 20])
    def test_bound_on_the_distance_of_a_sum(self, variance, n):
        law = convolution_power(variance, n)
        x = np.arange(len(law)) - len(law) // 2
        single = np.exp(-(x**2) / (2 * n * variance))
        distance = 0.5 * np.abs(law - single / single.sum()).sum()
        bound = _discrete_gaussian._sum_distance(variance, n)
        # Roundings of a convolution are of the order of 1e-16 for each of its terms.
        assert distance <= bound + 1e-14
        # Further terms smooth what the first two leave, of which the bound takes no account.
        if n == 2 and bound > 1e-10:
            assert distance >= bound / 200

    def test_large_sums(self):
        rng = np.random.default_rng(11)
        for variance, n in [(0.3, 10**6), (4.0, 10**9), (1e9, 10**12)]:
            sums = simulate_discrete_gaussian_sum(variance, n, 4000, rng)
            x = np.arange(-30, 31)
            mass = np.exp(-(x**2) / (2 * variance))
            exact = np.sum(x**2 * mass) / mass.sum() if variance < 10 else variance
            # A sum of a million terms is normal up to less than the test can see.
            assert stats.kstest(sums / math.sqrt(n * exact), "norm").pvalue > FALSE_ALARM

    def test_arguments(self):
        rng = np.random.default_rng(0)
        for value in (0.0, -1.0, math.inf, math.nan):
            message = f"variance must be positive and finite, got {value!r}"
            with pytest.raises(ValueError, match=re.escape(message)):
                simulate_discrete_gaussian(value, 3, rng)
        for value in ("1", None, True):
            with pytest.raises(TypeError, match="variance must be a number, got"):
                simulate_discrete_gaussian_sum(value, 3, 3, rng)
        for value in (1.0, None, True):
            with pytest.raises(TypeError, match="n must be an integer, got"):
                simulate_discrete_gaussian_sum(1.0, value, 3, rng)
        for value in (-1, 2**53):
            with pytest.raises(
                ValueError, match=re.escape(f"n must be in [0, 2**53), got {value}")
            ):
                simulate_discrete_gaussian_sum(1.0, value, 3, rng)
        with pytest.raises(ValueError, match=r"variance must be below 2\*\*96 in sum"):
            simulate_discrete_gaussian_sum(1e25, 10**6, 3, rng)
