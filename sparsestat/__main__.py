"""Command line of the package: ``python -m sparsestat tour [FAMILY] [--output DIR]``."""

import argparse
import importlib.util
import sys
from pathlib import Path

from ._tour import FAMILIES, REQUIRED
from ._version import __version__


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m sparsestat", description="Tools that come with sparsestat."
    )
    parser.add_argument("--version", action="version", version=f"sparsestat {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    tour = commands.add_parser(
        "tour",
        help="fit the estimators to real data and write an HTML report",
        description="Fit the estimators to real data, show a table and write an HTML report "
        "with figures that opens offline.",
    )
    tour.add_argument(
        "family",
        nargs="?",
        choices=FAMILIES,
        metavar="FAMILY",
        help=f"show one family only ({', '.join(FAMILIES)})",
    )
    tour.add_argument(
        "--output",
        type=Path,
        default=Path("sparsestat-tour"),
        metavar="DIR",
        help="folder for the report, created if needed (default: %(default)s)",
    )
    return parser


def main(argv=None):
    """Run the command line and return its exit status."""
    options = _parser().parse_args(argv)
    missing = [name for name in REQUIRED if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"The tour needs {', '.join(missing)}, not installed here. "
            'Get it with: pip install "sparsestat[tour]"  '
            '(in a clone of the repository: pip install ".[tour]")',
            file=sys.stderr,
        )
        return 1

    from ._tour._run import run_tour

    return run_tour((options.family,) if options.family else FAMILIES, options.output)


if __name__ == "__main__":
    sys.exit(main())
