"""The public description of a campaign: what is refused, what is canonical, what is bounded."""

import copy
import dataclasses
import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsestat.privacy._accounting import analytic_gaussian_sigma, default_n_bits
from sparsestat.privacy._config import KINDS, MECHANISMS, LDPConfig, PrivacySpec
from sparsestat.privacy._records import clean_records, report_vectors

DELTA = {"gaussian": 1e-6, "discrete_gaussian": 1e-6}


def make(kind="moments", n_features=3, mechanism="one_bit", **settings):
    settings.setdefault("delta", DELTA.get(mechanism, 0.0))
    return LDPConfig(kind, n_features, mechanism=mechanism, **settings)


# --- what is refused -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "moment"}, r"kind must be one of \['moments', .*\], got 'moment'"),
        ({"kind": ["moments"]}, "kind must be one of"),
        ({"mechanism": "laplace"}, "mechanism must be one of"),
        ({"loss": "hinge"}, "loss must be one of"),
        ({"loss": "logistic"}, "loss='logistic' needs kind='gradient', got kind='moments'"),
        ({"n_features": 0}, "n_features must be at least 1, got 0"),
        ({"n_features": 2**24 + 1}, "n_features must be at most 16777216"),
        ({"n_features": 10**400}, "n_features must be at most"),
        ({"epsilon": 0.0}, "epsilon must be above 0 and at most 50, got 0.0"),
        ({"epsilon": -1.0}, "epsilon must be above 0"),
        ({"epsilon": 50.1}, "epsilon must be above 0 and at most 50"),
        ({"epsilon": math.nan}, "epsilon must be finite"),
        ({"epsilon": math.inf}, "epsilon must be finite"),
        ({"epsilon": 1e-30}, "epsilon must be larger, got 1e-30 for n_bits=1"),
        ({"epsilon": 1e-18, "n_bits": 32}, "epsilon must be larger, got 1e-18 for n_bits=32"),
        ({"delta": 1e-5}, "mechanism='one_bit' is pure: set delta=0"),
        ({"delta": 1e-5, "mechanism": "duchi"}, "mechanism='duchi' is pure"),
        ({"mechanism": "gaussian"}, "mechanism='gaussian' needs delta above 0"),
        ({"mechanism": "discrete_gaussian"}, "needs delta above 0, got 0"),
        ({"mechanism": "gaussian", "delta": 1.0}, r"delta must be in \[0, 1\), got 1.0"),
        ({"mechanism": "gaussian", "delta": -1e-9}, "delta must be in"),
        ({"mechanism": "gaussian", "delta": math.nan}, "delta must be finite"),
        ({"mechanism": "gaussian", "delta": 1e-5, "n_bits": 1}, "n_bits must be None"),
        (
            {"mechanism": "discrete_gaussian", "delta": 1e-5, "epsilon": 1e-9},
            "asks for more noise than 32-bit reports hold",
        ),
        (
            {"mechanism": "gaussian", "delta": 1e-5, "epsilon": 1e-300},
            "asks for more noise than 32-bit reports hold",
        ),
        ({"n_bits": 0}, "n_bits must be at least 1"),
        ({"n_bits": 33}, "n_bits must be at most 32"),
        ({"x_bound": 0.0}, "x_bound must be positive"),
        ({"x_bound": -1.0}, "x_bound must be positive"),
        ({"x_bound": 1e-61}, "x_bound must be positive .within 1e-60 and 1e60"),
        ({"y_bound": math.inf}, "y_bound must be finite"),
        ({"y_bound": 10**400}, "y_bound must be finite"),
        ({"y_bound": 1e60}, "y_bound must be positive"),
        ({"residual_bound": 0}, "residual_bound must be positive"),
        ({"gamma": -0.5}, "gamma must be positive"),
        ({"y_scale": 0.0}, "y_scale must be positive"),
        ({"y_center": math.nan}, "y_center must be finite"),
        ({"feature_center": [0.0, 1.0]}, "feature_center must hold one number for each of the 3"),
        ({"feature_center": [0.0, 1.0, math.nan]}, "feature_center must be finite"),
        ({"feature_center": [0.0, 1.0, 10**400]}, "feature_center must be finite"),
        ({"feature_scale": [1.0, 1.0, 0.0]}, "feature_scale must be positive and finite"),
        ({"feature_scale": [1.0, 1.0, math.inf]}, "feature_scale must be positive and finite"),
        ({"version": 2}, "version must be 1, got 2"),
    ],
)
def test_values_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        LDPConfig(**({"kind": "moments", "n_features": 3} | settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_features": 3.0}, "n_features must be an integer, got 3.0"),
        ({"n_features": True}, "n_features must be an integer"),
        ({"epsilon": "1"}, "epsilon must be a number, got '1'"),
        ({"epsilon": None}, "epsilon must be a number, got None"),
        ({"epsilon": True}, "epsilon must be a number, got True"),
        ({"n_bits": 1.0}, "n_bits must be an integer"),
        ({"y_bound": None}, "y_bound must be a number, got None"),
        ({"y_scale": np.True_}, "y_scale must be a number"),
        ({"x_bound": [1.0]}, r"x_bound must be a number, got \[1.0\]"),
        ({"feature_scale": 1.0}, "feature_scale must hold 3 numbers or be None, got 1.0"),
        ({"feature_scale": ["a", "b", "c"]}, "feature_scale must hold 3 numbers"),
        ({"fit_intercept": 1}, "fit_intercept must be a bool, got 1"),
        ({"campaign_id": 7}, "campaign_id must be a str, got 7"),
        ({"version": 1.0}, "version must be an integer, got 1.0"),
        ({"version": True}, "version must be an integer"),
    ],
)
def test_values_of_a_wrong_type_are_named(settings, message):
    with pytest.raises(TypeError, match=message):
        LDPConfig(**({"kind": "moments", "n_features": 3} | settings))


BOUNDS = ["x_bound", "y_bound", "residual_bound", "gamma", "y_center", "y_scale"]


@pytest.mark.parametrize("name", [*BOUNDS, "feature_center", "feature_scale"])
@pytest.mark.parametrize("value", ["auto", "data", np.max, lambda X: X.std()])
def test_bounds_from_the_data_are_refused_with_the_reason(name, value):
    with pytest.raises(ValueError, match=rf"{name} must be a number that is known .* reveals them"):
        make(**{name: value})


def test_a_gamma_that_the_default_puts_out_of_range():
    with pytest.raises(ValueError, match="gamma must be positive"):
        make(x_bound=1e59, y_bound=1e-59)


# --- what is resolved, and stays so --------------------------------------------------------


def test_defaults_are_resolved():
    config = make(n_features=8, fit_intercept=True)
    assert config.n_columns == 9
    assert config.x_bound == 3.0
    assert config.gamma == 3.0 / 2.5
    assert config.n_bits == 1
    assert [make(epsilon=e).n_bits for e in (0.1, 4.0, 20.0)] == [
        default_n_bits(e) for e in (0.1, 4.0, 20.0)
    ]
    assert make(mechanism="gaussian").n_bits is None
    assert make("label", 1).dim == 1


@pytest.mark.parametrize("n_features", [1, 2, 50])
def test_dimensions(n_features):
    for intercept in (False, True):
        n = n_features + intercept
        dims = [make(kind, n_features, fit_intercept=intercept).dim for kind in KINDS]
        assert dims == [n * (n + 1) // 2 + n, n, n, 1]


def test_types_are_made_plain():
    config = LDPConfig(
        np.str_("moments"),
        np.int64(2),
        np.float32(0.5),
        n_bits=np.int32(2),
        x_bound=2,
        feature_scale=np.array([1, 2], dtype=np.float32),
        fit_intercept=np.True_,
    )
    plain = LDPConfig(
        "moments", 2, 0.5, n_bits=2, x_bound=2.0, feature_scale=(1.0, 2.0), fit_intercept=True
    )
    assert config == plain
    assert config.to_json() == plain.to_json()
    assert type(config.n_features) is int and type(config.epsilon) is float
    assert type(config.feature_scale) is tuple and type(config.fit_intercept) is bool


def test_frozen():
    config = make()
    for field in dataclasses.fields(config):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, field.name, getattr(config, field.name))
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.privacy.epsilon = 0.0


def test_hash_copy_and_pickle():
    config = make(mechanism="discrete_gaussian", feature_scale=[1.0, 2.0, 3.0])
    for twin in (
        make(mechanism="discrete_gaussian", feature_scale=(1, 2, 3)),
        copy.deepcopy(config),
        copy.copy(config),
        pickle.loads(pickle.dumps(config)),
        dataclasses.replace(config),
    ):
        assert twin == config and hash(twin) == hash(config)
        assert twin.fingerprint() == config.fingerprint()
        assert twin.grid_variance == config.grid_variance
    assert len({config, make(), make(), make(campaign_id="b")}) == 3
    with pytest.raises(ValueError, match="epsilon must be above 0"):
        dataclasses.replace(config, epsilon=0.0)


# --- canonical JSON and the fingerprint ----------------------------------------------------

positive = st.floats(1e-6, 1e6)
configs = st.builds(
    lambda kind, mechanism, logistic, intercept, centers, **settings: make(
        kind,
        3,
        mechanism,
        loss="logistic" if logistic and kind == "gradient" else "squared",
        fit_intercept=intercept,
        feature_center=centers,
        **settings,
    ),
    st.sampled_from(KINDS),
    st.sampled_from(MECHANISMS),
    st.booleans(),
    st.booleans(),
    st.none() | st.tuples(*[st.floats(-1e9, 1e9)] * 3),
    epsilon=st.floats(0.01, 50),
    x_bound=st.none() | positive,
    y_bound=positive,
    residual_bound=positive,
    gamma=st.none() | positive,
    feature_scale=st.none() | st.tuples(*[positive] * 3),
    y_center=st.floats(-1e9, 1e9),
    y_scale=positive,
    campaign_id=st.text(),
)


@given(configs)
def test_json_round_trip(config):
    text = config.to_json()
    again = LDPConfig.from_json(text)
    assert again == config
    assert again.to_json() == text
    assert LDPConfig.from_json(text.encode()) == config
    assert again.fingerprint() == config.fingerprint() and len(config.fingerprint()) == 16


@given(configs, configs)
def test_equal_configurations_have_equal_texts(a, b):
    assert (a == b) == (a.to_json() == b.to_json())
    assert (a == b) == (a.fingerprint() == b.fingerprint())


@pytest.mark.parametrize("zero", [0.0, -0.0, 0])
def test_zeros_of_either_sign_are_one(zero):
    config = make(delta=zero, y_center=zero, feature_center=(zero, 1.0, zero))
    assert config == make(feature_center=(0.0, 1.0, 0.0))
    assert config.fingerprint() == make(feature_center=(0.0, 1.0, 0.0)).fingerprint()


def test_the_text_and_the_fingerprint_are_what_they_always_were():
    # Clients of a running campaign hold these; a change of either is a new version.
    config = LDPConfig("moments", n_features=2, epsilon=0.5, campaign_id="2026-11")
    assert config.to_json() == (
        '{"campaign_id":"2026-11","delta":0.0,"epsilon":0.5,"feature_center":null,'
        '"feature_scale":null,"fit_intercept":false,"gamma":0.565685424949238,"kind":"moments",'
        '"loss":"squared","mechanism":"one_bit","n_bits":1,"n_features":2,"residual_bound":1.5,'
        '"version":1,"x_bound":1.4142135623730951,"y_bound":2.5,"y_center":0.0,"y_scale":1.0}'
    )
    assert config.fingerprint().hex() == "e05dbfdec2e9d895798362fb0a13eee0"


def test_every_field_changes_the_fingerprint():
    changed = [
        {},
        {"kind": "cross"},
        {"kind": "gradient"},
        {"kind": "gradient", "loss": "logistic"},
        {"n_features": 4},
        {"epsilon": 1.5},
        {"mechanism": "duchi"},
        {"mechanism": "gaussian", "delta": 1e-6},
        {"mechanism": "gaussian", "delta": 1e-7},
        {"n_bits": 2},
        {"x_bound": 1.0},
        {"y_bound": 1.0},
        {"residual_bound": 1.0},
        {"gamma": 1.0},
        {"feature_center": (0.0, 0.0, 1.0)},
        {"feature_scale": (1.0, 1.0, 2.0)},
        {"y_center": 1.0},
        {"y_scale": 2.0},
        {"fit_intercept": True},
        {"campaign_id": "b"},
    ]
    prints = [
        LDPConfig(**({"kind": "moments", "n_features": 3} | c)).fingerprint() for c in changed
    ]
    assert len(set(prints)) == len(changed)
    # All but the version, of which there is only one.
    names = {name for c in changed for name in c}
    assert names | {"version"} == {field.name for field in dataclasses.fields(LDPConfig)}


def altered(**changes):
    return json.dumps(json.loads(make().to_json()) | changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "text must be the JSON of a configuration"),
        ("{", "text must be the JSON of a configuration"),
        ("[" * 100_000, "text must be the JSON of a configuration"),
        (b"\xff\xfe", "text must be the JSON of a configuration"),
        (None, "text must be the JSON of a configuration"),
        ("[]", "text must be a JSON object, got a list"),
        ("{}", r"missing: \['campaign_id', .*unknown: \[\]"),
        (altered(evil=1), r"missing: \[\], unknown: \['evil'\]"),
        (altered(epsilon=0), "epsilon must be above 0"),
        (altered(epsilon="1"), "text must be .*epsilon must be a number"),
        (altered(epsilon=math.nan), "epsilon must be finite"),
        (altered(n_features=2.5), "text must be .*n_features must be an integer"),
        (altered(x_bound="auto"), "x_bound must be a number that is known"),
        (altered(version=2), "version must be 1"),
        (altered(kind={}), "kind must be one of"),
        (altered(feature_scale=[[1], [1], [1]]), "text must be .*feature_scale must hold 3"),
    ],
)
def test_json_that_is_no_configuration(text, message):
    with pytest.raises(ValueError, match=message):
        LDPConfig.from_json(text)


# --- the guarantee and the size of a report ------------------------------------------------


def test_the_statement_of_privacy():
    pure = make(epsilon=2.0).privacy
    assert pure == PrivacySpec(2.0, 0.0, None, "record", "replace")
    assert pure.is_pure
    for mechanism in ("gaussian", "discrete_gaussian"):
        config = make(mechanism=mechanism, epsilon=2.0)
        spec = config.privacy
        assert (spec.epsilon, spec.delta, spec.is_pure) == (2.0, 1e-6, False)
        sensitivity = config.sensitivity / config.step
        if mechanism == "discrete_gaussian":
            sensitivity = config.grid_sensitivity
        assert spec.rho == pytest.approx(sensitivity**2 / 2 / config.grid_variance)
    assert [make(mechanism=m).deployable for m in MECHANISMS] == [True, True, False, True]


def test_continuous_noise_is_calibrated_to_the_sensitivity():
    config = make(mechanism="gaussian", epsilon=0.7)
    sigma = analytic_gaussian_sigma(0.7, 1e-6, config.sensitivity)
    assert config.step * math.sqrt(config.grid_variance) == pytest.approx(sigma, rel=1e-12)


@pytest.mark.parametrize("epsilon", [1e-6, 0.1, 1.0, 5.0, 20.0, 50.0])
def test_reports_of_bits_are_small(epsilon):
    for mechanism in ("one_bit", "duchi"):
        for n_bits in (None, 1, 8, 9, 32):
            config = make(n_features=50, mechanism=mechanism, epsilon=epsilon, n_bits=n_bits)
            assert config.report_size == 35 + -(-config.n_bits // 8) <= 40
    assert make(mechanism="discrete_gaussian").report_size == 35 + 4 * 9


# --- bounds by brute force -----------------------------------------------------------------

CASES = [
    pytest.param(kind, settings, id=f"{kind}-{i}")
    for kind, choices in {
        "moments": [
            {},
            {"gamma": 0.05},
            {"x_bound": 0.3, "y_bound": 7.0},
            # u = gamma * y_bound / x_bound at the change of formulas, and beyond it.
            {"x_bound": 2.0, "y_bound": 1.0, "gamma": 2.0 * math.sqrt(2.0)},
            {"x_bound": 2.0, "y_bound": 1.0, "gamma": 5.0},
            {"fit_intercept": True},
        ],
        "cross": [{}, {"x_bound": 0.3, "y_bound": 7.0}, {"fit_intercept": True}],
        "gradient": [{}, {"loss": "logistic"}, {"x_bound": 5.0, "residual_bound": 0.1}],
        "label": [{}, {"y_bound": 0.2}],
    }.items()
    for i, settings in enumerate(choices)
]


def largest_distance(config, rng):
    """Search for the two records whose vectors are farthest apart."""
    theta = np.zeros(config.n_columns)
    if config.kind == "gradient":
        # Both records see a large product with the point, although they are opposite.
        theta[0] = 1e-3
    # All pairs of records in every direction, short and long, with targets at their limits.
    angles = np.linspace(0, 2 * math.pi, 120, endpoint=False)
    sizes = config.x_bound * np.array([0.5, 1.0, 1e6])
    targets = np.array([-1e9, -0.7 * config.y_bound, 0.0, 1e9])
    angle, size, y = (part.ravel() for part in np.meshgrid(angles, sizes, targets))
    X = size[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])

    def vectors(X, y):
        return report_vectors(*clean_records(X, y, config), config, theta)

    V = vectors(X, y)
    squares = np.sum(V * V, axis=1)
    products = squares[:, None] + squares - 2 * V @ V.T
    pair = list(np.unravel_index(np.argmax(products), products.shape))
    X, y = X[pair], y[pair]
    largest = np.linalg.norm(np.subtract(*vectors(X, y)))
    # Then the neighbours of the best pair, nearer and nearer.
    for width in np.geomspace(0.1, 1e-6, 60):
        tries = 1 + width * rng.standard_normal((100, 2, 2)), 1 + width * rng.random((100, 2))
        near, targets = X * tries[0], y * tries[1]
        V = vectors(near.reshape(-1, 2), targets.ravel()).reshape(100, 2, -1)
        distances = np.linalg.norm(V[:, 0] - V[:, 1], axis=1)
        best = np.argmax(distances)
        if distances[best] > largest:
            largest, X, y = distances[best], near[best], targets[best]
    return largest


@pytest.mark.parametrize(("kind", "settings"), CASES)
def test_the_sensitivity_is_a_bound_and_tight(kind, settings):
    config = make(kind, 2, **settings)
    found = largest_distance(config, np.random.default_rng(5))
    assert 0.99 * config.sensitivity <= found <= config.sensitivity * (1 + 1e-12)
    # The bound is on what is randomised before the noise, so it is the same for all mechanisms.
    for mechanism in MECHANISMS:
        assert make(kind, 2, mechanism, **settings).sensitivity == config.sensitivity


def awkward_records(rng, n, d):
    """Records of all sizes, the largest and smallest numbers, and what is no number."""
    X = rng.standard_normal((n, d)) * 10.0 ** rng.uniform(-300, 300, (n, 1))
    X[: n // 2] = rng.standard_normal((n // 2, d)) * 10.0 ** rng.uniform(-3, 3, (n // 2, 1))
    y = rng.standard_normal(n) * 10.0 ** rng.uniform(-3, 3, n)
    special = [math.nan, math.inf, -math.inf, 1.7e308, -1.7e308, 5e-324, 0.0, -0.0]
    where = rng.random((n, d)) < 0.1
    X[where] = rng.choice(special, where.sum())
    where = rng.random(n) < 0.2
    y[where] = rng.choice(special, where.sum())
    return X, y


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize(("kind", "settings"), CASES)
def test_no_record_leaves_the_radius(kind, settings, mechanism):
    rng = np.random.default_rng(6)
    config = make(kind, 4, mechanism, **settings)
    records = clean_records(*awkward_records(rng, 3000, 4), config)
    for size in (0.0, 1.0, 1e5, 1e308):
        theta = size * rng.choice([-1.0, 1.0], config.n_columns)
        V = report_vectors(*records, config, theta)
        norms = np.linalg.norm(V / config.radius, axis=1)
        assert np.all(np.isfinite(V)) and norms.max() <= 1 + 1e-12
    distances = np.linalg.norm(V[:300, None] - V[None, -300:], axis=2)
    assert distances.max() <= config.sensitivity * (1 + 1e-12)
    # Vectors at the radius exist, so no smaller one would do.
    if settings.get("loss") != "logistic":
        assert norms.max() >= 0.99


@pytest.mark.parametrize("settings", [{}, {"gamma": 0.05}, {"gamma": 5.0}])
def test_the_sensitivity_of_one_column_is_a_bound(settings):
    config = make("moments", 1, **settings)
    x, y = np.meshgrid(np.linspace(-1, 1, 61), np.linspace(-3, 3, 21))
    V = report_vectors(x.reshape(-1, 1), y.ravel(), config)
    distances = np.linalg.norm(V[:, None] - V[None], axis=2)
    assert 0.7 * config.sensitivity < distances.max() <= config.sensitivity


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_features", [1, 5])
def test_rounding_to_the_grid_stays_within_its_sensitivity(kind, n_features):
    rng = np.random.default_rng(7)
    config = make(kind, n_features, "discrete_gaussian", delta=1e-5)
    half = math.sqrt(config.dim) / 2
    for _ in range(300):
        # The pair of vectors that is farthest apart, and rounds away from one another.
        direction = rng.choice([-1.0, 1.0], config.dim)
        a = rng.standard_normal(config.dim)
        a *= rng.uniform(0, config.radius) / np.linalg.norm(a)
        steps = np.floor(a / config.step) + 0.5 + 1e-6 * direction
        apart = config.sensitivity / config.step / math.sqrt(config.dim)
        other = np.floor(steps - direction * apart) + 0.5 - 1e-6 * direction
        distance = np.linalg.norm(steps - other)
        rounded = np.linalg.norm(np.rint(steps) - np.rint(other))
        assert rounded <= distance + 2 * half
        if distance <= config.sensitivity / config.step:
            assert rounded <= config.grid_sensitivity
    exact = config.sensitivity / config.step + 2 * half
    assert exact <= config.grid_sensitivity <= exact + 2
    assert type(config.grid_sensitivity) is int


def test_the_payload_limit_is_beyond_all_noise():
    config = make("cross", 4, "discrete_gaussian")
    deviations = (config.payload_limit - 2**12) / math.sqrt(config.grid_variance)
    assert 12 <= deviations < 12.1


# --- what one unit of the sums is worth ----------------------------------------------------


@pytest.mark.parametrize("n_bits", [1, 3])
def test_unit_of_one_bit_in_closed_form(n_bits):
    config = make(epsilon=2.0, n_bits=n_bits)
    coth = 1 / math.tanh(2.0 / n_bits / 2)
    assert config.unit == pytest.approx(
        config.radius * math.sqrt(math.pi / 2) * coth / 4 / n_bits, rel=1e-12
    )
    assert config.noise_scale == pytest.approx(
        config.radius * math.sqrt(math.pi / 2) * coth / math.sqrt(n_bits), rel=1e-12
    )


@pytest.mark.parametrize("kind", ["moments", "cross"])
def test_unit_on_the_sphere_in_closed_form(kind):
    config = make(kind, 6, "duchi", epsilon=1.0)
    p = config.dim
    # E|<z, u>| of a uniform point of the sphere, by integrating the first coordinate.
    t = np.linspace(0, math.pi / 2, 20001)
    weight = np.cos(t) ** (p - 2)
    mean = np.trapezoid(np.sin(t) * weight, t) / np.trapezoid(weight, t)
    scale = config.radius / math.tanh(0.5) / mean
    assert config.unit * 2**24 == pytest.approx(scale, rel=1e-7)
    assert config.noise_scale == pytest.approx(scale / math.sqrt(p), rel=1e-7)


def test_unit_of_a_grid_is_its_step():
    config = make(mechanism="discrete_gaussian")
    assert config.unit == config.step == config.radius / 4096
    variance = config.step**2 * (config.grid_variance + 1 / 12)
    assert config.noise_scale == pytest.approx(math.sqrt(variance))
