"""The compiled loops are cached, and work where nothing can be cached."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORKLOADS = sorted((Path(__file__).parent / "workloads").glob("*.py"))

REPORT = """
import json, runpy, sys
runpy.run_path(sys.argv[1])
from numba.core.dispatcher import Dispatcher
found = {}
for name, module in list(sys.modules.items()):
    if name.startswith("sparsestat") and module is not None:
        for item in list(vars(module).values()):
            if isinstance(item, Dispatcher):
                stats = item.stats
                key = f"{item.py_func.__module__}.{item.py_func.__qualname__}"
                found[key] = [sum(stats.cache_hits.values()), sum(stats.cache_misses.values())]
print(json.dumps(found))
"""


def run_python(code, *args, **environment):
    result = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", code, *args],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda path: path.stem)
def test_the_second_process_compiles_nothing(workload):
    run_python(REPORT, str(workload))
    used = {
        name: counts
        for name, counts in json.loads(run_python(REPORT, str(workload))).items()
        if any(counts)
    }
    assert used, "the workload called no compiled function"
    assert {name: misses for name, (hits, misses) in used.items() if misses} == {}


def test_the_cache_is_in_the_folder_of_the_tests():
    from sparsestat.utils._kernels import exp_inplace

    assert Path(exp_inplace.stats.cache_path).is_relative_to(os.environ["NUMBA_CACHE_DIR"])


UNCACHED = """
import warnings
from numba.core import caching
caching.CacheImpl._locator_classes = []
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from sparsestat.utils._kernels import exp_inplace, exp_rows
    import numpy as np
    x = np.linspace(-2, 2, 9)
    assert np.allclose(exp_inplace(x.copy()), np.exp(x), rtol=1e-15)
messages = [str(w.message) for w in caught if issubclass(w.category, RuntimeWarning)]
assert len(messages) == 1, messages
assert "NUMBA_CACHE_DIR" in messages[0]
assert exp_inplace.stats.cache_path is None
print("ok")
"""


def test_without_a_writable_folder_there_is_one_warning_and_no_harm():
    assert run_python(UNCACHED).strip() == "ok"


def test_other_errors_of_numba_are_not_hidden(monkeypatch):
    import numba

    from sparsestat.utils import _numba

    def broken(**options):
        raise RuntimeError("something else")

    monkeypatch.setattr(numba, "njit", broken)
    with pytest.raises(RuntimeError, match="something else"):
        _numba.jit(lambda x: x)


def test_kernels_release_the_gil_and_stay_serial():
    from sparsestat.utils._kernels import exp_inplace

    assert exp_inplace.targetoptions["nogil"] is True
    assert not exp_inplace.targetoptions.get("parallel", False)
    offenders = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "sparsestat").rglob("*.py")
        if any(word in path.read_text() for word in ("prange", "parallel=True", "jitclass"))
    ]
    assert offenders == []
