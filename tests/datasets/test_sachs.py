"""The loader of the protein measurements, on files that the tests write."""

import sys

import networkx
import numpy as np
import pandas as pd
import pytest

from sparsestat.datasets import load_sachs

CDT = ["praf", "pmek", "plcg", "PIP2", "PIP3", "p44/42", "pakts473", "PKA", "PKC", "P38", "pjnk"]
NODES = ["raf", "mek", "plcg", "pip2", "pip3", "erk", "akt", "pka", "pkc", "p38", "jnk"]


@pytest.fixture
def values():
    return np.random.default_rng(0).lognormal(3, 1, (900, 11)).round(2)


def write(path, values, columns=CDT, **options):
    pd.DataFrame(values, columns=columns).to_csv(path, index=False, **options)
    return path


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """An installed cdt, which breaks when it is imported; returns the folder of its files."""
    package = tmp_path / "site" / "cdt"
    resources = package / "data" / "resources"
    resources.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('cdt was imported')\n")
    metadata = tmp_path / "site" / "cdt-0.6.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: cdt\nVersion: 0.6.0\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return resources


@pytest.fixture
def no_cdt(monkeypatch):
    """A path on which no cdt is installed, whatever this computer has."""
    import importlib.metadata

    find = importlib.metadata.distribution

    def distribution(name):
        if name == "cdt":
            raise importlib.metadata.PackageNotFoundError(name)
        return find(name)

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)


def test_a_file(tmp_path, values):
    path = write(tmp_path / "sachs.csv", values)
    sachs = load_sachs(path)
    assert sachs.feature_names == NODES
    np.testing.assert_array_equal(sachs.data, values[:853])
    assert sachs.frame is None and sachs.filename == str(path)
    assert "853" in sachs.DESCR
    everything = load_sachs(str(path), subset="all")
    np.testing.assert_array_equal(everything.data, values)


def test_consensus_graph(tmp_path, values):
    sachs = load_sachs(write(tmp_path / "sachs.csv", values))
    edges = {
        (NODES[cause], NODES[effect])
        for cause, effect in zip(*np.nonzero(sachs.adjacency), strict=True)
    }
    published = (
        "erk-akt pka-akt mek-erk pka-erk pka-jnk pkc-jnk pka-mek pkc-mek raf-mek pka-p38 pkc-p38 "
        "pip3-pip2 plcg-pip2 plcg-pip3 pkc-pka pka-raf pkc-raf"
    )
    assert edges == {tuple(edge.split("-")) for edge in published.split()}
    assert sachs.adjacency.shape == (11, 11) and sachs.adjacency.sum() == len(edges) == 17
    graph = networkx.from_numpy_array(sachs.adjacency, create_using=networkx.DiGraph)
    assert networkx.is_directed_acyclic_graph(graph)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_columns_in_any_order_and_case_and_between_others(tmp_path, values, separator):
    shuffled = np.random.default_rng(1).permutation(11)
    names = [(NODES if k % 2 else CDT)[k].upper() for k in shuffled]
    table = np.c_[np.arange(900), values[:, shuffled]]
    path = write(tmp_path / "s.txt", table, ["cell", *names], sep=separator, encoding="utf-8-sig")
    np.testing.assert_array_equal(load_sachs(path).data, values[:853])


def test_data_frame(tmp_path, values):
    path = write(tmp_path / "sachs.csv", values)
    sachs = load_sachs(path, as_frame=True)
    assert sachs.frame is sachs.data
    pd.testing.assert_frame_equal(sachs.data, pd.DataFrame(values[:853], columns=NODES))


def test_file_of_an_installed_package_is_found_without_an_import(installed, values):
    path = write(installed / "cyto_full_data.csv", values)
    sachs = load_sachs()
    np.testing.assert_array_equal(sachs.data, values[:853])
    assert sachs.filename == str(path)
    assert "cdt" not in sys.modules


def test_installed_package_without_the_file(installed):
    with pytest.raises(FileNotFoundError, match=r"installed 'cdt' does not have .*cyto_full_data"):
        load_sachs()


@pytest.mark.usefixtures("no_cdt")
def test_message_says_how_to_get_the_file():
    with pytest.raises(FileNotFoundError) as raised:
        load_sachs()
    message = str(raised.value)
    assert "pip install --no-deps cdt" in message
    assert "load_sachs(path=" in message
    assert "not part of sparsestat" in message


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"path must be the file .* got '.*nowhere\.csv'"):
        load_sachs(tmp_path / "nowhere.csv")


def test_bad_files_and_arguments_are_named(tmp_path, values):
    path = tmp_path / "sachs.csv"
    write(path, values[:, 1:], CDT[1:])
    with pytest.raises(ValueError, match=r"path: .* column for 'raf', .*'praf' or 'raf'.* no col"):
        load_sachs(path)
    write(path, np.c_[values, values[:, :1]], [*CDT, "RAF"])
    with pytest.raises(ValueError, match=r"column for 'raf'.* has 2 columns"):
        load_sachs(path)
    write(path, values[:852])
    with pytest.raises(ValueError, match=r"at least 853 rows .* subset='observational', got 852"):
        load_sachs(path)
    assert load_sachs(path, subset="all").data.shape == (852, 11)
    write(path, values[:0])
    with pytest.raises(ValueError, match="at least 1 rows of data, got 0"):
        load_sachs(path, subset="all")
    path.write_text("")
    with pytest.raises(ValueError, match="must have one column for 'raf'"):
        load_sachs(path)
    for bad, message in (
        ("x", "row 3 .* must have a number for each of the 11 columns"),
        ("", "row 3 .* must have a number"),
        ("nan", "row 3 .* contains NaN or infinity"),
        ("inf", "row 3 .* contains NaN or infinity"),
    ):
        table = values.astype(object)
        table[2, 4] = bad
        write(path, table)
        with pytest.raises(ValueError, match=message):
            load_sachs(path)
    lines = write(path, values).read_text().splitlines()
    path.write_text("\n".join([*lines[:2], "1.0,2.0", *lines[2:]]))
    with pytest.raises(ValueError, match=r"row 2 .* got \['1.0', '2.0'\]"):
        load_sachs(path)
    with pytest.raises(ValueError, match="'subset' parameter of load_sachs"):
        load_sachs(path, subset="some")
    with pytest.raises(ValueError, match="'path' parameter of load_sachs"):
        load_sachs(3)


def test_the_real_file(values):
    try:
        sachs = load_sachs(subset="all")
    except FileNotFoundError:
        pytest.skip("the measurements are not on this computer")
    assert sachs.data.shape == (7466, 11)
    assert np.all(sachs.data > 0)
    np.testing.assert_array_equal(sachs.data[0, :3], [26.4, 13.2, 8.82])
