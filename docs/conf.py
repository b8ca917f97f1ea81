"""Sphinx configuration.  The build needs no network."""

import importlib
import inspect
import pkgutil
import re
import shutil
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))

import sparsestat  # noqa: E402

project = "sparsestat"
author = "The sparsestat developers"
project_copyright = "2026, The sparsestat developers"
version = release = sparsestat.__version__

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx-mathjax-offline",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_templates"]
default_role = "code"

html_theme = "pydata_sphinx_theme"
html_title = "sparsestat"
html_static_path = ["_static"]
html_css_files = ["sparsestat.css"]
html_show_sourcelink = False
# Pages without a tree below them use the whole width.
html_sidebars = {
    name: [] for name in ("getting_started", "choosing", "contributing", "changes", "vignettes/*")
}
html_theme_options = {
    "logo": {"text": "sparsestat"},
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
}

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# The tests execute the vignettes into this cache; without it the build executes them itself.
nb_execution_mode = "cache"
nb_execution_cache_path = str(ROOT / ".vignette_cache")
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False


def public_modules():
    """Names of the package and of its public subpackages that export something."""
    names = ["sparsestat"]
    names += sorted(
        f"sparsestat.{module.name}"
        for module in pkgutil.iter_modules(sparsestat.__path__)
        if module.ispkg and not module.name.startswith("_")
    )
    return [name for name in names if public_names(name)]


def public_names(module_name):
    """What a module exports, without its subpackages and its version."""
    module = importlib.import_module(module_name)
    return sorted(
        name
        for name in getattr(module, "__all__", ())
        if not name.startswith("__") and not inspect.ismodule(getattr(module, name))
    )


def api_page(module_name):
    """Source of the page that lists what a module exports."""
    lines = [
        module_name,
        "=" * len(module_name),
        "",
        f".. automodule:: {module_name}",
        "   :no-members:",
        "",
        f".. currentmodule:: {module_name}",
        "",
        ".. autosummary::",
        "   :toctree: members/",
        "   :nosignatures:",
        "",
    ]
    return "\n".join([*lines, *(f"   {name}" for name in public_names(module_name)), ""])


def write_sources():
    """Write the API pages and copy the vignettes, touching only files that change."""
    wanted = {f"api/generated/{name}.rst": api_page(name) for name in public_modules()}
    for path in sorted((ROOT / "vignettes").glob("*.md")):
        wanted[f"vignettes/{path.name}"] = path.read_text(encoding="utf-8")
    for folder in ("api/generated", "vignettes"):
        (DOCS / folder).mkdir(parents=True, exist_ok=True)
        for path in (DOCS / folder).iterdir():
            if path.is_file() and f"{folder}/{path.name}" not in wanted:
                path.unlink()
    # Pages of members that no longer exist would otherwise stay and be built.
    shutil.rmtree(DOCS / "api/generated/members", ignore_errors=True)
    for name, text in wanted.items():
        path = DOCS / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def skip_foreign_members(app, what, name, obj, skip, options):
    """Leave out members that a class inherits from scikit-learn, documented there."""
    if skip or what != "class":
        return None
    target = inspect.unwrap(obj.fget if isinstance(obj, property) and obj.fget else obj)
    module = getattr(target, "__module__", None) or ""
    return True if not module.startswith("sparsestat") else None


def escape_types(app, what, name, obj, options, lines):
    """Keep a shape such as ``(n_features_in_,)`` from being read as a link target."""
    for i, line in enumerate(lines):
        declaration, colon, kind = line.partition(" : ")
        if colon and re.fullmatch(r"[\w*, ]+", declaration):
            lines[i] = declaration + colon + re.sub(r"(?<=\w)_(?=\W|$)", r"\_", kind)


def escape_norms(app, what, name, obj, options, lines):
    """Keep a norm such as ``|P 1 - a|_1`` from being read as a substitution."""
    for i, line in enumerate(lines):
        if not line.startswith(">>>"):
            lines[i] = re.sub(r"(?<!`)\|([^|`]+)\|_(\d)", r"``|\1|_\2``", line)


def setup(app):
    """Hook the steps above into the build."""
    write_sources()
    app.connect("autodoc-skip-member", skip_foreign_members)
    # Before numpydoc rewrites the sections.
    app.connect("autodoc-process-docstring", escape_types, priority=100)
    app.connect("autodoc-process-docstring", escape_norms, priority=100)
