"""Audits: never above the true epsilon, close to it, and sharp enough to catch what is broken."""

import dataclasses
import functools
import math
import pickle

import numpy as np
import pytest
from scipy import optimize, stats

from sparsestat.privacy._audit import (
    AuditResult,
    _as_scores,
    _choose_event,
    _count_hits,
    _log_ratio,
    audit_randomizer,
    audit_scores,
    clopper_pearson_lower,
    clopper_pearson_upper,
)

# With the same order of turns in each run, the mechanisms give the same outputs in each.
audit = functools.partial(audit_randomizer, random_state=0)

# --------------------------------------------------------------------------------------------
# Mechanisms whose epsilon is known exactly.


def one_bit(rng, epsilon, *, radius=1.0):
    """Sign of the product with a random direction, flipped; (direction, bit) is the output."""

    def randomize(v, size):
        z = rng.standard_normal((size, len(v)))
        share = min(1.0, float(np.linalg.norm(v)) / radius)
        probability = 0.5 + 0.5 * math.tanh(epsilon / 2) * share * np.where(z @ v >= 0, 1, -1)
        return z, np.where(rng.random(size) < probability, 1, -1)

    return randomize


def towards(v):
    """The bit, read as an answer to which of v and -v was the record."""
    return lambda output: np.where(output[0] @ v >= 0, 1, -1) * output[1]


def laplace(rng, epsilon):
    """Add noise to a number in [-1, 1]."""
    return lambda x, size: x + rng.laplace(scale=2.0 / epsilon, size=size)


def gaussian(rng, sigma):
    return lambda x, size: x + sigma * rng.standard_normal(size)


def gaussian_epsilon(sigma, delta):
    """Epsilon of normal noise for sensitivity 2, from the closed form of delta."""

    def excess(epsilon):
        m = 2.0 / sigma
        lower = stats.norm.cdf(-m / 2 - epsilon / m)
        return stats.norm.cdf(m / 2 - epsilon / m) - math.exp(epsilon) * lower - delta

    return optimize.brentq(excess, 0.0, 40.0)


def response(rng, epsilon, n_categories):
    """Tell the truth among categories, or any other one, e^epsilon times less often."""
    truth = math.exp(epsilon) / (math.exp(epsilon) + n_categories - 1)

    def randomize(record, size):
        others = (record + rng.integers(1, n_categories, size=size)) % n_categories
        return np.where(rng.random(size) < truth, record, others)

    return randomize


def too_many(n_audits, level):
    """More failures than this have a probability below 1e-6, if each has at most `level`."""
    return int(stats.binom.isf(1e-6, n_audits, level))


# --------------------------------------------------------------------------------------------
# The bound.


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (1, 5), (3, 7), (5, 5), (17, 1000), (999, 1000)])
def test_clopper_pearson_agrees_with_scipy(hits, n):
    for level in (0.001, 0.025, 0.4):
        interval = stats.binomtest(hits, n).proportion_ci(1 - 2 * level, method="exact")
        assert clopper_pearson_lower(hits, n, level) == pytest.approx(interval.low, rel=1e-9)
        assert clopper_pearson_upper(hits, n, level) == pytest.approx(interval.high, rel=1e-9)


@pytest.mark.parametrize("level", [0.01, 0.05, 0.3])
@pytest.mark.parametrize(
    ("p", "q", "delta"),
    [(0.5, 0.5, 0.0), (0.73, 0.27, 0.0), (0.95, 0.3, 0.0), (0.02, 0.001, 0.0), (0.6, 0.3, 0.1)],
)
def test_error_of_the_bound_by_enumeration(p, q, delta, level):
    """For one event, the probability of a wrong bound is summed over all pairs of counts."""
    n = 60
    epsilon = max(0.0, math.log((p - delta) / q))
    hits = np.arange(n + 1)
    bounds = _log_ratio(hits[:, None], hits[None, :], n, delta, level)
    wrong = np.maximum(bounds, 0.0) > epsilon * (1 + 1e-12)
    law = np.outer(stats.binom.pmf(hits, n, p), stats.binom.pmf(hits, n, q))
    assert law[wrong].sum() <= level


# The bound must hold for each run; the mechanisms cover one bit, an event in a tail in which
# all thresholds are equally good, delta above zero, and categories.
MECHANISMS = {
    "response": lambda rng: (response(rng, 1.0, 2), (0, 1), 1.0, {}),
    "laplace": lambda rng: (laplace(rng, 1.0), (-1.0, 1.0), 1.0, {}),
    "gaussian": lambda rng: (
        gaussian(rng, 2.0),
        (-1.0, 1.0),
        gaussian_epsilon(2.0, 0.1),
        {"delta": 0.1},
    ),
    "categories": lambda rng: (response(rng, 1.0, 6), (0, 4), 1.0, {"categorical": True}),
    "nothing": lambda rng: (gaussian(rng, 1.0), (0.3, 0.3), 0.0, {}),
}


@pytest.mark.parametrize("name", sorted(MECHANISMS))
def test_the_bound_is_seldom_above_epsilon(name):
    n_audits, level = 200, 0.3
    rng = np.random.default_rng(sorted(MECHANISMS).index(name))
    randomize, records, epsilon, options = MECHANISMS[name](rng)
    wrong = 0
    for _ in range(n_audits):
        result = audit(
            randomize,
            *records,
            n_trials=400,
            batch_size=400,
            significance_level=level,
            **options,
        )
        wrong += result.epsilon_lower_bound > epsilon * (1 + 1e-12)
    assert wrong <= too_many(n_audits, level)


@pytest.mark.parametrize("name", ["response", "laplace", "gaussian"])
def test_the_usual_level_seldom_errs(name):
    n_audits = 200
    rng = np.random.default_rng(100 + sorted(MECHANISMS).index(name))
    randomize, records, epsilon, options = MECHANISMS[name](rng)
    bounds = [
        audit(randomize, *records, n_trials=4000, batch_size=4000, **options).epsilon_lower_bound
        for _ in range(n_audits)
    ]
    # Of 200 audits at 0.05, 10 may fail; 28 or more have a probability below 1e-6.
    assert np.sum(np.array(bounds) > epsilon) <= too_many(n_audits, 0.05)
    assert np.median(bounds) > 0.4 * epsilon


def test_certifying_on_the_half_that_chose_would_be_wrong():
    """What the split is for: without it the same runs break the level many times."""
    n_audits, level, epsilon = 200, 0.3, 1.0
    rng = np.random.default_rng(5)
    randomize = laplace(rng, epsilon)
    wrong = 0
    for _ in range(n_audits):
        a, b = randomize(-1.0, 200), randomize(1.0, 200)
        threshold, direction, a_is_favoured = _choose_event(a, b, 0.0, level)
        hits = [_count_hits(np.sort(scores), threshold, direction) for scores in (a, b)]
        p, q = hits if a_is_favoured else hits[::-1]
        wrong += _log_ratio(p, q, 200, 0.0, level) > epsilon
    assert wrong > too_many(n_audits, level)


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0, 4.0])
def test_one_bit_is_tight(epsilon):
    """Half a percent to three percent below epsilon is what the binomial errors leave.

    With 1e5 certifying trials the worst, at 4, is q = .018 with a standard error of .00042,
    so that log q_upper is 1.96 * .023 = .046 above and the bound at .988 epsilon; at .5 both
    errors cost .018, that is .964 epsilon. Two more standard errors stay above 0.9.
    """
    rng = np.random.default_rng(int(10 * epsilon))
    v = np.array([0.6, -0.48, 0.64])
    result = audit(
        one_bit(rng, epsilon),
        v,
        -v,
        score=towards(v),
        batch_size=50_000,
        claimed_epsilon=epsilon,
    )
    assert result.n_trials == 200_000
    assert 0.9 * epsilon < result.epsilon_lower_bound <= epsilon
    assert result.refuted is False
    assert result.largest_bound > 4.0


def test_laplace_and_gaussian_are_close():
    rng = np.random.default_rng(3)
    options = {"n_trials": 200_000, "batch_size": 200_000}
    result = audit(laplace(rng, 1.0), -1.0, 1.0, **options)
    assert 0.9 < result.epsilon_lower_bound <= 1.0
    # One event alone cannot show all of a Gaussian's epsilon, least for a small delta.
    epsilon = gaussian_epsilon(2.0, 0.1)
    result = audit(gaussian(rng, 2.0), -1.0, 1.0, delta=0.1, **options)
    assert 0.9 * epsilon < result.epsilon_lower_bound <= epsilon


@pytest.mark.parametrize("flip_scores", [False, True])
@pytest.mark.parametrize("swap_records", [False, True])
def test_direction_and_roles_are_found(flip_scores, swap_records):
    """An asymmetric channel: P(1 | a) = .02 and P(1 | b) = .0001 tell most by one event."""
    rng = np.random.default_rng(4)
    chances = {"a": 0.02, "b": 0.0001}
    sign = -1.0 if flip_scores else 1.0
    records = ("b", "a") if swap_records else ("a", "b")
    result = audit(
        lambda record, size: sign * (rng.random(size) < chances[record]),
        *records,
        n_trials=100_000,
        batch_size=25_000,
    )
    assert 3.0 < result.epsilon_lower_bound <= math.log(200)
    assert result.favoured == ("record_b" if swap_records else "record_a")
    assert result.direction == ("<=" if flip_scores else ">=")
    assert result.counts[int(swap_records)] > 50 * max(1, result.counts[1 - int(swap_records)])


# --------------------------------------------------------------------------------------------
# What is broken must be caught.


def caught(randomize, a, b, claim, **options):
    options = {"n_trials": 40_000, "batch_size": 20_000, **options}
    return audit(randomize, a, b, claimed_epsilon=claim, **options).refuted


def test_catches_a_doubled_epsilon():
    rng = np.random.default_rng(0)
    v = np.array([0.0, 1.0])
    assert caught(one_bit(rng, 2.0), v, -v, 1.0, score=towards(v))
    assert not caught(one_bit(rng, 1.0), v, -v, 1.0, score=towards(v))


def test_catches_a_missing_clip():
    rng = np.random.default_rng(1)

    def randomize(v, size):
        z = rng.standard_normal((size, 2))
        share = np.linalg.norm(v)  # may exceed the radius of 1
        probability = 0.5 + 0.5 * math.tanh(0.5) * share * np.where(z @ v >= 0, 1, -1)
        return z, np.where(rng.random(size) < probability, 1, -1)

    v = np.array([0.9, 1.2])
    assert caught(randomize, v, -v, 1.0, score=towards(v))
    assert not caught(randomize, v / 1.5, -v / 1.5, 1.0, score=towards(v))


def test_catches_bounds_from_the_data():
    rng = np.random.default_rng(2)

    def randomize(v, size):
        radius = np.max(np.abs(v))  # of this record, and of another norm
        z = rng.standard_normal((size, len(v)))
        share = np.linalg.norm(v) / radius
        probability = 0.5 + 0.5 * math.tanh(0.5) * share * np.where(z @ v >= 0, 1, -1)
        return z, np.where(rng.random(size) < probability, 1, -1)

    dense, single = np.full(4, 0.5), np.array([1.0, 0.0, 0.0, 0.0])
    assert caught(randomize, dense, -dense, 1.0, score=towards(dense))
    assert not caught(randomize, single, -single, 1.0, score=towards(single))


def test_catches_a_record_without_noise():
    rng = np.random.default_rng(3)

    def randomize(x, size):
        return np.zeros(size) if x == 0 else x + rng.laplace(scale=2.0, size=size)

    assert caught(randomize, 0.0, 1.0, 1.0, score=lambda output: -np.abs(output))
    assert not caught(randomize, -0.5, 0.5, 1.0)


def test_catches_a_seed_from_the_data():
    def randomize(x, size):
        rng = np.random.default_rng(int(1e6 * (x + 1)))
        return x + rng.laplace(scale=2.0, size=size)

    # Noise that follows from the record repeats for the same record.
    first = {x: randomize(x, 1)[0] for x in (-1.0, 1.0)}
    assert caught(
        lambda x: randomize(x, 1)[0],
        -1.0,
        1.0,
        1.0,
        batch_size=None,
        n_trials=500,
        score=lambda output: output == first[-1.0],
    )


def test_catches_a_leak_through_undefined_outputs():
    rng = np.random.default_rng(6)
    odd = {0: math.nan, 1: math.inf, 2: -math.inf}

    def randomize(record, size):
        outputs = rng.standard_normal(size)
        outputs[rng.random(size) < 0.1] = odd[record]
        return outputs

    for a, b in [(0, 1), (0, 2), (1, 2), (1, 0)]:
        result = audit(randomize, a, b, n_trials=4000, batch_size=1000)
        assert result.epsilon_lower_bound > 1.5, (a, b)


def test_a_model_fit_by_another_library():
    """A central fit of a slope through the origin; a wrong bound leaves its square bare.

    The noise of the sum of squares is scaled by the lower bound of the features twice, where
    the larger of the two belongs, as a library did once; with bounds (0, 1) it vanishes.
    """
    rng = np.random.default_rng(7)

    def fit(data, bounds, epsilon=1.0):
        low, high = bounds
        x, y = np.clip(data, low, high).T
        square = max(low**2, low**2) / (epsilon / 2)
        cross = 2.0 * max(low**2, high**2) / (epsilon / 2)
        return (x @ y + rng.laplace(scale=cross)) / max(x @ x + rng.laplace(scale=square), 0.1)

    data, changed = np.array([[1.0, 1.0], [0.0, 0.0]]), np.zeros((2, 2))
    claim = {"claimed_epsilon": 1.0, "n_trials": 6000, "score": abs}
    assert audit(lambda d: fit(d, (0, 1)), data, changed, **claim).refuted
    assert not audit(lambda d: fit(d, (-1, 1)), data, changed, **claim).refuted


# --------------------------------------------------------------------------------------------
# Kinds of outputs, and how they are handed over.


def test_constant_outputs_say_nothing():
    result = audit(lambda record: 7, "a", "b", n_trials=100)
    assert result.epsilon_lower_bound == 0.0
    assert result.counts == (50, 50)
    assert result.refuted is None


def test_a_deterministic_leak_gets_the_largest_bound():
    result = audit(lambda record: record, 0, 1, n_trials=1000, claimed_epsilon=1)
    assert result.refuted
    # All of 500 against none: log((a / 2)^(1/500) / (1 - (a / 2)^(1/500))) for a = 0.05.
    certain = 0.025 ** (1 / 500)
    assert result.epsilon_lower_bound == pytest.approx(math.log(certain / (1 - certain)), rel=1e-9)
    assert result.largest_bound == result.epsilon_lower_bound


def test_categories_need_no_order():
    """Labels whose likelihood ratio does not follow the order that they come with."""
    rng = np.random.default_rng(8)
    law = {"a": [0.25, 0.4, 0.1, 0.25], "b": [0.25, 0.1, 0.4, 0.25]}
    labels = np.array(["north", "east", "south", "west"])

    def randomize(record, size):
        return labels[rng.choice(4, size=size, p=law[record])]

    result = audit(randomize, "a", "b", n_trials=40_000, batch_size=10_000, categorical=True)
    # Of .4 and .1, 1.96 standard errors from 2e4 trials cost .017 and .042 in the logarithms.
    assert 0.9 * math.log(4) < result.epsilon_lower_bound <= math.log(4)
    assert result.categories in (("east",), ("south",))
    # As numbers in this order, one threshold cannot do better than .65 against .35.
    position = {label: i for i, label in enumerate(labels)}
    numeric = audit(
        lambda record, size: [position[label] for label in randomize(record, size)],
        "a",
        "b",
        n_trials=40_000,
        batch_size=10_000,
    )
    assert 0.9 * math.log(13 / 7) < numeric.epsilon_lower_bound <= math.log(13 / 7)
    assert numeric.categories is None


def test_categories_unseen_when_the_event_was_chosen():
    scores_a, scores_b = ["x"] * 10 + ["new"] * 10, ["y"] * 10 + ["other"] * 10
    result = audit_scores(scores_a, scores_b, categorical=True)
    assert result.epsilon_lower_bound == 0.0
    scores_a, scores_b = ["x"] * 1000, ["y"] * 1000
    assert audit_scores(scores_a, scores_b, categorical=True).categories in (("x",), ("y",))


def test_nan_is_one_category():
    scores_a = [float("nan") for _ in range(200)]
    result = audit_scores(scores_a, [1] * 200, categorical=True)
    assert result.epsilon_lower_bound > 2.0


def test_calls_and_scores_agree():
    """One at a time, in batches, and recorded: the same scores give the same result."""
    scores = {"a": np.random.default_rng(0).normal(1.0, 1.0, 301), "b": np.zeros(301)}
    scores["b"] += np.random.default_rng(1).standard_normal(301)
    calls = []

    def stream(record, position={"a": 0, "b": 0}):  # noqa: B006
        calls.append(record)
        position[record] += 1
        return scores[record][(position[record] - 1) % 301]

    def batches(record, size):
        return [stream(record) for _ in range(size)]

    recorded = audit_scores(scores["a"], scores["b"], claimed_epsilon=0.1)
    single = audit(stream, "a", "b", n_trials=301, claimed_epsilon=0.1, random_state=3)
    assert recorded == single
    assert (single.n_trials, single.n_certification) == (301, 151)
    # The records take turns, in an order that changes.
    pairs = set(zip(calls[::2], calls[1::2]))
    assert pairs == {("a", "b"), ("b", "a")}
    assert audit(batches, "a", "b", n_trials=301, batch_size=64, claimed_epsilon=0.1) == recorded
    assert audit_scores(list(scores["a"]), tuple(scores["b"]), claimed_epsilon=0.1) == recorded


def test_random_state_decides_the_order():
    def order(random_state):
        calls = []
        audit(
            lambda record: calls.append(record) or 0.0,
            "a",
            "b",
            n_trials=40,
            random_state=random_state,
        )
        return calls

    assert order(0) == order(0)
    assert order(0) != order(1)


def test_score_is_applied_to_what_comes_back():
    rng = np.random.default_rng(0)

    def randomize(record, size=None):
        return {"answer": rng.normal(record, 1.0, size)}

    one = audit(randomize, 0.0, 3.0, n_trials=500, score=lambda output: output["answer"])
    many = audit(
        randomize, 0.0, 3.0, n_trials=500, batch_size=100, score=lambda output: output["answer"]
    )
    assert one.epsilon_lower_bound > 1 and many.epsilon_lower_bound > 1
    assert _as_scores([np.float32(1), True, 2, np.array(3.0)]).tolist() == [1, 1, 2, 3]


def test_result_prints_and_travels():
    result = audit_scores([1.0] * 400, [0.0] * 400, claimed_epsilon=1.0)
    text = repr(result)
    assert "epsilon = 1 is refuted" in text
    assert "score >= 1, more probable under record_a" in text
    assert "200 of 200 under record_a, 0 of 200 under record_b" in text
    assert pickle.loads(pickle.dumps(result)) == result
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.delta = 0.5
    quiet = audit_scores([0.0, 1.0] * 20, [1.0, 0.0] * 20, claimed_epsilon=1.0)
    assert "is not refuted (and not proved)" in repr(quiet)
    named = audit_scores(list("abcdefg") * 40, list("x") * 280, categorical=True)
    assert "no claim" in repr(named)
    assert isinstance(named, AuditResult)


def test_delta_is_taken_off():
    p = clopper_pearson_lower(200, 200, 0.025)
    q = clopper_pearson_upper(0, 200, 0.025)
    result = audit_scores([1] * 400, [0] * 400, delta=0.25)
    assert result.epsilon_lower_bound == pytest.approx(math.log((p - 0.25) / q))
    assert audit_scores([1] * 400, [0] * 400, delta=0.999).epsilon_lower_bound == 0.0


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"n_trials": 1}, ValueError, "n_trials must be at least 2, got 1"),
        ({"n_trials": 10.0}, TypeError, "n_trials must be an integer"),
        ({"n_trials": True}, TypeError, "n_trials must be an integer"),
        ({"delta": 1.0}, ValueError, r"delta must be in \[0, 1\), got 1.0"),
        ({"delta": math.nan}, ValueError, "delta must be in"),
        ({"significance_level": 0}, ValueError, "significance_level must be in"),
        ({"significance_level": "5%"}, TypeError, "significance_level must be a number"),
        ({"delta": True}, TypeError, "delta must be a number"),
        ({"claimed_epsilon": -1.0}, ValueError, "claimed_epsilon must be at least 0"),
        ({"claimed_epsilon": math.nan}, ValueError, "claimed_epsilon must be at least 0"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        ({"score": "sum"}, TypeError, "score must be a function"),
        ({"score": lambda output: "text"}, TypeError, "scores must be real numbers, got str"),
        ({"score": lambda output: 1j}, TypeError, "scores must be real numbers, got complex"),
        ({"score": lambda output: [1, 2]}, TypeError, "scores must be real numbers, got list"),
        ({"score": lambda output: None}, TypeError, "scores must be real numbers, got NoneType"),
        ({"categorical": True, "score": lambda output: []}, TypeError, "must be hashable"),
        ({"batch_size": 5}, TypeError, "takes 1 positional argument"),
    ],
)
def test_bad_arguments(options, error, match):
    with pytest.raises(error, match=match):
        audit(lambda record: 0.0, 0, 1, **{"n_trials": 10, **options})


def test_bad_randomizers():
    with pytest.raises(TypeError, match="randomize must be a function of a record, got 3"):
        audit(3, 0, 1)
    with pytest.raises(ValueError, match="one output for each of the 8 trials of a batch, got 3"):
        audit(lambda r, size: [1, 2, 3], 0, 1, n_trials=20, batch_size=8)
    with pytest.raises(TypeError, match="must be a sequence, got a float"):
        audit(lambda r, size: 1.0, 0, 1, n_trials=20, batch_size=8)
    with pytest.raises(TypeError, match="scores must be real numbers"):
        audit(lambda r: np.zeros(r), 1, 2, n_trials=20)
    ragged = iter(range(1, 99))
    with pytest.raises(TypeError, match="scores must be real numbers, got list"):
        audit(lambda r: [0.0] * next(ragged), 0, 1, n_trials=20)
    with pytest.raises(ZeroDivisionError):
        audit(lambda r: 1 / r, 0, 1, n_trials=20)
    with pytest.raises(ValueError, match="one score for each trial, got 3 and 4"):
        audit_scores([1, 2, 3], [1, 2, 3, 4])
    with pytest.raises(ValueError, match="n_trials must be at least 2, got 1"):
        audit_scores([1], [1])
    with pytest.raises(TypeError, match="scores_a must be a sequence, got a int"):
        audit_scores(1, [1])
