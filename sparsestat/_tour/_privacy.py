"""Tour of local differential privacy: a regression of delays that no flight is shown to."""

import time

import numpy as np
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import train_test_split

from ..datasets import load_flights, make_sparse_regression
from ..privacy import (
    LabelLDPRegressor,
    LDPConfig,
    LDPIHTRegressor,
    LDPSparseRegressor,
    MomentAggregator,
    Randomizer,
    audit_randomizer,
    plan_ldp,
)
from ._content import Chapter, Figure, Skipped, Table

TITLE = "Regression without seeing anyone's data"

EPSILONS = (0.5, 1.0, 2.0)
N_CAMPAIGNS = 3
N_TRIALS = 3000
# The largest coefficient is near one: who leaves an hour late arrives about an hour late.
COEF_BOUND = 1.5
LOCAL = ("One message", "Six rounds, two features", "Only the delay is private")


def compile_loops():
    """Fit once, so that no time below contains numba's one-time compilation."""
    data = make_sparse_regression(100, 4, 2, random_state=0)
    LDPSparseRegressor().fit(data.data, data.target)
    LDPIHTRegressor().fit(data.data, data.target)


def flights():
    """Delays of flights, from one bit about each of them."""
    try:
        bunch = load_flights()
    except FileNotFoundError as error:
        raise Skipped(str(error)) from error
    X_train, X_test, y_train, y_test = train_test_split(
        bunch.data, bunch.target, test_size=0.1, random_state=0
    )
    target = {"y_center": bunch.y_center, "y_scale": bunch.y_scale}
    units = {
        "feature_center": bunch.feature_center,
        "feature_scale": bunch.feature_scale,
        "fit_intercept": True,
        "coef_bound": COEF_BOUND,
        **target,
    }
    models = dict(
        zip(
            LOCAL,
            (
                LDPSparseRegressor(**units),
                LDPIHTRegressor(n_nonzero=2, n_rounds=6, **units),
                LabelLDPRegressor(**target),
            ),
        )
    )
    least_squares = LinearRegression().fit(X_train, y_train)
    reference = least_squares.score(X_test, y_test)

    scores, slopes, rows = {}, {}, []
    delay = bunch.feature_names.index("dep_delay")
    for name, model in models.items():
        spent = []
        # Scores of the last method hardly depend on the coins.
        n_campaigns = N_CAMPAIGNS if name != LOCAL[2] else 1
        for epsilon in EPSILONS:
            fits = []
            for seed in range(n_campaigns):
                one = clone(model).set_params(epsilon=epsilon, random_state=seed)
                started = time.perf_counter()
                fits.append(one.fit(X_train, y_train))
                spent.append(time.perf_counter() - started)
            scores[name, epsilon] = [fit.score(X_test, y_test) for fit in fits]
            slopes[name, epsilon] = (fits[0].coef_[delay], fits[0].coef_std_error_[delay])
        slope, error = slopes[name, 1.0]
        rows.append(
            (
                name,
                *(f"{np.median(scores[name, epsilon]):.3f}" for epsilon in EPSILONS),
                f"{slope:.2f} ± {2 * error:.2f}",
                f"{np.median(spent):.2f}",
            )
        )
    rows.append(
        (
            "Least squares, raw records",
            *[f"{reference:.3f}"] * len(EPSILONS),
            f"{least_squares.coef_[delay]:.2f}",
            "",
        )
    )
    config = LDPConfig("moments", bunch.data.shape[1], fit_intercept=True)
    return Chapter(
        title=f"Flights: {len(y_train):,} users, {bunch.data.shape[1]} features, a bit each",
        lead=(
            "Pretend that each flight is known to one traveller only, who trusts nobody. Each of "
            "them sends the server one bit, the toss of a coin whose bias depends on the flight "
            "so little that either side's probability changes by a factor of e at most (epsilon "
            "= 1). From the bits alone the server learns that a plane which leaves a minute later "
            "arrives about a minute later, and predicts the delay nearly as well as least squares "
            "on the raw records.",
            "The price is the number of users, and it is known beforehand: the noise is made by "
            "the clients, and its size does not depend on the records. Asking once is simplest, "
            "asking in rounds needs fewer users, and where the features may be public, as "
            "timetables are, privacy for the delay alone costs little.",
        ),
        numbers=(
            (rows[1][2], f"R2 at epsilon = 1, six rounds ({reference:.3f} without privacy)"),
            (f"{config.report_size} bytes", "sent by each user, of which one bit is private"),
            (f"{8 * config.dim / 1000:.1f} kB", "state of the server, for any number of users"),
        ),
        parts=(
            Table(
                caption="R2 on test flights",
                columns=(
                    "Method",
                    *(f"epsilon {epsilon:g}" for epsilon in EPSILONS),
                    "Departure delay",
                    "Campaign (s)",
                ),
                rows=rows,
                note=f"Medians of {N_CAMPAIGNS} campaigns that differ in their coins (one if only "
                "the delay is private). Departure delay: minutes on arrival for a minute on "
                "departure, with two standard errors from the known noise, at epsilon = 1. "
                "Campaign: simulation of all users and the server. The test records are not "
                "protected.",
                highlight=1,
                on_screen=True,
            ),
            Figure(
                "R2 on test flights against epsilon: medians and ranges. The dashed line is least "
                "squares on the raw records.",
                lambda figure: _draw_scores(figure, scores, reference),
                size=(8.0, 3.8),
            ),
        ),
    )


def bill():
    """How many users a campaign needs, and whether the client keeps its promise."""
    features = (5, 10, 20, 50, 100)
    once, rounds = (
        plan_ldp([[d] for d in features], 3, epsilon=EPSILONS, target_error=0.2, kind=kind).n_users
        for kind in ("moments", "gradient")
    )
    rows = [
        (f"{d}", *(f"{_rounded(n):,}" for n in (*once[i], *rounds[i])))
        for i, d in enumerate(features)
    ]
    audit = _audit()
    return Chapter(
        title="The bill, and an audit",
        lead=(
            "Local privacy is for few features and many users: the dimension is paid for by a "
            "power, not by a logarithm. The table says how many users find three coefficients of "
            "length one in all within 0.2.",
            "The second number is what an attacker can prove about the client from outside, by "
            "running it on the two records that differ most. It must not exceed the epsilon that "
            "the client claims. An audit can refute a claim and never proves one; the proof is in "
            "the user guide.",
        ),
        numbers=(
            (rows[1][2], "users for 10 features at epsilon = 1"),
            (
                f"{audit.epsilon_lower_bound:.2f}",
                f"epsilon that {N_TRIALS} runs certify (claimed: {audit.claimed_epsilon:g})",
            ),
        ),
        parts=(
            Table(
                caption="Users that are needed",
                columns=(
                    "Features",
                    *(f"once, eps {epsilon:g}" for epsilon in EPSILONS),
                    *(f"rounds, eps {epsilon:g}" for epsilon in EPSILONS),
                ),
                rows=rows,
                note="Standardised, weakly correlated features. Once: one message from each user. "
                "Rounds: four, each user answers in one.",
                on_screen=True,
            ),
        ),
    )


def _audit():
    config = LDPConfig("label", n_features=1, epsilon=1.0, campaign_id="tour")

    def randomize(number):
        return Randomizer(config).randomize(None, number)

    def decoded(report):
        return MomentAggregator(config).add(report).moments().b[0]

    return audit_randomizer(
        randomize,
        config.y_bound,
        -config.y_bound,
        n_trials=N_TRIALS,
        score=decoded,
        claimed_epsilon=config.epsilon,
        # So small that an audit of an honest client hardly ever exceeds its epsilon.
        significance_level=0.001,
        random_state=0,
    )


def _rounded(n):
    return int(float(f"{n:.2g}"))


def _draw_scores(figure, scores, reference):
    ax = figure.add_subplot()
    for name in LOCAL:
        values = np.array([scores[name, epsilon] for epsilon in EPSILONS])
        (line,) = ax.plot(EPSILONS, np.median(values, axis=1), "o-", label=name)
        ax.fill_between(
            EPSILONS, values.min(axis=1), values.max(axis=1), color=line.get_color(), alpha=0.2
        )
    ax.axhline(reference, color=ax.xaxis.label.get_color(), lw=1.0, ls="--")
    ax.set(
        xscale="log",
        xticks=EPSILONS,
        xticklabels=[f"{epsilon:g}" for epsilon in EPSILONS],
        xlabel="epsilon",
        ylabel="R2 on test flights",
        ylim=(0.0, 0.9),
    )
    ax.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    ax.legend(loc="lower right")


STEPS = (
    ("Compiling the loops of private regression", compile_loops),
    ("Flights, one bit each", flights),
    ("The bill, and an audit", bill),
)
