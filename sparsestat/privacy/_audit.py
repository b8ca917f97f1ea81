"""Black-box audits: a lower bound on the epsilon of a randomizer, from its outputs alone."""

import math
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
from scipy.special import betaincinv

from sparsestat.utils._random import as_generator

# How many ranks in the middle, and in each tail, are tried as thresholds.
_MIDDLE_RANKS = 256
_TAIL_RANKS = 64


@dataclass(frozen=True, repr=False)
class AuditResult:
    """What an audit found.

    Parameters
    ----------
    epsilon_lower_bound : float
        With a probability of at least ``1 - significance_level`` the true epsilon, at `delta`,
        is no smaller. Zero says that nothing was found.
    claimed_epsilon : float or None
        The epsilon that was to be tested.
    delta : float
        The delta at which the bound holds.
    significance_level : float
        Probability with which the bound may exceed the true epsilon.
    n_trials : int
        Number of outputs of each record.
    n_certification : int
        How many of them the bound rests on; the others chose the event.
    threshold : float
        The event is that the score is on one side of this. NaN stands for an undefined score,
        which counts as larger than all numbers. In an audit of categories a score is the
        logarithm of the ratio of their frequencies among the trials that chose the event.
    direction : {">=", "<="}
        The side.
    favoured : {"record_a", "record_b"}
        The record under which the event is the more probable one.
    counts : tuple of int
        How often the event occurred under `record_a` and under `record_b`, among
        `n_certification` outputs each.
    categories : tuple or None
        The categories that make up the event; None for scores that are numbers. Categories
        that did not occur while the event was chosen have the score zero.
    """

    epsilon_lower_bound: float
    claimed_epsilon: float | None
    delta: float
    significance_level: float
    n_trials: int
    n_certification: int
    threshold: float
    direction: str
    favoured: str
    counts: tuple[int, int]
    categories: tuple | None = None

    @property
    def refuted(self):
        """Whether the claim is refuted; None if none was made.

        False means that this audit found nothing, not that the claim is true.
        """
        if self.claimed_epsilon is None:
            return None
        return self.epsilon_lower_bound > self.claimed_epsilon

    @property
    def largest_bound(self):
        """The bound that a randomizer without any privacy would have got.

        A claim beyond it cannot be refuted with this number of trials.
        """
        n = self.n_certification
        return _log_ratio(n, 0, n, self.delta, self.significance_level)

    def __repr__(self):
        if self.claimed_epsilon is None:
            verdict = "no claim"
        elif self.refuted:
            verdict = f"epsilon = {self.claimed_epsilon:.4g} is refuted"
        else:
            verdict = f"epsilon = {self.claimed_epsilon:.4g} is not refuted (and not proved)"
        if self.categories is None:
            event = f"score {self.direction} {self.threshold:.6g}"
        else:
            names = ", ".join(map(repr, self.categories[:5]))
            event = f"output in {{{names}{', ...' * (len(self.categories) > 5)}}}"
        n = self.n_certification
        return (
            "AuditResult\n"
            f"  epsilon        >= {self.epsilon_lower_bound:.4f} at delta = {self.delta:g}, "
            f"with confidence {1 - self.significance_level:g}\n"
            f"  claim          {verdict}\n"
            f"  event          {event}, more probable under {self.favoured}\n"
            f"  counts         {self.counts[0]} of {n} under record_a, "
            f"{self.counts[1]} of {n} under record_b\n"
            f"  trials         {self.n_trials} of each record, half of them to choose the event\n"
            f"  largest bound  {self.largest_bound:.4f} with as many trials"
        )


def audit_randomizer(
    randomize,
    record_a,
    record_b,
    *,
    n_trials=200_000,
    score=None,
    batch_size=None,
    categorical=False,
    claimed_epsilon=None,
    delta=0.0,
    significance_level=0.05,
    random_state=None,
):
    r"""Bound the epsilon of a randomizer from below by running it.

    The randomizer is a black box: any function that turns a record into a random output. It
    may be a client of this package, a mechanism of another library, or a function that fits a
    model to a data set; then `record_a` and `record_b` are two data sets that differ in one
    row, and the bound is on the epsilon of the central model.

    If the randomizer is (epsilon, delta)-differentially private for the pair, then each event
    has ``P(event | a) <= exp(epsilon) * P(event | b) + delta``. Half of the trials choose an
    event and which record favours it, among all thresholds on the score in both directions.
    The other half, which had no say in the choice, gives the one-sided Clopper-Pearson bounds

    .. math:: \hat\epsilon = \log \frac{p_\mathrm{lower} - \delta}{q_\mathrm{upper}},

    each at half the significance level, so that the bound exceeds epsilon with at most that
    probability.

    Parameters
    ----------
    randomize : callable
        ``randomize(record)`` returns one output or, if `batch_size` is given,
        ``randomize(record, size)`` returns `size` of them. Outputs must be independent of one
        another: a generator that is seeded anew in each call makes them copies.
    record_a, record_b : object
        Two records; handed to `randomize` as they are. The bound is on this pair, so take one
        for which the mechanism should do worst, such as a vector on the boundary and its
        negative.
    n_trials : int, default=200_000
        Number of outputs of each record, at least 2.
    score : callable or None, default=None
        ``score(output)`` is a number that is large for outputs typical of one of the records
        and small for those of the other; with `batch_size` it takes what `randomize` returned
        and returns one number for each output. It must not depend on the outputs of this
        audit. None takes outputs that are numbers as they are. The better it follows the
        ratio of the likelihoods, the larger the bound.
    batch_size : int or None, default=None
        Largest `size` of a call of `randomize`; None calls it for one output at a time.
    categorical : bool, default=False
        Whether outputs (or scores) are labels without an order, of any hashable type. Events
        are then sets of labels, by the ratio of their frequencies in the first half.
    claimed_epsilon : float or None, default=None
        What the randomizer claims; only the verdict depends on it.
    delta : float, default=0.0
        The delta at which epsilon is bounded, in [0, 1).
    significance_level : float, default=0.05
        Probability with which the bound may be wrong.
    random_state : int, RandomState instance, Generator or None, default=None
        Decides which of the records goes first in each turn, so that what drifts with time in
        a randomizer does not look like an effect of the record. The outputs have their own
        source of randomness.

    Returns
    -------
    result : AuditResult
        With the bound, the event, the counts and the verdict.

    Raises
    ------
    TypeError
        If outputs are neither numbers nor, with `categorical`, hashable.
    ValueError
        If a parameter is out of range, or a batch has another number of outputs than asked.

    See Also
    --------
    audit_scores : The same for scores that were recorded elsewhere.

    Notes
    -----
    What an audit proves: that the randomizer is *not* epsilon-private for any epsilon below
    the bound, with the stated confidence, for the replacement of one record by the other.
    What it does not prove: privacy. A bound below the claim can mean that the pair, the score
    or the number of trials did not reveal the flaw; only a proof shows that there is none.
    Several audits of one randomizer, with other pairs or scores, each err with probability
    `significance_level`; divide the level by their number if the largest bound is to count.
    Mechanisms with a large epsilon need many trials, see :attr:`AuditResult.largest_bound`.

    Exceptions of `randomize` are passed on. If they are part of what the mechanism does, then
    catch them and return NaN, which is a score of its own.

    References
    ----------
    .. [1] Z. Ding, Y. Wang, G. Wang, D. Zhang and D. Kifer (2018). Detecting violations of
       differential privacy. *ACM Conference on Computer and Communications Security*, 475-489.
    .. [2] M. Jagielski, J. Ullman and A. Oprea (2020). Auditing differentially private machine
       learning: how private is private SGD? *Advances in Neural Information Processing
       Systems* 33.
    .. [3] H. H. Arcolezi and S. Gambs (2024). Revealing the true cost of locally
       differentially private protocols: an auditing perspective. *Proceedings on Privacy
       Enhancing Technologies* 2024(4).

    Examples
    --------
    Randomised response that is said to have epsilon 1, but tells the truth too often:

    >>> import numpy as np
    >>> from sparsestat.privacy import audit_randomizer
    >>> rng = np.random.default_rng(0)
    >>> def respond(bit, size):
    ...     return np.where(rng.random(size) < 0.9, bit, 1 - bit)
    >>> result = audit_randomizer(
    ...     respond, 0, 1, n_trials=20_000, batch_size=1000, claimed_epsilon=1.0, random_state=1
    ... )
    >>> result.refuted, bool(2.0 < result.epsilon_lower_bound < np.log(9.0))
    (True, True)
    """
    n_trials, delta, level = _check_settings(n_trials, delta, significance_level)
    if not callable(randomize):
        raise TypeError(f"randomize must be a function of a record, got {randomize!r}.")
    if score is not None and not callable(score):
        raise TypeError(f"score must be a function of an output or None, got {score!r}.")
    if batch_size is not None:
        batch_size = _positive_integer(batch_size, "batch_size", 1)
    claim = _check_claim(claimed_epsilon)
    rng = as_generator(random_state)
    sides: tuple[list, list] = ([], [])
    for start in range(0, n_trials, batch_size or 1):
        size = min(batch_size or 1, n_trials - start)
        turns = [(record_a, sides[0]), (record_b, sides[1])]
        for record, scores in turns if rng.random() < 0.5 else turns[::-1]:
            if batch_size is None:
                output = randomize(record)
                scores.append(output if score is None else score(output))
            else:
                outputs = randomize(record, size)
                scores.extend(_one_for_each(outputs if score is None else score(outputs), size))
    return _audit(*sides, categorical, claim, delta, level)


def audit_scores(
    scores_a,
    scores_b,
    *,
    categorical=False,
    claimed_epsilon=None,
    delta=0.0,
    significance_level=0.05,
):
    """Bound the epsilon of a randomizer from below by scores that were recorded.

    For outputs of another process, machine or environment; :func:`audit_randomizer` describes
    the method and what the bound proves.

    Parameters
    ----------
    scores_a, scores_b : array-like of shape (n_trials,)
        Scores, or labels if `categorical`, of independent outputs under the two records, in
        the order in which they were made. The first half of each chooses the event.
    categorical : bool, default=False
        Whether the scores are labels without an order, of any hashable type.
    claimed_epsilon : float or None, default=None
        What the randomizer claims; only the verdict depends on it.
    delta : float, default=0.0
        The delta at which epsilon is bounded, in [0, 1).
    significance_level : float, default=0.05
        Probability with which the bound may be wrong.

    Returns
    -------
    result : AuditResult

    Raises
    ------
    TypeError
        If scores are neither numbers nor, with `categorical`, hashable.
    ValueError
        If the two have different lengths, fewer than 2 trials, or a parameter is out of range.

    See Also
    --------
    audit_randomizer : Runs the randomizer itself.

    Examples
    --------
    >>> import numpy as np
    >>> from sparsestat.privacy import audit_scores
    >>> rng = np.random.default_rng(0)
    >>> noise = rng.laplace(size=(2, 50_000))  # sensitivity 1, scale 1: epsilon is 1
    >>> result = audit_scores(1.0 + noise[0], noise[1], claimed_epsilon=1.0)
    >>> result.refuted, bool(result.epsilon_lower_bound > 0.9)
    (False, True)
    """
    scores_a, scores_b = _as_list(scores_a, "scores_a"), _as_list(scores_b, "scores_b")
    if len(scores_a) != len(scores_b):
        raise ValueError(
            "scores_a and scores_b must have one score for each trial, got "
            f"{len(scores_a)} and {len(scores_b)}."
        )
    _, delta, level = _check_settings(len(scores_a), delta, significance_level)
    claim = _check_claim(claimed_epsilon)
    return _audit(scores_a, scores_b, categorical, claim, delta, level)


def clopper_pearson_lower(hits, n, level):
    """One-sided lower confidence bound of a probability.

    Parameters
    ----------
    hits : int or ndarray
        Number of successes.
    n : int
        Number of trials.
    level : float
        Probability with which the bound may exceed the truth.

    Returns
    -------
    bound : ndarray
        The probability under which `hits` or more have probability `level`.
    """
    hits = np.asarray(hits, dtype=np.float64)
    bound = betaincinv(np.maximum(hits, 0.5), n - hits + 1.0, level)
    return np.where(hits > 0, bound, 0.0)


def clopper_pearson_upper(hits, n, level):
    """One-sided upper confidence bound of a probability.

    Parameters
    ----------
    hits : int or ndarray
        Number of successes.
    n : int
        Number of trials.
    level : float
        Probability with which the truth may exceed the bound.

    Returns
    -------
    bound : ndarray
        The probability under which `hits` or fewer have probability `level`.
    """
    return 1.0 - clopper_pearson_lower(n - np.asarray(hits, dtype=np.float64), n, level)


def _log_ratio(hits_p, hits_q, n, delta, level):
    lower = clopper_pearson_lower(hits_p, n, level / 2.0) - delta
    upper = clopper_pearson_upper(hits_q, n, level / 2.0)
    with np.errstate(divide="ignore"):
        ratio = np.where(lower > 0, np.log(np.maximum(lower, 0.0)) - np.log(upper), -np.inf)
    return float(ratio) if ratio.ndim == 0 else ratio


def _audit(labels_a, labels_b, categorical, claim, delta, level):
    half = len(labels_a) // 2
    table = None
    if categorical:
        labels_a, labels_b = _as_labels(labels_a), _as_labels(labels_b)
        # Only the half that chooses the event may say how the categories are ordered.
        table = _log_frequency_ratios(labels_a[:half], labels_b[:half])
        labels_a = [table.get(label, 0.0) for label in labels_a]
        labels_b = [table.get(label, 0.0) for label in labels_b]
    a, b = _as_scores(labels_a), _as_scores(labels_b)
    threshold, direction, a_is_favoured = _choose_event(a[:half], b[:half], delta, level)
    hits_a = _count_hits(np.sort(a[half:]), threshold, direction)
    hits_b = _count_hits(np.sort(b[half:]), threshold, direction)
    n = len(a) - half
    favoured, other = (hits_a, hits_b) if a_is_favoured else (hits_b, hits_a)
    categories = None
    if table is not None:
        values = np.array(list(table.values()))
        inside = values >= threshold if direction == ">=" else values <= threshold
        categories = tuple(label for label, hit in zip(table, inside) if hit)
    return AuditResult(
        epsilon_lower_bound=max(0.0, _log_ratio(favoured, other, n, delta, level)),
        claimed_epsilon=claim,
        delta=delta,
        significance_level=level,
        n_trials=len(a),
        n_certification=n,
        threshold=float(threshold),
        direction=direction,
        favoured="record_a" if a_is_favoured else "record_b",
        counts=(int(hits_a), int(hits_b)),
        categories=categories,
    )


def _choose_event(a, b, delta, level):
    """The threshold, direction and record with the largest bound on these scores."""
    a, b = np.sort(a), np.sort(b)
    thresholds = _candidates(np.sort(np.concatenate([a, b])))
    best = (-np.inf, thresholds[0], ">=", True)
    for direction in (">=", "<="):
        hits = [_count_hits(scores, thresholds, direction) for scores in (a, b)]
        for a_is_favoured in (True, False):
            favoured, other = hits if a_is_favoured else hits[::-1]
            bounds = _log_ratio(favoured, other, len(a), delta, level)
            k = int(np.argmax(bounds))
            if bounds[k] > best[0]:
                best = (bounds[k], thresholds[k], direction, a_is_favoured)
    return best[1:]


def _candidates(pooled):
    """Distinct scores to be tried: all, or some ranks, more densely in the tails."""
    distinct = np.unique(pooled)
    if len(distinct) <= _MIDDLE_RANKS:
        return distinct
    last = len(pooled) - 1
    middle = np.linspace(0, last, _MIDDLE_RANKS)
    tail = np.geomspace(1, last / 2, _TAIL_RANKS)
    ranks = np.unique(np.concatenate([middle, tail, last - tail]).astype(np.intp))
    return np.unique(pooled[ranks])


def _count_hits(ordered, thresholds, direction):
    # numpy sorts and searches with NaN above all numbers.
    if direction == ">=":
        return len(ordered) - np.searchsorted(ordered, thresholds, side="left")
    return np.searchsorted(ordered, thresholds, side="right")


def _log_frequency_ratios(labels_a, labels_b):
    counts_a, counts_b = Counter(labels_a), Counter(labels_b)
    return {
        label: math.log((counts_a[label] + 0.5) / (counts_b[label] + 0.5))
        for label in counts_a | counts_b
    }


def _one_for_each(outputs, size):
    outputs = _as_list(outputs, "what randomize and score return")
    if len(outputs) != size:
        raise ValueError(
            f"randomize and score must return one output for each of the {size} trials of a "
            f"batch, got {len(outputs)}."
        )
    return outputs


def _as_list(values, name):
    try:
        return values.tolist() if isinstance(values, np.ndarray) else list(values)
    except TypeError as error:
        raise TypeError(
            f"{name} must be a sequence, got a {type(values).__name__}; without batch_size, "
            "randomize is asked for one output at a time."
        ) from error


def _as_labels(labels):
    for label in labels:
        if not isinstance(label, Hashable):
            raise TypeError(
                f"outputs must be hashable for categorical=True, got a {type(label).__name__}; "
                "score can turn them into labels."
            )
    # One object stands for all NaN, which are not equal to each other.
    return [math.nan if label != label else label for label in labels]


def _as_scores(values):
    try:
        array = np.asarray(values)
        if array.ndim == 1 and array.dtype.kind in "biuf":
            return array.astype(np.float64)
        if array.size == len(values) and array.dtype.kind in "biuf":
            return array.astype(np.float64).ravel()
    except ValueError:
        # Outputs of different shapes.
        array = np.empty(0, dtype=object)
    kinds = sorted({type(value).__name__ for value in values})
    raise TypeError(
        f"scores must be real numbers, got {', '.join(kinds)}: give a score that turns an "
        "output into one number, or categorical=True for labels."
    )


def _check_settings(n_trials, delta, significance_level):
    n_trials = _positive_integer(n_trials, "n_trials", 2)
    delta = _number(delta, "delta")
    if not 0 <= delta < 1:
        raise ValueError(f"delta must be in [0, 1), got {delta!r}.")
    level = _number(significance_level, "significance_level")
    if not 0 < level < 1:
        raise ValueError(f"significance_level must be in (0, 1), got {level!r}.")
    return n_trials, delta, level


def _check_claim(claimed_epsilon):
    if claimed_epsilon is None:
        return None
    claim = _number(claimed_epsilon, "claimed_epsilon")
    if not claim >= 0:
        raise ValueError(f"claimed_epsilon must be at least 0 or None, got {claim!r}.")
    return claim


def _number(value, name):
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}.")
    return float(value)


def _positive_integer(value, name, least):
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}.")
    return int(value)
