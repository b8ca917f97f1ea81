"""The process in which is measured: its environment variables, and what the record says of it."""

import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Both change which kernels OpenBLAS picks; a measurement takes those that it picks itself.
_UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
_POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def kernel_cache_folder():
    """Return a folder for numba's cache, named by every file that can enter compiled code.

    numba recompiles a function when its own file changes, but not when a function that it
    inlines from another file does.
    """
    digest = hashlib.sha256(importlib.metadata.version("numba").encode())
    package = ROOT / "sparsestat"
    for path in sorted(package.rglob("*.py")):
        source = path.read_bytes()
        if path.name == "_kernels.py" or b"jit" in source or b"numba" in source:
            digest.update(path.relative_to(package).as_posix().encode() + b"\0" + source)
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    name = f"sparsestat-benchmarks-{user}"
    return Path(tempfile.gettempdir(), name, digest.hexdigest()[:16])


def measuring_environment(environment, pool_size, cache_folder):
    """Return the environment variables under which is measured.

    Parameters
    ----------
    environment : mapping
        The present variables.
    pool_size : int
        The most threads that any measurement uses. A pool that is created smaller than that
        could not grow; every call is then limited to its own number.
    cache_folder : path
        Where numba keeps compiled loops.

    Returns
    -------
    dict
    """
    wanted = {name: value for name, value in environment.items() if name not in _UNSET}
    wanted.update(dict.fromkeys(_POOLS, str(pool_size)))
    wanted["NUMBA_CACHE_DIR"] = str(cache_folder)
    return wanted


def enter_measuring_environment(arguments, pool_size):
    """Replace this process by one with the right variables, unless it has them already.

    Libraries read them once, when they are loaded, so setting them here would be too late.
    """
    folder = kernel_cache_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    wanted = measuring_environment(os.environ, pool_size, folder)
    if wanted == dict(os.environ):
        return
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-m", "benchmarks", *arguments], wanted)


def version(distribution):
    """Return the version of an installed distribution, or None."""
    if distribution == "sparsestat":
        from sparsestat import __version__

        return __version__
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def cpu_model():
    """Return the processor's model name."""
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return " ".join(line.partition(":")[2].split())
    except OSError:
        pass
    return platform.processor() or platform.machine()


def load_average():
    """Return the load of the last minute, or None where the system does not tell.

    Others' work disturbs wall times most, where several threads share a race.
    """
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def commit():
    """Return the short hash of the commit, and whether the package differs from it."""
    short = _git("rev-parse", "--short", "HEAD")
    if short is None:
        return "nocommit", False
    return short, bool(_git("status", "--porcelain", "--", "sparsestat", "benchmarks/*.py"))


def _git(*arguments):
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def describe(distributions):
    """Return what a record says about the interpreter, the packages and the processor.

    Parameters
    ----------
    distributions : iterable of str
        The competitors' distributions.

    Returns
    -------
    dict
    """
    short, dirty = commit()
    base = ("sparsestat", "numpy", "scipy", "scikit-learn", "numba")
    return {
        "commit": short,
        "uncommitted_changes": dirty,
        "python": platform.python_version(),
        "system": platform.system(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in dict.fromkeys([*base, *distributions])},
    }
