"""What the documentation promises: commands, examples, links, completeness."""

import doctest
import importlib.util
import re
import runpy
from pathlib import Path

import numpy as np
import pytest

import sparsestat

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    *ROOT.glob("*.md"),
    *(
        path
        for path in (ROOT / "docs").rglob("*.md")
        if not {"_build", "generated", "vignettes"} & set(path.relative_to(ROOT / "docs").parts)
    ),
]


def blocks(text, language):
    """Contents of the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def conf():
    """The documentation's configuration as a module."""
    spec = importlib.util.spec_from_file_location("docs_conf", ROOT / "docs" / "conf.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_readme_begins_with_the_two_commands():
    commands = [line for block in blocks(README, "sh") for line in block.splitlines() if line]
    assert commands[:2] == [
        'pip install ".[tour]" && python -m sparsestat tour',
        'pip install ".[test]" && python -m pytest',
    ]


def test_readme_example_runs(tmp_path, capsys):
    (example,) = blocks(README, "python")
    assert len(example.strip().splitlines()) <= 12
    script = tmp_path / "example.py"
    script.write_text(example)
    names = runpy.run_path(str(script))
    score, size, gap = capsys.readouterr().out.split()
    assert float(score) > 0.3
    assert 0 < int(size) < 150
    assert 0 <= float(gap) <= names["model"][-1].tol * np.var(names["y_train"]) / 2


@pytest.mark.filterwarnings("ignore::sparsestat.dag.SortabilityWarning")
@pytest.mark.parametrize("place", [0, 1, 2])
def test_readme_session_gives_what_it_shows(place):
    sessions = blocks(README, "pycon")
    assert len(sessions) == 3
    example = doctest.DocTestParser().get_doctest(sessions[place], {}, "README.md", "README.md", 0)
    assert len(example.examples) >= 5
    results = doctest.DocTestRunner().run(example)
    assert results.failed == 0


@pytest.mark.filterwarnings("ignore::sparsestat.dag.SortabilityWarning")
@pytest.mark.parametrize("page", ["index.md", "getting_started.md"])
def test_python_blocks_of_the_first_pages_run(page):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    names = {}
    for block in blocks(text, "python"):
        exec(compile(block, page, "exec"), names)
    assert names["model"].converged_
    assert names["graph"].converged_


def test_penalty_of_the_contributing_guide_is_the_ridge_penalty():
    (block,) = blocks((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), "python")
    names = {"__name__": "example"}
    exec(compile(block, "CONTRIBUTING.md", "exec"), names)
    penalty = names["SquaredL2"](alpha=0.7)
    v, step = np.array([-1.5, 0.0, 2.0]), 0.4
    grid = np.linspace(-3, 3, 60_001)
    for start, point in zip(v, penalty.prox(v, step)):
        costs = (grid - start) ** 2 / 2 + step * np.array([0.35]) * grid**2
        assert abs(point - grid[costs.argmin()]) <= 1e-4


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page):
    # Generated pages do not exist before the documentation is built.
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_public_name_has_a_place_in_the_api(conf):
    assert {"sparsestat", "sparsestat.linear_model"} <= set(conf.public_modules())
    for module_name in conf.public_modules():
        listed = re.findall(r"^   (\w+)$", conf.api_page(module_name), flags=re.MULTILINE)
        module = importlib.import_module(module_name)
        public = {
            name
            for name in module.__all__
            if not name.startswith("__") and f"{module_name}.{name}" not in conf.public_modules()
        }
        # A subpackage without public names of its own has no page.
        public -= {name for name in public if hasattr(getattr(module, name), "__path__")}
        assert set(listed) == public


@pytest.mark.parametrize("name", [name for name, _ in sparsestat.all_estimators()])
def test_every_estimator_is_in_the_decision_table(name):
    table = (ROOT / "docs" / "choosing.md").read_text(encoding="utf-8")
    assert f"{name}`" in table, f"docs/choosing.md does not say when to use {name}"


def test_every_family_is_in_the_readme_and_has_a_page_in_the_user_guide():
    families = {cls.__module__.split(".")[1] for _, cls in sparsestat.all_estimators()}
    for family in families:
        assert f"`{family}." in README
        assert (ROOT / "docs" / "user_guide" / f"{family}.md").exists()


def test_version_is_the_same_everywhere():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"version: {sparsestat.__version__}\n" in citation
    assert re.search(r"^## (\S+)", changes, flags=re.MULTILINE).group(1) == sparsestat.__version__
