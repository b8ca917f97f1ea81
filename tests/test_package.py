"""What holds for the package as a whole: what an import costs, and what the files say."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sparsestat

ROOT = Path(__file__).parents[1]
HEAVY = {"numba", "cupy", "cvxpy", "statsmodels", "matplotlib", "networkx", "dask"}


def loaded_by(code):
    """Top-level packages that the code imports beyond what an empty process has."""

    def modules(code):
        result = subprocess.run(
            [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        return {name.partition(".")[0] for name in result.stdout.splitlines()[-1].split()}

    return modules(code) - modules("") - set(sys.stdlib_module_names)


@pytest.mark.parametrize("code", ["import sparsestat", "from sparsestat import set_config"])
def test_import_loads_the_standard_library_only(code):
    assert loaded_by(code) == {"sparsestat"}


def test_estimators_load_scikit_learn_and_nothing_heavy():
    loaded = loaded_by("from sparsestat.linear_model import Lasso")
    assert {"sklearn", "sparsestat"} <= loaded
    assert not HEAVY & loaded


@pytest.mark.parametrize("name", ["show_versions", "all_estimators", *sparsestat._SUBPACKAGES])
def test_lazy_names_load_nothing_heavy(name):
    assert not HEAVY & loaded_by(f"from sparsestat import {name}")


def test_show_versions_imports_no_dependency_that_it_lists():
    assert not HEAVY & loaded_by("import sparsestat; sparsestat.show_versions()")


def test_public_names_exist():
    assert dir(sparsestat) == sorted(sparsestat.__all__)
    for name in sparsestat.__all__:
        assert getattr(sparsestat, name) is not None
    with pytest.raises(AttributeError, match="'sparsestat' has no attribute 'nonsense'"):
        _ = sparsestat.nonsense


@pytest.mark.parametrize("name", sparsestat._SUBPACKAGES)
def test_subpackages_list_what_they_have(name):
    module = getattr(sparsestat, name)
    assert len(set(module.__all__)) == len(module.__all__)
    for public in module.__all__:
        assert not public.startswith("_")
        assert getattr(module, public) is not None


# Written in pieces, so that this file does not contain what it looks for.
UNWANTED = [
    r"(?:\.\./|/work/)" + "shared",
    r"shared/" + "(?:design|spec)",
    r"\bspec" + r" sections?\b",
    r"\bspec/" + r"\w+\.md",
    r"\bissue" + r"s? #?\d",
    r"\bsub-?" + r"agents?\b",
    r"\b(?:helper|coding) " + r"agents?\b",
    r"\bAI " + r"(?:assistant|model|generated)",
    r"\blanguage " + "model",
    r"\b(?:clau" + "de|anthro" + "pic|chat" + "gpt|copi" + r"lot)\b",
    r"\b(?:this|previous|next|our|earlier|same) " + "session",
    r"/tmp/" + r"(?:notes|v/)",
]


def tracked_files():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode != 0:
        pytest.skip("not a checkout")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_files_speak_of_the_subject_only():
    pattern = re.compile("|".join(UNWANTED), re.IGNORECASE)
    assert pattern.search("see .." + "/shared") and pattern.search("a Sub" + "agent")
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
            for number, line in enumerate(text.splitlines(), 1)
            if pattern.search(line)
        ]
    assert found == []


def test_only_one_module_imports_private_names_of_scikit_learn():
    def is_private(node):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            names = []
        return any(name.startswith("sklearn.") and "._" in name for name in names)

    offenders = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "sparsestat").rglob("*.py")
        if path.name != "_sklearn.py"
        and any(map(is_private, ast.walk(ast.parse(path.read_text()))))
    ]
    assert offenders == []


def test_files_are_short_enough_to_read():
    long = {
        str(path.relative_to(ROOT)): n_lines
        for folder in ("sparsestat", "tests")
        for path in (ROOT / folder).rglob("*.py")
        if (n_lines := len(path.read_text().splitlines())) > 650
    }
    assert long == {}
