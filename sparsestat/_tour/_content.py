"""What a family tells: chapters made of paragraphs, key numbers, tables and figures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


class Skipped(Exception):
    """Raised by a step whose data are not installed; the message says how to get them."""


@dataclass(frozen=True)
class Table:
    """Rows of already formatted cells; columns other than the first are right-aligned.

    Parameters
    ----------
    caption : str
        What the table shows.
    columns : sequence of str
        Column headings.
    rows : sequence of sequence of str
        Cells.
    note : str
        A line below the table.
    highlight : int or None
        Index of the row to emphasise.
    on_screen : bool
        Whether the table is also printed in the terminal.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    highlight: int | None = None
    on_screen: bool = False


@dataclass(frozen=True)
class Figure:
    """A figure that the report draws twice, once on a light and once on a dark page.

    Parameters
    ----------
    caption : str
        What the figure shows; also its alternative text.
    draw : callable
        Takes an empty matplotlib figure and fills it.
    size : tuple of float
        Width and height in inches.
    """

    caption: str
    draw: Callable[[Any], None]
    size: tuple[float, float] = (8.0, 4.2)


@dataclass(frozen=True)
class Chapter:
    """One data set, told from the question to the answer.

    Parameters
    ----------
    title : str
        Heading.
    lead : sequence of str
        Opening paragraphs.
    numbers : sequence of (str, str)
        Key figures as (value, what it is).
    parts : sequence of Table or Figure
        Shown in this order.
    """

    title: str
    lead: Sequence[str]
    numbers: Sequence[tuple[str, str]] = ()
    parts: Sequence[Table | Figure] = field(default_factory=tuple)
