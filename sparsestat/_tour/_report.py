"""The HTML report: one file that needs no network, light or dark as the reader's system is."""

import base64
import html
import io
from importlib import metadata
from importlib.resources import files
from typing import Any

from .._version import __version__
from ._content import Figure, Table

_INK = {"light": "#1f2733", "dark": "#e4e8ee"}
_MUTED = {"light": "#68727f", "dark": "#98a2b0"}
_GRID = {"light": "#dde2e8", "dark": "#38414e"}
_CYCLE = {
    "light": [
        "#0b6e99",
        "#d1495b",
        "#3a8a5f",
        "#c77d0a",
        "#7356b8",
        "#5b6573",
        "#1aa6a6",
        "#9a3c8f",
    ],
    "dark": [
        "#5cc0ea",
        "#ff8a97",
        "#74cf9f",
        "#f3b552",
        "#b9a3f5",
        "#b4bdc9",
        "#5fd9d9",
        "#e39ad9",
    ],
}


def write_report(path, sections, skipped=()):
    """Write the report.

    Parameters
    ----------
    path : pathlib.Path
        The file to write.
    sections : sequence of (str, sequence of Chapter)
        Title and chapters of each family.
    skipped : sequence of str
        One line for each step that could not run.

    Returns
    -------
    pathlib.Path
        ``path``.
    """
    chapters = [chapter for _, group in sections for chapter in group]
    contents = "".join(
        f'<li><a href="#chapter-{i}">{_text(chapter.title)}</a></li>'
        for i, chapter in enumerate(chapters)
    )
    body, number = [], 0
    for title, group in sections:
        body.append(f'<p class="family">{_text(title)}</p>')
        for chapter in group:
            body.append(_chapter(chapter, number))
            number += 1
    body += [f'<p class="skipped">{_text(line)}</p>' for line in skipped]
    style = files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    page = _PAGE.format(
        style=style, version=__version__, contents=contents, body="\n".join(body), foot=_versions()
    )
    path.write_text(page, encoding="utf-8")
    return path


def _text(value):
    return html.escape(str(value))


def _chapter(chapter, number):
    pieces = [f'<section id="chapter-{number}">', f"<h2>{_text(chapter.title)}</h2>"]
    pieces += [f"<p>{_text(paragraph)}</p>" for paragraph in chapter.lead]
    if chapter.numbers:
        tiles = "".join(
            f"<div><b>{_text(value)}</b><span>{_text(meaning)}</span></div>"
            for value, meaning in chapter.numbers
        )
        pieces.append(f'<div class="numbers">{tiles}</div>')
    for part in chapter.parts:
        pieces.append(_table(part) if isinstance(part, Table) else _figure(part))
    return "\n".join([*pieces, "</section>"])


def _table(table: Table):
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name in table.columns)
    rows = []
    for i, row in enumerate(table.rows):
        mark = ' class="best"' if i == table.highlight else ""
        cells = "".join(f"<td>{_text(cell)}</td>" for cell in row[1:])
        rows.append(f'<tr{mark}><th scope="row">{_text(row[0])}</th>{cells}</tr>')
    note = f'<p class="note">{_text(table.note)}</p>' if table.note else ""
    return (
        f'<div class="table"><table><caption>{_text(table.caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>{note}"
    )


def _figure(figure: Figure):
    light, dark = (_png(figure, mode) for mode in ("light", "dark"))
    return (
        f'<figure><picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{_text(figure.caption)}"></picture>'
        f"<figcaption>{_text(figure.caption)}</figcaption></figure>"
    )


def _png(figure: Figure, mode):
    """Draw a figure with transparent ground and return it as a data URL."""
    import matplotlib
    from cycler import cycler
    from matplotlib.figure import Figure as Canvas

    settings: Any = {
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.facecolor": "none",
        "text.color": _INK[mode],
        "axes.labelcolor": _INK[mode],
        "axes.titlecolor": _INK[mode],
        "axes.edgecolor": _MUTED[mode],
        "xtick.color": _MUTED[mode],
        "ytick.color": _MUTED[mode],
        "grid.color": _GRID[mode],
        "lines.color": _CYCLE[mode][0],
        "image.cmap": {"light": "gray_r", "dark": "gray"}[mode],
        "axes.prop_cycle": cycler(color=_CYCLE[mode]),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "font.size": 10,
        "legend.frameon": False,
        "legend.labelcolor": _INK[mode],
    }
    with matplotlib.rc_context():
        # The report looks the same whatever the user's own settings are.
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(settings)
        canvas = Canvas(figsize=figure.size, layout="constrained")
        figure.draw(canvas)
        if mode == "dark":
            _invert_greys(canvas)
        buffer = io.BytesIO()
        canvas.savefig(buffer, format="png", dpi=144)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _invert_greys(canvas):
    """Turn the fixed greys in which Displays draw auxiliary lines into greys for dark ground."""
    from matplotlib.colors import to_rgb
    from matplotlib.lines import Line2D

    for line in canvas.findobj(Line2D):
        red, green, blue = to_rgb(line.get_color())
        if red == green == blue:
            line.set_color((1.0 - red,) * 3)


def _versions():
    names = ("numpy", "scipy", "scikit-learn", "numba")
    return ", ".join(f"{name} {metadata.version(name)}" for name in names)


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>sparsestat tour</title>
<style>
{style}
</style>
</head>
<body>
<header>
<p class="brand">sparsestat {version}</p>
<h1>A tour on real data</h1>
<p>Every number on this page was computed on this machine by
<code>python -m sparsestat tour</code>; the data come with the packages that it installs.</p>
<nav><ol>{contents}</ol></nav>
</header>
<main>
{body}
</main>
<footer>Computed with {foot}.</footer>
</body>
</html>
"""
