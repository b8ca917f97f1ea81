"""How many users a campaign needs, before there is one."""

import math
from dataclasses import dataclass, field, fields

import numpy as np
from scipy import optimize, special

from sparsestat.privacy._config import LDPConfig

KINDS = ("moments", "cross", "gradient")
_SMALLEST_EPSILON, _LARGEST_EPSILON = 1e-3, 50.0
# A server counts this many reports at least before its 64-bit sums could overflow.
_MOST_USERS = 2.0**55


@dataclass(frozen=True, repr=False)
class LDPPlan:
    """How epsilon, users and error go together; numbers, or arrays of one shape.

    Parameters
    ----------
    kind, mechanism : str
        What is reported, and how it is randomised.
    n_features, n_nonzero : int or ndarray
        Size of the problem.
    epsilon : float or ndarray
        Privacy of a report. Infinite if none up to 50 is enough; what depends on it is then
        NaN, and `report_size` 0.
    delta : float
        Delta of a report; 0 for pure mechanisms.
    n_users : int or ndarray
        Number of users, each with one report.
    error : float or ndarray
        Root mean square of the Euclidean distance of the coefficients from the true ones, in
        public units; at most that of coefficients of norm `coef_bound` in a random direction.
    miss_rate : float or ndarray
        Expected share of the true features that are not selected.
    coef_noise : float or ndarray
        Standard deviation that the noise of all reports gives a coefficient.
    report_noise : float or ndarray
        Standard deviation of one entry of the vector decoded from one report, see
        :class:`LDPConfig`.
    report_size : int or ndarray
        Bytes of one report on the wire.
    """

    kind: str
    mechanism: str
    n_features: int
    n_nonzero: int
    epsilon: float
    delta: float
    n_users: int
    error: float
    miss_rate: float
    coef_noise: float
    report_noise: float
    report_size: int
    _model: "_Model" = field(init=False)

    def predicted_error(self, n_users):
        """Predict the error of the same campaign with other numbers of users.

        Parameters
        ----------
        n_users : float or array-like
            Numbers of users, of a shape that broadcasts with the plan.

        Returns
        -------
        error : float or ndarray
            As the attribute `error`; NaN where epsilon is infinite.
        """
        n_users = np.asarray(n_users, dtype=np.float64)
        if not np.all(n_users > 0):
            raise ValueError(f"n_users must be positive, got {n_users!r}.")
        cells = np.broadcast_arrays(self.n_features, self.n_nonzero, self.epsilon, n_users)
        errors = [
            self._model.error(int(d), int(k), float(epsilon), float(n))
            for d, k, epsilon, n in zip(*(cell.ravel() for cell in cells), strict=True)
        ]
        return _shaped(errors, cells[0].shape)

    def to_frame(self):
        """Write the plan as a table.

        Returns
        -------
        table : pandas.DataFrame
            One row for each combination.
        """
        import pandas as pd

        return pd.DataFrame(dict(zip(_COLUMNS, self._columns(), strict=True)))

    def _columns(self):
        return [np.ravel(getattr(self, name)) for name in _COLUMNS]

    def __repr__(self):
        width = [max(len(name), 11) for name in _COLUMNS]
        lines = [
            f"LDPPlan(kind={self.kind!r}, mechanism={self.mechanism!r}, delta={self.delta:g})",
            "  ".join(name.rjust(w) for name, w in zip(_COLUMNS, width)),
        ]
        for row in zip(*self._columns()):
            cells = [
                f"{value:,}" if isinstance(value, np.integer) else f"{value:.4g}" for value in row
            ]
            lines.append("  ".join(cell.rjust(w) for cell, w in zip(cells, width)))
        return "\n".join(lines)


_COLUMNS = [
    column.name
    for column in fields(LDPPlan)
    if column.name not in ("kind", "mechanism", "delta", "_model")
]


def plan_ldp(
    n_features,
    n_nonzero,
    epsilon=None,
    target_error=None,
    *,
    n_users=None,
    kind="moments",
    mechanism="one_bit",
    delta=0.0,
    n_bits=None,
    x_bound=None,
    y_bound=2.5,
    residual_bound=1.5,
    gamma=None,
    coef_bound=1.0,
    min_coef=None,
    min_eigenvalue=1.0,
    n_rounds=4,
):
    r"""Plan a campaign: users, epsilon and error, of which two give the third.

    The noise of reports is known before any record is, so that the error of an estimate that
    keeps the `n_nonzero` largest coefficients can be predicted. Under local privacy the
    dimension enters polynomially: of 10 features a good estimate takes some hundred thousand
    users at epsilon 1, of 50 it takes millions.

    Parameters
    ----------
    n_features : int or array-like
        Number of features; an intercept counts as one.
    n_nonzero : int or array-like
        Number of features with a coefficient, which the estimator is told.
    epsilon : float, array-like or None, default=None
        Privacy of a report, above 0 and at most 50.
    target_error : float, array-like or None, default=None
        Root mean square of the Euclidean error of the coefficients, in public units; below
        `coef_bound`, which is the error of answering zero.
    n_users : int, array-like or None, default=None
        Number of users. Exactly one of `epsilon`, `target_error` and `n_users` must be None,
        and is what the plan finds. Arrays are broadcast against each other.
    kind : {"moments", "cross", "gradient"}, default="moments"
        "moments" is :class:`LDPSparseRegressor`, "cross" the same with a Gram matrix from very
        many public rows, and "gradient" is :class:`LDPIHTRegressor`.
    mechanism : {"one_bit", "duchi", "gaussian", "discrete_gaussian"}, default="one_bit"
        How reports are randomised, see :class:`LDPConfig`.
    delta : float, default=0.0
        Above 0 for the Gaussian mechanisms only.
    n_bits : int or None, default=None
        Bits per report; None takes the best number for epsilon.
    x_bound : float or None, default=None
        Radius to which features are clipped; None is the square root of `n_features`.
    y_bound : float, default=2.5
        Bound on the target, in public units.
    residual_bound : float, default=1.5
        Bound on the residual of the kind "gradient".
    gamma : float or None, default=None
        Weight of the cross moments in "moments", see :class:`LDPConfig`.
    coef_bound : float, default=1.0
        Euclidean norm of the coefficients, in public units.
    min_coef : float or None, default=None
        Size of the nonzero coefficients that is to be planned for; None is equal ones, of
        ``coef_bound / sqrt(n_nonzero)``. Smaller ones are missed more often.
    min_eigenvalue : float, default=1.0
        Smallest eigenvalue of the covariance of the features in public units; 1 for
        standardised, uncorrelated features. All directions are planned for as if they were the
        worst one, which with a smaller value is usually on the safe side for "moments" and
        "cross". "gradient" takes 1 only: with features that depend on each other the steps are
        still on their way when the rounds end, which no formula for the noise can tell.
    n_rounds : int, default=4
        Rounds of the kind "gradient", which share the users; at least 2.

    Returns
    -------
    plan : LDPPlan

    Raises
    ------
    TypeError, ValueError
        If not exactly one of the three is None, a value is out of range, or more users would
        be needed than a server can count.

    See Also
    --------
    LDPConfig : The noise of one report.

    Notes
    -----
    The coefficients before selection are the true ones and noise of standard deviation
    :math:`\tau`. Let :math:`\lambda` be `min_eigenvalue` times
    :math:`E[\min(|x|^2, r^2)] / d` for normal x, s the noise of a report, B `coef_bound` and n
    the number of users. Then

    .. math:: \tau^2 = \frac{s^2}{n \lambda^2} \cdot \begin{cases} 1 & \text{cross} \\
        T / (T - 1) & \text{gradient, } T \text{ rounds} \\
        \gamma^{-2} + B^2 / 2 & \text{moments.} \end{cases}

    In "gradient" each round has n / T users and all rounds but the first are averaged. In
    "moments" the equations :math:`(\lambda I + N) \theta = b + e` have noise on both sides, of
    which :math:`e - N \theta` is left to first order, with that variance per entry.

    Keeping the k largest of d coefficients, k of which are of size m, is a threshold t at
    which as many of the others pass as true ones are missed: :math:`(d - k) P(|\tau Z| > t) = k
    P(|m + \tau Z| \le t)` for normal Z. The error is

    .. math:: k \, \tau^2 E[Z^2; |m + \tau Z| > t] + k \, m^2 P(|m + \tau Z| \le t)
        + (d - k) \, \tau^2 E[Z^2; |\tau Z| > t],

    in which the first term is estimation and the others are selection: the former falls
    as 1 / n, the latter appears abruptly once :math:`\tau \sqrt{2 \log d}` is near m. Most
    campaigns in that range select well and some fail; predictions of errors above a third of
    `coef_bound` are rough, and for "gradient" up to a fifth too small.

    Coefficients on the boundary of the ball of radius `coef_bound` gain from the projection onto
    it, and come out somewhat better than predicted.

    Not part of the prediction: the error that the same estimate would have without privacy,
    of order :math:`\sqrt{k \log d / n}`, which matters only for very large epsilon; the bias
    from clipping targets, small if few exceed `y_bound`; the error of public rows in
    "cross", of order :math:`B \sqrt{k / m}` for m rows.

    Examples
    --------
    >>> from sparsestat.privacy import plan_ldp
    >>> plan = plan_ldp(10, 3, epsilon=1.0, target_error=0.2)
    >>> 200_000 < plan.n_users < 250_000
    True
    >>> round(float(plan.predicted_error(plan.n_users)), 3)
    0.2

    What epsilon would do with a million users, and a table:

    >>> better = plan_ldp(10, 3, target_error=0.2, n_users=1_000_000)
    >>> 0.3 < better.epsilon < 0.6
    True
    >>> table = plan_ldp([[5], [10], [20]], 2, epsilon=[0.5, 1, 2, 4], target_error=0.2)
    >>> table.n_users.shape
    (3, 4)
    """
    unknown = [
        name
        for name, value in [
            ("epsilon", epsilon),
            ("target_error", target_error),
            ("n_users", n_users),
        ]
        if value is None
    ]
    if len(unknown) != 1:
        raise ValueError(
            "exactly one of epsilon, target_error and n_users must be None, to be found from "
            f"the other two; got {len(unknown)} that are None."
        )
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {list(KINDS)}, got {kind!r}.")
    model = _Model(
        kind=kind,
        mechanism=mechanism,
        options={
            "delta": delta,
            "n_bits": n_bits,
            "x_bound": x_bound,
            "y_bound": y_bound,
            "residual_bound": residual_bound,
            "gamma": gamma,
        },
        coef_bound=_positive(coef_bound, "coef_bound"),
        min_coef=None if min_coef is None else _positive(min_coef, "min_coef"),
        min_eigenvalue=_positive(min_eigenvalue, "min_eigenvalue"),
        n_rounds=_rounds(n_rounds),
    )
    if kind == "gradient" and model.min_eigenvalue != 1.0:
        raise ValueError(
            "min_eigenvalue must be 1 for kind='gradient': rounds are predicted for features "
            f"that hardly depend on each other, got {min_eigenvalue!r}. Simulate with fit."
        )
    given = [
        _counts(n_features, "n_features"),
        _counts(n_nonzero, "n_nonzero"),
        _numbers(epsilon, "epsilon", _LARGEST_EPSILON, True),
        _numbers(target_error, "target_error", model.coef_bound, False),
        _numbers(n_users, "n_users", _MOST_USERS, True),
    ]
    try:
        cells = np.broadcast_arrays(*given)
    except ValueError as error:
        shapes = ", ".join(str(array.shape) for array in given)
        raise ValueError(
            "n_features, n_nonzero, epsilon, target_error and n_users must broadcast against "
            f"each other, got the shapes {shapes}."
        ) from error
    rows = [
        _plan_cell(model, unknown[0], *row)
        for row in zip(*(cell.ravel().tolist() for cell in cells), strict=True)
    ]
    columns = (_shaped(column, cells[0].shape) for column in zip(*rows, strict=True))
    found = dict(zip(_COLUMNS, columns, strict=True))
    plan = LDPPlan(kind=kind, mechanism=mechanism, delta=float(delta), **found)
    object.__setattr__(plan, "_model", model)
    return plan


def _plan_cell(model, unknown, d, k, epsilon, target, n):
    if k > d:
        raise ValueError(f"n_nonzero must be at most n_features={d}, got {k}.")
    if unknown == "epsilon":
        epsilon = model.epsilon_for(d, k, n, target)
    elif unknown == "n_users":
        n = model.users_for(d, k, epsilon, target)
    if math.isinf(epsilon):
        return d, k, epsilon, int(n), math.nan, math.nan, math.nan, math.nan, 0
    config = model.config(d, epsilon)
    error, miss_rate, noise = model.risk(d, k, config, n)
    return d, k, epsilon, int(n), error, miss_rate, noise, config.noise_scale, config.report_size


@dataclass(frozen=True)
class _Model:
    """What is fixed in a plan, and the prediction that follows from the rest."""

    kind: str
    mechanism: str
    options: dict
    coef_bound: float
    min_coef: float | None
    min_eigenvalue: float
    n_rounds: int

    def config(self, d, epsilon):
        return LDPConfig(self.kind, d, epsilon, mechanism=self.mechanism, **self.options)

    def error(self, d, k, epsilon, n):
        return math.nan if math.isinf(epsilon) else self.risk(d, k, self.config(d, epsilon), n)[0]

    def risk(self, d, k, config, n):
        """Error, share of missed features, and noise of a coefficient."""
        noise = self.coef_noise(config, n)
        size = self.coef_bound / math.sqrt(k) if self.min_coef is None else self.min_coef
        error, miss_rate = selection_risk(d, k, size, noise)
        # Noise alone, projected onto the ball, is as far from the truth as this.
        return min(error, math.sqrt(2.0) * self.coef_bound), miss_rate, noise

    def coef_noise(self, config, n):
        curvature = self.min_eigenvalue * mean_clipped_square(config.n_columns, config.x_bound)
        relative = config.noise_scale**2 / (n * curvature**2)
        if self.kind == "cross":
            return math.sqrt(relative)
        if self.kind == "gradient":
            return math.sqrt(relative * self.n_rounds / (self.n_rounds - 1))
        return math.sqrt(relative * (config.gamma**-2 + 0.5 * self.coef_bound**2))

    def users_for(self, d, k, epsilon, target):
        config = self.config(d, epsilon)

        def excess(log_n):
            return math.log(self.risk(d, k, config, math.exp(log_n))[0] / target)

        most = math.log(_MOST_USERS)
        if excess(most) > 0:
            raise ValueError(
                f"target_error={target!r} would need more than 2**55 users at epsilon="
                f"{epsilon!r}; ask for less."
            )
        if excess(0.0) <= 0:
            return 1
        return math.ceil(math.exp(optimize.brentq(excess, 0.0, most, xtol=1e-12)))

    def epsilon_for(self, d, k, n, target):
        def excess(log_epsilon):
            return math.log(self.error(d, k, math.exp(log_epsilon), n) / target)

        low, high = math.log(_SMALLEST_EPSILON), math.log(_LARGEST_EPSILON)
        # The exponential of the logarithm of the largest value must not exceed it.
        high -= 1e-12
        if excess(high) > 0:
            return math.inf
        if excess(low) <= 0:
            return _SMALLEST_EPSILON
        return math.exp(optimize.brentq(excess, low, high, xtol=1e-12))


def mean_clipped_square(d, radius):
    r"""Mean of ``min(|x|^2, radius^2) / d`` for standard normal x.

    As the density of :math:`\chi^2_d` times its argument is d times that of
    :math:`\chi^2_{d + 2}`, it is :math:`F_{d + 2}(r^2) + (r^2 / d) (1 - F_d(r^2))`.

    Parameters
    ----------
    d : int
        Dimension of x.
    radius : float
        What x is clipped to.

    Returns
    -------
    mean : float
        At most 1.
    """
    square = radius * radius
    return float(special.chdtr(d + 2, square) + square / d * special.chdtrc(d, square))


def selection_risk(d, k, size, noise):
    """Error of the k largest of d noisy coefficients, k of which are not zero.

    Parameters
    ----------
    d, k : int
        Number of coefficients, and of those that are not zero.
    size : float
        Absolute value of the latter.
    noise : float
        Standard deviation of the noise.

    Returns
    -------
    error : float
        Root mean square of the Euclidean error.
    miss_rate : float
        Expected share of the nonzero coefficients that are not among the k largest.
    """
    m = size / noise
    if k == d:
        return math.sqrt(k) * noise, 0.0

    def missed(t):
        return special.ndtr(t - m) - special.ndtr(-t - m)

    def excess(t):
        return k * missed(t) - 2.0 * (d - k) * special.ndtr(-t)

    t = optimize.brentq(excess, 0.0, m + 40.0)
    rate = float(missed(t))
    found = _upper_square(t - m) + _upper_square(t + m)
    wrong = 2.0 * _upper_square(t)
    square = noise**2 * (k * found + (d - k) * wrong) + k * size**2 * rate
    return math.sqrt(square), rate


def _upper_square(t):
    """Mean of the square of a normal variable where it exceeds t."""
    density = math.exp(-0.5 * t * t) / math.sqrt(2.0 * math.pi)
    return t * density + float(special.ndtr(-t))


def _shaped(values, shape):
    return np.array(values).reshape(shape) if shape else values[0]


def _counts(values, name):
    array = np.asarray(values)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be an integer or an array of integers, got {values!r}.")
    if array.size == 0 or array.min() < 1:
        raise ValueError(f"{name} must be at least 1, got {values!r}.")
    return array


def _numbers(values, name, largest, inclusive):
    if values is None:
        return np.asarray(math.nan)
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} must be a number or an array of numbers, got {values!r}.")
    array = array.astype(np.float64)
    inside = (array > 0) & ((array <= largest) if inclusive else (array < largest))
    if array.size == 0 or not np.all(inside):
        bound = f"at most {largest:g}" if inclusive else f"below {largest:g}"
        raise ValueError(f"{name} must be above 0 and {bound}, got {values!r}.")
    return array


def _positive(value, name):
    array = np.asarray(value)
    if array.ndim or array.dtype.kind not in "iuf":
        raise TypeError(f"{name} must be a number, got {value!r}.")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be positive and finite, got {value!r}.")
    return float(value)


def _rounds(value):
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"n_rounds must be an integer, got {value!r}.")
    if value < 2:
        raise ValueError(f"n_rounds must be at least 2, got {value}.")
    return int(value)
