"""Calibration of coins and of Gaussian noise, and amplification by shuffling."""

import decimal
import math
import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from sparsestat.privacy._accounting import (
    analytic_gaussian_sigma,
    coin_amplitude,
    default_n_bits,
    discrete_gaussian_variance,
    gaussian_delta,
    gaussian_rho,
    shuffle_amplification,
    zcdp_delta,
    zcdp_rho,
)


def bounds_of_exp(x):
    """Rational numbers below and above exp(x) for x > 0, from Taylor's series."""
    term = total = Fraction(1)
    k = 0
    while k <= 2 * x or term > Fraction(1, 10**40):
        k += 1
        term *= x / k
        total += term
    # Beyond k > 2 x each term is less than half of the one before.
    return total, total + term


class TestCoin:
    @pytest.mark.parametrize("epsilon", [1e-6, 0.1, 1.0, 5.0, 20.0, 50.0])
    @pytest.mark.parametrize("n_bits", range(1, 9))
    def test_ratio_is_legal_and_as_large_as_possible(self, epsilon, n_bits):
        amplitude = coin_amplitude(epsilon, n_bits)
        low, high = bounds_of_exp(Fraction(epsilon) / n_bits)
        assert 0 < amplitude < 2**63
        assert Fraction(2**63 + amplitude, 2**63 - amplitude) <= low
        if amplitude < 2**63 - 1:
            assert Fraction(2**63 + amplitude + 1, 2**63 - amplitude - 1) > high

    @given(st.floats(1e-15, 44.0), st.integers(1, 32))
    @settings(max_examples=100, deadline=None)
    def test_any_epsilon(self, epsilon, n_bits):
        amplitude = coin_amplitude(epsilon, n_bits)
        low, _ = bounds_of_exp(Fraction(epsilon) / n_bits)
        assert Fraction(2**63 + amplitude, 2**63 - amplitude) <= low
        # A threshold is off by less than one, and the tangent by a few roundings.
        expected = math.tanh(epsilon / n_bits / 2)
        assert amplitude / 2**63 == pytest.approx(expected, rel=1e-14, abs=2**-63)

    def test_does_not_depend_on_the_decimal_context(self):
        expected = coin_amplitude(1.0, 3)
        traps = [decimal.Inexact, decimal.Rounded, decimal.Subnormal]
        with decimal.localcontext(decimal.Context(prec=3, Emax=2, Emin=-2, traps=traps)):
            assert coin_amplitude(1.0, 3) == expected

    def test_numpy_scalars_are_numbers(self):
        assert coin_amplitude(np.float64(1.0), np.int64(2)) == coin_amplitude(1.0, 2)

    @pytest.mark.parametrize("epsilon", [5e-324, 1e-100, 1e-20])
    def test_refuses_to_be_fair(self, epsilon):
        with pytest.raises(ValueError, match=re.escape(f"epsilon must be larger, got {epsilon}")):
            coin_amplitude(epsilon)

    @pytest.mark.parametrize("epsilon", [0.3, 1.0, 3.0, 4.0, 7.0, 12.0, 30.0, 50.0])
    def test_number_of_bits_is_nearly_the_best(self, epsilon):
        def variance(n_bits):
            return 1.0 / math.tanh(epsilon / (2 * n_bits)) ** 2 / n_bits

        # Rounding a real optimum to a neighbour differs from the best integer by little.
        best = min(variance(n_bits) for n_bits in range(1, 50))
        assert variance(default_n_bits(epsilon)) <= 1.01 * best

    def test_optimal_epsilon_of_a_bit(self):
        root = optimize.brentq(lambda t: math.sinh(t) - 2 * t, 1.0, 3.0)
        assert root == pytest.approx(2.18, abs=0.005)
        assert [default_n_bits(e) for e in (1e-6, 1, 4, 8, 50)] == [1, 1, 2, 4, 23]


def exact_gaussian_delta(sigma, epsilon, digits=420):
    """The two normal tails in decimal arithmetic, with digits to lose."""
    with decimal.localcontext(decimal.Context(prec=digits, Emin=-999999, Emax=999999)):
        sigma, epsilon = Decimal(sigma), Decimal(epsilon)
        # Machin's formula.
        pi = 16 * decimal_arctan(5) - 4 * decimal_arctan(239)

        def distribution(t):
            # 1/2 + phi(t) (t + t^3 / 3 + t^5 / (3 * 5) + ...)
            term = total = t
            k = 1
            while abs(term) > abs(total) * Decimal(10) ** -digits:
                k += 2
                term *= t * t / k
                total += term
            return Decimal("0.5") + total * (-t * t / 2).exp() / (2 * pi).sqrt()

        a, b = 1 / (2 * sigma), epsilon * sigma
        return distribution(a - b) - epsilon.exp() * distribution(-a - b)


def decimal_arctan(inverse):
    term = total = Decimal(1) / inverse
    k = 1
    while abs(term) > Decimal(10) ** -decimal.getcontext().prec:
        term /= -inverse * inverse
        k += 2
        total += term / k
    return total


class TestGaussian:
    @pytest.mark.parametrize(
        ("epsilon", "sigma"), [(0.5, 7.0318), (1.0, 3.7306), (2.0, 1.9938), (4.0, 1.0812)]
    )
    def test_published_values(self, epsilon, sigma):
        assert analytic_gaussian_sigma(epsilon, 1e-5) == pytest.approx(sigma, abs=5.1e-5)

    @pytest.mark.parametrize(
        ("sigma", "epsilon"),
        [
            # tails of about 1e-300
            (0.752, 50.0),
            (36.5, 1.0),
            (370.0, 0.1),
            (0.8, 46.0),
            # the usual
            (3.73, 1.0),
            (1.0, 2.0),
            (0.2, 1.0),
            # both terms nearly equal
            (4e6, 1e-6),
            (1e5, 1e-6),
            (1e3, 1e-9),
            (30.0, 0.1),
            (5.0, 1e-4),
            # delta near one, and on both sides of the switches between formulas
            (0.05, 3.0),
            (0.5, 2.0),
            (0.7071, 1.0),
            (1.05, 0.45),
            (1.2, 0.1),
            (2.0, 1.13),
            (2.0, 1.15),
        ],
    )
    def test_delta_to_twelve_digits(self, sigma, epsilon):
        exact = exact_gaussian_delta(sigma, epsilon)
        computed = Decimal(gaussian_delta(sigma, epsilon))
        assert abs(computed / exact - 1) < Decimal("1e-12")

    @given(st.floats(-3.0, 1.5), st.floats(-6.0, math.log10(50.0)))
    @settings(max_examples=30, deadline=None)
    def test_delta_of_any_noise(self, log_noise, log_epsilon):
        # In units of the noise that makes b one, as far as the reference is fast.
        epsilon = 10**log_epsilon
        sigma = max(10**log_noise / epsilon, 0.02)
        exact = exact_gaussian_delta(sigma, epsilon)
        computed = gaussian_delta(sigma, epsilon)
        # Below the smallest normal number digits are lost to underflow.
        assert abs(Decimal(computed) - exact) <= Decimal("1e-12") * exact + Decimal("5e-324")

    @pytest.mark.parametrize("epsilon", [1e-6, 0.01, 1.0, 10.0, 50.0])
    @pytest.mark.parametrize("delta", [5e-324, 1e-300, 1e-30, 1e-5, 0.1, 0.9])
    def test_sigma_is_private_and_no_larger(self, epsilon, delta):
        sigma = analytic_gaussian_sigma(epsilon, delta)
        assert exact_gaussian_delta(sigma, epsilon) <= Decimal(delta)
        assert exact_gaussian_delta(sigma * (1 - 1e-9), epsilon) > Decimal(delta)

    def test_extreme_arguments(self):
        sigma = analytic_gaussian_sigma(1e-6, 1.0 - 2**-53)
        assert exact_gaussian_delta(sigma, 1e-6) <= Decimal(1.0 - 2**-53)
        assert gaussian_delta(1e-310, 50.0) == 1.0
        assert gaussian_delta(1e308, 50.0) == 0.0
        with pytest.raises(ValueError, match="epsilon and delta must be larger"):
            analytic_gaussian_sigma(5e-324, 5e-324)

    @pytest.mark.parametrize("sensitivity", [1e-20, 0.3, 7.0, 1e20])
    def test_sensitivity_is_a_unit(self, sensitivity):
        sigma = analytic_gaussian_sigma(0.7, 1e-8, sensitivity)
        assert sigma == pytest.approx(sensitivity * analytic_gaussian_sigma(0.7, 1e-8), rel=1e-15)
        assert gaussian_delta(sigma, 0.7, sensitivity) <= 1e-8


class TestConcentrated:
    @pytest.mark.parametrize("rho", [1e-12, 1e-4, 0.02, 0.5, 5.0, 300.0])
    @pytest.mark.parametrize("epsilon", [1e-5, 0.1, 1.0, 20.0, 50.0])
    def test_delta_is_the_infimum(self, rho, epsilon):
        def log_delta(log_t):
            t = math.exp(log_t)
            conversion = t * ((1 + t) * rho - epsilon)
            return conversion - log_t + (1 + t) * math.log(t / (1 + t))

        computed = zcdp_delta(rho, epsilon)
        # Where alpha is huge, the difference of its logarithms has few digits.
        grid = np.linspace(-25.0, 25.0, 2001)
        if math.exp(-25) < epsilon / rho < math.exp(25):
            best = min(grid, key=log_delta)
            found = optimize.minimize_scalar(
                log_delta, bounds=(best - 0.03, best + 0.03), options={"xatol": 1e-10}
            )
            expected = math.exp(min(0.0, found.fun))
            assert computed == pytest.approx(expected, rel=1e-5, abs=1e-320)
        assert all(computed <= math.exp(min(0.0, log_delta(u))) * (1 + 1e-5) for u in grid[::20])

    @pytest.mark.parametrize("epsilon", [0.01, 1.0, 8.0])
    @pytest.mark.parametrize("sigma", [0.3, 1.0, 5.0, 40.0])
    def test_covers_the_exact_delta_of_gaussian_noise(self, epsilon, sigma):
        delta = gaussian_delta(sigma, epsilon)
        assert delta <= zcdp_delta(gaussian_rho(sigma), epsilon)

    @pytest.mark.parametrize("epsilon", [1e-5, 0.3, 1.0, 50.0])
    @pytest.mark.parametrize("delta", [1e-300, 1e-9, 0.1, 0.9])
    def test_rho_is_the_largest(self, epsilon, delta):
        rho = zcdp_rho(epsilon, delta)
        assert zcdp_delta(rho, epsilon) <= delta
        assert zcdp_delta(rho * (1 + 1e-9), epsilon) > delta

    def test_rho_of_noise(self):
        assert gaussian_rho(2.0, 3.0) == 1.125
        assert gaussian_rho(1e200, 1e200) == 0.5

    @pytest.mark.parametrize(
        ("epsilon", "delta", "shift"), [(1.0, 1e-5, 1), (0.2, 1e-3, 3), (8.0, 1e-6, 10)]
    )
    def test_discrete_noise_is_private(self, epsilon, delta, shift):
        variance = discrete_gaussian_variance(epsilon, delta, shift**2)
        reach = 40 * math.isqrt(variance) + 40
        x = np.arange(-reach, reach + 1)
        mass = np.exp(-(x**2) / (2 * variance))
        shifted = np.exp(-((x - shift) ** 2) / (2 * variance))
        excess = np.maximum(shifted - math.exp(epsilon) * mass, 0.0).sum() / mass.sum()
        # The conversion is known to lose little: a factor of ten would be a mistake.
        assert delta / 10 < excess <= delta

    @pytest.mark.parametrize("squared_sensitivity", [1, 2, 977, 10**9])
    def test_variance_is_the_smallest(self, squared_sensitivity):
        variance = discrete_gaussian_variance(0.5, 1e-6, squared_sensitivity)
        rho = Fraction(zcdp_rho(0.5, 1e-6))
        assert isinstance(variance, int)
        assert Fraction(squared_sensitivity, 2 * variance) <= rho
        assert Fraction(squared_sensitivity, 2 * (variance - 1)) > rho


def clones_delta(epsilon, local_epsilon, n_users):
    """Delta of the pair that shuffled reports reduce to, summed over the number of clones.

    Given C clones, with N = C + 1 and the count k of the first type, twice the density is
    Bin(N, 1/2) at k times 1 + theta t, or 1 - theta t, with t = 2 k / N - 1. The positive part
    of ``p - exp(epsilon) p'`` starts at some k0, and partial sums of t are binomial masses:
    k / N times Bin(N, 1/2) at k is half of Bin(C, 1/2) at k - 1.
    """
    theta = math.tanh(local_epsilon / 2)
    clones = stats.binom(n_users - 1, math.exp(-local_epsilon))
    # Whatever lies outside of this range counts in full.
    width = 50 + 14 * math.sqrt(clones.mean())
    low, high = max(0.0, clones.mean() - width), min(n_users - 1.0, clones.mean() + width)
    c = np.arange(math.floor(low), math.ceil(high) + 1)
    threshold = math.tanh(epsilon / 2) / theta
    start = np.ceil((c + 1) * (1 + threshold) / 2)
    given_c = theta * (1 + math.exp(epsilon)) / 2 * stats.binom.pmf(start - 1, c, 0.5)
    given_c -= math.expm1(epsilon) * stats.binom.sf(start - 1, c + 1, 0.5)
    missed = clones.cdf(c[0] - 1) + clones.sf(c[-1])
    return float(clones.pmf(c) @ given_c + missed)


def hockey_stick(p, q, epsilon):
    return float(np.maximum(p - math.exp(epsilon) * q, 0.0).sum())


def shuffled_responses(local_epsilon, n_ones, n_users):
    """Law of the number of ones that shuffled binary randomised response shows."""
    keep = 1 / (1 + math.exp(-local_epsilon))
    ones = stats.binom.pmf(np.arange(n_ones + 1), n_ones, keep)
    zeros = stats.binom.pmf(np.arange(n_users - n_ones + 1), n_users - n_ones, 1 - keep)
    return np.convolve(ones, zeros)


def least_users(local_epsilon, delta):
    """Where the closed form begins to be valid."""
    return math.ceil(16 * math.log(2 / delta) * math.exp(local_epsilon))


class TestShuffling:
    @pytest.mark.parametrize("local_epsilon", [0.3, 1.0, 2.5])
    @pytest.mark.parametrize("epsilon", [0.01, 0.2, 0.9])
    def test_reduction_by_enumeration(self, local_epsilon, epsilon):
        n_users = 12
        epsilon *= local_epsilon
        keep = math.exp(local_epsilon) / (1 + math.exp(local_epsilon))
        p, q = np.zeros((n_users, n_users + 1)), np.zeros((n_users, n_users + 1))
        for c in range(n_users):
            weight = stats.binom.pmf(c, n_users - 1, math.exp(-local_epsilon))
            for a in range(c + 1):
                mass = weight * math.comb(c, a) / 2**c
                p[c, a + 1] += mass * keep
                p[c, a] += mass * (1 - keep)
                q[c, a + 1] += mass * (1 - keep)
                q[c, a] += mass * keep
        computed = clones_delta(epsilon, local_epsilon, n_users)
        assert computed == pytest.approx(hockey_stick(p, q, epsilon), rel=1e-9, abs=1e-15)
        assert computed == pytest.approx(hockey_stick(q, p, epsilon), rel=1e-9, abs=1e-15)
        # No configuration of the other users reveals more than the reduction says.
        for n_ones in range(n_users):
            one = shuffled_responses(local_epsilon, n_ones + 1, n_users)
            zero = shuffled_responses(local_epsilon, n_ones, n_users)
            assert hockey_stick(one, zero, epsilon) <= computed + 1e-15

    @pytest.mark.parametrize("local_epsilon", [0.01, 0.1, 0.5, 1.0, 2.0, 4.0, 7.0])
    @pytest.mark.parametrize("delta", [0.9, 0.1, 1e-3, 1e-6, 1e-12])
    @pytest.mark.parametrize("more", [1, 3, 100])
    def test_closed_form_covers_the_reduction(self, local_epsilon, delta, more):
        n_users = more * least_users(local_epsilon, delta)
        amplified = shuffle_amplification(local_epsilon, n_users, delta)
        assert clones_delta(amplified, local_epsilon, n_users) <= delta

    def test_last_inequality_of_the_proof(self):
        q_of = lambda ell: ell / (2 * (ell - math.log(2)))  # noqa: E731
        for ell in np.linspace(math.log(4), 200.0, 4001):
            r = np.linspace(0.0, 1.0, 201)[:, None]
            w = np.sqrt(q_of(ell) * (1 + r)) * np.linspace(0.0, 1.0, 21)
            d_squared = (1 + (1 - r) / (1 + r) * w) ** 2
            f = (4 - w**2 / d_squared) / d_squared
            assert np.min(ell * f) >= ell - math.log(4) + 0.25

    @given(st.floats(1e-3, 50.0), st.integers(1, 10**12), st.floats(1e-15, 0.999))
    @settings(max_examples=200, deadline=None)
    def test_never_worse_than_local(self, local_epsilon, n_users, delta):
        amplified = shuffle_amplification(local_epsilon, n_users, delta)
        assert 0 < amplified <= local_epsilon
        if n_users < least_users(local_epsilon, delta):
            assert amplified == local_epsilon
        assert shuffle_amplification(local_epsilon, 2 * n_users, delta) <= amplified

    def test_value(self):
        root = math.sqrt(2 * math.log(4e6)) / math.sqrt((math.e + 1) * 1e5)
        expected = math.log(1 + (math.e - 1) * (4 * root + 4e-5))
        assert shuffle_amplification(1.0, 10**5, 1e-6) == pytest.approx(expected, rel=1e-12)


class TestArguments:
    EPSILON = pytest.mark.parametrize(
        "function",
        [
            coin_amplitude,
            default_n_bits,
            lambda epsilon: analytic_gaussian_sigma(epsilon, 1e-5),
            lambda epsilon: gaussian_delta(1.0, epsilon),
            lambda epsilon: zcdp_delta(1.0, epsilon),
            lambda epsilon: zcdp_rho(epsilon, 1e-5),
            lambda epsilon: discrete_gaussian_variance(epsilon, 1e-5, 1),
            lambda epsilon: shuffle_amplification(epsilon, 100, 1e-5),
        ],
    )
    DELTA = pytest.mark.parametrize(
        "function",
        [
            lambda delta: analytic_gaussian_sigma(1.0, delta),
            lambda delta: zcdp_rho(1.0, delta),
            lambda delta: discrete_gaussian_variance(1.0, delta, 1),
            lambda delta: shuffle_amplification(1.0, 100, delta),
        ],
    )
    POSITIVE = pytest.mark.parametrize(
        ("function", "name"),
        [
            (lambda value: gaussian_delta(value, 1.0), "sigma"),
            (lambda value: gaussian_delta(1.0, 1.0, value), "sensitivity"),
            (lambda value: analytic_gaussian_sigma(1.0, 0.1, value), "sensitivity"),
            (gaussian_rho, "sigma"),
            (lambda value: gaussian_rho(1.0, value), "sensitivity"),
            (lambda value: zcdp_delta(value, 1.0), "rho"),
        ],
    )
    COUNT = pytest.mark.parametrize(
        ("function", "name"),
        [
            (lambda value: coin_amplitude(1.0, value), "n_bits"),
            (lambda value: discrete_gaussian_variance(1.0, 0.1, value), "squared_sensitivity"),
            (lambda value: shuffle_amplification(1.0, value, 0.1), "n_users"),
        ],
    )

    @EPSILON
    @pytest.mark.parametrize("value", [0.0, -1.0, 50.1, math.inf, -math.inf, math.nan])
    def test_epsilon_out_of_range(self, function, value):
        message = f"epsilon must be above 0 and at most 50, got {value!r}."
        with pytest.raises(ValueError, match=re.escape(message)):
            function(value)

    @EPSILON
    @pytest.mark.parametrize("value", ["1", None, True, 1j, [1.0]])
    def test_epsilon_is_no_number(self, function, value):
        with pytest.raises(TypeError, match=re.escape(f"epsilon must be a number, got {value!r}")):
            function(value)

    @DELTA
    @pytest.mark.parametrize("value", [-0.1, 1.0, 2.0, math.nan, math.inf])
    def test_delta_out_of_range(self, function, value):
        message = f"delta must be above 0 and below 1, got {value!r}."
        with pytest.raises(ValueError, match=re.escape(message)):
            function(value)

    @DELTA
    def test_delta_zero(self, function):
        with pytest.raises(ValueError, match=r"delta must be above 0, got 0\.0: no finite"):
            function(0)

    @DELTA
    @pytest.mark.parametrize("value", ["0.1", None, False])
    def test_delta_is_no_number(self, function, value):
        with pytest.raises(TypeError, match=re.escape(f"delta must be a number, got {value!r}")):
            function(value)

    @POSITIVE
    @pytest.mark.parametrize("value", [0.0, -2.0, math.inf, math.nan])
    def test_positive_numbers(self, function, name, value):
        message = f"{name} must be positive and finite, got {value!r}."
        with pytest.raises(ValueError, match=re.escape(message)):
            function(value)

    @COUNT
    def test_counts(self, function, name):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            function(0)
        for value in (1.0, "2", None, True):
            message = f"{name} must be an integer, got {value!r}"
            with pytest.raises(TypeError, match=re.escape(message)):
                function(value)
