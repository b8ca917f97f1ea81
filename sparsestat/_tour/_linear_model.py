"""Tour of the sparse linear models: diabetes with cubic terms, tumours, digits out of digits."""

import time

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.linear_model import LassoCV as ReferenceLassoCV
from sklearn.linear_model import LinearRegression, LogisticRegression, LogisticRegressionCV, RidgeCV
from sklearn.metrics import log_loss
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from threadpoolctl import threadpool_info

from ..linear_model import (
    CVDisplay,
    Lasso,
    LassoCV,
    RegularizationPathDisplay,
    SparseLogisticRegressionCV,
)
from ._content import Chapter, Figure, Table

TITLE = "Sparse linear models"

TOL = 1e-6
# A path down to a thousandth would take scikit-learn a minute at this tolerance.
EPS = 1e-2
REPEATS = 3
N_COEFFICIENTS = 12
SHOWN_DIGITS = (0, 2, 3, 5, 8)
# A red that can be read on a light and on a dark page.
MISS = "#d9414e"


def compile_loops():
    """Fit once, so that no time below contains numba's one-time compilation."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((30, 8)), rng.standard_normal(30)
    LassoCV(cv=3, alphas=5).fit(X, y)
    SparseLogisticRegressionCV(cv=3, alphas=5).fit(X, y > 0)
    Lasso(alpha=0.1, fit_intercept=False, positive=True, penalty_factor=np.ones(8)).fit(X, y)


def relative_gap(X, y, coef, intercept, alpha, penalty_factor=None, positive=False):
    """Duality gap of a Lasso solution, relative to the objective at zero.

    The objective is ``||y - Xb - b0||^2 / (2n) + alpha * sum_j s_j |b_j|``.  The residual,
    shrunk until it satisfies the constraints of the dual problem, gives a lower bound
    on the smallest objective; the gap is the distance to that bound, so no other
    coefficients can be better by more.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Training data.
    y : ndarray of shape (n_samples,)
        Target.
    coef : ndarray of shape (n_features,)
        Coefficients.
    intercept : float or None
        Fitted intercept; None for a model without one.
    alpha : float
        Penalty strength.
    penalty_factor : ndarray of shape (n_features,) or None
        Positive factors ``s_j``.
    positive : bool
        Whether the coefficients were constrained to be non-negative.

    Returns
    -------
    float
        Gap divided by ``||y - mean(y)||^2 / (2n)``, or ``||y||^2 / (2n)`` without an intercept.
    """
    factor = np.ones(X.shape[1]) if penalty_factor is None else penalty_factor
    if intercept is not None:
        X, y = X - X.mean(axis=0), y - y.mean()
    n = len(y)
    residual = y - X @ coef
    correlation = X.T @ residual / n
    reach = np.max((correlation if positive else np.abs(correlation)) / factor)
    theta = residual * min(1.0, alpha / reach) if reach > 0 else residual
    primal = residual @ residual / (2 * n) + alpha * factor @ np.abs(coef)
    dual = (y @ y - (y - theta) @ (y - theta)) / (2 * n)
    return (primal - dual) / (y @ y / (2 * n))


def diabetes():
    """Ten measurements become 285 polynomial terms, with 150 patients to fit them."""
    data = load_diabetes(as_frame=True, scaled=False)
    X_train, X_test, y_train, y_test = train_test_split(
        data.data, data.target.to_numpy(), train_size=150, random_state=0
    )
    expand = make_pipeline(
        StandardScaler(), PolynomialFeatures(degree=3, include_bias=False), StandardScaler()
    ).set_output(transform="pandas")
    expand.fit(X_train)
    A, B = expand.transform(X_train), expand.transform(X_test)

    folds = KFold(5, shuffle=True, random_state=0)
    ours = LassoCV(cv=folds, eps=EPS, tol=TOL)
    # The same grid of penalties and the same folds, so that only the solvers differ.
    grid = ours.fit(A, y_train).alphas_
    peer = ReferenceLassoCV(alphas=grid, cv=folds, tol=TOL, max_iter=1_000_000)
    seconds = _in_turns((ours, peer), A, y_train)
    simple = LassoCV(cv=folds, eps=EPS, tol=TOL, selection="1se").fit(A, y_train)
    ebic = LassoCV(criterion="ebic", eps=EPS, tol=TOL).fit(A, y_train)

    plain = LinearRegression().fit(X_train, y_train)
    fitted = [
        ("Least squares (smallest norm)", LinearRegression().fit(A, y_train), None),
        ("Ridge, cross-validated", RidgeCV(np.logspace(-2, 5, 40)).fit(A, y_train), None),
        ("scikit-learn LassoCV", peer, seconds[1]),
        ("sparsestat LassoCV", ours, seconds[0]),
        ("sparsestat LassoCV, one standard error", simple, None),
        ("sparsestat LassoCV, extended BIC", ebic, None),
    ]
    measured = f"Least squares, the {X_train.shape[1]} measurements"
    rows = [(measured, f"{X_train.shape[1]}", f"{plain.score(X_test, y_test):.3f}", "", "", "")]
    for name, model, spent in fitted:
        lasso = isinstance(model, (LassoCV, ReferenceLassoCV))
        gap = _gap_of(model, A, y_train) if lasso else 0.0
        rows.append(
            (
                name,
                f"{np.count_nonzero(model.coef_)}",
                f"{model.score(B, y_test):.3f}",
                f"{model.alpha_:.3g}" if lasso else "",
                f"{max(gap, 0.0):.1e}" if lasso else "",
                "" if spent is None else f"{1000 * spent:.0f}",
            )
        )
    models = Table(
        caption=f"Models on {len(y_test)} patients that were not used for fitting",
        columns=("Model", "Terms", "Test R2", "alpha", "Relative gap", "Fit (ms)"),
        rows=rows,
        note="Relative gap: the objective is above its minimum by at most this fraction of its "
        "value at zero coefficients. "
        f"Same {len(grid)} penalties, folds and tolerance ({TOL:g}) for both LassoCV; gaps "
        f"recomputed by one function; median of {REPEATS} fits in turns, after compilation, "
        f"folds one after the other (n_jobs=None); BLAS: one thread in sparsestat, {_threads()} in "
        "scikit-learn.",
        highlight=4,
        on_screen=True,
    )
    difference = np.max(np.abs(ours.mse_path_.mean(axis=1) / peer.mse_path_.mean(axis=1) - 1))
    return Chapter(
        title=f"Diabetes: {A.shape[1]} terms, {A.shape[0]} patients",
        lead=(
            "Which measurements at baseline tell how far diabetes has progressed a year later? "
            f"Ten measurements and all their products up to degree three give {A.shape[1]} "
            f"standardised terms, more than the {A.shape[0]} patients used for fitting: least "
            "squares reproduces the training data and fails on new patients, the Lasso keeps a "
            "few terms.",
            "The obvious baseline is least squares on the ten measurements themselves. It reaches "
            f"an R2 of {plain.score(X_test, y_test):.3f} on the same new patients, against "
            f"{ours.score(B, y_test):.3f}: that difference is small, and on other random splits it "
            "often has the other sign. What the Lasso shows here is that it finds its way among "
            "more terms than patients, not that these data need cubic terms.",
            "The duality gap certifies each solution: it bounds how far the objective can be from "
            "its minimum, whatever algorithm was used.",
        ),
        numbers=(
            (f"{np.count_nonzero(ours.coef_)} of {A.shape[1]}", "terms kept by cross-validation"),
            (f"{ours.score(B, y_test):.3f}", "R2 on new patients"),
            (
                f"{fitted[0][1].score(B, y_test):.1f}",
                f"R2 of least squares on all {A.shape[1]} terms",
            ),
            (rows[4][4], f"relative duality gap (required: {TOL:.0e})"),
            (f"{difference:.0e}", "largest relative difference to scikit-learn's CV curve"),
        ),
        parts=(
            models,
            *_path_figures(
                ours,
                "Cross-validated error along the same path, with its standard error over folds.",
            ),
            _coefficients(ours, simple),
        ),
    )


def _gap_of(model, X, y):
    return relative_gap(X.to_numpy(), y, model.coef_, model.intercept_, model.alpha_)


def _path_figures(search, caption):
    """The coefficients and the errors of a search along its path."""
    return (
        Figure(
            "Every coefficient from the strongest penalty (left) to the weakest.",
            lambda figure: RegularizationPathDisplay.from_estimator(
                search, ax=figure.add_subplot()
            ),
        ),
        Figure(
            caption, lambda figure: CVDisplay.from_estimator(search, ax=figure.add_subplot())
        ),
    )  # fmt: skip


def _in_turns(models, X, y, repeats=REPEATS):
    """Median seconds of fitting each model, the models taking turns."""
    spent = np.empty((repeats, len(models)))
    for repeat in range(repeats):
        for i, model in enumerate(models):
            started = time.perf_counter()
            model.fit(X, y)
            spent[repeat, i] = time.perf_counter() - started
    return np.median(spent, axis=0)


def _threads():
    """How many threads the linear algebra libraries may use, in words."""
    counts = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    number = max(counts, default=1)
    return "one thread" if number == 1 else f"up to {number} threads"


def _coefficients(chosen, simple):
    """The largest coefficients, and all terms of the simple model however small."""
    order = np.argsort(-np.abs(chosen.coef_), kind="stable")
    shown = [
        j
        for rank, j in enumerate(order)
        if simple.coef_[j] or (rank < N_COEFFICIENTS and chosen.coef_[j])
    ]
    return Table(
        caption=f"Coefficients per standard deviation of the term: the largest {N_COEFFICIENTS} of "
        f"{np.count_nonzero(chosen.coef_)}, and every term that one standard error keeps",
        columns=("Term", "Smallest CV error", "One standard error"),
        rows=[
            (
                chosen.feature_names_in_[j],
                *(f"{m.coef_[j]:+.2f}" if m.coef_[j] else "0" for m in (chosen, simple)),
            )
            for j in shown
        ],
        note="A term such as bmi bp is the product of two standardised measurements. sex takes two "
        "values only, so that sex^2 and sex^3 are the column sex again up to its sign: the "
        "minimum is certified, but not how it is divided among such columns.",
    )


def tumours():
    """Tell benign from malignant tumours by as few of 30 measurements as possible."""
    data = load_breast_cancer(as_frame=True)
    X_train, X_test, y_train, y_test = train_test_split(
        data.data, data.target_names[data.target], train_size=300, random_state=0,
        stratify=data.target,
    )  # fmt: skip
    scaler = StandardScaler().set_output(transform="pandas").fit(X_train)
    A, B = scaler.transform(X_train), scaler.transform(X_test)

    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    settings = {"alphas": 30, "eps": EPS, "tol": TOL}
    ours = SparseLogisticRegressionCV(cv=folds, **settings).fit(A, y_train)
    simple = SparseLogisticRegressionCV(cv=folds, selection="1se", **settings).fit(A, y_train)
    # scikit-learn's C is one over the sum of the losses, alpha belongs to their mean.
    strengths = 1.0 / (len(A) * ours.alphas_[::-1])
    common = {"cv": folds, "scoring": "neg_log_loss", "use_legacy_attributes": False}
    peer = LogisticRegressionCV(
        Cs=strengths, l1_ratios=(1,), solver="saga", max_iter=100_000, **common
    )
    ridge = LogisticRegressionCV(
        Cs=np.logspace(-4, 3, 20), l1_ratios=(0,), max_iter=10_000, **common
    )
    plain = LogisticRegression(C=np.inf, max_iter=10_000).fit(A, y_train)
    seconds = _in_turns((peer, ours), A, y_train, repeats=1)
    fitted = (
        ("No penalty", plain, ""),
        ("Ridge, cross-validated", ridge.fit(A, y_train), ""),
        ("scikit-learn, l1", peer, f"{1000 * seconds[0]:.0f}"),
        ("sparsestat, l1", ours, f"{1000 * seconds[1]:.0f}"),
        ("sparsestat, l1, one standard error", simple, ""),
    )
    rows = []
    for name, model, spent in fitted:
        certificate = ""
        if isinstance(model, SparseLogisticRegressionCV):
            certificate = f"{model.dual_gap_ / _loss_of_shares(y_train):.1e}"
        rows.append(
            (
                name,
                f"{np.count_nonzero(model.coef_)}",
                f"{np.mean(model.predict(B) == y_test):.3f}",
                f"{log_loss(y_test, model.predict_proba(B)):.3f}",
                certificate,
                spent,
            )
        )
    return Chapter(
        title=f"Tumours: which of {A.shape[1]} measurements",
        lead=(
            f"Is a tumour malignant? {A.shape[1]} measurements of cell nuclei separate "
            f"{len(A)} patients perfectly, so that logistic regression without a penalty claims "
            "certainty and pays for it on new patients: the logarithmic loss punishes what was "
            "claimed with certainty and is wrong.",
            "The l1 penalty keeps a few measurements. Ridge, which keeps all of them, predicts "
            "these data slightly better; the l1 penalty offers a rule that needs fewer.",
        ),
        numbers=(
            (f"{simple.support_.sum()} of {A.shape[1]}", "measurements kept by one standard error"),
            (rows[-1][2], "of new patients classified correctly with them"),
            (rows[3][4], f"relative duality gap (required: {TOL:.0e})"),
        ),
        parts=(
            Table(
                caption=f"Models on {len(y_test)} patients that were not used for fitting",
                columns=(
                    "Model",
                    "Measurements",
                    "Accuracy",
                    "Log loss",
                    "Relative gap",
                    "Fit (ms)",
                ),
                rows=rows,
                note="Relative gap: the objective is above its minimum by at most this fraction "
                f"of its value at zero coefficients. The same {len(strengths)} penalties and folds "
                "for both l1 searches, one fit each, after compilation; saga at its own tolerance "
                "of 1e-4, which is no duality gap. scikit-learn's C weighs the sum of the losses "
                "and so penalises more on a fold than on all rows; alpha weighs their mean.",
                highlight=3,
                on_screen=True,
            ),
            *_path_figures(ours, "Cross-validated logarithmic loss along the same path."),
        ),
    )


def _loss_of_shares(y):
    """Mean logarithmic loss of the shares of the classes, the objective at zero coefficients."""
    shares = np.unique(y, return_counts=True)[1] / len(y)
    return -float(shares @ np.log(shares))


def digits():
    """Write a handwritten digit as a sparse sum of other people's digits."""
    X, labels = load_digits(return_X_y=True)
    known, new, known_labels, new_labels = train_test_split(
        X, labels, train_size=600, test_size=100, random_state=0, stratify=labels
    )
    known = known / np.linalg.norm(known, axis=1, keepdims=True)
    new = new / np.linalg.norm(new, axis=1, keepdims=True)
    dictionary = np.asfortranarray(known.T)

    alpha = 3e-3
    rows, codes, answers = [], {}, {}
    for name, near in (("All images cost the same", False), ("Distant images cost more", True)):
        weights, gaps, converged = [], [], 0
        for image in new:
            distance = np.linalg.norm(known - image, axis=1)
            factor = distance / distance.mean() if near else np.ones(len(known))
            model = Lasso(
                alpha=alpha, fit_intercept=False, positive=True, penalty_factor=factor, tol=TOL
            ).fit(dictionary, image)
            weights.append(model.coef_)
            converged += model.converged_
            gaps.append(
                relative_gap(dictionary, image, model.coef_, None, alpha, factor, positive=True)
            )
        codes[name] = np.array(weights)
        answers[name] = _nearest_class(dictionary, known_labels, new, weights)
        correct = np.sum(answers[name] == new_labels)
        rows.append(
            (
                name,
                f"{correct} of {len(new)}",
                f"{np.count_nonzero(weights) / len(new):.1f}",
                f"{max(gaps):.1e}",
                f"{converged} of {len(new)}",
            )
        )
    nearest = KNeighborsClassifier(n_neighbors=1).fit(known, known_labels).predict(new)
    rows.append(
        ("Nearest image alone", f"{np.sum(nearest == new_labels)} of {len(new)}", "1.0", "", "")
    )
    near_codes = codes["Distant images cost more"]
    read = answers["Distant images cost more"]
    shown = [int(np.flatnonzero(new_labels == digit)[0]) for digit in SHOWN_DIGITS]
    return Chapter(
        title=f"Digits: each image out of {len(known)} others",
        lead=(
            "Can a handwritten digit be read off the few images that add up to it? Each of "
            f"{len(new)} new images (64 pixels) is a regression on {len(known)} known images with "
            "positive coefficients; the digit whose images leave the smallest residual is the "
            "answer. Penalty factors that grow with distance give the same answers with fewer "
            "images.",
        ),
        numbers=(
            (rows[1][1], "images read correctly"),
            (rows[1][2], f"known images used on average, out of {len(known)}"),
            (rows[1][3], f"largest relative duality gap (required: {TOL:.0e})"),
        ),
        parts=(
            Table(
                caption=f"{len(new)} fits each, alpha = {alpha:g}, positive coefficients",
                columns=("Method", "Correct", "Images used", "Largest gap", "Converged"),
                rows=rows,
                note="Reading the label of the nearest known image is the comparison to beat.",
                on_screen=True,
            ),
            Figure(
                "Five new images, their sparse reconstruction with the digit read off and, in "
                "brackets, the true one, and the four known images with the largest coefficients. "
                "Above each: its digit and its coefficient. "
                + _misses(read[shown], new_labels[shown]),
                lambda figure: _draw_digits(
                    figure,
                    new[shown],
                    (read[shown], new_labels[shown]),
                    (dictionary, known_labels),
                    near_codes[shown],
                ),
                size=(7.0, 6.6),
            ),
        ),
    )


def _nearest_class(dictionary, labels, images, weights):
    classes = np.unique(labels)
    residuals = np.stack(
        [
            np.linalg.norm(
                images - np.asarray(weights)[:, labels == c] @ dictionary[:, labels == c].T, axis=1
            )
            for c in classes
        ]
    )
    return classes[residuals.argmin(axis=0)]


def _misses(read, true):
    wrong = [f"a {t} read as {r}" for r, t in zip(read, true) if r != t]
    return f"Misread, in red: {', '.join(wrong)}." if wrong else "All five are read correctly."


def _draw_digits(figure, images, answers, known, codes, n_parts=4):
    dictionary, labels = known
    axes = figure.subplots(len(images), 2 + n_parts)
    brightest = max(images.max(), dictionary.max())
    for row, image, read, true, code in zip(axes, images, *answers, codes):
        top = np.argsort(-code, kind="stable")[:n_parts]
        panels = [(image, "new image"), (dictionary @ code, f"read as {read} (is {true})")]
        panels += [(dictionary[:, j], f"{labels[j]}: {code[j]:.2f}") for j in top if code[j] > 0]
        for ax in row[len(panels) :]:
            ax.set_axis_off()
        for ax, (pixels, title) in zip(row, panels):
            ax.imshow(pixels.reshape(8, 8), vmin=0.0, vmax=brightest)
            ax.set_title(title, fontsize=9, fontweight="normal")
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(True)
        if read != true:
            row[1].title.set(color=MISS, fontweight="bold")


STEPS = (
    ("Compiling the loops (once per installation)", compile_loops),
    ("Diabetes with cubic terms", diabetes),
    ("Tumours by few measurements", tumours),
    ("Digits out of digits", digits),
)
