"""How long a package takes to start: import and first fit, in fresh processes.

Each program runs in processes of its own. The time of the interpreter itself and of making the
data is left out. "Cold" is the first process with an empty numba cache, "warm" the following
ones with the same cache. One process before them all reads the files from the disk.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass

from ._environment import ROOT

_CHILD = """
import json, sys, time
start = time.perf_counter()
{imports}
imported = time.perf_counter() - start
import numpy
rng = numpy.random.default_rng(0)
X = numpy.asfortranarray(rng.standard_normal(({n_samples}, {n_features})))
y = X[:, :5].sum(axis=1) + rng.standard_normal({n_samples})
start = time.perf_counter()
{fit}
print(json.dumps({{"import": imported, "fit": time.perf_counter() - start}}))
"""


@dataclass(frozen=True)
class Program:
    """What a user types before the first result.

    Parameters
    ----------
    name, distribution, module : str
        As in :class:`benchmarks._measure.Solver`.
    imports, fit : str
        Python statements; `fit` finds ``X`` and ``y``.
    ours : bool
    """

    name: str
    distribution: str
    module: str
    imports: str
    fit: str
    ours: bool = False


@dataclass(frozen=True)
class Startup:
    """Import and first-fit times of some programs.

    Parameters
    ----------
    key, title, description : str
    programs : tuple of Program
    n_samples, n_features : int
        Size of the data of the first fit.
    """

    key: str
    title: str
    description: str
    programs: tuple[Program, ...]
    n_samples: int = 100
    n_features: int = 200


def run_startup(startup, *, repeats, log=lambda line: None):
    """Start every program `repeats` times cold and warm, in turns.

    Parameters
    ----------
    startup : Startup
    repeats : int
    log : callable
        Takes one line of progress.

    Returns
    -------
    dict
    """
    record = {
        "kind": "startup",
        "key": startup.key,
        "title": startup.title,
        "description": startup.description,
        "repeats": repeats,
        "sizes": {"samples": startup.n_samples, "features": startup.n_features},
        "programs": [],
    }
    running = []
    for program in startup.programs:
        entry = {
            "name": program.name,
            "distribution": program.distribution,
            "ours": program.ours,
            "status": "ok",
            "error": None,
            "cold": [],
            "warm": [],
        }
        record["programs"].append(entry)
        if importlib.util.find_spec(program.module) is None:
            entry["status"] = "not installed"
            log(f"{program.name}: not installed")
        else:
            running.append((program, entry))
    for repeat in range(-1, repeats):
        for program, entry in running:
            if entry["status"] != "ok":
                continue
            with tempfile.TemporaryDirectory() as cache:
                for temperature in ("cold", "warm"):
                    _run_once(startup, program, entry, temperature, cache, repeat >= 0, log)
    return record


def _run_once(startup, program, entry, temperature, cache, counts, log):
    child = _CHILD.format(
        imports=program.imports,
        fit=program.fit,
        n_samples=startup.n_samples,
        n_features=startup.n_features,
    )
    done = subprocess.run(
        [sys.executable, "-c", child],
        cwd=ROOT,
        env={**os.environ, "NUMBA_CACHE_DIR": cache},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        entry["status"], entry["error"] = "error", lines[-1][:300]
        log(f"{program.name}: {entry['error']}")
    elif counts:
        times = json.loads(done.stdout.strip().splitlines()[-1])
        entry[temperature].append(times)
        log(
            f"{program.name:>28} {temperature}: import {times['import']:.3f} s, "
            f"first fit {times['fit']:.3f} s"
        )
