"""Runs the steps of the chosen families, shows progress and tables, writes the report."""

import importlib
import time
import warnings

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table as RichTable

from ._content import Skipped, Table
from ._report import write_report


def run_tour(families, output, console=None):
    """Run the tour of some families.

    Parameters
    ----------
    families : sequence of str
        Names out of ``sparsestat._tour.FAMILIES``.
    output : pathlib.Path
        Folder for ``report.html``.
    console : rich.console.Console or None
        Where to print; the standard output by default.

    Returns
    -------
    int
        Exit status: 0, or 1 when the output folder cannot be written.
    """
    console = console or Console()
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        console.print(f"Cannot create the folder {output}: {error.strerror}.", markup=False)
        return 1

    started = time.perf_counter()
    modules = [importlib.import_module(f"{__package__}._{name}") for name in families]
    sections, skipped = [], []
    with _progress(console) as progress:
        n_steps = sum(len(module.STEPS) for module in modules)
        bar = progress.add_task("", total=n_steps)
        for module in modules:
            chapters = []
            for label, step in module.STEPS:
                progress.update(bar, description=label)
                try:
                    chapter = _quietly(step)
                except Skipped as reason:
                    skipped.append(f"{label}: skipped. {reason}")
                else:
                    if chapter is not None:
                        chapters.append(chapter)
                progress.advance(bar)
            sections.append((module.TITLE, chapters))
        progress.update(bar, description="Drawing the figures and writing the report")
        path = write_report(output / "report.html", sections, skipped)

    for title, chapters in sections:
        console.rule(f"[bold]{title}")
        for chapter in chapters:
            _show(console, chapter)
    for line in skipped:
        console.print(line, style="yellow", markup=False)
    console.print(
        f"Tour finished in {time.perf_counter() - started:.1f} s. Report with figures:",
        markup=False,
        highlight=False,
    )
    # A path must stay in one piece to be copied, however narrow the terminal.
    console.print(str(path.resolve()), style="bold", markup=False, highlight=False, soft_wrap=True)
    return 0


def _progress(console):
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        console=console,
    )


def _quietly(step):
    """Run a step without warnings of the baselines; our own doubts are in the certificates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return step()


def _show(console, chapter):
    console.print(f"\n[bold]{chapter.title}[/bold]")
    console.print(chapter.lead[0], markup=False, highlight=False)
    for part in chapter.parts:
        if isinstance(part, Table) and part.on_screen:
            table = RichTable(title=part.caption, title_justify="left", caption=part.note or None)
            for i, name in enumerate(part.columns):
                table.add_column(name, justify="left" if i == 0 else "right")
            for i, row in enumerate(part.rows):
                table.add_row(*row, style="bold green" if i == part.highlight else None)
            console.print(table)
