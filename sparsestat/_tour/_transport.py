"""Tour of transport: digits from another scanner, and the colours of a photograph."""

import time

import numpy as np
from scipy.ndimage import affine_transform, gaussian_filter
from sklearn.datasets import load_digits, load_sample_image
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from ..transport import (
    EntropicTransport,
    LightSchrodingerBridge,
    TransportAdapter,
    sinkhorn_points,
    transport_gap,
)
from ._content import Chapter, Figure, Skipped, Table

TITLE = "Moving one distribution onto another"

REPEATS = 3
N_COLOURS = 1000
# Every so many pixels of the photographs are shown.
STRIDE = 3
LADDER = (0.1, 0.01, 0.001)
CLASSIFIER = SVC(C=10)
MAP = EntropicTransport(epsilon=0.02, epsilon_scale="mean")


def compile_loops():
    """Solve small problems once, so that no time below contains numba's one-time compilation."""
    X = np.random.default_rng(0).uniform(size=(60, 3))
    for epsilon in LADDER:
        for lazy in (True, False):
            sinkhorn_points(X, X**2, epsilon=epsilon, epsilon_scale="mean", lazy=lazy)


def _blurred(image):
    return 0.3 + 0.5 * gaussian_filter(image, 0.7)


def _slanted(image):
    return affine_transform(image, [[1.0, 0.0], [0.4, 1.0]], offset=(0.0, -1.4), order=1)


def _shifted(image):
    return affine_transform(image, [1.0, 1.0], offset=(-0.8, -1.0), order=1)


def _negative(image):
    return 0.9 - 0.7 * image


SCANNERS = {
    "blurred": _blurred,
    "slanted": _slanted,
    "shifted": _shifted,
    "negative": _negative,
}


def scanners():
    """Read digits from a scanner of which no label is known."""
    digits = load_digits()
    images, labels = digits.images / 16, digits.target
    known, other, y_known, y_other = train_test_split(
        images, labels, train_size=600, random_state=0, stratify=labels
    )
    unlabelled, new, y_unlabelled, y_new = train_test_split(
        other, y_other, train_size=600, random_state=0, stratify=y_other
    )
    source = known.reshape(len(known), -1)
    rows, shown = [], {}
    for name, scan in SCANNERS.items():
        target, judged = (
            np.array([scan(image) for image in part]).reshape(len(part), -1)
            for part in (unlabelled, new)
        )
        started = time.perf_counter()
        adapter = TransportAdapter(CLASSIFIER, MAP, target=target).fit(source, y_known)
        spent = time.perf_counter() - started
        transport = adapter.transport_
        pipeline = make_pipeline(EntropicTransport(**transport.get_params()), CLASSIFIER)
        rows.append(
            (
                name,
                f"{CLASSIFIER.fit(source, y_known).score(judged, y_new):.3f}",
                f"{pipeline.fit(source, y_known).score(judged, y_new):.3f}",
                f"{adapter.score(judged, y_new):.3f}",
                f"{CLASSIFIER.fit(target, y_unlabelled).score(judged, y_new):.3f}",
                f"{transport.marginal_error_:.0e}",
                f"{1000 * spent:.0f}",
            )
        )
        shown[name] = transport.transform(source)
    first = next(iter(SCANNERS))
    pairs = [np.flatnonzero(y_known == digit)[0] for digit in range(10)]
    return Chapter(
        title=f"Digits: {len(known)} labels from one scanner, none from the other",
        lead=(
            "A classifier of handwritten digits was trained on images of one scanner, and is to "
            "read those of another, for which nobody has labelled anything. Optimal transport "
            "moves the labelled images onto unlabelled ones of the new scanner with as little "
            "change as possible; the classifier is trained on what comes out. Where the scanner "
            "changes images less than digits differ, that recovers most of what was lost. Where "
            "it changes them more, it cannot: a shift by one pixel or a negative is far from what "
            "it came from, and labels are carried to the wrong digits.",
            "A pipeline of the same transport and classifier is worse, because it moves the new "
            "images as well when it predicts, as if they came from the first scanner. The numbers "
            "in the third column are what one would get without noticing.",
        ),
        numbers=(
            (f"{rows[0][1]} to {rows[0][3]}", f"accuracy with adaptation ({first})"),
            (rows[0][2], "accuracy of the pipeline"),
            (rows[3][3], "accuracy after adaptation to negatives, worse than guessing"),
            (rows[0][5], "share of the mass in the wrong place (required: 1e-09)"),
        ),
        parts=(
            Table(
                caption=f"Accuracy on {len(new)} new images of the other scanner",
                columns=(
                    "Scanner",
                    "As it is",
                    "Pipeline",
                    "Adapter",
                    "Its labels",
                    "Mass off",
                    "Fit (ms)",
                ),
                rows=rows,
                note="As it is: no adaptation. Its labels: trained on labelled images of that "
                "scanner, the best that can be hoped for. Mass off: error of the plan's marginals. "
                f"{len(unlabelled)} unlabelled images; epsilon is 0.02 times the mean cost. "
                "Support vectors with scikit-learn's defaults but C = 10.",
                highlight=0,
                on_screen=True,
            ),
            Figure(
                f"Labelled images (above), and where the transport takes them ({first}, below): "
                "means over similar images of the other scanner.",
                lambda figure: _gallery(
                    figure, known[pairs], shown[first][pairs].reshape(-1, 8, 8)
                ),
                size=(8.0, 2.0),
            ),
        ),
    )


def _gallery(figure, *rows):
    axes = figure.subplots(len(rows), len(rows[0]))
    for line, images in zip(axes, rows):
        for ax, image in zip(line, images):
            ax.imshow(image, cmap="Greys", vmin=0.0, vmax=1.0)
            ax.set(xticks=[], yticks=[])


def colours():
    """Give a photograph the colours of another."""
    try:
        temple, flower = (load_sample_image(name) / 255 for name in ("china.jpg", "flower.jpg"))
    except ImportError as error:
        raise Skipped("The photographs need Pillow: pip install pillow") from error
    temple, flower = temple[::STRIDE, ::STRIDE], flower[::STRIDE, ::STRIDE]
    rng = np.random.default_rng(0)
    X, Y = (
        photograph.reshape(-1, 3)[rng.choice(photograph.size // 3, N_COLOURS, replace=False)]
        for photograph in (temple, flower)
    )
    C = ((X[:, None, :] - Y) ** 2).sum(axis=2)
    rows = []
    for share in LADDER:
        spent = []
        for _ in range(REPEATS):
            started = time.perf_counter()
            result = sinkhorn_points(X, Y, epsilon=share, epsilon_scale="mean")
            spent.append(time.perf_counter() - started)
        gap = transport_gap(C, result.plan, result.potentials)
        rows.append(
            (
                f"{share:g}",
                result.method,
                f"{result.n_iter} + {result.n_newton}",
                f"{result.marginal_error:.0e}",
                f"{gap.upper:.4f}",
                f"{gap.gap:.1e}",
                f"{1000 * np.median(spent):.0f}",
            )
        )
    started = time.perf_counter()
    transport = EntropicTransport(Y, epsilon=0.02, epsilon_scale="mean").fit(X)
    mapped = transport.transform(temple.reshape(-1, 3))
    spent = [time.perf_counter() - started]
    started = time.perf_counter()
    # The bridge's cost is half the squared distance.
    bridge = LightSchrodingerBridge(
        10, target=Y, epsilon=transport.epsilon_ / 2, tol=1e-5, random_state=0
    )
    bridged = bridge.fit(X).conditional_mean(temple.reshape(-1, 3))
    spent.append(time.perf_counter() - started)
    away = np.sqrt(np.mean(np.sum((mapped - bridged) ** 2, axis=1)))
    n_pixels = temple.size // 3
    return Chapter(
        title=f"Colours: {n_pixels:,} pixels, learned from {N_COLOURS}",
        lead=(
            "A photograph's colours are points in a cube. Moving those of one onto those of "
            "another with the least effort repaints it: what was darkest becomes the darkest of "
            "the other palette. The plan is computed for a thousand pixels of each, and the map "
            "that it implies is applied to all of them.",
            "Every plan comes with the share of its mass that is in the wrong place, recomputed "
            "from its potentials, and with a bound on how much cheaper a plan without "
            "regularisation could be. For a small regularisation, Newton's method takes over from "
            "Sinkhorn's iteration.",
        ),
        numbers=(
            (f"{spent[0]:.1f} s", f"to fit the map and repaint {n_pixels:,} pixels"),
            (f"{spent[1]:.1f} s", "the same by a light Schrödinger bridge of ten components"),
            (f"{away:.3f}", "distance of the two results (root mean square), in a cube of side 1"),
            (rows[-1][5], "bound on the distance to unregularised transport, last row"),
        ),
        parts=(
            Table(
                caption=f"{N_COLOURS} x {N_COLOURS} colours at three regularisations",
                columns=(
                    "epsilon",
                    "Method",
                    "Steps",
                    "Mass off",
                    "Cost",
                    "Bound",
                    "ms",
                ),
                rows=rows,
                note="epsilon: in mean costs. Steps: sweeps + Newton. Mass off: error of the "
                "marginals. Cost: of the plan with exact marginals. Bound: it is above the least "
                f"possible cost by at most this. Median of {REPEATS}, after compilation, one "
                "thread.",
                on_screen=True,
            ),
            Figure(
                "A temple, a flower, and the temple in the colours of the flower: by the plan's "
                "map, and by a light bridge.",
                lambda figure: _photographs(
                    figure, temple, flower, *(z.reshape(temple.shape) for z in (mapped, bridged))
                ),
                size=(8.0, 5.8),
            ),
        ),
    )


def _photographs(figure, *photographs):
    for k, (photograph, name) in enumerate(
        zip(photographs, ("source", "target", "entropic map", "light bridge"))
    ):
        ax = figure.add_subplot(2, 2, k + 1)
        ax.imshow(np.clip(photograph, 0.0, 1.0))
        ax.set(xticks=[], yticks=[], title=name)


STEPS = (
    ("Compiling the loops of transport", compile_loops),
    ("Digits from another scanner", scanners),
    ("The colours of a photograph", colours),
)
