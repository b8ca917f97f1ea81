"""Every vignette runs from beginning to end without a warning.

The executed notebooks go into the cache from which the documentation is built, so
that a vignette is executed once for both.
"""

import warnings
from pathlib import Path

import pytest

import sparsestat

ROOT = Path(__file__).resolve().parents[1]
VIGNETTES = sorted((ROOT / "vignettes").glob("*.md"))
SECONDS_PER_CELL = 300

pytest.importorskip("myst_nb")


def read(path):
    """Read a notebook exactly as the documentation does, which makes the cache match."""
    from myst_nb.core.config import NbParserConfig
    from myst_nb.core.read import create_nb_reader
    from myst_parser.config.main import MdParserConfig

    text = path.read_text(encoding="utf-8")
    reader = create_nb_reader(str(path), MdParserConfig(), NbParserConfig(), text)
    return reader.read(text)


def test_there_is_a_vignette():
    assert VIGNETTES


@pytest.mark.slow
@pytest.mark.parametrize("path", VIGNETTES, ids=lambda path: path.stem)
def test_vignette_runs_without_warnings(path, monkeypatch, tmp_path):
    from jupyter_cache import get_cache
    from jupyter_cache.base import CacheBundleIn
    from nbclient import NotebookClient

    # The kernel is a process of its own, and has to load the sources that are tested here.
    monkeypatch.setenv("PYTHONPATH", str(Path(sparsestat.__file__).resolve().parents[1]))
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    notebook = read(path)
    with warnings.catch_warnings():
        # The client and its message queue warn about themselves; the kernel's own
        # warnings arrive as output and are checked below.
        warnings.simplefilter("ignore")
        NotebookClient(
            notebook,
            timeout=SECONDS_PER_CELL,
            kernel_name="python3",
            # Times in the cells' metadata would make the notebook a different one to the cache.
            record_timing=False,
            resources={"metadata": {"path": str(tmp_path)}},
        ).execute()

    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) >= 5
    figures = 0
    for cell in cells:
        for output in cell.outputs:
            complaint = output.get("text") if output.get("name") == "stderr" else None
            assert complaint is None, f"{complaint}\nfrom the cell:\n{cell.source}"
            figures += "image/png" in output.get("data", {})
    assert figures >= 1

    cache = get_cache(ROOT / ".vignette_cache")
    bundle = CacheBundleIn(notebook, str(ROOT / "docs" / "vignettes" / path.name))
    cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
    assert cache.match_cache_notebook(read(path)).pk
