r"""Discrete Gaussian noise: an exact sampler for clients, and fast ones for simulations.

The discrete Gaussian with variance parameter :math:`\sigma^2` takes the integer x with a
probability proportional to :math:`\exp(-x^2 / 2 \sigma^2)`. Its variance is at most
:math:`\sigma^2`, and within a millionth of it from :math:`\sigma^2 = 1` on.
"""

import math
import numbers
import secrets
from fractions import Fraction

import numpy as np

# Trials of the race behind exp(-1) that a single uniform integer decides.
_RACE = 20
_RACE_RANGE = math.factorial(_RACE)
# A race is won if its first failure comes at an odd trial k, which happens for as many values
# of the integer as 1/(k-1)! - 1/k! says.
_RACE_WINS = sum(
    _RACE_RANGE // math.factorial(k - 1) - _RACE_RANGE // math.factorial(k)
    for k in range(1, _RACE, 2)
)
# Largest total-variation distance at which a sum is drawn as a single variable.
_SUM_TOLERANCE = 1e-12


def bernoulli_exp(gamma, randbelow=secrets.randbelow):
    r"""Toss a coin that shows true with probability exp(-gamma), exactly.

    Parameters
    ----------
    gamma : Fraction or int
        Not negative.
    randbelow : callable, default=secrets.randbelow
        ``randbelow(n)`` returns a uniform integer in ``[0, n)``.

    Returns
    -------
    outcome : bool

    Raises
    ------
    TypeError
        If gamma is no exact number.
    ValueError
        If gamma is negative.

    Notes
    -----
    For :math:`\gamma \le 1`, let trial k succeed with probability :math:`\gamma / k`. The
    first failure comes after trial k with probability :math:`\gamma^k / k!`, so it comes at an
    odd trial with probability :math:`1 - \gamma + \gamma^2 / 2! - \ldots = e^{-\gamma}`.

    References
    ----------
    .. [1] C. Canonne, G. Kamath and T. Steinke (2020). The discrete Gaussian for differential
       privacy. *Advances in Neural Information Processing Systems* 33.

    Examples
    --------
    >>> from fractions import Fraction
    >>> from sparsestat.privacy._discrete_gaussian import bernoulli_exp
    >>> bernoulli_exp(Fraction(0))
    True
    """
    gamma = _check_rational(gamma, "gamma")
    if gamma < 0:
        raise ValueError(f"gamma must not be negative, got {gamma}.")
    return _toss(gamma.numerator, gamma.denominator, randbelow)


def discrete_laplace(scale, randbelow=secrets.randbelow):
    """Draw an integer with probability proportional to ``exp(-abs(x) / scale)``, exactly.

    Parameters
    ----------
    scale : Fraction or int
        Positive.
    randbelow : callable, default=secrets.randbelow
        ``randbelow(n)`` returns a uniform integer in ``[0, n)``.

    Returns
    -------
    x : int

    Raises
    ------
    TypeError
        If the scale is no exact number.
    ValueError
        If the scale is not positive.

    References
    ----------
    .. [1] C. Canonne, G. Kamath and T. Steinke (2020). The discrete Gaussian for differential
       privacy. *Advances in Neural Information Processing Systems* 33.

    Examples
    --------
    >>> from sparsestat.privacy._discrete_gaussian import discrete_laplace
    >>> isinstance(discrete_laplace(3), int)
    True
    """
    scale = _check_rational(scale, "scale")
    if scale <= 0:
        raise ValueError(f"scale must be positive, got {scale}.")
    return _laplace(scale.numerator, scale.denominator, randbelow)


def discrete_gaussian(variance, randbelow=secrets.randbelow):
    r"""Draw an integer with probability proportional to ``exp(-x ** 2 / (2 * variance))``.

    The sampler is exact: it computes with integers only, so that attacks on the low bits of
    floating-point noise do not apply. The time that a draw takes is random and depends on the
    result; who can measure it learns something about the noise.

    Parameters
    ----------
    variance : Fraction or int
        Variance parameter, positive.
    randbelow : callable, default=secrets.randbelow
        ``randbelow(n)`` returns a uniform integer in ``[0, n)``.

    Returns
    -------
    x : int

    Raises
    ------
    TypeError
        If the variance is no exact number; a float is none.
    ValueError
        If the variance is not positive.

    Notes
    -----
    With :math:`t = \lfloor \sigma \rfloor + 1`, a discrete Laplace variable y of scale t is
    accepted with probability :math:`\exp(-(|y| - \sigma^2 / t)^2 / 2 \sigma^2)`, which
    completes the square: the product is proportional to :math:`\exp(-y^2 / 2 \sigma^2)`.

    References
    ----------
    .. [1] C. Canonne, G. Kamath and T. Steinke (2020). The discrete Gaussian for differential
       privacy. *Advances in Neural Information Processing Systems* 33.
    .. [2] I. Mironov (2012). On significance of the least significant bits for differential
       privacy. *ACM Conference on Computer and Communications Security*, 650-661.

    Examples
    --------
    >>> from sparsestat.privacy._discrete_gaussian import discrete_gaussian
    >>> abs(discrete_gaussian(10**6)) < 10**5
    True
    """
    variance = _check_rational(variance, "variance")
    if variance <= 0:
        raise ValueError(f"variance must be positive, got {variance}.")
    numerator, denominator = variance.numerator, variance.denominator
    t = math.isqrt(numerator // denominator) + 1
    step, scale = t * denominator, 2 * numerator * denominator * t * t
    while True:
        y = _laplace(t, 1, randbelow)
        distance = abs(y) * step - numerator
        if _toss(distance * distance, scale, randbelow):
            return y


def simulate_discrete_gaussian(variance, size, rng):
    r"""Draw discrete Gaussian integers fast, for simulations.

    The law is that of :func:`discrete_gaussian` up to the rounding of floating-point numbers,
    which is harmless in a simulation and not good enough for hiding records.

    Parameters
    ----------
    variance : float
        Variance parameter, positive and below 2**96.
    size : int or tuple of int
        Shape of the result.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    draws : ndarray of int64 of shape `size`

    Raises
    ------
    TypeError, ValueError
        If the variance is no number or out of range.

    Notes
    -----
    A normal variable x with variance :math:`\sigma^2 + d` is rounded to k and accepted with
    probability

    .. math:: \exp\left(-\frac{k^2}{2 \sigma^2} + \frac{x^2}{2 (\sigma^2 + d)}
              - \frac{1}{8 d}\right).

    This is at most one, since :math:`|x| \le |k| + 1/2` and the largest value of
    :math:`(|k| + 1/2)^2 / 2 (\sigma^2 + d) - k^2 / 2 \sigma^2` is :math:`1 / 8 d`. The density
    of an accepted x depends on x through k only, so each k has a probability proportional to
    :math:`\exp(-k^2 / 2 \sigma^2)`. With :math:`d = \max(\sigma / 2, 1/4)` nearly half of the
    trials are accepted for the smallest variances, and nearly all for large ones.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.privacy._discrete_gaussian import simulate_discrete_gaussian
    >>> draws = simulate_discrete_gaussian(4.0, 10_000, np.random.default_rng(0))
    >>> draws.dtype, bool(abs(draws.var() - 4.0) < 0.3)
    (dtype('int64'), True)
    """
    variance = _check_variance(variance)
    spread = max(0.5 * math.sqrt(variance), 0.25)
    wide = variance + spread
    draws = np.empty(size, dtype=np.int64)
    flat = draws.reshape(-1)
    n_done = 0
    while n_done < flat.size:
        x = math.sqrt(wide) * rng.standard_normal(flat.size - n_done)
        k = np.rint(x)
        # The two squares are divided first: they nearly cancel, and are of order one so.
        exponent = (x / math.sqrt(wide)) ** 2 - (k / math.sqrt(variance)) ** 2
        accepted = k[rng.random(len(x)) < np.exp(0.5 * exponent - 0.125 / spread)]
        flat[n_done : n_done + len(accepted)] = accepted
        n_done += len(accepted)
    return draws


def simulate_discrete_gaussian_sum(variance, n, size, rng):
    r"""Draw sums of independent discrete Gaussian integers fast, for simulations.

    Parameters
    ----------
    variance : float
        Variance parameter of each of the terms, positive; n times it must be below 2**96.
    n : int
        Number of terms of each sum, at least 0 and below 2**53.
    size : int or tuple of int
        Shape of the result.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    sums : ndarray of int64 of shape `size`
        Up to the rounding of floating-point numbers, their law is within a total-variation
        distance of 1e-12 of that of the sums, for each entry.

    Raises
    ------
    TypeError, ValueError
        If the variance or the number of terms is no number or out of range.

    Notes
    -----
    For independent X and Y with parameters a and b, completing the square gives

    .. math:: P(X + Y = z) \propto e^{-z^2 / 2 (a + b)} \sum_x e^{-(x - u)^2 / 2 c}, \qquad
              u = \frac{a z}{a + b}, \quad c = \frac{a b}{a + b}.

    By Poisson's summation formula the sum is :math:`\sqrt{2 \pi c}` times a number within
    :math:`\eta(c) = 2 \sum_{m \ge 1} e^{-2 \pi^2 c m^2}` of one. The law of X + Y so has a ratio
    to the discrete Gaussian with parameter a + b that lies, after normalising both, within
    :math:`((1 + \eta) / (1 - \eta))^{\pm 1}`. Convolving both sides of such a bound with a
    further term keeps it. Adding one term after the other, where
    :math:`c = \sigma^2 k / (k + 1)`, the logarithm of the ratio of the law of the sum to the
    discrete Gaussian with parameter :math:`n \sigma^2` is at most

    .. math:: \tau = \sum_{k=1}^{n-1} \log \frac{1 + \eta_k}{1 - \eta_k}, \qquad
              \eta_k = \eta\left(\frac{\sigma^2 k}{k + 1}\right),

    and the total-variation distance at most :math:`1 - e^{-\tau} \le \tau`. Here one discrete
    Gaussian variable is drawn where a bound on :math:`\tau` is below 1e-12, from
    :math:`\sigma^2 = 5` on for any feasible n. Elsewhere a multinomial variable
    tells how many of the n terms take each of the few values that matter.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.privacy._discrete_gaussian import simulate_discrete_gaussian_sum
    >>> rng = np.random.default_rng(0)
    >>> sums = simulate_discrete_gaussian_sum(100.0, 10**6, 1000, rng)
    >>> bool(abs(sums.std() / 1e4 - 1) < 0.1)
    True
    """
    if isinstance(n, bool | np.bool_) or not isinstance(n, numbers.Integral):
        raise TypeError(f"n must be an integer, got {n!r}.")
    n = int(n)
    if not 0 <= n < 2**53:
        raise ValueError(f"n must be in [0, 2**53), got {n}.")
    variance = _check_variance(variance, n)
    if n == 0:
        return np.zeros(size, dtype=np.int64)
    if _sum_distance(variance, n) <= _SUM_TOLERANCE:
        return simulate_discrete_gaussian(n * variance, size, rng)
    # Beyond, a term of the sum has a probability below exp(-72); two values make the reach of
    # the smallest variances.
    reach = math.ceil(12.0 * math.sqrt(variance)) + 2
    values = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * values**2 / variance)
    return rng.multinomial(n, weights / weights.sum(), size=size) @ values


def _sum_distance(variance, n):
    """Bound the distance of a sum of n discrete Gaussian variables from a single one."""
    if n == 1:
        return 0.0
    # The first sum has c = variance / 2, all others at least two thirds of the variance. The
    # factor is 4 up to terms that do not matter where the bound is small enough to be used.
    first = math.exp(-(math.pi**2) * variance)
    others = (n - 2) * math.exp(-4.0 / 3.0 * math.pi**2 * variance)
    return 4.2 * (first + others)


def _toss(numerator, denominator, randbelow):
    """Toss a coin that shows true with probability exp(-numerator / denominator)."""
    whole, numerator = divmod(numerator, denominator)
    for _ in range(whole):
        if not _toss_exp_minus_one(randbelow):
            return False
    if numerator == 0:
        return True
    k = 1
    while randbelow(k * denominator) < numerator:
        k += 1
    return k % 2 == 1


def _toss_exp_minus_one(randbelow):
    """Toss a coin that shows true with probability exp(-1).

    One integer settles the race of :func:`bernoulli_exp` unless its first 20 trials, all of
    which succeed with probability 1 / 20!, have no failure. Which of the integers stand for
    which outcome does not matter.
    """
    u = randbelow(_RACE_RANGE)
    if u < _RACE_WINS:
        return True
    if u < _RACE_RANGE - 1:
        return False
    k = _RACE + 1
    while randbelow(k) < 1:
        k += 1
    return k % 2 == 1


def _laplace(numerator, denominator, randbelow):
    """Draw a discrete Laplace variable of scale numerator / denominator."""
    while True:
        u = randbelow(numerator)
        if u and not _toss(u, numerator, randbelow):
            continue
        v = 0
        while _toss_exp_minus_one(randbelow):
            v += 1
        x = (u + numerator * v) // denominator
        if randbelow(2) < 1:
            return x
        # Zero would come up twice, once with either sign.
        if x:
            return -x


def _check_rational(value, name):
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Rational):
        raise TypeError(f"{name} must be an int or a Fraction, which are exact, got {value!r}.")
    # Integers of NumPy would overflow in what follows.
    return Fraction(int(value.numerator), int(value.denominator))


def _check_variance(value, n=1):
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise TypeError(f"variance must be a number, got {value!r}.")
    variance = float(value)
    if not 0.0 < variance < math.inf:
        raise ValueError(f"variance must be positive and finite, got {variance!r}.")
    if not n * variance < 2.0**96:
        raise ValueError(
            f"variance must be below 2**96 in sum, got {variance!r} for n={n}: floating-point "
            "numbers would skip integers."
        )
    # Any value but zero has by then a probability that underflows.
    return max(variance, 1e-6)
