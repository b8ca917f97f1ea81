"""What the clients and the server of one campaign agree on in public."""

import functools
import hashlib
import json
import math
from dataclasses import dataclass, fields

import numpy as np

from sparsestat.privacy._accounting import (
    analytic_gaussian_sigma,
    coin_amplitude,
    default_n_bits,
    discrete_gaussian_variance,
    gaussian_rho,
)
from sparsestat.privacy._directions import SPHERICAL_GRID

KINDS = ("moments", "cross", "gradient", "label")
MECHANISMS = ("one_bit", "duchi", "gaussian", "discrete_gaussian")
_SEEDED = ("one_bit", "duchi")
_LOSSES = ("squared", "logistic")
# Steps of the integer grid of Gaussian reports from zero to the radius.
_GRID_STEPS = 2**12
# Standard deviations of noise a Gaussian report may be away from the radius. Values beyond are
# clipped by the client, which happens with probability below 1e-31 per entry.
_TAIL = 12.0
# The entries of the moments of more features would not fit into any memory.
_MOST_FEATURES = 2**24
_VERSION = 1


@dataclass(frozen=True)
class PrivacySpec:
    """What a report guarantees to the one whose record it is made from.

    The guarantee is local: for any two records, every set of reports is at most
    ``exp(epsilon)`` times as probable under one as under the other, plus `delta`. Outside it are
    the time of a report and whether it is sent at all.

    Parameters
    ----------
    epsilon : float
        The bound on the log-likelihood ratio.
    delta : float
        Zero for pure differential privacy.
    rho : float or None
        Bound of zero-concentrated differential privacy for Gaussian mechanisms; None for
        pure ones, of which ``epsilon ** 2 / 2`` is a bound.
    unit : str
        What is protected: one record, which is one row.
    adjacency : str
        Which data sets are compared: those that differ by replacing the record.
    """

    epsilon: float
    delta: float
    rho: float | None
    unit: str = "record"
    adjacency: str = "replace"

    @property
    def is_pure(self):
        """Whether delta is zero."""
        return self.delta == 0


@dataclass(frozen=True)
class LDPConfig:
    """Public description of a campaign: what each client sends, and how it is randomised.

    A configuration must be fixed before any record is seen. Bounds, centres and scales that
    are computed from the records themselves would leak them, so none can be derived here from
    data; take them from public knowledge or from public rows (:func:`bounds_from_public`).

    The record ``(x, y)`` is first put into public units, ``(x - feature_center) /
    feature_scale`` and ``(y - y_center) / y_scale``, with a column of ones in front when
    `fit_intercept` is true. Then ``w = min(1, x_bound / |x|_2)`` scales both sides of
    ``y = <x, theta>``, which clips without bias in the least-squares equations, and what is
    reported is an unbiased randomisation of

    ============  ====================================================================
    kind          vector
    ============  ====================================================================
    "moments"     ``(svec(w^2 x x'), gamma * w x * clip(w y, y_bound))``
    "cross"       ``w x * clip(w y, y_bound)``; the Gram matrix comes from public rows
    "gradient"    ``w x * clip(w <x, theta> - w y, residual_bound)`` for the broadcast
                  theta; with ``loss="logistic"`` ``w x * (expit(<x, theta>) - y)``
    "label"       ``clip(y, y_bound)``; the features are public
    ============  ====================================================================

    where ``svec`` lists the upper triangle row by row with off-diagonal entries times the
    square root of two.

    Parameters
    ----------
    kind : {"moments", "cross", "gradient", "label"}
        What is reported.
    n_features : int
        Number of features of a record.
    epsilon : float, default=1.0
        Privacy of one report, above 0 and at most 50.
    delta : float, default=0.0
        Must be 0 for the pure mechanisms and in (0, 1) for the Gaussian ones.
    mechanism : {"one_bit", "duchi", "gaussian", "discrete_gaussian"}, default="one_bit"
        How the vector is randomised. "one_bit" sends the sign of its product with a public
        pseudo-random direction, flipped by an exact coin; "duchi" does so with a direction on
        the sphere, which is the mechanism of Duchi, Jordan and Wainwright for the Euclidean
        ball. "discrete_gaussian" adds exactly sampled integer noise. "gaussian" adds
        floating-point noise and serves simulations only.
    n_bits : int or None, default=None
        Bits per report of "one_bit" and "duchi", each at ``epsilon / n_bits``; None takes the
        number with the smallest variance, about ``epsilon / 2.18``.
    x_bound : float or None, default=None
        Radius to which the features of a record are clipped, in public units; None is the
        square root of the number of columns, the typical norm of standardised features.
    y_bound : float, default=2.5
        Bound on the target, in public units.
    residual_bound : float, default=1.5
        Bound on the residual of "gradient", in public units.
    loss : {"squared", "logistic"}, default="squared"
        Loss whose gradient is reported; "logistic" takes targets 0 and 1 and goes with
        "gradient" only.
    gamma : float or None, default=None
        Weight of the cross moments against the Gram matrix in "moments"; None is
        ``x_bound / y_bound``, with which both have the same bound.
    feature_center, feature_scale : sequence of float or None, default=None
        Public units of the features; None is 0 and 1.
    y_center, y_scale : float, default=0.0 and 1.0
        Public units of the target; not used by the logistic loss.
    fit_intercept : bool, default=False
        Whether a column of ones is put in front of the features.
    campaign_id : str, default=""
        Tells campaigns with equal settings apart. It goes into the fingerprint, and so into
        the directions.
    version : int, default=1
        Version of the protocol; only 1 exists.

    Raises
    ------
    TypeError, ValueError
        For values that are no valid public description; the message names the argument.

    Notes
    -----
    One report of one record satisfies (epsilon, delta)-local differential privacy for the
    replacement of the record by any other; pure, with delta 0, for "one_bit" and "duchi",
    approximate for the Gaussian mechanisms. Outside the guarantee are the time at which a report
    arrives, the round it belongs to and whether somebody takes part at all. Several reports of
    one record compose: their epsilons add up.

    References
    ----------
    .. [1] J. C. Duchi, M. I. Jordan and M. J. Wainwright (2018). Minimax optimal procedures
       for locally private estimation. *Journal of the American Statistical Association*
       113(521), 182-201.
    .. [2] L. Zhu, M. Ding, V. Aggarwal, J. Xu and D. Wang (2024). Improved analysis of sparse
       linear regression in local differential privacy model. *International Conference on
       Learning Representations*.

    Examples
    --------
    >>> from sparsestat.privacy import LDPConfig
    >>> config = LDPConfig("moments", n_features=50, epsilon=1.0, campaign_id="2026-11")
    >>> config.dim, config.report_size
    (1325, 36)
    >>> config.privacy.epsilon, config.privacy.is_pure
    (1.0, True)
    >>> LDPConfig.from_json(config.to_json()) == config
    True
    """

    kind: str
    n_features: int
    epsilon: float = 1.0
    delta: float = 0.0
    mechanism: str = "one_bit"
    n_bits: int | None = None
    x_bound: float | None = None
    y_bound: float = 2.5
    residual_bound: float = 1.5
    loss: str = "squared"
    gamma: float | None = None
    feature_center: tuple[float, ...] | None = None
    feature_scale: tuple[float, ...] | None = None
    y_center: float = 0.0
    y_scale: float = 1.0
    fit_intercept: bool = False
    campaign_id: str = ""
    version: int = _VERSION

    def __post_init__(self):
        self._check_names()
        self._set("n_features", _integer(self.n_features, "n_features", 1, _MOST_FEATURES))
        self._set("epsilon", _epsilon(self.epsilon))
        self._check_delta()
        self._check_bits()
        r = math.sqrt(self.n_columns) if self.x_bound is None else self.x_bound
        self._set("x_bound", _bound(r, "x_bound"))
        self._set("y_bound", _bound(self.y_bound, "y_bound"))
        self._set("residual_bound", _bound(self.residual_bound, "residual_bound"))
        gamma = self.x_bound / self.y_bound if self.gamma is None else self.gamma
        self._set("gamma", _bound(gamma, "gamma"))
        self._set("feature_center", self._units(self.feature_center, "feature_center"))
        self._set("feature_scale", self._units(self.feature_scale, "feature_scale"))
        self._set("y_center", _number(self.y_center, "y_center"))
        self._set("y_scale", _bound(self.y_scale, "y_scale"))
        # A first use of these tells whether the settings can be served at all.
        _ = self.unit, self.noise_scale

    def _set(self, name, value):
        object.__setattr__(self, name, value)

    def _check_names(self):
        for name, allowed in [("kind", KINDS), ("mechanism", MECHANISMS), ("loss", _LOSSES)]:
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} must be one of {list(allowed)}, got {getattr(self, name)!r}."
                )
        if self.loss == "logistic" and self.kind != "gradient":
            raise ValueError(
                f"loss='logistic' needs kind='gradient', got kind={self.kind!r}: its estimate "
                "is no function of moments."
            )
        if not isinstance(self.fit_intercept, bool | np.bool_):
            raise TypeError(f"fit_intercept must be a bool, got {self.fit_intercept!r}.")
        self._set("fit_intercept", bool(self.fit_intercept))
        if not isinstance(self.campaign_id, str):
            raise TypeError(f"campaign_id must be a str, got {self.campaign_id!r}.")
        # True and 1.0 equal 1, but not in the JSON.
        if _integer(self.version, "version", 1) != _VERSION:
            raise ValueError(f"version must be {_VERSION}, got {self.version!r}.")
        self._set("version", _VERSION)

    def _check_delta(self):
        delta = _number(self.delta, "delta")
        if not 0 <= delta < 1:
            raise ValueError(f"delta must be in [0, 1), got {delta!r}.")
        if self.is_seeded and delta > 0:
            raise ValueError(f"mechanism={self.mechanism!r} is pure: set delta=0, got {delta!r}.")
        if not self.is_seeded and delta == 0:
            raise ValueError(
                f"mechanism={self.mechanism!r} needs delta above 0, got 0: Gaussian noise is "
                "never purely private. Use mechanism='one_bit' for delta=0."
            )
        self._set("delta", delta)

    def _check_bits(self):
        if not self.is_seeded:
            if self.n_bits is not None:
                raise ValueError(
                    f"n_bits must be None for mechanism={self.mechanism!r}, got {self.n_bits!r}."
                )
            return
        n_bits = default_n_bits(self.epsilon) if self.n_bits is None else self.n_bits
        n_bits = _integer(n_bits, "n_bits", 1)
        if n_bits > 32:
            raise ValueError(f"n_bits must be at most 32, got {n_bits}.")
        self._set("n_bits", n_bits)

    def _units(self, values, name):
        if values is None:
            return None
        _refuse_automatic(values, name)
        try:
            units = tuple(map(_float, values))
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"{name} must hold {self.n_features} numbers or be None, got {values!r}."
            ) from error
        if len(units) != self.n_features:
            raise ValueError(
                f"{name} must hold one number for each of the {self.n_features} features, got "
                f"{len(units)}."
            )
        if not all(map(math.isfinite, units)) or (name == "feature_scale" and min(units) <= 0):
            right = "positive and finite" if name == "feature_scale" else "finite"
            raise ValueError(f"{name} must be {right}, got {units!r}.")
        return units

    @property
    def is_seeded(self):
        """Whether a report is a nonce and some bits instead of a noisy vector."""
        return self.mechanism in _SEEDED

    @property
    def is_spherical(self):
        """Whether directions are on the sphere."""
        return self.mechanism == "duchi"

    @property
    def n_columns(self):
        """Number of columns of the regression: the features and the intercept."""
        return self.n_features + self.fit_intercept

    @property
    def dim(self):
        """Length of the vector that is randomised."""
        n = self.n_columns
        return {"moments": n * (n + 3) // 2, "cross": n, "gradient": n, "label": 1}[self.kind]

    @property
    def radius(self):
        """Largest Euclidean norm of the vector."""
        r = self.x_bound
        if self.kind == "moments":
            return math.hypot(r * r, self.gamma * r * self.y_bound)
        if self.kind == "cross":
            return r * self.y_bound
        if self.kind == "gradient":
            return r * (1.0 if self.loss == "logistic" else self.residual_bound)
        return self.y_bound

    @property
    def sensitivity(self):
        r"""Largest Euclidean distance between the vectors of two records.

        For all kinds but "moments" two opposite vectors on the boundary give ``2 * radius``.
        Two Gram matrices cannot be opposite. With ``u = gamma * y_bound / r``, two records of
        norm ``r`` at the angle ``a`` with opposite targets at their bounds have

        .. math:: |v - v'|^2 = 2 r^4 (1 - \cos^2 a) + 2 u^2 r^4 (1 + \cos a),

        which is largest at ``cos a = u^2 / 2``, or at ``cos a = 1`` beyond ``u^2 = 2``. With a
        single column there are no angles in between, and the value is a bound that two records
        need not attain; nor need they with the logistic loss and a single column.
        """
        if self.kind != "moments":
            return 2.0 * self.radius
        r, ratio = self.x_bound, (self.gamma * self.y_bound / self.x_bound) ** 2
        if ratio <= 2.0:
            return r * r * (2.0 + ratio) / math.sqrt(2.0)
        return 2.0 * r * r * math.sqrt(ratio)

    @functools.cached_property
    def amplitude(self):
        """Largest distance of a coin's threshold from 2**63, as an integer."""
        return coin_amplitude(self.epsilon, self.n_bits)

    @functools.cached_property
    def step(self):
        """Step of the integer grid of Gaussian reports, in units of the vector."""
        return self.radius / _GRID_STEPS

    @functools.cached_property
    def grid_variance(self):
        """Variance of the noise of Gaussian reports, in squared steps of the grid."""
        if self.mechanism == "gaussian":
            # The noise is added before rounding to the grid, which then costs no privacy.
            sigma = analytic_gaussian_sigma(self.epsilon, self.delta, self.sensitivity)
            return (sigma / self.step) ** 2
        return discrete_gaussian_variance(self.epsilon, self.delta, self.grid_sensitivity**2)

    @property
    def grid_sensitivity(self):
        """Bound on the distance of two vectors that were rounded to the grid, in steps.

        Rounding moves each of the two by half a step per entry at most.
        """
        slack = math.sqrt(self.dim)
        return math.ceil((self.sensitivity / self.step + slack) * (1 + 1e-9))

    @functools.cached_property
    def payload_limit(self):
        """Largest absolute value of an entry of a Gaussian report."""
        limit = _GRID_STEPS + math.sqrt(self.dim) + _TAIL * math.sqrt(self.grid_variance)
        if limit >= 2**31:
            raise ValueError(
                f"epsilon={self.epsilon!r} with delta={self.delta!r} asks for more noise than "
                "32-bit reports hold; take a larger epsilon or mechanism='one_bit'."
            )
        return math.ceil(limit)

    @functools.cached_property
    def unit(self):
        """What one unit of a summed report is worth in the mean of the vector."""
        if not self.is_seeded:
            return self.step
        # E[z sgn<z, u>] = k u: one over k, and one over what the coin leaves of the sign.
        scale = self.radius * 2.0**63 / self.amplitude / self.n_bits
        if self.is_spherical:
            half = math.lgamma((self.dim + 1) / 2) - math.lgamma(self.dim / 2)
            return scale * math.sqrt(math.pi) * math.exp(half) / SPHERICAL_GRID
        return scale if self.dim == 1 else scale * math.sqrt(math.pi / 2.0) / 4.0

    @functools.cached_property
    def noise_scale(self):
        """Standard deviation of an entry of the vector decoded from one report.

        For one bit per report this is the whole spread, sampling included, less the square of
        the mean: the second moment of a decoded entry does not depend on the record.
        """
        if not self.is_seeded:
            _ = self.payload_limit
            return self.step * math.sqrt(self.grid_variance + 1.0 / 12.0)
        per_bit = self.unit * self.n_bits
        if self.is_spherical:
            deviation = per_bit * SPHERICAL_GRID / math.sqrt(self.dim)
        else:
            deviation = per_bit if self.dim == 1 else 4.0 * per_bit
        return deviation / math.sqrt(self.n_bits)

    @property
    def privacy(self):
        """The guarantee of one report, a :class:`PrivacySpec`."""
        rho = None
        if self.mechanism == "gaussian":
            rho = gaussian_rho(self.step * math.sqrt(self.grid_variance), self.sensitivity)
        elif self.mechanism == "discrete_gaussian":
            rho = gaussian_rho(math.sqrt(self.grid_variance), self.grid_sensitivity)
        return PrivacySpec(self.epsilon, self.delta, rho)

    @property
    def deployable(self):
        """Whether the mechanism is safe against attacks on floating-point noise."""
        return self.mechanism != "gaussian"

    @property
    def payload_size(self):
        """Number of bytes of a report that depend on the record."""
        return (self.n_bits + 7) // 8 if self.is_seeded else 4 * self.dim

    @property
    def report_size(self):
        """Number of bytes of a report on the wire."""
        from sparsestat.privacy._reports import OVERHEAD

        return OVERHEAD + self.payload_size

    def to_json(self):
        """Write the canonical JSON: sorted keys, no spaces, exact floats.

        Returns
        -------
        text : str
            Equal configurations have equal texts, on any platform.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text):
        """Read what :meth:`to_json` wrote.

        Parameters
        ----------
        text : str or bytes
            The JSON.

        Returns
        -------
        config : LDPConfig

        Raises
        ------
        ValueError
            If the text is no JSON object, has unknown or missing keys, or invalid values.
        """
        try:
            values = json.loads(text)
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"text must be the JSON of a configuration: {error}") from error
        if not isinstance(values, dict):
            raise ValueError(f"text must be a JSON object, got a {type(values).__name__}.")
        known = {field.name for field in fields(cls)}
        if set(values) != known:
            raise ValueError(
                f"text must have the keys of a configuration; missing: "
                f"{sorted(known - set(values))}, unknown: {sorted(set(values) - known)}."
            )
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"text must be the JSON of a configuration: {error}") from error

    def fingerprint(self):
        """Identify the configuration by 16 bytes.

        Returns
        -------
        digest : bytes
            BLAKE2b of the canonical JSON.
        """
        return self._digest

    @functools.cached_property
    def _digest(self):
        return hashlib.blake2b(self.to_json().encode(), digest_size=16).digest()


def check_config(config):
    """Refuse what is no configuration."""
    if not isinstance(config, LDPConfig):
        raise TypeError(f"config must be an LDPConfig, got a {type(config).__name__}.")


def _refuse_automatic(value, name):
    if callable(value) or isinstance(value, str):
        raise ValueError(
            f"{name} must be a number that is known before any record is seen, got {value!r}: "
            "a bound or a scale that depends on the records reveals them. Take it from public "
            "knowledge, or from public rows by bounds_from_public."
        )


def _float(value):
    try:
        # Adding zero makes -0.0 the 0.0 that it equals, but not in the JSON.
        return float(value) + 0.0
    except OverflowError:
        return math.inf


def _number(value, name):
    _refuse_automatic(value, name)
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be a number, got {value!r}.")
    try:
        number = _float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be a number, got {value!r}.") from error
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {number!r}.")
    return number


def _bound(value, name):
    number = _number(value, name)
    # Squares and fourth powers of a bound must neither overflow nor vanish.
    if not 1e-60 < number < 1e60:
        raise ValueError(f"{name} must be positive (within 1e-60 and 1e60), got {number!r}.")
    return number


def _epsilon(value):
    if callable(value) or isinstance(value, str):
        raise TypeError(f"epsilon must be a number, got {value!r}.")
    number = _number(value, "epsilon")
    if not 0 < number <= 50:
        raise ValueError(f"epsilon must be above 0 and at most 50, got {number!r}.")
    return number


def _integer(value, name, least, most=None):
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}.")
    if most is not None and value > most:
        raise ValueError(f"{name} must be at most {most}, got {value}.")
    return int(value)
