"""Peers in environments of their own, because they need versions that we cannot live with.

Such a peer gets the data in files, runs in a process of its own and is timed inside of it, so
that neither starting an interpreter nor reading files counts.
"""

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ._environment import ROOT

FOLDER = ROOT / ".peers"
_POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_HARNESS = """
import json, pathlib, sys, time, warnings
import numpy
warnings.simplefilter("ignore")
folder, options = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
arrays = {{path.stem: numpy.load(path) for path in folder.glob("*.npy")}}
{program}
wall, cpu = time.perf_counter(), time.process_time()
result = call(arrays, options)
cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
print(json.dumps({{"result": result, "cpu": cpu, "wall": wall}}))
"""


class PeerError(RuntimeError):
    """A peer's process failed."""


class Answer(NamedTuple):
    """What a peer found, and its own times.

    Parameters
    ----------
    result : object
    cpu, wall : float
        Seconds of the call alone.
    """

    result: object
    cpu: float
    wall: float


def name_of(requirements):
    """Return the name of the environment of a line such as ``peer==1.0 other==2.0``."""
    return requirements.split()[0].partition("==")[0]


def create(requirements, folder=FOLDER):
    """Make the environment of a peer and install it there.

    Parameters
    ----------
    requirements : str
        What pip installs, separated by spaces; the first one names the environment.
    folder : path
    """
    place = Path(folder, name_of(requirements))
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
    subprocess.run(
        [str(interpreter(place.name, folder)), "-m", "pip", "install", *requirements.split()],
        check=True,
    )


def interpreter(name, folder=FOLDER):
    """Return the path of a peer's Python, whether it exists or not."""
    parts = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
    return Path(folder, name).joinpath(*parts)


def version(name, folder=FOLDER):
    """Return the version of a peer in the environment of its name, or None."""
    paths = [str(path) for path in Path(folder, name).glob("[Ll]ib/**/site-packages")]
    found = importlib.metadata.distributions(name=name, path=paths)
    return next((distribution.version for distribution in found), None)


def call(name, program, arrays, options, *, threads, folder=FOLDER):
    """Run a peer on some data.

    Parameters
    ----------
    name : str
        The environment.
    program : str
        Python source that imports the peer and defines ``call(arrays, options)``, which is
        timed and returns what JSON can hold.
    arrays : dict of ndarray
    options : dict
        What JSON can hold.
    threads : int
        Of its BLAS and OpenMP pools.

    Returns
    -------
    Answer

    Raises
    ------
    PeerError
        If the process fails.
    """
    with tempfile.TemporaryDirectory() as data:
        for key, array in arrays.items():
            np.save(Path(data, f"{key}.npy"), array)
        done = subprocess.run(
            [
                str(interpreter(name, folder)),
                "-c",
                _HARNESS.format(program=program),
                data,
                json.dumps(options),
            ],
            env={**os.environ, **dict.fromkeys(_POOLS, str(threads))},
            cwd=data,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise PeerError(f"{name}: {lines[-1]}")
    return Answer(**json.loads(done.stdout.strip().splitlines()[-1]))
