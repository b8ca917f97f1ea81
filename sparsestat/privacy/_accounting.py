"""How much noise a privacy guarantee needs, and which guarantee follows from a noise.

Every result is rounded towards more privacy: amplitudes, variances and standard deviations
come out a little on the side of more noise, never of less.
"""

import decimal
import functools
import math
import numbers
from fractions import Fraction

import numpy as np

_MAX_EPSILON = 50.0
# Largest error of the logarithm of a computed delta; searches stay away from their goal by it.
_LOG_MARGIN = 1e-11
_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)
# Levels of the continued fraction of Mills' ratio, enough for double precision from 2 on.
_MILLS_LEVELS = 80


def coin_amplitude(epsilon, n_bits=1):
    r"""Find how far the threshold of a 64-bit coin may be from the fair one.

    A coin shows heads if a uniform integer in ``[0, 2**64)`` is below a threshold. With
    thresholds in ``[2**63 - A, 2**63 + A]``, for the amplitude A that is returned, and
    ``L = 2**63 - A``, either face has a probability between ``L / 2**64`` and
    ``1 - L / 2**64``.

    **Proof of privacy.** The logarithm of the ratio of two such probabilities is at most
    ``log((2**64 - L) / L)``. Let q be a rational lower bound of ``exp(epsilon / n_bits)``;
    ``L = ceil(2**64 / (1 + q))`` gives ``(2**64 - L) / L <= q <= exp(epsilon / n_bits)``.

    Parameters
    ----------
    epsilon : float
        Privacy of all bits together, above 0 and at most 50; taken as the exact binary number.
    n_bits : int, default=1
        Number of independent coins, which share epsilon equally.

    Returns
    -------
    amplitude : int
        Between 1 and ``2**63 - 1``.

    Raises
    ------
    TypeError
        If an argument is not of the type above.
    ValueError
        If an argument is out of range, or epsilon so small that the only coin is the fair one.

    Examples
    --------
    >>> from sparsestat.privacy._accounting import coin_amplitude
    >>> round(coin_amplitude(1.0) / 2**63, 12)  # tanh(1 / 2)
    0.46211715726
    """
    epsilon = _check_epsilon(epsilon)
    n_bits = _check_count(n_bits, "n_bits")
    # Division rounds down here; exp rounds correctly to 80 digits, of which the last ten are
    # given away. A context of its own is blind to what the caller's context traps or rounds.
    context = decimal.Context(
        prec=80,
        rounding=decimal.ROUND_FLOOR,
        Emin=-999999,
        Emax=999999,
        traps=[decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow],
    )
    exponent = context.divide(decimal.Decimal(epsilon), decimal.Decimal(n_bits))
    growth = Fraction(context.exp(exponent)) * (1 - Fraction(1, 10**70))
    lowest = math.ceil(2**64 / (1 + growth))
    # For the tiniest epsilon the bound falls below one, and with it the lowest threshold
    # rises above the fair one.
    if lowest >= 2**63:
        raise ValueError(
            f"epsilon must be larger, got {epsilon!r} for n_bits={n_bits}: a coin of 64 bits can "
            "then only be fair, and its reports would say nothing."
        )
    return 2**63 - lowest


def default_n_bits(epsilon):
    r"""Choose the number of one-bit reports that share an epsilon.

    An estimate from b bits at ``epsilon / b`` each has a variance proportional to
    :math:`\coth^2(\epsilon / 2b) / b`. In terms of :math:`t = \epsilon / b` this is
    :math:`t \coth^2(t / 2) / \epsilon`, which is smallest where :math:`\sinh t = 2 t`, at
    2.177; the number of bits is epsilon over 2.18, rounded, and at least one.

    Parameters
    ----------
    epsilon : float
        Privacy of all bits together, above 0 and at most 50.

    Returns
    -------
    n_bits : int
        Between 1 and 23.

    Raises
    ------
    TypeError, ValueError
        If epsilon is no number or out of range.

    Examples
    --------
    >>> from sparsestat.privacy._accounting import default_n_bits
    >>> [default_n_bits(epsilon) for epsilon in (0.5, 1.0, 4.0, 8.0)]
    [1, 1, 2, 4]
    """
    return max(1, round(_check_epsilon(epsilon) / 2.18))


def gaussian_delta(sigma, epsilon, sensitivity=1.0):
    r"""Smallest delta of the Gaussian mechanism at an epsilon.

    Adding independent normal noise to a vector whose values for two records differ by the
    sensitivity :math:`\Delta` at most, in the Euclidean norm, is (epsilon, delta)-differentially
    private if and only if delta is at least

    .. math:: \Phi(a - b) - e^\epsilon \Phi(-a - b), \qquad
              a = \frac{\Delta}{2 \sigma}, \quad b = \frac{\epsilon \sigma}{\Delta}.

    Parameters
    ----------
    sigma : float
        Standard deviation of the noise of an entry, positive.
    epsilon : float
        Above 0 and at most 50.
    sensitivity : float, default=1.0
        Largest Euclidean distance between the vectors of two records, positive.

    Returns
    -------
    delta : float
        Between 0 and 1, with a relative error below 1e-12; it underflows to 0 below 1e-323.

    Raises
    ------
    TypeError, ValueError
        If an argument is no number or out of range.

    Notes
    -----
    With Mills' ratio :math:`m(t) = \Phi(-t) / \varphi(t)` the two terms are
    :math:`\varphi(b - a)` times :math:`m(b - a)` and :math:`m(b + a)`. Where these nearly
    cancel, their difference is integrated from

    .. math:: m(t) = \int_0^\infty e^{-t s - s^2 / 2} \, ds

    with an integrand that is positive, so that nothing cancels.

    References
    ----------
    .. [1] B. Balle and Y.-X. Wang (2018). Improving the Gaussian mechanism for differential
       privacy: analytical calibration and optimal denoising. *International Conference on
       Machine Learning*, 394-403.

    Examples
    --------
    >>> from sparsestat.privacy._accounting import gaussian_delta
    >>> f"{gaussian_delta(3.7306, epsilon=1.0):.3e}"
    '1.000e-05'
    """
    sigma = _check_positive(sigma, "sigma")
    epsilon = _check_epsilon(epsilon)
    sensitivity = _check_positive(sensitivity, "sensitivity")
    return math.exp(_log_gaussian_delta(sigma / sensitivity, epsilon))


def analytic_gaussian_sigma(epsilon, delta, sensitivity=1.0):
    """Calibrate the Gaussian mechanism exactly.

    Normal noise with the returned standard deviation in every entry makes a vector (epsilon,
    delta)-differentially private, for the replacement of one record by any other. This holds
    at every epsilon, and for noise of real numbers: floating-point noise can leak through its
    low bits.

    Parameters
    ----------
    epsilon : float
        Above 0 and at most 50.
    delta : float
        Above 0 and below 1.
    sensitivity : float, default=1.0
        Largest Euclidean distance between the vectors of two records, positive.

    Returns
    -------
    sigma : float
        The smallest standard deviation that is private enough, rounded upwards; the relative
        error is below 1e-9 unless delta is above 0.9.

    Raises
    ------
    TypeError, ValueError
        If an argument is no number or out of range.

    References
    ----------
    .. [1] B. Balle and Y.-X. Wang (2018). Improving the Gaussian mechanism for differential
       privacy: analytical calibration and optimal denoising. *International Conference on
       Machine Learning*, 394-403.

    Examples
    --------
    >>> from sparsestat.privacy import analytic_gaussian_sigma
    >>> round(analytic_gaussian_sigma(epsilon=1.0, delta=1e-5), 4)
    3.7306
    """
    epsilon = _check_epsilon(epsilon)
    goal = math.log(_check_delta(delta)) - _LOG_MARGIN
    sensitivity = _check_positive(sensitivity, "sensitivity")
    scale = _search_up(lambda scale: _log_gaussian_delta(scale, epsilon) <= goal)
    return math.nextafter(scale * sensitivity, math.inf)


def gaussian_rho(sigma, sensitivity=1.0):
    """Zero-concentrated privacy of Gaussian noise, continuous or discrete.

    Parameters
    ----------
    sigma : float
        Square root of the variance parameter of the noise of an entry, positive.
    sensitivity : float, default=1.0
        Largest Euclidean distance between the vectors of two records, positive; for discrete
        noise the vectors are integers.

    Returns
    -------
    rho : float
        The mechanism is rho-zCDP with ``rho = sensitivity ** 2 / (2 * sigma ** 2)``.

    Raises
    ------
    TypeError, ValueError
        If an argument is no number or out of range.

    References
    ----------
    .. [1] M. Bun and T. Steinke (2016). Concentrated differential privacy: simplifications,
       extensions, and lower bounds. *Theory of Cryptography*, 635-658.
    .. [2] C. Canonne, G. Kamath and T. Steinke (2020). The discrete Gaussian for differential
       privacy. *Advances in Neural Information Processing Systems* 33.

    Examples
    --------
    >>> from sparsestat.privacy._accounting import gaussian_rho
    >>> gaussian_rho(5.0)
    0.020000000000000004
    """
    ratio = _check_positive(sensitivity, "sensitivity") / _check_positive(sigma, "sigma")
    return 0.5 * ratio * ratio


def zcdp_delta(rho, epsilon):
    r"""Approximate privacy that follows from zero-concentrated privacy.

    A rho-zCDP mechanism is (epsilon, delta)-differentially private with

    .. math:: \delta = \inf_{\alpha > 1} \frac{e^{(\alpha - 1)(\alpha \rho - \epsilon)}}
              {\alpha - 1} \left(1 - \frac{1}{\alpha}\right)^\alpha.

    Parameters
    ----------
    rho : float
        Parameter of zero-concentrated differential privacy, positive.
    epsilon : float
        Above 0 and at most 50.

    Returns
    -------
    delta : float
        Between 0 and 1. Each alpha gives a valid delta, so that the search for the best one
        cannot harm.

    Raises
    ------
    TypeError, ValueError
        If an argument is no number or out of range.

    References
    ----------
    .. [1] C. Canonne, G. Kamath and T. Steinke (2020). The discrete Gaussian for differential
       privacy. *Advances in Neural Information Processing Systems* 33.

    Examples
    --------
    >>> from sparsestat.privacy._accounting import zcdp_delta
    >>> f"{zcdp_delta(rho=0.02, epsilon=1.0):.2e}"
    '8.83e-08'
    """
    return math.exp(_log_zcdp_delta(_check_positive(rho, "rho"), _check_epsilon(epsilon)))


def zcdp_rho(epsilon, delta):
    """Zero-concentrated privacy that suffices for approximate privacy.

    Parameters
    ----------
    epsilon : float
        Above 0 and at most 50.
    delta : float
        Above 0 and below 1.

    Returns
    -------
    rho : float
        The largest rho with ``zcdp_delta(rho, epsilon) <= delta``, rounded downwards; the
        relative error is below 1e-9 unless delta is above 0.9.

    Raises
    ------
    TypeError, ValueError
        If an argument is no number or out of range.

    Examples
    --------
    >>> from sparsestat.privacy._accounting import zcdp_rho
    >>> round(zcdp_rho(epsilon=1.0, delta=1e-5), 5)
    0.03056
    """
    epsilon = _check_epsilon(epsilon)
    goal = math.log(_check_delta(delta)) - _LOG_MARGIN
    return 1.0 / _search_up(lambda inverse: _log_zcdp_delta(1.0 / inverse, epsilon) <= goal)


def discrete_gaussian_variance(epsilon, delta, squared_sensitivity):
    """Calibrate discrete Gaussian noise on vectors of integers.

    Independent discrete Gaussian noise with the returned variance parameter in every entry
    makes a vector of integers (epsilon, delta)-differentially private, for the replacement of
    one record by any other: it is ``squared_sensitivity / (2 * variance)``-zCDP.

    Parameters
    ----------
    epsilon : float
        Above 0 and at most 50.
    delta : float
        Above 0 and below 1.
    squared_sensitivity : int
        Largest squared Euclidean distance between the vectors of two records, at least 1.

    Returns
    -------
    variance : int
        The smallest integer that is at least ``squared_sensitivity / (2 * rho)`` for the rho
        of :func:`zcdp_rho`, divided exactly.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of the type above or out of range.

    References
    ----------
    .. [1] C. Canonne, G. Kamath and T. Steinke (2020). The discrete Gaussian for differential
       privacy. *Advances in Neural Information Processing Systems* 33.

    Examples
    --------
    >>> from sparsestat.privacy._accounting import discrete_gaussian_variance
    >>> discrete_gaussian_variance(epsilon=1.0, delta=1e-5, squared_sensitivity=100)
    1637
    """
    squared_sensitivity = _check_count(squared_sensitivity, "squared_sensitivity")
    return math.ceil(squared_sensitivity / (2 * Fraction(zcdp_rho(epsilon, delta))))


def shuffle_amplification(epsilon, n_users, delta):
    r"""Privacy of reports that arrive in random order.

    If each of n users sends one report of an epsilon-LDP randomizer, which is the same for
    all, and someone trusted shuffles the reports before the server sees them, then what the
    server sees is (e, delta)-differentially private for the replacement of one user's record,
    with

    .. math:: e = \log\left(1 + (e^\epsilon - 1) \left(\frac{4 \sqrt{2 \log(4 / \delta)}}
              {\sqrt{(e^\epsilon + 1) n}} + \frac{4}{n}\right)\right)
              \quad\text{if}\quad \epsilon \le \log\frac{n}{16 \log(2 / \delta)}.

    Elsewhere epsilon itself is returned: shuffling never harms.

    Parameters
    ----------
    epsilon : float
        Pure local privacy of one report, above 0 and at most 50.
    n_users : int
        Number of users whose reports are shuffled together, at least 1.
    delta : float
        Above 0 and below 1.

    Returns
    -------
    amplified : float
        At most epsilon.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of the type above or out of range.

    Notes
    -----
    Nothing in a report may tell its sender: a nonce that the server gave to a known user, the
    sender's address or the time of arrival undo the shuffling. Users who do not randomise hide
    nobody and must not be counted. Against the shuffler itself, each record keeps epsilon.

    **Proof.** Let the first user's record be x or x', with report densities f and g, and write
    :math:`c = e^\epsilon`. For :math:`Q = (c f - g) / (c - 1)` and
    :math:`Q' = (c g - f) / (c - 1)`, which are densities, f is the mixture
    :math:`(c Q + Q') / (c + 1)` and g the opposite one. Any other user's report has a density
    of at least :math:`\max(f, g) / c \ge (Q + Q') / (2 c)`: it is a clone, drawn from Q or Q'
    by a fair coin, with probability 1 / c. Given the number of clones C, which is binomial
    with mean :math:`\mu = (n - 1) / c`, all that distinguishes x from x' is how many, k, of
    the C + 1 draws came from Q. With :math:`A \sim \mathrm{Bin}(C, 1/2)`, k is A or A + 1, and
    for :math:`t = (2 k - C - 1) / (C + 1)` and :math:`\theta = (c - 1) / (c + 1)` the
    likelihood ratio is :math:`(1 + \theta t) / (1 - \theta t)`. It exceeds :math:`e^e` where
    :math:`t > t_*`, :math:`\theta t_* = (e^e - 1) / (e^e + 1)`, and this needs
    :math:`2 A - C > t_* (C + 1) - 1`. Hoeffding's inequality given C, then the generating
    function of C, bound its probability by

    .. math:: \mathbb{E} \exp(t_* (1 - t_*) - t_*^2 C / 2)
              \le \exp\left(\tfrac14 - \mu (s - s^2 / 2)\right)
              \quad\text{for any}\quad s \le t_*^2 / 2,

    where :math:`t_* \le 1`, as nothing exceeds :math:`e^e` otherwise. It remains to be seen that
    :math:`\mu (s - s^2 / 2) \ge \log(1 / \delta) + 1/4`. Put :math:`M = n / (c + 1)`, which is
    at most :math:`\mu` since the condition on epsilon implies :math:`n > 11 c > c + 1`,
    :math:`\ell = \log(4 / \delta)`, :math:`w^2 = 8 \ell / M` and :math:`D = 1 + \theta w`. The
    formula says :math:`e^e - 1 = \theta (2 w + 4 / M)`, so that :math:`t_* \ge w / D`, and
    :math:`s = w^2 / 2 D^2` gives :math:`M (s - s^2 / 2) = \ell F` with
    :math:`F = (4 - w^2 / D^2) / D^2`. The condition on epsilon says
    :math:`w^2 \le q (1 + 1/c)` for :math:`q = \ell / (2 \ell - 2 \log 2)`, which is at most 1,
    whence also :math:`D \le 1 + \sqrt q`. If :math:`D^2 \le 3`, then :math:`D^2 (4 - D^2) \ge 3
    > w^2`, which is :math:`F \ge 1`. Otherwise :math:`\theta w \ge 0.73` leaves
    :math:`1 / c < 0.21`, so :math:`w^2 \le 1.21 q`. For :math:`\ell \ge 2`, where
    :math:`q \le 0.766`, this and :math:`D^2 \le 3.52` give :math:`D^2 (4 - D^2) \ge 1.68 >
    w^2` and again :math:`F \ge 1`; for smaller :math:`\ell`, F is at least
    :math:`1 - 1.21 / 16 > 0.92`. Since :math:`\log(1 / \delta) + 1/4 < \ell - 1.13`, either
    suffices.

    References
    ----------
    .. [1] V. Feldman, A. McMillan and K. Talwar (2021). Hiding among the clones: a simple and
       nearly optimal analysis of privacy amplification by shuffling. *Symposium on
       Foundations of Computer Science*, 954-964.
    .. [2] V. Feldman, A. McMillan and K. Talwar (2023). Stronger privacy amplification by
       shuffling for Renyi and approximate differential privacy. *Symposium on Discrete
       Algorithms*, 4966-4981.

    Examples
    --------
    >>> from sparsestat.privacy import shuffle_amplification
    >>> round(shuffle_amplification(epsilon=1.0, n_users=100_000, delta=1e-6), 4)
    0.0604
    >>> shuffle_amplification(epsilon=1.0, n_users=100, delta=1e-6)
    1.0
    """
    epsilon = _check_epsilon(epsilon)
    n_users = _check_count(n_users, "n_users")
    delta = _check_delta(delta)
    if epsilon > math.log(n_users / 16.0) - math.log(math.log(2.0 / delta)):
        return epsilon
    spread = 4.0 * math.sqrt(2.0 * math.log(4.0 / delta) / ((math.exp(epsilon) + 1.0) * n_users))
    return min(epsilon, math.log1p(math.expm1(epsilon) * (spread + 4.0 / n_users)))


def _log_gaussian_delta(scale, epsilon):
    """Logarithm of the delta of unit sensitivity, for a standard deviation."""
    a, b = 0.5 / scale, epsilon * scale
    near, far = b - a, b + a
    if near > 1e8:
        return -math.inf
    log_density = -0.5 * near * near - _LOG_SQRT_2PI
    if near <= 0.0:
        lost = 0.5 * math.erfc(-near / math.sqrt(2.0)) + math.exp(log_density) * _mills(far)
        # Half of what is kept, at least, so that the subtraction loses a bit or two.
        if lost <= 0.5:
            return math.log1p(-lost)
    else:
        kept, lost = _mills(near), _mills(far)
        if lost <= 0.5 * kept:
            return log_density + math.log(kept - lost)
    return log_density + math.log(_mills_difference(near, 2.0 * a))


def _mills(t):
    """Mills' ratio of the normal distribution, the tail over the density."""
    if t < 2.0:
        return 0.5 * math.erfc(t / math.sqrt(2.0)) * math.exp(0.5 * t * t + _LOG_SQRT_2PI)
    fraction = t
    for level in range(_MILLS_LEVELS, 0, -1):
        fraction = t + level / fraction
    return 1.0 / fraction


def _mills_difference(t, width):
    """Mills' ratio at t less that at t + width, without cancellation."""
    nodes, weights = _gauss_legendre()
    # Beyond, the integrand has fallen by a factor exp(-42).
    end = 84.0 / (t + math.sqrt(t * t + 84.0))
    s = end * nodes
    return end * float(weights @ (np.exp(-s * (t + 0.5 * s)) * -np.expm1(-width * s)))


@functools.lru_cache(maxsize=1)
def _gauss_legendre():
    """Nodes and weights on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(48)
    return 0.5 * (nodes + 1.0), 0.5 * weights


def _log_zcdp_delta(rho, epsilon):
    """Logarithm of the delta of the best order, for rho-zCDP."""

    def slope(log_t):
        # Derivative in t = alpha - 1 of a convex function; log1p(1 / t) is what diverges.
        gap = math.log1p(math.exp(-log_t)) if log_t > -30.0 else -log_t
        return (1.0 + 2.0 * math.exp(log_t)) * rho - epsilon - gap

    low, high = -700.0, 700.0
    for _ in range(64):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if slope(middle) < 0.0 else (low, middle)
    t = math.exp(high)
    order_term = -t * math.log1p(1.0 / t) - math.log1p(t)
    return min(0.0, t * ((1.0 + t) * rho - epsilon) + order_term)


def _search_up(is_enough):
    """Smallest positive float that is enough; all larger ones are, and the result is."""
    low = high = 1.0
    while not is_enough(high):
        low, high = high, 2.0 * high
        if high == math.inf:
            raise ValueError(
                "epsilon and delta must be larger: no finite noise is private enough for them."
            )
    while is_enough(low):
        low, high = 0.5 * low, low
    while True:
        middle = 0.5 * (low + high)
        if not low < middle < high:
            return high
        low, high = (low, middle) if is_enough(middle) else (middle, high)


def _check_real(value, name):
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r}.")
    return float(value)


def _check_epsilon(value):
    number = _check_real(value, "epsilon")
    if not 0.0 < number <= _MAX_EPSILON:
        raise ValueError(f"epsilon must be above 0 and at most 50, got {number!r}.")
    return number


def _check_delta(value):
    number = _check_real(value, "delta")
    if not 0.0 <= number < 1.0:
        raise ValueError(f"delta must be above 0 and below 1, got {number!r}.")
    if number == 0.0:
        raise ValueError("delta must be above 0, got 0.0: no finite noise gives pure privacy here.")
    return number


def _check_positive(value, name):
    number = _check_real(value, name)
    if not 0.0 < number < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {number!r}.")
    return number


def _check_count(value, name):
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}.")
    return int(value)
