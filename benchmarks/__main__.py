"""Measure a family against its peers, install the peers, or write the pages.

python -m benchmarks FAMILY [--quick] [--repeats 5] [--threads 1] [--only PROBLEM ...]
python -m benchmarks install FAMILY
python -m benchmarks render
"""

import argparse
import datetime
import importlib
import importlib.metadata
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

from . import _environment, _peers, _report

FOLDER = Path(__file__).resolve().parent
# Peers may not move what the measurement itself stands on.
_PINNED = ("numpy", "scipy", "scikit-learn", "numba", "llvmlite")


def families():
    """Return the names of the families, each a module of this package."""
    return sorted(path.stem for path in FOLDER.glob("[!_]*.py"))


def requirements(path, family):
    """Return the requirements of a file that a family needs.

    Parameters
    ----------
    path : path
        Lines such as ``name==1.0  # family, family``; the comment ``all`` stands for every one.
    family : str

    Returns
    -------
    list of str
    """
    found = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        requirement, _, names = line.partition("#")
        if requirement.strip() and {family, "all"} & {name.strip() for name in names.split(",")}:
            found.append(requirement.strip())
    return found


def install(family):
    """Install a family's peers and leave numpy, scipy, scikit-learn and numba as they are.

    Peers that need other versions of these get environments of their own below ``.peers``.

    Parameters
    ----------
    family : str
    """
    pip = [sys.executable, "-m", "pip", "install"]
    pins = [f"{name}=={importlib.metadata.version(name)}" for name in _PINNED]
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "constraints.txt")
        constraints.write_text("\n".join(pins) + "\n", encoding="utf-8")
        plain = requirements(FOLDER / "requirements.txt", family)
        if plain:
            subprocess.run([*pip, "--constraint", str(constraints), *plain], check=True)
    alone = requirements(FOLDER / "requirements-nodeps.txt", family)
    if alone:
        subprocess.run([*pip, "--no-deps", *alone], check=True)
    for apart in requirements(FOLDER / "requirements-apart.txt", family):
        _peers.create(apart)


def measure(options, arguments):
    """Run a family's problems, print the page, and save the record unless it was a quick run.

    Parameters
    ----------
    options : argparse.Namespace
    arguments : list of str
        The command line, for the record.
    """
    # After the process has its environment: these import the numerical libraries.
    from ._figures import FigureTable, run_figures
    from ._graphs import GraphRace, IterationRace, run_graphs, run_iterations
    from ._measure import Race, run_race
    from ._startup import run_startup
    from ._tasks import TaskRace, run_tasks

    runners = {
        Race: run_race,
        GraphRace: run_graphs,
        IterationRace: run_iterations,
        TaskRace: run_tasks,
        FigureTable: run_figures,
    }

    module = importlib.import_module(f".{options.command}", __package__)
    problems = module.problems(quick=options.quick)
    keys = [problem.key for problem in problems]
    unknown = sorted(set(options.only) - set(keys))
    if unknown:
        raise SystemExit(f"no problem {', '.join(unknown)}; there are {', '.join(keys)}")
    load = _environment.load_average()
    records = []
    for problem in problems:
        if options.only and problem.key not in options.only:
            continue
        _log(f"== {problem.title}")
        # The attained accuracy is recomputed and printed, so a solver's own complaint adds nothing.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if type(problem) in runners:
                record = runners[type(problem)](
                    problem, repeats=options.repeats, threads=options.threads, log=_log
                )
            else:
                record = run_startup(problem, repeats=options.repeats, log=_log)
        records.append(record)
    distributions = [
        entry["distribution"]
        for record in records
        for entry in record.get("solvers", record.get("programs"))
    ]
    described = _environment.describe(distributions)
    apart = {name: _peers.version(name) for name in distributions}
    described["versions"].update({name: found for name, found in apart.items() if found})
    document = {
        "family": options.command,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python -m benchmarks", *arguments]),
        "load_before": load,
        **described,
        "problems": records,
    }
    print(_report.render(options.command, [document]))
    if not options.quick:
        path = _report.save(document)
        _log(f"saved {path}; `python -m benchmarks render` puts it into the pages")


def render():
    """Write the pages of all families from the records."""
    _report.PAGES.mkdir(parents=True, exist_ok=True)
    for family in families():
        page = _report.PAGES / f"{family}.md"
        page.write_text(_report.render(family, _report.load_history(family)), encoding="utf-8")
        _log(f"wrote {page}")


def _log(line):
    print(line, file=sys.stderr, flush=True)


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure sparsestat side by side with its peers."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for family in families():
        command = commands.add_parser(family, help=f"measure {family}")
        command.add_argument("--quick", action="store_true", help="small sizes, nothing is saved")
        command.add_argument("--repeats", type=int, help="interleaved repeats (default 5)")
        command.add_argument("--threads", type=int, default=1, help="threads (default 1)")
        command.add_argument("--only", nargs="+", default=[], help="keys of the problems to run")
    command = commands.add_parser("install", help="install the peers of a family")
    command.add_argument("family", choices=families())
    commands.add_parser("render", help="write docs/benchmarks from the records")
    return parser


def main(arguments):
    """Run the command line.

    Parameters
    ----------
    arguments : list of str
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command == "install":
        install(options.family)
    elif options.command == "render":
        render()
    else:
        if options.repeats is None:
            options.repeats = 2 if options.quick else 5
        if options.repeats < 1 or options.threads < 1:
            parser.error("--repeats and --threads must be at least 1")
        # Some problems set two threads of their own.
        _environment.enter_measuring_environment(arguments, max(options.threads, 2))
        measure(options, arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
